"""The policy: who is paged when, as the operator wrote it, and the spans the state table is built on.

Pure: no clock, no I/O. Spans are `timedelta`, instants aware UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

# -- Business hours: the part of time that counts for a policy which nobody is woken for.
#
# Pure. Local hours are those of a zone, so a day on which its clocks change is an hour longer or shorter outside
# them, and a shift over the change keeps its wall times.

#: Further than any span that makes sense: a configuration is checked to have open hours in every week.
_DAYS_WITHIN = 4000


@dataclass(frozen=True, slots=True)
class BusinessHours:
    """Days of the week and the hours of them that count.

    `opens` is before `closes`: hours over midnight are no business hours.
    """

    days: frozenset[int]  #: 0 is Monday; not empty
    opens: time
    closes: time
    zone: ZoneInfo

    def after(self, start: datetime, span: timedelta) -> datetime:
        """The instant at which `span` of open time has passed since `start`; no span ends when it next is open."""
        left = span
        for opens, closes in self._from(start.astimezone(self.zone).date(), 1):
            begins = max(opens, start)
            if begins >= closes:
                continue
            if left <= closes - begins:
                return begins + left
            left -= closes - begins
        raise ValueError(f"no {span} of open hours within {_DAYS_WITHIN} days")

    def opens_at(self, at: datetime) -> datetime:
        """When it opens on the day it is there at `at`, if that is a day on which it does."""
        return self._instant(at.astimezone(self.zone).date(), self.opens)

    def before(self, end: datetime, span: timedelta) -> datetime:
        """The instant since which `span` of open time has passed until `end`: what `after` answers `end` for."""
        left = span
        for opens, closes in self._from(end.astimezone(self.zone).date(), -1):
            ends = min(closes, end)
            if ends <= opens:
                continue
            if left <= ends - opens:
                return ends - left
            left -= ends - opens
        raise ValueError(f"no {span} of open hours within {_DAYS_WITHIN} days")

    def _from(self, day: date, direction: int) -> Iterator[tuple[datetime, datetime]]:
        """The open hours of `day` and of the days after it, or before it."""
        for number in range(_DAYS_WITHIN):
            at = day + timedelta(days=direction * number)
            if at.weekday() in self.days:
                yield self._instant(at, self.opens), self._instant(at, self.closes)

    def _instant(self, day: date, at: time) -> datetime:
        return datetime.combine(day, at, self.zone).astimezone(UTC)


# --

#: The name of the policy that is taken when no other one is asked for.
DEFAULT = "default"
#: Answers who is on call in a role at the instant the question is about; () when nobody is.
OnCallAt = Callable[[str], tuple[str, ...]]
#: The role of those whom `[operators] page` names: they are called for a panic when nobody else can be.
OPERATOR = "panicmail operator"

#: What the holder leaves unanswered for this long calls somebody else.
ANSWER_WITHIN = timedelta(minutes=10)
#: More in the thread of a resolved incident opens it again for this long; later it is a new incident.
REOPEN_WITHIN = timedelta(hours=24)
#: A reopened incident pages its last holder alone for this long, then the policy starts (SLA/3 if shorter).
REOPEN_GRACE = timedelta(minutes=5)
#: The same mail again within this time joins the first one.
SAME_MAIL_WITHIN = timedelta(hours=48)
#: The same mail by another way, a list or a filter, joins the first one within this time.
OTHER_WAY_WITHIN = timedelta(minutes=15)
#: A page no channel accepted for this long makes its person unreachable (a quarter of the SLA if shorter).
UNDELIVERED_AFTER = timedelta(seconds=60)
#: Why somebody is unreachable whom no page has reached yet; it ends when one does.
UNDELIVERED = "no channel accepted the page"
#: The same in what was written before it had these words.
UNDELIVERED_BEFORE = "no way to her accepted the page"
#: A step taken later than this says how late it is.
LATE_AFTER = timedelta(seconds=30)


def daytime_in(zone: ZoneInfo) -> BusinessHours:
    """When mail comes that can wait, on every day: from 08:00 to 20:00 there."""
    return BusinessHours(frozenset(range(7)), time(8), time(20), zone)


#: Of somebody whose zone is not known.
DAYTIME = daytime_in(ZoneInfo("UTC"))


@dataclass(frozen=True, slots=True)
class PolicyStep:
    """One step: `after` the start of the policy the people on call in the roles `page` are paged."""

    after: timedelta
    page: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChoice:
    """Which panics follow a policy that is not the default one. What is empty asks for nothing; one hit is enough."""

    severities: tuple[int, ...] = ()
    subjects: tuple[str, ...] = ()  #: lower-case words; one of them in the subject
    addresses: tuple[str, ...] = ()  #: lower case; one of them among the recipients
    drill: bool = False
    is_for_people: bool = False  #: `severities` are those our own people say, never a report

    def is_named(self, severity: int | None, subject: str) -> bool:
        """Whether a report's own words ask for this policy."""
        if self.drill:
            return False
        words = re.findall(r"\w+", subject.lower())
        is_severity = severity in self.severities and not self.is_for_people
        return is_severity or any(wanted in words for wanted in self.subjects)

    def is_addressed(self, recipient: str) -> bool:
        """Whether a mail to `recipient` asks for this policy."""
        return not self.drill and recipient.lower() in self.addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationPolicy:
    """One escalation policy. `steps` is ascending and not empty; its first step is due at once."""

    sla: timedelta  #: from the acceptance of the mail to somebody's acknowledgement
    steps: tuple[PolicyStep, ...]
    repeat: timedelta  #: the last step again, until somebody acknowledges
    remind_after: timedelta  #: acknowledged without a sign of work for this long: asked again
    name: str = DEFAULT
    choice: PolicyChoice = PolicyChoice()  #: of the default policy nothing: it is taken when no other one is
    hours: BusinessHours | None = None  #: all spans count in these alone; None: day and night

    @property
    def last(self) -> int:
        """The index of the last step, the one that repeats."""
        return len(self.steps) - 1

    def later(self, start: datetime, span: timedelta) -> datetime:
        """When `span` has passed since `start`, as this policy counts."""
        return self.hours.after(start, span) if self.hours else start + span

    def sla_at(self, start: datetime) -> datetime:
        """When the SLA of what began at `start` passes."""
        return self.later(start, self.sla)

    def step_at(self, start: datetime, index: int) -> datetime:
        """When step `index` is due on a policy that began at `start`."""
        return self.later(start, self.steps[index].after)

    def start_for(self, index: int, now: datetime) -> datetime:
        """When a policy must have begun whose step `index` is due at `now`."""
        after = self.steps[index].after
        return self.hours.before(now, after) if self.hours else now - after

    def after_step(self, start: datetime, index: int, now: datetime) -> datetime:
        """When the next page is due once step `index` was taken at `now`: the next step's time, or the repeat."""
        return self.later(now, self.repeat) if index >= self.last else self.step_at(start, index + 1)

    def overdue(self, start: datetime, taken: int, now: datetime) -> range:
        """The steps after `taken` whose time has come; a time that equals `now` has."""
        end = taken + 1
        while end <= self.last and self.step_at(start, end) <= now:
            end += 1
        return range(taken + 1, end)

    def call_after(self, number: int) -> timedelta:
        """How long after its start this policy calls somebody for the `number`th time, counted from 0."""
        repeats = max(0, number - self.last)
        return self.steps[min(number, self.last)].after + repeats * self.repeat

    def first_paged(self) -> dict[str, timedelta]:
        """Role -> how long after its start it is paged first."""
        first: dict[str, timedelta] = {}
        for step in self.steps:
            for role in step.page:
                first.setdefault(role, step.after)
        return first

    def slower_than(self, other: EscalationPolicy) -> str:
        """In what this policy calls somebody later than `other` does, in a word or two; "" when in nothing.

        A role that `other` pages at once may be left out here: where a report's words choose this policy, whoever is on
        call in it is called beside the first step (`besides`).
        """
        if self.hours is not None and self.hours != other.hours:
            return "its hours"
        for name in ("sla", "repeat", "remind_after"):
            if getattr(self, name) > getattr(other, name):
                return f"its {name}"
        for number in range(len(other.steps)):
            if self.call_after(number) > other.call_after(number):
                return f"call {number + 1}"
        own, at_once = self.first_paged(), other.steps[0].page
        late = [role for role, at in other.first_paged().items() if role in own and own[role] > at]
        late += [role for role in other.first_paged() if role not in own and role not in at_once]
        return f"its page of {late[0]}" if late else ""

    def besides(self, other: EscalationPolicy) -> tuple[str, ...]:
        """The roles that `other` pages at once and this policy does not."""
        return tuple(role for role in other.steps[0].page if role not in self.steps[0].page)

    @property
    def managers(self) -> tuple[str, ...]:
        """The roles of the last step that the first step does not page; all of the last step's if it adds none."""
        first = self.steps[0].page
        return tuple(role for role in self.steps[-1].page if role not in first) or self.steps[-1].page

    @property
    def reopen_grace(self) -> timedelta:
        return min(REOPEN_GRACE, self.sla / 3)

    def horizon(self, now: datetime) -> datetime:
        """No step of an open incident is due later than this, whatever happened to it."""
        return self.later(now, max(self.steps[-1].after, self.repeat, self.reopen_grace, self.sla))

    @property
    def undelivered_after(self) -> timedelta:
        return min(UNDELIVERED_AFTER, self.sla / 4)

    def people(self, roles: tuple[str, ...], who: OnCallAt) -> dict[str, str]:
        """Who is on call in `roles`, each person once, with the first role that named them, in order."""
        named: dict[str, str] = {}
        for role in roles:
            for person in who(role):
                named.setdefault(person, role)
        return named


@dataclass(frozen=True, slots=True)
class Duty:
    """What holds for an incident when something happens to it."""

    policy: EscalationPolicy  #: the one it follows
    who: OnCallAt  #: who is on call at `now`
    now: datetime
