"""The nodes: `panicmail serve` as processes, kept up as systemd would, and hurt when the nemesis says so.

A node that ends is started again a second later, unless the nemesis wants it down. In the history, by its name:
`started`, `ready`, `killed`, `terminated`, `paused`, `continued`, `reloaded`, and `ended` with status and, after a
SIGTERM, seconds. A status of 137 is that of a process that came by the point where it was told to die.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.checker.history import History
from tests.program import Program

#: How long a node that ended by itself stays down, as `RestartSec` would have it.
RESTART_AFTER = 1.0


class Node:
    """One node, from `start` to `close`.

    Args:
        config: Its configuration file.
        environ: The environment of its processes.
    """

    def __init__(self, name: str, config: Path, port: int, environ: Mapping[str, str], history: History) -> None:
        self.name, self.config, self.port = name, config, port
        self.lines: list[str] = []  #: of the logs of all its processes that have ended
        self._environ, self._history = environ, history
        self._changed = threading.Condition()
        self._wanted = self._closed = False
        self._program: Program | None = None
        self._terminated_at = 0.0
        self._trap = ""
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        program = self._program
        return program is not None and program.is_running and _ready_at(program) is not None

    # -- what it is told to do

    def start(self, *, trap: str = "") -> None:
        """`trap`: a point of `panicmail.crashpoints` at which the process dies; it is set for this one start."""
        self._trap = trap
        self._want(up=True)

    def kill(self) -> None:
        """As a power cut would; down until `start`."""
        self._want(up=False)
        self._history.add(self.name, "killed")
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM; down until `start`."""
        self._want(up=False)
        self._terminated_at = time.monotonic()
        self._history.add(self.name, "terminated")
        self._signal(signal.SIGTERM)

    def pause(self) -> None:
        self._history.add(self.name, "paused")
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)
        self._history.add(self.name, "continued")

    def reload(self) -> None:
        self._history.add(self.name, "reloaded")
        self._signal(signal.SIGHUP)

    def wait_for_end(self, within: float) -> bool:
        """Whether it has ended by then."""
        with self._changed:
            return self._changed.wait_for(lambda: self._program is None, within)

    def close(self) -> None:
        with self._changed:
            self._closed, self._wanted = True, False
            self._changed.notify_all()
        self._signal(signal.SIGKILL)
        self._thread.join()

    # -- how

    def _want(self, *, up: bool) -> None:
        with self._changed:
            self._wanted = up
            self._changed.notify_all()

    def _signal(self, number: signal.Signals) -> None:
        program = self._program
        # SIGHUP before the handler is there would end it, and no systemd sends one then.
        if program is not None and (number is not signal.SIGHUP or self.is_ready):
            program.signal(number)

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                self._terminated_at = 0.0
                trap, self._trap = self._trap, ""
                set_traps = {"PANICMAIL_CRASH_AT": trap} if trap else {}
                self._program = program = Program(self.config, {**self._environ, **set_traps})
            self._history.add(self.name, "started", trap=trap)
            self._follow(program)
            with self._changed:
                self._program = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed, RESTART_AFTER if self._wanted else 0)

    def _follow(self, program: Program) -> None:
        """Until the process has ended."""
        told = False
        while program.is_running:
            if not told and (ready_at := _ready_at(program)) is not None:
                told = True
                self._history.add(self.name, "ready", at=ready_at)
            time.sleep(0.02)
        facts: dict[str, Any] = {"status": program.ended(), "was_ready": told}
        if self._terminated_at:
            facts["seconds"] = round(time.monotonic() - self._terminated_at, 2)
        self._history.add(self.name, "ended", **facts)
        self.lines += [f"-- process {program.pid}", *program.lines]
        program.close()


def _ready_at(program: Program) -> float | None:
    return next((at for at, facts in program.events if facts.get("event") == "ready"), None)


def loud(lines: Iterable[str]) -> Counter[str]:
    """What a node said aloud: its errors, by event and the first words of why."""
    found: Counter[str] = Counter()
    for line in lines:
        with contextlib.suppress(ValueError):
            facts = json.loads(line)
            if facts.get("level") in ("error", "critical") or "exception" in facts:
                why = str(facts.get("exception") or facts.get("reason") or facts.get("text") or "")
                found[f"{facts.get('event')}: {why.splitlines()[0][:140] if why else ''}"] += 1
    return found
