"""DKIM of what we send (RFC 6376): the key, the record that has its public half, and the signature."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import dkim
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from panicmail.errors import Temporary
from panicmail.mail.authenticate.dns_lookups import Asks, Unanswered

_log = structlog.get_logger()

#: RFC 8301 section 3.2 wants 2048 bits, which fit into a record.
_BITS = 2048
#: RFC 6376 section 5.4.1, as far as our mails have them. From twice: no second one can be put in.
_SIGNED = (b"from", b"from", b"to", b"reply-to", b"subject", b"date", b"message-id", b"in-reply-to", b"references",
           b"auto-submitted", b"mime-version", b"content-type", b"content-transfer-encoding")  # fmt: skip
_LOOKED_UP_WITHIN = 5.0
#: Characters of one string of a TXT record (RFC 1035 section 3.3.14).
_STRING = 255


@dataclass(frozen=True, slots=True)
class DkimSigner:
    """Signs as one domain."""

    selector: str
    domain: str
    key: bytes  #: PEM

    @property
    def name(self) -> str:
        """Where the record with the public key stands."""
        return f"{self.selector}._domainkey.{self.domain}"

    def sign(self, message: bytes) -> bytes:
        """The message with its signature on top; as it is when it cannot be signed, for a page goes out all the same.

        Args:
            message: With CRLF.
        """
        try:
            signature: bytes = dkim.sign(
                message,
                self.selector.encode(),
                self.domain.encode(),
                self.key,
                canonicalize=(b"relaxed", b"relaxed"),
                include_headers=[name for name in _SIGNED if name in _names(message)],
            )
        except Exception as exc:  # whatever the library makes of it
            _log.error("dkim.not_signed", reason=f"{type(exc).__name__}: {exc}")
            return message
        return signature + message


def _names(message: bytes) -> set[bytes]:
    """The fields a message has."""
    head = message.partition(b"\r\n\r\n")[0]
    return {line.partition(b":")[0].lower() for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")}


def signer(selector: str, domain: str, key_file: Path | None) -> DkimSigner | None:
    """The signer of a configuration; None without a key that is there."""
    try:
        key = key_file.read_bytes() if key_file else b""
    except OSError as exc:
        _log.error("dkim.not_signed", reason=f"{key_file}: {exc.strerror}")
        return None
    return DkimSigner(selector, domain, key) if key else None


def new_key() -> bytes:
    """A private key, PEM."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    return made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key(pem: bytes) -> str:
    """The public half of a private key, in base64, as a record has it.

    Raises:
        ValueError: This is no RSA key of 1024 bits at least without a passphrase.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (TypeError, ValueError) as exc:
        raise ValueError("no private key in PEM without a passphrase") from exc
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 1024:
        raise ValueError("no RSA key of 1024 bits at least")
    octets = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(octets).decode()


def record(signer: DkimSigner) -> str:
    """The record for the zone file. Raises ValueError as `public_key`."""
    text = f"v=DKIM1; k=rsa; p={public_key(signer.key)}"
    strings = " ".join(f'"{text[at : at + _STRING]}"' for at in range(0, len(text), _STRING))
    return f"{signer.name}. IN TXT ( {strings} )"


def published_key(signer: DkimSigner, resolver: Asks) -> str | None:
    """The public key that DNS has under the signer's name; None when it has none.

    Raises:
        Temporary: Nobody knows.
    """
    try:
        records = resolver.ask(signer.name, "TXT", _LOOKED_UP_WITHIN).records
    except Unanswered as exc:
        raise Temporary(f"{exc}") from exc
    for text in records:
        tags = dict(tag.strip().partition("=")[::2] for tag in text.decode("ascii", "replace").split(";"))
        if "p" in tags:
            return "".join(tags["p"].split())
    return None
