"""The listener, over real SMTP on loopback."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import smtplib
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme

from panicmail.errors import StoreFailed
from panicmail.intake.accept import ReceivedMail
from panicmail.server.smtp import data, reply_table
from panicmail.server.smtp.listeners import ServerCertificate, SmtpListener, tls_context
from tests.disks import storage
from tests.served_smtp import MAIL, PANIC, Served, Store, _eventually, serving

TOO_LARGE = "552 5.3.4 Too large. NOT received. Send it again without attachments."


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as it:
        yield it


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


# -- what is taken, and what the store gets


def test_a_mail_reaches_the_store_with_its_envelope(served: Served) -> None:
    with served.smtp() as client:
        client.sendmail("Bo@Example.net", ["Panic@example.com", "panic+x@EXAMPLE.com"], MAIL)
    assert served.store.mails == [
        ReceivedMail(
            mail_from="Bo@Example.net",
            recipients=("Panic@example.com", "panic+x@EXAMPLE.com"),
            peer="127.0.0.1",
            helo="client.example",
            tls="",
            raw=MAIL,
        )
    ]


def test_recipients_are_compared_lower_cased(served: Served) -> None:
    with served.smtp() as client:
        client.sendmail("bo@example.net", ["PANIC@Example.COM"], MAIL)
    assert served.store.asked == [PANIC]


def test_the_250_names_the_ref(served: Served) -> None:
    with served.wire().until_data() as client:
        assert client.say(MAIL + b".") == "250 2.0.0 accepted as KWMR"


def test_a_mail_is_answered_250_only_after_accept_has_resolved(served: Served) -> None:
    served.store.waiting = []
    with served.wire().until_data() as client:
        client.send(MAIL + b".\r\n")
        served.store.wait_for()
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.socket.recv(1, socket.MSG_PEEK)
        client.socket.settimeout(30)
        served.store.waiting[0].set_result("KWMR")
        assert client.reply() == "250 2.0.0 accepted as KWMR"


def test_the_null_sender_arrives_as_empty(served: Served) -> None:
    with served.smtp() as client:
        client.sendmail("", [PANIC], MAIL)
    assert served.store.mails[0].mail_from == ""


def test_subaddresses_are_asked_for_whole(served: Served) -> None:
    with served.smtp() as client:
        client.sendmail("bo@example.net", ["panic+4F7-kq@example.com"], MAIL)
    assert served.store.asked == ["panic+4f7-kq@example.com"]
    assert served.store.mails[0].recipients == ("panic+4F7-kq@example.com",)


def test_a_sender_with_letters_beyond_ascii_gets_through(served: Served) -> None:
    with served.smtp() as client:
        client.sendmail("jürgen@müller.example", [PANIC], MAIL, mail_options=["SMTPUTF8"])
    assert served.store.mails[0].mail_from == "jürgen@müller.example"


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        (b"<jos\xe9@example.net>", "jos\\xe9@example.net"),
        (b'<"bo >> x"@example.net>', '"bo >> x"@example.net'),
        (b"<user%example.org@example.net>", "user%example.org@example.net"),
        (b" bo@example.net", "bo@example.net"),
        (b"<bo@example.net>SIZE=10", "bo@example.net"),
        (b"< bo@example.net > SIZE=10 BODY=8BITMIME", "bo@example.net"),
        (b"<bo>", "bo"),
        (b"<> SIZE=10", ""),
    ],
)
def test_an_ugly_sender_still_reports_a_panic(served: Served, said: bytes, stored: str) -> None:
    with served.wire() as client:
        client.reply()
        client.say(b"EHLO client.example")
        assert client.say(b"MAIL FROM:" + said) == reply_table.SENDER_OK
        client.say(b"RCPT TO:<panic@example.com>")
        client.say(b"DATA")
        assert client.say(MAIL + b".").startswith("250 ")
    assert served.store.mails[0].mail_from == stored


def test_an_empty_mail_is_a_mail(served: Served) -> None:
    with served.wire().until_data() as client:
        assert client.say(b".").startswith("250 ")
    assert served.store.mails[0].raw == b""


def test_one_line_of_ten_megabytes_is_taken_as_it_is() -> None:
    raw = b"Subject: long\r\n\r\n" + b"x" * 10_000_000 + b"\r\n"
    with serving(max_message_size=50 << 20) as served:
        with served.smtp() as client:
            client.sendmail("bo@example.net", [PANIC], raw)
        assert served.store.mails[0].raw == raw


def test_stuffed_dots_are_unstuffed_and_nothing_else_is_touched(served: Served) -> None:
    wire = b"..first\r\nnul \x00 cr \r lf \n eight \xff\r\n..\r\n...\r\n.x\r\n \r\n"
    with served.wire().until_data() as client:
        assert client.say(wire + b".").startswith("250 ")
    assert served.store.mails[0].raw == b".first\r\nnul \x00 cr \r lf \n eight \xff\r\n.\r\n..\r\nx\r\n \r\n"


def test_a_mail_that_comes_octet_by_octet_is_whole(served: Served) -> None:
    with served.wire().until_data() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in MAIL + b".\r\n":
            client.send(bytes([octet]))
        assert client.reply().startswith("250 ")
    assert served.store.mails[0].raw == MAIL


def test_several_mails_in_one_session_are_apart(served: Served) -> None:
    with served.smtp() as client:
        client.sendmail("bo@example.net", [PANIC], MAIL)
        client.sendmail("al@example.net", [PANIC], MAIL + b"again\r\n")
    assert [(mail.mail_from, mail.raw) for mail in served.store.mails] == [
        ("bo@example.net", MAIL),
        ("al@example.net", MAIL + b"again\r\n"),
    ]


DIALOGUE = b"EHLO c\r\nMAIL FROM:<bo@example.net>\r\nRCPT TO:<panic@example.com>\r\nDATA\r\n" + MAIL + b".\r\nQUIT\r\n"


def test_a_whole_dialogue_in_one_packet_is_understood(served: Served) -> None:
    with served.wire() as client:
        client.send(DIALOGUE)
        codes = [client.reply()[:3] for _ in range(7)]
        assert codes == ["220", "250", "250", "250", "354", "250", "221"]
        assert client.reply() == ""
    assert served.store.mails[0].raw == MAIL


@pytest.mark.parametrize(
    "end",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r\r\n.\r\r\n",
        b"\r.\r\n",
        b"\n.\r\r\n",
        b"\r\n.\r\x00\n",
        b"\r\n\x00.\r\n",
        b"\r\n.\x00\r\n",
        b"\n\n.\n\n",
        b"\r\n. \r\n",
    ],
)
def test_nothing_but_crlf_dot_crlf_ends_a_mail(served: Served, end: bytes) -> None:
    smuggled = b"MAIL FROM:<boss@example.com>\r\nRCPT TO:<panic@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
    wire = b"Subject: outer\r\n\r\nhello" + end + smuggled
    with served.wire().until_data() as client:
        assert client.say(wire + b".").startswith("250 2.0.0 accepted")
        assert client.say(b"NOOP") == reply_table.OK
        assert client.say(b"QUIT") == reply_table.BYE
    assert [mail.raw for mail in served.store.mails] == [wire.replace(b"\r\n.", b"\r\n")]


# -- clients that leave


def test_hanging_up_after_the_dot_still_stores_the_mail(served: Served, logged: list[Any]) -> None:
    served.store.waiting = []
    with served.wire().until_data() as client:
        client.send(MAIL + b".\r\n")
        served.store.wait_for()
    time.sleep(0.1)
    assert not served.store.waiting[0].cancelled()
    served.store.waiting[0].set_result("KWMR")
    served.drain(5).result(timeout=30)
    assert not [entry for entry in logged if entry["event"] == "smtp.failed"]


def test_a_reset_right_behind_the_dot_does_not_lose_the_mail(served: Served) -> None:
    client = served.wire().until_data()
    client.send(MAIL + b".\r\n")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    served.store.wait_for()
    with served.smtp() as other:
        other.sendmail("al@example.net", [PANIC], MAIL)
    assert [mail.mail_from for mail in served.store.mails] == ["bo@example.net", "al@example.net"]


def test_a_half_closed_client_still_gets_its_250(served: Served) -> None:
    with served.wire().until_data() as client:
        client.send(MAIL + b".\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.reply() == "250 2.0.0 accepted as KWMR"
        assert client.reply() == ""
    assert len(served.store.mails) == 1


def test_a_dialogue_sent_blindly_and_half_closed_is_stored(served: Served) -> None:
    with served.wire() as client:
        client.send(DIALOGUE.removesuffix(b"QUIT\r\n"))
        client.socket.shutdown(socket.SHUT_WR)
        answers = [client.reply()[:3] for _ in range(6)]
    assert answers == ["220", "250", "250", "250", "354", "250"]
    assert len(served.store.mails) == 1


def test_a_mail_without_its_dot_is_no_mail(served: Served, logged: list[Any]) -> None:
    with served.wire().until_data() as client:
        client.send(MAIL)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.reply() == ""
    assert served.store.mails == []
    assert [entry["octets"] for entry in logged if entry["event"] == "mail.cut_off"] == [len(MAIL)]


# -- what goes wrong with ourselves


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("postgresql://panic:s3cret@db/\r\n250 fake second line"),
        StoreFailed("the disk is full"),
        TimeoutError(),
        concurrent.futures.CancelledError(),
        asyncio.CancelledError(),
    ],
)
def test_an_exception_in_accept_is_a_constant_451(served: Served, logged: list[Any], error: BaseException) -> None:
    served.store.failures = {1: error}
    with served.wire().until_data() as client:
        assert client.say(MAIL + b".") == "451 4.3.0 Temporary failure. Try again."
        assert client.say(b"NOOP") == reply_table.OK
    failed = [entry for entry in logged if entry["event"] == "smtp.failed"]
    assert [entry["peer"] for entry in failed] == ["127.0.0.1"]
    assert failed[0]["error"] in {type(error).__name__, "CancelledError"}
    assert "s3cret" not in repr(failed)


def test_accept_that_raises_at_once_is_451_too(logged: list[Any]) -> None:
    def broken(mail: ReceivedMail) -> concurrent.futures.Future[str]:
        raise LookupError(mail.raw)

    with serving(accept=broken) as served, served.wire().until_data() as client:
        assert client.say(MAIL + b".") == reply_table.FAILED
    failed = [entry for entry in logged if entry["event"] == "smtp.failed"]
    assert failed[0]["error"] == "LookupError"
    assert "in broken" in failed[0]["traceback"]
    assert "on fire" not in repr(failed)


def test_a_write_that_is_cancelled_under_us_is_451(served: Served) -> None:
    served.store.waiting = []
    with served.wire().until_data() as client:
        client.send(MAIL + b".\r\n")
        served.store.wait_for()
        served.store.waiting[0].cancel()
        served.store.waiting[0].set_running_or_notify_cancel()
        assert client.reply() == reply_table.FAILED


def test_the_retry_after_a_451_is_taken(served: Served) -> None:
    served.store.failures = {1: RuntimeError()}
    with served.smtp() as client:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("bo@example.net", [PANIC], MAIL)
        assert refused.value.smtp_code == 451
        client.sendmail("bo@example.net", [PANIC], MAIL)
    assert len(served.store.mails) == 2


def test_accept_that_takes_too_long_is_451_and_goes_on() -> None:
    store = Store()
    store.waiting = []
    with serving(store, accept_timeout=0.1, storage=storage(100)) as served, served.wire().until_data() as client:
        assert client.say(MAIL + b".") == reply_table.FAILED
        assert not store.waiting[0].cancelled()
        for line in (b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>", b"DATA"):
            client.say(line)
        assert client.say(b"x" * 90 + b"\r\n.") == reply_table.NO_ROOM  # the late mail still counts
        store.waiting[0].set_exception(RuntimeError("late, and nobody asks any more"))
        store.waiting = None
        for line in (b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>", b"DATA"):
            client.say(line)
        assert client.say(b"x" * 90 + b"\r\n.").startswith("250 ")


def test_a_recipient_that_cannot_be_decided_is_451(logged: list[Any]) -> None:
    def unable(address: str) -> bool:
        raise RuntimeError(address)

    with serving(known=unable) as served, served.wire() as client:
        client.reply()
        client.say(b"EHLO c")
        client.say(b"MAIL FROM:<bo@example.net>")
        assert client.say(b"RCPT TO:<panic@example.com>") == reply_table.FAILED
        assert client.say(b"DATA") == reply_table.OUT_OF_ORDER
    assert [entry["error"] for entry in logged if entry["event"] == "smtp.failed"] == ["RuntimeError"]


def test_a_fault_while_reading_a_mail_closes_lest_the_rest_be_taken_for_commands(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError

    with served.wire().until_data() as client:
        monkeypatch.setattr(data.DataReceiver, "feed", broken)
        client.send(b"x\r\nNOOP\r\n.\r\nNOOP\r\n")
        assert client.reply() == reply_table.FAILED
        with contextlib.suppress(ConnectionResetError):
            assert client.reply() == ""


# -- refusals


@pytest.mark.parametrize(
    "said",
    [
        b"<root@example.com>",
        b"<panic@example.org>",
        b"<panic>",
        b"<>",
        b"<panic%example.org@example.com>",
        b"<example.org!panic@example.com>",
        b"<@example.org:panic@example.com>",
        b'<"panic"@example.com>',
        b'<"panic@example.com"@example.com>',
        b"<panic@example.com@example.org>",
        b"<pan ic@example.com>",
        b"<panic+\\@example.com>",
        b"<panic+\xff@example.com>",
    ],
)
def test_every_other_recipient_is_unknown(served: Served, logged: list[Any], said: bytes) -> None:
    with served.wire() as client:
        client.reply()
        client.say(b"EHLO c")
        client.say(b"MAIL FROM:<bo@example.net>")
        assert client.say(b"RCPT TO:" + said) == "550 5.1.1 No such mailbox here"
        assert client.say(b"RCPT TO:<panic@example.com>") == reply_table.RECIPIENT_OK
    assert {"event": "mail.refused", "code": "550 5.1.1", "reason": "unknown_recipient", "peer": "127.0.0.1"} in [
        {key: entry[key] for key in entry if key != "log_level"} for entry in logged
    ]


@pytest.mark.parametrize("said", [b"<panic+\x00@example.com>", b"<panic+\r@example.com>", b"<panic", b"<a<b>"])
def test_control_octets_and_broken_paths_are_malformed(served: Served, said: bytes) -> None:
    with served.wire() as client:
        client.reply()
        client.say(b"EHLO c")
        client.say(b"MAIL FROM:<bo@example.net>")
        assert client.say(b"RCPT TO:" + said) == reply_table.BAD_ADDRESS


def test_a_sender_with_control_octets_is_malformed(served: Served) -> None:
    with served.wire() as client:
        client.reply()
        client.say(b"EHLO c")
        assert client.say(b"MAIL FROM:<b\x00o@example.net>") == reply_table.BAD_SENDER
        assert client.say(b"MAIL FROM:<bo@example.net>") == reply_table.SENDER_OK


def test_a_hundred_recipients_are_taken_and_the_next_waits_its_turn(served: Served) -> None:
    with served.wire() as client:
        client.reply()
        client.say(b"EHLO c")
        client.say(b"MAIL FROM:<bo@example.net>")
        said = {client.say(b"RCPT TO:<panic+%d@example.com>" % n) for n in range(100)}
        assert said == {reply_table.RECIPIENT_OK}
        assert client.say(b"RCPT TO:<panic@example.com>") == reply_table.TOO_MANY_RECIPIENTS
        client.say(b"DATA")
        assert client.say(MAIL + b".").startswith("250 ")
    assert len(served.store.mails[0].recipients) == 100


def test_a_size_beyond_the_limit_is_refused_in_mail_already(served: Served) -> None:
    with served.wire() as client:
        client.reply()
        client.say(b"EHLO c")
        assert client.say(b"MAIL FROM:<bo@example.net> SIZE=1048577") == TOO_LARGE
        assert client.say(b"MAIL FROM:<bo@example.net> SIZE=1048576") == reply_table.SENDER_OK


def test_a_mail_beyond_the_limit_is_refused_at_its_dot_and_the_session_goes_on(served: Served) -> None:
    with served.wire().until_data() as client:
        assert client.say(b"y" * 1_100_000 + b"\r\n.") == TOO_LARGE
        for line in (b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>", b"DATA"):
            assert client.say(line)[0] in "23"
        assert client.say(MAIL + b".").startswith("250 ")
    assert [mail.raw for mail in served.store.mails] == [MAIL]


def test_beyond_twice_the_limit_we_answer_and_close() -> None:
    with serving(max_message_size=100_000) as served, served.wire().until_data() as client:
        client.send(b"z" * 200_001)
        assert client.reply() == TOO_LARGE
        assert client.reply() == ""


def test_a_mail_for_which_the_sessions_have_no_room_is_452_at_its_dot_and_later_taken() -> None:
    with serving(storage=storage(1000)) as served, served.wire().until_data() as first:
        first.send(b"a" * 800)
        with served.wire().until_data() as second:
            assert _eventually(lambda: served.listener._terms.storage.memory.free <= 200)
            assert second.say(b"b" * 800 + b"\r\n.") == "452 4.3.1 Too much mail at once. Try again."
            assert first.say(b"\r\n.").startswith("250 ")
            for line in (b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>", b"DATA"):
                second.say(line)
            assert second.say(b"b" * 800 + b"\r\n.").startswith("250 ")


def test_a_client_that_leaves_in_the_middle_of_a_mail_gives_its_room_back() -> None:
    with serving(storage=storage(1000)) as served:
        with served.wire().until_data() as client:
            client.send(b"a" * 800)
            assert _eventually(lambda: served.listener._terms.storage.memory.free <= 200)
        assert _eventually(lambda: served.listener._terms.storage.memory.free == 1000)


@pytest.mark.parametrize(("hops", "answer"), [(31, "250"), (100, "250"), (101, "554")])
def test_a_mail_that_came_a_long_way_is_taken_and_more_than_a_hundred_hops_are_a_loop(
    served: Served, hops: int, answer: str
) -> None:
    """RFC 5321 6.3: whoever counts Received fields allows a hundred at least."""
    with served.wire().until_data() as client:
        reply = client.say(b"Received: by x\r\n" * hops + b"\r\nReceived: by x\r\n.")
    assert reply.startswith(answer)
    assert (reply == reply_table.LOOP) is (answer == "554")


# -- the protocol around it


def test_we_call_ourselves_panicmail_without_a_version(served: Served) -> None:
    with served.wire() as client:
        assert client.reply() == "220 panic.example.com panicmail ESMTP"


def test_ehlo_offers_what_we_do_and_no_auth(served: Served) -> None:
    with served.wire() as client:
        client.reply()
        assert client.say(b"EHLO c").splitlines() == [
            "250-panic.example.com",
            "250-PIPELINING",
            "250-SIZE 1048576",
            "250-8BITMIME",
            "250-SMTPUTF8",
            "250 ENHANCEDSTATUSCODES",
        ]


def test_helo_still_works_and_its_name_is_kept(served: Served) -> None:
    with served.wire() as client:
        client.reply()
        assert client.say(b"HELO old\x07\xff.example") == "250 panic.example.com"
        for line in (b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>", b"DATA"):
            client.say(line)
        assert client.say(MAIL + b".").startswith("250 ")
    assert served.store.mails[0].helo == "old?\\xff.example"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"NOOP", reply_table.OK),
        (b"noop anything", reply_table.OK),
        (b"RSET", reply_table.OK),
        (b"VRFY panic@example.com", reply_table.NOT_VERIFIED),
        (b"VRFY \r<x>", reply_table.NOT_VERIFIED),
        (b"EXPN staff", reply_table.NOT_OFFERED),
        (b"HELP", reply_table.HELP),
        (b"HELP \x1b[2J", reply_table.HELP),
        (b"AUTH PLAIN AGEAYg==", reply_table.NOT_OFFERED),
        (b"STARTTLS", reply_table.NO_TLS),
        (b"BDAT 10 LAST", reply_table.NOT_UNDERSTOOD),
        (b"GET / HTTP/1.1", reply_table.NOT_UNDERSTOOD),
        (b"EVIL<script>\x1b", reply_table.NOT_UNDERSTOOD),
        (b"\xff\xfe", reply_table.NOT_UNDERSTOOD),
        (b"", reply_table.NOT_UNDERSTOOD),
        (b"EHLO", reply_table.BAD_ARGUMENT),
        (b"RSET now", reply_table.BAD_ARGUMENT),
        (b"QUIT now", reply_table.BAD_ARGUMENT),
        (b"MAIL TO:<a@example.net>", reply_table.BAD_ARGUMENT),
        (b"MAIL FROM:", reply_table.BAD_ADDRESS),
        (b"MAIL FROM:<a@example.net> SIZE=big", reply_table.BAD_ARGUMENT),
        (b"MAIL FROM:<a@example.net> RET=FULL", reply_table.UNKNOWN_PARAMETER),
        (b"RCPT TO:<panic@example.com>", reply_table.OUT_OF_ORDER),
        (b"DATA", reply_table.OUT_OF_ORDER),
    ],
)
def test_replies_are_ours_and_quote_nobody(served: Served, said: bytes, answer: str) -> None:
    with served.wire() as client:
        client.reply()
        client.say(b"EHLO c")
        assert client.say(said) == answer
        assert client.say(b"NOOP") == reply_table.OK


def test_mail_before_hello_is_out_of_order(served: Served) -> None:
    with served.wire() as client:
        client.reply()
        assert client.say(b"MAIL FROM:<bo@example.net>") == reply_table.OUT_OF_ORDER


def test_rset_forgets_the_transaction(served: Served) -> None:
    with served.wire() as client:
        client.reply()
        for line in (b"EHLO c", b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>", b"RSET"):
            client.say(line)
        assert client.say(b"DATA") == reply_table.OUT_OF_ORDER
        assert client.say(b"MAIL FROM:<al@example.net>") == reply_table.SENDER_OK


@pytest.mark.parametrize(("octets", "understood"), [(4096, True), (4097, False), (100_000, False), (1_000_000, False)])
def test_a_command_line_may_have_4096_octets_and_a_longer_one_ends_nothing(
    served: Served, octets: int, understood: bool
) -> None:
    with served.wire() as client:
        client.reply()
        said = client.say(b"NOOP ".ljust(octets, b"x"))
        assert said == (reply_table.OK if understood else "500 5.5.2 Command unknown or line too long")
        assert client.say(b"NOOP") == reply_table.OK


def test_who_speaks_another_protocol_is_shown_out(served: Served) -> None:
    with served.wire() as client:
        client.reply()
        client.send(b"X-Header: y\r\n" * 11 + DIALOGUE)
        said = [client.reply() for _ in range(11)]
        assert said == [reply_table.NOT_UNDERSTOOD] * 10 + [reply_table.TOO_MANY_MISTAKES]
        assert client.reply() == ""
    assert served.store.mails == []


def test_two_listening_addresses_serve_the_same_mailbox() -> None:
    with serving(listen=[("127.0.0.1", 0), ("127.0.0.2", 0)]) as served:
        (first, _), (second, port) = served.listener.addresses
        assert (first, second) == ("127.0.0.1", "127.0.0.2")
        with smtplib.SMTP(second, port, timeout=30) as client:
            client.sendmail("bo@example.net", [PANIC], MAIL)
        assert served.store.mails[0].raw == MAIL


def test_a_client_over_ipv6_is_named_by_its_address() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on loopback here")
    with serving(listen=[("::1", 0)]) as served:
        with smtplib.SMTP("::1", served.port, timeout=30) as client:
            client.sendmail("bo@example.net", [PANIC], MAIL)
        assert served.store.mails[0].peer == "::1"


def test_an_address_that_is_taken_stops_the_start_and_frees_the_others() -> None:
    async def start(listener: SmtpListener) -> tuple[tuple[str, int], ...]:
        with pytest.raises(OSError, match="in use"):
            await listener.start()
        return listener.addresses

    store = Store()
    with serving(store) as served:
        listener = SmtpListener(
            listen=[("127.0.0.1", 0), ("127.0.0.1", served.port)],
            hostname="panic.example.com",
            known=store.known,
            accept=store.accept,
            max_message_size=1000,
            tls=None,
            storage=storage(),
        )
        assert served.run(start(listener)) == ()


# -- time


def test_an_idle_client_is_told_421_and_let_go() -> None:
    with serving(idle_timeout=0.2) as served, served.wire() as client:
        client.reply()
        client.send(b"NOO")
        assert client.reply() == "421 4.4.2 Idle for too long, closing"
        assert client.reply() == ""


def test_a_client_that_falls_silent_within_its_mail_is_told_421_and_let_go() -> None:
    with serving(idle_timeout=0.2) as served, served.wire().until_data() as client:
        client.send(b"Subject: x\r\n")
        assert client.reply() == reply_table.IDLE
        assert client.reply() == ""
        assert served.store.mails == []


def test_a_slow_but_steady_mail_may_take_longer_than_the_idle_time() -> None:
    with serving(idle_timeout=0.5) as served, served.wire().until_data() as client:
        for _ in range(8):
            client.send(b"x\r\n")
            time.sleep(0.1)
        assert client.say(b".").startswith("250 ")


def test_a_slow_accept_may_take_longer_than_the_idle_time() -> None:
    store = Store()
    store.waiting = []
    with serving(store, idle_timeout=0.2) as served, served.wire().until_data() as client:
        client.send(MAIL + b".\r\n")
        store.wait_for()
        time.sleep(0.5)
        store.waiting[0].set_result("KWMR")
        assert client.reply() == "250 2.0.0 accepted as KWMR"


def test_a_slow_accept_holds_up_nobody_else(served: Served) -> None:
    served.store.waiting = []
    with served.wire().until_data() as slow:
        slow.send(MAIL + b".\r\n")
        served.store.wait_for()
        held, served.store.waiting = served.store.waiting, None
        with served.smtp() as other:
            other.sendmail("al@example.net", [PANIC], MAIL)
        held[0].set_result("KWMR")
        assert slow.reply().startswith("250 ")


# -- leaving


def test_drain_lets_a_slow_accept_finish_and_its_client_gets_250(served: Served) -> None:
    served.store.waiting = []
    with served.wire().until_data() as client:
        client.send(MAIL + b".\r\n")
        served.store.wait_for()
        drained = served.drain(10)
        time.sleep(0.1)
        assert not drained.done()
        served.store.waiting[0].set_result("KWMR")
        assert client.reply() == "250 2.0.0 accepted as KWMR"
        assert client.reply() == "421 4.3.2 Shutting down. Try again soon."
        assert client.reply() == ""
        drained.result(timeout=30)


def test_drain_lets_a_mail_in_flight_come_in(served: Served) -> None:
    with served.wire().until_data() as client:
        client.send(b"Subject: slow\r\n")
        drained = served.drain(10)
        time.sleep(0.1)
        assert client.say(b"\r\nstill here\r\n.").startswith("250 ")
        drained.result(timeout=30)
    assert served.store.mails[0].raw == b"Subject: slow\r\n\r\nstill here\r\n"


def test_drain_tells_idle_sessions_421_at_once(served: Served) -> None:
    with served.wire() as greeted, served.wire() as busy:
        greeted.reply()
        busy.reply()
        for line in (b"EHLO c", b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>"):
            busy.say(line)
        started = time.monotonic()
        served.drain(60).result(timeout=60)
        assert time.monotonic() - started < 30
        assert greeted.reply() == busy.reply() == reply_table.SHUTTING_DOWN
        assert greeted.reply() == busy.reply() == ""


def test_drain_drops_what_does_not_finish_in_time(served: Served) -> None:
    with served.wire().until_data() as client:
        client.send(b"Subject: never ends\r\n")
        started = time.monotonic()
        served.drain(0.3).result(timeout=30)
        assert 0.2 < time.monotonic() - started < 30
        with contextlib.suppress(ConnectionResetError):
            assert client.reply() == ""


def test_drain_does_not_wait_for_a_client_that_takes_no_replies() -> None:
    with serving(idle_timeout=0.2, max_commands=10**9) as served, served.wire() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while True:
                client.send(b"HELP\r\n" * 10_000)
        time.sleep(0.5)  # by now it is being shown out, and takes no notice
        started = time.monotonic()
        served.drain(0.1).result(timeout=30)
        assert time.monotonic() - started < 30


def test_a_write_outlives_a_drain_that_could_not_wait(served: Served) -> None:
    served.store.waiting = []
    with served.wire().until_data() as client:
        client.send(MAIL + b".\r\n")
        served.store.wait_for()
        served.drain(0.1).result(timeout=30)
        assert not served.store.waiting[0].cancelled()
        served.store.waiting[0].set_result("KWMR")


def test_new_connections_are_refused_after_drain(served: Served) -> None:
    served.drain(1).result(timeout=30)
    with pytest.raises(ConnectionRefusedError):
        served.smtp()
    assert served.listener.addresses == ()


# -- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _pair(authority: trustme.CA, folder: Path, name: str) -> tuple[Path, Path]:
    issued = authority.issue_cert("127.0.0.1", common_name=name)
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    return cert, key


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def _common_name(client: smtplib.SMTP) -> str:
    assert isinstance(client.sock, ssl.SSLSocket)
    certificate: Any = client.sock.getpeercert()
    return str(dict(field[0] for field in certificate["subject"])["commonName"])


def test_starttls_is_offered_used_and_told_to_the_store(authority: trustme.CA, tmp_path: Path) -> None:
    with serving(tls=tls_context(*_pair(authority, tmp_path, "one"))) as served:
        with served.smtp() as client:
            client.ehlo()
            assert client.has_extn("starttls")
            client.starttls(context=_trusting(authority))
            client.ehlo()
            assert not client.has_extn("starttls")
            assert not client.has_extn("auth")
            assert client.docmd("STARTTLS")[0] == 503
            client.sendmail("bo@example.net", [PANIC], MAIL)
        assert served.store.mails[0].tls.startswith("TLSv1.3 TLS_")
        assert served.store.mails[0].helo == "client.example"


def test_plaintext_stays_possible_beside_starttls(authority: trustme.CA, tmp_path: Path) -> None:
    with serving(tls=tls_context(*_pair(authority, tmp_path, "one"))) as served:
        with served.smtp() as client:
            client.sendmail("bo@example.net", [PANIC], MAIL)
        assert served.store.mails[0].tls == ""


def test_what_was_said_in_plaintext_does_not_reach_into_tls(authority: trustme.CA, tmp_path: Path) -> None:
    with serving(tls=tls_context(*_pair(authority, tmp_path, "one"))) as served, served.wire() as client:
        client.reply()
        for line in (b"EHLO c", b"MAIL FROM:<evil@example.net>", b"RCPT TO:<panic@example.com>"):
            client.say(line)
        assert client.say(b"STARTTLS\r\nEHLO injected\r\nMAIL FROM:<evil@example.net>") == reply_table.START_TLS
        with _trusting(authority).wrap_socket(client.socket, server_hostname="127.0.0.1") as secure:
            secure.sendall(b"DATA\r\n")
            assert secure.recv(1000) == reply_table.OUT_OF_ORDER.encode() + b"\r\n"


def test_a_mail_under_tls_survives_its_client_hanging_up(authority: trustme.CA, tmp_path: Path) -> None:
    store = Store()
    store.waiting = []
    with serving(store, tls=tls_context(*_pair(authority, tmp_path, "one"))) as served:
        client = served.smtp()
        client.starttls(context=_trusting(authority))
        client.ehlo()
        client.mail("bo@example.net")
        client.rcpt(PANIC)
        client.docmd("DATA")
        client.send(MAIL + b".\r\n")
        store.wait_for()
        client.close()
        time.sleep(0.1)
        assert not store.waiting[0].cancelled()
        store.waiting[0].set_result("KWMR")
        served.drain(5).result(timeout=30)


def test_a_failed_handshake_ends_only_its_own_session(authority: trustme.CA, tmp_path: Path, logged: list[Any]) -> None:
    with serving(tls=tls_context(*_pair(authority, tmp_path, "one"))) as served:
        with served.wire() as client:
            client.reply()
            client.say(b"EHLO c")
            assert client.say(b"STARTTLS") == reply_table.START_TLS
            client.send(b"this is no handshake\r\n" * 10)
            with contextlib.suppress(ConnectionResetError):
                while client.socket.recv(1000):
                    pass
        with served.smtp() as other:
            other.sendmail("bo@example.net", [PANIC], MAIL)
    assert [entry["peer"] for entry in logged if entry["event"] == "smtp.tls_failed"] == ["127.0.0.1"]


def test_drain_does_not_wait_for_a_handshake_that_never_comes(authority: trustme.CA, tmp_path: Path) -> None:
    with serving(tls=tls_context(*_pair(authority, tmp_path, "one"))) as served, served.wire() as client:
        client.reply()
        client.say(b"EHLO c")
        client.say(b"STARTTLS")
        started = time.monotonic()
        served.drain(0.2).result(timeout=30)
        assert time.monotonic() - started < 30


def test_a_reloaded_certificate_is_used_by_the_next_session(authority: trustme.CA, tmp_path: Path) -> None:
    certificate = ServerCertificate(*_pair(authority, tmp_path, "first"))
    with serving(tls=certificate.context) as served:
        for name in ("old", "new"):
            certificate.reload(*_pair(authority, tmp_path, name))
            with served.smtp() as client:
                client.starttls(context=_trusting(authority))
                assert _common_name(client) == name


def test_a_pair_that_does_not_fit_is_refused_and_the_old_one_stays(authority: trustme.CA, tmp_path: Path) -> None:
    cert, key = _pair(authority, tmp_path, "old")
    certificate = ServerCertificate(cert, key)
    with serving(tls=certificate.context) as served:
        _, stranger = _pair(authority, tmp_path, "stranger")
        with pytest.raises(ssl.SSLError):
            certificate.reload(cert, stranger)
        with served.smtp() as client:
            client.starttls(context=_trusting(authority))
            assert _common_name(client) == "old"


def test_a_certificate_that_was_renewed_in_its_place_is_shown_without_anybody_saying_so(
    authority: trustme.CA, tmp_path: Path, logged: list[Any]
) -> None:
    cert, key = _pair(authority, tmp_path, "old")
    certificate = ServerCertificate(cert, key)
    certificate.renew()
    assert not logged
    new_cert, new_key = _pair(authority, tmp_path, "new")
    Path(new_cert).replace(cert)  # certbot puts the chain first …
    certificate.renew()
    assert logged[-1]["event"] == "smtp.tls_not_reloaded"
    Path(new_key).replace(key)  # … and the key a moment later
    certificate.renew()
    with serving(tls=certificate.context) as served, served.smtp() as client:
        client.starttls(context=_trusting(authority))
        assert _common_name(client) == "new"


def test_a_recipient_whose_domain_is_written_in_its_own_letters_is_ours() -> None:
    store = Store()
    with serving(store, known=lambda address: address == "panic@xn--bcher-kva.example") as served:
        with served.wire() as client:
            client.reply()
            client.say(b"EHLO c")
            client.say("MAIL FROM:<jürgen@bücher.example> SMTPUTF8".encode())
            assert client.say("RCPT TO:<Panic@Bücher.Example>".encode()).startswith("250")
            assert client.say("RCPT TO:<panic@bücher..example>".encode()) == reply_table.UNKNOWN_RECIPIENT
            assert client.say("RCPT TO:<pänic@bücher.example>".encode()) == reply_table.UNKNOWN_RECIPIENT
            client.say(b"DATA")
            client.say(MAIL + b".")
        (mail,) = store.mails
        assert (mail.mail_from, mail.recipients) == ("jürgen@bücher.example", ("panic@xn--bcher-kva.example",))


# -- memory

_HOARDER = """
import asyncio, concurrent.futures, pathlib, socket, sys, threading
from panicmail.server.smtp.inbound_storage import InboundStorage
from panicmail.server.smtp.listeners import SmtpListener
from panicmail.store.spool import Spool

def accept(mail):
    future = concurrent.futures.Future()
    future.set_result("KWMR")
    return future

block, sessions, octets = eval(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
listener = SmtpListener(listen=[("127.0.0.1", 0)], hostname="h", known=lambda a: True, accept=accept,
                        max_message_size=8 << 20, tls=None,
                        storage=InboundStorage(Spool(pathlib.Path(sys.argv[4])), 8 << 20))
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(listener.start(), loop).result()

def peak():  # of this program; ru_maxrss would count the process it was forked from
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

before = peak()
clients = []
for _ in range(sessions):
    client = socket.create_connection(listener.addresses[0])
    client.sendall(b"EHLO c\\r\\nMAIL FROM:<>\\r\\nRCPT TO:<p@h>\\r\\nDATA\\r\\n")
    clients.append((client, client.makefile("rb")))
try:
    for _ in range(octets // len(block)):
        for client, _ in clients:
            client.sendall(block)
except ConnectionError:
    pass
answers = []
for client, lines in clients:
    try:
        client.sendall(b"\\r\\n.\\r\\n")
    except ConnectionError:
        pass
    answers.append([line for line in (lines.readline() for _ in range(11)) if line[3:4] != b"-"][5][:3].decode())
print((peak() - before) // 1024, *answers)
"""


@pytest.mark.parametrize(
    ("block", "sessions", "octets", "answers"),
    [
        ("b'x' * 65536", 1, 64 << 20, {"552"}),
        ("b'\\n' * 65536", 1, 64 << 20, {"552"}),
        ("b'..\\r\\n' * 16384", 1, 7 << 20, {"250"}),
        ("b'\\r\\n' * 32768", 1, 7 << 20, {"250"}),
        ("b'x' * 65536", 8, 7 << 20, {"250"}),
    ],
    ids=["no-crlf", "bare-lf", "dots", "empty-lines", "eight-at-once"],
)
def test_memory_stays_bounded_whatever_is_sent(
    tmp_path: Path, block: str, sessions: int, octets: int, answers: set[str]
) -> None:
    """The growth beyond an idle listener, in MiB, with a limit of 8 MiB: eight mails come to memory by two."""
    done = subprocess.run(
        [sys.executable, "-c", _HOARDER, block, str(sessions), str(octets), str(tmp_path)],
        capture_output=True, text=True, timeout=50, check=True,
    )  # fmt: skip
    grown, *said = done.stdout.splitlines()[-1].split()
    assert set(said) <= answers | {""}
    assert int(grown) < 40
