"""What the database and the settings know about a mail, for `classify` to decide by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from panicmail.incident import classify, people, reply_commands, transitions
from panicmail.incident.classify import Author, KnownFacts, Report, TokenAddress
from panicmail.incident.escalation_policy import OTHER_WAY_WITHIN, SAME_MAIL_WITHIN
from panicmail.incident.model import Incident, State
from panicmail.incident.reply_tokens import Purpose, Token
from panicmail.incident.sender_proof import look_alike
from panicmail.intake import check_page_replies
from panicmail.mail.parse import report_json
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.sender_demands import shown_recipients
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction

#: The tokens of the addresses that people write to.
_TO_US = frozenset({Purpose.ANSWER, Purpose.CONVERSATION})
#: An automatic answer is a note on the incident about which its writer had a mail of ours in the last …
MAILED_WITHIN = timedelta(days=1)
#: … else one of each mailbox is paged, and those that follow within this time are notes on its incident.
ANSWER_PAGED_EVERY = timedelta(hours=1)

_REPLY = re.compile(r"(?i)(?:re|aw|sv|antw|rif|r|tr|wg|fwd?)\s*:")


def known(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, digest: str) -> KnownFacts:
    addresses = _addresses(tx, settings, mail, report)
    other, came_as = _by_another_way(tx, mail, report)
    conversation = next((a.incident_id for a in addresses if a.incident_id and not a.person), None)
    thread = conversation or _thread(tx, settings, report)
    incident = tx.incidents.get(thread) if thread else None
    return KnownFacts(
        addresses=addresses,
        same_as=tx.mails.same(mail, digest, SAME_MAIL_WITHIN),
        same_by_another_way=other,
        came_as=came_as,
        thread=incident.id if incident else None,
        thread_over=incident is not None and transitions.is_over(incident, tx.now),
        answers_page=_answered_page(tx, settings, report),
        answers_digest=_answered_digest(tx, settings, mail, report),
        answers_test=check_page_replies.test_of(tx, settings, mail, report) is not None,
        bare_about=_bare_about(tx, settings, report, thread),
        answered=_answered(tx, settings, report) if report.author is Author.ANSWER and thread is None else None,
        known_sender=settings.is_known_sender(report.from_address),
        listed_sender=settings.is_listed_sender(report.from_address),
        list_is_ours=settings.is_own_list(report.lists),
        once_unknown=settings.once_unknown,
        looks_like=look_alike(report.from_address, settings.own_domains),
    )


def _by_another_way(tx: Transaction, mail: AcceptedMail, report: Report) -> tuple[str | None, str]:
    """The unresolved incident that this very mail already belongs to, by another way; and else the REF of one that was
    paged once for it, which is no reason to page this one once."""
    ref = ""
    for other in tx.mails.named(mail, report.message_id, OTHER_WAY_WITHIN) if report.message_id else ():
        incident = tx.incidents.get(other.incident_id or "")
        if incident is None or not other.report:
            continue
        if not classify.is_same_by_another_way(report, report_json.from_json(other.report)):
            continue
        if incident.state is not State.RESOLVED:
            return incident.id, ""
        ref = incident.ref if incident.once and incident.holder is None else ref
    return None, ref


def _addresses(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report
) -> tuple[TokenAddress, ...]:
    """The recipients as their tokens read; the writer's own token first, should there be several."""
    writer = people.by_address(settings.people, report.from_address)
    addresses = [address_of(tx, settings, recipient) for recipient in mail.recipients]
    if not any(map(settings.addresses.token_in, mail.recipients)):
        addresses += _addresses_shown(tx, settings, mail, report)
    return tuple(sorted(addresses, key=lambda a: writer is None or a.person != writer.id))


def _addresses_shown(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report
) -> list[TokenAddress]:
    """Where a mail server on its way dropped the token of the recipient: the addresses in To and Cc whose token is of
    whoever wrote the mail. Anybody else's says nothing there: it may stand in a field that was copied."""
    writer = people.by_address(settings.people, report.from_address)
    if not settings.addresses.carries_token or not (writer or report.references):
        return []
    found = []
    for recipient in shown_recipients(tx, mail):
        text = settings.addresses.token_in(recipient)
        token = settings.tokens.verify(text, settings.people) if text else None
        incident = incident_of(tx, token) if token and token.purpose in _TO_US else None
        if token is None or incident is None:
            continue
        is_reporter = bool(report.from_address) and report.from_address == incident.reporter_address
        if (writer is not None and token.person == writer.id) or (not token.person and is_reporter):
            found.append(_proved(token, incident))
    return found


def address_of(tx: Transaction, settings: RuntimeSettings, recipient: str) -> TokenAddress:
    text = settings.addresses.token_in(recipient)
    if text is None:
        return TokenAddress()
    token = settings.tokens.verify(text, settings.people)
    if token is not None and token.purpose in {Purpose.TEST, Purpose.DIGEST}:  # no incident is meant
        return TokenAddress()
    if token is None or token.purpose not in {Purpose.ANSWER, Purpose.BOUNCE, Purpose.CONVERSATION}:
        return TokenAddress(unproved=True)
    incident = incident_of(tx, token)
    if incident is None:  # a database restored from before that incident
        return TokenAddress(unproved=True)
    return _proved(token, incident)


def _proved(token: Token, incident: Incident) -> TokenAddress:
    return TokenAddress(
        incident_id=incident.id,
        person=token.person,
        speaks=token.purpose is Purpose.CONVERSATION and bool(token.person),
        bounce=token.purpose is Purpose.BOUNCE,
    )


def incident_of(tx: Transaction, token: Token) -> Incident | None:
    """The incident a token is about: the one its mail opened, or the one its mail turned out to belong to."""
    return tx.incidents.get(token.incident_id) or tx.incidents.get(tx.mails.home_of(token.incident_id) or "")


def answers_page(settings: RuntimeSettings, mail_from: str, recipients: Sequence[str]) -> bool:
    """Whether one of these addresses is that of a page of somebody, by a token of ours that verifies, and `mail_from`
    is theirs: a forwarded page gives its address away."""
    texts = filter(None, map(settings.addresses.token_in, recipients))
    tokens = (settings.tokens.verify(text, settings.people) for text in texts)
    answers = {Purpose.ANSWER, Purpose.DIGEST}
    asked = [settings.people.get(t.person) for t in tokens if t and t.purpose in answers]
    return any(person is not None and person.writes_from(mail_from) for person in asked)


def tokens_to(settings: RuntimeSettings, mail: AcceptedMail) -> list[Token]:
    """The tokens of ours that verify, of the addresses a mail was sent to."""
    texts = filter(None, map(settings.addresses.token_in, mail.recipients))
    return [token for text in texts if (token := settings.tokens.verify(text, settings.people))]


def _answered_page(tx: Transaction, settings: RuntimeSettings, report: Report) -> TokenAddress | None:
    """Where reply addresses carry no token, the newest reference that is a page of ours speaks for it."""
    if settings.addresses.carries_token:
        return None
    page = page_in(settings, report)
    incident = incident_of(tx, page) if page else None
    return _proved(page, incident) if page and incident else None


def _answered_digest(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report
) -> TokenAddress | None:
    """The digest of pages a mail came back on: by its recipient, or, where addresses carry no token, by what it names
    in its references. One that the database does not know, restored from before it, is none."""
    tokens = tokens_to(settings, mail)
    if not settings.addresses.carries_token:
        texts = filter(None, map(settings.addresses.token_of, reversed(report.references)))
        tokens = [token for text in texts if (token := settings.tokens.verify(text, settings.people))]
    token = next((token for token in tokens if token.purpose is Purpose.DIGEST), None)
    if token is None or not token.person or tx.digests.get(token.incident_id) is None:
        return None
    return TokenAddress(incident_id=token.incident_id, person=token.person, bounce=token.round > 0)


def page_in(settings: RuntimeSettings, report: Report) -> Token | None:
    """The newest reference that is a mail of ours to somebody."""
    tokens = (_message_token(settings, reference) for reference in reversed(report.references))
    return next((token for token in tokens if token and token.person), None)


def _message_token(settings: RuntimeSettings, message_id: str) -> Token | None:
    text = settings.addresses.token_of(message_id)
    token = settings.tokens.verify(text, settings.people) if text else None
    return token if token and token.purpose is Purpose.MESSAGE else None


def _thread(tx: Transaction, settings: RuntimeSettings, report: Report) -> str | None:
    """The incident the mail's references belong to: by our own Message-IDs, else by those of mails it was made of.

    A mail that names itself ties nothing: another may bear the same Message-ID.
    """
    references = [reference for reference in report.references if reference != report.message_id]
    for reference in reversed(references):
        token = _message_token(settings, reference)
        if token and (incident := incident_of(tx, token)):
            return incident.id
    return tx.mails.incident_of_messages(references)


def _bare_about(tx: Transaction, settings: RuntimeSettings, report: Report, thread: str | None) -> str | None:
    """The open incident a bare command of somebody paged is about: the one of its thread, else the latest of theirs.

    A subject of its own makes it a report, and so does an automaton's word.
    """
    person = people.by_address(settings.people, report.from_address)
    if person is None or report.author is not Author.PERSON:
        return None
    if not (reply_commands.read(report.command_text).bare and _names_no_matter(report)):
        return None
    if thread is not None:
        return thread if tx.pages.is_open_for(thread, person.id) else None
    return next((incident.id for incident in tx.search.open_incidents_of(person.id, limit=1)), None)


def _names_no_matter(report: Report) -> bool:
    """Whether the subject says no more than that this is a reply."""
    subject = report.subject.strip()
    return not subject or _REPLY.match(subject) is not None or reply_commands.read(subject).bare


def _answered(tx: Transaction, settings: RuntimeSettings, report: Report) -> str | None:
    """The incident an automatic answer without a tie is a note on: about which we mailed its writer, else the one
    that paged an earlier one of the same mailbox. None: it is paged."""
    writer = people.by_address(settings.people, report.from_address)
    mailed = tx.search.last_mailed(report.from_address, writer.id if writer else None, tx.now - MAILED_WITHIN)
    return mailed or tx.search.last_once(report.from_address, tx.now - ANSWER_PAGED_EVERY)
