"""`panicmail check --page`: a test page to one person by every way to them, and what came back on it.

    page = paging_checks.send(store, settings, config, person)      # recorded first, then sent
    proofs = paging_checks.wait(store, page, seconds, stopped)      # until the daemon has heard the reply
    rows = paging_checks.rows(page, proofs)

The test page goes out from here, past the outbox: it is no incident's. The reply comes in as every mail does; the
daemon hears it (`check_page_replies`) and writes down what it proves. A push carries a code of its own, and is proved
when the code stands in the reply; PagerDuty's alert is closed when the waiting ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from panicmail.check import relay_checks
from panicmail.check.result import Group, ParallelChecks, Row
from panicmail.config import Config
from panicmail.delivery.apprise import AppriseClient
from panicmail.delivery.pagerduty import Event, PagerDutyClient
from panicmail.errors import PanicmailError
from panicmail.incident import ids
from panicmail.incident.people import Person
from panicmail.mail import encryption
from panicmail.mail.compose import ComposedMail, check_page
from panicmail.mail.compose.letterhead import Letterhead
from panicmail.oncall.channels_of import ContactChannel, ways_to
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response import sender_demands
from panicmail.store.channel_proofs import Proof, ProofKind
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

#: For one way, and for all of them, in seconds.
STEP_SECONDS, SECONDS = 10.0, 32.0
#: Between two looks at what came, in seconds.
LOOK_EVERY = 0.2
#: Signs of a code.
CODE_LENGTH = 4

_TEST = Group.TEST


@dataclass(frozen=True, slots=True)
class Sent:
    """What one way made of the test page."""

    way: ContactChannel
    answer: str  #: of relay or provider
    is_taken: bool
    code: str = ""  #: that went with it; "" by mail


@dataclass(frozen=True, slots=True)
class PageTest:
    """One test page, sent."""

    test: str
    person: Person
    sent_at: datetime
    sent: Sequence[Sent]

    @property
    def is_out(self) -> bool:
        """Whether the mail is: nothing can come back otherwise."""
        return any(each.is_taken for each in self.sent if each.way.is_mail)


def send(store: Store, settings: RuntimeSettings, config: Config, person: Person) -> PageTest:
    """Send a test page by every way at once. It is on record before, so that no reply is too early.

    Raises:
        StoreFailed: It cannot be put on record; nothing was sent.
    """
    test = ids.incident_id(ids.new_mail_id())
    codes = {way: "" if way.is_mail else _new_code() for way in ways_to(person)}
    now = store.write("command.act", partial(_record_asked, test, person.id, codes))
    asking = ParallelChecks(SECONDS)
    mail = partial(_send_mail, config, _letter(settings, test, person, now, with_code=any(codes.values())))
    answers = {
        way: asking.ask(mail if way.is_mail else partial(_send_push, config, settings, way, test, code))
        for way, code in codes.items()
    }
    sent = []
    for way, answer in answers.items():
        try:
            sent.append(Sent(way, answer.wait(), is_taken=True, code=codes[way]))
        except PanicmailError as exc:
            sent.append(Sent(way, f"{exc}", is_taken=False, code=codes[way]))
    store.write("command.act", lambda tx: _record_sent(tx, test, person.id, sent))
    return PageTest(test, person, now, sent)


def _letter(settings: RuntimeSettings, test: str, person: Person, now: datetime, *, with_code: bool) -> ComposedMail:
    """The test page, encrypted as a page would be."""

    def write(reader: Person) -> ComposedMail:
        head = Letterhead(settings.page_sender, reader, now)
        return check_page.test_page(test, head, settings.reply_routes, with_code=with_code)

    return encryption.for_reader(write, person, now)[0] or write(person)


def _new_code() -> str:
    return ids.ref(ids.new_mail_id(), CODE_LENGTH)


def _record_asked(test: str, person: str, codes: Mapping[ContactChannel, str], tx: Transaction) -> datetime:
    for way, code in codes.items():
        tx.proofs.prove(test, person, way.name, ProofKind.ASKED, "by panicmail check", code=code, shown=way.shown)
    return tx.now


def _record_sent(tx: Transaction, test: str, person: str, sent: Sequence[Sent]) -> None:
    for each in sent:
        tx.proofs.prove(
            test, person, each.way.name, ProofKind.TAKEN if each.is_taken else ProofKind.REFUSED, each.answer
        )


def _send_mail(config: Config, letter: ComposedMail) -> str:
    with closing(relay_checks.connect(config, STEP_SECONDS)) as connection:
        return connection.send(letter.message, letter.mail_from, letter.recipient)


def _send_push(config: Config, settings: RuntimeSettings, way: ContactChannel, test: str, code: str) -> str:
    channel = way.channel
    if channel is None:
        raise ValueError("mail is no push")
    if channel.pagerduty_key is None:
        return AppriseClient(STEP_SECONDS).send(channel.url, check_page.push(code))
    pagerduty = PagerDutyClient(config.paging.pagerduty_url, timeout=STEP_SECONDS)
    event = Event("trigger", f"panicmail-{test}", check_page.push(code), source=settings.hostname)
    return pagerduty.send(channel.pagerduty_key, event)


def wait(store: Store, page: PageTest, seconds: float, stopped: threading.Event) -> list[Proof]:
    """What came of it, as soon as a person's reply was heard or the mail bounced; at the latest after `seconds`, or
    when `stopped` is set."""
    ends_at = time.monotonic() + seconds
    while True:
        proofs = store.read(lambda tx: tx.proofs.of_test(page.test))
        if _is_over(proofs) or time.monotonic() >= ends_at:
            return proofs
        if stopped.wait(LOOK_EVERY):
            return proofs


def _is_over(proofs: Sequence[Proof]) -> bool:
    """An out-of-office is not the end of it: an answer may still come."""
    heard = [proof for proof in proofs if proof.what in (ProofKind.DELIVERED, ProofKind.FAILED)]
    return any(proof.facts.get("kind") in ("human", "bounce") for proof in heard)


def close(config: Config, page: PageTest) -> list[str]:
    """Close the alerts the test opened, where a service keeps them open; answers why it could not be done.

    One that was not taken may be there all the same: its answer was lost.
    """
    unclosed = []
    for each in page.sent:
        key = each.way.channel.pagerduty_key if each.way.channel else None
        if key is None:
            continue
        pagerduty = PagerDutyClient(config.paging.pagerduty_url, timeout=STEP_SECONDS)
        try:
            pagerduty.send(key, Event("resolve", f"panicmail-{page.test}", "the test is over"))
        except PanicmailError as exc:
            unclosed.append(f"the alert of this test may still be open in {each.way.shown} ({exc}); close it there")
    return unclosed


# -- what it came to


def rows(page: PageTest, proofs: Sequence[Proof], waited: float) -> list[Row]:
    """One for each way, and one for whatever the reply shows of its own way back.

    Args:
        waited: Seconds.
    """
    reply = next(
        (p for p in reversed(proofs) if p.what in (ProofKind.REPLY, ProofKind.DELIVERED) and "kind" in p.facts), None
    )
    found = [_by_mail(page, proofs, waited) if each.way.is_mail else _by_push(page, each, proofs) for each in page.sent]
    return [*found, *(_way_back(page, reply) if reply else ())]


def proof_asked(tx: Transaction, settings: RuntimeSettings, person: Person) -> str:
    """What is asked of a person's replies from now on, and where that comes from, in a sentence."""
    asked = sender_demands.demanded(tx, settings, person)
    if not asked:
        kept = tx.proofs.proved_of(person.id)
        shown = f"; {kept} is remembered, and asked for by nothing here" if kept else ""
        return f"No proof is asked of the replies of {person.first_name}{shown}."
    act = f"Replies of {person.first_name} act when proved by {asked}"
    if person.proof:
        return f"{act}, as people.{person.id}.proof says."
    return f"{act}, as one to a test page was; panicmail people forget-proof {person.id} takes that back."


def _by_mail(page: PageTest, proofs: Sequence[Proof], waited: float) -> Row:
    sent = next(each for each in page.sent if each.way.is_mail)
    key, told = page.person.id, sent.way.shown
    failed = [proof.how for proof in proofs if proof.what is ProofKind.FAILED]
    if not sent.is_taken:
        mend = f"see [relay] url and people.{key}.email; panicmail check tries both"
        return _TEST.failed("mail", f"{told} was not taken: {sent.answer}", mend)
    for proof in proofs:
        if proof.what is ProofKind.REPLY:
            seconds = (proof.at - page.sent_at).total_seconds()
            return _TEST.ok("mail", f"{told}: proven, the reply came after {seconds:.0f} s; {proof.how}")
    if any(proof.what is ProofKind.DELIVERED for proof in proofs):
        found = f"{told}: it arrived, but the reply would not have stopped the clock: {'; '.join(failed)}"
        mend = 'let them reply once more, with "ack" as the first line; what else is to mend stands below'
        return _TEST.failed("mail", found, mend)
    if failed:
        return _TEST.failed(
            "mail", f"{told}: {'; '.join(failed)}", f"see people.{key}.email; ask {page.person.first_name}"
        )
    found = f"{told} was taken ({sent.answer}), and no reply came within {waited:.0f} s"
    mend = f"ask {page.person.first_name}: is it in spam, did the phone keep silent? Is panicmail serve running?"
    return _TEST.failed("mail", found, mend)


def _by_push(page: PageTest, sent: Sent, proofs: Sequence[Proof]) -> Row:
    told, key = sent.way.shown, page.person.id
    if not sent.is_taken:
        return _TEST.failed("push", f"{told} was not taken: {sent.answer}", f"see people.{key}.push")
    if any(proof.what is ProofKind.DELIVERED and proof.channel == sent.way.name for proof in proofs):
        return _TEST.ok("push", f"{told}: proven, its code {sent.code} was in the reply")
    found = f"{told} was taken ({sent.answer}), but its code {sent.code} was in no reply: not proven"
    mend = f"ask {page.person.first_name} whether it came, and to reply once more with the code"
    return _TEST.warning("push", found, mend)


def _way_back(page: PageTest, reply: Proof) -> Iterator[Row]:
    """What was sent against what came back, as far as the reply shows it."""
    facts, key = reply.facts, page.person.id
    if facts["token_kept"] is False:
        found = f"dropped: the reply came to {', '.join(facts['to'])}, so it would have been a note only"
        mend = (
            'let the mail server keep what stands behind the "+"; or give replies a domain of their own, '
            'such as replies.address = "{token}@panic.example.com"'
        )
        yield _TEST.failed("subaddress", found, mend)
    elif facts["token_kept"]:
        yield _TEST.ok("subaddress", "kept: the reply came to the address of the page")
    if facts["in_thread"]:
        yield _TEST.ok("message id", "kept: the reply names the page it answers")
    elif facts["token_kept"] is None:
        mend = "put {token} into replies.address: without it nothing but the Message-ID tells what a reply answers"
        yield _TEST.failed("message id", "the reply does not name the page it answers", mend)
    else:
        mend = "nothing now, the address tells it; never take {token} out of replies.address"
        yield _TEST.warning("message id", "the reply does not name the page it answers", mend)
    yield _sender("From", str(facts["from"]), _is_listed(facts, "from"), key)
    yield _sender("envelope", str(facts["mail_from"]), _is_listed(facts, "mail_from"), key)


def _is_listed(facts: Mapping[str, Any], sender: str) -> bool:
    """Whether that sender is one of the person's addresses. An older daemon calls that `..._is_hers`."""
    return bool(facts.get(f"{sender}_is_listed", facts.get(f"{sender}_is_hers")))


def _sender(subject: str, address: str, is_listed: bool, key: str) -> Row:
    if is_listed:
        return _TEST.ok(subject, f"{address}, listed for {key}")
    told = address or ("none that is one plain address" if subject == "From" else "the null sender")
    if subject == "From":
        found = f"{told}, not listed for {key}: nothing from there acknowledges"
        return _TEST.failed(subject, found, f"add it to people.{key}.aliases, or have {key} answer from a listed one")
    mend = "nothing while From counts; once senders are verified, SPF is about this one"
    return _TEST.warning(subject, f"{told}, which is not listed for {key}", mend)
