"""One SMTP client of the sandbox's relay, command by command (RFC 5321), strict where that finds faults of a sender."""

from __future__ import annotations

import base64
import contextlib
import re
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from panicmail.sandbox.quick_actions import ANSWERING, Received, Rule, Rules, Stage, faults_of
from panicmail.sandbox.tcp_listener import Connection

MAX_SIZE = 64 * 1024 * 1024
_MAX_COMMAND = 4096


class RelayBehaviour(Protocol):
    """What a session asks of its relay."""

    @property
    def tls(self) -> ssl.SSLContext | None: ...
    @property
    def rules(self) -> Rules: ...
    def keep(self, mail: Received) -> None: ...
    def answer(self, mail: Received, rule: Rule) -> None:
        """A rule wants a mail sent back, later."""


class _Closed(Exception):  # noqa: N818 - the session is closed
    """The session ends here: the client left, said QUIT, or a rule drops it."""


class _Reply(Exception):  # noqa: N818
    """A command ends with this reply."""


class _ClientConnection:
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


class Session:
    """One client, command by command."""

    def __init__(self, connection: Connection, relay: RelayBehaviour) -> None:
        self._connection = connection
        self._relay = relay
        self._wire = _ClientConnection(connection)
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
        answering = self._obey("end", addresses, mail)
        self._relay.keep(mail)
        self._wire.send("250 2.0.0 kept")
        if answering is not None:
            self._relay.answer(mail, answering)

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
            faults=faults_of(raw),
        )

    def _obey(self, stage: Stage, addresses: Sequence[str], mail: Received | None = None) -> Rule | None:
        """Do what a rule says of these addresses, which ends the command or the session; else return.

        Args:
            mail: There at the end only.

        Returns:
            The rule, when it is one to be answered by mail after the mail was taken.
        """
        rule = self._relay.rules.take(stage, addresses)
        if rule is None or rule.action in ANSWERING:
            return rule
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


_COMMANDS: dict[str, Callable[[Session, str], None]] = {
    "HELO": Session._helo,
    "EHLO": Session._ehlo,
    "MAIL": Session._mail,
    "RCPT": Session._rcpt,
    "DATA": Session._data,
    "RSET": Session._rset,
    "NOOP": Session._noop,
    "VRFY": Session._vrfy,
    "QUIT": Session._quit,
    "AUTH": Session._auth,
    "STARTTLS": Session._starttls,
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


def _decode(answer: str) -> str:
    try:
        return base64.b64decode(answer, validate=True).decode()
    except ValueError:
        raise _Reply("501 5.5.2 not base64") from None
