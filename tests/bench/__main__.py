"""`make bench`: measures panicmail, prints a line for each measurement, and writes the table of tests/bench/README.md.

    python -m tests.bench [NAME ...] [--quick] [--write]

Without a NAME everything is measured; --help lists them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.bench import figures, machine_table
from tests.bench.figures import Line, load_average
from tests.bench.measurements import MEASUREMENTS, Measurement
from tests.bench.proc import fsync_rate, machine


def measure(name: str, measurement: Measurement, *, quick: bool) -> Iterator[Line]:
    """The lines of one measurement, with the machine's load and its fsync rate; one that fails has a line, too."""
    with tempfile.TemporaryDirectory() as folder:
        fsyncs = fsync_rate(Path(folder))
    try:
        for line in measurement(quick):
            yield replace(line, load=load_average(), fsyncs=line.fsyncs or fsyncs)
    except (Exception, SystemExit) as exc:
        text = " ".join(f"{type(exc).__name__}: {exc}".split())[:200]
        yield Line(name, "failed", text, load=load_average(), fsyncs=fsyncs)


def options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure panicmail.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="few and short runs, to see that everything works")
    parser.add_argument("--write", action="store_true", help="put the lines into the tables of the two READMEs")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(MEASUREMENTS):
        parser.error(f"no measurement {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
    return given


def main(arguments: list[str]) -> int:
    given = options(arguments)
    lines: list[Line] = []
    print(f"{machine()}; load average {load_average():.1f}", flush=True)
    for name in given.names or MEASUREMENTS:
        began = time.monotonic()
        for line in measure(name, MEASUREMENTS[name], quick=given.quick):
            lines.append(line)
            print(f"{figures.row(line.cells())}  {time.monotonic() - began:.0f} s", flush=True)
    if given.write:
        machine_table.write(lines, quick=given.quick)
    return int(any(line.what == "failed" for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
