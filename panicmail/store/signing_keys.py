"""The keys that tokens are signed with, shared by all nodes."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from panicmail.store.queries import Queries
from panicmail.store.tables import keys


class SigningKeys(Queries):
    """Statements about signing keys."""

    def all(self) -> list[tuple[str, bytes]]:
        """(kid, secret), newest first."""
        query = sa.select(keys.c.kid, keys.c.secret).order_by(keys.c.made_at.desc())
        return [(row.kid, bytes(row.secret)) for row in self._connection.execute(query)]

    def first_at(self) -> datetime | None:
        """When the oldest key that is kept here was made."""
        oldest = sa.func.min(keys.c.made_at, type_=keys.c.made_at.type)
        at: datetime | None = self._connection.execute(sa.select(oldest)).scalar_one()
        return at

    def add(self, kid: str, secret: bytes) -> None:
        self._connection.execute(keys.insert().values(kid=kid, secret=secret, made_at=self.now))
