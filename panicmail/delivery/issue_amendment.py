"""What became known after the issue was opened, a full reading or a severity: the issue is brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from panicmail.delivery.issue_tracker import KeepsIssues, WorkResult
from panicmail.errors import Blocked, Permanent, Spam
from panicmail.gitlab import description as drafts
from panicmail.gitlab import notes
from panicmail.gitlab.issue_values import SeverityMark
from panicmail.incident.model import EffectKind, Incident
from panicmail.mail.compose import timeline_words
from panicmail.mail.incident_report import report_of
from panicmail.oncall.runtime_settings import CurrentSettings
from panicmail.response.incident_draft import draft_of
from panicmail.store.rows import DeliveryState, OutboxRow
from panicmail.store.unit_of_work import Store


class IssueAmendments:
    """Brings issues up to date.

    Args:
        issues_of: Answers where the issue of an incident is.
    """

    def __init__(self, store: Store, settings: CurrentSettings, issues_of: Callable[[Incident], KeepsIssues]) -> None:
        self._store = store
        self._settings = settings
        self._issues_of = issues_of

    def put(self, task: OutboxRow, incident: Incident, iid: int) -> WorkResult:
        """Bring the issue up to date: its severity and labels, or what was read or found out later."""
        return (self._grade if task.do == EffectKind.SEVERITY else self._amend)(task, incident, iid)

    def _grade(self, task: OutboxRow, incident: Incident, iid: int) -> WorkResult:
        """Of two severities that came fast the later one alone is written; labels are added all the same."""
        settings, said = self._settings(), task.facts.get("severity")
        # A report's words give way to whatever a person set; one of ours to what was set after they said it.
        since = datetime.fromisoformat(str(task.facts["at"])) if task.facts.get("by") else incident.accepted_at
        mark = SeverityMark(
            level=incident.severity if said == incident.severity else None,
            pattern=settings.severity_label,
            is_field=settings.severity_field,
            labels=tuple(map(str, task.facts.get("labels") or ())),
            since=since,
        )
        try:
            return DeliveryState.ACCEPTED, self._issues_of(incident).grade(iid, mark)
        except Blocked:
            raise
        except Permanent as exc:  # a nicety: a GitLab that cannot is not asked twice
            return DeliveryState.VOID, str(exc)

    def _amend(self, task: OutboxRow, incident: Incident, iid: int) -> WorkResult:
        """What became known after the issue was opened, a full reading or who sent it: the issue says what it would say
        had that come first.

        Where somebody has edited the description, their words stay, and the report follows as a note.
        """
        settings = self._settings()
        after, lines = self._store.read(
            lambda tx: (draft_of(tx, settings, incident), tx.timeline.of_incident(incident.id))
        )
        before = str(task.facts["title"]), str(task.facts["description"])
        if not self._store.read(lambda tx: tx.outbox.is_mine(task)):
            return None
        self._issues_of(incident).retitle(iid, before[0], after.title)
        description = self._issues_of(incident).description(iid)
        amended = drafts.amended(description, before[1], after.description)
        if amended == description and task.attempt == 1:
            return DeliveryState.ACCEPTED, "it was opened with all of it"
        if amended is not None:
            self._issues_of(incident).describe(iid, amended)
        event = str(task.facts.get("of", "report.amended"))
        line = next(line for line in reversed(lines) if line.event == event)
        if event == "sender.checked" and amended is not None:
            return DeliveryState.ACCEPTED, "amended"
        report = None if amended is not None else self._store.read(lambda tx: report_of(tx, incident))
        said = timeline_words
        text = said.sender_text(line) if event == "sender.checked" else said.amended_text(line, incident, report)
        try:
            self._issues_of(incident).note(iid, text, notes.marker(incident.id, line.id), look=task.attempt > 1)
        except Spam as exc:  # the description, or the raw message beside it, has the words
            return DeliveryState.VOID, str(exc)
        return DeliveryState.ACCEPTED, "amended"
