"""Everything a mail of ours may say about an incident, gathered before it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from panicmail.config.reporters import KnownReporter
from panicmail.incident.classify import Report
from panicmail.incident.escalation_policy import EscalationPolicy, OnCallAt
from panicmail.incident.model import Incident
from panicmail.incident.people import Person
from panicmail.incident.sender_proof import NOT_CHECKED, SenderProof, sender_line
from panicmail.oncall.runtime_settings import RuntimeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSent:
    """One page of this incident so far, by one channel."""

    person: str
    channel: str  #: "mail"; later also push channels
    at: datetime  #: queued
    state: str  #: "accepted", "failed", "trying", "queued" or "void"
    answer: str = ""  #: what the other side said, one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """What the configuration says that mails show."""

    people: Mapping[str, Person]
    policy: EscalationPolicy
    who: OnCallAt
    has_gap: Callable[[str], bool]  #: whether a role's roster names nobody now, so that its fallback answers
    panic: str  #: where panics go
    sender: str  #: From of receipts, answers, news
    page_sender: str  #: From of pages
    hotline: str = ""  #: "" when there is none
    advice: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()  #: to the reporter, numbered from 1
    reporter_access: bool = False
    scope: Mapping[str, str] = field(default_factory=dict)  #: kind of report -> where it belongs


def organisation_at(settings: RuntimeSettings, at: datetime, incident: Incident | None = None) -> Organisation:
    """What the configuration says at `at`; with `incident`, of the escalation policy it follows."""
    return Organisation(
        people=settings.people,
        policy=settings.policy_of(incident) if incident else settings.policy,
        who=settings.who_at(at),
        has_gap=lambda role: settings.schedules.has_gap(role, at),
        panic=settings.addresses.panic,
        sender=settings.sender,
        page_sender=settings.page_sender,
        hotline=settings.hotline,
        advice=settings.advice,
        questions=settings.questions,
        reporter_access=settings.reporter_access,
        scope=settings.scope,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeContext:
    """One mail's matter: the incident as it is now, and what this mail is about."""

    organisation: Organisation
    incident: Incident
    report: Report  #: the panic as read
    facts: Mapping[str, Any]  #: of the effect this mail carries out (`incident.Effect.facts`)
    now: datetime
    pages: Sequence[PageSent] = field(default_factory=tuple)  #: oldest first
    also_open: Sequence[Incident] = field(default_factory=tuple)  #: other open incidents of the reader
    same_reporter: Sequence[Incident] = field(default_factory=tuple)  #: other open incidents of the same reporter
    link: str = ""  #: this person's page of this incident; "" when [web] url is not set
    conversation: str = ""  #: where the reader writes to the reporter; "" when they cannot
    unheard: str = ""  #: why they cannot, an `UnsentReason`; "" when they can, or the reader is the reporter
    instead: str | None = None  #: where to write, as the reporter's mailbox gets nothing; "" unsaid; None: it gets mail
    sender: str = sender_line(NOT_CHECKED)  #: the line about who sent the report
    known_as: KnownReporter | None = None  #: who has the reporter's private address, by the operator's list
    writer: SenderProof = NOT_CHECKED  #: what is proved of who wrote what this mail brings
    detail: str = "full"  #: how much of the report is in it: "full", "subject" or "ref"
    flags: tuple[str, ...] = ()  #: oddities of the panic, for people
    remarks: tuple[str, ...] = ()  #: where it belongs, and what else its words say, for people
    answers: tuple[tuple[int, str, str], ...] = ()  #: of the reporter: number, question, answer
    storm_members: int | None = None  #: how many mails joined it; None: it is no storm
