"""Drills: a valid code makes a mail one, and nothing else does; the command shows how far it comes."""

from __future__ import annotations

import itertools
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from panicmail import config as configuration
from panicmail.cli import drill_command
from panicmail.daemon.watchdog import Health
from panicmail.escalation import sla_report
from panicmail.incident import ids
from panicmail.incident.escalation_policy import DEFAULT, PolicyChoice
from panicmail.incident.model import Incident, State
from panicmail.intake import drills
from panicmail.store.tables import drills as table
from tests import forked
from tests.cast import MINUTE, POLICY, SECOND
from tests.office import PANIC, Office, mail
from tests.program import SOON, World, plain_environ, world
from tests.provider import Provider, closed_port

RITA = "rita@example.com"


def code(desk: Office) -> str:
    """A new code, valid from now on."""
    made = drills.new_code()
    desk.store.write("test", lambda tx: drills.begin(tx, made))
    return made


def sent(desk: Office, text: str = "", subject: str = "") -> Incident:
    """The incident a mail to panic@ made."""
    mail_id = desk.deliver(mail(text, subject=subject))
    incident = desk.store.read(lambda tx: tx.incidents.by_mail(mail_id))
    assert incident is not None
    return incident


# -- what is a drill


WRITTEN = (
    "drill {0}",
    "Drill: {0}",
    "panicmail drill {1} {2}",
    "DRILL {1}-{2}",
    "this is a drill, drill {3}",
    "drill exercise, drill {0}",
    "Fwd: drill #{0}.",
)


def test_a_valid_code_makes_it_a_drill_however_people_write_it(desk: Office) -> None:
    for place, written in itertools.product(("subject", "text"), WRITTEN):
        made = code(desk)
        said = written.format(made, made[:4], made[4:], made.lower())
        assert sent(desk, **{place: said}).drill, said


def test_a_drill_says_so_wherever_somebody_reads_of_it_and_is_otherwise_as_real(office: Office) -> None:
    incident = sent(office, "nothing burns", f"Practice, drill {code(office)}")
    ref = incident.ref
    page = office.page("ana")
    assert page.subject.startswith(f"[PANIC {ref}] DRILL: Practice")
    assert "This is a drill. Act as if it were real." in page.text
    assert office.gitlab.issues[0].title.startswith("[panic] DRILL: Practice, drill")
    assert "**This is a drill.**" in office.gitlab.issues[0].description
    office.wait(minutes=15)
    assert office.page("max").subject.startswith(f"[PANIC {ref}] DRILL YOURS NOW:")
    office.reply(office.page("max"), "ack")
    assert office.incident(incident).holder == "max"
    assert office.sent("max")[-1].subject == f"[{ref}] DRILL Clock stopped: Max Ode has it"
    assert office.sent("ana")[-1].text.splitlines()[1] == "This is a drill. Act as if it were real."
    assert all("This is a drill." in letter.text for letter in office.sent(RITA))
    assert len(office.sent(RITA)) == 3


def test_a_drill_without_a_subject_has_a_title_that_cannot_be_mistaken(desk: Office) -> None:
    sent(desk, f"drill {code(desk)}")
    assert desk.gitlab.issues[0].title == "[panic] DRILL: (no subject)"


def test_a_drill_follows_the_policy_for_drills(tmp_path: Path) -> None:
    practice = replace(POLICY, name="practice", sla=MINUTE, choice=PolicyChoice(drill=True))
    desk = Office(tmp_path, policies={DEFAULT: POLICY, "practice": practice})
    drill, real = sent(desk, f"drill {code(desk)}"), sent(desk, "drill")
    assert (drill.policy, drill.sla_at) == ("practice", drill.accepted_at + MINUTE)
    assert (real.policy, real.drill) == (DEFAULT, False)
    desk.close()


def test_without_a_valid_code_it_is_a_panic(desk: Office) -> None:
    made = code(desk)
    for said in ("drill", "This is a drill", "drill ABCD2345", made, f"drill {made}2"):
        assert not sent(desk, said, f"Help: {said}").drill, said
        assert not desk.page("ana").subject.partition("] ")[2].startswith("DRILL")
        assert desk.gitlab.issues[-1].title.startswith("[panic] Help: ")


def test_a_code_makes_one_mail_a_drill(office: Office) -> None:
    made = code(office)
    assert sent(office, f"drill {made}").drill
    again = sent(office, f"drill {made}, now for real: everything is encrypted")
    assert not again.drill
    assert "DRILL" not in office.page("ana").subject


def test_two_mails_that_race_for_one_code_make_one_drill(office: Office) -> None:
    made = code(office)
    mails = [office.accept(mail(f"drill {made} {number}")) for number in range(6)]
    both = [threading.Thread(target=office.settle) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(SOON)
    found = [office.store.read(lambda tx, m=m: tx.incidents.by_mail(m)) for m in mails]  # type: ignore[misc]
    assert [incident.drill for incident in found if incident].count(True) == 1
    assert len(found) == 6


@pytest.mark.parametrize(("age", "is_drill"), [(drills.LASTS, True), (drills.LASTS + SECOND, False)])
def test_a_code_lasts_ten_minutes(desk: Office, age: timedelta, is_drill: bool) -> None:
    made = code(desk)
    desk.now += age
    assert sent(desk, f"drill {made}").drill is is_drill


def test_a_drill_that_came_in_time_and_was_understood_late_is_one(desk: Office) -> None:
    made = code(desk)
    mail_id = desk.accept(mail(f"drill {made}"))
    desk.now += 2 * drills.LASTS
    desk.settle()
    incident = desk.store.read(lambda tx: tx.incidents.by_mail(mail_id))
    assert incident is not None
    assert incident.drill


def test_of_one_mail_a_few_codes_are_tried_and_no_more(desk: Office) -> None:
    made = code(desk)
    guesses = " ".join(f"drill {drills.new_code()}" for _ in range(drills.TRIED))
    assert not sent(desk, f"{guesses} drill {made}", f"{guesses} drill {made}").drill
    assert sent(desk, f"drill {made}").drill, "and it is not used up by that"


def test_of_a_code_only_a_digest_is_kept(desk: Office) -> None:
    made = code(desk)
    with desk.database.reading() as connection:
        (row,) = connection.execute(sa.select(table)).all()
    assert made not in str(row)
    assert re.fullmatch("[0-9a-f]{64}", row.digest)


def test_codes_are_speakable_and_do_not_come_again() -> None:
    made = {drills.new_code() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(each) == 8 and set(each) <= set(ids.REF_ALPHABET) for each in made)


def test_more_in_the_thread_of_a_real_panic_is_never_a_drill_and_keeps_the_code(desk: Office) -> None:
    real = desk.panic()
    made = code(desk)
    desk.reply(desk.sent(RITA)[0], f"drill {made}", sender=RITA)
    assert not desk.incident(real).drill
    assert sent(desk, f"drill {made}").drill


# -- out of the figures


def test_drills_are_in_no_figure(desk: Office) -> None:
    sent(desk, f"drill {code(desk)}")
    desk.wait(minutes=16)
    figures = sla_report.figures(desk.store, timedelta(days=1))
    assert (figures.incidents, figures.breached, figures.pages) == (0, 0, 0)
    vital = Health(desk.store, lambda: True, lambda: True).figures()
    assert (vital.incidents, vital.breached_open, vital.open_seconds_max) == ({"open": 0, "acked": 0}, 0, 0.0)
    desk.panic()
    figures = sla_report.figures(desk.store, timedelta(days=1))
    assert (figures.incidents, figures.pages) == (1, 1)
    assert Health(desk.store, lambda: True, lambda: True).figures().incidents == {"open": 1, "acked": 0}


# -- the command


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as town:
        town.config["smtp"]["listen"] = [f"127.0.0.1:{closed_port()}"]
        yield town


class Running:
    """A command that is still at it, and what it printed so far."""

    def __init__(self, town: World, *arguments: str) -> None:
        self._process = forked.start(
            *("panicmail", "drill", "-c", str(town.path), *arguments),
            cwd=town.folder,
            env=plain_environ({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._town = town
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.decode().rstrip("\n"))

    def line(self, pattern: str) -> re.Match[str]:
        """The first line that matches, once it is there."""
        found = self._town.until(lambda: self._matches(pattern), SOON, f"no {pattern!r} in {self.lines}")
        return found[0]

    def _matches(self, pattern: str) -> list[re.Match[str]]:
        return [found for line in list(self.lines) if (found := re.search(pattern, line))]

    def end(self) -> int:
        status = self._process.wait(SOON)
        self._reading.join(SOON)
        return status

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(SOON)
        self._reading.join(SOON)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def drill(town: World) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*arguments: str) -> Running:
        started.append(Running(town, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()


Start = Callable[..., Running]


def test_a_drill_shows_each_step_and_ends_with_a_verdict(town: World) -> None:
    town.start()
    ran = town.run("drill")
    assert ran.status == 0, f"{ran}{town.program.tail()}"
    (ref,) = re.findall(r"accepted as (\w+)", ran.out)
    steps = re.findall(r"(?m)^  (\w+) +(?:[\d.]+ s)? +(\w+) +(.*)$", ran.out)
    said = {name: (fate, text) for fate, name, text in steps}
    assert said["arrived"][1].startswith("from <max@example.com> by 127.0.0.1, no TLS, ")
    assert said["sender"][1] == "max@example.com, not proved (senders are not checked)"
    assert said["understood"] == ("done", "a drill, on the policy default")
    assert said["page"][1].startswith("Ana Reyes: 250")
    assert said["issue"] == ("done", town.issue(ref)["web_url"])
    assert said["receipt"][1].startswith("max@example.com: 250")
    assert said["push"] == ("none", "nobody who was paged has a channel for it")
    assert said["reply"] == ("none", "not waited for; --wait does")
    assert re.search(r"(?m)^Verdict: passed, as far as nobody is needed, in \d+\.\d s\.$", ran.out)
    assert f"{ref} goes on like a real one until somebody answers." in ran.out
    assert town.page("ana", ref).subject == f"[PANIC {ref}] DRILL: Practice, drill {spoken_in(town, ref)}"
    assert f"DRILL: Practice, drill {spoken_in(town, ref)}" in town.run("incidents").out
    assert 'panicmail_incidents{state="open"} 0.0' in town.http("GET", "/metrics")[2]


def spoken_in(town: World, ref: str) -> str:
    """The code as the issue's title says it."""
    return str(town.issue(ref)["title"]).rpartition("drill ")[2]


def test_a_drill_that_waits_ends_with_the_answer(town: World, drill: Start) -> None:
    town.start()
    running = drill("--wait")
    ref = running.line(r"accepted as (\w+)")[1]
    running.line(r"waiting +reply")
    town.reply(town.page("ana", ref), "ack")
    running.line(r"done +[\d.]+ s +reply +Ana Reyes acknowledged: reply from ana@example\.com")
    assert running.end() == 0
    assert any(line.startswith("Verdict: passed, from the mail to the answer, in ") for line in running.lines)
    assert running.lines[-1].startswith(f'{ref} is acknowledged. To close it: reply "resolve"')


def test_by_mail_rows_come_as_the_mail_of_ones_own_goes_its_way(town: World, drill: Start) -> None:
    town.start()
    running = drill("--by-mail")
    assert running.line(r"Mail this to (\S+) within 10 minutes")[1] == PANIC
    made = running.line(r"^    drill (\w{4} \w{4})$")[1]
    answer = town.send(mail("sent from a phone", sender="Max Ode <max@example.com>", subject=f"Drill {made.lower()}"))
    running.line(r"done +0\.0 s +arrived +from <rita@example\.com>")
    running.line(r"done +0\.0 s +sender +max@example\.com, not proved \(senders are not checked\)")
    running.line(r"done +[\d.]+ s +issue +http")
    running.line(r"done +[\d.]+ s +page +Ana Reyes: 250")
    running.line(r"done +[\d.]+ s +receipt +max@example\.com: 250")
    town.reply(town.page("ana", answer.ref), "on it")
    assert running.end() == 0
    assert town.issue(answer.ref)["title"] == f"[panic] DRILL: Drill {made.lower()}"


@pytest.mark.parametrize("arguments", [[], ["--by-mail"]])
def test_where_nobody_listens_it_says_so_at_once_and_gives_no_code(town: World, arguments: list[str]) -> None:
    town.start()
    town.stop()
    ran = town.run("drill", *arguments)
    (listen,) = town.config["smtp"]["listen"]
    assert (ran.status, ran.out) == (1, "")
    assert f"no panicmail listens at {listen}; start panicmail serve" in ran.err
    assert town.rows("SELECT count(*) FROM drills") == [(0,)]


def test_where_another_host_of_the_database_may_listen_it_is_a_note(
    town: World, capsys: pytest.CaptureFixture[str]
) -> None:
    town.config["database"] = {"url": "postgresql://panicmail@db.example.com/panicmail"}
    town.write_config()
    drill_command._expect_listener(configuration.load(town.path, {}))
    told = capsys.readouterr().out
    assert told.startswith(f"On this host no panicmail listens at {town.config['smtp']['listen'][0]}; ")
    assert told.endswith("Another host of this database may take the mail.\n")


def test_a_push_is_shown_by_its_service_and_not_by_our_name_for_it(town: World) -> None:
    with Provider() as provider:
        town.config["people"]["ana"]["push"] = [f"json://{provider.host}/200/ana-secret"]
        town.start()
        ran = town.run("drill")
        assert ran.status == 0, f"{ran}{town.program.tail()}"
        assert re.search(r"(?m)^  done +[\d.]+ s +push +Ana Reyes by json://127\.0\.0\.1/…: JSON took it$", ran.out)
        (ref,) = re.findall(r"accepted as (\w+)", ran.out)
        shown = town.run("show", ref)
        assert "channel=json://127.0.0.1/…" in shown.out
        facts = [line["facts"] for line in town.run("show", ref, "--json").json["timeline"]]
        assert {fact["channel"] for fact in facts if "channel" in fact} == {"mail", "json://127.0.0.1/…"}
        assert "push-" not in f"{ran.out}{shown.out}"


def test_a_page_that_is_refused_is_the_verdict(town: World) -> None:
    town.expected |= {"page.refused"}
    town.relay.rule("ana@example.com", "reject")
    town.start()
    ran = town.run("drill", "--from", "rita@example.com")
    assert ran.status == 1
    assert re.search(r"(?m)^  failed +[\d.]+ s +page +Ana Reyes: 550", ran.out)
    assert "Verdict: FAILED. page: Ana Reyes: 550" in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--via", "127.0.0.1:99999"], "'127.0.0.1:99999' is no HOST:PORT"),
        (["--by-mail", "--from", "x@example.com"], "you send the mail yourself"),
    ],
)
def test_wrong_usage_is_said_with_what_would_be_right(town: World, arguments: list[str], said: str) -> None:
    ran = town.run("drill", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err


def test_a_listener_whose_port_nobody_knows_wants_a_door(tmp_path: Path) -> None:
    with world(tmp_path) as town:
        town.start()
        refused = town.run("drill")
        assert (refused.status, "--via HOST:PORT" in refused.err) == (1, True)
        refused = town.run("drill", "--via", "127.0.0.1:1")
        assert refused.status == 1
        assert "127.0.0.1:1 did not take the mail: " in refused.err
        assert "is panicmail serve running there?" in refused.err
        host, port = town.smtp_address
        assert town.run("drill", "--via", f"{host}:{port}").status == 0
        assert town.rows("SELECT state, drill FROM incidents") == [(State.OPEN.value, 1)]
