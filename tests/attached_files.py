"""Mails with files."""

from __future__ import annotations

RITA = "rita@example.com"


def with_file(text: str, name: str, data: str, *, sender: str = RITA, more: str = "", kind: str = "image/png") -> bytes:
    """A mail with a file beside the text. `more`: further header fields, each ended by a CRLF."""
    return (
        f"From: {sender}\r\nSubject: Re: x\r\n{more}MIME-Version: 1.0\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        f"{text}\r\n--b\r\nContent-Type: {kind}\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n{data}\r\n--b--\r\n'
    ).encode()
