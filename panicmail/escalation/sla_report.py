"""Service-level figures: was somebody there in time.

Counted are incidents whose mail was accepted in the span asked about; drills and those paged once without escalation
are left out. *Attained*: acknowledged for the first time at or before the SLA's end. An incident that is still open
within its SLA is not judged yet.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from panicmail.incident.model import Incident, State
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class SlaFigures:
    """What the span came to. Times are seconds from acceptance to the first acknowledgement; None: nothing to count."""

    since: str
    until: str
    incidents: int
    open: int
    acked: int
    resolved: int
    judged: int  #: acknowledged, or past the SLA
    attained: int
    breached: int
    attained_percent: float | None  #: rounded down: 100.0 is all of them
    seconds_to_ack_median: float | None
    seconds_to_ack_p95: float | None
    seconds_to_ack_max: float | None
    pages: int  #: pages queued in the span, repeats included

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def figures(store: Store, span: timedelta) -> SlaFigures:
    """The figures of the last `span`."""

    def work(tx: Transaction) -> SlaFigures:
        since = tx.now - span
        incidents = [i for i in tx.search.list_incidents(since=since) if not i.once and not i.drill]
        return count(incidents, since, tx.now, tx.figures.pages_since(since))

    return store.read(work)


def count(incidents: Sequence[Incident], since: datetime, now: datetime, pages: int) -> SlaFigures:
    """The figures of `incidents`, as they stand at `now`."""
    judged = [i for i in incidents if i.first_acked_at is not None or i.first_sla_at <= now]
    attained = [i for i in judged if is_attained(i)]
    times = sorted(
        (i.first_acked_at - i.accepted_at).total_seconds() for i in incidents if i.first_acked_at is not None
    )
    return SlaFigures(
        since=since.isoformat(timespec="seconds"),
        until=now.isoformat(timespec="seconds"),
        incidents=len(incidents),
        open=sum(i.state is State.OPEN for i in incidents),
        acked=sum(i.state is State.ACKED for i in incidents),
        resolved=sum(i.state is State.RESOLVED for i in incidents),
        judged=len(judged),
        attained=len(attained),
        breached=len(judged) - len(attained),
        attained_percent=math.floor(1000 * len(attained) / len(judged)) / 10 if judged else None,
        seconds_to_ack_median=round(statistics.median(times), 1) if times else None,
        seconds_to_ack_p95=round(times[max(0, -(-95 * len(times) // 100) - 1)], 1) if times else None,
        seconds_to_ack_max=round(times[-1], 1) if times else None,
        pages=pages,
    )


def is_attained(incident: Incident) -> bool:
    """Acknowledged within the SLA it was accepted under."""
    return incident.first_acked_at is not None and incident.first_acked_at <= incident.first_sla_at
