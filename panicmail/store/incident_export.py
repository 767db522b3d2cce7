"""Everything kept about one incident as a tar, for whoever must be able to rely on it later: evidence.

    manifest.json       REF, when and by whom it was made, and the SHA-256 and size of each file below
    manifest.sig        the Ed25519 signature of manifest.json, 64 octets
    manifest.pem        the public key of it, as `openssl` reads it
    mails/ID.eml        each mail as its octets came in
    mails.json          their envelopes: when, from which host, to whom
    incident.json       how it stands
    timeline.json       what happened, in order
    sent.json           what was to be done in the world, and what the other side answered
    pages.json          whom it called, by which channel, and what came of it

`openssl pkeyutl -verify -pubin -inkey manifest.pem -rawin -in manifest.json -sigfile manifest.sig` holds without
panicmail. That the key is ours its fingerprint on the incident's timeline says.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Any

import sqlalchemy as sa

from panicmail.incident.model import Incident
from panicmail.store.tables import incidents, mails, outbox, pages, raws, timeline
from panicmail.store.transaction import Transaction

MANIFEST, SIGNATURE, PUBLIC_KEY = "manifest.json", "manifest.sig", "manifest.pem"


def collect(tx: Transaction, incident: Incident) -> dict[str, bytes]:
    """The files about an incident, without the manifest. A mail whose octets were erased has none."""
    mine = incident.id
    found = {
        "incident.json": _rows(tx, sa.select(incidents).where(incidents.c.id == mine)),
        "timeline.json": _rows(tx, sa.select(timeline).where(timeline.c.incident_id == mine).order_by(timeline.c.id)),
        "sent.json": _rows(tx, sa.select(outbox).where(outbox.c.incident_id == mine).order_by(outbox.c.id)),
        "pages.json": _rows(tx, sa.select(pages).where(pages.c.incident_id == mine).order_by(pages.c.id)),
        "mails.json": _rows(tx, sa.select(mails).where(mails.c.incident_id == mine).order_by(mails.c.accepted_at)),
    }
    kept = sa.select(raws.c.mail_id).join(mails).where(mails.c.incident_id == mine).order_by(raws.c.mail_id)
    for mail_id in tx.connection.execute(kept).scalars().all():
        found[f"mails/{mail_id}.eml"] = tx.mails.raw(mail_id)
    return found


def manifest(files: Mapping[str, bytes], about: Mapping[str, Any]) -> bytes:
    sums = {name: {"sha256": hashlib.sha256(octets).hexdigest(), "size": len(octets)} for name, octets in files.items()}
    return json.dumps({**about, "files": sums}, indent=1, ensure_ascii=False).encode()


def write(file: IO[bytes], files: Mapping[str, bytes], made_at: datetime) -> None:
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, octets in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(octets), 0o600, int(made_at.timestamp())
            tar.addfile(entry, io.BytesIO(octets))


def read(file: IO[bytes]) -> dict[str, bytes]:
    """
    Raises:
        tarfile.TarError, ValueError: It is no tar, or not one of ours.
    """
    with tarfile.open(fileobj=file, mode="r:") as tar:
        found = {entry.name: entry_file.read() for entry in tar if (entry_file := tar.extractfile(entry)) is not None}
    if not {MANIFEST, SIGNATURE, PUBLIC_KEY} <= found.keys():
        raise ValueError(f"it lacks {MANIFEST}, {SIGNATURE} or {PUBLIC_KEY}")
    return found


def differences(found: Mapping[str, bytes]) -> list[str]:
    """Files that are not what the manifest says, or that it does not name."""
    said = json.loads(found[MANIFEST])["files"]
    names = (said.keys() | found.keys()) - {MANIFEST, SIGNATURE, PUBLIC_KEY}
    return sorted(n for n in names if n not in said or n not in found
                  or said[n]["sha256"] != hashlib.sha256(found[n]).hexdigest())  # fmt: skip


def _rows(tx: Transaction, query: sa.Select[Any]) -> bytes:
    rows = [dict(row._mapping) for row in tx.connection.execute(query)]
    return json.dumps(rows, indent=1, ensure_ascii=False, default=_plain).encode("utf-8", "replace")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
