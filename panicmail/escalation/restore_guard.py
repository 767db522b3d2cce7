"""Restoring: noticing that the database is an old copy, before it pages people for what was settled long ago.

The copy's incidents may have been acknowledged or closed since, nobody here can know. So at the start everything
unresolved is held back for one SLA, with a line on its timeline, and goes on then; the operators get the list, and
what is known to be missing. What was to be done in GitLab is looked for there before it is done again.

A database that loses something while panicmail runs (a standby took over that had not heard everything) is an alarm
only: its incidents are minutes old, and paging goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from panicmail.incident import transitions
from panicmail.incident.model import Incident, State
from panicmail.oncall.runtime_settings import CurrentSettings
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from panicmail.store.watermark import Watermark, WatermarkFile

_log = structlog.get_logger()


class RestoreGuard:
    """Compares the database with the mark kept beside it. `start` once, then `remember` every minute; `accepted` with
    each mail, from whatever thread."""

    def __init__(self, store: Store, settings: CurrentSettings, high_water: WatermarkFile) -> None:
        self._store = store
        self._settings = settings
        self._high_water = high_water
        self._mark: Watermark | None = None
        self._marking = threading.Lock()

    def start(self) -> bool:
        """Hold everything back if the database is an old copy; answers whether it is one.

        Raises:
            StoreFailed: The database does not answer.
        """
        mark = self._high_water.read()
        is_old = mark is not None and self._store.read(lambda tx: tx.watermark.is_behind(mark))
        if mark is not None and is_old:
            facts = self._store.write("copy.hold", lambda tx: self._hold(tx, mark))
            _log.error("database.old_copy", **facts)
        self.remember()
        return is_old

    def remember(self) -> None:
        """Keep how far the database has come; an alarm when it has fallen behind what this process saw.

        Raises:
            StoreFailed: The database does not answer.
        """
        before = self._mark
        mark, lost = self._store.read(
            lambda tx: (tx.watermark.current(), before is not None and tx.watermark.is_behind(before))
        )
        if before is not None and lost:
            _log.error("database.lost", **_describe_missing(before, mark))
            self._store.write(
                "copy.alarm", lambda tx: tx.queue.tell_operators("database_lost", _describe_missing(before, mark))
            )
        with self._marking:
            since = self._mark
            if since is not None and since is not before:  # accepted while the database was asked
                mark = _newer(mark, since)
            self._keep(mark)

    def accepted(self, mails: Sequence[AcceptedMail]) -> None:
        """These are in the database for good, and nobody was told yet: who restores it from before them must hear."""
        if not mails:
            return
        newest = max(mails, key=lambda mail: (mail.accepted_at, mail.id))
        with self._marking:
            mark = self._mark or Watermark(at=newest.accepted_at, line_id=0, mail_id=None, accepted_at=None)
            told = replace(mark, at=newest.accepted_at, mail_id=newest.id, accepted_at=newest.accepted_at)
            self._keep(_newer(mark, told))

    def _keep(self, mark: Watermark) -> None:
        self._mark = mark
        try:
            self._high_water.write(mark)
        except OSError as exc:
            _log.warning("high_water.failed", reason=str(exc))

    def _hold(self, tx: Transaction, mark: Watermark) -> dict[str, Any]:
        """Hold back what is unresolved; answers what the operators are told."""
        until = tx.now + self._settings().policy.sla
        waiting = tx.search.list_incidents(states=[State.OPEN, State.ACKED])
        for incident in waiting:
            if not self._is_held(tx, incident):
                why = "the database is an old copy; nobody knows what was settled since"
                tx.incidents.apply(incident, transitions.hold_back(incident, until, why))
        tx.watermark.doubt_effects()
        facts = _describe_missing(mark, tx.watermark.current()) | {
            "held until": until.isoformat(timespec="seconds"),
            "unresolved in the copy": [_brief(incident) for incident in waiting] or "none",
        }
        tx.queue.tell_operators("old_copy", facts)
        return facts

    def _is_held(self, tx: Transaction, incident: Incident) -> bool:
        """Another node, or a start that was cut short, has done it."""
        since = tx.now - self._settings().policy.sla
        return any(line.event == "steps.held" and line.at > since for line in tx.timeline.of_incident(incident.id))


def _newer(mark: Watermark, other: Watermark) -> Watermark:
    """`mark` with the mail of `other`, should that have been accepted later."""
    if other.accepted_at is None or (mark.accepted_at is not None and other.accepted_at < mark.accepted_at):
        return mark
    return replace(mark, at=max(mark.at, other.at), mail_id=other.mail_id, accepted_at=other.accepted_at)


def _describe_missing(known: Watermark, found: Watermark) -> dict[str, Any]:
    """What is known to have been there, and what there is."""
    return {"last known mail": _mail(known), "last mail here": _mail(found), "last seen": _minute(known.at)}


def _mail(mark: Watermark) -> str:
    return f"{mark.ref}, accepted {_minute(mark.accepted_at)}" if mark.accepted_at else "none"


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _brief(incident: Incident) -> str:
    who = f", {incident.holder} has it" if incident.holder and incident.state is State.ACKED else ""
    return f"{incident.ref}, {incident.state.value}, accepted {_minute(incident.accepted_at)}{who}"
