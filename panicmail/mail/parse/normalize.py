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
from collections.abc import Iterable
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


# -- Links and telephone numbers in a text: where it leads, and how to call the person who wrote it.
#
# Phones are found conservatively: written internationally, or with a trunk 0 or brackets and separators, or as
# North American numbers are. Dates, times, addresses of hosts and bare runs of digits are not phones. Linear,
# total.

_MOST = 200
_LINK = re.compile(
    r"\b(?:(?:https?|hxxps?|ftps?|sftp|ssh|rdp|smb|file|ldaps?|data|javascript|magnet"
    r"|ms-[a-z]{2,20}):/?/?[^\s<>\"“”„»«]{3,2000}"
    r"|www\.[^\s<>\"“”„»«@]{3,2000})",
    re.I,
)
_PHONE = re.compile(r"(?<![\w/.,:@=%+-])(?:\+|\(\+?)?\d[\d\s().\u2010-\u2013\u00a0/-]{5,24}\d(?![\w/@=%]|[.:,-]\d)")
_NORTH_AMERICAN = re.compile(r"(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}")
_DATE = re.compile(
    r"\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}(?:\D.*)?|\d{1,2}[-./ ]\d{1,2}[-./ ]\d{4}(?:\D.*)?|\d{1,3}(?:\.\d{1,3}){3}"
)
_OPENS = {")": "(", "]": "[", "}": "{"}


#: The header of ours that counts panicmails, in lower case.
HOPS = "x-panicmail"


def hops(field: bytes) -> int:
    """How many panicmails a mail came through, by its X-Panicmail; 0 for anything that is no small number."""
    return int(field) if re.fullmatch(rb"[0-9]{1,2}", field.strip()) else 0


def links(text: str, targets: Iterable[str] = ()) -> tuple[str, ...]:
    """Every link once: those written in `text`, then `targets`, which stand behind the text of HTML links."""
    found: dict[str, None] = {}
    for match in _LINK.finditer(text):
        found.setdefault(_trimmed(match[0]))
        if len(found) >= _MOST:
            break
    for target in targets:
        found.setdefault("".join(target.split())[:2000])
    return tuple(found)[:_MOST]


def defanged(link: str) -> str:
    """A link as people can read it and nobody can click on it."""
    return link[:200].replace("http", "hxxp", 1).replace(".", "[.]").replace("@", "[at]")


def leads_elsewhere(shown: str, target: str) -> bool:
    """Whether the text of a link names one host, and the link leads to another."""
    named, reached = _HOST.match(shown.strip()), _HOST.match(target.strip())
    if named is None or reached is None or " " in shown.strip():
        return False
    one, other = (found[1].lower().removeprefix("www.").rstrip(".") for found in (named, reached))
    return one != other and not other.endswith(f".{one}")


#: The host of what is written as a link or as the name of a host.
_HOST = re.compile(
    r"(?:https?://)?(?:[^\s/@?#]{1,200}@)?((?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}|\d{1,3}(?:\.\d{1,3}){3})"
    r"(?::\d{1,5})?(?:[/?#]|$)",
    re.I,
)


def _trimmed(link: str) -> str:
    link = link.rstrip(".,;:!?'’*_|\\…")
    spare = {closing: link.count(closing) - link.count(opening) for closing, opening in _OPENS.items()}
    end = len(link)
    while end and (spare.get(link[end - 1], 0) > 0 or (end < len(link) and link[end - 1] in ".,;:!?'’")):
        if link[end - 1] in spare:
            spare[link[end - 1]] -= 1
        end -= 1
    return link[:end]


def phones(text: str) -> tuple[str, ...]:
    """The telephone numbers in `text` as they are written, each once."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        for match in _PHONE.finditer(line[:10_000]):
            number = " ".join(match[0].split()).strip(" -./")
            if _callable(number):
                found.setdefault(number)
        if len(found) >= _MOST:
            break
    return tuple(found)[:_MOST]


def _callable(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    if not 7 <= len(digits) <= 15 or _DATE.fullmatch(number):
        return False
    if number.startswith(("+", "(+")):
        return True
    if _NORTH_AMERICAN.fullmatch(number):
        return True
    separated = bool(re.search(r"[\s()./\u2010-\u2013-]", number.strip("()")))
    return separated and number.startswith(("0", "(0"))
