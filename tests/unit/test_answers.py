"""What people answer at three in the morning, in twenty-three languages: each sentence is read as what it claims.

`data/answers/LANGUAGE.txt` has them, under `[yes]`, `[no]`, `[hand]` (over to a colleague), `[question]` and `[note]`.
They were written before the grammar was; the rules were made looking at half of them alone (`is_held`).
"""

from __future__ import annotations

import hashlib
import time
from itertools import product
from pathlib import Path

import pytest

from panicmail.incident import reply_commands
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command

FILES = sorted((Path(__file__).parents[1] / "data" / "answers").glob("*.txt"))
OFFICE = reply_commands.names(
    [
        Person(id="ana", name="Ana Reyes", email="ana@example.com"),
        Person(id="bo", name="Bo Low", email="bo@example.com"),
        Person(id="max", name="Max Ode", email="max@example.com"),
    ],
    "ana",
    "Rita Lopez",
    "7KQ2",
)
YES = frozenset({Command.YES, Command.TAKE, Command.YES_ALL})
MEANS = {
    "yes": YES,
    "no": {Command.NO},
    "hand": {Command.HAND_OVER},
    "question": {Command.NOTHING, Command.STATUS},
    "note": {Command.NOTHING},
}
#: Of what nobody saw who wrote the rules, so many in a hundred are read as what they are.
ENOUGH = {"yes": 93, "no": 90, "hand": 85, "question": 97, "note": 97}


def answers(file: Path) -> list[tuple[str, str]]:
    """What each line claims, and its text."""
    found, claim = [], ""
    for line in file.read_text("utf-8").splitlines():
        if line.startswith("["):
            claim = line.strip("[]")
        elif line:
            found.append((claim, line.replace("\\n", "\n")))
    return found


def is_held(file: Path, text: str) -> bool:
    """Whether whoever wrote the rules did not look at it."""
    line = text.replace("\n", "\\n")
    return int(hashlib.sha256(f"{file.stem}{line}".encode()).hexdigest(), 16) % 2 == 1


def means(text: str) -> Command:
    return reply_commands.read(text, OFFICE).meaning


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_answer_is_read_as_what_it_is(file: Path) -> None:
    wrong = {text: means(text) for claim, text in answers(file) if means(text) not in MEANS[claim]}
    assert {text: meaning for text, meaning in wrong.items() if not is_held(file, text)} == {}


def test_answers_nobody_looked_at_are_read_as_well() -> None:
    held = [(claim, text) for file in FILES for claim, text in answers(file) if is_held(file, text)]
    for claim, enough in ENOUGH.items():
        texts = [text for each, text in held if each == claim]
        assert 100 * sum(means(text) in MEANS[claim] for text in texts) >= enough * len(texts)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_answer_that_is_no_yes_acknowledges(file: Path) -> None:
    assert not [text for claim, text in answers(file) if claim != "yes" and means(text) in YES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_yes_that_is_quoted_struck_or_somebody_elses_never_acknowledges(file: Path) -> None:
    forms = ("> {}", "| {}", "~~{}~~", "Peter: {}", "Bo: {}", "Bo said {}", 'Bo wrote "{}"', "{} (Bo)", "{}\nBo has it")
    texts = [text for claim, text in answers(file) if claim == "yes" and "\n" not in text]
    assert not [line for form, text in product(forms, texts) if means(line := form.format(text)) in YES]


DECIDED = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in (Path(__file__).parents[2] / "CONTRIBUTING.md")
    .read_text("utf-8")
    .partition("| they write | is | because |")[2]
    .partition("### ")[0]
    .splitlines()[2:]
    if line.startswith("|")
]


@pytest.mark.parametrize(("text", "name", "reason"), DECIDED, ids=[row[0] for row in DECIDED])
def test_what_was_decided_holds(text: str, name: str, reason: str) -> None:
    assert reply_commands.read(text, OFFICE).name == name
    assert reason


@pytest.mark.parametrize("word", ["ack", "escalate", "resolve", "status", "übernehme", "biorę", "recibido", "беру"])
def test_a_command_alone_that_is_one_letter_off_is_asked_back(word: str) -> None:
    typed = {word[:2] + word[3:], word + word[-1], word[0] + word[2] + word[1] + word[3:], "x" + word}
    said = {text: reply_commands.read(text, OFFICE) for text in typed if len(text) > 2}
    known = {text for text, command in said.items() if command.meaning is not Command.NOTHING}
    assert {text for text, command in said.items() if text not in known and not command.asks} == set()
    assert known <= {"tus", "беу"}


@pytest.mark.parametrize("text", ["Danke!\n\nRita Lopez", "Merci beaucoup 🙏", "Tack så mycket", "谢谢",
                                  "ありがとうございます", "감사합니다", "Спасибо!", "Dziękuję",
                                  "Gracias, Rita", "תודה רבה", "شكرا", "Tak"])  # fmt: skip
def test_a_thank_you_in_any_language_is_a_note_and_reopens_nothing(text: str) -> None:
    assert means(text) is Command.NOTHING
    assert reply_commands.is_thanks(text, OFFICE)


@pytest.mark.parametrize(
    "text", ["Danke, aber es ist wieder da", "Merci ?", "Gracias. El servidor no responde", "谢谢你来处理"]
)
def test_thanks_with_news_are_no_bare_thanks(text: str) -> None:
    assert not reply_commands.is_thanks(text, OFFICE)


@pytest.mark.parametrize(
    "line", ["ack " * 45, "i will " * 28, "on " * 60, "schaue mir " * 17, "ok, " * 45, "to bo " * 30, "ack\n" * 50_000]
)
def test_a_hostile_answer_costs_little(line: str) -> None:
    means("ack, bin dran, je regarde")  # the data is loaded
    before = time.process_time()
    means(line)
    assert time.process_time() - before < 2  # about 0.02 s
