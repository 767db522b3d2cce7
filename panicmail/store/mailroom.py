"""The mails that got a 250: stored, claimed, understood. A mail is understood once, whoever tries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta

import sqlalchemy as sa

from panicmail.incident import State
from panicmail.store.rows import Mail, mail_of
from panicmail.store.statements import Statements, free
from panicmail.store.tables import incidents, mails, raws


class Mailroom(Statements):
    """Statements about mails."""

    def add_mail(self, mail: Mail, raw: bytes) -> None:
        row = {
            "id": mail.id,
            "accepted_at": mail.accepted_at,
            "mail_from": mail.mail_from,
            "recipients": list(mail.recipients),
            "peer": mail.peer,
            "helo": mail.helo,
            "tls": mail.tls,
            "size": mail.size,
            "state": "accepted",
        }
        self._connection.execute(mails.insert().values(row))
        self._connection.execute(raws.insert().values(mail_id=mail.id, raw=raw))
        self.woken.add("mails")

    def claim_mails(self, limit: int, lease: timedelta) -> list[Mail]:
        """Mails nobody has understood yet, oldest first, ours for `lease`."""
        due = (
            sa.select(mails.c.id)
            .where(mails.c.state == "accepted", free(mails.c.lease_until, self.now))
            .order_by(mails.c.accepted_at, mails.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        claim = (
            mails.update()
            .where(mails.c.id.in_(due), mails.c.state == "accepted", free(mails.c.lease_until, self.now))
            .values(lease_until=self.now + lease, attempts=mails.c.attempts + 1)
            .returning(*mails.c)
        )
        claimed = [mail_of(row) for row in self._connection.execute(claim)]
        return sorted(claimed, key=lambda mail: (mail.accepted_at, mail.id))

    def raw(self, mail_id: str) -> bytes:
        raw: bytes = self._connection.execute(sa.select(raws.c.raw).where(raws.c.mail_id == mail_id)).scalar_one()
        return bytes(raw)

    def mail(self, mail_id: str) -> Mail | None:
        row = self._connection.execute(sa.select(mails).where(mails.c.id == mail_id)).one_or_none()
        return mail_of(row) if row else None

    def mails_of(self, incident_id: str) -> list[Mail]:
        query = sa.select(mails).where(mails.c.incident_id == incident_id).order_by(mails.c.accepted_at)
        return [mail_of(row) for row in self._connection.execute(query)]

    def is_waiting(self, mail_id: str) -> bool:
        """Whether the mail still wants to be understood; False when another did it meanwhile."""
        query = sa.select(mails.c.state).where(mails.c.id == mail_id)
        return self._connection.execute(query).scalar_one_or_none() == "accepted"

    def understood(
        self,
        mail_id: str,
        *,
        shape: str,
        incident_id: str,
        digest: str,
        message_id: str | None,
        report: str,
    ) -> None:
        """Record what a mail was. Belongs in the transaction that does what it asks."""
        self._connection.execute(
            mails.update()
            .where(mails.c.id == mail_id, mails.c.state == "accepted")
            .values(
                state="understood",
                lease_until=None,
                shape=shape,
                incident_id=incident_id,
                digest=digest,
                message_id=message_id,
                report=report,
            )
        )

    def same_mail(self, mail: Mail, digest: str, within: timedelta) -> str | None:
        """The unresolved incident that the very same mail already belongs to, if it came in the last `within`.

        Locks the digest until the end of the transaction, so that two copies understood at once meet.
        """
        if not self._is_sqlite:
            lock = int.from_bytes(hashlib.sha256(digest.encode()).digest()[:8], signed=True)
            self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        query = (
            sa.select(mails.c.incident_id)
            .join(incidents, incidents.c.id == mails.c.incident_id)
            .where(
                mails.c.digest == digest,
                mails.c.id != mail.id,
                mails.c.accepted_at > mail.accepted_at - within,
                incidents.c.state != State.RESOLVED.value,
            )
            .order_by(mails.c.accepted_at)
            .limit(1)
        )
        return self._connection.execute(query).scalar_one_or_none()

    def incident_of_messages(self, message_ids: Iterable[str]) -> str | None:
        """The latest incident that one of these Message-IDs was accepted for."""
        wanted = [m for m in message_ids if m]
        if not wanted:
            return None
        query = (
            sa.select(mails.c.incident_id)
            .where(mails.c.message_id.in_(wanted), mails.c.incident_id.is_not(None))
            .order_by(mails.c.accepted_at.desc())
            .limit(1)
        )
        return self._connection.execute(query).scalar_one_or_none()
