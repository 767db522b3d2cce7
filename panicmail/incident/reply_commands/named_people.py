"""Whom a sentence may name: the people configured, as the grammar needs them.

A name may be a word of the grammar as well ("Will", "Mine", "Jan Gut"). Such a word is the person wherever a person
could stand; see `PeopleByName.others_at`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from panicmail.incident.people import Person
from panicmail.incident.reply_commands.lexicon import lexicon
from panicmail.incident.reply_commands.spelling import FEW, SEP, sentences

#: Never somebody's name here, whatever keys and local parts there are.
_PRONOUNS = frozenset("i it we me you he she they this that the a an".split())  # noqa: SIM905
#: Some people are called so, and no sentence does without them. The sentence of a yes has its own place for each.
SMALL_WORDS = frozenset("on in at to of my is am are be not no and or do does can".split())  # noqa: SIM905
#: How a name may end where a sentence bends it ("Janowi", "Petrovi", "Ивану", "Priyalle", "Annas"), without accents.
_ENDINGS = frozenset(
    "a e i o u y em om ie iem owi ovi ou ova s lle lta lla а е и і о у ы ю я ой ей ею ою ом ем ові еві".split()  # noqa: SIM905
)
_LONGEST_ENDING = 3
_Name = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PeopleByName:
    """What people are called, as `spelling` levels it."""

    others: frozenset[_Name] = frozenset()  #: colleagues of the writer
    own: frozenset[_Name] = frozenset()  #: the writer
    reporter: frozenset[_Name] = frozenset()
    ref: str = ""  #: of the incident that is answered, lower case
    firsts: frozenset[str] = field(default=frozenset(), init=False)  #: the words the others' names begin with
    stems: Mapping[str, str] = field(default_factory=dict, init=False, compare=False)  #: what of a name is never bent

    def __post_init__(self) -> None:
        object.__setattr__(self, "firsts", frozenset(name[0] for name in self.others))
        alone = sorted(name[0] for name in self.others if len(name) == 1 and name[0].isalpha())
        object.__setattr__(self, "stems", {stem: name for name in alone for stem in _stems(name)})

    def others_at(self, words: Sequence[str], at: int) -> int:
        """Where the name of a colleague that stands in `words` at `at` ends; `at` when none does."""
        if self.firsts & {words[at], _stem(words[at])}:
            return _longest(self.others, words, at)
        return at + 1 if self._unbent(words[at]) else at

    def other_called(self, words: Sequence[str]) -> str:
        """What a colleague is called who stands in `words`, maybe bent: "Janowi" is Jan."""
        return " ".join(words) if len(words) != 1 else self._unbent(words[0]) or words[0]

    def _unbent(self, word: str) -> str:
        """The name of a colleague that `word` bends, as Slavic and Finnish sentences do; "" where it is none, or a word
        of the grammar."""
        if word in self.firsts:
            return ""
        cuts = range(max(0, len(word) - _LONGEST_ENDING), len(word))
        name = next((self.stems[word[:at]] for at in cuts if word[:at] in self.stems and word[at:] in _ENDINGS), "")
        return name if name and not lexicon().is_spelled(word) else ""

    def own_at(self, words: Sequence[str], at: int) -> int:
        return _longest(self.own, words, at)

    def reporter_at(self, words: Sequence[str], at: int) -> int:
        """As `own_at`; in a language that bends names ("Rity", "Ritę", "Ритой") as well."""
        end = _longest(self.reporter, words, at)
        return end if end > at or not any(_is_bent(name, words[at]) for name in self.reporter) else at + 1


#: Nobody is known.
NOBODY = PeopleByName()


def names(people: Iterable[Person], writer: str = "", reporter: str = "", ref: str = "") -> PeopleByName:
    """The names of the people configured.

    Args:
        writer: The key of whoever writes; their own name in a sentence is no colleague's.
        reporter: What the reporter is called.
        ref: The incident that is answered.
    """
    own: set[_Name] = set()
    others: set[_Name] = set()
    for person in people:
        (own if person.id == writer else others).update(_called(person))
    return PeopleByName(frozenset(others), frozenset(own - others), frozenset(_of(reporter)), ref.lower())


def _called(person: Person) -> set[_Name]:
    """By key, whole name, each part of it that is not small print, and the local parts of the addresses."""
    addresses = (person.email, *person.aliases)
    called = _of(person.name) | {_spelled(text) for text in (person.id, *(a.partition("@")[0] for a in addresses))}
    return {name for name in called if _fits(name)}


def _of(name: str) -> set[_Name]:
    whole = _spelled(name)
    first_and_last = {whole[:1], whole[-1:]} if whole else set()
    return {n for n in {whole, *first_and_last, *((part,) for part in whole if len(part) > 3)} if _fits(n)}


def _spelled(text: str) -> _Name:
    return tuple(w for s in sentences(text.replace(".", " ")) for w in s.words if w not in {SEP, FEW})


def _fits(name: _Name) -> bool:
    return bool(name) and (len(name) > 1 or (name[0] not in _PRONOUNS and len(name[0]) > 1))


def _longest(known: Collection[_Name], words: Sequence[str], at: int) -> int:
    known = [name for name in known if name[0] in (words[at], _stem(words[at]))]
    return at + max((len(name) for name in known if _is_named_by(name, words[at : at + len(name)])), default=0)


def _is_named_by(name: _Name, words: Sequence[str]) -> bool:
    """Whether `words` are the name; the last one may go on behind an apostrophe ("Bo's")."""
    return len(words) == len(name) and tuple(words[:-1]) == name[:-1] and name[-1] in {words[-1], _stem(words[-1])}


def _is_bent(name: _Name, word: str) -> bool:
    kept = max(3, len(name[0]) - 1)
    return len(name) == 1 and len(name[0]) > 3 and word[:kept] == name[0][:kept] and abs(len(word) - len(name[0])) < 3


def _stems(name: str) -> Iterator[str]:
    """What of a name is never bent: all of it, and a longer one without the vowel at its end."""
    if len(name) >= 3:
        yield name
    if len(name) >= 4 and name[-1] in "aeoyаяоей":
        yield name[:-1]


def _stem(word: str) -> str:
    return word.rpartition("'")[0] or word
