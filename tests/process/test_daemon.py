"""The daemon as a process: what it promises across signals, kills, locks and full disks, on real sockets and files."""

from __future__ import annotations

import json
import resource
import signal
import smtplib
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trustme

from panicmail import config as configuration
from panicmail import log
from panicmail.daemon.serve import Daemon
from panicmail.sandbox.relay_server import Received
from panicmail.store import migrate, open_store
from panicmail.store.database import Database
from tests.daemon_facts import NOT_WRITTEN, calendar
from tests.office import mail
from tests.program import GITLAB_TOKEN, RELAY_PASSWORD, SOON, TOKEN, Ran, World, world

#: What uvicorn says of a request that never ended.
CUT_OFF = ("Cancel 1 running task(s), timeout graceful shutdown exceeded", r"Exception in ASGI application\n")

#: What is said of a mail whose understanding a kill cut short.
AGAIN = "intake.again"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    """A world in which nothing but the first page is due while a test runs."""
    with world(tmp_path) as town:
        yield town


# -- the main story


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_a_mail_becomes_an_issue_a_page_and_a_receipt_and_a_reply_stops_the_clock(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("postgres_url") if store == "postgresql" else "sqlite:///panicmail.db"
    with world(tmp_path, database=url) as town:
        _, facts = town.start().wait_for("authentication.off")
        assert "token and the From address" in facts["text"], "the log says what an acknowledgement rests on"
        ref = town.panic("Ransom note", "My files are .locked, Slack is gone.\nCall me: +49 170 0000000")

        page = town.page("ana", ref)
        assert page.subject == f"[PANIC {ref}] Ransom note"
        assert "| My files are .locked, Slack is gone." in page.text
        assert page.login == "panic", "the relay's credentials were used"
        issue = town.issue(ref)
        assert (issue["confidential"], issue["issue_type"]) == (True, "incident")
        assert [person["username"] for person in issue["assignees"]] == ["ana"]
        receipt = town.received("rita@example.com", lambda got: ref in got.text)
        assert issue["web_url"] in receipt.text
        assert receipt.mail_from == ""

        assert town.pages("max", ref) == []
        town.later(timedelta(minutes=10))
        assert "YOURS NOW" in town.page("max", ref).subject
        assert town.reply(page, "ack").code == 250
        assert "Ana Reyes has it" in town.received("ana", lambda got: got.subject.startswith(f"[{ref}]")).subject
        assert "Ana Reyes has it" in town.received("max", lambda got: got.subject.startswith(f"[{ref}]")).text
        assert town.received("rita@example.com", lambda got: "acknowledged" in got.text)
        town.until(
            lambda: [n for n in town.gitlab.notes_of(issue["iid"]) if "Ana" in n["body"] and n["internal"]],
            SOON,
            "the acknowledgement is no note",
        )
        shown = town.run("show", ref, "--json").json
        assert (shown["state"], shown["holder"], shown["next_step_at"]) == ("acked", "ana", None)
        assert shown["breached_at"]
        assert town.stop() == 0


def test_the_smoc_is_paged_when_the_sla_passes_and_again_until_somebody_answers(town: World) -> None:
    town.start()
    ref = town.panic("Ransom note", "help")
    town.page("ana", ref)
    town.settled()
    assert town.pages("max", ref) == []
    town.later(timedelta(minutes=10))
    page = town.page("max", ref)
    town.settled()
    assert len(town.pages("max", ref)) == 1
    town.later(timedelta(minutes=10))
    again = town.page("max", ref, count=2)
    assert again.header("Message-ID") != page.header("Message-ID")
    town.reply(again, "on it")
    assert "Max Ode has it" in town.received("ana", lambda got: got.subject.startswith(f"[{ref}]")).text


def test_of_two_acknowledgements_that_race_one_has_it_and_the_other_is_told(tmp_path: Path) -> None:
    with world(tmp_path, steps=[("0s", "seoc", "smoc")]) as town:
        town.start()
        for ref in [town.panic(f"Panic {n}") for n in range(3)]:
            pages = [town.page(person, ref) for person in ("ana", "max")]
            together = threading.Barrier(2)

            def acknowledge(page: Received, together: threading.Barrier = together) -> int:
                together.wait(SOON)
                return town.reply(page, "ack").code

            with ThreadPoolExecutor(2) as pool:
                assert list(pool.map(acknowledge, pages)) == [250, 250]
            town.settled()
            ((holder, acked),) = town.rows(
                "SELECT holder, (SELECT count(*) FROM timeline WHERE incident_id = i.id AND event = 'incident.acked') "
                "FROM incidents i WHERE ref = ?",
                ref,
            )
            assert acked == 1
            other, name = {"ana": ("max", "Ana Reyes"), "max": ("ana", "Max Ode")}[holder]
            told = [got.text for got in news_of(town, other, ref)]
            assert len(told) == 2, "that the other has it, and the answer to a yes that came second"
            assert all(f"{name} has it" in text for text in told), told
            assert [got.subject for got in news_of(town, holder, ref)] == [f"[{ref}] Clock stopped: {name} has it"]


def news_of(town: World, person: str, ref: str) -> list[Received]:
    """What somebody was told about an incident, besides pages."""
    return town.relay.all(lambda got: got.to(f"{person}@example.com") and got.subject.startswith(f"[{ref}]"))


# -- kill -9


def test_a_mail_with_a_250_survives_a_kill_at_any_moment_after_it(tmp_path: Path) -> None:
    with world(tmp_path, expects=[AGAIN]) as town:
        refs: list[str] = []
        unsent = (
            "SELECT id FROM mails WHERE state = 'accepted' "
            "UNION ALL SELECT id FROM outbox WHERE do = 'page' AND state IN ('queued', 'trying')"
        )
        for seconds in (0.0, 0.0, 0.0, 0.01, 0.15):
            town.start()
            town.until(lambda: not town.rows(unsent), SOON, "what was accepted before the kill is not paged")
            with closing(town.begin_mail()) as client:
                refs.append(town.finish_mail(client).ref)
                time.sleep(seconds)
                town.program.kill()
        town.start()
        for ref in refs:
            town.page("ana", ref)
            town.issue(ref, 40)
        town.settled(40)
        for ref in refs:
            assert 1 <= len(pages := town.pages("ana", ref)) <= 2, ref
            assert len({page.header("Message-ID") for page in pages}) == 1, "a repeat is the same mail"
            assert len(town.issues(ref)) == 1, ref
            assert town.pages("max", ref) == []
        assert town.rows("SELECT count(*) FROM mails") == town.rows("SELECT count(*) FROM incidents") == [(5,)]


def test_a_deadline_that_passes_while_nothing_runs_is_kept_at_the_start_and_said_to_be_late(town: World) -> None:
    town.start()
    ref = town.panic()
    town.page("ana", ref)
    town.settled()
    town.program.kill()
    town.later(timedelta(hours=1))
    ready_at, _ = town.start().wait_for("ready")
    page = town.page("max", ref)
    assert page.received_at - ready_at < SOON
    assert "panicmail was down: this is 50 min late." in page.text
    town.settled()
    assert (len(town.pages("max")), len(town.pages("ana"))) == (1, 2), "once each for everything that was missed"


# -- SIGTERM


def test_sigterm_ends_in_time_with_0_whoever_hangs_and_what_got_a_250_is_kept(tmp_path: Path) -> None:
    with world(tmp_path, expects=[*CUT_OFF, AGAIN]) as town:
        town.gitlab.fault("hang", times=None)
        program = town.start()
        refs = [town.panic()]
        town.page("ana", refs[0])
        half_asked = hanging_request(town)
        finishing, silent = (town.begin_mail() for _ in range(2))
        with half_asked, closing(finishing), closing(silent):
            began = time.monotonic()
            program.signal(signal.SIGTERM)
            town.until(lambda: not is_listening(town), 5, "it still listens")
            refs.append(town.finish_mail(finishing).ref)
            assert program.ended(12) == 0
            assert time.monotonic() - began < 10
            with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
                silent.getreply()
        assert town.rows("SELECT count(*) FROM mails") == [(2,)]
        town.start()
        for ref in refs:
            town.page("ana", ref)


def hanging_request(town: World) -> socket.socket:
    """A POST that never says its word."""
    host, _, port = str(town.program.wait_for("ready")[1]["web"]).rpartition(":")
    client = socket.create_connection((host, int(port)), SOON)
    client.sendall(b"POST /i/x HTTP/1.1\r\nHost: panic.example.com\r\nContent-Length: 8\r\n\r\nword")
    return client


def is_listening(town: World) -> bool:
    try:
        socket.create_connection(town.smtp_address, 1).close()
    except OSError:
        return False
    return True


def test_systemd_is_told_of_readiness_of_life_and_of_the_stop(town: World) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(SOON)
        systemd.bind(f"\0{town.folder}"[:100])
        town.environ["NOTIFY_SOCKET"] = "@" + systemd.getsockname()[1:].decode()
        town.start()
        said = {systemd.recv(100) for _ in range(2)}
        assert said == {b"READY=1", b"WATCHDOG=1"}
        assert town.stop() == 0
        while (last := systemd.recv(100)) == b"WATCHDOG=1":
            pass
        assert last == b"STOPPING=1"


# -- SIGHUP


def test_a_wrong_configuration_is_reported_whole_and_the_running_one_kept(tmp_path: Path) -> None:
    with world(tmp_path, expects=["config.refused"]) as town:
        town.start()
        town.config["oncall"]["seoc"]["fixed"] = ["zoe"]
        town.config["escalation"]["repeat"] = "often"
        town.config["smtp"]["hostnam"] = "x.example.com"
        mistakes = town.reload("config.refused")["mistakes"]
        assert len(mistakes) == 3
        for word in ("zoe", "often", "hostnam"):
            assert any(word in mistake for mistake in mistakes), mistakes
        town.path.write_text("this is = not [toml")
        town.program.signal(signal.SIGHUP)
        assert "not TOML" in str(town.program.wait_for("config.refused", count=2)[1]["mistakes"])
        town.path.unlink()
        town.program.signal(signal.SIGHUP)
        assert "No such file" in str(town.program.wait_for("config.refused", count=3)[1]["mistakes"])
        town.page("ana", town.panic())


def test_the_first_look_at_everything_comes_five_minutes_after_the_start_and_then_each_hour(town: World) -> None:
    town.start()  # makes the database, and shows that the configuration is right
    town.stop()
    config = configuration.load(town.path, {})
    with closing(open_store.open_database(config)) as database:
        scheduler = Daemon(config, database)._build_scheduler()
    (job,) = (job for job in scheduler.get_jobs() if job.id == "hour")
    assert timedelta(minutes=4, seconds=50) < job.next_run_time - datetime.now(UTC) <= timedelta(minutes=5)
    assert job.trigger.interval == timedelta(hours=1)


def test_a_changed_roster_pages_the_new_people_from_then_on_and_what_needs_a_restart_is_named(town: World) -> None:
    town.start()
    before = town.panic("before")
    page = town.page("ana", before)
    town.config["oncall"]["seoc"]["fixed"] = ["bo"]
    town.config["oncall"]["smoc"]["fixed"] = ["bo"]
    assert town.reload()["restart_needed"] == []
    town.page("bo", town.panic("after"))
    town.reply(page, "no")
    town.page("bo", before)
    assert len(town.pages("ana")) == 1
    assert town.pages("max") == []
    town.config["gitlab"]["labels"] = ["urgent"]
    town.config["web"]["url"] = "https://elsewhere.example.com"
    assert town.reload()["restart_needed"] == ["gitlab", "web"]
    town.config["gitlab"] |= {"labels": ["security-incident"], "webhook_token": "hook-secret"}
    town.config["paging"] = {"detail": "ref"}
    assert town.reload()["restart_needed"] == ["web"]


def test_sighup_reads_a_calendar_again_whatever_its_turn_and_a_refused_one_keeps_it(town: World) -> None:
    rota = town.folder / "seoc.ics"
    rota.write_text(calendar("Ana Reyes"))
    town.config["oncall"]["seoc"] = {"ical": "seoc.ics", "ical_refresh": "1d"}
    town.start()
    town.page("ana", town.panic("first"))
    rota.write_text(calendar("Bo Low"))
    town.reload()
    town.program.wait_for("rosters.in_force")
    town.page("bo", town.panic("second"))
    assert len(town.pages("ana")) == 1
    town.config["oncall"]["seoc"]["ical_refresh"] = "often"
    town.expected.add("config.refused")
    town.reload("config.refused")
    assert town.page("bo", town.panic("third"))


# -- what cannot work


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("nfty://ntfy.example.com/ana-secret", "no push service of that scheme; expected ntfy://"),
        ("nothing://ana-secret", "no push service of that scheme"),
        ("tgram://ana-secret", "does not understand this URL of that service"),
    ],
)
@pytest.mark.parametrize("place", ["people.ana.push[0]", "watch.push[0]"])
def test_a_push_url_no_service_knows_is_refused_before_anything_listens(
    place: str, url: str, found: str, town: World
) -> None:
    (town.config["people"]["ana"] if "ana" in place else town.config.setdefault("watch", {}))["push"] = [url]
    town.write_config()
    refused = town.run("serve")
    (sentence,) = said_last(refused)
    assert (refused.status, place in sentence, found in sentence) == (2, True, True)
    assert "ana-secret" not in sentence
    checked = town.run("check", "--offline")
    assert (checked.status, "ana-secret" in checked.out) == (1, False)


def test_a_reload_with_a_push_url_no_service_knows_changes_nothing(town: World) -> None:
    town.start()
    town.expected.add("config.refused")
    town.config["people"]["ana"]["push"] = ["nfty://ntfy.example.com/ana-secret"]
    (mistake,) = town.reload("config.refused")["mistakes"]
    assert "people.ana.push[0]" in mistake
    assert town.page("ana", town.panic())


def test_a_secret_in_the_clear_is_told_at_the_start(town: World) -> None:
    town.config["paging"] = {"pagerduty_url": "http://events.example.com"}
    facts = town.start().wait_for("config.warning")[1]
    assert facts["text"].startswith("paging.pagerduty_url: the integration key crosses the network in the clear")


# -- starting where it must not


def said_last(refused: Ran) -> list[str]:
    """Why it did not start, as its log has it: every line is JSON, and critical where it is the reason."""
    lines = [json.loads(line) for line in refused.err.splitlines()]
    critical = [line for line in lines if line["level"] == "critical"]
    assert {line["event"] for line in critical} <= {"config.refused", "start.failed"}
    return [said for line in critical for said in line.get("mistakes", [line.get("reason")])]


@pytest.mark.parametrize("command", ["serve", "watch"])
@pytest.mark.parametrize("wrong", ["not TOML", "[smtp]\naddresses = 5\n", None])
def test_why_it_does_not_start_is_json_whatever_is_wrong(command: str, wrong: str | None, town: World) -> None:
    town.path.write_text(wrong or "")
    if wrong is None:
        town.path.unlink()
    refused = town.run(command)
    assert refused.status == 2
    assert said_last(refused)


def test_a_second_daemon_on_the_same_file_is_refused_with_a_sentence(town: World) -> None:
    town.start()
    second = town.run("serve")
    assert (second.status, second.out) == (1, "")
    assert said_last(second) == [f"another panicmail serve uses {town.database}; stop it first"]
    town.page("ana", town.panic())


@pytest.mark.parametrize("kind", ["smtp", "web"])
def test_a_port_that_is_taken_is_a_sentence_not_a_traceback(kind: str, town: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        town.config[kind]["listen"] = [address] if kind == "smtp" else address
        town.write_config()
        refused = town.run("serve")
    assert refused.status == 1
    assert "Traceback" not in refused.err
    hint = "ss -ltnp names who does, and so does panicmail check"
    assert said_last(refused) == [f"cannot listen on {address}: Address already in use; {hint}"]
    assert not [line for line in refused.err.splitlines() if json.loads(line)["level"] == "error"]


def test_a_wrong_configuration_ends_with_2_and_every_mistake_before_anything_listens(town: World) -> None:
    town.config["smtp"]["listen"] = ["127.0.0.1:2525x"]
    town.config["people"]["ana"]["email"] = "not an address"
    town.config["oncall"]["smoc"]["fixed"] = ["maxx"]
    town.config["gitlab"]["tokn_file"] = "x"
    town.config["escalation"]["steps"][1]["page"] = []
    town.write_config()
    refused = town.run("serve")
    assert (refused.status, refused.out) == (2, "")
    mistakes = said_last(refused)
    assert len(mistakes) == 5, refused.err
    for key in ("smtp.listen", "people.ana.email", "oncall.smoc.fixed", "gitlab.tokn_file", "escalation.steps"):
        assert any(key in line and "found" in line and "expected" in line for line in mistakes), key
    assert not town.database.exists()


def test_results_of_a_mail_server_nobody_named_are_refused_with_a_sentence_for_each_key(town: World) -> None:
    town.config["authentication"] = {"method": "trusted"}
    town.write_config()
    refused = town.run("serve")
    assert refused.status == 2
    relays, names = said_last(refused)
    assert "smtp.trusted_relays: found nothing" in relays
    assert "authentication.trusted_authserv_ids: found nothing" in names


# -- a database that does not take it


def test_while_the_database_is_locked_the_spool_takes_a_mail_and_people_are_called_from_memory(tmp_path: Path) -> None:
    with world(tmp_path, expects=[*NOT_WRITTEN, "mail.spooled", "emergency.calls"]) as town:
        town.start()
        kept = town.panic("before")
        town.page("ana", kept)
        town.settled()
        lock = sqlite3.connect(town.database, isolation_level=None)
        with closing(town.begin_mail()) as client, closing(lock):
            lock.execute("BEGIN IMMEDIATE")
            spooled = town.finish_mail(client)
            assert spooled.code == 250
            town.program.wait_for("mail.spooled")
            for person in ("ana", "max"):
                page = town.page(person, spooled.ref)
                assert "DATABASE AWAY: slowly" in page.subject
                assert "| as far as this, and then" in page.text
            assert town.http("GET", "/healthz")[0] == 200, "it lives, and takes mails"
            assert town.http("GET", "/readyz")[0] == 503
            lock.execute("ROLLBACK")
        town.page("ana", spooled.ref, count=2)
        town.page("ana", town.panic("after"))
        assert town.rows("SELECT subject FROM incidents ORDER BY accepted_at") == [("before",), ("slowly",), ("after",)]
        town.settled()
        assert town.http("GET", "/readyz")[0] == 200
        assert not list(town.folder.glob("panicmail.spool/*"))


def test_a_mail_that_neither_database_nor_spool_takes_is_a_451_and_people_are_told_about_panicmail(
    tmp_path: Path,
) -> None:
    with world(tmp_path, expects=[*NOT_WRITTEN, "spool.failed", "spool.unreadable"]) as town:
        (town.folder / "panicmail.spool").write_text("not a folder")
        town.config["database"]["spool"] = "panicmail.spool/inside"
        town.start()
        lock = sqlite3.connect(town.database, isolation_level=None)
        with closing(town.begin_mail()) as client, closing(lock):
            lock.execute("BEGIN IMMEDIATE")
            answer = town.finish_mail(client)
            assert (answer.code, answer.text) == (451, "4.3.0 Temporary failure. Try again.")
            _, facts = town.program.wait_for("mail.not_accepted")
            assert "cannot be written: Not a directory" in facts["reason"]
            for person in ("ana", "max"):
                town.received(person, lambda got: got.subject == "[panicmail] panicmail takes no mail")
            lock.execute("ROLLBACK")
        town.page("ana", town.panic("after"))


#: Starts a program to which modes of files matter, even for root.
WITHOUT_OVERRIDE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_read_only_database_is_refused_at_the_start_with_a_sentence(town: World) -> None:
    made = Database(f"sqlite:///{town.database}")
    migrate.upgrade(made)
    made.close()
    town.database.chmod(0o400)
    command = [sys.executable, "-c", WITHOUT_OVERRIDE, sys.executable, "-m", "panicmail", "serve", "-c", str(town.path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 1
    *logged, sentence = refused.stderr.splitlines()
    assert json.loads(sentence)["reason"] == "attempt to write a readonly database"
    assert {json.loads(line)["event"] for line in logged} <= {"authentication.off"}, "nothing listened yet"


def test_a_disk_that_takes_no_more_never_gives_a_250_and_loses_none_that_was_given(tmp_path: Path) -> None:
    with world(tmp_path, expects=[*NOT_WRITTEN, "store.broken", AGAIN]) as town:
        program = town.start()
        refs = [town.panic(f"Panic {n}") for n in range(3)]
        resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        answers = [town.send(mail("this one must not get a 250", subject="full")) for _ in range(3)]
        assert {answer.code for answer in answers} <= {0, 421, 451}, answers
        program.wait_for("store.write_failed")
        program.wait_for("store.broken")
        assert program.ended(12) == 1
        town.start()
        refs.append(town.panic("after"))
        for ref in refs:
            town.page("ana", ref)
        town.settled(40)
        assert town.rows("SELECT count(*) FROM incidents WHERE subject = 'full'") == [(0,)]


def test_a_failure_of_the_database_is_logged_without_what_was_to_be_written(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'panicmail.db'}")
    with closing(database.engine.connect()) as connection, connection.begin():
        text = "a text that is nobody else's business"
        with pytest.raises(sa.exc.DBAPIError) as failed:
            connection.execute(sa.text("INSERT INTO nowhere VALUES (:text)"), {"text": text})
    database.close()
    assert "INSERT INTO nowhere" in log.explain(failed.value)
    assert text not in log.explain(failed.value)


# -- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_starttls_works_beside_plaintext_and_a_new_certificate_comes_with_sighup(
    town: World, authority: trustme.CA
) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    town.config["smtp"] |= {"tls_cert_file": "tls.crt", "tls_key_file": "tls.key"}
    issue_certificate(authority, town.folder, "first")
    town.start()
    assert town.send(mail("over TLS"), tls=trusting).code == 250
    assert town.send(mail("in the clear")).code == 250
    assert certificate_name(town, trusting) == "first"
    issue_certificate(authority, town.folder, "second")
    town.reload()
    assert certificate_name(town, trusting) == "second"
    (over_tls,), (clear,) = town.rows("SELECT tls FROM mails ORDER BY accepted_at")
    assert over_tls.startswith("TLSv1.3")
    assert clear == ""


def issue_certificate(authority: trustme.CA, folder: Path, name: str) -> None:
    issued = authority.issue_cert("127.0.0.1", common_name=name)
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    (folder / "tls.key").chmod(0o600)


def certificate_name(town: World, trusting: ssl.SSLContext) -> str:
    with town.connect() as client:
        client.starttls(context=trusting)
        assert isinstance(client.sock, ssl.SSLSocket)
        certificate = client.sock.getpeercert()
        assert certificate is not None
        names: dict[Any, Any] = dict(field[0] for field in certificate["subject"])  # type: ignore[misc]
        return str(names["commonName"])


# -- the web


def test_the_machines_pages_answer_and_the_board_is_closed(town: World) -> None:
    town.start()
    town.page("ana", town.panic())
    assert town.http("GET", "/healthz")[::2] == (200, '{"alive":true}')
    assert town.http("GET", "/readyz")[::2] == (200, '{"ready":true,"reasons":[]}')
    status, _, figures = town.http("GET", "/metrics")
    assert status == 200
    assert 'panicmail_incidents{state="open"} 1.0' in figures
    assert "panicmail_mails_accepted_total 1.0" in figures
    assert town.http("GET", "/")[0] == 401


def test_a_link_shows_on_get_and_acts_on_post_only(town: World) -> None:
    town.start()
    ref = town.panic()
    link = next(word for word in town.page("ana", ref).text.split() if "/i/" in word)
    path = link.removeprefix("https://panic.example.com")
    town.settled()
    before = town.rows("SELECT * FROM incidents"), town.rows("SELECT * FROM timeline")
    for method in ("GET", "HEAD"):
        assert town.http(method, f"{path}?word=ack")[0] == 200
    assert (town.rows("SELECT * FROM incidents"), town.rows("SELECT * FROM timeline")) == before
    assert town.http("POST", path[:-1] + ("a" if path[-1] != "a" else "b"), "word=ack")[0] == 404
    status, headers, _ = town.http("POST", path, "word=ack")
    assert status == 303
    assert "you have it" in town.http("GET", path + headers["location"])[2]
    assert town.rows("SELECT state, holder, acked_how FROM incidents") == [
        ("acked", "ana", "by link, not authenticated")
    ]


# -- the log


def test_no_token_secret_or_text_of_a_mail_is_in_the_log_when_everything_goes_wrong(tmp_path: Path) -> None:
    with world(tmp_path, expects=["adapter.barred", "receipt.refused"]) as town:
        town.gitlab.fault(
            "status", status=403, body={"message": f"no, {GITLAB_TOKEN}"}, times=2, match="POST .*/issues"
        )
        town.relay.rule("max@", "reject", 450, times=1)
        town.relay.rule("rita@", "reject", 550)
        program = town.start()
        ref = town.panic("Ransom note", "The words of the mail are nobody else's business.")
        page = town.page("ana", ref)
        town.reply(page, "I cannot say a word that means yes or no today")
        town.send(mail("a report to a token that is none"), to=f"panic+{page.header('Reply-To')[6:20]}@example.com")
        town.send(mail("nobody's address"), to="somebody.else@example.com")
        town.reply(page, "no")
        town.page("max", ref)
        town.reply(page, "ack")
        town.until(lambda: town.rows("SELECT 1 FROM incidents WHERE holder = 'ana'"), SOON, "ana does not have it")
        assert town.stop() == 0
    text = "\n".join(program.lines)
    assert "nobody else's business" in " ".join(town.texts), "the mails' texts were looked for"
    for secret in (GITLAB_TOKEN, RELAY_PASSWORD, *town.texts):
        assert secret not in text
    assert not TOKEN.search(text)
    assert all(json.loads(line)["event"] for line in program.lines)
