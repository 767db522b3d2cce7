"""Pages: whom, as what, in which round, by which channel, and what came of each. Who was paged is asked here.

A page is also a row of the outbox while it is carried out; this table keeps what it was, however long ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from panicmail.incident.model import Effect, EffectKind, Incident, PagedPerson, PageReason, State
from panicmail.store.blocked_adapters import BlockedQueries
from panicmail.store.rows import OutboxRow
from panicmail.store.tables import outbox, pages

#: The channel of a page that goes by mail; any other is the id of a push channel.
MAIL = "mail"
#: The channel of a page that went out without the database: nothing of ours carries it out.
NONE = ""
#: An incident has so many pages, at a guess, among a person's latest.
_ROWS_EACH = 8
#: As the indexes are made, so that they are used.
IS_OPEN, IS_UNDECIDED = sa.text("pages.is_open"), sa.text("pages.undecided")
#: So many incidents' pages are asked for at once.
AT_ONCE = 500


_CHANNEL = sa.case((pages.c.channel == MAIL, ""), else_=sa.literal("/") + pages.c.channel)
_NUMBERED = sa.literal("/page/") + sa.cast(pages.c.round, sa.Text) + sa.literal("/")
#: The key of the row of the outbox that carries a page out.
KEY = pages.c.incident_id + _NUMBERED + pages.c.person + _CHANNEL


def channel_of(task: OutboxRow) -> str:
    """By which channel a row of the outbox pages."""
    return str(task.facts.get("channel", MAIL))


class PageQueries(BlockedQueries):
    """Statements about pages."""

    def _paged(self, incident_ids: Sequence[str]) -> dict[str, dict[str, PagedPerson]]:
        """Incident -> person -> how they were paged, in the order of their first pages."""
        c, found = pages.c, dict[str, dict[str, PagedPerson]]()
        for some in _in_batches(incident_ids):
            query = (
                sa.select(
                    c.incident_id,
                    c.person,
                    sa.func.min(c.id).label("first"),
                    sa.func.min(c.queued_at, type_=c.queued_at.type).label("at"),
                    sa.func.max(c.queued_at, type_=c.queued_at.type).label("last_at"),
                )
                .where(c.incident_id.in_(some))
                .group_by(c.incident_id, c.person)
                .subquery()
            )
            both = sa.select(query, c.role, c.round).join(pages, c.id == query.c.first).order_by(query.c.first)
            for row in self._connection.execute(both):
                person = PagedPerson(role=row.role, round=row.round, at=row.at, last_at=row.last_at)
                found.setdefault(row.incident_id, {})[row.person] = person
        return found

    def _add_pages(self, before: Incident | None, after: Incident, effects: Iterable[Effect]) -> None:
        """Write down whom a change pages, and when people were paged where it moved that."""
        known: Mapping[str, PagedPerson] = before.paged if before else {}
        rows = []
        for effect in effects:
            if effect.do is EffectKind.PAGE and effect.person:
                rows += [self._page(after, effect, channel) for channel in self._page_channels(effect)]
        written = {row["person"] for row in rows}
        for person, paged in after.paged.items():
            if person in written or paged == known.get(person):
                continue
            if person in known and paged.last_at <= known[person].last_at:
                self._move_pages(after, person, known[person], paged)
            else:
                rows.append(_row(after, person, paged.role, after.round, NONE, paged.last_at))
        if rows:
            insert = sqlite.insert(pages) if self._is_sqlite else postgresql.insert(pages)
            named = ["incident_id", "person", "round", "channel"]
            self._connection.execute(insert.on_conflict_do_nothing(index_elements=named), rows)
        for person in after.away.keys() - (before.away.keys() if before else ()):
            self._decide(after.id, pages.c.person == person)
        if before is not None and before.state is not after.state:
            is_open = after.state is State.OPEN
            self._connection.execute(pages.update().where(pages.c.incident_id == after.id).values(is_open=is_open))

    def _page_channels(self, effect: Effect) -> list[str]:
        is_quiet = effect.facts.get("word") == PageReason.STATUS
        return [MAIL, *(() if is_quiet else self._channels(effect.person or ""))]

    def _page(self, incident: Incident, effect: Effect, channel: str) -> dict[str, Any]:
        person, facts = effect.person or "", effect.facts
        paged = incident.paged.get(person)
        queued_at = paged.last_at if paged else self.now
        return _row(incident, person, str(facts.get("role", "")), int(facts["round"]), channel, queued_at)

    def _move_pages(self, incident: Incident, person: str, before: PagedPerson, after: PagedPerson) -> None:
        """The clock was put back: no page of theirs is later than the last, nor the first one than it was."""
        c = pages.c
        theirs = sa.and_(c.incident_id == incident.id, c.person == person)
        for at, where in (
            (after.last_at, c.queued_at > after.last_at),
            (after.at, c.queued_at == sa.literal(before.at, c.queued_at.type)),
        ):
            self._connection.execute(pages.update().where(theirs, where).values(queued_at=at))

    def _page_ended(self, task: OutboxRow, *, accepted: bool, answer: str) -> None:
        """What came of a page that was carried out. One that was taken decides for the person's others too."""
        c = pages.c
        theirs = sa.and_(c.incident_id == task.incident_id, c.person == task.person)
        this = sa.and_(theirs, c.round == task.facts.get("round"), c.channel == channel_of(task))
        ended: dict[str, Any] = {"accepted_at": self.now} if accepted else {"failed_at": self.now}
        self._connection.execute(pages.update().where(this).values(answer=answer, **ended))
        if accepted:
            self._decide(task.incident_id or "", sa.and_(c.person == task.person, c.round <= task.facts.get("round")))
            return
        # What was decided by this page, which was taken and came back, is open again for those on their way.
        on_its_way = sa.exists().where(outbox.c.key == KEY, outbox.c.done_at.is_(None))
        self._connection.execute(pages.update().where(theirs, on_its_way).values(undecided=True))

    def has_taken(self, incident_id: str, person: str, since_round: int) -> bool:
        """Whether a page to `person` of this round or a later one was taken, and did not come back."""
        c = pages.c
        theirs = sa.and_(c.incident_id == incident_id, c.person == person, c.round >= since_round)
        taken = sa.exists().where(theirs, c.accepted_at.is_not(None), c.failed_at.is_(None))
        return bool(self._connection.execute(sa.select(taken)).scalar_one())

    def decide_page(self, task: OutboxRow) -> None:
        """Whether its person can be reached is known, or of no matter any more."""
        this = sa.and_(
            pages.c.person == task.person,
            pages.c.round == task.facts.get("round"),
            pages.c.channel == channel_of(task),
        )
        self._decide(task.incident_id or "", this)

    def _decide(self, incident_id: str, which: sa.ColumnElement[bool]) -> None:
        open_ones = sa.and_(pages.c.incident_id == incident_id, pages.c.undecided.is_(True), which)
        self._connection.execute(pages.update().where(open_ones).values(undecided=False))

    def is_open_for(self, incident_id: str, person: str) -> bool:
        """Whether the incident is open, and `person` was paged for it."""
        c = pages.c
        theirs = sa.exists().where(c.incident_id == incident_id, c.person == person, c.is_open.is_(True))
        return bool(self._connection.execute(sa.select(theirs)).scalar_one())

    def _open_for(self, person: str, besides: str | None, limit: int | None) -> list[str]:
        """Open incidents that `person` was paged for, the latest paged first; `limit` None: all of them."""
        c = pages.c
        query = sa.select(c.incident_id).where(c.person == person, IS_OPEN)
        if besides is not None:
            query = query.where(c.incident_id != besides)
        query = query.order_by(c.queued_at.desc()).limit(None if limit is None else limit * _ROWS_EACH)
        return list(dict.fromkeys(self._connection.execute(query).scalars()))[:limit]


def _row(incident: Incident, person: str, role: str, round_: int, channel: str, queued_at: Any) -> dict[str, Any]:
    return {
        "incident_id": incident.id,
        "person": person,
        "role": role,
        "round": round_,
        "channel": channel,
        "queued_at": queued_at,
        "answer": "",
        "is_open": incident.state is State.OPEN,
        "undecided": channel != NONE,
    }


def _in_batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return iter([names[at : at + AT_ONCE] for at in range(0, len(names), AT_ONCE)])
