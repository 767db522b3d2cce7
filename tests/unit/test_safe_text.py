"""Nothing a sender wrote acts in GitLab: tried with what GitLab's extractors look for, several generations of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from panicmail.gitlab.escape import MAX_TITLE, PREFIX, block, carries, file_name, inline, outside, title
from tests.examples import examples

#: Pieces that mean something to GitLab, glued together by hypothesis with anything else.
HOSTILE = [
    "/close", "/assign @ana", "`", "```", "````", "~~~", "\n", "\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029",
    ">>>", "$$", "@all", "#1", "!1", "&1", "$1", "~bug", '%"Q1"', "[vulnerability:1]", "GL-12", "![x](http://a.b/c)",
    "[x](javascript:1)", "<img src=x>", "<!--", "-->", "|", "\\", "`@all`", ":fire:", "https://e.vil/x", "&#64;all",
    "[[Home]]", "::include{file=x}", "\u202e", "\u200b", "\0", "\ufeff", "\ud800", "    ", "> ", "- ", "text", "é",
    "🔥",
]  # fmt: skip
texts = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), max_size=12).map("".join)

#: Quick actions as the oldest extractor has them: a regular expression with its own idea of what code is.
_OLD_EXTRACTOR = re.compile(
    r"(?P<code>^```.+?\n```$)|(?P<inline>^`\n*.+?\n*`$)|(?P<html>^<[^>]+?>\n.+?\n</[^>]+?>$)"
    r"|(?P<quote>^>>>.+?\n>>>$)|(?P<command>^/[a-z_]+)",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
#: What looks like a reference to GitLab in a title.
_REFERENCES = re.compile(
    r"@\w|\w-*>|(?<!\w)[#!$&]\d|&#?\w+;|(?<!\w)[~%][\w\"]|\bGL-\d|\[\[|\[\w+:|\w://|<[a-z/!]|(?<![^\W_]):[\w+-]+:",
    re.IGNORECASE,
)


def quick_actions(text: str) -> list[str]:
    """What would run: outside the fences as CommonMark sees them, and what the oldest extractor finds."""
    text = text.replace("\r", "").replace("\0", "")
    newer = [line for line in unfenced(text) if re.match(r"/\w", line)]
    older = [found["command"] for found in _OLD_EXTRACTOR.finditer(text) if found["command"]]
    return newer + older


def unfenced(text: str) -> list[str]:
    """The lines outside fenced code, by CommonMark 4.5."""
    lines, fence = [], ""
    for line in text.split("\n"):
        if fence:
            closing = re.fullmatch(r" {0,3}(`{3,}|~{3,})[ \t]*", line)
            if closing and closing[1][0] == fence[0] and len(closing[1]) >= len(fence):
                fence = ""
        elif opening := re.fullmatch(r" {0,3}(?:(`{3,})[^`]*|(~{3,}).*)", line):
            fence = opening[1] or opening[2]
        else:
            lines.append(line)
    return lines if not fence else [*lines, "(a fence was left open)"]


def code_span(text: str) -> str | None:
    """What is in the code span the whole text is, by CommonMark 6.1; None when it is not just one."""
    ticks = re.match("`+", text)
    if ticks is None:
        return None
    rest = text[ticks.end() :]
    end = re.search(f"(?<!`){ticks[0]}(?!`)", rest)
    if end is None or end.end() != len(rest):
        return None
    inside = rest[: end.start()]
    padded = inside.startswith(" ") and inside.endswith(" ") and inside.strip()
    return inside[1:-1] if padded else inside


# -- blocks


@examples(300)
@given(texts, st.integers(0, 60))
@example("```\n/close\n```", 60)
@example("a\x0b/close", 60)
@example("\u200b/close", 60)
@example("````\n>>>\n/close\n>>>\n$$\n/close\n$$", 60)
def test_nothing_in_a_block_runs_or_leaves_it(text: str, limit: int) -> None:
    encoded = f"{block(text, limit)}\n\nafter\n\n{block(text[::-1], limit)}"
    assert quick_actions(encoded) == []
    stray = [line for line in unfenced(encoded) if line and not line.startswith("(Cut here: ")]
    assert stray == ["after"]
    assert not re.search(r"(?m)^(/|>>>$|\$\$$)", encoded)
    encoded.encode()


@examples(100)
@given(texts)
def test_no_control_bidi_or_half_character_survives(text: str) -> None:
    for encoded in (block(text, 1000), inline(text, 1000), title(text)):
        assert not re.search(
            "[\0-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", encoded
        )


def test_plain_words_stay_as_they_are() -> None:
    text = "My files are .locked!\n\tCall +49 170 0000000, or mail r@example.com; 50% are gone: <html>, `ls`, #1."
    assert block(text, 1000) == f"```text\n{text}\n```"


def test_writing_that_needs_joiners_keeps_them() -> None:
    assert "👩\u200d💻" in block("👩\u200d💻", 10)


def test_only_the_beginning_of_a_line_is_changed_for_a_slash() -> None:
    assert block("/close\na /close", 100) == "```text\n /close\na /close\n```"


def test_a_wall_of_backticks_does_not_grow_the_fence_with_it() -> None:
    encoded = block("`" * 100_000, 200_000)
    assert len(encoded) < 110_000
    assert unfenced(encoded) == []


def test_a_cut_text_says_how_much_is_missing() -> None:
    encoded = block("x" * 150, 100)
    assert encoded == f"```text\n{'x' * 100}\n```\n\n(Cut here: 50 more characters are in the mail.)"


# -- code spans


@examples(300)
@given(texts, st.integers(1, 60))
def test_a_code_span_holds_all_of_it_on_one_line_without_a_pipe(text: str, limit: int) -> None:
    encoded = inline(text, limit)
    inside = code_span(encoded)
    assert inside is not None
    assert 0 < len(inside) <= max(limit, len("(empty)"))
    assert "\n" not in encoded
    assert "|" not in encoded


@pytest.mark.parametrize("name", ["", " ", "\u202e", "\n"])
def test_nothing_is_shown_as_nothing(name: str) -> None:
    assert inline(name) == "`(empty)`"


def test_a_name_is_readable_in_its_span() -> None:
    assert inline("Rita  Lopez") == "`Rita Lopez`"
    assert inline("`rm`") == "`` `rm` ``"


# -- titles


@examples(300)
@given(texts)
@example("@all please /close #1 &1 !1 ~bug %Q1 $1 [issue:1] GL-1 :fire: https://e.vil/ &commat;all <b>")
@example("\u200b@\u200ball #\u200b1")
@example("x" * 300)
@example("moved to security/project-> and infra/old-->")
def test_a_title_is_one_line_that_refers_to_nothing(subject: str) -> None:
    shown = title(subject)
    assert shown.startswith(PREFIX)
    assert len(shown) <= MAX_TITLE
    assert len(shown.split("\n")) == 1
    assert not _REFERENCES.search(shown[len(PREFIX) :])
    shown.encode()


@pytest.mark.parametrize(
    "subject",
    [
        "Ransom note on my laptop",
        "CVE-2024-3094 exploited, 3 hosts",
        "Ключ украден",
        "URGENT!!! 100 % lost at 12:30",
        "C# & co",
    ],
)
def test_an_ordinary_subject_is_the_title_as_it_stands(subject: str) -> None:
    assert title(subject) == f"[panic] {subject}"


def test_words_and_digits_of_a_hostile_title_can_still_be_searched() -> None:
    assert title("mail by ceo@evil.com, see #123") == "[panic] mail by ceo＠evil.com, see ＃123"


@pytest.mark.parametrize("subject", ["", " \t ", "\u202e\u200b", "\r\n"])
def test_a_title_without_a_subject_says_so(subject: str) -> None:
    assert title(subject) == "[panic] (no subject)"


# -- file names


@examples(200)
@given(texts)
def test_a_file_name_is_safe_in_an_address_and_in_a_link(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", file_name(name))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("invoice.pdf", "invoice.pdf"),
        ("../../etc/passwd", "passwd"),
        (r"C:\temp\évil (1).docx", "evil_1_.docx"),
        ("レポート.pdf", "pdf"),
        (".htaccess", "htaccess"),
        ("[x](y)\n/close.png", "close.png"),
        ("", "file"),
        ("a" * 200 + ".tar", "a" * 96 + ".tar"),
    ],
)
def test_a_file_name_keeps_its_ending(name: str, safe: str) -> None:
    assert file_name(name) == safe


# -- finding our own lines again


def test_a_marker_in_a_senders_words_is_none() -> None:
    ours = f"{block('`panicmail:abc`', 100)}\n\n`panicmail:def`"
    assert carries(ours, "panicmail:def")
    assert not carries(ours, "panicmail:abc")
    assert not carries(ours, "panicmail:de")


@examples(200)
@given(texts)
def test_the_lines_outside_blocks_are_ours_alone(text: str) -> None:
    encoded = f"first\n\n{block(text, 1000)}\n\nlast".replace("\n", "\r\n")
    assert [line for _, line in outside(encoded) if line] == ["first", "last"]
