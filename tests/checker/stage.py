"""One run: everything is set up, played, healed, waited for, and recorded."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from panicmail.config.schema import DatabaseSettings
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import SandboxRelay
from tests.checker import state
from tests.checker.client import HOST, Post, Reporters
from tests.checker.history import History
from tests.checker.nemesis import Nemesis, Targets
from tests.checker.nodes import Node
from tests.checker.people import People
from tests.checker.record import Record, Terms
from tests.checker.stores import Postgres, Sqlite
from tests.office import PANIC
from tests.program import GITLAB_TOKEN, _tables, plain_environ

#: Two engineers and a manager, so that two can say yes at once and one can be left when the others are away.
PEOPLE = {
    "ana": {"name": "Ana Reyes", "email": "ana@example.com", "gitlab": "ana"},
    "bo": {"name": "Bo Low", "email": "bo@example.com", "gitlab": "bo"},
    "max": {"name": "Max Ode", "email": "max@example.com", "gitlab": "max"},
}
SMOC = "max"
ROLES = {"seoc": ["ana", "bo"], "smoc": [SMOC]}
#: Short enough that escalations happen; longer than a page takes on a busy machine.
SLA, REPEAT = 8.0, 3.0
STEPS: tuple[tuple[float, tuple[str, ...]], ...] = ((0.0, ("seoc",)), (4.0, ("seoc",)), (SLA, ("smoc", "seoc")))
#: As many open incidents are enough.
CROWD = 15
#: So long the system must have been at rest before the run is over, in seconds.
REST = 1.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a run is played."""

    seconds: float  #: of load and harm; rest comes after it
    seed: int
    nodes: int = 1
    panic_every: float = 1.5  #: seconds, on average
    harm_every: float = 5.0  #: seconds, on average, of each of the two arms
    harms: tuple[str, ...] = ()  #: only these; (): all there are
    patience: float = 330.0  #: for everything to come to rest; the longest lease is 240 s


@dataclass
class Stage:
    """What a run is played with."""

    plan: Plan
    store: Sqlite | Postgres
    folder: Path
    gitlab: SandboxGitLab
    relay: SandboxRelay
    history: History
    nodes: Sequence[Node]
    post: Post
    people: People
    spooled: set[str] = field(default_factory=set)

    # -- the end

    def rest(self) -> None:
        """Wait until there is nothing left to do, or patience is at its end; the history says which."""
        began = quiet_since = time.monotonic()
        unfinished: list[str] = []
        while (now := time.monotonic()) - began < self.plan.patience and now - quiet_since < REST:
            time.sleep(0.2)
            unfinished = self.unfinished()
            if unfinished:
                quiet_since = time.monotonic()
        if unfinished:
            self.history.add("run", "restless", unfinished=unfinished)
        else:
            self.history.add("run", "rests", seconds=round(time.monotonic() - began, 1))

    def unfinished(self) -> list[str]:
        """What is still to be done, in words."""
        counts = {
            "mails without a 250": self.post.waiting,
            "answers not yet written": self.people.busy,
            "nodes not ready": sum(not node.is_ready for node in self.nodes),
            "mails in a spool": len(self.spool()),
            "twins in GitLab": self._twins(),
            **self._rows(),
        }
        return [f"{count} {what}" for what, count in counts.items() if count]

    def _twins(self) -> int:
        """Open issues beyond one for each marker; those without a marker are the invariants' business."""
        markers = [state.MARKER.findall(one["description"]) for one in self.gitlab.issues if one["state"] == "opened"]
        return sum(map(len, markers)) - len({marker for found in markers for marker in found})

    def is_crowded(self) -> bool:
        """Each open incident is paged again every few seconds, and the machine may have other work."""
        return self._rows().get("open incidents", 0) >= CROWD

    def _rows(self) -> Mapping[str, int]:
        waiting = """FROM outbox WHERE state IN ('queued', 'trying') AND "do" != 'twins'"""
        statements = {
            "mails not understood": "SELECT count(*) AS n FROM mails WHERE state = 'accepted'",
            "open incidents": "SELECT count(*) AS n FROM incidents WHERE state = 'open'",
            "pages to send": f"SELECT count(*) AS n {waiting} AND lane = 'page'",
            "other mails to send": f"SELECT count(*) AS n {waiting} AND lane = 'mail'",
            "things to tell GitLab": f"SELECT count(*) AS n {waiting} AND lane = 'gitlab'",
        }
        try:
            return {what: self.store.rows(statement)[0]["n"] for what, statement in statements.items()}
        except Exception as exc:  # whichever driver's it is: away now, or not what we think it is
            return {f"databases that do not answer ({exc})": 1}

    def spool(self) -> list[str]:
        """What lies in the nodes' emergency spools."""
        folders = [found for found in self.folder.glob("node-*/*spool*") if found.is_dir()]
        return sorted(f"{folder.parent.name}/{file.stem}" for folder in folders for file in folder.glob("*.mail"))

    @contextmanager
    def watching_spools(self) -> Iterator[None]:
        """Meanwhile, remember every mail that lies in a spool."""
        stopped = threading.Event()

        def watch() -> None:
            while not stopped.wait(0.05):
                self.spooled.update(self.spool())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def record(self) -> Record:
        """What is left when every node has ended."""
        self.history.add("run", "ends")
        left = state.read(self.store, self.gitlab, self.relay.mails, self.history.began_at)
        left = replace(left, spooled=len(self.spooled), spool=tuple(self.spool()))
        return Record(terms=terms(self.store), events=self.history.events, state=left)


def terms(store: Sqlite | Postgres) -> Terms:
    return Terms(
        sla=SLA,
        repeat=REPEAT,
        steps=tuple(after for after, _ in STEPS),
        people={person: facts["email"] for person, facts in PEOPLE.items()},
        smoc=SMOC,
        at_once=store.name == "postgres",
    )


def play(plan: Plan, store: Sqlite | Postgres, folder: Path) -> tuple[Record, Mapping[str, Sequence[str]]]:
    """The record of a run, and the log of each node.

    Args:
        folder: An empty one; the nodes live in it. SQLite's file is in `node-0`.
    """
    with _stage(plan, store, folder) as stage:
        _harm(stage)
        stage.people.diligent = True
        stage.rest()
        stage.people.stop()
        stage.post.stop()
        for node in stage.nodes:
            node.terminate()
        for node in stage.nodes:
            node.wait_for_end(20)
        record = stage.record()
    return record, {node.name: node.lines for node in stage.nodes}


def _harm(stage: Stage) -> None:
    """Load and harm for as long as the plan says; at its end everything is mended."""
    plan = stage.plan
    reporters = Reporters(stage.post, stage.relay, plan.seed, plan.panic_every, stage.is_crowded)
    targets = Targets(nodes=stage.nodes, store=stage.store, relay=stage.relay, gitlab=stage.gitlab, post=stage.post)
    nemesis = Nemesis(targets, stage.history, plan.seed, plan.harm_every, plan.harms)
    nemesis.start()
    reporters.start()
    try:
        time.sleep(plan.seconds)
    finally:
        reporters.stop()
        nemesis.stop()


@contextmanager
def _stage(plan: Plan, store: Sqlite | Postgres, folder: Path) -> Iterator[Stage]:
    history = History()
    with ExitStack() as stack:
        gitlab = stack.enter_context(SandboxGitLab(token=GITLAB_TOKEN))
        relay = stack.enter_context(SandboxRelay())
        nodes = []
        for number, port in enumerate(_free_ports(plan.nodes)):
            config = _write_config(folder / f"node-{number}", configuration(port, store, gitlab, relay))
            nodes.append(Node(f"node-{number}", config, port, plain_environ({}), history))
            stack.callback(nodes[-1].close)
        post = Post(history, {node.name: node.port for node in nodes}, plan.seed)
        people = People(post, relay, terms(store).people, SMOC, plan.seed, SLA)
        stage = Stage(plan, store, folder, gitlab, relay, history, nodes, post, people)
        stack.enter_context(stage.watching_spools())
        for node in nodes:
            node.start()
        _wait_until_ready(nodes)
        post.start()
        stack.callback(post.stop)
        people.start()
        stack.callback(people.stop)
        yield stage


def _wait_until_ready(nodes: Sequence[Node]) -> None:
    ends_at = time.monotonic() + 30
    while not all(node.is_ready for node in nodes):
        if time.monotonic() > ends_at:
            raise AssertionError(f"not ready within 30 s: {[node.name for node in nodes if not node.is_ready]}")
        time.sleep(0.05)


def configuration(
    port: int, store: Sqlite | Postgres, gitlab: SandboxGitLab, relay: SandboxRelay
) -> Mapping[str, Mapping[str, Any]]:
    database: dict[str, Any] = {"url": store.url}
    if (
        isinstance(store, Postgres) and "spool" in DatabaseSettings.model_fields
    ):  # an emergency spool is each node's own
        database["spool"] = "spool"
    return {
        "smtp": {"listen": [f"{HOST}:{port}"], "hostname": "panic.example.com", "addresses": [PANIC]},
        "database": database,
        "gitlab": {"url": gitlab.url, "project": gitlab.project, "token": GITLAB_TOKEN},
        "relay": {"url": relay.url},
        "people": PEOPLE,
        "oncall": {role: {"fixed": people} for role, people in ROLES.items()},
        "escalation": {
            "sla": f"{SLA}s",
            "steps": [{"after": f"{after}s", "page": list(roles)} for after, roles in STEPS],
            "repeat": f"{REPEAT}s",
            "remind_after": "6h",
        },
        "authentication": {"method": "none"},
        "receipts": {"domains": ["example.com"]},
        "storm": {"members": 0, "digest_after": 0},  # every mail is an incident, every page a mail
        "web": {"listen": f"{HOST}:0"},
        "log": {"format": "json"},
    }


def _write_config(folder: Path, config: Mapping[str, Mapping[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "panicmail.toml"
    path.write_text("\n".join(_tables(config)))
    path.chmod(0o600)
    return path


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]
