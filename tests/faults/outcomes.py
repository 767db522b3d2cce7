"""A plugin of pytest, `-p tests.faults.outcomes`: writes what came of every test into the file FAULTS_OUTCOMES names.

Under pytest-xdist only the process that collects the reports writes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

#: Node id -> the outcome, and why it is not "passed".
_outcomes: dict[str, tuple[str, str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid] = _outcome(report)


def _outcome(report: pytest.TestReport) -> tuple[str, str]:
    expected = getattr(report, "wasxfail", None)
    if expected is not None:
        return "expected to fail", str(expected).removeprefix("reason: ")
    if report.skipped and isinstance(report.longrepr, tuple):
        return "skipped", str(report.longrepr[2]).removeprefix("Skipped: ").removeprefix("NOT TESTED: ")
    return report.outcome, ""


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        Path(os.environ["FAULTS_OUTCOMES"]).write_text(json.dumps(_outcomes, indent=1))
