"""How the stand-in GitLab shows what it knows: the JSON of its REST API v4."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from panicmail.sandbox.gitlab_records import Issue, Note, ResourceEvent, Upload, User
from panicmail.sandbox.issue_edits import Instance
from panicmail.sandbox.quick_actions import QuickAction

Json = dict[str, Any]


def instant(value: datetime | None) -> str | None:
    """With milliseconds and a Z, as GitLab writes it."""
    if value is None:
        return None
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def user(instance: Instance, who: User) -> Json:
    return {
        "id": who.id,
        "username": who.username,
        "name": who.name,
        "state": "active",
        "locked": False,
        "avatar_url": None,
        "web_url": f"{instance.url}/{who.username}",
        "public_email": who.email,
        "bot": who.bot,
    }


def member(instance: Instance, who: User) -> Json:
    return {
        **user(instance, who),
        "access_level": who.access_level,
        "expires_at": None,
        "membership_state": "active",
    }


def token(instance: Instance) -> Json:
    return {
        "id": 1,
        "name": "panicmail",
        "description": None,
        "revoked": instance.token.revoked,
        "active": instance.is_token_live(),
        "created_at": instant(instance.created_at),
        "last_used_at": instant(instance.created_at),
        "expires_at": instance.token.expires_on and instance.token.expires_on.isoformat(),
        "scopes": list(instance.token.scopes),
        "user_id": instance.owner.id,
    }


def project(instance: Instance) -> Json:
    namespace, _, path = instance.project.rpartition("/")
    return {
        "id": instance.project_id,
        "name": path.capitalize(),
        "name_with_namespace": " / ".join(part.capitalize() for part in instance.project.split("/")),
        "path": path,
        "path_with_namespace": instance.project,
        "namespace": {"id": 1, "path": namespace, "full_path": namespace, "kind": "group"},
        "description": None,
        "visibility": instance.settings.visibility,
        "archived": instance.settings.archived,
        "issues_enabled": instance.settings.issues != "disabled",
        "issues_access_level": instance.settings.issues,
        "created_at": instant(instance.created_at),
        "web_url": f"{instance.url}/{instance.project}",
        "permissions": {
            "project_access": {"access_level": instance.owner.access_level, "notification_level": 3},
            "group_access": None,
        },
    }


def label(instance: Instance, name: str) -> Json:
    one = instance.labels[name]
    return {
        "id": one.id,
        "name": one.name,
        "color": one.color,
        "description": one.description,
        "text_color": "#FFFFFF",
        "subscribed": False,
        "priority": None,
        "is_project_label": True,
    }


def issue(instance: Instance, one: Issue) -> Json:
    people = [user(instance, who) for who in one.assignees]
    return {
        "id": one.id,
        "iid": one.iid,
        "project_id": instance.project_id,
        "title": one.title,
        "description": one.description,
        "state": one.state,
        "created_at": instant(one.created_at),
        "updated_at": instant(one.updated_at),
        "closed_at": instant(one.closed_at),
        "closed_by": one.closed_by and user(instance, one.closed_by),
        "labels": list(one.labels),
        "assignees": people,
        "assignee": people[0] if people else None,
        "author": user(instance, one.author),
        "type": one.issue_type.upper(),
        "issue_type": one.issue_type,
        "severity": one.severity.upper(),
        "confidential": one.confidential,
        "discussion_locked": one.discussion_locked,
        "web_url": f"{instance.url}/{instance.project}/-/issues/{one.iid}",
        "references": {
            "short": f"#{one.iid}",
            "relative": f"#{one.iid}",
            "full": f"{instance.project}#{one.iid}",
        },
        "user_notes_count": sum(not said.system for said in one.notes),
        "_links": _issue_links(instance, one),
        "moved_to_id": one.moved_to_id,
        **_issue_beyond(),
    }


def _issue_links(instance: Instance, one: Issue) -> Json:
    api = f"{instance.url}/api/v4/projects/{instance.project_id}"
    return {
        "self": f"{api}/issues/{one.iid}",
        "notes": f"{api}/issues/{one.iid}/notes",
        "award_emoji": f"{api}/issues/{one.iid}/award_emoji",
        "project": api,
        "closed_as_duplicate_of": one.duplicate_of and f"{api}/issues/{one.duplicate_of}",
    }


def _issue_beyond() -> Json:
    """What GitLab says of every issue, and the sandbox knows nothing about."""
    return {
        "milestone": None,
        "merge_requests_count": 0,
        "upvotes": 0,
        "downvotes": 0,
        "due_date": None,
        "time_stats": {
            "time_estimate": 0,
            "total_time_spent": 0,
            "human_time_estimate": None,
            "human_total_time_spent": None,
        },
        "task_completion_status": {"count": 0, "completed_count": 0},
        "has_tasks": False,
        "subscribed": True,
        "service_desk_reply_to": None,
    }


def note(instance: Instance, on: Issue, one: Note) -> Json:
    return {
        "id": one.id,
        "type": None,
        "body": one.body,
        "author": user(instance, one.author),
        "created_at": instant(one.created_at),
        "updated_at": instant(one.updated_at),
        "system": one.system,
        "noteable_id": on.id,
        "noteable_type": "Issue",
        "noteable_iid": on.iid,
        "project_id": instance.project_id,
        "resolvable": False,
        "confidential": one.internal,
        "internal": one.internal,
        "imported": False,
        "imported_from": "none",
        "commands_changes": {},
    }


def commands(carried_out: Sequence[QuickAction]) -> Json:
    """What is said of quick actions; GitLab says more."""
    return {
        "commands_changes": {command.name: command.argument for command in carried_out},
        "summary": [f"Carried out /{command.name}." for command in carried_out],
    }


def resource_event(instance: Instance, on: Issue, one: ResourceEvent) -> Json:
    shown: Json = {
        "id": one.id,
        "user": user(instance, one.user),
        "created_at": instant(one.created_at),
        "resource_type": "Issue",
        "resource_id": on.id,
    }
    if one.label is None:
        return {**shown, "state": one.state}
    return {**shown, "action": one.action, "label": {"id": one.label.id, "name": one.label.name}}


def upload(instance: Instance, one: Upload) -> Json:
    """Images are shown inline (`!`), everything else is a link."""
    is_image = (mimetypes.guess_type(one.name)[0] or "").startswith("image/")
    alt = one.name.rpartition(".")[0] if is_image else one.name
    escaped = alt.replace("[", "\\[").replace("]", "\\]")
    return {
        "id": one.id,
        "alt": alt,
        "url": one.path,
        "full_path": f"/-/project/{instance.project_id}{one.path}",
        "markdown": f"{'!' if is_image else ''}[{escaped}]({one.path})",
    }
