"""What panicmail keeps on disk is for its own user alone, whoever starts it and with whatever umask."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from panicmail import config as configuration
from panicmail.check import CheckVerdict, Row, offline_checks, own_files
from tests.daemon_facts import NOT_WRITTEN, calendar
from tests.program import SOON, World, world

#: What the test itself puts into the folder.
GIVEN = {"panicmail.toml", "gitlab.token", "seoc.ics"}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def careless() -> Iterator[None]:
    """A shell, or a unit, that gives everybody everything."""
    with umask(0):
        yield


def modes(folder: Path) -> dict[str, int]:
    """Of everything that was made below a folder, by its path within."""
    found = {}
    for path in folder.rglob("*"):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # swept away meanwhile
            continue
        if path.name not in GIVEN and not stat.S_ISSOCK(mode):
            found[str(path.relative_to(folder))] = stat.S_IMODE(mode)
    return found


def expect_private(folder: Path) -> dict[str, int]:
    found = modes(folder)
    open_to_others = {name: f"{mode:04o}" for name, mode in found.items() if mode & 0o077}
    assert not open_to_others
    return found


def suffixes(names: dict[str, int]) -> set[str]:
    return {Path(name).suffix for name in names}


@pytest.mark.usefixtures("careless")
def test_what_a_daemon_started_with_umask_000_keeps_is_for_its_user_alone(tmp_path: Path) -> None:
    with world(tmp_path, expects=[*NOT_WRITTEN, "mail.spooled", "emergency.calls"]) as town:
        (tmp_path / "seoc.ics").write_text(calendar("Ana Reyes"))
        town.config["oncall"]["seoc"] = {"ical": "seoc.ics"}
        town.start()
        town.page("ana", town.panic("in the database"))
        lock = sqlite3.connect(town.database, isolation_level=None)
        with closing(town.begin_mail()) as client, closing(lock):
            lock.execute("BEGIN IMMEDIATE")
            spooled = town.finish_mail(client)
            town.page("ana", spooled.ref)  # from memory
            town.until(lambda: list(tmp_path.glob("panicmail.spool/*.called")), SOON, "not noted in the spool")
            here = expect_private(tmp_path)
            lock.execute("ROLLBACK")
        kinds = {".db", ".db-wal", ".db-shm", ".lock", ".mark", ".spool", ".mail", ".called", ".json"}
        assert suffixes(here) >= kinds
        assert here["panicmail.spool"] == here["calendars"] == 0o700
        assert here["panicmail.db"] == here["panicmail.db-wal"] == here["panicmail.db-shm"] == 0o600
        town.page("ana", spooled.ref, count=2)
        assert town.stop() == 0
        expect_private(tmp_path)


_ENTRY = """
import os, sys
from panicmail import cli
try:
    cli.main()
except SystemExit:
    print(f"umask {os.umask(0):04o}")
"""


@pytest.mark.usefixtures("careless")
@pytest.mark.parametrize("words", [("incidents",), ("ack", "7KQ2", "--as", "ana"), ("check", "--offline"), ("report",)])
def test_whatever_a_command_makes_is_for_its_user_alone(words: tuple[str, ...], tmp_path: Path) -> None:
    with world(tmp_path) as town:
        town.start()
        town.stop()
        command = [sys.executable, "-c", _ENTRY, words[0], "-c", str(town.path), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.stdout.splitlines()[-1] == "umask 0077"
        expect_private(tmp_path)


@pytest.mark.usefixtures("careless")
def test_what_the_watch_makes_is_for_its_user_alone(tmp_path: Path) -> None:
    with world(tmp_path) as town:
        town.start()
        command = [sys.executable, "-m", "panicmail", "watch", "-c", str(town.path)]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as watching:
            try:
                assert watching.stderr is not None
                assert watching.stderr.readline()
                expect_private(tmp_path)
            finally:
                watching.send_signal(signal.SIGTERM)


@pytest.mark.usefixtures("careless")
@pytest.mark.long
def test_what_the_demo_makes_is_for_its_user_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "panicmail", "demo", "--sla", "6"]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    seen: dict[str, int] = {}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as telling:
        try:
            ends_at = time.monotonic() + 60
            while telling.poll() is None and not suffixes(seen) >= {".toml", ".db", ".db-wal", ".token"}:
                assert time.monotonic() < ends_at, seen
                seen |= everything_in(tmp_path)
                time.sleep(0.05)
        finally:
            telling.send_signal(signal.SIGINT)
    assert not {name: f"{mode:04o}" for name, mode in seen.items() if mode & 0o077}
    assert suffixes(seen) >= {".toml", ".db", ".db-wal"}


def everything_in(folder: Path) -> dict[str, int]:
    """As `modes`, what the demo gives itself included."""
    found = {}
    for path in folder.rglob("*"):
        try:
            found[str(path.relative_to(folder))] = stat.S_IMODE(path.lstat().st_mode)
        except FileNotFoundError:
            continue
    return found


# -- what an older version, or a copy by hand, left open


def open_up(town: World) -> list[Path]:
    """What a daemon of an older version left, readable for everybody."""
    calendars, spool = town.folder / "calendars", town.folder / "panicmail.spool"
    calendars.mkdir()
    spool.mkdir()
    spooled = spool / f"20261122T020711.123456-{'a' * 26}.broken"
    left = [town.database, calendars / "seoc.json", town.folder / "panicmail.mark", spooled]
    for path in left:
        path.write_bytes(b"")
        path.chmod(0o644)
    for path in (calendars, spool):
        path.chmod(0o755)
    return [*left, calendars, spool]


def told_by_check(town: World) -> Row:
    config = configuration.load(town.path, {}, host_name=lambda: "panic.example.com")
    (row,) = (row for row in offline_checks.everything(config, datetime.now(UTC)) if row.subject == "file modes")
    return row


def test_check_names_each_path_that_others_may_use_and_the_chmod_that_mends_it(tmp_path: Path) -> None:
    with world(tmp_path) as town:
        town.config["oncall"]["seoc"] = {"ical": "https://calendar.example.com/x.ics"}
        town.write_config()
        assert told_by_check(town).verdict is CheckVerdict.OK
        left = open_up(town)
        row = told_by_check(town)
        assert row.verdict is CheckVerdict.WARNING
        assert f"{town.database}, mode 0644" in row.found
        assert "and 1 more" in row.found
        command = row.mend.partition(";")[0]
        subprocess.run(["/bin/sh", "-c", command], check=True)
        subprocess.run(["/bin/sh", "-c", told_by_check(town).mend.partition(";")[0]], check=True)
        assert told_by_check(town).verdict is CheckVerdict.OK
        assert {stat.S_IMODE(path.stat().st_mode) for path in left} == {0o600, 0o700}


def test_serve_closes_what_was_left_open_and_says_so(tmp_path: Path) -> None:
    with world(tmp_path, expects=["spool.broken"]) as town:
        town.config["oncall"]["seoc"] = {"ical": "seoc.ics"}
        (tmp_path / "seoc.ics").write_text(calendar("Ana Reyes"))
        open_up(town)
        program = town.start()
        told = {facts["path"] for _, facts in program.events if facts["event"] == "files.narrowed"}
        assert {str(town.database), str(tmp_path / "calendars"), str(tmp_path / "panicmail.spool")} <= told
        expect_private(tmp_path)
        town.page("ana", town.panic())


def test_a_mode_that_cannot_be_changed_is_told_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with world(tmp_path) as town:
        town.database.touch(mode=0o644)
        town.database.chmod(0o644)
        config = configuration.load(town.path, {}, host_name=lambda: "panic.example.com")

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "chmod", refuse)
        own_files.narrow(config)
        assert "files.too_wide" in capsys.readouterr().out
        monkeypatch.undo()
