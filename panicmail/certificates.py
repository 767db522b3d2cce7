"""TLS: when a certificate ends, from its octets; and whether a failure is one that somebody must mend.

The standard library tells the end only of a connection, and only of certificates it trusts; the one thing wanted here
is a date at a known place (RFC 5280 4.1), so that place is walked to: no library is worth having for it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0

#: A connection that broke while TLS was spoken: it may hold the next time.
_BROKEN = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def is_refusal(exc: object) -> bool:
    """Whether TLS failed because the two do not fit: the certificate, the version, no TLS at all at that port."""
    return isinstance(exc, ssl.SSLError) and not isinstance(exc, _BROKEN)


def ends_at(pem: str) -> datetime:
    """The last instant the first certificate of a PEM text holds, aware UTC.

    Raises:
        ValueError: There is no certificate in it that can be read.
    """
    try:
        one = pem[pem.index(_BEGIN) : pem.index(_END) + len(_END)]
        return _ends_at(ssl.PEM_cert_to_DER_cert(one))
    except (IndexError, StopIteration) as exc:
        raise ValueError("a certificate that ends in the middle") from exc


def _ends_at(der: bytes) -> datetime:
    certificate = next(_elements(der))[1]
    to_be_signed = next(_elements(certificate))[1]
    fields = [field for field in _elements(to_be_signed) if field[0] != _VERSION]
    # serial number, algorithm, issuer, then: notBefore and notAfter
    tag, validity = fields[3]
    if tag != _SEQUENCE:
        raise ValueError("no certificate as RFC 5280 has them")
    return _instant(*list(_elements(validity))[1])


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of a DER value: tag and content of each."""
    at = 0
    while at < len(der):
        tag, size, at = der[at], der[at + 1], at + 2
        if size & 0x80:
            octets = size & 0x7F
            size, at = int.from_bytes(der[at : at + octets], "big"), at + octets
        yield tag, der[at : at + size]
        at += size


def _instant(tag: int, written: bytes) -> datetime:
    text = written.decode("ascii")
    if tag == _UTC_TIME:  # RFC 5280 4.1.2.5.1: two digits of the year, 50 to 49
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no date where the certificate ends")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
