"""What a mail, a page, an answer, a tick and /metrics cost does not grow with what is open, waits, or is history.

Statements are recorded while a small night is played, and each one's plan is asked for. The cost of the same acts is
counted in steps of SQLite's machine beside few incidents and beside many.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from panicmail.daemon.periodic import KEPT_IN_MEMORY
from panicmail.daemon.watchdog import Health
from panicmail.incident.model import Incident
from panicmail.incident.reply_commands import Command
from panicmail.store.unit_of_work import Store
from tests.many_rows import MANY, add_many
from tests.office import Office, mail

GROWING = ("incidents", "mails", "outbox", "timeline", "pages")

Statement = tuple[str, Any]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    desk = Office(tmp_path)
    yield desk
    desk.close()


@contextmanager
def recorded(desk: Office) -> Iterator[dict[str, Statement]]:
    """Every statement that is run meanwhile, each text once."""
    statements: dict[str, Statement] = {}

    def keep(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        statements.setdefault(statement, (statement, parameters[0] if many else parameters))

    sa.event.listen(desk.database.engine, "before_cursor_execute", keep)
    yield statements
    sa.event.remove(desk.database.engine, "before_cursor_execute", keep)


def plan(desk: Office, statement: Statement) -> list[str]:
    with desk.database.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement[0]}", statement[1])
        return [row.detail for row in rows]


def is_flat(text: str, steps: list[str]) -> bool:
    """Whether it reads no growing table from end to end, nor sorts what it then cuts short."""
    named = {alias: table for table, alias in re.findall(r"\b(\w+) AS (\w+)\b", text)}
    scanned = {named.get(name, name) for step in steps for name in re.findall(r"^SCAN (\w+)", step)}
    sorts = any("TEMP B-TREE FOR ORDER BY" in step for step in steps)
    return not scanned & set(GROWING) or ("LIMIT" in text and not sorts)


def a_night(desk: Office, incident: Incident) -> None:
    """A panic, its pages, a follow-up, answers, the time that passes, what machines ask."""
    desk.reply(desk.page("ana"), "ack")
    desk.deliver(mail("More of it.", subject="Re: Ransom note on my laptop", in_reply_to="<rita-1@example.com>"))
    desk.deliver(mail("ack", sender="ana@example.com", subject="ack"), "ana@example.com")
    desk.act(incident, "ana", Command.RESOLVE)
    another = desk.panic("Another one.", subject="Strange login")
    for _ in range(4):
        desk.now += timedelta(minutes=4)
        desk.escalation.tick()
        desk.daily_list.send_due()
        desk.settle()
    desk.signs.poll()
    desk.store.read(lambda tx: tx.search.next_open_incidents(KEPT_IN_MEMORY))
    desk.store.write("tests", lambda tx: tx.queue.told_operators("roster_gap", desk.now))
    Health(desk.store, lambda: True, lambda: True).figures()
    desk.act(another, "max", Command.YES)


def steps_of(desk: Office, act: Callable[[], object]) -> int:
    """How many instructions of SQLite's machine an act takes, in hundreds."""
    counted = [0]

    def step() -> int:
        counted[0] += 1
        return 0

    def count(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        cursor.connection.set_progress_handler(step, 100)

    sa.event.listen(desk.database.engine, "before_cursor_execute", count)
    act()
    sa.event.remove(desk.database.engine, "before_cursor_execute", count)
    return counted[0]


def test_no_statement_of_a_night_reads_a_whole_table(desk: Office) -> None:
    with recorded(desk) as statements:
        a_night(desk, desk.panic())
    asked = [s for s in statements.values() if re.match(r"SELECT|UPDATE|DELETE|WITH", s[0].lstrip())]
    assert len(asked) > 40
    wrong = {text: steps for text, _ in asked if not is_flat(text, steps := plan(desk, statements[text]))}
    assert not wrong, "\n\n".join(f"{text}\n  {steps}" for text, steps in wrong.items())


# -- the same on PostgreSQL, whose planner goes by what is there


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes_of(inner)


def is_flat_there(plan: dict[str, Any]) -> bool:
    """Whether it reads no growing table in sequence, nor sorts many rows that it then cuts short."""
    nodes = list(nodes_of(plan))
    limited = [inner for node in nodes if node["Node Type"] == "Limit" for inner in node["Plans"]]
    scans = [node for node in nodes if node["Node Type"] == "Seq Scan" and node.get("Relation Name") in GROWING
             and node not in limited]  # fmt: skip
    cut = [inner for node in limited for inner in nodes_of(node)]
    sorts = [node for node in cut if node["Node Type"] == "Sort" and node["Plans"][0]["Plan Rows"] > MANY / 10]
    return not scans and not sorts


@pytest.mark.postgres
def test_no_statement_of_a_night_reads_a_whole_table_of_postgresql(tmp_path: Path, postgres_url: str) -> None:
    with closing(Office(tmp_path, url=postgres_url)) as desk:
        first = desk.panic()
        add_many(desk.database, first.mail_id)
        with recorded(desk) as statements:
            a_night(desk, first)
        asked = [s for s in statements.values() if re.match(r"SELECT|UPDATE|DELETE|WITH", s[0].lstrip())]
        assert len(asked) > 40
        wrong = {}
        with desk.database.engine.connect() as connection:
            for text, parameters in asked:
                (found,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}", parameters).scalar_one()
                if not is_flat_there(found["Plan"]):
                    wrong[text] = found["Plan"]
        assert not wrong, "\n\n".join(f"{text[:300]}\n  {str(steps)[:1000]}" for text, steps in wrong.items())


ACTS: dict[str, Callable[[Office], object]] = {
    "a panic and its page": lambda desk: desk.panic("Another one.", subject="Strange login"),
    "a tick": lambda desk: desk.escalation.tick(),
    "an answer": lambda desk: desk.reply(desk.page("ana"), "ack"),
    "a follow-up": lambda desk: desk.deliver(mail("More.", subject="Re: it", in_reply_to="<rita-1@example.com>")),
    "metrics": lambda desk: Health(desk.store, lambda: True, lambda: True).figures(),
    "what is known while the database is away": lambda desk: desk.store.read(
        lambda tx: tx.search.next_open_incidents(5)
    ),
    "whether the operators were told": lambda desk: desk.store.read(lambda tx: tx.queue.told_operators("x", desk.now)),
}


@pytest.mark.parametrize("act", ACTS)
def test_an_act_costs_the_same_beside_ten_open_incidents_and_beside_ten_thousand(
    tmp_path_factory: pytest.TempPathFactory, act: str
) -> None:
    costs = []
    for others in (10, MANY):
        desk = Office(tmp_path_factory.mktemp("desk"))
        first = desk.panic()
        add_many(desk.database, first.mail_id, others)
        costs.append(steps_of(desk, lambda: ACTS[act](desk)))  # noqa: B023 - it is called here
        desk.close()
    # The counts of what waits go to a limit, and an index is a level deeper.
    assert costs[1] <= 1.5 * costs[0] + (200 if act == "metrics" else 20), costs


def test_whoever_has_nothing_to_do_begins_no_write(desk: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.panic()
    desk.settle()

    def never(store: Store, name: str, work: object) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(Store, "write", never)
    assert not any([desk.intake.work(), *(lane.work() for lane in desk.lanes)])
