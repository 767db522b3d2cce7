"""What a part says once what carried it is taken off: base64, format=flowed, a signature's armour. Total and linear."""

from __future__ import annotations

import binascii
import io
import re

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_FOREIGN = bytes(set(range(256)) - set(_ALPHABET))
_LINE_ENDS = b"\r\n"
#: So many characters are decoded at once: of a large file there is one copy, decoded, and no other.
_PIECE = 256 * 1024
_WHOLE_LINE = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})")
_SIGNED = re.compile(
    r"^-----BEGIN PGP SIGNED MESSAGE-----[ \t]*\n(?:[A-Za-z-]{1,40}: [^\n]{0,200}\n){0,9}[ \t]*\n", re.M
)
_SIGNATURE = re.compile(r"^-----BEGIN PGP SIGNATURE-----[ \t]*$", re.M)
_SIGNATURE_ENDS = re.compile(r"^-----END PGP SIGNATURE-----[ \t]*\n?", re.M)
#: A plain text that says less than half of what the HTML beside it says, and by so many words, stands for nothing.
_FEWER_WORDS = 8
_LINK = re.compile(r"\S{0,40}://\S{1,2000}")


def unbased(coded: str) -> tuple[bytes, str]:
    """Base64 as other readers take it, and what is odd about it; "" where nothing is.

    Foreign characters are skipped, pieces padded apart are put together, and of a length that cannot be all that can be
    is decoded. Below the first padding only whole lines of it are more of it.
    """
    padding = coded.find("=")
    decoder = _Base64()
    decoder.take(coded, padding if padding >= 0 else len(coded))
    if padding >= 0:
        decoder.end(coded[padding : padding + 2].count("="))
        below = re.search(r"[^=\s]", coded[padding : padding + 4096])
        for line in coded[padding:].lstrip("=").split("\n") if below else ():
            if _WHOLE_LINE.fullmatch(line.strip()):
                for piece in filter(None, line.strip().split("=")):
                    decoder.take(piece, len(piece))
                    decoder.end(line.count("="))
    else:
        decoder.end(0)
    return decoder.decoded.getvalue(), decoder.odd


class _Base64:
    """Decodes piece by piece."""

    def __init__(self) -> None:
        self.decoded = io.BytesIO()
        self.odd = ""
        self._left = b""  #: less than four characters that were not decoded yet

    def take(self, coded: str, end: int) -> None:
        for at in range(0, end, _PIECE):
            octets = coded[at : min(at + _PIECE, end)].encode("utf-8", "surrogateescape")
            kept = octets.translate(None, _FOREIGN)
            if len(kept) != len(octets.translate(None, _LINE_ENDS)):
                self.odd = "base64 with foreign characters"
            kept = self._left + kept
            whole = len(kept) - len(kept) % 4
            self.decoded.write(binascii.a2b_base64(kept[:whole]))
            self._left = kept[whole:]

    def end(self, padding: int) -> None:
        """What is left is the end of a piece, with so many signs of padding behind it."""
        if len(self._left) == 1:
            self.odd = "base64 of impossible length"
        elif self._left:
            self.odd = self.odd or ("" if len(self._left) + padding >= 4 else "base64 without its end")
            self.decoded.write(binascii.a2b_base64(self._left + b"=" * (4 - len(self._left))))
        self._left = b""


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
