"""One database, opened right: engine, transactions, clock.

SQLite: WAL, `synchronous=FULL`, foreign keys on, and every write transaction begins with BEGIN IMMEDIATE, because a
read that later turns into a write fails at once or, with the driver's own transactions, loses updates in silence.
PostgreSQL: ordinary transactions; its clock is the only one that counts, so that nodes agree. `postgres` says how long
anything may take there.
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
from panicmail.store.sql_limits import READ_ONLY

#: How long a write waits for another process's write, in seconds. A sender waits for its 250 meanwhile.
BUSY_SECONDS = 5
#: What makes a transaction one that reads, from one picture.
_READING_SQLITE: dict[str, Any] = {"readonly": True}
_READING_POSTGRES: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


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
        self._host_clock = host_clock()
        self._clock = clock or (self._host_clock if self.is_sqlite else None)
        self.path = Path(parsed.database) if self.is_sqlite and parsed.database else None
        self.engine = self._open_sqlite(parsed) if self.is_sqlite else self._open_postgres(parsed)
        self._reader = self.engine.execution_options(**(_READING_SQLITE if self.is_sqlite else _READING_POSTGRES))

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
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            readonly = connection.get_execution_options().get("readonly")
            connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")

        return engine

    def _open_postgres(self, url: sa.URL) -> sa.Engine:
        try:
            from panicmail.store import postgres
        except ImportError as exc:  # the driver is an extra
            raise StoreFailed(f"PostgreSQL needs the extra, pip install 'panicmail[postgres]': {exc}") from exc
        return postgres.open_engine(url)

    @property
    def clock(self) -> Clock:
        """This host's clock: for what happens while the database cannot be asked."""
        return self._clock or self._host_clock

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
            StoreFailed: The database refused: locked, read-only, full, away. On PostgreSQL a COMMIT whose answer was
                lost raises it too, and then what was written may be there.
        """
        with failures(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A read transaction: one consistent picture; blocks no writer."""
        with failures(), self._reader.connect() as connection, connection.begin():
            yield connection

    def session(self) -> sa.Connection:
        """A connection outside the pool, its owner's until it is closed. Every statement is a transaction of its own.

        Raises:
            StoreFailed: There is none to be had.
        """
        with failures():
            connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()
            return connection

    def close(self) -> None:
        self.engine.dispose()


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """What the driver raises, as `StoreFailed` in one line and without the values PostgreSQL quotes in its details."""
    try:
        yield
    except sa.exc.TimeoutError as exc:
        raise StoreFailed("all connections to the database are in use") from exc
    except sa.exc.DBAPIError as exc:
        raise StoreFailed(_said(exc.orig)) from exc


def _said(error: BaseException | None) -> str:
    said = getattr(getattr(error, "diag", None), "message_primary", None) or " ".join(str(error).split())
    if getattr(error, "sqlstate", None) == READ_ONLY:
        return f"{said}: its server is a standby, or set to default_transaction_read_only"
    return str(said)
