"""What stands in deploy/ is true: the configurations load, the comments hold, the unit and the commands are real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from panicmail import __version__, config
from panicmail.check import memory_checks
from panicmail.cli import cli
from panicmail.config import Config
from panicmail.config.schema import NAMED_TABLES, TABLES, SmtpSettings
from panicmail.errors import ConfigError
from panicmail.incident import reply_commands
from panicmail.incident.reply_tokens import Addresses, Purpose, SigningKey, TokenSigner

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EXAMPLE = (DEPLOY / "panicmail.example.toml").read_text("utf-8")
MINIMAL = (DEPLOY / "panicmail.minimal.toml").read_text("utf-8")
UNIT = (DEPLOY / "panicmail.service").read_text("utf-8")
WATCH_UNIT = (DEPLOY / "panicmail-watch.service").read_text("utf-8")
UNITS = {"daemon": UNIT, "watch": WATCH_UNIT}
GUIDE = (DEPLOY / "README.md").read_text("utf-8")
POSTFIX = DEPLOY / "postfix"

#: Where the service may write.
STATE = "/var/lib/panicmail"

Load = Callable[..., Config]


class Entry(NamedTuple):
    """A key of the example: where it stands, what its comment says, and the example without it."""

    section: str
    key: str
    mark: str  #: "default", "inferred", "e.g." or ""
    comment: str
    without: str

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"


def entries(text: str) -> Iterator[Entry]:
    lines = text.splitlines(keepends=True)
    section = comment = ""
    fresh = False  # whether the comment was begun since the last key; keys in a row share one
    for number, line in enumerate(lines):
        if line.startswith("["):
            section, comment, fresh = line.strip("[]\n"), "", False
        elif line.startswith("#"):
            comment, fresh = (comment + line if fresh else line), True
        elif match := re.match(r"(\w+) = (.*)", line):
            end = number
            if match[2] == "[":  # a list over several lines
                end = next(n for n in range(number, len(lines)) if lines[n].startswith("]"))
            mark = re.search(r"# (default|inferred|e\.g\.)\n\Z", lines[end])
            rest = "".join(lines[:number] + lines[end + 1 :])
            yield Entry(section, match[1], mark[1] if mark else "", comment, rest)
            fresh = False


ENTRIES = tuple(entries(EXAMPLE))


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a configuration of deploy/ with the files it names; keyword arguments are the environment."""
    token = tmp_path / "gitlab.token"
    token.write_text("glpat-example\n")
    token.chmod(0o640)
    (tmp_path / "dkim.key").write_text("made by panicmail keys dkim\n")
    (tmp_path / "dkim.key").chmod(0o600)

    def load(text: str, **environ: str) -> Config:
        file = tmp_path / "panicmail.toml"
        file.write_text(text.replace(STATE, str(tmp_path)))
        return config.load(file, environ, host_name=lambda: "panic.example.com")

    return load


# -- the configurations


@pytest.mark.parametrize("text", [EXAMPLE, MINIMAL], ids=["example", "minimal"])
def test_a_configuration_of_deploy_loads_and_nothing_is_odd_about_it(load: Load, text: str) -> None:
    loaded = load(text)
    assert loaded.warnings == ()


@pytest.mark.parametrize("text", [EXAMPLE, MINIMAL], ids=["example", "minimal"])
def test_the_database_lies_where_the_service_may_write(text: str) -> None:
    assert tomllib.loads(text)["database"]["url"] == f"sqlite:///{STATE}/panicmail.db"


def test_every_key_there_is_stands_in_the_example() -> None:
    written = tomllib.loads(EXAMPLE)
    tables = [(name, model, written.get(name, {})) for name, model in TABLES.items()]
    for name, model in NAMED_TABLES.items():
        tables.append((name, model, {key: value for table in written[name].values() for key, value in table.items()}))
    missing = [
        f"{name}.{key}"
        for name, model, table in tables
        for key in model.model_fields
        if key not in table and f"{key}_file" not in table
    ]
    assert not missing


def test_every_key_is_explained_and_marked_where_it_first_stands() -> None:
    seen: set[str] = set()
    bare = []
    for entry in ENTRIES:
        kind = f"{entry.section.split('.')[0]}.{entry.key}"
        if kind not in seen and not (entry.comment and entry.mark):
            bare.append(entry.name)
        seen.add(kind)
    assert not bare


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e.mark in {"default", "inferred"}], ids=[e.name for e in ENTRIES if e.mark != "e.g."
    and e.mark]
)  # fmt: skip
def test_what_is_called_default_is_what_leaving_it_out_gives(load: Load, entry: Entry) -> None:
    whole, without = load(EXAMPLE), load(entry.without)
    different = {"path", "inferred"}
    assert without.model_dump(exclude=different) == whole.model_dump(exclude=different)
    assert (entry.name in without.inferred) == (entry.mark == "inferred")


@pytest.mark.parametrize("table", ["smtp", "gitlab", "people.ana", "people.max", "oncall.seoc", "oncall.smoc"])
def test_the_minimal_configuration_has_no_table_too_many(load: Load, table: str) -> None:
    less = re.sub(rf"(?ms)^\[{re.escape(table)}\]\n.*?(?=^\[|^# |\Z)", "", MINIMAL)
    assert less != MINIMAL
    with pytest.raises(ConfigError):
        load(less)


# -- the unit


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(s|min)", text.strip()).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "min": 60}[unit]


def test_the_unit_starts_the_console_script_with_a_command_it_has() -> None:
    program, command, *rest = settings(UNIT)["ExecStart"][0].split()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert Path(program).name in scripts
    assert command in cli.commands
    assert rest == ["--config", "/etc/panicmail/panicmail.toml"]
    assert f"ln -sfn panicmail-{__version__} {Path(program).parent.parent}\n" in GUIDE


def test_the_unit_gives_panicmail_the_time_it_may_need() -> None:
    unit = {key: values[-1] for key, values in settings(UNIT).items()}
    assert seconds(unit["TimeoutStopSec"]) > 10  # contract.md 1: SIGTERM exits within 10 s
    assert seconds(unit["WatchdogSec"]) > 15  # vitals.TICK_WITHIN: /healthz is the first to say so
    assert seconds(unit["RestartSec"]) <= 5
    assert (unit["Restart"], unit["StartLimitIntervalSec"], unit["Type"]) == ("always", "0", "notify")


def test_the_unit_has_memory_for_as_many_readers_as_there_may_be_and_goes_on_without_one() -> None:
    unit = {key: values[-1] for key, values in settings(UNIT).items()}
    limit = int(unit["MemoryMax"].removesuffix("G")) * 2**30
    (row,) = memory_checks.rows(50 * 2**20, limit)  # the default of smtp.max_message_size
    assert row.is_ok, row.found
    assert unit["OOMPolicy"] == "continue"


def test_the_unit_and_the_guide_agree_on_the_user_and_their_folders() -> None:
    unit = {key: values[-1] for key, values in settings(UNIT).items()}
    assert f"/var/lib/{unit['StateDirectory']}" == STATE
    assert re.search(rf"^useradd .*--home-dir {STATE} .* {unit['User']}$", GUIDE, re.M)
    assert STATE in unit["NoExecPaths"].split()


#: Where the watch's unit says something else than the daemon's, or what it has no need of.
OF_ITS_OWN = {
    "Description", "After", "Type", "NotifyAccess", "ExecStart", "TimeoutStartSec", "TimeoutStopSec", "WatchdogSec",
    "MemoryMax", "OOMPolicy", "TasksMax", "LimitNOFILE", "AmbientCapabilities", "CapabilityBoundingSet",
    "SystemCallFilter",
}  # fmt: skip


def test_the_watch_has_a_unit_of_its_own_that_starts_it_and_depends_on_no_daemon() -> None:
    program, command, *rest = settings(WATCH_UNIT)["ExecStart"][0].split()
    assert program == settings(UNIT)["ExecStart"][0].split()[0]
    assert (command, rest) == ("watch", ["--config", "/etc/panicmail/panicmail.toml"])
    named = " ".join(value for key in ("After", "Requires", "Wants") for value in settings(WATCH_UNIT).get(key, []))
    assert "panicmail" not in named
    assert seconds(settings(WATCH_UNIT)["TimeoutStopSec"][0]) > 2


def test_the_watch_is_hardened_like_the_daemon_and_a_little_more() -> None:
    daemon, watch = settings(UNIT), settings(WATCH_UNIT)
    assert {key: watch.get(key) for key in daemon.keys() - OF_ITS_OWN} == {
        key: values for key, values in daemon.items() if key not in OF_ITS_OWN
    }
    assert watch["CapabilityBoundingSet"] == watch["AmbientCapabilities"] == [""]
    allowed, denied = watch["SystemCallFilter"]
    assert allowed == daemon["SystemCallFilter"][0]
    assert set(daemon["SystemCallFilter"][1].split()) < set(denied.split())


def test_the_drop_in_takes_every_capability_away() -> None:
    drop_in = settings((DEPLOY / "behind-postfix.conf").read_text())
    assert drop_in["AmbientCapabilities"] == drop_in["CapabilityBoundingSet"] == [""]


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit with a program that is there, for tools that look."""
    file = tmp_path / "panicmail.service"
    file.write_text(UNITS[request.param].replace("/opt/panicmail/bin/panicmail", sys.executable))
    return file


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("no systemd-analyze here")
    # It reads the units of this machine too, and warns of them; colours and pagers are for people.
    plain = {**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=30, check=False, env=plain)


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    done = analyze("verify", "--recursive-errors=no", str(unit))
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is older than 250")
    assert not [line for line in done.stderr.splitlines() if "panicmail" in line], done.stderr
    assert done.returncode == 0


def test_the_unit_is_exposed_no_more_than_it_must(unit: Path) -> None:
    done = analyze("security", "--offline=yes", "--threshold=16", str(unit))
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is older than 250")
    assert done.returncode == 0, done.stdout[-200:]


# -- the guides


@pytest.mark.parametrize("guide", [*sorted(DEPLOY.glob("*.md")), POSTFIX / "README.md"], ids=lambda guide: guide.stem)
def test_every_command_and_file_a_guide_names_is_there(guide: Path) -> None:
    text = guide.read_text("utf-8")
    code = "\n".join(block or span for block, span in re.findall(r"(?ms)^```sh\n(.*?)^```|`([^`\n]+)`", text))
    commands = re.findall(r"(?:^|bin/|&& |; )panicmail ([a-z]+)\b", code, re.M)
    assert set(commands) <= cli.commands.keys()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    copied = re.findall(r"\bdeploy/[\w.-]+", text)
    assert links
    assert [link for link in links if not (guide.parent / link).exists()] == []
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_every_event_and_metric_the_guide_names_is_there() -> None:
    sources = "".join(file.read_text("utf-8") for file in (ROOT / "panicmail").rglob("*.py"))
    watched = GUIDE.partition("## What to watch")[2].partition("## What was tried")[0]
    events = set(re.findall(r"`([a-z]+\.[a-z_]+)`", watched)) - {"panicmail.db"}
    said = {e for e in events if f'"{e}"' in sources or f'.do}}.{e.partition(".")[2]}"' in sources}
    assert events - said == set()
    assert len(events) > 15
    metrics = set(re.findall(r"`panicmail_([a-z_]+)", watched))
    assert {
        m for m in metrics if f'"{m.removesuffix("_total")}"' not in sources and f"panicmail_{m}" not in sources
    } == set()
    assert len(metrics) > 5


# -- Postfix


def table(name: str) -> dict[str, str]:
    lines = [line.split() for line in (POSTFIX / name).read_text().splitlines() if line and not line.startswith("#")]
    return {line[0]: line[-1] for line in lines}


def test_postfix_hands_the_panic_address_to_where_panicmail_listens_by_default() -> None:
    listen = SmtpSettings.model_fields["listen"].default[0]
    nexthop = table("transport.example")["panic@example.com"]
    service = nexthop.partition(":")[0]
    assert nexthop == f"{service}:[{listen.host}]:{listen.port}"
    assert re.search(rf"^{service} +unix .* smtp$", (POSTFIX / "master.cf.example").read_text(), re.M)
    assert "panic@example.com" in table("relay_recipients.example")


def test_postfix_refuses_a_size_before_panicmail_would() -> None:
    limit = int(settings((POSTFIX / "main.cf.example").read_text())["message_size_limit "][0])
    largest: int = SmtpSettings.model_fields["max_message_size"].default
    assert largest - 1024 * 1024 < limit < largest - 64 * 1024


def test_the_token_domain_of_postfix_takes_every_token_and_nothing_else() -> None:
    (pattern,) = table("token_domain.example")
    form = re.compile(pattern.strip("/"))
    tokens = TokenSigner([SigningKey("7", b"k" * 32)])
    addresses = Addresses(["panic@example.com"], "{token}@panic.example.com", "mx.example.com")
    for purpose in (Purpose.ANSWER, Purpose.BOUNCE, Purpose.CONVERSATION):
        for person, round_ in (("", 0), ("ana", 12345)):
            address = addresses.reply_to(tokens.mint(purpose, "ir36orm3uf7z76lw", person, round_))
            assert form.search(address), address
    assert not form.search("info@panic.example.com")


# -- threats


def test_every_threat_of_the_security_policy_names_tests_that_are_there() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text("utf-8").splitlines() if line.startswith("| ")][2:]
    written = "".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert [name for name in named if f"def {name}(" not in written] == [], row


# -- cards


def test_the_words_of_the_seocs_card_mean_what_it_says() -> None:
    card = (DEPLOY / "cards.md").read_text("utf-8").partition("## For the SEOC")[2]
    words = re.findall(r"^> \| `([^`]+)`", card, re.M)
    meant = {word: reply_commands.read(word).meaning for word in words}
    assert meant == {
        "ack": reply_commands.Command.YES,
        "ack, 20 min": reply_commands.Command.YES,
        "no": reply_commands.Command.NO,
        "escalate": reply_commands.Command.ESCALATE,
        "status": reply_commands.Command.STATUS,
        "resolve": reply_commands.Command.RESOLVE,
    }
