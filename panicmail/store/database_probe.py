"""Trying a database: whether it can be read and written, and whether its tables are ours. Nothing stays of it."""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

from panicmail.errors import StoreFailed
from panicmail.incident import ids
from panicmail.store import schema_revision
from panicmail.store.database import Database
from panicmail.store.tables import mails, raws

#: About as large as a mail.
_OCTETS = 4096


class Tables(StrEnum):
    """Which panicmail the tables are of."""

    NONE = "none"  #: there are none yet
    OLDER = "older"  #: the next start brings them up to date
    OURS = "ours"
    NEWER = "newer"  #: this program does not know them


def tables(database: Database) -> tuple[Tables, str]:
    """Of which panicmail the tables are, and their revision ("" without).

    Raises:
        StoreFailed: The database does not answer.
    """
    if schema_revision.is_current(database):
        return Tables.OURS, schema_revision.newest()
    from panicmail.store import migrate  # the daemon, whose tables are current, need not have it

    with database.reading() as connection:
        found = migrate.revision(connection)
    if found is None:
        return Tables.NONE, ""
    return Tables.OLDER if migrate.knows(found) else Tables.NEWER, found


def write_and_roll_back(database: Database) -> None:
    """Store a mail and take it back before anybody could see it.

    Raises:
        StoreFailed: It cannot be written.
    """
    mail_id = ids.new_mail_id()
    mail = {"id": mail_id, "accepted_at": database.clock(), "mail_from": "", "recipients": [], "peer": "", "helo": "",
            "tls": "", "size": _OCTETS, "state": "understood"}  # fmt: skip
    try:
        with database.writing() as connection:
            connection.execute(mails.insert().values(mail))
            connection.execute(raws.insert().values(mail_id=mail_id, raw=b"x" * _OCTETS))
            found = connection.execute(sa.select(raws.c.raw).where(raws.c.mail_id == mail_id)).scalar_one()
            raise _Enough(bytes(found) == b"x" * _OCTETS)
    except _Enough as enough:
        if not enough.is_same:
            raise StoreFailed("what was written is not what was read") from None


class _Enough(Exception):  # noqa: N818 - ends a transaction that must not be one
    def __init__(self, is_same: bool) -> None:
        super().__init__()
        self.is_same = is_same
