"""What our mails say, word by word, to the person who must act on them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from panicmail.incident import transitions
from panicmail.incident.escalation_policy import Duty, EscalationPolicy, PolicyStep
from panicmail.incident.model import Change, Outcome, PageReason, unchanged
from panicmail.incident.people import Person
from panicmail.mail.compose import operators
from panicmail.mail.compose.notice_context import PageSent
from tests.scenes import (
    ADDRESSES,
    ANA,
    BO,
    HOW,
    MAX,
    ORGANISATION,
    POLICY,
    REPORT,
    START,
    Night,
    head_to,
    lines,
    minutes,
    nobody,
    on_call,
    page_of,
    part,
    said_more,
    subject,
)

NIGHT = Night()
OPEN = NIGHT.panic().incident
BREACHED = transitions.pass_time(OPEN, Duty(POLICY, on_call, START + minutes(15)))
HELD = transitions.acknowledge(BREACHED.incident, "ana", HOW, POLICY, START + minutes(17)).incident


# -- pages -----------------------------------------------------------------------------------------


def test_a_page_says_who_must_do_what_by_when_and_carries_the_report() -> None:
    letter = NIGHT.page(NIGHT.panic(), ANA, START)
    assert subject(letter) == "[PANIC 7KQ2N] Ransom note on my laptop"
    assert lines(letter) == [
        'Ana: reply "ack" by 03:22 CET, or Max (SMOC) is called.',
        'Cannot take it? Reply "no" and Max is called at once.',
        "By Rita Lopez <rita@example.com>, 03:07",
        "Sender: not proved (senders are not checked)",
        "Phone in the mail: +49 170 0000000",
        "Without mail: https://panic.example.com/i/token",
        "Issue: follows, GitLab has not answered yet",
        "Attached, by the names they came with:",
        "| note.txt, 2.2 KB",
        "Report (quoted, untrusted):",
        "| My files are .locked, Slack is gone.",
    ]


def test_the_breach_page_says_who_was_silent_since_when() -> None:
    night = Night(pages=[PageSent(person="ana", channel="mail", at=START, state="accepted")])
    letter = night.page(BREACHED, MAX, START + minutes(15))
    assert subject(letter) == "[PANIC 7KQ2N] YOURS NOW: Ransom note on my laptop"
    assert lines(letter)[:10] == [
        'Max: Ana (SEOC) gave no answer in 15 min. Reply "ack" so the calling stops.',
        "Answer by 03:27 CET, or you are called again, until somebody answers.",
        "Since 03:07 CET nobody has it.",
        'Your ack makes it yours. Reply "page bo" for someone else.',
        "The deadline passed at 03:22 CET; nobody had answered.",
        "By Rita Lopez <rita@example.com>, 03:07",
        "Sender: not proved (senders are not checked)",
        "Phone in the mail: +49 170 0000000",
        "Ana: paged 03:07: mail accepted.",
        "Call Ana: +49 151 0000000",
    ]


def test_the_reminder_says_what_arrived_and_that_nothing_stopped_the_clock() -> None:
    policy = replace(
        POLICY, steps=(PolicyStep(minutes(0), ("seoc",)), PolicyStep(minutes(5), ("seoc",)), POLICY.steps[1])
    )
    pages = [
        PageSent(person="ana", channel="mail", at=START, state="accepted"),
        PageSent(person="ana", channel="push", at=START, state="failed"),
        PageSent(person="ana", channel="mail", at=START + minutes(5), state="queued"),
    ]
    night = Night(organisation=replace(ORGANISATION, policy=policy), pages=pages)
    reminder = transitions.pass_time(night.panic().incident, Duty(policy, on_call, START + minutes(5)))
    letter = night.page(reminder, ANA, START + minutes(5))
    assert subject(letter) == "[PANIC 7KQ2N] STILL OPEN: Ransom note on my laptop"
    assert lines(letter)[:2] == [
        "Ana: nobody has this. Max (SMOC) is called at 03:22 CET.",
        'Reply "ack", or "no" to call Max now.',
    ]
    assert "Paged 03:07: mail accepted, push failed. Your reply: none that stops the clock." in lines(letter)


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (
            transitions.decline(OPEN, "ana", HOW, "can't", Duty(POLICY, on_call, START + minutes(3))),
            'Max: Ana asks for you ("can\'t"). Reply "ack" so the calling stops.',
        ),
        (
            transitions.escalate(OPEN, "ana", HOW, Duty(POLICY, on_call, START + minutes(3))),
            'Max: Ana asks for you ("escalate"). Reply "ack" so the calling stops.',
        ),
        (
            transitions.unreachable(
                OPEN, "ana", "out of office until Monday", Duty(POLICY, on_call, START + minutes(3))
            ),
            'Max: Ana is out of office. Reply "ack" so the calling stops.',
        ),
        (
            transitions.unreachable(
                OPEN, "ana", "every way failed (bounce, push refused)", Duty(POLICY, on_call, START)
            ),
            'Max: every way to Ana failed (bounce, push refused). Reply "ack" so the calling stops.',
        ),
    ],
)
def test_called_early_the_smoc_is_told_why_and_of_no_breach(change: Change, first: str) -> None:
    letter = NIGHT.page(change, MAX, START + minutes(3))
    assert lines(letter)[0] == first
    assert "deadline passed" not in part(letter, "plain")
    assert "gave no answer" not in part(letter, "plain")


def test_where_nobody_was_on_call_nobody_is_called_silent() -> None:
    night = Night(organisation=replace(ORGANISATION, who=nobody))
    change = night.panic()
    first = lines(night.page(change, MAX, START))[0]
    assert first == 'Max: nobody is on call as SEOC. Reply "ack" so the calling stops.'


def test_after_an_outage_it_says_how_late_it_is_and_blames_nobody() -> None:
    letters = NIGHT.letters(NIGHT.panic(START + minutes(22)), START + minutes(22))
    text = lines(letters["page max"])
    assert text[0] == 'Max: nobody has this yet. Reply "ack" so the calling stops.'
    assert "panicmail was down: this is 22 min late." in text
    assert "Called at the same time: Ana (SEOC)." in text


def test_a_ladder_without_a_further_step_says_that_she_is_called_again() -> None:
    again = transitions.pass_time(BREACHED.incident, Duty(POLICY, on_call, START + minutes(20)))
    text = lines(NIGHT.page(again, MAX, START + minutes(20)))
    assert text[0] == (
        'Max: nobody has this. Reply "ack" by 03:32 CET, or you are called again, until somebody answers.'
    )
    assert text[1] == 'Cannot take it? Name somebody: reply "page bo" and Bo is called.'


def test_an_offer_says_who_has_it_until_then() -> None:
    held = NIGHT.page(transitions.hand_over(HELD, "ana", "bo", HOW, START + minutes(19)), BO, START + minutes(19))
    assert subject(held) == "[PANIC 7KQ2N] HANDED TO YOU: Ransom note on my laptop"
    assert lines(held)[:2] == [
        'Bo: Ana hands this to you. Reply "ack" so that it is yours.',
        'Until then Ana has it. Cannot take it? Reply "no" and that stays so.',
    ]
    unheld = NIGHT.page(transitions.hand_over(OPEN, "ana", "bo", HOW, START + minutes(5)), BO, START + minutes(5))
    assert lines(unheld)[1] == "Until then nobody has it, and Max (SMOC) is called at 11:22 JST."


def test_a_silent_holder_is_asked_then_the_manager_told_whom_to_call() -> None:
    asked = transitions.pass_time(HELD, Duty(POLICY, on_call, START + minutes(38)))
    letter = NIGHT.page(asked, ANA, START + minutes(38))
    assert subject(letter) == "[PANIC 7KQ2N] STILL YOURS? Ransom note on my laptop"
    assert lines(letter)[:2] == [
        "Ana: reply with one line of status by 03:55 CET, or Max (SMOC) is called.",
        "Why: you took this at 03:24 CET; no sign of work seen since.",
    ]
    assert "Your reply: none" not in part(letter, "plain")
    called = transitions.pass_time(asked.incident, Duty(POLICY, on_call, START + minutes(48)))
    letter = NIGHT.page(called, MAX, START + minutes(48))
    assert subject(letter) == "[PANIC 7KQ2N] ANA SILENT: Ransom note on my laptop"
    assert lines(letter)[:2] == [
        'Max: call Ana now, or reply "take" so that it is yours.',
        "Why: Ana took this at 03:24 CET; no sign of work seen since.",
    ]


def test_reopened_its_last_holder_has_until_the_first_step() -> None:
    closed = transitions.resolve(HELD, "ana", HOW, POLICY, START + minutes(60)).incident
    organisation = replace(ORGANISATION, who=lambda role: ("bo",) if role == "seoc" else ("max",))
    night = Night(organisation=organisation)
    change = transitions.more(
        closed,
        transitions.MoreMail(entry=said_more(), mail_id="m", human=True, thanks=False),
        Duty(POLICY, organisation.who, START + minutes(120)),
    )
    letter = night.page(change, ANA, START + minutes(120))
    assert subject(letter) == "[PANIC 7KQ2N] OPEN AGAIN: Ransom note on my laptop"
    assert lines(letter)[0] == 'Ana: reply "ack" by 05:12 CET, or Bo (SEOC) is called.'


def test_what_is_paged_once_promises_no_escalation() -> None:
    text = lines(NIGHT.page(NIGHT.panic(once=True), ANA, START))
    assert text[0] == 'Ana: have a look; reply "ack" if it needs anybody.'
    assert "nobody else is called" in text[1]


def test_a_drill_says_so_in_the_subject() -> None:
    letter = NIGHT.page(NIGHT.panic(drill=True), ANA, START)
    assert subject(letter) == "[PANIC 7KQ2N] DRILL: Ransom note on my laptop"
    assert "This is a drill. Act as if it were real." in lines(letter)


def test_neighbours_flags_and_what_it_continues_are_shown() -> None:
    other = replace(OPEN, id="zz", ref="M4TD", opened_at=START - minutes(2))
    night = Night(same_reporter=[other], also_open=[other], flags=("has no text",))
    text = lines(night.page(night.panic(linked_to="K7WZ"), ANA, START))
    assert "Same reporter as M4TD, open since 03:05." in text
    assert "Also open for you: M4TD, open since 03:05." in text
    assert 'Reply "ack all" to have M4TD as well.' in text
    assert "Odd about the mail: has no text" in text
    assert "It continues K7WZ, which was closed." in text


def test_the_issue_is_linked_when_there_is_one_and_the_page_link_left_out_when_there_is_none() -> None:
    incident = replace(OPEN, issue_url="https://git.example.com/s/-/issues/41")
    letter = page_of(Night(link=""), PageReason.PAGE, incident, ANA, START)
    assert "Issue: https://git.example.com/s/-/issues/41" in lines(letter)
    assert '<a href="https://git.example.com/s/-/issues/41">' in part(letter, "html")
    assert "Without mail" not in part(letter, "plain")


def test_times_are_in_the_readers_zone_with_the_day_when_it_is_not_today() -> None:
    late = START.replace(hour=22, minute=55)  # 23:55 in Berlin: the manager's turn is tomorrow
    night = Night()
    incident = transitions.new(id="a" * 16, ref="M4TD", mail_id="m", accepted_at=late, policy=POLICY)
    change = transitions.open_panic(incident, Duty(POLICY, on_call, late), receipt=False, entry_facts={})
    assert lines(night.page(change, ANA, late))[0] == 'Ana: reply "ack" by Mon 00:10 CET, or Max (SMOC) is called.'


def test_a_policy_of_seconds_is_told_in_seconds() -> None:
    policy = EscalationPolicy(
        sla=timedelta(seconds=20),
        steps=(PolicyStep(timedelta(0), ("seoc",)), PolicyStep(timedelta(seconds=20), ("smoc",))),
        repeat=timedelta(seconds=5),
        remind_after=timedelta(seconds=30),
    )
    night = Night(organisation=replace(ORGANISATION, policy=policy))
    assert lines(night.page(night.panic(), ANA, START))[0] == (
        'Ana: reply "ack" by 03:07:20 CET, or Max (SMOC) is called.'
    )
    later = START + timedelta(seconds=20)
    breached = transitions.pass_time(night.panic().incident, Duty(policy, on_call, later))
    first = lines(night.page(breached, MAX, later))[0]
    assert first == 'Max: Ana (SEOC) gave no answer in 20 s. Reply "ack" so the calling stops.'


def test_two_of_one_first_name_are_told_apart() -> None:
    twin = Person(id="ana2", name="Ana Bell", email="bell@example.com", tz=ZoneInfo("UTC"))
    night = Night(organisation=replace(ORGANISATION, people={**ORGANISATION.people, "ana2": twin}))
    assert lines(night.page(BREACHED, MAX, START + minutes(15)))[0].startswith("Max: Ana Reyes (SEOC) gave no answer")


# -- answers ---------------------------------------------------------------------------------------


def test_the_clock_stopped_and_what_comes_next() -> None:
    acked = transitions.acknowledge(OPEN, "ana", HOW, POLICY, START + minutes(2))
    other = replace(OPEN, ref="M4TD", opened_at=START - minutes(2))
    letter = Night(also_open=[other]).answer(acked, ANA, "yes", START + minutes(2))
    assert subject(letter) == "[7KQ2N] Clock stopped: Ana Reyes has it"
    assert lines(letter) == [
        "Clock stopped 03:09 CET. Ana Reyes has it, after 2 min.",
        "Rests on: token of this mail and From address ana@example.com",
        "Next: call the reporter; the number in the mail is +49 170 0000000.",
        "Issue: follows, GitLab has not answered yet",
        "Show signs of work by 03:29 or you are asked again.",
        "Still open and also yours: M4TD, open since 03:05.",
        'Reply "to bo" to hand it over, "escalate" for more help, "resolve" at its end.',
    ]


def test_the_others_are_told_who_has_it_and_what_that_rests_on() -> None:
    change = transitions.acknowledge(BREACHED.incident, "ana", HOW, POLICY, START + minutes(17))
    letters = NIGHT.letters(change, START + minutes(17))
    assert subject(letters["tell max"]) == "[7KQ2N] Clock stopped: Ana Reyes has it"
    assert lines(letters["tell max"])[:3] == [
        "Ana Reyes has it since 03:24 CET. You need do nothing.",
        "Rests on: token of this mail and From address ana@example.com",
        'Was this wrong? Reply "take" so that it is yours.',
    ]


def test_a_mail_that_did_not_stop_the_clock_says_why_and_what_would() -> None:
    why = "it came from ana.r@example.net, which is not listed for you"
    letter = NIGHT.answer(unchanged(OPEN, Outcome.NOTED), ANA, "nothing", START + minutes(2), why=why)
    assert subject(letter) == '[7KQ2N] Clock still running: reply "ack" to this mail'
    assert lines(letter)[:6] == [
        "Ana: your mail did not stop the clock.",
        "Why: it came from ana.r@example.net, which is not listed for you.",
        'Reply "ack" to THIS mail from ana@example.com by 03:22 CET.',
        "Or tap: https://panic.example.com/i/token",
        "Your text is kept as a note on the issue.",
        "Otherwise Max (SMOC) is called at 03:22 CET.",
    ]


def test_a_second_yes_is_told_who_was_first() -> None:
    second = transitions.acknowledge(HELD, "max", HOW, POLICY, START + minutes(18))
    assert lines(NIGHT.answer(second, MAX, "yes", START + minutes(18)))[0] == (
        "Clock stopped: Ana Reyes has it since 03:24 CET. You need do nothing."
    )


def test_a_no_says_who_is_called_instead_or_that_nobody_is_left() -> None:
    declined = transitions.decline(OPEN, "ana", HOW, "no", Duty(POLICY, on_call, START + minutes(3)))
    letter = NIGHT.answer(declined, ANA, "no", START + minutes(3))
    assert lines(letter)[0] == "Clock still running: Max (SMOC) is called now."
    left = transitions.decline(declined.incident, "max", HOW, "no", Duty(POLICY, on_call, START + minutes(4)))
    assert lines(NIGHT.answer(left, MAX, "no", START + minutes(4)))[0] == (
        "Clock still running, and nobody is left to call. "
        "The last call is repeated at 03:15 CET, until somebody answers."
    )


def test_a_hand_over_keeps_the_clock_as_it_was() -> None:
    offered = transitions.hand_over(OPEN, "ana", "bo", HOW, START + minutes(5))
    assert lines(NIGHT.answer(offered, ANA, "hand_over", START + minutes(5), to="bo"))[:3] == [
        "Bo Li is called and has it as soon as Bo agrees.",
        "Until then nothing changes. Clock still running: Max (SMOC) is called at 03:22 CET.",
        "Call Bo: +49 160 0000000",
    ]


def test_resolve_on_an_open_one_says_how_to_close() -> None:
    change = transitions.resolve(OPEN, "ana", HOW, POLICY, START + minutes(2))
    assert lines(NIGHT.answer(change, ANA, "resolve", START + minutes(2)))[:2] == [
        "Clock stopped 03:09 CET. Ana Reyes has it, after 2 min.",
        'It is not over. Reply "resolve" once more to end it.',
    ]


def test_too_late_it_says_who_closed_it_and_where_to_start_anew() -> None:
    closed = transitions.resolve(HELD, "ana", HOW, POLICY, START + minutes(60))
    assert lines(NIGHT.answer(closed, ANA, "resolve", START + minutes(60)))[0] == "7KQ2N is closed, 04:07 CET, by you."
    late = transitions.acknowledge(closed.incident, "max", HOW, POLICY, START + minutes(70))
    assert lines(NIGHT.answer(late, MAX, "yes", START + minutes(70)))[:2] == [
        "7KQ2N was closed at 04:07 CET by Ana Reyes. Your mail changed nothing.",
        "Something still wrong? A new mail to panic@example.com starts anew.",
    ]


def test_more_in_the_thread_quotes_it_and_says_the_clock_is_as_it_was() -> None:
    change = transitions.more(
        OPEN,
        transitions.MoreMail(entry=said_more(), mail_id="m", human=True, thanks=False),
        Duty(POLICY, on_call, START + minutes(2)),
    )
    letter = NIGHT.letters(change, START + minutes(2))["tell ana"]
    assert subject(letter) == "[7KQ2N] More on: Ransom note on my laptop"
    assert lines(letter) == [
        'Ana: nobody has this. Reply "ack" by 03:22 CET, or Max (SMOC) is called.',
        "There is more on 7KQ2N, by Rita Lopez <rita@example.com>.",
        "Sender: not proved (senders are not checked)",
        "Clock still running: Max (SMOC) is called at 03:22 CET.",
        "Without mail: https://panic.example.com/i/token",
        "Issue: follows, GitLab has not answered yet",
        "They write (quoted, untrusted):",
        "| It spreads.",
    ]


def test_somebody_other_than_the_reporter_is_pointed_out() -> None:
    letter = NIGHT.tells(HELD, ANA, START + minutes(20), what="more", text="hi", from_address="x@evil.example")
    assert "The writer is not the reporter: take care." in lines(letter)


# -- the reporter and the operators ----------------------------------------------------------------


def test_the_receipt_says_what_happens_next_and_quotes_nothing() -> None:
    letter = NIGHT.letters(NIGHT.panic(), START)["receipt"]
    assert subject(letter) == "Re: Ransom note on my laptop [7KQ2N]"
    assert lines(letter) == [
        "We have your report, 03:07 CET. Reference 7KQ2N.",
        "The security engineer on call is being called now.",
        "If nobody answers by 03:22, the security manager is called.",
        "Stay reachable; reply with your phone number if you can.",
        "Nothing changes if you cannot reply.",
        "Hotline: +49 30 000000",
        "If a device is involved: leave it on, take it off the network. Use another device.",
    ]


def test_a_reporter_of_ours_is_told_in_their_own_zone() -> None:
    night = Night(report=replace(REPORT, from_address=BO.email))
    assert lines(night.letters(night.panic(), START)["receipt"])[0] == (
        "We have your report, 11:07 JST. Reference 7KQ2N."
    )


@pytest.mark.parametrize(
    ("has_access", "line"),
    [(True, "Follow it here: https://git/41"), (False, "If you have access: https://git/41")],
)
def test_the_issue_is_worded_for_whether_the_reporter_can_open_it(has_access: bool, line: str) -> None:
    night = Night(organisation=replace(ORGANISATION, reporter_access=has_access))
    assert line in lines(night.news(replace(OPEN, issue_url="https://git/41"), START, what="issue"))


def test_news_to_the_reporter() -> None:
    at = {"at": (START + minutes(20)).isoformat()}
    assert lines(NIGHT.news(HELD, START + minutes(20), what="acked", **at))[0] == (
        "An engineer acknowledged 7KQ2N at 03:27 CET and will contact you."
    )
    assert lines(NIGHT.news(BREACHED.incident, START + minutes(20), what="breached", **at))[:2] == [
        "7KQ2N: no engineer has answered yet.",
        "The security manager was called at 03:22 CET and is called again until somebody answers.",
    ]
    assert lines(NIGHT.news(OPEN, START + minutes(20), what="breached", **at))[1] == (
        "We keep calling until somebody answers."
    )
    assert lines(NIGHT.news(HELD, START + minutes(20), what="resolved", **at)) == [
        "7KQ2N was closed at 03:27 CET by the security team.",
        "Something still wrong? Reply: that opens it again as urgent.",
    ]


def test_the_operators_are_told_what_it_means_and_the_mend() -> None:
    facts = {"cause": "nobody_on_call", "ref": "7KQ2N", "step": 1}
    letter = operators(facts, head_to(MAX), ADDRESSES, key="row")
    assert subject(letter) == "[panicmail] nobody is on call (7KQ2N)"
    assert lines(letter)[0] == "Operators: nobody is on call, for 7KQ2N, 03:07 CET."
    assert "All of it: panicmail show 7KQ2N" in lines(letter)


def test_an_unknown_cause_is_told_as_what_it_is() -> None:
    letter = operators({"cause": "moon_fell"}, head_to(MAX), ADDRESSES, key="row")
    assert subject(letter) == "[panicmail] panicmail needs help"
    assert "Detail: cause: moon_fell" in lines(letter)


def test_numbers_of_ours_can_be_touched_and_the_senders_cannot() -> None:
    html = part(NIGHT.page(BREACHED, MAX, START + minutes(15)), "html")
    assert '<a href="tel:+491510000000">+49 151 0000000</a>' in html
    assert "tel:+491700000000" not in html
    assert ">Open 7KQ2N</a>" in html


def test_a_report_without_text_is_said_to_have_none() -> None:
    night = Night(report=replace(REPORT, text="", attachments=()))
    assert lines(night.page(night.panic(), ANA, START))[-1] == "The report has no text."
