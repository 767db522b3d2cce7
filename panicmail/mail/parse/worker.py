"""The process in which mails are taken apart: `python -m panicmail.mail.parse.worker`.

It reads requests from stdin and writes answers to stdout until stdin closes, which is also how it learns that the
daemon is gone, however it went. It has no configuration, no environment, no secrets and no open descriptors but three.

Every frame, both ways: two lengths (4 octets each, big-endian), a JSON object of the first length, octets of the
second. Request: `{"op": "read" | "parts", "mail_from": str | null}` with the raw mail. Answer to `read`: the report
(`wire`), no octets. Answer to `parts`: `{"attachments": [...]}` with their contents one after the other. The first
frame, `{"ready": true}`, says that everything is imported.

A child yields to everybody else: its priority is lower than the daemon's, and when memory runs out it is the first
to go. Both can be asked for without any right.

What a mail can do here: use 1 GiB of address space, then Python runs out of memory and the fallback reader answers;
use the CPU for `_CPU_SECONDS`, then the kernel ends the process. It writes no file and starts no process
(`confinement`). Whatever prints goes to stderr, never into a frame.
"""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from panicmail.confinement import confine
from panicmail.mail.parse import parser, report_json
from panicmail.mail.parse.report_json import HEAD

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
