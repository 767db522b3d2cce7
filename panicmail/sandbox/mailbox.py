"""The relay's mails for the eye: a list, newest first, and each mail plainly. Read-only; every text is escaped.

    /           all mails
    /7          the eighth: envelope, headers, text, the HTML as its source
    /7/raw      its octets, as plain text

Nothing of a mail is rendered, loaded or linked.
"""

from __future__ import annotations

import re
import smtplib
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from html import escape
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from panicmail.sandbox.http_request import SandboxAnswer
from panicmail.sandbox.quick_actions import Received
from panicmail.sandbox.returns import Return
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


# -- The sheet all pages of the sandbox are written on: small, readable on a phone, and with nothing from elsewhere.

#: Nothing of a mail may load, run or navigate, should a text ever get through unescaped.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  overflow-wrap: anywhere }
ul { padding-left: 1.2rem } li { margin: .4rem 0 } h1 { font-size: 1.4rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f8; padding: .8rem; border-radius: 4px }
small { color: #666 } h3 { font-size: 1rem; margin: 1.5rem 0 .3rem } .system { color: #666 }
@media (max-width: 30rem) { body { margin: .8rem auto } pre { padding: .5rem } }
"""


def sheet(title: str, body: str, *, status: int = 200, refresh: int = 0) -> SandboxAnswer:
    """A page. `body` is HTML, the title is text; `refresh`: seconds after which it is asked for again, 0 for never."""
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width">{again}<style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}</html>"
    )
    return SandboxAnswer(status=status, body=html.encode(), type="text/html; charset=utf-8", headers=HEADERS)


# -- Posts mail after a while, and again when nobody takes it; threads that end with the relay.

_TIMEOUT_SECONDS = 5.0
_TRIES = 10
_BETWEEN_SECONDS = 0.5


class Postman:
    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def post(self, letter: Return, via: str, seconds: float, posted: Callable[[Return], None]) -> None:
        """Post a letter from the null sender `seconds` later, and say so.

        Args:
            via: host:port. Who does not take it is asked again, ten times in five seconds.
        """
        thread = threading.Thread(target=self._walk, args=(letter, via, seconds, posted), daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Nothing more is posted."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(1.0)

    def _walk(self, letter: Return, via: str, seconds: float, posted: Callable[[Return], None]) -> None:
        if self._stopped.wait(seconds):
            return
        for _ in range(_TRIES):
            with suppress(OSError):  # smtplib's own errors are OSErrors too
                _deliver(letter, via)
                posted(letter)
                return
            if self._stopped.wait(_BETWEEN_SECONDS):
                return


def _deliver(letter: Return, via: str) -> None:
    host, _, port = via.rpartition(":")
    with smtplib.SMTP(
        host.strip("[]"), int(port), local_hostname="sandbox.invalid", timeout=_TIMEOUT_SECONDS
    ) as client:
        client.sendmail("", [letter.recipient], letter.raw)
