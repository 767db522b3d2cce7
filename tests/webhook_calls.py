"""What GitLab and PagerDuty tell by their webhooks."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tests.program import SOON, World

SECRET = "kept between PagerDuty and us"


Document = dict[str, Any]


Headers = dict[str, str]


def signed_by_pagerduty(body: bytes, secret: str = SECRET) -> Headers:
    return {"x-pagerduty-signature": "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def event(
    type_: str,
    key: str,
    at: datetime,
    *,
    name: str = "Ana Reyes",
    id_: str = "01DEVHOOK",
    agent: object = None,
    **data: Any,
) -> Document:
    """An event of webhooks v3."""
    user = {"id": "PLH1HKV", "type": "user_reference", "summary": name, "html_url": "https://x.example/users/PLH1HKV"}
    return {
        "event": {
            "id": id_,
            "event_type": type_,
            "resource_type": "incident",
            "occurred_at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "agent": user if agent is None else agent,
            "client": None,
            "data": {"id": "PGR0VU2", "type": "incident", "status": "acknowledged", "incident_key": key, **data},
        }
    }


def tell(town: World, sender: str, body: bytes, headers: Mapping[str, str]) -> int:
    """The status a hook was answered with."""
    host, _, port = str(town.program.wait_for("ready")[1]["web"]).rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=SOON)
    with contextlib.closing(connection):
        connection.request("POST", f"/hooks/{sender}", body, dict(headers))
        return connection.getresponse().status
