"""What makes two mails the same, and which mail waits for which."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panicmail.errors import StoreFailed
from panicmail.incident import ids
from panicmail.incident.classify import Report
from panicmail.incident.reply_tokens import Purpose
from panicmail.intake.same_mail import digest_of
from panicmail.intake.understand import SUSPECT, Intake
from panicmail.mail.parse.normalize import HEADER_OCTETS
from panicmail.store.leases import free_claims
from panicmail.store.mails import LEASE
from panicmail.store.rows import AcceptedMail
from panicmail.store.unit_of_work import Store
from tests.cast import T0
from tests.office import InProcess, Office, mail

MAIL = AcceptedMail(
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
def test_sender_and_recipients_change_it(other: AcceptedMail) -> None:
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
def test_order_and_case_of_addresses_and_the_way_it_came_do_not(again: AcceptedMail) -> None:
    assert digest_of(again, raw(FIELDS)) == DIGEST


@pytest.mark.parametrize(
    "octets", [b"", b"\r\n", b"Received: x", b"Received: x\r\n", b"\xff\x00", b"\r\n\r\n", b"help"]
)
def test_any_octets_have_one(octets: bytes) -> None:
    assert len(digest_of(replace(MAIL, mail_from="r\udcff@example.com"), octets)) == 64


def test_a_line_of_the_body_is_no_trace_header_where_lines_end_in_lf_alone() -> None:
    mail = raw(FIELDS).replace(b"\r\n", b"\n")
    assert digest_of(MAIL, mail) != digest_of(MAIL, mail.replace(b"two", b"six"))


OCTETS = [b"Received:", b"received", b": x", b"\r\n", b"\n", b"\r", b" ", b"\t", b"ARC-Seal:", b"arc-:", b"arc-a1: ",
          b"arc-x", b"Subject: a", b"\r\n\r\n", b"\n\n", b"X-Received:", b"\0"]  # fmt: skip
NAMES = rb"received|return-path|delivered-to|x-original-to|x-received|received-spf|authentication-results|arc-[a-z-]+"


@settings(deadline=None)
@given(st.lists(st.sampled_from(OCTETS), max_size=14).map(b"".join))
def test_mails_stored_by_the_version_before_are_recognised(octets: bytes) -> None:
    """As that one found the fields, with a pattern that could take a header of 50 MiB for itself and the process."""
    blank = re.search(rb"\r?\n\r?\n", octets)
    head, body = (octets[: blank.start()], octets[blank.start() :]) if blank else (octets, b"")
    left = re.sub(rb"(?im)^(?:" + NAMES + rb"):.*\r?\n(?:[ \t].*\r?\n)*", b"", head + b"\n").rstrip(b"\r\n")
    assert digest_of(MAIL, octets) == digest_of(MAIL, left + body if blank else left)
    assert digest_of(MAIL, octets) != digest_of(MAIL, b"other" + octets)


def test_of_a_header_without_end_every_octet_beyond_what_is_looked_at_counts() -> None:
    endless = b"Subject: x\r\n" + b" \r\n" * HEADER_OCTETS
    assert digest_of(MAIL, b"Received: by one\r\n" + endless) != digest_of(MAIL, endless + b"x")
    assert digest_of(MAIL, endless) == digest_of(MAIL, endless)
    assert digest_of(MAIL, b"x" * (2 * HEADER_OCTETS)) != digest_of(MAIL, b"x" * (2 * HEADER_OCTETS) + b"y")


# -- what ended in the middle


class Looked(InProcess):
    """Keeps which mails were read, and does `meanwhile` before each."""

    def __init__(self, meanwhile: Callable[[str], None] = lambda subject: None) -> None:
        self.subjects: list[str] = []
        self._meanwhile = meanwhile

    def read(self, raw: bytes, mail_from: str) -> Report:
        report = super().read(raw, mail_from)
        self._meanwhile(report.subject)
        self.subjects.append(report.subject)
        return report


def begun_and_lost(desk: Office, *mails: str) -> None:
    """A process claimed these, and died."""
    claimed = desk.store.write("test", lambda tx: tx.mails.claim(len(mails), LEASE))
    assert [each.id for each in claimed] == list(mails)
    desk.store.write("leases.release", lambda tx: tx.release_leases())


def accepted(desk: Office, *subjects: str) -> list[str]:
    found = []
    for subject in subjects:
        desk.now += timedelta(milliseconds=1)
        found.append(desk.accept(mail("help", subject=subject)))
    return found


def test_the_claim_is_counted_before_an_octet_is_read(desk: Office) -> None:
    (mail_id,) = accepted(desk, "one")
    counted: list[int] = []

    def look(_subject: str) -> None:
        kept = desk.store.read(lambda tx: tx.mails.get(mail_id))
        counted.append(kept.attempts if kept else -1)

    desk.intake = Intake(desk.store, lambda: desk.settings, Looked(look))
    assert desk.intake.work()
    assert counted == [1]


def test_what_was_in_flight_at_a_crash_is_tried_again_one_at_a_time_and_nothing_new_beside_it(desk: Office) -> None:
    begun_and_lost(desk, *accepted(desk, "one", "two"))
    accepted(desk, "new")
    beside: list[bool | None] = []
    readers = Looked(lambda _subject: beside.append(desk.intake.work()))
    desk.intake = Intake(desk.store, lambda: desk.settings, readers)
    assert [desk.intake.work() for _ in range(4)] == [True, True, True, False]
    assert readers.subjects == ["one", "two", "new"]
    assert beside == [None, None, False]


def test_a_mail_that_was_in_flight_at_a_crash_waits_for_what_is_in_hand_and_nothing_newer_goes_before_it(
    desk: Office,
) -> None:
    """Else a flood of new ones would hold it up for ever."""
    accepted(desk, "first")
    beside: list[bool | None] = []

    def meanwhile(subject: str) -> None:
        if subject == "first":  # another node's death frees one that is older than what waits here
            desk.now -= timedelta(minutes=1)
            lost = accepted(desk, "lost")
            begun_and_lost(desk, *lost)
            desk.now += timedelta(minutes=2)
            accepted(desk, "new")
            beside.append(desk.intake.work())

    readers = Looked(meanwhile)
    desk.intake = Intake(desk.store, lambda: desk.settings, readers)
    while desk.intake.work():
        pass
    assert beside == [None], "it waits, and nothing is begun"
    assert readers.subjects == ["first", "lost", "new"]


def test_new_mails_are_understood_beside_each_other(desk: Office) -> None:
    accepted(desk, "one", "two")
    beside: list[bool | None] = []
    readers = Looked(lambda subject: beside.append(desk.intake.work()) if subject == "one" else None)
    desk.intake = Intake(desk.store, lambda: desk.settings, readers)
    assert desk.intake.work()
    assert (beside, readers.subjects) == ([True], ["two", "one"])


def test_a_mail_that_was_alone_at_a_second_death_is_neither_read_nor_digested_nor_decided(
    desk: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(*_arguments: object) -> Any:
        raise AssertionError("it was touched")

    (mail_id,) = accepted(desk, "deadly")
    for _ in range(SUSPECT - 1):
        begun_and_lost(desk, mail_id)
    for stage in ("panicmail.intake.understand.digest_of", "panicmail.incident.classify.decide"):
        monkeypatch.setattr(stage, deadly)
    desk.intake = Intake(desk.store, lambda: desk.settings, Looked(deadly))
    desk.settle()
    page = desk.page("ana")
    assert "deadly" in page.subject
    assert "could not be read" in page.text


def test_of_two_suspected_mails_neither_is_taken_for_the_other(desk: Office) -> None:
    mails = accepted(desk, "one", "two")
    for _ in range(SUSPECT - 1):
        begun_and_lost(desk, *mails)
    desk.settle()
    assert len(desk.incidents()) == 2


def test_an_answer_that_is_suspected_belongs_to_its_incident_and_its_writer_is_told(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    answer = desk.accept(mail("ack", sender="ana@example.com"), "ana@example.com", [page.reply_to])
    for _ in range(SUSPECT - 1):
        begun_and_lost(desk, answer)
    desk.settle()
    assert [each.id for each in desk.incidents()] == [incident.id], "never also a panic"
    assert desk.incident(incident).holder is None
    assert any("Clock still running" in posted.subject for posted in desk.sent("ana"))


def test_a_try_that_the_database_ended_makes_no_mail_suspect(desk: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.accept(mail("ack", sender="ana@example.com"), "ana@example.com", [page.reply_to])

    def away(*_arguments: object) -> Any:
        raise StoreFailed("the server is gone")

    with monkeypatch.context() as patched:
        patched.setattr(desk.intake, "_decide", away)
        for _ in range(SUSPECT + 1):
            with pytest.raises(StoreFailed):
                desk.intake.work()
            desk.now += LEASE
    desk.settle()
    assert desk.incident(incident).holder == "ana"


@pytest.mark.postgres
def test_what_another_node_has_in_hand_is_no_suspect_when_this_one_dies(tmp_path: Path, postgres_url: str) -> None:
    with closing(Office(tmp_path, url=postgres_url)) as office:
        ids_of = accepted(office, "of the dead", "of the living")
        for node in ("7", "8"):
            claim(office, node)
        with closing(office.database.session()) as session:
            assert free_claims(session, [7]) == {"mails"}
        (again,) = claim(office, "9")
        assert (again.id, again.attempts) == (ids_of[0], 2)
        kept = office.store.read(lambda tx: tx.mails.get(ids_of[1]))
        assert kept is not None
        assert kept.attempts == 1


def claim(office: Office, node: str) -> list[AcceptedMail]:
    with closing(Store(office.database, node=lambda: node)) as store:
        return store.write("mails.claim", lambda tx: tx.mails.claim(1, LEASE))


def test_an_answer_that_came_in_before_what_it_answers_waits_for_it(desk: Office) -> None:
    """Both were in the spool: a panic, and the answer to the call made for it while the database was away."""
    panic_id = desk.accept(mail("My files are .locked.", subject="Ransom note"))
    tokens, addresses = desk.settings.tokens, desk.settings.addresses
    to = addresses.reply_to(tokens.mint(Purpose.ANSWER, ids.incident_id(panic_id), "ana"))
    answer_id = desk.accept(mail("ack", sender="ana@example.com", subject="Re: [PANIC]"), "ana@example.com", [to])
    claimed = {waiting.id: waiting for waiting in desk.store.write("test", lambda tx: tx.mails.claim(2, LEASE))}
    desk.intake.understand(claimed[answer_id])
    assert desk.incidents() == [], "not a panic of its own"
    desk.intake.understand(claimed[panic_id])
    desk.wait(seconds=2)
    (incident,) = desk.incidents()
    assert (incident.state.value, incident.holder) == ("acked", "ana")


def test_an_answer_to_an_incident_nobody_knows_of_is_a_panic_after_half_a_minute(desk: Office) -> None:
    """What it answers may be in another node's spool; or the database was restored from before that incident."""
    to = desk.settings.addresses.reply_to(desk.settings.tokens.mint(Purpose.ANSWER, "a" * 16, "ana"))
    desk.deliver(mail("ack", sender="ana@example.com", subject="Re: [PANIC]"), "ana@example.com", [to])
    assert desk.incidents() == []
    for _ in range(32):
        desk.wait(seconds=1)
    assert len(desk.incidents()) == 1


def test_an_answer_whose_panic_turned_out_to_be_the_same_mail_again_goes_where_that_went(desk: Office) -> None:
    first = desk.panic()
    raw = desk.store.read(lambda tx: tx.mails.raw(first.mail_id))
    again = desk.deliver(raw)
    to = desk.settings.addresses.reply_to(desk.settings.tokens.mint(Purpose.ANSWER, ids.incident_id(again), "ana"))
    desk.deliver(mail("ack", sender="ana@example.com", subject="Re: [PANIC]"), "ana@example.com", [to])
    assert [incident.id for incident in desk.incidents()] == [first.id]
    assert desk.incident(first).holder == "ana"
