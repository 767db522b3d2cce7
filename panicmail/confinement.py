"""What a process may use that works on a stranger's octets: set once, before the first of them is read.

    memory        1 GiB of address space; then Python runs out of it
    files         `DESCRIPTORS` at a time, which imports and time zones need one by one; nothing written to any
    processes     none started, no thread either
    core          none: it would be the mail on a disk

All are set hard. The kernel does not hold root to the number of processes, and lets root lift any of them again: the
daemon is not to run as root.
"""

from __future__ import annotations

import resource

ADDRESS_SPACE = 1024 * 1024 * 1024
#: Numbers of descriptors that may be opened lie below this.
DESCRIPTORS = 32
_LIMITS = {
    resource.RLIMIT_AS: ADDRESS_SPACE,
    resource.RLIMIT_NOFILE: DESCRIPTORS,
    # Pipes are no files: answers go out all the same. Python ignores SIGXFSZ, so a write fails and kills nothing.
    resource.RLIMIT_FSIZE: 0,
    # The kernel counts what the whole user has, so any other number would depend on what else runs.
    resource.RLIMIT_NPROC: 0,
    resource.RLIMIT_CORE: 0,
}


def confine() -> None:
    """Give up what reading does not need."""
    for what, amount in _LIMITS.items():
        limit(what, amount)


def limit(what: int, amount: int) -> None:
    """At most so much of one resource from now on; what was less stays less."""
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        amount = min(amount, hard)
    resource.setrlimit(what, (amount, amount))
