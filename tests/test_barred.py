"""Adapters that let nothing through: what waits for them is kept, probed once a minute, and follows oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from panicmail.channels import channel
from panicmail.dispatch import PushLane
from panicmail.errors import Barred, Denied, Forbidden, Gone, LockedOut, Permanent, Temporary, Unknown
from panicmail.gitlab.issues import OpenedIssue
from panicmail.incident import Do, Incident, State
from panicmail.paging.pagerduty import Event
from panicmail.store.rows import Delivery, Task
from tests.office import PEOPLE, Office, mail

TOPIC, PAGER = "ntfy://ntfy.example.com/ana-topic", "pagerduty:R0UTINGKEY"
CAUSES = {
    "401": Denied("answered 401: Token is expired"),
    "403": Forbidden("answered 403: insufficient scope"),
    "tls": LockedOut("no TLS: its certificate does not fit"),
    "gone": Gone("answered 404: Project Not Found"),
}
MANY = 2000


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    ana = replace(PEOPLE["ana"], push=(channel(TOPIC),))
    office = Office(tmp_path, people={**PEOPLE, "ana": ana})
    yield office
    office.close()


def three(desk: Office) -> list[Incident]:
    """Panics of three people, a few seconds apart."""
    incidents = []
    for name in ("rita", "sam", "uma"):
        sender = f"{name}@example.com"
        mail_id = desk.deliver(mail("My files are locked.", sender=sender, subject=f"Help {name}"), sender)
        found = desk.ledger.read(lambda book, mail_id=mail_id: book.incident_by_mail(mail_id))  # type: ignore[misc]
        assert found is not None
        incidents.append(found)
        desk.wait(seconds=3)
    return incidents


def rows(desk: Office, incident: Incident, lane: str) -> list[Task]:
    return [task for task in desk.ledger.read(lambda book: book.tasks_of(incident.id)) if task.lane == lane]


def bar(desk: Office, cause: Exception) -> None:
    """Relay, phones and GitLab let nothing through."""
    desk.relay.failures, desk.phones.failures, desk.gitlab.failures = [cause] * MANY, [cause] * MANY, [cause] * MANY


# -- GitLab


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_a_gitlab_that_lets_nothing_through_is_asked_once_a_minute_and_then_has_each_issue_once_oldest_first(
    desk: Office, cause: Exception
) -> None:
    desk.gitlab.failures = [cause] * MANY
    incidents = three(desk)
    desk.wait(minutes=30)
    assert 29 <= desk.gitlab.creates <= 32, "once a minute, for all three together"
    assert {task.state for i in incidents for task in rows(desk, i, "gitlab")} <= {Delivery.QUEUED, Delivery.TRYING}
    desk.gitlab.failures = []
    desk.wait(seconds=61)
    assert [draft.title.rsplit(" ", 1)[1] for draft in desk.gitlab.issues] == ["rita", "sam", "uma"]
    desk.wait(minutes=30)
    assert len(desk.gitlab.issues) == 3
    assert [desk.incident(i).issue_iid for i in incidents] == [1, 2, 3]


def test_an_issue_that_was_parked_is_looked_for_before_it_is_made(desk: Office) -> None:
    desk.gitlab.failures = [CAUSES["401"]]
    incident = desk.panic()
    assert desk.gitlab.looks == 0
    desk.wait(seconds=61)
    assert (desk.gitlab.looks, len(desk.gitlab.issues)) == (1, 1)
    assert desk.incident(incident).issue_iid == 1


def test_a_create_without_an_answer_stays_in_doubt_though_the_token_expires_before_anybody_could_look(
    desk: Office,
) -> None:
    made, find = desk.gitlab, desk.gitlab.find

    def denied(marker: str, since: object) -> OpenedIssue | None:
        raise Denied("GitLab answered 401: Token is expired")

    made.lost = [Unknown("the connection broke")]
    made.find = denied  # type: ignore[method-assign]
    desk.panic()
    desk.wait(minutes=20)
    made.find = find  # type: ignore[method-assign]
    desk.wait(minutes=2)
    assert (len(made.issues), made.creates) == (1, 1)


def test_one_issue_nobody_may_touch_holds_up_no_other(desk: Office) -> None:
    incident = desk.panic()
    real = desk.gitlab.note

    def note(iid: int, text: str, marker: str, *, look: bool) -> None:
        if iid == 1:
            raise Forbidden("GitLab answered 403: Forbidden")
        real(iid, text, marker, look=look)

    desk.gitlab.note = note  # type: ignore[method-assign]
    desk.reply(desk.page("ana"), "ack")
    assert desk.incident(incident).state is State.ACKED
    desk.deliver(mail("Mine too.", sender="sam@example.com", subject="Something else"), "sam@example.com")
    assert len(desk.gitlab.issues) == 2


def test_files_wait_for_a_new_token_and_are_not_given_up(desk: Office) -> None:
    desk.gitlab.upload_failures = [CAUSES["401"]] * MANY
    desk.panic()
    desk.wait(minutes=90)
    assert desk.gitlab.uploads == []
    desk.gitlab.upload_failures = []
    desk.wait(minutes=1, seconds=5)
    assert len(desk.gitlab.uploads) == 1


def test_what_gitlab_refuses_of_one_row_says_nothing_about_the_others(desk: Office) -> None:
    desk.gitlab.failures = [Permanent("GitLab answered 400: title is invalid")]
    desk.panic()
    desk.deliver(mail("Mine too.", sender="sam@example.com", subject="Something else"), "sam@example.com")
    assert len(desk.gitlab.issues) == 1


# -- the relay


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_a_relay_that_lets_nothing_through_is_asked_once_a_minute_and_then_takes_pages_oldest_first(
    tmp_path: Path, cause: Exception
) -> None:
    desk = Office(tmp_path)
    desk.relay.failures = [cause] * MANY
    three(desk)
    desk.wait(minutes=8)
    asked = MANY - len(desk.relay.failures)
    assert 7 <= asked <= 10, "once a minute, for pages and all other mail together"
    desk.relay.failures = []
    desk.wait(seconds=61)
    pages = [posted.subject for posted in desk.pages("ana")]
    assert [subject.rsplit(" ", 1)[1].rstrip("]") for subject in pages] == ["rita", "sam", "uma"], "each once"
    desk.close()


def test_a_page_the_relay_never_hears_of_makes_its_person_unreachable_after_a_minute_and_the_ladder_goes_on(
    desk: Office,
) -> None:
    desk.relay.failures = [CAUSES["401"]] * MANY
    desk.phones.failures = [CAUSES["401"]] * MANY
    incident = desk.panic()
    desk.wait(seconds=59)
    assert "ana" not in desk.incident(incident).away
    desk.wait(seconds=2)
    assert "ana" in desk.incident(incident).away
    assert any(task.person == "max" for task in rows(desk, incident, "page"))
    desk.relay.failures = []
    desk.wait(minutes=1)
    assert desk.incident(incident).away == {}, "a page of theirs was taken"


def test_only_the_latest_page_of_each_person_goes_out_when_the_relay_works_again(desk: Office) -> None:
    desk.relay.failures = [CAUSES["tls"]] * MANY
    incident = desk.panic()
    desk.wait(minutes=40)
    desk.relay.failures = []
    desk.wait(seconds=61)
    assert (len(desk.pages("ana")), len(desk.pages("max"))) == (1, 1)
    states = [task.state for task in rows(desk, incident, "page") if task.person == "ana"]
    assert states.count(Delivery.VOID) == len(states) - 1 > 0


def test_news_older_than_an_hour_is_dropped_and_the_timeline_says_so(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.relay.failures = [CAUSES["401"]] * MANY
    desk.reply(page, "ack")
    desk.wait(minutes=61)
    desk.relay.failures = []
    before = len(desk.relay.sent)
    desk.wait(minutes=2)
    dropped = [line for line in desk.lines(incident) if line.event == "news.dropped"]
    assert {line.facts["what"] for line in dropped} >= {"news"}
    late = [posted for posted in desk.relay.sent[before:] if posted.recipient == "rita@example.com"]
    assert late == []


def test_news_of_less_than_an_hour_still_goes_out(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.relay.failures = [CAUSES["401"]] * MANY
    desk.reply(page, "ack")
    desk.wait(minutes=40)
    desk.relay.failures = []
    before = len(desk.relay.sent)
    desk.wait(minutes=2)
    assert "news.dropped" not in desk.events(incident)
    assert [posted for posted in desk.relay.sent[before:] if posted.recipient == "rita@example.com"]


def test_an_address_the_relay_refuses_is_final_and_frees_what_waits(desk: Office) -> None:
    desk.relay.failures = [CAUSES["401"]]
    desk.relay.refused["ana@example.com"] = Permanent("550 no such user")
    incident = desk.panic()
    desk.wait(seconds=61)
    (page,) = [task for task in rows(desk, incident, "page") if task.person == "ana"]
    assert page.state is Delivery.FAILED
    assert desk.sent("rita@example.com"), "the receipt stood behind it"


# -- phones


class Pagers:
    """PagerDuty that fails as it is told, one failure a call."""

    def __init__(self, failures: list[Exception]) -> None:
        self.failures, self.asked, self.taken = failures, 0, list[str]()

    def send(self, key: str, event: Event) -> str:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(event.dedup_key)
        return "202 Event processed"


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_a_push_service_that_lets_nothing_through_is_asked_once_a_minute_and_then_rings_oldest_first(
    desk: Office, cause: Exception
) -> None:
    desk.phones.failures = [cause] * MANY
    incidents = three(desk)
    desk.wait(minutes=8)
    assert 7 <= MANY - len(desk.phones.failures) <= 10
    desk.phones.failures = []
    desk.wait(seconds=61)
    rung = [next(i.ref for i in incidents if i.ref in text) for text in desk.phones.texts(TOPIC) if "PANIC" in text]
    assert rung[:3] == [i.ref for i in incidents]


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_a_pagerduty_that_lets_nothing_through_is_asked_once_a_minute_and_then_rings_oldest_first(
    tmp_path: Path, cause: Exception
) -> None:
    desk = Office(tmp_path, people={**PEOPLE, "ana": replace(PEOPLE["ana"], push=(channel(PAGER),))})
    pagers = Pagers([cause] * MANY)
    desk.lanes[1] = PushLane(desk.ledger, lambda: desk.orders, desk.phones, pagers)
    incidents = three(desk)
    desk.wait(minutes=8)
    assert 7 <= pagers.asked <= 10
    pagers.failures = []
    desk.wait(seconds=61)
    assert pagers.taken[:3] == [f"panicmail-{i.id}" for i in incidents]
    desk.close()


def test_one_phone_that_is_barred_holds_up_nobody_elses(tmp_path: Path) -> None:
    people = {**PEOPLE, "ana": replace(PEOPLE["ana"], push=(channel(TOPIC), channel("pover://user@token")))}
    desk = Office(tmp_path, people=people)
    desk.phones.refused[TOPIC] = CAUSES["401"]
    three(desk)
    assert len(desk.phones.texts("pover://user@token")) == 3
    desk.close()


def test_a_barred_phone_is_no_other_way_when_the_mail_is_refused(desk: Office) -> None:
    desk.phones.failures = [CAUSES["401"]] * MANY
    desk.panic()
    incident = desk.incidents()[0]
    desk.relay.refused["ana@example.com"] = Permanent("550 no such user")
    desk.deliver(mail("Mine too.", sender="sam@example.com", subject="Something else"), "sam@example.com")
    desk.wait(seconds=62)
    second = next(i for i in desk.incidents() if i.id != incident.id)
    assert "ana" in desk.incident(second).away


# -- retry


def test_retry_frees_what_waits_without_waiting_for_the_next_probe(desk: Office) -> None:
    bar(desk, CAUSES["401"])
    three(desk)
    desk.relay.failures, desk.phones.failures, desk.gitlab.failures = [], [], []
    count = desk.ledger.write("command.act", lambda book: book.retry())
    assert count > 0
    desk.settle()
    assert [draft.title.rsplit(" ", 1)[1] for draft in desk.gitlab.issues] == ["rita", "sam", "uma"]
    assert len(desk.pages("ana")) == 3


def test_retry_of_one_incident_tries_what_it_stands_behind(desk: Office) -> None:
    desk.gitlab.failures = [CAUSES["401"]] * MANY
    _, _, last = three(desk)
    desk.gitlab.failures = []
    assert desk.ledger.write("command.act", lambda book: book.retry(last.id)) > 0
    desk.settle()
    assert len(desk.gitlab.issues) == 3


def test_retry_takes_up_files_that_were_given_up(desk: Office) -> None:
    desk.gitlab.upload_failures = [Permanent("413 too large")] * MANY
    incident = desk.panic()
    desk.wait(minutes=75)
    (files,) = [task for task in rows(desk, incident, "gitlab") if task.do == Do.FILES]
    assert files.state is Delivery.PARKED
    desk.gitlab.upload_failures = []
    assert desk.ledger.write("command.act", lambda book: book.retry(incident.id)) == 1
    desk.settle()
    assert len(desk.gitlab.uploads) == 1


# -- told, and counted right


def test_the_operators_are_told_what_is_barred_once_an_hour(desk: Office) -> None:
    desk.gitlab.failures = [CAUSES["401"]] * MANY
    desk.panic()
    desk.wait(minutes=20)
    told = [posted for posted in desk.sent("max") if "GitLab lets panicmail do nothing" in posted.subject]
    assert len(told) == 1
    assert "Token is expired" in told[0].text


def test_a_lane_that_waits_for_its_adapter_is_not_taken_for_stuck(desk: Office) -> None:
    desk.gitlab.failures = [CAUSES["401"]] * MANY
    three(desk)
    desk.wait(minutes=15)
    before = desk.now - timedelta(minutes=10)
    assert desk.ledger.read(lambda book: book.stuck_lane("gitlab", before)) == []


def test_a_clock_that_is_put_back_holds_nothing_up(desk: Office) -> None:
    desk.gitlab.failures = [CAUSES["401"]]
    desk.panic()
    desk.now -= timedelta(hours=3)
    desk.deliver(mail("Mine too.", sender="sam@example.com", subject="Something else"), "sam@example.com")
    assert len(desk.gitlab.issues) == 1


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_every_cause_is_one_a_lane_knows(cause: Exception) -> None:
    assert isinstance(cause, Barred)
    assert not isinstance(Temporary("later"), Barred)
