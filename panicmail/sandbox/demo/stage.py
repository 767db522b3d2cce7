"""The stage: a sandbox GitLab, a sandbox relay and the real daemon between them, on 127.0.0.1 only.

Built up on entering, taken down on leaving, whatever happened in between: the daemon is asked to stop and killed if
it does not, the folder is removed. All waiting is done here, in one loop that also notices when the daemon has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.request import urlopen

import panicmail
from panicmail.sandbox.demo.failure import Failed
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import Received, SandboxRelay

T = TypeVar("T")

HOST = "127.0.0.1"
PANIC = "panic@example.com"
RITA, ANA, MAX = "rita@example.com", "ana@example.com", "max@example.com"

_READY_WITHIN = 30.0

CONFIGURATION = """\
# Written by `panicmail demo`: 15 minutes are {sla} seconds here.
[smtp]
listen = ["{host}:{smtp}"]
hostname = "panic.example.com"
addresses = ["panic@example.com"]

[gitlab]
url = "{gitlab}"
project = "{project}"
token_file = "gitlab.token"

[relay]
url = "{relay}"

[authentication]
method = "none"

[people.ana]
name = "Ana Reyes"
email = "ana@example.com"
phone = "+49 171 3920001"

[people.max]
name = "Max Okafor"
email = "max@example.com"
phone = "+49 171 3920002"

[oncall.seoc]
fixed = ["ana"]

[oncall.smoc]
fixed = ["max"]

[escalation]
sla = "{sla}s"
steps = [
  {{ after = "0s", page = ["seoc"] }},
  {{ after = "{half:g}s", page = ["seoc"] }},
  {{ after = "{sla}s", page = ["smoc", "seoc"] }},
]
repeat = "{half:g}s"

[receipts]
phone = "+49 30 23125000"

[web]
listen = "{host}:{web}"
url = "http://{host}:{web}"

[log]
format = "json"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the parts listen on this host; 0 takes a free port."""

    smtp: int = 0
    web: int = 0
    gitlab: int = 0
    relay: int = 0


class Stage:
    """Everything the story needs, from entering to leaving.

    Args:
        sla: Seconds.
    """

    def __init__(self, ports: Ports, sla: int) -> None:
        self.sla = sla
        self._ports = ports
        self._cleanup = contextlib.ExitStack()
        self.accepted_at = 0.0  #: of the report, by time.monotonic(); what `seconds` counts from
        self._accepted_wall = datetime.now(UTC)
        self._told: set[int] = set()
        self.waiting: Callable[[], None] = lambda: None  #: called several times a second while the stage waits

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    # -- building up and taking down

    def _build(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="panicmail-demo-"))
        self._cleanup.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.gitlab = self._cleanup.enter_context(
            _opened(SandboxGitLab, self._ports.gitlab, "the sandbox GitLab", "--gitlab-port")
        )
        self.relay = self._cleanup.enter_context(
            _opened(partial(SandboxRelay, web_port=0), self._ports.relay, "the sandbox relay", "--relay-port")
        )
        self.smtp_port = _free_port(self._ports.smtp, "panicmail's SMTP", "--smtp-port")
        self.web_port = _free_port(self._ports.web, "panicmail's web", "--web-port")
        self.configuration = self.folder / "panicmail.toml"
        self._write_configuration()
        self._start_daemon()

    def _write_configuration(self) -> None:
        token = self.folder / "gitlab.token"
        token.touch(mode=0o600)
        token.write_text(self.gitlab.token)
        text = CONFIGURATION.format(
            host=HOST,
            smtp=self.smtp_port,
            web=self.web_port,
            gitlab=self.gitlab.url,
            project=self.gitlab.project,
            relay=self.relay.url,
            sla=self.sla,
            half=self.sla / 2,
        )
        self.configuration.write_text(text)

    def _start_daemon(self) -> None:
        self.daemon = DemoDaemon(self.folder, self.configuration)
        self._cleanup.callback(self.daemon.end)
        self.until("the daemon's word that it is ready", self.daemon.is_ready, _READY_WITHIN)

    def shows(self, link: str) -> bool:
        """Whether a page of the daemon's is there."""
        if not link.startswith(f"http://{HOST}:{self.web_port}/"):
            return False
        try:
            with urlopen(link, timeout=10) as page:  # noqa: S310 - our own daemon, by http
                return bool(page.status == 200)
        except OSError:
            return False

    # -- time

    @property
    def seconds(self) -> float:
        """Since the 250 of the report."""
        return time.monotonic() - self.accepted_at

    def since_accepted(self, at: datetime) -> float:
        """Seconds from the 250 to an instant of the wall clock."""
        return max(0.0, (at - self._accepted_wall).total_seconds())

    def arrived_at(self, mail: Received) -> float:
        """Seconds from the 250 to the arrival of a mail."""
        return max(0.0, mail.received_at - self.accepted_at)

    def until(self, what: str, find: Callable[[], T | None], within: float) -> T:
        """What `find` answers as soon as that is true.

        Raises:
            Failed: It was not within so many seconds, or the daemon ended.
        """
        ends_at = time.monotonic() + within
        while True:
            if found := find():
                return found
            if (status := self.daemon.status()) is not None:
                raise Failed(f"the daemon ended with status {status}", self.daemon.last_words())
            if time.monotonic() >= ends_at:
                raise Failed(f"{what} did not come within {within:.0f} s", self._what_came())
            self.waiting()
            time.sleep(0.05)

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        ends_at = time.monotonic() + seconds
        self.until("the end of a pause", lambda: time.monotonic() >= ends_at, seconds + 1)

    def rest_until(self, seconds: float) -> None:
        """Let time pass until so many seconds after the 250; none when they have passed."""
        self.rest(max(0.0, seconds - self.seconds))

    def _what_came(self) -> tuple[str, ...]:
        mails = [f"mail: to {', '.join(mail.recipients)}: {mail.subject}" for mail in self.relay.mails]
        issues = [f"issue: #{issue['iid']} {issue['title']}" for issue in self.gitlab.issues]
        return (*mails[-10:], *issues[-3:], *self.daemon.last_words())

    # -- mail

    def send(self, message: EmailMessage, sender: str, recipient: str) -> str:
        """Send a mail to the daemon as somebody's mail server would; answers the reply to its last octet.

        Raises:
            Failed: It was not accepted.
        """
        try:
            with smtplib.SMTP(HOST, self.smtp_port, local_hostname="mail.example.com", timeout=10) as smtp:
                smtp.ehlo()
                smtp.mail(sender)
                smtp.rcpt(recipient)
                code, said = smtp.data(message.as_bytes(policy=policy.SMTP))
        except (OSError, smtplib.SMTPException) as exc:
            raise Failed(f"the daemon did not take a mail: {exc}", self.daemon.last_words()) from exc
        reply = f"{code} {said.decode('ascii', 'replace')}"
        if code != 250:
            raise Failed(f"the daemon answered a mail with {reply}", self.daemon.last_words())
        return reply

    def report(self, message: EmailMessage) -> str:
        """Send the report the story begins with; its 250 starts the clock."""
        reply = self.send(message, RITA, PANIC)
        self.accepted_at, self._accepted_wall = time.monotonic(), datetime.now(UTC)
        return reply

    def mail(self, recipient: str, beginning: str, what: str, within: float) -> Received:
        """The next mail to `recipient` that nobody was told of yet and whose subject begins so."""

        def find() -> Received | None:
            for number, mail in enumerate(self.relay.mails):
                if number not in self._told and mail.to(recipient) and mail.subject.startswith(beginning):
                    self._told.add(number)
                    return mail
            return None

        return self.until(what, find, within)

    def take_untold(self) -> list[Received]:
        """The mails nobody was told of yet, told by this."""
        found = [mail for number, mail in enumerate(self.relay.mails) if number not in self._told]
        self._told |= set(range(len(self.relay.mails)))
        return found


def _opened(kind: Callable[[int], T], port: int, what: str, option: str) -> T:
    try:
        return kind(port)
    except OSError as exc:
        raise _taken(what, option, port, exc) from exc


def _free_port(port: int, what: str, option: str) -> int:
    """The port, or a free one for 0, as far as that can be known before the daemon binds it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as exc:
            raise _taken(what, option, port, exc) from exc
        number: int = sock.getsockname()[1]
    return number


def _taken(what: str, option: str, port: int, exc: OSError) -> Failed:
    return Failed(
        f"{what} cannot listen at {HOST}:{port}: {exc.strerror}; give another {option}, or none for a free one"
    )


# -- The real daemon: a child process started as an operator starts it, and the commands that ask its database.

_STOPS_WITHIN, _ANSWERS_WITHIN = 12.0, 30.0
_LAST_LINES = 6
#: What would reach into the daemon from the shell the demo is started in.
_FOREIGN = re.compile(r"PANICMAIL_|CREDENTIALS_DIRECTORY$|NOTIFY_SOCKET$|WATCHDOG_")


class DemoDaemon:
    """`panicmail serve` in a folder that holds its configuration, from being made to `end`."""

    def __init__(self, folder: Path, configuration: Path) -> None:
        self.log = folder / "panicmail.log"
        self._configuration = configuration
        with self.log.open("wb") as log:
            # A session of its own: a Ctrl-C in the terminal is ours, and we stop the daemon in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                self._command("serve"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=_own_environment(),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def is_ready(self) -> bool:
        return '"event": "ready"' in self.log.read_text(errors="replace")

    def _command(self, word: str, *more: str) -> list[str]:
        """A command line of panicmail's for this daemon."""
        return [sys.executable, "-m", "panicmail", word, "-c", str(self._configuration), *more]

    def stop(self) -> float:
        """End the daemon as an operator would; answers the seconds it took.

        Raises:
            Failed: It did not end, or not with status 0.
        """
        began = time.monotonic()
        status = self.end()
        if status != 0:
            raise Failed(f"the daemon ended with status {status} on SIGTERM, not 0", self.last_words())
        return time.monotonic() - began

    def end(self) -> int:
        """Ask it to stop, and kill it if it does not; answers its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(_STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def last_words(self) -> tuple[str, ...]:
        """The end of the daemon's log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return tuple(f"log: {line[:300]}" for line in lines)

    def ask(self, word: str, *more: str) -> Any:
        """What a reading command of panicmail's answers."""
        try:
            answered = subprocess.run(  # noqa: S603 - our own interpreter and module
                self._command(word, *more, "--json"),
                capture_output=True,
                text=True,
                timeout=_ANSWERS_WITHIN,
                env=_own_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise Failed(f"panicmail {word} did not answer within {_ANSWERS_WITHIN:.0f} s") from exc
        if answered.returncode != 0:
            raise Failed(f"panicmail {word} ended with status {answered.returncode}", (answered.stderr[-300:],))
        return json.loads(answered.stdout)


def _own_environment() -> dict[str, str]:
    """The environment without what is meant for another panicmail, and with a way to find this one."""
    kept = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
    here = str(Path(panicmail.__file__).resolve().parents[1])
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, (here, kept.get("PYTHONPATH"))))}
