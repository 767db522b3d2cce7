"""What strangers wrote, made harmless to show: in quoted lines, in a subject, as a name, as a telephone number.

Promises: one line stays one line; nothing invisible, no control or direction character, no lone surrogate; nothing
that a mail program would turn into a link; no token of ours (`redact`); no line that is not marked `| `, however
long it was; cut to a length and the cut is said. Everything is total and linear in its input, and trusts no reader to
have cleaned before.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata

from panicmail.incident.classify import Attachment
from panicmail.incident.defang import defanged
from panicmail.incident.redact import redacted

#: What every line of a stranger's begins with.
MARK = "| "
#: The most of a report that a page carries; the rest is on the issue.
REPORT_OCTETS, REPORT_LINES = 4096, 150
CUT = "… (cut; all of it is on the issue)"
_WIDTH = 72
#: Letters and marks that show nothing: the Hangul fillers, the empty Braille cell, the grapheme joiner.
_BLANK = "\u115f\u1160\u3164\uffa0\u2800\u034f"
_ATTACHMENTS_SHOWN = 10

_FORWARDED = re.compile(r"^(?:(?:fwd?|wg|tr|rv|re|aw|antw|sv|vs)\s*:|[\[(](?:ext|external)[\])])\s*", re.I)
_BRACKETS = {ord(left): "(" for left in "[［【〔⟦⁅{"} | {ord(right): ")" for right in "]］】〕⟧⁆}"}
_STATE_WORDS = re.compile(
    r"(?:DRILL|STILL OPEN|YOURS NOW|STILL YOURS|HANDED TO|OPEN AGAIN|NOT STOPPED|CLOCK|\w+ SILENT)\b", re.I
)


def one_line(text: str, limit: int) -> str:
    """`text` as one line of at most `limit` characters that shows everything it holds."""
    # Four times the limit is enough to fill it and bounds the work on a hostile megabyte.
    text = redacted(text[: 8 * limit + 1000])[: 4 * limit + 100]
    shown = "".join(_visible(c) for c in unicodedata.normalize("NFC", text))
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else f"{shown[: limit - 1].rstrip()}…"


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp") or character in _BLANK:
        return " "
    if category in ("Cs", "Co", "Cn"):
        return "\N{REPLACEMENT CHARACTER}"
    return "" if category == "Cf" else character


def words(text: str, limit: int) -> str:
    """A few words of a stranger's, fit to stand on one line."""
    return defanged(one_line(text, limit))


def marked(text: str) -> str:
    """One line of a stranger's words, marked."""
    return MARK + words(text, 300)


def report_lines(text: str, octets: int = REPORT_OCTETS) -> list[str]:
    """A stranger's text as marked lines, at most `octets` of it."""
    # The limit in characters comes first, so that splitting and encoding never see a hostile megabyte.
    text = redacted(text[: 4 * octets]) + text[4 * octets :]  # before it is split: a token may go over lines
    kept = text[:octets].encode("utf-8", "replace")[:octets].decode("utf-8", "ignore")
    lines: list[str] = []
    for line in kept.strip().splitlines():
        lines += _wrapped(words(line, octets)) or ([""] if lines and lines[-1] else [])
    cut = len(kept) < len(text.rstrip()) or len(lines) > REPORT_LINES
    return [(MARK + line).rstrip() for line in lines[:REPORT_LINES] + [CUT] * cut]


def _wrapped(line: str) -> list[str]:
    # A program that wraps a long line shows its rest without the mark, like a line of ours; so we wrap before it.
    return textwrap.wrap(line, _WIDTH, break_on_hyphens=False)


def attachment_lines(attachments: tuple[Attachment, ...]) -> list[str]:
    """Name and size of each attachment as marked lines; of too many the first ones and how many more."""
    lines = [MARK + f"{words(a.name, 100) or '(no name)'}, {size(a.size)}" for a in attachments[:_ATTACHMENTS_SHOWN]]
    more = len(attachments) - _ATTACHMENTS_SHOWN
    return [*lines, MARK + f"… and {more} more"] if more > 0 else lines


def size(octets: int) -> str:
    for unit, scale in (("MB", 1_000_000), ("KB", 1_000)):
        if octets >= scale:
            return f"{octets / scale:.1f}".removesuffix(".0") + f" {unit}"
    return f"{octets} bytes"


def subject(text: str, instead: str, limit: int) -> str:
    """A report's subject, fit to follow ours: no forwarding marks, no brackets, none of our state words.

    Where nothing is left of it, the first words of `instead`, the report's text.
    """
    for candidate, most in ((text, limit), (instead, min(limit, 60))):
        if shown := _bare_subject(candidate, most):
            return shown
    return "(no subject)"


def _bare_subject(text: str, limit: int) -> str:
    shown = defanged(one_line(text, 500))
    # Where brackets were broken, ours are the only ones in the line: [PANIC X] cannot be imitated.
    shown = shown.translate(_BRACKETS)
    for _ in range(10):
        stripped = _FORWARDED.sub("", shown)
        if stripped == shown:
            break
        shown = stripped
    if _STATE_WORDS.match(shown):
        shown = f"“{shown}”"
    return one_line(shown, limit)


def name(text: str) -> str:
    """A display name: at most 60 letters, digits and what names hold, so that it cannot end and say more of us."""
    plain = "".join(c if c.isalnum() or unicodedata.category(c) == "Mn" or c in " .'’-&" else " " for c in text[:300])
    return words(plain, 60).strip(" .")


def address(text: str) -> str:
    """A mail address as somebody gave it; only characters that cannot end it."""
    return re.sub(r"[\s<>\"(),:;|]", "", one_line(text, 254))


def phone(text: str) -> str:
    """A telephone number as somebody gave it: digits, plus signs and blanks only."""
    return one_line(re.sub(r"[^0-9+ ]", " ", text[:60]), 30)


def message_id(text: str | None) -> str | None:
    """`text` if it can stand in a header field as one message id; else None.

    That is RFC 5322 3.6.4 as far as octets go, what mail programs write without an @ included. An encoded word has no
    place in an id (RFC 2047 5), and whoever reads it as one finds any octets in it.
    """
    good = text and re.fullmatch(r"<[!-;=?-~]{1,500}>", text) and "=?" not in text
    return text if good else None
