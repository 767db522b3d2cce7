"""The calling never ends with nobody, nor with the one who is silent; and what is told late beats nothing newer."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from panicmail.errors import Temporary
from panicmail.gitlab.issue_values import IssueAct, IssueActivity
from panicmail.incident.model import Incident, State
from panicmail.incident.push_channel import channel
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.oncall.schedules import Schedule, Schedules
from panicmail.response.replies import ReplyChannel, ReplyHandler
from panicmail.response.webhooks import WebhookReceiver, WebhookSecrets
from panicmail.store.transaction import Transaction
from tests.office import PEOPLE, Office, Posted

SECOND = timedelta(seconds=1)


def office(folder: Path, seoc: tuple[str, ...], smoc: tuple[str, ...], operators: tuple[str, ...]) -> Office:
    schedules = Schedules({"seoc": Schedule(seoc), "smoc": Schedule(smoc)})
    return Office(folder, schedules=schedules, operators=operators)


def times(pages: list[Posted]) -> list[datetime]:
    return [page.message["Date"].datetime for page in pages]


# -- nobody is on call


def test_with_nobody_on_call_the_operators_are_paged_with_the_panic_itself_at_the_repeat(tmp_path: Path) -> None:
    o = office(tmp_path, (), (), ("max", "bo"))
    incident = o.panic()
    for person in ("max", "bo"):
        (first,) = o.pages(person)
        assert "nobody is on call as SEOC" in first.text
        assert "My files are .locked" in first.text, "the panic itself"
        assert "You are called as an operator of panicmail" in first.text
    o.wait(minutes=60)
    at = times(o.pages("bo"))
    assert {later - earlier for earlier, later in pairwise(at)} == {timedelta(minutes=5)}
    notes = " ".join(text for _, text, _ in o.gitlab.notes)
    assert "Nobody is on call as SMOC, SEOC, so the operators are called" in notes
    o.reply(o.page("bo"), "ack")
    assert o.incident(incident).holder == "bo"


def test_an_operator_who_was_paged_acknowledges_by_link_command_and_pagerduty_too(tmp_path: Path) -> None:
    for number, way in enumerate(("link", "command", "pagerduty")):
        folder = tmp_path / str(number)
        folder.mkdir()
        o = office(folder, (), (), ("bo",))
        incident = o.panic()
        if way == "link":
            o.links.act(o.settings.link(incident.id, "bo").rpartition("/")[2], "ack")
        elif way == "command":
            o.act(incident, "bo", Command.YES)
        else:
            assert in_pagerduty(o, incident, "Bo Low", "acknowledged", o.now + SECOND)
        assert o.incident(incident).holder == "bo", way
        o.close()


def test_the_receipt_does_not_say_that_an_engineer_or_a_manager_is_called_where_nobody_is(tmp_path: Path) -> None:
    o = office(tmp_path, (), (), ("bo",))
    o.panic()
    o.wait(seconds=15)
    receipt = o.sent("rita@example.com")[0].text
    assert "We are calling people now." in receipt
    assert "security" not in receipt


def test_steps_far_apart_that_name_nobody_do_not_slow_the_calls_to_the_operators(tmp_path: Path) -> None:
    o = office(tmp_path, (), (), ("bo",))
    slow = replace(o.settings.policy, steps=tuple(replace(s, after=s.after * 60) for s in o.settings.policy.steps))
    o.settings = replace(o.settings, policies={slow.name: slow})
    o.panic()
    o.wait(minutes=30)
    assert len(o.pages("bo")) == 7, "at once, and every five minutes"


def test_everybody_said_no_and_the_operators_are_called_at_once_and_at_the_repeat(tmp_path: Path) -> None:
    o = office(tmp_path, ("ana",), ("max",), ("bo",))
    incident = o.panic()
    o.reply(o.page("ana"), "no")
    o.wait(seconds=30)
    o.reply(o.page("max"), "no")
    assert len(o.pages("bo")) == 1, "now, not at the repeat"
    assert "Bo (panicmail operator) is called now" in o.sent("max")[-1].text
    o.wait(minutes=21)
    assert len(o.pages("bo")) >= 4
    assert o.incident(incident).state is State.OPEN


def test_everybody_unreachable_calls_the_operators_at_once(tmp_path: Path) -> None:
    o = office(tmp_path, ("ana",), ("max",), ("bo",))
    o.relay.refused = {PEOPLE[who].email: Temporary("no route") for who in ("ana", "max")}
    o.panic()
    o.wait(minutes=4)
    assert o.pages("bo")
    assert "failed" in o.pages("bo")[0].text or "nobody" in o.pages("bo")[0].text


def test_operators_who_are_away_themselves_are_called_all_the_same_and_so_is_everybody(tmp_path: Path) -> None:
    o = office(tmp_path, ("ana",), ("ana",), ("max",))
    o.panic()
    o.reply(o.page("ana"), "no")
    o.reply(o.page("max"), "no")
    seen = {person: len(o.pages(person)) for person in ("ana", "max")}
    o.wait(minutes=12)
    assert all(len(o.pages(person)) > seen[person] for person in seen)


def test_a_last_step_that_names_nobody_calls_the_operators_beside_those_of_the_other_steps(tmp_path: Path) -> None:
    o = office(tmp_path, ("ana",), (), ("bo",))
    steps = o.settings.policy.steps
    only_smoc = replace(o.settings.policy, steps=(*steps[:3], replace(steps[3], page=("smoc",))))
    o.settings = replace(o.settings, policies={only_smoc.name: only_smoc})
    o.panic()
    o.wait(minutes=16)
    assert "nobody is on call as SMOC" in o.page("bo").text
    before = len(o.pages("ana"))
    o.wait(minutes=5)
    assert len(o.pages("ana")) > before


# -- the holder is silent

SILENT = [
    # on call, who took it, who is called in turn
    (("ana",), ("max",), ("bo",), "ana", ["max", "bo", "max"]),
    (("ana",), ("max",), ("bo",), "max", ["ana", "bo", "ana"]),
    (("ana",), ("max",), ("max",), "max", ["ana", "ana"]),
    (("ana",), ("ana",), ("max",), "ana", ["max", "max"]),
    (("ana",), (), ("max",), "ana", ["max", "max"]),
    ((), (), ("max", "bo"), "max", ["bo", "bo"]),
    (("ana",), ("max",), ("bo",), "bo", ["max", "ana", "max"]),
]


@pytest.mark.parametrize(("seoc", "smoc", "operators", "holder", "called"), SILENT)
def test_a_silent_holder_has_others_called_in_turn_and_the_timeline_says_whom(
    tmp_path: Path, seoc: tuple[str, ...], smoc: tuple[str, ...], operators: tuple[str, ...], holder: str,
    called: list[str],
) -> None:  # fmt: skip
    o = office(tmp_path, seoc, smoc, operators)
    incident = o.panic()
    o.act(incident, holder, Command.TAKE)
    before = {person: len(o.pages(person)) for person in PEOPLE}
    o.wait(minutes=30 + 5 * (len(called) - 1))
    silent = [line.facts for line in o.lines(incident) if line.event == "holder.silent"]
    assert [sorted(facts["people"]) for facts in silent] == [[person] for person in called]
    for person in set(called):
        assert len(o.pages(person)) - before[person] == called.count(person), "and paged they were"
    assert "SILENT" in o.page(called[0]).subject
    assert not [page for page in o.pages(holder) if "SILENT" in page.subject]


def test_what_a_silent_holder_is_told_comes_true(tmp_path: Path) -> None:
    o = office(tmp_path, ("ana",), ("max",), ("bo",))
    incident = o.panic()
    o.act(incident, "max", Command.TAKE)
    o.wait(minutes=20)
    assert "or Ana (SEOC) is called." in o.page("max").text
    o.wait(minutes=15)
    assert next(sorted(line.facts["people"]) for line in o.lines(incident) if line.event == "holder.silent") == ["ana"]


def test_where_there_is_nobody_but_the_silent_holder_nobody_is_said_to_be_called(tmp_path: Path) -> None:
    o = office(tmp_path, ("ana",), ("ana",), ("ana",))
    incident = o.panic()
    o.reply(o.page("ana"), "ack")
    before = len(o.pages("ana"))
    o.wait(minutes=40)
    assert len(o.pages("ana")) >= before + 3, "asked again and again"
    assert not [line for line in o.lines(incident) if line.event == "holder.silent" and line.facts["people"]]
    assert any("Nobody else can be called" in text for _, text, _ in o.gitlab.notes)
    assert "you are asked again" in o.page("ana").text


def test_an_unanswered_message_goes_on_calling_until_the_holder_is_heard_of(tmp_path: Path) -> None:
    o = office(tmp_path, ("ana",), ("max",), ("bo",))
    incident = o.panic()
    o.reply(o.page("ana"), "ack")
    o.reply(o.sent("rita@example.com")[0], "it spread to the file server", sender="rita@example.com")
    o.wait(minutes=21)
    assert [len(o.pages(person)) for person in ("max", "bo")] == [2, 1], "at 10, 15 and 20 minutes"
    o.reply(o.page("ana"), "pulled the plug, imaging the disk")
    o.wait(minutes=60)
    assert [len(o.pages(person)) for person in ("max", "bo")] == [2, 1]
    assert o.incident(incident).holder == "ana"


def test_a_yes_of_whoever_was_called_for_the_silent_one_answers_and_new_words_call_again(tmp_path: Path) -> None:
    o = office(tmp_path, ("ana",), ("max",), ("bo",))
    incident = o.panic()
    o.reply(o.page("ana"), "ack")
    o.wait(minutes=31)
    o.reply(o.page("max"), "ack")
    o.wait(minutes=120)
    assert (len(o.pages("max")), len(o.pages("bo"))) == (1, 0)
    assert o.incident(incident).holder == "ana", "the second yes takes nothing"
    o.reply(o.sent("rita@example.com")[0], "it spread to the file server", sender="rita@example.com")
    o.wait(minutes=15)
    assert (len(o.pages("max")), len(o.pages("bo"))) == (2, 1), "and then it is asked anew"


# -- late acts


def in_pagerduty(o: Office, incident: Incident, name: str, what: str, at: datetime, number: int = 1) -> bool:
    """Somebody did something there; we hear of it now. Whether it stands as an act."""
    secret = b"s" * 32
    data = {"id": "Q1", "type": "incident", "incident_key": f"panicmail-{incident.id}", "status": what}
    agent = {"type": "user_reference", "id": "P1", "summary": name}
    event = {"id": f"EV{number}", "event_type": f"incident.{what}", "resource_type": "incident",
             "occurred_at": at.isoformat(), "agent": agent, "data": data}  # fmt: skip
    body = json.dumps({"event": event}).encode()
    signature = "v1=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    hooks = WebhookReceiver(
        o.store, lambda: o.settings, o.signs, lambda: WebhookSecrets(pagerduty=secret), "1", wall=lambda: o.now
    )
    hooks.pagerduty({"x-pagerduty-signature": signature}, body)
    o.settle()
    return "hook.heard" in o.events(incident)


def test_an_acknowledgement_in_pagerduty_older_than_their_no_does_not_stop_the_clock(desk: Office) -> None:
    incident = desk.panic()
    acked_there = desk.now + SECOND
    desk.wait(seconds=20)
    desk.reply(desk.page("ana"), "no")
    desk.wait(seconds=5)
    assert not in_pagerduty(desk, incident, "Ana Reyes", "acknowledged", acked_there)
    assert desk.incident(incident).state is State.OPEN
    assert any("ana said no since" in text for _, text, _ in desk.gitlab.notes)


def test_an_acknowledgement_in_pagerduty_newer_than_their_no_counts(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "no")
    desk.wait(seconds=5)
    assert in_pagerduty(desk, incident, "Ana Reyes", "acknowledged", desk.now)
    assert desk.incident(incident).holder == "ana"


def test_the_clocks_tolerance_lets_no_acknowledgement_beat_what_opened_it_again(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    desk.wait(seconds=30)
    acked_there = desk.now
    desk.wait(seconds=10)
    desk.reply(desk.page("ana"), "escalate")
    desk.wait(seconds=5)
    assert not in_pagerduty(desk, incident, "Ana Reyes", "acknowledged", acked_there)
    assert desk.incident(incident).state is State.OPEN


def test_a_pagerduty_clock_a_little_behind_does_not_lose_the_first_acknowledgement(desk: Office) -> None:
    incident = desk.panic()
    assert in_pagerduty(desk, incident, "Ana Reyes", "acknowledged", desk.now - 40 * SECOND)
    assert desk.incident(incident).holder == "ana"


def test_resolved_in_pagerduty_before_somebody_else_took_it_does_not_close_it(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    resolved_there = desk.now + SECOND
    desk.wait(seconds=30)
    desk.act(incident, "max", Command.TAKE)
    desk.wait(seconds=5)
    assert not in_pagerduty(desk, incident, "Ana Reyes", "resolved", resolved_there)
    assert (desk.incident(incident).state, desk.incident(incident).holder) == (State.ACKED, "max")


def test_acts_in_pagerduty_told_late_stand_in_the_order_they_were_done(desk: Office) -> None:
    incident = desk.panic()
    acked_there, escalated_there = desk.now + SECOND, desk.now + 60 * SECOND
    desk.wait(minutes=3)
    assert in_pagerduty(desk, incident, "Ana Reyes", "acknowledged", acked_there, 1)
    in_pagerduty(desk, incident, "Ana Reyes", "escalated", escalated_there, 2)
    assert desk.incident(incident).state is State.OPEN, "the escalation came after the acknowledgement"


def test_a_comment_seen_late_does_not_beat_an_escalation_made_since(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(seconds=10)
    commented_at = desk.now
    desk.wait(seconds=10)
    desk.reply(desk.page("ana"), "escalate")
    desk.gitlab.happened[1] = IssueActivity(None, None, (IssueAct("ana", commented_at, "commented"),))
    desk.wait(seconds=61)
    desk.signs.poll()
    assert desk.incident(incident).state is State.OPEN
    desk.gitlab.happened[1] = IssueActivity(None, None, (IssueAct("ana", desk.now, "commented"),))
    desk.wait(seconds=61)
    desk.signs.poll()
    assert desk.incident(incident).holder == "ana", "a newer one counts"


def test_an_issue_closed_before_it_was_taken_ends_nothing_and_the_holder_hears(desk: Office) -> None:
    incident = desk.panic()
    closed_at = desk.now + SECOND
    desk.wait(seconds=10)
    desk.reply(desk.page("ana"), "ack")
    desk.gitlab.happened[1] = IssueActivity(closed_at, "mallory", ())
    for _ in range(2):
        desk.wait(seconds=61)
        desk.signs.poll()
        desk.settle()
    assert desk.incident(incident).state is State.ACKED
    told = [posted for posted in desk.sent("ana") if "closed before it was taken" in posted.subject]
    assert len(told) == 1
    assert not [posted for posted in desk.sent("rita@example.com") if "was closed" in posted.text]


def test_work_from_before_a_message_came_does_not_answer_it(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "ack")
    desk.wait(seconds=10)
    worked_at = desk.now
    desk.wait(seconds=10)
    desk.reply(desk.sent("rita@example.com")[0], "it spread", sender="rita@example.com")
    desk.gitlab.happened[1] = IssueActivity(None, None, (IssueAct("ana", worked_at, "commented"),))
    desk.wait(seconds=61)
    desk.signs.poll()
    desk.wait(minutes=10)
    assert desk.pages("max")


def test_a_mail_understood_late_does_not_beat_what_its_writer_pressed_since(desk: Office) -> None:
    """A yes waits, unread, while its writer says no by a command."""
    incident = desk.panic()
    accepted_at = desk.now
    desk.wait(seconds=30)
    desk.act(incident, "ana", Command.NO)
    way = ReplyChannel(channel="mail", how="a reply", key="late", acted_at=accepted_at + SECOND)

    def work(tx: Transaction) -> None:
        now = tx.incidents.get(incident.id)
        assert now is not None
        ReplyHandler(tx, desk.settings).act(now, desk.settings.people["ana"], ReplyCommand(Command.YES, "ack"), way)

    desk.store.write("test", work)
    desk.settle()
    assert desk.incident(incident).state is State.OPEN
    answer = desk.sent("ana")[-1].text
    assert "did not stop the clock" in answer
    assert "from before you said no" in answer


def test_everybodys_push_and_mail_say_that_an_operator_is_called(tmp_path: Path) -> None:
    o = office(tmp_path, (), (), ("bo",))
    phone = channel("json://phone.example/bo")
    o.settings = replace(o.settings, people={**PEOPLE, "bo": replace(PEOPLE["bo"], push=(phone,))})
    o.panic()
    assert [text for text in o.phones.texts("json://phone.example/bo") if text.startswith("PANIC")]
