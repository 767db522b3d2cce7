"""Somebody has it and is silent: whom to call in their place, and the line that says whom.

    the managers      the roles of the last step that the first one does not page
    their colleagues  everybody else the escalation policy names
    the operators

Whoever is the silent holder is none of them. One group is called at a time: the first that has not been called since
the holder was last heard of, and when all have, the one whose call is longest ago. So it goes on at the policy's
`repeat`, the holder asked again with every second call, until the holder is heard of or somebody called says yes.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from panicmail.incident import Change, Do, Effect, Entry, Incident, Word
from panicmail.policy import OPERATOR, Ladder, Who
from panicmail.states.paging import page_all, reachable, role_of

#: The line of the timeline that keeps who was called for a silent holder.
HOLDER_SILENT = "holder.silent"


def called_for_silent(incident: Incident, ladder: Ladder, who: Who) -> dict[str, str]:
    """Whom the silence of the holder calls next: person -> role; {} when there is nobody else."""
    managers = ladder.people(ladder.managers, who)
    everybody = ladder.people(tuple(role for step in reversed(ladder.steps) for role in step.page), who)
    operators = ladder.people((OPERATOR,), who)
    besides = {incident.holder or ""}
    groups = [reachable(managers, besides), reachable(everybody, {*besides, *managers}),
              reachable(operators, {*besides, *everybody})]  # fmt: skip
    left = [people for group in groups if (people := reachable(group, incident.away))]
    # Who is away is called all the same when nobody else is left.
    return min(left or filter(None, groups), key=lambda group: _called_at(incident, group), default={})


def _called_at(incident: Incident, people: dict[str, str]) -> datetime:
    """When the first of them was last called since the holder was heard of; that instant when one was not."""
    heard_at = _heard_at(incident)
    calls = (incident.paged[person].last_at if person in incident.paged else heard_at for person in people)
    return max(heard_at, min(calls))


def _heard_at(incident: Incident) -> datetime:
    """When the holder was last heard of."""
    return max(filter(None, (incident.acked_at, incident.worked_at)), default=incident.opened_at)


def call_for_silent(incident: Incident, ladder: Ladder, who: Who, now: datetime, why: str) -> Change:
    """Call somebody in the place of the silent holder; so it goes on at the policy's `repeat`.

    The holder is asked again with every second call, and with each where there is nobody else.

    Args:
        why: What is missing, in words.
    """
    holder = incident.holder or ""
    others = called_for_silent(incident, ladder, who)
    again = {} if others and _is_first(incident) else {holder: role_of(incident, holder)}
    incident = replace(incident, answer_at=None, reminded=True, remind_at=ladder.later(now, ladder.repeat))
    incident, asked = page_all(incident, again, now, Word.STILL_YOURS, why=why) if again else (incident, ())
    incident, called = page_all(incident, others, now, Word.SILENT_HOLDER, why=why) if others else (incident, ())
    facts = {"holder": holder, "again": bool(again), "people": dict(others), "why": why}
    entry = Entry(event=HOLDER_SILENT, actor="panicmail", facts=facts)
    alarm = Effect(do=Do.OPERATORS, key=f"operators/silent/{incident.round}",
                   facts={"cause": "nobody_left", "ref": incident.ref, "holder": holder})  # fmt: skip
    return Change(incident=incident, effects=(*asked, *called, *(() if others else (alarm,))), entries=(entry,))


def _is_first(incident: Incident) -> bool:
    """Whether nobody else was called since the holder was asked or heard of last."""
    holder = incident.paged.get(incident.holder or "")
    asked_at = max(_heard_at(incident), holder.last_at) if holder else _heard_at(incident)
    return all(paged.last_at <= asked_at for paged in incident.paged.values())


def answer_for_silent(incident: Incident, person: str, ladder: Ladder, now: datetime) -> Incident:
    """A yes of somebody who was called for the silent holder: nobody else is, until it is asked for work anew."""
    paged = incident.paged.get(person)
    if not incident.reminded or paged is None or paged.last_at <= _heard_at(incident):
        return incident
    return replace(incident, reminded=False, answer_at=None, remind_at=ladder.later(now, ladder.remind_after))
