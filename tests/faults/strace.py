"""strace(1) on the running daemon: system calls that fail or kill, and a record of what reached the disk and when.

    with Strace(town.program.pid, "inject=fdatasync:error=EIO:when=1"):
        ...

`Disk` plays such a record to a disk that loses whatever was not synced before the power went: the writes of a file
count from the moment a sync of that file has come back. What stood on it before the record began is taken as safe.
Limits: files are not renamed or truncated by what is recorded here, and directories are taken as synced.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.conftest import missing

_SYNCS = "fsync,fdatasync"
_CALL = re.compile(r'(\d+) +(\w+)\(\d+<([^>]*)>(?:\(deleted\))?(?:, "([^"]*)"(?:\.\.\.)?, \d+(?:, (\d+))?)?')
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>.*= (-?\d+)")
_SECTOR = 512


class Strace:
    """strace, attached to a process and all its threads while in the context, or until the process ends."""

    def __init__(self, pid: int, *expressions: str, record: Path | None = None) -> None:
        if shutil.which("strace") is None:
            missing("strace")
        traced = "pwrite64,sendto," + _SYNCS if record else "pwrite64," + _SYNCS
        command = ["strace", "-f", "-p", str(pid), "-e", f"trace={traced}", "-e", "signal=none"]
        command += [part for expression in expressions for part in ("-e", expression)]
        # Strings whole and in hexadecimal, descriptors with the path of their file.
        command += ["-y", "-xx", "-s", "1000000", "-o", str(record)] if record else ["-o", "/dev/null"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        if "attached" not in said:
            self.close()
            missing(f"tracing of processes ({said.strip()})")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the process, which goes on if it is still there."""
        self._process.terminate()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:  # it waits for ever for a process that is just ending
            self._process.kill()
            self._process.wait(30)
        assert self._process.stderr is not None
        self._process.stderr.close()


@contextlib.contextmanager
def full(pid: int) -> Iterator[None]:
    """While in here the disk takes nothing from SQLite, which writes with pwrite64; other files can be written."""
    with Strace(pid, "inject=pwrite64:error=ENOSPC"):
        yield


@dataclass(frozen=True)
class Happened:
    """One line of a record: octets written to a file, a file synced, or octets sent to a peer."""

    what: str  #: "write", "sync" or "send"
    path: str
    data: bytes = b""
    offset: int = 0


def read_record(record: Path) -> Iterator[Happened]:
    """What happened, in order. A sync counts when it came back, a write and a sending when they began."""
    syncing: dict[str, str] = {}
    for line in record.read_text().splitlines():
        if resumed := _RESUMED.match(line):
            if resumed[2] in _SYNCS.split(",") and resumed[3] == "0":
                yield Happened("sync", syncing.pop(resumed[1]))
        elif call := _CALL.match(line):
            thread, name, path = call[1], call[2], _octets(call[3]).decode()
            if name == "pwrite64":
                yield Happened("write", path, _octets(call[4]), int(call[5]))
            elif name == "sendto":
                yield Happened("send", path, _octets(call[4]))
            elif line.endswith("= 0"):
                yield Happened("sync", path)
            else:
                syncing[thread] = path


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@dataclass
class Disk:
    """Some files on a disk whose cache is lost when the power goes."""

    files: dict[str, bytearray]
    unsynced: list[Happened] = field(default_factory=list)

    @classmethod
    def holding(cls, paths: Sequence[Path]) -> Disk:
        return cls({str(path): bytearray(path.read_bytes()) for path in paths})

    def take(self, happened: Happened) -> None:
        if happened.what == "write" and happened.path in self.files:
            self.unsynced.append(happened)
        elif happened.what == "sync":
            for written in self.unsynced:
                if written.path == happened.path:
                    _write(self.files[written.path], written.offset, written.data)
            self.unsynced = [written for written in self.unsynced if written.path != happened.path]

    def power_cut(self, folder: Path, luck: random.Random | None = None) -> None:
        """Leave in `folder` what is on the disk. With some luck a part of what was not synced is there too: some of
        the writes, out of order, and of some only the first sectors."""
        left = {path: bytearray(content) for path, content in self.files.items()}
        for written in self.unsynced if luck else ():
            if luck is not None and luck.random() < 0.5:
                sectors = luck.randint(0, 1 + len(written.data) // _SECTOR)
                _write(left[written.path], written.offset, written.data[: sectors * _SECTOR])
        for path, content in left.items():
            (folder / Path(path).name).write_bytes(content)


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
