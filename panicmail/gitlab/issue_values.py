"""What is known of an issue: that it is there, what people did on it, where it went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OpenedIssue:
    """An issue that is there."""

    iid: int
    url: str
    #: What GitLab did not keep of what was asked, or a text changed: "type", "confidential", "label x", "assignee x",
    #: "title", "text", "state"; a word, and sometimes the reason in brackets.
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UploadedFile:
    url: str  #: relative to the project, as Markdown wants it
    name: str


@dataclass(frozen=True, slots=True)
class IssueAct:
    """That one user did something on an issue."""

    username: str
    at: datetime
    what: str  #: "commented", "worked" (assigned and the like) or "labelled"


@dataclass(frozen=True, slots=True)
class GradedIssue:
    """That one user set the severity of an issue, by field or label."""

    level: int | None  #: 1 to 4; None: taken off, or none of the four
    username: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SeverityMark:
    """What an issue is to show of how grave it is."""

    level: int | None = None  #: None: only the labels
    pattern: str = ""  #: of the severity's label, {severity} in it; "": none
    is_field: bool = False  #: GitLab's own field shows it too
    labels: tuple[str, ...] = ()  #: other ones to be added
    since: datetime = _NEVER  #: what a person set after that stays


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueDestination:
    """That an issue is closed because it went somewhere else, not because it is over."""

    how: str  #: "moved", "duplicate" or "promoted"
    place: str = ""  #: such as "group/project#12"; "" when GitLab does not say
    #: Of a moved one that this token sees there: project by number, iid, address, and whether it is confidential.
    project: str | None = None
    iid: int | None = None
    url: str = ""
    is_confidential: bool = True


@dataclass(frozen=True, slots=True)
class IssueExposure:
    """That an issue is not confidential."""

    at: datetime | None = None  #: when it was made so; None: GitLab does not say
    by: str | None = None  #: username; None: GitLab does not say


@dataclass(frozen=True, slots=True)
class IssueActivity:
    """What happened on an issue: whether it is closed, and what people did, oldest first, by GitLab's clock."""

    closed_at: datetime | None
    closed_by: str | None
    acts: tuple[IssueAct, ...]
    elsewhere: IssueDestination | None = None
    exposure: IssueExposure | None = None  #: None: it is confidential
    lacking: tuple[str, ...] = ()  #: what else it should have and has not: "type (it is x)", "label x"
    graded: GradedIssue | None = None  #: who set its severity last, if a person did
    ahead: timedelta = timedelta()  #: so much later than ours GitLab's clock stands; zero while they agree


@dataclass(frozen=True, slots=True)
class IssueReopening:
    """That an issue is open which was closed before."""

    at: datetime | None  #: None: GitLab does not say that it was opened again, only that it is open
    by: str | None  #: username; None: GitLab does not say


@dataclass(frozen=True, slots=True)
class IssueChanges:
    """Which issues of a project were updated lately; every instant by GitLab's clock."""

    asked_at: datetime
    updated_at: Mapping[int, datetime]  #: iid -> when it was updated last
    resume_at: datetime  #: from when to ask next time; it was not read to its end when that is long before `asked_at`
