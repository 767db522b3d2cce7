"""Octets to text, by the character set a sender claims.

Total and linear: every octet string becomes text whatever the label says. Codecs that are not character sets, that
take more than linear time on hostile input (punycode, idna) or that act on escapes are never asked. The second value
of `decode` says whether the text can be trusted to be what was written; False is for guesses and replacements.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

#: What senders write -> the codec that reads it. Supersets where the label is commonly a lie (WHATWG Encoding 4.2).
_ALIASES = {
    "ascii": "utf-8",
    "us-ascii": "utf-8",
    "ansi_x3.4-1968": "utf-8",
    "646": "utf-8",
    "utf8": "utf-8",
    "x-unknown": "utf-8",
    "unknown-8bit": "utf-8",
    "unknown": "utf-8",
    "8bit": "utf-8",
    "default": "utf-8",
    "utf-8-sig": "utf-8",
    "unicode-1-1-utf-7": "utf-7",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "x-euc-jp": "euc_jp",
    "iso-2022-jp": "iso2022_jp_ext",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "ksc5601": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "big5": "big5hkscs",
    "macintosh": "mac_roman",
    "x-mac-roman": "mac_roman",
    "x-mac-cyrillic": "mac_cyrillic",
}

#: Python codecs that are slow on hostile input or do something else than read a character set.
_REFUSED = frozenset(
    {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "unicode_internal", "mbcs", "oem"}
)


@lru_cache(maxsize=256)
def _codec(label: str) -> str | None:
    name = _ALIASES.get(label, label)
    if not re.fullmatch(r"[a-z0-9][a-z0-9._:+-]{0,39}", name):
        return None
    try:
        info = codecs.lookup(name)
        "".encode(info.name)  # codecs that do not make text of octets refuse here
    except (LookupError, ValueError):
        return None
    return None if info.name.replace("-", "_") in _REFUSED else info.name


#: UTF-8 with a few bad octets in it stays UTF-8 when so many characters of several octets are well formed for each.
_GOOD_FOR_A_BAD = 2
#: So much is looked at to guess, and from so many octets beyond ASCII on; of Latin letters they are fewer among others.
_GUESSED_FROM, _FEWEST, _OF_LETTERS = 4096, 8, 0.25
#: So many of the characters of a Japanese text are kana.
_KANA = 0.25


def _guess(data: bytes) -> str:
    """The text of octets whose character set nobody names."""
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if bad == 0 or sum(map("\x7f".__lt__, text[:100_000])) - bad >= _GOOD_FOR_A_BAD * bad:
        return text
    return data.decode(_likely(data[:_GUESSED_FROM]), "replace")


def _likely(data: bytes) -> str:
    """The codec a text most likely is in: Western unless most of its letters are beyond ASCII."""
    beyond = sum(octet > 0x7F for octet in data)
    letters = beyond + sum(octet < 0x7F and chr(octet).isalpha() for octet in data)
    if beyond < _FEWEST or beyond < _OF_LETTERS * letters:
        return "cp1252"
    for codec in ("cp932", "euc_jp"):  # of which a short text is easily taken for Korean, but for its kana
        text = data.decode(codec, "ignore")
        if sum("\u3040" <= character <= "\u30ff" for character in text) >= _KANA * len(text):
            return codec
    from charset_normalizer import from_bytes  # here alone, and seldom: it takes memory and a moment

    best = from_bytes(data, steps=3, chunk_size=512).best()
    return (_codec(best.encoding.replace("_", "-")) if best else None) or "cp1252"


def decode(data: bytes, label: str | None) -> tuple[str, bool]:
    """The text of `data`, and whether it is surely what was written.

    Args:
        label: The claimed character set, as found; None or "" when none is claimed: then UTF-8 is expected.
    """
    name = _codec((label or "utf-8").strip().strip("\"'").lower())
    if data.isascii() and not (name and name.startswith(("utf-16", "utf-32", "utf-7", "iso2022", "hz", "cp0", "cp5"))):
        return data.decode("ascii"), name is not None
    if name is None:
        return _guess(data), False
    if name.startswith(("utf-16", "utf-32")) and b"\0" not in data and data.isascii():
        return data.decode("ascii"), False
    try:
        text = data.decode(name)
        text.encode("utf-8")  # some codecs make lone surrogates, which nothing after us can carry
    except (UnicodeError, ValueError):
        return _recovered(data, name), False
    return text, "\ufffd" not in text


def _recovered(data: bytes, name: str) -> str:
    """Best effort where the claimed character set does not hold: UTF-8 if it is, else the claim with gaps."""
    if name.startswith("iso2022_jp"):
        return _extended_japanese(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if name == "utf-8":
        return _guess(data)
    text = data.decode(name, "replace")
    return text.encode("utf-8", "replace").decode("utf-8")


_SHIFT = re.compile(rb"(\x1b(?:\$[@B]|\$\([@BDOQ]|\([BJIH]))")


def _extended_japanese(data: bytes) -> str:
    """ISO-2022-JP as Windows writes it, with characters of its own rows: each run as code page 932 has it."""
    mode, out = b"", []
    for run in _SHIFT.split(data):
        if run.startswith(b"\x1b"):
            mode = run
        elif mode.startswith(b"\x1b$"):
            out.append(_double(run).decode("cp932", "replace"))
        else:
            out.append((bytes(o | 0x80 for o in run) if mode == b"\x1b(I" else run).decode("cp932", "replace"))
    return "".join(out)


def _double(run: bytes) -> bytes:
    """Octets of JIS X 0208, two a character, as Shift JIS has them."""
    out = bytearray()
    for high, low in zip(run[::2], run[1::2], strict=False):
        if not (0x21 <= high <= 0x7E and 0x21 <= low <= 0x7E):
            out += bytes((high, low))
            continue
        odd = high % 2
        out.append((high + 1) // 2 + (0x70 if high < 0x5F else 0xB0))
        out.append(low + (0x1F if low < 0x60 else 0x20) if odd else low + 0x7E)
    return bytes(out)
