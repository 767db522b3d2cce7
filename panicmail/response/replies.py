"""Acknowledgements, and everything else the people paged can say.

Every way in (mail, link, webhook, command) ends in `ReplyHandler.act`, and so in the same guarded change of the
incident: the first yes wins, the next one is told who has it. A mail acknowledges only when all of this holds
(contract.md 3):

* it came to the token address of that person for that incident;
* its From is their address or a listed alias, and nothing else;
* nothing in it looks like a machine;
* it was read without loss;
* the first line they newly wrote means yes.

Anything less is a note, the clock runs on, and they are told so at their configured address, with what to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from panicmail.incident import people, reply_commands, transitions
from panicmail.incident.classify import MailKind, Report, is_surely_automatic
from panicmail.incident.model import Change, EffectKind, Entry, Incident, Outcome, PageReason, State, unchanged
from panicmail.incident.people import Person
from panicmail.incident.redact import redacted
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.mail.parse import report_json
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.rows import AcceptedMail, DeliveryState
from panicmail.store.transaction import Transaction

#: What may be a machine's is answered so often an hour: one that shows no sure sign must not keep us in conversation.
ANSWERS_AN_HOUR = 5
#: Why a mail of this kind does not count, though a person may have written it.
_LOOKS = {
    MailKind.LIST: "it came by a mailing list or group, and such a mail never acknowledges",
    MailKind.CALENDAR: "it holds an invitation, and such a mail never acknowledges",
    MailKind.BOUNCE: "it looks like a returned mail",
    MailKind.OOO: "it looks like an out-of-office reply",
}
#: So much of what somebody wrote goes into a note; the raw mail keeps all of it.
NOTE_LIMIT = 20_000
#: Pages that lose their reason when somebody has it, and have it again when nobody does.
_ASKS_WHO_TAKES_IT = frozenset({PageReason.PAGE, PageReason.STILL_OPEN, PageReason.YOURS_NOW, PageReason.REOPENED})
#: What somebody paged can do, as the timeline has it.
_ACTS = frozenset(
    {"incident.acked", "incident.taken", "incident.resolved", "incident.offered", "incident.escalated"}
    | {"person.declined", "ack.undone", "take.undone", "resolve.undone"}
)
_MAY_HAVE_REACHED = frozenset({DeliveryState.QUEUED, DeliveryState.TRYING, DeliveryState.ACCEPTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyChannel:
    """How something was said to panicmail, and what that rests on."""

    channel: str  #: "mail", "link", "gitlab", "pagerduty" or "command"
    how: str  #: in words, shown to everybody paged
    key: str  #: names this one act, so that doing it twice is doing it once
    acted_at: datetime | None = None  #: when it was done, by the clock of the way; None: now
    in_reply_to: str | None = None  #: Message-ID of the mail that is answered
    stays: bool = False  #: it brought words that the reporter does not get, and whoever wrote them is told so
    may_undo: bool = False  #: nothing says who it was, so what it gave or closed may be undone for a while


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyResult:
    """What an act came to."""

    incident: Incident
    outcome: Outcome
    said: ReplyCommand
    refs: tuple[str, ...] = ()  #: of "ack all": what else is theirs by it
    to: str = ""  #: of a hand-over: who was paged


class ReplyHandler:
    """Takes what people say about an incident. Works inside the caller's transaction."""

    def __init__(self, tx: Transaction, settings: RuntimeSettings) -> None:
        self._tx = tx
        self._settings = settings

    # -- by mail

    def by_mail(
        self, mail: AcceptedMail, report: Report, incident: Incident, person: Person, *, outward: bool = False
    ) -> None:
        """A mail to the token address of `person` for `incident`, whoever wrote it.

        Absence is believed here alone: nobody else has this address. Where it is not sure that an automaton wrote, the
        words are kept and answered as anybody's that do not count.

        `outward`: it was their address for the reporter, who does not get it.
        """
        is_sure = is_surely_automatic(report, null_sender=not mail.mail_from)
        if report.kind is MailKind.OOO and self._may_be_theirs(report, person):
            was_away = person.id in incident.away
            incident = self._is_away(incident, person)
            is_sure = is_sure or was_away  # told once: a program that shows no sign answers what it is told, too
        if is_sure or (report.kind is not MailKind.HUMAN and self._is_chatty(incident)):
            self._keep(incident, automatic_entry(report))
        else:
            doubt = self._doubt(report, person) or self._late(mail, incident, person)
            self._heard(mail, report, incident, person, doubt, outward=outward)

    def told_no_avail(self, mail: AcceptedMail, report: Report, incident: Incident, person: Person, why: str) -> None:
        """Tell `person`, whose words are kept already, that they counted for nothing, and what would.

        Args:
            why: In words that follow "Why: ".
        """
        way = ReplyChannel(channel="mail", how="", key=mail.id, in_reply_to=report.message_id)
        answer = ReplyResult(incident=incident, outcome=Outcome.NOTED, said=ReplyCommand(Command.NOTHING, why=why))
        self._tx.queue.tell(incident, person.id, f"answer/{way.key}", _facts(answer, way))

    def aside(self, mail: AcceptedMail, report: Report, incident: Incident, person: Person, why: str) -> None:
        """Words of `person` that came to an address where they cannot count: kept, and `person` is told."""
        self._heard(mail, report, incident, person, why)

    def _heard(
        self,
        mail: AcceptedMail,
        report: Report,
        incident: Incident,
        person: Person,
        doubt: str,
        *,
        outward: bool = False,
    ) -> None:
        said = understood(self._settings, report, incident, person)
        if self._is_more(report, incident, person, said):
            self._more(mail, report, incident, person)
            return
        if doubt := doubt or _unpaged(incident, person, said):
            said = ReplyCommand(Command.NOTHING, said.line, why=doubt)
        to = "to the address for the reporter" if outward else "to their own page"
        how = (
            f"reply from {report.from_address} {to} (token address and From; sender authentication is off)"
            if not doubt
            else f"mail from {report.from_address or report.from_shown or 'an unclear sender'}"
        )
        way = ReplyChannel(
            channel="mail",
            how=how,
            key=mail.id,
            acted_at=mail.accepted_at,
            in_reply_to=report.message_id,
            stays=outward or not said.bare,
        )
        if not said.bare:
            writer = person.id if not doubt or person.writes_from(report.from_address) else report.from_address
            has_it = incident.state is State.ACKED and incident.holder == writer
            self._keep(incident, _wrote(writer, report, "" if has_it else said.why, how))
        self.act(incident, person, said, way, trusted=not doubt)

    def _is_more(self, report: Report, incident: Incident, person: Person, said: ReplyCommand) -> bool:
        """Whether this is news for everybody concerned rather than an answer of `person`.

        The reporter's own words are, wherever they were sent; and on a closed incident whatever is no command.
        """
        if said.meaning is not Command.NOTHING:
            return False
        by_reporter = bool(report.from_address) and report.from_address == incident.reporter_address
        by_holder = incident.holder == person.id and person.writes_from(report.from_address)
        return incident.state is State.RESOLVED or (by_reporter and not by_holder)

    def _more(self, mail: AcceptedMail, report: Report, incident: Incident, person: Person) -> None:
        settings, now = self._settings, self._tx.now
        writer = person.id if person.writes_from(report.from_address) else ""
        change = transitions.more(
            incident,
            transitions.MoreMail(
                entry=more_entry(report, incident),
                mail_id=mail.id,
                human=True,
                thanks=reply_commands.is_thanks(report.reply_text),
                writer=writer,
            ),
            settings.duty(incident, now),
        )
        self._tx.incidents.apply(incident, change)

    def _doubt(self, report: Report, person: Person) -> str:
        """Why this mail cannot act for `person`; "" when it can."""
        if not report.from_address:
            return "its From line does not name one plain address"
        if not person.writes_from(report.from_address):
            return f"it came from {report.from_address}, which is not listed for you"
        if not report.lossless:
            return "it could not be read in full"
        if report.kind is not MailKind.HUMAN:
            return _LOOKS.get(report.kind, "it looks like an automatic mail")
        return ""

    def _late(self, mail: AcceptedMail, incident: Incident, person: Person) -> str:
        """Why a mail that had to be read again comes too late to act: what was done after it was written counts."""
        if not mail.readings:
            return ""
        lines = self._tx.timeline.of_incident(incident.id)
        acted = any(a.event in _ACTS and a.actor == person.id and a.at > mail.accepted_at for a in lines)
        return "it took long to read, and you have answered again since" if acted else ""

    def _may_be_theirs(self, report: Report, person: Person) -> bool:
        return not report.from_address or person.writes_from(report.from_address)

    def _is_away(self, incident: Incident, person: Person) -> Incident:
        settings, now = self._settings, self._tx.now
        why = "out of office"
        change = transitions.unreachable(incident, person.id, why, settings.duty(incident, now))
        return self._tx.incidents.apply(incident, change)

    def _is_chatty(self, incident: Incident) -> bool:
        """Whether so much was written lately that what looks like a machine is one, and is answered no more."""
        since = self._tx.now - timedelta(hours=1)
        lately = [line for line in self._tx.timeline.of_incident(incident.id) if line.at > since]
        return sum(line.event == "person.wrote" for line in lately) >= ANSWERS_AN_HOUR

    def undelivered(self, report: Report, incident: Incident, person: Person, round_: int = 0) -> None:
        """A delivery report of a page to `person`: failed for good makes them unreachable, delayed is a note.

        Who has the page another way, or has taken a later one, can be reached.

        Args:
            round_: Of the page, as its token says; 0 where it does not say, and then it is the latest one taken.
        """
        if report.deliveries and all(d.action not in {"failed", ""} for d in report.deliveries):
            self._keep(incident, automatic_entry(report))
            return
        status = next((d.status for d in report.deliveries if d.status), "")
        why = f"the page bounced ({status})" if status else "the page bounced"
        settings, now = self._settings, self._tx.now
        page = self._tx.pages.bounced(incident.id, person.id, why, round_)
        if page is not None and (self._tx.pages.has_another_way(page) or self._tx.pages.took_a_later(page)):
            facts = {"person": person.id, "answer": why, "channel": "mail"}
            self._keep(incident, Entry(event="page.refused", actor="panicmail", facts=facts))
            self._tx.queue.tell_operators("page_refused", {"ref": incident.ref, **facts}, incident_id=incident.id)
            return
        change = transitions.unreachable(incident, person.id, why, settings.duty(incident, now))
        self._tx.incidents.apply(incident, change)

    def _keep(self, incident: Incident, entry: Entry) -> None:
        self._tx.incidents.apply(incident, unchanged(incident, Outcome.NOTED, entry))

    # -- the one way

    def act(
        self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel, *, trusted: bool = True
    ) -> ReplyResult:
        """Do what `person` said about `incident`, and answer them.

        `trusted` False: the words are kept but nothing they say is done, not even as a sign of work. Nor is what is
        told too late: something newer stands against it.
        """
        if why := self._overtaken(incident, person, said, way):
            said = ReplyCommand(Command.NOTHING, said.line, why=why)
        handler = {
            Command.YES: self._yes,
            Command.TAKE: self._take,
            Command.YES_ALL: self._yes_all,
            Command.NO: self._no,
            Command.ESCALATE: self._escalate,
            Command.RESOLVE: self._resolve,
            Command.HAND_OVER: self._hand_over,
            Command.NOTHING: self._nothing if trusted else self._untrusted,
        }[said.meaning]
        answer = handler(incident, person, said, way)
        undo_by = self._keep_undoable(incident, answer.incident) if way.may_undo else None
        if self._wants_answer(answer, person, way):
            facts = {**_facts(answer, way), **self._taken_over(incident, answer.incident), "undo_by": undo_by}
            self._tx.queue.tell(answer.incident, person.id, f"answer/{way.key}", facts)
        return answer

    def _overtaken(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> str:
        """Why what `person` said is too late, in words; "" when it counts."""
        if way.acted_at is None or said.meaning is Command.NOTHING:
            return ""
        is_yes = said.meaning in {Command.YES, Command.YES_ALL}
        line = transitions.overtaken_by(
            self._tx.timeline.of_incident(incident.id), person.id, way.acted_at, is_yes=is_yes
        )
        if line is None:
            return ""
        if line.actor == person.id:
            return f"it is from before you {transitions.ACTS.get(line.event, 'wrote again')}, and that counts"
        found = self._settings.people.get(line.actor or "")
        who = found.name if found else line.actor or "somebody"
        return f"it is from before {who} {transitions.ACTS.get(line.event, 'wrote again')}"

    def _keep_undoable(self, before: Incident, after: Incident) -> str | None:
        """Until when what was just done can be undone; None when it cannot."""
        kept = transitions.undoable(before, after)
        if kept is None:
            return None
        self._tx.timeline.add(after, kept)
        return (self._tx.now + transitions.UNDO_WITHIN).isoformat()

    def undo(self, incident: Incident, person: Person, way: ReplyChannel) -> ReplyResult:
        """Take back what was done by link of `person` a moment ago. Beside `act`: no word of theirs can ask for it.

        They are told, as the others are: whoever has their link may have done either.
        """
        lines = self._tx.timeline.of_incident(incident.id)
        change = transitions.undo(
            incident,
            transitions.Undoing(person=person.id, how=way.how, missed=self._missed(incident, person)),
            lines,
            self._tx.now,
        )
        answer = self._apply(incident, change, ReplyCommand(Command.NOTHING, "undo"), way)
        if answer.outcome is Outcome.DONE:
            facts = {"what": "undone", "by": person.id, **change.entries[0].facts}
            self._tx.queue.tell(answer.incident, person.id, f"undone/{way.key}", facts)
        return answer

    def _missed(self, incident: Incident, person: Person) -> list[str]:
        """Whose page was dropped unsent because it had been acknowledged, and who had it no other way."""
        pages = [
            task
            for task in self._tx.outbox.of_incident(incident.id)
            if task.do == EffectKind.PAGE and task.person != person.id
        ]
        alive = {(p.person, p.facts["round"]) for p in pages if p.state in _MAY_HAVE_REACHED}
        dropped = [p for p in pages if p.state is DeliveryState.VOID and p.facts["word"] in _ASKS_WHO_TAKES_IT]
        since = incident.acked_at
        lately = [p for p in dropped if p.done_at and since and p.done_at >= since]
        return [p.person for p in lately if p.person and (p.person, p.facts["round"]) not in alive]

    def _taken_over(self, before: Incident, after: Incident) -> Mapping[str, Any]:
        """Of what somebody else had until now: who, and when the clock had stopped; that was earlier than this act."""
        if before.state is not State.ACKED or after.state is not State.ACKED or before.holder == after.holder:
            return {}
        acked = [line.at for line in self._tx.timeline.of_incident(after.id) if line.event == "incident.acked"]
        stopped_at = acked[-1] if acked else before.acked_at
        return {"before": before.holder, "stopped_at": stopped_at.isoformat() if stopped_at else None}

    def _wants_answer(self, answer: ReplyResult, person: Person, way: ReplyChannel) -> bool:
        """Every command is answered; plain words are when the clock still runs, somebody else has it, or whoever has
        it may think that the reporter got them."""
        if answer.said.meaning is not Command.NOTHING or way.stays:
            return True
        return answer.incident.state is not State.ACKED or answer.incident.holder != person.id

    def _apply(self, incident: Incident, change: Change, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        kept = self._tx.incidents.apply(incident, transitions.dated(change, way.acted_at))
        return ReplyResult(incident=kept, outcome=change.outcome, said=said)

    def _yes(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        change = transitions.acknowledge(incident, person.id, way.how, self._settings.policy_of(incident), self._tx.now)
        return self._apply(incident, change, said, way)

    def _take(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        change = transitions.take(incident, person.id, way.how, self._settings.policy_of(incident), self._tx.now)
        return self._apply(incident, change, said, way)

    def _yes_all(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        others = [
            other
            for other in self._tx.search.open_incidents_of(person.id)
            if other.id != incident.id and not self._overtaken(other, person, said, way)
        ]
        answer = self._yes(incident, person, said, way)
        for other in others:
            self._yes(other, person, said, way)
        return replace(answer, refs=tuple(i.ref for i in others))

    def _no(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        settings, now = self._settings, self._tx.now
        change = transitions.decline(incident, person.id, way.how, said.line, settings.duty(incident, now))
        return self._apply(incident, change, said, way)

    def _escalate(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        settings, now = self._settings, self._tx.now
        change = transitions.escalate(incident, person.id, way.how, settings.duty(incident, now))
        return self._apply(incident, change, said, way)

    def _resolve(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        change = transitions.resolve(incident, person.id, way.how, self._settings.policy_of(incident), self._tx.now)
        return self._apply(incident, change, said, way)

    def _hand_over(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        to = people.by_word(self._settings.people, said.to)
        if to is not None and to.id == person.id:
            return self._take(incident, person, said, way)
        if to is None:
            names = ", ".join(sorted(self._settings.people))
            return self._nothing(
                incident,
                person,
                replace(said, meaning=Command.NOTHING, why=f"nobody here is called that; there are {names}"),
                way,
            )
        change = transitions.hand_over(incident, person.id, to.id, way.how, self._tx.now)
        return replace(self._apply(incident, change, said, way), to=to.id)

    def _nothing(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        """No command: their words are a note, and a sign of work of whoever answers for it."""
        work = transitions.sign_of_work(incident, person.id, self._settings.policy_of(incident), self._tx.now)
        return self._apply(incident, work, said, way)

    def _untrusted(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        return ReplyResult(incident=incident, outcome=Outcome.NOTED, said=said)


def _facts(answer: ReplyResult, way: ReplyChannel) -> Mapping[str, Any]:
    return {
        "what": "answer",
        "said": answer.said.meaning.value,
        "outcome": answer.outcome.value,
        "why": answer.said.why,
        "words": answer.said.line,
        "how": way.how,
        "channel": way.channel,
        "by_link": way.channel == "link",  # in the facts of a push "channel" is the phone's
        "to": answer.to,
        "refs": list(answer.refs),
        "stays": way.stays,
        "in_reply_to": way.in_reply_to,
    }


def understood(settings: RuntimeSettings, report: Report, incident: Incident, person: Person) -> ReplyCommand:
    """What a mail says if `person` wrote it. Of whoever has it a no is one only alone: more are words on the matter."""
    known = reply_commands.names(settings.people.values(), person.id, incident.reporter_name, incident.ref)
    said = reply_commands.read(report.reply_text, known)
    has_it = incident.state is State.ACKED and incident.holder == person.id
    if has_it and said.meaning is Command.NO and not said.alone:
        return ReplyCommand(Command.NOTHING, said.line, why="whoever has it gives it away by the one word alone")
    return said


def _unpaged(incident: Incident, person: Person, said: ReplyCommand) -> str:
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


def more_entry(report: Report, incident: Incident) -> Entry:
    """What came in the thread, for the timeline and for those who are told."""
    facts = {
        "from_address": report.from_address,
        "from_name": report.from_name or report.from_shown,
        "is_reporter": bool(report.from_address) and report.from_address == incident.reporter_address,
        "text": written(report),
        "attachments": report_json.attachments_to_json(report.attachments),
    }
    return Entry(event="thread.more", actor=report.from_address or "somebody", facts=facts)


def _wrote(writer: str, report: Report, why: str, how: str) -> Entry:
    """`why` it is no acknowledgement; "" when it is one, or none was asked for."""
    facts = {"text": written(report), "why": why, "how": how}
    return Entry(event="person.wrote", actor=writer, facts=facts)


def automatic_entry(report: Report) -> Entry:
    facts = {"kind": report.kind.value, "subject": report.subject, "text": _noted(report.text)}
    return Entry(event="mail.automatic", actor=report.from_address or report.from_shown, facts=facts)
