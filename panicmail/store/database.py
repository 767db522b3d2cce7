"""One database, opened right: engine, transactions, clock.

SQLite: WAL, `synchronous=FULL`, foreign keys on, and every write transaction begins with BEGIN IMMEDIATE, because a
read that later turns into a write fails at once or, with the driver's own transactions, loses updates in silence.
PostgreSQL: ordinary transactions; its clock is the only one that counts, so that nodes agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from panicmail.clock import Clock, host_clock
from panicmail.errors import StoreFailed

#: How long a write waits for another process's write, in seconds. A sender waits for its 250 meanwhile.
BUSY_SECONDS = 5


class Database:
    """An engine with panicmail's settings.

    Args:
        url: `sqlite:///…` or `postgresql://…`.
        clock: Replaces the clock that counts (the host's, or PostgreSQL's own). For tests, which move it.
        busy_seconds: How long a write waits for another process's write on SQLite.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, busy_seconds: float = BUSY_SECONDS) -> None:
        self._busy_seconds = busy_seconds
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._clock = clock or (host_clock() if self.is_sqlite else None)
        self.path = Path(parsed.database) if self.is_sqlite and parsed.database else None
        self.engine = self._open_sqlite(parsed) if self.is_sqlite else self._open_postgres(parsed)

    def _open_sqlite(self, url: sa.URL) -> sa.Engine:
        engine = sa.create_engine(
            url,
            connect_args={"timeout": self._busy_seconds},
            pool_size=8,
            max_overflow=16,
            hide_parameters=True,  # an error that is logged would quote the mail
        )

        @sa.event.listens_for(engine, "connect")
        def _connect(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # we send BEGIN ourselves
            cursor = connection.cursor()
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            readonly = connection.get_execution_options().get("readonly")
            connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")

        return engine

    def _open_postgres(self, url: sa.URL) -> sa.Engine:
        return sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=10,
            max_overflow=20,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"connect_timeout": BUSY_SECONDS, "options": "-c timezone=UTC -c lock_timeout=5s"},
        )

    def now(self, connection: sa.Connection) -> datetime:
        """The present instant by the one clock that decides."""
        if self._clock is not None:
            return self._clock()
        at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return at.astimezone(UTC)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A write transaction: committed at the end, rolled back by an exception.

        Raises:
            StoreFailed: The database refused: locked, read-only, full, away.
        """
        try:
            with self.engine.connect() as connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as exc:
            raise StoreFailed(str(exc.orig)) from exc

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A read transaction: one consistent picture; blocks no writer."""
        try:
            with self.engine.connect() as connection:
                connection = connection.execution_options(readonly=True)
                with connection.begin():
                    yield connection
        except sa.exc.DBAPIError as exc:
            raise StoreFailed(str(exc.orig)) from exc

    def close(self) -> None:
        self.engine.dispose()
