"""A list of the API, page by page, with the headers that lead to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from panicmail.sandbox import parameters
from panicmail.sandbox.http_request import SandboxAnswer, SandboxRequest
from panicmail.sandbox.issue_requests import Instance


def paginate(instance: Instance, call: SandboxRequest, items: Sequence[Any]) -> SandboxAnswer:
    """One page of `items`, with the headers that lead to the others."""
    page, per_page = parameters.number(call.params, "page", 1), min(parameters.number(call.params, "per_page", 20), 100)
    pages = -(-len(items) // per_page)
    numbers = {"prev": page - 1, "next": page + 1, "first": 1, "last": max(pages, 1)}
    if page <= 1:
        del numbers["prev"]
    if page >= pages:
        del numbers["next"]
    links = ", ".join(
        f'<{_page_url(instance, call, number, per_page)}>; rel="{name}"' for name, number in numbers.items()
    )
    headers = {
        "X-Page": str(page),
        "X-Per-Page": str(per_page),
        "X-Prev-Page": str(numbers.get("prev", "")),
        "X-Next-Page": str(numbers.get("next", "")),
        "X-Total": str(len(items)),
        "X-Total-Pages": str(pages),
        "Link": links,
    }
    return SandboxAnswer(body=list(items[(page - 1) * per_page : page * per_page]), headers=headers)


def _page_url(instance: Instance, call: SandboxRequest, page: int, per_page: int) -> str:
    rest = [(name, value) for name, value in call.query if name not in ("page", "per_page")]
    return f"{instance.url}{call.path}?{urlencode([*rest, ('page', page), ('per_page', per_page)])}"
