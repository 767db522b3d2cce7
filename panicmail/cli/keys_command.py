"""Keys: `keys dkim`, `keys rotate`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from panicmail.cli.command_context import config_option, load, open_store_and_settings
from panicmail.errors import Mistake

if TYPE_CHECKING:
    from panicmail.store.transaction import Transaction


@click.group()
@config_option
@click.pass_context
def keys(context: click.Context, config_file: str | None) -> None:
    """Keys that panicmail signs with."""
    context.obj = config_file


@keys.command()
@config_option
@click.option("--selector", help="Its name in the domain; else that of [relay] dkim.")
@click.option("--domain", help="As whom mail is signed; else that of [relay] dkim, or of relay.sender.")
@click.pass_obj
@click.option("--key-file", type=click.Path(path_type=Path, dir_okay=False), help="Where the private key is kept.")
def dkim(
    before: str | None, config_file: str | None, selector: str | None, domain: str | None, key_file: Path | None
) -> None:
    """Make the key that outgoing mail is signed with, if it is not there, and print the DNS record of it."""
    from panicmail import config as configuration
    from panicmail.mail import dkim_signing

    relay = configuration.load(configuration.find(config_file or before)).relay
    given = relay.dkim
    file = key_file or (given.key_file if given else None)
    if file is None:
        raise Mistake('found no [relay] dkim; write dkim = { selector = "panic1", key_file = "dkim.key" } there')
    name = selector or (given.selector if given else "panic1")
    if not file.exists():
        _write(file, dkim_signing.new_key())
        click.echo(f"Made {file}. Restart panicmail to sign with it, once the record is in DNS.", err=True)
    found = dkim_signing.signer(name, domain or relay.dkim_domain, file)
    if found is None:
        raise Mistake(f"{file} cannot be read")
    try:
        click.echo(dkim_signing.record(found))
    except ValueError as exc:
        raise Mistake(f"{file}: found {exc}; expected one that panicmail keys dkim made") from exc


@keys.command()
@config_option
@click.option("--void-old", is_flag=True, help="A key has leaked: nothing it signed acts any more, from now on.")
@click.pass_obj
def rotate(before: str | None, config_file: str | None, void_old: bool) -> None:
    """Make a new key that reply addresses and links are signed with. Pages already sent go on to act.

    Every node verifies by it within a minute and signs by it three minutes later; nothing is restarted. The old key
    verifies for 180 days more, and longer while something is open that it signed for. Once a year is often.
    """
    config = load(config_file or before)
    if config.tokens.key_file is not None:
        raise Mistake(f"the keys are lines of {config.tokens.key_file}, which is yours. On every node, put a new line "
                      "below the first: a letter of its own and what `openssl rand -hex 32` says. Two minutes later "
                      "move it to the top, and leave the old line: it verifies")  # fmt: skip
    store, _settings = open_store_and_settings(config_file or before)

    def work(tx: Transaction) -> tuple[str, list[str]]:
        kid, gone = tx.keys.rotate(secrets.token_bytes(32))
        return kid, gone + (tx.keys.void_all_but(kid) if void_old else [])

    kid, gone = store.write("command.act", work)
    click.echo(f"Key {kid} is made. Each daemon takes it within a minute"
               f"{' and signs by it at once' if void_old else ', and signs by it in three'}.")  # fmt: skip
    if gone:
        click.echo(f"Gone, with all they signed: {', '.join(gone)}.")
    if void_old:
        click.echo("Replies to pages sent before, and their links, act no more: they open new incidents. "
                   "Page again what is open: panicmail escalate REF --as PERSON.")  # fmt: skip


def _write(file: Path, key: bytes) -> None:
    """For our user alone; what is there is never written over."""
    try:
        with file.open("xb") as made:
            file.chmod(0o600)
            made.write(key)
    except OSError as exc:
        raise Mistake(f"{file} cannot be written: {exc.strerror}") from exc


COMMANDS = (keys,)
