"""The people who are paged: they read what the relay took for them and answer some of it, by mail.

What each does with a page is drawn by the seed, the panic, the person and how often they were paged for it. Once
diligent, everybody says yes to every page: that is how a run comes to its end.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from panicmail.sandbox.quick_actions import Action, Rule
from panicmail.sandbox.relay_server import Received, SandboxRelay
from panicmail.sandbox.returns import returns
from tests.checker.client import Letter, Post
from tests.office import mail

PAGE = re.compile(r"\[PANIC (\w+)\]")
UID = re.compile(r"\bp\d{5}\b")
#: What somebody does with their first page of an incident, the second, and every further one, with its weight.
FIRST = {"yes": 34, "no": 12, "escalate": 8, "silence": 24, "away": 6, "empty": 8, "bounce": 8}
SECOND = {"yes": 40, "no": 8, "escalate": 6, "silence": 40, "away": 2, "empty": 4}
LATER = {"yes": 75, "silence": 25}
#: The share of panics that find the engineers deaf: nobody but the manager ever answers.
DEAF = 0.15
YES = ("ack", "on it", "Got it, looking now")
WORDS = {"no": "no", "escalate": "escalate", "resolve": "resolved", "empty": ""}


class People:
    """Everybody who can be paged, in one thread, from `start` to `stop`.

    Args:
        addresses: Person -> where their pages go.
        smoc: Who answers when nobody else does.
        sla: Seconds; the slowest answers come somewhat after it.
    """

    def __init__(
        self, post: Post, relay: SandboxRelay, addresses: Mapping[str, str], smoc: str, seed: int, sla: float
    ) -> None:
        self._post, self._relay, self._smoc, self._seed, self._sla = post, relay, smoc, seed, sla
        self._person = {address: person for person, address in addresses.items()}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._read = 0
        self._pages: Counter[tuple[str, str]] = Counter()
        self._seen: set[str] = set()
        self._numbers = itertools.count(1)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.diligent = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def busy(self) -> int:
        """What they still mean to do."""
        return len(self._agenda)

    def _live(self) -> None:
        while not self._stopped.wait(0.05):
            mails = self._relay.mails
            for got in mails[self._read :]:
                self._consider(got)
            self._read = len(mails)
            while self._agenda and self._agenda[0][0] <= time.monotonic():
                heapq.heappop(self._agenda)[2]()

    def _consider(self, got: Received) -> None:
        """A copy of a page somebody has is the same mail: their mail program shows it once."""
        person = self._person.get(got.recipients[0])
        subject, message_id = got.subject, got.header("Message-ID")
        found = PAGE.match(subject)
        if person is None or found is None or message_id in self._seen:
            return
        self._seen.add(message_id)
        self._pages[person, found[1]] += 1
        uid = UID.search(subject)
        panic = f"{self._seed}/{uid and uid[0]}"
        rng = random.Random(f"{panic}/{person}/{self._pages[person, found[1]]}")
        deaf = person != self._smoc and random.Random(panic).random() < DEAF
        choice = self._choose(self._pages[person, found[1]], rng, deaf=deaf)
        if choice != "silence":
            wait = 0.1 if self.diligent else rng.uniform(0.1, 0.6 * self._sla)
            self._later(wait, lambda: self._do(choice, got, person, found[1], rng))

    def _choose(self, count: int, rng: random.Random, *, deaf: bool) -> str:
        if deaf and not self.diligent:
            return "silence"
        weights = {"yes": 1} if self.diligent else {1: FIRST, 2: SECOND}.get(count, LATER)
        return rng.choices(list(weights), list(weights.values()))[0]

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time.monotonic() + seconds, next(self._numbers), act))

    def _do(self, choice: str, page: Received, person: str, ref: str, rng: random.Random) -> None:
        if choice in ("away", "bounce"):
            self._post.submit(self._robot(choice, page, person, ref, rng))
            return
        self._post.submit(self._reply(choice, page, person, ref, rng))
        if choice == "yes" and rng.random() < 0.7:
            wait = rng.uniform(0.5, 5.0)
            self._later(wait, lambda: self._post.submit(self._reply("resolve", page, person, ref, rng)))

    def _reply(self, choice: str, page: Received, person: str, ref: str, rng: random.Random) -> Letter:
        uid, sender = f"a{next(self._numbers):05d}", page.recipients[0]
        words = rng.choice(YES) if choice == "yes" else WORDS[choice]
        quoted = "".join(f"> {line}\n" for line in page.text.splitlines())
        raw = mail(f"{words}\n\nOn Sunday, Panic wrote:\n{quoted}", sender=sender, subject=f"Re: {page.subject}",
                   in_reply_to=page.header("Message-ID"), extra=f"X-Checker: {uid}")  # fmt: skip
        facts = {"says": choice, "incident_ref": ref}
        return Letter(uid=uid, kind="answer", process=person, raw=raw, mail_from=sender,
                      to=page.header("Reply-To"), facts=facts)  # fmt: skip

    def _robot(self, choice: str, page: Received, person: str, ref: str, rng: random.Random) -> Letter:
        """Their mail server reports that they are away, or that there is no such mailbox."""
        action: Action = "bounce" if choice == "bounce" else "out of office"
        rule = Rule(
            address=page.recipients[0],
            action=action,
            stage="end",
            code=550,
            times=1,
            seconds=0.0,
            via="",
            target=rng.choice(("Return-Path", "Reply-To")),
            cleared=threading.Event(),
        )
        (back,) = returns(page, rule, datetime.now(UTC))
        uid = f"r{next(self._numbers):05d}"
        return Letter(uid=uid, kind="automatic", process=person, raw=f"X-Checker: {uid}\r\n".encode() + back.raw,
                      mail_from="", to=back.recipient, facts={"says": choice, "incident_ref": ref})  # fmt: skip
