"""`panicmail watch` as a process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.program import Program, plain_environ


class Watcher(Program):
    """`panicmail watch` as a process."""

    def __init__(self, path: Path, environ: Mapping[str, str] = {}) -> None:
        super().__init__(path, plain_environ(environ), command="watch")
