"""The settings: what the operator configured, as the use cases need it. Immutable; a reload makes new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from panicmail.config import Config, reporters
from panicmail.config.policies import policies_of, triage_rules
from panicmail.config.reporters import KnownReporter
from panicmail.incident import classify
from panicmail.incident.classify import Report
from panicmail.incident.escalation_policy import (
    DAYTIME,
    DEFAULT,
    OPERATOR,
    BusinessHours,
    Duty,
    EscalationPolicy,
    OnCallAt,
    daytime_in,
)
from panicmail.incident.model import Incident
from panicmail.incident.people import Person
from panicmail.incident.push_channel import channel
from panicmail.incident.reply_tokens import Addresses, Purpose, ReplyRoutes, SigningKey, TokenSigner
from panicmail.incident.sender_proof import ProofState, SenderMethod, SenderProof, domains_of
from panicmail.incident.storm_rules import DigestLimits, Network, StormLimits
from panicmail.incident.triage import ReportKind, TriageRule
from panicmail.oncall import config_schedules
from panicmail.oncall.calendar_cache import CachedCalendar
from panicmail.oncall.schedules import Schedules


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """Everything about people, policy and mail that decisions are made by."""

    people: Mapping[str, Person]
    policies: Mapping[str, EscalationPolicy]  #: by name; the default one is there
    schedules: Schedules
    addresses: Addresses
    tokens: TokenSigner
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
    hostname: str
    detail: str  #: of pushes: "full", "subject" or "ref"
    labels: tuple[str, ...]
    uploads: str
    rules: tuple[TriageRule, ...] = ()  #: of `[[triage]]`
    scope: Mapping[str, str] = field(default_factory=dict)  #: kind of report -> where it belongs, in words
    engaged_severity: int | None = 2  #: of whoever says that they acted on a phish
    questions: tuple[str, ...] = ()  #: of the receipt, numbered from 1
    severity_label: str = "severity::{severity}"  #: "": none
    severity_field: bool = True
    storm: StormLimits = field(default_factory=StormLimits)
    digest: DigestLimits = field(default_factory=DigestLimits)
    trusted_relays: tuple[Network, ...] = ()  #: of our own mail servers in front
    method: SenderMethod = SenderMethod.NONE  #: how senders are checked
    reporters: Mapping[str, KnownReporter] = field(default_factory=dict)  #: by private address, lower case
    authserv_ids: tuple[str, ...] = ()  #: names of our own mail servers in their Authentication-Results

    def who_at(self, at: datetime) -> OnCallAt:
        """Who is on call in a role at `at`; the operators always are."""
        return lambda role: self.operators if role == OPERATOR else self.schedules.who(role, at)

    @property
    def policy(self) -> EscalationPolicy:
        """The default policy."""
        return self.policies[DEFAULT]

    @property
    def reply_routes(self) -> ReplyRoutes:
        """How answers find back."""
        return ReplyRoutes(self.tokens, self.addresses)

    def channels(self, person: str) -> tuple[str, ...]:
        """The ids of a person's push channels."""
        found = self.people.get(person)
        return tuple(channel.id for channel in found.push) if found else ()

    def policy_of(self, incident: Incident) -> EscalationPolicy:
        """The policy an incident follows; the default one when a reload took its own away."""
        return self.policies.get(incident.policy, self.policy)

    def duty(self, incident: Incident, now: datetime) -> Duty:
        """What holds for an incident at `now`: its policy, and who is on call."""
        return Duty(self.policy_of(incident), self.who_at(now), now)

    def policy_for(
        self, severity: int | None, subject: str, recipients: Sequence[str], *, drill: bool
    ) -> EscalationPolicy:
        """The policy a new panic follows.

        The addresses it went to choose one, the fastest of several; what it says of itself takes another one only where
        that calls nobody later. A drill follows the policy for drills, or the default one.
        """
        others = [policy for name, policy in self.policies.items() if name != DEFAULT]
        if drill:
            return min((one for one in others if one.choice.drill), key=_speed, default=self.policy)
        named = [one.name for one in others if one.choice.is_named(severity, subject)]
        return self.fastest(self.addressed_policy(recipients), named)

    def addressed_policy(self, recipients: Sequence[str]) -> EscalationPolicy:
        """The policy the addresses of a mail choose. One that chooses none asks for the default one."""
        others = [policy for name, policy in self.policies.items() if name != DEFAULT]
        asked: list[EscalationPolicy] = []
        for recipient in recipients:
            asked += [one for one in others if one.choice.is_addressed(recipient)] or [self.policy]
        return min(asked, key=_speed, default=self.policy)

    def fastest(self, base: EscalationPolicy, named: Iterable[str]) -> EscalationPolicy:
        """Of the policies a report's words name, the fastest that calls nobody later than `base`; else `base`."""
        known = [self.policies[name] for name in named if name in self.policies]
        return min((one for one in known if not one.slower_than(base)), key=_speed, default=base)

    def policy_said(self, incident: Incident, level: int) -> EscalationPolicy:
        """The policy for what one of our people says is of this severity: the fastest that lists it.

        Where none does it stays on its own, unless that one lists other severities.
        """
        current = self.policy_of(incident)
        listing = [one for one in self.policies.values() if level in one.choice.severities and not one.choice.drill]
        stays = current if not current.choice.severities else self.policy
        return min(listing, key=_speed, default=stays)

    def daytime_of(self, person: str) -> BusinessHours:
        """When mail that can wait comes to a person."""
        found = self.people.get(person)
        return daytime_in(found.tz) if found else DAYTIME

    def link(self, incident_id: str, person: str, round_: int = 0) -> str:
        """The address of `person`'s page of an incident; "" when there is no `[web] url`. `round_`: of the link
        (`incident_links.live_round`)."""
        if not self.web_url:
            return ""
        return f"{self.web_url}/i/{self.tokens.mint(Purpose.LINK, incident_id, person, round_)}"

    def is_known_sender(self, address: str) -> bool:
        """Whether `[senders]` names the address or its domain; everybody is known while `known` is empty."""
        return not self.known_senders or self.is_listed_sender(address)

    def is_listed_sender(self, address: str) -> bool:
        """Whether `[senders]` names the address or its domain; nobody is named when it is empty."""
        domain = address.rpartition("@")[2]
        return bool(address) and (address in self.reporters or not {address, domain}.isdisjoint(self.known_senders))

    def is_known_address(self, address: str) -> bool:
        """Whether words meant for a reporter may be pointed to `address`: of the house, or in the file of reporters."""
        return address in self.reporters or address.rpartition("@")[2] in self.receipt_domains

    def is_own_list(self, names: Iterable[str]) -> bool:
        """Whether one of the lists a mail came through is one of our addresses, by its address or its List-Id."""
        return any(map(self.addresses.is_list, names))

    def may_answer(self, report: Report) -> bool:
        """Whether the sender of this mail reads an answer: a person, and not by way of a foreign list."""
        own, listed = self.is_own_list(report.lists), self.is_listed_sender(report.from_address)
        return classify.may_be_answered(report, list_is_ours=own, listed_sender=listed)

    def may_have_receipt(self, address: str, proof: SenderProof) -> bool:
        """Whether a receipt may go to `address`: switched on, not one of our own, and either proved to have written or
        in a receipt domain and not proved to be forged."""
        if not self.receipts or not address or self.addresses.is_ours(address) or not proof.may_pass:
            return False
        return proof.state is ProofState.PROVED or address.rpartition("@")[2] in self.receipt_domains

    def could_have_receipt(self, address: str, proof: SenderProof) -> bool:
        """As `may_have_receipt`, where a sender that is not checked yet may still turn out to be proved."""
        hoped = ProofState.PROVED if proof.state is ProofState.PENDING else proof.state
        return self.may_have_receipt(address, replace(proof, state=hoped))

    @property
    def own_domains(self) -> frozenset[str]:
        """The domains of our people, and those reporters are known to write from."""
        ours = domains_of(a for person in self.people.values() for a in (person.email, *person.aliases))
        known = {sender.rpartition("@")[2] for sender in self.known_senders}
        return ours | known | frozenset(self.receipt_domains)


#: Answers the settings in force now; a reload changes the answer.
CurrentSettings = Callable[[], RuntimeSettings]


def from_config(
    config: Config, keys: Sequence[tuple[str, bytes]], copies: Mapping[str, CachedCalendar | None] | None = None
) -> RuntimeSettings:
    """The settings a configuration gives.

    Args:
        keys: (kid, secret), newest first.
        copies: By role, what answers for the calendars; None takes the last good copies from disk.
    """
    people = _people(config)
    return RuntimeSettings(
        people=people,
        policies=policies_of(config.escalation, config.policies),
        schedules=config_schedules.schedules(config, people, copies),
        addresses=_addresses(config),
        tokens=TokenSigner([SigningKey(kid, secret) for kid, secret in keys]),
        operators=config.operators.page,
        known_senders=tuple(s.lower() for s in config.senders.known),
        once_unknown=config.senders.unknown == "once",
        reporters=reporters.read(config.senders.reporters_file) if config.senders.reporters_file else {},
        receipts=config.receipts.enabled,
        receipt_domains=config.receipts.domains,
        hotline=config.receipts.phone,
        advice=config.receipts.advice,
        reporter_access=config.gitlab.reporter_access,
        sender=config.relay.sender,
        page_sender=config.relay.page_sender,
        web_url=config.web.url,
        hostname=config.smtp.hostname,
        detail=config.paging.detail,
        labels=config.gitlab.labels,
        uploads=config.gitlab.uploads,
        **_of_reports(config),
        storm=StormLimits(config.storm.members, config.storm.within),
        digest=DigestLimits(config.storm.digest_after, config.storm.digest_every),
        trusted_relays=config.smtp.trusted_relays,
        method=SenderMethod(config.authentication.method),
        authserv_ids=config.authentication.trusted_authserv_ids,
    )


def _of_reports(config: Config) -> dict[str, Any]:
    """What is done with what reports say."""
    return {
        "rules": triage_rules(config.triage),
        "scope": {kind.value: getattr(config.scope, kind.value) for kind in ReportKind},
        "engaged_severity": config.scope.engaged_severity or None,
        "questions": config.receipts.questions,
        "severity_label": config.gitlab.severity_label,
        "severity_field": config.gitlab.severity_field,
    }


def channels_of(config: Config) -> Mapping[str, tuple[str, ...]]:
    """The ids of everybody's push channels."""
    return {key: tuple(channel(url.get_secret_value()).id for url in p.push) for key, p in config.people.items()}


def _people(config: Config) -> dict[str, Person]:
    return {
        key: Person(
            id=key,
            name=p.name,
            email=p.email,
            aliases=p.aliases,
            phone=p.phone,
            gitlab=p.gitlab,
            tz=ZoneInfo(p.tz),
            proof=p.proof,
            detail=p.detail,
            key=p.key,
            push=tuple(channel(url.get_secret_value()) for url in p.push),
        )
        for key, p in config.people.items()
    }


def _speed(policy: EscalationPolicy) -> tuple[bool, timedelta, list[timedelta], bool]:
    """What comes first is faster; of two that are as fast the default one comes last."""
    calls = [policy.call_after(number) for number in range(8)]
    return policy.hours is not None, policy.sla, calls, policy.name == DEFAULT


def _addresses(config: Config) -> Addresses:
    also = [address for policy in config.policies.values() for address in policy.addresses]
    topics = dict.fromkeys(topic for rule in config.triage for topic in rule.topic)
    also += [address.replace("@", f"+{topic}@") for address in config.smtp.addresses for topic in topics]
    return Addresses(config.smtp.addresses, config.replies.address, _id_domain(config), also=also)


def _id_domain(config: Config) -> str:
    """What stands behind the @ of a Message-ID: the same on every node, whatever its host is called."""
    return config.smtp.addresses[0].rpartition("@")[2]
