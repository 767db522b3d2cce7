"""How many files of the program one mail goes through from the socket to its page, and how often it changes file.

    python -m tests.bench.files

Starts the sandbox and the real daemon, sends one panic to warm up, and traces the calls of the next one, from the first
octet to the page at the relay. Counted are the threads that the mail goes through: the event loop, the writer, one of
intake, one of pages; a child reads the mail in a process of its own, whose files are traced by reading it once more.
"""

from __future__ import annotations

import collections
import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.bench.load import ROOT
from tests.bench.proc import until
from tests.bench.town import Pages, bench_world, panic, settle

PACKAGE = str(Path(__file__).parents[2] / "panicmail") + os.sep
#: The beginnings of the names of the threads a mail goes through.
ON_THE_WAY = ("MainThread", "writer", "store-writer", "intake-", "page-")

_files: dict[str, list[str]] = collections.defaultdict(list)
_on = False


def _trace(frame: Any, event: str, argument: object) -> None:
    if _on and event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
        name = frame.f_code.co_filename.removeprefix(PACKAGE)
        calls = _files[threading.current_thread().name]
        if not calls or calls[-1] != name:
            calls.append(name)


def serve() -> None:
    """In the daemon's process: SIGUSR1 begins to record, SIGUSR2 writes down what was recorded."""

    def begin(number: int, frame: object) -> None:
        global _on
        _files.clear()
        _on = True

    def write(number: int, frame: object) -> None:
        global _on
        _on = False
        Path(os.environ["BENCH_FILES"]).write_text(json.dumps(_files))

    threading.setprofile(_trace)
    sys.setprofile(_trace)
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, write)
    from panicmail.cli import main as panicmail

    panicmail()


def read() -> list[str]:
    """The files that a child's reading goes through."""
    global _on
    from panicmail.mail.parse import parser, report_json

    raw = b"From: rita@example.com\r\nTo: panic@example.com\r\nSubject: Panic\r\n\r\nMy files are .locked.\r\n" * 2
    _files.clear()
    _on = True
    sys.setprofile(_trace)
    report_json.to_json(parser.read(raw, mail_from="rita@example.com"))
    sys.setprofile(None)
    _on = False
    return _files[threading.current_thread().name]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder)) as town:
        out = Path(folder) / "files.json"
        town.module = "tests.bench.files"
        town.environ = {"PYTHONPATH": str(ROOT), "BENCH_FILES": str(out)}
        program, pages = town.start(), Pages(town)
        panic(town, 0)
        settle(town)
        program.signal(signal.SIGUSR1)
        pages.of(panic(town, 1).canary)
        program.signal(signal.SIGUSR2)
        if not until(lambda: out.exists() and out.read_text(), 30):
            raise RuntimeError(f"the daemon wrote nothing{program.tail()}")
        threads = {name: calls for name, calls in json.loads(out.read_text()).items() if name.startswith(ON_THE_WAY)}
    threads["child"] = read()
    files = set().union(*threads.values())
    print(json.dumps({"files": len(files), "changes": sum(len(calls) - 1 for calls in threads.values()),
                      "threads": {name: [len(set(calls)), len(calls) - 1] for name, calls in threads.items()},
                      "names": sorted(files)}, indent=1))  # fmt: skip


if __name__ == "__main__":
    serve() if sys.argv[1:2] == ["serve"] else main()
