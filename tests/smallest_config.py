"""The smallest configuration that works."""

from __future__ import annotations

SMALLEST = """\
[smtp]
listen = ["0.0.0.0:25"]
addresses = ["panic@example.com"]

[gitlab]
url = "https://gitlab.example.com"
project = "security/incidents"
token_file = "gitlab.token"

[relay]
url = "smtp+starttls://user:pass%40word@relay.example.com:587"

[people.ana]
email = "Ana.Reyes@example.com"
push = ["ntfys://ntfy.example.com/ana-secret"]

[people.max]
email = "max@example.com"

[oncall.seoc]
fixed = ["ana"]

[oncall.smoc]
fixed = ["max"]
"""


def with_(table: str, *lines: str) -> str:
    """The smallest configuration with lines added to a table, in place of those with the same key."""
    keys = {line.partition("=")[0].strip() for line in lines}
    chunks = SMALLEST.split("\n\n")
    if not any(chunk.startswith(f"[{table}]") for chunk in chunks):
        chunks.append(f"[{table}]")
    for number, chunk in enumerate(chunks):
        if chunk.startswith(f"[{table}]"):
            kept = [line for line in chunk.splitlines() if line.partition("=")[0].strip() not in keys]
            chunks[number] = "\n".join([*kept, *lines])
    return "\n\n".join(chunks) + "\n"
