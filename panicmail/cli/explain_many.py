"""`panicmail explain` of a folder or an mbox: a line a mail, read as the daemon would read it, and a summary."""

from __future__ import annotations

import csv
import json
import mailbox
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import click

from panicmail.errors import Mistake
from panicmail.incident.classify import Report
from panicmail.mail.parse.pool import ParserPool

#: Children that read, and mails that are read ahead.
_READERS, _AHEAD = 2, 16
#: Seconds one reading may take, as the daemon's last one may.
_PATIENCE = 30.0
_COLUMNS = ("file", "kind", "from", "subject", "command", "command_why", "may_act", "defects")

#: A mail: its name, and how its octets are had.
Named = tuple[str, Callable[[], bytes]]


def mails_in(path: Path) -> list[Named]:
    """The mails of a folder, its sub-folders included, or of an mbox, in order.

    Raises:
        Mistake: There is nothing to read.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        return [(file.relative_to(path).as_posix(), file.read_bytes) for file in files]
    try:
        with path.open("rb") as file:
            is_mbox = file.read(5) == b"From "
        if not is_mbox:
            return [(path.name, path.read_bytes)]
        with closing(mailbox.mbox(path, create=False)) as box:
            keys = list(box.iterkeys())
    except (OSError, mailbox.Error) as exc:
        raise Mistake(f"{path} cannot be read: {exc}") from exc
    return [(f"{path.name}:{number}", _of_mbox(path, key)) for number, key in enumerate(keys, 1)]


def _of_mbox(path: Path, key: str) -> Callable[[], bytes]:
    def octets() -> bytes:
        with closing(mailbox.mbox(path, create=False)) as box:
            return box.get_bytes(key)

    return octets


def explain_all(mails: list[Named], describe: Callable[[Report], dict[str, Any]], *, as_csv: bool, quiet: bool) -> int:
    """Write a line for each mail, and how many there were of each kind to stderr; answers how many could not be read.

    Args:
        describe: What is said of a mail that was read.
        quiet: No line a mail: the summary is all.
    """
    write = _csv_writer() if as_csv else _jsonl_writer()
    kinds: Counter[str] = Counter()
    failed = 0
    with click.progressbar(length=len(mails), file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        for name, found in _read_all(mails):
            bar.update(1)
            if isinstance(found, Exception):
                failed += 1
                click.echo(f"{name}: {type(found).__name__}: {found}", err=True)
                document: dict[str, Any] = {"file": name, "error": str(found)}
            else:
                document = {"file": name, **describe(found)}
                kinds[document["kind"]] += 1
            if not quiet:
                write(document)
    said = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    click.echo(
        f"{len(mails)} mails: {said or 'none was read'}{f'; {failed} could not be read' if failed else ''}", err=True
    )
    return failed


def _read_all(mails: list[Named]) -> Iterator[tuple[str, Report | Exception]]:
    """What each of them is, in order."""
    readers = ParserPool(size=_READERS, deadline=_PATIENCE)
    readers.start()

    def read(mail: Named) -> tuple[str, Report | Exception]:
        name, octets = mail
        try:
            return name, readers.read_slowly(octets(), "?", _PATIENCE)
        except Exception as exc:  # one that cannot be read keeps no other from it
            return name, exc

    try:
        with ThreadPoolExecutor(_READERS) as threads:
            rest = iter(mails)
            while batch := list(islice(rest, _AHEAD)):
                yield from threads.map(read, batch)
    finally:
        readers.stop()


def _jsonl_writer() -> Callable[[dict[str, Any]], None]:
    return lambda document: click.echo(json.dumps(document, ensure_ascii=False, default=str))


def _csv_writer() -> Callable[[dict[str, Any]], None]:
    out = csv.writer(sys.stdout)
    out.writerow(_COLUMNS)
    return lambda document: out.writerow(_cells(document.get(column, "") for column in _COLUMNS))


def _cells(values: Iterable[Any]) -> list[str]:
    """As text on one line; what a spreadsheet would take for a formula is none."""
    texts = ["; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value) for value in values]
    plain = [" ".join(text.split()) for text in texts]
    return [f"'{text}" if text[:1] in "=+-@" and text else text for text in plain]
