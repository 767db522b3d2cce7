"""The emergency spool: on disk before the answer, whole or not there, and never deleted too early."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from panicmail.errors import StoreFailed
from panicmail.incident import ids
from panicmail.store.rows import AcceptedMail
from panicmail.store.spool import Spool, Spooled
from tests.cast import MINUTE, T0
from tests.examples import examples

RAW = b"Subject: Ransom note\r\n\r\nMy files are .locked.\r\n"


def mail(
    accepted_at: datetime = T0,
    *,
    mail_from: str = "rita@example.com",
    peer: str = "192.0.2.1",
    helo: str = "laptop",
    tls: str = "",
) -> AcceptedMail:
    return AcceptedMail(
        id=ids.new_mail_id(),
        accepted_at=accepted_at,
        mail_from=mail_from,
        recipients=("panic@example.com",),
        peer=peer,
        helo=helo,
        tls=tls,
        size=len(RAW),
    )


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.open()
    return spool


def files(spool: Spool) -> list[str]:
    return sorted(path.name for path in spool.folder.iterdir())


def only(spool: Spool) -> Spooled:
    (spooled,) = spool.waiting()
    return spooled


# -- what comes out is what went in


def test_a_mail_comes_out_as_it_went_in_with_its_envelope_and_its_instant(spool: Spool) -> None:
    kept = replace(mail(T0 + timedelta(microseconds=7)), recipients=("panic@example.com", "panic+x@example.com"))
    spool.put(kept, RAW)
    assert spool.read(only(spool)) == (kept, RAW)
    assert (only(spool).mail_id, only(spool).accepted_at, only(spool).called) == (kept.id, kept.accepted_at, False)


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"\r\n.\r\n", b"\x00\xff\r\r\n", bytes(range(256)) * 300, b'{"id": "no head of ours"}\n{}']
)
def test_no_octet_is_changed_whatever_it_is(spool: Spool, raw: bytes) -> None:
    spool.put(replace(mail(), size=len(raw)), raw)
    found = spool.read(only(spool))
    assert found is not None
    assert found[1] == raw


@examples(30)
@given(raw=st.binary(), texts=st.lists(st.text(max_size=40), min_size=4, max_size=4))
def test_any_octets_and_any_envelope_come_back(
    raw: bytes, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    kept = replace(mail(mail_from=texts[0], peer=texts[1], helo=texts[2], tls=texts[3]), size=len(raw))
    spool.put(kept, raw)
    assert spool.read(only(spool)) == (kept, raw)


def test_mails_wait_in_the_order_they_were_accepted_in_whatever_zone(spool: Spool) -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    later, first, second = (mail(at) for at in (T0 + 2 * MINUTE, T0.astimezone(east), T0 + timedelta(microseconds=1)))
    for each in (later, first, second):
        spool.put(each, RAW)
    assert [spooled.mail_id for spooled in spool.waiting()] == [first.id, second.id, later.id]


# -- on disk before the answer


class Recorder:
    """Calls through to the system, and remembers what was asked of it in which order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self._sync, self._rename, self._mkdir = os.fsync, Path.rename, Path.mkdir
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(Path, "rename", lambda path, target: self.rename(path, target))
        monkeypatch.setattr(Path, "mkdir", lambda path, *args, **kwargs: self.mkdir(path, *args, **kwargs))

    def fsync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        size = path.stat().st_size if path.is_file() else 0
        self.calls.append(f"fsync {path.suffix or path.name}" + (" whole" if size > len(RAW) else ""))
        self._sync(descriptor)

    def rename(self, path: Path, target: Path) -> Path:
        self.calls.append(f"rename {path.suffix} {target.suffix}")
        return self._rename(path, target)

    def mkdir(self, path: Path, *args: int, **kwargs: int) -> None:
        self.calls.append(f"mkdir {path.name}")
        self._mkdir(path, *args, **kwargs)  # type: ignore[arg-type]


def test_the_file_is_synced_whole_before_it_has_its_name_and_the_name_before_the_answer(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    spool.put(mail(), RAW)
    assert recorder.calls == ["fsync .part whole", "rename .part .mail", "fsync spool"]


def test_a_new_folder_has_its_own_name_synced_and_those_of_the_folders_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    Spool(tmp_path / "state" / "spool").open()
    assert [call for call in recorder.calls if call.startswith("fsync")] == [
        "fsync state",
        f"fsync {tmp_path.name}",
        "fsync spool",
    ]


def test_a_folder_somebody_removed_is_made_again_for_the_next_mail(spool: Spool) -> None:
    spool.folder.rmdir()
    assert spool.waiting() == []
    spool.put(mail(), RAW)
    assert len(spool.waiting()) == 1


@pytest.mark.parametrize(("name", "owner"), [("fsync", os), ("rename", Path)])
def test_a_disk_that_fails_at_the_file_leaves_nothing_and_is_no_yes(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, name: str, owner: object
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fail)
        with pytest.raises(StoreFailed, match="cannot be written: Input/output error"):
            spool.put(mail(), RAW)
    assert files(spool) == []


def test_a_name_that_could_not_be_synced_is_no_yes_and_no_mail_is_lost_by_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.put(mail(), RAW)
    synced = []

    def fail_the_second_time(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail_the_second_time)
        with pytest.raises(StoreFailed):
            spool.put(mail(), RAW)
    assert len(spool.waiting()) == 2, "whole, so it may stay: too much is better than too little"
    assert all(spool.read(spooled) for spooled in spool.waiting())


FULL_DISK = """
import resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from panicmail.errors import StoreFailed
from panicmail.store.rows import AcceptedMail
from panicmail.store.spool import Spool

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
spool = Spool(Path(sys.argv[1]))
for letter, octets in ("a", 10_000), ("b", 30_000), ("c", 10_000):
    kept = AcceptedMail(
        id=letter * 26, accepted_at=datetime.now(UTC), mail_from="", recipients=(), peer="", helo="", tls="",
        size=octets,
    )
    try:
        spool.put(kept, b"x" * octets)
    except StoreFailed as refused:
        print(letter, str(refused).rpartition(": ")[2])
"""


def test_what_a_full_disk_does_not_take_is_refused_and_gone_and_the_next_small_one_fits(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.open()
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(spool.folder)], capture_output=True, text=True, timeout=30, check=True
    )
    assert ran.stdout == "b File too large\n"
    assert [(spooled.mail_id[0], spool.read(spooled) is not None) for spooled in spool.waiting()] == [
        ("a", True),
        ("c", True),
    ]
    assert len(files(spool)) == 2


def test_where_no_folder_can_be_a_mail_is_refused_with_the_folder_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "spool"):
        spool = Spool(folder)
        with pytest.raises(StoreFailed, match=f"the spool {folder} cannot be written: Not a directory"):
            spool.open()
        with pytest.raises(StoreFailed, match="Not a directory"):
            spool.put(mail(), RAW)
        assert spool.waiting() == []


# -- one id


def test_the_same_mail_put_twice_is_there_once(spool: Spool) -> None:
    kept = mail()
    spool.put(kept, RAW)
    spool.put(kept, RAW)
    assert spool.read(only(spool)) == (kept, RAW)
    assert len(files(spool)) == 1


def test_of_two_who_put_the_same_mail_at_once_neither_spoils_the_others(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, sync = mail(), os.fsync
    writing, go_on = threading.Event(), threading.Event()

    def slowly(descriptor: int) -> None:
        writing.set()
        assert go_on.wait(30)
        sync(descriptor)

    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as pool:
        patched.setattr(os, "fsync", slowly)
        first = pool.submit(spool.put, kept, RAW)
        assert writing.wait(30)
        with pytest.raises(StoreFailed, match="File exists"):
            spool.put(kept, RAW)
        go_on.set()
        first.result(10)
    assert spool.read(only(spool)) == (kept, RAW)


# -- what a crash leaves


def test_what_was_never_finished_is_not_there_and_swept_out_at_the_next_start(spool: Spool) -> None:
    spool.put(mail(), RAW)
    (spool.folder / f"20261122T020711.123456-{ids.new_mail_id()}.part").write_bytes(b'{"id": ')
    assert len(spool.waiting()) == 1
    assert spool.read(only(spool)) is not None
    spool.open()
    assert [Path(name).suffix for name in files(spool)] == [".mail"]


def test_a_mark_whose_mail_was_removed_right_before_a_crash_is_swept_out_and_others_stay(spool: Spool) -> None:
    spool.put(mail(), RAW)
    spool.put(mail(T0 + MINUTE), RAW)
    first, second = spool.waiting()
    for spooled in (first, second):
        spool.mark_called(spooled)
    first.path.unlink()
    spool.open()
    assert [spooled.called for spooled in spool.waiting()] == [True]
    assert len(files(spool)) == 2


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_file_that_is_not_what_was_written_is_put_aside_told_and_never_deleted(spool: Spool, cut: int) -> None:
    spool.put(mail(), RAW)
    spooled = only(spool)
    torn = spooled.path.read_bytes()[:cut]
    spooled.path.write_bytes(torn)
    with structlog.testing.capture_logs() as logged:
        assert spool.read(spooled) is None
    assert [(line["event"], line["log_level"]) for line in logged] == [("spool.broken", "error")]
    assert spool.waiting() == []
    assert spool.broken() == [spooled.path.with_suffix(".broken").name]
    spool.open()
    assert (spool.folder / spool.broken()[0]).read_bytes() == torn


@pytest.mark.parametrize(
    ("octets", "spoiled"),
    [
        (b".locked", b".l0cked"),
        (b'"rita@', b'"\xff\xfe\xfd'),
        (b'["panic@example.com"]', b'"panic@example.com"'),
        (b'"id": "', b'"id": "a'),
        (b'"helo"', b'"halo"'),
        (b"{", b"[1, 2]\n{"),
    ],
)
def test_a_spoiled_octet_in_text_or_envelope_is_found(spool: Spool, octets: bytes, spoiled: bytes) -> None:
    spool.put(mail(), RAW)
    path = only(spool).path
    assert octets in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(octets, spoiled))
    assert spool.read(only(spool)) is None
    assert len(spool.broken()) == 1


def test_a_mail_that_is_gone_is_none_and_one_that_cannot_be_read_now_is_said_to_be_there(spool: Spool) -> None:
    spool.put(mail(), RAW)
    spooled = only(spool)
    spooled.path.unlink()
    assert spool.read(spooled) is None
    spooled.path.mkdir()
    with pytest.raises(StoreFailed, match="the spool cannot be read: Is a directory"):
        spool.read(spooled)
    assert spool.broken() == []


# -- what is not ours


def test_files_of_others_are_neither_mails_nor_touched(spool: Spool) -> None:
    no_instant = f"99999999T999999.000000-{'a' * 26}.mail"
    others = ["README", "note.mail", "x.part", "20261122T020711.123456-short.mail", no_instant]
    for name in others:
        (spool.folder / name).write_text("somebody else's")
    (spool.folder / "folder.mail").mkdir()
    spool.put(mail(), RAW)
    spool.open()
    assert len(spool.waiting()) == 1
    assert spool.broken() == []
    assert set(others) < set(files(spool))
    assert all((spool.folder / name).read_text() == "somebody else's" for name in others)


def test_folder_and_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "spool")
        spool.open()
        spool.put(mail(), RAW)
        spool.mark_called(only(spool))
    finally:
        os.umask(before)
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in spool.folder.iterdir()} == {0o600}


# -- called, and over


def test_that_somebody_was_called_survives_a_restart_and_goes_with_the_mail(spool: Spool) -> None:
    spool.put(mail(), RAW)
    spool.mark_called(only(spool))
    again = Spool(spool.folder)
    again.open()
    assert only(again).called
    again.remove(only(again))
    assert files(spool) == []


def test_a_mail_that_was_taken_in_while_somebody_was_called_leaves_no_mark(spool: Spool) -> None:
    spool.put(mail(), RAW)
    spooled = only(spool)
    spool.remove(spooled)
    spool.mark_called(spooled)
    assert files(spool) == []
    spool.remove(spooled)


def test_a_folder_that_cannot_be_read_is_said_once_and_again_after_it_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)

    def refuse(_: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            with monkeypatch.context() as patched:
                patched.setattr(Path, "iterdir", refuse)
                assert (spool.waiting(), spool.waiting(), spool.broken()) == ([], [], [])
            assert spool.waiting() == []
    assert [(line["event"], line["reason"]) for line in logged] == [("spool.unreadable", "Permission denied")] * 2


def test_an_instant_before_the_year_2000_and_after_2100_sorts_and_comes_back(spool: Spool) -> None:
    instants = [datetime(1970, 1, 1, tzinfo=UTC), datetime(2106, 2, 7, tzinfo=UTC)]
    for at in reversed(instants):
        spool.put(mail(at), RAW)
    assert [spooled.accepted_at for spooled in spool.waiting()] == instants
