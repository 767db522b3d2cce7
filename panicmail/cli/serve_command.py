"""The daemon, and the demo that runs one."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from panicmail.cli.command_context import config_option, last_words, load

#: Of each option that takes a port.
_PORT: dict[str, Any] = {"default": 0, "type": click.IntRange(0, 65535), "metavar": "N"}


@click.command()
@config_option
def serve(config_file: str | None) -> None:
    """The daemon, in the foreground. SIGTERM stops it, SIGHUP reads the configuration again."""
    from panicmail import log
    from panicmail.check import own_files
    from panicmail.daemon import serve as run
    from panicmail.delivery import push_router
    from panicmail.mail import encryption
    from panicmail.store import open_store

    with last_words():
        config = load(config_file)
        log.configure(config.log.format, config.log.level)
        push_router.expect_usable(config)  # which also loads what pushing needs, before a page waits for it
        encryption.expect_usable(config)
        own_files.narrow(config)
        database = open_store.connect(config)
        with open_store.alone(database):  # first: the tables of a running daemon are not for us to change
            open_store.bring_up_to_date(database)
            status = run(config, database)
    sys.stderr.flush()
    # Calls to GitLab or the relay may still hang in their threads; their attempts are on record, so nobody waits.
    os._exit(status)


@click.command()
@click.option("-c", "--config", metavar="FILE", expose_value=False, help="Not used: the demo makes its own.")
@click.option("--keep", is_flag=True, help="Stay up afterwards, to play with, until Ctrl-C.")
@click.option("--sla", default=30, show_default=True, type=click.IntRange(6, 600), metavar="SECONDS",
              help="What the service level of 15 minutes is compressed to.")  # fmt: skip
@click.option("--smtp-port", **_PORT)
@click.option("--web-port", **_PORT)
@click.option("--gitlab-port", **_PORT)
@click.option("--relay-port", **_PORT)
def demo(keep: bool, sla: int, **ports: int) -> None:
    """The whole story on this machine, nothing to configure.

    A sandbox GitLab and mail relay, the real daemon between them: a panic, its issue, page, reminder, breach,
    escalation, acknowledgement and receipt. Nothing leaves this machine. Ports that are not given are free ones.
    """
    from panicmail.sandbox import demo as story

    click.get_current_context().exit(story.run(sla=sla, keep=keep, **ports))


COMMANDS = (serve, demo)
