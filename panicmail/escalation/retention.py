"""Retention: what is over for long enough is erased, once a day, where the configuration says so.

A clock that jumps years ahead would make everything due. So what is erased was due at a look a day before as well: a
look that is too long ago, or lies ahead, begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from panicmail.store.erasures import erase
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: A look is acted on after this, and no more after that.
RIPE, STALE = timedelta(hours=20), timedelta(days=3)
#: So many transactions a day.
MOST = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionLimits:
    """How long after its end an incident keeps what; None: for ever."""

    raw_mails: timedelta | None = None
    incidents: timedelta | None = None


class Retention:
    """Erases what is due. Call `run` about once an hour.

    Args:
        limits: Answers those in force.
    """

    def __init__(self, store: Store, limits: Callable[[], RetentionLimits]) -> None:
        self._store = store
        self._limits = limits

    def run(self) -> int:
        """Answers of how many incidents something was erased.

        Raises:
            StoreFailed: The database does not answer; what was erased until then is.
        """
        limits = self._limits()
        if limits == RetentionLimits():
            return 0
        now, looked_at = self._store.read(lambda tx: (tx.now, tx.erasures.planned_at()))
        if looked_at is not None and timedelta() <= now - looked_at < RIPE:
            return 0
        erased = 0
        if looked_at is not None and RIPE <= now - looked_at <= STALE:
            for _ in range(MOST):
                some = self._store.write("retention.erase", lambda tx: erase_due(tx, limits, looked_at))
                erased += some
                if not some:
                    break
        self._store.write("retention.erase", lambda tx: tx.erasures.plan())
        if erased:
            _log.info("retention.done", incidents=erased)
        return erased


def erase_due(tx: Transaction, limits: RetentionLimits, at: datetime) -> int:
    """Some of what was due at that instant."""
    if limits.incidents and (found := tx.erasures.over_since(at - limits.incidents)):
        return erase(tx.erasures, found, "retention")
    if limits.raw_mails:
        return erase(tx.erasures, tx.erasures.with_raws(at - limits.raw_mails), "retention", raws_alone=True)
    return 0
