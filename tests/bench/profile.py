"""Where the CPU of one panic goes.

    python -m tests.bench.profile [--panics 100]

Panics at an even pace, each of a person of their own, twice: once as they are, for the CPU of each part of the daemon
by the kernel's count, and once under a profile, for the libraries and the ten functions of each part that use the most
themselves.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.bench.figures import load_average
from tests.bench.inside import Shares
from tests.bench.load import ROOT
from tests.bench.proc import cpu_seconds, thread_seconds, until
from tests.bench.town import ONE_BY_ONE, bench_world, panic, settle

#: The parts, by the beginnings of their threads' names; the first that fits counts.
PARTS = {
    "accept path: event loop": ("MainThread",),
    "accept path: writer of the database": ("writer", "store-writer"),
    "intake": ("intake",),
    "pages": ("page",),
    "gitlab lane": ("gitlab",),
    "receipts and news": ("mail",),
}
REST = "everything else"


def part_of(thread: str) -> str:
    return next((part for part, names in PARTS.items() if thread.startswith(names)), REST)


def _run(panics: int, *, with_functions: bool) -> tuple[dict[str, float], dict[str, Shares]]:
    """CPU of each part in seconds, the readers' included; the functions of each thread."""
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder), ONE_BY_ONE) as town:
        written = Path(folder) / "profile.json"
        town.module = "tests.bench.inside"
        town.environ = {"PYTHONPATH": str(ROOT), "BENCH_PROFILE": str(written)}
        town.environ |= {"BENCH_FUNCTIONS": "1"} if with_functions else {}
        program = town.start()
        for number in range(10):
            panic(town, number, tag="warm")
        settle(town)
        program.signal(signal.SIGUSR1)
        if not until(written.with_suffix(".noted").exists, 30):
            raise RuntimeError(f"the daemon did not hear{program.tail()}")
        time.sleep(1)
        before, everything = thread_seconds(program.pid), cpu_seconds(program.pid)
        for number in range(panics):
            panic(town, number)
            time.sleep(0.1)
        settle(town)
        used = {each: seconds - before.get(each, 0.0) for each, seconds in thread_seconds(program.pid).items()}
        readers = cpu_seconds(program.pid) - everything - sum(used.values())
        program.signal(signal.SIGUSR2)
        if not until(written.exists, 30):
            raise RuntimeError(f"the daemon wrote no profile{program.tail()}")
        told = json.loads(written.read_text())
    parts: dict[str, float] = defaultdict(float, {"readers, processes of their own": readers})
    for thread, native_id in told["ids"].items():
        parts[part_of(thread)] += used.pop(native_id, 0.0)
    parts[REST] += sum(used.values())
    return parts, told["functions"]


def by_part(functions: dict[str, Shares]) -> dict[str, Shares]:
    """The functions of all threads of a part together."""
    found: dict[str, Shares] = {}
    for thread, shares in functions.items():
        part = found.setdefault(part_of(thread), defaultdict(float))
        for name, used in shares.items():
            if not name.startswith("inside.py") and "_lsprof" not in name:  # what looks on is no part of it
                part[name] += used
    return found


def libraries(shares: Shares) -> Shares:
    found: Shares = defaultdict(float)
    for name, used in shares.items():
        found[name.partition("/")[0].partition(":")[0]] += used
    return found


def _top(shares: Shares, count: int) -> list[tuple[str, float]]:
    whole = sum(shares.values()) or 1.0
    ordered = sorted(shares.items(), key=lambda pair: -pair[1])[:count]
    return [(name, used / whole) for name, used in ordered]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--panics", type=int, default=100)
    panics = parser.parse_args().panics
    parts, _ = _run(panics, with_functions=False)
    _, functions = _run(panics, with_functions=True)
    total = sum(parts.values())
    print(f"{total / panics * 1000:.0f} ms CPU a panic; load average {load_average():.1f}")
    profiled = by_part(functions)
    for part, share in _top(parts, len(parts)):
        print(f"\n{part}: {share:.0%}, {parts[part] / panics * 1000:.1f} ms")
        if part in profiled:
            print("  " + ", ".join(f"{name} {of:.0%}" for name, of in _top(libraries(profiled[part]), 6)))
            for name, of in _top(profiled[part], 10):
                print(f"  {of:6.1%}  {name}")


if __name__ == "__main__":
    main()
