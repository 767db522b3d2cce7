"""A clock that is moved, and rows that are written without a mail."""

from __future__ import annotations

from datetime import datetime

from panicmail.incident import ids
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from tests.cast import T0


class MovedClock:
    """A clock the test moves."""

    def __init__(self, at: datetime = T0) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


def accept(
    store: Store, raw: bytes = b"Subject: help\r\n\r\nhelp\r\n", sender: str = "rita@example.com"
) -> AcceptedMail:
    mail_id = ids.new_mail_id()

    def work(tx: Transaction) -> AcceptedMail:
        mail = AcceptedMail(id=mail_id, accepted_at=tx.now, mail_from=sender, recipients=("panic@example.com",),
                    peer="127.0.0.1", helo="client", tls="", size=len(raw))  # fmt: skip
        tx.mails.add(mail, raw)
        return mail

    return store.write("test", work)
