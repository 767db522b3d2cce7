"""Mails that are slow to read: a run of something, in every place of a mail where a reader looks.

A run is a piece repeated; a place makes a mail of a run. `test_reading_cost.py` draws from the product of both, and
`SHAPES` are mails that a run does not make: nesting, many parts, parameters that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

HEADER = (
    b"From: Rita Lopez <rita@example.com>\r\nSubject: help\r\nMessage-ID: <m@example.com>\r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n"
)
#: A mail of about so many octets.
Shape = Callable[[int], bytes]


def run(piece: bytes, octets: int) -> bytes:
    return piece * max(1, octets // max(1, len(piece)))


#: Pieces without a line end: they can stand in a header field. Every sign of punctuation, and what readers look for.
WITHIN_A_LINE = [
    *(bytes([sign]) for sign in range(33, 127) if not chr(sign).isalnum()),
    *(b" ", b"\t", b"\0", b"a", b"1", b"a ", b"1 ", b"\xff", b"\xc2\xa0", b"\xe2\x80\x8b", b"\xcc\x81", b";\"", b"()"),
    *(b"a@", b"<a@b>", b"<a@b>, ", b"a@b.example, ", b"=?utf-8?q?", b"=?utf-8?q?=C3=A4?= ", b"=?utf-8?b?w6Q=?= "),
    *(b"http://", b"www.", b"a.", b"+49 151 2345678 ", b"On ", b"wrote: ", b"On 1.1.2024 a wrote", b"Le 1 ", b"Il x "),
    *(b"Am 1.1.2024 schrieb ", b"From: x ", b"CAUTION: ", b"Disclaimer: mail ", b"<div>", b"<div>x", b"<pre>x", b"<b>"),
    *(b"<li><ul>x", b"<table><tr><td>", b"<p><b>", b"<a href=x>", b"<p style='display:none'>x", b"<select>", b"<!--"),
    *(b"<blockquote>", b"</div>", b"</x>", b"&amp;", b"&#x41;", b"&#11111111111;", b"&", b"x=y ", b"style='"),
]  # fmt: skip
LINES = [
    *(b"\r\n", b"\n", b"\r", b"\r\r\n", b" \r\n", b"\t\r\n", b">\r\n", b"> \r\n", b"> > a\r\n", b"> a\r\nb\r\n"),
    *(b"a\r\n", b"a\r\n\r\n", b"a \r\n", b"-- \r\n", b"--\r\n", b"--b\r\n", b"--b--\r\n", b"--bb\r\n", b"--b \t\r\n"),
    *(b"=\r\n", b"=41=\r\n", b"From: x\r\n", b"From x\n", b"Am 1.1.2024 a\r\n", b"On 1.1.24 a wrote\r\n", b"On x\r\n"),
    *(b"________________________________\r\n", b"-----Original Message-----\r\n", b"Sent from my x\r\n", b"Best,\r\n"),
    *(b"begin 644 a\r\n", b"MQUJDQUJD\r\n", b"QUJDQUJD\r\n", b"Status: 5.1.1\r\n\r\n", b"<a@b>: 5.1.1\r\n", b"X: y\n"),
    *(b"On 1.1.2024 a wrote" + b" " * 200 + b"x\r\n", b"Am 1.1.2024 schrieb " * 20 + b"\r\n", b"x" * 400 + b"\r\n"),
]  # fmt: skip


def mail(fields: bytes, body: bytes) -> bytes:
    return HEADER + fields + b"\r\n\r\n" + body


def _field(name: bytes, around: bytes = b"%s") -> Callable[[bytes], bytes]:
    return lambda many: name + b": " + around.replace(b"%s", many) + b"\r\n" + HEADER + b"\r\nhello"


def _body(fields: bytes, before: bytes = b"", after: bytes = b"") -> Callable[[bytes], bytes]:
    return lambda many: mail(fields, before + many + after)


_MIXED = b"Content-Type: multipart/mixed; boundary=b"
_REPORT = b"Content-Type: multipart/report; report-type=delivery-status; boundary=b"
#: Where a run within a line stands.
FIELDS: dict[str, Callable[[bytes], bytes]] = {
    **{
        name.decode(): _field(name)
        for name in (
            *(b"Subject", b"From", b"Reply-To", b"To", b"Date", b"Message-ID", b"References", b"Auto-Submitted"),
            *(b"Return-Path", b"X-Failed-Recipients", b"X-Panicmail", b"Content-Type", b"Content-Disposition"),
            *(b"Content-Transfer-Encoding", b"Delivered-To", b"List-Id", b"X-Other"),
        )
    },
    **{f"{name.decode()} quoted": _field(name, b'"a <%s> "') for name in (b"From", b"To", b"Reply-To", b"Subject")},
    "a parameter": _field(b"Content-Type", b'text/plain; a="%s'),
    "a continued parameter": _field(b"Content-Type", b"text/plain; name*0*=utf-8''%s; name*1=x"),
    "a file name": _field(b"Content-Disposition", b'attachment; filename="%s"'),
    "a boundary": _field(b"Content-Type", b'multipart/mixed; boundary="%s"'),
    "a field of an attached mail": _body(
        _MIXED, b"--b\r\nContent-Type: message/rfc822\r\n\r\nX: y\r\nSubject: ", b"\r\n\r\nhello\r\n--b--"
    ),
    "the type of an attached mail": _body(
        _MIXED, b"--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/x", b"\r\n\r\nhello\r\n--b--"
    ),
    "a tag": _body(b"Content-Type: text/html", b"<p ", b">hello"),
}
#: Where a run of anything stands.
BODIES: dict[str, Callable[[bytes], bytes]] = {
    "text": _body(b"Content-Type: text/plain; charset=utf-8"),
    "below an answer": _body(b"Content-Type: text/plain; charset=utf-8", b"ack ", b"x\r\n> x\r\n"),
    "flowed": _body(b"Content-Type: text/plain; format=flowed"),
    "HTML": _body(b"Content-Type: text/html; charset=utf-8"),
    "base64": _body(b"Content-Transfer-Encoding: base64"),
    "quoted-printable": _body(b"Content-Transfer-Encoding: quoted-printable"),
    "uuencode": _body(b"Content-Transfer-Encoding: x-uuencode", b"begin 644 x\r\n"),
    "UTF-7": _body(b"Content-Type: text/plain; charset=utf-7"),
    "ISO-2022-JP": _body(b"Content-Type: text/plain; charset=iso-2022-jp"),
    "a multipart": _body(_MIXED, b"--b\r\n\r\n"),
    "a preamble": _body(_MIXED),
    "an epilogue": _body(_MIXED, b"--b\r\n\r\nhello\r\n--b--\r\n"),
    "a bounce": _body(
        _REPORT, b"--b\r\n\r\n", b"\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\na: b\r\n--b--"
    ),
    "a delivery report": _body(_REPORT, b"--b\r\nContent-Type: message/delivery-status\r\n\r\n", b"\r\n--b--"),
    "an attached mail": _body(_MIXED, b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n", b"\r\n--b--"),
    "winmail.dat": _body(b"Content-Type: application/ms-tnef; name=winmail.dat"),
    "a header": lambda many: many + HEADER + b"\r\nhello",
}


def many_parts(part: bytes, count: int = 190) -> bytes:
    return mail(_MIXED, (b"--b\r\n" + part + b"\r\n") * count + b"--b--\r\n")


def nested(depth: int, inside: bytes, subtype: bytes = b"mixed") -> bytes:
    opens = b"".join(
        b"Content-Type: multipart/%s; boundary=b%d\r\n\r\n--b%d\r\n" % (subtype, level, level) for level in range(depth)
    )
    return HEADER + opens + b"\r\n" + inside


def nested_prefixes(depth: int, inside: bytes) -> bytes:
    """Multiparts in each other, whose boundaries are the beginnings of one another."""
    opens = b"".join(
        b"Content-Type: multipart/mixed; boundary=%s\r\n\r\n--%s\r\n" % (b"b" * level, b"b" * level)
        for level in range(1, depth + 1)
    )
    return HEADER + opens + b"\r\n" + inside


def forwarded(depth: int, inside: bytes) -> bytes:
    return HEADER + b"Content-Type: message/rfc822\r\n\r\n" * depth + inside


def _numbered(piece: bytes, octets: int) -> bytes:
    return b"".join(piece % number for number in range(octets // (len(piece) + 3)))


def _html(body: bytes) -> bytes:
    return mail(b"Content-Type: text/html", body)


#: What no run makes.
SHAPES: dict[str, Shape] = {
    "many parts with semicolons": lambda n: many_parts(b"Content-Type: text/plain" + b";" * (n // 190) + b"\r\n\r\nx"),
    "many parts with continuations": lambda n: many_parts(
        b"Content-Type: text/plain" + _numbered(b"; name*%d=a", n // 190) + b"\r\n\r\nx"
    ),
    "many parts with long boundaries": lambda n: many_parts(
        b"Content-Type: multipart/mixed; boundary=" + b"q" * min(4000, n // 190) + b"\r\n\r\nx"
    ),
    "many parts of HTML": lambda n: many_parts(b"Content-Type: text/html\r\n\r\n" + run(b"<div>", n // 190)),
    "many parts of HTML attributes": lambda n: many_parts(
        b"Content-Type: text/html\r\n\r\n<p " + _numbered(b"a%d=b ", n // 190) + b">"
    ),
    "many parts of text": lambda n: many_parts(
        b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n" + run(b"hello\r\n", n // 190)
    ),
    "many delivery reports": lambda n: many_parts(
        b"Content-Type: message/delivery-status\r\n\r\n" + run(b"Action: failed\r\n", n // 190)
    ),
    "many fields in many parts": lambda n: many_parts(run(b"X: y\r\n", n // 190) + b"\r\nx"),
    "too many parts": lambda n: many_parts(b"\r\nx", n // 10),
    "deep multiparts": lambda n: nested(29, run(b"hello\r\n", n)),
    "deep multiparts of dashes": lambda n: nested(29, run(b"--x\r\n", n)),
    "lines that begin like every boundary": lambda n: nested_prefixes(29, run(b"--" + b"b" * 29 + b"x\r\n", n)),
    "boundaries on end": lambda n: mail(_MIXED, run(b"--b\r\n", n)),
    "deep alternatives": lambda n: nested(29, run(b"hello\r\n", n), b"alternative"),
    "too deep multiparts": lambda n: nested(n // 60, b""),
    "the same multipart again and again": lambda n: HEADER + run(_MIXED + b"\r\n\r\n--b\r\n", n),
    "deep forwarded mails": lambda n: forwarded(29, b"\r\n" + run(b"hello\r\n", n)),
    "deep forwarded mails with a long line": lambda n: forwarded(29, b"X: " + run(b"a ", n) + b"\r\n\r\nx"),
    "too deep forwarded mails": lambda n: forwarded(n // 30, b""),
    "one tag of many attributes": lambda n: _html(b"<p " + _numbered(b"a%d=b ", n) + b">x"),
    "tags of many attributes": lambda n: _html((b"<p " + _numbered(b"a%d=b ", 50_000) + b">x") * (n // 50_000 + 1)),
    "attributes divided by slashes": lambda n: _html(b"<p " + _numbered(b"a%d/", n) + b">x"),
    "flat HTML, then deep": lambda n: _html(run(b"<p>x", n // 2) + run(b"<div>", n // 2)),
    "blocks inside deep inline elements": lambda n: _html(run(b"<b>", n // 2) + run(b"<div></div>", n // 2)),
    "one reference of many digits": lambda n: _html(run(b"<", 21_000) + b"&#" + b"1" * n),
    "links that differ": lambda n: mail(b"Content-Type: text/plain", _numbered(b"http://a.example/%d \r\n", n)),
    "links that end in brackets": lambda n: mail(
        b"Content-Type: text/plain", run(b"http://a" + b"()" * 400 + b")" * 1100 + b" ", n)
    ),
    "quotes ever deeper": lambda n: mail(
        b"Content-Type: text/plain", b"".join(b">" * deep + b" x\r\n" for deep in range(int((2 * n) ** 0.5)))
    ),
    "encoded words of ever other character sets": lambda n: (
        b"Subject: " + _numbered(b"=?x%d?q?=ff?= ", n) + b"\r\n" + HEADER + b"\r\nx"
    ),
}


def combinations() -> Iterable[tuple[str, bytes]]:
    """Every place with every run that can stand there."""
    yield from ((place, piece) for place in FIELDS for piece in WITHIN_A_LINE)
    yield from ((place, piece) for place in BODIES for piece in [*WITHIN_A_LINE, *LINES])


def made(place: str, piece: bytes, octets: int) -> bytes:
    return (FIELDS.get(place) or BODIES[place])(run(piece, octets))
