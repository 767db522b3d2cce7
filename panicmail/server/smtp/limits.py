"""What every session of one listener goes by."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from panicmail.server.smtp.envelope import Accept, Known
from panicmail.server.smtp.inbound_storage import InboundStorage


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
