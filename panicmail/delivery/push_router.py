"""Phones: one line to one push URL, by whichever service it names."""

from __future__ import annotations

from collections.abc import Iterator

from panicmail.config import Config
from panicmail.delivery.apprise import AppriseClient
from panicmail.delivery.pagerduty import Event, PagerDutyClient
from panicmail.errors import ConfigError, Permanent
from panicmail.incident.push_channel import channel


def expect_usable(config: Config) -> None:
    """Refuse a configuration with push URLs that no service will ever understand; nobody is asked.

    Raises:
        ConfigError: With each of them, by its place.
    """
    push, mistakes = AppriseClient(), []
    for place, url in push_urls(config):
        try:
            _check(push, url)
        except Permanent as exc:
            mistakes.append(f"{config.path or 'environment'}: {place}: found {exc}")
    if mistakes:
        raise ConfigError(mistakes)


def push_urls(config: Config) -> Iterator[tuple[str, str]]:
    """Every push URL, with its place."""
    tables = [("watch", config.watch.push), *((f"people.{key}", person.push) for key, person in config.people.items())]
    for table, urls in tables:
        yield from ((f"{table}.push[{number}]", url.get_secret_value()) for number, url in enumerate(urls))


def _check(push: AppriseClient, url: str) -> None:
    if channel(url).pagerduty_key is None:
        push.check(url)


class PushRouter:
    """Rings phones, from any thread. Promises and exceptions are those of `push`.

    Args:
        source: Who calls, for PagerDuty: our host name.
    """

    def __init__(self, push: AppriseClient, pagerduty: PagerDutyClient, source: str) -> None:
        self._push = push
        self._pagerduty = pagerduty
        self._source = source

    def check(self, url: str) -> None:
        """Raise `Permanent` when no service knows such a URL; nothing is sent."""
        _check(self._push, url)

    def ring(self, url: str, line: str, about: str) -> str:
        """Say `line`; `about` makes repeats one where the service keeps incidents of its own."""
        key = channel(url).pagerduty_key
        if key is None:
            return self._push.send(url, line)
        return self._pagerduty.send(key, Event("trigger", about, line, source=self._source))
