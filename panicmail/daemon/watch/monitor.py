"""The monitor: asks, decides, pages. One thread runs it; pages go out in threads of their own."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from urllib.parse import quote

import structlog

from panicmail import config as configuration
from panicmail import log
from panicmail.clock import Clock
from panicmail.config import Config
from panicmail.daemon.watch.query import UnansweredPanic, question
from panicmail.daemon.watch.send import BLIND_AFTER, AlarmPage, AlarmRepeat, AlarmRoute, AlarmRoutes
from panicmail.delivery.apprise import AppriseClient
from panicmail.delivery.heartbeat import Heartbeat
from panicmail.delivery.http_client import Patience
from panicmail.errors import ConfigError
from panicmail.incident.people import Person
from panicmail.incident.push_channel import shown
from panicmail.mail.compose import watch_alerts
from panicmail.mail.compose.letterhead import Letterhead, within
from panicmail.mail.compose.notice_context import NoticeContext, Organisation, organisation_at
from panicmail.oncall import runtime_settings
from panicmail.store.database import Database
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: Seconds for an answer of the database.
ASK_WITHIN = 10.0
_SQLITE = "sqlite:///"


class WatchMonitor:
    """Watches one database.

    Args:
        config: The running configuration; `reread` reads its file again.
        clock: The host's. On SQLite the SLA is measured by it, on PostgreSQL by the database's.
        blind_after: Unable to ask for so long is a page.
        ask_within: Seconds for an answer of the database.
    """

    def __init__(
        self, config: Config, clock: Clock, *, blind_after: timedelta = BLIND_AFTER, ask_within: float = ASK_WITHIN
    ) -> None:
        self._clock = clock
        self._ask_within = ask_within
        self._patience = Patience()
        self._push = AppriseClient()
        self._watch = AlarmRepeat(clock(), config.escalation.repeat, blind_after=blind_after)
        self._pages: list[AlarmPage] = []
        self._missed: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  #: from the pages' threads
        self._is_answered = True
        self._use(config)

    def _use(self, config: Config) -> None:
        # No token is made or checked here, so there need be no key; the real ones are in the database.
        self._settings = runtime_settings.from_config(config, [("a", b"")])
        self._routes = AlarmRoutes(config, self._push)
        self._watch.repeat = config.escalation.repeat
        self._url = config.database.url.get_secret_value()
        heartbeat = config.watch.heartbeat_url
        self._heartbeat = Heartbeat(heartbeat.get_secret_value() if heartbeat else "", "watch")
        self._config = config

    def announce(self) -> None:
        """Say what it watches and how it pages, and what is odd about that."""
        for sentence in self._config.warnings:
            if sentence.startswith("watch."):  # the rest is the daemon's to tell
                _log.warning("config.warning", text=sentence)
        self._routes.check()
        _log.info(
            "watch.ready",
            database=self._url.partition(":")[0],
            routes=[shown(url) for url in self._routes.own],
            sla_seconds=self._settings.policy.sla.total_seconds(),
            repeat_seconds=self._watch.repeat.total_seconds(),
        )

    def reread(self) -> None:
        """Read the configuration again; keep the running one when the new one is wrong."""
        old = self._config
        try:
            self._use(configuration.load(old.path))
        except ConfigError as exc:
            _log.error("config.refused", mistakes=list(exc.mistakes), text="the running configuration is kept")
            return
        _log.info("config.reloaded", restart_needed=["log"] if old.log != self._config.log else [])
        self.announce()

    def round(self) -> None:
        """Ask once, and page what that comes to. Takes `ask_within` at most, and never raises."""
        try:
            self._round()
        except Exception:  # the next round comes soon; without this one's heartbeat the switch outside says so
            _log.exception("watch.failed")
        else:
            self._heartbeat.beat()

    def _round(self) -> None:
        while not self._missed.empty():
            self._missed.get()()
        try:
            found, now = self._patience.call("the database", self._ask_within, self._ask)
        except Exception as exc:  # whatever it is: the question was not answered
            self._was_not_answered(log.redact_text(f"{exc}" or type(exc).__name__))
        else:
            self._was_answered(found, now)

    def finish(self, seconds: float) -> None:
        """Wait for the pages under way, but no longer than that."""
        for page in self._pages:
            page.join(seconds / len(self._pages))

    # -- asking

    def _ask(self) -> tuple[list[UnansweredPanic], datetime]:
        """The answer over a connection of its own, and its instant by the clock that counts."""
        settings, is_sqlite = self._settings, self._url.startswith(_SQLITE)
        database = Database(_only_to_read(self._url), clock=self._clock if is_sqlite else None)
        store = Store(database)

        def work(tx: Transaction) -> tuple[list[UnansweredPanic], datetime]:
            return question(tx, settings.policy, settings.who_at(tx.now), tx.now), tx.now

        try:
            return store.read(work)
        finally:
            store.close()
            database.close()

    def _was_answered(self, found: Sequence[UnansweredPanic], now: datetime) -> None:
        if not self._is_answered:
            _log.info("watch.answered")
        self._is_answered, at = True, self._clock()
        seen = self._watch.note_answer(found, at)
        if seen.blind_since is not None:
            self._see_again(seen.blind_since, at)
        for ref in seen.over:
            _log.info("watch.over", ref=ref, text="somebody has it, or a manager was reached")
        if seen.due:
            self._page_unreached(seen.due, now)

    def _was_not_answered(self, reason: str) -> None:
        if self._is_answered:
            _log.warning("watch.not_answered", reason=reason)
        self._is_answered, at = False, self._clock()
        since = self._watch.note_no_answer(at)
        if since is not None:
            _log.error("watch.blind", since=since.isoformat(), reason=reason)
            self._page_blind(since, reason, at)

    # -- paging

    def _page_unreached(self, due: Sequence[UnansweredPanic], now: datetime) -> None:
        settings, ids = self._settings, [alarm.incident.id for alarm in due]
        organisation = organisation_at(settings, now)
        people = (
            self._people(organisation.policy.people(organisation.policy.managers, organisation.who))
            or self._operators()
        )
        contexts = [_context(alarm, organisation, now) for alarm in due]
        key = f"{','.join(ids)}/{now.isoformat()}"
        _log.error("watch.unreached", refs=[alarm.incident.ref for alarm in due])
        self._page(
            "unreached",
            [
                *self._routes.pushes(people, lambda zone: watch_alerts.unreached_push(contexts, zone)),
                *self._routes.mails(
                    people,
                    lambda one: watch_alerts.unreached(
                        [within(each, one.detail) for each in contexts], one, settings.addresses, key=key
                    ),
                ),
            ],
            lambda: self._watch.not_taken(ids),
        )

    def _page_blind(self, since: datetime, reason: str, now: datetime) -> None:
        settings, people = self._settings, self._operators()
        key = f"blind/{now.isoformat()}"
        self._page(
            "blind",
            [
                *self._routes.pushes(people, lambda zone: watch_alerts.blind_push(since, now, zone)),
                *self._routes.mails(
                    people,
                    lambda one: watch_alerts.blind(
                        since, reason, Letterhead(settings.page_sender, one, now), settings.addresses, key=key
                    ),
                ),
            ],
            lambda: self._watch.blind_not_taken(self._clock()),
        )

    def _see_again(self, since: datetime, now: datetime) -> None:
        _log.info("watch.sees", blind_since=since.isoformat())
        routes = [*self._routes.pushes(self._operators(), lambda zone: watch_alerts.sees_push(since, now, zone))]
        self._page("sees", routes, lambda: None)

    def _page(self, about: str, routes: Sequence[AlarmRoute], missed: Callable[[], None]) -> None:
        page = AlarmPage(about, routes, lambda: self._missed.put(missed))
        self._pages = [*(other for other in self._pages if other.is_under_way), page]
        page.start()

    def _operators(self) -> list[Person]:
        return self._people(self._settings.operators)

    def _people(self, named: Iterable[str]) -> list[Person]:
        return [self._settings.people[person] for person in named if person in self._settings.people]


def _only_to_read(url: str) -> str:
    """SQLite would make a file that is not there, and tidy up one it closes; opened like this it does neither."""
    if not url.startswith(_SQLITE):
        return url
    return f"{_SQLITE}file:{quote(url.removeprefix(_SQLITE))}?mode=ro&uri=true"


def _context(alarm: UnansweredPanic, organisation: Organisation, now: datetime) -> NoticeContext:
    return NoticeContext(
        organisation=organisation, incident=alarm.incident, report=alarm.report, facts={}, now=now, pages=alarm.pages
    )
