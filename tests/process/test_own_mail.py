"""What panicmail itself sends: signed, no larger than its relay takes, and to nobody but its people and reporters."""

from __future__ import annotations

import ast
import contextlib
import email
import email.policy
import quopri
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dkim
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail import config as configuration
from panicmail.check import relay_checks
from panicmail.check.result import ParallelChecks
from panicmail.delivery import smtp_client
from panicmail.delivery.smtp_client import RelayClient
from panicmail.errors import PanicmailError
from panicmail.incident import tasks
from panicmail.incident.model import Effect, EffectKind, Incident
from panicmail.incident.notice_kinds import NEWS, TOLD
from panicmail.mail import compose, dkim_signing
from panicmail.mail.authenticate.dns_lookups import DnsAnswer, Unanswered
from panicmail.mail.compose.operator_alerts import causes
from panicmail.mail.compose.shortened import shortened
from panicmail.mail.dkim_signing import DkimSigner
from panicmail.sandbox import smtp_session
from panicmail.sandbox.relay_server import SandboxRelay
from panicmail.store.transaction import Transaction
from tests.office import Office
from tests.program import run
from tests.smallest_config import SMALLEST

LETTER = (
    b"From: Panic <panic@example.com>\r\nTo: Ana <ana@example.com>\r\nSubject: [PANIC 7KQ2] x\r\n"
    b"Message-ID: <a@example.com>\r\nDate: Mon, 30 Nov 2026 21:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/alternative; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain; charset="utf-8"\r\n'
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nAna: reply ack.\r\n%s\r\n--b\r\n"
    b"Content-Type: text/html\r\n\r\n<p>%s</p>\r\n--b--\r\n"
)


@pytest.fixture(scope="module")
def signer() -> DkimSigner:
    return DkimSigner("panic1", "example.com", dkim_signing.new_key())


def published(signer: DkimSigner) -> bytes:
    """What DNS has under the signer's name, taken from the line for the zone file."""
    name, _, text = dkim_signing.record(signer).partition(". IN TXT ")
    assert name == signer.name
    return "".join(text.split('"')[1::2]).encode()


def verifies(message: bytes, signer: DkimSigner) -> bool:
    def answer(name: bytes, timeout: float = 5) -> bytes:
        return published(signer) if name.decode().rstrip(".") == signer.name else b""

    return bool(dkim.verify(message, dnsfunc=answer))


@pytest.fixture
def sandbox() -> Iterator[SandboxRelay]:
    with SandboxRelay() as one:
        yield one


def send(sandbox: SandboxRelay, message: bytes, **options: Any) -> bytes:
    client = RelayClient("127.0.0.1", sandbox.port, hostname="panic.example.com", **options)
    try:
        client.send(message, "panic@example.com", "ana@example.com")
    finally:
        client.close()
    return sandbox.mails[-1].raw


# -- signed


def test_what_goes_out_is_signed_and_verifies_with_the_record_that_is_printed(
    sandbox: SandboxRelay, signer: DkimSigner
) -> None:
    raw = send(sandbox, LETTER % (b"x", b"x"), sign=signer.sign)
    assert raw.startswith(b"DKIM-Signature: ")
    assert verifies(raw, signer)
    assert not verifies(raw.replace(b"reply ack", b"reply nak"), signer)
    assert not verifies(b"From: evil@example.com\r\n" + raw, signer), "a second From was put in"


def test_a_mail_that_cannot_be_signed_goes_out_all_the_same(sandbox: SandboxRelay) -> None:
    letter = LETTER % (b"x", b"x")
    assert send(sandbox, letter, sign=DkimSigner("panic1", "example.com", b"no key").sign) == letter


def test_dots_are_stuffed_behind_the_signature(sandbox: SandboxRelay, signer: DkimSigner) -> None:
    raw = send(sandbox, LETTER % (b".\r\n..\r\n.x", b"x"), sign=signer.sign)
    assert verifies(raw, signer)


class Dns:
    def __init__(self, *records: bytes, fails: bool = False) -> None:
        self.records, self.fails = records, fails

    def ask(self, name: str, kind: str, seconds: float) -> DnsAnswer:
        if self.fails:
            raise Unanswered("SERVFAIL")
        return DnsAnswer(self.records, 60)


@pytest.mark.parametrize(
    ("records", "verdict", "says"),
    [
        ("right", "ok", "has the key"),
        ((), "failed", "no key in DNS"),
        ((b"v=spf1 -all",), "failed", "no key in DNS"),
        ((b"v=DKIM1; p=",), "failed", "another key"),
        ((b"v=DKIM1; k=rsa; p=AAAA",), "failed", "another key"),
        (None, "warning", "cannot be looked up"),
    ],
)
def test_check_tells_what_dns_has_of_our_key(signer: DkimSigner, records: Any, verdict: str, says: str) -> None:
    given_records = (published(signer).replace(b"; p=", b" ;p= "),) if records == "right" else records
    resolver = Dns(fails=True) if given_records is None else Dns(*given_records)
    row = relay_checks._dkim_row(signer, ParallelChecks(5).ask(lambda: dkim_signing.published_key(signer, resolver)))
    assert row.verdict.value == verdict
    assert says in row.found


def test_check_tells_of_a_key_that_cannot_be_used() -> None:
    bad = DkimSigner("panic1", "example.com", b"no key")
    row = relay_checks._dkim_row(bad, ParallelChecks(5).ask(lambda: None))
    assert (row.verdict.value, "goes out unsigned" in row.found) == ("failed", True)


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    file = tmp_path / "panicmail.toml"
    text = SMALLEST.replace("[relay]", '[relay]\ndkim = { selector = "panic1", key_file = "dkim.key" }')
    file.write_text(
        text
        if "[relay]" in SMALLEST
        else f'{SMALLEST}\n[relay]\ndkim = {{ selector = "panic1", key_file = "dkim.key" }}\n'
    )
    token = tmp_path / "gitlab.token"
    token.write_text("glpat-x")
    token.chmod(0o600)
    return file


def test_keys_dkim_makes_the_key_once_and_prints_its_record_each_time(configured: Path) -> None:
    first = run("keys", "dkim", "-c", str(configured), cwd=configured.parent)
    assert first.status == 0, first.err
    key = configured.parent / "dkim.key"
    made = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    assert first.out.startswith('panic1._domainkey.example.com. IN TXT ( "v=DKIM1; k=rsa; p=')
    again = run("keys", "dkim", "-c", str(configured), cwd=configured.parent)
    assert (again.out, key.read_bytes()) == (first.out, made)
    key.write_text("nonsense")
    broken = run("keys", "dkim", "-c", str(configured), cwd=configured.parent)
    assert broken.status == 1
    assert "expected one that panicmail keys dkim made" in broken.err


def test_a_key_that_is_not_there_yet_is_a_warning_and_no_reason_not_to_start(configured: Path) -> None:
    (told,) = configuration.load(configured, {}, host_name=lambda: "panic.example.com").warnings
    assert "make it with panicmail keys dkim" in told


# -- no larger than the relay takes


def test_what_is_too_large_for_the_relay_is_cut_and_says_so(
    sandbox: SandboxRelay, signer: DkimSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_session, "MAX_SIZE", 6000)
    large = LETTER % (b"a line of the report\r\n" * 500, b"x" * 5000)
    for options in ({}, {"sign": signer.sign}):
        raw = send(sandbox, large, **options)
        assert len(raw) <= 6000
        read = email.message_from_bytes(raw, policy=email.policy.default)
        text = read.get_content()
        assert text.startswith("Ana: reply ack.")
        assert "[Cut here: the mail relay takes no more than" in text
        assert (read["Message-ID"], read["Subject"]) == ("<a@example.com>", "[PANIC 7KQ2] x")
    assert verifies(raw, signer)


@pytest.mark.parametrize("limit", ["", "0", "many", "-1", "²"])
def test_a_relay_that_names_no_limit_gets_all_of_it(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr("panicmail.delivery.smtp_client._Dialogue.esmtp_features", {"size": limit}, raising=False)
    assert smtp_client._Dialogue.size_limit(smtp_client._Dialogue) is None  # type: ignore[arg-type]


@given(text=st.text(max_size=3000), most=st.integers(1500, 6000))
def test_a_cut_mail_is_within_its_limit_whatever_is_in_it(text: str, most: int) -> None:
    body = quopri.encodestring(text.encode("utf-8", "replace")).replace(b"\n", b"\r\n")
    made = shortened(LETTER % (body, b"y" * 5000), most)
    assert len(made) <= most
    read = email.message_from_bytes(made, policy=email.policy.default)
    assert read.is_multipart() or "[Cut here" in read.get_content()


def test_nothing_of_the_library_leaks_when_dns_fails(signer: DkimSigner) -> None:
    with pytest.raises(PanicmailError, match="SERVFAIL"):
        dkim_signing.published_key(signer, Dns(fails=True))


# -- to whom


#: The effects that go to GitLab.
KEEPS_THE_ISSUE = {EffectKind.ISSUE, EffectKind.FILES, EffectKind.AMEND, EffectKind.MIRROR, EffectKind.TWINS,
                   EffectKind.CONFIDE, EffectKind.SEVERITY}  # fmt: skip
#: Something for every fact a notice may want, each naming a stranger where it can.
STRANGER = "evil@example.org"
FACTS: dict[str, Any] = {
    "holder": "max", "by": STRANGER, "actor": STRANGER, "author": STRANGER, "sender": STRANGER, "to": STRANGER,
    "reporter": STRANGER, "address": STRANGER, "reply_to": STRANGER, "from": STRANGER, "text": f"write to {STRANGER}",
    "at": "2026-11-22T03:00:00+00:00", "until": "2026-11-22T04:00:00+00:00", "in_reply_to": f"<x-{STRANGER}>",
    "said": f"ask {STRANGER}", "answer": "550 no", "reason": "x", "why": "x", "how": "mail", "change": [], "refs": [],
    "found": ["x"], "mend": ["y"], "mended": ["z"], "members": 3, "count": 3, "people": ["max"], "person": "max",
}  # fmt: skip


def test_every_kind_of_notice_goes_to_our_people_and_to_the_reporter_alone(
    tmp_path: Path, sandbox: SandboxRelay
) -> None:
    office = Office(tmp_path)
    client = RelayClient("127.0.0.1", sandbox.port, hostname="panic.example.com")
    office.relay.send = client.send  # type: ignore[method-assign]
    with contextlib.closing(office), contextlib.closing(client):
        incident = office.panic(f"see {STRANGER}")
        office.wait(minutes=16)  # pages, a receipt, news of the breach
        composed = set()
        for table, tell in ((TOLD, _tell), (NEWS, _news), (causes(), _alarm)):
            for kind in table:
                composed |= {kind} if tell(office, incident, kind) else set()
        assert composed == {*TOLD, *NEWS, *causes()}, {*TOLD, *NEWS, *causes()} - composed
        people = {person.email for person in office.settings.people.values()}
        recipients = {recipient for mail in sandbox.mails for recipient in mail.recipients}
        assert (
            recipients
            == {"ana@example.com", "max@example.com", incident.reporter_address}
            <= people | {incident.reporter_address}
        )
    for mail in sandbox.mails:
        assert STRANGER not in f"{mail.header('To')} {mail.header('Cc')} {mail.header('Bcc')} {mail.header('Reply-To')}"


def _sends(office: Office, queue: Callable[[Transaction], None]) -> bool:
    """Whether a mail went out for it."""
    relay = office.relay
    sent: list[str] = []
    forward = relay.send

    def counted(message: bytes, mail_from: str, recipient: str) -> str:
        sent.append(recipient)
        return forward(message, mail_from, recipient)

    relay.send = counted  # type: ignore[method-assign]
    try:
        office.store.write("x", queue)
        office.settle()
    finally:
        relay.send = forward  # type: ignore[method-assign]
    return bool(sent)


def _tell(office: Office, incident: Incident, kind: str) -> bool:
    return _sends(office, lambda tx: tx.queue.tell(incident, "ana", f"t/{kind}", {**FACTS, "what": kind}))


def _news(office: Office, incident: Incident, kind: str) -> bool:
    effect = Effect(do=EffectKind.NEWS, key=f"n/{kind}", facts={**FACTS, "what": kind})
    return _sends(office, lambda tx: tx.queue.add(tasks.effect_tasks(incident, effect, lambda person: ())))


def _alarm(office: Office, incident: Incident, kind: str) -> bool:
    return _sends(office, lambda tx: tx.queue.tell_operators(kind, FACTS, incident_id=incident.id))


def test_every_effect_is_a_mail_to_somebody_of_ours_or_keeps_the_issue() -> None:
    mails = {EffectKind.PAGE, EffectKind.TELL, EffectKind.RECEIPT, EffectKind.NEWS, EffectKind.OPERATORS,
             EffectKind.LIST, EffectKind.PROVEN}  # fmt: skip
    assert mails | KEEPS_THE_ISSUE == set(EffectKind), "to whom does the new one go?"


def test_every_letter_is_addressed_to_a_person_of_ours_or_to_the_reporter() -> None:
    """Whatever makes an envelope takes its recipient from these, and from nothing a mail says."""
    known = {"person.email", "head.person.email", "incident.reporter_address"}
    found = []
    for file in sorted(Path(compose.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Envelope":
                found += [ast.unparse(word.value) for word in node.keywords if word.arg == "to"]
    assert len(found) >= 7
    assert set(found) == known
