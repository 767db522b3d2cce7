"""Closing, and more in the thread: resolved, closed in GitLab, opened again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from panicmail.incident.escalation_policy import REOPEN_WITHIN, EscalationPolicy, OnCallAt
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, PageReason, State, unchanged
from panicmail.incident.transitions.acknowledge import give, heard, others_paged, unclaimed
from panicmail.incident.transitions.escalate import take_due_step
from panicmail.incident.transitions.page_step import page_all, paged_entry, role_of
from panicmail.incident.transitions.silent_holder import NOTHING_OWED, owe_answer
from panicmail.incident.transitions.undo import TimelineEntry

#: How an incident ended whose issue was closed, in words.
CLOSED_IN_GITLAB = "closed the issue in GitLab"
#: The line of the timeline that keeps that the issue of a closed incident was opened again.
ISSUE_REOPENED = "issue.reopened"


def is_known_act(lines: Sequence[TimelineEntry], fact: str, at: datetime | None) -> bool:
    """Whether the timeline has what GitLab says was done to the issue at `at`: each act is news once.

    GitLab tells the same act each time it is asked, so whoever asks it looks here before it says one to the incident.

    Args:
        fact: What names the act: "closed_at" or "reopened_at".
        at: GitLab's own word for when; None, where it does not say: all such acts of one issue are one.
    """
    name = at.isoformat() if at else ""
    return any(line.facts.get(fact) == name for line in lines)


def resolve(incident: Incident, by: str, how: str, policy: EscalationPolicy, now: datetime) -> Change:
    """Close an acknowledged incident. An open one is acknowledged instead, and `by` is told how to close."""
    if incident.state is State.RESOLVED and not unclaimed(incident):
        return unchanged(incident, Outcome.CLOSED, heard("resolve.late", by, how))
    if incident.state is not State.ACKED:
        return replace(give(incident, by, how, policy, now), outcome=Outcome.HOW_TO_CLOSE)
    return _resolve(incident, by, how, now)


def _resolve(incident: Incident, by: str, how: str, now: datetime) -> Change:
    incident = replace(
        incident,
        state=State.RESOLVED,
        resolved_at=now,
        resolved_by=by,
        handed_to=None,
        **NOTHING_OWED,
    )
    facts = {"by": by, "how": how, "at": now.isoformat()}
    news = Effect(do=EffectKind.NEWS, key=f"news/{incident.version}/resolved", facts={"what": "resolved", **facts})
    told = tuple(
        Effect(
            do=EffectKind.TELL,
            key=f"tell/{incident.version}/resolved/{p}",
            person=p,
            facts={"what": "resolved_by", **facts},
        )
        for p in others_paged(incident, by, incident.holder)
    )
    entry = Entry(event="incident.resolved", actor=by, facts=facts)
    return Change(incident=incident, effects=(news, *told), entries=(entry,), void_pages=True)


def issue_closed(
    incident: Incident,
    by: str | None,
    policy: EscalationPolicy,
    now: datetime,
    *,
    closed_at: str = "",
    is_late: bool = False,
) -> Change:
    """The issue was closed in GitLab: by one of the people paged (`by`), or by anybody else (None).

    Args:
        closed_at: GitLab's own word for when; it names this closing (`is_known_act`), so that it is told once.
        is_late: Somebody did something since that stands against it: it acknowledges and closes nothing, and is told.
    """
    how = CLOSED_IN_GITLAB
    if incident.state is State.RESOLVED:
        return unchanged(incident, Outcome.ALREADY)
    if incident.state is State.ACKED and not is_late:
        return _resolve(incident, by or "somebody in GitLab", how, now)
    if incident.state is State.OPEN and by is not None and by in incident.paged and not is_late:
        given = give(incident, by, how, policy, now)
        closed = Entry(event="issue.closed", actor=by, facts={"closed_at": closed_at}, note=False)
        return replace(given, entries=(*given.entries, closed))
    key = f"tell/{incident.version}/issue_closed/{closed_at}"
    told = tuple(
        Effect(do=EffectKind.TELL, key=f"{key}/{p}", person=p, facts={"what": "issue_closed"})
        for p in concerned(incident)
    )
    entry = Entry(event="issue.closed_by_other", actor=by or "somebody in GitLab", facts={"closed_at": closed_at})
    return Change(incident=incident, effects=told, entries=(entry,), outcome=Outcome.NOTED)


def concerned(incident: Incident) -> list[str]:
    """Whom news of an incident concerns: who has it, else everybody paged."""
    return [incident.holder] if incident.state is State.ACKED and incident.holder else list(incident.paged)


def more(
    incident: Incident,
    entry: Entry,
    policy: EscalationPolicy,
    who: OnCallAt,
    now: datetime,
    *,
    mail_id: str,
    human: bool,
    thanks: bool,
    writer: str = "",
) -> Change:
    """Something more in the thread: a note, and the holder or those paged are told.

    The times of the policy stay untouched. Whoever has it owes an answer, if it is more than a bare thank-you.

    `writer`: the person of ours who wrote it, if it was one; they are not told what they wrote.

    Resolved within a day and worth a person's look, it opens again. `human` False: an automatic mail, kept as a note
    and nothing else. Later than a day the caller opens a new incident (`is_over`).
    """
    if incident.state is State.RESOLVED:
        if not human or thanks:
            return unchanged(incident, Outcome.NOTED, entry)
        return _reopen(incident, entry, policy, who, now)
    if not human:
        return unchanged(incident, Outcome.NOTED, entry)
    if incident.state is State.ACKED and not thanks:
        incident = owe_answer(incident, now)
    told = tuple(
        Effect(do=EffectKind.TELL, key=f"tell/more/{mail_id}/{p}", person=p, facts={"what": "more", **entry.facts})
        for p in concerned(incident)
        if p != writer
    )
    return Change(incident=incident, effects=told, entries=(entry,), outcome=Outcome.NOTED)


def issue_reopened(
    incident: Incident,
    by: str,
    policy: EscalationPolicy,
    who: OnCallAt,
    now: datetime,
    *,
    reopened_at: datetime,
    counts: bool,
) -> Change:
    """The issue of a resolved incident was opened again in GitLab.

    By somebody who was paged and within a day it is open again, as when there is more in its thread; else its last
    holder, or everybody paged where nobody had it, is told that the two disagree.

    Args:
        by: A person of ours, a username, or "somebody in GitLab".
        reopened_at: When, by GitLab's word; it names this opening (`is_known_act`), so that it is told once.
        counts: It was somebody who was paged for it, or nobody can say who.
    """
    if incident.state is not State.RESOLVED:
        return unchanged(incident, Outcome.ALREADY)
    facts = {"by": by, "reopened_at": reopened_at.isoformat()}
    if counts and not is_over(incident, reopened_at):
        entry = Entry(event=ISSUE_REOPENED, actor=by, facts=facts, note=False)
        return _reopen(incident, entry, policy, who, now, cause={"issue_reopened_by": by})
    key = f"tell/{incident.version}/issue_reopened/{reopened_at.isoformat()}"
    told = tuple(
        Effect(do=EffectKind.TELL, key=f"{key}/{p}", person=p, facts={"what": "issue_reopened", **facts})
        for p in ([incident.holder] if incident.holder else incident.paged)
    )
    entry = Entry(event=ISSUE_REOPENED, actor=by, facts=facts)
    return Change(incident=incident, effects=told, entries=(entry,), outcome=Outcome.NOTED)


def is_over(incident: Incident, now: datetime) -> bool:
    """Resolved so long ago that more in its thread is a new incident."""
    return (
        incident.state is State.RESOLVED
        and incident.resolved_at is not None
        and now - incident.resolved_at > REOPEN_WITHIN
    )


def _reopen(
    incident: Incident,
    entry: Entry,
    policy: EscalationPolicy,
    who: OnCallAt,
    now: datetime,
    *,
    cause: Mapping[str, Any] | None = None,
) -> Change:
    """Open again as urgent: its last holder is paged now, the policy starts a grace later, with a new SLA.

    `cause`: why, if not by a mail in its thread; as JSON.
    """
    about = {"cause": dict(cause)} if cause else {}
    incident = replace(
        incident,
        state=State.OPEN,
        opened_at=now,
        steps_from_at=now,
        sla_at=policy.sla_at(now),
        breached_at=None,
        once=False,
        step=-1,
        away={},
        resolved_at=None,
        resolved_by="",
        next_step_at=now + policy.reopen_grace,
    )
    again = Entry(event="incident.reopened", actor=entry.actor, facts={"last_holder": incident.holder, **about})
    news = Effect(
        do=EffectKind.NEWS, key=f"news/{incident.version}/reopened", facts={"what": "reopened", "at": now.isoformat()}
    )
    change = Change(incident=incident, effects=(news,), entries=(entry, again))
    if incident.holder is None:
        return change.then(take_due_step(replace(incident, next_step_at=now), policy, who, now, cause=cause))
    people = {incident.holder: role_of(incident, incident.holder)}
    incident, pages = page_all(incident, people, now, PageReason.REOPENED, text=entry.facts.get("text", ""), **about)
    return change.then(Change(incident=incident, effects=pages, entries=(paged_entry(incident, people, -1),)))
