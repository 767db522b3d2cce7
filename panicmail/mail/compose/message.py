"""From lines to a mail: the text, the HTML beside it, the header fields, the octets.

A letter is written once, as lines. Each line is ours or a stranger's; strangers' are marked `| ` in both forms, stand
in a bordered block in the HTML, and are never anything but escaped text there. Links and telephone numbers become
anchors only where we name them. No image, no script, nothing from elsewhere.

Every line of ours passes `harmless`: quoted back without its quote marks it can never be read as a command. Octets
come out the same for the same letter: the boundary is derived, the date is given, so a retry repeats itself.

Identifier fields are folded between ids only: the library would write a long one as an encoded word, and no program
would find its thread again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address, BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy, Policy
from enum import Enum, auto
from functools import lru_cache
from html import escape
from typing import Any, ClassVar, Literal

from panicmail.incident import reply_commands


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedMail:
    """One mail, ready for the relay."""

    message: bytes  #: with CRLF
    mail_from: str  #: envelope sender; "" the null sender; of a page the address its bounces go to
    recipient: str


class TextStyle(Enum):
    """How a line looks in HTML."""

    KEY = auto()  #: what to do, by when: big
    OURS = auto()
    THEIRS = auto()  #: a stranger's words, in a bordered block
    BUTTON = auto()  #: its link as a button


@dataclass(frozen=True, slots=True)
class Link:
    """A part of a line that leads somewhere."""

    shown: str  #: as it stands in the line
    target: str
    label: str = ""  #: instead of `shown`, in HTML


@dataclass(frozen=True, slots=True)
class TextLine:
    text: str
    look: TextStyle = TextStyle.OURS
    links: tuple[Link, ...] = ()


def headline(text: str) -> TextLine:
    """The line that says what to do."""
    return TextLine(harmless(text), TextStyle.KEY)


def ours(text: str, *links: Link) -> TextLine:
    return TextLine(harmless(text), links=links)


def theirs(text: str) -> TextLine:
    """A line that is marked already."""
    return TextLine(text, TextStyle.THEIRS)


def mixed_line(text: str, look: TextStyle, links: Sequence[Link]) -> TextLine:
    """A line of ours, some of whose words lead somewhere."""
    return TextLine(harmless(text), look, tuple(links))


def button(before: str, url: str, label: str) -> TextLine:
    """A line that leads to `url`, as a button where there are buttons."""
    return TextLine(harmless(before + url), TextStyle.BUTTON, (Link(url, url, label),))


def call(before: str, number: str) -> TextLine:
    """A line that ends in a telephone number of our configuration, to be dialled by a touch."""
    return ours(before + number, Link(number, "tel:" + re.sub(r"[^0-9+*#]", "", number)))


@lru_cache(4096)
def harmless(text: str) -> str:
    """A line of ours, never a command: whoever's name begins it, and even when its quote marks are lost."""
    line = " ".join(text.split())
    return f"Note: {line}" if line and reply_commands.read(line).meaning is not reply_commands.Command.NOTHING else line


# -- the two forms ---------------------------------------------------------------------------------

_BODY = "margin:0 auto;max-width:40em;padding:12px;font:16px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif"
_STYLES = {
    TextStyle.KEY: "font-size:21px;line-height:1.35;font-weight:700;margin:0 0 12px",
    TextStyle.OURS: "margin:0 0 8px",
    TextStyle.BUTTON: "margin:16px 0",
}
_QUOTE = "margin:8px 0;padding:4px 0 4px 10px;border-left:4px solid #999;overflow-wrap:anywhere"
_TOUCH = (
    "display:inline-block;padding:12px 20px;border:2px solid #b00020;border-radius:8px;font-weight:700;"
    "text-decoration:none"
)


def as_text(lines: Sequence[TextLine]) -> str:
    return _sound("\n".join(line.text for line in lines)) + "\n"


def as_html(lines: Sequence[TextLine], title: str) -> str:
    """The same lines for a telephone's screen. Every line stands in an element of its own."""
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f'<title>{escape(title)}</title></head>\n<body style="{escape(_BODY)}">',
    ]
    quoting = False
    for line in lines:
        if (line.look is TextStyle.THEIRS) is not quoting:
            quoting = not quoting
            parts.append(f'<div style="{_QUOTE}">' if quoting else "</div>")
        parts.append(_element(line))
    return _sound("\n".join([*parts, *(["</div>"] if quoting else []), "</body></html>"])) + "\n"


def _element(line: TextLine) -> str:
    if line.look is TextStyle.THEIRS:
        return f"<div>{escape(line.text)}</div>"
    return f'<p style="{_STYLES[line.look]}">{_with_links(line)}</p>'


def _with_links(line: TextLine) -> str:
    """The escaped text with its links as anchors, in the order they stand in the line."""
    done, rest = "", line.text
    style = f' style="{_TOUCH}"' if line.look is TextStyle.BUTTON else ""
    for link in line.links:
        before, found, after = rest.partition(link.shown)
        if found and re.match(r"https?://|tel:", link.target):
            done += f'{escape(before)}<a href="{escape(link.target)}"{style}>{escape(link.label or link.shown)}</a>'
            rest = after
    return done + escape(rest)


def _sound(text: str) -> str:
    """Encodable, whatever it was made of."""
    return text.encode("utf-8", "replace").decode("utf-8")


# -- the envelope ----------------------------------------------------------------------------------


class _Ids(BaseHeader):
    """A field of message ids, octet for octet as given: folded between them and nowhere else, and nothing decoded."""

    max_count: ClassVar[Literal[1] | None] = 1

    @staticmethod
    def parse(value: str, kwds: dict[str, Any]) -> None:
        if not (value.isascii() and value.isprintable()):
            raise ValueError("not a field of message ids")
        kwds["parse_tree"], kwds["decoded"] = None, value

    def fold(self, *, policy: Policy[Any]) -> str:
        end = policy.linesep
        return f"{self.name}: {f'{end} '.join(str(self).split())}{end}"


def _policy() -> EmailPolicy[EmailMessage]:
    registry = HeaderRegistry()
    for name in ("message-id", "in-reply-to", "references"):
        registry.map_to_type(name, _Ids)
    return SMTP.clone(header_factory=registry)


_POLICY = _policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Everything around the lines of a letter."""

    sender: str  #: address
    sender_name: str = "Panic"
    to: str  #: address
    to_name: str = ""
    reply_to: str = ""
    mail_from: str = ""
    subject: str
    message_id: str
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()
    date: datetime
    automatic: str  #: the word of Auto-Submitted
    hops: int = 1  #: how many panicmails the matter has come through, this one included
    silences_robots: bool  #: ask for no automatic answer; never of a page: an out-of-office is news


def sealed(envelope: Envelope, lines: Sequence[TextLine]) -> ComposedMail:
    """The letter. Raises ValueError when a header field cannot be written."""
    policy = _POLICY if all(a.isascii() for a in _addresses(envelope)) else _POLICY.clone(utf8=True)  # RFC 6532
    message = EmailMessage(policy=policy)
    message["From"] = _mailbox(envelope.sender_name, envelope.sender)
    message["To"] = _mailbox(envelope.to_name, envelope.to)
    if envelope.reply_to:
        message["Reply-To"] = _mailbox("", envelope.reply_to)
    message["Subject"] = _sound(envelope.subject)
    message["Date"] = envelope.date
    message["Message-ID"] = envelope.message_id
    if envelope.in_reply_to:
        message["In-Reply-To"] = envelope.in_reply_to
    if envelope.references:
        message["References"] = " ".join(dict.fromkeys(envelope.references))
    message["Auto-Submitted"] = envelope.automatic
    message["X-Panicmail"] = str(envelope.hops)
    if envelope.silences_robots:
        message["X-Auto-Response-Suppress"] = "All"
    _fill(message, as_text(lines), as_html(lines, envelope.subject))
    return ComposedMail(message=message.as_bytes(), mail_from=envelope.mail_from, recipient=envelope.to)


def _addresses(envelope: Envelope) -> tuple[str, ...]:
    return envelope.sender, envelope.to, envelope.reply_to


def _mailbox(name: str, address: str) -> Address:
    """An address with its name; a local part that is no atom is quoted by the library."""
    local, _, domain = address.rpartition("@")
    return Address(" ".join(_sound(name).split()), local, domain)


def _fill(message: EmailMessage, text: str, html: str) -> None:
    message.set_content(text, cte=_encoding(text))
    message.add_alternative(html, subtype="html", cte=_encoding(html))
    # A sender cannot have put it into the mail: it is a digest of what that mail became part of.
    message.set_boundary("=_" + hashlib.sha256((text + html).encode()).hexdigest()[:32])


def _encoding(text: str) -> str:
    short = max(map(len, text.split("\n"))) <= 78  # RFC 5322 2.1.1
    return "7bit" if text.isascii() and short else "quoted-printable"
