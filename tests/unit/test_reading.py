"""`read`: what a mail says, and who it says it is from."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident.classify import MailKind, Report
from panicmail.mail.parse.parser import explain, parts, read
from tests.examples import examples
from tests.golden_mails import golden, mail

# --- what it says


def test_a_mail_is_read_with_its_thread_its_date_and_its_words() -> None:
    report = read(golden("reply_gmail"))
    assert report.subject == "Re: [PANIC 7K3Q] Database unreachable"
    assert (report.from_name, report.from_address) == ("Ana Reyes", "ana@example.com")
    assert report.message_id == "<r1@mail.example.com>"
    assert report.references == ("<report@example.org>", "<page-1@panic.example.com>")
    assert report.date == datetime(2026, 11, 21, 9, 5, tzinfo=UTC)
    assert report.reply_text == "on it"
    assert "Database unreachable" in report.text
    assert report.kind is MailKind.HUMAN
    assert report.lossless
    assert report.defects == ()


def test_the_text_of_a_forwarded_mail_is_shown_but_is_never_the_senders_own() -> None:
    report = read(golden("forwarded_ack"))
    assert report.reply_text == "Max said this last week. What do I do?"
    assert "[attached mail]\nFrom: Max Ender <max@example.com>" in report.text
    assert report.text.endswith("ACK")
    assert [each.name for each in report.attachments] == ["Re: [PANIC 2222] Old.eml"]


def test_a_mail_that_is_nothing_but_a_forwarded_one_has_no_words_of_its_own() -> None:
    raw = mail("From: a@b.example", "Content-Type: message/rfc822", body="Subject: x\r\n\r\nACK\r\n")
    assert read(raw).reply_text == ""
    assert "ACK" in read(raw).text


def test_a_mail_in_html_alone_is_read_without_what_is_hidden_or_history() -> None:
    report = read(golden("reply_outlook_html_only"))
    assert report.reply_text == "What is the host name?"
    assert "margin" not in report.text
    assert "display" not in report.text
    assert report.text.startswith("What is the host name?\n\nFrom: panicmail")


def test_a_link_that_hides_behind_the_text_of_another_is_listed() -> None:
    assert read(golden("reply_outlook_html_only")).links == ("https://bank.example", "https://panic.example.com/i/1")


def test_attachments_have_name_type_size_and_the_hash_of_their_contents() -> None:
    report = read(golden("attachments"))
    assert report.subject == "Rätsel mit Anhängen"
    assert report.from_name == "Jürgen"
    assert [(each.name, each.type, each.size) for each in report.attachments] == [
        ("Rechnung €.pdf", "application/pdf", 5),
        ("übersicht.txt", "text/plain", 10),
        ("", "image/png", 3),
    ]
    assert report.attachments[0].sha256 == hashlib.sha256(b"Hello").hexdigest()
    assert report.links == ("https://example.org/odd?x=1",)
    assert report.phones == ("+49 151 2345678",)


def test_the_contents_of_attachments_are_those_the_report_lists() -> None:
    found = parts(golden("attachments"))
    assert tuple(each for each, _ in found) == read(golden("attachments")).attachments
    assert [data for _, data in found] == [b"Hello", b"one\r\ntwo\r\n", b"\0\1\2"]


def test_dates_hosts_and_ticket_numbers_are_not_phones() -> None:
    text = "since 2026-11-21 10:01 on 192.168.10.20, ticket 12345678, 21.11.2026; call (555) 123-4567 or 030 / 1234567"
    assert read(mail("From: a@b.example", body=text)).phones == ("(555) 123-4567", "030 / 1234567")


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"\r\n\r\n", b"\0", b"x", b"From: a@b.example", b"\xff\xfe", b"no header at all, call me"]
)
def test_the_smallest_mails_are_read(raw: bytes) -> None:
    report = read(raw)
    assert isinstance(report, Report)
    assert report.reply_text in ("", "x", "no header at all, call me", report.text)


# --- who it is from


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("ana@example.com", "ana@example.com"),
        ("<Ana@Example.COM>", "ana@example.com"),
        ("Ana Reyes <ana@example.com>", "ana@example.com"),
        ('"Reyes, Ana" <ana@example.com>', "ana@example.com"),
        ("=?utf-8?q?=C3=84na?= <ana@example.com>", "ana@example.com"),
        ("ana@example.com (Ana Reyes)", "ana@example.com"),
        ('"Reyes, Ana" (IT) <ana@example.com>', "ana@example.com"),
        ("Reyes, Ana <ana@example.com>", "ana@example.com"),
        ("Ana Reyes, PhD <ana@example.com>", "ana@example.com"),
        ("Ana Reyes [IT] <ana@example.com>", "ana@example.com"),
        ("Ana Reyes (IT) <ana@example.com>", "ana@example.com"),
        ("ana@example.com <ana@example.com>", "ana@example.com"),
        ('"ana@example.com" <Ana@example.com>', "ana@example.com"),
        ("Ana <ana@example.com> (at home)", "ana@example.com"),
        ("eve@evil.example, Ana <ana@example.com>", ""),
        ("=?utf-8?q?eve=40evil.example?= <ana@example.com>", ""),
        ("eve@evil.example (x) <ana@example.com>", ""),
        ("Eve: Ana <ana@example.com>", ""),
        ("Eve <eve@evil.example>, Ana <ana@example.com>", ""),
        ("ana@example.com, eve@evil.example", ""),
        ("eve@evil.example <ana@example.com>", ""),
        ("ana@example.com <eve@evil.example>", ""),
        ("ana@example.com (x) <eve@evil.example>", ""),
        ("team: ana@example.com;", ""),
        ("<@relay.example:ana@example.com>", ""),
        ('"ana"@example.com', ""),
        ("=?utf-8?q?ana=40example.com?=", ""),
        ("=?utf-8?q?ana?=@example.com", ""),
        ("Ana <ana@exämple.com>", ""),
        ("Ana <ana@example.com", ""),
        ("Ana <ana@[192.0.2.1]>", ""),
        ("ana@example.com\r\n eve@evil.example", ""),
        ("", ""),
    ],
)
def test_the_sender_has_an_address_only_if_it_is_one_plain_mailbox(value: str, address: str) -> None:
    assert read(mail(f"From: {value}", "Subject: x")).from_address == address


@pytest.mark.parametrize(
    "second",
    [
        "From: ana@example.com",
        "from : ana@example.com",
        "FROM:ana@example.com",
        "no colon here\r\nFrom: ana@example.com",
    ],
)
def test_two_from_fields_are_nobody(second: str) -> None:
    report = read(mail("From: eve@evil.example", second, "Subject: x"))
    assert report.from_address == ""
    assert report.from_shown == "eve@evil.example"
    assert "several From fields" in report.defects


def test_a_from_field_hidden_behind_a_bare_cr_is_text_to_every_reader() -> None:
    report = read(mail("From: eve@evil.example", "X-Note: a\rFrom: ana@example.com", "Subject: x"))
    assert report.from_address == "eve@evil.example"
    assert "bare CR in the header" in report.defects
    assert not report.lossless


def test_a_bare_cr_does_not_end_the_header() -> None:
    report = read(b"From: eve@evil.example\r\r\nSubject: x\r\n\r\nhello\r\n")
    assert (report.from_address, report.subject, report.text) == ("eve@evil.example", "x", "hello")


def test_an_encoded_line_break_in_from_names_nobody() -> None:
    report = read(mail("From: =?utf-8?q?x=0d=0aFrom:_ana=40example.com?= <eve@evil.example>"))
    assert report.from_address == ""
    assert report.from_shown == "x From: ana@example.com <eve@evil.example>"


# --- what it must not do


def test_an_encoded_line_break_in_the_subject_stays_on_one_line() -> None:
    report = read(mail("From: a@b.example", "Subject: =?utf-8?q?hi=0d=0aBcc:_v@x.example?="))
    assert report.subject == "hi Bcc: v@x.example"


def test_characters_that_steer_the_display_are_not_in_the_subject() -> None:
    subject = "safe \u202egnp.exe\u2066 \u200b\u0007\U000e0041end"
    assert read(mail(f"Subject: {subject}")).subject == "safe gnp.exe end"


def test_a_subject_of_a_hundred_thousand_characters_is_cut_and_the_rest_is_read() -> None:
    report = read(mail("Subject: " + "help " * 20_000, "From: a@b.example"))
    assert report.subject.startswith("help help")
    assert len(report.subject) == 4096
    assert report.from_address == "a@b.example"


def test_a_subject_in_raw_latin_1_keeps_its_letters_and_costs_nothing_else() -> None:
    report = read(mail(b"Subject: \xdcbung f\xe4llt aus", "From: a@b.example"))
    assert report.subject == "Übung fällt aus"
    assert "the subject could not be read without loss" in report.defects
    assert report.lossless


@pytest.mark.parametrize(
    "raw",
    [
        b"Subject: =?\x00?q?a?=",
        b"From: =?utf-8?b?A?= <a@b>",
        b'Content-Type: text/plain; charset="\x00"\r\n\r\nhello',
        b"Content-Disposition: attachment; filename*=\x00''a\r\n\r\nhello",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" * 2 + b"hello",
        b"Content-Type: multipart/mixed\r\n\r\n--a\r\n\r\nhello",
        b"Content-Type: text/plain; charset=undefined\r\n\r\nhello \xff",
        b"Content-Type: text/plain; charset=idna\r\n\r\nhello \xff",
        b"Content-Transfer-Encoding: base64\r\n\r\nA",
        b"Content-Type: text/html\r\n\r\n",
        b"From: mailer-daemon@example.org\r\n\r\nno recipient named",
    ],
)
def test_what_makes_the_library_raise_is_read_all_the_same(raw: bytes) -> None:
    report = read(b"Message-ID: <m@x>\r\n" + raw)
    assert report.message_id == "<m@x>"
    assert report.defects == () or not any(said.startswith("not parsed") for said in report.defects)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"X: y\r\n" * 2000 + b"\r\nhello", "not parsed: the header is too large"),
        (b"X: " + b"y" * 300_000 + b"\r\n\r\nhello", "not parsed: the header is too large"),
        (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 300,
            "not parsed: too many parts",
        ),
        (
            b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (at, at) for at in range(60)),
            "not parsed: the parts are nested too deep",
        ),
        (b"Content-Type: message/rfc822\r\n\r\n" * 60 + b"hello", "not parsed: the parts are nested too deep"),
        (
            b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (at, at) for at in range(3000)),
            "not parsed: the parts are nested too deep",
        ),
    ],
)
def test_a_mail_beyond_the_limits_is_read_at_byte_level(raw: bytes, said: str) -> None:
    report = read(b"Subject: help\r\nFrom: a@b.example\r\n" + raw)
    assert report.subject == "help"
    assert said in report.defects
    assert not report.lossless


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Type: text/plain; charset=x-nonsense"],
        ["Content-Type: multipart/encrypted; boundary=b"],
        ["Content-Type: multipart/mixed; boundary=b"],
        ["Content-Transfer-Encoding: x-own"],
        ["Content-Type: application/pkcs7-mime"],
        ["Content-Type: application/ms-tnef"],
        ["Content-Type: message/partial; number=1; total=2; id=x"],
    ],
)
def test_a_mail_that_may_not_say_all_it_said_is_not_lossless(lines: list[str]) -> None:
    report = read(mail("From: a@b.example", *lines, body="ack"))
    assert not report.lossless
    assert report.defects


def test_bytes_that_do_not_fit_their_character_set_are_a_doubt_where_the_first_line_has_them() -> None:
    raw = mail("Content-Type: text/plain; charset=utf-8", body="ack ") + b"\xff\r\nmore"
    assert "ack ÿ" in read(raw).text
    assert not read(raw).lossless
    below = mail("Content-Type: text/plain; charset=utf-8", body="ack\r\n\r\nmore ") + b"\xff"
    assert (read(below).first_line, read(below).lossless) == ("ack", True)


def test_a_pgp_message_is_not_lossless() -> None:
    assert not read(mail("From: a@b.example", body="-----BEGIN PGP MESSAGE-----\r\n\r\nx")).lossless


def test_an_attached_text_is_not_the_body() -> None:
    raw = mail(
        "Content-Type: multipart/mixed; boundary=b",
        body="--b\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nack\r\n--b\r\n\r\nwhat?\r\n--b--\r\n",
    )
    assert read(raw).reply_text == "what?"
    assert read(raw).text == "what?"


def test_parts_inside_an_attached_container_are_not_the_body() -> None:
    inner = (
        "Content-Type: multipart/mixed; boundary=c\r\nContent-Disposition: attachment\r\n\r\n--c\r\n\r\nack\r\n--c--"
    )
    raw = mail("Content-Type: multipart/mixed; boundary=b", body=f"--b\r\n{inner}\r\n--b\r\n\r\nwhat?\r\n--b--\r\n")
    assert read(raw).reply_text == "what?"


def test_an_unknown_kind_of_text_stays_readable_and_an_unknown_type_becomes_an_attachment() -> None:
    assert read(mail("Content-Type: text/x-odd", body="help")).text == "help"
    assert [each.type for each in read(mail("Content-Type: odd/type", body="help")).attachments] == ["odd/type"]


def test_explain_is_the_documented_document() -> None:
    document = explain(golden("attachments"))
    assert document["from"] == "juergen@example.org"
    assert document["kind"] == "human"
    assert document["severity"] is None
    assert document["attachments"][0]["name"] == "Rechnung €.pdf"
    assert document["date"] == "2026-11-21T09:01:02+00:00"


_PIECES = [
    *(
        b"From: a@b.example\r\n",
        b"Subject: =?utf-8?q?",
        b"?=",
        b"=?\x00?b?A?=",
        b"Content-Type: multipart/mixed; boundary=b",
    ),
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"--b",
        b"--b--",
        b"Content-Type: text/html\r\n\r\n<p>",
        b"message/rfc822",
    ),
    *(
        b"Content-Transfer-Encoding: base64",
        b"charset=",
        b"utf-16",
        b"filename*0*=",
        b"<a href=x>",
        b"> ",
        b"wrote:\r\n",
    ),
    *(
        b"Content-Type: ",
        b"message/delivery-status",
        b"Date: Mon, 1 Jan 99999 00:00:00 +9999\r\n",
        b"\xff\xfe",
        b";",
        b'"',
    ),
]


@examples(150)
@given(st.lists(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=12)), max_size=30).map(b"".join))
def test_read_and_parts_never_raise(raw: bytes) -> None:
    report = read(raw, mail_from=None)
    for text in (report.subject, report.from_name, report.from_shown, *(each.name for each in report.attachments)):
        assert "\n" not in text
        assert "\r" not in text
        text.encode()
    report.text.encode()
    assert tuple(each for each, _ in parts(raw)) in (report.attachments, ())


@examples(60)
@given(st.binary(max_size=400))
def test_read_never_raises_on_noise(raw: bytes) -> None:
    assert isinstance(read(raw), Report)


def test_a_bare_cr_in_the_body_is_settled_and_the_reply_still_counts() -> None:
    raw = b"From: ana@example.com\r\nSubject: Re: page\r\n\r\nack\r\n\r\n> quoted\r<br>\r\n> more\x00\r\n"
    report = read(raw)
    assert (report.reply_text, report.lossless) == ("ack", True)
    assert "bare CR" in report.defects


@pytest.mark.parametrize("header", [b"X: 1\rFrom: ana@example.com\r\n", b"X: 1\nTo: b@example.com\r\n", b"X: \x00\r\n"])
def test_a_header_that_had_to_be_settled_is_never_read_without_doubt(header: bytes) -> None:
    report = read(header + b"From: ana@example.com\r\nSubject: Re: page\r\n\r\nack\r\n")
    assert not report.lossless


def outlooks(*parts: str) -> bytes:
    """A mail of these types, and winmail.dat behind them."""
    body = "".join(f"--b\r\nContent-Type: {part}\r\n\r\nack\r\n" for part in parts)
    winmail = "--b\r\nContent-Type: application/ms-tnef; name=winmail.dat\r\n\r\nx\r\n--b--\r\n"
    return mail("From: a@b.example", "Content-Type: multipart/mixed; boundary=b", body=body + winmail)


def test_a_plain_text_beside_winmail_dat_is_the_whole_mail() -> None:
    report = read(outlooks("text/plain"))
    assert report.lossless
    assert report.reply_text == "ack"
    assert "attachments, if any, only in winmail.dat" in report.defects
    assert [attachment.name for attachment in report.attachments] == ["winmail.dat"]


@pytest.mark.parametrize("parts", [(), ("text/calendar",), ("image/png",)])
def test_a_mail_whose_text_is_in_winmail_dat_alone_is_not_lossless(parts: tuple[str, ...]) -> None:
    assert not read(outlooks(*parts)).lossless
