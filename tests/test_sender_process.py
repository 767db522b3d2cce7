"""Senders, by the real daemon: mail over SMTP, DNS on loopback, pages and receipts at the relay."""

from __future__ import annotations

from pathlib import Path

from .dkim_signer import DkimSigner
from .dns_zone import dns_server
from .office import mail
from .program import SOON, world

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
