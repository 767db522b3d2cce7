"""PagerDuty's Events API v2: one alert for each incident and service, which follows the incident.

    trigger      the page; again under the same dedup key it joins the alert that is there
    acknowledge  somebody has it
    resolve      it is closed

Promises and exceptions are those of `push`: when `send` returns, PagerDuty has queued the event (202).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from panicmail.delivery import http_client

#: Where events go; `[paging] pagerduty_url` names another one, such as that of the EU.
EVENTS_URL = "https://events.pagerduty.com"
#: PagerDuty cuts a summary here.
_SUMMARY_LIMIT = 1024

Action = Literal["trigger", "acknowledge", "resolve"]
#: By it a PagerDuty service decides how urgent an alert is, and so whether a phone rings at night.
Severity = Literal["critical", "error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Event:
    """What PagerDuty is told about one alert."""

    action: Action
    dedup_key: str  #: what makes events one alert
    summary: str
    link: str = ""  #: shown with a trigger
    source: str = ""  #: what it is about: our host name
    severity: Severity = "critical"


class PagerDutyClient:
    """Sends events, from any thread.

    Args:
        url: Without a path.
        timeout: Seconds for one event altogether.
    """

    def __init__(self, url: str = EVENTS_URL, *, timeout: float = 10.0) -> None:
        self._url = f"{url.rstrip('/')}/v2/enqueue"
        self._timeout = timeout

    def send(self, key: str, event: Event) -> str:
        """Hand over one event; answers what PagerDuty said, on one line.

        Args:
            key: The integration key of the service. A secret.
        """
        body: dict[str, Any] = {"routing_key": key, "event_action": event.action, "dedup_key": event.dedup_key}
        if event.action == "trigger":
            body |= _alert(event)
        answer = http_client.post_json(self._url, body, timeout=self._timeout)
        return f"{answer.status} {' '.join(answer.text.split())[:160]}"


def _alert(event: Event) -> Mapping[str, Any]:
    summary, source = event.summary[:_SUMMARY_LIMIT], event.source or "panicmail"
    return {
        "payload": {"summary": summary, "source": source, "severity": event.severity},
        "client": "panicmail",
        **({"links": [{"href": event.link, "text": "Acknowledge or pass on"}]} if event.link else {}),
    }
