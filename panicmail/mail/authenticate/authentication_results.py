"""Authentication-Results (RFC 8601): what a mail server that we trust found about a sender.

Only the topmost field of a server that is named counts, and only of a mail that came by a relay of ours; who takes it
for granted must know that this server removes what senders put there (`panicmail check --mx` tries it).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

#: A field longer than this, in octets, is not read.
LONGEST = 8_192
#: The name under which Exchange Online's fields, which have none of their own, are trusted.
EXCHANGE_ONLINE = "exchange-online"
_COMMENT = re.compile(r"\(([^()]*)\)")
_RESULT = re.compile(r"\s*([a-z][a-z0-9-]{0,30})(?:/\d+)?\s*=\s*([a-z]{1,20})(.*)", re.I | re.S)
_PROPERTY = re.compile(
    r"(?<![\w.-])([a-z][a-z0-9-]{0,20}\.[a-z][a-z0-9_-]{0,30}|action|reason)\s{0,9}=\s{0,9}(\"[^\"]*\"|[^\s;\"]+)", re.I
)
_REFUSES = re.compile(r"\b(?:p|policy|dis|action)\s*[=.:]\s*(?:reject|quarantine|oreject)\b", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodResult:
    """What one method came to, such as: dkim=pass header.d=example.com."""

    method: str
    result: str
    properties: Mapping[str, str] = field(default_factory=dict)  #: by "ptype.property", lower case
    comments: str = ""

    def domain(self, *names: str) -> str:
        """The domain in the first of these properties that is there."""
        value = next((self.properties[name] for name in names if name in self.properties), "")
        return value.rpartition("@")[2].strip("<>.").lower()

    @property
    def refuses(self) -> bool:
        """Whether the policy that was found asks to refuse, or to set aside."""
        shown = " ".join([self.comments, *(f"{key}={value}" for key, value in self.properties.items())])
        return _REFUSES.search(shown) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundResults:
    """One field of a server that is trusted."""

    server: str  #: as it is called in the configuration
    results: Sequence[MethodResult]


def topmost(fields: Sequence[bytes], trusted: Collection[str]) -> FoundResults | None:
    """What the topmost field of a trusted server says; None where no such field is.

    Args:
        fields: The values of Authentication-Results, in the order of the mail.
        trusted: Names of servers; `EXCHANGE_ONLINE` for a field without a name.
    """
    names = {name.lower() for name in trusted}
    for value in fields:
        server, results = parse(value[:LONGEST].decode("utf-8", "replace"))
        name = server.lower() or EXCHANGE_ONLINE
        if name in names:
            if len(value) > LONGEST:
                return None
            return FoundResults(server=name, results=results)
    return None


def parse(value: str) -> tuple[str, list[MethodResult]]:
    """The name of the server, "" where there is none, and its results. Never raises; linear."""
    first, *rest = _pieces(value)
    plain = _COMMENT.sub(" ", first).split()
    is_name = bool(plain) and "=" not in plain[0]
    server = plain[0] if is_name else ""
    return server, list(_results(rest if is_name else [first, *rest]))


def _pieces(value: str) -> list[str]:
    """Split at semicolons that stand in no comment and no quotation."""
    pieces, depth, quoted, begin = [], 0, False, 0
    for at, char in enumerate(value):
        if char == '"' and not depth:
            quoted = not quoted
        elif char == "(" and not quoted:
            depth += 1
        elif char == ")" and not quoted:
            depth = max(0, depth - 1)
        elif char == ";" and not quoted and not depth:
            pieces.append(value[begin:at])
            begin = at + 1
    return [*pieces, value[begin:]]


def _results(pieces: Sequence[str]) -> Iterator[MethodResult]:
    for piece in pieces[:50]:
        comments, plain = " ".join(_COMMENT.findall(piece)), _COMMENT.sub(" ", piece)
        if found := _RESULT.fullmatch(plain):
            properties = {key.lower(): text.strip('"') for key, text in _PROPERTY.findall(found[3])}
            yield MethodResult(
                method=found[1].lower(), result=found[2].lower(), properties=properties, comments=comments
            )
