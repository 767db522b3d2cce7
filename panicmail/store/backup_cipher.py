"""A backup as octets on their way to a file and back: plain, or through `age` or `gpg` where one of them is there.

Who can read a backup can read every report and act on every page. A recipient is a public key: the host that makes
the backup cannot read it again.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from panicmail.errors import Mistake

_AGE = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")
_PGP_ARMOUR = b"-----BEGIN PGP "
_GZIP = b"\x1f\x8b"


def expect_tools(recipients: Sequence[str]) -> None:
    """Say at once what would fail after minutes.

    Raises:
        Mistake: Recipients of both kinds, or the tool for them is not there.
    """
    if recipients:
        _seal_command(recipients)


@contextlib.contextmanager
def sealing(file: IO[bytes], recipients: Sequence[str]) -> Iterator[IO[bytes]]:
    """What is written to the stream stands in `file` at the end, for the recipients alone; without any it is plain.

    Raises:
        Mistake: The tool refused.
    """
    if not recipients:
        yield file
        return
    with _piped(_seal_command(recipients), subprocess.PIPE, file) as (process, said):
        assert process.stdin is not None  # noqa: S101 - it was asked for
        try:
            with process.stdin:
                yield process.stdin
        except BrokenPipeError:
            pass  # its own words say more
        _expect_success(process, said, "the backup was not encrypted")


@contextlib.contextmanager
def opening(path: Path, identity: Path | None) -> Iterator[IO[bytes]]:
    """The octets of a backup, deciphered; `identity` is the file of age's private key.

    Raises:
        Mistake: The tool is not there, or refused.
    """
    with path.open("rb", buffering=0) as file:  # the tool goes on where the file stands
        head = file.read(64)
        file.seek(0)
        command = _open_command(head, identity)
        if command is None:
            yield file
            return
        with _piped(command, file, subprocess.PIPE) as (process, said):
            assert process.stdout is not None  # noqa: S101 - it was asked for
            yield process.stdout
            while process.stdout.read(1024 * 1024):  # to its end: only then it says whether all of it was right
                pass
            _expect_success(process, said, f"{path} was not decrypted")


@contextlib.contextmanager
def _piped(
    command: Sequence[str], stdin: int | IO[bytes], stdout: int | IO[bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A tool at work, and the file its complaints go to; it ends with the block."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=said)  # noqa: S603 - no shell
        try:
            yield process, said
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            if process.poll() is None:
                process.terminate()
            process.wait()


def _expect_success(process: subprocess.Popen[bytes], said: IO[bytes], otherwise: str) -> None:
    if status := process.wait():
        said.seek(0)
        words = " ".join(said.read(2000).decode("utf-8", "replace").split()) or f"status {status}"
        raise Mistake(f"{otherwise}: {Path(str(process.args[0])).name} said: {words}")  # type: ignore[index]


def _seal_command(recipients: Sequence[str]) -> list[str]:
    kinds = {is_for_age(recipient) for recipient in recipients}
    if len(kinds) > 1:
        raise Mistake("found recipients of age and of GPG; a backup is for one kind")
    if kinds == {True}:
        return [_tool("age"), "--encrypt", *_each(recipients, "--recipients-file", "--recipient")]
    trusted = ["--batch", "--no-tty", "--trust-model", "always", "--output", "-"]
    return [_tool("gpg"), *trusted, "--encrypt", *_each(recipients, "--recipient-file", "--recipient")]


def _each(recipients: Sequence[str], as_file: str, as_name: str) -> Iterator[str]:
    for recipient in recipients:
        yield from (as_file if Path(recipient).is_file() else as_name, recipient)


def is_for_age(recipient: str) -> bool:
    """A key of age or SSH, or a file of such; all else is GPG's: an address, a fingerprint, the file of a key."""
    if not Path(recipient).is_file():
        return recipient.startswith(("age1", "ssh-"))
    with Path(recipient).open("rb") as file:
        head = file.read(4096)
    lines = [line for line in head.splitlines() if line.strip() and not line.startswith(b"#")]
    return bool(lines) and lines[0].startswith((b"age1", b"ssh-"))


def _open_command(head: bytes, identity: Path | None) -> list[str] | None:
    """What deciphers a file that begins so; None for a plain one."""
    if head.startswith(_AGE):
        if identity is None:
            raise Mistake("the backup is encrypted by age; name the file of the private key with --identity")
        return [_tool("age"), "--decrypt", "--identity", str(identity)]
    is_packet = bool(head) and head[0] & 0x80 and not head.startswith(_GZIP)  # RFC 9580, 4.2
    if is_packet or head.startswith(_PGP_ARMOUR):
        return [_tool("gpg"), "--quiet", "--output", "-", "--decrypt"]
    return None


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Mistake(f"{name} is not installed here, and this backup needs it")
    return found
