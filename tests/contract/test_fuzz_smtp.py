"""The SMTP dialogue under fuzz, in each of its states, over real sockets and TLS.

A session is brought into a state, then anything is said in it, cut anywhere: commands with wrong arguments, octets,
ends of mails that are none, while the store takes, refuses, loses or holds what it is given. `Replay` reads what we
sent by the answers we got: each line has one reply and each dot has one, so it knows which mails there were. Nothing
but those may be in the store, octet for octet; no reply is anything but one of ours; and afterwards the listener takes
a good mail and holds no session.

PANICMAIL_FUZZ multiplies the examples: see `tests/examples.py`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme
from hypothesis import given
from hypothesis import strategies as st

from panicmail.errors import StoreFailed
from panicmail.intake.accept import ReceivedMail
from panicmail.server.smtp import reply_table
from panicmail.server.smtp.inbound_storage import IN_MEMORY, ON_DISK
from panicmail.server.smtp.listeners import tls_context
from panicmail.server.smtp.reply_table import Reply
from tests.examples import FUZZ, examples
from tests.served_smtp import PANIC, Served, Store, serving

pytestmark = pytest.mark.timeout(120 * max(1, FUZZ))

LIMIT, HOPS = 6000, 30
END = b"\r\n.\r\n"
#: What is wrong inside us and must not be seen outside.
SECRET = "postgresql://panic:s3cret@db/\r\n250 2.0.0 accepted as FAKE"

# -- what is said

HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<bo@example.net>\r\n"
RCPT = b"RCPT TO:<panic@example.com>\r\n"
BODY = b"Subject: help\r\n\r\n..We are on fire.\r\n.\r\n"
GOOD = HELLO + MAIL + RCPT + b"DATA\r\n" + BODY + b"QUIT\r\n"
#: What brings a session into each state.
STATES = {
    "greeted": b"",
    "after EHLO": HELLO,
    "after MAIL": HELLO + MAIL,
    "after RCPT": HELLO + MAIL + RCPT,
    "in DATA": HELLO + MAIL + RCPT + b"DATA\r\nSubject: x\r\n",
    "after the dot": HELLO + MAIL + RCPT + b"DATA\r\n" + BODY,
}
HANDSHAKE = HELLO + b"STARTTLS\r\n"

VERBS = st.sampled_from(
    [b"EHLO", b"HELO", b"MAIL", b"MAIL FROM:", b"RCPT", b"RCPT TO:", b"DATA", b"RSET", b"NOOP", b"VRFY", b"EXPN",
     b"HELP", b"AUTH", b"AUTH PLAIN", b"BDAT", b"ETRN", b"TURN", b"LHLO", b"STARTTLS", b"QUIT", b"X", b"",
     b"mail from:", b"GET /"]
)  # fmt: skip
ARGUMENTS = st.one_of(
    st.sampled_from(
        [b"", b" ", b"<>", b"<bo@example.net>", b"<panic@example.com>", b" <panic+x@example.com> SIZE=1", b"<\r>",
         b"SIZE=99999999", b"<a@b> BODY=8BITMIME SMTPUTF8", b"<a@b> RET=FULL ENVID=x", b"<panic@example.com",
         b'<"a b"@c>', b"<@a,@b:c@d>", b"client.example", b"[127.0.0.1]", b"\xff\xfe", b"\x00", b"0 LAST",
         b"=" * 600, b"<" + b"a" * 5000 + b"@b>"]
    ),
    st.binary(max_size=12),
)  # fmt: skip
LINES = st.builds(
    lambda verb, space, argument, end: verb + space + argument + end,
    VERBS,
    st.sampled_from([b"", b" ", b"  ", b"\t"]),
    ARGUMENTS,
    st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r", b"\r\r\n", b"\x00\r\n", b""]),
)
#: Pieces of dialogues that matter where a mail ends or only seems to.
PIECES = st.sampled_from(
    [MAIL, RCPT, b"DATA\r\n", BODY, END, b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b".", b"..\r\n",
     b"\r", b"\n", b"\r\n", b"\x00", b"Received: by x\r\n" * 31, b"x" * 300, b"y\r\n" * 900, b"z" * 7000,
     HELLO + MAIL + RCPT + b"DATA\r\n"]
)  # fmt: skip
#: Whole mails, or nearly: odd names and senders, unknown recipients, too large, round in circles, ends that are none.
MAILS = st.builds(
    lambda hello, sender, to, body, end: hello + sender + to + b"DATA\r\n" + b"".join(body) + end,
    st.sampled_from([b"RSET\r\n", b"RSET\r\n", b"EHLO c\x07\x1b[2J\xff\r\n", b"HELO " + b"n" * 900 + b"\r\n"]),
    st.sampled_from([MAIL, MAIL, b"MAIL FROM:<>\r\n", b"MAIL FROM:<b\x00o\r@x>\r\n", b"MAIL FROM:<jos\xe9@x>\r\n"]),
    st.sampled_from([RCPT, RCPT, RCPT + RCPT, b"RCPT TO:<root@example.com>\r\n", RCPT * 101]),
    st.lists(PIECES | st.binary(max_size=30), max_size=5),
    st.sampled_from([END, END, END, b"\n.\n", b"\r\n.\n"]),
)
SAID = st.lists(st.one_of(MAILS, LINES, PIECES, MAILS, st.binary(max_size=30)), max_size=8).map(b"".join)
#: Not yet: test_what_stands_behind_a_refused_starttls_is_answered.
SAID_PLAINLY = SAID.filter(lambda said: b"STARTTLS" not in said)
CUTS = st.lists(st.integers(0, 400), max_size=6)
FATES = st.lists(st.sampled_from(["taken", "taken", "held", "fails", "raises", "cancelled"]), max_size=3)


def stuffed(raw: bytes) -> bytes:
    """As a careful client sends it (RFC 5321 4.5.2), its end included."""
    lines = (b"\r\n" + raw).replace(b"\r\n.", b"\r\n..")[2:]
    return lines + (b".\r\n" if raw.endswith(b"\r\n") or not raw else END)


# -- the store behind the listener


class Shelf(Store):
    """Takes mails as it is told: each has a fate, and a REF that nobody can know before it was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.fates: list[str] = []
        self.taken: dict[str, bytes] = {}
        self.held: list[tuple[concurrent.futures.Future[str], ReceivedMail]] = []
        self.failed = 0
        self._numbers = count(10_000)
        self._lock = threading.Lock()

    def accept(self, mail: ReceivedMail) -> concurrent.futures.Future[str]:
        future: concurrent.futures.Future[str] = concurrent.futures.Future()
        with self._lock:
            fate = self.fates.pop(0) if self.fates else "taken"
            if fate == "held":
                self.held.append((future, mail))
            elif fate == "taken":
                self._take(future, mail)
            else:
                self.failed += 1
        with self.came:
            self.mails.append(mail)
            self.came.notify_all()
        if fate == "raises":
            raise LookupError(SECRET)
        if fate == "fails":
            future.set_exception(StoreFailed(SECRET))
        if fate == "cancelled":
            future.cancel()
            future.set_running_or_notify_cancel()
        return future

    def _take(self, future: concurrent.futures.Future[str], mail: ReceivedMail) -> None:
        ref = f"R{next(self._numbers)}"
        self.taken[ref] = mail.raw
        future.set_result(ref)

    def release(self) -> None:
        """Take what was held, and hold nothing more."""
        with self._lock:
            self.fates = [fate for fate in self.fates if fate != "held"]
            for future, mail in self.held:
                assert not future.cancelled(), "nobody may cancel a write"
                self._take(future, mail)
            self.held.clear()

    def anew(self, fates: Iterable[str]) -> None:
        self.release()
        self.mails.clear()
        self.taken.clear()
        self.failed = 0
        self.fates = list(fates)


# -- the client


@dataclass
class Client:
    """Says octets in pieces, and collects whatever comes back."""

    line: socket.socket
    heard: bytes = b""
    was_reset: bool = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    @classmethod
    def to(cls, port: int) -> Client:
        line = socket.create_connection(("127.0.0.1", port), timeout=30)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(line)

    def say(self, octets: bytes, cuts: Iterable[int] = ()) -> None:
        places = sorted({min(cut, len(octets)) for cut in cuts} | {0, len(octets)})
        try:
            for a, b in pairwise(places):
                self.line.sendall(octets[a:b])
        except (ConnectionError, ssl.SSLError):  # it has shown us out already
            self.was_reset = True

    def hear(self, answers: int) -> None:
        """Wait for so many whole replies in all, or the end."""
        while len(whole_replies(self.heard)) < answers and self._more():
            pass

    def hear_all(self) -> None:
        while self._more():
            pass

    def _more(self) -> bool:
        try:
            octets = self.line.recv(65536)
        except (ConnectionError, ssl.SSLError):
            self.was_reset = True
            return False
        self.heard += octets
        return bool(octets)

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self.line.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.line.close()

    def secure(self, context: ssl.SSLContext) -> bool:
        """Shake hands; False when it did not come to that. What was heard before is forgotten."""
        self.heard = b""
        plain = self.line
        try:
            self.line = context.wrap_socket(plain, server_hostname="127.0.0.1")
        except (ConnectionError, ssl.SSLError):
            plain.close()
            return False
        return True


REPLY_LINE = re.compile(rb"(\d{3})([ -])([\x20-\x7e]*)\r\n")
#: Every sentence we may say, but for the REF of a mail that was taken.
SENTENCES = {str(value) for value in vars(reply_table).values() if isinstance(value, Reply)}
SENTENCES |= {reply_table.greeting("panic.example.com"), reply_table.hello("panic.example.com")}


def whole_replies(heard: bytes) -> list[str]:
    """The replies that have come whole, each without its CRLF; lines of one joined by newlines."""
    found: list[str] = []
    lines: list[str] = []
    for line in REPLY_LINE.finditer(heard):
        lines.append(line[0].decode("ascii").removesuffix("\r\n"))
        if line[2] == b" ":
            found.append("\n".join(lines))
            lines = []
    return found


def every_reply_is_well_formed_and_one_of_ours(heard: bytes, shelf: Shelf) -> None:
    assert re.fullmatch(rb"(?:" + REPLY_LINE.pattern + rb")*", heard), heard
    for reply in whole_replies(heard):
        if reply.startswith("250-"):
            hello = [line[4:] for line in reply.splitlines()]
            assert hello[0] == "panic.example.com"
            assert set(hello[1:]) <= {"PIPELINING", f"SIZE {LIMIT}", "8BITMIME", "SMTPUTF8", "STARTTLS",
                                      "ENHANCEDSTATUSCODES"}  # fmt: skip
        elif reply.startswith("250 2.0.0 accepted as "):
            assert reply.rpartition(" ")[2] in shelf.taken, "a 250 for what was not taken"
        else:
            assert reply in SENTENCES


# -- what it must have come to


def mail_before_the_dot(octets: bytes) -> bytes | None:
    """What a mail is that begins here; None when it has no end."""
    lines, end, _ = (b"\r\n" + octets).partition(END)
    return (lines + b"\r\n").replace(b"\r\n.", b"\r\n")[2:] if end else None


@dataclass
class Replay:
    """What we sent, read by what was answered."""

    was_reset: bool  #: so answers may be lost
    mails: list[tuple[str, bytes]] = field(default_factory=list)  #: the answer to each dot, and the mail before it
    senders: int = 0  #: taken since the last transaction was over
    recipients: int = 0
    is_over: bool = False  #: the last reply was a last word
    hung_up: bool = False  #: there was a mail beyond twice the limit, so it may have been

    def read(self, sent: bytes, answers: list[str]) -> None:
        """Each line has one reply, each dot has one; nothing else is answered."""
        waiting = iter(answers[1:])  # the first is the greeting
        at = 0
        while not self.is_over and (end := sent.find(b"\n", at)) >= 0:
            at = end + 1
            if (reply := next(waiting, None)) is None:
                assert self.was_reset or self.hung_up, "a line without a reply"
                return
            self.is_over = reply.startswith(("221", "421")) or reply == reply_table.START_TLS
            self._note(sent[:end].rpartition(b"\n")[2], reply)
            if reply == reply_table.SEND_THE_MAIL:
                assert (self.senders, self.recipients > 0) == (1, True), "a mail without an envelope of its own"
                at = self._mail(sent, at, waiting)
        assert next(waiting, None) is None, "an answer to nothing"

    def _note(self, line: bytes, reply: str) -> None:
        if re.match(rb"(?i)(?:rset|ehlo|helo)\b", line) and reply.startswith("250"):
            self.senders = self.recipients = 0
        self.senders += reply == reply_table.SENDER_OK
        self.recipients += reply == reply_table.RECIPIENT_OK

    def _mail(self, sent: bytes, at: int, waiting: Iterator[str]) -> int:
        """One mail from `at` on; where its end ends."""
        raw, reply = mail_before_the_dot(sent[at:]), next(waiting, None)
        size = len(sent) - at if raw is None else (b"\r\n" + sent[at:]).find(END)
        self.hung_up = size > 2 * LIMIT
        if raw is None or reply is None:
            assert reply is None or (reply == reply_table.TOO_LARGE and self.hung_up), "an answer before the dot"
            assert raw is None or self.was_reset, "a dot without an answer"
            self.is_over = True
            return len(sent)
        self.mails.append((reply, raw))
        self.senders = self.recipients = 0
        if size <= LIMIT and raw.lower().count(b"received") <= HOPS:
            assert reply[0] in "24", "a good mail is never refused for good"
        assert size <= LIMIT or reply == reply_table.TOO_LARGE, "a mail that is too large is refused for good"
        return at + size - 2 + len(END)


def nothing_is_stored_but_what_stood_between_data_and_a_dot(sent: bytes, shelf: Shelf) -> None:
    begun = [sent[line.end() :] for line in re.finditer(rb"(?i)data[^\n]*\n", sent)]
    assert {mail.raw for mail in shelf.mails} <= {mail_before_the_dot(octets) for octets in begun}
    assert len(shelf.mails) <= len(begun)
    for mail in shelf.mails:
        assert {to.lower() for to in mail.recipients} <= {
            to.lower() for to in mail.recipients if shelf.known(to.lower())
        }
        assert len(mail.helo) <= 255
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", mail.mail_from + mail.helo + "".join(mail.recipients))


def the_mails_are_those_of_our_dots(sent: bytes, client: Client, shelf: Shelf) -> None:
    every_reply_is_well_formed_and_one_of_ours(client.heard, shelf)
    nothing_is_stored_but_what_stood_between_data_and_a_dot(sent, shelf)
    replay = Replay(client.was_reset)
    replay.read(sent, whole_replies(client.heard))
    handed_over = [(reply, raw) for reply, raw in replay.mails if reply[:3] in {"250", "451"}]
    for reply, raw in handed_over:
        if reply.startswith("250"):
            assert shelf.taken[reply.rpartition(" ")[2]] == raw, "octet for octet"
    stored = [mail.raw for mail in shelf.mails]
    answered = [raw for _, raw in handed_over]
    assert stored[: len(answered)] == answered
    assert client.was_reset or stored == answered


# -- the listener


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture(scope="module")
def served(shelf: Shelf) -> Iterator[Served]:
    with serving(shelf, max_message_size=LIMIT, max_hops=HOPS, idle_timeout=20) as served:
        yield served


@pytest.fixture(scope="module")
def tls(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder: Path = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "crt")
    issued.private_key_pem.write_to_path(folder / "key")
    return tls_context(folder / "crt", folder / "key")


@pytest.fixture(scope="module")
def under_tls(shelf: Shelf, tls: ssl.SSLContext) -> Iterator[Served]:
    with serving(shelf, tls=tls, max_message_size=LIMIT, max_hops=HOPS, idle_timeout=20) as served:
        yield served


def everybody_has_left(served: Served, within: float = 8) -> None:
    """Whoever connected before has been heard to the end by then, and no session is left."""
    with Client.to(served.port) as last:
        last.hear(1)

    async def gone() -> None:
        async with asyncio.timeout(within):
            while dialogues := tuple(served.listener._dialogues):
                await asyncio.gather(*(dialogue.ended() for dialogue in dialogues))

    served.run(gone())


def it_still_takes_a_good_mail(served: Served, shelf: Shelf) -> None:
    shelf.anew([])
    with Client.to(served.port) as client:
        client.say(GOOD)
        client.hear_all()
    answers = [reply[:3] for reply in whole_replies(client.heard)]
    assert answers == ["220", "250", "250", "250", "354", "250", "221"]
    assert [mail.raw for mail in shelf.mails] == [BODY.removesuffix(b".\r\n").replace(b"..", b".")]
    everybody_has_left(served)
    kept = served.listener._terms.storage
    assert (kept.memory.free, kept.disk.free) == (IN_MEMORY, ON_DISK * LIMIT), "every mail gave its room back"


def bring_to(state: str, client: Client, shelf: Shelf, fates: list[str], *, waits: bool) -> bytes:
    """Say what leads to that state. `waits` False: without listening to the answers."""
    shelf.anew(["held", *fates] if state == "after the dot" else fates)
    said = STATES[state]
    client.say(said)
    if state == "after the dot":
        shelf.wait_for()
    elif waits:
        client.hear({"in DATA": 5}.get(state, 1 + said.count(b"\n")))
    return said


# -- the claims


@pytest.mark.parametrize("state", STATES)
def test_whatever_is_said_in_a_state_is_answered_line_by_line_and_stored_dot_by_dot(
    state: str, served: Served, shelf: Shelf, logged: list[Any]
) -> None:
    @examples(120)
    @given(SAID_PLAINLY, CUTS, FATES, st.booleans(), st.sampled_from([b"", b"", END + b"QUIT\r\n"]))
    def holds(said: bytes, cuts: list[int], fates: list[str], waits: bool, last: bytes) -> None:
        logged.clear()
        with Client.to(served.port) as client:
            before = bring_to(state, client, shelf, fates, waits=waits)
            client.say(said + last, cuts)
            client.half_close()
            shelf.release()
            client.hear_all()
        everybody_has_left(served)
        the_mails_are_those_of_our_dots(before + said + last, client, shelf)
        assert [entry["event"] for entry in logged].count("smtp.failed") == shelf.failed, "nobody else makes us fail"
        it_still_takes_a_good_mail(served, shelf)

    holds()


@pytest.mark.parametrize("state", STATES)
def test_who_resets_or_hangs_up_in_a_state_leaves_no_session_and_no_mail_but_the_dotted(
    state: str, served: Served, shelf: Shelf
) -> None:
    @examples(60)
    @given(SAID, CUTS, FATES, st.booleans(), st.booleans())
    def holds(said: bytes, cuts: list[int], fates: list[str], waits: bool, resets: bool) -> None:
        with Client.to(served.port) as client:
            before = bring_to(state, client, shelf, fates, waits=waits)
            client.say(said, cuts)
            if resets:
                client.reset()
        shelf.release()
        everybody_has_left(served)
        every_reply_is_well_formed_and_one_of_ours(client.heard, shelf)
        nothing_is_stored_but_what_stood_between_data_and_a_dot(before + said, shelf)
        it_still_takes_a_good_mail(served, shelf)

    holds()


HELLOS = st.sampled_from([b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00", b"\x15\x03\x03\x00\x02\x02\x28"])


def test_whatever_is_said_in_place_of_a_handshake_ends_only_its_own_session(under_tls: Served, shelf: Shelf) -> None:
    @examples(60)
    @given(HELLOS, SAID, CUTS, st.sampled_from(["half-closes", "resets", "hangs up"]))
    def holds(hello: bytes, said: bytes, cuts: list[int], end: str) -> None:
        shelf.anew([])
        with Client.to(under_tls.port) as client:
            client.say(HANDSHAKE)
            client.hear(3)
            every_reply_is_well_formed_and_one_of_ours(client.heard, shelf)
            client.say(hello + said, cuts)
            if end == "half-closes":
                client.half_close()
                client.hear_all()
            elif end == "resets":
                client.reset()
        everybody_has_left(under_tls)
        assert shelf.mails == []
        it_still_takes_a_good_mail(under_tls, shelf)

    holds()


def test_what_is_said_under_tls_is_answered_and_stored_as_in_plaintext(
    under_tls: Served, shelf: Shelf, trusting: ssl.SSLContext
) -> None:
    @examples(60)
    @given(st.sampled_from(list(STATES)), SAID, CUTS, FATES, st.just(b"") | SAID)
    def holds(state: str, said: bytes, cuts: list[int], fates: list[str], injected: bytes) -> None:
        """`injected`: what somebody else put behind our STARTTLS."""
        shelf.anew(fate for fate in fates if fate != "held")
        sent = STATES[state] + said + END + b"QUIT\r\n"
        with Client.to(under_tls.port) as client:
            client.say(HANDSHAKE + injected)
            client.hear(3)
            if client.secure(trusting):
                client.say(sent, cuts)
                client.hear_all()
                client.heard = reply_table.greeting("panic.example.com").encode() + b"\r\n" + client.heard
                the_mails_are_those_of_our_dots(sent, client, shelf)
        everybody_has_left(under_tls)
        assert all(mail.tls for mail in shelf.mails)
        it_still_takes_a_good_mail(under_tls, shelf)

    holds()


# -- what the fuzz found, each by itself; once one is mended, its exception in the fuzz goes too ("not yet")


@pytest.mark.xfail(strict=True, raises=TimeoutError, reason="the handshake is not told of an end that came before it")
def test_who_leaves_right_behind_starttls_leaves_no_session(shelf: Shelf, tls: ssl.SSLContext) -> None:
    with serving(shelf, tls=tls) as served:
        with Client.to(served.port) as client:
            bring_to("after the dot", client, shelf, [], waits=False)
            client.say(b"STARTTLS\r\n")
            client.half_close()
            with Client.to(served.port) as another:  # once it is greeted, the end of the first has been seen
                another.hear(1)
            shelf.release()
            client.hear(7)
        everybody_has_left(served, within=0.5)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="it is forgotten though no handshake follows")
def test_what_stands_behind_a_refused_starttls_is_answered(served: Served) -> None:
    with Client.to(served.port) as client:
        client.say(HELLO + b"STARTTLS\r\nNOOP\r\n")
        client.half_close()
        client.hear_all()
    assert whole_replies(client.heard)[2:] == [reply_table.NO_TLS, reply_table.OK]


RAW = st.lists(st.one_of(PIECES, st.binary(max_size=60)), max_size=6).map(b"".join)
GOOD_MAILS = RAW.filter(lambda raw: len(stuffed(raw)) <= LIMIT and raw.count(b"Received") <= HOPS)


def test_a_good_mail_is_taken_octet_for_octet_however_it_is_cut_and_whatever_is_in_it(
    under_tls: Served, shelf: Shelf, trusting: ssl.SSLContext
) -> None:
    @examples(60)
    @given(GOOD_MAILS, CUTS, st.booleans())
    def holds(raw: bytes, cuts: list[int], tls: bool) -> None:
        shelf.anew([])
        with Client.to(under_tls.port) as client:
            if tls:
                client.say(HANDSHAKE)
                client.hear(3)
                assert client.secure(trusting)
            client.say(HELLO + MAIL + RCPT + b"DATA\r\n" + stuffed(raw) + b"QUIT\r\n", cuts)
            client.hear_all()
        assert [reply[:3] for reply in whole_replies(client.heard)][-3:] == ["354", "250", "221"]
        assert [mail.raw for mail in shelf.mails] == [raw if raw.endswith(b"\r\n") or not raw else raw + b"\r\n"]
        assert shelf.mails[0].recipients == (PANIC,)

    holds()
