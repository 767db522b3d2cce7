"""The commands: a thin face over the use cases.

Exit status: 0 done, 1 could not be done, 2 wrong usage or configuration. Answers go to stdout, logs and errors to
stderr; with `--json` stdout is one JSON document and nothing else. What does not belong to every command is imported
inside the one that needs it, so that `--help` is there at once.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from panicmail import __version__
from panicmail.errors import ConfigError, Mistake, StoreFailed

if TYPE_CHECKING:
    from panicmail.config import Config
    from panicmail.incident import Incident
    from panicmail.orders import Orders
    from panicmail.store.book import Book
    from panicmail.store.ledger import Ledger

config_option = click.option("-c", "--config", "config_file", metavar="FILE", help="The configuration (TOML).")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
as_option = click.option("--as", "person", required=True, metavar="PERSON", help="Whose act it is: a key of [people].")

#: How many incidents a list shows unless told otherwise.
LISTED = 50


def main() -> None:
    """The console script. Ends the process."""
    try:
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
    except BrokenPipeError:
        # Whoever read us has seen enough; nothing more can be said on that pipe, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="panicmail")
def cli() -> None:
    """A panic mailbox that owes its reporter a human."""


# -- serve


@cli.command()
@config_option
def serve(config_file: str | None) -> None:
    """The daemon, in the foreground. SIGTERM stops it, SIGHUP reads the configuration again."""
    from panicmail import assembly, log
    from panicmail.daemon import serve as run

    config = _load(config_file)
    log.configure(config.log.format, config.log.level)
    database = assembly.open_database(config)
    with assembly.alone(database):
        status = run(config, database)
    sys.stderr.flush()
    # Calls to GitLab or the relay may still hang in their threads; their attempts are on record, so nobody waits.
    os._exit(status)


def _load(config_file: str | None) -> Config:
    from panicmail import config

    return config.load(config.find(config_file))


# -- what is there


@cli.command()
@config_option
@json_option
@click.option("--state", "states", multiple=True, type=click.Choice(["open", "acked", "resolved"]))
@click.option("--all", "all_", is_flag=True, help=f"Not only the latest {LISTED}.")
def incidents(config_file: str | None, as_json: bool, states: tuple[str, ...], all_: bool) -> None:
    """List incidents, newest first."""
    from panicmail.incident import State

    ledger, _orders = _open(config_file)
    wanted = [State(s) for s in states] or list(State)
    found = ledger.read(lambda book: book.list_incidents(states=wanted, limit=None if all_ else LISTED))
    if as_json:
        _print_json([_brief(incident) for incident in found])
        return
    rows = [
        (i.ref, i.state.value, _at(i.accepted_at), i.holder or "-", _shown(i.reporter_address), _shown(i.subject)[:60])
        for i in found
    ]
    _print_table(("REF", "STATE", "ACCEPTED", "HOLDER", "REPORTER", "SUBJECT"), rows, "No incidents.")


@cli.command()
@config_option
@json_option
@click.argument("ref")
def show(config_file: str | None, as_json: bool, ref: str) -> None:
    """One incident with its timeline and what was sent."""
    ledger, _orders = _open(config_file)

    def work(book: Book) -> dict[str, Any]:
        incident = _find(book, ref)
        return {
            **_brief(incident),
            "timeline": [
                {"at": _iso(line.at), "event": line.event, "actor": line.actor, "facts": dict(line.facts)}
                for line in book.lines_of(incident.id)
            ],
            "outbox": [
                {"do": t.do, "person": t.person, "state": t.state.value, "attempts": t.attempt,
                 "queued_at": _iso(t.queued_at), "done_at": _iso(t.done_at), "answer": t.answer}
                for t in book.tasks_of(incident.id)
            ],
            "mails": [
                {"id": m.id, "accepted_at": _iso(m.accepted_at), "from": m.mail_from, "shape": m.shape, "size": m.size}
                for m in book.mails_of(incident.id)
            ],
        }  # fmt: skip

    document = ledger.read(work)
    if as_json:
        _print_json(document)
    else:
        _print_incident(document)


@cli.command()
@config_option
@click.argument("ref")
def mail(config_file: str | None, ref: str) -> None:
    """The raw message an incident was made of."""
    ledger, _orders = _open(config_file)
    raw = ledger.read(lambda book: book.raw(_find(book, ref).mail_id))
    if sys.stdout.isatty():  # a terminal obeys what it is shown; a file does not
        click.echo(_shown(raw.decode("utf-8", "replace"), lines=True))
    else:
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()


@cli.command()
@config_option
@json_option
@click.option("--at", "at", metavar="TIME", help="An instant such as 2026-12-24T18:00Z; now when left out.")
def oncall(config_file: str | None, as_json: bool, at: str | None) -> None:
    """Who is on call in each role, until when, from which source."""
    orders = _orders_only(config_file)
    instant = _instant(at) if at else datetime.now(UTC)
    duties = [duty for role in orders.rosters.roles for duty in orders.rosters.on_call(role, instant)]
    rows = [
        {
            "role": d.role,
            "person": d.person,
            "name": orders.people[d.person].name,
            "until": _iso(d.until),
            "source": d.source,
        }
        for d in duties
    ]
    if as_json:
        _print_json({"at": _iso(instant), "on_call": rows})
        return
    _print_table(
        ("ROLE", "PERSON", "NAME", "UNTIL", "SOURCE"),
        [(d.role, d.person, orders.people[d.person].name, _iso(d.until) or "no end", d.source) for d in duties],
        "Nobody is on call.",
    )


@cli.command()
@config_option
@json_option
@click.option(
    "--since", default="90d", show_default=True, metavar="SPAN", help="Such as 90d, 12h or 30m, back from now."
)
def report(config_file: str | None, as_json: bool, since: str) -> None:
    """Service-level figures: SLA attained, time to acknowledge, page volume."""
    from panicmail.report import figures

    span = _span(since)
    ledger, _orders = _open(config_file)
    document = figures(ledger, span).as_json()
    if as_json:
        _print_json(document)
        return
    for name, value in document.items():
        click.echo(f"{name.replace('_', ' '):24} {'-' if value is None else value}")


# -- what people do by mail, done by command


def _act(word: str, about: str) -> Callable[..., None]:
    """A command that does for PERSON what her mail with `word` would do."""

    @cli.command(word, help=about)
    @config_option
    @as_option
    @json_option
    @click.argument("ref")
    def command(config_file: str | None, person: str, as_json: bool, ref: str) -> None:
        ledger, orders = _open(config_file)
        outcome, incident = ledger.write(lambda book: _do(book, orders, word, ref, person))
        document = {**_brief(incident), "outcome": outcome}
        if as_json:
            _print_json(document)
            return
        holder = f", {incident.holder} has it" if incident.holder and incident.state.value == "acked" else ""
        click.echo(f"{incident.ref}: {incident.state.value}{holder} ({outcome.replace('_', ' ')})")

    return command


def _do(book: Book, orders: Orders, word: str, ref: str, as_person: str) -> tuple[str, Incident]:
    from panicmail import people
    from panicmail.acks import Acks, Way
    from panicmail.words import Meaning, Said

    meanings = {"ack": Meaning.YES, "resolve": Meaning.RESOLVE, "take": Meaning.TAKE, "escalate": Meaning.ESCALATE}
    incident = _find(book, ref)
    person = people.by_word(orders.people, as_person)
    if person is None:
        raise Mistake(f"there is no person {as_person!r}; there are {', '.join(sorted(orders.people))}")
    if word == "ack" and person.id not in incident.paged:
        paged = ", ".join(sorted(incident.paged)) or "nobody"
        raise Mistake(f"{person.id} was not paged for {incident.ref}, so cannot acknowledge it (paged: {paged}); "
                      f"to make it hers all the same: panicmail take {incident.ref} --as {person.id}")  # fmt: skip
    how = f"command run by {getpass.getuser()} on {socket.gethostname()}"
    way = Way(channel="command", how=how, key=f"command/{secrets.token_hex(6)}", tells_actor=False)
    answer = Acks(book, orders).act(incident, person, Said(meanings[word], word), way)
    return answer.outcome.value, answer.incident


ack = _act("ack", "Acknowledge REF as PERSON, who was paged for it.")
resolve = _act("resolve", "Close REF as PERSON; an open one is acknowledged first.")
take = _act("take", "Give REF to PERSON, whoever has it.")
escalate = _act("escalate", "Take the next step of REF at once, in the name of PERSON.")


# -- shared by the commands


def _open(config_file: str | None) -> tuple[Ledger, Orders]:
    from panicmail import assembly, log, orders
    from panicmail.store.ledger import Ledger

    config = _load(config_file)
    log.configure(config.log.format, "warning")
    _expect_database(config)
    ledger = Ledger(assembly.open_database(config), operators=lambda: config.operators.page)
    return ledger, orders.from_config(config, assembly.signing_keys(config, ledger))


def _expect_database(config: Config) -> None:
    url = config.database.url.get_secret_value()
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:") and not path.exists():
        raise Mistake(f"there is no database at {path} yet; panicmail serve makes it")


def _orders_only(config_file: str | None) -> Orders:
    from panicmail import orders

    return orders.from_config(_load(config_file), [("a", b"")])


def _find(book: Book, ref: str) -> Incident:
    incident = book.incident_by_ref(ref)
    if incident is not None:
        return incident
    latest = [i.ref for i in book.list_incidents(limit=5)]
    known = f"the latest are {', '.join(latest)}" if latest else "there are no incidents yet"
    raise Mistake(f"there is no incident {ref!r}; {known}")


def _brief(incident: Incident) -> dict[str, Any]:
    return {
        "ref": incident.ref,
        "id": incident.id,
        "state": incident.state.value,
        "subject": incident.subject,
        "reporter": incident.reporter_address,
        "accepted_at": _iso(incident.accepted_at),
        "sla_at": _iso(incident.sla_at),
        "step": incident.step + 1,
        "next_step_at": _iso(incident.next_step_at),
        "holder": incident.holder,
        "acked_at": _iso(incident.acked_at),
        "acked_how": incident.acked_how,
        "breached_at": _iso(incident.breached_at),
        "resolved_at": _iso(incident.resolved_at),
        "resolved_by": incident.resolved_by,
        "paged": sorted(incident.paged),
        "issue": incident.issue_url,
        "once": incident.once,
        "linked_to": incident.linked_to,
    }


def _print_incident(document: dict[str, Any]) -> None:
    for name in ("ref", "state", "subject", "reporter", "accepted_at", "sla_at", "next_step_at", "holder", "acked_how",
                 "breached_at", "resolved_by", "issue"):  # fmt: skip
        if document[name]:
            click.echo(f"{name.replace('_', ' '):14} {_shown(str(document[name]))}")
    click.echo("\nTimeline")
    for line in document["timeline"]:
        facts = "  ".join(f"{k}={_shown(str(v))[:100]}" for k, v in line["facts"].items() if v not in ("", None, []))
        click.echo(f"  {line['at']}  {line['event']:22} {_shown(line['actor'] or '-')}  {facts}")
    click.echo("\nSent")
    for task in document["outbox"]:
        what = f"{task['do']:9} {task['person'] or '-':8} {task['state']:8}"
        click.echo(f"  {task['queued_at']}  {what} {_shown(task['answer'])}")


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    if not rows:
        click.echo(empty)
        return
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    for row in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _shown(text: str, *, lines: bool = False) -> str:
    """Text of a stranger as a terminal may show it: without control characters."""
    keep = "\n\t" if lines else ""
    return "".join(c if c in keep or c.isprintable() else " " for c in text)


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; write it as 2026-12-24T18:00Z", param_hint="--at") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _span(text: str) -> timedelta:
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    form = re.fullmatch(r"(\d{1,5})([mhdw])", text.strip())
    if form is None:
        raise click.BadParameter(f"{text!r} is no span; write it as 90d, 12h or 30m", param_hint="--since")
    return timedelta(**{units[form[2]]: int(form[1])})
