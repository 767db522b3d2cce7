"""Senders, by the real daemon: mail over SMTP, DNS on loopback, pages and receipts at the relay."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

from tests.dkim_signer import DkimSigner
from tests.dns_zone import dns_server
from tests.office import mail
from tests.program import SOON, Ran, World, world

OURS = DkimSigner("example.com")
ZONE = {**dict([OURS.record]), "_dmarc.example.com": [("TXT", "v=DMARC1; p=reject")]}


def test_a_signed_yes_acknowledges_and_a_forged_one_does_not(tmp_path: Path) -> None:
    with dns_server(ZONE) as server, world(tmp_path) as town:
        town.config["authentication"] = {"method": "verify", "nameservers": [f"127.0.0.1:{server.port}"]}
        town.config["people"]["ana"]["proof"] = "example.com"
        town.write_config()
        town.start()
        ref = town.panic()
        page = town.page("ana", ref)
        assert "Sender: " in page.text
        to = page.header("Reply-To")
        yes = mail("ack", sender="ana@example.com", subject=f"Re: {page.subject}").replace(
            b"To: panic@example.com", f"To: {to}".encode()
        )
        yes = yes.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        assert town.send(yes, "ana@example.com", to).code == 250
        town.received("ana", lambda got: "Clock still running" in got.subject)
        assert town.send(OURS.sign(yes), "ana@example.com", to).code == 250
        town.received("ana", lambda got: "signed by example.com" in got.text)
        town.until(lambda: town.rows("SELECT state FROM incidents") == [("acked",)], SOON, "nobody has it")
        assert town.rows("SELECT count(*) FROM mails WHERE sender LIKE '%proved%'") != [(0,)]
        assert any(name.startswith("TXT s1._domainkey.example.com") for name in server.asked)
        assert town.stop() == 0


def test_a_name_server_that_is_silent_holds_up_no_page_and_no_yes_of_a_person_without_proof(tmp_path: Path) -> None:
    with dns_server(ZONE) as server, world(tmp_path) as town:
        server.misbehaves = "silent"
        town.config["authentication"] = {"method": "verify", "nameservers": [f"127.0.0.1:{server.port}"]}
        town.write_config()
        town.start()
        ref = town.panic()
        town.reply(town.page("ana", ref), "ack")
        town.until(lambda: town.rows("SELECT state FROM incidents") == [("acked",)], SOON, "nobody has it")
        assert town.stop() == 0


def mx_said(town: World, change: Callable[[bytes], bytes], count: int) -> str:
    """What `panicmail check --mx` says, where the mail server does so much to a mail on its way back."""
    found: list[Ran] = []
    running = threading.Thread(target=lambda: found.append(town.run("check", "--mx", "--wait", "60s")))
    running.start()
    sent = town.relay.wait(lambda got: "check --mx" in got.subject, SOON, count=count)
    assert town.send(change(sent.raw), "panic@example.com", sent.recipients[0]).code == 250
    running.join(90)
    (ran,) = found
    return f"{ran.out}{ran.err}"


def test_check_mx_tells_a_server_that_removes_what_strangers_say_from_one_that_does_not(tmp_path: Path) -> None:
    own = b"Authentication-Results: mx.example.com; dmarc=none header.from=example.com\r\n"

    def strip(raw: bytes) -> bytes:
        return re.sub(rb"(?m)^Authentication-Results:.*(?:\n[ \t].*)*\n", b"", raw)

    with world(tmp_path) as town:
        town.config["authentication"] = {"method": "trusted", "trusted_authserv_ids": ["mx.example.com"]}
        town.config["smtp"]["trusted_relays"] = ["127.0.0.0/8"]
        town.write_config()
        town.start()
        healthy = mx_said(town, lambda raw: own + strip(raw), 1)
        assert "the mail server removed them" in healthy
        assert "it says itself: mx.example.com; dmarc=none" in healthy
        assert "failed" not in healthy
        wrong = mx_said(town, lambda raw: raw, 2)
        assert "left a stranger's field in its own name" in " ".join(wrong.split())
        assert "no field of mx.example.com of its own" in " ".join(wrong.split())
        assert not town.rows("SELECT 1 FROM incidents")
        assert town.stop() == 0


def test_a_reload_that_begins_to_check_senders_finds_who_checks_them(tmp_path: Path) -> None:
    with dns_server(ZONE) as server, world(tmp_path) as town:
        town.config["authentication"] = {"method": "none", "nameservers": [f"127.0.0.1:{server.port}"]}
        town.write_config()
        town.start()
        town.config["authentication"]["method"] = "verify"
        town.reload()
        town.panic()
        checked = "SELECT count(*) FROM mails WHERE sender IS NOT NULL"
        town.until(lambda: town.rows(checked) == [(1,)], SOON, "nobody checks senders")
        assert town.stop() == 0
