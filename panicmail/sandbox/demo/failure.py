"""What ends the demo with exit status 1."""

from __future__ import annotations

from collections.abc import Sequence

from panicmail.errors import PanicmailError


class Failed(PanicmailError):  # noqa: N818 - it is what is told
    """Something expected did not come, or could not be built up. `details` are lines that may say why."""

    def __init__(self, sentence: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.details = details


def require(holds: object, sentence: str, details: Sequence[str] = ()) -> None:
    """Raises Failed unless it holds."""
    if not holds:
        raise Failed(sentence, tuple(details))
