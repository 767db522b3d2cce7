"""Row 31: what becomes of a page when the way to a phone lies, hangs or refuses. Mail goes beside it all the same.

A kill while a push is on its way is in `test_crash_points`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from panicmail.errors import Permanent, Temporary
from panicmail.incident.push_channel import channel
from tests.cast import SECOND
from tests.examples import if_long
from tests.faults.acts import it_happened_earlier
from tests.office import PEOPLE, Office, mail
from tests.program import SOON, Answer, World, world
from tests.provider import Provider

#: Longer than a page by mail takes, shorter than anything of a push is waited for.
AT_ONCE = 4.0
HANGS = ("/hang", "/drip")
MAY_PASS = (503, 429)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """Does with every push what its `status` says."""
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[World]:
    """One daemon for most tests in here; each has incidents of its own."""
    with world(tmp_path_factory.mktemp("push"), expects=["push.refused"]) as organisation:
        reached_by(organisation, f"json://{provider.host}/")
        organisation.start()
        yield organisation


@pytest.fixture
def city(organisation: World, provider: Provider) -> Iterator[World]:
    yield organisation
    provider.status = 200
    organisation.settled()


def reached_by(town: World, url: str) -> None:
    """Ana has this push channel."""
    town.config["people"]["ana"]["push"] = [url]


def panic(town: World, subject: str) -> Answer:
    answer = town.send(mail("My files are .locked.", subject=subject))
    assert answer.code == 250, answer
    return answer


def push(town: World, ref: str) -> str:
    """How far Ana's first push about an incident has come."""
    rows = town.rows(
        "SELECT outbox.state FROM outbox JOIN incidents ON incidents.id = incident_id"
        " WHERE ref = ? AND lane = 'push' AND do = 'page' AND person = 'ana' ORDER BY outbox.id",
        ref,
    )
    return str(rows[0][0]) if rows else "none"


def events(town: World, ref: str, event: str) -> list[str]:
    """The channels a line of the timeline tells of."""
    query = "SELECT json_extract(facts, '$.channel') FROM timeline JOIN incidents ON incidents.id = incident_id"
    return [str(name) for (name,) in town.rows(f"{query} WHERE ref = ? AND event = ?", ref, event)]


def away(town: World, ref: str) -> str:
    return str(town.rows("SELECT away FROM incidents WHERE ref = ?", ref)[0][0])


@pytest.mark.row(
    31, "a push provider accepts and never delivers", "mail goes beside it; nobody answers, so the SMOC is called"
)
def test_a_push_that_is_accepted_and_never_delivered_replaces_no_mail_and_no_step(town: World, phone: Provider) -> None:
    reached_by(town, f"json://{phone.host}/200")
    town.start()
    answer = panic(town, "Ransom note")
    assert town.page("ana", answer.ref).received_at - answer.sent_at < AT_ONCE
    assert phone.wait().json["message"].startswith(f"PANIC {answer.ref} ")
    town.settled()
    assert push(town, answer.ref) == "accepted", "all there is to see of it"
    assert town.pages("max", answer.ref) == []
    it_happened_earlier(town.database, timedelta(minutes=11))
    page = town.page("max", answer.ref)
    assert "push accepted" in page.text, page.text
    assert town.rows("SELECT state FROM incidents") == [("open",)]


@pytest.mark.row(31, "a push provider hangs", "no mail waits for it, of any incident; nobody else is called")
@pytest.mark.parametrize("path", HANGS)
def test_a_push_provider_that_hangs_holds_up_no_mail_of_any_incident(town: World, phone: Provider, path: str) -> None:
    reached_by(town, f"json://{phone.host}{path}")
    town.start()
    for number in range(3):  # one more than there are threads for pushes
        answer = panic(town, f"while it hangs {number}")
        assert town.page("ana", answer.ref).received_at - answer.sent_at < AT_ONCE
    phone.wait(2)
    town.issue(answer.ref)
    pushes = [push(town, ref) for (ref,) in town.rows("SELECT ref FROM incidents")]
    assert sorted(pushes) == ["queued", "trying", "trying"]
    assert town.relay.all(lambda got: got.to("max@example.com")) == []
    assert town.stop() == 0, "what hangs holds up no stop either"


@pytest.mark.row(31, "a push provider answers 5xx or 429", "no mail waits for it; tried until it takes the push")
@pytest.mark.parametrize("status", MAY_PASS)
def test_a_push_put_off_holds_up_no_mail_and_comes_when_it_is_taken(
    city: World, provider: Provider, status: int
) -> None:
    provider.status = status
    before = len(provider.asked)
    answer = panic(city, f"while it answers {status}")
    assert city.page("ana", answer.ref).received_at - answer.sent_at < AT_ONCE
    provider.wait(before + 1)
    assert push(city, answer.ref) == "trying"
    provider.status = 200
    city.until(lambda: push(city, answer.ref) == "accepted", SOON, "it was not tried again")
    assert away(city, answer.ref) == "{}"
    assert city.pages("max", answer.ref) == []


@pytest.mark.row(
    31, "a push provider refuses a push for good", "in the timeline; the operators hear; their mail is enough"
)
def test_a_push_refused_for_good_is_told_and_whoever_has_the_mail_counts_as_reached(
    city: World, provider: Provider
) -> None:
    provider.status = 500
    ref = panic(city, "while it refuses").ref
    city.until(lambda: events(city, ref, "page.accepted") == ["mail"], SOON, "no mail")
    provider.status = 400
    city.until(lambda: events(city, ref, "page.refused"), SOON, "it is not in the timeline")
    assert events(city, ref, "page.refused")[0].startswith("push-")
    city.received("max", lambda got: got.subject.startswith("[panicmail]") and ref in got.text and "400" in got.text)
    city.settled()
    assert away(city, ref) == "{}"
    assert city.pages("max", ref) == []
    noted = [note["body"] for note in city.gitlab.notes_of(city.issue(ref)["iid"])]
    assert any("400" in body for body in noted)


@pytest.mark.row(
    31, "a push provider knows us no more (401, 403, 404)", "kept; tried once a minute; told; their mail is enough"
)
@pytest.mark.parametrize("status", [if_long(401), 403, if_long(404)])
def test_a_push_service_that_knows_us_no_more_keeps_nobody_from_being_paged_and_is_tried_again(
    town: World, phone: Provider, status: int
) -> None:
    town.expected |= {"adapter.barred"}
    reached_by(town, f"json://{phone.host}/")
    phone.status = status
    town.start()
    ref = panic(town, f"while it answers {status}").ref
    town.page("ana", ref)
    town.program.wait_for("adapter.barred")
    town.received("max", lambda got: "a push service refuses panicmail" in got.subject and str(status) in got.text)
    assert push(town, ref) == "trying"
    assert (away(town, ref), town.pages("max", ref)) == ("{}", [])
    phone.status = 200
    it_happened_earlier(town.database, timedelta(seconds=61))
    town.until(lambda: push(town, ref) == "accepted", SOON, "it was not tried again")
    town.received("max", lambda got: "a push service takes pushes again" in got.subject)


@pytest.mark.row(31, "mail server and push provider both refuse for good", "the SMOC is called at once, and told why")
def test_when_the_mail_is_refused_as_well_the_smoc_is_called_at_once(town: World, phone: Provider) -> None:
    town.expected |= {"page.refused", "push.refused"}
    reached_by(town, f"json://{phone.host}/400")
    town.relay.rule("ana@", "reject", 550)
    town.start()
    answer = panic(town, "while both refuse")
    page = town.page("max", answer.ref)
    assert page.received_at - answer.sent_at < AT_ONCE
    assert "refused the page" in page.text
    assert events(town, answer.ref, "page.refused") != ["mail"]
    assert '"ana"' in away(town, answer.ref)


@pytest.mark.row(31, "the mail server refuses, and the push provider knows us no more", "the SMOC is called at once")
def test_when_mail_is_refused_and_the_phone_is_barred_the_smoc_is_called_at_once(town: World, phone: Provider) -> None:
    town.expected |= {"page.refused", "adapter.barred"}
    reached_by(town, f"json://{phone.host}/403")
    town.relay.rule("ana@", "reject", 550)
    town.start()
    answer = panic(town, "while neither takes it")
    assert town.page("max", answer.ref).received_at - answer.sent_at < AT_ONCE
    assert '"ana"' in away(town, answer.ref)


# -- with a moved clock

PHONE = "json://phone.example.com/ana"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    ana = replace(PEOPLE["ana"], push=(channel(PHONE),))
    with contextlib.closing(Office(tmp_path, people={**PEOPLE, "ana": ana})) as desk:
        yield desk


@pytest.mark.row(
    31, "one of two ways to somebody refuses, the other is tried", "they count as unreachable after a minute"
)
@pytest.mark.parametrize("refuses", ["mail", "push"])
def test_somebody_is_not_given_up_on_while_the_other_way_is_still_tried(desk: Office, refuses: str) -> None:
    if refuses == "mail":
        desk.relay.refused["ana@example.com"] = Permanent("550 no such user")
        desk.phones.refused[PHONE] = Temporary("503")
    else:
        desk.relay.refused["ana@example.com"] = Temporary("451 later")
        desk.phones.refused[PHONE] = Permanent("400 no such thing")
    incident = desk.panic()
    desk.wait(seconds=59)
    assert (desk.incident(incident).away, desk.pages("max")) == ({}, [])
    desk.now += 2 * SECOND
    desk.escalation.tick()
    desk.settle()
    assert desk.incident(incident).away == {"ana": "no channel accepted the page"}
    assert len(desk.pages("max")) == 1


@pytest.mark.row(
    31, "a push provider refuses a push for good", "in the timeline; the operators hear; their mail is enough"
)
def test_a_phone_that_refuses_every_page_brings_no_step_forward(desk: Office) -> None:
    desk.phones.refused[PHONE] = Permanent("400 no such thing")
    incident = desk.panic()
    desk.wait(minutes=15, seconds=-1)
    assert (desk.incident(incident).away, desk.pages("max")) == ({}, [])
    assert len(desk.pages("ana")) == 3
    desk.wait(seconds=1)
    assert len(desk.pages("max")) == 1


@pytest.mark.row(31, "nothing takes a push, and nobody answers", "every step comes in its time; it is tried all along")
def test_the_policy_escalates_in_its_time_while_no_push_is_taken(desk: Office) -> None:
    desk.phones.refused[PHONE] = Temporary("it cannot be reached")
    incident = desk.panic()
    desk.wait(minutes=20, seconds=10)
    assert [len(desk.pages(person)) for person in ("ana", "max")] == [5, 2], "four steps and the repeat"
    assert desk.incident(incident).away == {}
    del desk.phones.refused[PHONE]
    desk.wait(seconds=20)
    (text,) = desk.phones.texts(PHONE)
    assert text.startswith(f"PANIC {incident.ref} STILL OPEN"), "and what is pushed then is true then"
