"""`panicmail demo`: the whole story on this machine, with nothing to configure.

A sandbox GitLab and a sandbox mail relay stand in this process; between them runs the real daemon, a child process
started as an operator starts it, with a configuration written for the occasion. Rita reports by SMTP, Ana sleeps, the
service level passes, Max is called and answers. Everything told is something that arrived: nothing is acted, and what
does not arrive in time ends the story with exit status 1. So the demo is also the shortest test of the whole.

    stage           what is built up and taken down: sandbox, configuration, daemon, the letters people send
    daemon_process  the daemon, and what its commands answer
    script          who does what, and what must come of it
    reckoning       the end: what was told against what was recorded
    telling         how it is told: painted on a terminal, plain lines elsewhere
    playing         what --keep adds: the addresses to play with, and what comes while somebody plays

Ctrl-C, SIGTERM and SIGHUP end the daemon and remove the folder. Killed outright (SIGKILL), the demo leaves both.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from panicmail.sandbox.demo import playing
from panicmail.sandbox.demo.failure import Failed
from panicmail.sandbox.demo.script import Story
from panicmail.sandbox.demo.stage import Ports, Stage
from panicmail.sandbox.demo.telling import Telling, teller

__all__ = ["run"]


def run(
    *, sla: int, keep: bool, smtp_port: int = 0, web_port: int = 0, gitlab_port: int = 0, relay_port: int = 0
) -> int:
    """Tell the story; answers the exit status.

    Args:
        sla: Seconds until the manager is called.
        keep: Stay up afterwards, until Ctrl-C.
        smtp_port: As the other ports: 0 takes a free one.
    """
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that lacks a sign shows a "?"
    telling = teller(sys.stdout)
    ports = Ports(smtp=smtp_port, web=web_port, gitlab=gitlab_port, relay=relay_port)
    with _ended_by_signals():
        try:
            _tell(telling, ports, sla, keep=keep)
        except Failed as exc:
            telling.failed(f"FAILED: {exc}", exc.details)
            return 1
        except KeyboardInterrupt:
            telling.failed("Interrupted; everything is taken down.")
            return 1
        finally:
            telling.stop_clock()  # it hides the cursor
    return 0


def _tell(telling: Telling, ports: Ports, sla: int, *, keep: bool) -> None:
    with Stage(ports, sla) as stage:
        story = Story(stage, telling)
        story.play()
        if keep:
            playing.play(stage, telling, story)
        stopped = stage.daemon.stop()
    telling.line(f"The daemon stopped on SIGTERM in {stopped:.1f} s; its folder is removed. Nothing is left behind.")
    if not keep:
        telling.line("To play with it yourself: make demo ARGS=--keep")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the story as Ctrl-C does."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
