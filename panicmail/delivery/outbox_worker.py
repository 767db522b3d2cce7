"""What every lane does: claim a row, try it, and write down what came of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from panicmail import crashpoints
from panicmail.errors import Blocked, Permanent, StoreFailed, Temporary, Unknown
from panicmail.incident import push_channel, transitions
from panicmail.incident.model import EffectKind, Entry, Incident, Owed, PageReason, State
from panicmail.incident.sender_proof import ProofState, sender_line
from panicmail.incident.storm_rules import MOST, STORM_BEGAN, PageDigest, digest_id
from panicmail.incident.tasks import PUSH
from panicmail.incident.transitions import UnsentReason
from panicmail.mail.compose.letterhead import within
from panicmail.mail.compose.notice_context import NoticeContext, PageSent, organisation_at
from panicmail.mail.incident_report import answers_of, flags_of, is_first_of, remarks_of, report_of, write_instead
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response import incident_links, reporter_thread
from panicmail.response.sender_demands import proof_of
from panicmail.store.blocked_adapters import adapter_of
from panicmail.store.outbox import LEASE
from panicmail.store.pages import channel_of
from panicmail.store.rows import DeliveryState, OutboxRow, TimelineRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: The wait after the first failed attempt, doubled with each further one up to the lane's longest.
FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = {
    "page": timedelta(seconds=15),
    "push": timedelta(seconds=15),
    "mail": timedelta(seconds=60),
    "gitlab": timedelta(seconds=60),
}
#: The first tries towards GitLab, some five minutes of them, are at most this far apart.
GITLAB_SOON = timedelta(seconds=8)
GITLAB_SOON_TRIES = 40


class OutboxWorker:
    """Claims rows of one lane and carries them out. One per thread.

    The transaction that ends one row claims the next: nothing is begun for that alone while there is more to do.
    `claimed` is called when it has found something to carry out: there may be more.
    """

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self._store = store
        self.claimed: Callable[[], None] = lambda: None
        self._next: list[OutboxRow] | None = None  #: what the last transaction claimed; None: it did not look

    def work(self) -> bool:
        """Claim one row and carry it out; False when there is none that can be."""
        claimed = self._next or self._claim()
        for task in claimed:
            self.take(task)
        return bool(claimed)

    def _claim(self) -> list[OutboxRow]:
        if not self._store.read(lambda tx: tx.outbox.is_due(self.name)):
            return []
        claimed = self._store.write(f"{self.name}.claim", self._claim_next)
        if claimed:
            self.claimed()
        return claimed

    def _claim_next(self, tx: Transaction) -> list[OutboxRow]:
        return tx.outbox.claim(self.name, 1, LEASE[self.name])

    def take(self, task: OutboxRow) -> bool:
        """Carry out a row that is claimed for this thread; False when there was no other as it ended."""
        self._next = None
        self._try(task)
        return self._next is None or bool(self._next)

    def _end(self, name: str, work: Callable[[Transaction], object]) -> None:
        """Write down what came of a row, and claim the next one."""

        def ending(tx: Transaction) -> list[OutboxRow]:
            work(tx)
            return self._next or self._claim_next(tx)

        self._next = self._store.write(name, ending)

    def _try(self, task: OutboxRow) -> None:
        try:
            self._carry_out(task)
        except Exception as exc:  # ours or a library's: the row stays, the others go on
            self._failed(task, exc)

    def _failed(self, task: OutboxRow, why: Exception) -> None:
        """Write down that this attempt came to nothing."""
        if isinstance(why, Blocked):
            self._barred(task, why)
        elif isinstance(why, Permanent):
            self._refused(task, str(why))
        elif isinstance(why, Temporary):
            self._put_off(task, str(why), sure=not isinstance(why, Unknown), retry_after=why.retry_after)
        else:
            about = self._about(task)
            _log.error("dispatch.failed", **about, lane=self.name, do=task.do, attempt=task.attempt, exc_info=why)
            self._put_off(task, f"panicmail failed: {type(why).__name__}", sure=False)

    def _bundle(self, task: OutboxRow, settings: RuntimeSettings) -> None:
        """Carry out one of many pages to its person with the others, or let it wait for them."""
        bundle = self._store.write(f"{self.name}.claim", lambda tx: gather(tx, settings, task))
        if bundle is None:
            return
        try:
            if len(bundle.tasks) > 1:
                self._carry_out_together(bundle, settings)
            else:
                self._carry_out_alone(task, settings)
        except Exception:  # the next one does not wait for it
            self._store.write("outbox.put_off", lambda tx: tx.digests.let_the_next_go(bundle.digest))
            raise

    def _carry_out_together(self, bundle: PageBundle, settings: RuntimeSettings) -> None:
        """Send one message for all of a bundle, and write down for each what came of it."""
        crashpoints.point(f"{self.name}.sending")
        try:
            answer = self._send_bundle(bundle, settings)
        except Exception as exc:
            for task in bundle.tasks[1:]:
                self._failed(task, exc)
            raise
        crashpoints.point(f"{self.name}.sent")

        def settle(tx: Transaction) -> None:
            for task in bundle.tasks:
                sent(tx, task, answer)

        self._end(f"{self.name}.settle", settle)
        incidents = [task.incident_id for task in bundle.tasks]
        _log.info("digest.sent", lane=self.name, incidents=incidents, person=bundle.digest.person, answer=answer)

    def _send_bundle(self, bundle: PageBundle, settings: RuntimeSettings) -> str:
        """Send one message about several pages; what the other side answered."""
        raise NotImplementedError

    def _carry_out_alone(self, task: OutboxRow, settings: RuntimeSettings) -> None:
        """Carry out one row by itself."""
        raise NotImplementedError

    def _carry_out(self, task: OutboxRow) -> None:
        raise NotImplementedError

    def _refused(self, task: OutboxRow, answer: str) -> None:
        raise NotImplementedError

    def _barred(self, task: OutboxRow, why: Blocked) -> None:
        """Nothing gets through there, whatever it is: the row waits until something does, and the others behind it."""
        about, answer, adapter = self._about(task), str(why), adapter_of(task)

        def work(tx: Transaction) -> None:
            if tx.adapters.park(task, answer):
                cause, facts = f"{adapter.partition('/')[0]}_barred", self._barred_facts(tx, task)
                tx.queue.tell_operators(cause, {**facts, "answer": answer}, incident_id=task.incident_id)

        self._end("outbox.put_off", work)
        _log.error("adapter.barred", **about, adapter=adapter, do=task.do, attempt=task.attempt, reason=answer)

    def _barred_facts(self, tx: Transaction, task: OutboxRow) -> dict[str, Any]:
        """What else the operators are told of it."""
        return {}

    def _put_off(self, task: OutboxRow, answer: str, *, sure: bool, retry_after: float | None = None) -> None:
        wait = timedelta(seconds=retry_after) if retry_after is not None else self._wait(task)
        _log.warning(
            "dispatch.put_off",
            **self._about(task),
            lane=self.name,
            do=task.do,
            attempt=task.attempt,
            seconds=wait.total_seconds(),
            reason=answer,
        )
        self._end("outbox.put_off", lambda tx: tx.outbox.put_off(task, tx.now + wait, answer, sure=sure))

    def _about(self, task: OutboxRow) -> dict[str, str | None]:
        """Which incident and whom a row is about, for the log."""
        ref = None
        if task.incident_id is not None:
            incident_id = task.incident_id
            with suppress(StoreFailed):  # a line without it is better than none
                incident = self._store.read(lambda tx: tx.incidents.get(incident_id))
                ref = incident.ref if incident else None
        return {"ref": ref, "person": task.person}

    def _wait(self, task: OutboxRow) -> timedelta:
        longest = LONGEST_WAIT[self.name]
        if self.name == "gitlab" and task.attempt <= GITLAB_SOON_TRIES:
            longest = GITLAB_SOON
        wait = min(FIRST_WAIT * float(2 ** min(task.attempt - 1, 16)), longest)
        return wait * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, keeps no secret

    def _settle(self, task: OutboxRow, state: DeliveryState, answer: str) -> None:
        self._end(f"{self.name}.settle", lambda tx: tx.outbox.settle(task, state, answer))


# -- What came of a message, written down: accepted, refused, and what follows from it.


def sent(tx: Transaction, task: OutboxRow, answer: str, unencrypted: str = "") -> None:
    """Args: unencrypted: why it was not encrypted for its reader, though they have a key."""
    if unencrypted and task.facts.get("cause") != "not_encrypted":
        not_encrypted(tx, task.person or "", unencrypted)
    if not tx.outbox.settle(task, DeliveryState.ACCEPTED, answer):
        return  # another attempt took over meanwhile; its outcome is the one that counts
    incident = tx.incidents.get(task.incident_id or "")
    if incident is not None and task.do in {EffectKind.PAGE, EffectKind.RECEIPT}:
        event = "page.accepted" if task.do == EffectKind.PAGE else "receipt.accepted"
        facts = {"person": task.person, "answer": answer, "channel": _channel(task)}
        tx.timeline.add(incident, Entry(event=event, actor="panicmail", facts=facts, note=False))
        if task.do == EffectKind.PAGE and task.person:
            tx.incidents.apply(incident, transitions.reached(incident, task.person))


def not_encrypted(tx: Transaction, person: str, why: str) -> None:
    tx.queue.tell_operators("not_encrypted", {"person": person, "answer": why}, rings=False)


def refused(tx: Transaction, settings: RuntimeSettings, task: OutboxRow, answer: str) -> None:
    if not tx.outbox.settle(task, DeliveryState.FAILED, answer):
        return
    incident = tx.incidents.get(task.incident_id or "")
    if incident is not None and task.do == EffectKind.NEWS:
        reporter_thread.not_taken(tx, incident, task, answer)
    if incident is None or task.person is None:
        return
    facts = {"person": task.person, "answer": answer, "channel": _channel(task)}
    tx.timeline.add(incident, Entry(event=f"{task.do}.refused", actor="panicmail", facts=facts))
    if task.do == EffectKind.PAGE:
        _alarm(tx, settings, incident, task, facts)
        lost(tx, settings, incident, task, f"their {'phone' if task.lane == PUSH else 'mail server'} refused the page")


def _alarm(
    tx: Transaction, settings: RuntimeSettings, incident: Incident, task: OutboxRow, facts: Mapping[str, Any]
) -> None:
    """Mail and phones have a cause each: one is told once an hour, and a dead phone must not hide the relay."""
    person = settings.people.get(task.person or "")
    told = {
        **facts,
        "ref": incident.ref,
        "channel": push_channel.in_words(_channel(task), person.push if person else ()),
    }
    tx.queue.tell_operators("push_refused" if task.lane == PUSH else "page_refused", told, incident_id=incident.id)


def lost(tx: Transaction, settings: RuntimeSettings, incident: Incident, task: OutboxRow, why: str) -> None:
    """A page failed for good. Unless another channel of theirs carries it, they are unreachable."""
    if task.person is None or tx.pages.has_another_way(task):
        return
    tx.incidents.apply(incident, transitions.unreachable(incident, task.person, why, settings.duty(incident, tx.now)))


def _channel(task: OutboxRow) -> str:
    return str(task.facts.get("channel", "mail"))


# -- Many pages to one person become one: which of them, and when. Shared by the lanes that page.


@dataclass(frozen=True, slots=True)
class PageBundle:
    """Rows of the outbox that one message carries out, each with its incident."""

    digest: PageDigest
    pages: tuple[tuple[OutboxRow, Incident], ...]

    @property
    def tasks(self) -> tuple[OutboxRow, ...]:
        return tuple(task for task, _ in self.pages)


def is_flooded(tx: Transaction, settings: RuntimeSettings, task: OutboxRow) -> bool:
    """Whether so many different mailboxes paged this person lately that their pages go together. The first page about
    a sender who is proved is never one of them."""
    after = settings.digest.after
    if task.do != EffectKind.PAGE or not task.person or not after:
        return False
    if task.facts.get("round") == 1 and _is_proved(tx, settings, tx.incidents.get(task.incident_id or "")):
        return False
    return tx.digests.mailboxes_of(task.person, tx.now - settings.storm.within, after + 1) > after


def gather(tx: Transaction, settings: RuntimeSettings, task: OutboxRow) -> PageBundle | None:
    """The pages that go with `task`, claimed; None when they wait for the next digest, or none is wanted any more.

    One page alone is a bundle as well, goes out as any page does, and makes the next ones wait.
    """
    person, channel = task.person or "", channel_of(task)
    tx.mails.lock(f"digest/{person}/{channel}")
    last_at = tx.digests.last_at(person, channel)
    next_at = settings.digest.next_at(last_at, tx.now, settings.policy.undelivered_after)
    if next_at > tx.now:
        tx.outbox.hold(task, next_at)
        return None
    wanted: list[tuple[OutboxRow, Incident]] = []
    claimed = (task, *tx.outbox.claim_with(task, MOST - 1, LEASE[task.lane]))
    for each in claimed:
        incident = tx.incidents.get(each.incident_id or "")
        if incident is not None and is_wanted(tx, incident, each):
            wanted.append((each, incident))
        else:
            tx.outbox.settle(each, DeliveryState.VOID, "it lost its reason before it was sent")
    if not wanted:
        return None
    wanted.sort(key=_known_first(tx, settings))
    digest = PageDigest(
        id=digest_id(person, channel, (each.key for each, _ in wanted)),
        person=person,
        channel=channel,
        made_at=tx.now,
        pages=tuple((incident.id, int(each.facts["round"])) for each, incident in wanted),
    )
    tx.digests.add(digest)
    if len(claimed) == MOST:  # there may be more, and they follow at once
        tx.digests.let_the_next_go(digest)
    if last_at is None or tx.now - last_at > settings.storm.within:
        _tell_once(tx, settings, person, wanted[0][1])
    return PageBundle(digest, tuple(wanted))


def _known_first(
    tx: Transaction, settings: RuntimeSettings
) -> Callable[[tuple[OutboxRow, Incident]], tuple[bool, bool, int]]:
    """Proved senders first, then known ones."""
    return lambda page: (
        not _is_proved(tx, settings, page[1]), not settings.is_known_sender(page[1].reporter_address), page[0].id
    )  # fmt: skip


def _is_proved(tx: Transaction, settings: RuntimeSettings, incident: Incident | None) -> bool:
    mail = tx.mails.get(incident.mail_id) if incident is not None else None
    return proof_of(settings, mail).state is ProofState.PROVED


def _tell_once(tx: Transaction, settings: RuntimeSettings, person: str, incident: Incident) -> None:
    """The operators and the managers on call hear that somebody is paged by digests: once an hour."""
    tx.queue.tell_operators("pages_bundled", {"person": person}, incident_id=incident.id)
    tx.log("pages.bundled", person=person, ref=incident.ref)
    for manager in settings.policy.people(settings.policy.managers, settings.who_at(tx.now)):
        if manager != person and manager not in settings.operators:
            key = f"bundled/{person}/{tx.now:%Y%m%d%H}"
            tx.queue.tell(incident, manager, key, {"what": "pages_bundled", "person": person, "at": tx.now.isoformat()})


# -- What a message is about as it is sent: gathered right before, so that it says what is true then.

#: So many other incidents are looked at, and named as far as there is room.
NEIGHBOURS = 20


def is_wanted(tx: Transaction, incident: Incident, task: OutboxRow) -> bool:
    """Whether this page still asks for something: checked right before it is sent."""
    word = PageReason(task.facts["word"])
    newer = [
        t
        for t in tx.outbox.of_incident(incident.id)
        if t.do == EffectKind.PAGE
        and t.person == task.person
        and t.facts["round"] > task.facts["round"]
        and t.state is not DeliveryState.VOID
        and t.facts["word"] != PageReason.HANDED
    ]
    if newer:
        return False
    if incident.once:
        return True
    match word:
        case PageReason.HANDED:
            return incident.handed_to == task.person and incident.state is not State.RESOLVED
        case PageReason.STILL_YOURS:
            return incident.holder == task.person and incident.owed is Owed.ANSWER
        case PageReason.STATUS:
            return incident.holder == task.person and incident.owed is Owed.STATUS
        case PageReason.SILENT_HOLDER:
            return incident.state is State.ACKED
        case _:
            return incident.state is State.OPEN


def notice_context(tx: Transaction, settings: RuntimeSettings, incident: Incident, task: OutboxRow) -> NoticeContext:
    reader = task.person or ""
    found = settings.people.get(reader)
    lines = tx.timeline.of_incident(incident.id)
    instead = write_instead(lines)
    context = NoticeContext(
        organisation=organisation_at(settings, tx.now, incident),
        incident=incident,
        report=report_of(tx, incident),
        facts=task.facts,
        now=tx.now,
        pages=[
            PageSent(
                person=t.person or "",
                channel="push" if t.lane == PUSH else "mail",
                at=t.queued_at,
                state=t.state.value,
                answer=t.answer,
            )
            for t in tx.outbox.of_incident(incident.id)
            if t.do == EffectKind.PAGE
        ],
        also_open=tx.search.open_incidents_of(reader, besides=incident.id, limit=NEIGHBOURS) if reader else [],
        same_reporter=_same_reporter(tx, incident),
        link=settings.link(incident.id, reader, incident_links.live_round(lines, reader)) if reader else "",
        conversation=reporter_thread.address(tx, settings, incident, reader) if reader and instead is None else "",
        unheard=_unheard(tx, settings, incident, reader, instead) if reader else "",
        instead=instead,
        sender=sender_line(proof_of(settings, tx.mails.get(incident.mail_id)), is_first=is_first_of(lines)),
        known_as=settings.reporters.get(incident.reporter_address),
        writer=proof_of(settings, tx.mails.get(str(task.facts["mail"])) if task.facts.get("mail") else None),
        flags=flags_of(lines),
        remarks=remarks_of(lines, settings.scope),
        answers=answers_of(lines),
        storm_members=_storm_members(tx, incident, lines),
    )
    return within(context, found.detail) if found and task.lane != PUSH else context


def _unheard(tx: Transaction, settings: RuntimeSettings, incident: Incident, reader: str, instead: str | None) -> str:
    """Why the reader cannot write to the reporter; "" when they can."""
    why = reporter_thread.why_none(tx, settings, incident, reader)
    return why or ("" if instead is None else UnsentReason.QUIET)


def _storm_members(tx: Transaction, incident: Incident, lines: Sequence[TimelineRow]) -> int | None:
    storm = tx.storms.get(incident.id) if any(line.event == STORM_BEGAN for line in lines) else None
    return storm.members if storm else None


def _same_reporter(tx: Transaction, incident: Incident) -> list[Incident]:
    address = incident.reporter_address
    return tx.search.open_incidents_from(address, besides=incident.id, limit=NEIGHBOURS) if address else []
