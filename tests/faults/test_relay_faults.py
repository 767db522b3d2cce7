"""Rows 24 to 28, and 33 for the relay: mail to people does not get through, or comes back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.faults import tls
from tests.faults.acts import copies, it_happened_earlier
from tests.program import RELAY_PASSWORD, SOON, World, world

#: A page nobody took for a quarter of it makes its person unreachable: here a second.
SLA = "4s"
STEPS = [("0s", "seoc"), ("10m", "smoc", "seoc")]


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all tests in here; each has incidents of its own."""
    with world(tmp_path_factory.mktemp("relay"), steps=STEPS, sla=SLA, expects=["page.refused"]) as organisation:
        organisation.start()
        yield organisation


@pytest.fixture
def town(organisation: World) -> Iterator[World]:
    yield organisation
    organisation.relay.clear_rules()
    organisation.relay.up()


def via(town: World) -> str:
    """Where a mail server brings its reports about our mail."""
    host, port = town.smtp_address
    return f"{host}:{port}"


def state(town: World, ref: str) -> str:
    return str(town.rows("SELECT state FROM incidents WHERE ref = ?", ref)[0][0])


@pytest.mark.row(
    24, "the relay is down", "tried again; after a minute (SLA/4) the SMOC is called; sent when it is back"
)
def test_pages_wait_for_a_relay_that_is_down_the_smoc_is_called_meanwhile_and_all_arrive(town: World) -> None:
    town.relay.down()
    ref = town.panic()
    town.program.wait_for("dispatch.put_off")
    town.until(lambda: "max" in paged(town, ref), SOON, "nobody else was called")
    town.relay.up()
    assert town.page("ana", ref).header("Message-ID") != town.page("max", ref).header("Message-ID")
    assert state(town, ref) == "open"


def paged(town: World, ref: str) -> str:
    return str(
        town.rows("SELECT person FROM pages JOIN incidents ON incidents.id = pages.incident_id WHERE ref = ?", ref)
    )


@pytest.mark.row(24, "the relay answers 4xx for the SEOC", "tried again; after a minute (SLA/4) the SMOC is called")
def test_a_page_put_off_with_4xx_calls_the_smoc_after_a_while_and_is_still_tried(town: World) -> None:
    town.relay.rule("ana@", "reject", 451)
    ref = town.panic()
    page = town.page("max", ref)
    assert "no channel accepted the page" in page.text
    assert town.pages("ana", ref) == []
    town.relay.clear_rules()
    town.page("ana", ref)


@pytest.mark.row(25, "the relay answers 5xx for the SEOC", "the SMOC is called at once; the operators hear")
def test_a_page_refused_for_good_calls_the_smoc_at_once_and_tells_the_operators(town: World) -> None:
    town.relay.rule("ana@", "reject", 550, times=1)
    ref = town.panic()
    page = town.page("max", ref)
    assert "their mail server refused the page" in page.text
    assert page.received_at - town.program.wait_for("page.refused")[0] < 10, "and not after a while"
    town.received("max", lambda got: "[PANIC" not in got.subject and ref in got.text and "550" in got.text)


@pytest.mark.row(
    24, "the relay refuses our login (535)", "the SMOC is called at once; one try a minute; then all arrive"
)
def test_a_relay_that_refuses_our_login_is_tried_once_a_minute_and_all_pages_arrive(tmp_path: Path) -> None:
    with world(tmp_path, steps=STEPS, sla="30h", expects=["adapter.barred"]) as town:
        town.relay.rule("", "reject", 535, stage="mail")
        town.start()
        refs = [town.panic(f"while it knows us not {number}") for number in range(3)]
        town.program.wait_for("adapter.barred")
        for ref in refs:
            town.until(lambda ref=ref: "max" in paged(town, ref), SOON, "nobody else was called")  # type: ignore[misc]
        town.relay.clear_rules()
        it_happened_earlier(town.database, timedelta(seconds=61))
        for ref in refs:
            town.page("ana", ref)
            town.page("max", ref)
        town.received("max", lambda got: "the relay takes mail again" in got.subject)
        town.settled()
        assert [len(town.pages("ana", ref)) for ref in refs] == [1, 1, 1]


@pytest.mark.row(26, "the relay takes a page and never says so", "sent again, the same Message-ID")
def test_a_page_whose_answer_was_lost_after_the_dot_comes_again_as_the_same_mail(town: World) -> None:
    town.relay.rule("ana@", "hang", times=1, seconds=0.3)
    ref = town.panic()
    again = town.page("ana", ref, count=2)
    assert copies(town, "ana", ref) == [again.header("Message-ID")] * 2


@pytest.mark.row(26, "the relay hangs up after the dot, the page is lost", "sent again")
def test_a_page_the_relay_dropped_after_the_dot_is_sent_again(town: World) -> None:
    town.relay.rule("ana@", "drop", times=1)
    ref = town.panic()
    town.page("ana", ref)
    assert len(town.pages("ana", ref)) == 1


@pytest.mark.row(27, "a page bounces later", "undelivered: the SMOC is called at once, and told why")
def test_a_bounce_that_comes_later_calls_the_smoc(town: World) -> None:
    town.relay.rule("ana@", "bounce", 550, via=via(town), times=1)
    ref = town.panic()
    town.page("ana", ref)
    assert "5." in town.page("max", ref).text
    assert state(town, ref) == "open"


@pytest.mark.row(28, "the SEOC's out-of-office answers the page", "no acknowledgement; the SMOC is called at once")
@pytest.mark.parametrize("target", ["Return-Path", "Reply-To"])
def test_an_out_of_office_is_no_yes_and_calls_the_smoc(town: World, target: str) -> None:
    town.relay.rule("ana@", "out of office", via=via(town), times=1, target=target)  # type: ignore[arg-type]
    ref = town.panic()
    assert "out of office" in town.page("max", ref).text
    assert state(town, ref) == "open"
    town.settled()
    iid = town.issue(ref)["iid"]
    town.until(
        lambda: [n for n in town.gitlab.notes_of(iid) if "out of office" in n["body"].lower()], SOON, "it is no note"
    )


@pytest.mark.row(
    33, "the relay's certificate has ended", "nothing in the clear; tried once a minute, the next step at once"
)
def test_a_relay_whose_certificate_has_ended_gets_neither_password_nor_page_until_it_is_renewed(tmp_path: Path) -> None:
    with world(tmp_path, steps=STEPS, sla=SLA, expects=["adapter.barred"]) as town:
        tls.trusted_by(town)
        town.relay.tls = tls.server(ended=True)
        town.config["relay"]["url"] = f"smtp+starttls://panic:{RELAY_PASSWORD}@127.0.0.1:{town.relay.port}"
        town.start()
        ref = town.panic()
        _, facts = town.program.wait_for("adapter.barred")
        assert "certificate has expired" in facts["reason"]
        town.until(lambda: "max" in paged(town, ref), SOON, "nobody else was called")
        assert town.relay.mails == []
        town.relay.tls = tls.server(ended=False)
        assert town.run("retry").out.startswith("Tried again now")
        for person in ("ana", "max"):
            page = town.page(person, ref)
            assert (page.is_tls, page.login) == (True, "panic")
