"""The recurring duties, as the scheduler calls them. Each catches everything: APScheduler must see no exception.

    tick     once a second: takes what is due, empties the spool, frees what dead nodes had claimed
    poll     signs of work in GitLab

A part of a duty that fails costs the others nothing: its next turn comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from panicmail import crash
from panicmail.acceptance import Acceptance
from panicmail.daemon import systemd
from panicmail.emergency import Emergency
from panicmail.errors import StoreFailed
from panicmail.escalation import Escalation
from panicmail.incident import State
from panicmail.signs import Signs
from panicmail.store.ledger import Ledger
from panicmail.vitals import Vitals

_log = structlog.get_logger()


class Duties:
    """What is done again and again. `came_round_at` is when the tick last came on, in monotonic seconds."""

    def __init__(
        self,
        ledger: Ledger,
        escalation: Escalation,
        signs: Signs,
        acceptance: Acceptance,
        emergency: Emergency,
        vitals: Vitals,
    ) -> None:
        self._ledger = ledger
        self._escalation = escalation
        self._signs = signs
        self._acceptance = acceptance
        self._emergency = emergency
        self._vitals = vitals
        self.came_round_at = time.monotonic()

    def tick(self) -> None:
        """Everything that must not wait. A database that is away ends the round, not the ticking."""
        crash.point("tick")
        emptied = self._safely("tick.failed", lambda: self._acceptance.take_in(self.came_on))
        self.came_on()
        moved = self._safely("tick.failed", self._let_time_pass)
        self.came_on()
        if emptied and moved:
            self._vitals.ticked()
        # Without its database panicmail still takes mails and calls people: a restart would only interrupt that.
        systemd.tell("WATCHDOG=1")

    def _let_time_pass(self) -> None:
        self._escalation.tick(self.came_on)
        self._emergency.answered(self._ledger.read(lambda book: book.list_incidents(states=[State.OPEN])))

    def came_on(self) -> None:
        self.came_round_at = time.monotonic()
        self._vitals.came_round()

    def poll(self) -> None:
        self._safely("signs.failed", self._signs.poll)

    def _safely(self, event: str, duty: Callable[[], object]) -> bool:
        """Whether it was done."""
        try:
            duty()
        except StoreFailed as exc:
            _log.error(event, reason=str(exc))
            return False
        except Exception:  # its next turn comes
            _log.exception(event)
            return False
        return True
