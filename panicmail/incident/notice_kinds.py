"""Every kind of notice about an incident, as one frozen dataclass: what it is about, as the outbox keeps it.

How each is said stands in the template of its name (`mail/compose/templates`). A new kind is a class here and its
template there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, get_args

from panicmail.incident import typed_facts
from panicmail.incident.classify import Attachment
from panicmail.incident.model import Outcome, PageReason
from panicmail.incident.reply_commands import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCause:
    """Whose act or absence caused a page; one of these, beside who is called as the last resort."""

    declined_by: str = ""
    words: str = ""  #: what they wrote
    escalated_by: str = ""
    handed_by: str = ""
    holder_gone: str = ""
    issue_reopened_by: str = ""
    on_call_since: datetime | None = None
    unreachable: str = ""
    why: str = ""  #: they cannot be reached
    last_resort: str = ""  #: "nobody_on_call" or "nobody_left": why the operators are called
    roles: tuple[str, ...] = ()  #: nobody is on call as


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFacts:
    """A page."""

    word: PageReason | None = None
    round: int | None = None
    role: str = ""
    cause: PageCause = field(default_factory=PageCause)
    late_seconds: int | None = None
    why: str = ""  #: a holder is silent: what is missing
    text: str = ""  #: reopened: what came
    since: datetime | None = None  #: since when the database is away
    turn_at: datetime | None = None  #: when it came to be the reader's turn
    channel: str = "mail"


@dataclass(frozen=True, slots=True, kw_only=True)
class AckedNotice:
    what: ClassVar = "acked_by"
    holder: str = ""
    before: str | None = None  #: who had it until then
    at: datetime | None = None
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoneNotice:
    what: ClassVar = "undone"
    by: str = ""
    undid: str = ""  #: "ack", "take" or "resolve"
    holder: str | None = None
    at: datetime | None = None
    done_at: datetime | None = None
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedAgainNotice:
    what: ClassVar = "opened_again"
    by: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedNotice:
    what: ClassVar = "resolved_by"
    by: str = ""
    at: datetime | None = None
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueClosedNotice:
    what: ClassVar = "issue_closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueAlteredNotice:
    what: ClassVar = "issue_altered"
    by: str = ""
    exposed: bool = False
    exposed_at: datetime | None = None
    stands: bool = False  #: it stays open to others
    lacking: tuple[str, ...] = ()
    taken_off: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueReopenedNotice:
    what: ClassVar = "issue_reopened"
    by: str = ""
    reopened_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueWentNotice:
    what: ClassVar = "issue_went"
    how: str = ""  #: "moved", "duplicate" or "promoted"
    place: str = ""
    by: str = ""
    closed_at: str = ""
    followed: bool = False
    confidential: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MoreNotice:
    what: ClassVar = "more"
    mail: str = ""
    from_name: str = ""
    from_address: str = ""
    text: str = ""
    is_reporter: bool = False
    attachments: tuple[Attachment, ...] = ()
    reread: bool = False  #: a part of it was told before


@dataclass(frozen=True, slots=True, kw_only=True)
class CameAgainNotice:
    what: ClassVar = "came_again"
    way: str = ""
    at: datetime | None = None
    more: bool = False  #: it was not the mail that opened the incident


@dataclass(frozen=True, slots=True, kw_only=True)
class StormMail:
    """One mail of a storm that is unlike the others."""

    at: datetime | None = None
    subject: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StormNotice:
    what: ClassVar = "storm"
    sender: str = ""
    count: int | None = None
    members: int | None = None
    at: datetime | None = None
    unlike: int | None = None
    new: tuple[StormMail, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PagesBundledNotice:
    what: ClassVar = "pages_bundled"
    person: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WhichNotice:
    what: ClassVar = "which"
    digest: str = ""
    refs: tuple[str, ...] = ()
    why: str = ""
    words: str = ""
    in_reply_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferFailedNotice:
    what: ClassVar = "offer_failed"
    to: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftEndedNotice:
    what: ClassVar = "shift_ended"
    role: str = ""
    at: datetime | None = None
    people: tuple[str, ...] = ()
    holder: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftBeganNotice:
    what: ClassVar = "shift_began"
    role: str = ""
    at: datetime | None = None
    people: tuple[str, ...] = ()
    holder: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRevokedNotice:
    what: ClassVar = "link_revoked"
    from_address: str = ""
    from_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeverityNotice:
    what: ClassVar = "severity"
    by: str = ""  #: "": the words of the report
    at: datetime | None = None
    how: str = ""
    policy: str = ""  #: that it follows from now on; "": the same


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsentNotice:
    what: ClassVar = "unsent"
    why: str = ""  #: an `UnsentReason`
    detail: str = ""
    in_reply_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentWithoutNotice:
    what: ClassVar = "sent_without"
    attachments: tuple[Attachment, ...] = ()
    in_reply_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerNotice:
    """The answer to what somebody said to us."""

    what: ClassVar = "answer"
    said: Command | None = None
    outcome: Outcome | None = None
    why: str = ""  #: it was no command, in words
    words: str = ""
    how: str = ""
    channel: str = ""  #: by which it was said
    by_link: bool = False
    to: str = ""  #: of a hand-over: who was paged
    refs: tuple[str, ...] = ()  #: what else is theirs by it
    stays: bool = False  #: it brought words that the reporter does not get
    in_reply_to: str | None = None
    before: str = ""  #: who had it until now
    stopped_at: datetime | None = None  #: when the clock had stopped, if somebody had it
    undo_by: datetime | None = None
    severity: int | None = None  #: how grave it is, by who wrote


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterAcked:
    what: ClassVar = "acked"
    holder: str = ""
    before: str | None = None
    at: datetime | None = None
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterBreached:
    what: ClassVar = "breached"
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterClosed:
    what: ClassVar = "resolved"
    by: str = ""
    at: datetime | None = None
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterNotClosed:
    what: ClassVar = "not_closed"
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterReopened:
    what: ClassVar = "reopened"
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterHasIssue:
    what: ClassVar = "issue"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterTold:
    """The holder's own words."""

    what: ClassVar = "said"
    by: str = ""
    text: str = ""
    how: str = ""
    mail: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFacts:
    """The reporter's first answer. Of one more mail of a storm it names that mail."""

    mail: str = ""
    message_id: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmFacts:
    """What the operators are told. Whatever else is known of the cause is shown as it is, name by name."""

    cause: str = ""
    ref: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownNotice:
    """A kind this version does not know: the state is true whatever it was."""

    what: ClassVar = "unknown"


#: What our own people are told.
Told = (
    AckedNotice | UndoneNotice | OpenedAgainNotice | ClosedNotice | IssueClosedNotice | IssueAlteredNotice
    | IssueReopenedNotice | IssueWentNotice | MoreNotice | CameAgainNotice | StormNotice | PagesBundledNotice
    | WhichNotice | OfferFailedNotice | ShiftEndedNotice | ShiftBeganNotice | LinkRevokedNotice | UnsentNotice
    | SeverityNotice | SentWithoutNotice | AnswerNotice | UnknownNotice
)  # fmt: skip
#: What reporters are told after the receipt.
News = (
    ReporterAcked | ReporterBreached | ReporterClosed | ReporterNotClosed | ReporterReopened | ReporterHasIssue
    | ReporterTold | UnknownNotice
)  # fmt: skip


def _by_name(kinds: Any) -> Mapping[str, Any]:
    return {kind.what: kind for kind in get_args(kinds) if kind is not UnknownNotice}


#: The kinds by the name their rows have.
TOLD: Mapping[str, type[Told]] = _by_name(Told)
NEWS: Mapping[str, type[News]] = _by_name(News)


def told(facts: Mapping[str, Any]) -> Told:
    """What a row says to one of our people."""
    return typed_facts.read(TOLD.get(str(facts.get("what")), UnknownNotice), facts)


def news(facts: Mapping[str, Any]) -> News:
    """What a row says to the reporter."""
    return typed_facts.read(NEWS.get(str(facts.get("what")), UnknownNotice), facts)


def page(facts: Mapping[str, Any]) -> PageFacts:
    """What a row asks of somebody."""
    return typed_facts.read(PageFacts, facts)


def facts_of(notice: Told | News) -> dict[str, Any]:
    """A notice as its row keeps it."""
    return {"what": notice.what, **typed_facts.written(notice)}


def alarm(facts: Mapping[str, Any]) -> tuple[AlarmFacts, Mapping[str, Any]]:
    """What a row says to the operators, and what else it knows."""
    known = typed_facts.read(AlarmFacts, facts)
    return known, {name: value for name, value in facts.items() if name not in AlarmFacts.__slots__}
