"""Texts that the patterns of the languages stand for."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

from panicmail.incident.reply_commands.lexicon import Kind, Pattern, Sign, lexicon


def texts(pattern: Pattern, choose: Callable[[int], int]) -> str:
    """One text a pattern stands for: `choose` says which of so many options is taken."""
    words = [each if isinstance(each, str) else texts(each[choose(len(each))], choose) for each in pattern]
    return " ".join(word for word in words if word not in {"", "~", "+"}).replace("#", "7")


@cache
def every(kind: Kind | Sign) -> dict[str, str]:
    """Of each pattern of a kind, in every language: its first, its last, and some texts between them; its language."""
    draw = random.Random(kind.value)
    found = {}
    for language in lexicon().all():
        table = language.phrases if isinstance(kind, Kind) else language.signs
        for pattern in table.patterns.get(kind, ()):  # type: ignore[arg-type]
            for choose in (lambda _: 0, lambda n: n - 1, *([draw.randrange] * 4)):
                found[texts(pattern, choose).strip()] = language.name
    return {text: name for text, name in found.items() if text}
