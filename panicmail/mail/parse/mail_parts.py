"""A mail taken apart: what of it is body, what is attached, what is inside another message.

Walks the tree of parts. What is odd is a note; what may hide something of who wrote it, or of its first line, is a
doubt, and such a mail acknowledges nothing. `parser` says from it what a mail is.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from html import unescape

from panicmail.incident.classify import ENCRYPTED, HAS_QR, MISLEADS, Attachment
from panicmail.incident.redact import carried
from panicmail.mail.parse import normalize
from panicmail.mail.parse.automatic import MimeStructure
from panicmail.mail.parse.header import line, one_line, words
from panicmail.mail.parse.html import MOST_CHARACTERS, MOST_TAGS, PlainText, plain
from panicmail.mail.parse.mime_tree import (
    Part,
    TooMuch,
    children,
    decode,
    message_in,
    says_more,
    tree_of,
    unbased,
    unflowed,
    without_armour,
)
from panicmail.mail.parse.normalize import HEADER_OCTETS, NormalizedMail
from panicmail.mail.parse.wrapped_files import PICTURES, WinmailDat, qr_codes, signed_content, winmail

#: The longest text kept, in characters.
MOST_TEXT = 1024 * 1024
#: So deep in forwarded mails others are taken out; what is deeper is in the one around it.
_FORWARDED = 5
#: So much of a mail is looked through for tokens of ours, of a file, in characters.
_LOOKED_AT, _OF_A_FILE = 1024 * 1024, 256 * 1024
#: Fields that name mails, not addresses: every reply has ids of ours there.
_IDS = frozenset({"message-id", "in-reply-to", "references", "received"})


@dataclass(slots=True)
class _Room:
    """What may still be read, of all parts together."""

    characters: int = 4 * MOST_TEXT  #: of text parts, HTML included
    markup: int = MOST_CHARACTERS  #: of HTML, with care
    tags: int = MOST_TAGS
    looked: int = _LOOKED_AT  #: for tokens of ours
    pictures: int = PICTURES  #: looked through for QR codes
    unpacked: int = 10  #: of attached mails that were coded, each a tree of its own
    carried: dict[str, None] = field(default_factory=dict)  #: those found

    def read(self, html: str) -> PlainText:
        page = plain(html, characters=self.markup, tags=self.tags)
        self.markup = max(0, self.markup - len(html))
        self.tags = max(0, self.tags - html.count("<"))
        return page

    def look_for_tokens(self, text: str) -> None:
        """Look for tokens of ours."""
        text = text[: self.looked]
        self.looked -= len(text)
        self.carried.update(dict.fromkeys(carried(text)))


@dataclass(slots=True, kw_only=True)
class OpenedMail:
    """A mail taken apart."""

    tree: Part
    octets: bytes
    room: _Room = field(default_factory=_Room)
    text: list[str] = field(default_factory=list)  #: the sender's body, part by part
    own: list[str] = field(default_factory=list)  #: the same without what HTML marks as history
    forwarded: list[str] = field(default_factory=list)  #: bodies of attached mails, below a heading
    targets: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    method: str = ""
    attachments: list[tuple[Attachment, bytes | memoryview]] = field(default_factory=list)
    defects: dict[str, None] = field(default_factory=dict)
    lossless: bool = True

    @property
    def is_reaction(self) -> bool:
        """Whether it is a tap on a smiley (Gmail), which is no command in whatever language it is told."""
        return any(kind.startswith(_REACTION) for kind in self.types)

    def structure(self, text: str, own: str) -> MimeStructure:
        return MimeStructure(
            types=tuple(self.types),
            report_type=str(self.tree.get_param("report-type", "")).lower(),
            method=self.method,
            text=text,
            own=own,
            reports=tuple(self.reports),
        )

    def note(self, defect: str) -> None:
        """Something is odd, and neither who wrote the mail nor its first line hangs on it."""
        self.defects.setdefault(one_line(defect, 200))

    def doubt(self, defect: str) -> None:
        """Something of who wrote it, or of its first line, may be missing or wrong, and this is what."""
        self.note(defect)
        self.lossless = False


def open_mail(mail: NormalizedMail) -> OpenedMail:
    """Take a mail apart.

    Raises:
        TooMuch: It is beyond our limits.
    """
    if mail.excessive:
        raise TooMuch("the header is too large")
    tree = tree_of(mail.octets)
    opened = OpenedMail(tree=tree, octets=mail.octets)
    opened.room.look_for_tokens("\n".join(value for name, value in tree.fields if name.lower() not in _IDS))
    inside = {id(each) for part in tree.walk() if part.get_content_maintype() == "message" for each in children(part)}
    lossless = True
    for part in tree.walk():
        inside |= {id(each) for each in children(part)} if id(part) in inside else set()
        _mend(part, opened)
        lossless = lossless and (opened.lossless or id(part) in inside)
        opened.lossless = lossless  # what is broken in an attached mail takes nothing from this one
    _BodyText(opened).take(tree)
    return opened


#: What the parser says of broken structure -> what we say. Others lose nothing.
_BROKEN = {
    "NoBoundaryInMultipartDefect": "a multipart without a boundary",
    "StartBoundaryNotFoundDefect": "a multipart whose boundary does not appear",
    "MultipartInvariantViolationDefect": "a multipart without parts",
    "FirstHeaderLineIsContinuationDefect": "a header that begins in the middle",
    "MisplacedEnvelopeHeaderDefect": "an envelope line inside the header",
    "MissingHeaderBodySeparatorDefect": "no empty line after the header",
}
#: The same of what may well be at the end, or in a picture.
_ODD = {
    "CloseBoundaryNotFoundDefect": "a multipart without its end: cut off?",
}


def _note_defects(part: Part, opened: OpenedMail) -> None:
    for defect in part.defects:
        if said := _BROKEN.get(type(defect).__name__):
            opened.doubt(said)
        else:
            opened.note(_ODD.get(type(defect).__name__, type(defect).__name__))


def _mend(part: Part, opened: OpenedMail) -> None:
    """Make the fields that say how to read a part harmless and plain; the library trips over odd ones."""
    _note_defects(part, opened)
    part.defects.clear()
    unsure = opened.doubt if part.get_content_maintype() in ("text", "multipart", "message") else opened.note
    for name in ("content-type", "content-disposition"):
        if len(part.get_all(name, [])) > 1:
            opened.doubt(f"several {name} fields")
        if name in part.cut:
            unsure(f"a {name} field too long to read")
        value = _field(part, name)
        if name in part:
            part.replace_header(name, re.sub(r"[\r\n]+", "", decode(value, None)[0]))
    encoding = part.get_all("content-transfer-encoding", [])
    if encoding:
        word = re.match(r"[\s\"']*([a-z0-9-]*)", str(encoding[0]).lower())
        named = word[1] if word else ""
        part.replace_header("content-transfer-encoding", _ENCODINGS.get(named, named))
        if named and _ENCODINGS.get(named, named) not in _ENCODINGS.values():
            unsure(f"unknown transfer encoding {named}")


_ENCODINGS = {
    "7bit": "7bit",
    "7-bit": "7bit",
    "8bit": "8bit",
    "8-bit": "8bit",
    "8bits": "8bit",
    "binary": "binary",
    "base64": "base64",
    "base-64": "base64",
    "quoted-printable": "quoted-printable",
    "quoted": "quoted-printable",
    "qp": "quoted-printable",
    "x-uuencode": "x-uuencode",
    "x-uue": "x-uuencode",
    "uuencode": "x-uuencode",
    "uue": "x-uuencode",
}


_REACTION = "text/vnd.google.email-reaction"
#: Texts that are not for reading: of other programs, or a second form of what a plain or HTML part says.
_NO_TEXT = (
    *("text/calendar", "text/rfc822-headers", "text/x-vcard", "text/vcard", "text/directory", "text/rtf", "text/css"),
    *(
        "text/x-amp",
        "text/amp",
        "text/watch-html",
        _REACTION,
        "text/javascript",
        "text/ecmascript",
    ),
)


@dataclass(frozen=True, slots=True)
class _Where:
    """Where in a mail a part stands."""

    attached: bool = False  #: inside something attached: never the body
    forwarded: int = 0  #: inside so many other messages


class _BodyText:
    """Walks the parts and sorts them into body, attached mails and attachments."""

    def __init__(self, opened: OpenedMail) -> None:
        self._opened = opened
        self._aside: list[tuple[Part, str, bytes]] = []  #: texts that call themselves attachments

    def take(self, tree: Part) -> None:
        self._part(tree, _Where(), root=True)
        if len(self._aside) == 1 and not any(map(str.strip, self._opened.text)):
            self._say(*self._aside[0])  # the only text there is, whatever it calls itself

    def _part(self, part: Part, where: _Where, *, root: bool = False) -> None:
        kind = _type(part)
        if not where.forwarded:
            self._opened.types.append(kind)
        if kind.startswith("message/") and not (root and not part.is_multipart()):
            self._message(part, kind, where)
        elif part.is_multipart():
            self._multipart(part, kind, where)
        else:
            self._leaf(part, kind, where, root=root)

    def _multipart(self, part: Part, kind: str, where: _Where) -> None:
        opened = self._opened
        if kind == "multipart/encrypted":
            opened.doubt(ENCRYPTED)
        if part.get_content_disposition() == "attachment":
            where = _Where(attached=True, forwarded=where.forwarded)
        inner = children(part)
        if kind == "multipart/alternative" and not where.attached:
            self._alternative(inner, where)
            return
        for each in inner:
            self._part(each, where)

    def _alternative(self, inner: list[Part], where: _Where) -> None:
        """Of several forms of one text the plain ones that say something; the HTML where those stand for nothing."""
        readings = []
        for each in inner:
            trial = OpenedMail(tree=self._opened.tree, octets=self._opened.octets, room=self._opened.room)
            _BodyText(trial)._part(each, where)
            readings.append(trial)
        saying = [trial for trial in readings if any(map(str.strip, trial.text))]
        plainly = [trial for trial in saying if "text/html" not in trial.types]
        richly = next((trial for trial in reversed(saying) if trial not in plainly), None)
        if plainly and richly and says_more("\n".join(richly.text), "\n".join(t for p in plainly for t in p.text)):
            richly.text += [text for trial in plainly for text in trial.text]
            plainly = [richly]
        chosen = plainly or saying[-1:]
        for trial in readings:
            self._merge(trial, body=any(trial is each for each in chosen))

    def _merge(self, trial: OpenedMail, *, body: bool) -> None:
        opened = self._opened
        opened.types += trial.types
        opened.reports += trial.reports
        opened.method = opened.method or trial.method
        opened.attachments += trial.attachments
        opened.targets += trial.targets
        opened.forwarded += trial.forwarded
        opened.defects.update(trial.defects)
        if body:
            opened.text += trial.text
            opened.own += trial.own
            opened.lossless = opened.lossless and trial.lossless

    def _message(self, part: Part, kind: str, where: _Where) -> None:
        opened = self._opened
        if where.forwarded >= _FORWARDED:
            opened.forwarded.append("[attached mail, inside the one above]")
            return
        inner = children(part)
        data = _message(part, opened)
        if kind in ("message/delivery-status", "message/global-delivery-status"):
            opened.reports.append(decode(bytes(data[:262_144]), None)[0].replace("\r\n", "\n"))
        if kind == "message/partial":
            opened.doubt("only a piece of a message")
            opened.text += [decode(bytes(data[:MOST_TEXT]), None)[0].replace("\r\n", "\n")]
        subject = line(_field(inner[0], "subject"))[0] if inner else ""
        self._attach(part, kind, data, name=_filename(part) or (f"{subject[:80]}.eml" if subject else ""))
        if kind not in ("message/rfc822", "message/global", "message/news"):
            return
        octets = opened.octets if isinstance(data, memoryview) else data
        for each in inner if octets is opened.octets else self._unpacked(octets):
            trial = OpenedMail(tree=each, octets=octets, room=opened.room)
            _BodyText(trial)._part(each, _Where(forwarded=where.forwarded + 1))
            opened.forwarded.append(_heading(each) + "\n\n" + "\n\n".join(filter(None, trial.text)))
            opened.forwarded += trial.forwarded
            opened.attachments += trial.attachments
            opened.targets += trial.targets

    def _unpacked(self, octets: bytes) -> list[Part]:
        """An attached mail that was coded, as a tree; none beyond our limits, and it stays an attachment."""
        self._opened.room.unpacked -= 1
        if self._opened.room.unpacked < 0:
            return []
        try:
            tree = tree_of(octets)
        except TooMuch:
            return []
        aside = OpenedMail(tree=tree, octets=octets, room=self._opened.room)
        for part in tree.walk():
            _mend(part, aside)
        return [tree]

    def _leaf(self, part: Part, kind: str, where: _Where, *, root: bool) -> None:
        opened = self._opened
        data = _decoded(part, opened)
        disposition = part.get_content_disposition()
        named = _filename(part)
        readable = kind.startswith("text/") and not kind.startswith(_NO_TEXT)
        if kind in ("text/calendar", "application/ics"):
            opened.method = opened.method or str(part.get_param("method", "")).lower()[:40]
        broken = part.get_content_maintype() in ("multipart", "message")
        aside = where.attached or disposition == "attachment" or (bool(named) and disposition != "inline")
        if (readable and not aside) or (root and (readable or broken)):
            self._say(part, kind, data)
        elif readable and not where.attached and not where.forwarded:
            self._aside.append((part, kind, data))
        if not readable or aside or named:
            self._attach(part, kind, data, name=named)
            self._unwrap(kind, data, where)

    def _unwrap(self, kind: str, data: bytes, where: _Where) -> None:
        """What a file holds that is of the mail itself, or leads somewhere."""
        if kind in ("application/pkcs7-mime", "application/x-pkcs7-mime"):
            self._unwrap_signed(data, where)
        elif kind in ("application/ms-tnef", "application/vnd.ms-tnef"):
            _unwrap_winmail(self._opened, data)
        elif kind.startswith("image/") and self._opened.room.pictures > 0:
            self._opened.room.pictures -= 1
            codes, why = qr_codes(data)
            self._opened.targets += codes
            for said in filter(None, [why, *(f"{HAS_QR}{normalize.defanged(code)}" for code in codes)]):
                self._opened.note(said)

    def _unwrap_signed(self, data: bytes, where: _Where) -> None:
        """An opaque S/MIME signature holds the mail; what is encrypted can be shown to nobody."""
        content = None if where.attached or where.forwarded else signed_content(data)
        for tree in self._unpacked(content) if content else []:
            trial = OpenedMail(tree=tree, octets=content or b"", room=self._opened.room)
            _BodyText(trial)._part(tree, where)
            self._merge(trial, body=True)
            self._opened.note("signed by S/MIME; the signature was not checked")
            return
        self._opened.doubt(f"{ENCRYPTED} by S/MIME: nobody but its recipient can read it")

    def _say(self, part: Part, kind: str, data: bytes) -> None:
        opened = self._opened
        charset = str(part.get_param("charset", "") or "") if not isinstance(part.get_param("charset"), tuple) else ""
        text, sure = decode(data[: 4 * MOST_TEXT], charset)
        if not sure and (any(map(str.strip, opened.text)) or _is_sure_at_first(data, charset)):
            opened.note("text that could not be decoded without loss, further down")
            sure = True
        if len(data) > 4 * MOST_TEXT or len(text) > opened.room.characters:
            opened.doubt("text too long, cut")
        text = text[: opened.room.characters].replace("\r\n", "\n").replace("\r", "\n")
        opened.room.characters -= len(text)
        opened.room.look_for_tokens(unescape(text) if kind == "text/html" else text)
        if not sure:
            opened.doubt("text that could not be decoded without loss")
        if "-----BEGIN PGP MESSAGE-----" in text:
            opened.doubt(ENCRYPTED)
        if kind == "text/html":
            page = opened.room.read(text)
            opened.text.append(page.text)
            opened.own.append(page.own)
            opened.targets += page.links
            for shown, target in page.misleading:
                opened.note(f"{MISLEADS}{normalize.defanged(shown)} and leads to {normalize.defanged(target)}")
            if not page.whole:
                opened.doubt("HTML too large to read whole")
            return
        if kind in ("text/enriched", "text/richtext"):
            text = re.sub(r"<[^<>\n]{1,60}>", "", text)
        if len(text) > MOST_TEXT:
            opened.doubt("text too long, cut")
        if str(part.get_param("format", "")).lower() == "flowed":
            text = unflowed(text, delsp=str(part.get_param("delsp", "")).lower() == "yes")
        text, signed = without_armour(text[:MOST_TEXT])
        if signed:
            opened.note("signed by OpenPGP; the signature was not checked")
        opened.text.append(text.strip("\n"))
        opened.own.append(text)

    def _attach(self, part: Part, kind: str, data: bytes | memoryview, *, name: str) -> None:
        beginning = bytes(data[:_OF_A_FILE]).replace(b"\0", b"").decode("latin-1")  # of UTF-16 as well
        self._opened.room.look_for_tokens(f"{name}\n{beginning}")
        shown = Attachment(name=name, type=kind, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        self._opened.attachments.append((shown, data))


def _unwrap_winmail(opened: OpenedMail, data: bytes) -> None:
    """Outlook's own form of the mail. Beside a plain text it repeats that one, with its fonts and its files."""
    found = winmail(data)
    is_beside = any(text.strip() for text in opened.text) and "text/plain" in opened.types
    if not isinstance(found, WinmailDat):
        opened.note(found)
        if is_beside:
            opened.note("attachments, if any, only in winmail.dat")
        else:
            opened.doubt("body or attachments only in winmail.dat")
        return
    if not is_beside:
        page = opened.room.read(found.html) if found.html and not found.text.strip() else None
        opened.text.append(page.text if page else found.text[:MOST_TEXT])
        opened.own.append(page.own if page else found.text[:MOST_TEXT])
        opened.doubt("read from winmail.dat")
    for name, content in found.files:
        shown = one_line(name, 255)
        digest = hashlib.sha256(content).hexdigest()
        kind = "application/octet-stream"
        opened.attachments.append((Attachment(name=shown, type=kind, size=len(content), sha256=digest), content))


def _decoded(part: Part, opened: OpenedMail) -> bytes:
    if part.get("content-transfer-encoding") == "base64":
        data, odd = unbased(str(part.get_payload()))
        if odd:
            opened.note(odd)
        return data
    decoded = part.get_payload(decode=True)
    _note_defects(part, opened)
    part.defects.clear()
    return decoded if isinstance(decoded, bytes) else b""


def _type(part: Part) -> str:
    return one_line(part.get_content_type(), 120).lower()


def _is_sure_at_first(data: bytes, charset: str) -> bool:
    """Whether the beginning of a text is read without loss: its first lines that say something."""
    lines = data[:4096].split(b"\n")
    end = next((at for at, line in enumerate(lines) if line.strip()), 0)
    return len(lines) > end + 1 and decode(b"\n".join(lines[: end + 1]) + b"\n", charset)[1]


def _field(part: Part, name: str) -> bytes:
    """The first such field of a part, its octets untouched by the library's repairs."""
    found = next((value for key, value in part.fields if key.lower() == name.lower()), "")
    return _octets(found)[:HEADER_OCTETS]


def _octets(value: object) -> bytes:
    return str(value).encode("utf-8", "surrogateescape")


def _filename(part: Part) -> str:
    """What an attachment calls itself: RFC 2231, encoded words inside quotes, or as it stands."""
    for name, header in (("filename", "content-disposition"), ("name", "content-type")):
        value = part.get_param(name, None, header)
        if value is None:
            continue
        if isinstance(value, tuple):
            charset, _, text = value
            shown = decode(str(text).encode("latin-1", "replace"), charset)[0]
        else:
            shown = words(_octets(value))[0]
        if shown := one_line(shown, 255, composed=False):
            return shown
    return ""


def _heading(part: Part) -> str:
    """What an attached mail is, above what it says."""
    said = [f"{name}: {line(_field(part, name))[0]}" for name in ("From", "Date", "Subject") if name in part]
    return "\n".join(["[attached mail]", *said])


def _message(part: Part, opened: OpenedMail) -> bytes | memoryview:
    """The octets of an attached message, as they stood in the mail."""
    inner = children(part)
    if not inner:
        data = part.get_payload(decode=True)
        return data if isinstance(data, bytes) else b""
    stood = message_in(part, opened.octets)
    if str(part.get("content-transfer-encoding", "")) == "base64" and not inner[0].keys():
        return unbased(str(stood, "ascii", "surrogateescape"))[0]  # against RFC 2046 5.2.1, but seen
    return stood
