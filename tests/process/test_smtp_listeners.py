"""Several places where mail is taken, each in its manner: SMTP or LMTP, with TLS or without, bound or handed over."""

from __future__ import annotations

import contextlib
import email
import os
import smtplib
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from panicmail import config as configuration
from panicmail.check import listener_checks
from panicmail.config import Config
from panicmail.config.schema import SmtpSettings
from panicmail.daemon import systemd
from panicmail.daemon.parts import MailListeners
from panicmail.errors import ConfigError, Mistake
from panicmail.mail.parse.received_field import own_received, received_from
from panicmail.server.smtp import reply_table
from panicmail.server.smtp.listeners import Endpoint, ServerCertificate, tls_context
from panicmail.store.rows import AcceptedMail
from tests.office import Office
from tests.program import world
from tests.served_smtp import MAIL, PANIC, Served, Store, Wire, _eventually, serving
from tests.smallest_config import SMALLEST

LOOPBACK = ("127.0.0.1", 0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def pair(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return issued(authority, tmp_path_factory.mktemp("tls"), "panic")


def issued(authority: trustme.CA, folder: Path, name: str) -> tuple[Path, Path]:
    certificate = authority.issue_cert("127.0.0.1", common_name=name)
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    return cert, key


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@contextlib.contextmanager
def at(endpoint: Endpoint, store: Store | None = None, **options: Any) -> Iterator[Served]:
    """A listener at one place; its port is of a second one, in the clear."""
    with serving(store, listen=[Endpoint(at=LOOPBACK), endpoint], **options) as served:
        yield served


def port_of(served: Served) -> int:
    return served.listener.addresses[1][1]


# -- TLS from the first octet


def test_a_mail_comes_by_tls_from_the_first_octet(pair: tuple[Path, Path], trusting: ssl.SSLContext) -> None:
    with at(Endpoint(at=LOOPBACK, tls=tls_context(*pair), tls_at_once=True)) as served:
        with smtplib.SMTP_SSL("127.0.0.1", port_of(served), "c.example", timeout=30, context=trusting) as client:
            client.ehlo()
            assert not client.has_extn("starttls")
            assert client.docmd("STARTTLS")[0] == 503
            client.sendmail("bo@example.net", [PANIC], MAIL)
            client.sendmail("bo@example.net", [PANIC], MAIL)
        first, second = served.store.mails
        assert first.tls.startswith("TLSv1.3 TLS_")
        assert (first.raw, first.peer, second.raw) == (MAIL, "127.0.0.1", MAIL)


def test_nothing_is_said_in_the_clear_where_tls_comes_first(pair: tuple[Path, Path]) -> None:
    with at(Endpoint(at=LOOPBACK, tls=tls_context(*pair), tls_at_once=True)) as served:
        with Wire(port_of(served)) as client:
            client.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.socket.recv(1)
        with Wire(port_of(served)) as client:
            client.send(b"EHLO c\r\n" * 3)
            said = b""
            with contextlib.suppress(ConnectionResetError):
                while more := client.socket.recv(1000):
                    said += more
            assert b"220" not in said
            assert b"250" not in said


def test_a_handshake_that_never_comes_neither_holds_up_a_drain_nor_keeps_anybody_out(
    pair: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    endpoint = Endpoint(at=LOOPBACK, tls=tls_context(*pair), tls_at_once=True)
    with at(endpoint, max_connections=4) as served, contextlib.ExitStack() as leaving:
        for _ in range(4):  # a quarter of all, one, is for one address
            leaving.enter_context(Wire(port_of(served)))
        with smtplib.SMTP_SSL("127.0.0.1", port_of(served), "c.example", timeout=30, context=trusting) as client:
            client.sendmail("bo@example.net", [PANIC], MAIL)
        assert _eventually(lambda: not served.listener._dialogues)
        leaving.enter_context(Wire(port_of(served)))
        assert _eventually(lambda: len(served.listener._dialogues) == 1)
        served.drain(0.2).result(timeout=30)


def test_who_is_too_many_is_cut_off_before_the_handshake(pair: tuple[Path, Path]) -> None:
    endpoint = Endpoint(at=LOOPBACK, tls=tls_context(*pair), tls_at_once=True)
    with at(endpoint, max_connections=4) as served, served.wire() as busy:
        busy.reply()
        busy.say(b"EHLO c")
        busy.say(b"MAIL FROM:<bo@example.net>")
        with Wire(port_of(served)) as client:
            assert client.socket.recv(10) == b""


def test_only_tls_1_2_and_1_3_are_spoken_and_no_cipher_without_forward_secrecy(pair: tuple[Path, Path]) -> None:
    context = tls_context(*pair)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for cipher in context.get_ciphers():
        assert cipher["protocol"] in {"TLSv1.2", "TLSv1.3"}
        assert cipher["aead"], cipher["name"]
        assert cipher["name"].startswith(("TLS_", "ECDHE-", "DHE-"))
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE


# -- TLS required


@pytest.mark.parametrize("command", [b"MAIL FROM:<bo@example.net>", b"RCPT TO:<panic@example.com>", b"DATA", b"HELO c",
                                     b"RSET", b"VRFY x", b"HELP"])  # fmt: skip
def test_where_tls_is_required_nothing_comes_before_it(pair: tuple[Path, Path], command: bytes) -> None:
    with at(Endpoint(at=LOOPBACK, tls=tls_context(*pair), require_tls=True)) as served, Wire(port_of(served)) as client:
        client.reply()
        assert "STARTTLS" in client.say(b"EHLO c")
        assert client.say(b"NOOP").startswith("250")
        assert client.say(command) == reply_table.WITHOUT_TLS
        assert client.say(b"QUIT").startswith("221")


def test_where_tls_is_required_a_mail_comes_by_it(pair: tuple[Path, Path], trusting: ssl.SSLContext) -> None:
    with at(Endpoint(at=LOOPBACK, tls=tls_context(*pair), require_tls=True)) as served:
        with smtplib.SMTP("127.0.0.1", port_of(served), "c.example", timeout=30) as client:
            client.starttls(context=trusting)
            client.sendmail("bo@example.net", [PANIC], MAIL)
        with served.smtp() as plain:  # the other place has no such condition
            plain.sendmail("bo@example.net", [PANIC], MAIL)
        assert [bool(mail.tls) for mail in served.store.mails] == [True, False]


# -- LMTP


def test_lmtp_answers_each_recipient_after_the_dot() -> None:
    with at(Endpoint(at=LOOPBACK, lmtp=True)) as served, Wire(port_of(served)) as client:
        assert client.reply() == "220 panic.example.com panicmail LMTP"
        assert "PIPELINING" in client.say(b"LHLO mx.example")
        client.say(b"MAIL FROM:<bo@example.net>")
        recipients = (b"panic@example.com", b"nobody@example.com", b"panic+x@example.com", b"panic@example.com")
        said = [client.say(b"RCPT TO:<" + recipient + b">")[:3] for recipient in recipients]
        assert said == ["250", "550", "250", "250"]
        client.say(b"DATA")
        assert client.say(MAIL + b".") == "250 2.0.0 accepted as KWMR"
        assert [client.reply(), client.reply()] == ["250 2.0.0 accepted as KWMR"] * 2
        assert client.say(b"NOOP").startswith("250 2.0.0")  # no answer too many
        (mail,) = served.store.mails
        assert (mail.helo, mail.recipients) == ("mx.example", (PANIC, "panic+x@example.com", PANIC))


def test_lmtp_tells_each_recipient_of_a_failure_too() -> None:
    store = Store()
    store.failures = {1: RuntimeError("x")}
    with at(Endpoint(at=LOOPBACK, lmtp=True), store) as served, Wire(port_of(served)) as client:
        client.reply()
        for line in (
            b"LHLO c",
            b"MAIL FROM:<>",
            b"RCPT TO:<panic@example.com>",
            b"RCPT TO:<panic+x@example.com>",
            b"DATA",
        ):
            client.say(line)
        assert [client.say(MAIL + b"."), client.reply()] == [reply_table.FAILED] * 2


@pytest.mark.parametrize(("lmtp", "command"), [(True, b"EHLO c"), (True, b"HELO c"), (False, b"LHLO c")])
def test_each_protocol_has_its_own_hello(lmtp: bool, command: bytes) -> None:
    with at(Endpoint(at=LOOPBACK, lmtp=lmtp)) as served, Wire(port_of(served)) as client:
        client.reply()
        assert client.say(command) == reply_table.NOT_UNDERSTOOD


def test_lmtp_without_a_recipient_takes_no_data() -> None:
    with at(Endpoint(at=LOOPBACK, lmtp=True)) as served, Wire(port_of(served)) as client:
        client.reply()
        for line in (b"LHLO c", b"MAIL FROM:<>", b"RCPT TO:<nobody@example.com>"):
            client.say(line)
        assert client.say(b"DATA") == reply_table.OUT_OF_ORDER


# -- sockets in the file system


def test_lmtp_through_a_socket_comes_from_this_host_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "lmtp.sock"
    with at(Endpoint(at=path, lmtp=True)) as served:
        assert served.listener.places[1] == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with smtplib.LMTP(str(path)) as client:
            client.sendmail("bo@example.net", [PANIC], MAIL)
        assert served.store.wait_for()[0].peer == "127.0.0.1"
    assert not path.exists()


def test_a_socket_that_an_ended_process_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lmtp.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with at(Endpoint(at=path, lmtp=True)), smtplib.LMTP(str(path)) as client:
        client.sendmail("bo@example.net", [PANIC], MAIL)


@pytest.mark.parametrize("what", ["somebody listens", "a file", "no folder"])
def test_a_socket_that_cannot_be_made_is_told_with_its_path(tmp_path: Path, what: str) -> None:
    path = tmp_path / ("gone/lmtp.sock" if what == "no folder" else "lmtp.sock")
    with contextlib.ExitStack() as leaving:
        if what == "somebody listens":
            other = leaving.enter_context(socket.socket(socket.AF_UNIX))
            other.bind(str(path))
            other.listen()
        elif what == "a file":
            path.write_text("precious")
        with pytest.raises(OSError, match=f"cannot listen on unix:{path}: "), at(Endpoint(at=path, lmtp=True)):
            pass
    assert what != "a file" or path.read_text() == "precious"


# -- sockets of systemd


def listening() -> socket.socket:
    return socket.create_server(LOOPBACK)


def smtp(**settings: Any) -> Config:
    given = {"hostname": "panic.example.com", "addresses": ["panic@example.com"], **settings}
    return Config.model_construct(smtp=SmtpSettings(**given))


def test_a_socket_of_systemd_serves_by_its_name_or_by_its_address() -> None:
    with listening() as named, listening() as other, listening() as addressed:
        where = f"127.0.0.1:{addressed.getsockname()[1]}"
        config = smtp(listen=["systemd:mail", where, "127.0.0.1:0"], lmtp=True)
        made = MailListeners(config).endpoints([("mail", named), ("mail", other), ("x", addressed)])
        assert [each.at for each in made] == [named, other, addressed, LOOPBACK]
        assert all(each.lmtp for each in made)


def test_a_mail_comes_by_a_socket_of_systemd() -> None:
    handed = listening()
    with at(Endpoint(at=handed)) as served:
        with smtplib.SMTP("127.0.0.1", handed.getsockname()[1], timeout=30) as client:
            client.sendmail("bo@example.net", [PANIC], MAIL)
        assert served.store.mails


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        (["systemd:mial"], r'found systemd:mial, expected a socket of that name .* "mail" at 127\.0\.0\.1:'),
        (["127.0.0.1:0"], r'hands over 127\.0\.0\.1:\d+ \(mail\), .* write listen = \["systemd:mail"\]'),
    ],
)
def test_a_socket_that_is_missing_or_that_nobody_serves_stops_the_start(listen: list[str], says: str) -> None:
    with listening() as handed, pytest.raises(Mistake, match=says):
        MailListeners(smtp(listen=listen)).endpoints([("mail", handed)])


def test_without_systemd_a_socket_of_it_is_told_to_be_missing() -> None:
    with pytest.raises(Mistake, match="hands over nothing"):
        MailListeners(smtp(listen=["systemd:mail"])).endpoints([])


def test_what_was_meant_for_another_process_is_not_taken() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "mail", "OTHER": "x"}
    assert systemd.take_sockets(environ) == []
    assert environ == {"OTHER": "x"}
    assert systemd.take_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}) == []


_TAKE = """
import os, socket, sys
from panicmail.daemon import systemd
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="mail")
try:
    ((name, taken),) = systemd.take_sockets()
except Exception as exc:
    print(exc)
else:
    print(name, taken.getsockname()[1], os.get_inheritable(3), "LISTEN_FDS" in os.environ)
"""


def taken(handed: socket.socket) -> str:
    """What a process says that is given this socket as the first descriptor systemd hands over."""
    code = f"import os; os.dup2({handed.fileno()}, 3)\n{_TAKE}"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, pass_fds=[handed.fileno()], capture_output=True, text=True, check=True).stdout


def test_the_sockets_of_systemd_are_taken_once_and_no_child_gets_them() -> None:
    with listening() as handed:
        assert taken(handed) == f"mail {handed.getsockname()[1]} False False\n"


def test_a_socket_that_takes_no_connections_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert "hands over mail, which takes no connections" in taken(datagrams)


# -- certificates


def test_each_place_shows_its_own_certificate_and_a_reload_changes_the_right_one(
    authority: trustme.CA, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    other, renewed = issued(authority, tmp_path, "other"), issued(authority, tmp_path, "renewed")

    def config(submission: tuple[Path, Path]) -> Config:
        own = {"tls_cert_file": submission[0], "tls_key_file": submission[1]}
        listeners = [{"address": "127.0.0.1:2526", "tls": "implicit", **own}, {"address": "127.0.0.1:2527"}]
        return smtp(listen=[], listeners=listeners, tls_cert_file=pair[0], tls_key_file=pair[1])

    made = MailListeners(config(other))
    own, shared = made.endpoints([])
    assert own.tls is not None
    assert shared.tls is not None
    assert (own.tls_at_once, shared.tls_at_once) == (True, False)
    assert own.tls is not shared.tls
    with serving(listen=[own_at(own), own_at(shared)]) as served:
        for listens, name in ((0, "other"), (1, "panic")):
            assert shows(served, listens, authority) == name
        made.take_certificates(config(renewed))
        for listens, name in ((0, "renewed"), (1, "panic")):
            assert shows(served, listens, authority) == name


def own_at(endpoint: Endpoint) -> Endpoint:
    return Endpoint(at=LOOPBACK, tls=endpoint.tls, tls_at_once=endpoint.tls_at_once)


def shows(served: Served, number: int, authority: trustme.CA) -> str:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    port = served.listener.addresses[number][1]
    client = (
        smtplib.SMTP_SSL("127.0.0.1", port, timeout=30, context=context)
        if number == 0
        else smtplib.SMTP("127.0.0.1", port, timeout=30)
    )
    with client:
        if number:
            client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        certificate: Any = client.sock.getpeercert()
        return str(dict(field[0] for field in certificate["subject"])["commonName"])


def test_a_certificate_whose_files_are_gone_is_shown_on(authority: trustme.CA, tmp_path: Path) -> None:
    cert, key = issued(authority, tmp_path, "old")
    certificate = ServerCertificate(cert, key)
    cert.unlink()
    certificate.renew()
    with serving(listen=[Endpoint(at=LOOPBACK, tls=certificate.context, tls_at_once=True)]) as served:
        assert shows(served, 0, authority) == "old"


# -- the daemon


def test_the_daemon_takes_mail_at_all_its_places(
    tmp_path: Path, pair: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    with world(tmp_path) as town:
        town.config["smtp"]["listeners"] = [
            {"address": f"unix:{tmp_path}/l.sock", "protocol": "lmtp"},
            {"address": "127.0.0.1:0", "tls": "implicit", "tls_cert_file": str(pair[0]), "tls_key_file": str(pair[1])},
            {"address": "[::1]:0"},
        ]
        town.config["smtp"]["listen"] = ["127.0.0.1:0"]
        town.start()
        _, unix, implicit, six = town.program.wait_for("ready")[1]["smtp"]
        assert (unix, six[:6]) == (f"unix:{tmp_path}/l.sock", "[::1]:")
        with smtplib.LMTP(f"{tmp_path}/l.sock") as client:
            client.sendmail("rita@example.com", [PANIC], b"Subject: by lmtp\r\n\r\nx\r\n")
        with smtplib.SMTP_SSL("127.0.0.1", port(implicit), timeout=30, context=trusting) as client:
            client.sendmail("rita@example.com", [PANIC], b"Subject: by tls\r\n\r\nx\r\n")
        with smtplib.SMTP("::1", port(six), timeout=30) as client:
            client.sendmail("rita@example.com", [PANIC], b"Subject: by six\r\n\r\nx\r\n")
        for how in ("by lmtp", "by tls", "by six"):
            assert town.received("ana", lambda mail, how=how: how in mail.subject)  # type: ignore[misc]
        rows = listener_checks.rows(configuration.load(town.path, {}))
        found = {row.subject: row.found for row in rows}
        assert found[f"unix:{tmp_path}/l.sock"].endswith("panicmail answers there")


def port(place: str) -> int:
    return int(place.rpartition(":")[2])


_EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="mail")
os.execv(sys.executable, [sys.executable, "-m", "panicmail", "serve", "-c", sys.argv[2]])
"""


def test_the_daemon_serves_a_socket_that_it_was_given_and_nobody_else_has(tmp_path: Path) -> None:
    with world(tmp_path) as town, listening() as handed:
        town.config["smtp"]["listen"] = ["systemd:mail"]
        town.write_config()
        command = [sys.executable, "-c", _EXEC, str(handed.fileno()), str(town.path)]
        environ = {**os.environ, "PANICMAIL_LOG__FORMAT": "json"}
        with subprocess.Popen(command, pass_fds=[handed.fileno()], env=environ, stderr=subprocess.PIPE) as program:
            try:
                assert program.stderr is not None
                assert any(b'"event": "ready"' in line or b'"event":"ready"' in line for line in program.stderr)
                with smtplib.SMTP("127.0.0.1", handed.getsockname()[1], timeout=20) as client:
                    client.sendmail("rita@example.com", [PANIC], b"Subject: handed over\r\n\r\nx\r\n")
                assert town.relay.wait(lambda mail: "handed over" in mail.subject, 30)
            finally:
                program.terminate()


# -- the configuration


@pytest.mark.parametrize(
    ("section", "key", "says"),
    [
        ("[[smtp.listeners]]\naddress = '0.0.0.0:25'\nprotocol = 'lmtp'", "[0].protocol", "port 25 speaks SMTP"),
        ("[[smtp.listeners]]\naddress = '0.0.0.0:465'\ntls = 'implicit'", "[0].tls", "tls_cert_file and tls_key_file"),
        ("[[smtp.listeners]]\naddress = '0.0.0.0:465'\ntls = 'implict'", "[0].tls", '"none", "starttls" or "implicit"'),
        ("[[smtp.listeners]]\naddress = '[::]:25'\nrequire_tls = true", "[0].require_tls", "with a certificate"),
        ("[[smtp.listeners]]\naddress = 'unix:a'\ntls = 'starttls'", "[0].tls", "stays on this host"),
        ("[[smtp.listeners]]\naddress = 'unix:'", "[0].address", "107 octets at most"),
        (f"[[smtp.listeners]]\naddress = 'unix:{'x' * 120}'", "[0].address", "107 octets at most"),
        ("[[smtp.listeners]]\naddress = 'systemd:'", "[0].address", "systemd:NAME"),
        ("[[smtp.listeners]]\naddress = 'systemd:a:b'", "[0].address", "systemd:NAME"),
        ("[[smtp.listeners]]\naddress = '[::]:25'\nprotocoll = 'smtp'", "[0].protocoll", 'expected "protocol"'),
        ("[[smtp.listeners]]\ntls = 'none'", "[0].address", "found nothing, expected host:port"),
        ("[[smtp.listeners]]\naddress = '127.0.0.1:8025'", "[0].address", "web.listen has it"),
        ("[[smtp.listeners]]\naddress = '0.0.0.0:25'\n[[smtp.listeners]]\naddress = '127.0.0.1:25'", "[1].address",
         "smtp.listeners[0].address has it"),
        ("[[smtp.listeners]]\naddress = 'unix:a'\n[[smtp.listeners]]\naddress = 'unix:./a'", "[1].address",
         "smtp.listeners[0].address has it"),
    ],
)  # fmt: skip
def test_a_listener_that_cannot_be_is_refused_with_its_place_and_what_is_expected(
    tmp_path: Path, section: str, key: str, says: str
) -> None:
    (line,) = mistakes(tmp_path, section)
    assert f"smtp.listeners{key}: found " in line
    assert says in line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("listen = []", "smtp.listen: found [], expected at least one address, or a table [[smtp.listeners]]"),
        ("listen = ['0.0.0.0:25']\nlmtp = true", "smtp.lmtp: found true, expected another port"),
        ("require_tls = true", "smtp.require_tls: found true, expected smtp.tls_cert_file"),
        ("listen = ['127.0.0.1:25', '127.0.0.1:25']", "smtp.listen[1]: found \"127.0.0.1:25\""),
    ],
)  # fmt: skip
def test_what_holds_for_listen_is_refused_where_it_cannot_be(tmp_path: Path, line: str, says: str) -> None:
    (told,) = mistakes(tmp_path, "", line)
    assert says in told


def test_addresses_of_different_families_and_ports_that_the_system_chooses_do_not_clash(tmp_path: Path) -> None:
    listen = "listen = ['0.0.0.0:25', '[::]:25', '127.0.0.1:0', '127.0.0.1:0', 'unix:a', 'systemd:a']"
    assert mistakes(tmp_path, "", listen) == []


def test_tables_of_listeners_stand_in_place_of_the_default_and_beside_what_is_written(tmp_path: Path) -> None:
    table = "[[smtp.listeners]]\naddress = '[::1]:2526'\n"
    for line, listened in (("", ["[::1]:2526"]), ("listen = ['127.0.0.1:25']", ["127.0.0.1:25", "[::1]:2526"])):
        config = configured(tmp_path, table, line)
        assert [str(each.address) for each in config.smtp.all_listeners] == listened
        assert ("smtp.listen" in config.inferred) == (not line)


def configured(folder: Path, section: str, line: str = "") -> Config:
    (folder / "gitlab.token").write_text("glpat-x")
    (folder / "gitlab.token").chmod(0o600)
    (folder / "panicmail.toml").write_text(SMALLEST.replace('listen = ["0.0.0.0:25"]', line) + f"\n{section}\n")
    return configuration.load(folder / "panicmail.toml", {}, host_name=lambda: "panic.example.com")


def mistakes(folder: Path, section: str, line: str = "") -> list[str]:
    try:
        configured(folder, section, line)
    except ConfigError as exc:
        return [str(mistake) for mistake in exc.mistakes]
    return []


# -- our own field


@given(helo=st.text(max_size=80), peer=st.sampled_from(["192.0.2.7", "2001:db8::7", "127.0.0.1"]), tls=st.booleans())
def test_our_own_received_names_the_peer_whatever_the_client_called_itself(helo: str, peer: str, tls: bool) -> None:
    secured = "TLSv1.3 TLS_AES_256_GCM_SHA384" if tls else ""
    mail = AcceptedMail(
        id="abc",
        accepted_at=datetime(2026, 11, 30, 21, tzinfo=UTC),
        mail_from="",
        recipients=(PANIC,),
        peer=peer,
        helo=helo,
        tls=secured,
        size=1,
    )
    field = own_received(mail, "panic.example.com")
    assert received_from(field.partition(b":")[2].replace(b"\r\n", b"")) == peer
    assert all(line[:1] in (b"R", b"\t") for line in field.splitlines())
    read = email.message_from_bytes(field + b"Subject: x\r\n\r\nbody")
    assert (read["Subject"], len(read.get_all("Received", []))) == ("x", 1)


def test_the_raw_message_on_the_issue_says_how_it_came_and_what_is_kept_is_what_was_sent(tmp_path: Path) -> None:
    office = Office(tmp_path)
    with contextlib.closing(office):
        incident = office.panic("My files are .locked")
        raw = office.store.read(lambda tx: tx.mails.raw(incident.mail_id))
        (name, data), *_ = office.gitlab.uploads
        assert name == f"{incident.ref}.eml"
        assert data.startswith(b"Received: from ")
        assert data.endswith(raw)
        assert b"@" not in data.removesuffix(raw), "no address, which may have a token"
        assert not raw.startswith(b"Received")
