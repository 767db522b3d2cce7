"""DNS for the tests: zones in memory, and a server on loopback that answers from one and misbehaves when it is told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from panicmail.mail.authenticate.dns_lookups import DnsAnswer, Unanswered

#: A zone: name (lower case, no last dot) -> (type, value); "TIMEOUT" for a value, or "*" and that, does not answer.
Zone = Mapping[str, Sequence[tuple[str, Any]]]
TIMEOUT = "TIMEOUT"


def records_of(zone: Zone, name: str, kind: str, aliases: int = 0) -> list[Any]:
    """The records, aliases followed.

    Raises:
        Unanswered: The zone says so.
    """
    found = zone.get(name.lower().rstrip("."), ())
    if any(value == TIMEOUT and (which in {kind, "*"}) for which, value in found) and not any(
        which == kind and value != TIMEOUT for which, value in found
    ):
        raise Unanswered("the zone says so")
    values = [_value(kind, value) for which, value in found if which == kind and value != TIMEOUT]
    alias = next((value for which, value in found if which == "CNAME"), None)
    if not values and alias is not None:
        if aliases > 8:
            raise Unanswered("aliases lead nowhere")
        return records_of(zone, str(alias), kind, aliases + 1)
    return values


def _value(kind: str, value: Any) -> Any:
    match kind:
        case "TXT":
            pieces = value if isinstance(value, list | tuple) else [value]
            return b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)
        case "MX":
            return int(value[0]), str(value[1]).rstrip(".")
        case "PTR":
            return str(value).rstrip(".")
    return str(value)


class ZoneDns:
    """Answers from a zone; counts what it is asked; silent while `is_away`."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.is_away = False
        self.asked: list[str] = []

    def ask(self, name: str, kind: str, seconds: float) -> DnsAnswer:
        self.asked.append(f"{kind} {name}")
        if self.is_away:
            raise Unanswered("nobody answers")
        return DnsAnswer(tuple(records_of(self.zone, name, kind)), 300)

    def find(self, name: str, kind: str) -> Sequence[Any]:
        return self.ask(name, kind, 5).records


class DnsServer:
    """A name server on loopback (UDP and TCP), for one zone.

    `misbehaves` names what it does instead of answering: "silent", "servfail", "nonsense", "other id".
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.misbehaves = ""
        self.asked: list[str] = []
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._tcp.getsockname()[1])
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._serve_udp, self._serve_tcp)]

    def start(self) -> DnsServer:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._udp.sendto(b"", ("127.0.0.1", self.port))
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        for thread in self._threads:
            thread.join(30)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            question, peer = self._udp.recvfrom(65_535)
            if not question:
                return
            if answer := self._answer(question, most=1_232):
                self._udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while True:
            client, _ = self._tcp.accept()
            with client, contextlib.suppress(OSError):
                client.settimeout(30)
                head = client.recv(2)
                if len(head) < 2:
                    return
                question = client.recv(int.from_bytes(head, "big"))
                if answer := self._answer(question, most=65_535):
                    client.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, question: bytes, most: int) -> bytes:
        query = dns.message.from_wire(question)
        asked = query.question[0]
        name, kind = asked.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(asked.rdtype)
        self.asked.append(f"{kind} {name.lower()}")
        match self.misbehaves:
            case "silent":
                return b""
            case "nonsense":
                return b"\xff" * 40
        answer = dns.message.make_response(query)
        if self.misbehaves == "other id":
            answer.id ^= 1
        if self.misbehaves == "servfail":
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer.to_wire()
        self._fill(answer, name, kind)
        wire = answer.to_wire(max_size=65_535)
        if len(wire) > most:
            short = dns.message.make_response(query)
            short.flags |= dns.flags.TC
            return short.to_wire()
        return wire

    def _fill(self, answer: dns.message.Message, name: str, kind: str) -> None:
        try:
            found = records_of(self.zone, name, kind)
        except Unanswered:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return
        if not found:
            answer.set_rcode(dns.rcode.NOERROR if name.lower() in self.zone else dns.rcode.NXDOMAIN)
            return
        texts = [_wire_text(kind, value) for value in found]
        answer.answer.append(dns.rrset.from_text_list(answer.question[0].name, 300, "IN", kind, texts))


def _wire_text(kind: str, value: Any) -> str:
    match kind:
        case "TXT":
            pieces = [value[at : at + 255] for at in range(0, max(len(value), 1), 255)]
            return " ".join('"' + "".join(f"\\{octet:03d}" for octet in piece) + '"' for piece in pieces)
        case "MX":
            return f"{value[0]} {value[1]}."
        case "PTR":
            return f"{value}."
    return str(value)


@contextlib.contextmanager
def dns_server(zone: Zone) -> Iterator[DnsServer]:
    server = DnsServer(zone).start()
    try:
        yield server
    finally:
        server.stop()
