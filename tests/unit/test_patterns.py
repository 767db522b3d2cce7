"""Every regular expression that may meet what a stranger wrote: its time grows with the text, not faster.

The patterns are found in the modules that may have any (`test_house.PATTERNS`), and each is fed runs made for it, asked
in the way its module asks it. Time is the process's own; what takes no time is not measured, and what takes some is
compared with a quarter of it: four times the text may take four times as long, twice that on a bad day, never sixteen.
"""

from __future__ import annotations

import re
import time
import types
from typing import Any

import pytest

from tests import patterns
from tests.examples import if_long
from tests.rooms_of_patterns import PATTERNS

pytestmark = pytest.mark.timeout(600)

_SIZES = (20, 200, 800, 3200, 12_800)
#: Not worth measuring, in seconds.
_NO_TIME = 0.03
_MOST_GROWTH = 9.0


def seconds(pattern: re.Pattern[Any], asked: str, text: str, tries: int = 1) -> float:
    given = text.encode() if isinstance(pattern.pattern, bytes) else text
    taken = []
    for _ in range(tries):
        before = time.process_time()
        if asked == "search":
            for _found in pattern.finditer(given):
                pass
        else:
            getattr(pattern, asked)(given)
        taken.append(time.process_time() - before)
    return min(taken)


def grows_too_fast(pattern: re.Pattern[Any], asked: str, before: str, run: str, after: str) -> bool:
    def text(size: int) -> str:
        return before + run * max(1, size // len(run)) + after

    for size in _SIZES:
        if seconds(pattern, asked, text(size)) > _NO_TIME:
            whole, quarter = (seconds(pattern, asked, text(each), tries=3) for each in (size, size // 4))
            if whole > _NO_TIME and whole > _MOST_GROWTH * quarter:
                return True
    return False


def slow_runs(pattern: re.Pattern[Any], asked: str) -> list[tuple[str, str, str]]:
    return [
        (before, run, after)
        for before, run in patterns.runs(pattern)
        for after in ("\x01", "\n\n")
        if grows_too_fast(pattern, asked, before, run, after)
    ]


@pytest.mark.parametrize("module", sorted(PATTERNS))
def test_no_pattern_takes_longer_than_its_text_is_long(module: str) -> None:
    slow = [
        f"{found.where} {asked}: {runs[:3]}"
        for found in patterns.of(module)
        for asked in (found.asked or {"search"})
        if (runs := slow_runs(found.pattern, asked))
    ]
    assert not slow, "\n".join(slow)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import re\n_B = 'b'\n_A = re.compile('a' + _B, re.I)", ["ab"]),
        ("import re\ndef f(x):\n    return re.sub(r'a', '', x)", ["a"]),
        ("import re\ndef f(x, y):\n    return re.match(f'<{re.escape(y)}>', x)", ["<ana>"]),
        ("import re\n_TABLE = tuple(re.compile(each) for each in ('a', 'b'))", ["a", "b"]),
        ("import re\n_TABLE = {1: [re.compile(each)] for each in 'a'}", ["a"]),
    ],
)
def test_a_pattern_is_found_however_it_is_made(source: str, expected: list[str]) -> None:
    module = types.ModuleType("made")
    exec(source, vars(module))  # noqa: S102 - a line above
    assert [found.pattern.pattern for found in patterns.within("made", module, source)] == expected


@pytest.mark.parametrize(
    "source",
    [
        "import re\ndef f(x, y):\n    return re.search(y, x)",
        "import re\ndef f(x, y):\n    return re.search('a' + y, x)",
        "import re as r\n_A = r.compile('a')",
        "from re import compile\n_A = compile('a')",
    ],
)
def test_a_pattern_that_cannot_be_found_is_not_let_pass(source: str) -> None:
    module = types.ModuleType("made")
    exec(source, vars(module))  # noqa: S102 - a line above
    with pytest.raises(AssertionError):
        patterns.within("made", module, source)


def test_every_module_named_has_patterns() -> None:
    assert [module for module in PATTERNS if not patterns.of(module)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        r"\s+$",
        r"a*b",
        r"\(.*\)x",
        if_long(r"wrote\s?\s*:?\s*-*$"),
        r"(?:a|a)*$",
        r"(?m)^[ \t]*\n*x",
        r"<[^>]*>",
        if_long(r"(\w+\s?)+:"),
    ],
)
def test_a_pattern_that_is_slow_is_found_out(pattern: str) -> None:
    assert slow_runs(re.compile(pattern), "search")


@pytest.mark.parametrize("pattern", [r"\bfrom: \w{1,40}", r"[a-z]+", r"<[^<>]*>", r"(?<!a)a++b", r"\A\s*x"])
def test_a_pattern_that_is_not_slow_is_left_alone(pattern: str) -> None:
    assert not slow_runs(re.compile(pattern), "search")
