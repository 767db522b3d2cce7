"""Large mails on their way in are on disk: octet for octet, and whatever the disk does, nothing else suffers."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from panicmail.server.smtp import inbound_storage, reply_table
from panicmail.server.smtp.data import BLOCK, DataReceiver
from panicmail.server.smtp.inbound_storage import ASKED_EVERY, SMALL, InboundStorage, MailOctets, OctetBudget
from panicmail.store.spool import Spool
from tests.disks import Disk, storage
from tests.program import world
from tests.served_smtp import MAIL, Served, Store, Wire, _eventually, serving

MIB = 1 << 20
#: With stuffed dots, bare line ends and every octet there is, and of no round length.
LARGE = (b"Subject: large\r\n\r\n" + bytes(range(256)) * 9 + b"\r\n..\r\n.\n.\r\r\n.x\r\n") * 1000
ENVELOPE = (b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>", b"DATA")


def stuffed(raw: bytes) -> bytes:
    return (b"\r\n" + raw).replace(b"\r\n.", b"\r\n..")[2:]


def next_mail(client: Wire, raw: bytes = MAIL) -> str:
    """The answer to one more mail of that connection."""
    for line in ENVELOPE:
        assert client.say(line)[0] in "23"
    return client.say(stuffed(raw) + b".")


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_a_large_mail_comes_octet_for_octet_and_its_file_is_gone_with_the_answer(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    kept = InboundStorage(spool, 4 * MIB)
    with serving(storage=kept, max_message_size=4 * MIB) as served, served.wire().until_data() as client:
        client.send(stuffed(LARGE))
        assert _eventually(lambda: len(unnamed_files(os.getpid(), spool.folder)) == 1)
        assert list(spool.folder.iterdir()) == []
        assert client.say(b".").startswith("250 ")
        assert unnamed_files(os.getpid(), spool.folder) == []
        assert next_mail(client).startswith("250 ")
    assert [mail.raw for mail in served.store.mails] == [LARGE, MAIL]


def unnamed_files(pid: int, folder: Path) -> list[int]:
    """Sizes of the open files of a process that are in a folder and have no name."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if re.fullmatch(rf"{folder}/.* \(deleted\)", str(descriptor.readlink())):
                found.append(descriptor.stat().st_size)
    return found


@pytest.mark.parametrize("what", ["file", 1, 2, 5])
def test_a_write_that_fails_is_a_452_for_that_mail_and_nothing_else(what: str | int, logged: list[Any]) -> None:
    disk, told = Disk(), list[str]()
    kept = InboundStorage(disk, 4 * MIB, tell=told.append)
    with serving(storage=kept, max_message_size=4 * MIB) as served, served.wire().until_data() as client:
        if isinstance(what, int):
            disk.fails_at = {what}
        else:
            disk.makes_files = False
        assert client.say(stuffed(LARGE) + b".") == reply_table.NO_ROOM
        assert next_mail(client).startswith("250 ")
        assert (kept.disk.free, disk.open_files) == (64 * MIB, 0)
        disk.makes_files, disk.fails_at = True, {disk.writes + 1}
        if isinstance(what, str):
            disk.fails_at = set()
        else:
            assert next_mail(client, LARGE) == reply_table.NO_ROOM
        assert next_mail(client, LARGE).startswith("250 ")
    assert [mail.raw for mail in served.store.mails] == [MAIL, LARGE]
    assert told == [os.strerror(24 if what == "file" else 28)], "once, however many mails"
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["smtp.no_disk"]


def test_whichever_write_fails_the_mail_is_not_kept_and_ends_where_it_ends() -> None:
    wire = stuffed(LARGE) + b".\r\nQUIT\r\n"
    disk, failed = Disk(), 0
    while not disk.fails_at or disk.writes >= failed:
        disk, failed = Disk(failed + 1), failed + 1
        octets = MailOctets(storage(on_disk=64 * MIB, disk=disk))
        mail = DataReceiver(limit=4 * MIB, octets=octets)
        rests = [mail.feed(wire[at : at + 8192]) for at in range(0, len(wire), 8192)]
        assert rests[-1] == b"QUIT\r\n"
        assert mail.kept is (disk.writes < failed)
        octets.release()
        assert disk.open_files == 0
    assert failed > len(LARGE) // BLOCK


def test_on_a_full_disk_large_mails_wait_and_small_ones_come_in(logged: list[Any]) -> None:
    disk, told = Disk(room=0), list[str]()
    kept = InboundStorage(disk, 4 * MIB, tell=told.append)
    with serving(storage=kept, max_message_size=4 * MIB) as served, served.wire().until_data() as client:
        for _ in range(3):
            assert client.say(stuffed(LARGE) + b".") == reply_table.NO_ROOM
            assert next_mail(client).startswith("250 ")
            for line in ENVELOPE:
                client.say(line)
        assert disk.files == []
    assert told == ["the disk has too little room left"]
    assert [line["reason"] for line in logged if line["event"] == "smtp.no_disk"] == told


def test_a_disk_that_cannot_say_how_full_it_is_counts_as_full(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("not a folder")
    kept = InboundStorage(Spool(tmp_path / "spool"), 4 * MIB)
    with serving(storage=kept, max_message_size=4 * MIB) as served, served.wire().until_data() as client:
        assert client.say(stuffed(LARGE) + b".") == reply_table.NO_ROOM
        assert next_mail(client).startswith("250 ")


def test_a_disk_that_gives_back_less_than_it_took_is_a_451(logged: list[Any]) -> None:
    disk = Disk()
    disk.gives_back = MIB
    with serving(disk=disk, max_message_size=4 * MIB) as served, served.wire().until_data() as client:
        assert client.say(stuffed(LARGE) + b".") == reply_table.FAILED
        assert next_mail(client).startswith("250 ")
    assert [mail.raw for mail in served.store.mails] == [MAIL]
    assert [line["error"] for line in logged if line["event"] == "smtp.failed"] == ["OSError"]


def test_the_loop_never_reads_a_mail_back(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = list[threading.Thread]()
    read_back = inbound_storage._read_back

    def noted(*about: Any) -> bytes:
        readers.append(threading.current_thread())
        return read_back(*about)

    monkeypatch.setattr(inbound_storage, "_read_back", noted)
    with serving(max_message_size=4 * MIB) as served, served.wire().until_data() as client:
        assert client.say(stuffed(LARGE) + b".").startswith("250 ")
        loop = served.run(_thread_of_the_loop())
    assert len(readers) == 1
    assert loop not in readers


async def _thread_of_the_loop() -> threading.Thread:
    return threading.current_thread()


# -- by turns


@contextlib.contextmanager
def two_being_stored(**options: Any) -> Iterator[tuple[Served, Wire]]:
    """Two large mails are being made durable, and a third one is there whole."""
    store = Store()
    store.waiting = []
    with serving(store, max_message_size=4 * MIB, **options) as served, contextlib.ExitStack() as leaving:
        clients = [leaving.enter_context(served.wire().until_data()) for _ in range(3)]
        for number, client in enumerate(clients, 1):
            client.send(stuffed(LARGE) + b".\r\n")
            if number < 3:
                store.wait_for(number)
        yield served, clients[2]


def test_a_third_large_mail_waits_for_its_turn_on_disk_and_small_ones_do_not() -> None:
    disk = Disk()
    with two_being_stored(disk=disk) as (served, third):
        waiting = served.store.waiting
        assert waiting is not None
        with served.wire().until_data() as small:
            small.send(MAIL + b".\r\n")
            assert served.store.wait_for(3)[-1].raw == MAIL
        assert _eventually(lambda: disk.open_files == 1)
        waiting[0].set_result("KWMR")
        assert served.store.wait_for(4)[-1].raw == LARGE
        waiting[-1].set_result("QUPA")
        assert third.reply() == reply_table.accepted("QUPA")


def test_a_large_mail_whose_turn_does_not_come_in_time_is_a_452() -> None:
    disk = Disk()
    with two_being_stored(disk=disk, accept_timeout=0.5) as (served, third):
        assert third.reply() == reply_table.NO_ROOM
        assert len(served.store.mails) == 2
        for written in served.store.waiting or []:
            written.set_result("KWMR")
        served.store.waiting = None
        assert next_mail(third, LARGE).startswith("250 ")
    assert disk.open_files == 0


def test_a_turn_comes_back_whatever_becomes_of_the_mail() -> None:
    store = Store()
    store.failures = {number: RuntimeError() for number in range(1, 4)}
    loop_of_hops = b"Received: x\r\n" * 101 + LARGE
    with serving(store, max_message_size=4 * MIB) as served, served.wire().until_data() as client:
        assert client.say(stuffed(LARGE) + b".") == reply_table.FAILED
        for _ in range(2):
            assert next_mail(client, LARGE) == reply_table.FAILED
            assert next_mail(client, loop_of_hops) == reply_table.LOOP
        assert next_mail(client, LARGE).startswith("250 ")


# -- memory and disk


def test_small_mails_go_to_disk_when_memory_has_no_room() -> None:
    disk = Disk()
    kept = storage(in_memory=SMALL, on_disk=64 * MIB, disk=disk)
    with serving(storage=kept) as served, contextlib.ExitStack() as leaving:
        clients = [leaving.enter_context(served.wire().until_data()) for _ in range(8)]
        for client in clients:
            client.send(b"x" * (SMALL // 2))
        assert _eventually(lambda: disk.open_files == 6)
        for client in clients:
            assert client.say(b"\r\n.").startswith("250 ")
    assert {mail.raw for mail in served.store.mails} == {b"x" * (SMALL // 2) + b"\r\n"}
    assert (kept.memory.free, kept.disk.free) == (SMALL, 64 * MIB)


def test_where_neither_has_room_the_slowest_gives_way_to_a_small_mail() -> None:
    kept, clock = storage(), Moved()
    kept.memory, kept.disk = OctetBudget(2 * MIB, clock=clock), OctetBudget(0, clock=clock)
    slow = [MailOctets(kept, peer) for peer in ("a", "b")]
    gone = list[int]()
    for number, octets in enumerate(slow):
        octets.given_up_by(lambda number=number: gone.append(number))  # type: ignore[misc]
        assert octets.reserve(MIB - number)
    assert not MailOctets(kept, "c").reserve(MIB)
    clock.at = 60.0
    assert MailOctets(kept, "c").reserve(MIB)
    assert gone == [0], "of whoever holds most"


class Moved:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def test_a_disk_is_asked_for_its_room_now_and_then_and_mails_leave_what_it_has_to_others() -> None:
    disk, clock = Disk(room=10 * MIB), Moved()
    budget = OctetBudget(100 * MIB, room=lambda: disk.free() - inbound_storage.LEFT_FREE, clock=clock)
    share = budget.share("a")
    assert all(share.grow(BLOCK) for _ in range(160))
    assert not share.grow(BLOCK)
    assert (disk.asked, budget.is_short) == (1, True)
    clock.at, disk.room = ASKED_EVERY, 200 * MIB
    assert all(share.grow(BLOCK) for _ in range(160))
    assert (disk.asked, budget.is_short) == (2, False)


# -- by a mail server of ours


def test_a_mail_server_of_ours_has_more_than_one_addresss_half_and_leaves_room_for_small_mails() -> None:
    budget = OctetBudget(32 * MIB, has_relays=True)
    assert all(budget.share("mx", is_trusted=True).grow(8 * MIB) for _ in range(3))
    assert not budget.share("mx", is_trusted=True).grow(2 * MIB)
    assert all(budget.share("mx", is_trusted=True).grow(SMALL) for _ in range(8))


def test_a_part_is_for_mail_servers_of_ours_alone_and_strangers_evict_none_of_theirs() -> None:
    clock = Moved()
    budget = OctetBudget(32 * MIB, has_relays=True, clock=clock)
    assert budget.share("mx", is_trusted=True).grow(2 * MIB)
    for peer in "abc":
        assert budget.share(peer).grow(6 * MIB)
    clock.at = 60.0
    ours = next(share for share in budget._shares if share.is_trusted)
    assert budget.share("d").grow(2 * MIB), "a stranger's slow one gave way"
    assert ours.held == 2 * MIB
    strangers = [budget.share(f"e{number}") for number in range(30)]
    assert [share.grow(SMALL) for share in strangers].count(True) == 32 - 4 - 2 - 2, "all their slow ones gave way"
    assert ours.held == 2 * MIB
    assert all(budget.share("mx", is_trusted=True).grow(SMALL) for _ in range(4))


# -- the process

_RECEIVING = """
import asyncio, pathlib, sys
from panicmail.server.smtp.inbound_storage import InboundStorage
from panicmail.server.smtp.listeners import SmtpListener
from panicmail.store.spool import Spool

async def serve():
    spool = Spool(pathlib.Path(sys.argv[1]))
    spool.open()
    listener = SmtpListener(listen=[("127.0.0.1", 0)], hostname="h", known=lambda a: True, accept=None, tls=None,
                            max_message_size=8 << 20, storage=InboundStorage(spool, 8 << 20))
    await listener.start()
    print(listener.addresses[0][1], file=sys.stderr, flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""


def test_a_kill_in_the_midst_of_large_mails_leaves_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RECEIVING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            port = int(process.stderr.readline())
            with Wire(port).until_data() as one, Wire(port).until_data() as two:
                for client in (one, two):
                    client.send(LARGE)
                held = _eventually(lambda: len(unnamed_files(process.pid, tmp_path)) == 2)
        finally:
            process.kill()
    assert held
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_where_a_file_must_have_a_name_first_is_swept_out(tmp_path: Path) -> None:
    left, other = tmp_path / ".coming-in-abc123", tmp_path / "notes"
    left.touch()
    other.touch()
    Spool(tmp_path).open()
    assert list(tmp_path.iterdir()) == [other]


def test_a_file_without_a_name_is_on_the_disk_of_the_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with spool.scratch_file() as file:
        os.fstat(file.fileno())
        assert os.fstat(file.fileno()).st_dev == spool.folder.stat().st_dev
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.fstat(file.fileno()).st_mode & 0o077 == 0
    assert spool.free() > 0


def test_when_the_disk_takes_no_large_mail_the_operators_are_told_and_small_ones_are_paged(tmp_path: Path) -> None:
    with world(tmp_path, expects=["smtp.no_disk", "spool.failed", "spool.unreadable"]) as town:
        (town.folder / "panicmail.spool").write_text("not a folder")
        town.config["database"]["spool"] = "panicmail.spool/inside"
        town.config["operators"] = {"page": ["bo"]}
        town.start()
        assert town.send(b"Subject: large\r\n\r\n" + b"x" * 2 * MIB).code == 452
        town.program.wait_for("smtp.no_disk")
        assert town.page("ana", town.panic())
        assert "large mails cannot come in" in town.received("bo", lambda got: "large mails" in got.text).text


def test_a_large_mail_is_paged_and_kept_whole(tmp_path: Path) -> None:
    with world(tmp_path) as town:
        town.start()
        answer = town.send(b"From: rita@example.com\r\nSubject: Large\r\n\r\n" + b"line\r\n" * (MIB // 2))
        assert answer.code == 250
        assert town.page("ana", answer.ref)
        assert list((town.folder / "panicmail.spool").iterdir()) == []
