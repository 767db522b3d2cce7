"""Mail out: one message to one person through the relay, with its answer.

Promises: when `send` returns, the relay has taken the message on. When it raises, the exception says what is known:

    Temporary   it surely was not taken: no connection, a 4xx, anything wrong between the relay and us
    Unknown     it may have been: the connection went after the final dot, before the answer
    Permanent   the relay refused this message or this address for good (5xx at MAIL, RCPT, DATA or after the dot)

A relay that refuses *us* (greeting, EHLO, STARTTLS, the password, 530 "log in first") is Temporary whatever its code
says: mail that waits must not be given up because of a wrong password. It is `LockedOut` when its code is a 5xx or TLS
with it does not fit, so that only a mend helps; after MAIL "log in first" may be about one address, and is not.
Without STARTTLS, where it is asked for, nothing is said in the clear.

How: smtplib in the calling thread, one instance per thread, one connection kept for the next message if that comes
within 30 s. A kept connection that turns out to be dead before the final dot is replaced once, at once.

Every wait has an end: `timeout` for each, three times that for one `send` altogether, reconnecting included. Looking
up the relay's name is the system's business and not counted; its addresses share one `timeout`, so that a dead one
leaves time for the others.
Neither bodies nor credentials are logged or quoted.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from panicmail import certificates
from panicmail.config.schema import RelaySettings
from panicmail.config.values import RelayUrl
from panicmail.errors import LockedOut, PanicmailError, Permanent, Temporary, Unknown
from panicmail.mail import dkim_signing
from panicmail.mail.compose.shortened import shortened

_log = structlog.get_logger()

#: A connection unused for longer is not tried again: relays hang up after a while, and middleboxes forget.
KEPT_SECONDS = 30.0
#: One `send` takes at most this many timeouts.
_TIMEOUTS = 3
_ANSWER_LIMIT = 200
#: Of one reply, continuation lines included. RFC 5321 4.5.3.1.5 knows 512 octets for a line.
_REPLY_LIMIT = 64 * 1024
_PIECE = 64 * 1024
#: A signature with its field names, at its longest.
_SIGNATURE = 1500
#: RFC 4954 6: log in, in another way or under TLS. That is about us, not about the message.
_LOG_IN = frozenset({530, 534, 535, 538})


def relay_client(
    relay: RelaySettings,
    hostname: str,
    timeout: float = 10,
    *,
    url: RelayUrl | None = None,
    sign: Callable[[bytes], bytes] | None = None,
) -> RelayClient:
    """A client of a relay of a configuration; the rest as for `RelayClient`.

    Args:
        url: Of one of those that stand in; None: of the first.
    """
    url, trusted = url or relay.url, None
    password = url.password.get_secret_value() if url.password else None
    if relay.ca_file is not None and url.tls != "none":
        trusted = ssl.create_default_context()
        trusted.load_verify_locations(relay.ca_file)
    about: dict[str, Any] = {"hostname": hostname, "timeout": timeout, "sign": sign, "ssl_context": trusted}
    return RelayClient(url.host, url.port, url.tls, url.username, password, **about)


def signing(relay: RelaySettings) -> Callable[[bytes], bytes] | None:
    """What signs the mails of a configuration; None: nothing does."""
    if relay.dkim is None:
        return None
    found = dkim_signing.signer(relay.dkim.selector, relay.dkim_domain, relay.dkim.key_file)
    return found.sign if found else None


class RelayClient:
    """A mail relay and the connection to it.

    Args:
        hostname: What we call ourselves.
        timeout: Seconds for one step.
        ssl_context: Whom to trust; None: the system's certificates, and the name must fit.
        monotonic: Tells how long the connection was idle and how much time is left.
        sign: Puts a signature on a message; None: it goes as it is.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: Literal["none", "starttls", "implicit"] = "none",
        username: str | None = None,
        password: str | None = None,
        *,
        hostname: str,
        timeout: float = 10,
        ssl_context: ssl.SSLContext | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._sign = sign
        self._host, self._port, self._tls = host, port, tls
        self._username, self._password = username, password
        self._hostname = hostname
        self._timeout = timeout
        self._ssl_context = ssl_context or (ssl.create_default_context() if tls != "none" else None)
        self._monotonic = monotonic
        self._dialogue: _Dialogue | None = None
        self._idle_since = 0.0

    def send(self, message: bytes, mail_from: str, recipient: str) -> str:
        """Hand over `message`; answers the relay's reply to it, on one line.

        Args:
            message: Header and body; line ends of any kind.
            mail_from: "" is the null sender.
        """
        _check_address(mail_from, may_be_empty=True)
        _check_address(recipient, may_be_empty=False)
        letter = _Letter(message, mail_from, recipient)
        ends_at = self._monotonic() + _TIMEOUTS * self._timeout
        if self._has_usable_connection():
            with contextlib.suppress(_Dead):
                return self._send(letter, ends_at)
        try:
            self._connect(ends_at)
            return self._send(letter, ends_at)
        except _Dead as dead:
            raise Temporary(f"the relay hung up: {dead}") from dead

    def rehearse(self, mail_from: str, recipient: str = "") -> Rehearsal:
        """As `send`, up to where a message would follow: over a connection of its own, and nothing is sent.

        Args:
            recipient: "" asks about the sender alone.
        """
        self._connect(self._monotonic() + _TIMEOUTS * self._timeout)
        dialogue = self._dialogue
        try:
            if dialogue is None:
                raise _Dead("not connected")
            answer = dialogue.rehearse(mail_from, recipient)
            return Rehearsal(answer=answer, tls=dialogue.tls_version(), certificate_ends_at=dialogue.certificate_ends())
        except _Dead as dead:
            raise Temporary(f"the relay hung up: {dead}") from dead
        finally:
            self.close()

    def close(self) -> None:
        """Hang up, politely but without waiting. The next `send` connects again."""
        dialogue, self._dialogue = self._dialogue, None
        if dialogue is not None:
            dialogue.leave()

    def _has_usable_connection(self) -> bool:
        """Whether there is a connection worth trying; one that was idle too long is closed."""
        if self._dialogue is not None and self._monotonic() - self._idle_since >= KEPT_SECONDS:
            self.close()
        return self._dialogue is not None

    def _send(self, letter: _Letter, ends_at: float) -> str:
        dialogue = self._dialogue
        if dialogue is None:
            raise _Dead("not connected")
        dialogue.ends_at = ends_at
        try:
            answer = dialogue.deliver(letter.within(dialogue.size_limit(), self._sign))
        except (Temporary, _Dead):
            self.close()  # what the relay still has to say would be taken for the next answer
            raise
        except Permanent:
            if not dialogue.forget():
                self.close()
            raise
        finally:
            self._idle_since = self._monotonic()
        return answer

    def _connect(self, ends_at: float) -> None:
        self.close()
        with self._introduction():
            dialogue = self._reach(ends_at)
        try:
            with self._introduction():
                self._introduce(dialogue)
        except PanicmailError:
            dialogue.leave()
            raise
        self._dialogue = dialogue

    def _reach(self, ends_at: float) -> _Dialogue:
        about: dict[str, Any] = {"local_hostname": self._hostname, "timeout": self._timeout}
        if self._tls == "implicit":
            return _TlsDialogue(ends_at, self._monotonic, self._host, self._port, context=self._ssl_context, **about)
        return _Dialogue(ends_at, self._monotonic, self._host, self._port, **about)

    def _introduce(self, dialogue: _Dialogue) -> None:
        dialogue.ehlo_or_helo_if_needed()
        if self._tls == "starttls":
            dialogue.starttls(context=self._ssl_context)
            dialogue.ehlo_or_helo_if_needed()
        if self._username is not None:
            dialogue.login(self._username, self._password or "")

    @contextmanager
    def _introduction(self) -> Iterator[None]:
        """Until the first MAIL nothing is about a message, so nothing here is for good."""
        try:
            yield
        except smtplib.SMTPAuthenticationError as exc:
            raise _of_us(exc.smtp_code)(f"the relay refuses our login: {self._quote_reply(exc)}") from exc
        except smtplib.SMTPResponseException as exc:
            raise _of_us(exc.smtp_code)(f"the relay refuses us: {self._quote_reply(exc)}") from exc
        except smtplib.SMTPServerDisconnected as exc:
            raise Temporary(f"the relay hung up: {_clean(str(exc))}") from exc
        except smtplib.SMTPException as exc:
            raise LockedOut(f"the relay does not offer what we need: {_clean(str(exc))}") from exc
        except ssl.SSLError as exc:
            kind = LockedOut if certificates.is_refusal(exc) else Temporary
            raise kind(f"no TLS with the relay: {_clean(str(exc))}") from exc
        except OSError as exc:
            raise Temporary(f"the relay cannot be reached: {_clean(str(exc))}") from exc
        except UnicodeEncodeError:
            raise LockedOut("the relay's user name and password must be ASCII") from None  # the cause quotes them

    def _quote_reply(self, exc: smtplib.SMTPResponseException) -> str:
        said = _reply(exc.smtp_code, exc.smtp_error)
        return said.replace(self._password, "(password)") if self._password else said


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What the relay says to a mail it is not sent."""

    answer: str  #: to the recipient, or to the sender
    tls: str  #: such as "TLSv1.3"; "" without
    certificate_ends_at: datetime | None  #: of the relay's own; None: without TLS, or not told


class _Dead(Exception):  # noqa: N818 - the connection is
    """The connection ended before the final dot: the message was not taken."""


class _Letter:
    """A message as it goes over the wire."""

    def __init__(self, message: bytes, mail_from: str, recipient: str) -> None:
        # One kind of line end: a bare one means different things to different relays, up to a second message
        # smuggled in.
        octets = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
        octets = octets if octets.endswith(b"\r\n") else octets + b"\r\n"
        self._octets = octets
        self.size = len(octets)
        self.stuffed = re.sub(rb"(?m)^\.", b"..", octets)
        self.mail_from, self.recipient = mail_from, recipient
        self.is_ascii = octets.isascii()
        self.has_ascii_addresses = mail_from.isascii() and recipient.isascii()

    def within(self, most: int | None, sign: Callable[[bytes], bytes] | None) -> _Letter:
        """As the relay takes it: cut to so many octets if it is larger, and signed."""
        octets = self._octets
        if most is not None and self.size + (_SIGNATURE if sign else 0) > most:
            octets = shortened(octets, max(0, most - (_SIGNATURE if sign else 0)))
            _log.warning("mail.cut", octets=self.size, limit=most)
        if sign is None and octets is self._octets:
            return self
        return _Letter(sign(octets) if sign else octets, self.mail_from, self.recipient)


class _Dialogue(smtplib.SMTP):
    """A connection to the relay. Everything said on it ends by `ends_at`."""

    def __init__(self, ends_at: float, monotonic: Callable[[], float], *args: Any, **kwargs: Any) -> None:
        self.ends_at = ends_at
        self._monotonic = monotonic
        self._replies: _Replies | None = None
        self._within: float = kwargs["timeout"]  #: smtplib's own is the share of one address while we connect
        super().__init__(*args, **kwargs)
        # The final dot goes alone, so that a failure before it is surely one before it; it must not wait for an ack.
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def deliver(self, letter: _Letter) -> str:
        """One transaction; answers the reply to the message."""
        options = "".join(f" {option}" for option in self._options(letter))
        try:
            _expect(self.docmd("MAIL", f"FROM:<{letter.mail_from}>{options}"), range(200, 300), LockedOut)
            _expect(self.docmd("RCPT", f"TO:<{letter.recipient}>"), range(200, 300))
            _expect(self.docmd("DATA"), range(354, 355))
            for start in range(0, len(letter.stuffed), _PIECE):
                self.send(letter.stuffed[start : start + _PIECE])
        except (smtplib.SMTPServerDisconnected, smtplib.SMTPResponseException) as exc:
            raise _Dead(_clean(str(exc))) from exc
        try:
            self.send(b".\r\n")
            code, said = self.getreply()
        except (smtplib.SMTPServerDisconnected, smtplib.SMTPResponseException) as exc:
            raise Unknown("the relay had the whole message and did not answer") from exc
        if code < 200:
            raise Unknown(f"the relay had the whole message and answered {_reply(code, said)}")
        return _check_reply(code, said, range(200, 300))

    def size_limit(self) -> int | None:
        """How many octets a message may have (RFC 1870); None: the relay does not say, or sets no limit."""
        said = str(self.esmtp_features.get("size", ""))
        return int(said) or None if said.isascii() and said.isdecimal() else None

    def rehearse(self, mail_from: str, recipient: str) -> str:
        """A transaction that ends before its message; answers the last reply."""
        try:
            said = _expect(self.docmd("MAIL", f"FROM:<{mail_from}>"), range(200, 300), LockedOut)
            if recipient:
                said = _expect(self.docmd("RCPT", f"TO:<{recipient}>"), range(200, 300))
        except (smtplib.SMTPServerDisconnected, smtplib.SMTPResponseException) as exc:
            raise _Dead(_clean(str(exc))) from exc
        self.forget()
        return said

    def tls_version(self) -> str:
        return self.sock.version() or "" if isinstance(self.sock, ssl.SSLSocket) else ""

    def certificate_ends(self) -> datetime | None:
        told = self.sock.getpeercert() if isinstance(self.sock, ssl.SSLSocket) else None
        ends = (told or {}).get("notAfter")
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC) if isinstance(ends, str) else None

    def forget(self) -> bool:
        """Begin anew on this connection; False when that cannot be."""
        with contextlib.suppress(smtplib.SMTPException):
            return self.rset()[0] == 250
        return False

    def leave(self) -> None:
        self.ends_at = self._monotonic() + 1
        with contextlib.suppress(OSError):  # smtplib's errors are of this kind too
            self.send("QUIT\r\n")
        self.close()

    def _options(self, letter: _Letter) -> Iterator[str]:
        if not letter.has_ascii_addresses:
            if not self.has_extn("smtputf8"):
                raise Permanent("the relay takes no address outside ASCII (it offers no SMTPUTF8)")
            self.command_encoding = "utf-8"
            yield "SMTPUTF8"
        if self.has_extn("size"):
            yield f"SIZE={letter.size}"
        # A relay that does not offer it gets the eight bits all the same: better than no page.
        if not letter.is_ascii and self.has_extn("8bitmime"):
            yield "BODY=8BITMIME"

    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        """smtplib's own tries each address for the whole time-out: a dead one would hold up a page for that long."""
        ends_at = self._monotonic() + self._within
        addresses = [found[4] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        for others, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            self.timeout = max(0.1, (ends_at - self._monotonic()) / (others + 1))
            try:
                return super().connect(str(address[0]), port, source_address)
            except (ssl.SSLError, smtplib.SMTPException):
                raise  # it answers, and is not who it should be or says nothing that helps
            except OSError:
                if not others:
                    raise
        raise OSError("its name has no address")

    # -- an end to every wait: all of smtplib's talk goes through these two

    def send(self, s: Any) -> None:
        if self.sock:
            self._socket().settimeout(self._seconds_left())
        super().send(s)

    def getreply(self) -> tuple[int, bytes]:
        # After STARTTLS smtplib asks for a new file; what came before it in the clear stays behind with the old one.
        if self.file is None or self._replies is None:
            self.file = self._replies = _Replies(self._receive)
        self._replies.left = _REPLY_LIMIT
        return super().getreply()

    def _receive(self) -> bytes:
        self._socket().settimeout(self._seconds_left())
        return self._socket().recv(4096)

    def _socket(self) -> socket.socket:
        if not isinstance(self.sock, socket.socket):
            raise smtplib.SMTPServerDisconnected("not connected")
        return self.sock

    def _seconds_left(self) -> float:
        left = self.ends_at - self._monotonic()
        if left <= 0:
            self.close()
            raise smtplib.SMTPServerDisconnected("no time is left")
        return min(left, self._within)


class _TlsDialogue(_Dialogue, smtplib.SMTP_SSL):
    """The same under TLS from the first octet."""


class _Replies:
    """The relay's words, line by line, as smtplib reads a file."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._unread = b""
        self.left = _REPLY_LIMIT

    def readline(self, limit: int) -> bytes:
        while b"\n" not in self._unread and len(self._unread) < limit:
            more = self._receive()
            if not more:
                break
            self._unread += more
        end = min(self._unread.find(b"\n") + 1 or limit, limit)
        line, self._unread = self._unread[:end], self._unread[end:]
        self.left -= len(line)
        if self.left < 0:
            raise OSError("the reply has no end")
        return line

    def close(self) -> None:
        """The socket is somebody else's."""


def _check_address(address: str, *, may_be_empty: bool) -> None:
    if not address.isprintable() or set(address) & set(" <>") or not (address or may_be_empty):
        raise Permanent(f"not an address: {ascii(address)[:100]}")


def _expect(reply: tuple[int, bytes], wanted: range, unknown: type[Temporary] = Temporary) -> str:
    if reply[0] == 421:  # RFC 5321 3.8: it closes the connection; that is no word about the message
        raise _Dead(_reply(*reply))
    return _check_reply(*reply, wanted, unknown)


def _check_reply(code: int, said: bytes, wanted: range, unknown: type[Temporary] = Temporary) -> str:
    """The reply, when it is a wanted one.

    Args:
        unknown: What it comes to that the relay wants to know us first.
    """
    text = _reply(code, said)
    if code in wanted:
        return text
    if code in _LOG_IN:
        raise unknown(text)
    raise (Permanent if 500 <= code < 600 else Temporary)(text)


def _of_us(code: int) -> type[Temporary]:
    """What a reply that came before any message comes to."""
    return LockedOut if 500 <= code < 600 else Temporary


def _reply(code: int, said: bytes | str) -> str:
    text = said.decode("ascii", "replace") if isinstance(said, bytes) else said
    return _clean(f"{code} {text}")


def _clean(text: str) -> str:
    """On one line, printable ASCII, at most 200 characters."""
    return re.sub(r"[^ -~]", "?", " ".join(text.split()))[:_ANSWER_LIMIT]
