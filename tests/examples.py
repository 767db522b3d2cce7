"""How many examples Hypothesis draws: a fifth of what a test names, other ones in each run; with PANICMAIL_FUZZ more.

PANICMAIL_FUZZ=1    what the tests name, as `make matrix` does
PANICMAIL_FUZZ=50   fifty times that, for a long run of one file
"""

from __future__ import annotations

import os
from functools import partial

import pytest
from hypothesis import settings

#: A case of `parametrize` that takes long: `make matrix` runs it.
if_long = partial(pytest.param, marks=pytest.mark.long)
#: Whether there is time for what takes long.
IS_LONG = os.environ.get("PANICMAIL_FAULTS") == "long"
FUZZ = float(os.environ.get("PANICMAIL_FUZZ", "0.2"))
_FEWEST = 5


def many(named: int) -> int:
    return max(min(named, _FEWEST), int(named * FUZZ))


def examples(named: int) -> settings:
    """For a property that may take its time with each example."""
    return settings(max_examples=many(named), deadline=None)
