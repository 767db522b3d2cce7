"""The page of one incident for one person: what is behind the link in a page, and what its buttons do.

The bearer of the link acts, nobody else is asked for; so it is recorded, and told to everybody paged, as "by link,
not authenticated", and whose link it is has the answer by mail and push as well: it may have been a stranger. What it
acknowledged, took or closed may be undone by it for two minutes (`transitions.undo`).

A link that stands in a mail its owner did not write was handed on: others can read it. It is revoked for acting and
still shows the incident, and its owner has a new one by mail. So a link's token has a number, its round: the one that
acts is one more than the last that was revoked, as the timeline says.

A link is good for this page and nothing else: its token is no address, and no other token opens the page. It is good
as long as the incident is not over: until a week after it was resolved. One that is opened again in that week keeps
its links; more that comes later is a new incident, with links of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from panicmail.errors import PanicmailError
from panicmail.incident import transitions
from panicmail.incident.classify import MailKind, Report
from panicmail.incident.model import Entry, Incident, Outcome, State
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.incident.reply_tokens import Purpose, Token
from panicmail.incident.sender_proof import sender_line
from panicmail.mail.incident_report import answers_of, flags_of, is_first_of, remarks_of, report_of, write_instead
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response.replies import ReplyChannel, ReplyHandler, ReplyResult
from panicmail.response.sender_demands import proof_of
from panicmail.store.rows import AcceptedMail, TimelineRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

#: The buttons, and what each says.
BUTTONS = {
    "ack": Command.YES,
    "no": Command.NO,
    "escalate": Command.ESCALATE,
    "take": Command.TAKE,
    "resolve": Command.RESOLVE,
    "quiet": Command.QUIET,
    "quiet_off": Command.QUIET_OFF,
}
#: What is offered, by where the incident stands for the reader.
OFFERED = {
    State.OPEN: ("ack", "no", "escalate"),
    State.ACKED: ("take", "escalate"),
    State.RESOLVED: (),
}
HELD = ("resolve", "escalate", "no")
#: Takes back what was done by link; beside the buttons, as no word of a mail says it.
UNDO = "undo"
HOW = "by link, not authenticated"
#: The line of the timeline that says a link acts no more.
REVOKED = "link.revoked"
#: How long a link outlives its incident.
EXPIRES_AFTER = timedelta(days=7)


class LinkRevoked(PanicmailError):  # noqa: N818
    """A link of ours that stood in a mail its owner did not write: it shows, and does not act."""


class LinkExpired(PanicmailError):  # noqa: N818
    """A link of ours, whose incident was resolved more than a week ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """What the bearer of a link sees."""

    incident: Incident
    person: Person
    report: Report
    lines: tuple[TimelineRow, ...]
    settings: RuntimeSettings
    next_call: transitions.NextCall | None
    flags: tuple[str, ...]
    answers: tuple[tuple[int, str, str], ...]  #: number, question, answer of the reporter
    acts: tuple[str, ...]
    undo_until: datetime | None  #: they may undo what they did until then; None: there is nothing to undo
    revoked: bool  #: the link shows and does not act
    sender: str  #: what is proved of the sender, in words


class IncidentLinks:
    """Answers for link tokens."""

    def __init__(self, store: Store, settings: CurrentSettings) -> None:
        self._store = store
        self._settings = settings

    def read_link(self, token: str) -> IncidentView | None:
        """What is behind the link; None when it is not one of ours. Changes nothing.

        Raises:
            LinkExpired: It was one.
        """
        settings = self._settings()
        return self._store.read(lambda tx: _view(tx, settings, token))

    def act(self, token: str, button: str) -> Outcome | None:
        """Press a button; None when the link is not one of ours.

        Raises:
            KeyError: There is no such button.
            LinkExpired: It was one.
            LinkRevoked: It is one that only shows.
        """
        said = None if button == UNDO else ReplyCommand(BUTTONS[button], button)
        settings = self._settings()

        def work(tx: Transaction) -> Outcome | None:
            view = _view(tx, settings, token)
            if view is None:
                return None
            if view.revoked:
                raise LinkRevoked(view.incident.ref)
            key = f"{view.person.id}/{view.incident.version}/{button}"
            way = ReplyChannel(channel="link", how=HOW, key=key, may_undo=True)
            return _press(tx, settings, view, said, way).outcome

        return self._store.write("link.act", work)


def live_round(lines: Iterable[TimelineRow], person: str) -> int:
    """The round of the link of `person` that acts, by the timeline of the incident."""
    revoked = [line.facts["round"] for line in lines if line.event == REVOKED and line.facts["person"] == person]
    return max(revoked, default=-1) + 1


def revoke_carried(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report) -> None:
    """Revoke every link in a mail whose owner did not write it, and send its owner a new one."""
    for text in report.carried:
        token = settings.tokens.verify(text, settings.people) if text.startswith(Purpose.LINK.value) else None
        if token is None or not token.person or _is_its_owners(settings, mail, report, token):
            continue
        incident = tx.incidents.get(token.incident_id)
        if incident is None or _is_expired(incident, tx.now):
            continue
        if token.round == live_round(tx.timeline.of_incident(incident.id), token.person):
            _revoke(tx, incident, token, mail, report)


def _is_its_owners(settings: RuntimeSettings, mail: AcceptedMail, report: Report, token: Token) -> bool:
    """Whether the owner of a link wrote the mail, or a machine sent their page back to where it came from."""
    if settings.people[token.person].writes_from(report.from_address):
        return True
    if report.kind is MailKind.HUMAN:
        return False
    texts = filter(None, map(settings.addresses.token_in, mail.recipients))
    theirs = (settings.tokens.verify(text, [token.person]) for text in texts)
    return any(each and each.person and each.incident_id == token.incident_id for each in theirs)


def _revoke(tx: Transaction, incident: Incident, token: Token, mail: AcceptedMail, report: Report) -> None:
    writer = report.from_address or report.from_shown or "somebody"
    facts = {"person": token.person, "round": token.round, "mail": mail.id}
    tx.timeline.add(incident, Entry(event=REVOKED, actor=writer, facts=facts))
    told = {"what": "link_revoked", "from_address": report.from_address, "from_name": report.from_name}
    tx.queue.tell(incident, token.person, f"link_revoked/{token.round}", told)


def _is_expired(incident: Incident, now: datetime) -> bool:
    return incident.resolved_at is not None and now - incident.resolved_at >= EXPIRES_AFTER


def _press(
    tx: Transaction, settings: RuntimeSettings, view: IncidentView, said: ReplyCommand | None, way: ReplyChannel
) -> ReplyResult:
    """`said` None: undo."""
    acks = ReplyHandler(tx, settings)
    if said is None:
        return acks.undo(view.incident, view.person, way)
    return acks.act(view.incident, view.person, said, way)


def _view(tx: Transaction, settings: RuntimeSettings, text: str) -> IncidentView | None:
    token = settings.tokens.verify(text, settings.people)
    if token is None or token.purpose is not Purpose.LINK or not token.person:
        return None
    incident = tx.incidents.get(token.incident_id)
    if incident is None:
        return None
    if _is_expired(incident, tx.now):
        raise LinkExpired(incident.ref)
    lines = tuple(tx.timeline.of_incident(incident.id))
    revoked = token.round < live_round(lines, token.person)
    return IncidentView(
        incident=incident,
        person=settings.people[token.person],
        report=report_of(tx, incident),
        lines=lines,
        settings=settings,
        next_call=transitions.next_call(incident, settings.policy_of(incident), settings.who_at(tx.now), token.person),
        sender=sender_line(
            proof_of(settings, tx.mails.get(incident.mail_id)), is_first=is_first_of(lines)
        ).removeprefix("Sender: "),
        flags=(*flags_of(lines), *remarks_of(lines, settings.scope)),
        answers=answers_of(lines),
        acts=() if revoked else _acts(incident, token.person, is_quiet=write_instead(lines) is not None),
        undo_until=None if revoked else transitions.undo_until(incident, token.person, lines, tx.now),
        revoked=revoked,
    )


def _acts(incident: Incident, person: str, *, is_quiet: bool) -> tuple[str, ...]:
    if incident.state is State.ACKED and incident.holder == person:
        return (*HELD, "quiet_off" if is_quiet else "quiet")
    return OFFERED[incident.state]
