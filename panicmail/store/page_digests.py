"""Digests of pages: when there is to be one, and which pages each one held."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from panicmail.incident.page_digest import PageDigest
from panicmail.store.queries import Queries, insert_or_not
from panicmail.store.tables import digest_pages, digests, paging_mailboxes

#: So long ago was, as far as the next one goes, a digest that it need not wait for.
_LONG_AGO = timedelta(days=1)


@cache
def _noting(*, is_sqlite: bool) -> Any:
    """Built once: every page asks it."""
    adding = insert_or_not(paging_mailboxes, is_sqlite=is_sqlite)
    return adding.on_conflict_do_update(index_elements=["person", "mailbox"], set_={"last_at": adding.excluded.last_at})


def note_paging(connection: sa.Connection, people: Sequence[str], mailbox: str, at: datetime) -> None:
    """These people are paged by a mailbox; in the order of their names: two nodes must not wait for each other."""
    if people:
        rows = [{"person": person, "mailbox": mailbox, "last_at": at} for person in people]
        connection.execute(_noting(is_sqlite=connection.dialect.name == "sqlite"), rows)


class PageDigests(Queries):
    """Statements about digests."""

    def add(self, digest: PageDigest) -> None:
        """Write a digest down; one of the same pages is sent again."""
        c = digests.c
        again = digests.update().where(c.id == digest.id).values(made_at=digest.made_at)
        if self._connection.execute(again).rowcount:
            return
        row = {"id": digest.id, "person": digest.person, "channel": digest.channel, "made_at": digest.made_at}
        self._connection.execute(digests.insert().values(row))
        held = [
            {"digest_id": digest.id, "number": number, "incident_id": incident_id, "round": round_}
            for number, (incident_id, round_) in enumerate(digest.pages)
        ]
        self._connection.execute(digest_pages.insert(), held)

    def let_the_next_go(self, digest: PageDigest) -> None:
        """The next one need not wait because of this: it was not sent, or had no room for all."""
        sooner = digest.made_at - _LONG_AGO
        self._connection.execute(digests.update().where(digests.c.id == digest.id).values(made_at=sooner))

    def get(self, digest_id: str) -> PageDigest | None:
        row = self._connection.execute(sa.select(digests).where(digests.c.id == digest_id)).one_or_none()
        if row is None:
            return None
        c = digest_pages.c
        query = sa.select(c.incident_id, c.round).where(c.digest_id == digest_id).order_by(c.number)
        held = tuple((each.incident_id, each.round) for each in self._connection.execute(query))
        return PageDigest(id=row.id, person=row.person, channel=row.channel, made_at=row.made_at, pages=held)

    def last_at(self, person: str, channel: str) -> datetime | None:
        """When the latest digest to a person by a channel was made."""
        c = digests.c
        query = sa.select(c.made_at).where(c.person == person, c.channel == channel)
        return self._connection.execute(query.order_by(c.made_at.desc()).limit(1)).scalar_one_or_none()

    def mailboxes_of(self, person: str, since: datetime, most: int) -> int:
        """How many different mailboxes paged `person` since; it counts to `most`."""
        c = paging_mailboxes.c
        found = sa.select(c.mailbox).where(c.person == person, c.last_at > since).limit(most).subquery()
        return int(self._connection.execute(sa.select(sa.func.count()).select_from(found)).scalar_one())
