"""What joined a storm: told on its issue every five minutes and to whoever has it, sooner what is unlike the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from panicmail.incident import storm_rules
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident
from panicmail.incident.storm_rules import Storm
from panicmail.mail.parse import report_json
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: So many mails unlike the others are shown, and so many of all are named.
_SHOWN, _NAMED = 10, 50
#: So much of each is shown, in characters.
_SUBJECT, _TEXT = 200, 600


class StormNews:
    """Tells of storms as they grow."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def tell_due(self, on_progress: Callable[[], None] = lambda: None) -> None:
        """Tell what is due now. One storm that cannot be told does not hold up the others."""
        if not self._store.read(lambda tx: tx.storms.is_any_due()):
            return
        for incident_id in self._store.read(lambda tx: tx.storms.due()):
            try:
                self._store.write("tick.move", partial(_tell, incident_id=incident_id))
            except Exception:  # found again by the next tick
                _log.exception("storm.untold", incident=incident_id)
            on_progress()


def _tell(tx: Transaction, *, incident_id: str) -> None:
    incident, storm = tx.incidents.get(incident_id), tx.storms.locked(incident_id)
    if incident is None or storm is None or not storm_rules.is_due(storm, tx.now):
        return  # another node did
    listeners = storm_rules.hears(incident)
    facts: dict[str, Any] = {
        "what": "storm", "sender": incident.reporter_address, "count": storm.members - storm.told,
        "members": storm.members, "at": tx.now.isoformat(),
    }  # fmt: skip
    entries = () if storm.members == storm.told else (_entry(tx, incident, storm, facts),)
    effects: tuple[Effect, ...] = ()
    if listeners:
        unlike, number = tx.storms.tell_untold(incident_id, _SHOWN)
        about = {**facts, "unlike": number, "new": [_shown(each) for each in unlike]}
        key = f"tell/storm/{storm.members}/{tx.now:%Y%m%d%H%M%S}"
        effects = tuple(
            Effect(do=EffectKind.TELL, key=f"{key}/{person}", person=person, facts=about) for person in listeners
        )
    tx.incidents.apply(incident, Change(incident=incident, effects=effects, entries=entries))
    told_at = tx.now if listeners else storm.told_at
    tx.storms.keep(replace(storm, told=storm.members, tell_at=None, told_at=told_at))


def _entry(tx: Transaction, incident: Incident, storm: Storm, facts: dict[str, Any]) -> Entry:
    """The line on the issue: how many joined, and each by its time and subject, as far as there is room."""
    count = storm.members - storm.told
    named = [
        {"at": each.accepted_at.isoformat(), "subject": _subject(each)}
        for each in tx.storms.latest_members(incident.id, min(count, _NAMED))
    ]
    return Entry(event="storm.grew", actor="panicmail", facts={**facts, "mails": named})


def _shown(mail: AcceptedMail) -> dict[str, str]:
    text = report_json.from_json(mail.report).text if mail.report else ""
    return {"at": mail.accepted_at.isoformat(), "subject": _subject(mail), "text": text[:_TEXT]}


def _subject(mail: AcceptedMail) -> str:
    return (report_json.from_json(mail.report).subject if mail.report else "")[:_SUBJECT]
