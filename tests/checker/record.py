"""The record of a run: its history, and what was there at the end, read from outside.

All instants are seconds since the run began, whatever clock they were written by. A record is kept as two files,
`history.jsonl` and `state.json`, and can be judged again from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.checker import history
from tests.checker.history import Event
from tests.checker.spans import Downtime, downtime

#: Calls made without the database are of round 0, about a mail in the spool, or of rounds no policy reaches.
FROM_MEMORY = re.compile(r"-(?:0|[5-9]\d{5})-[a-z2-7]{16}@")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """By what a run was played: the policy, and who is who."""

    sla: float
    repeat: float
    steps: tuple[float, ...]  #: when each is due
    people: Mapping[str, str]  #: key -> address
    smoc: str  #: the key of who that is
    #: PostgreSQL: nodes write at once, and a line of a slow transaction may stand behind a younger one's.
    at_once: bool = False


@dataclass(frozen=True, kw_only=True)
class MailRow:
    """A mail in the database."""

    id: str
    ref: str  #: what its 250 said
    uid: str  #: the checker's name for it; "" when it is none of the checker's
    accepted_at: float
    state: str
    attempts: int
    incident: str | None


@dataclass(frozen=True, kw_only=True)
class IncidentRow:
    id: str
    ref: str
    mail: str  #: the id of the mail that opened it
    state: str
    accepted_at: float
    sla_at: float  #: the first one
    holder: str | None
    acked_at: float | None  #: the first time
    issue: int | None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of an incident's timeline."""

    id: int
    incident: str
    at: float
    event: str
    actor: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A row of the outbox."""

    incident: str | None
    do: str
    key: str
    person: str | None
    state: str
    attempt: int
    answer: str


@dataclass(frozen=True, kw_only=True)
class Issue:
    iid: int
    incident: str  #: of its marker; "" when it has none
    is_open: bool
    notes: tuple[str, ...] = ()  #: the marker of each note of panicmail's


@dataclass(frozen=True, kw_only=True)
class Outbound:
    """A mail the relay took."""

    at: float
    recipients: tuple[str, ...]
    mail_from: str
    subject: str
    message_id: str
    reply_to: str
    page_of: str  #: the REF whose page this is; "" when it is no page

    @property
    def from_memory(self) -> bool:
        """Whether it is a page made while the database was away."""
        return bool(self.page_of and FROM_MEMORY.search(self.message_id))


@dataclass(frozen=True, kw_only=True)
class State:
    """What was there at the end."""

    mails: tuple[MailRow, ...] = ()
    incidents: tuple[IncidentRow, ...] = ()
    timeline: tuple[Line, ...] = ()
    outbox: tuple[TaskRow, ...] = ()
    issues: tuple[Issue, ...] = ()
    outbound: tuple[Outbound, ...] = ()
    spooled: int = 0  #: mails that were in an emergency spool at any time
    spool: tuple[str, ...] = ()  #: what is left in one


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run, when it is over."""

    terms: Terms
    events: Sequence[Event]
    state: State

    @cached_property
    def ends_at(self) -> float:
        return max((event.at for event in self.events), default=0.0)

    @cached_property
    def downtime(self) -> Downtime:
        return downtime(self.events, self.ends_at)

    @cached_property
    def nodes(self) -> list[str]:
        return sorted({event.process for event in self.events if event.process.startswith("node-")})

    def lines_of(self, incident: str) -> list[Line]:
        return self._lines.get(incident, [])

    @cached_property
    def _lines(self) -> Mapping[str, list[Line]]:
        lines: dict[str, list[Line]] = {}
        for line in sorted(self.state.timeline, key=lambda line: line.id):
            lines.setdefault(line.incident, []).append(line)
        return lines

    def pages_of(self, incident: IncidentRow, person: str | None = None) -> list[Outbound]:
        """The pages the relay took for an incident, oldest first; of one person or of all.

        A call for a mail in a spool has the REF of that mail, which may turn out to belong to an older incident.
        """
        address = None if person is None else self.terms.people[person]
        refs = {incident.ref, *(mail.ref for mail in self.state.mails if mail.incident == incident.id)}
        pages = (page for ref in refs for page in self._pages.get(ref, []))
        return sorted(
            (page for page in pages if address is None or address in page.recipients), key=lambda page: page.at
        )

    @cached_property
    def _pages(self) -> Mapping[str, list[Outbound]]:
        pages: dict[str, list[Outbound]] = {}
        for mail in sorted(self.state.outbound, key=lambda mail: mail.at):
            if mail.page_of:
                pages.setdefault(mail.page_of, []).append(mail)
        return pages

    def sent(self, *kinds: str) -> list[Event]:
        """The first attempt at each mail the checker sent of these kinds, in order."""
        first: dict[str, Event] = {}
        for event in self.events:
            if event.what == "invoke" and (not kinds or event.facts["kind"] in kinds):
                first.setdefault(event.facts["uid"], event)
        return list(first.values())

    def answers(self, *whats: str) -> list[Event]:
        """What came of attempts: "ok", "fail", "unknown", "rejected", "nobody"."""
        return [event for event in self.events if event.what in whats and "uid" in event.facts]


def save(record: Record, folder: Path) -> None:
    history.save(record.events, folder / "history.jsonl")
    state = {"terms": asdict(record.terms), "state": asdict(record.state)}
    (folder / "state.json").write_text(json.dumps(state, indent=1))


def load(folder: Path) -> Record:
    kept = json.loads((folder / "state.json").read_text())
    kinds = {"mails": MailRow, "incidents": IncidentRow, "timeline": Line, "outbox": TaskRow,
             "issues": Issue, "outbound": Outbound}  # fmt: skip
    rows: dict[str, Any] = {
        name: tuple(kinds[name](**_tuples(row)) for row in value) if name in kinds else value
        for name, value in kept["state"].items()
    }
    state = State(**{**rows, "spool": tuple(rows["spool"])})
    return Record(terms=Terms(**_tuples(kept["terms"])), events=history.read(folder / "history.jsonl"), state=state)


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
