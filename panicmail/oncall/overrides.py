"""Overrides: somebody else is on call for a while, whatever the roster says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOverride:
    """`person` alone is on call from `start` until `end`, without `end`. Of two that overlap the first written wins."""

    start: datetime
    end: datetime
    person: str

    @property
    def source(self) -> str:
        return f"override until {self.end:%Y-%m-%d %H:%MZ}"
