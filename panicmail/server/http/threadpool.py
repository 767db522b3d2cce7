"""The backend's functions in threads, each within a deadline: the event loop also receives the panics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class RequestThreads:
    """A few threads for one kind of caller, so that callers who hang up the one do not starve the other."""

    def __init__(self, name: str, *, threads: int, within: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"web-{name}")
        self._within = within

    async def ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function answers.

        Raises:
            TimeoutError: It did not within the deadline. One that had begun goes on in its thread and may still do
                what it was asked; one that had not never will.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._within):
            return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Take no more, and wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)
