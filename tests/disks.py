"""A disk for mails on their way in that fails when a test says so."""

from __future__ import annotations

import errno
import os
import tempfile
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

from panicmail.server.smtp.inbound_storage import LEFT_FREE, InboundStorage


class Disk:
    """Files without a name in the folder of temporary files.

    Args:
        fails_at: Numbers of the writes, from 1, that find the disk full after half of their octets.
        room: Octets mails on their way in may have.
    """

    def __init__(self, *fails_at: int, room: int = 2**40) -> None:
        self.fails_at, self.room = set(fails_at), room
        self.makes_files = True
        self.gives_back: int | None = None  #: octets of a file that are read at most; None: all
        self.writes = self.asked = 0
        self.files: list[FileIO] = []

    def scratch_file(self) -> BinaryIO:
        if not self.makes_files:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        with tempfile.NamedTemporaryFile(delete=False) as named:
            made = _File(named.name, self)
        Path(named.name).unlink()
        self.files.append(made)
        return cast(BinaryIO, made)

    def free(self) -> int:
        self.asked += 1
        return LEFT_FREE + self.room

    @property
    def open_files(self) -> int:
        return sum(not file.closed for file in self.files)


class _File(FileIO):
    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "r+b")
        self._disk, self._is_full = disk, False

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size)[: self._disk.gives_back]

    def write(self, octets: object) -> int:
        self._disk.writes += 1
        left = memoryview(cast(bytes, octets))
        if self._is_full or not len(left):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._disk.writes in self._disk.fails_at:
            self._is_full = True
            left = left[: len(left) // 2]
        return super().write(left)


def storage(in_memory: int = 2**30, on_disk: int = 0, disk: Disk | None = None) -> InboundStorage:
    """Room for mails: all the memory they want, and no disk, unless said otherwise."""
    return InboundStorage(disk or Disk(), 2**20, in_memory=in_memory, on_disk=on_disk)
