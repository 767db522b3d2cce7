"""How the commands answer: tables, JSON, instants, who runs them, and a stranger's words made harmless."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from panicmail.incident.model import Incident


def brief(incident: Incident) -> dict[str, Any]:
    is_open = incident.state.value == "open"  # whoever had it before, nobody has it now
    return {
        "ref": incident.ref,
        "id": incident.id,
        "state": incident.state.value,
        "subject": incident.subject,
        "reporter": incident.reporter_address,
        "accepted_at": iso(incident.accepted_at),
        "sla_at": iso(incident.sla_at),
        "step": incident.step + 1,
        "next_step_at": iso(incident.next_step_at),
        "ladder": incident.policy,
        "severity": incident.severity,
        "severity_by": incident.severity_by,
        "holder": None if is_open else incident.holder,
        "last_holder": incident.holder,
        "acked_at": None if is_open else iso(incident.acked_at),
        "acked_how": "" if is_open else incident.acked_how,
        "breached_at": iso(incident.breached_at),
        "resolved_at": iso(incident.resolved_at),
        "resolved_by": incident.resolved_by,
        "paged": sorted(incident.paged),
        "issue": incident.issue_url,
        "once": incident.once,
        "drill": incident.drill,
        "linked_to": incident.linked_to,
    }


def print_incident(document: dict[str, Any]) -> None:
    for name in ("ref", "state", "subject", "reporter", "severity", "ladder", "accepted_at", "sla_at", "next_step_at",
                 "holder", "acked_how", "breached_at", "resolved_by", "issue"):  # fmt: skip
        if document[name]:
            click.echo(f"{name.replace('_', ' '):14} {shown(str(document[name]))}")
    click.echo("\nTimeline")
    for line in document["timeline"]:
        facts = "  ".join(f"{k}={shown(str(v))[:100]}" for k, v in line["facts"].items() if v not in ("", None, []))
        click.echo(f"  {line['at']}  {line['event']:22} {shown(line['actor'] or '-')}  {facts}")
    click.echo("\nSent")
    for task in document["outbox"]:
        what = f"{task['do']:9} {task['person'] or '-':8} {task['state']:8}"
        click.echo(f"  {task['queued_at']}  {what} {shown(task['answer'])}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    if not rows:
        click.echo(empty)
        return
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    for row in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def shown(text: str, *, lines: bool = False) -> str:
    """Text of a stranger as a terminal may show it: without control characters."""
    keep = "\n\t" if lines else ""
    return "".join(c if c in keep or c.isprintable() else " " for c in text)


def runner() -> str:
    """Who runs this: whoever became somebody else by sudo, else the user, by name or else by number."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def zulu(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
