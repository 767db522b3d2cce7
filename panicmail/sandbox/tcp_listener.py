"""A TCP port on loopback: a thread for each connection, and a switch to take it down and up again.

Both stand-ins stand on it. While down the port stays ours (bound, not listening), so that a client is refused and
`up` never finds it taken. `close` cuts every connection and ends within a second, whatever a client is doing.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

HOST = "127.0.0.1"

#: How long `close` and `down` wait for one connection's thread; all of them are cut by then.
JOIN_WITHIN_SECONDS = 1.0


class Connection:
    """One client. `sock` is replaced when TLS begins, so that a cut always hits the living one."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._cut = threading.Event()

    def pause(self, seconds: float, until: threading.Event) -> None:
        """Do nothing for `seconds` (0 means without end), or until `until` is set.

        Raises:
            ConnectionAbortedError: the connection was cut meanwhile.
        """
        ends_at = time.monotonic() + seconds if seconds else None
        while not until.is_set():
            if self._cut.wait(0.02):
                raise ConnectionAbortedError("cut while pausing")
            if ends_at is not None and time.monotonic() >= ends_at:
                return

    def reset(self) -> None:
        """Close with a TCP reset, so that the client sees an error and not an end."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()

    def cut(self) -> None:
        """Wake whoever pauses or reads here; the thread of the connection then closes it."""
        self._cut.set()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


class TcpListener:
    """Hands every connection to `answer`, in a thread of its own.

    Args:
        port: 0 takes a free one; `port` tells which.
        answer: Talks to one client and returns. The connection is closed afterwards, and an OSError of a client
            that went away is no news.
    """

    def __init__(self, port: int, answer: Callable[[Connection], None]) -> None:
        self._answer = answer
        self._bound = _bind(port)
        self.port: int = self._bound.getsockname()[1]
        self._lock = threading.Lock()
        self._open: dict[Connection, threading.Thread] = {}
        self._accepting: threading.Thread | None = None

    def up(self) -> None:
        """Listen; a no-op when already listening."""
        if self._accepting is None:
            self._bound.listen(128)
            self._accepting = threading.Thread(target=self._accept, args=(self._bound,), daemon=True)
            self._accepting.start()

    def down(self) -> None:
        """Refuse connections and cut those there are; a no-op when already down."""
        if self._accepting is None:
            return
        self._stop_accepting(self._accepting)
        self._cut_all()
        self._bound = _bind(self.port)

    def close(self) -> None:
        """Give the port back. A second call does nothing."""
        if self._accepting is not None:
            self._stop_accepting(self._accepting)
            self._cut_all()
        self._bound.close()

    def _stop_accepting(self, thread: threading.Thread) -> None:
        self._accepting = None
        with contextlib.suppress(OSError):
            self._bound.shutdown(socket.SHUT_RDWR)  # wakes accept() at once on Linux; elsewhere its time-out does
        thread.join()
        self._bound.close()

    def _cut_all(self) -> None:
        with self._lock:
            threads = dict(self._open)
        for connection in threads:
            connection.cut()
        for thread in threads.values():
            if thread is not threading.current_thread():
                thread.join(JOIN_WITHIN_SECONDS)

    def _accept(self, listening: socket.socket) -> None:
        while self._accepting is not None:
            try:
                sock, _ = listening.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            connection = Connection(sock)
            thread = threading.Thread(target=self._talk, args=(connection,), daemon=True)
            with self._lock:
                self._open[connection] = thread
            thread.start()

    def _talk(self, connection: Connection) -> None:
        try:
            with contextlib.suppress(OSError):
                self._answer(connection)
        finally:
            connection.close()
            with self._lock:
                self._open.pop(connection, None)


def _bind(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(0.1)
        sock.bind((HOST, port))
    except OSError:
        sock.close()
        raise
    return sock
