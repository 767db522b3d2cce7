"""What the operators are told: panicmail needs help. One sentence what it means, one what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from panicmail.incident import notice_kinds
from panicmail.incident.reply_tokens import Addresses
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.catalogue import Notice, blocks
from panicmail.mail.compose.letterhead import Letterhead, announcement
from panicmail.mail.compose.message import ComposedMail
from panicmail.mail.compose.wording import ReaderClock

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class AlarmWords:
    """A cause in words."""

    what: str  #: is wrong
    means: str
    mend: str


@cache
def alarm_words(cause: str) -> AlarmWords:
    """The words of a cause; those of any trouble where this version has none for it."""
    lines = Notice("operators").lines(cause if cause in causes() else _UNKNOWN)
    return AlarmWords(*(line.text for line in lines))


@cache
def causes() -> frozenset[str]:
    """Every cause there are words for."""
    return frozenset(blocks("operators")) - {_UNKNOWN}


#: So many entries of a list are told, one a line.
_LISTED = 100


def operators(facts: Mapping[str, Any], head: Letterhead, addresses: Addresses, *, key: str) -> ComposedMail:
    """The alarm of `facts` to one operator. `key`: the outbox row's; a retry repeats its Message-ID."""
    notice = alarm_notice(facts, ReaderClock(head.person.tz, head.now))
    message_id = addresses.message_id(head.local_id("operators", key))
    return announcement(head, message_id, f"[panicmail] {notice.line('subject')}", notice.lines())


def alarm_notice(facts: Mapping[str, Any], clock: ReaderClock | None = None) -> Notice:
    """The alarm of `facts` in all its media. `clock`: the reader's; a push needs none."""
    known, others = notice_kinds.alarm(facts)
    details = [
        f"{sanitize.words(str(name), 60).replace('_', ' ')}: {sanitize.words(str(value), 200)}"
        for name, values in others.items()
        for value in (values[:_LISTED] if isinstance(values, list) else [values])
        if value not in (None, "")
    ]
    words, ref = alarm_words(known.cause), sanitize.words(known.ref, 8)
    if words == alarm_words(_UNKNOWN):
        details.insert(0, f"cause: {sanitize.words(known.cause or 'not said', 60)}")
    return Notice("alarm", n=known, w=words, ref=ref, details=details, clock=clock)
