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


def _guess(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


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
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if name == "utf-8":
        return _guess(data)
    text = data.decode(name, "replace")
    return text.encode("utf-8", "replace").decode("utf-8")
