"""The history of a run: who did or saw what, when. Any thread may add to it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    at: float  #: seconds since the run began
    process: str  #: "reporter", "ana", "nemesis", "node-0", "relay", "run"
    what: str
    facts: Mapping[str, Any] = field(default_factory=dict)  #: JSON, under names of their own

    def line(self) -> str:
        return json.dumps({"at": round(self.at, 4), "process": self.process, "what": self.what, **self.facts})


class History:
    """Events as they come. Times are given and kept by time.monotonic(), which no step of the wall clock moves."""

    def __init__(self) -> None:
        self.began_at = time.monotonic()
        self._lock = threading.Lock()
        self._events: list[Event] = []

    def add(self, process: str, what: str, *, at: float | None = None, **facts: Any) -> None:
        """`at`: by time.monotonic(), of something that was seen later than it happened; None is now."""
        when = (time.monotonic() if at is None else at) - self.began_at
        with self._lock:
            self._events.append(Event(when, process, what, facts))

    @property
    def events(self) -> list[Event]:
        """All so far, in order of their time."""
        with self._lock:
            return sorted(self._events, key=lambda event: event.at)


def save(events: Iterable[Event], path: Path) -> None:
    path.write_text("".join(f"{event.line()}\n" for event in events))


def read(path: Path) -> list[Event]:
    events = []
    for line in path.read_text().splitlines():
        facts = json.loads(line)
        events.append(Event(facts.pop("at"), facts.pop("process"), facts.pop("what"), facts))
    return events
