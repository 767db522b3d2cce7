"""The house: imports go one way, and each library lives in one room.

    pure rules ← rooms ← use cases ← edges ← daemon ← demo ← commands

A module may import what stands before it in that row. Pure rules and use cases may also import their own kind; a room
knows itself and the ground, never another room. Imports inside functions count like any other.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "panicmail"

#: Who stands where, from the ground up. A new module needs a place here, and a reason.
PURE = {
    "__init__",
    "certificate",
    "channels",
    "clock",
    "confinement",
    "crash",
    "errors",
    "hours",
    "ids",
    "incident",
    "jumps",
    "people",
    "policy",
    "redaction",
    "signatures",
    "states",
    "triage",
    "words",
}
GROUND = {"config", "log", "fetch", "patience"}
ROOMS = {"mail", "store", "oncall", "gitlab", "paging", "sandbox"}
USE_CASES = {
    "accounting",
    "rereading",
    "restoring",
    "timekeeping",
    "intake",
    "acks",
    "conversation",
    "daily_list",
    "drills",
    "escalation",
    "handover",
    "refreshing",
    "signs",
    "dispatch",
    "watch",
    "report",
    "orders",
    "own_files",
    "workers",
    "links",
    "hooks",
    "vitals",
    "assembly",
    "acceptance",
    "emergency",
    "watchdog",
    "check",
}
EDGES = {"smtp", "web"}
TOP = ({"daemon"}, {"demo"}, {"cli"}, {"__main__"})
STOREYS = (PURE, GROUND, ROOMS, USE_CASES, EDGES, *TOP)

#: Storeys whose members may import each other.
TOGETHER = (PURE, GROUND, USE_CASES)

#: The one home of each third-party library.
HOMES = {
    "aiosmtpd": "smtp",
    "mailparser": "mail",
    "mailparser_reply": "mail",
    "selectolax": "mail",
    "gitlab": "gitlab",
    "requests": "gitlab",
    "apscheduler": "daemon",
    "sqlalchemy": "store",
    "alembic": "store",
    "psycopg": "store",
    "psycopg_pool": "store",
    "starlette": "web",
    "uvicorn": "web",
    "jinja2": "web",
    "prometheus_client": "web",
    "pydantic": "config",
    "pydantic_core": "config",
    "pydantic_settings": "config",
    "icalendar": "oncall",
    "recurring_ical_events": "oncall",
    "x_wr_timezone": "oncall",
    "apprise": "paging",
    "httpx2": "fetch",
    "click": "cli",
    "rich": "demo",
}

#: Who may have regular expressions: a pattern that meets a stranger's text can stop a process, so each of these is fed
#: what would (`test_patterns`). The sandbox and the demo meet nobody's; neither does the configuration, but its own.
PATTERNS = {
    *(f"mail/{name}" for name in ("canonical", "charsets", "clues", "compose", "fresh", "header", "html", "kinds")),
    *(f"mail/{name}" for name in ("quoting", "reading", "tokens", "wire")),
    *("smtp/addresses", "smtp/data", "words/spelling", "triage", "policy", "intake", "conversation", "drills", "hooks"),
    *("gitlab/issues", "gitlab/notes", "gitlab/text", "channels", "paging/push", "paging/relay", "web/app"),
    *("web/pages", "check/hearing", "oncall/names", "store/spool", "store/tables", "log", "signatures", "cli/asked"),
    "redaction",
}
NOBODY_IS_HEARD = ("sandbox", "demo", "config")

#: Names that say nothing about what is inside.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc"}

#: One import: the file, its line, and the dotted name it asks for.
Import = tuple[Path, int, str]


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def unit(file: Path) -> str:
    """The room or module a file belongs to: `panicmail/smtp/data.py` is smtp, `panicmail/triage.py` is triage."""
    return file.relative_to(ROOT).with_suffix("").parts[0]


@cache
def imports() -> tuple[Import, ...]:
    return tuple(found for file in files() for found in imports_of(file, file.read_text("utf-8")))


def imports_of(file: Path, text: str) -> Iterator[Import]:
    package = ("panicmail", *file.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(text, str(file))):
        if isinstance(node, ast.Import):
            yield from ((file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            if module == "panicmail":
                yield from ((file, node.lineno, f"panicmail.{alias.name}") for alias in node.names)
            else:
                yield file, node.lineno, module


def of_ours() -> Iterator[tuple[str, str, str]]:
    """Who imports which unit of panicmail, and where that stands."""
    for file, line, name in imports():
        top, *rest = name.split(".")
        if top == "panicmail":
            imported = rest[0] if rest and exists(rest[0]) else "__init__"
            yield unit(file), imported, f"{file.relative_to(ROOT.parent)}:{line}"


def of_others() -> Iterator[tuple[str, str, str]]:
    """Who imports which third-party library, and where that stands."""
    for file, line, name in imports():
        top = name.split(".")[0]
        if top != "panicmail" and top not in sys.stdlib_module_names:
            yield unit(file), top, f"{file.relative_to(ROOT.parent)}:{line}"


def exists(name: str) -> bool:
    return (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()


def storey(name: str) -> int:
    return next((number for number, members in enumerate(STOREYS) if name in members), len(STOREYS))


def may_import(importer: str, imported: str) -> bool:
    if importer == imported or imported == "__init__":
        return True
    if any(importer in members and imported in members for members in TOGETHER):
        return True
    return storey(imported) < storey(importer)


def test_every_module_has_its_place() -> None:
    placed = set().union(*STOREYS)
    assert {unit(file) for file in files()} <= placed
    assert sum(map(len, STOREYS)) == len(placed), "a module stands in two places"


def test_imports_go_one_way() -> None:
    wrong = [
        f"{where}: {importer} imports {imported}"
        for importer, imported, where in of_ours()
        if not may_import(importer, imported)
    ]
    assert not wrong, "\n".join(wrong)


def test_each_library_lives_in_one_room() -> None:
    wrong = [
        f"{where}: {importer} imports {library}, whose home is {HOMES.get(library, 'nowhere')}"
        for importer, library, where in of_others()
        if library != "structlog" and HOMES.get(library) != importer
    ]
    assert not wrong, "\n".join(wrong)


def test_pure_rules_and_the_sandbox_know_only_the_standard_library() -> None:
    wrong = [f"{where}: {library}" for importer, library, where in of_others() if importer in {*PURE, "sandbox"}]
    assert not wrong, "\n".join(wrong)


def test_the_sandbox_stands_apart_from_the_product() -> None:
    wrong = [
        f"{where}: {importer} imports {imported}"
        for importer, imported, where in of_ours()
        if (importer == "sandbox" and imported not in {"sandbox", "errors", "clock", "__init__"})
        or (imported == "sandbox" and importer not in {"sandbox", "demo"})
    ]
    assert not wrong, "\n".join(wrong)


def test_regular_expressions_stand_where_they_are_fed_and_nowhere_else() -> None:
    asked = {
        file.relative_to(ROOT).with_suffix("").as_posix()
        for file, _, name in imports()
        if name in {"re", "regex", "sre_parse", "sre_compile"} and unit(file) not in NOBODY_IS_HEARD
    }
    assert asked == PATTERNS


def test_the_product_does_not_know_its_tests() -> None:
    assert not [where for _, library, where in of_others() if library in {"tests", "pytest", "hypothesis", "conftest"}]


def test_every_file_has_a_name_of_its_own_noun() -> None:
    assert not [file for file in [*ROOT.rglob("*")] if file.stem.strip("_") in EMPTY_NAMES]


def test_every_module_says_what_it_is() -> None:
    texts = {file: file.read_text("utf-8") for file in files()}
    assert not [file for file, text in texts.items() if text.strip() and not ast.get_docstring(ast.parse(text))]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import sqlalchemy.orm", "sqlalchemy.orm"),
        ("def f():\n    from aiosmtpd import smtp", "aiosmtpd"),
        ("from panicmail import log", "panicmail.log"),
        ("from . import data", "panicmail.smtp"),
        ("from ..store import ledger", "panicmail.store"),
        ("from .. import store", "panicmail.store"),
    ],
)
def test_an_import_is_seen_however_it_is_written(text: str, name: str) -> None:
    assert [found for _, _, found in imports_of(ROOT / "smtp" / "listener.py", text)] == [name]


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("intake", "store", True),
        ("store", "intake", False),
        ("triage", "incident", True),
        ("triage", "log", False),
        ("mail", "store", False),
        ("smtp", "web", False),
        ("cli", "daemon", True),
        ("daemon", "cli", False),
        ("cli", "demo", True),
        ("demo", "cli", False),
    ],
)
def test_the_row_is_what_the_design_says(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed
