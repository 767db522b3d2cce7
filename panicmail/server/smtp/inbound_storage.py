"""Where the octets of mails on their way in are kept: small ones in memory, large ones in files without a name.

So unfinished mails hold disk, and little memory. A mail goes to its file once it is larger than `SMALL`, or when memory
has no room for it; from then on each block is written as it comes, into the page cache: nothing here is durable, nor
needs to be. Once whole, large mails come to memory by turns, for the one write that makes them durable.

What can go wrong, and who notices: a disk that is full or fails is a 452 for a mail that needs it. The log says so once
a minute, and `tell` is called as often. Small mails need no disk before they are made durable.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import BinaryIO, Protocol

import structlog

_log = structlog.get_logger()

#: So many octets of small mails on their way in are in memory.
IN_MEMORY = 64 * 2**20
#: So many of the largest mails may be on disk …
ON_DISK = 16
#: … and so many large ones in memory at a time, to be made durable.
BEING_STORED = 2
#: Octets of the disk that no unfinished mail takes: for spool and database. With less `check` calls the disk full.
LEFT_FREE = 200 * 2**20
#: A disk that does not take a mail is told of at most this often, in seconds.
TELL_EVERY = 60.0


class ScratchDisk(Protocol):
    """A place on a disk. Both raise OSError."""

    def scratch_file(self) -> BinaryIO:
        """A new file, unbuffered, that nobody finds by a name: it is gone when it is closed, or the process ends."""

    def free(self) -> int:
        """Octets."""


class InboundStorage:
    """What all sessions share of it.

    Args:
        max_message_size: In octets.
        has_relays: There are mail servers of ours (`[smtp] trusted_relays`).
        tell: Called with the reason when the disk did not take a mail, on the event loop's thread. Must not block.
        in_memory: Octets of mails that are not on disk.
        on_disk: Octets of mails that are. None: `ON_DISK` of the largest mails.
    """

    def __init__(
        self,
        disk: ScratchDisk,
        max_message_size: int,
        *,
        has_relays: bool = False,
        tell: Callable[[str], None] = lambda reason: None,
        in_memory: int = IN_MEMORY,
        on_disk: int | None = None,
    ) -> None:
        on_disk = ON_DISK * max_message_size if on_disk is None else on_disk
        self._place, self._tell, self._tell_at = disk, tell, 0.0
        self.memory = OctetBudget(in_memory, has_relays=has_relays)
        self.disk = OctetBudget(on_disk, has_relays=has_relays, room=self._room)
        self.turns = asyncio.Semaphore(BEING_STORED)  #: for a large mail, from disk until it is durable

    def _room(self) -> int:
        try:
            return self._place.free() - LEFT_FREE
        except OSError as error:
            self.failed(error)
            return 0

    def scratch_file(self) -> BinaryIO:
        return self._place.scratch_file()

    def failed(self, error: OSError) -> None:
        """A file could not be made or written: say so."""
        self._say(error.strerror or type(error).__name__)

    def refused(self) -> None:
        """There was no room for a mail: say so if that is the disk's fault and not the senders'."""
        if self.disk.is_short:
            self._say("the disk has too little room left")

    def _say(self, reason: str) -> None:
        if (now := time.monotonic()) >= self._tell_at:
            self._tell_at = now + TELL_EVERY
            _log.error("smtp.no_disk", reason=reason, text="mails that need the disk while they come in get a 452")
            self._tell(reason)


class MailOctets:
    """The octets of one mail on its way in, and the room for them.

    Args:
        peer: Its client's address.
        is_trusted: That is a mail server of ours.
    """

    def __init__(self, storage: InboundStorage, peer: str = "", *, is_trusted: bool = False) -> None:
        self._storage = storage
        self._memory = storage.memory.share(peer, is_trusted=is_trusted)
        self._disk = storage.disk.share(peer, is_trusted=is_trusted)
        self._blocks: list[bytes] = []
        self._file: BinaryIO | None = None
        self._written = 0

    @property
    def are_on_disk(self) -> bool:
        return self._file is not None

    def given_up_by(self, drop: Callable[[], None]) -> None:
        """`drop` is called when the mail has to give way to another one."""
        self._memory.evicted = self._disk.evicted = drop

    def are_whole(self) -> None:
        """Nothing more comes: from now on the mail gives way to no other."""
        self._memory.is_coming = self._disk.is_coming = False

    def reserve(self, octets: int) -> bool:
        """Room for so many more, on disk if need be; False when there is none."""
        if self._file is not None:
            return self._may_grow_on_disk(octets)
        is_small = self._memory.held + octets <= SMALL
        if is_small and self._memory.grow(octets, may_evict=False):
            return True
        return self._move_to_disk(octets) or (is_small and self._memory.grow(octets))

    def _may_grow_on_disk(self, octets: int) -> bool:
        if self._disk.grow(octets):
            return True
        self._storage.refused()
        return False

    def _move_to_disk(self, octets: int) -> bool:
        """From memory to a file, with room for so many more."""
        if not self._may_grow_on_disk(self._memory.held + octets):
            return False
        try:
            file = self._storage.scratch_file()
            try:
                self._written = sum(_write(file, block) for block in self._blocks)
            except OSError:
                _close(file)
                raise
        except OSError as error:
            self._disk.release()
            self._storage.failed(error)
            return False
        self._file = file
        self._blocks.clear()
        self._memory.release()
        return True

    def append(self, block: bytes) -> bool:
        """Keep a block for which there is room; False when the disk did not take it."""
        if self._file is None:
            self._blocks.append(block)
            return True
        try:
            self._written += _write(self._file, block)
        except OSError as error:
            self._storage.failed(error)
            return False
        return True

    def take_out(self) -> Callable[[], bytes]:
        """What answers all of them, once, and has them from now on.

        To be called in a thread when `are_on_disk`, which reads them all. It raises OSError when the disk does not
        give back what it took.
        """
        if self._file is None:
            blocks, self._blocks = self._blocks, []
            return lambda: b"".join(blocks)
        file, self._file = self._file, None
        return partial(_read_back, file, self._written)

    def release(self) -> None:
        """Forget them, and give back all room. A second time is a no-op."""
        self._blocks.clear()
        if self._file is not None:
            _close(self._file)
            self._file = None
        self._memory.release()
        self._disk.release()


def _write(file: BinaryIO, block: bytes) -> int:
    """All of it: a disk that becomes full takes a part first."""
    with memoryview(block) as left:
        at = 0
        while at < len(left):
            at += file.write(left[at:])
    return len(block)


def _close(file: BinaryIO) -> None:
    with suppress(OSError):
        file.close()


def _read_back(file: BinaryIO, size: int) -> bytes:
    with file:
        file.seek(0)
        octets = file.read()
    if len(octets) != size:
        raise OSError(f"of {size} octets the disk gave back {len(octets)}")
    return octets


# -- How many octets of unfinished mails there may be in one place, memory or disk, and whose they are.
#
# Nobody holds all of it, and whoever is slow gives way to others. Mail servers of ours (`[smtp] trusted_relays`)
# are bound to no address's part, for behind one everybody's mails come from one address; something is kept for them
# alone.

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
