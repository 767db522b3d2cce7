"""A mail as a tree of parts: a reader of our own, whose cost is linear in the octets.

The standard library's parser tries the boundary of every open multipart on every line, has no limits, and does not
say where a part stood. Here a multipart is cut at its boundary from the outside in, so that a line which two
multiparts could claim is the outer one's (RFC 2046 5.1.2), and a part is a range of octets before it is anything else.
Limits are looked at while it reads, not after. What comes of it is the library's own `Message`, which knows parameters
and transfer encodings; `tests/unit/test_mime_tree.py` compares the two and names each difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import errors
from email.message import Message
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    _Message = Message[str, str]
else:
    _Message = Message

import binascii
import codecs
import io
from functools import lru_cache

#: Limits beyond which a mail is not parsed; a normal mail has a hundredth of each.
PARTS, DEPTH, FIELDS = 200, 30, 1000
#: So many lines are looked at for boundaries, a line once for every multipart around it.
_LINES = 2_000_000
#: Content-Type and Content-Disposition are cut at so many octets and so many semicolons: the library works through the
#: rest of the field at each of them, and does it again for every parameter it is asked for.
PARAMETERS, _SEMICOLONS = 4096, 100
_WITH_PARAMETERS = ("content-type", "content-disposition")
#: A longer boundary is none: RFC 2046 5.1.1 allows 70 octets.
_BOUNDARY = 250

#: How a line of a header begins.
_BEGINNING = re.compile(rb"(?P<field>[!-9;-~]++:)|(?P<nameless>:)|(?P<continuation>[ \t])|(?P<envelope>From )")
_FIELD_END = re.compile(rb"\n(?![ \t])")
_EMPTY_LINE = re.compile(rb"\n(\r?\n)")
_AFTER_BOUNDARY = re.compile(rb"(--)?[ \t]*+\r?(?:\n|\Z)")
_ODD = {
    "nameless": errors.InvalidHeaderDefect,
    "continuation": errors.FirstHeaderLineIsContinuationDefect,
    "envelope": errors.MisplacedEnvelopeHeaderDefect,
}


class TooMuch(Exception):  # noqa: N818 - not an error: a decision
    """The mail is beyond our limits."""


class Part(_Message):
    """A part of a mail.

    `begins` and `ends` are its place in the octets, `fields` its header as it stood (the library repairs what it is
    asked for), `cut` names its fields too long to read.
    """

    def __init__(self, begins: int, ends: int) -> None:
        super().__init__()
        self.begins, self.ends = begins, ends
        self.fields: list[tuple[str, str]] = []
        self.cut: tuple[str, ...] = ()

    def add_field(self, name: str, value: str) -> None:
        """Add a field as it stood, bounded."""
        if name.lower() in _WITH_PARAMETERS and (kept := _bounded(value)) != value:
            self.cut = (*self.cut, name.lower())
            value = kept
        self.fields.append((name, value))
        self[name] = value


def _bounded(value: str) -> str:
    """A field with parameters, without those beyond what we read."""
    kept = value[:PARAMETERS]
    if kept.count(";") > _SEMICOLONS:
        kept = ";".join(kept.split(";", _SEMICOLONS)[:-1]) + ";"
    if len(kept) == len(value):
        return value
    return kept.rpartition(";")[0] or "application/octet-stream"


class _Reader:
    """Reads parts of one mail, and counts what that costs. It goes no deeper than `DEPTH`."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._parts = self._lines = 0

    def read(self, part: Part, depth: int, *, inside: bool) -> Part:
        """Read a part that has its place.

        Args:
            inside: In a multipart: the line end before a boundary is the boundary's.
        """
        self._parts += 1
        if depth > DEPTH:
            raise TooMuch("the parts are nested too deep")
        if self._parts > PARTS:
            raise TooMuch("too many parts")
        body = self._read_header(part)
        kind = part.get_content_type()
        if kind == "message/delivery-status":
            self._read_blocks(part, body, depth, inside=inside)
        elif kind.startswith("message/"):
            part.attach(self.read(Part(body, part.ends), depth + 1, inside=inside))
        elif not (kind.startswith("multipart/") and self._read_parts(part, body, depth)):
            end = self._before_line_end(body, part.ends) if inside else part.ends
            part.set_payload(_text(self._octets[body:end]))
        return part

    def _before_line_end(self, begin: int, end: int) -> int:
        for line_end in (b"\r\n", b"\n"):
            if self._octets.endswith(line_end, begin, end):
                return end - len(line_end)
        return end

    def _read_header(self, part: Part) -> int:
        """Take the fields of a part; answers where its body begins."""
        octets, at, end = self._octets, part.begins, part.ends
        for _ in range(FIELDS + 1):
            beginning = _BEGINNING.match(octets, at, end)
            if beginning is None:
                return self._after_empty_line(part, at)
            kind = beginning.lastgroup or ""
            if kind in ("field", "continuation"):
                found = _FIELD_END.search(octets, beginning.end(), end)
                next_at = found.end() if found else end
            else:
                next_at = self._next_line(at, end)
            if kind == "field":
                value = _text(octets[beginning.end() : next_at])
                part.add_field(_text(octets[at : beginning.end() - 1]), value.lstrip(" \t").rstrip("\r\n"))
            elif kind == "envelope" and at > part.begins and not _BEGINNING.match(octets, next_at, end):
                return self._after_empty_line(part, at)  # rather somebody's first words
            elif kind != "envelope" or at > part.begins:
                part.defects.append(_ODD[kind]())
            at = next_at
        raise TooMuch("the header of a part is too large")

    def _after_empty_line(self, part: Part, at: int) -> int:
        """Where the body begins, when the header ends here."""
        if at < part.ends and not self._octets.startswith((b"\n", b"\r\n"), at, part.ends):
            part.defects.append(errors.MissingHeaderBodySeparatorDefect())
            return at
        return self._next_line(at, part.ends)

    def _next_line(self, at: int, end: int) -> int:
        return self._octets.find(b"\n", at, end) + 1 or end

    def _read_blocks(self, part: Part, at: int, depth: int, *, inside: bool) -> None:
        """The groups of fields of a delivery report, an empty line after each (RFC 3464 2.1)."""
        last = False
        while not last:
            empty = _EMPTY_LINE.search(self._octets, at - 1, part.ends)
            end, next_at = (empty.start(1), empty.end()) if empty else (part.ends, part.ends)
            last = next_at == part.ends
            part.attach(self.read(Part(at, end), depth + 1, inside=inside and last))
            at = next_at

    def _read_parts(self, part: Part, body: int, depth: int) -> bool:
        """The parts of a multipart (RFC 2046 5.1.1). False: there are none, and the body is to be kept as it is."""
        boundary = part.get_boundary()
        if boundary is None or len(boundary) > _BOUNDARY:
            part.defects.append(errors.NoBoundaryInMultipartDefect())
            return False
        if str(part.get("content-transfer-encoding", "8bit")).lower() not in ("7bit", "8bit", "binary"):
            part.defects.append(errors.InvalidMultipartContentTransferEncodingDefect())
        self._lines += self._octets.count(b"\n", body, part.ends)
        if self._lines > _LINES:
            raise TooMuch("too many lines")
        begin, closed = -1, False
        for line_begin, line_end, closed in self._boundary_lines(boundary, body, part.ends):
            if 0 <= begin < line_begin:  # several boundaries on end have nothing between them
                self._read_inner(part, begin, line_begin, depth)
            begin = line_end
            if closed:
                break
        if begin >= 0 and not closed:
            part.defects.append(errors.CloseBoundaryNotFoundDefect())
            self._read_inner(part, begin, part.ends, depth)
        if not part.is_multipart():
            part.defects.append(errors.StartBoundaryNotFoundDefect())
        return part.is_multipart()

    def _read_inner(self, part: Part, begin: int, end: int, depth: int) -> None:
        inner = Part(begin, end)
        if part.get_content_type() == "multipart/digest":
            inner.set_default_type("message/rfc822")
        part.attach(self.read(inner, depth + 1, inside=True))

    def _boundary_lines(self, boundary: str, at: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Begin and end of each line that is this boundary, and whether it is the one after the last part."""
        sought = b"\n--" + boundary.encode("utf-8", "surrogatepass")
        if "\n" in boundary:  # folded inside its quotes: no line is that
            return
        while (found := self._octets.find(sought, at - 1, end)) >= 0:
            at = found + len(sought)
            if rest := _AFTER_BOUNDARY.match(self._octets, at, end):
                at = rest.end()
                yield found + 1, at, rest[1] is not None


def _text(octets: bytes) -> str:
    """As the library keeps octets: what is not ASCII as lone surrogates."""
    return octets.decode("ascii", "surrogateescape")


def tree_of(octets: bytes) -> Part:
    """The tree of parts of a mail with settled line ends.

    Raises:
        TooMuch: It is beyond our limits.
    """
    tree = _Reader(octets).read(Part(0, len(octets)), 0, inside=False)
    if tree.get_content_maintype() == "multipart" and not tree.is_multipart():
        tree.defects.append(errors.MultipartInvariantViolationDefect())
    return tree


def children(part: Part) -> list[Part]:
    if not part.is_multipart():
        return []  # and not by get_payload, which would decode a text by whatever it claims
    return [inner for inner in part.get_payload() if isinstance(inner, Part)]


def message_in(part: Part, octets: bytes) -> memoryview:
    """What a message/* part with children holds, as it stood: the line end before a boundary is the boundary's.

    Not a copy: a forwarded mail in a forwarded mail is in both.
    """
    end = part.ends
    if octets.startswith(b"--", end) and octets.endswith(b"\n", 0, end):
        end -= 2 if octets.endswith(b"\r\n", 0, end) else 1
    return memoryview(octets)[min(children(part)[0].begins, end) : end]


# -- What a part says once what carried it is taken off: base64, format=flowed, a signature's armour. Total and linear.

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


# -- Octets to text, by the character set a sender claims.
#
# Total and linear: every octet string becomes text whatever the label says. Codecs that are not character sets,
# that take more than linear time on hostile input (punycode, idna) or that act on escapes are never asked. The
# second value of `decode` says whether the text can be trusted to be what was written; False is for guesses and
# replacements.

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
