"""The phrases the grammar knows, language by language: data in `languages/*.toml`.

A file has the tables `short` (contractions and what each is in full), `part` (what patterns share), `phrase` (what a
sentence of a command may be made of, by the kinds of `Kind`) and `takes` (what in a further sentence takes a yes back,
by the kinds of `KindSign`). All languages are one table: people mix them.

A pattern is words, with `[optional]`, `(one|other)`, `{part}` and `#`, a number from 1 to 60. It is written as
`spelling` levels it: lower case, no accents.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any, Generic, TypeVar

from panicmail.incident.reply_commands.spelling import sentences


class Kind(StrEnum):
    """What a phrase is in the sentence of a command."""

    ACK = "ack"  #: the word of acknowledging: a time may not follow it in one breath ("ack in 10 min")
    YES = "yes"  #: it is mine now
    TAKE = "take"  #: mine, whoever has it
    ALL = "all"  #: every open one
    ASSENT = "assent"  #: ok; enough alone
    APART = "apart"  #: ok, where a pause follows: some people are called so
    COMING = "coming"  #: on my way; enough alone, and no command
    REPORT = "report"  #: will report back; not enough alone
    CONTACT = "contact"  #: calling, before whom
    WHOM = "whom"  #: the reporter
    TIME = "time"  #: now
    AFTER = "after"  #: in 10 min
    FRIENDLY = "friendly"  #: adds nothing
    ADDRESS = "address"  #: hello; a name may follow
    NO = "no"  #: not me
    NOT_NOW = "not_now"  #: a no to a page, and an answer to much else, so it is none of whoever has it
    NO_GO_ON = "no_go_on"  #: how the reason of a no begins without a pause
    ESCALATE = "escalate"
    RESOLVE = "resolve"
    BECAUSE = "because"  #: how the reason of the two begins without a pause
    HAND = "hand"  #: before the name of who is to have it


class Sign(StrEnum):
    """What in a further sentence may take a yes back."""

    WORDS = "words"  #: says of somebody that they have it
    ORDERS = "orders"  #: asks for somebody else
    NOBODY = "nobody"  #: somebody else, unnamed
    NEGATION = "negation"
    REFUSAL = "refusal"  #: a negation that cannot be about anything else, or of a language nothing else is known of
    CONDITION = "condition"
    DEFER = "defer"
    ABSENT = "absent"
    I = "i"  # noqa: E741 - the word
    ME = "me"
    OTHER_SUBJECT = "other_subject"  #: begins a sentence about something else
    BEGINS = "begins"  #: begins a sentence that may be about the writer without saying so


Phrase = tuple[str, ...]
K = TypeVar("K", bound=StrEnum)


class Phrases(Generic[K]):
    """Phrases by the word they begin with. An element of one is a word or, in braces, a part."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._by_first: dict[str, dict[Phrase, set[K]]] = defaultdict(dict)

    def add(self, phrase: Phrase, kind: K) -> None:
        for first in self._parts.first_words(phrase[0]):
            self._by_first[first].setdefault(phrase, set()).add(kind)

    def at(self, words: Sequence[str], start: int) -> Iterator[tuple[int, K]]:
        """The phrases that stand in `words` at `start`: where each ends, and what it is."""
        for phrase, kinds in self._by_first.get(words[start], {}).items():
            for end in self._parts.ends(phrase, words, start):
                for kind in kinds:
                    yield end, kind

    def of(self, kind: K) -> list[str]:
        """Every phrase of a kind, its parts filled with the first that fits."""
        found = {p for phrases in self._by_first.values() for p, kinds in phrases.items() if kind in kinds}
        return sorted(self._parts.example(phrase) for phrase in found)


class Parts:
    """What patterns share, by the name of its language and its own: alternatives, each a phrase."""

    def __init__(self) -> None:
        self._of: dict[str, list[Phrase]] = {}

    def add(self, name: str, phrases: Iterable[Phrase]) -> None:
        self._of[name] = list(dict.fromkeys(phrases))

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def first_words(self, element: str) -> set[str]:
        if element not in self._of:
            return {element}
        return {word for phrase in self._of[element] for word in self.first_words(phrase[0])}

    def ends(self, phrase: Phrase, words: Sequence[str], start: int) -> set[int]:
        """Where `phrase`, standing in `words` at `start`, may end."""
        ends = {start}
        for element in phrase:
            ends = {after for end in ends for after in self._after(element, words, end)}
        return ends

    def _after(self, element: str, words: Sequence[str], at: int) -> set[int]:
        if element in self._of:
            return {end for phrase in self._of[element] for end in self.ends(phrase, words, at)}
        return {at + 1} if at < len(words) and words[at] == element else set()

    def example(self, phrase: Phrase) -> str:
        return " ".join(self.example(self._of[each][0]) if each in self._of else each for each in phrase)


class Lexicon:
    """Every language's phrases."""

    def __init__(self, languages: Mapping[str, Mapping[str, Any]]) -> None:
        self.short: dict[str, str] = {}
        self._parts = Parts()
        self.phrases: Phrases[Kind] = Phrases(self._parts)
        self.signs: Phrases[Sign] = Phrases(self._parts)
        for language in languages.values():
            self.short |= language.get("short", {})
        for name, language in languages.items():
            for part, options in language.get("part", {}).items():
                self._parts.add(f"{{{name}/{part}}}", (p for o in options for p in self._phrases(name, o)))
            for kind, patterns in language.get("phrase", {}).items():
                self._fill(self.phrases, Kind(kind), name, patterns)
            for sign, patterns in language.get("takes", {}).items():
                self._fill(self.signs, Sign(sign), name, patterns)

    def _fill(self, table: Phrases[K], kind: K, language: str, patterns: Iterable[str]) -> None:
        for pattern in patterns:
            for phrase in self._phrases(language, pattern):
                table.add(phrase, kind)

    def _phrases(self, language: str, pattern: str) -> Iterator[Phrase]:
        for text in expanded(pattern):
            phrase: list[str] = []
            for piece in text.replace("{", "\0{").replace("}", "}\0").split("\0"):
                if piece.startswith("{"):
                    if f"{{{language}/{piece[1:-1]}}}" not in self._parts:
                        raise KeyError(f"{language} has no part {piece}, which {pattern!r} names")
                    phrase.append(f"{{{language}/{piece[1:-1]}}}")
                else:
                    phrase += (w for s in sentences(piece.replace("#", "1"), self.short) for w in s.words)
            yield tuple(phrase)


def expanded(pattern: str) -> list[str]:
    """Every text a pattern stands for, its parts left in their braces."""
    pieces, at = _alternatives(pattern, 0)
    if at != len(pattern):
        raise ValueError(f"a bracket too many in the pattern {pattern!r}")
    return list(dict.fromkeys(" ".join(text.split()) for text in pieces if text.strip()))


def _alternatives(pattern: str, at: int) -> tuple[list[str], int]:
    """The texts of `one|other` from `at` up to a closing bracket, and where that stands."""
    found: list[str] = []
    row: list[list[str]] = []
    while at < len(pattern) and pattern[at] not in ")]":
        sign = pattern[at]
        if sign in "([":
            options, at = _alternatives(pattern, at + 1)
            row.append([*options, ""] if sign == "[" else options)
            at += 1
        elif sign == "|":
            found += ["".join(choice) for choice in product(*row)]
            row, at = [], at + 1
        else:
            end = next((n for n in range(at, len(pattern)) if pattern[n] in "()[]|"), len(pattern))
            row.append([pattern[at:end]])
            at = end
    return [*found, *("".join(choice) for choice in product(*row))], at


@cache
def lexicon() -> Lexicon:
    """What the files that come with panicmail say."""
    folder = files("panicmail.incident.reply_commands") / "languages"
    found = sorted((file.name, file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".toml"))
    return Lexicon({name.removesuffix(".toml"): tomllib.loads(text) for name, text in found})
