"""`[senders] reporters_file`: private addresses of people of the house, as CSV: address, name, phone."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from panicmail.config import values

_COLUMNS = ("address", "name", "phone")
#: A file of more lines than this is no list of people.
_MOST = 200_000


@dataclass(frozen=True, slots=True)
class KnownReporter:
    """Somebody of the house who may write from a private address."""

    name: str
    phone: str = ""  #: "" when it is not known


def read(path: Path) -> Mapping[str, KnownReporter]:
    """Who is behind which address, by address in lower case. A first line that names the columns is passed over.

    Raises:
        ValueError: It cannot be read, or a line is wrong; in words that name the line and what is expected.
    """
    found: dict[str, KnownReporter] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file, strict=True), 1):
                if number > _MOST:
                    raise ValueError(f"more than {_MOST} lines, expected one for each person")
                fields = [field.strip() for field in row]
                if not any(fields) or (number == 1 and fields[0].lower() == _COLUMNS[0]):
                    continue
                address, reporter = _line(fields, number)
                if address in found:
                    raise ValueError(f"line {number}: {address} stands there twice")
                found[address] = reporter
    except (OSError, UnicodeError, csv.Error) as error:
        raise ValueError(f"{path.name} cannot be read as CSV in UTF-8: {error}") from error
    return found


def _line(fields: list[str], number: int) -> tuple[str, KnownReporter]:
    if not 2 <= len(fields) <= len(_COLUMNS):
        raise ValueError(f"line {number}: found {len(fields)} fields, expected address,name,phone (phone may be empty)")
    try:
        address = values.address(fields[0])
    except ValueError:
        raise ValueError(f"line {number}: found {fields[0][:80]!r}, expected a mail address") from None
    if not fields[1]:
        raise ValueError(f"line {number}: {address} has no name")
    return address, KnownReporter(" ".join(fields[1].split()), fields[2] if len(fields) > 2 else "")
