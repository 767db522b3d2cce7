"""The reader that cannot fail: what a mail says, from its octets alone.

For mails that no parser gets through in time. It looks at the first 128 KiB, in linear time, with the standard
library only: subject, From, message ids, the signs of automata that show in the header, and the first 4 KB of the
body as they stand. Such a report can open an incident or add a note; it is never `lossless`, so it never
acknowledges anything.
"""

from __future__ import annotations

from panicmail.incident.classify import Report
from panicmail.incident.redact import carried
from panicmail.mail.parse import normalize
from panicmail.mail.parse.automatic import MimeStructure, origin_of, types_seen
from panicmail.mail.parse.header import line, loose_address, mailbox, message_ids
from panicmail.mail.parse.mime_tree import decode
from panicmail.mail.parse.normalize import NormalizedMail, canonical
from panicmail.mail.parse.received_field import received_from

_LOOKED_AT, _LONGEST_HEADER, _BODY = 128 * 1024, 1024 * 1024, 4096
#: How the defect begins that says so.
_UNREAD = "not parsed"


def unread(report: Report) -> str:
    """Why a mail was read by its octets alone; "" when it was taken apart."""
    return next((defect for defect in report.defects if defect.startswith(_UNREAD)), "")


def read_bytes(raw: bytes, *, mail_from: str | None = "?", why: str = "", cut_short: bool = False) -> Report:
    """Read what can be read without parsing. Never raises.

    Args:
        mail_from: As for `parser.read`.
        why: What stood in the way of the real reader, for people; "" leaves it out.
        cut_short: That was no fault of the mail's: it is to be read again.
    """
    mail = canonical(_beginning_and_end_of_header(raw))
    text = decode(_beginning(mail), None)[0].replace("\r\n", "\n").strip()
    shape = MimeStructure(types=types_seen(mail.octets[: 16 * _BODY].split(b"\n")), text=text)
    origin = origin_of(mail, shape, mail_from)
    senders = mail.all("from")
    name, address = (mailbox(senders[0]) if len(senders) == 1 else None) or ("", "")
    shown = line(mail.first("from"))[0]
    subject = line(mail.first("subject"))[0]
    return Report(
        subject=subject,
        from_address=address,
        from_name=name,
        from_shown=shown,
        reply_to=loose_address(line(mail.first("reply-to"))[0]) or None,
        message_id=next(iter(message_ids(mail.all("message-id"))), None),
        references=references(mail),
        text=text,
        kind=origin.kind,
        author=origin.author,
        why=origin.why,
        lists=origin.lists,
        defects=(f"{_UNREAD}{f': {why}' if why else ''}", *mail.defects),
        lossless=False,
        cut_short=why if cut_short else "",
        hops=normalize.hops(mail.first(normalize.HOPS)),
        carried=tuple(carried(f"{subject}\n{text}"))[:40],
        received_from=received_from(mail.first("received")),
    )


def _beginning_and_end_of_header(raw: bytes) -> bytes:
    """So much of the octets as is looked at; of a longer header its two ends, for what people write is at the lower."""
    ends = [at for end in (b"\n\n", b"\r\n\r\n") if (at := raw.find(end, 0, _LONGEST_HEADER)) >= 0]
    end = min(ends, default=0)
    if end < _LOOKED_AT:
        return raw[:_LOOKED_AT]
    first = raw.rfind(b"\n", 0, _LOOKED_AT // 2) + 1
    second = raw.find(b"\n", end - _LOOKED_AT // 2, end) + 1
    return raw[:first] + raw[second : end + 2 * _BODY]


def _beginning(mail: NormalizedMail) -> bytes:
    """The first 4 KB of the body, not ending within a character of UTF-8."""
    rest = mail.octets[mail.body_at : mail.body_at + _BODY + 4]
    for end in range(_BODY, _BODY - 4, -1):
        if len(rest) <= end or rest[end] & 0xC0 != 0x80:  # what follows begins a character
            return rest[:end]
    return rest[:_BODY]


def references(mail: NormalizedMail) -> tuple[str, ...]:
    """The mails this one names as its forerunners, oldest first."""
    return message_ids([*mail.all("references"), *mail.all("in-reply-to")])
