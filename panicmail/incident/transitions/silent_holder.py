"""The clock of an incident somebody has: what is owed, and what follows when it does not come. One for each.

    taken           a sign of work within the policy's `remind_after`; else the holder is asked, by page and push
    asked           an answer within ten minutes; else others are called in the holder's place, and so it goes on at the
                    policy's `repeat`, by page and push, by night too
    somebody wrote  as asked: the mail and push that bring the words ask for the answer. A bare thank-you and a machine
                    ask for nothing
    answered        nothing that hurries: while it stays quiet, the holder is asked by mail alone, in the daytime of
                    their zone, after spans that grow to a day

It is answered by a word or a sign of work of the holder, or of somebody who was called in their place.

Whom the silence calls:

    the managers      the roles of the last step that the first one does not page
    their colleagues  everybody else the escalation policy names
    the operators

Whoever is the silent holder is none of them. One group is called at a time: the first that has not been called since
the holder was last heard of, and when all have, the one whose call is longest ago. The holder is asked again with every
second call. When nobody called last can help, by their word or a machine's, the next group is called at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from panicmail.incident.escalation_policy import (
    ANSWER_WITHIN,
    OPERATOR,
    BusinessHours,
    Duty,
    EscalationPolicy,
    OnCallAt,
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
from panicmail.incident.transitions.page_step import page_all, reachable, role_of

#: The line of the timeline that keeps who was called for a silent holder.
HOLDER_SILENT = "holder.silent"
#: The fields of the clock where nobody has it.
NOTHING_OWED: Mapping[str, Any] = MappingProxyType({"remind_at": None, "owed": None, "words_at": None})
#: What was quiet for so long is asked about when the next day begins, and not later.
_NIGHT = timedelta(hours=12)


# -- what is owed


def owe_work(incident: Incident, by: datetime) -> Incident:
    """A sign of work is due `by` then, or the holder is asked for one."""
    return replace(incident, owed=Owed.WORK, remind_at=by, words_at=None)


def owe_answer(incident: Incident, now: datetime) -> Incident:
    """Somebody wrote, and the holder has their words. What was due sooner stays so."""
    by = now + ANSWER_WITHIN
    if incident.owed is Owed.ANSWER and incident.remind_at:
        by = min(by, incident.remind_at)
    return replace(incident, owed=Owed.ANSWER, remind_at=by, words_at=incident.words_at or now)


def sign_of_work(
    incident: Incident, person: str, policy: EscalationPolicy, now: datetime, worked_at: datetime | None = None
) -> Change:
    """Somebody who answers for it wrote, or worked in GitLab: nothing hurries any more. Anybody else changes nothing.

    `worked_at`: when, if not now. Words that came since still wait for their answer.
    """
    if answers_for(incident, person):
        incident = _answered(incident, policy, worked_at or now)
    return unchanged(incident, Outcome.NOTED)


def answers_for(incident: Incident, person: str) -> bool:
    """Whether a word of `person` is the answer that is owed: the holder's is, and of those called in their place."""
    is_held = incident.state is State.ACKED
    return is_held and (incident.holder == person or is_called_for_silent(incident, person))


def is_called_for_silent(incident: Incident, person: str) -> bool:
    """Whether `person` was called in the place of the holder, who is still silent."""
    paged = incident.paged.get(person)
    if paged is None or incident.owed is not Owed.ANSWER or person in {incident.holder, incident.handed_to}:
        return False
    return paged.last_at > _heard_at(incident)


def _answered(incident: Incident, policy: EscalationPolicy, at: datetime) -> Incident:
    if incident.words_at is not None and at < incident.words_at:
        return replace(incident, worked_at=at)
    due_at = policy.later(at, policy.remind_after)
    return replace(incident, owed=Owed.STATUS, remind_at=due_at, words_at=None, worked_at=at)


def _heard_at(incident: Incident) -> datetime:
    """When the holder was last heard of, or somebody in their place."""
    return max(filter(None, (incident.acked_at, incident.worked_at)), default=incident.opened_at)


# -- what follows


def pass_silence(incident: Incident, duty: Duty, daytime: BusinessHours) -> Change:
    """What is owed did not come by now.

    Args:
        daytime: Of the holder: when mail comes that can wait.
    """
    if incident.state is not State.ACKED or incident.remind_at is None or incident.remind_at > duty.now:
        return unchanged(incident, Outcome.DONE)
    if incident.owed is Owed.ANSWER:
        return call_for_silent(incident, duty)
    if incident.owed is Owed.STATUS:
        return _ask_for_status(incident, duty.policy, duty.now, daytime)
    incident = replace(incident, owed=Owed.ANSWER, remind_at=duty.now + ANSWER_WITHIN)
    return _ask(incident, duty.now, PageReason.STILL_YOURS, note=True)


def _ask_for_status(incident: Incident, policy: EscalationPolicy, now: datetime, daytime: BusinessHours) -> Change:
    opens_at = daytime.after(now, timedelta())
    if opens_at > now:
        return unchanged(replace(incident, remind_at=opens_at), Outcome.DONE)
    quiet = max(now - _heard_at(incident), policy.remind_after)
    next_at = daytime.after(now + min(2 * quiet, _NIGHT), timedelta())
    return _ask(replace(incident, remind_at=next_at), now, PageReason.STATUS, note=False)


def _ask(incident: Incident, now: datetime, word: PageReason, *, note: bool) -> Change:
    holder = incident.holder or ""
    incident, pages = page_all(incident, {holder: role_of(incident, holder)}, now, word)
    entry = Entry(event="holder.reminded", actor="panicmail", facts={"person": holder}, note=note)
    return Change(incident=incident, effects=pages, entries=(entry,))


# -- whom the silence calls


def called_for_silent(incident: Incident, policy: EscalationPolicy, who: OnCallAt) -> dict[str, str]:
    """Whom the silence of the holder calls next: person -> role; {} when there is nobody else."""
    managers = policy.people(policy.managers, who)
    everybody = policy.people(tuple(role for step in reversed(policy.steps) for role in step.page), who)
    operators = policy.people((OPERATOR,), who)
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


def call_for_silent(incident: Incident, duty: Duty) -> Change:
    """Call somebody in the place of the silent holder; so it goes on at the policy's `repeat`.

    The holder is asked again with every second call, and with each where there is nobody else.
    """
    holder = incident.holder or ""
    why = "a message was not answered" if incident.words_at else "no sign of work"
    others = called_for_silent(incident, duty.policy, duty.who)
    again = {} if others and _is_first(incident) else {holder: role_of(incident, holder)}
    incident = replace(incident, remind_at=duty.policy.later(duty.now, duty.policy.repeat))
    incident, asked = page_all(incident, again, duty.now, PageReason.STILL_YOURS, why=why) if again else (incident, ())
    incident, called = (
        page_all(incident, others, duty.now, PageReason.SILENT_HOLDER, why=why) if others else (incident, ())
    )
    facts = {"holder": holder, "again": bool(again), "people": dict(others), "why": why}
    entry = Entry(event=HOLDER_SILENT, actor="panicmail", facts=facts)
    alarm = Effect(do=EffectKind.OPERATORS, key=f"operators/silent/{incident.round}",
                   facts={"cause": "nobody_left", "ref": incident.ref, "holder": holder})  # fmt: skip
    return Change(incident=incident, effects=(*asked, *called, *(() if others else (alarm,))), entries=(entry,))


def pass_over(incident: Incident, person: str, why: str, duty: Duty) -> Change:
    """Somebody who was called for the silent holder cannot help: the next are called now.

    Not while somebody called with them still can, nor when nobody is left who was not passed over.
    """
    if not is_called_for_silent(incident, person) or person in incident.away:
        return unchanged(incident, Outcome.NOTED)
    incident = replace(incident, away={**incident.away, person: why})
    called = {p: paged.last_at for p, paged in incident.paged.items() if is_called_for_silent(incident, p)}
    latest = [p for p, at in called.items() if at == max(called.values())]
    others = called_for_silent(incident, duty.policy, duty.who)
    if reachable(dict.fromkeys(latest, ""), incident.away) or not reachable(others, incident.away):
        return unchanged(incident, Outcome.NOTED)
    return call_for_silent(incident, duty)


def _is_first(incident: Incident) -> bool:
    """Whether nobody else was called since the holder was asked or heard of last."""
    holder = incident.paged.get(incident.holder or "")
    asked_at = max(_heard_at(incident), holder.last_at) if holder else _heard_at(incident)
    return all(paged.last_at <= asked_at for paged in incident.paged.values())
