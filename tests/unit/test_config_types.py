"""A value of a wrong kind, under every key there is: told where it stands, with an example that is right there.

The keys are the model's, so a new one is tried without being named here.
"""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from panicmail import config
from panicmail.config.inference import ConfigDraft, infer
from panicmail.config.mistakes import ConfigMistakes, spell
from panicmail.config.schema import INNER_TABLES, NAMED_TABLES, TABLES, Section, keys_of
from panicmail.errors import ConfigError
from tests.smallest_config import SMALLEST

Place = tuple[str | int, ...]

#: Of each kind TOML has, one that is nowhere right, or seldom.
WRONG: tuple[Any, ...] = (-25, True, 2.5, "§ of no kind §", [], [[1]], [-25], ["§"], {}, {"x": 1}, date(2026, 11, 22))
#: What stands in a named table, and where lists of tables and tables stand within a table.
NAMES = {"people": "ana", "oncall": "seoc", "policies": "low"}
INNER: dict[str, list[Place]] = {
    "listeners": [("smtp", "listeners", 0)],
    "steps": [("escalation", "steps", 0)],
    "shifts": [("oncall", "seoc", "shifts", 0)],
    "overrides": [("oncall", "seoc", "overrides", 0)],
    "season": [("oncall", "seoc", "shifts", 0, "season")],
    "hours": [("policies", "low", "hours")],
    "dkim": [("relay", "dkim")],
}


def places() -> Iterator[Place]:
    """Every key of the model, in every table it stands in."""
    tables: list[tuple[Place, type[Section]]] = [((name,), model) for name, model in TABLES.items()]
    tables += [((name, NAMES[name]), model) for name, model in NAMED_TABLES.items()]
    tables += [(place, INNER_TABLES[name]) for name in INNER_TABLES for place in INNER[name]]
    for at, model in tables:
        yield from ((*at, field.alias or key) for key, field in model.model_fields.items())


PLACES = list(places())


def whole() -> dict[str, Any]:
    """A configuration with something in every table."""
    raw = tomllib.loads(SMALLEST)
    raw["gitlab"] = {**raw["gitlab"], "token": "glpat"}
    del raw["gitlab"]["token_file"]
    shift = {"days": "mon-fri", "from": "08:00", "to": "20:00", "people": ["ana"]}
    shift["season"] = {"from": "04-01", "to": "10-25"}  # type: ignore[assignment]
    raw["relay"] = {**raw.get("relay", {}), "dkim": {"selector": "panic", "key_file": "dkim.key"}}
    raw["smtp"]["listeners"] = [{"address": "127.0.0.1:2526"}]
    override = {"from": "2026-12-24T18:00:00Z", "to": "2026-12-25T06:00:00Z", "person": "max"}
    raw["oncall"]["seoc"] = {"shifts": [shift], "overrides": [override]}
    step = {"after": "0s", "page": ["seoc"]}
    hours = {"days": "mon-fri", "from": "08:00", "to": "18:00"}
    raw["escalation"] = {"steps": [step]}
    raw["policies"] = {"low": {"severity": [3], "steps": [copy.deepcopy(step)], "hours": hours}}
    infer(raw, lambda: "mx.example.com")
    return raw


def put(raw: dict[str, Any], place: Place, value: object) -> dict[str, Any]:
    inside: Any = raw
    for part in place[:-1]:
        inside = inside[part] if isinstance(part, int) else inside.setdefault(part, {})
    inside[place[-1]] = value
    return raw


def told(place: Place, value: object, folder: Path) -> list[str]:
    """What is said of a value at a place, its own part of the line, and of what is in it."""
    mistakes = ConfigMistakes("panicmail.toml")
    ConfigDraft(put(whole(), place, value), {}, mistakes, {"folder": folder, "warnings": []})
    begin = f"panicmail.toml: {spell(place)}"
    ours = [line for line in mistakes.lines if line.startswith((f"{begin}:", f"{begin}[", f"{begin}."))]
    assert ours == mistakes.lines, "and of nothing else"
    return ours


def examples(line: str) -> Iterator[object]:
    """Every value a line gives as an example, as TOML or JSON has it."""
    for said in line.split("such as ")[1:]:
        for end in range(len(said), 0, -1):
            try:
                yield json.loads(said[:end]) if "in JSON" in line else tomllib.loads(f"x = {said[:end]}")["x"]
            except ValueError:
                continue
            break
        else:
            raise AssertionError(f"an example that is no value: {line}")


def is_list_or_table(place: Place) -> bool:
    """Of a key of a table of its own."""
    model = TABLES.get(str(place[0])) or NAMED_TABLES[str(place[0])]
    field = next(field for key, field in model.model_fields.items() if (field.alias or key) == place[-1])
    return bool(field.examples)


@pytest.mark.parametrize("place", PLACES, ids=spell)
def test_a_wrong_kind_of_value_is_answered_with_an_example_that_is_right_there(place: Place, tmp_path: Path) -> None:
    refused = {repr(value): lines for value in WRONG if (lines := told(place, value, tmp_path))}
    assert len(refused) >= 5, "most of these are wrong everywhere"
    for value, lines in refused.items():
        for line in lines:
            assert "found" in line
            assert "expected" in line
            assert not any(words in line for words in ("Input", "should be", "valid ", "validation")), line
            within = line.removeprefix("panicmail.toml: ").partition(": ")[0]
            if within == spell(place):
                for example in examples(line):
                    assert not told(place, example, tmp_path), f"{value}: {line}"


@pytest.mark.parametrize("place", [at for at in PLACES if at[-1] == "listen" or "url" in str(at[-1])], ids=spell)
def test_the_example_is_this_keys_own(place: Place, tmp_path: Path) -> None:
    (line,) = told(place, -25, tmp_path)
    own = {
        "smtp.listen": '["127.0.0.1:2525"]',
        "web.listen": "127.0.0.1:8025",
        "web.url": "https://panic.example.com",
        "gitlab.url": "https://gitlab.example.com",
        "paging.pagerduty_url": "https://events.pagerduty.com",
    }
    assert own.get(spell(place), "") in line


IN_ENVIRONMENT = [place for place in PLACES if len(place) == (3 if place[0] in NAMED_TABLES else 2)]


@pytest.mark.parametrize("place", IN_ENVIRONMENT, ids=spell)
def test_a_list_or_table_that_is_no_json_in_the_environment_is_answered_with_one_that_is(
    place: Place, tmp_path: Path
) -> None:
    path, name = tmp_path / "panicmail.toml", f"PANICMAIL_{'__'.join(map(str, place)).upper()}"
    (tmp_path / "gitlab.token").write_text("glpat")
    path.write_text(SMALLEST)
    lines = environment(path, {name: "§ of no kind §"})
    if is_list_or_table(place):
        (line,) = (line for line in lines if line.startswith(f"{name}: {spell(place)}: ") and "in JSON such as" in line)
        (example,) = examples(line)
        assert not [each for each in environment(path, {name: json.dumps(example)}) if "in JSON" in each]
    assert not [line for line in lines if "should be" in line or "Input" in line]


def environment(path: Path, environ: Mapping[str, str]) -> list[str]:
    """What is said of these variables."""
    try:
        config.load(path, environ, host_name=lambda: "mx1")
    except ConfigError as exc:
        return list(exc.mistakes)
    return []


@pytest.mark.parametrize("table", [*TABLES, *NAMED_TABLES])
@pytest.mark.parametrize("value", [5, "text", [1]])
def test_a_table_that_is_none_is_answered_with_one_of_its_own_name(table: str, value: object, tmp_path: Path) -> None:
    raw, mistakes = {**whole(), table: value}, ConfigMistakes("panicmail.toml")
    ConfigDraft(raw, {}, mistakes, {"folder": tmp_path, "warnings": []})
    own = f"[{table}.{NAMES[table]}]" if table in NAMES else f"[{table}]"
    assert [line for line in mistakes.lines if line.startswith(f"panicmail.toml: {table}: ") and own in line]


def test_every_key_of_the_model_is_tried() -> None:
    tried = {str(place[-1]) for place in PLACES}
    models = (*TABLES.values(), *NAMED_TABLES.values(), *INNER_TABLES.values())
    assert {key for model in models for key in keys_of(model) if not key.endswith("_file")} <= tried
