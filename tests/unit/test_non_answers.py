"""No generated answer that asks, doubts, refuses, or is somebody else's is read as a yes.

A few hundred in the suite; PANICMAIL_NON_ANSWERS=100000 reads so many.
"""

from __future__ import annotations

import os

import pytest

from panicmail.incident import reply_commands
from panicmail.incident.reply_commands import Command
from panicmail.mail.parse.reply_text import read_reply
from tests.non_answers import YES, non_answers
from tests.small_office import OFFICE

CLAIMS = {Command.YES, Command.TAKE, Command.YES_ALL}


def meaning(text: str) -> Command:
    """As the daemon reads it: the strict reading of what was newly written."""
    reply = read_reply(text)
    return reply_commands.read(reply.text if reply.first_line else "", OFFICE).meaning


#: How many; each takes a few ms.
NUMBER = int(os.environ.get("PANICMAIL_NON_ANSWERS", "600"))


@pytest.mark.timeout(max(120, NUMBER // 20))
def test_no_generated_answer_that_is_no_yes_is_read_as_one() -> None:
    assert [text for text in non_answers(NUMBER, seed=2026) if meaning(text) in CLAIMS] == []


def test_each_yes_they_are_made_of_is_one_by_itself() -> None:
    assert [yes for yes in YES if meaning(yes) not in CLAIMS] == []
