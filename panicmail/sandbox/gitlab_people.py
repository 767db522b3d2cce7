"""What people do in the stand-in GitLab, each by username."""

from __future__ import annotations

from typing import Any

from panicmail.sandbox import entities
from panicmail.sandbox.issue_requests import Instance


class GitLabPeople:
    """Everybody with an account, to act as."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.others: dict[str, Instance] = {}  #: projects issues were moved to, by path

    def comment(self, iid: int, username: str, body: str, *, internal: bool = False) -> None:
        self._instance.add_note(self._instance.user(username), iid, body, internal=internal)

    def close(self, iid: int, username: str) -> None:
        self._edit(iid, username, state_event="close")

    def reopen(self, iid: int, username: str) -> None:
        self._edit(iid, username, state_event="reopen")

    def move(self, iid: int, username: str, project: str, *, is_seen: bool = True) -> dict[str, Any]:
        """`username` moves an issue to another project; answers the issue there, as the API shows it.

        Args:
            is_seen: Whether panicmail's token may see that project.
        """
        main = self._instance
        other = self.others.get(project) or Instance(
            main.url, project, list(main.users.values()), main.now, project_id=main.project_id + len(self.others) + 1,
            ids=main.ids
        )  # fmt: skip
        if is_seen:
            self.others[project] = other
        return entities.issue(other, main.move_issue(main.user(username), iid, other))

    def duplicate(self, iid: int, username: str, of: int) -> None:
        """`username` closes an issue as a duplicate of another one."""
        self._instance.mark_duplicate(self._instance.user(username), iid, of)

    def promote(self, iid: int, username: str, epic: int = 7) -> None:
        """`username` makes an epic of an issue."""
        self._instance.promote_issue(self._instance.user(username), iid, epic)

    def assign(self, iid: int, username: str, assignee: str) -> None:
        """`username` makes `assignee` the one who is assigned, instead of whoever was."""
        self._edit(iid, username, assignees=[self._instance.user(assignee)])

    def label(self, iid: int, username: str, label: str) -> None:
        """`username` adds a label, which is made if need be."""
        self._edit(iid, username, add_labels=[label])

    def _edit(self, iid: int, username: str, **wanted: Any) -> None:
        self._instance.edit_issue(self._instance.user(username), iid, wanted)
