"""The mails that call a person to act.

A page carries what is needed without GitLab, VPN or link. Its first line says who must do what by when, the second
why; then whom to telephone and where to look; last the report, in the reporter's own words and marked as such.

A page goes out whatever is wrong with what it is about: when anything in writing it fails, a plain one takes its
place that needs nothing but the incident, its REF and the person's address, and says that it is one.
"""

from __future__ import annotations

from email.utils import format_datetime

import structlog

from panicmail.incident import notice_kinds
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Purpose, ReplyRoutes
from panicmail.mail.compose.catalogue import Notice
from panicmail.mail.compose.letterhead import first_page_id, page_id, root_id, subject
from panicmail.mail.compose.message import ComposedMail, Envelope, sealed
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.sections import about, also_yours, called_before, circumstances, report, show_links
from panicmail.mail.compose.wording import Wording

_log = structlog.get_logger()


def page(context: NoticeContext, person: Person, routes: ReplyRoutes) -> ComposedMail:
    """The page of `context.facts` to `person`; a plain one when that one cannot be written."""
    try:
        return _full(context, person, routes)
    except Exception as exc:  # a page that says little is worth more than none
        _log.exception("page.plain", ref=context.incident.ref)
        return _plain(context, person, routes, exc)


def _full(context: NoticeContext, person: Person, routes: ReplyRoutes) -> ComposedMail:
    notice, voice, asked = page_notice(context, person), Wording.to(context, person), notice_kinds.page(context.facts)
    drill = "DRILL" if context.incident.drill else ""
    state = notice.line("state") or (":" if drill else "")
    title = subject(f"[PANIC {context.incident.ref}]", context, f"{drill} {state}".strip().replace(" :", ":"))
    lines = [
        *notice.lines(),
        *circumstances(voice, context, asked.late_seconds),
        *about(voice, context),
        *called_before(voice, context),
        *also_yours(voice, context),
        *show_links(context),
        *report(context),
    ]
    return sealed(_envelope(context, person, routes, title), lines)


def page_notice(context: NoticeContext, person: Person) -> Notice:
    """The page of `context.facts` to `person`, in all its media. Raises ValueError when it has no reason known here."""
    asked, voice = notice_kinds.page(context.facts), Wording.to(context, person)
    if asked.word is None:
        raise ValueError("a page without a reason")
    about = {"n": asked, "v": voice, "c": context, "i": context.incident, "me": voice.first(person.id)}
    return Notice(f"page/{asked.word}", **about)


def _envelope(context: NoticeContext, person: Person, routes: ReplyRoutes, title: str) -> Envelope:
    incident, round_ = context.incident, _round(context)
    root = root_id(incident, routes)
    this = page_id(incident, person.id, round_, routes)
    first = first_page_id(incident, person.id, routes) or this
    return Envelope(
        sender=context.organisation.page_sender,
        to=person.email,
        to_name=person.name,
        reply_to=_reply_to(context, person, routes),
        mail_from=_mail_from(context, person, routes),
        subject=title,
        message_id=this,
        in_reply_to=None if first == this else first,
        references=(root,) if first == this else (root, first),
        date=context.now,
        automatic="auto-generated",
        hops=context.report.hops + 1,
        silences_robots=False,
    )


def _round(context: NoticeContext) -> int:
    said = notice_kinds.page(context.facts).round
    return context.incident.round if said is None else said


def _reply_to(context: NoticeContext, person: Person, routes: ReplyRoutes) -> str:
    return routes.reply_to(Purpose.ANSWER, context.incident.id, person.id)


def _mail_from(context: NoticeContext, person: Person, routes: ReplyRoutes) -> str:
    """Where bounces of this page go. A plain reply address would take them for reports."""
    if not routes.addresses.carries_token:
        return context.organisation.page_sender
    return routes.reply_to(Purpose.BOUNCE, context.incident.id, person.id, _round(context))


# -- the page of last resort -----------------------------------------------------------------------


def _plain(context: NoticeContext, person: Person, routes: ReplyRoutes, cause: Exception) -> ComposedMail:
    """A page of fixed words, written octet by octet: whatever broke the full one is not asked again."""
    ref = context.incident.ref
    text = [
        f'{_ascii(person.first_name)}: somebody reports an emergency. Reply "ack" so the calling stops.',
        f"panicmail could not write the whole page ({type(cause).__name__}); the report is kept.",
        *([f"Without mail: {_ascii(context.link)}"] if context.link else []),
        *([f"Issue: {_ascii(context.incident.issue_url)}"] if context.incident.issue_url else []),
    ]
    fields = [
        f"From: Panic <{context.organisation.page_sender}>",
        f"To: <{person.email}>",
        f"Reply-To: <{_reply_to(context, person, routes)}>",
        f"Subject: [PANIC {ref}] Emergency reported, reply needed",
        f"Date: {format_datetime(context.now)}",
        f"Message-ID: {page_id(context.incident, person.id, _round(context), routes)}",
        f"References: {root_id(context.incident, routes)}",
        "Auto-Submitted: auto-generated",
        "X-Panicmail: 1",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 7bit",
    ]
    message = "\r\n".join([*(" ".join(field.split()) for field in fields), "", *text, ""])
    return ComposedMail(
        message=message.encode("utf-8", "replace"),
        mail_from=_mail_from(context, person, routes),
        recipient=person.email,
    )


def _ascii(text: str) -> str:
    return " ".join(text.encode("ascii", "replace").decode("ascii").split())[:400]
