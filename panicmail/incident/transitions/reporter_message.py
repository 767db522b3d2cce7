"""The holder and the reporter: who may speak to the reporter, and what becomes of words that do not go out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from panicmail.incident.escalation_policy import EscalationPolicy
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.transitions.acknowledge import unclaimed
from panicmail.incident.transitions.silent_holder import sign_of_work


class UnsentReason(StrEnum):
    """Why what somebody wrote did not go to the reporter."""

    NOT_YOURS = "not_yours"  #: somebody else has it, or nobody
    CLOSED = "closed"
    EMPTY = "empty"  #: nothing newly written
    LOSSY = "lossy"  #: not read in full
    MACHINE = "machine"  #: it bears a sign of a machine, such as a list's
    STRANGER = "stranger"  #: it is not certain that the holder wrote it
    UNPROVED = "unproved"  #: who wrote it is not proved as it must be
    OURS = "ours"  #: it holds a piece of a mail of ours
    LONG = "long"
    YOURSELF = "yourself"  #: the holder is the reporter
    NO_ADDRESS = "no_address"  #: the report names nobody who reads an answer
    NOT_ALLOWED = "not_allowed"  #: by `[receipts]`
    PLAIN = "plain"  #: reply addresses are plain here, so none tells that it is for the reporter
    BOTH = "both"  #: it went to their own address as well, where what they write stays internal
    ASTRAY = "astray"  #: it went to the reporter's own address for answers
    QUIET = "quiet"  #: the holder said that the mailbox may not be the reporter's any more
    REFUSED = "refused"  #: by the reporter's mail server


#: In words that follow "because".
WHY: Mapping[UnsentReason, str] = {
    UnsentReason.NOT_YOURS: "only whoever has it writes to the reporter",
    UnsentReason.CLOSED: "it is closed",
    UnsentReason.EMPTY: "nothing in it is newly written",
    UnsentReason.LOSSY: "it could not be read in full",
    UnsentReason.MACHINE: "it looks like an automatic mail",
    UnsentReason.STRANGER: "it came from an address that is not the holder's",
    UnsentReason.UNPROVED: "who wrote it is not proved",
    UnsentReason.OURS: "it holds a piece of a mail of panicmail's, or a colleague's address",
    UnsentReason.LONG: "it is too long",
    UnsentReason.YOURSELF: "the holder is the reporter",
    UnsentReason.NO_ADDRESS: "the report names nobody who reads an answer",
    UnsentReason.NOT_ALLOWED: "panicmail may not write to the reporter",
    UnsentReason.PLAIN: "reply addresses carry no token here",
    UnsentReason.BOTH: "it went to the holder's own address as well, and what goes there stays internal",
    UnsentReason.ASTRAY: "it went to the reporter's own address for answers",
    UnsentReason.QUIET: "the reporter's mailbox may not be theirs any more, as the holder said",
    UnsentReason.REFUSED: "the reporter's mail server refused it",
}


def speaks(incident: Incident, person: str) -> bool:
    """Whether `person` may speak to the reporter: they have it now."""
    return incident.state is State.ACKED and incident.holder == person


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """Words of `person` for the reporter."""

    person: str
    text: str
    how: str  #: how it was verified that they are theirs, in words
    mail_id: str
    left: Sequence[Mapping[str, Any]] = ()  #: the attachments that do not go with them, as JSON
    about: Mapping[str, str | None] = field(default_factory=dict)  #: what else the writer should know: `in_reply_to`


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """Words that do not go to the reporter."""

    why: UnsentReason
    writer: str  #: who wrote them: a person, or the address they came from
    text: str
    mail_id: str
    about: Mapping[str, str | None] = field(default_factory=dict)  #: as of `Speech`, and `detail`


def speak(incident: Incident, speech: Speech, policy: EscalationPolicy, now: datetime) -> Change:
    """The holder's words go to the reporter. They are a sign of work.

    When there are attachments that do not go with them, the holder is told.
    """
    person, key = speech.person, speech.mail_id
    facts = {"by": person, "text": speech.text, "how": speech.how, "mail": key, "at": now.isoformat()}
    news = Effect(do=EffectKind.NEWS, key=f"news/said/{key}", facts={"what": "said", **facts})
    said = Entry(event="conversation.said", actor=person, facts={"to": incident.reporter_address, **facts})
    without = {"what": "sent_without", "attachments": list(speech.left), **speech.about}
    told = Effect(do=EffectKind.TELL, key=f"tell/sent/{key}/{person}", person=person, facts=without)
    change = sign_of_work(incident, person, policy, now)
    return replace(change, effects=(news, told) if speech.left else (news,), entries=(said,), outcome=Outcome.DONE)


def leave_unsaid(incident: Incident, person: str, unsent: Unsent) -> Change:
    """An internal note of words that do not go to the reporter, and `person` is told so."""
    facts = {"what": "unsent", "why": unsent.why.value, **unsent.about}
    told = Effect(do=EffectKind.TELL, key=f"tell/unsent/{unsent.mail_id}/{person}", person=person, facts=facts)
    kept = Entry(event="conversation.unsent", actor=unsent.writer, facts={"text": unsent.text, "why": WHY[unsent.why]})
    return replace(unchanged(incident, Outcome.NOTED, kept), effects=(told,))


def refused(incident: Incident, person: str, answer: str, mail_id: str) -> Change:
    """The reporter's mail server refused for good what `person` wrote: they are told, and may call the reporter."""
    facts = {"what": "unsent", "why": UnsentReason.REFUSED.value, "detail": answer}
    told = Effect(do=EffectKind.TELL, key=f"tell/unsent/{mail_id}/{person}", person=person, facts=facts)
    entry = Entry(event="conversation.refused", actor=person, facts={"answer": answer})
    return replace(unchanged(incident, Outcome.NOTED, entry), effects=(told,))


# -- A mail that was read only in part has been read in full: what of it changes the incident.
#
# Only ever upwards: nobody is un-paged, no clock is put back, a severity only rises. An incident that is over keeps
# what was read, and nobody hears of it.


def amend(
    incident: Incident, entry: Entry, issue: Mapping[str, Any], *, receipt: bool, files: bool, **kept: Any
) -> Change:
    """The report was read in full.

    Args:
        issue: The issue as it was drafted from what was read first.
        receipt: The reporter may have one. One that was sent is not sent again.
        files: There are some to be uploaded.
        kept: What the incident keeps of the report: `subject`, `reporter_address`, `reporter_name`, `message_id`,
            `severity`.
    """
    severity = kept.pop("severity")
    severity = (
        incident.severity if incident.severity_by else min(filter(None, (incident.severity, severity)), default=None)
    )
    incident = replace(incident, severity=severity, **kept)
    effects = [Effect(do=EffectKind.AMEND, key="amend", facts=issue)]
    if files:
        effects.append(Effect(do=EffectKind.FILES, key=f"files/{incident.mail_id}", facts={"mail": incident.mail_id}))
    if receipt and not incident.once and incident.state is not State.RESOLVED:
        effects.append(Effect(do=EffectKind.RECEIPT, key="receipt"))
    return Change(incident=incident, effects=tuple(effects), entries=(entry,))


def give_policy(incident: Incident, policy: EscalationPolicy, now: datetime) -> Change:
    """It looked like no colleague's report and was paged once; it is one: the rest of its policy, from acceptance on.

    One that somebody has taken since stays as it is.
    """
    if not unclaimed(incident) or incident.state is not State.RESOLVED:
        return unchanged(incident, Outcome.ALREADY)
    incident = replace(
        incident,
        state=State.OPEN,
        once=False,
        resolved_at=None,
        resolved_by="",
        next_step_at=policy.after_step(incident.steps_from_at, incident.step, now),
    )
    return Change(incident=incident, entries=(Entry(event="incident.has_policy", actor="panicmail"),))


def amend_more(incident: Incident, entry: Entry, *, mail_id: str, to: Iterable[str]) -> Change:
    """A later mail was read in full: a note, and who was told what could be read of it at first is told the whole."""
    facts = {**entry.facts, "what": "more", "mail": mail_id, "reread": True}
    told = tuple(Effect(do=EffectKind.TELL, key=f"tell/reread/{mail_id}/{p}", person=p, facts=facts) for p in to)
    return Change(incident=incident, effects=told, entries=(entry,), outcome=Outcome.NOTED)
