"""How far a database has come, kept beside it: so that an old copy put in its place is noticed.

The mark is written whenever mails were accepted, after their COMMIT and before their 250; once a minute; and at a stop.
It has no fsync of its own: one that a power cut put back asks for less, and harms nobody. A database that does not know
the mail or the line of the timeline the mark names is behind it: restored from an older copy, or a standby that had
not heard everything. Who restores a whole machine takes the file back too, and sees nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from panicmail.incident import ids
from panicmail.incident.model import EffectKind
from panicmail.incident.tasks import LANES
from panicmail.store.queries import Queries
from panicmail.store.rows import DeliveryState
from panicmail.store.tables import mails, outbox, timeline

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """How far a database had come. `line_id` 0, `mail_id` None: nothing had happened in it yet."""

    at: datetime  #: when this was looked up
    line_id: int  #: the newest line of the timeline
    mail_id: str | None  #: the mail that was accepted last
    accepted_at: datetime | None

    @property
    def ref(self) -> str:
        """The REF that the newest mail's 250 said; "" without one."""
        return ids.ref(self.mail_id) if self.mail_id else ""


class Watermarks(Queries):
    """Statements about how far the database has come."""

    def current(self) -> Watermark:
        newest = max(filter(None, map(self._newest, ("accepted", "understood"))), default=None)
        accepted_at, mail_id = newest or (None, None)
        return Watermark(at=self.now, line_id=self._newest_line(), accepted_at=accepted_at, mail_id=mail_id)

    def is_behind(self, mark: Watermark) -> bool:
        """Whether this database lacks something the one of `mark` had."""
        is_there = sa.select(sa.exists().where(mails.c.id == mark.mail_id))
        forgot = mark.mail_id is not None and not self._connection.execute(is_there).scalar_one()
        return forgot or self._newest_line() < mark.line_id

    def doubt_effects(self) -> None:
        """Whatever waits to be done in GitLab may have been done: it is looked for first."""
        c = outbox.c
        waiting = sa.and_(
            c.lane == LANES[EffectKind.ISSUE], c.state.in_([DeliveryState.QUEUED.value, DeliveryState.TRYING.value])
        )
        doubted = {"attempt": c.attempt + 1, "unsure_at": sa.func.coalesce(c.unsure_at, c.queued_at)}
        self._connection.execute(outbox.update().where(waiting).values(doubted))

    def _newest_line(self) -> int:
        return self._connection.execute(sa.select(sa.func.max(timeline.c.id))).scalar_one() or 0

    def _newest(self, state: str) -> tuple[datetime, str] | None:
        c = mails.c
        query = sa.select(c.accepted_at, c.id).where(c.state == state).order_by(c.accepted_at.desc()).limit(1)
        row = self._connection.execute(query).one_or_none()
        return (row.accepted_at, row.id) if row else None


class WatermarkFile:
    """The file that keeps the mark.

    Args:
        path: In a folder that is not restored together with the database, such as the spool's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Watermark | None:
        """The mark written last; None when there is none, or none that can be read."""
        try:
            kept: dict[str, Any] = json.loads(self._path.read_text("utf-8"))
            accepted_at = kept["accepted_at"]
            return Watermark(
                at=datetime.fromisoformat(kept["at"]),
                line_id=int(kept["line_id"]),
                mail_id=kept["mail_id"],
                accepted_at=datetime.fromisoformat(accepted_at) if accepted_at else None,
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as exc:
            _log.warning("high_water.unreadable", path=str(self._path), reason=str(exc))
            return None

    def write(self, mark: Watermark) -> None:
        """Put `mark` in place of the one before; the file is whole whatever happens meanwhile.

        Raises:
            OSError: It cannot be written.
        """
        kept = {
            "at": mark.at.isoformat(),
            "line_id": mark.line_id,
            "mail_id": mark.mail_id,
            "ref": mark.ref,
            "accepted_at": mark.accepted_at.isoformat() if mark.accepted_at else None,
        }
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.write_text(json.dumps(kept), "utf-8")  # no fsync: a mark that is behind is a mark
        beside.replace(self._path)
