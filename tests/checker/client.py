"""Mail towards panicmail: reporters who write, and the queue of a mail server that brings it there.

Each mail has a name of its own, its uid, in a header field and, where it has words, in them. The queue tries a mail
at any node until its 250, as a mail server does for days; each attempt is in the history as `invoke` and then

    ok         a 250 after the dot, with its REF
    fail       a 4xx: not now
    rejected   a 5xx
    unknown    the connection was gone after the dot: it may have been taken
    nobody     no connection, or none that lasted to the dot: it was surely not taken
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
import smtplib
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from panicmail.sandbox.relay_server import Received, SandboxRelay
from tests.checker.history import History
from tests.office import PANIC, mail

HOST = "127.0.0.1"
#: The field that carries a mail's uid.
UID = re.compile(rb"(?im)^X-Checker: *(\S+)")
#: So long the queue waits for a banner or an answer before the dot, and after it, in seconds.
ANSWER_WITHIN = 8.0
ANSWER_AFTER_DOT = 25.0
WORKERS = 6


def uid_of(raw: bytes) -> str:
    """The uid of a mail; "" when it is none of the checker's."""
    found = UID.search(raw)
    return found[1].decode("ascii", "replace") if found else ""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A mail on its way."""

    uid: str
    kind: str  #: "panic", "more", "answer" or "automatic"
    process: str  #: whose it is
    raw: bytes
    mail_from: str
    to: str = PANIC
    facts: Mapping[str, Any] = field(default_factory=dict)  #: for the history


@dataclass(frozen=True)
class Outcome:
    what: str
    code: int = 0
    text: str = ""


@dataclass(order=True)
class _Queued:
    due_at: float
    number: int
    letter: Letter = field(compare=False)
    attempt: int = field(compare=False, default=1)


class Post:
    """The queue, from `start` to `stop`.

    Args:
        ports: Where each node listens.
    """

    def __init__(self, history: History, ports: Mapping[str, int], seed: int) -> None:
        self._history, self._ports, self._seed = history, dict(ports), seed
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._queue: list[_Queued] = []
        self._busy = 0
        self._cuts = 0
        self.taken = 0  #: 250s so far
        self._stopped = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(WORKERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Give up what is still queued."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(ANSWER_AFTER_DOT)

    def submit(self, letter: Letter, *, after: float = 0.0) -> None:
        self._push(_Queued(time.monotonic() + after, next(self._numbers), letter))

    def cut_next(self, count: int) -> None:
        """Reset the connection right after the dot of the next `count` mails."""
        with self._changed:
            self._cuts = count

    @property
    def waiting(self) -> int:
        """Mails without their 250."""
        with self._changed:
            return len(self._queue) + self._busy

    def _push(self, queued: _Queued) -> None:
        with self._changed:
            heapq.heappush(self._queue, queued)
            self._changed.notify()

    def _work(self) -> None:
        while (queued := self._next()) is not None:
            outcome = self._try(queued)
            if outcome.what not in ("ok", "rejected"):
                wait = self._rng(queued).uniform(0.3, 1.5)
                queued = _Queued(time.monotonic() + wait, queued.number, queued.letter, queued.attempt + 1)
                self._push(queued)
            with self._changed:
                self._busy -= 1
                self.taken += outcome.what == "ok"

    def _next(self) -> _Queued | None:
        """The next mail that is due; None at the end."""
        with self._changed:
            while not self._stopped:
                left = self._queue[0].due_at - time.monotonic() if self._queue else 1.0
                if left <= 0:
                    self._busy += 1
                    return heapq.heappop(self._queue)
                self._changed.wait(left)
        return None

    def _try(self, queued: _Queued) -> Outcome:
        letter = queued.letter
        node = self._rng(queued).choice(sorted(self._ports))
        with self._changed:
            is_cut = self._cuts > 0
            self._cuts -= is_cut
        cut = self._rng(queued).choice((0.0, 0.002, 0.02)) if is_cut else None
        self._history.add(letter.process, "invoke", uid=letter.uid, kind=letter.kind, node=node,
                          attempt=queued.attempt, sender=letter.mail_from, to=letter.to, **letter.facts)  # fmt: skip
        outcome = transmit(letter, self._ports[node], cut=cut)
        facts: dict[str, Any] = {"code": outcome.code, "text": outcome.text}
        if outcome.what == "ok":
            facts["ref"] = outcome.text.rpartition(" ")[2]
        self._history.add(letter.process, outcome.what, uid=letter.uid, node=node, **facts)
        return outcome

    def _rng(self, queued: _Queued) -> random.Random:
        return random.Random(f"{self._seed}/{queued.letter.uid}/{queued.number}/{queued.attempt}")


# -- one attempt


def transmit(letter: Letter, port: int, *, cut: float | None) -> Outcome:
    """Bring a mail to one node. `cut`: reset the connection so many seconds after the dot, whatever the answer."""
    try:
        client = smtplib.SMTP(HOST, port, local_hostname="mx.example", timeout=ANSWER_WITHIN)
    except smtplib.SMTPResponseException as refused:
        return _judged(refused.smtp_code, refused.smtp_error)
    except OSError as exc:
        return Outcome("nobody", text=type(exc).__name__)
    with closing(client):
        try:
            refusal = _to_the_data(client, letter)
        except OSError as exc:  # smtplib's errors are of this kind too
            return Outcome("nobody", text=type(exc).__name__)
        return refusal or _to_the_end(client, letter, cut=cut)


def _to_the_data(client: smtplib.SMTP, letter: Letter) -> Outcome | None:
    """None when the mail itself is wanted now."""
    for command, wanted in (
        ("EHLO mx.example", 250),
        (f"MAIL FROM:<{letter.mail_from}>", 250),
        (f"RCPT TO:<{letter.to}>", 250),
        ("DATA", 354),
    ):
        code, text = client.docmd(command)
        if code != wanted:
            return _judged(code, text)
    return None


def _to_the_end(client: smtplib.SMTP, letter: Letter, *, cut: float | None) -> Outcome:
    sock = client.sock
    assert isinstance(sock, socket.socket)
    try:
        sock.settimeout(ANSWER_AFTER_DOT)
        sock.sendall(re.sub(rb"(?m)^\.", b"..", letter.raw) + b".\r\n")
        if cut is not None:
            time.sleep(cut)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return Outcome("unknown", text="cut")
        code, text = client.getreply()
    except OSError as exc:
        return Outcome("unknown", text=type(exc).__name__)
    with suppress(OSError):
        client.putcmd("QUIT")
    return _judged(code, text)


def _judged(code: int, text: bytes | str) -> Outcome:
    words = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    what = {2: "ok", 4: "fail", 5: "rejected"}.get(code // 100, "unknown")
    return Outcome(what, code, words)


# -- who reports


class Reporters:
    """People in need: a new panic now and then, the same mail twice, and more in the thread of an older one.

    Args:
        every: Seconds from one to the next, on average.
        is_crowded: Whether so much is open that nobody writes for the moment: this is no test of speed.
    """

    def __init__(
        self, post: Post, relay: SandboxRelay, seed: int, every: float, is_crowded: Callable[[], bool]
    ) -> None:
        self._post, self._relay, self._every, self._is_crowded = post, relay, every, is_crowded
        self._rng = random.Random(f"{seed}/reporters")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._panics: list[Letter] = []
        self._numbers = itertools.count(1)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Nothing new; what is written goes its way."""
        self._stopped.set()
        self._thread.join()

    def _write(self) -> None:
        self._panic()
        while not self._stopped.wait(min(self._rng.expovariate(1 / self._every), 4 * self._every)):
            act = self._rng.choices((self._panic, self._twice, self._more), (78, 7, 15))[0]
            if not self._is_crowded():
                act()

    def _panic(self) -> None:
        """Each reporter writes once: receipts to one address are few an hour."""
        number = next(self._numbers)
        uid, sender = f"p{number:05d}", f"rita{number}@example.com"
        raw = mail(f"Report {uid}.\nMy files are .locked, Slack is gone.", sender=f"Rita Lopez <{sender}>",
                   subject=f"Panic {uid}", extra=f"X-Checker: {uid}")  # fmt: skip
        letter = Letter(uid=uid, kind="panic", process="reporter", raw=raw, mail_from=sender)
        self._panics.append(letter)
        self._post.submit(letter)

    def _twice(self) -> None:
        """A mail server that lost the answer brings the mail again, soon after or at the same moment."""
        self._panic()
        self._post.submit(self._panics[-1], after=self._rng.choice((0.0, 0.05, 0.5, 2.0)))

    def _more(self) -> None:
        about = self._rng.choice(self._panics)
        receipt = next(iter(self._relay.all(lambda got: got.to(about.mail_from))), None)
        if receipt is not None and receipt.header("Reply-To"):
            self._post.submit(self._follow_up(about, receipt))

    def _follow_up(self, about: Letter, receipt: Received) -> Letter:
        uid = f"m{next(self._numbers):05d}"
        words = self._rng.choice((f"More {uid}: the second laptop too.", "Thank you very much!"))
        raw = mail(words, sender=f"Rita Lopez <{about.mail_from}>", subject=f"Re: Panic {about.uid}",
                   in_reply_to=receipt.header("Message-ID"), extra=f"X-Checker: {uid}")  # fmt: skip
        return Letter(uid=uid, kind="more", process="reporter", raw=raw, mail_from=about.mail_from,
                      to=receipt.header("Reply-To"), facts={"about": about.uid})  # fmt: skip
