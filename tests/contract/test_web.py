"""What the link, the probes and the figures promise, over a real socket and in a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from panicmail.daemon.watchdog import Health
from panicmail.errors import StoreFailed
from panicmail.incident.model import Outcome, State
from panicmail.server.http import Figure, LinkPage, WebServer, create_app, http_server
from panicmail.server.http.backend import LinkBackend
from panicmail.server.http.link import WORDS, code, headline, recorded, second_line
from tests.link_pages import TOKEN, Client, listening, running_loop, wait_for
from tests.office import Office

ACCEPTED = datetime(2026, 11, 21, 2, 7, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")

OPEN = LinkPage(
    ref="7KQ2M",
    state=State.OPEN,
    person_name="Ana Reyes",
    tz=BERLIN,
    accepted_at=ACCEPTED,
    subject="Ransom note on my laptop",
    reporter="Rita Lopez <rita@example.com>",
    sender="not proved (no signature)",
    report="Hi,\n\nMy files are .locked, Slack is gone.\nA red window asks for 2 BTC.\n\nRita\n+49 170 0000000",
    flags=("no text part: read from HTML",),
    attachments=("note.png (84 KB)",),
    ack_by=ACCEPTED + timedelta(minutes=15),
    next_people=("Max Stone",),
    phones=(("Max Stone", "+49 151 0000-001"),),
    happened=((ACCEPTED, "accepted"), (ACCEPTED + timedelta(seconds=1), "Ana Reyes (SEOC) is paged")),
    acts=("ack", "no", "escalate"),
)
MINE = replace(
    OPEN,
    state=State.ACKED,
    holder="Ana Reyes",
    holder_since=ACCEPTED + timedelta(minutes=2),
    holder_is_reader=True,
    holder_how="by link, not authenticated",
    issue_url="https://gitlab.example.com/security/panic/-/issues/41",
    happened=(*OPEN.happened, (ACCEPTED + timedelta(minutes=2), "Ana Reyes acknowledged, by link, not authenticated")),
    acts=("no", "escalate", "resolve"),
)
MAXS = replace(MINE, holder="Max Stone", holder_is_reader=False, acts=("take", "escalate"))
CLOSED = replace(
    MINE, state=State.RESOLVED, resolved_by="Ana Reyes", resolved_at=ACCEPTED + timedelta(hours=3), acts=()
)


@dataclass
class Desk:
    """A backend with one incident, that can be told to fail."""

    page: LinkPage = OPEN
    acted: list[str] = field(default_factory=list)
    alive: bool = True
    reasons: tuple[str, ...] = ()
    numbers: tuple[Figure, ...] = ()
    fails: Exception | None = None
    hangs: threading.Event | None = None
    begun: int = 0

    def read_link(self, token: str) -> LinkPage | None:
        self._stumble()
        return self.page if token == TOKEN else None

    def act(self, token: str, word: str) -> Outcome | None:
        self._stumble()
        if token != TOKEN:
            return None
        self.acted.append(word)
        if self.page.state is not State.OPEN:
            return Outcome.ALREADY
        if word == "ack":
            self.page = MINE
        return Outcome.DONE

    def is_alive(self) -> bool:
        return self.alive

    def unready(self) -> tuple[str, ...]:
        self._stumble()
        return self.reasons

    def figures(self) -> Iterable[Figure]:
        self._stumble()
        return self.numbers

    def _stumble(self) -> None:
        self.begun += 1
        if self.hangs is not None:
            self.hangs.wait(10)
        if self.fails is not None:
            raise self.fails


@dataclass
class Site(Client):
    """The server in a loop of its own thread, and the backend it stands on."""

    desk: Desk

    @property
    def link(self) -> str:
        return f"/i/{TOKEN}"


@contextlib.contextmanager
def serving(desk: Desk, *, patience: float = 5.0, people_within: float = 5.0) -> Iterator[Site]:
    app = create_app(desk, people_within=people_within, machines_within=people_within)
    with listening(app, patience=patience) as port:
        yield Site(port, desk)


@pytest.fixture(scope="module")
def one_site() -> Iterator[Site]:
    with serving(Desk()) as one:
        yield one


@pytest.fixture
def site(one_site: Site) -> Site:
    """A site as new; the server stays, for starting and stopping one takes a while."""
    for name, value in vars(Desk()).items():
        setattr(one_site.desk, name, value)
    return one_site


# -- the link: looking ----------------------------------------------------------------------------------------------


def test_looking_changes_nothing_whatever_is_in_the_query(site: Site) -> None:
    for method in ("GET", "HEAD"):
        for query in ("", "?word=ack", "?did=ack.done"):
            assert site.ask(method, site.link + query)[0] == 200
    assert site.desk.acted == []
    assert site.desk.page is OPEN


def test_head_has_no_body(site: Site) -> None:
    status, headers, body = site.ask("HEAD", site.link)
    assert (status, body) == (200, "")
    assert int(headers["Content-Length"]) > 0


def test_the_page_says_who_must_do_what_by_when(site: Site) -> None:
    page = site.get(site.link)[2]
    assert "<h1>Clock running: ack by 03:22 CET, or Max Stone is called.</h1>" in page
    assert 'href="tel:+491510000001"' in page
    assert "by link, not authenticated" in page
    assert [w for w in WORDS if f'value="{w}"' in page] == ["ack", "no", "escalate"]


def test_only_the_acts_that_make_sense_now_are_offered(site: Site) -> None:
    site.desk.page = CLOSED
    page = site.get(site.link)[2]
    assert "<form" not in page
    assert "<h1>Closed 06:07 CET by Ana Reyes.</h1>" in page


def test_everybody_sees_what_an_acknowledgement_rests_on(site: Site) -> None:
    site.desk.page = replace(MAXS, holder_how="reply from max@example.com, DKIM example.com", acts=())
    assert "<dd>reply from max@example.com, DKIM example.com</dd>" in site.get(site.link)[2]


def test_a_wrong_token_is_a_404_that_is_the_same_for_everybody(site: Site) -> None:
    answers = [
        site.get("/i/l1-abcdefghijklmnop-1-aaaaaaaaaaaaaaaa"),
        site.get("/i/x"),
        site.get("/i/%C3%A4%00%22%3E%3Cscript%3E"),
        site.get("/i/" + "a" * 5000),
        site.press("ack", "/i/l1-abcdefghijklmnop-1-aaaaaaaaaaaaaaaa"),
        site.get("/nothing/here"),
    ]
    assert {status for status, _, _ in answers} == {404}
    assert len({body for _, _, body in answers}) == 1
    assert "This link opens nothing." in answers[0][2]
    assert site.desk.acted == []


# -- the link: pressing ---------------------------------------------------------------------------------------------


def test_a_press_acts_and_leads_back_to_the_page(site: Site) -> None:
    status, headers, _ = site.press("ack")
    assert (status, headers["Location"]) == (303, "?did=ack.done")
    assert site.desk.acted == ["ack"]
    page = site.get(site.link + headers["Location"])[2]
    assert "Clock stopped 03:09 CET: you have it." in page
    assert "Recorded: you acknowledged." in page


def test_a_second_press_is_told_that_it_came_second(site: Site) -> None:
    site.press("ack")
    _, headers, _ = site.press("ack")
    assert headers["Location"] == "?did=ack.already"
    assert "acknowledged before you pressed" in site.get(site.link + "?did=ack.already")[2]


def test_nothing_of_the_query_is_repeated_in_the_page(site: Site) -> None:
    plain = site.get(site.link)[2]
    for query in ("?did=Clock+stopped", "?did=%3Cb%3E.done", "?did=ack.wonderful", "?did=", "?did", "?x=" + "y" * 2000):
        assert site.get(site.link + query)[2] == plain


@pytest.mark.parametrize(
    "body", [b"", b"word=", b"word=delete", b"word=ack&word=no", b"ack", b"\xff\xfe=\x00", b"word=ACK"]
)
def test_an_unknown_word_records_nothing_and_names_the_right_ones(site: Site, body: bytes) -> None:
    status, _, page = site.ask("POST", site.link, body)
    assert status == 400
    assert "ack, take, no, escalate, resolve" in page
    assert site.desk.acted == []


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_over_4_kib_is_a_413_and_acts_nothing(site: Site, chunked: bool) -> None:
    body = b"word=ack&x=" + b"y" * 5000
    headers = {"Transfer-Encoding": "chunked"} if chunked else {}
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    status, _, page = site.ask("POST", site.link, sent, headers)
    assert status == 413
    assert "Nothing was recorded" in page
    assert site.desk.acted == []


def test_a_word_the_page_did_not_offer_is_for_the_rules_to_judge(site: Site) -> None:
    assert site.press("resolve")[0] == 303
    assert site.desk.acted == ["resolve"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_a_405(site: Site, method: str) -> None:
    for path in (site.link, "/", "/healthz", "/readyz", "/metrics"):
        assert site.ask(method, path)[0] == 405
    assert site.desk.acted == []


# -- what a sender wrote does not act -------------------------------------------------------------------------------

HOSTILE = (
    "</pre><script>alert(1)</script><img src=http://evil.example/x> {{ 7*7 }} \u202egnp.exe \x1b[31m \x00 \ud800 &amp;"
)


def test_what_a_sender_wrote_stays_text(site: Site) -> None:
    site.desk.page = replace(
        OPEN,
        subject=HOSTILE,
        reporter=HOSTILE,
        report=HOSTILE,
        attachments=(HOSTILE,),
        flags=(HOSTILE,),
        sender=HOSTILE,
        happened=((ACCEPTED, HOSTILE),),
        person_name=HOSTILE,
        next_people=(HOSTILE,),
        issue_url="javascript:alert(1)",
        phones=((HOSTILE, 'x" onclick="alert(1)'),),
    )
    status, _, page = site.get(site.link)
    assert status == 200
    for bad in ("<script", "<img", "\u202e", "\x1b", "\x00", "javascript:", 'onclick="'):
        assert bad not in page
    assert "{{ 7*7 }}" in page
    assert "&amp;amp;" in page


def test_every_page_forbids_scripts_frames_and_the_network(site: Site) -> None:
    for path in (site.link, "/i/wrong", "/", "/healthz", "/metrics"):
        headers = site.get(path)[1]
        rules = dict(rule.strip().partition(" ")[::2] for rule in headers["Content-Security-Policy"].split(";"))
        assert rules.pop("style-src").startswith("'sha256-")
        assert rules == {
            "default-src": "'none'",
            "form-action": "'self'",
            "frame-ancestors": "'none'",
            "base-uri": "'none'",
        }
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Robots-Tag"] == "noindex"
        assert headers["Server"] is None


def test_a_page_loads_nothing_and_reloads_nothing_by_itself(site: Site) -> None:
    page = site.get(site.link)[2]
    assert not re.search(r"\bsrc=|<link|<script|http-equiv|@import|url\(", page)


def test_an_endless_report_is_cut_and_says_so(site: Site) -> None:
    site.desk.page = replace(OPEN, report="a " * 500_000)
    page = site.get(site.link)[2]
    assert len(page) < 40_000
    assert "The whole of it is on the issue" in page


# -- failing --------------------------------------------------------------------------------------------------------


def test_a_failure_is_one_constant_page_and_one_line_without_the_token(site: Site) -> None:
    site.desk.fails = StoreFailed(f"disk I/O error in /var/lib for {TOKEN[:4]}")
    with structlog.testing.capture_logs() as lines:
        answers = [site.get(site.link), site.press("ack")]
    assert [status for status, _, _ in answers] == [500, 500]
    assert answers[0][2] == answers[1][2]
    assert "The clock may still be running" in answers[0][2]
    assert "disk" not in answers[0][2]
    assert answers[0][1]["Content-Security-Policy"]
    assert [(line["event"], line["where"]) for line in lines] == [("web.failed", "/i/…")] * 2
    assert TOKEN not in str([{**line, "exc_info": None} for line in lines])


def test_a_store_that_hangs_does_not_hang_the_page_nor_the_probes() -> None:
    desk = Desk(hangs=threading.Event())
    with serving(desk, people_within=0.2) as site, structlog.testing.capture_logs():
        assert site.get(site.link)[0] == 500
        assert site.get("/readyz")[0] == 503
        assert site.get("/healthz")[0] == 200
        assert desk.hangs is not None
        desk.hangs.set()


# -- for machines ---------------------------------------------------------------------------------------------------


def test_healthz_tells_whether_the_tick_ticks(site: Site) -> None:
    assert (site.get("/healthz")[0], json.loads(site.get("/healthz")[2])) == (200, {"alive": True})
    site.desk.alive = False
    assert (site.get("/healthz")[0], json.loads(site.get("/healthz")[2])) == (503, {"alive": False})


def test_readyz_tells_why_a_panic_could_not_be_accepted(site: Site) -> None:
    assert site.get("/readyz")[0] == 200
    site.desk.reasons = ("the database does not answer", "the spool is full")
    status, _, body = site.get("/readyz")
    assert (status, json.loads(body)["reasons"]) == (503, ["the database does not answer", "the spool is full"])


def figures_of(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_read_when_they_are_asked_for(site: Site) -> None:
    site.desk.numbers = (
        Figure(name="incidents", help="Incidents by state.", label="state", values={"open": 2, 'od"d\n': 1}),
        Figure(name="mails_accepted", help="Mails that got a 250.", values={"": 17}, counts=True),
    )
    status, headers, text = site.get("/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = figures_of(text)
    assert found["panicmail_incidents", (("state", "open"),)] == 2
    assert found["panicmail_incidents", (("state", 'od"d\n'),)] == 1
    assert found["panicmail_mails_accepted_total", ()] == 17
    assert found["panicmail_up", ()] == 1
    assert found["panicmail_figures_read", ()] == 1
    assert any(name == "panicmail_build_info" for name, _ in found)
    assert any(name == "process_open_fds" for name, _ in found)


def test_metrics_still_answer_when_the_figures_cannot_be_had(site: Site) -> None:
    site.desk.fails = StoreFailed("away")
    with structlog.testing.capture_logs() as lines:
        status, _, text = site.get("/metrics")
    assert status == 200
    assert figures_of(text)["panicmail_figures_read", ()] == 0
    assert [line["event"] for line in lines] == ["web.failed"]


def test_an_odd_accept_header_does_not_break_the_scrape(site: Site) -> None:
    assert (
        site.ask("GET", "/metrics", headers={"Accept": "text/plain;version=x, application/openmetrics-text"})[0] == 200
    )


def test_the_root_is_closed_and_no_browser_asks_for_a_password(site: Site) -> None:
    status, headers, text = site.get("/")
    assert status == 401
    assert headers["WWW-Authenticate"].split()[0].lower() not in {"basic", "digest", "negotiate", "ntlm"}
    assert "link" in text


# -- the server -----------------------------------------------------------------------------------------------------


def test_a_taken_address_is_an_error_that_names_it_and_not_an_exit(site: Site) -> None:
    server = WebServer(create_app(Desk()), ("127.0.0.1", site.port))
    with running_loop() as loop:
        with pytest.raises(OSError, match=f"127.0.0.1:{site.port}"):
            wait_for(loop, server.start())
        wait_for(loop, server.stop())


def test_stopping_twice_is_stopping() -> None:
    server = WebServer(create_app(Desk()), ("127.0.0.1", 0))
    with running_loop() as loop:
        wait_for(loop, server.start())
        wait_for(loop, server.stop())
        wait_for(loop, server.stop())
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(server.address, timeout=30).close()


def test_a_press_that_has_begun_gets_its_answer_while_the_server_stops() -> None:
    desk = Desk(hangs=threading.Event())
    assert desk.hangs is not None
    with running_loop() as loop:
        server = WebServer(create_app(desk), ("127.0.0.1", 0))
        wait_for(loop, server.start())
        answers: list[int] = []
        press = threading.Thread(target=lambda: answers.append(Site(server.address[1], desk).press("ack")[0]))
        press.start()
        while not desk.begun:
            time.sleep(0.01)
        stopping = asyncio.run_coroutine_threadsafe(server.stop(), loop)
        time.sleep(0.3)
        desk.hangs.set()
        stopping.result(10)
        press.join(30)
    assert answers == [303]
    assert desk.acted == ["ack"]


def test_signals_stay_the_daemons() -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def context() -> None:
        server = WebServer(create_app(Desk()), ("127.0.0.1", 0))
        before = handlers()
        await server.start()
        during = handlers()
        await server.stop()
        assert before == during == handlers()

    asyncio.run(context())


def hung_up_after(port: int, sent: bytes, drip: bytes = b"") -> float:
    """Seconds until the server hangs up on a client who says `sent` and then a `drip` now and then."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as client:
        client.sendall(sent)
        while time.monotonic() < began + 8:
            with contextlib.suppress(TimeoutError):
                try:
                    if not client.recv(1000):
                        break
                    client.sendall(drip)
                except ConnectionError:
                    break
            with contextlib.suppress(OSError):
                client.sendall(drip)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("sent", "drip"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"y"),
        (b"POST /i/x HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nword=", b"y"),
    ],
    ids=["says nothing", "drips headers", "drips a body"],
)
def test_a_client_that_never_finishes_is_hung_up_on(sent: bytes, drip: bytes) -> None:
    with serving(Desk(), patience=0.4) as site:
        assert 0.3 < hung_up_after(site.port, sent, drip) < 3


def test_a_connection_serves_many_requests_and_outlives_the_patience_for_one() -> None:
    with serving(Desk(), patience=0.5) as site:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
        for _ in range(4):
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b'{"alive":true}'
            time.sleep(0.2)
        connection.close()


def test_headers_without_an_end_are_refused(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_of_a_crowd_of_idle_connections_the_oldest_are_hung_up_on_and_the_last_is_served(site: Site) -> None:
    with contextlib.ExitStack() as leaving:
        crowd = [
            leaving.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=30)) for _ in range(230)
        ]
        with contextlib.suppress(ConnectionError):
            assert crowd[0].recv(1) == b""
        assert site.get("/healthz")[0] == 200


def answered_soon(site: Site, path: str) -> bool:
    for _ in range(50):
        with contextlib.suppress(OSError, http.client.HTTPException):
            if site.get(path)[0] == 200:
                return True
        time.sleep(0.05)
    return False


# -- the words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, "Clock running: ack by 03:22 CET, or Max Stone is called."),
        ({"next_people": ("Max Stone", "Ana Reyes")}, "Clock running: ack by 03:22 CET, or Max Stone is called."),
        ({"next_people": ("Max", "Bo", "Di")}, "Clock running: ack by 03:22 CET, or Max, Bo and Di are called."),
        ({"next_people": ("Ana Reyes",)}, "Clock running: ack by 03:22 CET, or you are called again."),
        ({"next_people": ()}, "Clock running: ack by 03:22 CET."),
        ({"ack_by": None}, "Clock running: ack now."),
        ({"tz": ZoneInfo("America/Sao_Paulo")}, "Clock running: ack by 23:22 UTC-03, or Max Stone is called."),
        (
            {"ack_by": ACCEPTED + timedelta(days=1)},
            "Clock running: ack by Sun 22 Nov, 03:07 CET, or Max Stone is called.",
        ),
    ],
)
def test_the_first_line_of_an_open_incident(change: dict[str, Any], line: str) -> None:
    assert headline(replace(OPEN, **change)) == line


def test_the_first_line_of_one_that_somebody_has() -> None:
    assert headline(MINE) == "Clock stopped 03:09 CET: you have it."
    assert headline(MAXS) == "Clock stopped 03:09 CET: Max Stone has it."
    assert second_line(MAXS) == "You need do nothing."


def test_the_first_line_of_a_closed_one() -> None:
    assert headline(CLOSED) == "Closed 06:07 CET by Ana Reyes."


def test_every_word_has_a_sentence_for_every_outcome_and_none_says_ok() -> None:
    for word in WORDS:
        for outcome in Outcome:
            sentence = recorded(code(word, outcome))
            assert sentence
            assert not re.search(r"\b(ok|success\w*|processed)\b", sentence, re.I)


# -- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def phone(chromium: Path) -> Iterator[Any]:
    """A browser of a phone's size that runs no scripts."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=flags)
        context = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False)
        try:
            yield context.new_page()
        finally:
            context.close()
            browser.close()


@pytest.mark.browser
def test_on_a_phone_without_scripts_the_button_acknowledges(site: Site, phone: Any, tmp_path: Path) -> None:
    phone.goto(site.url + site.link)
    button = phone.get_by_role("button", name="Ack")
    assert phone.get_by_role("heading").inner_text().startswith("Clock running")
    box = button.bounding_box()
    assert box["height"] >= 44
    assert box["y"] + box["height"] < 844  # reachable without scrolling
    button.click()
    assert phone.get_by_role("heading").inner_text() == "Clock stopped 03:09 CET: you have it."
    assert "Recorded: you acknowledged." in phone.inner_text("main")
    assert site.desk.acted == ["ack"]
    phone.screenshot(path=str(tmp_path / "acknowledged.png"), full_page=True)
    phone.reload()
    assert site.desk.acted == ["ack"]


@pytest.mark.browser
def test_on_a_phone_without_scripts_an_acknowledgement_is_undone(tmp_path: Path, phone: Any) -> None:
    """With the real backend behind it, a link out of a real page and no JavaScript."""
    office = Office(tmp_path)
    incident = office.panic()
    office.wait(minutes=1)
    link = next(word for word in office.page("ana").text.split() if "/i/" in word)
    path = link.removeprefix("https://panic.example.com")
    app = create_app(LinkBackend(office.links, Health(office.store, lambda: True, lambda: True)))
    with listening(app) as port:
        phone.goto(f"http://127.0.0.1:{port}{path}")
        shoot(phone, "link_1_open")
        phone.get_by_role("button", name="Ack").click()
        assert phone.get_by_role("heading").inner_text() == "Clock stopped 02:08 UTC: you have it."
        undo = phone.get_by_role("button", name="Undo: it was not me")
        box = undo.bounding_box()
        assert box["height"] >= 44
        assert box["y"] + box["height"] < 844  # reachable without scrolling
        assert "Until 02:10:00 UTC." in phone.inner_text("main")
        shoot(phone, "link_2_acknowledged")
        office.wait(seconds=60)
        undo.click()
        assert phone.get_by_role("heading").inner_text() == "Clock running: ack by 02:22 UTC, or Max Ode is called."
        assert "Recorded: it was not you." in phone.inner_text("main")
        assert phone.get_by_role("button", name="Undo").count() == 0
        shoot(phone, "link_3_undone")
        phone.reload()
    now = office.incident(incident)
    assert (now.state, now.next_step_at) == (State.OPEN, incident.accepted_at + timedelta(minutes=5))
    office.close()


@pytest.mark.browser
def test_on_a_phone_without_scripts_a_closing_is_undone(tmp_path: Path, phone: Any) -> None:
    office = Office(tmp_path)
    incident = office.panic()
    path = office.settings.link(incident.id, "ana").removeprefix("https://panic.example.com")
    app = create_app(LinkBackend(office.links, Health(office.store, lambda: True, lambda: True)))
    with listening(app) as port:
        phone.goto(f"http://127.0.0.1:{port}{path}")
        phone.get_by_role("button", name="Ack").click()
        phone.get_by_role("button", name="Resolve").click()
        assert phone.get_by_role("heading").inner_text() == "Closed 02:07 UTC by Ana Reyes."
        undo = phone.get_by_role("button", name="Undo: it was not me")
        box = undo.bounding_box()
        assert box["y"] + box["height"] < 844  # reachable without scrolling
        shoot(phone, "link_4_closed")
        undo.click()
        assert phone.get_by_role("heading").inner_text() == "Clock stopped 02:07 UTC: you have it."
        shoot(phone, "link_5_not_closed_after_all")
    assert office.incident(incident).state is State.ACKED
    office.close()


def shoot(phone: Any, name: str) -> None:
    """A picture for people, where PANICMAIL_TEST_SHOTS names a folder."""
    if folder := os.environ.get("PANICMAIL_TEST_SHOTS"):
        phone.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.mark.browser
def test_on_a_phone_everything_fits_and_every_button_can_be_hit(site: Site, phone: Any) -> None:
    site.desk.page = replace(
        OPEN, report="x" * 3000, subject="y" * 500, reporter="z" * 300, flags=("f" * 200,), undo_until=ACCEPTED
    )
    phone.goto(site.url + site.link)
    for part in phone.locator("body *:visible").all():
        box = part.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    for part in phone.locator("button, a").all():
        assert part.bounding_box()["height"] >= 44


@pytest.mark.browser
def test_the_policy_lets_our_own_style_through_and_a_page_asks_for_nothing_else(site: Site, phone: Any) -> None:
    complaints: list[str] = []
    asked: list[str] = []
    phone.on("console", lambda message: complaints.append(message.text))
    phone.on("request", lambda request: asked.append(request.url))
    phone.goto(site.url + site.link)
    assert phone.locator("button.ack").bounding_box()["height"] >= 70  # styled
    assert complaints == []
    assert asked == [site.url + site.link]


# -- crowds ---------------------------------------------------------------------------------------------------------


def get_once(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30, source_address=("127.0.0.2", 0)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return client.makefile("rb").read()


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/slow":
        await receive()
        await receive()  # until the client leaves
    await PlainTextResponse("here")(scope, receive, send)


def test_idle_connections_keep_nobody_out_and_their_own_address_has_a_part_of_them() -> None:
    """The report: 120 idle connections made every answer a 503, also of /healthz."""
    with listening(plain) as port, contextlib.ExitStack() as leaving:
        for _ in range(http_server.MOST_CONNECTIONS + 20):
            leaving.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        for path in ("/i/x", "/healthz"):
            assert get_once(port, path).endswith(b"here")


def test_requests_that_take_long_leave_the_monitors_their_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MOST_REQUESTS", 3)
    with listening(plain) as port, contextlib.ExitStack() as leaving:
        for _ in range(3):
            client = leaving.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        deadline = time.monotonic() + 10
        while not (refused := get_once(port, "/i/x")).startswith(b"HTTP/1.1 503") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert refused.startswith(b"HTTP/1.1 503")
        for path in ("/healthz", "/readyz"):
            assert get_once(port, path).endswith(b"here")
