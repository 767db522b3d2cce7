"""Asking many things at once: each in a thread of its own, and nobody is waited for beyond the common end.

What hangs costs its own answer and no other. Its thread lives on until its own time-out ends it; the end of the
process does not wait for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

import structlog

from panicmail.errors import PanicmailError, Temporary, Unknown

_log = structlog.get_logger()
T = TypeVar("T")


class ParallelChecks:
    """Questions that are asked together.

    Args:
        seconds: From now on, for all answers.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def ask(self, work: Callable[[], T]) -> PendingAnswer[T]:
        future: Future[T] = Future()
        threading.Thread(target=_run, args=(work, future), name="check", daemon=True).start()
        return PendingAnswer(future, self._ends_at, self._seconds)


class PendingAnswer(Generic[T]):
    """What one question is answered, once it is."""

    def __init__(self, future: Future[T], ends_at: float, seconds: float) -> None:
        self._future = future
        self._ends_at = ends_at
        self._seconds = seconds

    def wait(self) -> T:
        """
        Raises:
            PanicmailError: What the question raised; `Unknown` when there is no answer in time.
        """
        if not wait([self._future], max(0.0, self._ends_at - time.monotonic())).done:
            raise Unknown(f"no answer within {self._seconds:g} s")
        return self._future.result()

    def or_none(self) -> T | None:
        """The answer; None when there is none."""
        try:
            return self.wait()
        except PanicmailError:
            return None


def _run(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except PanicmailError as exc:
        future.set_exception(exc)
    except Exception as exc:  # one that breaks must not take the others with it
        _log.exception("check.failed")
        future.set_exception(Temporary(f"panicmail failed ({type(exc).__name__})"))
