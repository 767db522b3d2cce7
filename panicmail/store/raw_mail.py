"""A mail's octets, in and out of the database in pieces.

One blob of 50 MiB given to or taken from a driver is copied while the interpreter is locked, 30 ms and more, in which
the tick, the listener and every page stand still (measured; PostgreSQL's text form, 100 ms). In pieces nothing waits
longer than for one of them, and a reader needs no more memory than it keeps.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from panicmail.errors import StoreFailed
from panicmail.store.queries import Prepared
from panicmail.store.tables import raws

#: Of one piece to or from SQLite, in octets.
BLOCK = 64 * 1024
#: From PostgreSQL each piece is a statement, for which a compressed mail is unpacked anew.
_PIECE = 4 * 1024 * 1024

_ADD = Prepared(raws.insert())


def add(connection: sa.Connection, mail_id: str, raw: bytes, *, is_sqlite: bool) -> None:
    """Store the octets of a mail whose row is there."""
    if not is_sqlite:  # its driver lets the others run while it sends
        connection.execute(raws.insert().values(mail_id=mail_id, raw=raw))
        return
    if len(raw) <= BLOCK:
        _ADD.run(connection, {"mail_id": mail_id, "raw": raw})
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
