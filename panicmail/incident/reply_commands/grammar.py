"""The sentence of a command, and what in a further sentence takes a yes back.

    yes     =  clause {pause clause}          at least one of which says yes
    clause  =  phrase {phrase}                all of one language, and of what every language has

Every word of the sentence belongs to a phrase, or the sentence is no yes. A no and the commands that may give a reason
are read from their beginning alone: whatever follows the pause is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from panicmail.incident.reply_commands.lexicon import Kind, Language, Sign, lexicon
from panicmail.incident.reply_commands.named_people import NOBODY, SMALL_WORDS, PeopleByName
from panicmail.incident.reply_commands.spelling import FEW, SEP, Sentence

#: What somebody writes about themselves is short; a sentence as long as this one that does not say "I" is a footer.
_FOOTER = 13
#: A question of so few words may be about the yes itself: "really?", "or Bo?".
_LITTLE = 3
#: No sentence that is understood whole is longer, in words; in Japanese a word is one sign.
LONGEST = 100
_SAYS_YES = frozenset({Kind.ACK, Kind.YES, Kind.TAKE, Kind.ALL, Kind.ASSENT, Kind.APART, Kind.COMING})
_COMMANDS = _SAYS_YES - {Kind.COMING}
_NO = frozenset({Kind.NO, Kind.NOT_NOW})
_ASSENTS = frozenset({Kind.ASSENT, Kind.APART})
_FRIENDLY = frozenset({Kind.FRIENDLY, Kind.THANKS, Kind.FILLER, Kind.OPENS})
#: Phrases that say nothing about who has it, whoever is called like a word of them.
_SAYS_NOTHING = frozenset({Kind.REPORT, Kind.TIME, Kind.AFTER, Kind.FRIENDLY, Kind.THANKS})
_BESIDE = _SAYS_NOTHING | _FRIENDLY | {Kind.OBJECT}
_MAY_STAND = _SAYS_YES | _BESIDE | {Kind.SELF}
#: What "I" and "the incident" belong to: a thing done, not an "ok".
_DONE = frozenset({Kind.ACK, Kind.YES, Kind.TAKE, Kind.ALL, Kind.COMING, Kind.REPORT})
_BEFORE_A_NAME = frozenset(
    {SEP, "to", "for", "by", "with", "and", "an", "a", "aan", "over", "till", "do", "para", "pro"}
)


@dataclass(frozen=True, slots=True)
class Step:
    """A phrase of a sentence that was understood."""

    kind: Kind
    start: int
    end: int


# -- yes -------------------------------------------------------------------------------------------


@lru_cache(512)  # what a sentence is gets asked from several sides
def steps_of(sentence: Sentence, names: PeopleByName) -> tuple[Step, ...] | None:
    """The phrases the whole sentence is made of; None when a word of it is of none."""
    words = sentence.words
    if len(words) > LONGEST:
        return None
    steps: tuple[Step, ...] = ()
    for start, end in _clauses(words):
        found = _clause(words, start, end, names)
        if found is None:
            return None
        steps += found
    return steps


def _clauses(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = 0
    for at, word in enumerate([*words, SEP]):
        if word == SEP:
            if at > start:
                yield start, at
            start = at + 1


def _clause(words: Sequence[str], start: int, end: int, names: PeopleByName) -> tuple[Step, ...] | None:
    """The phrases of one clause; None where they are not understood.

    "Hi" without a pause behind it may stand before any language; other greetings are names elsewhere ("Ola tar det").
    """
    found = _clause_in_one(words, start, end, names)
    if found is None:
        phrases = lexicon().anybodys.phrases.at(words[:end], start)
        for past in sorted({to for to, kind in phrases if kind is Kind.FRIENDLY and to < end}):
            rest = _clause_in_one(words, past, end, names)
            if rest is not None and says_yes(rest):
                return (Step(Kind.FRIENDLY, start, past), *rest)
    return found


def _clause_in_one(words: Sequence[str], start: int, end: int, names: PeopleByName) -> tuple[Step, ...] | None:
    """The phrases of one clause, read in the language that says a yes in the fewest; None where none reads it, or
    where it is a no in another language.

    Where it is a thank-you in another ("tak"), it is one.
    """
    known = lexicon()
    readings = [
        steps
        for language in known.having(words[start:end])
        if (steps := _read_in(language, words, start, end, names)) is not None and _hangs_together(steps)
    ]
    if not readings or any(kind in _NO and to == end for to, kind in known.phrases_at(words, start)):
        return None
    friendly = [steps for steps in readings if any(step.kind is Kind.THANKS for step in steps) and not says_yes(steps)]
    return min(friendly or readings, key=_weight)


def _weight(steps: Sequence[Step]) -> tuple[bool, int]:
    return not says_yes(steps), len(steps)


def _hangs_together(steps: Sequence[Step]) -> bool:
    """Whether "I" and "it" have something that is done, and "in 10 min" something that can wait so long."""
    kinds = {step.kind for step in steps}
    if kinds & {Kind.SELF, Kind.OBJECT} and not kinds & _DONE:
        return False
    asks = any(two.kind is Kind.SELF and one.kind in _COMMANDS for one, two in pairwise(steps))
    if asks and steps[-1].kind is Kind.OBJECT:
        return False  # "tar jag det": it asks
    said = kinds & _SAYS_YES
    return not (Kind.AFTER in kinds and said and said <= {Kind.ACK, Kind.ALL, *_ASSENTS})


def _read_in(
    language: Language, words: Sequence[str], start: int, end: int, names: PeopleByName
) -> tuple[Step, ...] | None:
    """The clause from `start` to `end` in one language.

    Of several ways the one that says a yes in the fewest phrases wins, and none is taken that could name a colleague.
    """
    clause = words[:end]
    ways: list[tuple[Step, ...] | None] = [None] * (end + 1)
    ways[start] = ()
    for at in range(start, end):
        so_far = ways[at]
        if so_far is None:
            continue
        for step in _next(language, clause, at, so_far, names):
            way = (*so_far, step)
            before = ways[step.end]
            ways[step.end] = way if before is None else min(before, way, key=_weight)
    return ways[end]


def _next(
    language: Language, words: Sequence[str], at: int, before: tuple[Step, ...], names: PeopleByName
) -> Iterator[Step]:
    is_small = words[at] in SMALL_WORDS and language.name in {"any", "en"}
    named_to = at if is_small else names.others_at(words, at)
    for end, kind in lexicon().phrases_in(language, words, at):
        for step in _whole(language, words, Step(kind, at, end), names):
            if _may_follow(language, words, step, before) and (
                named_to == at or not _names_somebody(words, step, named_to)
            ):
                yield step
    own = names.own_at(words, at)
    if own > at:
        heres = {end for end, kind in _phrases(language, words, own) if kind is Kind.HERE}
        yield from (Step(Kind.FILLER, at, end) for end in (own, *heres) if _ends_clause(words, end))
    if names.ref and words[at] == names.ref:
        yield Step(Kind.FILLER, at, at + 1)


def _phrases(language: Language, words: Sequence[str], at: int) -> Iterable[tuple[int, Kind]]:
    return lexicon().phrases_in(language, words, at) if at < len(words) else ()


def _whole(language: Language, words: Sequence[str], step: Step, names: PeopleByName) -> Iterator[Step]:
    """A phrase with what it needs behind it: whom to contact, who is greeted, or who writes."""
    if step.kind is Kind.CONTACT:
        if step.end < len(words):
            ends = {end for end, kind in _phrases(language, words, step.end) if kind is Kind.WHOM}
            ends |= {names.reporter_at(words, step.end)} - {step.end}
            yield from (Step(Kind.REPORT, step.start, end) for end in ends)
    elif step.kind is Kind.ADDRESS:
        yield from _greeting(words, step, names)
    elif step.kind is Kind.INTRO:
        own = names.own_at(words, step.end) if step.end < len(words) else step.end
        if own > step.end:
            yield Step(Kind.FRIENDLY, step.start, own)
    else:
        yield step


def _greeting(words: Sequence[str], step: Step, names: PeopleByName) -> Iterator[Step]:
    """A greeting with a name behind it: one of ours, or up to two words that nothing here knows."""
    at = step.end
    if at >= len(words) or words[at] == SEP:
        return
    ends = {names.others_at(words, at), names.own_at(words, at), names.reporter_at(words, at)} - {at}
    known = lexicon()
    named = range(at, min(at + 3, len(words)))
    unknown = next((n for n in named if words[n] == SEP or known.is_known(words[n]) or _begins(words, n)), None)
    ends |= {end for end in (at + 1, at + 2) if end <= len(words) and (unknown is None or end <= unknown)}
    yield from (Step(Kind.FRIENDLY, step.start, end) for end in ends if _ends_clause(words, end))


def _begins(words: Sequence[str], at: int) -> bool:
    """Whether a phrase of several words begins at `at`: in Chinese a word is one sign, and known alone to nobody."""
    return words[at] >= "\u3040" and next(lexicon().phrases_at(words, at), None) is not None


def _ends_clause(words: Sequence[str], at: int) -> bool:
    return at == len(words) or words[at] == SEP


def _may_follow(language: Language, words: Sequence[str], step: Step, before: tuple[Step, ...]) -> bool:
    last = before[-1] if before else None
    is_word = any(map(str.isalnum, words[step.start]))
    if last is not None and last.kind is Kind.TAKE and last.end == step.start and step.kind in _SAYS_YES and is_word:
        return False  # "mine will take it": whoever is called so
    if language.whole and _breaks_line(step, before):
        return False
    if last is not None and last.kind is Kind.SELF and last.end == step.start and step.kind is Kind.SELF:
        return False  # "am I": it asks
    if step.kind is Kind.OPENS:
        return step.start == 0 or words[step.start - 1] == SEP or (last is not None and last.kind is Kind.OPENS)
    if step.kind is Kind.APART:
        return _ends_clause(words, step.end)
    if step.kind is Kind.HAND_END:  # "rufe Rita an"
        return any(each.kind is Kind.REPORT for each in before)
    return step.kind in _MAY_STAND


def _breaks_line(step: Step, before: tuple[Step, ...]) -> bool:
    """Whether, in a language without a grammar, more than an "ok" stands beside a command in one clause."""
    beside = _DONE | {Kind.FRIENDLY, Kind.THANKS}
    return step.kind in beside and any(each.kind in beside for each in before)


def _names_somebody(words: Sequence[str], step: Step, named_to: int) -> bool:
    """Whether a phrase that begins with a colleague's name may mean the colleague.

    It does not where it is the whole sentence or stands before a pause at its beginning ("Ok, on it"), nor where it
    says nothing about who has it ("will report back").
    """
    if step.kind in _SAYS_NOTHING:
        return False
    if step.start > 0 or not _ends_clause(words, step.end):
        return True
    return not (step.kind in _ASSENTS | {Kind.OPENS} or (step.end == named_to == len(words)))


def says_yes(steps: Sequence[Step]) -> bool:
    return any(step.kind in _SAYS_YES for step in steps)


def is_alone(sentence: Sentence, steps: Sequence[Step]) -> bool:
    """Whether the sentence is one command and no friendly word more."""
    return len(steps) == 1 and steps[0].kind in _COMMANDS and steps[0].end - steps[0].start == len(sentence.words)


def is_friendly(sentence: Sentence, names: PeopleByName) -> bool:
    """Nothing but greeting, thanks and the writer's own name."""
    steps = steps_of(sentence, names)
    return steps is not None and not sentence.asks and all(step.kind in _FRIENDLY for step in steps)


def is_thanks(said: Sequence[Sentence], names: PeopleByName) -> bool:
    """Nothing but friendly words, an "ok" and names, and a thank-you among them."""
    if any(sentence.asks for sentence in said):
        return False
    steps: list[Step] = []
    for sentence in said:
        for start, end in _clauses(sentence.words):
            clause = Sentence(sentence.words[start:end])
            found = steps_of(clause, names)
            if found is None and not _is_name(clause, names):
                return False
            steps += found or ()
    thanks = any(
        kind is Kind.THANKS
        for each in said
        for at in range(len(each))
        for _end, kind in lexicon().phrases_at(each.words, at)
    )
    return thanks and {step.kind for step in steps} <= {*_FRIENDLY, *_ASSENTS}


def _is_name(sentence: Sentence, names: PeopleByName) -> bool:
    words = sentence.words
    return bool(words) and len(words) in {at(words, 0) for at in (names.own_at, names.reporter_at, names.others_at)}


def asks_status(sentence: Sentence, names: PeopleByName) -> bool:
    """Whether it asks what is open, friendly words apart."""
    words, asked = sentence.words, False
    for start, end in _clauses(words):
        if any(kind is Kind.STATUS and to == end for to, kind in lexicon().phrases_at(words[:end], start)):
            asked = True
        elif not is_friendly(Sentence(words[start:end]), names):
            return False
    return asked


def severity_said(sentence: Sentence) -> tuple[int | None, Sentence]:
    """The severity that a clause of the sentence says and nothing else, and the sentence without that clause."""
    words = sentence.words[:LONGEST]
    for start, end in _clauses(words) if not sentence.asks else ():
        if any(kind is Kind.SEVERITY and to == end for to, kind in lexicon().phrases_at(words[:end], start)):
            level = next(word[-1] for word in reversed(words[start:end]) if word[-1].isdecimal())
            before, after = words[: max(0, start - 1)], words[end + 1 :]
            return int(level), Sentence((*before, *([SEP] if before and after else []), *after))
    return None, sentence


def severities(said: Iterable[Sentence]) -> set[str]:
    """Every severity that is named anywhere in them."""
    return {word for each in said for word in each.words if word[:-1] == "sev" and word[-1] in "1234"}


def is_reaction(sentence: Sentence) -> bool:
    """Whether a mail program tells in it of a tap on a smiley."""
    words = sentence.words[:LONGEST]
    return any(kind is Kind.REACTION for at in range(len(words)) for _end, kind in lexicon().phrases_at(words, at))


def begins_with_yes(sentence: Sentence) -> bool:
    words = sentence.words
    start = next((at for at, word in enumerate(words) if word != SEP), 0)
    kinds = {kind for _end, kind in lexicon().phrases_at(words, start)}
    return bool(kinds & _SAYS_YES) and not kinds & _NO


# -- no, escalate, resolve -------------------------------------------------------------------------


def _ends_of(sentence: Sentence, *kinds: Kind) -> Iterator[tuple[int, Language]]:
    """Where in each language the longest phrase of `kinds` ends that the sentence begins with; "I" and friendly words
    are passed over."""
    words = sentence.words[:LONGEST]
    for language in lexicon().all():
        starts = [0]
        for start in starts:
            found = list(_phrases(language, words, start))
            if ends := [end for end, kind in found if kind in kinds]:
                yield max(ends), language
                break
            passed = {end for end, kind in found if kind in _FRIENDLY or kind is Kind.SELF}
            if start < len(words) and words[start] == SEP:
                passed.add(start + 1)
            starts += sorted(passed - set(starts))


def _first(sentence: Sentence, *kinds: Kind) -> int | None:
    return max((end for end, _language in _ends_of(sentence, *kinds)), default=None)


def _goes_on(sentence: Sentence, *kinds: Kind, how: Kind) -> int | None:
    """Where a phrase of `kinds` at the sentence's beginning ends, when it is over there: by a pause, or by how a reason
    begins."""
    ends = []
    for end, language in _ends_of(sentence, *kinds):
        then = {kind for _end, kind in _phrases(language, sentence.words, end)}
        if _ends_clause(sentence.words, end) or then & {how, Kind.TIME, Kind.AFTER, Kind.SELF, *_FRIENDLY, *_NO}:
            ends.append(end)
    return max(ends, default=None)


def says_no(sentence: Sentence) -> bool:
    return _goes_on(sentence, *_NO, how=Kind.NO_GO_ON) is not None


def is_all_no(sentence: Sentence) -> bool:
    """Whether every word is of a no, of when, or friendly."""
    words = sentence.words
    ends = {0}
    for at in range(len(words)):
        if at in ends:
            found = {(at + 1, Kind.NO)} if words[at] == SEP else set(lexicon().phrases_at(words, at))
            ends |= {end for end, kind in found if kind in {*_NO, Kind.TIME, *_FRIENDLY}}
    return len(words) in ends


def is_bare_no(sentence: Sentence) -> bool:
    """The word or phrase of a no, and when; no reason, no friendly word, nothing that says much else as well."""
    words = sentence.words
    found = set(lexicon().phrases_at(words, 0))
    ends = {end for end, kind in found if kind is Kind.NO}
    times = {e for end in ends for e, kind in lexicon().phrases_at(words, end) if kind is Kind.TIME}
    return len(words) in ends | times and (len(words), Kind.NOT_NOW) not in found


def says_yes_too(sentence: Sentence, names: PeopleByName) -> bool:
    """Whether behind the no with which the sentence begins, in a clause of it, stands a yes."""
    words = sentence.words[_first(sentence, *_NO) or 0 :]
    said = (steps_of(Sentence(words[start:end]), names) for start, end in _clauses(words))
    return any(steps is not None and says_yes(steps) for steps in said)


def reason_after(sentence: Sentence, kind: Kind, names: PeopleByName) -> bool | None:
    """Whether more than a friendly word follows `kind` at the sentence's beginning; None when that is not there."""
    end = _goes_on(sentence, kind, how=Kind.BECAUSE)
    if end is None or sentence.asks:
        return None
    rest = sentence.words[end:]
    after = next((at for at, word in enumerate(rest) if word != SEP), len(rest))
    signs = {sign for found in lexicon().signs_in(rest) for at, sign in found if at == after}
    if signs & {Sign.CONDITION, Sign.DEFER}:
        return None
    return not is_friendly(Sentence(rest[after:]), names)


def hands_to(sentence: Sentence, names: PeopleByName) -> str | None:
    """The name in "to NAME"; None when the sentence is something else."""
    words = sentence.words
    start = _greeted_to(words)
    known = lexicon()
    ends = {end for end, kind in known.phrases_at(words, start) if kind is Kind.HAND} if start < len(words) else set()
    for end in sorted(ends - {len(words)}, reverse=True):
        for last in _before_the_end(words, end):
            to = words[end:last]
            ours = names.others_at(words, end) == last
            if to and SEP not in to and (ours or (len(to) <= 2 and _may_be_called(to, names, words[start:end]))):
                return names.other_called(to) if ours else " ".join(to)
    return None


def _greeted_to(words: Sequence[str]) -> int:
    """Where the first clause that is not merely friendly begins."""
    for start, end in _clauses(words):
        steps = _clause(words, start, end, NOBODY)
        if steps is None or not all(step.kind in _FRIENDLY for step in steps):
            return start
    return len(words)


def _before_the_end(words: Sequence[str], start: int) -> Iterator[int]:
    """Where a name behind `start` may end: at the end of the sentence, or before what may stand there."""
    yield len(words)
    for at in range(start + 1, len(words)):
        here = at + (words[at] == SEP)
        if any(kind is Kind.HAND_END and end == len(words) for end, kind in lexicon().phrases_at(words, here)):
            yield at


def _may_be_called(to: Sequence[str], names: PeopleByName, before: Sequence[str]) -> bool:
    """Whether somebody nobody here knows may be called so. Behind a word that is much else ("a las 9") nobody is."""
    is_plain = before in {("to",), ("page",)}
    is_short = all(len(word) <= 2 for word in before)  # such as "an", which is an article elsewhere
    if not is_plain and len(before) <= 2 and (is_short or names != NOBODY):
        return False
    if any(names.others_at(to, at) > at for at in range(len(to))):
        return False
    languages = ("any", "en") if is_plain else ()
    return not any(word == FEW or word.isdecimal() or lexicon().is_known(word, *languages) for word in to)


def is_only(sentence: Sentence, kind: Kind) -> bool:
    return _first(sentence, kind) == len(sentence.words)


def is_ours(name: str, names: PeopleByName) -> bool:
    """Whether somebody of ours is called so; where nobody is known, anybody may be."""
    words = name.split()
    return names == NOBODY or len(words) in {names.others_at(words, 0), names.own_at(words, 0)}


# -- what takes a yes back -------------------------------------------------------------------------


def takes_back(sentence: Sentence, names: PeopleByName, *, near: bool = False) -> Sign | None:
    """What in a further sentence takes the yes before it back; None when it is context.

    Args:
        near: It stands in the paragraph of the yes. There whatever asks is about the yes, unless it begins as a
            question about the matter ("what is her number?"), and so is what trails off.
    """
    doubts = any(_is_hedge(sentence.words[start:end], names) for start, end in _clauses(sentence.words))
    if steps_of(sentence, names) is not None and not sentence.asks:
        return Sign.CONDITION if doubts else None
    if _names_other(sentence, names):
        return Sign.NOBODY
    if says_no(sentence):
        return Sign.NEGATION
    if reason_after(sentence, Kind.ESCALATE, names) is not None or hands_to(sentence, names) is not None:
        return Sign.NOBODY
    if near and (sentence.trails or (sentence.asks and not _asks_about_the_matter(sentence))):
        doubts = True
    if near and any(_ends_in_no(sentence.words[start:end]) for start, end in _clauses(sentence.words)):
        return Sign.NEGATION
    against = (_sign_against(sentence, signs) for signs in lexicon().signs_in(sentence.words))
    return next((sign for sign in against if sign is not None), Sign.CONDITION if doubts else None)


def is_hedged(sentence: Sentence, steps: Sequence[Step], names: PeopleByName) -> bool:
    """Whether a yes of these phrases has a doubt behind it, and no yes behind that: "ok, hmm", "ok a ver"."""
    ends = [end for _start, end in _clauses(sentence.words)]
    return any(
        _is_hedge(sentence.words[step.start : next(end for end in ends if end > step.start)], names)
        for number, step in enumerate(steps)
        if number and not says_yes(steps[number + 1 :])
    )


def _is_hedge(clause: Sequence[str], names: PeopleByName) -> bool:
    """Whether it is a doubt and, at most, a "but" before and a friendly word behind it."""
    known = lexicon()
    start = 1 if len(clause) > 1 and any(sign is Sign.BEGINS for at, sign in known.openings(clause)) else 0
    return any(
        known.is_hedge(clause[begin:end]) and (end == len(clause) or is_friendly(Sentence(tuple(clause[end:])), names))
        for begin in {0, start}
        for end in range(len(clause), begin, -1)
    )


def _ends_in_no(clause: Sequence[str]) -> bool:
    """Whether it is a no with a word or two before it, and a friendly one behind: "al final no", "toch niet 🙏"."""
    known = lexicon()
    ends = {end for at in range(len(clause)) for end, kind in known.phrases_at(clause, at) if kind is Kind.NO}
    signs = (each for found in known.signs_in(clause) for each in found)
    ends |= {at + 1 for at, sign in signs if sign is Sign.NEGATION}
    return any(end <= _LITTLE + 1 and _little_follows(clause, end) for end in ends)


def _asks_about_the_matter(sentence: Sentence) -> bool:
    signs = [sign for found in lexicon().signs_in(sentence.words) for sign in found]
    return (0, Sign.ASKS_WHAT) in signs and not any(sign is Sign.ME for _at, sign in signs)


def _sign_against(sentence: Sentence, signs: Sequence[tuple[int, Sign]]) -> Sign | None:
    words = sentence.words
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
    if Sign.DEFER in at_start:
        return Sign.DEFER
    about_me = Sign.ME in found
    if len(words) >= _FOOTER and not about_me:
        return None
    if Sign.OTHER_SUBJECT in at_start and not about_me:
        return None
    negations = [at for at, sign in signs if sign is Sign.NEGATION]
    if negations and (
        about_me or at_start & {Sign.BEGINS, Sign.NEGATION} or len(words) <= _LITTLE or _is_last(words, signs)
    ):
        return Sign.NEGATION
    if found & {Sign.DEFER, Sign.ABSENT}:
        return Sign.DEFER
    if any(sign is Sign.CONDITION and (at <= first or (says_i is not None and says_i < at)) for at, sign in signs):
        return Sign.CONDITION
    doubts = about_me or (len(words) <= _LITTLE and Sign.ASKS_WHAT not in at_start)
    return Sign.CONDITION if sentence.asks and doubts else None


def _is_last(words: Sequence[str], signs: Sequence[tuple[int, Sign]]) -> bool:
    return any(sign is Sign.NEGATION and at >= len(words) - 1 for at, sign in signs)


def _names_other(sentence: Sentence, names: PeopleByName) -> bool:
    """Whether it names a colleague otherwise than as somebody the writer speaks to, or calls besides."""
    words, at = sentence.words, 0
    begun = 1 if any(sign is Sign.BEGINS for _at, sign in lexicon().openings(words)) else 0
    while at < len(words):
        if (own := names.own_at(words, at)) > at:
            at = own
            continue
        end = names.others_at(words, at)
        if end > at and (at == begun or _may_be_a_person(words, at, end)) and not _is_contacted(words, at, end):
            return True
        at = max(end, at + 1)
    return False


def _may_be_a_person(words: Sequence[str], at: int, end: int) -> bool:
    """A name that is a word of the grammar as well is a person where a clause begins or ends, or behind a "to"."""
    if end - at > 1 or not (lexicon().is_known(words[at]) or words[at] in SMALL_WORDS):
        return True
    return at == 0 or words[at - 1] in _BEFORE_A_NAME or _little_follows(words, end)


def _is_contacted(words: Sequence[str], at: int, end: int) -> bool:
    """ "Calling Bo now": a phrase of contact stands right before the name, begins the clause, and nothing but a time
    or a friendly word follows."""
    starts = [start for start in range(max(0, at - LONGEST), at) if start == 0 or words[start - 1] == SEP]
    before = any(e == at and kind is Kind.CONTACT for start in starts for e, kind in lexicon().phrases_at(words, start))
    return before and _little_follows(words, end)


def _little_follows(words: Sequence[str], at: int) -> bool:
    """Whether the clause ends at `at`, or behind times and friendly words."""
    ends = [at]
    for end in ends:
        if _ends_clause(words, end):
            return True
        found = {e for e, kind in lexicon().phrases_at(words, end) if kind in {Kind.TIME, Kind.AFTER, *_FRIENDLY}}
        ends += sorted(found - set(ends))
    return False
