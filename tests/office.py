"""All of panicmail without threads, sockets or waiting: real store, real readers, real letters; a clock the test moves.

    office = Office(tmp_path)
    office.panic("Subject: Ransom note\\n\\nMy files are .locked")
    office.wait(minutes=15)
    assert office.pages("max")

Relay and GitLab are stand-ins that remember, and can be told to fail.
"""

from __future__ import annotations

import atexit
import email
import email.policy
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from panicmail.delivery import EmailWorker, GitLabWorker, PushWorker
from panicmail.delivery.pagerduty import Event
from panicmail.escalation.tick import EscalationTick
from panicmail.gitlab.description import IssueDraft
from panicmail.gitlab.escape import file_name
from panicmail.gitlab.issue_values import (
    IssueActivity,
    IssueChanges,
    IssueReopening,
    OpenedIssue,
    SeverityMark,
    UploadedFile,
)
from panicmail.incident import ids
from panicmail.incident.classify import Attachment, Report
from panicmail.incident.escalation_policy import DEFAULT
from panicmail.incident.model import Incident
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.incident.reply_tokens import Addresses, SigningKey, TokenSigner
from panicmail.incident.tasks import RECEIPT_WAITS
from panicmail.intake.check_senders import ChecksSenders, SenderCheckWorker
from panicmail.intake.known_facts import answers_page
from panicmail.intake.reread import Rereading
from panicmail.intake.understand import Intake
from panicmail.mail.parse import parser
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.oncall.schedules import Schedule, Schedules
from panicmail.response.daily_list import DailyList
from panicmail.response.gitlab_activity import ActivityPoll
from panicmail.response.incident_links import IncidentLinks
from panicmail.response.replies import ReplyChannel, ReplyHandler
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.rows import OVER, AcceptedMail, TimelineRow
from panicmail.store.tables import incidents, outbox, storms
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from tests.cast import POLICY, SECOND, T0

PANIC = "panic@example.com"
PEOPLE = {
    "ana": Person(
        id="ana",
        name="Ana Reyes",
        email="ana@example.com",
        aliases=("ana@home.example",),
        phone="+49 151 0",
        gitlab="ana",
    ),
    "max": Person(id="max", name="Max Ode", email="max@example.com", gitlab="max"),
    "bo": Person(id="bo", name="Bo Low", email="bo@example.com"),
}


def _first(column: sa.Column[Any], after: str, *only: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    earliest = sa.select(sa.func.min(column)).where(column > sa.bindparam(after, type_=column.type), *only)
    return earliest.scalar_subquery()


_WAITING = (outbox.c.incident_id.is_not(None), outbox.c.state.not_in([state.value for state in OVER]))
#: The first instant after now of each kind that something waits for; the last one is when what waits was queued.
_NEXT_DUE = sa.select(
    *(_first(incidents.c[name], "now") for name in ("next_step_at", "sla_at", "remind_at")),
    _first(storms.c.tell_at, "now"),
    _first(outbox.c.due_at, "now", *_WAITING),
    _first(outbox.c.queued_at, "receipts_now", *_WAITING),
)


@dataclass
class FakeRelay:
    """Keeps what it is given. `failures` are raised first, one a send, oldest first."""

    sent: list[Posted] = field(default_factory=list)
    severities: list[str] = field(default_factory=list)  #: of `events`
    failures: list[Exception] = field(default_factory=list)
    refused: dict[str, Exception] = field(default_factory=dict)  #: recipient -> what to raise, always

    def send(self, message: bytes, mail_from: str, recipient: str) -> str:
        if self.failures:
            raise self.failures.pop(0)
        if recipient in self.refused:
            raise self.refused[recipient]
        self.sent.append(Posted(message, mail_from, recipient))
        return "250 2.0.0 kept"


@dataclass
class FakePhones:
    """Every phone and PagerDuty, in memory. `failures` are raised first, one a send, oldest first."""

    lines: list[tuple[str, str, str]] = field(default_factory=list)  #: URL, text, link
    events: list[tuple[str, str, str, str]] = field(default_factory=list)  #: key, action, dedup key, summary
    severities: list[str] = field(default_factory=list)  #: of `events`
    failures: list[Exception] = field(default_factory=list)
    refused: dict[str, Exception] = field(default_factory=dict)  #: URL -> what to raise, always

    def send(self, url: str, text: str, link: str = "") -> str:
        if self.failures:
            raise self.failures.pop(0)
        if url in self.refused:
            raise self.refused[url]
        self.lines.append((url, text, link))
        return "200 OK"

    def texts(self, url: str) -> list[str]:
        return [text for sent_to, text, _ in self.lines if sent_to == url]


class FakePagerDuty:
    """PagerDuty, in the memory of the phones."""

    def __init__(self, phones: FakePhones) -> None:
        self._phones = phones

    def send(self, key: str, event: Event) -> str:
        self._phones.events.append((key, event.action, event.dedup_key, event.summary))
        self._phones.severities.append(event.severity)
        return "202 Event processed"


@dataclass(frozen=True)
class Posted:
    """A mail the relay took."""

    raw: bytes
    mail_from: str
    recipient: str

    @property
    def message(self) -> EmailMessage:
        message = email.message_from_bytes(self.raw, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return message

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def reply_to(self) -> str:
        return str(self.message["Reply-To"])

    @property
    def message_id(self) -> str:
        return str(self.message["Message-ID"])

    @property
    def text(self) -> str:
        part = self.message.get_body(("plain",))
        assert part is not None
        return str(part.get_content())

    @property
    def is_page(self) -> bool:
        return self.subject.startswith("[PANIC ")


@dataclass
class FakeGitLab:
    """Issues in memory. `failures` are raised by the next creates; `lost` creates happen and then raise.

    An issue is dated when its list is asked for and finds in `happened` or `reopened` what it has not found before.
    """

    clock: Callable[[], datetime] = lambda: T0

    issues: list[IssueDraft] = field(default_factory=list)
    marks: list[tuple[int, SeverityMark]] = field(default_factory=list)
    notes: list[tuple[int, str, str]] = field(default_factory=list)
    uploads: list[tuple[str, bytes]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    lost: list[Exception] = field(default_factory=list)
    upload_failures: list[Exception] = field(default_factory=list)
    mirror_failures: list[Exception] = field(default_factory=list)
    activity_failures: list[Exception] = field(default_factory=list)
    list_failures: list[Exception] = field(default_factory=list)
    mirrored: list[tuple[int, str, str]] = field(default_factory=list)
    happened: dict[int, IssueActivity] = field(default_factory=dict)
    reopened: dict[int, IssueReopening] = field(default_factory=dict)
    closed: list[int] = field(default_factory=list)
    confided: list[int] = field(default_factory=list)
    others: dict[str, FakeGitLab] = field(default_factory=dict)  #: other projects, by number
    creates: int = 0
    dated: dict[int, tuple[object, datetime]] = field(default_factory=dict)
    looks: int = 0
    asked: int = 0
    listed: int = 0

    def find(self, marker: str, since: datetime) -> OpenedIssue | None:
        self.looks += 1
        for iid, draft in enumerate(self.issues, 1):
            if marker in draft.description:
                return self._opened(iid)
        return None

    def create(self, draft: IssueDraft) -> OpenedIssue:
        self.creates += 1
        if self.failures:
            raise self.failures.pop(0)
        self.issues.append(draft)
        if self.lost:
            raise self.lost.pop(0)
        return self._opened(len(self.issues))

    def _opened(self, iid: int) -> OpenedIssue:
        return OpenedIssue(iid=iid, url=f"https://gitlab.example.com/-/issues/{iid}", dropped=())

    def twins(self, marker: str, since: datetime) -> list[OpenedIssue]:
        made = [iid for iid, draft in enumerate(self.issues, 1) if marker in draft.description]
        return [self._opened(iid) for iid in made if iid not in self.closed]

    def close_twin(self, iid: int, of: int) -> None:
        self.closed.append(iid)

    def mirror(self, iid: int, status: str, note: str, at: datetime) -> None:
        if self.mirror_failures:
            raise self.mirror_failures.pop(0)
        self.mirrored.append((iid, status, note))

    def changed(self, since: datetime) -> IssueChanges:
        self.listed += 1
        if self.list_failures:
            raise self.list_failures.pop(0)
        now = self.clock()
        for iid in {*range(1, len(self.issues) + 1), *self.happened, *self.reopened}:
            there = (self.happened.get(iid), self.reopened.get(iid))
            if iid not in self.dated or self.dated[iid][0] != there:
                self.dated[iid] = (there, now)
        updated_at = {iid: at for iid, (_, at) in self.dated.items() if at >= since}
        return IssueChanges(asked_at=now, updated_at=updated_at, resume_at=now - timedelta(minutes=2))

    def activity(self, iid: int, since: datetime) -> IssueActivity:
        self.asked += 1
        if self.activity_failures:
            raise self.activity_failures.pop(0)
        return self.happened.get(iid, IssueActivity(None, None, ()))

    def reopening(self, iid: int, since: datetime) -> IssueReopening | None:
        self.asked += 1
        if self.activity_failures:
            raise self.activity_failures.pop(0)
        found = self.reopened.get(iid)
        return None if found is None or (found.at is not None and found.at <= since) else found

    def in_project(self, project: str) -> FakeGitLab:
        return self.others.setdefault(project, FakeGitLab(clock=self.clock))

    def grade(self, iid: int, mark: SeverityMark) -> str:
        self.marks.append((iid, mark))
        return "graded"

    def confide(self, iid: int) -> None:
        self.confided.append(iid)

    def note(self, iid: int, text: str, marker: str, *, look: bool) -> None:
        if not (look and any(kept == marker for _, _, kept in self.notes)):
            self.notes.append((iid, text, marker))

    def upload(self, name: str, data: bytes) -> UploadedFile:
        if self.upload_failures:
            raise self.upload_failures.pop(0)
        self.uploads.append((name, data))
        return UploadedFile(url=f"/uploads/{len(self.uploads)}/{file_name(name)}", name=name)

    def description(self, iid: int) -> str:
        return self.issues[iid - 1].description

    def retitle(self, iid: int, before: str, after: str) -> None:
        if self.issues[iid - 1].title == before:
            self.issues[iid - 1] = replace(self.issues[iid - 1], title=after)

    def describe(self, iid: int, text: str) -> None:
        self.issues[iid - 1] = replace(self.issues[iid - 1], description=text)


class InProcess:
    """Reads mails in this process, as the children would."""

    def read(self, raw: bytes, mail_from: str) -> Report:
        return parser.read(raw, mail_from=mail_from)

    def read_slowly(self, raw: bytes, mail_from: str | None, seconds: float) -> Report:
        return parser.read(raw, mail_from=mail_from)

    def parts(self, raw: bytes) -> Sequence[tuple[Attachment, bytes]]:
        return parser.parts(raw)


class Office:
    """Everything between the 250 and the relay."""

    def __init__(self, folder: Path, *, url: str | None = None, **settings: object) -> None:
        self.now = T0
        file = folder / "panicmail.db"
        if url is None and not file.exists():
            shutil.copyfile(migrated(), file)
        self.database = Database(patient(url) if url else f"sqlite:///{file}", clock=lambda: self.now)
        sa.event.listen(self.database.engine, "connect", self._connected)
        migrate.upgrade(self.database)
        if "policy" in settings:
            settings["policies"] = {DEFAULT: settings.pop("policy")}
        self.settings = replace(office_settings(), **settings)  # type: ignore[arg-type]
        self.relay, self.gitlab, self.phones = FakeRelay(), FakeGitLab(clock=lambda: self.now), FakePhones()
        self.readers = InProcess()
        operators, channels = lambda: self.settings.operators, lambda person: self.settings.channels(person)
        self.work_with(Store(self.database, operators=operators, channels=channels))

    def _connected(self, connection: Any, _record: Any) -> None:
        if self.database.is_sqlite:  # no test here ends its process: the disk need not keep up
            connection.execute("PRAGMA synchronous=OFF")
        else:
            connection.patience = float(_PATIENCE)

    def work_with(self, store: Store) -> None:
        """Everything by this store."""
        self.store, readers = store, self.readers
        self.intake = Intake(self.store, lambda: self.settings, readers)
        self.rereading = Rereading(self.store, lambda: self.settings, readers, self.intake)
        self.escalation = EscalationTick(self.store, lambda: self.settings)
        self.daily_list = DailyList(self.store, lambda: self.settings)
        self.signs = ActivityPoll(self.store, lambda: self.settings, self.gitlab)
        self.links = IncidentLinks(self.store, lambda: self.settings)
        self.checks: ChecksSenders | None = None  #: None: nobody checks senders
        self.lanes = [
            EmailWorker("page", self.store, lambda: self.settings, self.relay),
            PushWorker(self.store, lambda: self.settings, self.phones, FakePagerDuty(self.phones)),
            EmailWorker("mail", self.store, lambda: self.settings, self.relay),
            GitLabWorker(self.store, lambda: self.settings, self.gitlab, readers.parts),
        ]

    @property
    def ledger(self) -> Store:
        """The store, as cases written before it had this name call it."""
        return self.store

    @property
    def orders(self) -> RuntimeSettings:
        """The settings, as cases written before they had this name call them."""
        return self.settings

    def close(self) -> None:
        self.store.close()
        self.database.close()

    # -- what happens

    def accept(self, raw: bytes, mail_from: str = "rita@example.com", to: Sequence[str] = (PANIC,)) -> str:
        """A mail that got its 250; nothing understood it yet. Answers its id."""
        mail_id = ids.new_mail_id()

        def work(tx: Transaction) -> None:
            mail = AcceptedMail(
                id=mail_id,
                accepted_at=tx.now,
                mail_from=mail_from,
                recipients=tuple(to),
                peer="127.0.0.1",
                helo="client",
                tls="",
                size=len(raw),
                turn=-1 if answers_page(self.settings, mail_from, to) else 0,
            )
            tx.mails.add(mail, raw)

        self.store.write("mails.accept", work)
        return mail_id

    def deliver(self, raw: bytes, mail_from: str = "rita@example.com", to: Sequence[str] = (PANIC,)) -> str:
        """A mail accepted, understood, and everything it asks for carried out."""
        mail_id = self.accept(raw, mail_from, to)
        self.settle()
        return mail_id

    def panic(self, text: str = "My files are .locked, Slack is gone.", subject: str = "Ransom note on my laptop",
              **header: str) -> Incident:  # fmt: skip
        mail_id = self.deliver(mail(text, subject=subject, **header))
        incident = self.store.read(lambda tx: tx.incidents.by_mail(mail_id))
        assert incident is not None
        return incident

    def reply(self, page: Posted, text: str, *, sender: str = "", to: str = "", mail_from: str | None = None,
              **header: str) -> str:  # fmt: skip
        """A person's reply to a page, from the address it went to unless told otherwise."""
        sender = sender or page.recipient
        raw = mail(
            f"{text}\n\nOn Sunday, Panic wrote:\n" + "".join(f"> {line}\n" for line in page.text.splitlines()),
            sender=sender,
            subject=f"Re: {page.subject}",
            in_reply_to=page.message_id,
            **header,
        )
        return self.deliver(raw, sender if mail_from is None else mail_from, [to or page.reply_to])

    def act(self, incident: Incident, person: str, meaning: Command) -> None:
        """What a command does for `person`."""
        said = ReplyCommand(meaning, meaning.value)
        way = ReplyChannel(channel="command", how="command run by tests", key=f"{meaning.value}/{self.now}")

        def work(tx: Transaction) -> None:
            now = tx.incidents.get(incident.id)
            assert now is not None
            ReplyHandler(tx, self.settings).act(now, self.settings.people[person], said, way)

        self.store.write("command.act", work)
        self.settle()

    def wait(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Time passes: a tick at every second at which something is due."""
        end = self.now + timedelta(minutes=minutes, seconds=seconds)
        while self.now < end:
            self.now = min(max(self._next_due(), self.now + SECOND), end)
            self.escalation.tick()
            self.daily_list.send_due()
            self.settle()

    def _next_due(self) -> datetime:
        """The next instant after now that an incident or a row of the outbox waits for; far off when none does."""
        far = self.now + timedelta(days=1)
        asked = {"now": self.now, "receipts_now": self.now - RECEIPT_WAITS}
        with self.database.reading() as connection:
            *due, queued_at = connection.execute(_NEXT_DUE, asked).one()
        return min((at for at in (*due, queued_at and queued_at + RECEIPT_WAITS) if at is not None), default=far)

    def settle(self) -> None:
        """Everything that can be done now, is."""
        busy = True
        while busy:
            busy = bool(self.intake.work())
            busy = self.rereading.answers() or self.rereading.amendments() or busy
            for lane in self.lanes:
                busy = lane.work() or busy
            if (checks := self.checks) is not None:
                busy = SenderCheckWorker(self.store, lambda: self.settings, lambda: checks).work() or busy

    # -- what is there

    def incident(self, which: Incident) -> Incident:
        found = self.store.read(lambda tx: tx.incidents.get(which.id))
        assert found is not None
        return found

    def incidents(self) -> list[Incident]:
        return self.store.read(lambda tx: tx.search.list_incidents())

    def lines(self, incident: Incident) -> list[TimelineRow]:
        return self.store.read(lambda tx: tx.timeline.of_incident(incident.id))

    def events(self, incident: Incident) -> list[str]:
        return [line.event for line in self.lines(incident)]

    def sent(self, to: str) -> list[Posted]:
        """Mails to a person (by key) or an address, oldest first."""
        address = PEOPLE[to].email if to in PEOPLE else to
        return [posted for posted in self.relay.sent if posted.recipient == address]

    def pages(self, to: str) -> list[Posted]:
        return [posted for posted in self.sent(to) if posted.is_page]

    def page(self, to: str) -> Posted:
        """The latest page to somebody."""
        return self.pages(to)[-1]


#: What a busy machine may take where panicmail gives PostgreSQL, and PostgreSQL gives panicmail, some seconds.
_PATIENCE = 60


def patient(url: str) -> str:
    """The same database, whose sessions are not ended because this process did not get to run for a while."""
    if not url.startswith("postgresql"):
        return url
    limits = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
    options = " ".join(f"-c {name}={_PATIENCE}s" for name in limits)
    waits = {"options": options, "connect_timeout": str(_PATIENCE)}
    return sa.make_url(url).update_query_dict(waits).render_as_string(hide_password=False)


@cache
def migrated() -> Path:
    """A SQLite file with this version's tables and nothing in them, to be copied: making them anew takes longer than
    most tests."""
    folder = Path(tempfile.mkdtemp(prefix="panicmail-tables-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    database = Database(f"sqlite:///{folder / 'panicmail.db'}")
    migrate.upgrade(database)
    database.close()
    return folder / "panicmail.db"


def office_settings() -> RuntimeSettings:
    return RuntimeSettings(
        people=PEOPLE,
        policies={DEFAULT: POLICY},
        schedules=Schedules({"seoc": Schedule(("ana",)), "smoc": Schedule(("max",))}),
        addresses=Addresses([PANIC], "panic+{token}@example.com", "panic.example.com"),
        tokens=TokenSigner([SigningKey("a", b"k" * 32)]),
        operators=("max",),
        known_senders=(),
        once_unknown=False,
        receipts=True,
        receipt_domains=("example.com",),
        hotline="+49 30 000000",
        advice=(),
        reporter_access=False,
        sender=PANIC,
        page_sender=PANIC,
        web_url="https://panic.example.com",
        hostname="panic.example.com",
        detail="subject",
        labels=("security-incident",),
        uploads="all",
    )


def mail(
    text: str,
    *,
    sender: str = "Rita Lopez <rita@example.com>",
    subject: str = "",
    message_id: str | None = None,
    in_reply_to: str = "",
    extra: str = "",
) -> bytes:
    """Raw octets of a plain mail, as a mail program would send it."""
    lines = [f"From: {sender}", f"To: {PANIC}", f"Subject: {subject}"]
    lines.append(f"Message-ID: {message_id or '<' + ids.new_mail_id() + '@mail.example.com>'}")
    if in_reply_to:
        lines += [f"In-Reply-To: {in_reply_to}", f"References: {in_reply_to}"]
    lines += [*filter(None, extra.splitlines()), "Content-Type: text/plain; charset=utf-8", "", *text.splitlines(), ""]
    return "\r\n".join(lines).encode()
