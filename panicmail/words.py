"""What the first line of an answer means: the word table.

A reply acknowledges only when its first line says yes and nothing in that line takes it back. Whatever is not
plainly one of these words is no word at all: the clock runs on and she is told what to write. So the table is short
on purpose, and doubt is always on the side of the reporter.

Pure data and pure functions. English; other languages are further rows.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum


class Meaning(StrEnum):
    """What a first line asks for."""

    YES = "yes"  #: it is mine now
    TAKE = "take"  #: mine, even if somebody else has it
    YES_ALL = "yes_all"  #: every open one I was paged for
    NO = "no"  #: not me, call the next
    ESCALATE = "escalate"  #: call the next as well
    RESOLVE = "resolve"  #: it is over
    HAND_OVER = "hand_over"  #: to the person named
    NOTHING = "nothing"  #: none of these; `Said.why` says what it was instead


@dataclass(frozen=True, slots=True)
class Said:
    """The meaning of a first line."""

    meaning: Meaning
    line: str = ""  #: the line, as she wrote it, at most 200 characters
    to: str = ""  #: of HAND_OVER: the person as she named her, lower case
    why: str = ""  #: of NOTHING: in words that follow "Why: "
    bare: bool = False  #: the whole answer is this one command and nothing more


#: These say yes by themselves, with nothing but friendly words beside them in their clause.
YES = (
    "ack", "acked", "ack'd", "acking", "acknowledge", "acknowledged", "acknowledging", "i acknowledge", "i ack",
    "on it", "i'm on it", "im on it", "i am on it", "i'm on this", "i am on this", "on this", "we're on it",
    "got it", "i got it", "got this", "i got this", "i've got it", "ive got it", "i have it", "i have this",
    "i've got this", "ive got this", "taking it", "taking this", "i'm taking it", "i'm taking this", "im taking this",
    "i am taking this", "i'll take it", "i'll take this", "ill take it", "ill take this", "i will take it",
    "i will take this", "looking", "i'm looking", "im looking", "i am looking", "having a look", "taking a look",
    "i'll have a look", "i'll look", "working on it", "working on this", "i'm working on it", "handling it",
    "handling this", "i'm handling it", "will handle", "i'll handle it", "i'll handle this", "on the case", "i'm here",
    "i'm awake", "on my way", "omw", "i'm on my way",
)  # fmt: skip
#: These say yes and may say at what: "looking into the logs now".
YES_AT = (
    "looking into", "looking at", "i'm looking into", "i'm looking at", "i am looking into", "i am looking at",
    "im looking into", "i'll look into", "i will look into", "i'll look at", "checking", "i'm checking",
    "investigating", "i'm investigating",
)  # fmt: skip
#: These say yes when hardly anything else stands in the line: people also begin sentences with them.
WEAK_YES = (
    "ok", "okay", "k", "okey", "yes", "yep", "yeah", "yup", "ya", "sure", "will do", "roger", "roger that", "copy",
    "copy that", "aye", "confirmed", "confirm", "understood", "y", "alright", "all right", "👍", "✅", "👌",
)  # fmt: skip
TAKE = ("take", "mine", "it's mine", "its mine", "this is mine", "i take it", "i take this", "take over", "taking over")
YES_ALL = ("ack both", "ack all", "acknowledge all", "acknowledge both", "ack everything")
NO = (
    "no", "nope", "nah", "n", "can't", "cant", "cannot", "can not", "i can't", "i cant", "i cannot", "i can not",
    "pass", "i pass", "not me", "not mine", "unable", "i'm unable", "not available", "unavailable", "i'm unavailable",
    "i am unavailable", "i'm not available", "i am not available", "can't take it", "can't take this", "can't do it",
    "i can't take it", "i can't take this", "cannot take it", "cannot take this", "i cannot take this", "decline",
    "i can't do it", "i can't do this", "i decline", "declined", "not on call", "i'm not on call", "i am not on call",
    "im not on call", "wrong person", "i'm off", "i am off",
)  # fmt: skip
ESCALATE = ("escalate", "escalate it", "escalate this", "please escalate", "escalating")
RESOLVE = ("resolve", "resolved", "close", "closed", "close it", "close this", "resolve it", "resolve this", "solved")

#: Friendly words that add nothing.
FILLER = frozenset(
    "thanks thank you thx ty cheers hi hello hey all team please pls now right asap here i im i'm am it its this "  # noqa: SIM905
    "that's is will me the a and on my way be there soon immediately straight got have "
    "sir ma'am panic logged in online up awake moment".split()
)
#: What may follow a no in its own clause.
NO_FILLER = frozenset(
    "sorry thanks thank you please now right today tonight i it this at the moment unfortunately one".split()  # noqa: SIM905
)
#: Words in a line that take a yes back, or make it somebody else's or some other time's.
DOUBT = frozenset(
    "no not nope never none cannot can't cant won't wont don't dont didn't doesn't isn't wasn't couldn't shouldn't "  # noqa: SIM905
    "unable if unless until till but however maybe perhaps later tomorrow why who what which whose how where "
    "someone somebody anyone anybody else instead wrong false mistake error except would could should whether "
    "haven't hasn't ain't asleep vacation holiday leave pto away off forward forwarding forwarded handing passing "
    "monday tuesday wednesday thursday friday saturday sunday next week".split()
)
#: A later clause that hands it to somebody: "Bo has it", "Bo is on it", "call Max".
_SOMEBODY_ELSE = re.compile(
    r"\b(?:has|have|had|takes|took|gets) (?:it|this)\b"
    r"|\b(?:he|she|they|\w+) (?:is|are) (?:on|taking|handling|looking|working)\b"
    r"|^(?:please )?(?:call|page|ask|try|contact|ping|tell|remove|stop)\b"
)
_POLITE_CLAUSE = re.compile(r"^(?:thanks|thank you|thx|no problem|no worries|sorry|good morning|good evening|morning)$")
_NO_TIME = re.compile(r"\b(?:until|till|before|for the next)\b.*$")
_CLAUSES = re.compile(r" ?(?:[,;:.!…]+| [-–—]+ |—) ?")
_HAND_OVER = re.compile(
    r"^(?:to|page|hand (?:it |this )?(?:over )?to|assign (?:it |this )?to|give (?:it |this )?to) @?(\S+(?: \S+)?)$"
)
_GREETING = re.compile(r"^(?:hi|hello|hey|dear|good (?:morning|evening|night)|morning)(?: [\w'-]+){0,2}$")
_LINE_LIMIT = 200


def read(text: str) -> Said:
    """What the first line of `text` (newly written words only) means. A line of greeting alone is passed over."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return Said(Meaning.NOTHING, why="it was empty")
    if len(lines) > 1 and _GREETING.match(_plain(lines[0])):
        lines = lines[1:]
    shown = lines[0][:_LINE_LIMIT]
    if len(lines[0]) > _LINE_LIMIT or lines[0].startswith((">", "|")):
        return Said(Meaning.NOTHING, shown, why=_UNKNOWN)
    said = _read_line(_plain(lines[0]))
    return Said(said.meaning, shown, said.to, said.why, bare=_is_bare(said, lines))


def _is_bare(said: Said, lines: list[str]) -> bool:
    return said.meaning is not Meaning.NOTHING and len(lines) == 1 and len(lines[0].split()) <= 4


def is_thanks(text: str) -> bool:
    """A bare thank-you: nothing in it that would need anybody."""
    words = re.findall(r"[\w']+", _plain(text))
    thanking = {"thanks", "thank", "thx", "ty", "cheers"}
    return "?" not in text and 0 < len(words) <= 15 and bool(thanking & set(words)) and set(words) <= _THANKS


_THANKS = frozenset(
    "thanks thank thx ty cheers you so much very many a lot great good work job perfect ok okay for your help the "  # noqa: SIM905
    "quick everyone guys folks team all appreciated appreciate that was fast best regards really kind again".split()
)
_UNKNOWN = "its first line is no answer panicmail knows"


def _plain(line: str) -> str:
    """Lower case, one kind of apostrophe and blank, no markup around words."""
    folded = unicodedata.normalize("NFKC", line).casefold().replace("’", "'").replace("`", "'").replace("ʼ", "'")
    folded = re.sub(r"[*_\"“”«»‹›\[\]()<>{}~|]+", " ", folded)
    return re.sub(r"\s+", " ", folded).strip(" \t.!,;:-–—'…").strip()


def _read_line(line: str) -> Said:
    if not line:
        return Said(Meaning.NOTHING, why="it was empty")
    if "?" in line or "\N{FULLWIDTH QUESTION MARK}" in line:
        return Said(Meaning.NOTHING, why="it asked a question")
    clauses = [clause for clause in _CLAUSES.split(line) if clause]
    while len(clauses) > 1 and (_POLITE_CLAUSE.match(clauses[0]) or _GREETING.match(clauses[0])):
        clauses.pop(0)
    if not clauses:
        return Said(Meaning.NOTHING, why=_UNKNOWN)
    if handed := _HAND_OVER.match(clauses[0].removesuffix(" please")):
        return Said(Meaning.HAND_OVER, to=handed[1].strip())
    return _by_table(clauses[0], clauses[1:])


def _by_table(first: str, rest: list[str]) -> Said:
    whole = " ".join([first, *rest])
    for table, meaning in (
        (YES_ALL, Meaning.YES_ALL),
        (ESCALATE, Meaning.ESCALATE),
        (RESOLVE, Meaning.RESOLVE),
        (TAKE, Meaning.TAKE),
    ):
        if _is_phrase(whole, table, FILLER):
            return Said(meaning)
    if _says_no(first):
        return _denied(rest)
    if _says_yes(first):
        return _affirmed(rest)
    if _is_phrase(first, WEAK_YES, FILLER):
        return _weakly_affirmed(rest)
    return _weak_then_strong(first, rest)


def _says_yes(clause: str) -> bool:
    """A yes with friendly words, or a yes at something: "looking into the logs"."""
    if _is_phrase(clause, (*YES, *TAKE), FILLER):
        return True
    at = _begins(clause, YES_AT)
    return at is not None and len(clause.split()) <= 8 and not _doubts(clause[len(at) :]) and "?" not in clause


def _says_no(clause: str) -> bool:
    return _is_phrase(_NO_TIME.sub("", clause).strip(), NO, NO_FILLER)


def _affirmed(rest: list[str]) -> Said:
    """A clear yes: hers, unless the rest of the line takes it back or gives it away."""
    rest = [clause for clause in rest if not _POLITE_CLAUSE.match(clause)]
    if any(_says_no(clause) for clause in rest) or set(_words(" ".join(rest))) & _NEGATIONS:
        return Said(Meaning.NOTHING, why="it said both yes and no")
    if any(_doubts(clause) for clause in rest):
        return Said(Meaning.NOTHING, why="its first line says yes with a condition")
    return Said(Meaning.YES)


def _denied(rest: list[str]) -> Said:
    """A no: hers to say, unless a yes stands in the same line."""
    if any(_says_yes(clause) or _is_phrase(clause, WEAK_YES, FILLER) or _ends_in_yes(clause) for clause in rest):
        return Said(Meaning.NOTHING, why="it said both yes and no")
    return Said(Meaning.NO)


def _weakly_affirmed(rest: list[str]) -> Said:
    if any(_says_no(clause) for clause in rest):
        return Said(Meaning.NOTHING, why="it said both yes and no")
    for number, clause in enumerate(rest):
        if _says_yes(clause):
            return _affirmed(rest[number + 1 :])
        if not (_is_phrase(clause, WEAK_YES, FILLER) or set(_words(clause)) <= FILLER):
            return Said(Meaning.NOTHING, why=_UNKNOWN)
    return Said(Meaning.YES)


def _weak_then_strong(first: str, rest: list[str]) -> Said:
    """ "ok on it", "yes I can't", "yes no", "I can't ack": two answers in one clause."""
    weak = _begins(first, WEAK_YES)
    after = first[len(weak) :].strip() if weak else ""
    if after and _says_yes(after):
        return _affirmed(rest)
    if (after and _says_no(after)) or (_begins(first, NO) is not None and _ends_in_yes(first)):
        return Said(Meaning.NOTHING, why="it said both yes and no")
    if _begins(first, YES) is not None and set(_words(first)) & _NEGATIONS:
        return Said(Meaning.NOTHING, why="it said both yes and no")
    if _begins(first, YES) is not None and _doubts(first):
        return Said(Meaning.NOTHING, why="its first line says yes with a condition")
    return Said(Meaning.NOTHING, why=_UNKNOWN)


_NEGATIONS = frozenset({"no", "not", "nope", "can't", "cant", "cannot", "won't", "wont", "don't", "dont"})


def _ends_in_yes(clause: str) -> bool:
    words = (*YES, "yes", "ok", "okay", "mine")
    return any(re.search(rf"(?<![\w']){re.escape(word)}(?![\w'])", clause) for word in words)


def _doubts(clause: str) -> bool:
    return bool(set(_words(clause)) & DOUBT) or _SOMEBODY_ELSE.search(clause.strip()) is not None


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text)


def _is_phrase(line: str, table: tuple[str, ...], filler: frozenset[str]) -> bool:
    """The clause is one of the phrases, with nothing but `filler` after it."""
    begun = [p for p in table if _starts(line, p)]
    return any(set(_words(line[len(p) :])) <= filler and not _doubts_in(line[len(p) :], filler) for p in begun)


def _doubts_in(text: str, filler: frozenset[str]) -> bool:
    return bool(set(_words(text)) & (DOUBT - filler))


def _starts(line: str, phrase: str) -> bool:
    return line.startswith(phrase) and not re.match(r"[\w']", line[len(phrase) : len(phrase) + 1])


def _begins(line: str, table: tuple[str, ...]) -> str | None:
    """The longest phrase of `table` the line begins with, ending at a word's end."""
    return max((p for p in table if _starts(line, p)), key=len, default=None)
