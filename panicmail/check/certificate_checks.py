"""Certificates: when they end and how near that is, and whether one is for a name."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from panicmail.check.result import Group, Row
from panicmail.errors import PanicmailError, Permanent, Temporary

#: One that ends sooner is a warning; it is urgent, and then it has failed.
RENEW_WITHIN, URGENT_WITHIN, TOO_LATE = timedelta(days=21), timedelta(days=7), timedelta(days=1)
CAUSE = "check_certificate"
#: What OpenSSL says when all else was good enough to look at the names (X509_V_ERR_HOSTNAME_MISMATCH).
_OTHER_NAME = 62
#: A handshake in memory takes fewer turns.
_TURNS = 8


def judge(group: Group, subject: str, ends_at: datetime, now: datetime, mend: str) -> Row:
    """How long a certificate still holds: told with 21 days left, with 7, and from the last day on each day."""
    left = ends_at - now
    told = f"it ends {ends_at:%Y-%m-%d}, {left.days} days left"
    if left <= timedelta(0):
        row = group.failed(subject, f"ended {ends_at:%Y-%m-%d}", mend)
    elif left <= TOO_LATE:
        row = group.failed(subject, f"it ends {ends_at:%Y-%m-%d %H:%M} UTC", mend)
    elif left <= URGENT_WITHIN:
        found = f"it ends {ends_at:%Y-%m-%d}, only {left.days} days left"
        row = replace(group.warning(subject, found, mend), stage="7 days")
    elif left <= RENEW_WITHIN:
        row = replace(group.warning(subject, told, mend), stage="21 days")
    else:
        row = group.ok(subject, told)
    return row.told_as(CAUSE)


def shown(group: Group, subject: str, host: str, ends_at: Callable[[], datetime], now: datetime) -> Row:
    """How long the certificate holds that a server shows, and whether this host trusts it."""
    mend = f"renew the certificate of {host}, and let it show the whole chain"
    try:
        return judge(group, subject, ends_at(), now, mend)
    except Permanent as exc:
        return group.failed(subject, f"{exc}", mend).told_as(CAUSE)
    except PanicmailError as exc:
        return group.warning(subject, f"not seen: {exc}", f"see that this host can reach {host}")


def is_for(name: str, certificate: Path, key: Path) -> bool:
    """Whether whoever connects to `name` and verifies would find it in this certificate.

    Judged by a handshake in memory, by the rules a client has. Neither who signed it nor when it ends counts.

    Raises:
        OSError: The files cannot be read, or are no pair (`ssl.SSLError`).
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(certificate, key, password="")
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True))
    try:
        for turn in range(_TURNS):
            _shake(ends[turn % 2])
    except ssl.SSLCertVerificationError as exc:
        return exc.verify_code != _OTHER_NAME
    return True


def _shake(end: ssl.SSLObject) -> None:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:  # it is the other one's turn
        return


def fetch_end_of_certificate(host: str, port: int, timeout: float, context: ssl.SSLContext | None = None) -> datetime:
    """When the certificate ends that a server shows, if this host trusts it.

    Raises:
        Permanent: It is not trusted.
        Temporary: There is no connection, or no TLS on it.
    """
    context = context or ssl.create_default_context()
    try:
        with (
            socket.create_connection((host, port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=host) as tls,
        ):
            told = (tls.getpeercert() or {}).get("notAfter")
    except ssl.SSLCertVerificationError as exc:
        raise Permanent(f"its certificate is not trusted: {exc.verify_message}") from exc
    except OSError as exc:
        raise Temporary(f"it cannot be reached: {exc.strerror or type(exc).__name__}") from exc
    if not isinstance(told, str):
        raise Temporary("it shows no certificate")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(told), UTC)
