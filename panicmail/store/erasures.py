"""Erasing what need not be kept any more, and the record of it.

Only what is over: a resolved incident of which nothing is still to be done, read or checked. Never one that is open or
held, and never the one with the newest mail or line: by those an old copy of the database is told (`watermark`).
Octets that were erased are replaced by a sentence, so whoever asks for them reads why they are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from panicmail.incident.model import State
from panicmail.store.queries import Queries
from panicmail.store.tables import (
    digest_pages,
    digests,
    erasures,
    incidents,
    mails,
    outbox,
    pages,
    paging_mailboxes,
    raws,
    storm_kinds,
    storms,
    timeline,
)

#: What stands in place of a mail's octets. No mail that came in by SMTP is as short as this and so long the same.
GONE = b"X-Panicmail: the octets of this mail were erased; panicmail retention says when and by whom.\r\n\r\n"
#: So many incidents are erased in one transaction: senders wait for their 250 meanwhile.
AT_ONCE = 20

_i, _m, _e = incidents.c, mails.c, erasures.c
_newest_mail = sa.select(_m.incident_id).order_by(_m.accepted_at.desc(), _m.id.desc()).limit(1).scalar_subquery()
_newest_line = sa.select(timeline.c.incident_id).order_by(timeline.c.id.desc()).limit(1).scalar_subquery()
#: Whether an incident is over in every respect.
_OVER = sa.and_(
    _i.state == State.RESOLVED.value,
    _i.id.is_distinct_from(_newest_mail),
    _i.id != _newest_line,
    ~sa.exists().where(outbox.c.incident_id == _i.id, outbox.c.done_at.is_(None)),
    ~sa.exists().where(
        _m.incident_id == _i.id, sa.or_(_m.state == "accepted", _m.again_at.is_not(None), _m.sender_at.is_not(None))
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureLine:
    """A line of the record."""

    at: datetime
    what: str  #: planned, raw, incident
    ref: str
    by: str
    facts: dict[str, Any]


class Erasures(Queries):
    """Statements about what is erased."""

    def planned_at(self) -> datetime | None:
        """When it was last looked what is due."""
        newest = sa.func.max(_e.at, type_=_e.at.type)
        at: datetime | None = self._connection.execute(sa.select(newest).where(_e.what == "planned")).scalar_one()
        return at

    def plan(self) -> None:
        self._connection.execute(erasures.delete().where(_e.what == "planned"))
        self._record("planned", "", "retention", {})

    def lines(self, limit: int) -> list[ErasureLine]:
        """The newest of the record first."""
        query = sa.select(erasures).where(_e.what != "planned").order_by(_e.id.desc()).limit(limit)
        return [
            ErasureLine(at=row.at, what=row.what, ref=row.ref, by=row.by, facts=row.facts)
            for row in self._connection.execute(query)
        ]

    def with_raws(self, before: datetime) -> list[tuple[str, str]]:
        """(id, REF) of incidents over since before then whose mails still have their octets, some at a time."""
        whole = sa.exists().where(_m.incident_id == _i.id, raws.c.mail_id == _m.id, _is_whole())
        return self._found(sa.and_(_i.resolved_at < before, whole))

    def over_since(self, before: datetime) -> list[tuple[str, str]]:
        """(id, REF) of incidents over since before then, some at a time."""
        return self._found(_i.resolved_at < before)

    def of_reporter(self, address: str) -> list[tuple[str, str]]:
        """(id, REF) of incidents this address reported, and which are over, some at a time."""
        return self._found(_i.reporter_address == address)

    def kept_of_reporter(self, address: str) -> list[str]:
        """The REFs of what this address reported and is still there."""
        return list(self._connection.execute(sa.select(_i.ref).where(_i.reporter_address == address)).scalars())

    def erase_raws(self, incident_id: str, ref: str, by: str) -> None:
        """Replace the octets of its mails."""
        mine = sa.select(_m.id).where(_m.incident_id == incident_id)
        with_octets = raws.update().where(raws.c.mail_id.in_(mine), _is_whole())
        with_octets = with_octets.values(raw=GONE).returning(raws.c.mail_id)
        self._wipe(on=True)
        erased = sorted(self._connection.execute(with_octets).scalars())
        self._wipe(on=False)
        self._record("raw", ref, by, {"mails": erased})

    def erase_incident(self, incident_id: str, ref: str, by: str) -> None:
        """Delete all there is of it."""
        row = self._connection.execute(sa.select(incidents).where(_i.id == incident_id)).one()
        its_mails = sa.select(_m.id).where(sa.or_(_m.incident_id == incident_id, _m.id == row.mail_id))
        mail_ids = list(self._connection.execute(its_mails).scalars())
        of_digest = sa.select(digest_pages.c.digest_id).where(digest_pages.c.incident_id == incident_id)
        its_digests = list(self._connection.execute(of_digest).scalars())
        self._wipe(on=True)
        for table in (digest_pages, storm_kinds, storms, pages, outbox, timeline):
            self._connection.execute(table.delete().where(table.c.incident_id == incident_id))
        left = sa.exists().where(digest_pages.c.digest_id == digests.c.id)
        self._connection.execute(digests.delete().where(digests.c.id.in_(its_digests), ~left))
        self._connection.execute(raws.delete().where(raws.c.mail_id.in_(mail_ids)))
        self._connection.execute(incidents.delete().where(_i.id == incident_id))
        self._connection.execute(mails.delete().where(_m.id.in_(mail_ids)))
        self._wipe(on=False)
        self._record("incident", ref, by, {"mails": len(mail_ids), "accepted_at": row.accepted_at.isoformat(),
                                           "resolved_at": row.resolved_at.isoformat()})  # fmt: skip

    def forget_mailbox(self, address: str) -> None:
        """What is remembered of a mailbox beside its incidents."""
        c = paging_mailboxes.c
        self._connection.execute(paging_mailboxes.delete().where(c.mailbox.startswith(address, autoescape=True)))

    def _found(self, which: sa.ColumnElement[bool]) -> list[tuple[str, str]]:
        query = sa.select(_i.id, _i.ref).where(_OVER, which).order_by(_i.resolved_at).limit(AT_ONCE)
        return [(row.id, row.ref) for row in self._connection.execute(query)]

    def _record(self, what: str, ref: str, by: str, facts: dict[str, Any]) -> None:
        row = {"at": self.now, "what": what, "ref": ref, "by": by, "facts": facts}
        self._connection.execute(erasures.insert().values(row))
        if what != "planned":
            self._logged.append(("retention.erased", {"what": what, "ref": ref, "by": by}))

    def _wipe(self, *, on: bool) -> None:
        """SQLite leaves what was deleted in its file until it is written over, unless it is told so."""
        if self._is_sqlite:
            self._connection.exec_driver_sql(f"PRAGMA secure_delete = {'ON' if on else 'OFF'}").all()


def _is_whole() -> sa.ColumnElement[bool]:
    return sa.func.length(raws.c.raw) != len(GONE)


def erase(tx_erasures: Erasures, found: Sequence[tuple[str, str]], by: str, *, raws_alone: bool = False) -> int:
    """Erase these, in the transaction that found them; answers how many."""
    for incident_id, ref in found:
        (tx_erasures.erase_raws if raws_alone else tx_erasures.erase_incident)(incident_id, ref, by)
    return len(found)
