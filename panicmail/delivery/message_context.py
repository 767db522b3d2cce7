"""What a message is about as it is sent: gathered right before, so that it says what is true then."""

from __future__ import annotations

from collections.abc import Sequence

from panicmail.incident.model import EffectKind, Incident, Owed, PageReason, State
from panicmail.incident.sender_proof import sender_line
from panicmail.incident.storm_rules import STORM_BEGAN
from panicmail.incident.tasks import PUSH
from panicmail.incident.transitions import UnsentReason
from panicmail.mail.compose.detail import within
from panicmail.mail.compose.notice_context import NoticeContext, PageSent, organisation_at
from panicmail.mail.incident_report import answers_of, flags_of, is_first_of, remarks_of, report_of, write_instead
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response import incident_links, reporter_thread
from panicmail.response.sender_demands import proof_of
from panicmail.store.rows import DeliveryState, OutboxRow, TimelineRow
from panicmail.store.transaction import Transaction

#: So many other incidents are looked at, and named as far as there is room.
NEIGHBOURS = 20


def is_wanted(tx: Transaction, incident: Incident, task: OutboxRow) -> bool:
    """Whether this page still asks for something: checked right before it is sent."""
    word = PageReason(task.facts["word"])
    newer = [
        t
        for t in tx.outbox.of_incident(incident.id)
        if t.do == EffectKind.PAGE
        and t.person == task.person
        and t.facts["round"] > task.facts["round"]
        and t.state is not DeliveryState.VOID
        and t.facts["word"] != PageReason.HANDED
    ]
    if newer:
        return False
    if incident.once:
        return True
    match word:
        case PageReason.HANDED:
            return incident.handed_to == task.person and incident.state is not State.RESOLVED
        case PageReason.STILL_YOURS:
            return incident.holder == task.person and incident.owed is Owed.ANSWER
        case PageReason.STATUS:
            return incident.holder == task.person and incident.owed is Owed.STATUS
        case PageReason.SILENT_HOLDER:
            return incident.state is State.ACKED
        case _:
            return incident.state is State.OPEN


def notice_context(tx: Transaction, settings: RuntimeSettings, incident: Incident, task: OutboxRow) -> NoticeContext:
    reader = task.person or ""
    found = settings.people.get(reader)
    lines = tx.timeline.of_incident(incident.id)
    instead = write_instead(lines)
    context = NoticeContext(
        organisation=organisation_at(settings, tx.now, incident),
        incident=incident,
        report=report_of(tx, incident),
        facts=task.facts,
        now=tx.now,
        pages=[
            PageSent(
                person=t.person or "",
                channel="push" if t.lane == PUSH else "mail",
                at=t.queued_at,
                state=t.state.value,
                answer=t.answer,
            )
            for t in tx.outbox.of_incident(incident.id)
            if t.do == EffectKind.PAGE
        ],
        also_open=tx.search.open_incidents_of(reader, besides=incident.id, limit=NEIGHBOURS) if reader else [],
        same_reporter=_same_reporter(tx, incident),
        link=settings.link(incident.id, reader, incident_links.live_round(lines, reader)) if reader else "",
        conversation=reporter_thread.address(tx, settings, incident, reader) if reader and instead is None else "",
        unheard=_unheard(tx, settings, incident, reader, instead) if reader else "",
        instead=instead,
        sender=sender_line(proof_of(settings, tx.mails.get(incident.mail_id)), is_first=is_first_of(lines)),
        known_as=settings.reporters.get(incident.reporter_address),
        writer=proof_of(settings, tx.mails.get(str(task.facts["mail"])) if task.facts.get("mail") else None),
        flags=flags_of(lines),
        remarks=remarks_of(lines, settings.scope),
        answers=answers_of(lines),
        storm_members=_storm_members(tx, incident, lines),
    )
    return within(context, found.detail) if found and task.lane != PUSH else context


def _unheard(tx: Transaction, settings: RuntimeSettings, incident: Incident, reader: str, instead: str | None) -> str:
    """Why the reader cannot write to the reporter; "" when they can."""
    why = reporter_thread.why_none(tx, settings, incident, reader)
    return why or ("" if instead is None else UnsentReason.QUIET)


def _storm_members(tx: Transaction, incident: Incident, lines: Sequence[TimelineRow]) -> int | None:
    storm = tx.storms.get(incident.id) if any(line.event == STORM_BEGAN for line in lines) else None
    return storm.members if storm else None


def _same_reporter(tx: Transaction, incident: Incident) -> list[Incident]:
    address = incident.reporter_address
    return tx.search.open_incidents_from(address, besides=incident.id, limit=NEIGHBOURS) if address else []
