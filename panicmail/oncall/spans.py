"""Who is on call when: spans of time, each with its people and the reason.

Every span is half-open, [start, end): who ends at seven is not on call at seven, and who begins then is. So spans that
follow each other leave nothing between them and nobody twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar


class TimeRange(Protocol):
    """Anything that lasts from `start` until `end`, without `end`."""

    @property
    def start(self) -> datetime: ...
    @property
    def end(self) -> datetime: ...


S = TypeVar("S", bound=TimeRange)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnCallSpan:
    """Who is on call from `start` until `end`, without `end`. Both are aware and in UTC."""

    start: datetime
    end: datetime
    people: tuple[str, ...]  #: their keys, in the order they are written; (): nobody, not even as fallback
    source: str  #: "fixed", "calendar", "shift mon-fri 23:00-07:00 UTC", "override until …", "fallback: <why>"
    unknown: tuple[str, ...] = ()  #: names that are written there and are nobody's in [people]
    is_gap: bool = False  #: the roster itself names nobody; `people` are the fallback

    @property
    def is_faulty(self) -> bool:
        """Whether somebody should mend the roster before this comes: a gap, or a name nobody has."""
        return self.is_gap or bool(self.unknown)


def divide(laid: Sequence[S], start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, tuple[S, ...]]]:
    """Cut [start, end) wherever something laid over it begins or ends.

    Returns:
        Pieces without a gap between them, each with what lies over it, in the order of `laid`. None for an empty
        interval.
    """
    cuts = sorted({start, end, *(cut for one in laid for cut in (one.start, one.end) if start < cut < end)})
    waiting = sorted(enumerate(laid), key=lambda numbered: numbered[1].start, reverse=True)
    over: list[tuple[int, S]] = []
    for begins, ends in itertools.pairwise(cuts):
        over = [(number, one) for number, one in over if one.end > begins]
        while waiting and waiting[-1][1].start <= begins:
            number, one = waiting.pop()
            if one.end > begins:
                over.append((number, one))
        over.sort(key=lambda numbered: numbered[0])
        yield begins, ends, tuple(one for _, one in over)


def join(spans: Iterable[OnCallSpan]) -> Iterator[OnCallSpan]:
    """The same spans, with those made one that follow each other and say the same."""
    last: OnCallSpan | None = None
    for span in spans:
        if last is not None and last.end == span.start and replace(last, start=span.start, end=span.end) == span:
            last = replace(last, end=span.end)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last
