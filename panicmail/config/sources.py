"""Where a configuration comes from, laid over each other: file, systemd credentials, environment (the last one wins).

pydantic-settings passes silently over a missing file, a mistyped name in the environment and a mistyped credential.
Here each of them is a mistake, with the nearest right name; only names that are nothing of ours are left alone.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from panicmail.config.mistakes import ConfigMistakes, OldNames, Place
from panicmail.config.schema import LIST_TABLES, NAMED_TABLES, TABLES, Config, is_secret, keys_of
from panicmail.errors import ConfigError

PREFIX = "PANICMAIL_"

#: Names in the environment that begin like settings and are none.
_NO_SETTING = re.compile(
    r"PANICMAIL_(CONFIG|CRASH_AT|HANG_AT|TEST\w*)\Z"
    # Kubernetes and Docker describe a service named panicmail to every container beside it.
    r"|PANICMAIL_((?!.*__)\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)\Z"
)

Raw = dict[str, Any]


class _Names(EnvSettingsSource):
    """Settings by flat name, `gitlab__token`. A text that is not the JSON it should be is the model's to refuse."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__(Config, env_prefix="")
        self.env_vars = dict(texts)

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def read(path: Path | None, environ: Mapping[str, str], mistakes: ConfigMistakes, warnings: list[str]) -> Raw:
    """Everything that was given, the names of its sources noted in `mistakes`.

    Raises:
        ConfigError: The file cannot be read or is not TOML; nothing else can be said then.
    """
    raw = read_file(path) if path else {}
    old_names = OldNames(mistakes, warnings)
    old_names.in_file(raw)
    credentials = _credentials(environ, mistakes, warnings, old_names)
    for texts, origins in (credentials, _environment(environ, mistakes, old_names)):
        above = _Names(texts)()
        for name, origin in origins.items():
            mistakes.origins[_place(name, raw)] = origin
        _as_the_file_writes_names(raw, above)
        _lay_over(raw, above)
    old_names.refuse_both()
    return raw


def read_secret_files(raw: Raw, folder: Path, mistakes: ConfigMistakes, warnings: list[str]) -> None:
    """Replace every secret's `_file` key by what is in the file, without the newline at its end."""
    for place, table in _tables(raw):
        model = NAMED_TABLES.get(place[0]) or TABLES[place[0]]
        for key in (key for key in model.model_fields if is_secret(model, key) and f"{key}_file" in table):
            at, given = (*place, f"{key}_file"), table.pop(f"{key}_file")
            mistakes.origins[*place, key] = mistakes.origin(at)
            if key in table:
                mistakes.say(at, f'found "{key}" and "{key}_file", expected one of them')
            elif (text := _secret_in(folder, given, at, mistakes, warnings)) is None:
                mistakes.doubt((*place, key))
            else:
                several = get_origin(model.model_fields[key].annotation) is tuple
                table[key] = text.split() if several else text.rstrip("\r\n")


def has_settings(environ: Mapping[str, str]) -> bool:
    """Whether the environment holds settings of ours."""
    return any("__" in name and name.startswith(PREFIX) and not _NO_SETTING.match(name) for name in environ)


def read_file(path: Path) -> Raw:
    """What stands in a file; a byte-order mark before it is nothing.

    Raises:
        ConfigError: It cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError([f"{path}: not TOML: {exc}"]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError([f"{path}: not TOML: octet {exc.start} is not UTF-8"]) from exc
    except OSError as exc:
        raise ConfigError([f"{path}: {exc.strerror}; expected the configuration"]) from exc


def _environment(
    environ: Mapping[str, str], mistakes: ConfigMistakes, old_names: OldNames
) -> tuple[dict[str, str], dict[str, str]]:
    texts, origins = {}, {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or _NO_SETTING.match(name):
            continue
        flat = old_names.flat(name.removeprefix(PREFIX).lower(), name)
        if _is_known(flat):
            texts[flat], origins[flat] = text, name
        else:
            meant = _find_nearest_name(flat)
            proposed = f'"{PREFIX}{meant.upper()}"' if meant else f"{PREFIX}<TABLE>__<KEY>, such as {PREFIX}GITLAB__URL"
            mistakes.lines.append(f"{name}: found an unknown name in the environment, expected {proposed}")
    return texts, origins


def _credentials(
    environ: Mapping[str, str], mistakes: ConfigMistakes, warnings: list[str], old_names: OldNames
) -> tuple[dict[str, str], dict[str, str]]:
    """Files in $CREDENTIALS_DIRECTORY, each named like a setting. A key that wants a file is given the credential's."""
    texts, origins = {}, {}
    folder = environ.get("CREDENTIALS_DIRECTORY")
    for file in sorted(Path(folder).iterdir()) if folder and Path(folder).is_dir() else ():
        flat = old_names.flat(file.name.lower(), str(file))
        if not _is_known(flat):
            meant = _find_nearest_name(flat)
            line = f"{file}: found an unknown credential, expected {meant or 'a name such as gitlab__token'}"
            # A process started by another service inherits that one's credentials: what resembles nothing is not ours.
            (mistakes.lines if meant or "__" in flat else warnings).append(line)
            continue
        name = f"{flat}_file" if _names_secret(flat) else flat
        try:
            texts[name] = str(file) if name.endswith("_file") else file.read_text("utf-8-sig").rstrip("\r\n")
            origins[name] = str(file)
        except (OSError, UnicodeDecodeError):
            mistakes.lines.append(f"{file}: found a credential that cannot be read, expected text")
    return texts, origins


def _find_nearest_name(flat: str) -> str | None:
    close = difflib.get_close_matches(flat, _known_names(flat), 1, 0.7)
    return close[0] if close else None


def _is_known(flat: str) -> bool:
    table, *rest = flat.split("__")
    if table in NAMED_TABLES:
        return len(rest) < 2 or (len(rest) == 2 and rest[1] in keys_of(NAMED_TABLES[table]))
    if table in LIST_TABLES:
        return not rest
    return table in TABLES and (not rest or (len(rest) == 1 and rest[0] in keys_of(TABLES[table])))


def _names_secret(flat: str) -> bool:
    table, *_, key = flat.split("__")
    return table not in LIST_TABLES and is_secret(NAMED_TABLES.get(table) or TABLES[table], key)


def _known_names(flat: str) -> list[str]:
    """Names to propose instead of a wrong one, with the person or role that stands in it."""
    name = (flat.split("__")[1:2] or ["ana"])[0]
    named = [f"{table}__{name}__{key}" for table, model in NAMED_TABLES.items() for key in keys_of(model)]
    return named + [f"{table}__{key}" for table, model in TABLES.items() for key in keys_of(model)]


def _place(flat: str, raw: Raw) -> Place:
    table, *rest = flat.split("__")
    if table in NAMED_TABLES and rest:
        rest[0] = _written_name(raw, table, rest[0])
    return (table, *rest)


def _written_name(raw: Raw, table: str, name: str) -> str:
    """The file's spelling of a person or role: the environment's has lost its case."""
    written = raw.get(table)
    return next((key for key in written if key.lower() == name), name) if isinstance(written, dict) else name


def _as_the_file_writes_names(raw: Raw, above: Raw) -> None:
    for table in NAMED_TABLES.keys() & above.keys():
        if isinstance(above[table], dict):
            above[table] = {_written_name(raw, table, name): value for name, value in above[table].items()}


def _lay_over(below: Raw, above: Raw) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _lay_over(below[key], value)
        else:
            below[key] = value
            below.pop(key.removesuffix("_file") if key.endswith("_file") else f"{key}_file", None)


def _tables(raw: Raw) -> Iterator[tuple[tuple[str, ...], Raw]]:
    for name, value in raw.items():
        if name in NAMED_TABLES and isinstance(value, dict):
            yield from (((name, key), table) for key, table in value.items() if isinstance(table, dict))
        elif name in TABLES and isinstance(value, dict):
            yield (name,), value


def _secret_in(folder: Path, given: object, at: Place, mistakes: ConfigMistakes, warnings: list[str]) -> str | None:
    """What is in a secret's file. None: it cannot be had, and the mistake is recorded."""
    if not isinstance(given, str) or not given:
        mistakes.add(at, given, "the path of a file with the secret")
        return None
    path = folder / given
    try:
        text = path.read_text("utf-8-sig")
        others_read = path.stat().st_mode & 0o004
    except (OSError, UnicodeDecodeError) as exc:
        mistakes.add(at, given, f"a readable file ({path}: {getattr(exc, 'strerror', None) or 'not text'})")
        return None
    if not text.strip():
        mistakes.add(at, given, f"a secret in it, but {path} is empty")
        return None
    if others_read:
        warnings.append(f"{path}: everybody on this host can read this secret; chmod o-r")
    return text
