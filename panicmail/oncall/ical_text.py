"""iCalendar text as lines within components (RFC 5545 3.1), read with patience.

What a strict reader refuses is one line or one entry here: a character cut in two by a fold, a parameter that should
be quoted, an entry without its end. Nothing is decided about what a line means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

#: Never within one another: one that begins there says that the one before has no end.
_ENTRIES = ("VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY", "VTIMEZONE")
#: Properties whose value holds no colon, so that an unquoted one before it belongs to a parameter.
_WITHOUT_COLON = ("DTSTART", "DTEND", "RECURRENCE-ID", "EXDATE", "RDATE")
_PEOPLE = ("ATTENDEE", "ORGANIZER")


@dataclass(slots=True)
class IcalComponent:
    """What stands between a BEGIN and its END."""

    name: str
    lines: list[str] = field(default_factory=list)  #: its own, unfolded
    within: list[IcalComponent] = field(default_factory=list)
    is_whole: bool = True  #: its own END is there

    def text(self) -> str:
        """As it is written, with what is within."""
        inner = "".join(each.text() for each in self.within)
        return "\r\n".join([f"BEGIN:{self.name}", *self.lines, f"{inner}END:{self.name}", ""])

    def properties(self) -> Iterator[IcalProperty]:
        return (found for line in self.lines if (found := _property(line)) is not None)


@dataclass(frozen=True, slots=True)
class IcalProperty:
    """One line of a component."""

    name: str  #: in upper case
    params: Mapping[str, str]  #: names in upper case, values without quotes
    value: str  #: as it is written


def decoded(octets: bytes) -> str:
    """The text of octets, unfolded first: a fold may stand within a character (RFC 5545 3.1).

    A line that is not UTF-8 is taken for Windows-1252: a calendar is not refused for somebody's umlaut.
    """
    if b"\n" not in octets:
        octets = octets.replace(b"\r", b"\n")
    octets = octets.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\n ", b"").replace(b"\n\t", b"")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return "\n".join(map(_line, octets.split(b"\n")))


def _line(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")


def components(text: str) -> IcalComponent:
    """The VCALENDAR a text holds.

    Raises:
        ValueError: It holds none, or not all of it; the text says why.
    """
    root: IcalComponent | None = None
    open_: list[IcalComponent] = []
    for line in text.split("\n"):
        stripped = line.strip()
        keyword, _, name = stripped.upper().partition(":")
        if keyword == "BEGIN":
            if root is not None and not open_:
                raise ValueError("more than one calendar")
            if root is None and name != "VCALENDAR":
                raise ValueError(f"it begins with {stripped[:40]!r}")
            _begin(open_, name.strip())
            root = root or open_[0]
        elif keyword == "END":
            _end(open_, name.strip())
        elif open_:
            open_[-1].lines.append(line.rstrip("\r"))
        elif root is None and stripped:
            raise ValueError(f"it begins with {stripped[:40]!r}")
    if root is None:
        raise ValueError("it is empty")
    if open_:
        raise ValueError("it is cut off: its END:VCALENDAR is missing")
    return root


def _begin(open_: list[IcalComponent], name: str) -> None:
    if name in _ENTRIES and any(each.name in _ENTRIES for each in open_):
        while open_[-1].name != "VCALENDAR":
            open_.pop().is_whole = False
    began = IcalComponent(name)
    if open_:
        open_[-1].within.append(began)
    open_.append(began)


def _end(open_: list[IcalComponent], name: str) -> None:
    """Close the innermost one of this name; those within it have no end of their own. An END of nothing is passed."""
    if not any(each.name == name for each in open_):
        return
    while (closed := open_.pop()).name != name:
        closed.is_whole = False


def _property(line: str) -> IcalProperty | None:
    head, value = _split(line)
    if value is None:
        return None
    name, *params = _outside_quotes(head, ";")
    pairs = (param.partition("=") for param in params)
    return IcalProperty(
        name.strip().upper(), {key.strip().upper(): said.strip().strip('"') for key, _, said in pairs}, value
    )


def _split(line: str) -> tuple[str, str | None]:
    """What stands before the colon that ends the parameters, and the value behind it; None: there is no colon."""
    before = line.partition(":")[0]
    name = before.partition(";")[0].strip().upper()
    if name in _WITHOUT_COLON and ";" in before:
        head, colon, value = line.rpartition(":")
        return head, value.strip() if colon else None
    if name in _PEOPLE and (at := line.lower().rfind(":mailto:")) >= 0:
        return line[:at], line[at + 1 :].strip()
    head, *values = _outside_quotes(line, ":")
    if not values:  # a quote that does not end
        head, colon, value = line.partition(":")
        return head, value if colon else None
    return head, line[len(head) + 1 :]


def _outside_quotes(text: str, mark: str) -> list[str]:
    """The parts of a text between marks that are not within quotes."""
    if '"' not in text:
        return text.split(mark)
    parts, begins, is_quoted = [], 0, False
    for at, character in enumerate(text):
        if character == '"':
            is_quoted = not is_quoted
        elif character == mark and not is_quoted:
            parts.append(text[begins:at])
            begins = at + 1
    return [*parts, text[begins:]]
