"""What the commands are given: options, the configuration, its database, instants and spans."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from panicmail.errors import ConfigError, Mistake, PanicmailError, StoreFailed

if TYPE_CHECKING:
    from panicmail.config import Config
    from panicmail.incident.model import Incident
    from panicmail.oncall.runtime_settings import RuntimeSettings
    from panicmail.store.transaction import Transaction
    from panicmail.store.unit_of_work import Store

config_option = click.option("-c", "--config", "config_file", metavar="FILE", help="The configuration (TOML).")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def load(config_file: str | None) -> Config:
    from panicmail import config

    return config.load(config.find(config_file))


@contextlib.contextmanager
def last_words() -> Iterator[None]:
    """Why a process that logs cannot start, in its log and in the log's form; on a terminal as of any command."""
    from panicmail import log

    log.configure()  # until the configuration says how
    try:
        yield
    except (ConfigError, Mistake, StoreFailed) as exc:
        if not log.speaks_json():
            raise
        status = _log_refusal(exc)
    else:
        return
    click.get_current_context().exit(status)


def _log_refusal(exc: PanicmailError) -> int:
    """Answers the exit status."""
    import structlog

    logger = structlog.get_logger()
    if isinstance(exc, ConfigError):
        for mistake in exc.mistakes:  # a line each, as people are told
            logger.critical("config.refused", mistakes=[mistake], text="not started")
        return 2
    logger.critical("start.failed", reason=f"{exc}", text="not started")
    return 1


def open_store_and_settings(config_file: str | None) -> tuple[Store, RuntimeSettings]:
    from panicmail import log
    from panicmail.oncall import runtime_settings
    from panicmail.store import open_store
    from panicmail.store.unit_of_work import Store

    config = load(config_file)
    log.configure(config.log.format, "warning")
    _expect_database(config)
    channels = runtime_settings.channels_of(config)
    store = Store(
        open_store.open_database(config),
        operators=lambda: config.operators.page,
        channels=lambda person: channels.get(person, ()),
    )
    return store, runtime_settings.from_config(config, open_store.signing_keys(config, store))


def _expect_database(config: Config) -> None:
    url = config.database.url.get_secret_value()
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:") and not path.exists():
        raise Mistake(f"there is no database at {path} yet; panicmail serve makes it")


def find_incident(tx: Transaction, ref: str) -> Incident:
    incident = tx.incidents.by_ref(ref)
    if incident is not None:
        return incident
    latest = [i.ref for i in tx.search.list_incidents(limit=5)]
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
