"""The configuration: read once, checked whole, then frozen.

`find` says which file, `load` makes a `Config` of it. Later sources win, key by key:

    1. what can be inferred (`inference`); `Config.inferred` tells what was
    2. the TOML file
    3. systemd credentials: $CREDENTIALS_DIRECTORY/gitlab__token
    4. the environment: PANICMAIL_GITLAB__TOKEN, lists as JSON

A secret may also stand in a file of its own (`token_file = "gitlab.token"`, relative to the configuration).

Whatever is wrong raises one `ConfigError` with every mistake, a line each: where, key, found, expected. A secret's
value is in none of them. What works but should be looked at is in `Config.warnings`; the caller logs it.

Nothing here talks to another machine, except that the system is asked for its own name when none is configured.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from panicmail.config import checks
from panicmail.config.inference import ConfigDraft, infer
from panicmail.config.mistakes import ConfigMistakes
from panicmail.config.schema import Config, PersonSettings, ScheduleSettings, StepSettings
from panicmail.config.sources import has_settings, read, read_secret_files
from panicmail.config.values import Listen, RelayUrl
from panicmail.errors import ConfigError

__all__ = ["Config", "Listen", "PersonSettings", "RelayUrl", "ScheduleSettings", "StepSettings", "find", "load"]

#: Where a configuration is looked for when none is named.
PLACES = (Path("panicmail.toml"), Path("/etc/panicmail/panicmail.toml"))


def find(explicit: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration's file: the one named, else $PANICMAIL_CONFIG, else the first of `PLACES` that is there.

    Returns:
        None when there is no file and the environment holds settings: it may hold them all.

    Raises:
        ConfigError: There is no such file; the text says where it was looked for.
    """
    for named, origin in ((explicit, "-c"), (environ.get("PANICMAIL_CONFIG"), "PANICMAIL_CONFIG")):
        if named:
            if why := _why_not(Path(named)):
                raise ConfigError([f"{named}: found {why}, expected the configuration ({origin} names it)"])
            return Path(named)
    doubtful = []
    for place in PLACES:
        why = _why_not(place)
        if not why:
            return place
        if why != _NO_FILE:
            doubtful.append(f"{place}: found {why}, expected the configuration")
    if has_settings(environ):
        return None
    looked = " nor ".join(map(str, PLACES))
    raise ConfigError(doubtful or [f"no configuration: found neither -c FILE, $PANICMAIL_CONFIG, {looked}"])


_NO_FILE = "no such file"


def _why_not(path: Path) -> str:
    """Why this cannot be read as the configuration; "" when it can. It is not opened: a pipe can be read only once."""
    us = f"user {os.getuid()}; run this as the user it is for"
    try:
        if path.is_dir():
            return "a folder"
        path.stat()
    except PermissionError:
        return f"a place that is closed to {us}"
    except (OSError, ValueError):
        return _NO_FILE
    return "" if os.access(path, os.R_OK) else f"a file that may not be read by {us}"


def load(
    path: Path | None, environ: Mapping[str, str] = os.environ, *, host_name: Callable[[], str] = socket.getfqdn
) -> Config:
    """Read a configuration.

    Args:
        path: The TOML file; None reads the environment alone, paths relative to the working directory.
        environ: Where `PANICMAIL_*` and `CREDENTIALS_DIRECTORY` are looked up.
        host_name: Answers this host's full name; asked when the configuration has none.

    Raises:
        ConfigError: With every mistake there is.
    """
    folder = path.absolute().parent if path else Path.cwd()
    mistakes = ConfigMistakes(str(path) if path else "environment")
    warnings: list[str] = []
    raw = read(path, environ, mistakes, warnings)
    read_secret_files(raw, folder, mistakes, warnings)
    inferred = infer(raw, host_name)
    draft = ConfigDraft(raw, inferred, mistakes, {"folder": folder, "warnings": warnings})
    checks.check(draft)
    if mistakes:
        raise ConfigError(mistakes.lines)
    warnings.extend(checks.warnings(draft))
    return draft.finish(path=path, inferred=inferred, warnings=tuple(warnings))
