"""Tables that have a new name: the old one is still read, and each use of it is told with the line to write instead.

One NAME under both names is refused: nobody could say which of them counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panicmail.config.mistakes import ConfigMistakes

#: Old -> new, of tables that hold one table per name.
RENAMED: Mapping[str, str] = {"ladders": "policies"}


class OldNames:
    """What came under an old name, over all sources of one configuration."""

    def __init__(self, mistakes: ConfigMistakes, warnings: list[str]) -> None:
        self._mistakes = mistakes
        self._warnings = warnings
        self._old: dict[tuple[str, str], str] = {}  #: (new table, name) -> as it was written
        self._new: set[tuple[str, str]] = set()

    def in_file(self, raw: dict[str, Any]) -> None:
        """Give the tables of a file their new names, in place."""
        for old, new in RENAMED.items():
            current = raw.get(new)
            for name in current if isinstance(current, dict) else ():
                self._note_new(new, name)
            if not isinstance(given := raw.pop(old, None), dict):
                if given is not None:
                    raw.setdefault(new, given)
                continue
            for name, value in given.items():
                self._note_old(new, name, f"[{old}.{name}]", f"[{new}.{name}]", self._mistakes.file)
                if not isinstance(current, dict) or name not in current:
                    raw.setdefault(new, {})[name] = value

    def flat(self, name: str, origin: str) -> str:
        """A flat name such as `ladders__low__sla` under its new table."""
        table, *rest = name.split("__")
        if table not in RENAMED:
            if table in RENAMED.values() and rest:
                self._note_new(table, rest[0])
            return name
        new_name = "__".join((RENAMED[table], *rest))
        if rest:
            self._note_old(RENAMED[table], rest[0], origin, f"{origin[: -len(name)]}{_cased(new_name, origin)}", "")
        return new_name

    def refuse_both(self) -> None:
        """Record a mistake for each name that came under both."""
        new = {(table, name.lower()) for table, name in self._new}
        for (table, name), written in self._old.items():
            if (table, name.lower()) in new:
                self._mistakes.say((table, name), f"found {written} too, its old name; expected one of them")

    def _note_new(self, table: str, name: str) -> None:
        self._new.add((table, str(name)))

    def _note_old(self, table: str, name: str, written: str, new_name: str, where: str) -> None:
        self._old[table, str(name)] = written
        self._warnings.append(f"{where + ': ' if where else ''}{written} has a new name; write {new_name}")


def _cased(name: str, origin: str) -> str:
    """In the case of the source: names in the environment are written in capitals."""
    return name.upper() if origin.isupper() else name
