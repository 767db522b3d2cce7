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
import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

import structlog

import panicmail
from panicmail import crashpoints
from panicmail.errors import Temporary
from panicmail.incident.classify import Attachment, Report
from panicmail.mail.parse import report_json
from panicmail.mail.parse.bytes_fallback import read_bytes
from panicmail.mail.parse.worker import HEAD

_log = structlog.get_logger()

#: Children that are ready or busy for a moment only, and those there are at most, slow ones included.
READY, MOST = 2, 6
#: From so many seconds on a busy child counts no more.
SLOW = 0.3
#: A mail waits for a free child so much of its deadline at most.
_WAITS = 0.15
_STARTS_WITHIN = 20.0  #: seconds for a child to be ready; a loaded host takes its time
_LONGEST_REST = 30.0
_MOST_JSON, _MOST_OCTETS = 32 * 1024 * 1024, 512 * 1024 * 1024
_CHUNK = 256 * 1024

Answer = TypeVar("Answer")


class _Broken(Exception):  # noqa: N818 - a state of the child, handled here
    """This child cannot be used any more; the text says why, in a word."""


class ParserPool:
    """A few reading children. Every method may be called from any thread."""

    def __init__(self, size: int = READY, deadline: float = 2.0, command: Sequence[str] | None = None) -> None:
        """
        Args:
            size: How many children that are not slow, from 1 to `MOST`.
            deadline: Seconds `read` may take, the wait for a free child included.
            command: What to start instead of our own child; it must speak the frames of `worker`.
        """
        self._size = min(max(1, size), MOST)
        self._deadline = deadline
        self._command = list(command or (sys.executable, "-s", "-P", "-m", "panicmail.mail.parse.worker"))
        self._stopping = threading.Event()
        self._changed = threading.Condition()  # for all that follows
        self._alive: set[_ParserProcess] = set()  #: those that were ready once, until they are reaped
        self._free: deque[_ParserProcess] = deque()
        self._busy: set[_ParserProcess] = set()  #: for less than `SLOW`
        self._slow: set[_ParserProcess] = set()  #: busy for longer
        self._leaving: set[_ParserProcess] = set()
        self._starting: set[threading.Thread] = set()
        self._greeted: set[_ParserProcess] = set()  #: those that are being started
        self._queue: deque[object] = deque()  #: who waits for a free one, the first first
        self._complete_at = time.monotonic()
        # Uploads are long and can wait; a page cannot. They never take the last child.
        self._for_parts = threading.BoundedSemaphore(max(1, self._size - 1))

    def start(self) -> None:
        """Start the children and wait until they are ready, for 20 s at most; late ones join when they are."""
        self._fill()
        until = time.monotonic() + _STARTS_WITHIN
        for thread in self._hiring():
            thread.join(max(0.0, until - time.monotonic()))

    def stop(self) -> None:
        """End every child. Calls under way get their fallback."""
        with self._changed:
            self._stopping.set()
            alive = [*self._alive, *self._greeted]
            free = [self._free.popleft() for _ in range(len(self._free))]
            self._changed.notify_all()
        for child in alive:
            child.kill()
        for thread in self._hiring():
            thread.join(5)
        for child in free:
            self._bury(child)

    def complete_at(self) -> float:
        """When there were last as many children as there should be, in monotonic seconds. A thread that starts one
        counts as one."""
        with self._changed:
            if self._stopping.is_set() or not self._wants_one():
                self._complete_at = time.monotonic()
            return self._complete_at

    def read(self, raw: bytes, mail_from: str | None = "?") -> Report:
        """Read one mail, in a child if one answers in time, else from its octets. Never raises."""
        crashpoints.point("reader")
        now = time.monotonic()
        try:
            child = self._take(now + _WAITS * self._deadline, hopes=False)
            return self._read(child, raw, mail_from, now + self._deadline)
        except _Broken as reason:
            return read_bytes(raw, mail_from=mail_from, why=str(reason), cut_short=True)

    def read_slowly(self, raw: bytes, mail_from: str | None, seconds: float) -> Report:
        """As `read`, for a mail whose page is out: it waits up to `seconds` for a child, which then has as long."""
        try:
            child = self._take(time.monotonic() + seconds, hopes=True)
            return self._read(child, raw, mail_from, time.monotonic() + seconds)
        except _Broken as reason:
            return read_bytes(raw, mail_from=mail_from, why=str(reason), cut_short=True)

    def _read(self, child: _ParserProcess, raw: bytes, mail_from: str | None, until: float) -> Report:
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
            child = self._take(until, hopes=True)
            request = {"op": "parts", "mail_from": None}
            found, contents = self._ask(child, request, raw, until, report_json.attachments_from_json)
            return _divided(found, contents)
        except _Broken as reason:
            raise Temporary(f"the attachments could not be read: {reason}") from reason
        finally:
            self._for_parts.release()

    def _ask(
        self,
        child: _ParserProcess,
        request: Mapping[str, object],
        raw: bytes,
        until: float,
        understand: Callable[[bytes], Answer],
    ) -> tuple[Answer, bytes]:
        """Give a mail to the child taken.

        Raises:
            _Broken: It is dead now.
        """
        slow_at = time.monotonic() + SLOW
        try:
            child.give(json.dumps(dict(request)).encode(), raw, until)
            if not child.answers_by(min(slow_at, until)):
                self._count_no_more(child)
            document, octets = child.receive(until)
            answer = understand(document)
        except _Broken as reason:
            self._dismiss(child, str(reason), len(raw))
            raise
        except Exception as error:  # a child that hostile octets run in may say anything, and must not be lost
            self._dismiss(child, "garbage", len(raw))
            raise _Broken("garbage") from error
        self._give_back(child)
        return answer, octets

    # -- who is free

    def _take(self, give_up_at: float, *, hopes: bool) -> _ParserProcess:
        """A free child; who came first is first.

        Args:
            hopes: Wait even while somebody reads slowly and none is free.

        Raises:
            _Broken: None was free in time.
        """
        me = object()
        with self._changed:
            self._queue.append(me)
            try:
                while not self._stopping.is_set():
                    left = give_up_at - time.monotonic()
                    if self._free and self._queue[0] is me:
                        child = self._free.popleft()
                        if child.is_alive():
                            self._busy.add(child)
                            return child
                        self._dismiss(child, "died", 0)
                    elif left <= 0 or (self._slow and not self._free and not hopes):
                        raise _Broken("no reader was free")
                    else:
                        self._changed.wait(left)
                raise _Broken("stopping")
            finally:
                self._queue.remove(me)
                self._changed.notify_all()

    def _give_back(self, child: _ParserProcess) -> None:
        """It is free again. One too many stays while any is slow: it would soon be started again."""
        with self._changed:
            for children in (self._busy, self._slow):
                children.discard(child)
            is_spare = not self._slow and self._counted() > self._size
            if not (is_spare or self._stopping.is_set()):
                self._free.append(child)
                self._changed.notify_all()
                return
        self._dismiss(child, "spare", 0)

    def _count_no_more(self, child: _ParserProcess) -> None:
        """It reads slowly: the next mail gets another one."""
        with self._changed:
            self._busy.discard(child)
            self._slow.add(child)
            self._changed.notify_all()
        self._fill()

    def _counted(self) -> int:
        return len(self._alive) - len(self._slow) - len(self._leaving) + len(self._starting)

    def _wants_one(self) -> bool:
        return self._counted() < self._size and len(self._alive) + len(self._starting) < MOST

    # -- who is there

    def _fill(self) -> None:
        """Start children in the background until there are as many as there should be."""
        with self._changed:
            while self._wants_one() and not self._stopping.is_set():
                thread = _begun(self._hire_one, "reader-start")
                if thread is None:
                    return
                self._starting.add(thread)  # which cannot have ended: it needs the lock we hold

    def _hire_one(self) -> None:
        child, rest = None, 0.5
        try:
            while child is None and not self._stopping.is_set():
                try:
                    child = self._started()
                except (_Broken, OSError, ValueError) as error:
                    if not self._stopping.is_set():  # else `stop` ended it
                        _log.error("reader.failed", why=str(error)[:200])
                    self._stopping.wait(rest)
                    rest = min(2 * rest, _LONGEST_REST)
        finally:
            with self._changed:
                self._starting.discard(threading.current_thread())
                if child is not None:
                    self._alive.add(child)
                    self._greeted.discard(child)
            if child is not None:
                self._give_back(child)

    def _started(self) -> _ParserProcess:
        child = _ParserProcess(self._command)
        with self._changed:
            self._greeted.add(child)
        try:
            if self._stopping.is_set():  # `stop` may have looked before we were listed
                raise _Broken("stopping")
            child.greet(time.monotonic() + _STARTS_WITHIN)
        except (_Broken, ValueError):
            child.kill()
            self._bury(child)
            raise
        _log.info("reader.started", pid=child.pid)
        return child

    def _dismiss(self, child: _ParserProcess, why: str, size: int) -> None:
        """Have done with a child, and have another one in its place; whoever asks does not wait for either."""
        child.kill()
        say = _log.info if why == "spare" else _log.warning
        say("reader.killed", pid=child.pid, why=why, octets=size)
        with self._changed:
            for children in (self._busy, self._slow):
                children.discard(child)
            self._leaving.add(child)
            self._changed.notify_all()
        if _begun(lambda: self._bury(child), "reader-end") is None:
            self._bury(child)
        self._fill()

    def _bury(self, dead: _ParserProcess) -> None:
        dead.reap()
        with self._changed:
            for children in (self._alive, self._leaving, self._greeted):
                children.discard(dead)
        self._fill()

    def _hiring(self) -> list[threading.Thread]:
        with self._changed:
            return list(self._starting)


def _begun(work: Callable[[], None], name: str) -> threading.Thread | None:
    """A thread that does `work`; None when the host has none to give."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        _log.error("reader.failed", why=str(error))
        return None
    return thread


class _ParserProcess:
    """One process and its two pipes, used by one thread at a time.

    Any thread may `kill`, which makes whoever waits for it find the pipes ended; the pipes are closed by their user
    alone, in `reap`, or their numbers could be somebody else's by the time they are used.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a traceback quotes the mail
            bufsize=0,
            close_fds=True,
            start_new_session=True,
            cwd="/",
            env={"PYTHONPATH": os.pathsep.join(_import_path())},
        )
        self.pid = self._process.pid
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(_fd(pipe), False)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def greet(self, until: float) -> None:
        """Wait for the frame that says it is ready."""
        document, _ = self.receive(until)
        if report_json.loaded(document) != {"ready": True}:
            raise ValueError("not a reader")

    def give(self, request: bytes, raw: bytes, until: float) -> None:
        """Hand over one request. The child reads all before it writes, so neither can block the other."""
        self._send(HEAD.pack(len(request), len(raw)) + request, until)
        self._send(raw, until)

    def answers_by(self, instant: float) -> bool:
        """Whether it begins its answer, or ends, by then."""
        return self._is_ready(self._process.stdout, select.POLLIN, instant)

    def receive(self, until: float) -> tuple[bytes, bytes]:
        """Its answer: the document and the octets."""
        said, size = HEAD.unpack(self._read(HEAD.size, until))
        if said > _MOST_JSON or size > _MOST_OCTETS:
            raise ValueError("a frame out of all proportion")
        return self._read(said, until), self._read(size, until)

    def kill(self) -> None:
        self._process.kill()

    def reap(self) -> None:
        """Take leave of a killed process."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _send(self, data: bytes, until: float) -> None:
        left = memoryview(data)
        while left:
            fd = self._ready(self._process.stdin, select.POLLOUT, until)
            try:
                left = left[os.write(fd, left[:_CHUNK]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise _Broken("died") from error

    def _read(self, size: int, until: float) -> bytes:
        blocks: list[bytes] = []  # joined at last: of bytes that needs no lock of the interpreter
        data, left = bytearray(), size
        while left:
            fd = self._ready(self._process.stdout, select.POLLIN, until)
            try:
                chunk = os.read(fd, min(_CHUNK, left))
            except BlockingIOError:
                continue
            except OSError as error:
                raise _Broken("died") from error
            if not chunk:
                raise _Broken("died")
            data += chunk
            left -= len(chunk)
            if len(data) >= _CHUNK or not left:
                blocks.append(bytes(data))
                data.clear()
        return b"".join(blocks)

    def _ready(self, pipe: IO[bytes] | None, what: int, until: float) -> int:
        """The descriptor, once it can be used without waiting."""
        if not self._is_ready(pipe, what, until):
            raise _Broken("deadline")
        return _fd(pipe)

    def _is_ready(self, pipe: IO[bytes] | None, what: int, until: float) -> bool:
        """poll, since select fails above descriptor 1023."""
        waiting = select.poll()
        waiting.register(_fd(pipe), what)
        left = until - time.monotonic()
        return left > 0 and bool(waiting.poll(left * 1000))


def _fd(pipe: IO[bytes] | None) -> int:
    if pipe is None:
        raise ValueError("no pipe")
    return pipe.fileno()


def _import_path() -> list[str]:
    """Where a child finds what we have imported: installed, in a checkout, or wherever this process got it from."""
    here = str(Path(panicmail.__file__).resolve().parents[1])
    return list(dict.fromkeys([here, *(entry for entry in sys.path if entry and Path(entry).is_absolute())]))


def _divided(found: tuple[Attachment, ...], contents: bytes) -> list[tuple[Attachment, bytes]]:
    if sum(each.size for each in found) != len(contents):
        raise _Broken("garbage")
    at, divided = 0, []
    for each in found:
        divided.append((each, contents[at : at + each.size]))
        at += each.size
    return divided
