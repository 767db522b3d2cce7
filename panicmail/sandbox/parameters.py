"""Reading the parameters of a request, and refusing those that cannot be read in GitLab's words.

Every reader answers None for a parameter that is not given, and raises Refused with a 400 for one that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from panicmail.sandbox.http_request import File, Refused

Params = Mapping[str, Any]


def required(params: Params, name: str) -> str:
    if name not in params:
        raise Refused(400, {"error": f"{name} is missing"})
    return text(params, name) or ""


def text(params: Params, name: str) -> str | None:
    value = params.get(name)
    if isinstance(value, (list, dict, File)):
        raise Refused(400, {"error": f"{name} is invalid"})
    return None if value is None else str(value)


def title(params: Params, name: str) -> str:
    return text(params, name) or ""


def choice(params: Params, name: str, allowed: Sequence[str]) -> str | None:
    value = text(params, name)
    if value is not None and value not in allowed:
        raise Refused(400, {"error": f"{name} does not have a valid value"})
    return value


def one_of(*allowed: str) -> Callable[[Params, str], str | None]:
    return lambda params, name: choice(params, name, allowed)


def boolean(params: Params, name: str) -> bool | None:
    if name not in params:
        return None
    truths = {"true": True, "1": True, "false": False, "0": False}
    value = str(params[name]).lower()
    if value not in truths:
        raise Refused(400, {"error": f"{name} is {'empty' if value in ('', 'none') else 'invalid'}"})
    return truths[value]


def texts(params: Params, name: str) -> list[str]:
    """An array, or one string with commas; in order, without blanks."""
    value = params.get(name)
    parts = value if isinstance(value, list) else str("" if value is None else value).split(",")
    return [one for part in parts if (one := str(part).strip())]


def instant(params: Params, name: str) -> datetime | None:
    """An ISO 8601 instant; without a zone it is read as UTC."""
    value = text(params, name)
    if value is None:
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        raise Refused(400, {"error": f"{name} is invalid"}) from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def number(params: Params, name: str, usual: int) -> int:
    value = text(params, name)
    if value is None:
        return usual
    if not re.fullmatch(r"[0-9]{1,15}", value):
        raise Refused(400, {"error": f"{name} is invalid"})
    if int(value) < 1:
        raise Refused(400, {"error": f"{name} does not have a valid value"})
    return int(value)
