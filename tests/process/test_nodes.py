"""Several nodes on one PostgreSQL: real daemons, killed, frozen, stopped, and the database restarted under them.

Nothing is lost, and nothing is done twice but at most one more copy of a page, with the same Message-ID.
"""

from __future__ import annotations

import contextlib
import copy
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from panicmail.incident import ids
from panicmail.sandbox.relay_server import Received
from panicmail.store import leases, migrate
from panicmail.store.database import Database
from panicmail.store.leases import Node
from panicmail.store.unit_of_work import Store
from tests.office import Office, mail
from tests.program import SOON, World, world
from tests.servers import How, ask, server, standby_of, until
from tests.store_rows import accept

pytestmark = pytest.mark.postgres

#: A policy whose second step, the SMOC's, comes soon; with an SLA that gives a page two seconds to be delivered.
SHORT = (("0s", "seoc"), ("2s", "smoc", "seoc"))
#: What a node says whose database is away.
AWAY = ("mail.spooled", "tick.failed", "worker.failed", "dispatch.failed", "signs.failed", "escalation.failed",
        "intake.again")  # fmt: skip


class Cluster:
    """Nodes on one database, each with a folder of its own; GitLab and relay are the first one's."""

    def __init__(self, first: World, url: str) -> None:
        self.nodes, self.url = [first], url

    def add(self) -> World:
        """One more node, not started."""
        first = self.nodes[0]
        folder = first.folder.with_name(f"node{len(self.nodes)}")
        folder.mkdir()
        for name in ("gitlab.token",):
            (folder / name).write_bytes((first.folder / name).read_bytes())
            (folder / name).chmod(0o600)
        config = copy.deepcopy(first.config)
        self.nodes.append(replace(first, folder=folder, config=config, programs=[], environ={}))
        return self.nodes[-1]

    def start(self) -> None:
        """All of them at once, until all are ready."""
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            node.program.wait_for("ready", 30)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return ask(self.url, statement, *values)

    def holder(self, do: str = "page") -> World:
        """The node that has claimed a row of that kind."""
        held = """SELECT split_part(lease_by, '/', 1) FROM outbox WHERE "do" = %s AND lease_by IS NOT NULL"""
        until(lambda: self.rows(held, do), f"nobody holds a {do}")
        ((number,),) = self.rows(held, do)
        return next(
            node
            for node in self.nodes
            if any(facts["event"] == "node.joined" and str(facts["node"]) == number for _, facts in node.program.events)
        )

    def other(self, node: World) -> World:
        return next(other for other in self.nodes if other is not node)

    def settled(self, *lanes: str) -> None:
        """Every mail is understood and everything it asked for in these lanes, or all, carried out.

        After a create of unknown outcome GitLab is given ten seconds; and twins are looked for much later.
        """
        left = """SELECT id FROM mails WHERE state = 'accepted'
                  UNION ALL SELECT key FROM outbox
                  WHERE state IN ('queued', 'trying') AND "do" != 'twins' AND lane = ANY(%s)"""
        wanted = list(lanes or ("page", "mail", "gitlab"))
        until(
            lambda: not self.rows(left, wanted),
            lambda: f"not everything was carried out: {self.rows(left, wanted)}",
        )


@contextlib.contextmanager
def cluster_at(folder: Path, url: str, count: int = 2, **about: Any) -> Iterator[Cluster]:
    """Nodes with nothing running on them yet; `about` as for `world`."""
    first = folder / "node0"
    first.mkdir()
    with world(first, database=url, **about) as town:
        made = Cluster(town, url)
        for _ in range(count - 1):
            made.add()
        try:
            yield made
        finally:
            for node in made.nodes:
                node.close()
        for node in made.nodes:
            node.judge()


def told(town: World, person: str, ref: str) -> Received:
    """The news about an incident, which is no page."""
    return town.received(person, lambda got: got.subject.startswith(f"[{ref}]"))


def copies(town: World) -> Counter[str]:
    """How often each page came, by its Message-ID."""
    return Counter(page.header("Message-ID") for page in town.relay.mails if page.subject.startswith("[PANIC"))


def late(page: Received, cluster: Cluster, ref: str, after: float) -> float:
    """How long after its time a page came, in seconds: `after` the acceptance by the database's clock."""
    ((accepted_at,),) = cluster.rows("SELECT accepted_at FROM incidents WHERE ref = %s", ref)
    return float((page.at - accepted_at - timedelta(seconds=after)).total_seconds())


# -- a node that dies


def test_the_smoc_is_paged_in_time_and_once_when_one_of_three_nodes_is_killed(
    tmp_path: Path, postgres_url: str
) -> None:
    """The others both tick at the deadline, also for what the dead one had accepted."""
    with cluster_at(tmp_path, postgres_url, 3, steps=SHORT, sla="10s") as home:
        home.start()
        refs = [node.panic(f"At node {number}") for number, node in enumerate(home.nodes) for _ in range(2)]
        killed, other, _ = home.nodes
        for ref in refs:
            other.page("ana", ref)
        home.settled("page")
        killed.program.kill()
        seconds = max(late(other.page("max", ref), home, ref, 2) for ref in refs)
        print(f"the SMOC was paged at most {seconds:.2f} s late")
        assert 0 <= seconds < 2
        home.settled("page")
        assert {(len(other.pages("ana", ref)), len(other.pages("max", ref))) for ref in refs} == {(2, 1)}
        events = home.rows("SELECT ref, event FROM timeline JOIN incidents ON incidents.id = incident_id")
        assert Counter(ref for ref, event in events if event == "people.paged") == dict.fromkeys(refs, 2)


def test_a_page_claimed_by_a_node_that_died_is_sent_by_another_at_once_not_after_its_lease(
    tmp_path: Path, postgres_url: str
) -> None:
    with cluster_at(tmp_path, postgres_url) as home:
        taker, other = home.nodes
        taker.environ["PANICMAIL_CRASH_AT"] = "page.sending"
        home.start()
        other.program.signal(signal.SIGSTOP)  # so that the page is the first one's
        ref = taker.panic()
        assert taker.program.ended() == 137
        other.program.signal(signal.SIGCONT)
        died_at = time.monotonic()
        page = other.page("ana", ref)
        print(f"the page came {page.received_at - died_at:.2f} s after its node had died")
        assert page.received_at - died_at < 30
        home.settled("page")
        assert len(other.pages("ana", ref)) == 1


@pytest.mark.long
def test_a_page_of_a_node_that_stands_still_is_sent_by_another_and_once_more_at_most(
    tmp_path: Path, postgres_url: str
) -> None:
    """The worst case: the relay has the page, and the node that sent it never heard."""
    with cluster_at(tmp_path, postgres_url, expects=AWAY) as home:
        home.nodes[0].relay.rule("ana@", "hang", times=1)
        home.start()
        ref = home.nodes[0].panic()
        home.nodes[0].page("ana", ref)
        frozen = home.holder()
        other = home.other(frozen)
        frozen.program.signal(signal.SIGSTOP)
        stood_at = time.monotonic()
        page = other.page("ana", ref, count=2)
        print(f"the page came again {page.received_at - stood_at:.2f} s after its node had stood still")
        assert page.received_at - stood_at < 10, "its session ends after five seconds"
        frozen.relay.clear_rules()
        frozen.program.signal(signal.SIGCONT)
        frozen.program.wait_for("node.joined", count=2)
        home.settled("page")
        assert set(copies(other).values()) == {2}, "under one Message-ID"
        frozen.page("ana", frozen.panic("And it goes on as before"))


def test_what_a_node_holds_is_free_when_it_is_stopped(tmp_path: Path, postgres_url: str) -> None:
    with cluster_at(tmp_path, postgres_url) as home:
        home.nodes[0].relay.rule("ana@", "hang", times=1)
        home.start()
        ref = home.nodes[0].panic()
        home.nodes[0].page("ana", ref)
        stopped = home.holder()
        assert stopped.stop() == 0
        stopped_at = time.monotonic()
        page = home.other(stopped).page("ana", ref, count=2)
        print(f"the page came again {page.received_at - stopped_at:.2f} s after its node had ended")
        assert page.received_at - stopped_at < 30


# -- nodes at the same work


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[Cluster]:
    """Two nodes that go on, known by different names."""
    ask(postgres_server, "CREATE DATABASE pm_pair TEMPLATE template0")
    url = re.sub(r"/postgres(?=\?|\Z)", "/pm_pair", postgres_server)
    with cluster_at(tmp_path_factory.mktemp("pair"), url, steps=(("0s", "seoc", "smoc"), ("10m", "smoc"))) as home:
        home.nodes[1].config["smtp"]["hostname"] = "other.example.com"
        home.start()
        yield home
    ask(postgres_server, "DROP DATABASE pm_pair WITH (FORCE)")


def test_forty_mails_through_both_nodes_at_once_are_forty_incidents_pages_and_issues(pair: Cluster) -> None:
    def panic(number: int) -> str:
        return pair.nodes[number % 2].panic(f"Panic {number}")

    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(panic, range(40)))
    assert len(set(refs)) == 40
    pair.settled()
    town = pair.nodes[0]
    found = Counter((len(town.pages("ana", ref)), len(town.pages("max", ref)), len(town.issues(ref))) for ref in refs)
    assert found == {(1, 1, 1): 40}
    attempts = pair.rows("""SELECT DISTINCT attempt FROM outbox JOIN incidents ON incidents.id = incident_id
                            WHERE "do" IN ('page', 'issue') AND subject LIKE 'Panic %'""")
    assert attempts == [(1,)], "nobody took what another one had"


def test_the_same_mail_sent_to_both_nodes_at_once_is_one_incident(pair: Cluster) -> None:
    for number in range(3):
        raw = mail("help, help", subject=f"Sent twice {number}")
        together = threading.Barrier(2)

        def send(node: World, raw: bytes = raw, together: threading.Barrier = together) -> int:
            together.wait(SOON)
            return node.send(raw).code

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(send, pair.nodes)) == [250, 250]
    pair.settled()
    opened = pair.rows("SELECT subject, count(*) FROM incidents WHERE subject LIKE 'Sent twice %' GROUP BY subject")
    assert sorted(opened) == [(f"Sent twice {number}", 1) for number in range(3)]


def test_a_reply_to_one_node_acknowledges_what_another_one_accepted(pair: Cluster) -> None:
    taker, other = pair.nodes
    for first, second in ((taker, other), (other, taker)):
        ref = first.panic("Ransom note")
        assert second.reply(first.page("ana", ref), "on it").code == 250
        assert "Ana Reyes has it" in told(first, "max", ref).text
    assert len(pair.rows("SELECT kid FROM keys")) == 1, "nodes that start together agree on one key"


def test_of_two_acknowledgements_that_race_at_two_nodes_one_has_it(pair: Cluster) -> None:
    for number in range(4):
        ref = pair.nodes[0].panic(f"Race {number}")
        replies = [(node, node.page(person, ref)) for node, person in zip(pair.nodes, ("ana", "max"), strict=True)]
        together = threading.Barrier(2)

        def acknowledge(reply: tuple[World, Received], together: threading.Barrier = together) -> int:
            node, page = reply
            together.wait(SOON)
            return node.reply(page, "ack").code

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(acknowledge, replies)) == [250, 250]
        pair.settled()
        events = pair.rows(
            "SELECT event, actor FROM timeline JOIN incidents ON incidents.id = incident_id WHERE ref = %s", ref
        )
        ((state, holder),) = pair.rows("SELECT state, holder FROM incidents WHERE ref = %s", ref)
        assert state == "acked"
        assert [actor for event, actor in events if event == "incident.acked"] == [holder]


# -- the database


def test_nodes_go_on_when_their_database_is_stopped_and_started_again(tmp_path: Path) -> None:
    with server() as primary, cluster_at(tmp_path, primary.url, steps=SHORT, sla="10s", expects=AWAY) as home:
        home.start()
        one, other = home.nodes
        hows: Sequence[How] = ("fast", "immediate")
        for how in hows:
            before = one.panic(f"Before it was stopped, {how}")
            one.page("ana", before)
            home.settled()
            primary.stop(how)
            primary.start()
            started_at = time.monotonic()
            page = one.page("max", before)
            print(f"{how}: the SMOC was paged {page.received_at - started_at:.2f} s after the database was back")
            after = other.panic(f"After it was started again, {how}")
            other.page("ana", after)
            assert one.reply(page, "on it").code == 250
            assert "Max Ode has it" in told(one, "ana", before).text
        home.settled()
        assert max(copies(one).values()) <= 2
        for node in home.nodes:
            assert node.stop() == 0


@pytest.mark.long
def test_nothing_answered_250_is_lost_when_a_synchronous_standby_takes_over(tmp_path: Path) -> None:
    """Both servers are in the URL, and a node finds the one that takes writes."""
    with server() as primary, standby_of(primary, "b") as standby:
        primary.set("synchronous_standby_names", "b")
        url = f"postgresql://postgres@/postgres?host={primary.folder}&host={standby.folder}"
        with cluster_at(tmp_path, url, steps=SHORT, sla="10s", expects=AWAY) as home:
            home.url = primary.url
            home.start()
            refs = [node.panic(f"Before the failover {n}") for n in range(3) for node in home.nodes]
            primary.stop("immediate")
            standby.promote()
            promoted_at = time.monotonic()
            home.url = standby.url
            assert {ids.ref(mail_id) for (mail_id,) in home.rows("SELECT id FROM mails")} == set(refs)
            pages = [home.nodes[0].page("max", ref) for ref in refs]
            seconds = max(page.received_at for page in pages) - promoted_at
            print(f"the SMOC had all pages {seconds:.2f} s after the standby had taken over")
            home.nodes[0].page("ana", home.nodes[1].panic("After the failover"))
            home.settled("page")
            assert max(copies(home.nodes[0]).values()) <= 2


# -- within one process


@pytest.fixture
def shared(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    database = Database(postgres_url)
    migrate.upgrade(database)
    with contextlib.closing(database):
        yield database


@contextlib.contextmanager
def living(database: Database, woken: set[str] | None = None) -> Iterator[tuple[Node, Store]]:
    """A node and the store it claims with."""
    node = Node(database, woken=(woken if woken is not None else set[str]()).update)
    node.start()
    with contextlib.closing(Store(database, node=lambda: node.name)) as store:
        try:
            yield node, store
        finally:
            node.stop()


def claim(store: Store) -> list[str]:
    return [m.id for m in store.write("mails.claim", lambda tx: tx.mails.claim(5, timedelta(minutes=1)))]


def test_what_a_living_node_holds_is_not_for_others(shared: Database) -> None:
    with living(shared) as (node, store), living(shared) as (_, other):
        mine = accept(store).id
        assert claim(store) == [mine]
        with shared.session() as session:
            assert leases.free_claims_of_the_dead(session) == set()
            assert int(node.name or 0) in leases.living(session)
        assert claim(other) == []


def test_what_a_node_without_a_session_holds_is_for_whoever_comes_first(shared: Database) -> None:
    woken: set[str] = set()
    with contextlib.closing(Store(shared, node=lambda: "1")) as dead, living(shared, woken) as (_, store):
        mine = accept(dead).id
        assert claim(dead) == [mine]
        until(lambda: claim(store) == [mine], "it was not freed")
    assert woken == {"mails"}


def test_a_node_that_lost_its_session_is_back_with_the_next_beat(shared: Database, postgres_url: str) -> None:
    holder = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"
    with living(shared) as (node, _):
        number = int(node.name or 0)
        ((pid,),) = ask(postgres_url, holder, number)
        ask(postgres_url, "SELECT pg_terminate_backend(%s, 5000)", pid)
        until(lambda: ask(postgres_url, holder, number), "nobody has its number")
        assert ask(postgres_url, holder, number) != [(pid,)]


def test_a_node_frees_what_it_holds_as_its_last_act(shared: Database) -> None:
    with living(shared) as (node, store), contextlib.closing(Store(shared, node=lambda: "1")) as other:
        mine = accept(store).id
        assert claim(store) == [mine]
        assert claim(other) == []
        node.stop()
        assert claim(other) == [mine]


def test_a_lock_that_is_gone_is_noticed(shared: Database) -> None:
    """A pooler that hands our connection to another client leaves the lock behind."""
    with living(shared) as (node, _), structlog.testing.capture_logs() as logs:
        session = node._session
        assert session is not None
        session.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        until(lambda: [line for line in logs if line["event"] == "node.joined"], "it did not take it again")
    (lost,) = (line for line in logs if line["event"] == "node.lost")
    assert "pooler" in lost["reason"]


def test_on_sqlite_there_is_one_node_without_a_name(tmp_path: Path) -> None:
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'panicmail.db'}")) as database:
        node = Node(database)
        node.start()
        assert node.name is None
        node.stop()


def test_a_node_that_wakes_when_another_has_taken_over_sends_nothing(desk: Office) -> None:
    desk.accept(mail("help"))
    desk.intake.work()
    (lane,) = (lane for lane in desk.lanes if lane.name == "page")
    lease = timedelta(seconds=60)
    (frozen,) = desk.store.write("page.claim", lambda tx: tx.outbox.claim("page", 1, lease))
    desk.now += lease
    lane._try(frozen)
    assert desk.pages("ana") == [], "its lease is over, so somebody else may be sending this very moment"
    assert lane.work()
    assert len(desk.pages("ana")) == 1
    lane._try(frozen)
    assert len(desk.pages("ana")) == 1


def test_a_node_that_wakes_when_another_has_taken_over_opens_no_issue(desk: Office) -> None:
    desk.accept(mail("help"))
    desk.intake.work()
    (lane,) = (lane for lane in desk.lanes if lane.name == "gitlab")
    lease = timedelta(seconds=240)
    (frozen,) = desk.store.write("gitlab.claim", lambda tx: tx.outbox.claim("gitlab", 1, lease))
    desk.now += lease
    (taken,) = desk.store.write("gitlab.claim", lambda tx: tx.outbox.claim("gitlab", 1, lease))
    lane._try(frozen)
    assert not desk.gitlab.issues
    desk.now += timedelta(seconds=10)
    lane._try(taken)
    assert len(desk.gitlab.issues) == 1
