"""Everything panicmail says stands in `tests/goldens/` as people read it, and every cause of an alarm has a caller.

A golden that differs is read aloud, and written anew by `make goldens` where it is right.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import panicmail
from panicmail.escalation.reconciler import GapKind
from panicmail.incident.notice_kinds import NEWS, TOLD
from panicmail.incident.timeline_kinds import EVENTS
from panicmail.mail.compose import catalogue
from panicmail.mail.compose.operator_alerts import causes
from tests.goldens_of import FOLDER, goldens

said = cache(goldens)


@pytest.mark.parametrize("name", sorted({*(path.name for path in FOLDER.iterdir()), *said()}))
def test_what_is_said_is_what_was_read(name: str) -> None:
    assert said().get(name, "") == (FOLDER / name).read_text("utf-8"), "read it; if it is right: make goldens"


def test_every_kind_has_a_golden() -> None:
    kinds = {f"told_{what}" for what in TOLD if what != "answer"} | {f"news_{what}" for what in NEWS}
    kinds |= {
        name.replace("page/", "page_") for name in catalogue.names("page") if "push_end" in catalogue.blocks(name)
    }
    assert kinds - {"page_page"} - {name.removesuffix(".txt") for name in said()} == set()


def test_every_line_of_the_timeline_that_is_told_has_a_kind() -> None:
    told = {name.partition("_")[2] for name in catalogue.blocks("timeline")}
    assert told - {event.replace(".", "_") for event in EVENTS} == set()


def _words_of_the_product() -> set[str]:
    """Every text in the code."""
    files = Path(panicmail.__file__).parent.rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8"))))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_cause_has_a_caller() -> None:
    made = {f"gap_{kind.value}" for kind in GapKind}
    made |= {f"{adapter}_{what}" for adapter in ("gitlab", "relay", "push") for what in ("barred", "works")}
    made |= {text.replace(".", "_") for text in _words_of_the_product()}
    assert causes() - made == set()
