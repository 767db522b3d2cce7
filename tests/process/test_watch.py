"""The second pair of eyes: when it pages, when it does not, by which ways, and that nothing else stops it."""

from __future__ import annotations

import contextlib
import email.policy
import json
import shutil
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from panicmail import config
from panicmail.daemon.watch import AlarmRepeat, UnansweredPanic, WatchMonitor, question
from panicmail.errors import Permanent, Temporary
from panicmail.incident import reply_commands
from panicmail.incident.classify import Report
from panicmail.incident.escalation_policy import EscalationPolicy, OnCallAt, PolicyStep
from panicmail.incident.model import Incident, State
from panicmail.incident.push_channel import channel
from panicmail.mail.compose import ComposedMail, watch_alerts
from panicmail.mail.compose.letterhead import Letterhead
from panicmail.mail.compose.notice_context import NoticeContext, PageSent, organisation_at
from panicmail.oncall.schedules import Schedule, Schedules
from panicmail.sandbox.relay_server import Received, SandboxRelay
from panicmail.store.transaction import Transaction
from tests.bounces import bounce
from tests.cast import MINUTE, POLICY, SECOND, T0, opened
from tests.office import PEOPLE, Office, mail
from tests.program import GITLAB_TOKEN, SOON, world
from tests.provider import Provider, closed_port, until
from tests.scenes import ADDRESSES, MAX, ORGANISATION, REPORT
from tests.watcher import Watcher

BERLIN = ZoneInfo("Europe/Berlin")
GRACE = 30 * SECOND


def ask(office: Office, policy: EscalationPolicy | None = None, who: OnCallAt | None = None) -> list[UnansweredPanic]:
    settings = office.settings

    def work(tx: Transaction) -> list[UnansweredPanic]:
        return question(tx, policy or settings.policy, who or settings.who_at(tx.now), tx.now)

    return office.store.read(work)


def unreached(office: Office) -> list[str]:
    return [alarm.incident.ref for alarm in ask(office)]


# -- the question


def test_a_daemon_that_stands_still_past_the_sla_is_an_alarm_half_a_minute_later_not_before(office: Office) -> None:
    incident = office.panic()
    office.now = T0 + 15 * MINUTE + GRACE - SECOND
    assert unreached(office) == []
    office.now += SECOND
    assert unreached(office) == [incident.ref]


def test_a_manager_who_was_reached_is_no_alarm_however_long_no_answer_comes(office: Office) -> None:
    office.panic()
    office.wait(minutes=15)
    assert len(office.pages("max")) == 1
    office.now += 600 * MINUTE
    assert unreached(office) == []


def test_an_alarm_says_whose_page_went_how(office: Office) -> None:
    office.relay.refused["max@example.com"] = Temporary("451 later")
    office.panic()
    office.wait(minutes=16)
    (alarm,) = ask(office)
    assert {(page.person, page.state) for page in alarm.pages} == {("ana", "accepted"), ("max", "trying")}
    assert alarm.report.text.strip() == "My files are .locked, Slack is gone."


@pytest.mark.parametrize("failure", [Temporary("451 later"), Permanent("550 no such user")])
def test_a_page_the_relay_did_not_take_reached_nobody(desk: Office, failure: Exception) -> None:
    desk.relay.refused["max@example.com"] = failure
    incident = desk.panic()
    desk.wait(minutes=15, seconds=30)
    assert unreached(desk) == [incident.ref]


def test_a_page_that_bounced_reached_nobody(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.deliver(bounce("failed"), "", [desk.page("max").mail_from])
    desk.now += GRACE
    assert unreached(desk) == [incident.ref]


def test_a_manager_who_said_no_was_not_reached(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.reply(desk.page("max"), "no")
    desk.now += GRACE
    assert unreached(desk) == [incident.ref]


@pytest.mark.parametrize("word", ["ack", "resolve"])
def test_what_somebody_has_is_no_alarm(desk: Office, word: str) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), word)
    assert desk.incident(incident).state is State.ACKED
    desk.now += 20 * MINUTE
    assert unreached(desk) == []


def test_a_manager_called_early_counts(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "no")
    assert len(desk.pages("max")) == 1
    desk.now += 20 * MINUTE
    assert unreached(desk) == []


def test_who_was_the_manager_when_the_step_was_taken_counts_after_the_shift_too(desk: Office) -> None:
    desk.panic()
    desk.wait(minutes=15)
    desk.now += GRACE
    assert ask(desk, who=lambda role: {"smoc": ("bo",), "seoc": ("ana",)}.get(role, ())) == []


def test_the_engineers_page_never_stands_for_the_managers(desk: Office) -> None:
    incident = desk.panic()
    desk.now = T0 + 15 * MINUTE + GRACE
    both = {"seoc": ("ana",), "smoc": ("ana",)}
    assert [alarm.incident.ref for alarm in ask(desk, who=lambda role: both.get(role, ()))] == [incident.ref]


def test_nobody_on_call_as_manager_is_nobody_reached(desk: Office) -> None:
    incident = desk.panic()
    desk.now = T0 + 15 * MINUTE + GRACE
    assert [alarm.incident.ref for alarm in ask(desk, who=lambda role: ())] == [incident.ref]


def test_an_incident_opened_again_gives_the_policy_its_time_and_old_pages_do_not_count(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.reply(desk.page("max"), "ack")
    desk.now += 120 * MINUTE
    desk.relay.refused["max@example.com"] = Temporary("451 later")
    desk.reply(desk.page("max"), "escalate")
    again = desk.incident(incident)
    assert again.state is State.OPEN
    assert again.sla_at < desk.now, "the SLA is long over, and the new page has just been tried"
    assert unreached(desk) == []
    desk.now += GRACE
    assert unreached(desk) == [incident.ref], "the page of two hours ago says nothing about now"


def test_a_step_taken_early_gives_its_page_time_whatever_the_earlier_steps_said(tmp_path: Path) -> None:
    steps = (POLICY.steps[0], PolicyStep(5 * MINUTE, ("smoc",)), PolicyStep(10 * MINUTE, ("smoc", "seoc")))
    office = Office(tmp_path, policy=replace(POLICY, steps=steps))
    incident = office.panic()
    office.wait(minutes=5)
    office.reply(office.page("ana"), "ack")
    office.now += 120 * MINUTE
    office.relay.refused["max@example.com"] = Temporary("451 later")
    office.reply(office.page("ana"), "escalate")
    assert office.incident(incident).state is State.OPEN
    assert unreached(office) == []
    office.now += GRACE
    assert unreached(office) == [incident.ref]
    office.close()


def test_paged_once_without_escalation_is_no_alarm(desk: Office) -> None:
    desk.deliver(bounce("failed"), "")
    assert [incident.once for incident in desk.incidents()] == [True]
    desk.now += 60 * MINUTE
    assert unreached(desk) == []


@pytest.mark.parametrize(
    ("steps", "quiet_until"),
    [
        ([("0s", "seoc"), ("15m", "smoc")], 15 * MINUTE + GRACE),
        ([("0s", "seoc"), ("20m", "smoc")], 20 * MINUTE + GRACE),
        ([("0s", "seoc"), ("5m", "smoc")], 15 * MINUTE + GRACE),
    ],
)
def test_managers_the_policy_calls_after_the_sla_are_not_missed_before(
    desk: Office, steps: list[tuple[str, str]], quiet_until: timedelta
) -> None:
    spans = {"0s": 0 * MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "20m": 20 * MINUTE}
    policy = replace(POLICY, steps=tuple(PolicyStep(spans[after], (role,)) for after, role in steps))
    desk.panic()
    desk.now = T0 + quiet_until - SECOND
    assert ask(desk, policy) == []
    desk.now += SECOND
    assert len(ask(desk, policy)) == 1


@pytest.mark.parametrize("repeat", [3, 5, 10, 20])
def test_a_policy_without_managers_of_its_own_is_missed_when_its_last_pages_are(tmp_path: Path, repeat: int) -> None:
    policy = replace(POLICY, steps=(PolicyStep(0 * MINUTE, ("seoc",)),), repeat=repeat * MINUTE)
    for runs in (True, False):
        folder = tmp_path / str(runs)
        folder.mkdir()
        office = Office(folder, policy=policy)
        office.panic()
        if runs:
            office.wait(minutes=15, seconds=31)
        office.now = T0 + 15 * MINUTE + GRACE
        assert (unreached(office) == []) is (runs or repeat > 15)
        office.close()


def test_a_short_sla_has_a_short_grace(tmp_path: Path) -> None:
    office = Office(
        tmp_path, policy=replace(POLICY, sla=8 * SECOND, steps=(POLICY.steps[0], PolicyStep(SECOND, ("smoc",))))
    )
    office.panic()
    office.now = T0 + 9 * SECOND
    assert unreached(office) == []
    office.now = T0 + 10 * SECOND
    assert len(unreached(office)) == 1
    office.close()


def test_the_most_overdue_stands_first(desk: Office) -> None:
    refs = []
    for number in range(6):
        refs.append(desk.panic(subject=f"panic {number}", sender=f"r{number}@example.com").ref)
        desk.now += SECOND
    desk.now += 20 * MINUTE
    assert unreached(desk) == refs


def test_a_report_that_cannot_be_read_does_not_keep_the_alarm(desk: Office, tmp_path: Path) -> None:
    desk.panic()
    desk.now += 16 * MINUTE
    with contextlib.closing(sqlite3.connect(tmp_path / "panicmail.db")) as database, database:
        database.execute("UPDATE mails SET report = 'broken'")
    with capture_logs() as logs:
        (alarm,) = ask(desk)
    assert alarm.report.subject == "Ransom note on my laptop"
    assert [line["event"] for line in logs] == ["watch.report_unreadable"]


def test_a_push_that_was_accepted_is_told_as_a_push(tmp_path: Path) -> None:
    ana = replace(PEOPLE["ana"], push=(channel("json://127.0.0.1/ana"),))
    office = Office(tmp_path, people={**PEOPLE, "ana": ana})
    with contextlib.closing(office):
        office.relay.refused["ana@example.com"] = Permanent("550 no")
        office.panic()
        office.now += 16 * MINUTE
        (alarm,) = ask(office)
        shown = NoticeContext(
            organisation=organisation_at(office.settings, office.now),
            incident=alarm.incident,
            report=alarm.report,
            facts={},
            now=office.now,
            pages=alarm.pages,
        )
        _, lines = text_of(watch_alerts.unreached([shown], MAX, ADDRESSES, key="k"))
    (told,) = (line for line in lines if line.startswith("Ana") and "paged" in line)
    assert "push accepted" in told
    assert "mail accepted" not in told


# -- what was paged


def alarm(ref: str = "7KQ2") -> UnansweredPanic:
    incident = replace(opened().incident, id=f"id-{ref}", ref=ref)
    return UnansweredPanic(incident=incident, pages=(), report=Report(subject="x"))


def due(watch: AlarmRepeat, now: datetime, *refs: str) -> list[str]:
    return [each.incident.ref for each in watch.note_answer([alarm(ref) for ref in refs], now).due]


def test_an_alarm_is_paged_at_once_and_again_every_repeat() -> None:
    watch = AlarmRepeat(T0, 5 * MINUTE)
    paged_at = [second for second in range(0, 901, 3) if due(watch, T0 + second * SECOND, "7KQ2")]
    assert paged_at == [0, 300, 600, 900]


def test_what_comes_due_within_half_a_minute_shares_a_page() -> None:
    watch = AlarmRepeat(T0, 5 * MINUTE)
    pages = [due(watch, T0 + second * SECOND, *(f"R{n}" for n in range(second + 1))) for second in range(61)]
    assert [len(page) for page in pages if page] == [1, 30, 30]


def test_an_alarm_that_is_over_is_told_once_and_pages_anew_when_it_comes_back() -> None:
    watch = AlarmRepeat(T0, 5 * MINUTE)
    assert due(watch, T0, "7KQ2") == ["7KQ2"]
    assert watch.note_answer([], T0 + MINUTE).over == ("7KQ2",)
    assert watch.note_answer([], T0 + 2 * MINUTE).over == ()
    assert due(watch, T0 + 3 * MINUTE, "7KQ2") == ["7KQ2"]


def test_a_page_no_way_took_is_due_again_after_half_a_minute_not_before() -> None:
    watch = AlarmRepeat(T0, 5 * MINUTE)
    due(watch, T0, "7KQ2")
    watch.not_taken(["id-7KQ2"])
    assert due(watch, T0 + GRACE - SECOND, "7KQ2") == []
    assert due(watch, T0 + GRACE, "7KQ2") == ["7KQ2"]


def test_two_minutes_without_an_answer_are_a_page_and_again_every_repeat() -> None:
    watch = AlarmRepeat(T0, 5 * MINUTE)
    blind_at = [second for second in range(0, 901, 10) if watch.note_no_answer(T0 + second * SECOND)]
    assert blind_at == [120, 420, 720]


def test_a_blind_page_names_the_last_answer_and_its_end_is_told_once() -> None:
    watch = AlarmRepeat(T0, 5 * MINUTE)
    seen_at = T0 + MINUTE
    assert watch.note_answer([], seen_at).blind_since is None
    assert watch.note_no_answer(seen_at + MINUTE) is None
    assert watch.note_no_answer(seen_at + 2 * MINUTE) == seen_at
    assert watch.note_answer([], seen_at + 3 * MINUTE).blind_since == seen_at
    assert watch.note_answer([], seen_at + 4 * MINUTE).blind_since is None


def test_a_moment_without_an_answer_is_nothing() -> None:
    watch = AlarmRepeat(T0, 5 * MINUTE)
    for second in range(0, 3600, 119):
        assert watch.note_no_answer(T0 + second * SECOND) is None
        assert watch.note_answer([], T0 + second * SECOND).blind_since is None


def test_a_blind_page_no_way_took_is_due_again_after_half_a_minute() -> None:
    watch = AlarmRepeat(T0, 5 * MINUTE)
    now = T0 + 2 * MINUTE
    assert watch.note_no_answer(now)
    watch.blind_not_taken(now)
    assert watch.note_no_answer(now + GRACE - SECOND) is None
    assert watch.note_no_answer(now + GRACE)


# -- the words


def context(**changes: Any) -> NoticeContext:
    incident = replace(opened(ORGANISATION.policy, who=ORGANISATION.who).incident, ref="7KQ2", **changes)
    pages = [PageSent(person="ana", channel="mail", at=T0, state="accepted")]
    return NoticeContext(
        organisation=ORGANISATION, incident=incident, report=REPORT, facts={}, now=T0 + 16 * MINUTE, pages=pages
    )


def text_of(letter: ComposedMail) -> tuple[str, list[str]]:
    message = message_from_bytes(letter.message, policy=email.policy.default)
    part = message.get_body(("plain",))
    assert part is not None
    return str(message["Subject"]), part.get_content().splitlines()


def test_the_mail_says_who_must_do_what_then_why_then_whom_to_call_and_last_the_report() -> None:
    letter = watch_alerts.unreached([context()], MAX, ADDRESSES, key="k")
    subject, lines = text_of(letter)
    assert subject == "[PANIC 7KQ2] NOBODY REACHED: Ransom note on my laptop"
    assert lines == [
        "Max: nobody has 7KQ2. See now that somebody takes it, you or another.",
        "Why: the deadline passed at 03:22 CET, and no page to the SMOC is confirmed.",
        "panicmail watch says so, which runs apart. panicmail itself may stand still: see that it runs.",
        "By Rita Lopez <rita@example.com>, 03:07",
        "Sender: not proved (senders are not checked)",
        "Phone in the mail: +49 170 0000000",
        "Ana (SEOC): paged 03:07: mail accepted.",
        "Call Ana: +49 151 0000000",
        "Issue: follows, GitLab has not answered yet",
        "By hand, where panicmail runs: panicmail show 7KQ2, panicmail ack 7KQ2 --as PERSON.",
        "Do not reply to this mail: a reply is taken for a new report.",
        "Attached, by the names they came with:",
        "| note.txt, 2.2 KB",
        "Report (quoted, untrusted):",
        "| My files are .locked, Slack is gone.",
    ]
    assert (letter.mail_from, letter.recipient) == ("", MAX.email)


def test_many_incidents_are_one_mail_that_names_them() -> None:
    contexts = [
        replace(context(), incident=replace(context().incident, ref=f"R{n:03}", subject="ack")) for n in range(25)
    ]
    subject, lines = text_of(watch_alerts.unreached(contexts, MAX, ADDRESSES, key="k"))
    assert subject == "[PANIC R000] NOBODY REACHED: 25 incidents"
    assert lines[0] == "Max: nobody has these 25. See now that each finds somebody."
    assert lines.count("| ack") == 20
    assert "And 5 more: panicmail incidents --state open" in lines


def letters() -> Iterator[ComposedMail]:
    hostile = "ack\r\nBcc: all@example.com https://evil.example/ @all"
    for changes in ({}, {"drill": True}, {"subject": hostile}, {"subject": "x" * 500}, {"holder": "ana"}):
        one = context(**changes)
        one = replace(one, report=replace(REPORT, subject=str(changes.get("subject", "")), text=hostile))
        yield watch_alerts.unreached([one], MAX, ADDRESSES, key="k")
        yield watch_alerts.unreached([one, context()], MAX, ADDRESSES, key="k")
    yield watch_alerts.blind(T0, hostile, Letterhead("page@example.com", MAX, T0 + 16 * MINUTE), ADDRESSES, key="k")


@pytest.mark.parametrize("letter", [*letters()])
def test_no_line_of_ours_is_a_command_and_nothing_of_a_stranger_stands_outside_marked_lines(
    letter: ComposedMail,
) -> None:
    subject, lines = text_of(letter)
    assert len(subject) <= 120
    ours = [line for line in lines if not line.startswith("| ")]
    assert [line for line in ours if reply_commands.read(line).meaning is not reply_commands.Command.NOTHING] == []
    assert not [line for line in ours if line.startswith("Note: ")]
    assert "https://evil" not in "\n".join(lines)
    fields = message_from_bytes(letter.message, policy=email.policy.default)
    assert fields["Bcc"] is None
    assert fields["Auto-Submitted"] == "auto-generated"


WHY = "PANIC 7KQ2 NOBODY REACHED: SLA passed 03:22 CET, no page to the SMOC confirmed"
MANY = "PANIC 7KQ2 and 41 more NOBODY REACHED: SLA passed 03:22 CET"


@pytest.mark.parametrize(
    ("refs", "phone", "line"),
    [
        (1, "+49 152 0000000", f"{WHY} | call Max +49 152 0000000"),
        (1, "", f"{WHY} | call Max"),
        (42, "+49 152 0000000 ext. 12", f"{MANY} | call Max +49 152 0000000 ext. 12"),
        (1, "1" * 90, WHY),
    ],
)
def test_a_push_has_120_characters_and_loses_its_instant_last(refs: int, phone: str, line: str) -> None:
    organisation = replace(ORGANISATION, people={**ORGANISATION.people, "max": replace(MAX, phone=phone)})
    said = watch_alerts.unreached_push([replace(context(), organisation=organisation)] * refs, BERLIN)
    assert said == line
    assert len(said) <= 120


def test_every_manager_is_named_who_fits() -> None:
    organisation = replace(ORGANISATION, who=lambda role: ("max", "bo") if role == "smoc" else ("ana",))
    people = {p: replace(person, phone="+49 1") for p, person in ORGANISATION.people.items()}
    said = watch_alerts.unreached_push([replace(context(), organisation=replace(organisation, people=people))], BERLIN)
    assert said.endswith("| call Max +49 1 or Bo +49 1")


def test_a_push_about_a_drill_says_so() -> None:
    assert watch_alerts.unreached_push([context(drill=True)], BERLIN).startswith("PANIC 7KQ2 DRILL NOBODY REACHED")


def test_the_other_pushes_are_as_short() -> None:
    now = T0 + 16 * MINUTE
    assert watch_alerts.blind_push(T0, now, BERLIN) == (
        "PANICMAIL cannot be checked since 03:07 CET: its database gives no answer. See that both run."
    )
    assert watch_alerts.sees_push(T0, now, BERLIN) == (
        "PANICMAIL can be checked again since 03:23 CET. It could not since 03:07."
    )
    assert len(watch_alerts.sees_push(T0 - timedelta(days=30), now, BERLIN)) <= 120


# -- the monitor: asking and paging


class Town:
    """An office whose database a monitor watches, with a relay, a push provider and a clock that is moved."""

    def __init__(self, office: Office, folder: Path, relay: SandboxRelay, provider: Provider) -> None:
        self.office = office
        self.folder = folder
        self.relay = relay
        self.provider = provider
        self.ahead = timedelta()  #: of the office's clock: for what the daemon does not notice
        (folder / "gitlab.token").write_text(GITLAB_TOKEN)
        (folder / "gitlab.token").chmod(0o600)

    def now(self) -> datetime:
        return self.office.now + self.ahead

    def write(self, *lines: str, database: str = "sqlite:///panicmail.db", relay: str = "") -> Path:
        """The configuration; `lines` come last."""
        text = f"""
            [smtp]
            hostname = "panic.example.com"
            addresses = ["panic@example.com"]
            [authentication]
            method = "none"
            [database]
            url = "{database}"
            [gitlab]
            url = "http://127.0.0.1:1"
            project = "security/incidents"
            token_file = "gitlab.token"
            [relay]
            url = "{relay or self.relay.url}"
            page_sender = "page@example.com"
            [people.ana]
            email = "ana@example.com"
            phone = "+49 151 0"
            [people.max]
            email = "max@example.com"
            push = ["json://{self.provider.host}/200/max-secret"]
            tz = "Europe/Berlin"
            [people.ops]
            email = "ops@example.com"
            push = ["json://{self.provider.host}/200/ops-secret"]
            [oncall.seoc]
            fixed = ["ana"]
            [oncall.smoc]
            fixed = ["max"]
            [operators]
            page = ["ops"]
        """
        path = self.folder / "panicmail.toml"
        path.write_text("\n".join([*(line.strip() for line in text.splitlines()), *lines]))
        return path

    def monitor(self, *lines: str, ask_within: float = SOON, **about: str) -> WatchMonitor:
        return WatchMonitor(config.load(self.write(*lines, **about)), self.now, ask_within=ask_within)

    def own(self, path: str = "/200/watch-secret") -> str:
        return f'[watch]\npush = ["json://{self.provider.host}{path}"]'

    @property
    def pushes(self) -> list[tuple[str, str]]:
        """Where each went, and what it said."""
        return [(asked.path.rpartition("/")[2], asked.json["message"]) for asked in self.provider.asked]

    def mails(self, to: str) -> list[Received]:
        return self.relay.all(lambda got: got.to(f"{to}@example.com"))

    def round(self, monitor: WatchMonitor, *, seconds: float = 0) -> list[Any]:
        """A round, after so long, and its pages; answers what was logged."""
        self.ahead += timedelta(seconds=seconds)
        with capture_logs() as logs:
            monitor.round()
            monitor.finish(SOON)
        return logs

    def frozen_panic(self) -> Incident:
        """A panic whose daemon stands still from then on, past its SLA."""
        incident = self.office.panic()
        self.ahead = 15 * MINUTE + GRACE
        return incident


@pytest.fixture
def town(desk: Office, tmp_path: Path) -> Iterator[Town]:
    with SandboxRelay() as relay, Provider() as provider:
        yield Town(desk, tmp_path, relay, provider)


def events(logs: list[Any]) -> list[str]:
    return [line["event"] for line in logs]


def test_it_pages_by_its_own_way_and_by_mail_the_manager_on_call(town: Town) -> None:
    incident = town.frozen_panic()
    monitor = town.monitor(town.own())
    logs = town.round(monitor)
    (push,) = town.pushes
    assert push == (
        "watch-secret",
        f"PANIC {incident.ref} NOBODY REACHED: SLA passed 03:22 CET, no page to the SMOC confirmed | call Max",
    )
    (page,) = town.mails("max")
    assert page.subject == f"[PANIC {incident.ref}] NOBODY REACHED: Ransom note on my laptop"
    assert "| My files are .locked, Slack is gone." in page.text
    assert "Call Ana: +49 151 0" in page.text
    assert page.header("From") == "panicmail watch <page@example.com>"
    assert (town.mails("ana"), town.mails("ops")) == ([], [])
    assert sorted(events(logs)) == ["watch.paged", "watch.paged", "watch.unreached"]
    assert "secret" not in str(logs)
    assert ".locked" not in str(logs)


def test_it_pages_again_every_repeat_while_it_holds_and_tells_when_it_is_over(town: Town) -> None:
    incident = town.frozen_panic()
    monitor = town.monitor(town.own())
    logs = [line for _ in range(0, 901, 30) for line in town.round(monitor, seconds=30)]
    assert len(town.pushes) == len(town.mails("max")) == 4
    assert len({page.header("Message-ID") for page in town.mails("max")}) == 4
    assert "watch.over" not in events(logs)
    town.office.now, town.ahead = town.now(), timedelta()
    town.office.wait(seconds=1)
    assert town.office.pages("max")
    (line,) = town.round(monitor)
    assert (line["event"], line["ref"]) == ("watch.over", incident.ref)
    assert town.round(monitor, seconds=600) == []
    assert len(town.pushes) == 4


def test_while_the_daemon_does_its_work_it_says_nothing(town: Town) -> None:
    monitor = town.monitor(town.own())
    town.office.panic()
    logs = []
    for _ in range(60):
        town.office.wait(seconds=30)
        logs += town.round(monitor)
    assert (logs, town.pushes, town.mails("max")) == ([], [], [])


def test_without_a_way_of_its_own_it_warns_and_uses_the_managers(town: Town) -> None:
    town.frozen_panic()
    monitor = town.monitor()
    with capture_logs() as logs:
        monitor.announce()
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("watch.no_route", "warning"),
        ("watch.ready", "info"),
    ]
    town.round(monitor)
    assert [where for where, _ in town.pushes] == ["max-secret"]
    assert len(town.mails("max")) == 1


def test_a_way_that_means_nothing_is_told_at_the_start_without_its_secret(town: Town) -> None:
    monitor = town.monitor('[watch]\npush = ["nothing://watch-secret"]')
    with capture_logs() as logs:
        monitor.announce()
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("watch.route_unusable", "error"),
        ("watch.ready", "info"),
    ]
    assert "secret" not in str(logs)


def test_what_is_odd_about_its_configuration_is_told_at_the_start(town: Town) -> None:
    url = f"json://{town.provider.host}/200"
    monitor = town.monitor("[watch]", 'heartbeat_url = "http://127.0.0.1:1/"', f'push = ["{url}", "pagerduty:KEY"]')
    with capture_logs() as logs:
        monitor.announce()
    assert events(logs) == ["config.warning", "watch.ready"]
    assert "{who}" in logs[0]["text"]


def test_with_nobody_on_call_the_operators_are_called(town: Town) -> None:
    town.frozen_panic()
    monitor = town.monitor()
    monitor._settings = replace(
        monitor._settings, schedules=Schedules({"seoc": Schedule(("ana",)), "smoc": Schedule()})
    )
    town.round(monitor)
    assert [where for where, _ in town.pushes] == ["ops-secret"]
    assert len(town.mails("ops")) == 1


def test_a_page_no_way_took_is_tried_again_within_half_a_minute(town: Town) -> None:
    town.frozen_panic()
    monitor = town.monitor(town.own("/500/x"), relay=f"smtp://127.0.0.1:{closed_port()}")
    logs = town.round(monitor)
    assert events(logs) == ["watch.unreached", "watch.page_failed", "watch.page_failed"]
    for seconds, count in ((15, 1), (15, 2), (30, 3), (15, 3)):
        town.round(monitor, seconds=seconds)
        assert len(town.pushes) == count


def test_one_way_that_took_it_is_enough(town: Town) -> None:
    town.frozen_panic()
    monitor = town.monitor(town.own("/403/x"))
    logs = town.round(monitor)
    assert sorted(events(logs)) == ["watch.page_failed", "watch.paged", "watch.unreached"]
    town.round(monitor, seconds=120)
    assert len(town.mails("max")) == 1


def test_a_way_that_hangs_holds_up_neither_the_other_nor_the_next_round(town: Town) -> None:
    town.frozen_panic()
    monitor = town.monitor(town.own("/hang"))
    monitor.announce()
    began = time.monotonic()
    monitor.round()
    town.relay.wait(lambda got: got.to("max@example.com"), SOON)
    monitor.round()
    assert time.monotonic() - began < 8, "less than a push may take"
    town.provider.release()
    monitor.finish(SOON)


def test_a_letter_that_cannot_be_written_does_not_keep_the_push(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> ComposedMail:
        raise ValueError("no letter")

    monkeypatch.setattr(watch_alerts, "unreached", fail)
    town.frozen_panic()
    logs = town.round(town.monitor(town.own()))
    assert sorted(events(logs)) == ["watch.page_failed", "watch.paged", "watch.unreached"]
    assert len(town.pushes) == 1


def test_a_flood_is_one_page(town: Town) -> None:
    for number in range(12):
        town.office.accept(mail("help", subject=f"Panic {number}", sender=f"r{number}@example.com"))
    town.office.settle()
    town.ahead = 15 * MINUTE + GRACE
    town.round(town.monitor(town.own()))
    ((_, line),) = town.pushes
    assert "and 11 more NOBODY REACHED" in line
    (page,) = town.mails("max")
    assert page.subject.endswith("NOBODY REACHED: 12 incidents")


def test_its_heart_beats_with_its_rounds(town: Town) -> None:
    url = f"{town.provider.url}/200/{{who}}/uuid"
    monitor = town.monitor(f'[watch]\nheartbeat_url = "{url}"')
    town.round(monitor)
    assert town.provider.wait().path == "/200/watch/uuid"


# -- the monitor: blind


def blinded(town: Town, monitor: WatchMonitor) -> list[Any]:
    """Two minutes and a bit in which it asks in vain."""
    return [line for _ in range(13) for line in town.round(monitor, seconds=10)]


def test_a_database_that_is_gone_is_a_page_after_two_minutes_and_again_every_repeat(town: Town) -> None:
    monitor = town.monitor(town.own())
    assert town.round(monitor) == []
    town.office.close()
    hidden = town.folder / "hidden.db"
    shutil.move(town.folder / "panicmail.db", hidden)
    logs = blinded(town, monitor)
    assert events(logs) == ["watch.not_answered", "watch.blind", "watch.paged", "watch.paged"]
    ((_, line),) = town.pushes
    assert line == "PANICMAIL cannot be checked since 02:07 UTC: its database gives no answer. See that both run."
    (page,) = town.mails("ops")
    assert page.subject == "[panicmail] CANNOT BE CHECKED since 02:07 UTC"
    assert "Detail: unable to open database file" in page.text
    assert town.mails("max") == []
    assert not (town.folder / "panicmail.db").exists(), "who only looks makes nothing"

    town.round(monitor, seconds=240)
    assert len(town.pushes) == 1
    town.round(monitor, seconds=60)
    assert len(town.pushes) == len(town.mails("ops")) == 2

    shutil.move(hidden, town.folder / "panicmail.db")
    assert events(town.round(monitor, seconds=3)) == ["watch.answered", "watch.sees", "watch.paged"]
    assert town.pushes[2][1].startswith("PANICMAIL can be checked again since 02:")
    assert len(town.mails("ops")) == 2, "that it can be asked again is told by push alone"
    assert town.round(monitor, seconds=3) == []


def test_a_file_that_was_replaced_is_not_read_for_ever(town: Town) -> None:
    monitor = town.monitor(town.own())
    town.round(monitor)
    town.office.close()
    (town.folder / "panicmail.db").unlink()
    (town.folder / "panicmail.db").write_bytes(b"this is no database" * 100)
    assert events(town.round(monitor)) == ["watch.not_answered"]


def test_a_locked_database_is_read_all_the_same(town: Town) -> None:
    incident = town.frozen_panic()
    with contextlib.closing(sqlite3.connect(town.folder / "panicmail.db", isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("UPDATE mails SET report = NULL")
        logs = town.round(town.monitor(town.own()))
        writer.execute("ROLLBACK")
    assert "watch.unreached" in events(logs)
    assert incident.ref in town.pushes[0][1]


def test_it_changes_nothing_on_disk_not_even_what_a_kill_left_behind(town: Town) -> None:
    town.frozen_panic()
    left = town.folder / "left"
    left.mkdir()
    for name in ("panicmail.db", "panicmail.db-wal"):  # as kill -9 leaves them: much stands in the -wal alone
        shutil.copyfile(town.folder / name, left / name)
    before = {path.name: path.read_bytes() for path in left.iterdir()}
    monitor = town.monitor(town.own(), database="sqlite:///left/panicmail.db")
    for _ in range(3):
        town.round(monitor, seconds=300)
    assert len(town.pushes) > 1
    after = {path.name: path.read_bytes() for path in left.iterdir() if not path.name.endswith("-shm")}
    assert after == before


class Gate:
    """A TCP port that leads to PostgreSQL's Unix socket; it can be shut, and it can stop passing on."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        folder = parse_qs(parts.query)["host"][0]
        self._target = next(str(path) for path in Path(folder).glob(".s.PGSQL.*") if not path.name.endswith(".lock"))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"postgresql://{parts.username}@127.0.0.1:{self.port}{parts.path}"
        self.opens = threading.Event()
        self.passes = threading.Event()
        self.opens.set()
        self.passes.set()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                if not self.opens.is_set():
                    client.close()
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                for here, there in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(here, there), daemon=True).start()

    def _pass(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while octets := here.recv(65536):
                self.passes.wait(60)
                there.sendall(octets)
        for each in (here, there):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        self.passes.set()
        self._socket.close()


@pytest.fixture
def gate(postgres_url: str) -> Iterator[Gate]:
    if "host=" not in postgres_url:
        pytest.skip("PANICMAIL_TEST_PG is reached by TCP")
    gate = Gate(postgres_url)
    yield gate
    gate.close()


@pytest.mark.postgres
@pytest.mark.parametrize("way", ["opens", "passes"])
def test_postgresql_that_refuses_or_hangs_is_a_blind_page_and_its_return_is_seen(
    way: str, gate: Gate, postgres_url: str, tmp_path: Path
) -> None:
    office = Office(tmp_path, url=postgres_url)
    with SandboxRelay() as relay, Provider() as provider:
        town = Town(office, tmp_path, relay, provider)
        monitor = town.monitor(town.own(), database=gate.url, ask_within=2)
        monitor.announce()
        assert town.round(monitor) == []
        getattr(gate, way).clear()
        logs = [line for seconds in (1, 60, 60) for line in town.round(monitor, seconds=seconds)]
        assert [event for event in events(logs) if event != "watch.paged"] == ["watch.not_answered", "watch.blind"]
        assert len(town.pushes) == len(town.mails("ops")) == 1
        getattr(gate, way).set()
        until(lambda: "watch.sees" in events(town.round(monitor)))
        assert "can be checked again" in town.pushes[1][1]
    office.close()


@pytest.mark.postgres
def test_a_database_that_hangs_for_long_does_not_fill_the_process(
    gate: Gate, postgres_url: str, tmp_path: Path
) -> None:
    office = Office(tmp_path, url=postgres_url)
    with SandboxRelay() as relay, Provider() as provider:
        town = Town(office, tmp_path, relay, provider)
        monitor = town.monitor(database=gate.url, ask_within=0.1)
        gate.passes.clear()
        for _ in range(10):
            town.round(monitor)
        asking = [thread for thread in threading.enumerate() if thread.name == "call-the database"]
        assert 0 < len(asking) <= 4
        gate.passes.set()
        until(lambda: "watch.not_answered" not in events(town.round(monitor)) and monitor._is_answered)
    office.close()


# -- the monitor: another configuration


def test_a_reload_pages_by_the_new_way_and_a_wrong_one_is_refused(town: Town) -> None:
    town.frozen_panic()
    monitor = town.monitor(town.own())
    town.write("[watch]", "push = 5")
    with capture_logs() as logs:
        monitor.reread()
    assert events(logs) == ["config.refused"]
    town.round(monitor)
    assert [where for where, _ in town.pushes] == ["watch-secret"]

    town.write("[escalation]", 'repeat = "1m"', town.own("/200/new-secret"))
    with capture_logs() as logs:
        monitor.reread()
    assert events(logs) == ["config.reloaded", "watch.ready"]
    town.round(monitor, seconds=60)
    assert [where for where, _ in town.pushes] == ["watch-secret", "new-secret"]


# -- the command


@pytest.fixture
def started() -> Iterator[Callable[[Path], Watcher]]:
    """Starts a watch and waits until it is ready; ends it, and finds no secret and no loose line in its log."""
    watchers: list[Watcher] = []

    def start(path: Path) -> Watcher:
        watchers.append(Watcher(path))
        watchers[-1].wait_for("watch.ready", 30)
        return watchers[-1]

    yield start
    for watcher in watchers:
        watcher.close()
        assert [line for line in watcher.lines if not json.loads(line).get("event")] == []
        assert [line for line in watcher.lines if "secret" in line or "kept-to-itself" in line] == []


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as one:
        yield one


@pytest.mark.long
def test_a_frozen_daemon_past_its_sla_is_paged_about_within_seconds(
    tmp_path: Path, provider: Provider, started: Callable[[Path], Watcher]
) -> None:
    steps = [("0s", "seoc"), ("6s", "smoc", "seoc")]
    with world(tmp_path, steps=steps, sla="6s", repeat="2s") as organisation:
        organisation.config["watch"] = {
            "push": [f"json://{provider.host}/200/secret"],
            "heartbeat_url": f"{provider.url}/200/{{who}}",
        }
        daemon = organisation.start()
        watcher = started(organisation.path)
        ref = organisation.panic()
        organisation.page("ana", ref)
        daemon.signal(signal.SIGSTOP)
        accepted_at = time.monotonic()
        push = provider.wait(3, 30)  # behind the first beats of the daemon and of the watch
        assert time.monotonic() - accepted_at < 20
        assert push.json["message"].startswith(f"PANIC {ref} NOBODY REACHED: SLA passed")
        page = organisation.received("max", lambda got: "NOBODY REACHED" in got.subject)
        assert page.subject == f"[PANIC {ref}] NOBODY REACHED: Ransom note on my laptop"
        assert {asked.path for asked in provider.asked[:2]} == {"/200/tick", "/200/watch"}
        provider.wait(4, 30)
        organisation.received("max", lambda got: "NOBODY REACHED" in got.subject, count=2)

        daemon.signal(signal.SIGCONT)
        organisation.page("max", ref)
        watcher.wait_for("watch.over", 30)
        assert organisation.stop() == 0
        watcher.signal(signal.SIGTERM)
        assert watcher.ended() == 0


def test_sigterm_ends_it_whatever_hangs(
    desk: Office, tmp_path: Path, provider: Provider, started: Callable[[Path], Watcher]
) -> None:
    with SandboxRelay() as relay:
        relay.rule("max@", "hang")
        town = Town(desk, tmp_path, relay, provider)
        desk.now = datetime.now(T0.tzinfo) - 60 * MINUTE
        desk.panic()
        watcher = started(town.write(town.own("/hang")))
        provider.wait(within=30)
        began = time.monotonic()
        watcher.signal(signal.SIGTERM)
        assert watcher.ended() == 0
        assert time.monotonic() - began < 20, "what hangs does so for longer"
        provider.release()


def test_sighup_reads_the_configuration_again_and_keeps_the_running_one_when_it_is_wrong(
    desk: Office, tmp_path: Path, provider: Provider, started: Callable[[Path], Watcher]
) -> None:
    with SandboxRelay() as relay:
        town = Town(desk, tmp_path, relay, provider)
        watcher = started(town.write(town.own()))
        town.write("[watch]", "push = 5")
        watcher.signal(signal.SIGHUP)
        assert "watch.push" in str(watcher.wait_for("config.refused")[1]["mistakes"])
        town.write(town.own("/200/other"))
        watcher.signal(signal.SIGHUP)
        watcher.wait_for("config.reloaded")
        assert watcher.is_running


def test_a_watch_that_starts_before_there_is_a_database_waits_for_it(
    tmp_path: Path, provider: Provider, started: Callable[[Path], Watcher]
) -> None:
    with world(tmp_path) as organisation:
        organisation.config["watch"] = {"push": [f"json://{provider.host}/200/secret"]}
        organisation.write_config()
        watcher = started(organisation.path)
        watcher.wait_for("watch.not_answered")
        assert not organisation.database.exists()
        organisation.start()
        watcher.wait_for("watch.answered")
        organisation.stop()
