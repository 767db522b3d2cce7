"""What lies in files that need a library of the extra `attachments`: winmail.dat, and QR codes in pictures.

Each library is imported here alone, when a mail has such a file, in the child that reads mails; without it the mail is
read without what it would give, and says so. Pictures and codes are bounded in number and size: a small file can hold a
picture of any size. Never raises.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

#: Pictures of one mail that are looked at, octets of one, pixels of one, codes of one.
PICTURES, _OCTETS, _PIXELS, _CODES = 8, 4 * 1024 * 1024, 6_000_000, 10
#: Files of one winmail.dat.
_FILES = 50


@dataclass(frozen=True, slots=True)
class WinmailDat:
    """What Outlook wrapped in its own form."""

    text: str
    html: str
    files: tuple[tuple[str, bytes], ...]  #: name and content


def winmail(data: bytes) -> WinmailDat | str:
    """Its contents, or why they could not be read."""
    try:
        from tnefparse import TNEF  # type: ignore[import-untyped]
    except ImportError:
        return "winmail.dat was not opened: the extra `attachments` is not installed"
    try:
        opened = TNEF(data, do_checksum=False)
        body, html = opened.body or "", opened.htmlbody or ""
        files = tuple((each.long_filename() or "", bytes(each.data or b"")) for each in opened.attachments[:_FILES])
    except Exception as error:  # it raises whatever its unpacking raises on hostile octets
        return f"winmail.dat could not be opened: {type(error).__name__}"
    return WinmailDat(text=_text(body), html=_text(html), files=files)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def qr_codes(data: bytes) -> tuple[tuple[str, ...], str]:
    """What the QR codes of a picture say, and why it was not looked at; "" when it was."""
    if len(data) > _OCTETS:
        return (), "a picture too large to look for QR codes in"
    try:
        import zxingcpp
        from PIL import Image
    except ImportError:
        return (), "pictures were not looked through for QR codes: the extra `attachments` is not installed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "BMP", "WEBP")) as picture:
                if picture.width * picture.height > _PIXELS:
                    return (), "a picture of too many pixels to look for QR codes in"
                found = zxingcpp.read_barcodes(
                    picture.convert("L"), formats=zxingcpp.barcode_formats_from_str("QRCode")
                )
    except Exception:  # not a picture after all, or one that its reader trips over
        return (), ""
    return tuple(each.text[:2000] for each in found[:_CODES] if each.text), ""


# -- The content of an opaque S/MIME signature (RFC 8551 3.5.2), by the few elements of CMS that stand around it.
#
# Nothing is verified here: what a signature proves is asked elsewhere, of the octets as they came. BER with
# indefinite lengths and strings in pieces is read, as mail programs write it. Total; time grows with the octets,
# depth is bounded.

_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_SEQUENCE, _FIRST, _STRING, _PIECES = 0x30, 0xA0, 0x04, 0x24
_DEEPEST = 12
#: A tag, where its content begins and ends, and where the next element begins.
_Element = tuple[int, int, int, int]


def signed_content(data: bytes) -> bytes | None:
    """The signed octets, a MIME entity; None where this is no signature that holds them."""
    try:
        outer = list(_inside(data, _element(data, 0, 0)))
        if data[: outer[0][2]][-len(_SIGNED_DATA) :] != _SIGNED_DATA or outer[1][0] != _FIRST:
            return None
        signed = next(_inside(data, outer[1]))
        encapsulated = next(each for each in _inside(data, signed) if each[0] == _SEQUENCE)
        content = list(_inside(data, encapsulated))[1]
        return _string(data, next(_inside(data, content)))
    except (IndexError, StopIteration, ValueError):
        return None


def _string(data: bytes, element: _Element) -> bytes | None:
    tag, begin, end, _ = element
    if tag == _STRING:
        return data[begin:end]
    if tag != _PIECES:
        return None
    return b"".join(data[b:e] for t, b, e, _ in _inside(data, element) if t == _STRING)


def _inside(data: bytes, element: _Element) -> Iterator[_Element]:
    _, at, end, _ = element
    while at < end:
        found = _element(data, at, 0)
        yield found
        at = found[3]


def _element(data: bytes, at: int, depth: int) -> _Element:
    """The element that begins at `at`.

    Raises:
        IndexError, ValueError: There is none.
    """
    tag, length = data[at], data[at + 1]
    begin = at + 2
    if tag & 0x1F == 0x1F or depth > _DEEPEST:
        raise ValueError("an element of a kind that does not occur here")
    if length == 0x80:
        inner = begin
        while data[inner : inner + 2] != b"\0\0":
            inner = _element(data, inner, depth + 1)[3]
        return tag, begin, inner, inner + 2
    if length > 0x80:
        size = length - 0x80
        if size > 4:
            raise ValueError("longer than anything here")
        length = int.from_bytes(data[begin : begin + size], "big")
        begin += size
    if begin + length > len(data):
        raise ValueError("cut off")
    return tag, begin, begin + length, begin + length
