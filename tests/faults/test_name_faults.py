"""Rows 22 and 23: no name server answers. Only the look-up of the daemon's process is broken, see `resolver`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.office import mail
from tests.program import RELAY_PASSWORD, SOON, World, world


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    """A world whose GitLab and relay are known by name, and no name can be looked up."""
    with world(tmp_path, steps=[("0s", "seoc"), ("10m", "smoc", "seoc")], sla="4s") as town:
        path = [str(Path(__file__).parent / "resolver"), *filter(None, [os.environ.get("PYTHONPATH")])]
        town.environ |= {"PYTHONPATH": os.pathsep.join(path), "FAULTS_NAMES": str(names(town))}
        town.config["gitlab"]["url"] = f"http://gitlab.example.com:{town.gitlab.port}"
        yield town


def names(town: World) -> Path:
    return town.folder / "names"


def by_name(town: World) -> str:
    return f"smtp://panic:{RELAY_PASSWORD}@relay.example.com:{town.relay.port}"


def was_paged(town: World, person: str) -> bool:
    return bool(town.rows("SELECT 1 FROM pages WHERE person = ?", person))


@pytest.mark.row(22, "the DNS is away when a panic comes", "accepted and paged as unverified; the issue follows")
def test_a_panic_that_comes_while_no_name_can_be_looked_up_is_accepted_and_paged(town: World) -> None:
    town.start()
    raw = mail("My files are .locked.", sender="Rita <rita@nowhere.example.com>", subject="Ransom note")
    answer = town.send(raw, "rita@nowhere.example.com")
    assert answer.code == 250
    page = town.page("ana", answer.ref)
    assert "Sender: not proved (senders are not checked)" in page.text
    assert town.issues(answer.ref) == []
    names(town).touch()
    town.issue(answer.ref)


@pytest.mark.row(23, "the DNS is away when a page is sent", "tried again; the SMOC after SLA/4; sent at last")
def test_pages_wait_for_the_relays_name_and_go_out_when_it_can_be_looked_up_again(town: World) -> None:
    town.config["relay"]["url"] = by_name(town)
    town.start()
    ref = town.panic()
    town.until(lambda: was_paged(town, "max"), SOON, "nobody else was called")
    assert town.relay.mails == []
    names(town).touch()
    for person in ("ana", "max"):
        town.page(person, ref)
    assert any("name resolution" in str(facts.get("reason")) for _, facts in town.program.events)
