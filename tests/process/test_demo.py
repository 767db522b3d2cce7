"""`panicmail demo`: the story comes true, leaves nothing behind, and fails aloud when it does not."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from panicmail.sandbox.demo.telling import Moment, Painted, PlainOutput, Telling, harmless, teller


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "panicmail", "demo", *options]


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), **more}


def demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options), env=environment(folder), capture_output=True, text=True, timeout=50, check=False
    )


def started(folder: Path, *options: str, **more: str) -> subprocess.Popen[str]:
    """A demo under way, both its streams in one."""
    out, err, env = subprocess.PIPE, subprocess.STDOUT, environment(folder, **more)
    return subprocess.Popen(command(*options), env=env, text=True, stdout=out, stderr=err)


def read_until(running: subprocess.Popen[str], text: str) -> str:
    """What it tells up to the first line with `text`; with "", all the rest."""
    assert running.stdout is not None
    lines = []
    for line in running.stdout:
        lines.append(line)
        if text and text in line:
            return "".join(lines)
    assert not text, f"{text!r} was not told: {''.join(lines)}"
    return "".join(lines)


def daemon_of(told: str) -> int:
    found = re.search(r"daemon, process (\d+)", told)
    assert found
    return int(found[1])


def line_with(told: str, text: str) -> str:
    return next(line.strip() for line in told.splitlines() if text in line)


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def __init__(self, *, is_terminal: bool = True) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def seconds_of(told: str, what: str) -> float:
    found = re.search(rf"^ +(\d+\.\d)  .*{re.escape(what)}", told.partition("What happened when")[2], re.MULTILINE)
    assert found, f"{what!r} is not in the table"
    return float(found[1])


def test_the_story_comes_true_and_what_is_kept_can_be_played_with(tmp_path: Path) -> None:
    # What is set in the operator's shell is for another panicmail.
    foreign = {"PANICMAIL_GITLAB__URL": "https://gitlab.example.com", "PANICMAIL_CONFIG": "nowhere"}
    with started(tmp_path, "--sla", "6", "--keep", **foreign) as running:
        told = read_until(running, "What comes")
        subprocess.run(["sh", "-c", line_with(told, "python3 -c")], check=True, timeout=20)
        played = read_until(running, "[PANIC ")
        running.send_signal(signal.SIGTERM)
        rest = read_until(running, "")
        assert running.wait(30) == 0, told + played + rest
    for line in (
        "[panic] Ransom note on my laptop",
        "Kind: incident, confidential",
        "Assignee: @ana",
        "We have your report",
        "Why: it was empty.",
        "STILL OPEN",
        "YOURS NOW",
        "Ana (SEOC) gave no answer in 6 s",
        "no engineer has answered yet",
        "Clock stopped",
        "Max Okafor has it",
        "Kim's laptop shows the same note now.",
        "was closed at",
        "one issue",
        "everything that was expected came, and nothing else",
    ):
        assert line in told, line
    assert seconds_of(told, "Ana is paged") < 2
    assert 5.9 <= seconds_of(told, "Max is called") < 9
    assert seconds_of(told, "The clock is stopped") > seconds_of(told, "Max is called")
    assert "I clicked on something" in played
    assert "The daemon stopped on SIGTERM" in rest
    assert "\x1b" not in told + played + rest
    assert not list(tmp_path.iterdir()), "the folder is left behind"


@pytest.mark.parametrize("option", ["--gitlab-port", "--relay-port", "--smtp-port", "--web-port"])
def test_a_port_that_is_taken_is_a_sentence_and_exit_status_1(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        told = demo(tmp_path, option, port)
    assert told.returncode == 1
    assert f"127.0.0.1:{port}" in told.stdout
    assert option in told.stdout
    assert "Traceback" not in told.stdout + told.stderr
    assert not list(tmp_path.iterdir())


def test_sigterm_takes_everything_down(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        daemon = daemon_of(read_until(running, "daemon, process"))
        running.send_signal(signal.SIGTERM)
        rest = read_until(running, "")
        assert running.wait(30) == 1
    assert "Interrupted" in rest
    assert not Path(f"/proc/{daemon}").exists()
    assert not list(tmp_path.iterdir())


def test_a_daemon_that_dies_ends_the_story(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        os.kill(daemon_of(read_until(running, "daemon, process")), signal.SIGKILL)
        rest = read_until(running, "")
        assert running.wait(30) == 1
    assert "FAILED: the daemon" in rest
    assert not list(tmp_path.iterdir())


def test_nothing_a_sender_wrote_paints_or_steers_the_terminal() -> None:
    out = Terminal()
    hostile = "\x1b]0;owned\x07 [bold red]not markup[/] \x1b[2J"
    painted = Painted(out)
    painted.start_clock(lambda: 3.0, 6)
    painted.happened(1.0, hostile)
    painted.card(hostile.translate({27: " "}), [("Subject", hostile)], f"{hostile}\n| {hostile}\nmore", lines=2)
    painted.issue("The issue", [("Title", hostile)], f"# {hostile}\n\n[link](https://evil.example.com)")
    painted.line(hostile)
    painted.tick()
    painted.stop_clock()
    painted.table("When", [Moment(1.0, hostile)])
    painted.failed(hostile, [hostile])
    told = out.getvalue()
    assert "\x07" not in told
    assert "\x1b]" not in told, "an operating system command: a title, a link, the clipboard"
    assert "\x1b[2J" not in told
    assert "[bold red]" in told
    assert "of 6 s: nobody has it" in told


@pytest.mark.parametrize(
    ("is_terminal", "settings", "kind"),
    [
        (True, {"TERM": "xterm-256color"}, Painted),
        (True, {"TERM": "xterm-256color", "NO_COLOR": "1"}, PlainOutput),
        (True, {"TERM": "dumb"}, PlainOutput),
        (False, {"TERM": "xterm-256color"}, PlainOutput),
    ],
)
def test_it_is_painted_on_a_terminal_that_wants_colour_only(
    is_terminal: bool, settings: dict[str, str], kind: type[Telling]
) -> None:
    assert isinstance(teller(Terminal(is_terminal=is_terminal), settings), kind)


def test_a_sender_s_control_characters_do_not_reach_the_terminal() -> None:
    assert harmless("red \x1b[31m\x07\u202enow\r\nnext") == "red  [31m  now \nnext"
