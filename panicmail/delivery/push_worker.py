"""The lane that reaches people's phones: pages, news and answers by their push channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import structlog

from panicmail import crashpoints
from panicmail.delivery import outbox_worker
from panicmail.delivery.outbox_worker import OutboxWorker, PageBundle, is_flooded, is_wanted, notice_context
from panicmail.delivery.pagerduty import Action, Event, Severity
from panicmail.errors import Temporary
from panicmail.incident import transitions
from panicmail.incident.model import EffectKind, Incident, State
from panicmail.incident.push_channel import PushChannel, in_words
from panicmail.incident.tasks import PUSH
from panicmail.mail.compose import push_text
from panicmail.mail.compose.notices import undo_by
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response import incident_links
from panicmail.store.blocked_adapters import adapter_of
from panicmail.store.rows import DeliveryState, OutboxRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: News that could not be pushed for so long is old; a page is tried as long as it is wanted.
OLD_AFTER = timedelta(minutes=30)
#: What PagerDuty does with its alert when an incident comes to be in a state.
FOLLOWS: Mapping[State, Action] = {
    State.OPEN: "trigger",
    State.ACKED: "acknowledge",
    State.RESOLVED: "resolve",
}

#: Lines of what somebody did in PagerDuty, and what of it silences an alert or lets it ring again.
_HOOKS = frozenset({"hook.noted", "hook.heard"})
_SILENCES = frozenset({"incident.acknowledged", "incident.resolved"})
_RINGS = frozenset({"incident.unacknowledged", "incident.reopened"})

#: A severity as PagerDuty calls it.
SEVERITIES: Mapping[int, Severity] = {1: "critical", 2: "error", 3: "warning", 4: "info"}


class Pushes(Protocol):
    """Sends one line by an Apprise URL; answers what the provider said."""

    def send(self, url: str, text: str, link: str = "") -> str: ...


class Alerts(Protocol):
    """Hands an event to PagerDuty; answers what it said."""

    def send(self, key: str, event: Event) -> str: ...


@dataclass(frozen=True, slots=True)
class PushMessage:
    """What goes to a phone."""

    text: str
    link: str = ""
    action: Action = "trigger"  #: for PagerDuty
    dedup_key: str = ""
    severity: Severity = "critical"  #: for PagerDuty
    renews: bool = False  #: PagerDuty calls nobody for an alert that was acknowledged: it wants a new one


class PushWorker(OutboxWorker):
    """Composed when it is sent, from what is true then."""

    def __init__(self, store: Store, settings: CurrentSettings, pushes_: Pushes, alerts: Alerts) -> None:
        super().__init__(PUSH, store)
        self._settings = settings
        self._pushes = pushes_
        self._alerts = alerts

    def _carry_out(self, task: OutboxRow) -> None:
        settings = self._settings()
        channel = _channel(settings, task)
        if channel is None:
            self._settle(task, DeliveryState.VOID, "a reload took this channel away")
            return
        # PagerDuty bundles by itself, and an alert of its own is how an incident is acknowledged there.
        bundles = channel.pagerduty_key is None
        composed = self._store.read(
            lambda tx: (
                None
                if bundles and is_flooded(tx, settings, task)
                else (tx.outbox.is_mine(task), _compose(tx, settings, task, channel))
            )
        )
        if composed is None:
            self._bundle(task, settings)
        else:
            self._push(task, channel, *composed)

    def _carry_out_alone(self, task: OutboxRow, settings: RuntimeSettings) -> None:
        channel = _channel(settings, task)
        if channel is None:
            return
        composed = self._store.read(lambda tx: (tx.outbox.is_mine(task), _compose(tx, settings, task, channel)))
        self._push(task, channel, *composed)

    def _push(self, task: OutboxRow, channel: PushChannel, mine: bool, said: PushMessage | None) -> None:
        if not mine:  # we were frozen, or cut off: whoever has it now sends it
            _log.warning("claim.lost", lane=self.name, do=task.do, attempt=task.attempt)
        elif said is None:
            self._settle(task, DeliveryState.VOID, "it lost its reason before it was sent")
        else:
            self._send(task, channel, said)

    def _send_bundle(self, bundle: PageBundle, settings: RuntimeSettings) -> str:
        """One line for all: the mail has each by name. Its link is that of the first."""
        incidents, person = [incident for _, incident in bundle.pages], bundle.digest.person
        channel, link = _channel(settings, bundle.tasks[0]), ""
        if channel is None:
            raise Temporary("a reload took this channel away")
        if channel.is_private:
            lines = self._store.read(lambda tx: tx.timeline.of_incident(incidents[0].id))
            link = settings.link(incidents[0].id, person, incident_links.live_round(lines, person))
        return self._pushes.send(channel.url, push_text.digest([each.ref for each in incidents]), link)

    def _send(self, task: OutboxRow, channel: PushChannel, said: PushMessage) -> None:
        crashpoints.point(f"{self.name}.sending")
        if channel.pagerduty_key is not None:
            answer = self._alert(channel.pagerduty_key, said, self._settings().hostname)
        else:
            answer = self._pushes.send(channel.url, said.text, said.link)
        crashpoints.point(f"{self.name}.sent")
        self._end(f"{self.name}.settle", lambda tx: outbox_worker.sent(tx, task, answer))
        _log.info("push.sent", do=task.do, incident=task.incident_id, person=task.person, channel=channel.id,
                  attempt=task.attempt, answer=answer)  # fmt: skip

    def _alert(self, key: str, said: PushMessage, source: str) -> str:
        event = Event(said.action, said.dedup_key, said.text, said.link, source, said.severity)
        if said.renews:
            self._alerts.send(key, replace(event, action="resolve"))
        return self._alerts.send(key, event)

    def _barred_facts(self, tx: Transaction, task: OutboxRow) -> dict[str, Any]:
        """Every channel that is barred: they are told of together, once an hour."""
        known = [channel for person in self._settings().people.values() for channel in person.push]
        barred = sorted(adapter.split("/", 2) for adapter in {*tx.adapters.barred(), adapter_of(task)})
        return {"channel": [f"{of[1]}: {in_words(of[2], known)}" for of in barred if of[0] == PUSH]}

    def _refused(self, task: OutboxRow, answer: str) -> None:
        settings = self._settings()
        channel = task.facts.get("channel")
        _log.error("push.refused", **self._about(task), do=task.do, channel=channel, answer=answer)
        self._end(f"{self.name}.settle", lambda tx: outbox_worker.refused(tx, settings, task, answer))


def _channel(settings: RuntimeSettings, task: OutboxRow) -> PushChannel | None:
    person = settings.people.get(task.person or "")
    return next((c for c in person.push if c.id == task.facts.get("channel")), None) if person else None


def _compose(tx: Transaction, settings: RuntimeSettings, task: OutboxRow, channel: PushChannel) -> PushMessage | None:
    """What must be said now; None when there is no reason left."""
    if task.do != EffectKind.PAGE and tx.now - task.queued_at > OLD_AFTER:
        return None
    if task.do == EffectKind.OPERATORS:
        return PushMessage(push_text.operators(task.facts), dedup_key=_alarm_key(task))
    incident = tx.incidents.get(task.incident_id or "")
    if incident is None:
        return None
    return _COMPOSERS[EffectKind(task.do)](tx, settings, task, channel, incident)


def _page(
    tx: Transaction, settings: RuntimeSettings, task: OutboxRow, channel: PushChannel, incident: Incident
) -> PushMessage | None:
    if not is_wanted(tx, incident, task):
        return None
    context, person = notice_context(tx, settings, incident, task), settings.people[task.person or ""]
    link = context.link if channel.is_private else ""
    text, renews = push_text.page(context, person, settings.detail), _is_quiet(tx, incident, channel)
    return PushMessage(text, link, dedup_key=_dedup_key(incident), severity=_severity(incident), renews=renews)


def _severity(incident: Incident) -> Severity:
    """As one of our people said; a report's own word quietens no phone."""
    given = incident.severity if incident.severity_by else None
    return SEVERITIES.get(given or 1, "critical")


def _is_quiet(tx: Transaction, incident: Incident, channel: PushChannel) -> bool:
    """Whether PagerDuty calls nobody for the alert that is there: the last it heard from us was no page, but that
    somebody had it; or somebody silenced it there since, whoever that was and whatever it counted for here."""
    if channel.pagerduty_key is None:
        return False
    last = _last_heard(tx, incident, channel)
    if last is not None and last.do == EffectKind.MIRROR and last.facts["state"] != State.OPEN:
        return True
    since = last.done_at if last is not None and last.done_at else incident.accepted_at
    told = (line for line in tx.timeline.of_incident(incident.id) if line.event in _HOOKS and line.at >= since)
    turns = [line.facts.get("said") for line in told if line.facts.get("said") in _SILENCES | _RINGS]
    return bool(turns) and turns[-1] in _SILENCES


def _last_heard(tx: Transaction, incident: Incident, channel: PushChannel) -> OutboxRow | None:
    """The latest page, or turn of the incident, that this channel took."""
    alerted = [
        t
        for t in tx.outbox.of_incident(incident.id)
        if t.do in {EffectKind.PAGE, EffectKind.MIRROR} and t.state is DeliveryState.ACCEPTED
    ]
    heard = [(t.done_at, t.id, t) for t in alerted if t.done_at and t.facts.get("channel") == channel.id]
    return max(heard, key=lambda each: each[:2])[2] if heard else None


def _compose_news(
    tx: Transaction, settings: RuntimeSettings, task: OutboxRow, channel: PushChannel, incident: Incident
) -> PushMessage | None:
    context, person = notice_context(tx, settings, incident, task), settings.people[task.person or ""]
    may_act = (incident.state is State.OPEN and person.id in incident.paged) or undo_by(context, person.id) is not None
    link = context.link if channel.is_private and may_act else ""
    return PushMessage(push_text.tell(context, person, settings.detail), link)


def _followed(
    tx: Transaction, settings: RuntimeSettings, task: OutboxRow, channel: PushChannel, incident: Incident
) -> PushMessage | None:
    """PagerDuty's alert follows the incident as it is now."""
    if incident.state is State.OPEN:
        return _rings_anew(tx, settings, task, channel, incident)
    return PushMessage(
        f"{incident.ref} {incident.state}", action=FOLLOWS[incident.state], dedup_key=_dedup_key(incident)
    )


def _rings_anew(
    tx: Transaction, settings: RuntimeSettings, task: OutboxRow, channel: PushChannel, incident: Incident
) -> PushMessage | None:
    """Open again because an acknowledgement was undone, which pages nobody: the alert does it. Else a page has.

    Whatever we know of what PagerDuty heard: an event whose answer was lost may have silenced the alert.
    """
    last = _last_heard(tx, incident, channel)
    is_paged_since = last is not None and last.id > task.id
    if is_paged_since or not transitions.is_undone(tx.timeline.of_incident(incident.id)):
        return None
    context, person = notice_context(tx, settings, incident, task), settings.people[task.person or ""]
    context = replace(context, facts={**task.facts, "what": "undone", "by": task.facts["holder"]})
    text, link = push_text.tell(context, person, settings.detail), context.link if channel.is_private else ""
    return PushMessage(text, link, dedup_key=_dedup_key(incident), severity=_severity(incident), renews=True)


def _alarm_key(task: OutboxRow) -> str:
    """Cause and hour of the row's key: a later alarm that joined an alert still open would ring nobody."""
    _, cause, hour, *_ = task.key.split("/")
    return f"panicmail-{cause}-{hour}"


def _dedup_key(incident: Incident) -> str:
    return f"panicmail-{incident.id}"


_Composer = Callable[[Transaction, RuntimeSettings, OutboxRow, PushChannel, Incident], PushMessage | None]
_COMPOSERS: Mapping[EffectKind, _Composer] = {
    EffectKind.PAGE: _page,
    EffectKind.TELL: _compose_news,
    EffectKind.MIRROR: _followed,
}
