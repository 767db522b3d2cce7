"""Links and telephone numbers in a text: where it leads, and how to call the person who wrote it.

Phones are found conservatively: written internationally, or with a trunk 0 or brackets and separators, or as North
American numbers are. Dates, times, addresses of hosts and bare runs of digits are not phones. Linear, total.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MOST = 200
_LINK = re.compile(
    r"\b(?:(?:https?|hxxps?|ftps?|sftp|ssh|rdp|smb|file|ldaps?|data|javascript|magnet"
    r"|ms-[a-z]{2,20}):/?/?[^\s<>\"“”„»«]{3,2000}"
    r"|www\.[^\s<>\"“”„»«@]{3,2000})",
    re.I,
)
_PHONE = re.compile(r"(?<![\w/.,:@=%+-])(?:\+|\(\+?)?\d[\d\s().\u2010-\u2013\u00a0/-]{5,24}\d(?![\w/@=%]|[.:,-]\d)")
_NORTH_AMERICAN = re.compile(r"(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}")
_DATE = re.compile(
    r"\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}(?:\D.*)?|\d{1,2}[-./ ]\d{1,2}[-./ ]\d{4}(?:\D.*)?|\d{1,3}(?:\.\d{1,3}){3}"
)
_OPENS = {")": "(", "]": "[", "}": "{"}


#: The header of ours that counts panicmails, in lower case.
HOPS = "x-panicmail"


def hops(field: bytes) -> int:
    """How many panicmails a mail came through, by its X-Panicmail; 0 for anything that is no small number."""
    return int(field) if re.fullmatch(rb"[0-9]{1,2}", field.strip()) else 0


def links(text: str, targets: Iterable[str] = ()) -> tuple[str, ...]:
    """Every link once: those written in `text`, then `targets`, which stand behind the text of HTML links."""
    found: dict[str, None] = {}
    for match in _LINK.finditer(text):
        found.setdefault(_trimmed(match[0]))
        if len(found) >= _MOST:
            break
    for target in targets:
        found.setdefault("".join(target.split())[:2000])
    return tuple(found)[:_MOST]


def defanged(link: str) -> str:
    """A link as people can read it and nobody can click on it."""
    return link[:200].replace("http", "hxxp", 1).replace(".", "[.]").replace("@", "[at]")


def leads_elsewhere(shown: str, target: str) -> bool:
    """Whether the text of a link names one host, and the link leads to another."""
    named, reached = _HOST.match(shown.strip()), _HOST.match(target.strip())
    if named is None or reached is None or " " in shown.strip():
        return False
    one, other = (found[1].lower().removeprefix("www.").rstrip(".") for found in (named, reached))
    return one != other and not other.endswith(f".{one}")


#: The host of what is written as a link or as the name of a host.
_HOST = re.compile(
    r"(?:https?://)?(?:[^\s/@?#]{1,200}@)?((?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}|\d{1,3}(?:\.\d{1,3}){3})"
    r"(?::\d{1,5})?(?:[/?#]|$)",
    re.I,
)


def _trimmed(link: str) -> str:
    link = link.rstrip(".,;:!?'’*_|\\…")
    spare = {closing: link.count(closing) - link.count(opening) for closing, opening in _OPENS.items()}
    end = len(link)
    while end and (spare.get(link[end - 1], 0) > 0 or (end < len(link) and link[end - 1] in ".,;:!?'’")):
        if link[end - 1] in spare:
            spare[link[end - 1]] -= 1
        end -= 1
    return link[:end]


def phones(text: str) -> tuple[str, ...]:
    """The telephone numbers in `text` as they are written, each once."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        for match in _PHONE.finditer(line[:10_000]):
            number = " ".join(match[0].split()).strip(" -./")
            if _callable(number):
                found.setdefault(number)
        if len(found) >= _MOST:
            break
    return tuple(found)[:_MOST]


def _callable(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    if not 7 <= len(digits) <= 15 or _DATE.fullmatch(number):
        return False
    if number.startswith(("+", "(+")):
        return True
    if _NORTH_AMERICAN.fullmatch(number):
        return True
    separated = bool(re.search(r"[\s()./\u2010-\u2013-]", number.strip("()")))
    return separated and number.startswith(("0", "(0"))
