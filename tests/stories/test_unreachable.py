"""People who cannot be reached: the early step, and its brakes. Neither a dead relay nor a robot hurries it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from panicmail.errors import Permanent, Temporary
from panicmail.incident.escalation_policy import UNDELIVERED
from panicmail.incident.model import EffectKind, Incident, State
from panicmail.incident.push_channel import channel
from panicmail.store.rows import DeliveryState
from tests.bounces import bounce
from tests.office import PEOPLE, Office, Posted, mail

DOWN = Temporary("the relay cannot be reached: Connection refused")
SHOWN = 2000  #: more sends than any test makes


def rounds(desk: Office, incident: Incident, person: str) -> int:
    """For how many rounds somebody was paged, whether or not that reached them."""
    tasks = desk.store.read(lambda tx: tx.outbox.of_incident(incident.id))
    return len([task for task in tasks if task.do == EffectKind.PAGE and task.person == person])


def out_of_office(desk: Office, page: Posted) -> None:
    """A robot's answer, to the address a careless robot writes to."""
    raw = mail("I am away.", sender=page.recipient, subject="Automatic reply", extra="Auto-Submitted: auto-replied")
    desk.deliver(raw, "", [page.reply_to])


def test_a_seoc_whom_no_page_reaches_within_a_minute_costs_a_minute_and_no_more(desk: Office) -> None:
    desk.relay.refused["ana@example.com"] = DOWN
    incident = desk.panic()
    desk.wait(seconds=59)
    assert desk.pages("max") == []
    desk.wait(seconds=17)  # and the time until the next try
    assert len(desk.pages("max")) == 1
    assert f"every way to Ana failed ({UNDELIVERED})" in desk.page("max").text
    assert desk.incident(incident).breached_at is None


def test_a_relay_that_is_dead_for_half_an_hour_never_hurries_the_escalation(desk: Office) -> None:
    desk.relay.failures = [DOWN] * SHOWN
    incident = desk.panic()
    desk.wait(minutes=31)
    # Three early steps at most, then those of the times: 15, 20, 25 and 30 minutes.
    assert rounds(desk, incident, "ana") <= 8
    assert rounds(desk, incident, "max") <= 6
    assert desk.incident(incident).state is State.OPEN
    assert desk.relay.sent == []


def test_when_the_relay_is_back_everybody_gets_one_page_and_counts_again(desk: Office) -> None:
    desk.relay.failures = [DOWN] * SHOWN
    incident = desk.panic()
    desk.wait(minutes=12)
    desk.relay.failures = []
    desk.wait(seconds=20)
    assert (len(desk.pages("ana")), len(desk.pages("max"))) == (1, 1), "the newest; older ones lost their reason"
    assert desk.incident(incident).away == {}
    assert desk.events(incident).count("person.reached") == 2
    desk.reply(desk.page("ana"), "ack")
    assert desk.incident(incident).holder == "ana"


def test_somebody_refused_for_good_stays_passed_over_when_another_page_of_theirs_is_taken(desk: Office) -> None:
    desk.relay.refused["ana@example.com"] = Permanent("550 no such user")
    incident = desk.panic()
    del desk.relay.refused["ana@example.com"]
    desk.wait(minutes=16)
    assert "ana" in desk.incident(incident).away
    assert desk.pages("ana") == []
    assert desk.pages("max")


def test_a_robot_that_answers_every_page_of_everybody_causes_one_early_step_and_then_the_repeats(
    desk: Office,
) -> None:
    incident = desk.panic()
    answered = 0
    for _ in range(30):
        for page in [page for page in desk.relay.sent if page.is_page][answered:]:
            answered += 1
            out_of_office(desk, page)
        desk.wait(minutes=1)
    held = desk.incident(incident)
    assert (held.state, held.holder) == (State.OPEN, None)
    assert set(held.away) == {"ana", "max"}
    # Ana, then Max at once: the last step. From there both every five minutes, for silence is never the answer.
    assert (len(desk.pages("ana")), len(desk.pages("max"))) == (7, 7)


def test_everybody_away_is_told_to_the_operators_and_the_last_step_goes_on_paging(desk: Office) -> None:
    incident = desk.panic()
    out_of_office(desk, desk.page("ana"))
    out_of_office(desk, desk.page("max"))
    assert any("nobody is left to call" in told.subject for told in desk.sent("max"))
    desk.wait(minutes=26)
    assert len(desk.pages("max")) >= 4
    assert desk.incident(incident).breached_at is not None


def test_a_reply_of_somebody_taken_for_unreachable_acknowledges_all_the_same(desk: Office) -> None:
    incident = desk.panic()
    first = desk.page("ana")
    out_of_office(desk, first)
    desk.reply(first, "ack")
    assert desk.incident(incident).holder == "ana"


# -- a page that bounces late


def delivery_of(desk: Office, incident: Incident, person: str) -> dict[int, DeliveryState]:
    """round -> what became of that person's page by mail."""
    tasks = desk.store.read(lambda tx: tx.outbox.of_incident(incident.id))
    mails = [task for task in tasks if task.do == EffectKind.PAGE and task.person == person and task.lane == "page"]
    return {task.facts["round"]: task.state for task in mails}


def returned(page: Posted) -> bytes:
    """The delivery report of a page, with the header of what is returned (RFC 3462)."""
    header = page.raw.split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    part = b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n" + header + b"\r\n\r\n--b--\r\n"
    return bounce("failed").replace(b"--b--\r\n", part)


def test_a_late_bounce_of_a_first_page_marks_that_page_and_its_person_goes_on_being_called(desk: Office) -> None:
    incident = desk.panic()
    first = desk.page("ana")
    desk.wait(minutes=60)
    before = len(desk.pages("ana"))
    desk.deliver(bounce("failed"), "", [first.mail_from])
    marked = delivery_of(desk, incident, "ana")
    assert [round_ for round_, state in marked.items() if state is DeliveryState.FAILED] == [1]
    assert desk.incident(incident).away == {}
    desk.wait(minutes=10)
    assert len(desk.pages("ana")) > before
    assert any("a page was refused" in told.subject for told in desk.sent("max"))


def test_a_late_bounce_that_came_twice_marks_one_page(desk: Office) -> None:
    incident = desk.panic()
    first = desk.page("ana")
    desk.wait(minutes=60)
    for n in range(2):
        desk.deliver(bounce("failed").replace(b"sorry", b"sorry %d" % n), "", [first.mail_from])
    assert list(delivery_of(desk, incident, "ana").values()).count(DeliveryState.FAILED) == 1
    assert desk.incident(incident).away == {}


def test_the_bounce_of_the_latest_page_makes_its_person_unreachable_whatever_came_before(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=60)
    desk.deliver(bounce("failed"), "", [desk.page("ana").mail_from])
    assert "5.1.1" in desk.incident(incident).away["ana"]


def test_a_late_bounce_to_the_address_for_answers_is_of_the_page_it_returns(desk: Office) -> None:
    incident = desk.panic()
    first = desk.page("ana")
    desk.wait(minutes=60)
    desk.deliver(returned(first), "", [first.reply_to])
    assert desk.incident(incident).away == {}
    desk.deliver(returned(desk.page("ana")), "", [first.reply_to])
    assert "5.1.1" in desk.incident(incident).away["ana"]


def test_a_late_bounce_of_a_page_takes_no_offer_back_that_a_later_page_made(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=16)
    early = desk.page("max")
    desk.reply(desk.page("ana"), "ack")
    desk.reply(desk.page("ana"), "pass to Max")
    assert desk.incident(incident).handed_to == "max"
    desk.deliver(bounce("failed"), "", [early.mail_from])
    assert desk.incident(incident).handed_to == "max"
    desk.deliver(bounce("failed"), "", [desk.page("max").mail_from])
    assert desk.incident(incident).handed_to is None


def test_a_page_that_comes_back_while_the_push_is_tried_leaves_its_person_unreachable_when_that_is_refused_too(
    tmp_path: Path,
) -> None:
    phone = "ntfys://ntfy.example.com/ana"
    people = {**PEOPLE, "ana": replace(PEOPLE["ana"], push=(channel(phone),))}
    with closing(Office(tmp_path, people=people)) as desk:
        desk.phones.refused[phone] = Temporary("no answer")
        incident = desk.panic()
        desk.wait(seconds=5)
        desk.deliver(bounce("failed"), "", [desk.page("ana").mail_from])
        assert (desk.incident(incident).away, desk.pages("max")) == ({}, []), "the push may still be taken"
        desk.phones.refused[phone] = Permanent("JSON answered 400")
        desk.wait(seconds=30)
        assert "refused" in desk.incident(incident).away["ana"]
        assert len(desk.pages("max")) == 1


def test_a_push_that_is_refused_after_the_mail_was_taken_is_no_news_and_is_asked_about_once(tmp_path: Path) -> None:
    phone = "ntfys://ntfy.example.com/ana"
    people = {**PEOPLE, "ana": replace(PEOPLE["ana"], push=(channel(phone),))}
    with closing(Office(tmp_path, people=people)) as desk:
        desk.phones.refused[phone] = Permanent("JSON answered 400")
        incident = desk.panic()
        desk.wait(minutes=2)
        assert (desk.incident(incident).away, desk.pages("max")) == ({}, [])
        assert desk.store.read(lambda tx: tx.pages.undelivered(timedelta(minutes=1))) == []


def test_a_page_that_comes_back_while_no_push_gets_through_leaves_its_person_unreachable_after_a_minute(
    tmp_path: Path,
) -> None:
    phone = "ntfys://ntfy.example.com/ana"
    people = {**PEOPLE, "ana": replace(PEOPLE["ana"], push=(channel(phone),))}
    with closing(Office(tmp_path, people=people)) as desk:
        desk.phones.refused[phone] = Temporary("no answer")
        incident = desk.panic()
        desk.wait(seconds=5)
        desk.deliver(bounce("failed"), "", [desk.page("ana").mail_from])
        desk.wait(minutes=2)
        assert "ana" in desk.incident(incident).away
        assert len(desk.pages("max")) == 1
