"""Mails that are to be read again: a full reading failed once for a reason of ours."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from panicmail.store.queries import UNHELD, Queries, free
from panicmail.store.rows import AcceptedMail, mail_of
from panicmail.store.tables import mails


class MailReadings(Queries):
    """Statements about readings after the first."""

    def read_again(self, mail: AcceptedMail, at: datetime) -> None:
        """It was read from its octets alone, for a reason of ours: from `at` on it is to be read once more.

        One that is not understood yet waits for that. Belongs in the transaction that writes down what was read.
        """
        ended = 1 if mail.readings else 0  # else it was claimed to be understood, and that is counted as ever
        values = {"again_at": at, "attempts": mails.c.attempts - ended, **UNHELD}
        self._connection.execute(mails.update().where(mails.c.id == mail.id).values(values))
        self._woken.add("again")

    def is_to_be_read(self, *, understood: bool) -> bool:
        """Whether there may be something for `claim_reading`: no write is begun for nothing."""
        c = mails.c
        due = sa.exists().where(c.again_at <= self.now, _state() == ("understood" if understood else "accepted"))
        return bool(self._connection.execute(sa.select(due)).scalar_one())

    def claim_reading(self, lease: timedelta, *, understood: bool) -> AcceptedMail | None:
        """A mail whose time has come to be read again, ours for `lease`; the reading is counted before it begins, and
        so is the attempt, until it ends. None while one is to be understood that was in hand when a process ended.

        Args:
            understood: One that was filed as far as it could be read; else one that waits for being read.
        """
        c = mails.c
        state = "understood" if understood else "accepted"
        left_behind = sa.and_(c.attempts == 1, free(c.lease_until, self.now))
        tried_alone = sa.exists().where(
            c.state == "accepted", c.again_at.is_(None), sa.or_(c.attempts > 1, left_behind)
        )
        if self._connection.execute(sa.select(tried_alone)).scalar_one():
            return None
        due = (
            sa.select(c.id)
            .where(c.again_at <= self.now, _state() == state, self._may_claim(mails))
            .order_by(c.again_at, c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        found = self._connection.execute(due).scalar_one_or_none()
        if found is None:
            return None
        counted = {"readings": c.readings + 1, "attempts": c.attempts + 1}
        claim = mails.update().where(c.id == found).values(**self._leased(lease), **counted)
        return mail_of(self._connection.execute(claim.returning(*c)).one())

    def reread(self, mail_id: str, report: str | None, message_id: str | None = None) -> bool:
        """It is not to be read again; False when another has ended that already.

        Args:
            report: What the last reading made of it; None: no more than the first.
        """
        values = {"report": report, "message_id": message_id} if report is not None else {}
        waits = mails.update().where(mails.c.id == mail_id, mails.c.again_at.is_not(None))
        return self._connection.execute(waits.values(again_at=None, **UNHELD, **values)).rowcount == 1


def _state() -> sa.ColumnElement[str]:
    """The state of a mail as no index has it: by that of the states all history would be gone through, and few mails
    are to be read again."""
    return mails.c.state + ""
