"""A backup: one file with all that panicmail needs to go on elsewhere, made while it runs.

    backup.json     who made it and when, and for each file below where it was, whose it was and its mode
    spool/...       mails that are nowhere else yet
    files/...       the configuration and each file it names: tokens, certificates, keys, calendars and their copies
    panicmail.db    the database as one SQLite file, whatever it is kept in: mails, incidents, outbox, signing keys
    SHA256SUMS      of everything above; as it comes last, a backup that has it is whole

It is a gzipped tar, so `tar` and `sqlite3` read it without panicmail. The spool is copied before the database: a mail
that is taken in meanwhile is in both, and taken in once. The file has another name until it is whole and on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import hashlib
import io
import json
import os
import pwd
import socket
import sqlite3
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
import structlog

from panicmail import __version__
from panicmail.config import Config, sources
from panicmail.errors import Mistake, StoreFailed
from panicmail.oncall import config_schedules
from panicmail.store import backup_cipher, migrate, open_store, schema_revision
from panicmail.store.database import Database
from panicmail.store.spool import Spool
from panicmail.store.tables import metadata, raws

_log = structlog.get_logger()

#: Of the layout above. A newer one is refused by who does not know it.
FORMAT = 1
HEAD, DATABASE, SUMS = "backup.json", "panicmail.db", "SHA256SUMS"
#: Files of the spool that matter: mails, whether everybody was called, and what a person must look at.
_SPOOLED = (".mail", ".called", ".broken")
#: So many rows are in memory at a time; of raw mails one.
_ROWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSummary:
    """What a backup holds."""

    path: Path
    incidents: int
    mails: int
    spooled: int
    files: tuple[str, ...]  #: of the configuration, by their paths
    set_elsewhere: tuple[str, ...]  #: names of settings that are in no file: environment and credentials
    is_encrypted: bool


def make(config: Config, path: Path, recipients: Sequence[str], environ: Mapping[str, str]) -> BackupSummary:
    """Write a backup to `path`, which must not be there.

    Raises:
        Mistake: It cannot be written, the disk is full, or the tool that encrypts refused; nothing is left of it.
        StoreFailed: The database cannot be read.
    """
    backup_cipher.expect_tools(recipients)
    part, copy = (path.with_name(f".{path.name}.{what}") for what in ("part", "db"))
    spooled = [file for file in Spool(config.database.spool).files() if file.suffix in _SPOOLED]
    named = [*_named_files(config, environ)]
    try:
        with _only_here(path, part) as file, _removed(copy):
            copy.unlink(missing_ok=True)  # of one that was killed
            members = {f"spool/{each.name}": each for each in spooled}
            members |= {f"files/{number:03}-{each.name}": each for number, each in enumerate(named)}
            head = _head(config, environ, members)
            with backup_cipher.sealing(file, recipients) as stream, tarfile.open(fileobj=stream, mode="w|gz") as tar:
                _write(tar, config, head, members, copy)
            file.flush()
            os.fsync(file.fileno())
            counts = count_rows(copy)
            _expect_free(path)
            part.rename(path)
            _sync(path.parent)
    except OSError as exc:
        raise Mistake(f"no backup was made: {exc.filename or path}: {exc.strerror or exc}") from exc
    _log.info("backup.made", path=str(path), **counts)
    return BackupSummary(
        path=path, **counts, spooled=sum(file.suffix == ".mail" for file in spooled), files=tuple(map(str, named)),
        set_elsewhere=tuple(head["set_elsewhere"]), is_encrypted=bool(recipients),
    )  # fmt: skip


def count_rows(copy: Path) -> dict[str, int]:
    """How many incidents and mails a SQLite file of ours has."""
    with contextlib.closing(sqlite3.connect(copy)) as connection, _sqlite_failures():
        return {
            "incidents": connection.execute("SELECT count(*) FROM incidents").fetchone()[0],
            "mails": connection.execute("SELECT count(*) FROM mails").fetchone()[0],
        }


# -- the file


@contextlib.contextmanager
def _only_here(path: Path, part: Path) -> Iterator[IO[bytes]]:
    """The unfinished file, for us alone; what is left of one that was killed is written over."""
    _expect_free(path)
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Mistake(f"another panicmail backup writes {path}") from None
        file.truncate()
        with _removed(part):
            yield file


def _expect_free(path: Path) -> None:
    if path.exists():
        raise Mistake(f"{path} is there already, and is not written over; name another file")


@contextlib.contextmanager
def _removed(path: Path) -> Iterator[None]:
    """The file is gone at the end, whatever happened."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(
    tar: tarfile.TarFile, config: Config, head: Mapping[str, Any], members: Mapping[str, Path], copy: Path
) -> None:
    """Everything, in the order the module tells."""
    sums = {HEAD: _add_octets(tar, HEAD, json.dumps(head, indent=1).encode())}
    for name, file in members.items():
        try:
            sums[name] = _add_octets(tar, name, file.read_bytes())
        except FileNotFoundError:  # of the spool: the database has it now, which is copied after it
            if not name.startswith("spool/"):
                raise
    copy_database(config, copy)
    sums[DATABASE] = _add_file(tar, DATABASE, copy)
    _add_octets(tar, SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())


def _add_octets(tar: tarfile.TarFile, name: str, octets: bytes) -> str:
    tar.addfile(_entry(name, len(octets)), io.BytesIO(octets))
    return hashlib.sha256(octets).hexdigest()


def _add_file(tar: tarfile.TarFile, name: str, path: Path) -> str:
    with path.open("rb") as file:
        tar.addfile(_entry(name, path.stat().st_size), file)
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


# -- what it says of itself


def _head(config: Config, environ: Mapping[str, str], members: Mapping[str, Path]) -> dict[str, Any]:
    with contextlib.closing(open_store.connect(config)) as database:
        with database.reading() as connection:
            revision, now = migrate.revision(connection), database.now(connection)
        if revision is None or (not database.is_sqlite and revision != schema_revision.newest()):
            raise StoreFailed(
                "the database has tables of another version; use that version of panicmail, or serve once"
            )
        whole = database.path
    names = [name for name in sorted(environ) if name.startswith(sources.PREFIX) and "__" in name]
    folder = environ.get("CREDENTIALS_DIRECTORY")
    credentials = [file.name for file in sorted(Path(folder).iterdir())] if folder and Path(folder).is_dir() else []
    places = {**members, **({DATABASE: whole} if whole else {})}
    return {
        "format": FORMAT, "panicmail": __version__, "revision": revision, "host": socket.gethostname(),
        "taken_at": now.isoformat(), "configuration": str(config.path.absolute()) if config.path else None,
        "spool": str(config.database.spool.absolute()), "sla_seconds": config.escalation.sla.total_seconds(),
        "set_elsewhere": [*names, *credentials],
        "files": [{"name": name, **_whereabouts(place)} for name, place in places.items()],
    }  # fmt: skip


def _whereabouts(path: Path) -> dict[str, Any]:
    """Where a file is, whose it is, and what may be done with it; by names, as numbers differ from host to host."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return {"place": str(path.absolute()), "mode": 0o600, "owner": "", "group": ""}
    owner, group = str(found.st_uid), str(found.st_gid)
    with contextlib.suppress(KeyError):
        owner = pwd.getpwuid(found.st_uid).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(found.st_gid).gr_name
    return {"place": str(path.absolute()), "mode": stat.S_IMODE(found.st_mode), "owner": owner, "group": group}


def _named_files(config: Config, environ: Mapping[str, str]) -> Iterator[Path]:
    """The configuration's file, every file it names, and the last good copies of calendars; each once."""
    folder = config.path.absolute().parent if config.path else Path.cwd()
    named = [value for name, value in environ.items() if name.startswith(sources.PREFIX) and name.endswith("_FILE")]
    if config.path:
        yield config.path.absolute()
        named += _names_in(sources.read_file(config.path))
    copies = [feed.copy_path for feed in config_schedules.feeds(config)]
    once = dict.fromkeys([*(Path(folder, name) for name in named), *copies])
    yield from (path for path in once if path.is_file() and path != config.path)


def _names_in(table: Any) -> Iterator[str]:
    """What stands under keys that name files, however deep."""
    for key, value in table.items() if isinstance(table, dict) else ():
        if isinstance(value, str) and (key.endswith("_file") or key == "ical") and "://" not in value:
            yield value
        for inner in value if isinstance(value, list) else (value,):
            yield from _names_in(inner)


# -- the database


def copy_database(config: Config, copy: Path) -> None:
    """One SQLite file, from one picture of the database, while others write.

    Raises:
        StoreFailed: It cannot be read, or is damaged.
    """
    with contextlib.closing(open_store.connect(config)) as database:
        if database.path is not None:
            _copy_sqlite(database.path, copy)
        else:
            with contextlib.closing(Database(f"sqlite:///{copy}")) as target:
                migrate.upgrade(target)
                with database.reading() as connection, unhurried(database, connection):
                    copy_tables(connection, target)
    with contextlib.closing(sqlite3.connect(copy)) as copied, _sqlite_failures():
        copied.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        said = [line for (line,) in copied.execute("PRAGMA quick_check(3)") if line != "ok"]
    if said:
        raise StoreFailed(f"the database is damaged: {'; '.join(said)}")


def _copy_sqlite(path: Path, copy: Path) -> None:
    with (
        _sqlite_failures(),
        contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)  # in one go: between two parts a write would begin it anew, under load for ever


@contextlib.contextmanager
def _sqlite_failures() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise StoreFailed(f"the copy of the database: {exc}") from exc


@contextlib.contextmanager
def unhurried(database: Database, connection: sa.Connection) -> Iterator[None]:
    """This transaction may take its time."""
    if database.is_sqlite:
        yield
        return
    from panicmail.store import postgres

    with postgres.unhurried(connection):
        yield


def copy_tables(source: sa.Connection, target: Database) -> None:
    """Every row, into empty tables of the same revision; what is claimed by somebody is nobody's there."""
    with target.writing() as connection, unhurried(target, connection):
        for table in metadata.sorted_tables:
            rows = source.execution_options(stream_results=True, yield_per=1 if table is raws else _ROWS)
            for some in rows.execute(sa.select(table)).mappings().partitions():
                connection.execute(table.insert(), [{**row, **_unheld(table)} for row in some])
        if not target.is_sqlite:
            _count_on(connection)


def _unheld(table: sa.Table) -> dict[str, None]:
    return {name: None for name in ("lease_until", "lease_by") if name in table.c}


def _count_on(connection: sa.Connection) -> None:
    """PostgreSQL gives the next row the number after the last one that was copied."""
    for table in metadata.sorted_tables:
        if table.autoincrement_column is not None:
            newest = sa.select(sa.func.coalesce(sa.func.max(table.c.id), 1)).scalar_subquery()
            connection.execute(sa.select(sa.func.setval(sa.func.pg_get_serial_sequence(table.name, "id"), newest)))
