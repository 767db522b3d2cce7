"""What people answer: yes, take, no, escalate, hand over; and that somebody cannot be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from panicmail.incident.escalation_policy import ANSWER_WITHIN, UNDELIVERED, UNDELIVERED_BEFORE, Duty, EscalationPolicy
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
from panicmail.incident.transitions.escalate import early_step, next_step_now, take_due_step
from panicmail.incident.transitions.page_step import page_all, paged_entry, reachable, role_of
from panicmail.incident.transitions.silent_holder import owe_work, pass_over, sign_of_work


def acknowledge(incident: Incident, person: str, how: str, policy: EscalationPolicy, now: datetime) -> Change:
    """Yes, from somebody paged (or offered it): theirs if nobody has it, else they are told who does.

    `how` says in words what the yes rests on; everybody paged is shown it.
    """
    if incident.state is State.RESOLVED and not unclaimed(incident):
        return unchanged(incident, Outcome.CLOSED, heard("ack.late", person, how))
    if incident.state is State.ACKED:
        if incident.handed_to == person and incident.holder != person:
            return give(incident, person, how, policy, now)
        return _sign(incident, person, policy, now, heard("ack.repeated", person, how))
    return give(incident, person, how, policy, now)


def take(incident: Incident, person: str, how: str, policy: EscalationPolicy, now: datetime) -> Change:
    """Theirs now, whoever has it; a taken one already theirs changes nothing."""
    if incident.state is State.RESOLVED and not unclaimed(incident):
        return unchanged(incident, Outcome.CLOSED, heard("take.late", person, how))
    if incident.state is State.ACKED and incident.holder == person:
        return _sign(incident, person, policy, now, heard("ack.repeated", person, how))
    return give(incident, person, how, policy, now)


def unclaimed(incident: Incident) -> bool:
    """Paged once without escalation and nobody's so far: an answer to that one page still counts."""
    return incident.once and incident.holder is None


def give(incident: Incident, person: str, how: str, policy: EscalationPolicy, now: datetime) -> Change:
    before = incident.holder if incident.state is State.ACKED else None
    was_open = incident.state is not State.ACKED
    incident = replace(
        incident,
        state=State.ACKED,
        holder=person,
        handed_to=None,
        acked_at=now,
        first_acked_at=incident.first_acked_at or now,
        acked_how=how,
        next_step_at=None,
        worked_at=None,
        resolved_at=None,
        resolved_by="",
        away={p: why for p, why in incident.away.items() if p != person},
    )
    incident = owe_work(incident, policy.later(now, policy.remind_after))
    facts = {"holder": person, "how": how, "at": now.isoformat(), "before": before}
    effects = [
        Effect(
            do=EffectKind.TELL,
            key=f"tell/{incident.version}/acked/{other}",
            person=other,
            facts={"what": "acked_by", **facts},
        )
        for other in others_paged(incident, person, before)
    ]
    if was_open:
        effects.append(
            Effect(do=EffectKind.NEWS, key=f"news/{incident.version}/acked", facts={"what": "acked", **facts})
        )
    entry = Entry(event="incident.acked" if was_open else "incident.taken", actor=person, facts=facts)
    return Change(incident=incident, effects=tuple(effects), entries=(entry,), void_pages=True)


def others_paged(incident: Incident, person: str, before: str | None) -> list[str]:
    """Everybody paged, and who had it before, but not `person`."""
    return [p for p in dict.fromkeys([*incident.paged, *([before] if before else [])]) if p != person]


def heard(event: str, person: str, how: str) -> Entry:
    return Entry(event=event, actor=person, facts={"how": how})


def _sign(incident: Incident, person: str, policy: EscalationPolicy, now: datetime, *entries: Entry) -> Change:
    """It has a holder: a word of whoever answers for it is a sign of work."""
    return replace(sign_of_work(incident, person, policy, now), entries=entries, outcome=Outcome.ALREADY)


def decline(incident: Incident, person: str, how: str, words: str, duty: Duty) -> Change:
    """No: the next step that names somebody else is taken now, and `person` is passed over from here on."""
    said = Entry(event="person.declined", actor=person, facts={"how": how, "words": words})
    if incident.state is State.RESOLVED:
        return unchanged(incident, Outcome.CLOSED, said)
    if incident.state is State.ACKED and incident.holder != person:
        why = f'declined ("{words}")' if words else "declined"
        refused = replace(_offer_failed(incident, person, f'said no ("{words}")'), entries=(said,))
        return refused.then(pass_over(refused.incident, person, why, duty))
    if incident.state is State.OPEN and person in incident.away:
        return unchanged(incident, Outcome.NOTED, said)  # said twice, or away already: the next ones are called
    incident = replace(incident, away={**incident.away, person: f'declined ("{words}")' if words else "declined"})
    cause = {"declined_by": person, "words": words}
    return next_step_now(incident, duty, said, skip=person, cause=cause)


def escalate(incident: Incident, person: str, how: str, duty: Duty) -> Change:
    """The next step at once, whoever has it: the first later one that names somebody besides the asker."""
    said = Entry(event="incident.escalated", actor=person, facts={"how": how})
    if incident.state is State.RESOLVED and not unclaimed(incident):
        return unchanged(incident, Outcome.CLOSED, said)
    return next_step_now(incident, duty, said, skip=person, cause={"escalated_by": person})


def unreachable(incident: Incident, person: str, why: str, duty: Duty) -> Change:
    """Every way to `person` failed, or they are out of office. `why` says which, in words.

    When nobody paged in the step taken last can be reached any more, whoever it names by now is paged, and if that is
    nobody the next step that names somebody reachable is taken now. For a holder it is a note: who has it does not
    change by a robot's word.
    """
    entry = Entry(event="person.unreachable", actor="panicmail", facts={"person": person, "why": why})
    if incident.state is State.ACKED:
        failed = replace(_offer_failed(incident, person, why), entries=(entry,))
        return failed.then(pass_over(failed.incident, person, why, duty))
    if incident.state is not State.OPEN or person in incident.away:
        return unchanged(incident, Outcome.NOTED, entry)
    incident = replace(incident, away={**incident.away, person: why})
    change = unchanged(incident, Outcome.NOTED, entry)
    if incident.step < 0:  # reopened, and its last holder cannot be reached: the policy does not wait for them
        return change.then(take_due_step(replace(incident, next_step_at=duty.now), duty))
    named = duty.policy.people(duty.policy.steps[min(incident.step, duty.policy.last)].page, duty.who)
    left = reachable(named, incident.away)
    if left.keys() & incident.paged.keys():
        return change
    cause = {"unreachable": person, "why": why}
    return change.then(_page_the_new(incident, left, duty.now, cause) if left else
                       early_step(incident, duty, skip=person, cause=cause))  # fmt: skip


def _page_the_new(incident: Incident, people: Mapping[str, str], now: datetime, cause: Mapping[str, Any]) -> Change:
    """They came on call after the step was taken, so it never paged them."""
    incident, pages = page_all(incident, people, now, cause=dict(cause))
    entry = paged_entry(incident, people, incident.step, cause=dict(cause))
    return Change(incident=incident, effects=pages, entries=(entry,))


def reached(incident: Incident, person: str) -> Change:
    """A page reached somebody after all whom none had reached in time: they count again."""
    if incident.away.get(person) not in {UNDELIVERED, UNDELIVERED_BEFORE}:
        return unchanged(incident, Outcome.ALREADY)
    incident = replace(incident, away={p: why for p, why in incident.away.items() if p != person})
    entry = Entry(event="person.reached", actor="panicmail", facts={"person": person}, note=False)
    return unchanged(incident, Outcome.NOTED, entry)


def _offer_failed(incident: Incident, person: str, why: str) -> Change:
    """Acknowledged, and not theirs: an offer to them is off, and its holder hears."""
    if incident.handed_to != person or incident.holder in {None, person}:
        return unchanged(incident, Outcome.NOTED)
    told = Effect(
        do=EffectKind.TELL,
        key=f"tell/{incident.version}/offer_failed",
        person=incident.holder,
        facts={"what": "offer_failed", "to": person, "why": why},
    )
    return Change(incident=replace(incident, handed_to=None), effects=(told,), outcome=Outcome.NOTED)


def hand_over(incident: Incident, person: str, to: str, how: str, now: datetime) -> Change:
    """Offer the incident to `to`: paged, and on their yes they have it. Until then everything runs on."""
    if incident.state is State.RESOLVED and not unclaimed(incident):
        return unchanged(incident, Outcome.CLOSED, heard("hand_over.late", person, how))
    incident = replace(incident, handed_to=to, away={p: w for p, w in incident.away.items() if p != to})
    people = {to: role_of(incident, to)}
    incident, pages = page_all(incident, people, now, PageReason.HANDED, cause={"handed_by": person})
    entry = Entry(event="incident.offered", actor=person, facts={"to": to, "how": how})
    if incident.state is State.ACKED:
        incident = _owed_while_offered(incident, person, now + ANSWER_WITHIN)
    return Change(incident=incident, effects=pages, entries=(entry,))


def _owed_while_offered(incident: Incident, by: str, until: datetime) -> Incident:
    """An offer is not a hand-over: without a yes `until` then the holder is asked. Offering it, they have answered."""
    if incident.holder == by:
        return owe_work(incident, until)
    if incident.owed is Owed.ANSWER:
        return incident
    return owe_work(incident, min(until, incident.remind_at or until))
