"""A mail that is being filed: what it is, and what it is filed with."""

from __future__ import annotations

from dataclasses import dataclass

from panicmail.incident.classify import Classification, Report
from panicmail.incident.model import Incident
from panicmail.incident.people import Person
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.mail_replies import MailReplies
from panicmail.response.reporter_thread import ReporterMail
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Filing:
    """One mail, as it was read and decided, in the transaction that does what it asks."""

    tx: Transaction
    settings: RuntimeSettings
    mail: AcceptedMail
    report: Report
    verdict: Classification

    @property
    def incident(self) -> Incident:
        """The one the mail belongs to.

        Raises:
            LookupError: There is no such incident, though the verdict named it in this transaction.
        """
        found = self.tx.incidents.get(self.verdict.incident_id or "")
        if found is None:
            raise LookupError(f"no incident {self.verdict.incident_id}")
        return found

    @property
    def person(self) -> Person:
        """Whose address the mail came to."""
        return self.settings.people[self.verdict.person]

    @property
    def replies(self) -> MailReplies:
        """What is done with it as a reply."""
        return MailReplies(self.tx, self.settings, self.mail, self.report)

    @property
    def conversation(self) -> ReporterMail:
        """What is done with it as words for the reporter."""
        return ReporterMail(self.tx, self.settings, self.mail, self.report)
