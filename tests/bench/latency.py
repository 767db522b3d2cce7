"""How long from the end of DATA to the page at the relay.

    python -m tests.bench.latency [--mails 100] [--database sqlite|postgresql://…]

Starts the sandbox and the real daemon, sends one panic after another with smtp-source's habits (a connection each),
and prints p50, p95 and the longest. A figure counts only with the machine it was measured on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from email.message import EmailMessage
from pathlib import Path

from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import SandboxRelay

CONFIG = """
[smtp]
listen = ["127.0.0.1:{smtp}"]
addresses = ["panic@example.com"]
hostname = "panic.example.com"
[database]
url = "{database}"
[gitlab]
url = "{gitlab.url}"
project = "{gitlab.project}"
token = "{gitlab.token}"
[relay]
url = "{relay.url}"
[people.ana]
email = "ana@example.com"
[people.max]
email = "max@example.com"
[oncall.seoc]
fixed = ["ana"]
[oncall.smoc]
fixed = ["max"]
[web]
listen = "127.0.0.1:0"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=100)
    parser.add_argument("--database", default="sqlite:///panicmail.db")
    options = parser.parse_args()
    with SandboxGitLab() as gitlab, SandboxRelay() as relay, tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        path = Path(folder) / "panicmail.toml"
        path.write_text(CONFIG.format(smtp=port, database=options.database, gitlab=gitlab, relay=relay))
        with _daemon(path) as daemon:
            _wait_ready(daemon)
            took = sorted(_one(port, relay, number) for number in range(options.mails))
            daemon.send_signal(signal.SIGTERM)
    print(json.dumps(_figures(took), indent=2))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _daemon(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "panicmail", "serve", "-c", str(path)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def _wait_ready(daemon: subprocess.Popen[str]) -> None:
    assert daemon.stderr is not None
    for line in daemon.stderr:
        if json.loads(line).get("event") == "ready":
            os.set_blocking(daemon.stderr.fileno(), False)
            return
    raise SystemExit("panicmail did not get ready")


def _one(port: int, relay: SandboxRelay, number: int) -> float:
    """Send one panic; seconds from the last octet of DATA to the page's last octet at the relay."""
    canary = f"bench{number:05d}"
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "rita@example.com", "panic@example.com", f"Panic {canary}"
    message.set_content("My files are .locked.\n" * 20)
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp:
        smtp.ehlo()
        smtp.mail("rita@example.com")
        smtp.rcpt("panic@example.com")
        smtp.putcmd("data")
        smtp.getreply()
        smtp.send(message.as_bytes().replace(b"\n", b"\r\n") + b"\r\n.\r\n")
        sent_at = time.monotonic()
        code, answer = smtp.getreply()
    assert code == 250, answer
    page = relay.wait(lambda mail: mail.to("ana@example.com") and canary in mail.subject, timeout=10)
    return page.received_at - sent_at


def _figures(took: list[float]) -> dict[str, float]:
    at = {"p50": 0.50, "p95": 0.95, "longest": 1.0}
    shown = {f"{name}_ms": round(1000 * took[min(len(took) - 1, int(p * len(took)))], 1) for name, p in at.items()}
    return {"mails": len(took), **shown}


if __name__ == "__main__":
    main()
