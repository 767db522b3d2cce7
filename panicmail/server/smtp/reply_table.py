"""Every reply panicmail gives over SMTP.

Fixed and dull: nothing a client wrote and nothing of an exception is ever part of one. `SmtpSession.push` sends only
what is a `Reply`; a sentence aiosmtpd worded itself is replaced by ours of the same code (`instead_of`).

Two rules choose the code. RFC 5321 4.2.1: 4yz invites a retry, so whatever goes wrong with ourselves is a 451 and the
sender's queue keeps the panic. Permanent, with an enhanced code (RFC 3463): a recipient that is not ours, a mail that
is too large, a loop, and what is no SMTP.
"""

from __future__ import annotations

from collections.abc import Iterable


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
