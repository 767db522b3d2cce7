"""Whose address it is, and who is meant by a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident import people
from panicmail.incident.people import Person

ANA = Person(id="ana", name="Ana Reyes", email="ana@example.com", aliases=("a.reyes@home.example",))
MAX = Person(id="max", name="Max Ode", email="m.ode@example.com")
ANA_TWO = Person(id="ana2", name="Ana Lund", email="lund@example.com")
TEAM = {person.id: person for person in (ANA, MAX, ANA_TWO)}


@pytest.mark.parametrize("address", ["ana@example.com", "Ana@Example.COM", "A.Reyes@home.example"])
def test_a_person_writes_from_their_address_or_an_alias_in_any_case(address: str) -> None:
    assert ANA.writes_from(address)
    assert people.by_address(TEAM, address) is ANA


@pytest.mark.parametrize("address", ["", "ana", "ana@example.org", "ana+x@example.com", "ana@example.com.evil.example"])
def test_no_other_address_is_theirs(address: str) -> None:
    assert people.by_address(TEAM, address) is None


def test_no_address_is_nobodys_even_of_somebody_who_has_none() -> None:
    assert not Person(id="bo", name="Bo", email="").writes_from("")


@pytest.mark.parametrize(
    ("word", "person"),
    [
        ("max", MAX), (" Max ", MAX), ("@max", MAX), ("MAX ODE", MAX), ("m.ode@example.com", MAX), ("m.ode", MAX),
        ("ana", ANA), ("Ana Lund", ANA_TWO), ("ana2", ANA_TWO), ("lund", ANA_TWO),
    ],
)  # fmt: skip
def test_key_name_first_name_or_address_means_the_person_and_the_key_goes_first(word: str, person: Person) -> None:
    assert people.by_word(TEAM, word) is person


@pytest.mark.parametrize("word", ["", " ", "@", "bo", "ode", "reyes", "a.reyes@home.example", "@@max"])
def test_a_word_that_is_nobodys_name_means_nobody(word: str) -> None:
    assert people.by_word(TEAM, word) is None


def test_a_first_name_two_people_share_means_neither() -> None:
    shared = {"ar": Person(id="ar", name="Ana Reyes", email="r@example.com"), "al": ANA_TWO}
    assert people.by_word(shared, "ana") is None
    assert people.by_word(shared, "ana reyes") is shared["ar"]


def test_who_has_no_name_is_called_by_their_key() -> None:
    assert (ANA.first_name, Person(id="bo", name=" ", email="bo@example.com").first_name) == ("Ana", "bo")


@given(st.text(max_size=30))
def test_any_word_means_one_person_or_nobody(word: str) -> None:
    assert people.by_word(TEAM, word) in {None, ANA, MAX, ANA_TWO}
    assert people.by_word({}, word) is None
