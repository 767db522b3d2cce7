"""The certificate of a listener: read at the start, and again while connections come and go."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

_log = structlog.get_logger()

#: What Mozilla's "intermediate" says for Postfix: TLS 1.2 with these, and TLS 1.3; the client chooses among them.
_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
)


def tls_context(cert: Path | str, key: Path | str) -> ssl.SSLContext:
    """A server's context with this chain and key (PEM files).

    Raises:
        OSError: The pair cannot be read or does not fit; `ssl.SSLError` is one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # "": a key with a passphrase is an error, not a question on the terminal.
    context.load_cert_chain(cert, key, password="")
    return context


class ServerCertificate:
    """A chain and its key, and the context that shows them.

    Raises:
        OSError: As of `tls_context`.
    """

    def __init__(self, cert: Path | str, key: Path | str) -> None:
        self._files = Path(cert), Path(key)
        self._seen = self._stamp()
        self.context = tls_context(cert, key)

    def reload(self, cert: Path | str, key: Path | str) -> None:
        """Show this one from the next handshake on.

        Raises:
            OSError: As of `tls_context`; the old one stays in use.
        """
        files = Path(cert), Path(key)
        tls_context(cert, key)  # tried on a context of its own first: a pair that fails midway would spoil the live one
        self._files = files
        self._seen = self._stamp()
        self.context.load_cert_chain(cert, key, password="")
        _log.info("smtp.tls_reloaded", certificate=str(cert))

    def renew(self) -> None:
        """Read the files again if they have changed; what cannot be used yet is tried again at the next call."""
        try:
            if self._stamp() != self._seen:
                self.reload(*self._files)
        except OSError as exc:
            _log.warning("smtp.tls_not_reloaded", certificate=str(self._files[0]), reason=str(exc))

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """What tells one state of the files from another."""
        stats = (file.stat() for file in self._files)
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
