"""Rows 1 to 7: the daemon is killed, at the moment that matters, and started again."""

from __future__ import annotations

import random
import smtplib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.examples import if_long
from tests.faults.acts import (
    accounted_for,
    copies,
    eventually,
    frozen,
    it_happened_earlier,
    one_copy_a_life,
    readers_of,
    start_again,
)
from tests.office import mail
from tests.program import SOON, World, world

#: Said of a mail whose understanding was cut short.
AGAIN = "intake.again"
KILLED = 137


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, expects=[AGAIN]) as town:
        yield town


def start_to_die(town: World, point: str) -> None:
    """A daemon that ends at a point, as killed."""
    town.environ["PANICMAIL_CRASH_AT"] = point
    town.start()
    del town.environ["PANICMAIL_CRASH_AT"]


def it_died(town: World) -> None:
    assert town.program.ended() == KILLED, town.program.tail()


# -- between the dot and the 250


@pytest.mark.row(1, "kill -9 before the commit", "no 250; the sender tries again; one incident")
def test_a_mail_killed_before_its_commit_got_no_250_and_is_one_incident_when_it_comes_again(town: World) -> None:
    raw = mail("My files are .locked.", subject="Ransom note")
    start_to_die(town, "mails.accept.commit")
    assert town.send(raw).code == 0
    it_died(town)
    town.start()
    assert town.rows("SELECT count(*) FROM mails") == [(0,)]
    accounted_for(town, [town.send(raw).ref])
    assert town.rows("SELECT count(*) FROM incidents") == [(1,)]


@pytest.mark.row(2, "kill -9 after the commit, before the 250", "the repeat is recognised: 250, the same incident")
@pytest.mark.parametrize("point", ["mails.accept.committed", if_long("smtp.answering")])
def test_a_mail_whose_250_was_lost_in_a_kill_joins_its_own_incident_when_it_comes_again(
    town: World, point: str
) -> None:
    raw = mail("My files are .locked.", subject="Ransom note")
    start_to_die(town, point)
    assert town.send(raw).code == 0
    it_died(town)
    town.start()
    assert town.send(raw).code == 250
    town.settled()
    ((ref,),) = town.rows("SELECT ref FROM incidents")
    accounted_for(town, [ref])
    assert len(town.pages("ana")) == 1
    assert town.rows("SELECT count(*) FROM timeline WHERE event = 'mail.resent'") == [(1,)]


@pytest.mark.row(2, "the client hangs up after the dot", "the mail is kept; its repeat is recognised, one incident")
def test_a_client_that_hangs_up_after_its_dot_has_its_mail_kept_and_its_repeat_is_no_second_panic(town: World) -> None:
    town.start()
    raws = [mail("My files are .locked.", subject=f"hung up {number}") for number in range(3)]
    for raw in raws:
        hang_up_after_the_dot(town, raw)
    town.program.wait_for("mail.understood", count=3)
    assert [town.send(raw).code for raw in raws] == [250] * 3
    town.settled()
    refs = [ref for (ref,) in town.rows("SELECT ref FROM incidents")]
    assert len(refs) == 3
    accounted_for(town, refs)
    assert len(town.pages("ana")) == 3
    assert town.rows("SELECT count(*) FROM timeline WHERE event = 'mail.resent'") == [(3,)]


def hang_up_after_the_dot(town: World, raw: bytes) -> None:
    town.remember(raw)
    with closing(town.connect()) as client:
        client.ehlo()
        client.mail("rita@example.com")
        client.rcpt("panic@example.com")
        assert client.docmd("DATA")[0] == 354
        assert client.sock is not None
        client.sock.sendall(smtplib._quote_periods(raw) + b".\r\n")  # type: ignore[attr-defined]


# -- after the 250


@pytest.mark.row(3, "kill -9 after the 250, before it is read", "found at the start; paged within 30 s")
def test_a_mail_nobody_had_read_when_the_daemon_was_killed_is_paged_right_after_the_next_start(town: World) -> None:
    town.start()
    readers = readers_of(town.program)
    assert len(readers) == 2
    with frozen(*readers):
        ref = town.panic()
        town.program.kill()
        assert town.rows("SELECT state FROM mails") == [("accepted",)]
    ready_at, _ = town.start().wait_for("ready")
    assert town.page("ana", ref).received_at - ready_at < 30
    accounted_for(town, [ref])


@pytest.mark.row(4, "kill -9 while a page is sent", "sent again, the same Message-ID, one extra copy at most")
@pytest.mark.parametrize(
    ("point", "sent"),
    [
        if_long("page.sending", 1),
        ("page.sent", 2),
        if_long("page.settle.commit", 2),
    ],
)
def test_a_page_killed_on_its_way_is_sent_again_as_the_same_mail(town: World, point: str, sent: int) -> None:
    start_to_die(town, point)
    ref = town.panic()
    it_died(town)
    start_again(town)
    town.page("ana", ref, count=sent)
    accounted_for(town, [ref])
    assert len(copies(town, "ana", ref)) == sent
    assert len(set(copies(town, "ana", ref))) == 1


@pytest.mark.row(4, "kill -9 while the relay takes its time after the dot", "sent again, the same Message-ID")
@pytest.mark.long
def test_a_page_the_relay_had_and_did_not_answer_when_the_daemon_was_killed_comes_once_more(town: World) -> None:
    town.relay.rule("ana@", "hang", times=1)
    town.start()
    ref = town.panic()
    town.page("ana", ref)
    town.program.kill()
    town.relay.clear_rules()
    start_again(town)
    again = town.page("ana", ref, count=2)
    assert again.received_at - town.program.wait_for("ready")[0] < 20
    town.settled()
    assert copies(town, "ana", ref) == [again.header("Message-ID")] * 2


@pytest.mark.row(5, "kill -9 while GitLab makes the issue", "looked for and adopted; exactly one issue")
def test_issues_that_were_asked_for_when_the_daemon_was_killed_are_one_each(town: World) -> None:
    town.gitlab.fault("silent_after", match="POST .*/issues$")
    town.gitlab.fault("hang", match="POST .*/issues$")
    town.start()
    refs = [town.panic("made, and never answered"), town.panic("not made")]
    eventually(lambda: creates(town) == 2, "GitLab was not asked twice")
    pages_are_settled(town)
    town.program.kill()
    town.gitlab.clear_faults()
    start_again(town)
    accounted_for(town, refs)
    assert len(town.gitlab.issues) == 2


def pages_are_settled(town: World) -> None:
    unsettled = "SELECT 1 FROM outbox WHERE do = 'page' AND state IN ('queued', 'trying')"
    town.until(lambda: not town.rows(unsettled), SOON, "a page is not settled")


def creates(town: World) -> int:
    return sum(asked.method == "POST" and asked.path.endswith("/issues") for asked in town.gitlab.requests)


# -- the escalation policy


@pytest.mark.row(6, "kill -9 while the tick takes a step", "the step is still due and is taken, once")
@pytest.mark.parametrize("point", [if_long("tick.move.commit"), "tick.move.committed"])
def test_a_step_that_was_being_taken_when_the_daemon_was_killed_is_taken_once(town: World, point: str) -> None:
    town.start()
    ref = town.panic()
    town.page("ana", ref)
    town.settled()
    town.program.kill()
    it_happened_earlier(town.database, timedelta(minutes=10))
    town.environ["PANICMAIL_CRASH_AT"] = point
    town.spawn()
    it_died(town)
    assert town.pages("max") == []
    del town.environ["PANICMAIL_CRASH_AT"]
    ready_at, _ = town.start().wait_for("ready")
    assert town.page("max", ref).received_at - ready_at < 30
    town.settled()
    assert (len(town.pages("max", ref)), len(town.pages("ana", ref))) == (1, 2)


@pytest.mark.row(7, "kill -9 while an acknowledgement is taken", "state and times change together; late steps are void")
@pytest.mark.parametrize(
    ("point", "found"),
    [
        if_long("mails.understand.commit", ("open", 1)),
        ("mails.understand.committed", ("acked", 0)),
    ],
)
def test_an_acknowledgement_cut_short_is_taken_whole_and_its_late_step_does_nothing(
    town: World, point: str, found: tuple[str, int]
) -> None:
    start_to_die(town, f"{point}:2")
    ref = town.panic()
    page = town.page("ana", ref)
    assert town.reply(page, "ack").code == 250
    it_died(town)
    assert town.rows("SELECT state, next_step_at IS NOT NULL FROM incidents") == [found]
    town.start()
    town.until(lambda: acked_by_ana(town), SOON, "the acknowledgement was lost")
    town.settled()
    town.program.kill()
    it_happened_earlier(town.database, timedelta(minutes=12))  # past its step, before the reminder
    town.start()
    told = town.received("ana", lambda got: got.subject.startswith(f"[{ref}]"))
    assert "Ana Reyes has it" in told.subject
    town.settled()
    assert town.pages("max") == []
    assert len(town.pages("ana", ref)) == 1


def acked_by_ana(town: World) -> bool:
    return town.rows("SELECT state, holder, next_step_at FROM incidents") == [("acked", "ana", None)]


# -- under load


@pytest.mark.row(
    43, "kill -9 at random moments under load", "a 250 is one incident, one issue, a page; one copy a life"
)
@pytest.mark.long
@pytest.mark.parametrize("seed", [7])
def test_twenty_mails_at_once_and_kills_at_random_moments_lose_nothing_that_had_its_250(town: World, seed: int) -> None:
    moments = random.Random(seed)
    refs: list[str] = []
    for life in range(4):
        town.start()
        with ThreadPoolExecutor(5) as pool:
            answers: list[Future[str]] = [pool.submit(sent, town, f"load {5 * life + n}") for n in range(5)]
            town.program.wait_for("mail.accepted")
            time.sleep(moments.uniform(0, 0.15))  # the moment is what is tried: there is nothing to wait for
            town.program.kill()
            refs += [ref for ref in (answer.result() for answer in answers) if ref]
    assert refs
    start_again(town)
    accounted_for(town, refs)
    assert town.rows("SELECT count(*) FROM mails") == town.rows("SELECT count(*) FROM incidents")
    assert len(town.gitlab.issues) == town.rows("SELECT count(*) FROM incidents")[0][0]
    one_copy_a_life(town)


def sent(town: World, subject: str) -> str:
    """The REF of a mail that got its 250; "" for one that did not."""
    try:
        answer = town.send(mail("My files are .locked, all of them.", subject=subject))
    except OSError:  # nobody listens any more
        return ""
    return answer.ref if answer.code == 250 else ""
