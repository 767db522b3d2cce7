"""Overrides: somebody else is on call for a while, whatever the roster says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOverride:
    """`person` alone is on call from `start` until `end`, without `end`.

    Of several at once the one that began last counts, of those the one that ends first: an evening within a holiday
    week, wherever it is written. Two for the very same time are a mistake of the configuration.
    """

    start: datetime
    end: datetime
    person: str

    @property
    def rank(self) -> tuple[datetime, timedelta]:
        """The greater one of two at once counts."""
        return self.start, self.start - self.end

    @property
    def source(self) -> str:
        return f"override until {self.end:%Y-%m-%d %H:%MZ}"
