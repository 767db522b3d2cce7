"""The configuration: the smallest file is enough, and every mistake of a wrong one is told at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panicmail import config
from panicmail.check import offline_checks
from panicmail.config import Config, Listen, reporters
from panicmail.config.reporters import KnownReporter
from panicmail.config.schema import NAMED_TABLES, TABLES, is_secret
from panicmail.errors import ConfigError
from tests.examples import many
from tests.smallest_config import SMALLEST, with_

Load = Callable[..., Config]
Refused = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    token = tmp_path / "gitlab.token"
    token.write_text("glpat-hunter2\n")
    token.chmod(0o600)
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Load:
    """Loads a configuration written into a folder; keyword arguments are the environment."""

    def load(text: str = SMALLEST, **environ: str) -> Config:
        (folder / "panicmail.toml").write_text(text)
        return config.load(folder / "panicmail.toml", environ, host_name=lambda: "mx1")

    return load


@pytest.fixture
def refused(load: Load, folder: Path) -> Refused:
    """The mistakes of a configuration, without the folder's name."""

    def refused(text: str = SMALLEST, **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text, **environ)
        assert "hunter2" not in str(caught.value)
        return [line.replace(f"{folder}/", "") for line in caught.value.mistakes]

    return refused


# What a file may leave out


def test_the_smallest_configuration_of_the_contract_is_enough(load: Load, folder: Path) -> None:
    told = load()
    assert told.smtp.hostname == "example.com"
    assert told.replies.address == "panic+{token}@example.com"
    assert (told.relay.sender, told.relay.page_sender) == ("panic@example.com", "panic@example.com")
    assert told.receipts.domains == ("example.com",)
    assert told.database.url.get_secret_value() == f"sqlite:///{folder}/panicmail.db"
    assert told.operators.page == ("max",)
    assert told.web.url == ""
    assert told.authentication.method == "verify"
    assert told.gitlab.token.get_secret_value() == "glpat-hunter2"
    ana = told.people["ana"]
    assert (ana.name, ana.email, ana.gitlab, ana.tz) == ("Ana Reyes", "ana.reyes@example.com", "Ana.Reyes", "UTC")


def test_everything_inferred_is_told_by_its_key(load: Load) -> None:
    inferred = load().inferred
    assert inferred["smtp.hostname"] == "example.com"
    assert inferred["people.ana.name"] == "Ana Reyes"
    assert inferred["escalation.steps"] == "0s seoc, 5m seoc, 10m seoc, 15m smoc+seoc"
    assert "gitlab.url" not in inferred
    assert "relay.sender" not in load(with_("relay", 'sender = "desk@example.com"')).inferred


def test_a_host_that_knows_its_full_name_is_greeted_by_it(folder: Path) -> None:
    (folder / "panicmail.toml").write_text(SMALLEST)
    for found, expected in [("mx1.Example.org", "mx1.example.org"), ("localhost.localdomain", "example.com")]:
        told = config.load(folder / "panicmail.toml", {}, host_name=lambda found=found: found)  # type: ignore[misc]
        assert told.smtp.hostname == expected


def test_the_steps_follow_the_sla(load: Load) -> None:
    steps = load(with_("escalation", 'sla = "1h30m"')).escalation.steps
    assert [step.after for step in steps] == [timedelta(minutes=m) for m in (0, 30, 60, 90)]
    assert steps[-1].page == ("smoc", "seoc")


def test_without_a_smoc_the_operators_are_those_the_last_step_pages(load: Load) -> None:
    text = with_("escalation", 'steps = [{ after = "0s", page = ["boss"] }]').replace("oncall.smoc", "oncall.boss")
    assert load(text).operators.page == ("max",)


def test_somebody_can_have_no_gitlab_user(load: Load) -> None:
    assert load(with_("people.max", 'gitlab = ""')).people["max"].gitlab is None


# Where values come from


def test_the_environment_wins_over_the_file_and_takes_lists_as_json(load: Load) -> None:
    told = load(
        PANICMAIL_SMTP__ADDRESSES='["alarm@example.org"]',
        PANICMAIL_PEOPLE__ANA__PHONE="+49 151 0",
        PANICMAIL_ESCALATION__SLA="20m",
        PANICMAIL_RECEIPTS__ENABLED="false",
        PANICMAIL_GITLAB__PROJECT="42",
        PANICMAIL_GITLAB__TOKEN="from-the-environment",
    )
    assert told.smtp.addresses == ("alarm@example.org",)
    assert told.relay.sender == "alarm@example.org"
    assert told.people["ana"].phone == "+49 151 0"
    assert told.escalation.sla == timedelta(minutes=20)
    assert not told.receipts.enabled
    assert told.gitlab.project == "42"
    assert told.gitlab.token.get_secret_value() == "from-the-environment"


def test_the_environment_finds_people_however_the_file_spells_them(load: Load) -> None:
    told = load(
        SMALLEST.replace("people.ana", "people.Ana").replace('"ana"', '"Ana"'), PANICMAIL_PEOPLE__ANA__PHONE="7"
    )
    assert told.people["Ana"].phone == "7"
    assert len(told.people) == 2


def test_everything_can_come_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    environ = {
        "PANICMAIL_SMTP": '{"addresses": ["panic@example.com"]}',
        "PANICMAIL_GITLAB__URL": "https://gitlab.example.com/",
        "PANICMAIL_GITLAB__PROJECT": "security/incidents",
        "PANICMAIL_GITLAB__TOKEN_FILE": "gitlab.token",
        "PANICMAIL_PEOPLE": '{"ana": {"email": "ana@example.com"}}',
        "PANICMAIL_ONCALL__SEOC__FIXED": '["ana"]',
        "PANICMAIL_ONCALL__SMOC__FIXED": '["ana"]',
    }
    path = config.find(None, environ)
    told = config.load(path, environ, host_name=lambda: "mx1")
    assert path is None
    assert told.gitlab.url == "https://gitlab.example.com"
    assert told.database.url.get_secret_value() == f"sqlite:///{folder}/panicmail.db"


def test_systemd_credentials_are_secrets_without_their_last_newline(load: Load, folder: Path) -> None:
    credentials = folder / "credentials"
    credentials.mkdir()
    for name, text in [
        ("gitlab__token", "from-systemd\n"),
        ("relay__url", "smtps://u:p@relay.example.org\n"),
        ("people__max__push", "json://one\njson://two\n"),
        ("smtp__hostname", "mx.example.net\n"),
        ("tokens__key_file", "a key\n"),
        ("database-of-somebody-else", "x"),
    ]:
        (credentials / name).write_text(text)
        (credentials / name).chmod(0o400)
    told = load(CREDENTIALS_DIRECTORY=str(credentials))
    assert told.gitlab.token.get_secret_value() == "from-systemd"
    assert (told.relay.url.host, told.relay.url.port, told.relay.url.tls) == ("relay.example.org", 465, "implicit")
    assert [channel.get_secret_value() for channel in told.people["max"].push] == ["json://one", "json://two"]
    assert told.smtp.hostname == "mx.example.net"
    assert told.tokens.key_file == credentials / "tokens__key_file"
    assert len(told.warnings) == 1
    assert "database-of-somebody-else" in told.warnings[0]


def test_mistyped_names_are_told_with_the_nearest_right_one(refused: Refused, folder: Path) -> None:
    (folder / "credentials").mkdir()
    (folder / "credentials" / "gitlab_token").write_text("hunter2")
    lines = refused(
        with_("gitlab", 'labls = ["x"]') + "[peple.bo]\n",
        PANICMAIL_GITLABB__PROJECT="hunter2",
        PANICMAIL_PEOPLE__AL__FONE="hunter2",
        CREDENTIALS_DIRECTORY=str(folder / "credentials"),
    )
    assert lines == [
        "credentials/gitlab_token: found an unknown credential, expected gitlab__token",
        'PANICMAIL_GITLABB__PROJECT: found an unknown name in the environment, expected "PANICMAIL_GITLAB__PROJECT"',
        'PANICMAIL_PEOPLE__AL__FONE: found an unknown name in the environment, expected "PANICMAIL_PEOPLE__AL__PHONE"',
        'panicmail.toml: peple: found an unknown key, expected "people"',
        'panicmail.toml: gitlab.labls: found an unknown key, expected "labels"',
    ]


@pytest.mark.parametrize(
    "name",
    [
        "PANICMAIL_CONFIG",
        "PANICMAIL_TESTS_REQUIRE",
        "PANICMAIL_TEST_PG",
        "PANICMAIL_CRASH_AT",
        "PANICMAIL_SERVICE_HOST",
        "PANICMAIL_PORT_25_TCP_ADDR",
        "PANICMAIL_WEB_SERVICE_PORT_HTTP",
        "PANICMAIL",
    ],
)
def test_names_that_are_no_settings_are_left_alone(load: Load, name: str) -> None:
    assert load(**{name: "x"}) == load()


def test_a_secret_in_two_places_of_one_source_is_ambiguous(refused: Refused) -> None:
    lines = refused(with_("gitlab", 'token = "hunter2"'))
    assert lines == ['panicmail.toml: gitlab.token_file: found "token" and "token_file", expected one of them']


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "expected a readable file (gitlab.token: No such file or directory)"), ("\n", "but gitlab.token is empty")],
)
def test_a_secret_file_that_holds_nothing_is_one_mistake(
    refused: Refused, folder: Path, content: str | None, expected: str
) -> None:
    (folder / "gitlab.token").unlink()
    if content is not None:
        (folder / "gitlab.token").write_text(content)
    lines = refused()
    assert len(lines) == 1
    assert lines[0].startswith('panicmail.toml: gitlab.token_file: found "gitlab.token", expected')
    assert expected in lines[0]


def test_a_secret_everybody_can_read_is_a_warning(load: Load, folder: Path) -> None:
    (folder / "gitlab.token").chmod(0o644)
    assert load().warnings == (f"{folder}/gitlab.token: everybody on this host can read this secret; chmod o-r",)


LOUD = "crosses the network in the clear"


@pytest.mark.parametrize("host", ["relay.example.com", "192.0.2.1", "[2001:db8::1]", "10.0.0.5"])
@pytest.mark.parametrize("scheme", ["smtp", "smtps", "smtp+starttls"])
def test_a_relay_password_in_the_clear_to_another_host_is_a_warning(load: Load, scheme: str, host: str) -> None:
    told = load(with_("relay", f'url = "{scheme}://u:hunter2@{host}"')).warnings
    assert [LOUD in each for each in told] == [True] * (scheme == "smtp")
    assert load(with_("relay", f'url = "{scheme}://{host}"')).warnings == (), "without a password nothing is lost"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost", "relay.localhost"])
def test_what_stays_on_this_host_may_be_in_the_clear(load: Load, host: str) -> None:
    text = with_("relay", f'url = "smtp://u:p@{host}"')
    text = text.replace('url = "https://gitlab.example.com"', f'url = "http://{host}"')
    text += f'[watch]\npush = ["json://{host}/x"]\n[paging]\npagerduty_url = "http://{host}"\n'
    assert load(text).warnings == ()


@pytest.mark.parametrize(
    ("place", "table", "line"),
    [
        ("gitlab.url", "gitlab", 'url = "http://gitlab.example.com"'),
        ("paging.pagerduty_url", "paging", 'pagerduty_url = "http://events.example.com"'),
        ("watch.push[0]", "watch", 'push = ["ntfy://u:p@ntfy.example.com/ana"]'),
        ("people.ana.push[1]", "people.ana", 'push = ["ntfys://n.example.com/x", "json://192.0.2.1/x"]'),
    ],
)
def test_any_secret_in_the_clear_to_another_host_is_a_warning(load: Load, place: str, table: str, line: str) -> None:
    (told,) = load(with_(table, line)).warnings
    assert told.startswith(f"{place}: ")
    assert "in the clear; use " in told


def test_a_calendars_url_in_the_clear_is_a_warning(load: Load) -> None:
    schedule = 'ical = "http://calendar.example.com/secret.ics"\nfallback = ["max"]'
    (told,) = load(with_("oncall.seoc", schedule).replace('fixed = ["ana"]', "")).warnings
    assert told.startswith("oncall.seoc.ical: ")
    assert "secret.ics" not in told


# The file itself


def test_a_named_file_that_is_missing_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: found no such file.*-c names it"):
        config.find(str(folder / "nowhere.toml"), {})
    with pytest.raises(ConfigError, match=r"nowhere\.toml: found no such file.*PANICMAIL_CONFIG names it"):
        config.find(None, {"PANICMAIL_CONFIG": str(folder / "nowhere.toml")})
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        config.load(folder / "nowhere.toml", {})


def closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who may not read it; root may read everything."""
    real_stat, real_access = Path.stat, os.access

    def stat(self: Path, **more: Any) -> os.stat_result:
        if path.is_absolute() and path in self.parents:
            raise PermissionError(13, "Permission denied")
        return real_stat(self, **more)

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(os, "access", lambda at, mode: Path(at) != path and real_access(at, mode))


@pytest.mark.parametrize("named", ["-c", "PANICMAIL_CONFIG", "PLACES"])
def test_a_file_that_is_there_and_may_not_be_read_is_told_as_that(
    named: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    file = folder / "panicmail.toml"
    file.write_text(SMALLEST)
    closed(file, monkeypatch)
    monkeypatch.setattr(config, "PLACES", (folder / "nowhere.toml", file) if named == "PLACES" else ())
    environ = {"PANICMAIL_CONFIG": str(file)} if named == "PANICMAIL_CONFIG" else {}
    with pytest.raises(ConfigError, match=r"panicmail\.toml: found a file that may not be read by user \d+; run this"):
        config.find(str(file) if named == "-c" else None, environ)


def test_a_folder_that_may_not_be_looked_into_is_told_as_that(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    inside = folder / "closed" / "panicmail.toml"
    closed(folder / "closed", monkeypatch)
    monkeypatch.setattr(config, "PLACES", (inside,))
    for explicit in (str(inside), None):
        with pytest.raises(ConfigError, match=r"panicmail\.toml: found a place that is closed to user \d+"):
            config.find(explicit, {})
    with pytest.raises(ConfigError, match="found a folder, expected the configuration"):
        config.find(str(folder), {})


def test_a_byte_order_mark_before_a_file_is_nothing(load: Load, folder: Path) -> None:
    mark = "\N{ZERO WIDTH NO-BREAK SPACE}"
    (folder / "gitlab.token").write_text(f"{mark}glpat-hunter2\n", "utf-8")
    told = load(mark + SMALLEST)
    assert told.gitlab.token.get_secret_value() == "glpat-hunter2"
    rows = offline_checks.everything(told, datetime.now(UTC))
    assert [row.subject for row in rows][:1] == ["configuration"]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "\N{ZERO WIDTH NO-BREAK SPACE}", "[smtp]\n[gitlab]\n"])
def test_an_empty_file_is_answered_with_what_belongs_there_and_no_word_of_calendars(
    refused: Refused, text: str
) -> None:
    lines = refused(text)
    assert not [line for line in lines if "calendar" in line]
    for key in ("smtp.addresses", "gitlab.url", "gitlab.project", "gitlab.token", "people", "oncall.seoc"):
        assert [line for line in lines if f" {key}: found no" in line], key


def test_the_file_is_looked_for_as_the_contract_says(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(config, "PLACES", (Path("panicmail.toml"), folder / "etc.toml"))
    with pytest.raises(ConfigError, match=r"found neither -c FILE, \$PANICMAIL_CONFIG, panicmail\.toml nor "):
        config.find(None, {})
    (folder / "etc.toml").touch()
    assert config.find(None, {}) == folder / "etc.toml"
    (folder / "panicmail.toml").touch()
    assert config.find(None, {}) == Path("panicmail.toml")
    (folder / "named.toml").touch()
    assert config.find(None, {"PANICMAIL_CONFIG": "named.toml"}) == Path("named.toml")
    assert config.find("etc.toml", {"PANICMAIL_CONFIG": "named.toml"}) == Path("etc.toml")


def test_a_syntax_error_names_file_and_line(refused: Refused, folder: Path) -> None:
    assert re.fullmatch(r"panicmail\.toml: not TOML: .*line 2, column \d+.*", refused("[smtp]\nlisten = [oops\n")[0])
    (folder / "panicmail.toml").write_bytes(b'[smtp]\nhostname = "\xff"\n')
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(folder / "panicmail.toml", {})


# Mistakes


def test_every_mistake_is_told_at_once(refused: Refused) -> None:
    lines = refused(
        """
        [smtp]
        listen = ["0.0.0.0:25", "unix:"]
        addresses = ["panic", "panic@example.com"]
        lmtp = true
        [gitlab]
        url = "https://user:hunter2@gitlab.example.com"
        token = ""
        [relay]
        url = "smtp://user:hun/ter2@host"
        [people.ana]
        email = "ana"
        [people.max]
        email = "panic+x@example.com"
        [oncall.seoc]
        fixed = ["anna", "max"]
        ical = "https://example.com/seoc.ics"
        [oncall.smoc]
        fixed = []
        [escalation]
        repeat = 5
        steps = [{ after = "1s", page = ["seocc"] }, { after = "1s", page = [] }, { afer = "2s", page = ["smoc"] }]
        [authentication]
        method = "trusted"
        nameservers = ["ns.example.com"]
        """,
        PANICMAIL_WEB__URL="ftp://hunter2@example.com",
    )
    places = [line.split(": found")[0].removeprefix("panicmail.toml: ") for line in lines]
    assert sorted(places) == sorted(
        [
            "smtp.listen[1]",
            "smtp.addresses[0]",
            "smtp.lmtp",
            "gitlab.url",
            "gitlab.project",
            "gitlab.token",
            "relay.url",
            "escalation.repeat",
            "escalation.steps[2].after",
            "escalation.steps[2].afer",
            "smtp.trusted_relays",
            "authentication.trusted_authserv_ids",
            "authentication.nameservers[0]",
            "PANICMAIL_WEB__URL: web.url",
            "people.ana.email",
            "oncall.seoc.ical",
            "oncall.seoc.fixed[0]",
            "oncall.smoc.fixed",
            "escalation.steps[0].after",
            "escalation.steps[0].page[0]",
            "escalation.steps[1].after",
            "escalation.steps[1].page",
            "people.max.email",
        ]
    )
    assert 'panicmail.toml: people.ana.email: found "ana", expected an address such as "ana@example.com"' in lines


@pytest.mark.parametrize(
    ("table", "line", "mistake"),
    [
        ("smtp", "addresses = []", 'found [], expected at least one address such as "panic@example.com"'),
        ("smtp", 'addresses = ["panic+x@example.com"]', '"panic@example.com": every subaddress of it is accepted too'),
        ("smtp", 'addresses = "panic@example.com"', 'expected a list such as ["panic@example.com"]'),
        ("smtp", 'listen = ["::1:25"]', "expected host:port"),
        ("smtp", 'trusted_relays = ["10.0.0.1/8"]', "without host bits"),
        ("smtp", 'max_message_size = "0MB"', 'expected a size such as "25MiB"'),
        ("smtp", 'tls_cert_file = "none.crt"', "smtp.tls_cert_file: found"),
        ("smtp", 'tls_cert_file = "gitlab.token"', "smtp.tls_key_file: found nothing"),
        ("replies", 'address = "reply@example.com"', 'expected a {token} in it, such as "panic+{token}@example.com"'),
        ("replies", 'address = "desk+{token}@example.com"', "expected a subaddress of smtp.addresses"),
        ("replies", 'address = "a{token}b@example.com"', '"panic+{token}@example.com" or "{token}@panic.example.com"'),
        ("database", 'url = "mysql://x"', "database.url: found a value that is not shown"),
        ("database", 'url = "sqlite:///:memory:"', "expected a URL such as"),
        ("database", 'url = "sqlite:///nowhere/p.db"', "in a folder that is there"),
        ("gitlab", 'project = ""', "expected a project's path"),
        ("gitlab", 'url = "gitlab.example.com"', 'expected a URL such as "https://gitlab.example.com"'),
        ("gitlab", 'labels = ["a,b"]', "without a comma"),
        ("gitlab", 'uploads = "some"', 'expected "all", "attachments" or "none"'),
        ("relay", 'url = "http://relay"', "relay.url: found a value that is not shown"),
        ("people.max", 'email = "ana.reyes@EXAMPLE.com"', "an address of one person; ana has it too"),
        ("people.max", 'aliases = ["Panic+x@example.com"]', "mail to this one comes back to panicmail"),
        ("people.max", 'tz = "Mars/Olympus"', 'expected a time zone such as "Europe/Berlin"'),
        ("people.max", r'name = "Max\nBcc: x"', "expected one line of text"),
        ("oncall.seoc", 'fixed = ["Ana"]', 'found "Ana", expected one of the people, "ana"'),
        ("oncall.seoc", 'fixed = ["ana", "ana"]', "expected each person once"),
        ("oncall.seoc", 'fallback = ["bo"]', "expected one of the people, one of ana, max"),
        ("escalation", "steps = []", "escalation.steps: found [], expected at least one step"),
        ("escalation", 'sla = "0s"', "longer than nothing"),
        ("escalation", 'repeat = "999ms"', "at least 1s"),
        ("escalation", "remind_after = 20", "found 20, expected a duration"),
        ("operators", "page = []", "expected at least one person"),
        ("operators", 'page = ["bo"]', "expected one of the people"),
        ("authentication", 'method = "dkim"', 'expected "verify", "trusted" or "none"'),
        ("authentication", 'nameservers = ["localhost"]', "the address of a name server such as"),
        ("authentication", 'nameservers = ["127.0.0.1:0"]', "the address of a name server such as"),
        ("authentication", 'arc_sealers = ["a b"]', 'a domain such as "example.com"'),
        ("senders", 'known = ["@example.com"]', "senders.known[0]: found"),
        ("receipts", 'enabled = "yes"', 'found "yes", expected true or false'),
        ("web", "listen = 8025", "found 8025, expected host:port"),
        ("log", 'level = "loud"', 'expected "debug", "info", "warning" or "error"'),
        ("watch", 'push = ["ntfys://h/hunter2\\n"]', ""),
    ],
)
def test_a_wrong_value_is_refused_alone(
    refused: Refused, load: Load, folder: Path, table: str, line: str, mistake: str
) -> None:
    if not mistake:
        load(with_(table, line))
        return
    lines = refused(with_(table, line))
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"panicmail.toml: {table}.")
    assert mistake in lines[0]


# Rosters

#: A shift as the contract has it.
NIGHTS = (
    'days = "mon-fri", from = "23:00", to = "07:00", people = ["ana", "max"], rotate = "weekly", start = 2026-11-23'
)


def shifts(line: str = NIGHTS, **changed: str) -> str:
    """A roster of one shift, with keys changed, or left out when changed to nothing."""
    keys = dict(pair.split(" = ", 1) for pair in re.split(r", (?=\w+ = )", line)) | {
        key.rstrip("_"): value for key, value in changed.items()
    }
    return f"shifts = [{{ {', '.join(f'{key} = {value}' for key, value in keys.items() if value)} }}]"


def rota(*lines: str) -> str:
    """The smallest configuration with another roster of the SEOC."""
    return SMALLEST.replace('[oncall.seoc]\nfixed = ["ana"]', "\n".join(["[oncall.seoc]", *lines]))


def test_a_shift_is_days_hours_a_zone_and_whose_turn_it_is(load: Load) -> None:
    (shift,) = load(rota(shifts(tz='"Europe/Berlin"', season='{ from = "03-29", to = "10-25" }'))).oncall["seoc"].shifts
    assert shift.days == frozenset(range(5))
    assert (shift.from_, shift.ends) == (timedelta(hours=23), timedelta(hours=31))
    assert (shift.tz, shift.people, shift.rotate, shift.start) == (
        "Europe/Berlin",
        ("ana", "max"),
        "weekly",
        date(2026, 11, 23),
    )
    assert shift.season is not None
    assert (shift.season.from_, shift.season.to) == ((3, 29), (10, 25))


@pytest.mark.parametrize(
    ("written", "days"),
    [("mon-fri", "01234"), ("sat,sun", "56"), ("daily", "0123456"), ("Mon, Wed-Fri", "0234"), ("fri-mon", "0456"),
     ("sun", "6"), ("mon-mon", "0"), ("sun-thu", "01236")],
)  # fmt: skip
def test_days_are_written_as_people_say_them(load: Load, written: str, days: str) -> None:
    (shift,) = load(rota(shifts(days=f'"{written}"'))).oncall["seoc"].shifts
    assert shift.days == frozenset(map(int, days))


@pytest.mark.parametrize(
    ("begins", "ends", "hours"),
    [('"08:00"', '"16:30"', (8, 16.5)), ('"8:00"', '"24:00"', (8, 24)), ('"00:00"', '"24:00"', (0, 24)),
     ('"08:00"', '"08:00"', (8, 32)), ('"23:00"', '"00:00"', (23, 24)), ("23:00:00", "07:00:00", (23, 31))],
)  # fmt: skip
def test_a_shift_that_ends_no_later_than_it_begins_ends_the_next_day(
    load: Load, begins: str, ends: str, hours: tuple[float, float]
) -> None:
    (shift,) = load(rota(shifts(from_=begins, to=ends))).oncall["seoc"].shifts
    assert (shift.from_, shift.ends) == tuple(timedelta(hours=each) for each in hours)


def test_an_override_is_two_instants_and_a_person(load: Load) -> None:
    line = 'overrides = [{ from = 2026-12-24T19:00:00+01:00, to = 2026-12-25T06:00:00Z, person = "max" }]'
    (override,) = load(with_("oncall.seoc", line)).oncall["seoc"].overrides
    assert override.from_ == datetime(2026, 12, 24, 18, tzinfo=UTC)
    assert (override.to, override.person) == (datetime(2026, 12, 25, 6, tzinfo=UTC), "max")


def test_rosters_can_come_from_the_environment_too(load: Load) -> None:
    shift = {"days": "daily", "from": "08:00", "to": "16:00", "people": ["ana"], "start": "2026-11-23"}
    override = {"from": "2026-12-24T18:00:00Z", "to": "2026-12-25T06:00:00Z", "person": "max"}
    told = load(
        rota(),
        PANICMAIL_ONCALL__SEOC__SHIFTS=json.dumps([shift]),
        PANICMAIL_ONCALL__SEOC__OVERRIDES=json.dumps([override]),
    )
    same = load(
        rota(
            'shifts = [{ days = "daily", from = "08:00", to = "16:00", people = ["ana"], start = 2026-11-23 }]',
            'overrides = [{ from = 2026-12-24T18:00:00Z, to = 2026-12-25T06:00:00Z, person = "max" }]',
        )
    )
    assert told.oncall == same.oncall


def test_a_calendar_is_a_file_beside_the_configuration_or_a_url(load: Load, folder: Path) -> None:
    (folder / "seoc.ics").touch()
    schedule = load(rota('ical = "seoc.ics"', 'fallback = ["max"]')).oncall["seoc"]
    assert schedule.ical is not None
    assert schedule.ical.source == folder / "seoc.ics"
    assert (schedule.ical_person, schedule.ical_refresh, schedule.ical_copy) == ("any", timedelta(minutes=15), None)
    told = load(
        rota(
            'ical = "webcal://calendar.example.com/private-hunter2/basic.ics"',
            'ical_person = "organiser"',
            'ical_refresh = "1h"',
            'ical_copy = "kept/seoc.json"',
            'fallback = ["max"]',
        )
    )
    schedule = told.oncall["seoc"]
    assert schedule.ical is not None
    assert schedule.ical.source == "https://calendar.example.com/private-hunter2/basic.ics"
    assert (schedule.ical_person, schedule.ical_refresh) == ("organizer", timedelta(hours=1))
    assert schedule.ical_copy == folder / "kept" / "seoc.json"
    assert told.warnings == ()
    assert "hunter2" not in repr(told) + told.model_dump_json()


def test_a_calendars_url_can_stand_in_a_file_of_its_own(load: Load, folder: Path) -> None:
    (folder / "seoc.url").write_text("https://calendar.example.com/private-hunter2/basic.ics\n")
    (folder / "seoc.url").chmod(0o600)
    schedule = load(rota('ical_file = "seoc.url"', 'fallback = ["max"]')).oncall["seoc"]
    assert schedule.ical is not None
    assert schedule.ical.source == "https://calendar.example.com/private-hunter2/basic.ics"


def test_a_calendar_that_is_not_there_is_a_warning_because_its_copy_may_be(load: Load, folder: Path) -> None:
    assert load(rota('ical = "seoc.ics"', 'fallback = ["max"]')).warnings == (
        f"{folder}/seoc.ics: this calendar cannot be read; its last good copy answers, else the fallback",
    )


def test_a_fallback_that_can_never_answer_and_a_calendar_without_one_are_warnings(load: Load, folder: Path) -> None:
    (folder / "seoc.ics").touch()
    assert "a fixed roster has no gaps" in load(with_("oncall.seoc", 'fallback = ["max"]')).warnings[0]
    assert "name somebody in fallback" in load(rota('ical = "seoc.ics"')).warnings[0]
    assert load(rota(shifts(), 'fallback = ["max"]')).warnings == ()


def test_the_operators_are_whom_the_roster_of_the_smoc_can_name(load: Load, refused: Refused) -> None:
    smoc = '[oncall.smoc]\nfixed = ["max"]'
    assert load(SMALLEST.replace(smoc, f"[oncall.smoc]\n{shifts()}")).operators.page == ("ana", "max")
    calendar = '[oncall.smoc]\nical = "https://calendar.example.com/smoc.ics"'
    assert load(SMALLEST.replace(smoc, f'{calendar}\nfallback = ["max"]')).operators.page == ("max",)
    assert refused(SMALLEST.replace(smoc, calendar)) == [
        'panicmail.toml: operators.page: found nobody: a calendar does not say who; expected a list such as ["ana"]'
    ]


@pytest.mark.parametrize(
    ("lines", "place", "mistake"),
    [
        ((), "oncall.seoc.fixed", "found [], expected at least one person, or ical or shifts in its place"),
        (("shifts = []",), "oncall.seoc.fixed", "or ical or shifts in its place"),
        (('fixed = ["ana"]', shifts()), "oncall.seoc.shifts", "found fixed and shifts, expected one of fixed, ical"),
        (('ical = "https://x.example/a"', shifts()), "oncall.seoc.shifts", "found ical and shifts"),
        ((shifts(people='["anna"]'),), "oncall.seoc.shifts[0].people[0]", 'found "anna", expected one of the people'),
        ((shifts(people="[]"),), "oncall.seoc.shifts[0].people", "nobody ever has this shift"),
        ((shifts(rotate=""),), "oncall.seoc.shifts[0].rotate", 'expected "weekly", "daily", or "none" for all of them'),
        ((shifts(rotate='"monthly"'),), "oncall.seoc.shifts[0].rotate", 'found "monthly", expected "weekly", "daily"'),
        ((shifts(rotate='"none"', people='["ana", "ana"]'),), "oncall.seoc.shifts[0].people[1]", "each person once"),
        ((shifts(start=""),), "oncall.seoc.shifts[0].start", "a day such as 2026-11-23, from when ana has the first"),
        ((shifts(start="2026-11-23T00:00:00Z"),), "oncall.seoc.shifts[0].start", "a day such as 2026-11-23"),
        ((shifts(days='"mo-fr"'),), "oncall.seoc.shifts[0].days", 'found "mo-fr", expected days such as "mon-fri"'),
        ((shifts(days=""),), "oncall.seoc.shifts[0].days", 'found nothing, expected days such as "mon-fri"'),
        ((shifts(days='""'),), "oncall.seoc.shifts[0].days", "expected days such as"),
        ((shifts(from_='"24:00"'),), "oncall.seoc.shifts[0].from", 'expected a time of day such as "23:00"'),
        ((shifts(from_=""),), "oncall.seoc.shifts[0].from", 'found nothing, expected a time of day such as "23:00"'),
        ((shifts(to='"7:60"'),), "oncall.seoc.shifts[0].to", 'a time of day such as "23:00"; a day ends at "24:00"'),
        ((shifts(to="7"),), "oncall.seoc.shifts[0].to", "found 7, expected a time of day"),
        ((shifts(tz='"Mars/Olympus"'),), "oncall.seoc.shifts[0].tz", "expected a time zone"),
        ((shifts(until='"7:00"'),), "oncall.seoc.shifts[0].until", "found an unknown key, expected one of days, from"),
        (
            (shifts(season='{ from = "02-30", to = "03-01" }'),),
            "oncall.seoc.shifts[0].season.from",
            "a day of the year",
        ),
        ((shifts(season='{ from = "03-29" }'),), "oncall.seoc.shifts[0].season.to", "found nothing, expected a day of"),
        ((shifts(season='{ from = "03-29", to = "03-29" }'),), "oncall.seoc.shifts[0].season", "a season of some days"),
        (('shifts = ["mon-fri"]',), "oncall.seoc.shifts[0]", 'found "mon-fri", expected a table'),
        (('ical = "ftp://x.example/a.ics"',), "oncall.seoc.ical", "expected a file such as"),
        (('ical = "https://"',), "oncall.seoc.ical", "found a value that is not shown"),
        (("ical = 7",), "oncall.seoc.ical", "expected a file such as"),
    ],
)
def test_a_wrong_roster_is_refused_where_it_is_wrong(
    refused: Refused, lines: tuple[str, ...], place: str, mistake: str
) -> None:
    (line,) = refused(rota(*lines))
    assert line.startswith(f"panicmail.toml: {place}: ")
    assert mistake in line


@pytest.mark.parametrize(
    ("override", "place", "mistake"),
    [
        ('from = 2026-12-24T18:00:00, to = 2026-12-25T06:00:00Z, person = "max"', "from", "an instant with its zone"),
        ('from = 2026-12-24, to = 2026-12-25T06:00:00Z, person = "max"', "from", "an instant with its zone"),
        ('from = "soon", to = 2026-12-25T06:00:00Z, person = "max"', "from", 'found "soon", expected an instant with'),
        ('from = 2026-12-24T18:00:00Z, to = 2026-12-24T18:00:00Z, person = "max"', "to", "an instant after from"),
        ('from = 2026-12-24T18:00:00Z, to = 2026-12-25T06:00:00Z, person = "maxx"', "person", 'the people, "max"'),
        (
            "from = 2026-12-24T18:00:00Z, to = 2026-12-25T06:00:00Z",
            "person",
            "found nothing, expected one of the people",
        ),
        ('to = 2026-12-25T06:00:00Z, person = "max"', "from", "found nothing, expected an instant with its zone"),
    ],
)
def test_a_wrong_override_is_refused(refused: Refused, override: str, place: str, mistake: str) -> None:
    (line,) = refused(with_("oncall.seoc", f"overrides = [{{ {override} }}]"))
    assert line.startswith(f"panicmail.toml: oncall.seoc.overrides[0].{place}: ")
    assert mistake in line


def test_a_calendar_is_asked_at_most_once_a_minute(refused: Refused) -> None:
    lines = refused(rota('ical = "https://calendar.example.com/x.ics"', 'ical_refresh = "59s"', 'ical_person = "cn"'))
    assert [line.split(": ")[1] for line in lines] == ["oncall.seoc.ical_person", "oncall.seoc.ical_refresh"]
    assert "at least 1m" in lines[1]


def test_the_policy_nobody_wrote_needs_both_roles(refused: Refused) -> None:
    lines = refused(SMALLEST.replace("oncall.smoc", "oncall.boss"))
    assert len(lines) == 1
    assert lines[0].startswith("panicmail.toml: oncall.smoc: found nobody on call, expected a table [oncall.smoc], or")


def test_a_table_that_is_none_is_not_shown(refused: Refused) -> None:
    assert refused('gitlab = "hunter2"\n' + re.sub(r"\[gitlab\](\n.+)+", "", SMALLEST)) == [
        "panicmail.toml: gitlab: found a value that is not shown, expected a table, [gitlab]"
    ]


def test_tls_wants_a_certificate_and_its_own_key(load: Load, refused: Refused, folder: Path) -> None:
    issued = trustme.CA().issue_cert("panic.example.com")
    issued.cert_chain_pems[0].write_to_path(str(folder / "tls.crt"))
    issued.private_key_pem.write_to_path(str(folder / "tls.key"))
    (folder / "tls.key").chmod(0o600)
    text = with_("smtp", 'tls_cert_file = "tls.crt"', 'tls_key_file = "tls.key"')
    assert load(text).smtp.tls_cert_file == folder / "tls.crt"
    trustme.CA().issue_cert("panic.example.com").private_key_pem.write_to_path(str(folder / "tls.key"))
    assert refused(text) == [
        "panicmail.toml: smtp.tls_cert_file: found no usable pair, expected a PEM certificate and its unencrypted key"
    ]


# Values


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("15m", 900), ("6h", 21600), ("1h30m", 5400), ("1.5s", 1.5), ("20ms", 0.02), ("2d", 172800)],
)
def test_durations_are_written_with_their_unit(load: Load, written: str, seconds: float) -> None:
    text = with_("escalation", f'sla = "{written}"', 'steps = [{ after = "0s", page = ["seoc"] }]')
    assert load(text).escalation.sla == timedelta(seconds=seconds)


@pytest.mark.parametrize("written", ["15", "m", "-5m", "1 h", "1e3s", "PT15M", "٣s", "99999999999999d", ""])
def test_other_durations_are_refused(refused: Refused, written: str) -> None:
    assert "escalation.sla" in refused(with_("escalation", f'sla = "{written}"'))[0]


@pytest.mark.parametrize(
    ("written", "octets"), [('"25MiB"', 25 * 2**20), ('"50MB"', 50 * 10**6), ("1000", 1000), ('"1.5KiB"', 1536)]
)
def test_sizes_are_octets(load: Load, written: str, octets: int) -> None:
    assert load(with_("smtp", f"max_message_size = {written}")).smtp.max_message_size == octets


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("127.0.0.1:0", Listen("127.0.0.1", 0)),
        ("[::1]:25", Listen("::1", 25)),
        ("localhost:2525", Listen("localhost", 2525)),
    ],
)
def test_sockets_are_host_and_port(load: Load, written: str, expected: Listen) -> None:
    assert load(with_("smtp", f'listen = ["{written}"]')).smtp.listen == (expected,)
    assert str(expected) == written


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("smtp://127.0.0.1:25", ("127.0.0.1", 25, "none", None, None)),
        ("smtp://relay", ("relay", 25, "none", None, None)),
        ("smtps://u:p@relay.example.com/", ("relay.example.com", 465, "implicit", "u", "p")),
        ("smtp+starttls://a%40b:p%2F%23@[::1]", ("::1", 587, "starttls", "a@b", "p/#")),
    ],
)
def test_the_relays_url_is_taken_apart(load: Load, written: str, expected: tuple[object, ...]) -> None:
    url = load(with_("relay", f'url = "{written}"')).relay.url
    password = url.password.get_secret_value() if url.password else None
    assert (url.host, url.port, url.tls, url.username, password) == expected


@pytest.mark.parametrize(
    "address",
    ["{token}@panic.example.com", "panic+{token}@example.com", "panic@example.com", "PANIC+{token}@EXAMPLE.com"],
)
def test_replies_come_to_a_token_address_or_one_of_ours(load: Load, address: str) -> None:
    assert load(with_("replies", f'address = "{address}"')).replies.address == address.lower()


# What follows from it


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("rita@home.example", "line 1: found 1 fields, expected address,name,phone"),
        ("address,name,phone\nrita@home.example,Rita,+49 1,x\n", "line 2: found 4 fields"),
        ("rita at home,Rita,\n", "line 1: found 'rita at home', expected a mail address"),
        ("rita@home.example,,+49 1\n", "line 1: rita@home.example has no name"),
        ("rita@home.example,Rita\nRITA@home.example,Rita\n", "line 2: rita@home.example stands there twice"),
        ('rita@home.example,"Rita\n', "cannot be read as CSV"),
    ],
)
def test_a_list_of_reporters_that_is_wrong_is_refused_with_its_line(
    load: Load, folder: Path, text: str, why: str
) -> None:
    (folder / "reporters.csv").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(SMALLEST + "[senders]\nreporters_file = 'reporters.csv'\n")
    assert "senders.reporters_file" in str(refused.value)
    assert why in str(refused.value)


def test_a_list_of_reporters_is_read_by_address(load: Load, folder: Path) -> None:
    (folder / "reporters.csv").write_text(
        "\ufeffAddress,Name,Phone\r\nRita@Home.example, Rita  Lopez ,+49 170 1\r\n\r\n"
    )
    told = load(SMALLEST + "[senders]\nreporters_file = 'reporters.csv'\n")
    assert told.senders.reporters_file is not None
    assert reporters.read(told.senders.reporters_file) == {
        "rita@home.example": KnownReporter("Rita Lopez", "+49 170 1")
    }


@pytest.mark.parametrize(
    "url",
    ["ntfys://ntfy.example.com/ana-secret", "tgram://123:key/456?silent=no", "https://hooks.example.com/x?verify=yes"],
)
def test_a_push_url_is_judged_by_its_shape_alone(load: Load, url: str) -> None:
    told = load(SMALLEST + f'[watch]\npush = ["{url}"]\n')
    assert [kept.get_secret_value() for kept in told.watch.push] == [url]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ntfy.example.com/secret", "a URL of a push service"),
        ("ntfys://", "a URL of a push service"),
        ("ntfys://ntfy.example.com/a secret", "a URL of a push service"),
        ("pagerduty:", "a URL of a push service"),
        ("syslog://secret", "reaches nobody"),
        ("ntfys://ntfy.example.com/secret?verify=no", "without verify=no"),
        ("ntfys://ntfy.example.com/secret?a=b&VERIFY=0&c=d", "without verify=no"),
    ],
)
def test_what_could_be_no_push_url_is_refused_without_showing_it(load: Load, url: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(SMALLEST + f'[watch]\npush = ["{url}"]\n')
    (mistake,) = caught.value.mistakes
    assert "watch.push" in mistake
    assert expected in mistake
    assert "secret" not in mistake.replace("ntfy.example.com/ana-secret", "")


@pytest.mark.parametrize(("url", "count"), [("https://hc.example.com/x", 1), ("https://hc.example.com/x-{who}", 0)])
def test_one_switch_for_two_who_live_is_a_warning(load: Load, url: str, count: int) -> None:
    told = load(SMALLEST + f'[watch]\nheartbeat_url = "{url}"\n')
    assert len([line for line in told.warnings if line.startswith("watch.heartbeat_url")]) == count


def test_two_loads_of_the_same_are_equal_and_of_another_are_not(load: Load) -> None:
    assert load() == load()
    assert load() != load(with_("gitlab", 'project = "other"'))
    assert load() != load(PANICMAIL_GITLAB__TOKEN="another")


def test_a_configuration_cannot_be_changed(load: Load) -> None:
    told = load()
    with pytest.raises(ValueError, match="frozen"):
        told.gitlab.url = "https://elsewhere"


def test_no_repr_shows_a_secret(load: Load) -> None:
    told = load(with_("database", 'url = "postgresql://panic:hunter2@db/panicmail"'))
    assert told.relay.url.password is not None
    for secret in ("hunter2", "ana-secret", "pass@word", "pass%40word"):
        assert secret not in repr(told) + str(told) + str(told.relay.url) + told.model_dump_json()


_MODELS = {**TABLES, "people.ana": NAMED_TABLES["people"], "oncall.seoc": NAMED_TABLES["oncall"]}
_KEYS = [(table, key) for table, model in _MODELS.items() for key in model.model_fields]
_SECRETS = [(table, key) for table, key in _KEYS if is_secret(_MODELS[table], key)]
_ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=many(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(_KEYS), value=_ANYTHING)
def test_whatever_stands_in_a_file_is_a_configuration_or_a_list_of_mistakes(
    folder: Path, where: tuple[str, str], value: Any
) -> None:
    table, key = where
    name = f"PANICMAIL_{table.replace('.', '__').upper()}__{key.upper()}"
    (folder / "panicmail.toml").write_text(SMALLEST)
    text = value if isinstance(value, str) else json.dumps(value)
    mistakes: tuple[str, ...] = ()
    try:
        config.load(folder / "panicmail.toml", {name: text}, host_name=lambda: "mx1")
    except ConfigError as exc:
        mistakes = exc.mistakes
    assert all("\n" not in line and "expected" in line for line in mistakes), mistakes


@pytest.mark.parametrize(("table", "key"), _SECRETS)
def test_a_wrong_secret_is_never_shown(refused: Refused, table: str, key: str) -> None:
    name = f"PANICMAIL_{table.replace('.', '__').upper()}__{key.upper()}"
    refused(PANICMAIL_WEB__LISTEN="x", **{name: '["hunter2\\n"]'})


# -- names that have changed

LOW = 'drill = true\nsteps = [{ after = "0s", page = ["seoc"] }]\n'


def test_a_policy_under_its_old_name_is_read_and_told_with_the_line_to_write(load: Load, folder: Path) -> None:
    loaded = load(f"{SMALLEST}\n[ladders.low]\n{LOW}")
    assert loaded.policies["low"].drill
    assert loaded.warnings == (f"{folder / 'panicmail.toml'}: [ladders.low] has a new name; write [policies.low]",)


def test_a_policy_under_its_old_name_in_the_environment_is_read_and_told(load: Load) -> None:
    loaded = load(f"{SMALLEST}\n[policies.other]\n{LOW}", PANICMAIL_LADDERS__LOW__DRILL="true",
                  PANICMAIL_LADDERS__LOW__STEPS='[{"after": "0s", "page": ["seoc"]}]')  # fmt: skip
    assert sorted(loaded.policies) == ["low", "other"]
    assert set(loaded.warnings) == {
        f"PANICMAIL_LADDERS__LOW__{key} has a new name; write PANICMAIL_POLICIES__LOW__{key}"
        for key in ("DRILL", "STEPS")
    }


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (f"[ladders.low]\n{LOW}\n[policies.low]\n{LOW}", {}),
        (f"[policies.low]\n{LOW}", {"PANICMAIL_LADDERS__LOW__DRILL": "false"}),
        (f"[ladders.Low]\n{LOW}", {"PANICMAIL_POLICIES__LOW__DRILL": "false"}),
    ],
)
def test_one_name_under_the_old_and_the_new_table_is_refused(
    refused: Refused, text: str, environ: dict[str, str]
) -> None:
    (line,) = refused(f"{SMALLEST}\n{text}", **environ)
    assert re.search(r": policies\.[lL]ow: found .+ too, its old name; expected one of them$", line)


def test_a_mistake_under_the_old_name_is_told_once_and_a_wrong_table_is_no_crash(refused: Refused) -> None:
    (line,) = refused(f"{SMALLEST}\n[ladders.low]\n{LOW}severty = [1]\n")
    assert 'policies.low.severty: found an unknown key, expected "severity"' in line
    (line,) = refused(f'ladders = "all"\n{SMALLEST}')
    assert "policies: found a value that is not shown, expected tables such as [policies.low]" in line


def test_name_servers_are_addresses_with_a_port_of_their_own_where_it_is_not_53(load: Load) -> None:
    given = '["192.0.2.53", "127.0.0.1:5353", "2001:db8::53", "[::1]:5354"]'
    told = load(SMALLEST + f"[authentication]\nnameservers = {given}\n")
    assert [(one.host, one.port) for one in told.authentication.nameservers] == [
        ("192.0.2.53", 53), ("127.0.0.1", 5353), ("2001:db8::53", 53), ("::1", 5354),
    ]  # fmt: skip


@pytest.mark.parametrize(("given", "found"), [("Example.COM", "example.com"), ("", ""), ("none", "none")])
def test_a_persons_proof_is_a_domain_or_none(load: Load, given: str, found: str) -> None:
    told = load(SMALLEST.replace("[people.ana]", f'[people.ana]\nproof = "{given}"'))
    assert told.people["ana"].proof == found


def test_a_proof_that_is_no_domain_is_refused(load: Load) -> None:
    with pytest.raises(ConfigError) as refused:
        load(SMALLEST.replace("[people.ana]", '[people.ana]\nproof = "ana@example.com"'))
    assert "people.ana.proof" in str(refused.value)


def test_a_file_of_authorities_without_any_is_refused(refused: Refused, folder: Path) -> None:
    (folder / "ca.pem").write_text("nothing of the kind")
    [mistake] = refused(with_("relay", 'ca_file = "ca.pem"'))
    assert "relay.ca_file: found a file with none that can be read (ca.pem)" in mistake
