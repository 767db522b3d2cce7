"""The daily list: what is open or held, to whoever has it and to those on call in its role, until it is resolved.

One mail a day to each of them, in the daytime of their zone, of what became open before that day's daytime began.
Looked at once a minute; the row of the outbox says that the day's list was sent, so nothing is forgotten over a restart
and nobody gets two.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

from panicmail.incident import transitions
from panicmail.incident.model import Incident, State
from panicmail.mail.compose.letterhead import incident_within
from panicmail.mail.compose.operator_alerts import Listed
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response import incident_links
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store


class DailyList:
    """Sends each of our people the list of what concerns them."""

    def __init__(self, store: Store, settings: CurrentSettings) -> None:
        self._store = store
        self._settings = settings
        self._looked: frozenset[_Turn] = frozenset()  #: of which it is known whether they have a list

    def send_due(self) -> int:
        """Send the lists whose time has come; answers how many.

        Raises:
            StoreFailed: The database could not be asked; what was not written is written in a minute.
        """
        turns, due = self._store.read(self._due)
        for turn in due:
            self._store.write("tick.move", lambda tx, to=turn: tx.queue.add_list(to.person, to.day))  # type: ignore[misc]
        self._looked = turns
        return len(due)

    def _due(self, tx: Transaction) -> tuple[frozenset[_Turn], list[_Turn]]:
        """Whose day it is, and who of them has a list before them. What is open is read for those alone of whom that
        is not known: once a day for each, and when they come on call or have something new."""
        settings = self._settings()
        turns = frozenset(_turn(tx, settings, p) for p in settings.people if _is_daytime(settings, p, tx.now))
        waiting = [turn for turn in turns - self._looked if not tx.queue.has_list(turn.person, turn.day)]
        if not waiting:
            return turns, []
        concerned = _concerned(tx, settings)
        return turns, [turn for turn in waiting if _of(concerned, settings, turn.person, tx.now)]


class _Turn(NamedTuple):
    """A day of somebody, and what decides besides the incidents whether it has a list."""

    person: str
    day: str  #: an ISO date
    roles: frozenset[str]  #: they are on call in
    has_any: bool  #: they hold an incident


def _turn(tx: Transaction, settings: RuntimeSettings, person: str) -> _Turn:
    schedules = settings.schedules
    roles = frozenset(role for role in schedules.roles if person in schedules.who(role, tx.now))
    return _Turn(person, day_of(settings, person, tx.now), roles, tx.search.has_any(person))


def listed(tx: Transaction, settings: RuntimeSettings, person: str) -> list[Listed]:
    """What stands on the list of `person` now, oldest first."""
    return [
        Listed(
            incident_within(each, settings.people[person].detail),
            settings.link(each.id, person, incident_links.live_round(tx.timeline.of_incident(each.id), person)),
        )
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
    unresolved = tx.search.list_incidents(states=[State.OPEN, State.ACKED])[::-1]
    return [(each, transitions.daily_readers(each, settings.policy_of(each), who)) for each in unresolved]


def _of(concerned: Concerned, settings: RuntimeSettings, person: str, now: datetime) -> list[Incident]:
    began_at = settings.daytime_of(person).opens_at(now)
    return [each for each, readers in concerned if person in readers and each.opened_at < began_at]
