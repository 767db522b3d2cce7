"""Somebody leaves the configuration while an incident is theirs: it is nobody's, and those on call hear at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from panicmail.escalation.tick import EscalationTick
from panicmail.incident.model import Incident, State
from panicmail.incident.reply_commands import Command
from panicmail.oncall.schedules import Schedule, Schedules
from tests.office import PEOPLE, Office, mail


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.close()


def held(desk: Office, by: str = "ana") -> Incident:
    incident = desk.panic()
    desk.wait(seconds=30)
    desk.act(incident, by, Command.YES)
    assert desk.incident(incident).holder == by
    desk.wait(minutes=1)
    return incident


def reload(desk: Office, without: str = "", seoc: tuple[str, ...] = ("bo",), smoc: tuple[str, ...] = ("max",)) -> None:
    people = {key: person for key, person in PEOPLE.items() if key != without}
    desk.settings = replace(
        desk.settings, people=people, schedules=Schedules({"seoc": Schedule(seoc), "smoc": Schedule(smoc)})
    )


def test_what_a_person_had_who_left_is_open_again_and_those_on_call_are_paged_with_the_next_tick(desk: Office) -> None:
    incident = held(desk)
    before = len(desk.sent("ana"))
    reload(desk, without="ana")
    desk.wait(seconds=1)
    now = desk.incident(incident)
    assert (now.state, now.next_step_at is not None) == (State.OPEN, True)
    page = desk.page("bo")
    assert "ana had it and is no longer in panicmail's configuration" in page.text
    assert any("ana` had it and is no longer in the configuration" in text for _, text, _ in desk.gitlab.notes)
    assert len(desk.sent("ana")) == before, "who left is written to no more"
    desk.reply(page, "ack")
    assert desk.incident(incident).holder == "bo"


def test_the_clock_of_what_is_nobodys_runs_on_to_the_manager(desk: Office) -> None:
    held(desk)
    reload(desk, without="ana")
    desk.wait(seconds=1)
    assert not desk.pages("max")
    desk.wait(minutes=15)
    assert desk.pages("max")


def test_a_later_mail_of_the_reporter_reaches_those_who_were_called_instead(desk: Office) -> None:
    held(desk)
    receipt = desk.sent("rita@example.com")[-1]
    reload(desk, without="ana")
    desk.wait(seconds=1)
    before = len(desk.sent("bo"))
    desk.deliver(mail("It is spreading!", subject=f"Re: {receipt.subject}", in_reply_to=receipt.message_id))
    assert any("It is spreading!" in posted.text for posted in desk.sent("bo")[before:])


def test_a_manager_who_left_is_stood_in_for_by_those_on_call_in_the_same_role(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=16)
    desk.act(incident, "max", Command.YES)
    reload(desk, without="max", seoc=("ana",), smoc=("bo",))
    desk.wait(seconds=1)
    assert desk.pages("bo")
    assert desk.incident(incident).state is State.OPEN


def test_where_nobody_is_on_call_instead_the_operators_are_called(desk: Office) -> None:
    held(desk)
    reload(desk, without="ana", seoc=(), smoc=())
    desk.wait(seconds=1)
    assert desk.pages("max"), "who is an operator"


def test_whoever_is_off_call_and_still_in_the_configuration_keeps_what_they_have(desk: Office) -> None:
    incident = held(desk)
    reload(desk, without="max", smoc=())
    desk.wait(seconds=5)
    assert (desk.incident(incident).state, desk.incident(incident).holder) == (State.ACKED, "ana")


def test_it_is_found_after_a_restart_too_and_once(desk: Office) -> None:
    incident = held(desk)
    reload(desk, without="ana")
    desk.escalation = EscalationTick(desk.store, lambda: desk.settings)
    desk.escalation.tick()
    desk.settle()
    pages = len(desk.pages("bo"))
    assert pages == 1
    for _ in range(3):
        EscalationTick(desk.store, lambda: desk.settings).tick()
    desk.settle()
    assert len(desk.pages("bo")) == pages
    assert desk.events(incident).count("incident.opened_again") == 1


def test_what_was_closed_stays_closed_when_whoever_had_it_leaves(desk: Office) -> None:
    incident = held(desk)
    desk.act(incident, "ana", Command.RESOLVE)
    reload(desk, without="ana")
    desk.wait(seconds=5)
    assert desk.incident(incident).state is State.RESOLVED


def test_an_ended_incident_whose_last_holder_left_calls_those_on_call_at_once_when_it_opens_again(desk: Office) -> None:
    incident = held(desk)
    desk.act(incident, "ana", Command.RESOLVE)
    reload(desk, without="ana")
    receipt = desk.sent("rita@example.com")[-1]
    desk.deliver(mail("It is back!", subject=f"Re: {receipt.subject}", in_reply_to=receipt.message_id))
    assert desk.incident(incident).state is State.OPEN
    assert desk.pages("bo")
