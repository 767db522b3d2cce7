"""The question, and which page answers it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from panicmail.incident.classify import Report
from panicmail.incident.escalation_policy import EscalationPolicy, OnCallAt
from panicmail.incident.model import EffectKind, Incident, State
from panicmail.incident.tasks import PUSH
from panicmail.mail.compose.notice_context import PageSent
from panicmail.mail.incident_report import report_of
from panicmail.store.rows import DeliveryState, OutboxRow
from panicmail.store.transaction import Transaction

_log = structlog.get_logger()

#: After the deadline, so long for the policy's own page to be taken (a quarter of the SLA if shorter).
GRACE = timedelta(seconds=30)
#: When more than so many incidents are unreached, their reports are not read: a mail that lists them has no room.
_REPORTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class UnansweredPanic:
    """An incident that no manager was reached for."""

    incident: Incident
    pages: tuple[PageSent, ...]  #: oldest first
    report: Report


def question(tx: Transaction, policy: EscalationPolicy, who: OnCallAt, now: datetime) -> list[UnansweredPanic]:
    """Open incidents past their SLA without a confirmed page to a manager, the most overdue first.

    Only reads. Where a daemon without a sign of life is to be an alarm too, this is the place.
    """
    overdue = [i for i in tx.search.list_incidents(states=[State.OPEN]) if _due_at(i, policy) <= now]
    found = [(incident, _pages_of(tx, incident)) for incident in sorted(overdue, key=lambda i: i.sla_at)]
    unreached = [(i, pages) for i, pages in found if not any(_reached(page, i, policy, who) for page in pages)]
    readable = len(unreached) <= _REPORTS
    return [
        UnansweredPanic(
            incident=incident,
            pages=tuple(_page_sent(page) for page in pages),
            report=_report(tx, incident) if readable else Report(subject=incident.subject),
        )
        for incident, pages in unreached
    ]


def _due_at(incident: Incident, policy: EscalationPolicy) -> datetime:
    """When a manager must have been reached."""
    return _deadline(incident, policy) + min(GRACE, policy.sla / 4)


def _deadline(incident: Incident, policy: EscalationPolicy) -> datetime:
    """The SLA; later where the policy calls managers later, or where it was opened again after its SLA."""
    calls_at = policy.step_at(incident.steps_from_at, _managers_step(policy) or policy.last)
    return max(incident.sla_at, calls_at, incident.opened_at)


def _managers_step(policy: EscalationPolicy) -> int:
    """The first step that calls managers; 0 where the first step calls everybody there is."""
    managers = set(policy.managers)
    return next(index for index, step in enumerate(policy.steps) if managers & set(step.page))


def _pages_of(tx: Transaction, incident: Incident) -> list[OutboxRow]:
    return [task for task in tx.outbox.of_incident(incident.id) if task.do == EffectKind.PAGE]


def _reached(page: OutboxRow, incident: Incident, policy: EscalationPolicy, who: OnCallAt) -> bool:
    """Whether this page is a confirmed one to a manager: one of today, or of when the step was taken."""
    if page.state is not DeliveryState.ACCEPTED or page.person in incident.away:
        return False
    if page.queued_at < _counts_since(incident, policy):
        return False
    role = page.facts.get("role")
    is_on_call = page.person in policy.people(policy.managers, who) and role not in policy.steps[0].page
    return role in policy.managers or is_on_call


def _counts_since(incident: Incident, policy: EscalationPolicy) -> datetime:
    """From when on a page counts: while it is open.

    A policy without managers of its own has paged "a manager" with its first page, which says nothing about the last
    minutes before the deadline. There the page that was due in these counts.
    """
    if _managers_step(policy) > 0:
        return incident.opened_at
    return max(incident.opened_at, _deadline(incident, policy) - policy.repeat)


def _page_sent(task: OutboxRow) -> PageSent:
    return PageSent(
        person=task.person or "",
        channel="push" if task.lane == PUSH else "mail",
        at=task.queued_at,
        state=task.state.value,
        answer=task.answer,
    )


def _report(tx: Transaction, incident: Incident) -> Report:
    try:
        return report_of(tx, incident)
    except Exception:  # a report that cannot be read must not keep the page about it
        _log.exception("watch.report_unreadable", ref=incident.ref)
        return Report(subject=incident.subject)
