"""The daemon: builds everything once, starts it in order and stops it in order."""

from __future__ import annotations

from panicmail.config import Config
from panicmail.daemon.serve import Daemon
from panicmail.store.database import Database


def serve(config: Config, database: Database) -> int:
    """Run the daemon on an open database; answers the exit status."""
    return Daemon(config, database).run()
