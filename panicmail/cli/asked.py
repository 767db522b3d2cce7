"""What the commands are given: options, the configuration, its database, instants and spans."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from panicmail.errors import Mistake

if TYPE_CHECKING:
    from panicmail.config import Config
    from panicmail.incident import Incident
    from panicmail.orders import Orders
    from panicmail.store.book import Book
    from panicmail.store.ledger import Ledger

config_option = click.option("-c", "--config", "config_file", metavar="FILE", help="The configuration (TOML).")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def load(config_file: str | None) -> Config:
    from panicmail import config

    return config.load(config.find(config_file))


def open_ledger(config_file: str | None) -> tuple[Ledger, Orders]:
    from panicmail import assembly, log, orders
    from panicmail.store.ledger import Ledger

    config = load(config_file)
    log.configure(config.log.format, "warning")
    _expect_database(config)
    channels = orders.channels_of(config)
    ledger = Ledger(
        assembly.open_database(config),
        operators=lambda: config.operators.page,
        channels=lambda person: channels.get(person, ()),
    )
    return ledger, orders.from_config(config, assembly.signing_keys(config, ledger))


def _expect_database(config: Config) -> None:
    url = config.database.url.get_secret_value()
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:") and not path.exists():
        raise Mistake(f"there is no database at {path} yet; panicmail serve makes it")


def find_incident(book: Book, ref: str) -> Incident:
    incident = book.incident_by_ref(ref)
    if incident is not None:
        return incident
    latest = [i.ref for i in book.list_incidents(limit=5)]
    known = f"the latest are {', '.join(latest)}" if latest else "there are no incidents yet"
    raise Mistake(f"there is no incident {ref!r}; {known}")


def instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; write it as 2026-12-24T18:00Z", param_hint="--at") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def span(text: str) -> timedelta:
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    form = re.fullmatch(r"(\d{1,5})([mhdw])", text.strip())
    if form is None:
        raise click.BadParameter(f"{text!r} is no span; write it as 90d, 12h or 30m", param_hint="--since")
    return timedelta(**{units[form[2]]: int(form[1])})
