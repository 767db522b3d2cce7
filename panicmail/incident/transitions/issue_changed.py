"""Somebody changes what every issue of ours has: that it is confidential, an incident, and labelled.

Confidentiality is put back once for each incident; taken off again it stands, for a person wants it so. Type and labels
are told alone. Whoever has the incident, or everybody paged, hears of each change once, and the operators when the
report was open to others. Nothing is done once the incident is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.transitions.resolve import concerned
from panicmail.incident.transitions.undo import TimelineEntry

#: The line of the timeline that keeps what an issue lacks.
ISSUE_ALTERED = "issue.altered"


class PutBack(Enum):
    """How far putting confidentiality back has come."""

    NEVER = auto()
    UNDER_WAY = auto()  #: or it failed, which the operators know
    DONE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An issue as it was seen."""

    is_exposed: bool  #: it is not confidential
    by: str = "somebody in GitLab"  #: who made it so: a person of ours or a username
    exposed_at: str = ""  #: when, by GitLab's word; "" when it does not say
    lacking: tuple[str, ...] = ()  #: such as "label x" or "type (it is issue)"


def issue_altered(incident: Incident, seen: Seen, put_back: PutBack, lines: Sequence[TimelineEntry]) -> Change:
    """What is otherwise than it was. Nothing changes (NOTED) when it is no news.

    Args:
        lines: The timeline, oldest first.
    """
    known = [line for line in lines if line.event == ISSUE_ALTERED]
    before = list(known[-1].facts.get("lacking", ())) if known else []
    is_first = seen.is_exposed and put_back is PutBack.NEVER
    stands = seen.is_exposed and put_back is PutBack.DONE and not _is_told(known, seen)
    is_news = is_first or stands or before != list(seen.lacking)
    if incident.state is State.RESOLVED or not is_news:
        return unchanged(incident, Outcome.NOTED)
    exposed = {"by": seen.by, "exposed_at": seen.exposed_at, "stands": stands} if is_first or stands else {}
    taken_off = [each for each in seen.lacking if each not in before]
    facts = {**exposed, "exposed": bool(exposed), "lacking": list(seen.lacking), "taken_off": taken_off}
    key, effects = f"issue_altered/{len(known)}", []
    if exposed or taken_off:
        effects += [
            Effect(
                do=EffectKind.TELL, key=f"tell/{key}/{person}", person=person, facts={"what": "issue_altered", **facts}
            )
            for person in concerned(incident)
        ]
    if exposed:
        about = {"cause": "issue_exposed", "ref": incident.ref, "by": seen.by, "put back": "no" if stands else "yes"}
        effects.append(Effect(do=EffectKind.OPERATORS, key=f"operators/{key}", facts=about))
    if is_first:
        effects.append(Effect(do=EffectKind.CONFIDE, key=f"confide/{key}"))
    entry = Entry(event=ISSUE_ALTERED, actor="panicmail", facts=facts, note=bool(effects))
    return Change(incident=incident, effects=tuple(effects), entries=(entry,), outcome=Outcome.NOTED)


def _is_told(known: Sequence[TimelineEntry], seen: Seen) -> bool:
    return any(line.facts.get("stands") and line.facts.get("exposed_at") == seen.exposed_at for line in known)
