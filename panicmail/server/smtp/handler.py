"""What aiosmtpd asks while it parses commands, and our answers.

An exception in here is none of a client's business: `SmtpSession` logs it and answers 451.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panicmail.server.smtp import addresses, reply_table
from panicmail.server.smtp.limits import SmtpLimits
from panicmail.server.smtp.reply_table import Reply

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Envelope, Session

#: Longer names are cut; RFC 5321 4.5.3.1.2 allows a domain 255 octets.
_NAME_WITHIN = 255


class SmtpHandler:
    """The handler object of aiosmtpd. It keeps nothing: one serves any number of sessions."""

    def __init__(self, terms: SmtpLimits) -> None:
        self._terms = terms

    async def handle_HELO(  # noqa: N802 - the names are aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, name: str
    ) -> Reply:
        session.host_name = _shown(name)
        return reply_table.hello(self._terms.hostname)

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, name: str, responses: list[str]
    ) -> list[Reply]:
        """Our own list of extensions in place of aiosmtpd's, which lacks some and offers AUTH under TLS."""
        session.host_name = _shown(name)
        extensions = ["PIPELINING", f"SIZE {self._terms.max_message_size}", "8BITMIME", "SMTPUTF8"]
        if self._terms.tls is not None and session.ssl is None:
            extensions.append("STARTTLS")
        return reply_table.extended_hello(self._terms.hostname, [*extensions, "ENHANCEDSTATUSCODES"])

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> Reply:
        if addresses.has_control(address):
            return reply_table.BAD_SENDER
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return reply_table.SENDER_OK

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> Reply:
        if addresses.has_control(address):
            return reply_table.BAD_ADDRESS
        mailbox = addresses.plain(address)
        if mailbox is None or not self._terms.known(mailbox):
            return reply_table.UNKNOWN_RECIPIENT
        if len(envelope.rcpt_tos) >= self._terms.max_recipients:
            return reply_table.TOO_MANY_RECIPIENTS
        envelope.rcpt_tos.append(address if address.isascii() else mailbox)
        return reply_table.RECIPIENT_OK


def _shown(name: str) -> str:
    return addresses.without_control(name)[:_NAME_WITHIN]
