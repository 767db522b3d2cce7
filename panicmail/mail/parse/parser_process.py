"""One child that reads mails: a process and its two pipes."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import panicmail
from panicmail.mail.parse import report_json
from panicmail.mail.parse.report_json import HEAD

_MOST_JSON, _MOST_OCTETS = 32 * 1024 * 1024, 512 * 1024 * 1024
_CHUNK = 256 * 1024


class ParserBroken(Exception):  # noqa: N818 - a state of the child, handled here
    """This child cannot be used any more; the text says why, in a word."""


class ParserProcess:
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
                raise ParserBroken("died") from error

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
                raise ParserBroken("died") from error
            if not chunk:
                raise ParserBroken("died")
            data += chunk
            left -= len(chunk)
            if len(data) >= _CHUNK or not left:
                blocks.append(bytes(data))
                data.clear()
        return b"".join(blocks)

    def _ready(self, pipe: IO[bytes] | None, what: int, until: float) -> int:
        """The descriptor, once it can be used without waiting."""
        if not self._is_ready(pipe, what, until):
            raise ParserBroken("deadline")
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
