"""Climbing the ladder: the step that is due, the early step, and what is left at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from panicmail.incident import Change, Do, Effect, Entry, Incident, Outcome, State, unchanged
from panicmail.policy import Ladder, Who
from panicmail.states.paging import lateness, nobody_alarm, page_all, paged_entry, reachable


def take_due_step(incident: Incident, ladder: Ladder, who: Who, now: datetime) -> Change:
    """Take the step whose time has come; overdue ones collapse into one page for each person.

    The last step repeats with a new round. After an outage the next repeat counts from `now`, so that nobody is
    paged twice in a row for time that has already passed.
    """
    due = incident.next_step_at or now
    overdue = ladder.overdue(incident.ladder_at, incident.step, now)
    # A reload may have made the ladder shorter than the step this incident stands on.
    steps = list(overdue) or [min(max(incident.step, 0), ladder.last)]
    taken = steps[-1]
    roles = tuple(role for index in steps for role in ladder.steps[index].page)
    named = ladder.people(roles, who)
    people = reachable(named, incident.away)
    if not people and _later(incident, ladder, who, taken):
        return _skip_to_reachable(replace(incident, step=taken), ladder, who, now, named)
    # When nobody is left at all those of the last step are paged all the same: silence is not an answer.
    people = people or named
    incident = replace(incident, step=taken, next_step_at=ladder.after_step(incident.ladder_at, taken, now))
    incident, pages = page_all(incident, people, now, **lateness(now, due))
    entries = [paged_entry(incident, people, taken, **lateness(now, due))]
    if len(steps) > 1:
        entries.append(
            Entry(event="steps.skipped", actor="panicmail", facts={"steps": [i + 1 for i in steps[:-1]]}, note=False)
        )
    effects = list(pages)
    if not people:
        effects.append(nobody_alarm(incident, taken))
    return Change(incident=incident, effects=tuple(effects), entries=tuple(entries))


def _later(incident: Incident, ladder: Ladder, who: Who, taken: int) -> bool:
    """Whether a step above `taken` names somebody reachable."""
    above = (ladder.people(step.page, who) for step in ladder.steps[taken + 1 :])
    return any(reachable(people, incident.away) for people in above)


def _skip_to_reachable(incident: Incident, ladder: Ladder, who: Who, now: datetime, named: Mapping[str, str]) -> Change:
    """Nobody in the due step can be reached: the next one that names somebody reachable is taken now."""
    alarm = () if named else (nobody_alarm(incident, incident.step),)
    skipped = Change(incident=incident, effects=alarm)
    return skipped.then(early_step(incident, ladder, who, now, skip="", cause={}))


def early_step(
    incident: Incident,
    ladder: Ladder,
    who: Who,
    now: datetime,
    *,
    skip: str,
    cause: Mapping[str, Any],
    again: bool = False,
) -> Change:
    """Take now the first later step that names somebody reachable besides `skip`; later steps keep their times.

    A step is only ever left upwards, so one step causes at most one early step and nothing can spin the ladder.
    `again`: it was acknowledged for a while, so the steps above get their intervals back, counted from now.
    On the last step there is nothing further: the operators are told and the repeat goes on.
    """
    for index in range(incident.step + 1, len(ladder.steps)):
        named = reachable(ladder.people(ladder.steps[index].page, who), {skip, *incident.away})
        if named:
            break
    else:
        return _stuck(incident, ladder, who, now, cause, again=again)
    start = ladder.start_for(index, now) if again else incident.ladder_at
    incident = replace(incident, step=index, ladder_at=start, next_step_at=ladder.after_step(start, index, now))
    incident, pages = page_all(incident, named, now, cause=dict(cause))
    return Change(incident=incident, effects=pages, entries=(paged_entry(incident, named, index, cause=dict(cause)),))


def _stuck(
    incident: Incident, ladder: Ladder, who: Who, now: datetime, cause: Mapping[str, Any], *, again: bool
) -> Change:
    alarm = Effect(
        do=Do.OPERATORS,
        key=f"operators/stuck/{incident.version}",
        facts={"cause": "nobody_left", "ref": incident.ref, **cause},
    )
    if again:
        # The ladder has ended once already: page its last step now, then repeat.
        last = replace(incident, step=ladder.last, ladder_at=ladder.start_for(ladder.last, now))
        return Change(incident=incident, effects=(alarm,)).then(take_due_step(last, ladder, who, now))
    return Change(incident=incident, effects=(alarm,), outcome=Outcome.NOBODY_LEFT)


def next_step_now(
    incident: Incident, ladder: Ladder, who: Who, now: datetime, said: Entry, *, skip: str, cause: Mapping[str, Any]
) -> Change:
    said_first = unchanged(incident, Outcome.DONE, said)
    if incident.state is State.OPEN:
        return said_first.then(early_step(incident, ladder, who, now, skip=skip, cause=cause))
    again = _open_again(incident, now)
    step = early_step(again.incident, ladder, who, now, skip=skip, cause=cause, again=True)
    change = said_first.then(again).then(step)
    return replace(change, effects=change.effects + _told_holder(incident, said.actor, change.effects, now))


def _told_holder(
    incident: Incident, by: str | None, effects: tuple[Effect, ...], now: datetime
) -> tuple[Effect, ...]:
    """Whoever had it until somebody else asked for more people; her page says it too, if she is paged."""
    holder = incident.holder
    paged = {effect.person for effect in effects if effect.do is Do.PAGE}
    if holder is None or holder == by or holder in paged or incident.state is not State.ACKED:
        return ()
    facts = {"what": "opened_again", "by": by, "at": now.isoformat()}
    return (Effect(do=Do.TELL, key=f"tell/{incident.version}/opened_again/{holder}", person=holder, facts=facts),)


def _open_again(incident: Incident, now: datetime) -> Change:
    """From acked (or paged once) back to open; the holder stays on record. The caller takes the next step at once."""
    incident = replace(
        incident,
        state=State.OPEN,
        opened_at=now,
        next_step_at=now,
        remind_at=None,
        reminded=False,
        answer_at=None,
        handed_to=None,
        resolved_at=None,
        resolved_by="",
        once=False,
    )
    entry = Entry(event="incident.opened_again", actor="panicmail", facts={"last_holder": incident.holder}, note=False)
    return Change(incident=incident, entries=(entry,))


#: When somebody is called, and who: person -> role.
NextCall = tuple[datetime, dict[str, str]]


def next_call(incident: Incident, ladder: Ladder, who: Who, besides: str) -> NextCall | None:
    """When the ladder next calls somebody other than `besides`, and whom; None when no later step does.

    What a page promises its reader: "ack by this time, or these people are called".
    """
    for index in range(incident.step + 1, len(ladder.steps)):
        people = reachable(ladder.people(ladder.steps[index].page, who), {besides, *incident.away})
        if people:
            # The first step of a reopened incident waits a grace: no step is ever due before `next_step_at`.
            at = ladder.step_at(incident.ladder_at, index)
            return max(at, incident.next_step_at or at), people
    return None
