"""Who wrote a mail: the whole of it, by DNS (`verify`) or by our own mail server in front (`trust`).

*Failed* are two things only: DMARC fails where the domain asks to refuse or set aside what fails; or a signature of the
From domain itself does not fit, and nothing else that is aligned passes. SPF alone never fails anybody. A mail without
a signature that came from a private address or by a relay of ours may be internal mail, which many companies do not
sign and whose sending host we do not see: it is not proved, and did not fail.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from panicmail.incident.sender_proof import ProofState, SenderProof
from panicmail.incident.storm_rules import is_relay_of_ours
from panicmail.mail.authenticate import authentication_results, domain_policies, signatures
from panicmail.mail.authenticate.authentication_results import EXCHANGE_ONLINE, FoundResults, MethodResult
from panicmail.mail.authenticate.dns_lookups import (
    WITHIN,
    DnsCache,
    FindsRecords,
    KeyFile,
    Resolver,
    SenderLookups,
    Unanswered,
)
from panicmail.mail.authenticate.domain_policies import DmarcPolicy, is_aligned
from panicmail.mail.authenticate.signatures import Signature
from panicmail.mail.parse.header import mailbox
from panicmail.mail.parse.normalize import NormalizedMail, canonical
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.rows import AcceptedMail


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderEnvelope:
    """How a mail came, as our listener saw it."""

    peer: str  #: the client's address; "" unknown
    mail_from: str
    helo: str
    by_relay: bool  #: the client is one of `[smtp] trusted_relays`


def from_domain(mail: NormalizedMail) -> str:
    """The domain of the one plain address in the one From field, lower case; "" where there is no such."""
    fields = mail.all("from")
    found = mailbox(fields[0]) if len(fields) == 1 and not mail.excessive else None
    return found[1].rpartition("@")[2] if found else ""


def verify(
    raw: bytes, sent: SenderEnvelope, lookups: FindsRecords, now: datetime, sealers: Collection[str] = ()
) -> SenderProof:
    """What DNS proves about the sender of a mail. Never raises for what a mail or DNS holds.

    Args:
        raw: The octets as they came.
        sealers: Domains of forwarders whose seals (ARC) are believed.
    """
    mail = canonical(raw)
    domain = from_domain(mail)
    if not domain:
        return SenderProof(state=ProofState.UNPROVED, why="From does not name one plain address")
    return _Check(mail, domain, sent, lookups, now, sealers).proof()


@dataclass(slots=True)
class _Check:
    """One mail, being checked. What DNS does not answer is noted, and the next way is tried."""

    mail: NormalizedMail
    domain: str
    sent: SenderEnvelope
    lookups: FindsRecords
    now: datetime
    sealers: Collection[str]
    unanswered: list[str] = field(default_factory=list)
    policy: DmarcPolicy | None = None
    signed: Sequence[Signature] = ()

    def proof(self) -> SenderProof:
        self.policy = self._policy()
        self.signed = signatures.check(self.mail, [domain_policies.organisation(self.domain)], self.lookups, self.now)
        self.unanswered += [one.why for one in self.signed if one.unanswered]
        proved = self._by_signature() or self._by_seal() or self._by_server()
        if proved is not None:
            return proved
        if self.unanswered:
            return SenderProof(state=ProofState.UNKNOWN, domain=self.domain, why=self.unanswered[0])
        if why := self._why_failed():
            return SenderProof(state=ProofState.FAILED, domain=self.domain, why=why)
        return SenderProof(state=ProofState.UNPROVED, domain=self.domain, why=self._why_unproved())

    def _policy(self) -> DmarcPolicy | None:
        try:
            return domain_policies.dmarc_of(self.domain, self.lookups)
        except Unanswered as error:
            self.unanswered.append(str(error))
            return DmarcPolicy(refuses=False, strict_dkim=True, strict_spf=True)

    def _by_signature(self) -> SenderProof | None:
        strictly = self.policy is not None and self.policy.strict_dkim
        good = [s for s in self.signed if s.passed and is_aligned(s.domain, self.domain, strictly=strictly)]
        own = [s for s in good if s.domain == self.domain]
        if not good:
            return None
        acts = any(one.is_whole and one.is_fresh for one in own)
        return self._proved("dkim", (own or good)[0].domain, acts=acts)

    def _by_seal(self) -> SenderProof | None:
        try:
            seal = signatures.seal_of(self.mail, self.sealers, self.lookups)
        except Unanswered as error:
            self.unanswered.append(str(error))
            return None
        if seal is None:
            return None
        _, results = authentication_results.parse(seal.results)
        found = _passed(results, self.domain)
        return self._proved("arc", seal.sealer, acts=found == self.domain) if found else None

    def _by_server(self) -> SenderProof | None:
        if self.policy is None or not self._shows_its_host():
            return None
        try:
            domain = domain_policies.spf_domain(self.sent.peer, self.sent.mail_from, self.sent.helo, self.lookups)
        except Unanswered as error:
            self.unanswered.append(str(error))
            return None
        is_theirs = is_aligned(domain, self.domain, strictly=self.policy.strict_spf)
        return self._proved("spf", domain, acts=False) if is_theirs else None

    def _shows_its_host(self) -> bool:
        """Whether the peer is the host that SPF is about: a public address, and no relay of ours."""
        return not self.sent.by_relay and bool(self.sent.peer) and _address(self.sent.peer).is_global

    def _why_failed(self) -> str:
        broken = [
            one for one in self.signed if one.passed is False and is_aligned(one.domain, self.domain, strictly=False)
        ]
        if broken:
            return f"the signature of {broken[0].domain}: {broken[0].why}"
        if self.policy is None or not self.policy.refuses:
            return ""
        return "" if self._may_be_internal() else f"DMARC failed, and {self.domain} asks to refuse what fails"

    def _may_be_internal(self) -> bool:
        if self.mail.all("dkim-signature"):
            return False
        peer = _address(self.sent.peer) if self.sent.peer else None
        return self.sent.by_relay or (peer is not None and peer.is_private and not peer.is_loopback)

    def _why_unproved(self) -> str:
        weak = next((one.why for one in self.signed if one.passed is None), "")
        others = filter(None, map(_defanged, signatures.signers(self.mail)))
        other = next(others, "")
        return weak or (f"signed by {other}, not by {self.domain}" if other else "")

    def _proved(self, by: str, signer: str, *, acts: bool) -> SenderProof:
        return SenderProof(state=ProofState.PROVED, domain=self.domain, by=by, signer=signer, acts=acts)


def _defanged(domain: str) -> str:
    """A stranger's domain, to be read and not to be clicked; "" for what is no domain."""
    is_plain = len(domain) < 80 and domain.replace("-", "").replace(".", "").isalnum() and domain.isascii()
    return domain.replace(".", "[.]") if is_plain else ""


def _address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of a peer; one that is no address counts as nobody's."""
    try:
        found = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return ipaddress.IPv4Address(0)
    return getattr(found, "ipv4_mapped", None) or found


def trust(mail: NormalizedMail, sent: SenderEnvelope, servers: Collection[str]) -> SenderProof:
    """What our own mail server in front found about the sender. Asks nobody; never raises.

    Args:
        servers: `[authentication] trusted_authserv_ids`.
    """
    domain = from_domain(mail)
    unproved = SenderProof(state=ProofState.UNPROVED, domain=domain)
    if not domain:
        return SenderProof(state=ProofState.UNPROVED, why="From does not name one plain address")
    if not sent.by_relay:
        return _because(unproved, "it did not come by a mail server of ours")
    found = authentication_results.topmost(mail.all("authentication-results"), servers)
    if found is None:
        return _because(unproved, "our mail server says nothing about it")
    if proved := _passed(found.results, domain) or _internal(mail, found, domain):
        return SenderProof(
            state=ProofState.PROVED, domain=domain, by="results", signer=found.server, acts=proved == domain
        )
    return _unpassed(found, domain)


def _because(proof: SenderProof, why: str) -> SenderProof:
    return SenderProof(state=proof.state, domain=proof.domain, why=why)


def _passed(results: Sequence[MethodResult], domain: str) -> str:
    """The domain that these results prove, aligned with the From domain, that one itself before others; "" none."""
    found = [r.domain("header.from") for r in results if r.method == "dmarc" and r.result == "pass"]
    found = [one for one in found if one == domain]
    found += [r.domain("header.d", "header.i") for r in results if r.method == "dkim" and r.result == "pass"]
    aligned = [one for one in found if is_aligned(one, domain, strictly=False)]
    return domain if domain in aligned else next(iter(aligned), "")


def _internal(mail: NormalizedMail, found: FoundResults, domain: str) -> str:
    """The From domain, where Exchange Online says that somebody of the house is signed in."""
    said = [value.strip().lower() for value in mail.all("x-ms-exchange-organization-authas")]
    return domain if found.server == EXCHANGE_ONLINE and said == [b"internal"] else ""


def _unpassed(found: FoundResults, domain: str) -> SenderProof:
    dmarc = next((r for r in found.results if r.method == "dmarc" and r.domain("header.from") in {domain, ""}), None)
    signed = [r for r in found.results if r.method == "dkim" and r.result in {"fail", "hardfail"}]
    broken = [r for r in signed if is_aligned(r.domain("header.d", "header.i"), domain, strictly=False)]
    if broken:
        return SenderProof(state=ProofState.FAILED, domain=domain, why=f"{found.server}: dkim={broken[0].result}")
    if dmarc is not None and dmarc.result == "fail" and dmarc.refuses:
        return SenderProof(state=ProofState.FAILED, domain=domain, why=f"{found.server}: dmarc=fail")
    if any(r.result == "temperror" for r in found.results if r.method in {"dkim", "dmarc"}):
        return SenderProof(state=ProofState.UNKNOWN, domain=domain, why=f"{found.server}: temperror")
    return SenderProof(state=ProofState.UNPROVED, domain=domain, why="" if not signed else "another domain signed it")


class SenderChecker:
    """Checks senders by DNS. Safe to use from several threads.

    Args:
        nameservers: (address, port) of each; none: those of the system.
        keys: Where the keys of our own people's domains are kept.
        domains: Those domains, lower case.
        sealers: As of `verify`.
    """

    def __init__(
        self, nameservers: Sequence[tuple[str, int]], keys: Path, domains: Collection[str], sealers: Collection[str]
    ) -> None:
        self._cache = DnsCache(Resolver(nameservers))
        self._keys = KeyFile(keys, domains)
        self._sealers = sealers

    def check(self, raw: bytes, mail: AcceptedMail, settings: RuntimeSettings, now: datetime) -> SenderProof:
        """What DNS proves about the sender of a mail, within `dns_lookups.WITHIN` seconds."""
        lookups = SenderLookups(cache=self._cache, now=now, until=time.monotonic() + WITHIN, keys=self._keys)
        return verify(raw, envelope_of(mail, settings), lookups, now, self._sealers)


def envelope_of(mail: AcceptedMail, settings: RuntimeSettings) -> SenderEnvelope:
    """How a mail came."""
    by_relay = is_relay_of_ours(mail.peer, settings.trusted_relays)
    return SenderEnvelope(peer=mail.peer, mail_from=mail.mail_from, helo=mail.helo, by_relay=by_relay)
