"""A reply to the numbered questions of a receipt, taken apart: by the number before an answer, or by the question that
is quoted above it. In any order, of several lines; nothing of a question is an answer. Linear in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

#: So much of a mail is looked at, in lines and in characters of a line; and so much of one answer is kept.
_LINES, _LINE, LONGEST_ANSWER = 2000, 2000, 2000
_MARKS = re.compile(r"[>|\s]{0,40}")
_NUMBER = re.compile(
    r"(?i)(?:[(\[#]|(?:question|q|answer|a)\s?)?(\d{1,2})(?:\s?[.):\]](?!\d)|\s?[-\u2013\u2014](?=\s))\s{0,20}"
)


def answers_in(text: str, newly: str, questions: Sequence[str]) -> Mapping[int, str]:
    """The answers, by the number of the question from 1.

    Args:
        text: All of the reply's text, with what it quotes.
        newly: What its writer newly wrote.
    """
    if not questions:
        return {}
    asked = {number: _plain(question) for number, question in enumerate(questions, 1)}
    below = dict(_taken(text, asked, frozenset(_lines(newly)), is_inline=True))
    return below | {n: a for n, a in _taken(newly, asked, frozenset(), is_inline=False) if n not in below}


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines()[:_LINES]:
        yield line[:_LINE].strip()


def _taken(text: str, asked: Mapping[int, str], newly: frozenset[str], *, is_inline: bool) -> Iterator[tuple[int, str]]:
    """The answers of one reading: those below the questions, or those behind a number of the writer's own."""
    found: dict[int, list[str]] = {}
    current: int | None = None
    heading = ""
    for line in _lines(text):
        marks = _MARKS.match(line)
        said = line[marks.end() if marks else 0 :]
        is_quoted = line.startswith((">", "|"))
        question, number, rest = _question_in(said, asked), *_numbered(said, asked)
        if question is not None:
            current, heading = (question if is_inline else None), _plain(_numbered(said, asked)[1])
        elif heading and _plain(said) and asked.get(current or 0, "").startswith(f"{heading} {_plain(said)}"):
            heading = f"{heading} {_plain(said)}"  # the question went on there
        elif is_quoted:
            current, heading = None, ""
        elif number is not None and not is_inline:
            current, heading = number, ""
            found.setdefault(number, []).append(rest)
        elif current is not None and (not is_inline or line in newly):
            heading = ""
            found.setdefault(current, []).append(said)
    for number, parts in found.items():
        if answer := "\n".join(parts).strip()[:LONGEST_ANSWER]:
            yield number, answer


def _numbered(line: str, asked: Mapping[int, str]) -> tuple[int | None, str]:
    """The number a line begins with, if there is such a question, and what follows it."""
    hit = _NUMBER.match(line)
    if hit is None or int(hit[1]) not in asked:
        return None, line
    return int(hit[1]), line[hit.end() :]


def _question_in(line: str, asked: Mapping[int, str]) -> int | None:
    """The question that the line is, or begins: of a long one the first twelve characters must be there."""
    number, rest = _numbered(line, asked)
    said = _plain(rest)
    for each in (number,) if number is not None else asked:
        question = asked[each]
        if said and (said == question or (len(said) >= 12 and question.startswith(said))):
            return each
    return None


def _plain(text: str) -> str:
    """Its words alone, in lower case: programs change blanks, marks and quotation marks."""
    return " ".join(re.findall(r"\w+", text.lower()))
