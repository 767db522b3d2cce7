"""What the daemon costs while nothing happens, what crowds at the door cost others, and what commands cost."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.bench.figures import Goal, Line, milliseconds
from tests.bench.load import RECIPIENT, ROOT, Load, message
from tests.bench.proc import cpu_seconds, family, pss_octets, wake_ups
from tests.bench.town import ONE_BY_ONE, Pages, bench_world, panic, settle
from tests.program import World

#: Who crowds comes from so many addresses, none of them the honest one's.
CROWD_FROM = tuple(f"127.0.1.{number}" for number in range(1, 9))


def rest(quick: bool) -> Iterator[Line]:
    """A daemon that has had one panic, which somebody has acknowledged by now."""
    calm, seconds = (2.0, 8.0) if quick else (20.0, 60.0)
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder)) as town:
        pid = town.start().pid
        one = panic(town, 0)
        town.reply(Pages(town).of(one.canary), "ack")
        settle(town)
        time.sleep(calm)
        cpu, woken, began = cpu_seconds(pid), wake_ups(pid), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        share, rate = (cpu_seconds(pid) - cpu) / passed * 100, (wake_ups(pid) - woken) / passed
        memory, processes = pss_octets(pid) / 1e6, len(family(pid))
    yield Line("rest_memory", f"rest: memory of all {processes} processes (PSS)", f"{memory:.0f} MB", memory,
               Goal(100, 80, " MB"))  # fmt: skip
    yield Line("rest_cpu", "rest: CPU of one core", f"{share:.1f} %", share, Goal(1.5, 0.5, " %"))
    yield Line("rest_wake_ups", "rest: wake-ups a second of all threads", f"{rate:.0f}", rate, Goal(20, 8))


# -- crowds


def crowd(quick: bool) -> Iterator[Line]:
    idle, half, octets = (300, 50, 50_000_000) if quick else (2_000, 200, 1_000_000_000)
    attacks: dict[str, tuple[str, Attack]] = {
        "crowd_idle": (f"{idle:,} idle connections", partial(_idle, number=idle)),
        "crowd_half": (f"{half} half-open DATA", partial(_half_open, number=half)),
        "crowd_endless": (f"{octets // 1_000_000:,} MB without a line end", partial(_endless, octets=octets)),
    }
    for name, (what, attack) in attacks.items():
        with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder), ONE_BY_ONE) as town:
            town.start()
            panic(town, 0, tag="warm")
            settle(town)
            with contextlib.ExitStack() as stack:
                attack(town.smtp_address[1], stack)
                took = _honest(town)
        text = f"at most {max(took):.2f} s, p50 {statistics.median(took):.2f} s of {len(took)} panics"
        yield Line(name, f"{what}: a panic from elsewhere is paged after", text, max(took), Goal(1, 0.1, " s"))


#: Begins at a port, and goes on until the stack is closed.
Attack = Callable[[int, contextlib.ExitStack], None]


def _honest(town: World) -> list[float]:
    pages, took = Pages(town), []
    for number in range(5):
        one = panic(town, number, tag="honest", source="127.0.0.2")
        took.append(pages.of(one.canary).received_at - one.dot_at)
        time.sleep(0.3)
    return took


def _connect(port: int, number: int, stack: contextlib.ExitStack) -> socket.socket:
    source = CROWD_FROM[number % len(CROWD_FROM)]
    made = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10, (source, 0)))
    made.settimeout(10)
    return made


def _idle(port: int, stack: contextlib.ExitStack, number: int) -> None:
    for each in range(number):
        _connect(port, each, stack)


def _half_open(port: int, stack: contextlib.ExitStack, number: int) -> None:
    for each in range(number):
        with contextlib.suppress(OSError):
            _begin_data(_connect(port, each, stack))


def _begin_data(client: socket.socket) -> None:
    """As far as into the header."""
    for command in ("", "EHLO crowd\r\n", "MAIL FROM:<m@example.net>\r\n", f"RCPT TO:<{RECIPIENT}>\r\n", "DATA\r\n"):
        client.sendall(command.encode())
        client.recv(4096)
    client.sendall(b"Subject: half of it")


def _endless(port: int, stack: contextlib.ExitStack, octets: int) -> None:
    """Half of them as a command, half within DATA; sent on again over a new connection when it is closed."""
    ended = threading.Event()
    threads = [
        threading.Thread(target=_pour, args=(port, data, octets // 2, ended), daemon=True) for data in (True, False)
    ]
    for thread in threads:
        thread.start()
        stack.callback(thread.join, 20)
    stack.callback(ended.set)


def _pour(port: int, data: bool, octets: int, ended: threading.Event) -> None:
    block, poured = b"x" * 65536, 0
    while poured < octets and not ended.is_set():
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            client = _connect(port, poured, stack)
            if data:
                _begin_data(client)
            while poured < octets and not ended.is_set():
                client.sendall(block)
                poured += len(block)


# -- commands


def commands(quick: bool) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder)) as town:
        town.start()
        for number in range(3):
            panic(town, number)
        settle(town)
        mail = Path(folder) / "mail.eml"
        mail.write_bytes(message(Load(0, 1), 0)[2].removesuffix(b".\r\n"))
        config = ("-c", str(town.path))
        arguments = {
            "help": ("--help",),
            "incidents": ("incidents", *config),
            "explain": ("explain", *config, str(mail)),
        }
        # As installed: with the bytecode of all modules there, which the first run writes.
        environ = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environ["PYTHONPYCACHEPREFIX"] = str(Path(folder) / "bytecode")
        used = {}
        for name, each in arguments.items():
            used[name] = [_cpu_of(each, environ) for _ in range(4 if quick else 8)][1:]
    for name, seconds in used.items():
        middle = statistics.median(seconds)
        shown = "--help" if name == "help" else name
        goal = None if name == "help" else Goal(0.5, 0.25, " s")
        yield Line(f"command_{name}", f"`panicmail {shown}`: CPU", milliseconds(middle), middle, goal)


def _cpu_of(arguments: tuple[str, ...], environ: dict[str, str]) -> float:
    """CPU of one command to its end, in seconds."""
    command = [sys.executable, "-m", "panicmail", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime
