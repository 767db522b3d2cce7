"""The state table, row by row, and its invariants under any sequence of events."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident import transitions
from panicmail.incident.escalation_policy import UNDELIVERED, UNDELIVERED_BEFORE, Duty, EscalationPolicy, PolicyStep
from panicmail.incident.model import Change, EffectKind, Entry, Incident, Outcome, Owed, PageReason, State
from tests.cast import MINUTE, POLICY, SECOND, T0, events, news, opened, paged, pages, told, until, who
from tests.examples import examples

HOW = "reply from ana@example.com"


def more_entry() -> Entry:
    return Entry(event="thread.more", actor="rita@example.com", facts={"text": "and now the server too"})


# -- a panic


def test_a_panic_pages_the_seoc_opens_the_issue_and_sends_a_receipt() -> None:
    change = opened()
    assert paged(change) == ["ana"]
    assert {e.do for e in change.effects} == {EffectKind.PAGE, EffectKind.ISSUE, EffectKind.FILES, EffectKind.RECEIPT}
    assert (change.incident.state, change.incident.step, change.incident.round) == (State.OPEN, 0, 1)
    assert change.incident.next_step_at == T0 + 5 * MINUTE
    assert change.incident.sla_at == T0 + 15 * MINUTE


def test_the_times_count_from_the_acceptance_of_the_mail_not_from_its_understanding() -> None:
    fresh = transitions.new(id="i", ref="R", mail_id="m", accepted_at=T0, policy=POLICY)
    late = transitions.open_panic(fresh, Duty(POLICY, who, T0 + 6 * MINUTE), receipt=True, entry_facts={})
    assert late.incident.next_step_at == T0 + 10 * MINUTE
    assert paged(late) == ["ana"], "the step missed meanwhile collapses into the first page"
    assert pages(late)[0].facts["late_seconds"] == 360


def test_a_mail_that_is_plainly_no_report_pages_once_without_escalation_or_receipt() -> None:
    change = opened(once=True)
    assert paged(change) == ["ana"]
    assert EffectKind.RECEIPT not in {e.do for e in change.effects}
    assert (change.incident.state, change.incident.next_step_at) == (State.RESOLVED, None)


def test_the_answer_to_a_page_without_escalation_still_makes_it_theirs() -> None:
    change = transitions.acknowledge(opened(once=True).incident, "ana", HOW, POLICY, T0 + MINUTE)
    assert (change.outcome, change.incident.state, change.incident.holder) == (Outcome.DONE, State.ACKED, "ana")


# -- time


@pytest.mark.parametrize(("minute", "people"), [(5, ["ana"]), (10, ["ana"]), (15, ["max", "ana"])])
def test_each_step_is_taken_at_its_minute_not_before(minute: int, people: list[str]) -> None:
    before = until(opened().incident, T0 + minute * MINUTE - SECOND)
    assert not transitions.is_due(before, T0 + minute * MINUTE - SECOND)
    change = transitions.pass_time(before, Duty(POLICY, who, T0 + minute * MINUTE))
    assert paged(change) == people


def test_the_smoc_is_paged_at_the_fifteenth_minute_not_before() -> None:
    incident = until(opened().incident, T0 + 15 * MINUTE - SECOND)
    assert "max" not in incident.paged
    change = transitions.pass_time(incident, Duty(POLICY, who, T0 + 15 * MINUTE))
    assert change.incident.paged["max"].at == T0 + 15 * MINUTE
    assert {p.person: p.facts["word"] for p in pages(change)} == {
        "max": PageReason.YOURS_NOW,
        "ana": PageReason.STILL_OPEN,
    }


def test_the_last_step_repeats_for_ever_with_a_new_round_each_time() -> None:
    incident = until(opened().incident, T0 + 15 * MINUTE)
    keys: set[str] = set()
    for n in range(1, 200):
        now = T0 + (15 + 5 * n) * MINUTE
        change = transitions.pass_time(incident, Duty(POLICY, who, now))
        assert paged(change) == ["max", "ana"]
        keys.update(p.key for p in pages(change))
        incident = change.incident
    assert len(keys) == 2 * 199
    assert incident.state is State.OPEN


def test_the_breach_is_recorded_once_and_told_to_the_reporter() -> None:
    change = transitions.pass_time(until(opened().incident, T0 + 14 * MINUTE), Duty(POLICY, who, T0 + 15 * MINUTE))
    assert change.incident.breached_at == T0 + 15 * MINUTE
    assert news(change) == ["breached"]
    again = transitions.pass_time(change.incident, Duty(POLICY, who, T0 + 20 * MINUTE))
    assert (again.incident.breached_at, news(again)) == (T0 + 15 * MINUTE, [])


def test_overdue_steps_collapse_into_one_page_for_each_and_the_repeat_counts_from_now() -> None:
    after_outage = T0 + 47 * MINUTE
    change = transitions.pass_time(opened().incident, Duty(POLICY, who, after_outage))
    assert sorted(paged(change)) == ["ana", "max"]
    assert change.incident.next_step_at == after_outage + 5 * MINUTE
    assert "steps.skipped" in events(change)
    assert all(p.facts["late_seconds"] == 42 * 60 for p in pages(change))


def test_a_step_taken_in_time_does_not_say_it_is_late() -> None:
    change = transitions.pass_time(opened().incident, Duty(POLICY, who, T0 + 5 * MINUTE + SECOND))
    assert "late_seconds" not in pages(change)[0].facts


def test_when_nobody_is_on_call_the_operators_hear_and_the_next_step_is_taken_now() -> None:
    policy = EscalationPolicy(
        sla=15 * MINUTE,
        steps=(PolicyStep(0 * MINUTE, ("nobody",)), PolicyStep(5 * MINUTE, ("smoc",))),
        repeat=5 * MINUTE,
        remind_after=20 * MINUTE,
    )
    change = opened(policy)
    assert paged(change) == ["max"]
    assert [e.facts["cause"] for e in change.effects if e.do is EffectKind.OPERATORS] == ["nobody_on_call"]


def test_when_nobody_is_on_call_anywhere_the_escalation_goes_on_all_the_same() -> None:
    policy = EscalationPolicy(
        sla=15 * MINUTE, steps=(PolicyStep(0 * MINUTE, ("nobody",)),), repeat=5 * MINUTE, remind_after=MINUTE
    )
    change = opened(policy)
    assert paged(change) == []
    assert change.incident.next_step_at == T0 + 5 * MINUTE


def test_a_policy_that_became_shorter_goes_on_with_its_last_step() -> None:
    at_the_top = until(opened().incident, T0 + 15 * MINUTE)
    shorter = EscalationPolicy(sla=15 * MINUTE, steps=POLICY.steps[:2], repeat=5 * MINUTE, remind_after=20 * MINUTE)
    assert paged(transitions.pass_time(at_the_top, Duty(shorter, who, T0 + 20 * MINUTE))) == ["ana"]
    assert transitions.unreachable(at_the_top, "ana", "bounce", Duty(shorter, who, T0 + 20 * MINUTE)).incident.away


def test_a_second_no_of_the_same_person_takes_no_further_step() -> None:
    policy = EscalationPolicy(
        sla=15 * MINUTE,
        steps=(
            PolicyStep(0 * MINUTE, ("seoc",)),
            PolicyStep(5 * MINUTE, ("engineers",)),
            PolicyStep(15 * MINUTE, ("smoc",)),
        ),
        repeat=5 * MINUTE,
        remind_after=20 * MINUTE,
    )
    once = transitions.decline(opened(policy).incident, "ana", HOW, "no", Duty(policy, who, T0 + MINUTE))
    twice = transitions.decline(once.incident, "ana", HOW, "no, sorry", Duty(policy, who, T0 + 2 * MINUTE))
    assert (paged(once), paged(twice), twice.outcome) == (["bo"], [], Outcome.NOTED)


def test_paged_once_means_the_first_step_alone_however_late() -> None:
    fresh = transitions.new(id="i", ref="R", mail_id="m", accepted_at=T0, policy=POLICY, once=True)
    change = transitions.open_panic(fresh, Duty(POLICY, who, T0 + 20 * MINUTE), receipt=False, entry_facts={})
    assert paged(change) == ["ana"]


# -- yes


def test_the_first_yes_has_it_and_the_others_paged_and_the_reporter_are_told() -> None:
    breached = until(opened().incident, T0 + 15 * MINUTE)
    change = transitions.acknowledge(breached, "max", HOW, POLICY, T0 + 16 * MINUTE)
    incident = change.incident
    assert (incident.state, incident.holder, incident.next_step_at) == (State.ACKED, "max", None)
    assert told(change, "acked_by") == ["ana"]
    assert news(change) == ["acked"]
    assert change.void_pages


def test_a_second_yes_changes_nothing_and_says_who_has_it() -> None:
    acked = transitions.acknowledge(until(opened().incident, T0 + 15 * MINUTE), "max", HOW, POLICY, T0 + 16 * MINUTE)
    second = transitions.acknowledge(acked.incident, "ana", HOW, POLICY, T0 + 17 * MINUTE)
    assert (second.outcome, second.incident, second.effects) == (Outcome.ALREADY, acked.incident, ())


def test_take_makes_it_theirs_whoever_has_it_and_both_are_told() -> None:
    acked = transitions.acknowledge(until(opened().incident, T0 + 15 * MINUTE), "max", HOW, POLICY, T0 + 16 * MINUTE)
    change = transitions.take(acked.incident, "ana", HOW, POLICY, T0 + 17 * MINUTE)
    assert change.incident.holder == "ana"
    assert told(change, "acked_by") == ["max"]
    assert news(change) == [], "the reporter need not know who took it from whom"


def test_a_yes_after_it_was_closed_changes_nothing() -> None:
    acked = transitions.acknowledge(opened().incident, "ana", HOW, POLICY, T0 + MINUTE).incident
    closed = transitions.resolve(acked, "ana", HOW, POLICY, T0 + 2 * MINUTE).incident
    for late in (transitions.acknowledge, transitions.take, transitions.resolve):
        assert late(closed, "max", HOW, POLICY, T0 + 3 * MINUTE).outcome is Outcome.CLOSED
    assert transitions.escalate(closed, "max", HOW, Duty(POLICY, who, T0 + 3 * MINUTE)).outcome is Outcome.CLOSED


# -- no, and escalate


def test_no_takes_the_first_later_step_that_names_somebody_else_at_once() -> None:
    change = transitions.decline(opened().incident, "ana", HOW, "can't", Duty(POLICY, who, T0 + MINUTE))
    assert paged(change) == ["max"]
    assert change.incident.state is State.OPEN
    assert change.incident.away == {"ana": 'declined ("can\'t")'}
    assert change.incident.breached_at is None


def test_who_said_no_is_passed_over_as_long_as_somebody_else_is_left() -> None:
    declined = transitions.decline(opened().incident, "ana", HOW, "no", Duty(POLICY, who, T0 + MINUTE)).incident
    repeat = transitions.pass_time(declined, Duty(POLICY, who, T0 + 6 * MINUTE))
    assert paged(repeat) == ["max"]


def test_when_everybody_said_no_everybody_is_paged_again_and_the_operators_told() -> None:
    one = transitions.decline(opened().incident, "ana", HOW, "no", Duty(POLICY, who, T0 + MINUTE)).incident
    both = transitions.decline(one, "max", HOW, "no", Duty(POLICY, who, T0 + 2 * MINUTE))
    assert both.outcome is Outcome.NOBODY_LEFT
    assert [e.facts["cause"] for e in both.effects if e.do is EffectKind.OPERATORS] == ["nobody_left"]
    assert both.incident.next_step_at == one.next_step_at, "the repeat stays"
    assert paged(transitions.pass_time(both.incident, Duty(POLICY, who, T0 + 6 * MINUTE))) == ["max", "ana"]


def test_later_steps_keep_their_times_after_an_early_one() -> None:
    policy = EscalationPolicy(
        sla=15 * MINUTE,
        steps=(
            PolicyStep(0 * MINUTE, ("seoc",)),
            PolicyStep(15 * MINUTE, ("engineers",)),
            PolicyStep(30 * MINUTE, ("smoc",)),
        ),
        repeat=5 * MINUTE,
        remind_after=20 * MINUTE,
    )
    change = transitions.decline(opened(policy).incident, "ana", HOW, "no", Duty(policy, who, T0 + MINUTE))
    assert paged(change) == ["bo"]
    assert change.incident.next_step_at == T0 + 30 * MINUTE


def test_escalate_calls_the_next_ones_and_not_the_asker_again() -> None:
    change = transitions.escalate(opened().incident, "ana", HOW, Duty(POLICY, who, T0 + MINUTE))
    assert paged(change) == ["max"]
    assert change.incident.away == {}, "who asks for help did not leave"


@pytest.mark.parametrize("why", [UNDELIVERED, UNDELIVERED_BEFORE])
def test_whom_no_page_reached_counts_again_with_the_first_that_does_however_that_was_put(why: str) -> None:
    away = transitions.unreachable(opened().incident, "ana", why, Duty(POLICY, who, T0 + MINUTE)).incident
    assert away.away == {"ana": why}
    assert transitions.reached(away, "ana").incident.away == {}


def test_no_of_the_holder_opens_it_again_with_the_next_step_now() -> None:
    acked = transitions.acknowledge(opened().incident, "ana", HOW, POLICY, T0 + MINUTE).incident
    change = transitions.decline(acked, "ana", HOW, "can't", Duty(POLICY, who, T0 + 40 * MINUTE))
    assert (change.incident.state, change.incident.holder) == (State.OPEN, "ana")
    assert paged(change) == ["max"]
    assert change.incident.next_step_at == T0 + 45 * MINUTE


def test_answered_in_time_and_opened_again_after_the_sla_is_no_breach() -> None:
    acked = transitions.acknowledge(opened().incident, "ana", HOW, POLICY, T0 + MINUTE).incident
    again = transitions.escalate(acked, "ana", HOW, Duty(POLICY, who, T0 + 40 * MINUTE)).incident
    later = transitions.pass_time(again, Duty(POLICY, who, T0 + 50 * MINUTE)).incident
    assert later.breached_at is None


def test_no_of_somebody_who_does_not_have_it_changes_nothing() -> None:
    acked = transitions.acknowledge(until(opened().incident, T0 + 15 * MINUTE), "max", HOW, POLICY, T0 + 16 * MINUTE)
    change = transitions.decline(acked.incident, "ana", HOW, "no", Duty(POLICY, who, T0 + 17 * MINUTE))
    assert (change.outcome, change.incident.state, change.incident.holder) == (Outcome.NOTED, State.ACKED, "max")


# -- unreachable


def test_an_out_of_office_of_the_only_one_paged_calls_the_next_now() -> None:
    change = transitions.unreachable(opened().incident, "ana", "out of office", Duty(POLICY, who, T0 + SECOND))
    assert paged(change) == ["max"]


def test_a_robot_that_answers_every_page_does_not_hurry_the_escalation() -> None:
    incident = opened().incident
    total = 0
    for second in range(600):
        now = T0 + second * SECOND
        for person in list(incident.paged):
            change = transitions.unreachable(incident, person, "out of office", Duty(POLICY, who, now))
            incident, total = change.incident, total + len(pages(change))
    assert total == 1, "Max, once; after that nobody is left and the repeat keeps its time"


def test_an_out_of_office_never_takes_the_incident_from_its_holder() -> None:
    acked = transitions.acknowledge(opened().incident, "ana", HOW, POLICY, T0 + MINUTE).incident
    change = transitions.unreachable(acked, "ana", "out of office", Duty(POLICY, who, T0 + 2 * MINUTE))
    assert (change.incident, change.effects) == (acked, ())


# -- handing over


def test_the_incident_stays_where_it_is_until_the_one_it_was_offered_to_says_yes() -> None:
    acked = transitions.acknowledge(opened().incident, "ana", HOW, POLICY, T0 + MINUTE).incident
    offered = transitions.hand_over(acked, "ana", "bo", HOW, T0 + 2 * MINUTE)
    assert paged(offered) == ["bo"]
    assert offered.incident.holder == "ana"
    given = transitions.acknowledge(offered.incident, "bo", HOW, POLICY, T0 + 3 * MINUTE)
    assert (given.incident.holder, given.incident.handed_to) == ("bo", None)
    assert told(given, "acked_by") == ["ana"]


def test_an_open_incident_that_is_offered_to_somebody_keeps_its_clock() -> None:
    offered = transitions.hand_over(opened().incident, "ana", "bo", HOW, T0 + MINUTE)
    assert (offered.incident.state, offered.incident.next_step_at) == (State.OPEN, T0 + 5 * MINUTE)


@pytest.mark.parametrize("answer", ["silence", "no", "bounce"])
def test_an_offer_nobody_takes_comes_back_to_the_holder(answer: str) -> None:
    acked = transitions.acknowledge(opened().incident, "ana", HOW, POLICY, T0 + MINUTE).incident
    offered = transitions.hand_over(acked, "ana", "bo", HOW, T0 + 2 * MINUTE).incident
    if answer == "silence":
        change = transitions.pass_time(offered, Duty(POLICY, who, T0 + 12 * MINUTE))
        assert paged(change) == ["ana"]
        return
    change = (
        transitions.decline(offered, "bo", HOW, "no", Duty(POLICY, who, T0 + 3 * MINUTE))
        if answer == "no"
        else transitions.unreachable(offered, "bo", "the page bounced", Duty(POLICY, who, T0 + 3 * MINUTE))
    )
    assert (change.incident.holder, change.incident.handed_to) == ("ana", None)
    assert told(change, "offer_failed") == ["ana"]


# -- after the acknowledgement


def test_a_holder_without_a_sign_of_work_is_asked_and_ten_minutes_later_the_smoc_is_called() -> None:
    acked = transitions.acknowledge(opened().incident, "ana", HOW, POLICY, T0 + MINUTE).incident
    asked = transitions.pass_time(acked, Duty(POLICY, who, T0 + 21 * MINUTE))
    assert [(p.person, p.facts["word"]) for p in pages(asked)] == [("ana", PageReason.STILL_YOURS)]
    called = transitions.pass_time(asked.incident, Duty(POLICY, who, T0 + 31 * MINUTE))
    assert [(p.person, p.facts["word"]) for p in pages(called)] == [("max", PageReason.SILENT_HOLDER)]
    assert called.incident.state is State.ACKED


def test_a_line_of_the_holder_is_a_sign_of_work_and_anybody_elses_is_not() -> None:
    acked = transitions.acknowledge(opened().incident, "ana", HOW, POLICY, T0 + MINUTE).incident
    assert transitions.sign_of_work(acked, "max", POLICY, T0 + 2 * MINUTE).incident == acked
    assert transitions.sign_of_work(acked, "ana", POLICY, T0 + 2 * MINUTE).incident.owed is Owed.STATUS


def test_a_follow_up_the_holder_does_not_answer_in_ten_minutes_goes_to_the_smoc() -> None:
    acked = transitions.acknowledge(opened().incident, "ana", HOW, POLICY, T0 + MINUTE).incident
    asked = transitions.more(
        acked,
        transitions.MoreMail(entry=more_entry(), mail_id="m2", human=True, thanks=False),
        Duty(POLICY, who, T0 + 2 * MINUTE),
    )
    assert told(asked, "more") == ["ana"]
    called = transitions.pass_time(asked.incident, Duty(POLICY, who, T0 + 12 * MINUTE))
    assert paged(called) == ["max"]


def test_resolve_on_an_open_incident_only_acknowledges_it() -> None:
    change = transitions.resolve(opened().incident, "ana", HOW, POLICY, T0 + MINUTE)
    assert (change.outcome, change.incident.state) == (Outcome.HOW_TO_CLOSE, State.ACKED)
    closed = transitions.resolve(change.incident, "ana", HOW, POLICY, T0 + 2 * MINUTE)
    assert (closed.outcome, closed.incident.state, news(closed)) == (Outcome.DONE, State.RESOLVED, ["resolved"])


def test_an_issue_closed_by_somebody_paged_acknowledges_and_by_anybody_else_does_not() -> None:
    incident = opened().incident
    assert (
        transitions.issue_closed(incident, transitions.IssueClosing(by="ana"), POLICY, T0 + MINUTE).incident.state
        is State.ACKED
    )
    other = transitions.issue_closed(incident, transitions.IssueClosing(by=None), POLICY, T0 + MINUTE)
    assert (other.incident.state, told(other, "issue_closed")) == (State.OPEN, ["ana"])
    assert (
        transitions.issue_closed(incident, transitions.IssueClosing(by="bo"), POLICY, T0 + MINUTE).incident.state
        is State.OPEN
    )


# -- more in the thread


def test_more_on_an_open_incident_reaches_those_paged_and_touches_no_time() -> None:
    incident = opened().incident
    change = transitions.more(
        incident,
        transitions.MoreMail(entry=more_entry(), mail_id="m2", human=True, thanks=False),
        Duty(POLICY, who, T0 + MINUTE),
    )
    assert (change.incident, told(change, "more"), events(change)) == (incident, ["ana"], ["thread.more"])


def test_an_automatic_mail_in_the_thread_is_a_note_and_nothing_else() -> None:
    change = transitions.more(
        opened().incident,
        transitions.MoreMail(entry=more_entry(), mail_id="m2", human=False, thanks=False),
        Duty(POLICY, who, T0),
    )
    assert (change.effects, events(change)) == ((), ["thread.more"])


def resolved_at(at: datetime) -> Incident:
    acked = transitions.acknowledge(opened().incident, "ana", HOW, POLICY, T0 + MINUTE).incident
    return transitions.resolve(acked, "ana", HOW, POLICY, at).incident


def test_more_within_a_day_of_closing_opens_it_again_for_its_last_holder_then_the_seoc() -> None:
    now = T0 + 5 * 60 * MINUTE
    incident = resolved_at(T0 + 60 * MINUTE)
    change = transitions.more(
        incident,
        transitions.MoreMail(entry=more_entry(), mail_id="m2", human=True, thanks=False),
        Duty(POLICY, who, now),
    )
    assert (change.incident.state, paged(change)) == (State.OPEN, ["ana"])
    assert pages(change)[0].facts["word"] is PageReason.REOPENED or pages(change)[0].facts["word"] == "reopened"
    seoc = transitions.pass_time(change.incident, Duty(POLICY, who, now + 5 * MINUTE))
    assert paged(seoc) == ["ana"]
    assert seoc.incident.next_step_at == now + 10 * MINUTE
    assert news(change) == ["reopened"]


def test_a_reopened_incident_does_not_wait_for_a_holder_who_cannot_be_reached() -> None:
    now = T0 + 5 * 60 * MINUTE
    incident = resolved_at(T0 + 60 * MINUTE)
    again = transitions.more(
        incident,
        transitions.MoreMail(entry=more_entry(), mail_id="m2", human=True, thanks=False),
        Duty(POLICY, who, now),
    ).incident
    assert paged(transitions.unreachable(again, "ana", "bounce", Duty(POLICY, who, now + SECOND))) == ["max"]


def test_the_breach_of_a_reopened_incident_is_told_too() -> None:
    breached = until(opened().incident, T0 + 15 * MINUTE)
    acked = transitions.acknowledge(breached, "max", HOW, POLICY, T0 + 16 * MINUTE).incident
    closed = transitions.resolve(bump(acked, breached), "max", HOW, POLICY, T0 + 17 * MINUTE).incident
    now = T0 + 60 * MINUTE
    again = transitions.more(
        closed, transitions.MoreMail(entry=more_entry(), mail_id="m2", human=True, thanks=False), Duty(POLICY, who, now)
    ).incident
    change = transitions.pass_time(bump(again, closed), Duty(POLICY, who, now + 15 * MINUTE))
    assert [e.key for e in change.effects if e.do is EffectKind.NEWS] != ["news/breached"]
    assert news(change) == ["breached"]


def test_a_thank_you_does_not_open_it_again() -> None:
    incident = resolved_at(T0 + 60 * MINUTE)
    change = transitions.more(
        incident,
        transitions.MoreMail(entry=more_entry(), mail_id="m2", human=True, thanks=True),
        Duty(POLICY, who, T0 + 61 * MINUTE),
    )
    assert (change.incident, change.effects) == (incident, ())


def test_a_day_after_closing_it_is_over() -> None:
    incident = resolved_at(T0)
    assert not transitions.is_over(incident, T0 + timedelta(hours=24))
    assert transitions.is_over(incident, T0 + timedelta(hours=24, seconds=1))


def test_next_call_names_who_is_called_besides_the_reader_and_when() -> None:
    incident = opened().incident
    assert transitions.next_call(incident, POLICY, who, "ana") == (T0 + 15 * MINUTE, {"max": "smoc"})
    assert transitions.next_call(until(incident, T0 + 15 * MINUTE), POLICY, who, "max") is None


# -- any sequence

PEOPLE = st.sampled_from(["ana", "max", "bo"])
EVENTS = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 3600)),
    st.tuples(st.sampled_from(["yes", "take", "no", "escalate", "resolve", "away", "work"]), PEOPLE),
    st.tuples(st.just("hand"), st.tuples(PEOPLE, PEOPLE)),
    st.tuples(st.just("closed"), st.one_of(st.none(), PEOPLE)),
    st.tuples(st.just("more"), st.tuples(st.booleans(), st.booleans())),
)
POLICIES = st.builds(
    lambda gaps, roles, repeat: EscalationPolicy(
        sla=15 * MINUTE,
        steps=tuple(
            PolicyStep(sum(gaps[: n + 1], 0) * SECOND if n else 0 * SECOND, tuple(dict.fromkeys(role)))
            for n, role in enumerate(roles)
        ),
        repeat=repeat * SECOND,
        remind_after=20 * MINUTE,
    ),
    gaps=st.lists(st.integers(1, 900), min_size=4, max_size=4),
    roles=st.lists(
        st.lists(st.sampled_from(["seoc", "smoc", "engineers", "nobody"]), min_size=1, max_size=3),
        min_size=1,
        max_size=4,
    ),
    repeat=st.integers(1, 900),
)


def happen(incident: Incident, event: tuple[str, object], policy: EscalationPolicy, now: datetime, n: int) -> Change:
    kind, by = event
    match kind, by:
        case "yes", str(person):
            return transitions.acknowledge(incident, person, HOW, policy, now)
        case "take", str(person):
            return transitions.take(incident, person, HOW, policy, now)
        case "no", str(person):
            return transitions.decline(incident, person, HOW, "no", Duty(policy, who, now))
        case "escalate", str(person):
            return transitions.escalate(incident, person, HOW, Duty(policy, who, now))
        case "resolve", str(person):
            return transitions.resolve(incident, person, HOW, policy, now)
        case "away", str(person):
            return transitions.unreachable(incident, person, "out of office", Duty(policy, who, now))
        case "work", str(person):
            return transitions.sign_of_work(incident, person, policy, now)
        case "hand", (str(person), str(to)):
            return transitions.hand_over(incident, person, to, HOW, now)
        case "closed", person:
            return transitions.issue_closed(
                incident, transitions.IssueClosing(by=person if isinstance(person, str) else None), policy, now
            )
        case "more", (bool(human), bool(thanks)):
            entry = more_entry()
            return transitions.more(
                incident,
                transitions.MoreMail(entry=entry, mail_id=f"m{n}", human=human, thanks=thanks),
                Duty(policy, who, now),
            )
    raise AssertionError(event)


@examples(150)
@given(POLICIES, st.lists(EVENTS, max_size=25), st.booleans())
def test_the_invariants_hold_under_any_sequence_of_events(
    policy: EscalationPolicy, sequence: list[tuple[str, object]], once: bool
) -> None:
    now = T0
    change = opened(policy, once=once)
    incident = change.incident
    keys = [e.key for e in change.effects]
    for n, event in enumerate(sequence):
        if event[0] == "wait":
            now += timedelta(seconds=int(str(event[1])))
            change = transitions.pass_time(incident, Duty(policy, who, now))
        else:
            change = happen(incident, event, policy, now, n)
        before, incident = incident, change.incident
        assert (incident.state is State.OPEN) == (incident.next_step_at is not None)
        assert incident.round >= before.round
        assert (incident.state is State.ACKED) <= (incident.holder is not None)
        assert (incident.remind_at is not None) == (incident.owed is not None) == (incident.state is State.ACKED)
        assert not before.breached_at or incident.breached_at or incident.sla_at > before.sla_at
        keys += [f"{before.version}:{e.key}" if not e.key.startswith("page/") else e.key for e in change.effects]
        for page in pages(change):
            assert page.person in incident.paged
            assert incident.paged[page.person or ""].last_at == now
        incident = bump(incident, before)
    page_keys = [k for k in keys if k.startswith("page/")]
    assert len(page_keys) == len(set(page_keys)), "a round pages a person once"


def bump(incident: Incident, before: Incident) -> Incident:
    from dataclasses import replace

    return replace(incident, version=before.version + 1)


@examples(100)
@given(POLICIES, st.lists(EVENTS.filter(lambda e: e[0] != "wait"), max_size=8), st.integers(0, 7200))
def test_an_event_that_comes_twice_equals_once(
    policy: EscalationPolicy, sequence: list[tuple[str, object]], seconds: int
) -> None:
    now = T0 + timedelta(seconds=seconds)
    incident = transitions.pass_time(opened(policy).incident, Duty(policy, who, now)).incident
    for n, event in enumerate(sequence):
        first = happen(incident, event, policy, now, n).incident
        if event[0] in {"yes", "take", "away", "work", "closed"}:
            second = happen(first, event, policy, now, n)
            assert second.incident.state is first.state or event[0] == "closed"
            assert second.incident.holder == first.holder
            assert not pages(second)
        incident = first


@examples(100)
@given(POLICIES, st.lists(st.integers(1, 1800), min_size=1, max_size=40))
def test_an_unanswered_panic_is_paged_again_within_its_repeat_however_the_ticks_fall(
    policy: EscalationPolicy, waits: list[int]
) -> None:
    incident, now = opened(policy).incident, T0
    for wait in waits:
        now += timedelta(seconds=wait)
        due = transitions.is_due(incident, now)
        incident = transitions.pass_time(incident, Duty(policy, who, now)).incident
        assert incident.next_step_at is not None
        assert incident.next_step_at > now, "what is due is taken, all of it"
        assert not transitions.is_due(incident, now)
        assert due or incident.next_step_at > now


@pytest.mark.parametrize("seconds", [0, 1, 899, 900, 901, 86400])
def test_passing_time_twice_at_the_same_instant_does_nothing_more(seconds: int) -> None:
    now = T0 + timedelta(seconds=seconds)
    once = transitions.pass_time(opened().incident, Duty(POLICY, who, now))
    twice = transitions.pass_time(once.incident, Duty(POLICY, who, now))
    assert (twice.incident, twice.effects, twice.entries) == (once.incident, (), ())
