"""The parts of a daemon, built here from the configuration and the database; started and stopped in `serve`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from panicmail import config as configuration
from panicmail.check.daily_check import DailyCheck
from panicmail.config import Config
from panicmail.config.schema import GitLabSettings, ListenerSettings, Section
from panicmail.config.values import Listen, SocketAddress, SystemdSocket, UnixSocket
from panicmail.daemon.calendar_refresh import CalendarRefresh, ScheduleFaults
from panicmail.daemon.periodic import PeriodicJobs
from panicmail.daemon.watchdog import Health
from panicmail.daemon.worker_threads import WorkerThread, WorkSignal
from panicmail.delivery import EmailWorker, GitLabWorker, OutboxWorker, PushWorker, push_router
from panicmail.delivery.apprise import AppriseClient
from panicmail.delivery.fallback import FallbackPager, FallbackWatcher
from panicmail.delivery.heartbeat import Heartbeat
from panicmail.delivery.pagerduty import PagerDutyClient
from panicmail.delivery.push_router import PushRouter
from panicmail.delivery.relay_route import PATIENCE, RelayRoute
from panicmail.delivery.smtp_client import RelayClient, relay_client, signing
from panicmail.errors import ConfigError, Mistake
from panicmail.escalation.reconciler import Reconciler
from panicmail.escalation.restore_guard import ClockGuard, RestoreGuard
from panicmail.escalation.retention import Retention, RetentionLimits
from panicmail.escalation.tick import EscalationTick, ShiftHandover
from panicmail.gitlab.client import GitLabProject
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
from panicmail.mail import encryption
from panicmail.mail.parse.parser_staff import MOST
from panicmail.mail.parse.pool import ParserPool
from panicmail.oncall import runtime_settings
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.daily_list import DailyList
from panicmail.response.gitlab_activity import ActivityPoll
from panicmail.response.incident_links import IncidentLinks
from panicmail.response.webhooks import LANE, WebhookReceiver, WebhookSecrets, secrets_of
from panicmail.server.http.app import create_app
from panicmail.server.http.backend import LinkBackend
from panicmail.server.http.http_server import WebServer
from panicmail.server.smtp.inbound_storage import InboundStorage
from panicmail.server.smtp.listeners import Endpoint, ServerCertificate, SmtpListener, shown
from panicmail.store.database import Database
from panicmail.store.leases import Node
from panicmail.store.mails import LANE as SENDERS
from panicmail.store.open_store import SigningKeys, signing_keys
from panicmail.store.outbox import LEASE
from panicmail.store.rows import AcceptedMail
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
        return relay_client(self.config.relay, self.config.smtp.hostname, sign=self._sign)

    def page_relay(self, failed_over: Callable[[str, str], None] = lambda name, why: None) -> RelayRoute | RelayClient:
        """What pages go by, for one thread: the relay, and those that stand in for it.

        Args:
            failed_over: As of `RelayRoute`.
        """
        relay, hostname = self.config.relay, self.config.smtp.hostname
        urls = (relay.url, *relay.fallback)
        if len(urls) == 1:
            return self.relay()
        # Together they have no longer than one alone: a thread that takes longer is taken for hanging.
        timeout = (_ONE_RELAY - PATIENCE * (len(urls) - 1)) / 3
        return RelayRoute(
            [(str(url), relay_client(relay, hostname, timeout, url=url, sign=self._sign)) for url in urls], failed_over
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


# -- Where mail is taken, out of the configuration and of what systemd has opened; and the certificates shown there.

Handed = Sequence[tuple[str, socket.socket]]


class MailListeners:
    """The listeners of a configuration.

    Raises:
        OSError: A certificate cannot be read.
    """

    def __init__(self, config: Config) -> None:
        self._listeners = config.smtp.all_listeners
        self._certificates = [_certificate(listener) for listener in self._listeners]

    def endpoints(self, handed: Handed) -> list[Endpoint]:
        """A place each, several where systemd has several sockets of one name.

        Args:
            handed: The sockets that systemd has opened, with their names.

        Raises:
            Mistake: One that the configuration names is not there, or one that is there nobody names: clients would
                connect to it and wait for ever.
        """
        unused = dict(enumerate(handed))
        made = []
        for listener, certificate in zip(self._listeners, self._certificates, strict=True):
            found = [number for number, (name, opened) in unused.items() if _is_at(listener.address, name, opened)]
            sockets: list[socket.socket | None] = [unused.pop(number)[1] for number in found]
            if not sockets and isinstance(listener.address, SystemdSocket):
                raise Mistake(_not_there(listener.address, handed))
            made += [_endpoint(listener, certificate, at) for at in sockets or [None]]
        for name, opened in unused.values():
            told = f"systemd hands over {shown(opened)} ({name}), and no listener of the configuration is for it"
            raise Mistake(f'{told}; write listen = ["systemd:{name}"] in [smtp], or stop that socket unit')
        return made

    def take_certificates(self, new: Config) -> None:
        """Show those of another configuration, at the listeners that are in both.

        Raises:
            OSError: One cannot be used; it is shown as it was, and those before it are the new ones.
        """
        given = {listener.address: listener for listener in new.smtp.all_listeners}
        for listener, certificate in zip(self._listeners, self._certificates, strict=True):
            now = given.get(listener.address)
            if certificate is not None and now is not None and now.tls_cert_file and now.tls_key_file:
                certificate.reload(now.tls_cert_file, now.tls_key_file)

    def renew_certificates(self) -> None:
        """Read again what was renewed on the disk."""
        for certificate in self._certificates:
            if certificate is not None:
                certificate.renew()


def _certificate(listener: ListenerSettings) -> ServerCertificate | None:
    if listener.tls == "none" or listener.tls_cert_file is None or listener.tls_key_file is None:
        return None
    return ServerCertificate(listener.tls_cert_file, listener.tls_key_file)


def _endpoint(
    listener: ListenerSettings, certificate: ServerCertificate | None, opened: socket.socket | None
) -> Endpoint:
    return Endpoint(
        at=_place(listener.address) if opened is None else opened,
        tls=certificate.context if certificate else None,
        tls_at_once=listener.tls == "implicit",
        require_tls=listener.require_tls,
        lmtp=listener.protocol == "lmtp",
    )


def _place(at: SocketAddress) -> tuple[str, int] | Path:
    if isinstance(at, UnixSocket):
        return at.path
    assert isinstance(at, Listen)  # noqa: S101 - systemd's are there, or refused
    return at.host, at.port


def _is_at(at: SocketAddress, name: str, opened: socket.socket) -> bool:
    """Whether a socket that systemd has opened is the one of a listener: by its name, or by where it listens."""
    return name == at.name if isinstance(at, SystemdSocket) else str(at) == shown(opened)


def _not_there(at: SystemdSocket, handed: Handed) -> str:
    has = ", ".join(f'"{name}" at {shown(opened)}' for name, opened in handed)
    told = f"it hands over {has}" if has else "it hands over nothing: was panicmail started by systemd, with that unit?"
    return f"smtp: found {at}, expected a socket of that name from systemd; {told}"


# -- What a running daemon goes by: its configuration as it was read last, the calendars, and what follows from both.
#
# Any thread asks `settings()` anew for each thing it does, so a reload or a calendar that was read again is in
# force with the next one. Both replace the settings whole, one after the other.

_log = structlog.get_logger()

#: The sections the daemon's parts are built from once, and which of their keys a reload changes all the same.
_BUILT_ONCE: Mapping[str, tuple[str, ...]] = {
    "smtp": (),
    "database": (),
    "gitlab": ("webhook_token", "webhook_signing_key"),
    "relay": (),
    "paging": ("detail", "pagerduty_webhook_secret"),
    "web": (),
    "authentication": (),
    "watch": ("push",),
    "tokens": ("key_file",),
    "log": (),
}


class LiveConfig:
    """The configuration in force and the settings it gives. `settings` is there once `start` has been called."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.calendars = CalendarRefresh(config)
        self._built_from = config
        self._keys: SigningKeys = ()
        self._replacing = threading.Lock()
        self._settings: RuntimeSettings

    def settings(self) -> RuntimeSettings:
        return self._settings

    def secrets(self) -> WebhookSecrets:
        """What webhooks are verified by."""
        return secrets_of(self.config)

    def retention(self) -> RetentionLimits:
        return RetentionLimits(raw_mails=self.config.retention.raw_mails, incidents=self.config.retention.incidents)

    def start(self, keys: SigningKeys) -> None:
        """Make the first settings. Only calendars that were never read are waited for."""
        self._keys = keys
        self.calendars.refresh(datetime.now(UTC), unread_only=True)
        self._settings = runtime_settings.from_config(self.config, keys, self.calendars.copies)

    def refresh(self) -> None:
        """Ask the calendars whose turn it is; what they answer is in force at once."""
        if self.calendars.refresh(datetime.now(UTC)) is not None:
            with self._replacing:
                self._settings = runtime_settings.from_config(self.config, self._keys, self.calendars.copies)
            _log.info("rosters.in_force")

    def take_keys(self, keys: SigningKeys) -> None:
        """Sign by the first of these keys from now on, and verify by all."""
        if list(keys) == list(self._keys):
            return
        with self._replacing:
            self._keys = keys
            self._settings = runtime_settings.from_config(self.config, keys, self.calendars.copies)
        _log.info("keys.in_force", signs=keys[0][0], verify=[kid for kid, _secret in keys])

    def reload(self, take: Callable[[Config], None]) -> bool:
        """Read the configuration again. A wrong one is told and changes nothing; False then.

        Args:
            take: Takes what else is to be read again, such as certificates; an OSError or ValueError refuses the
                configuration.
        """
        try:
            new = configuration.load(self.config.path)
            push_router.expect_usable(new)
            encryption.expect_usable(new)
            take(new)
        except ConfigError as exc:
            return _refused(list(exc.mistakes))
        except (OSError, ValueError) as exc:
            return _refused([str(exc)])
        with self._replacing:
            self._settings = runtime_settings.from_config(new, self._keys, self.calendars.take(new))
            self.config = new
        _log.info("config.reloaded", restart_needed=_needs_restart(self._built_from, new))
        return True


def _refused(mistakes: list[object]) -> bool:
    _log.error("config.refused", mistakes=mistakes, text="the running configuration is kept")
    return False


def _needs_restart(old: Config, new: Config) -> list[str]:
    """The sections in which something changed that a reload cannot change in a running daemon."""
    return [name for name in _BUILT_ONCE if _lasting(old, name) != _lasting(new, name)]


def _lasting(config: Config, name: str) -> Section:
    section: Section = getattr(config, name)
    return section.model_copy(update=dict.fromkeys(_BUILT_ONCE[name]))
