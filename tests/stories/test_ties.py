"""A panic is a panic: what people's mails look like that were taken for a machine's, and what automata send."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from panicmail.incident.model import Incident, Owed, State
from panicmail.incident.reply_tokens import Purpose
from panicmail.oncall.runtime_settings import RuntimeSettings
from tests.office import PANIC, Office, mail

GROUP = "Precedence: list\nList-ID: <panic.example.com>\nX-BeenThere: panic@example.com"
FOREIGN = "Precedence: list\nList-Id: Everybody <all.lists.example.net>"
AWAY = "Auto-Submitted: auto-replied"
RITA, ANA = "rita@example.com", "ana@example.com"


def with_part(text: str, part: str, *, subject: str, sender: str = RITA, more: str = "") -> bytes:
    """A mail of a person's with something attached."""
    lines = [f"From: {sender}", f"To: {PANIC}", f"Subject: {subject}", *filter(None, more.split("\n"))]
    lines += ["MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=M", "", "--M", "Content-Type: text/plain"]
    return "\r\n".join([*lines, "", text, "--M", *part.split("\n"), "--M--", ""]).encode()


INVITATION = "Content-Type: text/calendar; method=REQUEST\nContent-Disposition: attachment; filename=i.ics\n\nBEGIN:"
RETURNED = "Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; x@example.net\nAction: failed"
HEADERS = "Content-Type: text/rfc822-headers\n\nSubject: x"
READ = "Content-Type: message/disposition-notification\n\nDisposition: manual-action/MDN-sent-manually; displayed"
#: How the reports of people look that bear a sign of a machine: octets, and the envelope sender.
ODD = {
    "group": (mail("My badge was cloned.", subject="Badge", extra=GROUP), "panic+bounces@example.com"),
    "group, by its address": (mail("x", subject="Badge", extra="List-Post: <mailto:Panic@example.com>"), RITA),
    "group that adds bulk": (mail("x", subject="B", extra=f"{GROUP}\nX-Precedence: bulk\nX-Loop: panic"), RITA),
    "invitation": (with_part("Bob signed in there.", INVITATION, subject="Fake invitation"), RITA),
    "returned mail": (with_part("I sent none of these.", RETURNED, subject="Fwd: Undelivered Mail Returned"), RITA),
    "its headers": (with_part("I sent none of these.", HEADERS, subject="Delivery failures, hundreds"), RITA),
    "read receipt": (with_part("He has read my mail!", READ, subject="Read: my payslip"), RITA),
    "null sender": (mail("I clicked on a parcel delivery notice.", subject="Parcel"), ""),
    "null sender, vacation": (mail("Look at this.", subject="Vacation photos with customer data are public"), ""),
    "cron": (mail("Integrity check failed.", subject="db1", extra="Auto-Submitted: auto-generated"), RITA),
    "bulk": (mail("root login on db1", subject="ALERT", extra="Precedence: bulk"), RITA),
    "rule": (mail("x", extra="X-Auto-Response-Suppress: All\nX-MS-Exchange-Inbox-Rules-Loop: rita@example.com"), RITA),
}  # fmt: skip
#: Subjects that begin as automata's do, and go on as a person's.
SUBJECTS = (
    "Vacation photos with customer data are public",
    "Undeliverable mail by the hundred: my account is abused",
    "Accepted: a fake invitation, and I signed in",
    "Auto: somebody broke into the company car",
    "Read: everything on the share is encrypted",
    "Out of office message set by the intruder",
    "OOO: my badge was used while I was away",
    "Ticket received, and there is malware in it",
)


def names(incident: Incident) -> tuple[State, bool]:
    return incident.state, incident.once


def is_full_panic(desk: Office, mail_id: str) -> bool:
    """Whether this mail opened an incident that the manager is called for when nobody answers."""
    incident = desk.store.read(lambda tx: tx.incidents.by_mail(mail_id))
    assert incident is not None
    desk.wait(minutes=15)
    called = any(f"[PANIC {incident.ref}]" in page.subject for page in desk.sent("max"))
    return called and names(desk.incident(incident)) == (State.OPEN, False)


@pytest.mark.parametrize("look", ODD)
def test_a_persons_report_that_bears_a_sign_of_a_machine_gets_the_full_policy(desk: Office, look: str) -> None:
    raw, mail_from = ODD[look]
    mail_id = desk.deliver(raw, mail_from)
    assert is_full_panic(desk, mail_id)


@pytest.mark.parametrize("look", ODD)
def test_a_second_report_of_somebody_paged_is_a_panic_whatever_sign_it_bears(desk: Office, look: str) -> None:
    first = desk.panic()
    raw, mail_from = ODD[look]
    mail_id = desk.deliver(raw.replace(RITA.encode(), ANA.encode()), mail_from)
    assert len(desk.incidents()) == 2
    assert desk.incident(first) == first, "and the first one is as it was: no step, nobody away"
    assert is_full_panic(desk, mail_id)


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("sender", [RITA, ANA])
def test_plain_words_under_a_machine_like_subject_are_a_panic_with_a_receipt(
    desk: Office, subject: str, sender: str
) -> None:
    first = desk.panic()
    mail_id = desk.deliver(mail("Please somebody look at this now.", sender=sender, subject=subject), sender)
    assert desk.incident(first) == first
    assert desk.sent(sender)[-1].subject.startswith(f"Re: {subject}"[:30])
    assert is_full_panic(desk, mail_id)


@pytest.mark.parametrize("extra", [GROUP, FOREIGN, "List-Unsubscribe: <https://m.example.com/u>", "Precedence: bulk"])
def test_a_sender_who_is_listed_gets_the_full_policy_whatever_list_or_bulk_headers_the_mail_bears(
    desk: Office, extra: str
) -> None:
    desk.settings = listing(desk, RITA)
    mail_id = desk.deliver(mail("root login", subject="db1", extra=extra))
    assert is_full_panic(desk, mail_id)
    assert bool(desk.sent(RITA)) is (extra != "Precedence: bulk"), "a person reads a receipt"


def listing(desk: Office, *known: str) -> RuntimeSettings:
    return replace(desk.settings, known_senders=known, once_unknown=True)


@pytest.mark.parametrize("extra", [FOREIGN, "List-Unsubscribe: <https://news.example.net/u>"])
def test_a_copy_of_a_foreign_list_is_paged_once_and_gets_no_receipt(desk: Office, extra: str) -> None:
    desk.deliver(mail("Ten ways to be safe.", subject="Newsletter", extra=extra))
    assert desk.incidents()[0].once
    assert desk.sent(RITA) == []


def test_a_group_of_ours_that_writes_in_its_own_name_gets_no_receipt(desk: Office) -> None:
    mail_id = desk.deliver(mail("x", sender="Rita via Panic <panic@example.com>", subject="Badge", extra=GROUP))
    assert desk.sent(PANIC) == []
    assert is_full_panic(desk, mail_id)


# -- automatic answers without a tie


def answer(sender: str, number: int = 0, *, extra: str = AWAY) -> bytes:
    return mail(f"I am out of office. {number}", sender=sender, subject=f"Automatic reply: {number}", extra=extra)


ANSWERS = [
    AWAY,
    "X-Autoreply: yes",
    "Precedence: auto_reply",
    "Auto-Submitted: auto-generated",  # as Exchange calls its absences
    "Precedence: bulk",  # and old programs theirs
    f"{AWAY}\nList-Id: <panic.example.com>",
]


@pytest.mark.parametrize("extra", ANSWERS)
def test_an_automatic_answer_is_paged_once_per_mailbox_and_hour_and_those_that_follow_are_notes(
    desk: Office, extra: str
) -> None:
    desk.settings = listing(desk, "example.net")
    for number in range(3):
        desk.deliver(answer("desk@example.net", number, extra=extra), "")
        desk.now += timedelta(minutes=10)
    (incident,) = desk.incidents()
    assert (incident.once, len(desk.pages("ana"))) == (True, 1)
    assert desk.events(incident).count("mail.automatic") == 2
    desk.deliver(answer("other@example.net", extra=extra), "")
    assert len(desk.pages("ana")) == 2, "another mailbox is paged on its own"
    desk.now += timedelta(minutes=31)
    desk.deliver(answer("desk@example.net", 4, extra=extra), "")
    assert len(desk.pages("ana")) == 3, "and an hour later so is the same one"
    assert {posted.recipient for posted in desk.relay.sent} == {ANA}, "none has a receipt"


def test_an_automatic_answer_of_whom_we_mailed_within_a_day_is_a_note_on_that_incident(office: Office) -> None:
    incident = office.panic()
    office.now += timedelta(hours=23)
    office.deliver(answer(RITA), "")
    assert (len(office.incidents()), office.events(incident)[-1]) == (1, "mail.automatic")
    office.now += timedelta(hours=2)
    office.deliver(answer(RITA, 1), "")
    assert len(office.incidents()) == 2, "we have not mailed that address for longer than a day"


def test_forged_absences_to_the_panic_address_move_nothing(desk: Office) -> None:
    incident = desk.panic()
    for person in (ANA, "max@example.com", "ana@home.example"):
        for extra in ANSWERS:
            desk.deliver(answer(person, extra=extra), "")
    now = desk.incident(incident)
    assert (now.away, now.next_step_at, desk.pages("max")) == ({}, incident.next_step_at, [])


@pytest.mark.parametrize("extra", [*ANSWERS, ""])
@pytest.mark.parametrize("purpose", [Purpose.ANSWER, Purpose.BOUNCE])
def test_an_absence_is_believed_at_the_persons_own_address_and_envelope(
    desk: Office, purpose: Purpose, extra: str
) -> None:
    desk.panic()
    page = desk.page("ana")
    to = page.reply_to if purpose is Purpose.ANSWER else page.mail_from
    desk.deliver(answer(ANA, extra=extra), "", [to])
    assert "out of office" in desk.page("max").text


def test_who_seems_away_by_the_label_of_a_reply_is_told_once_what_was_made_of_it(desk: Office) -> None:
    incident = desk.panic()
    page, told = desk.page("ana"), len(desk.sent("ana"))
    for _ in range(3):
        said = mail("I saw it, wait.", sender=ANA, subject="Out of office: x", in_reply_to=page.message_id)
        desk.deliver(said, ANA, [page.reply_to])
    assert desk.incident(incident).away
    assert len(desk.sent("ana")) == told + 1
    assert "looks like an out-of-office reply" in desk.sent("ana")[-1].text
    assert any("I saw it, wait." in text for _, text, _ in desk.gitlab.notes)


# -- in a thread


def held(desk: Office) -> Incident:
    incident = desk.panic(message_id="<report@mail.example.com>")
    desk.reply(desk.page("ana"), "ack")
    return incident


IN_THREAD = "In-Reply-To: <report@mail.example.com>\nReferences: <report@mail.example.com>"


@pytest.mark.parametrize(
    "raw",
    [
        mail("QUOKKA", subject="Re: x", extra=f"{GROUP}\n{IN_THREAD}"),
        mail("QUOKKA", subject="Re: x", extra=f"{FOREIGN}\n{IN_THREAD}"),
        mail("QUOKKA", subject="Re: x", extra=f"Precedence: bulk\n{IN_THREAD}"),
        *(mail("QUOKKA", subject=subject, extra=IN_THREAD) for subject in SUBJECTS),
        *(with_part("QUOKKA", part, subject="Re: x", more=IN_THREAD) for part in (INVITATION, RETURNED, HEADERS, READ)),
    ],
)
@pytest.mark.parametrize("mail_from", [RITA, ""])
def test_a_persons_words_in_the_thread_reach_the_holder_whatever_sign_they_bear(
    desk: Office, raw: bytes, mail_from: str
) -> None:
    incident = held(desk)
    desk.deliver(raw, mail_from)
    assert len(desk.incidents()) == 1
    assert "QUOKKA" in desk.sent("ana")[-1].text
    assert desk.incident(incident).owed is Owed.ANSWER


@pytest.mark.parametrize(
    "extra", [AWAY, "Auto-Submitted: auto-generated", "X-Autoreply: yes", f"{AWAY}\n{GROUP}", "X-Autorespond: x"]
)
def test_a_sure_automaton_in_the_thread_is_a_note_alone(desk: Office, extra: str) -> None:
    incident = held(desk)
    sent = len(desk.relay.sent)
    desk.deliver(mail("I am away.", subject="Automatic reply: x", extra=f"{extra}\n{IN_THREAD}"))
    assert (len(desk.relay.sent), desk.events(incident)[-1]) == (sent, "mail.automatic")


def test_what_is_attached_to_a_follow_up_with_an_invitation_goes_to_the_issue(desk: Office) -> None:
    held(desk)
    desk.deliver(with_part("QUOKKA", INVITATION, subject="Re: x", more=IN_THREAD))
    assert "i.ics" in [name for name, _ in desk.gitlab.uploads]


@pytest.mark.parametrize("subject", ["Undeliverable mails are coming in", "Out of office printer", "Read: urgent"])
def test_an_ack_whose_subject_only_sounds_like_a_machine_counts(desk: Office, subject: str) -> None:
    incident = desk.panic()
    desk.deliver(mail("ack", sender=ANA, subject=subject), ANA, [desk.page("ana").reply_to])
    assert desk.incident(incident).state is State.ACKED


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (mail("ack", sender=ANA, subject="Re: x", extra=GROUP), "by a mailing list or group"),
        (with_part("ack", INVITATION, subject="Re: x", sender=ANA), "it holds an invitation"),
        (mail("ack", sender=ANA, subject="Undeliverable: x", in_reply_to="<x@y>"), "it looks like a returned mail"),
        (mail("ack", sender=ANA, subject="Re: x", extra="Precedence: bulk"), "it looks like an automatic mail"),
    ],
)
def test_an_answer_that_bears_a_sign_of_a_machine_does_not_count_and_its_writer_is_told(
    desk: Office, raw: bytes, why: str
) -> None:
    incident = desk.panic()
    desk.deliver(raw, ANA, [desk.page("ana").reply_to])
    assert names(desk.incident(incident)) == (State.OPEN, False)
    assert desk.pages("max") == [], "and it is no bounce of the page"
    assert why in desk.sent("ana")[-1].text


def test_a_machine_that_shows_no_sure_sign_is_answered_a_few_times_an_hour(desk: Office) -> None:
    desk.panic()
    page, told = desk.page("ana"), len(desk.sent("ana"))
    for number in range(12):
        desk.deliver(mail(f"Ticket {number}", sender="no-reply@desk.example", subject="Re: x"), RITA, [page.reply_to])
    assert len(desk.sent("ana")) == told + 5


@pytest.mark.parametrize("extra", ["References: <own@mail.example.com>", "In-Reply-To: <own@mail.example.com>", ""])
def test_a_mails_own_message_id_ties_it_to_nothing(desk: Office, extra: str) -> None:
    first = desk.panic(message_id="<own@mail.example.com>")
    events = desk.events(first)
    desk.deliver(mail("Another matter.", sender="bo@example.com", message_id="<own@mail.example.com>", extra=extra))
    assert (len(desk.incidents()), desk.events(first)) == (2, events)


def test_a_bare_word_in_the_thread_of_a_held_incident_is_no_note_on_another_one(desk: Office) -> None:
    first = held(desk)
    second = desk.panic(subject="Second")
    desk.deliver(mail("ok", sender=ANA, subject="Re: x", extra=IN_THREAD), ANA)
    assert "person.wrote" not in desk.events(second)
    assert len(desk.incidents()) == 2
    assert desk.incident(first).holder == "ana"


def test_references_in_a_mail_to_a_forged_token_still_tie(desk: Office) -> None:
    incident = held(desk)
    forged = "panic+aa-aaaaaaaaaaaaaaaa-0-aaaaaaaaaaaaaaaa@example.com"
    desk.deliver(mail("It spreads.", subject="Re: x", extra=IN_THREAD), RITA, [forged])
    assert len(desk.incidents()) == 1
    assert "thread.more" in desk.events(incident)


def test_a_structured_bounce_of_nothing_of_ours_is_paged_once(desk: Office) -> None:
    raw = (
        "From: MAILER-DAEMON@mx.example.net\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nsorry\r\n--b\r\n"
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n"
        "Final-Recipient: rfc822; x@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
    )
    desk.deliver(raw.encode(), "")
    assert desk.incidents()[0].once
    assert len(desk.pages("ana")) == 1


# -- the same mail again

DATED = "Date: Mon, 30 Nov 2026 03:00:00 +0000"
FOOTER = "\n\n_____\nstaff mailing list\nhttps://lists.example.net/staff"


def twice(
    desk: Office, *, text: str = "A ransom note, ZORILLA.", date: str = DATED, extra: str = "", **header: str
) -> tuple[int, int]:
    """A report, and ten seconds later another mail of the same Message-ID. How many incidents, and pages to Ana."""
    about = {"subject": "Ransom note", "message_id": "<two@mail.example.com>"}
    desk.deliver(mail("A ransom note, ZORILLA.", extra=DATED, **about))
    desk.now += timedelta(seconds=10)
    again = mail(text, **{**about, "extra": f"{date}\n{extra}".strip(), **header})
    desk.deliver(again, "staff-bounces@lists.example.net")
    return len(desk.incidents()), len(desk.pages("ana"))


@pytest.mark.parametrize(
    ("text", "subject", "extra"),
    [
        (f"A ransom note, ZORILLA.{FOOTER}", "[staff] Ransom note", FOREIGN),
        ("A ransom note, ZORILLA.", "Ransom note", "X-Spamd-Queue-Id: BBB"),
        ("CAUTION: from outside.\n\nA ransom note,\nZORILLA.", "[EXT] Ransom note", "X-Scanned: yes"),
        ("A ransom note, ZORILLA.", "Ransom note", GROUP),
        ("A ransom note, ZORILLA.", "Ransom note", "Date: Mon, 30 Nov 2026 03:00:03 +0000"),
    ],
)
def test_the_same_mail_by_another_way_joins_the_first_and_those_paged_are_told(
    desk: Office, text: str, subject: str, extra: str
) -> None:
    date = {"date": ""} if extra.startswith("Date") else {}
    assert twice(desk, text=text, subject=subject, extra=extra, **date) == (1, 1)
    (incident,) = desk.incidents()
    assert desk.events(incident)[-1] == "mail.resent"
    told = desk.sent("ana")[-1]
    assert "came again" in told.subject
    assert "nobody has this" in told.text
    assert len(desk.sent(RITA)) == 1, "one receipt"
    desk.wait(minutes=5)
    assert "came again by" in desk.page("ana").text


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("Another matter: my badge was cloned.", {}),
        ("A ransom note, ZORILLA.", {"sender": "Bo <bo@example.com>"}),
        ("A ransom note, ZORILLA.", {"date": "Date: Mon, 30 Nov 2026 03:01:01 +0000"}),
        ("A ransom note, ZORILLA.", {"date": ""}),
        ("A ransom note, ZORILLA. " + "And now the server. " * 200, {}),
        ("", {}),
    ],
)
def test_a_message_id_that_was_used_before_swallows_no_panic(desk: Office, text: str, header: dict[str, str]) -> None:
    assert twice(desk, text=text, **header) == (2, 2)


def test_a_mail_that_a_foreign_list_brought_first_is_a_full_panic_when_it_comes_itself(desk: Office) -> None:
    about = {"subject": "Ransom note", "message_id": "<two@mail.example.com>"}
    desk.deliver(mail(f"A ransom note.{FOOTER}", extra=f"{DATED}\n{FOREIGN}", **about))
    once = desk.incidents()[0]
    mail_id = desk.deliver(mail("A ransom note.", extra=DATED, **about))
    assert once.once
    assert f"as {once.ref}, which was paged once" in " ".join(desk.page("ana").text.split())
    assert is_full_panic(desk, mail_id)


def test_the_same_mail_by_another_way_after_a_quarter_of_an_hour_is_a_panic(office: Office) -> None:
    about = {"subject": "Ransom note", "message_id": "<two@mail.example.com>"}
    office.deliver(mail("A ransom note.", extra=DATED, **about))
    office.now += timedelta(minutes=16)
    office.deliver(mail("A ransom note.", extra=f"{DATED}\nX-Scanned: yes", **about))
    assert len(office.incidents()) == 2


def test_an_answer_that_comes_to_the_panic_address_too_still_acknowledges(office: Office) -> None:
    incident = office.panic()
    about = {"sender": ANA, "subject": "Re: x", "message_id": "<a@mail.example.com>", "extra": DATED}
    office.deliver(mail("ack", **about), ANA, [PANIC])
    office.deliver(mail("ack", **about), ANA, [office.page("ana").reply_to])
    assert office.incident(incident).holder == "ana"


def test_files_that_only_the_second_copy_has_go_to_the_issue(desk: Office) -> None:
    more = f"{DATED}\nMessage-ID: <two@mail.example.com>"
    desk.deliver(mail("QUOKKA", subject="x", message_id="<two@mail.example.com>", extra=DATED))
    desk.deliver(with_part("QUOKKA", INVITATION, subject="x", sender="Rita Lopez <rita@example.com>", more=more))
    assert len(desk.incidents()) == 1
    assert "i.ics" in [name for name, _ in desk.gitlab.uploads]


def test_the_same_octets_again_are_told_to_whoever_has_it_and_not_each_time(desk: Office) -> None:
    probe = b"From: probe@example.com\r\nTo: panic@example.com\r\nSubject: honeypot\r\n\r\ntouched\r\n"
    desk.deliver(probe, "probe@example.com")
    told = len(desk.sent("ana"))
    desk.deliver(probe, "probe@example.com")
    assert len(desk.sent("ana")) == told, "a server's second try while everybody is paged anyway"
    desk.reply(desk.page("ana"), "ack")
    told = len(desk.sent("ana"))
    for _ in range(5):
        desk.deliver(probe, "probe@example.com")
        desk.now += timedelta(minutes=1)
    assert len(desk.sent("ana")) == told + 1
    assert "came again" in desk.sent("ana")[-1].text
    desk.now += timedelta(minutes=6)
    desk.deliver(probe, "probe@example.com")
    assert len(desk.sent("ana")) == told + 2
    assert len(desk.incidents()) == 1


@pytest.mark.parametrize("is_held", [True, False])
def test_a_follow_up_that_comes_again_by_the_same_octets_is_told_and_a_servers_retry_is_not(
    desk: Office, is_held: bool
) -> None:
    incident = desk.panic(message_id="<quokka@mail.example.com>")
    raw = b"From: rita@example.com\r\nSubject: Re: x\r\nIn-Reply-To: <quokka@mail.example.com>\r\n\r\nit spreads\r\n"
    if is_held:
        desk.reply(desk.page("ana"), "ack")
    desk.deliver(raw)
    told = len(desk.sent("ana"))
    desk.now += timedelta(minutes=1)
    desk.deliver(raw)
    assert len(desk.sent("ana")) == told, "a server's second try"
    for _ in range(6):
        desk.now += timedelta(minutes=4)
        desk.deliver(raw)
    assert len(desk.sent("ana")) == told + 2, "every ten minutes at most"
    assert f"a mail with more on {incident.ref} came again" in desk.sent("ana")[-1].text
    assert len(desk.incidents()) == 1


def test_a_follow_up_from_before_the_ack_that_comes_again_is_told_to_whoever_has_it(desk: Office) -> None:
    desk.panic(message_id="<quokka@mail.example.com>")
    raw = b"From: rita@example.com\r\nSubject: Re: x\r\nIn-Reply-To: <quokka@mail.example.com>\r\n\r\nit spreads\r\n"
    desk.deliver(raw)
    desk.now += timedelta(minutes=1)
    desk.reply(desk.page("ana"), "ack")
    told = len(desk.sent("ana"))
    desk.now += timedelta(minutes=1)
    desk.deliver(raw)
    assert len(desk.sent("ana")) == told + 1


def test_more_of_a_holders_own_words_sent_once_more_is_told_to_nobody(desk: Office) -> None:
    held(desk)
    raw = mail("QUOKKA", subject="Re: x", extra=IN_THREAD)
    desk.deliver(raw)
    told = len(desk.sent("ana"))
    desk.deliver(raw)
    assert len(desk.sent("ana")) == told
