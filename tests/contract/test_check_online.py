"""`panicmail check`: every real thing tried, against a sandbox GitLab and relay; a hanging one costs its own row.

`tests/checks/` holds the whole output for a healthy and for a thoroughly broken set-up.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from panicmail.check import (
    CheckVerdict,
    Host,
    certificate_checks,
    database_checks,
    external_mail,
    listener_checks,
    offline_checks,
    online_checks,
    result,
)
from panicmail.check import gitlab_checks as gitlab_check
from panicmail.check import relay_checks as relay_check
from panicmail.cli.check_command import print_report
from panicmail.config import Config
from panicmail.config.schema import ListenerSettings
from panicmail.config.values import Listen
from panicmail.errors import Permanent, Temporary
from panicmail.gitlab.gitlab_probe import ProjectFacts, TokenFacts, TokenOwner
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import SandboxRelay
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.open_store import alone, signing_keys
from panicmail.store.rows import AcceptedMail
from panicmail.store.unit_of_work import Store
from tests.provider import Provider, closed_port
from tests.reports import expect, plain
from tests.site import Site

#: Noon of today: what is told of days and of who is on call does not depend on the hour of a test.
NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with SandboxGitLab() as gitlab, SandboxRelay() as relay:
        yield Site(tmp_path, gitlab, relay)


@contextlib.contextmanager
def stranger(greeting: bytes) -> Iterator[int]:
    """A program that is not panicmail, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        threading.Thread(target=_greet, args=(server, greeting), daemon=True).start()
        yield port


def _greet(server: socket.socket, greeting: bytes) -> None:
    with contextlib.suppress(OSError):  # closed by the test
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(greeting)
                connection.recv(100)


def make_database(folder: Path) -> Path:
    path = folder / "panicmail.db"
    database = Database(f"sqlite:///{path}")
    migrate.upgrade(database)
    database.close()
    return path


def accept(path: Path, peer: str, at: datetime) -> None:
    """A mail that came at that instant."""
    database = Database(f"sqlite:///{path}", clock=lambda: at)
    mail = AcceptedMail(id="m" * 26, accepted_at=at, mail_from="", recipients=(), peer=peer, helo="", tls="", size=1)
    with contextlib.closing(database), contextlib.closing(Store(database)) as store:
        store.write("mails.accept", lambda tx: tx.mails.add(mail, b"x"))


# -- the whole output


def break_everything(site: Site, taken: int, web_taken: int) -> Config:
    """A certificate that ended, doors others have, a GitLab and a relay that refuse, people nobody reaches."""
    issued = trustme.CA().issue_cert("panic.example.com", not_after=NOW - DAY)
    issued.cert_chain_pems[0].write_to_path(site.folder / "tls.crt")
    issued.private_key_pem.write_to_path(site.folder / "tls.key")
    (site.folder / "tls.key").chmod(0o644)
    accept(make_database(site.folder), "93.184.216.34", NOW - 9 * DAY)
    (site.folder / "panicmail.db").chmod(0o644)
    site.gitlab.set_token(scopes=("read_api",), expires_on=(NOW + 5 * DAY).date())
    site.gitlab.set_project(visibility="public", issues="disabled")
    site.gitlab.set_level("panicmail-bot", 10)
    site.gitlab.set_level("ana", 10)
    site.gitlab.instance._clock = lambda: datetime.now(UTC) + timedelta(seconds=90)
    site.relay.rule("max@", "reject")
    site.relay.rule("<>", "reject", stage="mail")
    tls = 'tls_cert_file = "tls.crt"\ntls_key_file = "tls.key"'
    evenings = '{ days = "daily", from = "00:00", to = "23:00", people = ["max"] }'
    config = site.config(
        (f'listen = ["127.0.0.1:{site.port}"]', f'listen = ["127.0.0.1:{taken}", "192.0.2.1:25"]\n{tls}'),
        ('push = ["ntfys://ntfy.example.com/ana-secret"]', ""),
        ('push = ["ntfys://ntfy.example.com/max-secret"]', 'push = ["nosuch://max-secret"]\ngitlab = "nobody"'),
        ('[oncall.seoc]\nfixed = ["ana"]', '[oncall.seoc]\nical = "seoc.ics"'),
        ('[oncall.smoc]\nfixed = ["max"]', f"[oncall.smoc]\nshifts = [{evenings}]"),
        (f'"127.0.0.1:{site.web_port}"', f'"127.0.0.1:{web_taken}"\nurl = "http://127.0.0.1:{web_taken}"'),
        more="""
[people.bo]
email = "bo@elsewhere.example"
[replies]
address = "panic@example.com"
[database]
spool = "gitlab.token/spool"
[operators]
page = ["max"]
""",
    )
    (site.folder / "panicmail.toml").chmod(0o644)
    return config


def test_a_thoroughly_broken_set_up_says_so_in_every_row_with_its_mend(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    full = Host(free=lambda _: 100 * 2**20, memory=lambda: None)
    with stranger(b"220 other ESMTP\r\n") as taken, stranger(b"") as web_taken:
        config = break_everything(site, taken, web_taken)
        rows = online_checks.everything(config, NOW, full)
    print_report(config, rows, offline=False)
    named = {
        site.folder: "FOLDER",
        site.gitlab.port: "GITLAB",
        site.relay.port: "RELAY",
        taken: "SMTP",
        web_taken: "WEB",
    }
    expect("broken", plain(capsys.readouterr().out, named))
    assert all(row.mend for row in rows if row.verdict is not CheckVerdict.OK)


# -- one thing at a time


def test_without_panicmail_running_and_without_a_database_nothing_fails(site: Site) -> None:
    told = site.rows()
    assert [row.subject for row in told.values() if row.verdict is CheckVerdict.FAILED] == []
    assert told["tables"].found == "made at the first start"
    assert not (site.folder / "panicmail.db").exists(), "a check made a database"
    assert told[f"port {site.port}"].found.endswith("is free; panicmail serve does not run")
    assert not site.relay.mails, "a check sent something"
    assert all(request.method == "GET" for request in site.gitlab.requests), "a check changed something"


def test_a_gitlab_and_a_relay_that_hang_cost_their_own_rows_and_little_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gitlab_check, "SECONDS", 0.5)
    monkeypatch.setattr(relay_check, "SECONDS", 0.5)
    site.gitlab.fault("hang", times=None)
    site.relay.rule("", "hang", stage="mail")
    began = time.monotonic()
    told = site.rows()
    assert time.monotonic() - began < 30
    site.gitlab.clear_faults()
    site.relay.clear_rules()
    failed = {row.subject: row.found for row in told.values() if row.verdict is CheckVerdict.FAILED}
    assert failed.keys() == {"gitlab answers", "relay answers"}
    assert all("no answer within 0.5 s" in found for found in failed.values())
    assert told["spool"].found
    assert told["ana push"].verdict is CheckVerdict.OK


def test_one_question_that_hangs_costs_gitlab_one_row(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gitlab_check, "SECONDS", 1.0)
    site.gitlab.fault("hang", times=None, match="labels")
    told = site.rows()
    site.gitlab.clear_faults()
    assert (told["labels"].verdict, told["labels"].found) == (CheckVerdict.WARNING, "not known: no answer within 1 s")
    assert told["token"].verdict is told["project"].verdict is told["ana gitlab"].verdict is CheckVerdict.OK


def test_a_gitlab_that_is_away_is_one_row(site: Site) -> None:
    site.gitlab.down()
    told = [row for row in site.rows().values() if row.group == "GitLab" and row.verdict is not CheckVerdict.OK]
    assert [row.subject for row in told] == ["gitlab answers"]
    assert "cannot be reached" in told[0].found


def test_a_token_gitlab_refuses_is_one_row_with_the_way_to_a_new_one(site: Site) -> None:
    site.gitlab.set_token(revoked=True)
    told = site.rows()["gitlab answers"]
    assert told.verdict is CheckVerdict.FAILED
    assert "refuses the token" in told.found
    assert "scope api" in told.mend
    assert site.gitlab.token not in f"{told}"


def test_a_project_that_is_not_there_fails_whatever_the_token_may_and_nobody_blames_the_token(site: Site) -> None:
    told = site.rows(('"security/incidents"', '"security/elsewhere"'))
    assert told["project"].verdict is told["incidents"].verdict is CheckVerdict.FAILED
    assert told["token"].verdict is CheckVerdict.OK
    assert "is a member" in told["project"].mend
    assert {row.mend for row in told.values() if row.group == "GitLab" and not row.is_ok} == {told["project"].mend}


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (404, b"<!DOCTYPE html><title>Not here</title>"),
        (404, b"no such page"),
        (405, b"{}"),
        (401, b"<html>Who are you?</html>"),  # a proxy that wants a password
        (403, b"  <html>Go away</html>"),
        (200, b"<html>Welcome to our shop</html>"),
        (200, b'{"hello": "world"}'),
        (200, b"[]"),
        (302, b""),
    ],
)
def test_an_address_at_which_no_gitlab_answers_is_told_as_that(site: Site, status: int, answer: bytes) -> None:
    with Provider() as shop:
        shop.status, shop.answer = status, answer
        shop.headers["Location"] = "https://elsewhere.example.com/"
        (told,) = gitlab_check.rows(site.config((site.gitlab.url, shop.url)), NOW)
    assert (told.subject, told.verdict) == ("gitlab answers", CheckVerdict.FAILED)
    assert "[gitlab] url" in told.mend
    assert "token" not in told.mend
    assert "refuses the token" not in told.found


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_is_blamed_where_gitlab_says_it_is_the_token(site: Site, status: int) -> None:
    with Provider() as other:
        other.status, other.answer = status, b'{"message": "401 Unauthorized"}'
        other.headers["Content-Type"] = "application/json"
        (told,) = gitlab_check.rows(site.config((site.gitlab.url, other.url)), NOW)
    assert "refuses the token" in told.found
    assert "scope api" in told.mend


@pytest.mark.parametrize(
    ("left", "verdict"),
    [
        (DAY / 2, CheckVerdict.FAILED),
        (DAY * 2, CheckVerdict.WARNING),
        (DAY * 13, CheckVerdict.WARNING),
        (DAY * 14, CheckVerdict.OK),
    ],
)
def test_a_token_that_ends_within_two_weeks_is_a_warning_and_within_a_day_has_failed(
    left: timedelta, verdict: CheckVerdict
) -> None:
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    token = TokenFacts(name="bot", scopes=("api",), is_active=True, ends_on=midnight.date())
    assert gitlab_check.judge_token(token, midnight - left).verdict is verdict


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({"ends_on": None}, CheckVerdict.OK),
        ({"scopes": ()}, CheckVerdict.OK),  # a granular one does not tell
        ({"scopes": ("read_api", "read_user")}, CheckVerdict.FAILED),
        ({"is_active": False}, CheckVerdict.FAILED),
    ],
)
def test_a_token_is_judged_by_what_it_says_of_itself(facts: dict[str, object], verdict: CheckVerdict) -> None:
    token = TokenFacts(name="bot", scopes=("api",), is_active=True, ends_on=None)
    assert gitlab_check.judge_token(replace(token, **facts), NOW).verdict is verdict  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("level", "verdict"), [(0, CheckVerdict.FAILED), (15, CheckVerdict.FAILED), (20, CheckVerdict.OK)]
)
def test_the_tokens_user_must_be_a_reporter(level: int, verdict: CheckVerdict) -> None:
    assert gitlab_check.judge_owner(TokenOwner(username="bot", level=level)).verdict is verdict


def test_a_project_that_is_not_private_is_a_warning_only_while_raw_mails_go_there() -> None:
    project = ProjectFacts(path="a/b", visibility="internal", is_archived=False, has_issues=True)
    assert [row.verdict for row in gitlab_check.judge_project(project, "all")] == [
        CheckVerdict.OK,
        CheckVerdict.WARNING,
    ]
    assert [row.verdict for row in gitlab_check.judge_project(project, "attachments")] == [
        CheckVerdict.OK,
        CheckVerdict.OK,
    ]


def test_a_relay_that_says_not_now_to_one_person_is_a_warning_about_that_one_alone(site: Site) -> None:
    site.relay.rule("ana@", "reject", code=451)
    told = site.rows()
    assert (told["ana mail"].verdict, told["max mail"].verdict) == (CheckVerdict.WARNING, CheckVerdict.OK)
    assert told["ana mail"].passing


def test_a_relay_that_refuses_the_sender_of_pages_fails_once(site: Site) -> None:
    site.relay.rule("panic+", "reject", stage="mail")
    told = [row for row in site.rows().values() if row.group == "Mail out" and row.verdict is CheckVerdict.FAILED]
    assert [row.subject for row in told] == ["relay answers"]
    assert "550" in told[0].found


def test_the_certificate_of_a_relay_with_tls_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1", not_after=NOW + 10 * DAY)
    import ssl

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(server)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with SandboxGitLab() as gitlab, SandboxRelay(tls=server) as relay:
        site = Site(tmp_path, gitlab, relay)
        told = site.rows(("smtp://127.0.0.1", "smtp+starttls://127.0.0.1"))
    assert "under TLSv1.3" in told["relay answers"].found
    assert told["relay certificate"].verdict is CheckVerdict.WARNING


def test_a_certificate_a_server_shows_is_read_and_one_this_host_does_not_trust_is_refused(tmp_path: Path) -> None:
    import ssl

    ca, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", not_after=NOW + 10 * DAY).configure_cert(server)
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    with Provider(tls=server) as provider:
        shown = certificate_checks.fetch_end_of_certificate("127.0.0.1", provider.port, 5, trusting)
        assert shown == NOW + 10 * DAY
        with pytest.raises(Permanent, match="not trusted"):
            certificate_checks.fetch_end_of_certificate("127.0.0.1", provider.port, 5)
    with pytest.raises(Temporary, match="cannot be reached"):
        certificate_checks.fetch_end_of_certificate("127.0.0.1", closed_port(), 5)


@pytest.mark.parametrize(
    ("ahead", "within", "verdict"),
    [
        (2, 0, CheckVerdict.OK),
        (2.1, 0, CheckVerdict.WARNING),
        (-3, 0.5, CheckVerdict.WARNING),
        (-3, 1, CheckVerdict.OK),
        (60, 0, CheckVerdict.WARNING),
        (-61, 0.5, CheckVerdict.FAILED),
    ],
)
def test_a_clock_that_is_surely_apart_is_told(ahead: float, within: float, verdict: CheckVerdict) -> None:
    assert result.judge("clock", timedelta(seconds=ahead), timedelta(seconds=within)).verdict is verdict


@pytest.mark.parametrize(
    ("peers", "listen", "trusted", "verdict"),
    [
        ([("93.184.216.34", 8)], "0.0.0.0:25", "", CheckVerdict.OK),
        ([("93.184.216.34", 9)], "0.0.0.0:25", "", CheckVerdict.WARNING),
        ([("10.0.0.7", 1), ("127.0.0.1", 1), ("fe80::1", 1), ("", 1)], "0.0.0.0:25", "", CheckVerdict.WARNING),
        ([("10.0.0.7", 1)], "0.0.0.0:25", "10.0.0.0/24", CheckVerdict.OK),
        ([("127.0.0.1", 1)], "127.0.0.1:2525", "", CheckVerdict.OK),
        ([], "0.0.0.0:25", "", CheckVerdict.WARNING),
    ],
)
def test_silence_from_outside_is_told_after_eight_days(
    site: Site, peers: list[tuple[str, int]], listen: str, trusted: str, verdict: CheckVerdict
) -> None:
    networks = f'\ntrusted_relays = ["{trusted}"]' if trusted else ""
    config = site.config((f'listen = ["127.0.0.1:{site.port}"]', f'listen = ["{listen}"]{networks}'))
    known = database_checks.KnownFindings(
        [], [(peer, NOW - days * DAY) for peer, days in peers], begun_at=NOW - 30 * DAY
    )
    assert external_mail.row(config, known, NOW).verdict is verdict


@pytest.mark.parametrize(("age", "is_told"), [(0.003, False), (7.9, False), (8.1, True)])
@pytest.mark.parametrize("keys", ["in the database", "in a file"])
def test_the_operators_of_a_fresh_install_hear_of_silence_after_eight_days_of_it(
    site: Site, age: float, is_told: bool, keys: str
) -> None:
    begun_at, key_file = NOW - age * DAY, site.folder / "keys"
    key_file.write_text(f"a {'0' * 64}\n")
    os.utime(key_file, (begun_at.timestamp(), begun_at.timestamp()))
    config = site.config(more='[tokens]\nkey_file = "keys"\n' if keys == "in a file" else "")
    row = external_mail.row(
        config, database_checks.KnownFindings([], [], begun_at=None if keys == "in a file" else begun_at), NOW
    )
    assert row.verdict is CheckVerdict.WARNING
    assert "panicmail drill --by-mail" in row.mend
    assert bool(row.cause) is is_told, "the daily look tells what has a cause"
    assert row.found.startswith("no mail from outside has ever come" if is_told else "none yet")


def test_the_age_of_an_install_is_read_from_its_database(site: Site) -> None:
    path = make_database(site.folder)
    opened = Database(f"sqlite:///{path}", clock=lambda: NOW - 3 * DAY)
    with contextlib.closing(opened), contextlib.closing(Store(opened)) as store:
        signing_keys(site.config(), store)
        assert store.read(database_checks.KnownFindings.of).begun_at == NOW - 3 * DAY


def test_tables_of_a_newer_panicmail_fail_and_older_ones_want_a_restart(site: Site) -> None:
    path, config = make_database(site.folder), site.config()
    told = {row.subject: row for row in database_checks.try_database(config).rows}
    assert {row.verdict for row in told.values()} == {CheckVerdict.OK}
    with contextlib.closing(Database(f"sqlite:///{path}")) as opened:
        migrate.downgrade(opened, "0003")
    assert {row.subject: row.verdict for row in database_checks.try_database(config).rows} == {
        "tables": CheckVerdict.WARNING,
        "writing": CheckVerdict.OK,
    }
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    (newer,) = database_checks.try_database(config).rows
    assert (newer.subject, newer.verdict) == ("tables", CheckVerdict.FAILED)


def test_a_database_that_takes_no_mail_fails_and_nothing_stays_of_one_that_does(site: Site) -> None:
    path, config = make_database(site.folder), site.config()
    database_checks.try_database(config)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("SELECT count(*) FROM mails").fetchall() == [(0,)]
        connection.execute("DROP TABLE raws")
    told = {row.subject: row for row in database_checks.try_database(config).rows}
    assert told["writing"].verdict is CheckVerdict.FAILED
    assert "cannot be stored" in told["writing"].found


@pytest.mark.postgres
def test_postgresql_is_tried_too_and_its_good_settings_share_a_row(site: Site, postgres_url: str) -> None:
    opened = Database(postgres_url)
    migrate.upgrade(opened)
    opened.close()
    config = site.config(more=f'[database]\nurl = "{postgres_url}"')
    told = {row.subject: row for row in database_checks.try_database(config).rows}
    assert {"tables", "postgresql", "fsync", "database's clock", "writing"} <= told.keys()
    assert "role primary" in told["postgresql"].found
    assert told["fsync"].verdict is CheckVerdict.FAILED, "the tests' own server runs without"
    assert told["writing"].verdict is told["database's clock"].verdict is CheckVerdict.OK


def test_a_postgresql_that_is_away_is_one_row(site: Site) -> None:
    away = f'[database]\nurl = "postgresql://panic:secret@127.0.0.1:{closed_port()}/panicmail"'
    (told,) = database_checks.try_database(site.config(more=away)).rows
    assert (told.subject, told.verdict) == ("database answers", CheckVerdict.FAILED)
    assert "secret" not in told.found


def test_a_spool_on_the_databases_disk_is_a_warning_and_elsewhere_is_none(site: Site) -> None:
    here, there = site.folder / "panicmail.spool", site.folder / "elsewhere"
    there.mkdir()
    elsewhere = Host(device=lambda path: int(path == there))
    assert site.rows()["spool"].verdict is CheckVerdict.WARNING
    assert site.rows(more='[database]\nspool = "elsewhere"', host=elsewhere)["spool"].verdict is CheckVerdict.OK
    assert not here.exists()
    assert not list(there.iterdir())


def test_our_own_daemon_is_no_other_program_however_it_is(site: Site) -> None:
    make_database(site.folder)
    with Provider() as unwell, stranger(b"421 mx.example.com panicmail ESMTP too busy\r\n") as busy:
        unwell.status, unwell.answer = 503, b'{"alive": false}'
        told = listener_checks.rows(
            site.config((f"127.0.0.1:{site.port}", f"127.0.0.1:{busy}"), (f"127.0.0.1:{site.web_port}", unwell.host))
        )
    assert [row.found.partition(": ")[2] for row in told] == ["panicmail answers there"] * 2


def test_a_daemon_that_runs_and_does_not_answer_is_not_taken_for_another_program(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_database(site.folder)
    monkeypatch.setattr(listener_checks, "STEP_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        config = site.config((f"127.0.0.1:{site.port}", f"127.0.0.1:{silent.getsockname()[1]}"))
        opened = Database(config.database.url.get_secret_value())
        with contextlib.closing(opened), alone(opened):
            running = listener_checks.rows(config)
        stopped = listener_checks.rows(config)
    assert all("panicmail serve runs, and does not answer there" in row.found for row in running)
    assert "taken by another program" in stopped[0].found
    assert "is free" in stopped[1].found


def at(host: str, port: int) -> ListenerSettings:
    return ListenerSettings(address=Listen(host, port), tls="none")


def test_a_door_is_ours_free_or_somebody_elses() -> None:
    free = closed_port()
    assert listener_checks.is_panicmail(at("0.0.0.0", free)) is None
    with stranger(b"220 panic.example.com panicmail ESMTP\r\n") as ours, stranger(b"220 mail ESMTP\r\n") as theirs:
        assert listener_checks.is_panicmail(at("0.0.0.0", ours)) is True
        assert listener_checks.is_panicmail(at("127.0.0.1", theirs)) is False


def test_a_calendar_is_asked_for_now_and_one_that_was_never_read_fails(site: Site) -> None:
    ics = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20261101T000000Z\r\n"
        f"DTSTART:{NOW - DAY:%Y%m%dT%H%M%SZ}\r\nDTEND:{NOW + 20 * DAY:%Y%m%dT%H%M%SZ}\r\nSUMMARY:Ana\r\n"
        "END:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    with Provider() as provider:
        provider.answer = ics.encode()
        old = '[oncall.seoc]\nfixed = ["ana"]'
        new = f'[oncall.seoc]\nical = "{provider.url}/seoc.ics"\nfallback = ["max"]\n[operators]\npage = ["max"]'
        told = site.rows((old, new))
        assert told["seoc"].found == "Ana (calendar)"
        assert told["seoc calendar"].verdict is told["seoc ahead"].verdict is CheckVerdict.OK
        provider.status = 500
        told = site.rows((old, new))
        assert told["seoc calendar"].verdict is CheckVerdict.FAILED, "a check keeps no copy"
        assert told["seoc"].found.startswith("Max (fallback")


def test_nothing_that_is_secret_is_in_any_row(site: Site) -> None:
    told = site.rows(("smtp://127.0.0.1", "smtp://panic:hunter2@127.0.0.1"))
    said = " ".join(f"{row.found} {row.mend}" for row in told.values())
    assert not [secret for secret in ("hunter2", site.gitlab.token, "ana-secret") if secret in said]


def test_what_is_not_ok_says_how_to_mend_it(site: Site) -> None:
    site.gitlab.down()
    site.relay.down()
    assert all(row.mend for row in site.rows().values() if row.verdict is not CheckVerdict.OK)


def test_the_offline_rows_are_among_them(site: Site) -> None:
    alone = {row.subject for row in offline_checks.everything(site.config(), NOW)}
    assert alone <= site.rows().keys()
