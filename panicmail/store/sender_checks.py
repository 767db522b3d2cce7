"""Mails whose sender is to be checked, and what was found."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from panicmail.store.queries import UNHELD, Queries
from panicmail.store.rows import AcceptedMail, mail_of
from panicmail.store.tables import mails

#: Where those who check senders wait for work.
LANE = "senders"
_m = mails.c
_IS_DUE = sa.select(sa.exists().where(_m.sender_at <= sa.bindparam("now", type_=_m.sender_at.type)))


class SenderChecks(Queries):
    """Statements about checks of senders."""

    def ask(self, mail_id: str, at: datetime) -> None:
        """From `at` on its sender is to be checked."""
        self._connection.execute(mails.update().where(_m.id == mail_id).values(sender_at=at))
        self._woken.add(LANE)

    def is_due(self) -> bool:
        """Whether `claim` may find something: no write is begun for nothing."""
        return bool(self._connection.execute(_IS_DUE, {"now": self.now}).scalar_one())

    def claim(self, lease: timedelta) -> AcceptedMail | None:
        """The mail whose turn it is; should nobody finish with it, its turn comes again after `lease`.

        No owner is kept: a check that is made twice finds the same.
        """
        due = (
            sa.select(_m.id).where(_m.sender_at <= self.now).order_by(_m.sender_at).limit(1)
            .with_for_update(skip_locked=True)
        )  # fmt: skip
        found = self._connection.execute(due).scalar_one_or_none()
        if found is None:
            return None
        counted = {"sender_at": self.now + lease, "sender_tries": _m.sender_tries + 1}
        claim = mails.update().where(_m.id == found).values(counted).returning(*_m)
        return mail_of(self._connection.execute(claim).one())

    def keep(self, mail_id: str, proof: str, again_at: datetime | None) -> None:
        """What was found, as `sender_proof.to_json`. One that waits for it is understood now.

        Args:
            again_at: When it is to be checked once more; None: that is all.
        """
        kept = {"sender": proof, "sender_at": again_at}
        self._connection.execute(mails.update().where(_m.id == mail_id).values(kept))
        waits = mails.update().where(
            _m.id == mail_id, _m.state == "accepted", _m.again_at.is_(None), _m.lease_by.is_(None)
        )
        if self._connection.execute(waits.values(**UNHELD)).rowcount:
            self._woken.add("mails")

    def understand_again(self, mail_id: str) -> None:
        """What it asks is decided anew, by what is known of its sender now."""
        again = {"state": "accepted", "shape": None, "attempts": 0, "readings": 0, **UNHELD}
        self._connection.execute(mails.update().where(_m.id == mail_id, _m.state == "understood").values(again))
        self._woken.add("mails")
