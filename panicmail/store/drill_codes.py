"""Codes that make a mail a drill: each for one mail, and for a while. Of a code only its digest is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from panicmail.store.queries import Queries
from panicmail.store.rows import AcceptedMail
from panicmail.store.tables import drills


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillCode:
    """A code, and the mail that used it."""

    id: int
    made_at: datetime
    expires_at: datetime
    mail_id: str | None  #: None: nobody has used it


class DrillCodes(Queries):
    """Statements about drills."""

    def add(self, digest: str, expires_at: datetime) -> int:
        """Keep the digest of a new code; answers the id of the drill."""
        row = {"digest": digest, "made_at": self.now, "expires_at": expires_at}
        made: int = self._connection.execute(drills.insert().values(row).returning(drills.c.id)).scalar_one()
        return made

    def redeem(self, digests: Iterable[str], mail: AcceptedMail) -> bool:
        """Whether one of these codes makes this mail a drill: known, in time when the mail was accepted, and not used
        by another mail. From now on it is used."""
        c = drills.c
        valid = sa.and_(
            c.digest.in_(list(digests)),
            c.expires_at >= mail.accepted_at,
            sa.or_(c.mail_id.is_(None), c.mail_id == mail.id),
        )
        used = drills.update().where(valid).values(mail_id=mail.id)
        return self._connection.execute(used).rowcount > 0

    def get(self, drill_id: int) -> DrillCode:
        row = self._connection.execute(sa.select(drills).where(drills.c.id == drill_id)).one()
        return DrillCode(**{name: value for name, value in row._mapping.items() if name != "digest"})
