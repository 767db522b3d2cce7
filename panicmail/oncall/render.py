"""The days ahead as a strip people read: a line a day, by the wall clock of one zone.

    Mon 23 Nov        ana   07:00 bo    15:00 ana   23:00 bo
    Tue 24 Nov        bo    07:00 !! max
    Wed 25 Nov        !! max

A name without a time goes on from the day before. "!!" is what somebody should mend: before a name it is a gap and the
name is the fallback's; behind a name, one nobody knows stands beside it. A time the clock shows twice says which it is,
and a day of another length than 24 hours says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from panicmail.oncall.local_time import instant
from panicmail.oncall.spans import OnCallSpan

_DAY = timedelta(days=1)
_TICK = datetime.resolution
_MARGIN = " " * len("Mon 23 Nov  ")
#: A column is at most so wide; a longer cell takes the room of several.
_WIDEST = 24


@dataclass(frozen=True, slots=True)
class ScheduleLine:
    """One line of a strip, without its end."""

    text: str
    is_loud: bool = False  #: something in it wants mending


def days(spans: Sequence[OnCallSpan], zone: tzinfo, width: int = 80) -> Iterator[ScheduleLine]:
    """The strip of spans that follow each other, of at most `width` columns; at least 40 are needed."""
    lines = list(_days(spans, zone))
    column = min(_WIDEST, max((len(cell) for _, cells, _ in lines for cell in cells), default=0)) + 2
    for day, cells, is_loud in lines:
        for number, text in enumerate(_grid(cells, column, width - len(_MARGIN))):
            yield ScheduleLine(f"{_MARGIN if number else f'{day:%a %d %b}  '}{text}".rstrip(), is_loud)


def _days(spans: Sequence[OnCallSpan], zone: tzinfo) -> Iterator[tuple[date, list[str], bool]]:
    """Each day there is, its cells, and whether something in it wants mending."""
    if not spans:
        return
    first, end = spans[0].start, spans[-1].end
    day = first.astimezone(zone).date()
    while (begins := instant(day, timedelta(0), zone)) < end:
        ends = instant(day, _DAY, zone)
        today = [span for span in spans if span.start < ends and span.end > begins]
        if begins < ends:  # a zone that changes its side of the date line skips a day
            cells = [_cell(span, max(first, begins - _TICK), zone) for span in today]
            yield day, cells + _length(ends - begins), any(span.is_faulty for span in today)
        day += _DAY


def faults(spans: Iterable[OnCallSpan], zone: tzinfo, width: int = 80) -> Iterator[ScheduleLine]:
    """What of it wants mending, from when until when and why."""
    for span in spans:
        if span.is_faulty:
            why = span.source if span.is_gap else f"unknown name{_s(span.unknown)} {', '.join(span.unknown)}"
            told = f"!! {moment(span.start, zone)} - {moment(span.end, zone)}  {why}"
            for text in textwrap.wrap(told, width, subsequent_indent="   "):
                yield ScheduleLine(text, is_loud=True)


def moment(at: datetime, zone: tzinfo) -> str:
    """An instant by the wall clock: "Mon 23 Nov 07:00"."""
    return f"{at.astimezone(zone):%a %d %b} {clock(at, zone)}"


def clock(at: datetime, zone: tzinfo) -> str:
    """A time of day, with the zone's name of the hour when the clock shows it twice."""
    local = at.astimezone(zone)
    is_twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return f"{local:%H:%M}{f' {local.tzname()}' if is_twice else ''}"


def _cell(span: OnCallSpan, known: datetime, zone: tzinfo) -> str:
    """Who, and since when if they begin after `known`."""
    return f"{clock(span.start, zone) if span.start > known else '':5} {_who(span)}"


def _who(span: OnCallSpan) -> str:
    named = ", ".join(span.people)
    if span.is_gap:
        return f"!! {named or 'NOBODY'}"
    if span.unknown:
        return f"{named} !!"
    return f"{named} (override)" if span.source.startswith("override") else named


def _length(day: timedelta) -> list[str]:
    if day == _DAY:
        return []
    hours, rest = divmod(day, timedelta(hours=1))
    return [f"({hours} h{f' {rest // timedelta(minutes=1)} min' if rest else ''})"]


def _grid(cells: Sequence[str], column: int, width: int) -> Iterator[str]:
    """Cells in columns, over as many lines as they need."""
    row = ""
    for cell in cells:
        for piece in [cell] if len(cell) <= width else textwrap.wrap(cell, width, subsequent_indent=" " * 6):
            taken = -(-len(row) // column) * column
            if row and taken + len(piece) > width:
                yield row
                row, taken = "", 0
            row = f"{row:{taken}}{piece}"
    yield row


def _s(of: Sequence[str]) -> str:
    return "s" if len(of) > 1 else ""
