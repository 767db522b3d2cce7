"""The relay: whether it takes us, our senders, and a page to each person. Nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

from panicmail.check import certificate_checks
from panicmail.check.result import Group, ParallelChecks, PendingAnswer, Row
from panicmail.config import Config
from panicmail.delivery.smtp_client import Rehearsal, RelayClient, relay_client
from panicmail.errors import PanicmailError, Permanent
from panicmail.incident.reply_tokens import Purpose
from panicmail.mail import dkim_signing
from panicmail.mail.authenticate.dns_lookups import Resolver
from panicmail.oncall.runtime_settings import RuntimeSettings

#: For one mail altogether, in seconds, and for all of them.
STEP_SECONDS, SECONDS = 2.5, 8.0

_RELAY = Group.RELAY
_CAUSE = "check_relay"
_REACH = "see [relay] url: host, port, kind of TLS, user and password; and that this host may reach it"
_SENDER = "let the relay take mail of panicmail's host from its addresses; ask whoever runs the relay"
#: Of the form of an incident's id, and nobody's.
_NOBODYS = "checkcheckcheckc"


def connect(config: Config, timeout: float = STEP_SECONDS) -> RelayClient:
    """A connection to the relay, for one thread."""
    return relay_client(config.relay, config.smtp.hostname, timeout)


def rows(config: Config, settings: RuntimeSettings, now: datetime) -> list[Row]:
    """Every row, or one when the relay takes none of us."""
    asking = ParallelChecks(SECONDS)

    def rehearse(mail_from: str, recipient: str = "") -> PendingAnswer[Rehearsal]:
        return asking.ask(lambda: connect(config).rehearse(mail_from, recipient))

    pages = {key: rehearse(_bounces_to(settings, key), person.email) for key, person in config.people.items()}
    us, null = rehearse(_bounces_to(settings, "")), rehearse("")
    others = [*_fallbacks(config, settings, asking), *_signature(config, asking)]
    try:
        taken = us.wait()
    except PanicmailError as exc:
        return [_not_taken(config, exc), *(row() for row in others)]
    told = f"{config.relay.url} takes us{f', under {taken.tls}' if taken.tls else ', in the clear'}"
    found = [_RELAY.ok("relay answers", told).told_as(_CAUSE), _null_sender(null)]
    if taken.certificate_ends_at is not None:
        mend = "whoever runs the relay must renew its certificate; without it no page gets out"
        ends_at = taken.certificate_ends_at
        found.append(certificate_checks.judge(_RELAY, "relay certificate", ends_at, now, mend))
    return [*found, *(row() for row in others), *_people(config, pages)]


def _fallbacks(config: Config, settings: RuntimeSettings, asking: ParallelChecks) -> Iterator[Callable[[], Row]]:
    """Whether each of the relays that stand in takes a page; the rows wait for their answers."""
    for number, url in enumerate(config.relay.fallback, 2):
        client = relay_client(config.relay, config.smtp.hostname, STEP_SECONDS, url=url)
        answer = asking.ask(partial(client.rehearse, _bounces_to(settings, "")))
        yield partial(_fallback_row, f"relay {number} answers", str(url), answer)


def _fallback_row(subject: str, url: str, answer: PendingAnswer[Rehearsal]) -> Row:
    try:
        taken = answer.wait()
    except PanicmailError as exc:
        mend = "see [relay] fallback: what the first relay does not take in time finds no other way there"
        return _RELAY.failed(subject, f"{url}: {exc}", mend).told_as(_CAUSE).passes()
    return _RELAY.ok(subject, f"{url} takes pages{f', under {taken.tls}' if taken.tls else ''}").told_as(_CAUSE)


def _signature(config: Config, asking: ParallelChecks) -> Iterator[Callable[[], Row]]:
    """Whether what we sign can be verified: the key, and its record in DNS."""
    relay, servers = config.relay, config.authentication.nameservers
    if relay.dkim is None:
        return
    found = dkim_signing.signer(relay.dkim.selector, relay.dkim_domain, relay.dkim.key_file)
    if found is None:
        mend = "run panicmail keys dkim, and restart"
        missing = _RELAY.warning("dkim", f"{relay.dkim.key_file} is not there: mail goes out unsigned", mend)
        yield lambda: missing
        return
    resolver = Resolver([(server.host, server.port) for server in servers])
    yield partial(_dkim_row, found, asking.ask(lambda: dkim_signing.published_key(found, resolver)))


def _dkim_row(signer: dkim_signing.DkimSigner, answer: PendingAnswer[str | None]) -> Row:
    mend = "put the record into the zone that panicmail keys dkim prints"
    try:
        ours = dkim_signing.public_key(signer.key)
        published = answer.wait()
    except ValueError as exc:
        return _RELAY.failed("dkim", f"the key cannot be used ({exc}): mail goes out unsigned", "panicmail keys dkim")
    except PanicmailError as exc:
        return _RELAY.warning("dkim", f"{signer.name} cannot be looked up: {exc}", "see [authentication] nameservers")
    if published is None:
        found = f"{signer.name} has no key in DNS: what is signed cannot be verified"
        return _RELAY.failed("dkim", found, mend).told_as(_CAUSE)
    if published != ours:
        found = f"{signer.name} has another key in DNS: every signature of ours fails"
        return _RELAY.failed("dkim", found, mend).told_as(_CAUSE)
    return _RELAY.ok("dkim", f"mail is signed as {signer.domain}, and {signer.name} has the key").told_as(_CAUSE)


def _bounces_to(settings: RuntimeSettings, person: str) -> str:
    """An envelope sender such as pages have."""
    addresses = settings.addresses
    if not addresses.carries_token:
        return settings.page_sender
    return addresses.reply_to(settings.tokens.mint(Purpose.BOUNCE, _NOBODYS, person))


def _not_taken(config: Config, exc: PanicmailError) -> Row:
    if isinstance(exc, Permanent):
        found = f"{config.relay.url} refuses the sender of our pages: {exc}"
        return _RELAY.failed("relay answers", found, _SENDER).told_as(_CAUSE)
    return _RELAY.failed("relay answers", f"{config.relay.url}: {exc}", _REACH).told_as(_CAUSE).passes()


def _null_sender(answer: PendingAnswer[Rehearsal]) -> Row:
    try:
        answer.wait()
    except PanicmailError as exc:
        found = f"mail from the null sender is not taken ({exc}): receipts and answers do not get out"
        return _RELAY.failed("null sender", found, _SENDER).told_as(_CAUSE)
    return _RELAY.ok("null sender", "taken; receipts and answers come from it").told_as(_CAUSE)


def _people(config: Config, pages: dict[str, PendingAnswer[Rehearsal]]) -> Iterator[Row]:
    for key, answer in pages.items():
        address, subject = config.people[key].email, f"{key} mail"
        try:
            row = Group.PEOPLE.ok(subject, f"the relay takes a page to {address}: {answer.wait().answer}")
        except Permanent as exc:
            mend = f"see that people.{key}.email is right, and that the relay may send there"
            row = Group.PEOPLE.failed(subject, f"the relay refuses {address}: {exc}", mend)
        except PanicmailError as exc:
            mend = "run panicmail check again in some minutes; if it stays so, ask whoever runs the relay"
            row = Group.PEOPLE.warning(subject, f"the relay does not take {address} now: {exc}", mend).passes()
        yield row.told_as(_CAUSE).of(key)
