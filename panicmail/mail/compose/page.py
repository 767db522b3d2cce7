"""The mails that call a person to act.

A page carries what is needed without GitLab, VPN or link. Its first line says who must do what by when, the second
why; then whom to telephone and where to look; last the report, in the reporter's own words and marked as such.

A page goes out whatever is wrong with what it is about: when anything in writing it fails, a plain one takes its
place that needs nothing but the incident, its REF and her address, and says that it is one.
"""

from __future__ import annotations

from email.utils import format_datetime

import structlog

from panicmail.incident.model import PageReason
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Addresses, Purpose, TokenSigner
from panicmail.mail.compose.message import ComposedMail, Envelope, TextLine, sealed
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.page_headlines import OPENINGS, state_word
from panicmail.mail.compose.sections import about, also_yours, called_before, circumstances, report, ways
from panicmail.mail.compose.thread_ids import first_page_id, page_id, root_id, subject
from panicmail.mail.compose.wording import Wording

_log = structlog.get_logger()


def page(scene: NoticeContext, person: Person, tokens: TokenSigner, addresses: Addresses) -> ComposedMail:
    """The page of `scene.facts` to `person`; a plain one when that one cannot be written."""
    try:
        return _full(scene, person, tokens, addresses)
    except Exception as exc:  # a page that says little is worth more than none
        _log.exception("page.plain", ref=scene.incident.ref)
        return _plain(scene, person, tokens, addresses, exc)


def _full(scene: NoticeContext, person: Person, tokens: TokenSigner, addresses: Addresses) -> ComposedMail:
    word = PageReason(scene.facts["word"])
    voice = Wording.to(scene, person)
    title = subject(f"[PANIC {scene.incident.ref}]", scene, state_word(voice, word))
    return sealed(_envelope(scene, person, tokens, addresses, title), _lines(voice, scene, word))


def _lines(voice: Wording, scene: NoticeContext, word: PageReason) -> list[TextLine]:
    return [
        *OPENINGS[word](voice, scene),
        *circumstances(voice, scene),
        *about(voice, scene),
        *called_before(voice, scene),
        *also_yours(voice, scene),
        *ways(scene),
        *report(scene),
    ]


def _envelope(scene: NoticeContext, person: Person, tokens: TokenSigner, addresses: Addresses, title: str) -> Envelope:
    incident, round_ = scene.incident, _round(scene)
    root = root_id(incident, tokens, addresses)
    this = page_id(incident, person.id, round_, tokens, addresses)
    first = first_page_id(incident, person.id, tokens, addresses) or this
    return Envelope(
        sender=scene.house.page_sender,
        to=person.email,
        to_name=person.name,
        reply_to=_reply_to(scene, person, tokens, addresses),
        mail_from=_mail_from(scene, person, tokens, addresses),
        subject=title,
        message_id=this,
        in_reply_to=None if first == this else first,
        references=(root,) if first == this else (root, first),
        date=scene.now,
        automatic="auto-generated",
        hops=scene.report.hops + 1,
        silences_robots=False,
    )


def _round(scene: NoticeContext) -> int:
    said = scene.facts.get("round")
    return said if isinstance(said, int) else scene.incident.round


def _reply_to(scene: NoticeContext, person: Person, tokens: TokenSigner, addresses: Addresses) -> str:
    return addresses.reply_to(tokens.mint(Purpose.ANSWER, scene.incident.id, person.id))


def _mail_from(scene: NoticeContext, person: Person, tokens: TokenSigner, addresses: Addresses) -> str:
    """Where bounces of this page go. A plain reply address would take them for reports."""
    if not addresses.carries_token:
        return scene.house.page_sender
    return addresses.reply_to(tokens.mint(Purpose.BOUNCE, scene.incident.id, person.id, _round(scene)))


# -- the page of last resort -----------------------------------------------------------------------


def _plain(
    scene: NoticeContext, person: Person, tokens: TokenSigner, addresses: Addresses, cause: Exception
) -> ComposedMail:
    """A page of fixed words, written octet by octet: whatever broke the full one is not asked again."""
    ref = scene.incident.ref
    text = [
        f'{_ascii(person.first_name)}: somebody reports an emergency. Reply "ack" so the calling stops.',
        f"panicmail could not write the whole page ({type(cause).__name__}); the report is kept.",
        *([f"Without mail: {_ascii(scene.link)}"] if scene.link else []),
        *([f"Issue: {_ascii(scene.incident.issue_url)}"] if scene.incident.issue_url else []),
    ]
    fields = [
        f"From: Panic <{scene.house.page_sender}>",
        f"To: <{person.email}>",
        f"Reply-To: <{_reply_to(scene, person, tokens, addresses)}>",
        f"Subject: [PANIC {ref}] Emergency reported, reply needed",
        f"Date: {format_datetime(scene.now)}",
        f"Message-ID: {page_id(scene.incident, person.id, _round(scene), tokens, addresses)}",
        f"References: {root_id(scene.incident, tokens, addresses)}",
        "Auto-Submitted: auto-generated",
        "X-Panicmail: 1",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 7bit",
    ]
    message = "\r\n".join([*(" ".join(field.split()) for field in fields), "", *text, ""])
    return ComposedMail(
        message=message.encode("utf-8", "replace"),
        mail_from=_mail_from(scene, person, tokens, addresses),
        recipient=person.email,
    )


def _ascii(text: str) -> str:
    return " ".join(text.encode("ascii", "replace").decode("ascii").split())[:400]
