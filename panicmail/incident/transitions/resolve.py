"""Closing, and more in the thread: resolved, closed in GitLab, opened again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from panicmail.incident.escalation_policy import REOPEN_WITHIN, Duty, EscalationPolicy
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


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueClosing:
    """Somebody closed the issue in GitLab."""

    by: str | None  #: one of our people; None: anybody else
    closed_at: str = ""  #: GitLab's own word for when; it names this closing (`is_known_act`), so that it is told once
    is_late: bool = False  #: somebody did something since that stands against it


def issue_closed(incident: Incident, closing: IssueClosing, policy: EscalationPolicy, now: datetime) -> Change:
    """The issue was closed in GitLab. By somebody who was paged it counts as an acknowledgement, or closes what is
    acknowledged; one that is late or by anybody else does neither, and is told."""
    by, closed_at, is_late = closing.by, closing.closed_at, closing.is_late
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MoreMail:
    """One more mail in the thread of an incident."""

    entry: Entry
    mail_id: str
    human: bool  #: False: an automatic mail, kept as a note and nothing else
    thanks: bool  #: a bare thank-you
    writer: str = ""  #: the person of ours who wrote it, if it was one; they are not told what they wrote


def more(incident: Incident, mail: MoreMail, duty: Duty) -> Change:
    """Something more in the thread: a note, and the holder or those paged are told.

    The times of the policy stay untouched. Whoever has it owes an answer, if it is more than a bare thank-you.
    Resolved within a day and worth a person's look, it opens again; later than a day the caller opens a new incident
    (`is_over`).
    """
    entry = mail.entry
    if incident.state is State.RESOLVED:
        if not mail.human or mail.thanks:
            return unchanged(incident, Outcome.NOTED, entry)
        return _reopen(incident, entry, duty)
    if not mail.human:
        return unchanged(incident, Outcome.NOTED, entry)
    if incident.state is State.ACKED and not mail.thanks:
        incident = owe_answer(incident, duty.now)
    facts = {"what": "more", "mail": mail.mail_id, **entry.facts}
    told = tuple(
        Effect(do=EffectKind.TELL, key=f"tell/more/{mail.mail_id}/{p}", person=p, facts=facts)
        for p in concerned(incident)
        if p != mail.writer
    )
    return Change(incident=incident, effects=told, entries=(entry,), outcome=Outcome.NOTED)


def issue_reopened(
    incident: Incident,
    by: str,
    duty: Duty,
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
        return _reopen(incident, entry, duty, cause={"issue_reopened_by": by})
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
    duty: Duty,
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
        opened_at=duty.now,
        steps_from_at=duty.now,
        sla_at=duty.policy.sla_at(duty.now),
        breached_at=None,
        once=False,
        step=-1,
        away={},
        resolved_at=None,
        resolved_by="",
        next_step_at=duty.now + duty.policy.reopen_grace,
    )
    again = Entry(event="incident.reopened", actor=entry.actor, facts={"last_holder": incident.holder, **about})
    news = Effect(
        do=EffectKind.NEWS,
        key=f"news/{incident.version}/reopened",
        facts={"what": "reopened", "at": duty.now.isoformat()},
    )
    change = Change(incident=incident, effects=(news,), entries=(entry, again))
    if incident.holder is None:
        return change.then(take_due_step(replace(incident, next_step_at=duty.now), duty, cause=cause))
    people = {incident.holder: role_of(incident, incident.holder)}
    incident, pages = page_all(
        incident, people, duty.now, PageReason.REOPENED, text=entry.facts.get("text", ""), **about
    )
    return change.then(Change(incident=incident, effects=pages, entries=(paged_entry(incident, people, -1),)))


# -- Acts in the order of their own time: what is told late must not beat what was done since.
#
# Each way in has a clock of its own, and may tell what somebody did long after it was done. The line of an act says
# in `acted_at` when that was, where it was not at once. Clocks differ a little; that must never let an older act
# win, so times are compared as they stand.

#: What somebody did: event -> in words that follow a name.
ACTS: Mapping[str, str] = {
    "person.declined": "said no",
    "incident.escalated": "asked for more people",
    "incident.offered": "offered it to somebody",
    "incident.acked": "acknowledged it",
    "incident.taken": "took it",
    "incident.resolved": "closed it",
    "ack.undone": "undid an acknowledgement",
    "take.undone": "undid taking it",
    "resolve.undone": "undid closing it",
}
#: What overtakes an older yes of anybody: others were asked for since.
_ASKED_ANEW = frozenset({"incident.escalated", "incident.reopened"})
#: What overtakes an older "escalate", "take" or "resolve" of anybody: somebody has it since.
_GIVEN = frozenset({"incident.acked", "incident.taken"})


class DatedLine(TimelineEntry, Protocol):
    """A line of the timeline, with when it was written."""

    @property
    def at(self) -> datetime: ...


def own_time(line: DatedLine) -> datetime:
    """When it was done, as far as the line says; else when it was written."""
    said = line.facts.get("acted_at")
    # Never later than it was written: where the clock was put back, the columns were brought back and no fact.
    return min(datetime.fromisoformat(said), line.at) if isinstance(said, str) else line.at


def dated(change: Change, acted_at: datetime | None) -> Change:
    """The change with, on the lines of acts, when they were done; None: now."""
    if acted_at is None:
        return change
    said = {"acted_at": acted_at.isoformat()}
    entries = (replace(e, facts={**e.facts, **said}) if e.event in ACTS else e for e in change.entries)
    return replace(change, entries=tuple(entries))


def overtaken_by(lines: Sequence[DatedLine], person: str, at: datetime, *, is_yes: bool) -> DatedLine | None:
    """The latest line that stands against what `person` did at `at`; None when it still counts.

    Args:
        is_yes: It would only acknowledge. Whatever else it is would change who has it.
    """
    others = _ASKED_ANEW if is_yes else _ASKED_ANEW | _GIVEN
    against = [
        line
        for line in lines
        if (line.event in others or (line.event in ACTS and line.actor == person)) and own_time(line) > at
    ]
    return max(against, key=own_time, default=None)
