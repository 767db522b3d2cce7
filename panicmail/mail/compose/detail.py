"""How much of a report the mails to one person show (`people.KEY.detail`): all, its subject and sender, or its REF."""

from __future__ import annotations

from dataclasses import replace

from panicmail.incident.classify import Report
from panicmail.incident.model import Incident
from panicmail.mail.compose.notice_context import NoticeContext

#: Of what a mail tells about, the sender's words and files; and who they are.
_WORDS, _NAMES = ("text", "attachments", "new"), ("from_name", "from_address", "sender")
_SUBJECT, _REPORTER = "Panic report", "a reporter"


def within(context: NoticeContext, detail: str) -> NoticeContext:
    """The context with no more in it than a person's mails may show.

    Args:
        detail: "full", "subject" or "ref".
    """
    if detail == "full":
        return context
    left_out = (*_WORDS, *_NAMES) if detail == "ref" else _WORDS
    report = context.report
    kept = replace(report, text="", reply_text="", attachments=(), phones=(), links=())
    if detail == "ref":
        kept = Report(subject=_SUBJECT, from_name=_REPORTER)
    return replace(
        context,
        incident=incident_within(context.incident, detail),
        report=kept,
        facts={name: value for name, value in context.facts.items() if name not in left_out},
        flags=() if detail == "ref" else context.flags,
        known_as=None if detail == "ref" else context.known_as,
        detail=detail,
    )


def incident_within(incident: Incident, detail: str) -> Incident:
    """The incident with no more in it than a person's mails may show."""
    if detail != "ref":
        return incident
    return replace(incident, subject=_SUBJECT, reporter_name=_REPORTER, reporter_address="")
