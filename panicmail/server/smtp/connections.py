"""Who is connected, and who has to leave for whom.

Nobody who is connected keeps a newcomer out: at a limit whoever has been idle for longest without a transaction is told
421 and closed, and the newcomer is served. Only when everybody is in the midst of something the newcomer is told 421.
Mail servers of ours stand under no address's limit, and a part of all connections is for them alone.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

import structlog

from panicmail.server.smtp import reply_table
from panicmail.server.smtp.reply_table import Reply

_log = structlog.get_logger()

#: So many connections at most, however many descriptors there are.
MOST = 1000
#: Descriptors that are left for everything else: the database, the relay, GitLab, phones, readers, web pages.
RESERVED = 128
#: The log says at most this often, in seconds, how many were sent away.
TELL_EVERY = 60.0
#: Of each connection: its socket, and the file of a large mail on its way in.
DESCRIPTORS_EACH = 2
#: However few descriptors there are, so many are served.
LEAST = 16


class Connected(Protocol):
    """A session, as far as it matters here."""

    peer: str

    @property
    def idle_since(self) -> float | None:
        """Since when it waits for a command without a transaction, by the loop's clock; None: it does not."""

    def leave(self, farewell: Reply) -> None: ...


Session = TypeVar("Session", bound=Connected)


def allowed() -> int:
    """How many connections this process has descriptors for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(LEAST, min(MOST, (soft - RESERVED) // DESCRIPTORS_EACH))


class Connections(Generic[Session]):
    """The sessions of a listener.

    Args:
        most: So many at a time, at least one.
        most_of_a_peer: So many of one peer address.
        is_trusted: Whether that address is a mail server of ours; an eighth, one at least, is for such servers alone.
            None: there are none.
    """

    def __init__(self, most: int, most_of_a_peer: int, is_trusted: Callable[[str], bool] | None = None) -> None:
        self._most, self._most_of_a_peer = most, most_of_a_peer
        self._most_of_strangers = most if is_trusted is None else most - max(1, most // 8)
        self._is_trusted = is_trusted or (lambda peer: False)
        self._sessions: dict[Session, bool] = {}  #: session -> whether it was told to leave
        self._strangers: set[Session] = set()  #: those that are of no mail server of ours
        self._sent_away, self._tell_at = 0, 0.0  #: since the log said so last, and when it may again

    def admit(self, session: Session) -> bool:
        """Take a new session in; False: there is no room, and it is to be told so. It is listed all the same."""
        self._sessions[session] = False
        if not self._is_trusted(session.peer):
            self._strangers.add(session)
        has_room = self._has_room_for(session)
        self._sessions[session] = not has_room
        return has_room

    def _has_room_for(self, session: Session) -> bool:
        staying = [each for each, leaves in self._sessions.items() if not leaves]
        strangers = [each for each in staying if each in self._strangers]
        if session in self._strangers:
            theirs = [each for each in strangers if each.peer == session.peer]
            if len(theirs) > self._most_of_a_peer:
                return self._make_room(session, theirs, "peer")
            if len(strangers) > self._most_of_strangers:
                return self._make_room_among(session, strangers)
        if len(staying) <= self._most:
            return True
        return self._make_room_among(session, strangers) or self._make_room_among(session, staying)

    def _make_room_among(self, newcomer: Session, among: list[Session]) -> bool:
        """First of the address that has most."""
        counts = Counter(each.peer for each in among)
        highest = max(counts.values(), default=0)
        busiest = [each for each in among if counts[each.peer] == highest]
        return self._make_room(newcomer, busiest, "all") or self._make_room(newcomer, among, "all")

    def _make_room(self, newcomer: Session, among: list[Session], limit: str) -> bool:
        idle = [(each.idle_since, each) for each in among if each is not newcomer and each.idle_since is not None]
        if not idle:
            return False
        _, longest = min(idle, key=lambda pair: pair[0])
        self._sessions[longest] = True
        self._tell(longest.peer, limit)
        longest.leave(reply_table.TOO_MANY_CONNECTIONS)
        return True

    def _tell(self, peer: str, limit: str) -> None:
        """Say in the log that somebody was sent away, once a minute."""
        self._sent_away += 1
        if (now := time.monotonic()) >= self._tell_at:
            _log.info("smtp.made_room", peer=peer, limit=limit, connections=self._sent_away)
            self._sent_away, self._tell_at = 0, now + TELL_EVERY

    def discard(self, session: Session) -> None:
        """It is gone."""
        self._sessions.pop(session, None)
        self._strangers.discard(session)

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._sessions))

    def __len__(self) -> int:
        return len(self._sessions)
