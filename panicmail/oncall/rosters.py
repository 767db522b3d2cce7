"""Rosters: who is on call in each role, until when, and where that is written.

Fixed people with a fallback for a gap. Shifts, calendars and overrides are further sources behind the same question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Roster:
    """One role: the people who always have it, and who answers when nobody does."""

    fixed: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """That one person is on call in one role."""

    role: str
    person: str
    until: datetime | None  #: None: no end is known
    source: str  #: "fixed" or "fallback"


class Rosters:
    """All roles. Immutable; a reload makes a new one."""

    def __init__(self, rosters: Mapping[str, Roster]) -> None:
        self._rosters = dict(rosters)

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(self._rosters)

    def on_call(self, role: str, at: datetime) -> tuple[Duty, ...]:
        """Who is on call in `role` at `at`; () when neither roster nor fallback names anybody, or no such role is."""
        roster = self._rosters.get(role, Roster())
        people, source = (roster.fixed, "fixed") if roster.fixed else (roster.fallback, "fallback")
        return tuple(Duty(role=role, person=person, until=None, source=source) for person in people)

    def who(self, role: str, at: datetime) -> tuple[str, ...]:
        return tuple(duty.person for duty in self.on_call(role, at))
