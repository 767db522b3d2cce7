"""Whom a text names: "On call: Ana Reyes", "ana", "ana@example.com".

A person is named by address, alias, full name or key, in any case, as whole words: "ana" is not in "Anaïs",
"banana" or "ana@elsewhere.example". Within a longer text the key does not count before another word that is written
like a surname and is not part of the name: "Max Muster" is not Max Ode.

Whoever is named in a text counts, so a person's key should not be a word people write in calendars.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from panicmail.incident.people import Person, by_address

#: What may not stand beside a name: it would be part of another word or of an address.
_BEFORE, _AFTER = r"(?<![\w@+.\-])", r"(?![\w@+\-]|\.\w)"

#: What follows a name as rotas write it, and looks like a surname.
_DUTIES = (" on-call", " on call", " oncall")


class NameMatcher:
    """The people, and what calls them."""

    def __init__(self, people: Mapping[str, Person]) -> None:
        self._people = people
        self._calls = [(person, call, _pattern(call)) for person in people.values() for call in _calls(person)]

    def in_text(self, text: str) -> tuple[str, ...]:
        """The keys of everybody a text names, in the order of the text; () when it names nobody we know."""
        said = plain(text)
        found = [
            (match.start(), person.id)
            for person, call, pattern in self._calls
            for match in pattern.finditer(said)
            if not (_is_one_word(call) and _is_somebody_else(person, said[match.end() :]))
        ]
        return tuple(dict.fromkeys(person for _, person in sorted(found)))

    def with_address(self, address: str) -> str | None:
        """The key of the person with this mail address."""
        person = by_address(self._people, address.strip())
        return person.id if person else None


def plain(text: str) -> str:
    """A text on one line, its characters composed one way, without control characters."""
    composed = unicodedata.normalize("NFKC", text)
    return " ".join("".join(c if c.isprintable() else " " for c in composed).split())


def _calls(person: Person) -> tuple[str, ...]:
    return tuple(dict.fromkeys(call for call in (person.email, *person.aliases, person.name, person.id) if call))


def _pattern(call: str) -> re.Pattern[str]:
    return re.compile(f"{_BEFORE}{re.escape(plain(call))}{_AFTER}", re.IGNORECASE)


def _is_one_word(call: str) -> bool:
    return "@" not in call and " " not in call


def _is_somebody_else(person: Person, rest: str) -> bool:
    """Whether the text goes on with a surname that is not theirs: "Max Muster", not "Max On-Call"."""
    if rest.lower().startswith(_DUTIES):
        return False
    surname = re.match(r" (\w+)", rest)
    if surname is None or not surname[1].istitle():
        return False
    return surname[1].lower() not in plain(person.name).lower().split()
