"""What a running daemon goes by: its configuration as it was read last, the calendars, and what follows from both.

Any thread asks `settings()` anew for each thing it does, so a reload or a calendar that was read again is in force with
the next one. Both replace the settings whole, one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import structlog

from panicmail import config as configuration
from panicmail.config import Config
from panicmail.config.schema import Section
from panicmail.daemon.calendar_refresh import CalendarRefresh
from panicmail.delivery import push_router
from panicmail.errors import ConfigError
from panicmail.escalation.retention import RetentionLimits
from panicmail.mail import encryption
from panicmail.oncall import runtime_settings
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.webhooks import WebhookSecrets, secrets_of
from panicmail.store.open_store import SigningKeys

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
