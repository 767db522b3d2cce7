"""The issue is closed for another reason than being over: it was moved, promoted, or is a duplicate of another one.

Nobody finished anything by that, so the incident stands as it stood. Whoever has it, or everybody paged, hears where
the issue went; one that was moved to where panicmail sees it is followed: notes, links and signs of work go there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.transitions.resolve import concerned


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
