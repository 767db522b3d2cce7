"""The watchdog: whatever stopped ends the process, loudly; what is only slow, or was stopped from outside, does not."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from panicmail.daemon import watchdog
from panicmail.daemon.watchdog import WITHIN, Watchdog, WatchedPart, stacks
from panicmail.delivery.fallback import FallbackPager, FallbackWatcher
from panicmail.delivery.fallback.fallback_pages import Reaches
from panicmail.intake import accept
from panicmail.intake.accept import MailAcceptance
from panicmail.store.spool import Spool
from tests.cast import T0
from tests.office import InProcess, Office
from tests.program import Program, world

#: A busy machine may take so long for what takes a moment, in seconds.
SOON = 30.0


@dataclass
class Clockwork:
    """A part as the watchdog sees it, and the watchdog, on a monotonic clock the test moves."""

    came_round_at: float = 1000.0
    now: float = 1000.0

    def watched(self, monkeypatch: pytest.MonkeyPatch, within: float = WITHIN) -> Watchdog:
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        dog = Watchdog([WatchedPart("tick", lambda: self.came_round_at, within)], bite=_never)
        monkeypatch.undo()
        return dog

    def look(self, dog: Watchdog, seconds: float, *, lives: bool = False) -> list[str]:
        """What it finds after so long, looking once a second as it does."""
        silent: list[str] = []
        for _ in range(int(seconds)):
            self.now += 1
            if lives:
                self.came_round_at = self.now
            silent = dog.silent(self.now)
            if silent:
                break
        return silent


def _never(what: str) -> None:
    raise AssertionError(what)


# -- who is silent


def test_a_part_that_comes_round_is_left_alone_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Clockwork()
    assert part.look(part.watched(monkeypatch), 1000, lives=True) == []


def test_a_part_may_be_silent_for_as_long_as_it_may_and_not_a_second_more(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Clockwork()
    dog = part.watched(monkeypatch)
    assert part.look(dog, WITHIN) == []
    assert part.look(dog, 1) == ["tick (16 s)"]
    slow = Clockwork()
    assert slow.look(slow.watched(monkeypatch, within=60.0), 60) == []


def test_silence_is_counted_from_the_last_time_it_came_round(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Clockwork()
    dog = part.watched(monkeypatch)
    for _ in range(5):
        assert part.look(dog, WITHIN) == []
        part.came_round_at = part.now
    assert part.look(dog, WITHIN) == []
    assert part.look(dog, 1) == ["tick (16 s)"]


def test_a_process_that_was_stopped_as_a_whole_gives_every_part_its_full_time_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = Clockwork()
    dog = part.watched(monkeypatch)
    assert part.look(dog, WITHIN) == []
    part.now += 600  # SIGSTOP
    assert dog.silent(part.now) == []
    assert part.look(dog, WITHIN) == []
    assert part.look(dog, 1) == ["tick (631 s)"], "and no more than that"


def test_a_watchdog_that_is_a_little_late_itself_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Clockwork()
    dog = part.watched(monkeypatch)
    found: list[str] = []
    while not found and part.now < 1100:
        part.now += 3.5
        found = dog.silent(part.now)
    assert found == ["tick (18 s)"]


def test_a_dead_part_is_found_within_seconds_whatever_its_silence_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Clockwork(came_round_at=-math.inf)
    dog = part.watched(monkeypatch, within=135.0)
    assert part.look(dog, 2) == [], "it may be ending the daemon in good order"
    assert part.look(dog, 1) == ["tick (ended)"]


def test_a_part_that_lives_again_is_not_held_to_its_earlier_death(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Clockwork(came_round_at=-math.inf)
    dog = part.watched(monkeypatch)
    for _ in range(10):
        assert part.look(dog, 1) == []
        part.came_round_at = part.now
        assert part.look(dog, 1) == []
        part.came_round_at = -math.inf


def test_a_part_that_cannot_be_asked_is_a_dead_one_and_the_others_are_still_watched() -> None:
    def broken() -> float:
        raise RuntimeError("out of order")

    dog = Watchdog(
        [WatchedPart("broken", broken), WatchedPart("silent", lambda: 1.0), WatchedPart("well", lambda: math.inf)],
        bite=_never,
    )
    now = time.monotonic()
    with structlog.testing.capture_logs() as logged:
        found = [dog.silent(now + second) for second in range(17)]
    assert found[2] == ["broken (ended)"]
    assert [said.split()[0] for said in found[16]] == ["broken", "silent"]
    assert {line["event"] for line in logged} == {"watchdog.cannot_ask"}


# -- the bite


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at once, not once a second."""
    monkeypatch.setattr(watchdog, "_LOOK_EVERY", 0.001)
    monkeypatch.setattr(watchdog, "_ENDED_WITHIN", 0.0)


@pytest.mark.usefixtures("hasty")
def test_it_bites_once_with_everything_that_stopped() -> None:
    bites: list[str] = []
    parts = [
        WatchedPart("writer", lambda: -math.inf),
        WatchedPart("well", lambda: math.inf),
        WatchedPart("page-0", lambda: -math.inf),
    ]
    dog = Watchdog(parts, bites.append)
    dog.start()
    dog.join(SOON)
    assert not dog.is_alive()
    assert bites == ["writer (ended), page-0 (ended)"]


@pytest.mark.usefixtures("hasty")
def test_once_the_daemon_stops_in_good_order_it_bites_nobody() -> None:
    bites: list[str] = []
    looked = threading.Event()

    def dies() -> float:
        looked.set()
        stopped.wait(SOON)
        return -math.inf

    stopped = threading.Event()
    dog = Watchdog([WatchedPart("writer", dies)], bites.append)
    dog.start()
    assert looked.wait(SOON)
    dog.stop()
    stopped.set()
    dog.join(SOON)
    assert (dog.is_alive(), bites) == (False, [])


def test_where_every_thread_stands_is_told_in_places_and_never_in_values() -> None:
    standing, go_on = threading.Event(), threading.Event()

    def stand(secret: str) -> None:
        standing.set()
        go_on.wait(SOON)
        assert secret

    threads = [threading.Thread(target=stand, args=("kept to itself",), name="twins") for _ in range(2)]
    for thread in threads:
        thread.start()
    assert standing.wait(SOON)
    try:
        told = stacks()
    finally:
        go_on.set()
        for thread in threads:
            thread.join()
    place = r"[\w<> .-]+:\d+"
    assert len(told["twins"]) == 2
    assert all(re.fullmatch(rf"{place}( < {place}){{0,3}}", stack) for each in told.values() for stack in each)
    assert all("test_watchdog.py:" in stack for stack in told["twins"])
    assert "kept to itself" not in str(told)


LAST_WORDS = """
import sys, threading
from panicmail import log
from panicmail.daemon import watchdog

class Hangs:
    isatty = lambda self: False
    flush = lambda self: None

    def fileno(self):
        raise ValueError("no descriptor")

    def write(self, text):
        print("hangs", flush=True)
        threading.Event().wait()

log.configure("json", stream=Hangs() if sys.argv[1:] else sys.stderr)
watchdog._LOOK_EVERY, watchdog._ENDED_WITHIN, watchdog._LAST_WORDS_WITHIN = 0.01, 0.0, 0.5
dog = watchdog.Watchdog([watchdog.WatchedPart("writer", lambda: float("-inf"))])
dog.start()
threading.Event().wait(30)
"""


def test_the_process_ends_with_1_after_its_last_words() -> None:
    ran = subprocess.run([sys.executable, "-c", LAST_WORDS], capture_output=True, text=True, timeout=20, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    (line,) = ran.stderr.splitlines()
    assert '"stopped": "writer (ended)"' in line
    assert '"MainThread": ["threading.py:' in line


def test_the_process_ends_with_1_without_its_last_words_when_the_log_hangs() -> None:
    command = [sys.executable, "-c", LAST_WORDS, "hangs"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "hangs\n", "")


# -- parts that tell of themselves


class Deaf:
    """Hears nothing."""

    def stored(self) -> None: ...
    def spooled(self) -> None: ...
    def not_stored(self, reason: str) -> None: ...


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whoever_watches_the_time_of_senders_comes_round_with_nothing_to_do(
    desk: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "LOOK_EVERY", 0.005)
    real = MailAcceptance(desk.store, Spool(tmp_path), lambda: T0, Deaf(), print)
    before = time.monotonic()
    assert eventually(lambda: real.came_round_at() > before)

    def fail(_self: MailAcceptance) -> list[object]:
        raise SystemExit

    monkeypatch.setattr(MailAcceptance, "_whose_time_is_up", fail)
    with real._arrived:  # as for the next one who comes
        real._arrived.notify()
    assert eventually(lambda: real.came_round_at() == -math.inf), "and is dead when it is"


def test_the_watchman_of_the_emergency_comes_round_and_a_look_that_hangs_shows(
    desk: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> Reaches:
        raise AssertionError

    emergency = FallbackPager(Spool(tmp_path), lambda: desk.settings, InProcess(), nobody, lambda: T0)
    monkeypatch.setattr("panicmail.delivery.fallback.fallback_pager.LOOK_EVERY", 0.001)
    watchman = FallbackWatcher(emergency)
    assert watchman.came_round_at() == -math.inf
    watchman.start()
    before = time.monotonic()
    assert eventually(lambda: watchman.came_round_at() > before)
    hanging, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        go_on.wait(SOON)

    monkeypatch.setattr(emergency, "call_who_is_due", hang)
    assert hanging.wait(SOON)
    stands_at = watchman.came_round_at()
    time.sleep(0.02)
    assert watchman.came_round_at() == stands_at
    watchman.stop()
    go_on.set()
    watchman.join(SOON)
    assert watchman.came_round_at() == -math.inf


def eventually(question: Callable[[], object]) -> bool:
    ends_at = time.monotonic() + SOON
    while not question():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.005)
    return True


# -- the program itself

#: Each test here takes as long as a part may be silent.
LONG = pytest.mark.skipif(os.environ.get("PANICMAIL_FAULTS") != "long", reason="15 s each; PANICMAIL_FAULTS=long")


def test_a_tick_that_hangs_ends_the_program_with_1_and_until_then_a_panic_is_paged(tmp_path: Path) -> None:
    with world(tmp_path, expects=["watchdog.bit"]) as town:
        town.environ = {"PANICMAIL_HANG_AT": "tick:3"}
        program = town.start()
        began = time.monotonic()
        town.page("ana", town.panic())
        assert program.ended(2 * WITHIN) == 1
        assert time.monotonic() - began > WITHIN - 2, "it bit too soon"
        bitten = bite_of(program)
        assert re.fullmatch(r"tick \(1[56] s\)", bitten["stopped"])
        assert "MainThread" in bitten["stacks"]


@LONG
@pytest.mark.parametrize(
    ("point", "stopped"), [("writer:12", "writer"), ("loop:2", "event loop"), ("reader", "intake")]
)
def test_whatever_else_hangs_ends_the_program_too_and_the_next_start_does_what_was_left(
    tmp_path: Path, point: str, stopped: str
) -> None:
    expected = ["watchdog.bit", "mail.spooled", "emergency.calls", "intake.again", "tick.failed"]
    with world(tmp_path, expects=expected) as town:
        town.environ = {"PANICMAIL_HANG_AT": point}
        program = town.start()
        refs = [town.panic(f"number {number}") for number in range(3)] if stopped != "event loop" else []
        assert program.ended(90) == 1
        assert stopped in bite_of(program)["stopped"]
        town.environ = {}
        town.start()
        for ref in [*refs, town.panic("after")]:
            town.page("ana", ref)
            town.issue(ref, 40)
        town.settled(40)


def bite_of(program: Program) -> dict[str, Any]:
    """Its last words."""
    (bitten,) = [facts for _, facts in program.events if facts["event"] == "watchdog.bit"]
    return bitten
