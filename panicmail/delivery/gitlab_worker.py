"""The lane that keeps the issue: open it once, note on it, put files to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from panicmail.delivery.outbox_worker import OutboxWorker
from panicmail.errors import Blocked, Forbidden, Gone, Permanent, Spam, Temporary, Unknown
from panicmail.gitlab import description as drafts
from panicmail.gitlab import notes
from panicmail.incident.classify import Attachment, Report
from panicmail.incident.model import EffectKind, Entry, Incident, State
from panicmail.incident.redact import carried, looks_carried
from panicmail.incident.reply_tokens import Purpose
from panicmail.incident.tasks import NOTE
from panicmail.incident.transitions import ISSUE_ALTERED
from panicmail.mail.incident_report import report_of
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response.incident_draft import draft_of
from panicmail.store.blocked_adapters import PROBE_EVERY, Heard
from panicmail.store.rows import OVER, DeliveryState, OutboxRow
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
#: A mail up to this size brings its files with the issue; a larger one's follow, so that the issue does not wait.
EARLY_FILES = 2 * 1024 * 1024
#: What GitLab refused for good is tried again this often: the operators may have mended it.
REFUSED_WAIT = timedelta(minutes=10)
#: A file that is refused for so long is given up: it may be too large, and is all sent each time.
GIVEN_UP_AFTER = timedelta(hours=1)


class Opened(Protocol):
    @property
    def iid(self) -> int: ...
    @property
    def url(self) -> str: ...
    @property
    def dropped(self) -> tuple[str, ...]: ...


class Uploaded(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def name(self) -> str: ...


class KeepsIssues(Protocol):
    """GitLab, as far as panicmail needs it."""

    def find(self, marker: str, since: datetime) -> Opened | None: ...
    def create(self, draft: drafts.IssueDraft) -> Opened: ...
    def twins(self, marker: str, since: datetime) -> Sequence[Opened]: ...
    def close_twin(self, iid: int, of: int) -> None: ...
    def mirror(self, iid: int, status: str, note: str, at: datetime) -> None: ...
    def note(self, iid: int, text: str, marker: str, *, look: bool) -> None: ...
    def upload(self, name: str, data: bytes) -> Uploaded: ...
    def description(self, iid: int) -> str: ...
    def describe(self, iid: int, text: str) -> None: ...
    def retitle(self, iid: int, before: str, after: str) -> None: ...
    def confide(self, iid: int) -> None: ...
    def in_project(self, project: str) -> KeepsIssues: ...


#: A file is looked through by so many octets at a time, and as many more as a token has at most, broken over lines.
_BLOCK, _CARRIED = 64 * 1024, 2048
#: So many of what may be tokens of ours are verified, of one mail.
_MOST = 200
#: Answers the attachments of a raw mail with their contents.
Parts = Callable[[bytes], Sequence[tuple[Attachment, bytes]]]


class GitLabWorker(OutboxWorker):
    """The issue, its notes and its files."""

    def __init__(self, store: Store, settings: CurrentSettings, issues: KeepsIssues, parts: Parts) -> None:
        super().__init__("gitlab", store)
        self._settings = settings
        self._issues = issues
        self._parts = parts

    def _carry_out(self, task: OutboxRow) -> None:
        incident = self._store.read(lambda tx: tx.incidents.get(task.incident_id or ""))
        if incident is None:
            self._settle(task, DeliveryState.VOID, "no such incident")
        elif task.do == EffectKind.ISSUE:
            self._open(task, incident)
        elif incident.issue_iid is None:
            # Its row is over but the incident has no issue: only an issue row that was parked by hand does that.
            self._settle(task, DeliveryState.PARKED, "the incident has no issue")
        else:
            known = {
                NOTE: self._note,
                EffectKind.FILES: self._files,
                EffectKind.MIRROR: self._mirror,
                EffectKind.TWINS: self._close_twins,
                EffectKind.AMEND: self._amend,
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
        draft = self._store.read(lambda tx: draft_of(tx, settings, incident))
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
        draft = self._with_early_files(task, incident, draft)
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

        self._store.write("gitlab.settle", work)
        _log.info("issue.opened", ref=incident.ref, iid=opened.iid, attempt=task.attempt, dropped=list(opened.dropped))

    def _note(self, task: OutboxRow, incident: Incident, iid: int) -> None:
        line = self._store.read(lambda tx: tx.timeline.get(task.facts["line"]))
        text = notes.note_text(line, incident, self._settings().people)
        if not self._store.read(lambda tx: tx.outbox.is_mine(task)):
            _log.warning("claim.lost", lane=self.name, do=task.do, attempt=task.attempt)
            return
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

        self._store.write("gitlab.settle", work)

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
        """A full reading of the report that came after the first: the issue says what it would say had it come first.

        Where somebody has edited the description, their words stay, and the report follows as a note.
        """
        settings = self._settings()
        after, lines = self._store.read(
            lambda tx: (draft_of(tx, settings, incident), tx.timeline.of_incident(incident.id))
        )
        before = str(task.facts["title"]), str(task.facts["description"])
        if not self._store.read(lambda tx: tx.outbox.is_mine(task)):
            _log.warning("claim.lost", lane=self.name, do=task.do, attempt=task.attempt)
            return
        self._issues_of(incident).retitle(iid, before[0], after.title)
        description = self._issues_of(incident).description(iid)
        amended = drafts.amended(description, before[1], after.description)
        if amended == description and task.attempt == 1:
            self._settle(task, DeliveryState.ACCEPTED, "it was opened with all of it")
            return
        if amended is not None:
            self._issues_of(incident).describe(iid, amended)
        line = next(line for line in reversed(lines) if line.event == "report.amended")
        report = None if amended is not None else self._store.read(lambda tx: report_of(tx, incident))
        text = notes.amended_text(line, incident, report)
        try:
            self._issues_of(incident).note(iid, text, notes.marker(incident.id, line.id), look=task.attempt > 1)
        except Spam as exc:  # the description, or the raw message beside it, has the words
            self._settle(task, DeliveryState.VOID, str(exc))
        else:
            self._settle(task, DeliveryState.ACCEPTED, "amended")

    def _with_early_files(self, task: OutboxRow, incident: Incident, draft: drafts.IssueDraft) -> drafts.IssueDraft:
        """The first attempt carries small files with it, so the issue is whole at first sight; any trouble, and not."""
        raw, report = self._store.read(lambda tx: (tx.mails.raw(incident.mail_id), report_of(tx, incident)))
        if task.attempt > 1 or len(raw) > EARLY_FILES:
            return draft
        try:
            links = self._upload_all(incident, raw, report)
        except (Temporary, Permanent) as exc:
            _log.warning("files.later", ref=incident.ref, reason=str(exc))
            return draft
        description = drafts.with_files(draft.description, links) if links else None
        return replace(draft, description=description) if description else draft

    def _files(self, task: OutboxRow, incident: Incident, iid: int) -> None:
        if task.facts.get("mail"):
            self._later_files(task, incident, iid, str(task.facts["mail"]))
            return
        if drafts.has_files(self._issues_of(incident).description(iid)):
            self._settle(task, DeliveryState.ACCEPTED, "they came with the issue")
            return
        raw, report = self._store.read(lambda tx: (tx.mails.raw(incident.mail_id), report_of(tx, incident)))
        links = self._upload_all(incident, raw, report)
        if links:
            self._link(iid, links, incident)
        self._settle(task, DeliveryState.ACCEPTED, f"{len(links)} files")

    def _later_files(self, task: OutboxRow, incident: Incident, iid: int, mail_id: str) -> None:
        """What came with a later mail: without its raw message, whose recipients are token addresses."""
        if self._settings().uploads == "none":  # since a reload
            self._settle(task, DeliveryState.VOID, "files are not uploaded any more")
            return
        mail, raw = self._store.read(lambda tx: (tx.mails.get(mail_id), tx.mails.raw(mail_id)))
        there = self._files_there(incident, iid) if mail_id == incident.mail_id else ""
        links, withheld = [], []
        for attachment, data in self._parts(raw):
            if attachment.sha256 in there:
                continue
            name = attachment.name or "attachment"
            if _holds_token(data):
                withheld.append(name)
            else:
                links.append(self._upload(incident, name, data))
        if not links and not withheld:
            self._settle(task, DeliveryState.ACCEPTED, "no files")
            return
        marker = notes.files_marker(incident.id, mail_id)
        text = notes.later_files_text(links, withheld, mail.accepted_at if mail else task.queued_at, marker)
        if not self._store.read(lambda tx: tx.outbox.is_mine(task)):  # uploads take their time
            _log.warning("claim.lost", lane=self.name, do=task.do, attempt=task.attempt)
            return
        self._issues_of(incident).note(iid, text, marker, look=task.attempt > 1)
        self._settle(task, DeliveryState.ACCEPTED, f"{len(links)} files")

    def _files_there(self, incident: Incident, iid: int) -> str:
        """The part of the description that links the files of the report, once those known at first are there."""
        first = self._store.read(lambda tx: tx.outbox.get(f"{incident.id}/files"))
        if first is not None and first.state not in OVER:
            raise Temporary("the files known at first are still on their way")
        return drafts.files_part(self._issues_of(incident).description(iid))

    def _upload_all(self, incident: Incident, raw: bytes, report: Report) -> list[drafts.FileLink]:
        settings = self._settings()
        files: list[tuple[str, bytes]] = []
        acts = _lets_act(settings, [*report.carried, *(_carried_in(raw) if report.cut_short else ())])
        if settings.uploads == "all" and not acts:
            files.append((f"{incident.ref}.eml", raw))
        if settings.uploads in {"all", "attachments"} and report.attachments:
            parts = [part for part in self._parts(raw) if not (acts and _may_hold(*part))]
            files += [(attachment.name or "attachment", data) for attachment, data in parts]
        return [self._upload(incident, name, data) for name, data in files]

    def _upload(self, incident: Incident, name: str, data: bytes) -> drafts.FileLink:
        uploaded = self._issues_of(incident).upload(name, data)
        return drafts.FileLink.of(uploaded.name, uploaded.url, data)

    def _link(self, iid: int, links: Sequence[drafts.FileLink], incident: Incident) -> None:
        # Read again right before it is written: somebody may have edited it while the files went up.
        issues = self._issues_of(incident)
        description = drafts.with_files(issues.description(iid), links)
        if description is not None:
            issues.describe(iid, description)
            return
        # Somebody edited the place away: their words stay, the links come as a note.
        marker = notes.marker(incident.id, 0)
        issues.note(iid, notes.files_text(links, marker), marker, look=True)

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

        self._store.write("gitlab.settle", work)


def _lets_act(settings: RuntimeSettings, carried_: Sequence[str]) -> bool:
    """Whether one of these is of an address or a link of ours by which whoever reads it could act for our people."""
    tokens = (settings.tokens.verify(text, settings.people) for text in carried_)
    acting = {Purpose.ANSWER, Purpose.BOUNCE, Purpose.CONVERSATION, Purpose.LINK}
    return any(token is not None and token.person and token.purpose in acting for token in tokens)


def _may_hold(attachment: Attachment, data: bytes) -> bool:
    """Of a mail that lets somebody act: whether this file may be where. An attached mail may hide it in a coding."""
    return attachment.type.startswith("message/") or _holds_token(data)


def _holds_token(data: bytes) -> bool:
    """Whether a file holds an address or a link of ours, as an attached page does: whoever reads it could act."""
    return any(_block_holds_token(data[at : at + _BLOCK + _CARRIED]) for at in range(0, len(data), _BLOCK))


def _carried_in(raw: bytes) -> list[str]:
    """What in a mail that was not read whole has the form of a token of ours."""
    blocks = (raw[at : at + _BLOCK + _CARRIED] for at in range(0, len(raw), _BLOCK))
    return [found for block in blocks for found in carried(block.decode("latin-1"))][:_MOST]


def _block_holds_token(block: bytes) -> bool:
    unbroken = block.replace(b"=\r\n", b"").replace(b"=\n", b"").replace(b"\0", b"")  # quoted-printable, UTF-16
    return looks_carried(unbroken.decode("latin-1"))
