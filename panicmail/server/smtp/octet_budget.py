"""How many octets of unfinished mails there may be in one place, memory or disk, and whose they are.

Nobody holds all of it, and whoever is slow gives way to others. Mail servers of ours (`[smtp] trusted_relays`) are
bound to no address's part, for behind one everybody's mails come from one address; something is kept for them alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

#: A mail of so many octets is small: there is room kept for it.
SMALL = 1024 * 1024
#: A mail that has been coming in for so many seconds may be given up for another.
EVICTED_AFTER = 10.0
#: How much room there is in that place is asked once in so many seconds.
ASKED_EVERY = 5.0


class OctetBudget:
    """What all sessions together may hold in one place. One peer address has half at most.

    The last quarter is for mails that are small so far, of which one address has half. Where all is spent, the slowest
    mail of whoever holds most is given up for one that needs room: a small one only for a small one, one of a mail
    server of ours only for another of ours.

    Args:
        octets: At most so many.
        has_relays: There are mail servers of ours: an eighth is for them alone.
        room: How many more octets the place can take now; None: as many as there are.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        octets: int,
        *,
        has_relays: bool = False,
        room: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._octets, self._has_relays = octets, has_relays
        self._room, self._clock = room, clock
        self._room_for, self._ask_at = octets, clock()
        self._held = 0
        self._shares: set[BudgetShare] = set()  #: those that hold something

    @property
    def capacity(self) -> int:
        """How many octets may be held now, those that are held included."""
        if self._room is not None and (now := self._clock()) >= self._ask_at:
            self._room_for, self._ask_at = self._held + max(0, self._room()), now + ASKED_EVERY
        return min(self._octets, self._room_for)

    @property
    def free(self) -> int:
        return max(0, self.capacity - self._held)

    @property
    def is_short(self) -> bool:
        """The place has less room than it was meant to give."""
        return self.capacity < self._octets

    def share(self, peer: str = "", *, is_trusted: bool = False) -> BudgetShare:
        """A new, empty share for a mail of this peer address. `is_trusted`: it is a mail server of ours."""
        return BudgetShare(self, peer, self._clock(), is_trusted=is_trusted)

    def take(self, share: BudgetShare, octets: int, *, may_evict: bool) -> bool:
        """Let `share` hold so many more; False, and nothing changed, when there is no room for them."""
        is_small = share.held + octets <= SMALL
        bound = share.peer and not share.is_trusted and len(self._shares) > 1
        if bound and not self._is_fair(share, octets, is_small=is_small):
            return False
        while octets > self.free - self._left_by(share, is_small=is_small):
            slowest = self._slowest(share, is_small=is_small) if may_evict else None
            if slowest is None:
                return len(self._shares - {share}) == 0 and octets <= self.free and self._give(share, octets)
            slowest.evict()
        return self._give(share, octets)

    def _left_by(self, share: BudgetShare, *, is_small: bool) -> int:
        """How much this mail leaves for others."""
        for_relays = self.capacity // 8 if self._has_relays and not share.is_trusted else 0
        return for_relays + (0 if is_small else self.capacity // 4)

    def _is_fair(self, share: BudgetShare, octets: int, *, is_small: bool) -> bool:
        """Whether a peer address stays within its part. Its small mails have a part of their own: a mail server that
        nobody told us of sends everybody's mails from one address, and a large one must keep no small one waiting."""
        theirs = [each.held for each in self._shares if each.peer == share.peer]
        if is_small:
            return sum(held for held in theirs if held <= SMALL) + octets <= max(self.capacity // 8, SMALL)
        return sum(theirs) + octets <= self.capacity // 2

    def _give(self, share: BudgetShare, octets: int) -> bool:
        self._held += octets
        share.held += octets
        self._shares.add(share)
        return True

    def _slowest(self, newcomer: BudgetShare, *, is_small: bool) -> BudgetShare | None:
        """Who is given up for a newcomer, large ones first; None: nobody who had their time may be."""
        now, held = self._clock(), Counter[str]()
        for each in self._shares:
            held[each.peer] += each.held
        slow = [
            ((each.is_trusted, each.held <= SMALL, -held[each.peer], each.held / (now - each.begun_at)), each)
            for each in self._shares
            if each is not newcomer and each.is_coming and now - each.begun_at > EVICTED_AFTER
            if (is_small or each.held > SMALL) and (newcomer.is_trusted or not each.is_trusted)
        ]
        return min(slow, key=lambda found: found[0])[1] if slow else None

    def give_back(self, share: BudgetShare) -> None:
        self._held -= share.held
        share.held = 0
        self._shares.discard(share)


class BudgetShare:
    """The part of a budget one mail holds."""

    def __init__(self, budget: OctetBudget, peer: str, begun_at: float, *, is_trusted: bool) -> None:
        self._budget = budget
        self.peer, self.is_trusted = peer, is_trusted
        self.begun_at = begun_at  #: monotonic seconds
        self.held = 0  #: octets
        self.is_coming = True  #: False: it is there whole, and is not given up any more
        self.evicted: Callable[[], None] = lambda: None  #: called when the mail is given up for another one

    def grow(self, octets: int, *, may_evict: bool = True) -> bool:
        """Take more; False, and nothing changed, when the budget has not that much.

        Args:
            may_evict: Others may be given up for it.
        """
        return self._budget.take(self, octets, may_evict=may_evict)

    def evict(self) -> None:
        self.evicted()
        self.release()

    def release(self) -> None:
        """Give everything back. A second time is a no-op."""
        self._budget.give_back(self)
