"""What no key can answer alone: people who do not exist, steps that page nobody, addresses that would loop.

Each check looks only at values that could be read, so that a mistake is told once, where it was made.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from panicmail.config import policies, reporters
from panicmail.config.inference import ConfigDraft
from panicmail.config.mistakes import Place, nearest, spell
from panicmail.config.schema import ListenerSettings, OverrideSettings, ShiftSettings, StepSettings
from panicmail.config.values import Ical, Listen, SocketAddress, UnixSocket, is_loopback, written
from panicmail.incident import push_channel
from panicmail.incident.escalation_policy import DEFAULT
from panicmail.incident.triage import MOST_PATTERNS


def check(draft: ConfigDraft) -> None:
    """Record every mistake that shows only between keys."""
    for one in (_people, _rosters, _operators, _policies, _panic_addresses, _replies, _addresses_of_people, _tls,
                _listeners, _dkim, _relay_authority, _authentication, _reporters, _triage):  # fmt: skip
        one(draft)


def _dkim(draft: ConfigDraft) -> None:
    """The signature is for the domain our mails are from; of the key, `check` and `panicmail keys dkim` say more."""
    dkim, sender = draft.get("relay", "dkim"), draft.get("relay", "sender")
    host = sender.rpartition("@")[2] if sender else ""
    if dkim is not None and host and dkim.domain and not f".{host}".endswith(f".{dkim.domain}"):
        expected = f"{host}, the domain of relay.sender, or one above it: else the signature counts for nothing"
        draft.mistakes.add(("relay", "dkim", "domain"), dkim.domain, expected)


def _relay_authority(draft: ConfigDraft) -> None:
    """A file of authorities that is none would make every relay a stranger, in the night it is first asked."""
    path: Path | None = draft.get("relay", "ca_file")
    try:
        if path:
            ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError):
        expected = "certificates of authorities in PEM"
        draft.mistakes.say(
            ("relay", "ca_file"), f"found a file with none that can be read ({path}), expected {expected}"
        )


def _authentication(draft: ConfigDraft) -> None:
    """What our own mail server found is believed only of mail that comes by it, and under its name."""
    if draft.get("authentication", "method") != "trusted":
        return
    for table, key, what in (
        ("smtp", "trusted_relays", "the networks of your own mail servers"),
        ("authentication", "trusted_authserv_ids", "the names they write into Authentication-Results"),
    ):
        if not draft.get(table, key) and not draft.mistakes.touches((table, key)):
            found = 'found nothing, though authentication.method is "trusted"'
            draft.mistakes.say((table, key), f"{found}, expected {what}")


def _reporters(draft: ConfigDraft) -> None:
    path: Path | None = draft.get("senders", "reporters_file")
    if path is None:
        return
    try:
        reporters.read(path)
    except ValueError as error:
        draft.mistakes.say(("senders", "reporters_file"), str(error))


#: What a rule of `[[triage]]` looks at, and what it does.
_LOOKS_AT, _DOES = ("subject", "body", "sender", "topic", "question"), ("severity", "labels", "page", "policy")


def _triage(draft: ConfigDraft) -> None:
    """Each rule looks at something, does something, and names what is there."""
    if draft.mistakes.touches(("triage",)):
        return
    rules = draft.rows("triage")
    known = {*draft.names("people"), *draft.names("oncall")}
    policies_there = {DEFAULT, *draft.names("policies")}
    for number, rule in enumerate(rules):
        place: Place = ("triage", number)
        for keys, what in ((_LOOKS_AT, "looks at"), (_DOES, "does")):
            if not any(getattr(rule, key) for key in keys):
                draft.mistakes.say(place, f"found nothing it {what}, expected one of {', '.join(keys)}")
        for at, who in enumerate(rule.page):
            if who not in known:
                draft.mistakes.add((*place, "page", at), who, f"one of the people and roles, {nearest(who, known)}")
        if rule.policy and rule.policy not in policies_there:
            expected = f"one of the policies, {nearest(rule.policy, policies_there)}"
            draft.mistakes.add((*place, "policy"), rule.policy, expected)
        questions = draft.get("receipts", "questions") or ()
        if rule.question is not None and rule.question > len(questions):
            expected = f"the number of one of the {len(questions)} in receipts.questions"
            draft.mistakes.add((*place, "question"), rule.question, expected)
        if rule.answer and rule.question is None:
            draft.mistakes.say((*place, "question"), "found nothing, expected the number of the question it answers")
    many = sum(len(rule.subject) + len(rule.body) + len(rule.answer) for rule in rules)
    if many > MOST_PATTERNS:
        draft.mistakes.say(("triage",), f"found {many} patterns, expected {MOST_PATTERNS} at most, in all rules")


def warnings(draft: ConfigDraft) -> Iterator[str]:
    """What works but should be looked at."""
    yield from _in_the_clear(draft)
    named = {name: draft.whole("policies", name) for name in draft.names("policies")}
    yield from policies.never_chosen(draft.whole("escalation"), named)
    yield from policies.never_raised_to(draft.whole("escalation"), named, draft.rows("triage"))
    if (dkim := draft.get("relay", "dkim")) and not dkim.key_file.exists():
        yield f"relay.dkim: {dkim.key_file} is not there, so mail goes out unsigned; make it with panicmail keys dkim"
    for role in draft.names("oncall"):
        fallback = draft.get("oncall", role, "fallback")
        if fallback and draft.get("oncall", role, "fixed"):
            yield f"oncall.{role}.fallback: a fixed roster has no gaps, so nobody here is ever paged; leave it out"
        if not fallback and draft.get("oncall", role, "ical"):
            yield f"oncall.{role}.ical: nobody answers when it has a gap or cannot be read; name somebody in fallback"
    heartbeat: SecretStr | None = draft.get("watch", "heartbeat_url")
    if heartbeat and "{who}" not in heartbeat.get_secret_value():
        yield "watch.heartbeat_url: daemon and watch ping the same switch, so it misses neither alone; put {who} in it"


def _in_the_clear(draft: ConfigDraft) -> Iterator[str]:
    """Secrets that leave this host unencrypted: whoever is on the way reads them."""
    relays = [("relay.url", draft.get("relay", "url"))]
    relays += [(spell(("relay", "fallback", number)), url) for number, url in draft.items("relay", "fallback")]
    for place, relay in relays:
        if relay and relay.password and relay.tls == "none" and not is_loopback(relay.host):
            yield f"{place}: the password crosses the network in the clear; use smtp+starttls:// or smtps://"
    for table, key, secret in (("gitlab", "url", "token"), ("paging", "pagerduty_url", "integration key")):
        if _is_open(draft.get(table, key)):
            yield f"{table}.{key}: the {secret} crosses the network in the clear; use https:// in {table}.{key}"
    for role in draft.names("oncall"):
        calendar: Ical | None = draft.get("oncall", role, "ical")
        if calendar and calendar.url and _is_open(calendar.url.get_secret_value()):
            yield f"oncall.{role}.ical: its URL, often the only key to it, crosses the network in the clear; use https://"
    for place, url in _pushes(draft):
        host = push_channel.asked_in_the_clear(url)
        if host and not is_loopback(host):
            more = f"use {url.partition(':')[0]}s://"
            yield f"{place}: pages, and what is needed to send more, cross the network in the clear; {more}"


def _pushes(draft: ConfigDraft) -> Iterator[tuple[str, str]]:
    """Every push URL with its place."""
    for place in (("watch", "push"), *(("people", name, "push") for name in draft.names("people"))):
        for number, url in draft.items(*place):
            yield spell((*place, number)), url.get_secret_value()


def _is_open(url: str | None) -> bool:
    """Whether a URL leads from this host without TLS."""
    return bool(url) and str(url).startswith("http://") and not is_loopback(urlsplit(str(url)).hostname or "")


def _people(draft: ConfigDraft) -> None:
    if not draft.names("people") and not draft.mistakes.touches(("people",)):
        draft.mistakes.say(("people",), "found nobody, expected at least one table such as [people.ana] with an email")
    for person in draft.names("people"):
        if draft.get("people", person, "pgp") and draft.get("people", person, "smime"):
            draft.mistakes.say(("people", person, "smime"), "found beside pgp, expected one of the two")


def _rosters(draft: ConfigDraft) -> None:
    for role in draft.names("oncall"):
        _one_roster(draft, role)
        for key in ("fixed", "fallback"):
            _known_people(draft, ("oncall", role, key))
        for number, shift in draft.items("oncall", role, "shifts"):
            _shift(draft, ("oncall", role, "shifts", number), shift)
        for number, override in draft.items("oncall", role, "overrides"):
            _override(draft, ("oncall", role, "overrides", number), override)
        _same_overrides(draft, role)


#: What a role's roster can be; one of them.
_ROSTERS = ("fixed", "ical", "shifts")


def _one_roster(draft: ConfigDraft, role: str) -> None:
    given = [key for key in _ROSTERS if draft.gives("oncall", role, key)]
    if len(given) > 1:
        for key in given[1:]:
            expected = f"one of {', '.join(_ROSTERS[:-1])} and {_ROSTERS[-1]}"
            draft.mistakes.say(("oncall", role, key), f"found {' and '.join(given)}, expected {expected}")
    elif not given and draft.get("oncall", role, "fixed") is not None:
        draft.mistakes.add(("oncall", role, "fixed"), [], "at least one person, or ical or shifts in its place")


def _shift(draft: ConfigDraft, place: Place, shift: ShiftSettings) -> None:
    if not shift.people:
        draft.mistakes.add((*place, "people"), [], "at least one person: nobody ever has this shift")
    _known(draft, (*place, "people"), enumerate(shift.people), once=shift.rotate not in ("weekly", "daily"))
    if len(shift.people) < 2:
        return
    if shift.rotate is None:
        expected = '"weekly", "daily", or "none" for all of them at once'
        draft.mistakes.say((*place, "rotate"), f"found nothing, expected {expected}")
    elif shift.rotate != "none" and shift.start is None:
        expected = f"a day such as 2026-11-23, from when {shift.people[0]} has the first turn"
        draft.mistakes.say((*place, "start"), f"found nothing, expected {expected}")


def _override(draft: ConfigDraft, place: Place, override: OverrideSettings) -> None:
    _known(draft, place, [("person", override.person)])
    if override.to <= override.from_:
        draft.mistakes.add((*place, "to"), override.to.isoformat(), "an instant after from")


def _same_overrides(draft: ConfigDraft, role: str) -> None:
    """Of two for the very same time nobody can say which counts."""
    known: dict[tuple[datetime, datetime], OverrideSettings] = {}
    for number, override in draft.items("oncall", role, "overrides"):
        other = known.setdefault((override.from_, override.to), override)
        if other.person != override.person:
            found = (
                f"found {override.person}, and {other.person} for the same time; expected one of them, or other times"
            )
            draft.mistakes.say(("oncall", role, "overrides", number, "person"), found)


def _operators(draft: ConfigDraft) -> None:
    place = ("operators", "page")
    if "operators.page" in draft.inferred:  # made from rosters that are checked themselves
        has_calendar = any(draft.gives("oncall", role, "ical") for role in draft.names("oncall"))
        if draft.get(*place) == () and not draft.mistakes.touches(("oncall",)) and (has_calendar or not draft.mistakes):
            why = ": a calendar does not say who" if has_calendar else ""
            draft.mistakes.say(place, f'found nobody{why}; expected a list such as ["ana"]')
        return
    if draft.get(*place) == ():
        draft.mistakes.add(place, [], "at least one person: who hears that panicmail itself needs help")
    _known_people(draft, place)


def _known_people(draft: ConfigDraft, place: tuple[str, ...]) -> None:
    _known(draft, place, draft.items(*place))


def _known(draft: ConfigDraft, place: Place, named: Iterable[tuple[int | str, str]], *, once: bool = True) -> None:
    people, seen = draft.names("people"), set()
    for key, person in named:
        if person not in people and people:
            expected = f"one of the people, {nearest(person, people)}"
            draft.mistakes.add((*place, key), person, expected)
        elif person in seen and once:
            draft.mistakes.add((*place, key), person, "each person once")
        seen.add(person)


def _policies(draft: ConfigDraft) -> None:
    _steps(draft, "escalation")
    for name in draft.names("policies"):
        place = ("policies", name)
        if name == DEFAULT:
            draft.mistakes.say(place, "found the name of the default policy, which is [escalation]; take another one")
        if not any(draft.gives(*place, key) for key in ("severity", "subject", "addresses", "drill")):
            draft.mistakes.say(place, "found nothing that chooses it, expected severity, subject, addresses or drill")
        if (hours := draft.get(*place, "hours")) and hours.to <= hours.from_:
            draft.mistakes.say((*place, "hours"), 'found no open time, expected "from" before "to" on the same day')
        _steps(draft, *place)


def _steps(draft: ConfigDraft, *table: str) -> None:
    if draft.get(*table, "steps") == ():
        draft.mistakes.add((*table, "steps"), [], "at least one step")
    after = timedelta(0)
    steps: list[tuple[int, StepSettings]] = list(draft.items(*table, "steps"))
    for number, step in steps:
        place: Place = (*table, "steps", number)
        if number == 0 and step.after:
            draft.mistakes.add((*place, "after"), written(step.after), '"0s": the first step is taken at once')
        elif number and step.after <= after:
            draft.mistakes.add((*place, "after"), written(step.after), f'later than the "{written(after)}" before it')
        after = max(after, step.after)
        _roles(draft, (*place, "page"), step.page)


def _roles(draft: ConfigDraft, place: Place, page: tuple[str, ...]) -> None:
    roles = draft.names("oncall")
    if not page:
        draft.mistakes.add(place, [], "at least one role: this step pages nobody")
    if draft.mistakes.touches(("oncall",)) and not roles:
        return
    for number, role in enumerate(page):
        if role in roles:
            continue
        if place[0] == "escalation" and "escalation.steps" in draft.inferred:
            text = f"found nobody on call, expected a table [oncall.{role}], or steps of your own in [escalation]"
            if not draft.mistakes.touches(("oncall", role)):
                draft.mistakes.say(("oncall", role), text)
        else:
            known = f"one of the roles, {nearest(role, roles)}" if roles else f"a table [oncall.{role}]"
            draft.mistakes.add((*place, number), role, known)


def _panic_addresses(draft: ConfigDraft) -> None:
    place = ("smtp", "addresses")
    if draft.get(*place) == ():
        draft.mistakes.add(place, [], 'at least one address such as "panic@example.com"')
    for number, address in draft.items(*place):
        if "+" in address:
            expected = f'"{_base(address)}": every subaddress of it is accepted too'
            draft.mistakes.add((*place, number), address, expected)


def _replies(draft: ConfigDraft) -> None:
    reply, ours = draft.get("replies", "address"), draft.get("smtp", "addresses")
    if not reply or not ours or "replies.address" in draft.inferred:
        return
    local, _, domain = reply.rpartition("@")
    if "{token}" not in reply and reply not in ours:
        expected = f'a {{token}} in it, such as "{_base(ours[0]).replace("@", "+{token}@")}"'
        draft.mistakes.add(("replies", "address"), reply, expected)
    elif local.endswith("+{token}") and f"{local.removesuffix('+{token}')}@{domain}" not in ours:
        draft.mistakes.add(("replies", "address"), reply, f"a subaddress of smtp.addresses, {', '.join(ours)}")


def _addresses_of_people(draft: ConfigDraft) -> None:
    seen: dict[str, str] = {}
    for place, address in _written_addresses(draft):
        if address in seen:
            draft.mistakes.add(place, address, f"an address of one person; {seen[address]} has it too")
        elif _reaches_us(draft, address):
            draft.mistakes.add(place, address, "a person's own address; mail to this one comes back to panicmail")
        else:
            seen[address] = str(place[1])


def _written_addresses(draft: ConfigDraft) -> Iterator[tuple[Place, str]]:
    for name in draft.names("people"):
        if email := draft.get("people", name, "email"):
            yield ("people", name, "email"), email
        for number, alias in draft.items("people", name, "aliases"):
            yield ("people", name, "aliases", number), alias


def _reaches_us(draft: ConfigDraft, address: str) -> bool:
    ours = [panic for _, panic in draft.items("smtp", "addresses")]
    ours += [panic for name in draft.names("policies") for _, panic in draft.items("policies", name, "addresses")]
    reply: str = draft.get("replies", "address") or ""
    return _base(address) in ours or (reply.startswith("{token}@") and address.endswith(reply.removeprefix("{token}")))


def _base(address: str) -> str:
    """An address without its subaddress."""
    local, _, domain = address.rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def _tls(draft: ConfigDraft) -> None:
    places = ("smtp", "tls_cert_file"), ("smtp", "tls_key_file")
    if any(draft.mistakes.touches(place) for place in places):
        return
    certificate, key = (draft.get(*place) for place in places)
    if bool(certificate) != bool(key):
        missing = places[1] if certificate else places[0]
        draft.mistakes.say(missing, f"found nothing, expected a file: {' and '.join(k for _, k in places)} go together")
    elif certificate and not _is_pair(certificate, key):
        draft.mistakes.say(places[0], _NO_PAIR)


_NO_PAIR = "found no usable pair, expected a PEM certificate and its unencrypted key"


def _listeners(draft: ConfigDraft) -> None:
    """Where mail is taken: somewhere, each place once, and with what its TLS needs."""
    listen, listeners = [*draft.items("smtp", "listen")], [*draft.items("smtp", "listeners")]
    if draft.get("smtp", "listen") == () and not draft.gives("smtp", "listeners"):
        draft.mistakes.add(("smtp", "listen"), [], "at least one address, or a table [[smtp.listeners]]")
    if draft.get("smtp", "require_tls") and draft.get("smtp", "listen") and not _has_tls(draft):
        expected = "smtp.tls_cert_file and smtp.tls_key_file beside it"
        draft.mistakes.add(("smtp", "require_tls"), True, expected)
    if draft.get("smtp", "lmtp") and any(_is_port_25(at) for _, at in listen):
        draft.mistakes.add(("smtp", "lmtp"), True, _NO_LMTP_THERE)
    for number, listener in listeners:
        _listener(draft, ("smtp", "listeners", number), listener)
    taken: list[tuple[Place, SocketAddress]] = []
    doors: list[tuple[Place, SocketAddress]] = [(("smtp", "listen", number), at) for number, at in listen]
    doors += [(("smtp", "listeners", number, "address"), listener.address) for number, listener in listeners]
    if web := draft.get("web", "listen"):
        taken.append((("web", "listen"), web))
    for place, at in doors:
        first = next((where for where, other in taken if _clash(at, other)), None)
        if first is not None:
            draft.mistakes.add(place, str(at), f"an address of its own; {spell(first)} has it")
        taken.append((place, at))


_NO_LMTP_THERE = "another port: port 25 speaks SMTP (RFC 2033 section 5)"


def _listener(draft: ConfigDraft, place: Place, listener: ListenerSettings) -> None:
    pair, tls = (listener.tls_cert_file, listener.tls_key_file), listener.tls
    if (pair[0] is None) != (pair[1] is None):
        missing = "tls_key_file" if pair[0] else "tls_cert_file"
        expected = "a file: tls_cert_file and tls_key_file go together"
        draft.mistakes.say((*place, missing), f"found nothing, expected {expected}")
    elif pair[0] and pair[1] and not _is_pair(pair[0], pair[1]):
        draft.mistakes.say((*place, "tls_cert_file"), _NO_PAIR)
    if isinstance(listener.address, UnixSocket) and (tls not in (None, "none") or listener.require_tls):
        key = "require_tls" if tls in (None, "none") else "tls"
        draft.mistakes.add((*place, key), getattr(listener, key), "none: what goes through a socket stays on this host")
    elif tls in ("starttls", "implicit") and not pair[0] and not _has_tls(draft):
        draft.mistakes.add((*place, "tls"), tls, "tls_cert_file and tls_key_file, here or in [smtp]")
    elif listener.require_tls and (tls == "none" or not (pair[0] or _has_tls(draft))):
        draft.mistakes.add((*place, "require_tls"), True, 'tls = "starttls" or "implicit" with a certificate')
    if listener.protocol == "lmtp" and _is_port_25(listener.address):
        draft.mistakes.add((*place, "protocol"), "lmtp", _NO_LMTP_THERE)


def _has_tls(draft: ConfigDraft) -> bool:
    """Whether [smtp] has a certificate, be it a wrong one: that is told already."""
    return draft.gives("smtp", "tls_cert_file")


def _is_port_25(at: SocketAddress) -> bool:
    return isinstance(at, Listen) and at.port == 25


def _clash(one: SocketAddress, other: SocketAddress) -> bool:
    """Whether only one of them can be listened at. An address for everything takes all of its family."""
    if not isinstance(one, Listen) or not isinstance(other, Listen):
        return one == other
    if one.port != other.port or not one.port:
        return False
    hosts = {one.host, other.host}
    same_family = (":" in one.host) == (":" in other.host)
    return len(hosts) == 1 or (same_family and not hosts.isdisjoint({"0.0.0.0", "::"}))  # noqa: S104


def _is_pair(certificate: Path, key: Path) -> bool:
    try:
        # A password is never asked for: the daemon has no terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError):
        return False
    return True
