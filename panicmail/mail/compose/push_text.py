"""What a push says: one line for a lock screen, at most 120 characters, that calls nobody in a chat.

What does not fit is cut: the subject first, our own words at last, the deadline never; a reporter is shown whole or
not at all. How much of the report it shows is the operator's choice (`[paging] detail`): "full" is subject and
reporter, "subject", or "ref" alone. The link is not part of the line; whoever sends it adds it where nobody else reads
along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from panicmail.incident import notice_kinds
from panicmail.incident.notice_kinds import MoreNotice
from panicmail.incident.people import Person
from panicmail.incident.push_channel import inert
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.notices import notice_of
from panicmail.mail.compose.operator_alerts import alarm_notice
from panicmail.mail.compose.page import page_notice

LIMIT = 120
#: What is shorter once it is cut is left out.
_SHORTEST = 8
#: So many REFs are named of a digest.
_DIGEST_NAMES = 5
#: Of a reporter's name so much.
_NAME = 40


def page(context: NoticeContext, person: Person, detail: str) -> str:
    """The page of `context.facts` to `person`, as their lock screen shows it."""
    notice, drill = page_notice(context, person), "DRILL " if context.incident.drill else ""
    head = f"PANIC {context.incident.ref} {drill}{notice.line('push')}".rstrip()
    return _joined(head, *_about(context, detail), notice.line("push_end"))


def tell(context: NoticeContext, person: Person, detail: str) -> str:
    """What `context.facts` tells `person`, as their lock screen shows it."""
    said = notice_kinds.told(context.facts)
    subject, reporter = _about(context, detail) if isinstance(said, MoreNotice) else ("", "")
    return _joined(f"{context.incident.ref} {notice_of(said, context, person).line('push')}", subject, reporter)


def digest(refs: Sequence[str]) -> str:
    """One line for many pages; two at least."""
    named = ", ".join(refs[:_DIGEST_NAMES])
    others = f" and {len(refs) - _DIGEST_NAMES} more" if len(refs) > _DIGEST_NAMES else ""
    return _joined(f"PANIC {named}{others}: {len(refs)} incidents", tail='In your mail: reply "ack all"')


def operators(facts: Mapping[str, object]) -> str:
    """That panicmail needs help."""
    return _joined(alarm_notice(facts).line("push"))


def _joined(head: str, subject: str = "", reporter: str = "", tail: str = "") -> str:
    """What there is of these in one line. `tail` is never cut: whoever writes it keeps it short."""
    head, reporter, tail = inert(head), inert(reporter), inert(tail)
    head = _cut(head, _left(tail))
    if len(reporter) > _left(head, tail):
        reporter = ""  # the half of it might say they are proved
    return _line(head, _cut(subject, _left(head, reporter, tail)), reporter, tail)


def _line(*parts: str) -> str:
    return " | ".join(filter(None, parts))


def _left(*others: str) -> int:
    """The room beside these."""
    return LIMIT - len(_line(*others, "…")) + 1


def _cut(text: str, room: int) -> str:
    """The text, inert, or as much of it as there is room for."""
    text = inert(text)  # before the cut: it becomes longer by that
    if len(text) <= room:
        return text
    return f"{text[: room - 1].rstrip()}…" if room >= _SHORTEST else ""


def _about(context: NoticeContext, detail: str) -> tuple[str, str]:
    """The report's subject, and its sender, who is named as proved only where that is so."""
    if detail == "ref":
        return "", ""
    subject = sanitize.subject(context.report.subject or context.incident.subject, context.report.text, LIMIT)
    reporter = sanitize.name(context.report.from_name) or sanitize.address(context.incident.reporter_address)
    proved = "proved" if context.sender.startswith("Sender: proved") else "not proved"
    return subject, f"{_cut(reporter, _NAME)}, {proved}" if detail == "full" and reporter else ""
