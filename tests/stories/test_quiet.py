"""A reporter whose mailbox may not be theirs any more: the holder says so, and it gets no more mail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from panicmail.incident import reply_commands
from panicmail.incident.model import Incident, State
from panicmail.incident.reply_commands import Command
from panicmail.incident.reply_tokens import Purpose
from tests.office import Office, mail

RITA = "rita@example.com"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    one = Office(tmp_path)
    yield one
    one.close()


def held(office: Office) -> Incident:
    incident = office.panic()
    office.reply(office.page("ana"), "ack")
    assert office.incident(incident).state is State.ACKED
    return incident


def says(office: Office, text: str) -> str:
    """What the holder is answered."""
    office.reply(office.pages("ana")[0], text)
    return office.sent("ana")[-1].text


def test_quiet_stops_all_mail_to_the_reporter_and_quiet_off_lets_it_go_again(office: Office) -> None:
    incident = held(office)
    before = len(office.sent(RITA))
    answer = says(office, "quiet")
    assert "sends nothing more to the reporter's address" in answer
    assert "quiet off" in answer
    office.deliver(mail("I have more", in_reply_to=incident.message_id or ""))
    says(office, "resolve")
    assert len(office.sent(RITA)) == before
    second = held(office)
    says(office, "quiet")
    office.reply(office.page("ana"), "quiet")
    count = len(office.sent(RITA))
    office.reply(office.page("ana"), "quiet off")
    office.reply(office.page("ana"), "resolve")
    assert len(office.sent(RITA)) > count
    assert office.incident(second).state is State.RESOLVED


def test_words_for_the_reporter_stay_here_and_the_holder_is_told_where_to_write(office: Office) -> None:
    incident = held(office)
    address = office.settings.addresses.reply_to(office.settings.tokens.mint(Purpose.CONVERSATION, incident.id, "ana"))
    answer = says(office, "quiet, write to ruth@example.com instead")
    assert "Write to ruth@example.com instead" in answer
    before = len(office.sent(RITA))
    office.deliver(mail("Turn it off, Rita.", sender="ana@example.com"), "ana@example.com", [address])
    assert len(office.sent(RITA)) == before
    assert "may not be theirs any more" in office.sent("ana")[-1].text
    assert any("ruth@example.com" in note for _, note, _ in office.gitlab.notes)


def test_the_link_page_says_so_and_has_the_button_that_takes_it_back(office: Office) -> None:
    incident = held(office)
    token = office.settings.link(incident.id, "ana").rpartition("/")[2]
    view = office.links.read_link(token)
    assert view is not None
    assert "quiet" in view.acts
    office.links.act(token, "quiet")
    view = office.links.read_link(token)
    assert view is not None
    assert "quiet_off" in view.acts
    assert "no mail to the reporter's address" in view.flags
    office.links.act(token, "quiet_off")
    view = office.links.read_link(token)
    assert view is not None
    assert "no mail to the reporter's address" not in view.flags


def test_only_whoever_has_it_says_so_and_only_of_an_address_of_the_house(office: Office) -> None:
    office.panic()
    assert "only whoever has it" in says(office, "quiet")
    office.reply(office.pages("ana")[0], "ack")
    assert "is in no domain of [receipts]" in says(office, "quiet, write to eve@evil.example")
    before = len(office.sent(RITA))
    says(office, "resolve")
    assert len(office.sent(RITA)) > before


@pytest.mark.parametrize(("text", "meaning", "to"), [
    ("quiet", Command.QUIET, ""),
    ("Quiet.", Command.QUIET, ""),
    ("quiet please", Command.QUIET, ""),
    ("QUIET, write to Ruth@Example.com instead!", Command.QUIET, "ruth@example.com"),
    ("quiet: ruth@example.com", Command.QUIET, "ruth@example.com"),
    ("quiet off", Command.QUIET_OFF, ""),
    ("quiet here, nothing happened", Command.NOTHING, ""),
    ("quiet night so far", Command.NOTHING, ""),
    ("quiet?", Command.NOTHING, ""),
    ("quiet a@example.com b@example.com", Command.NOTHING, ""),
    ("quietly working on it", Command.NOTHING, ""),
    ('"quiet" is what I would say', Command.NOTHING, ""),
])  # fmt: skip
def test_quiet_is_a_word_alone_or_with_an_address(text: str, meaning: Command, to: str) -> None:
    said = reply_commands.read(text)
    assert (said.meaning, said.to) == (meaning, to)
