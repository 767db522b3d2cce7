"""The journal as an alert rule reads it: what must wake somebody is an event of its own, with REF and person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.schedulers.background import BackgroundScheduler
from structlog.testing import capture_logs

from panicmail.daemon.periodic import log_skipped_turns
from panicmail.errors import Permanent, Temporary
from panicmail.oncall.schedules import Schedule, Schedules
from tests.office import Office, mail
from tests.program import world


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with closing(Office(tmp_path)) as office:
        yield office


def of(logs: list[Any], event: str) -> list[dict[str, Any]]:
    found = [line for line in logs if line["event"] == event]
    assert {line["log_level"] for line in found} <= {"warning", "error"}, "a rule looks no lower"
    return found


def test_a_breach_is_an_event_with_its_ref_and_who_was_paged(office: Office) -> None:
    incident = office.panic()
    with capture_logs() as logs:
        office.wait(minutes=16)
    (breach,) = of(logs, "sla.breached")
    assert (breach["ref"], breach["people"]) == (incident.ref, ["ana", "max"])


def test_a_person_who_cannot_be_reached_is_an_event_with_ref_person_and_why(office: Office) -> None:
    office.relay.refused["ana@example.com"] = Permanent("550 no such user")
    with capture_logs() as logs:
        incident = office.panic()
        office.wait(seconds=5)
    (unreachable,) = of(logs, "person.unreachable")
    assert (unreachable["ref"], unreachable["person"]) == (incident.ref, "ana")
    assert "refused" in unreachable["why"]
    (refused,) = of(logs, "page.refused")
    assert (refused["ref"], refused["person"]) == (incident.ref, "ana")


def test_nobody_on_call_is_an_event_with_its_ref(tmp_path: Path) -> None:
    with closing(Office(tmp_path, schedules=Schedules({"seoc": Schedule(()), "smoc": Schedule(())}))) as office:
        with capture_logs() as logs:
            incident = office.panic()
            office.wait(minutes=1)
        first, *_ = of(logs, "oncall.nobody")
    assert first["ref"] == incident.ref
    assert first["operators"]


def test_what_is_put_off_names_its_ref_and_person(office: Office) -> None:
    office.relay.failures.append(Temporary("451 try again"))
    with capture_logs() as logs:
        incident = office.panic()
    (late,) = of(logs, "dispatch.put_off")
    assert (late["ref"], late["person"], late["lane"]) == (incident.ref, "ana", "page")


def test_a_turn_that_did_not_take_place_is_an_event_and_no_prose() -> None:
    scheduler = BackgroundScheduler(timezone="UTC")
    log_skipped_turns(scheduler)
    with capture_logs() as logs:
        scheduler._dispatch_event(JobSubmissionEvent(EVENT_JOB_MAX_INSTANCES, "signs", "default", [datetime.now(UTC)]))
    assert [(line["event"], line["job"], line["log_level"]) for line in logs] == [
        ("scheduler.skipped", "signs", "warning")
    ]


def test_a_job_that_still_runs_at_its_next_turn_leaves_one_event_and_nothing_of_the_library(tmp_path: Path) -> None:
    with world(tmp_path) as town:
        town.environ["PANICMAIL_HANG_AT"] = "tick"
        town.expected.add("watchdog.bit")
        program = town.spawn()
        _, facts = program.wait_for("scheduler.skipped", 30)
        assert facts["job"] == "tick"
        assert not [line for line in program.lines if "maximum number of running instances" in line]


def test_a_mail_that_could_only_be_read_by_its_octets_is_told_to_the_operators_with_its_ref(office: Office) -> None:
    office.deliver(mail("text").replace(b"Subject:", b"Content-Type: multipart/mixed; boundary=x\r\nSubject:", 1))
    broken = b"From: Rita <rita@example.com>\r\nSubject: help\r\n" + b"X: y\r\n" * 30_000 + b"\r\nmy files are gone\r\n"
    office.deliver(broken)
    told = [posted for posted in office.relay.sent if posted.subject.startswith("[panicmail] a mail could not be read")]
    assert len(told) == 1
    assert "not parsed" in told[0].text
