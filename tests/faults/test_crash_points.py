"""Every point at which `panicmail.crashpoints` can end the process, one after the other on one database, and what is
left.

Each life of the daemon ends at the next point; what the lives before left undone is there for it. Then one more life
in which nothing crashes, and every 250 of all lives is looked for.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from panicmail import crashpoints
from tests.attached_files import with_file
from tests.dns_zone import dns_server
from tests.examples import IS_LONG, if_long
from tests.faults.acts import (
    accounted_for,
    frozen,
    it_happened_earlier,
    one_copy_a_life,
    readers_of,
    start_again,
)
from tests.office import mail
from tests.program import SOON, Program, World, world
from tests.provider import Provider
from tests.webhook_calls import SECRET, event, signed_by_pagerduty, tell


def both(*names: str) -> tuple[str, ...]:
    """The two points of each transaction."""
    return tuple(f"{name}.{when}" for name in names for when in ("commit", "committed"))


#: A panic comes by these, and so does what an earlier life left of it, in this order.
ON_ITS_WAY = (
    *both("mails.accept"), "smtp.answering", "smtp.answered", *both("mails.claim", "mails.understand"),
    *both("page.claim"), "page.sending", "page.sent", *both("page.settle"),
    *both("gitlab.claim"), "gitlab.asking", "gitlab.answered", *both("gitlab.settle"),
    *both("mail.claim"), "mail.sending", "mail.sent", *both("mail.settle"),
)  # fmt: skip
#: Where most is at stake, and no test of one row ends: the short form.
IN_SHORT = (
    "smtp.answered", "mails.understand.committed", "page.claim.committed", "gitlab.answered",
)  # fmt: skip
#: Later requests of one life towards GitLab: the create, the files.
LATER = tuple(f"gitlab.{when}:{nth}" for nth in (2, 3, 4) for when in ("asking", "answered"))
#: A push comes by these after its first life, and how many copies its phone has had when each life ends.
PUSHED = {
    **dict.fromkeys(both("push.claim"), 0),
    "push.sending": 0, "push.sent": 1, "push.settle.commit": 2, "push.settle.committed": 3,
}  # fmt: skip
#: What is written while nothing is on its way.
BESIDES = (*both("keys.make", "leases.release", "outbox.put_off", "tick.unreachable"),)
ROUTING_KEY = "R0UTINGKEYOFTHETESTS"
#: Points other tests end at, and those none does.
ELSEWHERE = {
    **dict.fromkeys(both("tick.move"), "test_crashes.py"),
    **dict.fromkeys(both("mails.amend"), "below"),
    **dict.fromkeys((*both("mails.take_in"), "spool.writing", "spool.written"), "test_database_faults.py"),
    **dict.fromkeys(crashpoints.ROUNDS, "for hanging: test_watchdog_faults.py"),
    **dict.fromkeys(both("retention.erase"), "test_retention.py"),
    **dict.fromkeys(both("copy.alarm"), "said only when PostgreSQL fails over under a running daemon"),
}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, expects=["intake.again", "page.refused"]) as town:
        yield town


def live_until(town: World, point: str) -> list[str]:
    """One life that ends at a point; it gets a panic if it lives to take one. The REF of its 250, if it gave one."""
    town.environ["PANICMAIL_CRASH_AT"] = point
    program = town.spawn()
    del town.environ["PANICMAIL_CRASH_AT"]
    town.until(lambda: is_ready(program) or not program.is_running, SOON, "neither ready nor dead")
    refs = sent(town, f"until {point}") if is_ready(program) else []
    assert program.ended() == crashpoints.KILLED, f"{point} was not come by{program.tail()}"
    return refs


def is_ready(program: Program) -> bool:
    return any(facts["event"] == "ready" for _, facts in program.events)


def sent(town: World, subject: str) -> list[str]:
    try:
        answer = town.send(mail("My files are .locked, all of them.", subject=subject))
    except OSError:  # it is dead already
        return []
    return [answer.ref] if answer.code == 250 else []


@pytest.mark.row(
    44, "kill -9 at every commit and every call", "a 250 is one incident, one issue, a page; one copy a life"
)
@pytest.mark.timeout(180)
def test_a_panic_survives_a_kill_at_every_point_of_its_way(town: World) -> None:
    refs: list[str] = []
    for point in (*ON_ITS_WAY, *LATER) if IS_LONG else IN_SHORT:
        if point.startswith(("gitlab", "mail.")):
            # So long an earlier attempt towards GitLab may still be under way, and a receipt waits for its issue.
            it_happened_earlier(town.database, timedelta(seconds=12))
        refs += live_until(town, point)
    start_again(town)
    accounted_for(town, refs)
    stored = [ref for (ref,) in town.rows("SELECT ref FROM incidents")]
    accounted_for(town, stored)
    one_copy_a_life(town)
    assert set(refs) <= set(stored)
    assert refs
    receipts = town.relay.all(lambda got: got.to("rita@example.com"))
    assert receipts, "receipts go out as well"


@pytest.mark.row(
    44, "kill -9 at every commit and every call", "a 250 is one incident, one issue, a page; one copy a life"
)
@pytest.mark.parametrize(
    ("point", "claimed"),
    [
        if_long("mails.accept.committed", "SELECT attempts FROM mails WHERE lease_until > accepted_at"),
        ("mails.understand.committed", "SELECT attempt FROM outbox WHERE do = 'page' AND lease_until > queued_at"),
    ],
)
def test_what_was_claimed_as_it_was_made_and_never_handed_over_is_paged_at_the_next_start(
    town: World, point: str, claimed: str
) -> None:
    town.environ["PANICMAIL_CRASH_AT"] = point
    program = town.start()
    del town.environ["PANICMAIL_CRASH_AT"]
    with contextlib.suppress(OSError):
        town.send(mail("My files are .locked, all of them.", subject="Ransom note"))
    assert program.ended() == crashpoints.KILLED
    assert town.rows(claimed) == [(1,)]
    start_again(town)
    town.until(lambda: town.pages("ana"), SOON, "nobody was paged")
    town.settled()
    assert len(town.pages("ana")) == 1


def json_phone(phone: Provider) -> str:
    return f"json://{phone.host}/200"


def pagerduty_phone(phone: Provider) -> str:
    return f"pagerduty:{ROUTING_KEY}"


def reached_by(town: World, phone: Provider, url: str) -> None:
    """Ana has this push channel, and PagerDuty is where the phone is."""
    town.config["people"]["ana"]["push"] = [url]
    town.config["paging"] = {"pagerduty_url": phone.url, "pagerduty_webhook_secret": SECRET}
    town.texts += [ROUTING_KEY, SECRET]


@pytest.mark.row(
    44, "kill -9 at every commit and every call", "a push arrives, one extra copy a kill; for PagerDuty one alert"
)
@pytest.mark.parametrize("url", [pagerduty_phone, if_long(json_phone)])
def test_a_push_survives_a_kill_at_every_point_of_its_way(
    town: World, phone: Provider, url: Callable[[Provider], str]
) -> None:
    reached_by(town, phone, url(phone))
    live_until(town, "push.sending")
    ((ref,),) = town.rows("SELECT ref FROM incidents")
    for point, copies in PUSHED.items():
        die_at(town, point)
        assert len(phone.asked) == copies, point
    start_again(town)
    accounted_for(town, [ref])
    one_copy_a_life(town)
    assert len(phone.asked) == 3, "what was settled is not sent again"
    assert len({asked.body for asked in phone.asked}) == 1, "each copy is the same push"
    said = phone.asked[0].json
    if url is pagerduty_phone:
        ((incident_id,),) = town.rows("SELECT id FROM incidents")
        assert (said["event_action"], said["dedup_key"]) == ("trigger", f"panicmail-{incident_id}")
    else:
        assert said["message"].startswith(f"PANIC {ref} ")


@pytest.mark.row(44, "kill -9 at every commit and every call", "what was done is done whole or not at all")
@pytest.mark.long
def test_files_of_a_later_mail_are_named_once_and_linked_once_wherever_it_is_killed(town: World) -> None:
    town.start()
    ref = town.panic()
    receipt = town.received("rita@example.com", lambda got: ref in got.subject)
    town.settled()
    town.gitlab.fault("status", status=503, match="POST .*/uploads$", times=None)
    town.send(with_file("They want money.", "note.png", "what they want"), to=receipt.header("Reply-To"))
    town.until(lambda: left(town) == ["files"], SOON, "its notes were not written")
    town.program.kill()
    town.gitlab.clear_faults()
    # The requests are: which project, the upload, whether the note is there, the note.
    for point in ("gitlab.answered:2", "gitlab.asking:4", "gitlab.answered:4", "gitlab.settle.commit"):
        it_happened_earlier(town.database, timedelta(seconds=12))
        die_at(town, point)
    start_again(town)
    town.settled()
    bodies = [note["body"] for note in town.gitlab.notes_of(town.issue(ref)["iid"])]
    assert sum("Attached to a mail from `rita@example.com`" in body for body in bodies) == 1
    assert sum("[`note.png`](/uploads/" in body for body in bodies) == 1
    uploaded = [upload["data"] for upload in town.gitlab.uploads if upload["name"] == "note.png"]
    assert uploaded == [b"what they want"] * 5, "a kill costs a copy nothing leads to"


def left(town: World) -> list[str]:
    """What is still to be done."""
    pending = "SELECT do FROM outbox WHERE state IN ('queued', 'trying') AND do != 'twins'"
    return [] if town.rows("SELECT id FROM mails WHERE state = 'accepted'") else [do for (do,) in town.rows(pending)]


@pytest.mark.row(44, "kill -9 at every commit and every call", "what was done is done whole or not at all", long=True)
@pytest.mark.timeout(120)
def test_keys_steps_and_acts_cut_short_are_whole_after_the_next_start(town: World) -> None:
    for point in both("keys.make", "leases.release"):
        assert live_until(town, point) == []
    town.relay.rule("ana@", "reject", 450)
    refs = [ref for point in both("outbox.put_off") for ref in live_until(town, point)]
    it_happened_earlier(town.database, timedelta(minutes=2))  # nothing took the pages for that long
    for point in both("tick.unreachable"):
        refs += live_until(town, point)
    town.relay.clear_rules()
    town.start()
    accounted_for(town, refs)
    assert town.page("max", refs[0])
    assert town.stop() == 0
    one_copy_a_life(town)


@pytest.mark.row(44, "kill -9 at every commit and every call", "what was done is done whole or not at all")
@pytest.mark.parametrize(
    ("point", "found"),
    [if_long("link.act.commit", "open"), ("link.act.committed", "acked")],
)
def test_a_press_on_the_button_cut_short_is_an_act_or_none(town: World, point: str, found: str) -> None:
    town.environ["PANICMAIL_CRASH_AT"] = point
    town.start()
    del town.environ["PANICMAIL_CRASH_AT"]
    ref = town.panic()
    link = next(word for word in town.page("ana", ref).text.split() if "/i/" in word)
    town.settled()
    path = link.removeprefix("https://panic.example.com")
    with pytest.raises((http.client.HTTPException, OSError)):
        town.http("POST", path, "word=ack")
    assert town.program.ended() == crashpoints.KILLED
    assert town.rows("SELECT state FROM incidents") == [(found,)]
    town.start()
    assert town.http("POST", path, "word=ack")[0] == 303
    assert town.rows("SELECT state, holder FROM incidents") == [("acked", "ana")]


@pytest.mark.row(44, "kill -9 at every commit and every call", "what was done is done whole or not at all")
@pytest.mark.parametrize(
    ("point", "found"),
    [("command.act.commit", "open"), if_long("command.act.committed", "acked")],
)
def test_a_command_cut_short_is_an_act_or_none(town: World, point: str, found: str) -> None:
    town.start()
    ref = town.panic()
    town.settled()
    cut = town.run("ack", ref, "--as", "ana", environ={"PANICMAIL_CRASH_AT": point})
    assert cut.status == crashpoints.KILLED, cut
    assert town.rows("SELECT state FROM incidents") == [(found,)]
    assert town.run("ack", ref, "--as", "ana").status == 0
    assert town.rows("SELECT state, holder FROM incidents") == [("acked", "ana")]


@pytest.mark.row(44, "kill -9 at every commit and every call", "what was done is done whole or not at all")
@pytest.mark.parametrize(
    ("point", "found"),
    [if_long("hook.act.commit", "open"), ("hook.act.committed", "acked")],
)
def test_an_acknowledgement_in_pagerduty_cut_short_is_taken_whole_and_once_when_it_is_sent_again(
    town: World, phone: Provider, point: str, found: str
) -> None:
    reached_by(town, phone, pagerduty_phone(phone))
    town.environ["PANICMAIL_CRASH_AT"] = point
    town.start()
    del town.environ["PANICMAIL_CRASH_AT"]
    ref = town.panic()
    alert = phone.wait().json["dedup_key"]
    town.settled()
    body = json.dumps(event("incident.acknowledged", alert, datetime.now(UTC))).encode()
    with pytest.raises((http.client.HTTPException, OSError)):
        tell(town, "pagerduty", body, signed_by_pagerduty(body))
    assert town.program.ended() == crashpoints.KILLED
    assert town.rows("SELECT state FROM incidents") == [(found,)]
    town.start()
    answers = [tell(town, "pagerduty", body, signed_by_pagerduty(body)) for _ in range(2)]
    assert answers == [202 if found == "open" else 204, 204]
    assert town.rows("SELECT state, holder FROM incidents") == [("acked", "ana")]
    heard = "SELECT event FROM timeline WHERE event IN ('hook.heard', 'incident.acked') ORDER BY event"
    assert town.rows(heard) == [("hook.heard",), ("incident.acked",)]
    town.settled()
    followed = [(asked.json["event_action"], asked.json["dedup_key"]) for asked in phone.asked]
    assert followed == [("trigger", alert), ("acknowledge", alert)]
    assert len(town.pages("ana", ref)) == 1, "the mail page is what it was"


@pytest.mark.row(44, "kill -9 at every commit and every call", "what was done is done whole or not at all")
@pytest.mark.parametrize("point", both("mails.amend"))
@pytest.mark.long
def test_a_late_reading_cut_short_is_made_again_and_amends_once(town: World, point: str) -> None:
    text = "Every file on the share ends in .locked."
    head, _, _ = mail("", subject="Ransom note").partition(b"\r\n\r\n")
    raw = head + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(text.encode())
    town.environ["PANICMAIL_CRASH_AT"] = point
    town.start()
    del town.environ["PANICMAIL_CRASH_AT"]
    readers = readers_of(town.program)
    with frozen(*readers):  # the first reading comes to nothing, the next has a fresh reader
        for pid in readers:
            threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        ref = town.send(raw).ref
        assert town.program.ended(30) == crashpoints.KILLED
    town.start()
    accounted_for(town, [ref])
    town.until(lambda: text in town.issue(ref)["description"], SOON, "the issue was not amended")
    events = town.rows("SELECT event FROM timeline WHERE event IN ('incident.opened', 'report.amended')")
    assert events == [("incident.opened",), ("report.amended",)]


@pytest.mark.row(44, "kill -9 at every commit and every call", "what was done is done whole or not at all")
@pytest.mark.parametrize(
    "point",
    [
        "senders.claim.committed",
        *(if_long(p) for p in ("senders.claim.commit", *both("senders.settle"))),
    ],
)
def test_a_check_of_a_sender_cut_short_is_made_after_the_next_start(town: World, point: str) -> None:
    with dns_server({"_dmarc.example.com": [("TXT", "v=DMARC1; p=none")]}) as server:
        town.config["authentication"] = {"method": "verify", "nameservers": [f"127.0.0.1:{server.port}"]}
        town.write_config()
        town.environ["PANICMAIL_CRASH_AT"] = point
        town.start()
        del town.environ["PANICMAIL_CRASH_AT"]
        ref = town.send(mail("My files are .locked", subject="Ransom note")).ref
        assert town.program.ended(30) == crashpoints.KILLED
        with closing(sqlite3.connect(town.database)) as rows, rows:  # as if the lease of the check had run out
            rows.execute("UPDATE mails SET sender_at = accepted_at WHERE sender_at IS NOT NULL")
        town.start()
        accounted_for(town, [ref])
        found = "not proved (no signature)"
        town.until(lambda: found in town.issue(ref)["description"], SOON, "the issue does not say who sent it")


@pytest.mark.row(44, "kill -9 at every commit and every call", "what was done is done whole or not at all", long=True)
def test_an_alarm_cut_short_is_told_after_the_next_start(town: World) -> None:
    town.expected |= {"spool.failed", "spool.unreadable"}
    town.config["database"]["spool"] = "file/spool"
    (town.folder / "file").write_text("in which no folder can be made")
    for point in both("tick.alarm"):
        die_at(town, point)
    town.start()
    assert "file/spool" in town.received("max", lambda got: "[panicmail]" in got.subject).text


@pytest.mark.row(44, "kill -9 at every commit and every call", "what was done is done whole or not at all", long=True)
def test_a_sign_of_work_cut_short_counts_after_the_next_start(town: World) -> None:
    town.start()
    ref = town.panic()
    iid = town.issue(ref)["iid"]
    town.settled()
    town.program.kill()
    town.gitlab.people.comment(iid, "ana", "I am looking at it")
    for point in both("signs.weigh"):
        town.environ["PANICMAIL_CRASH_AT"] = point
        assert town.spawn().ended(30) == crashpoints.KILLED
    del town.environ["PANICMAIL_CRASH_AT"]
    town.start()
    town.until(lambda: town.rows("SELECT holder FROM incidents") == [("ana",)], 30, "the sign of work was lost")


@pytest.mark.row(44, "kill -9 at every commit and every call", "what was done is done whole or not at all", long=True)
@pytest.mark.timeout(400)
def test_what_is_put_right_at_a_start_or_by_the_accounting_survives_a_kill_in_the_midst(town: World) -> None:
    town.expected |= {"clock.put_back", "clock.jumped", "accounts.gap", "database.old_copy"}
    town.start()
    ref = town.panic("before")
    town.settled()
    town.program.kill()
    town.rows("DELETE FROM outbox WHERE do = 'page'")
    for point in both("accounts.repair"):  # which is done once a minute
        die_at(town, point, 90)
    town.start()
    town.page("ana", ref, count=2)
    town.settled()
    town.program.kill()

    lost = put_an_old_copy_in_place(town)
    for point in both("copy.hold"):
        die_at(town, point)
    assert town.rows("SELECT count(*) FROM timeline WHERE event = 'steps.held'") == [(1,)]
    town.start()
    town.received("max", lambda got: lost in got.text)
    town.settled()
    town.program.kill()

    it_happened_earlier(town.database, timedelta(hours=-1))
    for point in both("clock.put_back"):
        die_at(town, point)
    ahead = "SELECT count(*) FROM incidents WHERE accepted_at > datetime('now', '+1 minute')"
    assert town.rows(ahead) == [(0,)]
    for point in both("clock.alarm"):
        last_seen_earlier(town, timedelta(days=8))  # nobody is away for so long: the clock must have jumped
        die_at(town, point)
    town.start()
    accounted_for(town, [ref])


def die_at(town: World, point: str, within: float = SOON) -> None:
    town.environ["PANICMAIL_CRASH_AT"] = point
    assert town.spawn().ended(within) == crashpoints.KILLED, f"{point} was not come by"
    del town.environ["PANICMAIL_CRASH_AT"]


def last_seen_earlier(town: World, span: timedelta) -> None:
    """As if the daemon had last been there so much earlier."""
    mark = town.folder / "panicmail.mark"
    kept = json.loads(mark.read_text())
    kept["at"] = (datetime.fromisoformat(kept["at"]) - span).isoformat()
    mark.write_text(json.dumps(kept))


def put_an_old_copy_in_place(town: World) -> str:
    """The REF of a mail that is in the database no more."""
    copied = town.folder / "copied.db"
    with closing(sqlite3.connect(town.database)) as original, closing(sqlite3.connect(copied)) as copy:
        original.backup(copy)
    town.start()
    lost = town.panic("after the copy was made")
    town.settled()
    town.program.kill()
    town.start()  # which looks how far the database has come
    town.program.kill()
    for file in town.folder.glob(town.database.name + "*"):
        if not file.name.endswith(".lock"):
            file.unlink()
    copied.rename(town.database)
    return lost


def test_every_point_has_a_test_that_ends_there_or_a_reason_why_none_does() -> None:
    acts = both(
        "link.act", "hook.act", "command.act", "signs.weigh", "tick.alarm", "clock.put_back", "clock.alarm",
        "copy.hold", "accounts.repair", "senders.claim", "senders.settle",
    )  # fmt: skip
    ended_at = (*ON_ITS_WAY, *PUSHED, *BESIDES, *acts, *ELSEWHERE)
    assert sorted(ended_at) == sorted(crashpoints.POINTS), set(ended_at) ^ set(crashpoints.POINTS)
