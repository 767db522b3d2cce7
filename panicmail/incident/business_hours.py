"""Business hours: the part of time that counts for a policy which nobody is woken for.

Pure. Local hours are those of a zone, so a day on which its clocks change is an hour longer or shorter outside them,
and a shift over the change keeps its wall times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

#: Further than any span that makes sense: a configuration is checked to have open hours in every week.
_DAYS_WITHIN = 4000


@dataclass(frozen=True, slots=True)
class BusinessHours:
    """Days of the week and the hours of them that count.

    `opens` is before `closes`: hours over midnight are no business hours.
    """

    days: frozenset[int]  #: 0 is Monday; not empty
    opens: time
    closes: time
    zone: ZoneInfo

    def after(self, start: datetime, span: timedelta) -> datetime:
        """The instant at which `span` of open time has passed since `start`; no span ends when it next is open."""
        left = span
        for opens, closes in self._from(start.astimezone(self.zone).date(), 1):
            begins = max(opens, start)
            if begins >= closes:
                continue
            if left <= closes - begins:
                return begins + left
            left -= closes - begins
        raise ValueError(f"no {span} of open hours within {_DAYS_WITHIN} days")

    def opens_at(self, at: datetime) -> datetime:
        """When it opens on the day it is there at `at`, if that is a day on which it does."""
        return self._instant(at.astimezone(self.zone).date(), self.opens)

    def before(self, end: datetime, span: timedelta) -> datetime:
        """The instant since which `span` of open time has passed until `end`: what `after` answers `end` for."""
        left = span
        for opens, closes in self._from(end.astimezone(self.zone).date(), -1):
            ends = min(closes, end)
            if ends <= opens:
                continue
            if left <= ends - opens:
                return ends - left
            left -= ends - opens
        raise ValueError(f"no {span} of open hours within {_DAYS_WITHIN} days")

    def _from(self, day: date, direction: int) -> Iterator[tuple[datetime, datetime]]:
        """The open hours of `day` and of the days after it, or before it."""
        for number in range(_DAYS_WITHIN):
            at = day + timedelta(days=direction * number)
            if at.weekday() in self.days:
                yield self._instant(at, self.opens), self._instant(at, self.closes)

    def _instant(self, day: date, at: time) -> datetime:
        return datetime.combine(day, at, self.zone).astimezone(UTC)
