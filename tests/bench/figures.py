"""What a measurement says: one line of the table, and how figures are made of many samples."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
_HEAD = ("what", "measured", "at least", "aim", "reached", "load average", "fsync/s")


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure has to be."""

    least: float
    aim: float
    unit: str = ""
    more_is_better: bool = False

    def verdict(self, figure: float) -> str:
        """Say "aim", "yes" or by how much it is missed."""
        if self._reaches(figure, self.aim):
            return "aim"
        if self._reaches(figure, self.least):
            return "yes"
        if not self.least or not figure:
            return "no"
        return f"no, {self.least / figure if self.more_is_better else figure / self.least:.1f} times off"

    def _reaches(self, figure: float, bound: float) -> bool:
        return figure >= bound if self.more_is_better else figure <= bound


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    name: str  #: what names it on the command line, and what a later line of that name replaces
    what: str
    measured: str
    figure: float | None = None  #: what is held against the goal
    goal: Goal | None = None
    load: float = 0.0  #: the machine's load average while it was measured, over one minute
    fsyncs: float = 0.0  #: writes of 4 KB with an fsync each, a second, just before

    def cells(self) -> tuple[str, ...]:
        least, aim, verdict = "", "", ""
        if self.goal is not None:
            least, aim = f"{self.goal.least:g}{self.goal.unit}", f"{self.goal.aim:g}{self.goal.unit}"
            verdict = "not measured" if self.figure is None else self.goal.verdict(self.figure)
        what = f"{self.what} (`{self.name}`)"
        return (what, self.measured, least, aim, verdict, f"{self.load:.1f}", f"{self.fsyncs:,.0f}")


def percentile(samples: Iterable[float], share: float) -> float:
    """The smallest sample that at least this share of all does not exceed; NaN of none."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.1f} ms"


def spread(samples: Sequence[float], form: str = ",.0f") -> str:
    """Median, and in brackets the least and the most."""
    if not samples:
        return "none"
    return f"{statistics.median(samples):{form}} [{min(samples):{form}}–{max(samples):{form}}]"


def p50_p99(samples: Sequence[float]) -> str:
    return f"p50 {milliseconds(percentile(samples, 0.5))}, p99 {milliseconds(percentile(samples, 0.99))}"


def load_average() -> float:
    return os.getloadavg()[0]


# -- the table


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def name_in(written: str) -> str:
    """The name of the line a row of the table is; "" of a head."""
    what = written.split("|")[1] if written.startswith("|") else ""
    return what.rpartition("(`")[2].partition("`)")[0] if "(`" in what else ""


def table(lines: Sequence[Line], before: str = "") -> str:
    """The table with these lines; what an earlier one has and they have not stays, in its place."""
    rows = {name: written for written in before.splitlines() if (name := name_in(written))}
    rows |= {line.name: row(line.cells()) for line in lines}
    return "\n".join([row(_HEAD), row("---" for _ in _HEAD), *rows.values()])


def between(text: str) -> str:
    """What stands between the two markers."""
    return text.partition(BEGIN)[2].partition(END)[0].strip("\n")


def write_between(path: Path, text: str) -> None:
    """Put a text between the two markers of a file.

    Raises:
        ValueError: it has not both of them, once each and in order.
    """
    before, begin, rest = (old := path.read_text("utf-8")).partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or old.count(BEGIN) != 1 or old.count(END) != 1:
        raise ValueError(f"{path} wants one {BEGIN} and after it one {END}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")
