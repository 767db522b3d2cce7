"""Reads what is written with the token as GitLab would, and remembers what acted and what came alive.

    gitlab.acted    [Acted("close", "", "description", 1, "markdown")]
    gitlab.live     [Live("mention", "title", 1, "@all")]

Every extractor asked for is consulted and all they find is remembered; the first one's finds are carried out. What
people write by `comment` acts as it would, but is not remembered: these lists are about panicmail.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

from panicmail.sandbox import live, markdown_spans
from panicmail.sandbox.quick_actions import Extraction, Extractor, extract

Where: TypeAlias = Literal["title", "description", "note"]


class Acted(NamedTuple):
    """A quick action that was found."""

    command: str
    argument: str
    where: Where
    iid: int
    extractor: Extractor


class Live(NamedTuple):
    """Something that would be more than words in GitLab; the kinds are those of `live`."""

    kind: str
    where: Where
    iid: int
    text: str  #: "…" stands for code and escaped signs in it


class Interpreter:
    """Args:
    extractors: Whose finds are remembered; the first one's are carried out.
    """

    def __init__(self, extractors: Sequence[Extractor]) -> None:
        if not extractors:
            raise ValueError("an extractor at least")
        self._extractors = tuple(extractors)
        self._acted: list[Acted] = []
        self._live: dict[Live, None] = {}

    @property
    def acted(self) -> list[Acted]:
        """Oldest first."""
        return list(self._acted)

    @property
    def live(self) -> list[Live]:
        """Oldest first, each once."""
        return list(self._live)

    def extract(self, text: str) -> Extraction:
        """What is carried out of a text, and what is kept."""
        return extract(text, self._extractors[0])

    def remember(self, where: Where, iid: int, text: str, files: Container[str] = ()) -> None:
        """Note what acts and lives in a text as it was written. A link to one of `files` is none of a stranger's."""
        if where == "title":
            found = live.found_in_title(text)
        else:
            for extractor in self._extractors:
                commands = extract(text, extractor).commands
                self._acted += [Acted(*command, where, iid, extractor) for command in commands]
            found = live.found_in(self.extract(text).text)
        self._live |= {
            Live(kind, where, iid, words.replace(markdown_spans.HOLE, "…")): None
            for kind, words in found
            if not (kind == "link" and _target(words) in files)
        }


def _target(link: str) -> str:
    to = re.search(r"\]\(([^()\s]*)\)\Z", link)
    return unquote(to[1]) if to else ""
