"""Pages by several relays: what the first does not take in a few seconds goes by the next, as the same mail.

The mail system is often the incident. A relay that hangs is left to itself in a thread of its own, and asked nothing
more until it has answered; what it takes late is one more copy under the same Message-ID. A refusal for good counts
only when every relay says so: one that does not know our people, or us, must not keep a page from them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Protocol

import structlog

from panicmail.errors import Blocked, PanicmailError, Permanent, Temporary, Unknown

_log = structlog.get_logger()

#: So long the next relay waits for one before it, in seconds.
PATIENCE = 5.0


class TakesMail(Protocol):
    """A relay, for one thread at a time."""

    def send(self, message: bytes, mail_from: str, recipient: str) -> str: ...
    def close(self) -> None: ...


class RelayRoute:
    """Relays in the order they are tried, for one thread.

    Args:
        relays: At least one.
        failed_over: Called with a relay's name and what it said when a later one took the mail.
        patience: Seconds for each but the last, which has as long as it takes.
    """

    def __init__(
        self,
        relays: Sequence[tuple[str, TakesMail]],
        failed_over: Callable[[str, str], None] = lambda name, why: None,
        patience: float = PATIENCE,
    ) -> None:
        self._relays = [_Hop(name, relay) for name, relay in relays]
        self._failed_over = failed_over
        self._patience = patience

    def send(self, message: bytes, mail_from: str, recipient: str) -> str:
        """Hand over a mail; answers the reply of the relay that took it. Raises as `RelayClient.send`."""
        failures: list[tuple[_Hop, PanicmailError]] = []
        for hop in self._relays:
            is_last = hop is self._relays[-1]
            try:
                answer = hop.send((message, mail_from, recipient), None if is_last else self._patience)
            except PanicmailError as exc:
                failures.append((hop, exc))
                continue
            for failed, why in failures:
                _log.warning("relay.failed_over", relay=failed.name, to=hop.name, reason=str(why))
                self._failed_over(failed.name, str(why))
            return answer
        raise _together([exc for _, exc in failures])

    def close(self) -> None:
        for hop in self._relays:
            hop.close()


class _Hop:
    """One relay, which is asked in a thread of its own when its answer is not waited for to the end."""

    def __init__(self, name: str, relay: TakesMail) -> None:
        self.name = name
        self._relay = relay
        self._under_way: Future[str] | None = None

    def send(self, letter: tuple[bytes, str, str], patience: float | None) -> str:
        if self._under_way is not None and not self._under_way.done():
            raise Temporary("it has not answered for the mail before")
        if patience is None:
            return self._relay.send(*letter)
        answer: Future[str] = Future()
        self._under_way = answer
        threading.Thread(target=self._ask, args=(letter, answer), name=f"relay-{self.name}", daemon=True).start()
        try:
            return answer.result(patience)
        except NotYet:
            raise Unknown(f"no answer within {patience:g} s") from None

    def _ask(self, letter: tuple[bytes, str, str], answer: Future[str]) -> None:
        try:
            answer.set_result(self._relay.send(*letter))
        except BaseException as exc:
            answer.set_exception(exc)

    def close(self) -> None:
        if self._under_way is None or self._under_way.done():
            self._relay.close()


def _together(failures: Sequence[PanicmailError]) -> PanicmailError:
    """What is known of a mail that no relay took: the least sure of what each said."""
    if len(failures) == 1 or all(isinstance(exc, Permanent) for exc in failures):
        return failures[0]
    blocked = [exc for exc in failures if isinstance(exc, Blocked)]
    if len(blocked) == len(failures):
        return failures[0]
    said = "; ".join(map(str, failures))
    return Unknown(said) if any(isinstance(exc, Unknown) for exc in failures) else Temporary(said)
