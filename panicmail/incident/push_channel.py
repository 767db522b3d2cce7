"""The ways to a person's phone beside mail: the push URLs, what may be told of them, and what may be said over each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

#: Group chats: whoever is in the room reads along.
_ROOMS = frozenset(
    {
        "slack",
        "discord",
        "msteams",
        "workflows",
        "mmost",
        "mmosts",
        "rocket",
        "rockets",
        "matrix",
        "matrixs",
        "gchat",
        "zulip",
        "wxteams",
        "ryver",
        "flock",
        "mumble",
        "guilded",
        "revolt",
        "lark",
        "feishu",
        "dingtalk",
        "wecombot",
        "twist",
        "google",
    }
)
#: How ids of channels to PagerDuty begin: it keeps incidents of its own, which follow ours.
PAGERDUTY = "pagerduty"
_PAGERDUTY = f"{PAGERDUTY}:"
#: Services that people run on a host of their own. Elsewhere what stands in the host's place is often a key.
_HOSTED = re.compile(r"(ntfy|json|xml|form|gotify|mmost|matrix|rocket|apprise|signal|nctalk|ncloud|hassio)s?\Z")
#: What calls people in a chat: "@all", "<!channel>", "<@U02…>".
_MENTION = re.compile(r"<(?=[!@#])|(?<!\w)@(?=\w)")


@dataclass(frozen=True, slots=True)
class PushChannel:
    """One push URL of one person."""

    id: str  #: derived from the URL, and says nothing about it
    url: str = field(repr=False)  #: an Apprise URL, or "pagerduty:KEY"; all of it is secret
    is_private: bool  #: False: others may read along, so nothing that acts is sent there

    @property
    def pagerduty_key(self) -> str | None:
        """The integration key of PagerDuty's Events API v2; None when it is another service."""
        return self.url.removeprefix(_PAGERDUTY) if self.url.startswith(_PAGERDUTY) else None

    @property
    def shown(self) -> str:
        """All of it that may be told: "ntfys://ntfy.example.com/…", or "PagerDuty"."""
        return "PagerDuty" if self.pagerduty_key is not None else shown(self.url)


def channel(url: str) -> PushChannel:
    """The channel of a push URL."""
    digest = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    kind = PAGERDUTY if url.startswith(_PAGERDUTY) else "push"
    return PushChannel(f"{kind}-{digest}", url, _is_private(url))


def shown(url: str) -> str:
    """As much of an Apprise URL as may be told: the scheme, and the host if it is one: `ntfys://ntfy.example.com/…`."""
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname or ""
    except ValueError:  # brackets that hold no address
        return "?://…"
    # A host without a dot may be a topic: ntfy://ana-secret.
    is_host = "." in host and _HOSTED.match(scheme)
    return f"{scheme}://{host}/…" if is_host else f"{scheme or '?'}://…"


def asked_in_the_clear(url: str) -> str:
    """The host of a service on a host of its own that is asked without TLS (ntfy:// for ntfys://); else ""."""
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname or ""
    except ValueError:
        return ""
    is_open = _HOSTED.match(scheme) and not scheme.endswith("s") and ("." in host or ":" in host)
    return host if is_open else ""


def in_words(record: str, channels: Iterable[PushChannel]) -> str:
    """A text of our records as people may read it: what may be told of these channels in place of their ids."""
    for each in channels:
        record = record.replace(each.id, each.shown)
    return record


def inert(text: str) -> str:
    """The text on one line, with blanks in what would call people in a chat. It becomes longer; twice is as once."""
    return _MENTION.sub(lambda match: f"{match[0]} ", " ".join(text.split()))


def _is_private(url: str) -> bool:
    """Whether only its person reads it. A topic of ntfy without credentials is anybody's who guesses its name."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme in {"ntfy", "ntfys"}:
        asked = parse_qs(parts.query)
        return bool(parts.username or parts.password or "auth" in asked or "token" in asked)
    return parts.scheme not in _ROOMS
