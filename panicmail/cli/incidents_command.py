"""What is there: incidents, mails, who is on call, figures. Nothing here changes anything."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from panicmail.cli.command_context import (
    config_option,
    find_incident,
    instant,
    json_option,
    load,
    open_store_and_settings,
    span,
)
from panicmail.cli.output import brief, iso, print_incident, print_json, print_table, shown, zulu
from panicmail.errors import Mistake

if TYPE_CHECKING:
    from panicmail.incident.model import Incident
    from panicmail.oncall.runtime_settings import RuntimeSettings
    from panicmail.store.blocked_adapters import Bar
    from panicmail.store.rows import AcceptedMail, OutboxRow
    from panicmail.store.transaction import Transaction
    from panicmail.store.unit_of_work import Store

#: How many incidents a list shows unless told otherwise.
LISTED = 50


@click.command()
@config_option
@json_option
@click.option("--state", "states", multiple=True, type=click.Choice(["open", "acked", "resolved"]))
@click.option("--all", "all_", is_flag=True, help=f"Not only the latest {LISTED}.")
@click.option("--gaps", is_flag=True, help="What accepted mails are owed and is missing; exit status 1 if anything is.")
def incidents(config_file: str | None, as_json: bool, states: tuple[str, ...], all_: bool, gaps: bool) -> None:
    """List incidents, newest first; or, with --gaps, what does not add up."""
    from panicmail.incident.model import State

    store, settings = open_store_and_settings(config_file)
    if gaps:
        if states or all_:
            raise click.UsageError("--gaps looks at every incident; leave out --state and --all")
        _print_gaps(store, settings, as_json)
        return
    wanted = [State(s) for s in states] or list(State)
    found = store.read(lambda tx: tx.search.list_incidents(states=wanted, limit=None if all_ else LISTED))
    if as_json:
        print_json([brief(incident) for incident in found])
        return
    rows = [
        (i.ref, i.state.value, zulu(i.accepted_at), i.holder or "-", shown(i.reporter_address),
         f"{'DRILL: ' if i.drill else ''}{shown(i.subject)}"[:60])
        for i in found
    ]  # fmt: skip
    print_table(("REF", "STATE", "ACCEPTED", "HOLDER", "REPORTER", "SUBJECT"), rows, "No incidents.")


def _print_gaps(store: Store, settings: RuntimeSettings, as_json: bool) -> None:
    """What is missing, with exit status 1 if anything is. Mends nothing: the daemon does, once a minute."""
    from panicmail.escalation.reconciler import RECENT, gaps_in

    found, accepted = store.read(
        lambda tx: (gaps_in(tx, settings.policies), tx.figures.accepted_since(tx.now - RECENT))
    )
    if as_json:
        rows = [
            {"about": gap.about, "kind": gap.kind.value, "since": iso(gap.since_at), "count": gap.count,
             "missing": gap.missing, "mend": gap.mend}
            for gap in found
        ]  # fmt: skip
        print_json({"gaps": rows, "accepted_in_48_hours": accepted})
    else:
        table = [(gap.about, gap.kind.value, zulu(gap.since_at), gap.missing, gap.mend) for gap in found]
        mails = f"{accepted} {'mail' if accepted == 1 else 'mails'}"
        none = f"No gaps: {mails} accepted in the last 48 h, each accounted for."
        print_table(("ABOUT", "KIND", "SINCE", "MISSING", "NEXT"), table, none)
    if found:
        click.get_current_context().exit(1)


@click.command()
@config_option
@json_option
@click.argument("ref")
def show(config_file: str | None, as_json: bool, ref: str) -> None:
    """One incident with its timeline and what was sent."""
    store, settings = open_store_and_settings(config_file)

    def work(tx: Transaction) -> dict[str, Any]:
        incident = find_incident(tx, ref)
        barred = tx.adapters.barred()
        return {
            **brief(incident),
            "timeline": [
                {"at": iso(line.at), "event": line.event, "actor": line.actor, "facts": _readable(settings, line.facts)}
                for line in tx.timeline.of_incident(incident.id)
            ],
            "outbox": [
                {"do": t.do, "person": t.person, "state": t.state.value, "attempts": t.attempt,
                 "queued_at": iso(t.queued_at), "done_at": iso(t.done_at),
                 "answer": _readable_answer(settings, t, barred)}
                for t in tx.outbox.of_incident(incident.id)
            ],
            "mails": [
                {"id": m.id, "accepted_at": iso(m.accepted_at), "from": m.mail_from, "shape": m.shape, "size": m.size}
                for m in tx.mails.of_incident(incident.id)
            ],
        }  # fmt: skip

    document = store.read(work)
    if as_json:
        print_json(document)
    else:
        print_incident(document)


def _readable_answer(settings: RuntimeSettings, task: OutboxRow, barred: Mapping[str, Bar]) -> str:
    """What came of a row of the outbox; of one that waits for an adapter that lets nothing through, why."""
    from panicmail.incident.push_channel import in_words
    from panicmail.store.blocked_adapters import adapter_of
    from panicmail.store.rows import OVER

    bar = barred.get(adapter_of(task))
    if bar is None or task.state in OVER:
        return task.answer
    channels = (channel for person in settings.people.values() for channel in person.push)
    return f"waits for {in_words(bar.adapter, channels)}: {bar.answer}"


def _readable(settings: RuntimeSettings, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the timeline with what may be told of a channel in place of its id."""
    from panicmail.incident.push_channel import in_words

    if "channel" not in facts:
        return dict(facts)
    channels = (channel for person in settings.people.values() for channel in person.push)
    return {**facts, "channel": in_words(str(facts["channel"]), channels)}


@click.command()
@config_option
@json_option
@click.argument("ref")
@click.argument("mail_id", required=False)
def mail(config_file: str | None, as_json: bool, ref: str, mail_id: str | None) -> None:
    """The raw message an incident was made of; with MAIL_ID a later one of its thread."""
    store, settings = open_store_and_settings(config_file)

    def work(tx: Transaction) -> tuple[AcceptedMail | None, bytes]:
        known = _mail_id(tx, find_incident(tx, ref), mail_id)
        return tx.mails.get(known), tx.mails.raw(known)

    found, raw = store.read(work)
    if as_json and found is not None:
        print_json(_enveloped(found, raw, settings.hostname))
    elif sys.stdout.isatty():  # a terminal obeys what it is shown; a file does not
        click.echo(shown(raw.decode("utf-8", "replace"), lines=True))
    else:
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()


def _enveloped(mail: AcceptedMail, raw: bytes, hostname: str) -> dict[str, Any]:
    from panicmail.mail.parse.received_field import own_received

    return {
        "id": mail.id,
        "accepted_at": iso(mail.accepted_at),
        "mail_from": mail.mail_from,
        "recipients": list(mail.recipients),
        "peer": mail.peer,
        "helo": mail.helo,
        "tls": mail.tls,
        "received": own_received(mail, hostname).decode(),
        "raw_base64": base64.b64encode(raw).decode(),
    }


def _mail_id(tx: Transaction, incident: Incident, wanted: str | None) -> str:
    if wanted is None:
        return incident.mail_id
    known = [mail.id for mail in tx.mails.of_incident(incident.id)]
    if wanted not in known:
        raise Mistake(f"{incident.ref} has no mail {wanted}; it has {', '.join(known)}")
    return wanted


@click.command()
@config_option
@json_option
@click.option("--at", "at", metavar="TIME", help="An instant such as 2026-12-24T18:00Z; now when left out.")
@click.option("--tz", "tz", metavar="ZONE", default="UTC", show_default=True, help="Whose wall clock is shown.")
def oncall(config_file: str | None, as_json: bool, at: str | None, tz: str) -> None:
    """Who is on call in each role, until when, from which source; and the coming two weeks."""
    from panicmail import log
    from panicmail.cli import oncall_command

    now = datetime.now(UTC)
    asked_at, zone = _at(at) if at else now, _zone(tz)
    config = load(config_file)
    log.configure(config.log.format, "warning")
    answer = oncall_command.read_rota(config, asked_at, now)
    if as_json:
        print_json(oncall_command.document(answer))
    else:
        oncall_command.print_lines(answer, zone)


def _at(text: str) -> datetime:
    at = instant(text)
    if not 1970 <= at.year < 3000:
        raise click.BadParameter(f"{text!r} is no time anybody is on call at", param_hint="--at")
    return at.astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # zoneinfo's choice depends on the name
        text = f"{name!r} is no time zone; write it as Europe/Berlin or UTC"
        raise click.BadParameter(text, param_hint="--tz") from None


@click.command()
@config_option
@json_option
@click.option(
    "--since", default="90d", show_default=True, metavar="SPAN", help="Such as 90d, 12h or 30m, back from now."
)
def report(config_file: str | None, as_json: bool, since: str) -> None:
    """Service-level figures: SLA attained, time to acknowledge, page volume."""
    from panicmail.escalation.sla_report import figures

    back = span(since)
    store, _settings = open_store_and_settings(config_file)
    document = figures(store, back).as_json()
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        click.echo(f"{name.replace('_', ' '):24} {'-' if value is None else value}")


COMMANDS = (incidents, show, mail, oncall, report)
