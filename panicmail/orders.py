"""The standing orders: what the operator configured, as the use cases need it. Immutable; a reload makes new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from panicmail.config import Config
from panicmail.mail.scene import House
from panicmail.mail.tokens import Addresses, Key, Purpose, Tokens
from panicmail.oncall.rosters import Roster, Rosters
from panicmail.people import Person
from panicmail.policy import Ladder, Step, Who

#: What an acknowledgement by mail rests on while `authentication.method` is "none". Shown wherever it counts.
UNVERIFIED = "From address not verified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Everything about people, ladder and mail that decisions are made by."""

    people: Mapping[str, Person]
    ladder: Ladder
    rosters: Rosters
    addresses: Addresses
    tokens: Tokens
    operators: tuple[str, ...]
    known_senders: tuple[str, ...]
    once_unknown: bool
    receipts: bool
    receipt_domains: tuple[str, ...]
    hotline: str
    advice: tuple[str, ...]
    reporter_access: bool
    sender: str
    page_sender: str
    web_url: str
    labels: tuple[str, ...]
    uploads: str

    def who_at(self, at: datetime) -> Who:
        """Who is on call in a role at `at`."""
        return lambda role: self.rosters.who(role, at)

    def house(self, at: datetime) -> House:
        return House(
            people=self.people,
            ladder=self.ladder,
            who=self.who_at(at),
            sender=self.sender,
            page_sender=self.page_sender,
            hotline=self.hotline,
            advice=self.advice,
            reporter_access=self.reporter_access,
            verified_by=UNVERIFIED,
        )

    def link(self, incident_id: str, person: str) -> str:
        """The address of `person`'s page of an incident; "" when there is no `[web] url`."""
        if not self.web_url:
            return ""
        return f"{self.web_url}/i/{self.tokens.mint(Purpose.LINK, incident_id, person)}"

    def is_known_sender(self, address: str) -> bool:
        """Whether `[senders] known` lists the address or its domain; everybody is known when it is empty."""
        if not self.known_senders:
            return True
        domain = address.rpartition("@")[2]
        return bool(address) and (address in self.known_senders or domain in self.known_senders)

    def may_have_receipt(self, address: str) -> bool:
        """Whether a receipt may go to `address`: switched on, in a receipt domain, and not one of our own."""
        if not self.receipts or not address or self.addresses.is_ours(address):
            return False
        return address.rpartition("@")[2] in self.receipt_domains


#: Answers the orders in force now; a reload changes the answer.
Standing = Callable[[], Orders]


def from_config(config: Config, keys: Sequence[tuple[str, bytes]]) -> Orders:
    """The orders a configuration gives. `keys`: (kid, secret), newest first."""
    escalation = config.escalation
    return Orders(
        people={
            key: Person(
                id=key,
                name=p.name,
                email=p.email,
                aliases=p.aliases,
                phone=p.phone,
                gitlab=p.gitlab,
                tz=ZoneInfo(p.tz),
            )
            for key, p in config.people.items()
        },
        ladder=Ladder(
            sla=escalation.sla,
            steps=tuple(Step(step.after, step.page) for step in escalation.steps),
            repeat=escalation.repeat,
            remind_after=escalation.remind_after,
        ),
        rosters=Rosters({role: Roster(r.fixed, r.fallback) for role, r in config.oncall.items()}),
        addresses=Addresses(config.smtp.addresses, config.replies.address, _id_domain(config)),
        tokens=Tokens([Key(kid, secret) for kid, secret in keys]),
        operators=config.operators.page,
        known_senders=tuple(s.lower() for s in config.senders.known),
        once_unknown=config.senders.unknown == "once",
        receipts=config.receipts.enabled,
        receipt_domains=config.receipts.domains,
        hotline=config.receipts.phone,
        advice=config.receipts.advice,
        reporter_access=config.gitlab.reporter_access,
        sender=config.relay.sender,
        page_sender=config.relay.page_sender,
        web_url=config.web.url,
        labels=config.gitlab.labels,
        uploads=config.gitlab.uploads,
    )


def _id_domain(config: Config) -> str:
    """What stands behind the @ of a Message-ID: the same on every node, whatever its host is called."""
    return config.smtp.addresses[0].rpartition("@")[2]
