"""Service-level figures: what counts, and as what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from panicmail.escalation import sla_report
from panicmail.escalation.sla_report import SlaFigures
from panicmail.incident import transitions
from panicmail.incident.escalation_policy import Duty
from panicmail.incident.model import Change, Entry, Incident
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from tests.cast import MINUTE, POLICY, SECOND, T0, opened, until, who

TICK = timedelta(microseconds=1)
SLA = POLICY.sla


def acked(after: timedelta, *, at: datetime = T0) -> Incident:
    """An incident Ana acknowledged so long after its acceptance."""
    incident = until(opened(at=at).incident, at + after)
    return transitions.acknowledge(incident, "ana", "", POLICY, at + after).incident


def count(*incidents: Incident, now: datetime = T0 + timedelta(days=1)) -> SlaFigures:
    return sla_report.count(incidents, T0, now, pages=7)


def test_of_nothing_there_is_nothing_to_say() -> None:
    figures = count()
    assert (figures.incidents, figures.judged) == (0, 0)
    assert (figures.attained_percent, figures.seconds_to_ack_p95, figures.seconds_to_ack_max) == (None, None, None)


def test_acknowledged_at_exactly_the_slas_end_is_attained() -> None:
    figures = count(acked(SLA))
    assert (figures.attained, figures.breached, figures.attained_percent) == (1, 0, 100.0)


def test_acknowledged_after_it_is_breached_and_its_time_still_counts() -> None:
    figures = count(acked(SLA + TICK), acked(MINUTE), acked(MINUTE))
    assert (figures.attained, figures.breached, figures.attained_percent) == (2, 1, 66.6)
    assert figures.seconds_to_ack_max == 900.0


@pytest.mark.parametrize(("after", "judged"), [(SLA - TICK, 0), (SLA, 1)])
def test_an_open_incident_is_judged_when_its_sla_is_over_not_before(after: timedelta, judged: int) -> None:
    figures = count(opened().incident, now=T0 + after)
    assert (figures.open, figures.judged, figures.breached, figures.attained) == (1, judged, judged, 0)


def test_a_reopened_incident_counts_its_first_promise() -> None:
    kept = acked(5 * MINUTE)
    closed = transitions.resolve(kept, "ana", "", POLICY, T0 + 20 * MINUTE).incident
    entry = Entry(event="thread.more", actor="rita@example.com")
    again = transitions.more(
        closed,
        transitions.MoreMail(entry=entry, mail_id="m", human=True, thanks=False),
        Duty(POLICY, who, T0 + 60 * MINUTE),
    ).incident
    late = transitions.acknowledge(again, "ana", "", POLICY, T0 + 600 * MINUTE).incident
    assert again.sla_at > T0 + SLA
    for incident in (again, late):
        figures = count(incident)
        assert (figures.attained, figures.seconds_to_ack_max) == (1, 300.0)
    missed = transitions.resolve(acked(SLA + MINUTE), "ana", "", POLICY, T0 + 20 * MINUTE).incident
    reopened = transitions.more(
        missed,
        transitions.MoreMail(entry=entry, mail_id="m", human=True, thanks=False),
        Duty(POLICY, who, T0 + 60 * MINUTE),
    ).incident
    kept_now = transitions.acknowledge(reopened, "ana", "", POLICY, T0 + 61 * MINUTE).incident
    assert count(kept_now).breached == 1


def test_states_pages_and_the_span_are_told_as_they_are() -> None:
    resolved = transitions.resolve(acked(MINUTE), "ana", "", POLICY, T0 + 2 * MINUTE).incident
    figures = count(opened().incident, acked(MINUTE), resolved)
    assert (figures.incidents, figures.open, figures.acked, figures.resolved, figures.pages) == (3, 1, 1, 1, 7)
    assert (figures.since, figures.until) == ("2026-11-22T02:07:00+00:00", "2026-11-23T02:07:00+00:00")


@pytest.mark.parametrize(
    ("n", "p95", "median"), [(1, 1, 1), (2, 2, 1.5), (19, 19, 10), (20, 19, 10.5), (21, 20, 11), (100, 95, 50.5)]
)
def test_p95_is_the_smallest_time_that_holds_for_95_of_100_also_of_few(n: int, p95: float, median: float) -> None:
    figures = count(*(acked(second * SECOND) for second in reversed(range(1, n + 1))))
    assert (figures.seconds_to_ack_p95, figures.seconds_to_ack_median, figures.seconds_to_ack_max) == (p95, median, n)


# -- through the store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(f"sqlite:///{tmp_path / 'panicmail.db'}", clock=lambda: T0 + 10 * MINUTE)
    migrate.upgrade(database)
    store = Store(database)
    yield store
    store.close()
    database.close()


def keep(store: Store, change: Change) -> None:
    incident = change.incident
    mail = AcceptedMail(
        id=incident.mail_id,
        accepted_at=incident.accepted_at,
        mail_from="",
        recipients=(),
        peer="",
        helo="",
        tls="",
        size=0,
    )

    def work(tx: Transaction) -> None:
        tx.mails.add(mail, b"")
        tx.incidents.add(change)

    store.write("test", work)


def test_drills_those_paged_once_and_older_ones_are_left_out(store: Store) -> None:
    drill = opened()
    keep(store, opened())
    keep(store, opened(once=True))
    keep(store, replace(drill, incident=replace(drill.incident, drill=True)))
    keep(store, opened(at=T0 - 80 * MINUTE))
    assert sla_report.figures(store, 20 * MINUTE).incidents == 1
    assert sla_report.figures(store, 90 * MINUTE).incidents == 2
