"""What quick actions do to an issue. Pure.

Carried out is what panicmail has to fear: state, title, labels, people, severity, confidentiality, the lock and the
type. The others change nothing here. A label that does not exist is made, though GitLab would pass it over: the more
harm is seen, the more is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from panicmail.sandbox.quick_actions import QuickAction

#: In the words of `Instance.edit_issue`, but with usernames for people.
Wanted = dict[str, Any]

_SEVERITIES = {"s1": "critical", "s2": "high", "s3": "medium", "s4": "low"}


@dataclass(frozen=True, kw_only=True)
class Before:
    """The issue as it is, and who writes."""

    actor: str
    assignees: Sequence[str]
    labels: Sequence[str]


def effect(command: QuickAction, before: Before) -> Wanted:
    """What the command changes; nothing when it is only recorded or its argument makes no sense."""
    change = _CHANGES.get(command.name)
    return {} if change is None else change(command.argument, before)


def _assign(argument: str, before: Before) -> Wanted:
    return {"assignees": list(dict.fromkeys([*before.assignees, *_people(argument, before)]))}


def _reassign(argument: str, before: Before) -> Wanted:
    return {"assignees": _people(argument, before)}


def _unassign(argument: str, before: Before) -> Wanted:
    """Nobody named means everybody."""
    leaving = _people(argument, before) or before.assignees
    return {"assignees": [one for one in before.assignees if one not in leaving]}


def _people(argument: str, before: Before) -> list[str]:
    return [before.actor if name == "me" else name for name in re.findall(r"@?([\w][\w.-]*)", argument)]


def _label(argument: str, before: Before) -> Wanted:
    return {"add_labels": _labels(argument)}


def _relabel(argument: str, before: Before) -> Wanted:
    return {"labels": _labels(argument)}


def _unlabel(argument: str, before: Before) -> Wanted:
    """None named means all."""
    return {"remove_labels": _labels(argument) or list(before.labels)}


def _labels(argument: str) -> list[str]:
    return [quoted or plain for quoted, plain in re.findall(r"~?(?:\"([^\"]+)\"|([^\s~\"]+))", argument)]


def _title(argument: str, before: Before) -> Wanted:
    return {"title": argument[:255]} if argument else {}


def _severity(argument: str, before: Before) -> Wanted:
    level = _SEVERITIES.get(argument.lower(), argument.lower())
    return {"severity": level} if level in (*_SEVERITIES.values(), "unknown") else {}


def _type(argument: str, before: Before) -> Wanted:
    kind = argument.lower()
    return {"issue_type": kind} if kind in ("issue", "incident", "task", "ticket") else {}


def _always(**wanted: Any) -> Callable[[str, Before], Wanted]:
    return lambda argument, before: dict(wanted)


_CHANGES: Mapping[str, Callable[[str, Before], Wanted]] = {
    "close": _always(state_event="close"),
    "duplicate": _always(state_event="close"),
    "reopen": _always(state_event="reopen"),
    "confidential": _always(confidential=True),
    "lock": _always(discussion_locked=True),
    "unlock": _always(discussion_locked=False),
    "promote_to_incident": _always(issue_type="incident"),
    "convert_to_ticket": _always(issue_type="ticket"),
    "assign": _assign,
    "reassign": _reassign,
    "unassign": _unassign,
    "label": _label,
    "labels": _label,
    "relabel": _relabel,
    "unlabel": _unlabel,
    "remove_label": _unlabel,
    "title": _title,
    "severity": _severity,
    "type": _type,
}
