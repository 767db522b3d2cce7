"""What lies in files that need a library of the extra `attachments`: winmail.dat, and QR codes in pictures.

Each library is imported here alone, when a mail has such a file, in the child that reads mails; without it the mail is
read without what it would give, and says so. Pictures and codes are bounded in number and size: a small file can hold a
picture of any size. Never raises.
"""

from __future__ import annotations

import io
import warnings
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
