"""Who handed a mail to the server that wrote its topmost Received (RFC 5321 section 4.4)."""

from __future__ import annotations

import ipaddress
import re

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
