"""A mail of ours that is too large for its relay: its text, cut, and a line that says so."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

#: Fields that say how a body is written; the shortened one has its own.
_OF_THE_BODY = (b"content-type", b"content-transfer-encoding", b"mime-version")

#: In place of what is encrypted.
_CANNOT_BE_CUT = 'This mail is encrypted for you, and too large to be sent. Reply "status", or see the issue.'


def shortened(message: bytes, most: int) -> bytes:
    """The same mail in at most so many octets, if its header leaves room: plain text alone, cut where it must be.

    Args:
        message: One of ours, with CRLF, its text first.
    """
    if len(message) <= most:
        return message
    head = _header(message)
    text, said = _text(message), f"[Cut here: the mail relay takes no more than {most} octets.]"
    keep = len(text)
    while True:
        made = head + _body(f"{text[:keep].rstrip()}\n{said}\n")
        if len(made) <= most or not keep:
            return made
        # What is over is at most three octets for each of UTF-8's, and those of soft line breaks.
        keep = min(keep - 1, int(keep * most / len(made))) if keep > 64 else 0


def _header(message: bytes) -> bytes:
    """The fields as they stand, without those about the body."""
    kept: list[bytes] = []
    is_kept = True
    for line in message.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if line[:1] not in (b" ", b"\t"):
            is_kept = line.partition(b":")[0].lower() not in _OF_THE_BODY
        if is_kept:
            kept.append(line + b"\r\n")
    return b"".join(kept)


def _text(message: bytes) -> str:
    for part in message_from_bytes(message).walk():
        if part.get_content_type() == "text/plain":
            octets = part.get_payload(decode=True)
            return (octets if isinstance(octets, bytes) else b"").decode("utf-8", "replace").replace("\r\n", "\n")
    return _CANNOT_BE_CUT


def _body(text: str) -> bytes:
    part = EmailMessage(policy=SMTP)
    part.set_content(text, cte="quoted-printable")
    return part.as_bytes()
