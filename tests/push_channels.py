"""People with push channels."""

from __future__ import annotations

from dataclasses import replace

from panicmail.incident.people import Person
from panicmail.incident.push_channel import channel
from tests.office import PEOPLE

ANA, OPEN_TOPIC, MAX = (
    "pover://user@token",
    "ntfy://ntfy.example.com/ana-topic",
    "ntfys://max:secret@ntfy.example.com/max",
)


PAGER = "pagerduty:R0UTINGKEY"


def phones(**urls: tuple[str, ...]) -> dict[str, Person]:
    """The people, with push channels."""
    return {p: replace(who, push=tuple(map(channel, urls.get(p, ())))) for p, who in PEOPLE.items()}
