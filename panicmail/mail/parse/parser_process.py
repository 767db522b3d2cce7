"""One child that reads mails: a process and its two pipes."""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

import panicmail
from panicmail.confinement import confine
from panicmail.mail.parse import parser, report_json
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


# -- The process in which mails are taken apart: `python -m panicmail.mail.parse.parser_process`.
#
# It reads requests from stdin and writes answers to stdout until stdin closes, which is also how it learns that the
# daemon is gone, however it went. It has no configuration, no environment, no secrets and no open descriptors but
# three.
#
# Every frame, both ways: two lengths (4 octets each, big-endian), a JSON object of the first length, octets of the
# second. Request: `{"op": "read" | "parts", "mail_from": str | null}` with the raw mail. Answer to `read`: the
# report (`wire`), no octets. Answer to `parts`: `{"attachments": [...]}` with their contents one after the other.
# The first frame, `{"ready": true}`, says that everything is imported.
#
# A child yields to everybody else: its priority is lower than the daemon's, and when memory runs out it is the
# first to go. Both can be asked for without any right.
#
# What a mail can do here: use 1 GiB of address space, then Python runs out of memory and the fallback reader
# answers; use the CPU for `_CPU_SECONDS`, then the kernel ends the process. It writes no file and starts no process
# (`confinement`). Whatever prints goes to stderr, never into a frame.

_CPU_SECONDS = 30
#: Enough for the daemon to go first, little enough for a reader not to starve on a busy host.
_NICE = 10
#: How readily the kernel takes our memory: before anybody else's.
_OOM = 1000


def main() -> None:
    """Serve until stdin closes."""
    requests, answers = _take_the_pipes()
    logging.disable(logging.CRITICAL)  # the libraries would log what is in the mail
    _tell_kernel("oom_score_adj", _OOM)
    confine()
    _warm_up()
    _yield_to_others()  # once it is ready: on a busy host it would never be
    _send(answers, json.dumps({"ready": True}))
    while head := requests.read(HEAD.size):
        asked, size = HEAD.unpack(head)
        request = json.loads(requests.read(asked))
        raw = requests.read(size)
        if len(raw) < size:
            return  # the daemon died while it wrote
        _grant_cpu()
        _answer(request, raw, answers)
        del raw


def _take_the_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our ends of the pipes, and nothing of them left where a library could print to or read from."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _yield_to_others() -> None:
    os.nice(_NICE)
    if os.getsid(0) == os.getpid():  # Linux may share its time among sessions: then only a whole one can yield
        _tell_kernel("autogroup", _NICE)


def _tell_kernel(file: str, value: int) -> None:
    """About this process."""
    with suppress(OSError):  # a kernel without it
        Path("/proc/self", file).write_text(str(value))


def _grant_cpu() -> None:
    """Let the next mail use so much CPU and no more. The hard limit stays, so that this can be said again."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(used.ru_utime + used.ru_stime) + _CPU_SECONDS
    if hard == resource.RLIM_INFINITY or soft <= hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _warm_up() -> None:
    """Read a small mail, so that the first real one finds patterns compiled and codecs loaded."""
    parser.read(
        b"From: =?utf-8?q?A?= <a@example.org>\r\nSubject: =?utf-8?b?eA==?=\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n"
        b"--b\r\n\r\nhello\r\n\r\nOn 1.1.2024 a@b.c wrote:\r\n> x\r\n"
        b"--b\r\nContent-Type: text/html; charset=iso-8859-1\r\n\r\n<p>hello</p>\r\n--b--\r\n"
    )


def _answer(request: dict[str, object], raw: bytes, answers: BinaryIO) -> None:
    if request["op"] == "parts":
        found = parser.parts(raw)[: report_json.ENTRIES]
        listed = json.dumps({"attachments": report_json.attachments_to_json(each for each, _ in found)})
        _send(answers, listed, [data for _, data in found])
        return
    mail_from = request["mail_from"]
    report = parser.read(raw, mail_from=mail_from if isinstance(mail_from, str) else None)
    _send(answers, report_json.to_json(report))


def _send(answers: BinaryIO, document: str, octets: list[bytes] | None = None) -> None:
    said = document.encode()
    data = octets or []
    answers.write(HEAD.pack(len(said), sum(map(len, data))))
    answers.write(said)
    for each in data:
        answers.write(each)
    answers.flush()


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(0)
