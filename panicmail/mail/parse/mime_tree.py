"""A mail as a tree of parts: a reader of our own, whose cost is linear in the octets.

The standard library's parser tries the boundary of every open multipart on every line, has no limits, and does not
say where a part stood. Here a multipart is cut at its boundary from the outside in, so that a line which two
multiparts could claim is the outer one's (RFC 2046 5.1.2), and a part is a range of octets before it is anything else.
Limits are looked at while it reads, not after. What comes of it is the library's own `Message`, which knows parameters
and transfer encodings; `tests/test_mime_tree.py` compares the two and names each difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import errors
from email.message import Message
from typing import TYPE_CHECKING

#: Limits beyond which a mail is not parsed; a normal mail has a hundredth of each.
PARTS, DEPTH, FIELDS = 200, 30, 1000
#: So many lines are looked at for boundaries, a line once for every multipart around it.
_LINES = 2_000_000
#: Content-Type and Content-Disposition are cut at so many octets and so many semicolons: the library works through the
#: rest of the field at each of them, and does it again for every parameter it is asked for.
PARAMETERS, _SEMICOLONS = 4096, 100
_WITH_PARAMETERS = ("content-type", "content-disposition")
#: A longer boundary is none: RFC 2046 5.1.1 allows 70 octets.
_BOUNDARY = 250

#: How a line of a header begins.
_BEGINNING = re.compile(rb"(?P<field>[!-9;-~]++:)|(?P<nameless>:)|(?P<continuation>[ \t])|(?P<envelope>From )")
_FIELD_END = re.compile(rb"\n(?![ \t])")
_EMPTY_LINE = re.compile(rb"\n(\r?\n)")
_AFTER_BOUNDARY = re.compile(rb"(--)?[ \t]*+\r?(?:\n|\Z)")
_ODD = {
    "nameless": errors.InvalidHeaderDefect,
    "continuation": errors.FirstHeaderLineIsContinuationDefect,
    "envelope": errors.MisplacedEnvelopeHeaderDefect,
}

if TYPE_CHECKING:
    _Message = Message[str, str]
else:
    _Message = Message


class TooMuch(Exception):  # noqa: N818 - not an error: a decision
    """The mail is beyond our limits."""


class Part(_Message):
    """A part of a mail.

    `begins` and `ends` are its place in the octets, `fields` its header as it stood (the library repairs what it is
    asked for), `cut` names its fields too long to read.
    """

    def __init__(self, begins: int, ends: int) -> None:
        super().__init__()
        self.begins, self.ends = begins, ends
        self.fields: list[tuple[str, str]] = []
        self.cut: tuple[str, ...] = ()

    def add_field(self, name: str, value: str) -> None:
        """Add a field as it stood, bounded."""
        if name.lower() in _WITH_PARAMETERS and (kept := _bounded(value)) != value:
            self.cut = (*self.cut, name.lower())
            value = kept
        self.fields.append((name, value))
        self[name] = value


def _bounded(value: str) -> str:
    """A field with parameters, without those beyond what we read."""
    kept = value[:PARAMETERS]
    if kept.count(";") > _SEMICOLONS:
        kept = ";".join(kept.split(";", _SEMICOLONS)[:-1]) + ";"
    if len(kept) == len(value):
        return value
    return kept.rpartition(";")[0] or "application/octet-stream"


class _Reader:
    """Reads parts of one mail, and counts what that costs. It goes no deeper than `DEPTH`."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._parts = self._lines = 0

    def read(self, part: Part, depth: int, *, inside: bool) -> Part:
        """Read a part that has its place.

        Args:
            inside: In a multipart: the line end before a boundary is the boundary's.
        """
        self._parts += 1
        if depth > DEPTH:
            raise TooMuch("the parts are nested too deep")
        if self._parts > PARTS:
            raise TooMuch("too many parts")
        body = self._read_header(part)
        kind = part.get_content_type()
        if kind == "message/delivery-status":
            self._read_blocks(part, body, depth, inside=inside)
        elif kind.startswith("message/"):
            part.attach(self.read(Part(body, part.ends), depth + 1, inside=inside))
        elif not (kind.startswith("multipart/") and self._read_parts(part, body, depth)):
            end = self._before_line_end(body, part.ends) if inside else part.ends
            part.set_payload(_text(self._octets[body:end]))
        return part

    def _before_line_end(self, begin: int, end: int) -> int:
        for line_end in (b"\r\n", b"\n"):
            if self._octets.endswith(line_end, begin, end):
                return end - len(line_end)
        return end

    def _read_header(self, part: Part) -> int:
        """Take the fields of a part; answers where its body begins."""
        octets, at, end = self._octets, part.begins, part.ends
        for _ in range(FIELDS + 1):
            beginning = _BEGINNING.match(octets, at, end)
            if beginning is None:
                return self._after_empty_line(part, at)
            kind = beginning.lastgroup or ""
            if kind in ("field", "continuation"):
                found = _FIELD_END.search(octets, beginning.end(), end)
                next_at = found.end() if found else end
            else:
                next_at = self._next_line(at, end)
            if kind == "field":
                value = _text(octets[beginning.end() : next_at])
                part.add_field(_text(octets[at : beginning.end() - 1]), value.lstrip(" \t").rstrip("\r\n"))
            elif kind == "envelope" and at > part.begins and not _BEGINNING.match(octets, next_at, end):
                return self._after_empty_line(part, at)  # rather somebody's first words
            elif kind != "envelope" or at > part.begins:
                part.defects.append(_ODD[kind]())
            at = next_at
        raise TooMuch("the header of a part is too large")

    def _after_empty_line(self, part: Part, at: int) -> int:
        """Where the body begins, when the header ends here."""
        if at < part.ends and not self._octets.startswith((b"\n", b"\r\n"), at, part.ends):
            part.defects.append(errors.MissingHeaderBodySeparatorDefect())
            return at
        return self._next_line(at, part.ends)

    def _next_line(self, at: int, end: int) -> int:
        return self._octets.find(b"\n", at, end) + 1 or end

    def _read_blocks(self, part: Part, at: int, depth: int, *, inside: bool) -> None:
        """The groups of fields of a delivery report, an empty line after each (RFC 3464 2.1)."""
        last = False
        while not last:
            empty = _EMPTY_LINE.search(self._octets, at - 1, part.ends)
            end, next_at = (empty.start(1), empty.end()) if empty else (part.ends, part.ends)
            last = next_at == part.ends
            part.attach(self.read(Part(at, end), depth + 1, inside=inside and last))
            at = next_at

    def _read_parts(self, part: Part, body: int, depth: int) -> bool:
        """The parts of a multipart (RFC 2046 5.1.1). False: there are none, and the body is to be kept as it is."""
        boundary = part.get_boundary()
        if boundary is None or len(boundary) > _BOUNDARY:
            part.defects.append(errors.NoBoundaryInMultipartDefect())
            return False
        if str(part.get("content-transfer-encoding", "8bit")).lower() not in ("7bit", "8bit", "binary"):
            part.defects.append(errors.InvalidMultipartContentTransferEncodingDefect())
        self._lines += self._octets.count(b"\n", body, part.ends)
        if self._lines > _LINES:
            raise TooMuch("too many lines")
        begin, closed = -1, False
        for line_begin, line_end, closed in self._boundary_lines(boundary, body, part.ends):
            if 0 <= begin < line_begin:  # several boundaries on end have nothing between them
                self._read_inner(part, begin, line_begin, depth)
            begin = line_end
            if closed:
                break
        if begin >= 0 and not closed:
            part.defects.append(errors.CloseBoundaryNotFoundDefect())
            self._read_inner(part, begin, part.ends, depth)
        if not part.is_multipart():
            part.defects.append(errors.StartBoundaryNotFoundDefect())
        return part.is_multipart()

    def _read_inner(self, part: Part, begin: int, end: int, depth: int) -> None:
        inner = Part(begin, end)
        if part.get_content_type() == "multipart/digest":
            inner.set_default_type("message/rfc822")
        part.attach(self.read(inner, depth + 1, inside=True))

    def _boundary_lines(self, boundary: str, at: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Begin and end of each line that is this boundary, and whether it is the one after the last part."""
        sought = b"\n--" + boundary.encode("utf-8", "surrogatepass")
        if "\n" in boundary:  # folded inside its quotes: no line is that
            return
        while (found := self._octets.find(sought, at - 1, end)) >= 0:
            at = found + len(sought)
            if rest := _AFTER_BOUNDARY.match(self._octets, at, end):
                at = rest.end()
                yield found + 1, at, rest[1] is not None


def _text(octets: bytes) -> str:
    """As the library keeps octets: what is not ASCII as lone surrogates."""
    return octets.decode("ascii", "surrogateescape")


def tree_of(octets: bytes) -> Part:
    """The tree of parts of a mail with settled line ends.

    Raises:
        TooMuch: It is beyond our limits.
    """
    tree = _Reader(octets).read(Part(0, len(octets)), 0, inside=False)
    if tree.get_content_maintype() == "multipart" and not tree.is_multipart():
        tree.defects.append(errors.MultipartInvariantViolationDefect())
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
