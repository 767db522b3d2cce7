"""What a mail says, as a command and as a line of the timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from panicmail.incident import reply_commands
from panicmail.incident.classify import Report
from panicmail.incident.model import Entry, Incident, State
from panicmail.incident.numbered_answers import answers_in
from panicmail.incident.people import Person
from panicmail.incident.redact import redacted
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.mail.parse import report_json
from panicmail.oncall.runtime_settings import RuntimeSettings

#: So much of what somebody wrote goes into a note; the raw mail keeps all of it.
NOTE_LIMIT = 20_000


def understood(settings: RuntimeSettings, report: Report, incident: Incident, person: Person) -> ReplyCommand:
    """What a mail says if `person` wrote it. Of whoever has it a no is one only alone: more are words on the matter."""
    known = reply_commands.names(settings.people.values(), person.id, incident.reporter_name, incident.ref)
    said = reply_commands.read(report.command_text, known)
    has_it = incident.state is State.ACKED and incident.holder == person.id
    if has_it and said.meaning is Command.NO and not said.alone:
        return ReplyCommand(Command.NOTHING, said.line, why="whoever has it gives it away by the one word alone")
    return said


def unpaged(incident: Incident, person: Person, said: ReplyCommand) -> str:
    """Why what `person` said cannot acknowledge, though it is theirs; "" when it can. As for the command."""
    acknowledges = said.meaning in {Command.YES, Command.YES_ALL} or (
        said.meaning is Command.RESOLVE and incident.state is State.OPEN
    )
    if not acknowledges or person.id in {*incident.paged, incident.holder, incident.handed_to}:
        return ""
    return "you were not paged for it"


def written(report: Report) -> str:
    """What of a mail goes into a note: the words newly written; where none are found all of it."""
    return _noted(report.reply_text or report.text)


def _noted(text: str) -> str:
    return redacted(text[: 2 * NOTE_LIMIT])[:NOTE_LIMIT]


def more_entry(report: Report, incident: Incident, questions: Sequence[str] = ()) -> Entry:
    """What came in the thread, for the timeline and for those who are told."""
    facts: dict[str, Any] = {
        "from_address": report.from_address,
        "from_name": report.from_name or report.from_shown,
        "is_reporter": bool(report.from_address) and report.from_address == incident.reporter_address,
        "text": written(report),
        "attachments": report_json.attachments_to_json(report.attachments),
    }
    if facts["is_reporter"] and (answers := answers_in(report.text, report.reply_text or report.text, questions)):
        facts["answers"] = [[n, questions[n - 1], redacted(answers[n])] for n in sorted(answers)]
    return Entry(event="thread.more", actor=report.from_address or "somebody", facts=facts)


def wrote_entry(writer: str, report: Report, why: str, how: str) -> Entry:
    """`why` it is no acknowledgement; "" when it is one, or none was asked for."""
    facts = {"text": written(report), "why": why, "how": how}
    return Entry(event="person.wrote", actor=writer, facts=facts)


def automatic_entry(report: Report) -> Entry:
    facts = {"kind": report.kind.value, "subject": report.subject, "text": _noted(report.text)}
    return Entry(event="mail.automatic", actor=report.from_address or report.from_shown, facts=facts)
