"""An incident and what a change of it consists of: the values the state table (`transitions/`) works on.

Facts only: frozen, without I/O, without a clock. Instants are aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from panicmail.incident.escalation_policy import DEFAULT


class State(StrEnum):
    """Where an incident stands."""

    OPEN = "open"  #: nobody has it; the policy runs
    ACKED = "acked"  #: somebody has it
    RESOLVED = "resolved"  #: over


class Owed(StrEnum):
    """What is due at `Incident.remind_at` from whoever has it."""

    WORK = "work"  #: a sign of work, or they are asked by page and push
    ANSWER = "answer"  #: they were asked, or somebody wrote: an answer, or somebody else is called, again and again
    STATUS = "status"  #: nothing that hurries: by mail, in the daytime, they are asked for a line


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedPerson:
    """That one person was paged for an incident."""

    role: str  #: the role they were paged as, the first time
    round: int  #: of the first page
    at: datetime  #: of the first page
    last_at: datetime  #: of the latest


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One panic and who has it. The row of the table `incidents`."""

    id: str
    ref: str
    mail_id: str
    state: State
    version: int = 0  #: raised by the store with every change
    accepted_at: datetime  #: when the mail got its 250
    sla_at: datetime  #: acknowledged by then, or breached; later than at first when it was reopened
    first_sla_at: datetime  #: what `sla_at` was at first: the promise the figures count
    opened_at: datetime  #: when it last became open; acceptance at first
    steps_from_at: datetime  #: the instant the steps' times count from
    step: int  #: index of the last step taken; -1: none yet
    round: int = 0  #: of the latest pages; never falls; part of every page's key
    next_step_at: datetime | None = None  #: set exactly while open
    remind_at: datetime | None = None  #: set exactly while acked: when what is `owed` is due
    owed: Owed | None = None  #: set exactly while acked
    words_at: datetime | None = None  #: acked: when the first words came that wait for an answer; None: none wait
    worked_at: datetime | None = None  #: acked: the latest sign of work that was counted
    holder: str | None = None  #: who has it; kept when it opens again, as the last one who had it
    handed_to: str | None = None  #: who was offered it; theirs on their yes
    acked_at: datetime | None = None  #: of the latest acknowledgement
    first_acked_at: datetime | None = None
    acked_how: str = ""  #: how the latest acknowledgement was verified, in words
    breached_at: datetime | None = None
    resolved_at: datetime | None = None
    resolved_by: str = ""  #: in words: a person, or what closed it
    paged: Mapping[str, PagedPerson] = field(default_factory=dict)
    away: Mapping[str, str] = field(default_factory=dict)  #: person -> why they are passed over, in words
    once: bool = False  #: filed and paged once, without escalation
    drill: bool = False
    policy: str = DEFAULT  #: the name of the policy it follows
    severity: int | None = None  #: 1 to 4, 1 the worst; None: nobody gave one
    severity_by: str = ""  #: who of our people said it; "": the report's words did
    linked_to: str | None = None  #: the REF of the resolved incident this one continues
    subject: str = ""
    reporter_address: str = ""  #: "" when From named nobody clearly
    reporter_name: str = ""
    message_id: str | None = None  #: of the report
    mailbox: str = ""  #: who sent it, as far as floods go: `storm_rules.storm_mailbox`; "": not known
    issue_project: str | None = None  #: by number, once the issue was moved to another one; None: the configured one
    issue_iid: int | None = None
    issue_url: str | None = None


class EffectKind(StrEnum):
    """The kinds of effect."""

    PAGE = "page"  #: ask a person to act
    TELL = "tell"  #: tell one of our people something
    RECEIPT = "receipt"  #: the reporter's first answer
    NEWS = "news"  #: tell the reporter something
    ISSUE = "issue"  #: open the GitLab issue
    FILES = "files"  #: put the raw message and the attachments on the issue
    AMEND = "amend"  #: have the issue say what a later, full reading of the report brought
    MIRROR = "mirror"  #: show the incident's status in GitLab's own incident fields
    TWINS = "twins"  #: look whether a lost answer made the issue twice
    SEVERITY = "severity"  #: write severity and labels to the issue
    CONFIDE = "confide"  #: make the issue confidential again
    OPERATORS = "operators"  #: tell the operators that panicmail needs help
    LIST = "list"  #: tell one of our people what is open or held
    PROVEN = "proven"  #: answer somebody's reply to a test page


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something to be done once in the world. `key` names it within its incident: the same key is done once."""

    do: EffectKind
    key: str
    person: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  #: JSON; instants as ISO strings


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the timeline; with `note`, an internal note on the issue too."""

    event: str
    actor: str | None = None  #: person, address or "panicmail"
    facts: Mapping[str, Any] = field(default_factory=dict)
    note: bool = True


class Outcome(StrEnum):
    """What an event came to, for whoever caused it."""

    DONE = "done"  #: it changed the incident as asked
    ALREADY = "already"  #: it was so before; `incident.holder` says who
    CLOSED = "closed"  #: too late, the incident is resolved
    NOTED = "noted"  #: kept, and nothing else
    HOW_TO_CLOSE = "how_to_close"  #: "resolve" on an open one acknowledges; closing takes a second word
    NOBODY_LEFT = "nobody_left"  #: the policy has no further step: the repeat goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An incident as it must be stored, with everything that belongs in the same transaction."""

    incident: Incident
    effects: tuple[Effect, ...] = ()
    entries: tuple[Entry, ...] = ()
    outcome: Outcome = Outcome.DONE
    void_pages: bool = False  #: pages not sent yet lost their reason

    def then(self, later: Change) -> Change:
        """This change and, in the same transaction, `later`, which was made from this one's incident."""
        return Change(
            incident=later.incident,
            effects=self.effects + later.effects,
            entries=self.entries + later.entries,
            outcome=later.outcome,
            void_pages=self.void_pages or later.void_pages,
        )


def unchanged(incident: Incident, outcome: Outcome, *entries: Entry) -> Change:
    return Change(incident=incident, entries=entries, outcome=outcome)


class PageReason(StrEnum):
    """What a page asks, as its subject says it."""

    PAGE = "page"  #: the first page
    STILL_OPEN = "still_open"  #: paged before, and nobody has it
    YOURS_NOW = "yours_now"  #: somebody else did not answer
    STILL_YOURS = "still_yours"  #: you have it; show a sign of work
    STATUS = "status"  #: you have it, and it was quiet; nobody else is called. By mail alone
    HANDED = "handed"  #: somebody offers it to you
    SILENT_HOLDER = "silent_holder"  #: to the manager: the holder shows no sign of work
    REOPENED = "reopened"  #: it was closed, and there is more
    DATABASE_AWAY = "database_away"  #: it waits in the spool, and nothing escalates
    STATE_UNKNOWN = "state_unknown"  #: it was open when the database was last asked
