"""What time and restarts bring: deadlines among many armed, a start with many open, a restart with many waiting."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from panicmail.incident.ids import new_mail_id
from panicmail.store.database import Database
from tests.bench.figures import Goal, Line, percentile
from tests.bench.load import Load, message
from tests.bench.proc import until
from tests.bench.town import ONE_BY_ONE, Pages, bench_world, count, instant, logged, paged_at, panic, settle
from tests.many_rows import add_many
from tests.program import World

#: A step for the manager two hours after acceptance; whose time it is, is written into the rows.
FIRST_STEP, SLA = timedelta(hours=2), timedelta(hours=3)
SETTINGS = {"steps": (("0s", "seoc"), ("2h", "smoc")), "sla": "3h", "repeat": "1h"}
#: So long is waited for the pages of what is due, in seconds.
WITHIN = 60.0
#: As panicmail opens an issue; it puts right what is otherwise, and tells everybody.
KEPT = {"confidential": True, "issue_type": "incident", "labels": "security-incident"}
#: The ids of the incidents that were not made by a mail are numbers.
MADE = "id GLOB '0*'"


def arm(town: World, number: int) -> None:
    """With the daemon stopped: so many more open incidents, each of a person and with an issue of its own."""
    ((mail_id,),) = town.rows("SELECT mail_id FROM incidents LIMIT 1")
    add_many(Database(f"sqlite:///{town.database}"), mail_id, number)
    mailbox = "'r' || CAST(id AS INTEGER) || '@example.com 127.0.0.1'"
    town.rows(f"UPDATE incidents SET mailbox = {mailbox} WHERE {MADE}")
    first = "(SELECT next_step_at FROM incidents WHERE mail_id = ?)"
    town.rows(f"UPDATE incidents SET next_step_at = {first}, due_at = {first} WHERE {MADE}", mail_id, mail_id)
    gitlab = town.gitlab.instance
    bot = gitlab.user("panicmail-bot")
    for each in range(number):
        made = gitlab.open_issue(bot, {"title": f"Panic {each}", **KEPT})
        made.created_at = made.updated_at = made.created_at - timedelta(hours=5)


def make_due(town: World, number: int, at: datetime) -> None:
    """The first so many of those that were made get their next step within the second after `at`."""
    rows = []
    for each in range(number):
        due = at + timedelta(seconds=each / number)
        accepted, later = stored(due - FIRST_STEP), stored(due - FIRST_STEP + SLA)
        rows.append((accepted, accepted, accepted, later, later, stored(due), stored(due), f"{each + 1:016d}"))
    columns = (
        "accepted_at = ?, opened_at = ?, steps_from_at = ?, sla_at = ?, first_sla_at = ?, next_step_at = ?, due_at = ?"
    )
    with contextlib.closing(sqlite3.connect(town.database)) as connection, connection:
        connection.executemany(f"UPDATE incidents SET {columns} WHERE id = ?", rows)


def stored(at: datetime) -> str:
    """An instant as SQLite has it."""
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


@contextlib.contextmanager
def armed(number: int, storm: dict[str, int] | None = None) -> Iterator[World]:
    """A world whose daemon has stopped, with so many incidents open."""
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder), storm, **SETTINGS) as town:
        town.start()
        panic(town, 0, tag="first")
        settle(town)
        town.stop()
        arm(town, number)
        yield town


def _deadlines(among: int, due: int, storm: dict[str, int] | None) -> tuple[float, str]:
    """The page's p99, and all that was seen."""
    with armed(among, storm) as town:
        at = datetime.now(UTC) + timedelta(seconds=15 if among > 20_000 else 8)
        make_due(town, due, at)
        before = len(town.rows("SELECT id FROM pages"))
        town.start()
        late = datetime.now(UTC) > at
        until(lambda: datetime.now(UTC) > at + timedelta(seconds=2), 60)
        until(lambda: len(paged_at(town, "max")) >= due, WITHIN, 0.5)
        due_at = {f"{each + 1:016d}": at.timestamp() + each / due for each in range(due)}
        steps = {facts["incident"]: instant(facts["timestamp"]) for facts in logged(town, "incident.changed")}
        paged = paged_at(town, "max")
        stepped = [steps[each] - due_at[each] for each in due_at if each in steps]
        taken = [paged[each] - due_at[each] for each in due_at if each in paged]
        wrong = len(town.rows("SELECT id FROM pages")) - before - len(stepped)
        alarms = count(town, "outbox", "do = 'operators'")
    text = (
        f"step committed p50 {percentile(stepped, 0.5):.2f} s, p99 {percentile(stepped, 0.99):.2f} s; page taken p50"
        f" {percentile(taken, 0.5):.1f} s, p99 {percentile(taken, 0.99):.1f} s; {due - len(stepped)} missed,"
        f" {due - len(taken)} not paged within {WITHIN:.0f} s, {wrong} false calls, {alarms} alarms"
    )
    return percentile(stepped, 0.99), f"{text}, began late" if late else text


def deadlines(quick: bool) -> Iterator[Line]:
    due, few, many = (40, 200, 1_000) if quick else (1_000, 10_000, 100_000)
    cases = {
        "deadlines_100k": (many, None, ""),
        "deadlines_10k": (few, None, ""),
        "deadlines_pages": (few, ONE_BY_ONE, ", a page each"),
    }
    for name, (among, storm, more) in cases.items():
        if quick and name == "deadlines_10k":
            continue  # the same over again
        what = f"{due:,} due in one second among {among:,} armed{more}: step committed, p99"
        figure, text = _deadlines(among, due, storm)
        yield Line(name, what, text, figure, Goal(1, 0.2, " s"))


def start(quick: bool) -> Iterator[Line]:
    number = 2_000 if quick else 100_000
    with armed(number) as town:
        began = time.monotonic()
        town.start()
        ready = town.program.wait_for("ready")[0] - began
        one, pages = panic(town, 1, tag="after"), Pages(town)
        took = pages.of(one.canary).received_at - one.dot_at
    yield Line(
        "start", f"start with {number:,} open: ready after", f"{ready:.1f} s; a panic then is paged after {took:.2f} s"
    )


def restart(quick: bool) -> Iterator[Line]:
    """Mails that were accepted, each of another person, and not understood when the daemon ended."""
    number, within = (100, 10.0) if quick else (10_000, 90.0)
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder)) as town:
        town.start()
        panic(town, 0, tag="first")
        settle(town)
        town.stop()
        _leave_waiting(town, number)
        began = time.monotonic()
        town.start()
        ready = town.program.wait_for("ready")[0] - began
        one = panic(town, 1, tag="after")
        is_paged = until(lambda: _incident_of(town, one.canary) in paged_at(town, "ana"), within, 0.5)
        took = time.monotonic() - one.dot_at
        understood = len(logged(town, "mail.understood"))
    text = f"ready after {ready:.1f} s; a panic then is {'' if is_paged else 'not '}paged within {took:.0f} s"
    yield Line("restart", f"restart with {number:,} accepted mails of as many people waiting",
               f"{text}; {understood / took:.0f} mails understood a second")  # fmt: skip


def _incident_of(town: World, canary: str) -> str:
    found = town.rows("SELECT id FROM incidents WHERE subject LIKE ?", f"%{canary}%")
    return str(found[0][0]) if found else ""


def _leave_waiting(town: World, number: int) -> None:
    load = Load(0, number, size=2048, tag="waits")
    at = stored(datetime.now(UTC))
    with contextlib.closing(sqlite3.connect(town.database)) as connection, connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(mails)")]
        (like,) = connection.execute("SELECT * FROM mails").fetchall()
        first = dict(zip(names, like, strict=True))
        for each in range(number):
            sender, _, octets = message(load, each)
            own = {
                "id": new_mail_id(),
                "digest": f"d{each}",
                "mail_from": sender,
                "accepted_at": at,
                "state": "accepted",
            }
            nothing = dict.fromkeys(("shape", "incident_id", "message_id", "report", "mailbox"))
            values = first | own | nothing | {"state": "accepted", "attempts": 0, "turn": 0, "size": len(octets)}
            marks = ", ".join("?" for _ in names)
            connection.execute(f"INSERT INTO mails VALUES ({marks})", [values[name] for name in names])
            raw = (values["id"], octets.removesuffix(b".\r\n"))
            connection.execute("INSERT INTO raws (mail_id, raw) VALUES (?, ?)", raw)
