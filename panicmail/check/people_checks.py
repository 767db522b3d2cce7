"""People: whether one broken thing could leave somebody unreachable, and what was proved of each channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType

from panicmail.check import certificate_checks
from panicmail.check.result import CheckVerdict, Group, ParallelChecks, PendingAnswer, Row
from panicmail.config import Config
from panicmail.delivery import http_client
from panicmail.delivery.apprise import AppriseClient
from panicmail.errors import PanicmailError, Permanent
from panicmail.incident import push_channel
from panicmail.incident.people import EncryptionKey, Person
from panicmail.mail import encryption
from panicmail.oncall import calendar_source, config_schedules
from panicmail.oncall.calendar_source import Feed, FetchOutcome
from panicmail.oncall.calendars import Calendar
from panicmail.oncall.channels_of import ContactChannel, by_push, is_within, ways_to
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.oncall.schedules import Schedules
from panicmail.oncall.spans import OnCallSpan
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


# -- Rosters: who is on call now, what is missing in the coming two weeks, and whether the calendars can be read.

#: So far ahead a gap is told.
AHEAD = timedelta(days=14)
#: A calendar nobody could read for so long is told; a shorter silence passes.
OLD_AFTER = timedelta(days=1)
#: For all calendars together, in seconds, and for each one's answer.
SECONDS, FETCH_SECONDS = 10.0, 6.0
#: So many gaps of a role are named.
_NAMED = 3

_ROSTER = Group.ROSTER
_CAUSE = "check_roster"


def ask_calendars(config: Config, now: datetime) -> list[FetchOutcome]:
    """Ask every calendar for what it says now; what it last said where there is no answer. Nothing is written."""
    asking = ParallelChecks(SECONDS)
    asked = [
        (feed, asking.ask(partial(calendar_source.ask, feed, feed.last_copy(), _fetch, now)))
        for feed in config_schedules.feeds(config)
    ]
    return [_outcome(feed, answer) for feed, answer in asked]


def _outcome(feed: Feed, answer: PendingAnswer[FetchOutcome]) -> FetchOutcome:
    try:
        return answer.wait()
    except PanicmailError as exc:
        return FetchOutcome(role=feed.role, copy=feed.last_copy(), failure=f"{exc}")


def _fetch(url: str) -> bytes:
    return http_client.get(url, timeout=FETCH_SECONDS, limit=calendar_source.LARGEST + 1)


def schedule_rows(
    settings: RuntimeSettings, now: datetime, failures: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Row]:
    """Who is on call in each role, and what should be mended before it comes.

    Args:
        failures: By role, why its calendar could not be read just now.
    """
    schedules = settings.schedules
    faults = schedules.faults(now, now + AHEAD)
    for role in schedules.roles:
        yield _now(settings, role, now).told_as(_CAUSE)
        yield _ahead(role, faults.get(role, ())).told_as(_CAUSE)
    for role, calendar in schedules.calendars.items():
        yield _calendar(role, calendar, failures.get(role) or calendar.failure, now).told_as("check_calendar")
    yield from _one_person(settings, now)


def _now(settings: RuntimeSettings, role: str, now: datetime) -> Row:
    duties = settings.schedules.on_call(role, now)
    names = ", ".join(f"{settings.people[duty.person].name} ({duty.source})" for duty in duties)
    if names:
        return _ROSTER.ok(role, names)
    return _ROSTER.failed(role, "nobody now", f"name somebody in oncall.{role}.fixed or .fallback")


def _ahead(role: str, faults: Sequence[OnCallSpan]) -> Row:
    subject = f"{role} ahead"
    if not faults:
        return _ROSTER.ok(subject, f"the coming {AHEAD.days} days have no gap")
    told = "; ".join(_fault(span) for span in faults[:_NAMED])
    more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    if any(not span.people for span in faults):
        mend = f"put somebody on call, or name somebody in oncall.{role}.fallback; panicmail oncall shows the days"
        return _ROSTER.failed(subject, told + more, mend)
    return _ROSTER.warning(subject, told + more, "put somebody on call then; panicmail oncall shows the days")


def _fault(span: OnCallSpan) -> str:
    """In words that are the same tomorrow: the daily re-check compares them."""
    who = ", ".join(span.people) or "nobody is called"
    why = f"unknown {', '.join(span.unknown)}" if span.unknown else "nobody on call"
    instead = " instead" if span.people else ""
    return f"{span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M} UTC: {why}, {who}{instead}"


def _calendar(role: str, calendar: Calendar, failure: str, now: datetime) -> Row:
    subject, age = f"{role} calendar", calendar.age(now)
    mend = f"see oncall.{role}.ical, and that this host may reach it"
    if age is None:
        found = f"it was never read{f' ({failure})' if failure else ''}: its hours are the fallback's"
        return _ROSTER.failed(subject, found, mend)
    told = f"read {calendar.read_at:%Y-%m-%d %H:%M} UTC"
    if failure:
        row = _ROSTER.warning(subject, f"it cannot be read ({failure}); the copy {told} answers", mend)
        return row if age > OLD_AFTER else row.passes()
    mend = "write them again in the calendar, or delete them; panicmail oncall shows who is called"
    if calendar.doubt and now < calendar.doubt.until:
        return _ROSTER.warning(subject, f"{told}: {calendar.doubt.why}", f"see whether that is meant, else {mend}")
    if mistakes := calendar.mistakes(now, now + AHEAD):
        more = f"; and {len(mistakes) - _NAMED} more" if len(mistakes) > _NAMED else ""
        found = f"nobody is on call by {'; '.join(map(str, mistakes[:_NAMED]))}{more}"
        return _ROSTER.warning(subject, found, mend)
    notes = f"; {'; '.join(calendar.notes)}" if calendar.notes else ""
    return _ROSTER.ok(subject, told + notes)


# -- one person in two roles


def _one_person(settings: RuntimeSettings, now: datetime) -> Iterator[Row]:
    """Whether the first and the last step come to the same single person at some hour to come.

    That they do so now is told of the policy (`offline`).
    """
    policy = settings.policy
    first, last = policy.steps[0].page, policy.managers
    hours = _same_person(settings.schedules, first, last, now)
    roles = f"{', '.join(first)} and {', '.join(last)}"
    mend = "put two people on call in those roles: nobody else is called when that one sleeps"
    if not hours:
        found = f"{roles} are never one person alone in the coming {AHEAD.days} days"
        yield _ROSTER.ok("two people", found).told_as("check_roles")
    elif hours[0][0] > now:
        start, who = hours[0]
        found = f"{settings.people[who].name} is both {roles}, from {start:%Y-%m-%d %H:%M} UTC"
        yield _ROSTER.warning("two people", found, mend).told_as("check_roles")


def _same_person(
    schedules: Schedules, first: Sequence[str], last: Sequence[str], now: datetime
) -> list[tuple[datetime, str]]:
    """When it begins that all of these roles are one person, and who."""
    roles = dict.fromkeys([*first, *last])
    cuts = sorted({span.start for role in roles for span in schedules.spans(role, now, now + AHEAD)})
    found: list[tuple[datetime, str]] = []
    for cut in cuts:
        people = {person for role in roles for person in schedules.who(role, cut)}
        if len(people) == 1:
            found.append((cut, people.pop()))
    return found
