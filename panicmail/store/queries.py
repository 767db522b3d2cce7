"""What every statement needs: the transaction, its instant, and what is announced after its commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa

from panicmail.store.writer import HandedWork

T = TypeVar("T")


def insert_or_not(table: sa.Table, *, is_sqlite: bool) -> Any:
    """An insert of the database's own kind, which can say what becomes of a row that is there already. Each kind is
    imported when it is wanted: that of PostgreSQL brings every driver there is."""
    if is_sqlite:
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


class Prepared:
    """A statement without result, compiled once and given to SQLite's driver: a tenth of what it costs by way of
    SQLAlchemy. On PostgreSQL it goes that way, for the network takes longer.

    Raises on SQLite what the driver raises.
    """

    def __init__(self, statement: sa.Insert | sa.Update) -> None:
        self._statement = statement
        self._text = ""
        self._parameters: list[tuple[str, Any, Callable[[Any], Any] | None]] = []

    def run(self, connection: sa.Connection, values: Mapping[str, Any]) -> None:
        """Execute it with a value for each of its parameters but those it has values for."""
        if connection.dialect.name != "sqlite":
            connection.execute(self._statement, values)
            return
        if not self._text:
            self._compile(connection.dialect)
        given = (values.get(name, default) for name, default, _ in self._parameters)
        bound = [ready(each) if ready else each for each, (_, _, ready) in zip(given, self._parameters, strict=True)]
        driver: Any = connection.connection.driver_connection
        driver.execute(self._text, bound)

    def _compile(self, dialect: sa.Dialect) -> None:
        compiled: Any = self._statement.compile(dialect=dialect)
        for name in compiled.positiontup:
            kind = compiled.binds[name].type.dialect_impl(dialect)
            self._parameters.append((name, compiled.params[name], kind.bind_processor(dialect)))
        self._text = compiled.string  # last: other threads go by it


class Conflict(Exception):  # noqa: N818 - never leaves the room
    """Somebody else changed the incident since it was read; the work runs again on what is there now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionContext:
    """One open transaction. What is collected in `woken`, `handed`, `logged` and `alarmed` is announced after its
    commit."""

    connection: sa.Connection
    now: datetime  #: the same instant throughout
    is_sqlite: bool
    operators: Sequence[str]  #: who hears that panicmail needs help
    channels: Callable[[str], Sequence[str]] = lambda person: ()  #: the ids of the push channels of a person
    owner: str | None = None  #: the node and thread it claims for; None where one daemon has the database to itself
    woken: set[str] = field(default_factory=set)  #: lanes that got work; "mails" when a mail was accepted
    handed: HandedWork = field(default_factory=HandedWork)  #: what of that work is claimed for somebody already
    known: dict[Any, Any] | None = None  #: what a reading one has looked up; None: it writes, and looks each time
    logged: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    alarmed: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  #: as warnings: a rule may wait for them


class Queries:
    """The statements about one noun, in one transaction."""

    def __init__(self, context: TransactionContext) -> None:
        self._connection, self.now = context.connection, context.now
        self._is_sqlite, self._owner = context.is_sqlite, context.owner
        self._operators, self._channels = context.operators, context.channels
        self._woken, self._logged, self._alarmed = context.woken, context.logged, context.alarmed
        self._handed, self._known = context.handed, context.known

    def _once(self, asked: tuple[str, str], ask: Callable[[], T]) -> T:
        """What `ask` answers; asked once in a transaction that only reads, which is one picture."""
        if self._known is None:
            return ask()
        if asked not in self._known:
            self._known[asked] = ask()
        found: T = self._known[asked]
        return found

    def _allow(self, seconds: int) -> None:
        """Let the statements that follow in this transaction take so long. On SQLite nothing ends them anyway."""
        if not self._is_sqlite:
            self._connection.execute(sa.text(f"SET LOCAL statement_timeout = '{seconds}s'"))

    def _leased(self, lease: timedelta, owner: str | None = None) -> dict[str, Any]:
        """The columns of a lease that begins now; of this thread, unless for another `owner`."""
        return {"lease_until": self.now + lease, "lease_by": owner or self._owner}

    def _may_claim(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Nobody's, no longer somebody's, or left over from this very thread, which does one thing at a time.

        What it was doing has failed with the database away, or a claim was committed and its answer lost.
        """
        unheld = free(table.c.lease_until, self.now)
        return unheld if self._owner is None else sa.or_(unheld, table.c.lease_by == self._owner)


#: The columns of a row that nobody holds.
UNHELD: Mapping[str, None] = {"lease_until": None, "lease_by": None}


def free(lease_until: sa.Column[Any], now: datetime) -> sa.ColumnElement[bool]:
    """Nobody's, or no longer."""
    return sa.or_(lease_until.is_(None), lease_until <= now)
