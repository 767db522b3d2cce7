"""Tokens of ours in what somebody wrote: found in whatever shape mail brings them, and cut out of what is shown.

A token (`reply_tokens`) in an address, a link or a Message-ID may act for whoever reads it. So what a stranger wrote
passes `redacted` before it is shown to anybody: in pages, pushes, news, the issue, its notes, the page behind a link.
The raw mail is kept as it came.

A token is known by its form alone, so this needs no key. Programs change how it is written: they wrap it over lines
with quote marks, put signs into it that do not show, write its hyphens as `%2D`, `&#45;`, `=2D`, `-2D` (a rewritten
link) or as a dash. Everything is bounded, so a search is linear, and it is made in pieces: a long one would hold up the
whole process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

#: What stands in place of a token.
REMOVED = "(removed)"

#: What may stand between two signs of one: the end of a line and what begins the next, or signs that do not show.
_GAP = r"(?:=?\r?\n[ \t>|]{0,12}|[ \t]{1,4}=?\r?\n[ \t>|]{0,12}|[\u00ad\u200b-\u200f\u2060\ufeff]){0,2}"
_ENCODED = r"%(?:25){0,3}2d|=2d|&#0{0,4}45;|&#x0{0,4}2d;|&(?:hyphen|dash);|\\-|[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]"
_PLAIN, _REWRITTEN = f"(?:{_ENCODED}|-)", "-2d"


def _form(hyphen: str) -> str:
    """The pattern of a token whose hyphens are written so."""
    base, digit = "[a-z2-7]", "[0-9]"
    dash = f"{_GAP}{hyphen}{_GAP}"
    return (
        rf"([abcdlmt]){_GAP}([a-z0-9]){dash}({base}(?:{_GAP}{base}){{7,25}}){dash}"
        rf"({digit}(?:{_GAP}{digit}){{0,5}}){dash}({base}(?:{_GAP}{base}){{15}})"
    )


_FORMS = tuple(re.compile(each, re.I) for each in (_form(_PLAIN), _form(_REWRITTEN)))
_ANY = re.compile(_form(f"(?:{_REWRITTEN}|{_PLAIN})"), re.I)
_NO_SIGN = re.compile(r"[^a-z0-9]")
#: A text is searched in pieces of so many characters, each with what the longest token beyond its end may take.
_PIECE, _LONGEST = 16 * 1024, 2048


def redacted(text: str) -> str:
    """`text` without anything that has the form of a token of ours."""
    kept, end = [], 0
    for found in _all(_ANY, text):
        kept += [text[end : found.start()], REMOVED]
        end = found.end()
    return "".join([*kept, text[end:]])


def looks_carried(text: str) -> bool:
    """Whether anything in `text` has the form of a token: an address, a link or a Message-ID of ours."""
    return next(_all(_ANY, text), None) is not None


def carried(text: str) -> list[str]:
    """Whatever in `text` has the form of a token, each once and as panicmail writes it; unverified."""
    found = (match for form in _FORMS for match in _all(form, text))
    return list(dict.fromkeys(_spelt(*match.groups()) for match in found))


def _all(form: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    at = 0
    while at < len(text):
        found = form.search(text, at, at + _PIECE + _LONGEST)
        if found is not None:
            yield found
        at = found.end() if found is not None else at + _PIECE


def _spelt(purpose: str, kid: str, about: str, number: str, tag: str) -> str:
    about, number, tag = (_NO_SIGN.sub("", each.lower()) for each in (about, number, tag))
    return f"{purpose}{kid}-{about}-{number}-{tag}".lower()
