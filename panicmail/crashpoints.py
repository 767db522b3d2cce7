"""Places where the process can be made to die or to hang, to show that nothing is lost there.

    PANICMAIL_CRASH_AT=page.sent       the process ends there as in a power cut, with exit status 137
    PANICMAIL_CRASH_AT=page.sent:3     the third time somebody comes by
    PANICMAIL_HANG_AT=tick             whoever comes by stays there for ever: what the watchdog is for

A transaction has two points: `<name>.commit` right before its COMMIT, `<name>.committed` right after it. A call over
the network has two as well: before its first octet and after its answer. `tests/faults` runs every point and starts
again. Nothing of this does anything unless one of the two variables is set.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from panicmail.errors import ConfigError

#: Exit status of a process that was killed (128 + SIGKILL), as a shell reports it.
KILLED = 137

#: Every write transaction, by name.
TRANSACTIONS = (
    "mails.accept",
    "mails.claim",
    "mails.understand",
    "mails.amend",
    "mails.take_in",
    "senders.claim",
    "senders.settle",
    "page.claim",
    "page.settle",
    "mail.claim",
    "mail.settle",
    "push.claim",
    "push.settle",
    "gitlab.claim",
    "gitlab.settle",
    "outbox.put_off",
    "tick.move",
    "tick.unreachable",
    "tick.alarm",
    "signs.weigh",
    "link.act",
    "hook.act",
    "command.act",
    "keys.make",
    "leases.release",
    "accounts.repair",
    "clock.put_back",
    "clock.alarm",
    "copy.hold",
    "retention.erase",
    "copy.alarm",
)
#: Calls over the network, and the disk where the spool is.
CALLS = (
    "smtp.answering",
    "smtp.answered",
    "page.sending",
    "page.sent",
    "mail.sending",
    "mail.sent",
    "push.sending",
    "push.sent",
    "gitlab.asking",
    "gitlab.answered",
    "spool.writing",
    "spool.written",
)
#: Where a thread comes by again and again.
ROUNDS = ("tick", "writer", "reader", "loop")
POINTS = (*(f"{name}.{when}" for name in TRANSACTIONS for when in ("commit", "committed")), *CALLS, *ROUNDS)


class _Trap:
    """Counts who comes by one point, and springs at the wanted time."""

    def __init__(self, wanted: str, spring: Callable[[], None]) -> None:
        self.name, _, nth = wanted.partition(":")
        self._left = int(nth or 1)
        self._spring = spring
        self._counting = threading.Lock()

    def pass_by(self) -> None:
        with self._counting:
            self._left -= 1
            springs = self._left == 0
        if springs:
            self._spring()


def _die() -> None:
    os._exit(KILLED)


def _hang() -> None:
    threading.Event().wait()


_traps: dict[str, _Trap] = {}


def point(name: str) -> None:
    """Come by the point `name`."""
    if _traps and (trap := _traps.get(name)):
        trap.pass_by()


def set_traps(environ: Mapping[str, str]) -> None:
    """Set what the environment asks for.

    Raises:
        ConfigError: It names no point, or no number of a passing.
    """
    _traps.clear()
    for variable, spring in (("PANICMAIL_CRASH_AT", _die), ("PANICMAIL_HANG_AT", _hang)):
        wanted = environ.get(variable)
        if not wanted:
            continue
        name, colon, nth = wanted.partition(":")
        if name not in POINTS or (colon and not (nth.isdecimal() and int(nth) > 0)):
            expected = f"a point such as 'page.sent' or 'page.sent:3' out of {', '.join(POINTS)}"
            raise ConfigError([f"{variable}: found {wanted!r}, expected {expected}"])
        _traps[name] = _Trap(wanted, spring)
