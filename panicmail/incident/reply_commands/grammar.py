"""The sentence of a command, and what in a further sentence takes a yes back.

    yes   =  [friendly] yes {[pause] more}
    more  =  yes | coming | reporting back | time | friendly

Every word of the sentence belongs to one of these phrases, or the sentence is no yes. A no and the commands that may
give a reason are read from their beginning alone: whatever follows the pause is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from panicmail.incident.reply_commands.lexicon import Kind, Sign, lexicon
from panicmail.incident.reply_commands.named_people import NOBODY, SMALL_WORDS, PeopleByName
from panicmail.incident.reply_commands.spelling import SEP, Sentence

#: What somebody writes about themselves is short; a sentence as long as this one that does not say "I" is a footer.
_FOOTER = 13
#: No sentence that is understood whole is longer, in words; in Japanese a word is one sign.
LONGEST = 100
_SAYS_YES = frozenset({Kind.ACK, Kind.YES, Kind.TAKE, Kind.ALL, Kind.ASSENT, Kind.APART, Kind.COMING})
_COMMANDS = _SAYS_YES - {Kind.COMING}
_NO = frozenset({Kind.NO, Kind.NOT_NOW})
_ASSENTS = frozenset({Kind.ASSENT, Kind.APART})
_BEFORE_A_NAME = frozenset({SEP, "to", "for", "by", "with", "and", "an", "a", "aan", "over"})
#: What may follow the writer's own name: "Ana here".
_HERE = frozenset({"here", "hier", "ici", "aqui", "qui"})


@dataclass(frozen=True, slots=True)
class Step:
    """A phrase of a sentence that was understood."""

    kind: Kind
    start: int
    end: int


# -- yes -------------------------------------------------------------------------------------------


def steps_of(sentence: Sentence, names: PeopleByName) -> tuple[Step, ...] | None:
    """The phrases the whole sentence is made of; None when a word of it is of none.

    Of several ways to understand it the one that says the most commands wins, and none is taken that could name a
    colleague.
    """
    words = sentence.words
    if len(words) > LONGEST:
        return None
    ways: list[tuple[Step, ...] | None] = [None] * (len(words) + 1)
    ways[0] = ()
    for at in range(len(words)):
        so_far = ways[at]
        if so_far is None:
            continue
        if words[at] == SEP:
            ways[at + 1] = _better(ways[at + 1], so_far)
            continue
        for step in _next(words, at, so_far, names):
            ways[step.end] = _better(ways[step.end], (*so_far, step))
    return ways[-1]


def _better(one: tuple[Step, ...] | None, other: tuple[Step, ...]) -> tuple[Step, ...]:
    """The way of fewer phrases that says a yes, if either does."""
    if one is None:
        return other
    return min(one, other, key=lambda steps: (not any(s.kind in _SAYS_YES for s in steps), len(steps)))


def _next(words: Sequence[str], at: int, before: tuple[Step, ...], names: PeopleByName) -> Iterator[Step]:
    named_to = at if words[at] in SMALL_WORDS else names.others_at(words, at)
    for end, kind in lexicon().phrases.at(words, at):
        for step in _whole(words, Step(kind, at, end), names):
            if _may_follow(words, step, before) and (named_to == at or not _names_somebody(words, step, named_to)):
                yield step
    own = names.own_at(words, at)
    for end in (own, own + 1) if own > at else ():
        if (end == own or (words[own:end] and words[own] in _HERE)) and _ends_clause(words, end):
            yield Step(Kind.FRIENDLY, at, end)
    if names.ref and words[at] == names.ref:
        yield Step(Kind.FRIENDLY, at, at + 1)


def _whole(words: Sequence[str], step: Step, names: PeopleByName) -> Iterator[Step]:
    """A phrase with what it needs behind it: whom to contact, or who is greeted."""
    if step.kind is Kind.CONTACT:
        if step.end < len(words):
            ends = {end for end, kind in lexicon().phrases.at(words, step.end) if kind is Kind.WHOM}
            ends |= {names.reporter_at(words, step.end)} - {step.end}
            yield from (Step(Kind.REPORT, step.start, end) for end in ends)
    elif step.kind is Kind.ADDRESS:
        yield from _greeting(words, step, names)
    else:
        yield step


def _greeting(words: Sequence[str], step: Step, names: PeopleByName) -> Iterator[Step]:
    """A greeting with a name behind it: one of ours, or up to two words that nothing here knows."""
    at = step.end
    if at >= len(words) or words[at] == SEP:
        return
    ends = {names.others_at(words, at), names.own_at(words, at), names.reporter_at(words, at)} - {at}
    unknown = next((n for n in range(at, min(at + 3, len(words))) if words[n] == SEP or _is_known(words[n])), None)
    ends |= {end for end in (at + 1, at + 2) if end <= len(words) and (unknown is None or end <= unknown)}
    yield from (Step(Kind.FRIENDLY, step.start, end) for end in ends if _ends_clause(words, end))


def _is_known(word: str) -> bool:
    known = lexicon()
    return any(True for _ in known.phrases.at([word], 0)) or any(True for _ in known.signs.at([word], 0))


def _ends_clause(words: Sequence[str], at: int) -> bool:
    return at == len(words) or words[at] == SEP


def _may_follow(words: Sequence[str], step: Step, before: tuple[Step, ...]) -> bool:
    last = before[-1] if before else None
    if last is not None and last.kind is Kind.TAKE and last.end == step.start and step.kind in _SAYS_YES:
        return False  # "mine will take it": whoever is called so
    match step.kind:
        case Kind.TIME | Kind.AFTER:
            if last is None or last.kind in {Kind.FRIENDLY, Kind.TIME, Kind.AFTER}:
                return False
            return step.kind is Kind.TIME or last.kind not in {Kind.ACK, *_ASSENTS} or last.end < step.start
        case Kind.APART:
            return _ends_clause(words, step.end)
        case Kind.ACK | Kind.YES | Kind.TAKE | Kind.ALL | Kind.ASSENT | Kind.COMING | Kind.REPORT | Kind.FRIENDLY:
            return True
        case _:
            return False


def _names_somebody(words: Sequence[str], step: Step, named_to: int) -> bool:
    """Whether a phrase that begins with a colleague's name may mean the colleague.

    It does not where it is the whole sentence or stands before a pause at its beginning ("Ok, on it"), nor where it
    says nothing about who has it ("will report back").
    """
    if step.kind in {Kind.REPORT, Kind.FRIENDLY, Kind.TIME, Kind.AFTER}:
        return False
    if step.start > 0 or not _ends_clause(words, step.end):
        return True
    return not (step.kind in _ASSENTS or (step.end == named_to == len(words)))


def says_yes(steps: Sequence[Step]) -> bool:
    return any(step.kind in _SAYS_YES for step in steps)


def is_alone(sentence: Sentence, steps: Sequence[Step]) -> bool:
    """Whether the sentence is one command and no friendly word more."""
    return len(steps) == 1 and steps[0].kind in _COMMANDS and steps[0].end - steps[0].start == len(sentence.words)


def is_friendly(sentence: Sentence, names: PeopleByName) -> bool:
    """Nothing but greeting, thanks and the writer's own name."""
    steps = steps_of(sentence, names)
    return steps is not None and not sentence.asks and all(step.kind is Kind.FRIENDLY for step in steps)


def begins_with_yes(sentence: Sentence) -> bool:
    words = sentence.words
    start = next((at for at, word in enumerate(words) if word != SEP), 0)
    return bool(words) and any(kind in _SAYS_YES for _end, kind in lexicon().phrases.at(words, start))


# -- no, escalate, resolve -------------------------------------------------------------------------


def _first(sentence: Sentence, *kinds: Kind) -> int | None:
    """Where the longest phrase of `kinds` ends that the sentence begins with, friendly words passed over."""
    words = sentence.words[:LONGEST]
    starts = [0]
    for start in starts:
        if start >= len(words):
            break
        found = list(lexicon().phrases.at(words, start))
        if ends := [end for end, k in found if k in kinds]:
            return max(ends)
        passed = {end for end, k in found if k is Kind.FRIENDLY}
        if words[start] == SEP:
            passed.add(start + 1)
        starts += sorted(passed - set(starts))
    return None


def _goes_on(sentence: Sentence, end: int, how: Kind) -> bool:
    """Whether a phrase that ends at `end` is over there: by a pause, or by how a reason begins."""
    words = sentence.words
    if _ends_clause(words, end):
        return True
    kinds = {kind for _end, kind in lexicon().phrases.at(words, end)}
    return bool(kinds & {how, Kind.TIME, Kind.AFTER, Kind.FRIENDLY, *_NO})


def says_no(sentence: Sentence) -> bool:
    end = _first(sentence, *_NO)
    return end is not None and _goes_on(sentence, end, Kind.NO_GO_ON)


def is_all_no(sentence: Sentence) -> bool:
    """Whether every word is of a no, of when, or friendly."""
    words = sentence.words
    ends = {0}
    for at in range(len(words)):
        if at in ends:
            found = {(at + 1, Kind.NO)} if words[at] == SEP else set(lexicon().phrases.at(words, at))
            ends |= {end for end, kind in found if kind in {*_NO, Kind.TIME, Kind.FRIENDLY}}
    return len(words) in ends


def is_bare_no(sentence: Sentence) -> bool:
    """The word or phrase of a no, and when; no reason, no friendly word."""
    words = sentence.words
    ends = {end for end, kind in lexicon().phrases.at(words, 0) if kind is Kind.NO} if words else set()
    times = {e for end in ends if end < len(words) for e, k in lexicon().phrases.at(words, end) if k is Kind.TIME}
    return len(words) in ends | times


def says_yes_too(sentence: Sentence, names: PeopleByName) -> bool:
    """Whether behind the no with which the sentence begins, in a clause of it, stands a yes."""
    clauses = _clauses(Sentence(sentence.words[_first(sentence, *_NO) or 0 :]))
    said = (steps_of(Sentence(clause), names) for clause in clauses)
    return any(steps is not None and says_yes(steps) for steps in said)


def _clauses(sentence: Sentence) -> list[tuple[str, ...]]:
    text = list(sentence.words)
    clauses: list[tuple[str, ...]] = []
    while SEP in text:
        cut = text.index(SEP)
        clauses.append(tuple(text[:cut]))
        text = text[cut + 1 :]
    return [*clauses, tuple(text)]


def reason_after(sentence: Sentence, kind: Kind, names: PeopleByName) -> bool | None:
    """Whether more than a friendly word follows `kind` at the sentence's beginning; None when that is not there."""
    end = _first(sentence, kind)
    if end is None or sentence.asks or not _goes_on(sentence, end, Kind.BECAUSE):
        return None
    rest = sentence.words[end:]
    after = next((at for at, word in enumerate(rest) if word != SEP), len(rest))
    if after < len(rest) and {s for _end, s in lexicon().signs.at(rest, after)} & {Sign.CONDITION, Sign.DEFER}:
        return None
    return not is_friendly(Sentence(rest[after:]), names)


def hands_to(sentence: Sentence, names: PeopleByName) -> str | None:
    """The name in "to NAME"; None when the sentence is something else."""
    words = sentence.words
    while words and words[-1] in {"please", "now"}:
        words = words[:-1]
    ends = {end for end, kind in lexicon().phrases.at(words, 0) if kind is Kind.HAND} if words else set()
    for end in sorted(ends, reverse=True):
        to = words[end:]
        if to and SEP not in to and (len(to) <= 2 or names.others_at(words, end) == len(words)):
            return " ".join(to)
    return None


def is_only(sentence: Sentence, kind: Kind) -> bool:
    return _first(sentence, kind) == len(sentence.words)


def is_ours(name: str, names: PeopleByName) -> bool:
    """Whether somebody of ours is called so; where nobody is known, anybody may be."""
    words = name.split()
    return names == NOBODY or len(words) in {names.others_at(words, 0), names.own_at(words, 0)}


# -- what takes a yes back -------------------------------------------------------------------------


def takes_back(sentence: Sentence, names: PeopleByName) -> Sign | None:
    """What in a further sentence takes the yes before it back; None when it is context."""
    steps = steps_of(sentence, names)
    if steps is not None and not sentence.asks:
        return None
    if _names_other(sentence, names):
        return Sign.NOBODY
    if says_no(sentence):
        return Sign.NEGATION
    if reason_after(sentence, Kind.ESCALATE, names) is not None or hands_to(sentence, names) is not None:
        return Sign.NOBODY
    return _sign_against(sentence)


def _sign_against(sentence: Sentence) -> Sign | None:
    words = sentence.words
    signs = [(at, sign) for at in range(len(words)) for _end, sign in lexicon().signs.at(words, at)]
    found = {sign for _at, sign in signs}
    at_start = {sign for at, sign in signs if at == 0}
    says_i = next((at for at, sign in signs if sign is Sign.I), None)
    first = 1 if Sign.BEGINS in at_start else 0  # "but", "and"
    if Sign.NOBODY in found or any(sign is Sign.ORDERS and at <= first for at, sign in signs):
        return Sign.NOBODY
    if any(sign is Sign.WORDS and at > 0 and (at - 1) != says_i for at, sign in signs):
        return Sign.NOBODY
    if Sign.REFUSAL in found:
        return Sign.NEGATION
    about_me = Sign.ME in found
    if len(words) >= _FOOTER and not about_me:
        return None
    if Sign.OTHER_SUBJECT in at_start and not about_me:
        return None
    negations = [at for at, sign in signs if sign is Sign.NEGATION]
    if negations and (about_me or at_start & {Sign.BEGINS, Sign.NEGATION} or len(words) <= 3 or _is_last(words, signs)):
        return Sign.NEGATION
    if found & {Sign.DEFER, Sign.ABSENT}:
        return Sign.DEFER
    if any(sign is Sign.CONDITION and (at <= first or (says_i is not None and says_i < at)) for at, sign in signs):
        return Sign.CONDITION
    return Sign.CONDITION if sentence.asks and (about_me or len(words) <= 3) else None


def _is_last(words: Sequence[str], signs: Sequence[tuple[int, Sign]]) -> bool:
    return any(sign is Sign.NEGATION and at >= len(words) - 1 for at, sign in signs)


def _names_other(sentence: Sentence, names: PeopleByName) -> bool:
    """Whether it names a colleague otherwise than as somebody the writer speaks to, or calls besides."""
    words, at = sentence.words, 0
    while at < len(words):
        if (own := names.own_at(words, at)) > at:
            at = own
            continue
        end = names.others_at(words, at)
        if end > at and _may_be_a_person(words, at, end) and not _is_contacted(words, at, end):
            return True
        at = max(end, at + 1)
    return False


def _may_be_a_person(words: Sequence[str], at: int, end: int) -> bool:
    """A name that is a word of the grammar as well is a person where a clause begins or ends, or behind a "to"."""
    if end - at > 1 or not (_is_known(words[at]) or words[at] in SMALL_WORDS):
        return True
    return at == 0 or words[at - 1] in _BEFORE_A_NAME or _little_follows(words, end)


def _is_contacted(words: Sequence[str], at: int, end: int) -> bool:
    """ "Calling Bo now": a phrase of contact stands right before the name, begins the clause, and nothing but a time
    or a friendly word follows."""
    starts = [start for start in range(max(0, at - LONGEST), at) if start == 0 or words[start - 1] == SEP]
    before = any(e == at and kind is Kind.CONTACT for start in starts for e, kind in lexicon().phrases.at(words, start))
    return before and _little_follows(words, end)


def _little_follows(words: Sequence[str], at: int) -> bool:
    """Whether the clause ends at `at`, or behind times and friendly words."""
    ends = [at]
    for end in ends:
        if _ends_clause(words, end):
            return True
        found = {e for e, kind in lexicon().phrases.at(words, end) if kind in {Kind.TIME, Kind.AFTER, Kind.FRIENDLY}}
        ends += sorted(found - set(ends))
    return False
