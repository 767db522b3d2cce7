"""The one copy of a mail's octets that every reader is given.

Two readers that split the same octets into lines differently see two different mails, and between them a sender can
hide a From field. So line ends are settled once, here: LF, with up to three CRs before it, becomes CRLF (LF in a mail
without any CRLF); a CR anywhere else and NUL become a space. Only a mail without a single LF (old Macintosh) has
its CRs taken as line ends. A mail with nothing to settle is not copied.

`fields` is the header as we read it ourselves: more lenient than any library (a line without a colon does not end
it, a space before the colon is taken), because it is used to *find* signs of trouble, such as a second From field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Limits beyond which a mail is not parsed but read at byte level (reliability: hostile input).
HEADER_OCTETS, HEADER_FIELDS = 256 * 1024, 1000
#: So many CRs before a LF are one line end, as broken gateways write it.
_CR_RUN = 3

#: Defects that say nothing about the sender as long as the header's octets are as they came.
_ONLY_BODY = frozenset({"bare CR", "mixed line ends", "NUL octets"})

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_MBOX = re.compile(rb"\A>?From [^\n]*\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizedMail:
    """A mail with settled line ends."""

    octets: bytes
    body_at: int  #: where the body begins in `octets`
    fields: dict[str, list[bytes]]  #: name in lower case -> unfolded values, in the order of the mail
    defects: tuple[str, ...]
    doubtful: bool  #: the header was settled too: two readers could find two senders in it
    excessive: bool  #: the header is beyond our limits

    def all(self, name: str) -> list[bytes]:
        """The values of every field of that name (lower case), in the order of the mail."""
        return self.fields.get(name, [])

    def first(self, name: str) -> bytes:
        """The value of the first such field; b"" without one."""
        return next(iter(self.all(name)), b"")


def canonical(raw: bytes) -> NormalizedMail:
    """Settle the line ends of `raw` and find its header fields. Never raises; linear."""
    defects: list[str] = []
    octets = _settled(raw, defects)
    if octets.startswith((b"\n", b"\r\n", b"From ", b">From ")):
        octets = _MBOX.sub(b"", octets.lstrip(b"\r\n"), count=1)
    end = _header_end(octets)
    fields = _fields(octets[: min(end, 4 * HEADER_OCTETS)].replace(b"\r\n", b"\n"), defects)
    return NormalizedMail(
        octets=octets,
        body_at=end,
        fields=fields,
        defects=tuple(defects),
        doubtful=bool(set(defects) - _ONLY_BODY) or not _is_uniform(raw),
        excessive=end > HEADER_OCTETS or sum(map(len, fields.values())) > HEADER_FIELDS,
    )


def _is_uniform(raw: bytes) -> bool:
    """Whether every reader finds the same lines in the header: all end in CRLF or all in LF, and nothing is odd."""
    head = raw.lstrip(b"\r\n")
    head = head[: _header_end(head)]
    crlf, lf, cr = head.count(b"\r\n"), head.count(b"\n"), head.count(b"\r")
    return b"\0" not in head and cr == crlf and crlf in (0, lf)


def _settled(octets: bytes, defects: list[str]) -> bytes:
    if b"\0" in octets:
        defects.append("NUL octets")
        octets = octets.replace(b"\0", b" ")
    crlf, lf, cr = octets.count(b"\r\n"), octets.count(b"\n"), octets.count(b"\r")
    if cr == crlf and crlf in (0, lf):
        return octets
    if not lf:
        defects.append("only CR as line end")
        return octets.replace(b"\r", b"\n")
    if crlf != lf:
        defects.append("mixed line ends")
    for _ in range(_CR_RUN):  # not by a pattern: a run of a million CRs would take it a million times a million steps
        octets = octets.replace(b"\r\n", b"\n")
    if b"\r" in octets:
        defects.append("bare CR in the header" if b"\r" in octets[: _header_end(octets)] else "bare CR")
        octets = octets.replace(b"\r", b" ")
    return octets.replace(b"\n", b"\r\n") if crlf else octets


def _header_end(octets: bytes) -> int:
    """Where the first empty line begins; the whole length without one."""
    if octets.startswith((b"\n", b"\r\n")):
        return 0
    found = [at + len(end) // 2 for end in (b"\n\n", b"\r\n\r\n") if (at := octets.find(end)) >= 0]
    return min(found, default=len(octets))


def _fields(header: bytes, defects: list[str]) -> dict[str, list[bytes]]:
    found: list[tuple[str, list[bytes]]] = []
    stray = False
    for line in header.split(b"\n"):
        if line[:1] in (b" ", b"\t"):
            if found:
                found[-1][1].append(line)
        elif match := _FIELD.match(line):
            found.append((match[1].decode("ascii").lower(), [line[match.end() :]]))
        else:
            stray = stray or bool(line)
    if stray:
        defects.append("a header line without a field name")
    fields: dict[str, list[bytes]] = {}
    for name, lines in found:
        fields.setdefault(name, []).append(b"".join(lines).strip())
    return fields
