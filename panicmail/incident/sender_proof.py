"""Who wrote a mail: what is proved, what it may do, and the words for it.

A proof is of the domain in the From address, by one of four: a DKIM signature of that domain, a server that its SPF
record names, a forwarder we trust that says so (ARC), or our own mail server in front (Authentication-Results). What
proves a *report* follows the domain's own DMARC record (RFC 7489, relaxed or strict); what an *acknowledgement* rests
on is stricter (`SenderProof.acts`): the very domain of the From address, by a signature or by our own mail server.

`in_words` is the one place that says it: pages, the issue, link pages and news call it.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class SenderMethod(StrEnum):
    """How senders are checked: `[authentication] method`."""

    VERIFY = "verify"  #: DKIM, SPF, DMARC and ARC, by DNS
    TRUSTED = "trusted"  #: Authentication-Results of our own mail server in front
    NONE = "none"  #: not at all


class ProofState(StrEnum):
    """How far the proof of a sender has come."""

    PROVED = "proved"
    UNPROVED = "unproved"  #: there is nothing to prove them by
    FAILED = "failed"  #: DMARC failed where the domain asks to refuse, or its own signature does not fit
    UNKNOWN = "unknown"  #: it could not be checked: DNS did not answer
    PENDING = "pending"  #: it is not checked yet
    OFF = "off"  #: senders are not checked here


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderProof:
    """What is known about who wrote one mail."""

    state: ProofState = ProofState.PENDING
    domain: str = ""  #: of the From address, lower case, as in DNS; "" where From names none
    by: str = ""  #: of what is proved: "dkim", "spf", "arc" or "results"
    signer: str = ""  #: the domain that signed, the forwarder, or our mail server; "" for the rest
    acts: bool = False  #: strict enough for an acknowledgement, and for words to the reporter
    why: str = ""  #: what was found, one line for people

    @property
    def may_pass(self) -> bool:
        """Whether nothing speaks against it. What is not checked, or cannot be, speaks neither way."""
        return self.state is not ProofState.FAILED

    def proves(self, domain: str) -> bool:
        """Whether an acknowledgement may rest on it for somebody whose mail is proved by `domain`."""
        return self.state is ProofState.PROVED and self.acts and self.domain == domain.lower()


#: What holds while senders are not checked.
NOT_CHECKED = SenderProof(state=ProofState.OFF)


def to_json(proof: SenderProof) -> str:
    return json.dumps(asdict(proof), separators=(",", ":"))


def from_json(text: str | None, method: SenderMethod) -> SenderProof:
    """A proof as the store has it; of a mail that has none what holds by `method`."""
    if text is None:
        return NOT_CHECKED if method is SenderMethod.NONE else SenderProof()
    found = json.loads(text)
    return SenderProof(**{**found, "state": ProofState(found["state"])})


def sender_line(proof: SenderProof, *, is_first: bool = False) -> str:
    """The line of a page about who sent the report.

    Args:
        is_first: No mail from this address came before.
    """
    return f"Sender: {in_words(proof)}{'; the first report from this address' if is_first else ''}"


def in_words(proof: SenderProof) -> str:
    """What was proved about a sender, in words that follow "Sender: "."""
    match proof.state:
        case ProofState.PROVED:
            return f"proved, {_by(proof)}"
        case ProofState.UNPROVED:
            return f"not proved ({proof.why or 'no signature'})"
        case ProofState.FAILED:
            return "could not be proved (changed on its way, or forged)"
        case ProofState.UNKNOWN:
            return "could not be checked (DNS does not answer)"
        case ProofState.PENDING:
            return "not checked yet"
        case ProofState.OFF:
            return "not proved (senders are not checked)"


def _by(proof: SenderProof) -> str:
    match proof.by:
        case "dkim":
            return f"signed by {proof.signer}"
        case "spf":
            return f"sent by a server of {proof.domain}"
        case "arc":
            return f"{proof.domain}, as {proof.signer} found before passing it on"
        case _:
            return f"{proof.domain}, as {proof.signer} found"


# -- domains that look like one of ours -----------------------------------------------------------------------------

#: Letters of other scripts, and digits, that are read as a Latin letter; what NFKD does not fold.
_READ_AS = str.maketrans(
    {
        **dict(zip("аеорсухіјѕԁһҏԛԝѵӏкмтвнг", "aeopcyxijsdhpqwvlkmtbhr", strict=True)),
        **dict(zip("αεονρτυχικωηγ", "aeovptuxikwny", strict=True)),
        **dict(zip("ıłøđħŧßɑɡɩʟո", "ilodhtbagiln", strict=True)),
        **dict(zip("0135", "oles", strict=True)),
        "-": "",
        "_": "",
    }
)
#: Pairs of letters that are read as one.
_PAIRS = (("rn", "m"), ("vv", "w"), ("cl", "d"))
#: A name shorter than this has too many neighbours for one letter to mean anything.
_LEAST = 5


def look_alike(address: str, ours: Collection[str]) -> str:
    """Of `ours` the domain that the domain of `address` is made to look like; "" when it is none or one of them.

    Compared is how a name reads: letters of other scripts as Latin ones, one letter off, another ending, or ours as a
    part of somebody else's.

    Args:
        ours: Domains as in DNS, lower case.
    """
    domain = shown_domain(address.rpartition("@")[2])
    known = sorted(ours)
    if not domain or any(domain == one or domain.endswith(f".{one}") for one in map(shown_domain, known)):
        return ""
    return next((one for one in known if _reads_like(domain, shown_domain(one))), "")


def _reads_like(domain: str, ours: str) -> bool:
    name, its_name = (one.rpartition(".")[0].rpartition(".")[2] for one in (ours, domain))
    if not name or not its_name:
        return False
    if ours in domain:  # example.com.evil.net, example.com-login.net
        return True
    read, its_read = _skeleton(name), _skeleton(its_name)
    if read == its_read:  # of another script, or the same name with another ending
        return len(name) > 2
    if ours.replace(".", "-") in domain or _skeleton(ours.replace(".", "")) == its_read:
        return True
    return len(read) >= _LEAST and _is_one_off(read, its_read)


def _skeleton(name: str) -> str:
    """How a name reads at a glance."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    plain = plain.translate(_READ_AS)
    for pair, letter in _PAIRS:
        plain = plain.replace(pair, letter)
    return plain


def _is_one_off(one: str, other: str) -> bool:
    """Whether one letter is missing, too many, another one, or changed places with its neighbour."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[start:], other[start:]
    swapped = len(a) > 1 and len(b) > 1 and a[:2] == b[1::-1] and a[2:] == b[2:]
    return swapped or a[1:] == b[1:] or a[1:] == b or a == b[1:]


def shown_domain(domain: str) -> str:
    """A domain with its internationalised labels (xn--) as they are shown; what cannot be read stays."""
    return ".".join(map(_shown_label, domain.lower().rstrip(".").split(".")))


def _shown_label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label


def domains_of(addresses: Iterable[str]) -> frozenset[str]:
    """The domains of addresses, lower case; what is no address is left out."""
    return frozenset(found for address in addresses if (found := address.rpartition("@")[2].lower()))
