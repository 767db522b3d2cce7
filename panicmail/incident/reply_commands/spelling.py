"""From what somebody typed to the words the grammar reads.

One spelling for each word, however it was typed: full-width letters, capitals, accents, curly apostrophes, invisible
signs and skin tones are levelled, marks of emphasis and quotation are dropped. What strikes a word out is kept, so
that a struck word is none. Chinese, Japanese and Korean signs are words of one sign each. Linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

#: Stands for a comma, dash, colon, bracket or the like between two words of a sentence.
SEP = ","
#: Stands for a number from 1 to 60: of minutes, so that the grammar need not count. No text holds it.
FEW = "#"

_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af々"
_TOKEN = re.compile(
    rf"""
      [{_CJK}]
    | [^\W{_CJK}]+ (?:'[^\W{_CJK}]+)*       # a word, with the apostrophes inside it
    | [?؟‽¿⸮❓❔՞፧]                            # a question, wherever it stands
    | (?:\.{{2,}} | …)                        # hesitation
    | [.!。]                                  # the end of a sentence
    | [,;:()\[\]、・،\-‐‑‒–—―]
    | \S
    """,
    re.X,
)
_QUESTION = frozenset("?؟‽¿⸮❓❔՞፧")
#: In Greek a semicolon asks.
_GREEK = re.compile(r"[\u0370-\u03ff]")
_END = frozenset(".!。")
_PAUSE = frozenset(",;:()[]、・،-‐‑‒–—―")
_HYPHENS = frozenset("-‐‑")
_DROPPED = frozenset("*#\"'“”„«»‹›「」『』`")
#: A number and its unit written as one word: 10min.
_WITH_UNIT = re.compile(r"(\d{1,3})(m|mins?|minut(?:es?|en|er|os?|i|y)?|s|secs?|h|hrs?|hours?|std)")
#: O.K.: one word; the last dot may end the sentence as well.
_INITIALS = re.compile(r"(?<![\w.])((?:[^\W\d_]\.){1,4}[^\W\d_])(?!\w)")


#: How people of the nine languages name a severity; it becomes one word, "sev2".
_SEVERITY = re.compile(
    r"(?<!\w)(?:sev|severity|schweregrad|gravite|severite|gravedad|severidad|gravita|ernst|ernstniveau|allvarlighetsgrad"
    r"|allvarlighet|waznosc|dotkliwosc|gravidade|severidade)(?:\s{0,3}[:=#-])?\s{0,3}([1-4])(?![\w-]|\.\w)"
)
#: "lo tomó" is "they took it": of all accents the one at the end of a past tense makes another word of "lo tomo".
_PAST = re.compile(r"[óòÓÒ](?!\w)")
#: Letters that have no base, as people type them without their keyboard.
_LETTERS = {
    "’": "'", "‘": "'", "ʼ": "'", "´": "'", "ı": "i", "ł": "l", "Ł": "l", "ø": "o", "Ø": "o", "đ": "d", "Đ": "d",
    "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "\ue000": "ó",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sentence:
    words: tuple[str, ...]  #: with `SEP` between clauses, none at the ends, never two in a row
    asks: bool = False  #: it has a question mark
    trails: bool = False  #: it ends in dots, as who hesitates leaves it

    def __bool__(self) -> bool:
        return bool(self.words) or self.asks

    def __len__(self) -> int:
        return len(self.words)


def levelled(text: str) -> str:
    """Lower case, one kind of letter, blank and apostrophe, nothing invisible."""
    if text.isascii():
        return text.lower().replace("`", "'")
    text = _PAST.sub("\ue000", unicodedata.normalize("NFKC", text))
    return "".join(map(_level, text))


@lru_cache(4096)
def _level(sign: str) -> str:
    if sign.isascii():
        return "'" if sign == "`" else sign.lower()
    if sign in _LETTERS:
        return _LETTERS[sign]
    category = unicodedata.category(sign)
    if category in {"Cf", "Sk"} or sign in "\ufe0e\ufe0f":
        return ""  # zero-width, bidi marks; the tone of a hand
    if category == "Zs":
        return " "
    if category == "Mn" and "\u0591" <= sign <= "\u0670":
        return ""  # the vowels of Hebrew and Arabic, which few people type
    base = unicodedata.normalize("NFKD", sign)[0]
    return base.casefold() if base.isalpha() and base < "\u0700" else sign.casefold()


def words_of(piece: str) -> tuple[str, ...]:
    """The words of a piece of text without blanks or ends of sentences: what `sentences` finds, sooner."""
    word = levelled(piece)
    return (word,) if word.isalpha() and word < "\u3040" else tuple(w for s in sentences(piece) for w in s.words)


def sentences(line: str) -> list[Sentence]:
    """The sentences of one line."""
    found: list[Sentence] = []
    words: list[str] = []
    asks = trails = False
    text = _INITIALS.sub(lambda hit: hit[1].replace(".", ""), levelled(line))
    text = _SEVERITY.sub(r"sev\1", text)
    for token in _TOKEN.finditer(text):
        sign = token[0]
        is_question = sign in _QUESTION or (sign == ";" and any(map(_GREEK.search, words)))
        asks = asks or is_question
        if is_question or (sign in _END and _is_over(text, token.end())):
            if sign != "¿":
                found.append(Sentence(_trimmed(words), asks, trails))
                words, asks = [], False
        elif not (sign in _HYPHENS and _is_inside(text, token.start())):
            words += _in_full(sign)
        trails = sign.startswith(("..", "…"))
    found.append(Sentence(_trimmed(words), asks, trails))
    return [each for each in _joined(found) if each]


def _is_over(text: str, end: int) -> bool:
    """Whether a sentence ends at a full stop: no letter follows, or one of a script that has no blanks."""
    following = text[end : end + 1]
    return not following.isalnum() or following >= "\u3040"


def _is_inside(text: str, at: int) -> bool:
    """Whether the hyphen at `at` is inside a word: "deixa-me"."""
    return text[max(0, at - 1)].isalnum() and text[at + 1 : at + 2].isalnum()


def _joined(found: list[Sentence]) -> Iterator[Sentence]:
    """A mark that follows another ("ack!?") belongs to the sentence before it."""
    last: Sentence | None = None
    for each in found:
        if last is not None and each.asks and not each.words:
            last = Sentence(last.words, True)
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last


def _in_full(sign: str) -> list[str]:
    if sign in _DROPPED:
        return []
    if sign in _PAUSE or sign in _END or sign.startswith(("..", "…")):
        return [SEP]
    word = sign.strip("_'")
    if not word:
        return [] if sign.strip("_") != sign else [sign]
    if found := _WITH_UNIT.fullmatch(word):
        return [*_in_full(found[1]), found[2]]
    if word.isdecimal():
        return [FEW if len(word) <= 2 and 1 <= int(word) <= 60 else word]
    return [word]


def _trimmed(words: list[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for word in words:
        if word != SEP or (kept and kept[-1] != SEP):
            kept.append(word)
    if kept and kept[-1] == SEP:
        kept.pop()
    return tuple(kept)
