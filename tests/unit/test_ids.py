"""Names for mails and incidents: unlike each other, speakable, and read as they are said."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident import ids

MAIL_IDS = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=26, max_size=26)


def test_mail_ids_have_one_form_and_never_repeat() -> None:
    made = {ids.new_mail_id() for _ in range(500)}
    assert len(made) == 500
    assert all(re.fullmatch(r"[a-z2-7]{26}", mail_id) for mail_id in made)


@given(MAIL_IDS)
def test_the_incident_of_a_mail_is_named_by_its_first_eighty_bits(mail_id: str) -> None:
    assert ids.incident_id(mail_id) == mail_id[:16]


def test_a_ref_has_no_letter_that_is_misheard_or_misread() -> None:
    assert not set("01OILU") & set(ids.REF_ALPHABET)
    assert len(set(ids.REF_ALPHABET)) == len(ids.REF_ALPHABET) == 30


@given(MAIL_IDS)
def test_a_longer_ref_begins_with_the_shorter_and_all_are_speakable(mail_id: str) -> None:
    refs = [ids.ref(mail_id, length) for length in range(ids.REF_LENGTH, ids.REF_LONGEST + 1)]
    assert [len(ref) for ref in refs] == [5, 6, 7, 8]
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(refs))
    assert set(refs[-1]) <= set(ids.REF_ALPHABET)
    assert ids.ref(mail_id) == refs[0]


def test_refs_of_different_mails_spread_over_the_whole_alphabet() -> None:
    refs = [ids.ref(ids.new_mail_id()) for _ in range(400)]
    assert len(set(refs)) >= 395
    assert {ref[0] for ref in refs} == {ref[-1] for ref in refs} == set(ids.REF_ALPHABET)


@pytest.mark.parametrize("written", ["K7M2X", "k7m2x", " K7M2X\n", "[K7M2X]", "k7 m2x", "K7-M2-X", "«k7m2x»."])
def test_a_ref_is_read_as_people_type_and_say_it(written: str) -> None:
    assert ids.read_ref(written) == "K7M2X"


@given(MAIL_IDS)
def test_a_ref_is_read_back_from_its_own_letters(mail_id: str) -> None:
    assert ids.read_ref(f"[{ids.ref(mail_id).lower()}]") == ids.ref(mail_id)
