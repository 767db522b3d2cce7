"""The severity of an issue as GitLab shows it: its own field, and a label; and which person set one last. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

from panicmail.gitlab.issue_values import GradedIssue

#: 1 to 4 as GitLab's field has them.
FIELD: Mapping[int, str] = {1: "critical", 2: "high", 3: "medium", 4: "low"}
_BY_FIELD = {word: level for level, word in FIELD.items()}
#: What GitLab's system note says when somebody sets the field.
_CHANGED = re.compile(r"changed the severity to \*\*(\w{3,8})")


def label_for(pattern: str, level: int | None) -> str:
    """The label of a severity; "" where there is none."""
    return pattern.replace("{severity}", str(level)) if pattern and level else ""


class NoteOfIssue(Protocol):
    """A comment or a system note."""

    @property
    def username(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def is_system(self) -> bool: ...
    @property
    def body(self) -> str: ...


def last_edit(labelled: Iterable[Any], notes: Iterable[NoteOfIssue], pattern: str, own: str) -> GradedIssue | None:
    """The last time somebody else than `own`, this token's user, set or took a severity."""
    found = [*_labelled(labelled, pattern), *_noted(notes)]
    return max((each for each in found if each.username not in {own, ""}), key=lambda each: each.at, default=None)


def _labelled(events: Iterable[Any], pattern: str) -> Iterator[GradedIssue]:
    known = {label_for(pattern, level).casefold(): level for level in FIELD if pattern}
    for event in events:
        name = str((event.attributes.get("label") or {}).get("name") or "").casefold()
        at, user = event.attributes.get("created_at"), (event.attributes.get("user") or {}).get("username")
        if name in known and at:
            level = known[name] if event.attributes.get("action") == "add" else None
            yield GradedIssue(level, str(user or ""), datetime.fromisoformat(at))


def _noted(notes: Iterable[NoteOfIssue]) -> Iterator[GradedIssue]:
    for note in notes:
        if note.is_system and (said := _CHANGED.match(note.body[:100])):
            yield GradedIssue(_BY_FIELD.get(said[1].lower()), note.username, note.at)
