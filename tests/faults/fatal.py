"""`panicmail` in a process that ends, as killed, whenever a stage of the way of a fatal mail works on it.

FATAL_AT=digest python -m tests.faults.fatal serve -c panicmail.toml
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from panicmail import crashpoints
from panicmail.cli import main
from panicmail.incident import classify
from panicmail.intake import understand
from panicmail.mail.parse import bytes_fallback
from panicmail.mail.parse.pool import ParserPool

#: Stands in the subject of a fatal mail.
FATAL = "ends whoever touches it"
#: Stage -> whose attribute does it; "octets": whatever looks at them, the last resort too.
STAGES: dict[str, list[tuple[Any, str]]] = {
    "reading": [(ParserPool, "read")],
    "digest": [(understand, "digest_of")],
    "deciding": [(classify, "decide")],
    "octets": [(ParserPool, "read"), (understand, "digest_of"), (bytes_fallback, "read_bytes")],
}


def is_fatal(argument: object) -> bool:
    return FATAL in str(getattr(argument, "subject", "")) or (
        isinstance(argument, bytes) and FATAL.encode() in argument
    )


def deadly(stage: Callable[..., Any]) -> Callable[..., Any]:
    def work(*arguments: Any, **named: Any) -> Any:
        if any(map(is_fatal, arguments)):
            os._exit(crashpoints.KILLED)
        return stage(*arguments, **named)

    return work


if __name__ == "__main__":
    for owner, name in STAGES[os.environ["FATAL_AT"]]:
        setattr(owner, name, deadly(getattr(owner, name)))
    main()
