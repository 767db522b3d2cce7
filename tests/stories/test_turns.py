"""By turns: a colleague's panic never waits for somebody's flood, neither to be understood nor to be sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from panicmail.errors import Temporary
from panicmail.incident.reply_commands import Command
from panicmail.intake.known_facts import answers_page
from panicmail.store.mails import LEASE
from tests.office import PANIC, Office, mail

FLOOD = 40


@pytest.fixture
def desk(tmp_path: Path, database_url: str | None) -> Iterator[Office]:
    with closing(Office(tmp_path, url=database_url)) as desk:
        yield desk


def flood(desk: Office, size: int = FLOOD, sender: str = "eve@evil.example") -> None:
    for number in range(size):
        arrives(desk, f"flood {number}", sender)


def arrives(desk: Office, subject: str, sender: str = "rita@example.com") -> None:
    """A mail, a millisecond after the one before."""
    desk.now += timedelta(milliseconds=1)
    desk.accept(mail(subject, subject=subject, sender=sender), sender)


def understood(desk: Office) -> list[str]:
    """The subjects of the incidents, in the order in which they were opened."""
    order: list[str] = []
    while desk.intake.work():
        known = {incident.subject for incident in desk.incidents()}
        order += sorted(known - set(order))
    return order


def test_the_first_mail_of_a_mailbox_goes_before_the_second_of_another(desk: Office) -> None:
    flood(desk)
    arrives(desk, "Ransom note")
    assert understood(desk)[:2] == ["flood 0", "Ransom note"]


def test_two_floods_are_understood_in_turn(desk: Office) -> None:
    flood(desk, 3)
    for number in range(3):
        arrives(desk, f"b {number}", "bo.jones@example.com")
    assert understood(desk) == ["flood 0", "b 0", "flood 1", "b 1", "flood 2", "b 2"]


def test_whose_mails_are_understood_begins_with_the_first_turn_again(desk: Office) -> None:
    flood(desk, 3)
    assert len(understood(desk)) == 3
    flood(desk, 1)
    turns = desk.store.write("mails.claim", lambda tx: [m.turn for m in tx.mails.claim(9, LEASE)])
    assert turns == [0]


def test_an_answer_to_a_page_goes_before_all(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    flood(desk)
    assert answers_page(desk.settings, "Ana@example.com", [page.reply_to])
    assert not answers_page(
        desk.settings, "ana@example.com", [PANIC, page.mail_from, page.reply_to.replace("+a", "+b")]
    )
    assert not answers_page(desk.settings, "eve@evil.example", [page.reply_to])
    reply = mail("ack", sender="ana@example.com", subject=f"Re: {page.subject}", in_reply_to=page.message_id)
    desk.accept(reply, "ana@example.com", [page.reply_to])
    assert desk.intake.work()
    assert desk.incident(incident).holder == "ana"


@pytest.mark.parametrize("sender", ["eve@evil.example", "ana@example.com"])
def test_a_flood_to_the_address_of_a_page_that_leaked_stands_before_nobody(desk: Office, sender: str) -> None:
    desk.panic()
    leaked = desk.page("ana").reply_to
    for number in range(FLOOD):
        desk.now += timedelta(milliseconds=1)
        desk.accept(mail(f"flood {number}", sender=sender), sender, [leaked])
    arrives(desk, "Ransom note")
    for _ in range(3):
        assert desk.intake.work()
    assert "Ransom note" in {incident.subject for incident in desk.incidents()}


def test_a_colleagues_page_goes_before_the_flood_that_waits_at_the_relay(desk: Office) -> None:
    desk.relay.refused["ana@example.com"] = Temporary("the relay cannot be reached")
    flood(desk)
    desk.settle()
    del desk.relay.refused["ana@example.com"]
    arrives(desk, "Ransom note")
    while desk.intake.work():
        pass
    desk.now += LEASE * 20
    lane = desk.lanes[0]
    for _ in range(2):
        lane.work()
    subjects = [page.subject for page in desk.pages("ana")]
    assert any("Ransom note" in subject for subject in subjects), subjects


def test_a_page_goes_before_a_reminder_and_an_issue_before_notes(desk: Office) -> None:
    first = desk.panic()
    desk.act(first, "ana", Command.YES)
    tasks = {task.key.partition("/")[2]: task.priority for task in desk.store.read(
        lambda tx: tx.outbox.of_incident(first.id))}  # fmt: skip
    assert tasks["page/1/ana"] < 1_000_000
    assert tasks["issue"] < 1_000_000
    assert all(priority >= 2_000_000 for key, priority in tasks.items() if key.startswith(("note", "news", "mirror")))
    desk.wait(minutes=130)
    asked = [task for task in desk.store.read(lambda tx: tx.outbox.of_incident(first.id)) if task.do == "page"]
    words = {str(task.facts["word"]): task.priority // 1_000_000 for task in asked}
    assert words["page"] == 0
    assert words["still_yours"] == 1
