"""Tokens prove what they say and nothing else; addresses carry them."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panicmail.incident import ids
from panicmail.incident.reply_tokens import Addresses, Purpose, SigningKey, Token, TokenSigner

KEY, OLDER = SigningKey("b", b"n" * 32), SigningKey("a", b"o" * 32)
TOKENS = TokenSigner([KEY, OLDER])
PEOPLE = ("ana", "max", "bo")
INCIDENT = ids.incident_id("abcdefghijklmnop234567abcd")
PANIC = "panic@example.com"

INCIDENT_IDS = st.text(string.ascii_lowercase + "234567", min_size=16, max_size=16)
PERSONS = st.sampled_from(["", *PEOPLE])
ROUNDS = st.integers(0, 999_999)

SUB = Addresses([PANIC, "soc@example.com"], "panic+{token}@example.com", "panic.example.com")
WHOLE = Addresses([PANIC, "panic@panic.example.com"], "{token}@panic.example.com", "panic.example.com")
PLAIN = Addresses([PANIC], PANIC, "panic.example.com")


# -- tokens


@settings(deadline=None)
@given(st.sampled_from(Purpose), INCIDENT_IDS, PERSONS, ROUNDS)
def test_a_token_comes_back_as_what_it_was_made_of(purpose: Purpose, incident: str, person: str, round_: int) -> None:
    text = TOKENS.mint(purpose, incident, person, round_)
    assert TOKENS.verify(text, PEOPLE) == Token(purpose, incident, person, round_)


def test_mail_servers_and_phones_may_change_its_case() -> None:
    text = TOKENS.mint(Purpose.ANSWER, INCIDENT, "ana", 3)
    assert text == text.lower()
    assert TOKENS.verify(f" {text.upper()}\r\n", PEOPLE) == Token(Purpose.ANSWER, INCIDENT, "ana", 3)


@pytest.mark.parametrize("purpose", Purpose)
def test_one_purpose_never_passes_as_another(purpose: Purpose) -> None:
    text = TOKENS.mint(purpose, INCIDENT, "ana", 1)
    passed = [other for other in Purpose if TOKENS.verify(other.value + text[1:], PEOPLE)]
    assert passed == [purpose]


def test_one_persons_token_is_never_anothers_nor_the_reporters() -> None:
    text = TOKENS.mint(Purpose.ANSWER, INCIDENT, "ana", 1)
    assert TOKENS.verify(text, ["max", "bo"]) is None
    assert len({TOKENS.mint(Purpose.ANSWER, INCIDENT, person, 1) for person in ("", *PEOPLE)}) == 4


def test_every_change_of_one_character_is_refused() -> None:
    text = TOKENS.mint(Purpose.ANSWER, INCIDENT, "ana", 12)
    letters = string.ascii_lowercase + string.digits + "-=.\n"
    changed = {text[:n] + c + text[n + 1 :] for n in range(len(text)) for c in letters}
    longer = {text[:n] + c + text[n:] for n in range(1, len(text)) for c in letters}
    shorter = {text[:n] + text[n + 1 :] for n in range(len(text))}
    assert [t for t in (changed | longer | shorter) - {text} if TOKENS.verify(t, PEOPLE)] == []


def test_the_newest_key_signs_and_the_older_one_still_verifies() -> None:
    before = TokenSigner([OLDER]).mint(Purpose.ANSWER, INCIDENT, "ana", 1)
    after = TOKENS.mint(Purpose.ANSWER, INCIDENT, "ana", 1)
    assert (before[1], after[1]) == (OLDER.kid, KEY.kid)
    assert TOKENS.verify(before, PEOPLE) == TOKENS.verify(after, PEOPLE) == Token(Purpose.ANSWER, INCIDENT, "ana", 1)


def test_a_key_that_is_gone_or_was_never_ours_verifies_nothing() -> None:
    text = TOKENS.mint(Purpose.ANSWER, INCIDENT, "ana", 1)
    assert TokenSigner([OLDER]).verify(text, PEOPLE) is None, "an unknown key id"
    assert TokenSigner([SigningKey(KEY.kid, b"x" * 32)]).verify(text, PEOPLE) is None, "a known id of another secret"
    assert TOKENS.verify(text[0] + OLDER.kid + text[2:], PEOPLE) is None, "the id of the other key"


@settings(deadline=None)
@given(st.one_of(st.text(max_size=100), st.text("abclm-234567\u212a\u0131", max_size=60), st.just("a" * 100_000)))
def test_whatever_else_somebody_writes_is_no_token_and_no_error(text: str) -> None:
    assert TOKENS.verify(text, PEOPLE) is None
    for addresses in (SUB, WHOLE, PLAIN):
        assert addresses.token_of(f"<{text}@panic.example.com>") is None
        for recipient in (text, f"panic+{text}@example.com", f"{text}@panic.example.com"):
            assert TOKENS.verify(addresses.token_in(recipient) or "", PEOPLE) is None
        assert not addresses.is_ours(f"x{text}@panic.example.com")


def test_a_letter_that_only_looks_like_ascii_in_lower_case_is_refused() -> None:
    text = TOKENS.mint(Purpose.ANSWER, "k" * 16, "ana", 1)
    assert TOKENS.verify(text, PEOPLE)
    assert TOKENS.verify(text.replace("k", "\N{KELVIN SIGN}"), PEOPLE) is None


@settings(deadline=None)
@given(st.sampled_from(Purpose), INCIDENT_IDS, PERSONS, ROUNDS, st.sampled_from([SUB, WHOLE]))
def test_a_token_address_is_ours_fits_a_local_part_and_gives_the_token_back(
    purpose: Purpose, incident: str, person: str, round_: int, addresses: Addresses
) -> None:
    text = TOKENS.mint(purpose, incident, person, round_)
    address = addresses.reply_to(text)
    assert len(address.partition("@")[0]) <= 64  # RFC 5321 4.5.3.1.1
    for written in (address, address.upper(), address.title()):
        assert addresses.is_ours(written)
        assert addresses.token_in(written) == text


# -- addresses


@pytest.mark.parametrize(
    "recipient",
    [PANIC, "Panic@Example.COM", "panic+@example.com", "panic+anything@example.com", "PANIC+a+b.c@example.com",
     "soc@example.com", "soc+x@example.com"],
)  # fmt: skip
def test_the_configured_addresses_and_their_subaddresses_are_ours(recipient: str) -> None:
    assert SUB.is_ours(recipient)


@pytest.mark.parametrize(
    "recipient",
    ["", "@", "panic", "@example.com", "+x@example.com", "panics@example.com", "apanic@example.com", "ana@example.com",
     "panic@example.org", "panic@sub.example.com", "panic@example.com.evil.example", "panic@example.com@evil.example",
     "panic+x@evil.example", "panic@exampleXcom", "panic+\n@example.com@evil.example", "panic@example.com\n",
     "panic@panic.example.com"],
)  # fmt: skip
def test_every_other_address_is_not_ours(recipient: str) -> None:
    assert not SUB.is_ours(recipient)


@pytest.mark.parametrize("local", ["somebody", "a", "aa-b-1-c", "token", ""])
def test_where_the_token_is_the_whole_local_part_only_tokens_and_configured_addresses_are_ours(local: str) -> None:
    assert not WHOLE.is_ours(f"{local}@panic.example.com")


def test_a_token_address_of_another_domain_is_not_ours() -> None:
    text = TOKENS.mint(Purpose.ANSWER, INCIDENT, "ana", 1)
    assert WHOLE.is_ours(f"{text}@panic.example.com")
    assert not WHOLE.is_ours(f"{text}@example.com")
    assert not WHOLE.is_ours(f"{text}@panicXexample.com")
    assert not PLAIN.is_ours(f"{text}@example.com")


@pytest.mark.parametrize("addresses", [SUB, WHOLE, PLAIN])
def test_a_plain_address_carries_no_token_and_a_subaddress_carries_what_follows_the_plus(addresses: Addresses) -> None:
    assert addresses.token_in("Panic@Example.com") is None
    assert addresses.token_in("panic+@example.com") is None
    assert addresses.token_in("panic+Anything.else@example.com") == "anything.else"


def test_a_plain_address_in_the_domain_of_tokens_is_no_wrong_token() -> None:
    assert WHOLE.is_ours("panic@panic.example.com")
    assert WHOLE.token_in("Panic@panic.example.com") is None


def test_where_the_reply_address_is_plain_the_message_id_carries_the_token() -> None:
    assert (SUB.carries_token, WHOLE.carries_token, PLAIN.carries_token) == (True, True, False)
    assert PLAIN.reply_to(TOKENS.mint(Purpose.ANSWER, INCIDENT, "ana", 1)) == PANIC


@pytest.mark.parametrize("addresses", [SUB, WHOLE, PLAIN])
def test_our_message_id_gives_its_token_back_in_any_case_and_with_more_behind_a_dot(addresses: Addresses) -> None:
    text = TOKENS.mint(Purpose.MESSAGE, INCIDENT, "ana", 2)
    message_id = addresses.message_id(text)
    assert message_id == f"<{text}@panic.example.com>"
    for written in (message_id, message_id.upper(), f" {message_id} ", addresses.message_id(f"{text}.0f9a")):
        assert addresses.token_of(written) == text


@pytest.mark.parametrize("message_id", ["", "<>", "<x@y>", "no brackets", "<20261122.abc@mail.example.com>", "<@>"])
def test_a_message_id_of_somebody_else_carries_no_token(message_id: str) -> None:
    assert SUB.token_of(message_id) is None
