"""Vital signs: what makes the daemon unready, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.ledger import Ledger
from panicmail.vitals import Vitals


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    database = Database(f"sqlite:///{tmp_path / 'panicmail.db'}")
    migrate.upgrade(database)
    ledger = Ledger(database)
    yield ledger
    ledger.close()
    database.close()


def test_it_is_ready_when_nothing_is_wrong(ledger: Ledger) -> None:
    assert Vitals(ledger, lambda: True, lambda: True).unready() == ()


def test_every_reason_not_to_be_ready_is_named(ledger: Ledger) -> None:
    reasons = Vitals(ledger, lambda: False, lambda: False).unready()
    assert reasons == ("the SMTP listener is closed", "the database writer has stopped")


def test_a_mail_that_could_not_be_stored_makes_it_unready_until_one_could(ledger: Ledger) -> None:
    vitals = Vitals(ledger, lambda: True, lambda: True)
    vitals.not_stored("database or disk is full")
    assert vitals.unready() == ("the last mail could not be stored: database or disk is full",)
    vitals.stored()
    assert vitals.unready() == ()
    assert vitals.figures().mails_accepted == 1
