"""Facts as JSON and as values: the one place that reads and writes what the outbox and the timeline keep.

A kind of facts is a frozen dataclass whose fields all have defaults. Reading is total: what is missing, or is not what
the field holds, is as the default says, so rows of older and newer versions are read, and a notice about them goes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")
#: Reads one value; None: it is no such thing.
_Reader = Callable[[object], Any]


def read(kind: type[Kind], facts: Mapping[str, Any]) -> Kind:
    """`facts` as JSON holds them, as a `kind`."""
    known: Any = kind
    found = ((name, reader(facts.get(name))) for name, reader in _readers(known).items())
    return kind(**{name: value for name, value in found if value is not None})


def written(values: Any) -> dict[str, Any]:
    """A kind of facts as JSON, instants as ISO strings; without what is as its default says."""
    given = {each.name: (getattr(values, each.name), _default(each)) for each in fields(values)}
    return {name: _plain(value) for name, (value, default) in given.items() if value != default}


def _default(field: Any) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return written(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


@cache
def _readers(kind: Any) -> Mapping[str, _Reader]:
    hints = get_type_hints(kind)
    return {each.name: _reader(hints[each.name]) for each in fields(kind)}


def _reader(hint: Any) -> _Reader:
    if get_origin(hint) in {UnionType, Union}:
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        one = _reader(args[0])
        return lambda value: _tuple(value, one)
    if origin is not None and issubclass(origin, Mapping):
        one = _reader(args[1])
        return lambda value: _mapping(value, one)
    if is_dataclass(hint):
        inner: Any = hint
        return lambda value: read(inner, value) if isinstance(value, Mapping) else None
    if issubclass(hint, Enum):
        return lambda value: _member(hint, value)
    return _SCALARS[hint]


def _tuple(value: object, one: _Reader) -> tuple[Any, ...] | None:
    if not isinstance(value, list | tuple):
        return None
    return tuple(read for each in value if (read := one(each)) is not None)


def _mapping(value: object, one: _Reader) -> Mapping[str, Any] | None:
    if not isinstance(value, Mapping):
        return None
    return {str(key): read for key, each in value.items() if (read := one(each)) is not None}


def _member(kind: type[Enum], value: object) -> Enum | None:
    try:
        return kind(value)
    except ValueError:
        return None


def _instant(value: object) -> datetime | None:
    """An aware one."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo else None


_SCALARS: Mapping[object, _Reader] = {
    str: lambda value: None if value is None else str(value),
    bool: lambda value: None if value is None else bool(value),
    int: lambda value: value if isinstance(value, int) and not isinstance(value, bool) else None,
    float: lambda value: value if isinstance(value, int | float) and not isinstance(value, bool) else None,
    datetime: _instant,
}
