"""Rows 8, 9, 35 to 38 and 41: signals, a suspended host, broken readers, a second daemon, a dead host, a full log."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.examples import if_long
from tests.faults.acts import (
    accounted_for,
    copies,
    eventually,
    free_port,
    frozen,
    it_happened_earlier,
    one_copy_a_life,
    readers_of,
    suspended,
)
from tests.office import PANIC, mail
from tests.program import SOON, World, world
from tests.provider import Provider
from tests.watcher import Watcher

# -- SIGTERM, and a host that is suspended


@pytest.mark.row(8, "SIGTERM", "no new connections, DATA gets its answer, leases are free at the start, exit 0")
def test_sigterm_lets_a_mail_in_data_end_abandons_the_relay_and_the_next_start_sends_the_page_at_once(
    town: World,
) -> None:
    town.relay.rule("ana@", "hang", times=1)
    town.start()
    refs = [town.panic("its page hangs at the relay")]
    town.page("ana", refs[0])
    with closing(town.begin_mail()) as client:
        town.program.signal(signal.SIGTERM)
        eventually(lambda: refuses_connections(town), "it still listens")
        refs.append(town.finish_mail(client).ref)
    assert town.program.ended(10) == 0
    town.relay.clear_rules()
    ready_at, _ = town.start().wait_for("ready")
    assert town.page("ana", refs[0], count=2).received_at - ready_at < 30, "no lease holds it up"
    for ref in refs:
        town.page("ana", ref)
    one_copy_a_life(town)


def refuses_connections(town: World) -> bool:
    try:
        town.connect(1).close()
    except OSError:
        return True
    return False


@pytest.mark.row(9, "the host is suspended for ten minutes", "overdue steps at once, once each, said to be late")
def test_what_fell_due_while_the_host_was_suspended_is_done_at_once_and_once(town: World) -> None:
    town.start()
    ref = town.panic("before the night")
    town.page("ana", ref)
    town.settled()
    town.relay.rule("ana@", "hang", times=1)
    hanging = town.panic("its page is under way")
    town.page("ana", hanging)
    with suspended(town):
        it_happened_earlier(town.database, timedelta(minutes=11))
        town.relay.clear_rules()
        resumed_at = time.monotonic()
    page = town.page("max", ref)
    assert page.received_at - resumed_at < 30
    assert "late" in page.text
    town.page("max", hanging)
    town.settled()
    assert [len(town.pages("max", ref)), len(town.pages("ana", ref))] == [1, 2], "once each"
    rounds = copies(town, "ana", hanging)
    assert len(rounds) - len(set(rounds)) <= 1, "one extra copy at most, of the page that was under way"


# -- the readers


def hang(town: World) -> Iterator[None]:
    with frozen(*readers_of(town.program)):
        yield


def die(town: World) -> Iterator[None]:
    pids = readers_of(town.program)
    with frozen(*pids):
        for pid in pids:
            threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        yield


def starve(town: World) -> Iterator[None]:
    for pid in readers_of(town.program):
        _, most = resource.prlimit(pid, resource.RLIMIT_AS)
        resource.prlimit(pid, resource.RLIMIT_AS, (1, most))
    yield


def idle_readers(town: World) -> int:
    said = Counter(facts["event"] for _, facts in town.program.events)
    return said["reader.started"] - said["reader.killed"]


@pytest.mark.row(35, "a reader crashes, hangs, has no memory", "killed; read by bytes, paged, the raw mail attached")
def test_a_mail_no_reader_reads_is_paged_within_seconds_and_its_octets_are_on_the_issue(town: World) -> None:
    town.expected.add("reader.failed")  # one that is killed while it starts
    town.start()
    for fault in (starve, hang, die):
        eventually(lambda: idle_readers(town) == 2, "who was killed has no successor")
        raw = mail("Every file is .locked.\n" + "x" * 70 * 40_000, subject=f"Ransom note of {fault.__name__}")
        with contextlib.contextmanager(fault)(town):
            sent_at = time.monotonic()
            ref = town.send(raw).ref
            page = town.page("ana", ref)
        assert page.received_at - sent_at < 30, fault
        assert page.subject == f"[PANIC {ref}] Ransom note of {fault.__name__}"
        assert "Every file is .locked." in page.text
        assert "could not be read in full so far; the raw message is on the issue" in page.text
        town.settled()
        # The raw message on the issue has our own Received field on top.
        assert any(upload["data"].endswith(raw) for upload in town.gitlab.uploads)
    eventually(lambda: idle_readers(town) == 2, "who was killed has no successor")
    assert "could not be read in full" not in town.page("ana", town.panic("the next one")).text


# -- a second daemon


@pytest.mark.row(36, "two daemons on one SQLite file", "the second is refused with a sentence; the first works on")
def test_a_second_daemon_on_the_file_ends_at_once_and_takes_nothing_from_the_first(town: World) -> None:
    town.start()
    ref = town.panic()
    second = town.run("serve")
    assert second.status == 1
    assert "another panicmail serve uses" in second.err
    accounted_for(town, [ref, town.panic("after")])
    assert len(town.pages("ana")) == 2


@pytest.mark.postgres
@pytest.mark.row(
    36, "two daemons on one PostgreSQL database", "they share the work: one page, one issue, one escalation"
)
def test_two_daemons_on_one_database_page_escalate_and_open_issues_once(tmp_path: Path, postgres_url: str) -> None:
    steps = [("0s", "seoc"), ("2s", "smoc")]
    with world(tmp_path, steps=steps, sla="2s", database=postgres_url) as town:
        town.start()
        first = town.smtp_address
        town.start()
        assert town.smtp_address != first
        refs = [town.panic(f"number {number}") for number in range(3)]
        with smtplib.SMTP(*first, timeout=SOON) as client:
            _, said = client.sendmail, [client.docmd("EHLO", "x"), client.mail("rita@example.com"), client.rcpt(PANIC),
                                        client.data(mail("help", subject="by the first"))]  # fmt: skip
        refs.append(str(said[-1][1]).rpartition(" ")[2].strip("'"))
        for ref in refs:
            town.page("ana", ref)
            town.page("max", ref)
            town.issue(ref)
        for ref in refs:
            assert (len(town.pages("ana", ref)), len(town.pages("max", ref)), len(town.issues(ref))) == (1, 1, 1)
        for program in town.programs:
            program.signal(signal.SIGTERM)
        assert [program.ended(10) for program in town.programs] == [0, 0]


# -- the host is gone


@pytest.mark.row(
    38, "the whole host is dead", "the MX keeps the mail; after the start it is paged, and what fell due is done"
)
@pytest.mark.long
def test_mail_of_an_outage_waits_with_its_sender_and_is_paged_when_the_host_is_back(town: World) -> None:
    town.config["smtp"]["listen"] = [f"127.0.0.1:{free_port()}"]
    town.start()
    before = town.panic("before the outage")
    town.page("ana", before)
    town.settled()
    address = town.smtp_address
    town.program.kill()
    it_happened_earlier(town.database, timedelta(hours=1))
    queue = Queue(*address)
    queue.put(mail("The backup is gone too.", subject="during the outage"))
    eventually(lambda: queue.refused > 3, "it was not even tried")
    ready_at, _ = town.start().wait_for("ready")
    assert town.page("max", before).received_at - ready_at < 30
    ref = queue.delivered()
    accounted_for(town, [ref])


class Queue:
    """What an MX does with a mail it cannot hand over: it keeps it and tries again."""

    def __init__(self, host: str, port: int) -> None:
        self.refused = 0
        self._address = (host, port)
        self._answer = ""
        self._thread: threading.Thread | None = None

    def put(self, raw: bytes) -> None:
        self._thread = threading.Thread(target=self._deliver, args=(raw,), daemon=True)
        self._thread.start()

    def delivered(self) -> str:
        assert self._thread is not None
        self._thread.join(SOON)
        return self._answer.rpartition(" ")[2]

    def _deliver(self, raw: bytes) -> None:
        while not self._answer:
            try:
                with smtplib.SMTP(*self._address, local_hostname="mx.example.com", timeout=30) as client:
                    client.ehlo()
                    client.mail("rita@example.com")
                    client.rcpt(PANIC)
                    self._answer = client.data(raw)[1].decode()
            except (OSError, smtplib.SMTPException):
                self.refused += 1
                time.sleep(0.05)


@pytest.mark.row(38, "the daemon is dead past an SLA", "`panicmail watch` calls the SMOC, by its own way and by mail")
def test_when_the_daemon_is_dead_the_watch_calls_the_smoc_by_two_ways(town: World) -> None:
    with Provider() as provider:
        town.config["watch"] = {"push": [f"json://{provider.host}/200/secret"]}
        town.start()
        ref = town.panic()
        town.page("ana", ref)
        town.settled()
        town.program.kill()
        it_happened_earlier(town.database, timedelta(minutes=11))
        with closing(Watcher(town.path)) as watcher:
            assert ref in provider.wait(1, SOON).json["message"]
            town.page("max", ref)
            watcher.signal(signal.SIGTERM)
            assert watcher.ended() == 0


# -- the log


def nobody_reads() -> Iterator[int]:
    """A pipe that is full already."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"." * select.PIPE_BUF)
    os.set_blocking(writing, True)
    yield writing
    os.close(writing)
    os.close(reading)


def the_reader_is_gone() -> Iterator[int]:
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def the_disk_is_full() -> Iterator[int]:
    full = os.open("/dev/full", os.O_WRONLY)
    yield full
    os.close(full)


@pytest.mark.row(41, "the log's disk is full, nobody reads it", "lines are lost; mail, pages and the end go on as ever")
@pytest.mark.parametrize(
    "log",
    [
        if_long(nobody_reads),
        if_long(the_reader_is_gone),
        the_disk_is_full,
    ],
)
def test_a_log_that_takes_nothing_holds_up_nothing(town: World, log: Callable[[], Iterator[int]]) -> None:
    port = free_port()
    town.config["smtp"]["listen"] = [f"127.0.0.1:{port}"]
    town.config["log"]["level"] = "debug"
    town.write_config()
    command = [sys.executable, "-m", "panicmail", "serve", "-c", str(town.path)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PANICMAIL")}
    with (
        contextlib.contextmanager(log)() as stderr,
        subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        ) as process,
    ):
        try:
            queue = Queue("127.0.0.1", port)
            queue.put(mail("help", subject="the first"))
            assert queue.delivered()
            began = time.monotonic()
            for number in range(10):
                queue = Queue("127.0.0.1", port)
                queue.put(mail("help", subject=f"number {number}"))
                assert queue.delivered()
            last = town.relay.wait(lambda got: got.to("ana@example.com") and "number 9" in got.subject, SOON)
            assert last.received_at - began < 30
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
