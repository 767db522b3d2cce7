"""Hostile texts: what a mail may say to make GitLab do something, and that it does nothing.

Each text goes where a sender's words go (the title, the report, a note, the name of a file, a display name), by
panicmail's own builders, over HTTP, into a GitLab that reads texts as GitLab does. The same texts go in raw, too: a
test that cannot fail proves nothing. And between plain fences, to see why a fence is not enough.

`python -m tests.contract.test_hostile_texts` prints the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.gitlab import notes
from panicmail.gitlab.client import GitLabProject
from panicmail.gitlab.description import FileLink, IssueDraft, ReceivedFacts, draft, marker, with_files
from panicmail.gitlab.escape import block, carries, inline, title
from panicmail.gitlab.issues import Issues
from panicmail.incident.classify import Attachment, Report
from panicmail.incident.model import Incident, State
from panicmail.incident.people import Person
from panicmail.mail.compose import timeline_words
from panicmail.sandbox import live
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.quick_actions import EXTRACTORS, Acted, Live, extract
from tests.examples import examples

#: A word of the sender's that a reader must still find, and that must stand in code.
CANARY = "kanarienvogel"


class Hostile(NamedTuple):
    name: str
    text: str
    #: What it does when nothing is done about it: commands and kinds of life. "" for texts that sleep, and that only
    #: a clumsy encoder would wake.
    raw: str


C = CANARY
HOSTILE = [
    # -- commands, and where they may stand
    Hostile("a command on a line of its own", f"{C}\n/close", "close"),
    Hostile("a command first of all", f"/close\n{C}", "close"),
    Hostile("a command in capitals", f"{C}\n/CLOSE", "close"),
    Hostile("a command with a blank behind it", f"{C}\n/close ", "close"),
    Hostile("commands one under the other",
            f"{C}\n/label ~pwned ~\"so bad\"\n/assign @max\n/title gone\n/severity low\n/lock",
            "label,assign,title,severity,lock"),
    Hostile("a command that takes labels and people away", f"{C}\n/unlabel\n/unassign\n/close", "unlabel,unassign"),
    Hostile("a command that makes it public elsewhere", f"{C}\n/move public/project\n/invite_email x@e.example",
            "move,invite_email"),
    Hostile("a command after a heading", f"# {C}\n/close", "close"),
    Hostile("a command under a line of dashes", f"{C}\n---\n/close", "close"),
    Hostile("a command after nested lists", f"- {C}\n  - b\n    - c\n\n/close", "close"),
    Hostile("a command a list would swallow", f"- {C}\n/close", "close"),
    Hostile("a command a quote would swallow", f"> {C}\n/close", "close"),
    Hostile("a command behind a long quote", f">>>\n{C}\n>>>\n/close", "close"),
    Hostile("a long quote that never ends", f"{C}\n>>>\n/close\n", "close"),
    Hostile("a command in a comment", f"{C}\n<!--\n/close\n-->", "close,html"),
    Hostile("a command in details", f"<details>\n\n/close\n\n</details>\n{C}", "close,html"),
    Hostile("a command in a formula", f"{C}\n\n$$\n/close\n$$", "close"),
    Hostile("a command under a span that never ends", f"{C} ` b\n/close\nc", "close"),
    Hostile("a command under a table", f"| {C} | b |\n| --- | --- |\n| 1 | 2 |\n\n/close", "close"),
    Hostile("a command under front matter", f"---\ntitle: {C}\n---\n/close", "close,front matter"),
    Hostile("a command under a definition", f"[{C}]: http://e.example\n/close", "close,definition"),
    Hostile("a blank before the command", f"{C}\n /close", ""),
    # -- fences
    Hostile("a fence of the usual length", f"```\n/close\n```\n/close\n{C}", "close"),
    Hostile("a longer fence", f"`````\n/close\n`````\n/close\n{C}", "close"),
    Hostile("a shorter fence in a longer one", f"````\n```\n/close\n````\n/close\n{C}", "close"),
    Hostile("a fence of tildes", f"~~~\n/close\n~~~\n/close\n{C}", "close"),
    Hostile("a fence by three blanks in", f"   ```\n/close\n   ```\n/close\n{C}", "close"),
    Hostile("a fence with blanks behind it", f"``` \n/close\n```  \n/close\n{C}", "close"),
    Hostile("a fence with our own word", f"```text\n{C}\n```\n/close", "close"),
    Hostile("a fence that never ends", f"{C}\n```\n/close", "close"),
    Hostile("a fence that lets a picture out", f"```\n@all ![](http://e.example/x.png)\n```\n@all {C}", "mention"),
    Hostile("a fence cut by old line ends", f"{C}\r```\r\n/close\r\n```\r\n/close", "close"),
    # -- lines that end otherwise, and signs nobody sees
    Hostile("a line that ends with CR LF", f"{C}\r\n/close", "close"),
    Hostile("a line that ends with CR", f"{C}\r/close", ""),
    Hostile("a line that ends with a vertical tab", f"{C}\v/close", ""),
    Hostile("a line that ends with a form feed", f"{C}\f/close", ""),
    Hostile("a line that ends with NEL", f"{C}\x85/close", ""),
    Hostile("a line that ends with U+2028", f"{C}\u2028/close", ""),
    Hostile("a paragraph that ends with U+2029", f"{C}\u2029/close", ""),
    Hostile("a line that ends with a file separator", f"{C}\x1c/close", ""),
    Hostile("CR within the command", f"{C}\n/clo\rse", "close"),
    Hostile("a byte order mark before the command", f"\ufeff/close\n{C}", ""),
    Hostile("a zero-width space before the command", f"{C}\n\u200b/close", ""),
    Hostile("a joiner before the command", f"{C}\n\u200d/close", ""),
    Hostile("a combining accent before the command", f"{C}\n\u0301/close", ""),
    Hostile("a full-width slash", f"{C}\n\uff0fclose", ""),
    Hostile("right-to-left override", f"{C}\n\u202e@all \u202c\n/close", "close,mention"),
    Hostile("zero-width within a mention", f"{C} @\u200ball #\u200b1", ""),
    # -- calls and references
    Hostile("everybody", f"{C} @all, please", "mention"),
    Hostile("a person and a group", f"{C} @ana @security/oncall", "mention"),
    Hostile("a mention by its entity", f"{C} &commat;all &#64;ana", "mention"),
    Hostile("a mention behind a backslash", f"{C} \\@all", "mention"),
    Hostile("issues", f"{C} #1 security/incidents#1 GL-1", "issue"),
    Hostile("merge requests", f"{C} !1 other/project!1", "merge request"),
    Hostile("labels", f"{C} ~bug ~\"two words\"", "label"),
    Hostile("milestones, epics, snippets, iterations", f"{C} %\"Q 1\" &1 $1 *iteration:1",
            "milestone,epic,snippet,iteration"),
    Hostile("things in brackets", f"{C} [vulnerability:1] [work_item:1] ^alert#1", "item,alert reference"),
    # -- pictures, links, tags
    Hostile("a picture from afar", f"{C} ![](http://e.example/x.png)", "image"),
    Hostile("a picture by its definition", f"![{C}][y]\n\n[y]: http://e.example/x.png", "image,definition"),
    Hostile("a tag that loads", f"{C} <img src=http://e.example/x.png>", "html"),
    Hostile("details that hide", f"<details><summary>{C}</summary>\n@all\n</details>", "html,mention"),
    Hostile("a script and a style", f"{C}\n<script>alert(1)</script>\n<style>*{{display:none}}</style>", "html"),
    Hostile("a comment that never ends", f"<!-- {C}\n@all", "html"),
    Hostile("a link that runs", f"{C} [click](javascript:alert(1))", "link"),
    Hostile("a name that ends its link", f"{C}](javascript:alert(1)) ![x](http://e.example/x.png)", "image"),
    Hostile("a name that is a link", f"{C}.txt [a](http://e.example) <b>.exe", "link,html"),
    Hostile("a definition for our own words", f"{C}\n\n[report]: http://e.example\n\nSee [report].", "definition,link"),
    Hostile("a footnote", f"{C}[^1]\n\n[^1]: @all", "footnote,mention"),
    Hostile("addresses that link themselves", f"{C} http://e.example/x www.e.example <ftp://e.example>",
            "url,autolink"),
    Hostile("an address that eats the backtick", f"{C} http://e.example/` @all `", "url,mention"),
    Hostile("mail addresses", f"{C} ceo@e.example mailto:ceo@e.example <ceo@e.example>", "email,autolink"),
    # -- tables
    Hostile("a table", f"{C} | b\n--- | ---\n@all | #1", "mention,issue"),
    Hostile("a cell that ends early", f"{C} | @all | #1 |", "mention,issue"),
    Hostile("a cell cut within its span", f"{C} `a | @all | b` | \\| c", "mention"),
    Hostile("a row of its own", f"{C} |\n| @all | 2 |\n/close", "mention,close"),
    # -- drawn, run, listed
    Hostile("a drawing", f"{C}\n```mermaid\ngraph TD; a-->b\n```", "diagram"),
    Hostile("a formula in a fence", f"{C}\n```math\n\\def\\x{{\\x\\x}}\\x\n```", "diagram"),
    Hostile("a table from JSON", f"{C}\n```json:table\n{{\"items\": [{{\"a\": \"@all\"}}]}}\n```", "diagram"),
    Hostile("formulas in a line", f"{C} $`a`$ and $x^2$ @all", "math,mention"),
    Hostile("contents", f"[[_TOC_]]\n\n# {C}\n\n[TOC]", "contents"),
    Hostile("an include", f"{C}\n\n::include{{file=/etc/passwd}}", "include"),
    Hostile("an alert", f"> [!warning]\n> {C}", "alert"),
    Hostile("colons", f":::\n{C} @all\n:::", "mention"),
    # -- backticks, by the number
    Hostile("ten thousand backticks", f"{C} {'`' * 10_000} @all", "mention"),
    Hostile("runs of every length", f"{C} {' '.join('`' * n for n in range(1, 40))} @all", "mention"),
    Hostile("spans that never end", f"{C} ``` `` ` @all", "mention"),
    Hostile("a span around our own backtick", f"`{C}` @all `", "mention"),
    Hostile("a backslash at the end", f"{C} @all \\", "mention"),
]  # fmt: skip
BY_NAME = {one.name: one for one in HOSTILE}
HOSTILE_PIECES = sorted({piece for one in HOSTILE for piece in re.split(r"(?<=[\n ])", one.text[:300])})


# -- where a sender's words go, by panicmail's own hands

NOW = datetime(2026, 11, 22, 3, 7, tzinfo=UTC)
ANA = Person(id="ana", name="Ana Reyes", email="ana@example.com", gitlab="ana")
LABELS = ("security-incident",)
INCIDENT = Incident(
    id="abcdefghijklmnop",
    ref="7KQ2P",
    mail_id="abcdefghijklmnopqrstuvwxyz",
    state=State.OPEN,
    accepted_at=NOW,
    sla_at=NOW + timedelta(minutes=15),
    first_sla_at=NOW + timedelta(minutes=15),
    opened_at=NOW,
    steps_from_at=NOW,
    step=0,
)
PLAIN = Report(subject="Ransom note", from_address="rita@example.com", from_name="Rita", text="Help.")


@dataclass
class Line:
    """A line of the timeline, as the store hands it out."""

    event: str
    actor: str | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    id: int = 7
    at: datetime = NOW


def drafted(report: Report) -> IssueDraft:
    came = ReceivedFacts(
        mail_from="rita@example.com",
        peer="192.0.2.7",
        tls="",
        size=9,
        recipients=("p@example.com",),
        sender="",
    )
    return draft(INCIDENT, report, came, assignee=ANA, labels=LABELS)


class Office:
    """A GitLab, and panicmail's way to it."""

    def __init__(self, gitlab: SandboxGitLab) -> None:
        self.gitlab = gitlab
        self.issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), LABELS)

    def open(self, report: Report) -> int:
        """The issue of a mail, as panicmail writes it, by its number."""
        opened = self.issues.create(drafted(report))
        assert opened.dropped == ()
        return opened.iid

    def open_raw(self, text: str, title: str) -> int:
        """An issue with a note, written without any care, by the same road."""
        opened = self.issues.create(IssueDraft(title=title, description=text, labels=LABELS, assignee_username="ana"))
        self.issues.note(opened.iid, f"{text}\n\nlast", "", look=False)
        return opened.iid

    def seen(self, iid: int) -> Outcome:
        return Outcome(
            issue=self.gitlab.issues[iid - 1],
            notes=self.gitlab.notes_of(iid),
            acted=[one for one in self.gitlab.acted if one.iid == iid],
            live=[one for one in self.gitlab.live if one.iid == iid],
        )


def in_title(office: Office, text: str) -> int:
    return office.open(replace(PLAIN, subject=text))


def in_report(office: Office, text: str) -> int:
    return office.open(replace(PLAIN, text=text))


def in_note(office: Office, text: str) -> int:
    iid = office.open(PLAIN)
    for event, facts in (
        ("thread.more", {"from_address": "eve@e.example", "from_name": text, "text": text, "is_reporter": False}),
        ("person.wrote", {"text": text, "why": text, "how": text}),
        ("person.declined", {"words": text, "how": text}),
        ("quite.new", {"words": text}),
    ):
        said = timeline_words.note_text(Line(event, text, facts), INCIDENT, {})
        office.issues.note(iid, said, notes.marker(INCIDENT.id, 7), look=False)
    return iid


def in_file_name(office: Office, text: str) -> int:
    iid = office.open(replace(PLAIN, attachments=(Attachment(name=text, type=text, size=1, sha256="e" * 64),) * 2))
    file = office.issues.upload(text, b"x")
    said = with_files(office.issues.description(iid), [FileLink.of(text, file.url, b"x")])
    assert said is not None
    office.issues.describe(iid, said)
    return iid


def in_later_file_name(office: Office, text: str) -> int:
    """The notes about files that came with a later mail: those that name them, and the one that links them."""
    iid = office.open(PLAIN)
    attachment = {"name": text, "type": text, "size": 1, "sha256": "e" * 64}
    for uploads in (True, False):
        facts = {"attachments": [attachment] * 2, "mail": text, "uploads": uploads}
        said = timeline_words.note_text(Line("mail.attached", text, facts), INCIDENT, {})
        office.issues.note(iid, said, notes.marker(INCIDENT.id, 7), look=False)
    link = FileLink.of(text, office.issues.upload(text, b"x").url, b"x")
    own_marker = notes.files_marker(INCIDENT.id, INCIDENT.mail_id)
    said = notes.later_files_text([link, link], [text, text], NOW, own_marker)
    assert carries(said, own_marker)
    office.issues.note(iid, said, own_marker, look=False)
    return iid


def in_display_name(office: Office, text: str) -> int:
    return office.open(replace(PLAIN, from_name=text, from_shown=text, reply_to=text, phones=(text,)))


PLACES: Sequence[Callable[[Office, str], int]] = (
    in_title, in_report, in_note, in_file_name, in_later_file_name, in_display_name,
)  # fmt: skip


# -- what became of it


@dataclass
class Outcome:
    """What a GitLab made of an issue."""

    issue: dict[str, Any]
    notes: list[dict[str, Any]]
    acted: list[Acted]
    live: list[Live]

    @property
    def words(self) -> set[str]:
        """Commands and kinds of life."""
        return {one.command for one in self.acted} | {one.kind for one in self.live}

    @property
    def texts(self) -> list[str]:
        """All that is Markdown."""
        return [self.issue["description"], *(note["body"] for note in self.notes if not note["system"])]


@contextmanager
def an_office() -> Iterator[Office]:
    with SandboxGitLab() as gitlab:
        office = Office(gitlab)
        with closing(office.issues):
            yield office


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    with an_office() as one:
        yield one


def raw(office: Office, name: str) -> Outcome:
    text = BY_NAME[name].text
    return office.seen(office.open_raw(text, " ".join(text.split())[:255]))


def fenced(office: Office, name: str) -> Outcome:
    return office.seen(office.open_raw(f"```\n{BY_NAME[name].text}\n```", "plain"))


# -- the claims


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_hostile_text_does_nothing_and_is_still_there_to_read(office: Office, name: str, place: Any) -> None:
    seen = office.seen(place(office, BY_NAME[name].text))
    assert (seen.acted, seen.live) == ([], [])
    assert (seen.issue["state"], seen.issue["confidential"], seen.issue["issue_type"]) == ("opened", True, "incident")
    assert (seen.issue["labels"], [one["username"] for one in seen.issue["assignees"]]) == (list(LABELS), ["ana"])
    assert (seen.issue["severity"], seen.issue["discussion_locked"]) == ("UNKNOWN", None)
    assert seen.issue["title"].startswith("[panic] ")
    assert carries(seen.issue["description"], marker(INCIDENT.id))
    assert any(CANARY in text for text in [seen.issue["title"], *seen.texts])
    # The address of an upload holds its name, spelt anew.
    assert not any(CANARY in live.outside_code(re.sub(r"\(/uploads/[\w/.-]+\)", "", text)) for text in seen.texts)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_same_text_raw_does_what_it_says(office: Office, name: str) -> None:
    expected = BY_NAME[name].raw
    words = raw(office, name).words
    assert words >= set(filter(None, expected.split(",")))
    assert bool(words) is bool(expected), f"it {'does ' + ', '.join(words) if words else 'sleeps'}"


def test_forty_texts_and_more_are_awake() -> None:
    assert len(BY_NAME) == len(HOSTILE)
    assert sum(bool(one.raw) for one in HOSTILE) >= 40


def test_commands_that_get_through_change_the_issue(office: Office) -> None:
    issue = raw(office, "commands one under the other").issue
    assert (issue["title"], issue["severity"], issue["discussion_locked"]) == ("gone", "LOW", True)
    assert issue["labels"] == ["pwned", *LABELS, "so bad"]
    assert [one["username"] for one in issue["assignees"]] == ["ana", "max"]
    assert raw(office, "a command that takes labels and people away").issue["assignees"] == []


def test_a_plain_fence_is_not_enough(office: Office) -> None:
    assert "close" in fenced(office, "a fence of the usual length").words
    assert "close" in fenced(office, "a fence with our own word").words


@examples(300)
@given(st.lists(st.sampled_from([*HOSTILE_PIECES, "\n", "\n\n", " "]), max_size=8).map("".join), st.integers(1, 200))
def test_nothing_glued_from_hostile_pieces_does_anything(text: str, limit: int) -> None:
    description = f"Says {inline(text, limit)}, and:\n\n| | |\n| --- | --- |\n| {inline(text)} | {inline(text[::-1])} |"
    description += f"\n\n{block(text, limit)}\n\nand\n\n{block(text, 10_000)}\n\nlast @us"
    assert live.found_in(description) == [("mention", "@us")]
    assert [extract(description, extractor).commands for extractor in EXTRACTORS] == [()] * 4
    assert live.found_in_title(title(text)) == []


def test_a_text_that_got_through_is_told_to_whoever_opened_the_issue(office: Office) -> None:
    opened = office.issues.create(IssueDraft(title="t", description=f"{CANARY}\n/close\n/title gone", labels=LABELS))
    assert any(said.startswith("state") for said in opened.dropped)
    assert {"title", "text"} <= set(opened.dropped)


# -- for a reader


def table(office: Office) -> Iterator[str]:
    """Name by name: what the text does raw, between plain fences, and by panicmail in all places together."""
    form = "{:<48} {:<59} {:<24} {}".format
    yield form("text", "raw", "in a plain fence", "by panicmail")
    for one in HOSTILE:
        ours = [office.seen(place(office, one.text)) for place in PLACES]
        yield form(one.name, _told([raw(office, one.name)]), _told([fenced(office, one.name)]), _told(ours))


def _told(outcomes: Sequence[Outcome]) -> str:
    """ "/close ×2": two extractors found it."""
    found = {(one.command, one.extractor) for seen in outcomes for one in seen.acted}
    commands = dict.fromkeys(one.command for seen in outcomes for one in seen.acted)
    kinds = dict.fromkeys(one.kind for seen in outcomes for one in seen.live)
    told = [f"/{name} ×{sum(name == command for command, _ in found)}" for name in commands]
    return ", ".join([*told, *kinds]) or "–"


def main() -> None:
    with an_office() as office:
        for line in table(office):
            print(line.rstrip())


if __name__ == "__main__":
    main()
