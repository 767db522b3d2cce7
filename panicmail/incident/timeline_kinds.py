"""Every kind of line of an incident's timeline, as one frozen dataclass: what it keeps beside its event and actor.

How each is said, as a note on the issue and on the link page, stands in `mail/compose/templates/timeline.j2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from panicmail.incident import typed_facts
from panicmail.incident.classify import Attachment
from panicmail.incident.notice_kinds import PageCause


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedLine:
    people: Mapping[str, str] = field(default_factory=dict)  #: person -> role
    step: int = 0  #: from 1; 0: the last who had it
    round: int = 0
    cause: PageCause = field(default_factory=PageCause)
    late_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitsLine:
    """Nobody is called before then."""

    policy: str = ""
    ladder: str = ""  #: the policy, in what was written before
    until: datetime | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreachedLine:
    sla_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLine:
    """Somebody has it."""

    holder: str = ""
    before: str = ""  #: who had it until then
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoneLine:
    holder: str = ""  #: who has it again
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardLine:
    """A word that changed nothing, or what follows has a line of its own."""

    how: str = ""
    words: str = ""
    said: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonLine:
    """Something about one person, or one of their channels."""

    person: str = ""
    why: str = ""
    channel: str = "mail"
    answer: str = ""
    round: int = 0
    mail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentLine:
    holder: str = ""
    again: bool = False  #: they were asked again too
    people: Mapping[str, str] = field(default_factory=dict)  #: who was called: person -> role
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftLine:
    key: str = ""
    role: str = ""
    at: datetime | None = None
    people: tuple[str, ...] = ()
    holder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedLine:
    to: str = ""
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLine:
    by: str = ""
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReopenedLine:
    last_holder: str = ""
    cause: PageCause = field(default_factory=PageCause)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueActLine:
    """Somebody closed the issue, or opened it again."""

    by: str = ""
    closed_at: str = ""
    reopened_at: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueAlteredLine:
    by: str = ""
    exposed: bool = False
    exposed_at: str = ""
    stands: bool = False
    lacking: tuple[str, ...] = ()
    taken_off: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueWentLine:
    how: str = ""
    place: str = ""
    followed: bool = False
    confidential: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MailNamed:
    """A mail by its time and subject."""

    at: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StormLine:
    sender: str = ""
    first: tuple[str, ...] = ()
    count: int = 0
    members: int = 0
    mails: tuple[MailNamed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StormSplitLine:
    mails: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietLine:
    """The reporter's mailbox gets no more mail, or gets it again."""

    instead: str = ""  #: where to write; "" when nobody said
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderLine:
    sender: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoreLine:
    """A mail in its thread."""

    from_address: str = ""
    from_name: str = ""
    text: str = ""
    is_reporter: bool = False
    why: str = ""
    how: str = ""
    kind: str = ""
    to: str = ""
    answer: str = ""
    way: str = ""
    told: tuple[str, ...] = ()
    answers: tuple[tuple[str, ...], ...] = ()  #: number, question, answer


@dataclass(frozen=True, slots=True, kw_only=True)
class SeverityLine:
    severity: int | None = None
    before: int | None = None
    policy: str = ""  #: that it follows now; "": the same
    rules: tuple[str, ...] = ()
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedLine:
    attachments: tuple[Attachment, ...] = ()
    uploads: bool = False
    mail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmendedLine:
    unreadable: bool = False
    changed: tuple[str, ...] = ()
    shape: str = ""
    kind: str = "human"
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BareLine:
    """Its event says all."""


TimelineKind = (
    PagedLine | WaitsLine | BreachedLine | GivenLine | UndoneLine | HeardLine | PersonLine | SilentLine | ShiftLine
    | OfferedLine | ClosedLine | ReopenedLine | IssueActLine | IssueAlteredLine | IssueWentLine | StormLine
    | StormSplitLine | SenderLine | QuietLine | MoreLine | SeverityLine | AttachedLine | AmendedLine | BareLine
)  # fmt: skip

#: Events that had another name in what was written before.
_RENAMED: Mapping[str, str] = {"ladder.waits": "policy.waits", "manager.called": "holder.silent"}
_EVENTS: Mapping[type[TimelineKind], tuple[str, ...]] = {
    PagedLine: ("people.paged",),
    WaitsLine: ("policy.waits", "steps.held"),
    BreachedLine: ("sla.breached",),
    GivenLine: ("incident.acked", "incident.taken"),
    UndoneLine: ("ack.undone", "take.undone", "resolve.undone"),
    HeardLine: (
        "ack.repeated", "ack.late", "take.late", "hand_over.late", "resolve.late", "person.declined",
        "incident.escalated", "hook.noted",
    ),
    PersonLine: (
        "person.unreachable", "person.reached", "holder.reminded", "page.accepted", "page.refused", "tell.refused",
        "receipt.refused", "news.refused", "operators.refused", "list.refused", "proven.refused", "news.dropped",
        "link.revoked",
    ),
    SilentLine: ("holder.silent",),
    ShiftLine: ("shift.changed",),
    OfferedLine: ("incident.offered",),
    ClosedLine: ("incident.resolved",),
    ReopenedLine: ("incident.reopened",),
    IssueActLine: ("issue.opened", "issue.closed_by_other", "issue.reopened"),
    IssueAlteredLine: ("issue.altered",),
    IssueWentLine: ("issue.went",),
    StormLine: ("storm.began", "storm.grew"),
    StormSplitLine: ("storm.split",),
    SenderLine: ("sender.checked", "storm.left"),
    QuietLine: ("reporter.quieted", "reporter.unquieted"),
    MoreLine: (
        "thread.more", "more.amended", "person.wrote", "conversation.said", "conversation.unsent",
        "conversation.refused", "mail.resent", "mail.automatic",
    ),
    SeverityLine: ("severity.set", "severity.raised"),
    AttachedLine: ("mail.attached",),
    AmendedLine: ("report.amended",),
    BareLine: ("incident.opened", "incident.has_policy"),
}  # fmt: skip
#: The kind of each event that is told to people.
EVENTS: Mapping[str, type[TimelineKind]] = {event: kind for kind, events in _EVENTS.items() for event in events}


def event_now(event: str) -> str:
    """An event by the name it has now."""
    return _RENAMED.get(event, event)


def line_of(event: str, facts: Mapping[str, Any]) -> TimelineKind:
    """What a line keeps; nothing of an event this version does not know."""
    return typed_facts.read(EVENTS.get(event_now(event), BareLine), facts)
