"""A page that one relay does not take in time goes by the next, as the same mail, and is never lost between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from panicmail.config.schema import RelaySettings
from panicmail.config.values import relay_url
from panicmail.delivery import EmailWorker
from panicmail.delivery.relay_route import RelayRoute
from panicmail.delivery.smtp_client import relay_client
from panicmail.errors import LockedOut, PanicmailError, Permanent, Temporary, Unknown
from panicmail.sandbox.relay_server import SandboxRelay
from tests.office import Office
from tests.provider import closed_port

MAIL = (b"Subject: x\r\n\r\nx\r\n", "panic@example.com", "ana@example.com")


@dataclass
class Relay:
    """Answers as scripted, then takes everything; `hangs` until it is let go."""

    script: list[PanicmailError | None] = field(default_factory=list)
    hangs: threading.Event | None = None
    taken: list[tuple[bytes, str, str]] = field(default_factory=list)
    is_closed: bool = False

    def send(self, message: bytes, mail_from: str, recipient: str) -> str:
        if self.hangs is not None:
            self.hangs.wait(30)
        if self.script and (said := self.script.pop(0)) is not None:
            raise said
        self.taken.append((message, mail_from, recipient))
        return "250 2.0.0 taken"

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


Route = Callable[..., RelayRoute]


@pytest.fixture
def route(told: list[tuple[str, str]]) -> Route:
    def made(*relays: Relay, patience: float = 10.0) -> RelayRoute:
        named = [(f"relay-{number}", relay) for number, relay in enumerate(relays, 1)]
        return RelayRoute(named, lambda name, why: told.append((name, why)), patience)

    return made


def test_what_the_first_takes_no_other_is_asked_for(route: Route, told: list[tuple[str, str]]) -> None:
    first, second = Relay(), Relay()
    assert route(first, second).send(*MAIL) == "250 2.0.0 taken"
    assert (first.taken, second.taken, told) == ([MAIL], [], [])


@pytest.mark.parametrize(
    "said", [Temporary("450 later"), Unknown("the connection went"), Permanent("550 no"), LockedOut("535 who are you")]
)
def test_what_the_first_does_not_take_goes_by_the_second_as_the_same_mail(
    route: Route, told: list[tuple[str, str]], said: PanicmailError
) -> None:
    first, second = Relay([said]), Relay()
    assert route(first, second).send(*MAIL) == "250 2.0.0 taken"
    assert (second.taken, told) == ([MAIL], [("relay-1", str(said))])


def test_a_relay_that_hangs_is_left_to_itself_and_not_asked_again_before_it_answers(route: Route) -> None:
    go = threading.Event()
    first, second = Relay(hangs=go), Relay()
    way = route(first, second, patience=0.05)
    way.send(*MAIL)
    way.send(*MAIL)
    assert len(second.taken) == 2
    go.set()
    while not first.taken:
        threading.Event().wait(0.01)
    assert first.taken == [MAIL], "one more copy of the first mail, and none of the second"
    first.hangs = None
    while len(first.taken) < 2:
        way.send(*MAIL)
    assert len(second.taken) <= 3


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (Permanent("550 a"), Permanent("550 b"), Permanent),
        (Permanent("550 a"), Temporary("450 b"), Temporary),
        (Unknown("lost"), Permanent("550 b"), Unknown),
        (LockedOut("535 a"), LockedOut("535 b"), LockedOut),
        (LockedOut("535 a"), Temporary("450 b"), Temporary),
        (Temporary("450 a"), Unknown("lost"), Unknown),
    ],
)
def test_when_none_takes_it_the_least_sure_answer_counts(
    route: Route, first: PanicmailError, second: PanicmailError, kind: type[PanicmailError]
) -> None:
    with pytest.raises(kind) as raised:
        route(Relay([first]), Relay([second])).send(*MAIL)
    assert type(raised.value) is kind


def test_close_hangs_up_everywhere(route: Route) -> None:
    first, second = Relay(), Relay()
    route(first, second).close()
    assert first.is_closed
    assert second.is_closed


def test_a_page_goes_by_the_second_relay_when_the_first_is_not_there(tmp_path: Path) -> None:
    with SandboxRelay() as there, closing(Office(tmp_path)) as desk:
        urls = [f"smtp://127.0.0.1:{closed_port()}", f"smtp://127.0.0.1:{there.port}"]
        relay = RelaySettings.model_validate({"sender": "panic@example.com", "page_sender": "panic@example.com"})
        relays = [(url, relay_client(relay, "panic.example.com", url=relay_url(url))) for url in urls]
        way = RelayRoute(relays)
        desk.lanes[0] = EmailWorker("page", desk.store, lambda: desk.settings, way)
        desk.panic()
        (page,) = there.all(lambda got: got.to("ana@example.com"))
        way.close()
        assert page.subject.startswith("[PANIC ")
        assert "page.accepted" in desk.events(desk.incidents()[0])
