"""What rota programs export is read without a key: their calendars in `data/calendars`, and who is on call by each."""

from __future__ import annotations

from pathlib import Path

import pytest

from panicmail.oncall import ical_parse
from panicmail.oncall.calendars import Calendar, resolve
from panicmail.oncall.ical_text import decoded
from panicmail.oncall.schedules import Schedule, Schedules
from tests.calendar_texts import NAMES, SINCE, UNTIL

EXPORTS = Path(__file__).parents[1] / "data" / "calendars"
RIGHT = {
    "linkedin-oncall": ["23 08:00 - 30 08:00 ana", "30 08:00 - 07 08:00 bo"],
    "pagerduty": ["23 08:00 - 24 08:00 ana", "24 08:00 - 25 08:00 bo", "25 08:00 - 26 08:00 jose"],
    "opsgenie": ["23 08:00 - 24 08:00 ana", "24 08:00 - 25 08:00 bo"],
    "grafana-oncall": ["23 08:00 - 23 20:00 ana", "23 20:00 - 24 08:00 bo"],
    "goalert": ["23 08:00 - 24 08:00 ana", "24 08:00 - 30 08:00 bo"],
    "goalert-of-one-user": [],
    "gitlab-issues": ["23 00:00 - 24 00:00 ana", "24 00:00 - 25 00:00 bo"],
}


def test_every_export_has_an_answer() -> None:
    assert {file.stem for file in EXPORTS.glob("*.ics")} == set(RIGHT)


@pytest.mark.parametrize("program", RIGHT)
def test_who_is_on_call_by_the_export_of(program: str) -> None:
    text = decoded((EXPORTS / f"{program}.ics").read_bytes())
    found = ical_parse.read(text, SINCE, UNTIL)
    events = resolve(found, NAMES, "any")
    answers = Calendar(since=found.since, until=found.until, events=events, uncounted=found.uncounted)
    spans = Schedules({"seoc": Schedule(calendar=answers)}).spans("seoc", SINCE, UNTIL)
    has = [span for span in spans if span.people]
    assert [f"{s.start:%d %H:%M} - {s.end:%d %H:%M} {' '.join(s.people)}" for s in has] == RIGHT[program]
    assert not any(each.is_mistake for each in found.uncounted)
    unknown = {name for span in spans for name in span.unknown}
    assert unknown == ({"On-Call (GoAlert: Security)"} if program == "goalert-of-one-user" else set())
