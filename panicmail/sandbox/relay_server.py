"""A mail relay on this machine that keeps what it gets, and misbehaves on order.

    with SandboxRelay() as relay:
        ...                                             # send mail to relay.url
        page = relay.wait(lambda mail: mail.to("ana@example.com"))
        relay.rule("ana@", "reject", code=451, times=2)
        relay.rule("max@", "bounce", via="127.0.0.1:2525", seconds=1)

It is strict where strictness finds faults of a sender (order of commands, syntax, a message over the announced size)
and it notes in `Received.faults` what a lenient relay lets pass and the next one does not. A message ends with
CRLF . CRLF and nothing else, so that no bare line feed smuggles a second one in (RFC 5321 4.1.1.4). With a `web_port`
the mails can be looked at in a browser, see `mailbox`.

Rules, first match first, on what `address_substring` is part of ("<>": on the null sender):

    stage   looked at                   usual for
    mail    the sender
    rcpt    that recipient              reject
    data    sender and recipients
    end     sender and recipients       all others

    action         what happens
    reject         the reply `code`; at `end` the message was sent in vain and is not kept
    hang           no reply for `seconds` (0: until `clear_rules`), then closed; at `end` the message is kept, so the
                   sender cannot know that it arrived
    drop           closed without a reply; the message is not kept
    bounce         taken and kept; `seconds` later a report of failed delivery (of delay, for a `code` of 4xx) goes to
                   the envelope sender, `via` the server given
    out of office  taken and kept; `seconds` later an automatic reply of the recipient goes to the Return-Path or the
                   Reply-To (`target`), `via` the server given, whatever the mail's headers ask for

The last two send nothing to the null sender and are the only mail that leaves here, from the null sender.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self

from panicmail.sandbox.mailbox import Mailbox, Postman
from panicmail.sandbox.quick_actions import Action, Received, Rule, Rules, Stage, Target
from panicmail.sandbox.returns import Return, returns
from panicmail.sandbox.smtp_session import Session
from panicmail.sandbox.tcp_listener import HOST, TcpListener

__all__ = ["Received", "SandboxRelay"]


class SandboxRelay:
    """An SMTP server, from `start` to `stop`; a context manager.

    Args:
        port: 0 takes a free one.
        tls: Offers STARTTLS with this context.
        web_port: Of a page to look at the mails; None for no page, 0 takes a free one.
    """

    def __init__(self, port: int = 0, *, tls: ssl.SSLContext | None = None, web_port: int | None = None) -> None:
        self.tls = tls
        self.rules = Rules()
        self._listener = TcpListener(port, lambda connection: Session(connection, self).run())
        self.port = self._listener.port
        self.url = f"smtp://{HOST}:{self.port}"
        self._came = threading.Condition()
        self._mails: list[Received] = []
        self._returned: list[Return] = []
        self._postman = Postman()
        self._mailbox = None if web_port is None else Mailbox(lambda: self.mails, web_port)
        #: Of the page; "" without one.
        self.web_url = "" if self._mailbox is None else self._mailbox.url

    def start(self) -> Self:
        self._listener.up()
        if self._mailbox is not None:
            self._mailbox.start()
        return self

    def stop(self) -> None:
        """Cut every connection and give the port back; what came stays readable."""
        self._listener.close()
        self._postman.stop()
        if self._mailbox is not None:
            self._mailbox.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def mails(self) -> list[Received]:
        """All messages so far, oldest first."""
        with self._came:
            return list(self._mails)

    def all(self, predicate: Callable[[Received], object]) -> list[Received]:
        """The messages so far that satisfy `predicate`, oldest first."""
        return [mail for mail in self.mails if predicate(mail)]

    def wait(self, predicate: Callable[[Received], object], timeout: float = 5.0, *, count: int = 1) -> Received:
        """The message that satisfies `predicate` as the `count`-th, whether it came already or comes yet.

        Raises:
            AssertionError: none came within `timeout` seconds; the text says which did.
        """
        ends_at = time.monotonic() + timeout
        while True:
            mails = self.mails
            found = [mail for mail in mails if predicate(mail)]
            if len(found) >= count:
                return found[count - 1]
            left = ends_at - time.monotonic()
            if left <= 0:
                came = [f"{', '.join(mail.recipients)}: {mail.subject}" for mail in mails]
                raise AssertionError(f"{len(found)} of {count} within {timeout} s; these came: {came}")
            self._wait_for_more_than(len(mails), left)

    def _wait_for_more_than(self, number: int, seconds: float) -> None:
        with self._came:
            self._came.wait_for(lambda: len(self._mails) > number, seconds)

    @property
    def returned(self) -> list[Return]:
        """What bounces and absences were posted so far, and taken."""
        with self._came:
            return list(self._returned)

    def rule(
        self,
        address_substring: str,
        action: Action,
        code: int = 550,
        *,
        stage: Stage | None = None,
        times: int | None = None,
        seconds: float = 0.0,
        via: str = "",
        target: Target = "Return-Path",
    ) -> None:
        """Misbehave towards some addresses, as the table at the top of this module says.

        Args:
            stage: None means the usual one of the action.
            times: None means until `clear_rules`.
            via: host:port, of a server that takes mail for the address answered to.
        """
        self.rules.add(
            address_substring,
            action,
            stage=stage,
            code=code,
            times=times,
            seconds=seconds,
            via=via,
            target=target,
        )

    def clear_rules(self) -> None:
        """Behave again, and let go of whoever hangs."""
        self.rules.clear()

    def down(self) -> None:
        """Cut everybody and refuse connections until `up`, which listens on the same port."""
        self._listener.down()

    def up(self) -> None:
        self._listener.up()

    # -- for the session -------------------------------------------------------------------------------------------

    def keep(self, mail: Received) -> None:
        with self._came:
            self._mails.append(mail)
            self._came.notify_all()

    def answer(self, mail: Received, rule: Rule) -> None:
        for letter in returns(mail, rule, datetime.now(UTC)):
            self._postman.post(letter, rule.via, rule.seconds, self._note_returned)

    def _note_returned(self, letter: Return) -> None:
        with self._came:
            self._returned.append(letter)
            self._came.notify_all()
