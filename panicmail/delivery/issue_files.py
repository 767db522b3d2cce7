"""The files of an incident's mails, put on its issue: which of them, and where they are linked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import structlog

from panicmail.errors import Permanent, Temporary
from panicmail.gitlab import description as drafts
from panicmail.gitlab import notes
from panicmail.gitlab.description import IssueDraft
from panicmail.gitlab.issue_values import SeverityMark
from panicmail.incident.classify import Attachment, Report
from panicmail.incident.model import Incident
from panicmail.incident.redact import carried, looks_carried
from panicmail.incident.reply_tokens import Purpose
from panicmail.mail.incident_report import report_of
from panicmail.mail.parse.received_field import own_received
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.store.rows import OVER, DeliveryState, OutboxRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: A mail up to this size brings its files with the issue; a larger one's follow, so that the issue does not wait.
EARLY_FILES = 2 * 1024 * 1024
#: A file is looked through by so many octets at a time, and as many more as a token has at most, broken over lines.
_BLOCK, _CARRIED = 64 * 1024, 2048
#: So many of what may be tokens of ours are verified, of one mail.
_MOST = 200
#: Answers the attachments of a raw mail with their contents.
AttachmentsOf = Callable[[bytes], Sequence[tuple[Attachment, bytes]]]


class IssueFiles:
    """Uploads files and links them.

    Args:
        issues_of: Answers where the issue of an incident is.
    """

    def __init__(
        self,
        store: Store,
        settings: CurrentSettings,
        issues_of: Callable[[Incident], KeepsIssues],
        attachments_of: AttachmentsOf,
    ) -> None:
        self._store = store
        self._settings = settings
        self._issues_of = issues_of
        self._attachments_of = attachments_of

    def with_early_files(
        self, early: tuple[bytes, Report] | None, incident: Incident, draft: drafts.IssueDraft
    ) -> drafts.IssueDraft:
        """The first attempt carries small files with it, so the issue is whole at first sight; any trouble, and not.

        Args:
            early: As `early_files` answers.
        """
        if early is None:
            return draft
        try:
            links = self._upload_all(incident, *early)
        except (Temporary, Permanent) as exc:
            _log.warning("files.later", ref=incident.ref, reason=str(exc))
            return draft
        description = drafts.with_files(draft.description, links) if links else None
        return replace(draft, description=description) if description else draft

    def put(self, task: OutboxRow, incident: Incident, iid: int) -> WorkResult:
        """Put the files of the report, or of the mail that `task` names, on the issue."""
        if task.facts.get("mail"):
            return self._later_files(task, incident, iid, str(task.facts["mail"]))
        if drafts.has_files(self._issues_of(incident).description(iid)):
            return DeliveryState.ACCEPTED, "they came with the issue"
        raw, report = self._store.read(lambda tx: (tx.mails.raw(incident.mail_id), report_of(tx, incident)))
        links = self._upload_all(incident, raw, report)
        if links:
            self._link(iid, links, incident)
        return DeliveryState.ACCEPTED, f"{len(links)} files"

    def _later_files(self, task: OutboxRow, incident: Incident, iid: int, mail_id: str) -> WorkResult:
        """What came with a later mail: without its raw message, whose recipients are token addresses."""
        if self._settings().uploads == "none":  # since a reload
            return DeliveryState.VOID, "files are not uploaded any more"
        mail, raw = self._store.read(lambda tx: (tx.mails.get(mail_id), tx.mails.raw(mail_id)))
        there = self._files_there(incident, iid) if mail_id == incident.mail_id else ""
        links, withheld = [], []
        for attachment, data in self._attachments_of(raw):
            if attachment.sha256 in there:
                continue
            name = attachment.name or "attachment"
            if _holds_token(data):
                withheld.append(name)
            else:
                links.append(self._upload(incident, name, data))
        if not links and not withheld:
            return DeliveryState.ACCEPTED, "no files"
        marker = notes.files_marker(incident.id, mail_id)
        text = notes.later_files_text(links, withheld, mail.accepted_at if mail else task.queued_at, marker)
        if not self._store.read(lambda tx: tx.outbox.is_mine(task)):  # uploads take their time
            return None
        self._issues_of(incident).note(iid, text, marker, look=task.attempt > 1)
        return DeliveryState.ACCEPTED, f"{len(links)} files"

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
            files.append((f"{incident.ref}.eml", self._trace(incident.mail_id) + raw))
        if settings.uploads in {"all", "attachments"} and report.attachments:
            parts = [part for part in self._attachments_of(raw) if not (acts and _may_hold(*part))]
            files += [(attachment.name or "attachment", data) for attachment, data in parts]
        return [self._upload(incident, name, data) for name, data in files]

    def _trace(self, mail_id: str) -> bytes:
        """What we saw of how a mail came, as the field on top of it."""
        mail, hostname = self._store.read(lambda tx: tx.mails.get(mail_id)), self._settings().hostname
        if mail is None:
            return b""
        return own_received(mail, hostname)

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


def early_files(tx: Transaction, incident: Incident, task: OutboxRow) -> tuple[bytes, Report] | None:
    """The octets of the report and how it was read; None where its files follow the issue."""
    mail = tx.mails.get(incident.mail_id)
    if task.attempt > 1 or mail is None or mail.size > EARLY_FILES:
        return None
    return tx.mails.raw(incident.mail_id), report_of(tx, incident)


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


# -- GitLab, as far as the worker of its lane needs it.

#: What came of a row of the lane, as it is settled; None: another worker has the row by now.
WorkResult = tuple[DeliveryState, str] | None


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
    def create(self, draft: IssueDraft) -> Opened: ...
    def twins(self, marker: str, since: datetime) -> Sequence[Opened]: ...
    def close_twin(self, iid: int, of: int) -> None: ...
    def mirror(self, iid: int, status: str, note: str, at: datetime) -> None: ...
    def note(self, iid: int, text: str, marker: str, *, look: bool) -> None: ...
    def upload(self, name: str, data: bytes) -> Uploaded: ...
    def description(self, iid: int) -> str: ...
    def describe(self, iid: int, text: str) -> None: ...
    def retitle(self, iid: int, before: str, after: str) -> None: ...
    def grade(self, iid: int, mark: SeverityMark) -> str: ...
    def confide(self, iid: int) -> None: ...
    def in_project(self, project: str) -> KeepsIssues: ...
