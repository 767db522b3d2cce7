"""`panicmail explain`: how panicmail reads one raw mail. Changes nothing.

It needs no configuration; one that is named says whether the sender is one of our people.

The mail is read where the daemon reads it, in a child process, only with more patience: a mail the daemon would give
up is shown whole, and that it would give it up is said. The card for people holds nothing a terminal obeys and no
link that could be followed; `--json` gives the texts as they were read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from panicmail.cli.command_context import config_option, json_option, load
from panicmail.cli.output import print_json, shown
from panicmail.errors import Mistake

if TYPE_CHECKING:
    from panicmail.config import Config
    from panicmail.incident.classify import Report
    from panicmail.incident.people import Person
    from panicmail.incident.reply_commands import ReplyCommand

#: Seconds the reading may take here, and in the daemon (`ParserPool`).
PATIENCE = 30.0
DAEMONS_PATIENCE = 2.0
#: How much is read at all.
MOST_OCTETS = 256 * 2**20

#: Lines of the newly written text a card shows.
_LINES = 30

_KINDS = {
    "human": "a person wrote it",
    "auto_reply": "an automatic reply",
    "ooo": "an out-of-office reply",
    "bounce": "a delivery report",
    "list": "a mailing list's copy",
    "mdn": "a read receipt",
    "calendar": "an answer to an invitation",
}
_MEANINGS = {
    "yes": "yes: acknowledges",
    "take": "take: makes it theirs, whoever has it",
    "yes_all": "yes to all: acknowledges every open one they were paged for",
    "no": "no: the next step is taken at once",
    "escalate": "escalate: the next step is taken at once",
    "resolve": "resolve: closes it; an open one is acknowledged first",
    "hand_over": "hand over",
    "status": "status: answered with what is open, whose, and by when",
    "question": "not clear: a note, the clock runs on, and they are asked back",
    "nothing": "nothing panicmail acts on: a note, and the clock runs on",
}


@click.command()
@config_option
@json_option
@click.option("--jsonl", "form", flag_value="jsonl", help="Of a folder or an mbox: a line of JSON for each mail.")
@click.option("--csv", "form", flag_value="csv", help="The same as CSV, in few columns.")
@click.argument("file", metavar="FILE|FOLDER|MBOX|-")
def explain(config_file: str | None, as_json: bool, form: str | None, file: str) -> None:
    """How panicmail reads one raw mail, - is stdin; or all of a folder or an mbox, with a summary."""
    config = load(config_file) if config_file else None
    if form is not None or Path(file).is_dir():
        _explain_many(Path(file), config, form)
        return
    report, took = _read(_octets(file))
    if as_json:
        print_json(_document(report, config))
        return
    for line in [*_card(report, took, config), *(_known(config, report) if config else [])]:
        click.echo(line)


def _document(report: Report, config: Config | None) -> dict[str, Any]:
    from panicmail.mail.parse import report_json

    method = config.authentication.method if config else "none"
    explained = {**report_json.explained(report), "authentication": {"method": method}}
    return {**explained, **meaning_of(report, _people(config))}


def _explain_many(path: Path, config: Config | None, form: str | None) -> None:
    from panicmail import log
    from panicmail.cli import explain_many

    log.configure(level="error")
    mails = explain_many.mails_in(path)
    if not mails:
        raise Mistake(f"{shown(str(path))} holds no mail")
    failed = explain_many.explain_all(
        mails, lambda report: _document(report, config), as_csv=form == "csv", quiet=form is None
    )
    if failed:
        click.get_current_context().exit(1)


def _octets(file: str) -> bytes:
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(MOST_OCTETS + 1)
        else:
            with Path(file).open("rb") as mail:
                raw = mail.read(MOST_OCTETS + 1)
    except OSError as exc:
        raise Mistake(f"{shown(file)} cannot be read: {exc.strerror}") from exc
    if len(raw) > MOST_OCTETS:
        raise Mistake(f"{shown(file)} is larger than {MOST_OCTETS // 2**20} MiB; no mail panicmail accepts is")
    return raw


def _read(raw: bytes) -> tuple[Report, float]:
    """The mail as a child reads it, and how many seconds that took."""
    from panicmail import log
    from panicmail.mail.parse.pool import ParserPool

    log.configure(level="error")
    readers = ParserPool(size=1, deadline=PATIENCE)
    readers.start()
    try:
        began = time.monotonic()
        return readers.read(raw), time.monotonic() - began
    finally:
        readers.stop()


# -- the card


def _card(report: Report, took: float, config: Config | None) -> list[str]:
    return [
        *(f"{name:12} {text}" for name, text in _facts(report) if text),
        *_text(report),
        *_answer(report, config),
        *_list("Attachments", _attachments(report)),
        *_list("Links, defanged", [_harmless(link) for link in report.links]),
        *_list("Odd about it", [*map(shown, report.defects), *_doubts(report, took)]),
    ]


def _facts(report: Report) -> list[tuple[str, str]]:
    identity = report.from_address or "nobody in particular: From is missing, several, or no plain address"
    return [
        ("What it is", _what(report)),
        *(("Why" if not number else "", shown(sign)) for number, sign in enumerate(report.why)),
        ("From", shown(f"{report.from_name} <{identity}>" if report.from_name else identity)),
        ("From says", shown(report.from_shown) if not report.from_address else ""),
        ("Reply-To", shown(report.reply_to or "")),
        ("Date", f"{report.date:%Y-%m-%d %H:%M:%S} UTC" if report.date else "none that can be read"),
        ("Subject", _harmless(report.subject) or "(none)"),
        ("Message-ID", shown(report.message_id or "none")),
        ("Answers", shown(", ".join(report.references[-3:]))),
        ("Phones", shown(", ".join(report.phones))),
        ("Delivery", ", ".join(_delivery(d.action, d.recipient, d.status) for d in report.deliveries[:5])),
    ]


def _what(report: Report) -> str:
    """Its kind; an automatic report, which opens a panic like a person's mail, is told from an answer."""
    is_report = (report.kind.value, report.author.value) == ("auto_reply", "report")
    return "an automatic report, such as an alert" if is_report else _KINDS[report.kind.value]


def _known(config: Config, report: Report) -> list[str]:
    """Whether the sender is one of the people of this configuration."""
    named = [
        f"{key} ({shown(person.name)}), one of [people]"
        for key, person in config.people.items()
        if report.from_address in (person.email, *person.aliases)
    ]
    return ["", f"Sender: {named[0] if named else 'none of [people]'}"]


def _delivery(action: str, recipient: str, status: str) -> str:
    return shown(" ".join(filter(None, (action or "reported", f"for {recipient}" if recipient else "", status))))


def _text(report: Report) -> list[str]:
    if not report.reply_text.strip():
        instead = f"; its whole text has {len(report.text)} characters" if report.text.strip() else ""
        return ["", f"Newly written: nothing{instead}"]
    lines = report.reply_text.strip().splitlines()
    more = len(lines) - _LINES
    rest = [f"  … {more} more lines"] if more > 0 else []
    return ["", "Newly written", *(f"  | {_harmless(line)[:300]}".rstrip() for line in lines[:_LINES]), *rest]


def _answer(report: Report, config: Config | None) -> list[str]:
    """What its first line means, were it the answer of somebody paged: of the sender, where that is one of [people]."""
    said = _said(report, _people(config))
    meaning = _MEANINGS[said.name] + (f" to {shown(said.to)}" if said.to else "")
    why = f" ({said.why})" if said.why else ""
    lines = ["", "As the answer of somebody paged", f"  {meaning}{why}"]
    if said.acts and (hindrance := _hindrance(report)):
        lines.append(f"  but it would not count: {hindrance}")
    return lines


def _people(config: Config | None) -> dict[str, Person]:
    from panicmail.incident.people import Person

    given = config.people.items() if config else ()
    return {key: Person(id=key, name=p.name, email=p.email, aliases=p.aliases) for key, p in given}


def _said(report: Report, people: Mapping[str, Person]) -> ReplyCommand:
    from panicmail.incident import reply_commands
    from panicmail.incident.people import by_address

    writer = by_address(people, report.from_address)
    ref = report.subject.partition("[PANIC ")[2].partition("]")[0].strip()  # our subjects name the incident
    known = reply_commands.names(people.values(), writer.id if writer else "", ref=ref)
    return reply_commands.read(report.command_text, known)


def meaning_of(report: Report, people: Mapping[str, Person]) -> dict[str, str | bool]:
    """What it would mean as a reply to a page, and whether it was read well enough to count (contract part 1).

    Args:
        people: By key; empty where nobody is known.
    """
    said, hindrance = _said(report, people), _hindrance(report)
    return {"command": said.name, "command_why": said.why or hindrance, "may_act": not hindrance}


def _hindrance(report: Report) -> str:
    """Why an answer like this one is only a note, whatever it says; "" when nothing hinders."""
    if report.kind.value != "human":
        return f"it is {_KINDS[report.kind.value]}, and those never acknowledge"
    if not report.lossless:
        return "it could not be read without loss"
    if report.first_line == "" and report.reply_text:
        return "its first line may belong to what it quotes"
    return "" if report.from_address else "whose it is cannot be told from its From"


def _attachments(report: Report) -> list[str]:
    return [
        f"{shown(a.name) or '(no name)'}  {shown(a.type)}  {a.size} octets  sha256 {a.sha256[:16]}…"
        for a in report.attachments
    ]


def _doubts(report: Report, took: float) -> list[str]:
    late = f"reading it took {took:.1f} s; the daemon gives up after {DAEMONS_PATIENCE:g} s and reads the octets only"
    lossy = "something of its text may be missing or wrong, so it could never acknowledge"
    return [*([lossy] if not report.lossless else []), *([late] if took > DAEMONS_PATIENCE else [])]


def _list(title: str, items: list[str]) -> list[str]:
    return ["", title, *(f"  {item}" for item in items)] if items else []


def _harmless(text: str) -> str:
    from panicmail.incident.defang import defanged

    return shown(defanged(text))


COMMANDS = (explain,)
