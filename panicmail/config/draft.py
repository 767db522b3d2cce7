"""A configuration being read: each table by itself, so that one wrong key hides no other mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, cast, get_args

from pydantic import TypeAdapter, ValidationError

from panicmail.config.mistakes import ConfigMistakes, Place
from panicmail.config.schema import LIST_TABLES, NAMED_TABLES, TABLES, Config, Section
from panicmail.config.sources import Raw
from panicmail.config.values import is_name

#: What people call what stands in each named table.
_NAMES = {"people": "ana", "oncall": "seoc", "policies": "low"}


class ConfigDraft:
    """What could be read of each table; what could not is in `mistakes`."""

    def __init__(
        self, raw: Raw, inferred: Mapping[str, str], mistakes: ConfigMistakes, context: dict[str, Any]
    ) -> None:
        self.inferred = inferred
        self.mistakes = mistakes
        self._context = context
        self._values: dict[Place, dict[str, Any]] = {}  #: of each table, the keys that could be read
        self._models: dict[Place, type[Section]] = {}
        self._given: dict[Place, Raw] = {}
        self._whole: dict[Place, Section] = {}  #: the tables without a mistake
        for name in sorted(raw.keys() - TABLES.keys() - NAMED_TABLES.keys() - LIST_TABLES.keys()):
            mistakes.add_unknown_key((name,), [*TABLES, *NAMED_TABLES, *LIST_TABLES])
        for name, model in TABLES.items():
            self._read((name,), model, raw.get(name, {}))
        for name, model in NAMED_TABLES.items():
            self._read_named(name, model, raw.get(name, {}))
        for name, model in LIST_TABLES.items():
            self._read_list(name, model, raw.get(name, []))

    def get(self, *place: str) -> Any:
        """The value at a place; None when it or a part of it is wrong: that mistake is known, nothing follows."""
        return None if self.mistakes.touches(place) else self._values[place[:-1]].get(place[-1])

    def items(self, *place: str) -> Iterator[tuple[int, Any]]:
        """The items of a list that could be read, each with its number, although others could not."""
        model, given = self._models[place[:-1]], self._given[place[:-1]].get(place[-1], ())
        (kind, *_) = get_args(model.model_fields[place[-1]].annotation)
        for number, item in enumerate(given if isinstance(given, list | tuple) else ()):
            if not self.mistakes.touches((*place, number)):
                yield number, TypeAdapter(kind).validate_python(item, context=self._context)

    def gives(self, *place: str) -> bool:
        """Whether something that is not empty stands at a place, readable or not."""
        return self._given.get(place[:-1], {}).get(place[-1]) not in (None, "", [], ())

    def whole(self, *place: str) -> Any:
        """The table at a place; only where it has no mistake."""
        return self._whole[place]

    def names(self, table: str) -> list[str]:
        """The people or roles that were named, readable or not."""
        return [str(place[1]) for place in self._values if place[0] == table and len(place) == 2]

    def finish(self, **rest: Any) -> Config:
        """The configuration; only when there is no mistake."""
        tables: dict[str, Any] = {name: self._whole[name,] for name in TABLES}
        for table in NAMED_TABLES:
            tables[table] = {name: self._whole[table, name] for name in self.names(table)}
        for table in LIST_TABLES:
            tables[table] = self.rows(table)
        return Config(**tables, **rest)

    def _read_named(self, table: str, model: type[Section], given: object) -> None:
        if not isinstance(given, dict):
            self.mistakes.add((table,), given, f"tables such as [{table}.{_NAMES[table]}]")
            return
        for name, value in given.items():
            if not is_name(name):
                self.mistakes.say((table, name), "found no name, expected one word of letters and digits")
            self._read((table, name), model, value)

    def rows(self, table: str) -> tuple[Any, ...]:
        """The tables of a list, in order; only where none has a mistake."""
        return tuple(whole for place, whole in self._whole.items() if place[0] == table)

    def _read_list(self, table: str, model: type[Section], given: object) -> None:
        if not isinstance(given, list | tuple):
            self.mistakes.add((table,), given, f"tables such as [[{table}]]")
            return
        for number, value in enumerate(given):
            self._read((table, number), model, value)

    def _read(self, place: Place, model: type[Section], given: object) -> None:
        self._values[place], self._given[place], self._models[place] = {}, {}, model
        if not isinstance(given, dict):
            self.mistakes.add(place, given, f"a table, [{'.'.join(map(str, place))}]")
            return
        self._given[place] = given
        try:
            self._whole[place] = whole = model.model_validate(given, context=self._context)
            self._values[place] = dict(whole)
        except ValidationError as exc:
            self.mistakes.add_all(place, model, exc)
            self._values[place] = self._readable(place, model, given)

    def _readable(self, place: Place, model: type[Section], given: Raw) -> dict[str, Any]:
        """The keys of a table that can be read although others cannot."""
        return {
            key: _adapter(model, key).validate_python(given[key], context=self._context)
            if key in given
            else field.default
            for key, field in model.model_fields.items()
            if not self.mistakes.touches((*place, key))
        }


@cache
def _adapter(model: type[Section], key: str) -> TypeAdapter[Any]:
    field = model.model_fields[key]
    return TypeAdapter(cast(Any, Annotated[field.annotation, field]))
