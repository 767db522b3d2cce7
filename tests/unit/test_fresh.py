"""What the sender newly wrote. The first line of it decides acknowledgements, so it must never be history."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.mail.parse.parser import read
from panicmail.mail.parse.reply_text import LIMIT, fresh
from tests.examples import examples
from tests.golden_mails import golden


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("reply_gmail", "on it"),
        ("reply_outlook_html_only", "What is the host name?"),
        ("reply_bottom_posted", "mine"),
        ("reply_inline", "I do.\nTaken with this."),
        ("reply_outlook_german", "Übernehme ich"),
    ],
)
def test_golden_replies_say_what_their_writers_wrote(name: str, own: str) -> None:
    assert read(golden(name)).reply_text == own


@pytest.mark.parametrize(
    "history",
    [
        "On Sat, Nov 21, 2026 at 10:01 AM panicmail <panic@example.com> wrote:\n> ACK",
        "On Sat, Nov 21, 2026 at 10:01 AM panicmail\n<panic@example.com>\nwrote:\n\n> ACK",
        "On Sat, 21 Nov 2026 10:01:00 +0100 panicmail <panic@example.com> wrote\n\nACK",
        "Am 21.11.2026 um 10:01 schrieb panicmail:\n\nACK",
        "Le 21 nov. 2026 à 10:01, panicmail <panic@example.com> a écrit :\nACK",
        "El 21 nov 2026, a las 10:01, panicmail <panic@example.com> escribió:\n> ACK",
        "Il giorno 21 nov 2026, alle ore 10:01, panicmail <panic@example.com> ha scritto:\n> ACK",
        "Op 21 nov. 2026 om 10:01 schreef panicmail <panic@example.com>:\n> ACK",
        "W dniu 2026-11-21 10:01, panicmail pisze <panic@example.com> napisał(a):\n> ACK",
        "Em 21 de novembro de 2026 10:01, panicmail <panic@example.com> escreveu:\nACK",
        "lør. 21. nov. 2026 kl. 10:01 skrev panicmail <panic@example.com\n>:\n\n> ACK",
        "сб, 21 нояб. 2026 г. в 10:01, panicmail <panic@example.com>:\n\nACK",
        "2026年11月21日(土) 10:01 panicmail <panic@example.com>:\n> ACK",
        "panicmail <panic@example.com> 于2026年11月21日周六 10:01写道：\n> ACK",
        "-----Original Message-----\nFrom: panicmail\n\nACK",
        "-----Ursprüngliche Nachricht-----\nVon: panicmail\n\nACK",
        "-------- Oprindelig besked --------\nFra: panicmail\n\nACK",
        "________________________________\nFrom: panicmail <panic@example.com>\nSent: Saturday\nACK",
        "From: panicmail <panic@example.com>\nSent: Saturday, November 21, 2026 10:01\nTo: Ana\nSubject: x\n\nACK",
        "*From:* panicmail [mailto:panic@example.com]\n*Sent:* Saturday\n*To:* Ana\n\nACK",
        "Von: panicmail <panic@example.com>\nGesendet: Samstag\nAn: Ana\nBetreff: x\n\nACK",
        "De : panicmail <panic@example.com>\nEnvoyé : samedi\nÀ : Ana\nObjet : x\n\nACK",
        "Begin forwarded message:\n\nFrom: panicmail\n\nACK",
        "---------- Forwarded message ---------\nFrom: panicmail\n\nACK",
        "> ACK",
        "  >> ACK",
    ],
)
def test_history_is_never_the_senders_own_words(history: str) -> None:
    assert fresh(f"What is this?\n\n{history}\n") == "What is this?"
    assert fresh(history) == ""


@pytest.mark.parametrize(
    "added",
    [
        "-- \nAna Reyes\nSecurity",
        "--\nAna",
        "Sent from my iPhone",
        "Get Outlook for iOS<https://aka.ms/x>",
        "Von meinem iPhone gesendet",
        "Envoyé de mon iPhone",
        "Sent from Outlook for Android <https://aka.ms/x>",
        "发自我的 iPhone",
    ],
)
def test_signatures_and_what_programs_add_are_dropped(added: str) -> None:
    assert fresh(f"on it\n\n{added}\n") == "on it"
    assert fresh(added) == ""


def test_an_answer_below_a_phones_signature_is_found() -> None:
    assert fresh("Sent from my iPhone\n\n> ACK?\n\nmine") == "mine"


def test_a_banner_of_the_gateway_is_not_the_first_line() -> None:
    assert fresh("CAUTION: This email originated from outside the organization.\nBe careful.\n\non it") == "on it"


def test_words_that_look_like_history_in_a_sentence_stay() -> None:
    text = "On Monday the admin wrote a script.\nThe notification was sent from my iPhone app.\nFrom: is empty, odd."
    assert fresh(text) == text


def test_a_short_answer_is_not_taken_for_a_signature() -> None:
    assert fresh("- ack") == "- ack"
    assert fresh("thanks, on it") == "thanks, on it"


def test_a_quoted_line_that_lost_its_mark_is_still_quoted() -> None:
    quoted = "> a long line of the page that the sender's program has broken in two\nACK\n> more"
    assert fresh(f"What?\n\n{quoted}") == "What?"


@pytest.mark.parametrize(
    "text",
    [
        *("On a " * 20_000, "On 1:11\n" * 9_000, "From: a@b.c\n" * 6_000, ">" * 90_000, " " * 90_000, "\n" * 90_000),
        *(
            "_" * 90_000,
            "Sent from my x\n" * 5_000,
            "a@" * 40_000,
            "Regards,\n" * 9_000,
            "-a\n" * 30_000,
            "- " * 40_000,
        ),
        *(("> " + "x" * 80 + "\ny\n") * 1_000, "On 1.1.2026 x wrote:\n" * 4_000, ("a\n" + "_" * 40 + "\n") * 2_000),
    ],
)
def test_hostile_texts_take_a_moment(text: str) -> None:
    before = time.process_time()
    assert len(fresh(text)) <= LIMIT
    assert time.process_time() - before < 5


@examples(150)
@given(
    st.lists(
        st.sampled_from(
            [
                "ack",
                "> ACK",
                "On 1.1.2026 a@b wrote:",
                "From: x",
                "Sent: y",
                "--",
                "",
                "____________________",
                "Sent from my x",
            ]
        )
        | st.text(max_size=20),
        max_size=20,
    )
)
def test_it_never_raises_and_never_gives_a_marked_line(lines: list[str]) -> None:
    assert not any(
        line.lstrip().startswith(">") and line.strip() not in (">:", "> :")
        for line in fresh("\n".join(lines)).split("\n")
    )
