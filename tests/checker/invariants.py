"""What must hold over the record of a run. Pure: each check answers a sentence for each thing that is wrong.

Where a check gives panicmail time, it is time without downtime (`spans`), and what the end of the run cut off is not
held against it: whether everything came to its end is a check of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tests.checker.history import Event
from tests.checker.record import IncidentRow, Line, MailRow, Outbound, Record
from tests.checker.spans import Span, faults

Check = Callable[[Record], Iterator[str]]

#: Seconds without downtime from the acceptance of a panic to its first page at the relay.
PAGED_WITHIN = 60.0
#: The same from a passed SLA to a page to the manager.
SMOC_WITHIN = 30.0
#: A tick a second sees it pass; a busy machine may be slower.
TICKED_WITHIN = 5.0
#: A call the relay did not take is made again, and one under way when the database came back is finished.
CALLED_AFTER = 30.0
#: A SIGTERM ends a node in 10 s (contract.md 1); the rest is for a busy machine.
ENDS_WITHIN = 13.0
#: What two clocks, or the steps of one transaction, may differ by, in seconds.
SLACK = 0.3
#: A transaction of PostgreSQL that waited for a lock writes the instant at which it began.
SLOW_TRANSACTION = 6.0
#: Status of a process that came by the point where it was told to die.
CRASHED = 137
#: Reading a mail this often has failed: it is read byte by byte, and such a reading never acknowledges.
BYTE_BY_BYTE = 3

#: What acknowledges, and what only says that it would have.
ACKED = ("incident.acked", "incident.taken")
HEARD = (*ACKED, "ack.repeated", "ack.late", "take.late", "resolve.late", "incident.resolved", "mail.resent")
#: What can make a mail leave twice, besides the end of a node: the outcome of an attempt was lost or not written.
MAKES_COPIES = ("node.pause", "database.", "relay.")


# -- I1


def every_accepted_mail_belongs_to_one_incident(record: Record) -> Iterator[str]:
    """I1. Nothing accepted is lost; the same mail joins the first; an answer belongs to what it answers."""
    rows = {(mail.uid, mail.ref) for mail in record.state.mails}
    for answer in record.answers("ok"):
        if (answer.facts["uid"], answer.facts["ref"]) not in rows:
            yield f"LOST: {answer.facts['uid']} got a 250 as {answer.facts['ref']} at {answer.at:.2f} and is nowhere"
    incidents = {incident.id: incident for incident in record.state.incidents}
    of_uid: dict[str, list[MailRow]] = defaultdict(list)
    for mail in record.state.mails:
        if mail.incident is not None:
            of_uid[mail.uid].append(mail)
        if mail.state != "accepted" and mail.incident not in incidents:
            yield f"{mail.uid} ({mail.ref}) was understood and belongs to no incident"
    yield from _wrong_incidents(record, of_uid, incidents)


def _wrong_incidents(
    record: Record, of_uid: Mapping[str, Sequence[MailRow]], incidents: Mapping[str, IncidentRow]
) -> Iterator[str]:
    for sent in record.sent():
        uid, kind = sent.facts["uid"], sent.facts["kind"]
        found = [incidents[key] for key in sorted({mail.incident or "" for mail in of_uid[uid]}) if key in incidents]
        if kind == "panic":
            yield from _split(record, uid, found)
        elif kind == "more":
            first = {mail.incident for mail in of_uid[sent.facts["about"]]}
            yield from (f"{uid}, more about {sent.facts['about']}, went to {i.ref}" for i in found
                        if i.id not in first)  # fmt: skip
        else:
            # Called from the spool, they answer about a mail: its incident may be one that was there before.
            meant = sent.facts["incident_ref"]
            own = {meant, *(incidents[m.incident].ref for m in record.state.mails if m.ref == meant and m.incident)}
            yield from (f"{uid}, an answer about {meant}, went to {i.ref}" for i in found if i.ref not in own)


def _split(record: Record, uid: str, found: Sequence[IncidentRow]) -> Iterator[str]:
    """The same mail opens another incident only when the first is resolved (contract.md: it joins while unresolved)."""
    opened = {i.id: next((line.at for line in record.lines_of(i.id)), i.accepted_at) for i in found}
    for first, second in pairwise(sorted(found, key=lambda incident: opened[incident.id])):
        closed = [line.at for line in record.lines_of(first.id) if line.event == "incident.resolved"]
        if not any(at <= opened[second.id] + SLACK for at in closed):
            yield f"{uid} is in two incidents, {first.ref} and {second.ref}"


def no_incident_comes_from_nowhere(record: Record) -> Iterator[str]:
    """I1, the other way round: every incident was opened by a mail the checker sent, and by one alone."""
    mails = {mail.id: mail for mail in record.state.mails}
    sent = {event.facts["uid"] for event in record.sent()}
    for incident in record.state.incidents:
        mail = mails.get(incident.mail)
        if mail is None:
            yield f"{incident.ref} has no mail"
        elif mail.incident != incident.id:
            yield f"{incident.ref} was opened by {mail.uid}, which belongs to {mail.incident}"
    for mail in mails.values():
        if mail.uid not in sent:
            yield f"the mail {mail.ref} ({mail.uid or 'no uid'}) was never sent"


def no_mail_is_refused_for_good(record: Record) -> Iterator[str]:
    """Whatever goes wrong with panicmail itself is a 4xx: the sender's queue keeps the panic."""
    for answer in record.answers("rejected"):
        yield f"{answer.facts['uid']} was refused at {answer.at:.2f}: {answer.facts['code']} {answer.facts['text']}"


# -- I2, I3


def every_incident_is_paged_in_time(record: Record) -> Iterator[str]:
    """I2. A page was accepted within a minute without downtime."""
    for incident in record.state.incidents:
        deadline = record.downtime.deadline(incident.accepted_at, PAGED_WITHIN)
        page = next(iter(record.pages_of(incident)), None)
        if page is None and record.ends_at > deadline:
            yield f"{incident.ref}, accepted at {incident.accepted_at:.2f}, was never paged"
        elif page is not None and page.at > deadline:
            late = record.downtime.uptime(incident.accepted_at, page.at)
            yield f"{incident.ref}, accepted at {incident.accepted_at:.2f}, was first paged {late:.1f} s later"


@dataclass(frozen=True)
class OpenSpan:
    """A time in which nobody had an incident."""

    begin: float
    end: float  #: of the run, when it was open to the last
    sla_at: float
    lines: tuple[Line, ...] = ()  #: of its timeline, the one that opened it first


def open_spans(record: Record, incident: IncidentRow) -> list[OpenSpan]:
    """From its timeline, in order."""
    spans: list[OpenSpan] = []
    span: OpenSpan | None = OpenSpan(incident.accepted_at, record.ends_at, incident.sla_at)
    for line in record.lines_of(incident.id):
        if line.event == "incident.reopened":
            span = OpenSpan(line.at, record.ends_at, line.at + record.terms.sla)
        elif line.event == "incident.opened_again":
            span = OpenSpan(line.at, record.ends_at, max(incident.sla_at, line.at))
        elif line.event == "incident.acked" and span is not None:
            spans.append(replace(span, end=line.at))
            span = None
        if span is not None:
            span = replace(span, lines=(*span.lines, line))
    return spans if span is None else [*spans, span]


def the_smoc_is_paged_when_nobody_answers(record: Record) -> Iterator[str]:
    """I3. Unacknowledged at the SLA and half a minute without downtime: a page to the manager was accepted."""
    for incident in record.state.incidents:
        for span in open_spans(record, incident):
            deadline = record.downtime.deadline(span.sla_at, SMOC_WITHIN)
            if span.end <= deadline or passed_over(record, incident, deadline):
                continue
            pages = record.pages_of(incident, record.terms.smoc)
            if not any(span.begin - SLACK <= page.at <= deadline for page in pages):
                yield (
                    f"{incident.ref}, open from {span.begin:.2f} to {span.end:.2f}: no page to the SMOC "
                    f"between its SLA ({span.sla_at:.2f}) and {deadline:.2f}"
                )


def passed_over(record: Record, incident: IncidentRow, until: float) -> bool:
    """Whether the manager said no, or is out of reach for good, since the incident was last reopened."""
    is_over = False
    for line in record.lines_of(incident.id):
        if line.at > until:
            break
        declined = line.event == "person.declined" and line.actor == record.terms.smoc
        gone = line.event == "person.unreachable" and line.facts.get("person") == record.terms.smoc
        # Not taken so far is not for good: the page is still on its way.
        is_over = declined or (gone and not str(line.facts.get("why")).startswith("no channel")) or is_over
        is_over = is_over and line.event != "incident.reopened"
    return is_over


def a_breach_is_on_record(record: Record) -> Iterator[str]:
    """The SLA passed unacknowledged: the timeline says so, whoever came a moment later."""
    for incident in record.state.incidents:
        answered_at = record.ends_at if incident.acked_at is None else incident.acked_at
        breached = any(line.event == "sla.breached" for line in record.lines_of(incident.id))
        if answered_at > record.downtime.deadline(incident.sla_at, TICKED_WITHIN) and not breached:
            yield f"{incident.ref}: SLA at {incident.sla_at:.2f}, answered at {answered_at:.2f}, and no breach recorded"


# -- I4


def only_a_persons_yes_acknowledges(record: Record) -> Iterator[str]:
    """I4. Behind every acknowledgement is a mail of that person, to the address of their own page, that says yes."""
    sent = record.sent("answer")
    for incident in record.state.incidents:
        lines = record.lines_of(incident.id)
        acks = [line for line in lines if line.event in ACKED]
        if incident.state != "open" and not acks:
            yield f"{incident.ref} is {incident.state}, and nobody is on record for it"
        for ack in acks:
            if not ack.facts.get("how"):
                yield f"{incident.ref} was acknowledged by {ack.actor} at {ack.at:.2f}, and nothing says how"
            if not any(_is_evidence(record, event, incident, ack) for event in sent):
                yield f"{incident.ref} was acknowledged by {ack.actor} at {ack.at:.2f}, who never said yes to a page"


def _is_evidence(record: Record, sent: Event, incident: IncidentRow, ack: Line) -> bool:
    if sent.process != ack.actor or sent.facts["says"] not in ("yes", "resolve") or sent.at > ack.at + SLACK:
        return False
    own = {page.reply_to for page in record.pages_of(incident, sent.process)}
    kept = any(mail.uid == sent.facts["uid"] and mail.incident == incident.id for mail in record.state.mails)
    return sent.facts["to"] in own and kept


def every_yes_is_heard(record: Record) -> Iterator[str]:
    """I4, the other way round: a yes that got its 250 stops the clock, or is told who has it."""
    accepted = {answer.facts["uid"] for answer in record.answers("ok")}
    rows: dict[str, list[MailRow]] = defaultdict(list)
    for mail in record.state.mails:
        rows[mail.uid].append(mail)
    for sent in record.sent("answer"):
        uid = sent.facts["uid"]
        if sent.facts["says"] != "yes" or uid not in accepted or not rows[uid]:
            continue  # a lost one is I1's
        if any(mail.state == "accepted" or mail.attempts >= BYTE_BY_BYTE for mail in rows[uid]):
            continue
        heard = [line for mail in rows[uid] for line in record.lines_of(mail.incident or "") if line.event in HEARD]
        if not any(line.actor in (sent.process, record.terms.people[sent.process]) for line in heard):
            yield f"{uid}, a yes of {sent.process} for {sent.facts['incident_ref']}, came to nothing"


# -- I5


def nobody_is_paged_beyond_the_policy(record: Record) -> Iterator[str]:
    """I5. A page for each line of the timeline that pages them, and no more lines than the policy has."""
    for incident in record.state.incidents:
        named = Counter(person for line in record.lines_of(incident.id) for person in paged_by(line))
        for person in record.terms.people:
            pages = {page.message_id for page in record.pages_of(incident, person) if not page.from_memory}
            if len(pages) > named[person]:
                yield f"{incident.ref}: {person} got {len(pages)} different pages; the timeline has {named[person]}"
        yield from _beyond_the_policy(record, incident)


def nobody_is_called_from_memory_without_need(record: Record) -> Iterator[str]:
    """I5. While the database is away people are called from memory: for what comes, once by each process."""
    away = [span for name, span in faults(record.events, record.ends_at) if name.startswith("database.")]
    calls: dict[tuple[str, str], list[Outbound]] = defaultdict(list)
    for mail in record.state.outbound:
        if mail.from_memory:
            calls[mail.page_of, ", ".join(mail.recipients)].append(mail)
            if not any(begin <= mail.at <= end + CALLED_AFTER for begin, end in away):
                yield f"{mail.page_of}: {', '.join(mail.recipients)} called from memory at {mail.at:.2f}, for nothing"
    restarts = max(0, sum(event.what == "started" for event in record.events) - len(record.nodes))
    for (ref, recipient), mails in calls.items():
        if len(mails) > len(away) * len(record.nodes) + restarts:
            yield f"{ref}: {recipient} was called from memory {len(mails)} times, with {len(away)} outages"


def paged_by(line: Line) -> Sequence[str]:
    """Whom a line of the timeline pages."""
    match line.event:
        case "people.paged":
            return list(line.facts["people"])
        case "holder.silent":
            return [*line.facts["people"], *([line.facts["holder"]] if line.facts["again"] else [])]
        case "holder.reminded":
            return [line.facts["person"]]
        case "incident.offered":
            return [line.facts["to"]]
    return []


def _beyond_the_policy(record: Record, incident: IncidentRow) -> Iterator[str]:
    terms, last = record.terms, len(record.terms.steps)
    for span in open_spans(record, incident):
        within = [line for line in span.lines if line.event == "people.paged"]
        scheduled = sum("cause" not in line.facts for line in within)
        cap = last + int((span.end - span.begin) / terms.repeat) + 1
        if scheduled > cap:
            yield f"{incident.ref}: {scheduled} steps in {span.end - span.begin:.1f} s, the policy has {cap}"
        for first, second in pairwise(within):
            at_the_top = first.facts["step"] == second.facts["step"] == last and "cause" not in second.facts
            if at_the_top and second.at - first.at < terms.repeat - SLACK:
                yield f"{incident.ref}: paged at {first.at:.2f} and again at {second.at:.2f}, too soon for a repeat"


def nothing_is_sent_twice_without_a_cause(record: Record) -> Iterator[str]:
    """I5. A copy of a mail has the same Message-ID, and a failure of its own that explains it."""
    causes = [span for name, span in faults(record.events, record.ends_at) if name.startswith(MAKES_COPIES)]
    causes += [(event.at, event.at) for event in record.events if event.what == "ended"]
    copies: dict[str, list[float]] = defaultdict(list)
    for mail in sorted(record.state.outbound, key=lambda mail: mail.at):
        if not mail.from_memory:
            copies[mail.message_id].append(mail.at)
    for message_id, times in copies.items():
        unused = list(causes)
        for first, second in pairwise(times):
            fitting = (span for span in unused if span[0] <= second and span[1] >= first - 2.0)
            cause = min(fitting, key=lambda span: span[1], default=None)
            if cause is None:
                yield f"{message_id} was sent at {first:.2f} and again at {second:.2f}, and nothing had happened"
            else:
                unused.remove(cause)


# -- I6, I7


def every_incident_has_one_open_issue(record: Record) -> Iterator[str]:
    """I6. One open issue for each marker, the one the incident names; and no note twice."""
    incidents = {incident.id: incident for incident in record.state.incidents}
    is_restless = any(event.what == "restless" for event in record.events)
    for incident in incidents.values():
        open_ones = [issue.iid for issue in record.state.issues if issue.incident == incident.id and issue.is_open]
        if len(open_ones) > 1 or (not open_ones and not is_restless):
            yield f"{incident.ref} has the open issues {open_ones}"
        elif open_ones and incident.issue not in (*open_ones, None):
            yield f"{incident.ref} says its issue is {incident.issue}, and it is {open_ones[0]}"
    for issue in record.state.issues:
        if issue.incident not in incidents:
            yield f"issue {issue.iid} belongs to no incident ({issue.incident or 'no marker'})"
        for marker, count in Counter(issue.notes).items():
            if count > 1:
                yield f"issue {issue.iid} has the note {marker} {count} times"


def mail_goes_to_people_and_reporters_only(record: Record) -> Iterator[str]:
    """I7. Never a relay: every recipient is one of the people, or wrote a report."""
    allowed = {*record.terms.people.values(), *(event.facts["sender"] for event in record.sent("panic"))}
    for mail in record.state.outbound:
        strangers = sorted(set(mail.recipients) - allowed)
        if strangers:
            yield f"a mail went to {', '.join(strangers)} at {mail.at:.2f}: {mail.subject}"


# -- the timeline, and the end


#: event -> the states it may come in, and the state after it; None: unchanged.
MOVES: Mapping[str, tuple[tuple[str, ...], str | None]] = {
    "incident.opened": (("",), "open"),
    "people.paged": (("open",), None),
    "sla.breached": (("open",), None),
    "incident.acked": (("open",), "acked"),
    "incident.taken": (("acked",), None),
    "incident.opened_again": (("acked",), "open"),
    "incident.resolved": (("acked",), "resolved"),
    "incident.reopened": (("resolved",), "open"),
    "take.undone": (("acked",), None),
    "resolve.undone": (("resolved",), "acked"),
}


def the_timeline_tells_the_story_in_order(record: Record) -> Iterator[str]:
    """Its lines are in order of time, each is possible after those before it, and they end where the incident is."""
    slow = SLOW_TRANSACTION if record.terms.at_once else 0.0
    for incident in record.state.incidents:
        lines = record.lines_of(incident.id)
        state = ""
        for line in lines:
            before, after = MOVES.get(line.event, ((state,), None))
            if state not in before:
                yield f"{incident.ref}: {line.event} at {line.at:.2f} while {state or 'not there yet'}"
            state = after or state
        if state != incident.state:
            yield f"{incident.ref} is {incident.state}, and its timeline ends {state or 'before it begins'}"
        holder = next((line.actor for line in reversed(lines) if line.event in ACKED), None)
        if holder != incident.holder:
            yield f"{incident.ref} is {incident.holder}'s, and its timeline says {holder}'s"
        for first, second in pairwise(lines):
            is_move = first.event in MOVES and second.event in MOVES
            if second.at < first.at - (SLACK if is_move else slow):
                yield f"{incident.ref}: {second.event} at {second.at:.2f} stands after {first.event} at {first.at:.2f}"


def nodes_end_when_told_and_only_then(record: Record) -> Iterator[str]:
    """SIGTERM: status 0 within ten seconds. By itself only for a database that was away."""
    away = [span for name, span in faults(record.events, record.ends_at) if name.startswith("database.")]
    for node in record.nodes:
        order = ""
        for event in (event for event in record.events if event.process == node):
            if event.what in ("started", "killed", "terminated"):
                order = event.what
            if event.what == "ended":
                yield from _wrong_end(node, event, order, away)


def _wrong_end(node: str, ended: Event, order: str, away: Sequence[Span]) -> Iterator[str]:
    status, seconds = ended.facts["status"], ended.facts.get("seconds", 0.0)
    if order == "terminated" and ended.facts["was_ready"]:
        if status != 0 or seconds > ENDS_WITHIN:
            yield f"{node}, told to end, took {seconds:.1f} s and ended with {status} at {ended.at:.2f}"
    elif order == "started" and status != CRASHED and not any(begin - 1 <= ended.at <= end + 15 for begin, end in away):
        yield f"{node} ended by itself at {ended.at:.2f} with {status}"


def everything_came_to_rest(record: Record) -> Iterator[str]:
    """After the last harm was mended nothing was left to do: no mail, page, note or open incident."""
    for event in record.events:
        if event.what == "restless":
            yield f"still to be done when patience ended: {', '.join(event.facts['unfinished'])}"


#: Name -> check, in the order they are told.
INVARIANTS: Mapping[str, Sequence[Check]] = {
    "I1 accepted is kept": (
        every_accepted_mail_belongs_to_one_incident,
        no_incident_comes_from_nowhere,
        no_mail_is_refused_for_good,
    ),
    "I2 paged": (every_incident_is_paged_in_time,),
    "I3 escalated": (the_smoc_is_paged_when_nobody_answers, a_breach_is_on_record),
    "I4 acknowledged by a person": (only_a_persons_yes_acknowledges, every_yes_is_heard),
    "I5 not too often": (
        nobody_is_paged_beyond_the_policy,
        nobody_is_called_from_memory_without_need,
        nothing_is_sent_twice_without_a_cause,
    ),
    "I6 one issue": (every_incident_has_one_open_issue,),
    "I7 no relay": (mail_goes_to_people_and_reporters_only,),
    "order": (the_timeline_tells_the_story_in_order,),
    "ends": (nodes_end_when_told_and_only_then,),
    "rest": (everything_came_to_rest,),
}


def violations(record: Record) -> dict[str, list[str]]:
    """What is wrong, by invariant; an invariant that holds is not in it."""
    found = {name: [said for check in checks for said in check(record)] for name, checks in INVARIANTS.items()}
    return {name: said for name, said in found.items() if said}


def first_pages(record: Record) -> Iterator[tuple[IncidentRow, Outbound, float]]:
    """Each incident with its first page, and the seconds without downtime from its 250 to that."""
    uids = {mail.id: mail.uid for mail in record.state.mails}
    ok_at: dict[str, float] = {}
    for answer in record.answers("ok"):
        ok_at.setdefault(answer.facts["uid"], answer.at)
    for incident in record.state.incidents:
        page = next(iter(record.pages_of(incident)), None)
        if page is not None:
            begin = ok_at.get(uids.get(incident.mail, ""), incident.accepted_at)
            yield incident, page, record.downtime.uptime(begin, page.at)
