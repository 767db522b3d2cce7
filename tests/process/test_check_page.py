"""`panicmail check --page`: the test page, what came back on it, and that it is never a panic nor an acknowledgement.

First what the rules are, in process with a clock that is moved; then the command with the real daemon behind it.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from panicmail.check import paging_checks, people_checks
from panicmail.check.result import CheckVerdict, Row
from panicmail.cli.check_command import _Signals
from panicmail.delivery.fallback.spooled_mail import SpooledPanic
from panicmail.escalation.reconciler import gaps_in
from panicmail.incident import ids
from panicmail.incident.model import State
from panicmail.incident.reply_tokens import Addresses
from panicmail.mail.compose import check_page
from panicmail.mail.compose.letterhead import Letterhead
from panicmail.oncall import channels_of, runtime_settings
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import Received, SandboxRelay
from panicmail.store.channel_proofs import Proof, ProofKind
from panicmail.store.rows import AcceptedMail
from panicmail.store.spool import Spool
from panicmail.store.transaction import Transaction
from tests.cast import T0
from tests.conftest import missing
from tests.office import PANIC, PEOPLE, InProcess, Office, Posted, mail
from tests.program import Ran, World, world
from tests.provider import Provider, closed_port, until
from tests.reports import expect, plain
from tests.site import Site

CODE = "K7QX"
ANA = PEOPLE["ana"]
ANAS_MAIL = channels_of.by_mail(ANA.email)
#: A push of Ana's, as proofs know it.
PHONE = "push-12345678"


class Trying(Office):
    """An office that sends test pages."""

    def page_of_test(self, *, with_push: bool = False) -> Posted:
        """A test page to Ana that went out just now."""
        self.test = ids.incident_id(ids.new_mail_id())
        ways_out = [(ANAS_MAIL.name, "")] + [(PHONE, CODE)] * with_push

        def asked(tx: Transaction) -> None:
            for name, code in ways_out:
                tx.proofs.prove(self.test, "ana", name, ProofKind.ASKED, "by a test", code=code, shown=f"the {name}")

        self.store.write("command.act", asked)
        letter = check_page.test_page(self.test, Letterhead(PANIC, ANA, self.now), self.settings.reply_routes,
                                  with_code=with_push)  # fmt: skip
        return Posted(letter.message, letter.mail_from, letter.recipient)

    def proofs(self) -> list[tuple[str, ProofKind]]:
        """What is known since the page was sent: channel, and what."""
        return [(proof.channel, proof.what) for proof in self.latest() if proof.what is not ProofKind.ASKED]

    def latest(self) -> list[Proof]:
        return self.store.read(lambda tx: tx.proofs.of_test(self.test))

    def why(self) -> str:
        return next((proof.how for proof in reversed(self.latest()) if proof.what is ProofKind.FAILED), "")

    def answers(self) -> list[Posted]:
        return [posted for posted in self.sent("ana") if posted.subject.startswith("[TEST]")]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Trying]:
    office = Trying(tmp_path)
    yield office
    office.close()


PROVEN = [(ANAS_MAIL.name, ProofKind.DELIVERED), (ANAS_MAIL.name, ProofKind.REPLY)]
NOT_COUNTED = [(ANAS_MAIL.name, ProofKind.DELIVERED), (ANAS_MAIL.name, ProofKind.FAILED)]


def test_a_test_page_asks_as_a_page_does_and_says_first_that_nothing_is_wrong(office: Trying) -> None:
    page = office.page_of_test(with_push=True)
    assert page.subject.startswith('[PANIC TEST] Reply "ack"')
    assert page.text.splitlines()[0] == 'Ana: this is a test and nothing is wrong. Reply "ack" to this mail.'
    assert page.reply_to.startswith("panic+ta-")
    assert page.mail_from.startswith("panic+ta-")
    assert page.mail_from != page.reply_to
    assert CODE not in page.text, "the code goes by push alone"
    assert len(check_page.push(CODE)) <= 120


def test_an_ack_from_their_own_address_proves_the_mail_and_they_are_told(office: Trying) -> None:
    office.reply(office.page_of_test(), "ack")
    assert office.proofs() == PROVEN
    (answer,) = office.answers()
    assert answer.subject == "[TEST] Proven: a page reaches you, and your reply counts"
    assert answer.mail_from == ""
    assert answer.text.startswith("Proven ")
    assert "Rests on: reply from ana@example.com" in answer.text
    assert not office.incidents()
    assert not office.gitlab.issues


@pytest.mark.parametrize(
    ("text", "header", "why"),
    [
        ("got it", {"sender": "ana.r@example.net"}, "it came from ana.r@example.net, which is not listed for you"),
        ("what is this?", {}, "it asked a question"),
        ("no", {}, 'its first line, "no", does not say yes'),
        ("", {}, "it was empty"),
    ],
)
def test_a_reply_that_would_not_have_acknowledged_proves_only_that_the_page_arrived(
    office: Trying, text: str, header: dict[str, str], why: str
) -> None:
    office.reply(office.page_of_test(), text, **header)
    assert office.proofs() == NOT_COUNTED
    assert office.why() == why
    (answer,) = office.answers()
    assert answer.subject.startswith("[TEST] Not proven")
    assert f"Why: {why}" in answer.text
    assert 'reply "ack" to THIS mail from ana@example.com' in answer.text
    assert PANIC in answer.text, "where an emergency goes"
    assert not office.incidents()


def test_they_may_reply_once_more_to_the_answer(office: Trying) -> None:
    office.reply(office.page_of_test(), "what is this?")
    office.reply(office.answers()[-1], "ack")
    assert office.proofs() == [*NOT_COUNTED, *PROVEN]
    assert office.answers()[-1].subject.startswith("[TEST] Proven")


@pytest.mark.parametrize("text", [f"ack\n{CODE}", f"ack {CODE.lower()}", f"{CODE} ack", f"on it, {CODE}."])
def test_the_code_in_the_reply_proves_the_push(office: Trying, text: str) -> None:
    office.reply(office.page_of_test(with_push=True), text)
    assert office.proofs() == [*PROVEN, (PHONE, ProofKind.DELIVERED)]
    assert f"Proven by its code: the {PHONE}" in office.answers()[-1].text


def test_a_reply_without_the_code_proves_the_mail_alone_and_its_writer_is_asked_for_it(office: Trying) -> None:
    office.reply(office.page_of_test(with_push=True), "ack")
    assert office.proofs() == PROVEN
    assert f"has no code from the {PHONE}" in office.answers()[-1].text
    office.reply(office.answers()[-1], f"ack {CODE}")
    assert (PHONE, ProofKind.DELIVERED) in office.proofs()


def test_an_out_of_office_proves_nothing_and_is_not_answered(office: Trying) -> None:
    office.reply(office.page_of_test(), "I am out of office until Monday", extra="Auto-Submitted: auto-replied")
    assert office.proofs() == [(ANAS_MAIL.name, ProofKind.FAILED)]
    assert office.why() == "an out-of-office answered it"
    assert not office.answers()
    assert not office.incidents()


BOUNCE = """\
From: Mail Delivery System <MAILER-DAEMON@mail.example.com>
To: panic@example.com
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

It could not be delivered.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.com

Final-Recipient: rfc822; ana@example.com
Action: {action}
Status: {status}
--b--
"""


@pytest.mark.parametrize(
    ("action", "status", "proofs"),
    [("failed", "5.1.1", [(ANAS_MAIL.name, ProofKind.FAILED)]), ("delayed", "4.4.1", [])],
)
def test_a_bounce_of_the_test_page_fails_and_a_delay_says_nothing_yet(
    office: Trying, action: str, status: str, proofs: list[tuple[str, ProofKind]]
) -> None:
    page = office.page_of_test()
    raw = BOUNCE.format(action=action, status=status).replace("\n", "\r\n").encode()
    office.deliver(raw, "", [page.mail_from])
    assert office.proofs() == proofs
    assert office.why() == ("it bounced (5.1.1)" if proofs else "")
    assert not office.incidents()


def test_no_answer_to_a_test_page_acknowledges_an_incident_that_is_open(office: Trying) -> None:
    incident = office.panic()
    page = office.page_of_test()
    for text in ("ack", "ack all", "take", "resolve"):
        office.reply(page, text)
        assert office.incident(incident).state is State.OPEN
    assert [i.id for i in office.incidents()] == [incident.id]
    office.reply(office.page("ana"), "ack")
    assert office.incident(incident).state is State.ACKED


def test_a_mail_to_a_page_and_to_a_test_page_answers_the_page(office: Trying) -> None:
    incident, test = office.panic(), office.page_of_test()
    page = office.page("ana")
    office.deliver(mail("ack", sender=ANA.email, subject="Re: both"), ANA.email, [test.reply_to, page.reply_to])
    assert office.incident(incident).state is State.ACKED
    assert office.proofs() == []


# -- where the address lost its token


def test_a_reply_whose_subaddress_was_dropped_is_no_panic_and_proves_that_an_ack_would_be_lost(office: Trying) -> None:
    office.reply(office.page_of_test(), "ack", to=PANIC)
    assert office.proofs() == NOT_COUNTED
    assert office.why() == f"it came to {PANIC}, not to the reply address of the page"
    assert not office.incidents()
    shown = {row.subject: row for row in rows_of(office)}
    assert shown["subaddress"].verdict is CheckVerdict.FAILED
    assert "{token}@panic.example.com" in shown["subaddress"].mend
    assert shown["message id"].verdict is CheckVerdict.OK


def test_words_that_are_no_command_are_a_panic_when_they_come_to_the_panic_address(office: Trying) -> None:
    office.reply(office.page_of_test(), "my laptop shows a ransom note", to=PANIC)
    assert len(office.incidents()) == 1
    assert office.proofs() == []


def test_a_day_later_a_reply_to_the_panic_address_is_a_report_again(office: Trying) -> None:
    page = office.page_of_test()
    office.now = T0 + timedelta(days=1, seconds=1)
    office.reply(page, "ack", to=PANIC)
    assert len(office.incidents()) == 1


def test_to_its_own_address_an_answer_may_come_late(office: Trying) -> None:
    page = office.page_of_test()
    office.now = T0 + timedelta(days=30)
    office.reply(page, "ack")
    assert office.proofs() == PROVEN


def test_where_addresses_carry_no_token_the_message_id_tells_it(tmp_path: Path) -> None:
    office = Trying(tmp_path, addresses=Addresses([PANIC], PANIC, "panic.example.com"))
    office.reply(office.page_of_test(), "ack")
    assert office.proofs() == PROVEN
    assert not office.incidents()
    assert {row.subject for row in rows_of(office)} == {"mail", "message id", "From", "envelope"}
    office.close()


# -- what it leaves


def test_an_answer_to_a_test_page_is_no_gap_and_breaks_no_invariant(office: Trying) -> None:
    office.reply(office.page_of_test(), "ack")
    office.now += timedelta(hours=1)
    assert office.store.read(lambda tx: (gaps_in(tx, office.settings.policies), tx.invariants.violations())) == ([], {})


def test_an_answer_that_waits_in_the_spool_calls_nobody(office: Trying, tmp_path: Path) -> None:
    page, spool = office.page_of_test(), Spool(tmp_path / "spool")
    spool.open()
    raw = mail("ack", sender=ANA.email)
    told = AcceptedMail(id=ids.new_mail_id(), accepted_at=T0, mail_from=ANA.email, recipients=(page.reply_to,), peer="",
                helo="", tls="", size=len(raw))  # fmt: skip
    spool.put(told, raw)
    (spooled,) = spool.waiting()
    panic = SpooledPanic(spooled, spool, InProcess(), office.settings, {"ana": "seoc"}, T0)
    assert panic.letter(ANA, T0) is None


def test_pagerduty_gets_an_alert_with_the_code_and_it_is_closed_when_the_waiting_ends(
    office: Trying, tmp_path: Path
) -> None:
    with SandboxGitLab() as gitlab, SandboxRelay() as relay, Provider() as provider:
        provider.status = 202
        config = Site(tmp_path, gitlab, relay).config(
            ("ntfys://ntfy.example.com/ana-secret", "pagerduty:R0UT1NG"),
            more=f'[paging]\npagerduty_url = "{provider.url}"',
        )
        settings = runtime_settings.from_config(config, [("a", b"k" * 32)])
        trial = paging_checks.send(office.store, settings, config, settings.people["ana"])
        assert paging_checks.close(config, trial) == []
        trigger, resolve = provider.wait(1).json, provider.wait(2).json
    assert [each.is_taken for each in trial.sent] == [True, True]
    assert trial.sent[1].code in trigger["payload"]["summary"]
    assert (trigger["event_action"], resolve["event_action"]) == ("trigger", "resolve")
    assert trigger["dedup_key"] == resolve["dedup_key"]


def test_an_alert_that_cannot_be_closed_is_told(office: Trying, tmp_path: Path) -> None:
    with SandboxGitLab() as gitlab, SandboxRelay() as relay, Provider() as provider:
        provider.status = 202
        config = Site(tmp_path, gitlab, relay).config(
            ("ntfys://ntfy.example.com/ana-secret", "pagerduty:R0UT1NG"),
            more=f'[paging]\npagerduty_url = "{provider.url}"',
        )
        settings = runtime_settings.from_config(config, [("a", b"k" * 32)])
        trial = paging_checks.send(office.store, settings, config, settings.people["ana"])
        provider.status = 503
        (told,) = paging_checks.close(config, trial)
    assert told.startswith("the alert of this test may still be open in PagerDuty (")


def test_one_test_is_answered_ten_times_at_most(office: Trying) -> None:
    page = office.page_of_test()
    for _ in range(12):
        office.reply(page, "ack")
    assert len(office.answers()) == 10


def test_what_was_proved_is_told_with_its_day_and_is_stale_after_ninety(office: Trying) -> None:
    office.reply(office.page_of_test(), "ack")

    def told(days: int) -> Row:
        proofs = office.store.read(lambda tx: tx.proofs.latest())
        return next(
            r for r in people_checks.proven(office.settings, proofs, T0 + timedelta(days=days)) if r.person == "ana"
        )

    assert (told(90).verdict, told(90).found) == (
        CheckVerdict.OK,
        "mail ana@example.com: proven 2026-11-22 by reply",
    )
    assert told(91).verdict is CheckVerdict.WARNING
    assert told(91).found.endswith("91 days ago")
    assert told(91).mend == "panicmail check --page ana"
    office.now += timedelta(days=1)
    office.reply(office.page_of_test(), "no")
    assert told(2).verdict is CheckVerdict.WARNING
    assert "not proven 2026-11-23" in told(2).found


def rows_of(office: Trying) -> list[Row]:
    """What the command would tell."""
    sent = [paging_checks.Sent(ANAS_MAIL, "250 kept", is_taken=True)]
    return paging_checks.rows(paging_checks.PageTest(office.test, ANA, T0, sent), office.latest(), 60)


@pytest.mark.parametrize(
    ("header", "subject", "verdict"),
    [
        ({}, "envelope", CheckVerdict.OK),
        ({"mail_from": "bounce-17@mailer.example.net"}, "envelope", CheckVerdict.WARNING),
        ({"sender": "ana@home.example"}, "From", CheckVerdict.OK),
        ({"sender": "ana.r@example.net"}, "From", CheckVerdict.FAILED),
    ],
)
def test_each_difference_between_what_was_sent_and_what_came_back_has_its_mend(
    office: Trying, header: dict[str, str], subject: str, verdict: CheckVerdict
) -> None:
    office.reply(office.page_of_test(), "ack", **header)
    row = next(row for row in rows_of(office) if row.subject == subject)
    assert row.verdict is verdict
    assert bool(row.mend) is (verdict is not CheckVerdict.OK)


def test_what_a_daemon_of_an_older_version_kept_of_a_reply_is_understood(office: Trying) -> None:
    office.reply(office.page_of_test(), "ack", sender="ana@home.example")
    page = paging_checks.PageTest(office.test, ANA, T0, [paging_checks.Sent(ANAS_MAIL, "250 kept", is_taken=True)])
    older = [
        replace(proof, facts={key.replace("_is_listed", "_is_hers"): value for key, value in proof.facts.items()})
        for proof in office.latest()
    ]
    assert older != office.latest()
    assert paging_checks.rows(page, older, 60) == rows_of(office)


# -- the command, with the daemon behind it


@contextmanager
def town(folder: Path, spool: Path | None = None) -> Iterator[tuple[World, Provider]]:
    """A world whose people have a phone each, and the provider of their pushes."""
    with Provider() as provider, world(folder) as town:
        people = town.config["people"]
        del people["bo"]
        for name in people:
            people[name]["push"] = [f"json://{provider.host}/{name}"]
        web = f"127.0.0.1:{closed_port()}"
        town.config["smtp"]["listen"] = [f"127.0.0.1:{closed_port()}"]
        town.config["web"] = {"listen": web, "url": f"http://{web}"}
        if spool is not None:
            town.config["database"]["spool"] = str(spool)
        town.start()
        town.path.chmod(0o600)
        yield town, provider


def begin(pool: ThreadPoolExecutor, town: World, person: str, wait: str) -> Future[Ran]:
    return pool.submit(town.run, "check", "--page", person, "--wait", wait)


def page_to(town: World, person: str) -> Received:
    return town.received(person, lambda got: got.subject.startswith("[PANIC TEST]"))


def code_to(provider: Provider, person: str) -> str:
    """The code that was pushed to that person."""
    until(lambda: [asked for asked in provider.asked if asked.path == f"/{person}"])
    asked = next(asked for asked in provider.asked if asked.path == f"/{person}")
    found = re.search(r"code below it: (\w{4})", str(asked.json))
    assert found, asked.json
    return found[1]


def answered(town: World, provider: Provider, person: str) -> Ran:
    """The command, while the person replies as they were asked to."""
    with ThreadPoolExecutor(1) as pool:
        running = begin(pool, town, person, "20s")
        page = page_to(town, person)
        assert town.reply(page, f"ack\n{code_to(provider, person)}").code == 250
        return running.result(30)


def other_disk(here: Path) -> Path:
    """A new folder on another file system."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == here.stat().st_dev:
        missing("a second file system (/dev/shm)")
    return Path(tempfile.mkdtemp(dir=memory))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Path]:
    folder = other_disk(tmp_path)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_healthy_set_up_is_ready_once_everybody_answered_their_test_page(tmp_path: Path, spool: Path) -> None:
    with town(tmp_path, spool=spool) as (here, provider):
        for person in ("ana", "max"):
            done = answered(here, provider, person)
            assert done.status == 0, done
            assert "PROVEN: a page reaches" in done.out
            assert here.received(person, lambda got: got.subject.startswith("[TEST] Proven"))
        told = here.run("check")
        named = {tmp_path: "FOLDER", spool: "SPOOL", here.gitlab.port: "GITLAB", here.relay.port: "RELAY",
                 port_of(here, "smtp"): "SMTP", port_of(here, "web"): "WEB"}  # fmt: skip
        expect("healthy", plain(told.out, named))
        assert told.status == 0
        assert here.rows("SELECT count(*) FROM incidents") == [(0,)]
        assert not here.gitlab.issues


def test_one_command_shows_who_does_not_answer_and_whose_mail_program_drops_the_subaddress(tmp_path: Path) -> None:
    with town(tmp_path) as (here, _), ThreadPoolExecutor(2) as pool:
        silent, dropping = begin(pool, here, "max", "4s"), begin(pool, here, "ana", "20s")
        page = page_to(here, "ana")
        raw = mail("ack", sender=ANA.email, subject=f"Re: {page.subject}", in_reply_to=page.header("Message-ID"))
        assert here.send(raw, ANA.email, PANIC).code == 250
        lost, unheard = dropping.result(30), silent.result(30)
        assert (lost.status, unheard.status) == (1, 1)
        told = " ".join(lost.out.split())
        assert "failed subaddress dropped: the reply came to panic@example.com, so it would have been a note" in told
        assert "NOT PROVEN" in told
        told = " ".join(unheard.out.split())
        assert "and no reply came within 4 s" in told
        assert "is it in spam, did the phone keep silent?" in told
        here.settled()
        assert here.rows("SELECT count(*) FROM incidents") == [(0,)]


def port_of(here: World, section: str) -> str:
    listen = here.config[section]["listen"]
    return str(listen if isinstance(listen, str) else listen[0]).rpartition(":")[2]


def test_a_push_alone_that_is_not_proven_is_exit_status_1(tmp_path: Path) -> None:
    with town(tmp_path) as (here, _), ThreadPoolExecutor(1) as pool:
        running = begin(pool, here, "ana", "20s")
        assert here.reply(page_to(here, "ana"), "ack").code == 250
        done = running.result(30)
        assert "NOT PROVEN" in done.out
        assert " failed " not in done.out
        assert done.status == 1


def test_check_tells_of_a_push_that_was_refused_until_one_is_taken(tmp_path: Path) -> None:
    with town(tmp_path) as (here, provider):
        here.expected |= {"push.refused"}
        provider.status = 400
        here.panic()
        here.settled()
        told = here.run("check", "--json")
        row = next(row for row in told.json["rows"] if row["subject"] == "ana push")
        assert row["verdict"] == "warning"
        when = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
        said = rf"json://127\.0\.0\.1/… refused the last push, {when}: JSON answered 400"
        assert re.fullmatch(said, row["found"])
        assert row["mend"].endswith("panicmail check --page ana tries it again")
        provider.status = 200
        assert here.run("check", "--page", "ana", "--wait", "1s").status == 1, "nobody replied, and it was taken"
        row = next(row for row in here.run("check", "--json").json["rows"] if row["subject"] == "ana push")
        assert (row["verdict"], row["found"]) == ("ok", "json://127.0.0.1/… is understood; nothing was sent")


def test_the_alert_of_a_test_page_is_closed_however_the_command_ends(tmp_path: Path) -> None:
    with Provider() as pagerduty, world(tmp_path) as here:
        here.config["people"]["ana"]["push"] = ["pagerduty:R0UT1NG"]
        here.config["paging"] = {"pagerduty_url": pagerduty.url}
        here.start()
        command = [sys.executable, "-m", "panicmail", "check", "-c", str(here.path), "--page", "ana", "--wait", "1h"]
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            pagerduty.asked.clear()
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
                assert running.stdout is not None
                assert any(b"Waiting until" in line for line in running.stdout)
                running.send_signal(number)
                assert running.wait(30) != 0
            opened, closed = (asked.json for asked in pagerduty.asked)
            assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
            assert opened["dedup_key"] == closed["dedup_key"]


def test_a_page_the_relay_refuses_is_not_waited_for(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        here.start()
        here.relay.rule("ana@", "reject")
        told = here.run("check", "--page", "ana", "--wait", "1h", "--json")
        assert told.status == 1
        assert told.json["proven"] is False
        (row,) = told.json["rows"]
        assert "was not taken: 550" in row["found"]


def test_a_person_nobody_knows_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        here.start()
        told = here.run("check", "--page", "nobody")
        assert (told.status, told.out) == (1, "")
        assert "there are ana, bo, max" in told.err


def test_a_signal_that_comes_where_python_ignores_exceptions_ends_the_wait_all_the_same() -> None:
    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        signals = _Signals()
        Finalized()
        assert (signals.came, signals.stopped.is_set()) == (signal.SIGTERM, True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
