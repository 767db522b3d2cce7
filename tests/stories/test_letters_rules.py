"""What holds for every mail of ours, whatever the report and whoever reads it."""

from __future__ import annotations

import html as html_library
import re
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from email.policy import SMTP, compat32, default
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident import reply_commands, transitions
from panicmail.incident.classify import Attachment, Report
from panicmail.incident.defang import defanged
from panicmail.incident.escalation_policy import Duty
from panicmail.incident.model import Outcome, PageReason, unchanged
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Purpose
from panicmail.incident.storm_rules import PageDigest
from panicmail.mail.compose import ComposedMail, digest_page, operators, page, receipt, tell
from panicmail.mail.compose.digest_page import DigestEntry
from panicmail.mail.compose.letterhead import Letterhead
from panicmail.mail.compose.notice_context import NoticeContext
from tests.examples import examples
from tests.scenes import (
    ADDRESSES,
    ANA,
    HOW,
    MAX,
    ORGANISATION,
    PLAIN_ADDRESSES,
    POLICY,
    REPORT,
    ROUTES,
    START,
    TOKENS,
    Night,
    every_letter,
    head_to,
    lines,
    minutes,
    on_call,
    page_of,
    parsed,
    part,
    subject,
)

NIGHT = Night()
ALL = dict(every_letter(NIGHT))
PAGES = {name: letter for name, letter in ALL.items() if ": page " in name}
#: What somebody may put into a Message-ID for us to repeat.
MANGLED = (
    "<=?utf-8?q?=00=1B]0;owned=07?=@example.com>",
    "<=?utf-8?b?AA0KQmNjOiBldmVAZXhhbXBsZS5jb20=?=@example.com>",
    "<=?utf-8?q?=0D=0ABcc:_eve@example.com?=>",
    "<=?iso-8859-1?q?=ED=A0=80?=@example.com>",
    "<=?utf-8?q?=E2=80=AE?=@example.com>",
    "<=?x-unknown?q?=FF?=@example.com>",
    "<\x00@example.com>",
    "<\x1b[2J@example.com>",
    "<\x7f@example.com>",
    "<a\u202eb@example.com>",
    "<\udc80@example.com>",
    f"<{'a' * 600}@example.com>",
)
OTHERS = {name: letter for name, letter in ALL.items() if ": page " not in name}


def raw_fields(letter: ComposedMail) -> dict[str, str]:
    fields = message_from_bytes(letter.message, policy=compat32)
    assert len(fields.keys()) == len({name.lower() for name in fields})
    return {name: str(value) for name, value in fields.items()}


def is_marked(line: str) -> bool:
    return line == "|" or line.startswith("| ")


def commands_in(letter: ComposedMail) -> list[str]:
    """Lines of ours that would be read as a command, with or without quote marks."""
    return [line for line in lines(letter) if not is_marked(line) and is_command(line)]


@cache
def is_command(line: str) -> bool:
    return any(
        reply_commands.read(mark + line).meaning is not reply_commands.Command.NOTHING
        for mark in ("", "> ", ">> ", "| ")
    )


def sound(letter: ComposedMail) -> None:
    """What no letter may ever break."""
    assert b"\r\n" in letter.message
    assert not re.search(rb"[^\r]\n|\r[^\n]", letter.message)
    assert max(map(len, letter.message.split(b"\r\n"))) <= 998
    message = parsed(letter)
    assert message["Date"] is not None
    assert message["MIME-Version"] == "1.0"
    assert not message.defects
    if letter.recipient.isascii():
        assert letter.message.isascii()
    for each in message.walk():
        if not each.is_multipart():
            assert each["Content-Transfer-Encoding"] in ("7bit", "quoted-printable")
    assert len(subject(letter)) <= 120
    assert commands_in(letter) == []
    assert "could not write the whole page" not in part(letter, "plain")


# -- every letter ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_every_letter_is_sound(name: str) -> None:
    sound(ALL[name])


def test_the_night_has_pages_of_every_word_and_answers_of_every_meaning() -> None:
    subjects = " ".join(subject(letter) for letter in PAGES.values())
    for state in (
        "STILL OPEN:",
        "YOURS NOW:",
        "STILL YOURS?",
        "HANDED TO YOU:",
        "ANA SILENT:",
        "OPEN AGAIN:",
        "DRILL:",
    ):
        assert state in subjects
    for meaning in reply_commands.Command:
        assert any(name.startswith(meaning.value.replace("_", " ").split()[0]) for name in OTHERS)


@pytest.mark.parametrize("name", ALL)
def test_no_line_of_ours_needs_to_be_made_harmless(name: str) -> None:
    assert not [line for line in lines(ALL[name]) if line.startswith("Note: ")]


@pytest.mark.parametrize("name", ALL)
def test_no_letter_calls_anything_ok_or_a_success(name: str) -> None:
    assert not re.search(r"\b(?:OK|success\w*|processed)\b", part(ALL[name], "plain"), re.I)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_tokens_and_stops_no_out_of_office_answer(name: str) -> None:
    letter = PAGES[name]
    fields = raw_fields(letter)
    person = name.rpartition(" ")[2]
    ids = {name_: TOKENS.verify(text, ORGANISATION.people) for name_, text in tokens_of(letter).items()}
    assert all(token and token.person == person for token in ids.values()), ids
    assert [ids[k].purpose for k in ("Reply-To", "mail_from", "Message-ID")] == [  # type: ignore[union-attr]
        Purpose.ANSWER,
        Purpose.BOUNCE,
        Purpose.MESSAGE,
    ]
    assert fields["To"] == f"{ORGANISATION.people[person].name} <{letter.recipient}>"
    assert fields["From"] == "Panic <page@example.com>"
    assert fields["Auto-Submitted"] == "auto-generated"
    assert not {"X-Auto-Response-Suppress", "Precedence", "List-Id", "Cc", "Bcc"} & fields.keys()
    assert subject(letter).startswith("[PANIC 7KQ2N] ")


def tokens_of(letter: ComposedMail) -> dict[str, str]:
    return {
        "Reply-To": ADDRESSES.token_in(raw_fields(letter)["Reply-To"]) or "",
        "mail_from": ADDRESSES.token_in(letter.mail_from) or "",
        "Message-ID": ADDRESSES.token_of(raw_fields(letter)["Message-ID"]) or "",
    }


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_page_has_a_null_sender_and_asks_for_no_automatic_answer(name: str) -> None:
    letter, fields = OTHERS[name], raw_fields(OTHERS[name])
    assert letter.mail_from == ""
    assert fields["X-Auto-Response-Suppress"] == "All"
    assert "[PANIC" not in subject(letter)
    if b"Your reply goes to" in letter.message:  # it brings the reporter's words to whoever has it
        assert fields["Reply-To"] == "panic+c1-abcdefgh23456723-0-aaaaaaaaaaaaaaaa@example.com"
    elif "operators" not in name:
        assert fields["Auto-Submitted"] == "auto-replied"
        token = TOKENS.verify(ADDRESSES.token_in(fields["Reply-To"]) or "", ORGANISATION.people)
        assert token is not None
        to_reporter = letter.recipient == "rita@example.com"
        answers = Purpose.DIGEST if name.startswith("which") else Purpose.ANSWER  # about the page that was answered
        assert token.purpose is (Purpose.CONVERSATION if to_reporter else answers)


def test_a_page_answered_to_a_plain_address_bounces_to_the_sender_of_pages() -> None:
    night = Night(addresses=PLAIN_ADDRESSES)
    letter = night.page(night.panic(), ANA, START)
    assert raw_fields(letter)["Reply-To"] == "panic@example.com"
    assert letter.mail_from == "page@example.com"


def test_the_same_letter_is_the_same_octets() -> None:
    assert dict(every_letter(Night())) == ALL


# -- threads ---------------------------------------------------------------------------------------


def test_one_incident_is_one_thread() -> None:
    opened = NIGHT.panic()
    first = raw_fields(NIGHT.page(opened, ANA, START))
    root = ADDRESSES.message_id(TOKENS.mint(Purpose.MESSAGE, opened.incident.id))
    assert first["References"] == root
    assert "In-Reply-To" not in first
    again = page_of(NIGHT, PageReason.STILL_OPEN, replace(opened.incident, round=2), ANA, START + minutes(5))
    later = raw_fields(again)
    assert later["In-Reply-To"] == first["Message-ID"] != later["Message-ID"]
    assert later["References"].split() == [root, first["Message-ID"]]
    acked = transitions.acknowledge(opened.incident, "ana", HOW, POLICY, START + minutes(2))
    answer = raw_fields(NIGHT.answer(acked, ANA, "yes", START + minutes(2)))
    assert answer["In-Reply-To"] == "<reply@example.com>"
    assert answer["References"].split() == [root, first["Message-ID"], "<reply@example.com>"]
    told = raw_fields(NIGHT.tells(opened.incident, ANA, START, what="issue_closed"))
    assert told["In-Reply-To"] == first["Message-ID"]


def test_the_reporters_mails_answer_the_report_where_it_can_be_named() -> None:
    receipt_ = raw_fields(NIGHT.letters(NIGHT.panic(), START)["receipt"])
    assert receipt_["In-Reply-To"] == receipt_["References"] == "<report@example.com>"
    for ugly in (None, "<a b@c>", "<a@b>\r\nBcc: x@y", "a@b", "<é@b>", f"<{'a' * 2000}@b>", "<<a@b>", *MANGLED):
        night = Night(report=replace(REPORT, message_id=ugly))
        fields = raw_fields(night.letters(night.panic(), START)["receipt"])
        assert "In-Reply-To" not in fields
        assert "Bcc" not in fields


@pytest.mark.parametrize("theirs", MANGLED)
def test_a_message_id_that_is_no_id_puts_nothing_of_it_into_any_header_of_ours(theirs: str) -> None:
    night = Night(report=replace(REPORT, message_id=theirs))
    opened = night.panic()
    held = transitions.acknowledge(opened.incident, "ana", HOW, POLICY, START + minutes(2))
    letters = [*night.letters(opened, START).values()]
    letters += [night.answer(held, ANA, "yes", START + minutes(2), in_reply_to=theirs)]
    letters += [night.news(held.incident, START)]
    for letter in letters:
        for policy in (default, SMTP):  # as programs read it that decode all they can
            message = message_from_bytes(letter.message, policy=policy)
            assert not [value for _, value in message.items() if not str(value).isprintable()]
        assert "=?" not in "".join(raw_fields(letter).get(name, "") for name in ("In-Reply-To", "References"))


@pytest.mark.parametrize("theirs", ["<a=?b@example.com>", "<CA+x==@mail.example.com>", "<[1]$2|3;4@example.com>"])
def test_an_id_in_a_header_of_ours_is_theirs_octet_for_octet_or_not_there(theirs: str) -> None:
    fields = raw_fields(Night(report=replace(REPORT, message_id=theirs)).letters(NIGHT.panic(), START)["receipt"])
    assert fields.get("In-Reply-To") in (theirs, None)


def test_a_person_whose_key_is_no_ascii_gets_alarms_with_an_id_that_is() -> None:
    zoe = replace(MAX, id="zoë")
    letter = operators({"cause": "spool_failed"}, head_to(zoe), ADDRESSES, key="row")
    assert raw_fields(letter)["Message-ID"].isascii()
    assert (
        raw_fields(letter)["Message-ID"]
        != raw_fields(operators({"cause": "spool_failed"}, head_to(MAX), ADDRESSES, key="row"))["Message-ID"]
    )


def test_a_long_message_id_is_not_broken() -> None:
    long = f"<{'a' * 400}@example.com>"
    night = Night(report=replace(REPORT, message_id=long))
    assert raw_fields(night.letters(night.panic(), START)["receipt"])["In-Reply-To"] == long


def test_a_reply_to_any_of_our_mails_is_found_by_its_message_id() -> None:
    for name, letter in OTHERS.items():
        if "operators" in name:
            continue
        token = TOKENS.verify(ADDRESSES.token_of(raw_fields(letter)["Message-ID"]) or "", ORGANISATION.people)
        assert token is not None
        assert (token.purpose, token.incident_id) == (Purpose.MESSAGE, "abcdefgh23456723")


def test_letters_of_different_rows_have_different_ids() -> None:
    context = NIGHT.context(NIGHT.panic().incident, {}, START)
    ids = {raw_fields(receipt(context, ROUTES, key=key))["Message-ID"] for key in ("a", "b", "a")}
    assert len(ids) == 2


# -- what strangers write --------------------------------------------------------------------------


def reported(**about: Any) -> ComposedMail:
    night = Night(report=replace(REPORT, **about))
    return night.page(night.panic(), ANA, START)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Fwd: WG: Fw: TR: Help", "[PANIC 7KQ2N] Help"),
        ("Re: [EXTERNAL] Fwd: Help", "[PANIC 7KQ2N] Help"),
        ("[PANIC AAAA] YOURS NOW: x", "[PANIC 7KQ2N] (PANIC AAAA) YOURS NOW: x"),
        ("YOURS NOW: Ana silent", "[PANIC 7KQ2N] “YOURS NOW: Ana silent”"),
        ("a\r\nBcc: evil@example.net", "[PANIC 7KQ2N] a Bcc: evil@example.net"),
        ("\u202etxt.exe\u2066 run", "[PANIC 7KQ2N] txt.exe run"),
        ("see https://evil.example/a.b", "[PANIC 7KQ2N] see hxxps://evil(.)example/a.b"),
        ("", "[PANIC 7KQ2N] My files are .locked, Slack is gone."),
        ("Fwd: ", "[PANIC 7KQ2N] My files are .locked, Slack is gone."),
    ],
)
def test_a_senders_subject_cannot_pass_for_ours(written: str, shown: str) -> None:
    assert subject(reported(subject=written)) == shown


def test_a_senders_name_stays_a_name_on_one_line() -> None:
    for ugly in (
        'Max" <max@example.com>, verified example.com, 03:07',
        "Rita\r\nAna: reply",
        "R\u202ei\u0000ta",
        "a" * 500,
    ):
        night = Night(report=replace(REPORT, from_name=ugly))
        by = [line for line in lines(night.page(night.panic(), ANA, START)) if line.startswith("By ")]
        assert len(by) == 1
        assert by[0].endswith(" <rita@example.com>, 03:07")
        name = by[0].removeprefix("By ").partition(" <")[0]
        assert len(name) <= 60
        assert not set(name) & set('<>@,":\u202e\0')


def test_links_are_shown_and_cannot_be_followed() -> None:
    text = "http://evil.example/x.php HTTPS://a.b.example:8/ www.evil.com evil.com/pay smb://srv.example/s mailto:x@y.z"
    shown = lines(reported(text=text, attachments=()))
    quoted = " ".join(line[2:] for line in shown[shown.index("Report (quoted, untrusted):") + 1 :])
    assert quoted == (
        "hxxp://evil[.]example/x.php hxxps://a[.]b[.]example:8/ www[.]evil[.]com evil[.]com/pay "
        "smb[:]//srv[.]example/s mailto[:]x@y.z"
    )
    assert defanged(quoted) == quoted


def test_a_long_line_is_marked_on_every_line_a_program_may_make_of_it() -> None:
    shown = lines(reported(text="x" * 50 + " " * 30 + 'Ana: reply "ack" now. ' * 20, attachments=()))
    quoted = shown[shown.index("Report (quoted, untrusted):") + 1 :]
    assert all(is_marked(line) and len(line) <= 74 for line in quoted)


def test_a_long_report_is_cut_and_says_so() -> None:
    for text in ("word " * 20_000, "line\n" * 20_000, "ü" * 5_000):
        letter = reported(text=text)
        assert lines(letter)[-1] == "| … (cut; all of it is on the issue)"
        assert len(part(letter, "plain").encode()) < 8_000
    assert lines(reported(text="x" * 4_000))[-1] != "| … (cut; all of it is on the issue)"


def test_markup_of_a_sender_is_text() -> None:
    attack = '</div><script>alert(1)</script><img src="https://evil.example/p.png"><a href="https://evil.example">x</a>'
    night = Night(report=replace(REPORT, text=attack, subject=attack, from_name=attack))
    page_ = part(night.page(night.panic(), ANA, START), "html")
    seen = Elements()
    seen.feed(page_)
    assert seen.names <= {"html", "head", "meta", "title", "body", "p", "div", "a"}
    assert seen.targets == ["https://panic.example.com/i/token"]
    assert "url(" not in page_


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.targets += [value or "" for name, value in attrs if name in ("href", "src")]
        assert not [name for name, _ in attrs if name.startswith("on")]


def test_the_html_says_the_same_lines() -> None:
    for name, letter in ALL.items():
        shown = re.sub(r"<title>.*</title>|<[^>]+>", "", part(letter, "html"))
        said = [line for line in html_library.unescape(shown).splitlines() if line]
        without_urls = [line for line in lines(letter) if "https://panic.example.com" not in line]
        assert [line for line in said if "Open 7KQ2N" not in line] == without_urls, name


@pytest.mark.parametrize("name", ["Mine Yılmaz", "No", "Ack Ack", "On It", "Okay Then", "Resolve", "To Bo", "Будет Да"])
def test_nobodys_name_makes_a_line_of_ours_a_command(name: str) -> None:
    people = {p.id: replace(p, name=name) for p in ORGANISATION.people.values()}
    for letter in dict(every_letter(Night(organisation=replace(ORGANISATION, people=people)))).values():
        assert commands_in(letter) == []


@pytest.mark.parametrize(
    "address", ["ána@example.com", "ana@exämple.com", "a b@example.com", 'x"y@example.com', "x", "@"]
)
def test_an_unusual_recipient_is_written_to(address: str) -> None:
    person = Person(id="ana", name="Ána \ud800 Reyes", email=address)
    night = Night(organisation=replace(ORGANISATION, people={**ORGANISATION.people, "ana": person}))
    letter = night.page(night.panic(), person, START)
    assert letter.recipient == address
    assert "could not write" not in part(letter, "plain")
    rita = Night().context(replace(NIGHT.panic().incident, reporter_address=address), {}, START)
    assert receipt(rita, ROUTES, key="row").recipient == address


# -- when writing fails ----------------------------------------------------------------------------


def broken(role: str) -> tuple[str, ...]:
    raise LookupError("the roster is on fire")


@pytest.mark.parametrize(
    "change",
    [
        {"report": None},
        {"facts": {"word": "unheard of", "round": 1}},
        {"facts": {}},
        {"pages": None},
        {"organisation": replace(ORGANISATION, who=broken)},
    ],
)
def test_a_page_goes_out_whatever_fails_in_writing_it(change: dict[str, Any]) -> None:
    incident = NIGHT.panic().incident
    context: NoticeContext = replace(NIGHT.context(incident, {"word": "page", "round": 1}, START), **change)
    letter = page(context, ANA, ROUTES)
    assert subject(letter) == "[PANIC 7KQ2N] Emergency reported, reply needed"
    assert lines(letter)[0] == 'Ana: somebody reports an emergency. Reply "ack" so the calling stops.'
    assert "Without mail: https://panic.example.com/i/token" in lines(letter)
    assert raw_fields(letter)["Message-ID"] == raw_fields(NIGHT.page(NIGHT.panic(), ANA, START))["Message-ID"]
    assert all(token for token in tokens_of(letter).values())
    assert commands_in(letter) == []


# -- anything at all -------------------------------------------------------------------------------

ANY = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Cf", "Cc", "Mn", "Zl", "Zp"]),
        st.sampled_from('\r\n\0 .:/@<>[]|"\u202e\u2028\x85&;=?'),
    ),
    max_size=300,
) | st.sampled_from(["ack\r\nack", "=?utf-8?q?x?=", "[PANIC AAAA] ack", "| ack", "To: x\r\n\r\nack", "x" * 100_000])

HOSTILE = st.builds(
    Report,
    subject=ANY,
    from_address=ANY,
    from_name=ANY,
    from_shown=ANY,
    message_id=st.none() | ANY | st.builds("<{}>".format, ANY),
    text=ANY | st.lists(ANY, max_size=5).map("\n".join),
    attachments=st.lists(
        st.builds(Attachment, name=ANY, type=ANY, size=st.integers(0, 10**12), sha256=st.just("")), max_size=12
    ).map(tuple),
    phones=st.lists(ANY, max_size=4).map(tuple),
)


@examples(60)
@given(report=HOSTILE, other=ANY)
def test_no_report_breaks_a_letter(report: Report, other: str) -> None:
    night = Night(report=report, flags=(other,))
    opened = night.panic(reporter_address="rita@example.com")
    held = transitions.acknowledge(opened.incident, "ana", other, POLICY, START + minutes(2))
    declined = transitions.decline(opened.incident, "ana", HOW, other, Duty(POLICY, on_call, START + minutes(3)))
    more = {"what": "more", "from_address": other, "from_name": other, "text": other}
    letters = [
        *night.letters(opened, START).values(),
        *night.letters(declined, START + minutes(3)).values(),
        night.tells(opened.incident, ANA, START + minutes(2), **more),
        night.answer(held, ANA, "yes", START + minutes(2), how=other, in_reply_to=other),
        night.answer(unchanged(opened.incident, Outcome.NOTED), ANA, "nothing", START, why=other),
        operators(
            {"cause": other, "ref": other, other: other, "at": other},
            head_to(MAX),
            ADDRESSES,
            key=other,
        ),
    ]
    expected = {
        "From", "To", "Reply-To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted",
        "X-Auto-Response-Suppress", "X-Panicmail", "MIME-Version", "Content-Type",
    }  # fmt: skip
    for letter in letters:
        sound(letter)
        assert raw_fields(letter).keys() <= expected
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", part(letter, "plain") + subject(letter))


@examples(60)
@given(name=st.text(max_size=80), address=st.text(max_size=80), title=st.text(max_size=200), days=st.integers(0, 9))
def test_no_sender_breaks_a_digest(name: str, address: str, title: str, days: int) -> None:
    incident = replace(NIGHT.panic().incident, reporter_name=name, reporter_address=address, subject=title)
    entries = [
        DigestEntry(incident, link, is_late) for link in ("", "https://p.example/i/x") for is_late in (True, False)
    ]
    digest = PageDigest(id="aaaaaaaaaaaaaaaa", person="ana", channel="mail", made_at=START, pages=(("i", 1),) * 4)
    head = Letterhead("panic@example.com", ANA, START + timedelta(days=days))
    letter = digest_page(digest, entries, ORGANISATION, head, ROUTES)
    sound(letter)
    assert subject(letter) == f"[PANIC {incident.ref}] and 3 more"


@examples(60)
@given(facts=st.dictionaries(st.sampled_from(["what", "said", "outcome", "why", "to", "at", "refs", "how", "by"]), ANY))
def test_no_facts_break_an_answer(facts: dict[str, str]) -> None:
    incident = NIGHT.panic().incident
    sound(tell(NIGHT.context(incident, facts, START), ANA, ROUTES, key="row"))
    sound(NIGHT.news(incident, START, **facts))


def test_a_hundred_kilobytes_take_no_time() -> None:
    for text in ("http://" * 15_000, "a." * 50_000, "[.]" * 33_000, "\n" * 100_000, "+49 " * 25_000, "x@" * 50_000):
        reported(text=text, subject=text, from_name=text)
