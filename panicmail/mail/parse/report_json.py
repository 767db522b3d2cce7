"""A `Report` as JSON and back, between the reading child and the daemon, and in the store.

The child has handled hostile octets and is not trusted: `from_json` takes nothing but the shape it expects and caps
every size, so that whatever a subverted child sends becomes a report of bounded size or a `ValueError`.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from panicmail.incident.classify import Attachment, Author, MailKind, RecipientStatus, Report, severity_named
from panicmail.mail.parse.header import loose_address

#: What stands before each frame between daemon and child, two lengths: of the JSON, of the octets that follow.
HEAD = struct.Struct(">II")
#: Caps, in characters and in entries.
TEXT, REPLY_TEXT, LINE, ENTRIES = 1024 * 1024, 64 * 1024, 4096, 200

_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXTS = ("subject", "from_address", "from_name", "from_shown", "received_from")
_OPTIONAL = ("reply_to", "message_id", "first_line")
_TUPLES = ("references", "why", "lists", "defects", "links", "phones", "carried")


def to_json(report: Report) -> str:
    """One line of JSON, valid Unicode, within the caps."""
    document: dict[str, Any] = {name: _text(getattr(report, name), LINE) for name in _TEXTS}
    document |= {name: _optional(getattr(report, name)) for name in _OPTIONAL}
    document |= {name: [_text(each, LINE) for each in getattr(report, name)[:ENTRIES]] for name in _TUPLES}
    document |= {
        "text": _text(report.text, TEXT),
        "reply_text": _text(report.reply_text, REPLY_TEXT),
        "date": report.date.isoformat() if report.date else None,
        "kind": report.kind.value,
        "author": report.author.value,
        "lossless": report.lossless,
        "cut_short": _text(report.cut_short, LINE),
        "hops": report.hops,
        "attachments": attachments_to_json(report.attachments),
        "deliveries": [
            {"recipient": _text(each.recipient, LINE), "action": each.action, "status": each.status}
            for each in report.deliveries[:ENTRIES]
        ],
    }
    return json.dumps(document)


def from_json(text: str | bytes) -> Report:
    """The report `to_json` wrote, in this version or one before.

    Raises:
        ValueError: It is not such a document, or something in it is not of the expected type.
    """
    found = _Fields(loaded(text))
    date = found.optional("date")
    return Report(
        subject=found.text("subject", LINE),
        from_address=found.text("from_address", LINE),
        from_name=found.text("from_name", LINE),
        from_shown=found.text("from_shown", LINE),
        reply_to=found.optional("reply_to"),
        date=_instant(date) if date is not None else None,
        message_id=found.optional("message_id"),
        references=found.texts("references"),
        text=found.text("text", TEXT),
        reply_text=found.text("reply_text", REPLY_TEXT),
        first_line=found.optional("first_line") if "first_line" in found else None,  # as for `carried`
        kind=MailKind(found.text("kind", LINE)),
        author=Author(found.text("author", LINE)) if "author" in found else Author.PERSON,  # as for `carried`
        why=found.texts("why"),
        lists=found.texts("lists") if "lists" in found else (),
        attachments=tuple(_attachment(each) for each in found.entries("attachments")),
        deliveries=tuple(_delivery(each) for each in found.entries("deliveries")),
        defects=found.texts("defects"),
        lossless=found.flag("lossless"),
        cut_short=found.text("cut_short", LINE) if found.has("cut_short") else "",
        hops=found.size("hops"),
        links=found.texts("links"),
        phones=found.texts("phones"),
        carried=found.texts("carried") if "carried" in found else (),  # not in what older versions stored
        received_from=found.text("received_from", LINE) if "received_from" in found else "",
    )


def explained(report: Report) -> dict[str, Any]:
    """The document `panicmail explain --json` prints (contract part 1)."""
    return {
        "subject": report.subject,
        "from": report.from_address or loose_address(report.from_shown),
        "reply_to": report.reply_to,
        "date": report.date.isoformat() if report.date else None,
        "message_id": report.message_id,
        "text": report.text,
        "reply_text": report.reply_text,
        "kind": report.kind.value,
        "why": list(report.why),
        "attachments": attachments_to_json(report.attachments),
        "defects": list(report.defects),
        "severity": severity_named(report),
        "links": list(report.links),
        "phones": list(report.phones),
        "authentication": {},
    }


def attachments_to_json(attachments: Iterable[Attachment]) -> list[dict[str, Any]]:
    """Attachments as JSON objects, at most `ENTRIES`."""
    return [
        {"name": _text(each.name, LINE), "type": _text(each.type, LINE), "size": each.size, "sha256": each.sha256}
        for each in tuple(attachments)[:ENTRIES]
    ]


def loaded(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is not JSON, or nested deeper than anything we write.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def attachments_from_json(text: str | bytes) -> tuple[Attachment, ...]:
    """The attachments a child lists in answer to `parts`.

    Raises:
        ValueError: Something is not of the expected type.
    """
    return tuple(_attachment(each) for each in _Fields(loaded(text)).entries("attachments"))


def _text(text: str, limit: int) -> str:
    return _SURROGATE.sub("\ufffd", text[:limit])


def _optional(text: str | None) -> str | None:
    return None if text is None else _text(text, LINE)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("a date without an offset")
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a date out of range") from error


def _entries(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value[:ENTRIES]


class _Fields:
    """A JSON object, read strictly."""

    def __init__(self, document: Any) -> None:
        if not isinstance(document, dict):
            raise ValueError("not an object")
        self._document = document

    def __contains__(self, name: str) -> bool:
        return name in self._document

    def _get(self, name: str) -> Any:
        if name not in self._document:
            raise ValueError(f"{name} is missing")
        return self._document[name]

    def has(self, name: str) -> bool:
        """False of a field that was not written yet when the document was."""
        return name in self._document

    def text(self, name: str, limit: int) -> str:
        value = self._get(name)
        if not isinstance(value, str):
            raise ValueError(f"{name} is not a text")
        return _text(value, limit)

    def optional(self, name: str) -> str | None:
        return None if self._get(name) is None else self.text(name, LINE)

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise ValueError(f"{name} is not true or false")
        return value

    def size(self, name: str) -> int:
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 40:
            raise ValueError(f"{name} is not a size")
        return value

    def entries(self, name: str) -> list[Any]:
        return _entries(self._get(name))

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.entries(name)
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{name} holds something other than texts")
        return tuple(_text(value, LINE) for value in values)


def _attachment(entry: Any) -> Attachment:
    found = _Fields(entry)
    sha256 = found.text("sha256", 64)
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError("sha256 is not one")
    name, kind = found.text("name", LINE), found.text("type", LINE)
    return Attachment(name=name, type=kind, size=found.size("size"), sha256=sha256)


def _delivery(entry: Any) -> RecipientStatus:
    found = _Fields(entry)
    return RecipientStatus(
        recipient=found.text("recipient", LINE), action=found.text("action", 40), status=found.text("status", 40)
    )
