"""`panicmail check`: everything the configuration names, tried; one row each, with the mend. Or a test page."""

from __future__ import annotations

import signal
import textwrap
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from panicmail.cli.command_context import config_option, json_option, load, open_store_and_settings
from panicmail.cli.output import iso, print_json, runner, shown
from panicmail.errors import Mistake

if TYPE_CHECKING:
    from panicmail.check import Row
    from panicmail.check.paging_checks import PageTest
    from panicmail.config import Config
    from panicmail.incident.people import Person

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}
_WIDTH = 100
_NOT_TRIED = "Not tried from here: the MX records of your domain, and a phone's do-not-disturb. --page shows both."
_OFFLINE = "Neither GitLab nor relay nor DNS was asked."


@click.command()
@config_option
@json_option
@click.option("--offline", is_flag=True, help="The file alone, and the files it names; nobody else is asked.")
@click.option("--page", "person", metavar="PERSON", help="Send PERSON a test page by every way; wait for the reply.")
@click.option("--mx", "mx", is_flag=True, help="Whether your mail server removes forged results; needs a mail round.")
@click.option("--wait", "wait", metavar="SPAN", help="How long to wait for it, such as 90s or 5m.  [default: 2m]")
def check(config_file: str | None, as_json: bool, offline: bool, wait: str | None, **mails: Any) -> None:
    """Try every real thing in the configuration, row by row.

    One row each: ok, warning or failed, and the mend; then what was inferred.
    Nothing is sent, created or changed, but for --page, which sends one person a test page, and --mx, which sends
    panicmail itself a mail by relay and MX.

    Exit status: 0 nothing failed (with --page: everything is proven), 1 something did, 2 the configuration is wrong.
    """
    person, mx = mails["person"], mails["mx"]  # which mail is to be sent, if any
    if person is None and not mx and wait is not None:
        raise click.UsageError("--wait belongs to --page PERSON or --mx")
    if (person is not None or mx) and offline:
        raise click.UsageError("--page and --mx send a mail, so they cannot be --offline")
    if person is not None and mx:
        raise click.UsageError("--page and --mx are two commands")
    if mx:
        rows = _mx(config_file, _seconds(wait or "2m"), as_json)
    elif person is not None:
        rows = _page(config_file, person, _seconds(wait or "2m"), as_json)
    else:
        rows = _run_checks(config_file, as_json, offline)
    if any(row.verdict.value == "failed" for row in rows) or (person is not None and not _is_proven(rows)):
        click.get_current_context().exit(1)


def _run_checks(config_file: str | None, as_json: bool, offline: bool) -> Sequence[Row]:
    from panicmail import log
    from panicmail.check import offline_checks as alone
    from panicmail.check import online_checks

    config, now = load(config_file), datetime.now(UTC)
    log.configure(config.log.format, "error")
    rows = alone.everything(config, now) if offline else online_checks.everything(config, now)
    if as_json:
        print_json(_document(config, rows, now))
    else:
        print_report(config, rows, offline=offline)
    return rows


def print_report(config: Config, rows: Sequence[Row], *, offline: bool) -> None:
    """The rows, what was inferred, and the verdict."""
    _print_rows(rows)
    _print_list("Inferred: nobody wrote it down", [f"{key} = {value}" for key, value in config.inferred.items()])
    click.echo(f"\n{_OFFLINE if offline else _NOT_TRIED}")
    click.echo(_verdict(rows, offline))


def _verdict(rows: Sequence[Row], offline: bool) -> str:
    count = Counter(row.verdict.value for row in rows)
    figures = f"{count['ok']} ok, {_counted(count['warning'], 'warning')}, {count['failed']} failed"
    if count["failed"]:
        return f"NOT READY: {figures}. Mend what failed first; how is told behind each arrow."
    can = "could be" if offline else "would be"
    return f"READY: {figures}. A panic {can} taken, filed and paged."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _document(config: Config, rows: Sequence[Row], now: datetime) -> dict[str, Any]:
    return {
        "configuration": str(config.path) if config.path else None,
        "at": iso(now),
        "rows": _as_json(rows),
        "inferred": config.inferred,
        "warnings": list(config.warnings),
    }


def _as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {"group": r.group.value, "subject": r.subject, "person": r.person or None, "verdict": r.verdict.value,
         "found": r.found, "mend": r.mend}
        for r in rows
    ]  # fmt: skip


# -- the way in


def _mx(config_file: str | None, wait: timedelta, as_json: bool) -> Sequence[Row]:
    from panicmail.check import mx_checks

    config = load(config_file)
    if config.authentication.method != "trusted":
        raise Mistake('--mx tries authentication.method = "trusted"; here it is "' + config.authentication.method + '"')
    store, settings = open_store_and_settings(config_file)
    rows = mx_checks.try_mx(store, settings, config, wait.total_seconds(), _Signals().stopped)
    if as_json:
        print_json({"rows": _as_json(rows)})
    else:
        _print_rows(rows)
    return rows


# -- the test page


def _page(config_file: str | None, word: str, wait: timedelta, as_json: bool) -> Sequence[Row]:
    from panicmail.check import paging_checks
    from panicmail.incident import people

    config = load(config_file)
    store, settings = open_store_and_settings(config_file)
    person = people.by_word(settings.people, word)
    if person is None:
        raise Mistake(f"there is no person {word!r}; there are {', '.join(sorted(settings.people))}")
    signals = _Signals()
    trial = paging_checks.send(store, settings, config, person)
    try:
        if not as_json:
            _announce(trial, wait)
        proofs = paging_checks.wait(store, trial, wait.total_seconds() if trial.is_out else 0, signals.stopped)
    finally:
        for sentence in paging_checks.close(config, trial):
            click.echo(sentence, err=True)
    if signals.came:
        raise SystemExit(128 + signals.came)
    asked = store.read(lambda tx: paging_checks.proof_asked(tx, settings, person))
    rows = paging_checks.rows(trial, proofs, wait.total_seconds())
    if as_json:
        print_json({"person": person.id, "sent_at": iso(trial.sent_at), "proven": _is_proven(rows), "proof": asked,
                    "rows": _as_json(rows)})  # fmt: skip
    else:
        _print_rows(rows)
        click.echo(f"\n{_conclusion(person, rows)}\n{asked}")
    return rows


@click.group()
@config_option
@click.pass_context
def people(context: click.Context, config_file: str | None) -> None:
    """What panicmail remembers of the people it pages."""
    context.obj = config_file


@people.command("forget-proof")
@config_option
@click.argument("person")
@click.pass_obj
def forget_proof(before: str | None, config_file: str | None, person: str) -> None:
    """Forget what an answer to a test page proved, and ask for it no more.

    What people.PERSON.proof says is asked all the same. The next proved answer to `check --page` is remembered again.
    """
    from panicmail.incident.people import by_word

    store, settings = open_store_and_settings(config_file or before)
    one = by_word(settings.people, person)
    if one is None:
        raise Mistake(f"there is no person {person!r}; there are {', '.join(sorted(settings.people))}")
    how = f"command run by {runner()}"
    was = store.write("command.act", lambda tx: tx.proofs.forget_proof(one.id, how))
    click.echo(f"Nothing was remembered of {one.name}." if not was else
               f"{was} is not asked for any more in replies of {one.name}.")  # fmt: skip


class _Signals:
    """The signals that end the wait. However it ends, the alerts that were opened are closed.

    They are kept and asked for: an exception out of a signal's handler is lost where Python ignores exceptions, as in
    a finalizer, and the wait went on.
    """

    def __init__(self) -> None:
        self.came = 0  #: the number of the first one; 0: none
        self.stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self._keep)

    def _keep(self, number: int, frame: object) -> None:
        self.came = self.came or number
        self.stopped.set()


def _announce(trial: PageTest, wait: timedelta) -> None:
    ways = ", ".join(each.way.shown for each in trial.sent)
    click.echo(f"Test page to {trial.person.name}: {ways}.")
    if trial.is_out:
        until = trial.sent_at + wait
        click.echo(f'Waiting until {until:%H:%M:%S} UTC for the reply: "ack", as to any page.')
    click.echo()


def _is_proven(rows: Sequence[Row]) -> bool:
    return all(row.verdict.value == "ok" for row in rows if row.subject in ("mail", "push"))


def _conclusion(person: Person, rows: Sequence[Row]) -> str:
    if _is_proven(rows):
        return f"PROVEN: a page reaches {person.name}, and the reply counts."
    return f"NOT PROVEN: of a page to {person.name} something stands open; how to mend it is told behind each arrow."


def _seconds(text: str) -> timedelta:
    from panicmail.config import values

    try:
        return values.positive_duration(text)
    except ValueError as exc:
        raise click.BadParameter(f"found {text!r}, expected {exc}", param_hint="--wait") from None


# -- rows


def _print_rows(rows: Sequence[Row]) -> None:
    widest = max(len(row.subject) for row in rows)
    for number, (group, members) in enumerate(groupby(rows, key=lambda row: row.group.value)):
        click.echo(f"\n{group}" if number else group)
        for row in members:
            _print_row(row, widest)


def _print_row(row: Row, widest: int) -> None:
    verdict = click.style(f"{row.verdict.value:8}", fg=_COLOURS[row.verdict.value])
    indent = " " * (2 + 8 + 1 + widest + 2)
    click.echo(f"  {verdict} {row.subject:{widest}}  " + f"\n{indent}".join(_lines(row.found, len(indent))))
    if row.mend:
        click.echo(f"{indent}→ " + f"\n{indent}  ".join(_lines(row.mend, len(indent) + 2)))


def _lines(text: str, indent: int) -> list[str]:
    return textwrap.wrap(shown(text), _WIDTH - indent, break_long_words=False, break_on_hyphens=False)


def _print_list(title: str, items: list[str]) -> None:
    if items:
        click.echo(f"\n{title}")
        for item in items:
            click.echo(f"  {shown(item)}")


COMMANDS = (check, people)
