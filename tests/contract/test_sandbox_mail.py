"""The relay that sends mail back, and the page to look at its mails."""

from __future__ import annotations

import smtplib
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest

from panicmail.incident.classify import MailKind
from panicmail.mail.parse import parser
from panicmail.sandbox.mailbox import Mailbox, answer_mail
from panicmail.sandbox.quick_actions import Received
from panicmail.sandbox.relay_server import SandboxRelay
from panicmail.sandbox.returns import Return


@pytest.fixture
def relay() -> Iterator[SandboxRelay]:
    with SandboxRelay() as one:
        yield one


@pytest.fixture
def home() -> Iterator[SandboxRelay]:
    """Whoever sends: where what comes back arrives."""
    with SandboxRelay() as one:
        yield one


def send(relay: SandboxRelay, *to: str, sender: str = "panic+b1@example.com", subject: str = "[PANIC] Straße") -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "panic@example.com", ", ".join(to), subject
    message["Reply-To"], message["Message-ID"] = "Panic <panic+a1@example.com>", "<one@example.com>"
    message.set_content("who has it?\n")
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        client.send_message(message, sender, list(to))


def returned(relay: SandboxRelay) -> list[Return]:
    """What was sent back, as soon as there is something."""
    ends_at = time.monotonic() + 5
    while not relay.returned:
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    return relay.returned


# -- bounces


@pytest.mark.parametrize(("code", "action", "status"), [(550, "failed", "5.1.1"), (451, "delayed", "4.1.1")])
def test_a_bounce_comes_later_to_the_envelope_sender_and_is_read_as_one(
    relay: SandboxRelay, home: SandboxRelay, code: int, action: str, status: str
) -> None:
    relay.rule("ana@", "bounce", code=code, via=home.url, seconds=0.1)
    began = time.monotonic()
    send(relay, "ana@example.com", "max@example.com")
    assert len(relay.mails) == 1
    got = home.wait(lambda mail: mail.to("panic+b1@example.com"))
    assert time.monotonic() - began >= 0.1
    assert (got.mail_from, got.faults) == ("", ())
    report = parser.read(got.raw, mail_from="")
    assert report.kind is MailKind.BOUNCE
    assert [(one.action, one.status) for one in report.deliveries] == [(action, status)]
    assert "ana@example.com" in got.raw.decode()
    assert "max@example.com" not in got.text
    assert b"Message-ID: <one@example.com>" in got.raw
    assert [letter.recipient for letter in returned(relay)] == ["panic+b1@example.com"]


def test_nothing_is_sent_back_to_the_null_sender(relay: SandboxRelay, home: SandboxRelay) -> None:
    relay.rule("", "bounce", via=home.url, times=1)
    relay.rule("", "out of office", via=home.url, times=1)
    relay.rule("", "out of office", via=home.url, target="Reply-To")
    for _ in range(3):
        send(relay, "ana@example.com", sender="")
    assert home.wait(lambda mail: True).recipients == ("panic+a1@example.com",)
    assert (len(relay.mails), len(home.mails)) == (3, 1)


def test_what_comes_back_waits_for_whoever_is_away(relay: SandboxRelay, home: SandboxRelay) -> None:
    home.down()
    relay.rule("", "bounce", via=f"127.0.0.1:{home.port}")
    send(relay, "ana@example.com")
    home.up()
    assert home.wait(lambda mail: mail.mail_from == "")


def test_a_relay_that_stops_sends_nothing_more(home: SandboxRelay) -> None:
    with SandboxRelay() as relay:
        relay.rule("", "bounce", via=home.url, seconds=30)
        send(relay, "ana@example.com")
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert home.mails == []


# -- absences


@pytest.mark.parametrize(
    ("target", "to"), [("Return-Path", "panic+b1@example.com"), ("Reply-To", "panic+a1@example.com")]
)
def test_an_absence_is_answered_to_where_it_is_told_to(
    relay: SandboxRelay, home: SandboxRelay, target: Any, to: str
) -> None:
    relay.rule("ana@", "out of office", via=home.url, target=target)
    send(relay, "ana@example.com", "max@example.com")
    got = home.wait(lambda mail: True)
    assert (got.recipients, got.header("From"), got.subject) == (
        (to,),
        "ana@example.com",
        "Automatic reply: [PANIC] Straße",
    )
    assert got.header("In-Reply-To") == "<one@example.com>"
    assert parser.read(got.raw, mail_from="").kind is not MailKind.HUMAN
    assert len(relay.mails) == 1


@pytest.mark.parametrize("wrong", [{}, {"via": "127.0.0.1:25", "stage": "rcpt"}])
def test_a_mail_back_needs_a_way_and_a_mail(relay: SandboxRelay, wrong: Any) -> None:
    with pytest.raises(ValueError, match="via"):
        relay.rule("ana@", "bounce", **wrong)


# -- the page


def page(url: str) -> tuple[str, Any]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode(), answer.headers


def received(raw: bytes) -> Received:
    at = datetime(2026, 11, 22, 3, 7, tzinfo=UTC)
    return Received(received_at=0.0, at=at, mail_from="panic@example.com", recipients=("ana@example.com",), raw=raw)


def test_the_page_lists_the_newest_first_and_each_leads_to_its_source() -> None:
    with SandboxRelay(web_port=0) as relay:
        assert "none yet" in page(relay.web_url + "/")[0]
        send(relay, "ana@example.com", subject="first")
        send(relay, "max@example.com", subject="second")
        index, headers = page(relay.web_url + "/")
        assert index.index("second") < index.index("first")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert 'name="viewport"' in index
        shown, _ = page(relay.web_url + "/0")
        assert "who has it?" in shown
        assert "Reply-To: Panic &lt;panic+a1@example.com&gt;" in shown
        source, headers = page(relay.web_url + "/0/raw")
        assert source.encode() == relay.mails[0].raw
        assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == ("text/plain; charset=utf-8", "nosniff")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            page(relay.web_url + "/2")


def test_a_relay_without_a_port_for_it_has_no_page(relay: SandboxRelay) -> None:
    assert relay.web_url == ""


def test_nothing_of_a_mail_is_more_than_text_on_its_page() -> None:
    hostile = EmailMessage()
    hostile["Subject"] = hostile["Reply-To"] = hostile["From"] = "</pre><script>alert(1)</script>"
    hostile.set_content("<img src=http://e.example/x>")
    hostile.add_alternative("<script>alert(2)</script><img src=http://e.example/y>", subtype="html")
    with Mailbox(lambda: [received(hostile.as_bytes())]) as box:
        for path in ("/", "/0"):
            shown = page(box.url + path)[0]
            assert "<script>" not in shown
            assert "<img" not in shown
            assert "&lt;script&gt;alert(1)" in shown
        assert "&lt;script&gt;alert(2)" in shown


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Content-Type: text/plain; charset=nobody\r\n\r\n\xff\xfe",
        b"From: =?utf-8?q?=00?=<\r\nDate: x\r\nMessage-ID: [@\r\nContent-Type: multipart/mixed\r\n\r\n--",
        b"Content-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\nContent-Type: text/html\r\n\r\nx",
    ],
)
def test_a_broken_mail_has_a_page_too(raw: bytes) -> None:
    mails = [received(raw)]
    assert [answer_mail(mails, path).status for path in ("/", "/0", "/0/raw", "/1", "/x")] == [200, 200, 200, 404, 404]
