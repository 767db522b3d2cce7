"""The heartbeat: how often it beats, that it holds up nobody, and what is said when nobody hears it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from panicmail.delivery.heartbeat import Heartbeat
from tests.provider import Provider, closed_port, until


@pytest.fixture
def switch() -> Iterator[Provider]:
    with Provider() as one:
        yield one


class Time:
    """A monotonic clock that is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def is_idle(heartbeat: Heartbeat) -> bool:
    return not heartbeat._pinging.locked()


def test_it_beats_once_a_minute_however_often_it_is_asked_to(switch: Provider) -> None:
    clock = Time()
    heartbeat = Heartbeat(f"{switch.url}/200/uuid", "tick", monotonic=clock)
    for second in range(121):
        clock.now = 1000.0 + second
        heartbeat.beat()
        until(lambda: is_idle(heartbeat))
    assert [(asked.method, asked.path) for asked in switch.asked] == [("GET", "/200/uuid")] * 3


@pytest.mark.parametrize("who", ["tick", "watch"])
def test_each_who_lives_has_a_switch_of_its_own(switch: Provider, who: str) -> None:
    Heartbeat(f"{switch.url}/200/{{who}}/uuid", who).beat()  # type: ignore[arg-type]  # a parameter is any text
    assert switch.wait().path == f"/200/{who}/uuid"


def test_without_a_url_nothing_beats() -> None:
    heartbeat = Heartbeat("", "tick")
    with capture_logs() as logs:
        heartbeat.beat()
    assert is_idle(heartbeat)
    assert logs == []


def test_a_switch_that_hangs_holds_nobody_and_is_not_asked_twice_at_once(switch: Provider) -> None:
    clock = Time()
    heartbeat = Heartbeat(f"{switch.url}/hang", "tick", timeout=60, monotonic=clock)
    began = time.monotonic()
    heartbeat.beat()
    switch.wait()
    clock.now += 600
    heartbeat.beat()
    assert time.monotonic() - began < 25
    switch.release()
    until(lambda: is_idle(heartbeat))
    assert len(switch.asked) == 1
    heartbeat.beat()
    switch.wait(2)
    until(lambda: is_idle(heartbeat))


def test_a_failure_is_told_once_and_its_end_too(switch: Provider) -> None:
    clock = Time()
    heartbeat = Heartbeat(f"{switch.url}/uuid-secret", "watch", monotonic=clock)
    with capture_logs() as logs:
        for status in (200, 500, 404, 500, 200, 200, 503):
            switch.status = status
            clock.now += 60
            heartbeat.beat()
            until(lambda: is_idle(heartbeat))
    assert [(line["event"], line["who"], line["log_level"]) for line in logs] == [
        ("heartbeat.failed", "watch", "warning"),
        ("heartbeat.back", "watch", "info"),
        ("heartbeat.failed", "watch", "warning"),
    ]
    assert logs[0]["reason"] == "127.0.0.1 answered 500"
    assert "secret" not in str(logs)


@pytest.mark.parametrize("path", ["hang", "drip", "reset"])
def test_whatever_the_switch_does_it_beats_again(switch: Provider, path: str) -> None:
    clock = Time()
    heartbeat = Heartbeat(f"{switch.url}/{path}", "tick", timeout=0.2, monotonic=clock)
    with capture_logs() as logs:
        for count in (1, 2):
            heartbeat.beat()
            switch.wait(count)
            until(lambda: is_idle(heartbeat))
            clock.now += 60
    assert [line["event"] for line in logs] == ["heartbeat.failed"]


@pytest.mark.parametrize("url", [f"http://127.0.0.1:{closed_port()}/", "nonsense"], ids=["closed", "nonsense"])
def test_nothing_that_goes_wrong_reaches_the_tick(url: str) -> None:
    heartbeat = Heartbeat(url, "tick")
    with capture_logs() as logs:
        heartbeat.beat()
        until(lambda: is_idle(heartbeat) and logs)
    assert [line["event"] for line in logs] == ["heartbeat.failed"]
