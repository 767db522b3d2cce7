"""Which revision a database is at, and which one this program wants, without the library that changes it."""

from __future__ import annotations

from importlib.resources import files

import sqlalchemy as sa

from panicmail.store.database import Database

_FOUND = sa.text("SELECT version_num FROM alembic_version")


def newest() -> str:
    """The last of our revisions, by the names of their files: `NNNN_what_it_does.py`."""
    versions = files("panicmail.store.migrations") / "versions"
    return max(each.name.partition("_")[0] for each in versions.iterdir() if each.name[:4].isdecimal())


def is_current(database: Database) -> bool:
    """Whether the tables are those of this version; False as well where there are none yet.

    Raises:
        StoreFailed: The database cannot be asked.
    """
    with database.reading() as connection:
        try:
            return connection.execute(_FOUND).scalar_one_or_none() == newest()
        except (sa.exc.OperationalError, sa.exc.ProgrammingError):  # no such table, as SQLite and PostgreSQL say it
            connection.rollback()
            return False
