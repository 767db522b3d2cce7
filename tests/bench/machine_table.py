"""Where the lines are kept: all in the README beside this, four of them in the project's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import figures
from tests.bench.figures import Line
from tests.bench.proc import machine

HERE = Path(__file__).parent / "README.md"
PROJECT = Path(__file__).parents[2] / "README.md"
#: What the project's README shows.
SHOWN = ("accepts", "page", "deadlines_100k", "flood")


def write(lines: Sequence[Line], *, quick: bool) -> None:
    """Put them in their places; the rows of what was not measured now stay."""
    how = "quick run" if quick else "run"
    said = f"The latest {how}: {machine()}, on {datetime.now(UTC):%Y-%m-%d}."
    for path, wanted in ((HERE, lines), (PROJECT, [line for line in lines if line.name in SHOWN])):
        if wanted:
            before = figures.between(path.read_text("utf-8"))
            figures.write_between(path, f"{said}\n\n{figures.table(wanted, before)}")
