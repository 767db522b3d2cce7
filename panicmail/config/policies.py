"""The escalation policies of a configuration, as the rules read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from panicmail.config.schema import EscalationSettings, PolicySettings, TriageSettings
from panicmail.incident.escalation_policy import DEFAULT, BusinessHours, EscalationPolicy, PolicyChoice, PolicyStep
from panicmail.incident.triage import TriageRule, pattern


def policies_of(escalation: EscalationSettings, named: Mapping[str, PolicySettings]) -> dict[str, EscalationPolicy]:
    """By name; the default one is `escalation`. What another one leaves out is never slower than there."""
    default = _policy(DEFAULT, escalation)
    return {DEFAULT: default, **{name: _named(name, given, default) for name, given in named.items()}}


def never_chosen(escalation: EscalationSettings, named: Mapping[str, PolicySettings]) -> Iterator[str]:
    """Of each slower policy that a report's words would have chosen: that they do not, and what to write."""
    known = policies_of(escalation, named)
    for name, given in named.items():
        slower = known[name].slower_than(known[DEFAULT])
        if not slower:
            continue
        why = f"calls people later than [escalation] ({slower}), and what a report says never does that"
        if given.subject:
            yield f"policies.{name}.subject: chooses nothing: this policy {why}; take the line out"
        if given.severity and given.severity_from == "anybody":
            shown = ", ".join(map(str, given.severity))
            yield (
                f"policies.{name}.severity: chosen by your own people alone: this policy {why}; write "
                f'severity_from = "people" beside severity = [{shown}], and tell reporters an address '
                f'(addresses = ["panic+{name}@…"])'
            )


def never_raised_to(
    escalation: EscalationSettings, named: Mapping[str, PolicySettings], rules: Sequence[TriageSettings]
) -> Iterator[str]:
    """Of each `[[triage]]` whose policy is slower than the default one: where it never counts."""
    known = policies_of(escalation, named)
    for number, rule in enumerate(rules):
        slower = known[rule.policy].slower_than(known[DEFAULT]) if rule.policy else ""
        if slower:
            yield (
                f"triage[{number}].policy: policies.{rule.policy} calls people later than [escalation] ({slower}), and "
                f"a rule never does that; name a faster one, or give the policy an address of its own"
            )


def triage_rules(given: Sequence[TriageSettings]) -> tuple[TriageRule, ...]:
    return tuple(
        TriageRule(
            subject=tuple(map(pattern, rule.subject)),
            body=tuple(map(pattern, rule.body)),
            sender=rule.sender,
            topic=rule.topic,
            question=rule.question,
            answer=tuple(map(pattern, rule.answer)),
            severity=rule.severity,
            labels=rule.labels,
            page=rule.page,
            policy=rule.policy,
        )
        for rule in given
    )


def _named(name: str, given: PolicySettings, default: EscalationPolicy) -> EscalationPolicy:
    policy, written_down = _policy(name, given), given.model_fields_set
    repeat = policy.repeat if "repeat" in written_down else min(policy.repeat, default.repeat)
    remind = policy.remind_after if "remind_after" in written_down else min(policy.remind_after, default.remind_after)
    return EscalationPolicy(
        sla=policy.sla, steps=policy.steps, repeat=repeat, remind_after=remind, name=name,
        choice=_choice(given), hours=_hours(given),
    )  # fmt: skip


def _policy(name: str, given: EscalationSettings) -> EscalationPolicy:
    return EscalationPolicy(
        sla=given.sla,
        steps=tuple(PolicyStep(step.after, step.page) for step in given.steps),
        repeat=given.repeat,
        remind_after=given.remind_after,
        name=name,
    )


def _choice(given: PolicySettings) -> PolicyChoice:
    return PolicyChoice(
        severities=given.severity,
        subjects=tuple(word.lower() for word in given.subject),
        addresses=given.addresses,
        drill=given.drill,
        is_for_people=given.severity_from == "people",
    )


def _hours(given: PolicySettings) -> BusinessHours | None:
    if given.hours is None:
        return None
    hours = given.hours
    midnight = datetime.min.replace(tzinfo=UTC)
    opens, closes = (midnight + hours.from_).time(), (midnight + hours.to).time()
    return BusinessHours(hours.days, opens, closes, ZoneInfo(hours.tz))
