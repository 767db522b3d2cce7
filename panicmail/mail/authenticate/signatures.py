"""The signatures on a mail: DKIM (RFC 6376, RFC 8301, RFC 8463) and the seals of forwarders, ARC (RFC 8617)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dkim
from dkim.util import InvalidTagValueList, parse_tag_value

from panicmail.mail.authenticate.dns_lookups import FindsRecords, Unanswered
from panicmail.mail.parse.normalize import NormalizedMail

#: Of one mail no more signatures are checked, and none in a field longer than this, in octets.
MOST, LONGEST = 10, 16_384
#: A signature older than this proves what it was made for, and no acknowledgement.
FRESH = timedelta(hours=48)
#: RSA keys of fewer bits prove nothing (RFC 8301).
_BITS = 1024
#: Algorithms that prove something; RFC 8301 took rsa-sha1 away.
_STRONG = frozenset({b"rsa-sha256", b"ed25519-sha256"})
#: dkimpy says in its log what it was given: hostile octets.
_SILENT = logging.Logger("dkim", logging.CRITICAL + 1)
_SILENT.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One DKIM signature, checked."""

    domain: str  #: `d=`, lower case
    passed: bool | None  #: None: it says nothing, for its key could not be asked for, or it is too weak
    unanswered: bool = False  #: DNS did not answer for its key
    why: str = ""  #: why it did not pass
    is_whole: bool = False  #: it covers the whole body, and From, Subject and Date
    is_fresh: bool = False  #: it was made within `FRESH`, as far as it says


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What the last of the forwarders that sealed a mail found, as its seal holds it."""

    sealer: str  #: `d=` of its seal, lower case
    results: str  #: its ARC-Authentication-Results, without the instance


def check(mail: NormalizedMail, related: Collection[str], lookups: FindsRecords, now: datetime) -> list[Signature]:
    """The signatures by one of some domains, in the order of the mail; those by others are not looked at.

    Args:
        mail: As every reader gets it, so that what is proved is what is read.
        related: Domains, or those above them: a signature of a subdomain counts as one of theirs.
    """
    found = []
    for index, tags in _wanted(mail, related):
        found.append(_checked(mail, index, tags, lookups, now))
        if len(found) == MOST:
            break
    return found


def signers(mail: NormalizedMail) -> Iterator[str]:
    """The domains that signed it, as its signatures say; nothing is checked."""
    for _, tags in _signed(mail):
        yield _domain(tags)


def _signed(mail: NormalizedMail) -> Iterator[tuple[int, dict[bytes, bytes]]]:
    for index, value in enumerate(mail.all("dkim-signature")[: 10 * MOST]):
        if len(value) > LONGEST:
            continue
        try:
            yield index, parse_tag_value(value)
        except InvalidTagValueList:
            continue


def _wanted(mail: NormalizedMail, related: Collection[str]) -> Iterator[tuple[int, dict[bytes, bytes]]]:
    for index, tags in _signed(mail):
        domain = _domain(tags)
        if any(domain == one or domain.endswith(f".{one}") or one.endswith(f".{domain}") for one in related if domain):
            yield index, tags


def _domain(tags: dict[bytes, bytes]) -> str:
    return tags.get(b"d", b"").decode("ascii", "replace").strip().lower().rstrip(".")


def _checked(
    mail: NormalizedMail, index: int, tags: dict[bytes, bytes], lookups: FindsRecords, now: datetime
) -> Signature:
    domain = _domain(tags)
    if tags.get(b"a", b"").lower() not in _STRONG:
        return Signature(domain=domain, passed=None, why="its algorithm proves nothing any more")
    try:
        passed = dkim.DKIM(mail.octets, logger=_SILENT, minkey=_BITS).verify(index, dnsfunc=_keys(lookups))
        why = "" if passed else "it does not fit, or there is no such key"
    except Unanswered as error:
        return Signature(domain=domain, passed=None, unanswered=True, why=str(error))
    except dkim.DKIMException as error:
        passed, why = False, str(error)[:120]
    except Exception as error:  # hostile octets in a library that was not written for them
        passed, why = False, f"it could not be checked: {type(error).__name__}"
    covered = {name.strip() for name in tags.get(b"h", b"").lower().split(b":")}
    return Signature(
        domain=domain,
        passed=passed,
        why=why,
        is_whole=b"l" not in tags and {b"from", b"subject", b"date"} <= covered,
        is_fresh=_is_fresh(tags, now),
    )


def _is_fresh(tags: dict[bytes, bytes], now: datetime) -> bool:
    try:
        signed_at = datetime.fromtimestamp(int(tags[b"t"]), UTC) if b"t" in tags else now
        over_at = datetime.fromtimestamp(int(tags[b"x"]), UTC) if b"x" in tags else now
    except (ValueError, OverflowError, OSError):
        return False
    return now - signed_at <= FRESH and now - over_at <= timedelta(minutes=5)


class _Keys:
    """What dkimpy asks for keys."""

    def __init__(self, lookups: FindsRecords) -> None:
        self._lookups = lookups

    def __call__(self, name: bytes | str, timeout: float = 5) -> bytes:
        """The key at a name; b"" where there is none."""
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
        records: Sequence[bytes] = self._lookups.find(text, "TXT")
        return next((record for record in records if b"p=" in record), b"")


def _keys(lookups: FindsRecords) -> _Keys:
    return _Keys(lookups)


def seal_of(mail: NormalizedMail, sealers: Collection[str], lookups: FindsRecords) -> Seal | None:
    """The last seal of a whole chain of seals, if it is by one of `sealers`; None otherwise.

    Raises:
        Unanswered: DNS did not answer for a key.
    """
    seals = mail.all("arc-seal")
    if not sealers or not 0 < len(seals) <= MOST or max(map(len, seals)) > LONGEST:
        return None
    try:
        state, results, _ = dkim.ARC(mail.octets, logger=_SILENT, minkey=_BITS).verify(dnsfunc=_keys(lookups))
    except Unanswered:
        raise
    except Exception:  # as above; what cannot be read proves nothing
        return None
    if state != dkim.CV_Pass or not results:
        return None
    sealer = results[0]["as-domain"].decode("ascii", "replace").lower()
    if sealer not in sealers:
        return None
    found = results[0]["aar-value"].decode("ascii", "replace")
    return Seal(sealer=sealer, results=found.partition(";")[2])
