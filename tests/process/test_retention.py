"""Retention: what is over for long enough goes, with a record; what is open, held or unfinished stays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from panicmail import crashpoints
from panicmail.config import values
from panicmail.escalation.reconciler import Reconciler
from panicmail.escalation.restore_guard import RestoreGuard
from panicmail.escalation.retention import Retention, RetentionLimits
from panicmail.incident.model import Incident
from panicmail.incident.reply_commands import Command
from panicmail.store import migrate
from panicmail.store.erasures import GONE
from panicmail.store.tables import incidents, mails, outbox, pages, raws, timeline
from panicmail.store.watermark import WatermarkFile
from tests.kept_site import Site, made_site
from tests.office import Office
from tests.program import run

DAY = timedelta(days=1)
LIMITS = RetentionLimits(incidents=100 * DAY)
RAW = RetentionLimits(raw_mails=40 * DAY)


def over(office: Office, subject: str = "over", sender: str = "Rita Lopez <rita@example.com>") -> Incident:
    """A panic that was acknowledged and closed."""
    office.now += timedelta(seconds=1)
    incident = office.panic(subject=subject, sender=sender)
    office.act(incident, "ana", Command.YES)
    office.act(incident, "ana", Command.RESOLVE)
    office.settle()
    return incident


def run_for(office: Office, limits: RetentionLimits, days: int) -> int:
    """The daemon runs for some days, a look an hour would change nothing more."""
    erased = 0
    duty = Retention(office.store, lambda: limits)
    for _ in range(days):
        office.now += DAY
        erased += duty.run()
    return erased


def there(office: Office) -> set[str]:
    return {incident.ref for incident in office.incidents()}


def test_a_closed_incident_goes_whole_after_its_time_and_the_record_says_so(office: Office) -> None:
    old = over(office)
    office.now += 50 * DAY
    young = over(office, "young")
    office.now += 50 * DAY
    assert run_for(office, LIMITS, 3) == 1
    assert there(office) == {young.ref}
    for table in (pages, outbox, timeline):
        with office.database.reading() as connection:
            left = sa.select(sa.func.count()).where(table.c.incident_id == old.id)
            assert connection.execute(left).scalar_one() == 0
    with office.database.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(mails)).scalar_one() == 1
        assert connection.execute(sa.select(sa.func.count()).select_from(raws)).scalar_one() == 1
    (line,) = office.store.read(lambda tx: tx.erasures.lines(10))
    assert (line.what, line.ref, line.by, line.facts["mails"]) == ("incident", old.ref, "retention", 1)
    assert "rita" not in str(line)


def test_what_is_open_or_held_or_unfinished_stays_however_old_it_is(office: Office) -> None:
    open_, held, unfinished = office.panic(subject="open"), office.panic(subject="held"), over(office, "unfinished")
    office.act(held, "ana", Command.YES)
    office.settle()
    with office.database.writing() as connection:
        pending = {"state": "queued", "done_at": None}
        connection.execute(outbox.update().where(outbox.c.incident_id == unfinished.id).values(pending))
    office.now += 400 * DAY
    newest = office.panic(subject="newest")
    limits = RetentionLimits(raw_mails=40 * DAY, incidents=40 * DAY)
    assert run_for(office, limits, 4) == 0
    assert there(office) == {each.ref for each in (open_, held, unfinished, newest)}
    assert all(office.store.read(lambda tx: tx.mails.raw(each.mail_id)) != GONE for each in (open_, held, unfinished))  # noqa: B023


def test_raw_mails_go_and_everything_else_stays_readable(office: Office) -> None:
    old = over(office)
    office.now += 50 * DAY
    over(office, "newest")
    assert run_for(office, RAW, 3) == 1
    assert office.store.read(lambda tx: tx.mails.raw(old.mail_id)) == GONE
    assert office.events(old)
    assert run_for(office, RAW, 3) == 0, "once is enough"
    accounting = Reconciler(office.store, lambda: office.settings)
    assert accounting.sweep() == {}


def test_neither_the_accounts_nor_the_mark_miss_what_was_erased(office: Office, tmp_path: Path) -> None:
    for number in range(3):
        office.now += timedelta(minutes=1)
        over(office, f"number {number}")
    mark = WatermarkFile(tmp_path / "mark")
    RestoreGuard(office.store, lambda: office.settings, mark).remember()
    office.now += 101 * DAY
    assert run_for(office, LIMITS, 4) == 2, "the newest stays: by it an old copy is told"
    assert not RestoreGuard(office.store, lambda: office.settings, mark).start()
    accounting = Reconciler(office.store, lambda: office.settings)
    assert accounting.reconcile() == ()
    assert accounting.sweep() == {}


def test_a_clock_that_jumps_years_ahead_and_back_erases_nothing(office: Office) -> None:
    over(office)
    over(office, "newest")
    duty = Retention(office.store, lambda: LIMITS)
    for ahead in (0, 4000, 0, 9000, 1):  # a daemon looks each hour, whatever its clock says
        office.now += ahead * DAY
        assert duty.run() == 0
        office.now -= ahead * DAY
        office.now += timedelta(hours=1)
    assert len(there(office)) == 2


def test_nothing_is_erased_where_nobody_asked_for_it(office: Office) -> None:
    over(office)
    over(office, "newest")
    office.now += 4000 * DAY
    assert run_for(office, RetentionLimits(), 4) == 0
    assert office.store.read(lambda tx: tx.erasures.planned_at()) is None


@pytest.mark.parametrize(("text", "days"), [("30d", 30), ("400d", 400), ("36500d", 36500), ("", None)])
def test_a_retention_is_a_number_of_days(text: str, days: int | None) -> None:
    assert values.retention(text) == (timedelta(days=days) if days else None)


@pytest.mark.parametrize("wrong", ["29d", "0d", "-40d", "1y", "40", 40, True, "40 d", "４０d", "99999d", ["40d"]])
def test_a_wrong_retention_says_what_is_right(wrong: object) -> None:
    with pytest.raises(ValueError, match="at least 30d"):
        values.retention(wrong)


# -- one person's data


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Site]:
    made = made_site(tmp_path / "host", None)
    with contextlib.closing(made.office):
        yield made


def test_one_persons_incidents_are_forgotten_and_what_is_not_over_is_named(host: Site) -> None:
    gone, other = over(host.office), over(host.office, "of another", sender="Bo <bo.ext@example.com>")
    office, config = host.office, host.folder / "panicmail.toml"
    done = host.run("forget", "-c", config, "--yes", "Rita@example.com")
    kept = {incident.ref for incident in office.incidents()}
    assert gone.ref not in kept
    assert other.ref in kept
    assert "Erased: 1 of 3 incidents" in done.output
    assert all(ref in str(done.exception) for ref in kept - {other.ref})
    told = host.run("retention", "-c", config)
    assert gone.ref in told.output
    assert "kept for ever" in told.output
    assert "nothing reported by" in str(host.run("forget", "-c", config, "--yes", "x@example.com").exception)


@pytest.mark.parametrize(("point", "left"), [("retention.erase.commit", True), ("retention.erase.committed", False)])
def test_an_erasure_cut_short_is_whole_or_none(host: Site, point: str, left: bool) -> None:
    gone, _newest = over(host.office), over(host.office, "of another", sender="Bo <bo.ext@example.com>")
    config = str(host.folder / "panicmail.toml")
    environ = {"PANICMAIL_CRASH_AT": point}
    done = run("forget", "-c", config, "--yes", "rita@example.com", cwd=host.folder, environ=environ)
    assert done.status == crashpoints.KILLED, done.err
    assert (gone.ref in there(host.office)) is left
    assert bool(host.office.store.read(lambda tx: tx.erasures.lines(5))) is not left


def test_a_database_of_the_version_before_gets_the_record_and_loses_nothing(office: Office) -> None:
    incident = office.panic()
    migrate.downgrade(office.database, "0022")
    migrate.upgrade(office.database)
    migrate.check(office.database)
    with office.database.reading() as connection:
        assert connection.execute(sa.select(incidents.c.ref)).scalars().all() == [incident.ref]
