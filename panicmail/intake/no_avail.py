"""People of ours who wrote where nothing they say counts are told so."""

from __future__ import annotations

from panicmail.incident import people, reply_commands
from panicmail.incident.classify import Author, MailKind, MailPurpose
from panicmail.incident.model import Incident
from panicmail.incident.people import Person
from panicmail.intake.filing import Filing
from panicmail.intake.known_facts import page_in
from panicmail.intake.thread_mail import NOT_YOUR_PAGE, is_for_reporter

#: What may be somebody's who may not act there.
_OVERHEARD = frozenset({MailPurpose.MORE, MailPurpose.ANSWER, MailPurpose.SPEECH})


def tell_no_avail(filing: Filing) -> None:
    """Tell somebody of ours who wrote where nothing they say counts for them, and whom no shape has answered; or, of an
    address that is nobody's, whoever's page it answers. Always at the configured address."""
    settings, report, verdict = filing.settings, filing.report, filing.verdict
    if verdict.shape not in _OVERHEARD or report.author is not Author.PERSON or report.kind is MailKind.OOO:
        return
    incident, writer = filing.incident, people.by_address(settings.people, report.from_address)
    is_command = reply_commands.read(report.command_text).meaning is not reply_commands.Command.NOTHING
    if verdict.person:
        owner = settings.people[verdict.person]
        is_news = is_command or report.from_address != incident.reporter_address
        if writer is not None and writer.id != owner.id and is_news:
            why = f"it went to the address of {owner.name}'s page, which counts for {owner.first_name} alone"
            filing.replies.tell_no_avail(incident, writer, why)
    elif is_command:
        _tell_astray(filing, incident, writer)


def _tell_astray(filing: Filing, incident: Incident, writer: Person | None) -> None:
    """Tell of a command in the thread, at no page's address: whoever wrote it, else whoever's page it answers."""
    settings, report = filing.settings, filing.report
    if writer is not None:
        is_answered = writer.id in {*incident.paged, incident.holder} or is_for_reporter(filing, incident)
        if not is_answered:
            filing.replies.tell_no_avail(incident, writer, NOT_YOUR_PAGE)
        return
    page = page_in(settings, report)
    if page is not None and page.person in incident.paged and report.from_address != incident.reporter_address:
        why = f"it came from {report.from_address or 'an unclear sender'}, which is not listed for you"
        filing.replies.tell_no_avail(incident, settings.people[page.person], why)
