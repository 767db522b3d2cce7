"""A wall clock's times as instants.

Two nights a year the wall clock of most zones is wrong by itself. The rule here:

    forward   a time that is skipped is the instant of the jump: a shift from 02:30 begins when 02:00 becomes 03:00
    back      a time that comes twice is taken the first time: a shift until 02:30 ends once, at the first 02:30

So an earlier time is never a later instant, and a shift that ends when the next one begins ends at the same instant on
these nights too: nobody is on call twice and nobody is missing. Only the shift's length changes, by what the clock
jumped; one that lies wholly in skipped time does not take place.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo

_SECOND = timedelta(seconds=1)


def instant(day: date, after_midnight: timedelta, zone: tzinfo) -> datetime:
    """The instant, in UTC, at which the clock of `zone` shows `day`'s midnight plus `after_midnight`.

    Args:
        after_midnight: By the clock, not by the sun: 26 hours are two in the morning of the next day, every day.
    """
    shown = datetime.combine(day, time()) + after_midnight
    # PEP 495: of a time that comes twice, fold=0 is the first; of a skipped one, it is the instant reckoned with the
    # offset before the jump, which lies after the jump.
    reckoned = shown.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if reckoned.astimezone(zone).replace(tzinfo=None) == shown:
        return reckoned
    return _jump(shown.replace(tzinfo=zone, fold=1).astimezone(UTC), reckoned, zone)


def _jump(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """The first second between two instants that has the offset of the later one."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2 // _SECOND * _SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after
