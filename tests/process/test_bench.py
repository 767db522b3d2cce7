"""The bench measures what it says, and leaves nothing behind. Never how long anything takes."""

from __future__ import annotations

import json
import math
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail import config as configuration
from panicmail.incident.ids import ref
from panicmail.sandbox.relay_server import SandboxRelay
from tests.bench import __main__ as bench
from tests.bench import figures, measure_clock, profile, rivals
from tests.bench.figures import Goal, Line, percentile
from tests.bench.inside import name_of
from tests.bench.load import Load, message, send, send_apart
from tests.bench.measurements import MEASUREMENTS
from tests.bench.proc import cpu_seconds, family, fsync_rate, machine, pss_octets, until, wake_ups
from tests.bench.town import ONE_BY_ONE, bench_world

# -- figures


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_a_sample_that_the_share_does_not_exceed(samples: list[float], share: float) -> None:
    found = percentile(samples, share)
    assert found in samples
    assert sum(each <= found for each in samples) >= share * len(samples) - 1e-9
    assert sum(each < found for each in samples) < share * len(samples)


def test_percentiles_of_a_hundred_and_of_none() -> None:
    hundred = [float(number) for number in range(100, 0, -1)]
    assert (percentile(hundred, 0.5), percentile(hundred, 0.99), percentile(hundred, 1.0)) == (50, 99, 100)
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize(
    ("goal", "figure", "verdict"),
    [
        (Goal(1.0, 3.0, more_is_better=True), 3.0, "aim"),
        (Goal(1.0, 3.0, more_is_better=True), 1.0, "yes"),
        (Goal(1.0, 3.0, more_is_better=True), 0.25, "no, 4.0 times off"),
        (Goal(20, 10), 10.0, "aim"),
        (Goal(20, 10), 20.0, "yes"),
        (Goal(20, 10), 50.0, "no, 2.5 times off"),
        (Goal(20, 10), math.nan, "no, nan times off"),
    ],
)
def test_a_goal_is_reached_or_missed_by_a_factor(goal: Goal, figure: float, verdict: str) -> None:
    assert goal.verdict(figure) == verdict


# -- the table


def a_line(name: str, measured: str) -> Line:
    return Line(name, f"what {name} is", measured, 5.0, Goal(10, 1, " s"), 0.5, 1234.0)


def test_a_table_has_a_row_for_each_line() -> None:
    head, _, row = figures.table([a_line("page", "5 s | or so")]).splitlines()
    assert head.startswith("| what | measured | at least | aim |")
    assert row == "| what page is (`page`) | 5 s / or so | 10 s | 1 s | yes | 0.5 | 1,234 |"


def test_a_figure_that_could_not_be_taken_reaches_nothing() -> None:
    assert Line("accepts", "x", "y", None, Goal(1, 3)).cells()[4] == "not measured"


def test_a_line_replaces_its_row_and_leaves_the_others() -> None:
    before = figures.table([a_line("page", "old"), a_line("cpu", "kept")])
    rows = figures.table([a_line("page", "new"), a_line("rest", "added")], before).splitlines()[2:]
    assert [figures.name_in(row) for row in rows] == ["page", "cpu", "rest"]
    assert ["old" in row for row in rows] == [False] * 3


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{figures.BEGIN}\nold\n{figures.END}\nafter\n")
    for text in ("new", "newer"):
        figures.write_between(path, text)
    assert path.read_text() == f"before\n{figures.BEGIN}\nnewer\n{figures.END}\nafter\n"
    assert figures.between(path.read_text()) == "newer"


@pytest.mark.parametrize(
    "text", ["none", f"{figures.BEGIN}", f"{figures.END}{figures.BEGIN}", figures.BEGIN * 2 + figures.END]
)
def test_a_file_without_both_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="wants one"):
        figures.write_between(path, "new")
    assert path.read_text() == text


@pytest.mark.parametrize("path", ["README.md", "tests/bench/README.md"])
def test_both_readmes_have_a_place_for_the_table(path: str) -> None:
    text = (Path(__file__).parents[2] / path).read_text()
    assert text.count(figures.BEGIN) == text.count(figures.END) == 1


# -- running


def test_a_measurement_that_fails_is_a_line_and_keeps_what_came_before() -> None:
    def fails(quick: bool) -> Iterator[Line]:
        yield a_line("first", "5 s")
        raise RuntimeError("no page\nwithin 60 s")

    first, failed = bench.measure("page", fails, quick=True)
    assert (first.measured, failed.what) == ("5 s", "failed")
    assert failed.measured == "RuntimeError: no page within 60 s"


def test_an_unknown_measurement_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.options(["pages"])
    assert "no measurement pages; there are accepts," in capsys.readouterr().err


def test_every_measurement_has_a_name_and_can_be_asked_for() -> None:
    assert bench.options([*MEASUREMENTS, "--quick"]).names == [*MEASUREMENTS]


# -- the load generator


@pytest.mark.parametrize("keep", [True, False])
def test_the_generator_delivers_each_mail_once(keep: bool) -> None:
    load = Load(0, 30, sessions=4, size=2000, keep=keep)
    with SandboxRelay() as relay:
        delivered = send_apart(replace(load, port=relay.port))
        came = relay.mails
    assert (delivered.accepted, len(delivered.sent), len(came)) == (30, 30, 30)
    assert {each.canary for each in delivered.sent} == {mail.subject.removeprefix("Panic ") for mail in came}
    assert len({mail.mail_from for mail in came}) == 30
    assert all(1800 < len(mail.raw) <= 2000 and not mail.faults for mail in came)
    assert all(each.dot_at <= each.answered_at for each in delivered.sent)


def test_the_generator_sends_as_one_sender_when_it_is_told_to() -> None:
    with SandboxRelay() as relay:
        send(Load(relay.port, 5, senders=1, source="127.0.0.2"))
        assert {mail.mail_from for mail in relay.mails} == {"load0@example.com"}


def test_large_mails_of_many_sessions_come_whole() -> None:
    load = Load(0, 12, sessions=6, size=300_000)
    with SandboxRelay() as relay:
        send(replace(load, port=relay.port))
        assert sorted(mail.raw for mail in relay.mails) == sorted(
            message(load, number)[2].removesuffix(b".\r\n") for number in range(12)
        )


@pytest.mark.parametrize("stage", ["mail", "rcpt", "end"])
def test_a_mail_that_is_refused_is_counted_and_the_rest_is_sent(stage: str) -> None:
    with SandboxRelay() as relay:
        relay.rule("load2@" if stage != "rcpt" else "panic@", "reject", code=451, stage=stage, times=1)  # type: ignore[arg-type]
        delivered = send(Load(relay.port, 6, sessions=2))
    assert (delivered.accepted, sorted(each.code for each in delivered.sent)) == (5, [250] * 5 + [451])


def test_a_server_that_refuses_everybody_at_the_door_ends_the_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            for _ in range(4):
                client, _ = server.accept()
                with client:
                    client.sendall(b"421 4.7.0 not now\r\n")

        refusing = threading.Thread(target=refuse, daemon=True)
        refusing.start()
        delivered = send(Load(server.getsockname()[1], 4))
        refusing.join()
    assert (delivered.accepted, [each.code for each in delivered.sent]) == (0, [421] * 4)


def test_smtp_source_is_called_as_it_wants_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "smtp-source"
    source.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    source.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert rivals.generator() == "smtp-source"
    assert rivals.throw(Load(2525, 30, sessions=5)).accepted == 30
    asked = (tmp_path / "asked").read_text().split()
    assert " ".join(asked) == "-s 5 -m 30 -l 4096 -d -f load@example.com -t panic@example.com 127.0.0.1:2525"


# -- rivals


def test_the_stock_rival_commits_each_mail_and_stops(tmp_path: Path) -> None:
    with rivals.stock_aiosmtpd(tmp_path) as port:
        assert send(Load(port, 7, sessions=3)).accepted == 7
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)
    with closing(sqlite3.connect(tmp_path / "mails.db")) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT sender) FROM mails").fetchone() == (7, 7)


def test_panicmail_starts_as_a_rival_and_leaves_no_process(tmp_path: Path) -> None:
    with rivals.panicmail(tmp_path) as port:
        (server,) = [each for each in family(os.getpid()) if b"serve" in Path(f"/proc/{each}/cmdline").read_bytes()]
        started = family(server)
        assert send(Load(port, 3)).accepted == 3
    assert len(started) > 1
    assert until(lambda: not any(Path(f"/proc/{each}/cmdline").exists() for each in started), 30)


def test_a_rival_is_stopped_when_its_measurement_fails(tmp_path: Path) -> None:
    ports: list[int] = []

    def measure() -> None:
        with rivals.stock_aiosmtpd(tmp_path) as port:
            ports.append(port)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", ports[0]), 1)


@pytest.mark.parametrize(("storm", "is_on"), [(None, True), (ONE_BY_ONE, False)])
def test_floods_are_bundled_unless_a_measurement_wants_each_page(
    tmp_path: Path, storm: dict[str, int] | None, is_on: bool
) -> None:
    with bench_world(tmp_path, storm) as town:
        town.write_config()
        settings = configuration.load(town.path, {}, host_name=lambda: "panic.example.com").storm
    assert (settings.members > 0, settings.digest_after > 0) == (is_on, is_on)


def test_armed_incidents_are_open_and_what_is_made_due_is_due() -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    with measure_clock.armed(6) as town:
        measure_clock.make_due(town, 2, at)
        ends = measure_clock.stored(at + timedelta(seconds=1))
        assert town.rows("SELECT count(*), count(DISTINCT mailbox) FROM incidents WHERE state = 'open'") == [(7, 7)]
        assert town.rows("SELECT count(*) FROM incidents WHERE due_at < ? AND next_step_at = due_at", ends) == [(2,)]
        assert len(town.gitlab.issues) == 7


# -- where the CPU goes


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("<method 'execute' of 'sqlite3.Cursor' objects>", "built in/method 'execute' of 'sqlite3.Cursor' objects"),
        (json.dumps.__code__, "json/__init__.py:dumps"),
        (pytest.raises.__code__, "_pytest/raises.py:raises"),
        (ref.__code__, "panicmail/incident/ids.py:ref"),
    ],
)
def test_a_function_is_named_from_its_library_on(code: object, name: str) -> None:
    assert name_of(code) == name


def test_threads_of_one_part_are_told_together_and_the_onlooker_is_left_out() -> None:
    functions = {"page-1": {"a/x:f": 1.0, "inside.py:_note": 5.0}, "page-2": {"a/x:f": 2.0, "b/y:g": 1.0}}
    (part,) = profile.by_part(functions).items()
    assert part == ("pages", {"a/x:f": 3.0, "b/y:g": 1.0})
    assert profile.libraries(part[1]) == {"a": 3.0, "b": 1.0}
    assert profile.part_of("scheduler") == profile.REST


# -- the machine


def test_a_process_and_its_children_are_seen() -> None:
    child = "import time; sum(range(10**6)); print('up', flush=True); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            pids = family(parent.pid)
            assert (pids[0], len(pids)) == (parent.pid, 2)
            assert pss_octets(parent.pid) > pss_octets(pids[1]) > 1_000_000
            assert cpu_seconds(parent.pid) >= cpu_seconds(pids[1]) > 0
            assert wake_ups(parent.pid) >= wake_ups(pids[1])
        finally:
            for pid in reversed(family(parent.pid)):
                os.kill(pid, 9)


def test_the_machine_has_a_name_and_a_disk(tmp_path: Path) -> None:
    assert "cores of" in machine()
    assert fsync_rate(tmp_path, 0.01) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_result_of_the_generator_is_one_document() -> None:
    with SandboxRelay() as relay:
        command = [sys.executable, "-m", "tests.bench.load", json.dumps({"port": relay.port, "mails": 2})]
        done = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[2])
    assert json.loads(done.stdout)["accepted"] == 2
