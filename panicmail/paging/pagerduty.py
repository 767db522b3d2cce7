"""PagerDuty's Events API v2: one alert for each incident and service, which follows the incident.

    trigger      the page; again under the same dedup key it joins the alert that is there
    acknowledge  somebody has it
    resolve      it is closed

Promises and exceptions are those of `push`: when `send` returns, PagerDuty has queued the event (202).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from panicmail import fetch

#: Where events go; `[paging] pagerduty_url` names another one, such as that of the EU.
EVENTS_URL = "https://events.pagerduty.com"
#: PagerDuty cuts a summary here.
_SUMMARY_LIMIT = 1024

Action = Literal["trigger", "acknowledge", "resolve"]
#: By it a PagerDuty service decides how urgent an alert is, and so whether a phone rings at night.
Severity = Literal["critical", "error", "warning", "info"]


class PagerDuty:
    """Sends events, from any thread.

    Args:
        url: Without a path.
        timeout: Seconds for one event altogether.
    """

    def __init__(self, url: str = EVENTS_URL, *, timeout: float = 10.0) -> None:
        self._url = f"{url.rstrip('/')}/v2/enqueue"
        self._timeout = timeout

    def send(
        self,
        key: str,
        action: Action,
        dedup_key: str,
        summary: str,
        link: str = "",
        source: str = "",
        severity: Severity = "critical",
    ) -> str:
        """Hand over one event; answers what PagerDuty said, on one line.

        Args:
            key: The integration key of the service. A secret.
            dedup_key: What makes events one alert.
            source: What this is about: our host name.
        """
        event: dict[str, Any] = {"routing_key": key, "event_action": action, "dedup_key": dedup_key}
        if action == "trigger":
            event |= _alert(summary, link, source, severity)
        answer = fetch.post_json(self._url, event, timeout=self._timeout)
        return f"{answer.status} {' '.join(answer.text.split())[:160]}"


def _alert(summary: str, link: str, source: str, severity: Severity) -> Mapping[str, Any]:
    return {
        "payload": {"summary": summary[:_SUMMARY_LIMIT], "source": source or "panicmail", "severity": severity},
        "client": "panicmail",
        **({"links": [{"href": link, "text": "Acknowledge or pass on"}]} if link else {}),
    }
