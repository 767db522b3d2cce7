"""A mail server in front that drops what stands behind the "+" of a recipient: To and Cc still show it."""

from __future__ import annotations

import pytest

from panicmail.incident.model import State
from tests.office import PANIC, Office, mail


def to_plain(text: str, to: str, sender: str, *, field: str = "To", in_reply_to: str = "") -> bytes:
    """A mail that names `to` in a field and is delivered to the plain address."""
    raw = mail(text, sender=sender, subject="Re: x", in_reply_to=in_reply_to).replace(
        f"To: {PANIC}\r\n".encode(), b"", 1
    )
    return f"{field}: Panic <{to}>\r\n".encode() + raw


@pytest.mark.parametrize("field", ["To", "Cc", "CC"])
@pytest.mark.parametrize("threaded", [True, False])
def test_an_ack_whose_token_the_server_dropped_counts_by_the_field_that_shows_it(
    desk: Office, field: str, threaded: bool
) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    reference = page.message_id if threaded else ""
    raw = to_plain("ack", page.reply_to, "Ana Reyes <ana@example.com>", field=field, in_reply_to=reference)
    desk.deliver(raw, "ana@example.com")
    assert desk.incident(incident).holder == "ana"
    assert len(desk.incidents()) == 1


@pytest.mark.parametrize("sender", ["max@example.com", "rita@example.com", "mallory@else.example"])
def test_a_token_shown_in_to_says_nothing_for_anybody_else(desk: Office, sender: str) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.deliver(to_plain("ack", page.reply_to, sender, in_reply_to=page.message_id), sender)
    assert desk.incident(incident).state is State.OPEN


def test_a_token_shown_in_to_that_does_not_verify_makes_no_answer(desk: Office) -> None:
    desk.panic()
    forged = desk.page("ana").reply_to[:-18] + "aaaaaa@example.com"
    desk.deliver(to_plain("ack, and a new matter: the door is open", forged, "ana@example.com"), "ana@example.com")
    assert len(desk.incidents()) == 2, "nothing ties it: a panic"


def test_the_token_of_the_recipient_rules_over_those_that_to_shows(desk: Office) -> None:
    first, second = desk.panic(), desk.panic("Another matter.", subject="Door open")
    pages = desk.pages("ana")
    raw = to_plain("ack", pages[0].reply_to, "ana@example.com")
    desk.deliver(raw, "ana@example.com", [pages[1].reply_to])
    assert (desk.incident(first).holder, desk.incident(second).holder) == (None, "ana")
