"""Readers in children that are slow, and waiting for them."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from panicmail.mail.parse import report_json
from panicmail.mail.parse.parser import read
from panicmail.mail.parse.pool import ParserPool

_MAIL = b"From: ana@example.com\r\nSubject: help\r\n\r\nthe database is gone\r\n"


def wait_for(claim: Callable[[], bool], within: float = 60) -> None:
    until = time.monotonic() + within
    while not claim():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)


def stand_in(tmp_path: Path, body: str) -> list[str]:
    """A child that greets, then does what the test says with each request it has read."""
    script = tmp_path / "stand_in.py"
    script.write_text(
        "import json, os, struct, sys, time\n"
        "HEAD = struct.Struct('>II')\n"
        "def send(document, octets=b''):\n"
        "    sys.stdout.buffer.write(HEAD.pack(len(document), len(octets)) + document + octets)\n"
        "    sys.stdout.buffer.flush()\n"
        "send(b'{\"ready\": true}')\n"
        "while head := sys.stdin.buffer.read(8):\n"
        "    said, size = HEAD.unpack(head)\n"
        "    request, raw = json.loads(sys.stdin.buffer.read(said)), sys.stdin.buffer.read(size)\n"
        f"    {body}\n"
    )
    return [sys.executable, "-I", str(script)]


@contextlib.contextmanager
def slow_readers(tmp_path: Path) -> Iterator[tuple[ParserPool, Callable[[int], None]]]:
    """Readers that keep a mail that begins with "slow" until the file `go` is there, and what gives them so many."""
    answer = repr(report_json.to_json(read(_MAIL)).encode())
    waits = f"while raw[:4] == b'slow' and not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.05)"
    ours = ParserPool(size=2, deadline=60, command=stand_in(tmp_path, f"{waits}\n    send({answer})"))
    ours.start()
    threads: list[threading.Thread] = []

    def slow(count: int) -> None:
        threads.extend(threading.Thread(target=ours.read, args=(b"slow",)) for _ in range(count))
        for thread in threads[-count:]:
            thread.start()

    try:
        yield ours, slow
    finally:
        ours.stop()
        for thread in threads:
            thread.join(20)
