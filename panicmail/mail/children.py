"""The children that read mails, and what happens when one does not answer.

`Readers` keeps a few processes of `child`, gives each one mail at a time, and holds a deadline that includes the wait
for a free one. A child that is late, dies, or answers something else than a report is killed and a fresh one started
in the background; the mail gets the byte-level reading instead, at once. So a mail costs at most its deadline,
whatever is in it, and one bad mail costs the others nothing but a share of the children for a moment.

Why not an executor of the standard library: it forks or spawns through the parent's `__main__`, hands pickles to and
fro, and when one of its processes dies it fails every other pending call. Here a child is started by `subprocess`,
with an empty environment but for the import path, without other descriptors, in a session of its own (so that a
Ctrl-C in a terminal does not reach it). It ends by itself when its stdin closes.

What can go wrong and who notices: children that cannot start at all. Then every mail gets the byte-level reading
after at most the deadline, `reader.failed` is logged at each attempt, and attempts are spaced out up to 30 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TypeVar

import structlog

from panicmail import crash
from panicmail.errors import Temporary
from panicmail.mail import wire
from panicmail.mail.child import HEAD
from panicmail.mail.fallback import read_bytes
from panicmail.triage import Attachment, Report

_log = structlog.get_logger()

_STARTS_WITHIN = 20.0  #: seconds for a child to be ready; a loaded host takes its time
_LONGEST_REST = 30.0
_MOST_JSON, _MOST_OCTETS = 32 * 1024 * 1024, 512 * 1024 * 1024
_CHUNK = 256 * 1024

Answer = TypeVar("Answer")


class _Broken(Exception):  # noqa: N818 - a state of the child, handled here
    """This child cannot be used any more; the text says why, in a word."""


class Readers:
    """A few reading children. Every method may be called from any thread."""

    def __init__(self, size: int = 2, deadline: float = 2.0, command: Sequence[str] | None = None) -> None:
        """
        Args:
            size: How many children, at least 1.
            deadline: Seconds `read` may take, the wait for a free child included.
            command: What to start instead of our own child; it must speak the frames of `child`.
        """
        self._size = max(1, size)
        self._deadline = deadline
        self._command = list(command or (sys.executable, "-s", "-P", "-m", "panicmail.mail.child"))
        self._free: queue.Queue[_Child] = queue.Queue()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._alive: set[_Child] = set()
        self._starting: set[threading.Thread] = set()
        self._complete_at = time.monotonic()
        # Uploads are long and can wait; a page cannot. They never take the last child.
        self._for_parts = threading.BoundedSemaphore(max(1, self._size - 1))

    def start(self) -> None:
        """Start the children and wait until they are ready, for 20 s at most; late ones join when they are."""
        for _ in range(self._size):
            self._hire(None)
        until = time.monotonic() + _STARTS_WITHIN
        for thread in self._hiring():
            thread.join(max(0.0, until - time.monotonic()))

    def stop(self) -> None:
        """End every child. Calls under way get their fallback."""
        self._stopping.set()
        with self._lock:
            alive = list(self._alive)
        for child in alive:
            child.kill()
        for thread in self._hiring():
            thread.join(5)
        with contextlib.suppress(queue.Empty):
            while True:
                self._bury(self._free.get_nowait())

    def complete_at(self) -> float:
        """When each place was last filled, by a child or by a thread that starts one; in monotonic seconds."""
        with self._lock:
            filled = len(self._alive) + sum(thread.is_alive() for thread in self._starting)
        if filled >= self._size or self._stopping.is_set():
            self._complete_at = time.monotonic()
        return self._complete_at

    def read(self, raw: bytes, mail_from: str | None = "?") -> Report:
        """Read one mail, in a child if one answers in time, else from its octets. Never raises."""
        crash.point("reader")
        until = time.monotonic() + self._deadline
        try:
            said, _ = self._ask({"op": "read", "mail_from": mail_from}, raw, until, wire.from_json)
        except _Broken as reason:
            return read_bytes(raw, mail_from=mail_from, why=str(reason))
        return said

    def parts(self, raw: bytes, deadline: float = 20.0) -> list[tuple[Attachment, bytes]]:
        """The attachments of a mail with their contents; none of one that cannot be parsed.

        Raises:
            Temporary: No child answered within `deadline` seconds. A mail can be the reason: try again, not for ever.
        """
        until = time.monotonic() + deadline
        if not self._for_parts.acquire(timeout=deadline):
            raise Temporary("no reader was free for the attachments")
        try:
            found, contents = self._ask({"op": "parts", "mail_from": None}, raw, until, wire.attachments_from_json)
            return _divided(found, contents)
        except _Broken as reason:
            raise Temporary(f"the attachments could not be read: {reason}") from reason
        finally:
            self._for_parts.release()

    def _ask(
        self, request: dict[str, object], raw: bytes, until: float, understand: Callable[[bytes], Answer]
    ) -> tuple[Answer, bytes]:
        """Give a mail to a free child.

        Raises:
            _Broken: None was free in time, or the one asked is now dead.
        """
        child = self._take(until)
        try:
            document, octets = child.ask(json.dumps(request).encode(), raw, until)
            answer = understand(document)
        except _Broken as reason:
            self._replace(child, str(reason), len(raw))
            raise
        except Exception as error:  # a child that hostile octets run in may say anything, and must not be lost
            self._replace(child, "garbage", len(raw))
            raise _Broken("garbage") from error
        self._free.put(child)
        return answer, octets

    def _take(self, until: float) -> _Child:
        while not self._stopping.is_set():
            try:
                child = self._free.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise _Broken("no reader was free") from None
            if child.is_alive():
                return child
            self._replace(child, "died", 0)
        raise _Broken("stopping")

    def _replace(self, child: _Child, why: str, size: int) -> None:
        child.kill()
        _log.warning("reader.killed", pid=child.pid, why=why, octets=size)
        self._hire(child)

    def _hire(self, dead: _Child | None) -> None:
        """Start a child in the background, in the place of `dead`: the mail that comes next must not wait for it."""
        thread = threading.Thread(target=self._hire_one, args=(dead,), name="reader-start", daemon=True)
        with self._lock:
            self._starting.add(thread)
        thread.start()

    def _hire_one(self, dead: _Child | None) -> None:
        rest = 0.5
        if dead is not None:
            self._bury(dead)
        while not self._stopping.is_set():
            try:
                child = self._started()
            except (_Broken, OSError, ValueError) as error:
                _log.error("reader.failed", why=str(error)[:200])
                self._stopping.wait(rest)
                rest = min(2 * rest, _LONGEST_REST)
                continue
            _log.info("reader.replaced" if dead is not None else "reader.started", pid=child.pid)
            self._free.put(child)
            break
        with self._lock:
            self._starting.discard(threading.current_thread())

    def _started(self) -> _Child:
        child = _Child(self._command)
        with self._lock:
            self._alive.add(child)
        try:
            if not self._stopping.is_set():  # `stop` may have looked before we were listed
                child.greet(time.monotonic() + _STARTS_WITHIN)
                return child
            raise _Broken("stopping")
        except (_Broken, ValueError):
            child.kill()
            self._bury(child)
            raise

    def _bury(self, dead: _Child) -> None:
        with self._lock:
            self._alive.discard(dead)
        dead.reap()

    def _hiring(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._starting)


class _Child:
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
        document, _ = self._receive(until)
        if wire.loaded(document) != {"ready": True}:
            raise ValueError("not a reader")

    def ask(self, request: bytes, raw: bytes, until: float) -> tuple[bytes, bytes]:
        """One request and its answer. The child reads all before it writes, so neither can block the other."""
        self._send(HEAD.pack(len(request), len(raw)) + request, until)
        self._send(raw, until)
        return self._receive(until)

    def kill(self) -> None:
        self._process.kill()

    def reap(self) -> None:
        """Take leave of a killed process."""
        with contextlib.suppress(subprocess.TimeoutExpired):
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

    def _receive(self, until: float) -> tuple[bytes, bytes]:
        said, size = HEAD.unpack(self._read(HEAD.size, until))
        if said > _MOST_JSON or size > _MOST_OCTETS:
            raise ValueError("a frame out of all proportion")
        return self._read(said, until), self._read(size, until)

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
        """The descriptor, once it can be used without waiting. poll, since select fails above descriptor 1023."""
        fd = _fd(pipe)
        waiting = select.poll()
        waiting.register(fd, what)
        left = until - time.monotonic()
        if left <= 0 or not waiting.poll(left * 1000):
            raise _Broken("deadline")
        return fd


def _fd(pipe: IO[bytes] | None) -> int:
    if pipe is None:
        raise ValueError("no pipe")
    return pipe.fileno()


def _import_path() -> list[str]:
    """Where a child finds what we have imported: installed, in a checkout, or wherever this process got it from."""
    here = str(Path(__file__).resolve().parents[2])
    return list(dict.fromkeys([here, *(entry for entry in sys.path if entry and Path(entry).is_absolute())]))


def _divided(found: tuple[Attachment, ...], contents: bytes) -> list[tuple[Attachment, bytes]]:
    if sum(each.size for each in found) != len(contents):
        raise _Broken("garbage")
    at, divided = 0, []
    for each in found:
        divided.append((each, contents[at : at + each.size]))
        at += each.size
    return divided
