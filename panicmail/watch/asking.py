"""The question, and which page answers it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from panicmail.dispatch.lane import report_of
from panicmail.incident import Do, Incident, State
from panicmail.mail.scene import PageSent
from panicmail.policy import Ladder, Who
from panicmail.store.book import Book
from panicmail.store.outbox import PUSH
from panicmail.store.rows import Delivery, Task
from panicmail.triage import Report

_log = structlog.get_logger()

#: After the deadline, so long for the ladder's own page to be taken (a quarter of the SLA if shorter).
GRACE = timedelta(seconds=30)
#: When more than so many incidents are unreached, their reports are not read: a mail that lists them has no room.
_REPORTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An incident that no manager was reached for."""

    incident: Incident
    pages: tuple[PageSent, ...]  #: oldest first
    report: Report


def question(book: Book, ladder: Ladder, who: Who, now: datetime) -> list[Alarm]:
    """Open incidents past their SLA without a confirmed page to a manager, the most overdue first.

    Only reads. Where a daemon without a sign of life is to be an alarm too, this is the place.
    """
    overdue = [i for i in book.list_incidents(states=[State.OPEN]) if _due_at(i, ladder) <= now]
    found = [(incident, _pages_of(book, incident)) for incident in sorted(overdue, key=lambda i: i.sla_at)]
    unreached = [(i, pages) for i, pages in found if not any(_reached(page, i, ladder, who) for page in pages)]
    readable = len(unreached) <= _REPORTS
    return [
        Alarm(
            incident=incident,
            pages=tuple(_page_sent(page) for page in pages),
            report=_report(book, incident) if readable else Report(subject=incident.subject),
        )
        for incident, pages in unreached
    ]


def _due_at(incident: Incident, ladder: Ladder) -> datetime:
    """When a manager must have been reached."""
    return _deadline(incident, ladder) + min(GRACE, ladder.sla / 4)


def _deadline(incident: Incident, ladder: Ladder) -> datetime:
    """The SLA; later where the ladder calls managers later, or where it was opened again after its SLA."""
    calls_at = ladder.step_at(incident.ladder_at, _managers_step(ladder) or ladder.last)
    return max(incident.sla_at, calls_at, incident.opened_at)


def _managers_step(ladder: Ladder) -> int:
    """The first step that calls managers; 0 where the first step calls everybody there is."""
    managers = set(ladder.managers)
    return next(index for index, step in enumerate(ladder.steps) if managers & set(step.page))


def _pages_of(book: Book, incident: Incident) -> list[Task]:
    return [task for task in book.tasks_of(incident.id) if task.do == Do.PAGE]


def _reached(page: Task, incident: Incident, ladder: Ladder, who: Who) -> bool:
    """Whether this page is a confirmed one to a manager, as one she is or was when the step was taken."""
    if page.state is not Delivery.ACCEPTED or page.person in incident.away:
        return False
    if page.queued_at < _counts_since(incident, ladder):
        return False
    role = page.facts.get("role")
    is_on_call = page.person in ladder.people(ladder.managers, who) and role not in ladder.steps[0].page
    return role in ladder.managers or is_on_call


def _counts_since(incident: Incident, ladder: Ladder) -> datetime:
    """From when on a page counts: while it is open.

    A ladder without managers of its own has paged "a manager" with its first page, which says nothing about the last
    minutes before the deadline. There the page that was due in these counts.
    """
    if _managers_step(ladder) > 0:
        return incident.opened_at
    return max(incident.opened_at, _deadline(incident, ladder) - ladder.repeat)


def _page_sent(task: Task) -> PageSent:
    return PageSent(
        person=task.person or "",
        channel="push" if task.lane == PUSH else "mail",
        at=task.queued_at,
        state=task.state.value,
        answer=task.answer,
    )


def _report(book: Book, incident: Incident) -> Report:
    try:
        return report_of(book, incident)
    except Exception:  # a report that cannot be read must not keep the page about it
        _log.exception("watch.report_unreadable", ref=incident.ref)
        return Report(subject=incident.subject)
