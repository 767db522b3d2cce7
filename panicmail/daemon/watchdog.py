"""The watchdog: a part of panicmail that stopped ends the whole of it, loudly, for a restart.

A thread that died or hangs cannot be mended from inside, and a daemon that lives on with half of its parts would look
healthy while nobody is paged. Everything is on disk, so the restart costs seconds.

A process that was stopped as a whole (SIGSTOP, a suspended machine) is no such case: when the watchdog itself was held
up, every part gets its full time again.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

_log = structlog.get_logger()

#: A part that should come round at once may be silent for so long, in seconds.
WITHIN = 15.0
#: A part that has ended may be ending the daemon in good order; that takes less.
_ENDED_WITHIN = 2.0
_LOOK_EVERY = 1.0
#: The watchdog comes round every second; a longer gap means that the process was stopped.
_STOPPED = 4.0
#: The last words may hang with whatever else hangs; then the end comes without them.
_LAST_WORDS_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class WatchedPart:
    """Something that has to come round again and again."""

    name: str
    came_round_at: Callable[[], float]  #: monotonic, of the last time; -inf when it is dead
    within: float = WITHIN  #: seconds


class Watchdog(threading.Thread):
    """Looks at every part once a second.

    Args:
        bite: Called once with what stopped, from this thread. Must end the process.
    """

    def __init__(self, parts: Sequence[WatchedPart], bite: Callable[[str], None] | None = None) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._parts = tuple(parts)
        self._bite = bite or end_the_process
        self._stopped = threading.Event()
        self._looked_at = self._fair_since = time.monotonic()
        self._ended: dict[str, float] = {}  #: since when a part is known to be dead

    def run(self) -> None:
        while not self._stopped.wait(_LOOK_EVERY):
            silent = self.silent(time.monotonic())
            if silent and not self._stopped.is_set():
                self._bite(", ".join(silent))
                return

    def silent(self, now: float) -> list[str]:
        """What has not come round in time, each with its silence in seconds."""
        if now - self._looked_at > _STOPPED:
            self._fair_since = now
        self._looked_at = now
        return [said for part in self._parts if (said := self._said_of(part, now))]

    def _said_of(self, part: WatchedPart, now: float) -> str:
        """What is wrong with a part, in words; "" when nothing is."""
        heard = _ask_when_it_came_round(part)
        if heard == -math.inf:
            ended_at = self._ended.setdefault(part.name, now)
            return f"{part.name} (ended)" if now - ended_at >= _ENDED_WITHIN else ""
        self._ended.pop(part.name, None)
        return f"{part.name} ({now - heard:.0f} s)" if now - max(heard, self._fair_since) > part.within else ""

    def stop(self) -> None:
        self._stopped.set()


def _ask_when_it_came_round(part: WatchedPart) -> float:
    try:
        return part.came_round_at()
    except Exception:  # a part that cannot be asked; and the watchdog must not die of it
        _log.exception("watchdog.cannot_ask", part=part.name)
        return -math.inf


def end_the_process(what: str) -> None:
    """Say what stopped and where every thread stands, and end with exit status 1."""
    try:
        speaker = threading.Thread(target=_speak, args=(what,), name="last words", daemon=True)
        speaker.start()
        speaker.join(_LAST_WORDS_WITHIN)
    finally:
        os._exit(1)


def _speak(what: str) -> None:
    _log.critical("watchdog.bit", stopped=what, stacks=stacks(), text="panicmail ends; start it again")
    sys.stderr.flush()


def stacks() -> Mapping[str, list[str]]:
    """Where the threads of each name stand: their innermost calls, innermost first. Places in code, never values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for ident, frame in sys._current_frames().items():
        # Not traceback's summaries: they look at source files, on a disk that may be what hangs.
        places = [f"{at.f_code.co_filename.rpartition('/')[2]}:{line}" for at, line in traceback.walk_stack(frame)]
        found[names.get(ident, str(ident))].append(" < ".join(places[:4]))
    return dict(found)
