"""Mail from outside: whether any came lately. Nothing else shows that MX record, firewall and port work together."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from panicmail.check.database_checks import KnownFindings
from panicmail.check.result import Group, Row
from panicmail.config import Config
from panicmail.config.values import Network, is_local

#: A drill by mail once a week, and a day more.
SILENT_AFTER = timedelta(days=8)
_TRY = "run panicmail drill --by-mail: it shows each step of one"
_MEND = "panicmail drill --by-mail shows each step of one; if nothing comes, see MX record, firewall and port 25"


def row(config: Config, known: KnownFindings, now: datetime) -> Row:
    """When the last mail came whose peer is on no private network.

    Where a mail server of our own stands in front, every peer is that one: mail it hands over counts. A panicmail
    that was first started less than `SILENT_AFTER` ago has no silence yet that the operators should hear of.
    """
    ours = config.smtp.trusted_relays
    in_front = all(is_local(listener.address) for listener in config.smtp.all_listeners)
    from_outside = [at for peer, at in known.newest_by_peer if in_front or _is_outside(peer, ours)]
    last = max(from_outside, default=None)
    through = ", through the mail server on this host" if in_front else ""
    if last is not None and now - last <= SILENT_AFTER:
        told = Group.DOOR.ok("from outside", f"the last mail came {last:%Y-%m-%d %H:%M} UTC{through}")
    elif last is None and (begun_at := _begun_at(config, known)) is not None and now - begun_at <= SILENT_AFTER:
        return Group.DOOR.warning("from outside", f"none yet{through}", _TRY)
    else:
        told = Group.DOOR.warning("from outside", _silence(last, now) + through, _MEND)
    return told.told_as("check_outside")


def _begun_at(config: Config, known: KnownFindings) -> datetime | None:
    """When this panicmail was first started: that makes its keys, unless somebody gave it a file of them."""
    file = config.tokens.key_file
    try:
        given_at = datetime.fromtimestamp(file.stat().st_mtime, UTC) if file else None
    except OSError:
        given_at = None
    return known.begun_at or given_at


def _silence(last: datetime | None, now: datetime) -> str:
    if last is None:
        return "no mail from outside has ever come"
    return f"no mail from outside since {last:%Y-%m-%d}, for {(now - last).days} days"


def _is_outside(peer: str, ours: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    return address.is_global or any(address.version == net.version and address in net for net in ours)
