"""One HTTP request to the stand-in GitLab, read; and the answer to it.

Parameters come from the query, a JSON object, a form or a multipart body alike, as GitLab takes them; `name[]` is a
list. What cannot be read is `Refused` with the answer GitLab would give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes


@dataclass(frozen=True)
class File:
    """A file of a multipart body."""

    name: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class SandboxRequest:
    method: str
    path: str  #: still percent-encoded, without the query
    query: tuple[tuple[str, str], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)  #: str, list, File, or whatever JSON holds


@dataclass(frozen=True, kw_only=True)
class SandboxAnswer:
    status: int = 200
    body: Any = None  #: JSON-able, or bytes when `type` is given
    type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def octets(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Refused(Exception):  # noqa: N818 - said of a request: refused
    """A request GitLab says no to, with its words."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.answer = SandboxAnswer(status=status, body=dict(body), headers=headers or {})


def read_call(method: str, target: str, content_type: str, body: bytes) -> SandboxRequest:
    """Raises Refused when the body is not what its type says."""
    path, _, query_text = target.partition("?")
    query = tuple(parse_qsl(query_text, keep_blank_values=True))
    params = _gather(query)
    kind = content_type.partition(";")[0].strip().lower()
    if body and kind == "application/json":
        params |= _read_json(body)
    elif body and kind == "application/x-www-form-urlencoded":
        params |= _gather(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    elif body and kind == "multipart/form-data":
        params |= _gather(_read_multipart(content_type, body))
    if not all(_is_wellformed(value) for value in params.values()):
        raise Refused(400, {"message": "400 Bad request"})
    return SandboxRequest(method=method, path=path, query=query, params=params)


def _is_wellformed(value: Any) -> bool:
    """Whether PostgreSQL could hold it: no NUL and no half of a surrogate pair, however deep."""
    if isinstance(value, str):
        return re.search("[\0\ud800-\udfff]", value) is None
    if isinstance(value, (list, dict)):
        return all(_is_wellformed(one) for one in (value.values() if isinstance(value, dict) else value))
    return True


def _gather(pairs: Any) -> dict[str, Any]:
    gathered: dict[str, Any] = {}
    for name, value in pairs:
        if name.endswith("[]"):
            gathered.setdefault(name[:-2], []).append(value)
        else:
            gathered[name] = value
    return gathered


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise Refused(400, {"error": "message body does not match declared format"})
    return read


def _read_multipart(content_type: str, body: bytes) -> list[tuple[str, str | File]]:
    """Split at the boundary by hand: the e-mail parser would alter bare CRs in a file."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if boundary is None:
        raise Refused(400, {"error": "message body does not match declared format"})
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())
    read: list[tuple[str, str | File]] = []
    for part in parts[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        disposition = head.decode("utf-8", "replace")
        name = _parameter(disposition, "name")
        filename = _parameter(disposition, "filename")
        if name is not None:
            read.append((name, data.decode("utf-8", "replace") if filename is None else File(filename, data)))
    return read


def _parameter(disposition: str, name: str) -> str | None:
    """A parameter of Content-Disposition, plain (WHATWG escapes) or extended (RFC 5987, UTF-8)."""
    extended = re.search(rf"\b{name}\*=utf-8''([^;\s]+)", disposition, re.IGNORECASE)
    if extended:
        return unquote_to_bytes(extended[1]).decode("utf-8", "replace")
    plain = re.search(rf'\b{name}="([^"]*)"', disposition, re.IGNORECASE)
    return plain and plain[1].replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


# -- Reading the parameters of a request, and refusing those that cannot be read in GitLab's words.
#
# Every reader answers None for a parameter that is not given, and raises Refused with a 400 for one that is wrong.

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
