"""Who is on call, and what the standing orders say about senders."""

from __future__ import annotations

from dataclasses import replace

import pytest

from panicmail.oncall.rosters import Duty, Roster, Rosters
from panicmail.orders import Orders
from tests.cast import T0
from tests.office import standing_orders

ROSTERS = Rosters(
    {
        "seoc": Roster(fixed=("ana", "bo"), fallback=("max",)),
        "smoc": Roster(fallback=("max",)),
        "gap": Roster(),
    }
)


def test_the_fixed_people_are_on_call_in_their_order_and_the_fallback_is_not() -> None:
    assert ROSTERS.who("seoc", T0) == ("ana", "bo")
    assert ROSTERS.on_call("seoc", T0)[0] == Duty(role="seoc", person="ana", until=None, source="fixed")


def test_the_fallback_answers_for_a_gap_and_says_so() -> None:
    assert ROSTERS.on_call("smoc", T0) == (Duty(role="smoc", person="max", until=None, source="fallback"),)


@pytest.mark.parametrize("role", ["gap", "nobody has heard of it", ""])
def test_where_nobody_is_named_nobody_is_on_call(role: str) -> None:
    assert ROSTERS.who(role, T0) == ()


def test_roles_are_those_written_down() -> None:
    assert ROSTERS.roles == ("seoc", "smoc", "gap")


def test_the_orders_ask_the_rosters_at_the_instant_in_question() -> None:
    assert standing_orders().who_at(T0)("smoc") == ("max",)


def orders(*known: str) -> Orders:
    return replace(standing_orders(), known_senders=known)


@pytest.mark.parametrize(
    ("address", "is_known"),
    [
        ("rita@example.com", True),
        ("guest@partner.example", True),
        ("other@partner.example", False),
        ("rita@sub.example.com", False),
        ("rita@notexample.com", False),
        ("rita@example.com.evil.example", False),
        ("example.com@evil.example", False),
        ("", False),
    ],
)
def test_a_sender_is_known_by_her_whole_address_or_her_whole_domain(address: str, is_known: bool) -> None:
    assert orders("example.com", "guest@partner.example").is_known_sender(address) is is_known


@pytest.mark.parametrize("address", ["rita@example.com", "anybody@elsewhere.example", ""])
def test_everybody_is_known_where_nobody_is_listed(address: str) -> None:
    assert orders().is_known_sender(address)


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("rita@example.com", True),
        ("rita@elsewhere.example", False),
        ("rita@sub.example.com", False),
        ("rita@example.com.evil.example", False),
        ("panic@example.com", False),
        ("panic+anything@example.com", False),
        ("", False),
    ],
)
def test_a_receipt_goes_into_its_domains_and_never_to_ourselves(address: str, may: bool) -> None:
    assert standing_orders().may_have_receipt(address) is may


def test_receipts_that_are_switched_off_go_to_nobody() -> None:
    assert not replace(standing_orders(), receipts=False).may_have_receipt("rita@example.com")
