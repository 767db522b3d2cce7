"""What every statement needs: the transaction, its instant, and what is announced after its commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa


class Conflict(Exception):  # noqa: N818 - never leaves the room
    """Somebody else changed the incident since it was read; the work runs again on what is there now."""


class Statements:
    """One transaction. `now` is the same instant throughout."""

    def __init__(self, connection: sa.Connection, now: datetime, *, is_sqlite: bool, operators: Sequence[str]) -> None:
        self._connection = connection
        self._is_sqlite = is_sqlite
        self._operators = operators
        self.now = now
        self.woken: set[str] = set()  #: lanes that got work; "mails" when a mail was accepted
        self.logged: list[tuple[str, dict[str, Any]]] = []  #: said aloud after the commit


def free(lease_until: sa.Column[Any], now: datetime) -> sa.ColumnElement[bool]:
    """Nobody's, or no longer."""
    return sa.or_(lease_until.is_(None), lease_until <= now)
