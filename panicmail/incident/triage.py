"""What a mail says that its handling may rest on: rules of the operator's, and the kinds that have a place elsewhere.

Words may raise or annotate, never lower; what is done with what is found here is in `transitions.severity_change`.

A pattern is words beside each other, in any case and without their accents; a `*` at the beginning or end of a word
stands for any letters of it. Only so much of a text is looked at, and each word of it once for each pattern, so that
neither a text nor a pattern can make this slow. The words by which a kind is known are data by language
(`report_words/*.toml`): `phishing` and the like, and `engaged`, by which somebody says that they clicked, answered,
entered something or paid; `negation` before such words takes them back.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.resources import files

from panicmail.incident.reply_commands.spelling import levelled

#: So much of a text is looked at, in characters.
TEXT_LIMIT = 20_000
#: Of one pattern, in words and in characters; and of all rules together, in patterns.
MOST_WORDS, MOST_CHARACTERS, MOST_PATTERNS = 12, 200, 300
_SINGLE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORD = re.compile(rf"[{_SINGLE}]|[^\W_{_SINGLE}]+")


class ReportKind(StrEnum):
    """What is paged all the same, and belongs elsewhere."""

    VULNERABILITY = "vulnerability"
    ABUSE = "abuse"
    CUSTOMER = "customer"
    PHISHING = "phishing"  #: not engaged with


_ENGAGED, _NEGATION = "engaged", "negation"


def words_in(text: str) -> tuple[str, ...]:
    """The words of the beginning of a text, levelled; Chinese, Japanese and Korean signs are words of one sign each."""
    return tuple(_WORD.findall(levelled(text[:TEXT_LIMIT])))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A word of a pattern."""

    text: str
    opens: bool = False  #: anything may stand before it in its word
    goes_on: bool = False  #: and behind it

    def fits(self, word: str) -> bool:
        if self.opens and self.goes_on:
            return self.text in word
        if self.opens:
            return word.endswith(self.text)
        return word.startswith(self.text) if self.goes_on else word == self.text


@dataclass(frozen=True, slots=True)
class Pattern:
    """Words beside each other."""

    pieces: tuple[_Piece, ...]

    def places(self, words: Sequence[str], known: Collection[str]) -> Iterator[int]:
        """Where in `words` it begins. `known`: the same words, as a set."""
        exact = (piece.text for piece in self.pieces if not piece.opens and not piece.goes_on)
        if all(text in known for text in exact):
            for at in range(len(words) - len(self.pieces) + 1):
                if all(piece.fits(words[at + n]) for n, piece in enumerate(self.pieces)):
                    yield at


def pattern(text: str) -> Pattern:
    """A pattern as it is written.

    Raises:
        ValueError: It is none; in words that say what is.
    """
    pieces: list[_Piece] = []
    for written in text[: MOST_CHARACTERS + 1].split():
        core = written.strip("*")
        words = words_in(core)
        if not words or "*" in core:
            raise ValueError('words such as "locked files" or "ransom*", a * only at the beginning or end of a word')
        last = len(words) - 1
        pieces += (
            _Piece(word, n == 0 and written.startswith("*"), n == last and written.endswith("*"))
            for n, word in enumerate(words)
        )
    if not pieces or len(pieces) > MOST_WORDS or len(text) > MOST_CHARACTERS:
        raise ValueError(f"one to {MOST_WORDS} words, {MOST_CHARACTERS} characters at most")
    return Pattern(tuple(pieces))


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageRule:
    """One `[[triage]]`: every key that is given must be met, by one of its patterns."""

    subject: tuple[Pattern, ...] = ()
    body: tuple[Pattern, ...] = ()
    sender: tuple[str, ...] = ()  #: addresses and domains, lower case
    topic: tuple[str, ...] = ()  #: what stands behind the "+" of our address, lower case
    question: int | None = None  #: the number of a question of the receipt
    answer: tuple[Pattern, ...] = ()  #: to that question
    severity: int | None = None
    labels: tuple[str, ...] = ()
    page: tuple[str, ...] = ()  #: people and roles
    policy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailWords:
    """What a mail says, as far as rules look at it."""

    subject: str = ""
    text: str = ""  #: all of it, what it quotes included
    newly: str = ""  #: what its sender newly wrote
    sender: str = ""
    topics: frozenset[str] = frozenset()
    answers: Mapping[int, str] = field(default_factory=dict)  #: by the question's number


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageFinding:
    """What rules and words found in a mail."""

    rules: tuple[int, ...] = ()  #: the numbers of the rules that apply, counted from 1
    severity: int | None = None  #: the worst that one of them names
    labels: tuple[str, ...] = ()
    page: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    kind: ReportKind | None = None
    is_engaged: bool = False  #: they say they acted on a phish


def find(rules: Sequence[TriageRule], said: MailWords, engaged_severity: int | None) -> TriageFinding:
    """What applies to a mail; of several rules all do."""
    subject, body = words_in(said.subject), words_in(said.text)
    newly = words_in(f"{said.subject}\n{said.newly}")
    hits = [n for n, rule in enumerate(rules) if _applies(rule, said, subject, body)]
    found = [rules[n] for n in hits]
    is_engaged = _is_said(_words()[_ENGAGED], newly)
    kind = next((kind for kind in ReportKind if _is_any(_words()[kind], newly)), None)
    if is_engaged and kind is ReportKind.PHISHING:
        kind = None
    named = [*(rule.severity for rule in found), engaged_severity if is_engaged else None]
    return TriageFinding(
        rules=tuple(n + 1 for n in hits),
        severity=min(filter(None, named), default=None),
        labels=tuple(dict.fromkeys(label for rule in found for label in rule.labels)),
        page=tuple(dict.fromkeys(who for rule in found for who in rule.page)),
        policies=tuple(dict.fromkeys(rule.policy for rule in found if rule.policy)),
        kind=kind,
        is_engaged=is_engaged,
    )


def _applies(rule: TriageRule, said: MailWords, subject: Sequence[str], body: Sequence[str]) -> bool:
    if rule.subject and not _is_any(rule.subject, subject):
        return False
    if rule.body and not _is_any(rule.body, body):
        return False
    if rule.sender and {said.sender, said.sender.rpartition("@")[2]}.isdisjoint(rule.sender):
        return False
    if rule.topic and said.topics.isdisjoint(rule.topic):
        return False
    if rule.question is None:
        return True
    answer = said.answers.get(rule.question)
    return answer is not None and (not rule.answer or _is_any(rule.answer, words_in(answer)))


def _is_any(patterns: Iterable[Pattern], words: Sequence[str]) -> bool:
    known = frozenset(words)
    return any(True for each in patterns for _at in each.places(words, known))


def _is_said(patterns: Iterable[Pattern], words: Sequence[str]) -> bool:
    """Whether one of them stands there without a "not" right before it, or a word before that."""
    known, negations = frozenset(words), {each.pieces[0].text for each in _words()[_NEGATION]}
    places = (at for each in patterns for at in each.places(words, known))
    return any(negations.isdisjoint(words[max(0, at - 2) : at]) for at in places)


@cache
def _words() -> Mapping[str, tuple[Pattern, ...]]:
    """By kind, the words of every language."""
    known: dict[str, tuple[Pattern, ...]] = dict.fromkeys((_ENGAGED, _NEGATION, *ReportKind), ())
    folder = files("panicmail.incident") / "report_words"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            for name, texts in tomllib.loads(file.read_text("utf-8")).items():
                known[name] += tuple(map(pattern, texts))
    return known
