"""The daemon: built once, started in order, stopped in order.

It owns signals, sockets and threads, and is the only place that knows APScheduler, which does nothing here but tick.

    main thread      the event loop: smtp/ and web/
    writer           all writes to SQLite
    intake           threads that understand accepted mails: more than there are readers, so that slow mails cannot
                     hold all of them
    again            two threads that read again what could not be read at first: one for answers, one for all else
    page, mail       threads that send; pages have two of their own
    gitlab           threads that keep the issues
    hooks            looks at issues GitLab's webhooks speak of
    scheduler        the tick, once a second; the poll for signs of work
    spool            two threads that write to the emergency spool when the database does not take a mail
    emergency        calls people while the database is away
    watchdog         ends the process when any of these stopped

SIGTERM: no new connections, mails in flight get their answer (8 s at most), threads end, the writer finishes, exit 0.
Calls to GitLab or the relay that are under way are abandoned: their attempts are on record. SIGHUP: the configuration
is read again; a wrong one is reported and the running one kept. A database that can no longer be trusted ends the
process with exit status 1, for a restart that reads what is really on disk.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from panicmail import crashpoints
from panicmail.check.daily_check import DailyCheck
from panicmail.config import Config
from panicmail.daemon import systemd
from panicmail.daemon.calendar_refresh import ScheduleFaults
from panicmail.daemon.health import Health
from panicmail.daemon.live_config import LiveConfig
from panicmail.daemon.periodic import PeriodicJobs
from panicmail.daemon.scheduler_clock import SchedulerClock, log_skipped_turns
from panicmail.daemon.watchdog import WITHIN, Watchdog, WatchedPart
from panicmail.daemon.worker_threads import WorkerThread, WorkSignal
from panicmail.delivery import EmailWorker, GitLabWorker, OutboxWorker, PushWorker
from panicmail.delivery.apprise import AppriseClient
from panicmail.delivery.fallback import FallbackPager, FallbackWatcher
from panicmail.delivery.heartbeat import Heartbeat
from panicmail.delivery.pagerduty import PagerDutyClient
from panicmail.delivery.push_router import PushRouter
from panicmail.delivery.smtp_client import RelayClient
from panicmail.errors import Mistake, StoreFailed
from panicmail.escalation.clock_guard import ClockGuard
from panicmail.escalation.reconciler import Reconciler
from panicmail.escalation.restore_guard import RestoreGuard
from panicmail.escalation.shift_handover import ShiftHandover
from panicmail.escalation.tick import EscalationTick
from panicmail.gitlab.issues import Issues
from panicmail.incident import ids
from panicmail.incident.push_channel import PushChannel
from panicmail.incident.tasks import PUSH
from panicmail.intake.accept import MailAcceptance
from panicmail.intake.reread import LANE as AGAIN
from panicmail.intake.reread import WITHIN as AGAIN_WITHIN
from panicmail.intake.reread import Rereading
from panicmail.intake.understand import Intake
from panicmail.mail.parse.pool import MOST, ParserPool
from panicmail.response.daily_list import DailyList
from panicmail.response.gitlab_activity import ActivityPoll
from panicmail.response.incident_links import IncidentLinks
from panicmail.response.webhooks import LANE, WebhookReceiver
from panicmail.server.http.app import create_app
from panicmail.server.http.backend import LinkBackend
from panicmail.server.http.http_server import WebServer
from panicmail.server.smtp.envelope import Accepted
from panicmail.server.smtp.listeners import SmtpListener, tls_context
from panicmail.store.database import Database
from panicmail.store.leases import Node
from panicmail.store.open_store import signing_keys
from panicmail.store.outbox import LEASE
from panicmail.store.rows import AcceptedMail
from panicmail.store.spool import Spool
from panicmail.store.unit_of_work import Store
from panicmail.store.watermark import WatermarkFile
from panicmail.store.writer import WriterThread

_log = structlog.get_logger()

#: Threads per lane. Pages have two, so that one hanging connection holds up no other page.
THREADS = {"page": 2, "push": 2, "mail": 1, "gitlab": 4}
#: A thread is held by a slow mail only while a reader is.
INTAKE_THREADS = MOST + 2
#: How long understanding one mail may take, in seconds: its reading, and two transactions, which are slow when it is
#: large.
INTAKE_WITHIN = 150.0
#: How often GitLab is asked for signs of work, in seconds.
POLL_SECONDS = 10
#: How long a stop waits for mails being received, in seconds, and then for threads.
DRAIN_SECONDS = 7.0
THREADS_SECONDS = 0.5
WRITER_SECONDS = 1.0


class Daemon:
    """One panicmail, from start to stop."""

    def __init__(self, config: Config, database: Database) -> None:
        self._config = config  #: what the parts are built from; `_in_force` has what a reload read
        self._in_force = LiveConfig(config)
        self._database = database
        self._bell = WorkSignal()
        self._stopping = asyncio.Event()
        self._status = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accepting = False
        self._writer = WriterThread(database, self._broken, self._mark) if database.is_sqlite else None
        self._node = Node(database, woken=self._bell.ring)
        self._store = Store(
            database,
            writer=self._writer,
            operators=lambda: self._in_force.config.operators.page,
            channels=lambda person: self._in_force.settings().channels(person),
            woken=self._bell.ring,
            node=lambda: self._node.name,
            committed=self._mark,
        )
        self._readers = ParserPool()
        self._spool = Spool(config.database.spool)
        self._accounting = Reconciler(self._store, self._in_force.settings)
        self._health = Health(
            self._store, lambda: self._accepting, self._can_write, self._in_spool, lambda: self._accounting.gaps
        )
        self._push = AppriseClient()
        self._pagerduty = PagerDutyClient(config.paging.pagerduty_url)
        self._phones = PushRouter(self._push, self._pagerduty, config.smtp.hostname)
        self._emergency = FallbackPager(
            self._spool, self._in_force.settings, self._readers, self._relay, database.clock, ring=self._ring
        )
        self._watchman = FallbackWatcher(self._emergency)
        self._acceptance = MailAcceptance(
            self._store, self._spool, database.clock, self._health, self._emergency.refused
        )
        self._high_water = WatermarkFile(self._spool.folder.with_suffix(".mark"))
        self._restoring = RestoreGuard(self._store, self._in_force.settings, self._high_water)
        self._duties = self._build_duties()
        self._hooks = self._build_hooks()
        self._workers: list[WorkerThread] = []
        self._looped_at = time.monotonic()  #: when the event loop last came round
        self._watchdog: Watchdog | None = None

    def run(self) -> int:
        """Serve until a signal; answers the exit status."""
        return asyncio.run(self._serve())

    # -- start

    async def _serve(self) -> int:
        self._loop = asyncio.get_running_loop()
        listener = self._build_listener()
        scheduler = self._build_scheduler()
        self._on_signals(listener, scheduler)
        self._say_what_is_odd()
        await asyncio.to_thread(self._in_force.start, signing_keys(self._config, self._store))
        if self._database.is_sqlite:
            self._store.write("leases.release", lambda tx: tx.release_leases())
        self._open_spool()
        self._duties.start()
        self._node.start()
        self._readers.start()
        web = self._build_web()
        try:
            await self._listen(listener, web)
            self._accepting = True
            self._start_workers()
            scheduler.start()
            SchedulerClock(scheduler).start()
            self._watchman.start()
            self._start_watchdog()
            self._announce(listener, web)
            await self._stopping.wait()
        finally:
            await self._stop(listener, web, scheduler)
        return self._status

    def _build_hooks(self) -> WebhookReceiver:
        signs = ActivityPoll(self._store, self._in_force.settings, self._issues())
        project, woken = self._config.gitlab.project, self._bell.ring
        return WebhookReceiver(
            self._store, self._in_force.settings, signs, self._in_force.secrets, project, woken=woken
        )

    def _build_duties(self) -> PeriodicJobs:
        url = self._config.watch.heartbeat_url
        watched = self._store.watched_by(self._emergency.asking)
        return PeriodicJobs(
            store=watched,
            acceptance=self._acceptance,
            timekeeper=ClockGuard(watched, self._database.clock, self._high_water),
            escalation=EscalationTick(watched, self._in_force.settings),
            signs=ActivityPoll(self._store, self._in_force.settings, self._issues()),
            accounting=self._accounting,
            restoring=self._restoring,
            emergency=self._emergency,
            health=self._health,
            heartbeat=Heartbeat(url.get_secret_value() if url else "", "tick"),
            handover=ShiftHandover(self._store, self._in_force.settings),
            daily_list=DailyList(self._store, self._in_force.settings),
            roster_faults=ScheduleFaults(self._store, self._in_force.settings, self._in_force.calendars),
            daily=DailyCheck(self._store, self._in_force.settings, lambda: self._in_force.config),
        )

    async def _listen(self, listener: SmtpListener, web: WebServer) -> None:
        try:
            await listener.start()
            await web.start()
        except OSError as exc:  # a port that is taken, or not for us
            self._status = 1
            hint = "; ss -ltnp names who does, and so does panicmail check" if exc.errno == errno.EADDRINUSE else ""
            raise Mistake(f"{exc.strerror or exc}{hint}") from exc

    def _open_spool(self) -> None:
        """A spool that cannot be written is no reason not to start: the database is what is needed."""
        try:
            self._spool.open()
        except StoreFailed as exc:
            _log.error("spool.failed", reason=str(exc), text="a mail the database does not take will get a 451")
            facts = {"reason": str(exc)}
            self._store.write("tick.alarm", lambda tx: tx.queue.tell_operators("spool_failed", facts))

    def _start_watchdog(self) -> None:
        parts = [
            WatchedPart("tick", lambda: self._duties.came_round_at),
            WatchedPart("event loop", lambda: self._looped_at),
            WatchedPart("readers", self._readers.complete_at),
            WatchedPart("emergency", self._watchman.came_round_at),
            WatchedPart("acceptance", self._acceptance.came_round_at),
            *(WatchedPart(worker.name, worker.came_round_at, worker.within + WITHIN) for worker in self._workers),
        ]
        if self._writer is not None:
            parts.append(WatchedPart("writer", self._writer.came_round_at))
        self._watchdog = Watchdog(parts)
        self._watchdog.start()
        self._beat()

    def _beat(self) -> None:
        """The event loop's own sign of life."""
        crashpoints.point("loop")
        self._looped_at = time.monotonic()
        assert self._loop is not None  # noqa: S101
        self._loop.call_later(1.0, self._beat)

    def _say_what_is_odd(self) -> None:
        for sentence in self._config.warnings:
            _log.warning("config.warning", text=sentence)
        for sentence in self._config.not_yet:
            _log.warning("config.not_yet", text=sentence)
        _log.warning(
            "authentication.off",
            text="senders are not authenticated: an acknowledgement rests on the page's token and the From address",
        )

    def _build_listener(self) -> SmtpListener:
        smtp = self._config.smtp
        return SmtpListener(
            listen=[(listen.host, listen.port) for listen in smtp.listen],
            hostname=smtp.hostname,
            known=lambda recipient: self._in_force.settings().addresses.is_ours(recipient),
            accept=self._accept,
            max_message_size=smtp.max_message_size,
            tls=self._tls(),
        )

    def _tls(self) -> ssl.SSLContext | None:
        smtp = self._config.smtp
        if smtp.tls_cert_file is None or smtp.tls_key_file is None:
            return None
        return tls_context(smtp.tls_cert_file, smtp.tls_key_file)

    def _build_web(self) -> WebServer:
        listen = self._config.web.listen
        backend = LinkBackend(IncidentLinks(self._store, self._in_force.settings), self._health)
        return WebServer(create_app(backend, self._hooks), (listen.host, listen.port))

    def _build_scheduler(self) -> BackgroundScheduler:
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        scheduler = BackgroundScheduler(job_defaults=defaults, timezone="UTC")
        log_skipped_turns(scheduler)
        scheduler.add_job(self._duties.tick, "interval", seconds=1, id="tick", next_run_time=datetime.now(UTC))
        scheduler.add_job(self._duties.empty, "interval", seconds=1, id="empty")
        scheduler.add_job(self._duties.poll, "interval", seconds=POLL_SECONDS, id="signs")
        scheduler.add_job(self._refresh_calendars, "interval", minutes=1, id="calendars")
        scheduler.add_job(self._duties.minute, "interval", minutes=1, id="minute")
        # After a power cut what it looks at comes up by and by, too.
        soon = datetime.now(UTC) + timedelta(minutes=5)
        scheduler.add_job(self._duties.hour, "interval", hours=1, id="hour", next_run_time=soon)
        return scheduler

    def _start_workers(self) -> None:
        intake = Intake(self._store, self._in_force.settings, self._readers)
        self._workers = [
            WorkerThread(f"intake-{n}", "mails", self._bell, intake.work, INTAKE_WITHIN) for n in range(INTAKE_THREADS)
        ]
        rereading = Rereading(self._store, self._in_force.settings, self._readers, intake)
        self._workers += [
            WorkerThread("again-answers", AGAIN, self._bell, rereading.answers, AGAIN_WITHIN),
            WorkerThread("again-reports", AGAIN, self._bell, rereading.amendments, AGAIN_WITHIN),
        ]
        for name, count in THREADS.items():
            # Files go up one after another, each in its own time; what hangs elsewhere shows sooner.
            within = LEASE[name].total_seconds() * (4 if name == "gitlab" else 0.5)
            self._workers += [
                WorkerThread(f"{name}-{n}", name, self._bell, self._lane(name).work, within) for n in range(count)
            ]
        self._workers.append(
            WorkerThread(LANE, LANE, self._bell, self._hooks.work, LEASE["gitlab"].total_seconds() / 2)
        )
        self._health.watch(self._workers)
        for worker in self._workers:
            worker.start()

    def _issues(self) -> Issues:
        gitlab = self._config.gitlab
        return Issues(gitlab.url, gitlab.project, gitlab.token.get_secret_value(), gitlab.labels)

    def _lane(self, name: str) -> OutboxWorker:
        if name == "gitlab":
            return GitLabWorker(self._store, self._in_force.settings, self._issues(), self._readers.parts)
        if name == PUSH:
            return PushWorker(self._store, self._in_force.settings, self._push, self._pagerduty)
        return EmailWorker(name, self._store, self._in_force.settings, self._relay())

    def _ring(self, channel: PushChannel, text: str, about: str) -> str:
        """Reach a phone without the database."""
        return self._phones.ring(channel.url, text, about)

    def _relay(self) -> RelayClient:
        """A connection to the relay, for one thread."""
        url = self._config.relay.url
        password = url.password.get_secret_value() if url.password else None
        return RelayClient(url.host, url.port, url.tls, url.username, password, hostname=self._config.smtp.hostname)

    def _announce(self, listener: SmtpListener, web: WebServer) -> None:
        _log.info(
            "ready",
            smtp=[f"{host}:{port}" for host, port in listener.addresses],
            web="{}:{}".format(*web.address),
            database="sqlite" if self._database.is_sqlite else "postgresql",
        )
        systemd.tell("READY=1")

    # -- at work

    def _accept(self, got: Accepted) -> Future[str]:
        """Make a mail durable; the future answers its REF once it is. The 250 rests on this."""
        mail = AcceptedMail(
            id=ids.new_mail_id(),
            accepted_at=self._database.clock(),
            mail_from=got.mail_from,
            recipients=got.recipients,
            peer=got.peer,
            helo=got.helo,
            tls=got.tls,
            size=len(got.raw),
        )
        return self._acceptance.accept(mail, got.raw)

    def _mark(self, results: Sequence[Any]) -> None:
        """Keep how far the database has come, of what a COMMIT brought, before anybody hears of it."""
        self._restoring.accepted([result for result in results if isinstance(result, AcceptedMail)])

    def _in_spool(self) -> int:
        return len(self._spool.waiting())

    def _can_write(self) -> bool:
        return self._writer is None or self._writer.is_alive

    def _broken(self) -> None:
        """The writer lost its trust in the database. Called from its thread."""
        _log.critical("store.broken", text="what is on disk is not known; panicmail ends, start it again")
        self._status = 1
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    # -- signals

    def _on_signals(self, listener: SmtpListener, scheduler: BackgroundScheduler) -> None:
        assert self._loop is not None  # noqa: S101
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload, listener, scheduler)

    def _reload(self, listener: SmtpListener, scheduler: BackgroundScheduler) -> None:
        """Read the configuration again, the certificates, and then the calendars; a wrong one changes nothing."""
        if self._in_force.reload(lambda new: self._take_certificates(listener, new)) and scheduler.running:
            scheduler.modify_job("calendars", next_run_time=datetime.now(UTC))

    def _take_certificates(self, listener: SmtpListener, new: Config) -> None:
        if new.smtp.tls_cert_file and new.smtp.tls_key_file and self._config.smtp.tls_cert_file:
            listener.reload_tls(new.smtp.tls_cert_file, new.smtp.tls_key_file)

    def _refresh_calendars(self) -> None:
        try:
            self._in_force.refresh()
        except Exception:  # the last good copies answer, and a minute later it is tried again
            _log.exception("calendars.failed")

    # -- stop

    async def _stop(self, listener: SmtpListener, web: WebServer, scheduler: Any) -> None:
        began = time.monotonic()
        systemd.tell("STOPPING=1")
        self._accepting = False
        if self._watchdog is not None:
            self._watchdog.stop()
        # Together: a mail and a request that hang must not add up.
        web_stopped = asyncio.create_task(web.stop())
        await listener.drain(DRAIN_SECONDS)
        await web_stopped
        if scheduler.running:
            scheduler.shutdown(wait=False)
        await asyncio.to_thread(self._stop_threads)
        _log.info("stopped", status=self._status, seconds=round(time.monotonic() - began, 2))

    def _stop_threads(self) -> None:
        self._watchman.stop()
        for worker in self._workers:
            worker.stop()
        until = time.monotonic() + THREADS_SECONDS
        for worker in self._workers:
            if worker.is_alive():
                worker.join(max(0.0, until - time.monotonic()))
        self._node.stop()
        if self._writer is not None:
            self._writer.stop(WRITER_SECONDS)
        # In a thread of its own: a database that hangs must not hold up the end.
        last_mark = threading.Thread(target=self._duties.remember, name="mark", daemon=True)
        last_mark.start()
        last_mark.join(THREADS_SECONDS)
        self._readers.stop()
