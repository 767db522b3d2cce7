"""The daemon between its sandboxes as the bench wants it, and what is asked of it there."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from panicmail.sandbox.relay_server import Received
from tests import forked
from tests.bench.load import Load, Sent, send
from tests.bench.proc import until
from tests.program import World, world

#: With these, each panic is a page of its own, whoever sends how many.
ONE_BY_ONE = {"members": 0, "digest_after": 0}


@contextlib.contextmanager
def bench_world(folder: Path, storm: dict[str, Any] | None = None, **settings: Any) -> Iterator[World]:
    """As `tests.program.world`; what the daemon logs as an error is told on standard error and fails nothing.

    The daemon is an interpreter of its own, as where it is installed: memory and CPU are its own.

    Args:
        storm: The [storm] of its configuration; None: as panicmail has it by itself.
        settings: As `world` takes them.
    """
    with pytest.MonkeyPatch.context() as patch, world(folder, **settings) as town:
        patch.setenv(forked.EXEC, "1")
        town.config["storm"] = dict(storm or {})
        try:
            yield town
        finally:
            _tell_errors(town)


def _tell_errors(town: World) -> None:
    facts = [facts for program in town.programs for _, facts in list(program.events)]
    loud = Counter(str(each["event"]) for each in facts if each.get("level") in ("error", "critical"))
    town.expected |= set(loud)
    for event, times in loud.items():
        print(f"   the daemon logged {event} {times} times", file=sys.stderr)


def panic(town: World, number: int, *, tag: str = "rita", source: str = "127.0.0.1") -> Sent:
    """One panic of a person of their own, accepted."""
    (sent,) = send(Load(town.smtp_address[1], 1, size=1024, tag=f"{tag}{number}n", source=source)).sent
    if sent.code != 250:
        raise RuntimeError(f"the panic was answered {sent.code}{town.program.tail()}")
    return sent


class Pages:
    """The mails to one person, looked at once each."""

    def __init__(self, town: World, address: str = "ana@example.com") -> None:
        self._town, self._address = town, address
        self._seen = 0
        self.mails: list[Received] = []

    def look(self) -> list[Received]:
        """All so far, oldest first."""
        new = self._town.relay.mails[self._seen :]
        self._seen += len(new)
        self.mails += [mail for mail in new if mail.to(self._address)]
        return self.mails

    def of(self, canary: str, within: float = 60.0) -> Received:
        """The page whose subject has this word."""
        word = canary.encode()
        ends_at = time.monotonic() + within
        while True:
            for mail in reversed(self.look()):
                if word in mail.raw:
                    return mail
            if time.monotonic() > ends_at:
                raise RuntimeError(f"no page of {canary} within {within:.0f} s{self._town.program.tail()}")
            time.sleep(0.002)


def logged(town: World, event: str) -> list[dict[str, Any]]:
    """What the daemon that was started last logged under this name, oldest first."""
    return [facts for _, facts in list(town.program.events) if facts.get("event") == event]


def instant(text: str) -> float:
    """An instant as the log or the database has it, in seconds since the epoch."""
    return datetime.fromisoformat(text.removesuffix("Z") + "+00:00").timestamp()


def paged_at(town: World, person: str) -> dict[str, float]:
    """When the first page to a person about each incident was taken, alone or in a digest."""
    first: dict[str, float] = {}
    for facts in logged(town, "page.sent"):
        if facts["person"] == person:
            first.setdefault(facts["incident"], instant(facts["timestamp"]))
    for facts in logged(town, "digest.sent"):
        for incident in facts["incidents"] if facts["person"] == person else ():
            at = instant(facts["timestamp"])
            first[incident] = min(first.get(incident, at), at)
    return first


def count(town: World, table: str, where: str) -> int:
    return int(town.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])


def is_settled(town: World) -> bool:
    """Whether everything accepted is understood and carried out, but what waits for its own time."""
    waiting = "state IN ('queued', 'trying') AND do NOT IN ('twins')"
    return not count(town, "mails", "state = 'accepted'") and not count(town, "outbox", waiting)


def settle(town: World, within: float = 60.0) -> bool:
    return until(lambda: is_settled(town), within, 0.2)
