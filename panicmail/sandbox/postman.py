"""Posts mail after a while, and again when nobody takes it; threads that end with the relay."""

from __future__ import annotations

import smtplib
import threading
from collections.abc import Callable
from contextlib import suppress

from panicmail.sandbox.returns import Return

_TIMEOUT_SECONDS = 5.0
_TRIES = 10
_BETWEEN_SECONDS = 0.5


class Postman:
    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def post(self, letter: Return, via: str, seconds: float, posted: Callable[[Return], None]) -> None:
        """Post a letter from the null sender `seconds` later, and say so.

        Args:
            via: host:port. Who does not take it is asked again, ten times in five seconds.
        """
        thread = threading.Thread(target=self._walk, args=(letter, via, seconds, posted), daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Nothing more is posted."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(1.0)

    def _walk(self, letter: Return, via: str, seconds: float, posted: Callable[[Return], None]) -> None:
        if self._stopped.wait(seconds):
            return
        for _ in range(_TRIES):
            with suppress(OSError):  # smtplib's own errors are OSErrors too
                _deliver(letter, via)
                posted(letter)
                return
            if self._stopped.wait(_BETWEEN_SECONDS):
                return


def _deliver(letter: Return, via: str) -> None:
    host, _, port = via.rpartition(":")
    with smtplib.SMTP(
        host.strip("[]"), int(port), local_hostname="sandbox.invalid", timeout=_TIMEOUT_SECONDS
    ) as client:
        client.sendmail("", [letter.recipient], letter.raw)
