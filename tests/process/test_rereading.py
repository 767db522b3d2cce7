"""A mail that could not be read the first time, for a reason of ours: paged by its octets, read again, amended."""

from __future__ import annotations

import base64
import threading
from collections import deque
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.daemon.parts import INTAKE_THREADS
from panicmail.incident import ids, transitions
from panicmail.incident.classify import Report, severity_in
from panicmail.incident.model import Entry, State
from panicmail.intake import reread
from panicmail.intake.understand import again_after, reading_seconds
from panicmail.mail.parse import parser
from panicmail.mail.parse.bytes_fallback import read_bytes
from panicmail.mail.parse.parser_staff import MOST
from panicmail.store.rows import AcceptedMail
from tests.attached_files import with_file
from tests.cast import opened
from tests.office import InProcess, Office, Posted, mail
from tests.slow_children import slow_readers, wait_for

#: Why a reading comes to nothing though the mail is as good as any.
OURS = ("no reader was free", "deadline", "died", "garbage", "stopping")
TEXT = "Every file on the share ends in .locked. Call me: +49 170 0000000."


class Balky(InProcess):
    """Readers that fail as often as they are told to, then read."""

    def __init__(self) -> None:
        self.fails: deque[str] = deque()
        self.seconds: list[float] = []  #: what each further reading was given
        self.seen: bytes | None = None  #: what the reading of octets takes for the mail; None: the mail

    def read(self, raw: bytes, mail_from: str) -> Report:
        if self.fails:
            seen = raw if self.seen is None else self.seen
            return read_bytes(seen, mail_from=mail_from, why=self.fails.popleft(), cut_short=True)
        return super().read(raw, mail_from)

    def read_slowly(self, raw: bytes, mail_from: str | None, seconds: float) -> Report:
        self.seconds.append(seconds)
        if self.fails:
            return read_bytes(raw, mail_from=mail_from, why=self.fails.popleft(), cut_short=True)
        return parser.read(raw, mail_from=mail_from)


@pytest.fixture
def balky(desk: Office, monkeypatch: pytest.MonkeyPatch) -> Balky:
    readers = Balky()
    monkeypatch.setattr(desk.intake, "_readers", readers)
    monkeypatch.setattr(desk.rereading, "_readers", readers)
    return readers


def in_base64(text: str = TEXT, **header: str) -> bytes:
    """A mail whose octets do not show what it says."""
    head, _, _ = mail("", **header).partition(b"\r\n\r\n")
    return head + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(text.encode())


def understand(desk: Office, raw: bytes, mail_from: str = "rita@example.com", to: str = "panic@example.com") -> str:
    """The mail is accepted and looked at once; nothing is read again and nothing is sent."""
    mail_id = desk.accept(raw, mail_from, [to])
    while desk.intake.work():
        pass
    return mail_id


def carry_out(desk: Office) -> None:
    """Everything that waits in the outbox is done, and no mail is read."""
    busy = True
    while busy:
        busy = False
        for lane in desk.lanes:
            busy = lane.work() or busy


def row(desk: Office, mail_id: str) -> AcceptedMail:
    found = desk.store.read(lambda tx: tx.mails.get(mail_id))
    assert found is not None
    return found


def last_answer(desk: Office, person: str) -> Posted:
    return [posted for posted in desk.sent(person) if not posted.is_page][-1]


# -- what was paged by its octets


@pytest.mark.parametrize("why", OURS)
def test_a_mail_nobody_could_read_in_time_is_paged_and_amended_by_a_later_reading(
    desk: Office, balky: Balky, why: str
) -> None:
    balky.fails.append(why)
    understand(desk, in_base64(subject="Ransom note"))
    carry_out(desk)
    page = desk.page("ana")
    assert TEXT not in page.text
    assert "could not be read in full so far" in page.text
    (incident,) = desk.incidents()
    assert TEXT not in desk.gitlab.issues[0].description
    desk.settle()
    assert TEXT in desk.gitlab.issues[0].description
    assert "could not be read in full" not in desk.gitlab.issues[0].description
    token = desk.settings.link(incident.id, "ana").rpartition("/")[2]
    view = desk.links.read_link(token)
    assert view is not None
    assert (view.report.text, view.report.phones, view.flags) == (TEXT, ("+49 170 0000000",), ())
    assert "report.amended" in desk.events(incident)
    assert [posted.subject for posted in desk.pages("ana")] == [page.subject], "nobody is paged for it again"
    desk.wait(minutes=5)
    assert TEXT in desk.page("ana").text, "the next page has the whole"


def test_an_issue_that_is_not_there_yet_is_opened_with_the_full_reading(desk: Office, balky: Balky) -> None:
    balky.fails.append("deadline")
    understand(desk, in_base64(subject="Ransom note"))
    while desk.rereading.amendments():
        pass
    carry_out(desk)
    (issue,) = desk.gitlab.issues
    assert TEXT in issue.description
    assert [text for _, text, _ in desk.gitlab.notes if "read in full" in text] == [], "there is nothing to add to it"


def test_a_description_somebody_edited_keeps_their_words_and_the_report_comes_as_a_note(
    desk: Office, balky: Balky
) -> None:
    balky.fails.append("deadline")
    understand(desk, in_base64(subject="Ransom note"))
    carry_out(desk)
    desk.gitlab.describe(1, "Ana: I look at the share first.\n\n" + desk.gitlab.issues[0].description)
    desk.settle()
    assert TEXT not in desk.gitlab.issues[0].description
    assert [text for _, text, _ in desk.gitlab.notes if TEXT in text and "The description was edited" in text]


def test_attachments_first_seen_by_the_later_reading_are_named_and_uploaded_once(desk: Office, balky: Balky) -> None:
    balky.fails.append("died")
    understand(desk, with_file("See the file.", "note.txt", "the ransom note"))
    carry_out(desk)
    assert "note.txt" not in [name for name, _ in desk.gitlab.uploads]
    desk.settle()
    assert [data for name, data in desk.gitlab.uploads if name == "note.txt"] == [b"the ransom note"]
    assert "note.txt" in desk.gitlab.issues[0].description
    assert [text for _, text, _ in desk.gitlab.notes if "/uploads/" in text and "note.txt" in text]


def test_a_later_reading_while_the_files_are_on_their_way_uploads_none_twice(desk: Office, balky: Balky) -> None:
    balky.fails.append("died")
    understand(desk, with_file("See the file.", "note.txt", "the ransom note"))
    while desk.rereading.amendments():
        pass
    desk.settle()
    desk.wait(minutes=1)
    assert [data for name, data in desk.gitlab.uploads if name == "note.txt"] == [b"the ransom note"]


def test_amending_twice_is_amending_once(desk: Office, balky: Balky) -> None:
    """Two nodes, or the reading of a claim that was thought lost, come to the same end."""
    balky.fails.append("deadline")
    mail_id = understand(desk, in_base64(subject="Ransom note"))
    desk.settle()
    (incident,) = desk.incidents()
    before = (incident, desk.events(incident), desk.gitlab.issues, desk.gitlab.notes, len(desk.relay.sent))
    assert row(desk, mail_id).again_at is None
    read_twice(desk, mail_id)
    desk.settle()
    (incident,) = desk.incidents()
    assert (incident, desk.events(incident), desk.gitlab.issues, desk.gitlab.notes, len(desk.relay.sent)) == before


def read_twice(desk: Office, mail_id: str) -> None:
    """What a reader that was frozen in its transaction's eve does when it wakes."""
    found = row(desk, mail_id)
    raw = desk.store.read(lambda tx: tx.mails.raw(mail_id))
    report = parser.read(raw, mail_from=found.mail_from)
    desk.store.write("mails.amend", lambda tx: reread._amend(tx, desk.settings, found, report))


def test_that_it_is_to_be_read_again_survives_a_restart(desk: Office, balky: Balky) -> None:
    """The row says so; a reading that was begun when the process ended is begun again."""
    balky.fails.append("deadline")
    mail_id = understand(desk, in_base64(subject="Ransom note"))
    claimed = desk.store.write(
        "mails.claim", lambda tx: tx.readings.claim_reading(timedelta(minutes=3), understood=True)
    )
    assert claimed is not None
    assert claimed.readings == 1, "counted before it begins"
    assert not desk.rereading.amendments(), "it is somebody's"
    desk.store.write("leases.release", lambda tx: tx.release_leases())  # the next start
    desk.settle()
    assert row(desk, mail_id).again_at is None
    assert TEXT in desk.gitlab.issues[0].description


def test_a_mail_whose_further_readings_ended_the_process_twice_is_let_alone_and_stays_paged(
    desk: Office, balky: Balky
) -> None:
    balky.fails.append("deadline")
    mail_id = understand(desk, in_base64(subject="Ransom note"))
    carry_out(desk)
    for _ in range(2):
        die_while_reading(desk, understood=True)
    desk.settle()
    assert balky.seconds == [], "no third time"
    assert row(desk, mail_id).again_at is None
    assert "the raw message is on the issue" in desk.gitlab.issues[0].description
    (incident,) = desk.incidents()
    assert incident.state is State.OPEN


def test_an_answer_whose_readings_ended_the_process_twice_is_let_alone_and_its_writer_told(
    desk: Office, balky: Balky
) -> None:
    incident = desk.panic()
    balky.fails.append("deadline")
    understand(desk, mail("ack", sender="ana@example.com"), "ana@example.com", desk.page("ana").reply_to)
    for _ in range(2):
        die_while_reading(desk, understood=False)
    desk.settle()
    assert balky.seconds == []
    assert desk.incident(incident).state is State.OPEN
    assert "Clock still running" in last_answer(desk, "ana").subject


def test_one_death_while_a_mail_was_read_again_does_not_keep_it_from_being_read(desk: Office, balky: Balky) -> None:
    incident = desk.panic()
    balky.fails.append("deadline")
    understand(desk, mail("ack", sender="ana@example.com"), "ana@example.com", desk.page("ana").reply_to)
    die_while_reading(desk, understood=False)
    desk.settle()
    assert desk.incident(incident).holder == "ana"


def die_while_reading(desk: Office, *, understood: bool) -> None:
    """A process ends with a further reading under way, and another one starts."""
    claimed = desk.store.write(
        "mails.claim", lambda tx: tx.readings.claim_reading(timedelta(minutes=3), understood=understood)
    )
    assert claimed is not None
    desk.store.write("leases.release", lambda tx: tx.release_leases())


def test_nothing_is_read_again_while_a_mail_is_tried_alone_that_was_in_hand_when_the_process_ended(
    desk: Office, balky: Balky
) -> None:
    balky.fails.append("deadline")
    understand(desk, in_base64(subject="Ransom note"))
    desk.accept(mail("My files are .locked."))
    desk.store.write("mails.claim", lambda tx: tx.mails.claim(1, timedelta(seconds=30)))
    desk.store.write("leases.release", lambda tx: tx.release_leases())  # it died, and starts again
    assert not desk.rereading.amendments()
    while desk.intake.work():
        pass
    assert desk.rereading.amendments()


def test_it_is_the_same_on_either_database(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = Balky()
    for part in (office.intake, office.rereading):
        monkeypatch.setattr(part, "_readers", readers)
    readers.fails.append("deadline")
    understand(office, in_base64(subject="Ransom note"))
    carry_out(office)
    incident = office.incidents()[0]
    readers.fails.append("died")
    understand(office, mail("ack", sender="ana@example.com"), "ana@example.com", office.page("ana").reply_to)
    assert office.incident(incident).state is State.OPEN
    office.settle()
    assert office.incident(incident).holder == "ana"
    assert TEXT in office.gitlab.issues[0].description


def test_a_resolved_incident_keeps_what_was_read_later_and_nobody_hears_of_it(desk: Office, balky: Balky) -> None:
    balky.fails.append("deadline")
    understand(desk, in_base64(subject="Ransom note"))
    carry_out(desk)
    (incident,) = desk.incidents()
    reply = desk.page("ana").reply_to
    for words in ("ack", "resolve"):
        raw = mail(words, sender="ana@example.com", subject="Re: [PANIC]")
        understand(desk, raw, "ana@example.com", reply)
    carry_out(desk)
    assert desk.incident(incident).state is State.RESOLVED
    sent = len(desk.relay.sent)
    desk.settle()
    assert desk.incident(incident).state is State.RESOLVED
    assert len(desk.relay.sent) == sent
    assert TEXT in desk.gitlab.issues[0].description


@pytest.mark.parametrize(
    ("first", "then", "worst"),
    [("", "S2: share", 2), ("S3: share", "S1: share", 1), ("S1: share", "S3: share", 1), ("S2: share", "share", 2)],
)
def test_a_severity_only_rises(first: str, then: str, worst: int) -> None:
    incident = replace(opened().incident, severity=severity_in(first))
    kept = {"subject": then, "reporter_address": "", "reporter_name": "", "message_id": None}
    entry = Entry(event="report.amended")
    change = transitions.amend(incident, entry, {}, receipt=False, files=False, severity=severity_in(then), **kept)
    assert (change.incident.severity, change.incident.subject) == (worst, then)
    assert change.incident.next_step_at == incident.next_step_at


def test_a_report_taken_for_a_machines_by_its_octets_gets_the_whole_policy_once_it_is_read(
    desk: Office, balky: Balky
) -> None:
    raw = mail(TEXT, subject="Our customers get these")
    balky.seen = bounced(raw)
    balky.fails.append("deadline")
    understand(desk, raw)
    (incident,) = desk.incidents()
    assert (incident.once, incident.state) == (True, State.RESOLVED)
    desk.settle()
    incident = desk.incident(incident)
    assert (incident.once, incident.state) == (False, State.OPEN)
    assert desk.sent("rita@example.com"), "and its reporter a receipt"
    desk.wait(minutes=15)
    assert desk.pages("max")


def bounced(raw: bytes) -> bytes:
    """The mail as a mailer daemon would send it."""
    return raw.replace(b"rita@example.com", b"MAILER-DAEMON@example.com").replace(
        b"text/plain", b"multipart/report; report-type=delivery-status; boundary=b"
    )


def test_one_that_turns_out_to_be_an_automatic_answer_stays_paged_and_the_issue_says_what_it_is(
    desk: Office, balky: Balky
) -> None:
    balky.seen = mail("Write to my colleague.", subject="I am not here")
    raw = mail("Write to my colleague.", subject="I am not here", extra="Auto-Submitted: auto-replied")
    balky.fails.append("deadline")
    understand(desk, raw)
    carry_out(desk)
    (incident,) = desk.incidents()
    assert incident.state is State.OPEN
    desk.settle()
    assert desk.incident(incident).next_step_at == incident.next_step_at, "nobody is un-paged"
    (note,) = [text for _, text, _ in desk.gitlab.notes if "read in full" in text]
    assert "It looks automatic (auto_reply" in note
    assert note.count("Who was paged stays paged.") == 1


def test_a_mail_that_cannot_be_read_however_long_it_takes_says_so_in_the_end(desk: Office, balky: Balky) -> None:
    balky.fails.extend(["deadline"] * 9)
    understand(desk, in_base64(subject="Ransom note"))
    carry_out(desk)
    for _ in range(200):
        desk.wait(seconds=1)
    assert balky.seconds == [10, 30], "the last one had all the time there is"
    assert "the raw message is on the issue" in desk.gitlab.issues[0].description
    assert "so far" not in desk.gitlab.issues[0].description
    assert [text for _, text, _ in desk.gitlab.notes if "cannot be read in full" in text]


def test_thirty_mails_that_read_slowly_keep_no_other_from_being_paged(
    desk: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are at it still when the honest one behind them is paged, however long that takes here."""
    slow = b"slow: x\r\nFrom: a@evil.example\r\nSubject: hello\r\n\r\nhello\r\n"
    with slow_readers(tmp_path) as (readers, _):
        monkeypatch.setattr(desk.intake, "_readers", readers)
        for number in range(30):  # each of a mailbox of its own, so that the honest one's turn is after them
            raw = slow.replace(b"hello", ids.new_mail_id().encode()).replace(b"a@evil", f"a{number}@evil".encode())
            desk.accept(raw, f"a{number}@evil.example")
        desk.now += timedelta(milliseconds=1)
        honest = desk.accept(mail("My files are .locked.", subject="Ransom note"))
        threads = [threading.Thread(target=work_off, args=(desk,)) for _number in range(INTAKE_THREADS)]
        for thread in threads:
            thread.start()
        wait_for(lambda: row(desk, honest).shape == "panic", within=50)
        assert 0 < len(readers._staff._slow) <= MOST, "the slow ones go on"
        (tmp_path / "go").touch()
        for thread in threads:
            thread.join(30)
    assert len(desk.incidents()) == 31


def work_off(desk: Office) -> None:
    while desk.intake.work():
        pass


# -- what is more in a thread


def test_more_words_of_the_reporters_read_late_are_told_to_whoever_has_it(desk: Office, balky: Balky) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "ack")
    receipt = desk.sent("rita@example.com")[0]
    balky.fails.append("no reader was free")
    raw = in_base64("They are in the mail server too.", subject="Re: x", in_reply_to=receipt.message_id)
    understand(desk, raw, to=receipt.reply_to)
    carry_out(desk)
    words_at = desk.incident(incident).words_at
    assert words_at is not None, "the holder owes an answer as ever"
    assert "They are in the mail server" not in last_answer(desk, "ana").text
    desk.settle()
    told = last_answer(desk, "ana").text
    assert "They are in the mail server too." in told
    assert "You had a part of this message before" in told
    assert desk.incident(incident).words_at == words_at
    assert [text for _, text, _ in desk.gitlab.notes if "They are in the mail server too." in text]


def test_more_that_looked_automatic_by_its_octets_is_told_as_a_persons_once_it_is_read(
    desk: Office, balky: Balky
) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "ack")
    receipt = desk.sent("rita@example.com")[0]
    raw = mail(TEXT, subject="Re: x", in_reply_to=receipt.message_id)
    balky.seen = bounced(raw)
    balky.fails.append("deadline")
    understand(desk, raw, to=receipt.reply_to)
    carry_out(desk)
    before = len(desk.sent("ana"))
    desk.settle()
    assert len(desk.sent("ana")) == before + 1
    assert TEXT in last_answer(desk, "ana").text


# -- answers to pages


@pytest.mark.parametrize("why", [*OURS, "MemoryError"])
def test_an_answer_nobody_could_read_in_time_is_read_again_and_counts(desk: Office, balky: Balky, why: str) -> None:
    incident = desk.panic()
    balky.fails.append(why)
    mail_id = understand(desk, mail("ack", sender="ana@example.com"), "ana@example.com", desk.page("ana").reply_to)
    carry_out(desk)
    assert desk.incident(incident).state is State.OPEN, "half a reading acknowledges nothing"
    assert [posted for posted in desk.sent("ana") if not posted.is_page] == [], "and is not refused either"
    assert row(desk, mail_id).shape is None
    desk.settle()
    assert (desk.incident(incident).state, desk.incident(incident).holder) == (State.ACKED, "ana")
    assert last_answer(desk, "ana").subject.endswith("Clock stopped: Ana Reyes has it")


def test_an_answer_is_read_again_until_it_is_read_with_more_time_each_time(desk: Office, balky: Balky) -> None:
    incident = desk.panic()
    balky.fails.extend(["no reader was free", "died", "died", "no reader was free", "died"])
    desk.deliver(mail("ack", sender="ana@example.com"), "ana@example.com", [desk.page("ana").reply_to])
    for _ in range(150):
        desk.wait(seconds=1)
    assert desk.incident(incident).holder == "ana"
    assert balky.seconds == sorted(balky.seconds)
    assert len(balky.seconds) == 5


def test_an_answer_that_cannot_be_read_acknowledges_nothing_and_its_writer_is_told_how_to_answer(
    desk: Office, balky: Balky
) -> None:
    incident = desk.panic()
    balky.fails.extend(["deadline"] * 9)
    desk.deliver(mail("ack", sender="ana@example.com"), "ana@example.com", [desk.page("ana").reply_to])
    for _ in range(60):
        desk.wait(seconds=1)
    assert desk.incident(incident).state is State.OPEN
    told = last_answer(desk, "ana")
    assert "Clock still running" in told.subject
    assert "it could not be read in full" in told.text
    assert 'Reply "ack" to THIS mail' in told.text
    balky.fails.clear()
    desk.reply(told, "ack")
    assert desk.incident(incident).holder == "ana"


def test_an_answer_read_late_does_not_undo_what_its_writer_did_since(desk: Office, balky: Balky) -> None:
    incident = desk.panic()
    reply_to = desk.page("ana").reply_to
    balky.fails.append("deadline")
    understand(desk, mail("ack", sender="ana@example.com"), "ana@example.com", reply_to)
    desk.now += timedelta(seconds=5)
    understand(desk, mail("no, I am on a plane", sender="ana@example.com"), "ana@example.com", reply_to)
    desk.settle()
    assert desk.incident(incident).state is State.OPEN
    assert desk.pages("max"), "the no that came later counts"


def test_the_holders_words_to_the_reporter_wait_for_a_reader_too(desk: Office, balky: Balky) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "ack")
    told = last_answer(desk, "ana").text
    to = next(word for word in told.split() if word.startswith("panic+") and "@" in word)
    balky.fails.append("deadline")
    understand(desk, mail("Leave it on. I call you.", sender="ana@example.com"), "ana@example.com", to)
    carry_out(desk)
    before = len(desk.sent("rita@example.com"))
    desk.settle()
    assert len(desk.sent("rita@example.com")) == before + 1


def test_an_answer_that_waits_is_no_gap_while_it_is_being_read_and_one_when_nobody_does(
    desk: Office, balky: Balky
) -> None:
    desk.panic()
    balky.fails.append("deadline")
    mail_id = understand(desk, mail("ack", sender="ana@example.com"), "ana@example.com", desk.page("ana").reply_to)

    def unread() -> list[str | None]:
        return [odd.mail_id for odd in desk.store.read(lambda tx: tx.gaps.unread_mails(tx.now - timedelta(minutes=1)))]

    desk.now += timedelta(minutes=1)
    assert unread() == []
    desk.now += timedelta(seconds=1)
    assert unread() == [mail_id]
    desk.store.write("test", lambda tx: tx.readings.read_again(row(desk, mail_id), tx.now))
    assert unread() == []


# -- the rule


@given(st.lists(st.sampled_from([*OURS, "MemoryError"]), min_size=20, max_size=20))
def test_whatever_goes_wrong_there_is_an_end_within_minutes(whys: list[str]) -> None:
    waits = [again_after(readings, why) for readings, why in enumerate(whys)]
    made = waits[: waits.index(None)]
    took = sum(wait.total_seconds() + 2 * reading_seconds(n) for n, wait in enumerate(made, 1) if wait is not None)
    assert took < 600


def test_only_a_reading_that_had_all_the_time_there_is_makes_it_certain_at_once() -> None:
    assert again_after(0, "deadline") is not None
    assert again_after(1, "deadline") is not None
    assert again_after(2, "deadline") is None
    assert again_after(2, "no reader was free") is not None


def test_a_link_that_only_the_later_reading_finds_is_revoked_by_it(desk: Office, balky: Balky) -> None:
    incident = desk.panic()
    link = desk.page("ana").text.partition("/i/")[2].split()[0]
    balky.fails.append("no reader was free")
    desk.deliver(in_base64(f"https://panic.example.com/i/{link}", sender="carl@corp.example"), "carl@corp.example")
    while desk.rereading.amendments():
        desk.settle()
    assert [line.facts["person"] for line in desk.lines(incident) if line.event == "link.revoked"] == ["ana"]
