"""The process in which a calendar is read: `python -m panicmail.oncall.ical_worker SINCE UNTIL ZONE FREE`.

SINCE and UNTIL are ISO 8601, ZONE and FREE those of `CalendarRules`. The text comes on stdin. The answer on stdout is
one JSON object: `{"reading": …}`, or `{"mistake": "why not"}`.

What a calendar can do here: use 1 GiB of address space and `CPU_SECONDS`; then the process is gone, and whoever started
it keeps the copy it has. It writes no file and starts no process (`confinement`).
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import warnings
from datetime import datetime

from panicmail.confinement import confine, limit
from panicmail.oncall.calendars import CalendarRules

CPU_SECONDS = 20


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    confine()
    limit(resource.RLIMIT_CPU, CPU_SECONDS)
    with answers:
        json.dump(_answer(), answers)


def _answer() -> dict[str, object]:
    from panicmail.oncall import ical_parse  # the libraries are loaded within the limits

    since, until = map(datetime.fromisoformat, sys.argv[1:3])
    rules = CalendarRules(sys.argv[3], "ignore" if sys.argv[4] == "ignore" else "count")
    try:
        text = sys.stdin.buffer.read().decode()
        return {"reading": ical_parse.read(text, since, until, rules).as_json()}
    except UnicodeDecodeError as exc:
        return {"mistake": f"octet {exc.start} is not UTF-8"}
    except ValueError as exc:
        return {"mistake": str(exc)}
    except (MemoryError, RecursionError) as exc:
        return {"mistake": f"it asks for too much ({type(exc).__name__})"}


if __name__ == "__main__":
    main()
