"""What people do by mail, done by command; the timeline says who ran it."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from typing import TYPE_CHECKING

import click

from panicmail.cli.asked import config_option, find_incident, json_option, open_ledger
from panicmail.cli.printing import brief, print_json
from panicmail.errors import Mistake

if TYPE_CHECKING:
    from panicmail.incident import Incident
    from panicmail.orders import Orders
    from panicmail.store.book import Book

as_option = click.option("--as", "person", required=True, metavar="PERSON", help="Whose act it is: a key of [people].")


def _act(word: str, about: str) -> click.Command:
    """A command that does for PERSON what her mail with `word` would do."""

    @click.command(word, help=about)
    @config_option
    @as_option
    @json_option
    @click.argument("ref")
    def command(config_file: str | None, person: str, as_json: bool, ref: str) -> None:
        ledger, orders = open_ledger(config_file)
        outcome, incident = ledger.write("command.act", lambda book: _do(book, orders, word, ref, person))
        document = {**brief(incident), "outcome": outcome}
        if as_json:
            print_json(document)
            return
        holder = f", {incident.holder} has it" if incident.holder and incident.state.value == "acked" else ""
        click.echo(f"{incident.ref}: {incident.state.value}{holder} ({outcome.replace('_', ' ')})")

    return command


def _do(book: Book, orders: Orders, word: str, ref: str, as_person: str) -> tuple[str, Incident]:
    from panicmail import people
    from panicmail.acks import Acks, Way
    from panicmail.words import Meaning, Said

    meanings = {"ack": Meaning.YES, "resolve": Meaning.RESOLVE, "take": Meaning.TAKE, "escalate": Meaning.ESCALATE}
    incident = find_incident(book, ref)
    person = people.by_word(orders.people, as_person)
    if person is None:
        raise Mistake(f"there is no person {as_person!r}; there are {', '.join(sorted(orders.people))}")
    # Only somebody who was paged acknowledges, and closing an open one acknowledges it.
    acknowledges = word == "ack" or (word == "resolve" and incident.state.value == "open")
    if acknowledges and person.id not in incident.paged:
        paged = ", ".join(sorted(incident.paged)) or "nobody"
        raise Mistake(f"{person.id} was not paged for {incident.ref}, so cannot acknowledge it (paged: {paged}); "
                      f"to make it hers all the same: panicmail take {incident.ref} --as {person.id}")  # fmt: skip
    how = f"command run by {_runner()} on {socket.gethostname()}"
    way = Way(channel="command", how=how, key=f"command/{secrets.token_hex(6)}", tells_actor=False)
    answer = Acks(book, orders).act(incident, person, Said(meanings[word], word), way)
    return answer.outcome.value, answer.incident


def _runner() -> str:
    """Who runs this: whoever became somebody else by sudo, else the user, else his number."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


COMMANDS = (
    _act("ack", "Acknowledge REF as PERSON, who was paged for it."),
    _act("resolve", "Close REF as PERSON; an open one is acknowledged first."),
    _act("take", "Give REF to PERSON, whoever has it."),
    _act("escalate", "Take the next step of REF at once, in the name of PERSON."),
)
