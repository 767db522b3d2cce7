"""The tick: takes every step whose time has come.

Its times are columns of the incidents, so whoever ticks next, after whatever happened, finds what is due. It reads
the store only. One incident that cannot be moved does not hold up the others.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum, auto

import structlog

from panicmail.escalation.storm_news import StormNews
from panicmail.incident import transitions
from panicmail.incident.escalation_policy import UNDELIVERED
from panicmail.incident.model import Change, Incident, Outcome, State, unchanged
from panicmail.incident.tasks import PUSH
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.store.rows import DeliveryState, OutboxRow
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
