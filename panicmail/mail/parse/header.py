"""Header field values: octets to text, to one mailbox, to message ids.

Everything here is total and linear in its input. Encoded words (RFC 2047) are read leniently, since senders write
them leniently: spaces in a "Q" word, a character split over two words, missing padding. `mailbox` on the contrary is
strict, because who may acknowledge hangs on it.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable, Iterator

from panicmail.mail.parse.mime_tree import decode

#: The longest line of text we keep from a header field, in characters; the rest is cut and said.
LINE = 4096

_WORD = re.compile(rb"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\n]*)\?=")
#: Characters that steer the display of others or show nothing: bidi controls, zero widths, tags.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def one_line(text: str, limit: int = LINE, *, composed: bool = True) -> str:
    """`text` on one line: control characters become spaces, bidi and invisible characters go, spaces are single.

    Args:
        composed: In normal form C; the names of files are left in theirs, by which they are found.
    """
    shown = _SURROGATE.sub("\ufffd", _UNSEEN.sub("", _CONTROL.sub(" ", text[: 4 * limit])))
    shown = " ".join((unicodedata.normalize("NFC", shown) if composed else shown).split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def words(value: bytes) -> tuple[str, bool]:
    """A field value with its encoded words read, and whether that went without a guess."""
    text: list[str] = []
    sure = True
    for data, charset in _runs(value):
        piece, well = decode(data, charset)
        text.append(piece)
        sure = sure and well
    return "".join(text), sure


def line(value: bytes) -> tuple[str, bool]:
    """`words`, on one line. What cannot be in its `LINE` characters is not read."""
    text, sure = words(value[: 16 * LINE])
    return one_line(text), sure


def _runs(value: bytes) -> Iterator[tuple[bytes, str | None]]:
    """Octets by character set. Neighbouring encoded words of one set are joined: some senders split characters."""
    at, charset = 0, ""
    pieces: list[bytes] = []
    for match in _WORD.finditer(value):
        between = value[at : match.start()]
        label = match[1].split(b"*")[0].decode("ascii", "replace").lower()
        if pieces and (between.strip() or label != charset):
            yield b"".join(pieces), charset
            pieces = []
        if between.strip() or at == 0:
            yield between, None
        charset = label
        pieces.append(_unquoted(match[3]) if match[2] in b"qQ" else _unbased(match[3]))
        at = match.end()
    if pieces:
        yield b"".join(pieces), charset
    if at < len(value):
        yield value[at:], None


def _unquoted(data: bytes) -> bytes:
    return binascii.a2b_qp(data, header=True)


def _unbased(data: bytes) -> bytes:
    clean = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
    clean = clean[: len(clean) - 1] if len(clean) % 4 == 1 else clean
    return base64.b64decode(clean + b"=" * (-len(clean) % 4))


_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_SPEC = rf"{_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_BARE = re.compile(rf"({_SPEC})(?: *\(([^()\\]*)\))?")
_NAMED = re.compile(rf"(?:\"((?:[^\"\\]|\\.)*)\"|([^\"(),:;<>@\[\\\]]*+)) *< *({_SPEC}) *>")
_LOOSE = re.compile(r"[^\s<>()\[\],;:\"@]{1,64}@[^\s<>()\[\],;:\"@]{1,253}")
_ANGLED = re.compile(rf"< ?({_LOOSE.pattern}) ?>")


def mailbox(value: bytes) -> tuple[str, str] | None:
    """The display name and the lower-case address of a field that holds exactly one plain mailbox; else None.

    Plain: an ASCII addr-spec of atoms, bare or in angle brackets after a name. No second mailbox, group, route,
    quoted local part, encoded word in the address, domain literal, or comment but one after a bare address.
    """
    text = re.sub(r"[ \t]+", " ", value.decode("utf-8", "replace")).strip()
    if len(text) > LINE or _CONTROL.search(text):
        return None
    if match := _NAMED.fullmatch(text):
        name = re.sub(r"\\(.)", r"\1", match[1]) if match[1] is not None else match[2]
        address = match[3]
    elif match := _BARE.fullmatch(text):
        name, address = match[2] or "", match[1]
    elif found := _spelled(text):
        name, address = found
    else:
        return None
    shown = line(name.encode("utf-8"))[0]
    if (
        "=?" in address
        or len(address) > 254
        or {each.lower() for each in _AN_ADDRESS.findall(shown)} - {address.lower()}
    ):
        return None
    return shown, address.lower()


#: One address in angle brackets at the end, whatever stands before it, and perhaps a comment behind it.
_SPELLED = re.compile(rf"([^<>]*+)< *({_SPEC}) *>(?: *\([^()\\]*\))?")
_AN_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"']{1,64}[@\uff20][^\s<>()\[\],;:\"']{1,253}")


def _spelled(text: str) -> tuple[str, str] | None:
    """A name that is not written by the book, and the one address behind it: "Reyes, Ana (IT) <a@b>".

    Every reader finds that address. Not so where the name holds another, or what begins a group or a route.
    """
    found = _SPELLED.fullmatch(text)
    if found is None:
        return None
    name = line(found[1].encode("utf-8"))[0]
    if {":", ";", "@", "\\"} & set(_AN_ADDRESS.sub("", name)) or name.count('"') % 2:
        return None
    return name.replace('"', "").strip(), found[2]


def loose_address(text: str) -> str:
    """The address somebody most likely meant by this field, for people to read; "" without one."""
    found = _ANGLED.search(text)
    if found:
        return found[1].lower()
    found = _LOOSE.search(text)
    return found[0].lower() if found else ""


def message_ids(values: Iterable[bytes], limit: int = 50) -> tuple[str, ...]:
    """The message ids in these fields, each once, in order; of too many the last `limit`.

    One with control characters, or too long to stand on a line, is none: cut or mended it might be another mail's.
    """
    seen: dict[str, None] = {}
    for value in values:
        for found in re.findall(rb"<[^<>\x00-\x20\x7f]{1,900}>", value):
            seen.setdefault(one_line(found.decode("utf-8", "replace"), 998))
    return tuple(seen)[-limit:]
