"""What a mail means, for every kind of mail and everything that may be known of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panicmail.triage import Address, Kind, Known, Report, Shape, Verdict, decide

HELP = Report(subject="Ransom note", from_address="rita@example.com", text="help", reply_text="help")
ANA = Address(incident_id="i-ana", person="ana")
ANAS_BOUNCE = Address(incident_id="i-ana", person="ana", bounce=True)
REPORTER = Address(incident_id="i-rita")
WRONG = Address(unproved=True)
ONCE = {Kind.BOUNCE, Kind.LIST, Kind.MDN}

ADDRESSES = st.one_of(
    st.sampled_from([Address(), WRONG]),
    st.builds(
        Address,
        incident_id=st.sampled_from(["i1", "i2"]),
        person=st.sampled_from(["", "ana", "max"]),
        bounce=st.booleans(),
    ),
)
INCIDENTS = st.sampled_from([None, "i3", "i4"])
KNOWNS = st.builds(
    Known,
    addresses=st.lists(ADDRESSES, max_size=3).map(tuple),
    same_as=st.sampled_from([None, None, "i5"]),
    thread=INCIDENTS,
    thread_over=st.booleans(),
    answers_page=st.one_of(st.none(), st.just(ANA)),
    aside_to=INCIDENTS,
    known_sender=st.booleans(),
    once_unknown=st.booleans(),
)
REPORTS = st.builds(
    Report,
    from_address=st.sampled_from(["", "rita@example.com", "ana@example.com"]),
    text=st.sampled_from(["", " \n", "help"]),
    kind=st.sampled_from(Kind),
    why=st.lists(st.text(max_size=5), max_size=5).map(tuple),
    lossless=st.booleans(),
)


def kind_of(kind: Kind) -> Report:
    return replace(HELP, kind=kind, why=("a sign of it",))


@pytest.mark.parametrize(
    ("report", "known", "verdict"),
    [
        (HELP, Known(), Verdict(shape=Shape.PANIC)),
        (HELP, Known(same_as="i"), Verdict(shape=Shape.SAME, incident_id="i")),
        (HELP, Known(same_as="i", addresses=(ANA,)), Verdict(shape=Shape.SAME, incident_id="i")),
        (HELP, Known(thread="i"), Verdict(shape=Shape.MORE, incident_id="i")),
        (HELP, Known(thread="i", thread_over=True), Verdict(shape=Shape.PANIC, linked_to="i")),
        (HELP, Known(addresses=(REPORTER,), thread="i-rita"), Verdict(shape=Shape.MORE, incident_id="i-rita")),
        (
            HELP,
            Known(addresses=(REPORTER,), thread="i-rita", thread_over=True),
            Verdict(shape=Shape.PANIC, linked_to="i-rita"),
        ),
        (HELP, Known(aside_to="i"), Verdict(shape=Shape.ASIDE, incident_id="i")),
        (HELP, Known(aside_to="i", thread="j"), Verdict(shape=Shape.ASIDE, incident_id="i")),
        (HELP, Known(addresses=(ANA,)), Verdict(shape=Shape.ANSWER, incident_id="i-ana", person="ana")),
        (HELP, Known(answers_page=ANA), Verdict(shape=Shape.ANSWER, incident_id="i-ana", person="ana")),
        (HELP, Known(addresses=(REPORTER, ANA)), Verdict(shape=Shape.ANSWER, incident_id="i-ana", person="ana")),
        (HELP, Known(addresses=(ANAS_BOUNCE,)), Verdict(shape=Shape.ASIDE, incident_id="i-ana", person="ana")),
    ],
)  # fmt: skip
def test_each_thing_known_of_a_mail_gives_it_its_shape(report: Report, known: Known, verdict: Verdict) -> None:
    assert decide(report, known) == verdict


@pytest.mark.parametrize("address", [ANA, ANAS_BOUNCE])
def test_a_delivery_report_to_a_persons_token_says_that_she_was_not_reached(address: Address) -> None:
    verdict = decide(kind_of(Kind.BOUNCE), Known(addresses=(address,)))
    assert (verdict.shape, verdict.person) == (Shape.UNDELIVERED, "ana")


@pytest.mark.parametrize("address", [ANA, ANAS_BOUNCE])
@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.HUMAN, Kind.BOUNCE}))
def test_any_other_machine_at_a_persons_token_is_heard_as_hers(kind: Kind, address: Address) -> None:
    """An out-of-office goes to the envelope sender or to Reply-To; both must reach the one who reads it."""
    assert decide(kind_of(kind), Known(addresses=(address,))).shape is Shape.ANSWER


@pytest.mark.parametrize("kind", Kind)
def test_machine_mail_that_is_nobodys_report_is_paged_once_and_all_other_with_a_ladder(kind: Kind) -> None:
    verdict = decide(kind_of(kind), Known())
    assert (verdict.shape, verdict.once) == (Shape.PANIC, kind in ONCE)


@pytest.mark.parametrize(
    ("known_sender", "once_unknown", "once"),
    [(True, False, False), (True, True, False), (False, False, False), (False, True, True)],
)
def test_an_unknown_sender_is_paged_once_only_where_the_operator_says_so(
    known_sender: bool, once_unknown: bool, once: bool
) -> None:
    assert decide(HELP, Known(known_sender=known_sender, once_unknown=once_unknown)).once is once


@pytest.mark.parametrize(
    ("report", "known", "flag"),
    [
        (replace(HELP, kind=Kind.LIST, why=("a", "b", "c", "d")), Known(), "looks automatic (list: a, b, c)"),
        (replace(HELP, from_address=""), Known(), "From does not name one plain address"),
        (replace(HELP, lossless=False), Known(), "could not be read in full; the raw message is on the issue"),
        (replace(HELP, text=" \n\t"), Known(), "has no text"),
        (HELP, Known(addresses=(Address(), WRONG)), "came to an address with a token that does not verify"),
        (HELP, Known(known_sender=False), "sender is not in [senders] known"),
    ],
)  # fmt: skip
def test_each_oddity_is_one_flag_of_its_own(report: Report, known: Known, flag: str) -> None:
    verdict = decide(report, known)
    assert (verdict.shape, verdict.flags) == (Shape.PANIC, (flag,))


@settings(deadline=None)
@given(REPORTS, KNOWNS)
def test_every_mail_is_a_new_panic_or_belongs_to_an_incident(report: Report, known: Known) -> None:
    verdict = decide(report, known)
    assert (verdict.shape is Shape.PANIC) == (verdict.incident_id is None)
    assert verdict.shape is Shape.PANIC or not (verdict.once or verdict.flags or verdict.linked_to)
    assert verdict == decide(report, known)


@settings(deadline=None)
@given(REPORTS, KNOWNS)
def test_a_mail_with_a_persons_valid_token_is_never_also_a_panic(report: Report, known: Known) -> None:
    verdict = decide(report, replace(known, addresses=(*known.addresses, ANA), same_as=None))
    assert verdict.shape in {Shape.ANSWER, Shape.ASIDE, Shape.UNDELIVERED}
    assert verdict.person


@settings(deadline=None)
@given(REPORTS, st.lists(st.sampled_from([Address(), WRONG]), max_size=3), st.booleans(), st.booleans())
def test_where_nothing_is_proved_the_mail_is_a_panic_whatever_it_looks_like(
    report: Report, addresses: list[Address], known_sender: bool, once_unknown: bool
) -> None:
    known = Known(addresses=tuple(addresses), known_sender=known_sender, once_unknown=once_unknown)
    assert decide(report, known).shape is Shape.PANIC


@settings(deadline=None)
@given(REPORTS, KNOWNS)
def test_an_answer_is_heard_only_as_the_person_whose_token_it_came_to(report: Report, known: Known) -> None:
    verdict = decide(report, known)
    proved = {(a.incident_id, a.person) for a in (*known.addresses, known.answers_page) if a and a.person}
    if verdict.shape in {Shape.ANSWER, Shape.UNDELIVERED}:
        assert (verdict.incident_id, verdict.person) in proved
