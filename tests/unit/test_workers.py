"""Threads that wait for work: nothing rung is missed, nothing raised ends them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from panicmail.daemon import worker_threads
from panicmail.daemon.worker_threads import REST, WorkerThread, WorkSignal

#: Long enough for a busy machine, and far longer than anything here takes.
PATIENCE = 10.0
#: Far longer than anything here takes, and less than a worker waits by itself.
AT_ONCE = 5.0

Start = Callable[[Callable[[], bool]], WorkerThread]


@pytest.fixture
def bell() -> WorkSignal:
    return WorkSignal()


@pytest.fixture
def start(bell: WorkSignal) -> Iterator[Start]:
    """Starts a worker on the lane "page"; stopped at the end."""
    workers: list[WorkerThread] = []

    def started(work: Callable[[], bool]) -> WorkerThread:
        workers.append(WorkerThread("page-0", "page", bell, work))
        workers[-1].start()
        return workers[-1]

    yield started
    for worker in workers:
        worker.stop()
        worker.join(PATIENCE)
        assert not worker.is_alive()


def seconds(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


class Looks:
    """Work that remembers when it was looked for, and answers as scripted; nothing to do when the script is over."""

    def __init__(self, *script: Callable[[], bool]) -> None:
        self._script = list(script)
        self._looked = threading.Condition()
        self.at: list[float] = []

    def __call__(self) -> bool:
        with self._looked:
            self.at.append(time.monotonic())
            self._looked.notify_all()
        return self._script.pop(0)() if self._script else False

    def wait_for(self, times: int) -> None:
        with self._looked:
            assert self._looked.wait_for(lambda: len(self.at) >= times, PATIENCE)


def test_a_ring_between_looking_and_waiting_is_not_missed(bell: WorkSignal) -> None:
    seen = bell.count("page")
    bell.ring(["mail", "page"])
    assert seconds(lambda: bell.wait("page", seen, PATIENCE)) < AT_ONCE


def test_a_ring_wakes_one_of_each_group_that_waits_on_that_lane_and_nobody_else(bell: WorkSignal) -> None:
    woken: list[str] = []
    about_to_wait = threading.Semaphore(0)

    def wait(lane: str, group: str) -> None:
        about_to_wait.release()
        bell.wait(lane, 0, PATIENCE, group)
        woken.append(group)

    groups = ["answers", "reports", *["readers-"] * 8]
    threads = [threading.Thread(target=wait, args=["page", group]) for group in groups]
    other = threading.Thread(target=wait, args=["mail", "mail-"])
    for thread in (other, *threads):
        thread.start()
        assert about_to_wait.acquire(timeout=PATIENCE)
    time.sleep(0.05)  # they said so right before they did
    bell.ring(["page"])
    began = time.monotonic()
    while len(woken) < 3 and time.monotonic() - began < AT_ONCE:
        time.sleep(0.01)
    time.sleep(0.05)
    assert sorted(woken) == ["answers", "readers-", "reports"]
    bell.wake_all("page")
    for thread in threads:
        thread.join(PATIENCE)
    assert (sorted(woken), bell.count("mail")) == (sorted(groups), 0)
    bell.ring(["mail"])
    other.join(PATIENCE)
    assert woken[-1] == "mail-"


def test_work_that_is_rung_while_the_worker_looks_is_done_at_once(bell: WorkSignal, start: Start) -> None:
    def rung_meanwhile() -> bool:
        bell.ring(["page"])
        return False

    looks = Looks(rung_meanwhile)
    start(looks)
    looks.wait_for(2)
    assert looks.at[1] - looks.at[0] < AT_ONCE


def test_while_there_is_something_the_worker_does_not_wait(start: Start) -> None:
    looks = Looks(*[lambda: True] * 200)
    start(looks)
    looks.wait_for(201)
    assert looks.at[200] - looks.at[0] < AT_ONCE


def test_work_nobody_announced_is_found_after_a_while(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "LOOK_EVERY", 0.2)
    looks = Looks()
    start(looks)
    looks.wait_for(2)
    assert looks.at[1] - looks.at[0] >= 0.18


def test_a_worker_that_sleeps_for_want_of_work_is_no_hanging_one(start: Start) -> None:
    looks = Looks()
    worker = start(looks)
    looks.wait_for(1)
    asked_at = time.monotonic()
    while worker.came_round_at() < asked_at:
        time.sleep(0.001)  # it is about to sleep
    assert worker.looked_at < asked_at


def test_an_exception_in_its_work_does_not_end_the_worker_and_it_rests_first(bell: WorkSignal, start: Start) -> None:
    def fails() -> bool:
        bell.ring(["page"])
        raise RuntimeError("one bad row")

    looks = Looks(fails)
    worker = start(looks)
    looks.wait_for(2)
    assert looks.at[1] - looks.at[0] >= 0.9 * REST
    assert worker.is_alive()


def test_stop_ends_a_worker_that_waits_at_once(start: Start) -> None:
    looks = Looks()
    worker = start(looks)
    looks.wait_for(1)
    worker.stop()
    assert seconds(lambda: worker.join(PATIENCE)) < AT_ONCE
    assert not worker.is_alive()


def test_stop_ends_a_worker_that_has_more_and_more_to_do_after_what_it_is_doing(start: Start) -> None:
    done: list[int] = []
    busy, go_on = threading.Event(), threading.Event()

    def work() -> bool:
        busy.set()
        assert go_on.wait(PATIENCE)
        done.append(1)
        return True

    worker = start(work)
    assert busy.wait(PATIENCE)
    worker.stop()
    go_on.set()
    worker.join(PATIENCE)
    assert (worker.is_alive(), done) == (False, [1])


def test_a_worker_says_before_each_look_when_it_came_round_so_that_one_that_hangs_shows(bell: WorkSignal) -> None:
    said: list[float] = []

    def say() -> bool:
        said.append(worker.looked_at)
        return True

    looks = Looks(say, say)
    worker: WorkerThread = WorkerThread("page-0", "page", bell, looks)
    worker.start()
    looks.wait_for(3)
    worker.stop()
    worker.join(PATIENCE)
    assert said[0] <= looks.at[0] <= said[1] <= looks.at[1] <= worker.looked_at
