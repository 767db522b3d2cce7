"""Putting a backup back: unpacked and verified whole beside its place first, then put where nothing is.

Nothing that is there is written over: a file that stands there already and is the same is left, one that differs ends
the restore before anything was put. The database comes last, so a restore that was cut short is simply run again.

What is open in a backup may have been settled since it was made. So a mark is left beside the spool that is ahead of
the copy, and the first start holds everything back for one SLA (`escalation.restore_guard`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import sqlalchemy as sa

from panicmail.errors import Mistake, StoreFailed
from panicmail.store import backup_cipher, migrate, open_store, schema_revision
from panicmail.store.backup import DATABASE, FORMAT, HEAD, SUMS, copy_tables
from panicmail.store.database import Database
from panicmail.store.tables import metadata
from panicmail.store.unit_of_work import Store
from panicmail.store.watermark import WatermarkFile

#: What stands beside a SQLite database and belongs to it.
_BESIDE = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was unpacked and found whole."""

    folder: Path  #: where it is unpacked
    head: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """Of its files, as it calls them."""
        return [entry["name"] for entry in self.head["files"] if (self.folder / entry["name"]).exists()]

    @property
    def taken_at(self) -> datetime:
        return datetime.fromisoformat(self.head["taken_at"])

    @property
    def sla(self) -> timedelta:
        return timedelta(seconds=self.head["sla_seconds"])

    def unresolved(self) -> list[tuple[str, str]]:
        """(REF, state) of what is not over in it, the oldest first."""
        with contextlib.closing(sqlite3.connect(self.folder / DATABASE)) as connection:
            query = "SELECT ref, state FROM incidents WHERE state != 'resolved' ORDER BY accepted_at"
            return connection.execute(query).fetchall()


#: Where a file of a backup goes, by its name in it and its entry; None: nowhere.
Places = Callable[[str, Mapping[str, Any]], Path | None]


@contextlib.contextmanager
def unpacked(path: Path, identity: Path | None, beside: Path) -> Iterator[Backup]:
    """The backup, verified, in a folder that is gone at the end.

    Args:
        identity: The file of age's private key, if it is encrypted so.
        beside: A folder of the disk it is to be put on.

    Raises:
        Mistake: It is not whole, not ours, or made by a newer panicmail.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".panicmail-restore-", dir=beside) as name:
            folder = Path(name)
            try:
                with backup_cipher.opening(path, identity) as stream, tarfile.open(fileobj=stream, mode="r|gz") as tar:
                    sums = _unpack(tar, folder, path)
            except (tarfile.TarError, EOFError, zlib.error) as exc:
                raise Mistake(f"{path} is cut short, or no backup of panicmail ({exc}); nothing was put") from exc
            _verify(path, folder, sums)
            yield Backup(folder=folder, head=json.loads((folder / HEAD).read_bytes()))
    except OSError as exc:
        raise Mistake(f"nothing was restored: {exc.filename or path}: {exc.strerror or exc}") from exc


def _unpack(tar: tarfile.TarFile, folder: Path, path: Path) -> dict[str, str]:
    """Its files into the folder; answers the SHA-256 of each."""
    sums: dict[str, str] = {}
    for entry in tar:
        parts = PurePosixPath(entry.name).parts
        is_ours = entry.name in (HEAD, DATABASE, SUMS) or (len(parts) == 2 and parts[0] in ("spool", "files"))
        if not is_ours or not entry.isreg() or ".." in parts or entry.name in sums:
            raise Mistake(f"{path} is no backup of panicmail: it has {entry.name!r}")
        if not sums and entry.name != HEAD:
            raise Mistake(f"{path} is no backup of panicmail: it begins with {entry.name!r}")
        target, found = folder / entry.name, tar.extractfile(entry)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        with target.open("xb") as file:
            shutil.copyfileobj(found, file, 1024 * 1024)  # type: ignore[arg-type]
        with target.open("rb") as file:
            sums[entry.name] = hashlib.file_digest(file, "sha256").hexdigest()
        if entry.name == HEAD:
            _expect_known(path, target.read_bytes())
    return sums


def _expect_known(path: Path, octets: bytes) -> None:
    """Said at the beginning: the rest may take minutes."""
    try:
        head = json.loads(octets)
        made_by, number, revision = str(head["panicmail"]), int(head["format"]), str(head["revision"])
    except (ValueError, KeyError, TypeError) as exc:
        raise Mistake(f"{path} is no backup of panicmail: {HEAD} cannot be read") from exc
    if number > FORMAT or not migrate.knows(revision):
        told = f"{path} was made by panicmail {made_by}, whose tables are of revision {revision}"
        raise Mistake(f"{told}; this one knows them up to {schema_revision.newest()}. Restore it by that version; "
                      "nothing was put")  # fmt: skip


def _verify(path: Path, folder: Path, sums: dict[str, str]) -> None:
    if sums.pop(SUMS, None) is None:
        raise Mistake(f"{path} is cut short: it has no {SUMS}; nothing was put")
    written = dict(line.split("  ", 1)[::-1] for line in (folder / SUMS).read_text("utf-8").splitlines())
    wrong = sorted(name for name in written.keys() | sums.keys() if written.get(name) != sums.get(name))
    if wrong:
        raise Mistake(f"{path} is damaged: {', '.join(wrong)} is not what was backed up; nothing was put")
    if DATABASE not in sums:
        raise Mistake(f"{path} has no {DATABASE}; nothing was put")


# -- putting


def put(backup: Backup, places: Places) -> list[Path]:
    """Put its files where `places` says; answers those that were not there already. The database comes last.

    Raises:
        Mistake: Something else is there; nothing was put.
        StoreFailed: A daemon runs on the database there.
    """
    entries = {entry["name"]: entry for entry in backup.head["files"]} | {
        DATABASE: next((e for e in backup.head["files"] if e["name"] == DATABASE), {"name": DATABASE})
    }
    wanted = {name: place for name in (*backup.names, DATABASE) if (place := places(name, entries[name]))}
    database = wanted.get(DATABASE)
    if database is not None:
        expect_no_database(database)
    others = [place for name, place in wanted.items() if name != DATABASE and not _is_same(backup.folder / name, place)]
    taken = sorted(str(place) for place in others if os.path.lexists(place))
    if taken:
        raise Mistake(f"something else is there and is not written over: {', '.join(taken)}. Move it away, or restore "
                      "the data alone (--data), or beneath another folder (--to FOLDER); nothing was put")  # fmt: skip
    made: list[Path] = []
    try:
        for name in sorted(wanted, key=lambda name: name == DATABASE):
            if wanted[name] in others or name == DATABASE:
                _put_one(backup.folder / name, wanted[name], entries[name], made)
    except OSError:
        for path in reversed(made):
            path.unlink(missing_ok=True)
        raise
    return made


def expect_no_database(place: Path) -> None:
    """
    Raises:
        Mistake: A SQLite database is there, or what belongs to one.
        StoreFailed: A daemon runs on it.
    """
    if open_store.is_locked(place.with_name(f"{place.name}.lock")):
        raise StoreFailed(f"a panicmail serve uses {place}; stop it first")
    there = [path for path in (place.with_name(place.name + suffix) for suffix in _BESIDE) if path.exists()]
    if there:
        raise Mistake(f"a database is there and is not written over: {', '.join(map(str, there))}. "
                      "Stop panicmail and move all of these away; nothing was put")  # fmt: skip


def _is_same(source: Path, place: Path) -> bool:
    try:
        return place.is_file() and place.read_bytes() == source.read_bytes()
    except PermissionError:
        return False


def _put_one(source: Path, place: Path, entry: Mapping[str, Any], made: list[Path]) -> None:
    """One file, whole or not at all, with its mode, and its owner where we may give it away."""
    missing = [folder for folder in place.parents if not folder.exists()]
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = place.with_name(f"{place.name}.restoring")
    try:
        shutil.copyfile(source, unfinished)
        unfinished.chmod(int(entry["mode"]) & 0o777 if entry["name"].startswith("files/") else 0o600)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        for path in (unfinished, *missing):
            _give(path, entry)
        unfinished.rename(place)
    finally:
        unfinished.unlink(missing_ok=True)
    made.append(place)


def _give(path: Path, entry: Mapping[str, Any]) -> None:
    """To whom the file belonged, as root; a user who is not there here is left out."""
    if os.geteuid() == 0:
        for name, kind in ((entry.get("owner"), "user"), (entry.get("group"), "group")):
            with contextlib.suppress(LookupError):
                shutil.chown(path, **{kind: name}) if name else None


def fill(backup: Backup, url: str) -> None:
    """Put its database into an empty one of PostgreSQL.

    Raises:
        Mistake: It is not empty.
        StoreFailed: It cannot be written.
    """
    with (
        contextlib.closing(Database(url)) as target,
        contextlib.closing(Database(f"sqlite:///{backup.folder / DATABASE}")) as source,
    ):
        migrate.upgrade(source)
        migrate.upgrade(target)
        with target.reading() as connection:
            full = [
                t.name
                for t in metadata.sorted_tables
                if connection.execute(sa.select(sa.exists().select_from(t))).scalar()
            ]
        if full:
            raise Mistake(f"the database is not empty ({', '.join(full)} have rows); make a new one; nothing was put")
        with source.reading() as connection:
            copy_tables(connection, target)


def hold(url: str, spool: Path, entry: Mapping[str, Any]) -> None:
    """See to it that the first start takes the database for the old copy it is. A mark that is there knows better."""
    path = spool.with_suffix(".mark")
    if path.exists():
        return
    with contextlib.closing(Database(url)) as database, contextlib.closing(Store(database)) as store:
        mark = store.read(lambda tx: tx.watermark.current())  # of now: an older one would be a clock that jumped
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    WatermarkFile(path).write(replace(mark, line_id=mark.line_id + 1))
    _give(path, entry)
