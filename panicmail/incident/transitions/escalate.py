"""Following the policy: the step that is due, the early step, and at its end the operators."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from panicmail.incident.escalation_policy import OPERATOR, Duty, EscalationPolicy, OnCallAt
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.transitions.page_step import lateness, nobody_alarm, page_all, paged_entry, reachable, role_of
from panicmail.incident.transitions.silent_holder import NOTHING_OWED


def take_due_step(
    incident: Incident,
    duty: Duty,
    *,
    besides: str = "",
    cause: Mapping[str, Any] | None = None,
) -> Change:
    """Take the step whose time has come; overdue ones collapse into one page for each person.

    The last step repeats with a new round. After an outage the next repeat counts from `now`, so that nobody is
    paged twice in a row for time that has already passed. Where no step names anybody who can be reached the operators
    are called too, and again after each `repeat`.

    Args:
        besides: Who asked for others: paged with them, and never alone.
        cause: Why it is taken now, as JSON.
    """
    due = incident.next_step_at or duty.now
    overdue = duty.policy.overdue(incident.steps_from_at, incident.step, duty.now)
    # A reload may have made the policy shorter than the step this incident stands on.
    steps = list(overdue) or [min(max(incident.step, 0), duty.policy.last)]
    taken = steps[-1]
    named = _named(duty.policy, duty.who, steps)
    if not reachable(named, incident.away) and _further(incident, duty.policy, duty.who, taken):
        return _skip_to_reachable(replace(incident, step=taken), duty, named)
    people, is_last_resort = _called(incident, duty.policy, duty.who, steps, besides)
    next_at = duty.policy.after_step(incident.steps_from_at, taken, duty.now)
    about: dict[str, Any] = lateness(duty.now, due)
    if is_last_resort:
        next_at = min(next_at, duty.policy.later(duty.now, duty.policy.repeat))
        cause = {**(cause or {}), **_why_last_resort(duty.policy, duty.who, steps)}
    if cause:
        about["cause"] = dict(cause)
    incident = replace(incident, step=taken, next_step_at=next_at)
    incident, pages = page_all(incident, people, duty.now, **about)
    entries = (paged_entry(incident, people, taken, **about), *_skipped_entries(steps))
    alarms = () if people else (nobody_alarm(incident, taken),)
    return Change(incident=incident, effects=(*pages, *alarms), entries=entries)


def _skipped_entries(steps: Sequence[int]) -> tuple[Entry, ...]:
    """Of the steps that are taken as one, those before the last are skipped."""
    if len(steps) == 1:
        return ()
    skipped = {"steps": [index + 1 for index in steps[:-1]]}
    return (Entry(event="steps.skipped", actor="panicmail", facts=skipped, note=False),)


def _named(policy: EscalationPolicy, who: OnCallAt, steps: Iterable[int]) -> dict[str, str]:
    return policy.people(tuple(role for index in steps for role in policy.steps[index].page), who)


def _called(
    incident: Incident, policy: EscalationPolicy, who: OnCallAt, steps: Sequence[int], besides: str = ""
) -> tuple[dict[str, str], bool]:
    """Whom `steps` call, person -> role, and whether the operators are among them because nobody else is left.

    Where nobody they name can be reached, nor anybody above, whoever else of the policy can be is called with the
    operators; and when nobody can, all are paged all the same: silence is not an answer. Whoever had it last, or asked
    for others, is called as well, but counts for nobody.
    """
    named = _named(policy, who, steps)
    people = reachable(named, incident.away)
    asked = {besides, incident.holder or ""}
    if people.keys() - asked or _further(incident, policy, who, steps[-1], *asked):
        return people, False
    everybody, operators = _named(policy, who, range(len(policy.steps))), policy.people((OPERATOR,), who)
    people = reachable(everybody, incident.away)
    resort = reachable(operators, {*incident.away, *asked})
    if not people.keys() - asked and not resort:
        people, resort = {**named, **everybody}, operators
    resort = reachable(resort, people)
    return {**(people or named), **resort}, bool(resort)


def _further(
    incident: Incident, policy: EscalationPolicy, who: OnCallAt, taken: int, *besides: str
) -> tuple[int, dict[str, str]] | None:
    """The first step above `taken` that names somebody reachable besides those, and whom; None when none does."""
    for index in range(taken + 1, len(policy.steps)):
        people = reachable(_named(policy, who, [index]), {*besides, *incident.away})
        if people:
            return index, people
    return None


def _why_last_resort(policy: EscalationPolicy, who: OnCallAt, steps: Iterable[int]) -> dict[str, Any]:
    """As a cause of pages: the roles nobody is on call in, or that nobody of them is left."""
    roles = dict.fromkeys(role for index in steps for role in policy.steps[index].page)
    empty = not policy.people(tuple(roles), who)
    return {"last_resort": "nobody_on_call", "roles": list(roles)} if empty else {"last_resort": "nobody_left"}


def _skip_to_reachable(incident: Incident, duty: Duty, named: Mapping[str, str]) -> Change:
    """Nobody in the due step can be reached: the next one that names somebody reachable is taken now."""
    alarm = () if named else (nobody_alarm(incident, incident.step),)
    skipped = Change(incident=incident, effects=alarm)
    return skipped.then(early_step(incident, duty, skip="", cause={}))


def early_step(
    incident: Incident,
    duty: Duty,
    *,
    skip: str,
    cause: Mapping[str, Any],
    again: bool = False,
) -> Change:
    """Take now the first later step that names somebody reachable besides `skip`; later steps keep their times.

    A step is only ever left upwards, so one step causes at most one early step and nothing can spin the policy.
    `again`: it was acknowledged for a while, so the steps above get their intervals back, counted from now.
    Above the last step there are the operators, and whoever else of the policy was not called since it is open: they
    are called, and the repeat goes on.
    """
    further = _further(incident, duty.policy, duty.who, incident.step, skip)
    if further is None:
        return _at_the_end(incident, duty, cause, skip=skip, again=again)
    index, named = further
    start = duty.policy.start_for(index, duty.now) if again else incident.steps_from_at
    incident = replace(
        incident, step=index, steps_from_at=start, next_step_at=duty.policy.after_step(start, index, duty.now)
    )
    incident, pages = page_all(incident, named, duty.now, cause=dict(cause))
    return Change(incident=incident, effects=pages, entries=(paged_entry(incident, named, index, cause=dict(cause)),))


def _at_the_end(
    incident: Incident,
    duty: Duty,
    cause: Mapping[str, Any],
    *,
    skip: str,
    again: bool,
) -> Change:
    if again:
        # The policy has ended once already: page its last step now, then repeat.
        last = replace(incident, step=duty.policy.last, steps_from_at=duty.policy.start_for(duty.policy.last, duty.now))
        return take_due_step(last, duty, besides=skip, cause=cause)
    people = _fresh_at_the_end(incident, duty.policy, duty.who, skip)
    if not people:
        facts = {"cause": "nobody_left", "ref": incident.ref, **cause}
        alarm = Effect(do=EffectKind.OPERATORS, key=f"operators/stuck/{incident.version}", facts=facts)
        return Change(incident=incident, effects=(alarm,), outcome=Outcome.NOBODY_LEFT)
    repeat_at = duty.policy.later(duty.now, duty.policy.repeat)
    incident = replace(incident, next_step_at=min(incident.next_step_at or repeat_at, repeat_at))
    last_resort = {"last_resort": "nobody_left"} if OPERATOR in people.values() else {}
    cause = {**cause, **last_resort}
    incident, pages = page_all(incident, people, duty.now, cause=cause)
    entry = paged_entry(incident, people, incident.step, cause=cause)
    return Change(incident=incident, effects=pages, entries=(entry,))


def _fresh_at_the_end(incident: Incident, policy: EscalationPolicy, who: OnCallAt, besides: str) -> dict[str, str]:
    """Of the policy and the operators whoever can be reached and was not called since it is open: person -> role.

    Each is called early once. Nobody is while somebody else whom the step names can still answer. Whoever had it last
    counts for nobody, unless as an operator.
    """
    gone = {besides, *incident.away}
    if reachable(_named(policy, who, [min(max(incident.step, 0), policy.last)]), gone):
        return {}
    named = reachable(_named(policy, who, range(len(policy.steps))), {*gone, incident.holder or ""})
    operators = reachable(policy.people((OPERATOR,), who), {*gone, *named})
    paged = incident.paged
    left = {**named, **operators}
    return {p: role for p, role in left.items() if p not in paged or paged[p].last_at < incident.opened_at}


def next_step_now(
    incident: Incident,
    duty: Duty,
    said: Entry,
    *,
    skip: str,
    cause: Mapping[str, Any],
) -> Change:
    said_first = unchanged(incident, Outcome.DONE, said)
    if incident.state is State.OPEN:
        return said_first.then(early_step(incident, duty, skip=skip, cause=cause))
    again = _open_again(incident, duty.now)
    step = early_step(again.incident, duty, skip=skip, cause=cause, again=True)
    change = said_first.then(again).then(step)
    return replace(change, effects=change.effects + _told_holder(incident, said.actor, change.effects, duty.now))


def _told_holder(incident: Incident, by: str | None, effects: tuple[Effect, ...], now: datetime) -> tuple[Effect, ...]:
    """Whoever had it until somebody else asked for more people; their page says it too, if they are paged."""
    holder = incident.holder
    paged = {effect.person for effect in effects if effect.do is EffectKind.PAGE}
    if holder is None or holder == by or holder in paged or incident.state is not State.ACKED:
        return ()
    facts = {"what": "opened_again", "by": by, "at": now.isoformat()}
    return (
        Effect(do=EffectKind.TELL, key=f"tell/{incident.version}/opened_again/{holder}", person=holder, facts=facts),
    )


def _open_again(incident: Incident, now: datetime) -> Change:
    """From acked (or paged once) back to open; the holder stays on record. The caller takes the next step at once."""
    incident = replace(
        incident,
        state=State.OPEN,
        opened_at=now,
        next_step_at=now,
        handed_to=None,
        resolved_at=None,
        resolved_by="",
        once=False,
        **NOTHING_OWED,
    )
    entry = Entry(event="incident.opened_again", actor="panicmail", facts={"last_holder": incident.holder}, note=False)
    return Change(incident=incident, entries=(entry,))


def holder_gone(incident: Incident, known: Container[str], duty: Duty) -> Change:
    """Whoever has it is no longer in the configuration, so nobody does: open again, and those on call are called now.

    They are called as of the first step that pages the role of whoever had it; the steps above follow as ever.

    Args:
        known: The people there are.
    """
    holder = incident.holder
    if incident.state is not State.ACKED or holder is None or holder in known:
        return unchanged(incident, Outcome.ALREADY)
    role = role_of(incident, holder)
    index = next((number for number, step in enumerate(duty.policy.steps) if role in step.page), 0)
    again = _open_again(incident, duty.now)
    start = replace(again.incident, step=index - 1, steps_from_at=duty.policy.start_for(index, duty.now))
    return again.then(take_due_step(start, duty, cause={"holder_gone": holder}))


#: When somebody is called, and who: person -> role.
NextCall = tuple[datetime, dict[str, str]]


def next_call(incident: Incident, policy: EscalationPolicy, who: OnCallAt, besides: str) -> NextCall | None:
    """When somebody other than `besides` is called next, and who; None when nobody else ever is.

    What a page promises its reader: "ack by this time, or these people are called".
    """
    if further := _further(incident, policy, who, incident.step, besides):
        index, people = further
        # The first step of a reopened incident waits a grace: no step is ever due before `next_step_at`.
        at = policy.step_at(incident.steps_from_at, index)
        return max(at, incident.next_step_at or at), people
    if incident.next_step_at is None:
        return None
    people, is_last_resort = _called(incident, policy, who, [min(max(incident.step, 0), policy.last)])
    others = reachable(people, {besides, *incident.away}) if is_last_resort else {}
    return (incident.next_step_at, others) if others else None


def called_on_no(incident: Incident, policy: EscalationPolicy, who: OnCallAt, person: str) -> Mapping[str, str]:
    """Whom a "no" of `person` to an open incident calls at once: person -> role; {} when nobody is left."""
    if person in incident.away:
        return {}
    further = _further(incident, policy, who, incident.step, person)
    return further[1] if further else _fresh_at_the_end(incident, policy, who, person)
