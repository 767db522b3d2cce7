"""Tokens of ours are found and cut out of what is shown, in whatever shape a mail program leaves them."""

from __future__ import annotations

import string
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panicmail.gitlab import escape as gitlab
from panicmail.incident.redact import REMOVED, carried, looks_carried, redacted
from panicmail.incident.reply_tokens import Purpose, SigningKey, TokenSigner
from panicmail.mail.compose import sanitize

TOKENS = TokenSigner([SigningKey("b", b"n" * 32)])
TOKEN = TOKENS.mint(Purpose.LINK, "2dbcdefgh2345672", "ana", 0)
LINK = f"https://panic.example.com/i/{TOKEN}"
BASE32 = st.text(string.ascii_lowercase + "234567", min_size=16, max_size=16)


def rewritten(link: str) -> str:
    """As Proofpoint's older rewriting writes an address."""
    coded = "".join(c if c.isalnum() or c == "." else f"-{ord(c):02X}" for c in link).replace("-2F", "_")
    return f"https://urldefense.proofpoint.com/v2/url?u={coded}&d=DwMFaQ"


SHAPES = {
    "as it is": LINK,
    "an address": f"panic+{TOKEN}@example.com",
    "a whole local part": f"<{TOKEN}@panic.example.com>",
    "a Message-ID": f"<{TOKEN}.0123456789ab@example.com>",
    "upper case": LINK.upper(),
    "defanged": LINK.replace("https", "hxxps").replace(".", "[.]"),
    "safelinks": f"https://eur01.safelinks.protection.outlook.com/?url={quote(LINK, safe='')}&data=05",
    "hyphens coded": LINK.replace("-", "%2D"),
    "coded twice": LINK.replace("-", "%252d"),
    "urldefense v2": rewritten(LINK),
    "urldefense v3": f"https://urldefense.com/v3/__{LINK}__;!!abc$",
    "an entity": LINK.replace("-", "&#45;"),
    "another entity": LINK.replace("-", "&#x2D;"),
    "quoted-printable": f"{LINK[:40]}=\r\n{LINK[40:]}",
    "coded in it": LINK.replace("-", "=2D"),
    "wrapped": f"{LINK[:44]}\n{LINK[44:]}",
    "wrapped and quoted": f"> > see {LINK[:50]}\n> > {LINK[50:]}",
    "wrapped as ours": f"| {LINK[:35]}\n| {LINK[35:]}",
    "wrapped at its hyphens": LINK.replace("-", "-\n"),
    "signs that do not show": "\u200b".join(LINK),
    "soft hyphens": f"{LINK[:40]}\u00ad{LINK[40:]}",
    "dashes": LINK.replace("-", "\u2011"),
    "Markdown": f"[{LINK}]({LINK.replace('-', chr(92) + '-')})",
    "far behind": "x " * 30_000 + LINK,
    "over the end of a piece": "x" * (16 * 1024 - 30) + " " + LINK,
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_token_is_known_and_cut_in_every_shape(name: str) -> None:
    text = f"Please look at {SHAPES[name]} soon."
    assert looks_carried(text)
    assert TOKEN in carried(text)
    cut = redacted(text)
    assert REMOVED in cut
    assert not looks_carried(cut)
    assert TOKEN[-16:] not in cut.lower()
    assert (cut[:14], cut[-5:]) == ("Please look at", "soon.")


@pytest.mark.parametrize("name", SHAPES)
def test_whatever_shows_a_strangers_words_shows_no_token(name: str) -> None:
    text = SHAPES[name]
    shown = [
        gitlab.block(text, 900_000),
        gitlab.inline(text, 100_000),
        gitlab.title(text),
        gitlab.file_name(text),
        sanitize.words(text, 100_000),
        sanitize.subject(text, "", 120),
        sanitize.subject("", text, 120),
        sanitize.name(text),
        sanitize.address(text),
        "\n".join(sanitize.report_lines(text)),
    ]
    assert not [each for each in shown if looks_carried(each) or TOKEN[-15:] in each.lower()]


@settings(deadline=None)
@given(st.sampled_from(Purpose), BASE32, st.sampled_from(["", "ana"]), st.integers(0, 999_999), st.text(max_size=40))
def test_every_token_is_found_as_it_was_made(
    purpose: Purpose, incident: str, person: str, round_: int, around: str
) -> None:
    token = TOKENS.mint(purpose, incident, person, round_)
    assert token in carried(f"{around} {token} {around}")
    assert not looks_carried(redacted(f"{token}{token}"))


@settings(deadline=None)
@given(st.text(max_size=300))
def test_what_holds_no_token_stays_as_it_is(text: str) -> None:
    assert looks_carried(text) or redacted(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "6f1c2ab4-9d3e-4c55-8a11-0242ac120002",
        "panic+fast@example.com",
        "CVE-2026-12345 and INC-0000-1",
        "b1-abcdefgh-0-short",
        "see a1-abcdefgh2345-12",
        "-----BEGIN PGP MESSAGE-----",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert redacted(text) == text
    assert carried(text) == []


FORM, QUOTED = "a1-" + "a" * 26 + "-", "a\n> "
HOSTILE = ["a1-", FORM, QUOTED, "a1-" + QUOTED * 25, "l1-2d" + "a" * 9, "a \n" + " " * 12, "a\u200b\u200b"]


@pytest.mark.parametrize("unit", HOSTILE)
def test_searching_is_linear_in_hostile_runs(unit: str) -> None:
    def seconds(length: int) -> float:
        text = (unit * (length // len(unit) + 1))[:length]
        began = time.process_time()
        redacted(text)
        carried(text)
        return time.process_time() - began

    seconds(1000)
    assert min(seconds(400_000) for _ in range(2)) < 10 * max(min(seconds(100_000) for _ in range(2)), 0.01)
