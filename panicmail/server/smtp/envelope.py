"""What the wire hands to the rest of panicmail, and what it asks of it."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One mail as it came over the wire, complete, before anybody has looked into it."""

    mail_from: str  #: "" is the null sender; octets that are no UTF-8 stand as \\xNN; no control characters
    recipients: tuple[str, ...]  #: as given, in order; at least one, each of them `known`
    peer: str  #: the client's IP address such as "127.0.0.1" or "::1"; "" when it had hung up before we could ask
    helo: str  #: what the client called itself; control characters are shown as "?"
    tls: str  #: "" for plaintext, else such as "TLSv1.3 TLS_AES_256_GCM_SHA384"
    raw: bytes  #: the octets between DATA and the dot, dots unstuffed, line ends as they came


#: Makes a mail durable and answers its REF, or raises; until it resolves the client waits for its 250. It is called on
#: the event loop's thread and must return at once; the work belongs elsewhere.
Accept = Callable[[Accepted], concurrent.futures.Future[str]]

#: Is this recipient ours? Asked on the event loop's thread with the lower-cased address, so it must not wait.
Known = Callable[[str], bool]
