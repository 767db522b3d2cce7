"""The daily re-check: while panicmail runs, what a panic needs is tried again, and the operators are told.

    told        when something stops working or crosses a warning's threshold; once a day while it lasts, but for what
                comes on slowly, a certificate that ends: with 21 days left, with 7, and each day from the last one on;
                and once when it is mended
    not told    what passes by itself, such as a relay that does not answer, before it was so twice in a row; and what
                is a choice of the configuration and no trouble

What was told is kept in the database: a restart tells nothing anew, and of several nodes one speaks. What a node sees
of itself alone, its disk and its certificate, is remembered under its name.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

import structlog

from panicmail.check import online_checks
from panicmail.check.database_checks import KnownFindings
from panicmail.check.offline_checks import Host
from panicmail.check.result import CheckVerdict, Row
from panicmail.config import Config
from panicmail.oncall.runtime_settings import CurrentSettings
from panicmail.store.channel_proofs import Finding
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: From one look to the next while all is well; while something is wrong every run is a look.
EVERY = timedelta(hours=24)
#: What lasts is told again after this.
TOLD_EVERY = timedelta(hours=24)
#: Runs come a little early or late.
_SLACK = timedelta(minutes=10)
#: What was told and is looked at no more (a person or a role that is gone) is forgotten after this.
FORGOTTEN_AFTER = timedelta(days=7)
#: Of these each node has its own.
_OF_THIS_HOST = frozenset({"check_disk", "check_certificate"})

ChecksAgain = Callable[[KnownFindings, datetime], Iterable[Row]]


class DailyCheck:
    """Looks when it is time. Call `run` about once an hour, from one thread.

    Args:
        config, settings: Those in force; a reload changes the answer.
        host: Name of this host.
        check_again: Answers the rows; None tries the real things.
    """

    def __init__(
        self,
        store: Store,
        settings: CurrentSettings,
        config: Callable[[], Config],
        *,
        host: str = "",
        check_again: ChecksAgain | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._config = config
        self._host = host or socket.gethostname()
        self._check_again = check_again or self._try_again
        self._looked_at: datetime | None = None
        self._all_well = False
        self._doubtful: set[str] = set()  #: what may have passed by the next look

    def run(self, now: datetime) -> None:
        """Look, and tell the operators what there is to tell. `now`: this host's instant.

        Raises:
            StoreFailed: The database does not answer; the next run looks again.
        """
        if self._looked_at is not None and self._all_well and now - self._looked_at < EVERY - _SLACK:
            return
        known = self._store.read(KnownFindings.of)
        rows = {self._name(row): row for row in self._check_again(known, now)}
        wrong = {name: row for name, row in rows.items() if not row.is_ok}
        lasting = {name: row for name, row in wrong.items() if not row.passing or name in self._doubtful}
        self._store.write("tick.alarm", lambda tx: _tell(tx, rows, lasting, now))
        self._doubtful, self._all_well, self._looked_at = set(wrong), not wrong, now
        _log.info("check.looked", rows=len(rows), wrong=sorted(wrong))

    def _try_again(self, known: KnownFindings, now: datetime) -> Iterable[Row]:
        return online_checks.check_again(self._config(), self._settings(), known, now, Host())

    def _name(self, row: Row) -> str:
        """Under which a finding is remembered."""
        whose = self._host if row.cause in _OF_THIS_HOST else ""
        return "/".join(filter(None, (whose, row.cause, row.channel, row.subject)))


def _tell(tx: Transaction, rows: Mapping[str, Row], wrong: Mapping[str, Row], now: datetime) -> None:
    before = {finding.name: finding for finding in tx.findings.all()}
    due: dict[str, list[Row]] = {}
    for name, row in wrong.items():
        known = before.get(name)
        if known is not None and not _is_due(known, row, now):
            continue
        due.setdefault(row.cause, []).append(row)
        since_at = known.since_at if known else now
        degree = row.stage or row.verdict.value
        tx.findings.keep(Finding(name=name, verdict=degree, found=row.found, since_at=since_at, told_at=now))
    for cause, told in due.items():
        tx.queue.tell_operators(
            cause, {"found": [f"{r.subject}: {r.found}" for r in told], "mend": [r.mend for r in told]}
        )
    _tell_mended(tx, [f for name, f in before.items() if name in rows and rows[name].is_ok])
    for name, finding in before.items():
        if name not in rows and now - finding.told_at >= FORGOTTEN_AFTER:
            tx.findings.forget(name)


def _is_due(known: Finding, row: Row, now: datetime) -> bool:
    """Whether it got worse since it was told, or was told long enough ago; with stages, whether it is another."""
    if row.stage:
        return known.verdict != row.stage
    is_worse = row.verdict is CheckVerdict.FAILED and known.verdict != CheckVerdict.FAILED.value
    return is_worse or now - known.told_at >= TOLD_EVERY - _SLACK


def _tell_mended(tx: Transaction, mended: Iterable[Finding]) -> None:
    told = []
    for finding in mended:
        tx.findings.forget(finding.name)
        told.append(f"{finding.name.rpartition('/')[2]}, wrong since {finding.since_at:%Y-%m-%d}: {finding.found}")
    if told:
        tx.queue.tell_operators("check_mended", {"mended": told})
