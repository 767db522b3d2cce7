"""The keys that tokens are signed with, shared by all nodes.

Every node reads them once a minute. So a new key only verifies for its first `RIPENS`, and signs when every node knows
it: a page whose reply comes in by another node is never a stranger's. A replaced key verifies as long as a page it
signed may be answered.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from panicmail.incident.model import State
from panicmail.store.queries import Queries
from panicmail.store.tables import incidents, keys

#: A key signs so long after it was made; before that every node has read it.
RIPENS = timedelta(minutes=3)
#: What was signed by a replaced key, and belongs to nothing that is open, acts so long.
KEPT = timedelta(days=180)
#: The names keys have, one after the other.
_NAMES = "abcdefghijklmnopqrstuvwxyz0123456789"


class SigningKeys(Queries):
    """Statements about signing keys."""

    def all(self) -> list[tuple[str, bytes]]:
        """(kid, secret): the one that signs, those it replaced, and last one that is not ripe yet."""
        rows = self._connection.execute(sa.select(keys).order_by(keys.c.made_at.desc())).all()
        ripe = [row for row in rows if row.made_at <= self.now - RIPENS]
        unripe = [row for row in reversed(rows) if row not in ripe]
        return [(row.kid, bytes(row.secret)) for row in (*ripe, *unripe)]

    def first_at(self) -> datetime | None:
        """When the oldest key that is kept here was made."""
        oldest = sa.func.min(keys.c.made_at, type_=keys.c.made_at.type)
        at: datetime | None = self._connection.execute(sa.select(oldest)).scalar_one()
        return at

    def add(self, kid: str, secret: bytes) -> None:
        self._connection.execute(keys.insert().values(kid=kid, secret=secret, made_at=self.now))

    def rotate(self, secret: bytes) -> tuple[str, list[str]]:
        """A new key, and those nothing needs any more gone; answers its name and theirs."""
        rows = self._connection.execute(sa.select(keys.c.kid, keys.c.made_at).order_by(keys.c.made_at.desc())).all()
        i = incidents.c
        oldest = sa.select(sa.func.min(i.opened_at, type_=i.opened_at.type)).where(i.state != State.RESOLVED.value)
        needed_from = min(filter(None, (self._connection.execute(oldest).scalar_one(), self.now - KEPT)))
        gone = [old.kid for old, newer in zip(rows[1:], rows, strict=False) if newer.made_at + RIPENS < needed_from]
        if len(rows) - len(gone) == len(_NAMES):  # rotated every few days: the oldest makes room
            gone.append(rows[-1].kid)
        self._connection.execute(keys.delete().where(keys.c.kid.in_(gone)))
        kid = _next_name(rows[0].kid if rows else _NAMES[-1], {row.kid for row in rows} - set(gone))
        self.add(kid, secret)
        return kid, gone

    def void_all_but(self, kid: str) -> list[str]:
        """The others are gone, and this one signs at once; answers which."""
        others = [name for name, _secret in self.all() if name != kid]
        self._connection.execute(keys.delete().where(keys.c.kid.in_(others)))
        self._connection.execute(keys.update().where(keys.c.kid == kid).values(made_at=self.now - RIPENS))
        return others


def _next_name(newest: str, taken: set[str]) -> str:
    at = _NAMES.find(newest) + 1
    return next(name for name in _NAMES[at:] + _NAMES[:at] if name not in taken)
