"""One mail on its way in: where it ends, how much of it is kept, what it was before its dots were stuffed.

Promises: only CRLF.CRLF ends a mail (RFC 5321 4.1.1.4), whatever the chunks look like and whatever mixture of CR, LF
and NUL stands around a dot; that is what closes SMTP smuggling (CVE-2023-51764, CVE-2024-27305). No octet is changed
but for the stuffed dots (RFC 5321 4.5.2). Memory and disk stay bounded whatever is sent: beyond the size limit, or when
there is no room (see `inbound_storage`), the octets are counted and dropped, and only the last four are kept to find
the end.

The whole daemon waits while octets are worked on here. So dots are unstuffed as blocks come in, and nothing ever goes
over the whole mail here.

Nothing here reads a socket: chunks are fed in, so all of it can be tried without one.

The size limit counts stuffed dots too; a mail within a few octets of the limit may be refused for its dots.
"""

from __future__ import annotations

import re

from panicmail.server.smtp.inbound_storage import MailOctets

_END = b"\r\n.\r\n"
_STUFFED, _UNSTUFFED = b"\r\n.", b"\r\n"
#: The end can begin in the last four octets already here.
_OVERLAP = len(_END) - 1
#: So many octets are gathered before their dots are unstuffed, and kept as one block from then on.
BLOCK = 64 * 1024

#: Trace fields are added on top, so a loop shows here; looking no further keeps a mail without an end of header cheap.
_HEADER_WITHIN = 256 * 1024
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_RECEIVED = re.compile(rb"\nreceived[ \t]*:", re.IGNORECASE)


class DataReceiver:
    """Collects one mail. Feed it chunks until it answers what came after the mail, then look at the rest of it."""

    def __init__(self, *, limit: int, octets: MailOctets) -> None:
        self._limit = limit
        self._octets = octets  #: dots unstuffed
        # Not unstuffed yet. The CRLF that ended the DATA command also begins the first line: it makes the lone dot of
        # an empty mail an end, and a stuffed dot on the first line one like any other.
        self._held = bytearray(b"\r\n")
        self._dropping = False
        self._is_first = True  #: no block was kept yet
        self._size = 0

    @property
    def size(self) -> int:
        """Octets so far, dropped ones included; those of the end too until it has been recognised."""
        return self._size

    @property
    def too_large(self) -> bool:
        return self._size > self._limit

    @property
    def kept(self) -> bool:
        """False: too large, or there was no room for it."""
        return not self._dropping and not self.too_large

    def feed(self, chunk: bytes | bytearray) -> bytes | None:
        """Take the next octets; None while the mail goes on, else what followed its end (often b"")."""
        if not self._dropping and not self._octets.reserve(len(chunk)):
            self.drop()
        known = len(self._held)
        self._held += chunk
        self._size += len(chunk)
        at = self._held.find(_END, max(0, known - _OVERLAP))
        if at >= 0:
            return self._finish(at)
        if self._size - _OVERLAP > self._limit:
            self.drop()
        if self._dropping:
            del self._held[:-_OVERLAP]
        elif len(self._held) >= BLOCK:
            self._settle(self._sure())
        return None

    def _sure(self) -> int:
        """How many of the held octets no coming one can make part of a stuffed dot or of the end."""
        begins = self._held.find(b"\r", len(self._held) - _OVERLAP)
        return begins if begins >= 0 else len(self._held)

    def _settle(self, octets: int) -> None:
        """Unstuff the first so many octets that are held, and keep them as a block."""
        block = bytes(self._held[:octets].replace(_STUFFED, _UNSTUFFED))
        del self._held[:octets]
        if self._is_first:  # the CRLF it begins with is that of the command
            self._is_first, block = False, block[len(_UNSTUFFED) :]
        if not self._octets.append(block):
            self.drop()

    def _finish(self, at: int) -> bytes:
        """Cut the held octets after the CRLF that ends the last line; the octets that follow the dot's CRLF."""
        rest = bytes(self._held[at + len(_END) :])
        self._size -= len(self._held) - at - len(_UNSTUFFED)
        del self._held[at + len(_UNSTUFFED) :]
        if self.too_large:
            self.drop()
        if not self._dropping:
            self._settle(len(self._held))
        return rest

    def drop(self) -> None:
        """Keep no more than what the search for the end needs."""
        self._dropping = True
        self._octets.release()
        # A new, small one: a bytearray that was cut at its front still holds all its memory.
        self._held = self._held[-_OVERLAP:]


def received_fields(raw: bytes) -> int:
    """How many Received fields the header section has: the hops so far (RFC 5321 6.3)."""
    head = b"\n" + raw[:_HEADER_WITHIN]
    end = _EMPTY_LINE.search(head)
    return len(_RECEIVED.findall(head, 0, end.start() if end else len(head)))
