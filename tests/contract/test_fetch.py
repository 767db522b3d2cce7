"""HTTP to the world outside: what a call knows when it returns, and that it does return."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from panicmail.delivery import http_client
from panicmail.errors import Blocked, Denied, Gone, LockedOut, Permanent, Temporary, Unknown
from tests.provider import Provider, closed_port, hanging_up

#: A busy machine may take so long for what takes a moment.
PATIENT = 15.0
LIMIT = 10_000


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as one:
        yield one


def get(url: str, timeout: float = PATIENT) -> bytes:
    return http_client.get(url, timeout=timeout, limit=LIMIT)


def post(url: str, timeout: float = PATIENT) -> http_client.Answer:
    return http_client.post_json(url, {"summary": "PANIC 7KQ2"}, headers={"X-Key": "k"}, timeout=timeout)


CALLS = pytest.mark.parametrize("call", [get, post])
Call = Callable[..., object]


def is_sure(caught: pytest.ExceptionInfo[Temporary]) -> bool:
    return not isinstance(caught.value, Unknown)


# -- it works


def test_a_document_is_what_stands_there(provider: Provider) -> None:
    provider.answer = b"BEGIN:VCALENDAR"
    assert get(f"{provider.url}/200/seoc.ics?key=k") == b"BEGIN:VCALENDAR"
    assert (provider.asked[0].method, provider.asked[0].path) == ("GET", "/200/seoc.ics?key=k")


def test_a_document_handed_over_is_json_and_the_answer_comes_back(provider: Provider) -> None:
    provider.answer = "kept ✓".encode()
    assert post(f"{provider.url}/202") == http_client.Answer(202, "kept ✓")
    (asked,) = provider.asked
    assert (asked.method, asked.json, asked.headers["X-Key"]) == ("POST", {"summary": "PANIC 7KQ2"}, "k")
    assert asked.headers["Content-Type"] == "application/json"


def test_user_and_password_of_a_url_are_used(provider: Provider) -> None:
    get(f"http://user:pass@{provider.host}/200")
    assert provider.asked[0].headers["Authorization"].startswith("Basic ")


# -- it does not


@CALLS
@pytest.mark.parametrize("status", [304, 400, 401, 404, 410])
def test_a_refusal_is_for_good(provider: Provider, call: Call, status: int) -> None:
    with pytest.raises(Permanent, match=f"127.0.0.1 answered {status}"):
        call(f"{provider.url}/{status}")


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [([401], Denied), ([403, 401], Denied), ([404], Gone), ([410, 403], Gone), ([400, 401], Permanent)],
)
def test_a_refusal_is_about_all_of_it_where_every_answer_is(statuses: list[int], kind: type[Permanent]) -> None:
    assert http_client.refusal(statuses) is kind


@CALLS
@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_what_may_pass_is_not_and_the_wait_asked_for_is_handed_on(provider: Provider, call: Call, status: int) -> None:
    provider.headers = {"Retry-After": "7"}
    with pytest.raises(Temporary, match=f"answered {status}") as caught:
        call(f"{provider.url}/{status}")
    assert is_sure(caught)
    assert caught.value.retry_after == 7


@CALLS
@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_does_not_know(provider: Provider, call: Call, status: int) -> None:
    with pytest.raises(Unknown, match=f"answered {status}"):
        call(f"{provider.url}/{status}")


@CALLS
def test_without_a_connection_nothing_was_sent(call: Call) -> None:
    with pytest.raises(Temporary, match="cannot be reached") as caught:
        call(f"http://127.0.0.1:{closed_port()}/")
    assert is_sure(caught)


@CALLS
@pytest.mark.parametrize("path", ["reset", "close"])
def test_after_a_connection_that_went_it_may_have_happened(provider: Provider, call: Call, path: str) -> None:
    with pytest.raises(Unknown, match="gave no answer"):
        call(f"{provider.url}/{path}")
    assert len(provider.asked) == 1


@CALLS
@pytest.mark.parametrize("path", ["hang", "drip"])
def test_a_call_ends_in_time_whatever_the_other_side_does(provider: Provider, call: Call, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(Unknown, match="no answer"):
        call(f"{provider.url}/{path}", timeout=0.3)
    assert time.monotonic() - began < 25  # they hang for thirty


@CALLS
@pytest.mark.parametrize("url", ["", "nonsense", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http://[x/"])
def test_a_url_that_cannot_be_asked_is_refused_for_good(call: Call, url: str) -> None:
    with pytest.raises(Permanent):
        call(url)


# -- its size


def test_a_document_of_the_allowed_length_is_taken_and_a_longer_one_refused(provider: Provider) -> None:
    assert len(get(f"{provider.url}/long?n={LIMIT}")) == LIMIT
    with pytest.raises(Permanent, match=f"longer than {LIMIT} octets"):
        get(f"{provider.url}/long?n={LIMIT + 1000}")


def test_of_an_endless_document_little_is_taken(provider: Provider) -> None:
    began = time.monotonic()
    with pytest.raises(Permanent, match="longer"):
        get(f"{provider.url}/long?n={10**12}")
    assert time.monotonic() - began < PATIENT


def test_a_long_answer_to_what_was_handed_over_is_cut(provider: Provider) -> None:
    assert 60_000 < len(post(f"{provider.url}/long?n=1000000").text) <= 64 * 1024


# -- where it leads


def test_a_document_that_has_moved_is_found(provider: Provider) -> None:
    assert get(f"{provider.url}/302?to=/200") == provider.answer
    assert [asked.path for asked in provider.asked] == ["/302?to=/200", "/200"]


@pytest.mark.parametrize("to", ["https://127.0.0.1:1/", "file:///etc/passwd", "ftp://127.0.0.1/"])
def test_no_redirect_leads_to_another_scheme(provider: Provider, to: str) -> None:
    with pytest.raises(Permanent, match="leads to"):
        get(f"{provider.url}/302?to={quote(to)}")


def test_a_circle_is_left(provider: Provider) -> None:
    provider.headers = {"Location": "/302"}
    with pytest.raises(Permanent, match="leads on and on"):
        get(f"{provider.url}/302")
    assert len(provider.asked) == 6


def test_what_is_handed_over_is_handed_over_to_nobody_else(provider: Provider) -> None:
    with pytest.raises(Permanent, match="answered 302"):
        post(f"{provider.url}/302?to=/200")
    assert len(provider.asked) == 1


def test_no_cookie_is_kept(provider: Provider) -> None:
    provider.headers = {"Set-Cookie": "session=1; Path=/"}
    get(f"{provider.url}/302?to=/200")
    get(f"{provider.url}/200")
    assert len(provider.asked) == 3
    assert not [asked for asked in provider.asked if "Cookie" in asked.headers]


# -- certificates, secrets


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def over_tls(authority: trustme.CA) -> Iterator[Provider]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Provider(tls=context) as one:
        yield one


@CALLS
def test_a_certificate_nobody_vouches_for_ends_it(over_tls: Provider, call: Call) -> None:
    with pytest.raises(LockedOut, match="CERTIFICATE_VERIFY_FAILED"):
        call(f"{over_tls.url}/200")
    assert over_tls.asked == []


@CALLS
def test_a_port_that_speaks_no_tls_is_not_asked(provider: Provider, call: Call) -> None:
    with pytest.raises(LockedOut):
        call(f"https://{provider.host}/200")


@CALLS
def test_a_connection_that_breaks_while_tls_begins_may_hold_the_next_time(call: Call) -> None:
    with hanging_up() as port, pytest.raises(Temporary) as caught:
        call(f"https://127.0.0.1:{port}/200")
    assert not isinstance(caught.value, Blocked)


@CALLS
def test_an_authority_of_the_environment_is_trusted(
    over_tls: Provider, call: Call, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert call(f"{over_tls.url}/200")


def test_a_proxy_of_the_environment_is_asked(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", provider.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    get("http://calendar.example.com/200")
    assert provider.asked[0].path == "http://calendar.example.com/200"


@CALLS
@pytest.mark.parametrize("path", ["404", "500", "reset", "hang", "302?to=https://127.0.0.1/secret&x="])
def test_an_error_names_the_host_and_nothing_else(provider: Provider, call: Call, path: str) -> None:
    with pytest.raises((Permanent, Temporary)) as caught:
        call(f"http://user:secret@{provider.host}/{path}/secret?key=secret", timeout=0.5)
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in f"{error!r}"
        error = error.__cause__ or error.__context__
