"""What a part says once what carried it is taken off: base64, format=flowed, a signature's armour. Total and linear."""

from __future__ import annotations

import base64
import re

_FOREIGN = re.compile(rb"[^A-Za-z0-9+/=]+")
_PADDING = re.compile(rb"=+")
_WHOLE_LINE = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})")
_SIGNED = re.compile(
    r"^-----BEGIN PGP SIGNED MESSAGE-----[ \t]*\n(?:[A-Za-z-]{1,40}: [^\n]{0,200}\n){0,9}[ \t]*\n", re.M
)
_SIGNATURE = re.compile(r"^-----BEGIN PGP SIGNATURE-----[ \t]*$", re.M)
_SIGNATURE_ENDS = re.compile(r"^-----END PGP SIGNATURE-----[ \t]*\n?", re.M)
#: A plain text that says less than half of what the HTML beside it says, and by so many words, stands for nothing.
_FEWER_WORDS = 8
_LINK = re.compile(r"\S{0,40}://\S{1,2000}")


def unbased(data: bytes) -> bytes:
    """Base64 as other readers take it: foreign octets are skipped, pieces padded apart are put together, and of a
    length that cannot be all that can be is decoded. Below the first padding only whole lines of it are more of it."""
    padding = _PADDING.search(data)
    if padding is None:
        return _decoded(_FOREIGN.sub(b"", data))
    rest = [line for line in map(bytes.strip, data[padding.end() :].split(b"\n")) if _WHOLE_LINE.fullmatch(line)]
    pieces = _PADDING.split(b"".join(rest))
    return b"".join(map(_decoded, (_FOREIGN.sub(b"", data[: padding.start()]), *pieces)))


def goes_on_below_padding(coded: str) -> bool:
    """Whether something stands below the first padding, where a library stops. Not a copy of it is made."""
    at = coded.find("=")
    return at >= 0 and bool(coded[at : at + 4096].strip("= \t\r\n"))


def _decoded(piece: bytes) -> bytes:
    whole = piece[: len(piece) - 1] if len(piece) % 4 == 1 else piece
    return base64.b64decode(whole + b"=" * (-len(whole) % 4))


def unflowed(text: str, *, delsp: bool = False) -> str:
    """RFC 3676: lines that end in a space go on in the next of the same depth of quotation; a signature's line never.

    Args:
        delsp: The space is no part of the text (4.2), as where words are not divided by any.
    """
    out: list[tuple[int, list[str]]] = []
    flows = False
    for line in text.split("\n"):
        said = line.lstrip(">")
        depth = len(line) - len(said)
        said = said[1:] if said.startswith(" ") else said
        is_signature = said == "-- "
        if flows and not is_signature and out[-1][0] == depth:
            out[-1][1].append(said)
        else:
            out.append((depth, [said]))
        flows = said.endswith(" ") and not is_signature
        if flows and delsp:
            out[-1][1][-1] = said[:-1]
    return "\n".join(f"{'>' * depth}{' ' if depth else ''}{''.join(pieces)}".rstrip("\r") for depth, pieces in out)


def without_armour(text: str) -> tuple[str, bool]:
    """A text without the armour of an inline OpenPGP signature (RFC 9580 7), and whether there was one."""
    begin = _SIGNED.search(text)
    if begin is None:
        return text, False
    signature = _SIGNATURE.search(text, begin.end())
    if signature is None:
        return text[: begin.start()] + text[begin.end() :], True
    signed = re.sub(r"^- ", "", text[begin.end() : signature.start()], flags=re.M)
    end = _SIGNATURE_ENDS.search(text, signature.end())
    return text[: begin.start()] + signed + (text[end.end() :] if end else ""), True


def says_more(html: str, plain: str) -> bool:
    """Whether an HTML form says so much more than the plain form beside it that the plain one stands for nothing."""
    more, less = (len(_LINK.sub(" ", text).split()) for text in (html, plain))
    return more >= 2 * less + _FEWER_WORDS
