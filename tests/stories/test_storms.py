"""A flood of one mailbox is one incident more, nothing of it is lost, and nobody else's mail joins it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.errors import Mistake
from panicmail.incident import storm_rules
from panicmail.incident.model import Incident, State
from panicmail.incident.reply_commands import Command
from panicmail.incident.storm_rules import StormLimits, likeness, storm_mailbox
from panicmail.intake import storm_members
from panicmail.mail.parse.received_field import received_from
from tests.office import Office, mail

EVE = "eve@evil.example"


@pytest.fixture
def desk(tmp_path: Path, database_url: str | None) -> Iterator[Office]:
    with closing(Office(tmp_path, url=database_url, storm=StormLimits(3, timedelta(minutes=5)))) as office:
        yield office


def flood(
    desk: Office, number: int, *, first: int = 0, subject: str = "alert {}", text: str = "host {} is down"
) -> None:
    for n in range(first, first + number):
        desk.deliver(mail(text.format(n), subject=subject.format(n), sender=EVE), EVE)


def the_storm(desk: Office) -> Incident:
    found = [each for each in desk.incidents() if "storm.began" in desk.events(each)]
    assert len(found) == 1
    return found[0]


def members(desk: Office, storm: Incident) -> int:
    found = desk.store.read(lambda tx: tx.storms.get(storm.id))
    assert found is not None
    return found.members


def test_the_mail_after_the_last_of_its_own_opens_the_storm_and_the_others_join_it(desk: Office) -> None:
    flood(desk, 10)
    assert len(desk.incidents()) == 4
    storm = the_storm(desk)
    assert members(desk, storm) == 6
    assert len(desk.pages("ana")) == 4
    kept = desk.store.read(lambda tx: tx.mails.of_incident(storm.id))
    assert sorted(str(each.shape) for each in kept) == [*["member"] * 6, "panic"]
    assert desk.store.read(lambda tx: tx.gaps.unfiled_mails(desk.now - timedelta(days=1))) == []
    assert desk.store.read(lambda tx: tx.invariants.violations()) == {}


def test_the_page_of_a_storm_says_what_it_is(desk: Office) -> None:
    flood(desk, 4)
    page = desk.pages("ana")[-1]
    assert "a storm: mail 4 of this sender within 5 min" in " ".join(page.text.split())


def test_a_colleague_in_the_midst_of_a_flood_is_paged(desk: Office) -> None:
    flood(desk, 6)
    colleague = desk.panic("My files are .locked.")
    assert colleague.id in {each.id for each in desk.incidents()}
    assert "Ransom note" in desk.pages("ana")[-1].subject


def test_thirty_colleagues_who_report_one_phish_are_thirty_incidents(desk: Office) -> None:
    for n in range(30):
        desk.accept(mail("Is this a phish?", subject="Phish", sender=f"r{n}@example.com"), f"r{n}@example.com")
    desk.settle()
    assert len(desk.incidents()) == 30


def test_the_same_from_by_another_host_is_another_mailbox(desk: Office) -> None:
    flood(desk, 4)
    assert members(desk, the_storm(desk)) == 0
    assert storm_mailbox(EVE, "192.0.2.1", "", ()) != storm_mailbox(EVE, "192.0.2.2", "", ())


def test_a_mail_that_names_no_clear_sender_joins_nothing(desk: Office) -> None:
    for n in range(8):
        desk.deliver(mail(f"help {n}", subject="help", sender="a@example.com, b@example.com"))
    assert len(desk.incidents()) == 8


def test_slow_mails_of_one_sender_are_no_storm(desk: Office) -> None:
    for n in range(8):
        flood(desk, 1, first=n)
        desk.wait(minutes=2)
    assert len(desk.incidents()) == 8


def test_a_storm_ends_when_it_was_quiet(desk: Office) -> None:
    flood(desk, 6)
    desk.wait(minutes=5)
    flood(desk, 1, first=6)
    assert members(desk, the_storm(desk)) == 3, "at the very end it still joins"
    desk.wait(minutes=5, seconds=1)
    flood(desk, 1, first=7)
    assert len(desk.incidents()) == 5


def test_zero_switches_storms_off(tmp_path: Path) -> None:
    with closing(Office(tmp_path, storm=StormLimits(0))) as desk:
        flood(desk, 25)
        assert len(desk.incidents()) == 25


def test_a_storm_that_was_closed_takes_in_nothing_and_the_next_one_pages(desk: Office) -> None:
    flood(desk, 5)
    storm = the_storm(desk)
    desk.act(storm, "ana", Command.YES)
    desk.act(storm, "ana", Command.RESOLVE)
    pages = len(desk.pages("ana"))
    flood(desk, 3, first=5)
    assert len(desk.incidents()) == 5
    assert len(desk.pages("ana")) == pages + 1
    assert members(desk, storm) == 1


# -- what somebody does to it


def test_an_ack_of_the_storm_takes_the_first_ones_too(desk: Office) -> None:
    flood(desk, 8)
    storm = the_storm(desk)
    desk.reply(desk.pages("ana")[-1], "ack")
    assert {(each.state, each.holder) for each in desk.incidents()} == {(State.ACKED, "ana")}
    answer = desk.sent("ana")[-1]
    others = [each.ref for each in desk.incidents() if each.id != storm.id]
    assert all(ref in answer.text for ref in others)
    desk.wait(minutes=14)
    assert desk.pages("max") == []


def test_an_ack_of_one_of_the_first_takes_nothing_else(desk: Office) -> None:
    flood(desk, 8)
    desk.reply(desk.pages("ana")[0], "ack")
    assert sum(each.state is State.ACKED for each in desk.incidents()) == 1


def test_one_that_somebody_else_has_stays_theirs(desk: Office) -> None:
    flood(desk, 4)
    first = next(each for each in desk.incidents() if each.id != the_storm(desk).id)
    desk.act(first, "bo", Command.TAKE)
    desk.act(the_storm(desk), "ana", Command.YES)
    assert desk.incident(first).holder == "bo"


def test_taking_the_storm_over_takes_what_went_with_it(desk: Office) -> None:
    flood(desk, 5)
    desk.act(the_storm(desk), "ana", Command.YES)
    desk.act(the_storm(desk), "max", Command.TAKE)
    assert {each.holder for each in desk.incidents()} == {"max"}


def test_closing_the_storm_closes_what_is_with_its_holder(desk: Office) -> None:
    flood(desk, 5)
    desk.act(the_storm(desk), "ana", Command.YES)
    desk.act(the_storm(desk), "ana", Command.RESOLVE)
    assert {each.state for each in desk.incidents()} == {State.RESOLVED}


def test_the_others_hear_of_the_storm_once_and_not_of_each(desk: Office) -> None:
    flood(desk, 5)
    desk.wait(minutes=15)
    before = len(desk.sent("max"))
    assert before
    desk.act(the_storm(desk), "ana", Command.YES)
    assert len(desk.sent("max")) == before + 1


def test_a_silent_holder_is_asked_about_the_storm_and_not_about_each(desk: Office) -> None:
    flood(desk, 5)
    desk.act(the_storm(desk), "ana", Command.YES)
    before = len(desk.pages("ana"))
    desk.wait(minutes=35)
    asked = desk.pages("ana")[before:]
    assert asked
    assert all(the_storm(desk).ref in page.subject for page in asked)


# -- what is told


def test_what_joins_after_the_ack_pages_nobody_and_is_told_every_five_minutes(desk: Office) -> None:
    flood(desk, 5)
    desk.act(the_storm(desk), "ana", Command.YES)
    desk.wait(minutes=4)
    pages, sent = len(desk.pages("ana")), len(desk.sent("ana"))
    for n in range(5, 25):
        flood(desk, 1, first=n)
        desk.wait(seconds=15)
    told = desk.sent("ana")[sent:]
    assert len(desk.pages("ana")) == pages
    assert 1 <= len(told) <= 2
    assert all("Storm: " in each.subject for each in told)
    notes = [text for _, text, _ in desk.gitlab.notes if "joined the storm" in text]
    assert notes
    desk.wait(minutes=5)
    notes = [text for _, text, _ in desk.gitlab.notes if "joined the storm" in text]
    assert "alert 24" in notes[-1]


def test_one_unlike_the_rest_is_told_to_the_holder_at_once(desk: Office) -> None:
    flood(desk, 5)
    desk.act(the_storm(desk), "ana", Command.YES)
    desk.wait(seconds=1)
    sent = len(desk.sent("ana"))
    flood(desk, 1, first=7)
    desk.wait(seconds=1)
    assert len(desk.sent("ana")) == sent, "it differs in its number alone"
    flood(desk, 1, subject="Ransom note", text="My files are .locked")
    desk.wait(seconds=1)
    told = desk.sent("ana")[sent:]
    assert len(told) == 1
    assert "Ransom note" in told[0].text
    assert "My files are .locked" in told[0].text


def test_many_unlike_the_rest_are_one_mail_a_minute(desk: Office) -> None:
    flood(desk, 5)
    desk.act(the_storm(desk), "ana", Command.YES)
    desk.wait(seconds=1)
    sent = len(desk.sent("ana"))
    words = ["apple", "pear", "plum", "fig", "lime", "grape", "peach", "melon", "lemon", "cherry", "quince", "date"]
    for word in words:
        flood(desk, 1, subject=word, text=word)
        desk.wait(seconds=10)
    told = desk.sent("ana")[sent:]
    assert len(told) <= 3
    desk.wait(minutes=1)
    everything = "".join(each.text for each in desk.sent("ana")[sent:])
    assert all(word in everything for word in words)


def test_what_was_unlike_the_rest_before_the_ack_is_told_with_it(desk: Office) -> None:
    flood(desk, 5)
    flood(desk, 1, subject="Ransom note", text="My files are .locked")
    desk.wait(minutes=6)
    desk.act(the_storm(desk), "ana", Command.YES)
    desk.wait(seconds=1)
    assert any("My files are .locked" in each.text for each in desk.sent("ana") if "Storm: " in each.subject)


def test_one_unlike_the_rest_is_told_though_the_storm_was_closed_before_it_could_be(desk: Office) -> None:
    flood(desk, 5)
    desk.act(the_storm(desk), "ana", Command.YES)
    flood(desk, 1, subject="Strange login", text="Somebody is in the mail server")
    desk.wait(seconds=1)
    flood(desk, 1, subject="Ransom note", text="My files are .locked")
    desk.act(the_storm(desk), "ana", Command.RESOLVE)
    desk.wait(minutes=2)
    assert any("My files are .locked" in each.text for each in desk.sent("ana"))


def test_of_a_storm_that_was_paged_once_those_paged_hear_what_is_unlike_the_rest(tmp_path: Path) -> None:
    office = Office(tmp_path, storm=StormLimits(3), known_senders=("example.com",), once_unknown=True)
    with closing(office) as desk:
        flood(desk, 5)
        flood(desk, 1, subject="Ransom note", text="My files are .locked")
        desk.wait(seconds=2)
        assert any("My files are .locked" in each.text for each in desk.sent("ana"))
        assert len(desk.pages("ana")) == 4


def test_a_clock_that_was_put_back_keeps_nothing_untold(desk: Office) -> None:
    flood(desk, 5)
    desk.act(the_storm(desk), "ana", Command.YES)
    flood(desk, 1, first=7)
    desk.now -= timedelta(days=1)
    desk.escalation.tick()
    desk.settle()
    assert any("joined the storm" in text for _, text, _ in desk.gitlab.notes)


def test_members_arm_no_clock_of_unanswered_words(desk: Office) -> None:
    flood(desk, 5)
    desk.act(the_storm(desk), "ana", Command.YES)
    remind_at = the_storm(desk).remind_at
    flood(desk, 5, first=10)
    assert the_storm(desk).remind_at == remind_at
    assert the_storm(desk).words_at is None


def test_five_receipts_an_hour_go_to_one_mailbox_in_a_storm(desk: Office) -> None:
    rita = "rita@example.com"
    for n in range(80):
        desk.deliver(mail(f"alert {n}", subject=f"alert {n}", sender=rita), rita)
        desk.now += timedelta(seconds=90)
    receipts = [each for each in desk.sent(rita) if "We have your" in each.text]
    assert 7 <= len(receipts) <= 10, "four at first, and every twelve minutes after an hour"
    assert "It is kept with the others you sent" in receipts[-1].text


# -- taken apart


def test_split_makes_each_member_an_incident_of_its_own(desk: Office) -> None:
    flood(desk, 8)
    storm = the_storm(desk)
    count = desk.store.write("command.act", lambda tx: storm_members.split(tx, storm, "root on host"))
    assert count == 4
    desk.settle()
    assert len(desk.incidents()) == 8
    assert len(desk.pages("ana")) == 8
    flood(desk, 5, first=8)
    assert len(desk.incidents()) == 13, "what comes now is no storm either"
    desk.wait(minutes=5, seconds=1)
    flood(desk, 5, first=20)
    assert len(desk.incidents()) == 17, "after a pause it may be one again"


def test_what_is_no_storm_cannot_be_taken_apart_nor_a_storm_twice(desk: Office) -> None:
    flood(desk, 5)
    storm = the_storm(desk)
    first = next(each for each in desk.incidents() if each.id != storm.id)
    with pytest.raises(Mistake, match="is no storm"):
        desk.store.write("command.act", lambda tx: storm_members.split(tx, first, "root"))
    desk.store.write("command.act", lambda tx: storm_members.split(tx, storm, "root"))
    with pytest.raises(Mistake, match="taken apart before"):
        desk.store.write("command.act", lambda tx: storm_members.split(tx, storm, "root"))


def test_what_is_paged_once_is_a_storm_of_its_own_and_swallows_no_panic(tmp_path: Path) -> None:
    office = Office(tmp_path, storm=StormLimits(3), known_senders=("example.com",), once_unknown=True)
    with closing(office) as desk:
        flood(desk, 8)
        assert len(desk.pages("ana")) == 4
        assert members(desk, the_storm(desk)) == 4
        desk.settings = replace(desk.settings, once_unknown=False)
        flood(desk, 1, first=9)
        assert [each.state for each in desk.incidents()].count(State.OPEN) == 1


# -- whose flood it is

RELAY = ipaddress.ip_network("192.0.2.0/24")


@pytest.mark.parametrize(
    ("field", "address"),
    [
        (b"from mail.example.net (mail.example.net [198.51.100.7]) by mx.example.com (Postfix)", "198.51.100.7"),
        (b"from [10.0.0.5] (unknown [198.51.100.7])\r\n\t(using TLSv1.3 with cipher X (256/256 bits))\r\n\tby mx", ""),
        (b"from [10.0.0.5] (unknown [198.51.100.7])\r\n\t(using TLSv1.3)\r\n\tby mx.example.com", "198.51.100.7"),
        (b"from [198.51.100.7] (helo=[10.0.0.5]) by mx.example.com with esmtp (Exim 4.97)", "198.51.100.7"),
        (b"from host.example.net ([198.51.100.7]:4711 helo=x) by mx with esmtp", "198.51.100.7"),
        (b"from EX1.example.com (10.1.2.3) by EX2.example.com (10.1.2.4) with Microsoft SMTP Server", "10.1.2.3"),
        (b"from unknown (HELO evil) (198.51.100.7) by mx with SMTP; 30 Nov 2026 02:00:00 -0000", "198.51.100.7"),
        (b"from x.example (x.example [IPv6:2001:db8::25]) by mx.example.com", "2001:db8::25"),
        (b"from localhost by mx.example.com with local", ""),
        (b"by mx.example.com (Postfix, from userid 1000)", ""),
        (b"", ""),
        (b"from (((((( by", ""),
    ],
)  # fmt: skip
def test_the_peer_is_read_from_what_the_server_saw(field: bytes, address: str) -> None:
    assert received_from(field) == address


@given(st.binary(max_size=300))
def test_any_received_field_is_read_without_an_error(field: bytes) -> None:
    found = received_from(b"from " + field)
    assert found == "" or ipaddress.ip_address(found)


def test_behind_a_relay_of_ours_the_peer_is_the_relays(desk: Office) -> None:
    by_relay = storm_mailbox(EVE, "192.0.2.1", "198.51.100.7", [RELAY])
    assert by_relay == storm_mailbox(EVE, "198.51.100.7", "", [])
    assert storm_mailbox(EVE, "192.0.2.1", "", [RELAY]) == "", "a relay that says nothing makes no storm"
    assert storm_mailbox(EVE, "203.0.113.9", "198.51.100.7", [RELAY]) != by_relay, "a stranger's Received says nothing"


@given(st.text(st.characters(exclude_characters="{}"), max_size=80), st.integers(0, 10**9), st.integers(0, 10**9))
def test_digits_and_times_make_no_difference(word: str, one: int, other: int) -> None:
    subject, text = f"{word} {{}} 02:0{{}}", f"{word} at {{}}"
    said = [likeness(subject.format(n, n % 10), text.format(n)) for n in (one, other)]
    assert said[0] == said[1]


def test_other_words_make_a_difference() -> None:
    assert likeness("alert 1", "host 12 is down") != likeness("alert 1", "my files are locked")


@given(st.lists(st.integers(0, 900), min_size=1, max_size=30))
def test_a_storm_is_told_of_in_time_and_never_more_than_once_a_minute(gaps: list[int]) -> None:
    now = datetime(2026, 11, 30, tzinfo=UTC)
    storm = storm_rules.Storm(incident_id="i", mailbox="m", first=(), last_at=now)
    told: list[datetime] = []
    for gap in gaps:
        now += timedelta(seconds=gap)
        if storm.tell_at is not None and storm.tell_at <= now:
            told.append(storm.tell_at)
            storm = replace(storm, tell_at=None, told_at=told[-1], told=storm.members)
        storm = storm_rules.joined(storm, now, now, is_unlike=True, is_heard=True)
        assert storm.tell_at is not None
        assert now <= storm.tell_at + storm_rules.UNLIKE_EVERY
        assert storm.tell_at <= now + storm_rules.UNLIKE_EVERY
    assert all(later - sooner >= storm_rules.UNLIKE_EVERY for sooner, later in pairwise(told))
