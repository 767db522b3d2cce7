"""Every reply panicmail gives over SMTP.

Fixed and dull: nothing a client wrote and nothing of an exception is ever part of one. `SmtpSession.push` sends only
what is a `Reply`; a sentence aiosmtpd worded itself is replaced by ours of the same code (`instead_of`).

Two rules choose the code. RFC 5321 4.2.1: 4yz invites a retry, so whatever goes wrong with ourselves is a 451 and the
sender's queue keeps the panic. Permanent, with an enhanced code (RFC 3463): a recipient that is not ours, a mail that
is too large, a loop, and what is no SMTP.
"""

from __future__ import annotations

import concurrent.futures
import re
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from panicmail.intake.accept import ReceivedMail
from panicmail.server.smtp.inbound_storage import InboundStorage


class Reply(str):
    """One line we may send, without its CRLF. Only this module makes them."""

    __slots__ = ()


OK = Reply("250 2.0.0 OK")
SENDER_OK = Reply("250 2.1.0 OK")
RECIPIENT_OK = Reply("250 2.1.5 OK")
SEND_THE_MAIL = Reply("354 End data with <CR><LF>.<CR><LF>")
HELP = Reply("214 2.0.0 This is panicmail. Mail to its address, and people are called.")
START_TLS = Reply("220 2.0.0 Ready to start TLS")
BYE = Reply("221 2.0.0 Bye")
NOT_VERIFIED = Reply("252 2.5.2 Not verified. Send the mail and see.")

SHUTTING_DOWN = Reply("421 4.3.2 Shutting down. Try again soon.")
IDLE = Reply("421 4.4.2 Idle for too long, closing")
TOO_SLOW = Reply("421 4.4.2 The mail comes in too slowly, closing")
TOO_MANY_COMMANDS = Reply("421 4.7.0 Too many commands without a mail, closing")
TOO_MANY_CONNECTIONS = Reply("421 4.7.0 Too many connections. Try again soon.")
TOO_MANY_MISTAKES = Reply("421 4.7.0 Too many commands not understood, closing")
FAILED = Reply("451 4.3.0 Temporary failure. Try again.")
NO_ROOM = Reply("452 4.3.1 Too much mail at once. Try again.")
TOO_MANY_RECIPIENTS = Reply("452 4.5.3 Too many recipients")
NO_TLS = Reply("454 4.7.0 TLS not available")

NOT_UNDERSTOOD = Reply("500 5.5.2 Command unknown or line too long")
#: What ends a line otherwise is a line to one server and none to the next: so mails are smuggled.
BARE_LINE_FEED = Reply("500 5.5.2 End every line with CR LF")
BAD_ARGUMENT = Reply("501 5.5.4 Syntax error in the argument")
NOT_OFFERED = Reply("502 5.5.1 Command not offered")
OUT_OF_ORDER = Reply("503 5.5.1 Bad sequence of commands")
WITHOUT_TLS = Reply("530 5.7.0 Must issue a STARTTLS command first")
UNKNOWN_RECIPIENT = Reply("550 5.1.1 No such mailbox here")
TOO_LARGE = Reply("552 5.3.4 Too large. NOT received. Send it again without attachments.")
BAD_ADDRESS = Reply("553 5.1.3 Malformed address")
BAD_SENDER = Reply("553 5.1.7 Malformed sender address")
LOOP = Reply("554 5.4.6 Too many hops. This mail is going round in circles.")
UNKNOWN_PARAMETER = Reply("555 5.5.4 Parameter not offered")

#: Why a mail or recipient was refused, one word for the log; a reply that is not here refuses none.
REASONS = {
    NO_ROOM: "no_room",
    WITHOUT_TLS: "without_tls",
    TOO_MANY_RECIPIENTS: "too_many_recipients",
    UNKNOWN_RECIPIENT: "unknown_recipient",
    TOO_LARGE: "too_large",
    BAD_ADDRESS: "malformed_address",
    BAD_SENDER: "malformed_sender",
    LOOP: "mail_loop",
    UNKNOWN_PARAMETER: "unknown_parameter",
}

#: What aiosmtpd answers on its own accord in the commands we left to it, by code.
_BY_CODE = {
    "220": START_TLS,
    "221": BYE,
    "250": OK,
    "454": NO_TLS,
    "500": NOT_UNDERSTOOD,
    "501": BAD_ARGUMENT,
    "502": NOT_OFFERED,
    "503": OUT_OF_ORDER,
    "552": TOO_LARGE,
    "553": BAD_ADDRESS,
    "555": UNKNOWN_PARAMETER,
}


def instead_of(status: str) -> Reply:
    """Our reply for a sentence of aiosmtpd; an unknown code is 451, for we do not know what it would have promised."""
    return _BY_CODE.get(status[:3], FAILED)


def greeting(hostname: str, *, lmtp: bool = False) -> Reply:
    return Reply(f"220 {hostname} panicmail {'LMTP' if lmtp else 'ESMTP'}")


def hello(hostname: str) -> Reply:
    return Reply(f"250 {hostname}")


def extended_hello(hostname: str, extensions: Iterable[str]) -> list[Reply]:
    """The lines that answer EHLO: our name, then one extension each."""
    lines = [hostname, *extensions]
    return [Reply(f"250-{line}") for line in lines[:-1]] + [Reply(f"250 {lines[-1]}")]


def accepted(ref: str) -> Reply:
    """The promise: this mail is durable. `ref` is ours and speakable, so it needs no cleaning."""
    return Reply(f"250 2.0.0 accepted as {ref}")


# -- What every session of one listener goes by.


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpLimits:
    """Handed to each session; immutable but for the storage, which is shared on purpose."""

    hostname: str
    known: Known
    accept: Accept
    max_message_size: int  #: octets
    storage: InboundStorage
    tls: ssl.SSLContext | None  #: None: no TLS
    tls_at_once: bool = False  #: TLS from the first octet (RFC 8314), instead of by STARTTLS
    lmtp: bool = False  #: RFC 2033: LHLO, and after the dot an answer for each recipient
    require_tls: bool = False  #: without TLS only what leads to it is carried out
    idle_timeout: float  #: seconds without a whole command, without any octet of a mail, or with a reply unread
    accept_timeout: float  #: seconds to wait for `accept`; then 451, though the write may still succeed
    max_recipients: int  #: RFC 5321 4.5.3.1.8 wants 100 at least
    max_hops: int  #: Received fields; one more is a loop
    is_trusted: Callable[[str], bool] = lambda peer: False  #: whether that address is a mail server of ours
    data_grace: float = 60.0  #: seconds a mail may take however slowly it comes
    data_rate: float = 1024.0  #: octets a second it must have come in on average after that
    data_within: float = 1800.0  #: seconds for the whole of a mail
    max_commands: int = 1000  #: of a connection, between two mails that were taken


# -- What the wire hands to the rest of panicmail, and what it asks of it.

#: Makes a mail durable and answers its REF, or raises; until it resolves the client waits for its 250. It is called on
#: the event loop's thread and must return at once; the work belongs elsewhere.
Accept = Callable[[ReceivedMail], concurrent.futures.Future[str]]

#: Is this recipient ours? Asked on the event loop's thread with the lower-cased address, so it must not wait.
Known = Callable[[str], bool]


# -- Addresses as SMTP commands carry them.
#
# aiosmtpd reads paths with the parser of the email package, which drops source routes without a word, takes control
# characters, and raises on oddities. This reader shows what stands there; `plain` then says which of it can be a
# mailbox of ours. Senders are hardly judged: an ugly sender still reports a panic.

#: What aiosmtpd calls the null reverse-path (RFC 5321 4.5.5) inside; it takes "" for "no MAIL command yet".
NULL_SENDER = "<>"

# Brackets with anything between them, quoted strings taken whole; or, as sloppy clients write, no brackets at all.
_PATH = re.compile(
    r"""\s*(?:<(?P<path>(?:"(?:[^"\\]|\\.)*"|[^<>"])*)>|(?P<bare>[^\s<>"]+))(?P<parameters>.*)""", re.DOTALL
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Quotes, blanks and backslashes; "%" and "!" once routed through third parties; ":" and "," belong to source routes
# (RFC 5321 4.1.1.3, appendix C). No address of ours holds any of them.
_MAILBOX = re.compile(r"""[^\x00-\x20\x7f-\x9f"\\%!:,;<>()@]+@[^\x00-\x20\x7f-\x9f"\\%!:,;<>()@]+""")


def split_path(argument: str) -> tuple[str, str] | None:
    """The address of `<address> parameters`, and the parameters; None when there is none to be read.

    The null path comes out as `NULL_SENDER`.
    """
    match = _PATH.fullmatch(argument)
    if match is None:
        return None
    address = match["bare"] if match["path"] is None else match["path"].strip()
    return address or NULL_SENDER, match["parameters"].strip()


def plain(address: str) -> str | None:
    """The mailbox, lower-cased, for comparison with ours; None for whatever is not plainly local@domain.

    A domain in letters beyond ASCII comes out as DNS and our configuration have it (RFC 5890, "xn--").
    """
    if not _MAILBOX.fullmatch(address):
        return None
    local, _, domain = address.lower().rpartition("@")
    try:
        return f"{local}@{domain if domain.isascii() else domain.encode('idna').decode('ascii')}"
    except UnicodeError:  # no domain has such a name
        return None


def has_control(text: str) -> bool:
    return _CONTROL.search(text) is not None


def without_control(text: str) -> str:
    return _CONTROL.sub("?", text)
