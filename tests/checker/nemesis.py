"""The nemesis: does harm by a seed, one thing at a time with each of its two arms, and mends it again.

One arm is for the nodes, the other for what is around them, so that a node is killed while the relay hangs or the
database is away. Every harm is in the history as `begins` and `ends`; whoever wants to know when nobody could have been
paged finds it there (`spans`).
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from panicmail.crashpoints import POINTS
from panicmail.sandbox.faults import Kind
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import SandboxRelay
from tests.checker.client import Post
from tests.checker.history import History
from tests.checker.nodes import Node
from tests.checker.stores import How, Postgres, Sqlite

#: Where a process is made to die: before and after each transaction and call that a run has every few seconds.
OFTEN = ("mails.accept", "mails.claim", "mails.understand", "page.", "mail.", "gitlab.", "tick.move", "smtp.")
CRASH_POINTS = tuple(point for point in POINTS if point.startswith(OFTEN))
#: Does one harm and mends it; ends early when the nemesis is told to stop.
Harm = Callable[[random.Random], None]
#: A whole line that no configuration has.
NONSENSE = "\n[escalation]\nthis is = not [toml\n"
#: So long a SIGTERM may take (contract.md 1: 10 s), with room for a busy machine.
ENDS_WITHIN = 15.0


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What there is to be hurt."""

    nodes: Sequence[Node]
    store: Sqlite | Postgres
    relay: SandboxRelay
    gitlab: SandboxGitLab
    post: Post


class Nemesis:
    """From `start` to `stop`, after which everything is as it should be.

    Args:
        every: Seconds between two harms of one arm, on average.
        only: Names of the harms that may be done; () for all that the targets allow.
    """

    def __init__(self, targets: Targets, history: History, seed: int, every: float, only: Sequence[str] = ()) -> None:
        self._targets, self._history, self._every = targets, history, every
        self._stopped = threading.Event()
        self._numbers = itertools.count(1)
        arms = {"nodes": self._node_harms(), "around": {**self._peer_harms(), **self._store_harms()}}
        self._threads = [
            threading.Thread(target=self._strike, args=(random.Random(f"{seed}/{arm}"), wanted), daemon=True)
            for arm, harms in arms.items()
            if (wanted := {name: harm for name, harm in harms.items() if not only or name in only})
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Mend what is broken. Returns when nothing is any more."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._targets.gitlab.clear_faults()
        self._targets.gitlab.up()
        self._targets.relay.clear_rules()
        self._targets.relay.up()
        for node in self._targets.nodes:
            node.start()

    def _strike(self, rng: random.Random, harms: Mapping[str, Harm]) -> None:
        while not self._stopped.wait(rng.uniform(0.4, 1.6) * self._every):
            family = rng.choice(sorted({name.partition(".")[0] for name in harms}))
            name = rng.choice(sorted(name for name in harms if name.startswith(f"{family}.")))
            number = next(self._numbers)
            self._history.add("nemesis", "begins", fault=name, number=number)
            try:
                harms[name](rng)
            finally:
                self._history.add("nemesis", "ends", fault=name, number=number)

    def _hold(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    # -- the nodes

    def _node_harms(self) -> Mapping[str, Harm]:
        harms: dict[str, Harm] = {
            "node.kill": self._kill,
            "node.kill at once": self._kill_at_once,
            "node.crash": self._crash,
            "node.terminate": self._terminate,
            "node.pause": self._pause,
            "node.reload": self._reload,
        }
        return harms if len(self._targets.nodes) == 1 else {**harms, "node.kill all": self._kill_all}

    def _kill(self, rng: random.Random) -> None:
        node = rng.choice(self._targets.nodes)
        node.kill()
        self._hold(rng.choice((0.0, 0.5, 3.0)))
        node.start()

    def _kill_at_once(self, rng: random.Random) -> None:
        """The moment something was done in the world: that is when its record is not yet written."""
        counts: tuple[Callable[[], int], ...] = (
            lambda: self._targets.post.taken,
            lambda: len(self._targets.relay.mails),
            lambda: len(self._targets.gitlab.requests),
        )
        count = rng.choice(counts)
        before, ends_at = count(), time.monotonic() + 3.0
        while count() == before and time.monotonic() < ends_at and not self._stopped.is_set():
            time.sleep(0.001)
        self._kill(rng)

    def _crash(self, rng: random.Random) -> None:
        """Dies at a point where something has just been done, or is about to be, and is not yet on record."""
        node = rng.choice(self._targets.nodes)
        node.kill()
        node.wait_for_end(ENDS_WITHIN)
        node.start(trap=f"{rng.choice(CRASH_POINTS)}:{rng.randint(1, 4)}")
        self._hold(0.1)
        if not node.wait_for_end(8.0):
            node.kill()
        node.start()

    def _kill_all(self, rng: random.Random) -> None:
        for node in self._targets.nodes:
            node.kill()
        self._hold(rng.uniform(0.5, 6.0))
        for node in self._targets.nodes:
            node.start()

    def _terminate(self, rng: random.Random) -> None:
        node = rng.choice(self._targets.nodes)
        node.terminate()
        node.wait_for_end(ENDS_WITHIN)
        self._hold(rng.choice((0.0, 2.0)))
        node.start()

    def _pause(self, rng: random.Random) -> None:
        node = rng.choice(self._targets.nodes)
        node.pause()
        self._hold(rng.uniform(1.0, 5.0))
        node.go_on()

    def _reload(self, rng: random.Random) -> None:
        """A wrong configuration first, then the old one again. Not while it starts: that would be no reload."""
        node = rng.choice(self._targets.nodes)
        if not node.is_ready:
            return
        right = node.config.read_text()
        node.config.write_text(rng.choice((right + NONSENSE, "", right.replace("ana@", "nobody at "))))
        node.reload()
        self._hold(0.5)
        node.config.write_text(right)
        node.reload()

    # -- what it talks to

    def _peer_harms(self) -> Mapping[str, Harm]:
        return {
            "relay.4xx": lambda rng: self._relay(rng, rng.choice((421, 450, 451, 452))),
            "relay.5xx": lambda rng: self._relay(rng, rng.choice((550, 554))),
            "relay.down": self._relay_down,
            "relay.hang": self._relay_hang,
            "relay.drop": self._relay_drop,
            "relay.silent": self._relay_silent,
            "gitlab.down": self._gitlab_down,
            "gitlab.500": lambda rng: self._gitlab_status(rng, rng.choice((500, 502, 503))),
            "gitlab.429": lambda rng: self._gitlab_status(rng, 429),
            "gitlab.hang": self._gitlab_hang,
            "gitlab.lost": self._gitlab_lost,
            "client.cut": lambda rng: self._targets.post.cut_next(rng.randint(1, 4)),
        }

    def _relay(self, rng: random.Random, code: int) -> None:
        relay = self._targets.relay
        relay.rule("@example.com", "reject", code, stage=rng.choice(("mail", "rcpt", "data", "end")))
        self._hold(rng.uniform(1.0, 6.0))
        relay.clear_rules()

    def _relay_down(self, rng: random.Random) -> None:
        self._targets.relay.down()
        self._hold(rng.uniform(1.0, 6.0))
        self._targets.relay.up()

    def _relay_hang(self, rng: random.Random) -> None:
        """Takes every mail and says nothing; shorter than panicmail's patience, so that nobody tries twice in it."""
        self._targets.relay.rule("@example.com", "hang", stage=rng.choice(("end", "mail")))
        self._hold(rng.uniform(2.0, 8.0))
        self._targets.relay.clear_rules()

    def _relay_drop(self, rng: random.Random) -> None:
        """Hangs up after the dot and keeps nothing, a few times."""
        self._targets.relay.rule("@example.com", "drop", stage="end", times=rng.randint(1, 4))
        self._hold(2.0)
        self._targets.relay.clear_rules()

    def _relay_silent(self, rng: random.Random) -> None:
        """Keeps one mail and hangs up without a word."""
        self._targets.relay.rule("@example.com", "hang", stage="end", times=1, seconds=0.2)
        self._hold(1.5)
        self._targets.relay.clear_rules()

    def _gitlab_down(self, rng: random.Random) -> None:
        self._targets.gitlab.down()
        self._hold(rng.uniform(1.0, 8.0))
        self._targets.gitlab.up()

    def _gitlab_status(self, rng: random.Random, status: int) -> None:
        headers = {"Retry-After": "3"} if status == 429 else {}
        self._targets.gitlab.fault("status", status=status, headers=headers, times=None)
        self._hold(rng.uniform(1.0, 8.0))
        self._targets.gitlab.clear_faults()

    def _gitlab_hang(self, rng: random.Random) -> None:
        self._targets.gitlab.fault("hang", times=None)
        self._hold(rng.uniform(1.0, 8.0))
        self._targets.gitlab.clear_faults()

    def _gitlab_lost(self, rng: random.Random) -> None:
        """Does what it is asked, and the answer is lost."""
        kind: Kind = rng.choice(("reset_after", "silent_after", "truncate"))
        self._targets.gitlab.fault(kind, times=rng.randint(1, 3), match=rng.choice(("POST .*/issues$", "POST ")))
        self._hold(3.0)
        self._targets.gitlab.clear_faults()

    # -- the database

    def _store_harms(self) -> Mapping[str, Harm]:
        store = self._targets.store
        if isinstance(store, Sqlite):
            return {"database.lock": lambda rng: self._lock(store, rng)}
        harms: dict[str, Harm] = {"database.disconnect": lambda _: store.disconnect()}
        if store.can_be_stopped:
            harms["database.stop"] = lambda rng: self._stop(store, rng)
        return harms

    def _lock(self, store: Sqlite, rng: random.Random) -> None:
        store.lock(rng.uniform(1.0, 8.0), self._stopped)

    def _stop(self, store: Postgres, rng: random.Random) -> None:
        how: How = rng.choice(("fast", "immediate"))
        try:
            store.stop(how)
            self._hold(rng.choice((rng.uniform(0.5, 6.0), rng.uniform(10.0, 16.0))))
        finally:
            store.start()
