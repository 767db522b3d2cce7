"""Carrying out a page: all ways at once, and what came of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from panicmail.errors import PanicmailError

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AlarmRoute:
    """One way a page goes: to whom, as it may be told, and what sends it and answers what was said."""

    to: str
    send: Callable[[], str]


class AlarmPage:
    """One page by all its ways at once, each in a thread of its own. None holds up another, or whoever pages.

    Args:
        about: What it is about, for the log.
        missed: Called when none of the ways took it.
    """

    def __init__(self, about: str, routes: Sequence[AlarmRoute], missed: Callable[[], None]) -> None:
        self._about = about
        self._missed = missed
        self._left = len(routes)
        self._taken = False
        self._counting = threading.Lock()
        self._threads = [
            threading.Thread(target=self._send_by, args=(way,), name="page", daemon=True) for way in routes
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait for its ways, altogether so long."""
        ends_at = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))

    @property
    def is_under_way(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _send_by(self, way: AlarmRoute) -> None:
        taken = self._try(way)
        with self._counting:
            self._taken = self._taken or taken
            self._left -= 1
            missed = not self._left and not self._taken
        if missed:
            self._missed()

    def _try(self, way: AlarmRoute) -> bool:
        try:
            answer = way.send()
        except PanicmailError as exc:
            _log.error("watch.page_failed", about=self._about, to=way.to, reason=f"{type(exc).__name__}: {exc}")
            return False
        except Exception:  # one way that breaks must not take the others with it
            _log.exception("watch.page_failed", about=self._about, to=way.to)
            return False
        _log.info("watch.paged", about=self._about, to=way.to, answer=answer)
        return True
