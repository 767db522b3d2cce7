"""The second pair of eyes, as a process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import click

from panicmail.cli.command_context import config_option, last_words, load

if TYPE_CHECKING:
    from panicmail.daemon.watch import WatchMonitor

#: Seconds from one question to the next.
ASK_EVERY = 3.0
#: SIGTERM and SIGINT stop it, SIGHUP reads the configuration again.
SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
#: How long a stop waits for pages that are going out, in seconds.
FINISH_SECONDS = 1.0


@click.command()
@config_option
def watch(config_file: str | None) -> None:
    """The second pair of eyes: pages when the daemon does not, and when it cannot be asked.

    Run it apart from the daemon, with PostgreSQL on another host, on the same configuration. It reads the database
    and changes nothing. SIGTERM stops it, SIGHUP reads the configuration again.
    """
    # Blocked, so that they wait until they are asked for: a question that hangs, or a start, holds up none.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    from panicmail import log
    from panicmail.clock import host_clock
    from panicmail.daemon.watch import WatchMonitor

    with last_words():
        config = load(config_file)
        log.configure(config.log.format, config.log.level)
        monitor = WatchMonitor(config, host_clock())
    status = _run(monitor)
    sys.stderr.flush()
    # A question or a page may still hang in its thread; nobody waits for it.
    os._exit(status)


def _run(monitor: WatchMonitor) -> int:
    """Until a signal, or until the thread that looks has ended."""
    import structlog

    stopped, reread = threading.Event(), threading.Event()
    looking = threading.Thread(
        target=_watch_until_stopped, args=(monitor, stopped, reread), name="monitor", daemon=True
    )
    looking.start()
    while looking.is_alive():
        came = signal.sigtimedwait(SIGNALS, 0.5)
        if came is None:
            continue
        if came.si_signo != signal.SIGHUP:
            stopped.set()
            monitor.finish(FINISH_SECONDS)
            structlog.get_logger().info("stopped", status=0)
            return 0
        reread.set()
    return 1


def _watch_until_stopped(monitor: WatchMonitor, stopped: threading.Event, reread: threading.Event) -> None:
    monitor.announce()
    while not stopped.is_set():
        monitor.round()
        if reread.wait(ASK_EVERY):
            reread.clear()
            monitor.reread()


COMMANDS = (watch,)
