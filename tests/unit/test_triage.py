"""What a mail means, for every kind of mail and everything that may be known of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panicmail.incident.classify import (
    Author,
    Classification,
    KnownFacts,
    MailKind,
    MailPurpose,
    Report,
    TokenAddress,
    decide,
    is_surely_automatic,
    may_be_answered,
)

HELP = Report(subject="Ransom note", from_address="rita@example.com", text="help", reply_text="help")
ANA = TokenAddress(incident_id="i-ana", person="ana")
ANAS_BOUNCE = TokenAddress(incident_id="i-ana", person="ana", bounce=True)
REPORTER = TokenAddress(incident_id="i-rita")
WRONG = TokenAddress(unproved=True)
ANSWERING = {Author.ANSWER, Author.BOUNCE, Author.RECEIPT}

ADDRESSES = st.one_of(
    st.sampled_from([TokenAddress(), WRONG]),
    st.builds(
        TokenAddress,
        incident_id=st.sampled_from(["i1", "i2"]),
        person=st.sampled_from(["", "ana", "max"]),
        bounce=st.booleans(),
    ),
)
INCIDENTS = st.sampled_from([None, "i3", "i4"])
KNOWNS = st.builds(
    KnownFacts,
    addresses=st.lists(ADDRESSES, max_size=3).map(tuple),
    same_as=st.sampled_from([None, None, "i5"]),
    thread=INCIDENTS,
    thread_over=st.booleans(),
    answers_page=st.one_of(st.none(), st.just(ANA)),
    bare_about=INCIDENTS,
    answered=INCIDENTS,
    known_sender=st.booleans(),
    listed_sender=st.booleans(),
    list_is_ours=st.booleans(),
    once_unknown=st.booleans(),
)
REPORTS = st.builds(
    Report,
    from_address=st.sampled_from(["", "rita@example.com", "ana@example.com"]),
    text=st.sampled_from(["", " \n", "help"]),
    kind=st.sampled_from(MailKind),
    author=st.sampled_from(Author),
    lists=st.sampled_from([(), ("staff.lists.example.com",)]),
    why=st.lists(st.text(max_size=5), max_size=5).map(tuple),
    lossless=st.booleans(),
)


def by(author: Author, kind: MailKind = MailKind.AUTO_REPLY) -> Report:
    return replace(HELP, author=author, kind=kind, why=("a sign of it",))


@pytest.mark.parametrize(
    ("report", "known", "verdict"),
    [
        (HELP, KnownFacts(), Classification(shape=MailPurpose.PANIC)),
        (HELP, KnownFacts(same_as="i"), Classification(shape=MailPurpose.SAME, incident_id="i")),
        (HELP, KnownFacts(same_as="i", addresses=(ANA,)), Classification(shape=MailPurpose.SAME, incident_id="i")),
        (HELP, KnownFacts(thread="i"), Classification(shape=MailPurpose.MORE, incident_id="i")),
        (HELP, KnownFacts(thread="i", thread_over=True), Classification(shape=MailPurpose.PANIC, linked_to="i")),
        (
            HELP,
            KnownFacts(addresses=(REPORTER,), thread="i-rita"),
            Classification(shape=MailPurpose.MORE, incident_id="i-rita"),
        ),
        (
            HELP,
            KnownFacts(addresses=(REPORTER,), thread="i-rita", thread_over=True),
            Classification(shape=MailPurpose.PANIC, linked_to="i-rita"),
        ),
        (HELP, KnownFacts(bare_about="i"), Classification(shape=MailPurpose.ASIDE, incident_id="i")),
        (HELP, KnownFacts(bare_about="i", thread="j"), Classification(shape=MailPurpose.ASIDE, incident_id="i")),
        (
            HELP,
            KnownFacts(addresses=(ANA,)),
            Classification(shape=MailPurpose.ANSWER, incident_id="i-ana", person="ana"),
        ),
        (
            HELP,
            KnownFacts(answers_page=ANA),
            Classification(shape=MailPurpose.ANSWER, incident_id="i-ana", person="ana"),
        ),
        (
            HELP,
            KnownFacts(addresses=(REPORTER, ANA)),
            Classification(shape=MailPurpose.ANSWER, incident_id="i-ana", person="ana"),
        ),
        (
            HELP,
            KnownFacts(addresses=(ANAS_BOUNCE,)),
            Classification(shape=MailPurpose.ASIDE, incident_id="i-ana", person="ana"),
        ),
    ],
)
def test_each_thing_known_of_a_mail_gives_it_its_shape(
    report: Report, known: KnownFacts, verdict: Classification
) -> None:
    assert decide(report, known) == verdict


P, M, R, A, B, C = (Author.PERSON, Author.MACHINE, Author.REPORT, Author.ANSWER, Author.BOUNCE, Author.RECEIPT)
THREAD, CLOSED = KnownFacts(thread="i"), KnownFacts(thread="i", thread_over=True)
TABLE = [
    (KnownFacts(addresses=(ANA,)), {**dict.fromkeys(Author, "answer"), B: "undelivered"}),
    (KnownFacts(addresses=(ANAS_BOUNCE,)), {**dict.fromkeys(Author, "answer"), P: "aside", B: "undelivered"}),
    (KnownFacts(addresses=(REPORTER,), thread="i-rita"), dict.fromkeys(Author, "more")),
    (THREAD, dict.fromkeys(Author, "more")),
    (CLOSED, {P: "panic", M: "panic", R: "panic", A: "more", B: "more", C: "more"}),
    (KnownFacts(), {P: "panic", M: "panic", R: "panic", A: "once", B: "once", C: "once"}),
    (KnownFacts(answered="i"), {P: "panic", M: "panic", R: "panic", A: "more", B: "once", C: "once"}),
]  # fmt: skip


@pytest.mark.parametrize("author", Author)
@pytest.mark.parametrize(("known", "row"), TABLE)
def test_what_ties_a_mail_and_who_wrote_it_decide_what_it_is(
    known: KnownFacts, row: dict[Author, str], author: Author
) -> None:
    verdict = decide(by(author), known)
    assert ("once" if verdict.once else verdict.shape.value) == row[author]


@pytest.mark.parametrize("kind", sorted(set(MailKind) - {MailKind.BOUNCE}))
def test_an_absence_at_the_envelope_sender_of_a_page_is_heard_as_that_persons(kind: MailKind) -> None:
    """Programs without a sign in the header answer there; a person's words there are a note that is answered."""
    shape = decide(replace(HELP, kind=kind), KnownFacts(addresses=(ANAS_BOUNCE,))).shape
    assert shape is (MailPurpose.ANSWER if kind is MailKind.OOO else MailPurpose.ASIDE)


def test_a_mail_like_a_bounce_is_one_at_the_envelope_sender_of_a_page_and_nowhere_else() -> None:
    like = replace(HELP, kind=MailKind.BOUNCE)
    shapes = [decide(like, KnownFacts(addresses=(address,))).shape for address in (ANA, ANAS_BOUNCE)]
    assert shapes == [MailPurpose.ANSWER, MailPurpose.UNDELIVERED]


@pytest.mark.parametrize("kind", MailKind)
def test_no_kind_alone_makes_a_panic_less_of_one(kind: MailKind) -> None:
    assert not decide(replace(HELP, kind=kind, why=("the subject begins with “vacation”",)), KnownFacts()).once


@pytest.mark.parametrize(
    ("known", "once"),
    [(KnownFacts(), True), (KnownFacts(list_is_ours=True), False), (KnownFacts(listed_sender=True), False)],
)
def test_a_copy_of_a_foreign_list_is_paged_once_unless_the_list_is_ours_or_the_sender_is_known(
    known: KnownFacts, once: bool
) -> None:
    report = replace(HELP, kind=MailKind.LIST, lists=("staff.lists.example.com",))
    assert decide(report, known).once is once
    answer = replace(report, author=Author.ANSWER)
    assert decide(answer, known).once, "an automatic answer stays one"


@pytest.mark.parametrize(
    ("author", "null_sender", "sure"),
    [
        *((author, True, author not in (P, M)) for author in Author),
        *((author, False, author in (R, A)) for author in Author),
    ],
)
def test_only_fields_or_the_null_sender_with_the_structure_make_it_sure(
    author: Author, null_sender: bool, sure: bool
) -> None:
    assert is_surely_automatic(by(author), null_sender=null_sender) is sure


@pytest.mark.parametrize("author", Author)
@pytest.mark.parametrize("lists", [(), ("staff.lists.example.com",), ("rita@example.com",)])
@pytest.mark.parametrize("welcome", [True, False])
def test_only_a_person_is_answered_and_never_a_list(author: Author, lists: tuple[str, ...], welcome: bool) -> None:
    report = replace(by(author), lists=lists)
    answered = may_be_answered(report, list_is_ours=welcome, listed_sender=False)
    assert answered == (author is P and (not lists or (welcome and lists != ("rita@example.com",))))
    assert answered == may_be_answered(report, list_is_ours=False, listed_sender=welcome)


@pytest.mark.parametrize(
    ("known_sender", "once_unknown", "once"),
    [(True, False, False), (True, True, False), (False, False, False), (False, True, True)],
)
def test_an_unknown_sender_is_paged_once_only_where_the_operator_says_so(
    known_sender: bool, once_unknown: bool, once: bool
) -> None:
    assert decide(HELP, KnownFacts(known_sender=known_sender, once_unknown=once_unknown)).once is once


@pytest.mark.parametrize(
    ("report", "known", "flag"),
    [
        (replace(by(M), why=("a", "b", "c", "d")), KnownFacts(), "looks automatic (auto_reply: a, b, c)"),
        (replace(HELP, kind=MailKind.LIST, lists=("x",), why=("a",)), KnownFacts(), "looks automatic (list: a)"),
        (replace(HELP, from_address=""), KnownFacts(), "From does not name one plain address"),
        (replace(HELP, lossless=False), KnownFacts(), "could not be read in full; the raw message is on the issue"),
        (replace(HELP, text=" \n\t"), KnownFacts(), "has no text"),
        (HELP, KnownFacts(addresses=(TokenAddress(), WRONG)), "came to an address with a token that does not verify"),
        (HELP, KnownFacts(known_sender=False), "sender is not in [senders] known"),
    ],
)  # fmt: skip
def test_each_oddity_is_one_flag_of_its_own(report: Report, known: KnownFacts, flag: str) -> None:
    verdict = decide(report, known)
    assert (verdict.shape, verdict.flags) == (MailPurpose.PANIC, (flag,))


@settings(deadline=None)
@given(REPORTS, KNOWNS)
def test_every_mail_is_a_new_panic_or_belongs_to_an_incident(report: Report, known: KnownFacts) -> None:
    verdict = decide(report, known)
    assert (verdict.shape is MailPurpose.PANIC) == (verdict.incident_id is None)
    assert verdict.shape is MailPurpose.PANIC or not (verdict.once or verdict.flags or verdict.linked_to)
    assert verdict == decide(report, known)


@settings(deadline=None)
@given(REPORTS, KNOWNS)
def test_a_mail_with_a_persons_valid_token_is_never_also_a_panic(report: Report, known: KnownFacts) -> None:
    verdict = decide(report, replace(known, addresses=(*known.addresses, ANA), same_as=None))
    assert verdict.shape in {MailPurpose.ANSWER, MailPurpose.ASIDE, MailPurpose.UNDELIVERED}
    assert verdict.person


@settings(deadline=None)
@given(REPORTS, st.lists(st.sampled_from([TokenAddress(), WRONG]), max_size=3), st.booleans(), st.booleans())
def test_without_a_tie_the_mail_is_a_panic_whatever_it_looks_like(
    report: Report, addresses: list[TokenAddress], known_sender: bool, once_unknown: bool
) -> None:
    known = KnownFacts(addresses=tuple(addresses), known_sender=known_sender, once_unknown=once_unknown)
    verdict = decide(report, known)
    assert verdict.shape is MailPurpose.PANIC
    plain = report.author not in ANSWERING and not report.lists and (known_sender or not once_unknown)
    assert verdict.once is not plain


@settings(deadline=None)
@given(REPORTS, KNOWNS)
def test_an_answer_is_heard_only_as_the_person_whose_token_it_came_to(report: Report, known: KnownFacts) -> None:
    verdict = decide(report, known)
    proved = {(a.incident_id, a.person) for a in (*known.addresses, known.answers_page) if a and a.person}
    if verdict.shape in {MailPurpose.ANSWER, MailPurpose.UNDELIVERED}:
        assert (verdict.incident_id, verdict.person) in proved
