"""Opening what a configuration names, the same way for the daemon and for every command: database, keys, orders."""

from __future__ import annotations

import binascii
import contextlib
import fcntl
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from panicmail.config import Config
from panicmail.errors import ConfigError, StoreFailed
from panicmail.store import schema_revision
from panicmail.store.database import Database
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

#: Octets of a signing key.
KEY_SIZE = 32

SigningKeys = Sequence[tuple[str, bytes]]


def connect(config: Config) -> Database:
    """The database as it is."""
    return Database(config.database.url.get_secret_value())


def open_database(config: Config) -> Database:
    """The database, its tables up to date.

    Raises:
        StoreFailed: It cannot be opened or written.
    """
    database = connect(config)
    bring_up_to_date(database)
    return database


def bring_up_to_date(database: Database) -> None:
    """Create or upgrade the tables.

    Raises:
        StoreFailed: It cannot be written, or was made by a newer panicmail.
    """
    if schema_revision.is_current(database):  # no need for the lock: who only looks does not wait for who writes
        return
    from panicmail.store import migrate  # half of what a command that only looks would load

    migrate.upgrade(database)


@contextlib.contextmanager
def alone(database: Database) -> Iterator[None]:
    """Hold a SQLite file for one daemon. PostgreSQL is made for many, so there it does nothing.

    Raises:
        StoreFailed: Another `panicmail serve` has it.
    """
    if database.path is None:
        yield
        return
    path = database.path.with_name(database.path.name + ".lock")
    try:
        lock = path.open("w")
    except OSError as exc:
        raise StoreFailed(f"cannot write {path}: {exc.strerror}; is it the daemon's user who runs this?") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise StoreFailed(f"another panicmail serve uses {database.path}; stop it first") from exc
        yield


def is_served(config: Config) -> bool:
    """Whether a daemon holds the SQLite file; False with PostgreSQL, which many may use, and where nobody may look.

    For the moment of looking no daemon can start; systemd starts it again.
    """
    path = sqlite_lock(config)
    return path is not None and is_locked(path)


def is_locked(lock_file: Path) -> bool:
    """Whether a daemon holds this file, which is never made here."""
    try:
        with lock_file.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def sqlite_lock(config: Config) -> Path | None:
    """Beside a SQLite file, what its daemon holds."""
    url = config.database.url.get_secret_value()
    return Path(f"{url.removeprefix('sqlite:///')}.lock") if url.startswith("sqlite:") else None


def signing_keys(config: Config, store: Store) -> SigningKeys:
    """The keys tokens are signed with, newest first: from `[tokens] key_file`, else from the database.

    Raises:
        ConfigError: The key file cannot be used.
    """
    if config.tokens.key_file is not None:
        return _read_key_file(config.tokens.key_file)
    found = store.read(lambda tx: tx.keys.all())
    if found:
        return found
    store.write("keys.make", _first_key)
    return store.read(lambda tx: tx.keys.all())


def _first_key(tx: Transaction) -> None:
    if not tx.keys.all():  # another node may have been faster
        tx.keys.add("a", secrets.token_bytes(KEY_SIZE))


def _read_key_file(path: Path) -> SigningKeys:
    """Lines of `<one character a-z or 0-9> <64 hex digits>`, newest first; the first signs, all verify."""
    expected = f"lines such as 'a {'0' * 8}…' with one character and {2 * KEY_SIZE} hex digits"
    try:
        text = path.read_text("utf-8-sig")
        lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        keys = [(kid, binascii.unhexlify(digits)) for kid, digits in lines]
    except (OSError, ValueError) as exc:
        raise ConfigError([f"tokens.key_file: {path} cannot be read as a key file, expected {expected}"]) from exc
    if not keys or any(len(kid) != 1 or not kid.isalnum() or len(secret) < KEY_SIZE for kid, secret in keys):
        raise ConfigError([f"tokens.key_file: {path} holds no usable key, expected {expected}"])
    return keys
