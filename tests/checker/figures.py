"""A run in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tests.checker.invariants import CRASHED, every_accepted_mail_belongs_to_one_incident, first_pages
from tests.checker.record import Record
from tests.checker.spans import faults


def figures(record: Record) -> Mapping[str, object]:
    """What is told of a run, in order."""
    return {**_mail_in(record), **_harm(record), **_what_came(record), **_waits(record)}


def _mail_in(record: Record) -> Mapping[str, object]:
    """Mails, and what came of each attempt to bring one."""
    answers = Counter(event.what for event in record.answers("ok", "fail", "unknown", "rejected", "nobody"))
    return {
        "mails": len(record.sent()),
        "250s": answers["ok"],
        "4xx": answers["fail"],
        "5xx": answers["rejected"],
        "unknown": answers["unknown"],
        "no connection": answers["nobody"],
    }


def _harm(record: Record) -> Mapping[str, object]:
    whats = Counter(event.what for event in record.events)
    harms = Counter(name for name, _ in faults(record.events, record.ends_at))
    return {
        "kills": whats["killed"],
        "crashes": sum(event.what == "ended" and event.facts["status"] == CRASHED for event in record.events),
        "stops": whats["terminated"],
        "pauses": whats["paused"],
        "ended by itself": _ended_by_itself(record),
        "other harms": {name: count for name, count in sorted(harms.items()) if not name.startswith("node.")},
        "downtime": f"{sum(end - begin for begin, end in record.downtime.spans):.0f} of {record.ends_at:.0f} s",
    }


def _what_came(record: Record) -> Mapping[str, object]:
    state = record.state
    return {
        "incidents": len(state.incidents),
        "breached": len({line.incident for line in state.timeline if line.event == "sla.breached"}),
        "acknowledged": sum(line.event == "incident.acked" for line in state.timeline),
        "issues": len(state.issues),
        "mails out": len(state.outbound),
        "pages": sum(bool(mail.page_of) for mail in state.outbound),
        "from memory": sum(mail.from_memory for mail in state.outbound),
        "extra copies": len(state.outbound) - len({mail.message_id for mail in state.outbound}),
        "lost": sum(said.startswith("LOST") for said in every_accepted_mail_belongs_to_one_incident(record)),
        "spooled": state.spooled,
    }


def _waits(record: Record) -> Mapping[str, object]:
    waits = sorted(wait for _, _, wait in first_pages(record))
    accepted = {incident.id: incident.accepted_at for incident in record.state.incidents}
    opened = [line for line in record.state.timeline if line.event == "issue.opened"]
    slowest = max((line.at - accepted[line.incident] for line in opened), default=0.0)
    return {
        "250 to first page": f"{waits[len(waits) // 2]:.2f} s, at worst {waits[-1]:.2f} s" if waits else "none",
        "250 to issue": f"at worst {slowest:.1f} s, downtime and GitLab's own included",
    }


def _ended_by_itself(record: Record) -> int:
    """Nodes that ended though nobody told them to."""
    count, told = 0, set[str]()
    for event in record.events:
        if event.what in ("killed", "terminated"):
            told.add(event.process)
        elif event.what == "started":
            told.discard(event.process)
        elif event.what == "ended" and event.facts["status"] != CRASHED:
            count += event.process not in told
    return count
