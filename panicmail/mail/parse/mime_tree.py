"""A mail as a tree of parts: the standard library's parser, kept from what it is slow at.

The library reads a parameter list in quadratic time, tries the boundary of every open multipart on every line, and
writes a message out again by folding it anew. So limits are looked at while it reads, not after: the number of parts,
their depth, their fields, the lines it has to try. A part knows the octets it came from, so that an attached message
can be given as it stood.
"""

from __future__ import annotations

from email.feedparser import BytesFeedParser
from email.message import Message
from typing import TYPE_CHECKING, Any

#: Limits beyond which a mail is not parsed; a normal mail has a hundredth of each.
PARTS, DEPTH, FIELDS = 200, 30, 1000
#: What one line costs, and each multipart around it (in units of about 0.1 µs), and what a mail may cost.
_LINE, _AROUND, _MOST = 5, 1, 10_000_000
#: Content-Type and Content-Disposition are cut at so many octets and so many semicolons: the library works through the
#: rest of the field at each of them, and does it again for every parameter it is asked for.
PARAMETERS, _SEMICOLONS = 4096, 100
_PIECE = 64 * 1024
_WITH_PARAMETERS = ("content-type", "content-disposition")
#: A longer boundary is none: RFC 2046 5.1.1 allows 70 octets, and the library makes a pattern of it.
_BOUNDARY = 250

if TYPE_CHECKING:
    _Message = Message[str, str]
else:
    _Message = Message
_Library: Any = BytesFeedParser


class TooMuch(Exception):  # noqa: N818 - not an error: a decision
    """The mail is beyond our limits."""


class Part(_Message):
    """A part of a mail. `begins` and `ends` are its place in the octets, `cut` names its fields too long to read."""

    begins = ends = 0
    cut: tuple[str, ...] = ()
    _headers: list[tuple[str, str]]

    def set_raw(self, name: str, value: str) -> None:
        """Take a field as the parser found it, bounded."""
        if len(self._headers) >= FIELDS:
            raise TooMuch("the header of a part is too large")
        if name.lower() in _WITH_PARAMETERS and (kept := _bounded(value)) != value:
            self.cut = (*self.cut, name.lower())
            value = kept
        super().set_raw(name, value)

    def get_boundary(self, failobj: Any = None) -> Any:
        boundary = super().get_boundary(failobj)
        return boundary if boundary is None or len(boundary) <= _BOUNDARY else failobj


def _bounded(value: str) -> str:
    """A field with parameters, without those beyond what we read."""
    kept = value[:PARAMETERS]
    if kept.count(";") > _SEMICOLONS:
        kept = ";".join(kept.split(";", _SEMICOLONS)[:-1]) + ";"
    if len(kept) == len(value):
        return value
    return kept.rpartition(";")[0] or "application/octet-stream"


class _Reader(_Library):  # type: ignore[misc]  # the methods overridden are not in its types
    """The library's parser. It is asked where it stands when a part begins and when it ends."""

    def __init__(self) -> None:
        super().__init__(Part)
        self._at = self._parts = self._cost = 0
        self._count_octets(self._input)

    def _count_octets(self, lines: Any) -> None:
        take, give_back = lines.readline, lines.unreadline

        def readline() -> Any:
            line = take()
            if line.__class__ is str:  # else: more is needed
                self._at += len(line)
            return line

        def unreadline(line: str) -> None:
            self._at -= len(line)
            give_back(line)

        lines.readline, lines.unreadline = readline, unreadline

    def take(self, octets: bytes) -> None:
        """Feed one piece."""
        around = len(self._msgstack)
        self.feed(octets)
        self._cost += octets.count(b"\n") * (_LINE + _AROUND * max(around, len(self._msgstack)))
        if self._cost > _MOST:
            raise TooMuch("too many lines")

    def _new_message(self) -> None:
        super()._new_message()
        self._cur.begins = self._at
        self._parts += 1
        if len(self._msgstack) > DEPTH + 1:
            raise TooMuch("the parts are nested too deep")
        if self._parts > PARTS:
            raise TooMuch("too many parts")

    def _pop_message(self) -> Part:
        part: Part = super()._pop_message()
        part.ends = self._at
        return part


def tree_of(octets: bytes) -> Part:
    """The tree of parts of a mail with settled line ends.

    Raises:
        TooMuch: It is beyond our limits.
    """
    reader = _Reader()
    for at in range(0, len(octets), _PIECE):  # whole, the library makes a copy with four octets a character
        reader.take(octets[at : at + _PIECE])
    tree: Part = reader.close()
    return tree


def children(part: Part) -> list[Part]:
    if not part.is_multipart():
        return []  # and not by get_payload, which would decode a text by whatever it claims
    return [inner for inner in part.get_payload() if isinstance(inner, Part)]


def message_in(part: Part, octets: bytes) -> memoryview:
    """What a message/* part with children holds, as it stood: the line end before a boundary is the boundary's.

    Not a copy: a forwarded mail in a forwarded mail is in both.
    """
    end = part.ends
    if octets.startswith(b"--", end) and octets.endswith(b"\n", 0, end):
        end -= 2 if octets.endswith(b"\r\n", 0, end) else 1
    return memoryview(octets)[min(children(part)[0].begins, end) : end]
