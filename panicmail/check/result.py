"""Rows: what was looked at, how it turned out, and the mend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class CheckVerdict(StrEnum):
    """How a row turned out."""

    OK = "ok"  #: nothing to do
    WARNING = "warning"  #: it works, but somebody should look
    FAILED = "failed"  #: panicmail could not do its work like this


class Group(StrEnum):
    """What a row is about, in the order in which they are told."""

    FILE = "Configuration"
    DOOR = "Mail in"
    STORE = "Database, disk and clocks"
    GITLAB = "GitLab"
    RELAY = "Mail out"
    PEOPLE = "People"
    ROSTER = "On call"
    POLICY = "Escalation"
    WEB = "Web"
    TEST = "Test page"

    def ok(self, subject: str, found: str) -> Row:
        return Row(subject, CheckVerdict.OK, found, group=self)

    def warning(self, subject: str, found: str, mend: str) -> Row:
        return Row(subject, CheckVerdict.WARNING, found, mend, group=self)

    def failed(self, subject: str, found: str, mend: str) -> Row:
        return Row(subject, CheckVerdict.FAILED, found, mend, group=self)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at."""

    subject: str  #: what was looked at, in a word or two
    verdict: CheckVerdict
    found: str
    mend: str = ""  #: what to do about it; "" when nothing
    group: Group = Group.FILE
    person: str = ""  #: whom it is about, by key; "": nobody in particular
    channel: str = ""  #: which of their channels, by id; "": none in particular
    #: What the daily re-check tells the operators while this is not ok (`operator_alerts.causes`); "": nothing.
    cause: str = ""
    #: How far something that comes on slowly has come; while it lasts it is told at each new stage alone.
    stage: str = ""
    passing: bool = False  #: not ok for a reason that often passes by itself; told when it lasts

    @property
    def is_ok(self) -> bool:
        return self.verdict is CheckVerdict.OK

    def told_as(self, cause: str) -> Row:
        return replace(self, cause=cause)

    def of(self, person: str) -> Row:
        return replace(self, person=person)

    def passes(self) -> Row:
        return replace(self, passing=True)


def in_order(rows: Iterable[Row], people: Iterable[str]) -> list[Row]:
    """Grouped, and within people by person, in the order of the configuration."""
    groups, persons = list(Group), ["", *people]
    return sorted(rows, key=lambda row: (groups.index(row.group), persons.index(row.person)))
