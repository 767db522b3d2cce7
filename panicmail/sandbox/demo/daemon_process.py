"""The real daemon: a child process started as an operator starts it, and the commands that ask its database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import panicmail
from panicmail.sandbox.demo.failure import Failed

_STOPS_WITHIN, _ANSWERS_WITHIN = 12.0, 30.0
_LAST_LINES = 6
#: What would reach into the daemon from the shell the demo is started in.
_FOREIGN = re.compile(r"PANICMAIL_|CREDENTIALS_DIRECTORY$|NOTIFY_SOCKET$|WATCHDOG_")


class DemoDaemon:
    """`panicmail serve` in a folder that holds its configuration, from being made to `end`."""

    def __init__(self, folder: Path, configuration: Path) -> None:
        self.log = folder / "panicmail.log"
        self._configuration = configuration
        with self.log.open("wb") as log:
            # A session of its own: a Ctrl-C in the terminal is ours, and we stop the daemon in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                self._command("serve"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=_own_environment(),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def is_ready(self) -> bool:
        return '"event": "ready"' in self.log.read_text(errors="replace")

    def _command(self, word: str, *more: str) -> list[str]:
        """A command line of panicmail's for this daemon."""
        return [sys.executable, "-m", "panicmail", word, "-c", str(self._configuration), *more]

    def stop(self) -> float:
        """End the daemon as an operator would; answers the seconds it took.

        Raises:
            Failed: It did not end, or not with status 0.
        """
        began = time.monotonic()
        status = self.end()
        if status != 0:
            raise Failed(f"the daemon ended with status {status} on SIGTERM, not 0", self.last_words())
        return time.monotonic() - began

    def end(self) -> int:
        """Ask it to stop, and kill it if it does not; answers its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(_STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def last_words(self) -> tuple[str, ...]:
        """The end of the daemon's log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return tuple(f"log: {line[:300]}" for line in lines)

    def ask(self, word: str, *more: str) -> Any:
        """What a reading command of panicmail's answers."""
        try:
            answered = subprocess.run(  # noqa: S603 - our own interpreter and module
                self._command(word, *more, "--json"),
                capture_output=True,
                text=True,
                timeout=_ANSWERS_WITHIN,
                env=_own_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise Failed(f"panicmail {word} did not answer within {_ANSWERS_WITHIN:.0f} s") from exc
        if answered.returncode != 0:
            raise Failed(f"panicmail {word} ended with status {answered.returncode}", (answered.stderr[-300:],))
        return json.loads(answered.stdout)


def _own_environment() -> dict[str, str]:
    """The environment without what is meant for another panicmail, and with a way to find this one."""
    kept = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
    here = str(Path(panicmail.__file__).resolve().parents[1])
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, (here, kept.get("PYTHONPATH"))))}
