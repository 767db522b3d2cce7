"""The tick: takes every step whose time has come.

Its times are columns of the incidents, so whoever ticks next, after whatever happened, finds what is due. It reads
the store only. One incident that cannot be moved does not hold up the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import Any

import structlog

from panicmail.incident import storm_rules, transitions
from panicmail.incident.escalation_policy import UNDELIVERED
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.storm_rules import Storm
from panicmail.incident.tasks import PUSH
from panicmail.incident.transitions import ShiftChange
from panicmail.mail.parse import report_json
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.oncall.schedules import Schedules
from panicmail.store.rows import AcceptedMail, DeliveryState, OutboxRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()


class EscalationTick:
    """Moves incidents as time passes."""

    def __init__(self, store: Store, settings: CurrentSettings) -> None:
        self._store = store
        self._settings = settings
        self._storms = StormNews(store)
        self._people: frozenset[str] | None = None  #: none of them has left while they had something

    def tick(self, on_progress: Callable[[], None] = lambda: None) -> int:
        """Take what is due now; answers how many incidents moved.

        `on_progress` is called after each incident: a tick with many to move takes its time, and is alive.

        Raises:
            StoreFailed: The database could not be asked at all.
        """
        moved = self._release(on_progress)
        due, silent = self._store.read(self._read_due)
        changes = self._store.change_many("tick.move", [incident.id for incident in due], self._pass_time)
        for incident, change in zip(due, changes, strict=True):
            moved += self._moved(incident, change.result, on_progress)
            on_progress()
        for task in silent:
            self._give_up_on(task)
            on_progress()
        self._storms.tell_due(on_progress)
        return moved

    def _release(self, on_progress: Callable[[], None]) -> int:
        """What somebody had who is no longer in the configuration is nobody's. Asked at the start and after a reload.

        Answers how many incidents moved. While there is one left, it is asked again.
        """
        people = frozenset(self._settings().people)
        if people == self._people:
            return 0
        held = self._store.read(lambda tx: tx.search.held_by_others(people))
        moved = 0
        for incident in held:
            _log.warning("holder.gone", ref=incident.ref, person=incident.holder)
            moved += self._move(incident, self._holder_gone, on_progress)
            on_progress()
        self._people = people if not held else None
        return moved

    def _read_due(self, tx: Transaction) -> tuple[list[Incident], list[OutboxRow]]:
        settings = self._settings()
        undelivered = [
            task
            for task in tx.pages.undelivered(_shortest(settings))
            if _reaches(tx, settings, tx.incidents.get(task.incident_id or ""), task) is not Reach.UNKNOWN
        ]
        return tx.search.due_incidents(), undelivered

    def _move(
        self, incident: Incident, change: Callable[[Incident, datetime], Change], on_progress: Callable[[], None]
    ) -> bool:
        return self._moved(incident, lambda: self._store.change("tick.move", incident.id, change), on_progress)

    def _moved(self, incident: Incident, change: Callable[[], Change | None], on_progress: Callable[[], None]) -> bool:
        try:
            return change() is not None
        except Exception as exc:  # the next tick finds it still due; the others must not wait for it
            _log.exception("escalation.failed", ref=incident.ref)
            on_progress()  # a locked database lets each write wait
            facts = {"ref": incident.ref, "error": type(exc).__name__}
            self._store.write(
                "tick.alarm",
                lambda tx: tx.queue.tell_operators("escalation_failed", facts, incident_id=incident.id),
            )
            return False

    def _pass_time(self, incident: Incident, now: datetime) -> Change:
        settings = self._settings()
        if not transitions.is_due(incident, now):  # another node took it meanwhile
            return unchanged(incident, Outcome.ALREADY)
        daytime = settings.daytime_of(incident.holder or "")
        return transitions.pass_time(incident, settings.duty(incident, now), daytime)

    def _holder_gone(self, incident: Incident, now: datetime) -> Change:
        settings = self._settings()
        return transitions.holder_gone(incident, settings.people, settings.duty(incident, now))

    def _give_up_on(self, task: OutboxRow) -> None:
        """Nothing took the page: its person is unreachable, once per incident."""
        server = "phone" if task.lane == PUSH else "mail server"
        why = f"their {server} refused the page" if task.state is DeliveryState.FAILED else UNDELIVERED
        try:
            self._store.write("tick.unreachable", lambda tx: self._unreachable(tx, task, why))
        except Exception:  # found again by the next tick
            _log.exception("escalation.failed", incident=task.incident_id)

    def _unreachable(self, tx: Transaction, task: OutboxRow, why: str) -> None:
        incident = tx.incidents.get(task.incident_id or "")
        settings = self._settings()
        match _reaches(tx, settings, incident, task):
            case Reach.UNKNOWN:
                return
            case Reach.NOT if incident is not None:
                tx.incidents.apply(
                    incident, transitions.unreachable(incident, task.person or "", why, settings.duty(incident, tx.now))
                )
        tx.pages.decide(task)


class Reach(Enum):
    """Whether a page reaches its person."""

    UNKNOWN = auto()  #: it may still be taken, or another one
    NOT = auto()  #: nothing took it, and that is news
    NO_MATTER = auto()  #: they were reached, are passed over anyway, or nobody waits for them any more


def _reaches(tx: Transaction, settings: RuntimeSettings, incident: Incident | None, task: OutboxRow) -> Reach:
    """Whether nothing panicmail sent this person about this incident was taken, and that is news: it is open, or they
    were called for its silent holder."""
    person = task.person or ""
    if incident is None or person in incident.away:
        return Reach.NO_MATTER
    is_called = transitions.is_called_for_silent(incident, person)
    if incident.state is not State.OPEN and not is_called:
        return Reach.NO_MATTER
    is_young = tx.now - task.queued_at < settings.policy_of(incident).undelivered_after
    if (is_young or task.state is DeliveryState.FAILED) and tx.pages.has_a_way(task):  # which is tried, or took it
        return Reach.UNKNOWN
    since = task.facts["round"] if is_called else 0  # what they took while it was open does not tell of this
    return Reach.NO_MATTER if tx.pages.has_taken(incident.id, person, since) else Reach.NOT


def _shortest(settings: RuntimeSettings) -> timedelta:
    return min(policy.undelivered_after for policy in settings.policies.values())


# -- What joined a storm: told on its issue every five minutes and to whoever has it, sooner what is unlike the rest.

#: So many mails unlike the others are shown, and so many of all are named.
_SHOWN, _NAMED = 10, 50
#: So much of each is shown, in characters.
_SUBJECT, _TEXT = 200, 600


class StormNews:
    """Tells of storms as they grow."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def tell_due(self, on_progress: Callable[[], None] = lambda: None) -> None:
        """Tell what is due now. One storm that cannot be told does not hold up the others."""
        if not self._store.read(lambda tx: tx.storms.is_any_due()):
            return
        for incident_id in self._store.read(lambda tx: tx.storms.due()):
            try:
                self._store.write("tick.move", partial(_tell, incident_id=incident_id))
            except Exception:  # found again by the next tick
                _log.exception("storm.untold", incident=incident_id)
            on_progress()


def _tell(tx: Transaction, *, incident_id: str) -> None:
    incident, storm = tx.incidents.get(incident_id), tx.storms.locked(incident_id)
    if incident is None or storm is None or not storm_rules.is_due(storm, tx.now):
        return  # another node did
    listeners = storm_rules.hears(incident)
    facts: dict[str, Any] = {
        "what": "storm", "sender": incident.reporter_address, "count": storm.members - storm.told,
        "members": storm.members, "at": tx.now.isoformat(),
    }  # fmt: skip
    entries = () if storm.members == storm.told else (_entry(tx, incident, storm, facts),)
    effects: tuple[Effect, ...] = ()
    if listeners:
        unlike, number = tx.storms.tell_untold(incident_id, _SHOWN)
        about = {**facts, "unlike": number, "new": [_shown(each) for each in unlike]}
        key = f"tell/storm/{storm.members}/{tx.now:%Y%m%d%H%M%S}"
        effects = tuple(
            Effect(do=EffectKind.TELL, key=f"{key}/{person}", person=person, facts=about) for person in listeners
        )
    tx.incidents.apply(incident, Change(incident=incident, effects=effects, entries=entries))
    told_at = tx.now if listeners else storm.told_at
    tx.storms.keep(replace(storm, told=storm.members, tell_at=None, told_at=told_at))


def _entry(tx: Transaction, incident: Incident, storm: Storm, facts: dict[str, Any]) -> Entry:
    """The line on the issue: how many joined, and each by its time and subject, as far as there is room."""
    count = storm.members - storm.told
    named = [
        {"at": each.accepted_at.isoformat(), "subject": _subject(each)}
        for each in tx.storms.latest_members(incident.id, min(count, _NAMED))
    ]
    return Entry(event="storm.grew", actor="panicmail", facts={**facts, "mails": named})


def _shown(mail: AcceptedMail) -> dict[str, str]:
    text = report_json.from_json(mail.report).text if mail.report else ""
    return {"at": mail.accepted_at.isoformat(), "subject": _subject(mail), "text": text[:_TEXT]}


def _subject(mail: AcceptedMail) -> str:
    return (report_json.from_json(mail.report).subject if mail.report else "")[:_SUBJECT]


# -- Handing over: when a shift ends, whatever is open or held is told to both sides.
#
# Looked at once a minute. When those on call now came on is read from the rosters, and what was told from the
# timeline, so nothing is forgotten over a restart: a change of shift that fell into an outage is told when it is
# over, if it is not older than a day.
#
# Only what a roster itself says counts as a change of shift: other people in `fixed`, by a reload, are none.

#: A change of shift is looked for so far back.
LOOK_BACK = timedelta(days=1)
#: When everybody was told of a change, the incidents are looked through again this much later.
LOOK_AGAIN = timedelta(minutes=15)


class ShiftHandover:
    """Tells both sides of a change of shift what is open or held."""

    def __init__(self, store: Store, settings: CurrentSettings) -> None:
        self._store = store
        self._settings = settings
        self._told: tuple[frozenset[ShiftChange], datetime] = frozenset(), datetime.min.replace(tzinfo=UTC)

    def tell_changes(self) -> int:
        """Tell whatever a change of shift asks for; answers for how many incidents.

        Raises:
            StoreFailed: The database could not be asked.
        """
        concerned = self._store.read(self._concerned)
        return sum(self._tell(incident) for incident in concerned)

    def _concerned(self, tx: Transaction) -> list[Incident]:
        changes, (told, told_at) = self._changes(tx.now), self._told
        if not changes or (changes == told and timedelta() <= tx.now - told_at < LOOK_AGAIN):
            return []
        unresolved = tx.search.list_incidents(states=[State.OPEN, State.ACKED])
        found = [incident for incident in unresolved if self._change(tx, incident).outcome is Outcome.DONE]
        if not found:
            self._told = changes, tx.now
        return found

    def _changes(self, now: datetime) -> frozenset[ShiftChange]:
        """Who came on call lately, in whatever role: without any no incident need be looked at."""
        schedules = self._settings().schedules
        return frozenset(filter(None, (change_of_shift(schedules, role, now) for role in schedules.roles)))

    def _tell(self, incident: Incident) -> bool:
        try:
            self._store.write("tick.move", lambda tx: self._carry_out(tx, incident.id))
        except Exception:  # found again in a minute; the others must not wait for it
            _log.exception("handover.failed", ref=incident.ref)
            return False
        return True

    def _carry_out(self, tx: Transaction, incident_id: str) -> None:
        incident = tx.incidents.get(incident_id)
        if incident is not None:
            tx.incidents.apply(incident, self._change(tx, incident))

    def _change(self, tx: Transaction, incident: Incident) -> Change:
        settings = self._settings()
        policy = settings.policy_of(incident)
        whole = unchanged(incident, Outcome.NOTED)
        for role in transitions.shift_roles(incident, policy):
            change = change_of_shift(settings.schedules, role, tx.now)
            if change is None:
                continue
            next_ = transitions.shift_changed(
                whole.incident, policy, change, tx.timeline.of_incident(incident.id), tx.now
            )
            whole = whole.then(next_) if next_.outcome is Outcome.DONE else whole
        return whole


def change_of_shift(schedules: Schedules, role: str, now: datetime) -> ShiftChange | None:
    """Since when those on call in `role` are; None when they already were a day ago."""
    *earlier, current = schedules.spans(role, now - LOOK_BACK, now + datetime.resolution)
    since = current.start
    for span in reversed(earlier):
        if set(span.people) != set(current.people):
            return ShiftChange(role=role, at=since, people=current.people)
        since = span.start
    return None
