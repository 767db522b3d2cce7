"""Refreshing: calendars are read again, and what is wrong with the rosters is told days ahead.

`CalendarRefresh` keeps what answers for each role that has a calendar: what was read last, after a restart the last
good copy on disk. Those that are due are asked at once, each in a thread of its own, so one that hangs holds up no
other; an ask ends within `FETCH_SECONDS` and the reading within `calendar_source.WITHIN_SECONDS`. A calendar that
cannot be read keeps its last copy and says why, in the log at once and to the operators when it lasts; at once too when
something else than a calendar came.

`ScheduleFaults` tells the operators, once a day each, of gaps and unknown names within the coming week (`roster_gap`),
of calendars that were not read for long (`calendar_unread`) or never (`calendar_never_read`), of entries of the coming
week that nobody understands (`calendar_entries`) and of readings that are doubted (`calendar_doubted`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from panicmail.config import Config
from panicmail.delivery import http_client
from panicmail.oncall import calendar_source, config_schedules
from panicmail.oncall.calendar_cache import CachedCalendar
from panicmail.oncall.calendar_source import Feed, Fetch, FetchOutcome
from panicmail.oncall.runtime_settings import CurrentSettings
from panicmail.oncall.schedules import Schedules
from panicmail.oncall.spans import OnCallSpan
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: A calendar must be there within so many seconds.
FETCH_SECONDS = 10.0
#: So many calendars are asked at once: as many as `fetch` has under way towards one host.
AT_ONCE = 4
#: A calendar not read for so many of its intervals, or for a day if that is shorter, is told.
INTERVALS, AT_MOST = 4, timedelta(days=1)
#: Faults of the rosters are told so far ahead, and so often.
AHEAD, TOLD_EVERY = timedelta(days=7), timedelta(days=1)

#: By role, what answers for its calendar; None: it was never read.
Copies = Mapping[str, CachedCalendar | None]


def fetched(url: str) -> bytes:
    """A calendar over the network.

    Raises:
        Temporary, Permanent: It is not there, not in time, or too large.
    """
    return http_client.get(url, timeout=FETCH_SECONDS, limit=calendar_source.LARGEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A calendar that could not be read for too long."""

    role: str
    read_at: datetime | None  #: when it last could; None: never
    failure: str  #: why not now


class CalendarRefresh:
    """The calendars of a configuration. Any thread may call; one refreshes at a time.

    Args:
        fetch: Gets a calendar over the network, in its own time.
    """

    def __init__(self, config: Config, fetch: Fetch = fetched) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()  # of what follows
        self._refreshing = threading.Lock()
        self._feeds: tuple[Feed, ...] = ()
        self._copies: dict[str, CachedCalendar | None] = {}
        self._failures: dict[str, str] = {}
        self._spoiled: set[str] = set()  # roles whose source gave something else than a calendar
        self._at_once: set[str] = set()  # roles to be asked whatever their turn
        self.take(config)

    @property
    def copies(self) -> Copies:
        with self._lock:
            return dict(self._copies)

    def take(self, config: Config) -> Copies:
        """Take the calendars of this configuration, without asking anybody: memory answers, else the last good copy.

        The next refresh asks all of them: who reloads wants to see what is there now.
        """
        taken = config_schedules.feeds(config)
        with self._lock:
            known = {copy.origin: copy for copy in self._copies.values() if copy}
            self._copies = {feed.role: known.get(feed.origin) or feed.last_copy() for feed in taken}
            self._feeds, self._failures, self._spoiled = taken, {}, set()
            self._at_once = {feed.role for feed in taken}
            return dict(self._copies)

    def refresh(self, now: datetime, *, unread_only: bool = False) -> Copies | None:
        """Ask every calendar whose turn it is. Answers what answers now; None when nothing changed.

        Args:
            unread_only: Only those that were never read: a start waits for no others.
        """
        with self._refreshing:
            due = self._due(now, unread_only)
            if not due:
                return None
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="calendar") as threads:
                asked = [threads.submit(calendar_source.refresh, feed, copy, self._fetch, now) for feed, copy in due]
            outcomes = [future.result() for future in asked]
            return self._keep([(feed, copy, outcome) for (feed, copy), outcome in zip(due, outcomes, strict=True)])

    def _due(self, now: datetime, unread_only: bool) -> list[tuple[Feed, CachedCalendar | None]]:
        with self._lock:
            due = [
                (feed, copy)
                for feed in self._feeds
                if (copy := self._copies[feed.role]) is None
                or (not unread_only and (feed.role in self._at_once or feed.is_due(copy, now)))
            ]
            self._at_once -= {feed.role for feed, _ in due}
        return due

    def _keep(self, asked: Sequence[tuple[Feed, CachedCalendar | None, FetchOutcome]]) -> Copies | None:
        """Remember what came; a calendar that a reload took away meanwhile is forgotten."""
        changed = False
        with self._lock:
            for feed, before, outcome in asked:
                if feed not in self._feeds:
                    continue
                self._copies[feed.role] = outcome.copy
                self._failures[feed.role] = outcome.failure
                self._spoiled -= {feed.role}
                self._spoiled |= {feed.role} if outcome.is_spoiled else set()
                changed |= _says_something_else(before, outcome.copy)
                _tell(feed.role, before, outcome)
            return dict(self._copies) if changed else None

    def find_unread(self, now: datetime) -> list[Unread]:
        """The calendars that were not read for too long."""
        with self._lock:
            known = [
                (feed, self._copies[feed.role], failure, feed.role in self._spoiled)
                for feed in self._feeds
                if (failure := self._failures.get(feed.role, ""))
            ]
        return [
            Unread(role=feed.role, read_at=copy.read_at if copy else None, failure=failure)
            for feed, copy, failure, is_spoiled in known
            if copy is None or is_spoiled or now - copy.read_at > min(INTERVALS * feed.every, AT_MOST)
        ]


def _says_something_else(before: CachedCalendar | None, after: CachedCalendar | None) -> bool:
    if before is None or after is None:
        return before is not after
    is_same = (before.reading, before.failure, before.doubted_at) == (after.reading, after.failure, after.doubted_at)
    return not is_same


def _tell(role: str, before: CachedCalendar | None, outcome: FetchOutcome) -> None:
    if outcome.failure:
        _log.warning("calendar.not_read", role=role, reason=outcome.failure)
    elif _says_something_else(before, outcome.copy):
        _log.info("calendar.read", role=role)


class ScheduleFaults:
    """Tells the operators what somebody should mend before it matters."""

    def __init__(self, store: Store, settings: CurrentSettings, calendars: CalendarRefresh) -> None:
        self._store = store
        self._settings = settings
        self._calendars = calendars

    def tell_operators(self) -> None:
        """
        Raises:
            StoreFailed: The database could not be asked.
        """
        for cause, facts in self._store.read(self._found):
            self._tell(cause, facts)

    def _tell(self, cause: str, facts: dict[str, Any]) -> None:
        self._store.write("tick.alarm", lambda tx: tx.queue.tell_operators(cause, facts))

    def _found(self, tx: Transaction) -> list[tuple[str, dict[str, Any]]]:
        since = tx.now - TOLD_EVERY
        schedules = self._settings().schedules
        found = []
        if not tx.queue.told_operators("roster_gap", since) and (gaps := _gaps(schedules, tx.now)):
            found.append(("roster_gap", {"gap": gaps}))
        for cause, calendars in _by_cause(self._calendars.find_unread(tx.now)).items():
            if calendars and not tx.queue.told_operators(cause, since):
                found.append((cause, {"calendar": calendars}))
        for cause, entries in _of_readings(schedules, tx.now).items():
            if new := sorted(set(entries) - tx.queue.facts_told(cause, "calendar", since)):
                found.append((cause, {"calendar": new}))
        return found


def _of_readings(schedules: Schedules, now: datetime) -> dict[str, list[str]]:
    """What the operators should see in what calendars say, the new as well as what lasts."""
    calendars = schedules.calendars
    return {
        "calendar_entries": [f"{role}: {e}" for role, c in calendars.items() for e in c.mistakes(now, now + AHEAD)],
        "calendar_doubted": [
            f"{role}: {calendar.doubt.why}"
            for role, calendar in calendars.items()
            if calendar.doubt and now < calendar.doubt.until
        ],
    }


def _gaps(schedules: Schedules, now: datetime) -> list[str]:
    found = schedules.faults(now, now + AHEAD)
    return [_gap(role, span) for role, spans in found.items() for span in spans]


def _gap(role: str, span: OnCallSpan) -> str:
    names = f"; nobody is called {', '.join(span.unknown)}" if span.unknown and not span.is_gap else ""
    return f"{role}, {_moment(span.start)} to {_moment(span.end)}: {span.source}{names}"


def _by_cause(unread: Sequence[Unread]) -> dict[str, list[str]]:
    """A last good copy answers for some; for those that have none it is the fallback."""
    return {
        "calendar_unread": [_describe_unread(each) for each in unread if each.read_at],
        "calendar_never_read": [_describe_unread(each) for each in unread if not each.read_at],
    }


def _describe_unread(one: Unread) -> str:
    since = f"last read {_moment(one.read_at)}" if one.read_at else "never read"
    return f"{one.role}, {since}: {one.failure}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%MZ}"
