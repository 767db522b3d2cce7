"""The issue of an incident, as text: title and description. Pure.

Everything of the sender's goes through `text`. The description ends in the marker by which a create with an unknown
outcome is found again, and it holds one line beginning `Files:` that the links replace once the files are there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from panicmail.gitlab.escape import block, inline, outside, title
from panicmail.incident.classify import Attachment, Report
from panicmail.incident.model import Incident
from panicmail.incident.people import Person

#: Of the report's text, in characters. GitLab takes 1,048,576 for the whole description.
REPORT_LIMIT = 900_000
#: Attachments listed by name; a mail can hold thousands.
_LISTED = 200
_NO_FILES, _FILES = "Files: none uploaded so far", "Files:"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedFacts:
    """How the mail came, as our own listener saw it, and what is to be said of that."""

    mail_from: str  #: "" the null sender
    peer: str
    tls: str  #: "" in the clear
    size: int  #: octets
    recipients: Sequence[str]
    sender: str  #: what is proved of the sender, in words
    flags: Sequence[str] = ()  #: oddities, for people
    remarks: Sequence[str] = ()  #: where it belongs, and the like


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueDraft:
    """An issue to be opened."""

    title: str
    description: str
    labels: tuple[str, ...] = ()
    severity: str = ""  #: as GitLab's field has it; "": not known
    assignee_username: str | None = None  #: None: nobody who has a GitLab user was paged


class FileLink(NamedTuple):
    """A file that was uploaded."""

    name: str
    url: str  #: as GitLab answered it
    sha256: str

    @classmethod
    def of(cls, name: str, url: str, data: bytes) -> FileLink:
        return cls(name, url, hashlib.sha256(data).hexdigest())


def marker(incident_id: str) -> str:
    """What a description holds on a line of its own, once in the world."""
    return f"panicmail:{incident_id}"


def draft(
    incident: Incident,
    report: Report,
    received: ReceivedFacts,
    *,
    assignee: Person | None,
    labels: Sequence[str],
) -> IssueDraft:
    """The issue of `incident`, whose mail reads `report`."""
    facts = list(_facts(incident, report, received))
    parts = [
        f"Panic mail **{incident.ref}**. Acknowledge by **{_instant(incident.sla_at)}**.",
        *_kinds(incident),
        "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts)]),
        "### Report",
        block(report.text, REPORT_LIMIT) if report.text.strip() else "The mail has no text.",
        *_attachments(report.attachments),
        _NO_FILES,
        f"`{marker(incident.id)}`",
    ]
    return IssueDraft(
        title=_title(incident, report.subject),
        description="\n\n".join(parts),
        labels=tuple(labels),
        assignee_username=assignee.gitlab if assignee else None,
    )


def neutral(draft: IssueDraft, incident: Incident) -> IssueDraft:
    """The issue without a word of the sender's, for a GitLab that takes those for spam."""
    text = [
        f"Panic mail **{incident.ref}**. GitLab took the words of the report for spam, so they are not here.",
        f"Read them in the page, in the file below, or with `panicmail mail {incident.ref}`.",
        _NO_FILES,
        f"`{marker(incident.id)}`",
    ]
    return replace(draft, title=_title(incident, incident.ref), description="\n\n".join(text))


def _title(incident: Incident, about: str) -> str:
    return title(f"DRILL: {about or '(no subject)'}" if incident.drill else about)


def has_files(description: str) -> bool:
    """Whether the description has its links already."""
    return any(line == _FILES for _number, line in outside(description))


def files_part(description: str) -> str:
    """The part with the links of uploaded files; "" while there is none."""
    numbers = [number for number, line in outside(description) if line == _FILES]
    return "\n".join(description.split("\n")[numbers[-1] :]) if numbers else ""


def with_files(description: str, links: Sequence[tuple[str, str, str]]) -> str | None:
    """The description with links (name, url, SHA-256) in the place kept for them.

    One that has its links already comes back as it is; None when the place is gone, because somebody edited it away.
    """
    lines = description.split("\n")
    for number, line in outside(description):
        if line == _FILES:
            return description
        if line == _NO_FILES:
            lines[number] = files(links)
            return "\n".join(lines)
    return None


def amended(description: str, before: str, after: str) -> str | None:
    """The description with what was drafted `after` in the place of what was `before`; its files stay.

    None when somebody has edited it meanwhile, or it is not ours.
    """
    old, new = (drafted.rpartition(_NO_FILES)[0] for drafted in (before, after))
    if description.startswith(new):
        return description
    return new + description[len(old) :] if description.startswith(old) else None


def files(links: Sequence[tuple[str, str, str]]) -> str:
    """A list of uploaded files (name, url, SHA-256)."""
    return "\n".join(
        [_FILES, "", *(f"- [{inline(name)}]({_url(url)}) SHA-256 {inline(sha)}" for name, url, sha in links)]
    )


def attachment_table(attachments: Sequence[Attachment]) -> str:
    """Each attachment by name, type, size and SHA-256; of too many the first ones and how many more."""
    rows = [
        f"| {inline(a.name or '(no name)', 120)} | {inline(a.type, 100)} | {a.size} | {inline(a.sha256, 64)} |"
        for a in attachments[:_LISTED]
    ]
    table = "\n".join(["| Name | Type | Octets | SHA-256 |", "| --- | --- | --- | --- |", *rows])
    more = len(attachments) - _LISTED
    return f"{table}\n\nAnd {more} more attachments." if more > 0 else table


def _url(url: str) -> str:
    """An address that cannot end its Markdown link early."""
    return quote(url, safe="/:%?=&~._-")


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _kinds(incident: Incident) -> Iterator[str]:
    if incident.drill:
        yield "**This is a drill.**"
    if incident.once:
        yield "Paged once, without escalation: it does not look like a colleague's report."


def _facts(incident: Incident, report: Report, received: ReceivedFacts) -> Iterator[tuple[str, str]]:
    """The table: what, and the Markdown that says it."""
    yield "Reporter", inline(_reporter(report))
    yield "Sender", inline(received.sender, 300)
    yield "Subject", inline(report.subject or "(no subject)", 1000)
    yield "Accepted", _instant(incident.accepted_at)
    yield "Received", _received(received)
    if report.reply_to and report.reply_to != report.from_address:
        yield "Reply-To", inline(report.reply_to)
    for phone in report.phones[:3]:
        yield "Phone, from the mail", inline(phone, 60)
    if incident.linked_to:
        yield "Continues", incident.linked_to
    for remark in received.remarks:
        yield "Note", inline(remark, 500)
    for flag in received.flags[:20]:
        yield "Flag", inline(flag, 300)


def _reporter(report: Report) -> str:
    if report.from_name and report.from_address:
        return f"{report.from_name} <{report.from_address}>"
    return report.from_address or report.from_shown or report.from_name or "somebody; the mail does not say"


def _received(received: ReceivedFacts) -> str:
    more = len(received.recipients) - 5
    to = ", ".join(received.recipients[:5]) + (f" and {more} more" if more > 0 else "")
    envelope = inline(f"from <{received.mail_from}> to {to}", 500)
    wire = f"{inline(received.peer or 'unknown')}, {inline(received.tls or 'no TLS')}"
    return f"{envelope} by {wire}, {received.size} octets"


def _attachments(attachments: Sequence[Attachment]) -> Iterator[str]:
    if attachments:
        yield "### Attachments"
        yield attachment_table(attachments)
