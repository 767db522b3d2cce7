"""The lines several letters share: what a panic is about, as every page shows it, and how its clock stands.

In a page the report comes last: no line of ours follows it, so nothing in it can pretend to be the rest of our mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from panicmail.incident.classify import Attachment
from panicmail.incident.escalation_policy import OPERATOR
from panicmail.incident.model import Incident, State
from panicmail.incident.transitions import UnsentReason
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.message import Link, TextLine, button, call, ours, theirs
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.wording import Wording, history, listed, span

_NEIGHBOURS_SHOWN = 5
#: To somebody whose mails do not show what reporters write.
NOT_SHOWN = "What the reporter writes is not in your mails, as people.KEY.detail has it: see the link or the issue."


def about(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """Who reported it and how to reach them, and what is odd or known about it."""
    incident = context.incident
    said = [reporter(voice, context), sanitize.one_line(context.sender, 240)]
    if context.known_as is not None:
        known = ", ".join(filter(None, (sanitize.name(context.known_as.name), sanitize.phone(context.known_as.phone))))
        said.append(f"By our list of private addresses: {known}")
    if phones := [p for p in map(sanitize.phone, context.report.phones[:3]) if p]:
        said.append("Phone in the mail: " + ", ".join(phones))
    if context.same_reporter:
        said.append(f"Same reporter as {since(voice, context.same_reporter)}.")
    if context.storm_members:
        mails = "mail has" if context.storm_members == 1 else "mails have"
        said.append(f"A storm: {context.storm_members} more {mails} joined it so far.")
    if incident.linked_to:
        said.append(f"It continues {sanitize.words(incident.linked_to, 8)}, which was closed.")
    said += [sanitize.one_line(remark, 300) for remark in context.remarks]
    if context.flags:
        said.append("Odd about the mail: " + sanitize.words("; ".join(context.flags), 240))
    return [*graded(voice, context), *map(ours, said)]


def graded(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """How grave it is, and who said so; never with the word of the command, which must not read as one of theirs."""
    incident = context.incident
    if incident.severity is None:
        return []
    by = voice.full(incident.severity_by) if incident.severity_by else "the words of the report"
    return [ours(f"Graded S{incident.severity} (S1 is the worst) by {by}.")]


def reporter(voice: Wording, context: NoticeContext) -> str:
    """Such as: By Rita Lopez <rita@example.com>, 03:07."""
    incident, report = context.incident, context.report
    who = writer(report.from_name or incident.reporter_name, incident.reporter_address or report.from_address)
    return f"By {who}, {voice.at(incident.accepted_at)}"


def writer(name: object, address: object) -> str:
    """A stranger by name and address, such as: Rita Lopez <rita@example.com>."""
    name, address = sanitize.name(str(name or "")), sanitize.address(str(address or ""))
    return f"{name} <{address}>" if name and address else address or name or "an unknown sender"


def since(voice: Wording, incidents: Iterable[Incident]) -> str:
    """Such as: M4TD, open since 03:05, and K7WZ, open since 02:50."""
    incidents = list(incidents)
    shown = [f"{i.ref}, open since {voice.at(i.opened_at)}" for i in incidents[:_NEIGHBOURS_SHOWN]]
    more = len(incidents) - len(shown)
    return "; ".join([*shown, f"{more} more"] if more else shown)


def circumstances(voice: Wording, context: NoticeContext, late_seconds: int | None) -> list[TextLine]:
    """What changes how a page is to be taken: it is late, it is a drill, its reader is an operator."""
    said = []
    if late_seconds is not None:
        said.append(f"panicmail was down: this is {span(timedelta(seconds=late_seconds))} late.")
    if context.incident.drill:
        said.append("This is a drill. Act as if it were real.")
    if context.incident.breached_at is not None and context.incident.state is State.OPEN:
        said.append(f"The deadline passed at {voice.zoned(context.incident.sla_at)}; nobody had answered.")
    paged = context.incident.paged.get(voice.reader)
    if paged is not None and paged.role == OPERATOR:
        said.append("You are called as an operator of panicmail; panicmail oncall shows who is on call.")
    return [ours(each) for each in said]


def called_before(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """Who was paged when since it is open, and whether that arrived: the reader, then the others with their numbers."""
    if voice.incident.state is not State.OPEN:
        return calls(voice)
    paged = voice.incident.paged
    this = paged[voice.reader].last_at if voice.reader in paged else voice.now
    # What was queued with this very page tells nobody anything.
    earlier = [p for p in context.pages if voice.incident.opened_at <= p.at < this]
    fates = {p: history([s for s in earlier if s.person == p], voice.clock) for p in (voice.reader, *paged)}
    own = fates.pop(voice.reader)
    said = [f"Paged {own}. Your reply: none that stops the clock."] if own else []
    said += [f"{voice.first(other)}: paged {fate}." for other, fate in fates.items() if fate]
    if beside := [p for p in voice.others_paged() if paged[p].last_at == this]:
        said.append(f"Called at the same time: {voice.team(beside)}.")
    return [*map(ours, said), *calls(voice)]


def call_one(voice: Wording, person: str) -> list[TextLine]:
    """Their telephone number, if they gave one."""
    known = voice.organisation.people.get(person)
    return [call(f"Call {voice.first(person)}: ", known.phone)] if known and known.phone else []


def calls(voice: Wording) -> list[TextLine]:
    """The telephone numbers of the others who were paged or have it."""
    others = dict.fromkeys([*voice.others_paged(), *([voice.incident.holder] if voice.incident.holder else [])])
    return [line for person in others if person != voice.reader for line in call_one(voice, person)]


def show_links(context: NoticeContext) -> list[TextLine]:
    """The links: this person's own page, and the issue."""
    return [*tap(context), issue(context.incident)]


def issue(incident: Incident) -> TextLine:
    url = sanitize.one_line(incident.issue_url or "", 500)
    return ours(f"Issue: {url}", Link(url, url)) if url else ours("Issue: follows, GitLab has not answered yet")


def report(context: NoticeContext) -> list[TextLine]:
    """The report in its sender's words: what else it says first, its text last."""
    lines = []
    if not context.report.from_address and context.report.from_shown:
        lines += [ours("Its From field says:"), theirs(sanitize.marked(context.report.from_shown))]
    lines += attached(context.report.attachments)
    if context.detail != "full":
        return [ours(NOT_SHOWN)]
    text = sanitize.report_lines(context.report.text)
    return [
        *lines,
        *answers(context),
        ours("Report (quoted, untrusted):" if text else "The report has no text."),
        *map(theirs, text),
    ]


def answers(context: NoticeContext) -> list[TextLine]:
    """What the reporter answered to the receipt's questions."""
    rows = [line for n, asked, said in context.answers for line in (f"{n}. {asked}", *said.splitlines(), "")][:-1]
    if not rows:
        return []
    return [ours("Answers to our questions (quoted, untrusted):"), *map(theirs, sanitize.report_lines("\n".join(rows)))]


def attached(attachments: Iterable[Attachment]) -> list[TextLine]:
    """What came with a mail, by name and size."""
    shown = sanitize.attachment_lines(tuple(attachments))
    return [ours("Attached, by the names they came with:"), *map(theirs, shown)] if shown else []


def also_yours(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """What else waits for the reader."""
    others = list(context.also_open)
    if not others:
        return []
    refs = listed([i.ref for i in others[:_NEIGHBOURS_SHOWN]])
    return [
        ours(f"Also open for you: {since(voice, others)}."),
        ours(f'Reply "ack all" to have {refs} as well.'),
    ]


def still_open_too(voice: Wording, context: NoticeContext) -> list[TextLine]:
    return [ours(f"Still open and also yours: {since(voice, context.also_open)}.")] if context.also_open else []


def menu(voice: Wording) -> TextLine:
    """What whoever has it can reply."""
    other = voice.somebody_else()
    hand = f'"to {other.id}" to hand it over, ' if other else ""
    return ours(f'Reply {hand}"escalate" for more help, "resolve" at its end.')


def phone_of(context: NoticeContext) -> str:
    """The reporter's number, as the report has it; it is data, so it is no link."""
    return next((p for p in map(sanitize.phone, context.report.phones) if p), "")


def few(names: Sequence[str], most: int) -> str:
    """REFs by name, and of more than so many how many more there are."""
    named, more = [sanitize.words(name, 8) for name in names[:most]], len(names) - most
    return listed([*named, *([f"{more} more"] if more > 0 else [])])


def hotline(context: NoticeContext) -> list[TextLine]:
    number = context.organisation.hotline
    return [call("Hotline: ", number)] if number else []


def reporter_link(context: NoticeContext) -> list[TextLine]:
    """The issue, to a reporter who may be able to open it."""
    url = sanitize.one_line(context.incident.issue_url or "", 500)
    if not url:
        return []
    before = "Follow it here: " if context.organisation.reporter_access else "If you have access: "
    return [ours(before + url, Link(url, url))]


# -- how it stands ---------------------------------------------------------------------------------


def stopped(name: str) -> str:
    return f"Clock stopped: {name} has it"


def clock_now(voice: Wording) -> str:
    """How the clock stands, in a sentence."""
    incident = voice.incident
    if incident.state is State.ACKED:
        mine = incident.holder == voice.reader
        has = "you have" if mine else f"{voice.full(incident.holder or 'somebody')} has"
        return f"Clock stopped: {has} it since {voice.zoned(incident.acked_at)}."
    if incident.state is State.RESOLVED:
        return f"Clock stopped: closed at {voice.zoned(incident.resolved_at)}."
    coming = voice.next()
    if coming and coming.people:
        return f"Clock still running: {voice.what_follows()}"
    return f"Clock still running. {voice.repeated()}"


def rests_on(how: str) -> list[TextLine]:
    said = sanitize.one_line(how, 200)
    return [ours(f"Rests on: {said}")] if said else []


def tap(context: NoticeContext, before: str = "Without mail: ") -> list[TextLine]:
    return [button(before, context.link, f"Open {context.incident.ref}")] if context.link else []


def to_reporter(context: NoticeContext) -> list[TextLine]:
    """Where whoever has it writes to the reporter, and that a reply to this mail does not get there."""
    if not context.conversation and context.unheard not in _WRITTEN_TO_OTHERWISE:
        return []
    stays = f"What you reply to this mail is NOT sent to {reporter_called(context)}"
    if context.conversation:
        return [ours(f"Write to the reporter: {context.conversation}"), ours(f"{stays}; to send it: use that address.")]
    return [ours(f"{stays}; {_tell_other_way(context)}")]


def goes_to_reporter(context: NoticeContext) -> list[TextLine]:
    """Of a mail whose Reply-To is the address of `to_reporter`."""
    return [
        ours(f"Your reply goes to {reporter_called(context)}."),
        ours("A command counts there too, as the whole reply and no word more; it is not sent on."),
    ]


def not_sent(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """That the words the reader wrote stay internal, and how the reporter gets them."""
    incident, name = context.incident, reporter_called(context)
    if context.unheard == UnsentReason.YOURSELF:
        return []
    if context.conversation:
        how = f"to send it: write to {context.conversation}"
    elif context.unheard == UnsentReason.NOT_YOURS and incident.state is State.ACKED:
        how = f"to send it: ask {voice.full(incident.holder or 'somebody')}, or take it over first"
    elif context.unheard == UnsentReason.NOT_YOURS:
        how = "to send it: acknowledge first, then write to the address you are given"
    else:
        how = _tell_other_way(context).rstrip(".")
    return [ours(f"NOT sent to {name}; {how}.")]


def _tell_other_way(context: NoticeContext) -> str:
    """How words get to a reporter to whom panicmail writes nothing."""
    address = sanitize.address(context.incident.reporter_address)
    if context.unheard == UnsentReason.QUIET:
        instead = sanitize.address(context.instead or "")
        return f"to send it: write to {instead} by your own mail." if instead else "to send it: call the reporter."
    if context.unheard == UnsentReason.NO_ADDRESS or not address:
        return "to send it: call, if the report has a number; it names no address at which somebody reads."
    return f"to send it: write to {address} by your own mail."


def reporter_called(context: NoticeContext) -> str:
    """The reporter by name, else by address, else as the reporter."""
    incident = context.incident
    name = sanitize.name(incident.reporter_name or context.report.from_name)
    return name or sanitize.address(incident.reporter_address) or "the reporter"


#: Of whoever has it: the reporter gets no mail of theirs by panicmail.
_WRITTEN_TO_OTHERWISE = frozenset(
    {UnsentReason.PLAIN, UnsentReason.NO_ADDRESS, UnsentReason.NOT_ALLOWED, UnsentReason.QUIET}
)


def tell_how_to_begin_anew(context: NoticeContext) -> TextLine:
    return ours(f"Something still wrong? A new mail to {context.organisation.sender} starts anew.")
