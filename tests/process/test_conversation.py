"""The conversation: mail is the room, and only the holder and the reporter are in it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from panicmail.delivery import GitLabWorker
from panicmail.errors import Permanent, Unknown
from panicmail.incident import transitions
from panicmail.incident.classify import Report
from panicmail.incident.model import Incident, Owed, State
from panicmail.incident.people import Person
from panicmail.incident.redact import looks_carried
from panicmail.incident.reply_tokens import Addresses, Purpose
from panicmail.mail.parse.bytes_fallback import read_bytes
from tests.attached_files import RITA, with_file
from tests.office import PANIC, PEOPLE, FakeGitLab, InProcess, Office, Posted, mail
from tests.program import world

MINUTE = timedelta(minutes=1)


def where(desk: Office, person: str = "ana") -> str:
    """Where the latest mail to `person` that says so lets them write to the reporter."""
    told = "\n".join(sent.text for sent in desk.sent(person))
    return str(re.findall(r"Write to the reporter: (\S+)\s", told)[-1])


def held(desk: Office, **report: str) -> Incident:
    """A panic that Ana has since a minute later."""
    incident = desk.panic(**report)
    desk.now += MINUTE
    desk.reply(desk.page("ana"), "ack")
    return incident


def says(desk: Office, text: str, *, sender: str = "ana@example.com", to: str = "", **header: str) -> str:
    """A mail to the address where Ana writes to the reporter; its id."""
    return desk.deliver(mail(text, sender=sender, subject="your laptop", **header), sender, [to or where(desk)])


def spoken(desk: Office) -> list[Posted]:
    """What was written to the reporter in somebody's name."""
    return [posted for posted in desk.sent(RITA) if " writes:" in posted.text]


def lines(posted: Posted) -> list[str]:
    return posted.text.splitlines()


# -- the story


def test_the_night_as_the_three_people_see_it(desk: Office) -> None:
    incident = held(desk, text="My files are .locked, Slack is gone.", message_id="<report@example.com>")
    desk.now += MINUTE
    says(desk, "Hello Rita,\nplease pull the network cable.\n\nWhich room are you in?\n\n-- \nAna Reyes, SIRT")
    desk.now += MINUTE
    desk.reply(desk.sent(RITA)[-1], "Room 3.14. The cable is out.", sender=RITA)
    desk.reply(desk.page("ana"), "Looks like the same crew as in May, do not tell anybody yet.")
    ref, address = incident.ref, where(desk)

    receipt, acked, words = desk.sent(RITA)
    assert lines(receipt)[0] == f"We have your report, 02:07 UTC. Reference {ref}."
    assert lines(acked)[0] == f"An engineer acknowledged {ref} at 02:08 UTC and will contact you."
    assert words.subject == f"Re: Ransom note on my laptop [{ref}]"
    assert words.message["From"] == f"Panic <{PANIC}>"
    assert words.message["In-Reply-To"] == "<report@example.com>"
    assert words.reply_to == receipt.reply_to
    assert lines(words) == [
        f"Ana Reyes of the security team writes to you about {ref}. Reply to this mail to answer.",
        "Hotline: +49 30 000000",
        "Ana Reyes writes:",
        "| Hello Rita,",
        "| please pull the network cable.",
        "|",
        "| Which room are you in?",
    ]

    _page, stopped, more, kept = desk.sent("ana")
    assert lines(stopped)[2:6] == [
        f"Write to the reporter: {address}",
        "What you reply to this mail is NOT sent to Rita Lopez; to send it: use that address.",
        "Issue: https://gitlab.example.com/-/issues/1",
        "Show signs of work by 02:28 or you are asked again.",
    ]
    assert more.subject == f"[{ref}] More on: Ransom note on my laptop"
    assert stopped.reply_to != more.reply_to == address, "what answers the reporter's words goes to the reporter"
    assert lines(more) == [
        "Ana: answer with one line by 02:20 UTC, or Max (SMOC) is called.",
        f"There is more on {ref}, by rita example[.]com <rita@example.com>.",
        "Sender: not proved (senders are not checked)",
        "Clock stopped: you have it since 02:08 UTC.",
        "Your reply goes to Rita Lopez.",
        "A command counts there too, as the whole reply and no word more; it is not sent on.",
        f"Without mail: {desk.settings.link(incident.id, 'ana')}",
        "Issue: https://gitlab.example.com/-/issues/1",
        "They write (quoted, untrusted):",
        "| Room 3.14. The cable is out.",
    ]
    assert lines(kept)[:2] == [
        "Clock stopped: you have it since 02:08 UTC. Your mail is kept as a note.",
        f"NOT sent to Rita Lopez; to send it: write to {address}.",
    ]
    assert kept.reply_to == stopped.reply_to
    assert desk.sent("max") == [], "who was not paged is not in the room"

    said, answered, internal = [text for _iid, text, _marker in desk.gitlab.notes][-3:]
    assert "Said to the reporter, `rita@example.com`, by Ana Reyes." in said
    assert "please pull the network cable." in said
    assert "SIRT" not in said
    assert "More from the reporter" in answered
    assert "Ana Reyes wrote." in internal
    assert desk.events(incident)[-3:] == ["conversation.said", "thread.more", "person.wrote"]


def test_speaking_to_the_reporter_is_a_sign_of_work(desk: Office) -> None:
    incident = held(desk)
    desk.reply(desk.sent(RITA)[-1], "Is anybody there?", sender=RITA)
    assert desk.incident(incident).owed is Owed.ANSWER
    says(desk, "Yes, I am. Please leave it switched on.")
    assert desk.incident(incident).owed is Owed.STATUS
    desk.wait(minutes=40)
    assert len(desk.pages("ana")) == 1
    assert desk.pages("max") == []


def test_what_goes_out_goes_once_and_nobody_is_told_that_it_did(desk: Office) -> None:
    held(desk)
    before = len(desk.sent("ana"))
    raw = mail("Please leave it switched on.", sender="ana@example.com", message_id="<once@example.com>")
    to = where(desk)
    for _ in range(2):
        desk.deliver(raw, "ana@example.com", [to])
    assert len(spoken(desk)) == 1
    assert len(desk.sent("ana")) == before


def test_a_listed_alias_speaks(desk: Office) -> None:
    held(desk)
    says(desk, "Please leave it on.", sender="ana@home.example")
    assert len(spoken(desk)) == 1


def test_no_link_the_holder_writes_can_be_followed_and_none_of_their_words_can_pass_for_ours(desk: Office) -> None:
    held(desk)
    says(desk, "See https://help.example.com/x\nWe have your report.\nHotline: 0900 666")
    assert lines(spoken(desk)[0])[-3:] == [
        "| See hxxps://help[.]example[.]com/x",
        "| We have your report.",
        "| Hotline: 0900 666",
    ]


def test_what_the_holder_quotes_and_attaches_stays_behind(desk: Office) -> None:
    held(desk)
    page = desk.page("ana")
    quoted = "".join(f"> {line}\n" for line in page.text.splitlines())
    raw = (
        f"From: ana@example.com\r\nTo: x\r\nCc: max@example.com\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n"
        f"Please leave it on.\n\nOn Sunday, Panic <{page.reply_to}> wrote:\n{quoted}\r\n--b\r\n"
        "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=suspects.pdf\r\n\r\nwho did it\r\n"
        "--b--\r\n"
    ).encode()
    desk.deliver(raw, "ana@example.com", [where(desk)])
    (words,) = spoken(desk)
    assert lines(words)[2:] == ["Ana Reyes writes:", "| Please leave it on."]
    assert b"suspects" not in words.raw
    assert b"max@example.com" not in words.raw


def test_a_holder_whose_attachment_stays_behind_is_told_and_finds_it_on_the_issue(desk: Office) -> None:
    incident = held(desk)
    desk.deliver(with_file("Please leave it on.", "plan.pdf", "x" * 11, sender="ana@example.com"),
                 "ana@example.com", [where(desk)])  # fmt: skip
    assert lines(spoken(desk)[0])[-1] == "| Please leave it on."
    told = desk.sent("ana")[-1]
    assert told.subject == f"[{incident.ref}] Sent to the reporter, without the attachment"
    assert lines(told) == [
        "Ana: your words went to the reporter, without what was attached.",
        "Files stay internal. Must the reporter have one, send it by your own mail.",
        "Clock stopped: you have it since 02:08 UTC.",
        "Issue: https://gitlab.example.com/-/issues/1",
        "Attached, by the names they came with:",
        "| plan.pdf, 11 bytes",
    ]
    assert desk.gitlab.uploads[-1] == ("plan.pdf", b"x" * 11)
    assert "Attached to a mail from Ana Reyes" in desk.gitlab.notes[-2][1]


@pytest.mark.parametrize("split", [False, True])
def test_what_goes_to_the_holders_own_address_as_well_goes_to_nobody_and_the_holder_is_told(
    desk: Office, split: bool
) -> None:
    incident = held(desk)
    internal, outward = desk.page("ana").reply_to, where(desk)
    to = f"To: Panic\r\n <{outward}>\r\nCc: x@example.com,\r\n\t{internal.upper()}\r\n"
    raw = b"From: ana@example.com\r\n" + to.encode() + b"\r\nLooks like the crew of May.\r\n"
    for recipients in [[outward], [internal]] if split else [[internal, outward]]:
        desk.deliver(raw, "ana@example.com", recipients)
        assert spoken(desk) == []
    told = next(lines(sent) for sent in reversed(desk.sent("ana")) if "NOT SENT" in sent.subject)
    assert lines(desk.sent("ana")[-1])[1 if split else 2].startswith("NOT sent to Rita Lopez; to send it: write to ")
    assert told[1] == "Why: it went to your own address as well, and what goes there stays internal."
    assert told[2] == f"NOT sent to Rita Lopez; to send it: write to {outward}, and to nobody else."
    assert "Looks like the crew of May." in desk.gitlab.notes[-1][1]
    assert desk.incident(incident).words_at is None


def test_a_command_counts_at_either_address_of_the_holder_and_so_at_both(desk: Office) -> None:
    incident = held(desk)
    both = [desk.page("ana").reply_to, where(desk)]
    desk.deliver(mail("resolve", sender="ana@example.com"), "ana@example.com", both)
    assert desk.incident(incident).state is State.RESOLVED
    assert spoken(desk) == []


def test_the_address_of_another_incident_or_person_keeps_it_internal_too(desk: Office) -> None:
    other = desk.panic(subject="another")
    held(desk)
    mint = desk.settings.tokens.mint
    for token in (mint(Purpose.ANSWER, other.id, "ana"), mint(Purpose.ANSWER, other.id, "max")):
        both = [desk.settings.addresses.reply_to(token), where(desk)]
        desk.deliver(mail("Please leave it on.", sender="ana@example.com"), "ana@example.com", both)
        assert "stays internal" in unsent(desk)[1]


# -- files that come later


def named(desk: Office) -> tuple[str, str]:
    """The notes that name the files of the latest mail, and that link them."""
    naming, linking = [text for _iid, text, _marker in desk.gitlab.notes][-2:]
    return naming, linking


def test_a_file_of_the_reporters_is_on_the_issue_and_named_to_the_holder(desk: Office) -> None:
    held(desk)
    desk.deliver(with_file("They want money.", "README_LOCKED.png", "y" * 5), RITA, [desk.sent(RITA)[-1].reply_to])
    assert desk.gitlab.uploads[-1] == ("README_LOCKED.png", b"yyyyy")
    naming, linking = named(desk)
    digest = hashlib.sha256(b"yyyyy").hexdigest()
    assert "Attached to a mail from `rita@example.com`" in naming
    assert f"| `README_LOCKED.png` | `image/png` | 5 | `{digest}` |" in naming
    assert f"- [`README_LOCKED.png`](/uploads/2/README_LOCKED.png) SHA-256 `{digest}`" in linking
    assert lines(desk.sent("ana")[-1])[-4:] == [
        "Attached, by the names they came with:",
        "| README_LOCKED.png, 5 bytes",
        "They write (quoted, untrusted):",
        "| They want money.",
    ]


@pytest.mark.parametrize("text", ["", "ack", "Look at this.", "no"])
def test_a_file_of_somebody_paged_is_on_the_issue_whatever_they_write_with_it(desk: Office, text: str) -> None:
    desk.panic()
    desk.deliver(with_file(text, "shot.png", "z", sender="ana@example.com"), "ana@example.com",
                 [desk.page("ana").reply_to])  # fmt: skip
    assert desk.gitlab.uploads[-1] == ("shot.png", b"z")
    naming, linking = named(desk)
    assert "Attached to a mail from Ana Reyes" in naming
    assert "[`shot.png`](/uploads/" in linking


@pytest.mark.parametrize("to", ["the reporter's", "Ana's", "the holder's"])
def test_a_file_of_a_strangers_is_on_the_issue_wherever_in_the_thread_it_came(desk: Office, to: str) -> None:
    held(desk)
    reporters, anas = desk.sent(RITA)[0].reply_to, desk.page("ana").reply_to
    addresses = {"the reporter's": reporters, "Ana's": anas, "the holder's": where(desk)}
    desk.deliver(with_file("x", "run me.exe", "z", sender="eve@evil.example"), "eve@evil.example", [addresses[to]])
    assert desk.gitlab.uploads[-1] == ("run me.exe", b"z")
    assert "Attached to a mail from `eve@evil.example`" in named(desk)[0]


def test_the_raw_message_of_a_later_mail_stays_here_as_whoever_has_its_addresses_could_write(desk: Office) -> None:
    held(desk)
    receipt = desk.sent(RITA)[-1]
    desk.deliver(with_file("x", "a.png", "z", more=f"To: {receipt.reply_to}\r\n"), RITA, [receipt.reply_to])
    assert [name for name, _ in desk.gitlab.uploads] == [f"{desk.incidents()[0].ref}.eml", "a.png"]


@pytest.mark.parametrize("encode", [bytes, lambda raw: raw.replace(b"0-", b"0=\r\n-")])
def test_a_page_that_is_attached_is_named_and_not_uploaded_as_its_link_acts(desk: Office, encode: object) -> None:
    held(desk)
    page = encode(desk.page("ana").raw).decode()  # type: ignore[operator]
    raw = with_file("", "page.eml", page, sender="ana@example.com", kind="message/rfc822")
    desk.deliver(raw, "ana@example.com", [desk.page("ana").reply_to])
    assert [name for name, _ in desk.gitlab.uploads] == [f"{desk.incidents()[0].ref}.eml"]
    naming, linking = named(desk)
    assert "`page.eml`" in naming
    assert "Not uploaded, because they hold an address or a link of panicmail's: `page.eml`." in linking


def test_a_mail_that_only_quotes_a_page_puts_no_link_of_that_page_on_the_issue(desk: Office) -> None:
    incident = held(desk)
    page = desk.page("ana")
    desk.deliver(sent_back(page.raw), "robot@example.com", [page.reply_to])
    desk.reply(page, "")
    assert desk.events(incident)[-3:] == ["mail.automatic", "mail.attached", "person.wrote"]
    quoting = [text for _iid, text, _marker in desk.gitlab.notes if "My files are .locked" in text]
    assert len(quoting) == 2
    assert all("/i/(removed)" in text for text in quoting)
    assert not any(looks_carried(text) for text in quoting)


def test_with_uploads_none_a_file_is_named_and_kept(desk: Office) -> None:
    desk.settings = replace(desk.settings, uploads="none")
    incident = held(desk)
    notes = len(desk.gitlab.notes)
    mail_id = desk.deliver(with_file("x", "a.png", "z"), RITA, [desk.sent(RITA)[-1].reply_to])
    assert desk.gitlab.uploads == []
    said, naming = [text for _iid, text, _marker in desk.gitlab.notes[notes:]]
    assert "More from the reporter" in said
    assert "| `a.png` | `image/png` | 1 |" in naming
    assert f"Not uploaded, by the configuration. Kept by panicmail, in the mail `{mail_id}`." in naming
    assert [task.do for task in desk.store.read(lambda tx: tx.outbox.of_incident(incident.id))].count("files") == 1


def sent_back(page: bytes) -> bytes:
    return (
        b"From: robot@example.com\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nnot read by anybody\r\n--c\r\n"
        b"Content-Type: message/rfc822\r\n\r\n" + page + b"\r\n--c--\r\n"
    )


def test_a_mail_read_byte_by_byte_brings_its_files_all_the_same(desk: Office) -> None:
    held(desk)

    class IsSlow:
        def read(self, raw: bytes, mail_from: str) -> Report:
            return read_bytes(raw, mail_from=mail_from)

    desk.intake._readers = IsSlow()
    desk.deliver(with_file("x", "a.png", "z"), RITA, [desk.sent(RITA)[-1].reply_to])
    assert desk.gitlab.uploads[-1] == ("a.png", b"z")
    assert "[`a.png`](/uploads/" in desk.gitlab.notes[-1][1]
    before = len(desk.gitlab.notes)
    desk.reply(desk.sent(RITA)[-1], "no file here", sender=RITA)
    assert len(desk.gitlab.notes) == before + 1


def test_what_machines_send_back_is_no_file_of_the_incidents(desk: Office) -> None:
    held(desk)
    before = len(desk.gitlab.uploads)
    away = with_file("I am away.", "logo.png", "z", more="Auto-Submitted: auto-replied\r\nSubject: Out of office\r\n")
    desk.deliver(away.replace(b"Subject: Re: x\r\n", b""), "", [desk.sent(RITA)[-1].reply_to])
    desk.deliver(away.replace(b"Subject: Re: x\r\n", b""), "", [desk.page("ana").reply_to])
    assert len(desk.gitlab.uploads) == before
    assert not [text for _iid, text, _marker in desk.gitlab.notes if "logo.png" in text]


def test_an_attempt_that_was_lost_after_its_note_posts_no_second_one(desk: Office) -> None:
    class LosesAnAnswer(FakeGitLab):
        lost_notes = 1

        def note(self, iid: int, text: str, marker: str, *, look: bool) -> None:
            super().note(iid, text, marker, look=look)
            if "The files of the mail" in text and self.lost_notes:
                self.lost_notes -= 1
                raise Unknown("read timed out")

    held(desk)
    desk.gitlab = LosesAnAnswer(issues=desk.gitlab.issues)
    desk.lanes[-1] = GitLabWorker(desk.store, lambda: desk.settings, desk.gitlab, InProcess().parts)
    desk.deliver(with_file("x", "a.png", "z"), RITA, [desk.sent(RITA)[-1].reply_to])
    desk.wait(minutes=1)
    assert [name for name, _ in desk.gitlab.uploads] == ["a.png", "a.png"], "which harms nobody"
    assert sum("The files of the mail" in text for _iid, text, _marker in desk.gitlab.notes) == 1
    assert sum("Attached to a mail" in text for _iid, text, _marker in desk.gitlab.notes) == 1


def test_a_file_gitlab_refuses_is_named_all_the_same_and_the_operators_hear(desk: Office) -> None:
    held(desk)
    desk.gitlab.upload_failures = [Permanent("413 too large")]
    desk.deliver(with_file("x", "a.png", "z"), RITA, [desk.sent(RITA)[-1].reply_to])
    assert "`a.png`" in desk.gitlab.notes[-1][1]
    assert any("413 too large" in posted.text for posted in desk.sent("max"))


def test_a_file_that_opens_a_closed_incident_again_is_on_its_issue(desk: Office) -> None:
    incident = held(desk)
    desk.reply(desk.page("ana"), "resolve")
    desk.deliver(with_file("It is back!", "a.png", "z"), RITA, [desk.sent(RITA)[0].reply_to])
    assert desk.incident(incident).state is State.OPEN
    assert desk.gitlab.uploads[-1] == ("a.png", b"z")


def test_the_program_carries_both_sides_and_logs_no_word_of_them(tmp_path: Path) -> None:
    with world(tmp_path) as town:
        town.start()
        ref = town.panic()
        town.reply(town.page("ana", ref), "ack")
        stopped = town.received("ana", lambda got: "Clock stopped" in got.subject)
        found = re.search(r"Write to the reporter: (\S+)", stopped.text)
        assert found
        raw = mail("Please pull the network cable, and leave it on.", sender="ana@example.com")
        assert town.send(raw, "ana@example.com", found[1]).code == 250
        words = town.received(RITA, lambda got: "Ana Reyes writes:" in got.text)
        assert "| Please pull the network cable, and leave it on." in words.text.splitlines()
        town.reply(words, "It is out, and the light is still blinking.", sender=RITA)
        town.received("ana", lambda got: "| It is out, and the light is still blinking." in got.text)
        town.settled()


# -- what does not go out, and that whoever wrote it is told


def unsent(desk: Office, person: str = "ana") -> list[str]:
    """The lines of the latest mail to `person`, which tells that nothing went out."""
    told = desk.sent(person)[-1]
    assert "NOT SENT" in told.subject, told.subject
    assert lines(told)[0].endswith("your words did not go to the reporter.")
    assert "The text is kept as an internal note on the issue." in lines(told)
    assert spoken(desk) == []
    return lines(told)


@pytest.mark.parametrize(
    ("word", "event"),
    [("Resolve", "incident.resolved"), ("no", "person.declined"), ("to bo", "incident.offered"),
     ("No.", "person.declined"), ("escalate", "incident.escalated"), ("ack", "ack.repeated")],
)  # fmt: skip
def test_a_command_alone_counts_there_and_the_holder_is_told_that_it_was_not_sent(
    desk: Office, word: str, event: str
) -> None:
    incident = held(desk)
    says(desk, word)
    assert event in desk.events(incident)
    assert spoken(desk) == []
    assert lines(desk.sent("ana")[-1])[1].startswith("NOT sent to Rita Lopez; to send it: ")


#: What a holder writes to the reporter; each was, or held, a command.
ANSWERS = [
    "No, leave it on. Take it off the network.",
    "No, sorry.",
    "Nope, do not log in again",
    "Not possible today, sorry",
    "Not now.",
    "Geht nicht",
    "Can't say yet. Wait for me.",
    "Got it. Please stay where you are, I am on my way.",
    "On my way, be there in 10 min",
    "Ok, thanks",
    "Yes\nand take a picture of the screen first",
    "Escalate it to your manager",
    "Close the laptop now",
    "Take it off the network",
    "To the left of the door",
    "Page Bo if you see smoke",
    "Resolved: you can work again",
    "Nein, bitte anlassen.",
    "Non, ne touchez à rien.",
    "No, déjalo encendido",
    "いいえ、電源は切らないでください。",
]


@pytest.mark.parametrize("text", ANSWERS)
def test_what_is_more_than_a_command_goes_to_the_reporter_and_nothing_is_given_away(desk: Office, text: str) -> None:
    incident = held(desk)
    desk.reply(desk.sent(RITA)[-1], "Should I switch it off? Can I use it?", sender=RITA)
    asked = desk.sent("ana")[-1]
    assert "Your reply goes to Rita Lopez." in lines(asked)
    desk.reply(asked, text)
    assert [f"| {line}" for line in text.splitlines()] == lines(spoken(desk)[0])[3:]
    now = desk.incident(incident)
    assert (now.state, now.holder) == (State.ACKED, "ana")


@pytest.mark.parametrize("text", ANSWERS)
def test_the_same_in_reply_to_their_own_page_stays_here_gives_nothing_away_and_they_are_told(
    desk: Office, text: str
) -> None:
    incident = held(desk)
    desk.reply(desk.page("ana"), text)
    assert spoken(desk) == []
    if text.startswith(("Resolved", "Escalate")):  # a command with its reason, at the address of commands
        return
    now = desk.incident(incident)
    assert (now.state, now.holder) == (State.ACKED, "ana")
    if text not in {"Ok, thanks", "On my way, be there in 10 min"}:  # a yes and no word more
        assert lines(desk.sent("ana")[-1])[1] == f"NOT sent to Rita Lopez; to send it: write to {where(desk)}."


@pytest.mark.parametrize("text", ["On it, calling them", "ack", "ok, thanks", "Got it.\nRebooting the VPN."])
def test_while_it_is_open_a_reply_to_the_reporters_words_acknowledges_as_ever(desk: Office, text: str) -> None:
    incident = desk.panic()
    desk.reply(desk.sent(RITA)[0], "Is anybody there?", sender=RITA)
    brought = desk.sent("ana")[-1]
    assert brought.reply_to == desk.page("ana").reply_to
    assert not any(line.startswith("Your reply goes to") for line in lines(brought))
    desk.reply(brought, text)
    assert desk.incident(incident).holder == "ana"


def test_words_to_a_mail_that_came_while_it_was_open_are_not_sent_and_the_writer_is_told(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.sent(RITA)[0], "Should I switch it off?", sender=RITA)
    desk.reply(desk.sent("ana")[-1], "Leave it on, please")
    assert "NOT sent to Rita Lopez; to send it: acknowledge first, then write to the address you are given." in lines(
        desk.sent("ana")[-1]
    )
    desk.reply(desk.page("ana"), "ack")
    desk.reply(desk.sent("ana")[0], "No, leave it on.")
    assert lines(desk.sent("ana")[-1])[1] == f"NOT sent to Rita Lopez; to send it: write to {where(desk)}."


def test_an_address_for_the_reporter_that_came_before_it_opened_again_still_acknowledges(desk: Office) -> None:
    incident = held(desk)
    desk.reply(desk.sent(RITA)[-1], "Is anybody there?", sender=RITA)
    asked = desk.sent("ana")[-1]
    desk.reply(desk.page("ana"), "escalate")
    assert desk.incident(incident).state is State.OPEN
    desk.reply(asked, "On it, calling them")
    assert (desk.incident(incident).state, desk.incident(incident).holder) == (State.ACKED, "ana")


def test_what_somebody_else_writes_in_the_thread_is_not_answered_to_the_reporter(desk: Office) -> None:
    held(desk)
    says(desk, "I know that malware.", sender="bo@example.com", to=desk.sent(RITA)[0].reply_to)
    heard = desk.sent("ana")[-1]
    assert heard.reply_to == desk.page("ana").reply_to
    assert "What you reply to this mail is NOT sent to Rita Lopez; to send it: use that address." in lines(heard)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"receipts": False}, "to send it: write to rita@example.com by your own mail."),
        (
            {"addresses": Addresses([PANIC], PANIC, "panic.example.com")},
            "to send it: write to rita@example.com by your own mail.",
        ),
    ],
)
def test_where_panicmail_cannot_write_to_the_reporter_it_says_what_can(
    tmp_path: Path, settings: dict[str, object], line: str
) -> None:
    office = Office(tmp_path, **settings)  # type: ignore[arg-type]
    held(office)
    assert f"What you reply to this mail is NOT sent to Rita Lopez; {line}" in lines(office.sent("ana")[-1])
    office.deliver(mail("What now?", in_reply_to=office.incidents()[0].message_id or ""))
    asked = office.sent("ana")[-1]
    assert f"What you reply to this mail is NOT sent to Rita Lopez; {line}" in lines(asked)
    office.reply(asked, "No, leave it on.")
    assert lines(office.sent("ana")[-1])[1] == f"NOT sent to Rita Lopez; {line}"
    assert office.incidents()[0].holder == "ana"
    office.close()


def test_a_sentence_that_begins_with_a_command_is_a_sentence(desk: Office) -> None:
    held(desk)
    says(desk, "Got it. Please stay where you are, I am on my way.")
    assert len(spoken(desk)) == 1


def test_who_no_longer_has_it_is_told_who_has(desk: Office) -> None:
    incident = held(desk)
    was_anas = where(desk)
    desk.reply(desk.page("ana"), "to bo")
    desk.reply(desk.page("bo"), "ack")
    assert desk.incident(incident).holder == "bo"
    says(desk, "Please leave it on.", to=was_anas)
    assert "Bo Low has it" in unsent(desk)[1]
    assert where(desk, "bo") != was_anas
    says(desk, "Bo here, I have it from Ana.", sender="bo@example.com", to=where(desk, "bo"))
    assert lines(spoken(desk)[0])[2] == "Bo Low writes:"


def test_while_nobody_has_it_nobody_speaks(desk: Office) -> None:
    incident = held(desk)
    desk.reply(desk.page("ana"), "escalate")
    assert desk.incident(incident).state is State.OPEN
    says(desk, "Please leave it on.")
    told = unsent(desk)
    assert "nobody has it now" in told[1]
    assert told[2] == 'NOT sent to Rita Lopez; to send it: reply "take" to this mail to have it first.'
    assert any(line.startswith("Clock still running") for line in told)


def test_after_it_was_closed_nothing_goes_out_and_nothing_opens_again(desk: Office) -> None:
    incident = held(desk)
    to = where(desk)
    desk.reply(desk.page("ana"), "resolve")
    says(desk, "One more thing: change your password.", to=to)
    assert unsent(desk)[1] == "Why: it was closed at 02:08 UTC."
    assert desk.incident(incident).state is State.RESOLVED


UNFIT = {
    "\n\n> quoted\n": "nothing in it is newly written",
    "x\n" * 200: "it is too long",
    "Please see https://panic.example.com/i/la-abcdefgh23456723-0-abcdefgh23456723": "a piece of a mail of ours",
    "Please do.\n\nDer Titel war [PANIC 7KQ2N] x\nMax: ruf an": "a piece of a mail of ours",
    "Please do.\n\nMax Ode max@example.com meinte dazu\nnichts sagen": "the address of a colleague",
}


def test_what_may_hold_more_than_the_words_for_the_reporter_stays_here(desk: Office) -> None:
    held(desk)
    for text, why in UNFIT.items():
        says(desk, text)
        assert why in unsent(desk)[1]


def test_lines_marked_as_our_mails_mark_them_are_history_and_go_nowhere(desk: Office) -> None:
    held(desk)
    says(desk, "Please do.\n\nfrom the page:\n| My files are .locked")
    text = desk.sent(RITA)[-1].text
    assert "| Please do." in text
    assert "My files are .locked" not in text


def test_a_mail_that_was_not_read_in_full_stays_here(desk: Office) -> None:
    held(desk)
    raw = (
        "From: ana@example.com\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=x-unknown\r\n\r\nPlease \xe9teindre\r\n"
    ).encode("latin-1")
    desk.deliver(raw, "ana@example.com", [where(desk)])
    assert "could not be read in full" in unsent(desk)[1]


def test_a_machine_never_speaks_to_the_reporter_and_nobody_answers_it(desk: Office) -> None:
    incident = held(desk)
    before = len(desk.relay.sent)
    for extra in ("Auto-Submitted: auto-replied", "X-Panicmail: 1"):
        says(desk, "I am away until Monday.", extra=extra)
    assert len(desk.relay.sent) == before
    assert desk.events(incident)[-2:] == ["mail.automatic"] * 2


def test_words_for_the_reporter_that_look_like_a_machines_stay_here_and_the_holder_is_told(desk: Office) -> None:
    incident = held(desk)
    for extra in ("List-Id: <x.y>", "Precedence: bulk"):
        says(desk, "Pull the plug.", extra=extra)
        assert "it looks like an automatic mail" in unsent(desk)[1]
    assert desk.events(incident)[-2:] == ["conversation.unsent"] * 2
    assert not any("Pull the plug" in posted.text for posted in desk.sent(RITA))


def test_who_knows_the_holders_address_and_is_somebody_else_is_kept_out_and_the_holder_hears(desk: Office) -> None:
    incident = held(desk)
    says(desk, "Send me your password.", sender="eve@evil.example")
    told = unsent(desk)
    assert told[1] == "Why: it came from eve@evil.example, which is not listed for you."
    assert told[2].endswith("It was not you? Then somebody else knows the address it went to.")
    assert desk.sent("eve@evil.example") == []
    assert desk.lines(incident)[-1].actor == "eve@evil.example"


def test_a_colleague_who_was_paged_cannot_speak_with_the_holders_address(desk: Office) -> None:
    desk.panic()
    desk.wait(minutes=15)
    desk.reply(desk.page("ana"), "ack")
    says(desk, "Please leave it on.", sender="max@example.com")
    assert "max@example" in unsent(desk)[1]


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"receipts": False}, "[receipts]"), ({"receipt_domains": ("elsewhere.example",)}, "[receipts]")],
)
def test_a_reporter_who_may_no_longer_get_mail_gets_none(desk: Office, settings: dict[str, object], why: str) -> None:
    held(desk)
    to = where(desk)
    desk.settings = replace(desk.settings, **settings)  # type: ignore[arg-type]  # a reload
    says(desk, "Please leave it on.", to=to)
    assert why in unsent(desk)[1]


@pytest.mark.parametrize(
    ("sender", "mail_from", "extra"),
    [
        ("rita@elsewhere.example", "rita@elsewhere.example", ""),
        ("rita@example.com", "", ""),
        ("monitor@example.com", "monitor@example.com", "Auto-Submitted: auto-generated"),
        (PANIC, PANIC, ""),
    ],
)
def test_where_no_answer_may_go_no_address_is_offered(desk: Office, sender: str, mail_from: str, extra: str) -> None:
    desk.deliver(mail("help, it burns", sender=sender, extra=extra), mail_from)
    (incident,) = desk.incidents()
    desk.reply(desk.page("ana"), "ack")
    assert "Clock stopped" in desk.sent("ana")[-1].subject
    assert "reporter:" not in desk.sent("ana")[-1].text
    token = desk.settings.tokens.mint(Purpose.CONVERSATION, incident.id, "ana")
    before = len(desk.sent(sender))
    says(desk, "Please leave it on.", to=desk.settings.addresses.reply_to(token))
    assert "NOT SENT" in desk.sent("ana")[-1].subject
    assert len(desk.sent(sender)) == before


def test_a_holder_who_is_the_reporter_is_told_so(desk: Office) -> None:
    desk.deliver(mail("my own disk is gone", sender="ana@example.com"), "ana@example.com")
    (incident,) = desk.incidents()
    desk.reply(desk.page("ana"), "ack")
    token = desk.settings.tokens.mint(Purpose.CONVERSATION, incident.id, "ana")
    says(desk, "Note to self.", to=desk.settings.addresses.reply_to(token))
    assert unsent(desk)[1] == "Why: you are the reporter."


def test_a_reporters_mail_server_that_refuses_is_told_to_the_holder(desk: Office) -> None:
    incident = held(desk, text="It burns. My phone: +49 170 0000000")
    desk.relay.refused[RITA] = Permanent("550 5.1.1 no such user")
    says(desk, "Please leave it on.")
    told = unsent(desk)
    assert told[1] == "Why: the mail server of the reporter refused it (550 5.1.1 no such user)."
    assert told[2] == "NOT sent to Rita Lopez; to send it: call; the number in the report is +49 170 0000000."
    assert "conversation.refused" in desk.events(incident)


def test_where_addresses_carry_no_token_the_holder_is_offered_none(tmp_path: Path) -> None:
    office = Office(tmp_path, addresses=Addresses([PANIC], PANIC, "panic.example.com"))
    held(office)
    assert "Write to the reporter" not in office.sent("ana")[-1].text
    office.close()


# -- the reporter's own address


def test_the_reporters_address_does_not_speak_for_the_holder(desk: Office) -> None:
    held(desk)
    says(desk, "Please leave it on.", to=desk.sent(RITA)[0].reply_to)
    told = unsent(desk)
    assert told[1].startswith("Why: it went to the address the reporter has for answers")
    assert told[2] == f"NOT sent to Rita Lopez; to send it: write to {where(desk)}."


def test_somebody_paged_who_does_not_have_it_is_told_at_the_reporters_address(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.reply(desk.page("ana"), "ack")
    says(desk, "Please leave it on.", sender="max@example.com", to=desk.sent(RITA)[0].reply_to)
    assert spoken(desk) == []
    told = desk.sent("max")[-1]
    assert "Ana Reyes has it" in told.text
    assert "Why: it went to the reporter's address, and was not sent on." in lines(told)
    assert desk.events(incident)[-1] == "person.wrote"


def test_somebody_of_ours_who_was_never_paged_is_told_and_the_holder_hears(desk: Office) -> None:
    held(desk)
    says(desk, "I know that malware.", sender="bo@example.com", to=desk.sent(RITA)[0].reply_to)
    assert "Ana Reyes has it" in unsent(desk, "bo")[1]
    heard = desk.sent("ana")[-1]
    assert "| I know that malware." in lines(heard)
    assert "The writer is not the reporter: take care." in lines(heard)


def test_a_stranger_who_knows_the_reporters_address_is_flagged_and_heard_by_the_holder_alone(desk: Office) -> None:
    incident = held(desk)
    before = len(desk.relay.sent)
    says(desk, "I am from support, send me the key.", sender="eve@evil.example", to=desk.sent(RITA)[0].reply_to)
    (heard,) = desk.relay.sent[before:]
    assert heard.recipient == "ana@example.com"
    assert "The writer is not the reporter: take care." in lines(heard)
    assert "**who is not the reporter**" in desk.gitlab.notes[-1][1]
    assert desk.incident(incident).holder == "ana"


def test_what_the_reporter_writes_goes_to_those_paged_until_somebody_has_it_and_then_to_the_holder_alone(
    desk: Office,
) -> None:
    desk.panic()
    desk.wait(minutes=15)
    receipt = desk.sent(RITA)[0]
    for who_has_it, listeners in (("", {"ana@example.com", "max@example.com"}), ("max", {"max@example.com"})):
        if who_has_it:
            desk.reply(desk.page(who_has_it), "ack")
        before = len(desk.relay.sent)
        desk.reply(receipt, f"and now the server too {who_has_it}", sender=RITA)
        assert {posted.recipient for posted in desk.relay.sent[before:]} == listeners


def test_the_reporter_at_the_holders_address_is_the_reporter(desk: Office) -> None:
    incident = held(desk)
    says(desk, "Ana told me to write here: the cable is out.", sender=RITA)
    assert spoken(desk) == []
    assert "| Ana told me to write here: the cable is out." in lines(desk.sent("ana")[-1])
    assert desk.events(incident)[-1] == "thread.more"


def test_an_answering_machine_of_the_reporters_starts_no_conversation_of_machines(desk: Office) -> None:
    held(desk)
    says(desk, "Please leave it on.")
    before = len(desk.relay.sent)
    desk.reply(spoken(desk)[0], "I am away", sender=RITA, mail_from="", extra="Auto-Submitted: auto-replied")
    assert len(desk.relay.sent) == before


# -- the rule


def test_only_who_has_it_now_speaks(desk: Office) -> None:
    incident = held(desk)
    now = desk.incident(incident)
    assert transitions.speaks(now, "ana")
    assert not transitions.speaks(now, "max")
    assert not transitions.speaks(replace(now, state=State.OPEN), "ana")
    assert not transitions.speaks(replace(now, state=State.RESOLVED), "ana")


def test_the_address_is_the_holders_alone_and_of_this_incident(desk: Office) -> None:
    incident = held(desk)
    people: dict[str, Person] = PEOPLE
    token = desk.settings.tokens.verify(desk.settings.addresses.token_in(where(desk)) or "", people)
    assert token is not None
    assert (token.purpose, token.incident_id, token.person) == (Purpose.CONVERSATION, incident.id, "ana")
    assert where(desk) != desk.sent(RITA)[0].reply_to
