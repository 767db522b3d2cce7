"""The commands as processes: what they answer, with which exit status, and what the running daemon makes of them."""

from __future__ import annotations

import base64
import contextlib
import getpass
import json
import os
import pty
import re
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from panicmail.incident.model import Incident
from tests.office import Office, mail
from tests.program import Ran, World, run, world

RAW = mail("My files are .locked, Slack is gone.\n\x1b[2Jand my screen", subject="Ransom note")
#: Clears a terminal, in two spellings; turns the direction of writing; forges a line.
NASTY = "red \x1b[31m csi \x9b2J bidi \u202e bell \x07 end\r\nREF forged"
#: Characters a terminal obeys: control characters and the marks that turn the direction of writing.
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Records:
    """A configuration and its database: three incidents of the last hour, and no daemon."""

    town: World
    late: Incident  #: acknowledged by Max after the SLA
    quick: Incident  #: acknowledged by Ana at once
    open: Incident  #: open; Ana was paged; its words are nasty

    def run(self, *arguments: str) -> Ran:
        return self.town.run(*arguments)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    """Made once; for commands that change nothing."""
    with world(tmp_path_factory.mktemp("kept")) as town:
        yield Records(town, **made(town.folder))


@pytest.fixture
def records(kept: Records, tmp_path: Path) -> Iterator[Records]:
    """A copy, for commands that change something."""
    with world(tmp_path) as town:
        shutil.copy(kept.town.database, town.database)
        yield Records(town, late=kept.late, quick=kept.quick, open=kept.open)


def made(folder: Path) -> dict[str, Incident]:
    office = Office(folder)
    with contextlib.closing(office):
        office.now = datetime.now(UTC) - timedelta(hours=1)
        office.deliver(RAW)
        (late,) = office.incidents()
        office.wait(minutes=16)
        office.reply(office.page("max"), "on it")
        quick = office.panic(subject="Phone lost")
        office.reply(office.page("ana"), "ack")
        office.wait(seconds=1)
        encoded = "".join(f"={octet:02X}" for octet in NASTY.encode())
        nasty = office.panic(
            "text", subject=f"=?utf-8?q?{encoded}?=", sender=f"=?utf-8?q?{encoded}?= <rita@example.com>"
        )
        return {"late": late, "quick": quick, "open": nasty}


def arguments_of(kept: Records, *words: str) -> list[str]:
    return [kept.late.ref if word == "REF" else word for word in words]


# -- looking

READING = [["incidents"], ["show", "REF"], ["oncall"], ["report"]]


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_reading_command_answers_people_in_lines_and_machines_in_one_document(
    kept: Records, words: list[str]
) -> None:
    lines = kept.run(*arguments_of(kept, *words))
    assert (lines.status, lines.err) == (0, "")
    assert not lines.out.lstrip().startswith(("{", "["))
    document = kept.run(*arguments_of(kept, *words), "--json")
    assert (document.status, document.err) == (0, "")
    assert isinstance(document.json, dict | list)


def test_incidents_are_listed_newest_first_and_by_state(kept: Records) -> None:
    everything = [kept.open.ref, kept.quick.ref, kept.late.ref]
    assert [incident["ref"] for incident in kept.run("incidents", "--json").json] == everything
    assert [line.split()[0] for line in kept.run("incidents").out.splitlines()] == ["REF", *everything]
    (only,) = kept.run("incidents", "--state", "open", "--json").json
    assert (only["ref"], only["state"], only["paged"]) == (kept.open.ref, "open", ["ana"])


def test_show_tells_what_happened_and_what_was_sent(kept: Records) -> None:
    shown = kept.run("show", kept.late.ref.lower(), "--json").json
    events = [line["event"] for line in shown["timeline"]]
    assert events[:2] == ["incident.opened", "people.paged"]
    assert events.index("sla.breached") < events.index("incident.acked")
    assert {(sent["do"], sent["person"], sent["state"]) for sent in shown["outbox"]} >= {
        ("page", "ana", "accepted"),
        ("page", "max", "accepted"),
        ("receipt", None, "accepted"),
    }
    assert [each["from"] for each in shown["mails"]] == ["rita@example.com", "max@example.com"]
    text = kept.run("show", kept.late.ref).out
    for word in ("Ransom note", "sla.breached", "incident.acked", "max", "page"):
        assert word in text


def test_mail_prints_the_raw_message_octet_for_octet(kept: Records) -> None:
    command = [sys.executable, "-m", "panicmail", "mail", "-c", str(kept.town.path), kept.late.ref]
    assert subprocess.run(command, capture_output=True, timeout=30, check=True).stdout == RAW


def test_oncall_says_who_where_from_and_until_when(kept: Records) -> None:
    document = kept.run("oncall", "--at", "2026-12-24T18:00+01:00", "--json").json
    assert datetime.fromisoformat(document["at"]) == datetime(2026, 12, 24, 17, tzinfo=UTC)
    assert document["on_call"] == [
        {"role": "seoc", "person": "ana", "name": "Ana Reyes", "until": None, "source": "fixed"},
        {"role": "smoc", "person": "max", "name": "Max Ode", "until": None, "source": "fixed"},
    ]
    assert "Ana Reyes" in kept.run("oncall").out


def test_report_counts_what_was_answered_in_time(kept: Records) -> None:
    figures = kept.run("report", "--since", "12h", "--json").json
    assert (figures["incidents"], figures["judged"], figures["attained"], figures["breached"]) == (3, 3, 1, 2)
    assert (figures["open"], figures["acked"], figures["attained_percent"]) == (1, 2, 33.3)
    assert figures["seconds_to_ack_max"] == 960
    assert kept.run("report", "--since", "1m", "--json").json["attained_percent"] is None


def test_who_only_looks_does_not_wait_for_who_writes(kept: Records) -> None:
    with contextlib.closing(sqlite3.connect(kept.town.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # held all the while: whoever waits for it, waits in vain and fails
        assert len(kept.run("incidents", "--json").json) == 3
        other.execute("ROLLBACK")


# -- a stranger's words


@pytest.mark.parametrize("words", [["incidents"], ["show"]], ids=" ".join)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["lines", "json"])
def test_nothing_a_sender_wrote_steers_the_terminal(kept: Records, words: list[str], form: list[str]) -> None:
    ref = [kept.open.ref] if words == ["show"] else []
    answer = kept.run(*words, *ref, *form)
    assert answer.status == 0
    assert "bidi" in answer.out, "the subject is there"
    assert OBEYED.findall(answer.out) == []
    assert not any(line.startswith("REF forged") for line in answer.out.splitlines())


def test_a_raw_message_on_a_terminal_is_shown_without_what_it_would_obey(kept: Records) -> None:
    shown = on_a_terminal(sys.executable, "-m", "panicmail", "mail", "-c", str(kept.town.path), kept.late.ref)
    assert "My files are .locked" in shown
    assert OBEYED.findall(shown.replace("\r\n", "\n")) == []


def on_a_terminal(*command: str) -> str:
    """What a command writes to a terminal."""
    ours, its = pty.openpty()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=its, stderr=its) as running:
        os.close(its)
        octets = b""
        with contextlib.suppress(OSError):  # how a terminal says that everybody left
            while piece := os.read(ours, 65536):
                octets += piece
        os.close(ours)
        assert running.wait(30) == 0
    return octets.decode()


def test_a_reader_that_has_seen_enough_is_no_reason_to_complain(kept: Records) -> None:
    command = [sys.executable, "-m", "panicmail", "show", "--json", "-c", str(kept.town.path), kept.late.ref]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""


# -- acting


def ran_by() -> str:
    return f"command run by {getpass.getuser()} on {socket.gethostname()}"


def test_an_act_by_command_is_done_told_to_the_others_and_signed(tmp_path: Path) -> None:
    with world(tmp_path, steps=[("0s", "seoc", "smoc")]) as town:
        town.start()
        ref = town.panic()
        for person in ("ana", "max"):
            town.page(person, ref)

        assert town.run("ack", ref, "--as", "ana").out == f"{ref}: acknowledged, Ana Reyes has it.\n"
        told = town.received("max", lambda got: got.subject.startswith(f"[{ref}]"))
        assert "Ana Reyes has it" in told.text
        town.received("ana", lambda got: "Clock stopped" in got.subject and ran_by() in got.text)
        assert ran_by() in told.text, "and how that was verified"
        town.received("rita@example.com", lambda got: "acknowledged" in got.text)

        assert town.run("take", ref, "--as", "Max").out == f"{ref}: acknowledged, Max Ode has it.\n"
        town.received("ana", lambda got: "Max Ode has taken it over" in got.text)

        assert town.run("escalate", ref, "--as", "max").out == f"{ref}: open, nobody has it.\n"
        assert "STILL OPEN" in town.page("ana", ref, count=2).subject

        town.run("ack", ref, "--as", "ana")
        closed = town.run("resolve", ref, "--as", "ana", "--json")
        assert (closed.status, closed.json["state"], closed.json["outcome"]) == (0, "resolved", "done")
        town.received("rita@example.com", lambda got: "was closed" in got.text)

        timeline = town.run("show", ref, "--json").json["timeline"]
        signed = [(line["event"], line["actor"]) for line in timeline if line["facts"].get("how") == ran_by()]
        assert signed == [
            ("incident.acked", "ana"),
            ("incident.taken", "max"),
            ("incident.escalated", "max"),
            ("incident.acked", "ana"),
            ("incident.resolved", "ana"),
        ]


def test_retry_says_when_nothing_waits(records: Records) -> None:
    records.town.rows("UPDATE outbox SET state = 'accepted', barred = NULL")
    assert records.run("retry").out == "Nothing waits to be tried again.\n"
    assert records.run("retry", records.open.ref).out == f"Nothing of {records.open.ref} waits to be tried again.\n"
    assert records.run("retry", "--json").json == {"ref": None, "tried_again": 0, "barred": {}}


def test_retry_has_the_running_daemon_try_at_once_and_show_tells_what_waits_and_why(tmp_path: Path) -> None:
    with world(tmp_path) as town:
        town.expected |= {"adapter.barred"}
        body = {"message": "401 Unauthorized"}
        town.gitlab.fault("status", status=401, body=body, times=None)
        town.start()
        ref = town.panic()
        town.program.wait_for("adapter.barred")
        waits = [sent["answer"] for sent in town.run("show", ref, "--json").json["outbox"] if sent["do"] == "issue"]
        assert waits == ["waits for gitlab: GitLab answered 401: 401 Unauthorized"]
        assert "waits for gitlab: GitLab answered 401" in town.run("show", ref).out
        town.gitlab.clear_faults()
        told = town.run("retry", ref).out.splitlines()
        assert re.fullmatch(f"Tried again now of {ref}: [1-9]\\.", told[0])
        assert told[1].startswith("  gitlab: the oldest goes first, the rest when it gets through. It said: GitLab")
        town.issue(ref)
        town.program.wait_for("adapter.works_again")
        assert len(town.issues(ref)) == 1


def test_a_later_mail_of_the_thread_is_given_by_its_id_and_a_wrong_id_is_answered_with_the_right_ones(
    records: Records,
) -> None:
    wrong = records.run("mail", records.late.ref, "nothing")
    assert wrong.status == 1
    known = wrong.err.strip().rpartition("it has ")[2].split(", ")
    assert records.run("mail", records.late.ref, known[0]).out == records.run("mail", records.late.ref).out


def test_a_mail_as_json_has_its_envelope_and_its_octets(records: Records) -> None:
    document = records.run("mail", records.late.ref, "--json").json
    raw = records.run("mail", records.late.ref).out
    assert base64.b64decode(document["raw_base64"]).decode().splitlines() == raw.splitlines()
    assert document["id"].startswith(records.late.id)
    assert isinstance(document["recipients"], list)


def test_a_second_yes_by_command_changes_nothing_and_says_who_has_it(records: Records) -> None:
    again = records.run("ack", records.late.ref, "--as", "ana")
    ref = records.late.ref
    told = f"{ref}: acknowledged, Max Ode has it. It was so before. To give it to ana: panicmail take {ref} --as ana\n"
    assert (again.status, again.out) == (1, told)


def test_resolve_of_an_open_incident_acknowledges_it_first(records: Records) -> None:
    first, second = (records.run("resolve", records.open.ref, "--as", "ana", "--json").json for _ in range(2))
    assert (first["state"], first["holder"], first["outcome"]) == ("acked", "ana", "how_to_close")
    assert (second["state"], second["resolved_by"]) == ("resolved", "ana")
    third = records.run("resolve", records.open.ref, "--as", "ana")
    assert third.status == 1
    assert third.out.startswith(f"{records.open.ref}: closed. It was closed before; nothing was done.")


def test_who_was_not_paged_cannot_acknowledge_and_hears_who_was(records: Records) -> None:
    refused = records.run("ack", records.open.ref, "--as", "bo")
    assert (refused.status, refused.out) == (1, "")
    assert "bo was not paged" in refused.err
    assert "(paged: ana)" in refused.err
    assert f"panicmail take {records.open.ref} --as bo" in refused.err
    assert records.run("show", records.open.ref, "--json").json["state"] == "open"
    assert records.run("take", records.open.ref, "--as", "bo").status == 0


# -- what is wrong


@pytest.mark.parametrize("words", [["show"], ["mail"], ["ack", "--as", "ana"], ["retry"]], ids=" ".join)
def test_a_wrong_ref_is_answered_with_the_latest(kept: Records, words: list[str]) -> None:
    refused = kept.run(*words, "NONE9")
    assert (refused.status, refused.out) == (1, "")
    latest = ", ".join(incident.ref for incident in (kept.open, kept.quick, kept.late))
    assert refused.err == f"panicmail: there is no incident 'NONE9'; the latest are {latest}\n"


@pytest.mark.parametrize("word", ["ack", "take"])
def test_a_wrong_person_is_answered_with_who_there_is(kept: Records, word: str) -> None:
    refused = kept.run(word, kept.open.ref, "--as", "zoe")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err == "panicmail: there is no person 'zoe'; there are ana, bo, max\n"


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["report", "--since", "yesterday"], "90d"),
        (["report", "--since", "90"], "90d"),
        (["report", "--since", "-1d"], "90d"),
        (["oncall", "--at", "tomorrow"], "2026-12-24T18:00Z"),
        (["oncall", "--at", "25:00"], "2026-12-24T18:00Z"),
        (["incidents", "--state", "closed"], "resolved"),
        (["ack", "REF"], "--as"),
        (["show"], "REF"),
        (["show", "REF", "--jsn"], "--json"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_a_wrong_use_is_answered_with_the_right_one(kept: Records, words: list[str], right: str) -> None:
    refused = kept.run(*arguments_of(kept, *words))
    assert (refused.status, refused.out) == (2, "")
    assert right in refused.err
    assert "Traceback" not in refused.err


def test_an_unknown_command_is_wrong_usage(tmp_path: Path) -> None:
    refused = run("acknowledge", cwd=tmp_path)
    assert (refused.status, refused.out) == (2, "")
    assert "No such command 'acknowledge'" in refused.err


def test_without_a_configuration_it_says_where_it_looked(tmp_path: Path) -> None:
    refused = run("incidents", cwd=tmp_path)
    assert refused.status == 2
    (sentence,) = refused.err.splitlines()
    for place in ("-c FILE", "$PANICMAIL_CONFIG", "panicmail.toml", "/etc/panicmail/panicmail.toml"):
        assert place in sentence


def test_a_configuration_that_is_not_there_is_told_with_who_named_it(tmp_path: Path) -> None:
    for refused, named in (
        (run("incidents", "-c", "gone.toml", cwd=tmp_path), "(-c names it)"),
        (run("oncall", cwd=tmp_path, environ={"PANICMAIL_CONFIG": "gone.toml"}), "(PANICMAIL_CONFIG names it)"),
    ):
        assert refused.status == 2
        assert "gone.toml: found no such file" in refused.err
        assert named in refused.err


def test_a_configuration_is_found_in_the_environment_and_in_the_folder(kept: Records, tmp_path: Path) -> None:
    named = run("incidents", "--json", cwd=tmp_path, environ={"PANICMAIL_CONFIG": str(kept.town.path)})
    found = run("incidents", "--json", cwd=kept.town.folder)
    assert len(named.json) == len(found.json) == 3


@pytest.mark.parametrize("words", [["incidents"], ["ack", "ABCDE", "--as", "ana"], ["retry"]], ids=" ".join)
def test_before_the_first_start_there_is_no_database_and_none_is_made(tmp_path: Path, words: list[str]) -> None:
    with world(tmp_path) as town:
        refused = town.run(*words)
        assert (refused.status, refused.out) == (1, "")
        assert refused.err == f"panicmail: there is no database at {town.database} yet; panicmail serve makes it\n"
        assert not town.database.exists()


def test_an_empty_database_has_no_incidents(tmp_path: Path) -> None:
    with world(tmp_path) as town:
        Office(town.folder).close()
        assert town.run("incidents").out == "No incidents.\n"
        assert town.run("incidents", "--json").json == []
        assert town.run("show", "ABCDE").err == "panicmail: there is no incident 'ABCDE'; there are no incidents yet\n"


def said(refused: Ran) -> str:
    """Why a command could not: a sentence; of one that logs, an event."""
    (line,) = (line for line in refused.err.splitlines() if '"level": "warning"' not in line)
    return str(json.loads(line)["reason"]) if line.startswith("{") else line.removeprefix("panicmail: ")


@pytest.mark.parametrize("words", [["incidents"], ["ack", "REF", "--as", "ana"], ["retry"], ["serve"]], ids=" ".join)
def test_a_database_of_a_newer_panicmail_is_refused_with_a_sentence(records: Records, words: list[str]) -> None:
    records.town.rows("UPDATE alembic_version SET version_num = '9999'")
    refused = records.run(*arguments_of(records, *words))
    assert (refused.status, refused.out) == (1, "")
    assert said(refused).startswith("the database was made by a newer panicmail")
    assert records.town.rows("SELECT version_num FROM alembic_version") == [("9999",)]


@pytest.mark.parametrize("words", [["incidents"], ["serve"]], ids=" ".join)
def test_a_file_that_is_no_database_is_refused_with_a_sentence_and_left_alone(tmp_path: Path, words: list[str]) -> None:
    with world(tmp_path) as town:
        town.database.write_bytes(b"something else entirely" * 100)
        refused = town.run(*words)
        assert (refused.status, refused.out, said(refused)) == (1, "", "file is not a database")
        assert town.database.read_bytes() == b"something else entirely" * 100


@pytest.mark.parametrize("words", [["incidents"], ["retry"], ["serve"]], ids=" ".join)
def test_a_database_server_that_is_away_is_told_in_a_sentence_without_the_password(
    tmp_path: Path, words: list[str]
) -> None:
    with world(tmp_path, database="postgresql://panic:open-sesame@127.0.0.1:1/panicmail") as town:
        refused = town.run(*words)
    assert (refused.status, refused.out) == (1, "")
    assert said(refused)
    assert "Traceback" not in refused.err
    assert "open-sesame" not in refused.err


# -- the face


def test_the_script_and_the_module_are_the_same_program(kept: Records) -> None:
    script = Path(sys.executable).with_name("panicmail")
    for words in (["--version"], ["incidents", "--json", "-c", str(kept.town.path)]):
        by_script = subprocess.run([script, *words], capture_output=True, text=True, timeout=30, check=True)
        by_module = run(*words, cwd=kept.town.folder)
        assert (by_script.stdout, by_module.status) == (by_module.out, 0)


def test_every_command_tells_about_itself_quickly(tmp_path: Path) -> None:
    everything = run("--help", cwd=tmp_path)
    commands = re.findall(r"^  ([a-z-]+)  ", everything.out.partition("Commands:")[2], re.MULTILINE)
    promised = {"serve", "incidents", "show", "mail", "ack", "resolve", "take", "escalate", "oncall", "report"}
    assert promised <= set(commands)
    for command in commands:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        helped = run(command, "--help", cwd=tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        passed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert (helped.status, helped.err) == (0, ""), command
        assert helped.out.startswith("Usage: "), command
        assert "-c, --config" in helped.out, command
        assert passed < 3, f"{command}: {passed:.2f} s of CPU"


def test_json_holds_what_is_said_in_every_alphabet(records: Records) -> None:
    records.town.rows("UPDATE incidents SET subject = ?", "Erpressung: Größe 勒索")
    assert {incident["subject"] for incident in records.run("incidents", "--json").json} == {"Erpressung: Größe 勒索"}
    assert json.loads(json.dumps(records.run("show", records.open.ref, "--json").json))["ref"] == records.open.ref


#: What the commands that only look may load of other people's code, by its first name: each costs every run of them.
_ASKED = {
    "annotated_types", "click", "dotenv", "greenlet", "pydantic", "pydantic_core", "pydantic_settings", "structlog",
    "typing_extensions", "typing_inspection",
}  # fmt: skip
THEIRS = {"--help": {"click"}, "explain": _ASKED, "incidents": _ASKED | {"sqlalchemy"}}
TELLS_WHAT_IT_LOADED = """
import io, sys
from panicmail.cli import main
out, sys.stdout = sys.stdout, io.TextIOWrapper(io.BytesIO())
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended
names = {name for name, module in sys.modules.items() if "-packages" in str(getattr(module, "__file__", ""))}
drivers = {name for name in names if name.startswith("sqlalchemy.dialects.p")}
print(*{name.partition(".")[0] for name in names}, *drivers, file=out)
"""


@pytest.mark.parametrize("command", THEIRS)
def test_a_command_that_only_looks_loads_nothing_it_has_no_use_for(kept: Records, command: str, tmp_path: Path) -> None:
    letter = tmp_path / "letter.eml"
    letter.write_bytes(RAW)
    words = [command, *(["-c", str(kept.town.path)] if command != "--help" else [])]
    words += [str(letter)] if command == "explain" else []
    loaded = first_names([sys.executable, "-c", TELLS_WHAT_IT_LOADED, *words])
    assert loaded - {"_distutils_hack"} <= THEIRS[command]


def test_the_daemon_loads_neither_what_its_children_read_by_nor_what_draws_on_terminals() -> None:
    asks = "import sys, panicmail.cli, panicmail.daemon; print(*{name.partition('.')[0] for name in sys.modules})"
    no_use = {"selectolax", "mailparser", "rich", "pygments", "alembic", "mako"}
    assert not no_use & first_names([sys.executable, "-c", asks])


def first_names(command: list[str]) -> set[str]:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(ran.stdout.split())
