"""What test pages proved, and what the daily re-check found: `panicmail check` writes and reads it.

A proof is about one channel of one person. A channel is named by what it leads to (its key in `push_channel`), so a new
address or URL has proved nothing yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from panicmail.incident.tasks import proven_task
from panicmail.store.outbox import OutboxQueue
from panicmail.store.queries import Queries, TransactionContext
from panicmail.store.rows import AcceptedMail
from panicmail.store.tables import drills, findings, proofs


class ProofKind(StrEnum):
    """What is known of a channel by a test page."""

    ASKED = "asked"  #: the test page is about to be sent
    TAKEN = "taken"  #: the relay or the provider took it
    REFUSED = "refused"  #: it did not
    DELIVERED = "delivered"  #: it reached them: they answered it
    REPLY = "reply"  #: their answer would have acknowledged a page
    FAILED = "failed"  #: it bounced, a machine answered, or their answer would not have counted


#: The channel, and the fact, by which it is on record that what replies proved is asked for no more.
FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One thing that was proved, or that failed to be."""

    test: str
    person: str
    channel: str
    what: ProofKind
    how: str
    at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something the daily re-check told the operators, and that is not mended yet."""

    name: str
    verdict: str  #: "warning" or "failed"
    found: str
    since_at: datetime
    told_at: datetime


class ChannelProofs(Queries):
    """Statements about proofs."""

    def __init__(self, context: TransactionContext, queue: OutboxQueue) -> None:
        super().__init__(context)
        self._queue = queue

    def prove(self, test: str, person: str, channel: str, what: ProofKind, how: str, **facts: Any) -> None:
        row = {"test": test, "person": person, "channel": channel, "what": what.value, "how": how, "at": self.now,
               "facts": facts}  # fmt: skip
        self._connection.execute(proofs.insert().values(row))

    def of_test(self, test: str) -> list[Proof]:
        """What one test page came to so far, in order."""
        return self._proofs(proofs.c.test == test)

    def latest(self) -> list[Proof]:
        """The latest of each kind for every channel, oldest first."""
        c = proofs.c
        latest = sa.select(sa.func.max(c.id)).group_by(c.person, c.channel, c.what)
        return self._proofs(c.id.in_(latest))

    def _proofs(self, where: sa.ColumnElement[bool]) -> list[Proof]:
        query = sa.select(*(c for c in proofs.c if c.name != "id")).where(where).order_by(proofs.c.id)
        return [Proof(**{**row._mapping, "what": ProofKind(row.what)}) for row in self._connection.execute(query)]

    def proved_of(self, person: str) -> str:
        """The domain that proved the latest of a person's answers to a test page that was proved; "" for none."""
        c = proofs.c
        query = sa.select(c.facts).where(c.person == person, c.what == ProofKind.REPLY.value)
        found = self._connection.execute(query.order_by(c.id.desc()).limit(20)).scalars()
        return next(
            (str(facts.get("proved") or "") for facts in found if facts.get("proved") or FORGOTTEN in facts), ""
        )

    def forget_proof(self, person: str, how: str) -> str:
        """Ask nothing of a person's replies any more that they once proved; answers what it was. It stays on record."""
        proved = self.proved_of(person)
        if proved:
            self.prove("", person, FORGOTTEN, ProofKind.REPLY, how, **{FORGOTTEN: proved})
        return proved

    def answer_test(self, person: str, key: str, facts: Mapping[str, Any]) -> None:
        """Answer `person` about their test page; the same `key` once."""
        self._queue.add([proven_task(person, key, facts)])


class Findings(Queries):
    """Statements about findings."""

    def all(self) -> list[Finding]:
        query = sa.select(findings).order_by(findings.c.since_at, findings.c.name)
        return [Finding(**row._mapping) for row in self._connection.execute(query)]

    def keep(self, finding: Finding) -> None:
        """Remember it, in place of what was remembered under its name."""
        self.forget(finding.name)
        self._connection.execute(findings.insert().values(asdict(finding)))

    def forget(self, name: str) -> None:
        self._connection.execute(findings.delete().where(findings.c.name == name))


# -- Codes that make a mail a drill: each for one mail, and for a while. Of a code only its digest is kept.


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
