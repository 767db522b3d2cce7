"""What GitLab and PagerDuty tell by themselves: their webhooks, verified, beside the poll that needs none.

    GitLab      a verified hook says no more than: look at this issue now. A thread asks GitLab's API and weighs what
                it answers as the poll does, so nothing in a hook is evidence. Within a second of the comment
                it is known (a test holds that); what a lost hook would have said, the poll sees within two minutes.
    PagerDuty   acknowledged, resolved and escalated count as the words "ack", "resolve" and "escalate" of whoever did
                it there, if they were paged for the incident and it was done since that last became open. All else that
                a person does there is a note. Its own doings, and ours, are nothing.

GitLab is verified by the signature of its signing token (HMAC-SHA256 over id, time and body, five minutes), else by
the secret token. A request that carries a signature is never taken for its token alone. PagerDuty signs the body, and
may do it with two secrets while they change. Everything is compared in constant time, over the octets that came.

Said again is said once: a signed GitLab hook by its id, a PagerDuty event by its id on the incident's timeline, so
that one caught on its way and sent again a year later does nothing. A GitLab hook without a signature has nothing that
names it; to look once more does no harm.

PagerDuty names people by the name they have there, seldom by address. The name counts when exactly one of our people
has it, and "how" says so: whoever can rename users there can speak for others.

An unverified request is answered 401 with a constant text, told in the log once a minute at most, and never parsed.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Protocol

import structlog

from panicmail.clock import Clock, wall_clock
from panicmail.config import Config
from panicmail.errors import StoreFailed
from panicmail.incident import people, transitions
from panicmail.incident.model import Entry, Incident, State
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command, ReplyCommand
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response.replies import ReplyChannel, ReplyHandler
from panicmail.store.rows import TimelineRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: The lane of what is to be looked at.
LANE = "hooks"
#: PagerDuty's clock and ours may differ by so much.
CLOCKS_APART = timedelta(minutes=1)
#: A stranger is told of once in so many seconds.
REFUSED_EVERY = 60.0
#: So many hooks are remembered, and so many issues wait to be looked at; more are left to the poll.
MOST = 10_000

BY_SIGNATURE = "by GitLab webhook, signature verified"
BY_TOKEN = "by GitLab webhook, token verified"  # noqa: S105 - words for people
BY_PAGERDUTY = "by PagerDuty webhook, signature verified"

#: What a person's act in PagerDuty says here.
SAYS = {
    "incident.acknowledged": ReplyCommand(Command.YES, "ack"),
    "incident.resolved": ReplyCommand(Command.RESOLVE, "resolve"),
    "incident.escalated": ReplyCommand(Command.ESCALATE, "escalate"),
}
#: Our dedup key of an incident, which PagerDuty calls its incident key.
_KEY = re.compile(r"panicmail-([a-z2-7]{16})")
#: What GitLab calls issues and incidents, as the years went.
_ISSUES = frozenset({"issue", "work_item", "incident"})
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,200}")

Headers = Mapping[str, str]  #: names in lower case


class WebhookResult(Enum):
    """What a hook came to."""

    TAKEN = "taken"  #: it is done, or will be
    IGNORED = "ignored"  #: well and good, and nothing for us
    REFUSED = "refused"  #: not verified


@dataclass(frozen=True, slots=True)
class WebhookSecrets:
    """What the hooks are verified by; empty ones are not configured."""

    gitlab_token: bytes = field(default=b"", repr=False)
    gitlab_key: bytes = field(default=b"", repr=False)
    pagerduty: bytes = field(default=b"", repr=False)


def secrets_of(config: Config) -> WebhookSecrets:
    token, key = config.gitlab.webhook_token, config.gitlab.webhook_signing_key
    pagerduty = config.paging.pagerduty_webhook_secret
    return WebhookSecrets(
        gitlab_token=token.get_secret_value().encode() if token else b"",
        gitlab_key=base64.b64decode(key.get_secret_value().removeprefix("whsec_")) if key else b"",
        pagerduty=pagerduty.get_secret_value().encode() if pagerduty else b"",
    )


class LooksAtIssues(Protocol):
    """The weighing of what happened on an issue."""

    def read_issue(self, issue_iid: int, told_by: str) -> None: ...


class WebhookReceiver:
    """Takes hooks. Called by several threads; `work` by one.

    Args:
        project: The one whose issues are ours, by path or number.
        signs: Of the thread that calls `work`, nobody else's.
        woken: Called with the lane when there is something for `work`.
    """

    def __init__(
        self,
        store: Store,
        settings: CurrentSettings,
        signs: LooksAtIssues,
        secrets: Callable[[], WebhookSecrets],
        project: str,
        *,
        woken: Callable[[Iterable[str]], None] = lambda lanes: None,
        wall: Clock = wall_clock,
    ) -> None:
        self._store = store
        self._settings = settings
        self._signs = signs
        self._secrets = secrets
        self._project = project
        self._woken = woken
        self._wall = wall
        self._lock = threading.Lock()
        self._waiting: dict[int, str] = {}  #: issue -> who said so, oldest first
        self._seen: dict[str, float] = {}  #: id of a signed hook -> when, oldest first
        self._refused: dict[str, tuple[float, int]] = {}  #: sender -> when it was told of last, how many since

    def takes(self) -> frozenset[str]:
        """From whom hooks are taken: those whose secret is configured."""
        secrets = self._secrets()
        known = {"gitlab": secrets.gitlab_token or secrets.gitlab_key, "pagerduty": secrets.pagerduty}
        return frozenset(sender for sender, secret in known.items() if secret)

    # -- GitLab

    def gitlab(self, headers: Headers, body: bytes) -> WebhookResult:
        """Take a hook of GitLab's; waits for nothing but our own database, and not for that when it is away."""
        told, doubt = _by_gitlab(self._secrets(), headers, body, self._wall())
        if doubt:
            return self._refuse("gitlab", doubt)
        name = headers.get("webhook-id", "") if told == BY_SIGNATURE else ""
        found = _issue_in(_document(body), self._settings().people)
        if found is None or self._is_repeat(name) or not self._is_ours(*found):
            return WebhookResult.IGNORED
        iid, _ = found
        with self._lock:
            if len(self._waiting) < MOST:
                self._waiting.setdefault(iid, told)
            if name:
                self._seen[name] = time.monotonic()
        self._woken([LANE])
        return WebhookResult.TAKEN

    def work(self) -> bool:
        """Look at one issue a hook spoke of; False when none waits."""
        with self._lock:
            iid = next(iter(self._waiting), None)
            told = self._waiting.pop(iid) if iid is not None else ""
        if iid is None:
            return False
        self._signs.read_issue(iid, told)
        return True

    def _is_repeat(self, name: str) -> bool:
        """Whether this very hook came before. Older ones than a signature is good for are forgotten."""
        now = time.monotonic()
        with self._lock:
            for old, at in list(self._seen.items()):
                if now - at < 2 * WITHIN.total_seconds() and len(self._seen) <= MOST:
                    break
                del self._seen[old]
            return name in self._seen

    def _is_ours(self, iid: int, projects: frozenset[str]) -> bool:
        home = self._project.casefold()
        try:
            found = self._store.read(lambda tx: tx.search.incidents_of_issues([iid]))
        except StoreFailed:  # GitLab gives up on a hook that fails often; the poll asks again
            return home in projects
        return any((i.issue_project or home) in projects for i in found)

    # -- PagerDuty

    def pagerduty(self, headers: Headers, body: bytes) -> WebhookResult:
        """Take a hook of PagerDuty's: what it says is done, and on disk, when this returns.

        Raises:
            StoreFailed: The database did not take it; PagerDuty sends it again.
        """
        given = headers.get("x-pagerduty-signature", "")
        if doubt := pagerduty_doubt(self._secrets().pagerduty, given, body):
            return self._refuse("pagerduty", doubt)
        event = _event_in(_document(body))
        if event is None:
            return WebhookResult.IGNORED
        settings = self._settings()
        return self._store.write("hook.act", lambda tx: _act(tx, settings, event))

    # -- strangers

    def _refuse(self, sender: str, why: str) -> WebhookResult:
        now = time.monotonic()
        with self._lock:
            at, unsaid = self._refused.get(sender, (-REFUSED_EVERY, 0))
            is_told = now - at >= REFUSED_EVERY
            self._refused[sender] = (now, 0) if is_told else (at, unsaid + 1)
        if is_told:
            _log.warning("hook.refused", sender=sender, reason=why, unsaid=unsaid)
        return WebhookResult.REFUSED


# -- what a hook says of GitLab


def _issue_in(document: Mapping[str, Any], known: Mapping[str, Person]) -> tuple[int, frozenset[str]] | None:
    """The number of the issue to look at, and its project by path and by number; None when nothing that could count
    happened.

    By whom and what is asked only to spare GitLab questions: each note of our own makes a hook. Somebody of ours, or
    a change of state by anybody; whom and what it counts for is weighed by what GitLab answers.
    """
    attributes = _table(document, "object_attributes")
    is_note = document.get("object_kind") == "note"
    if not is_note and _text(document, "object_kind") not in _ISSUES:
        return None
    usernames = {person.gitlab.casefold() for person in known.values() if person.gitlab}
    username = _text(_table(document, "user"), "username").casefold()
    if username not in usernames and _text(attributes, "action") not in {"close", "reopen"}:
        return None
    named = _table(document, "project")
    projects = frozenset({_text(named, "path_with_namespace").casefold(), str(named.get("id"))})
    issue = (_table(document, "issue") or _table(document, "work_item")) if is_note else attributes
    iid = issue.get("iid")
    return (iid, projects) if isinstance(iid, int) and not isinstance(iid, bool) and iid > 0 else None


# -- what a hook says of PagerDuty


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """What somebody did in PagerDuty to an incident of ours."""

    id: str
    type: str  #: such as "incident.acknowledged"
    at: datetime | None  #: None: it does not say when
    incident_id: str
    address: str  #: whose doing; "" when it does not say
    name: str
    is_merge: bool  #: resolved because it was merged into another one


def _event_in(document: Mapping[str, Any]) -> _Event | None:
    """None for what is not about an incident of ours, or not a person's doing: PagerDuty's, or our own by its API."""
    event = _table(document, "event")
    data, agent = _table(event, "data"), _table(event, "agent")
    name, type_, hit = _text(event, "id"), _text(event, "event_type"), _KEY.fullmatch(_text(data, "incident_key"))
    if hit is None or not _ID.fullmatch(name) or not _ID.fullmatch(type_):
        return None
    if agent.get("type") not in {"user_reference", "user"} or type_ == "incident.triggered":
        return None
    return _Event(
        id=name,
        type=type_,
        at=_instant(event.get("occurred_at")),
        incident_id=hit[1],
        address=_text(agent, "email"),
        name=_text(agent, "summary"),
        is_merge=_table(data, "resolve_reason").get("type") == "merge_resolve_reason",
    )


def _act(tx: Transaction, settings: RuntimeSettings, event: _Event) -> WebhookResult:
    """Do what it says, or keep it as a note."""
    incident = tx.incidents.get(event.incident_id)
    if incident is None or any(line.facts.get("delivery") == event.id for line in tx.timeline.of_incident(incident.id)):
        return WebhookResult.IGNORED
    person, how = _doer(event, settings.people)
    why = _doubt(event, incident, person, tx.timeline.of_incident(incident.id))
    actor = person.id if person else event.name or event.address or "somebody"
    facts = {"delivery": event.id, "said": event.type, "how": how, "why": why}
    heard = "hook.noted" if why else "hook.heard"
    tx.timeline.add(incident, Entry(event=heard, actor=actor, facts=facts, note=bool(why)))
    if person is not None and not why:
        way = ReplyChannel(channel="pagerduty", how=how, key=f"pagerduty/{event.id}", acted_at=event.at)
        ReplyHandler(tx, settings).act(incident, person, SAYS[event.type], way)
    return WebhookResult.TAKEN


def _doer(event: _Event, known: Mapping[str, Person]) -> tuple[Person | None, str]:
    """Which of our people did it, and how that is known."""
    if event.address:
        return people.by_address(known, event.address), BY_PAGERDUTY
    called = [person for person in known.values() if _is_called(person, event.name)]
    return called[0] if len(called) == 1 else None, f"{BY_PAGERDUTY}, known by name there"


def _is_called(person: Person, name: str) -> bool:
    """By the whole name, or by an address where a name should stand."""
    wanted = name.casefold().split()
    return bool(wanted) and (person.name.casefold().split() == wanted or person.writes_from(name.strip()))


def _doubt(event: _Event, incident: Incident, person: Person | None, lines: Sequence[TimelineRow]) -> str:
    """Why nothing is done; "" when it counts."""
    if event.type not in SAYS or event.is_merge:
        return "it asks for nothing here"
    if person is None:
        return "none of the people here is known by that address or name"
    has_it = incident.state is State.ACKED and incident.holder == person.id
    if person.id not in incident.paged and not has_it:
        return f"{person.first_name} was not paged for it"
    if event.at is None or event.at < _counts_from(incident):
        return "it was done before this was last opened"
    is_yes = SAYS[event.type].meaning is Command.YES
    later = transitions.overtaken_by(lines, person.id, event.at, is_yes=is_yes)
    return f"{later.actor or 'somebody'} {transitions.ACTS.get(later.event, 'wrote again')} since" if later else ""


def _counts_from(incident: Incident) -> datetime:
    """PagerDuty's clock may be behind ours when a panic comes. What was done before it was opened again is older than
    the act that opened it, however the clocks stand."""
    if incident.opened_at > incident.accepted_at:
        return incident.opened_at
    return incident.opened_at - CLOCKS_APART


# -- verifying


def _by_gitlab(secrets: WebhookSecrets, headers: Headers, body: bytes, now: datetime) -> tuple[str, str]:
    """What the hook is verified by, and why it is not; "" when it is."""
    if secrets.gitlab_key and ("webhook-signature" in headers or not secrets.gitlab_token):
        return BY_SIGNATURE, standard_doubt(secrets.gitlab_key, headers, body, now)
    return BY_TOKEN, token_doubt(secrets.gitlab_token, headers.get("x-gitlab-token", ""))


# -- reading


def _document(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a body; {} when it is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _text(document: Mapping[str, Any], name: str) -> str:
    """A short text that any database and any page can hold; "" when there is none."""
    value = document.get(name)
    return value[:1000].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _instant(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None else None


# -- How a webhook proves who sent it. Pure: the octets as they came, the secret, and `now`.
#
#     standard    Standard Webhooks, as GitLab 19 signs: HMAC-SHA256 in base64 over "{id}.{time}.{body}"; a few of them,
#                 apart by blanks, while the key changes; good for five minutes
#     pagerduty   HMAC-SHA256 in hex over the body; a few of them, apart by commas; without a time
#     token       the secret itself
#
# Each answers why the request is not verified, in words for the operator's log; "" when it is. Every comparison
# takes the same time however much is right. A header is a text of HTTP's: one character for each octet.

#: A signature with a time may be so old, and lie so far ahead.
WITHIN = timedelta(minutes=5)
#: Anybody can sign with an empty one.
_NO_SECRET = "there is no secret to verify it by"  # noqa: S105 - words for people
_SECONDS = re.compile(r"[0-9]{1,12}")


def standard_doubt(key: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """`headers` by lower-case name: webhook-id, webhook-timestamp (Unix seconds), webhook-signature."""
    if not key:
        return _NO_SECRET
    name, seconds = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split()
    if not name or not _SECONDS.fullmatch(seconds):
        return "its signature lacks an id or a time"
    if abs(now.timestamp() - int(seconds)) > WITHIN.total_seconds():
        return "its signature is too old, or a clock is wrong"
    digest = hmac.digest(key, _octets(f"{name}.{seconds}.") + body, "sha256")
    return _doubt_digest(
        [part.removeprefix("v1,") for part in given if part.startswith("v1,")], base64.b64encode(digest)
    )


def pagerduty_doubt(secret: bytes, header: str, body: bytes) -> str:
    """`header`: X-PagerDuty-Signature, "" when there is none."""
    if not secret:
        return _NO_SECRET
    given = [part.strip() for part in header.split(",")]
    digest = hmac.digest(secret, body, "sha256").hex().encode()
    return _doubt_digest([part.removeprefix("v1=").lower() for part in given if part.startswith("v1=")], digest)


def token_doubt(token: bytes, header: str) -> str:
    """`header`: the token as it was given, "" when none was."""
    if not token:
        return _NO_SECRET
    if not header:
        return "it carries no token"
    return "" if hmac.compare_digest(_octets(header), token) else "wrong token"


def _doubt_digest(given: Iterable[str], right: bytes) -> str:
    compared = [hmac.compare_digest(_octets(signature), right) for signature in given]
    if not compared:
        return "it carries no signature"
    return "" if any(compared) else "wrong signature"


def _octets(header: str) -> bytes:
    return header.encode("latin-1", "replace")
