"""What is done to a running panicmail and its files from outside."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from panicmail.sandbox.relay_server import Received
from tests.program import SOON, Program, World

_INSTANT = "____-__-__ %"


def eventually(question: Callable[[], object], else_: str, within: float = SOON) -> None:
    """Wait until the answer is true."""
    ends_at = time.monotonic() + within
    while not question():
        assert time.monotonic() < ends_at, else_
        time.sleep(0.01)


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """While in here these processes do not run, as on a machine that is suspended."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: all(_is_stopped(pid) for pid in pids), "it did not stop")
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def suspended(town: World) -> Iterator[None]:
    """As `frozen`, the daemon, at a moment when it was not writing, so that its database can be changed meanwhile."""
    while True:
        with frozen(town.program.pid):
            if _can_be_written(town.database):
                yield
                return
        time.sleep(0.05)


def _can_be_written(database: Path) -> bool:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


def _is_stopped(pid: int) -> bool:
    """Whether each of its threads is: a thread inside a system call stops when it comes out of it."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)


def readers_of(program: Program) -> list[int]:
    """The children that read mails, by their process ids."""
    tasks = Path(f"/proc/{program.pid}/task").glob("*/children")
    pids = [int(pid) for children in tasks for pid in children.read_text().split()]
    return [pid for pid in pids if b"panicmail.mail.parse.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@contextlib.contextmanager
def locked(database: Path) -> Iterator[sqlite3.Connection]:
    """While in here nobody else can write to the database."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=SOON)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield other
        finally:
            if other.in_transaction:
                other.execute("ROLLBACK")


def it_happened_earlier(database: Path, span: timedelta) -> None:
    """Everything on record happened, and falls due, so much earlier: as if the machine had been off for that long."""
    with contextlib.closing(sqlite3.connect(database, timeout=SOON)) as connection, connection:
        for table in ("mails", "incidents", "timeline", "outbox"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[2] == "DATETIME"]
            for column in columns:
                rows = connection.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} LIKE '{_INSTANT}'")
                for rowid, at in rows.fetchall():
                    earlier = (datetime.fromisoformat(at) - span).isoformat(" ", "microseconds")
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (earlier, rowid))


def start_again(town: World) -> None:
    """As long after its end as an earlier attempt towards GitLab may still be under way."""
    it_happened_earlier(town.database, timedelta(seconds=12))
    town.start()


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def accounted_for(town: World, refs: Sequence[str]) -> None:
    """What every 250 promised: one incident, one issue, a page. Each page has one Message-ID however often it went."""
    for ref in refs:
        town.page("ana", ref, 40)
        town.issue(ref, 40)
    town.settled(40)
    for ref in refs:
        ((rounds,),) = town.rows("SELECT round FROM incidents WHERE ref = ?", ref)
        assert len(town.issues(ref)) == 1, f"{ref} has {len(town.issues(ref))} issues"
        assert 1 <= len(set(copies(town, "ana", ref))) <= rounds, f"{ref}: a repeat is another mail"


def copies(town: World, person: str, ref: str = "") -> list[str]:
    """The Message-ID of every copy of their pages that reached the relay, without the calls made from memory."""
    pages = [page for page in town.pages(person, ref) if not re.search("DATABASE AWAY|STATE UNKNOWN", page.subject)]
    return [page.header("Message-ID") for page in pages]


def one_copy_a_life(town: World) -> None:
    """No page went out twice in one life of the daemon: a kill costs one extra copy at most."""
    for person in ("ana", "max"):
        pages = town.pages(person)
        sent = Counter((page.header("Message-ID"), _life_of(page, town)) for page in pages)
        assert all(times == 1 for times in sent.values()), sent


def _life_of(page: Received, town: World) -> int:
    """How many daemons had logged something by then."""
    return sum(program.events[0][0] <= page.received_at for program in town.programs if program.events)
