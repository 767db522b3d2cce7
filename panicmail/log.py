"""Logging: one event a line, on stderr, as JSON for machines or in columns for people.

Every line has `event`, `level`, `timestamp` (UTC) and the facts bound to it. What libraries log through the standard
library comes the same way, from WARNING on: below that aiosmtpd writes every line of every mail.

Values under keys that name a secret are replaced, and so are user and password in any URL. What a stranger wrote
cannot forge a line or steer a terminal: control characters are spelled out. An exception is told by its frames, words
and causes, never by its local variables.

Logging never raises and never waits for long. When nobody reads stderr any more, or its disk is full, lines are lost:
a page matters more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import sys
import threading
import traceback
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

if "structlog" not in sys.modules:
    # It imports rich, and pygments with it, to draw tracebacks that are told in our own way here: a fifth of what a
    # command costs. Whoever wants rich finds it.
    _rich = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]
    if _rich is not None:
        sys.modules["rich"] = _rich

import structlog
from structlog.typing import Processor

HIDDEN = "[hidden]"

_SECRET_KEY = re.compile(r"token|passw|passphrase|secret|authorization|credential|cookie|api_?key|private", re.I)
#: Keys that hold such a word and no secret.
_HARMLESS_KEY = re.compile(r"_(file|path|count|at|id)\Z", re.I)
_URL_CREDENTIALS = re.compile(r"\b([a-z][a-z0-9+.-]{0,30}://)[^\s/\"'<>]*@", re.I)
_URL_QUERY = re.compile(r"([?&](?:\w*token|api_?key|key|secret|password)=)[^&\s\"'<>]+", re.I)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_VALUE = 4096
_DEEPEST = 6

#: A pipe that takes anything takes this much at once (PIPE_BUF).
_CHUNK = 4096
_PATIENCE_SECONDS = 0.2


def configure(
    format: Literal["json", "console"] | None = None,  # noqa: A002 - named as in the configuration
    level: str = "info",
    stream: TextIO | None = None,
) -> None:
    """Send every log line of the process to `stream`; calling it again replaces what was set.

    Args:
        format: None is console on a terminal, else json.
        level: "debug", "info", "warning" or "error"; libraries stay silent below "warning".
        stream: None is stderr.
    """
    out = stream if stream is not None else sys.stderr
    on_terminal = _is_terminal(out)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    as_json = format == "json" or (format is None and not on_terminal)
    colors = on_terminal and not os.environ.get("NO_COLOR")
    begin: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    finish: list[Processor] = [_explain_exception, redact, _renderer(as_json, colors=colors)]
    lines = Lines(out)
    structlog.configure(
        processors=[*begin, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    _route_libraries(lines, max(threshold, logging.WARNING), begin, finish)


def speaks_json() -> bool:
    """Whether what is logged is for machines, as `configure` set it last."""
    return isinstance(structlog.get_config()["processors"][-1], structlog.processors.JSONRenderer)


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor: hide secrets, make what strangers wrote harmless, cut what is too long."""
    return {key: _redacted(key, value, _DEEPEST) for key, value in event.items()}


def redact_text(text: str) -> str:
    """The text without the user and password of any URL in it, nor a token in a URL's query."""
    return _URL_QUERY.sub(rf"\1{HIDDEN}", _URL_CREDENTIALS.sub(rf"\1{HIDDEN}@", text))


def explain(error: BaseException) -> str:
    """An exception in one line per cause: its words, and its frames from the innermost out. No local variables."""
    link: traceback.TracebackException | None = traceback.TracebackException.from_exception(error, compact=True)
    lines = []
    while link is not None:
        frames = " < ".join(f"{_short(at.filename)}:{at.lineno} {at.name}" for at in reversed(link.stack[-8:]))
        words = _spelled("".join(link.format_exception_only()).strip())
        lines.append(f"{words} [{frames}]" if frames else words)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\ncaused by: ".join(lines)


def _redacted(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_KEY.search(key) and not _HARMLESS_KEY.search(key):
        return HIDDEN
    if isinstance(value, dict) and depth:
        return {_spelled(str(name)): _redacted(str(name), inner, depth - 1) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_redacted("", inner, depth - 1) for inner in value]
    shown = redact_text(str(value))
    if key == "exception":
        return shown
    return _spelled(shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}…")


def _spelled(text: str) -> str:
    """The text with control characters, bidi marks and halves of characters written out."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _explain_exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    given = event.pop("exc_info", None)
    error = sys.exception() if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = explain(error)
    return event


def _short(filename: str) -> str:
    return "/".join(filename.rsplit("/", 2)[-2:])


def _renderer(as_json: bool, *, colors: bool) -> Processor:
    if as_json:
        return structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    plain = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0, exception_formatter=plain)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


class Lines:
    """Writes finished lines to a stream; what cannot be written soon is lost.

    A stream with a file descriptor is written past its buffer and only when the descriptor takes something: a reader
    that stopped reading would hold up every thread that logs.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._stuck = False
        try:
            self._descriptor = stream.fileno() if stream is not None else None
        except (OSError, ValueError):  # io.UnsupportedOperation is both: a stream in memory, or a closed one
            self._descriptor = None

    def msg(self, message: str) -> None:
        # OSError: its reader is gone, or the disk is full. ValueError: the stream was closed.
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._descriptor is None:
                self._write(message + "\n")
            else:
                self._write_through(self._descriptor, (message + "\n").encode(errors="backslashreplace"))

    debug = info = warning = warn = error = critical = exception = fatal = failure = err = log = msg

    def _write(self, line: str) -> None:
        if self._stream is not None:
            self._stream.write(line)
            self._stream.flush()

    def _write_through(self, descriptor: int, line: bytes) -> None:
        rest = memoryview(line)
        while rest and self._takes_more(descriptor):
            rest = rest[os.write(descriptor, rest[:_CHUNK]) :]

    def _takes_more(self, descriptor: int) -> bool:
        """Whether a write would not block; once stuck, asked without patience until it flows again."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        self._stuck = not poll.poll(0 if self._stuck else _PATIENCE_SECONDS * 1000)
        return not self._stuck


class _LogHandler(logging.Handler):
    """Takes what libraries log."""

    def __init__(self, lines: Lines, formatter: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as exc:  # a library's wrong format string must not stop what the library was doing
            line = f'{{"event": "log.unreadable", "level": "warning", "error": "{type(exc).__name__}"}}'
        self._lines.msg(line)


def _route_libraries(lines: Lines, threshold: int, begin: list[Processor], finish: list[Processor]) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*begin, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _LogHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LogHandler(lines, formatter))
    root.setLevel(threshold)
    logging.captureWarnings(capture=True)
