"""The recurring duties, as the scheduler calls them. Each catches everything: APScheduler must see no exception.

    tick     once a second: looks at the clock, takes what is due
    empty    once a second: moves what is in the spool into the database, a large mail in its own time
    poll     every 10 seconds: signs of work in GitLab; its list is asked once a minute while nothing is due soon
    minute   the accounting, how far the database has come, shifts that ended, the daily list, gaps in the rosters
             ahead, signing keys that were changed
    hour     every row against what must always be true; once a day every real thing in the configuration, and
             what need not be kept any more

A part of a duty that fails costs the others nothing: its next turn comes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from apscheduler.events import (
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    JobExecutionEvent,
    JobSubmissionEvent,
)
from apscheduler.schedulers.background import BackgroundScheduler

from panicmail import crashpoints
from panicmail.check.daily_check import DailyCheck
from panicmail.daemon import systemd
from panicmail.daemon.calendar_refresh import ScheduleFaults
from panicmail.daemon.watchdog import Health
from panicmail.delivery.fallback import FallbackPager
from panicmail.delivery.heartbeat import Heartbeat
from panicmail.errors import StoreFailed
from panicmail.escalation.reconciler import Reconciler
from panicmail.escalation.restore_guard import ClockGuard, RestoreGuard
from panicmail.escalation.tick import EscalationTick, ShiftHandover
from panicmail.incident.tasks import ALL_LANES
from panicmail.intake.accept import MailAcceptance
from panicmail.intake.reread import LANE as AGAIN
from panicmail.response.daily_list import DailyList
from panicmail.response.gitlab_activity import ActivityPoll
from panicmail.store.mails import LANE as SENDERS
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: So many open incidents, those whose steps come first, are known while the database is away.
KEPT_IN_MEMORY = 100


def _lanes_with_work(tx: Transaction) -> Iterator[str]:
    """Where something is to be done that nobody may have announced: by a command, another node, or because it is due
    only now."""
    if tx.mails.is_any_waiting():
        yield "mails"
    yield from (lane for lane in ALL_LANES if tx.outbox.is_due(lane))
    if any(tx.readings.is_to_be_read(understood=understood) for understood in (False, True)):
        yield AGAIN
    if tx.senders.is_due():
        yield SENDERS


@dataclass(slots=True, kw_only=True)
class PeriodicJobs:
    """What is done again and again, and by whom."""

    store: Store
    acceptance: MailAcceptance
    timekeeper: ClockGuard
    escalation: EscalationTick
    signs: ActivityPoll
    accounting: Reconciler
    restoring: RestoreGuard
    emergency: FallbackPager
    health: Health
    heartbeat: Heartbeat
    handover: ShiftHandover
    daily_list: DailyList
    roster_faults: ScheduleFaults
    daily: DailyCheck
    ring: Callable[[Iterable[str]], None]  #: wakes the threads of lanes that have something to do
    take_keys: Callable[[], object] = lambda: None  #: reads the signing keys again
    erase_due: Callable[[], object] = lambda: None  #: once a day, what need not be kept any more
    came_round_at: float = field(default_factory=time.monotonic)  #: when the tick last came on, in monotonic seconds

    def start(self) -> None:
        """What has to be known before anything is due: is the clock right, is the database the latest.

        Raises:
            StoreFailed: The database does not answer.
        """
        self.timekeeper.start()
        self.restoring.start()

    def tick(self) -> None:
        """Everything that must not wait. A database that is away ends the round, not the ticking."""
        crashpoints.point("tick")
        parts = (self.timekeeper.check_clock, self._let_time_pass)
        done = [self._part_of_tick(part) for part in parts]
        if all(done):
            self.health.ticked()
            self.heartbeat.beat()
        # Without its database panicmail still takes mails and calls people: a restart would only interrupt that.
        systemd.tell("WATCHDOG=1")

    def _part_of_tick(self, part: Callable[[], object]) -> bool:
        done = self._safely("tick.failed", part)
        self.note_progress()
        return done

    def _let_time_pass(self) -> None:
        self.escalation.tick(self.note_progress)
        known, lanes = self.store.read(
            lambda tx: (tx.search.next_open_incidents(KEPT_IN_MEMORY), [*_lanes_with_work(tx)])
        )
        self.emergency.answered(known)
        self.ring(lanes)

    def note_progress(self) -> None:
        self.came_round_at = time.monotonic()
        self.health.came_round()

    def empty(self) -> None:
        self._safely("spool.not_emptied", self.acceptance.take_in)

    def poll(self) -> None:
        self._safely("signs.failed", self.signs.poll)

    def minute(self) -> None:
        self._safely("accounts.failed", self.accounting.reconcile)
        self.remember()
        self._safely("handover.failed", self.handover.tell_changes)
        self._safely("list.failed", self.daily_list.send_due)
        self._safely("rosters.failed", self.roster_faults.tell_operators)
        self._safely("keys.failed", self.take_keys)

    def remember(self) -> None:
        self._safely("copy.failed", self.restoring.remember)

    def hour(self) -> None:
        self._safely("accounts.failed", self.accounting.sweep)
        self._safely("retention.failed", self.erase_due)
        self._safely("check.failed", lambda: self.daily.run(datetime.now(UTC)))

    def _safely(self, event: str, duty: Callable[[], object]) -> bool:
        """Whether it was done."""
        try:
            duty()
        except StoreFailed as exc:
            _log.error(event, reason=str(exc))
            return False
        except Exception:  # its next turn comes
            _log.exception(event)
            return False
        return True


# -- The metronome: keeps the scheduler in time when the wall clock is put back.
#
# APScheduler holds the next turn of each job as an instant of the wall clock. Put back by an hour, it would let the
# tick stand still for that hour. So a thread that knows only CLOCK_MONOTONIC looks once a second, and lets any job
# run now whose next turn lies further ahead than its interval.

_LOOK_EVERY = 1.0


def log_skipped_turns(scheduler: BackgroundScheduler) -> None:
    """Tell of turns that did not take place as events of ours, in place of the library's prose."""
    for name in ("apscheduler.scheduler", "apscheduler.executors.default"):
        logging.getLogger(name).addFilter(_is_other_news)
    scheduler.add_listener(_skipped, EVENT_JOB_MAX_INSTANCES | EVENT_JOB_MISSED)


def _is_other_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(('Execution of job "%s" skipped', 'Run time of job "%s" was missed'))


def _skipped(turn: JobSubmissionEvent | JobExecutionEvent) -> None:
    why = "the one before still runs" if turn.code == EVENT_JOB_MAX_INSTANCES else "its time had passed"
    _log.warning("scheduler.skipped", job=turn.job_id, why=why)


class SchedulerClock(threading.Thread):
    """Looks at the scheduler's jobs once a second. Every job has an interval."""

    def __init__(self, scheduler: BackgroundScheduler) -> None:
        super().__init__(name="metronome", daemon=True)
        self._scheduler = scheduler
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(_LOOK_EVERY):
            try:
                self.bring_forward_late_jobs(datetime.now(UTC))
            except Exception:  # a second later it looks again
                _log.exception("metronome.failed")

    def bring_forward_late_jobs(self, now: datetime) -> None:
        for job in self._scheduler.get_jobs():
            if job.next_run_time is not None and job.next_run_time - now > job.trigger.interval:
                _log.warning("metronome.brought_forward", job=job.id)
                job.modify(next_run_time=now)

    def stop(self) -> None:
        self._stopped.set()
