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


#: These say yes by themselves, whatever friendly words follow them.
YES = (
    "ack", "acked", "acking", "acknowledge", "acknowledged", "acknowledging", "i acknowledge", "i ack",
    "on it", "i'm on it", "im on it", "i am on it", "i'm on this", "i am on this", "on this",
    "got it", "i got it", "got this", "i got this", "i've got it", "ive got it", "i have it", "i have this",
    "i've got this", "ive got this", "taking it", "taking this", "i'm taking it", "i'm taking this", "im taking this",
    "i am taking this", "i'll take it", "i'll take this", "ill take it", "ill take this", "i will take it",
    "i will take this", "looking", "looking into it", "looking into this", "looking at it", "looking at this",
    "i'm looking", "im looking", "i am looking", "i'm looking into it", "i'm looking at it", "having a look",
    "working on it", "working on this", "i'm working on it", "handling it", "handling this", "i'm handling it",
    "will handle", "i'll handle it", "i'll handle this", "on the case", "i'm here", "i'm awake",
)  # fmt: skip
#: These say yes when hardly anything else stands in the line: people also begin sentences with them.
WEAK_YES = (
    "ok", "okay", "k", "okey", "yes", "yep", "yeah", "yup", "ya", "sure", "will do", "roger", "roger that", "copy",
    "copy that", "aye", "confirmed", "confirm", "received", "understood", "y", "alright", "all right", "right",
    "👍", "✅", "👌",
)  # fmt: skip
TAKE = ("take", "mine", "it's mine", "its mine", "this is mine", "i take it", "i take this", "take over", "taking over")
YES_ALL = ("ack both", "ack all", "acknowledge all", "acknowledge both", "ack everything")
NO = (
    "no", "nope", "nah", "n", "can't", "cant", "cannot", "can not", "i can't", "i cant", "i cannot", "i can not",
    "pass", "i pass", "not me", "not mine", "unable", "i'm unable", "not available", "unavailable", "i'm unavailable",
    "i am unavailable", "i'm not available", "i am not available", "can't take it", "can't take this",
    "i can't take it", "i can't take this", "cannot take it", "cannot take this", "i cannot take this", "decline",
    "i decline", "declined", "not on call", "i'm not on call", "i am not on call", "im not on call", "wrong person",
)  # fmt: skip
#: They begin like a no and are none.
NOT_NO = ("no problem", "no problems", "no idea", "no worries", "no clue", "no doubt", "no rush", "no need", "pass on",
          "pass it", "pass this", "pass me", "pass the", "pass to", "pass along", "pass by", "no news",
          "no longer", "not yet", "no answer", "no one", "no more", "no access", "no connection")  # fmt: skip
ESCALATE = ("escalate", "escalate it", "escalate this", "please escalate", "escalating")
RESOLVE = ("resolve", "resolved", "close", "closed", "close it", "close this", "resolve it", "resolve this", "solved")

#: Friendly words that add nothing.
FILLER = frozenset(
    "thanks thank you thx ty cheers hi hello hey all team please pls now right away asap here i im i'm am it its this "  # noqa: SIM905
    "that's is will me the a and on my way be there soon immediately straight got have "
    "sir ma'am panic back logged in online up awake moment".split()
)
#: Words in a line that take a yes back, or make it somebody else's or some other time's.
DOUBT = frozenset(
    "no not nope never none cannot can't cant won't wont don't dont didn't doesn't isn't wasn't couldn't shouldn't "  # noqa: SIM905
    "unable if unless until till but however maybe perhaps later tomorrow when why who what which whose how where "
    "someone somebody anyone anybody else instead wrong false mistake except would could should whether "
    "haven't hasn't ain't asleep vacation holiday leave pto".split()
)

_HAND_OVER = re.compile(
    r"^(?:to|page|hand (?:it |this )?(?:over )?to|assign (?:it |this )?to|give (?:it |this )?to)\s+@?(\S+)$"
)
_GREETING = re.compile(r"^(?:hi|hello|hey|dear|good (?:morning|evening|night))\b[^,.!:]{0,30}[,.!:]\s*")
_LINE_LIMIT = 200


def read(text: str) -> Said:
    """What the first non-empty line of `text` (newly written words only) means."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return Said(Meaning.NOTHING, why="it was empty")
    shown = lines[0][:_LINE_LIMIT]
    if len(lines[0]) > _LINE_LIMIT:
        return Said(Meaning.NOTHING, shown, why="its first line is no answer panicmail knows")
    said = _read_line(_plain(lines[0]))
    return Said(said.meaning, shown, said.to, said.why, bare=_is_bare(said, lines))


def _is_bare(said: Said, lines: list[str]) -> bool:
    return said.meaning is not Meaning.NOTHING and len(lines) == 1 and len(lines[0].split()) <= 4


def is_thanks(text: str) -> bool:
    """A bare thank-you: nothing in it that would need anybody."""
    words = re.findall(r"[\w']+", _plain(text))
    polite = FILLER | {"so", "much", "very", "many", "great", "good", "work", "job", "perfect", "ok", "okay", "for",
                       "your", "help", "quick", "everyone", "guys", "folks", "appreciated", "appreciate",
                       "that", "was", "fast", "best", "regards"}  # fmt: skip
    return (
        0 < len(words) <= 15
        and any(w in {"thanks", "thank", "thx", "ty", "cheers"} for w in words)
        and all(w in polite for w in words)
    )


def _plain(line: str) -> str:
    """Lower case, one kind of apostrophe and blank, no markup around words."""
    folded = unicodedata.normalize("NFKC", line).casefold().replace("’", "'").replace("`", "'").replace("ʼ", "'")
    folded = re.sub(r"[*_\"“”«»‹›\[\]()<>{}~|]+", " ", folded)
    return re.sub(r"\s+", " ", folded).strip(" \t.!,;:-–—'…").strip()


def _read_line(line: str) -> Said:
    line = _GREETING.sub("", line).strip() or line
    if not line:
        return Said(Meaning.NOTHING, why="it was empty")
    if "?" in line or "\N{FULLWIDTH QUESTION MARK}" in line:
        return Said(Meaning.NOTHING, why="it asked a question")
    if handed := _HAND_OVER.match(line):
        return Said(Meaning.HAND_OVER, to=handed[1].strip(".,!:;"))
    return _by_table(line)


def _by_table(line: str) -> Said:
    for table, meaning in ((YES_ALL, Meaning.YES_ALL), (ESCALATE, Meaning.ESCALATE), (RESOLVE, Meaning.RESOLVE)):
        if _is_phrase(line, table):
            return Said(meaning)
    if _is_phrase(line, TAKE):
        return Said(Meaning.TAKE)
    no = _begins(line, NO) is not None and _begins(line, NOT_NO) is None
    yes = _begins(line, YES)
    if yes is not None:
        return _affirmed(line[len(yes) :])
    if no:
        return _denied(line)
    weak = _begins(line, WEAK_YES)
    if weak is not None:
        return _weakly_affirmed(line[len(weak) :])
    return Said(Meaning.NOTHING, why="its first line is no answer panicmail knows")


def _affirmed(rest: str) -> Said:
    """A clear yes: hers, unless the rest of the line takes it back."""
    if doubt := _words(rest) & DOUBT:
        if doubt & {"no", "not", "can't", "cant", "cannot", "nope", "won't", "wont"}:
            return Said(Meaning.NOTHING, why="it said both yes and no")
        return Said(Meaning.NOTHING, why="its first line says yes with a condition")
    return Said(Meaning.YES)


def _denied(line: str) -> Said:
    """A no: hers to say, unless a yes stands in the same line."""
    rest = line[len(_begins(line, NO) or "") :]
    if any(re.search(rf"(?<![\w']){re.escape(word)}(?![\w'])", rest) for word in (*YES, "yes", "ok", "okay", "mine")):
        return Said(Meaning.NOTHING, why="it said both yes and no")
    return Said(Meaning.NO)


def _weakly_affirmed(rest: str) -> Said:
    rest = rest.strip(" ,.!;:-–—")
    for _ in range(3):
        again = _begins(rest, (*YES, *TAKE, *WEAK_YES))
        if again is None:
            break
        if again in YES or again in TAKE:
            return _affirmed(rest[len(again) :])
        rest = rest[len(again) :].strip(" ,.!;:-–—")
    if _words(rest) & {"no", "not", "can't", "cant", "cannot", "nope", "pass"}:
        return Said(Meaning.NOTHING, why="it said both yes and no")
    if _words(rest) <= FILLER:
        return Said(Meaning.YES)
    return Said(Meaning.NOTHING, why="its first line is no answer panicmail knows")


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w']+", text))


def _is_phrase(line: str, table: tuple[str, ...]) -> bool:
    """The line is one of the phrases, with nothing but friendly words around it."""
    begun = _begins(line, table)
    return begun is not None and _words(line[len(begun) :]) <= FILLER


def _begins(line: str, table: tuple[str, ...]) -> str | None:
    """The longest phrase of `table` the line begins with, ending at a word's end."""
    hits = [p for p in table if line.startswith(p) and not re.match(r"[\w']", line[len(p) : len(p) + 1])]
    return max(hits, key=len, default=None)
