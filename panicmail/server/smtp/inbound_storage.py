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
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import BinaryIO, Protocol

import structlog

from panicmail.server.smtp.octet_budget import SMALL, OctetBudget

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
