"""Many pages to one person become one: which of them, and when. Shared by the lanes that page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from panicmail.delivery.message_context import is_wanted
from panicmail.incident.model import EffectKind, Incident
from panicmail.incident.page_digest import MOST, PageDigest, digest_id
from panicmail.incident.sender_proof import ProofState
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.sender_demands import proof_of
from panicmail.store.outbox import LEASE
from panicmail.store.pages import channel_of
from panicmail.store.rows import DeliveryState, OutboxRow
from panicmail.store.transaction import Transaction


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
