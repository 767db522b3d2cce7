"""The daemon: built once, started in order, stopped in order.

It owns signals, sockets and threads, and is the only place that knows APScheduler, which does nothing here but tick.

    main thread      the event loop: server/smtp and server/http
    writer           all writes to SQLite
    intake           threads that understand accepted mails: more than there are readers, so that slow mails cannot
                     hold all of them
    again            two threads that read again what could not be read at first: one for answers, one for all else
    page, push, mail threads that send; pages and pushes have two of their own
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
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from panicmail import crashpoints
from panicmail.config import Config
from panicmail.daemon import systemd
from panicmail.daemon.parts import DaemonParts
from panicmail.daemon.periodic import SchedulerClock, log_skipped_turns
from panicmail.daemon.watchdog import WITHIN, Watchdog, WatchedPart
from panicmail.daemon.worker_threads import WorkerThread
from panicmail.errors import Mistake, StoreFailed
from panicmail.server.http.http_server import WebServer
from panicmail.server.smtp.listeners import SmtpListener
from panicmail.store.database import Database
from panicmail.store.open_store import signing_keys

_log = structlog.get_logger()

#: A thread that waits for the interpreter has it after so many seconds. The event loop waits at each of its turns while
#: the others are at work; with the 5 ms of Python itself a sender would wait longer for that than for the disk.
SWITCH_SECONDS = 0.0005
#: How often GitLab is asked for signs of work, in seconds.
POLL_SECONDS = 10
#: How long a stop waits for mails being received, in seconds, and then for threads.
DRAIN_SECONDS = 7.0
THREADS_SECONDS = 0.5
WRITER_SECONDS = 1.0


class Daemon:
    """One panicmail, from start to stop."""

    def __init__(self, config: Config, database: Database) -> None:
        self._stopping = asyncio.Event()
        self._status = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accepting = False
        self._parts = DaemonParts(config, database, self._broken, lambda: self._accepting)
        self._workers: list[WorkerThread] = []
        self._looped_at = time.monotonic()  #: when the event loop last came round
        self._watchdog: Watchdog | None = None

    def run(self) -> int:
        """Serve until a signal; answers the exit status."""
        sys.setswitchinterval(SWITCH_SECONDS)
        return asyncio.run(self._serve())

    # -- start

    async def _serve(self) -> int:
        self._loop = asyncio.get_running_loop()
        listener = self._parts.build_listener(systemd.take_sockets())
        scheduler = self._build_scheduler()
        self._on_signals(scheduler)
        self._say_what_is_odd()
        await asyncio.to_thread(self._parts.live.start, signing_keys(self._parts.config, self._parts.store))
        if self._parts.database.is_sqlite:
            self._parts.store.write("leases.release", lambda tx: tx.release_leases())
        self._open_spool()
        self._parts.jobs.start()
        self._parts.node.start()
        self._parts.readers.start()
        web = self._parts.build_web()
        try:
            await self._listen(listener, web)
            self._accepting = True
            self._start_workers()
            scheduler.start()
            SchedulerClock(scheduler).start()
            self._parts.watchman.start()
            self._start_watchdog()
            self._announce(listener, web)
            await self._stopping.wait()
        finally:
            await self._stop(listener, web, scheduler)
        return self._status

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
            self._parts.spool.open()
        except StoreFailed as exc:
            _log.error("spool.failed", reason=str(exc), text="a mail the database does not take will get a 451")
            facts = {"reason": str(exc)}
            self._parts.store.write("tick.alarm", lambda tx: tx.queue.tell_operators("spool_failed", facts))

    def _start_watchdog(self) -> None:
        parts = [
            WatchedPart("tick", lambda: self._parts.jobs.came_round_at),
            WatchedPart("event loop", lambda: self._looped_at),
            WatchedPart("readers", self._parts.readers.complete_at),
            WatchedPart("emergency", self._parts.watchman.came_round_at),
            WatchedPart("acceptance", self._parts.acceptance.came_round_at),
            *(WatchedPart(worker.name, worker.came_round_at, worker.within + WITHIN) for worker in self._workers),
        ]
        if self._parts.writer is not None:
            parts.append(WatchedPart("writer", self._parts.writer.came_round_at))
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
        for sentence in self._parts.config.warnings:
            _log.warning("config.warning", text=sentence)
        if self._parts.config.authentication.method == "none":
            rests = "an acknowledgement rests on the page's token and the From address"
            _log.warning("authentication.off", text=f"senders are not checked: {rests}")

    def _build_scheduler(self) -> BackgroundScheduler:
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        scheduler = BackgroundScheduler(job_defaults=defaults, timezone="UTC")
        log_skipped_turns(scheduler)
        scheduler.add_job(self._parts.jobs.tick, "interval", seconds=1, id="tick", next_run_time=datetime.now(UTC))
        scheduler.add_job(self._parts.jobs.empty, "interval", seconds=1, id="empty")
        scheduler.add_job(self._parts.jobs.poll, "interval", seconds=POLL_SECONDS, id="signs")
        scheduler.add_job(self._refresh_calendars, "interval", minutes=1, id="calendars")
        scheduler.add_job(self._renew_certificates, "interval", minutes=1, id="certificates")
        scheduler.add_job(self._parts.jobs.minute, "interval", minutes=1, id="minute")
        # After a power cut what it looks at comes up by and by, too.
        soon = datetime.now(UTC) + timedelta(minutes=5)
        scheduler.add_job(self._parts.jobs.hour, "interval", hours=1, id="hour", next_run_time=soon)
        return scheduler

    def _start_workers(self) -> None:
        self._workers = self._parts.build_workers()
        self._parts.health.watch(self._workers)
        for worker in self._workers:
            worker.start()

    def _announce(self, listener: SmtpListener, web: WebServer) -> None:
        _log.info(
            "ready",
            smtp=listener.places,
            web="{}:{}".format(*web.address),
            database="sqlite" if self._parts.database.is_sqlite else "postgresql",
        )
        systemd.tell("READY=1")

    def _broken(self) -> None:
        """The writer lost its trust in the database. Called from its thread."""
        _log.critical("store.broken", text="what is on disk is not known; panicmail ends, start it again")
        self._status = 1
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    # -- signals

    def _on_signals(self, scheduler: BackgroundScheduler) -> None:
        assert self._loop is not None  # noqa: S101
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload, scheduler)

    def _reload(self, scheduler: BackgroundScheduler) -> None:
        """Read the configuration again, the certificates, and then the calendars; a wrong one changes nothing."""
        if self._parts.live.reload(self._parts.listeners.take_certificates) and scheduler.running:
            scheduler.modify_job("calendars", next_run_time=datetime.now(UTC))

    def _renew_certificates(self) -> None:
        """Where the handshakes are: the event loop's thread."""
        assert self._loop is not None  # noqa: S101
        self._loop.call_soon_threadsafe(self._parts.listeners.renew_certificates)

    def _refresh_calendars(self) -> None:
        try:
            self._parts.live.refresh()
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
        self._parts.watchman.stop()
        for worker in self._workers:
            worker.stop()
        until = time.monotonic() + THREADS_SECONDS
        for worker in self._workers:
            if worker.is_alive():
                worker.join(max(0.0, until - time.monotonic()))
        self._parts.node.stop()
        if self._parts.writer is not None:
            self._parts.writer.stop(WRITER_SECONDS)
        # In a thread of its own: a database that hangs must not hold up the end.
        last_mark = threading.Thread(target=self._parts.jobs.remember, name="mark", daemon=True)
        last_mark.start()
        last_mark.join(THREADS_SECONDS)
        self._parts.readers.stop()
