"""An office with few people."""

from __future__ import annotations

from panicmail.incident import reply_commands
from panicmail.incident.people import Person

PEOPLE = [
    Person(id=name.split()[0].lower(), name=name, email=f"{name.split()[0].lower()}@example.com")
    for name in ("Ana Reyes", "Bo Low", "Max Ode", "Ines Costa")
]


OFFICE = reply_commands.names(PEOPLE, "ana", "Rita Lopez", "7KQ2")
