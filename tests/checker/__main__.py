"""`python -m tests.checker`: one run, its figures, and whether everything held. Exit status 1: something did not."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.checker import record as records
from tests.checker.figures import figures
from tests.checker.invariants import INVARIANTS, violations
from tests.checker.nodes import loud
from tests.checker.record import Record
from tests.checker.stage import Plan, play
from tests.checker.stores import Postgres, Sqlite, own_postgres


def main(arguments: Sequence[str] | None = None) -> int:
    wanted = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whatever runs is ended with us
    if wanted.judge is not None:
        return _tell(records.load(wanted.judge), {}, wanted.judge)
    plan = _plan(wanted)
    print(f"seed {plan.seed}, {wanted.database}, {plan.nodes} node(s), {plan.seconds:g} s", flush=True)
    folder = Path(tempfile.mkdtemp(prefix=f"panicmail-faults-{plan.seed}-"))
    with ExitStack() as stack:
        store: Sqlite | Postgres
        store = Sqlite(folder / "node-0") if wanted.database == "sqlite" else stack.enter_context(own_postgres())
        record, logs = play(plan, store, folder)
    _keep(record, logs, folder)
    status = _tell(record, logs, folder)
    if status == 0 and not wanted.keep:
        shutil.rmtree(folder)
    return status


def _plan(wanted: argparse.Namespace) -> Plan:
    return Plan(
        seconds=wanted.seconds,
        seed=int(time.time()) % 100_000 if wanted.seed is None else wanted.seed,
        nodes=wanted.nodes,
        panic_every=wanted.panic_every,
        harm_every=wanted.harm_every,
        harms=tuple(wanted.harm),
        patience=wanted.patience,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.checker", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load and harm; rest comes after it")
    parser.add_argument("--seed", type=int, help="without one, a new one")
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--nodes", type=int, default=1, help="more than one: on postgres")
    parser.add_argument("--panic-every", type=float, default=1.5, metavar="SECONDS", help="on average")
    parser.add_argument("--harm-every", type=float, default=5.0, metavar="SECONDS", help="of each arm, on average")
    parser.add_argument("--harm", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--patience", type=float, default=330.0, metavar="SECONDS", help="for everything to be done")
    parser.add_argument("--keep", action="store_true", help="keep the record though everything held")
    parser.add_argument("--judge", type=Path, metavar="FOLDER", help="no run: judge a record that was kept")
    wanted = parser.parse_args(arguments)
    if wanted.nodes > 1 and wanted.database == "sqlite":
        parser.error("a SQLite file is one daemon's: --nodes needs --database postgres")
    return wanted


def _keep(record: Record, logs: Mapping[str, Sequence[str]], folder: Path) -> None:
    records.save(record, folder)
    for name, lines in logs.items():
        (folder / f"{name}.log").write_text("".join(f"{line}\n" for line in lines))


def _tell(record: Record, logs: Mapping[str, Sequence[str]], folder: Path) -> int:
    for name, figure in figures(record).items():
        print(f"  {name:<18} {figure}")
    said = sum((loud(lines) for lines in logs.values()), Counter[str]())
    for words, count in said.most_common(20):
        print(f"  {count:>5} x {words}")
    broken = violations(record)
    for invariant in INVARIANTS:
        print(f"{'BROKEN' if invariant in broken else 'holds':<7}{invariant}")
        for sentence in broken.get(invariant, []):
            print(f"         {sentence}")
    if broken:
        print(f"the record, and the nodes' logs: {folder}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
