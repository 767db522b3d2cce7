"""Phones: one line to one push URL, by whichever service it names."""

from __future__ import annotations

from panicmail.channels import channel
from panicmail.paging.pagerduty import Event, PagerDuty
from panicmail.paging.push import Push


class Phones:
    """Rings phones, from any thread. Promises and exceptions are those of `push`.

    Args:
        source: Who calls, for PagerDuty: our host name.
    """

    def __init__(self, push: Push, pagerduty: PagerDuty, source: str) -> None:
        self._push = push
        self._pagerduty = pagerduty
        self._source = source

    def check(self, url: str) -> None:
        """Raise `Permanent` when no service knows such a URL; nothing is sent."""
        if channel(url).pagerduty_key is None:
            self._push.check(url)

    def ring(self, url: str, line: str, about: str) -> str:
        """Say `line`; `about` makes repeats one where the service keeps incidents of its own."""
        key = channel(url).pagerduty_key
        if key is None:
            return self._push.send(url, line)
        return self._pagerduty.send(key, Event("trigger", about, line, source=self._source))
