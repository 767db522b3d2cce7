"""The servers that are compared, each started in a folder of its own and stopped with the block it is used in."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load import RECIPIENT, ROOT, Delivered, Load, send_apart
from tests.bench.town import bench_world
from tests.provider import closed_port


@dataclass(frozen=True, slots=True)
class Rival:
    name: str
    start: Callable[[Path], AbstractContextManager[int]]  #: answers its port


@contextlib.contextmanager
def panicmail(folder: Path) -> Iterator[int]:
    """The whole of it: what is accepted is understood, filed, paged and receipted meanwhile."""
    with bench_world(folder) as town:
        town.start()
        yield town.smtp_address[1]


@contextlib.contextmanager
def stock_aiosmtpd(folder: Path) -> Iterator[int]:
    pipe, port = subprocess.PIPE, closed_port()
    command = [sys.executable, "-m", "tests.bench.aiosmtpd_server", str(folder), str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as server:
        try:
            assert server.stdout is not None
            if not server.stdout.readline():
                raise RuntimeError("the stock aiosmtpd did not start")
            yield port
        finally:
            server.kill()


@contextlib.contextmanager
def postfix(folder: Path) -> Iterator[int]:
    """A private instance that delivers to nobody (`discard`). Wants root and the accounts of the package."""
    port, where = closed_port(), {name: folder / name for name in ("etc", "queue", "data")}
    for each in where.values():
        each.mkdir()
    folder.chmod(0o755)  # its processes have other accounts
    settings = {
        "compatibility_level": "3.6",
        "queue_directory": where["queue"],
        "data_directory": where["data"],
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "myhostname": "panic.example.com",
        "mydestination": "",
        "mynetworks": "127.0.0.0/8",
        "default_transport": "discard:",
        "alias_maps": "",
        "maillog_file": folder / "mail.log",
        "maillog_file_prefixes": folder,
        "smtpd_client_connection_count_limit": 0,
    }
    text = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (where["etc"] / "main.cf").write_text(text)
    stock = Path(_asked("postconf", "-h", "config_directory")) / "master.cf"
    services = re.sub(r"(?m)^smtp(\s+inet\s)", rf"127.0.0.1:{port}\1", stock.read_text())
    (where["etc"] / "master.cf").write_text(f"{services}\npostlog unix-dgram n - n - 1 postlogd\n")
    shutil.chown(where["data"], _asked("postconf", "-h", "mail_owner"))
    _asked("postfix", "-c", str(where["etc"]), "start")
    try:
        yield port
    finally:
        _asked("postfix", "-c", str(where["etc"]), "stop")


def _asked(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def found() -> list[Rival]:
    """panicmail first, then whom this machine has."""
    rivals = [Rival("panicmail", panicmail), Rival("stock aiosmtpd", stock_aiosmtpd)]
    if shutil.which("postfix") and shutil.which("smtp-source"):
        rivals.append(Rival("Postfix", postfix))
    return rivals


# -- load


def generator() -> str:
    """Who sends."""
    return "smtp-source" if shutil.which("smtp-source") else "own generator"


def throw(load: Load) -> Delivered:
    """Send it all, with smtp-source where there is one; it has one sender for all, ours a sender a mail."""
    if not (source := shutil.which("smtp-source")):
        return send_apart(load)
    command = [source, "-s", str(load.sessions), "-m", str(load.mails), "-l", str(load.size)]
    command += [*(["-d"] if load.keep else []), "-f", f"{load.tag}@example.com", "-t", RECIPIENT]
    began = time.monotonic()
    subprocess.run([*command, f"127.0.0.1:{load.port}"], check=True, capture_output=True, timeout=600)
    return Delivered(time.monotonic() - began, accepted=load.mails)
