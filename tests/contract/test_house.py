"""How the code is laid out: each library lives in one room and keeps its private parts, and a name means one thing.

Which room may import which stands in `pyproject.toml` as the contracts of import-linter, which `make lint` runs.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import smtplib
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.rooms_of_patterns import PATTERNS

ROOT = Path(__file__).parents[2] / "panicmail"

#: The one home of each third-party library.
HOMES = {
    "aiosmtpd": "server",
    "starlette": "server",
    "uvicorn": "server",
    "jinja2": "mail",
    "prometheus_client": "server",
    "charset_normalizer": "mail",
    "mailparser": "mail",
    "tnefparse": "mail",
    "zxingcpp": "mail",
    "PIL": "mail",
    "selectolax": "mail",
    "dkim": "mail",
    "cryptography": "mail",
    "spf": "mail",
    "dns": "mail",
    "publicsuffixlist": "mail",
    "pysequoia": "mail",
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
    "apprise": "delivery",
    "httpx2": "delivery",
    "click": "cli",
    "rich": "sandbox",
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


# -- private parts of others

#: The one module that may use private parts of a library: `test_smtp_protocol` holds each against the stock class.
KNOWS_PRIVATE_PARTS = "server/smtp/protocol"
#: Public and documented, whatever their names begin with: of os, sys and SQLAlchemy's Row.
DOCUMENTED = {"_exit", "_current_frames", "_mapping"}
#: Functions that take the name of an attribute as their second argument.
BY_NAME = {"getattr", "setattr", "delattr", "hasattr"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def defined_in(tree: ast.AST) -> set[str]:
    """Every name a module gives: functions, classes, variables, attributes of `self` and of its classes."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                names.add(node.attr)
    return names


def private_parts_of_others(text: str) -> Iterator[str]:
    """Private names a module takes from what is not its own, or puts there.

    On `self`, `cls` and `super()` see `private_parts_of_bases`.
    """
    tree = ast.parse(text)
    known = defined_in(tree) | DOCUMENTED
    imported = {alias.asname or alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import)
                for alias in node.names}  # fmt: skip
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls") | ast.Call(func=ast.Name(id="super"))):
                continue
            case ast.Attribute(attr=name) if is_private(name) and name not in known:
                yield f"{node.lineno}: {ast.unparse(node)}"
            case ast.Call(func=ast.Name(id=how), args=[_, ast.Constant(value=str(name)), *_]) if how in BY_NAME:
                if is_private(name) and name not in known:
                    yield f"{node.lineno}: {ast.unparse(node)}"
            case ast.Import(names=names) if any(is_private(each) for name in names for each in name.name.split(".")):
                yield f"{node.lineno}: {ast.unparse(node)}"
            case ast.ImportFrom(module=module, names=names):
                if any(map(is_private, [*(module or "").split("."), *(alias.name for alias in names)])):
                    yield f"{node.lineno}: {ast.unparse(node)}"
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id=name))], value=value) if name != "self":
                if name in imported or isinstance(value, ast.Lambda):  # put in the place of what a library has there
                    yield f"{node.lineno}: {ast.unparse(node)}"


@cache
def names_on_self(of: type) -> frozenset[str]:
    """What a class has on itself by its source; nothing of one that is not written in Python."""
    try:
        with warnings.catch_warnings():  # of a source that was written for an older Python
            warnings.simplefilter("ignore")
            return frozenset(re.findall(r"\bself\.(\w+)", inspect.getsource(of)))
    except (TypeError, OSError):
        return frozenset()


def private_parts_of_bases(node: ast.ClassDef, made: type) -> set[str]:
    """Private names of libraries that a class of ours uses, overrides or happens to have too."""
    libraries = [each for each in made.__mro__[:-1] if each.__module__.split(".")[0] != "panicmail"]
    theirs = {name for each in libraries for name in vars(each)}
    theirs = theirs.union(*map(names_on_self, libraries))
    used = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)} | defined_in(node)
    return {name for name in theirs & used if is_private(name)}


def test_one_module_alone_uses_private_parts_of_a_library() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{each}"
        for file in files()
        if file.relative_to(ROOT).with_suffix("").as_posix() != KNOWS_PRIVATE_PARTS
        for each in private_parts_of_others(file.read_text("utf-8"))
    ]
    assert found == []


def test_one_module_alone_has_classes_with_private_parts_of_a_library() -> None:
    found: dict[str, set[str]] = {}
    for file in files():
        written = [node for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
        where = file.relative_to(ROOT).with_suffix("")
        for node in written:
            made = getattr(importlib.import_module(".".join(("panicmail", *where.parts))), node.name)
            if names := private_parts_of_bases(node, made):
                found.setdefault(where.as_posix(), set()).update(names)
    assert list(found) == [KNOWS_PRIVATE_PARTS], found


@pytest.mark.parametrize(
    "text",
    [
        "message._headers",
        "def f(reader): reader.part._payload = 'x'",
        "getattr(message, '_headers')",
        "setattr(message, '_headers', [])",
        "from email._policybase import compat32",
        "from email.parser import _parse",
        "import email._parseaddr",
        "socket.socket()._io_refs",
        "import socket\nsocket.create_connection = None",
        "config.print_stdout = lambda *_: None",
    ],
)
def test_a_private_part_is_found_however_it_is_reached(text: str) -> None:
    assert len(list(private_parts_of_others(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "class A:\n    def __init__(self): self._x = 1\n    def same(self, other): return other._x == self._x",
        "row._mapping",
        "def f(x): return x.__class__.__name__",
        "for _, name in found: pass",
        "class A(B):\n    def _x(self): super()._x()",
    ],
)
def test_what_is_our_own_or_documented_is_no_private_part(text: str) -> None:
    assert list(private_parts_of_others(text)) == []


@pytest.mark.parametrize("body", ["def _get_socket(self): ...", "def f(self): return self._host", "_host = ''"])
def test_a_private_part_of_a_base_is_found(body: str) -> None:
    (node,) = ast.parse(f"class Made(smtplib.SMTP):\n    {body}").body
    assert isinstance(node, ast.ClassDef)
    made = type("Made", (smtplib.SMTP,), {"__module__": "panicmail.made"})
    assert len(private_parts_of_bases(node, made) & {"_get_socket", "_host"}) == 1


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


def test_no_test_module_imports_another() -> None:
    found = [
        f"{file.name}: {name}"
        for file in sorted((ROOT.parent / "tests").rglob("*.py"))
        for _, _, name in imports_of(ROOT / "x.py", file.read_text("utf-8"))
        if re.match(r"tests\.(?:\w+\.)*test_", name)
    ]
    assert found == []
