"""How grave an incident is: what a report's words raise, what our people say, what the issue shows of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.errors import ConfigError
from panicmail.gitlab.issue_values import GradedIssue, IssueActivity
from panicmail.incident import classify, reply_commands
from panicmail.incident.classify import Report
from panicmail.incident.escalation_policy import DEFAULT, PolicyChoice
from panicmail.incident.numbered_answers import answers_in
from panicmail.incident.reply_commands import Command
from panicmail.incident.triage import MailWords, ReportKind, TriageRule, find, pattern
from panicmail.oncall import runtime_settings
from tests.cast import MINUTE, POLICY
from tests.office import Office, mail
from tests.policy_files import FAST, LOW, loaded

BY_PEOPLE = replace(LOW, choice=PolicyChoice(severities=(3, 4), is_for_people=True))
RANSOM = TriageRule(body=(pattern("ransom*"),), severity=1, labels=("ransomware",), page=("bo",), policy="fast")
QUESTIONS = ("What happened?", "When did you see it first?", "Did you click, enter or pay anything?")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    policies = {DEFAULT: POLICY, "low": BY_PEOPLE, "fast": replace(FAST, choice=PolicyChoice(severities=(1,)))}
    office = Office(tmp_path, policies=policies, questions=QUESTIONS, scope={"phishing": "Forward phishing to phish@."})
    yield office
    office.close()


# -- patterns and kinds


@pytest.mark.parametrize(
    ("text", "said", "fits"),
    [
        ("ransom*", "A RANSOMWARE note", True),
        ("ransom", "ransomware", False),
        ("*ware note", "A ransomware note", True),
        ("locked files", "The files, locked", False),
        ("locked files", "my locked\n  files!", True),
        ("gelöscht", "Alles GELOSCHT", True),
        ("勒索", "我的文件被勒索了", True),
        ("*crypt*", "everything is encrypted", True),
    ],
)
def test_a_pattern_is_words_beside_each_other(text: str, said: str, fits: bool) -> None:
    rule = TriageRule(body=(pattern(text),), severity=1)
    assert bool(find((rule,), MailWords(text=said), None).rules) is fits


@pytest.mark.parametrize("text", ["", "*", "a*b", "!!", "x " * 13, "x" * 201])
def test_what_is_no_pattern_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="word"):
        pattern(text)


@pytest.mark.parametrize("text", ["ab " * 500_000, "a" * 1_000_000, "\u0130" * 500_000, "aaa\n" * 300_000])
def test_no_text_makes_many_patterns_slow(text: str) -> None:
    rules = tuple(TriageRule(body=(pattern(f"*a{n}*"), pattern("a* a* a* b"))) for n in range(150))
    began = time.process_time()
    find(rules, MailWords(text=text, newly=text), 2)
    assert time.process_time() - began < 10


@given(st.text(max_size=300))
def test_a_pattern_is_found_in_itself_whatever_it_is(text: str) -> None:
    try:
        made = pattern(text)
    except ValueError:
        return
    found = find((TriageRule(subject=(made,), severity=1),), MailWords(subject=text), None)
    assert found.rules == (1,) or any(piece.opens or piece.goes_on for piece in made.pieces)


@pytest.mark.parametrize(
    "text",
    ["I clicked it", "I've replied to them", "Ich habe auf den Link geklickt", "J’ai saisi mon mot de passe",
     "He pinchado en el enlace", "Ho inserito la password", "Ik heb geklikt", "Jag klickade", "Kliknąłem w link",
     "Cliquei no link", "I have not replied, but I paid"],
)  # fmt: skip
def test_whoever_says_they_acted_on_a_phish_raises_it(text: str) -> None:
    found = find((), MailWords(subject="Phishing", newly=text), 2)
    assert (found.is_engaged, found.kind, found.severity) == (True, None, 2)


@pytest.mark.parametrize(
    "text",
    ["I haven't clicked the link", "nobody clicked on the link", "Ich habe nicht auf den Link geklickt",
     "Je n'ai pas cliqué", "No he hecho clic", "Non ho cliccato", "Nie kliknąłem", "Não cliquei"],
)  # fmt: skip
def test_whoever_says_they_did_not_is_none(text: str) -> None:
    found = find((), MailWords(subject="Phishing", newly=text), 2)
    assert (found.is_engaged, found.kind, found.severity) == (False, ReportKind.PHISHING, None)


def test_the_words_of_a_quoted_phish_are_not_the_reporters() -> None:
    found = find((), MailWords(subject="Fwd: invoice", text="I paid, I clicked", newly="look at this"), 2)
    assert not found.is_engaged


# -- what the words of a report raise


@pytest.mark.parametrize(
    ("subject", "newly", "severity"),
    [
        ("", "severity: low", 4),
        ("[S4] odd", "Sev 1", 1),
        ("odd", "It is sev1 for us", None),
        ("odd", "severity: high.", 2),
    ],
)
def test_a_severity_is_read_from_a_line_of_its_own_too(subject: str, newly: str, severity: int | None) -> None:
    assert classify.severity_named(Report(subject=subject, text=f"> sev 1\n{newly}", reply_text=newly)) == severity


def test_a_rule_gives_severity_labels_people_and_a_faster_policy(desk: Office) -> None:
    desk.settings = replace(desk.settings, rules=(RANSOM,))
    incident = desk.panic("There is a ransom note.", subject="[S4] help")
    assert (incident.severity, incident.severity_by, incident.policy) == (1, "", "fast")
    assert len(desk.pages("bo")) == len(desk.pages("ana")) == len(desk.pages("max")) == 1
    (issue,) = desk.gitlab.issues
    assert {"ransomware", "severity::1"} <= set(issue.labels)
    assert issue.severity == "critical"
    assert "Graded S1 (S1 is the worst) by the words of the report." in desk.page("bo").text
    desk.reply(desk.page("bo"), "ack")
    assert desk.incident(incident).holder == "bo"


def test_of_two_rules_both_apply_and_the_worst_severity_counts(desk: Office) -> None:
    other = TriageRule(subject=(pattern("help"),), severity=3, labels=("asked",))
    desk.settings = replace(desk.settings, rules=(RANSOM, other))
    incident = desk.panic("There is a ransom note.", subject="help")
    assert incident.severity == 1
    assert {"ransomware", "asked"} <= set(desk.gitlab.issues[0].labels)


def test_a_rule_that_names_a_slower_policy_is_passed_over(desk: Office) -> None:
    desk.settings = replace(desk.settings, rules=(replace(RANSOM, severity=None, policy="low"),))
    assert desk.panic("A ransom note.").policy == DEFAULT


def test_a_later_mail_raises_an_open_incident_and_those_paged_are_told(desk: Office) -> None:
    desk.settings = replace(desk.settings, rules=(RANSOM,))
    incident = desk.panic("Something is odd.", subject="odd")
    desk.wait(minutes=2)
    later(desk, "Now there is a ransom note.")
    desk.wait(minutes=1)
    after = desk.incident(incident)
    assert (after.severity, after.policy) == (1, "fast")
    assert desk.pages("max"), "whom the faster policy calls by now"
    assert desk.pages("bo")
    assert any("graded S1 now" in told.text for told in desk.sent("ana@example.com"))
    assert any("raised it: S1" in text for _, text, _ in desk.gitlab.notes)
    assert desk.gitlab.marks[-1][1].labels == ("ransomware",)
    assert desk.store.read(lambda tx: tx.invariants.violations()) == {}


def test_a_later_mail_never_lowers_and_never_goes_over_our_own_word(desk: Office) -> None:
    incident = desk.panic("It is odd.", subject="[S2] odd")
    later(desk, "severity: low")
    assert desk.incident(incident).severity == 2
    desk.reply(desk.page("ana"), "sev 3")
    later(desk, "severity: critical")
    after = desk.incident(incident)
    assert (after.severity, after.severity_by, after.policy) == (3, "ana", "low")


def later(desk: Office, text: str) -> None:
    """More from the reporter, in the thread of their receipt."""
    receipt = desk.sent("rita@example.com")[0]
    desk.deliver(mail(text, subject=f"Re: {receipt.subject}", in_reply_to=receipt.message_id), to=[receipt.reply_to])


def test_a_mail_that_joins_a_storm_raises_it_and_pages_nobody_more(desk: Office) -> None:
    desk.settings = replace(desk.settings, rules=(RANSOM,), storm=replace(desk.settings.storm, members=2))
    for number in range(4):
        desk.deliver(mail(f"Alert {number}", subject="disk"))
    desk.deliver(mail("A ransom note.", subject="disk"))
    assert sorted(str(each.severity) for each in desk.incidents()) == ["1", "None", "None"]
    assert desk.pages("bo") == []


# -- what our people say


@pytest.mark.parametrize(
    ("text", "severity"),
    [("sev 3", 3), ("Sev3", 3), ("severity: 2", 2), ("SEV-1.", 1), ("Schweregrad 2", 2), ("it's a sev 4", 4), ("s2", 2),
     ("set severity to sev 1", 1), ("sev 2, thanks", 2), ("Sev 1\nlooks like ransomware", 1)],
)  # fmt: skip
def test_a_reply_says_how_grave_it_is(text: str, severity: int) -> None:
    said = reply_commands.read(text)
    assert (said.meaning, said.severity) == (Command.SEVERITY, severity)


@pytest.mark.parametrize("text", ["ack, sev 2", "ack\nsev 2", "sev 2, on it", "Sev 2. ack"])
def test_a_severity_beside_a_yes_is_both(text: str) -> None:
    said = reply_commands.read(text)
    assert (said.meaning, said.severity) == (Command.YES, 2)


@pytest.mark.parametrize("text", ["sev 5", "sev 0", "is this sev 1?", "sev 1 or sev 2?", "several things", "S3 bucket",
                                  "sev 2.5", "sev 1, or rather sev 3"])  # fmt: skip
def test_what_names_no_severity_or_two_grades_nothing(text: str) -> None:
    assert reply_commands.read(text).severity is None


def test_a_sev_3_of_ours_slows_it_down_and_stops_no_clock(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "sev 3")
    after = desk.incident(incident)
    assert (after.severity, after.severity_by, after.policy, after.state) == (3, "ana", "low", incident.state)
    assert after.sla_at > incident.sla_at
    answer = desk.sent("ana@example.com")[-1].text
    assert "Graded S3 (S1 is the worst) by Ana Reyes." in answer
    assert "did not stop the clock" in answer
    desk.wait(minutes=16)
    assert desk.pages("max") == []
    _iid, mark = desk.gitlab.marks[-1]
    assert (mark.level, mark.pattern, mark.is_field) == (3, "severity::{severity}", True)
    assert desk.store.read(lambda tx: tx.invariants.violations()) == {}


def test_a_sev_1_of_ours_calls_at_once_whom_its_policy_calls_by_now(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=2)
    desk.reply(desk.page("ana"), "ack, sev 1")
    after = desk.incident(incident)
    assert (after.severity, after.holder, after.policy) == (1, "ana", "fast")
    other = desk.panic(subject="another")
    desk.reply(desk.page("ana"), "sev 1")
    desk.wait(minutes=1)
    assert desk.incident(other).severity_by == "ana"
    assert desk.pages("max")


def test_the_same_word_twice_is_said_once(desk: Office) -> None:
    incident = desk.panic()
    desk.reply(desk.page("ana"), "sev 3")
    desk.reply(desk.page("ana"), "sev 3")
    assert desk.events(incident).count("severity.set") == 1


def test_a_label_of_ours_on_the_issue_is_our_word(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=1)
    desk.gitlab.happened[1] = IssueActivity(None, None, (), graded=GradedIssue(3, "ANA", desk.now))
    for _ in range(3):
        desk.wait(minutes=2)
        desk.signs.poll()
    after = desk.incident(incident)
    assert (after.severity, after.severity_by, after.policy) == (3, "ana", "low")
    assert desk.events(incident).count("severity.set") == 1


def test_a_label_of_a_stranger_is_none(desk: Office) -> None:
    incident = desk.panic()
    desk.gitlab.happened[1] = IssueActivity(None, None, (), graded=GradedIssue(4, "mallory", desk.now + MINUTE))
    desk.wait(minutes=3)
    desk.signs.poll()
    assert desk.incident(incident).severity is None


# -- what belongs elsewhere


def test_what_belongs_elsewhere_is_paged_and_receipt_page_and_issue_say_so(desk: Office) -> None:
    desk.panic("I did not click anything.", subject="Phishing mail")
    assert len(desk.pages("ana")) == 1
    told = "Forward phishing to phish@."
    assert told in desk.page("ana").text
    assert told in desk.sent("rita@example.com")[0].text
    assert "Forward phishing" in desk.gitlab.issues[0].description


# -- questions


def test_the_receipt_asks_and_the_answers_are_a_table_on_page_issue_and_link(desk: Office) -> None:
    incident = desk.panic()
    asked = desk.sent("rita@example.com")[0].text
    assert "1. What happened?" in asked
    assert "3. Did you click" in asked
    later(desk, "3) Yes, I entered it\n1. My files are gone\nall of them")
    desk.wait(minutes=6)
    page = desk.page("ana").text
    assert page.index("1. What happened?") < page.index("all of them") < page.index("3. Did you click")
    assert any("| 3 | " in text and "Yes, I entered it" in text for _, text, _ in desk.gitlab.notes)
    (line,) = [line for line in desk.lines(incident) if line.event == "thread.more"]
    assert line.facts["text"].startswith("3) Yes"), "their words are kept whole"
    assert desk.incident(incident).state == "open"


def test_a_rule_may_look_at_an_answer(desk: Office) -> None:
    rule = TriageRule(question=3, answer=(pattern("yes"),), severity=1)
    desk.settings = replace(desk.settings, rules=(rule,))
    incident = desk.panic()
    later(desk, "3. no")
    assert desk.incident(incident).severity is None
    later(desk, "3. Yes")
    assert desk.incident(incident).severity == 1


QUOTED = """> 1. What happened?
My files are gone.
All of them.
> 2. When did you see it
> first?
03:10
> 3. Did you click, enter or pay anything?
> Stay reachable; reply with your phone number if you can.
"""


@pytest.mark.parametrize(
    ("text", "newly", "answers"),
    [
        ("1. a\n2) b\n3: c", None, {1: "a", 2: "b", 3: "c"}),
        ("3. c\n1. a\nmore\n\n2. b", None, {3: "c", 1: "a\nmore", 2: "b"}),
        (QUOTED, "My files are gone.\nAll of them.\n03:10", {1: "My files are gone.\nAll of them.", 2: "03:10"}),
        ("1. a\n\nOn Monday panic wrote:\n> 1. What happened?\n> 2. When did you see it first?", "1. a", {1: "a"}),
        ("1. What happened?\nfire", None, {1: "fire"}),
        ("What happened? \nfire\n3. Did you click, enter or pay anything?\nno", None, {1: "fire", 3: "no"}),
        ("17. b\n4. d", None, {}),
        ("2 - b\n(3) c", None, {2: "b", 3: "c"}),
        ("At 3.10 it began", None, {}),
        ("", None, {}),
    ],
)
def test_answers_are_taken_apart_by_number(text: str, newly: str | None, answers: dict[int, str]) -> None:
    assert answers_in(text, text if newly is None else newly, QUESTIONS) == answers


@given(st.dictionaries(st.integers(1, 3), st.text(alphabet="abc xyz\u00e4", min_size=1, max_size=40), max_size=3))
def test_every_numbered_answer_comes_back(given_: dict[int, str]) -> None:
    wanted = {n: " ".join(a.split()) for n, a in given_.items() if a.strip()}
    text = "\n".join(f"{n}. {a}" for n, a in wanted.items())
    assert {n: " ".join(a.split()) for n, a in answers_in(text, text, QUESTIONS).items()} == wanted


# -- the configuration


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("severity = 1", "triage[0]: found nothing it looks at"),
        ('subject = ["x"]', "triage[0]: found nothing it does"),
        ('subject = ["a*b"]\nseverity = 1', "triage[0].subject[0]"),
        ('subject = ["x"]\nseverity = 9', "triage[0].severity: found 9, expected a severity from 1, the worst, to 4"),
        ('subject = ["x"]\npage = ["anna"]', 'triage[0].page[0]: found "anna", expected one of the people'),
        ('subject = ["x"]\npolicy = "lo"', "triage[0].policy"),
        ('question = 1\nanswer = ["x"]\nseverity = 1', "receipts.questions"),
        ('sbject = ["x"]\nseverity = 1', 'found an unknown key, expected "subject"'),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_followed_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, f"[[triage]]\n{text}\n")
    assert said in str(refused.value)


def test_rules_are_read_and_a_slower_policy_of_one_is_warned_of(tmp_path: Path) -> None:
    found = loaded(tmp_path, """
[policies.low]
addresses = ["panic+low@example.com"]
sla = "6h"
steps = [{ after = "0s", page = ["seoc"] }]
[[triage]]
topic = ["Phish"]
labels = ["phish"]
[[triage]]
subject = ["newsletter"]
policy = "low"
""")  # fmt: skip
    (warned,) = found.warnings
    assert warned.startswith("triage[1].policy: policies.low calls people later")
    known = runtime_settings.from_config(found, [("a", b"k" * 32)])
    assert [rule.topic for rule in known.rules] == [("phish",), ()]
    assert known.addresses.token_in("panic+phish@example.com") is None, "it is no token that does not verify"
