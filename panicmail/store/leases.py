"""Nodes: any number of `panicmail serve` on one PostgreSQL, none of them first.

A node has a number, and a session: one connection of its own that holds an advisory lock on that number. Whatever the
node claims carries the number (`lease_by`). Once a second every node looks whose number is locked by nobody and frees
what those hold. So work begun on a node that died goes on within seconds, and no lease need run out first.

    killed, powered off      the server sees the connection end, or TCP gives it up after six seconds
    cut off                  the same, from both sides
    frozen, suspended        it misses its beats, and the server ends its session after five seconds
    stopped                  it frees what it holds as its last act

A node that lost its session takes its number again as soon as it can. Until then it may be taken for dead while it is
at work, so whoever acts asks right before whether its claim still is its own (`Outbox.is_mine`), and what came
of it is written only if no other attempt was made. What remains is at most one more copy of what was being sent just
then.

Locks of sessions do not survive a pooler that hands a connection to another client between two transactions. The beat
notices that its lock is gone, and says so.

On SQLite there is one daemon, and nothing of this.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection

import sqlalchemy as sa
import structlog

from panicmail.errors import StoreFailed
from panicmail.store.database import Database, failures
from panicmail.store.queries import UNHELD
from panicmail.store.tables import mails, outbox

_log = structlog.get_logger()

#: Seconds between two beats.
BEAT = 1.0
#: The server ends the session of a node that missed its beats for so many seconds.
FROZEN_SECONDS = 5
#: Our class of advisory locks; the same on all nodes. The second key of each is a node's number.
LOCK_CLASS = 7026250
#: How long a stop waits for the database to free what this node holds, in seconds; else the others free it.
FAREWELL_SECONDS = 1.0

_locks = sa.table(
    "pg_locks", *map(sa.column, ("locktype", "database", "classid", "objid", "objsubid", "granted", "pid"))
)
_databases = sa.table("pg_database", sa.column("oid"), sa.column("datname"))
#: The locks of nodes on this database. objsubid 2: a key of two numbers.
_this_database = sa.select(_databases.c.oid).where(_databases.c.datname == sa.func.current_database())
_are_ours = sa.and_(
    _locks.c.locktype == "advisory",
    _locks.c.database == _this_database.scalar_subquery(),
    _locks.c.classid == LOCK_CLASS,
    _locks.c.objsubid == 2,
    _locks.c.granted,
)


class Node:
    """This process among those that share a PostgreSQL. On SQLite it has no name, and does nothing.

    Args:
        woken: Called with the lanes that got work from a node that is no more.
    """

    def __init__(self, database: Database, *, woken: Callable[[set[str]], None] = lambda lanes: None) -> None:
        self._database = database
        self._woken = woken
        self._number = secrets.randbelow(2**31)
        self._session: sa.Connection | None = None
        self._is_joined = False  #: this session has locked our number
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node", daemon=True)

    @property
    def name(self) -> str | None:
        """Under which this node claims."""
        return None if self._database.is_sqlite else str(self._number)

    def start(self) -> None:
        """Be alive, if the database can be reached; else as soon as it can."""
        if not self._database.is_sqlite:
            self._try_beat()
            self._thread.start()

    def stop(self) -> None:
        """Free what this node holds and be gone. Call it when the threads that claim have ended."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(FAREWELL_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(BEAT):
            self._try_beat()
        self._farewell()

    def _try_beat(self) -> None:
        try:
            with failures():
                self._woken(self._beat())
        except StoreFailed as exc:
            self._lose(str(exc))
        except Exception:  # whatever it is, the next beat begins anew; without beats this node would be taken for dead
            _log.exception("node.failed")
            self._lose("panicmail failed")

    def _beat(self) -> set[str]:
        session = self._session or self._connect()
        if not self._is_joined:
            self._join(session)
        elif not session.execute(_is_locked_here(self._number)).scalar_one():
            raise StoreFailed("its lock is gone: is there a pooler between panicmail and PostgreSQL?")
        return free_claims_of_the_dead(session)

    def _connect(self) -> sa.Connection:
        self._session = session = self._database.session()
        session.execute(sa.text(f"SET idle_session_timeout = '{FROZEN_SECONDS}s'"))
        return session

    def _join(self, session: sa.Connection) -> None:
        """Lock our number; later, when a session we lost still has it, because the server has not noticed yet."""
        lock = sa.func.pg_try_advisory_lock(LOCK_CLASS, self._number)
        self._is_joined = bool(session.execute(sa.select(lock)).scalar_one())
        if self._is_joined:
            _log.info("node.joined", node=self._number)

    def _lose(self, reason: str) -> None:
        if self._is_joined:
            _log.warning("node.lost", node=self._number, reason=reason)
        self._leave()

    def _farewell(self) -> None:
        try:
            if self._session is not None:
                with failures():
                    free_claims(self._session, [self._number])
        except StoreFailed as exc:
            _log.warning("node.lost", node=self._number, reason=str(exc))
        self._leave()

    def _leave(self) -> None:
        session, self._session, self._is_joined = self._session, None, False
        if session is not None:
            session.close()


def free_claims_of_the_dead(session: sa.Connection) -> set[str]:
    """Free what nodes hold that have no session any more; answers the lanes that got work by it, "mails" among them."""
    holders = _holders(session)  # before the locks are read: who claimed had its lock by then
    dead = holders - living(session) if holders else set()
    lanes = free_claims(session, dead)
    if lanes:
        _log.warning("node.dead", nodes=sorted(dead), lanes=sorted(lanes))
    return lanes


def free_claims(session: sa.Connection, nodes: Collection[int]) -> set[str]:
    """Free what these nodes hold; answers as `free_claims_of_the_dead`."""
    if not nodes:
        return set()
    lanes: set[str] = set()
    for table, lane in ((mails, sa.literal("mails")), (outbox, outbox.c.lane)):
        theirs = sa.and_(table.c.lease_by.is_not(None), _node_of(table).in_([str(node) for node in nodes]))
        # What somebody has locked is being settled or claimed this very moment; the next beat sees what became of it.
        held = sa.select(table.c.id).where(theirs).with_for_update(skip_locked=True)
        freed = table.update().where(table.c.id.in_(held)).values(**UNHELD).returning(lane)
        lanes |= set(session.execute(freed).scalars())
    return lanes


def _holders(session: sa.Connection) -> set[int]:
    """The nodes that hold anything."""
    held = [sa.select(_node_of(table)).where(table.c.lease_by.is_not(None)) for table in (mails, outbox)]
    return {int(node) for node in session.execute(sa.union(*held)).scalars()}


def _node_of(table: sa.Table) -> sa.ColumnElement[str]:
    return sa.func.split_part(table.c.lease_by, "/", 1)


def living(session: sa.Connection) -> set[int]:
    """The nodes that have a session."""
    return {int(node) for node in session.execute(sa.select(_locks.c.objid).where(_are_ours)).scalars()}


def _is_locked_here(node: int) -> sa.Select[tuple[bool]]:
    """Whether this very session holds the lock of `node`."""
    mine = sa.and_(_are_ours, _locks.c.objid == node, _locks.c.pid == sa.func.pg_backend_pid())
    return sa.select(sa.exists().where(mine))
