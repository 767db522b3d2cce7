"""Whether what is proved of a sender is enough for a mail to act for one of our people.

Many companies do not sign their internal mail, so proof is asked of those who can give it: whose configuration says so
(`people.KEY.proof`), or whose answer to a test page was proved once. Of anybody else nothing may speak against it.
What is only remembered is asked for where there is another way, the link.
"""

from __future__ import annotations

from datetime import timedelta

from panicmail.incident import sender_proof
from panicmail.incident.classify import MailPurpose, Report
from panicmail.incident.people import Person
from panicmail.incident.sender_proof import ProofState, SenderMethod, SenderProof
from panicmail.mail.parse.normalize import HEADER_OCTETS, canonical
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction

#: A mail with the Message-ID of one that came before within this time is that one again.
_AGAIN_WITHIN = timedelta(days=7)
#: What stands between the addresses in a field that says to whom a mail goes.
_BETWEEN = str.maketrans(dict.fromkeys('<>()[],;:"', " "))


def proof_of(settings: RuntimeSettings, mail: AcceptedMail | None) -> SenderProof:
    """What is proved of who wrote a mail; of none, nothing yet."""
    return sender_proof.from_json(mail.sender if mail else None, settings.method)


def demanded(tx: Transaction, settings: RuntimeSettings, person: Person) -> str:
    """The domain that a mail of theirs must be proved by; "": nothing is asked for."""
    if settings.method is SenderMethod.NONE or person.proof == "none":
        return ""
    return person.proof or (tx.proofs.proved_of(person.id) if settings.web_url else "")


def doubt(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, person: Person) -> str:
    """Why a mail from an address of theirs does not act for them, by who wrote it; "" when it may."""
    proof = proof_of(settings, mail)
    if not proof.may_pass:
        return "who wrote it could not be proved: it was changed on its way, or forged"
    wanted = demanded(tx, settings, person)
    if not wanted:
        return ""
    if proof.proves(wanted):
        return _replayed(tx, settings, mail, report)
    if proof.state in {ProofState.UNKNOWN, ProofState.PENDING}:
        return "who wrote it could not be checked, for DNS does not answer; that is tried again for some minutes"
    return f"it is not proved to be from {wanted}, as your mails are"


def _replayed(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report) -> str:
    """Why a signed mail is one that was written for another page; "" when it was written for this one."""
    ours = [address for address in mail.recipients if settings.addresses.token_in(address)]
    tokens = {settings.addresses.token_in(address) for address in ours}
    shown = {settings.addresses.token_in(address) for address in shown_recipients(tx, mail)}
    if tokens and not tokens & shown:
        return "its To does not name the address it came to"
    others = tx.mails.named(mail, report.message_id, _AGAIN_WITHIN) if report.message_id else ()
    if any(one.shape == MailPurpose.ANSWER and {*one.recipients} != {*mail.recipients} for one in others):
        return "the same mail came before, to another address"
    return ""


def shown_recipients(tx: Transaction, mail: AcceptedMail) -> list[str]:
    """The addresses in To and Cc, as they stand there."""
    head = canonical(tx.mails.raw(mail.id, HEADER_OCTETS))  # one that is longer was not read without loss
    fields = b" ".join([*head.all("to"), *head.all("cc")]).decode("latin-1")
    return [piece for piece in fields.translate(_BETWEEN).split() if "@" in piece]
