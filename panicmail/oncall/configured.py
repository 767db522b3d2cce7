"""The rosters and feeds a configuration gives."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from panicmail.config import Config
from panicmail.config import Roster as Section
from panicmail.config.model import Shift as ShiftSection
from panicmail.oncall.calendars import Calendar
from panicmail.oncall.copies import Copy
from panicmail.oncall.feeds import Feed
from panicmail.oncall.names import Names
from panicmail.oncall.overrides import Override
from panicmail.oncall.rosters import Roster, Rosters
from panicmail.oncall.shifts import Rotation, Season, Shift
from panicmail.people import Person

#: A Monday, for shifts of which only one person or everybody has the turn.
_ANY_MONDAY = date(1970, 1, 5)


def rosters(config: Config, people: Mapping[str, Person], copies: Mapping[str, Copy | None] | None = None) -> Rosters:
    """All roles.

    Args:
        people: The same as the configuration's, by their keys.
        copies: By role, what answers for the calendars; None takes the last good copies from disk.
    """
    names = Names(people)
    calendars = {
        feed.role: feed.calendar(feed.last_copy() if copies is None else copies.get(feed.role), names)
        for feed in feeds(config)
    }
    return Rosters({role: _roster(section, calendars.get(role)) for role, section in config.oncall.items()})


def feeds(config: Config) -> tuple[Feed, ...]:
    """The calendars that are to be fetched, one for each role that has one."""
    return tuple(
        Feed(
            role=role,
            source=section.ical.source,
            naming=section.ical_person,
            every=section.ical_refresh,
            copy_path=section.ical_copy or folder(config) / f"{role}.json",
        )
        for role, section in config.oncall.items()
        if section.ical is not None
    )


def folder(config: Config) -> Path:
    """Where the copies of calendars are kept: beside the SQLite database, else beside the configuration."""
    url = config.database.url.get_secret_value()
    if url.startswith("sqlite:"):
        return Path(url.removeprefix("sqlite:///")).parent / "calendars"
    return (config.path.absolute().parent if config.path else Path.cwd()) / "calendars"


def _roster(section: Section, calendar: Calendar | None) -> Roster:
    return Roster(
        fixed=section.fixed,
        fallback=section.fallback,
        shifts=tuple(map(_shift, section.shifts)),
        calendar=calendar,
        overrides=tuple(Override(start=o.from_, end=o.to, person=o.person) for o in section.overrides),
    )


def _shift(section: ShiftSection) -> Shift:
    season = section.season
    return Shift(
        days=section.days,
        begins=section.from_,
        ends=section.ends,
        zone=ZoneInfo(section.tz),
        people=section.people,
        rotation=Rotation(section.rotate or Rotation.NONE),
        start=section.start or _ANY_MONDAY,
        season=Season(season.from_, season.to) if season else None,
    )
