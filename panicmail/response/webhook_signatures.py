"""How a webhook proves who sent it. Pure: the octets as they came, the secret, and `now`.

    standard    Standard Webhooks, as GitLab 19 signs: HMAC-SHA256 in base64 over "{id}.{time}.{body}"; a few of them,
                apart by blanks, while the key changes; good for five minutes
    pagerduty   HMAC-SHA256 in hex over the body; a few of them, apart by commas; without a time
    token       the secret itself

Each answers why the request is not verified, in words for the operator's log; "" when it is. Every comparison takes
the same time however much is right. A header is a text of HTTP's: one character for each octet.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

#: A signature with a time may be so old, and lie so far ahead.
WITHIN = timedelta(minutes=5)
#: Anybody can sign with an empty one.
_NO_SECRET = "there is no secret to verify it by"  # noqa: S105 - words for people
_SECONDS = re.compile(r"[0-9]{1,12}")


def standard_doubt(key: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """`headers` by lower-case name: webhook-id, webhook-timestamp (Unix seconds), webhook-signature."""
    if not key:
        return _NO_SECRET
    name, seconds = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split()
    if not name or not _SECONDS.fullmatch(seconds):
        return "its signature lacks an id or a time"
    if abs(now.timestamp() - int(seconds)) > WITHIN.total_seconds():
        return "its signature is too old, or a clock is wrong"
    digest = hmac.digest(key, _octets(f"{name}.{seconds}.") + body, "sha256")
    return _doubt([part.removeprefix("v1,") for part in given if part.startswith("v1,")], base64.b64encode(digest))


def pagerduty_doubt(secret: bytes, header: str, body: bytes) -> str:
    """`header`: X-PagerDuty-Signature, "" when there is none."""
    if not secret:
        return _NO_SECRET
    given = [part.strip() for part in header.split(",")]
    digest = hmac.digest(secret, body, "sha256").hex().encode()
    return _doubt([part.removeprefix("v1=").lower() for part in given if part.startswith("v1=")], digest)


def token_doubt(token: bytes, header: str) -> str:
    """`header`: the token as it was given, "" when none was."""
    if not token:
        return _NO_SECRET
    if not header:
        return "it carries no token"
    return "" if hmac.compare_digest(_octets(header), token) else "wrong token"


def _doubt(given: Iterable[str], right: bytes) -> str:
    compared = [hmac.compare_digest(_octets(signature), right) for signature in given]
    if not compared:
        return "it carries no signature"
    return "" if any(compared) else "wrong signature"


def _octets(header: str) -> bytes:
    return header.encode("latin-1", "replace")
