"""`panicmail drill`: practice through the real listener, or by a mail of one's own, shown as it happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from panicmail.cli.command_context import config_option, load, open_store_and_settings
from panicmail.cli.output import shown
from panicmail.errors import Mistake, PanicmailError

if TYPE_CHECKING:
    from panicmail.config import Config
    from panicmail.incident.model import Incident
    from panicmail.intake.drills import DrillStep, Progress
    from panicmail.oncall.runtime_settings import RuntimeSettings
    from panicmail.store.unit_of_work import Store

#: What machines do must be done within so many seconds of the 250.
MACHINES_SECONDS = 60.0
#: Seconds between two looks at the database.
LOOK_EVERY = 0.2
#: A mail that came in time may still wait to be understood for so many seconds.
LATE_SECONDS = 15.0


@click.command()
@config_option
@click.option("--by-mail", is_flag=True, help="Print a code to mail to panic@ from outside, and wait for that mail.")
@click.option("--wait", is_flag=True, help="Wait for an answer too, until the SLA passes; --by-mail always does.")
@click.option("--from", "sender", metavar="ADDRESS", help="Who reports; the first operator when left out.")
@click.option("--via", metavar="HOST:PORT", help="Another door than the first of smtp.listen, such as the MX in front.")
def drill(config_file: str | None, by_mail: bool, wait: bool, sender: str | None, via: str | None) -> None:
    """A panic marked as a drill, from the mail to the answer, step by step.

    People are paged as for a real one; their pages say DRILL. It is not over by itself: whoever answers closes it.

    Exit status: 0 every step was done, 1 one was not.
    """
    from panicmail.intake import drills

    if by_mail and (sender or via):
        raise click.UsageError("with --by-mail you send the mail yourself; leave out --from and --via")
    config = load(config_file)
    door = None if by_mail else _door(config, via)
    store, settings = open_store_and_settings(config_file)
    if via is None:
        _expect_listener(config)
    code = drills.new_code()
    drill_id = store.write("command.act", lambda tx: drills.begin(tx, code))
    if door is None:
        _ask_for_mail(config, code)
    else:
        _send(config, settings, code, sender or settings.people[config.operators.page[0]].email, door)
    show = _Show(store, settings, drill_id)
    arrives_within = drills.LASTS.total_seconds() + LATE_SECONDS if by_mail else MACHINES_SECONDS
    click.get_current_context().exit(_run(show, arrives_within, waits=by_mail or wait))


def _door(config: Config, via: str | None) -> tuple[str, int]:
    """Where the mail is handed in."""
    if via is not None:
        host, colon, port = via.rpartition(":")
        if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
            raise click.BadParameter(f"{via!r} is no HOST:PORT", param_hint="--via")
        return host.strip("[]"), int(port)
    from panicmail.config.values import Listen

    for listener in config.smtp.all_listeners:
        at, is_plain = listener.address, listener.protocol == "smtp" and listener.tls != "implicit"
        if isinstance(at, Listen) and at.port and is_plain and not listener.require_tls:
            return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(at.host, at.host), at.port  # noqa: S104
    told = "no listener of [smtp] has a fixed host:port that takes SMTP without TLS"
    raise Mistake(f"{told}; say where the mail goes in with --via HOST:PORT, such as the mail server in front")


def _expect_listener(config: Config) -> None:
    """Say at once that nobody is there to take the mail. With PostgreSQL another host may be.

    Raises:
        Mistake: The database is a file, so the panicmail that is to use it would be here.
    """
    from panicmail.check import database_checks, listener_checks

    doors = config.smtp.all_listeners
    if any(not listener_checks.is_known(door.address) or listener_checks.is_panicmail(door) for door in doors):
        return
    where = ", ".join(str(door.address) for door in doors)
    told = f"no panicmail listens at {where}; start panicmail serve (panicmail check tells more)"
    if database_checks.sqlite_file(config) is not None:
        raise Mistake(told)
    click.echo(f"On this host {told}. Another host of this database may take the mail.")


def _ask_for_mail(config: Config, code: str) -> None:
    from panicmail.intake import drills

    minutes = int(drills.LASTS.total_seconds()) // 60
    click.echo(f"Mail this to {config.smtp.addresses[0]} within {minutes} minutes, as subject or as text:\n")
    click.echo(f"    drill {drills.spell_code(code)}\n")


def _send(config: Config, settings: RuntimeSettings, code: str, sender: str, door: tuple[str, int]) -> None:
    from panicmail.delivery.smtp_client import RelayClient
    from panicmail.intake import drills

    to, (host, port) = config.smtp.addresses[0], door
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    click.echo(f"A drill to {to} as {sender}, through {where}")
    raw = drills.panic(code, sender, to, config.smtp.hostname, datetime.now(UTC))
    relay = RelayClient(host, port, hostname=config.smtp.hostname)
    try:
        answer = relay.send(raw, sender, to)
    except (PanicmailError, ValueError) as exc:
        raise Mistake(f"{where} did not take the mail: {shown(str(exc))}; is panicmail serve running there?") from exc
    finally:
        relay.close()
    click.echo(f"  {'done':18}sent        {shown(answer)}")


# -- as it happens


@dataclass(slots=True)
class _Show:
    """The steps, each printed once, when it is over."""

    store: Store
    settings: RuntimeSettings
    drill_id: int
    printed: set[tuple[str, str]] = field(default_factory=set)

    def read_progress(self) -> Progress:
        from panicmail.incident.push_channel import in_words
        from panicmail.intake import drills

        channels = [channel for person in self.settings.people.values() for channel in person.push]
        progress = self.store.read(lambda tx: drills.read_progress(tx, self.settings, self.drill_id))
        steps = [replace(step, text=in_words(step.text, channels)) for step in progress.steps]
        return replace(progress, steps=steps)

    def until(self, is_enough: Callable[[Progress], bool], seconds: float) -> Progress:
        """Print what happens until it is enough, or the time is over."""
        ends_at = time.monotonic() + seconds
        while True:
            progress = self.read_progress()
            for step in progress.steps:
                self._print(step, progress.incident)
            if is_enough(progress) or time.monotonic() >= ends_at:
                return progress
            time.sleep(LOOK_EVERY)

    def _print(self, step: DrillStep, incident: Incident | None) -> None:
        name = (step.name, step.key)
        if step.fate.value != "waiting" and name not in self.printed:
            self.printed.add(name)
            click.echo(_row(step, incident))


def _row(step: DrillStep, incident: Incident | None) -> str:
    after = f"{max(0.0, (step.at - incident.accepted_at).total_seconds()):6.1f} s" if step.at and incident else " " * 8
    colour = {"done": "green", "failed": "red"}.get(step.fate.value)
    return f"  {click.style(f'{step.fate.value:8}', fg=colour)}{after}  {step.name:10}  {shown(step.text)}"


def _run(show: _Show, arrives_within: float, *, waits: bool) -> int:
    """Follow the drill to its end; answers the exit status."""
    incident = show.until(lambda now: now.incident is not None, arrives_within).incident
    if incident is None:
        click.echo("Verdict: FAILED. No mail with this code came in time; see panicmail incidents and the log.")
        return 1
    progress = show.until(lambda now: now.is_through(), MACHINES_SECONDS)
    if waits and not progress.is_answered:
        click.echo(f'  {"waiting":18}reply       whoever was paged: reply "ack" to the page')
        left = (incident.sla_at - show.store.now()).total_seconds()
        progress = show.until(lambda now: now.is_answered, max(0.0, left))
    elif not progress.is_answered:
        click.echo(f"  {'none':18}reply       not waited for; --wait does")
    faults = list(_faults(progress, incident, waits=waits))
    click.echo(f"Verdict: FAILED. {'; '.join(faults)}" if faults else f"Verdict: passed, {_passed(progress, incident)}")
    click.echo(_what_now(progress.incident or incident))
    return 1 if faults else 0


def _faults(progress: Progress, incident: Incident, *, waits: bool) -> Iterator[str]:
    for step in progress.by_machines:
        if step.fate.value == "waiting":
            click.echo(_row(step, incident))
        if step.fate.value in ("waiting", "failed"):
            yield f"{step.name}: {shown(step.text)}"
    if waits and not progress.is_answered:
        yield "nobody answered within the SLA"


def _passed(progress: Progress, incident: Incident) -> str:
    seconds = max((step.at - incident.accepted_at).total_seconds() for step in progress.steps if step.at)
    what = "from the mail to the answer" if progress.is_answered else "as far as nobody is needed"
    return f"{what}, in {seconds:.1f} s."


def _what_now(incident: Incident) -> str:
    ref = incident.ref
    if incident.state.value == "open":
        return f"{ref} goes on like a real one until somebody answers. By hand: panicmail take {ref} --as PERSON"
    if incident.state.value == "acked":
        return f'{ref} is acknowledged. To close it: reply "resolve", or panicmail resolve {ref} --as PERSON'
    return f"{ref} is closed."


COMMANDS = (drill,)
