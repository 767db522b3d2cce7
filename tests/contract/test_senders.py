# ruff: noqa: E501 - mails on one line
"""What panicmail does by who wrote a mail: pages, issues, receipts, acknowledgements and storms."""

from __future__ import annotations

import ipaddress
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from panicmail.check import paging_checks
from panicmail.config.reporters import KnownReporter
from panicmail.incident.model import Incident, State
from panicmail.incident.push_channel import channel
from panicmail.incident.reply_commands import Command
from panicmail.incident.sender_proof import SenderMethod, SenderProof
from panicmail.incident.storm_rules import StormLimits
from panicmail.mail.authenticate.dns_lookups import DnsCache, SenderLookups
from panicmail.mail.authenticate.sender_check import envelope_of, verify
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.channel_proofs import ProofKind
from panicmail.store.rows import AcceptedMail
from tests.cast import SECOND
from tests.dkim_signer import DkimSigner
from tests.dns_zone import ZoneDns
from tests.office import PEOPLE, Office, Posted, mail

OURS = DkimSigner("example.com")
OTHER, LIKE = (DkimSigner(domain, bits=1024) for domain in ("evil.example", "examp1e.com"))
POLICY = {"_dmarc.example.com": [("TXT", "v=DMARC1; p=none")]}
REJECT = {"_dmarc.example.com": [("TXT", "v=DMARC1; p=reject")]}
PHONE = "ntfys://ntfy.example.com/ana"


class ByZone:
    """Checks senders by a zone in memory; counts what is checked."""

    def __init__(self, zone: dict[str, Any]) -> None:
        self.dns = ZoneDns({**dict(signer.record for signer in (OURS, OTHER, LIKE)), **zone})
        self.checked = 0

    def check(self, raw: bytes, mail: AcceptedMail, settings: RuntimeSettings, now: datetime) -> SenderProof:
        self.checked += 1
        found = SenderLookups(cache=DnsCache(self.dns), now=now, until=time.monotonic() + 60)
        return verify(raw, envelope_of(mail, settings), found, now)


class CheckedOffice(Office):
    """An office that checks senders."""

    def __init__(self, folder: Path, zone: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(folder, **{"method": SenderMethod.VERIFY, **settings})
        self.checks = self.zone = ByZone(POLICY if zone is None else zone)

    def signed(self, text: str, signer: DkimSigner = OURS, **header: Any) -> Incident:
        mail_id = self.deliver(signer.sign(crlf(mail(text, **header))))
        found = self.store.read(lambda tx: tx.incidents.by_mail(mail_id))
        assert found is not None
        return found

    def answer(self, page: Posted, text: str = "ack", signer: DkimSigner | None = OURS, *, to: str = "",
               sender: str = "", shown: str = "", message_id: str | None = None) -> None:  # fmt: skip
        """A reply to a page, signed or not."""
        raw = crlf(
            mail(text, sender=sender or page.recipient, subject=f"Re: {page.subject}", in_reply_to=page.message_id,
                 message_id=message_id).replace(b"To: panic@example.com", f"To: {shown or page.reply_to}".encode())
        )  # fmt: skip
        self.deliver(signer.sign(raw) if signer else raw, sender or page.recipient, [to or page.reply_to])

    def state(self, incident: Incident) -> State:
        return self.incident(incident).state


def crlf(raw: bytes) -> bytes:
    return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[CheckedOffice]:
    one = CheckedOffice(tmp_path)
    yield one
    one.close()


def made(tmp_path: Path, zone: dict[str, Any] | None = None, **settings: object) -> CheckedOffice:
    return CheckedOffice(tmp_path, zone, **settings)


def with_proof(domain: str, *persons: str) -> dict[str, Any]:
    return {"people": {**PEOPLE, **{p: replace(PEOPLE[p], proof=domain) for p in persons}}}


# -- beside the page


def test_a_panic_is_paged_before_a_single_name_is_looked_up(office: CheckedOffice) -> None:
    office.accept(OURS.sign(crlf(mail("My files are .locked"))))
    assert office.intake.work()
    assert office.lanes[0].work()
    (page,) = office.pages("ana@example.com")
    assert "Sender: not checked yet" in page.text
    assert (office.zone.dns.asked, office.zone.checked) == ([], 0)


WORDS = {
    "proved": (OURS, {}, "Sender: proved, signed by example.com"),
    "unproved": (None, {}, "Sender: not proved (no signature)"),
    "failed": (OTHER, REJECT, "Sender: could not be proved (changed on its way, or forged)"),
    "unknown": (OURS, {OURS.record[0]: [("TXT", "TIMEOUT")]}, "Sender: could not be checked (DNS does not answer)"),
}


@pytest.mark.parametrize("state", WORDS)
def test_page_issue_and_link_page_say_what_was_found_in_the_same_words(tmp_path: Path, state: str) -> None:
    signer, zone, words = WORDS[state]
    office = made(tmp_path, {**POLICY, **zone})
    incident = office.signed("My files are .locked", signer) if signer else office.panic("My files are .locked")
    office.wait(minutes=5)
    assert words in office.page("ana@example.com").text, "the next page knows it"
    (issue,) = office.gitlab.issues
    assert words.removeprefix("Sender: ") in issue.description
    link = office.settings.link(incident.id, "ana").rpartition("/")[2]
    view = office.links.read_link(link)
    assert view is not None
    assert f"Sender: {view.sender}".startswith(words)
    office.close()


def test_the_first_report_of_an_address_is_named_and_the_second_is_not(office: CheckedOffice) -> None:
    office.signed("My files are .locked")
    assert "; the first report from this address" in office.page("ana@example.com").text
    office.signed("Now the printer, too", subject="Printer")
    assert "the first report" not in office.page("ana@example.com").text


def test_a_sender_made_to_look_like_ours_is_named(office: CheckedOffice) -> None:
    office.panic("Please wire 20,000", sender="Max Ode <max@examp1e.com>")
    assert "the sender's domain is not example[.]com, and looks like it" in office.page("ana@example.com").text


def test_our_own_mail_servers_results_are_on_the_very_first_page(tmp_path: Path) -> None:
    relays = (ipaddress.ip_network("127.0.0.0/8"),)
    office = Office(tmp_path, method=SenderMethod.TRUSTED, authserv_ids=("mx.example.com",), trusted_relays=relays)
    raw = mail("My files are .locked")
    office.deliver(b"Authentication-Results: mx.example.com; dmarc=pass header.from=example.com\n" + raw)
    assert "Sender: proved, example.com, as mx.example.com found" in office.page("ana@example.com").text
    office.deliver(raw.replace(b"My files", b"Our files"))
    assert "Sender: not proved (our mail server says nothing about it)" in office.page("ana@example.com").text
    office.close()


# -- receipts


def receipts(office: Office, to: str) -> list[Posted]:
    return [posted for posted in office.sent(to) if posted.mail_from == ""]


def test_a_proved_sender_has_a_receipt_wherever_they_write_from(tmp_path: Path) -> None:
    home = DkimSigner("home.example")
    office = made(tmp_path, {**dict([home.record]), **POLICY})
    office.deliver(home.sign(crlf(mail("Slack is gone", sender="rita@home.example"))), "rita@home.example")
    office.wait(seconds=20)
    assert receipts(office, "rita@home.example")
    office.deliver(crlf(mail("And mail, too", sender="bo@home.example")), "bo@home.example")
    office.wait(seconds=20)
    assert not receipts(office, "bo@home.example")
    office.close()


def test_what_failed_has_no_receipt_and_no_news_even_in_a_receipt_domain(tmp_path: Path) -> None:
    office = made(tmp_path, REJECT)
    office.signed("My files are .locked", OTHER)
    office.wait(minutes=20)
    office.answer(office.page("ana@example.com"), signer=OURS)
    assert office.sent("rita@example.com") == []
    office.close()


def test_a_receipt_waits_for_the_check_and_goes_without_when_there_is_none(office: CheckedOffice) -> None:
    office.checks = None
    office.panic()
    office.wait(seconds=11)
    assert not receipts(office, "rita@example.com")
    office.wait(seconds=10)
    assert receipts(office, "rita@example.com"), "in a receipt domain"


# -- acknowledging


def test_a_person_without_proof_acknowledges_unless_something_failed(tmp_path: Path) -> None:
    office = made(tmp_path)
    incident = office.panic()
    office.answer(office.page("ana@example.com"), signer=None)
    assert office.state(incident) is State.ACKED
    assert "sender not proved (no signature)" in office.incident(incident).acked_how
    office.close()


def test_what_failed_acknowledges_for_nobody_and_they_are_told(tmp_path: Path) -> None:
    office = made(tmp_path, REJECT, **with_proof("", "ana"))
    incident = office.panic()
    office.answer(office.page("ana@example.com"), signer=OTHER)
    assert office.state(incident) is State.OPEN
    told = office.sent("ana@example.com")[-1]
    assert "Clock still running" in told.subject
    assert "could not be proved" in " ".join(told.text.split())
    office.close()


def test_a_person_with_proof_acknowledges_by_it_alone_and_hears_at_once_by_mail_and_push(tmp_path: Path) -> None:
    ana = replace(PEOPLE["ana"], proof="example.com", push=(channel(PHONE),))
    office = made(tmp_path, people={**PEOPLE, "ana": ana})
    incident = office.panic()
    page = office.page("ana@example.com")
    office.answer(page, signer=None)
    assert office.state(incident) is State.OPEN
    told = office.sent("ana@example.com")[-1]
    assert "it is not proved to be from example[.]com, as your mails are" in " ".join(told.text.split())
    assert office.settings.link(incident.id, "ana") in told.text
    assert any("NOT STOPPED" in text for text in office.phones.texts(PHONE))
    office.answer(page)
    assert office.state(incident) is State.ACKED
    assert "sender proved, signed by example.com" in office.incident(incident).acked_how
    office.close()


def test_a_yes_that_was_written_for_another_page_is_none(tmp_path: Path) -> None:
    office = made(tmp_path, **with_proof("example.com", "ana"))
    first, other = office.panic(), office.panic("The printer burns", subject="Printer")
    pages = {page.subject: page for page in office.pages("ana@example.com")}
    one, two = (pages[f"[PANIC {i.ref}] {i.subject}"] for i in (first, other))
    office.answer(one, message_id="<yes@example.com>")
    office.answer(two, shown=one.reply_to, message_id="<yes@example.com>")
    office.answer(two, message_id="<yes@example.com>")
    assert (office.state(first), office.state(other)) == (State.ACKED, State.OPEN)
    office.close()


def test_what_a_test_page_proved_is_asked_for_from_then_on_where_there_is_a_link(tmp_path: Path) -> None:
    office = made(tmp_path)
    way, facts = "mail:x", {"proved": "example.com"}
    office.store.write("check.x", lambda tx: tx.proofs.prove("t", "ana", way, ProofKind.REPLY, "x", **facts))
    incident = office.panic()
    office.answer(office.page("ana@example.com"), signer=None)
    assert office.state(incident) is State.OPEN
    office.settings = replace(office.settings, web_url="")
    office.answer(office.page("ana@example.com"), signer=None)
    assert office.state(incident) is State.ACKED, "shown, and not demanded: there is no other way"
    office.close()


def test_what_a_test_page_proved_is_forgotten_on_command_and_remembered_anew(tmp_path: Path) -> None:
    office = made(tmp_path, REJECT)
    ana = office.settings.people["ana"]

    def proves(test: str) -> None:
        office.store.write(
            "command.act",
            lambda tx: tx.proofs.prove(test, "ana", "mail", ProofKind.REPLY, "reply", proved="example.com"),
        )

    def asked() -> str:
        return office.store.read(lambda tx: paging_checks.proof_asked(tx, office.settings, ana))

    assert "No proof is asked" in asked()
    proves("one")
    assert "act when proved by example.com, as one to a test page was" in asked()
    for was in ("example.com", ""):
        assert office.store.write("command.act", lambda tx: tx.proofs.forget_proof("ana", "command run by op")) == was
    assert "No proof is asked" in asked()
    proves("two")
    assert "example.com" in asked()
    kept = office.store.read(lambda tx: tx.proofs.of_test(""))
    assert [(one.how, one.facts) for one in kept] == [("command run by op", {"forgotten": "example.com"})]
    office.close()


def test_an_answer_that_could_not_be_checked_acts_when_it_can(tmp_path: Path) -> None:
    office = made(tmp_path, **with_proof("example.com", "ana"))
    incident = office.panic()
    office.zone.dns.is_away = True
    office.answer(office.page("ana@example.com"))
    assert office.state(incident) is State.OPEN
    assert "DNS does not answer" in " ".join(office.sent("ana@example.com")[-1].text.split())
    office.zone.dns.is_away = False
    office.wait(seconds=59)
    assert office.state(incident) is State.OPEN
    office.wait(seconds=2)
    assert office.state(incident) is State.ACKED
    office.close()


@pytest.mark.parametrize("since", ["somebody has it", "they said no"])
def test_an_answer_proved_late_acts_no_more_when_things_have_moved_on(tmp_path: Path, since: str) -> None:
    office = made(tmp_path, **with_proof("example.com", "ana"))
    incident = office.panic()
    office.zone.dns.is_away = True
    office.answer(office.page("ana@example.com"))
    office.now += SECOND
    office.act(incident, *(("max", Command.TAKE) if since == "somebody has it" else ("ana", Command.NO)))
    office.zone.dns.is_away = False
    office.wait(seconds=61)
    assert office.incident(incident).holder != "ana"
    office.close()


def test_dns_that_never_answers_is_asked_four_times_and_then_left(tmp_path: Path) -> None:
    office = made(tmp_path)
    office.zone.dns.is_away = True
    office.signed("My files are .locked")
    office.wait(minutes=60)
    assert office.zone.checked == 4
    office.close()


def test_words_to_the_reporter_want_the_same_proof(tmp_path: Path) -> None:
    office = made(tmp_path, **with_proof("example.com", "ana"))
    incident = office.panic()
    office.wait(seconds=20)
    page = office.page("ana@example.com")
    office.answer(page)
    assert office.state(incident) is State.ACKED
    speaks = next(line.removeprefix("Write to the reporter: ") for posted in office.sent("ana@example.com")
                  for line in posted.text.splitlines() if line.startswith("Write to the reporter: "))  # fmt: skip
    before = len(office.sent("rita@example.com"))
    office.answer(page, "We are coming, stay there.", None, to=speaks, shown=speaks)
    assert len(office.sent("rita@example.com")) == before
    assert "not proved who wrote it" in " ".join(office.sent("ana@example.com")[-1].text.split())
    office.answer(page, "We are coming, stay there.", OURS, to=speaks, shown=speaks)
    assert "We are coming, stay there." in office.sent("rita@example.com")[-1].text
    office.close()


# -- forged


def forgeries(office: CheckedOffice, page: Posted, other: Posted, pick: random.Random) -> bytes:
    """An acknowledgement that its person never wrote."""
    raw = crlf(mail("ack", sender=page.recipient, subject="Re: x", in_reply_to=page.message_id).replace(
        b"To: panic@example.com", f"To: {page.reply_to}".encode()))  # fmt: skip
    for_other = raw.replace(page.reply_to.encode(), other.reply_to.encode())
    word = str(pick.random()).encode()
    long = raw.replace(b"ack", b"we do not have it " + word)
    made: list[Callable[[], bytes]] = [
        lambda: raw,
        lambda: OTHER.sign(raw),
        lambda: LIKE.sign(raw),
        lambda: OTHER.sign(raw, d="example.com"),
        lambda: OURS.sign(for_other),
        lambda: OURS.sign(long, l=0).replace(b"we do not have it " + word, b"ack"),
        lambda: OURS.sign(long).replace(b"we do not have it " + word, b"ack"),
        lambda: OTHER.sign(b"From: x@evil.example\r\n" + raw),
        lambda: OURS.sign(raw.replace(b"ana@example.com", b"bo@example.com")).replace(b"bo@example.com", b"ana@example.com"),
        lambda: OTHER.sign(raw.replace(b"From: ana@example.com", b"From: =?utf-8?q?ana=40example=2Ecom?= <a@evil.example>")),
        lambda: OTHER.sign(raw.replace(b"From: ana@example.com", b"From: ana@example.com,\r\n <a@evil.example>")),
        lambda: b"From: ana@example.com\r\n" + OURS.sign(raw.replace(b"ana@example.com", b"bo@example.com")),
        lambda: OTHER.sign(raw.replace(b"From: ana@example.com", b"From:\r\n ana@example.com")),
        lambda: OTHER.sign(raw.replace(b"From: ana@example.com", b'From: "ana@example.com" <a@evil.example>')),
        lambda: OTHER.sign(raw.replace(b"From: ana@example.com", b"From: us: ana@example.com;")),
        lambda: OTHER.sign(raw.replace(b"From: ana@example.com", b"From: ana@example.com (a@evil.example)")),
        lambda: OTHER.sign(raw, d="sub.example.com"),
        lambda: OURS.sign(raw.replace(b"\r\n\r\n", b"\r\nl: 1\r\n\r\n")).replace(b"ack", b"ack, all of it"),
        lambda: OURS.sign(raw, ("from",)),
        lambda: OURS.sign(raw, t=1_500_000_000),
    ]  # fmt: skip
    return pick.choice(made)()


def test_no_forged_yes_acknowledges_for_a_person_with_proof(tmp_path: Path) -> None:
    office = made(tmp_path, REJECT, **with_proof("example.com", "ana", "bo"))
    office.lanes = office.lanes[:1]  # pages alone: what is answered is not looked at here
    pick = random.Random(os.environ.get("PANICMAIL_FORGED_SEED", "14"))
    many = int(os.environ.get("PANICMAIL_FORGED", "60"))
    for start in range(0, many, 100):  # what a mail costs grows with what was written to its incident
        office.now += timedelta(hours=1)
        incident, other = office.panic(f"Fire {start}"), office.panic(f"The printer burns {start}", subject="Printer")
        page, second = office.pages("ana@example.com")[-2:]
        for _ in range(min(100, many - start)):
            raw = forgeries(office, page, second, pick)
            office.deliver(raw, "ana@example.com", [page.reply_to])
        assert [office.state(one) for one in (incident, other)] == [State.OPEN, State.OPEN]
    office.close()


# -- storms


def test_a_mail_whose_sender_is_proved_leaves_a_storm_of_nobody_knows_whom(tmp_path: Path) -> None:
    office = made(tmp_path, storm=StormLimits(2, timedelta(minutes=5)))
    for number in range(4):
        office.deliver(mail(f"forged {number}", subject=f"forged {number}"))
    storm = office.incidents()[-1]
    before = len(office.pages("ana@example.com"))
    incident = office.signed("It is really me: the server room burns", subject="Fire")
    assert incident.id != storm.id
    assert incident.subject == "Fire"
    assert len(office.pages("ana@example.com")) == before + 1
    assert incident.sla_at - incident.accepted_at == office.settings.policy.sla
    office.deliver(mail("forged 9", subject="forged 9"))
    assert len(office.pages("ana@example.com")) == before + 1
    office.close()


# -- known by a list


def test_who_writes_from_a_private_address_of_the_list_is_named_with_their_number(tmp_path: Path) -> None:
    known = {"rita@home.example": KnownReporter("Rita Lopez", "+49 170 1234567")}
    office = made(tmp_path, reporters=known, known_senders=("example.com",), once_unknown=True)
    office.panic("Slack is gone", sender="R <rita@home.example>", subject="Slack")
    assert "By our list of private addresses: Rita Lopez, +49 170 1234567" in office.page("ana@example.com").text
    other = office.panic("Slack is gone", sender="X <x@home.example>", subject="Slack, too")
    assert [i.reporter_address for i in office.incidents() if i.once] == [other.reporter_address]
    office.close()


def test_a_proved_sender_counts_for_a_flood_of_their_own(tmp_path: Path) -> None:
    relays = (ipaddress.ip_network("127.0.0.0/8"),)
    office = Office(tmp_path, method=SenderMethod.TRUSTED, authserv_ids=("mx.example.com",), trusted_relays=relays,
                    storm=StormLimits(2, timedelta(minutes=5)))  # fmt: skip
    received = b"Received: from x (x [192.0.2.9]) by mx.example.com; Sun, 22 Nov 2026 02:07:00 +0000\n"
    for number in range(5):
        office.deliver(received + mail(f"forged {number}", subject=f"forged {number}"))
    proof = b"Authentication-Results: mx.example.com; dmarc=pass header.from=example.com\n"
    before = len(office.pages("ana@example.com"))
    office.deliver(proof + received + mail("It is really me", subject="Fire"))
    assert len(office.pages("ana@example.com")) == before + 1
    office.close()


# -- what leaves the house


@pytest.mark.parametrize(("detail", "shown", "hidden"), [
    ("full", ["locked", "Ransom note", "Rita"], []),
    ("subject", ["Ransom note", "Rita", "is not in your mails"], ["locked", "170 1234567"]),
    ("ref", ["is not in your mails"], ["locked", "Ransom note", "Rita", "rita@", "170 1234567"]),
])  # fmt: skip
def test_a_persons_mails_show_as_much_of_a_report_as_is_said(
    tmp_path: Path, detail: str, shown: list[str], hidden: list[str]
) -> None:
    people = {**PEOPLE, "ana": replace(PEOPLE["ana"], detail=detail)}
    office = Office(tmp_path, people=people)
    incident = office.panic("My files are .locked. Call +49 170 1234567", sender="Rita Lopez <rita@example.com>")
    office.deliver(
        mail(
            "The printer is locked, too. +49 170 1234567",
            in_reply_to=incident.message_id or "",
            subject="Ransom note 2",
        )
    )
    office.wait(minutes=16)
    office.reply(office.page("ana@example.com"), "ack")
    office.wait(minutes=30)
    said = "\n".join(f"{sent.message['Subject']}\n{sent.text}" for sent in office.sent("ana@example.com"))
    assert len(office.sent("ana@example.com")) > 4
    assert [word for word in shown if word not in said] == []
    assert [word for word in hidden if word in said] == []
    assert incident.ref in said
    office.close()


def test_receipts_to_one_mailbox_are_five_an_hour_whatever_its_subaddresses(tmp_path: Path) -> None:
    office = Office(tmp_path, storm=StormLimits(0, timedelta(minutes=5)))
    for number in range(8):
        office.panic(f"mail {number}", subject=f"mail {number}", sender=f"rita+{number}@example.com")
    office.wait(seconds=20)
    sent = [posted for number in range(8) for posted in receipts(office, f"rita+{number}@example.com")]
    assert len(sent) == 5
    office.wait(minutes=61)
    office.panic("one more", subject="one more", sender="rita+9@example.com")
    office.wait(seconds=20)
    assert receipts(office, "rita+9@example.com")
    office.close()
