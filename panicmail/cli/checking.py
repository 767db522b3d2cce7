"""`panicmail check`: what the configuration comes to, one row each, with the mend."""

from __future__ import annotations

import textwrap
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from panicmail.cli.asked import config_option, json_option, load
from panicmail.cli.printing import iso, print_json, shown

if TYPE_CHECKING:
    from panicmail.check import Row
    from panicmail.config import Config

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}
_WIDTH = 100


@click.command()
@config_option
@json_option
@click.option("--offline", is_flag=True, help="The file alone, and the files it names; nobody else is asked.")
def check(config_file: str | None, as_json: bool, offline: bool) -> None:
    """What the configuration comes to, row by row.

    One row each: ok, warning or failed, and the mend; then what was inferred, and what this version does not use.

    Exit status: 0 nothing failed, 1 something did, 2 the configuration is wrong.
    """
    if not offline:
        raise click.UsageError(
            "trying GitLab, the relay, DNS and the pages themselves comes with a later version; "
            "panicmail check --offline looks at the configuration alone"
        )
    from panicmail import check as checks

    config, now = load(config_file), datetime.now(UTC)
    rows = checks.offline(config, now)
    if as_json:
        print_json(_document(config, rows, now))
    else:
        _print(config, rows)
    if any(row.verdict is checks.Verdict.FAILED for row in rows):
        click.get_current_context().exit(1)


def _document(config: Config, rows: list[Row], now: datetime) -> dict[str, Any]:
    return {
        "configuration": str(config.path) if config.path else None,
        "at": iso(now),
        "rows": [{"subject": r.subject, "verdict": r.verdict.value, "found": r.found, "mend": r.mend} for r in rows],
        "inferred": config.inferred,
        "not_yet": list(config.not_yet),
        "warnings": list(config.warnings),
    }


def _print(config: Config, rows: list[Row]) -> None:
    widest = max(len(row.subject) for row in rows)
    for row in rows:
        _print_row(row, widest)
    _print_list("Inferred: nobody wrote it down", [f"{key} = {value}" for key, value in config.inferred.items()])
    _print_list("Read, but not used by this version", list(config.not_yet))
    count = Counter(row.verdict.value for row in rows)
    warnings = f"{count['warning']} warning{'' if count['warning'] == 1 else 's'}"
    click.echo(f"\n{count['ok']} ok, {warnings}, {count['failed']} failed. Neither GitLab nor relay nor DNS was asked.")


def _print_row(row: Row, widest: int) -> None:
    verdict = click.style(f"{row.verdict.value:8}", fg=_COLOURS[row.verdict.value])
    indent = " " * (8 + widest + 3)
    lines = textwrap.wrap(shown(row.found), _WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    click.echo(f"{verdict} {row.subject:{widest}}  " + f"\n{indent}".join(lines))
    if row.mend:
        click.echo(f"{indent}→ {shown(row.mend)}")


def _print_list(title: str, items: list[str]) -> None:
    if items:
        click.echo(f"\n{title}")
        for item in items:
            click.echo(f"  {shown(item)}")


COMMANDS = (check,)
