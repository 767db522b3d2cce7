"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.acts import IS_LONG
from tests.program import World, world
from tests.provider import Provider


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless there is time for it."""
    too_long = [item for item in items if not IS_LONG and any(m.kwargs.get("long") for m in item.iter_markers("row"))]
    config.hook.pytest_deselected(items=too_long)
    items[:] = [item for item in items if item not in too_long]


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
