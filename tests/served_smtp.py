"""Our SMTP listener in this process, and a client that speaks to it line by line."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import smtplib
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from panicmail.intake.accept import ReceivedMail
from panicmail.server.smtp.inbound_storage import InboundStorage
from panicmail.server.smtp.listeners import SmtpListener
from tests.disks import Disk

T = TypeVar("T")


PANIC = "panic@example.com"


MAIL = b"Subject: help\r\n\r\nWe are on fire.\r\n"


class Store:
    """Takes mails as a test tells it: at once, failing the N-th, or only when released."""

    def __init__(self) -> None:
        self.mails: list[ReceivedMail] = []
        self.asked: list[str] = []
        self.failures: dict[int, BaseException] = {}  # by number of the mail, from 1
        self.waiting: list[concurrent.futures.Future[str]] | None = None  # a list: hold every mail until released
        self.came = threading.Condition()

    def accept(self, mail: ReceivedMail) -> concurrent.futures.Future[str]:
        future: concurrent.futures.Future[str] = concurrent.futures.Future()
        with self.came:
            self.mails.append(mail)
            error = self.failures.get(len(self.mails))
            if error is not None:
                future.set_exception(error)
            elif self.waiting is not None:
                self.waiting.append(future)
            else:
                future.set_result("KWMR")
            self.came.notify_all()
        return future

    def known(self, address: str) -> bool:
        self.asked.append(address)
        return address == PANIC or (address.startswith("panic+") and address.endswith("@example.com"))

    def wait_for(self, mails: int = 1) -> list[ReceivedMail]:
        with self.came:
            assert self.came.wait_for(lambda: len(self.mails) >= mails, timeout=30), "no mail was stored"
        return self.mails


class Served:
    """A listener running in an event loop of its own thread."""

    def __init__(self, store: Store, listener: SmtpListener, loop: asyncio.AbstractEventLoop) -> None:
        self.store, self.listener, self._loop = store, listener, loop
        self.port = listener.addresses[0][1]

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    def drain(self, within: float) -> concurrent.futures.Future[None]:
        return asyncio.run_coroutine_threadsafe(self.listener.drain(within), self._loop)

    def smtp(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, local_hostname="client.example", timeout=30)

    def wire(self) -> Wire:
        return Wire(self.port)


@contextlib.contextmanager
def serving(store: Store | None = None, disk: Disk | None = None, **options: Any) -> Iterator[Served]:
    store = store or Store()
    size, has_relays = options.get("max_message_size", 1 << 20), "is_trusted" in options
    given: dict[str, Any] = {
        "listen": [("127.0.0.1", 0)],
        "hostname": "panic.example.com",
        "known": store.known,
        "accept": store.accept,
        "max_message_size": 1 << 20,
        "tls": None,
        "storage": InboundStorage(disk or Disk(), size, has_relays=has_relays),
    }
    listener = SmtpListener(**(given | options))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(listener.start(), loop).result(timeout=30)
        yield Served(store, listener, loop)
    finally:
        asyncio.run_coroutine_threadsafe(listener.drain(0.2), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        loop.close()


class Wire:
    """A client that says exactly what it is told."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._replies = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._replies.close()
        self.socket.close()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def reply(self) -> str:
        """The next whole reply, its lines joined by newlines; "" when the server has closed."""
        lines = []
        while line := self._replies.readline():
            lines.append(line.decode("ascii").removesuffix("\r\n"))
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    def say(self, line: bytes) -> str:
        self.send(line + b"\r\n")
        return self.reply()

    def until_data(self) -> Wire:
        """Everything up to the 354."""
        self.reply()
        for line in (b"EHLO client.example", b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>"):
            assert self.say(line).startswith("250")
        assert self.say(b"DATA").startswith("354")
        return self


def _eventually(claim: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.01)
    return claim()
