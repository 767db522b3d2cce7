"""The sandbox GitLab reads texts as GitLab does: what runs, what comes alive, and what is code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gitlab as python_gitlab
import pytest
import requests

from panicmail.sandbox import live, markdown
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.quick_actions import EXTRACTORS, Acted, Before, Interpreter, Live, QuickAction, effect, extract


@pytest.fixture
def sandbox() -> Iterator[SandboxGitLab]:
    with SandboxGitLab() as one:
        yield one


@pytest.fixture
def project(sandbox: SandboxGitLab) -> Iterator[Any]:
    with python_gitlab.Gitlab(sandbox.url, private_token=sandbox.token, timeout=30) as client:
        yield client.projects.get(sandbox.project_id, lazy=True)


# -- blocks


def kinds(text: str) -> list[str]:
    return [block.kind for block in markdown.read(text).blocks]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\n\nc", ["paragraph", "paragraph"]),
        ("# a\nb", ["heading", "paragraph"]),
        ("a\n---\nb", ["heading", "paragraph"]),
        ("a\n***\nb", ["paragraph", "rule", "paragraph"]),
        ("```\na\n```\nb", ["code", "paragraph"]),
        ("````\n```\nb\n````", ["code"]),
        ("```\na\n~~~\nb", ["code"]),
        ("``` `\na", ["paragraph"]),
        ("    a\n\n    b\nc", ["code", "paragraph"]),
        ("a\n    b", ["paragraph"]),
        ("> a\nb\n\nc", ["quote", "paragraph"]),
        ("> ```\na", ["quote", "paragraph"]),
        ("- a\nb\n- c", ["item", "item"]),
        ("- a\n\n  b\n\nc", ["item", "paragraph"]),
        ("a\n2. b", ["paragraph"]),
        ("a\n1. b", ["paragraph", "item"]),
        ("<div>\na\n\nb", ["html", "paragraph"]),
        ("<!-- a\n\nb --> c\nd", ["html", "paragraph"]),
        ("a\n<b>", ["paragraph"]),
        ("<b>\na", ["html"]),
        ("| a | b |\n| - | - |\n| 1 | 2 |\n/c\n\nd", ["table", "paragraph"]),
        ("a\nb | c\n--- | ---", ["paragraph", "table"]),
        ("a | b\n-", ["heading"]),
        (">>>\na\n>>>\nb", ["quote", "paragraph"]),
        (">>>\na\n\nb", ["quote", "paragraph", "paragraph"]),
        ("---\na: b\n---\nc", ["front matter", "paragraph"]),
        ("---\na: b\n\nc", ["rule", "paragraph", "paragraph"]),
        ("[^1]: a\n\n    b\n\nc", ["footnote", "paragraph"]),
        ("10)\t    a\n/b", ["item", "paragraph"]),
    ],
)
def test_blocks_are_cut_as_commonmark_cuts_them(text: str, expected: list[str]) -> None:
    assert kinds(text) == expected


def test_a_pipe_divides_cells_in_code_too_unless_it_is_escaped() -> None:
    assert markdown.cells("| a | `b | c` | d \\| e |") == ["a", "`b", "c`", "d | e"]


def test_ten_thousand_levels_of_quotes_and_lists_are_read() -> None:
    assert kinds("> " * 10_000 + "a") == ["quote"]
    assert len(list(markdown.leaves(markdown.read("- " * 3_000 + "a")))) == 1


# -- quick actions


@pytest.mark.parametrize(
    ("text", "finders"),
    [
        ("/close", "markdown pairs strict greedy"),
        ("a\n/close\nb", "markdown pairs strict greedy"),
        ("/closer", ""),
        (" /close", ""),
        ("a /close", ""),
        ("/cl\rose\r\n", "markdown pairs strict greedy"),
        ("- a\n/close", "pairs strict greedy"),
        ("> /close", ""),
        ("```\n/close\n```", ""),
        ("```text\n/close\n```", "pairs"),
        ("````\n```\n/close\n````", "strict"),
        ("~~~\n/close\n~~~", "pairs strict greedy"),
        ("    a\n/close", "markdown pairs strict greedy"),
        ("a `\n/close\n` b", "strict greedy"),
        ("a `\n/close\n`", "strict"),
        (">>>\n/close\n>>>", ""),
        ("<pre>\n/close\n</pre>", ""),
        ("<div>\n/close", "pairs strict greedy"),
        ("# a\n/close", "markdown pairs strict greedy"),
    ],
)
def test_each_extractor_has_its_own_idea_of_shelter(text: str, finders: str) -> None:
    found = [extractor for extractor in EXTRACTORS if extract(text, extractor).commands]
    assert found == finders.split()


def test_what_is_carried_out_is_taken_out_of_the_text() -> None:
    taken = extract("one\n/LABEL ~a ~b \n/shrug\ntwo\n\n```\n/close\n```\n", "markdown")
    assert taken.commands == (QuickAction("label", "~a ~b"), QuickAction("shrug", ""))
    assert taken.text == "one\ntwo\n\n```\n/close\n```"


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (QuickAction("close", ""), {"state_event": "close"}),
        (QuickAction("assign", "@bo me"), {"assignees": ["ana", "bo", "bot"]}),
        (QuickAction("unassign", ""), {"assignees": []}),
        (QuickAction("unassign", "@bo"), {"assignees": ["ana"]}),
        (QuickAction("reassign", "@max"), {"assignees": ["max"]}),
        (QuickAction("label", '~a ~"b c" d'), {"add_labels": ["a", "b c", "d"]}),
        (QuickAction("unlabel", ""), {"remove_labels": ["x"]}),
        (QuickAction("relabel", "~y"), {"labels": ["y"]}),
        (QuickAction("severity", "S1"), {"severity": "critical"}),
        (QuickAction("severity", "dire"), {}),
        (QuickAction("title", ""), {}),
        (QuickAction("type", "Task"), {"issue_type": "task"}),
        (QuickAction("unlock", ""), {"discussion_locked": False}),
        (QuickAction("move", "a/b"), {}),
    ],
)
def test_a_command_changes_what_its_name_says(command: QuickAction, wanted: dict[str, Any]) -> None:
    assert effect(command, Before(actor="bot", assignees=["ana"], labels=["x"])) in (wanted, {})
    before = Before(actor="bot", assignees=["ana", "bo"] if command.name == "unassign" else ["ana"], labels=["x"])
    assert effect(command, before) == wanted


# -- over the wire


def test_commands_run_when_a_description_is_made_and_when_it_is_changed(sandbox: SandboxGitLab, project: Any) -> None:
    issue = project.issues.create({"title": "t", "description": "help\n/label ~x\n/assign @ana @eve"})
    assert (issue.description, issue.labels) == ("help", ["x"])
    assert [one["username"] for one in issue.assignees] == ["ana"]
    issue.description = "help\n\n/close"
    issue.save()
    assert (issue.description, issue.state, issue.attributes["closed_by"]["bot"]) == ("help", "closed", True)
    assert [
        (one.command, one.argument, one.where, one.iid) for one in sandbox.acted if one.extractor == "markdown"
    ] == [
        ("label", "~x", "description", 1),
        ("assign", "@ana @eve", "description", 1),
        ("close", "", "description", 1),
    ]


def test_a_note_of_nothing_but_commands_is_a_202_and_no_note(sandbox: SandboxGitLab, project: Any) -> None:
    issue = project.issues.create({"title": "t"})
    path = f"{sandbox.url}/api/v4/projects/42/issues/1/notes"
    answer = requests.post(path, json={"body": "/close"}, headers={"PRIVATE-TOKEN": sandbox.token}, timeout=30)
    assert (answer.status_code, answer.json()["commands_changes"]) == (202, {"close": ""})
    assert "id" not in answer.json()
    assert project.issues.get(1).state == "closed"
    note = issue.notes.create({"body": "there\n/reopen"})
    assert (note.body, note.attributes["commands_changes"]) == ("there", {"reopen": ""})
    assert project.issues.get(1).state == "opened"
    note.body = "/lock"
    note.save()
    assert project.issues.get(1).discussion_locked is True
    assert [one["body"] for one in sandbox.notes_of(1) if not one["system"]] == []


def test_the_first_extractor_acts_and_the_others_only_tell() -> None:
    text = "- a\n/close"
    for extractors, state in ((("strict", "markdown"), "closed"), (("markdown", "strict"), "opened")):
        with SandboxGitLab(extractors=extractors) as sandbox:  # type: ignore[arg-type]
            sandbox.instance.open_issue(sandbox.instance.owner, {"title": "t", "description": text})
            assert sandbox.issues[0]["state"] == state
            assert sandbox.acted == [Acted("close", "", "description", 1, "strict")]
    with pytest.raises(ValueError, match="an extractor"):
        Interpreter(())


def test_what_a_person_writes_acts_but_is_no_finding(sandbox: SandboxGitLab, project: Any) -> None:
    project.issues.create({"title": "t"})
    sandbox.people.comment(1, "ana", "@max look\n/close")
    assert [note["body"] for note in sandbox.notes_of(1) if not note["system"]] == ["@max look"]
    assert sandbox.issues[0]["closed_by"]["username"] == "ana"
    assert (sandbox.acted, sandbox.live) == ([], [])


def test_what_is_alive_is_told_with_its_place_and_only_once(sandbox: SandboxGitLab, project: Any) -> None:
    issue = project.issues.create({"title": "see #1", "description": "ping @all"})
    issue.description = "ping @all, please"
    issue.save()
    issue.notes.create({"body": "![`x`](http://e.example/x)"})
    assert sandbox.live == [
        Live("issue", "title", 1, "#1"),
        Live("mention", "description", 1, "@all"),
        Live("image", "note", 1, "![…](http://e.example/x)"),
    ]


def test_a_link_to_a_file_of_the_project_is_forgiven_and_no_other(sandbox: SandboxGitLab, project: Any) -> None:
    url = project.upload("a b.eml", filedata=b"x")["url"]
    project.issues.create({"title": "t", "description": f"[a]({url}) [b](/uploads/{'0' * 32}/b)"})
    assert [one.text for one in sandbox.live] == [f"[b](/uploads/{'0' * 32}/b)"]


# -- what is alive


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain words, 50 % of them; 3 & 4, a ~ b, $ 5, C#!", []),
        ("`@all` ``a`@all`b`` <!-- -->", [("html", "<!-- -->")]),
        ("` @all", [("mention", "@all")]),
        ("\\`@all`", [("mention", "@all")]),
        ("http://e.example/`@all`", [("url", "http://e.example/`@all`")]),
        ("ceo@e.example", [("email", "ceo@e.example")]),
        ("a/b#1", [("issue", "a/b#1")]),
        ("a/b>", [("project", "a/b>")]),
        ("~~gone~~", []),
        ("a:fire:b", []),
        ("[a](b(c)d)", [("link", "[a](b(c)d)")]),
        ("[![a](b)](c)", [("image", "![a](b)"), ("link", "[\ue000\ue000\ue000\ue000\ue000\ue000\ue000](c)")]),
        ("\\[a](b)", []),
        ("a\n\n[x]: y", [("definition", "[x]: y")]),
        ("    @all", []),
        ("- @all", [("mention", "@all")]),
        ("<pre>\n@all\n</pre>", [("html", "<pre>\n@all\n</pre>")]),
        ("| a |\n| - |\n| b | @all |", [("table", "| b | @all |"), ("mention", "@all")]),
        ("$`a`$", [("math", "$`a`$")]),
        ("$5 and $6", []),
        ("```suggestion:-0+1\n```", [("diagram", "suggestion:-0+1")]),
    ],
)
def test_only_what_gitlab_would_make_of_it_is_alive(text: str, found: list[tuple[str, str]]) -> None:
    seen = live.found_in(text)
    assert [one for one in seen if one[0] != "snippet"] == found


def test_a_title_has_references_and_addresses_but_no_code() -> None:
    found = live.found_in_title("`@all` ~bug http://e.example ceo@e.example <b> [a](b)")
    assert [kind for kind, _ in found] == ["url", "mention", "label"]
