"""The story: who does what, and what must come of it.

Each scene waits for what it tells, and only then tells it; so the order here is the order things must come in. The
waits are generous against a slow machine: what is promised within seconds is given seconds more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

from panicmail.sandbox.demo.failure import require
from panicmail.sandbox.demo.stage import ANA, MAX, PANIC, RITA, Stage
from panicmail.sandbox.demo.telling import Moment, Telling
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import Received

#: Seconds for what is promised at once.
SOON = 12.0

REPORT = """\
All my files end in .locked and Slack is gone.
A note on the screen says: pay at http://pay.example.net/now
I am at my desk. My mobile is +49 171 3920003.

Rita
"""
RANSOM_NOTE = "Your files are ours. Do not call anybody.\n"


class Story:
    """One panic, from the report to its end."""

    def __init__(self, stage: Stage, telling: Telling) -> None:
        self._stage = stage
        self._telling = telling
        self._moments: list[Moment] = []
        self._beat = min(2.0, stage.sla / 15)  #: time to read a short card, in seconds
        self.ref = ""
        self.link = ""  #: Max's page of the incident
        self.issue: dict[str, Any] = {}

    def play(self) -> None:
        """Tell it from the first mail to the reckoning.

        Raises:
            Failed: Something that was to come did not.
        """
        self._opening()
        page = self._report_and_page()
        self._issue()
        receipt = self._receipt()
        self._empty_reply(page)
        self._reminder()
        call = self._breach()
        self._answer(call)
        self._more(receipt, call)
        self._close(call)
        told = ToldIncident(ref=self.ref, link=self.link, iid=self.issue["iid"])
        reckon(self._stage, self._telling, told, self._moments)

    # -- the scenes

    def _opening(self) -> None:
        stage = self._stage
        relay = stage.relay.url.removeprefix("smtp://")
        self._telling.title("panicmail demo", f"15 minutes are {stage.sla} seconds here. Nothing leaves this machine.")
        self._telling.facts(
            [
                ("GitLab", f"a sandbox; its issues: {stage.gitlab.url}/"),
                (
                    "mail relay",
                    f"a sandbox, {relay}; its mails: {stage.relay.web_url}/",
                ),
                ("panicmail", f"the real daemon, process {stage.daemon.pid}, SMTP at 127.0.0.1:{stage.smtp_port}"),
                ("on call", "Ana Reyes, security engineer (SEOC); Max Okafor, security manager (SMOC)"),
            ]
        )

    def _report_and_page(self) -> Received:
        telling, stage = self._telling, self._stage
        telling.context("Rita's files are being encrypted. Rita writes to panic@example.com.")
        message = _report()
        fields = [(name, str(message[name])) for name in ("From", "To", "Subject")]
        telling.card("Rita's mail", [*fields, ("Attached", "READ_ME.txt")], REPORT)
        stage.rest(self._beat)
        reply = stage.report(message)
        self.ref = reply.rpartition(" ")[2]
        telling.start_clock(lambda: stage.seconds, stage.sla)
        stage.waiting = telling.tick
        self._happened(0.0, f'"{reply}": it is on disk, and the clock starts')
        page = stage.mail(ANA, f"[PANIC {self.ref}]", "Ana's page", SOON)
        self._happened(stage.arrived_at(page), "Ana is paged")
        self._card("The page, as Ana reads it", page)
        return page

    def _issue(self) -> None:
        stage = self._stage
        issue = self.issue = stage.until("the GitLab issue", self._find_issue, SOON)
        assignee = ", ".join(user["username"] for user in issue["assignees"]) or "nobody"
        require(issue["confidential"], "the issue is not confidential")
        require(assignee == "ana", f"the issue is assigned to {assignee}, not to ana")
        stage.until("the upload of the mail and what was attached", lambda: len(stage.gitlab.uploads) >= 2, SOON)
        at = stage.since_accepted(datetime.fromisoformat(issue["created_at"]))
        self._happened(at, f"Issue #{issue['iid']} is there, confidential, assigned to @{assignee}")
        fields = [
            ("Title", issue["title"]),
            ("Kind", f"{issue['issue_type']}, confidential"),
            ("Labels", ", ".join(issue["labels"])),
            ("Assignee", f"@{assignee}"),
            ("Files", ", ".join(upload["name"] for upload in stage.gitlab.uploads)),
            ("Look", issue["web_url"]),
        ]
        self._telling.issue("The issue in GitLab", fields, issue["description"].partition("\n### Attachments")[0])
        stage.rest(2 * self._beat)

    def _receipt(self) -> Received:
        stage = self._stage
        receipt = stage.mail(RITA, "Re: ", "Rita's receipt", SOON)
        self._happened(stage.arrived_at(receipt), "Rita has the receipt")
        self._card("The receipt, as Rita reads it", receipt)
        return receipt

    def _empty_reply(self, page: Received) -> None:
        stage = self._stage
        stage.rest_until(stage.sla * 0.4)
        self._telling.context("Ana's phone answers by itself, with an empty mail. That must not stop the clock.")
        stage.send(_reply(page, ANA, ""), ANA, _reply_to(page))
        self._happened(stage.seconds, "An empty reply comes from Ana")
        answer = stage.mail(ANA, f"[{self.ref}] Clock still running", "the answer to Ana's empty reply", SOON)
        self._happened(stage.arrived_at(answer), "The clock runs on; Ana is told why, and what to write")
        self._card("What Ana is told", answer, lines=5)

    def _reminder(self) -> None:
        stage = self._stage
        reminder = stage.mail(ANA, f"[PANIC {self.ref}] STILL OPEN", "Ana's reminder", stage.sla / 2 + SOON)
        self._happened(stage.arrived_at(reminder), "Nobody has answered: Ana is paged again")
        self._card("The reminder", reminder, lines=3)

    def _breach(self) -> Received:
        stage = self._stage
        call = stage.mail(MAX, f"[PANIC {self.ref}] YOURS NOW", "the call to Max", stage.sla / 2 + SOON)
        self._telling.context(
            f"{stage.sla} seconds without an answer: the service level is broken, the manager is called."
        )
        self._happened(stage.arrived_at(call), "Max is called")
        self._card("The page, as Max reads it", call)
        self.link = _link(call)
        again = stage.mail(ANA, f"[PANIC {self.ref}]", "Ana's third page", SOON)
        self._happened(stage.arrived_at(again), "Ana is paged a third time")
        news = stage.mail(RITA, "Re: ", "word to Rita that nobody answered yet", SOON)
        self._happened(stage.arrived_at(news), "Rita is told that nobody has answered yet")
        self._card("What Rita is told", news, lines=3)
        return call

    def _answer(self, call: Received) -> None:
        stage = self._stage
        # Before the last step is repeated, half an SLA after it was taken.
        stage.rest(min(4.0, stage.sla / 5))
        self._telling.context('Max is awake and replies "on it".')
        stage.send(_reply(call, MAX, "on it"), MAX, _reply_to(call))
        self._happened(stage.seconds, 'Max replies "on it"')
        answer = stage.mail(MAX, f"[{self.ref}] Clock stopped", "the confirmation to Max", SOON)
        self._telling.stop_clock()
        self._happened(stage.arrived_at(answer), "The clock is stopped; Max has it in writing")
        self._card("What Max is told", answer, lines=8)
        word = stage.mail(ANA, f"[{self.ref}]", "word to Ana that Max has it", SOON)
        self._happened(stage.arrived_at(word), "Ana may sleep on")
        self._card("What Ana is told", word, lines=3)
        news = stage.mail(RITA, "Re: ", "word to Rita that somebody has it", SOON)
        self._happened(stage.arrived_at(news), "Rita knows that somebody has it")
        self._card("What Rita is told", news, lines=2)

    def _more(self, receipt: Received, call: Received) -> None:
        stage = self._stage
        self._telling.context("Rita answers the receipt. That is no second incident: it goes to whoever has it.")
        text = "Kim's laptop shows the same note now."
        stage.send(_reply(receipt, "Rita Lopez <rita@example.com>", text), RITA, _reply_to(receipt))
        self._happened(stage.seconds, "Rita writes more")
        word = stage.mail(MAX, f"[{self.ref}]", "Rita's second mail to Max", SOON)
        self._happened(stage.arrived_at(word), "Max has it, and so has the issue")
        self._card("What Max is told", word, lines=10)
        stage.until(
            "the note about Rita's second mail", lambda: notes_saying(stage.gitlab, self.issue["iid"], "Kim"), SOON
        )

    def _close(self, call: Received) -> None:
        stage = self._stage
        self._telling.context('The laptops are off the network. Max replies "resolve".')
        stage.send(_reply(call, MAX, "resolve"), MAX, _reply_to(call))
        self._happened(stage.seconds, 'Max replies "resolve"')
        answer = stage.mail(MAX, f"[{self.ref}]", "the confirmation that it is closed", SOON)
        self._happened(stage.arrived_at(answer), "It is closed")
        word = stage.mail(ANA, f"[{self.ref}] Closed", "word to Ana that it is closed", SOON)
        self._happened(stage.arrived_at(word), "Ana is told so")
        news = stage.mail(RITA, "Re: ", "word to Rita that it is over", SOON)
        self._happened(stage.arrived_at(news), "Rita is told, and how to open it again")
        self._card("What Rita is told", news, lines=2)

    def _find_issue(self) -> dict[str, Any] | None:
        return next(iter(self._stage.gitlab.issues), None)

    # -- telling

    def _happened(self, at: float, what: str) -> None:
        self._moments.append(Moment(at, what))
        self._telling.happened(at, what)

    def _card(self, heading: str, mail: Received, lines: int | None = None) -> None:
        fields = [("To", ", ".join(mail.recipients)), ("Subject", mail.subject)]
        self._telling.card(heading, fields, mail.text, lines=lines)
        self._stage.rest(self._beat if lines else 2 * self._beat)


def _report() -> EmailMessage:
    message = _message("Rita Lopez <rita@example.com>", PANIC, "Ransom note on my laptop")
    message.set_content(REPORT)
    message.add_attachment(RANSOM_NOTE, filename="READ_ME.txt")
    return message


def _reply(to: Received, sender: str, text: str) -> EmailMessage:
    """A reply as a mail program writes it, with what it answers quoted below; wholly empty without `text`."""
    message = _message(sender, _reply_to(to), f"Re: {to.subject}")
    message["In-Reply-To"] = message["References"] = to.header("Message-ID")
    quoted = "".join(f"> {line}\n" for line in to.text.splitlines())
    message.set_content(f"{text}\n\nOn Sunday, Panic wrote:\n{quoted}" if text else "")
    return message


def _message(sender: str, recipient: str, subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, recipient, subject
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain="mail.example.com")
    return message


def _reply_to(mail: Received) -> str:
    """Where an answer to a mail goes: the address alone."""
    found = re.search(r"[^\s<>]+@[^\s<>]+", mail.header("Reply-To") or mail.header("From"))
    return found[0] if found else PANIC


def _link(mail: Received) -> str:
    found = re.search(r"https?://\S+/i/\S+", mail.text)
    return found[0] if found else ""


# -- The end of the story: what was told against what panicmail recorded, and that nothing else came.

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
