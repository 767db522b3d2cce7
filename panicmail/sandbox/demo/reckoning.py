"""The end of the story: what was told against what panicmail recorded, and that nothing else came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from panicmail.sandbox.demo.failure import require
from panicmail.sandbox.demo.stage import Stage
from panicmail.sandbox.demo.telling import Moment, Telling
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import Received

#: How many seconds the record of the breach may be off: the clock ticks once a second, and instants are cut to one.
_TICKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldIncident:
    """The incident the story is about."""

    ref: str
    link: str  #: Max's page of it
    iid: int  #: of its issue


def reckon(stage: Stage, telling: Telling, incident: ToldIncident, moments: Sequence[Moment]) -> None:
    """Hold everything against what was told, `moments`, and tell when what happened.

    Raises:
        Failed: Something is not as it was told, or came besides.
    """
    breach = _recorded_breach(stage, incident.ref)
    require(len(stage.daemon.ask("incidents")) == 1, "there is more than one incident")
    require(len(stage.gitlab.issues) == 1, "there is more than one issue")
    require(stage.shows(incident.link), f"the page behind the link in Max's mail is not shown: {incident.link}")
    called, others = _rest_of_the_mails(stage, incident.ref)
    require(not others, "mails came that nobody expected", others)
    again = [Moment(stage.arrived_at(mail), f"{mail.recipients[0]} is called again") for mail in called]
    in_order = sorted([*moments, breach, *again], key=lambda moment: round(moment.at, 1))  # a tenth, as it was told
    telling.table("What happened when, in seconds since the 250", in_order)
    notes = len(notes_saying(stage.gitlab, incident.iid, ""))
    pages = len(stage.relay.all(lambda mail: mail.subject.startswith("[PANIC ")))
    telling.done(
        f"One report, one incident ({incident.ref}), one issue with {notes} internal notes, {pages} pages: "
        "everything that was expected came, and nothing else."
    )


def _recorded_breach(stage: Stage, ref: str) -> Moment:
    shown = stage.daemon.ask("show", ref)
    require(shown["state"] == "resolved", f"the incident is {shown['state']}, not resolved")
    require(shown["breached_at"], "no breach of the service level was recorded")
    at = stage.since_accepted(datetime.fromisoformat(shown["breached_at"]))
    require(abs(at - stage.sla) <= _TICKS, f"the breach was recorded after {at:.0f} s, not {stage.sla}")
    return Moment(max(at, stage.sla), "The service level passes unanswered; the breach is recorded")


def _rest_of_the_mails(stage: Stage, ref: str) -> tuple[list[Received], list[str]]:
    """What came and was not told: the calls of a policy that a slow machine let run on, and all others."""
    untold = stage.take_untold()
    called = [mail for mail in untold if mail.subject.startswith(f"[PANIC {ref}] STILL OPEN")]
    return called, [f"to {mail.recipients[0]}: {mail.subject}" for mail in untold if mail not in called]


def notes_saying(gitlab: SandboxGitLab, iid: int, text: str) -> list[str]:
    """The notes people wrote on an issue that hold `text`."""
    notes = gitlab.notes_of(iid)
    return [note["body"] for note in notes if not note["system"] and text in note["body"]]
