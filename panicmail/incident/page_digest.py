"""Digests: many pages to one person go out as one mail, and every incident's clock runs on as ever.

When more than `DigestLimits.after` different mailboxes have paged one person within the storm's `within`, what is new
goes out as one page that names each incident, the first at once, the next ones every `every`. A word about "all", or
about one by its REF, is about what that digest named and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

#: So many incidents one digest names; what is beyond goes with the next one.
MOST = 100
#: What may stand between two REFs.
_BETWEEN = frozenset({"and", "&", "+", "und", "et", "y", "e", "en"})
_AROUND = ".,:;!()[]<>\"'#"


@dataclass(frozen=True, slots=True)
class DigestLimits:
    """When many pages are one."""

    after: int = 10  #: pages of so many mailboxes are a mail each; 0: any number
    every: timedelta = timedelta(seconds=30)

    def next_at(self, last_at: datetime | None, now: datetime, undelivered_after: timedelta) -> datetime:
        """When the next digest may go out.

        A page that waits for one must not make its person unreachable, so it never waits half as long as that takes.
        """
        if last_at is None or last_at > now:  # a clock was put back: no page waits for a time that was wrong
            return now
        return last_at + min(self.every, undelivered_after / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDigest:
    """A page about several incidents to one person, by one channel."""

    id: str  #: what its tokens name
    person: str
    channel: str
    made_at: datetime
    pages: tuple[tuple[str, int], ...]  #: (id of the incident, round), in the order it names them


def digest_id(person: str, channel: str, keys: Iterable[str]) -> str:
    """The same for the same pages: a repeat is the same mail."""
    text = "\n".join([person, channel, *sorted(keys)])
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode().lower()


def spell_out(line: str, refs: Collection[str], stand_in: str) -> tuple[str, list[str]]:
    """A line with every run of REFs become the one `stand_in`, and the REFs it named."""
    said: list[str] = []
    named: list[str] = []
    for word in line.replace(",", " ").split():
        ref = word.strip(_AROUND).upper()
        if ref not in refs:
            said.append(word)
            continue
        named.append(ref)
        if len(said) > 1 and said[-1].lower() in _BETWEEN and said[-2] == stand_in:
            said.pop()
        if not said or said[-1] != stand_in:
            said.append(stand_in)
    return " ".join(said), list(dict.fromkeys(named))


@dataclass(frozen=True, slots=True)
class NamedRefs:
    """A reply to a digest, read as a reply about one incident."""

    text: str
    by_line: Sequence[tuple[str, tuple[str, ...]]]  #: each line as it is in `text`, and the REFs it named

    def about(self, line: str) -> tuple[str, ...]:
        """The REFs that the line of the command names; none where another line names others as well."""
        here = next((named for text, named in self.by_line if line and text.startswith(line)), ())
        everywhere = {ref for _, named in self.by_line for ref in named}
        return here if everywhere <= set(here) else ()


def named_refs(text: str, refs: Collection[str], stand_in: str) -> NamedRefs:
    """Which incidents of a digest an answer names."""
    lines = [spell_out(line, refs, stand_in) for line in text.splitlines()]
    return NamedRefs("\n".join(line for line, _ in lines), [(line, tuple(named)) for line, named in lines])
