"""Rows 10 and 12: the power goes, the disk does not do what it said."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from panicmail.incident import ids
from tests.examples import IS_LONG
from tests.faults.acts import accounted_for, start_again
from tests.faults.strace import Disk, Strace, read_record
from tests.office import mail
from tests.program import SOON, World, world

#: Said when a COMMIT failed and the daemon ends, and of what was cut short.
BROKEN = (
    "store.write_failed", "store.broken", "mail.not_accepted", "smtp.failed", "worker.failed", "dispatch.failed",
    "escalation.failed", "tick.failed", "spool.not_emptied", "intake.again",
)  # fmt: skip


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, expects=BROKEN) as town:
        yield town


@pytest.mark.row(
    10, "the power goes; what was not synced is lost", "every 250 is on the disk, and paged after the start"
)
@pytest.mark.timeout(180)
@pytest.mark.long
def test_every_250_is_on_a_disk_that_loses_all_it_had_not_synced_and_half_of_what_it_was_at(
    town: World, tmp_path: Path
) -> None:
    town.start()
    town.page("ana", town.panic("before the record"))
    town.settled()
    record, after = tmp_path / "record", tmp_path / "after"
    after.mkdir()
    with Strace(town.program.pid, record=record):
        disk = Disk.holding([town.database, wal(town.database)])
        refs = [town.panic(f"number {number}") for number in range(12 if IS_LONG else 4)]
        town.program.kill()
    promised: list[str] = []
    luck = random.Random(10)
    for happened in read_record(record):
        if happened.what == "send" and (accepted := re.match(rb"250 2.0.0 accepted as (\w+)", happened.data)):
            promised.append(accepted[1].decode())
        if happened.what == "sync" or promised:
            disk.power_cut(after, luck if happened.what == "sync" else None)
            assert set(promised) <= set(refs_on(after / town.database.name)), promised
        disk.take(happened)
    assert promised == refs, "the record tells of every 250"
    disk.power_cut(after)
    start_on(town, after)
    accounted_for(town, refs)


def wal(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def refs_on(database: Path) -> list[str]:
    """The REFs of the mails a start would find, on a database that is whole."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [ids.ref(mail_id) for (mail_id,) in connection.execute("SELECT id FROM mails")]


def start_on(town: World, folder: Path) -> None:
    """Start on the database that was left in a folder."""
    for file in town.folder.glob(town.database.name + "*"):
        file.unlink()
    for file in folder.glob(town.database.name + "*"):
        shutil.copy(file, town.folder)
    start_again(town)


@pytest.mark.row(10, "killed inside a sync", "every 250 is there, the database is whole")
@pytest.mark.parametrize("when", range(1, 13) if IS_LONG else (4,))
def test_a_kill_inside_a_sync_loses_nothing_that_had_its_250(town: World, when: int) -> None:
    town.start()
    refs = [town.panic("before")]
    with Strace(town.program.pid, f"inject=fsync,fdatasync:signal=SIGKILL:when={when}"):
        while (answer := town.send(mail("My files are .locked.", subject="during"))).code == 250:
            refs.append(answer.ref)
        town.program.ended()
    start_again(town)
    accounted_for(town, refs)


@pytest.mark.row(12, "a sync fails (EIO)", "no 250 for what is not on the disk; never tried again; ends with 1")
def test_a_failed_sync_is_not_tried_again_and_ends_the_daemon_without_a_250_that_does_not_hold(town: World) -> None:
    program = town.start()
    refs = [town.panic("before")]
    town.page("ana", refs[0])
    town.settled()
    with Strace(program.pid, "inject=fsync,fdatasync:error=EIO:when=1"):
        answer = town.send(mail("My files are .locked.", subject="during"))
        program.wait_for("store.broken", SOON)
        assert program.ended(12) == 1
    if answer.code == 250:  # by another way than the one that failed
        refs.append(answer.ref)
    assert answer.code in {0, 250, 421, 451}
    start_again(town)
    refs.append(town.panic("after"))
    accounted_for(town, refs)


@pytest.mark.row(10, "the power goes while the spool has a mail", "file and folder were synced before the 250")
def test_a_mail_in_the_spool_is_synced_with_its_name_before_its_250(town: World, tmp_path: Path) -> None:
    town.expected |= {"mail.spooled", "emergency.calls"}
    town.start()
    record = tmp_path / "record"
    with Strace(town.program.pid, "inject=pwrite64:error=ENOSPC", record=record):
        ref = town.panic("while the database takes nothing")
        town.program.kill()
    spool = town.folder / "panicmail.spool"
    (promise,) = [
        happened for happened in read_record(record) if ref.encode() in happened.data and happened.what == "send"
    ]
    synced = []
    for happened in read_record(record):
        if happened == promise:
            break
        synced += [happened.path] if happened.what == "sync" else []
    assert [Path(path).suffix for path in synced if Path(path).parent == spool] == [".part"]
    assert synced[-1] == str(spool), "the name it has now is on the disk too"
    start_again(town)
    accounted_for(town, [ref])
