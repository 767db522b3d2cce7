"""`panicmail check --mx`: whether what our own mail server says of senders can be believed.

A mail goes out by the relay and comes back by the MX, as a stranger's would, with a forged Authentication-Results in
the server's own name. The daemon hears it as an answer to a test page, and writes down what was left of that field.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from panicmail.check import relay_checks
from panicmail.check.paging_checks import LOOK_EVERY, STEP_SECONDS
from panicmail.check.result import Group, Row
from panicmail.config import Config
from panicmail.errors import PanicmailError
from panicmail.incident import ids
from panicmail.incident.reply_tokens import Purpose
from panicmail.intake.check_page_replies import MX, MxFacts
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.channel_proofs import Proof, ProofKind
from panicmail.store.unit_of_work import Store

_MX = Group.DOOR


def try_mx(
    store: Store, settings: RuntimeSettings, config: Config, seconds: float, stopped: threading.Event
) -> list[Row]:
    """Send the mail, wait for it, and say what was left of the forged field.

    Raises:
        StoreFailed: It cannot be put on record; nothing was sent.
    """
    test, person = ids.incident_id(ids.new_mail_id()), settings.operators[0]
    to = settings.reply_routes.reply_to(Purpose.TEST, test, person)
    store.write("command.act", lambda tx: tx.proofs.prove(test, person, MX, ProofKind.ASKED, "by panicmail check"))
    try:
        with closing(relay_checks.connect(config, STEP_SECONDS)) as connection:
            answer = connection.send(_forged(settings, config, test, to), config.relay.sender, to)
    except PanicmailError as exc:
        return [
            _MX.failed("MX", f"the relay did not take the mail that was to come back: {exc}", "mend the relay first")
        ]
    proof = _waited(store, test, seconds, stopped)
    if proof is None:
        mend = f"see where {to} goes, or wait longer with --wait"
        return [_MX.failed("MX", f"the mail did not come back within {seconds:g} s; the relay said: {answer}", mend)]
    return list(_rows(MxFacts.of(proof), config))


def _forged(settings: RuntimeSettings, config: Config, test: str, to: str) -> bytes:
    """A mail to ourselves, that says of itself that it is proved."""
    mail = EmailMessage(policy=SMTP)
    domain = config.relay.sender.rpartition("@")[2]
    for server in config.authentication.trusted_authserv_ids:
        mail.add_header("Authentication-Results", f"{server}; dmarc=pass ({test}) header.from={domain}")
    mail["From"], mail["To"] = config.relay.sender, to
    mail["Subject"] = "panicmail check --mx: nothing is wrong"
    mail["Message-ID"] = f"<{test}.mx@{settings.hostname}>"
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("panicmail tries whether its mail server removes forged Authentication-Results.\n")
    return mail.as_bytes()


def _waited(store: Store, test: str, seconds: float, stopped: threading.Event) -> Proof | None:
    ends_at = time.monotonic() + seconds
    while True:
        proofs = store.read(lambda tx: tx.proofs.of_test(test))
        heard = next((proof for proof in proofs if proof.what is ProofKind.DELIVERED), None)
        if heard is not None or time.monotonic() >= ends_at or stopped.wait(LOOK_EVERY):
            return heard


def _rows(found: MxFacts, config: Config) -> Iterator[Row]:
    servers: Sequence[str] = config.authentication.trusted_authserv_ids
    if found.by_relay:
        yield _MX.ok("MX", f"the mail came back by {found.peer}")
    else:
        mend = "name that server in smtp.trusted_relays, or have mail come by those that are named"
        yield _MX.failed("MX", f"the mail came back by {found.peer}, which smtp.trusted_relays does not name", mend)
    if found.is_forgery_there:
        mend = (
            f"have it remove Authentication-Results of {', '.join(servers)} from what comes from outside (RFC 8601 5)"
        )
        yield _MX.failed("forged results", "the mail server left a stranger's field in its own name", mend)
    else:
        yield _MX.ok("forged results", "the mail server removed them")
    if found.results:
        yield _MX.ok("results", f"it says itself: {found.results}")
    else:
        mend = "have it write Authentication-Results, and see that authentication.trusted_authserv_ids has its name"
        yield _MX.failed("results", f"no field of {', '.join(servers)} of its own", mend)
