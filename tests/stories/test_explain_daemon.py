"""What `panicmail explain` says a reply would do is what the daemon does with it.

Each reply comes back on a page of its own, by the daemon's own parts in this process, and is explained from the same
octets with the same people. A few in the suite; PANICMAIL_EXPLAINED=1000 compares so many.
"""

from __future__ import annotations

import os
import random
from datetime import timedelta
from pathlib import Path

import pytest

from panicmail.cli.explain_command import meaning_of
from panicmail.incident.reply_commands import Command
from panicmail.mail.parse import parser
from tests.non_answers import YES, non_answers
from tests.office import PEOPLE, Office, Posted, mail

NUMBER = int(os.environ.get("PANICMAIL_EXPLAINED", "12"))
#: What the timeline of an open incident that is Ana's to answer gets of each command: "resolve" acknowledges it first.
HAPPENS = {
    "yes": "incident.acked", "take": "incident.acked", "yes_all": "incident.acked", "no": "person.declined",
    "escalate": "incident.escalated", "resolve": "incident.acked", "hand_over": "incident.offered",
}  # fmt: skip
#: Of an answer that names the reporter ("on it, calling Rita") only the daemon knows that Rita is no colleague.
OTHERS = (
    "no", "can't, on a train", "escalate", "escalate, I am alone here", "resolve", "false alarm, it was a test",
    "to bo", "page Max please", "status", "thanks", "nein", "je ne peux pas", "no puedo", "ack 7KQ2", "akc",
    "on itt", "Rita does not answer", "", "ack all", "the laptop is old",
    "- unplug the cable\n- do not log in",
)  # fmt: skip
EXTRA = ("", "", "", "", "", "Auto-Submitted: auto-replied", "List-Id: <all.example.com>", "From: bo@example.com",
         "Precedence: bulk", "X-Autoreply: yes", "Content-Type: text/plain; charset=utf-7")  # fmt: skip
SENDERS = ("ana@example.com", "Ana <ana@example.com>", '"Reyes, Ana" <ana@home.example>', "ana@example.com, bo@x.org")


def replies(number: int, seed: int) -> list[tuple[str, str, str]]:
    """Sender, text and one more field of each."""
    draw = random.Random(seed)
    texts = non_answers(number, seed)
    found = []
    for at in range(number):
        text = draw.choice((draw.choice(YES), draw.choice(OTHERS), texts[at]))
        found.append((draw.choice((SENDERS[0], draw.choice(SENDERS))), text, draw.choice(EXTRA)))
    return found


def answer(page: Posted, sender: str, text: str, extra: str) -> bytes:
    quoted = "".join(f"> {line}\n" for line in page.text.splitlines())
    return mail(
        f"{text}\n\nOn Sunday, 21 Nov 2026 at 10:01, Panic <panic@example.com> wrote:\n{quoted}",
        sender=sender,
        subject=f"Re: {page.subject}",
        in_reply_to=page.message_id,
        extra=extra,
    )


#: So many share an office; one with very many incidents gets slow.
_ROUND = 20


@pytest.mark.timeout(max(120, 4 * NUMBER))
def test_explain_says_of_a_reply_what_the_daemon_does_with_it(tmp_path: Path) -> None:
    differ = []
    given = replies(NUMBER, seed=2026)
    for start in range(0, NUMBER, _ROUND):
        folder = tmp_path / str(start)
        folder.mkdir()
        office = Office(folder)
        for number, (sender, text, extra) in enumerate(given[start : start + _ROUND]):
            said, happened = both(office, number, sender, text, extra)
            if said != happened:
                differ.append((sender, text, extra, said, happened))
        office.close()
    assert differ == []


def both(office: Office, number: int, sender: str, text: str, extra: str) -> tuple[set[str], set[str]]:
    """What explain says a reply does, and what the daemon did with it, as the events that tell of it."""
    incident = office.panic(subject=f"Report {number}", sender=f"Rita Lopez <r{number}@example.com>")
    page = office.page("ana")
    raw = answer(page, sender, text, extra)
    office.deliver(raw, "ana@example.com", [page.reply_to])
    events = set(office.events(incident)) & set(HAPPENS.values())
    said = meaning_of(parser.read(raw, mail_from="ana@example.com"), PEOPLE)
    expected = {HAPPENS[str(said["command"])]} if said["may_act"] and said["command"] in HAPPENS else set()
    office.act(incident, "ana", Command.RESOLVE)
    office.now += timedelta(hours=1)
    # of a no the timeline tells as well that the next one is called
    return expected, (events & expected) or events
