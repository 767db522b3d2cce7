"""The mail relay: what `send` knows when it returns, and what it knows when it does not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from panicmail.config.schema import RelaySettings
from panicmail.delivery.smtp_client import RelayClient, relay_client
from panicmail.errors import Blocked, LockedOut, Permanent, Temporary, Unknown
from panicmail.sandbox.relay_server import SandboxRelay

PAGE = b"From: panic@example.com\r\nTo: ana@example.com\r\nSubject: [PANIC 7KQ2] x\r\n\r\nAna: reply.\r\n"
PANIC, ANA = "panic@example.com", "ana@example.com"


@pytest.fixture
def sandbox() -> Iterator[SandboxRelay]:
    with SandboxRelay() as one:
        yield one


@contextmanager
def connected(port: int, tls: Any = "none", host: str = "127.0.0.1", **changes: Any) -> Iterator[RelayClient]:
    relay = RelayClient(host, port, tls, **{"hostname": "panic.example.com", "timeout": 0.4, **changes})
    try:
        yield relay
    finally:
        relay.close()


@pytest.fixture
def relay(sandbox: SandboxRelay) -> Iterator[RelayClient]:
    with connected(sandbox.port) as one:
        yield one


class Scripted:
    """A relay that says exactly these lines, one for each that comes; a session for each list. None hangs up.

    A message counts as one line, its final dot.
    """

    def __init__(self, *sessions: Sequence[str | None], tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.heard: list[list[str]] = []
        self._sessions = sessions
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        self._socket.close()

    def _serve(self) -> None:
        self._socket.settimeout(2)
        for session in self._sessions:
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                return
            try:
                client = self._tls.wrap_socket(client, server_side=True) if self._tls else client
            except ssl.SSLError:  # whoever came wants none of ours
                client.close()
                continue
            with client, client.makefile("rb") as lines, contextlib.suppress(ConnectionError):
                self.heard.append([])
                self._talk(client, iter(session), lines)

    def _talk(self, client: socket.socket, session: Iterator[str | None], lines: Any) -> None:
        for say in session:
            if say is None:
                return
            client.sendall(say.encode() + b"\r\n")
            if say.startswith("354"):
                while (line := lines.readline()) not in (b".\r\n", b""):
                    pass
            else:
                line = lines.readline()
            self.heard[-1].append(line.decode("utf-8", "replace").strip())


HELLO = ("220 x", "250-x\r\n250 SIZE 1000000")
TAKEN = ("250 ok", "250 ok", "354 go", "250 2.0.0 kept")


def is_sure(caught: pytest.ExceptionInfo[Temporary]) -> bool:
    return not isinstance(caught.value, Unknown)


# -- it works


def test_a_message_arrives_as_it_is_and_the_answer_is_the_relays(sandbox: SandboxRelay, relay: RelayClient) -> None:
    assert relay.send(PAGE, PANIC, ANA) == "250 2.0.0 kept"
    (mail,) = sandbox.mails
    assert (mail.mail_from, mail.recipients, mail.raw, mail.faults) == (PANIC, (ANA,), PAGE, ())
    assert f"SIZE={len(PAGE)}" in mail.options


def test_the_null_sender_is_the_null_sender(sandbox: SandboxRelay, relay: RelayClient) -> None:
    relay.send(PAGE, "", ANA)
    assert sandbox.mails[0].mail_from == ""


@pytest.mark.parametrize(
    ("body", "arrives"),
    [
        (b".\n..\n.x", b".\r\n..\r\n.x\r\n"),
        (b"a\rb\nc\r\nd\n", b"a\r\nb\r\nc\r\nd\r\n"),
        (b"x\n.\nMAIL FROM:<e@vil>\n", b"x\r\n.\r\nMAIL FROM:<e@vil>\r\n"),
        (b"x" * 900 + b"\n" + b"y\n" * 200_000, b"x" * 900 + b"\r\n" + b"y\r\n" * 200_000),
    ],
)
def test_dots_and_line_ends_smuggle_nothing(
    sandbox: SandboxRelay, relay: RelayClient, body: bytes, arrives: bytes
) -> None:
    relay.send(b"Subject: x\n\n" + body, PANIC, ANA)
    (mail,) = sandbox.mails
    assert mail.raw == b"Subject: x\r\n\r\n" + arrives
    assert mail.faults == ()


def test_eight_bits_and_other_alphabets_are_announced(sandbox: SandboxRelay, relay: RelayClient) -> None:
    relay.send("Subject: ü\n\nü".encode(), PANIC, "änne@example.com")
    (mail,) = sandbox.mails
    assert mail.recipients == ("änne@example.com",)
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(mail.options)
    relay.send(PAGE, PANIC, ANA)
    assert not {"SMTPUTF8", "BODY=8BITMIME"} & set(sandbox.mails[1].options)


def test_it_logs_in_where_it_should(sandbox: SandboxRelay) -> None:
    with connected(sandbox.port, username="panic", password="secret") as relay:
        relay.send(PAGE, PANIC, ANA)
    assert sandbox.mails[0].login == "panic"


# -- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_starttls_comes_before_the_password(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    with (
        SandboxRelay(tls=server_context(authority)) as sandbox,
        connected(
            sandbox.port, "starttls", "localhost", username="panic", password="secret", ssl_context=trusting
        ) as relay,
    ):
        relay.send(PAGE, PANIC, ANA)
        assert (sandbox.mails[0].is_tls, sandbox.mails[0].login) == (True, "panic")


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_a_private_authority_vouches_for_the_relay_and_nobody_else_does(
    authority: trustme.CA, tmp_path: Path, scheme: str
) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    replies = ["220 x", "250 STARTTLS", "220 go", "250 x"] if scheme != "smtps" else ["220 x", "250 x"]
    about: dict[str, Any] = {"sender": PANIC, "page_sender": PANIC}
    for known in (True, False):
        with (
            SandboxRelay(tls=server_context(authority)) if scheme != "smtps" else
            Scripted([*replies, *TAKEN], tls=server_context(authority)) as server
        ):  # fmt: skip
            url = f"{scheme}://localhost:{server.port}"
            ca_file = tmp_path / "ca.pem" if known else None
            relay = RelaySettings.model_validate(about | {"url": url, "ca_file": ca_file})
            client = relay_client(relay, "panic.example.com", 2)
            if known:
                assert client.send(PAGE, PANIC, ANA).startswith("250")
            else:
                with pytest.raises(LockedOut, match="certificate"):
                    client.send(PAGE, PANIC, ANA)
            client.close()


def test_implicit_tls_is_tls_from_the_first_octet(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    with (
        Scripted(["220 x", "250 x", *TAKEN], tls=server_context(authority)) as server,
        connected(server.port, "implicit", "localhost", ssl_context=trusting) as relay,
    ):
        assert relay.send(PAGE, PANIC, ANA) == "250 2.0.0 kept"
        relay.close()
    assert server.heard[0][:2] == ["ehlo panic.example.com", f"MAIL FROM:<{PANIC}>"]


@pytest.mark.parametrize("name", ["localhost", "other.example.com"])
def test_a_certificate_that_is_untrusted_or_of_another_name_is_temporary(
    authority: trustme.CA, trusting: ssl.SSLContext, name: str
) -> None:
    context = None if name == "localhost" else trusting
    with (
        SandboxRelay(tls=server_context(authority, name)) as sandbox,
        connected(sandbox.port, "starttls", "localhost", ssl_context=context, password="secret") as relay,
    ):
        with pytest.raises(Temporary, match="no TLS with the relay") as caught:
            relay.send(PAGE, PANIC, ANA)
        assert is_sure(caught)
        assert sandbox.mails == []


def test_nothing_is_said_in_the_clear_when_starttls_is_not_offered(sandbox: SandboxRelay) -> None:
    with (
        connected(sandbox.port, "starttls", username="panic", password="secret") as relay,
        pytest.raises(Temporary, match="does not offer what we need: STARTTLS"),
    ):
        relay.send(PAGE, PANIC, ANA)
    assert sandbox.mails == []


def test_what_was_slipped_in_before_tls_is_not_heard(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    slipped = "220 go\r\n250-x\r\n250 AUTH PLAIN"
    with (
        Scripted(["220 x", "250-x\r\n250 STARTTLS", slipped, None]) as server,
        connected(server.port, "starttls", "localhost", ssl_context=trusting) as relay,
        pytest.raises(Temporary),
    ):
        relay.send(PAGE, PANIC, ANA)
    assert server.heard[0][:2] == ["ehlo panic.example.com", "STARTTLS"]


# -- the relay says no


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "end"])
def test_a_5xx_about_the_message_is_permanent_and_the_next_message_goes(
    sandbox: SandboxRelay, relay: RelayClient, stage: Any
) -> None:
    sandbox.rule("example.com", "reject", 550, stage=stage, times=1)
    with pytest.raises(Permanent, match=r"^550 5"):
        relay.send(PAGE, PANIC, ANA)
    relay.send(PAGE, PANIC, ANA)
    assert len(sandbox.mails) == 1


@pytest.mark.parametrize("code", [450, 451, 421, 530])
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "end"])
def test_a_4xx_is_temporary_and_so_is_a_login_that_is_missing(
    sandbox: SandboxRelay, relay: RelayClient, stage: Any, code: int
) -> None:
    sandbox.rule("example.com", "reject", code, stage=stage, times=1)
    with pytest.raises(Temporary, match=f"{code} ") as caught:
        relay.send(PAGE, PANIC, ANA)
    assert is_sure(caught)
    relay.send(PAGE, PANIC, ANA)
    assert len(sandbox.mails) == 1


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (["554 5.7.1 go away"], "refuses us: 554 5.7.1 go away"),
        (["421 busy"], "refuses us: 421 busy"),
        (["220 x", "550 no", "550 no"], "refuses us: 550 no"),
        (["220 x", "250 x"], "AUTH extension not supported"),
        (["220 x", "250-x\r\n250 AUTH GSSAPI"], "No suitable authentication"),
        (["220 x", "250-x\r\n250 AUTH PLAIN", "535 5.7.8 not with secret"], "refuses our login: 535 5.7.8"),
        (["nonsense"], "refuses us: -1"),
        ([None], "hung up"),
        (["220 x", None], "hung up"),
        (["220 x", "250-x\r\n" * 20_000], "hung up"),
    ],
)
def test_a_relay_that_refuses_us_is_temporary_and_no_password_is_quoted(script: list[str | None], said: str) -> None:
    with Scripted(script) as server, connected(server.port, username="panic", password="secret") as relay:
        with pytest.raises(Temporary, match=said) as caught:
            relay.send(PAGE, PANIC, ANA)
        relay.close()
    assert is_sure(caught)
    assert "secret" not in str(caught.value)


NO_LOGIN = ["220 x", "250-x\r\n250 AUTH PLAIN"]


@pytest.mark.parametrize(
    ("script", "is_barred"),
    [
        (["554 5.7.1 go away"], True),
        (["421 busy"], False),
        (["220 x", "550 no", "550 no"], True),
        (["220 x", "250 x"], True),
        ([*NO_LOGIN, "535 5.7.8 wrong"], True),
        ([*NO_LOGIN, "534 5.7.9 too weak"], True),
        ([*NO_LOGIN, "454 4.7.0 not now"], False),
        ([*NO_LOGIN, "235 ok", "530 5.7.0 log in first"], True),
        ([*NO_LOGIN, "235 ok", "451 not now"], False),
        ([*NO_LOGIN, "235 ok", "250 ok", "530 5.7.0 log in to send there"], False),
        (["nonsense"], False),
        ([None], False),
    ],
)
def test_a_relay_nobody_can_use_before_somebody_mends_it_is_told_from_one_that_may_take_us_soon(
    script: list[str | None], is_barred: bool
) -> None:
    with Scripted(script, script) as server, connected(server.port, username="panic", password="secret") as relay:
        with pytest.raises(Temporary) as caught:
            relay.send(PAGE, PANIC, ANA)
        with pytest.raises(Temporary) as rehearsed:
            relay.rehearse(PANIC, ANA)
        relay.close()
    assert [isinstance(each.value, Blocked) for each in (caught, rehearsed)] == [is_barred] * 2


def old(authority: trustme.CA) -> ssl.SSLContext:
    context = server_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.parametrize("what", ["unknown", "another name", "too old", "no TLS"])
def test_tls_that_does_not_fit_lets_nothing_through(authority: trustme.CA, what: str) -> None:
    trusting = ssl.create_default_context()
    if what != "unknown":
        authority.configure_trust(trusting)
    trusting.minimum_version = ssl.TLSVersion.TLSv1_3
    name = "x.example" if what == "another name" else "localhost"
    context = old(authority) if what == "too old" else server_context(authority, name)
    with Scripted(["220 x"], tls=None if what == "no TLS" else context) as server:
        relay = RelayClient("localhost", server.port, "implicit", hostname="x.example", ssl_context=trusting)
        with pytest.raises(LockedOut, match="no TLS with the relay"):
            relay.send(PAGE, PANIC, ANA)


def test_a_connection_that_breaks_while_tls_begins_may_hold_the_next_time(trusting: ssl.SSLContext) -> None:
    with Scripted([None]) as server:
        relay = RelayClient("localhost", server.port, "implicit", hostname="x.example", ssl_context=trusting)
        with pytest.raises(Temporary) as caught:
            relay.send(PAGE, PANIC, ANA)
    assert not isinstance(caught.value, Blocked)


def test_a_password_outside_ascii_is_told_without_quoting_it() -> None:
    script = ["220 x", "250-x\r\n250 AUTH PLAIN"]
    with (
        Scripted(script) as server,
        connected(server.port, username="panic", password="géheim") as relay,
        pytest.raises(Temporary, match="must be ASCII") as caught,
    ):
        relay.send(PAGE, PANIC, ANA)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_dead_address_of_the_relay_leaves_time_for_the_living_one(
    sandbox: SandboxRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, sandbox.port)) for host in ("127.0.0.2", "127.0.0.1")]
    with contextlib.ExitStack() as held:
        deaf = held.enter_context(socket.create_server(("127.0.0.2", sandbox.port), backlog=0))
        for _ in range(2):  # whoever comes next is not answered at all
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        real = socket.getaddrinfo
        named = lambda host, *rest, **more: found if host == "relay.example.com" else real(host, *rest, **more)  # noqa: E731
        monkeypatch.setattr(socket, "getaddrinfo", named)
        began = time.monotonic()
        with connected(sandbox.port, host="relay.example.com", timeout=4.0) as relay:
            assert relay.send(PAGE, PANIC, ANA).startswith("250")
        assert time.monotonic() - began > 1.5, "the dead one was tried first"


def test_a_relay_with_two_addresses_has_the_whole_time_to_greet(monkeypatch: pytest.MonkeyPatch) -> None:
    class Thinking(Scripted):
        def _talk(self, client: socket.socket, session: Iterator[str | None], lines: Any) -> None:
            time.sleep(1.2)  # more than the share of one address
            super()._talk(client, session, lines)

    with Thinking([*HELLO, *TAKEN]) as server:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))] * 2
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_rest, **_more: found)
        with connected(server.port, timeout=2.0) as relay:
            assert relay.send(PAGE, PANIC, ANA).startswith("250")
    assert len(server.heard) == 1


@pytest.mark.parametrize(("greeting", "said"), [("554 no", "refuses us: 554 no"), (None, "hung up")])
def test_what_one_address_of_the_relay_answers_is_told_and_the_next_is_not_asked(
    greeting: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scripted([greeting]) as server:
        hosts = ("127.0.0.1", "127.0.0.2")
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, server.port)) for host in hosts]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_rest, **_more: found)
        with connected(server.port) as relay, pytest.raises(Temporary, match=said):  # nobody is at the second
            relay.send(PAGE, PANIC, ANA)


def test_an_address_outside_ascii_needs_a_relay_that_takes_it() -> None:
    with Scripted([*HELLO, None]) as server, connected(server.port) as relay:
        with pytest.raises(Permanent, match="SMTPUTF8"):
            relay.send(PAGE, PANIC, "änne@example.com")
        relay.close()


@pytest.mark.parametrize("address", ["a@b>\r\nRCPT TO:<e@vil", "a@b> X=Y", "a b@c", "", "\ud800@b", "a\0@b"])
def test_an_address_cannot_smuggle_a_command(sandbox: SandboxRelay, relay: RelayClient, address: str) -> None:
    with pytest.raises(Permanent, match="not an address"):
        relay.send(PAGE, PANIC, address)
    if address:
        with pytest.raises(Permanent, match="not an address"):
            relay.send(PAGE, address, ANA)
    assert sandbox.mails == []


def test_an_answer_is_one_short_line_of_ascii() -> None:
    shouting = "250-\x1b[31m\u00fc\r\n250 " + "x" * 400
    with Scripted([*HELLO, *TAKEN[:3], shouting]) as server, connected(server.port) as relay:
        answer = relay.send(PAGE, PANIC, ANA)
        relay.close()
    assert answer.startswith("250 ?[31m?? x")
    assert len(answer) == 200


# -- the connection


def test_a_relay_that_is_down_is_temporary(sandbox: SandboxRelay, relay: RelayClient) -> None:
    sandbox.down()
    with pytest.raises(Temporary, match="cannot be reached") as caught:
        relay.send(PAGE, PANIC, ANA)
    assert is_sure(caught)
    sandbox.up()
    assert relay.send(PAGE, PANIC, ANA)


def test_one_connection_serves_many_messages() -> None:
    with Scripted([*HELLO, *TAKEN, *TAKEN]) as server, connected(server.port) as relay:
        relay.send(PAGE, PANIC, ANA)
        relay.send(PAGE, PANIC, ANA)
        relay.close()
    assert [len(session) for session in server.heard] == [10]
    assert server.heard[0][-1] == "QUIT"


def test_a_connection_idle_for_half_a_minute_is_not_used_again() -> None:
    now = [1000.0]
    with (
        Scripted([*HELLO, *TAKEN, *TAKEN], [*HELLO, *TAKEN]) as server,
        connected(server.port, monotonic=lambda: now[0]) as relay,
    ):
        for idle in (0, 29, 30):
            now[0] += idle
            relay.send(PAGE, PANIC, ANA)
        relay.close()
    assert len(server.heard) == 2


@pytest.mark.parametrize(
    "dying",
    [[None], ["250 ok", None], ["250 ok", "250 ok", None], ["421 idle too long", None]],
    ids=["at MAIL", "at RCPT", "at DATA", "with a 421"],
)
def test_a_kept_connection_that_died_is_replaced_at_once(dying: list[str | None]) -> None:
    with (
        Scripted([*HELLO, *TAKEN[:3], "250 kept", *dying], [*HELLO, *TAKEN]) as server,
        connected(server.port) as relay,
    ):
        relay.send(PAGE, PANIC, ANA)
        time.sleep(0.02)
        assert relay.send(PAGE, PANIC, ANA) == "250 2.0.0 kept"
        relay.close()
    assert len(server.heard) == 2


def test_a_new_connection_that_dies_is_not_replaced_again() -> None:
    with Scripted([*HELLO, "250 ok", None], [*HELLO, *TAKEN]) as server, connected(server.port) as relay:
        with pytest.raises(Temporary, match="hung up") as caught:
            relay.send(PAGE, PANIC, ANA)
        assert is_sure(caught)
        assert len(server.heard) == 1
        relay.send(PAGE, PANIC, ANA)
        relay.close()


@pytest.mark.parametrize("action", ["drop", "hang"])
def test_no_answer_after_the_dot_is_unknown_and_nothing_is_sent_again(
    sandbox: SandboxRelay, relay: RelayClient, action: Any
) -> None:
    relay.send(PAGE, PANIC, ANA)  # so that the connection is a kept one
    sandbox.rule("ana@", action, times=1)
    with pytest.raises(Unknown, match="had the whole message"):
        relay.send(PAGE, PANIC, ANA)
    assert len(sandbox.mails) == (1 if action == "drop" else 2)
    relay.send(PAGE, PANIC, ANA)


def test_nonsense_after_the_dot_is_unknown() -> None:
    with Scripted([*HELLO, *TAKEN[:3], "what?"]) as server, connected(server.port) as relay:
        with pytest.raises(Unknown):
            relay.send(PAGE, PANIC, ANA)
        relay.close()


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_a_relay_that_hangs_before_the_dot_is_temporary_within_the_timeout(
    sandbox: SandboxRelay, relay: RelayClient, stage: Any
) -> None:
    sandbox.rule("", "hang", stage=stage)
    started = time.monotonic()
    with pytest.raises(Temporary) as caught:
        relay.send(PAGE, PANIC, ANA)
    assert is_sure(caught)
    assert time.monotonic() - started < 30


def test_a_relay_that_trickles_its_reply_ends_at_the_deadline() -> None:
    with trickling(lambda: b"250-x\r\n") as port, connected(port, timeout=0.2) as relay:
        started = time.monotonic()
        with pytest.raises(Temporary):
            relay.send(PAGE, PANIC, ANA)
        assert 0.5 < time.monotonic() - started < 30


# -- servers of our own


@contextmanager
def trickling(word: Callable[[], bytes]) -> Iterator[int]:
    """A relay that greets and then answers with one piece of a reply after the other, without end."""
    done = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        client, _ = listening.accept()
        with client:
            client.sendall(b"220 x\r\n")
            while not done.wait(0.05):
                try:
                    client.sendall(word())
                except OSError:
                    return

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        done.set()
        thread.join()
        listening.close()


# -- a rehearsal


def test_a_rehearsal_hears_what_a_mail_would_and_sends_none(sandbox: SandboxRelay, relay: RelayClient) -> None:
    assert relay.rehearse("panic@example.com", "ana@example.com").answer == "250 2.1.5 ok"
    assert relay.rehearse("panic@example.com").answer == "250 2.1.0 ok"
    assert relay.rehearse("").answer == "250 2.1.0 ok"
    relay.send(b"Subject: page\n\nack?", "panic@example.com", "ana@example.com")
    assert [mail.subject for mail in sandbox.mails] == ["page"]


def test_a_rehearsal_fails_as_a_mail_would(sandbox: SandboxRelay, relay: RelayClient) -> None:
    sandbox.rule("ana@", "reject")
    sandbox.rule("bo@", "reject", code=451)
    sandbox.rule("max@", "drop", stage="rcpt")
    sandbox.rule("<>", "reject", stage="mail")
    with pytest.raises(Permanent, match="550"):
        relay.rehearse("panic@example.com", "ana@example.com")
    for address, said in (("bo@example.com", "451"), ("max@example.com", "hung up")):
        with pytest.raises(Temporary, match=said):
            relay.rehearse("panic@example.com", address)
    with pytest.raises(Permanent, match="550"):
        relay.rehearse("")


def test_a_rehearsal_tells_the_relays_tls_and_when_its_certificate_ends(
    authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    with SandboxRelay(tls=server_context(authority)) as sandbox:
        with connected(sandbox.port, "starttls", "localhost", ssl_context=trusting) as relay:
            heard = relay.rehearse("panic@example.com")
        with connected(sandbox.port) as relay:
            in_the_clear = relay.rehearse("panic@example.com")
    assert heard.tls.startswith("TLSv1.")
    assert heard.certificate_ends_at is not None
    assert (in_the_clear.tls, in_the_clear.certificate_ends_at) == ("", None)
