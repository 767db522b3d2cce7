"""What a sender wrote, made inert for GitLab.

The promise: nothing that went through here acts. No quick action runs, nobody is mentioned, nothing is referenced,
labelled, linked, loaded or rendered; the words stay readable and can be searched for. Tokens of ours, by which whoever
reads the issue could act at panicmail, are cut out (`redact`).

How: a longer text goes into a fenced code block (`block`), a short one into a code span (`inline`), a title gets the
signs that mean something to GitLab replaced by their full-width twins (`title`), a file name is spelt anew
(`file_name`). Reference and link filters leave code alone; quick actions are looked for at the first column, by
Markdown in newer GitLabs and by regular expressions in older ones, whose idea of a fence a longer fence does not
fit. So the fence is not trusted alone: no line of a block begins with a slash.

Known limits: a code span that is nothing but a colour ("#f00") gets a swatch beside it, and in a project tied to
Jira a title with a Jira key ("ABC-12") shows as a link to it; breaking that would break "CVE-2024-3094" too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from panicmail.incident.redact import redacted

#: GitLab's longest title, in characters.
MAX_TITLE = 255
#: What every title begins with.
PREFIX = "[panic] "

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
#: Format characters that belong to writing: without them emoji and several scripts fall apart.
_JOINERS = "\u200c\u200d"
#: Lines that begin so get one blank before them. The first is a quick action. The others are rewritten by filters of
#: some GitLab that work on lines, before Markdown: a quote's fence, a formula's fence (which becomes three
#: backticks), an include.
_LIVE_LINE = re.compile(r"^(?=/|>>>[ \t]*$|\$\$[ \t]*$|::)", re.MULTILINE)
#: A fence as `block` writes it, opening.
_FENCE = re.compile(r"(`{3,})text")
#: A longer run of backticks is broken up, so that the fence around a wall of them stays short.
_LONG_RUN = re.compile("`{32}(?=`)")

#: What GitLab would act on in a title, one character each: mention; issue, merge request, epic or entity, label,
#: snippet, milestone; [vulnerability:1] and [[page]]; web address and emoji; HTML; GL-1; iteration; project.
_LIVE_IN_TITLE = re.compile(
    r"@|#(?=\S)|!(?=[\d\[])|&(?=[\w#])|~(?=\S)|\$(?=\S)|%(?=\S)|\[(?=\[|\w+:)"
    r"|:(?=//)|(?<![^\W_]):(?=[\w+-]+:)|<(?=[A-Za-z/!?])|(?<=\bGL)-(?=\d)|\*(?=iteration)|(?<=[\w-])>",
    re.IGNORECASE,
)


def block(text: str, limit: int) -> str:
    """A code block that holds `text`, and a sentence after it when only the first `limit` characters fit."""
    text = redacted(text)
    inert = _LIVE_LINE.sub(" ", _broken_runs(_cleaned(_LINE_ENDS.sub("\n", text[:limit]))))
    shown = inert[:limit]
    more = len(inert) - len(shown) + len(text) - len(text[:limit])
    fence = "`" * max(3, _longest_run(shown) + 1)
    cut = f"\n\n(Cut here: {more} more characters are in the mail.)" if more else ""
    return f"{fence}text\n{shown}\n{fence}{cut}"


def inline(text: str, limit: int = 200) -> str:
    """A code span that holds `text` on one line, at most `limit` characters of it; fit for the cell of a table.

    Keep a blank or a letter on both sides of it: a backtick or a dollar sign next to it would join it.
    """
    line = _broken_runs(_one_line(redacted(text))).replace("|", "\N{BROKEN BAR}")
    shown = _shortened(line, limit) or "(empty)"
    ticks = "`" * (_longest_run(shown) + 1)
    blank = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{blank}{shown}{blank}{ticks}"


def title(subject: str) -> str:
    """The title of the issue: `[panic] ` and the subject, on one line, at most 255 characters."""
    shown = _shortened(_one_line(redacted(subject)), MAX_TITLE - len(PREFIX)) or "(no subject)"
    return PREFIX + _LIVE_IN_TITLE.sub(_full_width, shown)


def file_name(name: str) -> str:
    """A name to upload under: ASCII letters, digits, `._-`; its ending is kept, at most 100 characters."""
    last = re.split(r"[/\\]", redacted(name))[-1]
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("._-")
    stem, dot, ending = safe.rpartition(".")
    if not dot or len(ending) > 10:
        return safe[:100] or "file"
    return f"{stem[: 99 - len(ending)] or 'file'}.{ending}"


def outside(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text of ours that no sender wrote: those outside the blocks, with their numbers from 0."""
    fence = None
    for number, line in enumerate(text.split("\n")):
        line = line.rstrip()
        opening = _FENCE.fullmatch(line)
        if fence is not None:
            fence = None if line == fence else fence
        elif opening:
            fence = opening[1]
        else:
            yield number, line


def carries(text: str, marker: str) -> bool:
    """Whether the marker stands on a line of its own, where no sender can have put it."""
    return any(line.strip("` ") == marker for _, line in outside(text))


def _one_line(text: str) -> str:
    return " ".join(_cleaned(" ".join(text.split())).split())


def _cleaned(text: str) -> str:
    """Without control characters (but tab and line feed), bidi and invisible ones; half surrogates are marked."""
    return "".join(_keep_or_drop(c) for c in text) if not _is_plain(text) else text


def _is_plain(text: str) -> bool:
    return text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()


def _keep_or_drop(c: str) -> str:
    if c in "\n\t" or c in _JOINERS:
        return c
    match unicodedata.category(c):
        case "Cc" | "Cf":
            return ""
        case "Cs":
            return "\N{REPLACEMENT CHARACTER}"
        case _:
            return c


def _broken_runs(text: str) -> str:
    return _LONG_RUN.sub(r"\g<0> ", text)


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _full_width(found: re.Match[str]) -> str:
    return chr(ord(found[0]) + 0xFEE0)
