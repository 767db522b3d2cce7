"""Nobody closes the door: whatever one client does, another one's panic is taken.

Attackers come from 127.0.0.1, honest clients from 127.0.0.2.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.server.smtp import connections, reply_table
from panicmail.server.smtp.connections import Connections
from panicmail.server.smtp.inbound_storage import ON_DISK, SMALL, BudgetShare, OctetBudget
from panicmail.server.smtp.reply_table import Reply
from tests.disks import Disk
from tests.program import world
from tests.served_smtp import MAIL, Served, Wire, _eventually, serving

MIB = 1 << 20
#: A mail server of ours, where there is one.
TRUSTED = "127.0.0.9"


class From(Wire):
    """A client of that address."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(address, 0))
        self._replies = self.socket.makefile("rb")


def is_taken(served: Served, address: str = "127.0.0.2") -> bool:
    """Whether a panic of somebody else gets its 250."""
    with From(address, served.port).until_data() as client:
        return client.say(MAIL + b".").startswith("250 ")


@contextlib.contextmanager
def crowd(served: Served, size: int) -> Iterator[list[Wire]]:
    """So many connections that say nothing."""
    with contextlib.ExitStack() as leaving:
        yield [leaving.enter_context(served.wire()) for _ in range(size)]


def test_idle_connections_keep_nobody_out() -> None:
    with serving(max_connections=8) as served, crowd(served, 30):
        assert _eventually(lambda: len(served.listener._dialogues) <= 4)
        assert is_taken(served)


def test_who_was_idle_for_longest_leaves_with_a_421_and_the_newcomer_is_served() -> None:
    with serving(max_connections=8) as served, served.wire() as first, served.wire() as second:
        assert (first.reply()[:3], second.reply()[:3]) == ("220", "220")
        assert first.say(b"NOOP") == reply_table.OK, "now the second one is idle for longer"
        with served.wire() as third:
            assert third.reply().startswith("220")
            assert second.reply() == reply_table.TOO_MANY_CONNECTIONS
            assert second.reply() == ""
            assert first.say(b"NOOP") == reply_table.OK


def test_who_is_in_the_midst_of_a_mail_is_never_sent_away_for_somebody_else() -> None:
    with serving(max_connections=8) as served, served.wire().until_data() as one, served.wire().until_data() as two:
        with served.wire() as third:
            assert third.reply() == reply_table.TOO_MANY_CONNECTIONS
            assert third.reply() == ""
        assert is_taken(served)
        for client in (one, two):
            assert client.say(MAIL + b".").startswith("250 ")


def test_the_kernel_holds_a_crowd_that_comes_while_the_event_loop_is_busy() -> None:
    """Beyond what it holds a client knocks again after a second: fifty at once had a few mails a second."""
    with serving() as served, contextlib.ExitStack() as leaving:
        busy, go_on = threading.Event(), threading.Event()

        def hold_up() -> None:
            busy.set()
            go_on.wait(30)

        served._loop.call_soon_threadsafe(hold_up)
        assert busy.wait(30)
        try:
            crowd = [leaving.enter_context(socket.socket()) for _ in range(200)]
            for client in crowd:
                client.settimeout(0.9)  # less than it takes to knock again
                client.connect(("127.0.0.1", served.port))
        finally:
            go_on.set()
        assert is_taken(served)


def test_a_mail_that_comes_in_too_slowly_is_given_up() -> None:
    with serving(data_grace=0.2, data_rate=1e9) as served, served.wire().until_data() as client:
        client.send(b"a")
        assert client.reply() == reply_table.TOO_SLOW
        assert client.reply() == ""
        assert served.store.mails == []


def test_a_mail_has_a_deadline_however_steadily_it_comes() -> None:
    with serving(data_within=0.2, data_rate=1e-9) as served, served.wire().until_data() as client:
        client.send(b"a" * 1000)
        assert client.reply() == reply_table.TOO_SLOW


def test_commands_without_a_mail_come_to_an_end_and_a_mail_begins_them_anew() -> None:
    with serving(max_commands=8) as served, served.wire().until_data() as client:
        assert client.say(MAIL + b".").startswith("250 ")
        for _ in range(8):
            assert client.say(b"NOOP") == reply_table.OK
        assert client.say(b"NOOP") == reply_table.TOO_MANY_COMMANDS
        assert client.reply() == ""


@pytest.mark.parametrize("addresses", [["127.0.0.1"] * 6, [f"127.0.0.{n}" for n in range(11, 17)]])
def test_unfinished_mails_hold_disk_and_keep_nobody_out(addresses: list[str]) -> None:
    """The report: six unfinished mails of 50 MiB held the whole budget, and panic@ answered 452 to everybody."""
    size, disk = 50 * MIB, Disk()
    with (
        serving(disk=disk, max_message_size=size, is_trusted=TRUSTED.__eq__) as served,
        contextlib.ExitStack() as leaving,
    ):
        memory = resident()
        for address in addresses:
            hoarder = leaving.enter_context(From(address, served.port).until_data())
            for _ in range(0, size - MIB, MIB):
                hoarder.send(b"x" * MIB)
        kept = served.listener._terms.storage
        assert _eventually(
            lambda: sum(Path(f"/proc/self/fd/{f.fileno()}").stat().st_size for f in disk.files) > 5 * size
        )
        assert resident() - memory < 60 * MIB, "of 300 MiB"
        for address in ("127.0.0.2", TRUSTED):
            assert is_taken(served, address)
            with From(address, served.port).until_data() as large:
                assert large.say(b"y" * (size - 1000) + b"\r\n.").startswith("250 ")
        assert len(served.store.mails[-1].raw) == size - 998
        leaving.close()
        assert _eventually(lambda: kept.disk.free == ON_DISK * size and disk.open_files == 0)


def resident() -> int:
    """Octets of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# -- the budget by itself


class Moved:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_the_slowest_mail_of_whoever_holds_most_is_given_up_and_told() -> None:
    clock, gone = Moved(), list[str]()
    budget = OctetBudget(16 * MIB, clock=clock)
    shares: dict[str, BudgetShare] = {}
    for name, peer in (("slow", "a"), ("quick", "a"), ("other", "b")):
        share = shares[name] = budget.share(peer)
        share.evicted = lambda name=name: gone.append(name)  # type: ignore[misc]
    assert shares["slow"].grow(3 * MIB)
    clock.at = 5
    assert shares["quick"].grow(4 * MIB)
    assert shares["other"].grow(5 * MIB)
    clock.at = 20
    assert budget.share("c").grow(2 * MIB)
    assert gone == ["slow"]
    assert (shares["slow"].held, shares["quick"].held) == (0, 4 * MIB)


def test_large_mails_of_an_address_keep_none_of_its_small_ones_waiting() -> None:
    """As of a mail server of ours, behind which everybody's mail comes from one address."""
    budget = OctetBudget(32 * MIB)
    assert budget.share("mx").grow(8 * MIB)
    assert budget.share("mx").grow(8 * MIB)
    assert not budget.share("mx").grow(2 * MIB)
    assert all(budget.share("mx").grow(SMALL) for _ in range(4))
    assert not budget.share("mx").grow(SMALL), "and others' small ones have room"
    assert budget.share("b").grow(SMALL)


def test_a_mail_that_is_there_whole_is_not_given_up() -> None:
    clock = Moved()
    budget = OctetBudget(16 * MIB, clock=clock)
    share = budget.share("a")
    assert share.grow(8 * MIB)
    share.is_coming = False
    clock.at = 60
    assert budget.share("b").grow(4 * MIB)
    assert not budget.share("c").grow(4 * MIB)
    assert share.held == 8 * MIB


def test_the_last_quarter_is_for_small_mails() -> None:
    budget = OctetBudget(16 * MIB)
    first, second = budget.share("a"), budget.share("b")
    assert first.grow(8 * MIB)
    assert second.grow(4 * MIB)
    assert not budget.share("c").grow(2 * MIB), "a large one waits for nobody to be slow"
    assert all(budget.share(f"d{n}").grow(SMALL) for n in range(4))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 6 * MIB), st.booleans()), max_size=40)
)
def test_no_more_is_held_than_there_is_and_all_of_it_comes_back(acts: list[tuple[str, int, int, bool]]) -> None:
    clock = Moved()
    budget = OctetBudget(16 * MIB, clock=clock)
    shares = {(peer, number): budget.share(peer) for peer in "abc" for number in range(6)}
    for peer, number, octets, leaves in acts:
        clock.at += 3
        share = shares[peer, number]
        if leaves:
            share.release()
        else:
            share.grow(octets)
        held = sum(each.held for each in shares.values())
        assert budget.free == 16 * MIB - held
        assert budget.free >= 0
    for share in shares.values():
        share.release()
    assert budget.free == 16 * MIB


# -- the connections by themselves


class Client:
    def __init__(self, peer: str, idle_since: float | None) -> None:
        self.peer, self.idle_since, self.told = peer, idle_since, list[Reply]()

    def leave(self, farewell: Reply) -> None:
        self.told.append(farewell)


def test_for_a_newcomer_somebody_of_the_busiest_address_leaves() -> None:
    sessions: Connections[Client] = Connections(4, 3)
    crowded = [Client("a", 5.0), Client("a", 4.0), Client("a", 6.0)]
    alone = Client("b", 1.0)
    assert all(map(sessions.admit, [*crowded, alone]))
    assert sessions.admit(Client("c", None))
    assert [len(each.told) for each in (*crowded, alone)] == [0, 1, 0, 0]


def test_a_mail_server_of_ours_has_as_many_connections_as_it_wants_and_some_that_nobody_else_takes() -> None:
    sessions: Connections[Client] = Connections(16, 4, "mx".__eq__)
    strangers = [Client(peer, None) for peer in "abcd" * 4]
    assert [sessions.admit(each) for each in strangers].count(True) == 14
    ours = [Client("mx", None) for _ in range(3)]
    assert [sessions.admit(each) for each in ours] == [True, True, False]
    for each in strangers:
        each.idle_since = 1.0
    assert all(sessions.admit(Client("mx", None)) for _ in range(14)), "whoever is idle makes room for them"
    assert not sessions.admit(Client("mx", None))
    assert not any(each.told for each in ours)


def test_idle_connections_of_a_mail_server_of_ours_keep_no_stranger_out() -> None:
    sessions: Connections[Client] = Connections(8, 2, "mx".__eq__)
    ours = [Client("mx", float(number)) for number in range(8)]
    assert all(map(sessions.admit, ours))
    assert sessions.admit(Client("a", None))
    assert [len(each.told) for each in ours] == [1] + [0] * 7


@pytest.mark.parametrize("strangers", [1, 4])
def test_strangers_in_the_midst_of_mails_leave_room_for_a_mail_server_of_ours(strangers: int) -> None:
    with serving(max_connections=16, is_trusted=TRUSTED.__eq__) as served, contextlib.ExitStack() as leaving:
        for number in range(20):
            client = leaving.enter_context(From(f"127.0.0.{11 + number % strangers}", served.port))
            if client.reply().startswith("220"):
                for line in (b"EHLO c", b"MAIL FROM:<bo@example.net>"):
                    client.say(line)
        ours = [leaving.enter_context(From(TRUSTED, served.port)) for _ in range(2)]
        for client in ours:
            assert client.until_data().say(MAIL + b".").startswith("250 ")
        if strangers == 1:
            assert is_taken(served)
            more = [leaving.enter_context(From(TRUSTED, served.port)) for _ in range(6)]
            assert {each.reply()[:3] for each in more} == {"220"}, "more than the quarter of an address"


def test_the_daemon_takes_its_mail_servers_from_the_configuration(tmp_path: Path) -> None:
    with world(tmp_path) as town, contextlib.ExitStack() as leaving:
        town.config["smtp"]["trusted_relays"] = [f"{TRUSTED}/32"]
        town.start()
        for _ in range(connections.allowed() // 4 + 1):
            client = leaving.enter_context(From(TRUSTED, town.smtp_address[1]))
            assert client.reply().startswith("220")
            assert client.say(b"EHLO c")[:3] == client.say(b"MAIL FROM:<bo@example.net>")[:3] == "250"
        assert town.panic()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.floats(0, 100))), max_size=60))
def test_those_who_stay_are_never_more_than_allowed(comers: list[tuple[str, float | None]]) -> None:
    sessions: Connections[Client] = Connections(8, 3)
    clients = [Client(peer, idle) for peer, idle in comers]
    for client in clients:
        if not sessions.admit(client):
            sessions.discard(client)
        staying = [each for each in sessions if not each.told]
        assert len(staying) <= 8
        assert all(sum(each.peer == peer for each in staying) <= 3 for peer in "abcd")
    assert all(each.idle_since is not None for each in clients if each.told), "nobody in the midst of a mail"


def test_some_descriptors_are_left_for_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((256, 64), (1024, 448), (100, 16), (10**6, 1000), (resource.RLIM_INFINITY, 1000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _which, soft=soft: (soft, soft))
        assert connections.allowed() == most
