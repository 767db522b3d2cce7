"""Somebody of ours whose words cannot count where they wrote them: told so, with what would count, each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from panicmail.delivery.fallback.remembered_step import ROUND_FROM_MEMORY
from panicmail.incident.model import State
from panicmail.incident.reply_tokens import Purpose
from panicmail.mail.compose.letterhead import letter_id, page_id
from tests.office import PANIC, Office, Posted, mail
from tests.push_channels import MAX, phones


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path, people=phones(max=(MAX,)))
    yield office
    office.close()


def plain_ack(page: Posted, sender: str) -> bytes:
    """An "ack" that quotes nothing and names the page it answers."""
    return mail("ack", sender=sender, subject=f"Re: {page.subject}", in_reply_to=page.message_id)


def test_a_manager_who_answers_a_forwarded_page_hears_each_time_that_it_does_not_count(desk: Office) -> None:
    incident = desk.panic()
    for n in (1, 2, 3):
        desk.reply(desk.page("ana"), "ack", sender="max@example.com")
        assert desk.incident(incident).state is State.OPEN
        assert len(desk.sent("max")) == n
        assert len(desk.phones.texts(MAX)) == n
    told = desk.sent("max")[-1]
    assert 'Clock still running: reply "take" to this mail' in told.subject
    assert "it went to the address of Ana Reyes's page, which counts for Ana alone" in told.text
    assert "You were not paged for this" in told.text
    assert "/i/" not in told.text, "a link of Max's would acknowledge"
    assert 'NOT STOPPED: you were not paged. Reply "take" to our mail.' in desk.phones.texts(MAX)[-1]
    assert all(link == "" for url, _, link in desk.phones.lines if url == MAX)
    assert sum("Clock still running" in told.subject for told in desk.sent("ana")) == 3, "Ana hears of it too"


def test_the_words_the_answer_offers_to_somebody_not_paged_do_what_they_say(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack", sender="max@example.com")
    desk.reply(desk.sent("max")[-1], "ack")
    assert desk.incident(incident).state is State.OPEN
    assert "you were not paged for it" in desk.sent("max")[-1].text
    desk.reply(desk.sent("max")[-1], "take")
    assert desk.incident(incident).holder == "max"


def test_a_manager_who_was_paged_too_is_told_to_answer_their_own_mail(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=16)
    desk.reply(desk.page("ana"), "ack", sender="max@example.com")
    told = desk.sent("max")[-1]
    assert 'Reply "ack" to THIS mail from max@example.com' in told.text
    desk.reply(told, "ack")
    assert desk.incident(incident).holder == "max"


@pytest.mark.parametrize("word", ["ack", "escalate", "resolve", "no"])
def test_a_command_in_the_thread_by_somebody_not_paged_is_answered(desk: Office, word: str) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    raw = mail(word, sender="max@example.com", subject=f"Re: {page.subject}", in_reply_to=page.message_id)
    desk.deliver(raw, "max@example.com")
    assert desk.incident(incident).state is State.OPEN
    (told,) = desk.sent("max")
    assert "it went to an address that is not the one of your page" in told.text


def test_news_in_the_thread_by_somebody_not_paged_is_not_answered(desk: Office) -> None:
    desk.panic()
    page = desk.page("ana")
    raw = mail("We see it on db2 as well.", sender="max@example.com", subject="Re: x", in_reply_to=page.message_id)
    desk.deliver(raw, "max@example.com")
    assert desk.sent("max") == []


@pytest.mark.parametrize("to", ["", PANIC])
def test_an_answer_from_an_address_not_listed_is_told_at_the_configured_one_each_time(desk: Office, to: str) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    for n in (1, 2):
        before = len(desk.sent("ana"))
        desk.deliver(plain_ack(page, "Ana <ana@gmail.example>"), "ana@gmail.example", [to or page.reply_to])
        said = [told for told in desk.sent("ana")[before:] if "Clock still running" in told.subject]
        assert len(said) == 1, n
        assert "it came from ana@gmail.example, which is not listed for you" in said[0].text
    assert desk.incident(incident).state is State.OPEN
    assert desk.sent("ana@gmail.example") == []


def test_a_stranger_who_writes_to_somebodys_address_is_told_nothing(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "ack", sender="mallory@else.example")
    assert desk.sent("mallory@else.example") == []
    assert desk.sent("max") == []


def test_the_automatic_answer_of_somebody_not_paged_is_not_answered(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "I am away.", sender="max@example.com", extra="Auto-Submitted: auto-replied")
    assert desk.sent("max") == []


def test_when_somebody_has_it_the_answer_says_who(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    before = len(desk.sent("max"))
    desk.reply(desk.page("ana"), "resolve", sender="max@example.com")
    assert desk.incident(incident).state is State.ACKED
    (told,) = desk.sent("max")[before:]
    assert "Ana Reyes has it since" in told.text
    assert 'Reply "take" for it to be yours.' in told.text


def test_a_yes_to_a_page_from_memory_counts_though_the_database_knows_of_no_such_page(desk: Office) -> None:
    """The fault run: while the database was away the SMOC was called for a mail of the spool, and their yes, which came
    when it answered again, was told "you were not paged for it"."""
    incident = desk.panic()
    routes = desk.settings.reply_routes
    address = routes.reply_to(Purpose.ANSWER, incident.id, "max")
    told = letter_id(incident, "max", "answer/x", routes)
    desk.deliver(mail("ack", sender="max@example.com", in_reply_to=told), "max@example.com", [address])
    assert desk.incident(incident).state is State.OPEN, "what we told them is no page"
    called = page_id(incident, "max", ROUND_FROM_MEMORY, routes)
    desk.deliver(mail("ack", sender="max@example.com", in_reply_to=called), "max@example.com", [address])
    assert (desk.incident(incident).state, desk.incident(incident).holder) == (State.ACKED, "max")
