"""A line of the timeline as an internal note on the issue. Pure.

One sentence for each event, with the instant it happened (the note may come later), then what a sender wrote, inert.
People are named in words, never mentioned. Every note ends in its marker, so that a repeat finds the first.
An event nobody wrote a sentence for is still told, by its name and facts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from panicmail.gitlab import description
from panicmail.gitlab.escape import block, inline
from panicmail.incident.classify import Attachment, Report
from panicmail.incident.model import Incident
from panicmail.incident.people import Person

#: Of a sender's text, in characters. GitLab takes 1,000,000 for the whole note.
TEXT_LIMIT = 100_000

#: Actors that are nobody of ours and no sender either.
_NOBODY = (None, "", "panicmail", "somebody", "somebody in GitLab")

Facts = Mapping[str, Any]
People = Mapping[str, Person]


class TimelineLine(Protocol):
    """A line of the timeline."""

    @property
    def id(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def event(self) -> str: ...
    @property
    def actor(self) -> str | None: ...
    @property
    def facts(self) -> Facts: ...


def marker(incident_id: str, line_id: int) -> str:
    """What a note holds on its last line, once in the world."""
    return f"{description.marker(incident_id)}/{line_id}"


def files_marker(incident_id: str, mail_id: str) -> str:
    """What the note that links the files of a later mail holds on its last line."""
    return f"{description.marker(incident_id)}/{mail_id}"


def note_text(line: TimelineLine, incident: Incident, people: People) -> str:
    say = _SENTENCES.get(line.event, _tell_unknown_event)
    said = say(_Teller(line, people))
    return f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC. {said}\n\n`{marker(incident.id, line.id)}`"


def files_text(links: Sequence[tuple[str, str, str]], own_marker: str) -> str:
    """The uploaded files (name, url, SHA-256) as a note, for when the description has no place for them."""
    why = "The files of the mail. The description was edited, so they are here."
    return f"{why}\n\n{description.files(links)}\n\n`{own_marker}`"


def later_files_text(
    links: Sequence[tuple[str, str, str]], withheld: Sequence[str], accepted_at: datetime, own_marker: str
) -> str:
    """The uploaded files (name, url, SHA-256) of a mail that came later than the report.

    `withheld`: the names of those that were not uploaded, because whoever has them could act with a token of ours.
    """
    parts = [f"The files of the mail of {accepted_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC."]
    if links:
        parts.append(description.files(links))
    if withheld:
        names = ", ".join(inline(name) for name in withheld)
        parts.append(f"Not uploaded, because they hold an address or a link of panicmail's: {names}.")
    return "\n\n".join([*parts, f"`{own_marker}`"])


def amended_text(line: TimelineLine, incident: Incident, report: Report | None) -> str:
    """That the report was read again. `report`: what it says, where the description does not; None where it does."""
    said = note_text(line, incident, {})
    if report is None:
        return said
    sentence, _, own_marker = said.rpartition("\n\n")
    parts = [sentence, "The description was edited, so it is here.", block(report.text, TEXT_LIMIT)]
    if report.attachments:
        parts.append(description.attachment_table(report.attachments))
    return "\n\n".join([*parts, own_marker])


class _Teller:
    """What the sentences ask of a line: facts, and the names of people."""

    def __init__(self, line: TimelineLine, people: People) -> None:
        self.event = line.event
        self.facts = line.facts
        self._people = people
        self.actor = self.name(line.actor)

    def name(self, who: object) -> str:
        """A person's name; whoever is not one of ours is quoted."""
        person = self._people.get(str(who))
        if person is not None:
            return _plain(person.name)
        return str(who or "somebody") if who in _NOBODY else inline(str(who))

    def quoted(self, fact: str, before: str = "", after: str = "") -> str:
        """A fact as a quotation between `before` and `after`; nothing at all when it is not there."""
        value = self.facts.get(fact)
        return f"{before}{inline(str(value), 500)}{after}" if value not in (None, "") else ""

    def text(self, fact: str = "text") -> str:
        """A longer text on lines of its own."""
        value = str(self.facts.get(fact) or "")
        return f"\n\n{block(value, TEXT_LIMIT)}" if value.strip() else " There is no text."

    def everybody(self, fact: str = "people") -> str:
        """Names with roles; "" when it is nobody."""
        people = self.facts.get(fact) or {}
        return ", ".join(
            self.name(p) + (f" ({_plain(str(role).upper())})" if role else "") for p, role in people.items()
        )

    @property
    def how(self) -> str:
        return self.quoted("how", " Rests on: ", ".")


def _plain(words: str) -> str:
    """Words of the operator's as they are, when there are only letters in them."""
    return (
        words if re.fullmatch(r"[^\W\d_]+(?:[ .'-]{1,2}[^\W\d_]+)*\.?", words) and len(words) <= 80 else inline(words)
    )


# -- one sentence for each event; the facts are those `transitions`, `intake`, `response` and `delivery` write


def _paged(line: _Teller) -> str:
    people, step = line.everybody(), line.facts.get("step", 0)
    if not people:
        return f"Nobody is on call for step {int(step)}. Nobody was paged, the operators were told."
    where = f"step {int(step)}, round {int(line.facts.get('round', 0))}" if step else "as the last who had it"
    return f"Paged {people}, {where}.{_cause(line)}{_tell_how_late(line.facts)}"


def _cause(line: _Teller) -> str:
    return _tell_why_paged(line) + _last_resort(line.facts.get("cause") or {})


def _last_resort(cause: Mapping[str, Any]) -> str:
    if not (why := cause.get("last_resort")):
        return ""
    roles = ", ".join(_plain(str(role).upper()) for role in cause.get("roles", ()))
    nobody = f"is on call as {roles}" if why == "nobody_on_call" else "else on call is left"
    return f" Nobody {nobody}, so the operators are called."


def _tell_why_paged(line: _Teller) -> str:
    cause = line.facts.get("cause") or {}
    if who := cause.get("declined_by"):
        words = f": {inline(str(cause['words']))}" if cause.get("words") else ""
        return f" {line.name(who)} declined{words}."
    if who := cause.get("escalated_by"):
        return f" {line.name(who)} asked for the next step."
    if who := cause.get("holder_gone"):
        return f" {line.name(who)} had it and is no longer in the configuration."
    if cause.get("on_call_since"):
        return " The shift changed."
    if who := cause.get("unreachable"):
        return f" {line.name(who)} cannot be reached: {inline(str(cause.get('why') or 'no reason known'))}."
    return ""


def _tell_how_late(facts: Facts) -> str:
    seconds = int(facts.get("late_seconds") or 0)
    if not seconds:
        return ""
    minutes = f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
    return f" This is {minutes} late: panicmail was down or held up."


def _shift_changed(line: _Teller) -> str:
    role, people = str(line.facts.get("role") or ""), line.facts.get("people") or ()
    came = f"{', '.join(map(line.name, people))} came on" if people else "nobody came on"
    holder = line.facts.get("holder")
    told = f" {line.name(holder)} has it from the shift before; both sides were told." if holder else ""
    return f"The shift as {_plain(role.upper())} changed{line.quoted('at', ' at ')}: {came}.{told}"


def _breached(line: _Teller) -> str:
    return f"SLA breached: nobody acknowledged in time.{line.quoted('sla_at', ' It was due at ', '.')}"


def _acked(line: _Teller) -> str:
    return f"Acknowledged: {line.name(line.facts.get('holder'))} has it.{line.how}"


def _taken(line: _Teller) -> str:
    before = line.facts.get("before")
    return f"{line.name(line.facts.get('holder'))} took it{f' from {line.name(before)}' if before else ''}.{line.how}"


def _declined(line: _Teller) -> str:
    return f"{line.actor} declined{line.quoted('words', ': ')}.{line.how}"


def _unreachable(line: _Teller) -> str:
    return f"{line.name(line.facts.get('person'))} cannot be reached{line.quoted('why', ': ')}."


def _reminded(line: _Teller) -> str:
    return f"No sign of work since the acknowledgement: {line.name(line.facts.get('person'))} was asked again."


def _silent(line: _Teller) -> str:
    holder, people = line.facts.get("holder"), line.everybody()
    silent = f"{line.name(holder) if holder else 'The holder'} is silent{line.quoted('why', ', ')}."
    asked = " They were asked again." if line.facts.get("again") else ""
    return f"{silent}{asked} {f'Paged {people}.' if people else 'Nobody else can be called; the operators were told.'}"


def _resolved(line: _Teller) -> str:
    return f"Closed by {line.name(line.facts.get('by'))}.{line.how}"


def _reopened(line: _Teller) -> str:
    last, by = line.facts.get("last_holder"), (line.facts.get("cause") or {}).get("issue_reopened_by")
    why = f"{line.name(by)} opened this issue again" if by else "there is more"
    return f"Opened again: {why}.{f' Last holder: {line.name(last)}.' if last else ''}"


def _more(line: _Teller) -> str:
    address, name = line.facts.get("from_address"), line.facts.get("from_name")
    who = inline(f"{name} <{address}>" if name and address else str(address or name or "somebody"))
    if line.facts.get("is_reporter"):
        return f"More from the reporter, {who}:{line.text()}{_answers(line)}"
    return f"More in the thread from {who}, **who is not the reporter**:{line.text()}"


def _answers(line: _Teller) -> str:
    """What it answers of the receipt's questions, as a table."""
    rows = line.facts.get("answers") or ()
    if not rows:
        return ""
    cells = (
        f"| {int(n)} | {inline(str(q), 300)} | {inline(' / '.join(str(a).split(chr(10))), 1000)} |" for n, q, a in rows
    )
    return "\n\n" + "\n".join(["| | Question | Answer |", "| --- | --- | --- |", *cells])


def _storm_began(line: _Teller) -> str:
    first = ", ".join(inline(str(ref)) for ref in line.facts.get("first") or ()) or "none"
    return (f"A storm: {line.quoted('sender') or 'somebody'} sends a flood. Its first mails are incidents of their own "
            f"and go with this one: {first}. What comes now joins this issue and pages nobody.")  # fmt: skip


def _storm_grew(line: _Teller) -> str:
    count, members, mails = (line.facts.get(name) or 0 for name in ("count", "members", "mails"))
    named = [each for each in mails if isinstance(each, dict)] if isinstance(mails, list) else []
    text = "\n".join(f"{str(each.get('at'))[:19]} {each.get('subject') or '(no subject)'}" for each in named)
    rest = f" The latest {len(named)} of them" if isinstance(count, int) and count > len(named) else " They are"
    said = f"{count} more joined the storm, {members} in all.{rest}, by time (UTC) and subject:"
    return f"{said}\n\n{block(text, TEXT_LIMIT)}"


def sender_text(line: TimelineLine) -> str:
    """What was found of the sender, where it could not be written into the description."""
    return _sender_checked(_Teller(line, {}))


def _sender_checked(line: _Teller) -> str:
    return f"{line.quoted('sender', 'Sender: ')}."


def _storm_left(line: _Teller) -> str:
    return "One mail left the storm: it is proved who sent it. It is an incident of its own."


def _storm_split(line: _Teller) -> str:
    count = line.facts.get("mails")
    return f"The storm was taken apart by {line.actor}: each of its {count} later mails becomes an issue of its own."


def _went(line: _Teller) -> str:
    hows = {"duplicate": "closed as a duplicate", "promoted": "promoted to an epic"}
    went = hows.get(str(line.facts.get("how")), "moved") + line.quoted("place", ", ")
    notes = "panicmail goes on here" if line.facts.get("followed") else "panicmail's notes stay on the old issue"
    open_to_all = "" if line.facts.get("confidential", True) else " It was not confidential here; panicmail sets that."
    return f"The issue was {went}, by {line.actor}. That does not end the incident; {notes}.{open_to_all}"


def _altered(line: _Teller) -> str:
    facts, said = line.facts, []
    if facts.get("exposed"):
        off = f"{line.name(facts.get('by'))} switched the confidential flag of this issue off"
        said.append(f"{off} again; it stays off." if facts.get("stands") else f"{off}; panicmail switches it on again.")
    if facts.get("taken_off"):
        said.append(f"Taken off: {', '.join(inline(str(each)) for each in facts['taken_off'])}.")
    return " ".join(said)


def _amended(line: _Teller) -> str:
    if line.facts.get("unreadable"):
        return "The report cannot be read in full, however long it takes. The raw message has all of it."
    changed = ", ".join(map(str, line.facts.get("changed") or ())) or "nothing that shows"
    return f"The report was read in full, after a part of it at first. Changed: {changed}.{_turned_out(line)}"


def _turned_out(line: _Teller) -> str:
    """What it is, where that is no plain panic. Nobody is un-paged for it."""
    is_a = _ARE.get(str(line.facts.get("shape")), "")
    kind = str(line.facts.get("kind") or "human")
    if kind != "human":
        why = "; ".join(map(str, line.facts.get("why") or ()))
        is_a += f" It looks automatic ({kind}{f': {inline(why)}' if why else ''})."
    return f"{is_a} Who was paged stays paged." if is_a else ""


#: What a mail that opened an incident would have been, had it been read in full at once.
_ARE = {
    "more": " It belongs to the thread of another incident.",
    "answer": " It is an answer to a page of another incident.",
    "aside": " It is a mail of somebody paged about another incident.",
}


def _more_amended(line: _Teller) -> str:
    address, name = line.facts.get("from_address"), line.facts.get("from_name")
    who = inline(f"{name} <{address}>" if name and address else str(address or name or "somebody"))
    return f"A mail from {who}, which could be read only in part before, in full:{line.text()}"


def _attached(line: _Teller) -> str:
    attachments = [Attachment(**each) for each in line.facts.get("attachments") or ()]
    table = description.attachment_table(attachments)
    text = f"Attached to a mail from {line.actor}, by the names they came with:\n\n{table}"
    if line.facts.get("uploads"):
        return text
    return f"{text}\n\nNot uploaded, by the configuration. Kept by panicmail{line.quoted('mail', ', in the mail ')}."


def _tell_sent_to_reporter(line: _Teller) -> str:
    return f"Said to the reporter{line.quoted('to', ', ')}, by {line.actor}.{line.how}{line.text()}"


def _tell_not_sent_to_reporter(line: _Teller) -> str:
    return f"{line.actor} wrote to the reporter. **It was not sent**{line.quoted('why', ', because ')}.{line.text()}"


def _wrote(line: _Teller) -> str:
    return f"{line.actor} wrote{line.quoted('why', '; this did not acknowledge, because ')}.{line.how}{line.text()}"


def _resent(line: _Teller) -> str:
    told = f" {', '.join(map(line.name, line.facts['told']))} heard of it." if line.facts.get("told") else ""
    text = f" It says:{line.text()}" if line.facts.get("text") else ""
    return f"The same mail came again from {line.actor}{line.quoted('way', ', by ')}.{told}{text}"


def _automatic(line: _Teller) -> str:
    return (
        f"An automatic mail ({inline(str(line.facts.get('kind') or 'unknown'))}) came from {line.actor}:{line.text()}"
    )


def _refused(line: _Teller) -> str:
    what, by_mail = _plain(line.event.partition(".")[0]), line.facts.get("channel", "mail") == "mail"
    who = "The relay" if by_mail else "A push service"
    return f"{who} refused the {what} to {line.name(line.facts.get('person'))}{line.quoted('answer', ': ')}."


def _hook_noted(line: _Teller) -> str:
    return f"{line.quoted('said')} by {line.actor}; nothing was done{line.quoted('why', ', because ')}.{line.how}"


def _late_word(word: str) -> Callable[[_Teller], str]:
    return lambda line: f"{line.actor} said {word} after it was closed.{line.how}"


def _tell_policy_waits(line: _Teller) -> str:
    policy = line.facts.get("policy", line.facts.get("ladder"))
    return f"Nobody is called before {line.facts.get('until')}: the policy {_plain(str(policy))} has its hours."


def _tell_unknown_event(line: _Teller) -> str:
    facts = json.dumps(dict(line.facts), ensure_ascii=False, default=str)
    return f"Recorded: {inline(line.event)} by {line.actor}, {inline(facts, 2000)}."


def _severity_set(line: _Teller) -> str:
    before, policy = line.facts.get("before"), line.quoted("policy", " It follows the policy ", " now.")
    was = f" It was S{before}." if before else ""
    return f"{line.actor} graded it S{line.facts.get('severity')}.{was}{policy}{line.how}"


def _severity_raised(line: _Teller) -> str:
    level, policy = line.facts.get("severity"), line.quoted("policy", " It follows the policy ", " now.")
    rules = ", ".join(str(each) for each in line.facts.get("rules") or ())
    return (
        f"The reporter's words raised it: S{level or '-'}.{policy}{f' Rules of [[triage]]: {rules}.' if rules else ''}"
    )


_SENTENCES: Mapping[str, Callable[[_Teller], str]] = {
    "people.paged": _paged,
    "sla.breached": _breached,
    "shift.changed": _shift_changed,
    "incident.acked": _acked,
    "incident.taken": _taken,
    "ack.repeated": lambda line: f"{line.actor} said yes too; somebody had it already.{line.how}",
    "ack.late": _late_word("yes"),
    "take.undone": lambda line: (
        f"{line.actor} undid taking it; {line.name(line.facts.get('holder'))} has it again.{line.how}"
    ),
    "resolve.undone": lambda line: f"{line.actor} undid closing it; it is not closed.{line.how}",
    "ack.undone": lambda line: f"{line.actor} undid the acknowledgement; it counts as never made.{line.how}",
    "hook.noted": _hook_noted,
    "take.late": _late_word("take"),
    "hand_over.late": _late_word("whom to hand it to"),
    "resolve.late": _late_word("to close it"),
    "person.declined": _declined,
    "incident.escalated": lambda line: f"{line.actor} escalated.{line.how}",
    "person.unreachable": _unreachable,
    "person.reached": lambda line: f"A page reached {line.name(line.facts.get('person'))} after all.",
    "policy.waits": _tell_policy_waits,
    "ladder.waits": _tell_policy_waits,  # its name in what was written before
    "steps.held": lambda line: f"Nothing is due before {line.facts.get('until')}:{line.quoted('why', ' ')}.",
    "holder.reminded": _reminded,
    "holder.silent": _silent,
    "manager.called": _silent,  # as it was called before
    "incident.offered": lambda line: f"{line.actor} offers it to {line.name(line.facts.get('to'))}.{line.how}",
    "incident.resolved": _resolved,
    "issue.closed_by_other": lambda line: f"This issue was closed by {line.actor}. The incident stays open.",
    "issue.altered": _altered,
    "issue.went": _went,
    "storm.began": _storm_began,
    "storm.grew": _storm_grew,
    "storm.split": _storm_split,
    "storm.left": _storm_left,
    "sender.checked": _sender_checked,
    "issue.reopened": lambda line: (
        f"This issue was opened again by {line.actor}. The incident stays closed; who had it last was told."
    ),
    "incident.reopened": _reopened,
    "thread.more": _more,
    "severity.set": _severity_set,
    "severity.raised": _severity_raised,
    "mail.attached": _attached,
    "report.amended": _amended,
    "more.amended": _more_amended,
    "incident.has_policy": lambda line: (
        "Read in full, it does not look like a machine's mail: people are called for it until somebody answers."
    ),
    "person.wrote": _wrote,
    "conversation.said": _tell_sent_to_reporter,
    "conversation.unsent": _tell_not_sent_to_reporter,
    "conversation.refused": lambda line: (
        f"The reporter's mail server refused what {line.actor} wrote{line.quoted('answer', ': ')}."
    ),
    "mail.resent": _resent,
    "mail.automatic": _automatic,
    "link.revoked": lambda line: (
        f"The link of {line.name(line.facts.get('person'))} acts no more: it stood in a mail of {line.actor}. "
        "Its owner has a new one."
    ),
    "page.refused": _refused,
    "tell.refused": _refused,
}
