"""The fault matrix as a table in README.md beside this: what may go wrong, what then happens, and which test showed it.

    python -m tests.faults.table                  run the tests, write the table
    python -m tests.faults.table OUTCOMES         write it from the outcomes of a run with `-p tests.faults.outcomes`

The rows are the `row` marks of the tests in here. `NOT_HERE` names what they do not show, and why.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- fault matrix: begin -->", "<!-- fault matrix: end -->"
#: The rows the matrix began with; those above are ours.
ROWS = range(1, 43)

#: What no test in here shows: the row, the fault, and why not.
NOT_HERE = (
    (
        10,
        "power loss on a real disk",
        "it wants a machine whose power can be cut; the rows above play such a disk",
    ),
    (21, "a leap second", "the kernel makes none on demand; a clock put back is row 19"),
    (
        22,
        "acknowledgements while the DNS is away",
        "test_senders.py has them: the check of a sender waits, and is made again",
    ),
    (38, "the host with `panicmail watch` is dead too", "it wants the dead-man's switch outside, which is not ours"),
    (39, "ten thousand mails a minute", "a machine like this one takes fewer; the long form sends two thousand"),
)

_HEAD = ("| # | fault | expected | shown by | outcome |", "| --- | --- | --- | --- | --- |")
#: From the worst on: a row is as good as its worst test.
_WORST = ("failed", "expected to fail", "skipped", "passed")
#: (outcome, why) by test, "test_crashes.py::test_it".
Outcomes = Mapping[str, tuple[str, str]]


@dataclass(frozen=True, order=True)
class Row:
    """One fault and what is expected."""

    number: int
    fault: str
    expected: str
    tests: tuple[str, ...]  #: "test_crashes.py::test_it"


def rows() -> list[Row]:
    """The rows the tests say they prove."""
    found: dict[tuple[int, str, str], list[str]] = {}
    for test, number, fault, expected in _marks():
        found.setdefault((number, fault, expected), []).append(test)
    return sorted(Row(*row, tuple(sorted(tests))) for row, tests in found.items())


def _marks() -> Iterator[tuple[str, int, str, str]]:
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.faults.{file.stem}")
        for name, test in vars(module).items():
            for mark in getattr(test, "pytestmark", ()) if name.startswith("test_") else ():
                if mark.name == "row":
                    number, fault, expected = mark.args
                    yield f"{file.name}::{name}", number, fault, expected


def table(outcomes: Outcomes) -> str:
    """The table, with a line above it that counts."""
    found = rows()
    said = {row: _outcome(row, outcomes) for row in found}
    counted = Counter(words.partition(":")[0] for words in said.values())
    lines = [", ".join(f"{number} {words}" for words, number in counted.most_common())]
    lines[0] += f", {len(NOT_HERE)} not tried here. `make matrix` writes this anew."
    described = [(row.number, line(row, said[row])) for row in found]
    described += [(number, f"| {number} | {fault} | | | untested, because {why} |") for number, fault, why in NOT_HERE]
    return "\n".join([*lines, "", *_HEAD, *(text for _, text in sorted(described, key=lambda one: one[0]))])


def line(row: Row, outcome: str) -> str:
    tests = "<br>".join(f"`{test.partition('::')[2]}`" for test in row.tests)
    return f"| {row.number} | {row.fault} | {row.expected} | {tests} | {outcome} |"


def _outcome(row: Row, outcomes: Outcomes) -> str:
    came = [outcomes[node] for node in outcomes for test in row.tests if node.partition("[")[0].endswith("/" + test)]
    if not came:
        return "not run"
    worst, why = min(came, key=lambda one: _WORST.index(one[0]))
    words = {"passed": "holds", "failed": "fails", "skipped": "not run here", "expected to fail": "does not hold yet"}
    return f"{words[worst]}: {why}" if why else words[worst]


def in_readme(text: str) -> str:
    """What stands between the two marks.

    Raises:
        ValueError: They are not there.
    """
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()


def without_outcomes(lines: Iterable[str]) -> list[str]:
    """The rows of a table as far as they do not depend on a run."""
    return [text.rpartition(" | ")[0] for text in lines if text.startswith("| ") and not text.startswith("| #")]


def write(outcomes: Outcomes) -> None:
    before, _, rest = README.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{table(outcomes)}\n\n{END}{after}", "utf-8")


def run() -> tuple[Outcomes, int]:
    """Run the tests, the long ones too, those of other folders as well; what came of them, and pytest's exit status.

    Every program is started anew, and Hypothesis draws all examples.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "outcomes.json")
        pytest = [sys.executable, "-m", "pytest", "-p", "no:randomly"]
        about = {"FAULTS_OUTCOMES": str(file), "PANICMAIL_FAULTS": "long", "PANICMAIL_TESTS_EXEC": "1"}
        about |= {"PANICMAIL_FUZZ": os.environ.get("PANICMAIL_FUZZ", "1")}
        others = [*pytest, "-m", "long or properties", "--ignore=tests/faults", "tests"]
        others_status = subprocess.run(
            others, cwd=README.parents[2], env={**os.environ, **about}, check=False
        ).returncode
        command = [*pytest, "-p", "tests.faults.outcomes", "tests/faults"]
        status = subprocess.run(command, cwd=README.parents[2], env={**os.environ, **about}, check=False).returncode
        return json.loads(file.read_text()), status or others_status


def main() -> int:
    given = sys.argv[1:]
    outcomes, status = (json.loads(Path(given[0]).read_text()), 0) if given else run()
    write(outcomes)
    return status


if __name__ == "__main__":
    sys.exit(main())
