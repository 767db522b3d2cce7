"""Many pages to one person go out as one, every incident keeps its own clock, and a reply acts on what it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.delivery import outbox_worker
from panicmail.errors import Permanent, Temporary
from panicmail.incident.model import Incident, State
from panicmail.incident.push_channel import channel
from panicmail.incident.reply_tokens import Addresses
from panicmail.incident.storm_rules import DigestLimits, named_refs, spell_out
from tests.office import Office, Posted, mail

LIMITS = DigestLimits(3, timedelta(seconds=30))


@pytest.fixture
def desk(tmp_path: Path, database_url: str | None) -> Iterator[Office]:
    with closing(Office(tmp_path, url=database_url, digest=LIMITS)) as office:
        yield office


def flood(desk: Office, number: int, *, first: int = 0) -> None:
    """As many colleagues write, all accepted before anything is sent."""
    for n in range(first, first + number):
        desk.accept(mail(f"help {n}", subject=f"matter {n}", sender=f"r{n}@example.com"), f"r{n}@example.com")
    desk.settle()


def digest_of(desk: Office, number: int) -> Posted:
    """What as many colleagues wrote, but the first four, as one page."""
    flood(desk, number)
    desk.wait(seconds=31)
    return digests(desk)[0]


def digests(desk: Office, person: str = "ana") -> list[Posted]:
    return [page for page in desk.pages(person) if " more" in page.subject]


def states(desk: Office) -> list[State]:
    return [each.state for each in desk.incidents()]


def of(desk: Office, subject: str) -> Incident:
    return next(each for each in desk.incidents() if each.subject == subject)


def test_up_to_the_limit_every_page_is_a_mail_of_its_own(desk: Office) -> None:
    flood(desk, 3)
    assert len(desk.pages("ana")) == 3
    assert digests(desk) == []


def test_beyond_it_what_is_new_is_one_page_that_names_each(desk: Office) -> None:
    digest = digest_of(desk, 20)
    assert digests(desk) == [digest]
    named = [each for each in desk.incidents() if each.ref in digest.text]
    alone = [page for page in desk.pages("ana") if page is not digest]
    assert len(named) + len(alone) == 20
    assert digest.subject == f"[PANIC {digest.subject[7:12]}] and {len(named) - 1} more"
    for each in named:
        assert each.subject in digest.text
        assert each.reporter_address in digest.text
    assert "ack all" in digest.text


def test_what_waits_already_is_one_page_at_once(desk: Office) -> None:
    desk.lanes[0].work = lambda: False  # type: ignore[method-assign]
    flood(desk, 12)
    del desk.lanes[0].work
    desk.settle()
    assert [page.subject[-11:] for page in desk.pages("ana")] == ["and 11 more"]


def test_the_next_digest_comes_thirty_seconds_later_with_all_that_is_new(desk: Office) -> None:
    digest_of(desk, 10)
    flood(desk, 5, first=10)
    desk.wait(seconds=27)
    assert len(digests(desk)) == 1
    desk.wait(seconds=3)
    assert len(digests(desk)) == 2
    assert all(f"matter {n}" in digests(desk)[-1].text for n in range(10, 15))


def test_what_one_digest_has_no_room_for_follows_at_once(desk: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_worker, "MOST", 5)
    desk.lanes[0].work = lambda: False  # type: ignore[method-assign]
    flood(desk, 12)
    del desk.lanes[0].work
    desk.settle()
    everything = "".join(page.subject + page.text for page in desk.pages("ana"))
    assert all(each.ref in everything for each in desk.incidents())
    assert len(desk.pages("ana")) == 3


def test_one_page_alone_is_a_page_as_ever(desk: Office) -> None:
    digest_of(desk, 10)
    flood(desk, 1, first=10)
    desk.wait(seconds=31)
    assert len(digests(desk)) == 1
    assert "matter 10" in desk.pages("ana")[-1].subject


def test_a_page_that_waits_for_a_digest_makes_nobody_unreachable(desk: Office) -> None:
    flood(desk, 10)
    flood(desk, 5, first=10)
    desk.wait(seconds=59)
    assert desk.pages("max") == []
    assert not any(each.away for each in desk.incidents())


def test_the_clock_of_each_runs_on_and_what_breaches_together_is_one_page(desk: Office) -> None:
    flood(desk, 12)
    desk.wait(minutes=15, seconds=5)
    assert all(each.breached_at for each in desk.incidents())
    assert len(digests(desk, "max")) == 1
    assert len(desk.pages("max")) <= LIMITS.after + 1


def test_no_digest_when_it_is_switched_off(tmp_path: Path) -> None:
    with closing(Office(tmp_path, digest=DigestLimits(0))) as desk:
        flood(desk, 20)
        assert len(desk.pages("ana")) == 20


def test_the_managers_and_the_operators_hear_of_it_once(desk: Office) -> None:
    desk.settings = replace(desk.settings, operators=("bo",))
    digest_of(desk, 10)
    flood(desk, 10, first=10)
    desk.wait(minutes=2)
    assert sum("paged by digests" in each.subject for each in desk.sent("max")) == 1
    assert sum("paged by digests" in each.subject for each in desk.sent("bo")) == 1


# -- replies


def test_ack_all_takes_what_this_digest_named_and_nothing_else(desk: Office) -> None:
    digest = digest_of(desk, 12)
    flood(desk, 3, first=12)
    desk.reply(digest, "ack all")
    for each in desk.incidents():
        assert (each.state is State.ACKED) == (each.ref in digest.text), each.subject
    answers = [each for each in desk.sent("ana") if "Clock stopped" in each.subject]
    assert len(answers) == 1
    assert "Also yours now" in answers[0].text


def test_ack_and_refs_take_those(desk: Office) -> None:
    digest = digest_of(desk, 12)
    one, other = [each for each in desk.incidents() if each.ref in digest.text][:2]
    desk.reply(digest, f"ack {one.ref} and {other.ref}")
    assert {each.id for each in desk.incidents() if each.state is State.ACKED} == {one.id, other.id}


def test_a_bare_ack_is_a_question_back_and_its_answer_counts(desk: Office) -> None:
    digest = digest_of(desk, 12)
    desk.reply(digest, "ack")
    assert set(states(desk)) == {State.OPEN}
    question = desk.sent("ana")[-1]
    assert "which one do you mean" in question.subject
    desk.reply(question, "ack all")
    assert State.ACKED in states(desk)


@pytest.mark.parametrize("words", ["thanks, what is this?", "I will look tomorrow", "ack ZZZZZ", "resolve", "to max"])
def test_what_does_not_say_which_takes_nothing(desk: Office, words: str) -> None:
    desk.reply(digest_of(desk, 12), words)
    assert set(states(desk)) == {State.OPEN}
    assert desk.pages("max") == []


def test_another_line_that_names_another_one_is_a_doubt(desk: Office) -> None:
    digest = digest_of(desk, 12)
    one, other = [each for each in desk.incidents() if each.ref in digest.text][:2]
    desk.reply(digest, f"ack {one.ref}\nbut {other.ref} is for Max")
    assert set(states(desk)) == {State.OPEN}


def test_a_no_calls_others_for_each(desk: Office) -> None:
    digest = digest_of(desk, 12)
    desk.reply(digest, "no")
    named = [each for each in desk.incidents() if each.ref in digest.text]
    assert all("ana" in each.away for each in named)
    assert digests(desk, "max") or len(desk.pages("max")) == len(named)


def test_somebody_elses_mail_to_its_address_takes_nothing(desk: Office) -> None:
    desk.reply(digest_of(desk, 12), "ack all", sender="eve@evil.example")
    assert set(states(desk)) == {State.OPEN}


def test_words_beyond_the_command_are_a_note_on_each(desk: Office) -> None:
    digest = digest_of(desk, 12)
    one = next(each for each in desk.incidents() if each.ref in digest.text)
    desk.reply(digest, f"ack {one.ref}\nI see it in the mail logs.")
    assert "person.wrote" in desk.events(one)


def test_where_addresses_carry_no_token_the_reference_says_which_digest(tmp_path: Path) -> None:
    office = Office(tmp_path, digest=LIMITS, addresses=Addresses(["panic@example.com"], "panic@example.com", "mx"))
    with closing(office) as desk:
        desk.reply(digest_of(desk, 12), "ack all")
        assert State.ACKED in states(desk)


def test_an_absence_counts_for_each_page_in_it(desk: Office) -> None:
    digest = digest_of(desk, 12)
    away = mail("I am out of office.", sender="ana@example.com", subject="Automatic reply: panic",
                in_reply_to=digest.message_id)  # fmt: skip
    desk.deliver(b"Auto-Submitted: auto-replied\r\n" + away, "", [digest.reply_to])
    named = [each for each in desk.incidents() if each.ref in digest.text]
    assert all("ana" in each.away for each in named)


def test_a_bounce_counts_for_each_page_in_it(desk: Office) -> None:
    digest = digest_of(desk, 12)
    bounce = mail("550 5.1.1 no such user", sender="MAILER-DAEMON@mx.example.com", subject="Undelivered Mail Returned")
    desk.deliver(bounce, "", [digest.mail_from])
    named = [each for each in desk.incidents() if each.ref in digest.text]
    assert len(named) > 1
    assert all("ana" in each.away for each in named)


# -- the relay


def test_a_digest_the_relay_puts_off_is_tried_again_and_nothing_is_lost(desk: Office) -> None:
    desk.relay.failures = [Temporary("450 later")] * 4
    flood(desk, 12)
    desk.wait(minutes=2)
    everything = "".join(page.subject + page.text for page in desk.pages("ana"))
    assert all(each.ref in everything for each in desk.incidents())


def test_a_digest_that_was_not_sent_makes_the_next_try_wait_no_longer_than_any_page(desk: Office) -> None:
    desk.lanes[0].work = lambda: False  # type: ignore[method-assign]
    flood(desk, 12)
    del desk.lanes[0].work
    desk.relay.failures = [Temporary("450 later")] * 2
    desk.wait(seconds=12)
    assert desk.relay.failures == []
    everything = "".join(page.subject + page.text for page in desk.pages("ana"))
    assert all(each.ref in everything for each in desk.incidents())


def test_phones_ring_once_for_many_and_pagerduty_for_each(desk: Office) -> None:
    channels = (channel("ntfys://u:p@ntfy.example.com/ana"), channel("pagerduty:0123456789abcdef0123456789abcdef"))
    people = {**desk.settings.people, "ana": replace(desk.settings.people["ana"], push=channels)}
    desk.settings = replace(desk.settings, people=people)
    flood(desk, 12)
    desk.wait(seconds=31)
    texts = desk.phones.texts(channels[0].url)
    assert len(texts) < 12
    assert any(re.search(r"\d incidents", text) for text in texts), texts
    assert len({key for _, action, key, _ in desk.phones.events if action == "trigger"}) == 12


def test_a_digest_the_relay_refuses_for_good_makes_its_person_unreachable(desk: Office) -> None:
    desk.relay.refused["ana@example.com"] = Permanent("550 no such user")
    flood(desk, 12)
    desk.wait(seconds=70)
    assert all("ana" in each.away for each in desk.incidents())
    everything = "".join(page.subject + page.text for page in desk.pages("max"))
    assert all(each.ref in everything for each in desk.incidents())


def test_no_page_waits_for_a_digest_of_a_time_that_was_wrong() -> None:
    now, minute = datetime(2026, 11, 22, 2, 7, tzinfo=UTC), timedelta(minutes=1)
    assert LIMITS.next_at(now + timedelta(days=1), now, minute) == now
    assert LIMITS.next_at(now, now, minute) == now + timedelta(seconds=30)
    assert LIMITS.next_at(None, now, minute) == now


# -- rules


@given(st.lists(st.sampled_from(["AAAAA", "BBBBB", "ack", "and", "no", ","]), max_size=12))
def test_a_line_names_exactly_the_refs_that_stand_in_it(words: list[str]) -> None:
    line, named = spell_out(" ".join(words), {"AAAAA", "BBBBB"}, "AAAAA")
    assert set(named) == set(words) & {"AAAAA", "BBBBB"}
    assert "BBBBB" not in line
    assert [w for w in line.split() if w not in {"AAAAA", "and"}] == [w for w in words if w in {"ack", "no"}]


def test_refs_are_read_however_they_are_written() -> None:
    assert spell_out("ack aaaaa, bbbbb.", {"AAAAA", "BBBBB"}, "AAAAA") == ("ack AAAAA", ["AAAAA", "BBBBB"])
    assert named_refs("ack AAAAA\nnot BBBBB", {"AAAAA", "BBBBB"}, "AAAAA").about("ack AAAAA") == ()
