"""Calls that may hang, each in a thread of its own: whoever asks waits so long and no longer.

A thread cannot be ended from outside. One that hangs lives on until its call returns by itself, and the end of the
process does not wait for it. So that a peer that never answers cannot fill the process with threads, only so many
calls of one name are under way at a time; a further one is refused without being tried.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from panicmail.errors import Temporary, Unknown

T = TypeVar("T")


class Patience:
    """Waits for calls, but not for ever.

    Args:
        most: So many calls of one name may be under way at a time, hanging ones included.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._under_way: Counter[str] = Counter()
        self._counting = threading.Lock()

    def call(self, name: str, seconds: float, work: Callable[[], T]) -> T:
        """What `work` answers or raises.

        Raises:
            Unknown: No answer within `seconds`. The call goes on, and what comes of it is lost.
            Temporary: Too many calls of this name are under way; this one was not made.
        """
        self._begin(name)
        answer: Future[T] = Future()
        threading.Thread(target=self._run, args=(name, work, answer), name=f"call-{name}", daemon=True).start()
        if not wait([answer], seconds).done:
            raise Unknown(f"{name}: no answer within {seconds:g} s")
        return answer.result()

    def _begin(self, name: str) -> None:
        with self._counting:
            if self._under_way[name] >= self._most:
                raise Temporary(f"{name}: {self._most} calls before this one still wait for their answer")
            self._under_way[name] += 1

    def _run(self, name: str, work: Callable[[], T], answer: Future[T]) -> None:
        try:
            result = work()
        except BaseException as exc:  # it belongs to whoever waits
            failure: BaseException | None = exc
        else:
            failure = None
        with self._counting:
            self._under_way[name] -= 1
        if failure is None:
            answer.set_result(result)
        else:
            answer.set_exception(failure)
