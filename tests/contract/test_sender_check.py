# ruff: noqa: E501, ISC004 - fields as mail servers write them
"""Who wrote a mail: what a signature, a server, a forwarder or our own mail server proves, and what fails."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident.sender_proof import (
    ProofState,
    SenderMethod,
    SenderProof,
    from_json,
    in_words,
    look_alike,
    to_json,
)
from panicmail.mail.authenticate.dns_lookups import (
    KEPT_FOR,
    DnsAnswer,
    DnsCache,
    KeyFile,
    Resolver,
    SenderLookups,
    Unanswered,
)
from panicmail.mail.authenticate.sender_check import SenderEnvelope, trust, verify
from panicmail.mail.parse.normalize import canonical
from tests.dkim_signer import DkimSigner
from tests.dns_zone import TIMEOUT, ZoneDns, dns_server
from tests.examples import examples

NOW = datetime(2026, 11, 30, 3, 7, tzinfo=UTC)
MAIL = (
    b"From: Ana Reyes <ana@example.com>\r\nTo: panic@example.com\r\nSubject: Re: Ransom note\r\n"
    b"Date: Mon, 30 Nov 2026 03:06:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\nack\r\n"
)
OURS = DkimSigner("example.com")
REJECTS: Mapping[str, Any] = {"_dmarc.example.com": [("TXT", "v=DMARC1; p=reject")]}
PUBLIC = SenderEnvelope(peer="198.51.100.7", mail_from="ana@example.com", helo="mx.example.com", by_relay=False)
#: 198.51.100.0/24 is for documentation, and no public address to Python.
GLOBAL = replace(PUBLIC, peer="9.9.9.9")
LOOPBACK = replace(PUBLIC, peer="127.0.0.1")


def zone(*signers: DkimSigner, **more: Any) -> ZoneDns:
    return ZoneDns({**dict(signer.record for signer in signers), **REJECTS, **more})


def checked(raw: bytes, dns: ZoneDns, sent: SenderEnvelope = LOOPBACK, **more: Any) -> SenderProof:
    return verify(raw, sent, dns, NOW, **more)


def test_a_signature_of_the_from_domain_proves_and_is_strong_enough_to_act() -> None:
    found = checked(OURS.sign(MAIL), zone(OURS))
    assert (found.state, found.signer, found.acts) == (ProofState.PROVED, "example.com", True)
    assert in_words(found) == "proved, signed by example.com"
    assert found.proves("example.com")
    assert not found.proves("corp.example")


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_each_algorithm_and_line_end_that_mail_has_is_checked(algorithm: str, end: bytes) -> None:
    signer = DkimSigner("example.com", algorithm=algorithm)
    found = checked(signer.sign(MAIL).replace(b"\r\n", end), zone(signer))
    assert found.state is ProofState.PROVED


def test_the_published_example_of_rfc_8463_passes() -> None:
    raw = (Path(__file__).parents[1] / "mails" / "rfc8463.eml").read_bytes()
    keys = {
        "brisbane._domainkey.football.example.com": [
            ("TXT", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
        ]
    }
    found = checked(raw, ZoneDns(keys))
    assert (found.state, found.signer) == (ProofState.PROVED, "football.example.com")


def test_a_signature_of_the_house_above_proves_a_report_and_acts_for_nobody() -> None:
    sub = MAIL.replace(b"ana@example.com", b"ana@mail.example.com")
    found = checked(OURS.sign(sub), zone(OURS))
    assert (found.state, found.signer, found.acts) == (ProofState.PROVED, "example.com", False)
    strict = zone(OURS, **{"_dmarc.mail.example.com": [("TXT", "v=DMARC1; p=reject; adkim=s")]})
    assert checked(OURS.sign(sub), strict).state is ProofState.FAILED


WEAK = {
    "a part of the body": OURS.sign(MAIL, l=3),
    "no subject": OURS.sign(MAIL, ("from", "date")),
    "made three days ago": OURS.sign(MAIL, t=int((NOW - timedelta(days=3)).timestamp())),
}


@pytest.mark.parametrize("what", WEAK)
def test_a_signature_that_covers_too_little_or_is_old_proves_a_report_and_acts_for_nobody(what: str) -> None:
    found = checked(WEAK[what], zone(OURS))
    assert (found.state, found.acts) == (ProofState.PROVED, False)


SIGNED = OURS.sign(MAIL)
OTHER = DkimSigner("evil.example")
LIKE = DkimSigner("examp1e.com")
FORGED = {
    "not signed": MAIL,
    "signed by another": OTHER.sign(MAIL),
    "signed by a look-alike": LIKE.sign(MAIL),
    "changed text": SIGNED.replace(b"\r\n\r\nack", b"\r\n\r\nno"),
    "added text": SIGNED + b"ack\r\n",
    "changed subject": SIGNED.replace(b"Ransom", b"Random"),
    "another From on top": b"From: ana@example.com\r\n"
    + OTHER.sign(MAIL.replace(b"ana@example.com", b"a@evil.example")),
    "a second From below": SIGNED.replace(b"\r\n\r\n", b"\r\nFrom: ana@example.com\r\n\r\n", 1),
    "a From behind a bare CR": SIGNED.replace(b"From: Ana", b"X: 1\rFrom: Ana", 1),
    "a key that is not there": DkimSigner("example.com", selector="gone").sign(MAIL),
    "over": OURS.sign(MAIL, x=int((NOW - timedelta(days=2)).timestamp())),
    "another's key named as ours": DkimSigner("example.com", bits=1024).sign(MAIL),
    "a From that is encoded": SIGNED.replace(b"Ana Reyes <ana@example.com>", b"=?utf-8?q?ana=40example=2Ecom?="),
    "a From of two": SIGNED.replace(b"<ana@example.com>", b"<ana@example.com>, bo@example.com"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_is_forged_proves_nothing_where_the_domain_asks_to_refuse(what: str) -> None:
    found = checked(FORGED[what], zone(OURS, OTHER, LIKE))
    assert found.state in {ProofState.FAILED, ProofState.UNPROVED}
    assert not found.acts
    if canonical(FORGED[what]).all("from") == [b"Ana Reyes <ana@example.com>"]:
        assert in_words(found) == "could not be proved (changed on its way, or forged)"


def test_mail_without_a_signature_of_a_domain_without_a_policy_is_not_proved_and_did_not_fail() -> None:
    none = {"_dmarc.example.com": [("TXT", "v=DMARC1; p=none")]}
    assert in_words(checked(MAIL, zone(**none))) == "not proved (no signature)"
    assert (
        in_words(checked(OTHER.sign(MAIL), zone(OTHER, **none)))
        == "not proved (signed by evil[.]example, not by example.com)"
    )


@pytest.mark.parametrize(("sent", "state"), [
    (replace(PUBLIC, peer="10.1.2.3"), ProofState.UNPROVED),
    (replace(PUBLIC, peer="fd00::7"), ProofState.UNPROVED),
    (replace(PUBLIC, peer="127.0.0.1", by_relay=True), ProofState.UNPROVED),
    (LOOPBACK, ProofState.FAILED),
    (GLOBAL, ProofState.FAILED),
])  # fmt: skip
def test_mail_that_may_be_internal_and_is_not_signed_did_not_fail(sent: SenderEnvelope, state: ProofState) -> None:
    assert checked(MAIL, zone(OURS), sent).state is state


def test_a_signature_that_does_not_fit_fails_wherever_the_mail_came_from() -> None:
    for sent in (replace(PUBLIC, peer="10.1.2.3"), replace(LOOPBACK, by_relay=True), GLOBAL):
        assert checked(FORGED["changed text"], ZoneDns(dict([OURS.record])), sent).state is ProofState.FAILED


def test_a_broken_signature_beside_one_that_fits_harms_nobody() -> None:
    twice = OURS.sign(DkimSigner("example.com", selector="old").sign(MAIL))
    assert checked(twice, zone(OURS)).state is ProofState.PROVED


SPF: Mapping[str, Any] = {"example.com": [("TXT", "v=spf1 ip4:9.9.9.9 -all")]}


def test_a_server_the_domain_names_proves_a_report_and_acts_for_nobody() -> None:
    found = checked(MAIL, zone(**SPF), GLOBAL)
    assert (found.state, found.by, found.acts) == (ProofState.PROVED, "spf", False)
    assert in_words(found) == "proved, sent by a server of example.com"


def test_spf_alone_fails_nobody() -> None:
    none = {"_dmarc.example.com": [("TXT", "v=DMARC1; p=none")], **SPF}
    assert checked(MAIL, zone(**none), replace(GLOBAL, peer="8.8.8.8")).state is ProofState.UNPROVED


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.1", "::1", "fe80::1%eth0", "", "nonsense"])
def test_spf_is_asked_for_no_peer_of_the_house(peer: str) -> None:
    dns = zone(**SPF)
    checked(MAIL, dns, replace(GLOBAL, peer=peer))
    checked(MAIL, dns, replace(GLOBAL, by_relay=True))
    assert [name for name in dns.asked if name == "TXT example.com"] == []


def test_a_forwarder_that_is_named_is_believed_and_another_is_not() -> None:
    lists = DkimSigner("lists.example.net")
    raw = lists.seal(
        SIGNED.replace(b"ack", b"ack (by the list)"),
        "lists.example.net; dkim=pass header.d=example.com; dmarc=pass header.from=example.com",
    )
    dns = zone(OURS, lists)
    found = checked(raw, dns, sealers=["lists.example.net"])
    assert (found.state, found.by, found.signer) == (ProofState.PROVED, "arc", "lists.example.net")
    assert "as lists.example.net found" in in_words(found)
    assert checked(raw, dns).state is ProofState.FAILED
    assert checked(raw, dns, sealers=["other.example"]).state is ProofState.FAILED
    broken = raw.replace(b"header.from=example.com", b"header.from=example.org")
    assert checked(broken, dns, sealers=["lists.example.net"]).state is ProofState.FAILED


@pytest.mark.parametrize("name", ["s1._domainkey.example.com", "_dmarc.example.com"])
def test_what_dns_does_not_answer_could_not_be_checked(name: str) -> None:
    raw = SIGNED if name.startswith("s1") else MAIL
    found = checked(raw, zone(OURS, **{name: [("TXT", TIMEOUT)]}))
    assert in_words(found) == "could not be checked (DNS does not answer)"


def test_a_signature_that_fits_needs_no_policy() -> None:
    assert checked(SIGNED, zone(OURS, **{"_dmarc.example.com": [("TXT", TIMEOUT)]})).state is ProofState.PROVED


# -- hostile


def test_a_thousand_signatures_cost_ten_questions() -> None:
    raw = (
        b"".join(DkimSigner("example.com", selector=f"x{n}").sign(MAIL).split(b"From:")[0] for n in range(40)) * 10
        + MAIL
    )
    dns = zone(OURS)
    before = time.process_time()
    assert checked(raw, dns).state is ProofState.FAILED
    assert time.process_time() - before < 5
    assert len([name for name in dns.asked if "_domainkey" in name]) <= 10


@pytest.mark.parametrize("field", [
    b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=from; bh=x; b=" + b"A" * 100_000,
    b"DKIM-Signature: " + b"a=b; " * 20_000,
    b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=" + b"from:" * 3_000 + b"; bh=YQ==; b=YQ==",
    b"DKIM-Signature: v=1; a=rsa-sha256; d=\xff\xfe.com; s=s1; h=from; bh=YQ==; b=YQ==",
    b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=../../x; h=from; bh=YQ==; b=YQ==",
    b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=" + b"x" * 200 + b"; h=from; bh=YQ==; b=YQ==",
    b"ARC-Seal: i=999999999999; cv=none; a=x; b=; d=; s=",
])  # fmt: skip
def test_a_hostile_signature_costs_little_and_proves_nothing(field: bytes) -> None:
    before = time.process_time()
    found = checked(field + b"\r\n" + MAIL, zone(OURS), sealers=["example.com"])
    assert found.state is not ProofState.PROVED
    assert time.process_time() - before < 3


@examples(200)
@given(st.integers(0, len(SIGNED) - 1), st.binary(min_size=1, max_size=3))
def test_no_changed_octet_of_a_signed_mail_is_proved_unless_it_reads_the_same(at: int, octets: bytes) -> None:
    changed = SIGNED[:at] + octets + SIGNED[at + 1 :]
    found = checked(changed, zone(OURS))
    if found.state is ProofState.PROVED:
        before, after = canonical(SIGNED), canonical(changed)
        for name in ("from", "subject", "date"):
            assert [b" ".join(v.split()) for v in before.all(name)] == [b" ".join(v.split()) for v in after.all(name)]
        assert b" ".join(after.octets[after.body_at :].split()) == b" ".join(before.octets[before.body_at :].split())


@examples(150)
@given(st.binary(max_size=400), st.sampled_from(["127.0.0.1", "9.9.9.9", "x"]))
def test_no_octets_make_a_check_fail(raw: bytes, peer: str) -> None:
    assert checked(raw, zone(OURS), replace(GLOBAL, peer=peer)).state in set(ProofState)
    assert trust(canonical(raw), replace(GLOBAL, by_relay=True), ["mx"]).state in set(ProofState)


# -- our own mail server in front

RESULTS = [
    ("mx.example.com; dkim=pass header.d=example.com header.s=s1; dmarc=pass header.from=example.com", "proved", True),
    ("mx.example.com; dkim=pass (2048-bit key) header.d=example.com header.i=@example.com", "proved", True),
    ("mx.example.com;\r\n\tspf=pass smtp.mailfrom=a@example.com;\r\n\tdmarc=pass (p=NONE sp=NONE dis=NONE) header.from=example.com",
     "proved", True),
    ("MX.example.com/1; dmarc=pass header.from=example.com", "unproved", False),
    ("MX.EXAMPLE.COM 1; dmarc=pass header.from=example.com", "proved", True),
    ("mx.example.com (ignored; dkim=fail) ; dkim=pass reason=\"good; dkim=fail\" header.d=example.com", "proved", True),
    ("mx.example.com; dkim=pass header.d=mail.example.com", "proved", False),
    ("mx.example.com; dkim=pass header.d=evil.example; dmarc=pass header.from=evil.example", "unproved", False),
    ("mx.example.com; dmarc=fail (p=REJECT sp=NONE dis=NONE) header.from=example.com", "failed", False),
    ("mx.example.com; dmarc=fail reason=\"No valid SPF\" header.from=example.com (policy=quarantine)", "failed", False),
    ("mx.example.com; dmarc=fail (p=none) header.from=example.com", "unproved", False),
    ("mx.example.com; dkim=fail header.d=example.com; spf=fail", "failed", False),
    ("mx.example.com; spf=fail smtp.mailfrom=example.com", "unproved", False),
    ("mx.example.com; dkim=temperror header.d=example.com", "unknown", False),
    ("mx.example.com; none", "unproved", False),
    ("other.example.com; dmarc=pass header.from=example.com", "unproved", False),
    ("mx.example.com.evil.example; dmarc=pass header.from=example.com", "unproved", False),
    ("spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=example.com; dkim=pass (signature was verified) header.d=example.com;"
     "dmarc=pass action=none header.from=example.com;compauth=pass reason=100", "proved", True),
    ("spf=fail (sender IP is 192.0.2.1) smtp.mailfrom=example.com; dkim=none (message not signed) header.d=none;"
     "dmarc=fail action=oreject header.from=example.com;compauth=fail reason=000", "failed", False),
    ("mx.google.com; dkim=pass header.i=@example.com header.s=20230601 header.b=abc; spf=pass (google.com: domain of a@example.com "
     "designates 192.0.2.1 as permitted sender) smtp.mailfrom=a@example.com; dmarc=pass (p=REJECT sp=REJECT dis=NONE) "
     "header.from=example.com", "proved", True),
    ("", "unproved", False),
    ("mx.example.com; " + "dkim=none; " * 5_000 + "dmarc=pass header.from=example.com", "unproved", False),
]  # fmt: skip
SERVERS = ("mx.example.com", "mx.google.com", "exchange-online")
RELAYED = replace(GLOBAL, by_relay=True)


@pytest.mark.parametrize(("field", "state", "acts"), RESULTS)
def test_results_of_our_own_mail_server_are_believed_as_it_writes_them(field: str, state: str, acts: bool) -> None:
    raw = b"Authentication-Results: " + field.encode() + b"\r\n" + MAIL
    found = trust(canonical(raw), RELAYED, SERVERS)
    assert (found.state.value, found.acts) == (state, acts)


def test_results_count_only_by_a_relay_of_ours_and_only_the_topmost_of_a_server() -> None:
    good, bad = (f"Authentication-Results: mx.example.com; dmarc={word} (p=reject) header.from=example.com\r\n".encode()
                 for word in ("pass", "fail"))  # fmt: skip
    assert trust(canonical(good + MAIL), GLOBAL, SERVERS).state is ProofState.UNPROVED
    assert trust(canonical(bad + good + MAIL), RELAYED, SERVERS).state is ProofState.FAILED
    above = b"Authentication-Results: antivirus.example.com; none\r\n"
    assert trust(canonical(above + good + MAIL), RELAYED, SERVERS).state is ProofState.PROVED
    assert trust(canonical(good + MAIL), RELAYED, ()).state is ProofState.UNPROVED


def test_exchange_online_says_who_is_of_the_house() -> None:
    head = b"Authentication-Results: dkim=none (message not signed) header.d=none;dmarc=none action=none\r\n"
    raw = head + b"X-MS-Exchange-Organization-AuthAs: Internal\r\n" + MAIL
    assert trust(canonical(raw), RELAYED, SERVERS).acts
    assert not trust(canonical(raw), RELAYED, ["mx.example.com"]).acts
    assert not trust(canonical(raw.replace(b"Internal", b"Anonymous")), RELAYED, SERVERS).acts
    assert not trust(canonical(raw), GLOBAL, SERVERS).acts


# -- DNS


def lookups(dns: Any, **more: Any) -> SenderLookups:
    return SenderLookups(cache=DnsCache(dns), now=NOW, until=time.monotonic() + 5, **more)


def test_a_server_is_asked_once_for_as_long_as_its_answer_holds() -> None:
    dns = zone(OURS)
    shared = DnsCache(dns)
    for _ in range(3):
        found = SenderLookups(cache=shared, now=NOW, until=time.monotonic() + 5)
        assert verify(SIGNED, LOOPBACK, found, NOW).state is ProofState.PROVED
    assert len(dns.asked) == len(set(dns.asked))


def test_the_keys_of_our_own_people_outlive_dns_by_seven_days(tmp_path: Path) -> None:
    path = tmp_path / "sender-keys.json"
    dns = zone(OURS, OTHER)
    verify(SIGNED, LOOPBACK, lookups(dns, keys=KeyFile(path, ["example.com"])), NOW)
    dns.is_away = True
    again = KeyFile(path, ["example.com"])  # another start
    assert verify(SIGNED, LOOPBACK, lookups(dns, keys=again), NOW).state is ProofState.PROVED
    late = replace_now(lookups(dns, keys=again), NOW + KEPT_FOR + timedelta(minutes=1))
    assert verify(SIGNED, LOOPBACK, late, NOW).state is ProofState.UNKNOWN
    assert "evil.example" not in path.read_text()


def replace_now(found: SenderLookups, now: datetime) -> SenderLookups:
    return SenderLookups(cache=found.cache, now=now, until=found.until, keys=found.keys)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"s1._domainkey.example.com": {"records": ["%"]}}', "\x00"])
def test_a_file_of_keys_that_cannot_be_read_is_begun_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sender-keys.json"
    path.write_text(text)
    kept = KeyFile(path, ["example.com"])
    kept.keep("_dmarc.example.com", [b"v=DMARC1"], NOW)
    assert KeyFile(path, ["example.com"]).find("_dmarc.example.com", NOW) == [b"v=DMARC1"]


def test_a_file_of_keys_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    kept = KeyFile(tmp_path / "no" / "such" / "folder.json", ["example.com"])
    kept.keep("_dmarc.example.com", [b"v=DMARC1"], NOW)
    assert kept.find("_dmarc.example.com", NOW) == [b"v=DMARC1"]


def test_a_check_that_asks_too_much_ends_and_one_whose_time_is_up_asks_nothing() -> None:
    few = lookups(zone(OURS), left=1)
    assert verify(SIGNED, LOOPBACK, few, NOW).state is ProofState.UNKNOWN
    dns = zone(OURS)
    late = SenderLookups(cache=DnsCache(dns), now=NOW, until=time.monotonic() - 1)
    assert verify(SIGNED, LOOPBACK, late, NOW).state is ProofState.UNKNOWN
    assert dns.asked == []


def test_a_real_server_is_asked_by_udp_and_for_much_by_tcp() -> None:
    long = "v=spf1 " + " ".join(f"ip4:192.0.2.{n}" for n in range(250)) + " -all"
    with dns_server(
        {"example.com": [("TXT", long), ("MX", (10, "mx.example.com"))], "mx.example.com": [("A", "192.0.2.1")]}
    ) as server:
        resolver = Resolver([("127.0.0.1", server.port)])
        assert resolver.ask("example.com", "TXT", 5).records == (long.encode(),)
        assert resolver.ask("example.com", "MX", 5).records == ((10, "mx.example.com"),)
        assert resolver.ask("mx.example.com", "A", 5).records == ("192.0.2.1",)
        for nothing in ("gone.example.com", "mx.example.com", "x" * 70 + ".com", "a..b"):
            assert resolver.ask(nothing, "TXT", 5).records == ()


@pytest.mark.parametrize("how", ["silent", "servfail", "nonsense", "other id"])
def test_a_server_that_misbehaves_gave_no_answer(how: str) -> None:
    with dns_server({"example.com": [("TXT", "x")]}) as server:
        server.misbehaves = how
        with pytest.raises(Unanswered):
            Resolver([("127.0.0.1", server.port)]).ask("example.com", "TXT", 0.5)


# -- words, the store's form, and domains made to look like ours


@pytest.mark.parametrize("state", ProofState)
def test_a_proof_is_kept_as_it_is_and_says_verified_of_nobody(state: ProofState) -> None:
    proof = SenderProof(state=state, domain="example.com", by="dkim", signer="example.com", acts=True, why="x")
    assert from_json(to_json(proof), SenderMethod.VERIFY) == proof
    assert "verified" not in in_words(proof)


def test_of_a_mail_without_a_proof_the_method_says_what_holds() -> None:
    assert in_words(from_json(None, SenderMethod.VERIFY)) == "not checked yet"
    assert in_words(from_json(None, SenderMethod.NONE)) == "not proved (senders are not checked)"


OWN = ("example.com", "corp.example", "acme.io")
ALIKE = ["examp1e.com", "exarnple.com", "example.net", "exаmple.com", "xn--exmple-4nf.com", "examle.com", "exmaple.com",
         "example.com.evil.net", "example-com.net", "c0rp.example", "examplle.org", "acme.net", "login.example.co"]  # fmt: skip


@pytest.mark.parametrize("domain", ALIKE)
def test_a_domain_made_to_look_like_ours_is_named(domain: str) -> None:
    assert look_alike(f"ana@{domain}", OWN) in OWN


@pytest.mark.parametrize(
    "domain", [*OWN, "mail.example.com", "gmail.com", "sample.com", "evil.net", "exam.com", "", "com"]
)
def test_any_other_domain_is_none_of_that(domain: str) -> None:
    assert look_alike(f"ana@{domain}", OWN) == ""


@given(st.text(max_size=60))
def test_any_text_can_be_asked_about(text: str) -> None:
    assert look_alike(text, OWN) in {"", *OWN}


def test_an_answer_of_a_thousand_records_is_cut() -> None:
    class Many:
        def ask(self, name: str, kind: str, seconds: float) -> DnsAnswer:
            return DnsAnswer(tuple(base64.b64encode(str(n).encode()) for n in range(1000)), 5)

    assert len(DnsCache(Many()).find("x", "TXT", time.monotonic() + 5)) == 1000  # the resolver cuts, the cache keeps
