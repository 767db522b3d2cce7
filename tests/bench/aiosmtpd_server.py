"""A rival: aiosmtpd as it comes, with a handler that commits each mail to SQLite (synchronous=FULL) before its 250.

    python -m tests.bench.aiosmtpd_server FOLDER PORT

Says that it is ready, and serves until its standard input ends.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller


class CommitEach:
    """Keeps a mail as panicmail does, and does nothing more with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection:
        """In the controller's thread, which is the one that writes."""
        connection = sqlite3.connect(self._path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE mails (id INTEGER PRIMARY KEY, sender TEXT, recipients TEXT, raw BLOB)")
        return connection

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self._connection = self._connection or self._open()
        kept = (envelope.mail_from, json.dumps(envelope.rcpt_tos), envelope.content)
        with self._connection:
            self._connection.execute("INSERT INTO mails (sender, recipients, raw) VALUES (?, ?, ?)", kept)
        return "250 2.0.0 kept"


def main() -> None:
    controller = Controller(CommitEach(Path(sys.argv[1]) / "mails.db"), hostname="127.0.0.1", port=int(sys.argv[2]))
    controller.start()
    try:
        print("ready", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()
    finally:
        controller.stop()


if __name__ == "__main__":
    main()
