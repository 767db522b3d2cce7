"""What was paged when, and when the question could last be asked: the decisions, without a clock of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from panicmail.daemon.watch.query import UnansweredPanic

#: Unable to ask for so long is a page.
BLIND_AFTER = timedelta(minutes=2)
#: Incidents that come due within this time share a page; what no way took is tried again after it.
GATHER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSeen:
    """What an answered question comes to."""

    due: tuple[UnansweredPanic, ...] = ()  #: to be paged now
    over: tuple[str, ...] = ()  #: REFs that were paged and hold no longer
    blind_since: datetime | None = None  #: a page said so; it is over


class AlarmRepeat:
    """When it last could ask, and what was paged when. Instants are the host's; `now` never falls.

    Args:
        now: It counts as able to ask until then.
        repeat: From one page about the same to the next; a reload may set another.
    """

    def __init__(self, now: datetime, repeat: timedelta, *, blind_after: timedelta = BLIND_AFTER) -> None:
        self.repeat = repeat
        self._blind_after = blind_after
        self._seen_at = now
        self._blind_paged_at: datetime | None = None
        self._is_blind = False  #: a page said so
        self._paged: dict[str, tuple[str, datetime]] = {}  #: incident -> its REF, when
        self._quiet_until = now

    def note_answer(self, alarms: Sequence[UnansweredPanic], now: datetime) -> AlarmSeen:
        """The question was answered."""
        blind_since = self._seen_at if self._is_blind else None
        self._seen_at, self._is_blind, self._blind_paged_at = now, False, None
        held = {alarm.incident.id for alarm in alarms}
        over = [id_ for id_ in self._paged if id_ not in held]
        refs = tuple(self._paged.pop(id_)[0] for id_ in over)
        return AlarmSeen(due=self._take_due(alarms, now), over=refs, blind_since=blind_since)

    def _take_due(self, alarms: Sequence[UnansweredPanic], now: datetime) -> tuple[UnansweredPanic, ...]:
        due = tuple(alarm for alarm in alarms if self._is_due(alarm.incident.id, now))
        if not due or now < self._quiet_until:
            return ()
        self._paged.update({alarm.incident.id: (alarm.incident.ref, now) for alarm in due})
        self._quiet_until = now + min(GATHER, self.repeat)
        return due

    def _is_due(self, incident_id: str, now: datetime) -> bool:
        return incident_id not in self._paged or now - self._paged[incident_id][1] >= self.repeat

    def not_taken(self, ids: Iterable[str]) -> None:
        """No way took the page about these: they are due again as soon as pages may follow each other."""
        for id_ in ids:
            self._paged.pop(id_, None)

    def note_no_answer(self, now: datetime) -> datetime | None:
        """The question could not be asked: since when, if that is to be paged now; else None."""
        if now - self._seen_at < self._blind_after:
            return None
        if self._blind_paged_at is not None and now - self._blind_paged_at < self.repeat:
            return None
        self._is_blind, self._blind_paged_at = True, now
        return self._seen_at

    def blind_not_taken(self, now: datetime) -> None:
        """No way took the blind page: it is due again after a moment."""
        if self._blind_paged_at is not None:
            self._blind_paged_at = now - self.repeat + min(GATHER, self.repeat)
