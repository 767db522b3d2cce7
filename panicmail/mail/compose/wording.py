"""How our mails say things: instants as their reader's clock shows them, people by name, who is called next.

`Wording` speaks about one incident to one reader. It says only what the incident and the configuration hold: a breach
only once it was recorded, an acknowledgement only with what it rests on, a deadline only when something follows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from panicmail.incident.escalation_policy import OPERATOR
from panicmail.incident.model import Incident
from panicmail.incident.people import Person, by_address
from panicmail.incident.transitions import called_for_silent, called_on_no, next_call
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.notice_context import NoticeContext, Organisation, PageSent

#: A policy shorter than this is told in seconds: the demo's, and a test's.
_SECONDS_BELOW = timedelta(minutes=2)
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # strftime's depend on the host's locale


@dataclass(frozen=True, slots=True)
class ReaderClock:
    """Instants as somebody in `zone` reads them at `now`: the day is said when it is not today."""

    zone: tzinfo
    now: datetime
    seconds: bool = False

    def at(self, instant: datetime) -> str:
        """Such as 03:22, Tue 03:22, or 2026-11-17 03:22 when it is a week away or more."""
        local, today = instant.astimezone(self.zone), self.now.astimezone(self.zone).date()
        time = f"{local:%H:%M:%S}" if self.seconds else f"{local:%H:%M}"
        if local.date() == today:
            return time
        near = abs((local.date() - today).days) < 7
        return f"{_WEEKDAYS[local.weekday()]} {time}" if near else f"{local:%Y-%m-%d} {time}"

    def zoned(self, instant: datetime) -> str:
        """`at` with the zone's abbreviation."""
        return f"{self.at(instant)} {instant.astimezone(self.zone):%Z}"


def span(length: timedelta) -> str:
    """Such as 40 s, 15 min, 2 h 5 min, 3 days; never longer than it was."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < 120:
        return f"{seconds} s" if seconds != 60 else "1 min"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} days"


def listed(items: Iterable[str]) -> str:
    """Such as: Ana, Bo and Max."""
    *most, last = list(items) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def role_name(role: str) -> str:
    """A role as people say it: SEOC, or its words."""
    return role.upper() if len(role) <= 5 else role.replace("_", " ").replace("-", " ")


@dataclass(frozen=True, slots=True)
class NextCall:
    """Who is called when, if the reader does not answer."""

    at: datetime
    people: Mapping[str, str]  #: person -> role; empty: nobody new, the last call is repeated


class ReaderWords:
    """Instants and people of an incident, in the words of one reader."""

    def __init__(
        self, organisation: Organisation, incident: Incident, now: datetime, zone: tzinfo, reader: str = ""
    ) -> None:
        self.organisation = organisation
        self.incident = incident
        self.now = now
        self.reader = reader  #: the person's id; "" the reporter
        self.clock = ReaderClock(zone, now, seconds=organisation.policy.sla < _SECONDS_BELOW)

    # -- instants --

    def at(self, instant: datetime | None) -> str:
        return self.clock.at(instant or self.now)

    def zoned(self, instant: datetime | None) -> str:
        return self.clock.zoned(instant or self.now)

    def when(self, instant: datetime) -> str:
        """Such as: at 03:22; now, of what is due."""
        return f"at {self.at(instant)}" if instant > self.now else "now"

    # -- people --

    def full(self, person: str) -> str:
        """Their full name; what is not a person of ours is said as it is."""
        found = self.organisation.people.get(person)
        return found.name if found else sanitize.words(person, 60)

    def first(self, person: str) -> str:
        """Their first name; the full one where two people share it."""
        found = self.organisation.people.get(person)
        if found is None:
            return sanitize.words(person, 60)
        namesakes = [p for p in self.organisation.people.values() if p.first_name.lower() == found.first_name.lower()]
        return found.first_name if len(namesakes) == 1 else found.name

    def role(self, person: str) -> str:
        """The role they were paged as, as people say it; "" when there was none."""
        paged = self.incident.paged.get(person)
        return role_name(paged.role) if paged and paged.role else ""

    def titled(self, person: str, role: str = "") -> str:
        """Such as: Max (SMOC)."""
        role = role_name(role) if role else self.role(person)
        return f"{self.first(person)} ({role})" if role else self.first(person)

    def team(self, people: Mapping[str, str] | Sequence[str]) -> str:
        """Such as: Ana (SEOC) and Max (SMOC). With a mapping, person -> role."""
        roles = people if isinstance(people, Mapping) else {}
        return listed(self.titled(person, roles.get(person, "")) for person in people)

    def firsts(self, people: Iterable[str]) -> str:
        return listed(self.first(person) for person in people)

    def others_paged(self) -> list[str]:
        """Everybody else who was paged for it, in the order of their first pages."""
        paged = self.incident.paged
        return sorted((p for p in paged if p != self.reader), key=lambda p: paged[p].round)

    def called_last(self) -> list[str]:
        """The others paged in the latest round."""
        paged, others = self.incident.paged, self.others_paged()
        last_at = max((paged[person].last_at for person in others), default=None)
        return [person for person in others if paged[person].last_at == last_at]

    def somebody_else(self) -> Person | None:
        """One who has not been called yet, if there is one: an example of whom to hand it to."""
        others = [
            p for p in self.organisation.people.values() if p.id != self.reader and p.id not in self.incident.away
        ]
        fresh = [p for p in others if p.id not in self.incident.paged]
        return next(iter(fresh or others), None)

    def called_for_silent(self) -> Mapping[str, str]:
        """Who is called next when the holder stays silent: person -> role; {} when there is nobody else."""
        return called_for_silent(self.incident, self.organisation.policy, self.organisation.who)

    def called_on_no(self) -> Mapping[str, str]:
        """Who is called at once when the reader says no: person -> role; {} when nobody is left."""
        return called_on_no(self.incident, self.organisation.policy, self.organisation.who, self.reader)

    def fulls(self, people: Iterable[str]) -> str:
        return listed(self.full(person) for person in people)

    def own_address(self) -> str:
        """Where the reader writes from."""
        known = self.organisation.people.get(self.reader)
        return known.email if known else "your own address"

    def is_manager(self, person: str) -> bool:
        paged = self.incident.paged.get(person)
        return paged is not None and paged.role in self.organisation.policy.managers

    def is_somebody_on_call(self) -> bool:
        """Whether anybody was paged who is no operator."""
        return any(paged.role != OPERATOR for paged in self.incident.paged.values())


class Wording(ReaderWords):
    """What can be said about an incident to one reader."""

    @classmethod
    def to(cls, context: NoticeContext, person: Person) -> Wording:
        return cls(context.organisation, context.incident, context.now, person.tz, person.id)

    @classmethod
    def to_reporter(cls, context: NoticeContext) -> Wording:
        zone = reporter_zone(context.organisation, context.incident.reporter_address)
        return cls(context.organisation, context.incident, context.now, zone)

    # -- why the reader is called --

    def silent_for(self) -> timedelta:
        """How long those of `silent` have given no answer, at least."""
        return self.now - max(filter(None, map(self._asked_at, self.silent())))

    def silent(self) -> list[str]:
        """Who was asked and gave no answer; not who is away, or was asked only just now."""
        return [person for person in self.others_paged() if self._asked_at(person) is not None]

    def _asked_at(self, person: str) -> datetime | None:
        """When they were first asked since it is open."""
        paged, opened = self.incident.paged[person], self.incident.opened_at
        at = paged.at if paged.at >= opened else paged.last_at
        enough = timedelta(seconds=1) if self.clock.seconds else timedelta(minutes=1)
        return None if person in self.incident.away or at < opened or self.now - at < enough else at

    def absent(self) -> list[tuple[str, str]]:
        """Some of those who are passed over, each with why."""
        return [(p, self.incident.away[p]) for p in self.others_paged() if p in self.incident.away][:3]

    def empty_roles(self) -> list[str]:
        """Roles of the steps before this one that nobody fills; [] when anybody else was paged."""
        policy = self.organisation.policy
        roles = dict.fromkeys(role for step in policy.steps[: max(self.incident.step, 0)] for role in step.page)
        return [] if self.others_paged() else [role for role in roles if not self.organisation.who(role)]

    def stands_in(self) -> str:
        """The role whose gap the reader answers for; "" when the roster names them."""
        paged = self.incident.paged.get(self.reader)
        return paged.role if paged is not None and self.organisation.has_gap(paged.role) else ""

    def had_it(self) -> bool:
        """Whether somebody had it before it opened again."""
        acked_at = self.incident.acked_at
        return bool(self.incident.holder and acked_at and self.incident.opened_at > acked_at)

    def heard_at(self) -> datetime:
        """When whoever has it was last heard of."""
        return max(filter(None, (self.incident.acked_at, self.incident.worked_at)), default=self.now)

    # -- what comes next --

    def manager_at(self) -> datetime | None:
        """When a manager is called if nobody answers; None: they are called, or nobody ever calls one."""
        incident, policy = self.incident, self.organisation.policy
        at = policy.step_at(incident.steps_from_at, policy.last)
        is_to_come = incident.step < policy.last and policy.people(policy.managers, self.organisation.who)
        return at if is_to_come and at > self.now else None

    def manager_called_at(self) -> datetime | None:
        """When a manager was last called; None: none was, or nobody but managers ever is."""
        called = [paged.last_at for person, paged in self.incident.paged.items() if self.is_manager(person)]
        return max(called) if called and self.organisation.policy.last > 0 else None

    def next(self) -> NextCall | None:
        """Who besides the reader is called next, or when the last call is repeated; None while no escalation runs."""
        incident = self.incident
        if incident.next_step_at is None:
            return None
        found = next_call(incident, self.organisation.policy, self.organisation.who, self.reader)
        if found is None:
            return NextCall(incident.next_step_at, {})
        return NextCall(*found)

    def ask(self) -> str:
        """What to reply by when, and what happens else; without its full stop.

        No command of ours ends a sentence: a program that wraps it would put it on a line alone, as if it were meant.
        """
        coming = self.next()
        if coming is None or coming.at <= self.now:
            return f'reply now: "ack" stops the calling{self.or_else().removeprefix(" now")}'
        return f'reply "ack"{self.or_else()}'

    def still_ask(self) -> str:
        """A sentence: nobody has it, and what to reply."""
        return f"nobody has this. {capital(self.ask())}."

    def ack_by(self) -> str:
        """`ask`, for a lock screen."""
        coming = self.next()
        return f"ack by {self.at(coming.at)}" if coming and coming.at > self.now else "ack now"

    def or_else(self) -> str:
        """What follows an "answer": by when, and what happens else. Without its full stop."""
        coming = self.next()
        if coming is None:
            return ". Nobody else is called"
        if coming.at <= self.now:
            return f" now; {self.team(coming.people)} {are(coming.people)} called too" if coming.people else " now"
        if coming.people:
            return f" by {self.zoned(coming.at)}, or {self.team(coming.people)} {are(coming.people)} called"
        return f" by {self.zoned(coming.at)}, or you are called again, until somebody answers"

    def what_follows(self) -> str:
        """A sentence: who is called next and when, or that the call is repeated."""
        coming = self.next()
        if coming is None:
            return "Nobody else is called."
        if not coming.people:
            return self.repeated()
        at = "now" if coming.at <= self.now else f"at {self.zoned(coming.at)}"
        return f"{self.team(coming.people)} {are(coming.people)} called {at}."

    def repeated(self) -> str:
        """A sentence: the last call is repeated, and when."""
        coming = self.next()
        at = f" at {self.zoned(coming.at)}" if coming and coming.at > self.now else ""
        return f"The last call is repeated{at}, until somebody answers."


def capital(text: str) -> str:
    """`text` as a sentence begins."""
    return text[:1].upper() + text[1:]


def are(people: Iterable[str]) -> str:
    return "is" if len(list(people)) == 1 else "are"


def reporter_zone(organisation: Organisation, address: str) -> tzinfo:
    """The zone a reporter's clock most likely shows: their own if they are one of ours, else that of most of ours."""
    known = by_address(organisation.people, address)
    if known is not None:
        return known.tz
    zones = Counter(person.tz for person in organisation.people.values()).most_common(1)
    return zones[0][0] if zones else ZoneInfo("UTC")


def history(pages: Iterable[PageSent], clock: ReaderClock) -> str:
    """Such as: 03:07, 03:12: mail accepted; 03:17: mail failed. "" without a page. `pages` oldest first."""
    rounds: dict[str, list[str]] = {}
    for page in pages:
        if page.state != "void":
            rounds.setdefault(clock.at(page.at), []).append(f"{page.channel} {_STATES.get(page.state, 'unknown')}")
    runs: list[tuple[list[str], str]] = []
    for at, states in rounds.items():
        fate = ", ".join(dict.fromkeys(states))
        if runs and runs[-1][1] == fate:
            runs[-1][0].append(at)
        else:
            runs.append(([at], fate))
    return "; ".join(f"{', '.join(ats)}: {fate}" for ats, fate in runs)


_STATES = {"accepted": "accepted", "failed": "failed", "trying": "being tried", "queued": "not sent yet"}
