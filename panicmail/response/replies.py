"""Acknowledgements, and everything else the people paged can say.

Every way in (mail, link, webhook, command) ends in `ReplyHandler.act`, and so in the same guarded change of the
incident: the first yes wins, the next one is told who has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from panicmail.incident import people, transitions
from panicmail.incident.model import Change, EffectKind, Entry, Incident, Outcome, PageReason, State
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.mail.incident_report import QUIETED, UNQUIETED
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response import storm_acts
from panicmail.store.rows import DeliveryState
from panicmail.store.transaction import Transaction

#: Pages that lose their reason when somebody has it, and have it again when nobody does.
_ASKS_WHO_TAKES_IT = frozenset({PageReason.PAGE, PageReason.STILL_OPEN, PageReason.YOURS_NOW, PageReason.REOPENED})
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
    refs: tuple[str, ...] = ()  #: what else is theirs by it: by "ack all", or with a storm
    to: str = ""  #: of a hand-over: who was paged
    along: tuple[storm_acts.Moved, ...] = ()  #: what went with it, of a storm


class ReplyHandler:
    """Takes what people say about an incident. Works inside the caller's transaction."""

    def __init__(self, tx: Transaction, settings: RuntimeSettings) -> None:
        self._tx = tx
        self._settings = settings

    def act(
        self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel, *, trusted: bool = True
    ) -> ReplyResult:
        """Do what `person` said about `incident`, and answer them.

        `trusted` False: the words are kept but nothing they say is done, not even as a sign of work. Nor is what is
        told too late: something newer stands against it.
        """
        answer = self._do(incident, person, said, way, trusted=trusted)
        self._answer(incident, answer, person, way)
        return answer

    def act_on_all(self, incidents: Sequence[Incident], person: Person, said: ReplyCommand, way: ReplyChannel) -> None:
        """Do what `person` said about each of several incidents, and answer them once."""
        first, *others = incidents
        done = []
        for number, each in enumerate(others):
            now = self._tx.incidents.get(each.id) or each  # a storm may have taken it along
            done.append(self._do(now, person, said, replace(way, key=f"{way.key}/{number}"), trusted=True).incident)
        first = self._tx.incidents.get(first.id) or first
        answer = self._do(first, person, said, way, trusted=True)
        theirs = [each.ref for each in done if each.state is State.ACKED and each.holder == person.id]
        self._answer(first, replace(answer, refs=tuple(dict.fromkeys([*theirs, *answer.refs]))), person, way)

    def _do(
        self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel, *, trusted: bool
    ) -> ReplyResult:
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
            Command.STATUS: self._status,
            Command.SEVERITY: self._severity,
            **dict.fromkeys((Command.QUIET, Command.QUIET_OFF), self._quiet),
            Command.NOTHING: self._nothing if trusted else self._untrusted,
        }[said.meaning]
        answer = handler(incident, person, said, way)
        if said.severity is None or said.meaning is Command.SEVERITY or answer.said is not said:
            return answer
        now = self._tx.incidents.get(incident.id) or answer.incident
        return replace(answer, incident=self._severity(now, person, said, way).incident)

    def _answer(self, incident: Incident, answer: ReplyResult, person: Person, way: ReplyChannel) -> None:
        undo_by = self._keep_undoable(incident, answer.incident) if way.may_undo else None
        for before, after in answer.along if way.may_undo else ():
            self._keep_undoable(before, after)
        if self._wants_answer(answer, person, way):
            facts = {
                **answer_facts(answer, way),
                **_taken_over(self._tx, incident, answer.incident),
                "undo_by": undo_by,
            }
            self._tx.queue.tell(answer.incident, person.id, f"answer/{way.key}", facts)

    def _overtaken(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> str:
        """Why what `person` said is too late, in words; "" when it counts."""
        if way.acted_at is None or said.meaning in {Command.NOTHING, Command.STATUS, Command.SEVERITY}:
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
        change = self._undo(incident, person, way)
        answer = self._apply(incident, change, ReplyCommand(Command.NOTHING, "undo"), way)
        if answer.outcome is Outcome.DONE:
            for one in storm_acts.first_of(self._tx, incident):
                self._apply(one, self._undo(one, person, way), answer.said, way)
            facts = {"what": "undone", "by": person.id, **change.entries[0].facts}
            self._tx.queue.tell(answer.incident, person.id, f"undone/{way.key}", facts)
        return answer

    def _undo(self, incident: Incident, person: Person, way: ReplyChannel) -> Change:
        undoing = transitions.Undoing(person=person.id, how=way.how, missed=_missed(self._tx, incident, person))
        return transitions.undo(incident, undoing, self._tx.timeline.of_incident(incident.id), self._tx.now)

    def _wants_answer(self, answer: ReplyResult, person: Person, way: ReplyChannel) -> bool:
        """Every command is answered; plain words are when the clock still runs, somebody else has it, or whoever has
        it may think that the reporter got them."""
        if answer.said.meaning is not Command.NOTHING or way.stays:
            return True
        return answer.incident.state is not State.ACKED or answer.incident.holder != person.id

    def _apply(self, incident: Incident, change: Change, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        kept = self._tx.incidents.apply(incident, transitions.dated(change, way.acted_at))
        along = tuple(storm_acts.follow(self._tx, self._settings, incident, kept))
        refs = tuple(after.ref for _, after in along)
        return ReplyResult(incident=kept, outcome=change.outcome, said=said, refs=refs, along=along)

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
            now = self._tx.incidents.get(other.id)  # a storm may have taken it along
            if now is not None and now.state is State.OPEN:
                self._yes(now, person, said, way)
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

    def _status(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        """They ask how it stands: the answer says so, and nothing changes."""
        return ReplyResult(incident=incident, outcome=Outcome.NOTED, said=said)

    def _severity(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        """They say how grave it is. That is a sign of work, and no acknowledgement."""
        settings, now = self._settings, self._tx.now
        level = said.severity or 0
        policy, at = settings.policy_said(incident, level), way.acted_at or now
        word = transitions.SaidSeverity(level=level, by=person.id, how=way.how, policy=policy, at=at)
        change = transitions.set_severity(incident, word, settings.duty(incident, now))
        work = transitions.sign_of_work(change.incident, person.id, word.policy, now)
        return self._apply(incident, replace(change.then(work), outcome=change.outcome), said, way)

    def _quiet(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        """Whoever has it says that the reporter's mailbox is not theirs any more, or is again."""
        if why := _why_not_quiet(self._settings, incident, person, said):
            return replace(self._nothing(incident, person, said, way), said=replace(said, why=why))
        work = transitions.sign_of_work(incident, person.id, self._settings.policy_of(incident), self._tx.now)
        return self._apply(incident, _quieted(work, person, said, way), said, way)

    def _nothing(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        """No command: their words are a note, and a sign of work of whoever answers for it."""
        work = transitions.sign_of_work(incident, person.id, self._settings.policy_of(incident), self._tx.now)
        return self._apply(incident, work, said, way)

    def _untrusted(self, incident: Incident, person: Person, said: ReplyCommand, way: ReplyChannel) -> ReplyResult:
        return ReplyResult(incident=incident, outcome=Outcome.NOTED, said=said)


def _taken_over(tx: Transaction, before: Incident, after: Incident) -> Mapping[str, Any]:
    """Of what somebody else had until now: who, and when the clock had stopped; that was earlier than this act."""
    if before.state is not State.ACKED or after.state is not State.ACKED or before.holder == after.holder:
        return {}
    acked = [line.at for line in tx.timeline.of_incident(after.id) if line.event == "incident.acked"]
    stopped_at = acked[-1] if acked else before.acked_at
    return {"before": before.holder, "stopped_at": stopped_at.isoformat() if stopped_at else None}


def _missed(tx: Transaction, incident: Incident, person: Person) -> list[str]:
    """Whose page was dropped unsent because it had been acknowledged, and who had it no other way."""
    pages = [
        task for task in tx.outbox.of_incident(incident.id) if task.do == EffectKind.PAGE and task.person != person.id
    ]
    alive = {(p.person, p.facts["round"]) for p in pages if p.state in _MAY_HAVE_REACHED}
    dropped = [p for p in pages if p.state is DeliveryState.VOID and p.facts["word"] in _ASKS_WHO_TAKES_IT]
    since = incident.acked_at
    lately = [p for p in dropped if p.done_at and since and p.done_at >= since]
    return [p.person for p in lately if p.person and (p.person, p.facts["round"]) not in alive]


def _why_not_quiet(settings: RuntimeSettings, incident: Incident, person: Person, said: ReplyCommand) -> str:
    """Why what `person` says of the reporter's mailbox changes nothing; "" when it counts."""
    if not transitions.speaks(incident, person.id):
        return "only whoever has it says whether the reporter gets mail"
    if said.to and not settings.is_known_address(said.to):
        return f"{said.to} is in no domain of [receipts] and not in the file of reporters"
    return ""


def _quieted(work: Change, person: Person, said: ReplyCommand, way: ReplyChannel) -> Change:
    """The change, and that it stops the mail to the reporter, or lets it go again."""
    event = QUIETED if said.meaning is Command.QUIET else UNQUIETED
    entry = Entry(event=event, actor=person.id, facts={"instead": said.to, "how": way.how})
    return replace(work, entries=(*work.entries, entry), outcome=Outcome.DONE)


def answer_facts(answer: ReplyResult, way: ReplyChannel) -> Mapping[str, Any]:
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
        "severity": answer.said.severity,
        "refs": list(answer.refs),
        "stays": way.stays,
        "in_reply_to": way.in_reply_to,
    }
