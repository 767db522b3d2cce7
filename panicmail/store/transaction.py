"""One transaction: everything panicmail knows, as statements by noun.

`Store.write` runs a piece of work in one transaction and hands it a `Transaction`, whose parts are the statements about
each noun. What the work wrote is durable when `write` returns, and wholly undone when it raises. A work may run more
than once (two nodes changed the same incident, the slower one starts over), so it does nothing but read, decide and
write.

Guards:

* an incident changes only `WHERE version = ` the one it was read at;
* an outbox row is locked and claimed in one transaction, with a lease, its attempt counted before the network is
  touched; what came of it is written only for that attempt;
* a mail is understood once (`UNIQUE(mail_id)`, and a guard on its state).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from panicmail.store.blocked_adapters import BlockedAdapters
from panicmail.store.channel_proofs import ChannelProofs, DrillCodes, Findings
from panicmail.store.erasures import Erasures
from panicmail.store.future_rows import FutureRows
from panicmail.store.gaps import Figures, Gaps, Invariants
from panicmail.store.incidents import Incidents, IncidentSearch, Timeline
from panicmail.store.mails import MailReadings, Mails, SenderChecks
from panicmail.store.outbox import LEASE, Outbox, OutboxGaps, OutboxQueue
from panicmail.store.pages import PageDigests, Pages
from panicmail.store.queries import UNHELD, TransactionContext
from panicmail.store.signing_keys import SigningKeys
from panicmail.store.storms import Storms
from panicmail.store.tables import mails, outbox
from panicmail.store.watermark import Watermarks


class Transaction:
    """What can be read and written in one transaction, by noun."""

    def __init__(self, context: TransactionContext) -> None:
        self.context, self.connection, self.now = context, context.connection, context.now

    @cached_property
    def mails(self) -> Mails:
        return Mails(self.context)

    @cached_property
    def digests(self) -> PageDigests:
        return PageDigests(self.context)

    @cached_property
    def storms(self) -> Storms:
        return Storms(self.context)

    @cached_property
    def readings(self) -> MailReadings:
        return MailReadings(self.context)

    @cached_property
    def senders(self) -> SenderChecks:
        return SenderChecks(self.context)

    @cached_property
    def adapters(self) -> BlockedAdapters:
        return BlockedAdapters(self.context)

    @cached_property
    def pages(self) -> Pages:
        return Pages(self.context, self.adapters)

    @cached_property
    def queue(self) -> OutboxQueue:
        return OutboxQueue(self.context)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.context, self.adapters, self.pages, self.queue)

    @cached_property
    def timeline(self) -> Timeline:
        return Timeline(self.context, self.queue)

    @cached_property
    def search(self) -> IncidentSearch:
        return IncidentSearch(self.context, self.pages)

    @cached_property
    def incidents(self) -> Incidents:
        return Incidents(self.context, self.search, self.pages, self.queue, self.timeline)

    @cached_property
    def proofs(self) -> ChannelProofs:
        return ChannelProofs(self.context, self.queue)

    @cached_property
    def findings(self) -> Findings:
        return Findings(self.context)

    @cached_property
    def drills(self) -> DrillCodes:
        return DrillCodes(self.context)

    @cached_property
    def keys(self) -> SigningKeys:
        return SigningKeys(self.context)

    @cached_property
    def erasures(self) -> Erasures:
        return Erasures(self.context)

    @cached_property
    def figures(self) -> Figures:
        return Figures(self.context)

    @cached_property
    def gaps(self) -> Gaps:
        return Gaps(self.context)

    @cached_property
    def outbox_gaps(self) -> OutboxGaps:
        return OutboxGaps(self.context, self.adapters)

    @cached_property
    def future_rows(self) -> FutureRows:
        return FutureRows(self.context)

    @cached_property
    def invariants(self) -> Invariants:
        return Invariants(self.context)

    @cached_property
    def watermark(self) -> Watermarks:
        return Watermarks(self.context)

    def log(self, event: str, **facts: Any) -> None:
        """Say in the log, once this is committed, that something happened."""
        self.context.logged.append((event, facts))

    def hand_over(self) -> None:
        """Claim what this transaction made ready for threads that have nothing to do. The last thing it does."""
        for lane in sorted(self.context.woken.intersection(LEASE)):
            if self.outbox.hand_over(lane):
                self.context.woken.discard(lane)

    def release_leases(self) -> None:
        """Free everything claimed: whoever claimed it is gone. Only where one process at a time uses the database."""
        for table in (mails, outbox):
            self.connection.execute(table.update().where(table.c.lease_until.is_not(None)).values(**UNHELD))
