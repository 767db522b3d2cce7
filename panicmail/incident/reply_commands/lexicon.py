"""The phrases the grammar knows, language by language: data in `languages/*.toml`.

A file has `never` (sentences that are no yes; written first, and held by a test), `common` (words by which a sentence
is known to be of the language), and the tables `part` (what patterns share), `phrase` (what a sentence of a command is
made of, by the kinds of `Kind`) and `takes` (what in a further sentence takes a yes back, by the kinds of `Sign`).
With `whole = true` the language has no grammar: each of its phrases is a whole clause. `any.toml` is what people of
every language write.

A pattern is words, with `[optional]`, `(one|other)`, `{part}`, `#` for a number from 1 to 60, and `~` for what may
stand between ("schaue ~ an"): fillers, times and objects, or nothing; `+` lets "I" stand there too. Its words may have
their accents; they are known without them, and as "ue" where there was a "ü".
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from typing import Any, Generic, TypeVar

from panicmail.incident.reply_commands.spelling import FEW, words_of


class Kind(StrEnum):
    """What a phrase is in the sentence of a command."""

    ACK = "ack"  #: the word of acknowledging: "in 10 min" may not follow it in one breath
    YES = "yes"  #: it is mine now
    TAKE = "take"  #: mine, whoever has it
    ALL = "all"  #: every open one
    ASSENT = "assent"  #: ok; enough alone
    APART = "apart"  #: ok, where a pause follows: some people are called so
    COMING = "coming"  #: on my way; enough alone, and no command
    REPORT = "report"  #: will report back; not enough alone
    CONTACT = "contact"  #: calling, before whom
    WHOM = "whom"  #: the reporter
    SELF = "self"  #: I; beside what I do
    OBJECT = "object"  #: it, the incident; beside what is done with it
    FILLER = "filler"  #: just, then; adds nothing, anywhere
    OPENS = "opens"  #: "great": adds nothing where a clause begins; behind something it may say of it that it is good
    TIME = "time"  #: now, 20 min
    AFTER = "after"  #: in 10 min
    FRIENDLY = "friendly"  #: adds nothing
    THANKS = "thanks"  #: friendly, and alone a thank-you
    ADDRESS = "address"  #: hello; a name may follow
    INTRO = "intro"  #: "this is", before the writer's own name
    HERE = "here"  #: behind it: "Ana here"
    NO = "no"  #: not me
    NOT_NOW = "not_now"  #: a no to a page, and an answer to much else, so it is none of whoever has it
    NO_GO_ON = "no_go_on"  #: how the reason of a no begins without a pause
    ESCALATE = "escalate"
    RESOLVE = "resolve"
    BECAUSE = "because"  #: how the reason of the two begins without a pause
    HAND = "hand"  #: before the name of who is to have it
    HAND_END = "hand_end"  #: behind it: "bitte Bo anrufen"
    STATUS = "status"  #: what is open?
    SEVERITY = "severity"  #: how grave it is, by a word such as "sev2" (`spelling`)
    REACTION = "reaction"  #: how a mail program tells of a tap on a smiley


class Sign(StrEnum):
    """What in a further sentence may take a yes back."""

    WORDS = "words"  #: says of somebody that they have it
    ORDERS = "orders"  #: asks for somebody else
    NOBODY = "nobody"  #: somebody else, unnamed
    NEGATION = "negation"
    REFUSAL = "refusal"  #: a negation that cannot be about anything else, or of a language nothing else is known of
    CONDITION = "condition"
    HEDGE = "hedge"  #: doubts the yes before it where it is all of a clause: "I guess"
    DEFER = "defer"
    ABSENT = "absent"
    ASKS_WHAT = "asks_what"  #: begins a question about the matter, not about who has it
    I = "i"  # noqa: E741 - the word
    ME = "me"
    OTHER_SUBJECT = "other_subject"  #: begins a sentence about something else
    BEGINS = "begins"  #: begins a sentence that may be about the writer without saying so


K = TypeVar("K", bound=StrEnum)
#: Where what may stand between two words of a phrase ends.
Gap = Callable[[Sequence[str], int, frozenset[Kind]], Iterable[int]]
_GAP, _GAP_WITH_SELF = "~", "+"
_GAPS = {
    _GAP: frozenset({Kind.FILLER, Kind.TIME, Kind.OBJECT}),
    _GAP_WITH_SELF: frozenset({Kind.FILLER, Kind.TIME, Kind.OBJECT, Kind.SELF}),
}
#: So many phrases fit into a gap.
_GAP_LENGTH = 4


#: What is no word in a pattern.
_SIGNS = str.maketrans(dict.fromkeys("()[]|", " ") | {"{": " \0", "}": " "})
#: A node of the graph of all phrases: by the next word, where that leads; by "", the kinds that end here.
Node = dict[str, Any]
#: A pattern taken apart: each element a word, or its alternatives. One without an element lets the pattern go on.
Pattern = list["str | list[Pattern]"]


class Phrases(Generic[K]):
    """Phrases as a graph of their words: what alternatives have in common behind them is there once."""

    def __init__(self) -> None:
        self._root: Node = {}
        self.patterns: dict[K, list[Pattern]] = {}

    def add(self, pattern: Pattern, kind: K) -> None:
        self.patterns.setdefault(kind, []).append(pattern)
        for node in _lead(pattern, [self._root], {}):
            if node is not self._root:
                node.setdefault("", set()).add(kind)

    def at(self, words: Sequence[str], start: int, gap: Gap | None = None) -> Iterator[tuple[int, K]]:
        """The phrases that stand in `words` at `start`: where each ends, and what it is."""
        if start < len(words) and words[start] not in self._root and self._leads_by_words:
            return iter(())
        found: set[tuple[int, K]] = set()
        reached = [(self._root, start)]
        for node, at in reached:
            if "" in node:
                found.update((at, kind) for kind in node[""])
            if at < len(words) and words[at] in node:
                reached += [(then, at + 1) for then in node[words[at]]]
            for mark in node.keys() & _GAPS.keys() if gap is not None else ():
                if gap is not None:
                    reached += [(then, end) for end in gap(words, at, _GAPS[mark]) for then in node[mark]]
        return iter(sorted(found))

    @cached_property
    def _leads_by_words(self) -> bool:
        """Whether every phrase begins with a word."""
        return self._root.keys().isdisjoint(("", *_GAPS))

    def single(self, kinds: Container[K]) -> set[str]:
        """What is a phrase of these kinds as one word."""
        alone = ((word, self.at([word], 0, lambda _words, at, _kinds: (at,))) for word in self._root)
        return {word for word, found in alone if any(end and kind in kinds for end, kind in found)}


def _lead(pattern: Pattern, nodes: list[Node], last: Node) -> list[Node]:
    """Let `pattern` lead from `nodes` to `last`; where it has led to."""
    for number, element in enumerate(pattern, 1):
        to = last if number == len(pattern) else {}
        if isinstance(element, str):
            ends = []
            for way in _spellings(element):
                ends = _step(way, nodes, to)
        else:
            ends = [node for option in element for node in _lead(option, nodes, to)]
        nodes = ends if len(ends) < 2 else list({id(node): node for node in ends}.values())
    return nodes


def _step(words: tuple[str, ...], nodes: list[Node], to: Node) -> list[Node]:
    for number, word in enumerate(words, 1):
        then: Node = to if number == len(words) else {}
        for node in nodes:
            node.setdefault(word, []).append(then)
        nodes = [then]
    return nodes


#: How people type letters that their keyboard has not.
_TWO_LETTERS = (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("å", "aa"), ("ø", "oe"))


#: What an English word without its apostrophe would be besides.
_OTHER_WORDS = frozenset({"ill", "were", "well", "id", "wed", "hell", "shell", "wont"})


@cache
def _spellings(piece: str) -> tuple[tuple[str, ...], ...]:
    """The ways in which a word of a pattern may be typed."""
    if piece == "#" or piece in _GAPS:
        return ((FEW if piece == "#" else piece,),)
    ways = [piece]
    if "'" in piece and (joined := piece.replace("'", "")) not in _OTHER_WORDS:
        ways.append(joined)  # as thumbs type it
    for letter, others in _TWO_LETTERS if not piece.isascii() else ():
        if letter in piece:
            ways += [way.replace(letter, others) for way in ways]
    return tuple(dict.fromkeys(words_of(way) or (way,) for way in ways))


class Language:
    """The phrases of one language. Its graphs are made when a word of it is met: most mails are of one language."""

    def __init__(self, name: str, table: Mapping[str, Any]) -> None:
        self.name = name
        self.whole: bool = table.get("whole", False)
        self.never: tuple[str, ...] = tuple(table.get("never", ()))
        self._table = table
        patterns = (
            pattern for part in ("phrase", "takes") for each in table.get(part, {}).values() for pattern in each
        )
        parts = (option for options in table.get("part", {}).values() for option in options)
        pieces = set(" ".join((table.get("common", ""), *patterns, *parts)).translate(_SIGNS).split())
        #: All it is known by.
        self.words = frozenset(word for piece in pieces for way in _spellings(piece) for word in way) - {FEW, *_GAPS}

    @cached_property
    def _parts(self) -> Mapping[str, Pattern]:
        parts: dict[str, Pattern] = {}
        for part, options in self._table.get("part", {}).items():
            parts[f"{{{part}}}"] = [[taken_apart(option, parts) for option in options]]
        return parts

    @cached_property
    def phrases(self) -> Phrases[Kind]:
        return self._made("phrase", Kind)

    @cached_property
    def signs(self) -> Phrases[Sign]:
        return self._made("takes", Sign)

    def _made(self, part: str, kinds: type[K]) -> Phrases[K]:
        made: Phrases[K] = Phrases()
        for kind, patterns in self._table.get(part, {}).items():
            for pattern in patterns:
                made.add(taken_apart(pattern, self._parts), kinds(kind))
        return made


@lru_cache(4096)
def _phrases_in(language: Language, anybodys: Language, words: tuple[str, ...], start: int) -> list[tuple[int, Kind]]:
    """Many ways through a sentence come by the same word."""

    def gap(words: Sequence[str], at: int, kinds: frozenset[Kind]) -> Iterable[int]:
        return _gap_ends(language, anybodys, tuple(words), at, kinds)

    own = language.phrases.at(words, start, gap)
    return [*own] if language is anybodys else [*own, *anybodys.phrases.at(words, start, gap)]


@lru_cache(4096)
def _phrases_of_any(lexicon: Lexicon, words: tuple[str, ...], start: int) -> list[tuple[int, Kind]]:
    """As `Lexicon.phrases_at`."""
    if start >= len(words):
        return []
    spoken = (each for each in lexicon.all() if each is lexicon.anybodys or words[start] in each.words)
    return [found for language in spoken for found in lexicon.phrases_in(language, words, start)]


@lru_cache(4096)
def _gap_ends(
    language: Language, anybodys: Language, words: tuple[str, ...], start: int, kinds: frozenset[Kind]
) -> set[int]:
    """Where up to `_GAP_LENGTH` phrases of these kinds may end."""
    ends, new = {start}, {start}
    for _ in range(_GAP_LENGTH):
        found = ((at, known) for at in new for known in (language, anybodys))
        new = {end for at, known in found for end, kind in known.phrases.at(words, at) if kind in kinds} - ends
        ends |= new
    return ends


def taken_apart(pattern: str, parts: Mapping[str, Pattern]) -> Pattern:
    for sign in "()[]|{}":
        if sign in pattern:
            pattern = pattern.replace(sign, f"{' ' * (sign != '}')}{sign}{' ' * (sign != '{')}")
    pieces = pattern.split()
    options, at = _alternatives(pieces, 0, parts)
    if at != len(pieces):
        raise ValueError(f"a bracket too many in the pattern {pattern!r}")
    return options[0] if len(options) == 1 else [options]


def _alternatives(pieces: Sequence[str], at: int, parts: Mapping[str, Pattern]) -> tuple[list[Pattern], int]:
    """The options of `one|other` from `at` up to a closing bracket, and where that stands."""
    options: list[Pattern] = [[]]
    while at < len(pieces) and pieces[at] not in {")", "]"}:
        piece = pieces[at]
        if piece in {"(", "["}:
            inner, at = _alternatives(pieces, at + 1, parts)
            options[-1].append([*inner, []] if piece == "[" else inner)
        elif piece == "|":
            options.append([])
        elif piece.startswith("{"):
            options[-1] += parts[piece]
        else:
            options[-1].append(piece)
        at += 1
    return options, at


class Lexicon:
    """Every language's phrases."""

    def __init__(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        self.anybodys = Language("any", tables.get("any", {}))
        self.languages = tuple(Language(name, table) for name, table in tables.items() if name != "any")

    def all(self) -> tuple[Language, ...]:
        return (self.anybodys, *self.languages)

    def having(self, words: Sequence[str]) -> list[Language]:
        """The languages with any of `words`; in the others all is read as what every language has."""
        return [self.anybodys, *(each for each in self.languages if not each.words.isdisjoint(words))]

    def phrases_in(self, language: Language, words: Sequence[str], start: int) -> Iterable[tuple[int, Kind]]:
        """The phrases of one language that stand in `words` at `start`, and those of every language."""
        if start >= len(words):
            return ()
        known = words[start] == FEW or words[start] in language.words
        return _phrases_in(language if known else self.anybodys, self.anybodys, tuple(words), start)

    def phrases_at(self, words: Sequence[str], start: int) -> Iterator[tuple[int, Kind]]:
        """The phrases of any language that stand in `words` at `start`."""
        return iter(_phrases_of_any(self, tuple(words), start))

    def speaking(self, words: Sequence[str]) -> tuple[Language, ...]:
        """The languages that have most of `words`, all but one as well, and those of the words that these have not."""
        known = [(sum(word in language.words for word in words), language) for language in self.languages]
        most = max((count for count, _ in known), default=0)
        best = [language for count, language in known if count and count >= most - 1]
        strange = {word for word in words if not any(word in language.words for language in best)}
        return (*best, *(language for _, language in known if not strange.isdisjoint(language.words)))

    def openings(self, words: Sequence[str]) -> list[tuple[int, Sign]]:
        """The signs at the beginning of a sentence, of any language: as what is found at 0."""
        begun = [language for language in self.all() if words and words[0] in language.words]
        return [(0, sign) for sign in sorted({s for each in begun for _end, s in each.signs.at(words, 0)})]

    def signs_in(self, words: Sequence[str]) -> Iterator[list[tuple[int, Sign]]]:
        """Where in a sentence stands what may take a yes back, for each language it may be of. People say "but" in
        another."""
        opening = self.openings(words)
        for language in self.speaking(words) or (self.anybodys,):
            found = [each for each in opening if each[1] in {Sign.BEGINS, Sign.ASKS_WHAT}]
            for known in {self.anybodys, language}:
                found += ((at, sign) for at in range(len(words)) for _end, sign in known.signs.at(words, at))
            yield found

    def is_hedge(self, clause: Sequence[str]) -> bool:
        """Whether a clause is nothing but a doubt, in any language: people take a yes back in another one."""
        spoken = (language for language in self.all() if clause[0] in language.words)
        return any((len(clause), Sign.HEDGE) in language.signs.at(clause, 0) for language in spoken)

    def is_known(self, word: str, *languages: str) -> bool:
        """Whether it is a phrase or a sign by itself, in `languages`; in any where none is named."""
        each = (one for one in self.all() if word in one.words and (not languages or one.name in languages))
        return any(True for one in each for end, _ in (*one.phrases.at([word], 0), *one.signs.at([word], 0)) if end)

    @cached_property
    def _by_length(self) -> Mapping[int, frozenset[str]]:
        words = frozenset(word for language in self.all() for word in language.words)
        return {length: frozenset(w for w in words if len(w) == length) for length in {len(word) for word in words}}

    def is_spelled(self, word: str) -> bool:
        """Whether it is a word of any language's data."""
        return word in self._by_length.get(len(word), ())

    def spelled(self, length: int) -> Iterator[str]:
        """The words that one letter more or less, or another one, may make a word of this length of."""
        for near in (length - 1, length, length + 1):
            yield from self._by_length.get(near, ())

    @cached_property
    def commands(self) -> frozenset[str]:
        """What is a command as one word of at least three letters."""
        kinds = {Kind.ACK, Kind.YES, Kind.TAKE, Kind.ESCALATE, Kind.RESOLVE, Kind.STATUS}
        return frozenset(
            word
            for language in self.all()
            for word in language.phrases.single(kinds)
            if word.isalpha() and len(word) > 2
        )


@cache
def lexicon() -> Lexicon:
    """What the files that come with panicmail say."""
    folder = files("panicmail.incident.reply_commands") / "languages"
    found = sorted((file.name, file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".toml"))
    return Lexicon({name.removesuffix(".toml"): tomllib.loads(text) for name, text in found})
