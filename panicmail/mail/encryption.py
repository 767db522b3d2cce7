"""Mails only their reader can read: OpenPGP (RFC 3156) and S/MIME (RFC 8551), where a person's key is configured.

The whole mail is encrypted, its subject too (RFC 9788); outside stand who writes to whom, what it belongs to and what
a subject begins with, such as "[PANIC 7KQ2]". A reply needs no key: it comes to the address that is outside.

A key that fits nothing is refused when the configuration is read (`expect_usable`). One that is good no more is none,
for a start must not fail on it: a mail that cannot be encrypted is written anew without anything of the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import TypeVar

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from panicmail.config import Config
from panicmail.errors import ConfigError
from panicmail.incident.people import EncryptionKey, Person
from panicmail.mail.compose import ComposedMail

_log = structlog.get_logger()

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class CannotEncrypt(Exception):  # noqa: N818
    """A mail cannot be encrypted for its reader; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What a person's key is."""

    shown: str  #: a fingerprint, as its owner's program shows it
    addresses: tuple[str, ...]  #: lower case; whom it is made out to. () when it does not say
    ends_at: datetime | None  #: None: never
    encrypt: Callable[[bytes], bytes]  #: armoured, or DER; raises what the library raises


def read_key(key: EncryptionKey) -> KeyFacts:
    """What stands in a key's file.

    Raises:
        ValueError: It is nothing that can ever be used; the text says what was found, and what is wanted.
    """
    return (_certificate if key.kind == "smime" else _openpgp)(key.octets)


def _certificate(octets: bytes) -> KeyFacts:
    if b"PRIVATE KEY" in octets:
        raise ValueError("a private key, which must stay with its owner; expected their certificate alone")
    try:
        pem = b"-----BEGIN CERTIFICATE-----" in octets
        found = x509.load_pem_x509_certificates(octets)[0] if pem else x509.load_der_x509_certificate(octets)
        public = found.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("no certificate; expected a person's S/MIME certificate, PEM or DER") from None
    if not isinstance(public, rsa.RSAPublicKey):
        raise ValueError("a certificate of another kind than RSA; expected an RSA one, or an OpenPGP key in pgp")
    if (usage := _extension(found, x509.KeyUsage)) is not None and not usage.key_encipherment:
        raise ValueError("a certificate for signing alone; expected one for encryption (keyEncipherment)")
    names = _extension(found, x509.SubjectAlternativeName)
    return KeyFacts(
        shown=found.fingerprint(SHA256()).hex()[:40],
        addresses=tuple(a.lower() for a in names.get_values_for_type(x509.RFC822Name)) if names is not None else (),
        ends_at=found.not_valid_after_utc,
        encrypt=lambda data: _enveloped(found, data),
    )


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _enveloped(certificate: x509.Certificate, data: bytes) -> bytes:
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(data).add_recipient(certificate)
    return builder.set_content_encryption_algorithm(algorithms.AES256).encrypt(
        Encoding.DER, [pkcs7.PKCS7Options.Binary]
    )


def _openpgp(octets: bytes) -> KeyFacts:
    try:
        from pysequoia import Cert, Tsk, encrypt
    except ImportError:
        raise ValueError("a key, and nothing to use it with; install panicmail[encryption]") from None
    try:
        found = Cert.split_bytes(octets)
    except Exception as exc:  # whatever the library makes of it
        raise ValueError(f"no OpenPGP key ({_brief(exc)}); expected what gpg --export ADDRESS writes") from None
    if len(found) != 1:
        raise ValueError(f"{len(found)} OpenPGP keys; expected one, as gpg --export FINGERPRINT writes it")
    [key] = found
    if "PRIVATE KEY" in str(Tsk.from_bytes(octets)).partition("\n")[0]:
        raise ValueError("a private key, which must stay with its owner; expected what gpg --export ADDRESS writes")
    try:
        encrypt(b"", recipients=[key])
    except Exception as exc:
        raise ValueError(
            f"an OpenPGP key that nothing can be encrypted for ({_brief(exc)}); expected another"
        ) from None
    return KeyFacts(
        shown=key.fingerprint,
        addresses=tuple(filter(None, (_address_in(str(user)) for user in key.user_ids))),
        ends_at=datetime.fromtimestamp(0, UTC) if key.is_revoked else key.expiration,
        encrypt=lambda data: encrypt(data, recipients=[key]),
    )


def _address_in(user: str) -> str:
    """The address of "Ana Reyes <ana@example.com>"."""
    return user.rpartition("<")[2].rstrip("> ").strip().lower() if "@" in user else ""


def _brief(exc: Exception) -> str:
    """Without the traces that the library has in its texts."""
    return str(exc).partition("\n")[0][:120] or type(exc).__name__


def expect_usable(config: Config) -> None:
    """Refuse a configuration with keys that no mail could ever be encrypted for. One that has ended is said aloud.

    Raises:
        ConfigError: With each of them, by its place.
    """
    mistakes = []
    for person, settings in config.people.items():
        if (key := settings.key) is None:
            continue
        try:
            ends_at = read_key(key).ends_at
        except ValueError as exc:
            mistakes.append(f"{config.path or 'environment'}: people.{person}.{key.kind}: found {exc} ({key.path})")
            continue
        if ends_at is not None and ends_at <= datetime.now(UTC):
            _log.error("key.ended", person=person, kind=key.kind, ended_at=ends_at.isoformat(), text=_ENDED)
    if mistakes:
        raise ConfigError(mistakes)


_ENDED = "mails to them say nothing of a report until there is a new one"


# -- writing


def for_reader(
    write: Callable[[Person], ComposedMail | None], person: Person, now: datetime
) -> tuple[ComposedMail | None, str]:
    """A mail as it may go to a person: encrypted where they have a key; where that fails, with only a REF in it.

    Args:
        write: Composes it with what the mails of that person, as given, may show.

    Returns:
        The mail, None as `write` says; and why it is not encrypted, "" where it is or need not be.
    """
    letter = write(person)
    if letter is None or person.key is None:
        return letter, ""
    try:
        return encrypted(letter, person.key, now), ""
    except CannotEncrypt as exc:
        _log.error("mail.not_encrypted", person=person.id, reason=f"{exc}")
        return write(replace(person, detail="ref", key=None)), f"{exc}"


def encrypted(letter: ComposedMail, key: EncryptionKey, now: datetime) -> ComposedMail:
    """The mail, for the owner of the key alone. Raises CannotEncrypt."""
    try:
        facts = read_key(key)
        if facts.ends_at is not None and facts.ends_at <= now:
            raise CannotEncrypt(f"the key in {key.path} ended {facts.ends_at:%Y-%m-%d}, or was revoked")
        outside, inside = _apart(letter.message)
        wrap = _in_pkcs7 if key.kind == "smime" else _in_pgp_mime
        return replace(letter, message=outside + wrap(facts.encrypt(inside)))
    except CannotEncrypt:
        raise
    except Exception as exc:  # whatever a library makes of it: the page must go
        raise CannotEncrypt(f"{key.kind}: {_brief(exc)}") from exc


def _apart(message: bytes) -> tuple[bytes, bytes]:
    """The fields that stay outside, and all of the mail as it is encrypted, with its own fields protected (RFC 9788,
    and the older form that more programs know)."""
    head, _, body = message.partition(b"\r\n\r\n")
    fields = _fields(head)
    outside = [f for f in fields if not f.lower().startswith((b"content-", b"mime-version:", b"subject:"))]
    outside.append(b"Subject: " + _short_subject(head) + b"\r\n")
    inside = []
    for field in fields:
        if field.lower().startswith(b"content-type:"):
            inside += [b"HP-Outer: " + each for each in outside]
            field = field.removesuffix(b"\r\n") + b';\r\n protected-headers="v1"; hp="cipher"\r\n'
        inside.append(field)
    return b"".join(outside), b"".join([*inside, b"\r\n", body])


def _fields(head: bytes) -> list[bytes]:
    """Each field with its folded lines and the end of its last one."""
    fields: list[bytes] = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] += line + b"\r\n"
        else:
            fields.append(line + b"\r\n")
    return fields


def _short_subject(head: bytes) -> bytes:
    """What a subject of ours begins or ends with, such as "[PANIC 7KQ2]"."""
    subject = str(message_from_bytes(head + b"\r\n\r\n", policy=SMTP)["Subject"] or "")
    if subject.startswith("[") and "]" in subject:
        short = subject[: subject.index("]") + 1]
    else:
        short = subject[subject.rindex("[") :] if subject.endswith("]") and "[" in subject else "[panicmail]"
    return short.encode("ascii", "replace")


def _in_pkcs7(sealed: bytes) -> bytes:
    part = EmailMessage(policy=SMTP)
    part.set_content(sealed, "application", "pkcs7-mime", filename="smime.p7m", params={"smime-type": "enveloped-data"})
    return part.as_bytes()


def _in_pgp_mime(sealed: bytes) -> bytes:
    whole = EmailMessage(policy=SMTP)
    whole["Content-Type"] = 'multipart/encrypted; protocol="application/pgp-encrypted"'
    whole["MIME-Version"] = "1.0"
    version, data = EmailMessage(policy=SMTP), EmailMessage(policy=SMTP)
    version.set_content(b"Version: 1\r\n", "application", "pgp-encrypted", cte="7bit")
    data.set_content(sealed, "application", "octet-stream", cte="7bit", filename="encrypted.asc", disposition="inline")
    for part in (version, data):
        whole.attach(part)
    return whole.as_bytes()
