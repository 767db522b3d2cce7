"""What we use of aiosmtpd beyond its documented interface, held against the stock class.

A new version that changes one of these is seen here, before a mail is lost to it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP

from panicmail.server.smtp import reply_table
from panicmail.server.smtp.connections import Connections
from panicmail.server.smtp.protocol import ClientProtocol, SmtpHandler
from panicmail.server.smtp.reply_table import Reply, SmtpLimits
from panicmail.server.smtp.session import SmtpSession
from tests.disks import storage
from tests.served_smtp import PANIC, Store

#: Name -> whether it is a method that `ClientProtocol` replaces; the others it reads or calls.
PRIVATE = {
    "_reset_timeout": True,
    "_handle_client": True,
    "_getaddr": True,
    "_create_envelope": False,
    "_handler_coroutine": False,
    "_original_transport": False,
    "_tls_protocol": False,
    "_smtp_methods": False,
    "_reader": False,
    "_writer": False,
}
#: Dialogues in which we say what the stock class says, in our words. No greeting, QUIT, VRFY, HELP, AUTH, DATA: ours.
SCRIPTS: dict[str, Sequence[str]] = {
    "order": [
        "MAIL FROM:<a@x.org>",
        "EHLO c",
        f"RCPT TO:<{PANIC}>",
        "MAIL FROM:<a@x.org>",
        "MAIL FROM:<b@x.org>",
    ],
    "recipients": ["EHLO c", "MAIL FROM:<a@x.org>", f"RCPT TO:<{PANIC}>", "RCPT TO:<nobody@example.com>", "RSET"],
    "paths": ["EHLO c", "MAIL FROM:<>", "RSET", "MAIL FROM:", "MAIL", "MAIL FROM:<a@x.org> X=1", "RCPT", "RCPT TO:<"],
    "parameters": [
        "EHLO c",
        "MAIL FROM:<a@x.org> BODY=8BITMIME SMTPUTF8 SIZE=10",
        "RSET",
        "MAIL FROM:<a@x.org> SIZE=99999999",
    ],
    "parameters after HELO": ["HELO c", "MAIL FROM:<a@x.org> SIZE=10", "MAIL FROM:<a@x.org> BODY=9BIT"],
    "nothing": ["NOOP", "NOOP x", "RSET x", "EHLO", "HELO", "STARTTLS x", "STARTTLS"],
}


def limits() -> SmtpLimits:
    store = Store()
    return SmtpLimits(
        hostname="panic.example.com",
        known=store.known,
        accept=store.accept,
        max_message_size=1 << 20,
        storage=storage(),
        tls=None,
        idle_timeout=30.0,
        accept_timeout=30.0,
        max_recipients=100,
        max_hops=100,
    )


class Stock(SMTP):
    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        return reply_table.split_path(arg) or (None, None)


def stock() -> SMTP:
    """aiosmtpd as it comes, with our handler and our parser of paths: that one is replaced on purpose."""
    terms = limits()
    return Stock(
        SmtpHandler(terms),
        data_size_limit=terms.max_message_size,
        enable_SMTPUTF8=True,
        hostname=terms.hostname,
        loop=asyncio.get_running_loop(),
    )


def ours() -> SMTP:
    return SmtpSession(limits(), register=Connections(10, 10), loop=asyncio.get_running_loop())


async def replies(make: Callable[[], SMTP], script: Sequence[str]) -> list[str]:
    """What is said to each command of a script, line by line."""
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    said: list[str] = []
    async with asyncio.timeout(30):
        await reader.readline()
        for command in script:
            writer.write(command.encode() + b"\r\n")
            said.append((await reader.readline()).decode())
            while said[-1][3:4] == "-":
                said.append((await reader.readline()).decode())
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return said


OUR_OWN = {str(each) for each in vars(reply_table).values() if isinstance(each, Reply)}


def in_our_words(line: str) -> str:
    """A reply of the stock class as we say it: what our handler said stays, what aiosmtpd said is one of ours."""
    said = line.removesuffix("\r\n")
    is_ours = said in OUR_OWN or said.startswith("250-") or said in {"250 panic.example.com", "250 ENHANCEDSTATUSCODES"}
    return f"{said if is_ours else reply_table.instead_of(said)}\r\n"


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_we_answer_what_the_stock_class_answers_in_our_words_octet_by_octet(script: Sequence[str]) -> None:
    async def both() -> tuple[list[str], list[str]]:
        return await replies(stock, script), await replies(ours, script)

    theirs, said = asyncio.run(both())
    assert said == [in_our_words(line) for line in theirs]


@pytest.mark.parametrize("name", PRIVATE)
def test_the_stock_class_has_what_we_use_of_it(name: str) -> None:
    async def made() -> SMTP:
        server = await asyncio.get_running_loop().create_server(stock_kept, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        await reader.readline()
        writer.close()
        await writer.wait_closed()
        server.close()
        return kept[0]

    kept: list[SMTP] = []

    def stock_kept() -> SMTP:
        kept.append(stock())
        return kept[-1]

    assert hasattr(asyncio.run(made()), name)
    if PRIVATE[name]:
        theirs, replaced = getattr(SMTP, name), getattr(ClientProtocol, name)
        assert list(inspect.signature(replaced).parameters) == list(inspect.signature(theirs).parameters)


def test_one_module_alone_extends_the_stock_class() -> None:
    root = Path(__file__).parents[2] / "panicmail"
    extends = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if any(base in path.read_text("utf-8") for base in ("(SMTP):", "(SMTP,", " SMTP):"))
    }
    assert extends == {"server/smtp/protocol.py"}


def test_a_connection_finds_the_hooks_that_the_stock_class_finds_and_looks_at_nothing_else() -> None:
    async def both() -> tuple[SMTP, SMTP]:
        return ours(), stock()

    session, plain = asyncio.run(both())
    for found in ("_smtp_methods", "_auth_methods", "_handle_hooks"):
        assert set(getattr(session, found)) == set(getattr(plain, found)) != set()
    for each in (session, session.event_handler):
        assert [name for name in dir(each) if not name.startswith(("smtp_", "auth_", "handle_"))] == []
