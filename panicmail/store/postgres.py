"""Connections to PostgreSQL that notice when nobody is there any more.

A hung database is worse than one that is away: whoever waits for it holds up a sender, a page, a step. So every wait
ends, each limit a second after the one nearer to the cause, so that the failure which explains most speaks first:

    a transaction left idle     4 s   the server ends it: a frozen node lets go of its rows
    a wait for a lock           5 s   the server refuses the statement
    a statement                 6 s   the server cancels it
    no octet from the server    7 s   we close the connection: its disk hangs, or its process stands still
    a new connection            3 s   for each address
    a peer that is cut off      6 s   TCP on both sides gives up on it

A COMMIT is only believed without a warning. PostgreSQL ends a wait for a synchronous standby that somebody cancels
with no more than that: committed here, perhaps nowhere else. Such a COMMIT raises, as one whose answer was lost.

The server must allow writing. A connection to a standby is refused when it is made, and thrown away, with all others,
when its server turns read-only: the next one may reach the new primary.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen

from panicmail.store.sql_limits import CONNECTIONS, READ_ONLY

T = TypeVar("T")

#: Connections of the pool that stay open; the rest is closed when it is not needed. One more is the node's own.
POOL_SIZE = 10
#: How long a thread waits for one of them, in seconds.
POOL_SECONDS = 3
#: After so many seconds without an octet from the server a connection is given up.
PATIENCE = 7.0
_CONNECT_SECONDS = 3
#: For server and client alike, which know them under different names.
_KEEPALIVE_IDLE, _KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT, _USER_TIMEOUT_MS = 3, 1, 3, 6000

#: What every session of ours is set to, whatever the server, the database or the role has for a default; the server's
#: side of TCP is ours to set as well. What the URL has in `options` comes after it and wins.
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "default_transaction_isolation": r"read\ committed",
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": "4s",
    "lock_timeout": "5s",
    "statement_timeout": "6s",
    "tcp_keepalives_idle": str(_KEEPALIVE_IDLE),
    "tcp_keepalives_interval": str(_KEEPALIVE_INTERVAL),
    "tcp_keepalives_count": str(_KEEPALIVE_COUNT),
    "tcp_user_timeout": str(_USER_TIMEOUT_MS),
}

#: A session after one of these is of no more use: read-only; ended by an operator, a crash, for idling.
_USELESS = frozenset({READ_ONLY, "57P01", "57P02", "57P03", "57P05", "25P03"})


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose waits end, and whose COMMIT is what it says."""

    #: Seconds without an octet from the server; None waits for ever.
    patience: float | None = PATIENCE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._warning: str | None = None
        self.add_notice_handler(self._noticed)

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warning = notice.message_primary

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        if self.patience is None:
            return super().wait(gen, *args, **kwargs)
        try:
            return super().wait(_watched(gen, self.patience), *args, **kwargs)
        except _Silence:
            self.close()
            raise psycopg.OperationalError(f"the server said nothing for {self.patience:.0f} s") from None

    def commit(self) -> None:
        self._warning = None
        super().commit()
        if self._warning is not None:
            raise psycopg.OperationalError(f"committed, but with a warning: {self._warning}")


class _Silence(Exception):  # noqa: N818 - what was heard
    """The server said nothing for too long."""


def _watched(gen: PQGen[T], patience: float) -> Generator[Any, Any, T]:
    """`gen`, until neither side could move an octet for `patience` seconds."""
    moved_at = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > patience:
                raise _Silence
            wanted = gen.send(ready)
    except StopIteration as done:
        value: T = done.value
        return value


def open_engine(url: sa.URL) -> sa.Engine:
    """An engine on the server of `url`, whose own query parameters go before ours."""
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
        pool_size=POOL_SIZE,
        max_overflow=CONNECTIONS - 1 - POOL_SIZE,
        pool_timeout=POOL_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,  # an error that is logged would quote the mail
        connect_args=_connect_args(url),
    )
    sa.event.listen(
        engine, "do_connect", lambda _dialect, _record, args, kwargs: BoundedConnection.connect(*args, **kwargs)
    )
    sa.event.listen(engine, "handle_error", _judge)
    return engine


def _connect_args(url: sa.URL) -> dict[str, Any]:
    args: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        "target_session_attrs": "read-write",
        "client_encoding": "utf8",
        "keepalives": 1,
        "keepalives_idle": _KEEPALIVE_IDLE,
        "keepalives_interval": _KEEPALIVE_INTERVAL,
        "keepalives_count": _KEEPALIVE_COUNT,
        "tcp_user_timeout": _USER_TIMEOUT_MS,
    }
    ours = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    theirs = url.query.get("options", "")
    options = f"{ours} {theirs if isinstance(theirs, str) else ' '.join(theirs)}".rstrip()
    return {name: value for name, value in args.items() if name not in url.query} | {"options": options}


def _judge(context: sa.engine.ExceptionContext) -> None:
    """A session that cannot serve us any more is a lost connection, whatever the driver thinks of it."""
    state = getattr(context.original_exception, "sqlstate", None)
    if state is not None and (state in _USELESS or state.startswith("08")):
        context.is_disconnect = True


@contextlib.contextmanager
def unhurried(connection: sa.Connection) -> Iterator[None]:
    """Let this transaction take its time: tables that change, a node that waits while another changes them."""
    driver: Any = connection.connection.driver_connection
    for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(sa.text(f"SET LOCAL {name} = 0"))
    patience, driver.patience = driver.patience, None
    try:
        yield
    finally:
        driver.patience = patience
