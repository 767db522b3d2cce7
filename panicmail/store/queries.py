"""What every statement needs: the transaction, its instant, and what is announced after its commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa


class Conflict(Exception):  # noqa: N818 - never leaves the room
    """Somebody else changed the incident since it was read; the work runs again on what is there now."""


class Queries:
    """One transaction. `now` is the same instant throughout.

    Args:
        channels: Answers the ids of the push channels of a person.
        owner: The node and thread this transaction claims for; None where one daemon has the database to itself.
    """

    def __init__(
        self,
        connection: sa.Connection,
        now: datetime,
        *,
        is_sqlite: bool,
        operators: Sequence[str],
        channels: Callable[[str], Sequence[str]] = lambda person: (),
        owner: str | None = None,
    ) -> None:
        self._connection = connection
        self._is_sqlite = is_sqlite
        self._operators = operators
        self._channels = channels
        self._owner = owner
        self.now = now
        self.woken: set[str] = set()  #: lanes that got work; "mails" when a mail was accepted
        self.logged: list[tuple[str, dict[str, Any]]] = []  #: said aloud after the commit
        self.alarmed: list[tuple[str, dict[str, Any]]] = []  #: the same, as a warning: somebody's rule may wait for it

    def _allow(self, seconds: int) -> None:
        """Let the statements that follow in this transaction take so long. On SQLite nothing ends them anyway."""
        if not self._is_sqlite:
            self._connection.execute(sa.text(f"SET LOCAL statement_timeout = '{seconds}s'"))

    def _leased(self, lease: timedelta) -> dict[str, Any]:
        """The columns of a lease that begins now."""
        return {"lease_until": self.now + lease, "lease_by": self._owner}

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
