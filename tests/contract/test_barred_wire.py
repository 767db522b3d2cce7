"""Each adapter on a real wire, each cause that lets nothing through: kept, probed, freed oldest first, each once."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from panicmail.delivery import EmailWorker, GitLabWorker, PushWorker
from panicmail.delivery.apprise import AppriseClient
from panicmail.delivery.pagerduty import PagerDutyClient
from panicmail.delivery.smtp_client import RelayClient
from panicmail.gitlab.client import GitLabProject
from panicmail.gitlab.issues import Issues
from panicmail.incident.model import Incident
from panicmail.incident.push_channel import channel
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import SandboxRelay
from panicmail.store.rows import DeliveryState
from tests.faults import tls
from tests.office import PEOPLE, Office, mail
from tests.provider import Provider

NAMES = ("rita", "sam", "uma")
#: Probes in so many minutes, the attempt that found it out included.
MINUTES, MOST = 5, 7


def three(desk: Office) -> list[Incident]:
    """Panics of three people, a few seconds apart."""
    for name in NAMES:
        sender = f"{name}@example.com"
        desk.deliver(mail("My files are locked.", sender=sender, subject=f"Help {name}"), sender)
        desk.wait(seconds=3)
    return sorted(desk.incidents(), key=lambda incident: incident.accepted_at)


def barred(desk: Office) -> set[str]:
    return set(desk.store.read(lambda tx: tx.adapters.barred()))


@contextlib.contextmanager
def office(folder: Path, push: str = "") -> Iterator[Office]:
    ana = replace(PEOPLE["ana"], push=(channel(push),) if push else ())
    with contextlib.closing(Office(folder, people={**PEOPLE, "ana": ana})) as desk:
        yield desk


# -- GitLab

GITLAB: dict[str, dict[str, Any]] = {
    "401": {"status": 401, "body": {"message": "401 Unauthorized"}},
    "403 scope": {"status": 403, "body": {"error": "insufficient_scope", "error_description": "more is needed"}},
    "403": {"status": 403, "body": {"message": "403 Forbidden"}},
    "blocked": {"status": 403, "body": {"message": "403 Forbidden - Your account has been blocked."}},
    "project gone": {"status": 404, "body": {"message": "404 Project Not Found"}},
}


def creates(gitlab: SandboxGitLab) -> list[str]:
    return [each.path for each in gitlab.requests if re.search(r"/issues(\?|$)", each.path) and each.method == "POST"]


def has_each_issue_once(desk: Office, gitlab: SandboxGitLab, incidents: Sequence[Incident]) -> None:
    titles = [issue["title"] for issue in sorted(gitlab.issues, key=lambda issue: int(issue["iid"]))]
    assert [title.rsplit(" ", 1)[1] for title in titles] == list(NAMES), "oldest first, each exactly once"
    assert [desk.incident(i).issue_iid for i in incidents] == [1, 2, 3]
    assert barred(desk) == set()


@pytest.mark.parametrize("cause", GITLAB.values(), ids=GITLAB)
def test_a_gitlab_that_answers_nothing_but_no_is_probed_and_then_has_each_issue_once(
    tmp_path: Path, cause: dict[str, Any]
) -> None:
    with office(tmp_path) as desk, SandboxGitLab() as gitlab:
        gitlab.fault("status", times=None, **cause)
        issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), ())
        desk.lanes[3] = GitLabWorker(desk.store, lambda: desk.settings, issues, desk.readers.parts)
        incidents = three(desk)
        asked = len(gitlab.requests)
        desk.wait(minutes=MINUTES)
        assert len(gitlab.requests) - asked <= MOST, "one question a probe: its marker is looked for first"
        assert barred(desk) == {"gitlab"}
        gitlab.clear_faults()
        desk.wait(seconds=61)
        has_each_issue_once(desk, gitlab, incidents)
        issues.close()


@pytest.mark.parametrize("what", ["ended", "unknown", "no TLS"])
def test_a_gitlab_whose_tls_does_not_fit_hears_no_token_and_then_has_each_issue_once(tmp_path: Path, what: str) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(stranger)
    wrong = {"ended": tls.server(ended=True), "unknown": stranger, "no TLS": tls.server(ended=False)}[what]
    with office(tmp_path) as desk, SandboxGitLab() as gitlab, tls.Front(gitlab.port, wrong) as front:
        port = gitlab.port if what == "no TLS" else front.port
        issues = Issues(
            GitLabProject(f"https://127.0.0.1:{port}", gitlab.project, gitlab.token, ssl_context=tls.client()), ()
        )
        desk.lanes[3] = GitLabWorker(desk.store, lambda: desk.settings, issues, desk.readers.parts)
        incidents = three(desk)
        desk.wait(minutes=MINUTES)
        assert creates(gitlab) == []
        assert barred(desk) == {"gitlab"}
        issues.close()
        front.context = tls.server(ended=False)
        mended = Issues(
            GitLabProject(f"https://127.0.0.1:{front.port}", gitlab.project, gitlab.token, ssl_context=tls.client()), ()
        )
        desk.lanes[3] = GitLabWorker(desk.store, lambda: desk.settings, mended, desk.readers.parts)
        desk.wait(seconds=61)
        has_each_issue_once(desk, gitlab, incidents)
        mended.close()


# -- the relay

PLAIN = ("220 x", "250-x\r\n250 AUTH PLAIN")
RELAY = {
    "535": (*PLAIN, "535 5.7.8 bad credentials"),
    "530": (*PLAIN, "235 ok", "530 5.7.0 authentication required"),
    "538": (*PLAIN, "538 5.7.11 encryption required"),
    "no AUTH": ("220 x", "250 x"),
    "554 greeting": ("554 5.7.1 not you",),
}


class Gate:
    """Before a relay: says these lines, one for each that comes, to everybody until it is `open`."""

    def __init__(self, behind: int, says: Sequence[str]) -> None:
        self._behind, self._says = behind, says
        self.open, self.callers = False, 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Gate:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(30)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self.callers += 1
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        client.settimeout(30)
        with client, contextlib.suppress(OSError):
            if not self.open:
                with client.makefile("rb") as lines:
                    for say in self._says:
                        client.sendall(say.encode() + b"\r\n")
                        lines.readline()
                return
            with socket.create_connection(("127.0.0.1", self._behind), 10) as behind:
                threading.Thread(target=_pour, args=(behind, client), daemon=True).start()
                _pour(client, behind)


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while octets := source.recv(65536):
            sink.sendall(octets)
        sink.shutdown(socket.SHUT_WR)


def mails_by(desk: Office, relay: RelayClient) -> None:
    for number, name in ((0, "page"), (2, "mail")):
        desk.lanes[number] = EmailWorker(name, desk.store, lambda: desk.settings, relay)


def pages_in_order(desk: Office, sandbox: SandboxRelay, incidents: Sequence[Incident]) -> None:
    pages = sandbox.all(lambda got: got.to("ana@example.com") and "[PANIC" in got.subject)
    assert [next(i.ref for i in incidents if i.ref in page.subject) for page in pages] == [i.ref for i in incidents]
    assert barred(desk) == set()


@pytest.mark.parametrize("says", RELAY.values(), ids=RELAY)
def test_a_relay_that_refuses_us_is_probed_and_then_takes_each_page_once(tmp_path: Path, says: Sequence[str]) -> None:
    with office(tmp_path) as desk, SandboxRelay() as sandbox, Gate(sandbox.port, says) as gate:
        relay = RelayClient(
            "127.0.0.1", gate.port, username="panic", password="secret", hostname="x.example", timeout=5
        )
        mails_by(desk, relay)
        incidents = three(desk)
        asked = gate.callers
        desk.wait(minutes=MINUTES - 1, seconds=-30)
        assert gate.callers - asked <= MOST
        assert barred(desk) == {"relay"}
        gate.open = True
        desk.wait(seconds=61)
        pages_in_order(desk, sandbox, incidents)
        relay.close()


@pytest.mark.parametrize("what", ["ended", "not offered"])
def test_a_relay_whose_tls_does_not_fit_gets_no_page_and_then_each_once(tmp_path: Path, what: str) -> None:
    with (
        office(tmp_path) as desk,
        SandboxRelay(tls=tls.server(ended=True) if what == "ended" else None) as sandbox,
    ):
        relay = RelayClient(
            "127.0.0.1", sandbox.port, "starttls", hostname="x.example", timeout=5, ssl_context=tls.client()
        )
        mails_by(desk, relay)
        incidents = three(desk)
        desk.wait(minutes=2)
        assert (sandbox.mails, barred(desk)) == ([], {"relay"})
        sandbox.tls = tls.server(ended=False)
        desk.wait(seconds=61)
        pages_in_order(desk, sandbox, incidents)
        relay.close()


# -- phones

STATUSES = (401, 403, 404, 410)


def rung_in_order(desk: Office, texts: Sequence[str], incidents: Sequence[Incident]) -> None:
    rung = [next(i.ref for i in incidents if i.ref in text) for text in texts]
    assert rung == [i.ref for i in incidents], "oldest first, each once"
    assert barred(desk) == set()


def probed(desk: Office, provider: Provider, mend: Callable[[], None]) -> tuple[list[Incident], list[str]]:
    """What it took once it took anything."""
    incidents = three(desk)
    asked = len(provider.asked)
    desk.wait(minutes=MINUTES - 1, seconds=-30)
    assert len(provider.asked) - asked <= MOST
    assert {name.partition("/")[0] for name in barred(desk)} == {"push"}
    assert {desk.incident(i).away != {} for i in incidents} == {False}, "their mail is enough"
    mend()
    before = len(provider.asked)
    desk.wait(seconds=61)
    return incidents, [asked.body.decode() for asked in provider.asked[before:]]


@pytest.mark.parametrize("status", STATUSES)
def test_a_push_service_that_refuses_us_is_probed_and_then_rings_for_each_once(tmp_path: Path, status: int) -> None:
    with Provider() as provider, office(tmp_path, f"json://{provider.host}/") as desk:
        desk.lanes[1] = PushWorker(desk.store, lambda: desk.settings, AppriseClient(5), PagerDutyClient(provider.url))
        provider.status = status
        incidents, texts = probed(desk, provider, lambda: setattr(provider, "status", 200))
        rung_in_order(desk, texts, incidents)


@pytest.mark.parametrize("status", STATUSES)
def test_a_pagerduty_that_refuses_us_is_probed_and_then_rings_for_each_once(tmp_path: Path, status: int) -> None:
    with Provider() as provider, office(tmp_path, "pagerduty:R0UTINGKEY") as desk:
        desk.lanes[1] = PushWorker(desk.store, lambda: desk.settings, AppriseClient(5), PagerDutyClient(provider.url))
        provider.status = status
        incidents, texts = probed(desk, provider, lambda: setattr(provider, "status", 202))
        rung_in_order(desk, texts, incidents)


@pytest.mark.parametrize("service", ["apprise", "pagerduty"])
def test_a_push_service_nobody_vouches_for_gets_nothing_and_then_rings_for_each_once(
    tmp_path: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    def trust() -> None:
        assert provider.asked == []
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.setenv(name, str(tmp_path / "ca.pem"))

    with Provider(tls=context) as provider:
        url = f"jsons://{provider.host}/" if service == "apprise" else "pagerduty:R0UTINGKEY"
        with office(tmp_path, url) as desk:
            desk.lanes[1] = PushWorker(
                desk.store, lambda: desk.settings, AppriseClient(5), PagerDutyClient(provider.url)
            )
            incidents, texts = probed(desk, provider, trust)
            rung_in_order(desk, texts, incidents)


def test_a_refusal_of_the_one_thing_pushed_is_final(tmp_path: Path) -> None:
    with Provider() as provider, office(tmp_path, f"json://{provider.host}/") as desk:
        desk.lanes[1] = PushWorker(desk.store, lambda: desk.settings, AppriseClient(5), PagerDutyClient(provider.url))
        provider.status = 400
        incident = desk.panic()
        tasks = desk.store.read(lambda tx: tx.outbox.of_incident(incident.id))
        assert [task.state for task in tasks if task.lane == "push"] == [DeliveryState.FAILED]
        assert barred(desk) == set()
