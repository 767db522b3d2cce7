"""Our tree of a mail beside the standard library's: the same parts, fields, octets and defects, but for what is named.

The library is asked by its public interface (`email.message_from_bytes`, policy compat32). What we read otherwise on
purpose is in `OTHERWISE`, each with a mail and both readings. PANICMAIL_FUZZ multiplies the examples.
"""

from __future__ import annotations

import email
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from panicmail.mail.parse.mime_tree import Part, tree_of
from panicmail.mail.parse.normalize import canonical
from tests import hostile
from tests.examples import examples

MAILS = sorted(Path(__file__).parents[1].glob("mails/*.eml"))


@dataclass(frozen=True)
class Node:
    """What is compared of a part."""

    kind: str
    fields: tuple[tuple[str, str], ...]
    octets: bytes | None  #: None of a part that has parts
    defects: frozenset[str]
    parts: tuple[Node, ...] = ()


def node_of(part: Any) -> Node:
    kind, fields = part.get_content_type(), tuple(part.raw_items())
    defects = frozenset(type(each).__name__ for each in part.defects)
    if isinstance(part, Part):
        assert tuple(part.fields) == fields
    if part.is_multipart():
        return Node(kind, fields, None, defects, tuple(map(node_of, part.get_payload())))
    del part["content-transfer-encoding"]  # so that the payload comes as it stood
    return Node(kind, fields, part.get_payload(decode=True), defects)


def ours(octets: bytes) -> Node:
    return node_of(tree_of(octets))


def the_librarys(octets: bytes) -> Node:
    return node_of(email.message_from_bytes(octets))


# -- what is read otherwise, on purpose

_HEAD = b"Content-Type: multipart/mixed; boundary=b\n\n"
_LONG = b"b" * 300


def how_many(node: Node) -> int:
    return len(node.parts)


def text(node: Node) -> bytes | None:
    return node.octets


#: What it is -> a mail, what is asked of the tree, the library's answer and ours.
OTHERWISE: dict[str, tuple[bytes, Callable[[Node], Any], Any, Any]] = {
    "a boundary and the end behind it have no part between them, and the end is one": (
        _HEAD + b"--b\n\nx\n--b\n--b--\nepilogue\n",
        lambda node: (how_many(node), set(node.defects)),
        (2, {"CloseBoundaryNotFoundDefect"}),
        (1, set()),
    ),
    "the line end before a boundary is the boundary's behind a multipart without parts too": (
        _HEAD + b"--b\nContent-Type: multipart/mixed; boundary=c\n\ntext\n--b--\n",
        lambda node: text(node.parts[0]),
        b"text\n",
        b"text",
    ),
    "a multipart without parts keeps what stands behind its end": (
        _HEAD + b"text\n--b--\nmore\n",
        text,
        b"text\n",
        b"text\n--b--\nmore\n",
    ),
    "an envelope line that ends a header is text, with all that is behind it, and no empty line ended the header": (
        b"Subject: x\nFrom here on\n\ntext\n",
        lambda node: (text(node), set(node.defects)),
        (b"From here on\ntext\n", set()),
        (b"From here on\n\ntext\n", {"MissingHeaderBodySeparatorDefect"}),
    ),
    "a boundary longer than mailers write is none": (
        b"Content-Type: multipart/mixed; boundary=" + _LONG + b"\n\n--" + _LONG + b"\n\nx\n",
        how_many,
        1,
        0,
    ),
    "a boundary outside ASCII (RFC 2231) is found as UTF-8": (
        b"Content-Type: multipart/mixed; boundary*=utf-8''%C3%A4\n\n--\xc3\xa4\n\nx\n--\xc3\xa4--\n",
        how_many,
        0,
        1,
    ),
    "a field with very many parameters is cut": (
        b"Content-Type: text/plain" + b"; a=b" * 200 + b"\n\nx",
        lambda node: len(node.fields[0][1]) < 1000,
        False,
        True,
    ),
    "a CR alone ends no line; none is left by `canonical`": (
        b"Subject: x\rTo: y\n\ntext",
        lambda node: len(node.fields),
        2,
        1,
    ),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_what_is_read_otherwise_is_read_so_on_purpose(what: str) -> None:
    octets, asked, theirs, our_own = OTHERWISE[what]
    assert asked(the_librarys(octets)) == theirs
    assert asked(ours(octets)) == our_own


#: Of `OTHERWISE`, what a mail made below may meet: a boundary and the end on end; a header that an envelope line ends.
_EMPTY_AT_THE_END = re.compile(rb"^--(.*?)[ \t]*\r?\n--\1--[ \t]*\r?$", re.M)
_ENVELOPE_LAST = re.compile(rb"^From .*(?:\n(?!From |[!-9;-~]*:|[ \t])|\Z)", re.M)


def differences(theirs: Node, our_own: Node, where: str = "") -> list[str]:
    """What differs. Of a multipart without parts we may have more at the end, and a line end less."""
    found = [
        f"{where or 'mail'}: {name}: {left!r} is ours: {right!r}"
        for name in ("kind", "fields", "defects")
        if (left := getattr(theirs, name)) != (right := getattr(our_own, name))
    ]
    if theirs.kind.startswith("multipart/") and theirs.octets is not None and our_own.octets is not None:
        same = our_own.octets.startswith(theirs.octets.removesuffix(b"\n").removesuffix(b"\r"))
    else:
        same = theirs.octets == our_own.octets
    if not same:
        found.append(f"{where or 'mail'}: octets: {theirs.octets!r} is ours: {our_own.octets!r}")
    if len(theirs.parts) != len(our_own.parts):
        found.append(f"{where or 'mail'}: {len(theirs.parts)} parts are ours: {len(our_own.parts)}")
    for number, pair in enumerate(zip(theirs.parts, our_own.parts, strict=False)):
        found += differences(*pair, f"{where}.{number}")
    return found


# -- mails as they come


@pytest.mark.parametrize("file", MAILS, ids=lambda file: file.stem)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_mail_of_ours_is_the_tree_the_library_reads(file: Path, line_end: bytes) -> None:
    octets = canonical(file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", line_end)).octets
    assert ours(octets) == the_librarys(octets)


# -- mails as they should be

TYPES = [
    *("", "Content-Type: text/plain", "Content-Type: text/html; charset=utf-8"),
    *("Content-Type: image/png; name=x.png", "Content-Disposition: attachment; filename=x"),
]  # fmt: skip
FIELDS = [
    *("X: y", "X:", "X: \t", "X:y", "X:  two\n  folded", "x-Odd!#: \xe9", "Subject: =?utf-8?q?=C3=A4?="),
    *("Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: 8bit", "X: a\n\t\n b", "From: a@b.c"),
]  # fmt: skip
#: None of them is a boundary of a mail that is well made; most look like one.
LINES = [
    *("", "hello", "--", "-- ", "--x", "--part", "--part-", "----", ">From x", "Q\xe4\xff="),
    *("--bbb", "a: b", " c", ".", "x\x0cy", "x\x0b\x1c\x85y"),
]  # fmt: skip

fields = st.lists(st.sampled_from(FIELDS), max_size=3)
lines = st.lists(st.sampled_from(LINES), max_size=4)


@st.composite
def leaves(draw: st.DrawFn) -> list[str]:
    kind = draw(st.sampled_from(TYPES))
    return [*([kind] if kind else []), *draw(fields), "", *draw(lines)]


@st.composite
def multiparts(draw: st.DrawFn, inner: st.SearchStrategy[list[str]]) -> list[str]:
    """Its boundary is made of what is inside, so that it is not there."""
    parts = draw(st.lists(inner, min_size=1, max_size=3))
    boundary = f"part{sum(line.startswith('--part') for part in parts for line in part)}"
    while any(line.rstrip() in (f"--{boundary}", f"--{boundary}--") for part in parts for line in part):
        boundary += "x"
    subtype = draw(st.sampled_from(["mixed", "alternative", "digest", "report"]))
    preamble = draw(st.sampled_from([[], ["before"], ["", "--x"]]))
    epilogue = draw(st.sampled_from([[], [""], ["x", ""]]))
    written = draw(st.sampled_from([f'"{boundary}"', boundary, f'"{boundary}"; charset=x', f"{boundary} "]))
    white = draw(st.sampled_from(["", " ", "\t "]))
    body = [line for part in parts for line in (f"--{boundary}{white}", *part)]
    head = [f"Content-Type: multipart/{subtype}; boundary={written}", *draw(fields)]
    return [*head, "", *preamble, *body, f"--{boundary}--{white}", *epilogue]


@st.composite
def messages(draw: st.DrawFn, inner: st.SearchStrategy[list[str]]) -> list[str]:
    kind = draw(st.sampled_from(["rfc822", "rfc822", "global", "partial; id=x; number=1"]))
    return [f"Content-Type: message/{kind}", *draw(fields), "", *draw(inner)]


@st.composite
def delivery_reports(draw: st.DrawFn) -> list[str]:
    blocks = draw(st.lists(st.sampled_from([["Action: failed"], ["a: b", "c:", " d"], [], ["no field"]]), max_size=4))
    return ["Content-Type: message/delivery-status", "", *(line for block in blocks for line in (*block, ""))]


parts = st.recursive(
    leaves() | delivery_reports(), lambda inner: multiparts(inner) | multiparts(inner) | messages(inner), max_leaves=8
)


def octets_of(made: list[str], line_end: str = "\n") -> bytes:
    return "\n".join(made).replace("\n", line_end).encode("latin-1")


@examples(300)
@given(parts, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\n", "\n\n"]))
def test_a_mail_that_is_well_made_is_the_tree_the_library_reads(made: list[str], line_end: str, end: str) -> None:
    octets = octets_of([*made, *end.split("\n")[1:]], line_end)
    assert differences(the_librarys(octets), ours(octets)) == []


# -- mails as they should not be

_PART = b"--b\n\nx\n"
_RFC822 = b"Content-Type: message/rfc822\n\n"
ODD = {
    "no end": _HEAD + _PART + b"more\n",
    "no boundary": b"Content-Type: multipart/mixed\n\n" + _PART,
    "a boundary that is not there": _HEAD + b"text\n",
    "a boundary without a part behind it": _HEAD + _PART + b"--b\n",
    "a boundary that begins another": _HEAD
    + b"--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\nx\n--bb--\n--b--\n",
    "a boundary that looks like the end of another": _HEAD
    + b'--b\nContent-Type: multipart/mixed; boundary="b--"\n\n--b--\n\nx\n--b----\n--b--\n',
    "one boundary for two": _HEAD + b"--b\n" + _HEAD + _PART + b"--b--\n--b--\n",
    "the end of the outer one inside": _HEAD
    + b"--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nx\n--b--\n--c--\n",
    "a boundary folded inside its quotes": b'Content-Type: multipart/mixed; boundary="a\n b"\n\nx\n--a\n b\n\ny\n',
    "no words at all for a boundary": b'Content-Type: multipart/mixed; boundary=""\n\n--\n\nx\n----\n',
    "white space behind boundaries": _HEAD + b"--b \t\n\nx\n--b-- \nepilogue",
    "white space before a boundary": _HEAD + _PART + b" --b--\n",
    "line ends of both kinds": (_HEAD + _PART).replace(b"\n", b"\r\n") + _PART + b"y\r\n--b--\n",
    "preamble and epilogue": _HEAD + b"before\n" + _PART + b"--b--\nbehind\n--b\n\ny\n",
    "parts that are empty": _HEAD + b"--b\n\n--b\n--b\n\n\n--b\nX: y\n--b--",
    "a line of a header without a colon": b"Subject: x\nno field\nTo: y\n\ntext\n",
    "a field without a name": b"Subject: x\n: y\n more\nTo: z\n\ntext\n",
    "a header that begins with a continuation": b" x\n\ty\nTo: z\n\ntext\n",
    "an envelope line before the header": b"From a@b Mon\nTo: z\n\ntext\n",
    "nothing but an envelope line": b"From a@b Mon\n\ntext\n",
    "an envelope line inside the header": b"Subject: x\nFrom a@b Mon\nTo: z\n\ntext\n",
    "a boundary instead of the rest of a header": _HEAD + b"--b\nX: y\n--b--\n",
    "a field that is a boundary": b'Content-Type: multipart/mixed; boundary="b:"\n\n--b:\nX: y\n--b:\n\nx\n--b:--\n',
    "a digest": _HEAD.replace(b"mixed", b"digest")
    + b"--b\n\nSubject: x\n\ny\n--b\nContent-Type: text/plain\n\nz\n--b--\n",
    "a mail in a mail in a mail": _RFC822 + _RFC822 + _HEAD + _PART + b"--b--\n",
    "a mail in a part": _HEAD + b"--b\n" + _RFC822 + b"Subject: x\n\ny\n\n--b--\n",
    "a mail without anything": _RFC822,
    "groups of fields, and empty lines between": b"Content-Type: message/delivery-status\n\na: b\n\n\nc: d\ne\nf\n\n",
    "a multipart that is encoded": b"Content-Transfer-Encoding: base64\n" + _HEAD + _PART + b"--b--\n",
    "nothing": b"",
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_mail_with_a_fault_is_the_tree_the_library_reads(what: str, line_end: bytes) -> None:
    octets = ODD[what] if b"\r" in ODD[what] else ODD[what].replace(b"\n", line_end)
    assert ours(octets) == the_librarys(octets)


#: Boundaries that are the beginning of another, that a mail may have twice, and that look like their own end.
BOUNDARIES = ["b", "bb", "c", "b b", "b--", ""]
ODD_LINES = [
    *(f"--{boundary}{end}{white}" for boundary in BOUNDARIES for end in ("", "--") for white in ("", " \t")),
    *(f'Content-Type: multipart/{kind}; boundary="{each}"' for each in BOUNDARIES for kind in ("mixed", "digest")),
    *("Content-Type: multipart/mixed", "Content-Type: message/rfc822", "Content-Type: message/delivery-status"),
    *("Content-Type: text", "Content-Type: \xe9", "Content-Transfer-Encoding: base64", "no field", "no field: x"),
    *(": nameless", " more", "\tmore", "", "", "", "X: y", "X : y", "From a@b", "From: a@b"),
]  # fmt: skip
mutations = st.lists(
    st.tuples(
        st.sampled_from(["insert", "insert", "delete", "repeat", "cut", "other line end", "white space", "join"]),
        st.integers(0, 200),
        st.sampled_from(ODD_LINES),
    ),
    max_size=6,
)


def mutated(made: list[str], changes: list[tuple[str, int, str]], line_end: str) -> bytes:
    rows = [[line, line_end] for line in "\n".join(made).split("\n")]
    for how, where, odd in changes:
        at = where % (len(rows) + 1)
        if how == "insert":
            rows.insert(at, [odd, line_end])
        elif at < len(rows):
            match how:
                case "delete":
                    del rows[at]
                case "repeat":
                    rows.insert(at, list(rows[at]))
                case "cut":
                    del rows[max(1, at) :]
                case "other line end":
                    rows[at][1] = "\n" if line_end == "\r\n" else "\r\n"
                case "white space":
                    rows[at][0] += " "
                case "join":
                    rows[at][1] = ""
    return "".join(line + end for line, end in rows).encode("latin-1")


def compare(octets: bytes) -> None:
    assume(not _EMPTY_AT_THE_END.search(octets) and not _ENVELOPE_LAST.search(octets))
    assert differences(the_librarys(octets), ours(octets)) == []


#: A mail of lines that mean something, in any order.
of_lines = st.lists(st.sampled_from([*ODD_LINES, *LINES]), max_size=25)


@examples(500)
@given(parts, mutations, st.sampled_from(["\n", "\r\n"]))
def test_a_mail_that_was_well_made_is_the_tree_the_library_reads(
    made: list[str], changes: list[tuple[str, int, str]], line_end: str
) -> None:
    compare(mutated(made, changes, line_end))


@examples(500)
@given(of_lines, mutations, st.sampled_from(["\n", "\r\n"]))
def test_lines_in_any_order_are_the_tree_the_library_reads(
    made: list[str], changes: list[tuple[str, int, str]], line_end: str
) -> None:
    compare(mutated(['Content-Type: multipart/mixed; boundary="b"', *made], changes, line_end))


# -- what it takes


@pytest.mark.parametrize(
    "raw",
    [
        hostile.made("a multipart", b"QUJD" * 19 + b"\r\n", 5_000_000),
        hostile.made("text", b"\r\n", 5_000_000),
        hostile.nested(29, b"hello " * 800_000),
        hostile.forwarded(29, b"X: " + b"a " * 2_000_000 + b"\r\n\r\nx"),
    ],
    ids=["lines", "empty lines", "nested", "a field"],
)
def test_a_tree_takes_the_memory_of_its_mail_and_a_little_beside(raw: bytes) -> None:
    tracemalloc.start()
    try:
        tree_of(raw)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 3.5 * len(raw) + 1_000_000
