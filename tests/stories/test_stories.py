"""What happens to people: stories through the whole of panicmail, with a clock that is moved."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from panicmail.errors import Permanent, Temporary, Unknown
from panicmail.incident.model import Incident, State
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command
from panicmail.incident.reply_tokens import Addresses
from panicmail.oncall.schedules import Schedule, Schedules
from tests.bounces import bounce
from tests.office import PANIC, PEOPLE, Office, mail

# -- the main story


def test_a_panic_becomes_an_issue_a_page_and_a_receipt(office: Office) -> None:
    incident = office.panic()
    (page,) = office.pages("ana")
    assert page.subject == f"[PANIC {incident.ref}] Ransom note on my laptop"
    assert "| My files are .locked, Slack is gone." in page.text
    assert len(office.gitlab.issues) == 1
    assert "Files:" in office.gitlab.issues[0].description
    (receipt,) = office.sent("rita@example.com")
    assert incident.ref in receipt.text
    assert receipt.mail_from == ""
    assert office.pages("max") == []


def test_a_reply_acknowledges_and_everybody_is_told(office: Office) -> None:
    incident = office.panic()
    office.wait(minutes=15)
    office.reply(office.page("max"), "ack")
    now = office.incident(incident)
    assert (now.state, now.holder) == (State.ACKED, "max")
    assert office.sent("max")[-1].subject == f"[{incident.ref}] Clock stopped: Max Ode has it"
    assert "Max Ode has it" in office.sent("ana")[-1].text
    assert "acknowledged" in office.sent("rita@example.com")[-1].text
    pages = len(office.pages("ana")) + len(office.pages("max"))
    office.wait(minutes=19)
    assert len(office.pages("ana")) + len(office.pages("max")) == pages, "quiet once somebody has it"


def test_the_smoc_is_paged_at_the_fifteenth_minute_not_before(office: Office) -> None:
    office.panic()
    office.wait(minutes=14, seconds=59)
    assert office.pages("max") == []
    office.wait(seconds=1)
    assert len(office.pages("max")) == 1


def test_of_two_who_acknowledge_one_has_it_and_the_other_is_told_who(office: Office) -> None:
    incident = office.panic()
    office.wait(minutes=15)
    ana, max_ = office.page("ana"), office.page("max")
    office.reply(max_, "on it")
    office.reply(ana, "ack")
    assert office.incident(incident).holder == "max"
    assert "Max Ode" in office.sent("ana")[-1].text
    assert office.events(incident).count("incident.acked") == 1


# -- what never acknowledges


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("", {}),
        ("ack?", {}),
        ("thanks, who is this", {}),
        ("ack", {"extra": "Auto-Submitted: auto-replied"}),
        ("ack", {"extra": "Precedence: bulk"}),
        ("ack", {"extra": "List-Id: <team.example.com>"}),
        ("ack", {"sender": "mallory@evil.example"}),
        ("ack", {"sender": "max@example.com"}),
        ("ack", {"sender": "ana@example.com, mallory@evil.example"}),
        ("ack", {"extra": "From: mallory@evil.example"}),
    ],
)
def test_anything_less_than_a_plain_yes_of_their_own_is_a_note_and_the_clock_runs_on(
    desk: Office, text: str, header: dict[str, str]
) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), text, mail_from="ana@example.com", **header)
    now = desk.incident(incident)
    assert (now.state, now.next_step_at) == (State.OPEN, incident.next_step_at)
    assert len(desk.incidents()) == 1, "and it is no new panic either"
    assert {"person.wrote", "mail.automatic"} & set(desk.events(incident))


@pytest.mark.parametrize("text", ["ack, Mine will take it", "Mine is on it", "ack, over to Will", "ack. Will takes it"])
def test_a_colleague_called_like_a_word_of_yes_is_known_to_whoever_reads_the_answer(desk: Office, text: str) -> None:
    called = [Person(id=name.lower(), name=name, email=f"{name}@example.com") for name in ("Mine", "Will")]
    desk.settings = replace(desk.settings, people={**PEOPLE, **{person.id: person for person in called}})
    incident = desk.panic()
    desk.reply(desk.page("ana"), text)
    assert desk.incident(incident).state is State.OPEN
    answer = desk.sent("ana")[-1]
    assert "Clock still running" in answer.subject
    assert "NOT sent to Rita Lopez" in answer.text


def test_words_from_the_page_itself_and_the_writers_own_name_do_not_matter(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), f"Ana here, ack {incident.ref}, calling Rita\n\nAna")
    assert desk.incident(incident).holder == "ana"


def test_a_holder_gives_it_away_by_a_no_alone_and_by_nothing_longer(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    desk.reply(desk.page("ana"), "No, it is not the VPN.")
    assert desk.incident(incident).holder == "ana"
    assert desk.incident(incident).state is State.ACKED
    assert desk.pages("max") == []
    desk.reply(desk.page("ana"), "no")
    assert desk.incident(incident).state is State.OPEN
    assert desk.pages("max")


def test_who_did_not_stop_the_clock_is_told_so_at_their_own_address_with_what_to_write(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "ack", sender="ana.r@example.net")
    answer = desk.sent("ana")[-1]
    assert "Clock still running" in answer.subject
    assert "ana.r@example.net, which is not listed for you" in answer.text
    assert desk.sent("ana.r@example.net") == []


def test_a_listed_alias_acknowledges(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "got it", sender="ana@home.example")
    assert desk.incident(incident).holder == "ana"


def test_a_forwarded_ack_is_not_the_senders_own_word(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    raw = (
        "From: ana@example.com\r\nSubject: Fwd\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nack\r\n--b--\r\n"
    )
    desk.deliver(raw.encode(), "ana@example.com", [page.reply_to])
    assert desk.incident(incident).state is State.OPEN


def test_a_token_that_does_not_verify_makes_it_a_panic_that_says_so(desk: Office) -> None:
    desk.deliver(
        mail("ack", sender="ana@example.com"),
        "ana@example.com",
        ["panic+aa-aaaaaaaaaaaaaaaa-0-aaaaaaaaaaaaaaaa@example.com"],
    )
    (incident,) = desk.incidents()
    assert incident.state is State.OPEN
    assert "a token that does not verify" in desk.page("ana").text


def test_max_cannot_acknowledge_with_the_page_of_ana(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.reply(desk.page("ana"), "ack", sender="max@example.com")
    assert desk.incident(incident).state is State.OPEN


def test_where_the_reply_address_carries_no_token_the_page_that_is_answered_does(tmp_path: Path) -> None:
    plain = Addresses([PANIC], PANIC, "panic.example.com")
    office = Office(tmp_path, addresses=plain)
    incident = office.panic()
    page = office.page("ana")
    assert page.reply_to == PANIC
    office.reply(page, "ack", sender="max@example.com")
    assert office.incident(incident).state is State.OPEN
    office.reply(page, "ack")
    assert office.incident(incident).holder == "ana"
    assert len(office.incidents()) == 1
    office.close()


# -- the other words


def test_no_calls_the_smoc_at_once(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "can't, at the airport")
    assert "can't" in desk.page("max").text
    assert "Max" in desk.sent("ana")[-1].text


def test_to_bo_pages_bo_and_bos_yes_makes_it_bos(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    desk.reply(desk.page("ana"), "to bo")
    assert desk.incident(incident).holder == "ana"
    desk.reply(desk.page("bo"), "ok")
    assert desk.incident(incident).holder == "bo"


@pytest.mark.parametrize(("offer", "word"), [("", "take"), ("to bo", "ok")])
def test_who_takes_it_over_is_told_when_the_clock_stopped_and_since_when_it_is_theirs(
    desk: Office, offer: str, word: str
) -> None:
    desk.panic()
    desk.now += timedelta(minutes=2)
    desk.reply(desk.page("ana"), "ack")
    desk.now += timedelta(minutes=3)
    desk.reply(desk.page("ana"), offer or "page bo")
    desk.reply(desk.page("bo"), word)
    first = desk.sent("bo")[-1].text.splitlines()[0]
    assert first == "Clock stopped 02:09 UTC, after 2 min. Bo Low has it since 02:12 UTC, from Ana Reyes."


def test_who_takes_over_what_was_opened_again_is_told_when_the_clock_stopped_last(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "ack")
    desk.now += timedelta(minutes=10)
    desk.reply(desk.page("ana"), "escalate")
    desk.now += timedelta(minutes=1)
    desk.reply(desk.page("max"), "ack")
    desk.now += timedelta(minutes=1)
    desk.reply(desk.page("ana"), "take")
    desk.now += timedelta(minutes=1)
    desk.reply(desk.page("max"), "take")
    first = desk.sent("max")[-1].text.splitlines()[0]
    assert first == "Clock stopped 02:18 UTC, after 1 min. Max Ode has it since 02:20 UTC, from Ana Reyes."


def test_to_somebody_unknown_is_answered_with_who_there_is(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "to zoe")
    assert "ana, bo, max" in desk.sent("ana")[-1].text


def test_ack_all_takes_every_open_one_its_writer_was_paged_for(desk: Office) -> None:
    first = desk.panic(subject="one")
    second = desk.panic(subject="two")
    desk.reply(desk.page("ana"), "ack all")
    assert {desk.incident(i).holder for i in (first, second)} == {"ana"}


def test_resolve_closes_an_acknowledged_incident_and_tells_the_reporter(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.reply(page, "resolve")
    assert desk.incident(incident).state is State.ACKED
    desk.reply(page, "resolve")
    assert desk.incident(incident).state is State.RESOLVED
    assert "was closed" in desk.sent("rita@example.com")[-1].text


def test_a_bare_command_to_the_reporters_address_is_a_note_and_its_writer_is_told(desk: Office) -> None:
    incident = desk.panic()
    desk.deliver(mail("ack", sender="ana@example.com"), "ana@example.com", [PANIC])
    assert desk.incident(incident).state is State.OPEN
    assert len(desk.incidents()) == 1
    assert "Clock still running" in desk.sent("ana")[-1].subject


def test_a_real_report_of_somebody_on_call_is_a_panic_all_the_same(desk: Office) -> None:
    desk.panic()
    desk.deliver(
        mail("The build host is on fire too, come quick", sender="ana@example.com", subject="Fire"), "ana@example.com"
    )
    assert len(desk.incidents()) == 2


# -- machines


def test_an_out_of_office_of_the_seoc_calls_the_smoc_at_once(desk: Office) -> None:
    incident = desk.panic()
    raw = mail(
        "I am away.", sender="ana@example.com", subject="Automatic reply: [PANIC]", extra="Auto-Submitted: auto-replied"
    )
    desk.deliver(raw, "", [desk.page("ana").reply_to])
    assert "out of office" in desk.page("max").text
    assert desk.incident(incident).state is State.OPEN


def test_a_bounced_page_calls_the_next_one_at_once(desk: Office) -> None:
    desk.panic()
    desk.deliver(bounce("failed"), "", [desk.page("ana").mail_from])
    assert "5.1.1" in desk.page("max").text


def test_a_delayed_page_is_a_note_and_calls_nobody(desk: Office) -> None:
    incident = desk.panic()
    desk.deliver(bounce("delayed"), "", [desk.page("ana").mail_from])
    assert desk.pages("max") == []
    assert "mail.automatic" in desk.events(incident)


def test_a_bounce_that_is_not_ours_pages_once_and_answers_nobody(desk: Office) -> None:
    desk.deliver(bounce("failed"), "", [PANIC])
    assert len(desk.pages("ana")) == 1
    desk.wait(minutes=16)
    assert (len(desk.pages("ana")), desk.pages("max")) == (1, [])
    assert {posted.recipient for posted in desk.relay.sent} == {"ana@example.com"}


def test_an_automatic_mail_of_a_monitor_is_paged_like_any_panic(desk: Office) -> None:
    desk.deliver(
        mail(
            "disk of db1 is encrypted",
            sender="monitor@example.com",
            subject="ALERT",
            extra="Auto-Submitted: auto-generated",
        )
    )
    desk.wait(minutes=15)
    assert len(desk.pages("max")) == 1
    assert desk.sent("monitor@example.com") == [], "but a machine gets no receipt"


@pytest.mark.parametrize(
    "subject", ["Failed mail server, attackers inside", "Read: ransom note on all PCs", "Undeliverable laptop, stolen"]
)
def test_a_subject_alone_never_takes_the_escalation_from_a_report(desk: Office, subject: str) -> None:
    desk.panic(subject=subject)
    desk.wait(minutes=15)
    assert desk.pages("max")


def test_an_answering_machine_of_somebody_paged_opens_no_second_incident(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    auto = {"sender": "ana@example.com", "subject": "Thank you for your mail", "extra": "Auto-Submitted: auto-replied"}
    for reference in ("", page.message_id):
        desk.deliver(mail("We will be in touch.", in_reply_to=reference, **auto), "ana@example.com")
    assert [i.id for i in desk.incidents()] == [incident.id]
    assert len(desk.sent("ana")) == 1, "and it is answered by nobody"


def test_an_out_of_office_that_came_to_the_panic_address_is_a_note_and_takes_no_step(desk: Office) -> None:
    """Anybody can write one in Ana's name; absence is believed at an address that only a page to Ana names."""
    incident = desk.panic()
    extra = "Auto-Submitted: auto-replied"
    desk.deliver(mail("I am away.", sender="ana@example.com", subject="Out of office", extra=extra), "ana@example.com")
    assert desk.pages("max") == []
    assert (desk.incident(incident).away, len(desk.incidents())) == ({}, 1)
    assert desk.events(incident)[-1] == "mail.automatic"


def test_one_address_gets_a_few_receipts_an_hour_and_every_panic_of_it_is_paged(desk: Office) -> None:
    for number in range(8):
        desk.panic(subject=f"panic {number}")
    assert len(desk.sent("rita@example.com")) == 5
    assert len(desk.pages("ana")) == 8


def test_a_command_below_a_subject_of_its_own_is_a_report(desk: Office) -> None:
    desk.panic()
    raw = mail("page max", sender="ana@example.com", subject="Second attack: whole office encrypted")
    desk.deliver(raw, "ana@example.com")
    assert len(desk.incidents()) == 2


def test_an_automatic_answer_in_a_thread_long_closed_is_a_note_there_and_pages_nobody(desk: Office) -> None:
    close(desk)
    desk.now += timedelta(hours=30)
    receipt, pages = desk.sent("rita@example.com")[0], len(desk.pages("ana"))
    desk.reply(receipt, "I am away.", sender="rita@example.com", extra="Auto-Submitted: auto-replied")
    (incident,) = desk.incidents()
    assert (incident.state, desk.events(incident)[-1]) == (State.RESOLVED, "mail.automatic")
    assert len(desk.pages("ana")) == pages


@pytest.mark.parametrize(
    "raw",
    [b"", b"\r\n", b"\x00\xff\xfe", b"Subject: =?\x00?q?a?=\r\n\r\n", b"From: =?utf-8?b?A?= <a@b>\r\n\r\nhelp", b"help",
     b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" * 300],
)  # fmt: skip
def test_no_report_is_refused_for_being_ugly(desk: Office, raw: bytes) -> None:
    desk.deliver(raw)
    assert (len(desk.incidents()), len(desk.pages("ana")), len(desk.gitlab.issues)) == (1, 1, 1)


# -- the thread


def test_more_of_the_reporter_reaches_those_paged_as_a_note_not_as_a_panic(desk: Office) -> None:
    incident = desk.panic()
    receipt = desk.sent("rita@example.com")[0]
    desk.reply(receipt, "and now the server too", sender="rita@example.com")
    assert len(desk.incidents()) == 1
    assert "and now the server too" in desk.sent("ana")[-1].text
    assert "thread.more" in desk.events(incident)


def test_an_answer_to_the_reporters_own_mail_is_found_by_its_message_id(desk: Office) -> None:
    incident = desk.panic(message_id="<first@example.com>")
    desk.deliver(mail("one more thing", in_reply_to="<first@example.com>"))
    assert [i.id for i in desk.incidents()] == [incident.id]


def test_a_message_id_used_twice_with_other_text_does_not_swallow_the_panic(desk: Office) -> None:
    desk.panic(message_id="<first@example.com>")
    desk.deliver(mail("something else", sender="sam@example.com", message_id="<first@example.com>"))
    assert len(desk.incidents()) == 2


def test_a_ref_in_the_subject_alone_proves_nothing(desk: Office) -> None:
    incident = desk.panic()
    desk.deliver(mail("ack", sender="eve@example.com", subject=f"Re: [PANIC {incident.ref}] x"))
    assert len(desk.incidents()) == 2


def test_the_same_mail_again_joins_the_first_one(desk: Office) -> None:
    raw = mail("help", message_id="<m@example.com>")
    desk.deliver(raw)
    desk.deliver(b"Received: from mx2\r\n\tby mx1; today\r\n" + raw)
    (incident,) = desk.incidents()
    assert len(desk.pages("ana")) == 1
    assert "mail.resent" in desk.events(incident)


def close(desk: Office) -> Incident:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    desk.reply(desk.page("ana"), "resolve")
    return incident


def test_more_within_a_day_opens_it_again_for_its_last_holder(desk: Office) -> None:
    incident = close(desk)
    before = len(desk.pages("ana"))
    desk.reply(desk.sent("rita@example.com")[0], "it is back!", sender="rita@example.com")
    assert desk.incident(incident).state is State.OPEN
    assert len(desk.pages("ana")) == before + 1
    assert "it is back!" in desk.page("ana").text


def test_more_after_a_day_is_a_new_panic_linked_to_the_old(desk: Office) -> None:
    incident = close(desk)
    desk.now += timedelta(hours=25)
    desk.reply(desk.sent("rita@example.com")[0], "it is back!", sender="rita@example.com")
    newest, _old = desk.incidents()
    assert (newest.state, newest.linked_to) == (State.OPEN, incident.ref)


def test_what_somebody_paged_writes_about_a_closed_incident_opens_it_again_too(desk: Office) -> None:
    incident = close(desk)
    desk.reply(desk.page("ana"), "It is back, all servers are encrypted")
    assert desk.incident(incident).state is State.OPEN
    assert "all servers are encrypted" in desk.page("ana").text


def test_a_reporter_who_is_on_call_too_is_heard_by_the_others_paged(desk: Office) -> None:
    mail_id = desk.deliver(mail("my disk is gone", sender="ana@example.com"), "ana@example.com")
    incident = desk.store.read(lambda tx: tx.incidents.by_mail(mail_id))
    assert incident is not None
    desk.wait(minutes=15)
    receipt = next(posted for posted in desk.sent("ana") if not posted.is_page)
    desk.reply(receipt, "and now the backup server")
    assert "and now the backup server" in desk.sent("max")[-1].text


def test_the_reporters_words_to_somebodys_page_reach_whoever_has_it(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.reply(page, "ack")
    desk.reply(page, "it is spreading, please hurry", sender="rita@example.com")
    assert "it is spreading, please hurry" in desk.sent("ana")[-1].text
    assert [line.actor for line in desk.lines(incident) if line.event == "thread.more"] == ["rita@example.com"]


def test_a_thank_you_opens_nothing(desk: Office) -> None:
    incident = close(desk)
    desk.reply(desk.sent("rita@example.com")[0], "Thank you so much!", sender="rita@example.com")
    assert desk.incident(incident).state is State.RESOLVED


# -- receipts


@pytest.mark.parametrize(
    ("sender", "mail_from"),
    [("rita@elsewhere.example", "rita@elsewhere.example"), ("rita@example.com", ""), (PANIC, PANIC)],
)
def test_no_receipt_outside_its_domains_to_a_null_sender_or_to_ourselves(
    desk: Office, sender: str, mail_from: str
) -> None:
    desk.deliver(mail("help", sender=sender), mail_from)
    assert {posted.recipient for posted in desk.relay.sent} == {"ana@example.com"}


def test_the_receipt_goes_without_the_link_after_ten_seconds_and_the_link_follows(desk: Office) -> None:
    desk.gitlab.failures = [Temporary("down")] * 6
    desk.panic()
    assert desk.sent("rita@example.com") == []
    desk.wait(seconds=10)
    (receipt,) = desk.sent("rita@example.com")
    assert "/-/issues/" not in receipt.text
    desk.wait(seconds=60)
    assert "/-/issues/1" in desk.sent("rita@example.com")[-1].text


def test_an_unknown_sender_pages_once_when_the_operator_says_so(tmp_path: Path) -> None:
    office = Office(tmp_path, known_senders=("example.com",), once_unknown=True)
    office.deliver(mail("buy now", sender="spam@shop.example"), "spam@shop.example")
    office.wait(minutes=20)
    assert (len(office.pages("ana")), office.pages("max")) == (1, [])
    assert len(office.gitlab.issues) == 1
    office.close()


# -- the world fails


def test_a_page_is_sent_while_gitlab_is_away(desk: Office) -> None:
    desk.gitlab.failures = [Temporary("connection refused")] * 3
    desk.panic()
    assert len(desk.pages("ana")) == 1
    desk.wait(seconds=30)
    assert (len(desk.gitlab.issues), desk.gitlab.looks) == (1, 0), "a refused connection surely made no issue"


def test_the_issue_comes_within_ten_seconds_of_gitlabs_return_after_a_minute(desk: Office) -> None:
    desk.gitlab.failures = [Temporary("connection refused")] * 1000
    desk.panic()
    desk.wait(seconds=60)
    desk.gitlab.failures.clear()
    desk.wait(seconds=10)
    assert len(desk.gitlab.issues) == 1


def test_an_issue_whose_creation_was_not_answered_is_found_again_not_repeated(desk: Office) -> None:
    desk.gitlab.lost = [Unknown("read timed out")]
    incident = desk.panic()
    desk.wait(seconds=60)
    assert (desk.gitlab.creates, len(desk.gitlab.issues)) == (1, 1)
    assert desk.incident(incident).issue_iid == 1


def test_an_issue_that_was_not_made_after_all_is_looked_for_again_before_it_is_made(desk: Office) -> None:
    desk.gitlab.failures = [Unknown("reset")]
    desk.panic()
    desk.wait(seconds=9)
    assert len(desk.gitlab.issues) == 0
    desk.wait(seconds=3)
    assert (len(desk.gitlab.issues), desk.gitlab.creates) == (1, 2)
    assert desk.gitlab.looks == 2, "at once, and ten seconds later"


def test_a_daemon_killed_while_it_opened_the_issue_looks_before_it_opens_one(desk: Office) -> None:
    desk.accept(mail("help"))
    desk.intake.work()
    # Claimed, and never heard of again.
    desk.store.write("test", lambda tx: tx.outbox.claim("gitlab", 1, desk.now - desk.now))
    desk.settle()
    assert desk.gitlab.creates == 0, "the dead one's request may still be under way"
    desk.wait(seconds=11)
    assert (desk.gitlab.creates, len(desk.gitlab.issues)) == (1, 1)


def test_an_issue_gitlab_refuses_is_told_to_the_operators_and_paging_goes_on(desk: Office) -> None:
    desk.gitlab.failures = [Permanent("401 Unauthorized")] * 2
    desk.panic()
    assert len(desk.pages("ana")) == 1
    assert any("GitLab" in posted.text for posted in desk.sent("max"))
    desk.wait(minutes=21)
    assert len(desk.gitlab.issues) == 1


def test_files_that_cannot_be_uploaded_never_hold_up_the_issue(desk: Office) -> None:
    desk.gitlab.upload_failures = [Permanent("413 too large")] * 99
    desk.panic()
    assert len(desk.gitlab.issues) == 1
    desk.wait(minutes=75)
    parked = [t for t in desk.store.read(lambda tx: tx.outbox.of_incident(desk.incidents()[0].id)) if t.do == "files"]
    assert [task.state.value for task in parked] == ["parked"]


def test_a_page_the_relay_does_not_take_now_is_tried_again_with_the_same_message_id(desk: Office) -> None:
    desk.relay.failures = [Temporary("450 later"), Unknown("connection lost after the dot")]
    desk.panic()
    desk.wait(seconds=10)
    assert len(desk.pages("ana")) == 1
    assert "-1-" in desk.page("ana").message_id


def test_a_page_to_somebody_a_reload_took_away_calls_the_next_one(desk: Office) -> None:
    desk.accept(mail("help"))
    desk.intake.work()
    others = {key: person for key, person in desk.settings.people.items() if key != "ana"}
    desk.settings = replace(desk.settings, people=others)
    desk.settle()
    assert len(desk.pages("max")) == 1


def test_a_refused_page_makes_the_next_step_come_now_and_the_operators_hear(desk: Office) -> None:
    desk.relay.refused["ana@example.com"] = Permanent("550 no such user")
    incident = desk.panic()
    assert len(desk.pages("max")) == 1
    assert "ana" in desk.incident(incident).away
    assert any("550 no such user" in posted.text for posted in desk.sent("max"))


def test_when_no_page_is_taken_for_a_minute_the_next_step_comes_early_and_only_once(desk: Office) -> None:
    desk.relay.failures = [Temporary("connection refused")] * 1000
    incident = desk.panic()
    desk.wait(minutes=3)
    assert set(desk.incident(incident).away) == {"ana", "max"}
    assert desk.incident(incident).round == 2, "a dead relay does not hurry the escalation"
    desk.relay.failures.clear()
    desk.wait(minutes=6)
    assert desk.pages("max")


def test_a_mail_that_breaks_the_reading_is_read_byte_by_byte_the_second_time(desk: Office) -> None:
    class Breaks:
        def read(self, raw: bytes, mail_from: str) -> None:
            raise RuntimeError("a mistake of ours")

    desk.intake._readers = Breaks()  # type: ignore[assignment]
    desk.accept(mail("help, the server is gone", subject="Server"))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            desk.intake.work()
        desk.now += timedelta(seconds=31)
    desk.settle()
    assert "help, the server is gone" in desk.page("ana").text
    assert any("more than one try" in posted.text for posted in desk.sent("max"))


def test_a_mail_that_breaks_our_rules_is_at_last_filed_and_paged_unread(
    desk: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("panicmail.incident.classify.decide", broken)
    desk.accept(mail("help"))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            desk.intake.work()
        desk.now += timedelta(seconds=31)
    desk.settle()
    assert "could not be read" in desk.page("ana").text
    assert b"help" in desk.gitlab.uploads[0][1]


def test_an_ack_that_was_claimed_and_lost_in_a_crash_still_counts(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.accept(mail("ack", sender="ana@example.com"), "ana@example.com", [page.reply_to])
    desk.store.write("test", lambda tx: tx.mails.claim(1, desk.now - desk.now))
    desk.settle()
    assert desk.incident(incident).holder == "ana"


def test_an_incident_understood_twice_is_one(desk: Office) -> None:
    desk.accept(mail("help"))
    (claimed,) = desk.store.write("test", lambda tx: tx.mails.claim(1, desk.now - desk.now))
    desk.settle()
    desk.intake.understand(claimed)
    desk.settle()
    assert (len(desk.incidents()), len(desk.pages("ana"))) == (1, 1)


def test_a_page_that_lost_its_reason_is_not_sent(desk: Office) -> None:
    desk.relay.failures = [Temporary("450")]
    incident = desk.panic()
    link = desk.settings.link(incident.id, "ana").rpartition("/")[2]
    desk.links.act(link, "ack")
    desk.wait(seconds=30)
    assert desk.pages("ana") == []


# -- by link


def test_a_link_acknowledges_and_the_others_are_told_that_it_was_a_link(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    link = desk.settings.link(incident.id, "ana").rpartition("/")[2]
    desk.links.read_link(link)
    assert desk.incident(incident).state is State.OPEN
    desk.links.act(link, "ack")
    desk.settle()
    assert desk.incident(incident).holder == "ana"
    assert "by link, not authenticated" in desk.sent("max")[-1].text


def test_a_link_that_is_not_ours_shows_and_does_nothing(desk: Office) -> None:
    incident = desk.panic()
    link = desk.settings.link(incident.id, "ana").rpartition("/")[2]
    forged = link[:-1] + ("a" if link[-1] != "a" else "b")
    assert desk.links.read_link(forged) is None
    assert desk.links.act(forged, "ack") is None
    answer_token = desk.page("ana").reply_to.partition("+")[2].partition("@")[0]
    assert desk.links.read_link(answer_token) is None, "a token is good for its purpose only"


# -- two panicmails


def test_two_panicmails_that_page_each_other_stop_after_one_round(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    there = {**PEOPLE, "ana": replace(PEOPLE["ana"], email="panic@two.example", aliases=())}
    back = {**PEOPLE, "ana": replace(PEOPLE["ana"], email=PANIC, aliases=())}
    one = Office(tmp_path / "one", people=there)
    addresses = Addresses(["panic@two.example"], "panic+{token}@two.example", "two.example")
    two = Office(tmp_path / "two", people=back, addresses=addresses)
    one.panic()
    for _ in range(6):
        carry(one, two, "panic@two.example")
        carry(two, one, PANIC)
        one.wait(minutes=5)
        two.wait(minutes=5)
    assert len(two.incidents()) == 1
    assert len(one.incidents()) == 2, "its own, and the one that came back: filed, and nobody paged for it"
    looping = next(incident for incident in one.incidents() if incident.once)
    assert "page.accepted" not in one.events(looping)
    assert any("page each other" in posted.text for posted in one.sent("max"))
    one.close()
    two.close()


def carry(here: Office, there: Office, address: str) -> None:
    """What this office sent to the other one arrives there."""
    for posted in here.sent(address):
        there.deliver(posted.raw, posted.mail_from, [address])
    here.relay.sent = [posted for posted in here.relay.sent if posted.recipient != address]


def test_who_is_given_it_by_command_is_told_with_the_report_they_never_had(desk: Office) -> None:
    incident = desk.panic()
    desk.act(incident, "bo", Command.TAKE)
    (told,) = desk.sent("bo")
    assert told.subject == f"[{incident.ref}] Clock stopped: Bo Low has it"
    assert "By Rita Lopez <rita@example.com>" in told.text
    assert "| My files are .locked, Slack is gone." in told.text


def test_a_holder_who_loses_it_to_anothers_escalate_is_told_and_may_take_it_back(desk: Office) -> None:
    incident = desk.panic()
    desk.act(incident, "bo", Command.TAKE)
    desk.reply(desk.page("ana"), "escalate")
    told = desk.sent("bo")[-1]
    assert told.subject == f"[{incident.ref}] Clock running again: you do not have it any more"
    assert "Why: Ana Reyes asked for more people" in told.text
    desk.reply(told, "take")
    assert desk.incident(incident).holder == "bo"


def test_status_is_answered_with_what_is_open_whose_and_by_when_and_changes_nothing(desk: Office) -> None:
    first, second = desk.panic(), desk.panic(subject="Second thing")
    desk.reply(desk.page("ana"), "status?")
    told = desk.sent("ana")[-1]
    assert "nobody has it since" in told.text
    assert "next call at" in told.text
    assert first.ref in told.text
    assert second.ref in told.text
    assert desk.incident(first).state is desk.incident(second).state is State.OPEN


def test_a_holder_who_escalates_is_told_once(desk: Office) -> None:
    incident = desk.panic()
    desk.act(incident, "bo", Command.TAKE)
    before = len(desk.sent("bo"))
    desk.act(incident, "bo", Command.ESCALATE)
    assert ["Clock running again" in sent.subject for sent in desk.sent("bo")[before:]] == [False]


def test_who_answers_for_a_gap_in_the_roster_is_told_that_it_is_one(tmp_path: Path) -> None:
    schedules = Schedules({"seoc": Schedule(fallback=("bo",)), "smoc": Schedule(fixed=("max",))})
    with contextlib.closing(Office(tmp_path, schedules=schedules)) as desk:
        desk.panic()
        assert "Why you: nobody is on call as SEOC, and you answer for gaps." in desk.page("bo").text
        desk.wait(minutes=15)
        assert "Why you" not in desk.page("max").text


def test_a_note_of_what_somebody_wrote_says_why_it_did_not_acknowledge_only_where_it_should_have(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "is it real?")
    desk.reply(desk.page("ana"), "ack\nI call Rita now.")
    desk.reply(desk.page("ana"), "She does not answer.")
    wrote = [text.partition(" UTC. ")[2] for _, text, _ in desk.gitlab.notes if "Ana Reyes wrote" in text]
    assert ["did not acknowledge" in text for text in wrote] == [True, False, False]


def test_what_is_opened_after_its_sla_is_breached_at_once_and_a_yes_does_not_hide_it(desk: Office) -> None:
    mail_id = desk.accept(mail("My files are .locked.", subject="Ransom note"))
    desk.now += timedelta(minutes=20)
    desk.settle()
    incident = desk.store.read(lambda tx: tx.incidents.by_mail(mail_id))
    assert incident is not None
    assert incident.breached_at == desk.now
    desk.act(incident, "ana", Command.YES)
    assert "sla.breached" in desk.events(incident)
    assert any("no engineer has answered yet" in each.text for each in desk.sent("rita@example.com"))
