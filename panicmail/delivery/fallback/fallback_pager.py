"""Whom to call, and when."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

import structlog

from panicmail.clock import Clock
from panicmail.delivery.fallback.fallback_pages import FallbackPage, FallbackPages, Reaches, Rings, no_phones
from panicmail.delivery.fallback.remembered_step import RememberedStep
from panicmail.delivery.fallback.spooled_mail import ReadsSpooledMail, SpooledPanic
from panicmail.errors import StoreFailed
from panicmail.incident import ids
from panicmail.incident.model import Incident
from panicmail.incident.people import Person
from panicmail.mail import compose, encryption
from panicmail.mail.compose import ComposedMail, push_text
from panicmail.mail.compose.letterhead import Letterhead
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.store.spool import Spool, Spooled

_log = structlog.get_logger()

#: A mail that has been in the spool for less is about to be taken in.
GRACE = timedelta(seconds=2)
#: The database is away once calls of the tick have failed, or one has waited, for so long: one or two may fail for a
#: lock. A tick that takes long is no sign of it: many steps are due.
AWAY_AFTER = timedelta(seconds=10)
#: That panicmail accepts nothing is said once in so long.
REFUSED_EVERY = timedelta(hours=1)
#: How often to look, in seconds.
LOOK_EVERY = 0.5
#: A longer gap between two looks means that the process was stopped, or its clock was moved.
_STOPPED = timedelta(seconds=4)
_CALLERS = 4


class FallbackPager:
    """Calls people without the database. `call_who_is_due` is called often, by one thread, and does not wait."""

    def __init__(
        self,
        spool: Spool,
        settings: CurrentSettings,
        reads: ReadsSpooledMail,
        connect: Callable[[], Reaches],
        clock: Clock,
        callers: Executor | None = None,
        *,
        ring: Rings = no_phones,
    ) -> None:
        self._spool = spool
        self._settings = settings
        self._reads = reads
        self._clock = clock
        callers = callers or ThreadPoolExecutor(_CALLERS, thread_name_prefix="emergency")
        self._calls = FallbackPages(connect, ring, clock, callers)
        self._panics: dict[str, SpooledPanic] = {}  #: by the name of the file
        self._hearing = threading.Lock()
        self._open: Mapping[str, Incident] = {}
        self._answered_at = self._looked_at = self._fair_since = clock()
        self._asked_at: datetime | None = None  #: when the call under way began
        self._unanswered: dict[str, datetime] = {}  #: kind of call -> since when such calls fail
        self._refused_at: datetime | None = None

    # -- what it hears

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Around each call of the tick to the database, `what` for short: it hears whether and when it is answered."""
        asked_at = self._clock()
        with self._hearing:
            self._asked_at = asked_at
        failed = False
        try:
            yield
        except StoreFailed:
            failed = True
            raise
        finally:
            with self._hearing:
                self._asked_at = None
                if failed:
                    self._unanswered.setdefault(what, asked_at)
                else:
                    self._unanswered.pop(what, None)

    def answered(self, open_incidents: Iterable[Incident]) -> None:
        """The database answered a whole tick, and these are open: those whose steps come first."""
        with self._hearing:
            self._answered_at = self._clock()
            self._unanswered.clear()
            self._open = {incident.id: incident for incident in open_incidents}
        self._calls.forget("step/")

    def refused(self, reason: str) -> None:
        """Neither database nor spool took a mail."""
        now = self._clock()
        with self._hearing:
            if self._refused_at is not None and now - self._refused_at < REFUSED_EVERY:
                return
            self._refused_at = now
        self._sound_alarm(f"refused/{now.isoformat()}", {"cause": "not_accepting", "reason": reason}, now)

    # -- what it does

    def call_who_is_due(self) -> None:
        """Find out whom to call, and begin the calls that are due."""
        now = self._clock()
        if now - self._looked_at > _STOPPED:
            self._fair_since = now
        self._looked_at = now
        if self._is_away():
            for incident in tuple(self._open.values()):
                self._call_for_steps(incident, now)
        self._look_into_spool(now)
        for name in self._spool.broken():
            self._sound_alarm(f"broken/{name}", {"cause": "spool_broken", "file": name}, now)
        self._calls.make_due()

    def _is_away(self) -> bool:
        with self._hearing:
            asked = [*self._unanswered.values(), *([self._asked_at] if self._asked_at else [])]
        return any(self._clock() - max(asked_at, self._fair_since) >= AWAY_AFTER for asked_at in asked)

    def _look_into_spool(self, now: datetime) -> None:
        waiting = {spooled.path.name: spooled for spooled in self._spool.waiting()}
        for name in self._panics.keys() - waiting:
            del self._panics[name]
            self._calls.forget(f"mail/{name}/")
        for name, spooled in waiting.items():
            # One that seems to come from the future was accepted before the clock was put back.
            if not (spooled.called or name in self._panics or timedelta() <= now - spooled.accepted_at < GRACE):
                self._panics[name] = self._call_for_mail(spooled, now)

    def _call_for_mail(self, spooled: Spooled, now: datetime) -> SpooledPanic:
        settings = self._settings()
        people = _on_call(settings, now) or dict.fromkeys(settings.operators, "")
        panic = SpooledPanic(spooled, self._spool, self._reads, settings, people, self._answered_at)
        _log.error("emergency.calls", ref=ids.ref(spooled.mail_id), people=sorted(people), about="a mail in the spool")
        for person in people:
            self._calls.begin(
                FallbackPage(
                    key=f"mail/{spooled.path.name}/{person}",
                    person=settings.people[person],
                    write=partial(panic.letter, settings.people[person]),
                    line=partial(panic.line, settings.people[person]),
                    about=f"panicmail-{ids.incident_id(spooled.mail_id)}",
                    wanted=panic.is_wanted,
                    when_over=partial(panic.note_called, person),
                )
            )
        return panic

    def _call_for_steps(self, incident: Incident, now: datetime) -> None:
        settings = self._settings()
        for person, turn_at in _whose_turn(incident, settings, now).items():
            step = RememberedStep(settings, incident, turn_at, self._answered_at)
            call = FallbackPage(
                key=f"step/{incident.id}/{person}",
                person=settings.people[person],
                write=partial(step.letter, settings.people[person]),
                line=partial(step.line, settings.people[person]),
                about=f"panicmail-{incident.id}",
                wanted=self._is_away,
            )
            if self._calls.begin(call):
                _log.error("emergency.calls", ref=incident.ref, people=[person], about="a step whose time has come")

    def _sound_alarm(self, key: str, facts: Mapping[str, str], now: datetime) -> None:
        """Tell the operators and everybody on call that panicmail needs help; the same `key` once."""
        settings = self._settings()
        for person in {**_on_call(settings, now), **dict.fromkeys(settings.operators)}:
            own_key, said = f"{key}/{person}", {**facts, "at": now.isoformat()}
            write = partial(_alarm, settings, said, own_key, settings.people[person])
            line = partial(_alarm_line, said)
            self._calls.begin(
                FallbackPage(key=own_key, person=settings.people[person], write=write, line=line, about=key)
            )


class FallbackWatcher(threading.Thread):
    """Looks twice a second, whatever happens."""

    def __init__(self, emergency: FallbackPager) -> None:
        super().__init__(name="emergency", daemon=True)
        self._emergency = emergency
        self._stopped = threading.Event()
        self._looked_at = time.monotonic()

    def run(self) -> None:
        while not self._stopped.wait(LOOK_EVERY):
            self._looked_at = time.monotonic()
            try:
                self._emergency.call_who_is_due()
            except Exception:  # half a second later it looks again
                _log.exception("emergency.failed")

    def came_round_at(self) -> float:
        """When it last looked, in monotonic seconds; -inf once it has ended."""
        return self._looked_at if self.is_alive() else -math.inf

    def stop(self) -> None:
        self._stopped.set()


def _on_call(settings: RuntimeSettings, now: datetime) -> dict[str, str]:
    """Everybody the first and the last step name: person -> role."""
    roles = (*settings.policy.steps[0].page, *settings.policy.steps[-1].page)
    named = settings.policy.people(roles, settings.who_at(now))
    return {person: role for person, role in named.items() if person in settings.people}


def _whose_turn(incident: Incident, settings: RuntimeSettings, now: datetime) -> dict[str, datetime]:
    """Everybody named by a step whose time has come, and since when it is their turn."""
    due_at, policy = incident.next_step_at, settings.policy_of(incident)
    if due_at is None or due_at > now:
        return {}
    turns: dict[str, datetime] = {}
    for index in policy.overdue(incident.steps_from_at, incident.step, now) or [policy.last]:
        at = max(due_at, policy.step_at(incident.steps_from_at, index))
        for person in policy.people(policy.steps[index].page, settings.who_at(now)):
            turns.setdefault(person, min(at, now))
    known = {person: at for person, at in turns.items() if person in settings.people}
    return known or dict.fromkeys(settings.operators, due_at)


def _alarm(
    settings: RuntimeSettings, facts: Mapping[str, str], key: str, person: Person, now: datetime
) -> ComposedMail | None:
    def alarm(reader: Person) -> ComposedMail:
        return compose.operators(facts, Letterhead(settings.sender, reader, now), settings.addresses, key=key)

    return encryption.for_reader(alarm, person, now)[0]


def _alarm_line(facts: Mapping[str, str], now: datetime) -> str:
    return push_text.operators(facts)
