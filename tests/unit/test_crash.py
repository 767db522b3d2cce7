"""The places where the process can be made to die: named right, and silent unless asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from panicmail import crashpoints
from panicmail.errors import ConfigError

SOURCE = "\n".join(file.read_text("utf-8") for file in Path(crashpoints.__file__).parent.rglob("*.py"))


@pytest.fixture
def sprung(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened instead of the end of this process."""
    happened: list[str] = []
    monkeypatch.setattr(crashpoints, "_die", lambda: happened.append("died"))
    monkeypatch.setattr(crashpoints, "_hang", lambda: happened.append("hung"))
    monkeypatch.setattr(crashpoints, "_traps", {})
    return happened


def test_nothing_happens_at_a_point_nobody_asked_for(sprung: list[str]) -> None:
    crashpoints.set_traps({"PANICMAIL_CRASH_AT": "page.sent"})
    crashpoints.point("page.sending")
    assert not sprung


def test_the_third_to_come_by_dies_and_nobody_else(sprung: list[str]) -> None:
    crashpoints.set_traps({"PANICMAIL_CRASH_AT": "page.sent:3", "PANICMAIL_HANG_AT": "tick"})
    for _ in range(5):
        crashpoints.point("page.sent")
    assert sprung == ["died"]
    crashpoints.point("tick")
    assert sprung == ["died", "hung"]


@pytest.mark.parametrize("wanted", ["page", "page.sent:0", "page.sent:x", "page.sent:", "tick:-1"])
def test_a_point_that_is_none_is_refused_with_the_right_ones(wanted: str, sprung: list[str]) -> None:
    with pytest.raises(ConfigError, match="page\\.sending"):
        crashpoints.set_traps({"PANICMAIL_CRASH_AT": wanted})
    assert not crashpoints._traps


def test_every_transaction_has_a_name_that_is_known() -> None:
    named = set(re.findall(r"store\.(?:write|submit|change)\(\s*f?\"([^\"]+)\"", SOURCE))
    lanes = {name.replace("{self.name}", lane) for name in named for lane in ("page", "mail", "gitlab")}
    assert len(named) >= 12
    assert lanes <= set(crashpoints.TRANSACTIONS)
    unnamed = re.findall(r"store\.(?:write|submit|change)\((?!\s*f?\")[^)\n]*", SOURCE)
    assert [call for call in unnamed if "name" not in call] == []
