"""A signature under what leaves panicmail as evidence: Ed25519, by a key that follows from that of the tokens.

So there is no further secret to keep, and a copy of the installation can still tell its own. Anybody else verifies by
the public key, whose fingerprint stands on the incident's timeline.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def sign(manifest: bytes, secret: bytes) -> bytes:
    return _private(secret).sign(manifest)


def public_pem(secret: bytes) -> bytes:
    pem = serialization.Encoding.PEM
    return _private(secret).public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(pem: bytes) -> str:
    """SHA-256 of the public key, as `openssl pkey -pubin -outform DER | sha256sum` has it."""
    der, info = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(serialization.load_pem_public_key(pem).public_bytes(der, info)).hexdigest()


def is_right(manifest: bytes, signature: bytes, pem: bytes) -> bool:
    try:
        key = serialization.load_pem_public_key(pem)
        if not isinstance(key, Ed25519PublicKey):
            return False
        key.verify(signature, manifest)
    except (ValueError, InvalidSignature):
        return False
    return True


def _private(secret: bytes) -> Ed25519PrivateKey:
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"panicmail|manifest|1").derive(secret)
    return Ed25519PrivateKey.from_private_bytes(derived)
