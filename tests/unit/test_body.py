"""What of a mail is its text: of several forms, of odd encodings, of what is wrapped around it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.mail.parse.mime_tree import unbased, unflowed, without_armour
from panicmail.mail.parse.parser import parts, read
from tests.examples import examples
from tests.golden_mails import mail


def alternatives(*forms: tuple[str, str], kind: str = "alternative") -> bytes:
    body = "".join(f"--b\r\nContent-Type: {name}\r\n\r\n{text}\r\n" for name, text in forms)
    return mail("From: a@b.example", f"Content-Type: multipart/{kind}; boundary=b", body=f"{body}--b--\r\n")


@pytest.mark.parametrize(
    "other",
    ["text/x-amp-html", "text/watch-html", "text/rtf", "text/vnd.google.email-reaction+json", "text/calendar"],
)
def test_a_form_for_other_programs_is_never_the_text(other: str) -> None:
    for forms in (
        [("text/plain", "my files are gone"), (other, "ack")],
        [(other, "ack"), ("text/plain", "my files are gone")],
    ):
        report = read(alternatives(*forms))
        assert (report.text, report.reply_text) == ("my files are gone", "my files are gone")
    report = read(alternatives(("text/html", "<p>gone</p>"), (other, "ack")))
    assert report.text == "gone"


def test_a_plain_form_that_stands_for_nothing_gives_way_to_the_html() -> None:
    html = "<p>My laptop shows a red page and asks for money. All the files on the share are locked since noon.</p>"
    report = read(alternatives(("text/plain", "Your program cannot show this."), ("text/html", html)))
    assert report.reply_text.startswith("My laptop shows a red page")
    assert "cannot show this" in report.text, "and nothing is lost"


def test_a_plain_form_that_says_as_much_is_the_text() -> None:
    report = read(alternatives(("text/plain", "on it"), ("text/html", "<p>on <b>it</b></p>")))
    assert report.text == "on it"


@pytest.mark.parametrize("disposition", ["attachment", "attachment; filename=a.txt", "inline; filename=a.txt", "odd"])
def test_the_only_text_is_the_body_whatever_it_calls_itself(disposition: str) -> None:
    raw = mail("From: a@b.example", f"Content-Disposition: {disposition}", "Content-Type: text/plain", body="help me")
    assert read(raw).reply_text == "help me"
    body = (
        f"--b\r\nContent-Disposition: {disposition}\r\n\r\nhelp me\r\n--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--"
    )
    assert read(mail("Content-Type: multipart/mixed; boundary=b", body=body)).reply_text == "help me"


@pytest.mark.parametrize(
    ("flowed", "delsp", "text"),
    [
        ("one \ntwo", False, "one two"),
        ("one \ntwo", True, "onetwo"),
        ("one\ntwo", False, "one\ntwo"),
        ("> a \n> b\nc", False, "> a b\nc"),
        ("> a \n>> b", False, "> a \n>> b"),
        (">> a \n>> b", False, ">> a b"),
        (" From here", False, "From here"),
        ("a \n-- \nAna", False, "a \n-- \nAna"),
        ("> a \nb", False, "> a \nb"),
    ],
)
def test_flowed_text_is_put_together_by_depth(flowed: str, delsp: bool, text: str) -> None:
    assert unflowed(flowed, delsp=delsp) == text


def test_a_clear_signed_answer_is_its_words_with_the_signature_not_checked() -> None:
    body = (
        "-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nack\r\n- -- \r\nAna\r\n"
        "-----BEGIN PGP SIGNATURE-----\r\n\r\niQEz\r\n=x\r\n-----END PGP SIGNATURE-----\r\n"
    )
    report = read(mail("From: a@b.example", body=body))
    assert (report.reply_text, report.first_line, report.lossless) == ("ack", "ack", True)
    assert "signed by OpenPGP; the signature was not checked" in report.defects


@examples(100)
@given(st.text(max_size=300))
def test_a_text_without_armour_is_left_alone(text: str) -> None:
    assert without_armour(text) == (text, False)
    assert isinstance(unflowed(text, delsp=True), str)


@examples(200)
@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(0, 3))
def test_base64_is_read_in_pieces_with_foreign_octets_and_at_any_length(pieces: list[bytes], cut: int) -> None:
    whole = b"\r\n".join(map(base64.b64encode, pieces))
    assert unbased(whole.decode())[0] == b"".join(pieces)
    assert unbased("ZmlsZQ==\r\n\r\nThis is below it, and no part of it.\r\n")[0] == b"file"
    coded = base64.b64encode(b"".join(pieces))
    assert b"".join(pieces).startswith(unbased(coded[: len(coded) - cut].decode())[0])


def test_base64_of_a_length_that_cannot_be_is_read_as_far_as_it_goes() -> None:
    raw = mail(
        "Content-Transfer-Encoding: base64", body=base64.b64encode(b"my files are gone").decode().rstrip("=") + "QQQ"
    )
    assert read(raw).text.startswith("my files are gone")


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("Übung — ok".encode() + b"\xff", "utf-8", "Übung — ok\ufffd"),
        (b"caf\xe9", "utf-8", "café"),
        (
            "配送できませんでした。荷物をお預かりしています。".encode("shift_jis"),
            "",
            "配送できませんでした。荷物をお預かりしています。",
        ),
        (
            "файлы заблокированы, что делать дальше".encode("koi8-r"),
            "x-unknown",
            "файлы заблокированы, что делать дальше",
        ),
        (b"\x1b$B-!\x1b(B 1", "iso-2022-jp", "① 1"),
        ("テスト".encode("iso2022_jp"), "iso-2022-jp", "テスト"),
        ("Grüße aus Köln, schöne Tage".encode("cp1252"), "", "Grüße aus Köln, schöne Tage"),
    ],
)
def test_text_of_a_wrong_or_missing_character_set_is_readable(data: bytes, charset: str, text: str) -> None:
    label = f"text/plain; charset={charset}" if charset else "text/plain"
    assert read(mail(f"Content-Type: {label}", body="") + data).text == text


def test_an_attached_mail_in_base64_is_kept_to_the_octet_and_unpacked() -> None:
    inner = b"From: Eve <eve@evil.example>\r\nSubject: pay\r\n\r\nsee https://evil.example/x\r\n"
    coded = base64.encodebytes(inner).decode().replace("\n", "\r\n")
    head = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64"
    body = f"--b\r\n\r\nis this real?\r\n--b\r\n{head}\r\n\r\n{coded}--b--\r\n"
    raw = mail("From: a@b.example", "Content-Type: multipart/mixed; boundary=b", body=body)
    report = read(raw)
    assert [data for _, data in parts(raw)] == [inner]
    assert report.reply_text == "is this real?"
    assert "From: Eve <eve@evil.example>" in report.text
    assert "https://evil.example/x" in report.links


def test_a_piece_of_a_message_is_shown() -> None:
    raw = mail("Content-Type: message/partial; number=1; total=2; id=x", body="Subject: y\r\n\r\nmy files are gone")
    assert "my files are gone" in read(raw).text
    assert not read(raw).lossless


@pytest.mark.parametrize(
    "part",
    [
        "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nA",
        "Content-Type: image/png\r\nContent-Transfer-Encoding: x-own\r\n\r\nA",
        "Content-Type: application/ms-tnef; name=winmail.dat\r\n\r\nx",
        "Content-Type: text/plain; charset=us-ascii\r\n\r\n\xff\xfe",
    ],
)
def test_what_is_broken_below_the_first_line_takes_nothing_from_it(part: str) -> None:
    body = f"--b\r\n\r\nack\r\n\r\nmore\r\n--b\r\n{part}\r\n"  # and without its last boundary
    report = read(mail("From: a@b.example", "Content-Type: multipart/mixed; boundary=b", body=body))
    assert (report.first_line, report.lossless) == ("ack", True)
    assert report.defects


def test_the_name_of_a_file_is_kept_in_the_form_its_system_writes() -> None:
    name = "U\u0308bersicht.txt"
    raw = mail(f'Content-Disposition: attachment; filename="{name}"', "Content-Type: image/png", body="x")
    assert [each.name for each in read(raw).attachments] == [name]


@pytest.mark.parametrize("told", ["Ana a réagi via Gmail", "Ana ha reaccionado", "", "ack"])
def test_a_reaction_of_gmail_is_no_command_in_whatever_language_it_is_told(told: str) -> None:
    raw = (
        "From: Ana <ana@example.com>\r\nSubject: Re: x\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/alternative; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\U0001f44d\r\n\r\n" + told + "\r\n"
        "--b\r\nContent-Type: text/vnd.google.email-reaction+json; charset=utf-8\r\n\r\n"
        '{"emoji": "\U0001f44d", "version": 1}\r\n'
        "--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>\U0001f44d</p><p>" + told + "</p>\r\n--b--\r\n"
    )
    report = read(raw.encode())
    assert report.command_text == ""
    assert "emoji" not in report.text
