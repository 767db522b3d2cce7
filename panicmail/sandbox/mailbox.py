"""The relay's mails for the eye: a list, newest first, and each mail plainly. Read-only; every text is escaped.

    /           all mails
    /7          the eighth: envelope, headers, text, the HTML as its source
    /7/raw      its octets, as plain text

Nothing of a mail is rendered, loaded or linked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from panicmail.sandbox.http_request import SandboxAnswer
from panicmail.sandbox.received import Received
from panicmail.sandbox.sheet import HEADERS, sheet
from panicmail.sandbox.tcp_listener import HOST, Connection, TcpListener

_REFRESH_SECONDS = 3
#: Shown of each mail, when it has them.
_SHOWN = ("From", "To", "Reply-To", "Date", "Message-ID", "In-Reply-To", "Auto-Submitted")
_UNREADABLE = "(cannot be read; the source can)"


class Mailbox:
    """The pages of the mails, from `start` to `stop`; a context manager.

    Args:
        mails: Asked at every request; oldest first, and none goes away.
        port: 0 takes a free one.
    """

    def __init__(self, mails: Callable[[], Sequence[Received]], port: int = 0) -> None:
        self._listener = TcpListener(port, lambda connection: _MailboxRequestHandler.serve(connection, mails))
        self.port = self._listener.port
        self.url = f"http://{HOST}:{self.port}"

    def start(self) -> Self:
        self._listener.up()
        return self

    def stop(self) -> None:
        self._listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def answer_mail(mails: Sequence[Received], path: str) -> SandboxAnswer:
    """Answer a request, a refusal included."""
    if path == "/":
        return sheet("Mails", _index(mails), refresh=_REFRESH_SECONDS)
    asked = re.fullmatch(r"/(\d{1,9})(/raw)?", path)
    if asked is None or int(asked[1]) >= len(mails):
        return sheet("404", "<p>There is nothing here.</p>", status=404)
    mail = mails[int(asked[1])]
    if asked[2]:
        return SandboxAnswer(body=mail.raw, type="text/plain; charset=utf-8", headers=HEADERS)
    return sheet(_subject(mail), _show(mail, int(asked[1])))


def _index(mails: Sequence[Received]) -> str:
    rows = [_row(mail, number) for number, mail in enumerate(mails)]
    return f"<ul>{''.join(reversed(rows)) or '<li>none yet</li>'}</ul>"


def _row(mail: Received, number: int) -> str:
    return (
        f'<li><a href="/{number}">{escape(_subject(mail))}</a><br>'
        f"<small>{mail.at:%H:%M:%S} UTC to {escape(', '.join(mail.recipients))}</small></li>"
    )


def _show(mail: Received, number: int) -> str:
    facts = [
        f"at {mail.at:%Y-%m-%d %H:%M:%S} UTC",
        f"from <{mail.mail_from}>",
        f"to {', '.join(f'<{one}>' for one in mail.recipients)}",
        "over TLS" if mail.is_tls else "in the clear",
        f"{len(mail.raw)} octets",
        *mail.faults,
    ]
    head = "\n".join(f"{name}: {value}" for name in _SHOWN if (value := _read(mail.header, name)))
    html = _read(lambda: mail.html)
    source = f"<details><summary>HTML, as its source</summary><pre>{escape(html)}</pre></details>" if html else ""
    return (
        f'<p><a href="/">all mails</a> · <a href="/{number}/raw">source</a></p>'
        f"<p><small>{escape(' · '.join(facts))}</small></p><pre>{escape(head)}</pre>"
        f"<pre>{escape(_read(lambda: mail.text)) or '(no plain text)'}</pre>{source}"
    )


def _subject(mail: Received) -> str:
    return _read(mail.header, "Subject") or "(no subject)"


def _read(what: Callable[..., str], *arguments: str) -> str:
    try:
        return what(*arguments)
    except Exception:  # the library's reader stumbles over some mails in ways of its own
        return _UNREADABLE


class _MailboxRequestHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    @classmethod
    def serve(cls, link: Connection, mails: Callable[[], Sequence[Received]]) -> None:
        cls(link, mails)

    def __init__(self, link: Connection, mails: Callable[[], Sequence[Received]]) -> None:
        self._mails = mails
        super().__init__(link.sock, link.sock.getpeername(), None)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        answer = answer_mail(self._mails(), self.path.partition("?")[0])
        octets = answer.octets()
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.type, "Content-Length": len(octets), **answer.headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(octets)

    do_HEAD = do_GET  # noqa: N815 - http.server's names

    def version_string(self) -> str:
        return "panicmail-sandbox"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""
