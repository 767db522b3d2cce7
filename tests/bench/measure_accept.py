"""Accepting against rivals: all of them in every round, one after another."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tests.bench import rivals
from tests.bench.figures import Goal, Line, p50_p99, percentile, spread
from tests.bench.load import Delivered, Load, send_apart
from tests.bench.proc import fsync_rate

#: A server is sent so many mails before it is measured.
WARM_UP = 20
AGAINST = "Postfix"

Round = dict[str, Delivered]


def _round(load: Load, *, with_times: bool) -> tuple[Round, float]:
    """Every server once, and the fsync rate before."""
    delivered: Round = {}
    with tempfile.TemporaryDirectory() as folder:
        fsyncs = fsync_rate(Path(folder), 0.3)
    for rival in rivals.found():
        with tempfile.TemporaryDirectory() as folder, rival.start(Path(folder)) as port:
            send_apart(replace(load, port=port, mails=WARM_UP, sessions=min(load.sessions, 4), tag="warm"))
            throw = send_apart if with_times else rivals.throw
            delivered[rival.name] = throw(replace(load, port=port))
    return delivered, fsyncs


def _rounds(load: Load, number: int, *, with_times: bool = False) -> tuple[list[Round], list[float]]:
    """Every server's runs, and the fsync rates."""
    pairs = [_round(load, with_times=with_times) for _ in range(number)]
    return [each for each, _ in pairs], [fsyncs for _, fsyncs in pairs]


def _rate(run: Delivered) -> float:
    return run.rate


def _middle(run: Delivered) -> float:
    return percentile((each.took for each in run.sent), 0.5)


def _ratios(rounds: list[Round], value: Callable[[Delivered], float]) -> dict[str, list[float]]:
    """panicmail's figure by that of each rival, round by round."""
    others = [name for name in rounds[0] if name != "panicmail"]
    return {name: [value(each["panicmail"]) / value(each[name]) for each in rounds] for name in others}


def _told(ratios: dict[str, list[float]]) -> str:
    return "; ".join(f"{spread(each, '.2f')} of {name}" for name, each in ratios.items())


def _accepts(name: str, what: str, load: Load, number: int, goal: Goal) -> Iterator[Line]:
    rounds, fsyncs = _rounds(load, number)
    ratios = _ratios(rounds, _rate)
    rates = "; ".join(f"{server} {spread([each[server].rate for each in rounds])}/s" for server in rounds[0])
    busiest = max(run.cpu for each in rounds for run in each.values())
    by = f"by {rivals.generator()}" + (f", at most {busiest:.0%} of a core" if busiest else "")
    figure = statistics.median(ratios[AGAINST]) if AGAINST in ratios else None
    yield Line(name, f"durable accepts/s against Postfix, {what}", f"{_told(ratios)} ({rates}; {by})", figure, goal,
               fsyncs=statistics.median(fsyncs))  # fmt: skip


def accepts(quick: bool) -> Iterator[Line]:
    load = Load(0, 200 if quick else 1500, sessions=50, size=4096)
    yield from _accepts("accepts", "50 sessions kept, 4 KB", load, 1 if quick else 5, Goal(1.0, 3.0, "", True))


def accepts_conn(quick: bool) -> Iterator[Line]:
    load = Load(0, 150 if quick else 1000, sessions=50, size=4096, keep=False)
    yield from _accepts("accepts_conn", "a connection a mail, 4 KB", load, 1 if quick else 5, Goal(0.7, 2.0, "", True))


def accepts_100k(quick: bool) -> Iterator[Line]:
    load = Load(0, 60 if quick else 400, sessions=50, size=102_400)
    yield from _accepts("accepts_100k", "50 sessions kept, 100 KB", load, 1 if quick else 5, Goal(0.8, 2.0, "", True))


def reply(quick: bool) -> Iterator[Line]:
    """One session, one mail after another as fast as the answers come."""
    rounds, fsyncs = _rounds(Load(0, 50 if quick else 200), 1 if quick else 5, with_times=True)
    ratios = _ratios(rounds, _middle)
    parts = []
    for server in rounds[0]:
        took = [sent.took for each in rounds for sent in each[server].sent]
        parts.append(f"{server} {p50_p99(took)}")
    figure = statistics.median(ratios[AGAINST]) if AGAINST in ratios else None
    text = f"{_told(ratios)} ({'; '.join(parts)})"
    yield Line("reply", "end of DATA to 250, p50, one session, against Postfix", text, figure, Goal(1.2, 0.7),
               fsyncs=statistics.median(fsyncs))  # fmt: skip
