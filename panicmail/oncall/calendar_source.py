"""Feeds: where a role's calendar comes from, and what is kept when it does not come.

A feed is asked every so often. A text that can be read becomes the last good copy. Whatever else happens – no answer,
an error page, a text that is cut off, too large or takes too long – the last good copy stays, its age goes on, and the
reason is kept beside it. A reading that takes people out of the coming week is believed after an hour only; until then
the one before answers too (`calendars.find_doubt`). Whose copy was read for a time that ends soon is read again from
its own text, so a calendar that is away for weeks still answers.

What can go wrong and who notices: no copy at all, or one that is older than `AHEAD`, is a gap, and the fallback is
called. A copy that cannot be written is in memory only; `FetchOutcome.failure` says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import panicmail
from panicmail.errors import PanicmailError, Permanent
from panicmail.oncall import calendar_cache
from panicmail.oncall.calendar_cache import CachedCalendar
from panicmail.oncall.calendars import (
    DOUBTED_FOR,
    Calendar,
    CalendarReading,
    CalendarRules,
    Doubt,
    Naming,
    find_doubt,
    resolve,
)
from panicmail.oncall.ical_text import decoded
from panicmail.oncall.match_names import NameMatcher

#: A calendar is read for this time around now, and again from the same text when less than half of it is left.
BEHIND, AHEAD = timedelta(days=2), timedelta(days=100)
#: Whoever asks comes round a moment early or late: so little before its turn a calendar is asked too.
SLACK = timedelta(seconds=5)
#: A larger text is not read, in octets.
LARGEST = 10 * 2**20
#: A text that takes longer is given up, in seconds.
WITHIN_SECONDS = 30.0


class Fetch(Protocol):
    """What gets a calendar over the network."""

    def __call__(self, url: str) -> bytes:
        """The body behind an http or https URL. It need not give more than `LARGEST` + 1 octets of it.

        Raises:
            Temporary, Permanent: There is none; the text holds nothing secret and is shown. Of anything else it raises
                only the type is shown, because a calendar's URL is often its only key.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """The calendar of one role."""

    role: str
    source: Path | str  #: a file, or an http or https URL, which is never shown
    naming: Naming = "any"
    rules: CalendarRules = field(default_factory=CalendarRules)
    names: NameMatcher = field(default=NameMatcher({}), compare=False)  #: of the people, to see who is missing
    every: timedelta = timedelta(minutes=15)
    copy_path: Path  #: where its last good copy is kept

    @property
    def origin(self) -> str:
        return hashlib.sha256(str(self.source).encode()).hexdigest()

    def is_due(self, copy: CachedCalendar | None, now: datetime) -> bool:
        """Whether to ask its source again. A clock that was put back does not hold it up."""
        return copy is None or not timedelta(0) <= now - copy.tried_at < self.every - SLACK

    def last_copy(self) -> CachedCalendar | None:
        """The last good copy on disk."""
        return calendar_cache.load(self.copy_path, self.origin)

    def calendar(self, copy: CachedCalendar | None, names: NameMatcher) -> Calendar:
        """What a copy comes to for these people."""
        if copy is None:
            return Calendar()
        return Calendar(
            since=copy.reading.since,
            until=copy.reading.until,
            events=resolve(copy.reading, names, self.naming),
            read_at=copy.read_at,
            failure=copy.failure,
            notes=copy.reading.notes,
            uncounted=copy.reading.uncounted,
            doubt=self._doubt(copy, names),
        )

    def _doubt(self, copy: CachedCalendar, names: NameMatcher) -> Doubt | None:
        if copy.before is None or copy.doubted_at is None:
            return None
        events, before = (resolve(each, names, self.naming) for each in (copy.reading, copy.before))
        return find_doubt(events, before, copy.doubted_at)

    def doubted(self, copy: CachedCalendar, last: CachedCalendar | None) -> CachedCalendar:
        """A copy that was read just now, with the one before beside it if it takes people out of the coming week.

        Of readings that follow each other within the hour, each is held against the last one that was believed.
        """
        if last is None:
            return copy
        is_doubted = last.doubted_at is not None and timedelta(0) <= copy.read_at - last.doubted_at < DOUBTED_FOR
        before, since = (last.before, last.doubted_at) if is_doubted else (last.reading, copy.read_at)
        held = replace(copy, before=before, doubted_at=since)
        return held if self._doubt(held, self.names) else copy


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOutcome:
    """How a refresh went."""

    role: str
    copy: CachedCalendar | None  #: the one that answers from now on; None: there never was one
    failure: str = ""  #: what went wrong, in words for the operators; "": nothing
    is_spoiled: bool = False  #: the source answered, and that is no calendar


def refresh(feed: Feed, copy: CachedCalendar | None, fetch: Fetch, now: datetime) -> FetchOutcome:
    """Ask a feed's source and keep what comes of it on disk.

    Args:
        copy: The one that answers so far.
    """
    outcome = ask(feed, copy, fetch, now)
    if outcome.copy is None:
        return outcome
    try:
        calendar_cache.keep(feed.copy_path, outcome.copy)
    except OSError as exc:
        unkept = f"the copy cannot be kept at {feed.copy_path}: {exc.strerror}"
        return replace(outcome, failure="; ".join(filter(None, (outcome.failure, unkept))))
    return outcome


def ask(feed: Feed, copy: CachedCalendar | None, fetch: Fetch, now: datetime) -> FetchOutcome:
    """As `refresh`, and nothing is written."""
    is_answered = False
    try:
        octets = _octets(feed, fetch)
        is_answered = True
        text = _text(octets)
        unchanged = copy is not None and copy.text == text and _answers(feed, copy, now)
        reading = copy.reading if copy and unchanged else read(text, now - BEHIND, now + AHEAD, feed.rules)
    except ValueError as exc:
        failure = str(exc)
        kept = replace(_read_on(feed, copy, now), tried_at=now, failure=failure) if copy else None
        return FetchOutcome(role=feed.role, copy=kept, failure=failure, is_spoiled=is_answered)
    fresh = CachedCalendar(
        origin=feed.origin, text=text, reading=reading, read_at=now, tried_at=now, rules=str(feed.rules)
    )
    return FetchOutcome(role=feed.role, copy=feed.doubted(fresh, copy))


def consult(feed: Feed, now: datetime, start: datetime, end: datetime) -> FetchOutcome:
    """What answers for [start, end) without the network and without a trace: a file as it is now, a URL's last copy."""
    copy = feed.last_copy()
    outcome = (
        ask(feed, copy, _no_network, now) if isinstance(feed.source, Path) else FetchOutcome(role=feed.role, copy=copy)
    )
    return replace(outcome, copy=reading_for(feed, outcome.copy, start, end)) if outcome.copy else outcome


def _no_network(url: str) -> bytes:
    raise Permanent("this does not ask the network")


def reading_for(feed: Feed, copy: CachedCalendar, start: datetime, end: datetime) -> CachedCalendar:
    """The copy, read so that it answers for [start, end); as it is when its text cannot be read for then."""
    if copy.rules == str(feed.rules) and copy.reading.since <= start and end <= copy.reading.until:
        return copy
    try:
        reading = read(copy.text, start - BEHIND, end + BEHIND, feed.rules)
    except ValueError:
        return copy
    return replace(copy, reading=reading, rules=str(feed.rules))


def _read_on(feed: Feed, copy: CachedCalendar, now: datetime) -> CachedCalendar:
    """A copy whose source is away, read for the time to come."""
    return copy if _answers(feed, copy, now) else reading_for(feed, copy, now - BEHIND, now + AHEAD)


def _answers(feed: Feed, copy: CachedCalendar, now: datetime) -> bool:
    """Whether it was read as the configuration says, for now and long enough after."""
    return copy.rules == str(feed.rules) and copy.reading.since <= now and copy.reading.until - now > AHEAD / 2


def _octets(feed: Feed, fetch: Fetch) -> bytes:
    """
    Raises:
        ValueError: There are none; the text says why and holds nothing secret.
    """
    return _file(feed.source) if isinstance(feed.source, Path) else _fetched(feed.source, fetch)


def _text(octets: bytes) -> str:
    if len(octets) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST // 2**20} MiB")
    return decoded(octets)


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as exc:
        raise ValueError(f"{path}: {exc.strerror}") from exc


def _fetched(url: str, fetch: Fetch) -> bytes:
    try:
        return fetch(url)
    except PanicmailError as exc:
        raise ValueError(str(exc)) from exc
    except Exception as exc:  # whatever a fetch fails with, the last good copy stays
        raise ValueError(f"it could not be fetched ({type(exc).__name__})") from exc


def read(
    text: str,
    since: datetime,
    until: datetime,
    rules: CalendarRules | None = None,
    *,
    within_seconds: float = WITHIN_SECONDS,
) -> CalendarReading:
    """What a text says about [since, until), found out in a process of its own, which ends in time.

    Raises:
        ValueError: It cannot be read, or not within the limits; the text says why.
    """
    rules = rules or CalendarRules()
    worker = [sys.executable, "-m", "panicmail.oncall.ical_worker"]
    command = [*worker, since.isoformat(), until.isoformat(), rules.zone, rules.free]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command,
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a traceback quotes the calendar
            timeout=within_seconds,
            cwd="/",
            env={"PYTHONPATH": os.pathsep.join(_import_path())},
            start_new_session=True,
            check=True,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired as exc:
        raise ValueError(f"it takes longer than {within_seconds:g} s to read") from exc
    except (subprocess.CalledProcessError, OSError, ValueError) as exc:
        raise ValueError(f"its reader ended without an answer ({type(exc).__name__})") from exc
    if "mistake" in answer:
        raise ValueError(answer["mistake"])
    return CalendarReading.from_json(answer["reading"])


def _import_path() -> list[str]:
    """Where the child finds what we have imported."""
    here = str(Path(panicmail.__file__).resolve().parents[1])
    return list(dict.fromkeys([here, *(entry for entry in sys.path if entry and Path(entry).is_absolute())]))
