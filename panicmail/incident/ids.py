"""Names for mails and incidents: made before the first write, spoken on the telephone.

A mail's id is 128 random bits. The incident's id is its first 80 bits and the REF derives from it too, so the 250 can
already say the REF under which everything about this mail will be found.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

#: Speakable: no 0 and O, no 1, I and L, no U.
REF_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
#: Five characters tell 24 million incidents apart; a taken REF is lengthened, at most to the longest.
REF_LENGTH, REF_LONGEST = 5, 8


def new_mail_id() -> str:
    """128 random bits as 26 characters of lower-case base32."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def incident_id(mail_id: str) -> str:
    """The id of the incident this mail opens, if it opens one: 16 characters, 80 bits."""
    return mail_id[:16]


def ref(mail_id: str, length: int = REF_LENGTH) -> str:
    """The REF of a mail. A longer one begins with the shorter."""
    number = int.from_bytes(hashlib.sha256(mail_id.encode()).digest()[:8])
    letters = []
    for _ in range(length):
        number, digit = divmod(number, len(REF_ALPHABET))
        letters.append(REF_ALPHABET[digit])
    return "".join(letters)


def read_ref(text: str) -> str:
    """A REF as somebody typed or said it: case, blanks and brackets do not matter."""
    return "".join(c for c in text.upper() if c.isalnum())
