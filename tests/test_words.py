"""What a first line means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail import words
from panicmail.words import Meaning


@pytest.mark.parametrize(
    "line",
    [
        "ack", "ACK", "Ack.", "ack!", "*ack*", '"ack"', "Acknowledged", "Acknowledged, thanks.", "on it", "On it!",
        "On it - calling her now", "got it", "I've got it", "I’ve got it", "taking this", "I'll take it", "looking",
        "Looking into it now", "ok", "OK", "okay, thanks", "yes", "Yep", "roger that", "will do", "ok on it",
        "hi all, ack", "Hello, on it", "👍", "I'm on it", "ack, will call Rita", "acknowledged — on my way",
        "ok I'm here", "ＡＣＫ",
    ],
)  # fmt: skip
def test_yes_in_the_words_people_use(line: str) -> None:
    assert words.read(line).meaning is Meaning.YES


@pytest.mark.parametrize(
    "line",
    [
        "no",
        "No.",
        "nope",
        "can't",
        "cannot",
        "I can't, sorry",
        "pass",
        "not me",
        "I’m unavailable",
        "not on call",
        "not available until 9",
        "I can't take this right now",
        "can't today",
    ],
)
def test_no_in_the_words_people_use(line: str) -> None:
    assert words.read(line).meaning is Meaning.NO


@pytest.mark.parametrize(
    "line",
    ["no problem", "no idea", "no worries", "password is hunter2", "pass it to Bo", "passing by", "acknowledgement",
     "notice this", "none", "okra", "not on it", "I'm out of office", "thanks", "Who is this", "minefield",
     "looks bad", "ok so what happened here", "yes please call me", "ackermann", "right behind you there is a thief",
     "ok I'm away", "Handling this is Bo's job", "Looking for Bo to take this", "I'm here with the kids, call Bo",
     "Received, thank you", "No new findings so far", "No malware found", "Can't reach Rita, calling her boss",
     "Cannot log in to gitlab", "Not available in the logs", "Unable to reproduce", "N/A", "| ack", "> ack",
     "taking this offline", "Yes this is real", "looking good"],
)  # fmt: skip
def test_what_only_begins_like_a_command_is_none(line: str) -> None:
    assert words.read(line).meaning is Meaning.NOTHING


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ack?", "it asked a question"),
        ("Should I ack this?", "it asked a question"),
        ("on it, but not before 5", "it said both yes and no"),
        ("ok, I can't", "it said both yes and no"),
        ("no, ok I am on it", "it said both yes and no"),
        ("on it tomorrow", "its first line says yes with a condition"),
        ("ack — I am away until 30 November", "its first line says yes with a condition"),
        ("got it, someone else please", "its first line says yes with a condition"),
        ("I have this week off", "its first line says yes with a condition"),
        ("I got this page in error, remove me", "its first line says yes with a condition"),
        ("I'm on this mailing list by error", "its first line says yes with a condition"),
        ("Got it, Bo has it", "its first line says yes with a condition"),
        ("Ack, Bo is on it", "its first line says yes with a condition"),
        ("Got it, forwarding to Bo", "its first line says yes with a condition"),
        ("Got it, call Max", "its first line says yes with a condition"),
        ("I'll take it on Monday", "its first line says yes with a condition"),
        ("", "it was empty"),
        (" \n\t\n", "it was empty"),
        ("ack " * 100, "its first line is no answer panicmail knows"),
    ],
)
def test_doubt_is_no_acknowledgement_and_says_why(line: str, why: str) -> None:
    said = words.read(line)
    assert (said.meaning, said.why) == (Meaning.NOTHING, why)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("take", Meaning.TAKE),
        ("Mine.", Meaning.TAKE),
        ("escalate", Meaning.ESCALATE),
        ("please escalate", Meaning.ESCALATE),
        ("Resolve", Meaning.RESOLVE),
        ("resolved, thanks", Meaning.RESOLVE),
        ("ack both", Meaning.YES_ALL),
        ("ack all", Meaning.YES_ALL),
    ],
)
def test_the_other_commands(line: str, meaning: Meaning) -> None:
    assert words.read(line).meaning is meaning


@pytest.mark.parametrize(
    ("line", "to"), [("to bo", "bo"), ("page Bo.", "bo"), ("hand over to max", "max"), ("to @max", "max")]
)
def test_handing_over_names_the_person(line: str, to: str) -> None:
    said = words.read(line)
    assert (said.meaning, said.to) == (Meaning.HAND_OVER, to)


def test_only_the_first_line_counts() -> None:
    assert words.read("\n\nack\nno wait, I can't").meaning is Meaning.YES
    assert words.read("The server is gone\nack").meaning is Meaning.NOTHING


def test_a_bare_command_is_the_whole_of_a_short_answer() -> None:
    assert words.read("ack").bare
    assert not words.read("ack\nI will call Rita").bare
    assert not words.read("help, my laptop").bare


@pytest.mark.parametrize("text", ["Thanks!", "Thank you so much for your help", "Great, thanks", "cheers"])
def test_a_bare_thank_you_is_recognised(text: str) -> None:
    assert words.is_thanks(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Thanks, but it is back",
        "great",
        "thank you, now the server is down too",
        "Please help me now, thank you",
        "Thanks. Is it back?",
        "Please help, thanks",
    ],
)
def test_a_thank_you_with_news_in_it_is_none(text: str) -> None:
    assert not words.is_thanks(text)


@given(st.text(max_size=300))
def test_any_text_has_a_meaning_and_a_reason_when_it_has_none(text: str) -> None:
    said = words.read(text)
    assert bool(said.why) == (said.meaning is Meaning.NOTHING)


@given(st.sampled_from(words.YES), st.sampled_from(sorted(words.DOUBT)))
def test_no_yes_survives_a_word_of_doubt_in_its_line(yes: str, doubt: str) -> None:
    assert words.read(f"{yes} {doubt} it").meaning is Meaning.NOTHING
