"""The blocks of a Markdown text, as GitLab would cut it: what is code, what is a paragraph, and on which lines.

A careful subset of CommonMark 0.31 (chapters 4 and 5), of GFM's tables, and of GitLab's own: front matter, `>>>`
quotes, footnotes. It is here to judge texts, so where GitLabs differ it takes the reading that leaves a text more
alive: a `>>>` without its end is no shelter.

Known limit: a definition of a link stays part of its paragraph.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "document", "quote", "item", "footnote", "paragraph", "heading", "code", "html", "table", "rule", "front matter"
]


@dataclass(eq=False)
class Block:
    """A container holds blocks, a leaf holds lines."""

    kind: Kind
    first: int  #: number of its first line, from 0
    end: int  #: of the line after its last; right for leaves
    lines: list[str] = field(default_factory=list)  #: without what belongs to the containers
    info: str = ""  #: what stands behind the opening fence
    blocks: list[Block] = field(default_factory=list)
    until: re.Pattern[str] | None = None  #: what ends it, when a line of its own does
    offset: int = 0  #: of an item or footnote: by how much its lines are indented


def read(text: str) -> Block:
    """The document. Line ends are LF, CRLF or CR."""
    lines = re.split("\r\n|\r|\n", text)
    parser = _Parser(lines)
    start = _front_matter(lines, parser.root)
    for number in range(start, len(lines)):
        parser.take(number, lines[number])
    return parser.root


def leaves(document: Block) -> Iterator[Block]:
    """All blocks that hold lines, at any depth, in order."""
    waiting = [document]
    while waiting:
        block = waiting.pop()
        if block.kind in _CONTAINERS:
            waiting += reversed(block.blocks)
        else:
            yield block


def cells(row: str) -> list[str]:
    """The cells of a table's row: a pipe divides unless a backslash stands before it, in code spans too."""
    inner = row.strip().removeprefix("|")
    if re.search(r"(?<!\\)\|\s*\Z", inner):
        inner = inner.rstrip()[:-1]
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", inner)]


_CONTAINERS = ("document", "quote", "item", "footnote")

_FENCE = re.compile(r" {0,3}(?:(?P<ticks>`{3,})(?P<info>[^`]*)|(?P<tildes>~{3,})(?P<words>.*))\Z")
_ATX = re.compile(r" {0,3}#{1,6}(?:[ \t]+(?P<text>.*)|)\Z")
_RULE = re.compile(r" {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})\Z")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*\Z")
_MARKER = re.compile(r"(?P<before> {0,3})(?P<mark>[-+*]|(?P<number>[0-9]{1,9})[.)])(?P<after> +|\Z)")
_MARKS = re.compile(r"[ >*+0-9.)-]*\t[ \t>*+0-9.)-]*")
_QUOTE = re.compile(r" {0,3}> ?")
_LONG_QUOTE = re.compile(r">{3,}[ \t]*\Z")
_FOOTNOTE = re.compile(r" {0,3}\[\^[^\]\s]+\]:[ \t]*")
_DELIMITERS = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*\Z")
_FRONT = re.compile(r"(?P<mark>---|\+\+\+|;;;)[ \t]*[a-z]*[ \t]*\Z")

_BLOCK_TAGS = (
    "address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir|div|dl|dt"
    "|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|link|main|menu"
    "|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead|title|tr"
    "|track|ul"
)
#: CommonMark 4.6: how an HTML block begins, and what ends it; None is a blank line.
_HTML: Sequence[tuple[re.Pattern[str], re.Pattern[str] | None]] = [
    (re.compile(begin, re.IGNORECASE), re.compile(end, re.IGNORECASE) if end else None)
    for begin, end in (
        (r" {0,3}<(?:pre|script|style|textarea)(?:[\s>]|\Z)", r"</(?:pre|script|style|textarea)>"),
        (r" {0,3}<!--", r"-->"),
        (r" {0,3}<\?", r"\?>"),
        (r" {0,3}<!\[CDATA\[", r"\]\]>"),
        (r" {0,3}<![a-z]", r">"),
        (rf" {{0,3}}</?(?:{_BLOCK_TAGS})(?:\s|/?>|\Z)", None),
    )
]
#: A tag alone on its line begins one too, but does not interrupt a paragraph.
_LONE_TAG = re.compile(r" {0,3}</?[a-z][a-z0-9-]*(?:\s[^<>]*)?/?>[ \t]*\Z", re.IGNORECASE)


def _front_matter(lines: Sequence[str], root: Block) -> int:
    """The number of the first line after it, 0 without."""
    opening = _FRONT.match(lines[0])
    if opening is None:
        return 0
    for number in range(1, len(lines)):
        if lines[number].rstrip() == opening["mark"]:
            root.blocks.append(Block("front matter", 0, number + 1, list(lines[1:number])))
            return number + 1
    return 0


class _Parser:
    """Line by line: the containers that go on, the blocks that begin, and the text that is left."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self.root = Block("document", 0, len(lines))
        self._open = [self.root]
        self._leaf: Block | None = None
        self._last_long_end = max((n for n, line in enumerate(lines) if _LONG_QUOTE.match(line)), default=-1)

    def take(self, number: int, line: str) -> None:
        rest, depth = self._inside(_untabbed(line))
        if depth == len(self._open) and self._goes_on(number, rest):
            return
        if self._ends_long_quote(rest, depth):
            return
        self._begin(number, rest, depth)

    # -- what goes on

    def _inside(self, line: str) -> tuple[str, int]:
        """The line without the marks of the containers it is in, and how many of them it is in."""
        depth = 1
        for container in self._open[1:]:
            rest = _within(container, line)
            if rest is None:
                break
            line, depth = rest, depth + 1
        return line, depth

    def _goes_on(self, number: int, line: str) -> bool:
        """Whether the line is the open leaf's, because that is one that asks nobody."""
        leaf = self._leaf
        if leaf is None or leaf.kind not in ("code", "html"):
            return False
        if leaf.kind == "code":
            return self._more_code(leaf, number, line)
        if leaf.until is None and not line.strip():
            self._leaf = None
            return True
        _add(leaf, number, line)
        if leaf.until is not None and leaf.until.search(line):
            self._leaf = None
        return True

    def _more_code(self, leaf: Block, number: int, line: str) -> bool:
        if leaf.until is None:  # by its indentation
            if line.strip() and _indent(line) < 4:
                return False
            _add(leaf, number, line[4:])
            return True
        if leaf.until.match(line):
            leaf.end, self._leaf = number + 1, None
        else:
            _add(leaf, number, line)
        return True

    def _ends_long_quote(self, line: str, depth: int) -> bool:
        container = self._open[depth - 1]
        if container.until is None or not container.until.match(line):
            return False
        self._close(depth - 1)
        return True

    # -- what begins

    def _begin(self, number: int, line: str, depth: int) -> None:
        while True:
            lazy = self._leaf if self._leaf is not None and self._leaf.kind == "paragraph" else None
            above = lazy if depth == len(self._open) else None
            if not line.strip():
                self._close(depth)
                return
            if _indent(line) >= 4:
                break
            container = self._container(number, line, above)
            if container is None:
                if self._reshape(number, line, above) or self._whole_line(number, line, depth, lazy):
                    return
                break
            self._close(depth)
            block, line = container
            self._open[-1].blocks.append(block)
            self._open.append(block)
            depth = len(self._open)
            if block.until is not None:
                return
        self._text(number, line, depth)

    def _container(self, number: int, line: str, above: Block | None) -> tuple[Block, str] | None:
        """A container that begins here, and what of the line is in it."""
        if _LONG_QUOTE.match(line) and number < self._last_long_end:
            return Block("quote", number, number, until=re.compile(f"{line.strip()}>*[ \t]*\\Z")), ""
        if quote := _QUOTE.match(line):
            return Block("quote", number, number), line[quote.end() :]
        if footnote := _FOOTNOTE.match(line):
            return Block("footnote", number, number, offset=4), line[footnote.end() :]
        return None if _RULE.match(line) else _item(number, line, above)

    def _whole_line(self, number: int, line: str, depth: int, lazy: Block | None) -> bool:
        """Whether a leaf begins here."""
        if heading := _ATX.match(line):
            self._leaf_at(depth, Block("heading", number, number + 1, [heading["text"] or ""]))
            self._leaf = None
        elif fence := _FENCE.match(line):
            mark = fence["ticks"] or fence["tildes"]
            until = re.compile(rf" {{0,3}}{re.escape(mark[0])}{{{len(mark)},}}[ \t]*\Z")
            info = (fence["info"] or fence["words"] or "").strip()
            self._leaf_at(depth, Block("code", number, number + 1, info=info, until=until))
        elif _RULE.match(line):
            self._leaf_at(depth, Block("rule", number, number + 1))
            self._leaf = None
        else:
            return self._html(number, line, depth, lazy)
        return True

    def _reshape(self, number: int, line: str, above: Block | None) -> bool:
        """Whether the line makes the paragraph above it a heading or a table."""
        if above is None:
            return False
        if _UNDERLINE.match(line):
            above.kind, above.end, self._leaf = "heading", number + 1, None
            return True
        if _DELIMITERS.match(line) and len(cells(line)) == len(cells(above.lines[-1])):
            header = above.lines.pop()
            above.end = number - 1
            if not above.lines:
                self._open[-1].blocks.remove(above)
            self._leaf_at(len(self._open), Block("table", number - 1, number + 1, [header]))
            return True
        return False

    def _html(self, number: int, line: str, depth: int, lazy: Block | None) -> bool:
        for begins, until in _HTML:
            if begins.match(line):
                self._leaf_at(depth, Block("html", number, number + 1, [line], until=until))
                if until is not None and until.search(line):
                    self._leaf = None
                return True
        if lazy is None and _LONE_TAG.match(line):
            self._leaf_at(depth, Block("html", number, number + 1, [line]))
            return True
        return False

    def _text(self, number: int, line: str, depth: int) -> None:
        """What is left is text: of the paragraph before (lazily too), of the table, or of a new block."""
        leaf = self._leaf
        if leaf is not None and (leaf.kind == "paragraph" or (leaf.kind == "table" and depth == len(self._open))):
            _add(leaf, number, line.strip(" \t") if leaf.kind == "paragraph" else line)
        elif _indent(line) >= 4:
            self._leaf_at(depth, Block("code", number, number + 1, [line[4:]]))
        else:
            self._leaf_at(depth, Block("paragraph", number, number + 1, [line.strip(" \t")]))

    def _leaf_at(self, depth: int, leaf: Block) -> None:
        self._close(depth)
        self._open[-1].blocks.append(leaf)
        self._leaf = leaf

    def _close(self, depth: int) -> None:
        del self._open[depth:]
        self._leaf = None


def _add(leaf: Block, number: int, line: str) -> None:
    leaf.lines.append(line)
    leaf.end = number + 1


def _within(container: Block, line: str) -> str | None:
    """What of the line is in the container; None when it has ended."""
    if container.offset:
        if not line.strip():
            return "" if container.blocks else None
        return line[container.offset :] if _indent(line) >= container.offset else None
    if container.until is not None:
        return line
    quote = _QUOTE.match(line)
    return line[quote.end() :] if quote else None


def _item(number: int, line: str, above: Block | None) -> tuple[Block, str] | None:
    marker = _MARKER.match(line)
    if marker is None:
        return None
    rest = line[marker.end() :]
    if above is not None and (not rest.strip() or marker["number"] not in (None, "1")):
        return None
    space = len(marker["after"])
    before = len(marker["before"]) + len(marker["mark"])
    if not 1 <= space <= 4 or not rest.strip():
        rest = " " * (space - 1) + rest if rest.strip() else ""
        space = 1
    return Block("item", number, number, offset=before + space), rest


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _untabbed(line: str) -> str:
    """With blanks for the tabs between the marks of containers, where columns count."""
    marks = _MARKS.match(line)
    return line if marks is None else marks[0].expandtabs(4) + line[marks.end() :]


# -- What stands inside a line of Markdown: code spans, tags, autolinks, and the text that is left (CommonMark 6).
#
# Code spans, tags, autolinks and bare web addresses bind alike, the leftmost first; everything else is text, in
# which links and references are looked for. A bare address takes all up to a blank or a `<`, backticks too (GFM
# 6.9).

#: Stands where something was that is no text: no blank, no letter, no sign.
HOLE = "\ue000"

SpanKind = Literal["html", "autolink", "url", "math"]

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
    found: list[tuple[SpanKind, str]] = field(default_factory=list)  #: in order
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


def read_spans(text: str) -> Spans:
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
