"""What a mail means: a report of something new, more about something known, or one of our people's answers.

Pure: it sees a `Report` (what a reader made of the raw bytes) and what the store knows, and decides by two things:
what ties the mail to an incident, and who wrote it. A sender, a subject, a mail's own Message-ID tie nothing.

    tie                         a person, a machine,   an automatic          a bounce            a read receipt
                                an automatic report    answer
    somebody's token            their answer           their answer          their page bounced  their answer
    somebody's bounce address   a note; a report:      their answer          their page bounced  their answer
                                their answer
    the reporter's token,       more in the thread     a note                a note              a note
    a reference
    the same, long closed       a panic, linked to it  a note                a note              a note
    none                        a panic                a note where we       a panic, paged      a panic, paged
                                                       mailed its writer,    once                once
                                                       else paged once

A panic is paged once as well when it came through a foreign list, or from an unknown sender where the operator says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class MailKind(StrEnum):
    """Who or what wrote a mail, as far as it shows."""

    HUMAN = "human"  #: no sign of a machine
    AUTO_REPLY = "auto_reply"  #: an automatic answer or notification of any other sort
    OOO = "ooo"  #: an automatic answer that says the person is away
    BOUNCE = "bounce"  #: a delivery report, failed or delayed
    LIST = "list"  #: a copy sent by a mailing list
    MDN = "mdn"  #: a read receipt
    CALENDAR = "calendar"  #: an answer to an invitation


class Author(StrEnum):
    """Who wrote a mail, as far as it is sure. It decides who is called; `Kind` only what may acknowledge."""

    PERSON = "person"  #: nothing that a person's mail does not show as well
    MACHINE = "machine"  #: a machine sent it, and whether it wrote it is not said: a null sender, a no-reply address
    REPORT = "report"  #: an automaton tells of something: an alert, a cron mail
    ANSWER = "answer"  #: an automaton answers a mail (RFC 3834): an absence, a ticket desk, a challenge
    BOUNCE = "bounce"  #: a delivery report, by its outermost structure or a mailer daemon's From
    RECEIPT = "receipt"  #: a read receipt, by its outermost structure


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One attached file: what it calls itself, and what it is."""

    name: str  #: as the sender wrote it, control characters removed; may be ""
    type: str  #: MIME type it claims, lower case
    size: int  #: octets after decoding
    sha256: str  #: lower-case hex of the decoded octets


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientStatus:
    """What a delivery report (RFC 3464) says of one recipient."""

    recipient: str  #: address, lower case; "" when the report does not say
    action: str  #: "failed", "delayed", "delivered", "relayed", "expanded" or "" when unknown
    status: str  #: enhanced status code such as "5.1.1", or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One mail as read. Everything in it is the sender's word, and data."""

    subject: str = ""  #: one line, decoded, control and bidi characters removed
    from_address: str = ""  #: lower case; "" unless there is exactly one From field with exactly one plain address
    from_name: str = ""  #: display name, one line; may be ""
    from_shown: str = ""  #: what the first From field says, decoded, for people to read; never for decisions
    reply_to: str | None = None
    date: datetime | None = None  #: as the sender dated it, UTC; None when absent or unreadable
    message_id: str | None = None  #: with its angle brackets
    references: tuple[str, ...] = ()  #: In-Reply-To and References together, oldest first, with angle brackets
    text: str = ""  #: the readable body, whole (HTML made plain)
    reply_text: str = ""  #: all the sender newly wrote: no quoted history, no signature
    first_line: str | None = None  #: of `reply_text`; "" where it may be somebody else's, None where nobody asked
    kind: MailKind = MailKind.HUMAN
    author: Author = Author.PERSON
    why: tuple[str, ...] = ()  #: the signs that led to `kind` and `author`, for people
    lists: tuple[str, ...] = ()  #: ids and addresses of the lists and groups it came through, lower case
    attachments: tuple[Attachment, ...] = ()
    deliveries: tuple[RecipientStatus, ...] = ()  #: of a bounce
    defects: tuple[str, ...] = ()  #: what was odd about the mail, for people
    hops: int = 0  #: how many panicmails it has come through (header X-Panicmail); 0: none
    lossless: bool = True  #: False: something of the text may be missing or wrong; such a mail never acknowledges
    cut_short: str = ""  #: read from its octets alone, for a reason of ours in a word: to be read again; "" otherwise
    links: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()  #: what in it has the form of a token of ours (`redaction.carried`), files included
    received_from: str = ""  #: the address of the peer that its topmost Received names; "": none

    @property
    def is_encrypted(self) -> bool:
        """Whether what is said in it may be encrypted: nobody but the owner of a key can read it."""
        return not self.lossless and any(each.startswith(ENCRYPTED) for each in self.defects)

    @property
    def command_text(self) -> str:
        """What may be a command: `reply_text`, and nothing where its first line may be somebody else's."""
        return "" if self.first_line == "" else self.reply_text

    @property
    def reporter_name(self) -> str:
        """What to call the sender: name, else address, else what From shows."""
        return self.from_name or self.from_address or self.from_shown or "somebody"


class MailPurpose(StrEnum):
    """What a mail is to panicmail."""

    PANIC = "panic"  #: a new incident
    SAME = "same"  #: the same mail again: it joins the first one
    MEMBER = "member"  #: one more of a flood: it joins its storm
    MORE = "more"  #: more in the thread of an incident
    ANSWER = "answer"  #: to the token address of somebody paged, whoever wrote it
    ASIDE = "aside"  #: a person's words to an address where they cannot count: a note, and whoever wrote them is told
    SPEECH = "speech"  #: to the address the holder was given to write to the reporter, whoever wrote it
    UNDELIVERED = "undelivered"  #: the delivery report of one of our pages
    DIGEST = "digest"  #: to the address of a digest of pages, whoever wrote it
    PROOF = "proof"  #: whatever came back on a test page: it belongs to no incident


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAddress:
    """A recipient of the mail as the tokens read it: the incident and person its token proves, or nothing."""

    incident_id: str | None = None
    person: str = ""  #: whose token; "" the reporter's
    speaks: bool = False  #: the address given to `person` for writing to the reporter
    bounce: bool = False  #: the envelope sender of a page, where only machines should write
    unproved: bool = False  #: it carries a token that does not verify


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFacts:
    """What the store and the configuration know about a mail before it is decided."""

    addresses: tuple[TokenAddress, ...] = ()
    same_as: str | None = None  #: the unresolved incident that the same mail already made, within 48 h
    same_by_another_way: str | None = None  #: the same, where only header fields and a list's footer differ
    came_as: str = ""  #: the REF of the incident that the same mail made by another way, and that was paged once
    thread: str | None = None  #: the incident one of the mail's references belongs to
    thread_over: bool = False  #: that incident was resolved more than a day ago
    answers_page: TokenAddress | None = None  #: where addresses carry no token: the page of ours it answers
    answers_digest: TokenAddress | None = None  #: the digest of pages it came back on; its id stands for an incident's
    answers_test: bool = False  #: it came back on a test page of `panicmail check`
    bare_about: str | None = None  #: a bare command of somebody paged: the open incident it is about
    answered: str | None = None  #: an automatic answer without a tie: the incident it is a note on
    known_sender: bool = True  #: the sender is one of `[senders] known`, or everybody is
    listed_sender: bool = False  #: the sender is one of `[senders] known`, which lists somebody
    list_is_ours: bool = False  #: a list or group it came through is one of our own addresses
    once_unknown: bool = False  #: `[senders] unknown = "once"`
    looks_like: str = ""  #: the domain of ours that the sender's is made to look like; "": none


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """What to do with a mail."""

    shape: MailPurpose
    incident_id: str | None = None  #: the incident it belongs to; None for a new one
    person: str = ""  #: of ANSWER, SPEECH, UNDELIVERED and DIGEST: whose token it came to
    digest: TokenAddress | None = None  #: of DIGEST
    linked_to: str | None = None  #: of PANIC: the resolved incident whose thread it is in
    once: bool = False  #: of PANIC: filed and paged once, without escalation and receipt
    another_way: bool = False  #: of SAME: it came by another way than the first one, so its octets differ
    looping: bool = False  #: of PANIC: it goes round between panicmails; filed, the operators told, nobody paged
    flags: tuple[str, ...] = ()  #: oddities worth a line on page and issue
    mailbox: str = ""  #: of PANIC and MEMBER: whose flood it may be part of (`storm_rules.storm_mailbox`); "": nobody's
    storm_of: tuple[str, ...] | None = None  #: of PANIC: it opens a storm, and these incidents go with it


#: A mail that came through so many panicmails goes round between them: it is filed, and nobody is paged.
LOOP_HOPS = 2
#: Automata that answer a mail. What they write is nobody's report.
_ANSWERING = frozenset({Author.ANSWER, Author.BOUNCE, Author.RECEIPT})


#: "sev 3" and "severity: 3" anywhere. A bare "S3" only where it can be nothing else: there are buckets of that name.
_SEVERITY = re.compile(
    r"(?ix) (?:^|[\s\[(]) (?:sev|severity) (?:[ -]|:[ ]?)? ([1-4]) (?=[\s\]):,.!?]|$)"
    r"| [\[(] \s* s[ -]?([1-4]) \s* [\])] | ^ (?:\s* (?:re|fwd?) :)* \s* s[ -]?([1-4]) \s* (?: : | [-\u2013] \s | $)"
)


def severity_in(subject: str) -> int | None:
    """The severity a reporter gave in the subject, such as "S2: …", [S1] or "severity: 3"; 1 is the worst, and of
    several it is the worst that counts."""
    return min((int(found[found.lastindex or 0]) for found in _SEVERITY.finditer(subject)), default=None)


#: A line that says it and nothing else.
_SEVERITY_LINE = re.compile(
    r"(?i)(?:sev|severity)\s{0,3}[:=-]?\s{0,3}(?:([1-4])|(critical|high|medium|low))\s{0,3}[.!]?"
)
_WORDS = {"critical": 1, "high": 2, "medium": 3, "low": 4}
#: Such a line is looked for in so many lines.
_FIRST_LINES = 50


def severity_named(report: Report) -> int | None:
    """The worst severity a reporter gave, in the subject or on a line of its own; what is quoted counts for nothing."""
    lines = (line.strip()[:40] for line in report.reply_text.splitlines()[:_FIRST_LINES])
    hits = filter(None, map(_SEVERITY_LINE.fullmatch, lines))
    levels = [int(hit[1]) if hit[1] else _WORDS[hit[2].lower()] for hit in hits]
    return min(filter(None, (severity_in(report.subject), *levels)), default=None)


def is_surely_automatic(report: Report, *, null_sender: bool) -> bool:
    """Whether no person wrote this: by RFC 3834's fields and their kin, or by the null sender and the structure.

    Such a mail in a thread is a note and nothing else; whatever else a person may have written reaches somebody.
    """
    if report.author in (Author.BOUNCE, Author.RECEIPT):
        return null_sender
    return report.author in (Author.ANSWER, Author.REPORT)


def may_be_answered(report: Report, *, list_is_ours: bool, listed_sender: bool) -> bool:
    """Whether a person reads what is written to its sender: a machine does not, and a list would spread it."""
    if report.author is not Author.PERSON or report.hops or report.from_address in report.lists:
        return False
    return not report.lists or list_is_ours or listed_sender


#: So much text may a list or a filter add to a mail: a footer, a warning. And so far apart may the dates of two copies
#: be: a program that writes one mail to two recipients dates each copy.
_ADDED, _DATED_APART = 2000, timedelta(minutes=1)


def is_same_by_another_way(report: Report, first: Report) -> bool:
    """Whether two mails are one that came by two ways: the same Message-ID, From, Date and text.

    A list adds a footer, a filter a warning; so one text may stand within the other.
    """
    if not (report.message_id and report.date and first.date and report.from_shown):
        return False
    same = (report.message_id, report.from_address or report.from_shown)
    if same != (first.message_id, first.from_address or first.from_shown):
        return False
    if abs(report.date - first.date) > _DATED_APART:
        return False
    short, long = sorted((" ".join(each.text.split()) for each in (report, first)), key=len)
    return short == long or (bool(short) and short in long and len(long) - len(short) <= _ADDED)


def decide(report: Report, known: KnownFacts) -> Classification:
    """Decide what a mail is. Total: when nothing else fits it is a panic, so doubt ends in a page.

    A mail that was seen before is that mail again, whatever it is. Else a valid token of a person rules over
    everything: such a mail is never also a panic (contract.md 3).
    """
    if known.same_as is not None:
        return Classification(shape=MailPurpose.SAME, incident_id=known.same_as)
    proved = [a for a in known.addresses if a.incident_id is not None]
    if known.answers_page is not None:
        proved.append(known.answers_page)
    if address := next((a for a in proved if a.speaks), None) or next((a for a in proved if a.person), None):
        return Classification(shape=_at_token(report, address), incident_id=address.incident_id, person=address.person)
    if known.answers_digest is not None:
        return Classification(shape=MailPurpose.DIGEST, person=known.answers_digest.person, digest=known.answers_digest)
    if known.answers_test:
        return Classification(shape=MailPurpose.PROOF)
    if known.same_by_another_way is not None:
        return Classification(shape=MailPurpose.SAME, incident_id=known.same_by_another_way, another_way=True)
    tied = not known.thread_over or report.author in _ANSWERING
    if proved and tied:
        return Classification(shape=MailPurpose.MORE, incident_id=proved[0].incident_id)
    if known.bare_about is not None:
        return Classification(shape=MailPurpose.ASIDE, incident_id=known.bare_about)
    if known.thread is not None and tied:
        return Classification(shape=MailPurpose.MORE, incident_id=known.thread)
    if report.author is Author.ANSWER and known.answered is not None:
        return Classification(shape=MailPurpose.MORE, incident_id=known.answered)
    return _panic(report, known)


def _at_token(report: Report, address: TokenAddress) -> MailPurpose:
    """What a mail is to the token address of a person of ours."""
    if address.speaks:
        return MailPurpose.SPEECH
    if report.author is Author.BOUNCE or (address.bounce and report.kind is MailKind.BOUNCE):
        return MailPurpose.UNDELIVERED
    if address.bounce and report.author is Author.PERSON and report.kind is not MailKind.OOO:
        return MailPurpose.ASIDE
    return MailPurpose.ANSWER


def _panic(report: Report, known: KnownFacts) -> Classification:
    unknown = known.once_unknown and not known.known_sender
    return Classification(
        shape=MailPurpose.PANIC,
        linked_to=known.thread if known.thread_over else None,
        looping=report.hops >= LOOP_HOPS,
        once=report.hops >= LOOP_HOPS or unknown or report.author in _ANSWERING or _is_foreign_list(report, known),
        flags=tuple(_flags(report, known)),
    )


def _is_foreign_list(report: Report, known: KnownFacts) -> bool:
    return bool(report.lists) and not (known.list_is_ours or known.listed_sender)


#: How the oddity of a mail begins that is encrypted.
ENCRYPTED = "encrypted"
#: How the oddities of a mail begin that are worth a line wherever people read it: they name where its links lead.
MISLEADS, HAS_QR = "a link shows ", "a picture holds a QR code: "

#: How the tokens begin by which somebody could act: an answer's, a bounce's, a link's (`reply_tokens.Purpose`).
_ACTING = ("a", "b", "d", "l")


_MOST_LINKS = 5


def _flags(report: Report, known: KnownFacts) -> list[str]:
    flags = []
    if known.looks_like:
        flags.append(f"the sender's domain is not {known.looks_like}, and looks like it")
    if report.author is not Author.PERSON or _is_foreign_list(report, known):
        flags.append(f"looks automatic ({report.kind.value}: {', '.join(report.why[:3])})")
    if report.hops:
        flags.append("was sent by another panicmail")
    if not report.from_address:
        flags.append("From does not name one plain address")
    if report.cut_short:
        flags.append("could not be read in full so far; the raw message is on the issue, and the rest follows")
    elif report.is_encrypted:
        flags.append("is encrypted, and panicmail has no key to read it; the raw message is on the issue")
    elif not report.lossless:
        flags.append("could not be read in full; the raw message is on the issue")
    if not report.text.strip():
        flags.append("has no text")
    flags += [each for each in report.defects if each.startswith((MISLEADS, HAS_QR))][:_MOST_LINKS]
    if any(each.startswith(_ACTING) for each in report.carried):
        flags.append("holds an address or a link of a panicmail: cut out; where it acts, the raw mail is not uploaded")
    if any(a.unproved for a in known.addresses):
        flags.append("came to an address with a token that does not verify")
    if known.came_as:
        flags.append(f"came another way too, as {known.came_as}, which was paged once")
    if not known.known_sender:
        flags.append("sender is not in [senders] known")
    return flags
