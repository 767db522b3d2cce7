"""The program itself, as a process, between a sandbox GitLab and a sandbox relay on loopback.

    with world(tmp_path, steps=[("0s", "seoc"), ("3s", "smoc", "seoc")]) as town:
        town.start()
        ref = town.panic("Ransom note on my laptop")
        page = town.page("ana", ref)
        town.reply(page, "ack")
        assert town.stop() == 0

Whatever runs is ended with the world, and what the program said is judged then: every line of its log is a JSON
object with an event, none holds a secret, a token or the text of a mail, and none is an error the test did not name.
Waits are bounded; one that was in vain shows the end of the log.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import smtplib
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import Received, SandboxRelay
from panicmail.store import tables
from panicmail.store.database import Database
from tests import forked
from tests.office import PANIC, mail

T = TypeVar("T")
Document = dict[str, Any]

GITLAB_TOKEN = "glpat-kept-to-itself"
RELAY_PASSWORD = "relay-kept-to-itself"
SECRETS = (GITLAB_TOKEN, RELAY_PASSWORD)
#: A token as addresses, Message-IDs and links carry it.
TOKEN = re.compile(r"\b[abcdlmt][a-z0-9]-[a-z2-7]{8,26}-\d{1,6}-[a-z2-7]{16}\b")

#: A busy machine may take so long for what takes a moment.
SOON = 30.0
PEOPLE = {
    "ana": {"name": "Ana Reyes", "email": "ana@example.com", "gitlab": "ana"},
    "max": {"name": "Max Ode", "email": "max@example.com", "gitlab": "max"},
    "bo": {"name": "Bo Low", "email": "bo@example.com", "gitlab": "bo"},
}
#: A policy on which nothing happens while a test runs but the first page.
QUIET = (("0s", "seoc"), ("10m", "smoc", "seoc"))


# -- one process


class Program:
    """`panicmail serve`, or another command that stays, from its start to its end, and what it logged."""

    def __init__(
        self, config: Path, environ: Mapping[str, str], module: str = "panicmail", command: str = "serve"
    ) -> None:
        self._process = forked.start(
            module,
            *(command, "-c", str(config)),
            cwd=config.parent,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self.lines: list[str] = []  #: of stderr
        self.events: list[tuple[float, Document]] = []  #: with the time.monotonic() each was read at
        self._news = threading.Condition()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for octets in self._process.stderr:
            read_at, line = time.monotonic(), octets.decode("utf-8", "replace").rstrip("\n")
            with self._news:
                self.lines.append(line)
                with contextlib.suppress(ValueError):
                    if isinstance(document := json.loads(line), dict):
                        self.events.append((read_at, document))
                self._news.notify_all()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, event: str, within: float = SOON, *, count: int = 1) -> tuple[float, Document]:
        """When the event was logged for the `count`-th time, and with which facts."""
        ends_at = time.monotonic() + within
        while True:
            with self._news:
                found = [(at, facts) for at, facts in self.events if facts.get("event") == event]
                if len(found) >= count:
                    return found[count - 1]
                self._news.wait(min(0.1, max(0.0, ends_at - time.monotonic())))
            if not self._reading.is_alive():
                raise AssertionError(f"ended ({self.ended()}) without {count} {event!r}{self.tail()}")
            if time.monotonic() >= ends_at:
                raise AssertionError(f"not {count} {event!r} within {within} s{self.tail()}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a power cut would."""
        self._process.kill()
        self._process.wait(SOON)

    def ended(self, within: float = SOON) -> int:
        """The exit status, once it has ended by itself."""
        try:
            status = self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {within} s{self.tail()}") from None
        self._reading.join(SOON)
        return status

    def close(self) -> None:
        if self.is_running:
            self._process.kill()
        self._process.wait(SOON)
        self._reading.join(SOON)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def tail(self) -> str:
        return "\n  log:\n    " + "\n    ".join(line[:600] for line in self.lines[-25:])


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Answer:
    """What an SMTP server answered to a mail; code 0 is a connection that ended without an answer."""

    code: int
    text: str
    sent_at: float  #: time.monotonic() before its first octet was sent

    @property
    def ref(self) -> str:
        accepted = re.search(r"accepted as (\w+)", self.text)
        assert accepted, self
        return accepted[1]


# -- the world around it


@dataclass
class World:
    """A folder with a configuration, what the configuration names, and the programs started on it."""

    folder: Path
    gitlab: SandboxGitLab
    relay: SandboxRelay
    config: dict[str, Any]
    expected: set[str]  #: names of the errors a test provokes
    programs: list[Program] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  #: lines of the mails that were sent
    environ: dict[str, str] = field(default_factory=dict)
    module: str = "panicmail"  #: what `spawn` runs

    # -- the program

    @property
    def path(self) -> Path:
        return self.folder / "panicmail.toml"

    @property
    def database(self) -> Path:
        return self.folder / "panicmail.db"

    @property
    def program(self) -> Program:
        """The one started last."""
        return self.programs[-1]

    def write_config(self) -> None:
        self.path.write_text("\n".join(_tables(self.config)))

    def spawn(self) -> Program:
        self.write_config()
        self.programs.append(Program(self.path, plain_environ(self.environ), self.module))
        return self.program

    def start(self) -> Program:
        """Start it and wait until it is ready."""
        program = self.spawn()
        program.wait_for("ready", 30)
        return program

    def stop(self, within: float = 10.0) -> int:
        """SIGTERM; its exit status."""
        self.program.signal(signal.SIGTERM)
        return self.program.ended(within)

    def reload(self, event: str = "config.reloaded") -> Document:
        """SIGHUP with what the configuration now says; the facts of the event that tells of it."""
        before = sum(facts["event"] == event for _, facts in self.program.events)
        self.write_config()
        self.program.signal(signal.SIGHUP)
        return self.program.wait_for(event, count=before + 1)[1]

    def run(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Ran:
        """Another command on the same configuration."""
        named = [] if "-c" in arguments else ["-c", str(self.path)]
        return run(arguments[0], *named, *arguments[1:], cwd=self.folder, environ=environ)

    # -- mail

    @property
    def smtp_address(self) -> tuple[str, int]:
        host, _, port = str(self.program.wait_for("ready")[1]["smtp"][0]).rpartition(":")
        return host, int(port)

    def connect(self, within: float = 20.0) -> smtplib.SMTP:
        host, port = self.smtp_address
        return smtplib.SMTP(host, port, local_hostname="client.example", timeout=within)

    def send(
        self, raw: bytes, mail_from: str = "rita@example.com", to: str = PANIC, *, tls: ssl.SSLContext | None = None
    ) -> Answer:
        """One mail over a connection of its own."""
        self.remember(raw)
        sent_at = time.monotonic()
        try:
            with contextlib.closing(self.connect()) as client:
                if tls is not None:
                    client.starttls(context=tls)
                client.ehlo_or_helo_if_needed()
                code, text = client.mail(mail_from)
                if code == 250:
                    code, text = client.rcpt(to)
                if code == 250:
                    code, text = client.data(raw)
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    client.quit()
                return Answer(code, text.decode(), sent_at)
        except smtplib.SMTPResponseException as refused:
            return Answer(refused.smtp_code, str(refused.smtp_error), sent_at)
        except (smtplib.SMTPServerDisconnected, ConnectionError) as gone:
            return Answer(0, str(gone), sent_at)

    def begin_mail(self) -> smtplib.SMTP:
        """A client in the middle of its mail; `finish_mail` sends the rest."""
        client = self.connect()
        client.ehlo()
        client.mail("rita@example.com")
        client.rcpt(PANIC)
        assert client.docmd("DATA")[0] == 354
        assert client.sock is not None
        raw = mail("as far as this, and then", subject="slowly")  # each has a Message-ID of its own
        self.remember(raw)
        client.sock.sendall(raw)
        return client

    def finish_mail(self, client: smtplib.SMTP) -> Answer:
        sent_at = time.monotonic()
        assert client.sock is not None
        client.sock.sendall(b"and the rest of it\r\n.\r\n")
        code, text = client.getreply()
        return Answer(code, text.decode(), sent_at)

    def remember(self, raw: bytes) -> None:
        """A mail that was sent: no line of its text may be found in a log."""
        text = raw.decode("utf-8", "replace").partition("\r\n\r\n")[2]
        self.texts += [line.strip() for line in text.splitlines() if len(line.strip()) > 20]

    def panic(
        self, subject: str = "Ransom note on my laptop", text: str = "My files are .locked, Slack is gone."
    ) -> str:
        """A report that is accepted; its REF."""
        answer = self.send(mail(text, subject=subject))
        assert answer.code == 250, f"{answer}{self.program.tail()}"
        return answer.ref

    def reply(self, page: Received, text: str, *, sender: str = "") -> Answer:
        """A person's reply to their page."""
        sender = sender or page.recipients[0]
        quoted = "".join(f"> {line}\n" for line in page.text.splitlines())
        raw = mail(
            f"{text}\n\nOn Sunday, Panic wrote:\n{quoted}",
            sender=sender,
            subject=f"Re: {page.subject}",
            in_reply_to=page.header("Message-ID"),
        )
        return self.send(raw, sender, page.header("Reply-To"))

    def page(self, person: str, ref: str, within: float = SOON, *, count: int = 1) -> Received:
        """The page to a person about an incident, the `count`-th."""
        return self.received(person, lambda got: got.subject.startswith(f"[PANIC {ref}]"), within, count=count)

    def pages(self, person: str, ref: str = "") -> list[Received]:
        address = PEOPLE[person]["email"]
        return self.relay.all(lambda got: got.to(address) and got.subject.startswith(f"[PANIC {ref}"))

    def received(
        self, to: str, wanted: Callable[[Received], object], within: float = SOON, *, count: int = 1
    ) -> Received:
        """A mail to a person or an address that is as wanted."""
        address = PEOPLE[to]["email"] if to in PEOPLE else to
        try:
            return self.relay.wait(lambda got: got.to(address) and wanted(got), within, count=count)
        except AssertionError as late:
            raise AssertionError(f"{late}{self.program.tail()}") from None

    # -- what is there

    def issues(self, ref: str) -> list[Document]:
        """The issues of an incident."""
        return [issue for issue in self.gitlab.issues if ref in (issue["description"] or "")]

    def issue(self, ref: str, within: float = SOON) -> Document:
        return self.until(lambda: self.issues(ref), within, f"no issue of {ref}")[0]

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database answers, SQLite's, from outside."""
        with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def settled(self, within: float = 30.0) -> None:
        """Wait until every mail is understood and everything it asked for is carried out."""
        mails = "SELECT id FROM mails WHERE state = 'accepted'"
        # Twins are looked for much later.
        tasks = "SELECT key FROM outbox WHERE state IN ('queued', 'trying') AND do != 'twins'"
        self.until(lambda: not self.rows(f"{mails} UNION ALL {tasks}"), within, "not everything was carried out")

    def later(self, span: timedelta) -> None:
        """Everything on record happened, and falls due, so much earlier: as if so much time had passed since."""
        url = self.config["database"]["url"].replace("sqlite:///", f"sqlite:///{self.folder}/")
        with contextlib.closing(Database(url, busy_seconds=SOON)) as database, database.writing() as connection:
            for table in (tables.mails, tables.incidents, tables.timeline, tables.outbox):
                (key,) = table.primary_key.columns
                instants = [column for column in table.columns if isinstance(column.type, tables.Instant)]
                for row in connection.execute(sa.select(key, *instants)).all():
                    moved = {each.name: at - span for each, at in zip(instants, row[1:], strict=True) if at is not None}
                    connection.execute(sa.update(table).where(key == row[0]).values(moved))

    def until(self, question: Callable[[], T], within: float, else_: str) -> T:
        """The answer, as soon as it is true."""
        ends_at = time.monotonic() + within
        while not (answer := question()):
            if time.monotonic() >= ends_at:
                raise AssertionError(f"{else_} within {within} s{self.program.tail()}")
            time.sleep(0.02)
        return answer

    def http(self, method: str, path: str, body: str | None = None) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and text of an answer."""
        host, _, port = str(self.program.wait_for("ready")[1]["web"]).rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=SOON)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()

    # -- the end

    def close(self) -> None:
        for program in self.programs:
            program.close()

    def judge(self) -> None:
        """What holds for the log of every program, whatever the test was about."""
        for program in self.programs:
            for line in program.lines:
                self._judge(line)

    def _judge(self, line: str) -> None:
        try:
            facts = json.loads(line)
        except ValueError:
            raise AssertionError(f"a line that is no JSON: {line}") from None
        assert isinstance(facts, dict), line
        assert facts.get("event"), line
        assert facts.get("timestamp"), line
        loud = facts.get("level") in ("error", "critical") or "exception" in facts
        assert not loud or facts["event"] in self.expected, f"an error nobody expected: {line}"
        assert not TOKEN.search(line), f"a token in the log: {line}"
        told = [text for text in (*SECRETS, *self.texts) if text in line]
        assert not told, f"{told} in the log: {line}"


@contextlib.contextmanager
def world(
    folder: Path,
    *,
    steps: Sequence[Sequence[str]] = QUIET,
    sla: str = "10m",
    repeat: str = "10m",
    database: str = "sqlite:///panicmail.db",
    expects: Sequence[str] = (),
) -> Iterator[World]:
    """A world with nothing running in it yet.

    Args:
        steps: After how long, and the roles that are paged.
        expects: Names of the errors the test provokes; any other fails it.
    """
    with SandboxGitLab(token=GITLAB_TOKEN) as gitlab, SandboxRelay() as relay:
        config: dict[str, Any] = {
            "smtp": {"listen": ["127.0.0.1:0"], "hostname": "panic.example.com", "addresses": [PANIC]},
            "database": {"url": database},
            "gitlab": {"url": gitlab.url, "project": gitlab.project, "token_file": "gitlab.token"},
            "relay": {"url": f"smtp://panic:{RELAY_PASSWORD}@127.0.0.1:{relay.port}"},
            "people": {name: dict(person) for name, person in PEOPLE.items()},
            "oncall": {"seoc": {"fixed": ["ana"]}, "smoc": {"fixed": ["max"]}},
            "escalation": {
                "sla": sla,
                "steps": [{"after": after, "page": list(roles)} for after, *roles in steps],
                "repeat": repeat,
            },
            "authentication": {"method": "none", "nameservers": ["127.0.0.1:9"]},  # nobody is there
            "receipts": {"domains": ["example.com"]},
            "storm": {"members": 0, "digest_after": 0},  # every mail is an incident, every page a mail
            "web": {"listen": "127.0.0.1:0", "url": "https://panic.example.com"},
            "log": {"format": "json"},
        }
        token = folder / "gitlab.token"
        token.write_text(GITLAB_TOKEN + "\n")
        token.chmod(0o600)
        town = World(folder, gitlab, relay, config, set(expects))
        town.write_config()
        try:
            yield town
        finally:
            town.close()
        town.judge()


def run(*arguments: str, cwd: Path, environ: Mapping[str, str] | None = None) -> Ran:
    """`python -m panicmail` with these arguments, to its end."""
    done = forked.run("panicmail", *arguments, cwd=cwd, env=plain_environ(environ or {}), within=SOON)
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def plain_environ(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would configure the program."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PANICMAIL") and name not in ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY")
    }
    return {**ours, "NO_COLOR": "1", **more}


def _tables(config: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """A configuration as TOML."""
    for name, table in config.items():
        plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
        if plain or not table:
            yield f"[{above}{name}]"
            yield from (f"{key} = {_toml(value)}" for key, value in plain.items())
        yield from _tables({key: value for key, value in table.items() if isinstance(value, dict)}, f"{above}{name}.")


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(inner)}' for key, inner in value.items())} }}"
    return json.dumps(value)
