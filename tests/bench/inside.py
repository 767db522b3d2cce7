"""`panicmail serve` that tells what its threads are, and with BENCH_FUNCTIONS set where each of them spends its CPU.

    python -m tests.bench.inside serve -c panicmail.toml

SIGUSR1 notes where the profiles stand, and makes a file `.noted`. SIGUSR2 writes to BENCH_PROFILE the native ids of the
threads by name, and what CPU each function of each thread has used itself since, in seconds.
"""

from __future__ import annotations

import cProfile
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

Shares = dict[str, float]
#: Where a library begins in a path; the program's own folder is part of the name.
_ROOTS = ("site-packages", "panicmail")

_profiles: dict[str, cProfile.Profile] = {}
_before: dict[str, dict[Any, float]] = {}


def _begin(*_: object) -> None:
    """Called by each new thread before its first function: from here on the profile itself is what is called."""
    profile = cProfile.Profile(time.thread_time)
    _profiles[threading.current_thread().name] = profile
    profile.enable()


def _own_seconds(profile: cProfile.Profile) -> dict[Any, float]:
    found: dict[Any, float] = {}
    for entry in profile.getstats():  # code that is written alike is equal
        found[entry.code] = found.get(entry.code, 0.0) + entry.inlinetime
    return found


def name_of(code: Any) -> str:
    """Where a function stands, from its library on."""
    if isinstance(code, str):
        return f"built in/{code.strip('<>')}"
    parts = Path(code.co_filename).parts
    roots = [number for number, part in enumerate(parts) if part in _ROOTS or part.startswith("python3.")]
    begin = max((number + (parts[number] != "panicmail") for number in roots), default=len(parts) - 1)
    return f"{'/'.join(parts[begin:])}:{code.co_qualname}"


def _note(number: int, frame: object) -> None:
    _before.clear()
    _before.update({name: _own_seconds(profile) for name, profile in _profiles.items()})
    Path(os.environ["BENCH_PROFILE"]).with_suffix(".noted").touch()


def _write(number: int, frame: object) -> None:
    ids = {thread.name: thread.native_id for thread in threading.enumerate()}
    now = {name: _own_seconds(profile) for name, profile in _profiles.items()}
    since: dict[str, Shares] = {}
    for name, functions in now.items():
        shares = since.setdefault(name, {})
        for code, used in functions.items():
            key = name_of(code)
            shares[key] = shares.get(key, 0.0) + used - _before.get(name, {}).get(code, 0.0)
    path = Path(os.environ["BENCH_PROFILE"])
    path.with_suffix(".new").write_text(json.dumps({"ids": ids, "functions": since}))
    path.with_suffix(".new").rename(path)


def main() -> None:
    signal.signal(signal.SIGUSR1, _note)
    signal.signal(signal.SIGUSR2, _write)
    if os.environ.get("BENCH_FUNCTIONS"):
        threading.setprofile(lambda *_: _begin())
        _begin()
    from panicmail.cli import main as panicmail

    sys.argv[0] = "panicmail"
    panicmail()


if __name__ == "__main__":
    main()
