"""The rosters and feeds a configuration gives."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from panicmail.config import Config
from panicmail.config import ScheduleSettings as Section
from panicmail.config.schema import ShiftSettings as ShiftSection
from panicmail.incident.people import Person
from panicmail.oncall.calendar_cache import CachedCalendar
from panicmail.oncall.calendar_source import Feed
from panicmail.oncall.calendars import Calendar, CalendarRules
from panicmail.oncall.match_names import NameMatcher
from panicmail.oncall.overrides import ScheduleOverride
from panicmail.oncall.schedules import Schedule, Schedules
from panicmail.oncall.shifts import DateRange, Rotation, ScheduleShift

#: A Monday, for shifts of which only one person or everybody has the turn.
_ANY_MONDAY = date(1970, 1, 5)


def schedules(
    config: Config, people: Mapping[str, Person], copies: Mapping[str, CachedCalendar | None] | None = None
) -> Schedules:
    """All roles.

    Args:
        people: The same as the configuration's, by their keys.
        copies: By role, what answers for the calendars; None takes the last good copies from disk.
    """
    names = NameMatcher(people)
    calendars = {
        feed.role: feed.calendar(feed.last_copy() if copies is None else copies.get(feed.role), names)
        for feed in feeds(config)
    }
    return Schedules({role: _schedule(section, calendars.get(role)) for role, section in config.oncall.items()})


def feeds(config: Config) -> tuple[Feed, ...]:
    """The calendars that are to be fetched, one for each role that has one."""
    names = NameMatcher(
        {key: Person(id=key, name=p.name, email=p.email, aliases=p.aliases) for key, p in config.people.items()}
    )
    return tuple(
        Feed(
            role=role,
            source=section.ical.source,
            naming=section.ical_person,
            rules=CalendarRules(section.ical_tz, section.ical_free),
            names=names,
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


def _schedule(section: Section, calendar: Calendar | None) -> Schedule:
    return Schedule(
        fixed=section.fixed,
        fallback=section.fallback,
        shifts=tuple(map(_shift, section.shifts)),
        calendar=calendar,
        overrides=tuple(ScheduleOverride(start=o.from_, end=o.to, person=o.person) for o in section.overrides),
    )


def _shift(section: ShiftSection) -> ScheduleShift:
    season = section.season
    return ScheduleShift(
        days=section.days,
        begins=section.from_,
        ends=section.ends,
        zone=ZoneInfo(section.tz),
        people=section.people,
        rotation=Rotation(section.rotate or Rotation.NONE),
        start=section.start or _ANY_MONDAY,
        season=DateRange(season.from_, season.to) if season else None,
    )
