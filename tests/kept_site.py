"""A host with a configuration and some incidents."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from click.testing import CliRunner, Result

from panicmail import config as configuration
from panicmail.cli import cli
from panicmail.config import Config
from panicmail.store import backup
from tests.office import Office

MINIMAL = """
[smtp]
addresses = ["panic@example.com"]
[database]
url = "{url}"
[gitlab]
url = "https://gitlab.example.com"
project = "security/incidents"
token_file = "secrets/gitlab.token"
[relay]
url = "smtp://127.0.0.1:25"
[people.ana]
email = "ana@example.com"
[people.max]
email = "max@example.com"
[oncall.seoc]
ical = "rota.ics"
fallback = ["ana"]
[oncall.smoc]
fixed = ["max"]
"""


@dataclasses.dataclass
class Site:
    """A host with a configuration and some incidents."""

    folder: Path
    office: Office
    config: Config
    url: str

    def run(self, *arguments: str | Path) -> Result:
        """A command on it, with nothing of ours in the environment."""
        return CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=True)

    def backup(self, name: str = "one.backup") -> Path:
        path = self.folder.parent / name
        backup.make(self.config, path, (), {})
        return path


def made_site(folder: Path, url: str | None) -> Site:
    (folder / "secrets").mkdir(parents=True)
    (folder / "panicmail.toml").write_text(MINIMAL.format(url=url or "sqlite:///panicmail.db"))
    (folder / "secrets" / "gitlab.token").write_text("glpat-secret")
    (folder / "secrets" / "gitlab.token").chmod(0o640)
    (folder / "rota.ics").write_text("BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nEND:VCALENDAR\n")
    office = Office(folder, url=url)
    office.panic(subject="one")
    office.panic(subject="two")
    office.reply(office.page("ana"), "ack")
    return Site(folder, office, load(folder), url or f"sqlite:///{folder}/panicmail.db")


def load(folder: Path) -> Config:
    return configuration.load(folder / "panicmail.toml", {})
