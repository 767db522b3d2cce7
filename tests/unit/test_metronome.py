"""The scheduler keeps its time when the wall clock does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from panicmail.daemon.periodic import SchedulerClock

HOUR = timedelta(hours=1)


@pytest.fixture
def ticked() -> Iterator[tuple[BackgroundScheduler, threading.Semaphore]]:
    """A scheduler whose tick is due in an hour, as after a wall clock put back; and its ticks."""
    scheduler, ticks = BackgroundScheduler(timezone="UTC"), threading.Semaphore(0)
    later = datetime.now(UTC) + HOUR
    scheduler.add_job(ticks.release, "interval", seconds=1, id="tick", next_run_time=later)
    scheduler.add_job(ticks.release, "interval", hours=2, id="hour", next_run_time=later)
    scheduler.start()
    yield scheduler, ticks
    scheduler.shutdown()


def test_a_job_whose_turn_lies_further_ahead_than_its_interval_runs_now_and_no_other(
    ticked: tuple[BackgroundScheduler, threading.Semaphore],
) -> None:
    scheduler, ticks = ticked
    SchedulerClock(scheduler).bring_forward_late_jobs(datetime.now(UTC))
    assert ticks.acquire(timeout=30)
    assert scheduler.get_job("hour").next_run_time > datetime.now(UTC) + HOUR / 2


def test_it_goes_on_ticking_by_itself_from_there(ticked: tuple[BackgroundScheduler, threading.Semaphore]) -> None:
    scheduler, ticks = ticked
    metronome = SchedulerClock(scheduler)
    metronome.start()
    for _ in range(3):
        assert ticks.acquire(timeout=30)
    metronome.stop()
    metronome.join(30)
