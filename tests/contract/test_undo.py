"""The link's two minutes of second thoughts, its expiry, and what a mail scanner that follows it does: nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.daemon.watchdog import Health
from panicmail.errors import Temporary
from panicmail.escalation.sla_report import is_attained
from panicmail.incident import clock_steps, reply_commands, transitions
from panicmail.incident.escalation_policy import Duty, OnCallAt
from panicmail.incident.model import Change, Entry, Incident, Outcome, Owed, PageReason, State
from panicmail.incident.reply_commands import Command
from panicmail.response.incident_links import EXPIRES_AFTER, LinkExpired
from panicmail.server.http import create_app
from panicmail.server.http.backend import LinkBackend
from tests.cast import MINUTE, POLICY, ROSTER, SECOND, T0, events, news, opened, paged, pages, told, until, who
from tests.link_pages import Client, listening
from tests.office import PANIC, Office, Posted, mail

HOW = "by link, not authenticated"


# -- the rule


@dataclass
class Tale:
    """An incident and its timeline, as the store keeps them."""

    incident: Incident
    lines: list[Line] = field(default_factory=list)

    def apply(self, change: Change) -> Change:
        self.incident = replace(change.incident, version=self.incident.version + 1)
        self.lines += [Line(entry.event, entry.actor, entry.facts) for entry in change.entries]
        return change

    def ack(self, person: str, now: datetime, how: str = HOW) -> None:
        """By link, or in another way that cannot be undone."""
        self._press(transitions.acknowledge(self.incident, person, how, POLICY, now), how)

    def take(self, person: str, now: datetime, how: str = HOW) -> None:
        self._press(transitions.take(self.incident, person, how, POLICY, now), how)

    def resolve(self, person: str, now: datetime, how: str = HOW) -> None:
        self._press(transitions.resolve(self.incident, person, how, POLICY, now), how)

    def _press(self, change: Change, how: str) -> None:
        before = self.incident
        self.apply(change)
        kept = transitions.undoable(before, self.incident) if how == HOW else None
        self.lines += [Line(kept.event, kept.actor, kept.facts)] if kept else []

    def undo(self, person: str, now: datetime, missed: Sequence[str] = ()) -> Change:
        return self.apply(
            transitions.undo(self.incident, transitions.Undoing(person=person, how=HOW, missed=missed), self.lines, now)
        )


@dataclass(frozen=True)
class Line:
    event: str
    actor: str | None
    facts: Mapping[str, Any]


def tale(at: datetime = T0, who: OnCallAt = who) -> Tale:
    """A panic accepted at T0, as it stands at `at`."""
    return Tale(until(opened(who=who).incident, at, who=who))


@given(
    after=st.integers(0, 3000),
    thought=st.integers(0, 120),
    away=st.sampled_from([{}, {"ana": "declined"}, {"ana": "out of office", "max": "declined"}]),
    handed_to=st.sampled_from([None, "bo"]),
)
def test_what_was_undone_within_two_minutes_has_never_been(
    after: int, thought: int, away: Mapping[str, str], handed_to: str | None
) -> None:
    acked_at = T0 + after * SECOND
    story = tale(acked_at)
    before = story.incident = replace(story.incident, away=away, handed_to=handed_to)
    story.ack("ana", acked_at)
    change = story.undo("ana", acked_at + thought * SECOND)
    assert before.next_step_at is not None
    due = max(before.next_step_at, acked_at + thought * SECOND)
    assert change.outcome is Outcome.DONE
    assert replace(change.incident, version=0) == replace(before, version=0, holder="ana", next_step_at=due)


def test_who_it_was_stays_on_record_and_the_timeline_has_a_line() -> None:
    story = tale(T0 + MINUTE)
    story.ack("ana", T0 + MINUTE)
    change = story.undo("ana", T0 + 2 * MINUTE)
    assert story.incident.holder == "ana"
    assert events(change) == ["ack.undone", "incident.opened_again"]
    assert (change.entries[0].actor, change.entries[0].facts["how"]) == ("ana", HOW)


def test_the_others_paged_and_the_reporter_are_told_and_nobody_is_paged() -> None:
    story = tale(T0 + 15 * MINUTE)
    story.ack("ana", T0 + 16 * MINUTE)
    change = story.undo("ana", T0 + 17 * MINUTE)
    assert (told(change, "undone"), news(change), paged(change)) == (["max"], ["reopened"], [])


def test_the_step_keeps_its_time_and_one_that_passed_meanwhile_is_due_now() -> None:
    story = tale(T0 + MINUTE)
    story.ack("ana", T0 + MINUTE)
    assert story.undo("ana", T0 + 2 * MINUTE).incident.next_step_at == T0 + 5 * MINUTE
    story.ack("ana", T0 + 4 * MINUTE)
    assert story.undo("ana", T0 + 5 * MINUTE + 30 * SECOND).incident.next_step_at == T0 + 5 * MINUTE + 30 * SECOND


def test_two_minutes_are_in_time_and_an_instant_more_is_too_late() -> None:
    story = tale(T0 + MINUTE)
    story.ack("ana", T0 + MINUTE)
    late = transitions.undo(
        story.incident,
        transitions.Undoing(person="ana", how=HOW, missed=()),
        story.lines,
        T0 + 3 * MINUTE + timedelta(microseconds=1),
    )
    assert (late.outcome, late.incident, late.entries, late.effects) == (Outcome.NOTED, story.incident, (), ())
    assert story.undo("ana", T0 + 3 * MINUTE).outcome is Outcome.DONE


def test_the_button_is_there_as_long_as_it_works() -> None:
    story = tale(T0 + MINUTE)
    assert transitions.undo_until(story.incident, "ana", story.lines, T0 + MINUTE) is None
    story.ack("ana", T0 + MINUTE)
    assert transitions.undo_until(story.incident, "ana", story.lines, T0 + 3 * MINUTE) == T0 + 3 * MINUTE
    assert transitions.undo_until(story.incident, "max", story.lines, T0 + 2 * MINUTE) is None
    assert transitions.undo_until(story.incident, "ana", story.lines, T0 + 3 * MINUTE + SECOND) is None


def test_undone_twice_is_undone_once() -> None:
    story = tale(T0 + MINUTE)
    story.ack("ana", T0 + MINUTE)
    once = story.undo("ana", T0 + 2 * MINUTE).incident
    again = story.undo("ana", T0 + 2 * MINUTE)
    assert (again.outcome, again.effects, again.entries) == (Outcome.ALREADY, (), ())
    assert replace(again.incident, version=once.version) == once


@pytest.mark.parametrize("asker", ["ana", "max"])
def test_it_is_not_undone_when_somebody_else_took_it_since(asker: str) -> None:
    story = tale(T0 + 15 * MINUTE)
    story.ack("ana", T0 + 15 * MINUTE)
    story.apply(transitions.take(story.incident, "max", "reply from max@example.com", POLICY, T0 + 16 * MINUTE))
    assert story.undo(asker, T0 + 16 * MINUTE).outcome is Outcome.ALREADY
    assert (story.incident.state, story.incident.holder) == (State.ACKED, "max")


def test_it_is_not_undone_when_it_was_closed_in_another_way() -> None:
    story = tale(T0 + MINUTE)
    story.ack("ana", T0 + MINUTE)
    story.resolve("ana", T0 + MINUTE, how="reply from ana@example.com")
    change = story.undo("ana", T0 + 2 * MINUTE)
    assert (change.outcome, change.incident.state) == (Outcome.CLOSED, State.RESOLVED)


def test_what_was_not_acknowledged_by_link_cannot_be_undone_by_it() -> None:
    story = tale(T0 + MINUTE)
    story.ack("ana", T0 + MINUTE)
    story.undo("ana", T0 + 2 * MINUTE)
    story.ack("ana", T0 + 2 * MINUTE, how="reply from ana@example.com")
    assert story.undo("ana", T0 + 2 * MINUTE).outcome is Outcome.ALREADY
    assert story.incident.state is State.ACKED


@given(
    word=st.sampled_from(["take", "resolve", "resolve by another", "yes to an offer"]),
    after=st.integers(0, 1800),
    thought=st.integers(0, 120),
    worked=st.booleans(),
    asked=st.booleans(),
)
def test_what_somebody_had_is_theirs_again_as_it_was(
    word: str, after: int, thought: int, worked: bool, asked: bool
) -> None:
    """With every reminder and question at its own time, or now if that has passed meanwhile."""
    story = tale(T0 + 15 * MINUTE)
    story.ack("max", T0 + 15 * MINUTE)
    done_at = T0 + 15 * MINUTE + after * SECOND
    now, had = done_at + thought * SECOND, story.incident
    if worked:
        had = transitions.sign_of_work(had, "max", POLICY, T0 + 15 * MINUTE).incident
    if asked:
        had = said_more(had, T0 + 15 * MINUTE)
    if word == "yes to an offer":
        had = transitions.hand_over(had, "max", "ana", "reply", T0 + 15 * MINUTE).incident
    if had.remind_at is not None and had.remind_at <= done_at:
        had = transitions.pass_time(had, Duty(POLICY, who, done_at)).incident
    story.incident = before = had
    by = "max" if word == "resolve" else "ana"
    {"take": story.take, "yes to an offer": story.ack}.get(word, story.resolve)(by, done_at)
    change = story.undo(by, now)
    assert before.remind_at is not None
    assert change.outcome is Outcome.DONE
    assert replace(change.incident, version=0) == replace(before, version=0, remind_at=max(before.remind_at, now))
    assert paged(change) == []


def test_of_a_take_that_is_undone_both_hear_and_of_a_closing_the_reporter_too() -> None:
    story = tale(T0 + 15 * MINUTE)
    story.ack("max", T0 + 15 * MINUTE)
    story.take("bo", T0 + 16 * MINUTE)
    change = story.undo("bo", T0 + 17 * MINUTE)
    assert (sorted(told(change, "undone")), news(change)) == (["ana", "max"], [])
    assert (events(change), change.entries[0].facts["holder"]) == (["take.undone"], "max")
    story.resolve("ana", T0 + 17 * MINUTE)
    change = story.undo("ana", T0 + 17 * MINUTE)
    assert (told(change, "undone"), news(change), events(change)) == (["max"], ["not_closed"], ["resolve.undone"])


def test_where_somebody_has_it_again_nobody_is_paged_for_a_page_that_was_dropped() -> None:
    story = tale(T0 + 15 * MINUTE)
    story.ack("max", T0 + 15 * MINUTE)
    story.take("ana", T0 + 16 * MINUTE)
    assert paged(story.undo("ana", T0 + 16 * MINUTE, missed=["bo"])) == []


def test_an_answer_to_the_one_page_of_an_incident_without_escalation_has_no_clock_to_give_back() -> None:
    once = opened(once=True).incident
    assert transitions.undoable(once, transitions.acknowledge(once, "ana", HOW, POLICY, T0 + MINUTE).incident) is None


def test_it_is_the_latest_press_that_is_undone_and_once() -> None:
    story = tale(T0 + MINUTE)
    story.ack("ana", T0 + MINUTE)
    story.resolve("ana", T0 + MINUTE)
    assert story.undo("ana", T0 + 2 * MINUTE).incident.state is State.ACKED
    assert transitions.undo_until(story.incident, "ana", story.lines, T0 + 2 * MINUTE) is None
    assert story.undo("ana", T0 + 2 * MINUTE).outcome is Outcome.ALREADY


def test_who_pressed_may_undo_and_whoever_has_it_may_not() -> None:
    story = tale(T0 + 15 * MINUTE)
    story.ack("max", T0 + 15 * MINUTE)
    story.resolve("ana", T0 + 16 * MINUTE)
    assert transitions.undo_until(story.incident, "max", story.lines, T0 + 16 * MINUTE) is None
    assert story.undo("max", T0 + 16 * MINUTE).outcome is Outcome.CLOSED
    assert transitions.undo_until(story.incident, "ana", story.lines, T0 + 16 * MINUTE) == T0 + 18 * MINUTE


def test_after_two_minutes_a_closing_stays() -> None:
    story = tale(T0 + MINUTE)
    story.ack("ana", T0 + MINUTE)
    story.resolve("ana", T0 + 2 * MINUTE)
    late = story.undo("ana", T0 + 4 * MINUTE + SECOND)
    assert (late.outcome, late.effects, late.entries) == (Outcome.CLOSED, (), ())
    assert transitions.undo_until(story.incident, "ana", story.lines, T0 + 4 * MINUTE + SECOND) is None


def test_a_message_that_came_meanwhile_still_waits_for_its_answer() -> None:
    story = tale(T0 + 15 * MINUTE)
    story.ack("max", T0 + 15 * MINUTE)
    story.take("ana", T0 + 16 * MINUTE)
    story.incident = said_more(story.incident, T0 + 16 * MINUTE)
    undone = story.undo("ana", T0 + 17 * MINUTE).incident
    assert (undone.owed, undone.remind_at) == (Owed.ANSWER, T0 + 26 * MINUTE)


def said_more(incident: Incident, at: datetime) -> Incident:
    more = Entry(event="thread.more", actor="rita@example.com", facts={"text": "the server too"})
    return transitions.more(
        incident, transitions.MoreMail(entry=more, mail_id="m", human=True, thanks=False), Duty(POLICY, who, at)
    ).incident


@pytest.mark.parametrize("word", ["no", "escalate"])
def test_what_calls_people_is_never_kept_for_an_undo(word: str) -> None:
    story = tale(T0 + MINUTE)
    for before in (story.incident, transitions.acknowledge(story.incident, "ana", HOW, POLICY, T0 + MINUTE).incident):
        if word == "no":
            after = transitions.decline(before, "ana", HOW, "no", Duty(POLICY, who, T0 + MINUTE)).incident
        else:
            after = transitions.escalate(before, "ana", HOW, Duty(POLICY, who, T0 + MINUTE)).incident
        assert transitions.undoable(before, after) is None


def test_an_sla_that_passes_before_the_second_thought_is_a_breach() -> None:
    story = tale(T0 + 14 * MINUTE)
    story.ack("ana", T0 + 14 * MINUTE + 30 * SECOND)
    story.undo("ana", T0 + 16 * MINUTE)
    change = transitions.pass_time(story.incident, Duty(POLICY, who, T0 + 16 * MINUTE))
    assert change.incident.breached_at == T0 + 16 * MINUTE
    assert paged(change) == ["max", "ana"]


def test_the_figures_do_not_count_what_was_undone() -> None:
    story = tale(T0 + MINUTE)
    story.ack("ana", T0 + MINUTE)
    assert is_attained(story.incident)
    story.undo("ana", T0 + 2 * MINUTE)
    assert story.incident.first_acked_at is None
    story.ack("max", T0 + 20 * MINUTE)
    assert not is_attained(story.incident)


def test_of_a_second_acknowledgement_the_first_stays() -> None:
    story = tale(T0 + MINUTE)
    story.ack("max", T0 + MINUTE, how="reply from max@example.com")
    story.apply(transitions.escalate(story.incident, "max", "reply", Duty(POLICY, who, T0 + 2 * MINUTE)))
    story.ack("ana", T0 + 3 * MINUTE)
    story.undo("ana", T0 + 4 * MINUTE)
    now = story.incident
    assert (now.acked_at, now.first_acked_at) == (T0 + MINUTE, T0 + MINUTE)
    assert now.acked_how == "reply from max@example.com"


def test_a_clock_that_is_put_back_meanwhile_does_not_make_the_step_late() -> None:
    """It stood an hour ahead when Ana pressed; what was kept then must not count from there."""
    ahead = T0 + timedelta(hours=1)
    story = Tale(opened(at=ahead).incident)
    story.ack("ana", ahead + MINUTE)
    now = T0 + MINUTE + 20 * SECOND
    story.incident = clock_steps.brought_back(story.incident, timedelta(hours=1), now, touched=True)
    story.undo("ana", now)
    assert story.incident.next_step_at == T0 + 5 * MINUTE


def test_whose_page_was_dropped_unsent_is_paged_once_in_a_new_round() -> None:
    def duty(role: str) -> tuple[str, ...]:
        return ("ana", "bo") if role == "seoc" else ROSTER[role]

    story = tale(T0 + MINUTE, who=duty)
    story.ack("ana", T0 + MINUTE)
    change = story.undo("ana", T0 + 2 * MINUTE, missed=["bo", "bo"])
    assert [(p.person, p.facts["round"], p.facts["word"]) for p in pages(change)] == [("bo", 2, PageReason.STILL_OPEN)]
    assert change.incident.round == 2
    assert change.incident.next_step_at == T0 + 5 * MINUTE
    assert events(change)[-1] == "people.paged"


# -- the whole of it, in an office


def token(office: Office, incident: Incident, person: str = "ana") -> str:
    return office.settings.link(incident.id, person).rpartition("/")[2]


def test_after_an_undo_the_escalation_goes_on_as_if_nobody_had_pressed(office: Office) -> None:
    incident = office.panic()
    office.wait(minutes=4)
    link = token(office, incident)
    assert office.links.act(link, "ack") is Outcome.DONE
    office.wait(seconds=90)
    assert office.links.act(link, "undo") is Outcome.DONE
    assert office.links.act(link, "undo") is Outcome.ALREADY
    office.wait(minutes=10)
    assert len(office.pages("ana")) == 4
    assert len(office.pages("max")) == 1
    breached = office.incident(incident).breached_at
    assert breached == incident.sla_at
    assert office.store.read(lambda tx: tx.invariants.violations()) == {}


def test_everybody_who_heard_of_the_acknowledgement_hears_that_it_was_none(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    link = token(desk, incident)
    desk.links.act(link, "ack")
    desk.settle()
    desk.links.act(link, "undo")
    desk.settle()
    mail = desk.sent("max")[-1]
    assert mail.subject == f"[{incident.ref}] Clock still running: Ana Reyes does not have it"
    assert "undid the acknowledgement" in mail.text
    assert HOW in mail.text
    assert "is open again" in desk.sent("rita@example.com")[-1].text
    assert any("undid the acknowledgement" in text for _, text, _ in desk.gitlab.notes)
    desk.reply(mail, "ack")
    assert desk.incident(incident).holder == "max", "the mail that says so can be answered"


def test_no_line_of_those_mails_reads_as_a_command(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    before = len(desk.relay.sent)
    pressed = (("ana", "ack"), ("ana", "undo"), ("max", "ack"), ("ana", "take"), ("ana", "undo"), ("max", "resolve"),
               ("max", "undo"), ("max", "escalate"), ("ana", "no"))  # fmt: skip
    for person, word in pressed:
        desk.links.act(token(desk, incident, person), word)
        desk.settle()
    mails = [sent for sent in desk.relay.sent[before:] if sent.recipient in {"ana@example.com", "max@example.com"}]
    assert len(mails) > 2 * len(pressed)
    read = {line: reply_commands.read(line).meaning for sent in mails for line in sent.text.splitlines()}
    assert set(read.values()) == {Command.NOTHING}, read


def press(office: Office, incident: Incident, person: str, word: str) -> Posted:
    """By the link of `person`; answers the mail they have of it."""
    office.links.act(token(office, incident, person), word)
    office.settle()
    return office.sent(person)[-1]


def test_whose_link_acknowledged_has_the_mail_a_reply_would_have_had(desk: Office) -> None:
    """Ana learns where to write to the reporter; and if it was a stranger who pressed, Ana learns that."""
    incident = desk.panic()
    told = press(desk, incident, "ana", "ack")
    assert told.subject == f"[{incident.ref}] Clock stopped: Ana Reyes has it"
    link = desk.settings.link(incident.id, "ana")
    lines = told.text.splitlines()
    assert f'Was it not you? Open the link and press "Undo" by 02:09 UTC: {link}' in lines
    assert f"Rests on: {HOW}" in lines
    address = next(line for line in lines if line.startswith("Write to the reporter: ")).rpartition(" ")[2]
    desk.deliver(mail("Leave it on.", sender="ana@example.com"), "ana@example.com", [address])
    assert "Leave it on." in desk.sent("rita@example.com")[-1].text


def test_every_button_is_answered_as_its_word_in_a_mail_is(desk: Office) -> None:
    incident = desk.panic()
    assert "is called now" in press(desk, incident, "ana", "no").subject
    assert "Max Ode has it" in press(desk, incident, "max", "ack").subject
    assert "is called now" in press(desk, incident, "max", "escalate").subject
    assert "Ana Reyes has it" in press(desk, incident, "ana", "take").subject
    assert press(desk, incident, "ana", "resolve").subject == f"[{incident.ref}] Closed by you"
    assert press(desk, incident, "ana", "undo").subject == f"[{incident.ref}] Not closed after all"


def test_a_stranger_who_undoes_an_acknowledgement_does_it_before_the_owners_eyes(desk: Office) -> None:
    incident = desk.panic()
    press(desk, incident, "ana", "ack")
    told = press(desk, incident, "ana", "undo")
    assert told.subject == f"[{incident.ref}] Clock still running: you do not have it"
    assert "Your link undid the acknowledgement at 02:07 UTC" in told.text
    desk.reply(told, "ack")
    assert desk.incident(incident).holder == "ana", "the mail that says so can be answered"


@pytest.mark.parametrize("word", ["no", "escalate"])
def test_of_people_who_were_called_by_link_it_is_said_that_they_stay_called(desk: Office, word: str) -> None:
    incident = desk.panic()
    text = press(desk, incident, "ana", word).text
    assert 'Was it not you? Who was called stays called; reply "ack" so that it is yours.' in text
    assert f"Rests on: {HOW}" in text
    assert "Undo" not in text


def test_a_mail_that_comes_too_late_for_the_undo_names_another_way_out(desk: Office) -> None:
    incident = desk.panic()
    desk.links.act(token(desk, incident), "ack")
    desk.now += 2 * MINUTE + SECOND
    desk.settle()
    text = desk.sent("ana")[-1].text
    assert 'Was it not you? Reply "no" and others are called.' in text
    assert "Undo" not in text


def test_a_mail_that_is_sent_after_the_undo_offers_none(desk: Office) -> None:
    incident = desk.panic()
    for word in ("ack", "undo"):
        desk.links.act(token(desk, incident), word)
    desk.settle()
    answer, undone = desk.sent("ana")[-2:]
    assert "Clock still running" in answer.subject
    assert "Undo" not in answer.text
    assert "Your link undid" in undone.text


def test_a_second_press_that_changed_nothing_offers_no_undo_by_mail(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    press(desk, incident, "max", "ack")
    told = press(desk, incident, "ana", "ack")
    assert "Max Ode has it since 02:22 UTC" in told.text
    assert "Was it not you?" not in told.text


def test_what_is_taken_over_by_link_and_undone_is_the_former_holders_again(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.reply(desk.page("max"), "ack")
    had = desk.incident(incident)
    desk.wait(minutes=1)
    press(desk, incident, "ana", "take")
    assert press(desk, incident, "ana", "undo").subject == f"[{incident.ref}] Changed back: you do not have it"
    told = desk.sent("max")[-1]
    assert told.subject == f"[{incident.ref}] Changed back: Ana Reyes does not have it"
    assert told.text.startswith("Clock stopped: you have it since 02:22 UTC.")
    assert replace(desk.incident(incident), version=had.version) == had
    desk.wait(minutes=19)
    assert "STILL YOURS?" in desk.page("max").subject
    assert desk.store.read(lambda tx: tx.invariants.violations()) == {}


def test_what_is_closed_by_link_and_undone_was_never_closed_and_the_reporter_hears_it(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    had = desk.incident(incident)
    press(desk, incident, "ana", "resolve")
    assert "was closed" in desk.sent("rita@example.com")[-1].text
    press(desk, incident, "ana", "undo")
    assert replace(desk.incident(incident), version=had.version) == had
    heard = desk.sent("rita@example.com")[-1].text
    assert f"{incident.ref} was not closed after all" in heard
    assert "An engineer has it, as before." in heard
    assert desk.gitlab.mirrored[-1][1] == "ACKNOWLEDGED"
    assert desk.gitlab.closed == [], "panicmail never closed the issue, so there is nothing to open again"
    desk.wait(minutes=20)
    assert "STILL YOURS?" in desk.page("ana").subject


def test_a_reporter_who_heard_nothing_of_it_hears_nothing_of_its_undoing(tmp_path: Path) -> None:
    office = Office(tmp_path, receipts=False)
    incident = office.panic()
    for word in ("ack", "undo"):
        office.links.act(token(office, incident), word)
        office.settle()
    assert office.sent("rita@example.com") == []
    office.close()


def test_a_page_dropped_for_the_acknowledgement_is_sent_after_its_undoing(desk: Office) -> None:
    incident = desk.panic()
    desk.relay.refused["max@example.com"] = Temporary("450 not now")
    desk.wait(minutes=15)
    assert "max" in desk.incident(incident).paged
    link = token(desk, incident)
    desk.links.act(link, "ack")
    desk.relay.refused.clear()
    desk.wait(seconds=30)
    assert desk.pages("max") == []
    desk.links.act(link, "undo")
    desk.settle()
    assert len(desk.pages("max")) == 1


def test_the_reader_of_the_page_sees_until_when_and_afterwards_what_happened(desk: Office) -> None:
    incident = desk.panic()
    link = token(desk, incident)
    desk.links.act(link, "ack")
    view = desk.links.read_link(link)
    assert view is not None
    assert view.undo_until == desk.now + 2 * MINUTE
    others = desk.links.read_link(token(desk, incident, "max"))
    assert others is not None
    assert others.undo_until is None
    desk.wait(minutes=2, seconds=1)
    late = desk.links.read_link(link)
    assert late is not None
    assert late.undo_until is None
    assert desk.links.act(link, "undo") is Outcome.NOTED
    assert desk.incident(incident).state is State.ACKED


# -- how long a link lives, and what it is good for


def test_a_link_expires_a_week_after_its_incident_was_resolved_and_then_does_nothing(desk: Office) -> None:
    incident = desk.panic()
    link = token(desk, incident)
    for word in ("ack", "resolve"):
        desk.links.act(link, word)
    desk.settle()
    desk.now += EXPIRES_AFTER - SECOND
    assert desk.links.read_link(link) is not None
    desk.now += SECOND
    before = desk.lines(incident)
    with pytest.raises(LinkExpired):
        desk.links.read_link(link)
    for word in ("ack", "take", "undo"):
        with pytest.raises(LinkExpired):
            desk.links.act(link, word)
    assert (desk.incident(incident).state, desk.lines(incident)) == (State.RESOLVED, before)


def test_a_link_of_an_incident_that_is_not_over_does_not_expire(desk: Office) -> None:
    incident = desk.panic()
    desk.now += timedelta(days=30)
    assert desk.links.act(token(desk, incident), "ack") is Outcome.DONE


def test_a_links_token_is_no_answer_and_an_answers_token_no_link(desk: Office) -> None:
    incident = desk.panic()
    link = token(desk, incident)
    desk.deliver(mail("ack", sender="ana@example.com"), "ana@example.com", [f"panic+{link}@example.com"])
    assert desk.incident(incident).state is State.OPEN
    page = desk.page("ana")
    for address in (page.reply_to, page.mail_from):
        assert desk.links.read_link(address.partition("+")[2].partition("@")[0]) is None
    assert desk.links.read_link(page.message_id.strip("<>").partition("@")[0]) is None
    assert PANIC not in link


# -- over HTTP


@contextlib.contextmanager
def opened_to_the_web(office: Office) -> Iterator[Client]:
    health = Health(office.store, lambda: True, lambda: True)
    with listening(create_app(LinkBackend(office.links, health))) as port:
        yield Client(port)


@pytest.fixture
def site(desk: Office) -> Iterator[Client]:
    with opened_to_the_web(desk) as client:
        yield client


def test_a_press_on_undo_leads_back_to_a_running_clock(desk: Office, site: Client) -> None:
    incident = desk.panic()
    path = f"/i/{token(desk, incident)}"
    assert 'value="undo"' not in site.get(path)[2]
    page = site.get(path + site.press("ack", path)[1]["Location"])[2]
    assert '<button name="word" value="undo" class="undo"><b>Undo:</b> it was not me</button>' in page
    assert "Until 02:09:00 UTC." in page
    status, headers, _ = site.press("undo", path)
    assert (status, headers["Location"]) == (303, "?did=undo.done")
    page = site.get(path + "?did=undo.done")[2]
    assert "<h1>Clock running: ack by 02:22 UTC, or Max Ode is called.</h1>" in page
    assert "Recorded: it was not you." in page
    assert "Ana Reyes undid the acknowledgement (by link, not authenticated)." in page
    assert 'value="undo"' not in page
    assert desk.incident(incident).state is State.OPEN


def test_a_closing_is_undone_on_the_page_that_says_it_is_closed(desk: Office, site: Client) -> None:
    incident = desk.panic()
    path = f"/i/{token(desk, incident)}"
    site.press("ack", path)
    page = site.get(path + site.press("resolve", path)[1]["Location"])[2]
    assert "<h1>Closed 02:07 UTC by Ana Reyes.</h1>" in page
    assert '<button name="word" value="undo"' in page
    assert site.press("undo", path)[1]["Location"] == "?did=undo.done"
    page = site.get(path + "?did=undo.done")[2]
    assert "<h1>Clock stopped 02:07 UTC: you have it.</h1>" in page
    assert "Ana Reyes undid it: it is not closed (by link, not authenticated)." in page
    assert 'value="undo"' not in page


def test_a_take_is_undone_on_the_page_and_it_says_who_has_it_again(desk: Office, site: Client) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.reply(desk.page("max"), "ack")
    path = f"/i/{token(desk, incident)}"
    for word in ("take", "undo"):
        site.press(word, path)
    page = site.get(path)[2]
    assert "<h1>Clock stopped 02:22 UTC: Max Ode has it.</h1>" in page
    assert "Ana Reyes undid it: Max Ode has it again (by link, not authenticated)." in page


def test_the_page_says_that_who_was_called_stays_called(desk: Office, site: Client) -> None:
    incident = desk.panic()
    path = f"/i/{token(desk, incident)}"
    assert "For two minutes a press can be undone; No and Escalate cannot, they call people." in site.get(path)[2]
    page = site.get(path + site.press("no", path)[1]["Location"])[2]
    assert "The next person is called; that cannot be undone." in page
    assert 'value="undo"' not in page


def test_a_scanner_that_follows_the_link_changes_nothing(desk: Office, site: Client) -> None:
    incident = desk.panic()
    path = f"/i/{token(desk, incident)}"
    site.press("ack", path)
    stands, lines = desk.incident(incident), desk.lines(incident)
    prefetch = {"Sec-Purpose": "prefetch;prerender", "Purpose": "prefetch", "X-Moz": "prefetch"}
    for method in ("GET", "HEAD"):
        for query in ("", "?word=undo", "?word=resolve", "?did=undo.done"):
            assert site.ask(method, path + query)[0] == 200
            assert site.ask(method, path + query, headers=prefetch)[0] == 200
    assert (desk.incident(incident), desk.lines(incident)) == (stands, lines)


def test_an_expired_link_says_so_and_what_to_do_and_never_acts(desk: Office, site: Client) -> None:
    incident = desk.panic()
    path = f"/i/{token(desk, incident)}"
    for word in ("ack", "resolve"):
        site.press(word, path)
    desk.now += EXPIRES_AFTER
    answers = [site.get(path), site.press("ack", path), site.press("undo", path)]
    assert {status for status, _, _ in answers} == {410}
    assert len({page for _, _, page in answers}) == 1
    assert "This link has expired." in answers[0][2]
    assert "a new mail to the panic address" in answers[0][2]
    assert "<form" not in answers[0][2]
    assert desk.incident(incident).state is State.RESOLVED
    assert site.get("/i/la-aaaaaaaaaaaaaaaa-0-aaaaaaaaaaaaaaaa")[0] == 404
