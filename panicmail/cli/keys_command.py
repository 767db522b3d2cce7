"""Keys: `keys dkim`."""

from __future__ import annotations

from pathlib import Path

import click

from panicmail.cli.command_context import config_option
from panicmail.errors import Mistake


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


def _write(file: Path, key: bytes) -> None:
    """For our user alone; what is there is never written over."""
    try:
        with file.open("xb") as made:
            file.chmod(0o600)
            made.write(key)
    except OSError as exc:
        raise Mistake(f"{file} cannot be written: {exc.strerror}") from exc


COMMANDS = (keys,)
