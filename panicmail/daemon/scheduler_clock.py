"""The metronome: keeps the scheduler in time when the wall clock is put back.

APScheduler holds the next turn of each job as an instant of the wall clock. Put back by an hour, it would let the
tick stand still for that hour. So a thread that knows only CLOCK_MONOTONIC looks once a second, and lets any job run
now whose next turn lies further ahead than its interval.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

import structlog
from apscheduler.events import (
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    JobExecutionEvent,
    JobSubmissionEvent,
)
from apscheduler.schedulers.background import BackgroundScheduler

_log = structlog.get_logger()

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
