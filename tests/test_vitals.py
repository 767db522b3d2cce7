"""Vital signs: what makes the daemon unready, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from panicmail.daemon.health import Health
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.unit_of_work import Store


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Store]:
    database = Database(f"sqlite:///{tmp_path / 'panicmail.db'}")
    migrate.upgrade(database)
    ledger = Store(database)
    yield ledger
    ledger.close()
    database.close()


def test_it_is_ready_when_nothing_is_wrong(ledger: Store) -> None:
    assert Health(ledger, lambda: True, lambda: True).unready() == ()


def test_every_reason_not_to_be_ready_is_named(ledger: Store) -> None:
    reasons = Health(ledger, lambda: False, lambda: False).unready()
    assert reasons == ("the SMTP listener is closed", "the database writer has stopped")


def test_a_mail_that_could_not_be_stored_makes_it_unready_until_one_could(ledger: Store) -> None:
    vitals = Health(ledger, lambda: True, lambda: True)
    vitals.not_stored("database or disk is full")
    assert vitals.unready() == ("the last mail could not be stored: database or disk is full",)
    vitals.stored()
    assert vitals.unready() == ()
    assert vitals.figures().mails_accepted == 1
