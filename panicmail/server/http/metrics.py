"""The figures as Prometheus text.

Read when they are asked for, into a registry of our own; nothing is counted here. When the figures cannot be had (the
database is away), the scrape still answers, with `panicmail_figures_read 0`: a monitor that goes blind exactly then
would be of no use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from panicmail import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One metric. Durations in seconds, instants as seconds since 1970, the unit at the end of the name."""

    name: str  #: without the leading "panicmail_" and, for a counter, without "_total"
    help: str  #: one sentence
    values: Mapping[str, float]  #: by the label's value; without a label one number under ""
    label: str = ""  #: the label's name; "" is no label
    counts: bool = False  #: it only ever grows: a counter, else a gauge


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFigures:
    """What a monitor wants to know. Drills are left out of what counts incidents."""

    incidents: Mapping[str, int]  #: open and acked ones, 1000 at most
    mails: Mapping[str, int]  #: accepted and not understood, 1000 at most
    outbox: Mapping[str, int]  #: by "lane state", what waits or failed, 1000 each at most
    open_seconds_max: float  #: how long the oldest open incident is open; 0 when none is
    breached_open: int  #: open and past their SLA, 1000 at most
    mails_accepted: int  #: answered 250 since the start of the process
    gaps: Mapping[str, int]  #: what the accounting found missing, by kind; every kind is named
    barred: Mapping[str, int]  #: 1: the adapter lets nothing through; GitLab and the relay are always named


class Exposition:
    """What `/metrics` answers."""

    def __init__(self, figures: Callable[[], Iterable[Figure]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Figures(figures))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Figures(Collector):
    def __init__(self, figures: Callable[[], Iterable[Figure]]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("panicmail_build", "Which panicmail this is.", {"version": __version__})
        yield GaugeMetricFamily("panicmail_up", "1: the process answers.", 1)
        families, were_read = self._read()
        yield GaugeMetricFamily("panicmail_figures_read", "0: the figures could not be read this time.", were_read)
        yield from families

    def _read(self) -> tuple[list[Metric], bool]:
        try:
            return [_family(figure) for figure in self._figures()], True
        except Exception:  # whatever it is: monitoring must not go blind, and the figure above tells
            _log.exception("web.failed", where="/metrics")
            return [], False


def _family(figure: Figure) -> Metric:
    kind = CounterMetricFamily if figure.counts else GaugeMetricFamily
    family = kind(f"panicmail_{figure.name}", figure.help, labels=[figure.label] if figure.label else [])
    for value, number in figure.values.items():
        family.add_metric([value] if figure.label else [], number)
    return family
