"""The accounting: every 250 is an incident or a note, an issue and a page. What is not is a gap.

Once a minute `reconcile` looks for gaps. What can be put right is, in one transaction with the line of the timeline
that says so; what cannot stays a gap: in the log, in the metrics, in `panicmail incidents --gaps`, with the operators
once an hour, and where panicmail itself does not do its work as a reason not to be ready. Once an hour `sweep` holds
all rows, old ones too, against what must always be true.

Work in progress is no gap. What is written in one transaction is there or missing; everything else has a time:

    a mail is not understood         a minute: a claim nobody finished is free again after 30 s
    no issue yet                     5 minutes: longer than a claim towards GitLab (4 minutes) outlives its node
    nobody took the page             a minute: by then its person counts as unreachable and the policy has gone on
    a step is not taken              30 seconds: the tick comes every second
    a lane stands still              a minute for pages, 5 for pushes and mail, 10 for GitLab: a flood takes its time

After a suspend, an absence of the database or a clock put forward, everything that has a time is overdue at once; so a
reconciler that comes late itself gives the others one more round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog

from panicmail.incident import transitions
from panicmail.incident.escalation_policy import EscalationPolicy
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident
from panicmail.incident.tasks import ALL_LANES, LANES
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.store.gaps import OddRow
from panicmail.store.outbox import LEASE
from panicmail.store.rows import OVER, DeliveryState
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: How far back resolved incidents and understood mails are looked at every minute; the sweep looks at all.
RECENT = timedelta(hours=48)
#: Graces: see above.
UNREAD_AFTER = timedelta(minutes=1)
ISSUE_LATE_AFTER = timedelta(minutes=5)
UNCALLED_AFTER = timedelta(minutes=1)
STEP_LATE_AFTER = timedelta(seconds=30)
STUCK_AFTER = {
    "page": timedelta(minutes=1),
    "push": timedelta(minutes=5),
    "mail": timedelta(minutes=5),
    "gitlab": timedelta(minutes=10),
}
#: A lane nobody thought of above.
STUCK_ELSE = timedelta(minutes=5)
#: No claim is ever made for longer than this.
LONGEST_LEASE = max(LEASE.values()) + timedelta(minutes=1)
#: A reconciler that comes later than this after the last time was itself held up.
HELD_UP = timedelta(seconds=90)


class GapKind(StrEnum):
    """What is missing."""

    UNREAD = "unread"
    UNFILED = "unfiled"
    MISFILED = "misfiled"
    NO_ISSUE = "no_issue"
    ISSUE_GIVEN_UP = "issue_given_up"
    ISSUE_LATE = "issue_late"
    PAGE_LOST = "page_lost"
    UNCALLED = "uncalled"
    STEP_UNSET = "step_unset"
    STEP_LATE = "step_late"
    LANE_STUCK = "lane_stuck"
    WAITS_FOR_NOTHING = "waits_for_nothing"
    HELD_TOO_LONG = "held_too_long"


#: Kind -> what is missing, and the mend, as people are told.
WORDS: Mapping[GapKind, tuple[str, str]] = {
    GapKind.UNREAD: ("accepted, and nothing has understood it", "see the log for worker.failed; restart panicmail"),
    GapKind.UNFILED: ("understood, and no incident has it", "it is taken in again"),
    GapKind.MISFILED: ("the incident and its mail do not name each other", "the mail is filed with it"),
    GapKind.NO_ISSUE: ("no issue was asked for", "it is asked for"),
    GapKind.ISSUE_GIVEN_UP: ("its issue was given up", "open one by hand, and see why in the log"),
    GapKind.ISSUE_LATE: ("no issue yet", "see that GitLab answers; it is tried until it does"),
    GapKind.PAGE_LOST: ("the pages of its step are gone", "the step is paged again"),
    GapKind.UNCALLED: (
        "nobody is being called: every page was refused, or nobody is on call",
        "call somebody yourself",
    ),
    GapKind.STEP_UNSET: ("open without a next step in sight", "the next step is due now"),
    GapKind.STEP_LATE: ("its next step is overdue", "see the log for escalation.failed and tick.failed"),
    GapKind.LANE_STUCK: ("what is due is not being sent", "see the log for dispatch.failed; restart panicmail"),
    GapKind.WAITS_FOR_NOTHING: ("something waits for what is not there", "it waits no longer"),
    GapKind.HELD_TOO_LONG: ("claimed for longer than anything takes", "it is free again"),
}

#: What only takes long when something of ours is broken: with one of these panicmail is not ready.
GRAVE = frozenset({GapKind.UNREAD, GapKind.UNFILED, GapKind.STEP_LATE})
#: What is overdue at once after everything stood still.
_TIMED = frozenset({GapKind.UNREAD, GapKind.ISSUE_LATE, GapKind.UNCALLED, GapKind.STEP_LATE, GapKind.LANE_STUCK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One thing that is missing."""

    kind: GapKind
    about: str  #: the REF, or the lane
    since_at: datetime
    incident_id: str | None = None
    mail_id: str | None = None
    count: int = 1  #: of rows, where it is about a lane

    @property
    def missing(self) -> str:
        """In words."""
        return WORDS[self.kind][0]

    @property
    def mend(self) -> str:
        """What mends it, in words."""
        return WORDS[self.kind][1]

    @property
    def is_grave(self) -> bool:
        """Whether panicmail is not ready while this is so."""
        return self.kind in GRAVE or (self.kind is GapKind.LANE_STUCK and self.about == LANES[EffectKind.PAGE])


def gaps_in(tx: Transaction, policies: Mapping[str, EscalationPolicy]) -> list[Gap]:
    """Every gap there is. Changes nothing."""
    return [_gap(kind, odd) for kind, odds in _find_odd_rows(tx, policies) for odd in odds]


def _gap(kind: GapKind, odd: OddRow) -> Gap:
    return Gap(kind=kind, about=odd.ref or odd.lane, since_at=odd.since_at, incident_id=odd.incident_id,
               mail_id=odd.mail_id, count=odd.count)  # fmt: skip


def _find_odd_rows(tx: Transaction, policies: Mapping[str, EscalationPolicy]) -> Iterable[tuple[GapKind, list[OddRow]]]:
    """In the order in which they are put right: what waits for an issue is looked at when the issue is asked for."""
    now = tx.now
    yield GapKind.UNREAD, tx.gaps.unread_mails(now - UNREAD_AFTER)
    yield GapKind.MISFILED, tx.gaps.misfiled_incidents()
    yield GapKind.UNFILED, tx.gaps.unfiled_mails(now - RECENT)
    yield from _issues(tx)
    yield from _pages(tx)
    yield (
        GapKind.STEP_UNSET,
        tx.gaps.unset_steps({name: one.horizon(now) + STEP_LATE_AFTER for name, one in policies.items()}),
    )
    yield GapKind.STEP_LATE, tx.gaps.late_steps(now - STEP_LATE_AFTER)
    for lane in ALL_LANES:
        yield GapKind.LANE_STUCK, tx.outbox_gaps.stuck_lane(lane, now - STUCK_AFTER.get(lane, STUCK_ELSE))
    yield GapKind.WAITS_FOR_NOTHING, tx.outbox_gaps.waiting_for_nothing()
    yield GapKind.HELD_TOO_LONG, tx.outbox_gaps.held_too_long(now + LONGEST_LEASE)


def _issues(tx: Transaction) -> Iterable[tuple[GapKind, list[OddRow]]]:
    found = tx.gaps.issueless_incidents(tx.now - RECENT)
    yield GapKind.NO_ISSUE, [odd for odd, state in found if state is None]
    yield GapKind.ISSUE_GIVEN_UP, [odd for odd, state in found if state in OVER]
    waiting = [odd for odd, state in found if state in {DeliveryState.QUEUED, DeliveryState.TRYING}]
    yield GapKind.ISSUE_LATE, [odd for odd in waiting if tx.now - odd.since_at > ISSUE_LATE_AFTER]


def _pages(tx: Transaction) -> Iterable[tuple[GapKind, list[OddRow]]]:
    found = tx.gaps.unpaged_incidents()
    yield GapKind.PAGE_LOST, [odd for odd, is_lost in found if is_lost]
    refused = [odd for odd, is_lost in found if not is_lost]
    yield GapKind.UNCALLED, [odd for odd in refused if tx.now - odd.since_at > UNCALLED_AFTER]


# -- putting right


def _understand_again(tx: Transaction, settings: RuntimeSettings, gap: Gap) -> None:
    tx.gaps.mend_unfiled(gap.mail_id or "")


def _file(tx: Transaction, settings: RuntimeSettings, gap: Gap) -> None:
    tx.gaps.mend_misfiled(gap.incident_id or "")


def _ask_for_issue(tx: Transaction, settings: RuntimeSettings, gap: Gap) -> None:
    effects = (Effect(do=EffectKind.ISSUE, key="issue"), Effect(do=EffectKind.FILES, key="files"))
    incident = _incident(tx, gap)
    tx.incidents.apply(incident, Change(incident=incident, effects=effects))


def _page_again(tx: Transaction, settings: RuntimeSettings, gap: Gap) -> None:
    incident = _incident(tx, gap)
    due = replace(incident, next_step_at=tx.now)
    tx.incidents.apply(incident, transitions.take_due_step(due, settings.duty(due, tx.now)))


def _step_now(tx: Transaction, settings: RuntimeSettings, gap: Gap) -> None:
    incident = _incident(tx, gap)
    tx.incidents.apply(incident, Change(incident=replace(incident, next_step_at=tx.now)))


def _wait_no_longer(tx: Transaction, settings: RuntimeSettings, gap: Gap) -> None:
    tx.outbox_gaps.mend_waiting_for_nothing(gap.incident_id or "")


def _set_free(tx: Transaction, settings: RuntimeSettings, gap: Gap) -> None:
    tx.outbox_gaps.mend_held(tx.now + LONGEST_LEASE)


def _incident(tx: Transaction, gap: Gap) -> Incident:
    incident = tx.incidents.get(gap.incident_id or "")
    if incident is None:
        raise LookupError(f"no incident {gap.incident_id}")
    return incident


_REPAIRS: Mapping[GapKind, Callable[[Transaction, RuntimeSettings, Gap], None]] = {
    GapKind.UNFILED: _understand_again,
    GapKind.MISFILED: _file,
    GapKind.NO_ISSUE: _ask_for_issue,
    GapKind.PAGE_LOST: _page_again,
    GapKind.STEP_UNSET: _step_now,
    GapKind.WAITS_FOR_NOTHING: _wait_no_longer,
    GapKind.HELD_TOO_LONG: _set_free,
}


class Reconciler:
    """Finds gaps, mends what can be mended, says the rest aloud. Called by one thread at a time."""

    def __init__(self, store: Store, settings: CurrentSettings) -> None:
        self._store = store
        self._settings = settings
        self._looked_at: datetime | None = None
        self._gaps: tuple[Gap, ...] = ()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What the last round left open."""
        return self._gaps

    def reconcile(self) -> tuple[Gap, ...]:
        """Find gaps and mend what can be mended; answers the others.

        Raises:
            StoreFailed: The database could not be asked; what was found last stands.
        """
        policies = self._settings().policies
        now, found = self._store.read(lambda tx: (tx.now, gaps_in(tx, policies)))
        was_held_up = self._looked_at is not None and now - self._looked_at > HELD_UP
        self._looked_at = now
        counted = [gap for gap in found if not (was_held_up and gap.kind in _TIMED)]
        kinds = dict.fromkeys(gap.kind for gap in counted)
        left = [kind for kind in kinds if not (kind in _REPAIRS and self._repair(kind))]
        before, self._gaps = self._gaps, tuple(gap for gap in counted if gap.kind in left)
        for kind in left:
            self._alarm([gap for gap in self._gaps if gap.kind is kind], before)
        return self._gaps

    def sweep(self) -> Mapping[str, Sequence[str]]:
        """Hold all rows against what must be true; answers the invariants that are broken, with what breaks each.

        Raises:
            StoreFailed: The database could not be asked.
        """
        began = time.monotonic()
        counts, broken, damage = self._store.read(
            lambda tx: (tx.figures.totals(), tx.invariants.violations(), tx.invariants.damage())
        )
        if damage:
            broken["the file of the database is whole"] = damage
        rows = {table: sum(by_state.values()) for table, by_state in counts.items()}
        say = _log.error if broken else _log.info
        say("accounts.swept", **rows, violations=sum(map(len, broken.values())), broken=list(broken),
            seconds=round(time.monotonic() - began, 2))  # fmt: skip
        if broken:
            facts = {invariant: examples[:20] for invariant, examples in broken.items()}
            self._store.write("accounts.repair", lambda tx: tx.queue.tell_operators("invariant_broken", facts))
        return broken

    def _repair(self, kind: GapKind) -> bool:
        """Mend every gap of `kind`, as it is found now; False when that failed."""
        try:
            self._store.write("accounts.repair", lambda tx: self._repair_in(tx, kind))
        except Exception:  # one gap that cannot be mended must not keep the others from it
            _log.exception("accounts.failed", kind=kind.value)
            return False
        return True

    def _repair_in(self, tx: Transaction, kind: GapKind) -> None:
        settings = self._settings()
        gaps = [gap for gap in gaps_in(tx, settings.policies) if gap.kind is kind]
        for gap in gaps:
            _REPAIRS[kind](tx, settings, gap)
            incident = tx.incidents.get(gap.incident_id) if gap.incident_id else None
            if incident is not None:
                facts = {"missing": gap.missing, "done": gap.mend}
                tx.timeline.add(incident, Entry(event="accounts.repaired", actor="panicmail", facts=facts, note=False))
            tx.context.logged.append(("accounts.repaired", {"kind": kind.value, "about": gap.about}))
        if gaps:
            _tell(tx, "gap_mended", gaps)

    def _alarm(self, gaps: list[Gap], before: Iterable[Gap]) -> None:
        """Say gaps of one kind aloud, those that were not there `before` in the log."""
        known = {(gap.kind, gap.about) for gap in before}
        for gap in gaps:
            if (gap.kind, gap.about) not in known:
                _log.error("accounts.gap", kind=gap.kind.value, about=gap.about, since=gap.since_at.isoformat(),
                           missing=gap.missing, count=gap.count)  # fmt: skip
        cause = "gap_left" if gaps[0].kind in _REPAIRS else f"gap_{gaps[0].kind.value}"
        self._store.write("accounts.repair", lambda tx: _tell(tx, cause, gaps))


def _tell(tx: Transaction, cause: str, gaps: list[Gap]) -> None:
    """Tell the operators of gaps of one kind."""
    first = gaps[0]
    facts: dict[str, Any] = {
        "missing": first.missing,
        "what was done" if cause == "gap_mended" else "next": first.mend,
        "since": first.since_at.isoformat(timespec="seconds"),
    }
    if first.incident_id:
        facts["ref"] = first.about
    if len(gaps) > 1 or not first.incident_id:
        facts["about"] = [gap.about for gap in gaps]
    tx.queue.tell_operators(cause, facts, incident_id=first.incident_id)
