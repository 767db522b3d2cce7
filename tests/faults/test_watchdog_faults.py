"""Row 37: a part of the daemon stops coming round; the watchdog ends the whole, for a restart."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.acts import accounted_for, start_again
from tests.program import World, world

#: Where a part hangs, and what the watchdog calls it. The writer first writes what a start needs.
PARTS = {"tick": "tick", "loop:2": "event loop", "writer:8": "writer"}
#: Fifteen seconds of silence, one to look, and a busy machine.
WITHIN = 15 + 1 + 9


def hang(town: World, point: str) -> float:
    """A daemon that hangs at a point; when it was still well."""
    town.environ["PANICMAIL_HANG_AT"] = point
    town.start()
    del town.environ["PANICMAIL_HANG_AT"]
    return time.monotonic()


@pytest.mark.row(37, "the tick, the event loop or the writer hangs", "the watchdog ends the daemon in 15 s")
@pytest.mark.long
def test_a_part_that_hangs_ends_the_daemon_within_fifteen_seconds_and_the_next_one_pages(tmp_path: Path) -> None:
    with ExitStack() as stack:
        towns = {}
        for point in PARTS:
            (tmp_path / point).mkdir()
            towns[point] = stack.enter_context(world(tmp_path / point, expects=["watchdog.bit", "intake.again"]))
        # All at once: it is a long wait.
        began = {point: hang(town, point) for point, town in towns.items()}
        towns["writer:8"].panic()  # a daemon with nothing to do writes nothing
        for point, town in towns.items():
            assert town.program.ended(30) == 1
            bit_at, facts = town.program.wait_for("watchdog.bit")
            assert facts["stopped"].startswith(PARTS[point]), facts["stopped"]
            assert facts["level"] == "critical"
            assert bit_at - began[point] < WITHIN
        town = towns["tick"]
        town.start()
        accounted_for(town, [town.panic()])


@pytest.mark.row(37, "a thread that sends pages hangs", "the others go on; ended; sent by the next start", long=True)
@pytest.mark.timeout(120)
def test_a_page_that_hangs_for_ever_is_sent_by_the_next_daemon(tmp_path: Path) -> None:
    with world(tmp_path, expects=["watchdog.bit"]) as town:
        town.environ["PANICMAIL_HANG_AT"] = "page.sending"
        town.start()
        refs = [town.panic("it hangs")]
        refs.append(town.panic("the other thread sends this"))
        town.page("ana", refs[1])
        assert town.program.ended(90) == 1
        assert town.program.wait_for("watchdog.bit")[1]["stopped"].startswith("page-")
        del town.environ["PANICMAIL_HANG_AT"]
        start_again(town)
        accounted_for(town, refs)
