"""The tables, for SQLite and PostgreSQL alike. `migrations/` makes them; a test holds the two together."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa


class Instant(sa.types.TypeDecorator[datetime]):
    """An instant: aware UTC in Python, on both databases. A naive one is refused before it is stored."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"an instant without a zone: {value!r}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class AnyText(sa.types.TypeDecorator[str]):
    """Text of any origin. What no database can hold, a NUL and half a surrogate pair, becomes U+FFFD.

    PostgreSQL refuses a NUL: one in a HELO would be a mail that can never be stored.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        if value is None or (value.isascii() and "\0" not in value):  # a report may have 14 million characters
            return value
        return _UNSTORABLE.sub("\ufffd", value)


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

#: Of the indexes that find what nodes hold: a handful of rows, however many there are.
_HELD = sa.text("lease_by IS NOT NULL")
_BARRED = sa.text("barred IS NOT NULL")
#: Of the index that finds what is still to be carried out.
_PENDING = sa.text("done_at IS NULL")
#: Of the index that finds incidents for which time brings something.
_DUE = sa.text("due_at IS NOT NULL")
#: Pages of open incidents, and those of which nobody knows yet whether they reach their person.
PAGE_OPEN = sa.text("is_open")
PAGE_UNDECIDED = sa.text("undecided")
#: Of the indexes that find whose turn is next.
_WAITING = sa.text("state = 'accepted'")
#: Of the index that counts a mailbox's mails.
_FLOODS = sa.text("mailbox IS NOT NULL")
#: Of the index that finds storms of which there is something to tell.
_TELLS = sa.text("tell_at IS NOT NULL")
#: Of the index that finds mails to be read again.
_AGAIN = sa.text("again_at IS NOT NULL")
#: Of the index that finds mails whose sender is to be checked.
_UNCHECKED = sa.text("sender_at IS NOT NULL")

#: Every mail that got a 250, and what became of it.
mails = sa.Table(
    "mails",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("accepted_at", Instant, nullable=False),
    sa.Column("mail_from", AnyText, nullable=False),
    sa.Column("recipients", sa.JSON, nullable=False),
    sa.Column("peer", AnyText, nullable=False),
    sa.Column("helo", AnyText, nullable=False),
    sa.Column("tls", AnyText, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(64)),
    sa.Column("state", sa.String(12), nullable=False),  # accepted, understood
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lease_until", Instant),
    sa.Column("lease_by", AnyText),  # the node and thread that hold it; NULL where one daemon has the database
    sa.Column("shape", sa.String(12)),
    sa.Column("incident_id", sa.String(16)),
    sa.Column("message_id", AnyText),
    sa.Column("report", AnyText),  # as `mail.parse.report_json` writes it
    sa.Column("again_at", Instant),  # when it is to be read again; NULL: it is not
    sa.Column("readings", sa.Integer, nullable=False, server_default="0"),  # begun, beside the first
    sa.Column("turn", sa.Integer, nullable=False, server_default="0"),  # see `Mails.add`
    sa.Column("sender", AnyText),  # what is proved of its sender, as `sender_proof.to_json`; NULL: nothing yet
    sa.Column("sender_at", Instant),  # when its sender is checked next; NULL: not any more, or not yet asked for
    sa.Column("sender_tries", sa.Integer, nullable=False, server_default="0"),  # checks that were begun
    sa.Column("mailbox", AnyText),  # as `storm_rules.storm_mailbox` says; "": of a storm that was taken apart
    sa.Index(None, "state", "accepted_at"),
    sa.Index("ix_mails_waiting", "turn", "accepted_at", "id", sqlite_where=_WAITING),
    sa.Index("ix_mails_waiting_of", "mail_from", "turn", sqlite_where=_WAITING),
    sa.Index("ix_mails_mailbox", "mailbox", "accepted_at", sqlite_where=_FLOODS),
    sa.Index("ix_mails_sender_at", "sender_at", sqlite_where=_UNCHECKED),
    sa.Index("ix_mails_again_at", "again_at", sqlite_where=_AGAIN),
    sa.Index(None, "digest"),
    sa.Index(None, "message_id"),
    sa.Index(None, "incident_id"),
    sa.Index("ix_mails_lease_by", "lease_by", sqlite_where=_HELD),
)

#: The octets, apart from the row above: a claim must not rewrite 50 MiB.
raws = sa.Table(
    "raws",
    metadata,
    sa.Column("mail_id", sa.String(26), sa.ForeignKey("mails.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("raw", sa.LargeBinary, nullable=False),
)

incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("ref", sa.String(8), nullable=False, unique=True),
    sa.Column("mail_id", sa.String(26), sa.ForeignKey("mails.id"), nullable=False, unique=True),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("accepted_at", Instant, nullable=False),
    sa.Column("sla_at", Instant, nullable=False),
    sa.Column("first_sla_at", Instant, nullable=False),
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("steps_from_at", Instant, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("next_step_at", Instant),
    sa.Column("remind_at", Instant),
    sa.Column("due_at", Instant),  # as `transitions.due_at` says; NULL: it is resolved
    sa.Column("owed", sa.String(8)),  # work, answer, status; NULL: nobody has it
    sa.Column("words_at", Instant),
    sa.Column("worked_at", Instant),
    sa.Column("holder", AnyText),
    sa.Column("handed_to", AnyText),
    sa.Column("acked_at", Instant),
    sa.Column("first_acked_at", Instant),
    sa.Column("acked_how", AnyText, nullable=False),
    sa.Column("breached_at", Instant),
    sa.Column("resolved_at", Instant),
    sa.Column("resolved_by", AnyText, nullable=False),
    sa.Column("away", sa.JSON, nullable=False),
    sa.Column("once", sa.Boolean, nullable=False),
    sa.Column("drill", sa.Boolean, nullable=False),
    sa.Column("policy", sa.Text, nullable=False, server_default="default"),
    sa.Column("severity", sa.Integer),
    sa.Column("severity_by", AnyText, nullable=False, server_default=""),  # "": the report's words said it
    sa.Column("linked_to", sa.String(8)),
    sa.Column("subject", AnyText, nullable=False),
    sa.Column("reporter_address", AnyText, nullable=False),
    sa.Column("reporter_name", AnyText, nullable=False),
    sa.Column("message_id", AnyText),
    sa.Column("mailbox", AnyText, nullable=False, server_default=""),  # as `storm_rules.storm_mailbox` says
    sa.Column("issue_project", AnyText),  # by number, once it was moved; NULL: the configured one
    sa.Column("issue_iid", sa.Integer),
    sa.Column("issue_url", AnyText),
    sa.CheckConstraint("(state = 'open') = (next_step_at IS NOT NULL)", name="open_has_a_next_step"),
    sa.Index(None, "state", "next_step_at"),
    sa.Index(None, "state", "remind_at"),
    sa.Index(None, "state", "accepted_at"),
    sa.Index(None, "state", "opened_at"),
    sa.Index(None, "state", "holder"),
    sa.Index(None, "reporter_address", "accepted_at"),
    sa.Index("ix_incidents_due_at", "due_at", sqlite_where=_DUE),
    sa.Index(None, "state", "breached_at"),
    sa.Index(None, "accepted_at"),
    sa.Index(None, "resolved_at"),
    sa.Index(None, "issue_iid"),
)

#: What happened, in order, never changed.
timeline = sa.Table(
    "timeline",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("incident_id", sa.String(16), sa.ForeignKey("incidents.id"), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("event", AnyText, nullable=False),
    sa.Column("actor", AnyText),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Index(None, "incident_id"),
)

#: What is still to be done in the world, and what came of it. Rows are never deleted while they matter.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("incident_id", sa.String(16), sa.ForeignKey("incidents.id")),
    sa.Column("lane", sa.String(8), nullable=False),
    sa.Column("do", sa.String(12), nullable=False),
    sa.Column("key", AnyText, nullable=False, unique=True),
    sa.Column("person", AnyText),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("after_id", sa.BigInteger),
    sa.Column("after_until", Instant),
    sa.Column("state", sa.String(8), nullable=False),  # queued, trying, accepted, failed, void, parked
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("queued_at", Instant, nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("lease_until", Instant),
    sa.Column("lease_by", AnyText),  # as in mails
    sa.Column("unsure_at", Instant),
    sa.Column("done_at", Instant),
    sa.Column("answer", AnyText, nullable=False),
    sa.Column("adapter", AnyText, nullable=False, server_default=""),  # see `blocked_adapters.adapter_name`
    sa.Column("barred", AnyText),  # the same, when its last attempt found to let nothing through
    sa.Column("mailbox", AnyText, nullable=False, server_default=""),  # who reported the incident; "": of none
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),  # see `OutboxQueue.add`
    sa.Index(None, "lane", "state", "due_at"),
    sa.Index("ix_outbox_pending", "lane", "priority", "id", sqlite_where=_PENDING),
    sa.Index("ix_outbox_pending_of", "lane", "mailbox", "priority", sqlite_where=_PENDING),
    sa.Index(None, "incident_id"),
    sa.Index(None, "after_id"),
    sa.Index("ix_outbox_lease_by", "lease_by", sqlite_where=_HELD),
    sa.Index("ix_outbox_barred", "barred", sqlite_where=_BARRED),
)

#: Every page: whom, as what, by which channel, and what came of it.
pages = sa.Table(
    "pages",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("incident_id", sa.String(16), sa.ForeignKey("incidents.id"), nullable=False),
    sa.Column("person", AnyText, nullable=False),
    sa.Column("role", AnyText, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("channel", AnyText, nullable=False),  # "mail", the id of a push channel, "" for one from memory
    sa.Column("queued_at", Instant, nullable=False),
    sa.Column("accepted_at", Instant),
    sa.Column("failed_at", Instant),  # with `accepted_at`: it was taken, and came back
    sa.Column("answer", AnyText, nullable=False),
    sa.Column("is_open", sa.Boolean, nullable=False),  # as its incident is
    sa.Column("undecided", sa.Boolean, nullable=False),  # whether it reaches its person is still to be seen
    sa.UniqueConstraint("incident_id", "person", "round", "channel"),
    sa.Index("ix_pages_open", "person", "queued_at", sqlite_where=PAGE_OPEN),
    sa.Index("ix_pages_undecided", "queued_at", sqlite_where=PAGE_UNDECIDED),
)

#: What is known of a storm beside its incident; the columns are those of `storm_rules.Storm`.
storms = sa.Table(
    "storms",
    metadata,
    sa.Column("incident_id", sa.String(16), sa.ForeignKey("incidents.id"), primary_key=True),
    sa.Column("mailbox", AnyText, nullable=False),
    sa.Column("first", sa.JSON, nullable=False),
    sa.Column("last_at", Instant, nullable=False),
    sa.Column("members", sa.Integer, nullable=False),
    sa.Column("told", sa.Integer, nullable=False),
    sa.Column("tell_at", Instant),
    sa.Column("told_at", Instant),
    sa.Column("receipt_at", Instant),
    sa.Column("split_at", Instant),
    sa.Index(None, "mailbox", "last_at"),
    sa.Index("ix_storms_tell_at", "tell_at", sqlite_where=_TELLS),
)

#: The mails of a storm that are unlike all before, by `storm_rules.likeness`.
storm_kinds = sa.Table(
    "storm_kinds",
    metadata,
    sa.Column("incident_id", sa.String(16), sa.ForeignKey("incidents.id"), primary_key=True),
    sa.Column("likeness", sa.String(64), primary_key=True),
    sa.Column("mail_id", sa.String(26), nullable=False),
    sa.Column("told", sa.Boolean, nullable=False),  # whoever has the storm knows of it
)

#: When each mailbox last paged a person, so that many are told from few however many pages there are.
paging_mailboxes = sa.Table(
    "paging_mailboxes",
    metadata,
    sa.Column("person", AnyText, primary_key=True),
    sa.Column("mailbox", AnyText, primary_key=True),  # of the incident; where that has none its id
    sa.Column("last_at", Instant, nullable=False),
    sa.Index(None, "person", "last_at"),
)

#: Many pages to one person that went out as one.
digests = sa.Table(
    "digests",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("person", AnyText, nullable=False),
    sa.Column("channel", AnyText, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
    sa.Index(None, "person", "channel", "made_at"),
)

#: The pages of a digest, in the order it names them.
digest_pages = sa.Table(
    "digest_pages",
    metadata,
    sa.Column("digest_id", sa.String(16), sa.ForeignKey("digests.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("incident_id", sa.String(16), sa.ForeignKey("incidents.id"), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
)

#: The keys tokens are signed with, shared by all nodes; newest first by `made_at`.
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("kid", sa.String(1), primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
)

#: What test pages came to, by person and channel; never changed.
proofs = sa.Table(
    "proofs",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("test", sa.String(16), nullable=False),  # what the tokens of a test page name
    sa.Column("person", AnyText, nullable=False),
    sa.Column("channel", AnyText, nullable=False),
    sa.Column("what", sa.String(12), nullable=False),  # asked, taken, refused, delivered, reply, failed
    sa.Column("how", AnyText, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Index(None, "test"),
    sa.Index(None, "person", "channel"),
)

#: What the daily re-check found wrong and told the operators; a row goes when it is mended.
findings = sa.Table(
    "findings",
    metadata,
    sa.Column("name", AnyText, primary_key=True),
    sa.Column("verdict", sa.String(8), nullable=False),
    sa.Column("found", AnyText, nullable=False),
    sa.Column("since_at", Instant, nullable=False),
    sa.Column("told_at", Instant, nullable=False),
)

#: Codes that make a mail a drill, by their digests, and the mails that used them.
drills = sa.Table(
    "drills",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),  # SHA-256
    sa.Column("made_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("mail_id", sa.String(26)),
)

#: What was erased, when and by whom: the audit that outlives what it tells of. Never changed.
erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("what", sa.String(12), nullable=False),  # planned, raw, incident
    sa.Column("ref", sa.String(8), nullable=False),  # "" of a plan
    sa.Column("by", AnyText, nullable=False),  # "retention", or who ran the command
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Index(None, "what", "at"),
)
