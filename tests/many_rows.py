"""Very many rows, made by SQL alone: what a panic's are, so many times over, each with ids of its own."""

from __future__ import annotations

from panicmail.store.database import Database
from panicmail.store.tables import incidents, mails, outbox, pages, timeline

#: So many rows of each table that grows.
MANY = 10_000


def own_values(database: Database) -> dict[str, dict[str, str]]:
    """What the copies of a row have of their own, as SQL over its number `g.n`; "": the database gives one."""
    if database.is_sqlite:
        long, short, later = "printf('%016d', g.n)", "printf('%08d', g.n)", "'2027-01-01 00:00:00.000000'"
        before = "strftime('%Y-%m-%d %H:%M:%f000', s.accepted_at, '-' || (g.n / 1000.0) || ' seconds')"
    else:
        long, short = "lpad(g.n::text, 16, '0')", "lpad(g.n::text, 8, '0')"
        later, before = "timestamptz '2027-01-01'", "s.accepted_at - make_interval(secs => g.n)"
    unique = {"message_id": "'<' || g.n || '@example.com>'"}
    return {
        "mails": {"id": f"{long} || 'mmmmmmmmmm'", "incident_id": long, "digest": "'d' || g.n", **unique},
        "incidents": {
            "id": long,
            "ref": short,
            "mail_id": f"{long} || 'mmmmmmmmmm'",
            "reporter_address": "'r' || g.n || '@example.com'",
            "accepted_at": before,
            "issue_iid": "g.n + 1",
            "next_step_at": later,  # nothing of theirs is due
            "due_at": later,
        },
        "pages": {"id": "", "incident_id": long},
        "outbox": {"id": "", "incident_id": long, "key": "g.n || '/' || s.key", "after_id": "NULL"},
        "timeline": {"id": "", "incident_id": long},
    }


def add_many(database: Database, mail_id: str, count: int = MANY) -> None:
    """So many more open incidents as that of this mail is, with a row of each table, and nothing of theirs due."""
    numbers = (
        f"(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {count}) SELECT n FROM r) g"
        if database.is_sqlite
        else f"generate_series(1, {count}) AS g(n)"
    )
    with database.engine.begin() as connection:
        for table in (mails, incidents, pages, outbox, timeline):
            own = {"mailbox": "NULL"} if table is mails else {}  # many people's, and no storm
            own |= own_values(database)[table.name]
            exprs = {c.name: own.get(c.name, f's."{c.name}"') for c in table.c if own.get(c.name, "x")}
            which = f"id = '{mail_id}'" if table is mails else "TRUE"
            connection.exec_driver_sql(
                f"INSERT INTO {table.name} ({', '.join(map(_quoted, exprs))}) SELECT {', '.join(exprs.values())}"
                f" FROM (SELECT * FROM {table.name} WHERE {which} LIMIT 1) s, {numbers}"
            )
    if not database.is_sqlite:  # which has no statistics in the daemon either
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")


def _quoted(name: str) -> str:
    return f'"{name}"'
