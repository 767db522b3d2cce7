"""Logging: one line an event, no secret in it, nothing forged, and it never holds anybody up."""

from __future__ import annotations

import io
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from panicmail import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What logging was before, for whoever comes after."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def hand_over(message: str, *arguments: object) -> None:
    """Log as a library does, past pytest's own handler: that one can bear neither of the messages tried here."""
    ours = logging.getLogger().handlers[-1]
    ours.handle(logging.LogRecord("mail.log", logging.WARNING, "x.py", 1, message, arguments, None))


def test_a_line_is_one_json_object_with_event_level_and_utc_time(stream: io.StringIO) -> None:
    log.configure("json", "info", stream)
    structlog.contextvars.bind_contextvars(incident="7KQ2")
    structlog.get_logger().info("page.sent", person="ana", round=2)
    (event,) = events(stream)
    stamp = datetime.fromisoformat(event.pop("timestamp"))
    assert stamp.utcoffset() == timedelta(0)
    assert event == {"event": "page.sent", "level": "info", "incident": "7KQ2", "person": "ana", "round": 2}


def test_the_level_holds_back_what_is_below_it(stream: io.StringIO) -> None:
    log.configure("json", "warning", stream)
    structlog.get_logger().info("small")
    structlog.get_logger().warning("large")
    assert [event["event"] for event in events(stream)] == ["large"]


def test_a_logger_made_before_follows_a_new_configuration(stream: io.StringIO) -> None:
    early = structlog.get_logger()
    log.configure("json", "info", io.StringIO())
    early.info("first")
    log.configure("json", "info", stream)
    early.info("second")
    logging.getLogger("mail.log").warning("third")
    assert [event["event"] for event in events(stream)] == ["second", "third"]


def test_libraries_come_the_same_way_from_warning_on(stream: io.StringIO) -> None:
    log.configure("json", "debug", stream)
    for name in ("mail.log", "apscheduler.executors.default", "sqlalchemy.engine", "requests"):
        logging.getLogger(name).info("DATA: my password is hunter2")
        logging.getLogger(name).warning("odd: %s", "thing")
    lines = events(stream)
    assert [line["event"] for line in lines] == ["odd: thing"] * 4
    assert lines[0]["logger"] == "mail.log"
    assert lines[0]["level"] == "warning"


def test_a_librarys_wrong_format_string_is_a_line_of_its_own(stream: io.StringIO) -> None:
    log.configure("json", "info", stream)
    hand_over("%d", "not a number")
    assert events(stream)[0]["event"] == "log.unreadable"


def test_warnings_of_libraries_are_lines_too(stream: io.StringIO) -> None:
    log.configure("json", "info", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    assert "old thing" in events(stream)[0]["event"]


@pytest.mark.parametrize(
    "key", ["token", "password", "relay_password", "client_secret", "Authorization", "PRIVATE-TOKEN"]
)
def test_a_value_under_a_secrets_key_is_hidden(stream: io.StringIO, key: str) -> None:
    log.configure("json", "info", stream)
    structlog.get_logger().info("x", **{key: "hunter2"}, headers={key: ["hunter2"]}, token_file="gitlab.token")
    (event,) = events(stream)
    assert "hunter2" not in json.dumps(event)
    assert event["token_file"] == "gitlab.token"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("smtp://user:hunter2@relay:25 refused", "smtp://[hidden]@relay:25 refused"),
        ("smtp://user:hun@ter2@relay", "smtp://[hidden]@relay"),
        ("https://x/api?private_token=hunter2&y=1", "https://x/api?private_token=[hidden]&y=1"),
        ("https://gitlab.example.com/a@b", "https://gitlab.example.com/a@b"),
        ("ana@example.com", "ana@example.com"),
    ],
)
def test_a_url_loses_its_credentials_wherever_it_stands(stream: io.StringIO, text: str, shown: str) -> None:
    log.configure("json", "info", stream)
    structlog.get_logger().info("x", error=ValueError(text), list=[text], event_text=text)
    (event,) = events(stream)
    assert (event["error"], event["list"], event["event_text"]) == (shown, [shown], shown)


def test_an_exception_is_told_with_its_causes_and_without_its_variables(stream: io.StringIO) -> None:
    log.configure("json", "info", stream)

    def fail(password: str) -> None:
        try:
            raise OSError("smtp://u:hunter2@relay is away")
        except OSError as exc:
            raise ValueError("not sent") from exc

    try:
        fail("hunter3")
    except ValueError:
        structlog.get_logger().exception("page.failed")
        logging.getLogger("mail.log").exception("SESSION exception")
    for event in events(stream):
        first, second = event["exception"].split("\n")
        assert first.startswith("ValueError: not sent [unit/test_log.py:")
        assert second.startswith("caused by: OSError: smtp://[hidden]@relay is away [")
        assert "hunter" not in json.dumps(event)


@pytest.mark.parametrize("format", ["json", "console"])
def test_what_a_stranger_wrote_forges_no_line_and_steers_no_terminal(format: Any, stream: io.StringIO) -> None:  # noqa: A002
    log.configure(format, "info", stream)
    evil = 'a\nb\r\x1b[2J\x9b31m\u202e\u2028\udcff"} {"event": "ready"}'
    structlog.get_logger().info("mail.accepted", subject=evil, nested=[{evil: evil}])
    hand_over(evil)
    written = stream.getvalue()
    assert written.count("\n") == 2
    assert len(written.splitlines()) == 2
    assert not set("\x1b\x9b\r\u202e\u2028\udcff") & set(written)


def test_a_terminal_gets_columns_and_a_file_gets_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, file = Terminal(), io.StringIO()
    for out in (terminal, file):
        log.configure(stream=out)
        structlog.get_logger().info("page.sent")
    assert "\x1b[" in terminal.getvalue()
    assert events(file)[0]["event"] == "page.sent"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    log.configure(stream=terminal)
    try:
        raise ValueError("x")
    except ValueError:
        structlog.get_logger().exception("page.sent")
    assert "page.sent" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_what_is_too_long_is_cut(stream: io.StringIO) -> None:
    log.configure("json", "info", stream)
    structlog.get_logger().info("x", body="a" * 100_000)
    assert len(stream.getvalue()) < 5000


def test_a_closed_stream_or_a_reader_that_left_loses_the_line_only(stream: io.StringIO) -> None:
    stream.close()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", closefd=True) as pipe:
        for out in (stream, pipe, None):
            log.configure("json", "info", out)
            structlog.get_logger().info("x")
            logging.getLogger("mail.log").error("y")


def test_a_reader_that_stopped_reading_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "w") as pipe:
        log.configure("json", "info", pipe)
        began = time.monotonic()
        for number in range(200):
            structlog.get_logger().info("x", body="a" * 3000, number=number)
        assert time.monotonic() - began < 30


def test_long_lines_reach_a_slow_reader_whole() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "r") as reader, os.fdopen(writing, "w") as pipe:
        log.configure("json", "info", pipe)
        structlog.get_logger().info("x", parts=["é" * 1500] * 5)
        pipe.close()
        assert json.loads(reader.read())["parts"] == ["é" * 1500] * 5
