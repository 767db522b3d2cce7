"""Rosters: who is on call now, what is missing in the coming two weeks, and whether the calendars can be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType

from panicmail.check.parallel import ParallelChecks, PendingAnswer
from panicmail.check.result import Group, Row
from panicmail.config import Config
from panicmail.delivery import http_client
from panicmail.errors import PanicmailError
from panicmail.oncall import calendar_source, config_schedules
from panicmail.oncall.calendar_source import Feed, FetchOutcome
from panicmail.oncall.calendars import Calendar
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.oncall.schedules import Schedules
from panicmail.oncall.spans import OnCallSpan

#: So far ahead a gap is told.
AHEAD = timedelta(days=14)
#: A calendar nobody could read for so long is told; a shorter silence passes.
OLD_AFTER = timedelta(days=1)
#: For all calendars together, in seconds, and for each one's answer.
SECONDS, FETCH_SECONDS = 10.0, 6.0
#: So many gaps of a role are named.
_NAMED = 3

_ROSTER = Group.ROSTER
_CAUSE = "check_roster"


def ask_calendars(config: Config, now: datetime) -> list[FetchOutcome]:
    """Ask every calendar for what it says now; what it last said where there is no answer. Nothing is written."""
    asking = ParallelChecks(SECONDS)
    asked = [
        (feed, asking.ask(partial(calendar_source.ask, feed, feed.last_copy(), _fetch, now)))
        for feed in config_schedules.feeds(config)
    ]
    return [_outcome(feed, answer) for feed, answer in asked]


def _outcome(feed: Feed, answer: PendingAnswer[FetchOutcome]) -> FetchOutcome:
    try:
        return answer.wait()
    except PanicmailError as exc:
        return FetchOutcome(role=feed.role, copy=feed.last_copy(), failure=f"{exc}")


def _fetch(url: str) -> bytes:
    return http_client.get(url, timeout=FETCH_SECONDS, limit=calendar_source.LARGEST + 1)


def rows(settings: RuntimeSettings, now: datetime, failures: Mapping[str, str] = MappingProxyType({})) -> Iterator[Row]:
    """Who is on call in each role, and what should be mended before it comes.

    Args:
        failures: By role, why its calendar could not be read just now.
    """
    schedules = settings.schedules
    faults = schedules.faults(now, now + AHEAD)
    for role in schedules.roles:
        yield _now(settings, role, now).told_as(_CAUSE)
        yield _ahead(role, faults.get(role, ())).told_as(_CAUSE)
    for role, calendar in schedules.calendars.items():
        yield _calendar(role, calendar, failures.get(role) or calendar.failure, now).told_as("check_calendar")
    yield from _one_person(settings, now)


def _now(settings: RuntimeSettings, role: str, now: datetime) -> Row:
    duties = settings.schedules.on_call(role, now)
    names = ", ".join(f"{settings.people[duty.person].name} ({duty.source})" for duty in duties)
    if names:
        return _ROSTER.ok(role, names)
    return _ROSTER.failed(role, "nobody now", f"name somebody in oncall.{role}.fixed or .fallback")


def _ahead(role: str, faults: Sequence[OnCallSpan]) -> Row:
    subject = f"{role} ahead"
    if not faults:
        return _ROSTER.ok(subject, f"the coming {AHEAD.days} days have no gap")
    told = "; ".join(_fault(span) for span in faults[:_NAMED])
    more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    if any(not span.people for span in faults):
        mend = f"put somebody on call, or name somebody in oncall.{role}.fallback; panicmail oncall shows the days"
        return _ROSTER.failed(subject, told + more, mend)
    return _ROSTER.warning(subject, told + more, "put somebody on call then; panicmail oncall shows the days")


def _fault(span: OnCallSpan) -> str:
    """In words that are the same tomorrow: the daily re-check compares them."""
    who = ", ".join(span.people) or "nobody is called"
    why = f"unknown {', '.join(span.unknown)}" if span.unknown else "nobody on call"
    instead = " instead" if span.people else ""
    return f"{span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M} UTC: {why}, {who}{instead}"


def _calendar(role: str, calendar: Calendar, failure: str, now: datetime) -> Row:
    subject, age = f"{role} calendar", calendar.age(now)
    mend = f"see oncall.{role}.ical, and that this host may reach it"
    if age is None:
        found = f"it was never read{f' ({failure})' if failure else ''}: its hours are the fallback's"
        return _ROSTER.failed(subject, found, mend)
    told = f"read {calendar.read_at:%Y-%m-%d %H:%M} UTC"
    if failure:
        row = _ROSTER.warning(subject, f"it cannot be read ({failure}); the copy {told} answers", mend)
        return row if age > OLD_AFTER else row.passes()
    mend = "write them again in the calendar, or delete them; panicmail oncall shows who is called"
    if calendar.doubt and now < calendar.doubt.until:
        return _ROSTER.warning(subject, f"{told}: {calendar.doubt.why}", f"see whether that is meant, else {mend}")
    if mistakes := calendar.mistakes(now, now + AHEAD):
        more = f"; and {len(mistakes) - _NAMED} more" if len(mistakes) > _NAMED else ""
        found = f"nobody is on call by {'; '.join(map(str, mistakes[:_NAMED]))}{more}"
        return _ROSTER.warning(subject, found, mend)
    notes = f"; {'; '.join(calendar.notes)}" if calendar.notes else ""
    return _ROSTER.ok(subject, told + notes)


# -- one person in two roles


def _one_person(settings: RuntimeSettings, now: datetime) -> Iterator[Row]:
    """Whether the first and the last step come to the same single person at some hour to come.

    That they do so now is told of the policy (`offline`).
    """
    policy = settings.policy
    first, last = policy.steps[0].page, policy.managers
    hours = _same_person(settings.schedules, first, last, now)
    roles = f"{', '.join(first)} and {', '.join(last)}"
    mend = "put two people on call in those roles: nobody else is called when that one sleeps"
    if not hours:
        found = f"{roles} are never one person alone in the coming {AHEAD.days} days"
        yield _ROSTER.ok("two people", found).told_as("check_roles")
    elif hours[0][0] > now:
        start, who = hours[0]
        found = f"{settings.people[who].name} is both {roles}, from {start:%Y-%m-%d %H:%M} UTC"
        yield _ROSTER.warning("two people", found, mend).told_as("check_roles")


def _same_person(
    schedules: Schedules, first: Sequence[str], last: Sequence[str], now: datetime
) -> list[tuple[datetime, str]]:
    """When it begins that all of these roles are one person, and who."""
    roles = dict.fromkeys([*first, *last])
    cuts = sorted({span.start for role in roles for span in schedules.spans(role, now, now + AHEAD)})
    found: list[tuple[datetime, str]] = []
    for cut in cuts:
        people = {person for role in roles for person in schedules.who(role, cut)}
        if len(people) == 1:
            found.append((cut, people.pop()))
    return found
