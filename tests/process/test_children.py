"""The children that read mails: what is promised of them when one is late, dies, or lies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from panicmail.errors import Temporary
from panicmail.incident.classify import Report
from panicmail.mail.parse import parser, report_json
from panicmail.mail.parse.parser import parts, read
from panicmail.mail.parse.parser_staff import MOST
from panicmail.mail.parse.pool import ParserPool
from panicmail.mail.parse.report_json import HEAD
from tests.examples import examples
from tests.golden_mails import golden
from tests.slow_children import _MAIL, slow_readers, stand_in, wait_for

#: Fifty thousand tags inside each other in parts that each pass our caps: some seconds of work, honestly asked for.
_SLOW = (
    b"Subject: slow\r\nFrom: eve@evil.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    + (b"--b\r\nContent-Type: text/html\r\n\r\n" + b"<pre>" * 19_000 + b"\r\n") * 150
    + b"--b--\r\n"
)


@pytest.fixture(scope="module")
def readers() -> Iterator[ParserPool]:
    ours = ParserPool(size=2, deadline=60)
    ours.start()
    yield ours
    ours.stop()


def test_a_child_reads_what_the_reader_reads(readers: ParserPool) -> None:
    for name in ("reply_gmail", "attachments", "bounce_failed", "out_of_office"):
        assert readers.read(golden(name)) == read(golden(name))


def test_the_envelope_sender_reaches_the_child(readers: ParserPool) -> None:
    assert readers.read(_MAIL, "").kind is not readers.read(_MAIL, "ana@example.com").kind


def test_a_child_gives_the_contents_of_attachments(readers: ParserPool) -> None:
    assert readers.parts(golden("attachments")) == parts(golden("attachments"))
    assert readers.parts(b"") == []


def test_a_mail_of_megabytes_goes_there_and_back(readers: ParserPool) -> None:
    raw = (
        b"Content-Type: application/x-odd\r\nContent-Disposition: attachment; filename=a\r\n\r\n"
        + b"0123456789abcde\n" * 300_000
    )
    (found,) = readers.parts(raw, deadline=60)
    assert found[0].size == len(found[1]) > 4_000_000


def test_many_threads_share_two_children(readers: ParserPool) -> None:
    found: list[Report] = []
    threads = [threading.Thread(target=lambda: found.append(readers.read(_MAIL))) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [read(_MAIL)] * 24


def test_a_child_late_for_its_mail_is_killed_and_replaced_and_the_mail_still_read() -> None:
    ours = ParserPool(size=1, deadline=0.5)
    ours.start()
    try:
        with capture_logs() as logs:
            before = time.monotonic()
            report = ours.read(_SLOW)
            assert time.monotonic() - before < 30
            assert report.subject == "slow"
            assert report.defects[0] == "not parsed: deadline"
            wait_for(lambda: "reader.started" in [entry["event"] for entry in logs])
        assert ours.read_slowly(_MAIL, "?", 20) == read(_MAIL)
        killed = next(entry for entry in logs if entry["event"] == "reader.killed")
        assert killed["why"] == "deadline"
        assert "evil.example" not in json.dumps(logs)
    finally:
        ours.stop()


def test_the_wait_for_a_free_child_counts_inside_the_deadline(tmp_path: Path) -> None:
    ours = ParserPool(size=1, deadline=1.5, command=stand_in(tmp_path, "time.sleep(9)"))
    ours.start()
    try:
        threads = [threading.Thread(target=ours.read, args=(_MAIL,)) for _ in range(20)]
        before = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - before < 20, "not one after the other"
    finally:
        ours.stop()


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("os._exit(1)", "died"),
        ("os.kill(os.getpid(), 9)", "died"),
        ("sys.stdout.buffer.write(b'\\0\\0'); sys.stdout.buffer.flush(); os._exit(0)", "died"),
        ("send(b'not json')", "garbage"),
        ("send(b'[]')", "garbage"),
        ("send(b'{}')", "garbage"),
        ("send(b'[' * 100000)", "garbage"),
        ("send(b'\\xff\\xfe\\xff')", "garbage"),
        ("sys.stdout.buffer.write(b'\\xff' * 8); sys.stdout.buffer.flush()", "garbage"),
    ],
)
def test_a_child_that_dies_or_lies_costs_a_byte_level_reading_and_itself(tmp_path: Path, does: str, why: str) -> None:
    ours = ParserPool(size=1, deadline=5, command=stand_in(tmp_path, does))
    ours.start()
    try:
        with capture_logs() as logs:
            report = ours.read(_MAIL)
            wait_for(lambda: "reader.started" in [entry["event"] for entry in logs])
        assert (report.subject, report.from_address) == ("help", "ana@example.com")
        assert report.defects == (f"not parsed: {why}",)
        assert not report.lossless
        with pytest.raises(Temporary):
            ours.parts(_MAIL)
    finally:
        ours.stop()


def test_a_child_found_dead_is_replaced_before_a_mail_is_lost_to_it() -> None:
    ours = ParserPool(size=1, deadline=80)
    ours.start()
    try:
        (child,) = ours._staff._alive
        os.kill(child.pid, signal.SIGKILL)
        wait_for(lambda: not child.is_alive())
        assert ours.read(_MAIL) == read(_MAIL)
    finally:
        ours.stop()


def test_children_that_cannot_start_leave_the_byte_level_reading() -> None:
    ours = ParserPool(size=1, deadline=0.2, command=["/nonexistent/python"])
    with capture_logs() as logs:
        threading.Thread(target=ours.start, daemon=True).start()
        wait_for(lambda: bool(logs))
        assert ours.read(_MAIL).subject == "help"
        ours.stop()
    assert logs[0]["event"] == "reader.failed"


def test_uploads_never_take_the_last_child(tmp_path: Path) -> None:
    slow_parts = "request['op'] == 'parts' and time.sleep(9); send(ANSWER)".replace(
        "ANSWER", repr(report_json.to_json(read(_MAIL)).encode())
    )
    ours = ParserPool(size=2, deadline=3, command=stand_in(tmp_path, slow_parts))
    ours.start()
    try:
        uploads = [threading.Thread(target=_fails, args=(ours,)) for _ in range(2)]
        for thread in uploads:
            thread.start()
        time.sleep(0.1)
        assert ours.read(_MAIL) == read(_MAIL)
        for thread in uploads:
            thread.join()
    finally:
        ours.stop()


def test_a_mail_that_reads_slowly_holds_up_no_other(tmp_path: Path) -> None:
    with slow_readers(tmp_path) as (ours, slow):
        slow(2)
        wait_for(lambda: len(ours._staff._alive) == 4 and len(ours._staff._slow) == 2)
        for _ in range(3):
            assert ours.read(_MAIL) == read(_MAIL)
        assert len(ours._staff._slow) == 2, "the slow ones are still at it"


def test_when_all_there_may_be_are_slow_a_mail_gets_its_byte_level_reading_without_a_wait(tmp_path: Path) -> None:
    with slow_readers(tmp_path) as (ours, slow):
        all_slow(ours, slow)
        found = [ours.read(_MAIL) for _ in range(5)]
        assert {(each.subject, each.cut_short) for each in found} == {("help", "no reader was free")}
        assert len(ours._staff._slow) == len(ours._staff._alive) == MOST, "and nobody was ended or begun for it"


def test_there_are_as_many_as_before_when_the_slow_ones_are_through(tmp_path: Path) -> None:
    with slow_readers(tmp_path) as (ours, slow):
        all_slow(ours, slow)
        (tmp_path / "go").touch()
        wait_for(lambda: not ours._staff._slow)
        for _ in range(MOST):
            assert ours.read_slowly(_MAIL, "?", 20) == read(_MAIL)
        wait_for(lambda: len(ours._staff._alive) == 2)
        assert ours.read(_MAIL) == read(_MAIL)


def test_a_further_reading_waits_for_a_reader_when_all_are_slow(tmp_path: Path) -> None:
    with slow_readers(tmp_path) as (ours, slow):
        all_slow(ours, slow)
        found: list[Report] = []
        waiting = threading.Thread(target=lambda: found.append(ours.read_slowly(_MAIL, "?", 60)))
        waiting.start()
        wait_for(lambda: bool(ours._staff._queue))
        (tmp_path / "go").touch()
        waiting.join(20)
        assert found == [read(_MAIL)]


def all_slow(ours: ParserPool, slow: Callable[[int], None]) -> None:
    """Each reader there may be has a slow mail."""
    while (so_far := len(ours._staff._slow)) < MOST:
        wait_for(lambda: len(ours._staff._free) == 2)
        slow(2)
        # Nothing of those that begin in their place: on a busy machine they may be there before we look.
        wait_for(lambda slow_now=so_far + 2: len(ours._staff._slow) == slow_now)  # type: ignore[misc]


@pytest.mark.parametrize("error", [MemoryError(), KeyError("x")])
def test_a_reader_out_of_memory_asks_for_another_reading_and_one_that_fails_always_does_not(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> Report:
        raise error

    monkeypatch.setattr(parser, "_report", fails)
    assert read(_MAIL).cut_short == ("MemoryError" if isinstance(error, MemoryError) else "")


def test_a_report_of_a_version_before_is_read_as_ever() -> None:
    document = json.loads(report_json.to_json(read(_MAIL)))
    del document["cut_short"]
    assert report_json.from_json(json.dumps(document)) == read(_MAIL)


def test_a_child_yields_its_time_and_is_the_first_to_go_when_memory_runs_out() -> None:
    before = _autogroup()
    ours = ParserPool(size=1, deadline=20)
    ours.start()
    try:
        (child,) = ours._staff._alive
        proc = Path(f"/proc/{child.pid}")
        assert (proc / "oom_score_adj").read_text().strip() == "1000"
        assert os.getpriority(os.PRIO_PROCESS, child.pid) > os.getpriority(os.PRIO_PROCESS, 0)
        assert _autogroup() == before, "and of nobody else's"
    finally:
        ours.stop()


def test_a_child_in_the_session_of_its_parent_leaves_the_time_of_that_alone() -> None:
    before = _autogroup()
    child = _our_child()
    child.communicate(timeout=20)
    assert _autogroup() == before


def _autogroup() -> str:
    """How the kernel shares its time with our session; "" where it does not look at sessions."""
    with contextlib.suppress(OSError):
        return Path("/proc/self/autogroup").read_text()
    return ""


def _fails(ours: ParserPool) -> None:
    with pytest.raises(Temporary):
        ours.parts(_MAIL, deadline=1)


def test_stopping_ends_every_child_and_calls_under_way_get_their_answer(tmp_path: Path) -> None:
    ours = ParserPool(size=2, deadline=9, command=stand_in(tmp_path, "time.sleep(60)"))
    ours.start()
    pids = [child.pid for child in ours._staff._alive]
    found: list[Report] = []
    waiting = threading.Thread(target=lambda: found.append(ours.read(_MAIL)))
    waiting.start()
    time.sleep(0.1)
    ours.stop()
    waiting.join(30)
    assert [report.subject for report in found] == ["help"]
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_a_child_that_is_being_started_at_a_stop_is_no_failure(tmp_path: Path) -> None:
    script = tmp_path / "never_ready.py"
    script.write_text("import time\ntime.sleep(60)\n")
    ours = ParserPool(size=1, command=[sys.executable, "-I", str(script)])
    with capture_logs() as logs:
        starting = threading.Thread(target=ours.start)
        starting.start()
        wait_for(lambda: bool(ours._staff._greeted))
        ours.stop()
        starting.join(20)
    assert logs == []


def _our_child() -> subprocess.Popen[bytes]:
    path = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-s", "-P", "-m", "panicmail.mail.parse.worker"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=path, cwd="/")


def test_a_child_ends_by_itself_when_its_stdin_closes() -> None:
    child = _our_child()
    out, _ = child.communicate(timeout=20)
    assert child.returncode == 0
    assert out == HEAD.pack(len(b'{"ready": true}'), 0) + b'{"ready": true}'


def test_a_child_may_use_a_gibibyte_and_leaves_no_core() -> None:
    child = _our_child()
    try:
        assert child.stdout is not None
        child.stdout.read(8)
        limits = Path(f"/proc/{child.pid}/limits").read_text()
        said = {line[:25].strip(): line[26:].split()[0] for line in limits.splitlines()}
        assert said["Max address space"] == str(1024 * 1024 * 1024)
        assert said["Max core file size"] == "0"
    finally:
        child.communicate()


# --- the wire


#: Our own child, as a user the kernel holds to every limit, with what it needs loaded before.
_AS_NOBODY = """
import os
from panicmail.mail.parse import worker
worker._warm_up()
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
worker.main()
"""
#: What code of a mail's would try, each with what came of it.
_TRIES = """
import os, subprocess, sys, tempfile, threading
from panicmail.confinement import confine
confine()
def file():
    with open(sys.argv[1] + "/dropped", "wb") as written:
        written.write(b"x")
def files():
    kept = []
    try:
        while len(kept) < 100:
            kept.append(open("/dev/null"))
    finally:
        for each in kept:
            each.close()
def nobody():
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
def lift():
    import resource
    resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))
tried = {"file": file, "files": files, "nobody": nobody, "fork": os.fork,
         "thread": threading.Thread(target=print).start, "program": lambda: subprocess.run(["/bin/true"]), "lift": lift}
for name, tries in tried.items():
    try:
        tries()
    except (OSError, RuntimeError, ValueError) as exc:
        print(name, type(exc).__name__)
    else:
        print(name, "done")
os.write(1, b"answers go out\\n")
"""


def test_a_reader_that_is_held_to_every_limit_reads_what_it_reads_without() -> None:
    mails = [
        _MAIL,
        *(raw for raw in map(Path.read_bytes, sorted((Path(__file__).parents[1] / "mails").rglob("*.eml")))),
    ]
    held = ParserPool(size=1, deadline=20, command=[sys.executable, "-c", _AS_NOBODY])
    held.start()
    try:
        with capture_logs() as logs:
            for raw in mails:
                assert held.read(raw, None) == read(raw, mail_from=None)
                assert held.parts(raw) == parts(raw)
        assert not logs
    finally:
        held.stop()


def test_what_gets_hold_of_a_reader_starts_nothing_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _TRIES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    *tried, last = done.stdout.splitlines()
    assert last == "answers go out"
    assert {line.partition(" ")[0]: line.partition(" ")[2] for line in tried} == {
        "file": "OSError", "files": "OSError", "nobody": "done", "fork": "BlockingIOError", "thread": "RuntimeError",
        "program": "BlockingIOError", "lift": "ValueError",
    }  # fmt: skip
    assert [path.read_bytes() for path in tmp_path.iterdir()] in ([], [b""])


@pytest.mark.parametrize("module", ["panicmail.mail.parse.worker", "panicmail.oncall.ical_worker"])
def test_both_children_give_up_what_reading_does_not_need(module: str) -> None:
    since = datetime.now(UTC)
    words = [since.isoformat(), (since + timedelta(days=1)).isoformat()]
    command = [sys.executable, "-m", module, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        limits = Path(f"/proc/{child.pid}/limits")
        wait_for(lambda: "Max processes             0 " in limits.read_text())
        told = {line[:26].strip(): line[26:].split()[:2] for line in limits.read_text().splitlines()}
        child.kill()
    assert told["Max address space"] == ["1073741824", "1073741824"]
    assert told["Max open files"] == ["32", "32"]
    assert told["Max file size"] == told["Max processes"] == told["Max core file size"] == ["0", "0"]


def test_a_report_survives_the_wire() -> None:
    for name in ("reply_gmail", "attachments", "bounce_failed"):
        assert report_json.from_json(report_json.to_json(read(golden(name)))) == read(golden(name))


def test_what_is_too_large_is_capped_on_either_side() -> None:
    huge = Report(text="x" * 3_000_000, reply_text="y" * 100_000, links=("z" * 9_000,) * 500, subject="\ud800")
    document = report_json.to_json(huge)
    report = report_json.from_json(document)
    assert (len(report.text), len(report.reply_text)) == (1024 * 1024, 64 * 1024)
    assert (len(report.links), len(report.links[0]), report.subject) == (200, 4096, "\ufffd")
    forged = json.loads(document) | {"text": "x" * 3_000_000, "subject": "\ud800"}
    assert len(report_json.from_json(json.dumps(forged)).text) == 1024 * 1024
    assert report_json.from_json(json.dumps(forged)).subject == "\ufffd"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"subject": None}, {"subject": 3}, {"lossless": 1}, {"kind": "robot"}, {"date": "yesterday"}, {"date": 3}),
        *({"date": "2026-11-21T10:00:00"}, {"links": "x"}, {"links": [3]}, {"attachments": [{}]}, {"deliveries": {}}),
        *(
            {"attachments": [{"name": "", "type": "", "size": -1, "sha256": "0" * 64}]},
            {"date": "0001-01-01T00:00:00+14:00"},
        ),
        {"attachments": [{"name": "", "type": "", "size": True, "sha256": "0" * 64}]},
        {"attachments": [{"name": "", "type": "", "size": 1, "sha256": "z" * 64}]},
    ],
)
def test_a_document_of_another_shape_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        report_json.from_json(json.dumps(json.loads(report_json.to_json(Report())) | wrong))


@examples(100)
@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_noise_on_the_wire_is_a_value_error_and_nothing_else(noise: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        report_json.from_json(noise)


def test_a_reading_stored_by_a_version_that_knew_no_author_is_still_read() -> None:
    old = json.loads(report_json.to_json(Report(subject="x")))
    del old["author"], old["lists"]
    assert report_json.from_json(json.dumps(old)) == Report(subject="x")
