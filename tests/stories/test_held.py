"""Somebody has it: one clock, from the acknowledgement to the end, that no single word silences for good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from panicmail.errors import Permanent, StoreFailed, Temporary
from panicmail.gitlab.issue_values import IssueAct, IssueActivity
from panicmail.incident import transitions
from panicmail.incident.escalation_policy import Duty, daytime_in
from panicmail.incident.model import EffectKind, Incident, Owed, PageReason, State
from panicmail.incident.push_channel import channel
from panicmail.incident.reply_commands import Command
from panicmail.oncall.schedules import Schedule, Schedules
from panicmail.response.daily_list import DailyList
from panicmail.store.unit_of_work import Store
from tests.cast import MINUTE, POLICY, SECOND, T0, opened, pages, who
from tests.examples import examples
from tests.office import PEOPLE, Office, Posted, mail

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: At T0, two at night in London, it is eleven in the morning there.
TOKYO, BERLIN = ZoneInfo("Asia/Tokyo"), ZoneInfo("Europe/Berlin")
PHONES = {who: f"json://phone.example/{who}" for who in PEOPLE}
RITA = "rita@example.com"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    """Ana is the SEOC, Max the SMOC, Bo the operator; all in Berlin, all with a phone."""
    people = {key: replace(p, tz=BERLIN, push=(channel(PHONES[key]),)) for key, p in PEOPLE.items()}
    schedules = Schedules({"seoc": Schedule(("ana",)), "smoc": Schedule(("max",))})
    office = Office(tmp_path, people=people, schedules=schedules, operators=("bo",))
    yield office
    office.close()


def held(desk: Office) -> Incident:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    assert desk.incident(incident).holder == "ana"
    return incident


def worked(desk: Office, person: str = "ana") -> None:
    desk.gitlab.happened[1] = IssueActivity(None, None, (IssueAct(person, desk.now, "commented"),))
    desk.wait(seconds=61)
    desk.signs.poll()
    desk.settle()


def writes(desk: Office, text: str) -> None:
    """The reporter, in the thread."""
    desk.reply(desk.sent(RITA)[0], text, sender=RITA)


def asked_at(desk: Office, person: str = "ana", since: int = 0) -> list[datetime]:
    return [p.message["Date"].datetime for p in desk.pages(person)[since:] if "STILL YOURS?" in p.subject]


def rung(desk: Office, person: str) -> list[str]:
    return desk.phones.texts(PHONES[person])


def status_line(desk: Office, _incident: Incident) -> None:
    desk.reply(desk.page("ana"), "imaging the disk, next word at nine")


def yes(desk: Office, _incident: Incident) -> None:
    desk.reply(desk.page("ana"), "on it")


def sign(desk: Office, _incident: Incident) -> None:
    worked(desk)


def said(desk: Office, _incident: Incident) -> None:
    to = next(p.reply_to for p in reversed(desk.sent("ana")) if p.reply_to.startswith("panic+c"))
    desk.deliver(mail("Leave it on, please.", sender="ana@example.com"), "ana@example.com", [to])


def of_the_smoc(desk: Office, _incident: Incident) -> None:
    desk.reply(desk.page("max"), "I have Ana on the phone, she is at it")


# -- answered


@pytest.mark.parametrize("answer", [status_line, yes, sign])
def test_one_sign_of_work_silences_nothing_for_good(desk: Office, answer: object) -> None:
    """For a month: by mail alone, in the daytime of the holder, after spans that grow to a day."""
    incident = held(desk)
    desk.wait(minutes=3)
    answer(desk, incident)  # type: ignore[operator]
    pages, pushed, others = len(desk.pages("ana")), len(rung(desk, "ana")), len(desk.pages("max"))
    desk.wait(minutes=30 * 24 * 60)
    at = asked_at(desk, since=pages)
    assert len(at) >= 30
    assert all(8 <= each.astimezone(BERLIN).hour < 20 for each in at)
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert max(gaps) == DAY
    assert gaps == sorted(gaps), "they grow"
    assert len(rung(desk, "ana")) == pushed
    assert len(desk.pages("max")) == others
    assert desk.incident(incident).state is State.ACKED
    assert desk.events(incident).count("holder.reminded") == len(at)
    assert not [text for _, text, _ in desk.gitlab.notes if "asked again" in text], "an issue is no diary"


def test_what_is_asked_by_mail_says_that_nobody_is_called_and_how_to_end_it(desk: Office) -> None:
    incident = held(desk)
    status_line(desk, incident)
    desk.wait(minutes=8 * 60)
    asked = desk.pages("ana")[-1]
    assert asked.subject.startswith(f"[PANIC {incident.ref}] STILL YOURS? ")
    assert asked.text.startswith("Ana: reply with one line of status, or that it is over.")
    assert "is called" not in asked.text.split("Report")[0].replace("Nobody else is called", "")
    desk.reply(asked, "resolve")
    assert desk.incident(incident).state is State.RESOLVED
    seen = len(desk.pages("ana"))
    desk.wait(minutes=3 * 24 * 60)
    assert len(desk.pages("ana")) == seen


@pytest.mark.parametrize("answer", [status_line, yes, sign, of_the_smoc])
def test_a_reminder_goes_on_by_page_and_push_by_night_until_it_is_answered(desk: Office, answer: object) -> None:
    incident = held(desk)
    desk.wait(minutes=30)
    seen = len(rung(desk, "max"))
    desk.wait(minutes=120)
    assert desk.now.astimezone(BERLIN).hour < 8
    assert len(desk.pages("max")) == 13, "in turn with the operator, every five minutes"
    assert len(rung(desk, "max")) - seen == 13 - 1
    assert len(desk.pages("bo")) == 12
    assert len(asked_at(desk)) == 13
    answer(desk, incident)  # type: ignore[operator]
    counted = {person: (len(desk.pages(person)), len(rung(desk, person))) for person in PEOPLE}
    desk.wait(minutes=120)
    assert {person: (len(desk.pages(person)), len(rung(desk, person))) for person in PEOPLE} == counted
    desk.wait(minutes=120)
    assert len(desk.pages("ana")) > counted["ana"][0], "in the morning"


def test_a_comment_of_somebody_who_was_not_called_answers_nothing(desk: Office) -> None:
    incident = held(desk)
    worked(desk, "max")
    assert desk.incident(incident).owed is Owed.WORK
    desk.wait(minutes=20)
    worked(desk, "max")
    assert desk.incident(incident).owed is Owed.ANSWER, "nor while the holder alone is asked"
    desk.wait(minutes=10)
    worked(desk, "max")
    assert desk.incident(incident).owed is Owed.STATUS


# -- somebody wrote


@pytest.mark.parametrize(
    "text", ["Thank you!", "Thanks a lot, great job everyone", "ok thanks", "cheers", "Thank you for the quick help"]
)
def test_a_bare_thank_you_calls_nobody(desk: Office, text: str) -> None:
    incident = held(desk)
    status_line(desk, incident)
    writes(desk, text)
    assert desk.incident(incident).owed is Owed.STATUS
    told = desk.sent("ana")[-1]
    assert text in told.text
    assert "or Max" not in told.text
    desk.wait(minutes=60)
    assert not desk.pages("max")


@pytest.mark.parametrize("machine", ["Auto-Submitted: auto-replied", "Auto-Submitted: auto-generated"])
def test_a_machine_in_the_thread_calls_nobody(desk: Office, machine: str) -> None:
    incident = held(desk)
    status_line(desk, incident)
    desk.reply(desk.sent(RITA)[0], "I am out of office.", sender=RITA, mail_from="", extra=machine)
    desk.wait(minutes=60)
    assert desk.incident(incident).owed is Owed.STATUS
    assert not desk.pages("max")


@pytest.mark.parametrize("text", ["it spread to the file server", "Thanks. Now the file server is locked", "thanks?"])
def test_fresh_words_arm_the_clock_anew_by_night_too(desk: Office, text: str) -> None:
    incident = held(desk)
    status_line(desk, incident)
    desk.wait(minutes=60)
    writes(desk, text)
    assert "answer with one line by 04:17 CET, or Max (SMOC) is called." in desk.sent("ana")[-1].text
    desk.wait(minutes=9.9)
    assert not desk.pages("max")
    desk.wait(minutes=0.2)
    assert "a message in the thread is not answered" in desk.page("max").text
    desk.wait(minutes=10)
    assert (len(desk.pages("max")), len(desk.pages("bo"))) == (2, 1), "and so it goes on"
    status_line(desk, incident)
    desk.wait(minutes=60)
    assert (len(desk.pages("max")), len(desk.pages("bo"))) == (2, 1)


def test_more_words_put_nothing_off(desk: Office) -> None:
    held(desk)
    for _ in range(3):
        writes(desk, "it spreads")
        desk.wait(minutes=4)
    assert len(desk.pages("max")) == 1, "ten minutes after the first"


def test_words_that_came_before_the_reminder_are_answered_with_it(desk: Office) -> None:
    held(desk)
    desk.wait(minutes=15)
    writes(desk, "it spreads")
    desk.wait(minutes=9)
    assert not asked_at(desk), "they have been asked already"
    desk.wait(minutes=2)
    assert len(desk.pages("max")) == 1


def test_an_answer_to_the_reporter_answers(desk: Office) -> None:
    incident = held(desk)
    writes(desk, "Shall I switch it off?")
    said(desk, incident)
    assert desk.incident(incident).owed is Owed.STATUS
    desk.wait(minutes=60)
    assert not desk.pages("max")


# -- whoever was called cannot help


def no(desk: Office) -> None:
    desk.reply(desk.page("max"), "no")


def out_of_office(desk: Office) -> None:
    desk.reply(desk.page("max"), "I am away until Monday.", mail_from="", extra="Auto-Submitted: auto-replied")


def bounced(desk: Office) -> None:
    page = desk.page("max")
    head = "From: MAILER-DAEMON@mx.example\r\nSubject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n"
    parts = (
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n--b\r\n\r\nno such user\r\n'
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
        "Final-Recipient: rfc822; max@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n--b--\r\n"
    )
    desk.deliver((head + parts).encode(), "", [page.mail_from])


@pytest.mark.parametrize("cannot", [no, out_of_office, bounced])
def test_a_no_a_bounce_or_an_absence_of_whoever_was_called_calls_the_next_at_once(desk: Office, cannot: object) -> None:
    desk.settings = replace(desk.settings, people={**desk.settings.people, "max": PEOPLE["max"]})  # by mail alone
    incident = held(desk)
    desk.wait(minutes=31)
    assert (len(desk.pages("max")), len(desk.pages("bo"))) == (1, 0)
    cannot(desk)  # type: ignore[operator]
    assert len(desk.pages("bo")) == 1
    assert desk.incident(incident).holder == "ana"
    cannot(desk)  # type: ignore[operator]
    assert len(desk.pages("bo")) == 1, "once"
    desk.wait(minutes=11)
    assert len(desk.pages("bo")) == 3
    assert len(desk.pages("max")) == 1, "passed over while anybody else is left"


def test_whoever_says_no_hears_who_is_called_instead(desk: Office) -> None:
    held(desk)
    desk.wait(minutes=31)
    no(desk)
    answer = desk.sent("max")[-1].text
    assert "Your no is recorded" in answer
    assert "Bo (panicmail operator) is called for Ana Reyes instead." in answer


@pytest.mark.parametrize("refusal", [Permanent("550 no such user"), Temporary("no route")])
def test_a_page_for_a_silent_holder_that_nothing_takes_calls_the_next_within_a_minute(
    desk: Office, refusal: Exception
) -> None:
    held(desk)
    desk.relay.refused["max@example.com"] = desk.phones.refused[PHONES["max"]] = refusal
    desk.wait(minutes=31.5)
    assert len(desk.pages("bo")) == 1


def test_while_somebody_called_with_them_can_still_answer_a_no_calls_nobody_else(desk: Office) -> None:
    schedules = Schedules({"seoc": Schedule(("ana",)), "smoc": Schedule(("max", "bo"))})
    desk.settings = replace(desk.settings, schedules=schedules, operators=("ana",))
    held(desk)
    desk.wait(minutes=31)
    no(desk)
    assert [len(desk.pages(person)) for person in ("max", "bo")] == [1, 1]
    desk.wait(minutes=5)
    assert [len(desk.pages(person)) for person in ("max", "bo")] == [1, 2]


def test_when_all_who_were_called_cannot_help_it_goes_on_at_the_repeat_and_no_faster(desk: Office) -> None:
    held(desk)
    desk.wait(minutes=31)
    for person in ("max", "bo", "max", "bo"):
        desk.reply(desk.page(person), "no")
    assert [len(desk.pages(person)) for person in ("max", "bo")] == [1, 1]
    desk.wait(minutes=11)
    assert len(desk.pages("max")) + len(desk.pages("bo")) == 4


# -- offers


def test_an_offer_that_nobody_takes_comes_back_by_page_though_the_holder_had_worked_on_it(desk: Office) -> None:
    incident = held(desk)
    status_line(desk, incident)
    desk.reply(desk.page("ana"), "to bo")
    seen, pushed = len(desk.pages("ana")), len(rung(desk, "ana"))
    desk.wait(minutes=11)
    assert len(asked_at(desk, since=seen)) == 1
    assert len(rung(desk, "ana")) > pushed
    desk.wait(minutes=10)
    assert desk.pages("max")


# -- the daily list


def quiet(desk: Office) -> Incident:
    """Held, and answered for."""
    incident = held(desk)
    status_line(desk, incident)
    return incident


def lists(desk: Office, person: str) -> list[Posted]:
    return [posted for posted in desk.sent(person) if "Not closed" in posted.subject]


def test_what_is_held_is_on_a_daily_list_to_holder_and_role_until_it_is_resolved(desk: Office) -> None:
    """Max has it; Ana comes on call in the role Max was paged as."""
    schedules = Schedules({"seoc": Schedule(("max",)), "smoc": Schedule(("max",))})
    desk.settings = replace(desk.settings, schedules=schedules)
    incident = desk.panic()
    desk.reply(desk.page("max"), "ack")
    desk.reply(desk.page("max"), "at work on it")
    schedules = Schedules({"seoc": Schedule(("ana",)), "smoc": Schedule(("max",))})
    desk.settings = replace(desk.settings, schedules=schedules)
    pushed = len(rung(desk, "ana"))
    for day in range(1, 6):
        desk.wait(minutes=24 * 60)
        assert [len(lists(desk, person)) for person in PEOPLE] == [day, day, 0]
    desk.wait(minutes=5 * 60)
    for person, whose in (("ana", "Max Ode has it"), ("max", "you have it")):
        at = [each.message["Date"].datetime.astimezone(BERLIN) for each in lists(desk, person)]
        assert {each.hour for each in at} == {8}
        assert f"{incident.ref}: {whose} since" in lists(desk, person)[-1].text
        assert "| Ransom note on my laptop" in lists(desk, person)[-1].text
        assert not lists(desk, person)[-1].is_page
    assert len(rung(desk, "ana")) == pushed, "by mail alone"
    sent = [len(lists(desk, person)) for person in PEOPLE]
    desk.act(incident, "max", Command.RESOLVE)
    desk.wait(minutes=3 * 24 * 60)
    assert [len(lists(desk, person)) for person in PEOPLE] == sent


def test_all_of_it_stands_in_one_mail_oldest_first_and_open_ones_too(desk: Office) -> None:
    first = quiet(desk)
    desk.wait(minutes=1)
    second = desk.panic(subject="Phone stolen", text="On the train.")
    desk.reply(desk.page("ana"), "ack")
    desk.reply(desk.page("ana"), "at work on it")
    desk.wait(minutes=4 * 60)
    third = desk.panic(subject="Odd invoice", text="Look at it.")
    desk.wait(minutes=60)
    (told,) = lists(desk, "ana")
    assert told.subject == f"[panicmail] Not closed: {first.ref}, {second.ref} and {third.ref}"
    assert "Say where each stands" in told.text
    assert f"{third.ref}: nobody has it, open since 07:08 CET." in told.text
    assert told.text.index("Phone stolen") < told.text.index("Odd invoice")
    assert f"{third.ref}: nobody has it" in lists(desk, "max")[0].text, "whom its step pages"


def test_what_came_since_the_morning_is_listed_the_next_one(desk: Office) -> None:
    desk.now = T0 + 8 * HOUR
    quiet(desk)
    desk.wait(minutes=6 * 60)
    assert not lists(desk, "ana")
    desk.wait(minutes=18 * 60)
    assert len(lists(desk, "ana")) == 1


def test_everybody_gets_the_list_in_their_own_morning(desk: Office) -> None:
    people = {**desk.settings.people, "ana": replace(desk.settings.people["ana"], tz=TOKYO)}
    desk.settings = replace(desk.settings, people=people)
    quiet(desk)
    desk.wait(minutes=36 * 60)
    at = [each.message["Date"].datetime.astimezone(TOKYO) for each in lists(desk, "ana")]
    assert at
    assert {each.hour for each in at} == {8}


def test_a_list_that_had_to_wait_is_of_its_day_or_not_sent(desk: Office) -> None:
    quiet(desk)
    desk.now += 5.5 * HOUR
    assert desk.daily_list.send_due() == 1
    desk.now += DAY
    assert desk.daily_list.send_due() == 1
    desk.settle()
    assert len(lists(desk, "ana")) == 1


def test_a_restart_sends_no_second_list(desk: Office) -> None:
    quiet(desk)
    desk.wait(minutes=6 * 60)
    assert DailyList(desk.store, lambda: desk.settings).send_due() == 0
    desk.settle()
    assert len(lists(desk, "ana")) == 1


class FailsOnce:
    """A store that refuses its first write, as a locked one does."""

    def __init__(self, store: Store) -> None:
        self._store, self._failures = store, 1
        self.read = store.read

    def write(self, name: str, work: Any) -> Any:
        if self._failures:
            self._failures -= 1
            raise StoreFailed("database is locked")
        return self._store.write(name, work)


def test_a_list_that_could_not_be_written_is_written_a_minute_later(desk: Office) -> None:
    quiet(desk)
    desk.now += 5.5 * HOUR
    daily = DailyList(FailsOnce(desk.store), lambda: desk.settings)  # type: ignore[arg-type]
    with pytest.raises(StoreFailed):
        daily.send_due()
    desk.now += MINUTE
    assert daily.send_due() == 1


def test_who_comes_on_call_or_takes_one_during_the_day_has_the_list_of_that_day(desk: Office) -> None:
    incident = quiet(desk)
    desk.wait(minutes=6 * 60)
    assert [len(lists(desk, person)) for person in ("ana", "max", "bo")] == [1, 0, 0]
    desk.settings = replace(
        desk.settings, schedules=Schedules({"seoc": Schedule(("max",)), "smoc": Schedule(("max",))})
    )
    desk.wait(minutes=5)
    assert len(lists(desk, "max")) == 1
    desk.act(incident, "bo", Command.TAKE)
    desk.now += MINUTE
    assert desk.daily_list.send_due() == 1
    desk.settle()
    assert len(lists(desk, "bo")) == 1


def test_what_is_open_is_not_read_each_minute_for_lists_that_are_known(desk: Office) -> None:
    quiet(desk)
    desk.wait(minutes=6 * 60)
    asked: list[str] = []
    sa.event.listen(desk.database.engine, "before_cursor_execute", lambda *about: asked.append(about[2]))
    desk.now += MINUTE
    assert desk.daily_list.send_due() == 0
    assert asked
    assert not [text for text in asked if "FROM incidents" in text and "EXISTS" not in text]


def test_somebody_who_left_gets_no_list(desk: Office) -> None:
    quiet(desk)
    desk.wait(minutes=60)
    people = {key: person for key, person in desk.settings.people.items() if key != "ana"}
    desk.settings = replace(desk.settings, people=people)
    assert DailyList(desk.store, lambda: desk.settings).send_due() == 0
    desk.now += 5 * HOUR
    assert DailyList(desk.store, lambda: desk.settings).send_due() == 0


# -- the rule alone


@examples(60)
@given(
    st.sampled_from(["Europe/Berlin", "Asia/Tokyo", "America/Los_Angeles", "Asia/Kathmandu", "Pacific/Chatham"]),
    st.integers(0, 365 * 24 * 60),
    st.integers(1, 24 * 60),
    st.lists(st.integers(0, 90), min_size=40, max_size=40),
)
def test_in_every_zone_and_season_quiet_is_asked_about_by_day_and_each_day(
    zone: str, start: int, remind: int, lates: list[int]
) -> None:
    """Whatever the tick is late by: in the daytime there, never more than a day apart, but for the clocks' hour."""
    policy = replace(POLICY, remind_after=remind * MINUTE)
    now, daytime = T0 + start * MINUTE, daytime_in(ZoneInfo(zone))
    incident = transitions.acknowledge(opened(policy, at=now).incident, "ana", "", policy, now).incident
    incident = transitions.sign_of_work(incident, "ana", policy, now).incident
    at = [now]
    for late in lates:
        assert incident.remind_at is not None
        now = incident.remind_at + late * SECOND
        change = transitions.pass_time(incident, Duty(policy, who, now), daytime)
        assert not transitions.is_due(change.incident, now)
        assert change.incident.owed is Owed.STATUS
        asked = pages(change)
        assert [page.facts["word"] for page in asked] in ([], [PageReason.STATUS])
        assert [e.do for e in change.effects] == [EffectKind.PAGE] * len(asked)
        if asked:
            at.append(now)
            assert 8 <= now.astimezone(daytime.zone).hour < 20
        incident = change.incident
    gaps = [later - earlier for earlier, later in pairwise(at)][1:]
    assert gaps
    assert max(gaps) <= DAY + HOUR + 90 * SECOND
    assert gaps[-1] > 22 * HOUR


def test_a_clock_that_was_put_back_does_not_ask_again_and_again() -> None:
    incident = transitions.acknowledge(opened().incident, "ana", "", POLICY, T0 + 8 * HOUR).incident
    incident = transitions.sign_of_work(incident, "ana", POLICY, T0 + 10 * HOUR).incident
    now = T0 + 9 * HOUR
    change = transitions.pass_time(replace(incident, remind_at=now), Duty(POLICY, who, now))
    assert change.incident.remind_at is not None
    assert change.incident.remind_at >= now + 2 * POLICY.remind_after
