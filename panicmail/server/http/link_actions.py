"""The words a person can press, and what is said afterwards.

What a press came to is carried to the next page as `word.outcome`: a code that is looked up here and is worth nothing
else. Every sentence speaks of the press and stays true when the page is loaded again hours later; how the incident
stands now is in the page's first line.
"""

from __future__ import annotations

from dataclasses import dataclass

from panicmail.incident.model import Outcome


@dataclass(frozen=True, slots=True)
class LinkAction:
    """One button."""

    word: str  #: what is posted
    label: str  #: what it says in bold: the same words a mail would take
    meaning: str  #: what happens


#: In the order they are shown.
ACTS = (
    LinkAction("ack", "Ack", "I have it. Stop the clock."),
    LinkAction("take", "Take", "I take it over."),
    LinkAction("no", "No", "Not me. Call the next one."),
    LinkAction("escalate", "Escalate", "Call more people now."),
    LinkAction("resolve", "Resolve", "It is over. Close it."),
    LinkAction("quiet", "Quiet", "The reporter's mailbox is not theirs any more. Send it nothing."),
    LinkAction("quiet_off", "Quiet off", "The reporter's mailbox is theirs. Send it mail again."),
)
#: Shown by itself, after the press it takes back. What No and Escalate did, calling people, cannot be.
UNDO = LinkAction("undo", "Undo:", "it was not me")
WORDS = (*(act.word for act in ACTS), UNDO.word)

_RECORDED = {
    ("ack", Outcome.DONE): "Recorded: you acknowledged.",
    ("ack", Outcome.ALREADY): "It was acknowledged before you pressed. The first line says who has it.",
    ("take", Outcome.DONE): "Recorded: you took it over.",
    ("take", Outcome.ALREADY): "You had it already.",
    ("no", Outcome.DONE): "Recorded: not you. The next person is called; that cannot be undone.",
    ("no", Outcome.NOTED): "Recorded: not you. Somebody else had it, so nothing else changed.",
    ("no", Outcome.NOBODY_LEFT): "Recorded: not you. Nobody is left to call; those paged are called again and again.",
    ("escalate", Outcome.DONE): "Recorded: you asked for help. More people are called; that cannot be undone.",
    ("escalate", Outcome.NOBODY_LEFT): "Recorded. Nobody is left to call; those paged are called again and again.",
    ("resolve", Outcome.DONE): "Recorded: you closed it.",
    ("resolve", Outcome.HOW_TO_CLOSE): "Recorded: you acknowledged. It is not closed yet: press Resolve to close it.",
    ("quiet", Outcome.DONE): "Recorded: the reporter's address gets no more mail about this. Quiet off takes it back.",
    ("quiet_off", Outcome.DONE): "Recorded: the reporter's address gets mail about this again.",
    ("undo", Outcome.DONE): "Recorded: it was not you. It is undone, and the others are told.",
    ("undo", Outcome.ALREADY): "There was nothing of yours to undo any more. The first line says how it stands.",
    ("undo", Outcome.NOTED): "Too late to undo: two minutes had passed. Nothing changed. Not you? Press No.",
}
_CLOSED = "It was closed before you pressed. Nothing changed."
_OTHERWISE = "Your word is kept as a note. The first line says how it stands."


def code(word: str, outcome: Outcome) -> str:
    return f"{word}.{outcome}"


def recorded(code: str) -> str | None:
    """The sentence of a code from `code`; None for anything else."""
    word, _, outcome = code.partition(".")
    if word not in WORDS or outcome not in {known.value for known in Outcome}:
        return None
    closed = outcome == Outcome.CLOSED
    return _CLOSED if closed else _RECORDED.get((word, Outcome(outcome)), _OTHERWISE)
