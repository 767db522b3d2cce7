"""From what somebody typed to the words the grammar reads.

One spelling for each word, however it was typed: full-width letters, capitals, accents, curly apostrophes, invisible
signs and skin tones are levelled, marks of emphasis and quotation are dropped. What strikes a word out is kept, so
that a struck word is none. Chinese, Japanese and Korean signs are words of one sign each. Linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

#: Stands for a comma, dash, colon, bracket or the like between two words of a sentence.
SEP = ","
#: Stands for a number from 1 to 60: of minutes, so that the grammar need not count. No text holds it.
FEW = "#"

_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af々"
_TOKEN = re.compile(
    rf"""
      [{_CJK}]
    | [^\W{_CJK}]+ (?:'[^\W{_CJK}]+)*       # a word, with the apostrophes inside it
    | [?؟‽¿]                                  # a question, wherever it stands
    | (?:\.{{2,}} | …)                        # hesitation
    | [.!。]                                  # the end of a sentence
    | [,;:()\[\]、・،\-‐‑‒–—―]
    | \S
    """,
    re.X,
)
_QUESTION = frozenset("?؟‽¿")
_END = frozenset(".!。")
_PAUSE = frozenset(",;:()[]、・،-‐‑‒–—―")
_DROPPED = frozenset("*#\"'“”„«»‹›「」『』`")
#: A number and its unit written as one word: 10min.
_WITH_UNIT = re.compile(r"(\d{1,3})(m|mins?|minutes?|minuten|s|secs?|h|hrs?|hours?|std)")
#: O.K.: one word; the last dot may end the sentence as well.
_INITIALS = re.compile(r"(?<![\w.])((?:[^\W\d_]\.){1,4}[^\W\d_])(?!\w)")


@dataclass(frozen=True, slots=True)
class Sentence:
    words: tuple[str, ...]  #: with `SEP` between clauses, none at the ends, never two in a row
    asks: bool = False  #: it has a question mark

    def __bool__(self) -> bool:
        return bool(self.words) or self.asks

    def __len__(self) -> int:
        return len(self.words)


def levelled(text: str) -> str:
    """Lower case, one kind of letter, blank and apostrophe, nothing invisible."""
    if text.isascii():
        return text.lower().replace("`", "'")
    text = unicodedata.normalize("NFKC", text)
    return "".join(_level(sign) for sign in text)


def _level(sign: str) -> str:
    if sign.isascii():
        return "'" if sign == "`" else sign.lower()
    if sign in "’‘ʼ´":
        return "'"
    category = unicodedata.category(sign)
    if category == "Cf" or sign in "\ufe0e\ufe0f" or category == "Sk":
        return ""  # zero-width, bidi marks; the tone of a hand
    if category == "Zs":
        return " "
    base = unicodedata.normalize("NFKD", sign)[0]
    return base.lower() if base.isascii() and base.isalpha() else sign.casefold()


def sentences(line: str, short: Mapping[str, str], kept: Collection[str] = ()) -> list[Sentence]:
    """The sentences of one line.

    Args:
        short: Contractions, and what each is in full.
        kept: Words that are no contraction here, because somebody is called so.
    """
    found: list[Sentence] = []
    words: list[str] = []
    asks = False
    text = _INITIALS.sub(lambda hit: hit[1].replace(".", ""), levelled(line))
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in _QUESTION:
            asks = True
        if sign in _QUESTION or (sign in _END and not text[token.end() : token.end() + 1].isalnum()):
            if sign != "¿":
                found.append(Sentence(_trimmed(words), asks))
                words, asks = [], False
        else:
            words += _in_full(sign, short, kept)
    found.append(Sentence(_trimmed(words), asks))
    return [each for each in _joined(found) if each]


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


def _in_full(sign: str, short: Mapping[str, str], kept: Collection[str]) -> list[str]:
    if sign in _DROPPED:
        return []
    if sign in _PAUSE or sign in _END or sign.startswith(("..", "…")):
        return [SEP]
    word = sign.strip("_'")
    if not word:
        return [] if sign.strip("_") != sign else [sign]
    if found := _WITH_UNIT.fullmatch(word):
        return [*_in_full(found[1], short, ()), found[2]]
    if word.isdecimal():
        return [FEW if len(word) <= 2 and 1 <= int(word) <= 60 else word]
    return short[word].split() if word in short and word not in kept else [word]


def _trimmed(words: list[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for word in words:
        if word != SEP or (kept and kept[-1] != SEP):
            kept.append(word)
    if kept and kept[-1] == SEP:
        kept.pop()
    return tuple(kept)
