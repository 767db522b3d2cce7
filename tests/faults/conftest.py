"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program import World, world
from tests.provider import Provider


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    """A world in which nothing but the first page is due while a test runs."""
    with world(tmp_path) as town:
        yield town


@pytest.fixture
def phone() -> Iterator[Provider]:
    """Where pushes go: it takes them all, and nobody looks at them."""
    with Provider() as phone:
        yield phone
