"""The lane that keeps the issue: open it once, note on it, put files to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import structlog

from panicmail.delivery.issue_files import AttachmentsOf, IssueFiles, KeepsIssues, Opened, WorkResult, early_files
from panicmail.delivery.outbox_worker import OutboxWorker
from panicmail.errors import Blocked, Forbidden, Gone, Permanent, Spam, Temporary, Unknown
from panicmail.gitlab import description as drafts
from panicmail.gitlab import notes
from panicmail.gitlab.issue_values import SeverityMark
from panicmail.incident.model import EffectKind, Entry, Incident, State
from panicmail.incident.tasks import NOTE
from panicmail.incident.transitions import ISSUE_ALTERED
from panicmail.mail.compose import timeline_words
from panicmail.mail.incident_report import report_of
from panicmail.oncall.runtime_settings import CurrentSettings
from panicmail.response.incident_draft import draft_of
from panicmail.store.blocked_adapters import PROBE_EVERY, Heard
from panicmail.store.rows import DeliveryState, OutboxRow, TimelineRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: After a create whose outcome is unknown GitLab may still be at it: look again before creating.
UNSURE_FOR = timedelta(seconds=10)
#: How GitLab's incident fields call our states, and what its timeline says.
MIRRORED = {
    State.OPEN: ("TRIGGERED", "Open again"),
    State.ACKED: ("ACKNOWLEDGED", "Acknowledged"),
    State.RESOLVED: ("RESOLVED", "Closed"),
}
MIRROR_TRIES = 5
#: What GitLab refused for good is tried again this often: the operators may have mended it.
REFUSED_WAIT = timedelta(minutes=10)
#: A file that is refused for so long is given up: it may be too large, and is all sent each time.
GIVEN_UP_AFTER = timedelta(hours=1)


class GitLabWorker(OutboxWorker):
    """The issue, its notes and its files."""

    def __init__(
        self, store: Store, settings: CurrentSettings, issues: KeepsIssues, attachments_of: AttachmentsOf
    ) -> None:
        super().__init__("gitlab", store)
        self._settings = settings
        self._issues = issues
        self._files = IssueFiles(store, settings, self._issues_of, attachments_of)
        self._amendments = IssueAmendments(store, settings, self._issues_of)

    def _carry_out(self, task: OutboxRow) -> None:
        incident, line = self._store.read(lambda tx: (tx.incidents.get(task.incident_id or ""), _line_of(tx, task)))
        if incident is None:
            self._settle(task, DeliveryState.VOID, "no such incident")
        elif task.do == EffectKind.ISSUE:
            self._open(task, incident)
        elif incident.issue_iid is None:
            # Its row is over but the incident has no issue: only an issue row that was parked by hand does that.
            self._settle(task, DeliveryState.PARKED, "the incident has no issue")
        else:
            known: dict[str, Callable[[OutboxRow, Incident, int], None]] = {
                NOTE: partial(self._note, line=line),
                EffectKind.FILES: self._put_files,
                EffectKind.MIRROR: self._mirror,
                EffectKind.TWINS: self._close_twins,
                **dict.fromkeys((EffectKind.AMEND, EffectKind.SEVERITY), self._amend),
                EffectKind.CONFIDE: self._confide,
            }
            known[task.do](task, incident, incident.issue_iid)

    def _issues_of(self, incident: Incident) -> KeepsIssues:
        """Where its issue is: it may have been moved to another project."""
        project = incident.issue_project
        return self._issues if project is None else self._issues.in_project(project)

    def _confide(self, task: OutboxRow, incident: Incident, iid: int) -> None:
        if incident.state is State.RESOLVED:
            self._settle(task, DeliveryState.VOID, "it is over")
            return
        self._issues_of(incident).confide(iid)
        self._settle(task, DeliveryState.ACCEPTED, "confidential again")

    def _open(self, task: OutboxRow, incident: Incident) -> None:
        """Find or open the issue. After an attempt of unknown outcome it is looked for before it is made again."""
        settings = self._settings()
        draft, early = self._store.read(lambda tx: (draft_of(tx, settings, incident), early_files(tx, incident, task)))
        marker = drafts.marker(incident.id)
        if task.unsure_at is not None:
            found = self._issues.find(marker, incident.accepted_at)
            if found is not None:
                self._opened(task, incident, found)
                return
            since = self._store.now() - task.unsure_at
            if since < UNSURE_FOR:
                raise Temporary(
                    "an earlier attempt may still be under way", retry_after=(UNSURE_FOR - since).total_seconds()
                )
        draft = self._files.with_early_files(early, incident, draft)
        if not self._store.read(
            lambda tx: tx.outbox.is_mine(task)
        ):  # we were frozen, or cut off: another node opens it
            _log.warning("claim.lost", lane=self.name, do=task.do, attempt=task.attempt)
            return
        try:
            opened = self._create(draft, incident)
        except Unknown as exc:
            lost = self._find_after(exc, marker, incident)
            if lost is None:
                raise Unknown(str(exc), retry_after=UNSURE_FOR.total_seconds()) from exc
            opened = lost
        self._opened(task, incident, opened)

    def _find_after(self, unknown: Unknown, marker: str, incident: Incident) -> Opened | None:
        """Look after a create of unknown outcome; if nobody lets us look, the outcome is as open as before."""
        try:
            return self._issues.find(marker, incident.accepted_at)
        except Blocked as exc:
            raise Unknown(f"{unknown}; could not look: {exc}") from exc

    def _create(self, draft: drafts.IssueDraft, incident: Incident) -> Opened:
        try:
            return self._issues.create(draft)
        except Spam as exc:
            _log.warning("issue.taken_for_spam", ref=incident.ref, answer=str(exc))
            opened = self._issues.create(drafts.neutral(draft, incident))
            told = {"ref": incident.ref, "answer": str(exc)}
            self._store.write(
                "gitlab.settle", lambda tx: tx.queue.tell_operators("gitlab_spam", told, incident_id=incident.id)
            )
            return opened

    def _opened(self, task: OutboxRow, incident: Incident, opened: Opened) -> None:
        def work(tx: Transaction) -> None:
            if tx.outbox.settle(task, DeliveryState.ACCEPTED, opened.url):
                tx.incidents.issue_opened(incident, opened.iid, opened.url, twin_possible=task.unsure_at is not None)
            if opened.dropped:
                lacking = [each for each in opened.dropped if each.startswith(("type ", "label "))]
                tx.timeline.add(incident, Entry(event=ISSUE_ALTERED, facts={"lacking": lacking}, note=False))
                tx.queue.tell_operators(
                    "gitlab_dropped",
                    {"ref": incident.ref, "dropped": ", ".join(opened.dropped)},
                    incident_id=incident.id,
                )

        self._end("gitlab.settle", work)
        _log.info("issue.opened", ref=incident.ref, iid=opened.iid, attempt=task.attempt, dropped=list(opened.dropped))

    def _note(self, task: OutboxRow, incident: Incident, iid: int, line: TimelineRow | None) -> None:
        if line is None:  # we were frozen, or cut off: whoever has it now writes it
            _log.warning("claim.lost", lane=self.name, do=task.do, attempt=task.attempt)
            return
        text = timeline_words.note_text(line, incident, self._settings().people)
        self._issues_of(incident).note(iid, text, notes.marker(incident.id, line.id), look=task.attempt > 1)
        self._settle(task, DeliveryState.ACCEPTED, "noted")

    def _close_twins(self, task: OutboxRow, incident: Incident, _iid: int) -> None:
        """Of two issues with one marker the older stays; the younger is closed and says why."""
        if incident.issue_project is not None:
            self._settle(task, DeliveryState.VOID, "the issue was moved to another project")
            return
        twins = self._issues.twins(drafts.marker(incident.id), incident.accepted_at)
        if len(twins) < 2:
            self._settle(task, DeliveryState.ACCEPTED, "one issue")
            return
        kept, *younger = twins
        for twin in younger:
            self._issues.close_twin(twin.iid, kept.iid)
        _log.error("issue.twins", ref=incident.ref, kept=kept.iid, closed=[twin.iid for twin in younger])

        def work(tx: Transaction) -> None:
            if tx.outbox.settle(task, DeliveryState.ACCEPTED, f"closed {len(younger)} younger"):
                tx.incidents.move_issue(incident, kept.iid, kept.url)
                closed = ", ".join(str(twin.iid) for twin in younger)
                tx.queue.tell_operators(
                    "gitlab_twins", {"ref": incident.ref, "closed": closed}, incident_id=incident.id
                )

        self._end("gitlab.settle", work)

    def _mirror(self, task: OutboxRow, incident: Incident, iid: int) -> None:
        """Show status and time in GitLab's incident fields. A nicety: a GitLab that cannot is not asked twice."""
        status, words = MIRRORED[State(task.facts["state"])]
        holder = self._settings().people.get(str(task.facts.get("holder") or ""))
        note = f"{words}: {holder.name}" if holder else words
        at = datetime.fromisoformat(task.facts["at"])
        try:
            self._issues_of(incident).mirror(iid, status, note, at)
        except (Temporary, Blocked) as exc:
            if isinstance(exc, Forbidden) or task.attempt >= MIRROR_TRIES:
                self._settle(task, DeliveryState.VOID, str(exc))
            elif isinstance(exc, Blocked):  # a nicety bars nothing: what must get there finds out for itself
                raise Temporary(str(exc), retry_after=PROBE_EVERY.total_seconds()) from exc
            else:
                raise
        except Permanent as exc:
            self._settle(task, DeliveryState.VOID, str(exc))
        else:
            self._settle(task, DeliveryState.ACCEPTED, status)

    def _amend(self, task: OutboxRow, incident: Incident, iid: int) -> None:
        self._settle_with(task, self._amendments.put(task, incident, iid))

    def _put_files(self, task: OutboxRow, incident: Incident, iid: int) -> None:
        self._settle_with(task, self._files.put(task, incident, iid))

    def _settle_with(self, task: OutboxRow, result: WorkResult) -> None:
        if result is None:
            _log.warning("claim.lost", lane=self.name, do=task.do, attempt=task.attempt)
        else:
            self._settle(task, *result)

    def _barred(self, task: OutboxRow, why: Blocked) -> None:
        """One issue that may not be touched, or lies in a project that is gone, says nothing about the others."""
        incident = self._store.read(lambda tx: tx.incidents.get(task.incident_id or ""))
        is_elsewhere = incident is not None and incident.issue_project is not None
        if (isinstance(why, Gone) and is_elsewhere) or (isinstance(why, Forbidden) and task.do != EffectKind.ISSUE):
            self._refuse(task, str(why), Heard.NO_TELLING)
        else:
            super()._barred(task, why)

    def _refused(self, task: OutboxRow, answer: str) -> None:
        self._refuse(task, answer, Heard.YES)

    def _refuse(self, task: OutboxRow, answer: str, heard: Heard) -> None:
        _log.error("gitlab.refused", **self._about(task), do=task.do, attempt=task.attempt, answer=answer)

        def work(tx: Transaction) -> None:
            if task.do == EffectKind.FILES and tx.now - task.queued_at >= GIVEN_UP_AFTER:
                tx.outbox.settle(task, DeliveryState.PARKED, answer)
                tx.queue.tell_operators("parked", {"do": task.do, "answer": answer}, incident_id=task.incident_id)
            else:
                tx.outbox.put_off(task, tx.now + REFUSED_WAIT, answer, sure=True, heard=heard)
                tx.queue.tell_operators(
                    "gitlab_refused", {"do": task.do, "answer": answer}, incident_id=task.incident_id
                )

        self._end("gitlab.settle", work)


def _line_of(tx: Transaction, task: OutboxRow) -> TimelineRow | None:
    """What a note is to say; None for anything else, and where it is no longer ours to write."""
    return tx.timeline.get(task.facts["line"]) if task.do == NOTE and tx.outbox.is_mine(task) else None


# -- What became known after the issue was opened, a full reading or a severity: the issue is brought up to date.


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
