"""What somebody wrote and the reporter did not get, all of it or the attachments: why, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from panicmail.incident.model import State
from panicmail.incident.transitions import UnsentReason
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.message import headline, ours
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.sections import NoticeFacts, attached_in, clock_now, issue, reporter_called, tap
from panicmail.mail.compose.wording import Wording


def unsent(voice: Wording, context: NoticeContext) -> NoticeFacts:
    why, mend = _UNSENT.get(str(context.facts.get("why")), _unsent_somehow)(voice, context)
    name = reporter_called(context)
    return NoticeFacts(
        "NOT SENT: what you wrote to the reporter",
        [
            headline(f"{voice.first(voice.reader)}: your words did not go to the reporter."),
            ours(f"Why: {why}."),
            ours(f"NOT sent to {name}; to send it: {mend}" if mend else "What you reply to this mail is a note."),
            ours("The text is kept as an internal note on the issue."),
            ours(clock_now(voice)),
            *(tap(context) if context.incident.state is State.OPEN else []),
            issue(context.incident),
        ],
    )


def sent_without(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """The words went, what was attached did not."""
    return NoticeFacts(
        "Sent to the reporter, without the attachment",
        [
            headline(f"{voice.first(voice.reader)}: your words went to the reporter, without what was attached."),
            ours("Files stay internal. Must the reporter have one, send it by your own mail."),
            ours(clock_now(voice)),
            issue(context.incident),
            *attached_in(context),
        ],
    )


def _write_to(context: NoticeContext) -> str:
    return f"write to {context.conversation}" if context.conversation else "write again"


def _detail(context: NoticeContext) -> str:
    return sanitize.words(str(context.facts.get("detail") or ""), 120)


def _not_yours(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    holder = context.incident.holder
    has = f"{voice.full(holder)} has it" if context.incident.state is State.ACKED and holder else "nobody has it now"
    return f"only whoever has it writes to the reporter, and {has}", 'reply "take" to this mail to have it first.'


def _closed_before(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    return f"it was closed at {voice.zoned(context.incident.resolved_at)}", "call, or write by your own mail."


def _stranger(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    person = voice.organisation.people.get(voice.reader)
    own = person.email if person else "your own address"
    wrote = _detail(context) or "an unclear sender"
    return (
        f"it came from {wrote}, which is not listed for you",
        f"write from {own}. It was not you? Then somebody else knows the address it went to.",
    )


def _refused(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    answer = _detail(context)
    why = "the mail server of the reporter refused it" + (f" ({answer})" if answer else "")
    phone = next((p for p in map(sanitize.phone, context.report.phones) if p), "")
    return why, f"call; the number in the report is {phone}." if phone else "find some other way."


def _fixed(why: str, mend: str) -> Callable[[Wording, NoticeContext], tuple[str, str]]:
    """The same words whoever reads them; `mend` may say where to write."""
    return lambda voice, context: (why, mend.replace("WRITE", _write_to(context)))


_unsent_somehow = _fixed("panicmail could not send it", "call, or write by your own mail.")
_UNSENT: Mapping[str, Callable[[Wording, NoticeContext], tuple[str, str]]] = {
    UnsentReason.NOT_YOURS: _not_yours,
    UnsentReason.CLOSED: _closed_before,
    UnsentReason.EMPTY: _fixed("nothing in it is newly written", "WRITE, in plain text above what you quote."),
    UnsentReason.LOSSY: _fixed("it could not be read in full", "WRITE, as plain text."),
    UnsentReason.MACHINE: _fixed(
        "it looks like an automatic mail: a list, an invitation or its subject", "WRITE, by a plain mail of your own."
    ),
    UnsentReason.STRANGER: _stranger,
    UnsentReason.UNPROVED: _fixed(
        "it is not proved who wrote it: it is not signed as your mails are, was changed on its way, or is forged",
        "WRITE, from your own mailbox, by your company's mail server.",
    ),
    UnsentReason.OURS: _fixed(
        "it holds a piece of a mail of ours, or the address of a colleague", "WRITE, without what you quote."
    ),
    UnsentReason.LONG: _fixed("it is too long; the reporter gets 4 KB and 150 lines at most", "WRITE, in fewer words."),
    UnsentReason.YOURSELF: _fixed("you are the reporter", ""),
    UnsentReason.NO_ADDRESS: _fixed(
        "the report names no address at which somebody reads", "call, if the report has a number."
    ),
    UnsentReason.NOT_ALLOWED: _fixed(
        "panicmail may not write to the reporter; [receipts] in the configuration says to whom it may",
        "call, or write by your own mail.",
    ),
    UnsentReason.PLAIN: _fixed("reply addresses carry no token here", "write by your own mail."),
    UnsentReason.BOTH: _fixed(
        "it went to your own address as well, and what goes there stays internal", "WRITE, and to nobody else."
    ),
    UnsentReason.ASTRAY: _fixed(
        "it went to the address the reporter has for answers; others may know that one", "WRITE."
    ),
    UnsentReason.REFUSED: _refused,
}
