"""The golden mails."""

from __future__ import annotations

from pathlib import Path

_MAILS = Path(__file__).parent / "mails"


def golden(name: str) -> bytes:
    """A mail as it comes over SMTP, whatever line ends the checkout has."""
    return (_MAILS / f"{name}.eml").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def mail(*lines: str | bytes, body: str = "hello") -> bytes:
    return b"\r\n".join(line.encode() if isinstance(line, str) else line for line in (*lines, "", body))
