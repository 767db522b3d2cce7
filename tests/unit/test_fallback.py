"""`read_bytes`: what is left when nothing else can read a mail."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident.classify import MailKind, Report
from panicmail.mail.parse.bytes_fallback import read_bytes
from tests.examples import examples


def test_it_gives_subject_sender_thread_and_the_beginning_of_the_body() -> None:
    report = read_bytes(
        b"From: =?utf-8?b?SsO8cmdlbg==?= <J@Example.org>\r\nSubject: =?utf-8?q?H=C3=BClfe?=\r\n =?utf-8?q?!?=\r\n"
        b"Message-ID: <m@x>\r\nReferences: <a@x> <b@x>\r\nIn-Reply-To: <b@x>\r\nReply-To: other@example.org\r\n\r\n"
        + "Käse ".encode()
        * 2000
    )
    assert report.subject == "Hülfe!"
    assert (report.from_name, report.from_address) == ("Jürgen", "j@example.org")
    assert (report.message_id, report.references) == ("<m@x>", ("<a@x>", "<b@x>"))
    assert report.reply_to == "other@example.org"
    assert report.text.startswith("Käse Käse")
    assert len(report.text.encode()) <= 4200


def test_it_never_acknowledges() -> None:
    report = read_bytes(b"From: a@b.example\r\n\r\nack", why="deadline")
    assert not report.lossless
    assert report.reply_text == ""
    assert report.defects == ("not parsed: deadline",)


def test_two_from_fields_are_nobody_here_as_well() -> None:
    report = read_bytes(b"From: a@b.example\r\nFrom: c@d.example\r\n\r\n")
    assert (report.from_address, report.from_shown) == ("", "a@b.example")


@pytest.mark.parametrize(
    ("raw", "mail_from", "kind"),
    [
        (b"Auto-Submitted: auto-replied\r\n\r\n", "?", MailKind.AUTO_REPLY),
        (b"Subject: Out of office\r\n\r\n", "?", MailKind.HUMAN),  # a subject alone makes nobody a machine
        (b"Auto-Submitted: auto-replied\r\nSubject: Out of office\r\n\r\n", "?", MailKind.OOO),
        (b"List-Id: <x>\r\n\r\n", "?", MailKind.LIST),
        (b"From: MAILER-DAEMON@x\r\n\r\n", "?", MailKind.BOUNCE),
        (
            b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n",
            "?",
            MailKind.BOUNCE,
        ),
        (b"From: a@b.example\r\n\r\nhello", "", MailKind.AUTO_REPLY),
        (b"From: a@b.example\r\n\r\nhello", "<>", MailKind.AUTO_REPLY),
        (b"From: a@b.example\r\n\r\nhello", None, MailKind.HUMAN),
    ],
)
def test_signs_of_machines_show_without_parsing(raw: bytes, mail_from: str | None, kind: MailKind) -> None:
    assert read_bytes(raw, mail_from=mail_from).kind is kind


@pytest.mark.parametrize(
    "raw",
    [
        b"\r" * 5_000_000,
        b"X: y\r\n" * 500_000,
        b"Subject:" + b" =?utf-8?q?a?=" * 100_000,
        b"From: " + b"<" * 2_000_000,
        b"From: " + b"a." * 1_000_000 + b"@b",
        b"References: " + b"<" * 2_000_000,
        b"\r\n" + b"\n" * 5_000_000,
    ],
)
def test_megabytes_of_malice_take_a_moment(raw: bytes) -> None:
    before = time.process_time()
    read_bytes(raw)
    assert time.process_time() - before < 5


@examples(150)
@given(st.binary(max_size=300), st.sampled_from(["", "?", "a@b", None]))
def test_it_never_raises(noise: bytes, mail_from: str | None) -> None:
    for raw in (noise, b"Subject: =?utf-8?b?" + noise + b"?=\r\nFrom: " + noise + b"\r\n\r\n" + noise):
        report = read_bytes(raw, mail_from=mail_from)
        assert isinstance(report, Report)
        report.subject.encode()
        report.text.encode()


@pytest.mark.parametrize("octet", [b"\0", b"\x1b", b"\x7f", b"\x01", b" "])
def test_an_id_with_a_control_character_is_none_rather_than_another_mails(octet: bytes) -> None:
    raw = b"From: a@example.com\r\nMessage-ID: <x" + octet + b"y@example.com>\r\nReferences: <a@b> <x"
    report = read_bytes(raw + octet + b"y@example.com> <c@d>\r\n\r\nhello\r\n")
    assert (report.message_id, report.references) == (None, ("<a@b>", "<c@d>"))


def test_an_id_too_long_for_a_line_is_none() -> None:
    raw = b"Message-ID: <" + b"x" * 1000 + b"@example.com>\r\nIn-Reply-To: <a@b>\r\n\r\nhello\r\n"
    assert (read_bytes(raw).message_id, read_bytes(raw).references) == (None, ("<a@b>",))
