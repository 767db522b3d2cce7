"""Replies to a digest of pages: they act on what that digest named, and on nothing else.

"ack all" is about every incident it named, "ack REF" about that one. A no and a call for more people without a REF are
about all: that calls people, which is the safe side. Any other word without a REF is answered with a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from panicmail.incident.classify import MailKind, Report, is_surely_automatic
from panicmail.incident.model import Change, Incident, Outcome
from panicmail.incident.page_digest import NamedRefs, PageDigest, named_refs
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.mail_replies import MailReplies
from panicmail.response.mail_words import understood, wrote_entry
from panicmail.response.replies import ReplyChannel, ReplyHandler
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction

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
