"""The regular expressions of a module, and what would make each of them slow.

They are found in the source, so none can be forgotten: every call of `re` with its pattern, worked out from the values
of the module. What is put in at run time goes through `re.escape`, and a sample stands for it. Patterns compiled from a
table are found among the module's values. Anything else cannot be worked out, and `of` says where it stands.
"""

from __future__ import annotations

import ast
import importlib
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent / "panicmail"
_SEARCHES = frozenset({"search", "sub", "subn", "split", "findall", "finditer"})
_CALLS = _SEARCHES | {"match", "fullmatch", "compile"}
#: What `re.escape` made of something known at run time alone.
_SAMPLE = "ana"


@dataclass(frozen=True)
class Found:
    """A pattern, and how its module asks it."""

    where: str
    pattern: re.Pattern[Any]
    asked: frozenset[str] = field(default_factory=frozenset)  #: of "search", "match", "fullmatch"


def of(file: str) -> list[Found]:
    """The patterns of `panicmail/FILE.py`.

    Raises:
        AssertionError: One is made in a function of more than constants and `re.escape`.
    """
    module = importlib.import_module("panicmail." + file.replace("/", "."))
    return within(file, module, (ROOT / f"{file}.py").read_text("utf-8"))


def within(file: str, module: ModuleType, source: str) -> list[Found]:
    """The patterns of a module, given its source."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        renamed = isinstance(node, ast.Import) and any(each.name == "re" and each.asname for each in node.names)
        assert not renamed, f"{file}: re has another name"
        assert not (isinstance(node, ast.ImportFrom) and node.module == "re"), (
            f"{file}: a function of re without its name"
        )
    asked = _asked(tree)
    found: dict[tuple[Any, int], Found] = {}
    for call, inside, name in _calls(tree):
        pattern = _evaluated(call, module)
        where = f"{file}:{call.lineno}"
        if pattern is None:
            assert not inside, f"{where}: a pattern that can be known at run time alone"
            continue
        how = asked.get(name, frozenset()) if name else _how(call.func.attr)  # type: ignore[attr-defined]
        _add(found, where, pattern, how)
    for value in list(vars(module).values()):
        for pattern in _compiled(value):
            if (pattern.pattern, pattern.flags) not in found:
                _add(found, file, pattern, frozenset())
    return list(found.values())


def _add(found: dict[tuple[Any, int], Found], where: str, pattern: re.Pattern[Any], how: frozenset[str]) -> None:
    known = found.get((pattern.pattern, pattern.flags))
    found[pattern.pattern, pattern.flags] = Found(where, pattern, how | (known.asked if known else frozenset()))


def _how(method: str) -> frozenset[str]:
    if method == "compile":
        return frozenset()
    return frozenset({"search" if method in _SEARCHES else method})


def _asked(tree: ast.AST) -> dict[str, frozenset[str]]:
    """Name of a compiled pattern -> how it is asked."""
    found: dict[str, frozenset[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _CALLS:
            name = ast.unparse(node.value).removeprefix("self.")
            found[name] = found.get(name, frozenset()) | _how(node.attr)
    return found


def _calls(tree: ast.Module) -> Iterator[tuple[ast.Call, bool, str]]:
    """Every call of `re` that takes a pattern, whether it stands in a function, and the name its value is given."""

    def walk(node: ast.AST, name: str, *, inside: bool) -> Iterator[tuple[ast.Call, bool, str]]:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            name = ast.unparse(target).removeprefix("self.")
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"re.{method}" for method in _CALLS}:
            yield node, inside, name if ast.unparse(node.func) == "re.compile" else ""
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, name, inside=inside)

    yield from walk(tree, "", inside=False)


class _Samples(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        if ast.unparse(node.func) == "re.escape":
            return ast.Constant(_SAMPLE)
        return self.generic_visit(node)


def _evaluated(call: ast.Call, module: ModuleType) -> re.Pattern[Any] | None:
    flags = call.args[1:2] if ast.unparse(call.func) == "re.compile" else []
    flags += [each.value for each in call.keywords if each.arg == "flags"]
    if ast.unparse(call.func) in ("re.match", "re.search", "re.fullmatch", "re.findall", "re.finditer"):
        flags += call.args[2:3]
    asked = ast.Call(func=ast.parse("re.compile", mode="eval").body, args=[call.args[0], *flags], keywords=[])
    expression = ast.fix_missing_locations(ast.Expression(_Samples().visit(asked)))
    try:
        pattern = eval(compile(expression, module.__name__, "eval"), {"re": re, **vars(module)})  # noqa: S307 - ours
    except NameError:
        return None
    assert isinstance(pattern, re.Pattern)
    return pattern


def _compiled(value: object, depth: int = 3) -> Iterator[re.Pattern[Any]]:
    """The compiled patterns in a module's value."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict) and depth:
        for each in (*value, *value.values()):
            yield from _compiled(each, depth - 1)
    elif isinstance(value, tuple | list | set | frozenset) and depth:
        for each in value:
            yield from _compiled(each, depth - 1)


# -- hostile runs

_EVERYWHERE = [" ", "\t", "\n", "\r\n", "a", "A", "1", "é", "一", "\x00", "\u2028", *string.punctuation]
_PARSER: Any = importlib.import_module("re._parser")


def runs(pattern: re.Pattern[Any]) -> list[tuple[str, str]]:
    """What to repeat, and what to put before: every sign, and at each repetition in the pattern what it repeats."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    flags = pattern.flags & ~(re.UNICODE if isinstance(pattern.pattern, bytes) else 0)
    tree = _PARSER.parse(text, flags)
    whole = _witness(tree)
    found = {("", each): None for each in (*_EVERYWHERE, whole, whole + " ", whole + "\n") if each}
    for before, body in _repeated(tree, ""):
        for each in (*body, *(first + second for first in body[:3] for second in body[:3]), before, " ", "\n"):
            if each:
                found[before, each] = None
    return list(found)


def _witness(tree: Any) -> str:
    """A text the pattern would match, or nearly."""
    return "".join(_one(*node) for node in tree)


def _one(op: Any, of: Any) -> str:
    match str(op):
        case "LITERAL":
            return chr(int(of))
        case "NOT_LITERAL":
            return "b" if of != ord("b") else "c"
        case "ANY":
            return "x"
        case "IN":
            return str(_members(of)[0])
        case "BRANCH":
            return _witness(of[1][0])
        case "SUBPATTERN":
            return _witness(of[3])
        case "ATOMIC_GROUP":
            return _witness(of)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return _witness(of[2]) * max(1, min(int(of[0]), 40))
    return ""


def _members(of: Any) -> list[str]:
    """Signs of a class of signs."""
    if str(of[0][0]) == "NEGATE":
        excluded = "".join(_members(of[1:]))
        return [sign for sign in "bx1 é\t-.@" if sign not in excluded] or ["~"]
    found = []
    for op, value in of:
        match str(op):
            case "LITERAL":
                found.append(chr(value))
            case "RANGE":
                found.append(chr(value[0]))
            case "CATEGORY":
                found += {"SPACE": " \n\t", "DIGIT": "1", "WORD": "b1_"}.get(str(value).removeprefix("CATEGORY_"), "b")
    return found[:12]


def _repeated(tree: Any, before: str) -> Iterator[tuple[str, list[str]]]:
    """Every repetition: a text that leads to it, and what it repeats."""
    for op, of in tree:
        match str(op):
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                body = of[2]
                if of[1] > 3:
                    yield before, _bodies(body)
                yield from _repeated(body, before)
            case "BRANCH":
                for each in of[1]:
                    yield from _repeated(each, before)
            case "SUBPATTERN":
                yield from _repeated(of[3], before)
            case "ATOMIC_GROUP":
                yield from _repeated(of, before)
        before += _one(op, of)


def _bodies(body: Any) -> list[str]:
    found = [_witness(body)]
    for op, of in body:
        if str(op) == "IN":
            found += _members(of)
        if str(op) == "BRANCH":
            found += [_witness(each) for each in of[1]]
    return list(dict.fromkeys(found))[:16]
