"""How we answer, beside a stock aiosmtpd and a Postfix: the table of `tests/smtp_table.md`, written by this test.

`PANICMAIL_TEST_WRITE_TABLE=1` writes our column and aiosmtpd's anew. The column of Postfix is kept as it stands; with
`PANICMAIL_TEST_POSTFIX=host:port` of a private Postfix that takes mail for panic@example.com it is written too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
from aiosmtpd.smtp import SMTP

from tests.served_smtp import MAIL, serving

TABLE = Path(__file__).parents[1] / "smtp_table.md"
HELLO = b"EHLO client.example"
FROM, TO = b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>"
MAIL_TO = (HELLO, FROM, TO)


@dataclass(frozen=True)
class Case:
    """Lines that are said one after another; the reply to the last one is what is told."""

    name: str
    lines: Sequence[bytes]
    decided: str = ""  #: why we answer so, where that is not plain
    end: bytes = b"\r\n"  #: of each line


def said(*lines: bytes) -> tuple[bytes, ...]:
    return lines


def rcpt(path: bytes) -> tuple[bytes, ...]:
    return HELLO, FROM, b"RCPT TO:" + path


def mail(rest: bytes) -> tuple[bytes, ...]:
    return HELLO, b"MAIL FROM:" + rest


def data(*octets: bytes) -> tuple[bytes, ...]:
    return (*MAIL_TO, b"DATA", b"".join(octets) + b"\r\n.")


CASES = (
    Case("RCPT, ours", rcpt(b"<panic@example.com>")),
    Case("RCPT, in capitals", rcpt(b"<PANIC@Example.COM>")),
    Case("RCPT, a subaddress", rcpt(b"<panic+anything@example.com>"), "every subaddress is ours: it may be a token"),
    Case("RCPT, nobody", rcpt(b"<nobody@example.com>")),
    Case("RCPT, another domain", rcpt(b"<panic@example.org>"), "no relay"),
    Case("RCPT without a domain", rcpt(b"<panic>")),
    Case("RCPT with a source route", rcpt(b"<@relay.example:panic@example.com>"), "nothing is routed"),
    Case("RCPT with a percent", rcpt(b"<panic%example.org@example.com>"), "nothing is routed"),
    Case("RCPT with a bang", rcpt(b"<example.org!panic@example.com>"), "nothing is routed"),
    Case("RCPT, quoted", rcpt(b'<"panic"@example.com>')),
    Case("RCPT with a NUL", rcpt(b"<pa\0nic@example.com>")),
    Case("RCPT with a bare CR", rcpt(b"<pa\rnic@example.com>")),
    Case("RCPT, postmaster", rcpt(b"<postmaster>"), "the domain's mail server has one (RFC 5321 4.5.1)"),
    Case("RCPT, two addresses", rcpt(b"<panic@example.com>,<x@example.com>")),
    Case("RCPT with NOTIFY", rcpt(b"<panic@example.com> NOTIFY=NEVER"), "DSN is not offered"),
    Case("RCPT without brackets", rcpt(b"panic@example.com"), "sloppy clients report panics too"),
    Case("RCPT before MAIL", said(HELLO, TO)),
    Case("MAIL, null sender", mail(b"<>")),
    Case("MAIL before EHLO", said(FROM)),
    Case("MAIL twice", said(HELLO, FROM, FROM)),
    Case("MAIL without brackets", mail(b"bo@example.net"), "sloppy clients report panics too"),
    Case("MAIL, no domain", mail(b"<bo>"), "an ugly sender still reports a panic"),
    Case("MAIL with a blank behind the colon", mail(b" <bo@example.net>")),
    Case("MAIL with a NUL", mail(b"<b\0o@example.net>")),
    Case("MAIL, 8BITMIME", mail(b"<bo@example.net> BODY=8BITMIME")),
    Case("MAIL, BINARYMIME", mail(b"<bo@example.net> BODY=BINARYMIME"), "no CHUNKING, so nothing binary"),
    Case("MAIL, SMTPUTF8", mail("<jürgen@bücher.example> SMTPUTF8".encode())),
    Case("MAIL in UTF-8 without SMTPUTF8", mail("<jürgen@bücher.example>".encode()), "an ugly sender still reports"),
    Case("MAIL in Latin-1", mail("<jürgen@example.net>".encode("latin-1")), "an ugly sender still reports a panic"),
    Case("MAIL, SIZE too large", mail(b"<bo@example.net> SIZE=999999999")),
    Case("MAIL, SIZE that is none", mail(b"<bo@example.net> SIZE=x")),
    Case("MAIL with RET", mail(b"<bo@example.net> RET=HDRS"), "DSN is not offered"),
    Case("MAIL with AUTH=", mail(b"<bo@example.net> AUTH=<>"), "AUTH is not offered"),
    Case("DATA without RCPT", said(HELLO, FROM, b"DATA")),
    Case("DATA, a mail", data(MAIL)),
    Case("DATA, a line of 2,000 octets", data(b"x" * 2000), "a panic is not refused for its lines"),
    Case("DATA, a bare CR", data(b"Subject: a\rX: b\r\n\r\nx"), "kept; readers see a blank in its place"),
    Case("DATA, a NUL", data(b"Subject: a\r\n\r\nx\0y"), "kept; readers see a blank in its place"),
    Case("DATA, LF . LF", (*data(b"a\n.\nMAIL FROM:<evil@example.net>\n"), b"NOOP"), "only CRLF . CRLF ends a mail"),
    Case("DATA, LF . CRLF", (*data(b"a\n.\r\nMAIL FROM:<evil@example.net>\r\n"), b"NOOP"), "only CRLF . CRLF ends it"),
    Case("a whole dialogue at once", said(b"\r\n".join([*MAIL_TO, b"DATA", MAIL + b".", b"NOOP"])),
         "PIPELINING is offered, and groups may end in DATA"),
    Case("a command that ends in LF alone", said(b"NOOP"), "a line to one server, none to the next", b"\n"),
    Case("an empty line", said(b"")),
    Case("a command of 100,000 octets", said(HELLO, b"NOOP " + b"x" * 100_000)),
    Case("HELO without a name", said(b"HELO")),
    Case("BDAT", said(*MAIL_TO, b"BDAT 0 LAST"), "CHUNKING is not offered: a second way to end a mail, for no need"),
    Case("STARTTLS without a certificate", said(HELLO, b"STARTTLS")),
    Case("VRFY", said(HELLO, b"VRFY panic@example.com"), "tells nobody who is here"),
    Case("EXPN", said(HELLO, b"EXPN panic"), "tells nobody who is here"),
    Case("AUTH", said(HELLO, b"AUTH PLAIN AGEAYgBj"), "nobody logs in to report a panic"),
    Case("ETRN", said(HELLO, b"ETRN example.com")),
    Case("TURN", said(HELLO, b"TURN")),
    Case("HELP", said(HELLO, b"HELP")),
    Case("RSET", said(HELLO, FROM, b"RSET")),
    Case("NOOP with a word", said(HELLO, b"NOOP x")),
    Case("QUIT", said(HELLO, b"QUIT")),
    Case("GET / HTTP/1.1", said(b"GET / HTTP/1.1")),
)  # fmt: skip


def answer(port: int, case: Case) -> str:
    """The code, and the enhanced one, of the reply to the last line; "closed" when there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client, client.makefile("rb") as replies:
        last = _reply(replies)
        for line in case.lines:
            with contextlib.suppress(ConnectionError):
                client.sendall(line + case.end)
            last = _reply(replies)
        client.settimeout(0.05)
        with contextlib.suppress(TimeoutError, ConnectionError):  # a dialogue at once has more than one answer
            while more := _reply(replies):
                last = more
        return _told(last)


def _reply(replies: BinaryIO) -> str:
    line = ""
    while True:
        try:
            line = replies.readline().decode("utf-8", "replace")
        except ConnectionError:
            return ""
        if line[3:4] != "-":
            return line


def _told(reply: str) -> str:
    found = re.match(r"(\d\d\d)[ -]?(\d\.\d+\.\d+)?", reply)
    return "closed" if found is None else " ".join(filter(None, found.groups()))


class Taking:
    """A handler that takes everything, as the one in aiosmtpd's documentation."""

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802
        return "250 Message accepted for delivery"


@contextlib.contextmanager
def stock() -> Iterator[int]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> asyncio.Server:
        def made() -> SMTP:
            return SMTP(Taking(), hostname="stock.example", loop=asyncio.get_running_loop())

        return await loop.create_server(made, "127.0.0.1", 0)

    async def end(server: asyncio.Server) -> None:
        server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.wait(others, timeout=5) if others else None

    try:
        server = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
        yield server.sockets[0].getsockname()[1]
        asyncio.run_coroutine_threadsafe(end(server), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def rows() -> dict[str, list[str]]:
    """The table as it stands: name -> the cells behind it."""
    lines = TABLE.read_text("utf-8").splitlines() if TABLE.exists() else []
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {name: rest for name, *rest in cells}


def written(ours: dict[str, str], theirs: dict[str, str], postfix: dict[str, str]) -> str:
    head = TABLE.read_text("utf-8").partition("\n| ")[0] if TABLE.exists() else "# How we answer\n"
    lines = ["| said | panicmail | aiosmtpd | Postfix | why so |", "|---|---|---|---|---|"]
    lines += [
        f"| {c.name} | {ours[c.name]} | {theirs[c.name]} | {postfix.get(c.name, '')} | {c.decided} |" for c in CASES
    ]
    return f"{head}\n" + "\n".join(lines) + "\n"


def test_the_table_says_how_we_answer_and_how_others_do() -> None:
    with serving() as served:
        ours = {case.name: answer(served.port, case) for case in CASES}
    with stock() as port:
        theirs = {case.name: answer(port, case) for case in CASES}
    before = rows()
    postfix = {name: cells[2] for name, cells in before.items() if name != "said"}
    if where := os.environ.get("PANICMAIL_TEST_POSTFIX"):
        postfix = {case.name: answer(int(where.rpartition(":")[2]), case) for case in CASES}
    now = written(ours, theirs, postfix)
    if os.environ.get("PANICMAIL_TEST_WRITE_TABLE"):
        TABLE.write_text(now, "utf-8")
    assert TABLE.read_text("utf-8") == now, "write it anew: PANICMAIL_TEST_WRITE_TABLE=1"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_has_a_column_of_postfix(case: Case) -> None:
    assert rows()[case.name][2]


def test_nothing_we_refuse_for_good_would_be_taken_on_the_next_try() -> None:
    """What is ours to mend is a 4xx; a 5xx of ours has an enhanced code that says 5 as well."""
    for name, cells in rows().items():
        if name != "said" and re.match(r"[45]\d\d", cells[0]):
            code, enhanced = cells[0].split(" ")
            assert code[0] == enhanced[0], name


def test_what_is_offered_is_what_is_decided() -> None:
    with serving() as served, served.smtp() as client:
        client.ehlo()
        offered = set(client.esmtp_features)
        assert offered == {"pipelining", "size", "8bitmime", "smtputf8", "enhancedstatuscodes"}
        assert "chunking" not in offered
