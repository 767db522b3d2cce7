"""One mail on its way in, without a socket: its end, its octets, its memory, its hops."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panicmail.server.smtp import data
from panicmail.server.smtp.data import DataReceiver, received_fields
from panicmail.server.smtp.inbound_storage import InboundStorage, MailOctets, OctetBudget
from tests.disks import storage

# Chance finds few CRLF-dot combinations in plain bytes, so mails are built from what matters.
_PIECES = st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"\x00", b"a", b"..", b"\r\n.", b".\r\n", b"\n.\n", b"\xff"])
_MAILS = st.lists(st.one_of(_PIECES, st.binary(max_size=8)), max_size=30).map(b"".join)


class Incoming(DataReceiver):
    """A mail with its octets at hand."""

    def __init__(self, limit: int = 1000, kept: InboundStorage | None = None) -> None:
        self.octets = MailOctets(kept or storage())
        super().__init__(limit=limit, octets=self.octets)

    def raw(self) -> bytes:
        return self.octets.take_out()()


def _stuffed(mail: bytes) -> bytes:
    """As a careful client sends it after DATA (RFC 5321 4.5.2), its end included."""
    lines = (b"\r\n" + mail).replace(b"\r\n.", b"\r\n..")[2:]
    return lines + (b".\r\n" if mail.endswith(b"\r\n") or not mail else b"\r\n.\r\n")


def _chunks(octets: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(octets)) for cut in cuts} | {0, len(octets)})
    return [octets[a:b] for a, b in pairwise(places)]


@given(mail=_MAILS, cuts=st.lists(st.integers(0, 200), max_size=20), after=st.binary(max_size=20))
def test_a_mail_arrives_octet_for_octet_however_it_is_cut_up(mail: bytes, cuts: list[int], after: bytes) -> None:
    wire = _stuffed(mail)
    incoming = Incoming()
    rest, received = None, b""
    for chunk in _chunks(wire, cuts):
        assert rest is None, "the end was seen too early"
        received += chunk
        rest = incoming.feed(chunk if received != wire else chunk + after)
    assert rest == after
    assert incoming.size == len(wire) - len(b".\r\n")
    assert incoming.raw() == (mail if mail.endswith(b"\r\n") or not mail else mail + b"\r\n")


@settings(deadline=None)
@given(mail=_MAILS, cuts=st.lists(st.integers(0, 200), max_size=20), block=st.integers(7, 20))
def test_where_a_block_ends_makes_no_difference(mail: bytes, cuts: list[int], block: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(data, "BLOCK", block)
        test_a_mail_arrives_octet_for_octet_however_it_is_cut_up.hypothesis.inner_test(mail, cuts, b"QUIT")  # type: ignore[attr-defined]


def test_dots_are_unstuffed_across_blocks_of_the_real_size() -> None:
    mail = b"..\r\n.x\r\n" * 40_000
    incoming = Incoming(limit=10**6)
    wire = _stuffed(mail)
    assert [incoming.feed(wire[at : at + 7001]) for at in range(0, len(wire), 7001)][-1] == b""
    assert incoming.raw() == mail


@given(mail=_MAILS, cuts=st.lists(st.integers(0, 200), max_size=20), after=st.binary(max_size=20))
def test_a_mail_that_is_dropped_ends_where_it_would_have_ended(mail: bytes, cuts: list[int], after: bytes) -> None:
    wire = _stuffed(mail)
    for incoming in (Incoming(limit=3), Incoming(kept=storage(3))):
        rest, received = None, b""
        for chunk in _chunks(wire, cuts):
            assert rest is None
            received += chunk
            rest = incoming.feed(chunk if received != wire else chunk + after)
        assert rest == after
        assert incoming.size == len(wire) - len(b".\r\n")


def test_a_lone_dot_at_once_is_an_empty_mail() -> None:
    incoming = Incoming()
    assert incoming.feed(b".\r\nQUIT\r\n") == b"QUIT\r\n"
    assert incoming.raw() == b""
    assert incoming.size == 0


@pytest.mark.parametrize(("octets", "too_large"), [(10, False), (11, True)])
@pytest.mark.parametrize("step", [1, 4, 100])
def test_the_limit_itself_is_allowed_and_one_octet_more_is_not(octets: int, too_large: bool, step: int) -> None:
    incoming = Incoming(limit=10)
    wire = b"x" * (octets - 2) + b"\r\n.\r\n"
    rests = [incoming.feed(wire[i : i + step]) for i in range(0, len(wire), step)]
    assert rests[-1] == b""
    assert incoming.too_large is too_large
    assert incoming.kept is not too_large


def test_commands_pipelined_behind_a_mail_do_not_count_as_its_size() -> None:
    incoming = Incoming(limit=10)
    assert incoming.feed(b"x\r\n.\r\n" + b"NOOP\r\n" * 100) == b"NOOP\r\n" * 100
    assert incoming.kept


def test_a_mail_for_which_there_is_no_room_gives_back_what_it_held() -> None:
    kept = storage(10)
    budget = kept.memory
    incoming = Incoming(kept=kept)
    assert incoming.feed(b"12345678") is None
    assert budget.free == 2
    assert incoming.feed(b"12345678") is None
    assert budget.free == 10
    assert incoming.feed(b"\r\n.\r\n") == b""
    assert not incoming.kept
    assert not incoming.too_large


def test_a_share_is_given_back_once_however_often_it_is_released() -> None:
    budget = OctetBudget(10)
    share = budget.share()
    assert share.grow(10)
    assert not budget.share().grow(1)
    share.release()
    share.release()
    assert budget.free == 10


@pytest.mark.parametrize(
    ("raw", "hops"),
    [
        (b"", 0),
        (b"Received: a\r\nRECEIVED : b\r\n folded\r\nX-Received: no\r\n\r\nbody", 2),
        (b"Received: a\nreceived: b\n\nReceived: in the body", 2),
        (b"\r\nReceived: in the body", 0),
        (b"Subject: no end of header\r\n" + b"Received: x\r\n" * 31, 31),
        (b"Subject: a\r\n\r\n" + b"Received: forwarded\r\n" * 50, 0),
    ],
)
def test_hops_are_counted_in_the_header_section_only(raw: bytes, hops: int) -> None:
    assert received_fields(raw) == hops
