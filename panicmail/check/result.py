"""Rows: what was looked at, how it turned out, and the mend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Generic, TypeVar

import structlog

from panicmail.errors import PanicmailError, Temporary, Unknown


class CheckVerdict(StrEnum):
    """How a row turned out."""

    OK = "ok"  #: nothing to do
    WARNING = "warning"  #: it works, but somebody should look
    FAILED = "failed"  #: panicmail could not do its work like this


class Group(StrEnum):
    """What a row is about, in the order in which they are told."""

    FILE = "Configuration"
    DOOR = "Mail in"
    STORE = "Database, disk and clocks"
    GITLAB = "GitLab"
    RELAY = "Mail out"
    PEOPLE = "People"
    ROSTER = "On call"
    POLICY = "Escalation"
    WEB = "Web"
    TEST = "Test page"

    def ok(self, subject: str, found: str) -> Row:
        return Row(subject, CheckVerdict.OK, found, group=self)

    def warning(self, subject: str, found: str, mend: str) -> Row:
        return Row(subject, CheckVerdict.WARNING, found, mend, group=self)

    def failed(self, subject: str, found: str, mend: str) -> Row:
        return Row(subject, CheckVerdict.FAILED, found, mend, group=self)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at."""

    subject: str  #: what was looked at, in a word or two
    verdict: CheckVerdict
    found: str
    mend: str = ""  #: what to do about it; "" when nothing
    group: Group = Group.FILE
    person: str = ""  #: whom it is about, by key; "": nobody in particular
    channel: str = ""  #: which of their channels, by id; "": none in particular
    #: What the daily re-check tells the operators while this is not ok (`operator_alerts.causes`); "": nothing.
    cause: str = ""
    #: How far something that comes on slowly has come; while it lasts it is told at each new stage alone.
    stage: str = ""
    passing: bool = False  #: not ok for a reason that often passes by itself; told when it lasts

    @property
    def is_ok(self) -> bool:
        return self.verdict is CheckVerdict.OK

    def told_as(self, cause: str) -> Row:
        return replace(self, cause=cause)

    def of(self, person: str) -> Row:
        return replace(self, person=person)

    def passes(self) -> Row:
        return replace(self, passing=True)


def in_order(rows: Iterable[Row], people: Iterable[str]) -> list[Row]:
    """Grouped, and within people by person, in the order of the configuration."""
    groups, persons = list(Group), ["", *people]
    return sorted(rows, key=lambda row: (groups.index(row.group), persons.index(row.person)))


# -- Asking many things at once: each in a thread of its own, and nobody is waited for beyond the common end.
#
# What hangs costs its own answer and no other. Its thread lives on until its own time-out ends it; the end of the
# process does not wait for it.

_log = structlog.get_logger()
T = TypeVar("T")


class ParallelChecks:
    """Questions that are asked together.

    Args:
        seconds: From now on, for all answers.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def ask(self, work: Callable[[], T]) -> PendingAnswer[T]:
        future: Future[T] = Future()
        threading.Thread(target=_run, args=(work, future), name="check", daemon=True).start()
        return PendingAnswer(future, self._ends_at, self._seconds)


class PendingAnswer(Generic[T]):
    """What one question is answered, once it is."""

    def __init__(self, future: Future[T], ends_at: float, seconds: float) -> None:
        self._future = future
        self._ends_at = ends_at
        self._seconds = seconds

    def wait(self) -> T:
        """
        Raises:
            PanicmailError: What the question raised; `Unknown` when there is no answer in time.
        """
        if not wait([self._future], max(0.0, self._ends_at - time.monotonic())).done:
            raise Unknown(f"no answer within {self._seconds:g} s")
        return self._future.result()

    def or_none(self) -> T | None:
        """The answer; None when there is none."""
        try:
            return self.wait()
        except PanicmailError:
            return None


def _run(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except PanicmailError as exc:
        future.set_exception(exc)
    except Exception as exc:  # one that breaks must not take the others with it
        _log.exception("check.failed")
        future.set_exception(Temporary(f"panicmail failed ({type(exc).__name__})"))


# -- Clocks: how far apart they are, and whether that matters.

#: Beyond the first a clock is told, beyond the second times in mails and on issues are plainly wrong.
APART, FAR_APART = timedelta(seconds=2), timedelta(seconds=60)
_CAUSE = "check_clock"
_MEND = "let both hosts keep time by NTP: timedatectl set-ntp true, then timedatectl"


def judge(subject: str, ahead: timedelta, within: timedelta = timedelta()) -> Row:
    """How far a clock is from this host's.

    Args:
        ahead: It stands so much later than this host's; negative: earlier.
        within: How exactly that is known; the doubt is in the clock's favour.
    """
    apart = max(abs(ahead) - within, timedelta())
    how = "ahead of" if ahead > timedelta() else "behind"
    told = f"{apart.total_seconds():.0f} s {how} this host's"
    if apart > FAR_APART:
        row = Group.STORE.failed(subject, told, _MEND)
    elif apart > APART:
        row = Group.STORE.warning(subject, told, _MEND)
    else:
        row = Group.STORE.ok(subject, "the same as this host's, as far as can be told")
    return row.told_as(_CAUSE)
