"""A set-up for `panicmail check`: a configuration that works, between a sandbox GitLab and a sandbox relay."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from panicmail import config as configuration
from panicmail.check import Host, Row, online_checks
from panicmail.config import Config
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import SandboxRelay
from tests.provider import closed_port


class Site:
    """A folder with a configuration, between a sandbox GitLab and a sandbox relay."""

    def __init__(self, folder: Path, gitlab: SandboxGitLab, relay: SandboxRelay) -> None:
        self.folder, self.gitlab, self.relay = folder, gitlab, relay
        self.port, self.web_port = closed_port(), closed_port()
        token = folder / "gitlab.token"
        token.write_text(gitlab.token)
        token.chmod(0o600)

    def config(self, *changes: tuple[str, str], more: str = "") -> Config:
        """What works, with some of it put otherwise."""
        text = f"""
[smtp]
listen = ["127.0.0.1:{self.port}"]
hostname = "panic.example.com"
addresses = ["panic@example.com"]

[gitlab]
url = "{self.gitlab.url}"
project = "security/incidents"
token_file = "gitlab.token"

[relay]
url = "smtp://127.0.0.1:{self.relay.port}"

[authentication]
method = "none"

[people.ana]
email = "ana@example.com"
push = ["ntfys://ntfy.example.com/ana-secret"]

[people.max]
email = "max@example.com"
push = ["ntfys://ntfy.example.com/max-secret"]

[oncall.seoc]
fixed = ["ana"]

[oncall.smoc]
fixed = ["max"]

[web]
listen = "127.0.0.1:{self.web_port}"
{more}"""
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = self.folder / "panicmail.toml"
        path.write_text(text)
        path.chmod(0o600)
        return configuration.load(path, {}, host_name=lambda: "panic.example.com")

    def rows(self, *changes: tuple[str, str], more: str = "", host: Host | None = None) -> dict[str, Row]:
        rows = online_checks.everything(self.config(*changes, more=more), datetime.now(UTC), host)
        return {row.subject: row for row in rows}
