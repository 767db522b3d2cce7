"""What a configuration leaves out and its other keys answer (contract.md, "The smallest one that works").

Works on what was given, before it is known to be right. Where the key to infer from is wrong itself, something of the
right form is put in its place, so that one mistake is told once; such a configuration is refused anyway.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast, get_args

from pydantic import TypeAdapter, ValidationError

from panicmail.config import values
from panicmail.config.mistakes import ConfigMistakes, Place
from panicmail.config.schema import LIST_TABLES, NAMED_TABLES, TABLES, Config, Section
from panicmail.config.sources import Raw
from panicmail.config.values import is_name

#: Roles of the policy nobody wrote down, and when each is paged, in thirds of the SLA.
_STEPS = ((0, ["seoc"]), (1, ["seoc"]), (2, ["seoc"]), (3, ["smoc", "seoc"]))


def infer(raw: Raw, host_name: Callable[[], str]) -> dict[str, str]:
    """Fill in what is missing and can be known.

    Args:
        raw: Is changed.
        host_name: Asked only when no host name is given: it may take a resolver's time.

    Returns:
        Key -> value of each thing filled in, for people to read.
    """
    inferred: dict[str, str] = {}

    def fill(table: str, key: str, value: Any, shown: str | None = None) -> None:
        section = raw.setdefault(table, {})
        if isinstance(section, dict) and key not in section:
            section[key] = value
            inferred[f"{table}.{key}"] = value if shown is None else shown

    first = _first_address(raw)
    local, _, domain = first.partition("@")
    if "hostname" not in _table(raw, "smtp"):
        fill("smtp", "hostname", _host_name(host_name(), domain))
    if _table(raw, "smtp").get("listeners"):
        fill("smtp", "listen", [], "nothing: [[smtp.listeners]] say where")
    fill("replies", "address", f"{local}+{{token}}@{domain}")
    fill("relay", "sender", first)
    fill("relay", "page_sender", first)
    fill("receipts", "domains", [domain], domain)
    fill("database", "url", "sqlite:///panicmail.db")
    fill("database", "spool", _spool(_table(raw, "database").get("url")))
    fill("web", "url", "", "none: mails carry no links")
    policy = _policy(raw)
    shown = ", ".join(f"{step['after']} {'+'.join(step['page'])}" for step in policy)
    fill("escalation", "steps", policy, shown)
    operators = _operators(raw)
    fill("operators", "page", operators, ", ".join(operators))
    inferred.update(_infer_people(raw))
    return inferred


def _infer_people(raw: Raw) -> dict[str, str]:
    inferred: dict[str, str] = {}
    for key, person in _table(raw, "people").items():
        if not isinstance(person, dict):
            continue
        local = _local_part(person.get("email"), key)
        for name, value in (("name", _name_from_local_part(local)), ("gitlab", local)):
            if name not in person:
                person[name] = value
                inferred[f"people.{key}.{name}"] = value
    return inferred


def _table(raw: Raw, name: str) -> Raw:
    table = raw.get(name)
    return table if isinstance(table, dict) else {}


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _first_address(raw: Raw) -> str:
    for given in _texts(_table(raw, "smtp").get("addresses"))[:1]:
        try:
            return values.address(given)
        except ValueError:
            break
    return "panic@example.com"


def _spool(url: object) -> str:
    """Beside the SQLite file; else in the folder systemd keeps for us, or beside the configuration."""
    if isinstance(url, str) and url.startswith("sqlite:///"):
        return str(Path(url.removeprefix("sqlite:///")).with_suffix(".spool"))
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return str(Path(state, "panicmail.spool"))


def _host_name(found: str, domain: str) -> str:
    """The host's full name, when it has one that others could know."""
    usable = "." in found and values.is_domain(found) and not found.startswith("localhost")
    return found.lower() if usable and not found.endswith((".arpa", ".localdomain")) else domain


def _local_part(email: object, key: str) -> str:
    """What stands before the @, without a subaddress; the person's key when there is nothing usable."""
    local = email.partition("@")[0].partition("+")[0] if isinstance(email, str) else ""
    return local if re.fullmatch(r"\w[\w.-]*", local, re.ASCII) else (re.sub(r"\W+", "-", key).strip("-") or "person")


def _name_from_local_part(local: str) -> str:
    """ "ana.reyes" -> "Ana Reyes"."""
    return " ".join(word.capitalize() for word in re.split(r"[._-]+", local) if word) or local


def _policy(raw: Raw) -> list[dict[str, Any]]:
    try:
        sla = values.positive_duration(_table(raw, "escalation").get("sla", "15m"))
    except ValueError:
        sla = timedelta(minutes=15)
    return [{"after": values.written(sla * third / 3), "page": list(roles)} for third, roles in _STEPS]


def _operators(raw: Raw) -> list[str]:
    """The manager on call; without such a role, everybody the last step pages."""
    rosters = _table(raw, "oncall")
    roles = ["smoc"] if "smoc" in rosters else _last_roles(raw)
    people = [person for role in roles for person in _people_of(_table(rosters, role))]
    return list(dict.fromkeys(people))


def _people_of(roster: Raw) -> list[str]:
    """Everybody a roster names; of a calendar only the fallback is known here."""
    shifts = roster.get("shifts")
    on_shift = [
        person
        for shift in (shifts if isinstance(shifts, list) else ())
        if isinstance(shift, dict)
        for person in _texts(shift.get("people"))
    ]
    return _texts(roster.get("fixed")) or on_shift or _texts(roster.get("fallback"))


def _last_roles(raw: Raw) -> list[str]:
    steps = _table(raw, "escalation").get("steps")
    last = steps[-1] if isinstance(steps, list) and steps else None
    return _texts(last.get("page")) if isinstance(last, dict) else []


# -- A configuration being read: each table by itself, so that one wrong key hides no other mistake.

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
