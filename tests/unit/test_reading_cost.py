"""What a mail costs to read: CPU seconds that do not depend on what a stranger put where.

Time is the process's own, and the bounds are several times what is used, so that a busy machine breaks nothing.
PANICMAIL_FUZZ multiplies the examples: see `tests/examples.py`.
"""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident.classify import Report
from panicmail.mail.parse.bytes_fallback import read_bytes
from panicmail.mail.parse.mime_tree import PARTS, Part, TooMuch, tree_of
from panicmail.mail.parse.normalize import canonical
from panicmail.mail.parse.parser import parts, read
from tests import hostile
from tests.examples import FUZZ, examples
from tests.golden_mails import golden

pytestmark = pytest.mark.timeout(120 * max(1, FUZZ))

#: What a reading may take.
SECONDS = 2.0


def cpu(raw: bytes) -> float:
    before = time.process_time()
    read(raw, mail_from=None)
    return time.process_time() - before


@pytest.mark.parametrize("name", sorted(hostile.SHAPES))
@pytest.mark.parametrize("octets", [250_000, 2_000_000])
def test_a_mail_of_a_hostile_shape_is_read_in_the_time_a_reader_is_given(name: str, octets: int) -> None:
    assert cpu(hostile.SHAPES[name](octets)) < SECONDS


#: Found to be slow once, each a place and a run there.
FOUND = [
    ("text", b"\r\n"),
    ("below an answer", b"\r\n"),
    ("below an answer", b"\n"),
    ("below an answer", b" \r\n"),
    ("text", b"On 1.1.2024 a wrote" + b" " * 200 + b"x\r\n"),
    ("text", b"Am 1.1.2024 schrieb "),
    ("text", b"Am 1.1.2024 schrieb " * 20 + b"\r\n"),
    ("HTML", b"<div>"),
    ("HTML", b"<div>x"),
    ("HTML", b"<pre>x"),
    ("HTML", b"<li><ul>x"),
    ("a bounce", b"CAUTION: "),
    ("To", b";"),
    ("From", b";"),
    ("Reply-To", b";"),
    ("a boundary", b";"),
    ("Content-Type", b";"),
    ("a file name", b";"),
    *(("a field of an attached mail", run) for run in (b"> ", b"1 ", b"wrote: ", b"\xff", b"a")),
    *((place, b"\r\n") for place in ("a delivery report", "an epilogue", "an attached mail", "quoted-printable")),
]


@pytest.mark.parametrize(("place", "piece"), FOUND)
@pytest.mark.parametrize("octets", [250_000, 2_000_000])
def test_what_was_slow_to_read_once_is_read_in_time(place: str, piece: bytes, octets: int) -> None:
    assert cpu(hostile.made(place, piece, octets)) < SECONDS


@examples(60)
@given(st.sampled_from(sorted(hostile.combinations())), st.sampled_from([5000, 250_000]))
def test_a_run_of_anything_in_any_place_is_read_in_the_time_a_reader_is_given(
    shape: tuple[str, bytes], octets: int
) -> None:
    assert cpu(hostile.made(*shape, octets)) < SECONDS


@pytest.mark.parametrize(
    ("place", "piece"),
    [("text", b"\r\n"), ("HTML", b"<p>x"), ("base64", b"QUJD"), ("an attached mail", b"a\r\n"), ("a multipart", b"> ")],
)
def test_a_mail_of_the_largest_size_is_read_in_the_time_a_reader_is_given(place: str, piece: bytes) -> None:
    assert cpu(hostile.made(place, piece, 25_000_000)) < 2 * SECONDS


# -- limits are looked at before the work is done


def test_the_limit_on_parts_is_looked_at_while_they_are_parsed() -> None:
    made = Part.__init__
    seen = 0

    def counting(self: Part, *args: object, **named: object) -> None:
        nonlocal seen
        seen += 1
        made(self, *args, **named)  # type: ignore[arg-type]

    Part.__init__ = counting  # type: ignore[method-assign]
    try:
        with pytest.raises(TooMuch, match="too many parts"):
            tree_of(hostile.many_parts(b"\r\nx", 100_000))
    finally:
        Part.__init__ = made  # type: ignore[method-assign]
    assert seen <= PARTS + 2


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (hostile.many_parts(b"\r\nx", 100_000), "too many parts"),
        (hostile.nested(3000, b""), "the parts are nested too deep"),
        (hostile.nested(29, b"\r\n" * 1_000_000), "too many lines"),
        (hostile.many_parts(b"X: y\r\n" * 2000 + b"\r\nx", 2), "the header of a part is too large"),
    ],
)
def test_a_mail_beyond_the_limits_is_still_read_at_byte_level(raw: bytes, said: str) -> None:
    report = read(raw)
    assert report.defects[0] == f"not parsed: {said}"
    assert (report.subject, report.from_address, report.lossless) == ("help", "rita@example.com", False)


@pytest.mark.parametrize("field", ["Content-Type: text/plain", "Content-Disposition: attachment"])
@pytest.mark.parametrize("more", ["; a=b" * 200, ";" * 5000, '; a="' + ";" * 5000 + '"', "; a=" + "b" * 5000])
def test_a_field_with_too_many_parameters_is_cut_and_the_doubt_is_said(field: str, more: str) -> None:
    report = read(hostile.mail(f"{field}{more}".encode(), b"ack"))
    assert not report.lossless
    assert any("too long to read" in said for said in report.defects)
    assert report.text == "ack" or [each.type for each in report.attachments] == ["text/plain"]


def test_a_long_file_name_in_pieces_is_read_whole() -> None:
    name = "ä" * 250
    pieces = "".join(f"; filename*{number}*={'%C3%A4' * 10}" for number in range(25)).replace("*0*=", "*0*=utf-8''", 1)
    report = read(hostile.mail(f"Content-Disposition: attachment{pieces}".encode(), b"x"))
    assert [each.name for each in report.attachments] == [name]


def test_a_plain_text_before_too_much_html_is_read_without_loss() -> None:
    raw = hostile.mail(
        b"Content-Type: multipart/alternative; boundary=b",
        b"--b\r\n\r\nack\r\n--b\r\nContent-Type: text/html\r\n\r\n" + b"<div>" * 60_000 + b"\r\n--b--",
    )
    report = read(raw)
    assert (report.reply_text, report.lossless) == ("ack", True)


def test_an_answer_above_very_much_is_read_as_it_is() -> None:
    raw = hostile.mail(b"Content-Type: text/plain", b"ack\r\n" + b"\r\n" * 20_000 + b"x" * 1000 + b"\r\nbye\r\n")
    assert read(raw).reply_text == f"ack\n\n{'x' * 1000}\nbye"


def test_what_stands_behind_the_beginning_of_a_long_answer_is_kept() -> None:
    text = "\n".join(f"{number} " + "word " * 100 for number in range(100)).strip()
    kept = read(hostile.mail(b"Content-Type: text/plain", text.encode())).reply_text
    assert [line.strip() for line in kept.split("\n")] == [line.strip() for line in text.split("\n")]


def test_history_the_library_alone_finds_ends_a_long_answer() -> None:
    history = "\n".join(["From: panic@example.com", "To: ana@example.com", "Subject: x"]) + "\nack" * 10_000
    text = "no idea yet\n\n" + history
    assert read(hostile.mail(b"Content-Type: text/plain", text.encode())).reply_text == "no idea yet"


# -- an attached mail is given as it stood


def attached_in(raw: bytes, *, end: bytes = b"\r\n--b--\r\n") -> Report:
    return read(hostile.mail(b"Content-Type: multipart/mixed; boundary=b", b"--b\r\n\r\nsee\r\n--b\r\n" + raw + end))


@pytest.mark.parametrize(
    "inner",
    [
        b"Subject:no blank\r\n\r\nx",
        b"Subject: \t two\r\n  folded\r\n\r\nx\r\n",
        b"X: " + b"a " * 10_000 + b"\r\nSubject: x\r\n\r\nbody\r\n\r\n",
        b"Subject: \xff\xfe raw\r\n\r\n\xff",
        b"Content-Type: text/plain;\r\n\tcharset=us-ascii\r\nContent-Transfer-Encoding: 7-bit\r\n\r\nx",
        b"Content-Type: multipart/mixed; boundary=c\r\n\r\npre\r\n--c\r\n\r\nx\r\n--c",
        b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\nepilogue\r\n",
        b"no header at all",
        b"",
    ],
)
def test_an_attached_mail_has_the_hash_of_the_octets_that_stood_there(inner: bytes) -> None:
    report = attached_in(b"Content-Type: message/rfc822\r\n\r\n" + inner)
    assert [(each.size, each.sha256) for each in report.attachments] == [
        (len(inner), hashlib.sha256(inner).hexdigest())
    ]


def test_an_attached_mail_without_an_end_is_given_to_the_end() -> None:
    inner = b"Subject: x\r\n\r\nbody\r\n"
    report = attached_in(b"Content-Type: message/rfc822\r\n\r\n" + inner, end=b"")
    assert report.attachments[0].sha256 == hashlib.sha256(inner).hexdigest()


def test_an_attached_mail_of_a_mail_with_bare_line_feeds_is_given_with_them() -> None:
    inner = b"Subject: x\n\nbody\n"
    raw = hostile.mail(
        b"Content-Type: multipart/mixed; boundary=b",
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + inner.replace(b"\n", b"\r\n") + b"\r\n--b--\r\n",
    ).replace(b"\r\n", b"\n")
    assert parts(raw)[0][1] == inner


@examples(60)
@given(
    st.sampled_from(["reply_gmail", "attachments", "forwarded_ack", "reply_outlook_html_only"]), st.binary(max_size=30)
)
def test_a_mail_forwarded_in_a_mail_comes_out_as_it_went_in(name: str, more: bytes) -> None:
    inner = canonical(golden(name) + more).octets
    found = parts(
        hostile.mail(
            b"Content-Type: multipart/mixed; boundary=its-own-boundary",
            b"--its-own-boundary\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--its-own-boundary--\r\n",
        )
    )
    assert found[0][1] == canonical(inner + b"\r\n").octets[:-2]


def test_mails_forwarded_in_each_other_are_taken_out_and_the_innermost_stay_where_they_are() -> None:
    report = read(hostile.forwarded(20, b"Subject: the innermost\r\n\r\nhello\r\n"))
    assert 3 <= len(report.attachments) <= 6
    assert report.attachments[0].size > report.attachments[-1].size
    assert report.text.endswith("[attached mail, inside the one above]")


@examples(20)
@given(st.sampled_from(sorted(hostile.combinations())))
def test_the_reader_of_last_resort_takes_a_moment_for_any_of_them(shape: tuple[str, bytes]) -> None:
    raw = hostile.made(*shape, 2_000_000)
    before = time.process_time()
    read_bytes(raw, mail_from=None)
    assert time.process_time() - before < SECONDS / 2
