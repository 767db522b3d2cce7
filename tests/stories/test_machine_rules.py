"""The state table under any sequence of events: policies, rosters, reloads and the clock are drawn too.

Every function of `panicmail.incident.transitions` is driven as its callers drive it. `Desk` is the store's part: it
keeps the incident, raises the version when something changed, and does nothing for a key that was used before. After
every single change each claim of `EVERY_CHANGE` is asked; the machine's invariants are asked after every event.

PANICMAIL_FUZZ multiplies the examples: see `tests/examples.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from panicmail.escalation.tick import LOOK_BACK
from panicmail.incident import ids, transitions
from panicmail.incident.escalation_policy import (
    OPERATOR,
    REOPEN_WITHIN,
    UNDELIVERED,
    Duty,
    EscalationPolicy,
    OnCallAt,
    PolicyStep,
)
from panicmail.incident.model import (
    Change,
    Effect,
    EffectKind,
    Entry,
    Incident,
    Outcome,
    Owed,
    PageReason,
    State,
    unchanged,
)
from panicmail.incident.transitions import ShiftChange, UnsentReason
from tests.cast import MINUTE, POLICY, SECOND, T0, news, pages, told
from tests.examples import FUZZ, examples, many

pytestmark = pytest.mark.timeout(240 * max(1, FUZZ))  # a failing machine takes its time to shrink

INSTANT = timedelta(microseconds=1)
HOW = "in a test"
CAST = ("ana", "max", "bo", "cy")
ROLES = ("seoc", "smoc", "engineers")
PEOPLE = st.sampled_from(CAST)

Rosters = dict[str, tuple[str, ...]]
#: A role may be empty, and a person may be in several, and be an operator too.
ROSTERS: st.SearchStrategy[Rosters] = st.fixed_dictionaries(
    {role: st.lists(PEOPLE, min_size=1, max_size=3, unique=True).map(tuple) | st.sampled_from([("ana",), ("max",), ()])
     for role in (*ROLES, OPERATOR)}
)  # fmt: skip
SPANS = st.integers(1, 40) | st.integers(41, 7200)


def policy_of(drawn: Sequence[tuple[int, list[str]]], sla: int, repeat: int, remind: int) -> EscalationPolicy:
    """Each step: seconds after the one before, and roles. The first is due at once."""
    at, steps = 0, []
    for number, (gap, roles) in enumerate(drawn):
        at += gap if number else 0
        steps.append(PolicyStep(at * SECOND, tuple(roles)))
    return EscalationPolicy(sla=sla * SECOND, steps=tuple(steps), repeat=repeat * SECOND, remind_after=remind * SECOND)


POLICIES = st.builds(
    policy_of,
    st.lists(
        st.tuples(st.integers(1, 900), st.lists(st.sampled_from(ROLES), min_size=1, max_size=2, unique=True)),
        min_size=1,
        max_size=5,
    ),
    sla=st.integers(30, 1800),
    repeat=st.integers(30, 900),
    remind=st.integers(30, 1800),
)


def on_call(schedules: Rosters) -> OnCallAt:
    return lambda role: schedules.get(role, ())


def longest_gap(policy: EscalationPolicy) -> timedelta:
    """The longest the policy by itself leaves an open incident alone."""
    gaps = [b.after - a.after for a, b in pairwise(policy.steps)]
    return max([policy.repeat, policy.reopen_grace, *gaps])


# -- one change, and what is true of each


@dataclass(frozen=True)
class Moved:
    """One event: the incident before it, what the rules answered, and as it is stored."""

    event: str
    by: str | None
    before: Incident
    change: Change
    after: Incident
    policy: EscalationPolicy
    who: OnCallAt
    now: datetime

    @property
    def pages(self) -> list[Effect]:
        return pages(self.change)

    def entry(self, event: str) -> list[Entry]:
        return [entry for entry in self.change.entries if entry.event == event]


def the_version_is_the_stores_to_raise(m: Moved) -> None:
    assert m.change.incident.version == m.before.version


def what_was_promised_at_first_never_changes(m: Moved) -> None:
    for name in ("id", "ref", "mail_id", "accepted_at", "first_sla_at", "once" if not m.before.once else "id"):
        assert getattr(m.after, name) == getattr(m.before, name), name
    assert m.before.first_acked_at in {None, m.after.first_acked_at} or m.event == "undo"


def the_round_never_falls_and_rises_with_each_group_of_pages(m: Moved) -> None:
    rounds = {page.facts["round"] for page in m.pages}
    assert rounds <= set(range(m.before.round + 1, m.after.round + 1))


def whoever_is_paged_is_on_the_paged_list_and_stays_there(m: Moved) -> None:
    for person, paged in m.before.paged.items():
        now_paged = m.after.paged[person]
        assert (now_paged.at, now_paged.round, now_paged.role) == (paged.at, paged.round, paged.role)
        assert now_paged.last_at >= paged.last_at
    assert all(m.after.paged[page.person or ""].last_at == m.now for page in m.pages)


def a_step_taken_has_one_page_row_for_each_of_its_people(m: Moved) -> None:
    for entry in m.entry("people.paged"):
        rows = [page.person for page in m.pages if page.facts["round"] == entry.facts["round"]]
        assert sorted(map(str, rows)) == sorted(entry.facts["people"])


def a_page_is_always_in_the_timeline(m: Moved) -> None:
    assert not m.pages or m.change.entries


def somebody_reachable_is_paged_before_anybody_who_is_away(m: Moved) -> None:
    """Of a step that names a person who is not away, nobody who is away is paged; nor of the operators.

    Whoever asked for others, or had it last, is nobody in this.

    An undo takes no step: it makes good for the pages the acknowledgement has dropped.
    """
    for entry in m.entry("people.paged") if m.event != "undo" else []:
        away, people = set(m.after.away), entry.facts["people"]
        operators = {person for person, role in people.items() if role == OPERATOR}
        for called in (operators, set(people) - operators):
            others = called - {m.by, m.before.holder}
            assert not (others & away) or others <= away


def a_change_of_state_leaves_a_line(m: Moved) -> None:
    assert m.after.state is m.before.state or m.change.entries


def an_incident_that_is_no_longer_open_voids_its_unsent_pages(m: Moved) -> None:
    if m.before.state is State.OPEN and m.after.state is not State.OPEN and m.event != "panic":
        assert m.change.void_pages


#: What somebody says to have an incident. Nothing else gives it to anybody.
CLAIMING = {"yes", "take", "resolve", "issue closed"}


def nobody_becomes_holder_by_the_word_of_another(m: Moved) -> None:
    if m.after.holder != m.before.holder and m.event != "undo":  # which gives it back
        assert (m.after.holder, m.event in CLAIMING) == (m.by, True)


def closing_the_issue_is_a_yes_of_those_paged_alone(m: Moved) -> None:
    if m.event == "issue closed" and m.before.state is State.OPEN and m.by not in m.before.paged:
        assert m.after == m.before


def a_robots_word_never_changes_who_has_it(m: Moved) -> None:
    if m.event in {"unreachable", "time", "more", "shift", "speak"} and m.before.state is State.ACKED:
        assert (m.after.state, m.after.holder) == (State.ACKED, m.before.holder)


def one_word_takes_one_step_at_most_and_only_upwards(m: Moved) -> None:
    """Or, when nobody paged is left, it calls those who have come on call since: each person once."""
    if m.event not in {"no", "escalate", "unreachable"} or not m.pages:
        return
    # Whoever is called for a silent holder, and the holder who is asked again with them, are a call of two rounds.
    assert len({page.facts["round"] for page in m.pages if page.facts["word"] != PageReason.STILL_YOURS}) == 1
    if m.before.state is State.OPEN and m.after.step <= m.before.step:
        # Whoever came on call after the step was taken is paged in it; above the last step there is whoever is left.
        fresh = {p for p in CAST if p not in m.before.paged or m.before.paged[p].last_at < m.before.opened_at}
        called = {page.person for page in m.pages}
        assert called <= fresh
        assert called <= everybody(m)
        can_answer = named_in(m, min(m.after.step, m.policy.last)) - {m.by} - set(m.after.away)
        assert m.event == "unreachable" or not can_answer


def more_in_the_thread_touches_no_time_of_an_open_incident(m: Moved) -> None:
    if m.event == "more" and m.before.state is State.OPEN:
        assert m.after == m.before


def the_next_step_is_at_most_the_longest_gap_away_or_at_its_own_time(m: Moved) -> None:
    if m.event in {"held back", "undo"} or m.after.next_step_at in {None, m.before.next_step_at}:
        return  # an undo brings back the very instant it was due at
    own_time = m.after.steps_from_at + m.policy.steps[-1].after
    assert m.after.next_step_at
    assert m.after.next_step_at <= max(m.now + longest_gap(m.policy), own_time)


def a_change_of_shift_moves_neither_times_nor_the_holder(m: Moved) -> None:
    if m.event == "shift":
        assert replace(m.after, version=m.before.version, round=m.before.round, paged=m.before.paged) == m.before
        assert m.before.state is State.OPEN or not m.pages


def both_sides_hear_of_a_change_of_shift(m: Moved) -> None:
    """Open: who came on is called, and who was called as that role is told. Held: the holder is, and who came on."""
    i = m.before
    for entry in m.entry("shift.changed"):
        on, role = set(entry.facts["people"]), entry.facts["role"]
        since = i.acked_at if i.state is State.ACKED else i.opened_at
        assert since
        assert since < datetime.fromisoformat(entry.facts["at"]), "older ones are no news"
        tells = [e for e in m.change.effects if e.do is EffectKind.TELL and e.facts["role"] == role]
        ended, began = ({e.person for e in tells if e.facts["what"] == f"shift_{what}"} for what in ("ended", "began"))
        if i.state is State.ACKED:
            assert (ended, began) == ({i.holder}, on - {i.handed_to})
            assert i.holder not in on
        else:
            assert all(m.after.paged[person].last_at >= i.opened_at for person in on - set(i.away))
            called = {p for p, paged in i.paged.items() if paged.role == role and i.opened_at <= paged.last_at < m.now}
            assert (ended, began) == (called - on - set(i.away), set())


def the_reporter_hears_the_holder_and_nobody_else(m: Moved) -> None:
    said = [e for e in m.change.effects if e.do is EffectKind.NEWS and e.facts["what"] == "said"]
    assert not said or (m.before.state, m.before.holder, m.event) == (State.ACKED, m.by, "speak")
    if m.event == "speak":
        due_at = m.policy.later(m.now, m.policy.remind_after)
        work = replace(m.before, remind_at=due_at, owed=Owed.STATUS, words_at=None, worked_at=m.now)
        assert replace(m.after, version=m.before.version) == (work if said else m.before)


def what_is_held_back_is_due_then_and_not_dropped(m: Moved) -> None:
    if m.event == "held back":
        assert not transitions.is_due(m.after, m.now)
        due = ("next_step_at", "remind_at")
        assert all((getattr(m.before, name) is None) == (getattr(m.after, name) is None) for name in due)
        assert (m.after.state, m.after.holder, m.after.step) == (m.before.state, m.before.holder, m.before.step)


def once_time_has_passed_nothing_is_due(m: Moved) -> None:
    if m.event == "time":
        assert not transitions.is_due(m.after, m.now)
        assert m.after != m.before, "a tick that found something due did something"


def named_in(m: Moved, step: int) -> set[str]:
    return {person for role in m.policy.steps[step].page for person in m.who(role)}


def a_due_step_calls_everybody_it_names_and_the_next_one_keeps_its_time(m: Moved) -> None:
    """Whoever was named in a step that is overdue is called once; who is away, only when nobody else is named."""
    i, steps = m.before, m.policy.steps
    if m.event != "time" or i.next_step_at is None or i.next_step_at > m.now:
        return
    overdue = [n for n, step in enumerate(steps) if n > i.step and i.steps_from_at + step.after <= m.now]
    overdue = overdue or [min(max(i.step, 0), m.policy.last)]
    named = set().union(*(named_in(m, n) for n in overdue))
    called, away = {page.person for page in m.pages}, set(i.away)
    above = [named_in(m, n) - away for n in range(overdue[-1] + 1, len(steps))]
    reachable, later = named - away, next(filter(None, above), set())
    is_left = bool(reachable - {i.holder}) or any(people - {i.holder} for people in above)
    asked = {p: page.facts["role"] for page in m.pages if (p := page.person)}
    others = OPERATOR in asked.values()
    if is_left or (later and not reachable):
        assert called == (reachable or later or named)
    else:  # nobody is left to answer it, besides the last who had it
        policy = set().union(*(named_in(m, n) for n in range(len(steps)))) - away
        assert called >= (policy or named) | (set(m.who(OPERATOR)) - away - {i.holder})
        assert called <= everybody(m)
        assert called - {i.holder} or everybody(m) <= {i.holder}
    assert (m.after.step > overdue[-1]) == (not reachable and bool(later))
    last = m.after.step >= m.policy.last
    own_time = m.now + m.policy.repeat if last else i.steps_from_at + steps[m.after.step + 1].after
    assert m.after.next_step_at == (min(own_time, m.now + m.policy.repeat) if others else own_time)
    skipped = [number for entry in m.entry("steps.skipped") for number in entry.facts["steps"]]
    assert not reachable or [n + 1 for n in overdue[:-1]] == skipped


def a_due_last_step_pages_somebody_unless_it_names_nobody_at_all(m: Moved) -> None:
    if m.event == "time" and m.before.state is State.OPEN and m.entry("people.paged"):
        step = m.policy.steps[min(m.after.step, m.policy.last)]
        named = m.policy.people(step.page, m.who)
        assert m.pages or not named or m.after.step < m.policy.last


def who_names_nobody_is_told_to_the_operators(m: Moved) -> None:
    """A step that was due and called nobody at all is an alarm."""
    for entry in m.entry("people.paged"):
        alarms = [e for e in m.change.effects if e.do is EffectKind.OPERATORS]
        assert entry.facts["people"] or alarms


def everybody(m: Moved) -> set[str]:
    """Whom the policy names, and the operators."""
    return set(m.who(OPERATOR)).union(*(named_in(m, n) for n in range(len(m.policy.steps))))


def the_silence_of_a_holder_calls_somebody_else_and_says_whom(m: Moved) -> None:
    """One call, though a message was not answered and there was no sign of work, both. The holder alone is asked only
    when there is nobody else at all, and then the operators hear."""
    calls = m.entry("holder.silent")
    called = sorted(page.person or "" for page in m.pages if page.facts["word"] == PageReason.SILENT_HOLDER)
    assert called == sorted(person for call in calls for person in call.facts["people"])
    assert len(calls) <= 1
    if calls:
        others, holder = everybody(m) - {m.before.holder}, m.before.holder
        assert holder not in called
        asked = [page.person for page in m.pages if page.facts["word"] == PageReason.STILL_YOURS]
        assert asked == ([holder] if calls[0].facts["again"] else [])
        assert asked or called
        assert bool(called) == bool(others)
        assert (m.after.owed, m.after.remind_at) == (Owed.ANSWER, m.now + m.policy.repeat), "and so it goes on"
        assert not set(called) & set(m.before.away) or not others - set(m.before.away)
        assert others or [e.facts["cause"] for e in m.change.effects if e.do is EffectKind.OPERATORS] == ["nobody_left"]


def operators_are_paged_with_the_panic_only_when_nobody_else_is_left(m: Moved) -> None:
    """As operators: they may be on call besides. Everybody else was called with them, or since it is open."""
    resort = [entry for entry in m.entry("people.paged") if "last_resort" in entry.facts.get("cause", ())]
    if resort and not m.before.once:  # which has but its first step
        asked = {m.before.holder, m.by}
        named = named_in(m, min(m.after.step, m.policy.last))
        assert named - asked <= set(m.after.away)
        others = everybody(m) - asked - set(m.after.away)
        assert others <= {p for p, paged in m.after.paged.items() if paged.last_at >= m.after.opened_at}
        assert OPERATOR in resort[0].facts["people"].values()


def the_breach_is_recorded_when_open_at_the_sla_and_by_time_alone(m: Moved) -> None:
    if m.after.breached_at != m.before.breached_at and m.after.breached_at is not None:
        assert m.event in {"time", "panic"}, "when it passes, or has passed when it is opened"
        assert (m.before.breached_at, m.after.breached_at) == (None, m.now)
        assert m.before.state is State.OPEN
        assert m.before.opened_at < m.before.sla_at <= m.now


def what_is_told_and_noted_can_be_stored(m: Moved) -> None:
    facts = [dict(e.facts) for e in m.change.effects] + [dict(e.facts) for e in m.change.entries]
    assert json.loads(json.dumps(facts)) == facts


EVERY_CHANGE: tuple[Callable[[Moved], None], ...] = (
    the_version_is_the_stores_to_raise,
    what_was_promised_at_first_never_changes,
    the_round_never_falls_and_rises_with_each_group_of_pages,
    whoever_is_paged_is_on_the_paged_list_and_stays_there,
    a_step_taken_has_one_page_row_for_each_of_its_people,
    a_page_is_always_in_the_timeline,
    somebody_reachable_is_paged_before_anybody_who_is_away,
    a_change_of_state_leaves_a_line,
    an_incident_that_is_no_longer_open_voids_its_unsent_pages,
    nobody_becomes_holder_by_the_word_of_another,
    closing_the_issue_is_a_yes_of_those_paged_alone,
    a_robots_word_never_changes_who_has_it,
    one_word_takes_one_step_at_most_and_only_upwards,
    more_in_the_thread_touches_no_time_of_an_open_incident,
    the_next_step_is_at_most_the_longest_gap_away_or_at_its_own_time,
    a_change_of_shift_moves_neither_times_nor_the_holder,
    both_sides_hear_of_a_change_of_shift,
    the_reporter_hears_the_holder_and_nobody_else,
    what_is_held_back_is_due_then_and_not_dropped,
    once_time_has_passed_nothing_is_due,
    a_due_step_calls_everybody_it_names_and_the_next_one_keeps_its_time,
    a_due_last_step_pages_somebody_unless_it_names_nobody_at_all,
    who_names_nobody_is_told_to_the_operators,
    the_silence_of_a_holder_calls_somebody_else_and_says_whom,
    operators_are_paged_with_the_panic_only_when_nobody_else_is_left,
    the_breach_is_recorded_when_open_at_the_sla_and_by_time_alone,
    what_is_told_and_noted_can_be_stored,
)


# -- the store's part


@dataclass
class Desk:
    """One incident, its policy and its clock."""

    policy: EscalationPolicy
    schedules: Rosters
    now: datetime
    incident: Incident
    occurrence: int = 0  #: counts what happened; the same event twice is one
    keys: dict[str, int] = field(default_factory=dict)  #: used key of an effect -> the occurrence it was used for
    lines: list[Entry] = field(default_factory=list)
    breaches: int = 0  #: in this opening
    open_since: datetime | None = None
    was_open_since: datetime | None = None  #: before it was acknowledged
    pressed: Incident | None = None  #: as it was before the latest turn, if that was taken by link
    came_on: dict[str, datetime] = field(default_factory=dict)  #: role -> since when those on call in it are

    @property
    def who(self) -> OnCallAt:
        return on_call(self.schedules)

    def happen(self, event: str, by: str | None, change: Change) -> Moved:
        """Store a change and ask every claim about it."""
        before, after = self.incident, change.incident
        if after != before:
            after = replace(after, version=before.version + 1)
        moved = Moved(event, by, before, change, after, self.policy, self.who, self.now)
        for claim in EVERY_CHANGE:
            claim(moved)
        self._use_keys(change)
        self.lines += change.entries
        self._follow_the_breach(moved)
        if (after.state, after.holder) != (before.state, before.holder) and event != "undo":
            self.pressed = None
        self.incident = after
        return moved

    def _use_keys(self, change: Change) -> None:
        for effect in change.effects:
            if effect.do is EffectKind.OPERATORS:
                continue  # they are told once per cause and hour, whatever the key
            assert effect.do is not EffectKind.PAGE or effect.key not in self.keys, (
                "the key of a page is used once, for ever"
            )
            used = self.keys.setdefault(effect.key, self.occurrence)
            assert used == self.occurrence, f"{effect.key} is lost: the key was used before"

    def _follow_the_breach(self, m: Moved) -> None:
        if m.after.sla_at != m.before.sla_at and m.event != "held back":
            assert (m.before.state, m.after.state) == (State.RESOLVED, State.OPEN), "a new SLA is a new opening"
            self.breaches = 0
        if m.entry("sla.breached"):
            self.breaches += 1
            assert self.breaches == 1, "a breach is recorded once per opening"
            assert self.open_since is not None
            assert self.open_since < m.before.sla_at, "it was answered when the SLA passed"
        if m.event == "undo" and m.after.state is State.OPEN:
            self.open_since = self.open_since or self.was_open_since  # it was open all the time
        elif m.after.state is not State.OPEN:
            self.was_open_since, self.open_since = self.open_since or self.was_open_since, None
        elif m.before.state is not State.OPEN or self.open_since is None:
            self.open_since = self.now

    def tick(self) -> None:
        """What the daemon does each second: nothing, or all that is due."""
        change = transitions.pass_time(self.incident, Duty(self.policy, self.who, self.now))
        if transitions.is_due(self.incident, self.now):
            self.occurrence += 1
            self.happen("time", None, change)
        else:
            assert (change.incident, change.effects, change.entries) == (self.incident, (), ())

    def due(self) -> list[datetime]:
        """The instants still to come at which something happens by itself."""
        i = self.incident
        breach = i.sla_at if i.state is State.OPEN and i.breached_at is None else None
        over = i.resolved_at + REOPEN_WITHIN if i.resolved_at else None
        return sorted(at for at in (i.next_step_at, i.remind_at, breach, over) if at and at > self.now)


def desk(policy: EscalationPolicy, schedules: Rosters, late: timedelta, *, once: bool, now: datetime = T0) -> Desk:
    """A panic accepted at `now` and understood `late`."""
    mail_id = f"{int(now.timestamp()):026}"
    fresh = transitions.new(id=ids.incident_id(mail_id), ref=ids.ref(mail_id), mail_id=mail_id, accepted_at=now,
                       policy=policy, reporter_address="rita@example.com", once=once)  # fmt: skip
    made = Desk(policy, schedules, now + late, fresh, open_since=now)
    change = transitions.open_panic(fresh, Duty(policy, made.who, made.now), receipt=True, entry_facts={})
    made.happen("panic", None, change)
    return made


# -- the machine

#: What said twice is the same as once. A second "escalate" asks for one more step, a second "resolve" closes what the
#: first acknowledged, "to bo" calls Bo again: each of these words means something when it is repeated.
TWICE_IS_ONCE = {"yes", "take", "no", "unreachable", "reached", "held back", "sign of work", "undo", "shift"}


class Rules(RuleBasedStateMachine):
    """One incident at a time; when more comes in the thread of an old one, a new one that is linked to it."""

    desk: Desk

    @initialize(policy=POLICIES, schedules=ROSTERS, late=st.just(0) | SPANS, once=st.sampled_from([False] * 5 + [True]))
    def a_panic(self, policy: EscalationPolicy, schedules: Rosters, late: int, once: bool) -> None:
        self.mails = 0
        self.closed_at: datetime | None = None
        self.desk = desk(policy, schedules, late * SECOND, once=once)

    def _say(self, event: str, by: str | None, decide: Callable[[Incident], Change]) -> Moved:
        self.desk.occurrence += 1
        moved = self.desk.happen(event, by, decide(self.desk.incident))
        if event in TWICE_IS_ONCE:
            self._say_again(event, by, decide)
        return moved

    def _say_again(self, event: str, by: str | None, decide: Callable[[Incident], Change]) -> None:
        """The same event at the same instant once more."""
        once, keys = self.desk.incident, set(self.desk.keys)
        again = self.desk.happen(event, by, decide(once))
        unclocked: dict[str, Any] = {"version": 0, "remind_at": None, "owed": None, "words_at": None, "worked_at": None}
        assert replace(again.after, **unclocked) == replace(once, **unclocked)
        if again.after != once:  # a second word of the same person is taken for a sign of work
            assert (again.before.state, again.before.holder) == (State.ACKED, by)
        assert set(self.desk.keys) == keys, "the second time has no effect"

    # -- time

    @rule(seconds=SPANS)
    def time_passes(self, seconds: int) -> None:
        self._until(self.desk.now + seconds * SECOND, ticking=True)

    @rule(seconds=SPANS)
    def an_outage_passes(self, seconds: int) -> None:
        """The tick at its end finds everything overdue."""
        self._until(self.desk.now + seconds * SECOND, ticking=False)

    @rule(which=st.integers(0, 3), off=st.sampled_from([-INSTANT, timedelta(0), INSTANT]), ticking=st.booleans())
    def a_deadline_comes(self, which: int, off: timedelta, ticking: bool) -> None:
        if due := self.desk.due():
            self._until(max(self.desk.now, due[min(which, len(due) - 1)] + off), ticking=ticking)

    def _until(self, at: datetime, *, ticking: bool) -> None:
        for _ in range(40):
            due = [instant for instant in self.desk.due() if instant < at]
            if not ticking or not due:
                break
            self.desk.now = due[0]
            self.desk.tick()
        self.desk.now = at
        self.desk.tick()

    # -- people, paged or not: whoever was not paged says it by command

    @rule(word=st.sampled_from(["yes", "yes", "take", "no", "escalate", "resolve", "sign of work"]), person=PEOPLE)
    def somebody_says(self, word: str, person: str) -> None:
        d, before = self.desk, self.desk.incident
        decide: dict[str, Callable[[Incident], Change]] = {
            "yes": lambda i: transitions.acknowledge(i, person, HOW, d.policy, d.now),
            "take": lambda i: transitions.take(i, person, HOW, d.policy, d.now),
            "no": lambda i: transitions.decline(i, person, HOW, "no", Duty(d.policy, d.who, d.now)),
            "escalate": lambda i: transitions.escalate(i, person, HOW, Duty(d.policy, d.who, d.now)),
            "resolve": lambda i: transitions.resolve(i, person, HOW, d.policy, d.now),
            "sign of work": lambda i: transitions.sign_of_work(i, person, d.policy, d.now),
        }
        outcome = self._say(word, person, decide[word]).change.outcome
        self._heard(word, person, outcome, before, d.incident)

    def _heard(self, word: str, person: str, outcome: Outcome, before: Incident, after: Incident) -> None:
        if outcome is Outcome.CLOSED:
            assert (before.state, after) == (State.RESOLVED, before), "too late changes nothing"
            return
        match word:
            case "yes" | "take":
                assert after.state is State.ACKED, "whoever said it, the clock has stopped"
                assert after.holder == person or (word == "yes" and after.holder == before.holder)
            case "escalate":
                assert after.state is State.OPEN
            case "resolve":
                assert after.state is (State.RESOLVED if before.state is State.ACKED else State.ACKED)
                assert outcome is (Outcome.DONE if before.state is State.ACKED else Outcome.HOW_TO_CLOSE)

    @rule(person=PEOPLE, to=PEOPLE)
    def one_offers_it_to_another(self, person: str, to: str) -> None:
        before = self.desk.incident
        self._say("hand over", person, lambda i: transitions.hand_over(i, person, to, HOW, self.desk.now))
        after = self.desk.incident
        assert (after.state, after.holder, after.next_step_at) == (before.state, before.holder, before.next_step_at)

    @rule(person=st.none() | PEOPLE, again=st.booleans())
    def the_issue_is_closed(self, person: str | None, again: bool) -> None:
        """The poll sees a closing each time it asks; `again`: another one, the issue having been opened meanwhile."""
        d = self.desk
        if again or self.closed_at is None:
            self.closed_at = d.now
        at = self.closed_at.isoformat()
        if self.closed_at <= d.incident.opened_at or transitions.is_known_act(d.lines, "closed_at", self.closed_at):
            return  # as the poll, which has told it
        self._say(
            "issue closed",
            person,
            lambda i: transitions.issue_closed(i, transitions.IssueClosing(by=person, closed_at=at), d.policy, d.now),
        )

    @rule(person=PEOPLE, counts=st.booleans(), hours=st.sampled_from([0, 23, 24, 25]))
    def the_issue_is_opened_again(self, person: str, counts: bool, hours: int) -> None:
        """The poll sees an opening each time it asks, too, and another one has a time of its own."""
        d, before = self.desk, self.desk.incident
        at = (before.resolved_at or d.now) + timedelta(hours=hours)
        if transitions.is_known_act(d.lines, "reopened_at", at):
            return  # as the poll, which has told it
        duty = Duty(d.policy, d.who, d.now)
        moved = self._say(
            "issue opened again",
            person,
            lambda i: transitions.issue_reopened(i, person, duty, reopened_at=at, counts=counts),
        )
        is_open = before.state is State.RESOLVED and counts and hours <= 24
        assert (moved.after.state is State.OPEN) == (before.state is State.OPEN or is_open)
        if not is_open:
            assert moved.after == before

    @rule(left=PEOPLE)
    def somebody_leaves_the_configuration(self, left: str) -> None:
        d, before, known = self.desk, self.desk.incident, set(CAST) - {left}
        moved = self._say("left", None, lambda i: transitions.holder_gone(i, known, Duty(d.policy, d.who, d.now)))
        is_theirs = before.state is State.ACKED and before.holder == left
        assert (moved.after != before) == is_theirs
        assert not is_theirs or moved.after.state is State.OPEN

    # -- by link

    @rule(word=st.sampled_from(["yes", "take", "resolve"]), person=PEOPLE)
    def somebody_presses_a_button(self, word: str, person: str) -> None:
        d, before = self.desk, self.desk.incident
        self.somebody_says(word, person)
        if kept := transitions.undoable(before, d.incident):
            d.lines.append(kept)
            d.pressed = before

    @rule(person=PEOPLE, missed=st.sets(PEOPLE))
    def it_was_not_me_says_somebody(self, person: str, missed: set[str]) -> None:
        """`missed`: whose page was dropped unsent."""
        d, before = self.desk, self.desk.incident
        until, dropped = transitions.undo_until(before, person, d.lines, d.now), sorted(missed & before.paged.keys())
        moved = self._say(
            "undo",
            person,
            lambda i: transitions.undo(i, transitions.Undoing(person=person, how=HOW, missed=dropped), d.lines, d.now),
        )
        assert (moved.change.outcome is Outcome.DONE) == (until is not None)
        if until is None:
            assert (moved.after, moved.change.effects) == (before, ())
        else:
            self._was_never_pressed(moved, dropped)
            d.pressed = None

    @rule(
        word=st.sampled_from(["yes", "take", "resolve"]),
        person=PEOPLE,
        seconds=st.sampled_from([0, 1, 60, 119, 120, 121]),
        meanwhile=st.sampled_from(["", "", "more", "offer", "take", "resolve"]),
        missed=st.sets(PEOPLE),
    )
    def a_thumb_slips(self, word: str, person: str, seconds: int, meanwhile: str, missed: set[str]) -> None:
        self.somebody_presses_a_button(word, person)
        self._until(self.desk.now + seconds * SECOND, ticking=True)
        match meanwhile:
            case "more":
                self.more_in_the_thread("", human=True, thanks=False, once=False)
            case "offer":
                self.one_offers_it_to_another(person, "cy")
            case "take":
                self.somebody_says("take", "cy")
            case "resolve":
                self.somebody_says("resolve", person)
        self.it_was_not_me_says_somebody(person, missed)

    def _was_never_pressed(self, moved: Moved, dropped: list[str]) -> None:
        was, now, at = self.desk.pressed, moved.after, moved.now
        assert was is not None
        kept = ("state", "step", "opened_at", "steps_from_at", "breached_at", "acked_at", "first_acked_at", "acked_how",
                "handed_to", "resolved_at", "resolved_by")  # fmt: skip
        assert [getattr(now, name) for name in kept] == [getattr(was, name) for name in kept]
        assert now.away.get(moved.by or "") == was.away.get(moved.by or "")
        due = {name: getattr(was, name) for name in ("next_step_at", "remind_at")}
        soon = {name: instant and max(instant, at) for name, instant in due.items()}
        if was.state is State.ACKED and moved.before.words_at:  # words came meanwhile
            assert (now.owed, now.words_at) == (Owed.ANSWER, was.words_at or moved.before.words_at)
        else:
            assert (now.owed, now.words_at) == (was.owed, was.words_at)
            assert {name: getattr(now, name) for name in due} == soon, "nobody gained time by it, nor lost any"
        held = was.state is State.ACKED
        assert now.holder == (was.holder if held else moved.by)
        assert sorted(page.person or "" for page in moved.pages) == ([] if held else dropped)
        assert set(told(moved.change, "undone")) == {*now.paged, *([was.holder] if held else [])} - {moved.by}
        taken, closed = moved.before.state is State.ACKED and held, moved.before.state is State.RESOLVED
        assert news(moved.change) == ([] if taken else ["not_closed"] if closed else ["reopened"])

    # -- the conversation

    @rule(person=PEOPLE, refused=st.booleans())
    def somebody_writes_to_the_reporter(self, person: str, refused: bool) -> None:
        d, before = self.desk, self.desk.incident
        self.mails += 1
        mail_id, text = f"m{self.mails}", "Leave it on, I am on my way."
        if not transitions.speaks(before, person):
            why = UnsentReason.CLOSED if before.resolved_at else UnsentReason.NOT_YOURS
            unsaid = transitions.leave_unsaid(
                before, person, transitions.Unsent(why=why, writer=person, text=text, mail_id=mail_id)
            )
            moved = self._say("speak", person, lambda i: unsaid)
            assert (told(moved.change, "unsent"), moved.after) == ([person], before)
            return
        moved = self._say(
            "speak",
            person,
            lambda i: transitions.speak(
                i, transitions.Speech(person=person, text=text, how=HOW, mail_id=mail_id), d.policy, d.now
            ),
        )
        assert news(moved.change) == ["said"]
        if refused:
            moved = self._say("refused", person, lambda i: transitions.refused(i, person, "550 no such user", mail_id))
            assert (told(moved.change, "unsent"), moved.after) == ([person], moved.before)

    # -- machines

    @rule(person=PEOPLE, why=st.sampled_from(["out of office", "the page bounced (5.1.1)", UNDELIVERED]))
    def unreachable(self, person: str, why: str) -> None:
        d = self.desk
        self._say(
            "unreachable", person, lambda i: transitions.unreachable(i, person, why, Duty(d.policy, d.who, d.now))
        )

    @rule(person=PEOPLE)
    def a_page_reaches_them_after_all(self, person: str) -> None:
        why = self.desk.incident.away.get(person)
        self._say("reached", person, lambda i: transitions.reached(i, person))
        assert self.desk.incident.away.get(person) == (None if why == UNDELIVERED else why), "a no stays a no"

    @rule(seconds=SPANS)
    def nobody_knows_what_is_due(self, seconds: int) -> None:
        until = self.desk.now + seconds * SECOND
        self._say("held back", None, lambda i: transitions.hold_back(i, until, "the clock jumped"))

    @precondition(lambda self: self.desk.incident.state is State.OPEN)
    @rule(times=st.integers(1, 3), declines=st.booleans())
    def a_robot_answers_for_everybody(self, times: int, declines: bool) -> None:
        d, before = self.desk, self.desk.incident
        for person in CAST * times:
            if declines:
                self._say("no", person, partial(_declined, d, person))
            else:
                self._say("unreachable", person, partial(_away, d, person))
        steps, people = max(0, d.policy.last - before.step), len(set(CAST) - before.paged.keys())
        operators = len(d.who(OPERATOR))
        most = steps + people + operators
        assert d.incident.round - before.round <= most, "each step above, new person and operator once at most"

    @rule(writer=st.sampled_from(["", *CAST]), human=st.booleans(), thanks=st.booleans(), once=st.booleans())
    def more_in_the_thread(self, writer: str, human: bool, thanks: bool, once: bool) -> None:
        """By the reporter or a stranger (""), by one of ours, or by a machine."""
        d = self.desk
        self.mails += 1
        if transitions.is_over(d.incident, d.now):
            self.desk = desk(d.policy, d.schedules, timedelta(0), once=once, now=d.now)
            return
        entry = Entry(event="thread.more", actor="rita@example.com", facts={"text": "and the server too"})
        mail_id = f"m{self.mails}"
        more = transitions.MoreMail(entry=entry, mail_id=mail_id, human=human, thanks=thanks, writer=writer)
        moved = self._say("more", writer, lambda i: transitions.more(i, more, Duty(d.policy, d.who, d.now)))
        self._reached(moved, writer, human=human, thanks=thanks)

    def _reached(self, moved: Moved, writer: str, *, human: bool, thanks: bool) -> None:
        before = moved.before
        if not human or (thanks and before.state is State.RESOLVED):
            assert (moved.after, moved.change.effects) == (before, ())
        elif before.state is State.RESOLVED:
            reopened = (moved.after.state, moved.after.sla_at, moved.after.breached_at, moved.after.away)
            assert reopened == (State.OPEN, moved.now + moved.policy.sla, None, {}), "as urgent as a new one"
            assert before.holder is None or [page.person for page in moved.pages] == [before.holder]
        else:
            listeners = {before.holder} if before.state is State.ACKED else set(before.paged)
            assert set(told(moved.change, "more")) == listeners - {writer}

    # -- the operator

    @rule(policy=POLICIES, schedules=ROSTERS)
    def a_reload(self, policy: EscalationPolicy, schedules: Rosters) -> None:
        """Other people by it are no change of shift."""
        self.desk.policy, self.desk.schedules = policy, schedules
        self.desk.came_on.clear()

    @rule(schedules=ROSTERS, seconds=st.just(0) | SPANS)
    def the_shift_changes(self, schedules: Rosters, seconds: int) -> None:
        """It is looked at so much later."""
        d = self.desk
        d.came_on |= {role: d.now for role in ROLES if set(schedules[role]) != set(d.schedules[role])}
        d.schedules = schedules
        self._until(d.now + seconds * SECOND, ticking=True)
        self.the_handover_is_looked_at()

    @rule(person=PEOPLE, which=st.integers(0, 1), seconds=st.just(0) | SPANS)
    def somebody_comes_on_call_meanwhile(self, person: str, which: int, seconds: int) -> None:
        """In a role that is concerned."""
        roles = transitions.shift_roles(self.desk.incident, self.desk.policy) or ROLES
        self.the_shift_changes({**self.desk.schedules, roles[which % len(roles)]: (person,)}, seconds)

    @rule()
    def the_handover_is_looked_at(self) -> None:
        d = self.desk

        def decide(incident: Incident) -> Change:
            whole = unchanged(incident, Outcome.NOTED)
            for role in transitions.shift_roles(incident, d.policy):
                if role in d.came_on and d.now - d.came_on[role] <= LOOK_BACK:
                    change = ShiftChange(role=role, at=d.came_on[role], people=d.schedules[role])
                    whole = whole.then(transitions.shift_changed(whole.incident, d.policy, change, d.lines, d.now))
            return whole

        self._say("shift", None, decide)

    # -- what is true whatever happened

    @invariant()
    def it_is_open_exactly_when_a_next_step_is_set(self) -> None:
        incident = self.desk.incident
        assert (incident.state is State.OPEN) == (incident.next_step_at is not None)

    @invariant()
    def an_open_incident_is_not_one_paged_once(self) -> None:
        assert not (self.desk.incident.state is State.OPEN and self.desk.incident.once)

    @invariant()
    def somebody_has_what_is_acknowledged_and_is_not_away(self) -> None:
        incident = self.desk.incident
        if incident.state is State.ACKED:
            assert incident.holder in CAST
            assert incident.holder not in incident.away
            assert incident.acked_at is not None

    @invariant()
    def a_holder_always_owes_something_by_some_time_and_nobody_else_does(self) -> None:
        incident = self.desk.incident
        is_held = incident.state is State.ACKED
        assert (is_held, is_held) == (incident.remind_at is not None, incident.owed is not None)
        assert incident.words_at is None or incident.owed is Owed.ANSWER

    @invariant()
    def a_resolved_incident_says_when_and_by_whom(self) -> None:
        incident = self.desk.incident
        assert (incident.state is State.RESOLVED) == (incident.resolved_at is not None) == bool(incident.resolved_by)

    @invariant()
    def nothing_happened_in_the_future(self) -> None:
        i = self.desk.incident
        past = [i.opened_at, i.steps_from_at, i.acked_at, i.first_acked_at, i.breached_at, i.resolved_at, i.worked_at]
        assert all(at <= self.desk.now for at in past if at)

    @invariant()
    def somebody_besides_a_silent_holder_is_called_next_whoever_is_away(self) -> None:
        """If nobody acts. Only where the policy and the operators are but one person, is there nobody else."""
        d, i = self.desk, self.desk.incident
        held = i.owed in {Owed.WORK, Owed.ANSWER}
        if i.state is not State.OPEN and not held:
            return
        called: set[str] = set()
        soon = len(d.policy.steps) + 3  # steps, or reminders, and the repeat
        for _ in range(soon):
            at = min(at for at in (i.next_step_at, i.remind_at) if at)
            change = transitions.pass_time(i, Duty(d.policy, d.who, max(at, d.now)))
            called |= {page.person or "" for page in pages(change)}
            i = change.incident
        roles = {role for step in d.policy.steps for role in step.page} | {OPERATOR}
        others = {person for role in roles for person in d.who(role)} - {i.holder}
        assert called - {i.holder} or not others

    @invariant()
    def what_a_page_promises_is_kept(self) -> None:
        """Ack by this time, or these people are called, it says: if nobody acts, they are, by then."""
        d, i = self.desk, self.desk.incident
        if i.state is not State.OPEN:
            return
        reader = next(reversed(list(i.paged)), "")
        promise = transitions.next_call(i, d.policy, d.who, reader)
        called: set[str] = set()
        while promise and i.next_step_at and i.next_step_at <= promise[0] and not promise[1].keys() <= called:
            change = transitions.pass_time(i, Duty(d.policy, d.who, max(i.next_step_at, d.now)))
            called.update(page.person or "" for page in pages(change))
            i = change.incident
        assert not promise or promise[1].keys() <= called


def test_the_state_table_keeps_its_promises_whatever_happens() -> None:
    run_state_machine_as_test(Rules, settings=settings(max_examples=many(200), stateful_step_count=40, deadline=None))


# -- robots against time


def _declined(d: Desk, person: str, incident: Incident) -> Change:
    return transitions.decline(incident, person, HOW, "no", Duty(d.policy, d.who, d.now))


def _away(d: Desk, person: str, incident: Incident) -> Change:
    return transitions.unreachable(incident, person, "out of office", Duty(d.policy, d.who, d.now))


@examples(60)
@given(POLICIES, ROSTERS, st.sampled_from(["no", "unreachable", "both"]), st.integers(1, 300), st.integers(1, 40))
def test_a_robot_that_answers_every_page_gets_no_more_pages_than_steps_and_repeats_allow(
    policy: EscalationPolicy, schedules: Rosters, answer: str, every: int, ticks: int
) -> None:
    d = desk(policy, schedules, timedelta(0), once=False)
    for _ in range(ticks):
        for person in CAST:
            if answer in {"no", "both"}:
                d.happen("no", person, _declined(d, person, d.incident))
            if answer in {"unreachable", "both"}:
                d.happen("unreachable", person, _away(d, person, d.incident))
        d.now += every * SECOND
        d.tick()
    operators = len(schedules[OPERATOR])  # each of whom is called early once
    assert d.incident.round <= len(policy.steps) + operators + (d.now - T0) // policy.repeat
    assert d.incident.state is State.OPEN


@examples(80)
@given(POLICIES, st.lists(st.tuples(st.integers(0, 900), st.sampled_from(["yes", "escalate"])), max_size=8))
def test_it_is_a_breach_exactly_if_nobody_had_it_when_the_sla_passed(
    policy: EscalationPolicy, said: list[tuple[int, str]]
) -> None:
    d = desk(policy, dict.fromkeys(ROLES, ("ana", "max")), timedelta(0), once=False)
    was_open, since = False, T0
    for seconds, word in [*said, (3600, "")]:
        d.now += seconds * SECOND
        was_open = was_open or (d.incident.state is State.OPEN and since < d.incident.sla_at <= d.now)
        d.tick()
        if word == "yes":
            d.happen("yes", "ana", transitions.acknowledge(d.incident, "ana", HOW, policy, d.now))
        elif word and d.incident.state is State.ACKED:
            d.happen("escalate", "ana", transitions.escalate(d.incident, "ana", HOW, Duty(policy, d.who, d.now)))
            since = d.now
        d.occurrence += 1
    assert (d.incident.breached_at is not None) == was_open


# -- what the machine found, each by itself


def test_a_stranger_who_closes_the_issue_again_is_told_again() -> None:
    d = desk(POLICY, {"seoc": ("ana",)}, timedelta(0), once=False)
    for closing in ("02:08", "02:09"):
        d.occurrence += 1
        d.happen(
            "issue closed",
            None,
            transitions.issue_closed(d.incident, transitions.IssueClosing(by=None, closed_at=closing), d.policy, d.now),
        )


def test_an_opening_of_the_issue_that_is_seen_twice_is_told_once_and_another_one_again() -> None:
    """Of the first one, whoever GitLab names for it the second time, nothing that was told is told again."""
    machine = Rules()
    machine.a_panic(POLICY, {"seoc": ("ana",), "smoc": ("max",), "engineers": (), OPERATOR: ()}, late=0, once=False)
    for _ in range(2):
        machine.somebody_says("resolve", "ana")
    for person, hours in (("max", 25), ("max", 25), ("bo", 25), ("max", 23)):
        machine.the_issue_is_opened_again(person, counts=False, hours=hours)
    told_ana = [key for key in machine.desk.keys if "issue_reopened" in key]
    assert [key.rsplit("/", 1)[1] for key in told_ana] == ["ana", "ana"]
    assert [line.actor for line in machine.desk.lines if line.event == transitions.ISSUE_REOPENED] == ["max", "max"]


#: Ana is called at once, whoever is the SMOC five minutes later.
TWO_STEPS = EscalationPolicy(
    sla=15 * MINUTE,
    steps=(PolicyStep(0 * MINUTE, ("seoc",)), PolicyStep(5 * MINUTE, ("smoc",))),
    repeat=5 * MINUTE,
    remind_after=20 * MINUTE,
)


def called_by(moved: Moved) -> dict[str | None, str]:
    """Whom it pages: person -> role."""
    return {page.person: page.facts["role"] for page in moved.pages}


def test_the_only_person_of_the_policy_who_asks_for_others_calls_the_operators_and_it_goes_on() -> None:
    alone = replace(TWO_STEPS, steps=TWO_STEPS.steps[:1])
    d = desk(alone, {"seoc": ("ana",), OPERATOR: ("cy",)}, timedelta(0), once=False)
    asked = d.happen("escalate", "ana", transitions.escalate(d.incident, "ana", HOW, Duty(alone, d.who, d.now)))
    assert called_by(asked) == {"cy": OPERATOR}
    assert d.incident.next_step_at == d.now + alone.repeat
    d.occurrence += 1
    again = d.happen("escalate", "ana", transitions.escalate(d.incident, "ana", HOW, Duty(alone, d.who, d.now)))
    assert not again.pages, "each is called early once"
    d.now += alone.repeat
    repeated = d.happen("time", None, transitions.pass_time(d.incident, Duty(alone, d.who, d.now)))
    assert called_by(repeated) == {"ana": "seoc"}, "who asked for others has not said no"


@pytest.mark.parametrize("operators", [("cy",), ()])
def test_who_was_not_called_since_it_is_open_again_is_called_with_the_operators(operators: tuple[str, ...]) -> None:
    schedules = {"seoc": ("ana",), "smoc": ("max", "bo"), OPERATOR: operators}
    d = desk(TWO_STEPS, schedules, timedelta(0), once=False)
    d.now += 5 * MINUTE
    d.tick()
    d.happen("yes", "max", transitions.acknowledge(d.incident, "max", HOW, TWO_STEPS, d.now))
    d.now += MINUTE
    assert called_by(d.happen("no", "max", _declined(d, "max", d.incident))) == {"bo": "smoc"}
    d.now += MINUTE
    assert transitions.called_on_no(d.incident, TWO_STEPS, d.who, "bo").keys() == {"ana", *operators}
    moved = d.happen("no", "bo", _declined(d, "bo", d.incident))
    assert called_by(moved) == {"ana": "seoc", **dict.fromkeys(operators, OPERATOR)}
    assert [e for e in moved.change.effects if e.do is EffectKind.OPERATORS] == [], "somebody is left"


def test_who_came_into_an_earlier_step_by_a_reload_is_called_with_the_operators() -> None:
    d = desk(TWO_STEPS, {"seoc": ("ana",), "smoc": ("max",), OPERATOR: ("cy",)}, timedelta(0), once=False)
    d.now += 5 * MINUTE
    d.tick()
    d.schedules = {**d.schedules, "seoc": ("bo",)}
    d.happen("no", "ana", _declined(d, "ana", d.incident))
    moved = d.happen("no", "max", _declined(d, "max", d.incident))
    assert called_by(moved) == {"bo": "seoc", "cy": OPERATOR}


def test_what_was_answered_in_time_is_no_breach_for_having_been_held_back() -> None:
    d = desk(POLICY, {"seoc": ("ana",), "smoc": ("max",)}, timedelta(0), once=False)
    d.happen("yes", "ana", transitions.acknowledge(d.incident, "ana", HOW, POLICY, d.now))
    d.happen("held back", None, transitions.hold_back(d.incident, T0 + 40 * MINUTE, "the clock jumped"))
    d.now = T0 + 20 * MINUTE
    d.happen("no", "ana", transitions.decline(d.incident, "ana", HOW, "no", Duty(POLICY, d.who, d.now)))
    d.now = T0 + 40 * MINUTE
    assert d.now > d.incident.first_sla_at
    d.tick()
    assert d.incident.breached_at is None


def test_who_changes_roles_is_not_paged_and_told_to_rest_at_once() -> None:
    """Max was called as one role before it was acknowledged, and comes on in the other one when it is open again."""
    both = EscalationPolicy(
        sla=15 * MINUTE, steps=(PolicyStep(0 * MINUTE, ("seoc", "smoc")),), repeat=5 * MINUTE, remind_after=MINUTE
    )
    d = desk(both, {"seoc": ("ana",), "smoc": ("max",)}, timedelta(0), once=False)
    d.happen("yes", "ana", transitions.acknowledge(d.incident, "ana", HOW, both, d.now))
    d.now += MINUTE
    d.schedules = {"seoc": ("ana",), "smoc": ("bo",)}
    d.happen("no", "ana", transitions.decline(d.incident, "ana", HOW, "no", Duty(both, d.who, d.now)))
    d.now += MINUTE
    change = unchanged(d.incident, Outcome.NOTED)
    for role, people in (("seoc", ("max",)), ("smoc", ("cy",))):
        came = ShiftChange(role=role, at=d.now, people=people)
        change = change.then(transitions.shift_changed(change.incident, both, came, d.lines, d.now))
    assert "max" in {page.person for page in pages(change)}
    assert "max" not in told(change, "shift_ended")
