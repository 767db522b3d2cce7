"""What of a text would come alive in GitLab: people called, things referred to, pictures loaded, markup that acts.

    found_in("ping @all, see ![x](http://e.example/x.png)")
    [("image", "![x](http://e.example/x.png)"), ("mention", "@all")]

Everything in code (blocks, spans) is dead, and emoji are harmless. All else that GitLab's filters look for is found
whether or not there is a user, a label or an issue of that name: a sender can guess. The kinds are the keys of
`_REFERENCES`, and:

    image  link  autolink  url  email    what a reader's browser loads or may be led to
    html                                 a tag, a comment, or a block of them
    definition  footnote                 that make links of words elsewhere
    diagram  math                        a fence or a formula GitLab draws
    contents  include  alert  front matter
    table                                a row with other cells than its header has: somebody broke out of one

Known limits: a commit's number is no finding (it needs that commit), and a link to a file is one whoever wrote it; the
sandbox forgives those to files it has.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from panicmail.sandbox import markdown
from panicmail.sandbox.markdown import Block

Finding: TypeAlias = tuple[str, str]  #: kind, and the text that is alive

#: Fences that are drawn, run or offered and not just shown: the first word behind the fence.
_DRAWN = re.compile(
    r"(?:mermaid|math|plantuml|suggestion|json:table|geojson|topojson|stl|d2|dot|graphviz|ditaa|nomnoml|vega|vegalite"
    r"|wavedrom|bytefield|bpmn|excalidraw|svgbob|blockdiag|seqdiag|actdiag|nwdiag|rackdiag|packetdiag|erd|pikchr|tikz"
    r"|structurizr|dbml|umlet|wireviz|symbolator|c4plantuml|glql)\b.*",
    re.IGNORECASE,
)
_NAME = r"(?:\"[^\"\n]+\"|[A-Za-z0-9_][\w.?&:-]*)"
#: A project before the sign, when there is one; of a bounded length, for speed.
_OF = r"(?:(?<![\w./-])[\w./-]{1,100})?"
#: GitLab's references, by their sign.
_REFERENCES: dict[str, re.Pattern[str]] = {
    kind: re.compile(pattern, re.IGNORECASE)
    for kind, pattern in {
        "mention": r"(?<!\w)@[A-Za-z0-9_][\w.-]*(?:/[\w.-]+)*",
        "issue": rf"{_OF}#\d+\b|\bGL-\d+\b",
        "merge request": rf"{_OF}!\d+\b",
        "snippet": rf"{_OF}\$\d+\b",
        "epic": rf"{_OF}&\d+\b",
        "label": rf"{_OF}(?<!~)~{_NAME}",
        "milestone": rf"{_OF}%{_NAME}",
        "iteration": rf"{_OF}\*iteration:{_NAME}",
        "alert reference": rf"{_OF}\^alert#\d+\b",
        "item": r"\[(?:issue|work_item|epic|vulnerability|feature_flag|contact|cadence|wiki_page):[^\]\n]{1,300}\]",
        "project": r"(?<![\w./-])[\w.-]{1,100}(?:/[\w.-]{1,100}){1,20}>",
    }.items()
}
_IMAGE = re.compile(r"!\[[^\[\]]*\](?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\[\]]*\])")
_LINK = re.compile(r"\[[^\[\]]*\]\((?P<to>[^()]*(?:\([^()]*\)[^()]*)*)\)")
_NAMED_LINK = re.compile(r"!?\[(?P<text>[^\[\]]+)\](?:\[(?P<name>[^\[\]]*)\])?")
_DEFINITION = re.compile(r"^ {0,3}\[(?P<name>[^\[\]^][^\[\]]*)\]:[ \t]*\n?[ \t]*\S.*$", re.MULTILINE)
_WIKI = re.compile(r"\[\[[^\[\]\n]+\]\]")
_URL = re.compile(r"\b(?:[a-z][a-z0-9+.-]{1,30}://|mailto:|www\.(?=[\w-]+\.))[^\s<>\ue000]+", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,30}://[^\s>]+", re.IGNORECASE)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,100}@[\w-]+(?:\.[\w-]+)+")
_MATH = re.compile(r"\$\$[^$]+\$\$|(?<![\w$])\$(?![\s$\ue000])[^$\n]*(?<![\s$])\$(?![\d$])")
_CONTENTS = re.compile(r"\A\s*(?:\[\[_TOC_\]\]|\[TOC\])\s*\Z")
_INCLUDE = re.compile(r"^::include\{[^}\n]*\}", re.MULTILINE)
_ALERT = re.compile(r"\A\[!(?:note|tip|important|caution|warning)\]", re.IGNORECASE)
#: Elements whose text GitLab's filters leave alone.
_QUIET = re.compile(r"<(pre|code|a|style|script)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)


def found_in(text: str) -> list[Finding]:
    """Of a description or a note, in order of the blocks."""
    document = markdown.read(text)
    names = {_key(found["name"]) for inner in _inner(document) for found in _DEFINITION.finditer(inner)}
    return [finding for leaf in markdown.leaves(document) for finding in _of_leaf(leaf, names)] + [
        ("footnote", text.split("\n")[block.first]) for block in _footnotes(document)
    ]


def found_in_title(text: str) -> list[Finding]:
    """Of a title, which is no Markdown: references and addresses only."""
    found, rest = _take(_ADDRESS, "url", html.unescape(text))
    return found + _references(_EMAIL.sub(markdown.HOLE, rest))


def outside_code(text: str) -> str:
    """All words of a text that are in no code, each block on lines of its own."""
    return "\n".join(markdown.read_spans(inner).shown for inner in _inner(markdown.read(text)))


def _inner(document: Block) -> Iterator[str]:
    """The texts of the leaves that are no code."""
    for leaf in markdown.leaves(document):
        if leaf.kind == "table":
            yield from (cell for line in leaf.lines for cell in markdown.cells(line))
        elif leaf.kind not in ("code", "front matter"):
            yield "\n".join(leaf.lines)


def _footnotes(document: Block) -> Iterator[Block]:
    waiting = [document]
    while waiting:
        block = waiting.pop()
        waiting += block.blocks
        if block.kind == "footnote":
            yield block


def _of_leaf(leaf: Block, names: set[str]) -> Iterator[Finding]:
    text = "\n".join(leaf.lines)
    match leaf.kind:
        case "code":
            if drawn := _DRAWN.match(leaf.info):
                yield "diagram", drawn[0]
        case "front matter":
            yield "front matter", text
        case "html":
            yield "html", text
            yield from _of_text(markdown.HOLE.join(re.split(r"<[^<>]*>", _QUIET.sub(markdown.HOLE, text))), names)
        case "table":
            yield from _of_table(leaf, names)
        case _:
            yield from _of_paragraph(text, names)


def _of_table(table: Block, names: set[str]) -> Iterator[Finding]:
    columns = len(markdown.cells(table.lines[0]))
    for line in table.lines:
        row = markdown.cells(line)
        if len(row) != columns:
            yield "table", line
        for cell in row:
            yield from _of_text(cell, names)


def _of_paragraph(text: str, names: set[str]) -> Iterator[Finding]:
    if _CONTENTS.match(text):
        yield "contents", text
        return
    if alert := _ALERT.match(text):
        yield "alert", alert[0]
    yield from (("include", found[0]) for found in _INCLUDE.finditer(text))
    yield from (("definition", found[0].strip()) for found in _DEFINITION.finditer(text))
    yield from _of_text(_DEFINITION.sub("", text), names)


def _of_text(text: str, names: set[str]) -> Iterator[Finding]:
    """Of a text without blocks. What is taken is taken from what follows: no mention is found within a link."""
    taken = markdown.read_spans(text)
    yield from taken.found
    links: list[Finding] = []
    # The signs that make a link must not be escaped; its words are not looked at again.
    bare, shown = taken.bare, taken.shown
    for kind, pattern in (("image", _IMAGE), ("link", _LINK), ("link", _WIKI)):
        found, bare, shown = _cut(pattern, kind, bare, shown)
        links += found
    links += [
        ("link", found[0]) for found in _NAMED_LINK.finditer(bare) if _key(found["name"] or found["text"]) in names
    ]
    yield from links
    rest = html.unescape(shown)
    for kind, pattern in (("math", _MATH), ("url", _URL), ("email", _EMAIL)):
        taken_of, rest = _take(pattern, kind, rest)
        yield from taken_of
    yield from _references(rest)


def _references(text: str) -> list[Finding]:
    return [(kind, found[0]) for kind, pattern in _REFERENCES.items() for found in pattern.finditer(text)]


def _cut(pattern: re.Pattern[str], kind: str, bare: str, shown: str) -> tuple[list[Finding], str, str]:
    """What the pattern finds in `bare`, told as it is in `shown`; and both with holes of the same length there."""
    places = [found.span() for found in pattern.finditer(bare)]
    return [(kind, shown[a:b]) for a, b in places], _holed(bare, places), _holed(shown, places)


def _holed(text: str, places: Iterable[tuple[int, int]]) -> str:
    parts, at = [], 0
    for start, end in places:
        parts += [text[at:start], markdown.HOLE * (end - start)]
        at = end
    return "".join([*parts, text[at:]])


def _take(pattern: re.Pattern[str], kind: str, text: str) -> tuple[list[Finding], str]:
    """What the pattern finds, and the text with a hole for each."""
    return [(kind, found[0]) for found in pattern.finditer(text)], pattern.sub(markdown.HOLE, text)


def _key(name: str) -> str:
    return " ".join(name.split()).casefold()
