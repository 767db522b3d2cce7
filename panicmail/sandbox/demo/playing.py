"""What `--keep` adds: the addresses to play with, and what comes while somebody plays."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from panicmail.sandbox.demo.script import Story
from panicmail.sandbox.demo.stage import HOST, PANIC, RITA, Stage
from panicmail.sandbox.demo.telling import Telling
from panicmail.sandbox.relay_server import Received

_SUBJECT, _BODY = "I clicked on something", "and now my screen is red."


def play(stage: Stage, telling: Telling, story: Story) -> None:
    """Stay up, and tell what comes, until Ctrl-C."""
    ours = program()
    telling.context("Everything stays up until Ctrl-C. Play with it.")
    for what, line in [
        ("Send a panic of your own, with swaks", swaks(stage.smtp_port)),
        ("the same with Python", python(stage.smtp_port)),
        ("The issues, and all mails", f"{stage.gitlab.url}/"),
        ("", f"{stage.relay.web_url}/"),
        (f"Max's view of {story.ref}; each page below brings such a link, with a button to acknowledge", story.link),
        ("Ask the daemon's database, or answer in somebody's name, in another terminal",
         f"export PANICMAIL_CONFIG={stage.configuration}"),
        ("", f"{ours} incidents"),
        ("", f"{ours} ack REF --as ana"),
        ("What the daemon logs", f"tail -f {stage.daemon.log}"),
    ]:  # fmt: skip
        if what:
            telling.line(f"\n{what}:")
        telling.line(f"  {line}", strong=True)
    telling.context("What comes (times are UTC):")
    with contextlib.suppress(KeyboardInterrupt):
        _tell_what_comes(stage, telling)
    telling.line("")


def swaks(port: int) -> str:
    """A command line that sends a panic."""
    words = ["swaks", "--server", f"{HOST}:{port}", "--from", RITA, "--to", PANIC]
    return shlex.join([*words, "--header", f"Subject: {_SUBJECT}", "--body", _BODY])


def python(port: int) -> str:
    """The same for those without swaks."""
    mail = rf"From: {RITA}\r\nSubject: {_SUBJECT}\r\n\r\n{_BODY}"
    code = f'import smtplib; smtplib.SMTP("{HOST}", {port}).sendmail("{RITA}", "{PANIC}", "{mail}")'
    return shlex.join(["python3", "-c", code])


def program() -> str:
    """How this panicmail is called from here."""
    if shutil.which("panicmail"):
        return "panicmail"
    here, python_here = Path.cwd(), Path(sys.executable)
    return f"{python_here.relative_to(here) if python_here.is_relative_to(here) else python_here} -m panicmail"


def _tell_what_comes(stage: Stage, telling: Telling) -> None:
    """Without end, but that of the daemon."""
    issues = len(stage.gitlab.issues)
    links: set[str] = set()

    def has_ended() -> bool:
        nonlocal issues
        for issue in stage.gitlab.issues[issues:]:
            telling.line(f"{_now()}  {_about_issue(issue)}")
            issues += 1
        for mail in stage.take_untold():
            telling.line(f"{_now()}  {', '.join(mail.recipients):18} {mail.subject}")
            for link in _links(mail) - links:
                telling.line(f"{'':10}{'':18} {link}")
                links.add(link)
        return False

    stage.until("the end", has_ended, float("inf"))


def _now() -> str:
    return f"{datetime.now(UTC):%H:%M:%S}"


def _about_issue(issue: dict[str, Any]) -> str:
    return f"{'GitLab':18} issue #{issue['iid']} {issue['title']}\n{'':10}{'':18} {issue['web_url']}"


def _links(mail: Received) -> set[str]:
    return set(re.findall(r"https?://\S+/i/\S+", mail.text))
