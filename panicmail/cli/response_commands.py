"""What people do by mail, done by command; the timeline says who ran it."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

import click

from panicmail.cli.command_context import config_option, find_incident, json_option, open_store_and_settings
from panicmail.cli.output import brief, print_json, runner, shown
from panicmail.errors import Mistake
from panicmail.incident.push_channel import in_words

if TYPE_CHECKING:
    from panicmail.incident.model import Incident
    from panicmail.oncall.runtime_settings import RuntimeSettings
    from panicmail.response.replies import ReplyResult
    from panicmail.store.blocked_adapters import Bar
    from panicmail.store.transaction import Transaction

as_option = click.option("--as", "person", required=True, metavar="PERSON", help="Whose act it is: a key of [people].")


def _act(word: str, about: str) -> click.Command:
    """A command that does for PERSON what their mail with `word` would do."""

    @click.command(word, help=about)
    @config_option
    @as_option
    @json_option
    @click.argument("ref")
    def command(config_file: str | None, person: str, as_json: bool, ref: str) -> None:
        store, settings = open_store_and_settings(config_file)
        answer, actor = store.write("command.act", lambda tx: _do(tx, settings, word, ref, person))
        incident, outcome = answer.incident, answer.outcome.value
        is_anothers = word == "ack" and outcome == "already" and incident.holder != actor
        if as_json:
            print_json({**brief(incident), "outcome": outcome})
        else:
            take = f" To give it to {actor}: panicmail take {incident.ref} --as {actor}" if is_anothers else ""
            click.echo(_describe_outcome(settings, incident, outcome) + take)
        click.get_current_context().exit(1 if is_anothers or outcome == "closed" else 0)

    return command


@click.command("severity")
@config_option
@as_option
@json_option
@click.argument("ref")
@click.argument("level", type=click.IntRange(1, 4))
def severity(config_file: str | None, person: str, as_json: bool, ref: str, level: int) -> None:
    """Say in the name of PERSON how grave REF is, 1 (the worst) to 4; it follows the policy for that from now on."""
    store, settings = open_store_and_settings(config_file)
    answer, _actor = store.write("command.act", lambda tx: _do(tx, settings, f"severity {level}", ref, person))
    if as_json:
        print_json({**brief(answer.incident), "outcome": answer.outcome.value})
        return
    incident = answer.incident
    click.echo(f"{incident.ref}: severity {incident.severity}, by the policy {incident.policy}.")


def _describe_outcome(settings: RuntimeSettings, incident: Incident, outcome: str) -> str:
    """How it stands now, and what else to know."""
    holder = settings.people.get(incident.holder or "")
    name = holder.name if holder else incident.holder
    now = {"open": "open, nobody has it", "acked": f"acknowledged, {name} has it", "resolved": "closed"}
    besides = {
        "closed": f"It was closed before; nothing was done. A new mail to {settings.addresses.panic} starts anew.",
        "already": "It was so before.",
        "how_to_close": f"It was open, so that comes first. To close it, once more: panicmail resolve {incident.ref}",
        "nobody_left": "Nobody else is left to call; the last call is repeated.",
    }.get(outcome, "")
    return f"{incident.ref}: {now[incident.state.value]}. {besides}".rstrip()


def _do(tx: Transaction, settings: RuntimeSettings, word: str, ref: str, as_person: str) -> tuple[ReplyResult, str]:
    """What came of it, and who did it."""
    from panicmail.incident import people
    from panicmail.incident.reply_commands import Command, ReplyCommand
    from panicmail.response.replies import ReplyChannel, ReplyHandler

    meanings = {
        "ack": Command.YES,
        "resolve": Command.RESOLVE,
        "take": Command.TAKE,
        "escalate": Command.ESCALATE,
        "severity": Command.SEVERITY,
    }
    incident = find_incident(tx, ref)
    person = people.by_word(settings.people, as_person)
    if person is None:
        raise Mistake(f"there is no person {as_person!r}; there are {', '.join(sorted(settings.people))}")
    # Only somebody who was paged acknowledges, and closing an open one acknowledges it.
    acknowledges = word == "ack" or (word == "resolve" and incident.state.value == "open")
    if acknowledges and person.id not in incident.paged:
        paged = ", ".join(sorted(incident.paged)) or "nobody"
        raise Mistake(f"{person.id} was not paged for {incident.ref}, so cannot acknowledge it (paged: {paged}); "
                      f"to make it theirs all the same: panicmail take {incident.ref} --as {person.id}")  # fmt: skip
    how = f"command run by {runner()} on {socket.gethostname()}"
    way = ReplyChannel(channel="command", how=how, key=f"command/{secrets.token_hex(6)}")
    name, _, level = word.partition(" ")
    said = ReplyCommand(meanings[name], word, severity=int(level) if level else None)
    return ReplyHandler(tx, settings).act(incident, person, said, way), person.id


@click.command("retry")
@config_option
@json_option
@click.argument("ref", required=False)
def retry(config_file: str | None, as_json: bool, ref: str | None) -> None:
    """Try now what waits: what was put off, given up, or stands behind a relay, GitLab or phone that was barred.

    Of REF alone, or of everything. The running daemon does it; pages that lost their reason are not sent.
    """
    store, settings = open_store_and_settings(config_file)

    def work(tx: Transaction) -> tuple[int, dict[str, Bar]]:
        return tx.adapters.retry(find_incident(tx, ref).id if ref else None), tx.adapters.barred()

    count, barred = store.write("command.act", work)
    channels = [channel for person in settings.people.values() for channel in person.push]
    bars = {in_words(name, channels): bar.answer for name, bar in barred.items()}
    if as_json:
        print_json({"ref": ref, "tried_again": count, "barred": bars})
        return
    about = f" of {ref}" if ref else ""
    click.echo(f"Tried again now{about}: {count}." if count else f"Nothing{about} waits to be tried again.")
    for name, answer in bars.items() if count else ():
        click.echo(f"  {shown(name)}: the oldest goes first, the rest when it gets through. It said: {shown(answer)}")


@click.command("split")
@config_option
@json_option
@click.argument("ref")
def split(config_file: str | None, as_json: bool, ref: str) -> None:
    """Take the storm REF apart: each mail that joined it becomes an incident of its own, and pages.

    For a flood that turns out to be many matters. What the same sender writes from now on joins no storm either, until
    it has been quiet for `[storm] within`. The running daemon opens the incidents.
    """
    store, _settings = open_store_and_settings(config_file)
    by = f"{runner()} on {socket.gethostname()}"
    count, incident = store.write("command.act", lambda tx: _split(tx, ref, by))
    if as_json:
        print_json({**brief(incident), "mails": count})
        return
    mails = "1 mail becomes an incident of its own and pages" if count == 1 else (
        f"{count} mails become incidents of their own, and page")  # fmt: skip
    click.echo(f"{incident.ref} is taken apart: {mails}. The first one stays {incident.ref}.")


def _split(tx: Transaction, ref: str, by: str) -> tuple[int, Incident]:
    from panicmail.intake import storm_members

    incident = find_incident(tx, ref)
    return storm_members.split(tx, incident, by), incident


COMMANDS = (
    _act("ack", "Acknowledge REF as PERSON, who was paged for it."),
    _act("resolve", "Close REF as PERSON, whoever has it; an open one is only acknowledged."),
    _act("take", "Give REF to PERSON, whoever has it."),
    _act("escalate", "Take the next step of REF at once, in the name of PERSON."),
    severity,
    retry,
    split,
)
