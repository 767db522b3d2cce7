"""Signs mails for the tests, by RFC 6376 and RFC 8617 and with another library than the one that checks."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

#: What mail providers sign.
USUAL = ("from", "to", "subject", "date", "message-id")


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"a test's key").digest())


@dataclass(frozen=True)
class DkimSigner:
    """Signs as one domain with one key."""

    domain: str
    selector: str = "s1"
    algorithm: str = "rsa-sha256"
    bits: int = 2048

    @property
    def record(self) -> tuple[str, list[tuple[str, str]]]:
        """The name and the records that publish the key."""
        return f"{self.selector}._domainkey.{self.domain}", [("TXT", f"v=DKIM1; k={self._kind}; p={self._public()}")]

    @property
    def _kind(self) -> str:
        return self.algorithm.partition("-")[0]

    def _public(self) -> str:
        if self._kind == "ed25519":
            raw = ed25519_key().public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            return base64.b64encode(raw).decode()
        der = (
            rsa_key(self.bits)
            .public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        return base64.b64encode(der).decode()

    def sign(self, raw: bytes, fields: Sequence[str] = USUAL, **tags: object) -> bytes:
        """The mail with a signature on top, relaxed/relaxed.

        Args:
            tags: Of the signature, such as `t=1700000000`, `l=10`, `bh="..."`; in place of those there would be.
        """
        return self._signed(b"DKIM-Signature", raw, fields, {"v": 1, **tags}) + raw

    def seal(self, raw: bytes, results: str, instance: int = 1) -> bytes:
        """The mail with the first set of ARC fields, whose results are `results`."""
        found = f"ARC-Authentication-Results: i={instance}; {results}\r\n".encode()
        message = self._signed(b"ARC-Message-Signature", raw, USUAL, {"i": instance})
        head = {"i": instance, "a": self.algorithm, "cv": "none", "d": self.domain, "s": self.selector, "b": ""}
        text = b" " + "; ".join(f"{key}={value}" for key, value in head.items()).encode()
        covered = _relaxed(found) + _relaxed(message) + _relaxed(b"ARC-Seal:" + text + b"\r\n").removesuffix(b"\r\n")
        return b"ARC-Seal:" + text + self._b(covered) + b"\r\n" + message + found + raw

    def _signed(self, name: bytes, raw: bytes, fields: Sequence[str], tags: dict[str, object]) -> bytes:
        header, _, body = raw.partition(b"\r\n\r\n")
        plain = _body(body)
        length = tags.get("l")
        digest = base64.b64encode(hashlib.sha256(plain[: int(str(length))] if length else plain).digest()).decode()
        said: dict[str, object] = {
            "a": self.algorithm, "c": "relaxed/relaxed", "d": self.domain, "s": self.selector,
            "h": ":".join(fields), "bh": digest, **tags, "b": "",
        }  # fmt: skip
        text = b" " + "; ".join(f"{key}={value}" for key, value in said.items()).encode()
        left = [line for line in re.split(rb"\r\n(?![ \t])", header) if line]
        covered = b""
        for field in fields:
            at = next(
                (n for n in reversed(range(len(left))) if left[n].lower().startswith(field.encode() + b":")), None
            )
            covered += _relaxed(left.pop(at) + b"\r\n") if at is not None else b""
        covered += _relaxed(name + b":" + text + b"\r\n").removesuffix(b"\r\n")
        return name + b":" + text + self._b(covered) + b"\r\n"

    def _b(self, covered: bytes) -> bytes:
        if self._kind == "ed25519":
            return base64.b64encode(ed25519_key().sign(hashlib.sha256(covered).digest()))
        return base64.b64encode(rsa_key(self.bits).sign(covered, padding.PKCS1v15(), hashes.SHA256()))


def _relaxed(line: bytes) -> bytes:
    name, _, value = line.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip()
    return name.lower().strip() + b":" + value + b"\r\n"


def _body(body: bytes) -> bytes:
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)
