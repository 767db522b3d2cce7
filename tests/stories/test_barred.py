"""Adapters that let nothing through: what waits for them is kept, probed once a minute, and follows oldest first."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from panicmail.check import database_checks
from panicmail.check.result import Group
from panicmail.daemon.watchdog import Health
from panicmail.delivery import PushWorker
from panicmail.delivery.pagerduty import Event
from panicmail.errors import Blocked, Denied, Forbidden, Gone, LockedOut, Permanent, Temporary, Unknown
from panicmail.gitlab.issue_values import OpenedIssue
from panicmail.incident.model import Change, EffectKind, Incident, State
from panicmail.incident.push_channel import channel
from panicmail.server.http.backend import LinkBackend
from panicmail.store.rows import DeliveryState, OutboxRow
from tests.office import PEOPLE, Office, mail

MAX = channel("pover://user@token")
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
        found = desk.store.read(lambda tx, mail_id=mail_id: tx.incidents.by_mail(mail_id))  # type: ignore[misc]
        assert found is not None
        incidents.append(found)
        desk.wait(seconds=3)
    return incidents


def rows(desk: Office, incident: Incident, lane: str) -> list[OutboxRow]:
    return [task for task in desk.store.read(lambda tx: tx.outbox.of_incident(incident.id)) if task.lane == lane]


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
    assert {task.state for i in incidents for task in rows(desk, i, "gitlab")} <= {
        DeliveryState.QUEUED,
        DeliveryState.TRYING,
    }
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


def test_whom_no_page_can_reach_is_unreachable_at_once_and_counts_again_when_one_gets_through(desk: Office) -> None:
    desk.relay.failures = [CAUSES["401"]] * MANY
    desk.phones.failures = [CAUSES["401"]] * MANY
    incident = desk.panic()
    desk.wait(seconds=1)
    assert "ana" in desk.incident(incident).away
    assert any(task.person == "max" for task in rows(desk, incident, "page"))
    desk.deliver(mail("Mine too.", sender="sam@example.com", subject="Something else"), "sam@example.com")
    second = next(i for i in desk.incidents() if i.id != incident.id)
    desk.wait(seconds=1)
    assert "ana" in desk.incident(second).away, "also where the page was not even tried"
    desk.relay.failures = []
    desk.wait(minutes=1)
    assert desk.incident(incident).away == {}, "a page of theirs was taken"


def test_whoever_has_one_way_left_is_no_more_unreachable_than_before(desk: Office) -> None:
    desk.phones.failures = [CAUSES["401"]] * MANY
    incident = desk.panic()
    desk.wait(minutes=9)
    assert (desk.incident(incident).away, desk.pages("max")) == ({}, [])


def test_only_the_latest_page_of_each_person_goes_out_when_the_relay_works_again(desk: Office) -> None:
    desk.relay.failures = [CAUSES["tls"]] * MANY
    incident = desk.panic()
    desk.wait(minutes=40)
    desk.relay.failures = []
    desk.wait(seconds=61)
    assert (len(desk.pages("ana")), len(desk.pages("max"))) == (1, 1)
    states = [task.state for task in rows(desk, incident, "page") if task.person == "ana"]
    assert states.count(DeliveryState.VOID) == len(states) - 1 > 0


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
    assert page.state is DeliveryState.FAILED
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
    desk.lanes[1] = PushWorker(desk.store, lambda: desk.settings, desk.phones, pagers)
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
    count = desk.store.write("command.act", lambda tx: tx.adapters.retry())
    assert count > 0
    desk.settle()
    assert [draft.title.rsplit(" ", 1)[1] for draft in desk.gitlab.issues] == ["rita", "sam", "uma"]
    assert len(desk.pages("ana")) == 3


def test_retry_of_one_incident_tries_what_it_stands_behind(desk: Office) -> None:
    desk.gitlab.failures = [CAUSES["401"]] * MANY
    _, _, last = three(desk)
    desk.gitlab.failures = []
    assert desk.store.write("command.act", lambda tx: tx.adapters.retry(last.id)) > 0
    desk.settle()
    assert len(desk.gitlab.issues) == 3


def test_retry_takes_up_files_that_were_given_up(desk: Office) -> None:
    desk.gitlab.upload_failures = [Permanent("413 too large")] * MANY
    incident = desk.panic()
    desk.wait(minutes=75)
    (files,) = [task for task in rows(desk, incident, "gitlab") if task.do == EffectKind.FILES]
    assert files.state is DeliveryState.PARKED
    desk.gitlab.upload_failures = []
    assert desk.store.write("command.act", lambda tx: tx.adapters.retry(incident.id)) == 1
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
    assert desk.store.read(lambda tx: tx.outbox_gaps.stuck_lane("gitlab", before)) == []


def test_a_clock_that_is_put_back_holds_nothing_up(desk: Office) -> None:
    desk.gitlab.failures = [CAUSES["401"]]
    desk.panic()
    desk.now -= timedelta(hours=3)
    desk.deliver(mail("Mine too.", sender="sam@example.com", subject="Something else"), "sam@example.com")
    assert len(desk.gitlab.issues) == 1


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_every_cause_is_one_a_lane_knows(cause: Exception) -> None:
    assert isinstance(cause, Blocked)
    assert not isinstance(Temporary("later"), Blocked)


def test_the_operators_hear_once_that_it_is_over_and_no_phone_rings_for_that(desk: Office) -> None:
    desk.settings = replace(desk.settings, people={**desk.settings.people, "max": replace(PEOPLE["max"], push=(MAX,))})
    desk.gitlab.failures = [CAUSES["401"]] * MANY
    desk.panic()
    desk.wait(minutes=5)
    assert any("GitLab lets panicmail do nothing" in text for text in desk.phones.texts(MAX.url))
    desk.gitlab.failures = []
    desk.wait(minutes=20)
    over = [posted for posted in desk.sent("max") if "GitLab can be worked with again" in posted.subject]
    assert len(over) == 1
    assert not any("worked with again" in text for text in desk.phones.texts(MAX.url))


def test_a_relay_that_works_again_sends_no_mail_that_it_does_not(desk: Office) -> None:
    desk.relay.failures = [CAUSES["401"]] * MANY
    desk.panic()
    desk.wait(minutes=20)
    desk.relay.failures = []
    desk.wait(minutes=2)
    subjects = [posted.subject for posted in desk.sent("max")]
    assert [s for s in subjects if "the relay takes mail again" in s]
    assert [s for s in subjects if "the relay takes no mail" in s] == []


def test_what_passes_on_the_way_back_is_not_taken_for_the_end_of_it(desk: Office) -> None:
    desk.gitlab.failures = [CAUSES["401"], Temporary("502 while it starts"), CAUSES["401"]]
    desk.panic()
    desk.wait(minutes=5)
    assert len(desk.gitlab.issues) == 1
    told = [posted.subject for posted in desk.sent("max") if "GitLab" in posted.subject]
    assert [s.partition(" (")[0] for s in told] == [
        "[panicmail] GitLab lets panicmail do nothing",
        "[panicmail] GitLab can be worked with again",
    ]


def test_every_channel_that_is_barred_stands_in_what_the_operators_are_told(tmp_path: Path) -> None:
    people = {**PEOPLE, "ana": replace(PEOPLE["ana"], push=(channel(TOPIC),)),
              "max": replace(PEOPLE["max"], push=(MAX,))}  # fmt: skip
    with contextlib.closing(Office(tmp_path, people=people)) as desk:
        desk.phones.failures = [CAUSES["401"]] * MANY
        desk.panic()
        desk.wait(minutes=62)
        told = [posted.text for posted in desk.sent("max") if "a push service refuses" in posted.subject]
        assert len(told) == 2, "once an hour"
        assert "channel: ana: ntfy" in told[1]
        assert "channel: max: pover" in told[1]
        assert channel(TOPIC).id not in told[1]


# -- what holds up what


def test_a_page_is_not_held_up_by_what_other_mail_came_to(desk: Office) -> None:
    desk.relay.refused["rita@example.com"] = CAUSES["401"]
    desk.panic()
    assert "relay" in desk.store.read(lambda tx: tx.adapters.barred()), "the receipt found it"
    desk.deliver(mail("Mine too.", sender="sam@example.com", subject="Something else"), "sam@example.com")
    assert len(desk.pages("ana")) == 2


def test_what_an_acknowledged_page_found_still_holds_up_the_next_one(desk: Office) -> None:
    desk.phones.failures = [CAUSES["401"]] * MANY
    desk.panic()
    asked = len(desk.phones.failures)
    desk.reply(desk.page("ana"), "ack")
    desk.panic(subject="The next one")
    assert len(desk.phones.failures) == asked


def test_a_row_gitlab_refuses_for_itself_frees_the_others(desk: Office) -> None:
    desk.gitlab.failures = [CAUSES["401"], CAUSES["401"], Permanent("400 title is invalid")]
    three(desk)
    desk.wait(minutes=2, seconds=5)
    assert [draft.title.rsplit(" ", 1)[1] for draft in desk.gitlab.issues] == ["sam", "uma"]
    desk.wait(minutes=10)
    assert len(desk.gitlab.issues) == 3


def test_a_nicety_of_gitlab_bars_nothing(desk: Office) -> None:
    incident = desk.panic()
    desk.gitlab.mirror_failures = [CAUSES["401"]] * MANY
    desk.reply(desk.page("ana"), "ack")
    desk.deliver(mail("Mine too.", sender="sam@example.com", subject="Something else"), "sam@example.com")
    assert len(desk.gitlab.issues) == 2
    desk.wait(minutes=10)
    assert desk.store.read(lambda tx: tx.adapters.barred()) == {}
    mirrors = [task for task in rows(desk, incident, "gitlab") if task.do == EffectKind.MIRROR]
    assert {task.state for task in mirrors} == {DeliveryState.VOID}


@pytest.mark.parametrize(("cause", "is_barred"), [("401", True), ("tls", True), ("gone", False), ("403", False)])
def test_an_issue_that_lies_elsewhere_bars_gitlab_only_by_what_is_about_all_of_it(
    desk: Office, cause: str, is_barred: bool
) -> None:
    incident = desk.panic()
    desk.store.write(
        "tests", lambda tx: tx.incidents.apply(incident, Change(incident=replace(incident, issue_project="9")))
    )
    elsewhere = desk.gitlab.in_project("9")

    def note(iid: int, text: str, marker: str, *, look: bool) -> None:
        raise CAUSES[cause]

    elsewhere.note = note  # type: ignore[method-assign]
    desk.reply(desk.page("ana"), "ack")
    assert ("gitlab" in desk.store.read(lambda tx: tx.adapters.barred())) is is_barred


@pytest.mark.parametrize("at", [0, 1])
def test_a_lane_is_not_taken_for_stuck_at_the_moment_a_probe_is_due(desk: Office, at: int) -> None:
    desk.gitlab.failures = [CAUSES["401"]] * MANY
    three(desk)
    desk.wait(minutes=15)
    due_at = min(task.due_at for i in desk.incidents() for task in rows(desk, i, "gitlab") if task.attempt)
    desk.now = max(due_at, desk.now) + timedelta(seconds=at)
    assert desk.store.read(lambda tx: tx.outbox_gaps.stuck_lane("gitlab", desk.now - timedelta(minutes=10))) == []


def test_a_restart_keeps_what_is_barred_and_probes_no_sooner(tmp_path: Path) -> None:
    with contextlib.closing(Office(tmp_path)) as before:
        before.gitlab.failures = [CAUSES["401"]] * MANY
        three(before)
        before.wait(minutes=5)
        now = before.now
    with contextlib.closing(Office(tmp_path)) as after:
        after.now = now
        after.gitlab.failures = [CAUSES["401"]]
        after.settle()
        assert after.gitlab.creates == after.gitlab.looks == 0
        assert set(after.store.read(lambda tx: tx.adapters.barred())) == {"gitlab"}
        after.wait(minutes=2, seconds=1)
        assert [draft.title.rsplit(" ", 1)[1] for draft in after.gitlab.issues] == ["rita", "sam", "uma"]


def test_of_two_nodes_one_probes(office: Office) -> None:
    office.gitlab.failures = [CAUSES["401"]] * MANY
    three(office)
    office.now += timedelta(minutes=1)
    lease = timedelta(minutes=4)
    claimed: list[list[OutboxRow]] = []

    def claim() -> None:
        claimed.append(office.store.write("gitlab.claim", lambda tx: tx.outbox.claim("gitlab", 1, lease)))

    other = threading.Thread(target=claim)
    with office.database.writing() as connection:
        first = office.store._tx(connection).outbox.claim("gitlab", 1, lease)
        other.start()
        other.join(0.5)  # it waits for us, or has found nothing
    other.join(10)
    assert (len(first), claimed) == (1, [[]])


# -- whose words they are


def test_the_reporters_own_words_are_never_too_old(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.reply(page, "ack")
    desk.relay.failures = [CAUSES["401"]] * MANY
    receipt = desk.sent("rita@example.com")[0]
    raw = mail("It spreads to the servers.", subject=f"Re: {receipt.subject}", in_reply_to=receipt.message_id)
    desk.deliver(raw)
    desk.wait(minutes=90)
    desk.relay.failures = []
    desk.wait(minutes=2)
    assert any("It spreads to the servers." in posted.text for posted in desk.sent("ana"))
    dropped = [line.facts["person"] for line in desk.lines(incident) if line.event == "news.dropped"]
    assert "ana" not in dropped


def test_the_timeline_says_in_words_who_was_not_told(desk: Office) -> None:
    desk.panic()
    page = desk.page("ana")
    link = page.text.partition("https://panic.example.com/i/")[2].split()[0]
    desk.relay.failures = [CAUSES["401"]] * MANY
    desk.reply(page, "ack")
    desk.wait(minutes=61)
    desk.relay.failures = []
    desk.wait(minutes=2)
    shown = LinkBackend(desk.links, None).read_link(link)  # type: ignore[arg-type]
    assert shown is not None
    assert any(said == "The reporter was not told any more: for an hour no news got out." for _, said in shown.happened)


def test_what_is_barred_stands_in_the_metrics_and_goes_with_it(desk: Office) -> None:
    health = Health(desk.store, lambda: True, lambda: True)
    assert health.figures().barred == {"gitlab": 0, "relay": 0}
    bar(desk, CAUSES["401"])
    desk.panic()
    assert health.figures().barred == {"gitlab": 1, "relay": 1, f"push/ana/{channel(TOPIC).id}": 1}
    desk.relay.failures, desk.phones.failures, desk.gitlab.failures = [], [], []
    desk.wait(seconds=61)
    assert health.figures().barred == {"gitlab": 0, "relay": 0}


def test_check_tells_what_the_running_daemon_keeps(desk: Office) -> None:
    bar(desk, CAUSES["401"])
    desk.panic()
    told = list(database_checks.waiting(desk.store.read(database_checks.KnownFindings.of)))
    assert {row.subject: row.group for row in told} == {"gitlab backlog": Group.GITLAB, "relay backlog": Group.RELAY}
    assert all("Token is expired" in row.found and "panicmail retry" in row.mend for row in told)
