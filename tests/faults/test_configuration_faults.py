"""Rows 34 and 42: a roster without people, a configuration that is wrong, secrets that were changed or are gone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from panicmail.errors import Temporary
from panicmail.oncall.schedules import Schedule, Schedules
from tests.office import Office
from tests.program import SOON, TOKEN, World, world


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, expects=["config.refused"]) as town:
        yield town


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    desk = Office(tmp_path)
    yield desk
    desk.close()


@pytest.mark.row(34, "a reload finds a wrong configuration", "told, each mistake; the running one is kept and pages on")
def test_a_roster_without_people_an_unknown_person_and_no_file_change_nothing_that_runs(town: World) -> None:
    town.start()
    right = town.path.read_text()
    for number, wrong in enumerate(
        [right.replace('fixed = ["ana"]', "fixed = []"), right.replace('["ana"]', '["zoe"]'), "this is = not [toml"]
    ):
        town.path.write_text(wrong)
        town.program.signal(signal.SIGHUP)
        town.program.wait_for("config.refused", count=number + 1)
        town.page("ana", town.panic(f"after mistake {number}"))


@pytest.mark.row(34, "nobody is on call in the first step", "the next step is taken now; the operators hear")
def test_when_the_seoc_roster_names_nobody_the_smoc_is_called_at_once(desk: Office) -> None:
    desk.settings = replace(
        desk.settings, schedules=Schedules({"seoc": Schedule(()), "smoc": Schedule(("max",))}), operators=("bo",)
    )
    desk.panic()
    assert len(desk.pages("max")) == 1
    assert any("nobody" in posted.text.lower() for posted in desk.sent("bo"))


@pytest.mark.row(34, "nobody is on call at all", "the operators hear; who comes on call is paged by the repeat")
def test_when_no_roster_names_anybody_the_operators_hear_and_the_escalation_goes_on(desk: Office) -> None:
    schedules = desk.settings.schedules
    desk.settings = replace(
        desk.settings, schedules=Schedules({"seoc": Schedule(()), "smoc": Schedule(())}), operators=("bo",)
    )
    desk.panic()
    assert any("nobody" in posted.text.lower() for posted in desk.sent("bo"))
    desk.wait(minutes=21)
    desk.settings = replace(desk.settings, schedules=schedules)
    desk.wait(minutes=6)
    assert desk.pages("max")


@pytest.mark.row(34, "who is on call changes while a page cannot be sent", "somebody is called within the minute")
@pytest.mark.parametrize("stays", [True, False])
def test_who_goes_off_call_before_the_page_went_out_is_replaced(desk: Office, stays: bool) -> None:
    desk.relay.refused["ana@example.com"] = Temporary("450 later")
    desk.panic()
    others = {key: person for key, person in desk.settings.people.items() if stays or key != "ana"}
    schedules = Schedules({"seoc": Schedule(("bo",)), "smoc": Schedule(("max",))})
    desk.settings = replace(desk.settings, people=others, schedules=schedules)
    desk.wait(minutes=1, seconds=30)
    assert desk.pages("bo") or desk.pages("max")


# -- secrets


def write_keys(town: World, *kids: str) -> None:
    file = town.folder / "keys"
    file.write_text("".join(f"{kid} {kid.encode().hex() * 32}\n" for kid in kids))
    file.chmod(0o600)
    town.config["tokens"] = {"key_file": "keys"}


def signed_with(address: str) -> str:
    found = TOKEN.search(address)
    assert found, address
    return found[0][1]


@pytest.mark.row(42, "the token keys are changed", "pages of the old key acknowledge; new ones carry the new key")
def test_a_reply_to_a_page_of_the_old_key_counts_after_the_keys_were_changed(town: World) -> None:
    write_keys(town, "a")
    town.start()
    ref = town.panic("before")
    page = town.page("ana", ref)
    town.settled()
    assert town.stop() == 0
    write_keys(town, "b", "a")
    town.start()
    assert town.reply(page, "ack").code == 250
    town.until(lambda: town.rows("SELECT holder FROM incidents") == [("ana",)], SOON, "the old page counts no more")
    new = town.page("ana", town.panic("after"))
    assert (signed_with(page.header("Reply-To")), signed_with(new.header("Reply-To"))) == ("a", "b")


@pytest.mark.row(42, "an old token key is thrown away", "its pages no longer acknowledge; a person sees the reply")
@pytest.mark.long
def test_a_reply_to_a_page_of_a_key_that_is_gone_acknowledges_nothing_and_is_seen(town: World) -> None:
    write_keys(town, "a")
    town.start()
    page = town.page("ana", town.panic("before"))
    town.settled()
    assert town.stop() == 0
    write_keys(town, "b")
    town.start()
    answer = town.reply(page, "ack")
    town.settled()
    assert town.rows("SELECT state FROM incidents WHERE subject = 'before'") == [("open",)]
    told = town.relay.all(lambda got: got.to("ana@example.com") and got.received_at > answer.sent_at)
    assert told, "nobody heard of that reply"


@pytest.mark.row(
    42,
    "a secret's file is missing at the start",
    "refused with the file's name; mail waits outside",
)
@pytest.mark.parametrize("missing", ["gitlab.token", "keys"])
def test_a_missing_secret_is_named_before_anything_listens(town: World, missing: str) -> None:
    write_keys(town, "a")
    town.write_config()
    (town.folder / missing).unlink()
    refused = town.run("serve")
    assert refused.status == 2
    assert missing in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.row(42, "a secret's file is missing at a reload", "the running daemon keeps what it has, and says so")
def test_a_running_daemon_keeps_its_secrets_when_their_file_is_gone(town: World) -> None:
    town.start()
    (town.folder / "gitlab.token").unlink()
    assert "gitlab.token" in str(town.reload("config.refused")["mistakes"])
    ref = town.panic()
    town.page("ana", ref)
    town.issue(ref)
