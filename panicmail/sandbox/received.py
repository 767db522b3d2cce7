"""A message as the relay got it, and what a stricter relay would have said to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property

_MAX_LINE = 998  # RFC 5321 4.5.3.1.6, without CRLF


@dataclass(frozen=True, kw_only=True)
class Received:
    """One message as it came."""

    received_at: float  #: by time.monotonic(), at the final dot
    at: datetime = field(default_factory=lambda: datetime.now(UTC))  #: the same instant, for people
    mail_from: str  #: "" for the null sender
    recipients: tuple[str, ...]
    raw: bytes  #: after dot-unstuffing
    options: tuple[str, ...] = ()  #: parameters of MAIL, upper case, such as "SIZE=1234"
    login: str = ""  #: who authenticated, "" for nobody
    is_tls: bool = False
    faults: tuple[str, ...] = ()  #: what a stricter relay would have refused

    @cached_property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=policy.default)

    @property
    def subject(self) -> str:
        return self.header("Subject")

    @property
    def text(self) -> str:
        """The plain text, with "\\n" for line ends; "" without one."""
        return self._body("plain")

    @property
    def html(self) -> str:
        return self._body("html")

    def header(self, name: str) -> str:
        """The first field of that name, decoded and unfolded; "" without one."""
        return str(self.message.get(name, ""))

    def to(self, address: str) -> bool:
        """Whether it was sent to this address, whatever its headers say."""
        return address.lower() in (recipient.lower() for recipient in self.recipients)

    def _body(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        if part is None:
            return ""
        try:
            text = str(part.get_content())
        except LookupError:  # a charset nobody knows
            text = bytes(part.get_payload(decode=True)).decode("utf-8", "replace")
        return text.replace("\r\n", "\n")


def faults_of(raw: bytes) -> tuple[str, ...]:
    """What a lenient relay lets pass and the next one does not."""
    found = {
        "bare LF": re.search(rb"(?<!\r)\n", raw),
        "bare CR": re.search(rb"\r(?!\n)", raw),
        "NUL": b"\0" in raw,
        f"line over {_MAX_LINE} octets": any(len(line) > _MAX_LINE for line in raw.split(b"\r\n")),
    }
    return tuple(name for name, is_so in found.items() if is_so)
