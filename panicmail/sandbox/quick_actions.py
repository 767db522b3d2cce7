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
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias, get_args
from urllib.parse import unquote

from panicmail.sandbox import live, markdown

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


# -- How the relay misbehaves towards some addresses; the table is in `relay`.

Action: TypeAlias = Literal["reject", "hang", "drop", "bounce", "out of office"]
Stage: TypeAlias = Literal["mail", "rcpt", "data", "end"]
#: Where an absence is answered to: RFC 3834 wants Return-Path, some programs take Reply-To.
Target: TypeAlias = Literal["Return-Path", "Reply-To"]

#: Those that answer by mail: the message is taken first.
ANSWERING = ("bounce", "out of office")
_USUAL: dict[Action, Stage] = {"reject": "rcpt"}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One misbehaviour, as ordered."""

    address: str  #: lower case; "" is part of every address, "<>" is the null sender and nothing else
    action: Action
    stage: Stage
    code: int
    times: int | None  #: how often it still acts; None means until cleared
    seconds: float
    via: str  #: of those that answer by mail: where they post it, "host:port"
    target: Target
    cleared: threading.Event

    def meets(self, address: str) -> bool:
        return address == "" if self.address == "<>" else self.address in address.lower()


class Rules:
    """The rules there are; the first that matches acts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._cleared = threading.Event()

    def add(
        self,
        address: str,
        action: Action,
        *,
        stage: Stage | None,
        code: int,
        times: int | None,
        seconds: float,
        via: str,
        target: Target,
    ) -> None:
        """Raises ValueError for a rule that makes no sense."""
        stage = stage or _USUAL.get(action, "end")
        if action not in get_args(Action) or stage not in get_args(Stage):
            raise ValueError(f"no {action!r} at {stage!r}; there are {get_args(Action)} at {get_args(Stage)}")
        if action in ANSWERING and (stage != "end" or not via):
            raise ValueError(f"{action!r} comes after the end and needs a `via`, host:port")
        with self._lock:
            self._rules.append(
                Rule(
                    address=address.lower(),
                    action=action,
                    stage=stage,
                    code=code,
                    times=times,
                    seconds=seconds,
                    via=via.removeprefix("smtp://"),
                    target=target,
                    cleared=self._cleared,
                )
            )

    def clear(self) -> None:
        """Forget them and let go of whoever hangs."""
        with self._lock:
            self._rules.clear()
            self._cleared.set()
            self._cleared = threading.Event()

    def take(self, stage: Stage, addresses: Sequence[str]) -> Rule | None:
        """The rule that acts on these addresses at this stage, counted."""
        with self._lock:
            for place, rule in enumerate(self._rules):
                if rule.stage == stage and any(rule.meets(address) for address in addresses):
                    if rule.times is not None:
                        self._rules[place : place + 1] = [replace(rule, times=rule.times - 1)] * (rule.times > 1)
                    return rule
        return None


# -- What quick actions do to an issue. Pure.
#
# Carried out is what panicmail has to fear: state, title, labels, people, severity, confidentiality, the lock and
# the type. The others change nothing here. A label that does not exist is made, though GitLab would pass it over:
# the more harm is seen, the more is found.

#: In the words of `Instance.edit_issue`, but with usernames for people.
Wanted = dict[str, Any]

_SEVERITIES = {"s1": "critical", "s2": "high", "s3": "medium", "s4": "low"}


@dataclass(frozen=True, kw_only=True)
class Before:
    """The issue as it is, and who writes."""

    actor: str
    assignees: Sequence[str]
    labels: Sequence[str]


def effect(command: QuickAction, before: Before) -> Wanted:
    """What the command changes; nothing when it is only recorded or its argument makes no sense."""
    change = _CHANGES.get(command.name)
    return {} if change is None else change(command.argument, before)


def _assign(argument: str, before: Before) -> Wanted:
    return {"assignees": list(dict.fromkeys([*before.assignees, *_people(argument, before)]))}


def _reassign(argument: str, before: Before) -> Wanted:
    return {"assignees": _people(argument, before)}


def _unassign(argument: str, before: Before) -> Wanted:
    """Nobody named means everybody."""
    leaving = _people(argument, before) or before.assignees
    return {"assignees": [one for one in before.assignees if one not in leaving]}


def _people(argument: str, before: Before) -> list[str]:
    return [before.actor if name == "me" else name for name in re.findall(r"@?([\w][\w.-]*)", argument)]


def _label(argument: str, before: Before) -> Wanted:
    return {"add_labels": _labels(argument)}


def _relabel(argument: str, before: Before) -> Wanted:
    return {"labels": _labels(argument)}


def _unlabel(argument: str, before: Before) -> Wanted:
    """None named means all."""
    return {"remove_labels": _labels(argument) or list(before.labels)}


def _labels(argument: str) -> list[str]:
    return [quoted or plain for quoted, plain in re.findall(r"~?(?:\"([^\"]+)\"|([^\s~\"]+))", argument)]


def _title(argument: str, before: Before) -> Wanted:
    return {"title": argument[:255]} if argument else {}


def _severity(argument: str, before: Before) -> Wanted:
    level = _SEVERITIES.get(argument.lower(), argument.lower())
    return {"severity": level} if level in (*_SEVERITIES.values(), "unknown") else {}


def _type(argument: str, before: Before) -> Wanted:
    kind = argument.lower()
    return {"issue_type": kind} if kind in ("issue", "incident", "task", "ticket") else {}


def _always(**wanted: Any) -> Callable[[str, Before], Wanted]:
    return lambda argument, before: dict(wanted)


_CHANGES: Mapping[str, Callable[[str, Before], Wanted]] = {
    "close": _always(state_event="close"),
    "duplicate": _always(state_event="close"),
    "reopen": _always(state_event="reopen"),
    "confidential": _always(confidential=True),
    "lock": _always(discussion_locked=True),
    "unlock": _always(discussion_locked=False),
    "promote_to_incident": _always(issue_type="incident"),
    "convert_to_ticket": _always(issue_type="ticket"),
    "assign": _assign,
    "reassign": _reassign,
    "unassign": _unassign,
    "label": _label,
    "labels": _label,
    "relabel": _relabel,
    "unlabel": _unlabel,
    "remove_label": _unlabel,
    "title": _title,
    "severity": _severity,
    "type": _type,
}


# -- Reads what is written with the token as GitLab would, and remembers what acted and what came alive.
#
#     gitlab.acted    [Acted("close", "", "description", 1, "markdown")]
#     gitlab.live     [Live("mention", "title", 1, "@all")]
#
# Every extractor asked for is consulted and all they find is remembered; the first one's finds are carried out.
# What people write by `comment` acts as it would, but is not remembered: these lists are about panicmail.

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
            Live(kind, where, iid, words.replace(markdown.HOLE, "…")): None
            for kind, words in found
            if not (kind == "link" and _target(words) in files)
        }


def _target(link: str) -> str:
    to = re.search(r"\]\(([^()\s]*)\)\Z", link)
    return unquote(to[1]) if to else ""


# -- A message as the relay got it, and what a stricter relay would have said to it.

_MAX_LINE = 998  # RFC 5321 4.5.3.1.6, without CRLF


@dataclass(frozen=True, kw_only=True)
class Received:
    """One message as it came."""

    received_at: float  #: by time.monotonic(), at the final dot
    at: datetime = field(default_factory=lambda: datetime.now(UTC))  #: the same instant, for people
    mail_from: str  #: "" for the null sender
    recipients: tuple[str, ...]
    raw: bytes  #: after dot-unstuffing
    options: tuple[str, ...] = ()  #: parameters of MAIL, upper case, such as "SIZE=1234"
    login: str = ""  #: who authenticated, "" for nobody
    is_tls: bool = False
    faults: tuple[str, ...] = ()  #: what a stricter relay would have refused

    @cached_property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=policy.default)

    @property
    def subject(self) -> str:
        return self.header("Subject")

    @property
    def text(self) -> str:
        """The plain text, with "\\n" for line ends; "" without one."""
        return self._body("plain")

    @property
    def html(self) -> str:
        return self._body("html")

    def header(self, name: str) -> str:
        """The first field of that name, decoded and unfolded; "" without one."""
        return str(self.message.get(name, ""))

    def to(self, address: str) -> bool:
        """Whether it was sent to this address, whatever its headers say."""
        return address.lower() in (recipient.lower() for recipient in self.recipients)

    def _body(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        if part is None:
            return ""
        try:
            text = str(part.get_content())
        except LookupError:  # a charset nobody knows
            text = bytes(part.get_payload(decode=True)).decode("utf-8", "replace")
        return text.replace("\r\n", "\n")


def faults_of(raw: bytes) -> tuple[str, ...]:
    """What a lenient relay lets pass and the next one does not."""
    found = {
        "bare LF": re.search(rb"(?<!\r)\n", raw),
        "bare CR": re.search(rb"\r(?!\n)", raw),
        "NUL": b"\0" in raw,
        f"line over {_MAX_LINE} octets": any(len(line) > _MAX_LINE for line in raw.split(b"\r\n")),
    }
    return tuple(name for name, is_so in found.items() if is_so)
