"""Pages: whom, as what, in which round, by which channel, and what came of each. Who was paged is asked here.

A page is also a row of the outbox while it is carried out; this table keeps what it was, however long ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from panicmail.incident.model import Effect, EffectKind, Incident, PagedPerson, State
from panicmail.incident.storm_rules import PageDigest
from panicmail.incident.tasks import page_channels
from panicmail.store.blocked_adapters import BlockedAdapters
from panicmail.store.queries import UNHELD, Queries, TransactionContext, free, insert_or_not
from panicmail.store.rows import DeliveryState, OutboxRow, outbox_row_of
from panicmail.store.tables import digest_pages, digests, outbox, pages, paging_mailboxes

#: The channel of a page that goes by mail; any other is the id of a push channel.
MAIL = "mail"
#: The channel of a page that went out without the database: nothing of ours carries it out.
NONE = ""
#: So many people are told from unreachable in one tick.
DECIDED_AT_ONCE = 500
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


def _first_pages() -> sa.Select[Any]:
    """The first page of each person for each of the incidents `ids`, with when they were first and last paged."""
    c = pages.c
    theirs = [c.incident_id, c.person]
    at = c.queued_at.type
    query = (
        sa.select(
            c.id,
            c.incident_id,
            c.person,
            c.role,
            c.round,
            sa.func.min(c.queued_at, type_=at).over(partition_by=theirs).label("at"),
            sa.func.max(c.queued_at, type_=at).over(partition_by=theirs).label("last_at"),
            sa.func.row_number().over(partition_by=theirs, order_by=c.id).label("number"),
        )
        .where(c.incident_id.in_(sa.bindparam("ids", expanding=True)))
        .subquery()
    )
    return sa.select(query).where(query.c.number == 1).order_by(query.c.id)


#: Built once: whoever loads an incident asks it.
_FIRST_PAGES = _first_pages()


class Pages(Queries):
    """Statements about pages."""

    def __init__(self, context: TransactionContext, adapters: BlockedAdapters) -> None:
        super().__init__(context)
        self._adapters = adapters

    def paged(self, incident_ids: Sequence[str]) -> dict[str, dict[str, PagedPerson]]:
        """Incident -> person -> how they were paged, in the order of their first pages."""
        found: dict[str, dict[str, PagedPerson]] = {}
        for some in _in_batches(incident_ids):
            for row in self._connection.execute(_FIRST_PAGES, {"ids": some}):
                person = PagedPerson(role=row.role, round=row.round, at=row.at, last_at=row.last_at)
                found.setdefault(row.incident_id, {})[row.person] = person
        return found

    def add(self, before: Incident | None, after: Incident, effects: Iterable[Effect]) -> None:
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
                rows.append(_row(after, person, replace(paged, round=after.round), NONE))
        if rows:
            insert = insert_or_not(pages, is_sqlite=self._is_sqlite)
            named = ["incident_id", "person", "round", "channel"]
            self._connection.execute(insert.on_conflict_do_nothing(index_elements=named), rows)
            mailed = sorted({row["person"] for row in rows if row["channel"] == MAIL})
            note_paging(self._connection, mailed, after.mailbox or after.id, self.now)
        for person in after.away.keys() - (before.away.keys() if before else ()):
            self._decide(after.id, pages.c.person == person)
        if before is not None and before.state is not after.state:
            is_open = after.state is State.OPEN
            self._connection.execute(pages.update().where(pages.c.incident_id == after.id).values(is_open=is_open))

    def _page_channels(self, effect: Effect) -> list[str]:
        return [MAIL, *page_channels(effect.person, effect.facts.get("word"), self._channels)]

    def _page(self, incident: Incident, effect: Effect, channel: str) -> dict[str, Any]:
        person, facts = effect.person or "", effect.facts
        before = incident.paged.get(person)
        at = before.last_at if before else self.now
        paged = PagedPerson(role=str(facts.get("role", "")), round=int(facts["round"]), at=at, last_at=at)
        return _row(incident, person, paged, channel)

    def _move_pages(self, incident: Incident, person: str, before: PagedPerson, after: PagedPerson) -> None:
        """The clock was put back: no page of theirs is later than the last, nor the first one than it was."""
        c = pages.c
        theirs = sa.and_(c.incident_id == incident.id, c.person == person)
        for at, where in (
            (after.last_at, c.queued_at > after.last_at),
            (after.at, c.queued_at == sa.literal(before.at, c.queued_at.type)),
        ):
            self._connection.execute(pages.update().where(theirs, where).values(queued_at=at))

    def ended(self, task: OutboxRow, *, accepted: bool, answer: str) -> None:
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

    def decide(self, task: OutboxRow) -> None:
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

    def open_for(self, person: str, besides: str | None, limit: int | None) -> list[str]:
        """Open incidents that `person` was paged for, the latest paged first; `limit` None: all of them."""
        c = pages.c
        query = sa.select(c.incident_id).where(c.person == person, IS_OPEN)
        if besides is not None:
            query = query.where(c.incident_id != besides)
        query = query.order_by(c.queued_at.desc()).limit(None if limit is None else limit * _ROWS_EACH)
        return list(dict.fromkeys(self._connection.execute(query).scalars()))[:limit]

    def has_another_way(self, task: OutboxRow) -> bool:
        """As `has_a_way`, this row left out."""
        return self._has_a_way(task, outbox.c.id != task.id)

    def has_a_way(self, task: OutboxRow) -> bool:
        """Whether this page, or another of the same round to the same person, was accepted, or is on its way and not
        held up by an adapter that lets nothing through."""
        return self._has_a_way(task, sa.true())

    def _has_a_way(self, task: OutboxRow, which: sa.ColumnElement[bool]) -> bool:
        c = outbox.c
        same = sa.and_(c.incident_id == task.incident_id, c.person == task.person, c.do == task.do, which)
        on_its_way = sa.and_(
            c.state.in_([DeliveryState.QUEUED.value, DeliveryState.TRYING.value]), ~self._adapters.is_held()
        )
        alive = sa.or_(on_its_way, c.state == DeliveryState.ACCEPTED.value)
        rows = self._connection.execute(sa.select(outbox).where(same, alive))
        return any(row.facts.get("round") == task.facts.get("round") for row in rows)

    def took_a_later(self, task: OutboxRow) -> bool:
        """Whether a page of a later round to the same person was accepted, by whatever channel."""
        c = outbox.c
        same = sa.and_(c.incident_id == task.incident_id, c.person == task.person, c.do == EffectKind.PAGE.value)
        rows = self._connection.execute(sa.select(outbox).where(same, c.state == DeliveryState.ACCEPTED.value))
        return any(row.facts.get("round", 0) > task.facts.get("round", 0) for row in rows)

    def bounced(self, incident_id: str, person: str, answer: str, round_: int = 0) -> OutboxRow | None:
        """A page to `person` by mail came back: it counts as failed. None when there is no such page.

        Args:
            round_: Of the page; 0: the latest that was accepted.
        """
        c = outbox.c
        sent = sa.and_(
            c.incident_id == incident_id, c.person == person, c.do == EffectKind.PAGE.value, c.lane == "page"
        )
        rows = [
            outbox_row_of(row) for row in self._connection.execute(sa.select(outbox).where(sent).order_by(c.id.desc()))
        ]
        meant = [r for r in rows if (r.facts.get("round") == round_ if round_ else r.state is DeliveryState.ACCEPTED)]
        page = next(iter(meant), None)
        if page is not None and page.state is DeliveryState.ACCEPTED:
            failed = outbox.update().where(c.id == page.id).values(state=DeliveryState.FAILED.value, answer=answer)
            self._connection.execute(failed)
            self.ended(page, accepted=False, answer=answer)
        return page

    def void(self, incident: Incident) -> None:
        unsent = sa.and_(
            outbox.c.incident_id == incident.id,
            outbox.c.do == EffectKind.PAGE.value,
            outbox.c.state.in_([DeliveryState.QUEUED.value, DeliveryState.TRYING.value]),
            free(outbox.c.lease_until, self.now),
        )
        voided = {"state": DeliveryState.VOID.value, "done_at": self.now, **UNHELD}
        self._connection.execute(outbox.update().where(unsent).values(voided))
        self._decide(incident.id, sa.true())

    def undelivered(self, after: timedelta) -> list[OutboxRow]:
        """Pages of which it is to be decided whether they reach their person, and that nobody takes: not within `after`
        of their queueing, failed for good, or held up by an adapter that lets nothing through."""
        c, page = outbox.c, pages.c
        is_late = sa.or_(c.queued_at <= self.now - after, self._adapters.is_held())
        stale = sa.and_(c.state.in_([DeliveryState.QUEUED.value, DeliveryState.TRYING.value]), is_late)
        query = (
            sa.select(outbox)
            .join_from(pages, outbox, c.key == KEY)
            .where(IS_UNDECIDED, sa.or_(stale, c.state == DeliveryState.FAILED.value))
            .order_by(page.queued_at, page.id)
            .limit(DECIDED_AT_ONCE)
        )
        return [outbox_row_of(row) for row in self._connection.execute(query)]


def _row(incident: Incident, person: str, paged: PagedPerson, channel: str) -> dict[str, Any]:
    return {
        "incident_id": incident.id,
        "person": person,
        "role": paged.role,
        "round": paged.round,
        "channel": channel,
        "queued_at": paged.last_at,
        "answer": "",
        "is_open": incident.state is State.OPEN,
        "undecided": channel != NONE,
    }


def _in_batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return iter([names[at : at + AT_ONCE] for at in range(0, len(names), AT_ONCE)])


# -- Digests of pages: when there is to be one, and which pages each one held.

#: So long ago was, as far as the next one goes, a digest that it need not wait for.
_LONG_AGO = timedelta(days=1)


@cache
def _noting(*, is_sqlite: bool) -> Any:
    """Built once: every page asks it."""
    adding = insert_or_not(paging_mailboxes, is_sqlite=is_sqlite)
    return adding.on_conflict_do_update(index_elements=["person", "mailbox"], set_={"last_at": adding.excluded.last_at})


def note_paging(connection: sa.Connection, people: Sequence[str], mailbox: str, at: datetime) -> None:
    """These people are paged by a mailbox; in the order of their names: two nodes must not wait for each other."""
    if people:
        rows = [{"person": person, "mailbox": mailbox, "last_at": at} for person in people]
        connection.execute(_noting(is_sqlite=connection.dialect.name == "sqlite"), rows)


class PageDigests(Queries):
    """Statements about digests."""

    def add(self, digest: PageDigest) -> None:
        """Write a digest down; one of the same pages is sent again."""
        c = digests.c
        again = digests.update().where(c.id == digest.id).values(made_at=digest.made_at)
        if self._connection.execute(again).rowcount:
            return
        row = {"id": digest.id, "person": digest.person, "channel": digest.channel, "made_at": digest.made_at}
        self._connection.execute(digests.insert().values(row))
        held = [
            {"digest_id": digest.id, "number": number, "incident_id": incident_id, "round": round_}
            for number, (incident_id, round_) in enumerate(digest.pages)
        ]
        self._connection.execute(digest_pages.insert(), held)

    def let_the_next_go(self, digest: PageDigest) -> None:
        """The next one need not wait because of this: it was not sent, or had no room for all."""
        sooner = digest.made_at - _LONG_AGO
        self._connection.execute(digests.update().where(digests.c.id == digest.id).values(made_at=sooner))

    def get(self, digest_id: str) -> PageDigest | None:
        row = self._connection.execute(sa.select(digests).where(digests.c.id == digest_id)).one_or_none()
        if row is None:
            return None
        c = digest_pages.c
        query = sa.select(c.incident_id, c.round).where(c.digest_id == digest_id).order_by(c.number)
        held = tuple((each.incident_id, each.round) for each in self._connection.execute(query))
        return PageDigest(id=row.id, person=row.person, channel=row.channel, made_at=row.made_at, pages=held)

    def last_at(self, person: str, channel: str) -> datetime | None:
        """When the latest digest to a person by a channel was made."""
        c = digests.c
        query = sa.select(c.made_at).where(c.person == person, c.channel == channel)
        return self._connection.execute(query.order_by(c.made_at.desc()).limit(1)).scalar_one_or_none()

    def mailboxes_of(self, person: str, since: datetime, most: int) -> int:
        """How many different mailboxes paged `person` since; it counts to `most`."""
        c = paging_mailboxes.c
        found = sa.select(c.mailbox).where(c.person == person, c.last_at > since).limit(most).subquery()
        return int(self._connection.execute(sa.select(sa.func.count()).select_from(found)).scalar_one())
