"""Mails that belong to an incident: more in its thread, replies, words for the reporter, delivery reports, files."""

from __future__ import annotations

from dataclasses import dataclass

from panicmail.incident import classify, people, reply_commands, transitions
from panicmail.incident.classify import Author, Classification, MailKind, Report
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, unchanged
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Purpose
from panicmail.intake import check_page_replies, mail_triage
from panicmail.intake.known_facts import address_of, incident_of, tokens_to
from panicmail.mail.parse import report_json
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.mail_replies import DigestReplies, MailReplies, automatic_entry, more_entry
from panicmail.response.reporter_thread import ReporterMail
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction

#: Why words that came elsewhere count for nothing.
NOT_YOUR_PAGE = "it went to an address that is not the one of your page"
#: So many tokens in the text of a delivery report are looked at.
LOOKED_FOR = 20


def more(filing: Filing) -> str:
    tx, settings, mail, report = filing.tx, filing.settings, filing.mail, filing.report
    incident = filing.incident
    if _is_automatic(mail, report):
        tx.incidents.apply(incident, unchanged(incident, Outcome.NOTED, automatic_entry(report)))
        return incident.id
    person = people.by_address(settings.people, report.from_address)
    if person is not None and (person.id in incident.paged or person.id == incident.holder):
        _more_of_ours(filing, incident, person)
        return incident.id
    if person is not None and is_for_reporter(filing, incident):
        filing.conversation.turn_away(incident, person)
    known = reply_commands.names(
        settings.people.values(), person.id if person else "", incident.reporter_name, incident.ref
    )
    change = transitions.more(
        incident,
        transitions.MoreMail(
            entry=more_entry(report, incident, settings.questions),
            mail_id=mail.id,
            human=True,
            thanks=reply_commands.is_thanks(report.reply_text or report.text, known),
        ),
        settings.duty(incident, tx.now),
    )
    return mail_triage.raise_incident(tx, settings, mail, report, tx.incidents.apply(incident, change)).id


def sends_back(report: Report) -> bool:
    """Whether what is attached is a mail of ours that an automaton answers, or nothing anybody looks for."""
    is_away = report.author is Author.ANSWER and report.kind is MailKind.OOO
    return is_away or report.author in (Author.BOUNCE, Author.RECEIPT)


def _is_automatic(mail: AcceptedMail, report: Report) -> bool:
    return classify.is_surely_automatic(report, null_sender=not mail.mail_from)


def _more_of_ours(filing: Filing, incident: Incident, person: Person) -> None:
    """More in the thread by somebody paged, or the holder: it counts for nothing here, and goes to nobody else."""
    to_reporter = is_for_reporter(filing, incident)
    if to_reporter and transitions.speaks(incident, person.id):
        filing.conversation.astray(incident, person)
        return
    why = "it went to the reporter's address, and was not sent on" if to_reporter else NOT_YOUR_PAGE
    filing.replies.aside(incident, person, why)


def is_for_reporter(filing: Filing, incident: Incident) -> bool:
    """Whether somebody else than the reporter wrote to the reporter's own address for answers."""
    tx, settings, mail, report = filing.tx, filing.settings, filing.mail, filing.report
    ours = (address_of(tx, settings, recipient) for recipient in mail.recipients)
    to_theirs = any(a.incident_id == incident.id and not a.person for a in ours)
    return to_theirs and report.from_address != incident.reporter_address


def speech(filing: Filing) -> str:
    report = filing.report
    incident, person = filing.incident, filing.person
    is_theirs = person.writes_from(report.from_address)
    if not is_theirs and report.from_address and report.from_address == incident.reporter_address:
        return more(filing)  # they were given this address, and say something
    filing.conversation.hear(incident, person)
    return incident.id


def answer(filing: Filing) -> str:
    incident = filing.incident
    filing.replies.by_mail(incident, filing.person)
    return incident.id


def answer_digest(filing: Filing) -> str:
    """The id of the first incident the digest named."""
    tx, report, address = filing.tx, filing.report, filing.verdict.digest
    digest = tx.digests.get(address.incident_id or "") if address else None
    if address is None or digest is None:
        raise LookupError("no such digest, though the verdict named it in this transaction")
    replies = DigestReplies(tx, filing.settings, filing.mail, report)
    is_returned = report.author is Author.BOUNCE or (address.bounce and report.kind is MailKind.BOUNCE)
    if is_returned:
        replies.undelivered(digest, filing.person)
    elif address.bounce and report.author is Author.PERSON and report.kind is not MailKind.OOO:
        replies.aside(digest, filing.person, NOT_YOUR_PAGE)
    else:
        replies.by_mail(digest, filing.person)
    return digest.pages[0][0]


def aside(filing: Filing) -> str:
    settings, report = filing.settings, filing.report
    incident = filing.incident
    person = people.by_address(settings.people, report.from_address)
    if person is None:  # written by a stranger to the envelope sender of a page
        return more(filing)
    filing.replies.aside(incident, person, NOT_YOUR_PAGE)
    return incident.id


def undelivered(filing: Filing) -> str:
    incident = filing.incident
    round_ = _bounced_round(filing)
    filing.replies.undelivered(incident, filing.person, round_)
    return incident.id


def _bounced_round(filing: Filing) -> int:
    """The round of the page a delivery report is about, by the envelope sender it came back to; else the newest whose
    Message-ID it gives. 0 where it says neither."""
    tx, settings, mail, report, verdict = filing.tx, filing.settings, filing.mail, filing.report, filing.verdict
    back = [token for token in tokens_to(settings, mail) if token.purpose is Purpose.BOUNCE]
    texts = filter(None, (*map(settings.addresses.token_of, report.references), *report.carried[:LOOKED_FOR]))
    given = [token for text in texts if (token := settings.tokens.verify(text, settings.people))]
    pages = back or [token for token in given if token.purpose in {Purpose.BOUNCE, Purpose.MESSAGE}]
    homes = [(token, incident_of(tx, token)) for token in pages if token.person == verdict.person]
    return max((token.round for token, home in homes if home and home.id == verdict.incident_id), default=0)


def attach(filing: Filing, incident_id: str) -> None:
    """Files that came with a later mail, whatever that came to: a note names them, and they follow onto the issue.

    A mail that was not read in full may have some all the same: they are looked for when they are uploaded.
    """
    tx, settings, mail, report = filing.tx, filing.settings, filing.mail, filing.report
    incident = tx.incidents.get(incident_id)
    if incident is None or (report.lossless and not report.attachments):
        return
    writer = people.by_address(settings.people, report.from_address)
    who = writer.id if writer else report.from_address or report.from_shown or "somebody"
    uploads = settings.uploads != "none"
    facts = {"attachments": report_json.attachments_to_json(report.attachments), "mail": mail.id, "uploads": uploads}
    if report.attachments:
        tx.timeline.add(incident, Entry(event="mail.attached", actor=who, facts=facts))
    if uploads:  # named first
        follow = Effect(do=EffectKind.FILES, key=f"files/{mail.id}", facts={"mail": mail.id})
        tx.incidents.apply(incident, Change(incident=incident, effects=(follow,)))


def prove(filing: Filing) -> str:
    tx, settings, mail, report = filing.tx, filing.settings, filing.mail, filing.report
    token = check_page_replies.test_of(tx, settings, mail, report)
    if token is not None:
        check_page_replies.hear(tx, settings, mail, report, token)
    return ""


# -- A mail that is being filed: what it is, and what it is filed with.


@dataclass(frozen=True, slots=True)
class Filing:
    """One mail, as it was read and decided, in the transaction that does what it asks."""

    tx: Transaction
    settings: RuntimeSettings
    mail: AcceptedMail
    report: Report
    verdict: Classification

    @property
    def incident(self) -> Incident:
        """The one the mail belongs to.

        Raises:
            LookupError: There is no such incident, though the verdict named it in this transaction.
        """
        found = self.tx.incidents.get(self.verdict.incident_id or "")
        if found is None:
            raise LookupError(f"no incident {self.verdict.incident_id}")
        return found

    @property
    def person(self) -> Person:
        """Whose address the mail came to."""
        return self.settings.people[self.verdict.person]

    @property
    def replies(self) -> MailReplies:
        """What is done with it as a reply."""
        return MailReplies(self.tx, self.settings, self.mail, self.report)

    @property
    def conversation(self) -> ReporterMail:
        """What is done with it as words for the reporter."""
        return ReporterMail(self.tx, self.settings, self.mail, self.report)
