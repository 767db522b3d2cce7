"""Somebody changes what every issue of ours has: that it is confidential, an incident, and labelled.

Confidentiality is put back once for each incident; taken off again it stands, for a person wants it so. Type and labels
are told alone. Whoever has the incident, or everybody paged, hears of each change once, and the operators when the
report was open to others. Nothing is done once the incident is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Protocol

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


# -- The issue is closed for another reason than being over: it was moved, promoted, or is a duplicate of another one.
#
# Nobody finished anything by that, so the incident stands as it stood. Whoever has it, or everybody paged, hears
# where the issue went; one that was moved to where panicmail sees it is followed: notes, links and signs of work go
# there.


class Destination(Protocol):
    """Where an issue went."""

    @property
    def how(self) -> str: ...  #: "moved", "duplicate" or "promoted"
    @property
    def place(self) -> str: ...  #: "" when it is not known
    @property
    def project(self) -> str | None: ...  #: by number; None: it cannot be followed
    @property
    def iid(self) -> int | None: ...
    @property
    def url(self) -> str: ...
    @property
    def is_confidential(self) -> bool: ...


def issue_went(incident: Incident, elsewhere: Destination, by: str, closed_at: str) -> Change:
    """The issue went elsewhere. Nothing but the issue's place changes.

    Args:
        by: A person of ours, a username, or "somebody in GitLab".
        closed_at: GitLab's own word for when; it names this going (`is_known_act`), so that it is told once.
    """
    if incident.state is State.RESOLVED:
        return unchanged(incident, Outcome.CLOSED)
    is_followed = elsewhere.project is not None and elsewhere.iid is not None
    facts = {
        "how": elsewhere.how,
        "place": elsewhere.place,
        "by": by,
        "closed_at": closed_at,
        "followed": is_followed,
        "confidential": elsewhere.is_confidential,
    }
    key = f"{incident.version}/issue_went"
    effects = [
        Effect(do=EffectKind.TELL, key=f"tell/{key}/{person}", person=person, facts={"what": "issue_went", **facts})
        for person in concerned(incident)
    ]
    if is_followed:
        incident = replace(
            incident, issue_project=elsewhere.project, issue_iid=elsewhere.iid, issue_url=elsewhere.url or None
        )
        if not elsewhere.is_confidential:
            effects.append(Effect(do=EffectKind.CONFIDE, key=f"confide/{key}"))
    elif elsewhere.how == "moved":
        about = {"cause": "gitlab_moved", "ref": incident.ref, "place": elsewhere.place}
        effects.append(Effect(do=EffectKind.OPERATORS, key=f"operators/{key}", facts=about))
    entry = Entry(event="issue.went", actor=by, facts=facts)
    return Change(incident=incident, effects=tuple(effects), entries=(entry,), outcome=Outcome.NOTED)
