"""The routes, and what holds for all of them: headers, limits, and one constant page when something fails."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Protocol
from urllib.parse import parse_qs

import structlog
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from panicmail.errors import StoreFailed
from panicmail.incident.model import Outcome
from panicmail.response.incident_links import LinkExpired, LinkRevoked
from panicmail.response.webhooks import WebhookResult
from panicmail.server.http import metrics
from panicmail.server.http.link import WORDS, LinkPage, code
from panicmail.server.http.metrics import Exposition, Figure
from panicmail.server.http.rendering import PageRenderer, RequestThreads, body_of

#: Of a POST; a word and its name are 13.
MOST_OCTETS = 4096

_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,200}\Z")
_log = structlog.get_logger()


class Backend(Protocol):
    """What the pages stand on. Called in threads, several at a time; may wait for a database, but not for long."""

    def read_link(self, token: str) -> LinkPage | None:
        """The person's page; None when the token is not a link of ours. Changes nothing.

        Raises:
            LinkExpired: It was one.
        """

    def act(self, token: str, word: str) -> Outcome | None:
        """Do what the word says for whom the token names; None when it is not a link of ours.

        `word` is one of `link_actions.WORDS`, and perhaps not one of those the page offered: what they saw may be old.

        Raises:
            LinkExpired: It was one.
        """

    def is_alive(self) -> bool:
        """Whether its tick ticks."""

    def unready(self) -> tuple[str, ...]:
        """Why a panic could not be accepted now, a sentence each; () when it could."""

    def figures(self) -> Iterable[Figure]:
        """The numbers of this moment."""


def create_app(
    backend: Backend, hooks: TakesHooks | None = None, *, people_within: float = 10.0, machines_within: float = 5.0
) -> Starlette:
    """The application. The deadlines are for the backend's answers, in seconds. `hooks` None: none are taken."""
    pages = PageRenderer()
    people = RequestThreads("people", threads=8, within=people_within)
    machines = RequestThreads("machines", threads=3, within=machines_within)
    told = RequestThreads("hooks", threads=2, within=machines_within)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        people.close()
        machines.close()
        told.close()

    async def not_found(_: Request, __: Exception) -> Response:
        return HTMLResponse(pages.no_such_link, 404)

    async def expired(_: Request, __: Exception) -> Response:
        return HTMLResponse(pages.expired, 410)

    async def revoked(_: Request, __: Exception) -> Response:
        return HTMLResponse(pages.revoked, 403)

    app = Starlette(
        routes=[*_for_people(backend, people, pages), *_for_machines(backend, machines), *routes(hooks, told)],
        middleware=[Middleware(_Guard, pages=pages)],
        exception_handlers={404: not_found, LinkExpired: expired, LinkRevoked: revoked},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would answer with an address made of the Host header
    return app


def _for_people(backend: Backend, calls: RequestThreads, pages: PageRenderer) -> list[Route]:
    async def show(request: Request) -> Response:
        token = _token(request)
        page = await calls.ask(backend.read_link, token) if token else None
        if page is None:
            return HTMLResponse(pages.no_such_link, 404)
        return HTMLResponse(pages.link(page, request.query_params.get("did", "")))

    async def act(request: Request) -> Response:
        body = await body_of(request, MOST_OCTETS)
        if body is None:
            return HTMLResponse(pages.too_much, 413)
        word = _word(body)
        if word is None:
            return HTMLResponse(pages.unknown_word, 400)
        token = _token(request)
        outcome = await calls.ask(backend.act, token, word) if token else None
        if outcome is None:
            return HTMLResponse(pages.no_such_link, 404)
        # Relative, so that it holds behind any proxy and repeats no token.
        return Response(status_code=303, headers={"Location": f"?did={code(word, outcome)}"})

    async def board(_: Request) -> Response:
        # A challenge is owed (RFC 9110 15.5.2); of a scheme no browser knows, so that none asks for a password.
        text = "There is nothing to see here without a link. A page's mail has yours.\n"
        return PlainTextResponse(text, 401, headers={"WWW-Authenticate": "PanicmailLink"})

    return [
        Route("/i/{token}", show, methods=["GET"]),
        Route("/i/{token}", act, methods=["POST"]),
        Route("/", board, methods=["GET"]),
    ]


def _for_machines(backend: Backend, calls: RequestThreads) -> list[Route]:
    exposition = Exposition(backend.figures)

    async def healthz(_: Request) -> Response:
        try:
            alive = await calls.ask(backend.is_alive)
        except TimeoutError:
            alive = False
        return JSONResponse({"alive": alive}, 200 if alive else 503)

    async def readyz(_: Request) -> Response:
        try:
            reasons = list(await calls.ask(backend.unready))
        except TimeoutError:
            reasons = ["it does not answer in time whether it is ready"]
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def scrape(_: Request) -> Response:
        return Response(await calls.ask(exposition.text), media_type=metrics.CONTENT_TYPE)

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", scrape, methods=["GET"]),
    ]


def _token(request: Request) -> str | None:
    """The token of the path; None when it cannot be one, which spares the backend odd characters."""
    token = str(request.path_params["token"])
    return token if _TOKEN.match(token) else None


def _word(body: bytes) -> str | None:
    """The one word of the form; None when there is none, more than one, or one we do not know."""
    said = parse_qs(body.decode("ascii", "replace")).get("word", [])
    return said[0] if len(said) == 1 and said[0] in WORDS else None


class _Guard:
    """The same headers on every answer; whatever goes wrong becomes one log line and one constant page."""

    def __init__(self, app: ASGIApp, pages: PageRenderer) -> None:
        self._app = app
        self._pages = pages
        self._headers = {
            "Content-Security-Policy": pages.policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
            "X-Robots-Tag": "noindex",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception:
            _log.exception("web.failed", method=scope["method"], where=_route(scope["path"]))
            if begun:
                raise
            await HTMLResponse(self._pages.failed, 500)(scope, receive, send_with_headers)


def _route(path: str) -> str:
    """The path for the log, without the token."""
    return "/i/…" if path.startswith("/i/") else path


# -- Where GitLab and PagerDuty tell what happened there.
#
#     POST /hooks/gitlab, POST /hooks/pagerduty
#
#     202  taken                      404  no secret is configured
#     204  well, and nothing for us   413  over 1 MiB
#     401  not verified               503  not now: send it again
#
# Empty answers, and at once: what a hook asks of GitLab is done behind it. Nothing of a request is looked at before
# it is verified, and a refusal says nothing but that.

#: Of a POST; a comment in GitLab may be long.
MOST_HOOK_OCTETS = 2**20

_STATUS = {WebhookResult.TAKEN: 202, WebhookResult.IGNORED: 204, WebhookResult.REFUSED: 401}


class TakesHooks(Protocol):
    """What the routes stand on. The first is asked on the loop, the others in threads."""

    def takes(self) -> frozenset[str]: ...
    def gitlab(self, headers: Mapping[str, str], body: bytes) -> WebhookResult: ...
    def pagerduty(self, headers: Mapping[str, str], body: bytes) -> WebhookResult: ...


def routes(hooks: TakesHooks | None, calls: RequestThreads) -> list[Route]:
    """`hooks` None: there are none."""
    known = {"gitlab": hooks.gitlab, "pagerduty": hooks.pagerduty} if hooks else {}

    async def take(request: Request) -> Response:
        sender = str(request.path_params["sender"])
        if hooks is None or sender not in known or sender not in hooks.takes():
            raise HTTPException(404)
        return await _take(request, sender, known[sender], calls)

    return [Route("/hooks/{sender}", take, methods=["POST"])]


async def _take(
    request: Request, sender: str, receive: Callable[[Mapping[str, str], bytes], WebhookResult], calls: RequestThreads
) -> Response:
    body = await body_of(request, MOST_HOOK_OCTETS)
    if body is None:
        return PlainTextResponse("Too large.\n", 413)
    try:
        answer = await calls.ask(receive, request.headers, body)
    except (StoreFailed, TimeoutError) as exc:
        _log.error("hook.failed", sender=sender, reason=str(exc) or "the database did not answer in time")
        return PlainTextResponse("Not now. Send it again.\n", 503)
    if answer is WebhookResult.REFUSED:
        # A challenge is owed (RFC 9110 15.5.2).
        return PlainTextResponse("Not verified.\n", 401, headers={"WWW-Authenticate": "PanicmailHook"})
    return Response(status_code=_STATUS[answer])
