"""What the first line of an answer means.

A yes stops the clock, so it is read strictly: every word of its sentence must be of the grammar (`grammar`), whose
phrases are data by language (`languages/*.toml`). Anything else is a question back and the clock runs on; doubt is
always on the side of the reporter. Further sentences and lines are context, unless one of them negates, doubts, defers,
or names somebody else as the one who has it; in the paragraph of the yes none may ask or trail off either. A no, and
the reason behind "resolve" or "escalate", may be anything.

Pure functions over data that comes with panicmail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from panicmail.incident.reply_commands import grammar
from panicmail.incident.reply_commands.grammar import Step
from panicmail.incident.reply_commands.lexicon import Kind, Sign, lexicon
from panicmail.incident.reply_commands.named_people import NOBODY, PeopleByName, names
from panicmail.incident.reply_commands.spelling import FEW, SEP, Sentence, levelled, sentences

__all__ = ["Command", "PeopleByName", "ReplyCommand", "is_thanks", "names", "read"]


class Command(StrEnum):
    """What a first line asks for."""

    YES = "yes"  #: it is mine now
    TAKE = "take"  #: mine, even if somebody else has it
    YES_ALL = "yes_all"  #: every open one I was paged for
    NO = "no"  #: not me, call the next
    ESCALATE = "escalate"  #: call the next as well
    RESOLVE = "resolve"  #: it is over
    HAND_OVER = "hand_over"  #: to the person named
    SEVERITY = "severity"  #: how grave it is: `ReplyCommand.severity`
    STATUS = "status"  #: what is open, whose, and by when
    QUIET = "quiet"  #: no more mail to the reporter's address; another one may be named
    QUIET_OFF = "quiet_off"  #: mail to it again
    NOTHING = "nothing"  #: none of these; `ReplyCommand.why` says what it was instead


@dataclass(frozen=True, slots=True)
class ReplyCommand:
    """The meaning of a first line."""

    meaning: Command
    line: str = ""  #: the line, as it was written, at most 200 characters
    to: str = ""  #: of HAND_OVER: the person as they were named; of QUIET: an address or ""; lower case
    why: str = ""  #: of NOTHING: in words that follow "Why: "
    asks: bool = False  #: of NOTHING: it asks something, or may have meant a yes; either way it is asked back
    severity: int | None = None  #: 1 to 4: of SEVERITY, and what stands beside another command
    bare: bool = False  #: the whole answer is this one command, friendly words apart
    alone: bool = False  #: the whole answer is this one command and not a word more

    @property
    def name(self) -> str:
        """The meaning, with what is asked back told from what means nothing."""
        return "question" if self.asks else self.meaning.value

    @property
    def acts(self) -> bool:
        return self.meaning not in {Command.NOTHING, Command.STATUS}


_LINE_LIMIT = 200
#: So many lines of greeting are passed over.
_GREETINGS = 5
_QUOTES = frozenset('"“”„«»‹›「」『』')
_EMPTY = "it was empty"
_ASKED = "it asked a question"
_BOTH = "it said both yes and no"
_CONDITION = "it says yes with a condition, or for later"
_SOMEBODY = "it says yes, and names somebody else"
_MORE = "it says yes, and more in that sentence than panicmail understands"
_LONG = "it says yes, and more below than panicmail reads"
_NEARLY = "its first line is one letter off a command"
_REACTED = "it is a reaction of a mail program, and a tap on a smiley is no command"
_TWO_LEVELS = "it names two severities"
_UNKNOWN = "its first line is no answer panicmail knows"
_AGAINST = {Sign.NEGATION: _BOTH, Sign.NOBODY: _SOMEBODY}
#: Whys of what is asked back, since a yes may have been meant.
_UNSURE = frozenset({_ASKED, _BOTH, _CONDITION, _SOMEBODY, _MORE, _LONG, _NEARLY})
#: What may stand beside the address in "quiet, write to x@example.org instead, please".
_WRITE_INSTEAD = frozenset({"please", "pls", "write", "to", "instead"})
#: So many sentences below a yes are looked at for what takes it back.
_MOST_BELOW = 300
#: No sentence with a slip of the thumb in it is longer, in words, to be taken for a command.
_MOST_TYPED = 6
#: Words this short are one letter off too much.
_SHORTEST = 3


def _nothing(why: str, line: str = "") -> ReplyCommand:
    return ReplyCommand(Command.NOTHING, line, why=why, asks=why in _UNSURE)


def read(text: str, known: PeopleByName = NOBODY) -> ReplyCommand:
    """What the first line of `text` (newly written words only) means. Greetings before it are passed over.

    Args:
        known: What the people configured are called.
    """
    filled = [(at, line.strip()) for at, line in enumerate(text.splitlines()) if levelled(line).strip()]
    lines = [line for _at, line in filled]
    if not lines:
        return _nothing(_EMPTY)
    below = lines[_GREETINGS + 1 :]
    spoken = [sentences(line) for line in lines[: _GREETINGS + 1]]
    first = next((n for n, line in enumerate(spoken) if not _is_greeting(line, known)), 0)
    shown = lines[first][:_LINE_LIMIT]
    if lines[first].startswith((">", "|")) or _mentions(lines[first]):
        return _nothing(_UNKNOWN, shown)
    answer = [sentence for line in spoken[first:] for sentence in line]
    answer += (sentence for line in below[:_MOST_BELOW] for sentence in sentences(line))
    if any(grammar.is_reaction(sentence) for sentence in answer[:_GREETINGS]):
        return _nothing(_REACTED, shown)
    if (quiet := _quiet(shown, alone=len(lines) == 1)) is not None:
        return quiet
    start = next((n for n, s in enumerate(answer) if not grammar.is_friendly(s, known)), 0)
    begins_at = filled[first][0] - first
    paragraph = sum(len(line) for n, line in enumerate(spoken) if n >= first and filled[n][0] - n == begins_at)
    rest = _Rest.of(answer[start + 1 : paragraph], answer[max(paragraph, start + 1) :], known)
    said = _understand_answer(answer[start] if answer[start:] else None, rest, known, whole=first == 0 and start == 0)
    return replace(said, line=shown)


@dataclass(frozen=True, slots=True)
class _Rest:
    """The sentences behind the first one, signatures apart: `near` are those of its paragraph, `far` the others."""

    near: Sequence[Sentence]
    far: Sequence[Sentence]

    @classmethod
    def of(cls, near: Sequence[Sentence], far: Sequence[Sentence], known: PeopleByName) -> _Rest:
        return cls(
            [s for s in near if not _is_signature(s, known)],
            [s for s in far if not _is_signature(s, known)],
        )

    def __iter__(self) -> Iterator[Sentence]:
        yield from self.near
        yield from self.far

    def __len__(self) -> int:
        return len(self.near) + len(self.far)


def _quiet(line: str, *, alone: bool) -> ReplyCommand | None:
    """What a line asks for that says "quiet", and nothing else but where to write instead; None: another one."""
    first, *words = line.lower().replace(",", " ").replace(":", " ").replace("<", " ").replace(">", " ").split() or [""]
    if first.rstrip(".!") != "quiet":
        return None
    words = [word.rstrip(".!") for word in words]
    named = [word for word in words if "@" in word]
    if words == ["off"]:
        return ReplyCommand(Command.QUIET_OFF, line, bare=alone, alone=alone)
    if len(named) > 1 or not {*words, *_WRITE_INSTEAD} - {*named} <= _WRITE_INSTEAD:
        return None
    return ReplyCommand(Command.QUIET, line, to="".join(named), bare=alone, alone=alone)


def _mentions(line: str) -> bool:
    """Whether the line begins with something in quotation marks and goes on: there a command is named, not given, as in
    a piece of a mail of ours."""
    line = line.lstrip("([ ")
    if not line.startswith(tuple(_QUOTES)):
        return False
    closed = next((at for at in range(1, len(line)) if line[at] in _QUOTES), len(line))
    return any(sign.isalnum() for sign in line[closed:])


def _is_greeting(line: Sequence[Sentence], known: PeopleByName) -> bool:
    return all(grammar.is_friendly(sentence, known) for sentence in line)


def _understand_answer(first: Sentence | None, rest: _Rest, known: PeopleByName, *, whole: bool) -> ReplyCommand:
    """What an answer of these sentences means. `whole`: nothing was passed over before them."""
    if not first:
        return _nothing(_EMPTY)
    level, left = grammar.severity_said(first)
    if level is not None:
        named = grammar.severities([first, *[*rest][:_GREETINGS]])
        return _nothing(_TWO_LEVELS) if len(named) > 1 else _graded(level, left, rest, known)
    if grammar.asks_status(first, known):
        return ReplyCommand(Command.STATUS, bare=not rest, alone=not rest)
    if first.asks:
        return _nothing(_ASKED)
    if len(" ".join(first.words)) > _LINE_LIMIT:
        return _nothing(_UNKNOWN)
    said = _commanded(first, rest, known)
    over = not rest and said.meaning is not Command.NOTHING
    if said.meaning is not Command.NOTHING:
        said = replace(
            said,
            severity=next((n for n, left in map(grammar.severity_said, [*rest][:_GREETINGS]) if n and not left), None),
        )
    bare = over or (said.bare and all(grammar.is_friendly(s, known) for s in rest))
    return replace(said, bare=said.bare and bare, alone=said.alone and over and whole)


def _graded(level: int, left: Sentence, rest: _Rest, known: PeopleByName) -> ReplyCommand:
    """What an answer means whose first sentence says how grave it is. `left`: what else that sentence says."""
    others = [(n, s) for n, s in enumerate(rest) if not grammar.is_friendly(s, known)]
    if not left and not others:
        return ReplyCommand(Command.SEVERITY, severity=level, bare=True, alone=not len(rest))
    if not left:
        at, left = others[0]
        near = len(rest.near)
        rest = _Rest(rest.near[at + 1 :], rest.far) if at < near else _Rest(rest.far[at - near + 1 :], ())
    said = _understand_answer(left, rest, known, whole=False)
    if said.meaning in {Command.NOTHING, Command.STATUS}:
        return ReplyCommand(Command.SEVERITY, severity=level)
    return replace(said, severity=level)


def _is_signature(sentence: Sentence, known: PeopleByName) -> bool:
    return 0 < known.own_at(sentence.words, 0) == len(sentence.words) if sentence.words else False


def _commanded(first: Sentence, rest: _Rest, known: PeopleByName) -> ReplyCommand:
    steps, to = grammar.steps_of(first, known), grammar.hands_to(first, known)
    ours = to is not None and grammar.is_ours(to, known)
    is_else = (steps is not None and grammar.says_yes(steps)) or grammar.says_no(first)
    if to is not None and (not is_else or (ours and known != NOBODY)):
        return ReplyCommand(Command.HAND_OVER, to=to, bare=ours, alone=ours)
    if steps is not None and grammar.says_yes(steps):
        return _affirmed(first, steps, rest, known)
    for kind, meaning in ((Kind.ESCALATE, Command.ESCALATE), (Kind.RESOLVE, Command.RESOLVE)):
        reason = grammar.reason_after(first, kind, known)
        if reason is not None:
            return ReplyCommand(meaning, bare=not reason, alone=grammar.is_only(first, kind))
    if grammar.says_no(first):
        if grammar.begins_with_yes(first) or grammar.says_yes_too(first, known) or any(_is_yes(s, known) for s in rest):
            return _nothing(_BOTH)
        return ReplyCommand(Command.NO, bare=grammar.is_all_no(first), alone=grammar.is_bare_no(first))
    return _nothing(_why(first, known))


def _is_yes(sentence: Sentence, known: PeopleByName) -> bool:
    steps = grammar.steps_of(sentence, known)
    return steps is not None and not sentence.asks and grammar.says_yes(steps)


def _affirmed(first: Sentence, steps: Sequence[Step], rest: _Rest, known: PeopleByName) -> ReplyCommand:
    """A yes, unless a further sentence takes it back."""
    if len(rest) > _MOST_BELOW:
        return _nothing(_LONG)
    if grammar.is_hedged(first, steps, known):
        return _nothing(_CONDITION)
    for number, sentence in enumerate(rest):
        against = grammar.takes_back(sentence, known, near=number < len(rest.near))
        if against is not None:
            return _nothing(_AGAINST.get(against, _CONDITION))
    kinds = {step.kind for step in steps}
    meaning = Command.YES_ALL if Kind.ALL in kinds else Command.TAKE if Kind.TAKE in kinds else Command.YES
    return ReplyCommand(meaning, bare=True, alone=grammar.is_alone(first, steps))


def _why(sentence: Sentence, known: PeopleByName) -> str:
    """Why a sentence that is no command is none."""
    if _is_nearly(sentence.words, known):
        return _NEARLY
    if not grammar.begins_with_yes(sentence):
        return _UNKNOWN
    against = grammar.takes_back(sentence, known)
    return _MORE if against is None else _AGAINST.get(against, _CONDITION)


def _is_nearly(words: Sequence[str], known: PeopleByName) -> bool:
    """Whether the sentence is a yes or another command but for one letter of one word: missing, wrong, too many, or two
    swapped."""
    one = len(words) == 1
    strange = [at for at, word in enumerate(words) if not (lexicon().is_known(word) if one else _may_stand(word))]
    if len(words) > _MOST_TYPED or len(strange) != 1 or known.others_at(words, strange[0]) > strange[0]:
        return False
    at, word = strange[0], words[strange[0]]
    if not _SHORTEST <= len(word) <= _LINE_LIMIT // 10:
        return False
    if one:
        return any(_differs_by_one(word, each) for each in lexicon().commands)
    return any(_is_yes(Sentence((*words[:at], meant, *words[at + 1 :])), known) for meant in _meant_by(word))


@lru_cache(256)
def _meant_by(word: str) -> list[str]:
    return [each for each in lexicon().spelled(len(word)) if _differs_by_one(word, each)]


def _may_stand(word: str) -> bool:
    return lexicon().is_known(word) or word in (SEP, FEW) or lexicon().is_spelled(word)


def _differs_by_one(one: str, other: str) -> bool:
    at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[at:], other[at:]
    return a[1:] in (b, b[1:]) or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def is_thanks(text: str, known: PeopleByName = NOBODY) -> bool:
    """A bare thank-you, in any of the languages: nothing in it that would need anybody."""
    said = [sentence for line in text.splitlines() for sentence in sentences(line)]
    return len(said) <= _GREETINGS + 3 and grammar.is_thanks(said, known)
