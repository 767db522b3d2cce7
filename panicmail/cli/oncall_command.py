"""What `panicmail oncall` answers: who is on call, until when, from which source, who is next, and two weeks ahead.

Calendars answer from what is on this host: a file as it is now, a URL as the daemon read it last. Nothing is fetched
and nothing is written.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from panicmail.cli.output import iso, shown
from panicmail.config import Config
from panicmail.incident.people import Person
from panicmail.oncall import calendar_source, config_schedules, render, runtime_settings
from panicmail.oncall.calendar_source import FetchOutcome
from panicmail.oncall.calendars import Calendar
from panicmail.oncall.render import ScheduleLine
from panicmail.oncall.schedules import HORIZON, OnCallDuty, Replaced, Schedules
from panicmail.oncall.spans import OnCallSpan

#: How far ahead the strip goes.
AHEAD = timedelta(days=14)
_WIDTH = 80
_MOST_FAULTS = 12
#: So many of those an override replaces are named.
_MOST_REPLACED = 4


@dataclass(frozen=True, slots=True)
class Role:
    """One role at the instant asked about."""

    name: str
    duties: tuple[OnCallDuty, ...]  #: (): nobody is on call
    spans: tuple[OnCallSpan, ...]  #: from that instant on, for `AHEAD`
    replaced: tuple[Replaced, ...] = ()  #: the overrides of that time

    @property
    def next(self) -> OnCallSpan | None:
        """The first span ahead with other people."""
        return next((span for span in self.spans if span.people != self.spans[0].people), None)


@dataclass(frozen=True, slots=True)
class Source:
    """The calendar of a role."""

    role: str
    calendar: Calendar
    failure: str  #: why it could not be read the last time; "": it could
    age: timedelta | None  #: None: it was never read


@dataclass(frozen=True, slots=True, kw_only=True)
class Rota:
    """All roles at an instant."""

    at: datetime
    people: Mapping[str, Person]
    roles: tuple[Role, ...]
    sources: tuple[Source, ...]


def read_rota(config: Config, at: datetime, now: datetime) -> Rota:
    """Ask what is on this host about `at`. `now`: what the ages of calendars are counted to."""
    outcomes = [calendar_source.consult(feed, now, at, at + HORIZON) for feed in config_schedules.feeds(config)]
    settings = runtime_settings.from_config(config, [("a", b"")], {each.role: each.copy for each in outcomes})
    schedules = settings.schedules
    return Rota(
        at=at,
        people=settings.people,
        roles=tuple(_role(schedules, name, at) for name in schedules.roles),
        sources=tuple(_source(each, schedules.calendars[each.role], now) for each in outcomes),
    )


def _role(schedules: Schedules, name: str, at: datetime) -> Role:
    end = at + AHEAD
    return Role(name, schedules.on_call(name, at), schedules.spans(name, at, end), schedules.replaced(name, at, end))


def _source(outcome: FetchOutcome, calendar: Calendar, now: datetime) -> Source:
    return Source(outcome.role, calendar, calendar.failure or outcome.failure, calendar.age(now))


# -- for machines


def document(rota: Rota) -> dict[str, Any]:
    return {
        "at": iso(rota.at),
        "on_call": [
            {"role": d.role, "person": d.person, "name": rota.people[d.person].name, "until": iso(d.until),
             "source": d.source}
            for role in rota.roles for d in role.duties
        ],
        "calendars": [_source_document(each, rota.at) for each in rota.sources],
        "ahead": {
            role.name: [
                {"start": iso(s.start), "end": iso(s.end), "people": list(s.people), "source": s.source,
                 "gap": s.is_gap, "unknown": list(s.unknown)}
                for s in role.spans
            ]
            for role in rota.roles
        },
        "overrides": {
            role.name: [
                {"start": iso(each.override.start), "end": iso(each.override.end), "person": each.override.person,
                 "replaces": [{"start": iso(s.start), "end": iso(s.end), "people": list(s.people), "source": s.source}
                              for s in each.spans]}
                for each in role.replaced
            ]
            for role in rota.roles
        },
    }  # fmt: skip


def _source_document(source: Source, at: datetime) -> dict[str, Any]:
    calendar, end = source.calendar, at + AHEAD
    return {
        "role": source.role,
        "read_at": iso(calendar.read_at),
        "failure": source.failure or None,
        "age_seconds": None if source.age is None else int(source.age.total_seconds()),
        "notes": [*calendar.notes, *map(str, calendar.left_out(at, end))],
        "doubt": _doubt(source, at) or None,
        "findings": [
            {"title": e.title, "start": iso(e.start), "end": iso(e.end), "why": e.why}
            for e in calendar.mistakes(at, end)
        ],
    }


def _doubt(source: Source, at: datetime) -> str:
    """Why its last reading is not believed alone at `at`; "": it is."""
    doubt = source.calendar.doubt
    return doubt.why if doubt and at < doubt.until else ""


# -- for people


def lines(rota: Rota, zone: ZoneInfo) -> Iterator[ScheduleLine]:
    """The whole answer, by the wall clock of `zone`."""
    yield ScheduleLine(f"On call at {rota.at.astimezone(zone):%a %Y-%m-%d} {render.clock(rota.at, zone)} {zone.key}")
    for role in rota.roles:
        yield ScheduleLine("")
        yield from _now(role, rota.people, zone)
    for source in rota.sources:
        yield ScheduleLine("")
        yield from _calendar(source, rota.at)
    yield ScheduleLine("")
    mend = ' ("!!" wants mending)' if any(span.is_faulty for role in rota.roles for span in role.spans) else ""
    yield ScheduleLine(f"The coming two weeks, by the clock of {zone.key}{mend}")
    for role in rota.roles:
        yield ScheduleLine("")
        yield from _ahead(role, zone)


def _now(role: Role, people: Mapping[str, Person], zone: ZoneInfo) -> Iterator[ScheduleLine]:
    current = role.spans[0]
    for duty in role.duties:
        until = f"until {render.moment(duty.until, zone)}" if duty.until else "no end known"
        yield ScheduleLine(f"{role.name}: {_named(people, duty.person)}, {until}", current.is_faulty)
    if not role.duties:
        yield ScheduleLine(f"{role.name}: !! NOBODY IS ON CALL", is_loud=True)
    yield from _wrapped(f"from {current.source}", is_loud=current.is_faulty)
    if current.unknown:
        yield from _wrapped(f"!! unknown: {', '.join(current.unknown)}", is_loud=True)
    if role.next is not None:
        who = ", ".join(_named(people, person) for person in role.next.people) or "!! NOBODY"
        yield from _wrapped(f"next {who}, {render.moment(role.next.start, zone)}", is_loud=role.next.is_faulty)


def _named(people: Mapping[str, Person], person: str) -> str:
    return f"{people[person].name} ({person})"


def _calendar(source: Source, at: datetime) -> Iterator[ScheduleLine]:
    if source.age is None:
        yield from _wrapped("!! its calendar was never read; panicmail serve reads it", source.role, is_loud=True)
    else:
        told = f"its calendar was read {_ago(source.age)} ago, at {source.calendar.read_at:%Y-%m-%d %H:%MZ}"
        yield from _wrapped(told, source.role)
    if source.failure:
        yield from _wrapped(f"!! it could not be read the last time: {source.failure}", is_loud=True)
    if doubt := _doubt(source, at):
        yield from _wrapped(f"!! {doubt}", is_loud=True)
    found = sorted(source.calendar.left_out(at, at + AHEAD), key=lambda each: not each.is_mistake)
    for entry in found[:_MOST_FAULTS]:
        yield from _wrapped(f"{'!! ' * entry.is_mistake}does not count: {entry}", is_loud=entry.is_mistake)
    if len(found) > _MOST_FAULTS:
        yield from _wrapped(f"nor do {len(found) - _MOST_FAULTS} more entries")
    for note in source.calendar.notes:
        yield from _wrapped(note)


def _ago(age: timedelta) -> str:
    minutes = max(0, age // timedelta(minutes=1))
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} days {hours} h" if days > 1 else f"1 day {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def _ahead(role: Role, zone: ZoneInfo) -> Iterator[ScheduleLine]:
    yield ScheduleLine(role.name)
    if len(role.spans) == 1 and not role.spans[0].is_faulty:
        yield from _wrapped(f"{', '.join(role.spans[0].people)}: all of it ({role.spans[0].source})")
        yield from _overrides(role, zone)
        return
    for line in render.days(role.spans, zone, _WIDTH - 2):
        yield ScheduleLine(f"  {line.text}", line.is_loud)
    yield from _overrides(role, zone)
    faults = list(render.faults(role.spans, zone, _WIDTH - 2))
    for line in faults[:_MOST_FAULTS]:
        yield ScheduleLine(f"  {line.text}", line.is_loud)
    if len(faults) > _MOST_FAULTS:
        more = len(faults) - _MOST_FAULTS
        yield ScheduleLine(f"  !! and {more} line{'' if more == 1 else 's'} more", is_loud=True)


def _overrides(role: Role, zone: ZoneInfo) -> Iterator[ScheduleLine]:
    """Who has each override instead of whom."""
    for each in role.replaced:
        others = [", ".join(span.people) or "nobody" for span in each.spans[:_MOST_REPLACED]]
        later = [f"{who} from {render.moment(s.start, zone)}" for who, s in zip(others, each.spans, strict=False)]
        more = len(each.spans) - len(others)
        told = ", ".join([others[0], *later[1:], *([f"and {more} more"] if more else [])])
        when = f"{render.moment(each.override.start, zone)} - {render.moment(each.override.end, zone)}"
        yield from _wrapped(f"override {when}: {each.override.person} instead of {told}")


def _wrapped(text: str, head: str = "", *, is_loud: bool = False) -> Iterator[ScheduleLine]:
    told = f"{head}: {text}" if head else f"  {text}"
    for line in textwrap.wrap(shown(told), _WIDTH, initial_indent="", subsequent_indent="    "):
        yield ScheduleLine(line, is_loud)


def print_lines(rota: Rota, zone: ZoneInfo) -> None:
    for line in lines(rota, zone):
        click.secho(shown(line.text), fg="red" if line.is_loud else None, bold=line.is_loud or None)
