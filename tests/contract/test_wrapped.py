"""What is wrapped: opaque S/MIME signatures, winmail.dat, QR codes; and links that lead elsewhere than they say."""

from __future__ import annotations

import base64
import builtins
import io
import struct
import time
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident.classify import KnownFacts, decide
from panicmail.mail.parse import wrapped_files
from panicmail.mail.parse.normalize import leads_elsewhere
from panicmail.mail.parse.parser import read
from panicmail.mail.parse.wrapped_files import signed_content
from tests.examples import examples
from tests.golden_mails import mail


def attached(kind: str, data: bytes, *, text: str = "look at this", name: str = "x") -> bytes:
    coded = base64.encodebytes(data).decode().replace("\n", "\r\n")
    head = f"Content-Type: {kind}; name={name}\r\nContent-Transfer-Encoding: base64"
    body = f"--b\r\n\r\n{text}\r\n--b\r\n{head}\r\n\r\n{coded}\r\n--b--\r\n"
    return mail("From: a@b.example", "Content-Type: multipart/mixed; boundary=b", body=body)


# -- opaque signatures -----------------------------------------------------------------------------------------------


def signed(content: bytes, encoding: serialization.Encoding = serialization.Encoding.DER) -> bytes:
    made = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert("ana@example.com", key_type=trustme.KeyType.RSA)
    certificate = x509.load_pem_x509_certificate(made.cert_chain_pems[0].bytes())
    key: Any = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content).add_signer(certificate, key, hashes.SHA256())
    return builder.sign(encoding, [pkcs7.PKCS7Options.Binary])


ENTITY = b"Content-Type: text/plain; charset=utf-8\r\n\r\nack, on it\r\n"


def element(tag: int, content: bytes, *, indefinite: bool = False) -> bytes:
    if indefinite:
        return bytes([tag, 0x80]) + content + b"\0\0"
    size = len(content).to_bytes(4, "big")
    return bytes([tag, 0x84]) + size + content


def in_pieces(content: bytes) -> bytes:
    """As programs write it that do not know the length when they begin."""
    pieces = b"".join(element(0x04, content[at : at + 7]) for at in range(0, len(content), 7))
    inner = element(0xA0, element(0x24, pieces, indefinite=True), indefinite=True)
    encapsulated = element(0x30, bytes.fromhex("06092a864886f70d010701") + inner, indefinite=True)
    data = element(0x30, b"\x02\x01\x01" + element(0x31, b"") + encapsulated, indefinite=True)
    return element(
        0x30, bytes.fromhex("06092a864886f70d010702") + element(0xA0, data, indefinite=True), indefinite=True
    )


@pytest.mark.parametrize("make", [signed, in_pieces])
def test_an_opaque_signature_shows_the_mail_inside(make: Any) -> None:
    data = make(ENTITY)
    assert signed_content(data) == ENTITY
    lines = (
        "From: a@b.example",
        "Content-Type: application/pkcs7-mime; smime-type=signed-data",
        "Content-Transfer-Encoding: base64",
    )
    report = read(mail(*lines, body=base64.encodebytes(data).decode().replace("\n", "\r\n")))
    assert (report.reply_text, report.first_line) == ("ack, on it", "ack, on it")
    assert "signed by S/MIME; the signature was not checked" in report.defects
    assert [each.type for each in report.attachments] == ["application/pkcs7-mime"]


def test_what_is_encrypted_by_smime_is_said_plainly() -> None:
    report = read(mail("Content-Type: application/pkcs7-mime; smime-type=enveloped-data", body="\x30\x80"))
    assert "encrypted by S/MIME: nobody but its recipient can read it" in report.defects
    assert not report.lossless


@examples(300)
@given(st.binary(max_size=200), st.integers(0, 120))
def test_no_octets_trip_the_reader_of_signatures(noise: bytes, at: int) -> None:
    whole = in_pieces(ENTITY)
    for data in (noise, whole[:at] + noise, whole[:at], b"\x30\x80" * 5000):
        signed_content(data)


# -- winmail.dat -----------------------------------------------------------------------------------------------------


def tnef(*fields: tuple[int, int, int, bytes]) -> bytes:
    out = struct.pack("<IH", 0x223E9F78, 1)
    for level, name, kind, data in fields:
        out += struct.pack("<BHHI", level, name, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)
    return out


WINMAIL = tnef(
    (1, 0x800C, 2, b"my files are gone\0"),
    (2, 0x9002, 6, b"\1\0" + b"\0" * 12),
    (2, 0x8010, 1, b"note.txt\0"),
    (2, 0x800F, 6, b"pay 500"),
)


def test_the_files_in_winmail_dat_are_attachments_and_its_text_is_read_where_there_is_no_other() -> None:
    report = read(attached("application/ms-tnef", WINMAIL, name="winmail.dat"))
    assert [(each.name, each.size) for each in report.attachments] == [("winmail.dat", len(WINMAIL)), ("note.txt", 7)]
    assert (report.reply_text, report.lossless) == ("look at this", True)
    alone = read(attached("application/ms-tnef", WINMAIL, text="", name="winmail.dat"))
    assert "my files are gone" in alone.text
    assert not alone.lossless


@pytest.mark.parametrize("library", ["tnefparse", "zxingcpp"])
def test_a_missing_library_is_said_and_loses_nothing(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == library:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    raw = (
        attached("application/ms-tnef", WINMAIL)
        if library == "tnefparse"
        else attached("image/png", picture("https://x.example"))
    )
    report = read(raw)
    assert report.reply_text == "look at this"
    assert any("the extra `attachments` is not installed" in each for each in report.defects)


# -- QR codes --------------------------------------------------------------------------------------------------------


def picture(text: str, kind: str = "PNG") -> bytes:
    zxingcpp = pytest.importorskip("zxingcpp")
    image = pytest.importorskip("PIL.Image")
    code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode).to_image(scale=4)
    out = io.BytesIO()
    image.fromarray(code).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_the_link_in_a_qr_code_is_a_link_of_the_mail_and_a_line_on_the_page(kind: str) -> None:
    report = read(attached(f"image/{kind.lower()}", picture("https://login.evil.example/x", kind)))
    assert report.links == ("https://login.evil.example/x",)
    assert "a picture holds a QR code: hxxps://login[.]evil[.]example/x" in decide(report, KnownFacts()).flags
    assert report.lossless


def test_pictures_that_are_none_or_too_large_or_too_many_cost_little() -> None:
    image = pytest.importorskip("PIL.Image")
    out = io.BytesIO()
    image.new("1", (20_000, 20_000)).save(out, "PNG")
    before = time.process_time()
    assert wrapped_files.qr_codes(out.getvalue())[0] == ()
    assert wrapped_files.qr_codes(b"\x89PNG\r\n\x1a\n" + b"x" * 1000) == ((), "")
    part = "--b\r\nContent-Type: image/png\r\n\r\nx\r\n"
    many = mail("Content-Type: multipart/mixed; boundary=b", body=part * 150 + "--b--")
    assert len(read(many).attachments) == 150
    assert time.process_time() - before < 5


# -- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "target", "differs"),
    [
        ("https://bank.example/login", "https://evil.example/x", True),
        ("bank.example", "https://bank.example.evil.example/", True),
        ("www.bank.example", "https://bank.example/a", False),
        ("bank.example", "https://login.bank.example/a", False),
        ("https://bank.example", "https://bank.example@evil.example/", True),
        ("192.0.2.7", "https://evil.example", True),
        ("Click here", "https://evil.example", False),
        ("read the docs at bank.example", "https://evil.example", False),
        ("v1.2.3", "https://x.example", False),
    ],
)
def test_a_link_whose_text_names_another_host_is_marked(shown: str, target: str, differs: bool) -> None:
    assert leads_elsewhere(shown, target) is differs


def test_a_link_that_leads_elsewhere_is_a_line_on_page_and_issue() -> None:
    html = '<p>look: <a href="https://evil.example/x">https://bank.example/login</a></p>'
    report = read(mail("From: a@b.example", "Content-Type: text/html", body=html))
    flag = "a link shows hxxps://bank[.]example/login and leads to hxxps://evil[.]example/x"
    assert flag in decide(report, KnownFacts()).flags
