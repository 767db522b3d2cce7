"""`panicmail check --offline`: every row that can be told from the configuration, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from panicmail import certificates
from panicmail import config as configuration
from panicmail.check import CheckVerdict, Host, Row, memory_checks, offline_checks
from tests.program import Ran, run

NOW = datetime(2026, 11, 22, 3, 7, tzinfo=UTC)
ROOMY = Host(free=lambda _: 10 * 2**30, may_write=lambda _: True, memory=lambda: None)

SMALLEST = """
[smtp]
addresses = ["panic@example.com"]

[gitlab]
url = "https://gitlab.example.com"
project = "security/incidents"
token_file = "gitlab.token"

[people.ana]
email = "ana@example.com"
push = ["ntfys://ntfy.example.com/ana-secret"]

[people.max]
email = "max@example.com"
push = ["ntfys://ntfy.example.com/max-secret"]

[oncall.seoc]
fixed = ["ana"]

[oncall.smoc]
fixed = ["max"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    token = tmp_path / "gitlab.token"
    token.write_text("glpat-secret")
    token.chmod(0o600)
    return tmp_path


@pytest.fixture
def rows(folder: Path) -> Callable[..., dict[str, Row]]:
    def told(text: str = SMALLEST, host: Host = ROOMY, now: datetime = NOW, mode: int = 0o600) -> dict[str, Row]:
        path = folder / "panicmail.toml"
        path.write_text(text)
        path.chmod(mode)
        config = configuration.load(path, {}, host_name=lambda: "panic.example.com")
        return {row.subject: row for row in offline_checks.everything(config, now, host)}

    return told


Rows = Callable[..., dict[str, Row]]


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(3 * 2**30, CheckVerdict.WARNING), (7 * 2**30, CheckVerdict.OK), (512 * 2**30, CheckVerdict.OK)],
)
def test_memory_for_fewer_readers_than_there_may_be_is_a_warning_with_the_limit_that_does(
    rows: Rows, limit: int, verdict: CheckVerdict
) -> None:
    row = rows(host=replace(ROOMY, memory=lambda: limit))["memory"]
    assert row.verdict is verdict
    assert ("MemoryMax=7G" in row.mend) is (verdict is CheckVerdict.WARNING)


def test_without_a_limit_nothing_is_said_of_memory(rows: Rows) -> None:
    assert "memory" not in rows()


@pytest.mark.parametrize(
    ("files", "own", "limit"),
    [
        ({"system.slice/panicmail.service/memory.max": "3000\n"}, "0::/user.slice\n", 3000),
        ({"system.slice/panicmail.service/memory.max": "max", "system.slice/memory.max": "50"}, "0::/\n", 50),
        ({"a/b/memory.max": "max\n", "a/memory.max": "70\n", "memory.max": "90\n"}, "0::/a/b\n", 70),
        ({"memory.max": "90\n"}, "0::/\n", 90),
        ({"memory/a/memory.limit_in_bytes": "60\n"}, "5:cpu:/\n4:memory,x:/a\n0::/\n", 60),
        ({"memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, "4:memory:/a\n", None),
        ({"a/memory.max": "12 monkeys"}, "0::/a\n", None),
        ({}, "nonsense\n", None),
    ],
)
def test_the_limit_of_memory_is_the_units_or_of_whatever_this_runs_in(
    tmp_path: Path, files: dict[str, str], own: str, limit: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "own").write_text(own)
    assert memory_checks.limit(tmp_path / "groups", tmp_path / "own") == limit


def test_where_there_are_no_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_checks.limit(tmp_path / "none", tmp_path / "nobody") is None


def panicmail(*arguments: str, cwd: Path) -> Ran:
    return run(*arguments, cwd=cwd)


def test_the_smallest_configuration_fails_nowhere(rows: Rows) -> None:
    assert {row.verdict for row in rows().values()} == {CheckVerdict.OK, CheckVerdict.WARNING}


def test_what_is_not_ok_says_how_to_mend_it(rows: Rows) -> None:
    assert all(row.mend for row in rows().values() if row.verdict is not CheckVerdict.OK)


def test_each_step_says_when_and_whom(rows: Rows) -> None:
    told = rows()
    assert told["step 1"].found == "after 0s: Ana (seoc)"
    assert told["step 4"].found == "after 15m: Max (smoc), Ana (seoc)"
    assert "every 5m" in told["then"].found


def test_one_person_in_both_roles_is_a_warning(rows: Rows) -> None:
    alone = rows(SMALLEST.replace('fixed = ["max"]', 'fixed = ["ana"]'))["escalation"]
    assert alone.verdict is CheckVerdict.WARNING
    assert "Ana and nobody else" in alone.found


def test_a_manager_called_after_the_sla_is_a_warning(rows: Rows) -> None:
    late = """
[escalation]
sla = "5m"
steps = [{ after = "0s", page = ["seoc"] }, { after = "15m", page = ["smoc"] }]
"""
    told = rows(SMALLEST + late)["escalation"]
    assert (told.verdict, told.found) == (CheckVerdict.WARNING, "Max after 15m; the SLA is 5m")


def test_a_token_everybody_can_read_is_a_warning_told_once(rows: Rows, folder: Path) -> None:
    assert rows()["gitlab token"].verdict is CheckVerdict.OK
    (folder / "gitlab.token").chmod(0o644)
    told = rows()
    assert told["gitlab token"].verdict is CheckVerdict.WARNING
    assert "chmod o=" in told["gitlab token"].mend
    assert told["configuration"].verdict is CheckVerdict.OK, "the warning of the configuration is the same one"


def test_a_password_in_a_file_everybody_can_read_is_a_warning(rows: Rows) -> None:
    secret = '\n[relay]\nurl = "smtps://panic:hunter2@relay.example.com"\n'
    told = rows(SMALLEST + secret, mode=0o644)["configuration"]
    assert told.verdict is CheckVerdict.WARNING
    assert "relay.url" in told.found


def test_no_secret_is_in_any_row(rows: Rows) -> None:
    secrets = '\n[relay]\nurl = "smtp://panic:hunter2@relay.example.com"\n[watch]\npush = ["ntfys://ntfy/hunter2"]\n'
    said = " ".join(f"{row.found} {row.mend}" for row in rows(SMALLEST + secrets).values())
    assert "hunter2" not in said
    assert "glpat-secret" not in said


def test_a_warning_of_the_configuration_is_a_row(rows: Rows) -> None:
    told = rows(SMALLEST.replace('fixed = ["ana"]', 'fixed = ["ana"]\nfallback = ["max"]'))
    assert "a fixed roster has no gaps" in told["configuration"].found
    assert told["configuration"].mend == "leave it out"


def test_a_secret_that_goes_to_a_server_in_the_clear_is_a_warning_of_that_servers_row(rows: Rows) -> None:
    relay = '\n[relay]\nurl = "smtp://panic:hunter2@relay.example.com"\n'
    told = rows(SMALLEST.replace("https://gitlab", "http://gitlab") + relay)
    for subject, mend in (("gitlab", "use https:// in gitlab.url"), ("relay", "use smtp+starttls:// or smtps://")):
        assert (told[subject].verdict, told[subject].mend) == (CheckVerdict.WARNING, mend)
        assert "crosses the network in the clear" in told[subject].found
    assert told["configuration"].verdict is CheckVerdict.OK, "it is told once"


def test_a_folder_that_cannot_be_written_fails(rows: Rows) -> None:
    told = rows(host=Host(free=lambda _: 10 * 2**30, may_write=lambda _: False))["database"]
    assert told.verdict is CheckVerdict.FAILED


@pytest.mark.parametrize(
    ("free", "verdict"), [(10 * 2**30, CheckVerdict.OK), (2**29, CheckVerdict.WARNING), (2**20, CheckVerdict.FAILED)]
)
def test_a_disk_without_room_is_told(rows: Rows, free: int, verdict: CheckVerdict) -> None:
    assert rows(host=Host(free=lambda _: free, may_write=lambda _: True))["disk"].verdict is verdict


def test_without_a_web_url_there_are_no_links(rows: Rows) -> None:
    assert rows()["web"].verdict is CheckVerdict.WARNING
    assert rows(SMALLEST + '\n[web]\nurl = "https://panic.example.com"\n')["web"].verdict is CheckVerdict.OK


def test_a_person_with_two_ways_is_ok_and_the_push_url_is_not_shown(rows: Rows) -> None:
    told = rows()["ana"]
    assert (told.verdict, told.found) == (CheckVerdict.OK, "Ana: mail ana@example.com, push ntfys://ntfy.example.com/…")


ANAS = ('"ana@example.com"', 'push = ["ntfys://ntfy.example.com/ana-secret"]')


@pytest.mark.parametrize(
    ("email", "push", "verdict"),
    [
        ("ana@example.com", "", CheckVerdict.FAILED),
        ("ana@mail.example.com", "", CheckVerdict.FAILED),
        ("ana@example.com", 'push = ["mailto://ana:secret@example.com"]', CheckVerdict.FAILED),
        ("ana@example.com", 'push = ["mailtos://ana:secret@mail.example.net?to=ana@example.com"]', CheckVerdict.FAILED),
        ("ana@example.com", 'push = ["mailtos://ana:secret@mail.example.net?to=ana@example.net"]', CheckVerdict.OK),
        ("ana@example.com", 'push = ["pagerduty:R0UT1NGKEY"]', CheckVerdict.OK),
        ("ana@example.net", "", CheckVerdict.WARNING),
        ("ana@notexample.com", "", CheckVerdict.WARNING),
    ],
)
def test_a_person_whose_every_way_is_the_companys_own_mail_fails_and_one_way_is_a_warning(
    rows: Rows, email: str, push: str, verdict: CheckVerdict
) -> None:
    told = rows(SMALLEST.replace(ANAS[0], f'"{email}"').replace(ANAS[1], push))["ana"]
    assert told.verdict is verdict, told
    assert "secret" not in told.found


@pytest.mark.parametrize("url", ["http://127.0.0.1:8025", "https://localhost", "https://10.1.2.3", "https://[fd00::1]"])
def test_an_address_in_the_mails_that_no_phone_outside_can_open_is_a_warning(rows: Rows, url: str) -> None:
    told = rows(SMALLEST + f'\n[web]\nurl = "{url}"\n')["web"]
    assert told.verdict is CheckVerdict.WARNING
    assert "no phone elsewhere opens it" in told.found


GAP = """
[oncall.seoc]
shifts = [
  { days = "mon-fri", from = "00:00", to = "00:00", people = ["ana"] },
  { days = "sat,sun", from = "00:00", to = "20:00", people = ["ana"] },
]
"""


def test_a_gap_in_the_coming_two_weeks_fails_unless_a_fallback_has_it(rows: Rows) -> None:
    gap = SMALLEST.replace('[oncall.seoc]\nfixed = ["ana"]\n', GAP)
    told = rows(gap)["seoc ahead"]
    assert told.verdict is CheckVerdict.FAILED
    assert told.found.startswith("2026-11-22 20:00 to 2026-11-23 00:00 UTC: nobody on call, nobody is called;")
    assert told.found.endswith("; and 1 more")
    saved = rows(gap.replace("[oncall.seoc]", '[oncall.seoc]\nfallback = ["max"]'))["seoc ahead"]
    assert saved.verdict is CheckVerdict.WARNING
    assert "max instead" in saved.found


def test_a_night_when_one_person_has_both_roles_is_a_warning(rows: Rows) -> None:
    override = 'overrides = [{ from = 2026-11-25T18:00:00Z, to = 2026-11-26T06:00:00Z, person = "ana" }]'
    told = rows(SMALLEST.replace('fixed = ["max"]', f'fixed = ["max"]\n{override}'))["two people"]
    assert told.verdict is CheckVerdict.WARNING
    assert told.found == "Ana is both seoc and smoc, from 2026-11-25 18:00 UTC"
    assert rows()["two people"].verdict is CheckVerdict.OK


def test_reply_addresses_without_a_token_are_a_warning(rows: Rows) -> None:
    told = rows(SMALLEST + '\n[replies]\naddress = "panic@example.com"\n')["replies"]
    assert told.verdict is CheckVerdict.WARNING


def test_an_open_port_without_starttls_is_a_warning(rows: Rows) -> None:
    assert rows()["tls"].verdict is CheckVerdict.OK
    open_door = SMALLEST.replace("[smtp]", '[smtp]\nlisten = ["0.0.0.0:25"]')
    assert rows(open_door)["tls"].verdict is CheckVerdict.WARNING


@pytest.mark.parametrize(
    ("left", "verdict"),
    [
        (timedelta(days=90), CheckVerdict.OK),
        (timedelta(days=21, seconds=1), CheckVerdict.OK),
        (timedelta(days=21), CheckVerdict.WARNING),
        (timedelta(days=1, seconds=1), CheckVerdict.WARNING),
        (timedelta(days=1), CheckVerdict.FAILED),
        (timedelta(0), CheckVerdict.FAILED),
    ],
)
def test_a_certificate_says_how_long_it_holds(rows: Rows, folder: Path, left: timedelta, verdict: CheckVerdict) -> None:
    issued = trustme.CA().issue_cert("panic.example.com", not_after=NOW + left)
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    pair = '[smtp]\ntls_cert_file = "tls.crt"\ntls_key_file = "tls.key"'
    assert rows(SMALLEST.replace("[smtp]", pair))["tls"].verdict is verdict


@pytest.mark.parametrize("left", [timedelta(days=90), timedelta(days=-90)])
@pytest.mark.parametrize(
    ("names", "is_right"),
    [
        (["panic.example.com"], True),
        (["mx.example.com", "panic.example.com"], True),
        (["*.example.com"], True),
        (["mx.example.com"], False),
        (["*.panic.example.com", "example.com"], False),
        (["127.0.0.1"], False),
    ],
)
def test_a_certificate_of_another_name_is_a_warning_ended_or_not(
    rows: Rows, folder: Path, names: list[str], is_right: bool, left: timedelta
) -> None:
    issued = trustme.CA().issue_cert(*names, not_after=datetime.now(UTC) + left)
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "tls.pem")
    told = rows(SMALLEST.replace("[smtp]", '[smtp]\ntls_cert_file = "tls.pem"\ntls_key_file = "tls.pem"'))
    assert ("tls name" not in told) is is_right
    if not is_right:
        assert told["tls name"].verdict is CheckVerdict.WARNING
        assert f"{folder / 'tls.pem'} is not for panic.example.com" in told["tls name"].found
        assert "smtp.hostname" in told["tls name"].mend


@pytest.mark.parametrize("year", [2026, 2049, 2050, 2126])
def test_the_end_of_a_certificate_is_read_in_both_its_forms(year: int) -> None:
    ends = datetime(year, 11, 22, 3, 7, 9, tzinfo=UTC)
    pem = trustme.CA().issue_cert("panic.example.com", not_after=ends).cert_chain_pems[0].bytes().decode()
    assert certificates.ends_at(f"friendly words before it\n{pem}") == ends


@pytest.mark.parametrize("octets", [b"", b"\x30", b"\x30\x03\x30\x01", b"\x30\x84", bytes(range(256))])
def test_what_is_no_certificate_is_said_to_be_none(octets: bytes) -> None:
    import ssl

    with pytest.raises(ValueError, match=r"."):
        certificates.ends_at(ssl.DER_cert_to_PEM_cert(octets))


def test_the_command_tells_rows_and_what_was_inferred(folder: Path) -> None:
    (folder / "panicmail.toml").write_text(SMALLEST)
    said = panicmail("check", "--offline", cwd=folder)
    assert said.status == 0, said.err
    assert "warning  web" in said.out
    assert "relay.sender = panic@example.com" in said.out
    assert "0 failed" in said.out
    assert "\x1b" not in said.out


def test_json_is_one_document(folder: Path) -> None:
    (folder / "panicmail.toml").write_text(SMALLEST)
    said = panicmail("check", "--offline", "--json", cwd=folder).json
    assert {"rows", "inferred", "warnings"} <= said.keys()
    assert {"group", "subject", "person", "verdict", "found", "mend"} == said["rows"][0].keys()


def test_what_failed_is_exit_status_1(folder: Path) -> None:
    issued = trustme.CA().issue_cert("panic.example.com", not_after=datetime.now(UTC) - timedelta(days=1))
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    pair = '[smtp]\ntls_cert_file = "tls.crt"\ntls_key_file = "tls.key"'
    (folder / "panicmail.toml").write_text(SMALLEST.replace("[smtp]", pair))
    assert panicmail("check", "--offline", cwd=folder).status == 1


def test_a_wrong_configuration_is_exit_status_2_with_every_mistake(folder: Path) -> None:
    (folder / "panicmail.toml").write_text(SMALLEST.replace("addresses", "adresses").replace('["max"]', '["maxx"]'))
    said = panicmail("check", "--offline", cwd=folder)
    assert (said.status, said.out) == (2, "")
    assert "adresses" in said.err
    assert "maxx" in said.err


@pytest.mark.parametrize(
    "arguments", [["--wait", "1m"], ["--offline", "--page", "ana"], ["--page", "ana", "--wait", "soon"]]
)
def test_what_does_not_go_together_is_a_wrong_usage(folder: Path, arguments: list[str]) -> None:
    (folder / "panicmail.toml").write_text(SMALLEST)
    assert panicmail("check", *arguments, cwd=folder).status == 2
