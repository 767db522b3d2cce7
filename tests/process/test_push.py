"""Push: what `send` knows when it returns, what it knows when it does not, and what nobody may read from it."""

from __future__ import annotations

import logging
import os
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from panicmail.delivery.apprise import AppriseClient
from panicmail.errors import Blocked, LockedOut, Permanent, Temporary, Unknown
from panicmail.incident.push_channel import channel
from tests.provider import Provider, closed_port, hanging_up, until

LINE = "PANIC 7KQ2 Ransom note on my laptop | ack by 03:22"
#: A busy machine may take so long for what takes a moment.
PATIENT = 15.0


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Apprise is imported once, before anything is timed."""
    with pytest.raises(Permanent):
        AppriseClient().send("nothing://at.all", LINE)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as one:
        yield one


def is_sure(caught: pytest.ExceptionInfo[Temporary]) -> bool:
    return not isinstance(caught.value, Unknown)


# -- it arrives


def test_a_line_and_its_link_arrive_and_the_answer_names_the_service(provider: Provider) -> None:
    answer = AppriseClient(PATIENT).send(f"json://{provider.host}/200", LINE, "https://panic.example.com/i/t")
    assert answer == "JSON took it"
    (asked,) = provider.asked
    assert asked.json["message"] == f"{LINE} https://panic.example.com/i/t"
    assert (asked.json["title"], asked.json["attachments"]) == ("", [])


def test_it_is_a_failure_in_apprises_words_because_below_that_some_services_only_make_a_note(
    provider: Provider,
) -> None:
    AppriseClient(PATIENT).send(f"json://{provider.host}/200", LINE)
    assert provider.asked[0].json["type"] == "failure"


def test_ntfy_gets_topic_and_line(provider: Provider) -> None:
    assert AppriseClient(PATIENT).send(f"ntfy://{provider.host}/ana-secret", LINE) == "ntfy took it"
    assert provider.asked[0].json == {"topic": "ana-secret", "message": LINE}


@pytest.mark.parametrize(
    ("said", "arrives"),
    [
        (r"C:\new \u0041 :smile: *x* _y_ `z` <b>&amp;", r"C:\new \u0041 :smile: *x* _y_ `z` <b>&amp;"),
        ("two\r\nlines\tand more", "two lines and more"),
        ("@all hear <!channel>, <@U02ABC>, rita@example.com", "@ all hear < !channel>, < @ U02ABC>, rita@example.com"),
    ],
)
def test_nothing_in_a_line_is_acted_on(provider: Provider, said: str, arrives: str) -> None:
    AppriseClient(PATIENT).send(f"json://{provider.host}/200", said)
    assert provider.asked[0].json["message"] == arrives


# -- it does not


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 302])
def test_a_refusal_is_for_good(provider: Provider, status: int) -> None:
    with pytest.raises(Permanent, match=f"JSON answered {status}"):
        AppriseClient(PATIENT).send(f"json://{provider.host}/{status}", LINE)


@pytest.mark.parametrize(
    ("path", "is_barred"), [("401", True), ("403", True), ("404", True), ("410", True), ("400", False), ("302", False)]
)
def test_a_refusal_of_who_we_are_or_where_it_goes_is_about_every_line(
    provider: Provider, path: str, is_barred: bool
) -> None:
    with pytest.raises(Permanent) as caught:
        AppriseClient(PATIENT).send(f"json://{provider.host}/{path}", LINE)
    assert isinstance(caught.value, Blocked) is is_barred


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_not(provider: Provider, status: int) -> None:
    with pytest.raises(Temporary, match=f"JSON answered {status}") as caught:
        AppriseClient(PATIENT).send(f"json://{provider.host}/{status}", LINE)
    assert is_sure(caught)


def test_ntfys_own_codes_are_understood(provider: Provider) -> None:
    provider.status, provider.answer = 403, b'{"code": 40301, "http": 403, "error": "forbidden"}'
    with pytest.raises(Permanent, match="ntfy answered 403"):
        AppriseClient(PATIENT).send(f"ntfy://{provider.host}/ana-secret", LINE)


@pytest.mark.parametrize("wish", ["optional=yes", "retry=3&wait=0", "redirect=yes"])
def test_a_url_cannot_wish_a_failure_away(provider: Provider, wish: str) -> None:
    with pytest.raises(Permanent):
        AppriseClient(PATIENT).send(f"json://{provider.host}/302?to=/200&{wish}", LINE)
    assert len(provider.asked) == 1


def test_a_connection_that_never_came_to_be_sent_nothing() -> None:
    with pytest.raises(Temporary, match="cannot be reached") as caught:
        AppriseClient(PATIENT).send(f"json://127.0.0.1:{closed_port()}/", LINE)
    assert is_sure(caught)


@pytest.mark.parametrize("path", ["reset", "close"])
def test_after_a_connection_that_went_it_may_have_arrived(provider: Provider, path: str) -> None:
    with pytest.raises(Unknown, match="hung up"):
        AppriseClient(PATIENT).send(f"json://{provider.host}/{path}", LINE)
    assert len(provider.asked) == 1


@pytest.mark.parametrize("path", ["hang", "drip"])
def test_who_takes_the_connection_and_hangs_holds_nobody(provider: Provider, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(Unknown):
        AppriseClient(0.3).send(f"json://{provider.host}/{path}", LINE)
    assert time.monotonic() - began < 25  # they hang for thirty


def test_a_provider_that_drips_keeps_few_threads_and_those_end_with_it(provider: Provider) -> None:
    push = AppriseClient(0.1, most=2)
    url = f"json://{provider.host}/drip"
    for _ in range(2):
        with pytest.raises(Unknown):
            push.send(url, LINE)
    with pytest.raises(Temporary, match="2 calls before this one") as caught:
        push.send(url, LINE)
    assert is_sure(caught)
    assert len(provider.asked) == 2

    def hanging() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("call-json")]

    assert len(hanging()) == 2
    provider.release()
    until(lambda: not hanging())
    with pytest.raises(Permanent):
        push.send(f"json://{provider.host}/404", LINE)


@pytest.mark.parametrize("url", ["nothing://at.all", "file:///etc/passwd", "nonsense", "", "json://", "json://["])
def test_a_url_that_means_nothing_is_refused_for_good(url: str) -> None:
    with pytest.raises(Permanent, match=r"does not understand|no push service"):
        AppriseClient(PATIENT).send(url, LINE)


# -- certificates


def test_certificates_are_verified_whatever_the_url_says(fake_tls: Provider) -> None:
    for url in (f"jsons://{fake_tls.host}/200", f"jsons://{fake_tls.host}/200?verify=no"):
        with pytest.raises(LockedOut, match=r"no TLS with it \(CERTIFICATE_VERIFY_FAILED\)") as caught:
            AppriseClient(PATIENT).send(url, LINE)
        assert is_sure(caught)
    assert fake_tls.asked == []


def test_a_port_that_speaks_no_tls_lets_no_line_through(provider: Provider) -> None:
    with pytest.raises(LockedOut, match="no TLS with it"):
        AppriseClient(PATIENT).send(f"jsons://{provider.host}/200", LINE)


def test_a_connection_that_breaks_while_tls_begins_may_hold_the_next_time() -> None:
    with hanging_up() as port, pytest.raises(Temporary) as caught:
        AppriseClient(PATIENT).send(f"jsons://127.0.0.1:{port}/200", LINE)
    assert not isinstance(caught.value, Blocked)


def test_an_authority_of_the_environment_is_trusted(
    monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, tmp_path: Path, fake_tls: Provider
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    assert AppriseClient(PATIENT).send(f"jsons://{fake_tls.host}/200?verify=no", LINE) == "JSON took it"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def fake_tls(authority: trustme.CA) -> Iterator[Provider]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Provider(tls=context) as one:
        yield one


# -- secrets


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ntfys://ntfy.example.com/ana-secret", "ntfys://ntfy.example.com/…"),
        ("ntfys://user:secret@ntfy.example.com:8443/t?auth=secret", "ntfys://ntfy.example.com/…"),
        ("ntfys://ana-secret", "ntfys://…"),
        ("tgram://123456789:secret/12315544/", "tgram://…"),
        ("line://secret.with.dots/U123", "line://…"),
        ("discord://4174216298/secret", "discord://…"),
        ("https://hooks.slack.com/services/T1/B2/secret", "https://…"),
        ("pagerduty:secret", "PagerDuty"),
        ("json://[secret", "?://…"),
        ("secret", "?://…"),
    ],
)
def test_of_a_url_nothing_is_told_that_could_be_a_secret(url: str, told: str) -> None:
    assert channel(url).shown == told


@pytest.mark.parametrize("path", ["403", "500", "reset", "hang"])
def test_neither_errors_nor_logs_tell_a_secret(
    provider: Provider, path: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.answer = b'{"error": "no topic ana-secret"}'
    provider.headers = {"X-Bad": "a", " broken ana-secret": "b"}
    url = f"json://user:ana-secret@{provider.host}/{path}/ana-secret?+X-Token=ana-secret"
    with pytest.raises((Temporary, Permanent)) as caught:
        AppriseClient(0.5).send(url, "the text of a mail")
    told = [repr(caught.value), caplog.text, *capfd.readouterr()]
    link: BaseException | None = caught.value.__cause__
    while link is not None:
        told.append(repr(link))
        link = link.__cause__
    assert not [text for text in told if "ana-secret" in text or "text of a mail" in text]


# -- Apprise keeps to itself


def test_apprise_is_not_imported_before_the_first_push_and_touches_no_file(tmp_path: Path, provider: Provider) -> None:
    script = f"""
        import sys
        from panicmail.delivery import apprise
        assert "apprise" not in sys.modules
        written = []
        def look(event, arguments):
            if event == "open" and isinstance(arguments[0], (str, bytes)):
                path, mode, flags = arguments
                if (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & 3:
                    written.append(path)
            if event in ("os.mkdir", "os.rename", "os.remove") :
                written.append(arguments[0])
            if event == "open" and ".apprise" in str(arguments[0]):
                written.append(arguments[0])
        sys.dont_write_bytecode = True
        sys.addaudithook(look)
        apprise.AppriseClient({PATIENT}).send("ntfy://{provider.host}/ana", "line")
        apprise.AppriseClient({PATIENT}).send("json://{provider.host}/200", "line")
        assert [w for w in written if str(w) != "/dev/null"] == [], written
    """
    home = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "APPRISE_URLS": "json://nobody"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert list(tmp_path.iterdir()) == []
    assert len(provider.asked) == 2
