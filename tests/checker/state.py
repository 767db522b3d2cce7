"""What is there at the end, read from outside: rows by SQL, issues from GitLab, mails from the relay."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from panicmail.incident import ids
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import Received
from tests.checker.client import uid_of
from tests.checker.people import PAGE
from tests.checker.record import IncidentRow, Issue, Line, MailRow, Outbound, State, TaskRow
from tests.checker.stores import Row, Store

MAILS = "SELECT m.*, r.raw FROM mails m JOIN raws r ON r.mail_id = m.id ORDER BY m.accepted_at, m.id"
MARKER = re.compile(r"(?m)^`?panicmail:([a-z2-7]{16})`?$")
NOTE_MARKER = re.compile(r"(?m)^`?(panicmail:[a-z2-7]{16}/\d+)`?$")

#: Turns an instant of a row into seconds of the run.
Seconds = Callable[[Any], float | None]


def seconds_since(began_at: float) -> Seconds:
    """`began_at`: by time.monotonic(). Rows are dated by the wall clock, which must not step during a run."""
    wall = datetime.now(UTC).timestamp() - (time.monotonic() - began_at)

    def seconds(value: Any) -> float | None:
        if value is None:
            return None
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return round(float(at.timestamp()) - wall, 4)

    return seconds


def read(store: Store, gitlab: SandboxGitLab, mails: Sequence[Received], began_at: float) -> State:
    """Everything but the spools."""
    at = seconds_since(began_at)
    return State(
        mails=tuple(_mail(row, at) for row in store.rows(MAILS)),
        incidents=tuple(_incident(row, at) for row in store.rows("SELECT * FROM incidents ORDER BY accepted_at")),
        timeline=tuple(_line(row, at) for row in store.rows("SELECT * FROM timeline ORDER BY id")),
        outbox=tuple(_task(row) for row in store.rows("SELECT * FROM outbox ORDER BY id")),
        issues=tuple(_issue(gitlab, issue) for issue in gitlab.issues),
        outbound=tuple(_outbound(mail, began_at) for mail in mails),
    )


def _mail(row: Row, at: Seconds) -> MailRow:
    return MailRow(
        id=row["id"],
        ref=ids.ref(row["id"]),
        uid=uid_of(bytes(row["raw"])),
        accepted_at=at(row["accepted_at"]) or 0.0,
        state=row["state"],
        attempts=row["attempts"],
        incident=row["incident_id"],
    )


def _incident(row: Row, at: Seconds) -> IncidentRow:
    return IncidentRow(
        id=row["id"],
        ref=row["ref"],
        mail=row["mail_id"],
        state=row["state"],
        accepted_at=at(row["accepted_at"]) or 0.0,
        sla_at=at(row["first_sla_at"]) or 0.0,
        holder=row["holder"],
        acked_at=at(row["first_acked_at"]),
        issue=row["issue_iid"],
    )


def _line(row: Row, at: Seconds) -> Line:
    facts = json.loads(row["facts"]) if isinstance(row["facts"], str) else row["facts"]
    return Line(
        id=row["id"],
        incident=row["incident_id"],
        at=at(row["at"]) or 0.0,
        event=row["event"],
        actor=row["actor"],
        facts=facts,
    )


def _task(row: Row) -> TaskRow:
    return TaskRow(
        incident=row["incident_id"],
        do=row["do"],
        key=row["key"],
        person=row["person"],
        state=row["state"],
        attempt=row["attempt"],
        answer=row["answer"],
    )


def _issue(gitlab: SandboxGitLab, issue: dict[str, Any]) -> Issue:
    marker = MARKER.search(issue["description"] or "")
    notes = [note["body"] for note in gitlab.notes_of(issue["iid"]) if not note["system"]]
    marked = [found[1] for note in notes if (found := NOTE_MARKER.search(note))]
    return Issue(
        iid=issue["iid"],
        incident=marker[1] if marker else "",
        is_open=issue["state"] == "opened",
        notes=tuple(marked),
    )


def _outbound(mail: Received, began_at: float) -> Outbound:
    page = PAGE.match(mail.subject)
    return Outbound(
        at=round(mail.received_at - began_at, 4),
        recipients=mail.recipients,
        mail_from=mail.mail_from,
        subject=mail.subject,
        message_id=mail.header("Message-ID"),
        reply_to=mail.header("Reply-To"),
        page_of=page[1] if page else "",
    )
