"""A mail relay on this machine that keeps what it gets, and misbehaves on order.

    with SandboxRelay() as relay:
        ...                                             # send mail to relay.url
        page = relay.wait(lambda mail: mail.to("ana@example.com"))
        relay.rule("ana@", "reject", code=451, times=2)

Nothing leaves it. It is strict where strictness finds faults of a sender (order of commands, syntax, a message over
the announced size) and it notes in `Received.faults` what a lenient relay lets pass and the next one does not. A
message ends with CRLF . CRLF and nothing else, so that no bare line feed smuggles a second one in (RFC 5321 4.1.1.4).

Rules, first match first, on what `address_substring` is part of:

    stage   looked at                   usual for
    mail    the sender
    rcpt    that recipient              reject
    data    sender and recipients
    end     sender and recipients       hang, drop

    action  what happens
    reject  the reply `code`; at `end` the message was sent in vain and is not kept
    hang    no reply for `seconds` (0: until `clear_rules`), then closed; at `end` the message is kept, so the sender
            cannot know that it arrived
    drop    closed without a reply; the message is not kept
"""

from __future__ import annotations

import base64
import contextlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from typing import Literal, Self, get_args

from panicmail.sandbox.listener import HOST, Connection, Listener

Action = Literal["reject", "hang", "drop"]
Stage = Literal["mail", "rcpt", "data", "end"]

MAX_SIZE = 64 * 1024 * 1024
_MAX_COMMAND = 4096
_MAX_LINE = 998  # RFC 5321 4.5.3.1.6, without CRLF


@dataclass(frozen=True, kw_only=True)
class Received:
    """One message as it came."""

    received_at: float  #: by time.monotonic(), at the final dot
    mail_from: str  #: "" for the null sender
    recipients: tuple[str, ...]
    raw: bytes  #: after dot-unstuffing
    options: tuple[str, ...] = ()  #: parameters of MAIL, upper case, such as "SIZE=1234"
    login: str = ""  #: who authenticated, "" for nobody
    is_tls: bool = False
    faults: tuple[str, ...] = ()  #: what a stricter relay would have refused

    @cached_property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=policy.default)

    @property
    def subject(self) -> str:
        return self.header("Subject")

    @property
    def text(self) -> str:
        """The plain text, with "\\n" for line ends; "" without one."""
        return self._body("plain")

    @property
    def html(self) -> str:
        return self._body("html")

    def header(self, name: str) -> str:
        """The first field of that name, decoded and unfolded; "" without one."""
        return str(self.message.get(name, ""))

    def to(self, address: str) -> bool:
        """Whether it was sent to this address, whatever its headers say."""
        return address.lower() in (recipient.lower() for recipient in self.recipients)

    def _body(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        if part is None:
            return ""
        try:
            text = str(part.get_content())
        except LookupError:  # a charset nobody knows
            text = bytes(part.get_payload(decode=True)).decode("utf-8", "replace")
        return text.replace("\r\n", "\n")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One misbehaviour, as ordered."""

    address: str  #: lower case; "" is part of every address
    action: Action
    stage: Stage
    code: int
    times: int | None  #: how often it still acts; None means until cleared
    seconds: float
    cleared: threading.Event = field(default_factory=threading.Event)


class SandboxRelay:
    """An SMTP server, from `start` to `stop`; a context manager.

    Args:
        port: 0 takes a free one.
        tls: Offers STARTTLS with this context.
    """

    def __init__(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self._listener = Listener(port, lambda connection: _Session(connection, self).run())
        self.port = self._listener.port
        self.url = f"smtp://{HOST}:{self.port}"
        self._came = threading.Condition()
        self._mails: list[Received] = []
        self._rules: list[Rule] = []
        self._cleared = threading.Event()

    def start(self) -> Self:
        self._listener.up()
        return self

    def stop(self) -> None:
        """Cut every connection and give the port back; what came stays readable."""
        self._listener.close()

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

    def rule(
        self,
        address_substring: str,
        action: Action,
        code: int = 550,
        *,
        stage: Stage | None = None,
        times: int | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Misbehave towards some addresses, as the table at the top of this module says.

        Args:
            stage: None means the usual one of the action.
            times: None means until `clear_rules`.
        """
        stage = stage or ("rcpt" if action == "reject" else "end")
        if action not in get_args(Action) or stage not in get_args(Stage):
            raise ValueError(f"no {action!r} at {stage!r}; there are {get_args(Action)} at {get_args(Stage)}")
        with self._came:
            self._rules.append(
                Rule(
                    address=address_substring.lower(),
                    action=action,
                    stage=stage,
                    code=code,
                    times=times,
                    seconds=seconds,
                    cleared=self._cleared,
                )
            )

    def clear_rules(self) -> None:
        """Behave again, and let go of whoever hangs."""
        with self._came:
            self._rules.clear()
            self._cleared.set()
            self._cleared = threading.Event()

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

    def take_rule(self, stage: Stage, addresses: Sequence[str]) -> Rule | None:
        """The rule that acts on these addresses at this stage, counted."""
        with self._came:
            for place, rule in enumerate(self._rules):
                if rule.stage == stage and any(rule.address in address.lower() for address in addresses):
                    if rule.times is not None:
                        self._rules[place : place + 1] = [replace(rule, times=rule.times - 1)] * (rule.times > 1)
                    return rule
        return None


class _Closed(Exception):  # noqa: N818 - the session is closed
    """The session ends here: the client left, said QUIT, or a rule drops it."""


class _Reply(Exception):  # noqa: N818
    """A command ends with this reply."""


class _Wire:
    """Reads lines from a connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.unread = b""

    def line(self, limit: int) -> bytes:
        """The next line with its line feed; without one when longer than `limit`."""
        while b"\n" not in self.unread and len(self.unread) <= limit:
            self._fill()
        end = self.unread.find(b"\n") + 1 or limit
        line, self.unread = self.unread[:end], self.unread[end:]
        return line

    def until_dot(self) -> bytes:
        """Everything up to the final dot, which is taken but not returned; the dots still doubled."""
        data = bytearray(b"\r\n")
        searched = 0
        while (end := data.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(0, len(data) - 4)
            if not self.unread:
                self._fill()
            data += self.unread
            self.unread = b""
        self.unread = bytes(data[end + 5 :])
        return bytes(data[2 : end + 2])

    def send(self, text: str) -> None:
        self.connection.sock.sendall(text.encode() + b"\r\n")

    def _fill(self) -> None:
        more = self.connection.sock.recv(65536)
        if not more:
            raise _Closed
        self.unread += more


class _Session:
    """One client, command by command."""

    def __init__(self, connection: Connection, relay: SandboxRelay) -> None:
        self._connection = connection
        self._relay = relay
        self._wire = _Wire(connection)
        self._is_tls = False
        self._greeted = False
        self._login = ""
        self._forget()

    def run(self) -> None:
        self._wire.send("220 sandbox.invalid ESMTP panicmail sandbox")
        with contextlib.suppress(_Closed):
            while True:
                self._one_command(self._wire.line(_MAX_COMMAND))

    def _one_command(self, line: bytes) -> None:
        try:
            if not line.endswith(b"\r\n"):
                raise _Reply("500 5.5.2 line too long, or not ended by CRLF")
            verb, _, argument = line[:-2].decode("utf-8", "replace").partition(" ")
            command = _COMMANDS.get(verb.upper())
            if command is None:
                raise _Reply("500 5.5.1 command not known")
            command(self, argument)
        except _Reply as reply:
            self._wire.send(str(reply))

    def _forget(self) -> None:
        self._mail_from: str | None = None
        self._options: tuple[str, ...] = ()
        self._recipients: list[str] = []

    def _helo(self, argument: str) -> None:
        self._greet(argument)
        raise _Reply("250 sandbox.invalid")

    def _ehlo(self, argument: str) -> None:
        self._greet(argument)
        offered = [f"SIZE {MAX_SIZE}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "PIPELINING", "AUTH PLAIN LOGIN"]
        if self._relay.tls and not self._is_tls:
            offered.append("STARTTLS")
        *others, last = ["sandbox.invalid", *offered]
        raise _Reply("\r\n".join([*(f"250-{line}" for line in others), f"250 {last}"]))

    def _greet(self, name: str) -> None:
        if not name.strip():
            raise _Reply("501 5.5.4 who are you?")
        self._greeted = True
        self._forget()

    def _mail(self, argument: str) -> None:
        if not self._greeted:
            raise _Reply("503 5.5.1 EHLO first")
        if self._mail_from is not None:
            raise _Reply("503 5.5.1 one MAIL at a time")
        address, options = _read_path(argument, "FROM:")
        _check_options(address, options)
        self._obey("mail", [address])
        self._mail_from, self._options = address, options
        raise _Reply("250 2.1.0 ok")

    def _rcpt(self, argument: str) -> None:
        if self._mail_from is None:
            raise _Reply("503 5.5.1 MAIL first")
        address, options = _read_path(argument, "TO:")
        if "@" not in address:
            raise _Reply("553 5.1.3 a recipient has a domain")
        if options:
            raise _Reply("555 5.5.4 no such parameter here")
        if not address.isascii() and "SMTPUTF8" not in self._options:
            raise _Reply("553 5.6.7 SMTPUTF8 was not asked for")
        self._obey("rcpt", [address])
        self._recipients.append(address)
        raise _Reply("250 2.1.5 ok")

    def _data(self, argument: str) -> None:
        if argument:
            raise _Reply("501 5.5.4 DATA stands alone")
        if self._mail_from is None or not self._recipients:
            raise _Reply("503 5.5.1 MAIL and RCPT first")
        addresses = [self._mail_from, *self._recipients]
        self._obey("data", addresses)
        self._wire.send("354 go on, end with a dot")
        mail = self._receive(self._mail_from)
        self._forget()
        if len(mail.raw) > MAX_SIZE:
            raise _Reply("552 5.3.4 too big")
        self._obey("end", addresses, mail)
        self._relay.keep(mail)
        raise _Reply("250 2.0.0 kept")

    def _receive(self, mail_from: str) -> Received:
        stuffed = self._wire.until_dot()
        raw = re.sub(rb"(\A|\r\n)\.", rb"\1", stuffed)
        return Received(
            received_at=time.monotonic(),
            mail_from=mail_from,
            recipients=tuple(self._recipients),
            raw=raw,
            options=self._options,
            login=self._login,
            is_tls=self._is_tls,
            faults=_faults_of(raw),
        )

    def _obey(self, stage: Stage, addresses: Sequence[str], mail: Received | None = None) -> None:
        """Do what a rule says of these addresses, which ends the command or the session; else return."""
        rule = self._relay.take_rule(stage, addresses)
        if rule is None:
            return
        if rule.action == "reject":
            raise _Reply(f"{rule.code} {rule.code // 100}.7.1 the sandbox was told to say no")
        if rule.action == "hang":
            if mail is not None:
                self._relay.keep(mail)
            self._connection.pause(rule.seconds, rule.cleared)
        raise _Closed

    def _rset(self, argument: str) -> None:
        self._forget()
        raise _Reply("250 2.0.0 forgotten")

    def _noop(self, argument: str) -> None:
        raise _Reply("250 2.0.0 still here")

    def _vrfy(self, argument: str) -> None:
        raise _Reply("252 2.5.2 send and see")

    def _quit(self, argument: str) -> None:
        self._wire.send("221 2.0.0 bye")
        raise _Closed

    def _auth(self, argument: str) -> None:
        """Whoever says who they are is believed."""
        method, _, initial = argument.partition(" ")
        if not self._greeted or self._login or self._mail_from is not None:
            raise _Reply("503 5.5.1 not now")
        if method.upper() == "PLAIN":
            _, _, credentials = _decode(initial or self._ask("")).partition("\0")
            self._login = credentials.partition("\0")[0]
        elif method.upper() == "LOGIN":
            username = _decode(initial or self._ask("Username:"))
            _decode(self._ask("Password:"))
            self._login = username
        else:
            raise _Reply("504 5.5.4 PLAIN or LOGIN")
        raise _Reply("235 2.7.0 welcome")

    def _ask(self, prompt: str) -> str:
        self._wire.send(f"334 {base64.b64encode(prompt.encode()).decode()}")
        answer = self._wire.line(_MAX_COMMAND).decode("ascii", "replace").strip()
        if answer == "*":
            raise _Reply("501 5.7.0 as you like")
        return answer

    def _starttls(self, argument: str) -> None:
        if self._relay.tls is None or self._is_tls:
            raise _Reply("503 5.5.1 not offered")
        if self._wire.unread:
            # RFC 3207 6: what was sent in the clear must not count as sent under TLS.
            raise _Reply("503 5.5.1 nothing may follow STARTTLS before the handshake")
        self._wire.send("220 2.0.0 go ahead")
        self._connection.sock = self._relay.tls.wrap_socket(self._connection.sock, server_side=True)
        self._is_tls, self._greeted, self._login = True, False, ""
        self._forget()


_COMMANDS: dict[str, Callable[[_Session, str], None]] = {
    "HELO": _Session._helo,
    "EHLO": _Session._ehlo,
    "MAIL": _Session._mail,
    "RCPT": _Session._rcpt,
    "DATA": _Session._data,
    "RSET": _Session._rset,
    "NOOP": _Session._noop,
    "VRFY": _Session._vrfy,
    "QUIT": _Session._quit,
    "AUTH": _Session._auth,
    "STARTTLS": _Session._starttls,
}


def _read_path(argument: str, keyword: str) -> tuple[str, tuple[str, ...]]:
    """The address between the angle brackets, and the parameters after it in upper case."""
    read = re.fullmatch(r"<([^<>\s]*)>((?: [^ ]+)*)", argument[len(keyword) :])
    if argument[: len(keyword)].upper() != keyword or read is None:
        raise _Reply(f"501 5.5.4 expected {keyword}<address>")
    return read[1], tuple(read[2].upper().split())


def _check_options(address: str, options: Sequence[str]) -> None:
    for option in options:
        if not re.fullmatch(r"SIZE=\d{1,20}|BODY=(7BIT|8BITMIME)|SMTPUTF8|AUTH=\S+", option):
            raise _Reply("555 5.5.4 no such parameter here")
        if option.startswith("SIZE=") and int(option[5:]) > MAX_SIZE:
            raise _Reply("552 5.3.4 too big")
    if not address.isascii() and "SMTPUTF8" not in options:
        raise _Reply("553 5.6.7 SMTPUTF8 was not asked for")


def _faults_of(raw: bytes) -> tuple[str, ...]:
    found = {
        "bare LF": re.search(rb"(?<!\r)\n", raw),
        "bare CR": re.search(rb"\r(?!\n)", raw),
        "NUL": b"\0" in raw,
        f"line over {_MAX_LINE} octets": any(len(line) > _MAX_LINE for line in raw.split(b"\r\n")),
    }
    return tuple(name for name, is_so in found.items() if is_so)


def _decode(answer: str) -> str:
    try:
        return base64.b64decode(answer, validate=True).decode()
    except ValueError:
        raise _Reply("501 5.5.2 not base64") from None
