"""What our own people are told: what others did, what more came, and the answer to what they wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from panicmail.incident import State
from panicmail.mail import quoting
from panicmail.mail.answers import answered
from panicmail.mail.compose import Letter, headline, ours, theirs
from panicmail.mail.matter import Told, anew, clock_now, issue, rests_on, stopped, tap, writer
from panicmail.mail.phrases import Voice, are
from panicmail.mail.scene import Scene
from panicmail.mail.threads import answer_to, subject
from panicmail.mail.tokens import Addresses, Tokens
from panicmail.people import Person


def tell(scene: Scene, person: Person, tokens: Tokens, addresses: Addresses, *, key: str) -> Letter:
    """What `scene.facts` says to `person`. `key`: the outbox row's; a retry repeats its Message-ID."""
    voice = Voice.to(scene, person)
    told = _TELLERS.get(str(scene.facts.get("what")), _anything)(voice, scene)
    tag = f"[{scene.incident.ref}]"
    title = f"{tag} {told.subject}" if told.subject else subject(tag, scene)
    return answer_to(scene, person, tokens, addresses, key=key, subject=title[:120], lines=told.lines)


def _acked_by(voice: Voice, scene: Scene) -> Told:
    holder, before = str(scene.facts.get("holder", "")), scene.facts.get("before")
    name, at = voice.full(holder), voice.zoned(voice.said_at(scene.facts))
    taken = before == voice.reader
    first = f"{name} has taken it over from you, {at}." if taken else f"{name} has it since {at}."
    return Told(
        stopped(name),
        [
            headline(f"{first} You need do nothing."),
            *rests_on(scene),
            ours('Was this wrong? Reply "take".'),
            issue(scene.incident),
        ],
    )


def _resolved_by(voice: Voice, scene: Scene) -> Told:
    by, at = voice.full(str(scene.facts.get("by", ""))), voice.zoned(voice.said_at(scene.facts))
    return Told(
        f"Closed by {by}",
        [
            headline(f"{scene.incident.ref} was closed at {at} by {by}. You need do nothing."),
            *rests_on(scene),
            anew(scene),
            issue(scene.incident),
        ],
    )


def _issue_closed(voice: Voice, scene: Scene) -> Told:
    return Told(
        "Clock still running: the issue was closed",
        [
            headline(f'{voice.first(voice.reader)}: reply "ack"{voice.or_else()}.'),
            ours("Why: somebody who was not called closed the issue in GitLab. That does not stop the clock."),
            *tap(scene),
            issue(scene.incident),
        ],
    )


def _more(voice: Voice, scene: Scene) -> Told:
    incident = scene.incident
    ask = _answer_them(voice) if incident.state is State.ACKED else _still_ask(voice)
    text = quoting.report_lines(str(scene.facts.get("text") or ""))
    sender = writer(scene.facts.get("from_name"), scene.facts.get("from_address"))
    return Told(
        subject("", scene, "More on:").strip(),
        [
            headline(f"{voice.first(voice.reader)}: {ask}"),
            ours(f"There is more on {incident.ref}, by {sender}, {scene.house.verified_by}."),
            *([] if scene.facts.get("is_reporter") else [ours("The writer is not the reporter: take care.")]),
            ours(clock_now(voice)),
            *tap(scene),
            issue(incident),
            ours("They write (quoted, untrusted):" if text else "The message has no text."),
            *map(theirs, text),
        ],
    )


def _answer_them(voice: Voice) -> str:
    incident = voice.incident
    if incident.holder != voice.reader:
        return f"{voice.full(incident.holder or 'somebody')} has it, and has this message as well."
    if incident.answer_at is None:
        return "see what has come; you have it."
    managers = voice.managers()
    called = f", or {voice.team(managers)} {are(managers)} called" if managers else ""
    return f"answer with one line by {voice.zoned(incident.answer_at)}{called}."


def _still_ask(voice: Voice) -> str:
    return f'nobody has this. Reply "ack"{voice.or_else()}.'


def _anything(voice: Voice, scene: Scene) -> Told:
    """A kind of news this version has no words for: the state is true whatever it was."""
    return Told("", [headline(clock_now(voice)), issue(scene.incident)])


def _offer_failed(voice: Voice, scene: Scene) -> Told:
    name, why = voice.full(str(scene.facts.get("to", ""))), str(scene.facts.get("why", ""))
    return Told(
        f"Still yours: {name} does not have it",
        [
            headline(f"It is still yours: {name} does not take it."),
            ours(f"Why: {quoting.one_line(why, 120)}."),
            ours('Offer it to somebody else with "to" and a name, or reply "escalate".'),
            issue(scene.incident),
        ],
    )


_TELLERS: Mapping[str, Callable[[Voice, Scene], Told]] = {
    "acked_by": _acked_by,
    "resolved_by": _resolved_by,
    "issue_closed": _issue_closed,
    "more": _more,
    "offer_failed": _offer_failed,
    "answer": answered,
}
