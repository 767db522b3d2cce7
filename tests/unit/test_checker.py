"""The checker itself: histories made by hand that break each invariant, and a short run of the real thing."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from tests.checker import invariants, record
from tests.checker.figures import figures
from tests.checker.history import Event
from tests.checker.invariants import Check, violations
from tests.checker.record import IncidentRow, Issue, Line, MailRow, Outbound, Record, State, Terms
from tests.checker.spans import Downtime, complement, downtime, faults, union
from tests.checker.stage import Plan, play
from tests.checker.stores import Postgres, Sqlite

TERMS = Terms(
    sla=8.0,
    repeat=3.0,
    steps=(0.0, 4.0, 8.0),
    people={"ana": "ana@example.com", "bo": "bo@example.com", "max": "max@example.com"},
    smoc="max",
)
#: Long after everything.
END = 300.0


@dataclass
class Case:
    """A run with one panic that went well: accepted at 1, Ana paged, Ana's at 5, resolved at 6. Tests break it."""

    events: list[Event] = field(default_factory=list)
    mails: list[MailRow] = field(default_factory=list)
    incidents: list[IncidentRow] = field(default_factory=list)
    timeline: list[Line] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    outbound: list[Outbound] = field(default_factory=list)
    terms: Terms = TERMS

    # -- what happens

    def event(self, at: float, process: str, what: str, **facts: Any) -> None:
        self.events.append(Event(at, process, what, facts))

    def sent(self, at: float, uid: str, incident: str | None, kind: str = "panic", process: str = "reporter",
             **facts: Any) -> MailRow:  # fmt: skip
        """A mail that got its 250 at once; its row."""
        row = MailRow(id=f"mail-{uid}", ref=f"REF{uid}", uid=uid, accepted_at=at, state="understood", attempts=1,
                      incident=incident)  # fmt: skip
        about = {"kind": kind, "attempt": 1, "sender": f"{uid}@example.com", "to": "panic@example.com", **facts}
        self.event(at, process, "invoke", uid=uid, **about)
        self.event(at + 0.01, process, "ok", uid=uid, code=250, ref=row.ref)
        self.mails.append(row)
        return row

    def line(self, at: float, event: str, actor: str = "panicmail", **facts: Any) -> None:
        self.timeline.append(Line(id=len(self.timeline), incident="i1", at=at, event=event, actor=actor, facts=facts))

    def paged(self, at: float, *people: str, step: int = 1, is_taken: bool = True, **facts: Any) -> None:
        """A round of pages, as the timeline has it, and as the relay took it."""
        self.line(at, "people.paged", people=dict.fromkeys(people, "seoc"), step=step, **facts)
        if is_taken:
            for person in people:
                self.page(at + 0.1, person)

    def page(self, at: float, person: str, message_id: str = "") -> None:
        address = TERMS.people[person]
        self.outbound.append(
            Outbound(
                at=at,
                recipients=(address,),
                mail_from="panic+b@example.com",
                subject="[PANIC R1] Panic p1",
                message_id=message_id or f"<{person}-{at}@panic.example.com>",
                reply_to=f"panic+{person}@example.com",
                page_of="R1",
            )
        )

    def answer(self, at: float, person: str, says: str, uid: str, **facts: Any) -> None:
        about = {"says": says, "incident_ref": "R1", "to": f"panic+{person}@example.com", **facts}
        self.sent(at, uid, "i1", "answer", person, **about)

    def acked(self, at: float, person: str) -> None:
        self.line(at, "incident.acked", person, how=f"reply from {TERMS.people[person]}")

    def harm(self, begin: float, end: float, fault: str) -> None:
        number = len(self.events)
        self.event(begin, "nemesis", "begins", fault=fault, number=number)
        self.event(end, "nemesis", "ends", fault=fault, number=number)

    # -- what is changed of what is there

    def incident(self, **changed: Any) -> None:
        self.incidents[0] = replace(self.incidents[0], **changed)

    def cut(self, event: str) -> None:
        """The timeline ends before this."""
        at = next(index for index, line in enumerate(self.timeline) if line.event == event)
        del self.timeline[at:]

    def record(self) -> Record:
        state = State(
            mails=tuple(self.mails),
            incidents=tuple(self.incidents),
            timeline=tuple(self.timeline),
            issues=tuple(self.issues),
            outbound=tuple(self.outbound),
        )
        return Record(terms=self.terms, events=sorted(self.events, key=lambda event: event.at), state=state)

    def says(self, check: Check) -> str:
        return "\n".join(check(self.record()))


@pytest.fixture
def case() -> Case:
    case = Case()
    case.event(0.0, "node-0", "started")
    case.event(0.5, "node-0", "ready")
    panic = case.sent(1.0, "p1", "i1")
    case.incidents.append(
        IncidentRow(
            id="i1",
            ref="R1",
            mail=panic.id,
            state="resolved",
            accepted_at=1.0,
            sla_at=9.0,
            holder="ana",
            acked_at=5.0,
            issue=41,
        )
    )
    case.line(1.1, "incident.opened", "p1@example.com")
    case.paged(1.1, "ana", "bo")
    case.answer(4.9, "ana", "yes", "a1")
    case.acked(5.0, "ana")
    case.answer(5.9, "ana", "resolve", "a2")
    case.line(6.0, "incident.resolved", "ana")
    case.issues.append(Issue(iid=41, incident="i1", is_open=True, notes=("panicmail:i1/1",)))
    case.event(END - 1, "node-0", "terminated")
    case.event(END, "node-0", "ended", status=0, was_ready=True, seconds=1.0)
    return case


@pytest.fixture
def unanswered(case: Case) -> Case:
    """The same panic, with nobody's answer; Ana and Bo were paged once."""
    case.cut("incident.acked")
    case.incident(state="open", holder=None, acked_at=None)
    case.line(9.1, "sla.breached")
    return case


def test_a_run_that_went_well_breaks_nothing(case: Case) -> None:
    assert violations(case.record()) == {}


def test_every_check_belongs_to_one_invariant() -> None:
    listed = [check for checks in invariants.INVARIANTS.values() for check in checks]
    written = [one for one in vars(invariants).values() if inspect.isfunction(one) and is_check(one)]
    assert sorted(check.__name__ for check in listed) == sorted(check.__name__ for check in written)


def is_check(function: FunctionType) -> bool:
    return function.__annotations__ == {"record": "Record", "return": "Iterator[str]"}


# -- I1


KEPT = invariants.every_accepted_mail_belongs_to_one_incident


def test_a_mail_with_a_250_that_is_nowhere_is_lost(case: Case) -> None:
    case.event(7.0, "reporter", "invoke", uid="p2", kind="panic", sender="x@example.com")
    case.event(7.1, "reporter", "ok", uid="p2", ref="REFp2")
    assert "LOST: p2" in case.says(KEPT)
    assert figures(case.record())["lost"] == 1


def test_a_second_250_for_the_same_mail_needs_a_row_of_its_own(case: Case) -> None:
    case.event(7.1, "reporter", "ok", uid="p1", ref="ANOTHER")
    assert "LOST: p1 got a 250 as ANOTHER" in case.says(KEPT)


def test_a_mail_that_was_understood_belongs_to_an_incident(case: Case) -> None:
    case.sent(7.0, "p2", None)
    assert "p2 (REFp2) was understood and belongs to no incident" in case.says(KEPT)


def second_incident(case: Case, uid: str, opened_at: float) -> None:
    """A copy of a mail that opened an incident of its own."""
    copy = replace(case.sent(opened_at, f"{uid}-again", "i2"), uid=uid)
    case.mails[-1] = copy
    case.events = [event for event in case.events if event.facts.get("uid") != f"{uid}-again"]
    case.incidents.append(replace(case.incidents[0], id="i2", ref="R2", mail=copy.id, accepted_at=opened_at))
    case.timeline.append(Line(id=99, incident="i2", at=opened_at, event="incident.opened"))


def test_the_same_mail_is_not_in_two_incidents_while_the_first_is_unresolved(case: Case) -> None:
    second_incident(case, "p1", 3.0)
    assert "p1 is in two incidents, R1 and R2" in case.says(KEPT)


def test_the_same_mail_may_open_another_incident_once_the_first_is_resolved(case: Case) -> None:
    second_incident(case, "p1", 7.0)
    assert case.says(KEPT) == ""


def test_more_in_a_thread_belongs_to_the_incident_of_its_thread(case: Case) -> None:
    case.sent(2.0, "m1", "i1", "more", about="p1")
    assert case.says(KEPT) == ""
    second_incident(case, "p1", 7.0)
    case.incidents.append(replace(case.incidents[0], id="i3", ref="R3"))
    case.sent(8.0, "m2", "i3", "more", about="p1")
    assert case.says(KEPT) == "m2, more about p1, went to R3"


def test_an_answer_belongs_to_the_incident_of_its_page(case: Case) -> None:
    case.answer(4.0, "bo", "no", "a3", incident_ref="R9")
    assert "a3, an answer about R9, went to R1" in case.says(KEPT)


def test_an_incident_was_opened_by_a_mail_that_was_sent(case: Case) -> None:
    nowhere = invariants.no_incident_comes_from_nowhere
    case.mails.append(replace(case.mails[0], id="x", ref="REFX", uid=""))
    assert case.says(nowhere) == "the mail REFX (no uid) was never sent"
    del case.mails[-1]
    case.incident(mail="mail-a1")
    case.mails[1] = replace(case.mails[1], incident="i9")
    assert "R1 was opened by a1, which belongs to i9" in case.says(nowhere)
    case.incident(mail="gone")
    assert case.says(nowhere) == "R1 has no mail"


def test_a_5xx_for_a_panic_is_a_violation(case: Case) -> None:
    case.event(7.0, "reporter", "rejected", uid="p1", code=554, text="5.0.0 no")
    assert "p1 was refused at 7.00: 554" in case.says(invariants.no_mail_is_refused_for_good)


# -- I2


PAGED = invariants.every_incident_is_paged_in_time


def test_a_first_page_after_a_minute_is_late_unless_it_was_downtime(case: Case) -> None:
    case.outbound = []
    case.page(70.0, "ana")
    assert "R1, accepted at 1.00, was first paged 69.0 s later" in case.says(PAGED)
    case.harm(20.0, 30.0, "relay.4xx")
    assert case.says(PAGED) == ""


def test_gitlab_being_away_excuses_no_late_page(case: Case) -> None:
    case.outbound = []
    case.page(70.0, "ana")
    case.harm(20.0, 30.0, "gitlab.down")
    assert "late" in case.says(PAGED) or "later" in case.says(PAGED)


def test_an_incident_without_a_page_is_judged_when_its_time_is_up(case: Case) -> None:
    case.outbound = []
    assert "R1, accepted at 1.00, was never paged" in case.says(PAGED)
    case.events = [event for event in case.events if event.at < 50]
    assert case.says(PAGED) == ""


# -- I3


SMOC = invariants.the_smoc_is_paged_when_nobody_answers


def test_the_smoc_is_paged_within_half_a_minute_of_the_sla(unanswered: Case) -> None:
    assert "no page to the SMOC between its SLA (9.00) and 39.00" in unanswered.says(SMOC)
    unanswered.page(40.0, "max")
    assert "no page to the SMOC" in unanswered.says(SMOC), "too late"
    unanswered.page(38.0, "bo")
    assert "no page to the SMOC" in unanswered.says(SMOC), "Bo is not the SMOC"
    unanswered.page(38.9, "max")
    assert unanswered.says(SMOC) == ""


def test_downtime_after_the_sla_is_not_held_against_the_page_to_the_smoc(unanswered: Case) -> None:
    unanswered.page(45.0, "max")
    unanswered.harm(20.0, 30.0, "database.stop")
    assert unanswered.says(SMOC) == ""


def test_an_acknowledgement_before_the_smoc_was_due_needs_no_page_to_the_smoc(case: Case) -> None:
    assert case.says(SMOC) == ""


def test_a_smoc_who_said_no_or_cannot_be_reached_for_good_is_passed_over(unanswered: Case) -> None:
    unanswered.line(10.0, "person.unreachable", person="max", why="no channel accepted the page")
    assert "no page to the SMOC" in unanswered.says(SMOC), "that page is still on its way"
    unanswered.line(11.0, "person.unreachable", person="max", why="the page bounced (5.1.1)")
    assert unanswered.says(SMOC) == ""


def test_a_reopened_incident_has_an_sla_of_its_own(case: Case) -> None:
    case.page(2.0, "max")
    case.line(50.0, "incident.reopened", "p1@example.com")
    assert "between its SLA (58.00) and 88.00" in case.says(SMOC)
    case.page(60.0, "max")
    assert case.says(SMOC) == ""


def test_an_sla_that_passed_unanswered_is_recorded_as_a_breach(unanswered: Case) -> None:
    assert unanswered.says(invariants.a_breach_is_on_record) == ""
    unanswered.cut("sla.breached")
    assert "no breach recorded" in unanswered.says(invariants.a_breach_is_on_record)


# -- I4


EVIDENCE = invariants.only_a_persons_yes_acknowledges


def forget(case: Case, uid: str) -> None:
    case.events = [event for event in case.events if event.facts.get("uid") != uid]


@pytest.mark.parametrize(
    ("person", "facts"),
    [
        ("ana", {"says": "no"}),
        ("ana", {"says": "empty"}),
        ("bo", {"says": "yes"}),
        ("ana", {"says": "yes", "to": "panic@example.com"}),
        ("ana", {"says": "yes", "to": "panic+bo@example.com"}),
        ("ana", {"says": "yes", "at": 5.5}),
    ],
)
def test_nothing_but_their_own_yes_to_their_own_page_is_evidence(
    person: str, facts: dict[str, Any], case: Case
) -> None:
    forget(case, "a1")
    forget(case, "a2")
    answer = {"at": 4.0, **facts}
    case.answer(person=person, uid="a3", **answer)
    assert "R1 was acknowledged by ana at 5.00, who never said yes" in case.says(EVIDENCE)


def test_a_yes_to_a_call_for_a_copy_in_a_spool_is_evidence_for_its_incident(case: Case) -> None:
    forget(case, "a1")
    copy = case.sent(2.0, "p1-again", "i1")
    case.page(2.5, "ana")
    case.outbound[-1] = replace(case.outbound[-1], page_of=copy.ref, reply_to="panic+copy@example.com")
    case.answer(4.0, "ana", "yes", "a3", incident_ref=copy.ref, to="panic+copy@example.com")
    assert case.says(EVIDENCE) == ""
    assert case.says(KEPT) == ""


def test_a_yes_that_panicmail_never_kept_is_no_evidence(case: Case) -> None:
    case.mails = [mail for mail in case.mails if mail.uid not in ("a1", "a2")]
    assert "who never said yes" in case.says(EVIDENCE)


def test_an_acknowledgement_says_how_it_was_made(case: Case) -> None:
    case.timeline = [replace(line, facts={}) if line.event == "incident.acked" else line for line in case.timeline]
    assert "nothing says how" in case.says(EVIDENCE)


def test_an_incident_somebody_has_has_an_entry_of_it(unanswered: Case) -> None:
    unanswered.incident(state="acked", holder="ana")
    assert "R1 is acked, and nobody is on record for it" in unanswered.says(EVIDENCE)


def test_a_yes_with_a_250_comes_to_something(case: Case) -> None:
    heard = invariants.every_yes_is_heard
    case.answer(6.5, "bo", "yes", "a3")
    assert case.says(heard) == "a3, a yes of bo for R1, came to nothing"
    case.line(6.6, "ack.late", "bo")
    assert case.says(heard) == ""


def test_a_yes_that_was_read_byte_by_byte_acknowledges_nothing(case: Case) -> None:
    case.answer(6.5, "bo", "yes", "a3")
    case.mails[-1] = replace(case.mails[-1], attempts=3)
    assert case.says(invariants.every_yes_is_heard) == ""


# -- I5


POLICY = invariants.nobody_is_paged_beyond_the_policy
TWICE = invariants.nothing_is_sent_twice_without_a_cause


def test_a_page_without_its_line_in_the_timeline_is_one_too_many(case: Case) -> None:
    case.page(3.0, "bo")
    assert "R1: bo got 2 different pages; the timeline has 1" in case.says(POLICY)


def test_a_copy_of_a_page_is_not_another_page(case: Case) -> None:
    case.page(3.0, "bo", case.outbound[1].message_id)
    assert case.says(POLICY) == ""


def test_a_policy_has_as_many_steps_as_it_has_and_repeats_that_fit(unanswered: Case) -> None:
    unanswered.events = [event for event in unanswered.events if event.at < 20]
    unanswered.event(21.0, "run", "ends")
    for at in (5.1, 9.1, 12.1, 15.1, 18.1):
        unanswered.paged(at, "ana", step=2 if at < 9 else 3)
    assert unanswered.says(POLICY) == ""
    for at in range(10, 16):
        unanswered.paged(5.0 + at / 10, "ana", step=2)
    assert "R1: 12 steps in 20.0 s, the policy has 10" in unanswered.says(POLICY)


def test_the_last_step_is_not_repeated_before_its_time_unless_somebody_caused_it(unanswered: Case) -> None:
    unanswered.paged(9.2, "max", step=3)
    unanswered.paged(10.0, "ana", step=3, cause={"declined_by": "max"})
    assert unanswered.says(POLICY) == ""
    unanswered.paged(11.0, "ana", step=3)
    assert "paged at 10.00 and again at 11.00, too soon for a repeat" in unanswered.says(POLICY)


def test_people_are_called_from_memory_once_for_an_outage_by_each_node(case: Case) -> None:
    called = invariants.nobody_is_called_from_memory_without_need
    case.page(30.0, "max", "<ma-ag2vpo375fqzfywj-500002-p7pv4l5o4cylfklr@panic.example.com>")
    assert case.says(POLICY) == "", "it is none of the policy's"
    assert case.says(called).startswith("R1: max@example.com called from memory at 30.00, for nothing")
    case.harm(15.0, 29.0, "database.stop")
    assert case.says(called) == ""
    case.outbound.append(case.outbound[-1])
    assert case.says(called) == "R1: max@example.com was called from memory 2 times, with 1 outages"
    case.event(0.5, "node-1", "ready")
    assert case.says(called) == ""


def test_a_mail_is_sent_twice_only_for_a_failure_of_its_own(case: Case) -> None:
    message_id = case.outbound[0].message_id
    case.page(20.0, "ana", message_id)
    assert f"{message_id} was sent at 1.20 and again at 20.00, and nothing had happened" in case.says(TWICE)
    case.harm(2.0, 3.0, "gitlab.down")
    case.harm(2.0, 3.0, "node.reload")
    assert "nothing had happened" in case.says(TWICE), "neither loses a page's outcome"
    case.event(1.5, "node-1", "ended", status=-9, was_ready=True)
    assert case.says(TWICE) == ""
    case.page(30.0, "ana", message_id)
    assert "sent at 20.00 and again at 30.00" in case.says(TWICE), "one kill explains one copy"
    case.harm(19.0, 21.0, "relay.silent")
    assert case.says(TWICE) == ""


# -- I6, I7


ISSUES = invariants.every_incident_has_one_open_issue


def test_an_incident_has_one_open_issue_and_knows_it(case: Case) -> None:
    case.issues.append(Issue(iid=42, incident="i1", is_open=True))
    assert "R1 has the open issues [41, 42]" in case.says(ISSUES)
    case.issues[1] = replace(case.issues[1], is_open=False)
    assert case.says(ISSUES) == "", "a twin that was closed is none"
    case.incident(issue=42)
    assert "R1 says its issue is 42, and it is 41" in case.says(ISSUES)
    case.issues = case.issues[1:]
    assert "R1 has the open issues []" in case.says(ISSUES)


def test_an_issue_belongs_to_an_incident_and_has_each_note_once(case: Case) -> None:
    case.issues[0] = replace(case.issues[0], notes=("panicmail:i1/1", "panicmail:i1/2", "panicmail:i1/1"))
    assert case.says(ISSUES) == "issue 41 has the note panicmail:i1/1 2 times"
    case.issues[0] = Issue(iid=41, incident="i1", is_open=True)
    case.issues.append(Issue(iid=42, incident="", is_open=True))
    assert case.says(ISSUES) == "issue 42 belongs to no incident (no marker)"


def test_mail_to_a_stranger_is_a_violation(case: Case) -> None:
    case.page(3.0, "ana")
    case.outbound[-1] = replace(case.outbound[-1], recipients=("ana@example.com", "eve@elsewhere.example"))
    assert "a mail went to eve@elsewhere.example" in case.says(invariants.mail_goes_to_people_and_reporters_only)


# -- the timeline, the nodes, the end


ORDER = invariants.the_timeline_tells_the_story_in_order


def test_a_line_that_cannot_be_there_is_a_violation(case: Case) -> None:
    case.line(7.0, "people.paged", people={"ana": "seoc"}, step=2)
    case.line(7.1, "incident.acked", "ana", how="again")
    assert case.says(ORDER) == (
        "R1: people.paged at 7.00 while resolved\n"
        "R1: incident.acked at 7.10 while resolved\n"
        "R1 is resolved, and its timeline ends acked"
    )


def test_the_timeline_ends_where_the_incident_is(case: Case) -> None:
    case.incident(state="acked", holder="bo")
    assert case.says(ORDER) == ("R1 is acked, and its timeline ends resolved\nR1 is bo's, and its timeline says ana's")


def test_lines_stand_in_order_of_time_but_for_slow_transactions_on_postgres(case: Case) -> None:
    case.line(5.5, "page.accepted", person="bo")
    assert "page.accepted at 5.50 stands after incident.resolved at 6.00" in case.says(ORDER)
    case.terms = replace(TERMS, at_once=True)
    assert case.says(ORDER) == ""
    case.cut("incident.resolved")
    case.line(4.0, "incident.resolved", "ana")
    assert "incident.resolved at 4.00 stands after incident.acked at 5.00" in case.says(ORDER)


def test_a_node_ends_with_0_in_time_when_told_and_never_by_itself(case: Case) -> None:
    ends = invariants.nodes_end_when_told_and_only_then
    case.event(100.0, "node-1", "started")
    case.event(101.0, "node-1", "terminated")
    case.event(120.0, "node-1", "ended", status=0, was_ready=True, seconds=19.0)
    assert "node-1, told to end, took 19.0 s and ended with 0" in case.says(ends)
    case.event(130.0, "node-1", "started")
    case.event(140.0, "node-1", "ended", status=1, was_ready=True)
    assert "node-1 ended by itself at 140.00 with 1" in case.says(ends)
    case.harm(138.0, 139.0, "database.lock")
    assert "by itself" not in case.says(ends)


def test_work_that_is_left_when_patience_ends_is_a_violation(case: Case) -> None:
    case.event(200.0, "run", "restless", unfinished=["2 open incidents"])
    assert list(violations(case.record())) == ["rest"]
    assert "2 open incidents" in case.says(invariants.everything_came_to_rest)


# -- time


def test_spans_are_joined_and_what_is_between_them_is_free() -> None:
    spans = [(5.0, 6.0), (1.0, 3.0), (2.0, 4.0), (7.0, 7.0)]
    assert union(spans) == [(1.0, 4.0), (5.0, 6.0)]
    assert complement(spans, 0.0, 5.5) == [(0.0, 1.0), (4.0, 5.0)]


def test_a_deadline_moves_by_the_downtime_before_it() -> None:
    down = Downtime([(10.0, 20.0), (25.0, 30.0)])
    assert down.uptime(0.0, 27.0) == 15.0
    assert [down.deadline(0.0, seconds) for seconds in (5.0, 10.0, 14.0, 16.0)] == [5.0, 10.0, 24.0, 31.0]
    assert down.deadline(12.0, 1.0) == 21.0


def test_it_is_downtime_while_no_node_lives(case: Case) -> None:
    case.event(10.0, "node-0", "killed")
    case.event(10.1, "node-0", "ended", status=-9, was_ready=True)
    case.event(12.0, "node-0", "started")
    case.event(13.0, "node-0", "ready")
    case.event(20.0, "node-0", "paused")
    case.event(22.0, "node-0", "continued")
    spans = list(downtime(case.record().events, END).spans)
    assert spans == [(0.0, 0.5), (10.0, 13.0), (20.0, 22.0), (END - 1, END)]


def test_it_is_no_downtime_while_another_node_lives(case: Case) -> None:
    case.event(10.0, "node-0", "killed")
    case.event(13.0, "node-0", "ready")
    case.event(0.5, "node-1", "ready")
    case.event(12.0, "node-1", "terminated")
    assert (12.0, 13.0) in downtime(case.record().events, END).spans
    assert downtime(case.record().events, END).uptime(9.0, 12.0) == 3.0


def test_a_harm_that_never_ended_lasts_to_the_end(case: Case) -> None:
    case.event(290.0, "nemesis", "begins", fault="relay.down", number=1)
    assert faults(case.events, END) == [("relay.down", (290.0, END))]


# -- the record


def test_a_record_that_was_kept_is_judged_as_it_was(unanswered: Case, tmp_path: Path) -> None:
    before = unanswered.record()
    record.save(before, tmp_path)
    after = record.load(tmp_path)
    assert violations(after) == violations(before) != {}
    assert (after.state, after.terms) == (before.state, before.terms)


# -- the real thing


#: A few seconds of it, with harm that needs no more to be mended.
SHORT = Plan(
    seconds=7.0,
    seed=10,
    panic_every=0.8,
    harm_every=1.5,
    patience=12.0,
    harms=("node.kill at once", "node.pause", "relay.4xx", "relay.silent", "gitlab.lost", "client.cut"),
)
#: What is to be done in seconds on a busy machine too; GitLab, and mails that are no pages, may be asked again later.
SOON = ("250", "understood", "pages", "incidents", "spool")


def broken(seen: Record) -> dict[str, list[str]]:
    found = violations(seen)
    late = [said for said in found.pop("rest", []) if any(word in said for word in SOON)]
    return {**found, "rest": late} if late else found


def test_a_short_run_on_sqlite_breaks_nothing(tmp_path: Path) -> None:
    seen, _ = play(SHORT, Sqlite(tmp_path / "node-0"), tmp_path)
    record.save(seen, tmp_path)
    assert broken(seen) == {}, tmp_path
    was_harmed(seen)


@pytest.mark.postgres
@pytest.mark.long
def test_a_short_run_of_two_nodes_on_postgres_breaks_nothing(postgres_url: str, tmp_path: Path) -> None:
    plan = replace(SHORT, nodes=2, harms=(*SHORT.harms, "database.disconnect"))
    seen, _ = play(plan, Postgres(postgres_url), tmp_path)
    record.save(seen, tmp_path)
    assert broken(seen) == {}, tmp_path
    was_harmed(seen)


def was_harmed(seen: Record) -> None:
    """It proves nothing when nothing happened."""
    told = figures(seen)
    assert told["kills"]
    assert told["lost"] == 0
    assert len(seen.state.incidents) > 3
    assert all(seen.pages_of(incident) for incident in seen.state.incidents)
