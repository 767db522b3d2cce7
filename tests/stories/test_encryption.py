"""Mails to a person with a key: nobody else can read them, and none is lost where they cannot be encrypted."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage, Message
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pysequoia
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from panicmail import config
from panicmail.check import people_checks
from panicmail.config import Config
from panicmail.errors import ConfigError
from panicmail.incident.model import State
from panicmail.incident.people import EncryptionKey
from panicmail.mail import encryption
from panicmail.mail.compose.message import ComposedMail
from panicmail.mail.compose.shortened import shortened
from tests.cast import T0
from tests.office import PEOPLE, Office, Posted, mail
from tests.smallest_config import with_

KINDS = ("pgp", "smime")
ANA = "ana@example.com"


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def certificate(
    address: str = ANA, ends_at: datetime = T0 + timedelta(days=400), signs_only: bool = False
) -> x509.Certificate:
    return _certificate(rsa_key(), address, ends_at, signs_only)


def _certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, address: str, ends_at: datetime, signs_only: bool
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Ana Reyes")])
    usage = dict.fromkeys(
        ("content_commitment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign", "encipher_only",
         "decipher_only"), False)  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(T0 - timedelta(days=800))
        .not_valid_after(ends_at)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False)
        .add_extension(x509.KeyUsage(digital_signature=True, key_encipherment=not signs_only, **usage), critical=True)
        .sign(key, SHA256())
    )


@cache
def pgp_key(address: str = ANA) -> pysequoia.Tsk:
    return pysequoia.Tsk.generate(f"Ana Reyes <{address}>")


def octets(kind: str) -> bytes:
    """What stands in the file of Ana's key."""
    return bytes(pgp_key().extract_certificate()) if kind == "pgp" else certificate().public_bytes(Encoding.PEM)


def key(kind: Literal["pgp", "smime"], content: bytes | None = None) -> EncryptionKey:
    return EncryptionKey(kind=kind, path=f"ana.{kind}", octets=octets(kind) if content is None else content)


def payload(part: Message) -> bytes:
    found = part.get_payload(decode=True)
    assert isinstance(found, bytes)
    return found


def opened(raw: bytes) -> EmailMessage:
    """What Ana's mail program makes of it: the mail inside."""
    outer = email.message_from_bytes(raw, policy=email.policy.default)
    if outer.get_content_type() == "multipart/encrypted":
        version, data = outer.iter_parts()
        assert version.get_content_type() == "application/pgp-encrypted"
        assert version.get_content() == b"Version: 1\r\n"
        inside = pysequoia.decrypt(payload(data), decryptor=pgp_key().decryptor()).bytes
    else:
        assert outer.get_content_type() == "application/pkcs7-mime"
        assert outer.get_param("smime-type") == "enveloped-data"
        inside = pkcs7.pkcs7_decrypt_der(payload(outer), certificate(), rsa_key(), [])
    assert inside is not None
    found = email.message_from_bytes(bytes(inside), policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def text(raw: bytes) -> str:
    part = opened(raw).get_body(("plain",))
    assert part is not None
    return str(part.get_content())


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def office(tmp_path: Path, kind: Any) -> Iterator[Office]:
    one = made(tmp_path, key(kind))
    yield one
    one.close()


def made(folder: Path, used: EncryptionKey, **more: Any) -> Office:
    return Office(folder, people={**PEOPLE, "ana": replace(PEOPLE["ana"], key=used)}, **more)


def test_whatever_goes_to_a_person_with_a_key_is_encrypted_and_says_nothing_outside(office: Office) -> None:
    incident = office.panic("My files are .locked", sender="Rita Lopez <rita@example.com>")
    [page] = office.pages("ana")
    assert page.subject == f"[PANIC {incident.ref}]"
    office.deliver(mail("The printer is locked, too", in_reply_to=incident.message_id or "", subject="Ransom note 2"))
    office.wait(minutes=16)
    acknowledge(office, page)
    office.wait(minutes=30)
    assert len(office.sent("ana")) > 4
    for sent in office.sent("ana"):
        assert not [word for word in ("locked", "Ransom", "Rita", "rita@") if word.encode() in sent.raw]
        assert opened(sent.raw)["Subject"]
    everything = "".join(text(sent.raw) for sent in office.sent("ana"))
    assert ".locked" in everything
    assert "printer" in everything
    assert all(b"locked" in sent.raw for sent in office.pages("max"))


def acknowledge(office: Office, page: Posted) -> None:
    answer = mail("ack", sender=ANA, subject=f"Re: {page.subject}", in_reply_to=page.message_id)
    office.deliver(answer, ANA, [page.reply_to])


def test_an_encrypted_page_is_acknowledged_by_a_plain_reply_to_its_address(office: Office) -> None:
    incident = office.panic()
    [page] = office.pages("ana")
    assert "panic+" in page.reply_to
    assert page.message_id == opened(page.raw)["Message-ID"]
    acknowledge(office, page)
    assert office.incident(incident).state is State.ACKED


def test_the_fields_of_a_mail_are_protected_inside_and_say_what_stood_outside(office: Office) -> None:
    office.panic()
    [page] = office.pages("ana")
    inside = opened(page.raw)
    assert inside["Content-Type"].params["hp"] == "cipher"
    assert inside["Content-Type"].params["protected-headers"] == "v1"
    assert "Ransom note" in str(inside["Subject"])
    told = {str(field).partition(":")[0] for field in inside.get_all("HP-Outer", [])}
    assert {"From", "To", "Subject", "Date", "Message-ID", "Reply-To"} <= told
    assert [str(f) for f in inside.get_all("HP-Outer", []) if str(f).startswith("Subject")] == [
        f"Subject: {page.subject}"
    ]


@pytest.mark.parametrize("form", ["multipart/encrypted", "application/pkcs7-mime", "inline"])
def test_an_encrypted_answer_is_told_that_nobody_can_read_it_and_how_to_answer(tmp_path: Path, form: str) -> None:
    office = Office(tmp_path)
    incident = office.panic()
    page = office.page("ana")
    sealed = pysequoia.encrypt(b"ack", recipients=[pgp_key().extract_certificate()]).decode()
    body = {
        "multipart/encrypted": 'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b\n\n'
        "--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--b\nContent-Type: application/octet-stream\n\n"
        f"{sealed}\n--b--\n",
        "application/pkcs7-mime": "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\n"
        "Content-Transfer-Encoding: base64\n\nMIAGCSqGSIb3DQEHA6CA\n",
        "inline": f"Content-Type: text/plain\n\n{sealed}\n",
    }[form]
    raw = f"From: {ANA}\nTo: {page.reply_to}\nSubject: ...\nIn-Reply-To: {page.message_id}\nMIME-Version: 1.0\n{body}"
    office.deliver(raw.encode(), ANA, [page.reply_to])
    assert office.incident(incident).state is State.OPEN
    told = office.sent("ana")[-1]
    assert "Clock still running" in told.subject
    assert "it is encrypted, and panicmail has no key to read it; answer without encryption" in told.text
    assert "https://panic.example.com/i/" in told.text
    office.close()


def test_an_encrypted_panic_is_paged_and_named(tmp_path: Path) -> None:
    office = Office(tmp_path)
    sealed = pysequoia.encrypt(b"help", recipients=[pgp_key().extract_certificate()]).decode()
    office.panic(sealed, subject="...")
    assert "is encrypted, and panicmail has no key to read it" in office.page("ana").text
    office.close()


def test_a_page_that_cannot_be_encrypted_goes_with_its_ref_alone_and_the_operators_hear(tmp_path: Path) -> None:
    ended = certificate(ends_at=T0 - timedelta(days=1)).public_bytes(Encoding.PEM)
    office = made(tmp_path, key("smime", ended))
    incident = office.panic(sender="Rita Lopez <rita@example.com>")
    [page] = office.pages("ana")
    assert incident.ref in page.subject
    assert not [word for word in ("locked", "Ransom", "Rita", "rita@") if word.encode() in page.raw]
    assert "https://panic.example.com/i/" in page.text
    [told] = [sent for sent in office.sent("max") if "cannot be encrypted" in sent.subject]
    assert "ana" in told.text
    assert "ended 20" in told.text
    office.reply(page, "ack")
    assert office.incident(incident).state is State.ACKED
    office.close()


def test_a_library_that_breaks_costs_the_encryption_and_no_page(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> bytes:
        raise RuntimeError("out of entropy")

    monkeypatch.setattr(pysequoia, "encrypt", broken)
    monkeypatch.setattr(encryption, "_enveloped", broken)
    office.panic()
    [page] = office.pages("ana")
    assert b"locked" not in page.raw
    assert page.text


def test_an_operator_whose_own_key_has_ended_hears_of_it_once(tmp_path: Path) -> None:
    ended = key("smime", certificate(ends_at=T0 - timedelta(days=1)).public_bytes(Encoding.PEM))
    office = Office(tmp_path, people={**PEOPLE, "max": replace(PEOPLE["max"], key=ended)})
    office.panic()
    office.wait(minutes=16)
    assert len([sent for sent in office.sent("max") if "cannot be encrypted" in sent.subject]) == 1
    office.close()


def test_the_receipt_of_one_of_our_people_is_encrypted_as_all_their_mail(office: Office) -> None:
    office.panic(sender=f"Ana <{ANA}>")
    receipts = [s for s in office.sent("ana") if s.subject.startswith("[") and "PANIC" not in s.subject]
    assert receipts
    assert all(b"Ransom" not in sent.raw for sent in office.sent("ana"))


def test_many_pages_in_one_are_encrypted(tmp_path: Path, kind: Any) -> None:
    office = made(tmp_path, key(kind))
    for number in range(14):
        office.panic(f"locked {number}", subject=f"Ransom {number}", sender=f"r{number}@example.com")
    office.wait(minutes=1)
    digests = [sent for sent in office.pages("ana") if "more" in str(opened(sent.raw)["Subject"])]
    assert digests
    assert all(b"Ransom" not in sent.raw for sent in office.pages("ana"))
    office.close()


def test_an_encrypted_mail_that_is_too_large_says_so_and_whom_to_ask(office: Office) -> None:
    office.panic("x " * 2000)
    [page] = office.pages("ana")
    cut = email.message_from_bytes(shortened(page.raw, 2500), policy=email.policy.default)
    assert isinstance(cut, EmailMessage)
    assert cut["Reply-To"] == page.reply_to
    assert 'Reply "status"' in str(cut.get_content())


# -- keys


def pem(private: bool) -> bytes:
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    whole = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate().public_bytes(Encoding.PEM) + (whole if private else b"")


WRONG: dict[str, tuple[Literal["pgp", "smime"], Callable[[], bytes], str]] = {
    "empty": ("pgp", lambda: b"", "0 OpenPGP keys; expected one"),
    "two": ("pgp", lambda: octets("pgp") + bytes(pgp_key("bo@example.com").extract_certificate()), "2 OpenPGP keys"),
    "private": ("pgp", lambda: bytes(pgp_key()), "a private key, which must stay with its owner"),
    "a certificate": ("pgp", lambda: octets("smime"), "OpenPGP key"),
    "no certificate": ("smime", lambda: b"hello", "no certificate; expected a person's S/MIME certificate"),
    "an OpenPGP key": ("smime", lambda: octets("pgp"), "no certificate"),
    "private too": ("smime", lambda: pem(True), "a private key, which must stay with its owner"),
    "signs only": ("smime", lambda: certificate(signs_only=True).public_bytes(Encoding.PEM), "for signing alone"),
    "a curve": (
        "smime",
        lambda: _certificate(ec.generate_private_key(ec.SECP256R1()), ANA, T0, False).public_bytes(Encoding.PEM),
        "another kind than RSA",
    ),
}


def loaded(folder: Path, *lines: str) -> Config:
    """The smallest configuration with lines about Ana."""
    (folder / "gitlab.token").write_text("glpat-x")
    (folder / "panicmail.toml").write_text(with_("people.ana", *lines))
    return config.load(folder / "panicmail.toml", {}, host_name=lambda: "mx1")


@pytest.mark.parametrize("what", WRONG)
def test_a_key_that_nothing_can_be_encrypted_for_is_refused_by_its_place(tmp_path: Path, what: str) -> None:
    kind, content, said = WRONG[what]
    (tmp_path / "ana.key").write_bytes(content())
    with pytest.raises(ConfigError) as refused:
        encryption.expect_usable(loaded(tmp_path, f'{kind} = "ana.key"'))
    [mistake] = refused.value.mistakes
    assert f"people.ana.{kind}: found " in mistake
    assert said in mistake
    assert "ana.key" in mistake


def test_a_key_that_has_ended_stops_no_start(tmp_path: Path) -> None:
    (tmp_path / "ana.pem").write_bytes(
        certificate(ends_at=datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)).public_bytes(Encoding.PEM)
    )
    encryption.expect_usable(loaded(tmp_path, 'smime = "ana.pem"'))


def test_one_person_has_one_key(tmp_path: Path) -> None:
    (tmp_path / "ana.key").write_bytes(octets("smime"))
    with pytest.raises(ConfigError, match="found beside pgp, expected one of the two"):
        loaded(tmp_path, 'smime = "ana.key"', 'pgp = "ana.key"')
    with pytest.raises(ConfigError, match="a readable file"):
        loaded(tmp_path, 'smime = "nothing.key"')


def in_pem(**about: Any) -> EncryptionKey:
    return key("smime", certificate(**about).public_bytes(Encoding.PEM))


NEXT_WEEK, LAST_WEEK = T0 + timedelta(days=5), T0 - timedelta(days=5)


@pytest.mark.parametrize(("used", "verdict", "found"), [
    (lambda: key("smime"), "ok", "for ana@example.com: it ends"),
    (lambda: key("pgp"), "ok", "for ana@example.com"),
    (lambda: in_pem(ends_at=NEXT_WEEK), "warning", "only 5 days left"),
    (lambda: in_pem(ends_at=LAST_WEEK), "failed", "ended"),
    (lambda: in_pem(address="eve@example.com"), "failed", "made out to eve@example.com, not to ana@"),
    (lambda: key("pgp", b"x"), "failed", "OpenPGP key"),
])  # fmt: skip
def test_check_says_whose_a_key_is_and_how_long_it_holds(
    tmp_path: Path, used: Callable[[], EncryptionKey], verdict: str, found: str
) -> None:
    office = made(tmp_path, used())
    [row] = people_checks.keys(office.settings, T0)
    assert row.verdict.value == verdict
    assert found in row.found
    office.close()


@given(st.binary(max_size=2000))
def test_no_octets_of_a_mail_stand_outside_its_encryption(body: bytes) -> None:
    letter = ComposedMail(
        message=b"From: a@b.example\r\nSubject: [PANIC 7KQ2] secret\r\nContent-Type: text/plain\r\n\r\n" + body,
        mail_from="",
        recipient=ANA,
    )
    sealed = encryption.encrypted(letter, key("smime"), T0).message
    assert b"secret" not in sealed
    inside = pkcs7.pkcs7_decrypt_der(payload(email.message_from_bytes(sealed)), certificate(), rsa_key(), [])
    assert inside.endswith(b"\r\n\r\n" + body)
