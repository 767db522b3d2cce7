"""Whether the memory the service may use has room for its readers at their worst.

The limit is looked for where systemd and containers put it, in the control group: of the unit while it runs, else of
this very process. Nobody is asked for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path

from panicmail.check.result import Group, Row
from panicmail.confinement import ADDRESS_SPACE
from panicmail.mail.parse.parser_staff import MOST

#: What the daemon itself needs, in octets, with small mails on their way in.
#: And how many of the largest mails may be in its memory at once: two that are stored, and a copy of each.
DAEMON, RECEIVED = 512 * 2**20, 4
_UNIT = "system.slice/panicmail.service"
#: Of the second version of control groups, and of the first: where memory is limited, and in which file.
_PLACES = (("", "memory.max"), ("memory", "memory.limit_in_bytes"))
#: What the first version says when there is no limit is somewhere above.
_NO_LIMIT = 2**60


def rows(max_message_size: int, limit: int | None) -> list[Row]:
    """One row where there is a limit, else none.

    Args:
        limit: What the service may use, in octets; None: there is no limit.
    """
    if limit is None:
        return []
    need = MOST * ADDRESS_SPACE + RECEIVED * max_message_size + DAEMON
    told = f"{MOST} readers of {_gib(ADDRESS_SPACE)}, mails coming in and the daemon: {_gib(need)} at most"
    if limit >= need:
        return [Group.STORE.ok("memory", f"{told}, of {_gib(limit)}")]
    found = f"{told}; MemoryMax is {_gib(limit)}, so a large mail may cost a reader its life and be read late"
    mend = f"set MemoryMax={ceil(need / 2**30)}G (systemctl edit panicmail), or as much for the container"
    return [Group.STORE.warning("memory", found, mend)]


def limit(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """What the service may use, in octets; None when there is no limit, or none that can be seen from here."""
    found = [value for folder, file in _folders(groups, own) if (value := _value(folder / file)) is not None]
    return min(found, default=None)


def _folders(groups: Path, own: Path) -> Iterator[tuple[Path, str]]:
    """Each control group whose limit counts, and the name of the file with it: the innermost one and all around it."""
    for place, file in _PLACES:
        root = groups / place
        inner = root / _UNIT
        if not inner.is_dir():
            inner = root / _own_path(own, place)
        while inner.is_relative_to(root):
            yield inner, file
            inner = inner.parent


def _own_path(own: Path, place: str) -> str:
    """The control group of this process, relative to the place where those are that limit memory."""
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _number, controllers, path = line.split(":", 2)
            if place in controllers.split(","):
                return path.lstrip("/")
    return ""


def _value(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        value = int(file.read_text())  # "max" is none
        return value if value < _NO_LIMIT else None
    return None


def _gib(octets: int) -> str:
    return f"{octets / 2**30:.1f} GiB".replace(".0 ", " ")
