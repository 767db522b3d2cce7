"""The exceptions of panicmail, drawn once.

PanicmailError
├── Temporary        try again later; what we do not recognise is this too
│   ├── Unknown      it may have happened: look before doing it again
│   └── LockedOut    our login or the other side's certificate (Blocked)
├── Permanent        trying again cannot help: park it and tell somebody
│   ├── Denied       for who we are: another token, password or role can help (Blocked)
│   │   └── Forbidden    it knows us, and lets us not do this
│   └── Gone         what all of it is kept in or goes to is not there: a project, a webhook (Blocked)
├── Blocked          beside one of the above: not about this one thing, nothing gets through until somebody mends it
├── ConfigError      the configuration is wrong; every mistake is in it
├── Mistake          a person asked for something that is not there; the text names what is
└── StoreFailed      the database did not take a write, or nobody heard that it did
"""

from __future__ import annotations

from collections.abc import Sequence


class PanicmailError(Exception):
    """Anything panicmail raises on purpose."""


class Blocked(PanicmailError):  # noqa: N818
    """The other side lets nothing of ours through, whatever it is, until somebody mends what is set up wrong."""


class Temporary(PanicmailError):  # noqa: N818 - said aloud as an adjective: a temporary failure
    """It did not work now and may work later.

    `retry_after` is the wait the other side asked for, in seconds; None means it did not say.
    """

    def __init__(self, text: str, *, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Unknown(Temporary):
    """No answer came, or half of one: the other side may have done it. Look before repeating it."""


class LockedOut(Temporary, Blocked):
    """The other side refuses us before it hears what we want, or we cannot trust it: login, TLS."""


class Permanent(PanicmailError):  # noqa: N818
    """The other side said no for good; repeating it cannot help."""


class Denied(Permanent, Blocked):
    """The other side does not know us, or lets us not do it: 401, 403."""


class Forbidden(Denied):
    """The other side knows us and lets us not do this one thing, or nothing: 403."""


class Gone(Permanent, Blocked):
    """What everything of ours is kept in or goes to is not there, or hidden from us: a project, a webhook."""


class Spam(Permanent):
    """GitLab took the text for spam, or wants a captcha solved. Neutral words may pass."""


class ConfigError(PanicmailError):
    """The configuration cannot be used. `mistakes` holds one sentence each: file, key, found, expected."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class Mistake(PanicmailError):  # noqa: N818
    """A wrong word, REF, person or time from a person; the text names the right ones."""


class StoreFailed(PanicmailError):  # noqa: N818
    """The database refused a write, or did not answer: locked, read-only, full, away.

    The transaction did not happen, but for one case: the answer to its COMMIT was lost. So whoever tries again writes
    what may be written twice.
    """
