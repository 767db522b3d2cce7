"""GitLab: whether an incident could be opened there, and whether those who are paged could read it.

Nothing is created: that an issue could be is told from the token's scope, its user's role and the project's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from urllib.parse import urlsplit

from panicmail.check import certificate_checks, result
from panicmail.check.result import Group, ParallelChecks, Row
from panicmail.config import Config
from panicmail.errors import Denied, PanicmailError, Permanent, Temporary
from panicmail.gitlab.gitlab_probe import (
    DEVELOPER,
    PLANNER,
    REPORTER,
    Probe,
    ProjectFacts,
    TokenFacts,
    TokenOwner,
    role,
)

#: For all questions together, in seconds; each ends by itself before.
SECONDS = 8.0
#: A token that ends sooner is a warning, and one that ends within a day has failed.
RENEW_WITHIN, TOO_LATE = timedelta(days=14), timedelta(days=1)

_GITLAB = Group.GITLAB
_REFUSES = "check_gitlab"
_TOKEN = "check_token"  # noqa: S105 - the name of an alarm
_REACH = "see [gitlab] url, that this host may reach it, and that its certificate is one this host trusts"
_NEW_TOKEN = "make a token with the scope api for panicmail's user, put it into [gitlab] token_file, restart panicmail"  # noqa: S105
_NO_GITLAB = "see [gitlab] url: scheme, host, port, and the path if that GitLab lives under one (GitLab 15.2 or newer)"
_NO_PROJECT = "see [gitlab] project, and that panicmail's user is a member of it"
_NO_RIGHT = "see that the token has the scope api, and that its user has the role Reporter in the project at least"
_LATER = "run panicmail check again; if it stays so, see that GitLab answers quickly"


def rows(config: Config, now: datetime) -> list[Row]:
    """Every row, or one when GitLab cannot be reached or refuses the token."""
    gitlab = config.gitlab
    probe = Probe(gitlab.url, gitlab.project, gitlab.token.get_secret_value())
    asking = ParallelChecks(SECONDS)
    server, token = asking.ask(probe.server), asking.ask(probe.token)
    project, owner = asking.ask(probe.project), asking.ask(probe.owner)
    labels = asking.ask(lambda: probe.labels(gitlab.labels))
    certificate = asking.ask(lambda: _certificate_ends(gitlab.url))
    names = {key: person.gitlab for key, person in config.people.items() if person.gitlab}
    levels = asking.ask(lambda: probe.levels(set(names.values())))
    try:
        there = server.wait()
    except PanicmailError as exc:
        return [_not_reached(gitlab.url, exc)]
    said = [
        _GITLAB.ok("gitlab answers", f"{gitlab.url}, version {there.version}").told_as(_REFUSES),
        *_each("token", lambda: [judge_token(token.wait(), now)], _TOKEN),
        *_each("project", lambda: list(judge_project(project.wait(), gitlab.uploads)), _REFUSES),
        *_each("incidents", lambda: [judge_owner(owner.wait())], _REFUSES),
        *_each("labels", lambda: [_judge_labels(gitlab.labels, labels.wait())]),
        *_each("readers", lambda: list(_judge_people(names, levels.wait()))),
    ]
    if there.ahead is not None:
        said.append(result.judge("GitLab's clock", there.ahead, there.within))
    if gitlab.url.startswith("https://"):
        host = urlsplit(gitlab.url).hostname or ""
        said.append(certificate_checks.shown(_GITLAB, "gitlab certificate", host, certificate.wait, now))
    return said


def _certificate_ends(url: str) -> datetime:
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise Temporary("no TLS")
    return certificate_checks.fetch_end_of_certificate(parts.hostname or "", parts.port or 443, SECONDS / 2)


def _each(subject: str, judge: Callable[[], list[Row]], cause: str = "") -> list[Row]:
    """What is judged; a question that got no answer is one row."""
    try:
        judged = judge()
    except Permanent as exc:
        judge_as = _GITLAB.warning if subject in _MAY_BE_UNTOLD else _GITLAB.failed
        judged = [judge_as(subject, f"{exc}", _mend(subject, exc))]
    except PanicmailError as exc:
        judged = [_GITLAB.warning(subject, f"not known: {exc}", _LATER).passes()]
    return [row.told_as(cause or row.cause) for row in judged]


def _mend(subject: str, exc: Permanent) -> str:
    """By what was refused: the token is only blamed for what a token can mend."""
    if subject == "token":
        return _UNTOLD
    return _NO_RIGHT if isinstance(exc, Denied) else _NO_PROJECT


def _not_reached(url: str, exc: PanicmailError) -> Row:
    if isinstance(exc, Denied):
        return _GITLAB.failed("gitlab answers", f"{url} refuses the token: {exc}", _NEW_TOKEN).told_as(_REFUSES)
    if isinstance(exc, Permanent):
        return _GITLAB.failed("gitlab answers", f"no GitLab answers at {url}: {exc}", _NO_GITLAB).told_as(_REFUSES)
    return _GITLAB.failed("gitlab answers", f"{url}: {exc}", _REACH).told_as(_REFUSES).passes()


def judge_token(token: TokenFacts, now: datetime) -> Row:
    """What the token may, and until when."""
    scopes = ", ".join(token.scopes) or "not told"
    if not token.is_active:
        return _GITLAB.failed("token", f"{token.name}: revoked or expired", _NEW_TOKEN)
    if token.scopes and "api" not in token.scopes:
        return _GITLAB.failed("token", f"{token.name}: scope {scopes}, which opens no issue", _NEW_TOKEN)
    if token.ends_on is None:
        return _GITLAB.ok("token", f"{token.name}: scope {scopes}, without an end")
    left = datetime.combine(token.ends_on, time(), UTC) - now
    told = f"{token.name}: scope {scopes}, ends {token.ends_on}, {max(0, left.days)} days left"
    if left < TOO_LATE:
        return _GITLAB.failed("token", told, _NEW_TOKEN)
    return _GITLAB.ok("token", told) if left >= RENEW_WITHIN else _GITLAB.warning("token", told, _NEW_TOKEN)


def judge_project(project: ProjectFacts, uploads: str) -> Iterator[Row]:
    """Whether it takes issues, and who may see what is put there."""
    if project.is_archived:
        yield _GITLAB.failed("project", f"{project.path} is archived: nothing can be opened there", "unarchive it")
    elif not project.has_issues:
        mend = "switch issues on: Settings, General, Visibility"
        yield _GITLAB.failed("project", f"{project.path} has issues switched off", mend)
    else:
        yield _GITLAB.ok("project", f"{project.path}, issues switched on")
    if project.visibility == "private" or uploads != "all":
        yield _GITLAB.ok("visibility", project.visibility)
    else:
        found = f"{project.visibility}, and raw mails are put there: whoever has the address of a file can open it"
        mend = 'make the project private, or set gitlab.uploads = "attachments" or "none"'
        yield _GITLAB.warning("visibility", found, mend)


def judge_owner(owner: TokenOwner) -> Row:
    """Whether the token's user may open confidential incidents."""
    told = f"{owner.username} is {role(owner.level)}"
    if owner.level < REPORTER:
        found = f"{told}: GitLab would refuse the issue, or drop type, labels and assignee"
        return _GITLAB.failed("incidents", found, "give that user the role Reporter in the project at least")
    status = "" if owner.level >= DEVELOPER else "; GitLab's own incident status stays as it is, that needs Developer"
    return _GITLAB.ok("incidents", f"{told} and may open confidential ones; none was opened{status}")


def _judge_labels(wanted: Sequence[str], missing: Sequence[str]) -> Row:
    if not wanted:
        return _GITLAB.ok("labels", "none are asked for")
    told = (f"{label} (made with the first incident)" if label in missing else label for label in wanted)
    return _GITLAB.ok("labels", ", ".join(told))


def _judge_people(names: Mapping[str, str], levels: Mapping[str, int | None]) -> Iterator[Row]:
    """Whether those who are paged can open a confidential issue, and count when they act on it."""
    for key, username in names.items():
        level, subject = levels.get(username), f"{key} gitlab"
        if level is None:
            found = f"nobody in GitLab is called @{username}: {key} cannot be assigned, and acts there do not count"
            row = Group.PEOPLE.warning(subject, found, f'set people.{key}.gitlab; "" if there is no account')
        elif level < PLANNER:
            found = f"@{username} is {role(level)} there and cannot open a confidential issue"
            row = Group.PEOPLE.warning(subject, found, f"give @{username} the role Planner or Reporter in the project")
        else:
            row = Group.PEOPLE.ok(subject, f"@{username}, {role(level)}, can open the issue")
        yield row.of(key)


#: What GitLab before 15.5, or a token of another sort, does not tell.
_MAY_BE_UNTOLD = frozenset({"token"})
_UNTOLD = "see in GitLab that it has the scope api, and when it ends; older GitLabs and other tokens do not tell"
