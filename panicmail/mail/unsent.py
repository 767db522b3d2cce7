"""What somebody wrote to the reporter and she did not get, all of it or the attachments: why, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from panicmail.incident import State
from panicmail.mail import quoting
from panicmail.mail.compose import headline, ours
from panicmail.mail.matter import Told, attached_in, clock_now, issue, tap
from panicmail.mail.phrases import Voice
from panicmail.mail.scene import Scene
from panicmail.states import Unsent


def unsent(voice: Voice, scene: Scene) -> Told:
    why, mend = _UNSENT.get(str(scene.facts.get("why")), _unsent_somehow)(voice, scene)
    return Told(
        "NOT SENT: what you wrote to the reporter",
        [
            headline(f"{voice.first(voice.reader)}: your words did not go to the reporter."),
            ours(f"Why: {why}."),
            ours(mend),
            ours("The text is kept as an internal note on the issue."),
            ours(clock_now(voice)),
            *(tap(scene) if scene.incident.state is State.OPEN else []),
            issue(scene.incident),
        ],
    )


def sent_without(voice: Voice, scene: Scene) -> Told:
    """The words went, what was attached did not."""
    return Told(
        "Sent to the reporter, without the attachment",
        [
            headline(f"{voice.first(voice.reader)}: your words went to the reporter, without what was attached."),
            ours("Files stay internal. Must the reporter have one, send it by your own mail."),
            ours(clock_now(voice)),
            issue(scene.incident),
            *attached_in(scene),
        ],
    )


def _write_to(scene: Scene) -> str:
    return f"write to {scene.conversation}" if scene.conversation else "write again"


def _detail(scene: Scene) -> str:
    return quoting.words(str(scene.facts.get("detail") or ""), 120)


def _not_yours(voice: Voice, scene: Scene) -> tuple[str, str]:
    holder = scene.incident.holder
    has = f"{voice.full(holder)} has it" if scene.incident.state is State.ACKED and holder else "nobody has it now"
    return f"only whoever has it writes to the reporter, and {has}", 'Reply "take" to this mail to have it.'


def _closed_before(voice: Voice, scene: Scene) -> tuple[str, str]:
    return f"it was closed at {voice.zoned(scene.incident.resolved_at)}", "Call her, or write to her by your own mail."


def _bare_command(voice: Voice, scene: Scene) -> tuple[str, str]:
    return (
        "it is a command, and no more; there it counts for nothing",
        f"Reply it to THIS mail and it counts. For the reporter, {_write_to(scene)} in a sentence.",
    )


def _stranger(voice: Voice, scene: Scene) -> tuple[str, str]:
    person = voice.house.people.get(voice.reader)
    own = person.email if person else "your own address"
    wrote = _detail(scene) or "an unclear sender"
    return (
        f"it came from {wrote}, which is not listed for you",
        f"Write from {own}. It was not you? Then somebody else knows the address it went to.",
    )


def _refused(voice: Voice, scene: Scene) -> tuple[str, str]:
    answer = _detail(scene)
    why = "the mail server of the reporter refused it" + (f" ({answer})" if answer else "")
    phone = next((p for p in map(quoting.phone, scene.report.phones) if p), "")
    return why, f"Call her; the number in her mail is {phone}." if phone else "Reach her some other way."


def _fixed(why: str, mend: str) -> Callable[[Voice, Scene], tuple[str, str]]:
    """The same words whoever reads them; `mend` may say where to write."""
    return lambda voice, scene: (why, mend.replace("WRITE", _write_to(scene)))


_unsent_somehow = _fixed("panicmail could not send it", "Call her, or write to her by your own mail.")
_UNSENT: Mapping[str, Callable[[Voice, Scene], tuple[str, str]]] = {
    Unsent.NOT_YOURS: _not_yours,
    Unsent.CLOSED: _closed_before,
    Unsent.COMMAND: _bare_command,
    Unsent.EMPTY: _fixed("nothing in it is newly written", "Please WRITE, in plain text above what you quote."),
    Unsent.LOSSY: _fixed("it could not be read in full", "Please WRITE, as plain text."),
    Unsent.STRANGER: _stranger,
    Unsent.OURS: _fixed(
        "it holds a piece of a mail of ours, or the address of a colleague", "Please WRITE, without what you quote."
    ),
    Unsent.LONG: _fixed("it is too long; she gets 4 KB and 150 lines at most", "Please WRITE, in fewer words."),
    Unsent.YOURSELF: _fixed("you are the reporter", "What you reply to this mail is a note on the issue."),
    Unsent.NO_ADDRESS: _fixed(
        "her report names no address at which somebody reads", "Call her, if the report has a number."
    ),
    Unsent.NOT_ALLOWED: _fixed(
        "panicmail may not write to her; [receipts] in the configuration says to whom it may",
        "Call her, or write to her by your own mail.",
    ),
    Unsent.BOTH: _fixed(
        "it went to your own address as well, and what goes there stays internal", "Please WRITE, and to nobody else."
    ),
    Unsent.ASTRAY: _fixed(
        "it went to the address the reporter has for her answers; others may know that one", "Please WRITE."
    ),
    Unsent.REFUSED: _refused,
}
