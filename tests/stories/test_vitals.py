"""Vital signs: what makes the daemon unready, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from panicmail.daemon.watchdog import Health
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.unit_of_work import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(f"sqlite:///{tmp_path / 'panicmail.db'}")
    migrate.upgrade(database)
    store = Store(database)
    yield store
    store.close()
    database.close()


def test_it_is_ready_when_nothing_is_wrong(store: Store) -> None:
    assert Health(store, lambda: True, lambda: True).unready() == ()


def test_every_reason_not_to_be_ready_is_named(store: Store) -> None:
    reasons = Health(store, lambda: False, lambda: False).unready()
    assert reasons == ("the SMTP listener is closed", "the database writer has stopped")


def test_a_mail_that_could_not_be_stored_makes_it_unready_until_one_could(store: Store) -> None:
    health = Health(store, lambda: True, lambda: True)
    health.not_stored("database or disk is full")
    assert health.unready() == ("the last mail could not be stored: database or disk is full",)
    health.stored()
    assert health.unready() == ()
    assert health.figures().mails_accepted == 1
