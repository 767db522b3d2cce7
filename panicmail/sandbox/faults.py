"""Faults to order: what a GitLab in trouble does to the next requests.

    status          answers `status`, nothing done
    html            answers 200 with a web page, nothing done: a proxy or a login page in between
    hang            never answers, nothing done; closes after `seconds`
    reset           connection reset, nothing done
    reset_after     done, then connection reset: the answer is lost
    silent_after    done, never answered; closes after `seconds`
    truncate        done, half of the answer, then closed
    delay           `seconds` later everything as usual

`seconds` of 0 means without end for hang and silent_after: until the faults are cleared or the sandbox stops.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

Kind = Literal["status", "html", "hang", "reset", "reset_after", "silent_after", "truncate", "delay"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, as ordered."""

    kind: Kind
    times: int | None = 1  #: requests it still hits; None means until cleared
    seconds: float = 0.0
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | Mapping[str, object] | None = None  #: of "status" and "html"; None for a usual one
    match: re.Pattern[str] | None = None  #: searched in "METHOD /path?query" as sent; None hits every request
    cleared: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join(get_args(Kind))}")

    def hits(self, request_line: str) -> bool:
        return self.match is None or self.match.search(request_line) is not None


class Faults:
    """The faults waiting, oldest first: the first that matches hits, one for a request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []
        self._cleared = threading.Event()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(replace(fault, cleared=self._cleared))

    def clear(self) -> None:
        """Forget those waiting and let those go that are hanging now."""
        with self._lock:
            self._waiting.clear()
            self._cleared.set()
            self._cleared = threading.Event()

    def take(self, request_line: str) -> Fault | None:
        """The fault that hits this request, counted."""
        with self._lock:
            fault = next((one for one in self._waiting if one.hits(request_line)), None)
            if fault is not None and fault.times is not None:
                place = self._waiting.index(fault)
                self._waiting[place : place + 1] = [replace(fault, times=fault.times - 1)] * (fault.times > 1)
            return fault
