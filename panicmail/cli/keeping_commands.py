"""Keeping what panicmail knows: `backup`, `restore`, `export`, `retention`, `forget`."""

from __future__ import annotations

import hashlib
import os
import socket
import tarfile
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from panicmail import __version__
from panicmail.cli.command_context import config_option, find_incident, json_option, load, open_store_and_settings
from panicmail.cli.output import iso, print_json, print_table, runner, zulu
from panicmail.errors import ConfigError, Mistake
from panicmail.incident.model import Entry

if TYPE_CHECKING:
    from panicmail.config import Config
    from panicmail.store.restore import Backup, Places
    from panicmail.store.transaction import Transaction

_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@config_option
@json_option
@click.option(
    "--recipient", "recipients", multiple=True, metavar="KEY",
    help="Encrypt to this key: of age (age1..., ssh-..., or a file of such), else of GPG (a name, or its file).",
)  # fmt: skip
@click.argument("file", type=_file)
def backup(config_file: str | None, as_json: bool, recipients: tuple[str, ...], file: Path) -> None:
    """Write everything panicmail needs to go on elsewhere to FILE, while it runs.

    The database whatever it is kept in, the spool, the signing keys, the configuration and the files it names. While it
    works a plain copy of the database lies beside FILE.
    """
    from panicmail import log
    from panicmail.store import backup as backups

    config = load(config_file)
    log.configure(config.log.format, "warning")
    made = backups.make(config, file, recipients, os.environ)
    if as_json:
        print_json({"file": str(made.path), "incidents": made.incidents, "mails": made.mails, "spooled": made.spooled,
                    "files": list(made.files), "not_in_it": list(made.set_elsewhere),
                    "encrypted": made.is_encrypted})  # fmt: skip
        return
    click.echo(f"{made.path}: {made.incidents} incidents, {made.mails} mails, {made.spooled} in the spool, "
               f"{len(made.files)} files of the configuration.")  # fmt: skip
    if made.set_elsewhere:
        click.echo(f"Not in it, keep them yourself (environment, credentials): {', '.join(made.set_elsewhere)}")
    if not made.is_encrypted:
        click.echo("It is plain: whoever reads it reads every report and can act on every page. See --recipient.")


@click.command()
@config_option
@click.option("--identity", type=_file, help="The file of the private key, for a backup encrypted by age.")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), help="Put all of it beneath FOLDER.")
@click.option("--data", is_flag=True, help="Database and spool alone, to where the present configuration has them.")
@click.argument("file", type=_file)
def restore(config_file: str | None, identity: Path | None, folder: Path | None, data: bool, file: Path) -> None:
    """Put a backup back, to where everything was; verified first, and never over anything that is there.

    With --to a rehearsal: everything beneath FOLDER, the database as SQLite. What is open in the backup may have been
    settled since: the first start holds it back for one SLA and tells the operators.
    """
    from panicmail import log
    from panicmail.store import restore as restores

    if folder is not None and data:
        raise click.UsageError("--to and --data are two ways; take one.")
    log.configure("console", "warning")
    config = load(config_file) if data else None
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = folder or (config.database.spool.parent if config else Path(tempfile.gettempdir()))
    with restores.unpacked(file, identity, beside) as found:
        if folder is not None:
            _beneath(found, folder.absolute())
        elif config is not None:
            _put_data(found, config)
        else:
            _in_place(found)
        _explain(found)


def _beneath(found: Backup, folder: Path) -> None:
    """A rehearsal: whatever the configuration says, these two settings name what was put."""
    from panicmail.store import backup as backups
    from panicmail.store import restore as restores

    bases = [Path(path).parent for path in (found.head["configuration"], _place_of(found, backups.DATABASE)) if path]

    def place(name: str, entry: Mapping[str, Any]) -> Path:
        if name == backups.DATABASE or name.startswith("spool/"):
            return folder / name.replace("spool/", "panicmail.spool/")
        if entry["place"] == found.head["configuration"]:
            return folder / "panicmail.toml"
        was = Path(entry["place"])
        return next((folder / was.relative_to(base) for base in bases if was.is_relative_to(base)), folder / name)

    restores.put(found, place)
    url, spool = f"sqlite:///{folder / backups.DATABASE}", folder / "panicmail.spool"
    restores.hold(url, spool, {})
    names = {"PANICMAIL_CONFIG": folder / "panicmail.toml", "PANICMAIL_DATABASE__URL": url,
             "PANICMAIL_DATABASE__SPOOL": spool}  # fmt: skip
    (folder / "restored.env").write_text("".join(f"{name}={value}\n" for name, value in names.items()), "utf-8")
    click.echo(f"Everything is beneath {folder}. The commands take it by:\n  set -a; . {folder}/restored.env; set +a")
    click.echo("Look only: a serve on this copy pages the real people and writes to the real GitLab.")


def _place_of(found: Backup, name: str) -> str | None:
    return next((entry["place"] for entry in found.head["files"] if entry["name"] == name), None)


def _in_place(found: Backup) -> None:
    """To where everything was. The data follows once the configuration can be used: that says where they are."""
    from panicmail import config as configuration
    from panicmail.store import backup as backups
    from panicmail.store import restore as restores

    if was := _place_of(found, backups.DATABASE):
        restores.expect_no_database(Path(was))
    _put(found, lambda name, entry: Path(entry["place"]) if name.startswith("files/") else None)
    path = found.head["configuration"]
    try:
        config = configuration.load(Path(path) if path else None)
    except ConfigError as exc:
        elsewhere = ", ".join(found.head["set_elsewhere"]) or "nothing"
        wrong = "\n".join(f"  {mistake}" for mistake in exc.mistakes)
        text = (f"the configuration is put, and cannot be used here yet:\n{wrong}\nIn the environment or a credential "
                f"there was {elsewhere}. Mend it; the data follow by: panicmail restore FILE --data")  # fmt: skip
        raise Mistake(text) from exc
    _put_data(found, config)


def _put_data(found: Backup, config: Config) -> None:
    """Database and spool, to where this configuration has them."""
    from panicmail.store import backup as backups
    from panicmail.store import restore as restores

    url = config.database.url.get_secret_value()
    sqlite = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:") else None

    def place(name: str, entry: Mapping[str, Any]) -> Path | None:
        if name.startswith("spool/"):
            return config.database.spool / name.removeprefix("spool/")
        return sqlite if name == backups.DATABASE else None

    if sqlite is None:
        restores.fill(found, url)
    _put(found, place)
    of_database: Mapping[str, Any] = next((e for e in found.head["files"] if e["name"] == backups.DATABASE), {})
    restores.hold(url, config.database.spool, of_database)


def _put(found: Backup, places: Places) -> None:
    from panicmail.store import restore as restores

    for path in restores.put(found, places):
        click.echo(f"put {path}")


def _explain(found: Backup) -> None:
    """What happens at the first start, before somebody wonders."""
    waiting = found.unresolved()
    minutes = round(found.sla.total_seconds() / 60)
    click.echo(f"It was made {found.taken_at:%Y-%m-%d %H:%M} UTC by panicmail {found.head['panicmail']}; what came "
               "later is not in it: a reply to a later page opens a new incident.")  # fmt: skip
    if not waiting:
        click.echo("Nothing is open in it.")
        return
    told = ", ".join(f"{ref} ({state})" for ref, state in waiting[:20]) + (", ..." if len(waiting) > 20 else "")
    click.echo(f"Not over in it: {told}. They may have been settled since. So the first start holds them back for one "
               f"SLA ({minutes} min), pages nobody for them meanwhile and mails the operators the list. Then the steps "
               "go on.")  # fmt: skip
    click.echo("To call at once: panicmail escalate REF --as PERSON. What is over: panicmail resolve REF --as PERSON.")


@click.command()
@config_option
@click.option("--verify", is_flag=True, help="Is REF, the file of an export, whole and signed by this installation?")
@click.argument("ref")
@click.argument("file", type=_file, required=False)
def export(config_file: str | None, verify: bool, ref: str, file: Path | None) -> None:
    """Everything kept about REF as a signed tar in FILE: raw mails, timeline, what was sent, hashes.

    The timeline says that it was made, by whom, and the fingerprint of the key that signed. Reply addresses of pages
    are in it: hand it out once the incident is closed.
    """
    if verify:
        _verify_export(config_file, Path(ref))
        return
    from panicmail.mail import manifest_signature
    from panicmail.store import incident_export as exports

    target = file or Path(f"{ref}.tar")
    store, settings = open_store_and_settings(config_file)
    by, secret = f"{runner()} on {socket.gethostname()}", settings.tokens.secrets[0]
    pem = manifest_signature.public_pem(secret)

    def collect(tx: Transaction) -> tuple[dict[str, bytes], datetime]:
        incident = find_incident(tx, ref)
        return exports.collect(tx, incident), tx.now

    files, now = store.read(collect)
    about = {"ref": ref, "made_at": now.isoformat(), "made_by": by, "panicmail": __version__}
    manifest = exports.manifest(files, about)
    signature = manifest_signature.sign(manifest, secret)
    signed = {exports.MANIFEST: manifest, exports.SIGNATURE: signature, exports.PUBLIC_KEY: pem}
    try:
        with target.open("xb") as made:
            target.chmod(0o600)
            try:
                exports.write(made, {**signed, **files}, now)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
    except OSError as exc:
        raise Mistake(f"{target} cannot be written: {exc.strerror}") from exc
    said = {"manifest_sha256": hashlib.sha256(manifest).hexdigest(), "key": manifest_signature.fingerprint(pem)}
    line = Entry(event="incident.exported", actor=by, facts=said, note=False)
    store.write("command.act", lambda tx: tx.timeline.add(find_incident(tx, ref), line))
    click.echo(f"{target}: signed by key {manifest_signature.fingerprint(pem)[:16]}, as its timeline says.")


def _verify_export(config_file: str | None, path: Path) -> None:
    from panicmail.mail import manifest_signature
    from panicmail.store import incident_export as exports

    _store, settings = open_store_and_settings(config_file)
    try:
        with path.open("rb") as file:
            found = exports.read(file)
        wrong = exports.differences(found)
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as exc:
        raise Mistake(f"{path} is no export of panicmail: {exc}") from exc
    if not manifest_signature.is_right(*(found[name] for name in (exports.MANIFEST, exports.SIGNATURE,
                                                                   exports.PUBLIC_KEY))):  # fmt: skip
        raise Mistake(f"{path} was changed: its signature does not fit")
    if wrong:
        raise Mistake(f"{path} was changed: {', '.join(wrong)} is not what was signed")
    if found[exports.PUBLIC_KEY] not in map(manifest_signature.public_pem, settings.tokens.secrets):
        raise Mistake(f"{path} is whole, and signed by a key this installation does not have; compare its fingerprint "
                      f"{manifest_signature.fingerprint(found[exports.PUBLIC_KEY])} with the timeline")  # fmt: skip
    click.echo(f"{path} is whole and signed by this installation.")


@click.command()
@config_option
@json_option
def retention(config_file: str | None, as_json: bool) -> None:
    """How long what is kept, and the record of what was erased, the newest first."""
    store, _settings = open_store_and_settings(config_file)
    kept = load(config_file).retention
    lines = store.read(lambda tx: tx.erasures.lines(1000))
    limits = {name: f"{at.days}d" if (at := getattr(kept, name)) else "" for name in ("raw_mails", "incidents")}
    if as_json:
        record = [{"at": iso(e.at), "what": e.what, "ref": e.ref, "by": e.by, "facts": e.facts} for e in lines]
        print_json({**limits, "erased": record})
        return
    for name, days in limits.items():
        click.echo(f"{name:12} {days + ' after the end' if days else 'kept for ever'}")
    rows = [(zulu(e.at), e.what, e.ref, e.by) for e in lines]
    print_table(("AT", "ERASED", "REF", "BY"), rows, "Nothing was erased yet.")


@click.command()
@config_option
@click.option("--yes", is_flag=True, help="Erase without asking.")
@click.argument("address")
def forget(config_file: str | None, yes: bool, address: str) -> None:
    """Erase everything about the incidents ADDRESS reported: mails, timeline, pages. It cannot be undone.

    What is open or held is kept and named, and so is what something is still to be done for. GitLab keeps its issues,
    and backups what is in them.
    """
    from panicmail.store.erasures import erase

    store, _settings = open_store_and_settings(config_file)
    known, by = address.strip().lower(), f"{runner()} on {socket.gethostname()}"
    count = len(store.read(lambda tx: tx.erasures.kept_of_reporter(known)))
    if not count:
        raise Mistake(f"nothing reported by {known} is kept here")
    if not yes:
        click.confirm(f"Erase what is over of {count} incidents reported by {known}?", abort=True)
    erased = 0
    while some := store.write("retention.erase", lambda tx: erase(tx.erasures, tx.erasures.of_reporter(known), by)):
        erased += some
    store.write("retention.erase", lambda tx: tx.erasures.forget_mailbox(known))
    kept = store.read(lambda tx: tx.erasures.kept_of_reporter(known))
    click.echo(f"Erased: {erased} of {count} incidents reported by {known}.")
    if kept:
        raise Mistake(f"not over yet, and kept: {', '.join(kept)}; run this again when they are")


COMMANDS = (backup, restore, export, retention, forget)
