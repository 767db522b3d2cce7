"""Configurations with several policies."""

from __future__ import annotations

from dataclasses import replace
from datetime import time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from panicmail import config
from panicmail.incident.escalation_policy import BusinessHours, EscalationPolicy, PolicyChoice, PolicyStep
from tests.cast import MINUTE, POLICY

HOURS = BusinessHours(frozenset(range(5)), time(9), time(17), ZoneInfo("Europe/Berlin"))


LOW = EscalationPolicy(
    sla=timedelta(hours=6),
    steps=(PolicyStep(timedelta(), ("seoc",)), PolicyStep(timedelta(hours=6), ("smoc",))),
    repeat=timedelta(hours=2),
    remind_after=timedelta(hours=4),
    name="low",
    choice=PolicyChoice(severities=(3, 4), subjects=("phishing",), addresses=("panic+low@example.com",)),
    hours=HOURS,
)


MINIMAL = """
[smtp]
addresses = ["panic@example.com"]
[gitlab]
url = "https://gitlab.example.com"
project = "security/incidents"
token = "t"
[people.ana]
email = "ana@example.com"
[people.max]
email = "max@example.com"
[oncall.seoc]
fixed = ["ana"]
[oncall.smoc]
fixed = ["max"]
"""


def loaded(tmp_path: Path, text: str) -> config.Config:
    file = tmp_path / "panicmail.toml"
    file.write_text(MINIMAL + text)
    return config.load(file)


FAST = replace(POLICY, name="fast", sla=5 * MINUTE, choice=PolicyChoice(severities=(1,), subjects=("ceo",)),
               steps=(PolicyStep(timedelta(), ("seoc", "smoc")),))  # fmt: skip
