"""Several escalation policies: which panic follows which, and what one for business hours waits for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from panicmail import config
from panicmail.errors import ConfigError
from panicmail.escalation.reconciler import gaps_in
from panicmail.incident import classify
from panicmail.incident.escalation_policy import DEFAULT, EscalationPolicy, PolicyChoice, PolicyStep
from panicmail.incident.model import Incident
from panicmail.oncall import runtime_settings
from panicmail.server.http.backend import LinkBackend
from panicmail.store.rows import TimelineRow
from panicmail.store.tables import timeline
from tests.cast import MINUTE, POLICY
from tests.examples import many
from tests.office import Office, mail, office_settings
from tests.policy_files import FAST, HOURS, LOW, loaded

PANIC, TO_LOW = ("panic@example.com",), ("panic+low@example.com",)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path, policies={DEFAULT: POLICY, "low": LOW})
    yield office
    office.close()


def low(desk: Office, subject: str = "[S3] odd mail") -> Incident:
    """A mail to the address of the slow policy."""
    desk.deliver(mail("All is a bit odd.", subject=subject), to=TO_LOW)
    return desk.incidents()[0]


@pytest.mark.parametrize(
    ("subject", "severity"),
    [
        ("S2: stolen laptop", 2),
        ("[S1] ransom", 1),
        ("Fire (sev 3)", 3),
        ("severity: 4, a question", 4),
        ("sev1", 1),
        ("S2", 2),
        ("Fwd: s2 - stolen laptop", 2),
        ("[S4] no: severity 1!", 1),
        ("S3 bucket is open", None),
        ("Customer data in a public S3 bucket", None),
        ("S3-compatible store is gone", None),
        ("Key of S3, sent around", None),
        ("The S30 is broken", None),
        ("IS2 is odd", None),
        ("Windows 3.1", None),
        ("S5", None),
    ],
)
def test_a_severity_is_read_only_where_it_stands_as_one(subject: str, severity: int | None) -> None:
    assert classify.severity_in(subject) == severity


def test_a_panic_without_a_severity_follows_the_default_policy(desk: Office) -> None:
    incident = desk.panic(subject="Ransom note")
    assert (incident.policy, incident.severity) == (DEFAULT, None)
    desk.wait(minutes=16)
    assert desk.pages("max")


def test_a_mail_to_the_low_address_on_a_sunday_night_breaches_six_hours_into_monday(desk: Office) -> None:
    incident = low(desk)
    assert (incident.policy, incident.severity) == ("low", 3)
    assert incident.sla_at == datetime(2026, 11, 23, 14, tzinfo=UTC)
    desk.wait(minutes=16)
    assert desk.pages("max") == []
    desk.now = incident.sla_at - MINUTE
    desk.wait(minutes=2)
    assert len(desk.pages("max")) == 1
    assert desk.incident(incident).breached_at is not None


def test_nobody_is_woken_by_a_policy_for_business_hours(desk: Office) -> None:
    opens_at = datetime(2026, 11, 23, 8, tzinfo=UTC)
    incident = low(desk)
    assert (desk.pages("ana"), incident.next_step_at) == ([], opens_at)
    assert len(desk.gitlab.issues) == 1
    receipt = desk.sent("rita@example.com")[0].text
    assert "the security engineer on call is called at Mon 08:00 UTC." in receipt
    assert "It cannot wait? Write anew to panic@example.com, with another subject" in receipt
    assert any("Nobody is called before" in text for _, text, _ in desk.gitlab.notes)
    desk.now = opens_at - MINUTE
    desk.wait(seconds=59)
    assert desk.pages("ana") == []
    assert desk.store.read(lambda tx: (gaps_in(tx, desk.settings.policies), tx.invariants.violations())) == ([], {})
    desk.wait(seconds=1)
    (page,) = desk.pages("ana")
    assert page.subject == f"[PANIC {incident.ref}] (S3) odd mail"
    assert 'Ana: reply "ack" by 14:00 UTC, or Max (SMOC) is called.' in page.text


def test_that_a_policy_waits_is_told_from_rows_of_before_too(desk: Office) -> None:
    incident = low(desk)
    (waits,) = [line for line in lines_of(desk, incident) if line.event == "policy.waits"]
    assert waits.facts == {"policy": "low", "until": "2026-11-23T08:00:00+00:00"}
    told = seen_by_ana(desk, incident)
    assert "Nobody is called before the opening hours of its policy." in told
    with desk.database.engine.begin() as connection:
        older = {"event": "ladder.waits", "facts": {"ladder": "low", "until": waits.facts["until"]}}
        connection.execute(timeline.update().where(timeline.c.id == waits.id).values(older))
    assert [line.event for line in lines_of(desk, incident) if line.id == waits.id] == ["ladder.waits"]
    assert seen_by_ana(desk, incident) == told


def lines_of(desk: Office, incident: Incident) -> list[TimelineRow]:
    return list(desk.store.read(lambda tx: tx.timeline.of_incident(incident.id)))


def seen_by_ana(desk: Office, incident: Incident) -> list[str]:
    """What the page behind Ana's link says has happened."""
    token = desk.settings.link(incident.id, "ana").rpartition("/")[2]
    page = LinkBackend(desk.links, None).read_link(token)  # type: ignore[arg-type]
    assert page is not None
    return [said for _, said in page.happened]


def test_within_its_hours_it_calls_at_once(desk: Office) -> None:
    desk.now = datetime(2026, 11, 23, 10, tzinfo=UTC)
    low(desk)
    assert len(desk.pages("ana")) == 1


def test_its_pages_say_its_own_times(desk: Office) -> None:
    desk.now = datetime(2026, 11, 20, 15, tzinfo=UTC)  # a Friday, an hour before it closes
    low(desk, subject="phishing again")
    assert "Mon 13:00" in desk.page("ana").text


def test_a_policy_a_reload_took_away_is_replaced_by_the_default_one(desk: Office) -> None:
    incident = low(desk, subject="phishing again")
    desk.settings = replace(desk.settings, policies={DEFAULT: POLICY})
    desk.now = incident.sla_at
    desk.wait(minutes=1)
    assert desk.pages("max")


def test_a_drill_follows_a_policy_for_drills_and_nothing_else_does(desk: Office) -> None:
    practice = replace(POLICY, name="practice", choice=PolicyChoice(drill=True, severities=(1,), subjects=("drill",)))
    urgent = replace(POLICY, name="urgent", sla=MINUTE, choice=PolicyChoice(severities=(1,)))
    settings = replace(desk.settings, policies={DEFAULT: POLICY, "practice": practice, "urgent": urgent})
    assert settings.policy_for(None, "drill", PANIC, drill=True).name == "practice"
    assert settings.policy_for(1, "drill", PANIC, drill=False).name == "urgent"
    without = replace(settings, policies={DEFAULT: POLICY, "urgent": urgent})
    assert without.policy_for(1, "", PANIC, drill=True).name == DEFAULT


def test_of_several_policies_that_a_mail_asks_for_it_follows_the_fastest(desk: Office) -> None:
    faster = replace(FAST, name="faster", sla=MINUTE, choice=PolicyChoice(subjects=("ransom",)))
    settings = replace(desk.settings, policies={DEFAULT: POLICY, "low": LOW, "fast": FAST, "faster": faster})
    assert settings.policy_for(4, "[S4] phishing for the CEO", PANIC, drill=False).name == "fast"
    assert settings.policy_for(1, "[S1] ransom", TO_LOW, drill=False).name == "faster"
    assert settings.policy_for(4, "[S4] phishing", PANIC, drill=False).name == DEFAULT
    assert settings.policy_for(1, "all is well", TO_LOW, drill=False).name == "fast"
    assert settings.policy_for(None, "all is well", TO_LOW, drill=False).name == "low"


def test_a_mail_that_went_to_the_panic_address_too_is_no_low_one(desk: Office) -> None:
    for to in ((*PANIC, *TO_LOW), (*TO_LOW, *PANIC), (*TO_LOW, "panic+a1b2@example.com")):
        assert desk.settings.policy_for(4, "phishing", to, drill=False).name == DEFAULT


@pytest.mark.parametrize("subject", ["[S4] odd mail", "severity: 4", "phishing again", "Fwd: [S3] newsletter", "S4"])
def test_a_subject_that_calls_itself_low_wakes_people_as_any(desk: Office, subject: str) -> None:
    incident = desk.panic(subject=subject)
    assert (incident.policy, len(desk.pages("ana"))) == (DEFAULT, 1)
    desk.wait(minutes=16)
    assert desk.pages("max")


SLOWER = {
    "its sla": replace(FAST, sla=16 * MINUTE),
    "its repeat": replace(FAST, repeat=6 * MINUTE),
    "its remind_after": replace(FAST, remind_after=21 * MINUTE),
    "call 2": replace(FAST, steps=(PolicyStep(timedelta(), ("seoc", "smoc")), PolicyStep(6 * MINUTE, ("smoc",)))),
    "its page of smoc": replace(FAST, steps=(PolicyStep(timedelta(), ("seoc",)),)),
    "its hours": replace(FAST, hours=HOURS),
}


@pytest.mark.parametrize("why", SLOWER)
def test_a_policy_that_is_slower_in_one_thing_is_chosen_by_no_words(desk: Office, why: str) -> None:
    """Sooner at first and later then is later."""
    settings = replace(desk.settings, policies={DEFAULT: POLICY, "fast": SLOWER[why]})
    assert SLOWER[why].slower_than(POLICY) == why
    assert settings.policy_for(1, "[S1] the CEO", PANIC, drill=False).name == DEFAULT


def test_whoever_would_have_been_called_at_once_is_called_beside_those_of_a_faster_policy(desk: Office) -> None:
    ours = replace(FAST, steps=(PolicyStep(timedelta(), ("smoc",)),))
    desk.settings = replace(desk.settings, policies={DEFAULT: POLICY, "fast": ours})
    incident = desk.panic(subject="[S1] ransom")
    assert (incident.policy, len(desk.pages("max")), len(desk.pages("ana"))) == ("fast", 1, 1)
    assert 'reply "ack"' in desk.page("ana").text
    desk.reply(desk.page("ana"), "ack")
    assert desk.incident(incident).holder == "ana"


ROLES = st.sets(st.sampled_from(["seoc", "smoc", "bo"]), min_size=1).map(lambda roles: tuple(sorted(roles)))
STEPS = st.tuples(ROLES, st.dictionaries(st.integers(1, 20), ROLES, max_size=3)).map(
    lambda made: (PolicyStep(timedelta(), made[0]), *(PolicyStep(n * MINUTE, made[1][n]) for n in sorted(made[1])))
)
MINUTES = st.integers(1, 20).map(lambda n: n * MINUTE)
POLICIES = st.builds(
    EscalationPolicy,
    sla=MINUTES,
    steps=STEPS,
    repeat=MINUTES,
    remind_after=MINUTES,
    hours=st.sampled_from([None, None, HOURS]),
    choice=st.builds(
        PolicyChoice,
        severities=st.sampled_from([(), (1,), (3, 4)]),
        subjects=st.sampled_from([(), ("phishing",), ("ceo",)]),
        addresses=st.sampled_from([(), TO_LOW]),
    ),
)


@given(
    POLICIES,
    st.lists(POLICIES, max_size=3),
    st.sampled_from(["", "[S1] ceo", "S4: phishing", "severity: 3", "sev 1 CEO phishing"]),
    st.lists(st.sampled_from([*PANIC, *TO_LOW]), min_size=1, max_size=2),
)
@run(max_examples=many(300))
def test_text_can_only_raise(
    default: EscalationPolicy, others: list[EscalationPolicy], subject: str, to: list[str]
) -> None:
    """Whatever a mail says of itself, each role is paged, and each call made, as soon as without that."""
    default = replace(default, hours=None, choice=PolicyChoice())
    named = {f"p{number}": replace(one, name=f"p{number}") for number, one in enumerate(others)}
    chosen = replace(office_settings(), policies={DEFAULT: default, **named})
    silent = chosen.policy_for(None, "", to, drill=False)
    said = chosen.policy_for(classify.severity_in(subject), subject, to, drill=False)
    assert (said.hours or silent.hours) == silent.hours
    assert said.sla <= silent.sla
    assert said.repeat <= silent.repeat
    assert said.remind_after <= silent.remind_after
    first = said.first_paged() | dict.fromkeys(said.besides(silent), timedelta())
    assert all(first[role] <= at for role, at in silent.first_paged().items())
    assert all(said.call_after(n) <= silent.call_after(n) for n in range(len(silent.steps)))


OLD = """
[policies.low]
severity = [3, 4]
subject = ["phishing"]
sla = "6h"
steps = [{ after = "0s", page = ["seoc"] }, { after = "6h", page = ["smoc"] }]
"""


def test_an_old_configuration_that_relies_on_a_slowing_subject_loads_with_the_line_to_change(tmp_path: Path) -> None:
    found = loaded(tmp_path, OLD)
    by_subject, by_severity = found.warnings
    assert by_subject.startswith("policies.low.subject: ")
    assert by_subject.endswith("take the line out")
    assert 'write severity_from = "people" beside severity = [3, 4]' in by_severity
    mended = OLD.replace('subject = ["phishing"]', 'severity_from = "people"')
    assert loaded(tmp_path, mended).warnings == ()
    known = runtime_settings.from_config(loaded(tmp_path, mended), [("a", b"k" * 32)])
    assert known.policy_for(3, "[S3]", PANIC, drill=False).name == DEFAULT


def test_what_a_faster_policy_leaves_out_makes_it_no_slower(tmp_path: Path) -> None:
    text = """
[escalation]
repeat = "1m"
remind_after = "10m"
[policies.fast]
subject = ["ceo"]
sla = "5m"
steps = [{ after = "0s", page = ["seoc", "smoc"] }]
"""
    found = loaded(tmp_path, text)
    assert found.warnings == ()
    known = runtime_settings.from_config(found, [("a", b"k" * 32)])
    fast = known.policy_for(None, "The CEO", PANIC, drill=False)
    assert (fast.name, fast.repeat, fast.remind_after) == ("fast", MINUTE, 10 * MINUTE)


def test_a_policy_is_chosen_by_its_own_address_too(tmp_path: Path) -> None:
    text = """
[policies.low]
sla = "6h"
steps = [{ after = "0s", page = ["seoc"] }, { after = "6h", page = ["smoc"] }]
hours = { days = "mon-fri", from = "09:00", to = "17:00", tz = "Europe/Berlin" }
addresses = ["panic+low@example.com"]
"""
    settings = runtime_settings.from_config(loaded(tmp_path, text), [("a", b"k" * 32)])
    low = settings.policy_for(None, "", ["Panic+Low@example.com"], drill=False)
    assert (low.name, low.sla, low.hours) == ("low", timedelta(hours=6), HOURS)
    assert settings.policy_for(None, "", ["panic@example.com"], drill=False) is settings.policy


def test_a_mail_to_an_address_that_chooses_a_policy_is_not_called_one_with_a_wrong_token(tmp_path: Path) -> None:
    steps = 'steps = [{ after = "0s", page = ["seoc"] }]'
    text = f'[policies.fast]\n{steps}\naddresses = ["panic+fast@example.com", "Urgent@example.com"]\n'
    settings = runtime_settings.from_config(loaded(tmp_path, text), [("a", b"k" * 32)])
    with contextlib.closing(Office(tmp_path, addresses=settings.addresses, policies=settings.policies)) as office:
        for address in ("panic+fast@example.com", "PANIC+Fast@example.com", "urgent@example.com"):
            assert settings.addresses.is_ours(address), "RCPT is accepted"
            office.deliver(mail("My files are .locked.", subject=address), to=[address])
            assert "token" not in office.page("ana").text
            assert office.incidents()[0].policy == "fast"
        office.deliver(mail("My files are .locked."), to=["panic+a1b2@example.com"])
        assert "came to an address with a token that does not verify" in office.page("ana").text


def test_nobody_is_paged_at_an_address_that_chooses_a_policy(tmp_path: Path) -> None:
    steps = 'steps = [{ after = "0s", page = ["seoc"] }]'
    text = f'[policies.fast]\n{steps}\naddresses = ["ana@example.com"]\n'
    with pytest.raises(ConfigError, match="mail to this one comes back to panicmail"):
        loaded(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('steps = [{ after = "0s", page = ["seoc"] }]', "found nothing that chooses it"),
        ("drill = true", "policies.low.steps"),
        ("drill = true\nsteps = []", "at least one step"),
        ('drill = true\nsteps = [{ after = "5m", page = ["seoc"] }]', "the first step is taken at once"),
        ('drill = true\nsteps = [{ after = "0s", page = ["nobody"] }]', "one of the roles"),
        ('severity = [5]\nsteps = [{ after = "0s", page = ["seoc"] }]', "a severity from 1, the worst, to 4"),
        (
            'drill=true\nsteps=[{after="0s",page=["seoc"]}]\nhours={days="mon-fri",from="17:00",to="09:00"}',
            "no open time",
        ),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, f"[policies.low]\n{text}\n")
    assert said in str(refused.value)


def test_the_default_policys_name_cannot_be_taken(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="default"):
        loaded(tmp_path, '[policies.default]\ndrill = true\nsteps = [{ after = "0s", page = ["seoc"] }]\n')


def test_the_handbooks_four_steps_are_an_example_that_works(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "deploy" / "handbook.example.toml"
    (tmp_path / "gitlab.token").write_text("t")
    (tmp_path / "gitlab.token").chmod(0o600)
    file = tmp_path / "panicmail.toml"
    file.write_text(example.read_text())
    settings = runtime_settings.from_config(config.load(file), [("a", b"k" * 32)])
    tuesday = datetime(2026, 11, 24, 10, tzinfo=UTC)
    who = settings.who_at(tuesday)
    called = [tuple(settings.policy.people(step.page, who)) for step in settings.policy.steps]
    assert called == [("ana",), ("ana", "bo"), ("max", "ana"), ("dia", "max", "ana")]
    assert settings.policy_for(4, "[S4] a question", ["panic@example.com"], drill=False).name == DEFAULT
    assert settings.policy_for(None, "a question", ["panic+low@example.com"], drill=False).name == "low"
    assert config.load(file).warnings == ()
    assert settings.policy.managers == ("director", "smoc")
