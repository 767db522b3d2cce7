"""Carrying out a page: all ways at once, and what came of each."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import structlog

from panicmail.config import Config
from panicmail.daemon.watch.query import UnansweredPanic
from panicmail.delivery.apprise import AppriseClient
from panicmail.delivery.pagerduty import PagerDutyClient
from panicmail.delivery.push_router import PushRouter
from panicmail.delivery.relay_route import RelayRoute
from panicmail.delivery.smtp_client import relay_client, signing
from panicmail.errors import PanicmailError, Permanent
from panicmail.incident.people import Person
from panicmail.incident.push_channel import shown
from panicmail.mail import encryption
from panicmail.mail.compose import ComposedMail

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AlarmRoute:
    """One way a page goes: to whom, as it may be told, and what sends it and answers what was said."""

    to: str
    send: Callable[[], str]


class AlarmPage:
    """One page by all its ways at once, each in a thread of its own. None holds up another, or whoever pages.

    Args:
        about: What it is about, for the log.
        missed: Called when none of the ways took it.
    """

    def __init__(self, about: str, routes: Sequence[AlarmRoute], missed: Callable[[], None]) -> None:
        self._about = about
        self._missed = missed
        self._left = len(routes)
        self._taken = False
        self._counting = threading.Lock()
        self._threads = [
            threading.Thread(target=self._send_by, args=(way,), name="page", daemon=True) for way in routes
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait for its ways, altogether so long."""
        ends_at = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))

    @property
    def is_under_way(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _send_by(self, way: AlarmRoute) -> None:
        taken = self._try(way)
        with self._counting:
            self._taken = self._taken or taken
            self._left -= 1
            missed = not self._left and not self._taken
        if missed:
            self._missed()

    def _try(self, way: AlarmRoute) -> bool:
        try:
            answer = way.send()
        except PanicmailError as exc:
            _log.error("watch.page_failed", about=self._about, to=way.to, reason=f"{type(exc).__name__}: {exc}")
            return False
        except Exception:  # one way that breaks must not take the others with it
            _log.exception("watch.page_failed", about=self._about, to=way.to)
            return False
        _log.info("watch.paged", about=self._about, to=way.to, answer=answer)
        return True


# -- What was paged when, and when the question could last be asked: the decisions, without a clock of their own.

#: Unable to ask for so long is a page.
BLIND_AFTER = timedelta(minutes=2)
#: Incidents that come due within this time share a page; what no way took is tried again after it.
GATHER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSeen:
    """What an answered question comes to."""

    due: tuple[UnansweredPanic, ...] = ()  #: to be paged now
    over: tuple[str, ...] = ()  #: REFs that were paged and hold no longer
    blind_since: datetime | None = None  #: a page said so; it is over


class AlarmRepeat:
    """When it last could ask, and what was paged when. Instants are the host's; `now` never falls.

    Args:
        now: It counts as able to ask until then.
        repeat: From one page about the same to the next; a reload may set another.
    """

    def __init__(self, now: datetime, repeat: timedelta, *, blind_after: timedelta = BLIND_AFTER) -> None:
        self.repeat = repeat
        self._blind_after = blind_after
        self._seen_at = now
        self._blind_paged_at: datetime | None = None
        self._is_blind = False  #: a page said so
        self._paged: dict[str, tuple[str, datetime]] = {}  #: incident -> its REF, when
        self._quiet_until = now

    def note_answer(self, alarms: Sequence[UnansweredPanic], now: datetime) -> AlarmSeen:
        """The question was answered."""
        blind_since = self._seen_at if self._is_blind else None
        self._seen_at, self._is_blind, self._blind_paged_at = now, False, None
        held = {alarm.incident.id for alarm in alarms}
        over = [id_ for id_ in self._paged if id_ not in held]
        refs = tuple(self._paged.pop(id_)[0] for id_ in over)
        return AlarmSeen(due=self._take_due(alarms, now), over=refs, blind_since=blind_since)

    def _take_due(self, alarms: Sequence[UnansweredPanic], now: datetime) -> tuple[UnansweredPanic, ...]:
        due = tuple(alarm for alarm in alarms if self._is_due(alarm.incident.id, now))
        if not due or now < self._quiet_until:
            return ()
        self._paged.update({alarm.incident.id: (alarm.incident.ref, now) for alarm in due})
        self._quiet_until = now + min(GATHER, self.repeat)
        return due

    def _is_due(self, incident_id: str, now: datetime) -> bool:
        return incident_id not in self._paged or now - self._paged[incident_id][1] >= self.repeat

    def not_taken(self, ids: Iterable[str]) -> None:
        """No way took the page about these: they are due again as soon as pages may follow each other."""
        for id_ in ids:
            self._paged.pop(id_, None)

    def note_no_answer(self, now: datetime) -> datetime | None:
        """The question could not be asked: since when, if that is to be paged now; else None."""
        if now - self._seen_at < self._blind_after:
            return None
        if self._blind_paged_at is not None and now - self._blind_paged_at < self.repeat:
            return None
        self._is_blind, self._blind_paged_at = True, now
        return self._seen_at

    def blind_not_taken(self, now: datetime) -> None:
        """No way took the blind page: it is due again after a moment."""
        if self._blind_paged_at is not None:
            self._blind_paged_at = now - self.repeat + min(GATHER, self.repeat)


# -- The ways the watch pages by: its own push URLs, without one the people's, and mail through the relay.


class AlarmRoutes:
    """What a configuration says about how to page."""

    def __init__(self, config: Config, push: AppriseClient) -> None:
        self._config = config
        self._phones = PushRouter(push, PagerDutyClient(config.paging.pagerduty_url), config.smtp.hostname)
        self.own = [url.get_secret_value() for url in config.watch.push]

    def check(self) -> None:
        """Say aloud what is missing, or is there and cannot work."""
        if not self.own:
            _log.warning(
                "watch.no_route",
                text="watch has no route of its own: [watch] push is empty, so its pages go the way of all others",
            )
        theirs = [url for person in self._config.people for url in self._of(person)]
        for url in self.own or theirs:
            try:
                self._phones.check(url)
            except Permanent as exc:
                _log.error("watch.route_unusable", route=shown(url), reason=f"{exc}")

    def pushes(self, people: Sequence[Person], line: Callable[[tzinfo], str]) -> Iterator[AlarmRoute]:
        """By the watch's own URLs; without one by those of `people`. `line`: what is said in a zone."""
        if self.own:
            zone = people[0].tz if people else UTC  # whose telephones these are, nobody said
            yield from (self._by_push(url, zone, line) for url in self.own)
            return
        for person in people:
            yield from (self._by_push(url, person.tz, line) for url in self._of(person.id))

    def mails(self, people: Sequence[Person], letter: Callable[[Person], ComposedMail]) -> Iterator[AlarmRoute]:
        """To each of `people`. `letter`: written when it is sent, so that one that cannot be holds up nothing."""
        return (self._by_mail(person, letter) for person in people)

    def _of(self, person: str) -> list[str]:
        return [url.get_secret_value() for url in self._config.people[person].push]

    def _by_push(self, url: str, zone: tzinfo, line: Callable[[tzinfo], str]) -> AlarmRoute:
        return AlarmRoute(shown(url), lambda: self._ring(url, line(zone)))

    def _ring(self, url: str, line: str) -> str:
        # What says something else is another alert: a phone does not ring for one that is there.
        about = hashlib.sha256(line.encode()).hexdigest()[:12]
        return self._phones.ring(url, line, f"panicmail-watch-{about}")

    def _by_mail(self, person: Person, letter: Callable[[Person], ComposedMail]) -> AlarmRoute:
        def send() -> str:
            written = encryption.for_reader(letter, person, datetime.now(UTC))[0] or letter(person)
            relay = self._relay()
            try:
                return relay.send(written.message, written.mail_from, written.recipient)
            finally:
                relay.close()

        return AlarmRoute(person.email, send)

    def _relay(self) -> RelayRoute:
        """Connections of its own: they are used in one thread, and seldom."""
        relay, hostname = self._config.relay, self._config.smtp.hostname
        return RelayRoute(
            [
                (str(url), relay_client(relay, hostname, url=url, sign=signing(relay)))
                for url in (relay.url, *relay.fallback)
            ]
        )
