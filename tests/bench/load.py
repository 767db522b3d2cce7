"""A load generator: SMTP sessions over plain sockets, all in one process beside the server and the bench.

    python -m tests.bench.load '{"port": 2525, "mails": 1000, "sessions": 50}'

It talks as smtp-source does, one command after another, waiting for each answer, and writes down when each mail's last
octet was sent and when its answer came. What it prints names its own share of a core: below 0.9 it was not what held
the server up.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPIENT = "panic@example.com"
#: Nobody waits longer for an answer, in seconds.
PATIENCE = 60.0
_LINE = b"My files are .locked, and the share of the whole team is gone as well.\r\n"

Dialogue = Generator[bytes, int, None]


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be sent."""

    port: int
    mails: int
    sessions: int = 1
    size: int = 4096  #: octets of a mail, about
    keep: bool = True  #: a session's mails go over one connection
    senders: int = 0  #: so many in turn; 0: each mail has one of its own
    source: str = "127.0.0.1"  #: the address it comes from
    tag: str = "load"  #: in each subject and sender


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one mail; both instants by time.monotonic()."""

    canary: str  #: a word of its subject that no other has
    dot_at: float  #: before the last octets were handed to the kernel
    answered_at: float
    code: int  #: 0: the connection ended without an answer

    @property
    def took(self) -> float:
        return self.answered_at - self.dot_at


@dataclass(slots=True)
class Delivered:
    """All of a run."""

    seconds: float  #: from the first connection to the last answer
    cpu: float = 0.0  #: of a core, that the generator used
    sent: list[Sent] = field(default_factory=list)  #: empty when another program sent them
    accepted: int = 0

    @property
    def rate(self) -> float:
        """Mails a second that got a 250."""
        return self.accepted / self.seconds


def message(load: Load, number: int) -> tuple[str, str, bytes]:
    """The sender, the canary and the octets of a mail, the final dot included."""
    sender = f"{load.tag}{number % load.senders if load.senders else number}@example.com"
    canary = f"{load.tag}x{number:06d}x"
    head = (
        f"From: {sender}\r\nTo: {RECIPIENT}\r\nSubject: Panic {canary}\r\nMessage-ID: <{canary}@mail.example.com>\r\n"
        "Date: Mon, 30 Nov 2026 09:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    ).encode()
    lines = max(1, (load.size - len(head)) // len(_LINE))
    return sender, canary, head + _LINE * lines + b".\r\n"


class Refused(Exception):  # noqa: N818 - as in SMTP
    """A command was not taken; the connection is of no more use."""


class Session:
    """One connection. It takes the next of the mails that are left as long as it is kept."""

    def __init__(self, load: Load, left: deque[int], sent: list[Sent]) -> None:
        self._load, self._left, self._sent = load, left, sent
        self._current: tuple[str, float] | None = None  #: canary and end of what has no answer yet
        self._read, self._unsent = b"", b""
        self.socket = self._connect()
        self._dialogue = self._talk()
        next(self._dialogue)

    def _connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self._load.port), PATIENCE, (self._load.source, 0))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        return made

    def _talk(self) -> Dialogue:
        yield from self._ask(b"", 220)
        yield from self._ask(b"EHLO client.example\r\n", 250)
        while self._left:
            sender, canary, octets = message(self._load, self._left.popleft())
            self._current = (canary, time.monotonic())
            yield from self._ask(f"MAIL FROM:<{sender}>\r\n".encode(), 250)
            yield from self._ask(f"RCPT TO:<{RECIPIENT}>\r\n".encode(), 250)
            yield from self._ask(b"DATA\r\n", 354)
            self._current = (canary, time.monotonic())
            yield from self._ask(octets, 250)
            self._note(250)
            if not self._load.keep:
                break
        yield from self._ask(b"QUIT\r\n", 221)

    def _ask(self, octets: bytes, wanted: int) -> Dialogue:
        code = yield octets
        if code != wanted:
            if self._current is None and self._left:  # refused at the door: a mail is lost to it, or it never ends
                self._current = (message(self._load, self._left.popleft())[1], time.monotonic())
            self._note(code)
            raise Refused(code)

    def _note(self, code: int) -> None:
        if self._current is not None:
            self._sent.append(Sent(self._current[0], self._current[1], time.monotonic(), code))
            self._current = None

    def go_on(self) -> bool:
        """Read or write what can be; False: the connection has ended."""
        try:
            return self._flush() if self._unsent else self._receive()
        except (StopIteration, Refused):
            self.socket.close()
        except OSError:
            self._note(0)
            self.socket.close()
        return False

    def _receive(self) -> bool:
        octets = self.socket.recv(65536)
        if not octets:
            raise ConnectionError("closed")
        self._read += octets
        if not self._read.endswith(b"\n") or self._read[self._read.rfind(b"\n", 0, -1) + 1 :][3:4] == b"-":
            return True
        code, self._read = int(self._read[:3]), b""
        self._unsent = self._dialogue.send(code)
        return self._flush()

    def _flush(self) -> bool:
        if self._current is not None and len(self._unsent) > 256:
            self._current = (self._current[0], time.monotonic())
        try:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            return True
        return True

    @property
    def waits_for(self) -> int:
        return selectors.EVENT_WRITE if self._unsent else selectors.EVENT_READ


def send(load: Load) -> Delivered:
    """Send it all from here."""
    left, sent = deque(range(load.mails)), list[Sent]()
    began, cpu = time.monotonic(), time.process_time()
    with selectors.DefaultSelector() as selector:
        for _ in range(min(load.sessions, load.mails)):
            _add(selector, Session(load, left, sent))
        while len(sent) < load.mails:
            ready = selector.select(PATIENCE)
            if not ready:
                raise TimeoutError(f"no answer within {PATIENCE:.0f} s; {len(sent)} of {load.mails} mails were sent")
            for key, _ in ready:
                selector.unregister(key.fileobj)
                if key.data.go_on():
                    _add(selector, key.data)
                elif left:
                    _add(selector, Session(load, left, sent))
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    seconds = max(each.answered_at for each in sent) - began
    accepted = sum(each.code == 250 for each in sent)
    return Delivered(seconds, (time.process_time() - cpu) / seconds, sent, accepted)


def _add(selector: selectors.BaseSelector, session: Session) -> None:
    selector.register(session.socket, session.waits_for, session)


def send_apart(load: Load) -> Delivered:
    """Send it all from a process of its own."""
    command = [sys.executable, "-m", "tests.bench.load", json.dumps(asdict(load))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr[-1000:]}")
    found = json.loads(done.stdout)
    found["sent"] = [Sent(*each) for each in found["sent"]]
    return Delivered(**found)


def main() -> None:
    delivered = send(Load(**json.loads(sys.argv[1])))
    facts = {**asdict(delivered), "sent": [list(asdict(each).values()) for each in delivered.sent]}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
