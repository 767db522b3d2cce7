"""The heartbeat: pings a dead-man's switch outside, which pages when the pings stop.

Nothing inside can tell that the host is away. `[watch] heartbeat_url` is asked for with GET about once a minute; what
it answers does not matter, that it answers is a success. `{who}` in it becomes the name of whoever lives, so that each
has a switch of its own and the death of one is not masked by the other.

    heartbeat = Heartbeat(url, "tick")
    heartbeat.beat()                        # as often as you like; returns at once

A ping that fails is logged once, `heartbeat.failed`, until one works again, `heartbeat.back`. Nothing else comes of
it: the switch itself says so when it misses us.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

import structlog

from panicmail.delivery import http_client
from panicmail.errors import PanicmailError

_log = structlog.get_logger()

#: Of what the switch answers, so many octets are read; longer is no failure worth telling.
_LIMIT = 1024 * 1024


class Heartbeat:
    """Pings for one who lives, in a thread of its own.

    Args:
        url: "" pings nobody.
        every: Seconds from one ping to the next, at least.
        timeout: Seconds for one ping.
    """

    def __init__(
        self,
        url: str,
        who: Literal["tick", "watch"],
        *,
        every: float = 60.0,
        timeout: float = 20.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.replace("{who}", who)
        self._who = who
        self._every = every
        self._timeout = timeout
        self._monotonic = monotonic
        self._beat_at: float | None = None
        self._pinging = threading.Lock()
        self._failing = False

    def beat(self) -> None:
        """Ping, unless it was done within `every` or still is. Neither waits nor raises."""
        now = self._monotonic()
        if not self._url or (self._beat_at is not None and now - self._beat_at < self._every):
            return
        if self._pinging.acquire(blocking=False):
            self._beat_at = now
            try:
                threading.Thread(target=self._ping, name=f"heartbeat-{self._who}", daemon=True).start()
            except RuntimeError as exc:  # no thread is to be had
                self._failed(f"{exc}")
                self._pinging.release()

    def _ping(self) -> None:
        try:
            http_client.get(self._url, timeout=self._timeout, limit=_LIMIT)
        except PanicmailError as exc:
            self._failed(f"{exc}")
        except Exception as exc:  # a switch that confuses us must not look like one that hears us
            self._failed(type(exc).__name__)
        else:
            self._went()
        finally:
            self._pinging.release()

    def _failed(self, reason: str) -> None:
        if not self._failing:
            _log.warning("heartbeat.failed", who=self._who, reason=reason)
        self._failing = True

    def _went(self) -> None:
        if self._failing:
            _log.info("heartbeat.back", who=self._who)
        self._failing = False
