"""Rows 32, 39 and 40: our own certificate ends or has ended, thousands of mails, mails that go round in circles."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from panicmail.check.daily_check import DailyCheck
from panicmail.mail.compose.operator_alerts import alarm_words
from panicmail.oncall import runtime_settings
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import SandboxRelay
from tests.examples import IS_LONG
from tests.faults import tls
from tests.office import PANIC, Office, mail
from tests.program import World
from tests.site import Site

DAY = timedelta(days=1)


@pytest.mark.row(32, "our certificate has ended", "mail is taken, with TLS and without; `check` tells")
def test_a_certificate_that_has_ended_keeps_no_mail_out_and_is_told_by_check(town: World) -> None:
    town.config["smtp"] |= {"tls_cert_file": "tls.crt", "tls_key_file": "tls.key"}
    tls.write_pair(town.folder, ended=True)
    town.start()
    opportunistic = ssl.create_default_context()  # as a mail server that has nobody to ask
    opportunistic.check_hostname, opportunistic.verify_mode = False, ssl.CERT_NONE
    for ref in (town.panic("in the clear"), town.send(mail("over TLS"), tls=opportunistic).ref):
        town.page("ana", ref)
    rows = town.run("check", "--offline", "--json").json["rows"]
    assert [row["verdict"] for row in rows if row["subject"] == "tls"] == ["failed"]
    tls.write_pair(town.folder, ended=False)
    town.reload()
    town.page("ana", town.send(mail("over TLS"), tls=tls.client()).ref)


class Calendar:
    """A daemon's daily check of real things, and the days of a calendar."""

    def __init__(self, site: Site, office: Office) -> None:
        pair = 'hostname = "panic.example.com"'
        self.config = site.config((pair, f'{pair}\ntls_cert_file = "tls.crt"\ntls_key_file = "tls.key"'))
        office.settings = runtime_settings.from_config(self.config, [("a", b"k" * 32)])
        self._office, self._daily = office, DailyCheck(office.store, lambda: office.settings, lambda: self.config)

    def heard(self, at: datetime) -> list[str]:
        """What the operators are told about certificates by a check at that instant."""
        causes = ("check_certificate", "check_mended")
        office, words = self._office, {alarm_words(cause).what: cause for cause in causes}
        office.now, before = at, len(office.relay.sent)
        self._daily.run(at)
        office.settle()
        told = [posted for posted in office.relay.sent[before:] if "tls" in posted.text]
        return [words[posted.subject.removeprefix("[panicmail] ")] for posted in told]


@pytest.mark.row(
    32, "our certificate ends soon", "told to the operators 21, 7 and 1 days before, and when it is renewed"
)
def test_the_operators_hear_of_a_certificate_that_ends_until_it_is_renewed(
    tmp_path: Path,
) -> None:
    ends_at = datetime.now(UTC).replace(minute=30, second=0, microsecond=0) + 30 * DAY
    with SandboxGitLab() as gitlab, SandboxRelay() as relay, contextlib.closing(Office(tmp_path)) as office:
        tls.write_pair(tmp_path, ends_at=ends_at)
        calendar = Calendar(Site(tmp_path, gitlab, relay), office)
        told = ["check_certificate"]
        assert calendar.heard(ends_at - 22 * DAY) == []
        assert calendar.heard(ends_at - 20 * DAY) == told
        assert calendar.heard(ends_at - 20 * DAY + timedelta(hours=1)) == []
        assert calendar.heard(ends_at - 19 * DAY) == []
        assert calendar.heard(ends_at - 6 * DAY) == told
        assert calendar.heard(ends_at - timedelta(hours=25)) == []
        assert calendar.heard(ends_at - timedelta(hours=23)) == told, "worse: it is a failure on its last day"
        assert calendar.heard(ends_at - timedelta(hours=22)) == []
        tls.write_pair(tmp_path, ends_at=ends_at + 90 * DAY)
        assert calendar.heard(ends_at - timedelta(hours=20)) == ["check_mended"]
        assert calendar.heard(ends_at + DAY) == []


# -- a flood


@pytest.mark.row(39, "a flood", "no 5xx; every 250 is an incident or joins the storm; memory is bounded")
@pytest.mark.timeout(600)
def test_in_a_flood_every_mail_is_answered_and_every_250_is_accounted_for(town: World) -> None:
    town.expected.add("accounts.gap")  # what waits for a minute is told
    del town.config["storm"]
    program = town.start()
    with flood(town, 2000 if IS_LONG else 100) as codes:
        town.program.wait_for("mail.accepted", count=50)
        real = town.panic("Ransom note")
    town.page("ana", real, 300)
    assert set(codes) <= {250, 421, 451, 452}, set(codes)
    ((mails,),) = town.rows("SELECT count(*) FROM mails")
    assert mails == codes.count(250) + 1
    unread = "SELECT 1 FROM mails WHERE state = 'accepted'"
    town.until(lambda: not town.rows(unread), 400, "not everything was understood")
    assert town.rows("SELECT count(*) FROM incidents") == [(22,)], "twenty, their storm, and the real one"
    assert town.rows("SELECT count(*) FROM mails WHERE shape = 'member'") == [(mails - 22,)]
    assert memory_of(program.pid) < 400 * 1024 * 1024


@pytest.mark.row(39, "a panic in the midst of a flood", "paged within seconds, whatever waits before it", long=True)
@pytest.mark.timeout(300)
def test_a_panic_of_a_colleague_does_not_wait_behind_a_flood(town: World) -> None:
    town.start()
    with flood(town, 800) as _:
        town.program.wait_for("mail.accepted", 60, count=600)
        real = town.send(mail("My files are .locked.", subject="Ransom note"))
        page = town.page("ana", real.ref, 200)
    assert page.received_at - real.sent_at < 30


@pytest.mark.row(39, "a flood of forged senders", "few pages that name every one, and an answer takes what it names")
@pytest.mark.timeout(300)
@pytest.mark.long
def test_a_flood_of_forged_senders_is_a_few_pages_that_name_every_one(town: World) -> None:
    town.config["storm"] = {"digest_every": "2s"}
    town.expected.add("accounts.gap")
    town.start()
    senders = [f"eve{n}@evil.example" for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        raws = [mail(f"flood {n}", subject=f"flood {n}", sender=sender) for n, sender in enumerate(senders)]
        refs = [answer.ref for answer in pool.map(town.send, raws, senders)]

    def unnamed() -> list[str]:
        said = "".join(f"{page.subject} {page.text}" for page in town.pages("ana"))
        return [ref for ref in refs if ref not in said]

    town.until(lambda: not unnamed(), 120, "some are in no page")
    pages = town.pages("ana")
    assert len(pages) <= 30, [page.subject for page in pages]
    digest = next(page for page in reversed(pages) if page.subject.endswith(" more"))
    town.reply(digest, "ack all")
    named = [ref for ref in refs if ref in f"{digest.subject} {digest.text}"]
    acked = "SELECT ref FROM incidents WHERE state = 'acked'"
    town.until(lambda: len(town.rows(acked)) == len(named), 60, "not all it named were taken")
    assert {ref for (ref,) in town.rows(acked)} == set(named)


@contextlib.contextmanager
def flood(town: World, number_of_mails: int) -> Iterator[list[int]]:
    """So many mails of strangers over eight connections at a time; the codes of the answers, in the end."""
    codes: list[int] = []
    raws = [mail(f"flood {n}", subject=f"flood {n}", sender="eve@evil.example") for n in range(number_of_mails)]
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(town.send, raw, "eve@evil.example") for raw in raws]
        yield codes
        codes += [answer.result().code for answer in answers]


def memory_of(pid: int) -> int:
    """Octets of the process that are in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.row(39, "a flood of one sender", "one storm, and not a page for each of them")
def test_a_flood_of_one_sender_is_one_storm_and_not_a_page_for_each(desk: Office) -> None:
    for number in range(60):
        desk.deliver(mail(f"flood {number}", subject=f"flood {number}"))
    assert len(desk.pages("ana")) == 21


# -- loops


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    desk = Office(tmp_path)
    yield desk
    desk.close()


@pytest.mark.row(40, "a mail went through more than a hundred servers", "554 5.4.6, no page")
def test_a_mail_that_goes_round_in_circles_is_refused_and_pages_nobody(town: World) -> None:
    town.start()
    hops = [f"Received: from mx{n}.example.com by mx{n + 1}.example.com; Sun, 22 Nov 2026 02:07:00 +0000\r\n"
            for n in range(101)]  # fmt: skip
    raw = mail("help", subject="round and round")
    refused = town.send("".join(hops).encode() + raw)
    assert (refused.code, refused.text[:5]) == (554, "5.4.6")
    kept = town.send("".join(hops[1:]).encode() + raw)
    town.page("ana", kept.ref)
    assert town.rows("SELECT count(*) FROM incidents") == [(1,)]


@pytest.mark.row(40, "a page of ours comes back to panic@", "filed, nobody is paged for it, the operators hear")
def test_a_page_that_was_forwarded_back_to_us_pages_nobody_again(desk: Office) -> None:
    desk.panic()
    page = desk.page("ana")
    for _ in range(3):
        began = time.monotonic()
        desk.deliver(page.raw, page.mail_from, [PANIC])
        assert time.monotonic() - began < 10
    desk.wait(minutes=1)
    assert (len(desk.pages("ana")), desk.pages("max")) == (1, [])
