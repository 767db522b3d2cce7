"""Our own mails, quoted back in every way programs do, are nobody's answer.

Every template of ours is held here: a line of a template, or of the code that composes mails, that is missing from the
letters below fails `test_every_line_of_every_template_is_among_the_letters_or_the_pushes`, or the test after it.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import panicmail.mail.compose
from panicmail.config.reporters import KnownReporter
from panicmail.incident import reply_commands, transitions
from panicmail.incident.classify import Report
from panicmail.incident.escalation_policy import Duty
from panicmail.incident.model import Incident, Outcome, Owed, PageReason, State, unchanged
from panicmail.incident.notice_kinds import NEWS, TOLD
from panicmail.incident.reply_commands import Command
from panicmail.incident.storm_rules import PageDigest
from panicmail.incident.timeline_kinds import EVENTS
from panicmail.mail.compose import (
    catalogue,
    check_page,
    notices,
    operator_alerts,
    push_text,
    reporter_notices,
    timeline_words,
    watch_alerts,
)
from panicmail.mail.compose import message as compose_message
from panicmail.mail.compose.digest_page import DigestEntry, digest_page
from panicmail.mail.compose.letterhead import Letterhead, within
from panicmail.mail.compose.message import ComposedMail
from panicmail.mail.compose.notice_context import PageSent
from panicmail.mail.compose.page import page
from panicmail.mail.parse.html import plain
from panicmail.mail.parse.reply_text import fresh, read_reply
from tests.examples import examples
from tests.goldens_of import FACTS, OTHERS, Line
from tests.scenes import (
    ADDRESSES,
    ANA,
    BO,
    HOW,
    MAX,
    ORGANISATION,
    POLICY,
    ROUTES,
    START,
    Night,
    every_letter,
    head_to,
    minutes,
    nobody,
    on_call,
    page_of,
    part,
)

pytestmark = pytest.mark.timeout(600)

WIDTHS = range(20, 101)
MARKS = ("> ", "| ", "")
STRIDE = 27
QUESTION = "Which host is it?"


# -- every letter ----------------------------------------------------------------------------------


def incidents(night: Night) -> Iterator[Incident]:
    """An incident in every state it can be written about in."""
    first = night.panic(START).incident
    held = transitions.acknowledge(first, "ana", HOW, POLICY, START + minutes(2)).incident
    closed = transitions.resolve(held, "ana", HOW, POLICY, START + minutes(60)).incident
    again = transitions.escalate(held, "ana", HOW, Duty(POLICY, on_call, START + minutes(30))).incident
    yield from (first, held, closed, again, replace(closed, resolved_by="ana", once=True, holder=None))
    yield replace(held, owed=Owed.ANSWER, remind_at=START + minutes(30))
    yield replace(first, next_step_at=START - minutes(1), linked_to="M4TD")
    yield replace(first, next_step_at=None, once=True)
    yield replace(first, step=1, next_step_at=START + minutes(40))
    yield replace(first, paged={}, step=-1, next_step_at=START + minutes(300))
    yield replace(first, drill=True)
    yield replace(held, drill=True, issue_url="https://gitlab.example.com/security/-/issues/41")


@dataclass(frozen=True)
class Written:
    """Every mail panicmail can write, and which lines of the code and of the templates made it."""

    letters: tuple[tuple[str, str], ...]  #: as text and as HTML, each text once
    code: frozenset[tuple[str, int]]
    templates: frozenset[tuple[str, int]]


def letters() -> tuple[tuple[str, str], ...]:
    return written().letters


@cache
def written() -> Written:
    """Not sealed, which takes most of the time."""
    found: dict[str, str] = {}
    code: set[tuple[str, int]] = set()
    harmless = compose_message.harmless

    def noting(text: str) -> str:
        frame = sys._getframe(1)
        while frame.f_back is not None and Path(frame.f_code.co_filename).name in MAKES_LINES:
            frame = frame.f_back
        code.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
        return harmless(text)

    with noting_templates() as templates:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compose_message, "harmless", noting)
            patch.setattr(compose_message, "_fill", lambda message, text, html: found.setdefault(text, html))
            _write_all()
        for letter in (_plainest(), *(letter for _, letter in every_letter(Night()))):
            found.setdefault(part(letter, "plain"), part(letter, "html") if b"text/html" in letter.message else "")
        _push_all()
    return Written(tuple(found.items()), frozenset(code), frozenset(templates))


def _plainest() -> ComposedMail:
    """The page of last resort: of a context that breaks the full one."""
    night = Night()
    context = night.context(night.panic().incident, {"word": "page", "round": 1}, START)
    return page(replace(context, organisation=replace(ORGANISATION, who=broken)), ANA, ROUTES)


def broken(role: str) -> tuple[str, ...]:
    raise LookupError(role)


def _write_all() -> None:
    other = replace(Night().panic(START).incident, ref="M4TD")
    sent = (
        PageSent(person="ana", channel="mail", at=START, state="accepted"),
        PageSent(person="max", channel="mail", at=START, state="failed"),
    )
    full = Night(
        pages=sent,
        flags=("has no text",),
        also_open=(other,),
        same_reporter=(other,),
        conversation="panic+c1-abcdefgh23456723-0-aaaaaaaaaaaaaaaa@example.com",
    )
    bare = Night(
        report=Report(from_shown="Rita, at the desk"),
        link="",
        organisation=replace(ORGANISATION, hotline="", who=nobody, has_gap=lambda role: True, reporter_access=True),
    )
    alone = Night(organisation=replace(ORGANISATION, people={"ana": ANA}))
    list(every_letter(full))
    for night in (full, bare, alone):
        _pages(night)
        _told(night)
        _news(night)
    _caused(Night())
    _answered(full)
    for why in transitions.UnsentReason:
        _unheard(replace(Night(), unheard=why))
    _answered_apart()
    _apart()


def _answered_apart() -> None:
    """Answers that depend on more than what was said."""
    now, (first, held, *_) = START + minutes(18), incidents(Night())
    done = unchanged(held, Outcome.DONE)
    undo = {"by_link": True, "channel": "link", "undo_by": (now + minutes(1)).isoformat()}
    Night().answer(done, ANA, "yes", now, **undo)
    called = transitions.decline(first, "ana", HOW, "no", Duty(POLICY, on_call, START + minutes(1))).incident
    silent = replace(called, state=State.ACKED, holder="bo", owed=Owed.ANSWER, acked_at=now, away={"ana": "no"})
    Night().answer(unchanged(silent, Outcome.DONE), ANA, "no", now)
    asking = replace(
        ORGANISATION, questions=("Which host is it?",), scope={"phishing": "Send it to the phishing desk."}
    )
    asked = replace(Night(organisation=asking).context(first, {}, now), remarks=("Send it to the phishing desk.",))
    reporter_notices.receipt(asked, ROUTES, key="row")
    push_text.tell(Night().context(held, {"what": "shift_began", "holder": held.holder}, now), MAX, "full")


CAUSES: tuple[dict[str, Any], ...] = (
    {},
    {"declined_by": "ana", "words": "can't"},
    {"escalated_by": "max"},
    {"escalated_by": "bo"},
    {"on_call_since": START.isoformat()},
    {"unreachable": "ana", "why": "every way failed (550 no)"},
    {"unreachable": "ana", "why": "out of office"},
    {"unreachable": "ana", "why": "declined"},
    {"handed_by": "ana"},
    {"holder_gone": "gone"},
    {"issue_reopened_by": "max"},
    {"last_resort": "nobody_on_call", "roles": ["seoc"]},
    {"last_resort": "nobody_left"},
)


def _pages(night: Night) -> list[ComposedMail]:
    now, found = START + minutes(3), list(incidents(night))
    return [page_of(night, word, each, who, now) for word in PageReason for each in found for who in (ANA, MAX)]


def _caused(night: Night) -> list[ComposedMail]:
    now, (first, held, *_) = START + minutes(3), incidents(night)
    called = transitions.decline(first, "ana", HOW, "no", Duty(POLICY, on_call, now)).incident
    about: list[dict[str, Any]] = [{"cause": cause} for cause in CAUSES]
    about += [{"why": "no answer"}, {"late_seconds": 1320}, {"text": "More."}, {"since": now.isoformat()}]
    return [
        page_of(night, word, incident, BO, now, **facts)
        for word in PageReason
        for incident in (replace(first, drill=True), held, replace(called, away={"ana": "out of office", "max": "no"}))
        for facts in about
    ]


class Whatever(dict[str, Any]):
    """Facts in which everything that is asked for is so."""

    def get(self, name: str, default: object = None) -> Any:
        others = {"people": ["bo"], "refs": ["M4TD"], "undo_by": "", "attachments": ()}
        return super().get(name) or others.get(name, "so")


def _told(night: Night) -> list[ComposedMail]:
    now = START + minutes(18)
    facts: dict[str, Any] = {"by": "ana", "to": "bo", "holder": "ana", "people": ["bo"], "role": "seoc"}
    facts |= {"at": now.isoformat()}
    facts |= {"from_name": "Rita", "from_address": "rita@example.com", "text": "More.", "how": HOW}
    facts |= {"undo_by": (now + minutes(1)).isoformat(), "detail": "550 no"}
    others: tuple[dict[str, Any], ...] = (
        {},
        {"people": []},
        {"undid": "take", "before": "ana"},
        {"undid": "resolve", "is_reporter": True, "text": ""},
        {"exposed": False, "taken_off": ["label x"]},
        {"confidential": False},
    )
    found = [
        night.tells(incident, person, now, **{**facts, "what": what, **more})
        for what in (*TOLD, "anything else")
        for incident in incidents(night)
        for person in (ANA, MAX)
        for more in (others if night.conversation else others[:1])
    ]
    found += [
        notices.tell(night.context(incident, Whatever(what=what, said=said), now), ANA, ROUTES, key="row")
        for incident in incidents(night)
        for what, said in [
            *((what, "") for what in TOLD),
            *(("answer", said) for said in Command),
        ]
    ]
    found += [
        night.tells(incident, ANA, now, **{**facts, "what": what, "why": str(why)})
        for what in ("unsent", "offer_failed")
        for incident in incidents(night)
        for why in (*transitions.UnsentReason, "something else")
    ]
    return found


def _answered(night: Night) -> list[ComposedMail]:
    now = START + minutes(18)
    return [
        night.answer(unchanged(incident, outcome), person, said, now, to=to, refs=["M4TD"], **more)
        for said in Command
        for outcome in Outcome
        for incident in list(incidents(night))[:5]
        for person, to in ((ANA, "bo"), (MAX, ""))
        for more in ({"why": "it asked a question"}, {"by_link": True, "channel": "link"})
    ]


def _unheard(night: Night) -> None:
    """Answers to whoever cannot write to the reporter."""
    for incident in list(incidents(night))[:3]:
        for said in ("yes", "nothing"):
            night.answer(unchanged(incident, Outcome.NOTED), ANA, said, START, why="it asked a question")


def _news(night: Night) -> list[ComposedMail]:
    at = {"at": START.isoformat(), "holder": "max", "by": "ana", "text": "Pull the plug."}
    found = []
    for incident in incidents(night):
        context = night.context(incident, {}, START + minutes(4))
        found.append(reporter_notices.receipt(context, ROUTES, key="row"))
        found += [night.news(incident, START, what=what, **at) for what in (*NEWS, "anything else")]
    return found


def _apart() -> list[ComposedMail]:
    """What has no incident, or speaks apart from the daemon, or was written when writing failed."""
    night = Night()
    context = night.context(night.panic().incident, {"word": "page", "round": 1}, START + minutes(20))
    found = [
        operator_alerts.operators({"cause": cause, "ref": "7KQ2N", "error": "403"}, head_to(MAX), ADDRESSES, key="row")
        for cause in (*operator_alerts.causes(), "anything else")
    ]
    found += [
        check_page.test_page("abcdefgh23456723", Letterhead("page@example.com", ANA, START), ROUTES, with_code=code)
        for code in (False, True)
    ]
    about = ({"how": HOW, "seen": ["ntfy"]}, {"why": ["it was empty"], "missing": ["ntfy"]})
    found += [
        check_page.proven({"test": "abcdefgh23456723", **facts}, head_to(ANA), ROUTES, key="row") for facts in about
    ]
    for night in (Night(), Night(link="")):
        entries = [operator_alerts.Listed(each, night.link) for each in incidents(night)] * 4
        found += [
            operator_alerts.listing(
                entries[:most], ORGANISATION, head_to(who, START + minutes(300)), ADDRESSES, key="row"
            )
            for most in (1, 2, len(entries))
            for who in (ANA, MAX)
        ]
        found += [
            operator_alerts.listing(
                entries[1:2], ORGANISATION, head_to(ANA, START + minutes(300)), ADDRESSES, key="row"
            )
        ]
    digest = PageDigest(id="aaaaaaaaaaaaaaaa", person="ana", channel="mail", made_at=START, pages=(("i", 1),) * 4)
    for link in ("", night.link):
        named = [DigestEntry(each, link, late) for each in incidents(night) for late in (False, True)]
        found += [digest_page(digest, named, ORGANISATION, head_to(who), ROUTES) for who in (ANA, MAX)]
    for detail in ("subject", "ref"):
        found.append(page(within(context, detail), ANA, ROUTES))
        more = night.context(context.incident, {"what": "more", "text": "More."}, START)
        found.append(notices.tell(within(more, detail), ANA, ROUTES, key="row"))
    known = replace(context, known_as=KnownReporter(name="Rita", phone="+49 1"), storm_members=3,
                    answers=((1, "Which host is it?", "db1"),))  # fmt: skip
    found.append(page(known, ANA, ROUTES))
    paged = replace(context, pages=(PageSent(person="ana", channel="mail", at=START, state="accepted"),))
    found += [watch_alerts.unreached([paged] * count, MAX, ADDRESSES, key="row") for count in (1, 2, 30)]
    nobody_paged = night.context(replace(context.incident, paged={}, drill=True), {}, START)
    found.append(watch_alerts.unreached([nobody_paged], MAX, ADDRESSES, key="row"))
    found.append(watch_alerts.blind(START, "timeout", Letterhead("page@example.com", MAX, START), ADDRESSES, key="row"))
    return found


SPEAKS = {"ours", "headline", "button", "call"}
#: What makes lines that are not of the letters' own: of the renderer, and the HTML.
MAKES_LINES = {"message.py", "catalogue.py"}


def sites() -> dict[tuple[str, int], str]:
    """Every place in the code where a line of ours is made: file and line -> the code."""
    found = {}
    for path in Path(panicmail.mail.compose.__file__).parent.glob("*.py"):
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or path.name in MAKES_LINES:
                continue
            if node.func.id in SPEAKS:
                for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                    found[path.name, line] = ast.get_source_segment(source, node) or ""
    return found


def noted_lines(template: str, source: str) -> Iterator[str]:
    """The lines of a template, each that says something noting that it was said."""
    for number, line in enumerate(source.split("\n"), start=1):
        tags = re.match(r"[\x01\x02]?(?:\s*\{[%#].*?[%#]\})*", line)
        assert tags is not None
        rest = line[tags.end() :]
        yield f'{tags[0]}{{{{ say("{template}", {number}) }}}}{rest}' if rest.strip() else line


@cache
def noting_sources() -> Mapping[str, str]:
    return {name: "\n".join(noted_lines(name, source)) for name, source in catalogue._SOURCES.items()}


@contextmanager
def noting_templates() -> Iterator[set[tuple[str, int]]]:
    """Which lines of templates are rendered meanwhile."""
    seen = set()

    def say(template: str, line: int) -> str:
        seen.add((template, line))
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "_SOURCES", noting_sources())
        catalogue._environment.cache_clear()
        catalogue._environment().globals["say"] = say
        operator_alerts.alarm_words.cache_clear()
        yield seen
    catalogue._environment.cache_clear()


def _push_all() -> None:
    for night in (Night(), Night(organisation=replace(ORGANISATION, who=nobody))):
        now = START + minutes(18)
        for incident in incidents(night):
            for person in (ANA, MAX, BO):
                for word in PageReason:
                    context = night.context(incident, {"word": word.value, "round": 1}, now)
                    push_text.page(context, person, "full")
                for what in TOLD:
                    for facts in ({}, {"undid": "take"}, {"undid": "resolve"}, {"unlike": 3}, {"exposed": True}):
                        said = {"what": what, "by": "ana", "person": "ana", **facts}
                        push_text.tell(night.context(incident, said, now), person, "full")
                for command in Command:
                    for more in ({}, {"stays": True}, {"by_link": True, "undo_by": (now + minutes(1)).isoformat()}):
                        said = {"what": "answer", "said": command.value, **more}
                        push_text.tell(night.context(incident, said, now), person, "full")
    push_text.operators({"cause": "parked", "ref": "7KQ2N"})
    _tell_timeline()


def _tell_timeline() -> None:
    """Each line of a timeline in both its media."""
    causes: tuple[dict[str, Any], ...] = tuple({**FACTS, **more, "cause": cause} for cause in CAUSES for more in ({}, {
        "exposed": True, "is_reporter": False, "uploads": True, "late_seconds": 90, "before": "max", "again": True,
        "step": 0, "shape": "more", "why": ["a robot"], "confidential": False, "count": 9,
    }))  # fmt: skip
    robot = Line("report.amended", "panicmail", {"kind": "ooo", "why": ["a robot"]})
    timeline_words.note_text(robot, Night().panic().incident, {})
    for event in (*EVENTS, "ladder.waits"):
        for facts in (*causes, {"unreadable": True}):
            line = Line(event, "ana", {**facts, **OTHERS.get(event, {})})
            timeline_words.note_text(line, Night().panic().incident, ORGANISATION.people)
            timeline_words.link_line(line, ORGANISATION.people)


def test_every_line_of_every_template_is_among_the_letters_or_the_pushes() -> None:
    known = {
        (name, number)
        for name, source in noting_sources().items()
        for number, line in enumerate(source.split("\n"), start=1)
        if "{{ say(" in line
    }
    assert {f"{name}:{number}" for name, number in known - written().templates} == set()


def test_every_line_of_ours_in_the_code_is_among_the_letters() -> None:
    said = {code for where, code in sites().items() if where in written().code}
    assert set(sites().values()) - said == set()


# -- quoted and wrapped ----------------------------------------------------------------------------


def quoted(text: str, mark: str, width: int) -> str:
    """As a program quotes it that wraps each marked line and forgets the mark on what it wrapped."""
    wrapped = [textwrap.wrap(f"{mark}{line}", width) or [mark.rstrip()] for line in text.splitlines()]
    return "\n".join(piece for each in wrapped for piece in each)


def said(reply: str) -> Command:
    reading = read_reply(reply)
    return reply_commands.read(reading.text if reading.first_line else "").meaning


@cache
def texts() -> tuple[str, ...]:
    """Each mail as its text and as its HTML reads, which differ in their empty lines alone."""
    return tuple(dict.fromkeys(text for form, html in letters() for text in (form, plain(html).text) if text))


@pytest.mark.parametrize("mark", MARKS)
def test_every_mail_of_ours_quoted_at_every_width_is_no_answer(mark: str) -> None:
    """Each width over all of the mails, some of the widths of each: reading one takes a millisecond."""
    mails = texts() if mark else {text.partition("\n")[0]: text for text in texts()}.values()  # its first line is read
    wrong = [
        (width, text)
        for number, text in enumerate(mails)
        for width in WIDTHS[number % STRIDE :: STRIDE]
        if said(quoted(text, mark, width)) is not Command.NOTHING
    ]
    assert not wrong


@examples(1500)
@given(st.data(), st.sampled_from(MARKS), st.sampled_from(WIDTHS), st.sampled_from(["", "\n\n", f"{QUESTION}\n\n"]))
def test_whatever_stands_above_a_quoted_mail_of_ours_is_all_that_counts(
    data: st.DataObject, mark: str, width: int, above: str
) -> None:
    text = data.draw(st.sampled_from(texts()))
    assert said(above + quoted(text, mark, width)) is Command.NOTHING


ACTS = {Command.YES, Command.TAKE, Command.YES_ALL, Command.NO, Command.ESCALATE, Command.RESOLVE}


def test_no_wrap_brings_a_command_of_ours_to_a_line_of_its_own() -> None:
    ours = {line for text, _ in letters() for line in text.splitlines() if '"' in line and not line.startswith("|")}
    wraps = {piece for line in ours for width in WIDTHS for piece in textwrap.wrap(f"> {line}", width)[1:]}
    assert not {piece for piece in wraps if piece.startswith('"') and reply_commands.read(piece).meaning in ACTS}


# -- what is continued, and what is not --------------------------------------------------------------


@pytest.mark.parametrize("width", range(47, 54))
def test_the_rest_of_a_quoted_sentence_that_lost_its_mark_is_no_answer(width: int) -> None:
    first = 'Max: Ana (SEOC) gave no answer in 15 min. Reply "ack".'
    below = "Answer by 03:27 CET, or you are called again.\nSince 03:07 CET nobody has it."
    text = quoted(f"{first}\n{below}", "> ", width)
    assert '\n"ack".' in text or 'Reply "ack".' in text
    assert said(f"On Sun, 22 Nov 2026 at 03:22 Panic <panic@example.com> wrote:\n{text}") is Command.NOTHING


@pytest.mark.parametrize(
    ("reply", "own"),
    [
        ("> Since 03:07 CET nobody has it, so nobody works on it.\n> Call Max\nack", "ack"),
        ("> Issue: follows, GitLab has not answered, yet\nack", ""),
        ("> Report:\n> | My files are .locked since this morning, and\nSlack is gone.\n\nack", "ack"),
        ("> Today my files are locked, all of\nthem, and the whole of the second floor has the\nsame\n\nack", "ack"),
        ("> Who takes this?\nI do.\n> And when?\nNow.", "I do.\nNow."),
        ("| Who takes this?\nI do.", "I do."),
        ("ack\n| a | table |\n| - | - |", "ack\n| a | table |\n| - | - |"),
        ("ack\n|\n| quoted", "ack"),
    ],
)
def test_a_line_below_a_quoted_one_is_its_rest_where_it_can_have_been_wrapped(reply: str, own: str) -> None:
    assert fresh(reply) == own


@examples(300)
@given(
    st.lists(st.text("abcdefgh ", min_size=1, max_size=200).filter(str.strip), min_size=1, max_size=6),
    st.integers(40, 100),
    st.sampled_from(["> ", "| ", ">> "]),
)
def test_of_any_text_that_is_quoted_and_wrapped_nothing_is_new(paragraphs: list[str], width: int, mark: str) -> None:
    assert fresh(f"{QUESTION}\n\n{quoted(chr(10).join(paragraphs), mark, width)}") == QUESTION


# -- what HTML shows by its structure ----------------------------------------------------------------

PAGE = '<p>Max: nobody has this yet.</p><p>ack</p><p>Reply "ack" so the calling stops.</p>'
QUOTING = {
    "bare blockquote": f"<blockquote>{PAGE}</blockquote>",
    "a line at its left": f'<div style="border-left:2px solid #ccc; padding-left: 1ex">{PAGE}</div>',
    "a line at its left, in parts": f'<div style="BORDER-LEFT-STYLE: solid; margin:0">{PAGE}</div>',
    "struck": f"<s>{PAGE}</s>",
    "strike": "<strike>ack</strike>",
    "deleted": "<p><del>ack</del></p>",
    "struck by style": '<p style="color:red;text-decoration: line-through">ack</p>',
    "Gmail": f'<div class="gmail_quote gmail_quote_container"><div class="gmail_attr">On … wrote:</div>{PAGE}</div>',
    "Apple": f'<div><blockquote type="cite">{PAGE}</blockquote></div>',
    "Thunderbird": f'<div class="moz-cite-prefix">Panic:</div><blockquote cite="mid:x" type="cite">{PAGE}</blockquote>',
    "Yahoo": f'<div id="ydp1yahoo_quoted_77" class="ydp1yahoo_quoted"><div>Panic:</div>{PAGE}</div>',
    "Proton": f'<div class="protonmail_quote">Panic:<br><blockquote>{PAGE}</blockquote></div>',
    "Spark": f'<div name="messageReplySection">Panic, 03:22:<blockquote>{PAGE}</blockquote></div>',
    "Zimbra": f'<hr id="zwchr" data-marker="__DIVIDER__"><div data-marker="__HEADERS__"><b>Von: </b>P</div>'
    f'<div data-marker="__QUOTED_TEXT__">{PAGE}</div>',
    "old Zimbra": f'<hr id="zwchr"><div style="color:#000">{PAGE}</div>',
    "GMX": f'<div name="quote" style="margin:10px 5px 5px 10px">{PAGE}</div>',
    "Mail.ru": f'<blockquote style="border-left:1px solid #0857A6;margin:10px">{PAGE}</blockquote>',
    "Outlook on the web": f'<div id="appendonsend"></div><hr><div id="divRplyFwdMsg">P</div><div>{PAGE}</div>',
    "Outlook for Windows": '<div><div style="border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm">'
    f"<p><b>Lähettäjä:</b> Panic<br><b>Aihe:</b> x</p></div></div>{PAGE}",
    "Outlook for Windows, lined": '<div style="border:none;border-left:solid blue 1.5pt;padding:0cm 0cm 0cm 4.0pt">'
    f"{PAGE}</div>",
    "one nobody has named": f'<section class="x-reply-QuotedHistory">{PAGE}</section>',
    "in each other": f"<blockquote><blockquote>{PAGE}</blockquote><p>ack</p></blockquote>",
}


def own_of(html: str) -> str:
    return fresh(plain(f"<html><body>{html}</body></html>").own)


@pytest.mark.parametrize("name", QUOTING)
def test_what_html_quotes_by_its_structure_is_no_answer(name: str) -> None:
    assert own_of(QUOTING[name]) == ""
    assert own_of(f"<div>{QUESTION}</div><br>{QUOTING[name]}") == QUESTION
    assert own_of(f"<div>{QUESTION}</div>{QUOTING[name]}<div>-- <br>Max Kern</div>") == QUESTION
    assert own_of(f'<div dir="ltr">On it</div>{QUOTING[name]}') == "On it"


def test_what_stands_apart_between_new_words_is_cited_by_their_writer() -> None:
    html = "<p>They write:</p><blockquote>pay 3 coins</blockquote><p>What do we answer?</p>"
    assert own_of(html) == "They write:\n\npay 3 coins\n\nWhat do we answer?"


def test_an_answer_below_what_html_quotes_is_found_and_the_quotation_is_not_it() -> None:
    assert own_of("<blockquote>ack</blockquote><p>Which host?</p>") == "Which host?"
    between = "<blockquote>Who takes it?</blockquote><p>me</p><blockquote>When?</blockquote><p>now</p>"
    assert own_of(between) == "me\n\nnow"
    intro = "<p>On Sun, 22 Nov 2026 at 03:22 Panic &lt;panic@example.com&gt; wrote:</p>"
    assert own_of(f"<p>hm</p>{intro}<blockquote>ack</blockquote><p>not now</p>").split() == ["hm", "not", "now"]


@pytest.mark.parametrize("sign", ["\x02", "\x03", "&#2;", "&#x3;", "&#03", "&#X02;"])
def test_nobody_can_end_a_quotation_by_the_signs_it_is_marked_with(sign: str) -> None:
    assert own_of(f"<p>{QUESTION}</p><blockquote><p>x</p><p>{sign}</p><p>ack</p></blockquote>") == QUESTION


@examples(400)
@given(st.data(), st.sampled_from(sorted(QUOTING)), st.sampled_from(["", f"<p>{QUESTION}</p>"]))
def test_every_mail_of_ours_quoted_in_html_is_no_answer(data: st.DataObject, name: str, above: str) -> None:
    _, html = data.draw(st.sampled_from([pair for pair in letters() if pair[1]]))
    reply = above + QUOTING[name].replace(PAGE, html)
    assert reply_commands.read(own_of(reply)).meaning is Command.NOTHING
