"""Every real thing tried: database, disks, GitLab, relay, calendars, push URLs, doors, the address in the mails.

Everything is asked at once, and nothing waits for another: an area that hangs costs its own rows. Nothing is created,
sent or changed. What cannot be tried from here, the MX records of the domain and a phone's do-not-disturb, shows in
what came: mail from outside, and the replies to test pages (`check --page`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from panicmail.check import (
    database_checks,
    external_mail,
    gitlab_checks,
    listener_checks,
    offline_checks,
    people_checks,
    relay_checks,
    web_checks,
)
from panicmail.check.database_checks import KnownFindings, Tried
from panicmail.check.offline_checks import Host
from panicmail.check.result import Group, ParallelChecks, PendingAnswer, Row, in_order
from panicmail.config import Config
from panicmail.errors import PanicmailError
from panicmail.oncall import runtime_settings
from panicmail.oncall.runtime_settings import RuntimeSettings

#: For everything together, in seconds. Each area ends by itself before.
SECONDS = 14.0
#: Signs the tokens of addresses that are only shown to the relay.
_NO_KEYS = (("a", b""),)

Rows = Callable[[], list[Row]]


def everything(config: Config, now: datetime, host: Host | None = None) -> list[Row]:
    """Every row, in order. `now`: this host's instant."""
    asking, host = ParallelChecks(SECONDS), host or Host()
    tried = asking.ask(lambda: database_checks.try_database(config))
    calendars = asking.ask(lambda: people_checks.ask_calendars(config, now))
    settings = runtime_settings.from_config(config, _NO_KEYS)
    areas = {group: asking.ask(work) for group, work in _areas(config, settings, now, host).items()}
    known = _store(tried, config, settings, now)
    if (outcomes := calendars.or_none()) is not None:  # else their last copies answer
        settings = runtime_settings.from_config(config, _NO_KEYS, {outcome.role: outcome.copy for outcome in outcomes})
    failures = {outcome.role: outcome.failure for outcome in outcomes or ()}
    rows = [*offline_checks.rows(config, settings, now, host, failures), *known]
    for group, answer in areas.items():
        rows += _answered(group, answer)
    return in_order(_recalled(rows, settings, _known(tried)), config.people)


def _areas(config: Config, settings: RuntimeSettings, now: datetime, host: Host) -> Mapping[tuple[Group, str], Rows]:
    """What is tried, by the group and subject under which it is told that it could not be."""
    return {
        (Group.DOOR, "doors"): lambda: listener_checks.rows(config),
        (Group.STORE, "spool"): lambda: list(database_checks.spool(config, host.device)),
        (Group.GITLAB, "gitlab answers"): lambda: gitlab_checks.rows(config, now),
        (Group.RELAY, "relay answers"): lambda: relay_checks.rows(config, settings, now),
        (Group.WEB, "web answer"): lambda: web_checks.rows(config, now),
    }


def _answered(what: tuple[Group, str], answer: PendingAnswer[list[Row]]) -> list[Row]:
    group, subject = what
    try:
        return answer.wait()
    except PanicmailError as exc:
        return [group.failed(subject, f"{exc}", "see what hangs there; run panicmail check again")]


def _known(answer: PendingAnswer[Tried]) -> KnownFindings | None:
    tried = answer.or_none()
    return tried.known if tried else None


def _recalled(rows: list[Row], settings: RuntimeSettings, known: KnownFindings | None) -> list[Row]:
    return people_checks.recalled(rows, settings, known.refused_pushes, known.proofs) if known else rows


def _store(answer: PendingAnswer[Tried], config: Config, settings: RuntimeSettings, now: datetime) -> list[Row]:
    try:
        tried = answer.wait()
    except PanicmailError as exc:
        mend = "see that the database's server answers, and that nothing holds its disk"
        return [Group.STORE.failed("database answers", f"{exc}", mend)]
    if tried.known is None:
        return [*tried.rows, *people_checks.proven(settings, (), now)]
    newest = external_mail.row(config, tried.known, now)
    proven = people_checks.proven(settings, tried.known.proofs, now)
    return [*tried.rows, newest, *database_checks.waiting(tried.known), *proven]


# -- what the daemon asks again


def check_again(
    config: Config, settings: RuntimeSettings, known: KnownFindings, now: datetime, host: Host
) -> list[Row]:
    """What a panic needs, and what becomes wrong by itself: the rows the operators are told about.

    Args:
        settings: The running daemon's, with the calendars it read.
    """
    asking = ParallelChecks(SECONDS)
    areas = {
        (Group.GITLAB, "gitlab answers"): asking.ask(lambda: gitlab_checks.rows(config, now)),
        (Group.RELAY, "relay answers"): asking.ask(lambda: relay_checks.rows(config, settings, now)),
        (Group.WEB, "web answer"): asking.ask(lambda: web_checks.rows(config, now)),
    }
    rows = [*offline_checks.rows(config, settings, now, host, {}), external_mail.row(config, known, now)]
    for group, answer in areas.items():
        rows += _answered(group, answer)
    return [row for row in _recalled(rows, settings, known) if row.cause]
