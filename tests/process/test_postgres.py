"""A PostgreSQL in trouble: frozen, stopped, read-only, without its standby. Nothing hangs, and no COMMIT is believed
that may not have been one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count

import pytest
import sqlalchemy as sa

from panicmail.clock import host_clock
from panicmail.errors import StoreFailed
from panicmail.incident import ids
from panicmail.store import migrate, postgres_settings
from panicmail.store.database import Database
from panicmail.store.postgres_settings import Facts, SettingVerdict
from panicmail.store.rows import AcceptedMail, UnderstoodMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from tests.servers import SOON, How, Server, server, until

pytestmark = pytest.mark.postgres

_numbers = count(1)


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    with server() as primary:
        yield primary


@pytest.fixture
def url(primary: Server) -> str:
    """Of an empty database."""
    name = f"pm_{next(_numbers)}"
    primary.rows(f"CREATE DATABASE {name} TEMPLATE template0")
    return primary.url.replace("/postgres?", f"/{name}?")


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    migrate.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven seconds of silence are half a second."""
    from panicmail.store.postgres import BoundedConnection

    monkeypatch.setattr(BoundedConnection, "patience", 0.5)


@contextlib.contextmanager
def set_to(url: str, name: str, value: str) -> Iterator[Store]:
    """A store whose sessions have this setting, by the URL."""
    database = Database(f"{url}&options=-c%20{name}%3D{value}")
    with contextlib.closing(database), contextlib.closing(Store(database)) as store:
        yield store


def accept(store: Store, mail_id: str = "") -> str:
    mail_id = mail_id or ids.new_mail_id()
    store.write("mails.accept", lambda tx: add(tx, mail_id))
    return mail_id


def add(tx: Transaction, mail_id: str) -> None:
    mail = AcceptedMail(
        id=mail_id,
        accepted_at=tx.now,
        mail_from="rita@example.com",
        recipients=("panic@example.com",),
        peer="127.0.0.1",
        helo="client",
        tls="",
        size=4,
    )
    tx.mails.add(mail, b"help")


# -- time-outs


@pytest.mark.usefixtures("impatient")
def test_a_session_that_stands_still_fails_the_write_and_the_next_one_has_another(
    primary: Server, store: Store
) -> None:
    accept(store)

    def freeze(tx: Transaction) -> None:
        pid = tx.connection.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()
        still.enter_context(primary.frozen(pid))
        add(tx, ids.new_mail_id())

    with contextlib.ExitStack() as still:
        began = time.monotonic()
        with pytest.raises(StoreFailed, match="said nothing"):
            store.write("mails.accept", freeze)
        assert time.monotonic() - began < 5
        accept(store)
    assert store.read(lambda tx: tx.figures.totals()["mails"]) == {"accepted": 2}


@pytest.mark.usefixtures("impatient")
def test_a_server_that_stands_still_fails_every_write_and_serves_again_when_it_moves(
    primary: Server, store: Store
) -> None:
    accept(store)
    with primary.frozen():
        began = time.monotonic()
        with pytest.raises(StoreFailed):
            accept(store)
        assert time.monotonic() - began < 10
    accept(store)


def test_a_transaction_that_stands_still_lets_go_of_its_rows(url: str, store: Store) -> None:
    mail_id = accept(store)
    holding, woken = threading.Event(), threading.Event()

    def touch(tx: Transaction) -> None:
        tx.mails.understood(
            mail_id, UnderstoodMail(shape="panic", incident_id="", digest="", message_id=None, report="")
        )

    def hold(tx: Transaction) -> None:
        touch(tx)
        holding.set()
        assert woken.wait(SOON)

    idle = set_to(url, "idle_in_transaction_session_timeout", "300ms")
    with idle as frozen, ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(frozen.write, "mails.understand", hold)
        assert holding.wait(SOON)
        store.write("mails.understand", touch)  # not before the other one was ended
        woken.set()
        with pytest.raises(StoreFailed):
            stuck.result(SOON)


def test_every_session_has_what_the_promise_needs_whatever_the_defaults_are(primary: Server, url: str) -> None:
    name = url.partition("?")[0].rpartition("/")[2]
    for setting, value in (
        ("synchronous_commit", "off"),
        ("default_transaction_isolation", "serializable"),
        ("timezone", "Asia/Tokyo"),
        ("datestyle", "German"),
        ("statement_timeout", "0"),
    ):
        primary.rows(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    with contextlib.closing(Database(url)) as database, database.writing() as connection:
        shown = {
            setting: connection.execute(sa.text(f"SHOW {setting}")).scalar_one()
            for setting in ("synchronous_commit", "transaction_isolation", "timezone", "datestyle", "statement_timeout")
        }
    assert shown.pop("datestyle").startswith("ISO")
    assert shown == {
        "synchronous_commit": "on",
        "transaction_isolation": "read committed",
        "timezone": "UTC",
        "statement_timeout": "6s",
    }


def test_a_large_mail_may_take_longer_than_other_statements(url: str, database: Database) -> None:
    raw = b"x" * (8 * 2**20)

    def store(tx: Transaction) -> None:
        mail = AcceptedMail(
            id="large", accepted_at=tx.now, mail_from="", recipients=(), peer="", helo="", tls="", size=0
        )
        tx.mails.add(mail, raw)
        assert tx.connection.execute(sa.text("SHOW statement_timeout")).scalar_one() == "1min"

    with set_to(url, "statement_timeout", "500ms") as hurried:
        hurried.write("mails.accept", store)
        assert hurried.read(lambda tx: tx.mails.raw("large")) == raw
        with pytest.raises(StoreFailed, match="statement timeout"):
            hurried.write("mails.accept", lambda tx: tx.connection.execute(sa.text("SELECT pg_sleep(30)")))


# -- away, and back


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_server_that_was_stopped_fails_writes_until_it_is_back_and_nothing_accepted_is_lost(
    how: How, primary: Server, store: Store
) -> None:
    kept = accept(store)
    primary.stop(how)
    try:
        with pytest.raises(StoreFailed):
            accept(store)
    finally:
        primary.start()
    accept(store)
    assert store.read(lambda tx: tx.mails.raw(kept)) == b"help"


def test_connections_that_were_ended_behind_our_back_cost_no_write(primary: Server, store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _n: accept(store), range(16)))
        primary.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname <> 'postgres'")
        list(pool.map(lambda _n: accept(store), range(16)))
    assert store.read(lambda tx: tx.figures.totals()["mails"]) == {"accepted": 32}


def test_a_connection_ended_within_a_work_fails_it_and_it_is_not_run_again(primary: Server, store: Store) -> None:
    runs = []

    def work(tx: Transaction) -> None:
        runs.append(1)
        pid = tx.connection.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()
        primary.rows("SELECT pg_terminate_backend(%s, 5000)", pid)
        add(tx, ids.new_mail_id())

    with pytest.raises(StoreFailed, match="terminating connection"):
        store.write("mails.accept", work)
    assert runs == [1]
    accept(store)
    assert store.read(lambda tx: tx.figures.totals()["mails"]) == {"accepted": 1}


def test_a_server_that_turned_read_only_is_told_as_such_and_left_for_a_better_one(
    primary: Server, store: Store
) -> None:
    accept(store)
    primary.set("default_transaction_read_only", "on")
    try:
        until(lambda: primary.rows("SHOW default_transaction_read_only") == [("on",)], "not read-only")
        with pytest.raises(StoreFailed, match="read-only"):
            accept(store)
        with pytest.raises(StoreFailed, match="session is read-only"):  # a new connection, which is refused
            accept(store)
    finally:
        primary.set("default_transaction_read_only", "off")
    until(lambda: primary.rows("SHOW default_transaction_read_only") == [("off",)], "still read-only")
    accept(store)


def test_what_went_wrong_is_told_on_one_line_and_without_the_values(store: Store) -> None:
    def work(tx: Transaction) -> None:
        tx.connection.execute(sa.text("INSERT INTO keys VALUES ('a', 'secret words', NULL)"))

    with pytest.raises(StoreFailed) as failed:
        store.write("keys.make", work)
    assert "null value in column" in str(failed.value)
    assert "secret" not in str(failed.value)
    assert "\n" not in str(failed.value)


# -- the standby, and COMMITs of which nobody knows


@pytest.fixture
def lonely(primary: Server, store: Store) -> Iterator[Server]:
    """The server waits for a standby that is not there: no COMMIT is answered."""
    accept(store)
    primary.set("synchronous_standby_names", "nobody")
    until(lambda: primary.rows("SHOW synchronous_standby_names") == [("nobody",)], "not set")
    yield primary
    primary.set("synchronous_standby_names", "")


@pytest.mark.usefixtures("impatient")
def test_a_commit_that_is_not_answered_fails_and_the_same_mail_is_found_there_later(
    lonely: Server, store: Store
) -> None:
    mail_id = ids.new_mail_id()
    with pytest.raises(StoreFailed, match="said nothing"):
        accept(store, mail_id)
    lonely.set("synchronous_standby_names", "")
    until(lambda: store.read(lambda tx: tx.mails.get(mail_id)), "the COMMIT went through after all")
    spooled = store.read(lambda tx: tx.mails.get(mail_id))
    assert spooled is not None
    assert not store.write("mails.take_in", lambda tx: tx.mails.take_in(spooled, b"help")), "it was there already"


def test_a_commit_that_did_not_wait_for_its_standby_is_not_believed(lonely: Server, store: Store) -> None:
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(accept, store)
        until(lambda: lonely.rows(waiting), "no COMMIT waits")
        lonely.rows(f"SELECT pg_cancel_backend(pid) FROM ({waiting}) AS waiting")
        with pytest.raises(StoreFailed, match="committed, but with a warning"):
            accepting.result(SOON)


# -- what it is set to


def test_the_settings_of_a_server_are_read_and_judged(lonely: Server, database: Database) -> None:
    rows = {row.name: row for row in postgres_settings.judge(postgres_settings.look(database, host_clock()()))}
    assert rows["server_version"].verdict is SettingVerdict.OK
    assert rows["role"].value == "primary"
    assert rows["fsync"].verdict is SettingVerdict.FAILED, "tests have no time for the disk"
    assert rows["synchronous_commit"].value == "on"
    assert rows["synchronous_standby_names"].verdict is SettingVerdict.FAILED
    assert "none of them is there" in rows["synchronous_standby_names"].why
    assert rows["max_connections"].value == "57 for us; 2 nodes use up to 42"
    assert rows["connection"].value == "direct"
    assert rows["clock"].verdict is SettingVerdict.OK
    assert all(row.mend and row.why for row in rows.values() if row.verdict is not SettingVerdict.OK)


GOOD = {
    "server_version": "17.2",
    "server_version_num": "170002",
    "server_encoding": "UTF8",
    "fsync": "on",
    "full_page_writes": "on",
    "data_checksums": "on",
    "synchronous_commit": "on",
    "synchronous_standby_names": "ANY 1 (a, b)",
    "default_transaction_read_only": "off",
    "max_connections": "100",
    "superuser_reserved_connections": "3",
}
TWO = ("quorum", "quorum")


def test_a_server_as_the_readme_wants_it_has_nothing_to_mend() -> None:
    assert {row.verdict for row in postgres_settings.judge(Facts(settings=GOOD, standbys=TWO))} == {SettingVerdict.OK}


@pytest.mark.parametrize(
    ("name", "verdict", "facts"),
    [
        ("server_version", "failed", {"server_version_num": "130022"}),
        ("role", "failed", {"default_transaction_read_only": "on"}),
        ("role", "failed", {"is_standby": True}),
        ("fsync", "failed", {"fsync": "off"}),
        ("full_page_writes", "warning", {"full_page_writes": "off"}),
        ("data_checksums", "warning", {"data_checksums": "off"}),
        ("synchronous_commit", "failed", {"synchronous_commit": "off"}),
        ("synchronous_commit", "warning", {"synchronous_commit": "local"}),
        ("synchronous_commit", "warning", {"synchronous_commit": "remote_write"}),
        ("synchronous_standby_names", "warning", {"synchronous_standby_names": ""}),
        ("synchronous_standby_names", "warning", {"standbys": ("sync",)}),
        ("synchronous_standby_names", "failed", {"standbys": ("async", "async")}),
        ("synchronous_standby_names", "warning", {"standbys": (None, None)}),
        ("server_encoding", "failed", {"server_encoding": "SQL_ASCII"}),
        ("max_connections", "warning", {"max_connections": "40"}),
        ("max_connections", "warning", {"nodes": 5}),
        ("max_connections", "warning", {"connection_limit": 30}),
        ("connection", "warning", {"is_pooled": True}),
        ("clock", "warning", {"clock_ahead": timedelta(seconds=3)}),
        ("clock", "warning", {"clock_ahead": timedelta(seconds=-3)}),
    ],
)
def test_a_setting_that_weakens_the_promise_is_told_with_its_mend(
    name: str, verdict: str, facts: dict[str, object]
) -> None:
    written = {key: value for key, value in facts.items() if key in GOOD}
    seen = {key: value for key, value in facts.items() if key not in GOOD}
    rows = postgres_settings.judge(Facts(**{"settings": {**GOOD, **written}, "standbys": TWO, **seen}))  # type: ignore[arg-type]
    found = [(row.name, row.verdict.value) for row in rows if row.verdict is not SettingVerdict.OK]
    assert found == [(name, verdict)]
    (row,) = (row for row in rows if row.name == name)
    assert row.why
    assert row.mend
