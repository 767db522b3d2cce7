"""The metronome: keeps the scheduler in time when the wall clock is put back.

APScheduler holds the next turn of each job as an instant of the wall clock. Put back by an hour, it would let the
tick stand still for that hour. So a thread that knows only CLOCK_MONOTONIC looks once a second, and lets any job run
now whose next turn lies further ahead than its interval.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

_log = structlog.get_logger()

_LOOK_EVERY = 1.0


class Metronome(threading.Thread):
    """Looks at the scheduler's jobs once a second. Every job has an interval."""

    def __init__(self, scheduler: BackgroundScheduler) -> None:
        super().__init__(name="metronome", daemon=True)
        self._scheduler = scheduler
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(_LOOK_EVERY):
            try:
                self.look(datetime.now(UTC))
            except Exception:  # a second later it looks again
                _log.exception("metronome.failed")

    def look(self, now: datetime) -> None:
        for job in self._scheduler.get_jobs():
            if job.next_run_time is not None and job.next_run_time - now > job.trigger.interval:
                _log.warning("metronome.brought_forward", job=job.id)
                job.modify(next_run_time=now)

    def stop(self) -> None:
        self._stopped.set()
