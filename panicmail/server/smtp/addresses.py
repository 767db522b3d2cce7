"""Addresses as SMTP commands carry them.

aiosmtpd reads paths with the parser of the email package, which drops source routes without a word, takes control
characters, and raises on oddities. This reader shows what stands there; `plain` then says which of it can be a mailbox
of ours. Senders are hardly judged: an ugly sender still reports a panic.
"""

from __future__ import annotations

import re

#: What aiosmtpd calls the null reverse-path (RFC 5321 4.5.5) inside; it takes "" for "no MAIL command yet".
NULL_SENDER = "<>"

# Brackets with anything between them, quoted strings taken whole; or, as sloppy clients write, no brackets at all.
_PATH = re.compile(
    r"""\s*(?:<(?P<path>(?:"(?:[^"\\]|\\.)*"|[^<>"])*)>|(?P<bare>[^\s<>"]+))(?P<parameters>.*)""", re.DOTALL
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Quotes, blanks and backslashes; "%" and "!" once routed through third parties; ":" and "," belong to source routes
# (RFC 5321 4.1.1.3, appendix C). No address of ours holds any of them.
_MAILBOX = re.compile(r"""[^\x00-\x20\x7f-\x9f"\\%!:,;<>()@]+@[^\x00-\x20\x7f-\x9f"\\%!:,;<>()@]+""")


def split_path(argument: str) -> tuple[str, str] | None:
    """The address of `<address> parameters`, and the parameters; None when there is none to be read.

    The null path comes out as `NULL_SENDER`.
    """
    match = _PATH.fullmatch(argument)
    if match is None:
        return None
    address = match["bare"] if match["path"] is None else match["path"].strip()
    return address or NULL_SENDER, match["parameters"].strip()


def plain(address: str) -> str | None:
    """The mailbox, lower-cased, for comparison with ours; None for whatever is not plainly local@domain.

    A domain in letters beyond ASCII comes out as DNS and our configuration have it (RFC 5890, "xn--").
    """
    if not _MAILBOX.fullmatch(address):
        return None
    local, _, domain = address.lower().rpartition("@")
    try:
        return f"{local}@{domain if domain.isascii() else domain.encode('idna').decode('ascii')}"
    except UnicodeError:  # no domain has such a name
        return None


def has_control(text: str) -> bool:
    return _CONTROL.search(text) is not None


def without_control(text: str) -> str:
    return _CONTROL.sub("?", text)
