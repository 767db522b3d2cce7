"""Floods: a colleague's panic in the midst of one, and how many pages of one a person gets."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.bench.figures import Goal, Line
from tests.bench.load import Load, send_apart
from tests.bench.proc import until
from tests.bench.town import Pages, bench_world, count, is_settled, panic


def flood(quick: bool) -> Iterator[Line]:
    """One sender's mails as fast as they are taken; meanwhile one colleague after another, from another address."""
    mails, colleagues = (400, 2) if quick else (5_000, 8)
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder)) as town:
        town.start()
        port = town.smtp_address[1]
        flooding = threading.Thread(
            target=send_apart, args=(Load(port, mails, sessions=20, size=2048, senders=1, tag="flood"),), daemon=True
        )
        flooding.start()
        until(lambda: count(town, "mails", "1") > mails / 10, 60, 0.02)
        pages, took, waiting = Pages(town), [], []
        for number in range(colleagues):
            one = panic(town, number, tag="colleague", source="127.0.0.2")
            waiting.append(count(town, "mails", "state = 'accepted'"))
            took.append(pages.of(one.canary, 75).received_at - one.dot_at)
            time.sleep(0.5)
        flooding.join(300)
        accepted = count(town, "mails", "1") - colleagues
    text = (
        f"at most {max(took):.2f} s, p50 {statistics.median(took):.2f} s of {colleagues} panics; {accepted:,} mails of"
        f" the flood accepted, up to {max(waiting):,} of them waiting"
    )
    yield Line("flood", f"a colleague's page while {mails:,} mails of one sender come in", text, max(took),
               Goal(1, 0.2, " s"))  # fmt: skip


def flood_pages(quick: bool) -> Iterator[Line]:
    mails = 40 if quick else 600
    text, figure = _pages_of(mails, Load(0, mails, sessions=20, size=1024, senders=1, tag="flood"))
    yield Line("flood_pages", f"pages to one person by a flood of {mails} from one sender", text, figure, Goal(30, 22))
    text, figure = _pages_of(mails, Load(0, mails, sessions=20, size=1024, tag="forged"))
    yield Line("forged_pages", f"the same, {mails} forged senders", text, figure, Goal(30, 20))


def _pages_of(mails: int, load: Load) -> tuple[str, float]:
    with tempfile.TemporaryDirectory() as folder, bench_world(Path(folder)) as town:
        town.start()
        began = time.monotonic()
        send_apart(replace(load, port=town.smtp_address[1]))
        is_done = until(lambda: is_settled(town), 240, 0.5)
        pages = Pages(town).look()
        incidents = town.rows("SELECT ref FROM incidents")
        texts = b"".join(page.raw for page in pages)
        unnamed = sum(ref.encode() not in texts for (ref,) in incidents)
        last = max((page.received_at for page in pages), default=began) - began
    text = f"{len(pages)} pages for {len(incidents)} incidents, {unnamed} not named, the last after {last:.0f} s"
    return text if is_done else f"{text}, not settled after 240 s", float(len(pages))
