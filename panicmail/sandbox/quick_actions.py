"""Quick actions in a text: `/close` at the beginning of a line, as four generations of GitLab's extractor find them.

    markdown   today's: only in paragraphs that stand at the top level, as Markdown cuts them; in there, not between
               backticks nor in HTML
    pairs      of 2021: a regular expression over the whole text; whatever stands between any two backticks is code
    strict     the same, with code only where a line begins with the backtick: finds most
    greedy     of 2018: code from any backtick to the last one at the end of a line: finds least

The three regular expressions have an idea of code blocks that a longer fence or a word behind the fence does not fit.
All want the slash at the very beginning of a line, and carriage returns are deleted first.

Known limit: the old ones look at the first 100,000 characters only, for they can take the square of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from panicmail.sandbox import markdown

Extractor: TypeAlias = Literal["markdown", "pairs", "strict", "greedy"]
EXTRACTORS: tuple[Extractor, ...] = ("markdown", "pairs", "strict", "greedy")

#: Those of issues, incidents, merge requests and epics: what a name does not fit today it may tomorrow.
NAMES = re.findall(
    r"\w+",
    """
    add_child add_contacts add_email add_parent approve approval ask assign assign_reviewer award blocked_by
    blocks board_move cc checkin_reminder child_of clear_health_status clear_weight clone close confidential
    convert_to_ticket copy_metadata create_merge_request done draft due duplicate epic estimate estimate_time
    health_status invite_email iteration label labels link lock make_ready merge milestone move page parent
    promote promote_to promote_to_incident publish react ready reassign reassign_reviewer rebase relabel relate
    remind_me remove_child remove_contacts remove_due_date remove_email remove_epic remove_estimate
    remove_iteration remove_label remove_link remove_milestone remove_parent remove_start_date remove_time_spent
    remove_weight remove_zoom reopen request_changes request_review run_pipeline severity shrug spend spend_time
    spent start_date status submit_review subscribe tableflip tag target_branch time_estimate timeline title todo
    type unapprove unassign unassign_reviewer unblock undraft unlabel unlink unlock unparent unrelate unsubscribe
    weight wip zoom
    """,
)
_OLD_LIMIT = 100_000


class QuickAction(NamedTuple):
    """A quick action, as written."""

    name: str  #: lower case
    argument: str


@dataclass(frozen=True)
class Extraction:
    """What one extractor made of a text."""

    commands: tuple[QuickAction, ...]
    text: str  #: without them, as GitLab keeps it


def extract(text: str, extractor: Extractor) -> Extraction:
    text = text.replace("\r", "")
    if not _ANY.search(text):
        return Extraction((), text.rstrip())
    if extractor == "markdown":
        return _by_markdown(text)
    start = _greedily_sheltered(text[:_OLD_LIMIT]) if extractor == "greedy" else 0
    rest, commands = _without(text[start:_OLD_LIMIT], _OLD[extractor])
    return Extraction(tuple(commands), (text[:start] + rest + text[_OLD_LIMIT:]).rstrip())


def _greedily_sheltered(text: str) -> int:
    """How much from the beginning is code to `^.*`.+`$`: up to the last backtick that ends a line.

    The same as the regular expression, which asks for it at every line anew; only a fenced block goes before.
    """
    ends = [tick.start() for tick in re.finditer(r"`$", text, re.MULTILINE)]
    start = 0
    while ends and text.find("`", start, ends[-1] - 1) >= 0:
        fence = _FENCED.match(text, start)
        if fence is None:
            return ends[-1] + 1
        start = fence.end() + 1
    return start


def _by_markdown(text: str) -> Extraction:
    lines = text.split("\n")
    commands: list[QuickAction] = []
    kept: list[str] = []
    at = 0
    for first, end in _paragraphs(text):
        kept += lines[at:first]
        rest, found = _without("\n".join(lines[first:end]) + "\n", _NEW)
        kept += rest.split("\n")[:-1]
        commands += found
        at = end
    return Extraction(tuple(commands), "\n".join(kept + lines[at:]).rstrip())


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """The lines of the paragraphs at the top level in which a line begins with a slash."""
    for block in markdown.read(text).blocks:
        if block.kind == "paragraph" and any(line.startswith("/") for line in block.lines):
            yield block.first, block.end


def _without(text: str, pattern: re.Pattern[str]) -> tuple[str, list[QuickAction]]:
    """The text without the commands the pattern finds, and the commands."""
    commands: list[QuickAction] = []

    def take(found: re.Match[str]) -> str:
        if found["name"] is None:
            return found[0]
        commands.append(QuickAction(found["name"].lower(), (found["argument"] or "").strip()))
        return ""

    return pattern.sub(take, text), commands


_FLAGS = re.MULTILINE | re.DOTALL | re.IGNORECASE
_NAME = "|".join(sorted(NAMES, key=len, reverse=True))
_COMMAND = rf"^/(?P<name>{_NAME})(?: (?P<argument>[^\n]*))?(?:\s*\n|$)"
#: Every extractor wants at least this.
_ANY = re.compile(rf"^/(?:{_NAME})(?:\s|$)", _FLAGS)

_HTML_BLOCK = r"^<[^>]+?>\n.+?\n</[^>]+?>$"
_LONG_QUOTE = r"^>>>.+?\n>>>$"
_NEW = re.compile(rf"`.+?`|{_HTML_BLOCK}|{_COMMAND}", _FLAGS)
#: By what they take for code.
_FENCED = re.compile(r"^```.+?\n```$", _FLAGS)
_CODE: Mapping[Extractor, str] = {
    "pairs": r"^```\n.+?\n```$|`\n*.+?\n*`",
    "strict": rf"{_FENCED.pattern}|^`\n*.+?\n*`$",
    "greedy": _FENCED.pattern,
}
_OLD = {
    extractor: re.compile(rf"{code}|{_HTML_BLOCK}|{_LONG_QUOTE}|{_COMMAND}", _FLAGS)
    for extractor, code in _CODE.items()
}
