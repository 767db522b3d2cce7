"""The ways the watch pages by: its own push URLs, without one the people's, and mail through the relay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo

import structlog

from panicmail.config import Config
from panicmail.daemon.watch.send import AlarmRoute
from panicmail.delivery.apprise import AppriseClient
from panicmail.delivery.pagerduty import PagerDutyClient
from panicmail.delivery.push_router import PushRouter
from panicmail.delivery.relay_route import RelayRoute
from panicmail.delivery.smtp_client import relay_client, signing
from panicmail.errors import Permanent
from panicmail.incident.people import Person
from panicmail.incident.push_channel import shown
from panicmail.mail import encryption
from panicmail.mail.compose import ComposedMail

_log = structlog.get_logger()


class AlarmRoutes:
    """What a configuration says about how to page."""

    def __init__(self, config: Config, push: AppriseClient) -> None:
        self._config = config
        self._phones = PushRouter(push, PagerDutyClient(config.paging.pagerduty_url), config.smtp.hostname)
        self.own = [url.get_secret_value() for url in config.watch.push]

    def check(self) -> None:
        """Say aloud what is missing, or is there and cannot work."""
        if not self.own:
            _log.warning(
                "watch.no_route",
                text="watch has no route of its own: [watch] push is empty, so its pages go the way of all others",
            )
        theirs = [url for person in self._config.people for url in self._of(person)]
        for url in self.own or theirs:
            try:
                self._phones.check(url)
            except Permanent as exc:
                _log.error("watch.route_unusable", route=shown(url), reason=f"{exc}")

    def pushes(self, people: Sequence[Person], line: Callable[[tzinfo], str]) -> Iterator[AlarmRoute]:
        """By the watch's own URLs; without one by those of `people`. `line`: what is said in a zone."""
        if self.own:
            zone = people[0].tz if people else UTC  # whose telephones these are, nobody said
            yield from (self._by_push(url, zone, line) for url in self.own)
            return
        for person in people:
            yield from (self._by_push(url, person.tz, line) for url in self._of(person.id))

    def mails(self, people: Sequence[Person], letter: Callable[[Person], ComposedMail]) -> Iterator[AlarmRoute]:
        """To each of `people`. `letter`: written when it is sent, so that one that cannot be holds up nothing."""
        return (self._by_mail(person, letter) for person in people)

    def _of(self, person: str) -> list[str]:
        return [url.get_secret_value() for url in self._config.people[person].push]

    def _by_push(self, url: str, zone: tzinfo, line: Callable[[tzinfo], str]) -> AlarmRoute:
        return AlarmRoute(shown(url), lambda: self._ring(url, line(zone)))

    def _ring(self, url: str, line: str) -> str:
        # What says something else is another alert: a phone does not ring for one that is there.
        about = hashlib.sha256(line.encode()).hexdigest()[:12]
        return self._phones.ring(url, line, f"panicmail-watch-{about}")

    def _by_mail(self, person: Person, letter: Callable[[Person], ComposedMail]) -> AlarmRoute:
        def send() -> str:
            written = encryption.for_reader(letter, person, datetime.now(UTC))[0] or letter(person)
            relay = self._relay()
            try:
                return relay.send(written.message, written.mail_from, written.recipient)
            finally:
                relay.close()

        return AlarmRoute(person.email, send)

    def _relay(self) -> RelayRoute:
        """Connections of its own: they are used in one thread, and seldom."""
        relay, hostname = self._config.relay, self._config.smtp.hostname
        return RelayRoute(
            [(str(url), relay_client(url, hostname, sign=signing(relay))) for url in (relay.url, *relay.fallback)]
        )
