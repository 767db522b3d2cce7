"""Rows 29 and 30, and 33 for GitLab: the issue cannot be made now, or never as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from panicmail.errors import Temporary
from panicmail.escalation.reconciler import Reconciler
from tests.faults import tls
from tests.faults.acts import it_happened_earlier
from tests.office import Office, mail
from tests.program import World, world

CREATE = "POST .*/issues$"
#: So many steps to come that none is due while the clock is moved.
STEPS = [("0s", "seoc"), ("30h", "smoc", "seoc")]
#: Nothing gets through.
AWAY: dict[str, dict[str, Any]] = {
    "429": {"kind": "status", "status": 429, "headers": {"Retry-After": "30"}},
    "500": {"kind": "status", "status": 500},
    "no answer": {"kind": "hang"},
    "a web page": {"kind": "html"},
    "resets": {"kind": "reset"},
}


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One daemon for all tests in here; each has incidents of its own."""
    with world(tmp_path_factory.mktemp("gitlab"), steps=STEPS, sla="30h", expects=["adapter.barred"]) as organisation:
        organisation.start()
        yield organisation


@pytest.fixture
def town(organisation: World) -> Iterator[World]:
    yield organisation
    organisation.gitlab.clear_faults()
    organisation.gitlab.up()


def comes_by_itself(town: World, ref: str) -> dict[str, Any]:
    """The issue, once GitLab is well again and some time has passed."""
    it_happened_earlier(town.database, timedelta(minutes=11))
    return town.issue(ref)


@pytest.mark.row(29, "GitLab 429, 5xx, slow, a web page", "paged at once; one issue later, its link follows")
@pytest.mark.parametrize("fault", AWAY)
def test_a_gitlab_in_trouble_holds_up_no_page_and_has_one_issue_when_it_is_well_again(town: World, fault: str) -> None:
    town.gitlab.fault(times=None, **AWAY[fault])
    reporter = f"{fault.replace(' ', '.')}@example.com"
    ref = town.send(mail("My files are .locked.", subject=fault, sender=reporter), reporter).ref
    assert "Issue: follows" in town.page("ana", ref).text
    it_happened_earlier(town.database, timedelta(seconds=12))  # the receipt waits no longer
    receipt = town.received(reporter, lambda got: ref in got.text)
    assert town.gitlab.url not in receipt.text
    town.gitlab.clear_faults()
    issue = comes_by_itself(town, ref)
    town.received(reporter, lambda got: issue["web_url"] in got.text)
    town.settled()
    assert len(town.issues(ref)) == 1


@pytest.mark.row(29, "GitLab's answer to the new issue is lost", "looked for and found: one issue")
@pytest.mark.parametrize("kind", ["reset_after", "truncate"])
def test_an_issue_whose_making_was_not_answered_is_found_and_not_made_again(town: World, kind: Any) -> None:
    town.gitlab.fault(kind, match=CREATE)
    ref = town.panic(f"while GitLab has {kind}")
    town.page("ana", ref)
    town.issue(ref)
    comes_by_itself(town, ref)
    town.settled()
    assert len(town.issues(ref)) == 1
    assert town.rows("SELECT issue_iid IS NOT NULL FROM incidents WHERE ref = ?", ref) == [(1,)]


@pytest.mark.row(29, "GitLab refuses connections", "paged at once; one issue later")
def test_a_gitlab_that_is_down_holds_up_no_page(town: World) -> None:
    town.gitlab.down()
    ref = town.panic("while GitLab is down")
    town.page("ana", ref)
    town.gitlab.up()
    comes_by_itself(town, ref)
    town.settled()
    assert len(town.issues(ref)) == 1


@pytest.mark.row(42, "GitLab's token was revoked (401)", "paged at once; the operators hear; the issue follows")
@pytest.mark.row(29, "GitLab refuses the token (401)", "paged at once; the operators hear; the issue follows")
def test_a_revoked_token_is_told_to_the_operators_and_the_issue_comes_with_a_good_one(town: World) -> None:
    town.gitlab.fault("status", status=401, times=None)
    ref = town.panic("while the token is revoked")
    town.page("ana", ref)
    told = town.received("max", lambda got: "GitLab" in got.subject and "401" in got.text)
    assert "[PANIC" not in told.subject, "nobody is woken for it"
    town.gitlab.clear_faults()
    comes_by_itself(town, ref)
    town.settled()
    assert len(town.issues(ref)) == 1


@pytest.mark.row(30, "the GitLab project is gone (404)", "paged at once; one try a minute; then each issue once")
def test_issues_wait_for_a_project_that_is_gone_and_come_once_each_oldest_first(tmp_path: Path) -> None:
    with world(tmp_path, steps=STEPS, sla="30h", expects=["adapter.barred"]) as town:
        town.gitlab.fault("status", status=404, times=None, body={"message": "404 Project Not Found"})
        town.start()
        refs = [town.panic(f"while it is gone {number}") for number in range(3)]
        for ref in refs:
            town.page("ana", ref)
        town.received("max", lambda got: "GitLab lets panicmail do nothing" in got.subject and "404" in got.text)
        town.gitlab.clear_faults()
        it_happened_earlier(town.database, timedelta(seconds=61))
        iids = [town.issue(ref)["iid"] for ref in refs]
        town.received("max", lambda got: "GitLab can be worked with again" in got.subject)
        town.settled()
        assert iids[0] == min(iids), "the oldest was the probe; the others follow, each thread with one"
        assert [len(town.issues(ref)) for ref in refs] == [1, 1, 1]


@pytest.mark.row(30, "GitLab takes the report for spam", "an issue without the sender's words; the operators hear")
def test_a_report_taken_for_spam_has_an_issue_without_its_words(town: World) -> None:
    body = {"message": {"error": "Your issue has been recognized as spam. Please, change the content."}}
    town.gitlab.fault("status", status=400, body=body, match=CREATE)
    ref = town.panic("Cheap pills in all our mailboxes", "Buy cheap pills, they say to everybody.")
    town.page("ana", ref)
    issue = town.issue(ref)
    assert "pills" not in issue["title"] + issue["description"]
    assert f"panicmail mail {ref}" in issue["description"]
    town.received("max", lambda got: ref in got.text and "spam" in got.text)
    town.settled()
    assert any(b"cheap pills" in upload["data"] for upload in town.gitlab.uploads), "the raw mail is with it"
    assert len(town.issues(ref)) == 1


@pytest.mark.row(33, "GitLab's certificate has ended", "nothing is sent to it; pages go; the issue follows")
def test_a_gitlab_whose_certificate_has_ended_sees_no_token_until_it_is_renewed(tmp_path: Path) -> None:
    with (
        world(tmp_path, steps=STEPS, sla="30h", expects=["adapter.barred"]) as town,
        tls.Front(town.gitlab.port, tls.server(ended=True)) as front,
    ):
        tls.trusted_by(town)
        town.config["gitlab"]["url"] = f"https://127.0.0.1:{front.port}"
        town.start()
        ref = town.panic()
        town.page("ana", ref)
        town.program.wait_for("adapter.barred")
        assert town.gitlab.requests == []
        front.context = tls.server(ended=False)
        comes_by_itself(town, ref)


@pytest.mark.row(33, "GitLab's certificate has ended", "the operators hear when it lasts")
def test_the_operators_hear_of_a_gitlab_that_cannot_be_reached_for_ten_minutes(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.gitlab.failures = [Temporary("no TLS with GitLab")] * 1000
    office.settings = replace(office.settings, operators=("bo",))
    accounting = Reconciler(office.store, lambda: office.settings)
    incident = office.panic()
    for _ in range(10):
        office.wait(minutes=1)
        accounting.reconcile()
    office.settle()
    assert any("GitLab" in posted.text and incident.ref in posted.text for posted in office.sent("bo"))
    office.close()
