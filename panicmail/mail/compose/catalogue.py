"""The catalogue of notices: everything panicmail says, one kind a template, one block of it a medium.

    {% block subject %}   of the mail, without its tag
    {% block mail %}      its lines, one a line: "# " begins the line that says what to do, "> " a line with a button;
                          the HTML is made from the same lines
    {% block push %}      for a lock screen
    {% block note %}      an internal note on the issue

Templates see the kind's facts as `n`, what can be said of the incident to its reader as `v` (`Wording`), the rest of
what is known as `c` (`NoticeContext`), the incident as `i` and the reader's first name as `me`. An expression can
never begin a line of its own making: what it gives is one line, whatever it holds, unless it is lines already.

The texts are read when this is imported, so that a daemon whose files are replaced goes on saying what it said; each
is compiled when it is first wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from jinja2 import DictLoader, Environment, PackageLoader, StrictUndefined, Template, pass_context
from jinja2.runtime import Context

from panicmail.incident.push_channel import inert
from panicmail.incident.sender_proof import sender_line
from panicmail.mail.compose import letterhead, sanitize, sections, wording
from panicmail.mail.compose.letterhead import NO_REPLY
from panicmail.mail.compose.message import Link, TextLine, TextStyle, mixed_line, theirs
from panicmail.mail.compose.notice_context import NoticeContext

#: What begins a line in a template, and what stands for it until it is one: data cannot hold that.
_HEADLINE, _BUTTON, _OBJECT = "\x01", "\x02", "\x03"
_MARKS = {"# ": _HEADLINE, "> ": _BUTTON}
_NOT_OURS = dict.fromkeys(map(ord, (_HEADLINE, _BUTTON, _OBJECT)))


def _sources(folder: Traversable, under: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for each in folder.iterdir():
        if each.is_dir():
            found |= _sources(each, f"{under}{each.name}/")
        elif each.name.endswith(".j2"):
            found[f"{under}{each.name}"] = _marked(each.read_text("utf-8"))
    return found


def _marked(source: str) -> str:
    return "\n".join(_MARKS.get(line[:2], line[:2]) + line[2:] for line in source.split("\n"))


_SOURCES = _sources(files(__package__) / "templates")


#: How an issue went elsewhere, before the place.
_WENT = {"moved": "moved", "duplicate": "closed as a duplicate", "promoted": "promoted to an epic"}


def _quoted(text: str, octets: int = sanitize.REPORT_OCTETS) -> list[TextLine]:
    """A stranger's text as marked lines."""
    return [theirs(line) for line in sanitize.report_lines(text, octets)]


def _marked_words(text: str) -> list[TextLine]:
    """A few words of a stranger's on a marked line."""
    return [theirs(sanitize.MARK + text)] if text else []


def _cut(text: str, room: int = 40) -> str:
    """The text, inert, or as much of it as there is room for."""
    text = inert(text)  # before the cut: it becomes longer by that
    return text if len(text) <= room else f"{text[: room - 1].rstrip()}…"


def _quote_words(text: str) -> str:
    return sanitize.words(text, 40).replace('"', "'")


def _report_subject(context: NoticeContext, state: str) -> str:
    return letterhead.subject("", context, state).strip()


_FILTERS: Mapping[str, Callable[..., Any]] = {
    "one_line": sanitize.one_line, "words": sanitize.words, "quoted": _quoted, "marked_words": _marked_words,
    "cut": _cut, "capital": wording.capital,
}  # fmt: skip
_FUNCTIONS: Mapping[str, object] = {
    "listed": wording.listed, "are": wording.are, "role_name": wording.role_name, "span": wording.span,
    "roles": lambda roles: wording.listed(map(wording.role_name, roles)),
    "went": lambda how: _WENT.get(how, "closed"),
    "quote_words": _quote_words, "report_subject": _report_subject, "sender_line": sender_line,
    "NOT_SHOWN": sections.NOT_SHOWN, "NO_REPLY": NO_REPLY,
    **{each.__name__: each for each in (
        sections.about, sections.attached, sections.call_one, sections.calls, sections.clock_now, sections.few,
        sections.goes_to_reporter, sections.graded, sections.hotline, sections.issue, sections.menu, sections.not_sent,
        sections.phone_of, sections.report, sections.reporter_called, sections.reporter_link, sections.rests_on,
        sections.still_open_too, sections.stopped, sections.tap, sections.tell_how_to_begin_anew,
        sections.to_reporter, sections.writer,
    )},
}  # fmt: skip


@pass_context
def _finalized(context: Context, value: object) -> str:
    """What an expression gives: words, as one line; or lines and links of ours, named by their number."""
    if isinstance(value, TextLine | Link):
        value = [value]
    if isinstance(value, list | Verbatim):
        objects = context["objects"]
        objects.append(value)
        return f"{_OBJECT}{len(objects) - 1}{_OBJECT}"
    return " ".join(str(value).translate(_NOT_OURS).split())


@cache
def _environment() -> Environment:
    made = Environment(  # noqa: S701 - what is made is text; the HTML is made from its lines, each of them escaped
        loader=DictLoader(_SOURCES),
        undefined=StrictUndefined,
        finalize=_finalized,
        auto_reload=False,
    )
    made.filters.update(_FILTERS)
    made.globals.update(_FUNCTIONS)
    return made


class Verbatim(str):
    """Text that its medium shows as it is: whoever made it made it harmless there."""


class Notice:
    """One kind of notice with all its template needs."""

    def __init__(self, name: str, **about: object) -> None:
        self._template: Template = _environment().get_template(f"{name}.j2")
        self._about = about

    def line(self, block: str) -> str:
        """A block that is one line."""
        return " ".join(self._render(block, []).split())

    def passage(self, block: str) -> str:
        """A block that is one paragraph, and what its expressions bring as it is."""
        objects: list[Any] = []
        words, *others = " ".join(self._render(block, objects).split()).split(_OBJECT)
        return words + "".join(objects[int(n)] + after for n, after in zip(others[::2], others[1::2], strict=True))

    def lines(self, block: str = "mail") -> list[TextLine]:
        """A block that is lines of a mail."""
        objects: list[Any] = []
        rendered = self._render(block, objects)
        return [line for each in rendered.split("\n") if each.strip() for line in _as_lines(each.strip(), objects)]

    def _render(self, block: str, objects: list[Any]) -> str:
        context = self._template.new_context({**self._about, "objects": objects})
        return "".join(self._template.blocks[block](context))


def has(name: str) -> bool:
    """Whether there is such a kind."""
    return f"{name}.j2" in _SOURCES


def web_templates(package: str, finalize: Callable[..., Any]) -> Environment:
    """The templates of a package that shows pages in a browser: whatever they print is escaped."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def names(folder: str) -> list[str]:
    """The kinds of a folder."""
    return sorted(each.removesuffix(".j2") for each in _SOURCES if each.startswith(f"{folder}/"))


@cache
def compile_first(*folders: str) -> None:
    """Compile the kinds of these folders now, some milliseconds each: the first page of a night waits for none."""
    for folder in folders:
        for name in names(folder):
            _environment().get_template(f"{name}.j2")


def blocks(name: str) -> Mapping[str, Any]:
    """The blocks of a kind by name."""
    return _environment().get_template(f"{name}.j2").blocks


def _as_lines(text: str, objects: list[Any]) -> list[TextLine]:
    style = {_HEADLINE: TextStyle.KEY, _BUTTON: TextStyle.BUTTON}.get(text[0], TextStyle.OURS)
    words, *others = text.lstrip(_HEADLINE + _BUTTON).split(_OBJECT)
    if not words.strip() and len(others) == 2 and not others[1].strip():
        found = objects[int(others[0])]
        if all(isinstance(each, TextLine) for each in found):
            return [each for each in found if isinstance(each, TextLine)]
    links: list[Link] = []
    for number, after in zip(others[::2], others[1::2], strict=True):
        (link,) = (each for each in objects[int(number)] if isinstance(each, Link))
        links.append(link)
        words += link.shown + after
    return [mixed_line(words, style, links)]
