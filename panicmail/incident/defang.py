"""Links and hosts in what a stranger wrote, so that no program makes a link of them."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"\b([a-z][a-z0-9+.-]{1,30})(:/?/)([^\s/?#]{0,300})", re.I)
_OTHER_SCHEME = re.compile(r"\b(mailto|tel|sms|facetime|javascript|data|file|vbscript|ms-[a-z]{2,20}):(?=\S)", re.I)
#: A host without a scheme, where mail programs make a link of it: www, a path behind it, or a well-known ending.
_HOST = re.compile(
    r"(?<![\w@.\[-])((?:www\.)?(?:[\w-]{1,63}\.){1,8})(?=[\w-]{2,63}/|"
    r"(?:[a-z]{2}|com|net|org|info|biz|xyz|top|zip|mov|app|dev|online|site|shop|club|link|click|live|page|cloud|store)"
    r"(?![\w@-]))"
    r"([\w-]{2,63})",
    re.I,
)


def defanged(text: str) -> str:
    """`text` with links that no program follows: `hxxps://evil[.]example`."""
    text = _SCHEME.sub(lambda m: _scheme(m[1], m[2]) + _dots(m[3]), text)
    text = _OTHER_SCHEME.sub(r"\1[:]", text)
    return _HOST.sub(lambda m: _dots(m[1]) + m[2], text)


def _scheme(name: str, colon: str) -> str:
    web = {"http": "hxxp", "https": "hxxps", "hxxp": "hxxp", "hxxps": "hxxps"}.get(name.lower())
    return f"{web}://" if web else f"{name}[:]{colon[1:]}"


def _dots(host: str) -> str:
    return re.sub(r"(?<!\[)\.(?!\])", "[.]", host)
