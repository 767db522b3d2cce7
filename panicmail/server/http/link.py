"""What a person sees behind their link, and the first lines that say how it stands.

Pure. The first line is the one that is read at three in the morning: who must do what by when, or that nobody need do
anything. It is made from the state at the time of looking and never from what was pressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from panicmail.incident.model import Outcome, State


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPage:
    """One incident as one person may see it. Instants are aware; they are shown in `tz`."""

    ref: str
    state: State
    person_name: str  #: whose link it is
    tz: ZoneInfo  #: theirs
    accepted_at: datetime

    subject: str  #: as the sender wrote it; "" when they wrote none
    reporter: str  #: name and address, as the mail says
    sender: str  #: what is proved of that, in words
    report: str  #: the text of the mail
    flags: tuple[str, ...] = ()  #: what is odd about the mail, in words
    severity: str = ""  #: how grave it is, and by whom; "": nobody said
    answers: tuple[tuple[int, str, str], ...] = ()  #: number, question, and the reporter's answer
    attachments: tuple[str, ...] = ()  #: file names, as the sender wrote them

    ack_by: datetime | None = None  #: open: when the next step is taken
    next_people: tuple[str, ...] = ()  #: the names of who is called then
    holder: str | None = None  #: acked: the name of who has it
    holder_since: datetime | None = None
    holder_is_reader: bool = False
    holder_how: str = ""  #: what the holder's yes rests on, in words
    resolved_by: str = ""
    resolved_at: datetime | None = None

    issue_url: str | None = None  #: None: GitLab has not answered yet
    phones: tuple[tuple[str, str], ...] = ()  #: name and number of our own people
    happened: tuple[tuple[datetime, str], ...] = ()  #: the timeline, newest last
    acts: tuple[str, ...] = ()  #: the words that make sense now, out of `link_actions.ACTS`
    undo_until: datetime | None = None  #: they may undo what they did until then; None: there is nothing to undo
    revoked: bool = False  #: the link shows and does not act

    def time(self, at: datetime) -> str:
        """The instant in their zone: "03:22 CET", with the date when it is not the day the mail came."""
        local = at.astimezone(self.tz)
        text = f"{local:%H:%M} {_zone(local)}"
        return text if local.date() == self.accepted_at.astimezone(self.tz).date() else f"{local:%a %d %b}, {text}"

    @property
    def undo_by(self) -> str:
        """To the second, for two minutes are short: "03:11:32 CET"."""
        local = self.undo_until.astimezone(self.tz) if self.undo_until else None
        return f"{local:%H:%M:%S} {_zone(local)}" if local else ""

    @property
    def accepted(self) -> str:
        local = self.accepted_at.astimezone(self.tz)
        return f"{local:%a %d %b, %H:%M} {_zone(local)}"


def headline(page: LinkPage) -> str:
    """The first line: the state, and who must do what by when."""
    if page.state is State.OPEN:
        return _running(page)
    if page.state is State.ACKED:
        return _stopped(page)
    when = f" {page.time(page.resolved_at)}" if page.resolved_at else ""
    by = f" by {page.resolved_by}" if page.resolved_by else ""
    return f"Closed{when}{by}."


def second_line(page: LinkPage) -> str:
    """What follows from the first line for who reads it."""
    if page.revoked:
        return "This link only shows: others have read it. The one that acts is in the newest mail to its owner."
    if page.state is State.OPEN:
        return "Nobody has it yet."
    if page.state is State.RESOLVED:
        return "You need do nothing. If something is still wrong, a new mail starts anew."
    if page.holder_is_reader:
        return "Show signs of work on the issue, or you are asked again."
    return "You need do nothing."


def _running(page: LinkPage) -> str:
    if page.ack_by is None:
        return "Clock running: ack now."
    start = f"Clock running: ack by {page.time(page.ack_by)}"
    others = [name for name in page.next_people if name != page.person_name]
    if others:
        return f"{start}, or {_list(others)} {'is' if len(others) == 1 else 'are'} called."
    return f"{start}, or you are called again." if page.next_people else f"{start}."


def _stopped(page: LinkPage) -> str:
    since = f" {page.time(page.holder_since)}" if page.holder_since else ""
    if page.holder_is_reader:
        return f"Clock stopped{since}: you have it."
    return f"Clock stopped{since}: {page.holder} has it." if page.holder else f"Clock stopped{since}."


def _list(names: list[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def _zone(local: datetime) -> str:
    """CET; a zone without letters ("-03") as UTC-03."""
    name = local.tzname() or "UTC"
    return f"UTC{name}" if name[0] in "+-" else name


# -- The words a person can press, and what is said afterwards.
#
# What a press came to is carried to the next page as `word.outcome`: a code that is looked up here and is worth
# nothing else. Every sentence speaks of the press and stays true when the page is loaded again hours later; how the
# incident stands now is in the page's first line.


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
