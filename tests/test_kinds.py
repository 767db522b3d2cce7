"""Who or what wrote a mail."""

from __future__ import annotations

import pytest

from panicmail.mail.reading import read
from panicmail.triage import Delivery, Kind

from .test_reading import golden, mail


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("reply_gmail", Kind.HUMAN),
        ("forwarded_ack", Kind.HUMAN),
        ("bounce_failed", Kind.BOUNCE),
        ("bounce_qmail", Kind.BOUNCE),
        ("out_of_office", Kind.OOO),
        ("read_receipt", Kind.MDN),
        ("calendar_reply", Kind.CALENDAR),
        ("list_copy", Kind.LIST),
    ],
)
def test_each_kind_is_told_from_the_others_with_a_reason(name: str, kind: Kind) -> None:
    report = read(golden(name))
    assert report.kind is kind
    assert bool(report.why) is (kind is not Kind.HUMAN)


def test_a_bounce_says_which_recipient_failed_and_which_is_late() -> None:
    assert read(golden("bounce_failed")).deliveries == (
        Delivery(recipient="ana@example.com", action="failed", status="5.1.1"),
        Delivery(recipient="max@example.com", action="delayed", status="4.4.1"),
    )


def test_a_bounce_in_prose_names_its_recipient_too() -> None:
    assert read(golden("bounce_qmail")).deliveries == (
        Delivery(recipient="ana@example.com", action="failed", status="5.1.1"),
    )


def test_a_header_names_failed_recipients_where_no_report_does() -> None:
    report = read(mail("X-Failed-Recipients: ana@example.com, Max@example.com", "From: x@y.example"))
    assert report.kind is Kind.BOUNCE
    assert [each.recipient for each in report.deliveries] == ["ana@example.com", "max@example.com"]


def test_the_page_a_bounce_returns_is_not_its_own_text() -> None:
    assert "ACK" not in read(golden("bounce_failed")).reply_text


@pytest.mark.parametrize(
    "line",
    [
        "Auto-Submitted: auto-replied",
        "AUTO-SUBMITTED: Auto-Generated",
        'Auto-Submitted: auto-notified; owner-email="x@y"',
        "Auto-Submitted: (a comment) auto-replied",
        "Auto-Submitted:",
        "Precedence: bulk",
        "X-Precedence: auto_reply",
        "X-Autoreply: yes",
        "X-Autorespond: x",
        "X-Auto-Reply-From: a@b",
        "X-FC-MachineGenerated: true",
        "X-MS-Exchange-Generated-Message-Source: Mailbox Rules Agent",
        "X-POST-MessageClass: 9; Autoresponder",
        "Delivered-To: Autoresponder",
        "X-Loop: x",
        "List-Unsubscribe: <mailto:x@y>",
        "Return-Path: <>",
        "Content-Type: message/disposition-notification",
        "Content-Type: text/calendar; method=REPLY",
    ],
)
def test_one_sign_of_a_machine_is_enough(line: str) -> None:
    report = read(mail("From: ana@example.com", "Subject: Re: [PANIC 7K3Q]", line, body="ack"))
    assert report.kind is not Kind.HUMAN
    assert report.why


@pytest.mark.parametrize(
    "line",
    [
        "Auto-Submitted: no",
        "Auto-Submitted: No (a person)",
        "Precedence: first-class",
        "X-Auto-Response-Suppress: All",
        "X-MS-Exchange-Inbox-Rules-Loop: ana@example.com",
        "Subject: Re: Out of office printer",
        "Subject: Fwd: Mail delivery failed: returning message to sender",
        "Subject: Please read: this is strange",
        "Return-Path: <ana@example.com>",
        "X-Autoreply: no",
    ],
)
def test_what_people_send_as_well_is_no_sign(line: str) -> None:
    assert read(mail("From: ana@example.com", line, body="ack, I am out of the office but at it")).kind is Kind.HUMAN


@pytest.mark.parametrize(
    "subject",
    [
        "Automatic reply: [PANIC 7K3Q]",
        "Out of Office: back Monday",
        "Abwesenheitsnotiz",
        "Automatische Antwort: x",
        "Réponse automatique : x",
        "Respuesta automática: x",
        "Risposta automatica: x",
        "Resposta automática: x",
        "Automatisch antwoord: x",
        "Autosvar: x",
        "Frånvaro",
        "Автоответ: x",
        "自動応答: x",
        "自动回复: x",
    ],
)
def test_absence_is_known_by_its_subject_in_many_languages(subject: str) -> None:
    assert read(mail("From: ana@example.com", f"Subject: {subject}", body="ok")).kind is Kind.OOO


@pytest.mark.parametrize(
    "sender",
    ["no-reply@x.example", "noreply@x.example", "ops-bounces@x.example", "owner-ops@x.example", "listserv@x.example"],
)
def test_addresses_of_machines_are_signs(sender: str) -> None:
    assert read(mail(f"From: {sender}", "Subject: x")).kind is Kind.AUTO_REPLY


def test_a_postmaster_who_reports_a_failure_is_a_bounce_and_else_an_automaton() -> None:
    assert read(mail("From: postmaster@x.example", body="No such user here")).kind is Kind.BOUNCE
    assert read(mail("From: postmaster@x.example", body="hello")).kind is Kind.AUTO_REPLY


@pytest.mark.parametrize(
    ("mail_from", "kind"),
    [("", Kind.AUTO_REPLY), ("<>", Kind.AUTO_REPLY), ("a@b", Kind.HUMAN), ("?", Kind.HUMAN), (None, Kind.HUMAN)],
)
def test_the_null_envelope_sender_is_a_sign_and_an_unknown_one_is_not(mail_from: str | None, kind: Kind) -> None:
    assert read(mail("From: ana@example.com", body="ack"), mail_from=mail_from).kind is kind


def test_a_null_sender_that_tells_of_a_failure_is_a_bounce() -> None:
    assert read(mail("From: ana@example.com", "Subject: Undeliverable: x"), mail_from="").kind is Kind.BOUNCE
