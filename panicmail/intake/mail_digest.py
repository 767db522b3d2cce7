"""What makes two mails the same: a digest of the envelope and the octets, without what changes on the way."""

from __future__ import annotations

import hashlib

from panicmail.mail.parse.normalize import HEADER_OCTETS
from panicmail.store.rows import AcceptedMail

#: Header fields that differ between two deliveries of the same mail; and the beginning of the names of more.
_TRACE = frozenset(
    (b"received", b"return-path", b"delivered-to", b"x-original-to", b"x-received", b"received-spf",
     b"authentication-results")
)  # fmt: skip
_ARC, _ARC_NAME = b"arc-", frozenset(b"abcdefghijklmnopqrstuvwxyz-")


def digest_of(mail: AcceptedMail, raw: bytes) -> str:
    """What makes two mails the same: sender, sorted recipients, and the octets without trace headers.

    Of a header without end only the beginning is looked through; the rest counts as it stands. What takes time is done
    without the interpreter's lock.
    """
    envelope = "\0".join([mail.mail_from.lower(), *sorted(r.lower() for r in mail.recipients)])
    digest = hashlib.sha256(envelope.encode("utf-8", "surrogateescape"))
    end = _header_end(raw)
    digest.update(_without_trace(raw[:end]))
    with memoryview(raw) as octets:
        digest.update(octets[end:])
    return digest.hexdigest()


def _header_end(raw: bytes) -> int:
    """Where the empty line after the header begins, or the last line of the header we look at."""
    begins = [at for empty in (b"\n\n", b"\n\r\n") if (at := raw.find(empty, 0, HEADER_OCTETS)) >= 0]
    if begins:
        at = min(begins)
        return at - 1 if raw[at - 1 : at] == b"\r" else at
    return len(raw) if len(raw) <= HEADER_OCTETS else raw.rfind(b"\n", 0, HEADER_OCTETS) + 1


def _without_trace(head: bytes) -> bytes:
    kept: list[bytes] = []
    traces = False
    for line in head.split(b"\n"):
        if line[:1] not in (b" ", b"\t"):
            traces = _is_trace(line)
        if not traces:
            kept.append(line)
    return b"\n".join(kept).rstrip(b"\r\n")


def _is_trace(line: bytes) -> bool:
    """Whether a header field begins here that each mail server on the way adds."""
    name, colon, _ = line.partition(b":")
    name = name.lower()
    is_arc = name.startswith(_ARC) and name != _ARC and _ARC_NAME.issuperset(name)
    return bool(colon) and (name in _TRACE or is_arc)
