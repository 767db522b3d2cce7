"""What a domain says in DNS about mail in its name: its servers (SPF, RFC 7208) and its policy (DMARC, RFC 7489)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import spf
from publicsuffixlist import PublicSuffixList

from panicmail.mail.authenticate.dns_lookups import FindsRecords, Unanswered

#: A chain of aliases longer than this leads nowhere.
_ALIASES = 10
_TAG = re.compile(r"\s*([a-z]{1,10})\s*=\s*([^;]*)", re.I)


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=True)


def organisation(domain: str) -> str:
    """The organisational domain (RFC 7489 3.2): one label below the public suffix; the domain itself if it is one."""
    return str(_suffixes().privatesuffix(domain) or domain)


def is_aligned(domain: str, with_domain: str, *, strictly: bool) -> bool:
    """Whether what is proved for one domain is proved for the From domain."""
    if domain == with_domain:
        return bool(domain)
    return bool(domain) and not strictly and organisation(domain) == organisation(with_domain)


@dataclass(frozen=True, slots=True, kw_only=True)
class DmarcPolicy:
    """The record that holds for a From domain."""

    refuses: bool  #: it asks to refuse or to set aside what fails
    strict_dkim: bool = False
    strict_spf: bool = False


def dmarc_of(domain: str, lookups: FindsRecords) -> DmarcPolicy | None:
    """The policy for mail from `domain`; None when there is none, or none that can be read.

    Raises:
        Unanswered: DNS did not answer.
    """
    tags = _record(f"_dmarc.{domain}", lookups)
    above = organisation(domain)
    is_own = tags is not None or above == domain
    if tags is None and not is_own:
        tags = _record(f"_dmarc.{above}", lookups)
    if tags is None:
        return None
    asked = tags.get("p", "none") if is_own else tags.get("sp", tags.get("p", "none"))
    return DmarcPolicy(
        refuses=asked in {"quarantine", "reject"},
        strict_dkim=tags.get("adkim") == "s",
        strict_spf=tags.get("aspf") == "s",
    )


def _record(name: str, lookups: FindsRecords) -> dict[str, str] | None:
    """The tags of the one DMARC record at a name; of several none counts (RFC 7489 6.6.3)."""
    texts: Sequence[bytes] = lookups.find(name, "TXT")
    records = [text for text in texts if re.match(rb"v\s*=\s*DMARC1\s*(?:;|\Z)", text)]
    if len(records) != 1:
        return None
    plain = records[0][:2_000].decode("ascii", "replace").lower()
    return {match[1]: match[2].strip() for piece in plain.split(";") if (match := _TAG.fullmatch(piece))}


class SpfQuery(spf.query):  # type: ignore[misc]
    """pyspf over our own look-ups: with one deadline for all of a mail, and aliases followed."""

    def __init__(self, peer: str, mail_from: str, helo: str, lookups: FindsRecords) -> None:
        super().__init__(i=peer, s=mail_from, h=helo)
        self._lookups = lookups

    def dns(self, name: Any, qtype: str, cnames: Any = None, ignore_void: bool = False) -> list[Any]:
        """The records of a name; [] where there are none. As pyspf has it: too many empty answers are an error."""
        plain = str(name).rstrip(".").lower()
        is_name = bool(plain) and all(0 < len(label) < 64 for label in plain.split("."))
        found = list(self._lookups.find(plain, qtype)) if is_name else []
        if qtype == "TXT":
            found = [(text,) for text in found]
        if not found and is_name and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError(f"Void lookup limit of {spf.MAX_VOID_LOOKUPS} exceeded")
        return found

    def validated_ptrs(self) -> list[str]:
        """The names of the peer that lead back to it; one for which DNS has no answer is passed over (5.5)."""
        return [name for name in self._or_none(self.dns_ptr, self.i)[: spf.MAX_PTR] if self._leads_back(name)]

    def _leads_back(self, name: str) -> bool:
        return bool(self.cidrmatch(self._or_none(self.dns_a, name, self.A), self.cidrmax))

    @staticmethod
    def _or_none(find: Callable[..., list[str]], *asked: str) -> list[str]:
        try:
            return find(*asked)
        except Unanswered:
            return []


def spf_domain(peer: str, mail_from: str, helo: str, lookups: FindsRecords) -> str:
    """The domain that named `peer` as a server of its mail, lower case; "" when none did.

    Raises:
        Unanswered: DNS did not answer.
    """
    query = SpfQuery(peer, mail_from, helo, lookups)
    return str(query.o).lower() if query.check()[0] == "pass" else ""
