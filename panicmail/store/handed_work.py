"""What a transaction claims for threads that have nothing to do.

On the straight way work is born claimed: the transaction that makes it leases it to the thread that will do it, which
gets it in memory once that is committed, and nobody looks for it in the database. Rows and leases are what a restart,
or another node, goes by: what was claimed and never handed over is free again when its lease ends, at the latest, and
at once at the next start on SQLite, or when another node sees this one dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class IdleThread(Protocol):
    """A thread that has nothing to do, kept until one of the two is called."""

    @property
    def name(self) -> str: ...

    def hand(self, piece: object) -> None:
        """What was claimed for it is committed."""

    def release(self) -> None:
        """There is nothing for it."""


def nobody(_lane: str) -> IdleThread | None:
    """No thread is idle: all that is made is announced."""
    return None


class HandedWork:
    """What one transaction claimed, and for whom.

    Args:
        idle: Answers a thread of a lane that has nothing to do, and keeps it; None when there is none, or something
            may wait there already: then what is made takes its turn.
        node: Under which name this process claims; None where it has the database to itself.
    """

    def __init__(self, idle: Callable[[str], IdleThread | None] = nobody, node: str | None = None) -> None:
        self._idle, self._node = idle, node
        self._kept: list[IdleThread] = []
        self._given: list[tuple[IdleThread, object]] = []

    def reserve(self, lane: str) -> IdleThread | None:
        """A thread for something that is ready, kept until it is `given` that or the transaction ends."""
        thread = self._idle(lane)
        if thread is not None:
            self._kept.append(thread)
        return thread

    def owner(self, thread: IdleThread) -> str | None:
        """Whose lease it is."""
        return self._node and f"{self._node}/{thread.name}"

    def give(self, thread: IdleThread, piece: object) -> None:
        """This was claimed for it."""
        self._kept.remove(thread)
        self._given.append((thread, piece))

    def committed(self) -> None:
        """All of it is durable: hand it over."""
        for thread, piece in self._given:
            thread.hand(piece)
        self._release(self._kept)

    def undone(self) -> None:
        """Nothing of it happened, or nobody knows."""
        self._release([*self._kept, *(thread for thread, _ in self._given)])

    def _release(self, threads: list[IdleThread]) -> None:
        for thread in threads:
            thread.release()
