"""What the kernel says of processes and of the machine: CPU, memory, wake-ups, how fast an fsync is."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all it started, as far as they still run."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(entry)):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _stat(entry: Path) -> list[str]:
    """The fields of a process's or thread's `stat` from its state on; [] when it is gone."""
    with contextlib.suppress(OSError):
        return (entry / "stat").read_text().rpartition(") ")[2].split()
    return []


def cpu_seconds(pid: int) -> float:
    """CPU that a process and all it started have used, those that have ended included."""
    own = sum(_ticks(Path(f"/proc/{each}"), 11, 15) for each in family(pid))
    return own / _TICKS


def thread_seconds(pid: int) -> dict[int, float]:
    """CPU of each thread of a process, by its native id."""
    return {int(task.name): _ticks(task, 11, 13) / _TICKS for task in Path(f"/proc/{pid}/task").iterdir()}


def _ticks(entry: Path, first: int, last: int) -> int:
    return sum(map(int, _stat(entry)[first:last]))


def pss_octets(pid: int) -> int:
    """Memory of a process and all it started: what is shared counts to each by its part."""
    return sum(_numbers(Path(f"/proc/{each}/smaps_rollup"), r"^Pss:\s+(\d+)") for each in family(pid)) * 1024


def wake_ups(pid: int) -> int:
    """How often the threads of a process and of all it started have gone to sleep by themselves."""
    tasks = [task for each in family(pid) for task in _tasks(each)]
    return sum(_numbers(task / "status", r"^voluntary_ctxt_switches:\s+(\d+)") for task in tasks)


def _tasks(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def _numbers(path: Path, pattern: str) -> int:
    with contextlib.suppress(OSError):
        return sum(map(int, re.findall(pattern, path.read_text(), re.MULTILINE)))
    return 0


def fsync_rate(folder: Path, seconds: float = 0.5) -> float:
    """Writes of 4 KB with an fsync each, a second."""
    path, octets, count = folder / "fsync.probe", b"x" * 4096, 0
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    began = time.monotonic()
    try:
        while (passed := time.monotonic() - began) < seconds or not count:
            os.write(descriptor, octets)
            os.fsync(descriptor)
            count += 1
    finally:
        os.close(descriptor)
        path.unlink()
    return count / passed


def machine() -> str:
    """The cores, the processor as the kernel calls it, and the memory."""
    model = next(_lines("/proc/cpuinfo", "model name"), "unknown processor")
    memory = int(next(_lines("/proc/meminfo", "MemTotal"), "0 kB").split()[0]) / 2**20
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model}, {memory:.0f} GiB, Linux {os.uname().release.partition('-')[0]}"


def _lines(path: str, key: str) -> Iterator[str]:
    for line in Path(path).read_text().splitlines():
        if line.partition(":")[0].strip() == key:
            yield line.partition(":")[2].strip()


def until(question: Callable[[], object], within: float, every: float = 0.1) -> bool:
    """Whether something became true in time."""
    ends_at = time.monotonic() + within
    while not question():
        if time.monotonic() >= ends_at:
            return False
        time.sleep(every)
    return True
