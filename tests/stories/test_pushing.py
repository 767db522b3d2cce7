"""Pages on people's phones: beside mail, each by itself, and never silently lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.delivery import PushWorker
from panicmail.delivery.pagerduty import Event
from panicmail.errors import Permanent, Temporary
from panicmail.incident import transitions
from panicmail.incident.escalation_policy import DEFAULT, Duty, PolicyChoice
from panicmail.incident.model import Incident, PageReason, State
from panicmail.incident.push_channel import channel, in_words, inert
from panicmail.incident.reply_commands import Command
from panicmail.incident.reply_tokens import Purpose
from panicmail.mail.compose import push_text
from panicmail.mail.compose.wording import Wording
from tests import scenes
from tests.bounces import bounce
from tests.cast import POLICY
from tests.examples import examples
from tests.office import PEOPLE, Office, mail
from tests.push_channels import ANA, MAX, OPEN_TOPIC, PAGER, phones
from tests.shift_changes import CHANGE, look, seoc, shift

DOWN = Temporary("it cannot be reached")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path, people=phones(ana=(ANA,), max=(MAX, PAGER)))
    yield office
    office.close()


def test_a_page_goes_by_mail_and_push_at_once(desk: Office) -> None:
    incident = desk.panic()
    assert len(desk.pages("ana")) == 1
    ((url, text, link),) = desk.phones.lines
    assert url == ANA
    assert text == f"PANIC {incident.ref} | Ransom note on my laptop | ack by 02:22"
    assert link == f"https://panic.example.com/i/{desk.settings.tokens.mint(Purpose.LINK, incident.id, 'ana')}"


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("full", "Ransom note on my laptop | Rita Lopez, not proved | ack by 02:22"),
        ("subject", "Ransom note on my laptop | ack by 02:22"),
        ("ref", "ack by 02:22"),
    ],
)
def test_the_operator_chooses_how_much_a_lock_screen_shows(desk: Office, detail: str, shown: str) -> None:
    desk.settings = replace(desk.settings, detail=detail)
    incident = desk.panic()
    assert desk.phones.texts(ANA) == [f"PANIC {incident.ref} | {shown}"]


def test_a_long_subject_is_cut_and_never_the_deadline(desk: Office) -> None:
    desk.panic(subject="Everything is on fire " * 20)
    (text,) = desk.phones.texts(ANA)
    assert len(text) <= 120
    assert text.endswith("… | ack by 02:22")


def test_of_a_long_subject_and_a_reporter_the_subject_is_cut(desk: Office) -> None:
    desk.settings = replace(desk.settings, detail="full")
    desk.panic(subject="Everything is on fire " * 20)
    (text,) = desk.phones.texts(ANA)
    assert len(text) == 120
    assert text.endswith("… | Rita Lopez, not proved | ack by 02:22")


def test_a_line_that_calls_people_in_a_chat_is_made_harmless_before_it_is_cut(desk: Office) -> None:
    desk.panic(subject="ransom <@U123> <!here> @channel @everyone @here <@U456> <#C789> @all the servers are gone")
    (text,) = desk.phones.texts(ANA)
    assert len(text) == 120
    assert "ransom < @ U123> < !here> @ channel @ everyone" in text
    assert inert(text) == text, "nothing is left to do for whoever sends it"


#: Names of people, and what strangers write: anything, and often what calls people in a chat.
NAMES = st.text(st.sampled_from("<@!#ab é\u200b'"), max_size=90) | st.text(max_size=300)
TOLD = ("answer", "more", "issue_altered", "issue_closed", "issue_reopened", "offer_failed", "opened_again", "undone",
        "unsent", "storm", "pages_bundled", "which",
        "shift_ended", "shift_began", "acked_by")  # fmt: skip


@examples(100)
@given(
    subject=NAMES, reporter=NAMES, ours=NAMES, word=st.sampled_from(PageReason), what=st.sampled_from(TOLD),
    said=st.sampled_from(Command), detail=st.sampled_from(["full", "subject", "ref"]), days=st.sampled_from([0, 2, 9]),
)  # fmt: skip
def test_whatever_people_are_called_a_push_is_120_characters_at_most_and_its_deadline_whole(
    subject: str, reporter: str, ours: str, word: PageReason, what: str, said: Command, detail: str, days: int
) -> None:
    people = {p.id: replace(p, name=f"{ours}{p.name}") for p in (scenes.ANA, scenes.BO, scenes.MAX)}
    report = replace(scenes.REPORT, subject=subject, from_name=reporter, from_address=reporter)
    night = scenes.Night(organisation=replace(scenes.ORGANISATION, people=people), report=report)
    policy, who = night.organisation.policy, night.organisation.who
    opened = night.panic().incident
    early = scenes.START - timedelta(days=days)  # so the deadline is written with its day
    handed = transitions.escalate(opened, "ana", reporter, Duty(policy, who, scenes.START)).incident
    acked = transitions.acknowledge(opened, "ana", reporter, policy, scenes.START).incident
    facts = {"word": word.value, "what": what, "said": said.value, "by": "max", "to": "bo",
             "cause": {"declined_by": "ana", "words": subject, "handed_by": "max"}}  # fmt: skip
    for incident in (opened, handed, acked):
        context = night.context(incident, facts, early)
        lines = (push_text.page(context, people["ana"], detail), push_text.tell(context, people["ana"], detail))
        for line in lines:
            assert len(line) <= 120
            assert inert(line) == line, "it becomes no longer when it is sent"
    deadline = Wording.to(night.context(opened, facts, early), people["ana"]).at(opened.next_step_at)
    context = night.context(opened, facts, early)
    if word in {PageReason.PAGE, PageReason.STILL_OPEN, PageReason.REOPENED}:
        assert push_text.page(context, people["ana"], detail).endswith(f"ack by {deadline}")
    if what in {"issue_closed", "undone"} or (what == "answer" and said not in {Command.ESCALATE, Command.NO}):
        assert push_text.tell(context, people["ana"], detail).endswith(f"{deadline}.")


@given(text=st.text(st.sampled_from("<@!# a\n")) | st.text())
def test_what_is_made_harmless_once_is_not_changed_again(text: str) -> None:
    assert inert(inert(text)) == inert(text)
    assert not re.search(r"<[@!#]|(?<!\w)@\w", inert(text))


def test_no_acting_link_goes_to_a_topic_anybody_can_read(desk: Office) -> None:
    desk.settings = replace(desk.settings, people=phones(ana=(OPEN_TOPIC, ANA)))
    desk.panic()
    links = {url: link for url, _, link in desk.phones.lines}
    assert links[OPEN_TOPIC] == ""
    assert "/i/" in links[ANA]


def test_the_breach_says_whose_it_is_now_and_why(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    (text,) = desk.phones.texts(MAX)
    assert text == f"PANIC {incident.ref} YOURS NOW: Ana (SEOC) gave no answer in 15 min | Ransom note on my laptop"


def test_an_empty_reply_is_told_by_mail_and_push(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "")
    told = f"{incident.ref} NOT STOPPED: your mail was kept as a note. Max (SMOC) at 02:22."
    assert desk.phones.texts(ANA)[-1] == told
    assert "Clock still running" in desk.sent("ana")[-1].subject


@pytest.mark.parametrize("said", ["escalate", "no"])
def test_whoever_asks_for_the_next_step_is_told_on_their_phone_who_is_called(desk: Office, said: str) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), said)
    assert last_push(desk, ANA, incident) == "Clock still running. Max (SMOC) is called now."
    desk.reply(desk.page("ana"), "escalate")
    assert last_push(desk, ANA, incident) == "Clock still running. Nobody is left to call."


def test_the_acknowledgement_reaches_everybodys_phone(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.reply(desk.page("ana"), "ack")
    assert desk.phones.texts(ANA)[-1] == f"{incident.ref} Clock stopped: you have it since 02:22."
    told = f"{incident.ref} Clock stopped: Ana Reyes has it since 02:22. You need do nothing."
    assert desk.phones.texts(MAX)[-1] == told


def test_pagerduty_follows_the_incident_under_one_key(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=20)
    desk.reply(desk.page("max"), "ack")
    desk.reply(desk.page("max"), "resolve")
    assert {key for key, *_ in desk.phones.events} == {"R0UTINGKEY"}
    assert {dedup for _, _, dedup, _ in desk.phones.events} == {f"panicmail-{incident.id}"}
    assert [action for _, action, _, _ in desk.phones.events] == ["trigger", "trigger", "acknowledge", "resolve"]


def test_pagerduty_follows_an_acknowledgement_by_link_too(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.links.act(desk.settings.tokens.mint(Purpose.LINK, incident.id, "max"), "ack")
    desk.settle()
    assert [action for _, action, _, _ in desk.phones.events] == ["trigger", "acknowledge"]


@pytest.mark.parametrize(
    ("policy", "subject", "severity"),
    [("low", "phishing", "critical"), ("low", "[S3] phishing", "critical"), (DEFAULT, "[S4] odd", "critical")],
)
def test_what_a_report_says_of_itself_quietens_no_pagerduty(
    desk: Office, policy: str, subject: str, severity: str
) -> None:
    low = replace(POLICY, name="low", choice=PolicyChoice(subjects=("phishing",)))
    desk.settings = replace(desk.settings, policies={DEFAULT: POLICY, "low": low})
    assert desk.panic(subject=subject).policy == policy
    desk.wait(minutes=15)
    assert desk.phones.severities == [severity]


def test_what_one_of_ours_says_pagerduty_hears(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "sev 3")
    desk.wait(minutes=15)
    assert desk.phones.severities == ["warning"]


def alerts(desk: Office, incident: Incident) -> list[str]:
    """What PagerDuty was told of it."""
    return [action for _, action, dedup, _ in desk.phones.events if dedup == f"panicmail-{incident.id}"]


def test_pagerduty_gets_a_new_alert_when_an_acknowledged_incident_is_open_again(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.reply(desk.page("ana"), "ack")
    desk.wait(minutes=1)
    desk.reply(desk.page("ana"), "escalate")
    # A trigger would join the acknowledged alert, and ring nowhere.
    assert alerts(desk, incident) == ["trigger", "acknowledge", "resolve", "trigger"]
    desk.wait(minutes=5)
    assert alerts(desk, incident)[4:] == ["trigger"], "this one is alive"


@dataclass
class Pager:
    """PagerDuty, as far as a phone rings: what it is told, with the link. `is_down`: nothing reaches it."""

    told: list[tuple[str, str, str]] = field(default_factory=list)  #: action, summary, link
    is_down: bool = False

    def send(self, key: str, event: Event) -> str:
        if self.is_down:
            raise DOWN
        self.told.append((event.action, event.summary, event.link))
        return "202 Event processed"

    @property
    def actions(self) -> list[str]:
        return [action for action, _, _ in self.told]


@pytest.fixture
def pager(tmp_path: Path) -> Iterator[tuple[Office, Pager]]:
    """An office where PagerDuty is Ana's only phone."""
    office, pager = Office(tmp_path, people=phones(ana=(PAGER,))), Pager()
    push = PushWorker(office.store, lambda: office.settings, office.phones, pager)
    office.lanes = [push if lane.name == push.name else lane for lane in office.lanes]
    yield office, pager
    office.close()


def press(desk: Office, incident: Incident, person: str, word: str) -> None:
    desk.links.act(desk.settings.tokens.mint(Purpose.LINK, incident.id, person), word)
    desk.settle()


def test_pagerduty_rings_anew_when_an_acknowledgement_is_undone_and_joins_the_pages_after_it(
    pager: tuple[Office, Pager],
) -> None:
    desk, phone = pager
    incident = desk.panic()
    press(desk, incident, "ana", "ack")
    press(desk, incident, "ana", "undo")
    assert phone.actions == ["trigger", "acknowledge", "resolve", "trigger"]
    said = f"{incident.ref} NOT STOPPED: you do not have it. ack by 02:22."
    assert phone.told[-1] == ("trigger", said, desk.settings.link(incident.id, "ana"))
    desk.wait(minutes=5)
    assert phone.actions[4:] == ["trigger"], "the alert is alive"


def test_pagerduty_that_was_away_does_not_ring_anew_for_an_undo_once_a_page_has(pager: tuple[Office, Pager]) -> None:
    desk, phone = pager
    incident = desk.panic()
    desk.wait(minutes=4, seconds=50)
    press(desk, incident, "ana", "ack")
    phone.is_down = True
    press(desk, incident, "ana", "undo")
    desk.wait(seconds=11)
    phone.is_down = False
    desk.wait(seconds=40)
    assert phone.actions == ["trigger", "acknowledge", "resolve", "trigger"]


def test_pagerduty_rings_anew_by_its_pages_and_not_by_itself_after_any_other_opening(
    pager: tuple[Office, Pager],
) -> None:
    desk, phone = pager
    incident = desk.panic()
    press(desk, incident, "ana", "ack")
    press(desk, incident, "ana", "no")
    assert desk.incident(incident).state is State.OPEN
    assert phone.actions == ["trigger", "acknowledge"], "Ana said no, so nothing rings there"


def test_an_acknowledgement_after_an_undone_one_is_followed_as_any(pager: tuple[Office, Pager]) -> None:
    desk, phone = pager
    incident = desk.panic()
    for word in ("ack", "undo", "ack", "no"):
        press(desk, incident, "ana", word)
    assert phone.actions[4:] == ["acknowledge"]


def test_of_a_closing_that_is_undone_pagerduty_hears_that_somebody_has_it(pager: tuple[Office, Pager]) -> None:
    desk, phone = pager
    incident = desk.panic()
    for word in ("ack", "resolve", "undo"):
        press(desk, incident, "ana", word)
    assert phone.actions == ["trigger", "acknowledge", "resolve", "acknowledge"]


def test_a_push_that_is_not_taken_now_is_tried_again_and_holds_up_no_mail(desk: Office) -> None:
    desk.phones.failures = [DOWN, DOWN]
    desk.panic()
    assert len(desk.pages("ana")) == 1
    assert desk.phones.texts(ANA) == []
    desk.wait(seconds=10)
    assert len(desk.phones.texts(ANA)) == 1


def test_somebody_whose_mail_is_refused_is_reached_by_phone_and_nobody_else_is_called(desk: Office) -> None:
    desk.relay.refused["ana@example.com"] = Permanent("550 no such user")
    incident = desk.panic()
    assert desk.phones.texts(ANA)
    assert desk.pages("max") == []
    assert desk.incident(incident).away == {}
    assert any("a page was refused" in told.subject for told in desk.sent("max"))
    assert any("a page was refused" in text for text in desk.phones.texts(MAX)), "the operators hear it too"


def test_when_every_channel_of_somebody_fails_the_next_one_is_called_at_once(desk: Office) -> None:
    desk.relay.refused["ana@example.com"] = Permanent("550 no such user")
    desk.phones.refused[ANA] = Permanent("403 forbidden")
    incident = desk.panic()
    assert len(desk.pages("max")) == 1
    assert "ana" in desk.incident(incident).away
    events = [(line.event, line.facts.get("channel")) for line in desk.lines(incident)]
    assert ("page.refused", "mail") in events
    assert ("page.refused", channel(ANA).id) in events


def test_a_refused_push_is_told_as_one_and_hides_no_refusal_of_the_mail(desk: Office) -> None:
    desk.phones.refused[ANA] = Permanent("Pushover answered 403")
    incident = desk.panic()
    assert desk.pages("ana"), "the mail page is not concerned"
    (told,) = (posted for posted in desk.sent("max") if posted.subject.startswith("[panicmail]"))
    assert told.subject == f"[panicmail] a push was refused ({incident.ref})"
    assert "the page by mail is not concerned" in told.text
    assert "Detail: channel: pover[:]//…" in told.text
    assert "Detail: answer: Pushover answered 403" in told.text
    assert channel(ANA).id not in told.text
    assert "relay" not in told.text
    assert desk.phones.texts(MAX) == [f"PANICMAIL: a push was refused ({incident.ref}). See your mail or the log."]
    desk.relay.refused["ana@example.com"] = Permanent("550 no such user")
    desk.wait(minutes=5)
    subjects = [posted.subject for posted in desk.sent("max")]
    assert f"[panicmail] a page was refused ({incident.ref})" in subjects


def test_what_a_channel_refused_last_is_on_record_until_it_takes_something(office: Office) -> None:
    def refused() -> list[tuple[str | None, str, str]]:
        tasks = office.store.read(lambda tx: tx.outbox.refused_pushes())
        return [(task.person, task.facts["channel"], task.answer) for task in tasks]

    office.settings = replace(office.settings, people=phones(ana=(ANA, OPEN_TOPIC), max=(MAX,)))
    office.phones.refused[ANA] = Permanent("Pushover answered 403")
    office.panic()
    assert refused() == [("ana", channel(ANA).id, "Pushover answered 403")]
    office.phones.refused[ANA] = Permanent("Pushover answered 410")
    office.wait(minutes=5)
    assert refused() == [("ana", channel(ANA).id, "Pushover answered 410")]
    office.phones.refused[ANA] = DOWN
    office.wait(minutes=5)
    assert len(refused()) == 1, "nothing was taken since"
    del office.phones.refused[ANA]
    office.wait(minutes=5)
    assert refused() == []


def test_the_alert_of_an_alarm_is_one_for_its_cause_and_hour_so_that_the_next_one_rings(desk: Office) -> None:
    desk.phones.refused[ANA] = Permanent("Pushover answered 403")
    for _ in range(2):
        desk.panic()
    desk.wait(minutes=60)
    alarms = [(action, key) for _, action, key, text in desk.phones.events if text.startswith("PANICMAIL")]
    assert alarms == [("trigger", f"panicmail-push_refused-20261122{hour}") for hour in ("02", "03")]


def test_the_bounce_of_a_mail_whose_push_was_taken_calls_nobody_and_is_an_alarm(desk: Office) -> None:
    incident = desk.panic()
    desk.deliver(bounce("failed"), "", [desk.page("ana").mail_from])
    assert desk.pages("max") == []
    assert desk.incident(incident).away == {}
    assert any("a page was refused" in told.subject for told in desk.sent("max"))


def test_the_bounce_of_a_mail_whose_push_was_refused_calls_the_next_one(desk: Office) -> None:
    desk.phones.refused[ANA] = Permanent("403 forbidden")
    incident = desk.panic()
    assert desk.pages("max") == []
    desk.deliver(bounce("failed"), "", [desk.page("ana").mail_from])
    assert len(desk.pages("max")) == 1
    assert "5.1.1" in desk.incident(incident).away["ana"]


def test_a_dead_relay_and_a_living_phone_are_no_reason_to_call_the_next_one_early(desk: Office) -> None:
    desk.relay.refused["ana@example.com"] = DOWN
    desk.panic()
    desk.wait(minutes=3)
    assert desk.pages("max") == []


def test_a_push_lost_to_an_acknowledgement_is_not_sent(desk: Office) -> None:
    desk.phones.refused[ANA] = DOWN
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    del desk.phones.refused[ANA]
    desk.wait(seconds=30)
    assert not [text for text in desk.phones.texts(ANA) if text.startswith("PANIC")]
    assert desk.incident(incident).state is State.ACKED


def test_a_channel_a_reload_took_away_is_let_go(desk: Office) -> None:
    desk.phones.refused[ANA] = DOWN
    incident = desk.panic()
    desk.settings = replace(desk.settings, people=PEOPLE)
    desk.wait(seconds=30)
    tasks = desk.store.read(lambda tx: tx.outbox.of_incident(incident.id))
    assert [task.state.value for task in tasks if task.lane == "push"] == ["void"]


def test_news_too_old_for_a_phone_is_let_go_and_a_page_is_not(desk: Office) -> None:
    desk.phones.refused[ANA] = DOWN
    incident = desk.panic()
    desk.reply(desk.page("ana"), "what is this?")
    desk.wait(minutes=40)
    tasks = desk.store.read(lambda tx: tx.outbox.of_incident(incident.id))
    tasks = [task for task in tasks if task.lane == "push" and task.person == "ana"]
    assert {task.state.value for task in tasks if task.do == "tell"} == {"void"}
    assert "trying" in {task.state.value for task in tasks if task.do == "page"}


def test_more_from_the_reporter_is_pushed_to_who_has_it(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    receipt = desk.sent("rita@example.com")[0]
    raw = mail("It spreads.", subject="Re: help", in_reply_to=receipt.message_id)
    desk.deliver(raw, "rita@example.com", [receipt.reply_to])
    told = f"{incident.ref} MORE from the reporter: see your mail | Ransom note on my laptop"
    assert desk.phones.texts(ANA)[-1] == told


def last_push(desk: Office, url: str, incident: Incident) -> str:
    ref, _, text = desk.phones.texts(url)[-1].partition(" ")
    assert ref == incident.ref
    return text


def test_whoever_heard_of_an_acknowledgement_hears_on_their_phone_that_it_was_undone(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    link = desk.settings.tokens.mint(Purpose.LINK, incident.id, "ana")
    desk.links.act(link, "ack")
    desk.settle()
    desk.links.act(link, "undo")
    desk.settle()
    assert last_push(desk, MAX, incident) == "NOT STOPPED: Ana does not have it. ack by 02:27."


def test_whose_link_acknowledged_hears_it_on_their_phone_and_can_undo_it_there(desk: Office) -> None:
    incident = desk.panic()
    press(desk, incident, "ana", "ack")
    assert last_push(desk, ANA, incident) == "Clock stopped: you have it since 02:07. By link. Not you? Undo by 02:09."
    assert desk.phones.lines[-1][2] == desk.settings.link(incident.id, "ana")
    press(desk, incident, "ana", "undo")
    assert last_push(desk, ANA, incident) == "NOT STOPPED: you do not have it. ack by 02:22."


def test_no_link_that_undoes_goes_to_a_topic_anybody_can_read(desk: Office) -> None:
    desk.settings = replace(desk.settings, people=phones(ana=(OPEN_TOPIC,)))
    incident = desk.panic()
    press(desk, incident, "ana", "ack")
    assert [link for _, _, link in desk.phones.lines] == ["", ""]


def test_a_no_by_link_is_told_on_the_phone_of_whose_link_it_was(desk: Office) -> None:
    incident = desk.panic()
    press(desk, incident, "ana", "no")
    assert last_push(desk, ANA, incident) == 'Clock still running. You said "no" by link. Max (SMOC) is called now.'


def test_what_is_undone_of_somebody_elses_is_told_on_both_phones(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.reply(desk.page("max"), "ack")
    for word in ("take", "undo"):
        press(desk, incident, "ana", word)
    assert last_push(desk, MAX, incident) == (
        "CHANGED BACK: Ana does not have it. Clock stopped: you have it since 02:22."
    )
    assert last_push(desk, ANA, incident).startswith("CHANGED BACK: you do not have it. Clock stopped: Max Ode has it")
    for word in ("resolve", "undo"):
        press(desk, incident, "max", word)
    assert last_push(desk, ANA, incident).startswith("NOT CLOSED. Clock stopped: Max Ode has it since 02:22.")


def test_words_that_did_not_reach_the_reporter_are_told_on_the_holders_phone(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    address = re.search(r"Write to the reporter: (\S+)", desk.sent("ana")[-1].text)
    assert address
    desk.deliver(mail("> quoted", sender="ana@example.com"), "ana@example.com", [address[1]])
    assert last_push(desk, ANA, incident) == "NOT SENT to the reporter: what you wrote. See your mail."
    desk.reply(desk.page("ana"), "No, leave it on.")
    assert last_push(desk, ANA, incident) == "NOT SENT to the reporter: what you wrote. See your mail."


@pytest.fixture
def shifts(tmp_path: Path) -> Iterator[Office]:
    """Ana's shift ends at 02:30, and Max comes on."""
    schedules = seoc(shift(0, 2.5, "ana"), shift(2.5, 24, "max"))
    office = Office(tmp_path, people=phones(ana=(ANA,), max=(MAX,)), schedules=schedules)
    yield office
    office.close()


def test_a_change_of_shift_is_told_on_both_phones_while_somebody_has_it(shifts: Office) -> None:
    incident = shifts.panic()
    shifts.reply(shifts.page("ana"), "ack")
    shifts.now = CHANGE
    look(shifts)
    assert last_push(shifts, ANA, incident) == "YOUR SHIFT ENDED: still yours. Hand it over, see your mail."
    assert last_push(shifts, MAX, incident) == "FROM THE LAST SHIFT: Ana Reyes has it. Take it, see your mail."


def test_a_change_of_shift_is_told_on_both_phones_while_nobody_has_it(shifts: Office) -> None:
    incident = shifts.panic()
    shifts.now = CHANGE
    look(shifts)
    assert last_push(shifts, ANA, incident) == "Your shift ended. Open: nobody has it."
    assert shifts.phones.texts(MAX)[-1].startswith(f"PANIC {incident.ref} ")


def test_what_a_channel_is_called_says_nothing_about_it() -> None:
    assert "secret" not in repr(channel(MAX))
    assert channel(MAX).id != channel(ANA).id
    assert channel(PAGER).id.startswith("pagerduty-")
    record = f"by {channel(MAX).id}, by {channel(PAGER).id}, by push-00000000"
    told = in_words(record, map(channel, (MAX, PAGER, ANA)))
    assert told == "by ntfys://ntfy.example.com/…, by PagerDuty, by push-00000000"


def test_a_push_is_told_apart_in_the_history_of_a_page(desk: Office) -> None:
    desk.panic()
    desk.wait(minutes=15)
    assert "push accepted" in desk.page("max").text
