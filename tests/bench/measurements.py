"""All measurements, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.bench import measure_accept, measure_clock, measure_flood, measure_page, measure_rest
from tests.bench.figures import Line

#: Measures, few and short when it is True; every run of it starts and stops what it needs.
Measurement = Callable[[bool], Iterator[Line]]

MEASUREMENTS: dict[str, Measurement] = {
    "accepts": measure_accept.accepts,
    "accepts_conn": measure_accept.accepts_conn,
    "accepts_100k": measure_accept.accepts_100k,
    "reply": measure_accept.reply,
    "page": measure_page.page,
    "cpu": measure_page.cpu,
    "burst": measure_page.burst,
    "deadlines": measure_clock.deadlines,
    "start": measure_clock.start,
    "restart": measure_clock.restart,
    "flood": measure_flood.flood,
    "flood_pages": measure_flood.flood_pages,
    "rest": measure_rest.rest,
    "crowd": measure_rest.crowd,
    "commands": measure_rest.commands,
}
