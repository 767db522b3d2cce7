"""Spans of time, and those in which panicmail could not have paged anybody. Pure; in seconds of the run.

Downtime is when no node lives (running, past `ready`, not stopped), when the relay refuses or hangs, or when the
database is away. GitLab being away is none: paging waits for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from tests.checker.history import Event

Span = tuple[float, float]

#: The faults that are downtime while they last, by what their names begin with.
DOWN_WHILE = ("relay.", "database.")


def union(spans: Iterable[Span]) -> list[Span]:
    """The same time, in order and without overlaps."""
    joined: list[Span] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif begin < end:
            joined.append((begin, end))
    return joined


def complement(spans: Iterable[Span], begin: float, end: float) -> list[Span]:
    """What of [begin, end] is in none of the spans."""
    free, at = [], begin
    for first, last in union(spans):
        if first > at:
            free.append((at, min(first, end)))
        at = max(at, last)
    return [(first, last) for first, last in [*free, (at, end)] if first < last]


class Downtime:
    """When nobody could have been paged."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.spans: Sequence[Span] = union(spans)

    def uptime(self, begin: float, end: float) -> float:
        """Seconds between two instants, downtime taken off."""
        down = sum(max(0.0, min(last, end) - max(first, begin)) for first, last in self.spans)
        return max(0.0, end - begin - down)

    def deadline(self, begin: float, seconds: float) -> float:
        """The instant at which `seconds` without downtime have passed since `begin`."""
        at, left = begin, seconds
        for first, last in self.spans:
            if last <= at:
                continue
            if first - at >= left:
                break
            left -= max(0.0, first - at)
            at = last
        return at + left


def downtime(events: Sequence[Event], ends_at: float) -> Downtime:
    """Of a whole history, which ended at `ends_at`."""
    nodes = sorted((e for e in events if e.process.startswith("node-")), key=lambda e: (e.process, e.at))
    live = [span for _, own in groupby(nodes, lambda e: e.process) for span in _live(list(own), ends_at)]
    away = [span for name, span in faults(events, ends_at) if name.startswith(DOWN_WHILE)]
    return Downtime([*complement(live, 0.0, ends_at), *away])


def faults(events: Iterable[Event], ends_at: float) -> list[tuple[str, Span]]:
    """What the nemesis did, by name, in order of its beginning."""
    begun: dict[int, tuple[str, float]] = {}
    done: list[tuple[str, Span]] = []
    for event in events:
        if event.process != "nemesis":
            continue
        if event.what == "begins":
            begun[event.facts["number"]] = (event.facts["fault"], event.at)
        elif event.what == "ends":
            name, at = begun.pop(event.facts["number"])
            done.append((name, (at, event.at)))
    done += [(name, (at, ends_at)) for name, at in begun.values()]
    return sorted(done, key=lambda one: one[1])


def _live(events: Sequence[Event], ends_at: float) -> list[Span]:
    """When one node could work, from its own events in order."""
    live: list[Span] = []
    ready = paused = False
    since: float | None = None
    for event in events:
        if event.what in ("paused", "continued"):
            paused = event.what == "paused"
        elif event.what in ("ready", "killed", "terminated", "ended"):
            ready = event.what == "ready"
        if ready and not paused:
            since = event.at if since is None else since
        elif since is not None:
            live.append((since, event.at))
            since = None
    return live if since is None else [*live, (since, ends_at)]
