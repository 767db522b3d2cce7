"""The mails that got a 250: stored, claimed, understood. A mail is understood once, whoever tries."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

import sqlalchemy as sa

from panicmail.errors import StoreFailed
from panicmail.incident.model import State
from panicmail.store.queries import UNHELD, Conflict, Prepared, Queries, free
from panicmail.store.rows import AcceptedMail, ClaimedMail, UnderstoodMail, mail_of
from panicmail.store.tables import incidents, mails, raws

#: A mail above this size, in octets, may take so many seconds to or from PostgreSQL: lines are slow somewhere. It is
#: handed to nobody in memory.
LARGE, LARGE_WITHIN = 2**20, 60
#: A claimed mail nobody finished is free again after this long.
LEASE = timedelta(seconds=30)

_m = mails.c
#: Whether a mail waits for an owner: built once, for it is asked often and mostly in vain.
_IS_WAITING = sa.select(
    sa.exists().where(
        _m.state == "accepted",
        _m.again_at.is_(None),
        sa.or_(
            _m.lease_until.is_(None),
            _m.lease_until <= sa.bindparam("now", type_=_m.lease_until.type),
            _m.lease_by == sa.bindparam("owner"),
        ),
    )
)


def _add() -> sa.Insert:
    """A new mail, its columns given as `the_…`; its turn is behind those that wait of its mailbox."""
    given = ("id", "accepted_at", "mail_from", "recipients", "peer", "helo", "tls", "size", "turn", "attempts",
             "lease_until", "lease_by")  # fmt: skip
    values = {name: sa.bindparam(f"the_{name}", type_=_m[name].type) for name in given}
    waiting = sa.select(sa.func.max(_m.turn) + 1).where(_m.state == "accepted", _m.mail_from == values["mail_from"])
    turn = sa.func.coalesce(waiting.scalar_subquery(), values["turn"])
    return mails.insert().values({**values, "state": "accepted", "turn": turn})


#: Built once: the 250 waits for it, and every page asks for its mail.
_ADD = Prepared(_add())
_BY_ID = sa.select(mails).where(_m.id == sa.bindparam("id"))


class Mails(Queries):
    """Statements about mails."""

    def add(self, mail: AcceptedMail, raw: bytes) -> None:
        """Keep an accepted mail.

        Mails are understood by turns: the first one of each mailbox that waits, then the second ones, so that nobody's
        flood stands before a colleague. A mailbox is an envelope sender here: the octets were not read yet. One that
        comes with a `turn` below 0 goes before all, if it is the first of its mailbox: its address may have leaked.

        Where nothing waits, and a thread has nothing to do, it is that one's from the beginning.
        """
        thread = self._handed.reserve("mails") if len(raw) <= LARGE else None
        lease = self._leased(LEASE, self._handed.owner(thread)) if thread else UNHELD
        row = {
            "the_id": mail.id,
            "the_accepted_at": mail.accepted_at,
            "the_mail_from": mail.mail_from,
            "the_recipients": list(mail.recipients),
            "the_peer": mail.peer,
            "the_helo": mail.helo,
            "the_tls": mail.tls,
            "the_size": mail.size,
            "the_turn": min(mail.turn, 0),
            "the_attempts": 1 if thread else 0,
            "the_lease_until": lease["lease_until"],
            "the_lease_by": lease["lease_by"],
        }
        _ADD.run(self._connection, row)
        if len(raw) > LARGE:
            self._allow(LARGE_WITHIN)
        add(self._connection, mail.id, raw, is_sqlite=self._is_sqlite)
        if thread:
            self._handed.give(thread, ClaimedMail(replace(mail, attempts=1), raw))
        else:
            self._woken.add("mails")

    def take_in(self, mail: AcceptedMail, raw: bytes) -> bool:
        """Add a mail from the spool; False when it is there already.

        Its `accepted_at` is by the clock of the host that had it. One ahead of ours would make every step late.
        """
        if self.get(mail.id) is not None:
            # A write, so that this COMMIT too waits for a standby: the first one may have been cut short in that.
            self._connection.execute(mails.update().where(mails.c.id == mail.id).values(size=mails.c.size))
            return False
        self.add(replace(mail, accepted_at=min(mail.accepted_at, self.now)), raw)
        return True

    def is_any_waiting(self) -> bool:
        """Whether `claim` may find something: no write is begun for nothing."""
        return bool(self._connection.execute(_IS_WAITING, {"now": self.now, "owner": self._owner}).scalar_one())

    def claim(self, limit: int, lease: timedelta, *, only_new: bool = False) -> list[AcceptedMail]:
        """Mails nobody has understood yet, by turns, ours for `lease`. Not those that wait to be read again.

        Args:
            only_new: None that was claimed before, and none that came after it: its turn is next.
        """
        due = (
            sa.select(mails.c.id, mails.c.attempts)
            .where(mails.c.state == "accepted", mails.c.again_at.is_(None), self._may_claim(mails))
            .order_by(mails.c.turn, mails.c.accepted_at, mails.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        # Not as a subquery: PostgreSQL may evaluate its LIMIT anew for each row, and then claims them all.
        rows = self._connection.execute(due).all()
        locked = [row.id for row in (takewhile(lambda row: not row.attempts, rows) if only_new else rows)]
        claim = (
            mails.update()
            .where(mails.c.id.in_(locked))
            .values(**self._leased(lease), attempts=mails.c.attempts + 1)
            .returning(*mails.c)
        )
        claimed = [mail_of(row) for row in self._connection.execute(claim)]
        return sorted(claimed, key=lambda mail: (mail.turn, mail.accepted_at, mail.id))

    def is_coming(self, incident_id: str) -> bool:
        """Whether a mail nobody has understood yet may open this incident."""
        c = mails.c
        query = sa.select(sa.exists().where(c.state == "accepted", c.id.startswith(incident_id, autoescape=True)))
        return bool(self._connection.execute(query).scalar_one())

    def home_of(self, incident_id: str) -> str | None:
        """The incident that the mail belongs to which would have opened this one; None when there is no such mail."""
        c = mails.c
        known = sa.and_(c.id.startswith(incident_id, autoescape=True), c.incident_id.is_not(None))
        return self._connection.execute(sa.select(c.incident_id).where(known).limit(1)).scalar_one_or_none()

    def postpone(self, mail: AcceptedMail, until: datetime) -> None:
        """Leave a claimed mail alone until then; this claim does not count as a try."""
        values = {"lease_until": until, "lease_by": None, "attempts": mails.c.attempts - 1}
        self._connection.execute(mails.update().where(mails.c.id == mail.id).values(values))

    def raw(self, mail_id: str, most: int | None = None) -> bytes:
        """The octets of a mail; with `most` no more than so many of its first."""
        self._allow(LARGE_WITHIN)
        return read(self._connection, mail_id, most, is_sqlite=self._is_sqlite)

    def get(self, mail_id: str) -> AcceptedMail | None:
        return self._once(("mail", mail_id), lambda: self._get(mail_id))

    def _get(self, mail_id: str) -> AcceptedMail | None:
        row = self._connection.execute(_BY_ID, {"id": mail_id}).one_or_none()
        return mail_of(row) if row else None

    def of_incident(self, incident_id: str) -> list[AcceptedMail]:
        query = sa.select(mails).where(mails.c.incident_id == incident_id).order_by(mails.c.accepted_at)
        return [mail_of(row) for row in self._connection.execute(query)]

    def is_waiting(self, mail_id: str) -> bool:
        """Whether the mail still wants to be understood; False when another did it meanwhile."""
        query = sa.select(mails.c.state).where(mails.c.id == mail_id)
        return self._connection.execute(query).scalar_one_or_none() == "accepted"

    def understood(self, mail_id: str, what: UnderstoodMail) -> None:
        """Record what a mail was. Belongs in the transaction that does what it asks.

        Raises:
            Conflict: Another node understood it meanwhile; `Store.write` starts over, and then it waits no more.
        """
        waits = mails.update().where(mails.c.id == mail_id, mails.c.state == "accepted")
        values = {"state": "understood", "again_at": None, **UNHELD, **asdict(what)}
        if self._connection.execute(waits.values(values)).rowcount != 1:
            raise Conflict(mail_id)

    def same(self, mail: AcceptedMail, digest: str, within: timedelta) -> str | None:
        """The unresolved incident that the very same mail already belongs to, if it came in the last `within`.

        Locks the digest until the end of the transaction, so that two copies understood at once meet.
        """
        self.lock(digest)
        query = (
            sa.select(mails.c.incident_id)
            .join(incidents, incidents.c.id == mails.c.incident_id)
            .where(
                mails.c.digest == digest,
                mails.c.id != mail.id,
                mails.c.accepted_at > mail.accepted_at - within,
                incidents.c.state != State.RESOLVED.value,
            )
            .order_by(mails.c.accepted_at)
            .limit(1)
        )
        return self._connection.execute(query).scalar_one_or_none()

    def named(self, mail: AcceptedMail, message_id: str, within: timedelta) -> list[AcceptedMail]:
        """Other mails of this Message-ID that belong to an incident and came in the last `within`, the latest first.

        Locks the Message-ID until the end of the transaction, so that two copies understood at once meet.
        """
        self.lock(message_id)
        query = (
            sa.select(mails)
            .where(
                mails.c.message_id == message_id,
                mails.c.id != mail.id,
                mails.c.incident_id.is_not(None),
                mails.c.accepted_at > mail.accepted_at - within,
            )
            .order_by(mails.c.accepted_at.desc(), mails.c.id)
            .limit(10)
        )
        return [mail_of(row) for row in self._connection.execute(query)]

    def lock(self, name: str) -> None:
        """Nobody else who locks this name goes on before the end of the transaction. SQLite has one writer anyway."""
        if not self._is_sqlite:
            lock = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8], signed=True)
            self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))

    def incident_of_messages(self, message_ids: Iterable[str]) -> str | None:
        """The latest incident that one of these Message-IDs was accepted for."""
        wanted = [m for m in message_ids if m]
        if not wanted:
            return None
        query = (
            sa.select(mails.c.incident_id)
            .where(mails.c.message_id.in_(wanted), mails.c.incident_id.is_not(None))
            .order_by(mails.c.accepted_at.desc())
            .limit(1)
        )
        return self._connection.execute(query).scalar_one_or_none()

    def newest_by_peer(self) -> list[tuple[str, datetime]]:
        """Every peer that ever handed over a mail, and when it last did."""
        newest = sa.func.max(mails.c.accepted_at, type_=mails.c.accepted_at.type)
        query = sa.select(mails.c.peer, newest).group_by(mails.c.peer)
        return [(row[0], row[1]) for row in self._connection.execute(query)]


# -- A mail's octets, in and out of the database in pieces.
#
# One blob of 50 MiB given to or taken from a driver is copied while the interpreter is locked, 30 ms and more, in
# which the tick, the listener and every page stand still (measured; PostgreSQL's text form, 100 ms). In pieces
# nothing waits longer than for one of them, and a reader needs no more memory than it keeps.

#: Of one piece to or from SQLite, in octets.
BLOCK = 64 * 1024
#: From PostgreSQL each piece is a statement, for which a compressed mail is unpacked anew.
_PIECE = 4 * 1024 * 1024

_ADD_RAW = Prepared(raws.insert())


def add(connection: sa.Connection, mail_id: str, raw: bytes, *, is_sqlite: bool) -> None:
    """Store the octets of a mail whose row is there."""
    if not is_sqlite:  # its driver lets the others run while it sends
        connection.execute(raws.insert().values(mail_id=mail_id, raw=raw))
        return
    if len(raw) <= BLOCK:
        _ADD_RAW.run(connection, {"mail_id": mail_id, "raw": raw})
        return
    made = connection.execute(raws.insert().values(mail_id=mail_id, raw=sa.func.zeroblob(len(raw))))
    with _blob(connection, made.lastrowid, readonly=False) as blob, memoryview(raw) as octets:
        for at in range(0, len(octets), BLOCK):
            blob.write(octets[at : at + BLOCK])


def read(connection: sa.Connection, mail_id: str, most: int | None = None, *, is_sqlite: bool) -> bytes:
    """The octets of a mail, or their beginning.

    Raises:
        NoResultFound: There is no such mail.
    """
    pieces = (_from_sqlite if is_sqlite else _from_postgres)(connection, mail_id, most)
    return b"".join(pieces)  # without the interpreter's lock


def _from_sqlite(connection: sa.Connection, mail_id: str, most: int | None) -> Iterator[bytes]:
    row = sa.select(sa.literal_column("rowid", sa.Integer)).select_from(raws).where(raws.c.mail_id == mail_id)
    with _blob(connection, connection.execute(row).scalar_one(), readonly=True) as blob:
        end = len(blob) if most is None else min(most, len(blob))
        for at in range(0, end, BLOCK):
            yield blob.read(min(BLOCK, end - at))


def _from_postgres(connection: sa.Connection, mail_id: str, most: int | None) -> Iterator[bytes]:
    size = connection.execute(sa.select(sa.func.length(raws.c.raw)).where(raws.c.mail_id == mail_id)).scalar_one()
    end = size if most is None else min(most, size)
    for at in range(0, end, _PIECE):
        piece = sa.func.substring(raws.c.raw, at + 1, min(_PIECE, end - at))
        yield bytes(connection.execute(sa.select(piece).where(raws.c.mail_id == mail_id)).scalar_one())


@contextlib.contextmanager
def _blob(connection: sa.Connection, row: int, *, readonly: bool) -> Iterator[Any]:
    """A row's blob, open.

    Raises:
        StoreFailed: SQLite failed at it.
    """
    driver: Any = connection.connection.driver_connection
    try:
        with driver.blobopen(raws.name, raws.c.raw.name, row, readonly=readonly) as blob:
            yield blob
    except sqlite3.Error as exc:
        raise StoreFailed(str(exc)) from exc


# -- Mails that are to be read again: a full reading failed once for a reason of ours.


class MailReadings(Queries):
    """Statements about readings after the first."""

    def read_again(self, mail: AcceptedMail, at: datetime) -> None:
        """It was read from its octets alone, for a reason of ours: from `at` on it is to be read once more.

        One that is not understood yet waits for that. Belongs in the transaction that writes down what was read.
        """
        ended = 1 if mail.readings else 0  # else it was claimed to be understood, and that is counted as ever
        values = {"again_at": at, "attempts": mails.c.attempts - ended, **UNHELD}
        self._connection.execute(mails.update().where(mails.c.id == mail.id).values(values))
        self._woken.add("again")

    def is_to_be_read(self, *, understood: bool) -> bool:
        """Whether there may be something for `claim_reading`: no write is begun for nothing."""
        c = mails.c
        due = sa.exists().where(c.again_at <= self.now, _state() == ("understood" if understood else "accepted"))
        return bool(self._connection.execute(sa.select(due)).scalar_one())

    def claim_reading(self, lease: timedelta, *, understood: bool) -> AcceptedMail | None:
        """A mail whose time has come to be read again, ours for `lease`; the reading is counted before it begins, and
        so is the attempt, until it ends. None while one is to be understood that was in hand when a process ended.

        Args:
            understood: One that was filed as far as it could be read; else one that waits for being read.
        """
        c = mails.c
        state = "understood" if understood else "accepted"
        left_behind = sa.and_(c.attempts == 1, free(c.lease_until, self.now))
        tried_alone = sa.exists().where(
            c.state == "accepted", c.again_at.is_(None), sa.or_(c.attempts > 1, left_behind)
        )
        if self._connection.execute(sa.select(tried_alone)).scalar_one():
            return None
        due = (
            sa.select(c.id)
            .where(c.again_at <= self.now, _state() == state, self._may_claim(mails))
            .order_by(c.again_at, c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        found = self._connection.execute(due).scalar_one_or_none()
        if found is None:
            return None
        counted = {"readings": c.readings + 1, "attempts": c.attempts + 1}
        claim = mails.update().where(c.id == found).values(**self._leased(lease), **counted)
        return mail_of(self._connection.execute(claim.returning(*c)).one())

    def reread(self, mail_id: str, report: str | None, message_id: str | None = None) -> bool:
        """It is not to be read again; False when another has ended that already.

        Args:
            report: What the last reading made of it; None: no more than the first.
        """
        values = {"report": report, "message_id": message_id} if report is not None else {}
        waits = mails.update().where(mails.c.id == mail_id, mails.c.again_at.is_not(None))
        return self._connection.execute(waits.values(again_at=None, **UNHELD, **values)).rowcount == 1


def _state() -> sa.ColumnElement[str]:
    """The state of a mail as no index has it: by that of the states all history would be gone through, and few mails
    are to be read again."""
    return mails.c.state + ""


# -- Mails whose sender is to be checked, and what was found.

#: Where those who check senders wait for work.
LANE = "senders"
_IS_DUE = sa.select(sa.exists().where(_m.sender_at <= sa.bindparam("now", type_=_m.sender_at.type)))


class SenderChecks(Queries):
    """Statements about checks of senders."""

    def ask(self, mail_id: str, at: datetime) -> None:
        """From `at` on its sender is to be checked."""
        self._connection.execute(mails.update().where(_m.id == mail_id).values(sender_at=at))
        self._woken.add(LANE)

    def is_due(self) -> bool:
        """Whether `claim` may find something: no write is begun for nothing."""
        return bool(self._connection.execute(_IS_DUE, {"now": self.now}).scalar_one())

    def claim(self, lease: timedelta) -> AcceptedMail | None:
        """The mail whose turn it is; should nobody finish with it, its turn comes again after `lease`.

        No owner is kept: a check that is made twice finds the same.
        """
        due = (
            sa.select(_m.id).where(_m.sender_at <= self.now).order_by(_m.sender_at).limit(1)
            .with_for_update(skip_locked=True)
        )  # fmt: skip
        found = self._connection.execute(due).scalar_one_or_none()
        if found is None:
            return None
        counted = {"sender_at": self.now + lease, "sender_tries": _m.sender_tries + 1}
        claim = mails.update().where(_m.id == found).values(counted).returning(*_m)
        return mail_of(self._connection.execute(claim).one())

    def keep(self, mail_id: str, proof: str, again_at: datetime | None) -> None:
        """What was found, as `sender_proof.to_json`. One that waits for it is understood now.

        Args:
            again_at: When it is to be checked once more; None: that is all.
        """
        kept = {"sender": proof, "sender_at": again_at}
        self._connection.execute(mails.update().where(_m.id == mail_id).values(kept))
        waits = mails.update().where(
            _m.id == mail_id, _m.state == "accepted", _m.again_at.is_(None), _m.lease_by.is_(None)
        )
        if self._connection.execute(waits.values(**UNHELD)).rowcount:
            self._woken.add("mails")

    def understand_again(self, mail_id: str) -> None:
        """What it asks is decided anew, by what is known of its sender now."""
        again = {"state": "accepted", "shape": None, "attempts": 0, "readings": 0, **UNHELD}
        self._connection.execute(mails.update().where(_m.id == mail_id, _m.state == "understood").values(again))
        self._woken.add("mails")
