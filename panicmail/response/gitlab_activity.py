"""Signs of work in GitLab: a poll that sees that somebody paged is on it, without any webhook.

What counts, strictly (design.md 2.5): a comment, a system note or a change of labels authored by a person on this
incident's paged list and made after their page, and after the incident last became open. The issue's fields are never
evidence: who is assigned, which label is on, may be our own doing. Somebody who said no is not acknowledging by what
they write afterwards.

For an open incident such a sign is an acknowledgement; of a held one it is the answer its holder owes, theirs or that
of somebody called in their place. A closed issue acknowledges when somebody paged closed it, resolves an acknowledged
incident whoever did, and is told to those paged when a stranger closed an open one. One that is closed because it went
elsewhere does neither: it is told, and followed where it was moved. What is seen late is weighed by when it was done
(`transitions.overtaken_by`) by our clock: the `Date` of GitLab's own answer says how far its clock is from ours.

The issue of a resolved incident is looked at for a day and an hour more, then by a webhook alone: one that was closed
and is opened again there opens the incident again, if somebody paged did it within a day, or GitLab does not say who.

While an incident is not over, its issue stays confidential: that is put back once (`transitions.issue_altered`).

Which issues are read, and when, is in `issue_queue`. GitLab being away costs nothing but the signs: what could not be
read is read later, and three failures in a row end a poll.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from panicmail.errors import Permanent, Temporary
from panicmail.incident import transitions
from panicmail.incident.model import EffectKind, Incident, State
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.incident.transitions.issue_changed import Destination
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response import storm_acts
from panicmail.response.issue_queue import IssueQueue, ListsChanges, is_refused
from panicmail.response.replies import ReplyChannel, ReplyHandler
from panicmail.store.rows import DeliveryState, TimelineRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: A GitLab that fails so often in a row is away.
AWAY_AFTER = 3


class Act(Protocol):
    @property
    def username(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def what(self) -> str: ...


class Exposure(Protocol):
    @property
    def at(self) -> datetime | None: ...
    @property
    def by(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class _Act:
    """An act, by our clock."""

    username: str
    at: datetime
    what: str


class Activity(Protocol):
    @property
    def closed_at(self) -> datetime | None: ...
    @property
    def closed_by(self) -> str | None: ...
    @property
    def acts(self) -> Sequence[Act]: ...
    @property
    def ahead(self) -> timedelta: ...
    @property
    def elsewhere(self) -> Destination | None: ...
    @property
    def exposure(self) -> Exposure | None: ...
    @property
    def lacking(self) -> tuple[str, ...]: ...
    @property
    def graded(self) -> Graded | None: ...


class Reopening(Protocol):
    @property
    def at(self) -> datetime | None: ...
    @property
    def by(self) -> str | None: ...


class TellsActivity(ListsChanges, Protocol):
    """GitLab, as far as the poll needs it."""

    def activity(self, iid: int, since: datetime) -> Activity: ...
    def reopening(self, iid: int, since: datetime) -> Reopening | None: ...
    def in_project(self, project: str) -> TellsActivity: ...


class ActivityPoll:
    """The poll, and the look at one issue that a webhook asks for. One instance, called by one thread at a time."""

    def __init__(self, store: Store, settings: CurrentSettings, issues: TellsActivity) -> None:
        self._store = store
        self._settings = settings
        self._issues = issues
        self._queue = IssueQueue(store, issues)

    def poll(self) -> None:
        """Ask GitLab which issues were updated, and read those and whatever else is owed.

        Raises:
            StoreFailed: The database does not answer.
        """
        failed = 0
        for incident in self._queue.next_incidents():
            began_at = self._queue.begin(incident)
            if self._ask(incident):
                self._queue.was_read(incident, began_at)
                failed = 0
            elif (failed := failed + 1) == AWAY_AFTER:
                return

    def read_issue(self, issue_iid: int, told_by: str) -> None:
        """Ask GitLab about one issue now, whatever its turn; nothing when no incident has it.

        Args:
            told_by: Who said that something happened there, and how that was verified; it stands beside what counts.

        Raises:
            StoreFailed: The database does not answer. The poll comes to it.
        """
        for incident in self._store.read(lambda tx: tx.search.incidents_of_issues([issue_iid])):
            self._ask(incident, told_by)

    def _ask(self, incident: Incident, told_by: str = "") -> bool:
        """Whether GitLab answered; also that there is no such issue."""
        if incident.issue_iid is None:
            return True
        project = incident.issue_project
        try:
            issues = self._issues if project is None else self._issues.in_project(project)
            if incident.state is State.RESOLVED:
                self._ask_closed(incident, incident.issue_iid, issues)
            else:
                self._ask_unresolved(incident, incident.issue_iid, issues, told_by)
        except (Temporary, Permanent) as exc:
            _log.warning("signs.not_seen", ref=incident.ref, reason=str(exc))
            return is_refused(exc)
        return True

    def _ask_unresolved(self, incident: Incident, iid: int, issues: TellsActivity, told_by: str) -> None:
        since = min((paged.at for paged in incident.paged.values()), default=incident.accepted_at)
        asked_at = self._store.now()
        activity = issues.activity(iid, since)
        self._store.write("signs.weigh", lambda tx: self._weigh_acts(tx, incident.id, activity, told_by))
        self._store.write("signs.weigh", lambda tx: self._record_alterations(tx, incident, activity, asked_at))
        if (graded := activity.graded) is not None:
            settings = self._settings()
            self._store.write(
                "signs.weigh", lambda tx: follow_severity(tx, settings, incident.id, graded, activity.ahead)
            )

    def _record_alterations(self, tx: Transaction, asked: Incident, activity: Activity, asked_at: datetime) -> None:
        """Confidentiality, type and labels. Of an issue that is followed since, the new one is looked at next time."""
        incident = tx.incidents.locked(asked.id)
        if incident is None or (incident.issue_project, incident.issue_iid) != (asked.issue_project, asked.issue_iid):
            return
        exposure, seen = activity.exposure, transitions.Seen(is_exposed=False, lacking=activity.lacking)
        if exposure is not None:
            known = _by_username(self._settings().people).get((exposure.by or "").casefold())
            by = known.id if known else exposure.by or seen.by
            exposed_at = exposure.at.isoformat() if exposure.at else ""
            seen = replace(seen, is_exposed=True, by=by, exposed_at=exposed_at)
        change = transitions.issue_altered(
            incident, seen, _put_back(tx, incident, asked_at), tx.timeline.of_incident(incident.id)
        )
        if change.entries:
            _log.warning("issue.altered", ref=incident.ref, **change.entries[0].facts)
            tx.incidents.apply(incident, change)

    def _ask_closed(self, incident: Incident, iid: int, issues: TellsActivity) -> None:
        resolved = self._store.read(lambda tx: _resolved_by(tx, incident))
        reopening = issues.reopening(iid, transitions.own_time(resolved)) if resolved else None
        if reopening is not None:
            self._store.write("signs.weigh", lambda tx: self._record_reopening(tx, incident.id, reopening))

    def _record_reopening(self, tx: Transaction, incident_id: str, reopening: Reopening) -> None:
        """The issue of a resolved incident is open: opened again by somebody, told once."""
        incident = tx.incidents.locked(incident_id)
        resolved = _resolved_by(tx, incident) if incident else None
        if incident is None or resolved is None or incident.state is not State.RESOLVED:
            return
        lines = tx.timeline.of_incident(incident.id)
        if reopening.at is None:
            # By default an issue stays open when its incident ends: only one that was closed is open again.
            known = [line for line in lines if line.id > resolved.id and line.event == transitions.ISSUE_REOPENED]
            if known or resolved.facts.get("how") != transitions.CLOSED_IN_GITLAB:
                return
        elif transitions.is_known_act(lines, "reopened_at", reopening.at):
            return
        opener, settings = _by_username(self._settings().people).get((reopening.by or "").casefold()), self._settings()
        counts = reopening.by is None or (opener is not None and opener.id in {*incident.paged, incident.holder})
        change = transitions.issue_reopened(
            incident,
            opener.id if opener else reopening.by or "somebody in GitLab",
            settings.duty(incident, tx.now),
            reopened_at=reopening.at or tx.now,
            counts=counts,
        )
        _log.info("issue.reopened", ref=incident.ref, counts=counts)
        tx.incidents.apply(incident, change)

    def _weigh_acts(self, tx: Transaction, incident_id: str, activity: Activity, told_by: str) -> None:
        incident = tx.incidents.locked(incident_id)  # two nodes may be looking at the same issue
        if incident is None:
            return
        people, lines = _by_username(self._settings().people), tx.timeline.of_incident(incident.id)
        if activity.elsewhere is not None:
            self._record_departure(tx, incident, activity, activity.elsewhere, people)
            incident = tx.incidents.locked(incident_id) or incident
        elif self._record_closing(tx, incident, activity, people):
            return
        counted = [
            (person, act)
            for act in (_Act(act.username, act.at - activity.ahead, act.what) for act in activity.acts)
            if (person := people.get(act.username.casefold())) and _counts(incident, person, act, lines)
        ]
        if counted:  # who was first has it; of a holder the latest counts
            self._count_sign(tx, incident, *counted[-1 if incident.state is State.ACKED else 0], told_by)

    def _record_departure(
        self,
        tx: Transaction,
        incident: Incident,
        activity: Activity,
        elsewhere: Destination,
        people: Mapping[str, Person],
    ) -> None:
        """The issue is closed because it went elsewhere: told once, and followed if it can be."""
        if transitions.is_known_act(tx.timeline.of_incident(incident.id), "closed_at", activity.closed_at):
            return
        closed_at = activity.closed_at.isoformat() if activity.closed_at else ""
        closer = people.get((activity.closed_by or "").casefold())
        by = closer.id if closer else activity.closed_by or "somebody in GitLab"
        _log.info("issue.went", ref=incident.ref, how=elsewhere.how, followed=elsewhere.project is not None)
        tx.incidents.apply(incident, transitions.issue_went(incident, elsewhere, by, closed_at))

    def _record_closing(
        self, tx: Transaction, incident: Incident, activity: Activity, people: Mapping[str, Person]
    ) -> bool:
        """Whether the issue was closed since the incident last became open, and that was news."""
        if activity.closed_at is None or (at := activity.closed_at - activity.ahead) <= incident.opened_at:
            return False
        closed_at, lines = activity.closed_at.isoformat(), tx.timeline.of_incident(incident.id)
        if transitions.is_known_act(lines, "closed_at", activity.closed_at):
            return False  # it acknowledged, or those paged know that a stranger closed it
        closer = people.get((activity.closed_by or "").casefold())
        by = closer.id if closer and (closer.id in incident.paged or incident.state is State.ACKED) else None
        is_yes = incident.state is State.OPEN
        is_late = transitions.overtaken_by(lines, by or "", at, is_yes=is_yes) is not None
        settings = self._settings()
        policy = settings.policy_of(incident)
        change = transitions.issue_closed(
            incident, transitions.IssueClosing(by=by, closed_at=closed_at, is_late=is_late), policy, tx.now
        )
        after = tx.incidents.apply(incident, transitions.dated(change, at))
        storm_acts.follow(tx, settings, incident, after)
        return True

    def _count_sign(self, tx: Transaction, incident: Incident, person: Person, act: Act, told_by: str) -> None:
        if incident.state is State.ACKED:
            policy = self._settings().policy_of(incident)
            tx.incidents.apply(incident, transitions.sign_of_work(incident, person.id, policy, tx.now, act.at))
            return
        how = ", ".join(filter(None, (f"{act.what} on the issue in GitLab as {act.username}", told_by)))
        way = ReplyChannel(channel="gitlab", how=how, key=f"gitlab/{incident.version}/{person.id}", acted_at=act.at)
        ReplyHandler(tx, self._settings()).act(incident, person, ReplyCommand(Command.YES, act.what), way)


def _counts(incident: Incident, person: Person, act: Act, lines: Sequence[TimelineRow]) -> bool:
    paged = incident.paged.get(person.id)
    if incident.state is State.ACKED:
        known = max(filter(None, (incident.acked_at, incident.worked_at)), default=None)
        if incident.holder != person.id:  # who was called in their place, and works on it since
            known = paged.last_at if paged else None
        return transitions.answers_for(incident, person.id) and known is not None and act.at > known
    if incident.state is not State.OPEN or paged is None or person.id in incident.away:
        return False
    is_old = act.at <= paged.at or act.at <= incident.opened_at
    return not is_old and transitions.overtaken_by(lines, person.id, act.at, is_yes=True) is None


def _put_back(tx: Transaction, incident: Incident, asked_at: datetime) -> transitions.PutBack:
    """Whether confidentiality was put back before GitLab was asked."""
    tries = [
        t
        for t in tx.outbox.of_incident(incident.id)
        if t.do == EffectKind.CONFIDE and t.state is not DeliveryState.VOID
    ]
    if not tries:
        return transitions.PutBack.NEVER
    done = [t.done_at for t in tries if t.state is DeliveryState.ACCEPTED and t.done_at]
    is_done = len(done) == len(tries) and max(done) < asked_at
    return transitions.PutBack.DONE if is_done else transitions.PutBack.UNDER_WAY


def _resolved_by(tx: Transaction, incident: Incident) -> TimelineRow | None:
    """The line of what ended a resolved incident; None of one that was paged once."""
    ended = [line for line in tx.timeline.of_incident(incident.id) if line.event == "incident.resolved"]
    return ended[-1] if ended else None


def _by_username(people: Mapping[str, Person]) -> dict[str, Person]:
    return {person.gitlab.casefold(): person for person in people.values() if person.gitlab}


# -- What one of our people says in GitLab about how grave it is: a label or the field, followed as their "sev 2" is.


class Graded(Protocol):
    @property
    def level(self) -> int | None: ...
    @property
    def username(self) -> str: ...
    @property
    def at(self) -> datetime: ...


def follow_severity(
    tx: Transaction, settings: RuntimeSettings, incident_id: str, graded: Graded, ahead: timedelta
) -> None:
    """Once for each act. Whoever is none of our people grades nothing here.

    Args:
        ahead: So much later than ours GitLab's clock stands.
    """
    incident = tx.incidents.locked(incident_id)
    people = {person.gitlab.casefold(): person for person in settings.people.values() if person.gitlab}
    person, at = people.get(graded.username.casefold()), graded.at - ahead
    if incident is None or incident.state is State.RESOLVED or person is None or graded.level is None:
        return
    said = [line for line in tx.timeline.of_incident(incident.id) if line.event == transitions.SEVERITY_SET]
    if any(datetime.fromisoformat(str(line.facts["at"])) >= at for line in said):
        return
    word = transitions.SaidSeverity(
        level=graded.level,
        by=person.id,
        how=f"set on the issue in GitLab as {graded.username}",
        policy=settings.policy_said(incident, graded.level),
        at=at,
    )
    tx.incidents.apply(incident, transitions.set_severity(incident, word, settings.duty(incident, tx.now)))
