"""Which issues the poll reads, and in which order: GitLab's list says which were updated, the store whose turn is near.

    updated   one list request a minute for the project, and for each one an issue was moved to: whatever was updated
              since the list before; while something is due soon the list is asked at each poll
    near      once for each step, reminder or manager's turn, before it comes: also what changes no date is weighed
    unread    once, what this process has not read yet: all that is watched after a start, the new place of an issue
              that was moved by another node or a webhook, a new one

What is read is what was listed, so a poll costs GitLab the same however much is open. GitLab dates an issue anew for a
comment or a label only when it was not dated within the last minute (its ThrottledTouch), so what was listed sooner
than that after its date is read once more when the minute is over. What could not be read stays owed, behind the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import structlog

from panicmail.errors import Blocked, Permanent, Temporary
from panicmail.incident.escalation_policy import REOPEN_WITHIN
from panicmail.incident.model import Incident, State
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: An incident whose next step, reminder or manager's turn is so near is asked about for itself.
NEAR = timedelta(seconds=60)
#: The list is asked so often while nothing is near.
LIST_EVERY = timedelta(seconds=60)
#: The first list after a start goes back so far: a usual outage. What is older is found unread.
FIRST_BACK = timedelta(hours=1)
#: So long after its date an issue may change without a new one: GitLab's minute, and what two clocks may differ.
SETTLES = timedelta(seconds=70)
#: So many issues are read in one poll, and so many incidents looked through for unread ones.
AT_ONCE = 50
#: The issues of incidents resolved so lately are looked at too: a day counts, and an hour in which GitLab was away.
LATELY = REOPEN_WITHIN + timedelta(hours=1)


class Changes(Protocol):
    """Issues of one project, every instant by GitLab's clock."""

    @property
    def asked_at(self) -> datetime: ...
    @property
    def updated_at(self) -> Mapping[int, datetime]: ...
    @property
    def resume_at(self) -> datetime: ...


class ListsChanges(Protocol):
    """GitLab, as far as it names issues that were updated."""

    def changed(self, since: datetime) -> Changes: ...
    def in_project(self, project: str) -> ListsChanges: ...


class _Place(NamedTuple):
    """Where an issue is. `project` None: in the configured one."""

    project: str | None
    iid: int | None


@dataclass(slots=True)
class _Owed:
    """An issue that is to be read."""

    place: _Place
    updated_at: datetime | None = None  #: as GitLab listed it; None: it was not listed
    settles_at: datetime | None = None  #: by our clock: what is read sooner may not be all
    not_before: datetime | None = None  #: it was read, and is read again then


class _Reading(NamedTuple):
    """An issue that was read."""

    place: _Place
    updated_at: datetime | None  #: all is known of it until it is dated otherwise


class _Round:
    """Goes through all that is watched, some at a time, and begins again."""

    def __init__(self) -> None:
        self._states = tuple(State)
        self._state = 0  #: the one that is gone through
        self._after: tuple[datetime, str] | None = None  #: how far
        self._met: dict[str, str | None] = {}  #: incident -> the project its issue was moved to
        self.projects: set[str] = set()  #: to which issues that are watched were moved

    def next(self, tx: Transaction, most: int) -> tuple[list[Incident], frozenset[str] | None]:
        """The next incidents; and when that ends the round, the ids of all that were met in it."""
        found: list[Incident] = []
        while self._state < len(self._states) and len(found) < most:
            found += self._of_state(tx, self._states[self._state], most - len(found))
        self._met |= {incident.id: incident.issue_project for incident in found if incident.issue_iid is not None}
        self.projects |= {incident.issue_project for incident in found if incident.issue_project is not None}
        if self._state < len(self._states):
            return found, None
        met, self._met, self._state = self._met, {}, 0
        self.projects = {project for project in met.values() if project is not None}
        return found, frozenset(met)

    def _of_state(self, tx: Transaction, state: State, most: int) -> Sequence[Incident]:
        is_over = state is State.RESOLVED
        begins = (tx.now - LATELY, "") if is_over else None
        found = tx.search.incidents_after(state, self._after or begins, most)
        at = (found[-1].resolved_at if is_over else found[-1].accepted_at) if len(found) == most else None
        self._after = (at, found[-1].id) if at else None
        self._state += self._after is None
        return found


class IssueQueue:
    """What is to be read. One instance, called by one thread at a time; a new one owes everything."""

    def __init__(self, store: Store, issues: ListsChanges) -> None:
        self._store = store
        self._issues = issues
        self._owed: dict[str, _Owed] = {}  #: incident -> its issue, oldest debt first
        self._read: dict[str, _Reading] = {}
        self._near: dict[str, datetime] = {}  #: incident -> what is due soon
        self._resume_at: dict[str | None, datetime] = {}  #: project -> from when to list, by GitLab's clock
        self._listed_at: dict[str | None, datetime] = {}
        self._round = _Round()

    def next_incidents(self) -> list[Incident]:
        """Those whose issues are to be read now, the most pressing first; `AT_ONCE` at most.

        Raises:
            StoreFailed: The database does not answer. Nothing is forgotten for it.
        """
        self._owe_near(self._store.read(lambda tx: tx.search.near_incidents(tx.now + NEAR)))
        if len(self._owed) < AT_ONCE:
            self._store.read(self._owe_unread)
        for project in (None, *sorted(self._round.projects)):
            self._list(project)
        return self._store.read(self._chosen)

    def begin(self, incident: Incident) -> datetime:
        """It is being read: until that is done it is owed behind the rest. Answers when that began."""
        self._owed[incident.id] = self._owed.pop(incident.id)
        return self._store.now()

    def was_read(self, incident: Incident, began_at: datetime) -> None:
        """Nothing of it is owed, but another reading when GitLab may have left out a date."""
        owed, before = self._owed[incident.id], self._read.get(incident.id)
        is_settled = not _is_ahead(owed.settles_at, began_at)
        known = before.updated_at if before and before.place == owed.place else None
        self._read[incident.id] = _Reading(owed.place, owed.updated_at if owed.updated_at and is_settled else known)
        if is_settled:
            del self._owed[incident.id]
        else:
            owed.not_before = owed.settles_at

    def _owe_near(self, near: Sequence[Incident]) -> None:
        due = {incident.id: _due_at(incident) for incident in near}
        for incident in near:
            if self._near.get(incident.id) != due[incident.id]:
                self._owed.setdefault(incident.id, _Owed(_place(incident)))
        self._near = due

    def _owe_unread(self, tx: Transaction) -> None:
        found, met = self._round.next(tx, AT_ONCE)
        for incident in found:
            read, owed, place = self._read.get(incident.id), self._owed.get(incident.id), _place(incident)
            if place.iid is not None and place not in (read and read.place, owed and owed.place):
                self._owed[incident.id] = _Owed(place)
        if met is not None:
            self._read = {key: reading for key, reading in self._read.items() if key in met}

    def _list(self, project: str | None) -> None:
        """Owe what was updated in one project, if it is time to ask."""
        now, last = self._store.now(), self._listed_at.get(project)
        if last is not None and not self._near and abs(now - last) < LIST_EVERY:
            return
        issues = self._issues if project is None else self._issues.in_project(project)
        try:
            changes = issues.changed(self._resume_at.get(project, now - FIRST_BACK))
        except (Temporary, Permanent) as exc:
            _log.warning("signs.not_listed", project=project or "", reason=str(exc))
            return
        self._store.read(lambda tx: self._owe_changed(tx, project, changes))
        self._resume_at[project], self._listed_at[project] = changes.resume_at, now

    def _owe_changed(self, tx: Transaction, project: str | None, changes: Changes) -> None:
        for incident in _watched(tx.search.incidents_of_issues(list(changes.updated_at)), tx.now):
            place, owed = _place(incident), self._owed.get(incident.id)
            updated_at = changes.updated_at[incident.issue_iid or 0]
            known = (self._read.get(incident.id), owed and _Reading(owed.place, owed.updated_at))
            if place.project == project and _Reading(place, updated_at) not in known:
                age = max(changes.asked_at - updated_at, timedelta())  # somebody may have dated it ahead
                self._owed[incident.id] = _Owed(place, updated_at, tx.now + SETTLES - age)

    def _chosen(self, tx: Transaction) -> list[Incident]:
        ready = [key for key, owed in self._owed.items() if key in self._near or not _is_ahead(owed.not_before, tx.now)]
        ready.sort(key=lambda key: (self._owed[key].updated_at is None, key not in self._near))
        chosen = [*_watched(tx.search.by_ids(ready[:AT_ONCE]), tx.now)]
        for key in {*ready[:AT_ONCE]} - {incident.id for incident in chosen}:
            del self._owed[key]  # it is over by now
        return chosen


def is_refused(exc: Temporary | Permanent) -> bool:
    """Whether GitLab says of this one issue that there is nothing to read: it was deleted."""
    return isinstance(exc, Permanent) and not isinstance(exc, Blocked)


def _place(incident: Incident) -> _Place:
    return _Place(incident.issue_project, incident.issue_iid)


def _watched(found: Sequence[Incident], now: datetime) -> Iterator[Incident]:
    for incident in found:
        is_over = incident.state is State.RESOLVED and now - (incident.resolved_at or now) > LATELY
        if incident.issue_iid is not None and not is_over:
            yield incident


def _is_ahead(at: datetime | None, now: datetime) -> bool:
    """Whether that is still to come. One further off than it can be was told by a clock that has been set back."""
    return at is not None and timedelta() < at - now <= SETTLES


def _due_at(incident: Incident) -> datetime:
    """What time is about to bring and a sign of work would spare."""
    return min(filter(None, (incident.next_step_at, incident.remind_at)))
