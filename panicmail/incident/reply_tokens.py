"""Token addresses, Message-IDs and links: who may say what about which incident.

A token names one incident and one person (or one purpose) and proves, by an HMAC of a key only panicmail has, that
panicmail made it. It is carried in a recipient address, in a Message-ID or in a link, so it is lower-case base32 and
digits with hyphens: mail servers and phones change case. A token says which page is being answered; by itself it
never says who is answering (contract.md 3).

Two keys are live at a time: the newest signs, both verify. The tag is 80 bits; guessing is only possible online.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Purpose(StrEnum):
    """What a token is good for; each has its own HMAC, so one never passes as another."""

    ANSWER = "a"  #: Reply-To of a page: this person answers for this incident
    BOUNCE = "b"  #: envelope sender of a page: delivery reports of this page to this person
    CONVERSATION = "c"  #: the reporter's: Reply-To of their mails, more about the incident; a person's: to the reporter
    DIGEST = "d"  #: a page about several incidents: Reply-To, Message-ID, and with round 1 the envelope sender
    LINK = "l"  #: the page of this incident for this person
    MESSAGE = "m"  #: Message-ID of a mail about this incident to this person
    TEST = "t"  #: a test page to this person: Reply-To, Message-ID, and with round 1 the envelope sender


@dataclass(frozen=True, slots=True)
class Token:
    """What a verified token says."""

    purpose: Purpose
    incident_id: str  #: of TEST the id of the test, of DIGEST that of the digest
    person: str  #: "" is the reporter
    round: int  #: of the page; 0 where the token is not of one page


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A signing key. `kid` is one character of [a-z0-9]."""

    kid: str
    secret: bytes


#: One spelling for each token: no leading zeros in the round.
_FORM = re.compile(r"([abcdlmt])([a-z0-9])-([a-z2-7]{8,26})-(0|[1-9][0-9]{0,5})-([a-z2-7]{16})")


class TokenSigner:
    """Mints and verifies. `keys` newest first; the first one signs."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._keys = tuple(keys)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """Of all keys; the first signs."""
        return tuple(key.secret for key in self._keys)

    def mint(self, purpose: Purpose, incident_id: str, person: str = "", round_: int = 0) -> str:
        key = self._keys[0]
        tag = _tag(key, purpose, incident_id, person, round_)
        return f"{purpose.value}{key.kid}-{incident_id}-{round_}-{tag}"

    def verify(self, text: str, people: Iterable[str]) -> Token | None:
        """The token in `text`, if panicmail made it for one of `people` or for the reporter; else None."""
        form = _FORM.fullmatch(text.strip().lower())
        if form is None or not text.isascii():  # some signs outside ASCII have a lower case within it
            return None
        letter, kid, incident_id, digits, tag = form.groups()
        purpose, round_ = Purpose(letter), int(digits)
        for key in self._keys:
            if key.kid != kid:
                continue
            for person in ("", *people):
                if hmac.compare_digest(_tag(key, purpose, incident_id, person, round_).encode(), tag.encode()):
                    return Token(purpose, incident_id, person, round_)
        return None


def _tag(key: SigningKey, purpose: Purpose, incident_id: str, person: str, round_: int) -> str:
    text = f"panicmail|1|{purpose.value}|{incident_id}|{person}|{round_}"
    return base64.b32encode(hmac.digest(key.secret, text.encode(), "sha256")[:10]).decode().lower()


class Addresses:
    """The addresses that are ours, and the tokens they carry.

    `template` is `[replies] address`: with `{token}` in it, or plain, and then the Message-ID carries the token.
    `also` are those that choose a policy: reports go there too, whatever stands behind their "+".
    """

    def __init__(self, addresses: Sequence[str], template: str, hostname: str, also: Iterable[str] = ()) -> None:
        self._plain = tuple(a.lower() for a in (*addresses, *also))
        self._template = template
        self._hostname = hostname
        before, carries, after = template.lower().partition("{token}")
        self._pattern = re.compile(f"{re.escape(before)}([a-z0-9-]+){re.escape(after)}") if carries else None

    @property
    def carries_token(self) -> bool:
        """False: the reply address is plain, and In-Reply-To is where a token comes back."""
        return self._pattern is not None

    @property
    def panic(self) -> str:
        """Where reports go: the first configured address."""
        return self._plain[0]

    def reply_to(self, token: str) -> str:
        return self._template.replace("{token}", token)

    def message_id(self, token: str) -> str:
        return f"<{token}@{self._hostname}>"

    def is_ours(self, recipient: str) -> bool:
        """Whether mail to `recipient` is accepted: a configured address, a subaddress of one, or a token address."""
        recipient = recipient.lower()
        if recipient in self._plain or self._base(recipient) in self._plain:
            return True
        return bool(self._pattern and (hit := self._pattern.fullmatch(recipient)) and _FORM.fullmatch(hit[1]))

    def is_list(self, name: str) -> bool:
        """Whether a list of this name, its address or its List-Id (RFC 2919), is one of the addresses for reports."""
        name = name.lower()
        return name in self._plain or any(name == address.replace("@", ".") for address in self._plain)

    def token_in(self, recipient: str) -> str | None:
        """The token text a recipient address carries, unverified; None when it is a plain address."""
        recipient = recipient.lower()
        if recipient in self._plain:  # "panic@…" may look like a token where tokens are whole local parts
            return None
        if self._pattern and (hit := self._pattern.fullmatch(recipient)):
            return hit[1]
        local, _, _domain = recipient.rpartition("@")
        return local.partition("+")[2] or None

    def token_of(self, message_id: str) -> str | None:
        """The token text in one of our Message-IDs, unverified; None when it is not of our form.

        Mails that are no pages carry more behind the token, after a dot.
        """
        token = message_id.strip().strip("<>").rpartition("@")[0].lower().partition(".")[0]
        return token if _FORM.fullmatch(token) else None

    @staticmethod
    def _base(recipient: str) -> str:
        local, _, domain = recipient.rpartition("@")
        return f"{local.partition('+')[0]}@{domain}"


@dataclass(frozen=True, slots=True)
class ReplyRoutes:
    """How an answer to a mail of ours finds back: by the address it goes to, or by the Message-ID it names."""

    tokens: TokenSigner
    addresses: Addresses

    def reply_to(self, purpose: Purpose, incident_id: str, person: str = "", round_: int = 0) -> str:
        return self.addresses.reply_to(self.tokens.mint(purpose, incident_id, person, round_))

    def message_id(self, purpose: Purpose, incident_id: str, person: str = "", round_: int = 0) -> str:
        return self.addresses.message_id(self.tokens.mint(purpose, incident_id, person, round_))
