"""One night's story for the tests of our mails: the people, the policy, and every letter the states can ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any
from zoneinfo import ZoneInfo

from panicmail.incident import transitions
from panicmail.incident.classify import Attachment, Report
from panicmail.incident.escalation_policy import Duty, EscalationPolicy, PolicyStep
from panicmail.incident.model import Change, EffectKind, Entry, Incident, Outcome, PageReason, unchanged
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Addresses, ReplyRoutes, SigningKey, TokenSigner
from panicmail.mail.compose import ComposedMail, news, operators, page, receipt, tell
from panicmail.mail.compose.letterhead import Letterhead
from panicmail.mail.compose.notice_context import NoticeContext, Organisation, PageSent

BERLIN = ZoneInfo("Europe/Berlin")
#: A Sunday; 03:07 in Berlin.
START = datetime(2026, 11, 22, 2, 7, tzinfo=UTC)
HOW = "token of this mail and From address ana@example.com"

ANA = Person(id="ana", name="Ana Reyes", email="ana@example.com", phone="+49 151 0000000", tz=BERLIN)
BO = Person(id="bo", name="Bo Li", email="bo@example.com", phone="+49 160 0000000", tz=ZoneInfo("Asia/Tokyo"))
MAX = Person(id="max", name="Max Kern", email="max@example.com", phone="+49 152 0000000", tz=BERLIN)

TOKENS = TokenSigner([SigningKey("1", b"k" * 32)])
ADDRESSES = Addresses(["panic@example.com"], "panic+{token}@example.com", "mail.example.com")
ROUTES = ReplyRoutes(TOKENS, ADDRESSES)
PLAIN_ADDRESSES = Addresses(["panic@example.com"], "panic@example.com", "mail.example.com")

REPORT = Report(
    subject="Ransom note on my laptop",
    from_address="rita@example.com",
    from_name="Rita Lopez",
    from_shown="Rita Lopez <rita@example.com>",
    text="My files are .locked, Slack is gone.",
    message_id="<report@example.com>",
    phones=("+49 170 0000000",),
    attachments=(Attachment(name="note.txt", type="text/plain", size=2210, sha256="0" * 64),),
)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


POLICY = EscalationPolicy(
    sla=minutes(15),
    steps=(PolicyStep(minutes(0), ("seoc",)), PolicyStep(minutes(15), ("smoc",))),
    repeat=minutes(5),
    remind_after=minutes(20),
)
ON_CALL = {"seoc": ("ana",), "smoc": ("max",)}


def on_call(role: str) -> tuple[str, ...]:
    return ON_CALL.get(role, ())


def nobody(role: str) -> tuple[str, ...]:
    return () if role == "seoc" else on_call(role)


ORGANISATION = Organisation(
    has_gap=lambda role: False,
    panic="panic@example.com",
    people={p.id: p for p in (ANA, BO, MAX)},
    policy=POLICY,
    who=on_call,
    sender="panic@example.com",
    page_sender="page@example.com",
    hotline="+49 30 000000",
    advice=("If a device is involved: leave it on, take it off the network. Use another device.",),
)


def parsed(letter: ComposedMail) -> EmailMessage:
    message = message_from_bytes(letter.message, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def part(letter: ComposedMail, kind: str) -> str:
    body = parsed(letter).get_body((kind,))
    assert body is not None
    content: str = body.get_content()
    return content


def lines(letter: ComposedMail) -> list[str]:
    return part(letter, "plain").splitlines()


def subject(letter: ComposedMail) -> str:
    return str(parsed(letter)["Subject"])


def head_to(person: Person, now: datetime = START) -> Letterhead:
    """Of a mail of the house outside an incident's thread."""
    return Letterhead(ORGANISATION.sender, person, now)


@dataclass
class Night:
    """An organisation, a report, and what can be written about them."""

    organisation: Organisation = ORGANISATION
    report: Report = REPORT
    addresses: Addresses = ADDRESSES
    link: str = "https://panic.example.com/i/token"
    pages: Sequence[PageSent] = ()
    flags: tuple[str, ...] = ()
    conversation: str = ""
    unheard: str = ""
    instead: str | None = None  #: where to write, as the reporter\'s mailbox gets nothing
    also_open: Sequence[Incident] = ()
    same_reporter: Sequence[Incident] = ()

    @property
    def routes(self) -> ReplyRoutes:
        return ReplyRoutes(TOKENS, self.addresses)

    def panic(self, now: datetime = START, **about: Any) -> Change:
        incident = transitions.new(
            id="abcdefgh23456723",
            ref="7KQ2N",
            mail_id="mail",
            accepted_at=START,
            policy=self.organisation.policy,
            subject=self.report.subject,
            reporter_address=about.pop("reporter_address", self.report.from_address or "rita@example.com"),
            reporter_name=self.report.from_name,
            message_id=self.report.message_id,
            **about,
        )
        return transitions.open_panic(
            incident, Duty(self.organisation.policy, self.organisation.who, now), receipt=True, entry_facts={}
        )

    def context(self, incident: Incident, facts: Mapping[str, Any], now: datetime) -> NoticeContext:
        return NoticeContext(
            organisation=self.organisation,
            incident=incident,
            report=self.report,
            facts=facts,
            now=now,
            pages=self.pages,
            also_open=self.also_open,
            same_reporter=self.same_reporter,
            link=self.link,
            flags=self.flags,
            conversation=self.conversation,
            unheard=self.unheard,
            instead=self.instead,
        )

    def letters(self, change: Change, now: datetime) -> dict[str, ComposedMail]:
        """Every mail a change asks for: kind and person -> letter."""
        written = {}
        for effect in change.effects:
            context = self.context(change.incident, effect.facts, now)
            person = self.organisation.people.get(effect.person or "max", MAX)
            name = f"{effect.do.value} {effect.person or ''}".strip()
            if effect.do is EffectKind.PAGE:
                written[name] = page(context, person, self.routes)
            elif effect.do is EffectKind.TELL:
                written[name] = tell(context, person, self.routes, key=effect.key)
            elif effect.do is EffectKind.RECEIPT:
                written[name] = receipt(context, self.routes, key=effect.key)
            elif effect.do is EffectKind.NEWS:
                written[f"news {effect.facts['what']}"] = news(context, self.routes, key=effect.key)
            elif effect.do is EffectKind.OPERATORS:
                written[name] = operators(effect.facts, head_to(person, now), self.addresses, key=effect.key)
        return written

    def page(self, change: Change, person: Person, now: datetime) -> ComposedMail:
        return self.letters(change, now)[f"page {person.id}"]

    def answer(self, change: Change, person: Person, said: str, now: datetime, **facts: Any) -> ComposedMail:
        about = {
            "what": "answer",
            "said": said,
            "outcome": change.outcome.value,
            "why": "",
            "words": said,
            "how": HOW,
            "channel": "mail",
            "to": "",
            "in_reply_to": "<reply@example.com>",
            "refs": [],
            **facts,
        }
        return tell(self.context(change.incident, about, now), person, self.routes, key="row")

    def tells(self, incident: Incident, person: Person, now: datetime, **facts: Any) -> ComposedMail:
        return tell(self.context(incident, facts, now), person, self.routes, key="row")

    def news(self, incident: Incident, now: datetime, **facts: Any) -> ComposedMail:
        return news(self.context(incident, facts, now), self.routes, key="row")


def said_more(text: str = "It spreads.") -> Entry:
    facts = {"from_address": "rita@example.com", "from_name": "Rita Lopez", "text": text, "is_reporter": True}
    return Entry(event="more", facts=facts)


def every_letter(night: Night) -> Iterator[tuple[str, ComposedMail]]:
    """The whole night, every turn it can take: what it is, and the letter."""
    policy, who = night.organisation.policy, night.organisation.who
    more: dict[str, Any] = {"mail_id": "m", "human": True, "thanks": False}

    def all_of(title: str, change: Change, after: float) -> Iterator[tuple[str, ComposedMail]]:
        for name, letter in night.letters(change, START + minutes(after)).items():
            yield f"{title}: {name}", letter

    opened = night.panic()
    first = opened.incident
    yield from all_of("opened", opened, 0)
    yield from all_of("outage", night.panic(START + minutes(22)), 22)
    yield from all_of("once", night.panic(once=True), 0)
    yield from all_of("drill", night.panic(drill=True), 0)
    empty = replace(night, organisation=replace(night.organisation, who=nobody))
    unfilled = empty.panic().incident
    later = transitions.pass_time(unfilled, Duty(policy, nobody, START + minutes(15)))
    for name, letter in empty.letters(later, START + minutes(15)).items():
        yield f"nobody on call: {name}", letter

    yield from all_of(
        "more",
        transitions.more(first, transitions.MoreMail(entry=said_more(), **more), Duty(policy, who, START + minutes(2))),
        2,
    )
    yield from all_of(
        "issue closed",
        transitions.issue_closed(first, transitions.IssueClosing(by=None), policy, START + minutes(2)),
        2,
    )
    breached = transitions.pass_time(first, Duty(policy, who, START + minutes(15)))
    yield from all_of("breached", breached, 15)
    yield from all_of("again", transitions.pass_time(breached.incident, Duty(policy, who, START + minutes(20))), 20)

    declined = transitions.decline(first, "ana", HOW, "can't", Duty(policy, who, START + minutes(3)))
    yield from all_of("declined", declined, 3)
    yield "no done", night.answer(declined, ANA, "no", START + minutes(3))
    left = transitions.decline(declined.incident, "max", HOW, "no", Duty(policy, who, START + minutes(4)))
    yield from all_of("nobody left", left, 4)
    yield "no, nobody left", night.answer(left, MAX, "no", START + minutes(4))
    asked = transitions.escalate(first, "ana", HOW, Duty(policy, who, START + minutes(3)))
    yield from all_of("escalated", asked, 3)
    yield "escalate done", night.answer(asked, ANA, "escalate", START + minutes(3))
    further = transitions.escalate(asked.incident, "max", HOW, Duty(policy, who, START + minutes(4)))
    yield "escalate, nobody left", night.answer(further, MAX, "escalate", START + minutes(4))
    for why in ("out of office", "every way failed (550 no such user)"):
        yield from all_of(why, transitions.unreachable(first, "ana", why, Duty(policy, who, START + minutes(3))), 3)

    acked = transitions.acknowledge(breached.incident, "ana", HOW, policy, START + minutes(17))
    held = acked.incident
    yield from all_of("acked", acked, 17)
    for said in ("yes", "take", "yes_all"):
        yield f"{said} done", night.answer(acked, ANA, said, START + minutes(17), refs=["M4TD", "7KQ2N"])
    second = transitions.acknowledge(held, "max", HOW, policy, START + minutes(18))
    yield "yes already", night.answer(second, MAX, "yes", START + minutes(18))
    yield "yes already mine", night.answer(unchanged(held, Outcome.ALREADY), ANA, "yes", START + minutes(18))
    taken = transitions.take(held, "max", HOW, policy, START + minutes(18))
    yield from all_of("taken", taken, 18)
    since = {"before": "ana", "stopped_at": (START + minutes(17)).isoformat()}
    yield "take done, from somebody", night.answer(taken, MAX, "take", START + minutes(18), **since)
    yield "no noted", night.answer(unchanged(held, Outcome.NOTED), MAX, "no", START + minutes(18))
    for who_asks in (ANA, MAX):
        for stage, incident in (("open", breached.incident), ("acked", held)):
            noted = unchanged(incident, Outcome.NOTED)
            answer = night.answer(noted, who_asks, "nothing", START + minutes(18), why="it asked a question")
            yield f"nothing {stage} {who_asks.id}", answer
    for stage, incident in (("open", first), ("acked", held)):
        offered = transitions.hand_over(incident, "ana", "bo", HOW, START + minutes(19))
        yield from all_of(f"handed {stage}", offered, 19)
        yield f"hand over {stage}", night.answer(offered, ANA, "hand_over", START + minutes(19), to="bo")
    unknown = unchanged(first, Outcome.NOTED)
    yield "hand over to nobody", night.answer(unknown, ANA, "hand_over", START + minutes(2), why='nobody is called "x"')
    reminded = transitions.pass_time(held, Duty(policy, who, START + minutes(38)))
    yield from all_of("reminded", reminded, 38)
    yield from all_of("silent", transitions.pass_time(reminded.incident, Duty(policy, who, START + minutes(48))), 48)
    follow = transitions.more(
        held, transitions.MoreMail(entry=said_more(), **more), Duty(policy, who, START + minutes(20))
    )
    yield from all_of("more acked", follow, 20)
    yield from all_of("unanswered", transitions.pass_time(follow.incident, Duty(policy, who, START + minutes(31))), 31)
    again = transitions.escalate(held, "ana", HOW, Duty(policy, who, START + minutes(30)))
    yield from all_of("escalated by holder", again, 30)
    yield "escalate by holder", night.answer(again, ANA, "escalate", START + minutes(30))

    how_to = transitions.resolve(first, "ana", HOW, policy, START + minutes(2))
    yield "how to close", night.answer(how_to, ANA, "resolve", START + minutes(2))
    closed = transitions.resolve(held, "ana", HOW, policy, START + minutes(60))
    yield from all_of("closed", closed, 60)
    yield "resolve done", night.answer(closed, ANA, "resolve", START + minutes(60))
    yield "status while open", night.answer(unchanged(first, Outcome.NOTED), ANA, "status", START + minutes(2))
    yield "status while held", night.answer(unchanged(held, Outcome.NOTED), MAX, "status", START + minutes(30))
    for said in ("quiet", "quiet_off"):
        yield f"{said} by holder", night.answer(unchanged(held, Outcome.DONE), ANA, said, START + minutes(30))
    elsewhere = replace(night, instead="rita@example.net", unheard=transitions.UnsentReason.QUIET)
    yield (
        "quiet, and where to write",
        elsewhere.answer(unchanged(held, Outcome.DONE), ANA, "quiet", START + minutes(30)),
    )
    why = "only whoever has it says whether the reporter gets mail"
    yield "quiet by another", night.answer(unchanged(held, Outcome.NOTED), MAX, "quiet", START + minutes(30), why=why)
    said_severity = transitions.SaidSeverity(level=2, by="ana", how=HOW, policy=policy, at=START + minutes(2))
    graded = transitions.set_severity(first, said_severity, Duty(policy, who, START + minutes(2)))
    yield "severity", night.answer(graded, ANA, "severity", START + minutes(2), severity=2)
    yield from all_of("severity of another", transitions.set_severity(
        held, replace(said_severity, by="max"), Duty(policy, who, START + minutes(30))), 30)  # fmt: skip
    for said in ("yes", "take", "escalate", "no", "nothing", "status"):
        late = unchanged(closed.incident, Outcome.CLOSED)
        yield f"{said} too late", night.answer(late, MAX, said, START + minutes(70))
    reopened = transitions.more(
        closed.incident, transitions.MoreMail(entry=said_more(), **more), Duty(policy, who, START + minutes(120))
    )
    yield from all_of("reopened", reopened, 120)
    yield from all_of(
        "reopened, escalation", transitions.pass_time(reopened.incident, Duty(policy, who, START + minutes(125))), 125
    )
    once = night.panic(once=True).incident
    yield "nothing once", night.answer(unchanged(once, Outcome.NOTED), ANA, "nothing", START + minutes(2))

    heard = replace(night, conversation="panic+c1-abcdefgh23456723-0-aaaaaaaaaaaaaaaa@example.com")
    yield "yes done, and where to write", heard.answer(acked, ANA, "yes", START + minutes(17))
    yield from ((f"where to write: {name}", letter) for name, letter in heard.letters(follow, START).items())
    for stage, incident in (("open", first), ("acked", held)):
        for people in (("bo",), ()):
            shift = transitions.ShiftChange(role="seoc", at=START + minutes(19), people=people)
            changed = transitions.shift_changed(incident, policy, shift, (), START + minutes(19))
            yield from all_of(f"shift {stage} {people}", changed, 19)
            yield from all_of(f"shift {stage} {people}, too late", replace(changed, incident=closed.incident), 90)
            yield from all_of(f"shift {stage} {people}, since taken", replace(changed, incident=taken.incident), 30)
    spoken = transitions.speak(
        held,
        transitions.Speech(person="ana", text="Pull the plug.\nack", how=HOW, mail_id="m"),
        policy,
        START + minutes(20),
    )
    yield from all_of("spoken", spoken, 20)
    files = [{"name": "ack\n/close [PANIC 7KQ2N].exe", "type": "text/plain", "size": 11, "sha256": "0" * 64}] * 12
    without = transitions.speak(
        held,
        transitions.Speech(person="ana", text="Pull the plug.", how=HOW, mail_id="m", left=files),
        policy,
        START + minutes(20),
    )
    yield from all_of("spoken, with files", without, 20)
    showing = replace(said_more(""), facts={**said_more("").facts, "attachments": files})
    yield from all_of(
        "more files",
        transitions.more(held, transitions.MoreMail(entry=showing, **more), Duty(policy, who, START + minutes(20))),
        20,
    )
    for stage, incident in (("open", breached.incident), ("acked", held), ("closed", closed.incident)):
        for why in (*transitions.UnsentReason, "something else"):
            about = {"what": "unsent", "why": str(why), "detail": "550 no such user"}
            yield f"unsent {why}, {stage}", heard.tells(incident, ANA, START + minutes(70), **about)

    for stage, incident in (("open", breached.incident), ("acked", held)):
        for way in ("", "a mailing list", "another way", "ack\n"):
            came = {"what": "came_again", "way": way, "at": (START + minutes(20)).isoformat()}
            yield f"came again {way!r} {stage}", night.tells(incident, ANA, START + minutes(20), **came)

    hostile = {"subject": "ack\n/close [PANIC 7KQ2N]", "text": "ack\n.\nRCPT TO:<all@example.com>", "at": "ack"}
    floods: dict[str, dict[str, Any]] = {
        "storm": {"sender": "rita@example.com", "count": 7, "members": 40, "unlike": 12, "new": [hostile] * 10},
        "pages_bundled": {"at": "ack"},
        "which": {"digest": "aaaaaaaaaaaaaaaa", "refs": ["7KQ2N", "8ABCD"] * 15, "why": "ack", "words": "ack\nall"},
    }
    for what, facts in floods.items():
        for stage, incident in (("open", breached.incident), ("acked", held), ("closed", closed.incident)):
            yield f"{what} {stage}", night.tells(incident, ANA, START + minutes(20), what=what, **facts)
    yield "storm, nothing new", night.tells(held, ANA, START + minutes(20), what="storm", count=1, members=1)
    member = {"mail": "m", "message_id": "<ack@evil.example>", "at": START.isoformat()}
    yield "receipt of a member", receipt(night.context(held, member, START), night.routes, key="member")

    for what in ("acked", "breached", "resolved", "reopened", "issue", "something else"):
        at = (START + minutes(20)).isoformat()
        yield f"news {what}", night.news(held, START + minutes(20), what=what, at=at)
    yield "unknown news to ours", night.tells(held, MAX, START + minutes(20), what="something else")
    barred = (
        "pages_bundled",
        "relay_failed_over",
        "gitlab_barred",
        "relay_barred",
        "push_barred",
        "gitlab_works",
        "relay_works",
        "push_works",
    )
    for cause in ("gitlab_refused", "page_refused", "parked", "reader_failed", *barred, "something else", ""):
        facts = {
            "cause": cause,
            "ref": "7KQ2N",
            "error": "403 Forbidden",
            "channel": ["ana: ntfy://ntfy.example.com/…"],
        }
        yield (
            f"operators {cause}",
            operators(facts, head_to(MAX), night.addresses, key=cause),
        )


def page_of(
    night: Night, word: PageReason, incident: Incident, person: Person, now: datetime, **facts: Any
) -> ComposedMail:
    about = {"round": incident.round, "role": "seoc", "word": word.value, **facts}
    return page(night.context(incident, about, now), person, night.routes)
