"""The pages as HTML.

A sender's text can only be text here: everything is escaped, what could turn or hide writing is replaced, it stands in
blocks of its own labelled as the mail's, phones are told not to make links of it, and the policy sent along forbids
scripts, frames, images and anything remote.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from starlette.requests import Request

from panicmail.incident.model import State
from panicmail.incident.redact import redacted
from panicmail.mail.compose.catalogue import web_templates
from panicmail.server.http.link import ACTS, UNDO, WORDS, LinkPage, headline, recorded, second_line

#: Of a report; the whole of it is on the issue.
SHOWN_CHARACTERS = 20_000
#: Of a subject: the buttons stand below it.
SHOWN_OF_SUBJECT = 160

#: Control characters, marks that reverse the direction of writing, halves of characters (which no page can carry).
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_STATE_WORD = {State.OPEN: "clock running", State.ACKED: "clock stopped", State.RESOLVED: "closed"}


class PageRenderer:
    """Renders. The pages that are the same for everybody are made once: a stranger learns nothing from them."""

    def __init__(self) -> None:
        self._templates = web_templates("panicmail.server.http", _harmless)
        self.policy = _policy(style=self._templates.get_template("style.css").render())
        self.no_such_link = self._notice(
            "This link opens nothing.",
            "It is wrong, cut short or too old.",
            "If you were paged, the clock may still be running: reply “ack” to the mail, or open the link in the "
            "newest one.",
        )
        self.expired = self._notice(
            "This link has expired. Nothing was done.",
            "What it is about was closed more than a week ago.",
            "Something still wrong? Write a new mail to the panic address: that starts anew, and somebody is called.",
        )
        self.revoked = self._notice(
            "This link only shows. Nothing was done.",
            "It stood in a mail that its owner did not write, so others have read it.",
            "Is it yours? Open the link in the newest mail to you, or reply “ack” to the mail that paged you.",
            look_again=True,
        )
        self.unknown_word = self._notice(
            "Nothing was recorded.",
            "That is not a word this page takes.",
            f"The words are: {', '.join(WORDS)}.",
            look_again=True,
        )
        self.too_much = self._notice(
            "Nothing was recorded.", "That was far too much for one word.", "", look_again=True
        )
        self.failed = self._notice(
            "No answer. The clock may still be running.",
            "panicmail could not do this now. If you pressed a button, do not count on it.",
            "Look again, or reply “ack” to the mail that paged you, or telephone.",
            look_again=True,
        )

    def link(self, page: LinkPage, did: str) -> str:
        """The person's page. `did`: the code of what they pressed before, as the address has it, so "" or anything."""
        return self._templates.get_template("incident.html").render(
            page=page,
            state=page.state.value,
            title=f"PANIC {page.ref}: {_STATE_WORD[page.state]}",
            headline=headline(page),
            second_line=second_line(page),
            recorded=recorded(did),
            acts=[act for act in ACTS if act.word in page.acts],
            undo=UNDO,
            subject=_cut(page.subject, SHOWN_OF_SUBJECT),
            report=redacted(page.report[: 2 * SHOWN_CHARACTERS])[:SHOWN_CHARACTERS],
            is_cut=len(page.report) > SHOWN_CHARACTERS,
            phones=[(name, number, _dialled(number)) for name, number in page.phones],
            issue_url=_web_address(page.issue_url),
        )

    def _notice(self, headline: str, why: str, what_now: str, *, look_again: bool = False) -> str:
        return self._templates.get_template("notice.html").render(
            title="panicmail", state="notice", headline=headline, why=why, what_now=what_now, look_again=look_again
        )


def _policy(style: str) -> str:
    """The one inline style is named by its hash, so every page is sent with the same header."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


def _harmless(value: object) -> object:
    """For everything a template prints: what would turn or hide text is shown as �, and no token of ours is shown."""
    return _UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", redacted(value)) if type(value) is str else value


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _dialled(number: str) -> str:
    return re.sub(r"[^+0-9]", "", number)


def _web_address(url: str | None) -> str | None:
    return url if url and urlsplit(url).scheme in {"http", "https"} else None


# -- The body of a request, read no further than it may be long.


async def body_of(request: Request, most: int) -> bytes | None:
    """The body, counted while it comes; None when it is longer than `most` octets, whatever its header says."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


# -- The backend's functions in threads, each within a deadline: the event loop also receives the panics.

P = ParamSpec("P")
T = TypeVar("T")


class RequestThreads:
    """A few threads for one kind of caller, so that callers who hang up the one do not starve the other."""

    def __init__(self, name: str, *, threads: int, within: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"web-{name}")
        self._within = within

    async def ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function answers.

        Raises:
            TimeoutError: It did not within the deadline. One that had begun goes on in its thread and may still do
                what it was asked; one that had not never will.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._within):
            return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Take no more, and wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)
