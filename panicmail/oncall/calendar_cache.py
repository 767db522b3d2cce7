"""The last good copy of a calendar on disk: one file for each role, replaced as a whole or not at all.

It holds the text as it came, what was read of it, when, by which rules, and why it could not be read again since; and
the reading before for as long as this one is doubted. So whoever asks who
is on call needs neither the network nor the libraries, and a restart while the calendar is away changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from panicmail.oncall.calendars import CalendarReading

_FORM = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedCalendar:
    """A calendar that could be read, and how it went since."""

    origin: str  #: digest of where it came from: the copy of another calendar answers for nobody
    text: str
    reading: CalendarReading
    read_at: datetime  #: when its source last gave a text that could be read
    tried_at: datetime  #: when its source was last asked
    failure: str = ""  #: why it could not be read at `tried_at`; "": it could
    rules: str = ""  #: by which it was read
    before: CalendarReading | None = None  #: what answers beside it while it is doubted
    doubted_at: datetime | None = None  #: since when; None: it is not


def load(path: Path, origin: str) -> CachedCalendar | None:
    """The copy in a file; None when there is none, it is of another origin or nothing we wrote."""
    try:
        document = json.loads(path.read_bytes())
        if (document["form"], document["origin"]) != (_FORM, origin):
            return None
        return CachedCalendar(
            origin=origin,
            text=document["text"],
            reading=CalendarReading.from_json(document["reading"]),
            read_at=datetime.fromisoformat(document["read_at"]),
            tried_at=datetime.fromisoformat(document["tried_at"]),
            failure=document["failure"],
            rules=document.get("rules", ""),
            before=CalendarReading.from_json(before) if (before := document.get("before")) else None,
            doubted_at=datetime.fromisoformat(doubted) if (doubted := document.get("doubted_at")) else None,
        )
    except (OSError, KeyError, TypeError, ValueError):
        return None


def keep(path: Path, copy: CachedCalendar) -> None:
    """Put a copy in place of the one there, after all of it is on disk. Its folder is made.

    Raises:
        OSError: It cannot be written; the one there is untouched.
    """
    document = {
        "form": _FORM,
        "origin": copy.origin,
        "read_at": copy.read_at.isoformat(),
        "tried_at": copy.tried_at.isoformat(),
        "failure": copy.failure,
        "rules": copy.rules,
        "before": copy.before.as_json() if copy.before else None,
        "doubted_at": copy.doubted_at.isoformat() if copy.doubted_at else None,
        "reading": copy.reading.as_json(),
        "text": copy.text,
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make a rename in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
