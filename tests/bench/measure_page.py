"""From the end of DATA to the page, what it costs, and many at once."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.figures import Goal, Line, milliseconds, p50_p99, percentile
from tests.bench.load import Load, Sent, send_apart
from tests.bench.proc import cpu_seconds
from tests.bench.town import ONE_BY_ONE, Pages, bench_world, instant, logged, paged_at, panic, settle
from tests.program import World

#: The stages of a page: from the one before to this one.
STAGES = ("committed", "understood", "claimed", "taken", "settled")


def page(quick: bool) -> Iterator[Line]:
    """One panic after another, each of a person of their own, when all of the one before is done."""
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder), ONE_BY_ONE) as town:
        town.start()
        pages = Pages(town)
        took, sent, stages = [], [], []
        for number in range(5 if quick else 105):
            one = panic(town, number)
            came = pages.of(one.canary)
            settle(town)
            if number >= 5 or quick:  # the first ones warm it up
                took.append(came.received_at - one.dot_at)
                sent.append(one)
                stages.append(_stages(town, one, came.at.timestamp()))
        middle = {stage: statistics.median(each[stage] for each in stages) for stage in STAGES}
        told = ", ".join(f"{stage} {milliseconds(seconds)}" for stage, seconds in middle.items())
    p50, p99 = percentile(took, 0.5) * 1000, percentile(took, 0.99) * 1000
    yield Line("page", "end of DATA to page taken by the relay, p50, at rest", f"{p50:,.0f} ms; stages: {told}", p50,
               Goal(20, 10, " ms"))  # fmt: skip
    yield Line("page_p99", "the same, p99", f"{p99:,.0f} ms, the longest {max(took) * 1000:,.0f} ms", p99,
               Goal(60, 30, " ms"))  # fmt: skip
    yield Line("page_reply", "end of DATA to 250 meanwhile", p50_p99([each.took for each in sent]))


def _stages(town: World, sent: Sent, taken_at: float) -> dict[str, float]:
    """How long each stage of one page took, in seconds."""
    ((incident, claimed_at),) = town.rows(
        "SELECT o.incident_id, o.unsure_at FROM outbox o JOIN incidents i ON i.id = o.incident_id"
        " WHERE o.do = 'page' AND i.subject LIKE ?", f"%{sent.canary}%")  # fmt: skip
    dot_at = sent.dot_at + time.time() - time.monotonic()
    at = [dot_at, *(_logged_at(town, event, incident) for event in ("mail.accepted", "mail.understood")),
          instant(claimed_at), taken_at, _logged_at(town, "page.sent", incident)]  # fmt: skip
    return {stage: at[number + 1] - at[number] for number, stage in enumerate(STAGES)}


def _logged_at(town: World, event: str, incident: str) -> float:
    """When an event was logged about an incident; its mail's id begins with the incident's."""
    for facts in reversed(logged(town, event)):
        if str(facts.get("incident") or facts["mail"]).startswith(incident):
            return instant(facts["timestamp"])
    raise LookupError(f"no {event} of {incident}")


def cpu(quick: bool) -> Iterator[Line]:
    """Panics at an even pace; what an idle daemon uses meanwhile is taken off."""
    number, pace = (10, 0.2) if quick else (100, 0.25)
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder), ONE_BY_ONE) as town:
        pid = town.start().pid
        for each in range(3):
            panic(town, each, tag="warm")
        settle(town)
        time.sleep(2)
        idle = _used(pid, lambda: time.sleep(3 if quick else 10))
        used = _used(pid, lambda: _paced(town, number, pace))
    each_one = (used[0] - idle[0] / idle[1] * used[1]) / number * 1000
    yield Line("cpu", "CPU a panic through the whole chain, issue and receipt included", f"{each_one:.0f} ms",
               each_one, Goal(50, 25, " ms"))  # fmt: skip


def _paced(town: World, number: int, pace: float) -> None:
    for each in range(number):
        panic(town, each)
        time.sleep(pace)
    settle(town)


def _used(pid: int, act: Callable[[], object]) -> tuple[float, float]:
    """CPU and time that passed during an act, in seconds."""
    before, began = cpu_seconds(pid), time.monotonic()
    act()
    return cpu_seconds(pid) - before, time.monotonic() - began


def burst(quick: bool) -> Iterator[Line]:
    """Panics of as many people, all at once. `digest_every` bounds how soon the last one is named in a digest."""
    number = 50 if quick else 200
    what = f"{number} panics of {number} people at once: last issue and page after"
    figure, text = _burst(number, ONE_BY_ONE)
    yield Line("burst", f"{what}, a page each", text, figure, Goal(10, 5, " s"))
    if quick:
        return  # it waits for digests
    _, text = _burst(number, None)
    yield Line("burst_digests", f"{what}, pages bundled every 30 s", text)


def _burst(number: int, storm: dict[str, Any] | None) -> tuple[float, str]:
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder), storm) as town:
        pid = town.start().pid
        panic(town, 0, tag="warm")
        settle(town)
        used = cpu_seconds(pid)
        sent = send_apart(Load(town.smtp_address[1], number, sessions=number, size=2048)).sent
        began = min(each.dot_at for each in sent) + time.time() - time.monotonic()
        settle(town, 120)
        used = cpu_seconds(pid) - used
        paged, issues = paged_at(town, "ana"), logged(town, "issue.opened")
    page_after, issue_after = max(paged.values()) - began, max(instant(each["timestamp"]) for each in issues) - began
    text = (
        f"last issue {issue_after:.1f} s, last page {page_after:.1f} s; {number + 1 - len(paged)} not paged,"
        f" {number + 1 - len(issues)} without an issue; CPU a panic {used / number * 1000:.0f} ms"
    )
    return max(page_after, issue_after), text
