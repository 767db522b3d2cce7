"""The commands: a thin face over the use cases.

Exit status: 0 done, 1 could not be done, 2 wrong usage or configuration. Answers go to stdout, logs and errors to
stderr; with `--json` stdout is one JSON document and nothing else. What does not belong to every command is imported
inside the one that needs it, so that `--help` is there at once.

    running      serve, demo
    looking      incidents, show, mail, oncall, report
    rota         what oncall answers
    acting       ack, resolve, take, escalate, retry
    checking     check
    drilling     drill
    explaining   explain
    keeping      backup, restore, export, retention, forget, keys
    watching     watch
    asked        what the commands are given: options, configuration, database, instants
    printing     how they answer: tables, JSON, a stranger's words made harmless
"""

from __future__ import annotations

import os
import sys

import click

from panicmail import __version__, crashpoints
from panicmail.cli import (
    check_command,
    drill_command,
    explain_command,
    incidents_command,
    keeping_commands,
    keys_command,
    response_commands,
    serve_command,
    watch_command,
)
from panicmail.errors import ConfigError, Mistake, StoreFailed


def main() -> None:
    """The console script. Ends the process."""
    os.umask(0o077)  # whatever is written, by any command, is for its user alone (see `own_files`)
    try:
        crashpoints.set_traps(os.environ)
        status = cli.main(standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        status = exc.exit_code
    except click.Abort:
        status = 1
    except ConfigError as exc:
        for mistake in exc.mistakes:
            click.echo(mistake, err=True)
        status = 2
    except (Mistake, StoreFailed) as exc:
        click.echo(f"panicmail: {exc}", err=True)
        status = 1
    sys.exit(status or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="panicmail")
def cli() -> None:
    """A panic mailbox that owes its reporter a human."""


for _family in (
    serve_command,
    watch_command,
    incidents_command,
    response_commands,
    check_command,
    drill_command,
    explain_command,
    keeping_commands,
    keys_command,
):
    for _command in _family.COMMANDS:
        cli.add_command(_command)
