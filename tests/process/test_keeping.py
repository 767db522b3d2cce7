"""Backup and restore: nothing is missing, nothing is written over, and what was open is called again."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from panicmail import config as configuration
from panicmail.daemon.parts import LiveConfig
from panicmail.errors import Mistake, StoreFailed
from panicmail.incident import ids
from panicmail.incident.reply_commands import Command
from panicmail.incident.reply_tokens import Purpose, SigningKey, TokenSigner
from panicmail.mail import manifest_signature
from panicmail.store import backup, backup_cipher, migrate, restore
from panicmail.store.database import Database
from panicmail.store.rows import AcceptedMail
from panicmail.store.signing_keys import KEPT, RIPENS
from panicmail.store.spool import Spool
from panicmail.store.tables import metadata, timeline
from panicmail.store.transaction import Transaction
from tests.cast import MINUTE, T0
from tests.conftest import missing
from tests.kept_site import MINIMAL, Site, load, made_site
from tests.office import Office, mail
from tests.program import Program, plain_environ, world


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    url = str(request.getfixturevalue("postgres_url")) if request.param == "postgresql" else None
    with contextlib.closing(made_site(tmp_path / "host", url).office) as _:
        yield Site(tmp_path / "host", _, load(tmp_path / "host"), url or f"sqlite:///{tmp_path}/host/panicmail.db")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Site]:
    """The same on SQLite."""
    made = made_site(tmp_path / "host", None)
    with contextlib.closing(made.office):
        yield made


def rows(url: str) -> dict[str, list[Any]]:
    """Everything a database holds, but for who had claimed what."""
    with contextlib.closing(Database(url)) as database, database.reading() as connection:
        return {
            table.name: sorted(
                map(str, connection.execute(sa.select(*(c for c in table.c if not c.name.startswith("lease")))).all())
            )
            for table in metadata.sorted_tables
        }


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]


def changed(path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The same backup with something else in it."""
    parts = members(path)
    change(parts)
    with tarfile.open(path, "w:gz") as tar:
        for name, octets in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(octets)
            tar.addfile(entry, io.BytesIO(octets))
    return path


def spooled(site: Site, text: str) -> AcceptedMail:
    raw, mail_id = mail(text), ids.new_mail_id()
    got = AcceptedMail(id=mail_id, accepted_at=T0, mail_from="r@example.com", recipients=("panic@example.com",),
                       peer="127.0.0.1", helo="x", tls="", size=len(raw))  # fmt: skip
    Spool(site.config.database.spool).put(got, raw)
    return got


# -- everything is in it


def test_a_backup_made_while_others_write_and_put_elsewhere_has_every_row_and_file(site: Site, tmp_path: Path) -> None:
    waiting = spooled(site, "only in the spool")
    with site.office.database.engine.connect() as busy, busy.begin():
        busy.execute(sa.select(timeline)).all()  # an open reader holds nobody up
        path = site.backup()
    before = rows(site.url)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not [each.name for each in tmp_path.iterdir() if each.name not in ("host", path.name)]
    done = site.run("restore", "--to", tmp_path / "new", path)
    assert done.exit_code == 0, done.output
    new = tmp_path / "new"
    assert rows(f"sqlite:///{new}/panicmail.db") == before
    assert (new / "secrets" / "gitlab.token").read_text() == "glpat-secret"
    assert (new / "secrets" / "gitlab.token").stat().st_mode & 0o777 == 0o640
    assert (new / "rota.ics").exists()
    assert [each.mail_id for each in Spool(new / "panicmail.spool").waiting()] == [waiting.id]
    environ = dict(line.split("=", 1) for line in (new / "restored.env").read_text().splitlines())
    again = configuration.load(new / "panicmail.toml", environ)
    assert again.database.url.get_secret_value() == f"sqlite:///{new}/panicmail.db"
    for incident in site.office.incidents():
        assert (incident.ref in done.output) == (incident.state.value != "resolved")
    assert "holds them back for one SLA (15 min)" in done.output


@pytest.mark.postgres
def test_a_backup_of_sqlite_moves_into_an_empty_postgresql_which_counts_on(
    host: Site, postgres_url: str, tmp_path: Path
) -> None:
    path, before = host.backup(), rows(host.url)
    config = tmp_path / "pg.toml"
    (tmp_path / "secrets").mkdir()
    shutil.copy(host.folder / "secrets" / "gitlab.token", tmp_path / "secrets")
    config.write_text(MINIMAL.format(url=postgres_url))
    done = host.run("restore", "-c", config, "--data", path)
    assert done.exit_code == 0, done.output
    assert rows(postgres_url) == before
    with contextlib.closing(Office(tmp_path, url=postgres_url)) as moved:
        moved.now = T0 + MINUTE
        assert moved.panic(subject="three")  # ids of rows go on behind those that were copied
    assert "is not empty" in str(host.run("restore", "-c", config, "--data", path).exception)


def test_tar_and_sqlite_read_a_backup_without_panicmail(host: Site, tmp_path: Path) -> None:
    parts = members(host.backup())
    assert [*parts][:1] + [*parts][-2:] == ["backup.json", "panicmail.db", "SHA256SUMS"]
    (tmp_path / "copy.db").write_bytes(parts["panicmail.db"])
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("SELECT count(*) FROM incidents").fetchone() == (2,)
        assert connection.execute("SELECT count(*) FROM keys").fetchone() is not None


def test_what_was_set_in_the_environment_or_a_credential_is_named_and_not_kept(host: Site, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "relay__url").write_text("smtp://user:hidden@relay.example.com")
    environ = {"PANICMAIL_LOG__LEVEL": "debug", "CREDENTIALS_DIRECTORY": str(credentials), "HOME": "/"}
    made = backup.make(host.config, tmp_path / "b", (), environ)
    assert made.set_elsewhere == ("PANICMAIL_LOG__LEVEL", "relay__url")
    assert not [name for name, octets in members(tmp_path / "b").items() if b"hidden" in octets]


def taken_in(got: AcceptedMail, raw: bytes, tx: Transaction) -> bool:
    return tx.mails.take_in(got, raw)


def test_a_mail_that_left_the_spool_while_it_was_copied_is_in_the_database_of_the_backup(
    host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = spooled(host, "on its way")
    listed = Spool.files

    def then_taken_in(spool: Spool) -> list[Path]:
        files = listed(spool)
        for each in spool.waiting():
            got, raw = spool.read(each) or pytest.fail("not there")
            host.office.store.write("mails.take_in", partial(taken_in, got, raw))
            spool.remove(each)
        return files

    monkeypatch.setattr(Spool, "files", then_taken_in)
    parts = members(host.backup())
    assert not [name for name in parts if name.startswith("spool/")]
    (host.folder / "look.db").write_bytes(parts["panicmail.db"])
    with contextlib.closing(sqlite3.connect(host.folder / "look.db")) as connection:
        assert connection.execute("SELECT 1 FROM mails WHERE id = ?", (waiting.id,)).fetchone() == (1,)


# -- it goes on


def test_after_a_restore_elsewhere_the_hold_ends_the_smoc_is_paged_and_a_reply_to_the_old_page_acts(
    tmp_path: Path,
) -> None:
    (tmp_path / "old").mkdir()
    steps = [("0s", "seoc"), ("4s", "smoc", "seoc")]
    with world(tmp_path / "old", steps=steps, sla="4s", repeat="3s", expects=["database.old_copy"]) as town:
        town.start()
        ref = town.panic()
        page = town.page("ana", ref)
        town.settled()
        made = town.run("backup", "--json", str(tmp_path / "b"))
        assert (made.status, made.json["incidents"]) == (0, 1), made.err
        town.program.kill()
        managers = len(town.pages("max", ref))
        put = town.run("restore", "--to", str(tmp_path / "new"), str(tmp_path / "b"))
        assert put.status == 0, put.err
        restored = dict(line.split("=", 1) for line in (tmp_path / "new" / "restored.env").read_text().splitlines())
        del restored["PANICMAIL_CONFIG"]
        town.programs.append(Program(tmp_path / "new" / "panicmail.toml", plain_environ(restored)))
        town.program.wait_for("ready")
        assert ref in str(town.program.wait_for("database.old_copy")[1]["unresolved in the copy"])
        town.page("max", ref, count=managers + 1)
        town.reply(page, "ack")
        town.until(lambda: state(tmp_path / "new", restored, ref) == ("acked", "ana"), 30, "the old page does not act")


def state(folder: Path, environ: dict[str, str], ref: str) -> tuple[str, str]:
    with contextlib.closing(sqlite3.connect(folder / "panicmail.db")) as connection:
        found = connection.execute("SELECT state, holder FROM incidents WHERE ref = ?", (ref,)).fetchone()
    return (found[0], found[1])


def test_a_restore_to_where_everything_was_puts_it_there_and_asks_for_the_hold(host: Site, tmp_path: Path) -> None:
    path, before = host.backup(), rows(host.url)
    host.office.close()
    shutil.rmtree(host.folder)
    done = host.run("restore", path)
    assert done.exit_code == 0, done.output
    assert rows(host.url) == before
    assert load(host.folder).people["ana"].email == "ana@example.com"
    assert (host.folder / "panicmail.mark").exists()
    assert (host.folder / "panicmail.db").stat().st_mode & 0o777 == 0o600


def test_a_mark_that_is_there_is_newer_and_stays(host: Site) -> None:
    path = host.backup()
    host.office.close()
    for file in host.folder.glob("panicmail.db*"):
        file.unlink()
    (host.folder / "panicmail.mark").write_text("{}")
    assert host.run("restore", "-c", host.folder / "panicmail.toml", "--data", path).exit_code == 0
    assert (host.folder / "panicmail.mark").read_text() == "{}"


def test_a_restored_configuration_that_lacks_what_was_in_the_environment_says_so_and_the_data_follow(
    host: Site, tmp_path: Path
) -> None:
    path = tmp_path / "b"
    backup.make(host.config, path, (), {"PANICMAIL_GITLAB__TOKEN_FILE": "secrets/gitlab.token"})
    host.office.close()
    changed(path, lambda parts: with_file(parts, "panicmail.toml", lambda text: text.replace("token_file", "#")))
    shutil.rmtree(host.folder)
    done = host.run("restore", path)
    assert isinstance(done.exception, Mistake)
    assert "PANICMAIL_GITLAB__TOKEN_FILE" in str(done.exception)
    assert "gitlab.token" in str(done.exception)
    assert not (host.folder / "panicmail.db").exists()


def with_file(parts: dict[str, bytes], name: str, change: Callable[[str], str]) -> None:
    """Change a file of a backup, and its sum."""
    (key,) = [each for each in parts if each.endswith(name)]
    before = hashlib.sha256(parts[key]).hexdigest()
    parts[key] = change(parts[key].decode()).encode()
    after = hashlib.sha256(parts[key]).hexdigest()
    parts["SHA256SUMS"] = parts["SHA256SUMS"].replace(before.encode(), after.encode())


# -- what is there stays


def test_nothing_that_is_there_is_written_over(host: Site, tmp_path: Path) -> None:
    path = host.backup()
    with pytest.raises(Mistake, match="is there already"):
        backup.make(host.config, path, (), {})
    before = rows(host.url)
    for arguments in ((path,), ("-c", host.folder / "panicmail.toml", "--data", path)):
        done = host.run("restore", *arguments)
        assert "a database is there" in str(done.exception), done.output
    host.office.close()
    (host.folder / "panicmail.db").rename(tmp_path / "kept.db")
    (host.folder / "panicmail.db-wal").write_bytes(b"of another database")
    assert "panicmail.db-wal" in str(host.run("restore", path).exception)
    (host.folder / "panicmail.db-wal").unlink()
    (host.folder / "panicmail.db-shm").unlink(missing_ok=True)
    (host.folder / "secrets" / "gitlab.token").write_text("glpat-another")
    done = host.run("restore", path)
    assert "gitlab.token" in str(done.exception)
    assert not (host.folder / "panicmail.db").exists()
    assert (host.folder / "secrets" / "gitlab.token").read_text() == "glpat-another"
    assert rows(f"sqlite:///{tmp_path / 'kept.db'}") == before


def test_a_restore_under_a_running_daemon_is_refused(host: Site, tmp_path: Path) -> None:
    path = host.backup()
    host.office.close()
    for file in host.folder.glob("panicmail.db*"):
        file.unlink()
    with (host.folder / "panicmail.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "stop it first" in str(host.run("restore", path).exception)
    assert not (host.folder / "panicmail.db").exists()


# -- what is no good


def forge(**values: object) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        parts["backup.json"] = json.dumps(json.loads(parts["backup.json"]) | values).encode()

    return change


def damage(parts: dict[str, bytes]) -> None:
    octets = bytearray(parts["panicmail.db"])
    octets[len(octets) // 2] ^= 1
    parts["panicmail.db"] = bytes(octets)


WRONG: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "of a newer layout": (forge(format=99, panicmail="9.0.0"), "was made by panicmail 9.0.0"),
    "with newer tables": (forge(revision="9999", panicmail="2.0.0"), "revision 9999"),
    "with one bit changed": (damage, "panicmail.db is not what was backed up"),
    "without its sums": (lambda parts: parts.pop("SHA256SUMS"), "is cut short"),
    "without its database": (lambda parts: parts.pop("panicmail.db"), "panicmail.db is not what was backed up"),
    "with one file more": (lambda parts: parts.update({"files/999-x": b"x"}), "files/999-x is not what"),
    "with a way out": (lambda parts: parts.update({"files/../../../x": b"x"}), "is no backup of panicmail"),
    "without a head": (lambda parts: parts.pop("backup.json"), "is no backup of panicmail"),
    "with a strange head": (lambda parts: parts.update({"backup.json": b"[]"}), "is no backup of panicmail"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_backup_that_is_not_right_is_a_sentence_and_puts_nothing(host: Site, tmp_path: Path, wrong: str) -> None:
    change, told = WRONG[wrong]
    path = changed(host.backup(), change)
    done = host.run("restore", "--to", tmp_path / "new", path)
    assert isinstance(done.exception, Mistake), done.output
    assert told in str(done.exception)
    assert [*(tmp_path / "new").rglob("*")] == []


@pytest.mark.parametrize("octets", [b"", b"hello", gzip.compress(b"hello", mtime=0), b"\x1f\x8b"])
def test_a_file_that_is_no_backup_is_told(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "b").write_bytes(octets)
    with pytest.raises(Mistake, match="no backup of panicmail"), restore.unpacked(tmp_path / "b", None, tmp_path):
        pass


def test_a_backup_cut_short_anywhere_is_told(host: Site, tmp_path: Path) -> None:
    whole = host.backup().read_bytes()
    for share in (0.1, 0.5, 0.9, 0.98):
        (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(Mistake, match="cut short"), restore.unpacked(tmp_path / "cut", None, tmp_path):
            pass


def test_a_backup_that_is_not_there_and_a_folder_that_is_not_there_are_told(host: Site, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="No such file"):
        backup.make(host.config, tmp_path / "nowhere" / "b", (), {})
    with pytest.raises(Mistake, match="No such file"), restore.unpacked(tmp_path / "none", None, tmp_path):
        pass


FULL = """
import resource, signal, sys
from pathlib import Path
from panicmail import config
from panicmail.errors import PanicmailError
from panicmail.store import backup

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
loaded = config.load(Path(sys.argv[1]), {})
for room in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        backup.make(loaded, Path(sys.argv[2]), (), {})
    except PanicmailError as exc:
        print(exc)
"""


def test_a_disk_full_at_any_time_of_a_backup_is_a_sentence_and_leaves_nothing(tmp_path: Path, host: Site) -> None:
    """No file of the process may be larger than so: the copy of the database, or the backup."""
    (tmp_path / "out").mkdir()
    host.office.accept(mail(os.urandom(300_000).hex()))
    command = [sys.executable, "-c", FULL, str(host.folder / "panicmail.toml"), str(tmp_path / "out" / "b")]
    done = subprocess.run([*command, "4096", "200000"], capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == 2, done.stdout
    assert [*(tmp_path / "out").iterdir()] == []


def test_a_disk_full_while_a_backup_is_put_takes_away_what_was_put(
    host: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copied = host.backup(), shutil.copyfile

    def full_at_the_database(source: Path, place: Path) -> object:
        if source.name == "panicmail.db":
            place.write_bytes(b"half")
            raise OSError(28, "No space left on device", str(place))
        return copied(source, place)

    monkeypatch.setattr(shutil, "copyfile", full_at_the_database)
    done = host.run("restore", "--to", tmp_path / "new", path)
    assert "No space left on device" in str(done.exception)
    assert [each for each in (tmp_path / "new").rglob("*") if each.is_file()] == []


def test_a_damaged_database_is_not_backed_up_as_if_it_were_whole(host: Site, tmp_path: Path) -> None:
    host.office.close()
    with contextlib.closing(sqlite3.connect(host.folder / "panicmail.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    octets = bytearray((host.folder / "panicmail.db").read_bytes())
    octets[8192:40960] = b"\xff" * 32768
    (host.folder / "panicmail.db").write_bytes(octets)
    with pytest.raises(StoreFailed):
        backup.make(host.config, tmp_path / "b", (), {})
    assert not (tmp_path / "b").exists()


def test_a_backup_of_the_version_before_is_restored_and_brought_up_to_date(host: Site, tmp_path: Path) -> None:
    host.office.close()
    with contextlib.closing(Database(host.url)) as database:
        migrate.downgrade(database, "0019")
    path = host.backup()
    assert host.run("restore", "--to", tmp_path / "new", path).exit_code == 0
    with contextlib.closing(Database(f"sqlite:///{tmp_path}/new/panicmail.db")) as database:
        migrate.upgrade(database)
    assert len(rows(f"sqlite:///{tmp_path}/new/panicmail.db")["incidents"]) == 2


def test_what_a_killed_backup_left_is_written_over_and_two_at_once_are_refused(host: Site, tmp_path: Path) -> None:
    part = tmp_path / ".one.backup.part"
    part.write_bytes(b"x" * 10**6)
    (tmp_path / ".one.backup.db").write_bytes(b"half a database")
    with part.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Mistake, match="another panicmail backup"):
            host.backup()
    assert part.exists()
    path = host.backup()
    assert len(members(path)) > 4
    assert not part.exists()


# -- encryption


@pytest.fixture
def fake_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tool called as age is; it turns each octet round, and writes down what it was asked."""
    tool = tmp_path / "bin" / "age"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/asked\n'
        f'[ -e {tmp_path}/refuses ] && {{ echo "age: error: no" >&2; exit 1; }}\n'
        'if [ "$1" = --encrypt ]; then printf "age-encryption.org/v1\\n"; else head -c 22 >/dev/null; fi\n'
        "exec tr '\\000-\\377' '\\200-\\377\\000-\\177'\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    return tool


def test_a_backup_is_encrypted_by_age_and_read_again_with_its_key(host: Site, tmp_path: Path, fake_age: Path) -> None:
    path = tmp_path / "b.age"
    backup.make(host.config, path, ["age1abc"], {})
    assert path.read_bytes().startswith(b"age-encryption.org/")
    assert (tmp_path / "asked").read_text() == "--encrypt --recipient age1abc\n"
    assert "--identity" in str(host.run("restore", "--to", tmp_path / "new", path).exception)
    (tmp_path / "key").write_text("AGE-SECRET-KEY-1")
    done = host.run("restore", "--identity", tmp_path / "key", "--to", tmp_path / "new", path)
    assert done.exit_code == 0, done.exception
    assert rows(f"sqlite:///{tmp_path}/new/panicmail.db") == rows(host.url)


def test_a_tool_that_refuses_or_is_not_there_leaves_no_backup_and_says_what_it_said(
    host: Site, tmp_path: Path, fake_age: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "refuses").touch()
    with pytest.raises(Mistake, match="age said: age: error: no"):
        backup.make(host.config, tmp_path / "b", ["age1abc"], {})
    with pytest.raises(Mistake, match="one kind"):
        backup.make(host.config, tmp_path / "b", ["age1abc", "ops@example.com"], {})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Mistake, match="gpg is not installed"):
        backup.make(host.config, tmp_path / "b", ["ops@example.com"], {})
    assert not [each for each in tmp_path.iterdir() if each.name.startswith((".b", "b."))]
    assert not (tmp_path / "b").exists()


def test_a_backup_is_encrypted_to_the_file_of_a_gpg_key_and_read_again(
    host: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("gpg") is None:
        missing("GPG")
    home = Path("/tmp") / f"pm-gpg-{os.getpid()}"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    try:
        gpg = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        subprocess.run([*gpg, "--quick-gen-key", "ops@example.com", "rsa2048", "encr"], check=True, timeout=60)
        exported = subprocess.run(["gpg", "--armor", "--export"], check=True, capture_output=True).stdout
        (tmp_path / "ops.asc").write_bytes(exported)
        backup.make(host.config, tmp_path / "b", [str(tmp_path / "ops.asc")], {})
        assert not tarfile.is_tarfile(tmp_path / "b")
        done = host.run("restore", "--to", tmp_path / "new", tmp_path / "b")
        assert done.exit_code == 0, done.exception
        assert rows(f"sqlite:///{tmp_path}/new/panicmail.db") == rows(host.url)
        octets = bytearray((tmp_path / "b").read_bytes())
        octets[-100] ^= 1
        (tmp_path / "b").write_bytes(octets)
        assert isinstance(host.run("restore", "--to", tmp_path / "other", tmp_path / "b").exception, Mistake)
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False, timeout=30)
        shutil.rmtree(home, ignore_errors=True)


def test_which_tool_a_key_is_for_is_told_by_the_key(tmp_path: Path) -> None:
    (tmp_path / "age.pub").write_text("# ours\n\nage1qqq\n")
    (tmp_path / "gpg.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    (tmp_path / "gpg.key").write_bytes(b"\x99\x01\x0d")
    told = {"age1q": True, "ssh-ed25519 AAAA": True, "ops@example.com": False, "0xABCD": False}
    told |= {str(tmp_path / "age.pub"): True, str(tmp_path / "gpg.asc"): False, str(tmp_path / "gpg.key"): False}
    assert {key: backup_cipher.is_for_age(key) for key in told} == told


# -- keys


def signer(office: Office) -> TokenSigner:
    """As every node makes it once a minute."""
    return TokenSigner([SigningKey(*key) for key in office.store.read(lambda tx: tx.keys.all())])


def rotate(office: Office) -> tuple[str, list[str]]:
    return office.store.write("command.act", lambda tx: tx.keys.rotate(os.urandom(32)))


def test_a_new_key_signs_when_every_node_knows_it_and_what_the_old_one_signed_goes_on_to_act(office: Office) -> None:
    office.store.write("keys.make", lambda tx: tx.keys.add("a", b"k" * 32))
    office.now += 60 * MINUTE
    old = signer(office)
    sent = old.mint(Purpose.ANSWER, "ir36orm3uf7z76lw", "ana", 1)
    assert rotate(office) == ("b", [])
    other_node = signer(office)
    assert other_node.mint(Purpose.ANSWER, "ir36orm3uf7z76lw", "ana", 1) == sent, "it does not sign yet"
    office.now += RIPENS
    fresh = signer(office).mint(Purpose.ANSWER, "ir36orm3uf7z76lw", "ana", 1)
    assert fresh[1] == "b"
    assert other_node.verify(fresh, ["ana"]), "a node that read the keys before it signed"
    assert signer(office).verify(sent, ["ana"])


def test_a_replaced_key_goes_after_half_a_year_unless_something_it_signed_for_is_open(office: Office) -> None:
    incident = office.panic()
    office.store.write("keys.make", lambda tx: tx.keys.add("a", b"k" * 32))
    office.now += MINUTE
    assert rotate(office) == ("b", [])
    office.now += KEPT + 60 * MINUTE
    assert rotate(office) == ("c", []), "it is still open"
    office.act(incident, "ana", Command.YES)
    office.act(incident, "ana", Command.RESOLVE)
    office.now += MINUTE
    assert rotate(office) == ("d", ["a"])


def test_keys_can_be_rotated_for_ever(desk: Office) -> None:
    for _ in range(80):
        desk.now += 10 * MINUTE
        rotate(desk)
    kept = desk.store.read(lambda tx: tx.keys.all())
    assert len({kid for kid, _ in kept}) == len(kept) == 36


def test_after_a_leak_the_old_keys_are_void_at_once(host: Site) -> None:
    host.run("keys", "rotate", "-c", host.folder / "panicmail.toml")
    before = signer(host.office)
    sent = before.mint(Purpose.LINK, "ir36orm3uf7z76lw", "ana", 0)
    done = host.run("keys", "rotate", "--void-old", "-c", host.folder / "panicmail.toml")
    assert done.exit_code == 0, done.exception
    assert signer(host.office).verify(sent, ["ana"]) is None
    assert len(signer(host.office).secrets) == 1
    assert "act no more" in done.output


def test_keys_in_a_file_are_the_operators_to_change(host: Site) -> None:
    file = host.folder / "panicmail.toml"
    (host.folder / "keys").write_text(f"a {'0' * 64}\n")
    (host.folder / "keys").chmod(0o600)
    file.write_text(file.read_text() + '[tokens]\nkey_file = "keys"\n')
    assert "On every node, put a new line below the first" in str(host.run("keys", "rotate", "-c", file).exception)


def test_a_running_daemon_takes_new_keys(host: Site) -> None:
    live = LiveConfig(host.config)
    live.start([("a", b"a" * 32)])
    before = live.settings()
    live.take_keys([("a", b"a" * 32)])
    assert live.settings() is before
    live.take_keys([("a", b"a" * 32), ("b", b"b" * 32)])
    assert live.settings().tokens.secrets == (b"a" * 32, b"b" * 32)


# -- export


def test_an_export_has_the_octets_the_timeline_and_a_signature_that_holds_and_the_timeline_says_so(
    host: Site, tmp_path: Path
) -> None:
    config, path = host.folder / "panicmail.toml", tmp_path / "evidence.tar"
    incident = host.office.incidents()[0]
    done = host.run("export", "-c", config, incident.ref, path)
    assert done.exit_code == 0, done.exception
    parts = members(path)
    assert parts[f"mails/{incident.mail_id}.eml"] == host.office.store.read(lambda tx: tx.mails.raw(incident.mail_id))
    assert {line["event"] for line in json.loads(parts["timeline.json"])} >= {"incident.opened", "people.paged"}
    assert host.run("export", "-c", config, "--verify", path).output.endswith("signed by this installation.\n")
    line = host.office.lines(incident)[-1]
    assert line.event == "incident.exported"
    assert line.facts["manifest_sha256"] == hashlib.sha256(parts["manifest.json"]).hexdigest()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "cannot be written" in str(host.run("export", "-c", config, incident.ref, path).exception)
    if shutil.which("openssl"):
        for name in ("manifest.json", "manifest.sig", "manifest.pem"):
            (tmp_path / name).write_bytes(parts[name])
        ask = "openssl pkeyutl -verify -pubin -inkey manifest.pem -rawin -in manifest.json -sigfile manifest.sig"
        assert subprocess.run(ask.split(), cwd=tmp_path, check=False, capture_output=True, timeout=30).returncode == 0


def test_an_export_that_was_touched_or_is_a_strangers_is_told(host: Site, tmp_path: Path) -> None:
    config, path = host.folder / "panicmail.toml", tmp_path / "e.tar"
    ref = host.office.incidents()[0].ref
    assert host.run("export", "-c", config, ref, path).exit_code == 0
    parts = members(path)
    mail_name = next(name for name in parts if name.startswith("mails/"))
    strange = manifest_signature.sign(parts["manifest.json"], b"x" * 32)
    cases = {
        "is not what was signed": {mail_name: b"another mail"},
        "its signature does not fit": {"manifest.json": parts["manifest.json"] + b" "},
        "a key this installation does not have": {
            "manifest.sig": strange, "manifest.pem": manifest_signature.public_pem(b"x" * 32)
        },
        "is no export": {},
    }  # fmt: skip
    for told, other in cases.items():
        with tarfile.open(tmp_path / "t.tar", "w") as tar:
            for name, octets in {**parts, **other}.items():
                entry = tarfile.TarInfo(name if other else f"x-{name}")
                entry.size = len(octets)
                tar.addfile(entry, io.BytesIO(octets))
        assert told in str(host.run("export", "-c", config, "--verify", tmp_path / "t.tar").exception)
    assert "there is no incident" in str(host.run("export", "-c", config, "ZZZZZ", tmp_path / "n.tar").exception)
    assert not (tmp_path / "n.tar").exists()
