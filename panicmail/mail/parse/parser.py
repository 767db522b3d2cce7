"""Bytes to `Report`: what a mail says, who it says it is from, and what it carries.

`read` is total: whatever the octets, it answers a report; what it cannot parse goes to `bytes_fallback`. It may take
long or much memory on hostile input, which is why the daemon calls it through `pool.ParserPool` only.

All readers see one canonical copy of the octets. The tree of parts is `mime_tree`'s, of the standard library's
messages; mail-parser (this is the only module that knows it) reads the header: date, addresses, defects. It is not
given the parts, because it decodes each once more and shows the text of attached mails as the sender's own; and on
one hostile header in a hundred it raises, which costs its view and nothing else. `mail_parts` decides what is body,
and this module whose it is:

* The sender's own words are the text parts that are neither attached nor inside another message, plain text before
  HTML. What a forwarded mail says is in `text`, below a heading, and never in `reply_text`.
* `from_address` is set only if there is one From field to every reader, with one plain mailbox, and they agree.
* Any part not shown as body is an attachment, named or not, so nothing is lost without a trace.

`lossless` is False on every doubt. The price is that some readable mail cannot acknowledge.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import Any

import mailparser

from panicmail.incident.classify import Attachment, MailKind, Report
from panicmail.mail.parse import normalize
from panicmail.mail.parse.automatic import deliveries, origin_of
from panicmail.mail.parse.bytes_fallback import read_bytes, references
from panicmail.mail.parse.header import line, mailbox, message_ids, one_line
from panicmail.mail.parse.mail_parts import MOST_TEXT, OpenedMail, open_mail
from panicmail.mail.parse.mime_tree import (
    TooMuch,
)
from panicmail.mail.parse.normalize import NormalizedMail, canonical
from panicmail.mail.parse.received_field import received_from
from panicmail.mail.parse.reply_text import read_reply
from panicmail.mail.parse.report_json import explained

#: So many tokens of ours found in a mail are told.
_CARRIED = 40


def read(raw: bytes, *, mail_from: str | None = "?") -> Report:
    """Read one mail. Never raises, whatever the octets.

    Args:
        raw: The mail as accepted.
        mail_from: The envelope sender; "" is the null sender, None or "?" that there is no envelope to ask.
    """
    try:
        return _report(canonical(raw), mail_from)
    except TooMuch as reason:
        why, ours = str(reason), False
    except Exception as error:  # the promise of this module; a parser's bug must not cost a panic
        why, ours = type(error).__name__, isinstance(error, MemoryError)
    # Out here the exception is gone; with the library's cycles goes the memory, should that have been what failed.
    gc.collect()
    return read_bytes(raw, mail_from=mail_from, why=why, cut_short=ours)


def parts(raw: bytes) -> list[tuple[Attachment, bytes]]:
    """The attachments with their decoded contents, as `read` lists them; none of a mail it cannot parse."""
    try:
        return [(shown, bytes(data)) for shown, data in open_mail(canonical(raw)).attachments]
    except Exception:  # as in `read`: the raw mail itself is kept and shown, so nothing is lost
        return []


def explain(raw: bytes) -> dict[str, Any]:
    """What `panicmail explain --json` prints, read here and now."""
    return explained(read(raw))


def _report(mail: NormalizedMail, mail_from: str | None) -> Report:
    opened = open_mail(mail)
    header = _Header.of(mail, opened)
    opened.room.look_for_tokens(header.subject)
    text = "\n\n".join(filter(None, opened.text)).strip()
    reply = read_reply("\n\n".join(filter(None, opened.own)))
    shape = opened.structure(text, reply.text)
    origin = origin_of(mail, shape, mail_from)
    everything = "\n\n".join(filter(None, [text or "\n\n".join(opened.reports).strip(), *opened.forwarded]))
    return Report(
        subject=header.subject,
        from_address=header.address,
        from_name=header.name,
        from_shown=header.shown,
        reply_to=header.reply_to,
        date=header.date,
        message_id=next(iter(message_ids(mail.all("message-id"))), None),
        references=references(mail),
        text=everything[:MOST_TEXT],
        reply_text=reply.text,
        first_line="" if opened.is_reaction else reply.first_line,
        kind=origin.kind,
        author=origin.author,
        why=origin.why,
        lists=origin.lists,
        attachments=tuple(attachment for attachment, _ in opened.attachments),
        deliveries=deliveries(mail, shape) if origin.kind is MailKind.BOUNCE else (),
        defects=(*mail.defects, *opened.defects)[:200],
        lossless=opened.lossless and not mail.doubtful,
        hops=normalize.hops(mail.first(normalize.HOPS)),
        links=normalize.links(everything[:MOST_TEXT], opened.targets),
        phones=normalize.phones(everything[:MOST_TEXT]),
        carried=tuple(opened.room.carried)[:_CARRIED],
        received_from=received_from(mail.first("received")),
    )


# --- the header -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    subject: str
    address: str
    name: str
    shown: str
    reply_to: str | None
    date: datetime | None

    @classmethod
    def of(cls, mail: NormalizedMail, opened: OpenedMail) -> _Header:
        parsed = _ask_mail_parser(opened)
        subject, sure = line(mail.first("subject"))
        if not sure:
            opened.note("the subject could not be read without loss")
        name, address = _identity(mail, opened, parsed)
        reply_to = parsed.reply_to[0][1] if parsed is not None and parsed.reply_to else None
        return cls(
            subject=subject,
            address=address,
            name=name,
            shown=line(mail.first("from"))[0],
            reply_to=one_line(reply_to, 320).lower() if reply_to else None,
            date=parsed.date.astimezone(UTC) if parsed is not None and parsed.date else None,
        )


_ASKED = frozenset({"from", "sender", "reply-to", "to", "cc", "date", "message-id"})
#: So many octets of each; a longer one ends at a comma before.
_ASKED_FOR = 16 * 1024


def _ask_mail_parser(opened: OpenedMail) -> Any:
    """mail-parser's view of the fields we want it for, and its defects; None where it stumbles.

    It is given these alone, and of each its beginning: its reading of fields is quadratic in places, and it would
    decode every attachment once more.
    """
    bare = Message()
    for name, value in opened.tree.fields:
        if name.lower() in _ASKED:
            value = value if len(value) <= _ASKED_FOR else value[:_ASKED_FOR].rpartition(",")[0]
            bare[name] = value  # verbatim: so does the policy of a plain Message (compat32)
    bare.set_payload("")
    try:
        parsed = mailparser.MailParser(bare)
    except Exception as error:  # it raises outside its own family on odd headers (reliability 2.1)
        opened.doubt(f"mail-parser could not read the header: {type(error).__name__}")
        return None
    for defect in parsed.defects:
        for said in defect.values():
            for each in said:
                opened.defects.setdefault(one_line(str(each), 200))
    return parsed


def _identity(mail: NormalizedMail, opened: OpenedMail, parsed: Any) -> tuple[str, str]:
    """Display name and address of the sender; empty unless every reader sees the same single plain mailbox."""
    fields = mail.all("from")
    if len(fields) != 1:
        opened.defects.setdefault("no From field" if not fields else "several From fields")
        return "", ""
    found = mailbox(fields[0])
    if found is None:
        opened.defects.setdefault("From is not one plain address")
        return "", ""
    if len(opened.tree.get_all("from", [])) != 1:
        opened.doubt("From stands where other readers do not see it")
        return "", ""
    seen = {address.lower() for _, address in parsed.from_ if "@" in address} if parsed is not None else {found[1]}
    if seen != {found[1]}:
        opened.doubt("From is read differently by different readers")
        return "", ""
    return found
