"""The people panicmail knows by name: those who can be paged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from zoneinfo import ZoneInfo

from panicmail.incident.push_channel import PushChannel


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionKey:
    """What mails to one person are encrypted by: a public key, as its file has it."""

    kind: Literal["pgp", "smime"]
    path: str
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who can be paged."""

    id: str  #: the key in the configuration: what commands and the word "to bo" call them
    name: str
    email: str  #: lower case; where pages go
    aliases: tuple[str, ...] = ()  #: lower case; other addresses they may answer from
    phone: str = ""
    gitlab: str | None = None  #: GitLab user name; None: they have none
    push: tuple[PushChannel, ...] = ()  #: ways to their phone, used beside mail
    #: How much of a report their mails show: "full", "subject" (and the sender) or "ref".
    detail: str = "full"
    #: The domain their replies must be proved by; "": as `check --page` found; "none": nothing is asked.
    proof: str = ""
    key: EncryptionKey | None = None  #: what their mails are encrypted by
    tz: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))  #: the zone of the times in their mails

    @property
    def first_name(self) -> str:
        return self.name.split()[0] if self.name.split() else self.id

    def writes_from(self, address: str) -> bool:
        """Whether `address` is theirs: the configured one or a listed alias. Case does not matter."""
        return bool(address) and address.lower() in {self.email, *self.aliases}


def by_address(people: Mapping[str, Person], address: str) -> Person | None:
    """Whose address this is; None when it is nobody's."""
    return next((person for person in people.values() if person.writes_from(address)), None)


def by_word(people: Mapping[str, Person], word: str) -> Person | None:
    """The one person meant by a key, first name, full name or address; None when it is nobody or more than one."""
    said = word.strip().lower().removeprefix("@")
    exact = [p for p in people.values() if said in {p.id.lower(), p.email, p.name.lower()}]
    found = exact or [p for p in people.values() if said in {p.first_name.lower(), p.email.partition("@")[0]}]
    return found[0] if len(found) == 1 else None
