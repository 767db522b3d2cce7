"""What makes two mails the same, and which mail waits for which."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panicmail import ids
from panicmail.intake import LEASE, digest_of
from panicmail.mail.tokens import Purpose
from panicmail.store.rows import Mail
from tests.cast import T0
from tests.office import Office, mail

MAIL = Mail(
    id="m" * 26,
    accepted_at=T0,
    mail_from="rita@example.com",
    recipients=("panic@example.com", "soc@example.com"),
    peer="192.0.2.1",
    helo="mail.example.com",
    tls="",
    size=0,
)
FIELDS = [
    b"From: Rita <rita@example.com>\r\n",
    b"To: panic@example.com\r\n",
    b"Subject: Ransom\r\n note\r\n",
    b"Date: x\r\n",
]
BODY = b"My files are .locked\r\n\r\nReceived: two ransom notes\r\n by hand\r\n"
TRACE = [b"Received", b"RETURN-PATH", b"Delivered-To", b"X-Original-To", b"x-received", b"Received-SPF",
         b"Authentication-Results", b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"]  # fmt: skip


def raw(fields: list[bytes], body: bytes = BODY) -> bytes:
    return b"".join(fields) + b"\r\n" + body


DIGEST = digest_of(MAIL, raw(FIELDS))

TRACES = st.builds(
    lambda name, lines: name + b": " + b"\r\n\t".join(lines) + b"\r\n",
    st.sampled_from(TRACE),
    st.lists(st.sampled_from([b"from a by b", b" ; Sun, 22 Nov", b"", b"x=y"]), min_size=1, max_size=4),
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(FIELDS)), TRACES), max_size=6))
def test_trace_headers_do_not_change_it_wherever_they_stand_and_however_they_are_folded(
    traces: list[tuple[int, bytes]],
) -> None:
    fields = list(FIELDS)
    for place, trace in traces:
        fields.insert(place, trace)
    assert digest_of(MAIL, raw(fields)) == DIGEST


@pytest.mark.parametrize("name", [b"X-Received-By", b"Subject", b"Arc", b"Resent-Received", b"Receive"])
def test_any_other_header_changes_it(name: bytes) -> None:
    assert digest_of(MAIL, raw([*FIELDS, name + b": x\r\n"])) != DIGEST


def test_the_name_of_a_trace_header_within_another_header_is_text_like_any() -> None:
    about, other = (raw([*FIELDS, b"X-Note: what I received: " + what + b"\r\n"]) for what in (b"a note", b"a gun"))
    assert digest_of(MAIL, about) != digest_of(MAIL, other)


@pytest.mark.parametrize(
    "other",
    [
        raw(FIELDS, BODY + b"\r\n"),
        raw(FIELDS, BODY.replace(b"locked", b"Locked")),
        raw(FIELDS, BODY.replace(b"two", b"six")),
        raw(FIELDS, BODY.replace(b" by hand\r\n", b"")),
        raw(FIELDS, b""),
        raw([FIELDS[0], FIELDS[1], b"Subject: Ransom\r\n notes\r\n", FIELDS[3]]),
        raw([FIELDS[0], FIELDS[1], b"Subject: Ransom\r\n", FIELDS[3]]),
        raw([*reversed(FIELDS)]),
        raw([b"Received: by x\r\n", b"From: Rita <rita@example.com>\r\n", *FIELDS[2:]]),
    ],
)
def test_body_subject_and_every_other_octet_change_it(other: bytes) -> None:
    assert digest_of(MAIL, other) != DIGEST


@pytest.mark.parametrize(
    "other",
    [
        replace(MAIL, mail_from="max@example.com"),
        replace(MAIL, mail_from=""),
        replace(MAIL, recipients=("panic@example.com",)),
        replace(MAIL, recipients=("panic@example.com", "panic+x@example.com")),
        replace(MAIL, mail_from="", recipients=("rita@example.com", *MAIL.recipients)),
    ],
)
def test_sender_and_recipients_change_it(other: Mail) -> None:
    assert digest_of(other, raw(FIELDS)) != DIGEST


@pytest.mark.parametrize(
    "again",
    [
        replace(MAIL, recipients=("soc@example.com", "panic@example.com")),
        replace(MAIL, recipients=("SOC@example.com", "Panic@Example.COM")),
        replace(MAIL, mail_from="Rita@Example.com"),
        replace(MAIL, id="n" * 26, peer="198.51.100.7", helo="backup", tls="TLSv1.3", accepted_at=T0.replace(hour=5)),
    ],
)
def test_order_and_case_of_addresses_and_the_way_it_came_do_not(again: Mail) -> None:
    assert digest_of(again, raw(FIELDS)) == DIGEST


@pytest.mark.parametrize(
    "octets", [b"", b"\r\n", b"Received: x", b"Received: x\r\n", b"\xff\x00", b"\r\n\r\n", b"help"]
)
def test_any_octets_have_one(octets: bytes) -> None:
    assert len(digest_of(replace(MAIL, mail_from="r\udcff@example.com"), octets)) == 64


def test_a_line_of_the_body_is_no_trace_header_where_lines_end_in_lf_alone() -> None:
    mail = raw(FIELDS).replace(b"\r\n", b"\n")
    assert digest_of(MAIL, mail) != digest_of(MAIL, mail.replace(b"two", b"six"))


def test_an_answer_that_came_in_before_what_it_answers_waits_for_it(desk: Office) -> None:
    """Both were in the spool: a panic, and the answer to the call made for it while the database was away."""
    panic_id = desk.accept(mail("My files are .locked.", subject="Ransom note"))
    tokens, addresses = desk.orders.tokens, desk.orders.addresses
    to = addresses.reply_to(tokens.mint(Purpose.ANSWER, ids.incident_id(panic_id), "ana"))
    answer_id = desk.accept(mail("ack", sender="ana@example.com", subject="Re: [PANIC]"), "ana@example.com", [to])
    claimed = {waiting.id: waiting for waiting in desk.ledger.write("test", lambda book: book.claim_mails(2, LEASE))}
    desk.intake.understand(claimed[answer_id])
    assert desk.incidents() == [], "not a panic of its own"
    desk.intake.understand(claimed[panic_id])
    desk.wait(seconds=2)
    (incident,) = desk.incidents()
    assert (incident.state.value, incident.holder) == ("acked", "ana")


def test_an_answer_to_an_incident_nobody_knows_of_is_a_panic_after_half_a_minute(desk: Office) -> None:
    """What it answers may be in another node's spool; or the database was restored from before that incident."""
    to = desk.orders.addresses.reply_to(desk.orders.tokens.mint(Purpose.ANSWER, "a" * 16, "ana"))
    desk.deliver(mail("ack", sender="ana@example.com", subject="Re: [PANIC]"), "ana@example.com", [to])
    assert desk.incidents() == []
    for _ in range(32):
        desk.wait(seconds=1)
    assert len(desk.incidents()) == 1


def test_an_answer_whose_panic_turned_out_to_be_the_same_mail_again_goes_where_that_went(desk: Office) -> None:
    first = desk.panic()
    raw = desk.ledger.read(lambda book: book.raw(first.mail_id))
    again = desk.deliver(raw)
    to = desk.orders.addresses.reply_to(desk.orders.tokens.mint(Purpose.ANSWER, ids.incident_id(again), "ana"))
    desk.deliver(mail("ack", sender="ana@example.com", subject="Re: [PANIC]"), "ana@example.com", [to])
    assert [incident.id for incident in desk.incidents()] == [first.id]
    assert desk.incident(first).holder == "ana"
