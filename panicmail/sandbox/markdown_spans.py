"""What stands inside a line of Markdown: code spans, tags, autolinks, and the text that is left (CommonMark 6).

Code spans, tags, autolinks and bare web addresses bind alike, the leftmost first; everything else is text, in which
links and references are looked for. A bare address takes all up to a blank or a `<`, backticks too (GFM 6.9).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

#: Stands where something was that is no text: no blank, no letter, no sign.
HOLE = "\ue000"

Kind = Literal["html", "autolink", "url", "math"]

#: A bare address is none where a link has its target.
_TOKEN = re.compile(
    r"\\[!-/:-@\[-`{-~]|`+|<"
    r"|(?<![A-Za-z])(?<!\]\()(?:https?|ftp)://[\w-][^\s<]*|(?<![^\s*_~(])(?<!\]\()www\.[\w-]+\.[^\s<]*",
    re.IGNORECASE,
)
_AUTOLINK = re.compile(r"<(?:[A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*|[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(?:\.[\w-]+)*)>")
_TAG = re.compile(
    r"<(?:/[A-Za-z][A-Za-z0-9-]*\s*|[A-Za-z][A-Za-z0-9-]*(?:\s+[A-Za-z_:][\w.:-]*(?:\s*=\s*(?:[^\s\"'=<>`]+|'[^']*'"
    r"|\"[^\"]*\"))?)*\s*/?)>"
)
#: The other things HTML has between angle brackets, by how they begin and end.
_ENDS = (("<!-->", ""), ("<!--->", ""), ("<!--", "-->"), ("<?", "?>"), ("<![CDATA[", "]]>"), ("<!", ">"))


@dataclass
class Spans:
    """A text, taken apart."""

    #: The text with a hole for each code span, tag, autolink and escaped sign.
    bare: str = ""
    #: The same, letter for letter, with the escaped signs in it: what is shown. A backslash is no shelter from
    #: references in every GitLab.
    shown: str = ""
    found: list[tuple[Kind, str]] = field(default_factory=list)  #: in order
    _missing: set[str] = field(default_factory=set)  #: ends that do not come any more, so that nobody looks again

    def end_of_other(self, text: str, start: int) -> int | None:
        """Where what is between angle brackets and no tag ends; None when it is nothing."""
        for begin, end in _ENDS:
            if text.startswith(begin, start):
                found = -1 if end in self._missing else text.find(end, start + len(begin))
                if found < 0:
                    self._missing.add(end)
                return None if found < 0 or (begin == "<!" and not text[start + 2].isalpha()) else found + len(end)
        return None


def read(text: str) -> Spans:
    ends = _runs(text)
    spans = Spans()
    bare, shown, at = [], [], 0
    while token := _TOKEN.search(text, at):
        bare.append(text[at : token.start()])
        shown.append(bare[-1])
        at, hole, visible = _one(text, token, ends, spans)
        bare.append(hole)
        shown.append(visible)
    spans.bare = "".join(bare) + text[at:]
    spans.shown = "".join(shown) + text[at:]
    return spans


def _one(text: str, token: re.Match[str], ends: dict[int, list[int]], spans: Spans) -> tuple[int, str, str]:
    """Where to go on behind a token, and what to leave in its place: bare, and shown."""
    if token[0][0] == "\\":
        return token.end(), HOLE, token[0][1]
    if token[0] == "<":
        return _angle(text, token.start(), spans)
    if token[0][0] != "`":
        address = token[0].rstrip("?!.,:*_~'\"")
        spans.found.append(("url", address))
        return token.start() + len(address), HOLE, HOLE
    length = len(token[0])
    places = ends[length]
    place = bisect_right(places, token.start())
    if place == len(places):
        return token.end(), token[0], token[0]
    end = places[place] + length
    if text[token.start() - 1 : token.start()] == "$" == text[end : end + 1]:
        spans.found.append(("math", text[token.start() - 1 : end + 1]))
    return end, HOLE, HOLE


def _angle(text: str, start: int, spans: Spans) -> tuple[int, str, str]:
    if link := _AUTOLINK.match(text, start):
        spans.found.append(("autolink", link[0]))
        return link.end(), HOLE, HOLE
    tag = _TAG.match(text, start)
    end = tag.end() if tag else spans.end_of_other(text, start)
    if end is None:
        return start + 1, "<", "<"
    spans.found.append(("html", text[start:end]))
    return end, HOLE, HOLE


def _runs(text: str) -> dict[int, list[int]]:
    """Where each run of backticks begins, by its length."""
    runs: dict[int, list[int]] = defaultdict(list)
    for run in re.finditer("`+", text):
        runs[len(run[0])].append(run.start())
    return runs
