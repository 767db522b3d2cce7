"""Replies by mail: whether what a mail says counts, and for whom.

A mail acknowledges only when all of this holds
(contract.md 3):

* it came to the token address of that person for that incident;
* its From is their address or a listed alias, and nothing else;
* who wrote it is proved as it must be (`sender_demands`);
* nothing in it looks like a machine;
* it was read without loss;
* the first line they newly wrote means yes.

Anything less is a note, the clock runs on, and they are told so at their configured address, with what to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from panicmail.incident import reply_commands, sender_proof, transitions
from panicmail.incident.classify import MailKind, Report, is_surely_automatic
from panicmail.incident.model import Change, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.numbered_answers import answers_in
from panicmail.incident.people import Person
from panicmail.incident.redact import redacted
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.incident.reply_tokens import Purpose
from panicmail.incident.storm_rules import NamedRefs, PageDigest, named_refs
from panicmail.mail.parse import report_json
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response import sender_demands
from panicmail.response.replies import ReplyChannel, ReplyHandler, ReplyResult, answer_facts
from panicmail.store.rows import AcceptedMail
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
#: What somebody paged can do, as the timeline has it.
_ACTS = frozenset(
    {"incident.acked", "incident.taken", "incident.resolved", "incident.offered", "incident.escalated"}
    | {"person.declined", "ack.undone", "take.undone", "resolve.undone"}
)


class MailReplies:
    """One mail as a reply. Works inside the caller's transaction."""

    def __init__(self, tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report) -> None:
        self._tx, self._settings = tx, settings
        self._mail, self._report = mail, report
        self._acts = ReplyHandler(tx, settings)

    def by_mail(self, incident: Incident, person: Person, *, outward: bool = False) -> None:
        """A mail to the token address of `person` for `incident`, whoever wrote it.

        Absence is believed here alone: nobody else has this address. Where it is not sure that an automaton wrote, the
        words are kept and answered as anybody's that do not count.

        `outward`: it was their address for the reporter, who does not get it.
        """
        mail, report = self._mail, self._report
        is_sure = is_surely_automatic(report, null_sender=not mail.mail_from)
        if report.kind is MailKind.OOO and self._may_be_theirs(person):
            was_away = person.id in incident.away
            incident = self._is_away(incident, person)
            is_sure = is_sure or was_away  # told once: a program that shows no sign answers what it is told, too
        if is_sure or (report.kind is not MailKind.HUMAN and self._is_chatty(incident)):
            self._keep(incident, automatic_entry(report))
        else:
            doubt = self.doubt(person) or self.late(incident, person)
            self._heard(incident, person, doubt, outward=outward)

    def tell_no_avail(self, incident: Incident, person: Person, why: str) -> None:
        """Tell `person`, whose words are kept already, that they counted for nothing, and what would.

        Args:
            why: In words that follow "Why: ".
        """
        mail, report = self._mail, self._report
        way = ReplyChannel(channel="mail", how="", key=mail.id, in_reply_to=report.message_id)
        answer = ReplyResult(incident=incident, outcome=Outcome.NOTED, said=ReplyCommand(Command.NOTHING, why=why))
        self._tx.queue.tell(incident, person.id, f"answer/{way.key}", answer_facts(answer, way))

    def aside(self, incident: Incident, person: Person, why: str) -> None:
        """Words of `person` that came to an address where they cannot count: kept, and `person` is told."""
        self._heard(incident, person, why)

    def _heard(self, incident: Incident, person: Person, doubt: str, *, outward: bool = False) -> None:
        mail, report = self._mail, self._report
        said = understood(self._settings, report, incident, person)
        if self._is_more(incident, person, said):
            self._more(incident, person)
            return
        if doubt := doubt or ("" if self._answers_a_page(incident, person) else unpaged(incident, person, said)):
            said = ReplyCommand(Command.NOTHING, said.line, why=doubt)
        to = "to the address for the reporter" if outward else "to their own page"
        how = (
            f"reply from {report.from_address} {to}; sender {self.proved}"
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
        if not said.bare and mail.sender_tries < 2:  # else its words are kept already
            writer = person.id if not doubt or person.writes_from(report.from_address) else report.from_address
            has_it = incident.state is State.ACKED and incident.holder == writer
            self._keep(incident, wrote_entry(writer, report, "" if has_it else said.why, how))
        self._acts.act(incident, person, said, way, trusted=not doubt)

    def _answers_a_page(self, incident: Incident, person: Person) -> bool:
        """Whether its references name a page of ours to `person`: perhaps one from memory, while the database was away
        and of which it knows nothing. Other mails of ours have no round."""
        texts = filter(None, map(self._settings.addresses.token_of, self._report.references))
        tokens = (self._settings.tokens.verify(text, self._settings.people) for text in texts)
        pages = [t for t in tokens if t and t.purpose is Purpose.MESSAGE and t.person == person.id and t.round > 0]
        return any(incident.id in (t.incident_id, self._tx.mails.home_of(t.incident_id)) for t in pages)

    def _is_more(self, incident: Incident, person: Person, said: ReplyCommand) -> bool:
        """Whether this is news for everybody concerned rather than an answer of `person`.

        The reporter's own words are, wherever they were sent; and on a closed incident whatever is no command.
        """
        report = self._report
        if said.meaning is not Command.NOTHING:
            return False
        by_reporter = bool(report.from_address) and report.from_address == incident.reporter_address
        by_holder = incident.holder == person.id and person.writes_from(report.from_address)
        return incident.state is State.RESOLVED or (by_reporter and not by_holder)

    def _more(self, incident: Incident, person: Person) -> None:
        mail, report = self._mail, self._report
        settings, now = self._settings, self._tx.now
        writer = person.id if person.writes_from(report.from_address) else ""
        known = reply_commands.names(settings.people.values(), person.id, incident.reporter_name, incident.ref)
        change = transitions.more(
            incident,
            transitions.MoreMail(
                entry=more_entry(report, incident, settings.questions),
                mail_id=mail.id,
                human=True,
                thanks=reply_commands.is_thanks(report.reply_text, known),
                writer=writer,
            ),
            settings.duty(incident, now),
        )
        self._tx.incidents.apply(incident, change)

    def doubt(self, person: Person) -> str:
        """Why this mail cannot act for `person`; "" when it can."""
        report = self._report
        if not report.from_address:
            return "its From line does not name one plain address"
        if not person.writes_from(report.from_address):
            return f"it came from {report.from_address}, which is not listed for you"
        if why := sender_demands.doubt(self._tx, self._settings, self._mail, report, person):
            return why
        if report.is_encrypted:
            return "it is encrypted, and panicmail has no key to read it; answer without encryption"
        if not report.lossless:
            return "it could not be read in full"
        if report.first_line == "" and report.reply_text:
            return "its first line may belong to what it quotes; write the answer first, with nothing above it"
        if report.kind is not MailKind.HUMAN:
            return _LOOKS.get(report.kind, "it looks like an automatic mail")
        return ""

    @property
    def proved(self) -> str:
        """What is proved of who wrote this mail, in words that follow "sender"."""
        return sender_proof.in_words(sender_demands.proof_of(self._settings, self._mail))

    def late(self, incident: Incident, person: Person) -> str:
        """Why a mail that had to be read again comes too late to act: what was done after it was written counts."""
        mail = self._mail
        if not mail.readings and mail.sender_tries < 2:
            return ""
        lines = self._tx.timeline.of_incident(incident.id)
        if any(a.event in _ACTS and a.actor == person.id and a.at > mail.accepted_at for a in lines):
            return "it took long to read, and you have answered again since"
        if mail.sender_tries > 1 and incident.state is not State.OPEN:
            return "who wrote it could be checked only after a while, and the incident is not open any more"
        return ""

    def _may_be_theirs(self, person: Person) -> bool:
        report = self._report
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

    def undelivered(self, incident: Incident, person: Person, round_: int = 0) -> None:
        """A delivery report of a page to `person`: failed for good makes them unreachable, delayed is a note.

        Who has the page another way, or has taken a later one, can be reached.

        Args:
            round_: Of the page, as its token says; 0 where it does not say, and then it is the latest one taken.
        """
        report = self._report
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


# -- What a mail says, as a command and as a line of the timeline.

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


# -- Replies to a digest of pages: they act on what that digest named, and on nothing else.
#
# "ack all" is about every incident it named, "ack REF" about that one. A no and a call for more people without a
# REF are about all: that calls people, which is the safe side. Any other word without a REF is answered with a
# question.

#: What is about all incidents of a digest where it names none.
_ABOUT_ALL = frozenset({Command.YES_ALL, Command.NO, Command.ESCALATE})


class DigestReplies:
    """One mail as a reply to a digest. Works inside the caller's transaction."""

    def __init__(self, tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report) -> None:
        self._tx, self._settings = tx, settings
        self._mail, self._report = mail, report
        self._replies = MailReplies(tx, settings, mail, report)

    def by_mail(self, digest: PageDigest, person: Person) -> None:
        """A mail to the address of `digest`, whoever wrote it."""
        mail, report = self._mail, self._report
        incidents = self._incidents(digest)
        if is_surely_automatic(report, null_sender=not mail.mail_from) or report.kind is MailKind.OOO:
            for each in incidents:
                self._replies.by_mail(each, person)
            return
        doubt = self._replies.doubt(person) or self._replies.late(incidents[0], person)
        said, about = self._understood(incidents, person)
        if doubt:
            said, about = ReplyCommand(Command.NOTHING, said.line, why=doubt), ()
        way = ReplyChannel(
            channel="mail",
            how=f"reply from {report.from_address} to a digest of pages to them; sender {self._replies.proved}"
            if not doubt else f"mail from {report.from_address or report.from_shown}",
            key=mail.id,
            acted_at=mail.accepted_at,
            in_reply_to=report.message_id,
        )  # fmt: skip
        self._keep_words(about or incidents[:1], person, said, doubt, way)
        if about:
            meaning = Command.YES if said.meaning is Command.YES_ALL else said.meaning
            ReplyHandler(self._tx, self._settings).act_on_all(about, person, replace(said, meaning=meaning), way)
        else:
            self._ask_which(digest, incidents, person, said)

    def undelivered(self, digest: PageDigest, person: Person) -> None:
        """The digest came back: so did every page in it."""
        rounds = dict(digest.pages)
        for each in self._incidents(digest):
            self._replies.undelivered(each, person, rounds[each.id])

    def aside(self, digest: PageDigest, person: Person, why: str) -> None:
        """Words of a person where they cannot count."""
        self._replies.aside(self._incidents(digest)[0], person, why)

    def _incidents(self, digest: PageDigest) -> list[Incident]:
        """Those it named; there is one at least."""
        return [found for each, _ in digest.pages if (found := self._tx.incidents.get(each))]

    def _understood(self, incidents: Sequence[Incident], person: Person) -> tuple[ReplyCommand, Sequence[Incident]]:
        """What it says, and about which incidents; () when it does not say, or says nothing that acts."""
        first, report = incidents[0], self._report
        refs = {each.ref: each for each in incidents}
        named: NamedRefs = named_refs(report.command_text, refs, first.ref)
        said = understood(self._settings, replace(report, reply_text=named.text), first, person)
        about = [refs[ref] for ref in named.about(said.line)]
        if said.meaning is Command.NOTHING:
            return said, ()
        if not about and said.meaning in _ABOUT_ALL and not any(found for _, found in named.by_line):
            about = [*incidents]
        return said, about

    def _keep_words(
        self, about: Sequence[Incident], person: Person, said: ReplyCommand, doubt: str, way: ReplyChannel
    ) -> None:
        """More than a command is a note."""
        if said.bare:
            return
        writer = person.id if not doubt else self._report.from_address or "somebody"
        entry = wrote_entry(writer, self._report, said.why, way.how)
        for each in about:
            self._tx.incidents.apply(each, Change(incident=each, entries=(entry,), outcome=Outcome.NOTED))

    def _ask_which(self, digest: PageDigest, incidents: Sequence[Incident], person: Person, said: ReplyCommand) -> None:
        """Nothing was done: which one do they mean?"""
        facts = {
            "what": "which",
            "digest": digest.id,
            "refs": [each.ref for each in incidents],
            "why": said.why or "it names none of them",
            "words": said.line,
            "in_reply_to": self._report.message_id,
        }
        self._tx.queue.tell(incidents[0], person.id, f"which/{self._mail.id}", facts)
