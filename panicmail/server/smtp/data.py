"""One mail on its way in: where it ends, how much of it is kept, what it was before its dots were stuffed.

Promises: only CRLF.CRLF ends a mail (RFC 5321 4.1.1.4), whatever the chunks look like and whatever mixture of CR, LF
and NUL stands around a dot; that is what closes SMTP smuggling (CVE-2023-51764, CVE-2024-27305). No octet is changed
but for the stuffed dots (RFC 5321 4.5.2). Memory stays bounded whatever is sent: beyond the size limit, or when the
sessions together would hold more than the budget, the octets are counted and dropped, and only the last four are kept
to find the end.

The whole daemon waits while octets are worked on here. So dots are unstuffed as blocks come in, and nothing ever goes
over the whole mail but one join, which lets the other threads run. A mail costs the blocks and that one copy.

Nothing here reads a socket: chunks are fed in, so all of it can be tried without one.

The size limit counts stuffed dots too; a mail within a few octets of the limit may be refused for its dots.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable

_END = b"\r\n.\r\n"
_STUFFED, _UNSTUFFED = b"\r\n.", b"\r\n"
#: The end can begin in the last four octets already here.
_OVERLAP = len(_END) - 1
#: So many octets are gathered before their dots are unstuffed, and kept as one block from then on.
BLOCK = 64 * 1024

#: A mail of so many octets is small: there is room kept for it.
SMALL = 1024 * 1024
#: A mail that has been coming in for so many seconds may be given up for another.
EVICTED_AFTER = 10.0

#: Trace fields are added on top, so a loop shows here; looking no further keeps a mail without an end of header cheap.
_HEADER_WITHIN = 256 * 1024
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_RECEIVED = re.compile(rb"\nreceived[ \t]*:", re.IGNORECASE)


class MemoryBudget:
    """How many octets of unfinished mails all sessions together may hold. The one thing sessions share.

    Nobody holds all of it: one peer address has half at most, and the last quarter is for mails that are small so far,
    of which one address has half.
    Where it is spent all the same, the slowest mail of whoever holds most is given up for one that needs room.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, octets: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._octets = self._free = octets
        self._clock = clock
        self._shares: set[BudgetShare] = set()  #: those that hold something

    @property
    def free(self) -> int:
        return self._free

    def share(self, peer: str = "") -> BudgetShare:
        """A new, empty share for a mail of this peer address."""
        return BudgetShare(self, peer, self._clock())

    def take(self, share: BudgetShare, octets: int) -> bool:
        """Let `share` hold so many more; False, and nothing changed, when there is no room for them."""
        is_small = share.held + octets <= SMALL
        if share.peer and len(self._shares) > 1 and not self._is_fair(share, octets, is_small=is_small):
            return False
        left = 0 if is_small else self._octets // 4
        while octets > self._free - left:
            slowest = self._slowest(share)
            if slowest is None:
                return len(self._shares - {share}) == 0 and octets <= self._free and self._give(share, octets)
            slowest.evict()
        return self._give(share, octets)

    def _is_fair(self, share: BudgetShare, octets: int, *, is_small: bool) -> bool:
        """Whether a peer address stays within its part. Its small mails have a part of their own: behind a mail server
        of ours all mails come from one address, and a large one must not keep a small one waiting."""
        theirs = [each.held for each in self._shares if each.peer == share.peer]
        if is_small:
            return sum(held for held in theirs if held <= SMALL) + octets <= max(self._octets // 8, SMALL)
        return sum(theirs) + octets <= self._octets // 2

    def _give(self, share: BudgetShare, octets: int) -> bool:
        self._free -= octets
        share.held += octets
        self._shares.add(share)
        return True

    def _slowest(self, newcomer: BudgetShare) -> BudgetShare | None:
        """Of the peer that holds most, the slowest large mail that had its time; None: there is none."""
        now, held = self._clock(), Counter[str]()
        for each in self._shares:
            held[each.peer] += each.held
        large = [each for each in self._shares if each is not newcomer and each.is_coming and each.held > SMALL]
        slow = [
            (-held[each.peer], each.held / (now - each.begun_at), each)
            for each in large
            if now - each.begun_at > EVICTED_AFTER
        ]
        return min(slow, key=lambda found: found[:2])[2] if slow else None

    def give_back(self, share: BudgetShare) -> None:
        self._free += share.held
        share.held = 0
        self._shares.discard(share)


class BudgetShare:
    """The part of a budget one mail holds."""

    def __init__(self, budget: MemoryBudget, peer: str, begun_at: float) -> None:
        self._budget = budget
        self.peer = peer
        self.begun_at = begun_at  #: monotonic seconds
        self.held = 0  #: octets
        self.is_coming = True  #: False: it is there whole, and is not given up any more
        self.evicted: Callable[[], None] = lambda: None  #: called when the mail is given up for another one

    def grow(self, octets: int) -> bool:
        """Take more; False, and nothing changed, when the budget has not that much."""
        return self._budget.take(self, octets)

    def evict(self) -> None:
        self.evicted()
        self.release()

    def release(self) -> None:
        """Give everything back. A second time is a no-op."""
        self._budget.give_back(self)


class DataReceiver:
    """Collects one mail. Feed it chunks until it answers what came after the mail, then look at the rest of it."""

    def __init__(self, *, limit: int, share: BudgetShare) -> None:
        self._limit = limit
        self._share = share
        self._blocks: list[bytes] = []  #: dots unstuffed
        # Not unstuffed yet. The CRLF that ended the DATA command also begins the first line: it makes the lone dot of
        # an empty mail an end, and a stuffed dot on the first line one like any other.
        self._held = bytearray(b"\r\n")
        self._dropping = False
        self._size = 0

    @property
    def size(self) -> int:
        """Octets so far, dropped ones included; those of the end too until it has been recognised."""
        return self._size

    @property
    def too_large(self) -> bool:
        return self._size > self._limit

    @property
    def kept(self) -> bool:
        """False: too large, or the budget was spent; `raw` is not to be had."""
        return not self._dropping and not self.too_large

    def feed(self, chunk: bytes | bytearray) -> bytes | None:
        """Take the next octets; None while the mail goes on, else what followed its end (often b"")."""
        if not self._dropping and not self._share.grow(len(chunk)):
            self.drop()
        known = len(self._held)
        self._held += chunk
        self._size += len(chunk)
        at = self._held.find(_END, max(0, known - _OVERLAP))
        if at >= 0:
            return self._finish(at)
        if self._size - _OVERLAP > self._limit:
            self.drop()
        if self._dropping:
            del self._held[:-_OVERLAP]
        elif len(self._held) >= BLOCK:
            self._settle(self._sure())
        return None

    def raw(self) -> bytes:
        """The mail as its sender wrote it. To be asked once, at the end, of a mail that was kept."""
        self._settle(len(self._held))
        blocks, self._blocks = self._blocks, []
        blocks[0] = blocks[0][len(_UNSTUFFED) :]
        return b"".join(blocks)  # of blocks of bytes it is done without the interpreter's lock

    def _sure(self) -> int:
        """How many of the held octets no coming one can make part of a stuffed dot or of the end."""
        begins = self._held.find(b"\r", len(self._held) - _OVERLAP)
        return begins if begins >= 0 else len(self._held)

    def _settle(self, octets: int) -> None:
        """Unstuff the first so many octets that are held, and keep them as a block."""
        self._blocks.append(bytes(self._held[:octets].replace(_STUFFED, _UNSTUFFED)))
        del self._held[:octets]

    def _finish(self, at: int) -> bytes:
        """Cut the held octets after the CRLF that ends the last line; the octets that follow the dot's CRLF."""
        rest = bytes(self._held[at + len(_END) :])
        self._size -= len(self._held) - at - len(_UNSTUFFED)
        del self._held[at + len(_UNSTUFFED) :]
        if self.too_large:
            self.drop()
        return rest

    def drop(self) -> None:
        """Keep no more than what the search for the end needs."""
        self._dropping = True
        self._share.release()
        self._blocks.clear()
        # A new, small one: a bytearray that was cut at its front still holds all its memory.
        self._held = self._held[-_OVERLAP:]


def received_fields(raw: bytes) -> int:
    """How many Received fields the header section has: the hops so far (RFC 5321 6.3)."""
    head = b"\n" + raw[:_HEADER_WITHIN]
    end = _EMPTY_LINE.search(head)
    return len(_RECEIVED.findall(head, 0, end.start() if end else len(head)))
