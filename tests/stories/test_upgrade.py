"""A database written by the version before pages had a table of their own goes on as if nothing had happened.

`data/before_pages.json` is what that version wrote, row by row: one incident resolved, one held, one whose issue the
project refuses, one open with its page out, a mail that nobody has understood, and one in the spool.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from panicmail.incident.model import EffectKind, Incident, State
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.rows import DeliveryState
from panicmail.store.spool import Spool
from tests.office import Office, mail

MINUTE = timedelta(minutes=1)


@cache
def before() -> dict[str, Any]:
    text = (Path(__file__).parents[1] / "data" / "before_pages.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def value(cell: Any, *, naive: bool) -> Any:
    if isinstance(cell, dict) and cell.keys() == {"at"}:
        at = datetime.fromisoformat(cell["at"])
        return at.astimezone(UTC).replace(tzinfo=None) if naive else at
    if isinstance(cell, dict) and cell.keys() == {"octets"}:
        return base64.b64decode(cell["octets"])
    return cell


def restore(url: str) -> None:
    """The database as the version before left it, in the tables it had."""
    database = Database(url)
    migrate.upgrade(database)
    migrate.downgrade(database, before()["revision"])
    with database.engine.begin() as connection:
        tables = sa.MetaData()
        tables.reflect(connection)
        for name in ("mails", "raws", "incidents", "timeline", "outbox"):
            rows = before()["tables"][name]
            kept = [{k: value(v, naive=database.is_sqlite) for k, v in row.items()} for row in rows]
            connection.execute(tables.tables[name].insert(), kept)
            if not database.is_sqlite and "id" in rows[0] and isinstance(rows[0]["id"], int):
                newest = max(row["id"] for row in rows)
                connection.execute(sa.text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {newest})"))
    database.close()


@dataclass
class Upgraded:
    """The office on that database, at the instant it was left."""

    desk: Office

    def incident(self, name: str) -> Incident:
        found = self.desk.store.read(lambda tx: tx.incidents.get(before()["incidents"][name]))
        assert found is not None
        return found

    def pages(self, name: str) -> list[str]:
        """Who was paged for it since the upgrade."""
        tag = f"[PANIC {self.incident(name).ref}]"
        return [posted.recipient.partition("@")[0] for posted in self.desk.relay.sent if posted.subject.startswith(tag)]

    @property
    def old_page(self) -> dict[str, str]:
        page: dict[str, str] = before()["page"]
        return page


@pytest.fixture
def upgraded(tmp_path: Path, database_url: str | None) -> Iterator[Upgraded]:
    url = database_url or f"sqlite:///{tmp_path / 'panicmail.db'}"
    restore(url)
    with closing(Office(tmp_path, url=url)) as desk:  # it brings the tables up to date
        desk.now = datetime.fromisoformat(before()["now"])
        yield Upgraded(desk)


def test_everything_is_as_it_was_and_nothing_is_sent_twice(upgraded: Upgraded) -> None:
    states = {name: upgraded.incident(name).state for name in before()["incidents"]}
    assert states == {"resolved": State.RESOLVED, "held": State.ACKED, "parked": State.OPEN, "open": State.OPEN}
    assert upgraded.incident("held").holder == "ana"
    assert list(upgraded.incident("open").paged) == ["ana"]
    assert upgraded.desk.store.read(lambda tx: tx.invariants.violations()) == {}
    upgraded.desk.settle()
    fifth = [posted for posted in upgraded.desk.relay.sent if "Door alarm" in posted.subject]
    assert upgraded.desk.relay.sent == fifth, "only the mail that waited is told about"
    assert sum(posted.is_page for posted in fifth) == 1


def test_the_escalation_fires_at_its_time(upgraded: Upgraded) -> None:
    due_at = upgraded.incident("open").accepted_at + 15 * MINUTE
    upgraded.desk.wait(seconds=(due_at - upgraded.desk.now).total_seconds() - 1)
    assert set(upgraded.pages("open")) == {"ana"}
    upgraded.desk.wait(seconds=1)
    assert set(upgraded.pages("open")) == {"ana", "max"}


def test_a_reply_to_an_old_page_acknowledges(upgraded: Upgraded) -> None:
    page = upgraded.old_page
    reply = mail("ack", sender="ana@example.com", subject=f"Re: {page['subject']}", in_reply_to=page["message_id"])
    upgraded.desk.deliver(reply, "ana@example.com", [page["reply_to"]])
    assert (upgraded.incident("open").state, upgraded.incident("open").holder) == (State.ACKED, "ana")


def test_the_link_of_an_old_page_acknowledges(upgraded: Upgraded) -> None:
    upgraded.desk.links.act(upgraded.old_page["link"].rpartition("/")[2], "ack")
    assert upgraded.incident("open").holder == "ana"


def test_a_bounce_of_an_old_page_pages_the_next(upgraded: Upgraded) -> None:
    report = (
        b"From: MAILER-DAEMON@mx.example.com\r\nTo: panic@example.com\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nno such user\r\n"
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.com\r\n\r\n"
        b"Final-Recipient: rfc822; ana@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
    )
    upgraded.desk.deliver(report, "", [upgraded.old_page["mail_from"]])
    assert "ana" in upgraded.incident("open").away
    assert upgraded.pages("open") == ["max"]


def test_what_waited_for_the_issue_goes_when_the_project_lets_it_through(upgraded: Upgraded) -> None:
    upgraded.desk.wait(minutes=2)
    assert upgraded.incident("parked").issue_iid == 1
    tasks = upgraded.desk.store.read(lambda tx: tx.outbox.of_incident(before()["incidents"]["parked"]))
    waited = [task for task in tasks if task.lane == "gitlab" and task.do != EffectKind.TWINS]
    assert {task.state for task in waited} == {DeliveryState.ACCEPTED}


def test_a_mail_of_the_old_spool_becomes_an_incident(upgraded: Upgraded, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    for name, octets in before()["spool"].items():
        (folder / name).write_bytes(base64.b64decode(octets))
    spool = Spool(folder)
    spool.open()
    (waiting,) = spool.waiting()
    kept = spool.read(waiting)
    assert kept is not None
    upgraded.desk.store.write("mails.take_in", lambda tx: tx.mails.take_in(*kept))
    upgraded.desk.settle()
    found = upgraded.desk.store.read(lambda tx: tx.incidents.by_mail(before()["spooled"]))
    assert found is not None
    assert found.subject == "Cameras"
    assert len([posted for posted in upgraded.desk.relay.sent if posted.is_page and found.ref in posted.subject]) == 1
