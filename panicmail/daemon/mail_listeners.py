"""Where mail is taken, out of the configuration and of what systemd has opened; and the certificates shown there."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from panicmail.config import Config
from panicmail.config.schema import ListenerSettings
from panicmail.config.values import Listen, SocketAddress, SystemdSocket, UnixSocket
from panicmail.errors import Mistake
from panicmail.server.smtp.listeners import Endpoint, shown
from panicmail.server.smtp.server_certificate import ServerCertificate

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
