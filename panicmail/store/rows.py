"""Rows as values: what the store hands out and takes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from panicmail.incident.model import Incident, Owed, PagedPerson, State
from panicmail.incident.transitions import due_at


class DeliveryState(StrEnum):
    """How far a row of the outbox has come."""

    QUEUED = "queued"  #: not tried yet
    TRYING = "trying"  #: tried at least once; the outcome is unknown or was temporary
    ACCEPTED = "accepted"  #: the other side took it
    FAILED = "failed"  #: the other side refused it for good
    VOID = "void"  #: it lost its reason before it was sent
    PARKED = "parked"  #: it cannot succeed; the operators were told


#: A row in one of these is over.
OVER = (DeliveryState.ACCEPTED, DeliveryState.FAILED, DeliveryState.VOID, DeliveryState.PARKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedMail:
    """An accepted mail, without its octets."""

    id: str
    accepted_at: datetime
    mail_from: str
    recipients: tuple[str, ...]
    peer: str
    helo: str
    tls: str
    size: int
    attempts: int = 0
    shape: str | None = None
    incident_id: str | None = None
    message_id: str | None = None
    report: str | None = None  #: as `mail.parse.report_json` writes it
    again_at: datetime | None = None  #: when it is to be read again; None: it is not
    readings: int = 0  #: how many more readings were begun after the first
    turn: int = 0  #: how many of its mailbox waited when it came; below 0: it goes first
    mailbox: str | None = None  #: whose flood it counts for; "": it joins no storm any more; None: not understood yet
    sender: str | None = None  #: what is proved of its sender, as `sender_proof.to_json`; None: nothing yet
    sender_tries: int = 0  #: checks of its sender that were begun, or asked for


@dataclass(frozen=True, slots=True)
class ClaimedMail:
    """An accepted mail that is claimed, with its octets where they are in memory."""

    mail: AcceptedMail
    raw: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderstoodMail:
    """What a mail turned out to be."""

    shape: str
    incident_id: str | None  #: None: it belongs to none, as an answer to a test page does
    digest: str
    message_id: str | None
    report: str  #: as `mail.parse.report_json` writes it
    mailbox: str | None = None  #: as of `AcceptedMail`
    sender: str | None = None  #: as of `AcceptedMail`


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """A row of the outbox."""

    id: int
    incident_id: str | None
    lane: str
    do: str
    key: str
    person: str | None
    facts: Mapping[str, Any]
    state: DeliveryState
    attempt: int
    queued_at: datetime
    due_at: datetime
    unsure_at: datetime | None  #: an earlier attempt, made then, may have had its effect
    done_at: datetime | None
    answer: str
    priority: int = 0  #: the least goes first


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineRow:
    """A row of the timeline."""

    id: int
    at: datetime
    event: str
    actor: str | None
    facts: Mapping[str, Any]


def incident_of(row: sa.Row[Any], paged: Mapping[str, PagedPerson]) -> Incident:
    """An incident from its row, and whom its pages say were paged."""
    values = {f.name: row._mapping[f.name] for f in fields(Incident) if f.name != "paged"}
    values["state"] = State(values["state"])
    values["owed"] = Owed(values["owed"]) if values["owed"] else None
    return Incident(**values, paged=paged)


def row_of(incident: Incident) -> dict[str, Any]:
    """The columns of its row; whom it paged stands in pages of their own."""
    values = {f.name: getattr(incident, f.name) for f in fields(Incident) if f.name != "paged"}
    values["state"] = incident.state.value
    values["owed"] = incident.owed.value if incident.owed else None
    values["away"] = dict(incident.away)
    values["due_at"] = due_at(incident)
    return values


def outbox_row_of(row: sa.Row[Any]) -> OutboxRow:
    values = {f.name: row._mapping[f.name] for f in fields(OutboxRow)}
    return OutboxRow(**{**values, "state": DeliveryState(values["state"])})


def mail_of(row: sa.Row[Any]) -> AcceptedMail:
    values = {f.name: row._mapping[f.name] for f in fields(AcceptedMail)}
    return AcceptedMail(**{**values, "recipients": tuple(values["recipients"])})


def timeline_row_of(row: sa.Row[Any]) -> TimelineRow:
    return TimelineRow(**{f.name: row._mapping[f.name] for f in fields(TimelineRow)})
