"""What the pages stand on: the links and the vital signs, as the pages want them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from panicmail.incident.model import Outcome, State
from panicmail.mail.compose.timeline_words import link_line
from panicmail.response.incident_links import IncidentLinks, IncidentView
from panicmail.server.http.link import LinkPage
from panicmail.server.http.metrics import Figure, HealthFigures


class TellsHealth(Protocol):
    """The running daemon's health, as far as the pages need it."""

    def is_alive(self) -> bool: ...
    def unready(self) -> tuple[str, ...]: ...
    def figures(self) -> HealthFigures: ...


class LinkBackend:
    """`app.Backend` over the running daemon."""

    def __init__(self, links: IncidentLinks, health: TellsHealth) -> None:
        self._links = links
        self._health = health

    def read_link(self, token: str) -> LinkPage | None:
        view = self._links.read_link(token)
        return _page(view) if view else None

    def act(self, token: str, word: str) -> Outcome | None:
        return self._links.act(token, word)

    def is_alive(self) -> bool:
        return self._health.is_alive()

    def unready(self) -> tuple[str, ...]:
        return self._health.unready()

    def figures(self) -> Iterable[Figure]:
        now = self._health.figures()
        accepted = Figure(
            name="mails_accepted",
            help="Mails answered 250 since the start.",
            values={"": now.mails_accepted},
            counts=True,
        )
        return (*_figures_of_work(now), *_figures_of_trouble(now), accepted)


def _figures_of_work(now: HealthFigures) -> tuple[Figure, ...]:
    """What is open or waits."""
    return (
        Figure(
            name="incidents",
            help="Unresolved incidents by state; 1000: that many or more.",
            label="state",
            values=now.incidents,
        ),
        Figure(
            name="mails",
            help="Mails that wait to be understood; 1000: that many or more.",
            label="state",
            values=now.mails,
        ),
        Figure(
            name="outbox",
            help="Rows of the outbox that wait, or that failed, by lane and state; 1000: that many or more.",
            label="row",
            values=now.outbox,
        ),
        Figure(name="open_seconds_max", help="Age of the oldest open incident.", values={"": now.open_seconds_max}),
        Figure(name="breached_open", help="Open incidents past their SLA.", values={"": now.breached_open}),
    )


def _figures_of_trouble(now: HealthFigures) -> tuple[Figure, ...]:
    """What is missing, and where nothing gets through."""
    return (
        Figure(
            name="accounting_gaps",
            help="What accepted mails are owed and is missing, by kind.",
            label="kind",
            values=now.gaps,
        ),
        Figure(
            name="adapter_barred",
            help="1: nothing gets through there until somebody mends what is set up wrong.",
            label="adapter",
            values=now.barred,
        ),
    )


def _page(view: IncidentView) -> LinkPage:
    incident, report, people = view.incident, view.report, view.settings.people
    reporter = " ".join(filter(None, (report.from_name, f"<{report.from_address or report.from_shown}>")))
    call = view.next_call if incident.state is State.OPEN else None
    holder = people.get(incident.holder or "")
    return LinkPage(
        ref=incident.ref,
        state=incident.state,
        person_name=view.person.name,
        tz=view.person.tz,
        accepted_at=incident.accepted_at,
        subject=incident.subject,
        reporter=reporter,
        sender=view.sender,
        report=report.text,
        flags=view.flags,
        severity=_severity(view),
        answers=view.answers,
        attachments=tuple(attachment.name or attachment.type for attachment in report.attachments),
        ack_by=call[0] if call else None,
        next_people=tuple(people[p].name for p in call[1] if p in people) if call else (),
        holder=holder.name if holder else incident.holder,
        holder_since=incident.acked_at,
        holder_is_reader=incident.holder == view.person.id,
        holder_how=incident.acked_how,
        resolved_by=_name(view, incident.resolved_by),
        resolved_at=incident.resolved_at,
        issue_url=incident.issue_url,
        phones=tuple((p.name, p.phone) for p in people.values() if p.phone and p.id != view.person.id),
        happened=tuple((line.at, said) for line in view.lines if (said := link_line(line, people))),
        acts=view.acts,
        undo_until=view.undo_until,
        revoked=view.revoked,
    )


def _severity(view: IncidentView) -> str:
    level, by = view.incident.severity, view.incident.severity_by
    if level is None:
        return ""
    return f"S{level} (S1 is the worst), by {_name(view, by) if by else 'the words of the report'}"


def _name(view: IncidentView, person: str) -> str:
    known = view.settings.people.get(person)
    return known.name if known else person
