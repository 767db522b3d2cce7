"""How the code is laid out: each library lives in one room, and a name means one thing.

Which room may import which stands in `pyproject.toml` as the contracts of import-linter, which `make lint` runs.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "panicmail"

#: The one home of each third-party library.
HOMES = {
    "aiosmtpd": "server",
    "starlette": "server",
    "uvicorn": "server",
    "jinja2": "server",
    "prometheus_client": "server",
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
    "pydantic": "config",
    "pydantic_core": "config",
    "pydantic_settings": "config",
    "icalendar": "oncall",
    "recurring_ical_events": "oncall",
    "x_wr_timezone": "oncall",
    "apprise": "delivery",
    "httpx2": "delivery",
    "click": "cli",
    "rich": "sandbox",
}

#: Who may have regular expressions: a pattern that meets a stranger's text can stop a process, so each of these is fed
#: what would (`test_patterns`). The sandbox and the demo meet nobody's; neither does the configuration, but its own.
PATTERNS = {
    "cli/command_context",
    "delivery/apprise",
    "delivery/smtp_client",
    "gitlab/escape",
    "gitlab/issue_history",
    "gitlab/issues",
    "gitlab/notes",
    "incident/classify",
    "incident/escalation_policy",
    "incident/push_channel",
    "incident/redact",
    "incident/reply_commands/spelling",
    "incident/reply_tokens",
    "incident/storm_rules",
    "intake/check_page_replies",
    "intake/drills",
    "intake/known_facts",
    "log",
    "mail/compose/message",
    "mail/compose/sanitize",
    "mail/parse/automatic",
    "mail/parse/charsets",
    "mail/parse/contacts",
    "mail/parse/header",
    "mail/parse/html",
    "mail/parse/mime_tree",
    "mail/parse/normalize",
    "mail/parse/parser",
    "mail/parse/received_field",
    "mail/parse/reply_text",
    "mail/parse/report_json",
    "oncall/match_names",
    "response/reporter_thread",
    "response/webhook_signatures",
    "response/webhooks",
    "server/http/app",
    "server/http/rendering",
    "server/smtp/addresses",
    "server/smtp/data",
    "store/spool",
    "store/tables",
}
NOBODY_IS_HEARD = ("sandbox", "config")

#: Names that say nothing about what is inside.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc"}

#: One import: the file, its line, and the dotted name it asks for.
Import = tuple[Path, int, str]


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def unit(file: Path) -> str:
    """The room or module a file belongs to: `panicmail/server/smtp/data.py` is server, `panicmail/log.py` is log."""
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


def of_others() -> Iterator[tuple[str, str, str]]:
    """Who imports which third-party library, and where that stands."""
    for file, line, name in imports():
        top = name.split(".")[0]
        if top != "panicmail" and top not in sys.stdlib_module_names:
            yield unit(file), top, f"{file.relative_to(ROOT.parent)}:{line}"


def test_each_library_lives_in_one_room() -> None:
    wrong = [
        f"{where}: {importer} imports {library}, whose home is {HOMES.get(library, 'nowhere')}"
        for importer, library, where in of_others()
        if library != "structlog" and HOMES.get(library) != importer
    ]
    assert not wrong, "\n".join(wrong)


def test_pure_rules_know_only_the_standard_library() -> None:
    wrong = [f"{where}: {library}" for importer, library, where in of_others() if importer == "incident"]
    assert not wrong, "\n".join(wrong)


def test_regular_expressions_stand_where_they_are_fed_and_nowhere_else() -> None:
    asked = {
        file.relative_to(ROOT).with_suffix("").as_posix()
        for file, _, name in imports()
        if name in {"re", "regex", "sre_parse", "sre_compile"} and unit(file) not in NOBODY_IS_HEARD
    }
    assert asked == PATTERNS


def test_there_are_fifteen_rooms_at_most_and_eight_files_beside_them() -> None:
    folders = [entry for entry in ROOT.iterdir() if entry.is_dir() and any(entry.glob("*.py"))]
    assert len(folders) <= 15
    assert len([*ROOT.glob("*.py")]) <= 8


def test_no_two_modules_have_one_name() -> None:
    names = Counter(
        file.parent.name if file.stem == "__init__" else file.stem
        for file in files()
        if file.stem != "__main__" and "versions" not in file.parts
    )
    assert not [name for name, times in names.items() if times > 1]


def test_no_two_classes_have_one_name() -> None:
    classes = Counter(
        node.name
        for file in files()
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, times in classes.items() if times > 1]


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
        ("from ..store import leases", "panicmail.store"),
        ("from .. import store", "panicmail.store"),
    ],
)
def test_an_import_is_seen_however_it_is_written(text: str, name: str) -> None:
    assert [found for _, _, found in imports_of(ROOT / "smtp" / "listener.py", text)] == [name]


# -- sizes

#: Lines of a function, parameters beside `self`, lines of a class. Migrations are written once and never read again.
LONGEST, MOST_PARAMETERS, LARGEST = 40, 5, 200


def too_large(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef) and _lines_of(node) > LARGEST:
            yield f"{file.name}: {node.name} has {_lines_of(node)} lines"
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if _lines_of(node) > LONGEST:
            yield f"{file.name}: {node.name} has {_lines_of(node)} lines"
        taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len(taken) - (bool(taken) and taken[0].arg in ("self", "cls"))
        if count > MOST_PARAMETERS and node.name != "__init__" and "sandbox" not in file.parts:
            yield f"{file.name}: {node.name} takes {count} parameters"


def _lines_of(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def test_a_function_fits_a_glance_and_a_class_a_few_screens() -> None:
    looked_at = [file for file in files() if "versions" not in file.parts]
    assert [each for file in looked_at for each in too_large(file)] == []


def test_what_is_too_large_is_found(tmp_path: Path) -> None:
    file = tmp_path / "large.py"
    body = "\n".join(f"    x = {n}" for n in range(LONGEST))
    file.write_text(f"def long():\n{body}\n\n\ndef wide(a, b, c, d, e, f):\n    pass\n")
    assert [each.partition(": ")[2] for each in too_large(file)] == ["long has 41 lines", "wide takes 6 parameters"]
