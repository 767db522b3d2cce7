"""The daily list: what is open or held, to whoever has it and to those on call in its role, until it is resolved.

One mail a day to each of them, in the daytime of their zone, of what became open before that day's daytime began.
Looked at once a minute; the row of the outbox says that the day's list was sent, so nothing is forgotten over a restart
and nobody gets two.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

from panicmail.incident import transitions
from panicmail.incident.model import Incident, State
from panicmail.mail.compose.open_list import Listed
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response import incident_links
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store


class DailyList:
    """Sends each of our people the list of what concerns them."""

    def __init__(self, store: Store, settings: CurrentSettings) -> None:
        self._store = store
        self._settings = settings
        self._looked: set[tuple[str, str]] = set()  #: (person, day) of which it is known whether they have a list

    def look(self) -> int:
        """Send the lists whose time has come; answers how many.

        Raises:
            StoreFailed: The database could not be asked.
        """
        due = self._store.read(self._due)
        for person, day in due:
            self._store.write("tick.move", lambda tx, to=person, on=day: tx.add_list(to, on))  # type: ignore[misc]
        return len(due)

    def _due(self, tx: Transaction) -> list[tuple[str, str]]:
        settings, now = self._settings(), tx.now
        days = {p: day_of(settings, p, now) for p in settings.people if _is_daytime(settings, p, now)}
        waiting = {p: day for p, day in days.items() if (p, day) not in self._looked and not tx.has_list(p, day)}
        if not waiting:
            return []
        concerned = _concerned(tx, settings)
        self._looked = set(days.items())
        return [(person, day) for person, day in waiting.items() if _of(concerned, settings, person, now)]


def listed(tx: Transaction, settings: RuntimeSettings, person: str) -> list[Listed]:
    """What stands on the list of `person` now, oldest first."""
    return [
        Listed(each, settings.link(each.id, person, incident_links.live_round(tx.lines_of(each.id), person)))
        for each in _of(_concerned(tx, settings), settings, person, tx.now)
    ]


def day_of(settings: RuntimeSettings, person: str, now: datetime) -> str:
    """The day it is where `person` is, as an ISO date."""
    return now.astimezone(settings.daytime_of(person).zone).date().isoformat()


def _is_daytime(settings: RuntimeSettings, person: str, now: datetime) -> bool:
    return settings.daytime_of(person).after(now, timedelta()) == now


#: Incidents, oldest first, and whom each concerns.
Concerned = Sequence[tuple[Incident, set[str]]]


def _concerned(tx: Transaction, settings: RuntimeSettings) -> Concerned:
    who = cache(settings.who_at(tx.now))
    unresolved = tx.list_incidents(states=[State.OPEN, State.ACKED])[::-1]
    return [(each, transitions.daily_readers(each, settings.policy_of(each), who)) for each in unresolved]


def _of(concerned: Concerned, settings: RuntimeSettings, person: str, now: datetime) -> list[Incident]:
    began_at = settings.daytime_of(person).opens_at(now)
    return [each for each, readers in concerned if person in readers and each.opened_at < began_at]
