"""What a change asks of the outbox, row by row: who is told, by which lane, what waits for what, and what rings.

Pure: the store writes the tasks it is given, and the workers carry them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, PageReason
from panicmail.incident.push_channel import PAGERDUTY

#: Which lane carries out which kind of effect. A lane has its own worker.
LANES: Mapping[EffectKind, str] = {
    EffectKind.PAGE: "page",
    EffectKind.TELL: "mail",
    EffectKind.RECEIPT: "mail",
    EffectKind.NEWS: "mail",
    EffectKind.OPERATORS: "mail",
    EffectKind.LIST: "mail",
    EffectKind.PROVEN: "mail",
    EffectKind.ISSUE: "gitlab",
    EffectKind.FILES: "gitlab",
    EffectKind.AMEND: "gitlab",
    EffectKind.MIRROR: "gitlab",
    EffectKind.TWINS: "gitlab",
    EffectKind.CONFIDE: "gitlab",
    EffectKind.SEVERITY: "gitlab",
}
#: What goes to people's phones too, and the lane that carries it there.
PUSHED = frozenset({EffectKind.PAGE, EffectKind.TELL, EffectKind.OPERATORS})
PUSH = "push"
#: Every lane rows of the outbox stand in.
ALL_LANES = tuple(sorted({*LANES.values(), PUSH}))
#: An entry of the timeline as an internal note on the issue.
NOTE = "note"
#: The receipt waits this long for the issue's link, then goes without.
RECEIPT_WAITS = timedelta(seconds=10)
#: When to look for a second issue after one whose making had an open outcome: GitLab may take its time.
TWINS_AFTER = (timedelta(minutes=1), timedelta(minutes=10))
#: Of what the operators are told about an incident, how the log names it.
ALARMS: Mapping[str, str] = {"nobody_on_call": "oncall.nobody", "nobody_left": "oncall.nobody_left"}
#: Entries that are said in the log as warnings, under their own names.
_ALARMING = frozenset({"sla.breached", "person.unreachable"})

#: News that had to wait for so long is not sent any more.
OLD_NEWS = timedelta(hours=1)
#: The kinds of effect that are news.
NEWS_KINDS = (EffectKind.NEWS, EffectKind.TELL, EffectKind.OPERATORS)
#: News by name that is none: somebody's own words, what became of them, and what its reader goes on needing.
_NEVER_OLD = frozenset({"said", "more", "unsent", "sent_without", "link_revoked"})

#: Answers the ids of the push channels of a person.
Channels = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Something to be done once in the world: a row of the outbox that is to be. The same `key` is done once."""

    incident_id: str | None
    lane: str
    do: str  #: a kind of effect, or `NOTE`
    key: str
    person: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  #: JSON; instants as ISO strings
    after: str | None = None  #: the key of the task that must be over first; one that is not there is not waited for
    waits: timedelta | None = None  #: it waits for no longer than this; None: as long as it takes
    only_after: bool = False  #: without the task of `after` there is nothing to do
    delay: timedelta = timedelta()  #: it is not tried before so long


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAlarm:
    """Something the operators are to know: panicmail needs help."""

    cause: str
    facts: Mapping[str, Any]
    incident_id: str | None = None  #: None: it is about none
    rings: bool = True  #: it goes to their phones too


def change_tasks(
    before: Incident | None, change: Change, channels: Channels, now: datetime, operators: Sequence[str]
) -> Iterator[Task]:
    """Everything that a change of `before` asks for; None: the incident is new."""
    after = change.incident
    if before is not None and after.state is not before.state:
        yield from _mirrors(after, before.version, channels, now)
    for effect in change.effects:
        if effect.do is EffectKind.OPERATORS:
            alarm = OperatorAlarm(cause=str(effect.facts["cause"]), facts=effect.facts, incident_id=after.id)
            yield from operator_tasks(alarm, operators, channels, now)
        else:
            yield from effect_tasks(after, effect, channels)


def effect_tasks(incident: Incident, effect: Effect, channels: Channels) -> Iterator[Task]:
    """One effect, and the same to the person's phone."""
    key = f"{incident.id}/{effect.key}"
    common = Task(incident_id=incident.id, lane=LANES[effect.do], do=effect.do.value, key=key, person=effect.person,
                  facts=effect.facts)  # fmt: skip
    yield _in_turn(common, incident.id, effect.do)
    yield from _pushes(common, channels)


#: What others wait for: see `_in_turn`, and `note_task`.
AWAITED = frozenset({EffectKind.ISSUE, EffectKind.RECEIPT})


def _in_turn(task: Task, incident_id: str, do: EffectKind) -> Task:
    """The task, and what it waits for: what is put on the issue for the issue, news for the receipt."""
    issue, receipt = f"{incident_id}/issue", f"{incident_id}/receipt"
    match do:
        case EffectKind.FILES | EffectKind.AMEND | EffectKind.MIRROR | EffectKind.SEVERITY:
            return replace(task, after=issue)
        case EffectKind.RECEIPT:
            return replace(task, after=issue, waits=RECEIPT_WAITS)
        case EffectKind.NEWS:  # a reporter who had no receipt gets no news either
            return replace(task, after=receipt, only_after=True)
    return task


def _pushes(task: Task, channels: Channels) -> Iterator[Task]:
    """The same as `task` to the person's phone, by every channel they have, none waiting for another."""
    is_pushed = task.do in PUSHED and task.facts.get("word") != PageReason.STATUS
    for channel in channels(task.person) if task.person and is_pushed else ():
        if task.do == EffectKind.TELL and channel.startswith(PAGERDUTY):
            continue  # it follows the incident by itself: `_mirrors`
        yield replace(task, lane=PUSH, key=f"{task.key}/{channel}", facts={**task.facts, "channel": channel})


def page_channels(person: str | None, reason: object, channels: Channels) -> Sequence[str]:
    """By which push channels a page rings, beside the mail; one about a quiet holder rings nowhere."""
    return () if reason == PageReason.STATUS else channels(person or "")


def _mirrors(incident: Incident, version: int, channels: Channels, now: datetime) -> Iterator[Task]:
    """A new state is shown in GitLab's own fields, and in the PagerDuty of whoever was paged by it."""
    facts = {"state": incident.state.value, "holder": incident.holder, "at": now.isoformat()}
    yield from effect_tasks(incident, Effect(do=EffectKind.MIRROR, key=f"mirror/{version}", facts=facts), channels)
    for person in incident.paged:
        for channel in channels(person):
            if channel.startswith(PAGERDUTY):
                yield Task(
                    incident_id=incident.id,
                    lane=PUSH,
                    do=EffectKind.MIRROR.value,
                    key=f"{incident.id}/mirror/{version}/{channel}",
                    person=person,
                    facts={**facts, "channel": channel},
                )


def operator_tasks(alarm: OperatorAlarm, operators: Sequence[str], channels: Channels, now: datetime) -> Iterator[Task]:
    """The operators hear that panicmail needs help: once per cause and hour."""
    do, told = EffectKind.OPERATORS, {"at": now.isoformat(), **alarm.facts, "cause": alarm.cause}
    for person in operators:
        key = operator_key(alarm.cause, now, person)
        task = Task(incident_id=alarm.incident_id, lane=LANES[do], do=do.value, key=key, person=person, facts=told)
        yield task
        yield from _pushes(task, channels) if alarm.rings else ()


def operator_key(cause: str, at: datetime, person: str) -> str:
    """The key of what an operator is told about a cause in the hour of `at`."""
    return f"operators/{cause}/{at:%Y%m%d%H}/{person}"


def tell_tasks(incident_id: str, person: str, key: str, facts: Mapping[str, Any], channels: Channels) -> Iterator[Task]:
    """Answer one of our people about an incident; the same `key` once."""
    do, key = EffectKind.TELL, f"{incident_id}/tell/{key}/{person}"
    task = Task(incident_id=incident_id, lane=LANES[do], do=do.value, key=key, person=person, facts=facts)
    yield task
    yield from _pushes(task, channels)


def list_task(person: str, day: str) -> Task:
    """Tell `person` what is open or held, once a day."""
    do = EffectKind.LIST
    return Task(
        incident_id=None, lane=LANES[do], do=do.value, key=f"list/{day}/{person}", person=person, facts={"day": day}
    )


def proven_task(person: str, key: str, facts: Mapping[str, Any]) -> Task:
    """Answer `person` about their test page; the same `key` once."""
    do = EffectKind.PROVEN
    return Task(incident_id=None, lane=LANES[do], do=do.value, key=f"proven/{key}/{person}", person=person, facts=facts)


def note_task(incident_id: str, line_id: int) -> Task:
    """A line of the timeline as a note on the incident's issue."""
    return Task(incident_id=incident_id, lane=LANES[EffectKind.ISSUE], do=NOTE, key=f"{incident_id}/note/{line_id}",
                facts={"line": line_id}, after=f"{incident_id}/issue")  # fmt: skip


def issue_tasks(incident: Incident, *, twin_possible: bool, is_receipt_out: bool, channels: Channels) -> Iterator[Task]:
    """What follows when the issue is open.

    Args:
        twin_possible: An earlier attempt had an open outcome, so another issue may appear beside it.
        is_receipt_out: The receipt may have gone without the link.
    """
    do = EffectKind.TWINS
    for number, delay in enumerate(TWINS_AFTER if twin_possible else ()):
        key = f"{incident.id}/twins/{number}"
        yield Task(incident_id=incident.id, lane=LANES[do], do=do.value, key=key, delay=delay)
    if is_receipt_out:
        yield from effect_tasks(
            incident, Effect(do=EffectKind.NEWS, key="news/issue", facts={"what": "issue"}), channels
        )


#: What is said to or about somebody who has it: nobody waits to be called by it for the first time.
_OF_A_HOLDER = frozenset({PageReason.STILL_YOURS, PageReason.STATUS, PageReason.SILENT_HOLDER})
_RANKS: Mapping[str, int] = {
    EffectKind.PAGE: 0,
    EffectKind.ISSUE: 0,
    EffectKind.TELL: 1,
    EffectKind.OPERATORS: 1,
    EffectKind.RECEIPT: 1,
    EffectKind.CONFIDE: 1,
}


def rank(task: Task) -> int:
    """What goes first in a lane, the least before: a page of an incident nobody has and an issue; reminders, answers
    and receipts; news, notes and all else."""
    if task.do == EffectKind.PAGE and task.facts.get("word") in _OF_A_HOLDER:
        return 1
    return _RANKS.get(task.do, 2)


def is_stale_news(facts: Mapping[str, Any]) -> bool:
    """Whether news that waited for `OLD_NEWS` has become history."""
    return facts.get("what") not in _NEVER_OLD


def alarm_of_entry(entry: Entry) -> str:
    """What the log calls an entry that an alert may wait for; "" for any other."""
    if entry.event in _ALARMING:
        return entry.event
    cause = entry.facts.get("cause") or {}
    return ALARMS.get(str(cause.get("last_resort")), "") if entry.event == "people.paged" else ""


def alarm_of_effect(effect: Effect) -> str:
    """What the log calls what the operators are told of an incident, once for each; "" for what they are not."""
    if effect.do is not EffectKind.OPERATORS:
        return ""
    cause = str(effect.facts["cause"])
    return ALARMS.get(cause, cause)
