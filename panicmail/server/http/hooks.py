"""Where GitLab and PagerDuty tell what happened there.

    POST /hooks/gitlab, POST /hooks/pagerduty

    202  taken                      404  no secret is configured
    204  well, and nothing for us   413  over 1 MiB
    401  not verified               503  not now: send it again

Empty answers, and at once: what a hook asks of GitLab is done behind it. Nothing of a request is looked at before it is
verified, and a refusal says nothing but that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from panicmail.errors import StoreFailed
from panicmail.response.webhooks import WebhookResult
from panicmail.server.http.bodies import body_of
from panicmail.server.http.threadpool import RequestThreads

#: Of a POST; a comment in GitLab may be long.
MOST_OCTETS = 2**20

_STATUS = {WebhookResult.TAKEN: 202, WebhookResult.IGNORED: 204, WebhookResult.REFUSED: 401}
_log = structlog.get_logger()


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
    body = await body_of(request, MOST_OCTETS)
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
