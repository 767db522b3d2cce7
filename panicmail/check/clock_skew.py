"""Clocks: how far apart they are, and whether that matters."""

from __future__ import annotations

from datetime import timedelta

from panicmail.check.result import Group, Row

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
