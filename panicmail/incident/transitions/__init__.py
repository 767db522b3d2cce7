"""What happens to an incident: the state table of panicmail, one pure function per event.

Every function takes the incident as it is, what happened and `now`, and answers a `Change`: the incident as it must
be stored, the effects to carry out and the entries for its timeline. All three belong in one transaction, guarded by
the version the incident was read at. Nothing here reads a clock, a roster or a database.

Promises, held by property tests:

* an incident is open exactly when `next_step_at` is set: the policy never ends by itself;
* a step that was taken has one page for each of its people in its round, no more;
* an event that comes twice changes nothing the second time;
* a person who said no, or is away, is passed over as long as anybody else is left, and paged all the same when
  nobody is: silence is never the answer;
* the calling never ends with nobody: where the escalation policy names nobody who can be reached, or only the one who
  has it and is silent, the operators are called, with the panic itself.
"""

from panicmail.incident.transitions.acknowledge import (
    acknowledge,
    decline,
    escalate,
    hand_over,
    reached,
    take,
    unreachable,
)
from panicmail.incident.transitions.escalate import NextCall, called_on_no, holder_gone, next_call, take_due_step
from panicmail.incident.transitions.issue_changed import ISSUE_ALTERED, PutBack, Seen, issue_altered, issue_went
from panicmail.incident.transitions.page_step import call_besides
from panicmail.incident.transitions.reporter_message import (
    WHY,
    Speech,
    Unsent,
    UnsentReason,
    amend,
    amend_more,
    give_policy,
    leave_unsaid,
    refused,
    speak,
    speaks,
)
from panicmail.incident.transitions.resolve import (
    ACTS,
    CLOSED_IN_GITLAB,
    ISSUE_REOPENED,
    IssueClosing,
    MoreMail,
    dated,
    is_known_act,
    is_over,
    issue_closed,
    issue_reopened,
    more,
    overtaken_by,
    own_time,
    resolve,
)
from panicmail.incident.transitions.severity_change import (
    SEVERITY_RAISED,
    SEVERITY_SET,
    RaisedByWords,
    SaidSeverity,
    raise_severity,
    set_severity,
)
from panicmail.incident.transitions.shift_change import (
    ShiftChange,
    StormChange,
    daily_readers,
    gave_somebody,
    goes_along,
    hold_back,
    shift_changed,
    shift_roles,
)
from panicmail.incident.transitions.silent_holder import (
    answers_for,
    called_for_silent,
    is_called_for_silent,
    sign_of_work,
)
from panicmail.incident.transitions.timers import due_at, is_due, new, open_panic, pass_time
from panicmail.incident.transitions.undo import UNDO_WITHIN, Undoing, is_undone, undo, undo_until, undoable

__all__ = [
    "ACTS",
    "CLOSED_IN_GITLAB",
    "ISSUE_ALTERED",
    "ISSUE_REOPENED",
    "SEVERITY_RAISED",
    "SEVERITY_SET",
    "UNDO_WITHIN",
    "WHY",
    "IssueClosing",
    "MoreMail",
    "NextCall",
    "PutBack",
    "RaisedByWords",
    "SaidSeverity",
    "Seen",
    "ShiftChange",
    "Speech",
    "StormChange",
    "Undoing",
    "Unsent",
    "UnsentReason",
    "acknowledge",
    "amend",
    "amend_more",
    "answers_for",
    "call_besides",
    "called_for_silent",
    "called_on_no",
    "daily_readers",
    "dated",
    "decline",
    "due_at",
    "escalate",
    "gave_somebody",
    "give_policy",
    "goes_along",
    "hand_over",
    "hold_back",
    "holder_gone",
    "is_called_for_silent",
    "is_due",
    "is_known_act",
    "is_over",
    "is_undone",
    "issue_altered",
    "issue_closed",
    "issue_reopened",
    "issue_went",
    "leave_unsaid",
    "more",
    "new",
    "next_call",
    "open_panic",
    "overtaken_by",
    "own_time",
    "pass_time",
    "raise_severity",
    "reached",
    "refused",
    "resolve",
    "set_severity",
    "shift_changed",
    "shift_roles",
    "sign_of_work",
    "speak",
    "speaks",
    "take",
    "take_due_step",
    "undo",
    "undo_until",
    "undoable",
    "unreachable",
]
