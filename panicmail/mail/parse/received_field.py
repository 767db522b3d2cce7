"""The Received field (RFC 5321 section 4.4): our own, and whom the topmost of a mail names.

What is kept of a mail is what its sender wrote, octet for octet, and beside it what we saw: so ours stands on no mail
that is read here, and misleads neither storms nor the look at who signed it. It is written where a mail leaves the
house.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime
from email.utils import format_datetime
from typing import Protocol

#: So much of the field is looked at, in octets.
_LOOKED_AT = 2000
#: The clause `from`, up to the next one; what is in parentheses has words of its own.
_FROM = re.compile(r"(?is)\A\s*from\s+((?:\([^()]*\)|[^()])*?)(?=\s(?:by|with|via|id|for)\s|;|\Z)")
#: What Exim repeats of the client's own words.
_HELO = re.compile(r"(?i)\b(?:helo|ehlo)[= ]\S+")


def received_from(field: bytes) -> str:
    """The address of the peer, as text; "" when the field names none.

    It is the one in parentheses, which the server saw, before that of the greeting, which the client said.
    """
    clause = _FROM.match(field[:_LOOKED_AT].decode("ascii", "replace"))
    if clause is None:
        return ""
    seen = " ".join(re.findall(r"\(([^()]*)\)", clause[1]))
    said = re.sub(r"\([^()]*\)", " ", clause[1])
    for text in (_HELO.sub(" ", seen), said):
        for word in reversed(re.split(r"[\s\[\]()<>,;@]+", text)):
            if found := _address(word):
                return found
    return ""


def _address(word: str) -> str:
    text = word.lower().removeprefix("ipv6:")
    if not {".", ":"} & set(text):  # a number alone would be one too
        return ""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


#: What a client may call itself, as we repeat it.
_IN_NAMES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:_-")


class SeenMail(Protocol):
    """What we saw of how a mail came."""

    @property
    def id(self) -> str: ...
    @property
    def peer(self) -> str:
        """An address; "" when it is not known."""

    @property
    def helo(self) -> str: ...
    @property
    def tls(self) -> str:
        """Version and cipher; "" in the clear."""

    @property
    def accepted_at(self) -> datetime: ...


def own_received(mail: SeenMail, hostname: str) -> bytes:
    """Our own field, with CRLF. It names no recipient: that may be an address with a token."""
    said = _named(mail.helo[:255]) or "unknown"
    literal = f"IPv6:{mail.peer}" if ":" in mail.peer else mail.peer or "unknown"
    version, _, cipher = mail.tls.partition(" ")
    secured = f"\r\n\t(using {_named(version)} with cipher {_named(cipher)})" if mail.tls else ""
    made = f"Received: from {said} ([{literal}]){secured}\r\n\tby {hostname} (panicmail) id {mail.id};"
    return f"{made}\r\n\t{format_datetime(mail.accepted_at)}\r\n".encode("ascii", "replace")


def _named(text: str) -> str:
    return "".join(letter if letter in _IN_NAMES else "-" for letter in text)
