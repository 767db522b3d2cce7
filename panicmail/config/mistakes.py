"""Mistakes of a configuration, gathered so that one run shows them all.

One line each: where it stands (file, environment name or credential), the key, what was found, what was expected.
What is found under a secret's key is never shown, nor is a URL's user and password anywhere.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from panicmail.config.schema import INNER_TABLES, LIST_TABLES, NAMED_TABLES, TABLES, Section, is_secret, keys_of
from panicmail.log import redact_text

#: A key's place: ("people", "ana", "email"), ("escalation", "steps", 1, "after").
Place = tuple[str | int, ...]

_LONGEST_SHOWN = 60

#: What is expected by pydantic's name for a mistake; of what has an example, that is told too.
_EXPECTED = {"string_type": "text in quotes", "tuple_type": "a list", "dict_type": "a table", "model_type": "a table"}


class ConfigMistakes:
    """The mistakes found so far, and which places are known to be wrong."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: list[str] = []
        self.origins: dict[Place, str] = {}  #: environment name or credential, for what did not come from the file
        self._wrong: set[Place] = set()

    def __bool__(self) -> bool:
        return bool(self.lines)

    def add(self, place: Place, found: object, expected: str) -> None:
        """Record that something else was `expected` at a place than `found`, which is shown unless it is a secret."""
        self._wrong.add(place)
        shown = "a value that is not shown" if _holds_secret(place) else show(found)
        self.say(place, f"found {shown}, expected {expected}")

    def doubt(self, place: Place) -> None:
        """Nothing can be said about the value at a place; the mistake behind that is told elsewhere."""
        self._wrong.add(place)

    def say(self, place: Place, sentence: str) -> None:
        self._wrong.add(place)
        self.lines.append(f"{self.origin(place)}: {spell(place)}: {sentence}")

    def add_unknown_key(self, place: Place, known: Iterable[str]) -> None:
        self.say(place, f"found an unknown key, expected {nearest(str(place[-1]), known)}")

    def origin(self, place: Place) -> str:
        """Where the value at a place, or the nearest thing around it, was given."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.origins:
                return self.origins[place[:length]]
        return self.file

    def touches(self, place: Place) -> bool:
        """Whether the value at a place is wrong, in part or because of what it stands in."""
        return any(all(a == b for a, b in zip(wrong, place, strict=False)) for wrong in self._wrong)

    def add_all(self, at: Place, model: type[Section], error: ValidationError) -> None:
        """Take over what pydantic found wrong in the table at a place."""
        for detail in error.errors(include_url=False):
            place = (*at, *detail["loc"])
            if place in self._wrong:
                continue
            if detail["type"] == "extra_forbidden":
                self.add_unknown_key(place, _keys_at(model, detail["loc"]))
            elif detail["type"] == "missing":
                self.say(place, f"found nothing, expected {_wanted(model, detail, self._speaks_json(place))}")
            else:
                self.add(place, detail["input"], _expected(model, detail, self._speaks_json(place)))

    def _speaks_json(self, place: Place) -> bool:
        """Whether the value at a place came from where lists and tables are written as JSON."""
        return self.origin(place).startswith("PANICMAIL_")


def spell(place: Place) -> str:
    """A place as people write it: `escalation.steps[1].after`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def show(found: object) -> str:
    """What was found, on one line, cut short; a table or list only by its kind when it is long."""
    if isinstance(found, dict):
        return "a table"
    shown = redact_text(json.dumps(found, ensure_ascii=False, default=str))
    if len(shown) <= _LONGEST_SHOWN:
        return shown
    return "a list" if isinstance(found, list | tuple) else f"{shown[:_LONGEST_SHOWN]}…"


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant; all of them when none is near."""
    words = sorted(known)
    by_lower = {known_word.lower(): known_word for known_word in words}
    close = difflib.get_close_matches(word.lower(), by_lower, 1)
    if close:
        return f'"{by_lower[close[0]]}"'
    return f"one of {', '.join(words)}" if words else "none"


def _holds_secret(place: Place) -> bool:
    name = str(place[0])
    model = TABLES.get(name) or NAMED_TABLES.get(name) or LIST_TABLES.get(name)
    key = 1 if name in TABLES else 2
    # A whole table in the wrong form may hold anything.
    return model is None or len(place) <= key or is_secret(model, str(place[key]))


def _model_at(model: type[Section], loc: Place) -> type[Section]:
    """The table in which the last part of a place is a key."""
    for part in loc[:-1]:
        model = INNER_TABLES.get(str(part), model)
    return model


def _keys_at(model: type[Section], loc: Place) -> list[str]:
    return keys_of(_model_at(model, loc))


def _field_at(model: type[Section], loc: Place) -> FieldInfo | None:
    """The field a place is in; of a place within a list, the list's."""
    named = [part for part in loc if isinstance(part, str)]
    fields = _model_at(model, tuple(named)).model_fields
    return next((field for key, field in fields.items() if named and named[-1] == (field.alias or key)), None)


def _expected(model: type[Section], detail: ErrorDetails, as_json: bool) -> str:
    context: dict[str, Any] = detail.get("ctx") or {}
    if detail["type"] == "value_error":
        return str(context["error"])
    if detail["type"] == "literal_error":
        return str(context["expected"]).replace("'", '"')
    return _wanted(model, detail, as_json)


def _wanted(model: type[Section], detail: ErrorDetails, as_json: bool) -> str:
    """What belongs at a place, in the words of the field, or by its example."""
    field, kind = _field_at(model, detail["loc"]), detail["type"]
    is_item = isinstance(detail["loc"][-1], int)
    if field is not None and field.description and not is_item:
        return field.description
    if field is None or not field.examples or kind == "string_type":
        return _EXPECTED.get(kind, "a value")
    example = field.examples[0][0] if is_item else field.examples[0]
    what = ("a list" if isinstance(example, list) else "a table") + (" in JSON" if as_json else "")
    return f"{what} such as {json.dumps(example, ensure_ascii=False) if as_json else _toml(example)}"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


# -- Tables that have a new name: the old one is still read, and each use of it is told with the line to write instead.
#
# One NAME under both names is refused: nobody could say which of them counts.

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
