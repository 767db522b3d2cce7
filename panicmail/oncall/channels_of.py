"""The ways to a person: the mail address, and each push channel; how proofs know them, and what may be told.

A way is named by what it leads to, so that a new address or URL is another one, of which nothing is proved yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from panicmail.incident.people import Person
from panicmail.incident.push_channel import PushChannel

#: How the names of ways by mail begin.
MAIL = "mail "
#: Apprise's services that send mail.
_MAIL_SCHEMES = ("mailto", "mailtos")


@dataclass(frozen=True, slots=True)
class ContactChannel:
    """One way to one person."""

    name: str  #: as proofs know it
    shown: str  #: as people may read it
    address: str = ""  #: of mail
    channel: PushChannel | None = None  #: of a push; None: it is mail

    @property
    def is_mail(self) -> bool:
        return self.channel is None


def by_mail(address: str) -> ContactChannel:
    return ContactChannel(name=f"{MAIL}{address}", shown=f"mail {address}", address=address)


def by_push(channel: PushChannel) -> ContactChannel:
    told = channel.shown if channel.pagerduty_key is not None else f"push {channel.shown}"
    return ContactChannel(name=channel.id, shown=told, channel=channel)


def ways_to(person: Person) -> tuple[ContactChannel, ...]:
    """Every way to them, mail first."""
    return (by_mail(person.email), *map(by_push, person.push))


def is_within(way: ContactChannel, domains: Iterable[str]) -> bool:
    """Whether it ends in the mail system of one of these domains, or of a domain above or below it."""
    domain = _mail_domain(way)
    return any(_are_one(domain, own) for own in domains) if domain else False


def _mail_domain(way: ContactChannel) -> str:
    """The domain of the mailbox it ends in; "" when it is no mail."""
    if way.channel is None:
        return way.address.rpartition("@")[2]
    if way.channel.pagerduty_key is not None:
        return ""
    parts = urlsplit(way.channel.url)
    if parts.scheme.lower() not in _MAIL_SCHEMES:
        return ""
    to = parse_qs(parts.query).get("to", [""])[0]
    return (to.rpartition("@")[2] or parts.hostname or "").lower()


def _are_one(one: str, other: str) -> bool:
    above, below = sorted((one, other), key=len)
    return above == below or ("." in above and below.endswith(f".{above}"))
