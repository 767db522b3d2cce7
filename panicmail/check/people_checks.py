"""People: whether one broken thing could leave somebody unreachable, and what was proved of each channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from panicmail.check import certificate_checks
from panicmail.check.result import CheckVerdict, Group, Row
from panicmail.config import Config
from panicmail.delivery.apprise import AppriseClient
from panicmail.errors import Permanent
from panicmail.incident import push_channel
from panicmail.incident.people import EncryptionKey, Person
from panicmail.mail import encryption
from panicmail.oncall.channels_of import ContactChannel, by_push, is_within, ways_to
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.channel_proofs import Proof, ProofKind
from panicmail.store.rows import OutboxRow

#: What was proved longer ago is to be proved again.
STALE_AFTER = timedelta(days=90)

_PEOPLE = Group.PEOPLE
_MEND = "see people.{0}.push and that service; panicmail check --page {0} tries it again"
#: What proves a channel, and in which words.
_PROVES = {ProofKind.REPLY: "by reply", ProofKind.DELIVERED: "by its code in the reply"}


def rows(config: Config, settings: RuntimeSettings) -> Iterator[Row]:
    """The ways to each person, as the configuration has them."""
    own = _own_domains(config)
    return (_person(person, own).of(person.id) for person in settings.people.values())


def _person(person: Person, own: Sequence[str]) -> Row:
    ways, key = ways_to(person), person.id
    told = f"{person.name}: {', '.join([*(way.shown for way in ways), *_phone(person.phone)])}"
    if all(is_within(way, own) for way in ways):
        found = f"{told}; every way is mail in {', '.join(own)}: nobody is reached while that is down"
        mend = f"give {person.first_name} a push URL (people.{key}.push), or an address elsewhere"
        return _PEOPLE.failed(key, found, mend)
    if len(ways) == 1:
        mend = f"give {person.first_name} a second one: people.{key}.push"
        return _PEOPLE.warning(key, f"{told}; one way only", mend)
    return _PEOPLE.ok(key, told)


def keys(settings: RuntimeSettings, now: datetime) -> Iterator[Row]:
    """What mails are encrypted by: whether it is good, for how long, and made out to its person."""
    for person in settings.people.values():
        if person.key is not None:
            yield _key(person, person.key, now).of(person.id)


def _key(person: Person, key: EncryptionKey, now: datetime) -> Row:
    subject = f"{person.id} {key.kind}"
    mend = f"put the new key of {person.first_name} into {key.path}, and reload panicmail"
    try:
        facts = encryption.read_key(key)
    except ValueError as exc:
        return _PEOPLE.failed(subject, f"found {exc}", mend)
    theirs = ", ".join(facts.addresses)
    if facts.addresses and not any(map(person.writes_from, facts.addresses)):
        return _PEOPLE.failed(subject, f"{facts.shown} is made out to {theirs}, not to {person.email}", mend)
    if facts.ends_at is None:
        return _PEOPLE.ok(subject, f"{facts.shown}, for {theirs or 'nobody by name'}")
    row = certificate_checks.judge(_PEOPLE, subject, facts.ends_at, now, mend)
    return replace(row, found=f"{facts.shown}, for {theirs or 'nobody by name'}: {row.found}")


def _phone(phone: str) -> list[str]:
    return [f"phone {phone}"] if phone else []


def _own_domains(config: Config) -> tuple[str, ...]:
    """The company's: of panicmail's addresses, and those whose people get receipts."""
    given = [*(address.rpartition("@")[2] for address in config.smtp.addresses), *config.receipts.domains]
    return tuple(dict.fromkeys(given))


def pushes(config: Config, settings: RuntimeSettings) -> list[Row]:
    """Whether each push URL is one that a service understands. Nobody is asked, nothing is sent."""
    push = AppriseClient()
    theirs = [(person.id, way) for person in settings.people.values() for way in ways_to(person) if not way.is_mail]
    own = [by_push(push_channel.channel(url.get_secret_value())) for url in config.watch.push]
    return [
        *(replace(_push(push, key, f"people.{key}", way).told_as("check_push").of(key), channel=way.name)
          for key, way in theirs),
        *(_push(push, "watch's", "watch", way) for way in own),
    ]  # fmt: skip


def _push(push: AppriseClient, whose: str, table: str, way: ContactChannel) -> Row:
    subject, channel = f"{whose} push", way.channel
    if channel is None or channel.pagerduty_key is not None:
        return _PEOPLE.ok(subject, "PagerDuty, by an integration key; nothing was sent")
    try:
        push.check(channel.url)
    except Permanent as exc:
        mend = f"write {table}.push as that service wants it: Apprise's page about it has the form"
        return _PEOPLE.failed(subject, f"{exc}", mend)
    return _PEOPLE.ok(subject, f"{channel.shown} is understood; nothing was sent")


def recalled(
    rows: Iterable[Row], settings: RuntimeSettings, refused: Iterable[OutboxRow], proofs: Iterable[Proof]
) -> list[Row]:
    """The rows; those of `pushes` with what is on record: that a channel refused the last push it was given.

    Args:
        refused: By channel, the last push of those that took none since.
        proofs: A test page that was taken counts as one.
    """
    taken = {(proof.person, proof.channel): proof.at for proof in proofs if proof.what is ProofKind.TAKEN}
    last = {(task.person, task.facts["channel"]): task for task in refused}
    shown = {channel.id: channel.shown for person in settings.people.values() for channel in person.push}

    def with_refusal(row: Row) -> Row:
        task, taken_at = last.get((row.person, row.channel)), taken.get((row.person, row.channel))
        if not row.is_ok or task is None or task.done_at is None or (taken_at and taken_at > task.done_at):
            return row
        found = f"{shown[row.channel]} refused the last push, {task.done_at:%Y-%m-%d %H:%M} UTC: {task.answer}"
        return replace(row, verdict=CheckVerdict.WARNING, found=found, mend=_MEND.format(row.person))

    return [with_refusal(row) for row in rows]


# -- what was proved


def proven(settings: RuntimeSettings, proofs: Sequence[Proof], now: datetime) -> Iterator[Row]:
    """When each way last showed that it reaches its person."""
    latest = {(proof.person, proof.channel, proof.what): proof for proof in proofs}
    for person in settings.people.values():
        told = [_proven(person.id, way, latest, now) for way in ways_to(person)]
        found, subject = "; ".join(words for words, _ in told), f"{person.id} proven"
        if all(is_fresh for _, is_fresh in told):
            yield _PEOPLE.ok(subject, found).of(person.id)
        else:
            yield _PEOPLE.warning(subject, found, f"panicmail check --page {person.id}").of(person.id)


def _proven(
    key: str, way: ContactChannel, latest: Mapping[tuple[str, str, ProofKind], Proof], now: datetime
) -> tuple[str, bool]:
    """In words, and whether it is proved and not too long ago."""
    proof = latest.get((key, way.name, ProofKind.REPLY if way.is_mail else ProofKind.DELIVERED))
    failed = latest.get((key, way.name, ProofKind.FAILED))
    if proof is not None and (failed is None or failed.at <= proof.at):
        is_fresh = now - proof.at <= STALE_AFTER
        age = "" if is_fresh else f", {(now - proof.at).days} days ago"
        return f"{way.shown}: proven {proof.at:%Y-%m-%d} {_PROVES[proof.what]}{age}", is_fresh
    if failed is not None:
        return f"{way.shown}: not proven {failed.at:%Y-%m-%d}, {failed.how}", False
    return f"{way.shown}: never proven", False
