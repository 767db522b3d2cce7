"""What `panicmail check` prints, held against the texts in `tests/checks/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_GOLDEN = Path(__file__).parent / "checks"


def plain(text: str, named: Mapping[object, str]) -> str:
    """Without what differs from run to run, and one line for each row and each mend.

    Args:
        named: What to call a folder or a port of this run.
    """
    text = re.sub(r"\n {20,}(?=[^ →])", " ", text)
    for old, new in named.items():
        text = text.replace(str(old), new)
    text = re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d)?", "DATE", text)
    return re.sub(r"[\d.]+(?= GiB)|\d+(?= s (?:ahead|behind))|(?<=revision )\d+|(?<=user )\d+", "N", text)


def expect(name: str, text: str) -> None:
    golden = _GOLDEN / f"{name}.txt"
    assert text == golden.read_text("utf-8"), f"if this is how it should read: write it to {golden}"
