"""The emergency spool: a folder that takes mails while the database does not.

    <folder>/20261122T020711.123456-<mail id>.mail       one mail: a line of JSON, then its octets
    <folder>/20261122T020711.123456-<mail id>.called     everybody was called for it from memory
    <folder>/20261122T020711.123456-<mail id>.tried      it is being read for that, or was when the process died

Large mails that are still coming in are in this folder as well, in files that have no name and end with the process.

Promises: when `put` returns, the mail is on disk (the file, its name, and the folder's own name, fsync for each) and
survives kill -9 and a power cut; a file is whole or it is not there. A mail keeps the id it was given before any
write, so whoever takes it into the database may do so twice. Nothing is deleted but what the database has, files that
were never finished, and marks without their mail. Files with other names are somebody else's and left alone.

What can go wrong, and who notices: a file whose octets do not fit its SHA-256 (a disk that lies) is renamed to
`.broken` and never deleted; `broken` names it until somebody has seen to it.

Every node has a spool of its own: it is for the hour in which nodes cannot share anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import structlog

from panicmail import crashpoints
from panicmail.errors import StoreFailed
from panicmail.store.rows import AcceptedMail

_log = structlog.get_logger()

_MAIL, _CALLED, _TRIED, _UNFINISHED, _BROKEN = ".mail", ".called", ".tried", ".part", ".broken"
#: Where a file cannot be made without a name, it has one that begins so for a moment.
_SCRATCH = ".coming-in-"
#: The longest first line, and of the octets read at a time.
_HEAD, _PIECE = 1024 * 1024, 64 * 1024
_AT = "%Y%m%dT%H%M%S.%f"
_NAME = re.compile(r"(\d{8}T\d{6}\.\d{6})-([a-z2-7]{26})(\.mail|\.called|\.tried|\.part|\.broken)")


@dataclass(frozen=True, slots=True)
class _Name:
    """What the name of a file of ours says."""

    at: datetime
    mail_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Spooled:
    """A mail that waits in the spool, as its file's name tells."""

    path: Path
    mail_id: str
    accepted_at: datetime
    called: bool  #: everybody was called for it


class Spool:
    """A folder of mails. Every method may be called from any thread.

    Args:
        folder: Is made when it is not there, for its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._readable = True

    def open(self) -> None:
        """Make the folder, and sweep out what a crash left: unfinished files, for which nobody was told 250.

        Raises:
            StoreFailed: The folder cannot be made or written.
        """
        with self._refusing():
            self._make_folder()
            names = self._names()
            for name, told in names.items():
                mail = Path(name).with_suffix(_MAIL).name
                if told.kind == _UNFINISHED or (told.kind in (_CALLED, _TRIED) and mail not in names):
                    (self.folder / name).unlink(missing_ok=True)
            for unnamed in self.folder.glob(f"{_SCRATCH}*"):
                unnamed.unlink(missing_ok=True)
            _sync(self.folder)

    def put(self, mail: AcceptedMail, raw: bytes) -> None:
        """Make a mail durable. A second time, with the same id and instant, changes nothing.

        Raises:
            StoreFailed: The folder did not take it. In the rare case that its name could not be made durable it may
                be there all the same, and is taken in as any other.
        """
        path = self.folder / f"{mail.accepted_at.astimezone(UTC):{_AT}}-{mail.id}{_MAIL}"
        unfinished = path.with_suffix(_UNFINISHED)
        with self._refusing():
            crashpoints.point("spool.writing")
            self._make_folder()
            # Outside the `try`: a file that is there already is being written by somebody else.
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                _write(descriptor, _head(mail, raw), raw)
                unfinished.rename(path)
            except BaseException:
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)
                raise
            _sync(self.folder)
            crashpoints.point("spool.written")

    def scratch_file(self) -> BinaryIO:
        """A new file, unbuffered and without a name: it is gone when it is closed, or the process ends.

        Raises:
            OSError: The folder does not take it.
        """
        self._make_folder()
        return cast(BinaryIO, tempfile.TemporaryFile(buffering=0, dir=self.folder, prefix=_SCRATCH))

    def free(self) -> int:
        """Octets that are free on the disk of the folder.

        Raises:
            OSError: It does not say.
        """
        self._make_folder()
        return shutil.disk_usage(self.folder).free

    def waiting(self) -> list[Spooled]:
        """What is there, oldest first; nothing when the folder cannot be read."""
        names = self._look()
        return [
            Spooled(self.folder / name, names[name].mail_id, names[name].at, _called(name) in names)
            for name in sorted(names)
            if names[name].kind == _MAIL
        ]

    def files(self) -> list[Path]:
        """Every file of ours; none when the folder cannot be read."""
        return [self.folder / name for name in self._look()]

    def broken(self) -> list[str]:
        """The names of the files that were put aside and wait for a person."""
        return sorted(name for name, told in self._look().items() if told.kind == _BROKEN)

    def read(self, spooled: Spooled) -> tuple[AcceptedMail, bytes] | None:
        """One mail; None when the file is gone, or was not what was written and has been put aside.

        Raises:
            StoreFailed: It cannot be read now.
        """
        try:
            with spooled.path.open("rb") as file:
                # In pieces: nothing else in this process runs while a large one is copied.
                head, raw = file.readline(_HEAD), b"".join(iter(partial(file.read, _PIECE), b""))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise StoreFailed(f"the spool cannot be read: {exc.strerror}") from exc
        try:
            return _mail(json.loads(head), raw, spooled.mail_id), raw
        except (ValueError, KeyError, TypeError) as exc:
            _log.error("spool.broken", file=spooled.path.name, error=type(exc).__name__)
            with suppress(OSError):
                spooled.path.rename(spooled.path.with_suffix(_BROKEN))
            return None

    def mark_called(self, spooled: Spooled) -> None:
        """Remember that everybody was called for it. Should this fail they are called again."""
        mark = spooled.path.with_suffix(_CALLED)
        with suppress(OSError):
            mark.touch(mode=0o600)
            if not spooled.path.exists():  # removed meanwhile
                mark.unlink(missing_ok=True)

    @contextmanager
    def trying(self, spooled: Spooled) -> Iterator[bool]:
        """Around the reading of a mail. False: the process died of it before, or of something beside it."""
        mark = spooled.path.with_suffix(_TRIED)
        is_first = not mark.exists()
        with suppress(OSError):
            mark.touch(mode=0o600)
        try:
            yield is_first
        finally:
            with suppress(OSError):
                mark.unlink(missing_ok=True)

    def remove(self, spooled: Spooled) -> None:
        """Forget a mail the database has. Should this fail it is taken in again, which changes nothing."""
        with suppress(OSError):
            spooled.path.unlink(missing_ok=True)
            for mark in (_CALLED, _TRIED):
                spooled.path.with_suffix(mark).unlink(missing_ok=True)

    def _look(self) -> dict[str, _Name]:
        """`_names`; nothing of a folder that cannot be read, and one line in the log."""
        try:
            names = self._names()
        except FileNotFoundError:  # made when it is needed
            return {}
        except OSError as exc:
            if self._readable:
                _log.error("spool.unreadable", reason=exc.strerror)
            self._readable = False
            return {}
        self._readable = True
        return names

    def _names(self) -> dict[str, _Name]:
        """Our files by name."""
        told = {entry.name: _told_by(entry.name) for entry in self.folder.iterdir()}
        return {name: known for name, known in told.items() if known is not None}

    def _make_folder(self) -> None:
        if self.folder.exists():
            return
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in missing:
            _sync(folder.parent)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise StoreFailed(f"the spool {self.folder} cannot be written: {exc.strerror}") from exc


def _told_by(name: str) -> _Name | None:
    """None for a name we did not give."""
    form = _NAME.fullmatch(name)
    if form is None:
        return None
    with suppress(ValueError):
        return _Name(datetime.strptime(form[1], _AT).replace(tzinfo=UTC), form[2], form[3])
    return None


def _called(name: str) -> str:
    return name.removesuffix(_MAIL) + _CALLED


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, head: bytes, raw: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(head + b"\n")
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _head(mail: AcceptedMail, raw: bytes) -> bytes:
    return json.dumps(
        {
            "id": mail.id,
            "accepted_at": mail.accepted_at.isoformat(),
            "mail_from": mail.mail_from,
            "recipients": list(mail.recipients),
            "peer": mail.peer,
            "helo": mail.helo,
            "tls": mail.tls,
            "sha256": hashlib.sha256(raw).hexdigest(),
        }
    ).encode()


def _mail(head: dict[str, object], raw: bytes, mail_id: str) -> AcceptedMail:
    if head["sha256"] != hashlib.sha256(raw).hexdigest() or head["id"] != mail_id:
        raise ValueError("not the octets that were written")
    recipients = head["recipients"]
    if not isinstance(recipients, list):
        raise TypeError("recipients")
    return AcceptedMail(
        id=str(head["id"]),
        accepted_at=datetime.fromisoformat(str(head["accepted_at"])),
        mail_from=str(head["mail_from"]),
        recipients=tuple(map(str, recipients)),
        peer=str(head["peer"]),
        helo=str(head["helo"]),
        tls=str(head["tls"]),
        size=len(raw),
    )
