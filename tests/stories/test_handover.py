"""A shift ends with something open or held: both sides are told, and the incoming one is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from panicmail.escalation.tick import LOOK_BACK, ShiftHandover, change_of_shift
from panicmail.incident import transitions
from panicmail.incident.model import Incident, Outcome, State
from panicmail.incident.transitions import ShiftChange
from panicmail.oncall.overrides import ScheduleOverride
from panicmail.oncall.schedules import Schedule, Schedules
from tests.cast import MINUTE, POLICY, SECOND, T0, events, opened, paged, told
from tests.office import Office, Posted, mail
from tests.shift_changes import CHANGE, HOUR, look, seoc, shift

ANA_THEN_BO = seoc(shift(0, 2.5, "ana"), shift(2.5, 24, "bo"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path, schedules=ANA_THEN_BO)
    yield office
    office.close()


def held(desk: Office) -> Incident:
    """A panic that Ana has since a minute later."""
    incident = desk.panic()
    desk.now += MINUTE
    desk.reply(desk.page("ana"), "ack")
    return incident


def lines(posted: Posted) -> list[str]:
    return posted.text.splitlines()


# -- held


def test_at_the_end_of_the_shift_the_holder_is_told_who_came_on_and_not_before(desk: Office) -> None:
    incident = held(desk)
    desk.now = CHANGE - SECOND
    assert look(desk) == 0
    desk.now = CHANGE
    assert look(desk) == 1
    mine = desk.sent("ana")[-1]
    assert mine.subject == f"[{incident.ref}] YOUR SHIFT ENDED: Ransom note on my laptop"
    assert lines(mine)[:3] == [
        "Ana: your shift as SEOC ended at 02:30 UTC, and this is still yours.",
        "Bo Low is on call now, and asked to take it. Until somebody does, it stays yours.",
        'Hand over: reply "to bo" once you have told all there is.',
    ]
    assert (desk.incident(incident).state, desk.incident(incident).holder) == (State.ACKED, "ana")


def test_the_incoming_one_is_asked_with_everything_they_need_and_takes_it_by_a_reply(desk: Office) -> None:
    incident = held(desk)
    desk.now = CHANGE
    look(desk)
    (asked,) = desk.sent("bo")
    assert asked.subject == f"[{incident.ref}] FROM THE LAST SHIFT: Ransom note on my laptop"
    assert lines(asked)[0] == 'Bo: Ana Reyes has this, off shift since 02:30 UTC. Reply "take" to make it yours.'
    assert lines(asked)[1] == "Until then Ana has it, since 02:08 UTC."
    assert "Call Ana: +49 151 0" in lines(asked)
    assert "| My files are .locked, Slack is gone." in lines(asked)
    desk.reply(asked, "take")
    assert desk.incident(incident).holder == "bo"
    assert "Bo Low has taken it over from you" in desk.sent("ana")[-1].text


def test_a_change_is_told_once_however_often_it_is_looked_at(desk: Office) -> None:
    incident = held(desk)
    desk.now = CHANGE
    assert look(desk) == 1
    sent = len(desk.relay.sent)
    for _ in range(3):
        desk.now += MINUTE
        assert look(desk) == 0
    assert len(desk.relay.sent) == sent
    assert desk.events(incident).count("shift.changed") == 1
    assert "changed at 2026-11-22 02:30:00 UTC: Bo Low came on. Ana Reyes has it" in desk.gitlab.notes[-1][1]


def test_a_change_that_fell_into_an_outage_is_told_when_it_is_over(desk: Office) -> None:
    held(desk)
    desk.now = CHANGE + 3 * HOUR
    assert look(desk) == 1
    assert "ended at 02:30 UTC" in desk.sent("ana")[-1].text


def test_each_later_shift_is_asked_too_while_it_stays_with_the_first_one(tmp_path: Path) -> None:
    desk = Office(tmp_path, schedules=seoc(shift(0, 2.5, "ana"), shift(2.5, 3, "bo"), shift(3, 24, "max")))
    held(desk)
    for hours in (0.0, 0.5, 1.0):
        desk.now = CHANGE + hours * HOUR
        look(desk)
    assert [posted.subject.partition("] ")[2][:19] for posted in desk.sent("bo") + desk.sent("max")] == [
        "FROM THE LAST SHIFT",
        "FROM THE LAST SHIFT",
    ]
    assert len([posted for posted in desk.sent("ana") if "YOUR SHIFT ENDED" in posted.subject]) == 2
    desk.close()


def test_where_nobody_came_on_the_holder_is_told_that_too(tmp_path: Path) -> None:
    desk = Office(tmp_path, schedules=seoc(shift(0, 2.5, "ana")))
    held(desk)
    desk.now = CHANGE
    look(desk)
    assert lines(desk.sent("ana")[-1])[1] == "Nobody is on call as SEOC now."
    desk.close()


def test_an_override_ends_a_shift_as_well(tmp_path: Path) -> None:
    rest = ScheduleOverride(start=CHANGE, end=CHANGE + HOUR, person="bo")
    desk = Office(tmp_path, schedules=seoc(shift(0, 24, "ana"), overrides=(rest,)))
    held(desk)
    desk.now = CHANGE
    assert look(desk) == 1
    assert len(desk.sent("bo")) == 1
    desk.close()


@pytest.mark.parametrize(
    "schedules",
    [
        seoc(shift(0, 24, "ana")),
        seoc(shift(0, 2.5, "ana"), shift(2.5, 24, "ana")),
        seoc(shift(0, 2.5, "ana"), shift(2.5, 24, "bo", "ana")),
        seoc(shift(0, 24, "ana"), smoc=Schedule(shifts=(shift(0, 2.5, "max"), shift(2.5, 24, "bo")))),
    ],
)
def test_as_long_as_the_holder_is_on_call_nobody_is_told_anything(tmp_path: Path, schedules: Schedules) -> None:
    desk = Office(tmp_path, schedules=schedules)
    held(desk)
    desk.now = CHANGE
    assert look(desk) == 0
    desk.close()


def test_who_took_it_without_being_on_call_has_no_shift_that_could_end(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "to max")
    desk.reply(desk.page("max"), "ack")
    desk.now = CHANGE
    assert look(desk) == 0
    assert desk.incident(incident).holder == "max"


def test_who_is_offered_it_already_is_not_asked_twice(desk: Office) -> None:
    held(desk)
    desk.reply(desk.page("ana"), "to bo")
    desk.now = CHANGE
    look(desk)
    (offered,) = desk.sent("bo")
    assert offered.is_page
    assert "YOUR SHIFT ENDED" in desk.sent("ana")[-1].subject


def test_a_change_from_before_the_acknowledgement_is_no_news(desk: Office) -> None:
    desk.panic()
    page = desk.page("ana")
    desk.now = CHANGE + MINUTE
    desk.reply(page, "ack")
    assert look(desk) == 0


def test_whoever_came_on_before_it_began_is_simply_on_call(desk: Office) -> None:
    desk.now = CHANGE + MINUTE
    desk.panic()
    assert look(desk) == 0
    assert len(desk.pages("bo")) == 1


def test_one_that_cannot_be_told_does_not_hold_up_the_others(desk: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = held(desk), held(desk)
    desk.now = CHANGE
    handover = ShiftHandover(desk.store, lambda: desk.settings)
    carry_out = handover._carry_out

    def broken(tx: object, incident_id: str) -> None:
        if incident_id == second.id:
            raise RuntimeError("a row that cannot be")
        carry_out(tx, incident_id)  # type: ignore[arg-type]

    monkeypatch.setattr(handover, "_carry_out", broken)
    assert handover.tell_changes() == 1
    assert "shift.changed" in desk.events(first)
    monkeypatch.undo()
    assert look(desk) == 1, "and the next look finds it again"


# -- open


def test_who_comes_on_while_it_is_open_is_paged_at_once_and_the_steps_stay(tmp_path: Path) -> None:
    desk = Office(tmp_path, schedules=seoc(shift(0, 2 + 8 / 60, "ana"), shift(2 + 8 / 60, 24, "bo")))
    incident = desk.panic()
    before = desk.incident(incident)
    desk.now = T0 + MINUTE
    assert look(desk) == 1
    now = desk.incident(incident)
    assert (now.step, now.next_step_at, now.sla_at, now.state) == (0, before.next_step_at, before.sla_at, State.OPEN)
    page = desk.page("bo")
    assert page.subject == f"[PANIC {incident.ref}] Ransom note on my laptop"
    assert lines(page)[0] == 'Bo: reply "ack" by 02:22 UTC, or Max (SMOC) is called.'
    assert lines(page)[1] == "Why now: you came on call at 02:08."
    assert lines(desk.sent("ana")[-1])[:2] == [
        "Ana: your shift as SEOC ended at 02:08 UTC. Bo Low is on call now, and called.",
        "Nobody has this yet; you are told when somebody does. Until then your ack still counts.",
    ]
    desk.reply(desk.page("ana"), "ack")
    assert desk.incident(incident).holder == "ana"
    assert "Ana Reyes has it" in desk.sent("bo")[-1].text
    desk.close()


def test_who_comes_on_later_in_the_policy_hears_that_it_is_theirs_now(tmp_path: Path) -> None:
    desk = Office(tmp_path, schedules=seoc(shift(0, 2 + 14 / 60, "ana"), shift(2 + 14 / 60, 24, "bo")))
    incident = desk.panic()
    desk.wait(minutes=7)
    assert look(desk) == 1
    assert desk.incident(incident).step == 1
    assert desk.page("bo").subject == f"[PANIC {incident.ref}] YOURS NOW: Ransom note on my laptop"
    assert lines(desk.page("bo"))[0] == 'Bo: you came on call at 02:14. Reply "ack" so the calling stops.'
    desk.close()


def test_a_step_that_pages_the_new_shift_first_leaves_nothing_to_page(tmp_path: Path) -> None:
    desk = Office(tmp_path, schedules=seoc(shift(0, 2.2, "ana"), shift(2.2, 24, "bo")))
    desk.panic()
    desk.wait(minutes=5)
    assert len(desk.pages("bo")) == 1
    assert look(desk) == 1
    assert len(desk.pages("bo")) == 1
    assert "YOUR SHIFT ENDED" in desk.sent("ana")[-1].subject
    desk.close()


def test_a_shift_of_a_role_that_is_not_called_yet_changes_nothing(tmp_path: Path) -> None:
    smoc = Schedule(shifts=(shift(0, 2.2, "max"), shift(2.2, 24, "bo")))
    desk = Office(tmp_path, schedules=seoc(shift(0, 24, "ana"), smoc=smoc))
    desk.panic()
    desk.now = T0 + 6 * MINUTE
    assert look(desk) == 0
    desk.wait(minutes=9)
    assert len(desk.pages("bo")) == 1
    assert desk.pages("max") == []
    desk.close()


def test_a_reopened_incident_is_its_last_holders_alone_for_its_grace(desk: Office) -> None:
    incident = held(desk)
    desk.reply(desk.page("ana"), "resolve")
    desk.now = CHANGE - MINUTE
    desk.reply(desk.sent("rita@example.com")[0], "it is back!", sender="rita@example.com")
    assert desk.incident(incident).state is State.OPEN
    desk.now = CHANGE
    assert look(desk) == 0
    desk.wait(minutes=5)
    assert len(desk.pages("bo")) == 1


def test_what_is_closed_is_nobodys_shift_any_more(desk: Office) -> None:
    held(desk)
    desk.reply(desk.page("ana"), "resolve")
    desk.deliver(mail("buy", sender="x@y.example", extra="List-Id: <x.y>\nPrecedence: list"), "x@y.example")
    desk.now = CHANGE
    assert look(desk) == 0


# -- the rule


def shift_to(*people: str, role: str = "seoc", at: datetime = T0 + 2 * MINUTE) -> ShiftChange:
    return ShiftChange(role=role, at=at, people=people)


def test_who_said_no_is_not_paged_for_coming_on_and_not_told_of_going() -> None:
    incident = replace(opened().incident, away={"bo": "declined", "ana": "out of office"})
    change = transitions.shift_changed(incident, POLICY, shift_to("bo"), (), T0 + 2 * MINUTE)
    assert (change.outcome, change.incident) == (Outcome.NOTED, incident)
    change = transitions.shift_changed(incident, POLICY, shift_to("bo", "max"), (), T0 + 2 * MINUTE)
    assert (paged(change), told(change, "shift_ended")) == (["max"], [])


def test_a_change_at_the_very_instant_it_opened_is_no_news() -> None:
    at_once = shift_to("bo", at=T0)
    assert transitions.shift_changed(opened().incident, POLICY, at_once, (), T0).outcome is Outcome.NOTED


def test_all_of_the_new_shift_are_paged_in_one_round() -> None:
    first = opened().incident
    change = transitions.shift_changed(first, POLICY, shift_to("bo", "max"), (), T0 + 2 * MINUTE)
    assert paged(change) == ["bo", "max"]
    assert {effect.facts["round"] for effect in change.effects if "round" in effect.facts} == {first.round + 1}
    assert events(change) == ["shift.changed", "people.paged"]
    assert (change.incident.next_step_at, change.incident.step) == (first.next_step_at, first.step)


# -- since when


def test_since_when_those_on_call_are_is_read_from_the_roster() -> None:
    change = change_of_shift(ANA_THEN_BO, "seoc", CHANGE + HOUR)
    assert change == ShiftChange(role="seoc", at=CHANGE, people=("bo",))
    change = change_of_shift(ANA_THEN_BO, "seoc", CHANGE - SECOND)
    assert change is not None
    assert (change.people, change.at) == (("ana",), T0.replace(hour=0, minute=0))


@pytest.mark.parametrize("role", ["smoc", "a role nobody has heard of"])
def test_a_roster_that_always_names_the_same_has_no_shifts(role: str) -> None:
    assert change_of_shift(ANA_THEN_BO, role, T0) is None


def test_the_same_people_in_another_order_or_by_another_source_are_no_change() -> None:
    again = ScheduleOverride(start=T0 - HOUR, end=T0 + HOUR, person="ana")
    schedules = seoc(shift(0, 2, "ana"), shift(2, 24, "ana"), overrides=(again,))
    assert change_of_shift(schedules, "seoc", T0) is None
    pair = seoc(shift(0, 2, "ana", "bo"), shift(2, 24, "bo", "ana"))
    assert change_of_shift(pair, "seoc", T0) is None


def test_a_change_older_than_a_day_is_forgotten() -> None:
    once = seoc(shift(0, 24, "bo"), overrides=(ScheduleOverride(start=T0 - 9 * HOUR, end=T0, person="ana"),))
    assert change_of_shift(once, "seoc", T0 + LOOK_BACK - SECOND) is not None
    assert change_of_shift(once, "seoc", T0 + LOOK_BACK) is None
