"""What happens to an incident: the state table of panicmail, one pure function per event.

Every function takes the incident as it is, what happened and `now`, and answers a `Change`: the incident as it must
be stored, the effects to carry out and the entries for its timeline. All three belong in one transaction, guarded by
the version the incident was read at. Nothing here reads a clock, a roster or a database.

Promises, held by property tests:

* an incident is open exactly when `next_step_at` is set: the ladder never ends by itself;
* a step that was taken has one page for each of its people in its round, no more;
* an event that comes twice changes nothing the second time;
* a person who said no, or is away, is passed over as long as anybody else is left, and paged all the same when
  nobody is: silence is never the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from panicmail.incident import Change, Do, Effect, Entry, Incident, Outcome, Paged, State, Word, unchanged
from panicmail.policy import ANSWER_WITHIN, LATE_AFTER, REOPEN_WITHIN, Ladder, Who

# -- pages -----------------------------------------------------------------------------------------


def _page(incident: Incident, person: str, role: str, word: Word, **facts: Any) -> Effect:
    return Effect(
        do=Do.PAGE,
        key=f"page/{incident.round}/{person}",
        person=person,
        facts={"round": incident.round, "role": role, "word": word.value, **facts},
    )


def _page_all(
    incident: Incident, people: Mapping[str, str], now: datetime, word: Word | None = None, **facts: Any
) -> tuple[Incident, tuple[Effect, ...]]:
    """Page `people` (person -> role) in a new round. Without `word`, each gets the one that is true for her."""
    incident = replace(incident, round=incident.round + 1)
    effects = []
    paged = dict(incident.paged)
    for person, role in people.items():
        before = paged.get(person)
        own = word or (Word.STILL_OPEN if before else Word.PAGE if incident.step <= 0 else Word.YOURS_NOW)
        effects.append(_page(incident, person, role, own, **facts))
        paged[person] = (
            replace(before, last_at=now) if before else Paged(role=role, round=incident.round, at=now, last_at=now)
        )
    return replace(incident, paged=paged), tuple(effects)


def _role(incident: Incident, person: str) -> str:
    """What she was paged as; "" when she has it without having been paged."""
    return incident.paged[person].role if person in incident.paged else ""


def _reachable(people: Mapping[str, str], away: Iterable[str]) -> dict[str, str]:
    gone = set(away)
    return {person: role for person, role in people.items() if person not in gone}


def _late(now: datetime, due: datetime) -> dict[str, Any]:
    late = now - due
    return {"late_seconds": int(late.total_seconds())} if late > LATE_AFTER else {}


# -- a panic arrives -------------------------------------------------------------------------------


def open_panic(
    incident: Incident, ladder: Ladder, who: Who, now: datetime, *, receipt: bool, entry_facts: Mapping[str, Any]
) -> Change:
    """A new incident takes its first step: page, open issue, receipt.

    `incident` comes from `new`; what was due between acceptance and `now` (an outage) collapses into this step.
    """
    opened = Entry(
        event="incident.opened", actor=incident.reporter_address or "reporter", facts=dict(entry_facts), note=False
    )
    # Paged once means the first step alone, however late it is.
    first = take_due_step(incident, replace(ladder, steps=ladder.steps[:1]) if incident.once else ladder, who, now)
    incident = first.incident
    if incident.once:
        incident = replace(
            incident,
            state=State.RESOLVED,
            next_step_at=None,
            resolved_at=now,
            resolved_by="panicmail (paged once, no ladder)",
        )
    effects = [Effect(do=Do.ISSUE, key="issue"), Effect(do=Do.FILES, key="files")]
    if receipt and not incident.once:
        effects.append(Effect(do=Do.RECEIPT, key="receipt"))
    return Change(incident=incident, effects=first.effects + tuple(effects), entries=(opened, *first.entries))


def new(
    *,
    id: str,  # noqa: A002 - the column's name
    ref: str,
    mail_id: str,
    accepted_at: datetime,
    ladder: Ladder,
    **about: Any,
) -> Incident:
    """An incident that has not taken its first step yet. Its times count from the acceptance of the mail."""
    return Incident(
        id=id,
        ref=ref,
        mail_id=mail_id,
        state=State.OPEN,
        accepted_at=accepted_at,
        sla_at=accepted_at + ladder.sla,
        first_sla_at=accepted_at + ladder.sla,
        opened_at=accepted_at,
        ladder_at=accepted_at,
        step=-1,
        next_step_at=ladder.step_at(accepted_at, 0),
        **about,
    )


# -- time passes -----------------------------------------------------------------------------------


def is_due(incident: Incident, now: datetime) -> bool:
    """Whether `pass_time` would do anything; an instant that equals `now` has passed."""
    if incident.state is State.OPEN:
        return _is_breaching(incident, now) or (incident.next_step_at is not None and incident.next_step_at <= now)
    if incident.state is State.ACKED:
        return any(at is not None and at <= now for at in (incident.remind_at, incident.answer_at))
    return False


def pass_time(incident: Incident, ladder: Ladder, who: Who, now: datetime) -> Change:
    """Everything that `now` makes due: the breach, the step, the reminder, the manager's turn."""
    change = unchanged(incident, Outcome.DONE)
    if _is_breaching(change.incident, now):
        change = change.then(_breach(change.incident, ladder, who, now))
    if change.incident.state is State.OPEN and change.incident.next_step_at and change.incident.next_step_at <= now:
        change = change.then(take_due_step(change.incident, ladder, who, now))
    if change.incident.state is State.ACKED:
        change = change.then(_ask_holder(change.incident, ladder, who, now))
    return change


def _is_breaching(incident: Incident, now: datetime) -> bool:
    # Acknowledged when the SLA passed and opened again later is not a breach: it was answered in time.
    return incident.state is State.OPEN and incident.breached_at is None and incident.opened_at < incident.sla_at <= now


def _breach(incident: Incident, ladder: Ladder, who: Who, now: datetime) -> Change:
    incident = replace(incident, breached_at=now)
    news = Effect(
        do=Do.NEWS, key=f"news/{incident.version}/breached", facts={"what": "breached", "at": now.isoformat()}
    )
    entry = Entry(event="sla.breached", actor="panicmail", facts={"sla_at": incident.sla_at.isoformat()})
    return Change(incident=incident, effects=(news,), entries=(entry,))


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
    people = _reachable(named, incident.away)
    if not people and _later(incident, ladder, who, taken):
        return _skip_to_reachable(replace(incident, step=taken), ladder, who, now, named)
    # When nobody is left at all those of the last step are paged all the same: silence is not an answer.
    people = people or named
    incident = replace(incident, step=taken, next_step_at=ladder.after_step(incident.ladder_at, taken, now))
    incident, pages = _page_all(incident, people, now, **_late(now, due))
    entries = [_paged_entry(incident, people, taken, **_late(now, due))]
    if len(steps) > 1:
        entries.append(
            Entry(event="steps.skipped", actor="panicmail", facts={"steps": [i + 1 for i in steps[:-1]]}, note=False)
        )
    effects = list(pages)
    if not people:
        effects.append(_nobody(incident, taken))
    return Change(incident=incident, effects=tuple(effects), entries=tuple(entries))


def _later(incident: Incident, ladder: Ladder, who: Who, taken: int) -> bool:
    """Whether a step above `taken` names somebody reachable."""
    above = (ladder.people(step.page, who) for step in ladder.steps[taken + 1 :])
    return any(_reachable(people, incident.away) for people in above)


def _skip_to_reachable(incident: Incident, ladder: Ladder, who: Who, now: datetime, named: Mapping[str, str]) -> Change:
    """Nobody in the due step can be reached: the next one that names somebody reachable is taken now."""
    alarm = () if named else (_nobody(incident, incident.step),)
    skipped = Change(incident=incident, effects=alarm)
    return skipped.then(_early_step(incident, ladder, who, now, skip="", cause={}))


def _paged_entry(incident: Incident, people: Mapping[str, str], step: int, **facts: Any) -> Entry:
    return Entry(
        event="people.paged",
        actor="panicmail",
        facts={"people": dict(people), "step": step + 1, "round": incident.round, **facts},
    )


def _nobody(incident: Incident, step: int) -> Effect:
    return Effect(
        do=Do.OPERATORS,
        key=f"operators/nobody/{incident.round}",
        facts={"cause": "nobody_on_call", "ref": incident.ref, "step": step + 1},
    )


def _ask_holder(incident: Incident, ladder: Ladder, who: Who, now: datetime) -> Change:
    change = unchanged(incident, Outcome.DONE)
    if incident.answer_at is not None and incident.answer_at <= now:
        change = change.then(
            _call_manager(replace(incident, answer_at=None), ladder, who, now, "a message was not answered")
        )
    incident = change.incident
    if incident.remind_at is None or incident.remind_at > now:
        return change
    if incident.reminded:
        again = replace(incident, reminded=False, remind_at=now + ladder.remind_after)
        return change.then(_call_manager(again, ladder, who, now, "no sign of work"))
    return change.then(_remind(incident, now))


def _remind(incident: Incident, now: datetime) -> Change:
    holder = incident.holder or ""
    incident = replace(incident, reminded=True, remind_at=now + ANSWER_WITHIN)
    incident, pages = _page_all(incident, {holder: _role(incident, holder)}, now, Word.STILL_YOURS)
    entry = Entry(event="holder.reminded", actor="panicmail", facts={"person": holder})
    return Change(incident=incident, effects=pages, entries=(entry,))


def _call_manager(incident: Incident, ladder: Ladder, who: Who, now: datetime, why: str) -> Change:
    named = ladder.people(ladder.managers, who)
    people = {p: r for p, r in named.items() if p != incident.holder} or named
    incident, pages = _page_all(incident, people, now, Word.SILENT_HOLDER, why=why)
    entry = Entry(event="manager.called", actor="panicmail", facts={"people": dict(people), "why": why})
    return Change(incident=incident, effects=pages, entries=(entry,))


# -- acknowledging ---------------------------------------------------------------------------------


def acknowledge(incident: Incident, person: str, how: str, ladder: Ladder, now: datetime) -> Change:
    """Yes, from somebody paged (or offered it): hers if nobody has it, else she is told who does.

    `how` says in words what the yes rests on; everybody paged is shown it.
    """
    if incident.state is State.RESOLVED and not _unclaimed(incident):
        return unchanged(incident, Outcome.CLOSED, _event("ack.late", person, how))
    if incident.state is State.ACKED:
        if incident.handed_to == person and incident.holder != person:
            return _give(incident, person, how, ladder, now)
        return _sign(incident, person, now, Outcome.ALREADY, _event("ack.repeated", person, how))
    return _give(incident, person, how, ladder, now)


def take(incident: Incident, person: str, how: str, ladder: Ladder, now: datetime) -> Change:
    """Hers now, whoever has it; a taken one already hers changes nothing."""
    if incident.state is State.RESOLVED and not _unclaimed(incident):
        return unchanged(incident, Outcome.CLOSED, _event("take.late", person, how))
    if incident.state is State.ACKED and incident.holder == person:
        return _sign(incident, person, now, Outcome.ALREADY, _event("ack.repeated", person, how))
    return _give(incident, person, how, ladder, now)


def _unclaimed(incident: Incident) -> bool:
    """Paged once without a ladder and nobody's so far: an answer to that one page still counts."""
    return incident.once and incident.holder is None


def _give(incident: Incident, person: str, how: str, ladder: Ladder, now: datetime) -> Change:
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
        remind_at=now + ladder.remind_after,
        reminded=False,
        answer_at=None,
        worked_at=None,
        resolved_at=None,
        resolved_by="",
        away={p: why for p, why in incident.away.items() if p != person},
    )
    facts = {"holder": person, "how": how, "at": now.isoformat(), "before": before}
    effects = [
        Effect(
            do=Do.TELL, key=f"tell/{incident.version}/acked/{other}", person=other, facts={"what": "acked_by", **facts}
        )
        for other in _others(incident, person, before)
    ]
    if was_open:
        effects.append(Effect(do=Do.NEWS, key=f"news/{incident.version}/acked", facts={"what": "acked", **facts}))
    entry = Entry(event="incident.acked" if was_open else "incident.taken", actor=person, facts=facts)
    return Change(incident=incident, effects=tuple(effects), entries=(entry,), void_pages=True)


def _others(incident: Incident, person: str, before: str | None) -> list[str]:
    """Everybody paged, and who had it before, but not `person`."""
    return [p for p in dict.fromkeys([*incident.paged, *([before] if before else [])]) if p != person]


def _event(event: str, person: str, how: str) -> Entry:
    return Entry(event=event, actor=person, facts={"how": how})


def _sign(incident: Incident, person: str, now: datetime, outcome: Outcome, *entries: Entry) -> Change:
    """Word of the holder is a sign of work: nothing is asked of her any more."""
    return replace(sign_of_work(incident, person, now), entries=entries, outcome=outcome)


def sign_of_work(incident: Incident, person: str, now: datetime) -> Change:
    """The holder wrote, or worked in GitLab: nothing is due from her any more. Anybody else changes nothing."""
    if incident.state is State.ACKED and incident.holder == person:
        incident = replace(incident, remind_at=None, reminded=False, answer_at=None, worked_at=now)
    return unchanged(incident, Outcome.NOTED)


# -- not me ----------------------------------------------------------------------------------------


def decline(incident: Incident, person: str, how: str, words: str, ladder: Ladder, who: Who, now: datetime) -> Change:
    """No: the next step that names somebody else is taken now, and she is passed over from here on."""
    said = Entry(event="person.declined", actor=person, facts={"how": how, "words": words})
    if incident.state is State.RESOLVED:
        return unchanged(incident, Outcome.CLOSED, said)
    if incident.state is State.ACKED and incident.holder != person:
        return replace(_offer_failed(incident, person, f'said no ("{words}")'), entries=(said,))
    if incident.state is State.OPEN and person in incident.away:
        return unchanged(incident, Outcome.NOTED, said)  # said twice, or away already: the next ones are called
    incident = replace(incident, away={**incident.away, person: f'declined ("{words}")' if words else "declined"})
    cause = {"declined_by": person, "words": words}
    return _next_step_now(incident, ladder, who, now, said, skip=person, cause=cause)


def escalate(incident: Incident, person: str, how: str, ladder: Ladder, who: Who, now: datetime) -> Change:
    """The next step at once, whoever has it: the first later one that names somebody besides the asker."""
    said = Entry(event="incident.escalated", actor=person, facts={"how": how})
    if incident.state is State.RESOLVED and not _unclaimed(incident):
        return unchanged(incident, Outcome.CLOSED, said)
    return _next_step_now(incident, ladder, who, now, said, skip=person, cause={"escalated_by": person})


def unreachable(incident: Incident, person: str, why: str, ladder: Ladder, who: Who, now: datetime) -> Change:
    """Every way to `person` failed, or she is out of office. `why` says which, in words.

    When nobody paged in the step taken last can be reached any more, the next step that names somebody reachable is
    taken now. For a holder it is a note: who has it does not change by a robot's word.
    """
    entry = Entry(event="person.unreachable", actor="panicmail", facts={"person": person, "why": why})
    if incident.state is State.ACKED:
        return replace(_offer_failed(incident, person, why), entries=(entry,))
    if incident.state is not State.OPEN or person in incident.away:
        return unchanged(incident, Outcome.NOTED, entry)
    incident = replace(incident, away={**incident.away, person: why})
    change = unchanged(incident, Outcome.NOTED, entry)
    if incident.step < 0:  # reopened, and its last holder cannot be reached: the ladder does not wait for her
        return change.then(take_due_step(replace(incident, next_step_at=now), ladder, who, now))
    named = ladder.people(ladder.steps[min(incident.step, ladder.last)].page, who)
    if _reachable(named, incident.away):
        return change
    return change.then(_early_step(incident, ladder, who, now, skip=person, cause={"unreachable": person, "why": why}))


def _offer_failed(incident: Incident, person: str, why: str) -> Change:
    """Acknowledged, and not hers: an offer to her is off, and its holder hears."""
    if incident.handed_to != person or incident.holder in {None, person}:
        return unchanged(incident, Outcome.NOTED)
    told = Effect(
        do=Do.TELL,
        key=f"tell/{incident.version}/offer_failed",
        person=incident.holder,
        facts={"what": "offer_failed", "to": person, "why": why},
    )
    return Change(incident=replace(incident, handed_to=None), effects=(told,), outcome=Outcome.NOTED)


def _next_step_now(
    incident: Incident, ladder: Ladder, who: Who, now: datetime, said: Entry, *, skip: str, cause: Mapping[str, Any]
) -> Change:
    said_first = unchanged(incident, Outcome.DONE, said)
    if incident.state is State.OPEN:
        return said_first.then(_early_step(incident, ladder, who, now, skip=skip, cause=cause))
    again = _open_again(incident, now)
    step = _early_step(again.incident, ladder, who, now, skip=skip, cause=cause, again=True)
    return said_first.then(again).then(step)


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


def _early_step(
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
        named = _reachable(ladder.people(ladder.steps[index].page, who), {skip, *incident.away})
        if named:
            break
    else:
        return _stuck(incident, ladder, who, now, cause, again=again)
    start = now - ladder.steps[index].after if again else incident.ladder_at
    incident = replace(incident, step=index, ladder_at=start, next_step_at=ladder.after_step(start, index, now))
    incident, pages = _page_all(incident, named, now, cause=dict(cause))
    return Change(incident=incident, effects=pages, entries=(_paged_entry(incident, named, index, cause=dict(cause)),))


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
        last = replace(incident, step=ladder.last, ladder_at=now - ladder.steps[-1].after)
        return Change(incident=incident, effects=(alarm,)).then(take_due_step(last, ladder, who, now))
    return Change(incident=incident, effects=(alarm,), outcome=Outcome.NOBODY_LEFT)


def hand_over(incident: Incident, person: str, to: str, how: str, now: datetime) -> Change:
    """Offer the incident to `to`: paged, and on her yes she has it. Until then everything runs on."""
    if incident.state is State.RESOLVED and not _unclaimed(incident):
        return unchanged(incident, Outcome.CLOSED, _event("hand_over.late", person, how))
    incident = replace(incident, handed_to=to, away={p: w for p, w in incident.away.items() if p != to})
    people = {to: _role(incident, to)}
    incident, pages = _page_all(incident, people, now, Word.HANDED, cause={"handed_by": person})
    entry = Entry(event="incident.offered", actor=person, facts={"to": to, "how": how})
    if incident.state is State.ACKED:
        # No yes within ten minutes, and the holder is asked again: an offer is not a hand-over.
        incident = replace(incident, remind_at=now + ANSWER_WITHIN, reminded=False, answer_at=None)
    return Change(incident=incident, effects=pages, entries=(entry,))


# -- closing, and more -----------------------------------------------------------------------------


def resolve(incident: Incident, by: str, how: str, ladder: Ladder, now: datetime) -> Change:
    """Close an acknowledged incident. An open one is acknowledged instead, and `by` is told how to close."""
    if incident.state is State.RESOLVED and not _unclaimed(incident):
        return unchanged(incident, Outcome.CLOSED, _event("resolve.late", by, how))
    if incident.state is not State.ACKED:
        return replace(_give(incident, by, how, ladder, now), outcome=Outcome.HOW_TO_CLOSE)
    return _resolve(incident, by, how, now)


def _resolve(incident: Incident, by: str, how: str, now: datetime) -> Change:
    incident = replace(
        incident,
        state=State.RESOLVED,
        resolved_at=now,
        resolved_by=by,
        remind_at=None,
        reminded=False,
        answer_at=None,
        handed_to=None,
    )
    facts = {"by": by, "how": how, "at": now.isoformat()}
    news = Effect(do=Do.NEWS, key=f"news/{incident.version}/resolved", facts={"what": "resolved", **facts})
    told = tuple(
        Effect(
            do=Do.TELL, key=f"tell/{incident.version}/resolved/{p}", person=p, facts={"what": "resolved_by", **facts}
        )
        for p in _others(incident, by, incident.holder)
    )
    entry = Entry(event="incident.resolved", actor=by, facts=facts)
    return Change(incident=incident, effects=(news, *told), entries=(entry,), void_pages=True)


def issue_closed(incident: Incident, by: str | None, ladder: Ladder, now: datetime, *, closed_at: str = "") -> Change:
    """The issue was closed in GitLab: by one of the people paged (`by`), or by anybody else (None).

    `closed_at` is GitLab's own word for when; it names this closing, so that it is told once.
    """
    how = "closed the issue in GitLab"
    if incident.state is State.RESOLVED:
        return unchanged(incident, Outcome.ALREADY)
    if incident.state is State.ACKED:
        return _resolve(incident, by or "somebody in GitLab", how, now)
    if by is not None and by in incident.paged:
        given = _give(incident, by, how, ladder, now)
        closed = Entry(event="issue.closed", actor=by, facts={"closed_at": closed_at}, note=False)
        return replace(given, entries=(*given.entries, closed))
    told = tuple(
        Effect(do=Do.TELL, key=f"tell/{incident.version}/issue_closed/{p}", person=p, facts={"what": "issue_closed"})
        for p in incident.paged
    )
    entry = Entry(event="issue.closed_by_other", actor=by or "somebody in GitLab", facts={"closed_at": closed_at})
    return Change(incident=incident, effects=told, entries=(entry,), outcome=Outcome.NOTED)


def more(
    incident: Incident,
    entry: Entry,
    ladder: Ladder,
    who: Who,
    now: datetime,
    *,
    mail_id: str,
    human: bool,
    thanks: bool,
    writer: str = "",
) -> Change:
    """Something more in the thread: a note, and the holder or those paged are told; times stay untouched.

    `writer`: the person of ours who wrote it, if it was one; she is not told what she wrote.

    Resolved within a day and worth a person's look, it opens again. `human` False: an automatic mail, kept as a note
    and nothing else. Later than a day the caller opens a new incident (`is_over`).
    """
    if incident.state is State.RESOLVED:
        if not human or thanks:
            return unchanged(incident, Outcome.NOTED, entry)
        return _reopen(incident, entry, ladder, who, now)
    if not human:
        return unchanged(incident, Outcome.NOTED, entry)
    if incident.state is State.ACKED:
        incident = replace(incident, answer_at=incident.answer_at or now + ANSWER_WITHIN)
        listeners: Iterable[str] = [incident.holder] if incident.holder else incident.paged
    else:
        listeners = incident.paged
    told = tuple(
        Effect(do=Do.TELL, key=f"tell/more/{mail_id}/{p}", person=p, facts={"what": "more", **entry.facts})
        for p in listeners
        if p != writer
    )
    return Change(incident=incident, effects=told, entries=(entry,), outcome=Outcome.NOTED)


def is_over(incident: Incident, now: datetime) -> bool:
    """Resolved so long ago that more in its thread is a new incident."""
    return (
        incident.state is State.RESOLVED
        and incident.resolved_at is not None
        and now - incident.resolved_at > REOPEN_WITHIN
    )


def _reopen(incident: Incident, entry: Entry, ladder: Ladder, who: Who, now: datetime) -> Change:
    """Open again as urgent: its last holder is paged now, the ladder starts a grace later, with a new SLA."""
    incident = replace(
        incident,
        state=State.OPEN,
        opened_at=now,
        ladder_at=now,
        sla_at=now + ladder.sla,
        breached_at=None,
        once=False,
        step=-1,
        away={},
        resolved_at=None,
        resolved_by="",
        next_step_at=now + ladder.reopen_grace,
    )
    again = Entry(event="incident.reopened", actor=entry.actor, facts={"last_holder": incident.holder})
    news = Effect(
        do=Do.NEWS, key=f"news/{incident.version}/reopened", facts={"what": "reopened", "at": now.isoformat()}
    )
    change = Change(incident=incident, effects=(news,), entries=(entry, again))
    if incident.holder is None:
        return change.then(take_due_step(replace(incident, next_step_at=now), ladder, who, now))
    people = {incident.holder: _role(incident, incident.holder)}
    incident, pages = _page_all(incident, people, now, Word.REOPENED, text=entry.facts.get("text", ""))
    return change.then(Change(incident=incident, effects=pages, entries=(_paged_entry(incident, people, -1),)))


#: When somebody is called, and who: person -> role.
NextCall = tuple[datetime, dict[str, str]]


def next_call(incident: Incident, ladder: Ladder, who: Who, besides: str) -> NextCall | None:
    """When the ladder next calls somebody other than `besides`, and whom; None when no later step does.

    What a page promises its reader: "ack by this time, or these people are called".
    """
    for index in range(incident.step + 1, len(ladder.steps)):
        people = _reachable(ladder.people(ladder.steps[index].page, who), {besides, *incident.away})
        if people:
            # The first step of a reopened incident waits a grace: no step is ever due before `next_step_at`.
            at = ladder.step_at(incident.ladder_at, index)
            return max(at, incident.next_step_at or at), people
    return None
