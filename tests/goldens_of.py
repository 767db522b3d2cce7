"""Everything panicmail says, as it is read: kind by kind, medium by medium, in a few situations.

`make goldens` writes it into `tests/goldens/`, to be read by people; `test_goldens` holds each file against what is
said now. One night of made-up people: Ana is the SEOC, Max the SMOC, Bo a colleague in Tokyo, Rita reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

from panicmail.incident import transitions
from panicmail.incident.escalation_policy import Duty
from panicmail.incident.model import Change, Effect, EffectKind, Incident, Outcome, PageReason
from panicmail.incident.people import Person
from panicmail.incident.storm_rules import PageDigest
from panicmail.incident.timeline_kinds import EVENTS
from panicmail.mail.compose import (
    ComposedMail,
    check_page,
    news,
    operators,
    page,
    push_text,
    receipt,
    tell,
    timeline_words,
    watch_alerts,
)
from panicmail.mail.compose.digest_page import DigestEntry, digest_page
from panicmail.mail.compose.notice_context import NoticeContext, PageSent
from panicmail.mail.compose.operator_alerts import Listed, causes, listing
from tests.scenes import (
    ADDRESSES,
    ANA,
    BERLIN,
    BO,
    HOW,
    MAX,
    ORGANISATION,
    POLICY,
    ROUTES,
    START,
    Night,
    head_to,
    minutes,
    on_call,
    said_more,
)

FOLDER = Path(__file__).parent / "goldens"
#: So many situations of a kind are shown; the first ones.
MOST = 4
#: Kinds whose HTML is shown too, of their first situation: it is made of the same lines in all of them.
AS_HTML = ("page", "page_yours_now", "receipt", "told_more")

ISSUE = "https://gitlab.example.com/security/panic/-/issues/41"
TALK = "panic+c1-abcdefgh23456723-0-aaaaaaaaaaaaaaaa@example.com"
SENT = tuple(
    PageSent(person="ana", channel=channel, at=START + minutes(after), state="accepted")
    for after in (0, 5, 10)
    for channel in ("mail", "push")
)
NIGHT = Night(pages=SENT, conversation=TALK)
#: What the lines of a timeline keep in this night.
FACTS: Mapping[str, Any] = {
    "people": {"ana": "seoc"}, "step": 1, "round": 1, "holder": "ana", "how": HOW, "person": "ana", "by": "ana",
    "severity": 2, "before": 3,
    "to": "max", "why": "out of office", "sla_at": (START + minutes(15)).isoformat(), "words": "can't",
    "until": (START + minutes(300)).isoformat(), "policy": "office", "at": START.isoformat(), "role": "seoc",
    "from_name": "Rita Lopez", "from_address": "rita@example.com", "is_reporter": True, "text": "It spreads.",
    "answer": "550 5.1.1 no such user", "said": "incident.acknowledged", "last_holder": "ana", "channel": "mail",
    "sender": "rita@example.com", "first": ["M4TD", "K7WZ"], "count": 2, "members": 12, "kind": "ooo",
    "mails": [{"at": START.isoformat(), "subject": "Ransom note"}], "changed": ["subject"],
    "taken_off": ["label panic"],
    "attachments": [{"name": "note.txt", "type": "text/plain", "size": 2210, "sha256": "0" * 64}], "mail": "m1",
    "told": ["ana"], "way": "another way", "place": "https://gitlab.example.com/other/-/issues/3", "followed": True,
}  # fmt: skip
#: Of some events, what differs.
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "shift.changed": {"people": ["bo"]},
    "storm.split": {"mails": 12},
    "report.amended": {"kind": "human", "why": []},
    "conversation.said": {"to": "rita@example.com"},
    "holder.silent": {"people": {"max": "smoc"}, "why": "no sign of work"},
    "incident.taken": {"holder": "max", "before": "ana"},
    "incident.acked": {"before": None},
    "thread.more": {"answers": [[1, "Which host is it?", "db1"]]},
    "hook.noted": {"why": "nobody of ours did it"},
}


@dataclass(frozen=True)
class Situation:
    """One notice in its media."""

    kind: str
    title: str
    mail: ComposedMail | None = None
    texts: Mapping[str, str] | None = None  #: other media by name


def goldens() -> dict[str, str]:
    """The name of each golden file, and what stands in it."""
    shown: dict[str, list[str]] = {}
    written = {}
    for each in situations():
        parts = shown.setdefault(f"{each.kind}.txt", [])
        if each.kind in AS_HTML and not parts and each.mail:
            written[f"{each.kind}.html"] = _part(each.mail, "html")
        if len(parts) < MOST or each.kind in {"operators", "timeline"}:
            parts.append(_shown(each))
    return {**{name: "\n\n".join(parts) for name, parts in shown.items()}, **written}


def _shown(each: Situation) -> str:
    lines = [f"== {each.title} =="]
    if each.mail:
        fields = message_from_bytes(each.mail.message, policy=default)
        lines += [f"{name}: {fields[name]}" for name in ("To", "Subject") if fields[name]]
        lines += ["", _part(each.mail, "plain").rstrip()]
    for medium, text in (each.texts or {}).items():
        lines += ["", f"-- {medium} --", text]
    return "\n".join(line.rstrip() for line in "\n".join(lines).split("\n")) + "\n"


def _part(letter: ComposedMail, kind: str) -> str:
    body = message_from_bytes(letter.message, policy=default).get_body((kind,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def situations() -> Iterator[Situation]:
    """Every kind, in the order in which the night may bring them."""
    for title, change, after, night in _story():
        for effect in change.effects:
            yield from _of_effect(f"{title}, at {_time(after)}", change.incident, effect, after, night)
    yield from _answers()
    yield from _pages_from_memory()
    yield from _told_apart()
    yield from _timeline()
    yield from _alarms()
    yield from _outside()


def _time(after: float) -> str:
    return f"{(START + minutes(after)).astimezone(BERLIN):%H:%M}"


def _of_effect(title: str, incident: Incident, effect: Effect, after: float, night: Night) -> Iterator[Situation]:
    now = START + minutes(after)
    context = night.context(replace(incident, issue_url=ISSUE), effect.facts, now)
    person = night.organisation.people.get(effect.person or "max", MAX)
    title = f"{title}, to {person.first_name if effect.person else 'the reporter'}"
    match effect.do:
        case EffectKind.PAGE:
            yield page_in("page_" + effect.facts["word"] if effect.facts["word"] != "page" else "page", title, context,
                          person)  # fmt: skip
        case EffectKind.TELL:
            yield _told(f"told_{effect.facts['what']}", title, context, person)
        case EffectKind.RECEIPT:
            yield Situation("receipt", title, receipt(context, ROUTES, key="row"))
        case EffectKind.NEWS:
            yield Situation(f"news_{effect.facts['what']}", title, news(context, ROUTES, key="row"))


def page_in(kind: str, title: str, context: NoticeContext, person: Person) -> Situation:
    return Situation(kind, title, page(context, person, ROUTES), {"push": push_text.page(context, person, "full")})


def _told(kind: str, title: str, context: NoticeContext, person: Person) -> Situation:
    letter = tell(context, person, ROUTES, key="row")
    return Situation(kind, title, letter, {"push": push_text.tell(context, person, "full")})


def _story() -> Iterator[tuple[str, Change, float, Night]]:
    """What happens, what it comes to, how many minutes after the report, and what is known."""
    first = Night(link=NIGHT.link)

    def at(after: float) -> Duty:
        return Duty(POLICY, on_call, START + minutes(after))

    def more(text: str) -> transitions.MoreMail:
        return transitions.MoreMail(entry=said_more(text), mail_id="m", human=True, thanks=False)

    opened = first.panic()
    new = opened.incident
    yield "a report came", opened, 0, first
    yield "a report came while panicmail was down", first.panic(START + minutes(22)), 22, first
    yield "a drill", first.panic(drill=True), 0, first
    yield "it looks like no colleague's report", first.panic(once=True), 0, first
    breached = transitions.pass_time(new, at(15))
    yield "nobody answered", breached, 15, NIGHT
    yield "still nobody", transitions.pass_time(breached.incident, at(20)), 20, NIGHT
    declined = transitions.decline(new, "ana", HOW, "can't", at(3))
    yield "Ana said no", declined, 3, NIGHT
    yield "Ana asked for more people", transitions.escalate(new, "ana", HOW, at(3)), 3, NIGHT
    yield "Ana is out of office", transitions.unreachable(new, "ana", "out of office", at(1)), 1, NIGHT
    yield "more came while nobody had it", transitions.more(new, more("A second laptop."), at(2)), 2, NIGHT
    closing = transitions.IssueClosing(by=None)
    yield "a stranger closed the issue", transitions.issue_closed(new, closing, POLICY, START + minutes(2)), 2, NIGHT
    acked = transitions.acknowledge(breached.incident, "ana", HOW, POLICY, START + minutes(17))
    held = acked.incident
    yield "Ana acknowledged", acked, 17, NIGHT
    yield "Max took it from Ana", transitions.take(held, "max", HOW, POLICY, START + minutes(18)), 18, NIGHT
    yield "Ana offers it to Bo", transitions.hand_over(held, "ana", "bo", HOW, START + minutes(19)), 19, NIGHT
    offered = transitions.hand_over(held, "ana", "bo", HOW, START + minutes(19)).incident
    yield "Bo said no to it", transitions.decline(offered, "bo", HOW, "asleep", at(21)), 21, NIGHT
    reminded = transitions.pass_time(held, at(38))
    yield "Ana shows no sign of work", reminded, 38, NIGHT
    yield "and gives no answer", transitions.pass_time(reminded.incident, at(48)), 48, NIGHT
    follow = transitions.more(held, more("A colleague's laptop shows it too."), at(20))
    yield "Rita wrote again", follow, 20, NIGHT
    yield "and Ana did not answer", transitions.pass_time(follow.incident, at(31)), 31, NIGHT
    yield "Max asked for others", transitions.escalate(held, "max", HOW, at(30)), 30, NIGHT
    spoken = transitions.Speech(person="ana", text="Pull the plug. I call you.", how=HOW, mail_id="m",
                                left=FACTS["attachments"])  # fmt: skip
    yield "Ana wrote to Rita", transitions.speak(held, spoken, POLICY, START + minutes(20)), 20, NIGHT
    for stage, incident in (("nobody has it", new), ("Ana has it", held)):
        shift = transitions.ShiftChange(role="seoc", at=START + minutes(19), people=("bo",))
        changed = transitions.shift_changed(incident, POLICY, shift, (), START + minutes(19))
        yield f"the shift changed to Bo and {stage}", changed, 19, NIGHT
    closed = transitions.resolve(held, "ana", HOW, POLICY, START + minutes(60))
    yield "Ana closed it", closed, 60, NIGHT
    reopened = transitions.more(closed.incident, more("It is back."), at(120))
    yield "Rita wrote after it was closed", reopened, 120, NIGHT
    seen = transitions.Seen(is_exposed=True, by="eve", lacking=("label panic",))
    altered = transitions.issue_altered(held, seen, transitions.PutBack.NEVER, ())
    yield "somebody made the issue public", altered, 40, NIGHT


def _answers() -> Iterator[Situation]:
    """The answers to what people wrote."""
    night, now = replace(NIGHT, conversation=TALK), START + minutes(4)
    new = night.panic().incident
    held = transitions.acknowledge(new, "ana", HOW, POLICY, now).incident
    called = transitions.decline(new, "ana", HOW, "can't", Duty(POLICY, on_call, now)).incident
    closed = transitions.resolve(held, "ana", HOW, POLICY, now).incident
    cases: tuple[tuple[str, Incident, Person, Outcome, dict[str, Any]], ...] = (
        ("yes", held, ANA, Outcome.DONE, {}),
        ("yes", held, MAX, Outcome.ALREADY, {}),
        ("yes by link", held, ANA, Outcome.DONE, {"by_link": True, "undo_by": (now + minutes(2)).isoformat()}),
        ("take", replace(held, holder="max"), MAX, Outcome.DONE, {"before": "ana", "stopped_at": START.isoformat()}),
        ("no", called, ANA, Outcome.DONE, {}),
        ("no", held, MAX, Outcome.NOTED, {}),
        ("escalate", called, ANA, Outcome.NOBODY_LEFT, {}),
        ("nothing", new, ANA, Outcome.NOTED, {"why": "it came from ana.r@example.net, which is not listed for you"}),
        ("nothing", new, BO, Outcome.NOTED, {"why": "it asked a question"}),
        ("nothing", held, MAX, Outcome.NOTED, {"why": "it asked a question"}),
        ("resolve", held, ANA, Outcome.HOW_TO_CLOSE, {}),
        ("resolve", closed, ANA, Outcome.DONE, {}),
        ("yes", closed, MAX, Outcome.CLOSED, {}),
        ("hand_over", held, ANA, Outcome.DONE, {"to": "bo"}),
        ("status", new, ANA, Outcome.NOTED, {}),
        ("quiet", held, ANA, Outcome.DONE, {}),
        ("quiet_off", held, ANA, Outcome.DONE, {}),
        ("quiet", held, MAX, Outcome.NOTED, {"why": "only whoever has it says whether the reporter gets mail"}),
    )  # fmt: skip
    for said, incident, person, outcome, more in cases:
        word = said.partition(" ")[0]
        facts = {"what": "answer", "said": word, "outcome": outcome.value, "how": HOW, "channel": "mail", **more}
        context = night.context(replace(incident, issue_url=ISSUE), facts, now)
        title = f"{person.first_name} said {said} ({outcome.value}, {incident.state.value})"
        yield _told(f"answer_{word}", title, context, person)


def _pages_from_memory() -> Iterator[Situation]:
    now, incident = START + minutes(16), NIGHT.panic().incident
    facts = {"round": 1, "since": (START + minutes(1)).isoformat(), "turn_at": (START + minutes(15)).isoformat()}
    for word in (PageReason.DATABASE_AWAY, PageReason.STATE_UNKNOWN):
        context = NIGHT.context(incident, {**facts, "word": word.value}, now)
        yield page_in(f"page_{word}", "the database is away, to Max", context, MAX)
    held = transitions.acknowledge(incident, "ana", HOW, POLICY, START).incident
    context = NIGHT.context(replace(held, worked_at=now), {"word": "status", "round": 3}, START + minutes(240))
    yield Situation("page_status", "it was quiet for hours, to Ana, by mail alone", page(context, ANA, ROUTES))


def _told_apart() -> Iterator[Situation]:
    """What no change of the night above brings."""
    now = START + minutes(20)
    asking = replace(ORGANISATION, questions=("Which host is it?", "Since when?"))
    asked = Night(organisation=asking).context(Night().panic().incident, {}, START)
    yield Situation("receipt", "a report came, and there are questions", receipt(asked, ROUTES, key="row"))
    new = replace(NIGHT.panic().incident, issue_url=ISSUE)
    held = transitions.acknowledge(new, "ana", HOW, POLICY, START + minutes(17)).incident
    closed = transitions.resolve(held, "ana", HOW, POLICY, now).incident
    storm = {"sender": "rita@example.com", "count": 7, "members": 40, "unlike": 1,
             "new": [{"at": START.isoformat(), "subject": "Server down", "text": "db1 too."}]}  # fmt: skip
    told: tuple[tuple[str, str, Incident, Mapping[str, Any]], ...] = (
        ("undone", "it was not Max's press", new, {"by": "max", "undid": "ack", "at": now.isoformat()}),
        ("undone", "closing it was undone", held, {"by": "max", "undid": "resolve", "at": now.isoformat()}),
        ("opened_again", "Max asked for more people", new, {"by": "max", "at": now.isoformat()}),
        ("severity", "Max graded it", replace(held, severity=2, severity_by="max"), {"by": "max", "policy": "grave",
                                                                                    "at": now.isoformat()}),
        ("came_again", "the same mail by a list", new, {"way": "a mailing list", "at": now.isoformat()}),
        ("storm", "a flood, and Ana has its first", held, storm),
        ("pages_bundled", "many senders", new, {"person": "ana", "at": now.isoformat()}),
        ("which", "an answer to a digest", new, {"refs": ["7KQ2N", "M4TD"], "why": "it names none of them",
                                                  "words": "ok"}),
        ("issue_closed", "before it was taken", held, {}),
        ("issue_reopened", "after it was closed", closed, {"by": "eve", "reopened_at": now.isoformat()}),
        ("issue_went", "moved out of sight", held, {"how": "moved", "place": "other/project#3", "by": "eve"}),
        ("link_revoked", "it stood in Rita's mail", new, {"from_name": "Rita Lopez",
                                                          "from_address": "rita@example.com"}),
        ("unsent", "it came from elsewhere", held, {"why": "stranger", "detail": "ana.r@example.net"}),
        ("unsent", "the reporter's server refused it", held, {"why": "refused", "detail": "550 no such user"}),
        ("unsent", "Ana does not have it", new, {"why": "not_yours"}),
        ("unheard_of", "of a later version", held, {}),
    )  # fmt: skip
    for what, title, incident, facts in told:
        person = MAX if what == "pages_bundled" else ANA
        context = NIGHT.context(incident, {"what": what, **facts}, now)
        yield _told(f"told_{what}", f"{title}, to {person.first_name}", context, person)
    for what in ("not_closed", "issue"):
        yield Situation(f"news_{what}", "to the reporter", NIGHT.news(held, now, what=what, at=now.isoformat()))


@dataclass(frozen=True)
class Line:
    event: str
    actor: str
    facts: Mapping[str, Any]
    id: int = 7
    at: datetime = START


def _timeline() -> Iterator[Situation]:
    incident = NIGHT.panic().incident
    for event in sorted(EVENTS):
        line = Line(event, "panicmail" if event in {"people.paged", "sla.breached", "incident.opened"} else "ana",
                    {**FACTS, **OTHERS.get(event, {})})  # fmt: skip
        said = {"note": timeline_words.note_text(line, incident, ORGANISATION.people).partition("\n\n`panicmail:")[0]}
        if shown := timeline_words.link_line(line, ORGANISATION.people):
            said["link page"] = shown
        if not said["note"].partition("UTC. ")[2].startswith("Recorded:"):
            yield Situation("timeline", event, texts=said)
        elif shown:
            yield Situation("timeline", event, texts={"link page": shown})


def _alarms() -> Iterator[Situation]:
    for cause in sorted(causes()):
        facts = {"cause": cause, "ref": "7KQ2N", "at": START.isoformat(), "answer": "what the other side said"}
        letter = operators(facts, head_to(MAX), ADDRESSES, key=cause)
        yield Situation("operators", cause, letter, {"push": push_text.operators(facts)})


def _outside() -> Iterator[Situation]:
    """What is about no incident, about several, or said apart from the daemon."""
    new = NIGHT.panic().incident
    held = transitions.acknowledge(new, "ana", HOW, POLICY, START + minutes(17)).incident
    two = [replace(new, ref="M4TD", subject="Mail server down"), held]
    digest = PageDigest(id="aaaaaaaaaaaaaaaa", person="ana", channel="mail", made_at=START, pages=(("i", 1),) * 2)
    yield Situation(
        "digest", "two panics, to Ana",
        digest_page(digest,
                    [DigestEntry(each, NIGHT.link, False) for each in two], ORGANISATION, head_to(ANA), ROUTES),
        {"push": push_text.digest(["M4TD", "7KQ2N"])},
    )  # fmt: skip
    listed = [Listed(each, NIGHT.link) for each in two]
    later = head_to(ANA, START + minutes(600))
    daily = listing(listed, ORGANISATION, later, ADDRESSES, key="row")
    yield Situation("daily_list", "two are not closed, to Ana", daily)
    context = NIGHT.context(new, {}, START + minutes(16))
    watched = watch_alerts.unreached([context], MAX, ADDRESSES, key="row")
    one = {"push": watch_alerts.unreached_push([context], BERLIN)}
    yield Situation("watch_unreached", "one, to Max", watched, one)
    several = [context, replace(context, incident=two[0])]
    yield Situation("watch_unreached", "two, to Max", watch_alerts.unreached(several, MAX, ADDRESSES, key="row"),
                    {"push": watch_alerts.unreached_push(several, BERLIN)})  # fmt: skip
    now = START + minutes(3)
    blind = watch_alerts.blind(START, "timeout", head_to(MAX, now), ADDRESSES, key="row")
    yield Situation("watch_blind", "to Max", blind,
                    {"push": watch_alerts.blind_push(START, now, BERLIN),
                     "push, later": watch_alerts.sees_push(START, now, BERLIN)})  # fmt: skip
    test = check_page.test_page("abcdefgh23456723", head_to(ANA), ROUTES, with_code=True)
    yield Situation("test_page", "to Ana", test, {"push": check_page.push("4F7K")})
    heard: tuple[dict[str, Any], ...] = (
        {"how": HOW, "seen": ["ntfy"]},
        {"why": ["it was empty"], "missing": ["ntfy"]},
    )
    for said in heard:
        proven = check_page.proven({"test": "abcdefgh23456723", **said}, head_to(ANA), ROUTES, key="row")
        yield Situation("test_page_answer", "counted" if "how" in said else "did not count", proven)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    written = goldens()
    for old in set(FOLDER.iterdir()) - {FOLDER / name for name in written}:
        old.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
