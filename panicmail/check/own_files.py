"""What panicmail keeps on disk is for its own user alone: files 0600, folders 0700.

Reports, reply addresses and links stand there: whoever reads them knows of the incident and can act on it.

Every command begins with the umask 077 (`cli.main`), so whatever is made is made so, SQLite's own files too. What an
older version, a restored copy or a copy by hand left open is found by `too_wide` and closed by `narrow`, which `serve`
does before it opens anything.

Files the operator makes (configuration, tokens, certificates) are told by `check` and never changed. A socket that
another user must reach needs a mode of its own where it is made: the umask holds for sockets too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from panicmail.config import Config
from panicmail.oncall import config_schedules
from panicmail.store.spool import Spool

_log = structlog.get_logger()

#: What group and others may.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
#: What stands beside a SQLite database: its log, the index of it, an older journal, and the lock of `serve`.
_BESIDE = ("", "-wal", "-shm", "-journal", ".lock")


def too_wide(config: Config) -> list[tuple[Path, int]]:
    """Files and folders of panicmail's own that group or others may use, each with its mode."""
    found = []
    for path in _own(config):
        with suppress(OSError):  # not there, or gone meanwhile
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & _OTHERS:
                found.append((path, mode))
    return found


def narrow(config: Config) -> None:
    """Take from group and others what they may. What cannot be changed is another user's, and logged."""
    for path, mode in too_wide(config):
        try:
            path.chmod(mode & ~_OTHERS)
        except OSError as exc:
            _log.warning("files.too_wide", path=str(path), mode=f"{mode:04o}", reason=exc.strerror)
        else:
            _log.warning("files.narrowed", path=str(path), mode=f"{mode:04o}", now=f"{mode & ~_OTHERS:04o}")


def _own(config: Config) -> Iterator[Path]:
    url, spool = config.database.url.get_secret_value(), Spool(config.database.spool)
    if url.startswith("sqlite:"):
        database = Path(url.removeprefix("sqlite:///")).resolve()
        yield from (database.with_name(database.name + suffix) for suffix in _BESIDE)
    yield spool.folder
    if os.access(spool.folder, os.R_OK | os.X_OK) and spool.folder.is_dir():
        yield from spool.files()
    mark = spool.folder.with_suffix(".mark")
    yield from (mark, mark.with_name(f"{mark.name}.new"))
    copies = [feed.copy_path for feed in config_schedules.feeds(config)]
    if copies:
        yield from (config_schedules.folder(config), *copies)
