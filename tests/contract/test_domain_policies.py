"""SPF and DMARC: the public vectors of RFC 7208, and what a domain's record asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from panicmail.mail.authenticate.dns_lookups import Unanswered
from panicmail.mail.authenticate.domain_policies import SpfQuery, dmarc_of, is_aligned, organisation
from tests.dns_zone import ZoneDns

_SECTIONS = json.loads((Path(__file__).parents[1] / "data" / "rfc7208.json").read_text())
_VECTORS = [(section["zone"], name, case) for section in _SECTIONS for name, case in section["cases"].items()]


def test_there_are_as_many_vectors_as_the_suite_has() -> None:
    assert len(_VECTORS) == 203


@pytest.mark.parametrize(("zone", "case"), [(z, c) for z, _, c in _VECTORS], ids=[name for _, name, _ in _VECTORS])
def test_a_vector_of_rfc_7208_comes_out_as_it_says(zone: dict[str, Any], case: dict[str, Any]) -> None:
    found = ZoneDns({name: [tuple(record) for record in records] for name, records in zone.items()})
    try:
        result = SpfQuery(case["peer"], case["from"], case["helo"], found).check()[0]
    except Unanswered:
        result = "temperror"
    assert result in case["result"]


ALIGNMENTS = [
    ("example.com", "example.com", True, True),
    ("mail.example.com", "example.com", False, True),
    ("mail.example.com", "news.example.com", False, True),
    ("example.net", "example.com", False, False),
    ("", "example.com", False, False),
    ("github.io", "ana.github.io", False, False),  # a public suffix of the private kind
    ("ana.github.io", "bo.github.io", False, False),
    ("evil.corp", "mail.corp", False, False),  # an ending no list knows: nobody owns it as a whole
    ("evil.internal", "mail.internal", False, False),
    ("mail.my-corp.com", "my-corp.com", False, True),
    ("xn--bcher-kva.example", "mail.xn--bcher-kva.example", False, True),
]


@pytest.mark.parametrize(("one", "other", "strict", "relaxed"), ALIGNMENTS)
def test_a_domain_is_aligned_with_its_own_organisation_alone(one: str, other: str, strict: bool, relaxed: bool) -> None:
    assert is_aligned(one, other, strictly=True) is strict
    assert is_aligned(one, other, strictly=False) is relaxed


def test_an_organisation_is_a_label_below_what_the_public_can_register_in() -> None:
    assert organisation("a.b.example.co.uk") == "example.co.uk"
    assert organisation("co.uk") == "co.uk"


RECORDS = [
    ("v=DMARC1; p=reject", True, False),
    ("v=DMARC1;p=quarantine;", True, False),
    ("V=dmarc1; p=reject", None, None),
    ("v=DMARC1; p=none", False, False),
    ("v=DMARC1", False, False),
    ("v=DMARC1; p=REJECT; adkim=s; pct=20; rua=mailto:x@example.com", True, True),
    ("v=DMARC12; p=reject", None, None),
    ("p=reject", None, None),
    ("v=DMARC1; p = reject ;; nonsense; =x; adkim = S", True, True),
]


@pytest.mark.parametrize(("text", "refuses", "strict"), RECORDS)
def test_a_record_is_read_as_rfc_7489_has_it(text: str, refuses: bool | None, strict: bool | None) -> None:
    found = dmarc_of("example.com", ZoneDns({"_dmarc.example.com": [("TXT", text)]}))
    assert (found.refuses if found else None, found.strict_dkim if found else None) == (refuses, strict)


def test_a_subdomain_without_a_record_is_under_that_of_its_organisation() -> None:
    above = ZoneDns({"_dmarc.example.com": [("TXT", "v=DMARC1; p=none; sp=reject")]})
    own = ZoneDns({**above.zone, "_dmarc.mail.example.com": [("TXT", "v=DMARC1; p=none")]})
    assert [found.refuses for zone in (above, own) if (found := dmarc_of("mail.example.com", zone))] == [True, False]
    found = dmarc_of("example.com", above)
    assert found is not None
    assert not found.refuses


def test_two_records_are_none() -> None:
    two = [("TXT", "v=DMARC1; p=reject"), ("TXT", "v=DMARC1; p=none")]
    assert dmarc_of("example.com", ZoneDns({"_dmarc.example.com": two})) is None
    beside = [("TXT", "v=DMARC1; p=reject"), ("TXT", "google-site-verification=x")]
    assert dmarc_of("example.com", ZoneDns({"_dmarc.example.com": beside})) is not None


def test_a_record_in_latin_1_is_read_as_far_as_it_goes() -> None:
    record = "v=DMARC1; p=reject; rua=mailto:jos\u00e9@example.com".encode("latin-1")
    found = dmarc_of("example.com", ZoneDns({"_dmarc.example.com": [("TXT", record)]}))
    assert found is not None
    assert found.refuses


def test_no_answer_is_no_record() -> None:
    with pytest.raises(Unanswered):
        dmarc_of("example.com", ZoneDns({"_dmarc.example.com": [("TXT", "TIMEOUT")]}))


def test_ten_thousand_includes_end_after_ten() -> None:
    zone = {f"n{n}.example.com": [("TXT", f"v=spf1 include:n{n + 1}.example.com -all")] for n in range(10_000)}
    found = ZoneDns(zone)
    assert SpfQuery("192.0.2.1", "x@n0.example.com", "h", found).check()[0] == "permerror"
    assert len(found.asked) <= 12
