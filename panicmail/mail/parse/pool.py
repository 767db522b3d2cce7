"""The children that read mails, and what happens when one does not answer.

`ParserPool` keeps a few processes of `worker`, gives each one mail at a time, and holds a deadline that includes the
wait for a free one. A child that is late, dies, or answers something else than a report is killed; the mail gets the
byte-level reading instead, at once, and its report says so (`Report.cut_short`): it is to be read again.

A mail that reads slowly holds up no other. Who has been busy for `SLOW` counts no more, and a fresh child is started
in its place, up to `MOST` in all. A mail that finds none free waits a moment while all are quick, as in a flood of
honest mails; once one is slow it gets its byte-level reading at once, and so does whatever is behind it. Children yield
priority to the daemon and are the first to go when memory runs out (`worker`), so that six of them busy with hostile
mails cost little else.

Why not an executor of the standard library: it forks or spawns through the parent's `__main__`, hands pickles to and
fro, and when one of its processes dies it fails every other pending call. Here a child is started by `subprocess`,
with an empty environment but for the import path, without other descriptors, in a session of its own (so that a
Ctrl-C in a terminal does not reach it). It ends by itself when its stdin closes.

What can go wrong and who notices: children that cannot start at all. Then every mail gets the byte-level reading,
`reader.failed` is logged at each attempt, and attempts are spaced out up to 30 s.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import structlog

from panicmail import crashpoints
from panicmail.errors import Temporary
from panicmail.incident.classify import Attachment, Report
from panicmail.mail.parse import report_json
from panicmail.mail.parse.bytes_fallback import read_bytes
from panicmail.mail.parse.parser_process import ParserBroken, ParserProcess
from panicmail.mail.parse.parser_staff import READY, ParserStaff

_log = structlog.get_logger()

#: From so many seconds on a busy child counts no more.
SLOW = 0.3
#: A mail waits for a free child so much of its deadline at most.
_WAITS = 0.15

Answer = TypeVar("Answer")


class ParserPool:
    """A few reading children. Every method may be called from any thread."""

    def __init__(self, size: int = READY, deadline: float = 2.0, command: Sequence[str] | None = None) -> None:
        """
        Args:
            size: How many children that are not slow, from 1 to `MOST`.
            deadline: Seconds `read` may take, the wait for a free child included.
            command: What to start instead of our own child; it must speak the frames of `worker`.
        """
        self._staff = ParserStaff(size, command)
        self._deadline = deadline
        # Uploads are long and can wait; a page cannot. They never take the last child.
        self._for_parts = threading.BoundedSemaphore(max(1, self._staff.size - 1))

    def start(self) -> None:
        """Start the children and wait until they are ready, for 20 s at most; late ones join when they are."""
        self._staff.start()

    def stop(self) -> None:
        """End every child. Calls under way get their fallback."""
        self._staff.stop()

    def complete_at(self) -> float:
        """As `ParserStaff.complete_at`."""
        return self._staff.complete_at()

    def read(self, raw: bytes, mail_from: str | None = "?") -> Report:
        """Read one mail, in a child if one answers in time, else from its octets. Never raises."""
        crashpoints.point("reader")
        now = time.monotonic()
        try:
            child = self._staff.take(now + _WAITS * self._deadline, hopes=False)
            return self._read(child, raw, mail_from, now + self._deadline)
        except ParserBroken as reason:
            return read_bytes(raw, mail_from=mail_from, why=str(reason), cut_short=True)

    def read_slowly(self, raw: bytes, mail_from: str | None, seconds: float) -> Report:
        """As `read`, for a mail whose page is out: it waits up to `seconds` for a child, which then has as long."""
        try:
            child = self._staff.take(time.monotonic() + seconds, hopes=True)
            return self._read(child, raw, mail_from, time.monotonic() + seconds)
        except ParserBroken as reason:
            return read_bytes(raw, mail_from=mail_from, why=str(reason), cut_short=True)

    def _read(self, child: ParserProcess, raw: bytes, mail_from: str | None, until: float) -> Report:
        return self._ask(child, {"op": "read", "mail_from": mail_from}, raw, until, report_json.from_json)[0]

    def parts(self, raw: bytes, deadline: float = 20.0) -> list[tuple[Attachment, bytes]]:
        """The attachments of a mail with their contents; none of one that cannot be parsed.

        Raises:
            Temporary: No child answered within `deadline` seconds. A mail can be the reason: try again, not for ever.
        """
        until = time.monotonic() + deadline
        if not self._for_parts.acquire(timeout=deadline):
            raise Temporary("no reader was free for the attachments")
        try:
            child = self._staff.take(until, hopes=True)
            request = {"op": "parts", "mail_from": None}
            found, contents = self._ask(child, request, raw, until, report_json.attachments_from_json)
            return _divided(found, contents)
        except ParserBroken as reason:
            raise Temporary(f"the attachments could not be read: {reason}") from reason
        finally:
            self._for_parts.release()

    def _ask(
        self,
        child: ParserProcess,
        request: Mapping[str, object],
        raw: bytes,
        until: float,
        understand: Callable[[bytes], Answer],
    ) -> tuple[Answer, bytes]:
        """Give a mail to the child taken.

        Raises:
            ParserBroken: It is dead now.
        """
        slow_at = time.monotonic() + SLOW
        try:
            child.give(json.dumps(dict(request)).encode(), raw, until)
            if not child.answers_by(min(slow_at, until)):
                self._staff.count_no_more(child)
            document, octets = child.receive(until)
            answer = understand(document)
        except ParserBroken as reason:
            self._staff.dismiss(child, str(reason), len(raw))
            raise
        except Exception as error:  # a child that hostile octets run in may say anything, and must not be lost
            self._staff.dismiss(child, "garbage", len(raw))
            raise ParserBroken("garbage") from error
        self._staff.give_back(child)
        return answer, octets


def _divided(found: tuple[Attachment, ...], contents: bytes) -> list[tuple[Attachment, bytes]]:
    if sum(each.size for each in found) != len(contents):
        raise ParserBroken("garbage")
    at, divided = 0, []
    for each in found:
        divided.append((each, contents[at : at + each.size]))
        at += each.size
    return divided
