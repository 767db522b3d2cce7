"""Programs of ours, started by fork from a process that has imported panicmail already.

A start is mostly imports: a second of CPU, in some hundred starts. What runs is the same code with its own session,
environment, folder and streams; what the interpreter reads before that (PYTHONPATH, the locale) it had once. Whatever
is about the start itself is started by `subprocess`, and with PANICMAIL_TESTS_EXEC=1 (`make matrix`) everything is.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

import panicmail

#: Set to 1: programs are started anew, one interpreter each.
EXEC = "PANICMAIL_TESTS_EXEC"
#: What the interpreter and the C library read once, before the first line of ours.
_READ_ONCE = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "GLIBC_")
#: What is not imported before somebody asks for it: the migrations run where they are, the sandbox is for tests alone.
_LEFT_OUT = ("panicmail.sandbox", "panicmail.store.migrations")


def start(
    module: str,
    *words: str,
    cwd: Path,
    env: Mapping[str, str],
    stdin: Any = subprocess.DEVNULL,
    stdout: Any = None,
    stderr: Any = None,
) -> subprocess.Popen[bytes] | Forked:
    """`python -m MODULE WORDS`, in a session of its own; the rest is as for `subprocess.Popen`."""
    if os.environ.get(EXEC) == "1" or _read_once(env) != _read_once(os.environ):
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=cwd,
            env=dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    return Forked([module, *words], cwd, env, (stdin, stdout, stderr))


def run(
    module: str, *words: str, cwd: Path, env: Mapping[str, str], within: float, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """`python -m MODULE WORDS` to its end.

    Raises:
        subprocess.TimeoutExpired: It was still there after `within` seconds.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        running = start(module, *words, cwd=cwd, env=env, stdin=given, stdout=out, stderr=err)
        try:
            status = running.wait(within)
        finally:
            running.kill()
            running.wait(within)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([module, *words], status, out.read(), err.read())


def _read_once(env: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in env.items() if name.startswith(_READ_ONCE)}


class Forked:
    """A program that runs; the part of `subprocess.Popen` that tests use."""

    def __init__(self, words: Sequence[str], cwd: Path, env: Mapping[str, str], streams: Sequence[Any]) -> None:
        self.returncode: int | None = None
        self.args = words
        asked = {"words": words, "cwd": str(cwd), "env": dict(env), "umask": _umask()}
        with contextlib.ExitStack() as ours:
            given, _ = _stream(streams[0], 0, ours)
            out, self.stdout = _stream(streams[1], 1, ours)
            err, self.stderr = (out, None) if streams[2] == subprocess.STDOUT else _stream(streams[2], 2, ours)
            self._told, tells = os.pipe()
            ours.callback(os.close, tells)
            _zygote().ask(json.dumps(asked).encode(), [given, out, err, tells])
        self._waiting = threading.Lock()
        self._heard = b""
        self.pid = self._number(0, None)

    def _number(self, which: int, timeout: float | None) -> int:
        """The process id is told first, the exit status at the end."""
        ends_at = None if timeout is None else time.monotonic() + timeout
        told = select.poll()
        told.register(self._told, select.POLLIN)
        while self._heard.count(b"\n") <= which:
            if not told.poll(None if ends_at is None else max(0.0, ends_at - time.monotonic()) * 1000):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            more = os.read(self._told, 100)
            assert more, f"nobody knows what became of {self.args}"
            self._heard += more
        return int(self._heard.split(b"\n")[which])

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        with self._waiting:
            if self.returncode is None:
                self.returncode = self._number(1, timeout)
                os.close(self._told)
            return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _umask() -> int:
    now = os.umask(0o077)
    os.umask(now)
    return now


def _stream(wanted: Any, own: int, ours: contextlib.ExitStack) -> tuple[int, IO[bytes] | None]:
    """Where the program writes to, and where we read it."""
    if wanted is None:
        return own, None
    if wanted == subprocess.PIPE:
        reads, writes = os.pipe()
        ours.callback(os.close, writes)
        return writes, os.fdopen(reads, "rb")
    if wanted == subprocess.DEVNULL:
        nowhere = os.open(os.devnull, os.O_RDWR)
        ours.callback(os.close, nowhere)
        return nowhere, None
    return wanted if isinstance(wanted, int) else wanted.fileno(), None


class _Zygote:
    """The process that has imported panicmail, and waits to be asked for a child."""

    def __init__(self) -> None:
        self._asking, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=Path(__file__).parents[1])
        self._one_at_a_time = threading.Lock()
        atexit.register(self.close)

    def ask(self, asked: bytes, descriptors: Sequence[int]) -> None:
        with self._one_at_a_time:
            socket.send_fds(self._asking, [len(asked).to_bytes(4, "big")], list(descriptors))
            self._asking.sendall(asked)

    def close(self) -> None:
        self._asking.close()
        self._process.wait()


@cache
def _zygote() -> _Zygote:
    return _Zygote()


# -- in the zygote


def _serve(descriptor: int) -> None:
    for module in pkgutil.walk_packages(panicmail.__path__, "panicmail."):
        if not module.name.startswith(_LEFT_OUT) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who waits
    asked = socket.socket(fileno=descriptor)
    for document, descriptors in _requests(asked):
        if os.fork() == 0:
            asked.close()
            _stand_by(document, descriptors[:3], descriptors[3])
        for each in descriptors:
            os.close(each)


def _requests(asked: socket.socket) -> Iterator[tuple[dict[str, Any], list[int]]]:
    while True:
        head, descriptors, _, _ = socket.recv_fds(asked, 4, 4)
        if not head:
            return
        size, document = int.from_bytes(head, "big"), b""
        while len(document) < size:
            document += asked.recv(size - len(document))
        yield json.loads(document), descriptors


def _stand_by(asked: dict[str, Any], streams: Sequence[int], tells: int) -> None:
    """Start the program, and tell its number and then how it ended. Returns in the program alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(tells)
        _become(asked, streams)
    os.write(tells, b"%d\n" % pid)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for each in (0, 1, 2, *streams):
        os.dup2(nowhere, each)
    _, status = os.waitpid(pid, 0)
    os.write(tells, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(asked: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, max(streams) + 1)
    os.chdir(asked["cwd"])
    os.umask(asked["umask"])
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    tempfile.tempdir = None
    random.seed()
    sys.argv = asked["words"]
    sys.path[0] = asked["cwd"]
    runpy.run_module(asked["words"][0], run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
