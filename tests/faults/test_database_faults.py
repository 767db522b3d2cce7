"""Rows 11, 13, 14, 16 and 17: the database is full, locked, away, or not the one it was."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from panicmail import crashpoints
from panicmail.escalation.restore_guard import RestoreGuard
from panicmail.sandbox.relay_server import Received
from panicmail.store.watermark import WatermarkFile
from tests.examples import IS_LONG
from tests.faults.acts import accounted_for, eventually, locked, one_copy_a_life, start_again
from tests.faults.strace import full
from tests.office import Office, mail
from tests.program import SOON, World, world
from tests.servers import server, standby_of

#: Said while the database takes nothing.
AWAY = (
    "store.write_failed", "mail.spooled", "mail.not_accepted", "emergency.calls", "smtp.failed", "worker.failed",
    "dispatch.failed", "escalation.failed", "tick.failed", "spool.not_emptied", "intake.again", "signs.failed",
)  # fmt: skip

#: Of the spool, in the order a mail comes by them.
POINTS = ("spool.writing", "spool.written", "mails.take_in.commit", "mails.take_in.committed")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, expects=[*AWAY, "spool.failed", "spool.unreadable"]) as town:
        yield town


def away(got: Received) -> bool:
    return "DATABASE AWAY" in got.subject


def waiting(town: World) -> list[Path]:
    """The mails in the spool."""
    return list(town.folder.glob("panicmail.spool/*.mail"))


@pytest.mark.row(11, "the database's disk is full", "250 from the spool; people are called; taken in once")
def test_a_mail_a_full_disk_refuses_is_spooled_paged_from_memory_and_taken_in_once_with_its_time(town: World) -> None:
    town.start()
    town.page("ana", town.panic("before"))
    town.settled()
    with full(town.program.pid):
        ref = town.panic("while the disk is full")
        town.program.wait_for("mail.spooled")
        pages = [town.received(person, lambda got: away(got) and ref in got.subject) for person in ("ana", "max")]
        head, _, _ = waiting(town)[0].read_bytes().partition(b"\n")
    accepted_at = datetime.fromisoformat(json.loads(head)["accepted_at"])
    town.program.wait_for("mail.taken_in")
    accounted_for(town, [ref])
    ((at,),) = town.rows("SELECT accepted_at FROM incidents WHERE ref = ?", ref)
    assert datetime.fromisoformat(at).replace(tzinfo=UTC) == accepted_at
    assert len(town.relay.all(lambda got: away(got))) == len(pages) == 2, "each was called once from memory"
    assert waiting(town) == []


@pytest.mark.row(11, "neither database nor spool takes a mail", "451; operators and both on call hear about panicmail")
def test_a_mail_nothing_takes_is_a_451_and_people_are_called_about_panicmail_itself(town: World) -> None:
    (town.folder / "panicmail.spool").write_text("in the way of the folder")
    town.config["database"]["spool"] = "panicmail.spool/inside"
    town.start()
    town.received("max", lambda got: "spool" in got.text)
    town.settled()
    with full(town.program.pid):
        answer = town.send(mail("My files are .locked.", subject="refused"))
        assert (answer.code, answer.text[:5]) == (451, "4.3.0")
        for person in ("ana", "max"):
            town.received(person, lambda got: "takes no mail" in got.subject)
    accounted_for(town, [town.panic("after")])
    assert town.rows("SELECT count(*) FROM incidents WHERE subject = 'refused'") == [(0,)]


@pytest.mark.row(13, "kill -9 while a mail is in the spool", "taken in by the next start, once")
@pytest.mark.parametrize("point", POINTS if IS_LONG else POINTS[2:3])
def test_a_mail_of_the_spool_survives_a_kill_on_its_way_in_and_out(town: World, point: str) -> None:
    promised = point != "spool.writing"
    town.environ["PANICMAIL_CRASH_AT"] = point
    program = town.start()
    with full(program.pid):
        answer = town.send(mail("My files are .locked.", subject="spooled"))
        if point.startswith("spool."):
            assert program.ended() == crashpoints.KILLED
        else:
            assert answer.code == 250
    assert program.ended() == crashpoints.KILLED
    assert len(waiting(town)) == promised
    del town.environ["PANICMAIL_CRASH_AT"]
    start_again(town)
    if promised:
        town.until(lambda: town.rows("SELECT 1 FROM incidents"), SOON, "it was not taken in")
        accounted_for(town, [ref for (ref,) in town.rows("SELECT ref FROM incidents")])
        one_copy_a_life(town)
    town.settled()
    town.until(lambda: not waiting(town), SOON, "its file was not let go")
    assert town.rows("SELECT count(*) FROM mails") == [(int(promised),)]


@pytest.mark.row(16, "another process holds SQLite's lock for longer than 5 s", "250 from the spool; nothing is lost")
@pytest.mark.row(14, "the database is away while the SLA runs", "who is due is called from memory: STATE UNKNOWN")
@pytest.mark.long
def test_while_the_database_takes_nothing_mail_is_kept_and_who_is_due_is_called_from_memory(tmp_path: Path) -> None:
    with world(tmp_path, steps=[("0s", "seoc"), ("5s", "smoc")], sla="5s", expects=AWAY) as town:
        town.start()
        theirs, anas = town.panic("nobody answers"), town.panic("ana answers")
        pages = {ref: town.page("ana", ref) for ref in (theirs, anas)}
        town.settled()
        with locked(town.database):
            assert town.reply(pages[anas], "ack").code == 250
            kept = town.panic("while it is locked")
            called = town.page("max", theirs, 30)
            assert "STATE UNKNOWN" in called.subject
            assert len(waiting(town)) == 2
        town.until(lambda: holder(town, anas) == "ana", SOON, "Ana's acknowledgement was lost")
        town.page("max", theirs, count=2)
        accounted_for(town, [theirs, anas, kept])
        assert waiting(town) == []
        assert len(town.relay.all(lambda got: "STATE UNKNOWN" in got.subject and theirs in got.subject)) == 1
        assert not town.relay.all(lambda got: away(got) and anas in got.subject), "Ana's answer is no panic"


def holder(town: World, ref: str) -> str | None:
    ((name,),) = town.rows("SELECT holder FROM incidents WHERE ref = ?", ref)
    return None if name is None else str(name)


@pytest.mark.postgres
@pytest.mark.row(
    13, "PostgreSQL crashes when a panic comes", "250 from the spool, paged from memory; taken in", long=True
)
def test_a_panic_that_comes_while_postgresql_is_down_is_kept_paged_and_taken_in(tmp_path: Path) -> None:
    with ExitStack() as stack:
        postgres = stack.enter_context(server())
        town = stack.enter_context(world(tmp_path, database=postgres.url, expects=AWAY))
        town.config["database"]["spool"] = "panicmail.spool"
        town.start()
        town.page("ana", town.panic("before"))
        postgres.stop("immediate")
        ref = town.panic("while it is down")
        for person in ("ana", "max"):
            town.received(person, lambda got: away(got) and ref in got.subject)
        postgres.start()
        town.program.wait_for("mail.taken_in")
        town.issue(ref)
        town.page("ana", ref, count=2)
        assert postgres.rows("SELECT count(*) FROM incidents") == [(2,)]
        assert waiting(town) == []
        assert town.stop() == 0


@pytest.mark.row(17, "the database is an old copy", "noticed at the start; the operators get the list; no pages")
def test_an_old_copy_put_in_place_of_the_database_pages_nobody_until_the_operators_could_look(tmp_path: Path) -> None:
    office = Office(tmp_path)
    mark = WatermarkFile(tmp_path / "high_water")
    in_the_copy = [office.panic(subject=f"panic {number}") for number in range(3)]
    database = tmp_path / "panicmail.db"
    with closing(sqlite3.connect(database)) as original, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        original.backup(copy)
    for page in office.pages("ana"):
        office.reply(page, "ack")
    lost = office.panic(subject="after the copy")
    RestoreGuard(office.store, lambda: office.settings, mark).remember()
    office.close()
    for file in tmp_path.glob("panicmail.db*"):
        file.unlink()
    (tmp_path / "copy.db").rename(database)
    restored = Office(tmp_path)
    restored.now = office.now + timedelta(minutes=30)
    assert RestoreGuard(restored.store, lambda: restored.settings, mark).start()
    restored.wait(minutes=14)
    assert restored.pages("ana") == restored.pages("max") == []
    told = next(posted.text for posted in restored.sent("max") if lost.ref in posted.text)
    assert all(incident.ref in told for incident in in_the_copy)
    assert restored.gitlab.issues == [], "nothing is made twice"
    restored.wait(minutes=2)
    assert restored.pages("max"), "and then it goes on"
    restored.close()


@pytest.mark.postgres
@pytest.mark.row(
    15, "PostgreSQL fails over to a standby that lags", "what is missing is told to the operators; no pages", long=True
)
def test_a_standby_that_had_not_heard_of_a_mail_is_noticed_and_the_mail_is_named(tmp_path: Path) -> None:
    mark = WatermarkFile(tmp_path / "high_water")
    with server() as primary, standby_of(primary, "late") as standby:
        office = Office(tmp_path, url=primary.url)
        known = office.panic(subject="both know of it")
        heard = lambda: standby.rows("SELECT 1 FROM incidents WHERE ref = %s", known.ref)  # noqa: E731
        eventually(heard, "the standby does not follow")
        standby.stop()
        lost = office.panic(subject="the standby never heard of it")
        RestoreGuard(office.store, lambda: office.settings, mark).remember()
        office.close()
        primary.stop("immediate")
        standby.start()
        standby.promote()
        promoted = Office(tmp_path, url=standby.url)
        assert RestoreGuard(promoted.store, lambda: promoted.settings, mark).start()
        promoted.settle()
        assert promoted.pages("ana") == []
        told = next(posted.text for posted in promoted.sent("max") if lost.ref in posted.text)
        assert known.ref in told
        promoted.close()
