"""What comes back on a test page: recognised, weighed as an acknowledgement would be, kept as a proof, and answered.

It is known by a token of the test: in the address it came to, or in the Message-ID it refers to. Such a mail belongs
to no incident, opens none and acknowledges nothing. One that came to an address without the token is one only while
the test is fresh, and only if it is no report: a machine's, or a first line that is a plain command. Doubt ends in a
page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from panicmail.incident import reply_commands, sender_proof
from panicmail.incident.classify import Author, MailKind, Report
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.incident.reply_tokens import Purpose, Token
from panicmail.incident.sender_proof import ProofState
from panicmail.incident.storm_rules import is_relay_of_ours
from panicmail.mail.authenticate.authentication_results import topmost
from panicmail.mail.compose import check_page
from panicmail.mail.parse.header import one_line
from panicmail.mail.parse.normalize import HEADER_OCTETS, canonical
from panicmail.oncall.channels_of import MAIL, by_mail
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response import sender_demands
from panicmail.store.channel_proofs import Proof, ProofKind
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction

#: So long a mail that came to another address is taken for an answer to the test page it refers to.
FRESH = timedelta(days=1)
#: One test is answered so often at most: a machine that does not show as one must not keep us in conversation.
ANSWERS = 10
#: The channel under which a mail of `panicmail check --mx` is on record.
MX = "mx"
#: First lines that would have acknowledged a page.
_COUNTS = frozenset({Command.YES, Command.TAKE, Command.YES_ALL})
_MACHINES = {
    MailKind.AUTO_REPLY: "a machine answered it",
    MailKind.OOO: "an out-of-office answered it",
    MailKind.BOUNCE: "it bounced",
    MailKind.LIST: "a mailing list sent it back",
    MailKind.MDN: "a read receipt came and no answer",
    MailKind.CALENDAR: "a calendar answered it",
}


def test_of(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report) -> Token | None:
    """The token of the test page this mail came back on; None when it is something else."""
    return _addressed(settings, mail) or _referring(tx, settings, report)


def _addressed(settings: RuntimeSettings, mail: AcceptedMail) -> Token | None:
    texts = filter(None, map(settings.addresses.token_in, mail.recipients))
    return next((token for text in texts if (token := _verified(settings, text))), None)


def _referring(tx: Transaction, settings: RuntimeSettings, report: Report) -> Token | None:
    texts = filter(None, map(settings.addresses.token_of, reversed(report.references)))
    token = next((found for text in texts if (found := _verified(settings, text))), None)
    if token is None:
        return None
    so_far = tx.proofs.of_test(token.incident_id)
    is_fresh = any(proof.what is ProofKind.ASKED and tx.now - proof.at <= FRESH for proof in so_far)
    return token if is_fresh and _is_no_report(report, _codes(so_far)) else None


def _verified(settings: RuntimeSettings, text: str) -> Token | None:
    token = settings.tokens.verify(text, settings.people)
    return token if token and token.person and token.purpose is Purpose.TEST else None


def _is_no_report(report: Report, codes: Iterable[str]) -> bool:
    if report.author not in (Author.PERSON, Author.MACHINE):
        return True
    return reply_commands.read(_without(report.command_text, codes)).meaning is not Command.NOTHING


@dataclass(frozen=True, slots=True)
class _Heard:
    """A person's answer, weighed."""

    why: tuple[str, ...]  #: why it would not have acknowledged a page; () when it would
    how: str  #: what it rests on
    seen: tuple[Proof, ...]  #: pushes whose code is in it
    missing: tuple[Proof, ...]  #: pushes whose code is not


def hear(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, token: Token) -> None:
    """Keep what a mail on a test page proves, and answer whoever was paged."""
    person, test = settings.people[token.person], token.incident_id
    so_far = tx.proofs.of_test(test)
    if any(proof.channel == MX for proof in so_far):
        came = asdict(_mx_facts(tx, settings, mail, test))
        tx.proofs.prove(test, person.id, MX, ProofKind.DELIVERED, "it came back", **came)
        return
    way = next((p.channel for p in so_far if p.channel.startswith(MAIL)), by_mail(person.email).name)
    facts = _facts(settings, mail, report, token)
    if report.kind is not MailKind.HUMAN:
        if report.kind is not MailKind.BOUNCE or _failed_for_good(report):
            tx.proofs.prove(test, person.id, way, ProofKind.FAILED, _machine(report), **facts)
        return
    heard = _weigh_reply(report, facts, so_far, reply_commands.names(settings.people.values(), person.id))
    tx.proofs.prove(test, person.id, way, ProofKind.DELIVERED, heard.how, **facts)
    if heard.why:
        tx.proofs.prove(test, person.id, way, ProofKind.FAILED, "; ".join(heard.why), **facts)
    else:
        tx.proofs.prove(test, person.id, way, ProofKind.REPLY, heard.how, **facts)
    for push in heard.seen:
        tx.proofs.prove(test, person.id, push.channel, ProofKind.DELIVERED, "its code was in the reply")
    if sum(proof.what is ProofKind.DELIVERED and proof.channel == way for proof in so_far) < ANSWERS:
        tx.proofs.answer_test(person.id, mail.id, _answer(heard, test, report))


@dataclass(frozen=True, slots=True)
class MxFacts:
    """How a mail with a forged Authentication-Results came back (`panicmail check --mx`)."""

    peer: str
    by_relay: bool  #: the peer is one of `[smtp] trusted_relays`
    is_forgery_there: bool
    results: str  #: the topmost field of a trusted server that is not the forged one, cut; "": none

    @classmethod
    def of(cls, proof: Proof) -> MxFacts:
        return cls(**proof.facts)


def _mx_facts(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, test: str) -> MxFacts:
    head = canonical(tx.mails.raw(mail.id, HEADER_OCTETS))
    fields = head.all("authentication-results")
    own = [field for field in fields if test.encode() not in field]
    is_ours = topmost(own, settings.authserv_ids) is not None
    return MxFacts(
        peer=mail.peer,
        by_relay=is_relay_of_ours(mail.peer, settings.trusted_relays),
        is_forgery_there=len(own) < len(fields),
        results=one_line(own[0].decode("utf-8", "replace"), 200) if is_ours else "",
    )


def _facts(settings: RuntimeSettings, mail: AcceptedMail, report: Report, token: Token) -> dict[str, Any]:
    """What was sent and what came back, as far as the mail shows it."""
    person, proof = settings.people[token.person], sender_demands.proof_of(settings, mail)
    sent = check_page.message_id(token.incident_id, person.id, settings.reply_routes)
    return {
        "kind": report.kind.value,
        # None: reply addresses carry no token here
        "token_kept": _addressed(settings, mail) is not None if settings.addresses.carries_token else None,
        "to": [address for address in mail.recipients if settings.addresses.token_in(address) is None],
        "in_thread": any(
            settings.addresses.token_of(r) == settings.addresses.token_of(sent) for r in report.references
        ),
        "mail_from": mail.mail_from,
        "from": report.from_address,
        "from_is_listed": person.writes_from(report.from_address),
        "mail_from_is_listed": person.writes_from(mail.mail_from),
        "sender": sender_proof.in_words(proof),
        "proved": proof.domain if proof.state is ProofState.PROVED and proof.acts else "",
    }


def _weigh_reply(
    report: Report, facts: dict[str, Any], so_far: Sequence[Proof], known: reply_commands.PeopleByName
) -> _Heard:
    pushed = _codes(so_far)
    shown = {code for code in pushed if _says(report.reply_text, code)}
    said = reply_commands.read(_without(report.command_text, pushed), known)
    return _Heard(
        why=tuple(_doubts(report, facts, said)),
        how=f"reply from {report.from_address or 'an unclear sender'} to their own test page; sender {facts['sender']}",
        seen=tuple(proof for code, proof in pushed.items() if code in shown),
        missing=tuple(proof for code, proof in pushed.items() if code not in shown),
    )


def _codes(so_far: Iterable[Proof]) -> dict[str, Proof]:
    """The codes that went out by push, each with what went out."""
    return {str(p.facts["code"]): p for p in so_far if p.what is ProofKind.ASKED and p.facts.get("code")}


def _says(text: str, code: str) -> bool:
    return re.search(rf"(?i)\b{re.escape(code)}\b", text) is not None


def _without(text: str, codes: Iterable[str]) -> str:
    """What was written but for the codes: "ack K7QX" is an ack."""
    for code in codes:
        text = re.sub(rf"(?i)\b{re.escape(code)}\b", "", text)
    return text


def _doubts(report: Report, facts: dict[str, Any], said: ReplyCommand) -> Iterator[str]:
    """Why an acknowledgement like this one would have been a note only."""
    if facts["token_kept"] is False:
        yield f"it came to {', '.join(facts['to'])}, not to the reply address of the page"
    if not report.from_address:
        yield "its From line does not name one plain address"
    elif not facts["from_is_listed"]:
        yield f"it came from {report.from_address}, which is not listed for you"
    if not report.lossless:
        yield "it could not be read in full"
    if said.meaning not in _COUNTS:
        yield said.why or f'its first line, "{said.line}", does not say yes'


def _machine(report: Report) -> str:
    status = next((d.status for d in report.deliveries if d.status), "")
    return f"{_MACHINES[report.kind]}{f' ({status})' if status else ''}"


def _failed_for_good(report: Report) -> bool:
    """Not only delayed."""
    return not report.deliveries or any(d.action in {"failed", ""} for d in report.deliveries)


def _answer(heard: _Heard, test: str, report: Report) -> dict[str, Any]:
    return {
        "test": test,
        "why": list(heard.why),
        "how": heard.how,
        "seen": [str(push.facts.get("shown")) for push in heard.seen],
        "missing": [str(push.facts.get("shown")) for push in heard.missing],
        "in_reply_to": report.message_id,
    }
