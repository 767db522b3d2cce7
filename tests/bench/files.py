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
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import SandboxRelay
from tests.bench.latency import CONFIG, _free_port, _one, _wait_ready

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


def serve(config: str, written: str) -> None:
    """In the daemon's process: SIGUSR1 begins to record, SIGUSR2 writes down what was recorded."""

    def begin(number: int, frame: object) -> None:
        global _on
        _files.clear()
        _on = True

    def write(number: int, frame: object) -> None:
        global _on
        _on = False
        Path(written).write_text(json.dumps(_files))

    threading.setprofile(_trace)
    sys.setprofile(_trace)
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, write)
    from panicmail.cli import main

    sys.argv = ["panicmail", "serve", "-c", config]
    main()


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
    with SandboxGitLab() as gitlab, SandboxRelay() as relay, tempfile.TemporaryDirectory() as folder:
        port, out = _free_port(), Path(folder) / "files.json"
        path = Path(folder) / "panicmail.toml"
        path.write_text(CONFIG.format(smtp=port, database="sqlite:///panicmail.db", gitlab=gitlab, relay=relay))
        code = f"from tests.bench.files import serve; serve({str(path)!r}, {str(out)!r})"
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as daemon:
            _wait_ready(daemon)
            _one(port, relay, 0)
            time.sleep(3)  # the issue and the receipt of the first are on their way
            daemon.send_signal(signal.SIGUSR1)
            _one(port, relay, 1)
            daemon.send_signal(signal.SIGUSR2)
            while not out.exists() or not out.read_text():
                time.sleep(0.05)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)
        threads = {name: calls for name, calls in json.loads(out.read_text()).items() if name.startswith(ON_THE_WAY)}
    threads["child"] = read()
    files = set().union(*threads.values())
    print(json.dumps({"files": len(files), "changes": sum(len(calls) - 1 for calls in threads.values()),
                      "threads": {name: [len(set(calls)), len(calls) - 1] for name, calls in threads.items()},
                      "names": sorted(files)}, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
