"""The parts of a daemon, built here from the configuration and the database; started and stopped in `serve`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from panicmail.check.daily_check import DailyCheck
from panicmail.config import Config
from panicmail.config.schema import GitLabSettings
from panicmail.daemon.calendar_refresh import ScheduleFaults
from panicmail.daemon.health import Health
from panicmail.daemon.live_config import LiveConfig
from panicmail.daemon.mail_listeners import MailListeners
from panicmail.daemon.periodic import PeriodicJobs
from panicmail.daemon.worker_threads import WorkerThread, WorkSignal
from panicmail.delivery import EmailWorker, GitLabWorker, OutboxWorker, PushWorker
from panicmail.delivery.apprise import AppriseClient
from panicmail.delivery.fallback import FallbackPager, FallbackWatcher
from panicmail.delivery.heartbeat import Heartbeat
from panicmail.delivery.pagerduty import PagerDutyClient
from panicmail.delivery.push_router import PushRouter
from panicmail.delivery.relay_route import PATIENCE, RelayRoute
from panicmail.delivery.smtp_client import RelayClient, relay_client, signing
from panicmail.escalation.clock_guard import ClockGuard
from panicmail.escalation.reconciler import Reconciler
from panicmail.escalation.restore_guard import RestoreGuard
from panicmail.escalation.retention import Retention
from panicmail.escalation.shift_handover import ShiftHandover
from panicmail.escalation.tick import EscalationTick
from panicmail.gitlab.gitlab_project import GitLabProject
from panicmail.gitlab.issues import Issues
from panicmail.incident.push_channel import PushChannel
from panicmail.incident.storm_rules import is_relay_of_ours
from panicmail.incident.tasks import PUSH
from panicmail.intake.accept import MailAcceptance
from panicmail.intake.check_senders import WITHIN as SENDER_WITHIN
from panicmail.intake.check_senders import ChecksSenders, SenderCheckWorker
from panicmail.intake.known_facts import answers_page
from panicmail.intake.reread import LANE as AGAIN
from panicmail.intake.reread import WITHIN as AGAIN_WITHIN
from panicmail.intake.reread import Rereading
from panicmail.intake.understand import Intake
from panicmail.mail.parse.parser_staff import MOST
from panicmail.mail.parse.pool import ParserPool
from panicmail.response.daily_list import DailyList
from panicmail.response.gitlab_activity import ActivityPoll
from panicmail.response.incident_links import IncidentLinks
from panicmail.response.webhooks import LANE, WebhookReceiver
from panicmail.server.http.app import create_app
from panicmail.server.http.backend import LinkBackend
from panicmail.server.http.http_server import WebServer
from panicmail.server.smtp.inbound_storage import InboundStorage
from panicmail.server.smtp.listeners import SmtpListener
from panicmail.store.database import Database
from panicmail.store.leases import Node
from panicmail.store.open_store import signing_keys
from panicmail.store.outbox import LEASE
from panicmail.store.rows import AcceptedMail
from panicmail.store.sender_checks import LANE as SENDERS
from panicmail.store.spool import Spool
from panicmail.store.unit_of_work import Store
from panicmail.store.watermark import WatermarkFile
from panicmail.store.writer import WriterThread

#: Threads per lane. Pages have two, so that one hanging connection holds up no other page.
THREADS = {"page": 2, "push": 2, "mail": 1, "gitlab": 4}
#: A thread is held by a slow mail only while a reader is.
INTAKE_THREADS = MOST + 2
#: How long one page may take by all relays, in seconds.
_ONE_RELAY = 28.0
#: How long understanding one mail may take, in seconds: its reading, and two transactions, which are slow when it is
#: large.
INTAKE_WITHIN = 150.0


class DaemonParts:
    """Everything of one daemon, built and not started.

    Args:
        config: What the parts are built from; `live` has what a reload read.
        broken: Called when the writer lost its trust in the database, from its thread.
        is_accepting: Whether mail is accepted now.
    """

    def __init__(
        self, config: Config, database: Database, broken: Callable[[], None], is_accepting: Callable[[], bool]
    ) -> None:
        self.config, self.database = config, database
        self.live = LiveConfig(config)
        self.listeners = MailListeners(config)
        self._sign = signing(config.relay)
        self.bell = WorkSignal()
        self.spool = Spool(config.database.spool)
        self.mark = WatermarkFile(self.spool.folder.with_suffix(".mark"))
        self.node = Node(database, woken=self.bell.ring)
        self.writer = WriterThread(database, broken, self._keep_mark) if database.is_sqlite else None
        self.store = self._build_store()
        self.restoring = RestoreGuard(self.store, self.live.settings, self.mark)
        self.readers = ParserPool()
        self.accounting = Reconciler(self.store, self.live.settings)
        self.health = Health(
            self.store, is_accepting, self._can_write, lambda: len(self.spool.waiting()), lambda: self.accounting.gaps
        )
        self.push, self.pagerduty = AppriseClient(), PagerDutyClient(config.paging.pagerduty_url)
        self.phones = PushRouter(self.push, self.pagerduty, config.smtp.hostname)
        self.emergency = FallbackPager(
            self.spool, self.live.settings, self.readers, self.page_relay, database.clock, ring=self._ring
        )
        self.watchman = FallbackWatcher(self.emergency)
        self.acceptance = MailAcceptance(
            self.store,
            self.spool,
            database.clock,
            self.health,
            self.emergency.refused,
            is_answer=lambda mail: answers_page(self.live.settings(), mail.mail_from, mail.recipients),
        )
        self.jobs = self._build_jobs()
        self.hooks = self._build_hooks()

    def _build_store(self) -> Store:
        return Store(
            self.database,
            writer=self.writer,
            operators=lambda: self.live.config.operators.page,
            channels=lambda person: self.live.settings().channels(person),
            woken=self.bell.ring,
            node=lambda: self.node.name,
            committed=self._keep_mark,
            idle=self.bell.reserve,
        )

    def _build_hooks(self) -> WebhookReceiver:
        signs = ActivityPoll(self.store, self.live.settings, self.issues())
        project, woken = self.config.gitlab.project, self.bell.ring
        return WebhookReceiver(self.store, self.live.settings, signs, self.live.secrets, project, woken=woken)

    def _build_jobs(self) -> PeriodicJobs:
        watched = self.store.watched_by(self.emergency.asking)
        return PeriodicJobs(
            store=watched,
            acceptance=self.acceptance,
            timekeeper=ClockGuard(watched, self.database.clock, self.mark),
            escalation=EscalationTick(watched, self.live.settings),
            signs=ActivityPoll(self.store, self.live.settings, self.issues()),
            accounting=self.accounting,
            restoring=self.restoring,
            emergency=self.emergency,
            health=self.health,
            heartbeat=Heartbeat(self.config.watch.pinged, "tick"),
            handover=ShiftHandover(self.store, self.live.settings),
            daily_list=DailyList(self.store, self.live.settings),
            roster_faults=ScheduleFaults(self.store, self.live.settings, self.live.calendars),
            daily=DailyCheck(self.store, self.live.settings, lambda: self.live.config),
            ring=self.bell.ring,
            erase_due=Retention(self.store, self.live.retention).run,
            take_keys=lambda: self.live.take_keys(signing_keys(self.live.config, self.store)),
        )

    def build_listener(self, handed: Sequence[tuple[str, socket.socket]] = ()) -> SmtpListener:
        """
        Args:
            handed: The sockets that systemd has opened, with their names.

        Raises:
            Mistake: They are not those of the configuration.
        """
        smtp = self.config.smtp
        return SmtpListener(
            listen=self.listeners.endpoints(handed),
            hostname=smtp.hostname,
            known=lambda recipient: self.live.settings().addresses.is_ours(recipient),
            accept=self.acceptance.receive,
            max_message_size=smtp.max_message_size,
            tls=None,
            storage=InboundStorage(
                self.spool, smtp.max_message_size, has_relays=bool(smtp.trusted_relays), tell=self._large_mail_refused
            ),
            is_trusted=partial(is_relay_of_ours, relays=smtp.trusted_relays) if smtp.trusted_relays else None,
        )

    def _large_mail_refused(self, reason: str) -> None:
        facts = {"reason": reason}
        self.store.submit("tick.alarm", lambda tx: tx.queue.tell_operators("large_mails_refused", facts))

    def build_web(self) -> WebServer:
        listen = self.config.web.listen
        backend = LinkBackend(IncidentLinks(self.store, self.live.settings), self.health)
        return WebServer(create_app(backend, self.hooks), (listen.host, listen.port))

    def build_workers(self) -> list[WorkerThread]:
        """The threads that understand mails, carry out the outbox and look at what webhooks speak of."""
        intake = Intake(self.store, self.live.settings, self.readers)
        intake.claimed = partial(self.bell.ring, ["mails"])
        workers = [
            WorkerThread(f"intake-{n}", "mails", self.bell, intake.work, INTAKE_WITHIN, intake.take)
            for n in range(INTAKE_THREADS)
        ]
        # They are there whatever the method is: a reload may change it, and answers wait for them then.
        checking = SenderCheckWorker(self.store, self.live.settings, self._sender_checker)
        workers += [WorkerThread(f"sender-{n}", SENDERS, self.bell, checking.work, SENDER_WITHIN) for n in range(2)]
        rereading = Rereading(self.store, self.live.settings, self.readers, intake)
        workers += [
            WorkerThread("again-answers", AGAIN, self.bell, rereading.answers, AGAIN_WITHIN),
            WorkerThread("again-reports", AGAIN, self.bell, rereading.amendments, AGAIN_WITHIN),
        ]
        for name, count in THREADS.items():
            # Files go up one after another, each in its own time; what hangs elsewhere shows sooner.
            within = LEASE[name].total_seconds() * (4 if name == "gitlab" else 0.5)
            for number in range(count):
                each = self._worker(name)
                workers.append(WorkerThread(f"{name}-{number}", name, self.bell, each.work, within, each.take))
        workers.append(WorkerThread(LANE, LANE, self.bell, self.hooks.work, LEASE["gitlab"].total_seconds() / 2))
        return workers

    def _sender_checker(self) -> ChecksSenders:
        # Imported here: who does not check senders needs none of its libraries.
        from panicmail.mail.authenticate.sender_check import SenderChecker

        given = self.config.authentication
        nameservers = [(server.host, server.port) for server in given.nameservers]
        domains = self.live.settings().own_domains
        return SenderChecker(nameservers, self.spool.folder.with_suffix(".keys"), domains, given.arc_sealers)

    def issues(self) -> Issues:
        """GitLab, for one thread."""
        return _issues(self.config.gitlab)

    def _worker(self, name: str) -> OutboxWorker:
        worker = self._new_worker(name)
        worker.claimed = partial(self.bell.ring, [name])
        return worker

    def _new_worker(self, name: str) -> OutboxWorker:
        if name == "gitlab":
            return GitLabWorker(self.store, self.live.settings, self.issues(), self.readers.parts)
        if name == PUSH:
            return PushWorker(self.store, self.live.settings, self.push, self.pagerduty)
        relay = self.page_relay(self._tell_failed_over) if name == "page" else self.relay()
        return EmailWorker(name, self.store, self.live.settings, relay)

    def _ring(self, channel: PushChannel, text: str, about: str) -> str:
        """Reach a phone without the database."""
        return self.phones.ring(channel.url, text, about)

    def relay(self) -> RelayClient:
        """A connection to the relay, for one thread."""
        return relay_client(self.config.relay.url, self.config.smtp.hostname, sign=self._sign)

    def page_relay(self, failed_over: Callable[[str, str], None] = lambda name, why: None) -> RelayRoute | RelayClient:
        """What pages go by, for one thread: the relay, and those that stand in for it.

        Args:
            failed_over: As of `RelayRoute`.
        """
        urls, hostname = (self.config.relay.url, *self.config.relay.fallback), self.config.smtp.hostname
        if len(urls) == 1:
            return self.relay()
        # Together they have no longer than one alone: a thread that takes longer is taken for hanging.
        timeout = (_ONE_RELAY - PATIENCE * (len(urls) - 1)) / 3
        return RelayRoute(
            [(str(url), relay_client(url, hostname, timeout, sign=self._sign)) for url in urls], failed_over
        )

    def _tell_failed_over(self, relay: str, reason: str) -> None:
        facts = {"relay": relay, "answer": reason}
        self.store.write("outbox.put_off", lambda tx: tx.queue.tell_operators("relay_failed_over", facts))

    def _keep_mark(self, results: Sequence[Any]) -> None:
        """Keep how far the database has come, of what a COMMIT brought, before anybody hears of it."""
        self.restoring.accepted([result for result in results if isinstance(result, AcceptedMail)])

    def _can_write(self) -> bool:
        return self.writer is None or self.writer.is_alive


def _issues(gitlab: GitLabSettings) -> Issues:
    project = GitLabProject(gitlab.url, gitlab.project, gitlab.token.get_secret_value())
    return Issues(project, gitlab.labels, gitlab.severity_label)
