"""What is to be done in the world, row by row, and what came of it.

A row is claimed by one conditional UPDATE, with a lease, its attempt counted before the network is touched; what came
of it is written only for that attempt. Rows are never deleted while they matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from panicmail.incident.model import Effect, EffectKind, Incident, PageReason
from panicmail.incident.push_channel import PAGERDUTY
from panicmail.store.blocked_adapters import Heard, adapter_name, adapter_of
from panicmail.store.pages import IS_UNDECIDED, KEY, PageQueries
from panicmail.store.queries import UNHELD, free
from panicmail.store.rows import OVER, DeliveryState, OutboxRow, outbox_row_of
from panicmail.store.tables import outbox, pages

#: Which thread carries out which kind of effect.
LANES = {
    EffectKind.PAGE: "page",
    EffectKind.TELL: "mail",
    EffectKind.RECEIPT: "mail",
    EffectKind.NEWS: "mail",
    EffectKind.OPERATORS: "mail",
    EffectKind.LIST: "mail",
    EffectKind.PROVEN: "mail",
    EffectKind.ISSUE: "gitlab",
    EffectKind.FILES: "gitlab",
    EffectKind.AMEND: "gitlab",
    EffectKind.MIRROR: "gitlab",
    EffectKind.TWINS: "gitlab",
    EffectKind.CONFIDE: "gitlab",
}
#: A claimed row whose attempt never reported back is free again after this long: twice the slowest adapter.
LEASE = {
    "page": timedelta(seconds=60),
    "push": timedelta(seconds=40),
    "mail": timedelta(seconds=60),
    "gitlab": timedelta(seconds=240),
}
#: What goes to people's phones too, and the thread that carries it there.
PUSHED = frozenset({EffectKind.PAGE, EffectKind.TELL, EffectKind.OPERATORS})
PUSH = "push"
#: So many people are told from unreachable in one tick.
DECIDED_AT_ONCE = 500
#: The receipt waits this long for the issue's link, then goes without.
RECEIPT_WAITS = timedelta(seconds=10)
#: Of what the operators are told about an incident, how the log names it.
ALARMS = {"nobody_on_call": "oncall.nobody", "nobody_left": "oncall.nobody_left"}
#: Every lane rows of the outbox stand in. What goes to phones is beside the lanes of the effects.
ALL_LANES = tuple(sorted({*LANES.values(), PUSH}))


class OutboxQueries(PageQueries):
    """Statements about the rows of the outbox."""

    def _add_effects(self, incident: Incident, effects: Iterable[Effect]) -> None:
        for effect in effects:
            key = f"{incident.id}/{effect.key}"
            after, until = self._predecessor(incident, effect.do)
            if effect.do is EffectKind.NEWS and after is None:
                continue  # the reporter had no receipt, so she gets no news either
            if effect.do is EffectKind.OPERATORS:
                self._alarm(incident, effect)
                self.tell_operators(str(effect.facts["cause"]), effect.facts, incident_id=incident.id)
                continue
            self._add_task(incident.id, LANES[effect.do], effect.do.value, key, effect.person, effect.facts,
                           after=after, until=until)  # fmt: skip
            self._add_pushes(incident.id, effect.do, key, effect.person, effect.facts)

    def _alarm(self, incident: Incident, effect: Effect) -> None:
        """Say in the log what the operators are told of an incident, once for each and not once an hour."""
        cause = str(effect.facts["cause"])
        about = {"ref": incident.ref, "incident": incident.id, "people": sorted(incident.paged)}
        self.alarmed.append((ALARMS.get(cause, cause), {**about, **effect.facts, "operators": list(self._operators)}))

    def _add_pushes(
        self, incident_id: str | None, do: EffectKind, key: str, person: str | None, facts: Mapping[str, Any]
    ) -> None:
        """The same to her phone, by every channel she has, none waiting for another."""
        is_pushed = do in PUSHED and facts.get("word") != PageReason.STATUS
        for channel in self._channels(person) if person and is_pushed else ():
            if do is EffectKind.TELL and channel.startswith(PAGERDUTY):
                continue  # it follows the incident by itself: `_add_mirror`
            told = {**facts, "channel": channel}
            self._add_task(incident_id, PUSH, do.value, f"{key}/{channel}", person, told)

    def _predecessor(self, incident: Incident, do: EffectKind) -> tuple[str | None, datetime | None]:
        """Which row must be over first, and how long to wait for it (None: as long as it takes)."""
        if do in {EffectKind.FILES, EffectKind.AMEND, EffectKind.MIRROR}:
            return f"{incident.id}/issue", None
        if do is EffectKind.RECEIPT:
            return f"{incident.id}/issue", self.now + RECEIPT_WAITS
        if do is EffectKind.NEWS:
            receipt = f"{incident.id}/receipt"
            return (receipt, None) if self.task(receipt) else (None, None)
        return None, None

    def tell_operators(
        self, cause: str, facts: Mapping[str, Any], *, incident_id: str | None = None, rings: bool = True
    ) -> None:
        """Tell the operators that panicmail needs help: once per cause and hour.

        Args:
            rings: It goes to their phones too.
        """
        hour = self.now.strftime("%Y%m%d%H")
        for person in self._operators:
            key, told = f"operators/{cause}/{hour}/{person}", {"at": self.now.isoformat(), **facts, "cause": cause}
            self._add_task(incident_id, LANES[EffectKind.OPERATORS], EffectKind.OPERATORS.value, key, person, told)
            if rings:
                self._add_pushes(incident_id, EffectKind.OPERATORS, key, person, told)

    def add_list(self, person: str, day: str) -> None:
        """Tell `person` what is open or held, once a day."""
        self._add_task(
            None, LANES[EffectKind.LIST], EffectKind.LIST.value, _list_key(person, day), person, {"day": day}
        )

    def has_list(self, person: str, day: str) -> bool:
        return self.task(_list_key(person, day)) is not None

    def told_operators(self, cause: str, since: datetime) -> bool:
        """Whether the operators were told of this cause since then."""
        hours = [since + timedelta(hours=n) for n in range(int((self.now - since) / timedelta(hours=1)) + 2)]
        keys = [f"operators/{cause}/{at:%Y%m%d%H}/{person}" for at in hours for person in self._operators]
        query = sa.select(sa.exists().where(outbox.c.key.in_(keys), outbox.c.queued_at > since))
        return bool(self._connection.execute(query).scalar_one())

    def tell(self, incident: Incident, person: str, key: str, facts: Mapping[str, Any]) -> None:
        """Answer `person` about an incident; the same `key` once."""
        key = f"{incident.id}/tell/{key}/{person}"
        self._add_task(incident.id, LANES[EffectKind.TELL], EffectKind.TELL.value, key, person, facts)
        self._add_pushes(incident.id, EffectKind.TELL, key, person, facts)

    def _add_task(
        self,
        incident_id: str | None,
        lane: str,
        do: str,
        key: str,
        person: str | None,
        facts: Mapping[str, Any],
        *,
        after: str | None = None,
        until: datetime | None = None,
        due_at: datetime | None = None,
    ) -> None:
        if self.task(key) is not None:
            return
        before = self.task(after) if after else None
        row = {"incident_id": incident_id, "lane": lane, "do": do, "key": key, "person": person, "facts": dict(facts),
               "after_id": before.id if before else None, "after_until": until, "state": DeliveryState.QUEUED.value,
               "attempt": 0, "queued_at": self.now, "due_at": due_at or self.now, "answer": "",
               "adapter": adapter_name(lane, person, facts)}  # fmt: skip
        # Two nodes may want the same key at once: one of them writes it, the other finds it done.
        insert = postgresql.insert(outbox) if not self._is_sqlite else sqlite.insert(outbox)
        self._connection.execute(insert.values(row).on_conflict_do_nothing(index_elements=["key"]))
        self.woken.add(lane)

    def task(self, key: str) -> OutboxRow | None:
        row = self._connection.execute(sa.select(outbox).where(outbox.c.key == key)).one_or_none()
        return outbox_row_of(row) if row else None

    def tasks_of(self, incident_id: str) -> list[OutboxRow]:
        query = sa.select(outbox).where(outbox.c.incident_id == incident_id).order_by(outbox.c.id)
        return [outbox_row_of(row) for row in self._connection.execute(query)]

    def claim(self, lane: str, limit: int, lease: timedelta) -> list[OutboxRow]:
        """Rows of `lane` that can be carried out now, ours for `lease`; their attempt is counted before it is made."""
        c = outbox.c
        barred = self._begin_probes(lane)
        before = outbox.alias("before")
        over = sa.exists().where(before.c.id == c.after_id, before.c.state.in_([s.value for s in OVER]))
        ready = sa.and_(
            c.lane == lane,
            c.done_at.is_(None),
            c.due_at <= self.now,
            self._may_claim(outbox),
            sa.or_(c.after_id.is_(None), over, c.after_until <= self.now),
            ~self._is_held(),
        )
        due = sa.select(outbox).where(ready).order_by(c.id).limit(limit).with_for_update(skip_locked=True)
        tasks = self._one_probe([outbox_row_of(row) for row in self._connection.execute(due).all()], barred)
        if tasks:
            claim = outbox.update().where(c.id.in_([task.id for task in tasks]))
            self._connection.execute(
                claim.values(
                    state=DeliveryState.TRYING.value,
                    attempt=c.attempt + 1,
                    **self._leased(lease),
                    unsure_at=self.now,
                )
            )
        return [replace(task, state=DeliveryState.TRYING, attempt=task.attempt + 1) for task in tasks]

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
        on_its_way = sa.and_(c.state.in_([DeliveryState.QUEUED.value, DeliveryState.TRYING.value]), ~self._is_held())
        alive = sa.or_(on_its_way, c.state == DeliveryState.ACCEPTED.value)
        rows = self._connection.execute(sa.select(outbox).where(same, alive))
        return any(row.facts.get("round") == task.facts.get("round") for row in rows)

    def refused_pushes(self) -> list[OutboxRow]:
        """Of each person's channels that refused a push and took none since, the last one they refused."""
        c = outbox.c
        latest = sa.func.row_number().over(
            partition_by=[c.person, c.facts["channel"].as_string()],
            order_by=[sa.func.coalesce(c.done_at, c.due_at).desc(), c.id.desc()],
        )
        is_barred = sa.and_(c.barred.is_not(None), c.state == DeliveryState.TRYING.value)
        heard = sa.and_(
            c.lane == PUSH, sa.or_(c.state.in_([DeliveryState.ACCEPTED.value, DeliveryState.FAILED.value]), is_barred)
        )
        last = sa.select(outbox, latest.label("latest")).where(heard).subquery()
        refused = last.c.state != DeliveryState.ACCEPTED.value
        query = sa.select(last).where(last.c.latest == 1, refused).order_by(last.c.id)
        return [outbox_row_of(row) for row in self._connection.execute(query)]

    def took_a_later_page(self, task: OutboxRow) -> bool:
        """Whether a page of a later round to the same person was accepted, by whatever channel."""
        c = outbox.c
        same = sa.and_(c.incident_id == task.incident_id, c.person == task.person, c.do == EffectKind.PAGE.value)
        rows = self._connection.execute(sa.select(outbox).where(same, c.state == DeliveryState.ACCEPTED.value))
        return any(row.facts.get("round", 0) > task.facts.get("round", 0) for row in rows)

    def bounced(self, incident_id: str, person: str, answer: str, round_: int = 0) -> OutboxRow | None:
        """Her page by mail came back: it counts as failed. None when there is no such page.

        Args:
            round_: Of the page; 0: the latest that was accepted.
        """
        c = outbox.c
        hers = sa.and_(
            c.incident_id == incident_id, c.person == person, c.do == EffectKind.PAGE.value, c.lane == "page"
        )
        rows = [
            outbox_row_of(row) for row in self._connection.execute(sa.select(outbox).where(hers).order_by(c.id.desc()))
        ]
        meant = [r for r in rows if (r.facts.get("round") == round_ if round_ else r.state is DeliveryState.ACCEPTED)]
        page = next(iter(meant), None)
        if page is not None and page.state is DeliveryState.ACCEPTED:
            failed = outbox.update().where(c.id == page.id).values(state=DeliveryState.FAILED.value, answer=answer)
            self._connection.execute(failed)
            self._page_ended(page, accepted=False, answer=answer)
        return page

    def is_mine(self, task: OutboxRow) -> bool:
        """Whether this attempt still counts and its lease still runs. Ask right before acting: whoever claimed it may
        have been frozen meanwhile, or cut off and taken for dead."""
        still = sa.and_(_counts(task), outbox.c.lease_until > self.now)
        return bool(self._connection.execute(sa.select(sa.exists().where(still))).scalar_one())

    def settle(self, task: OutboxRow, state: DeliveryState, answer: str) -> bool:
        """Write what came of this attempt; False when another attempt has taken over and this one no longer counts."""
        closed = self._close(task, state=state.value, done_at=self.now, answer=answer, **UNHELD)
        if closed and task.do == EffectKind.PAGE and state in {DeliveryState.ACCEPTED, DeliveryState.FAILED}:
            self._page_ended(task, accepted=state is DeliveryState.ACCEPTED, answer=answer)
        if closed and state in {
            DeliveryState.ACCEPTED,
            DeliveryState.FAILED,
        }:  # it was listened to, whatever it was told
            self._works(task)
        elif closed:
            self._probe_with_another(task)
        return closed

    def put_off(
        self, task: OutboxRow, until: datetime, answer: str, *, sure: bool, heard: Heard = Heard.NOT_SURELY
    ) -> bool:
        """This attempt failed: try again at `until`. False as for `settle`.

        Args:
            sure: This attempt had no effect, so what is unsure stays what it was before it. Otherwise the next attempt
                is told that this one may have had its effect.
            heard: What it says of the row's adapter.
        """
        values: dict[str, Any] = {"due_at": until, "answer": answer, **UNHELD}
        if sure:
            values["unsure_at"] = task.unsure_at
        if heard is Heard.NO_TELLING:
            values["barred"] = None
        closed = self._close(task, **values)
        if closed and heard is Heard.YES:
            self._works(task)
        elif closed and heard is Heard.NO_TELLING:
            self._probe_with_another(task)
        elif closed:
            self._probe_at(task, until)
        return closed

    def _works(self, task: OutboxRow) -> None:
        """The adapter of `task` listened: if it was barred, what waits goes, and the operators hear that it is over."""
        if not self._free(task):
            return
        kind = adapter_of(task).partition("/")[0]
        c, pending = outbox.c, [DeliveryState.QUEUED.value, DeliveryState.TRYING.value]
        begun = c.key.startswith(f"operators/{kind}_barred/", autoescape=True)
        waiting = sa.and_(
            c.do == EffectKind.OPERATORS.value, c.state.in_(pending), free(c.lease_until, self.now), begun
        )
        over = {"state": DeliveryState.VOID.value, "done_at": self.now, "answer": "it works again", **UNHELD}
        self._connection.execute(outbox.update().where(waiting).values(over))
        about = {"person": task.person} if task.lane == PUSH else {}
        self.tell_operators(f"{kind}_works", about, rings=False)

    def _close(self, task: OutboxRow, **values: Any) -> bool:
        closed = self._connection.execute(outbox.update().where(_counts(task)).values(**values)).rowcount == 1
        if closed and values.get("state"):
            followers = sa.select(outbox.c.lane).where(outbox.c.after_id == task.id)
            self.woken.update(self._connection.execute(followers).scalars())
        return closed

    def _void_pages(self, incident: Incident) -> None:
        unsent = sa.and_(
            outbox.c.incident_id == incident.id,
            outbox.c.do == EffectKind.PAGE.value,
            outbox.c.state.in_([DeliveryState.QUEUED.value, DeliveryState.TRYING.value]),
            free(outbox.c.lease_until, self.now),
        )
        voided = {"state": DeliveryState.VOID.value, "done_at": self.now, **UNHELD}
        self._connection.execute(outbox.update().where(unsent).values(voided))
        self._decide(incident.id, sa.true())

    def undelivered_pages(self, after: timedelta) -> list[OutboxRow]:
        """Pages of which it is to be decided whether they reach their person, and that nobody takes: not within `after`
        of their queueing, failed for good, or held up by an adapter that lets nothing through."""
        c, page = outbox.c, pages.c
        is_late = sa.or_(c.queued_at <= self.now - after, self._is_held())
        stale = sa.and_(c.state.in_([DeliveryState.QUEUED.value, DeliveryState.TRYING.value]), is_late)
        query = (
            sa.select(outbox)
            .join_from(pages, outbox, c.key == KEY)
            .where(IS_UNDECIDED, sa.or_(stale, c.state == DeliveryState.FAILED.value))
            .order_by(page.queued_at, page.id)
            .limit(DECIDED_AT_ONCE)
        )
        return [outbox_row_of(row) for row in self._connection.execute(query)]


def _list_key(person: str, day: str) -> str:
    return f"list/{day}/{person}"


def _counts(task: OutboxRow) -> sa.ColumnElement[bool]:
    """No other attempt was made since, and nothing ended the row."""
    return sa.and_(
        outbox.c.id == task.id, outbox.c.attempt == task.attempt, outbox.c.state == DeliveryState.TRYING.value
    )
