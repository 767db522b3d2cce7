"""The notes on an issue that are no words about its incident: the files, and the marker each note ends in. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from panicmail.gitlab import description
from panicmail.gitlab.escape import inline

#: Of a sender's text, in characters. GitLab takes 1,000,000 for the whole note.
TEXT_LIMIT = 100_000


def marker(incident_id: str, line_id: int) -> str:
    """What a note holds on its last line, once in the world."""
    return f"{description.marker(incident_id)}/{line_id}"


def files_marker(incident_id: str, mail_id: str) -> str:
    """What the note that links the files of a later mail holds on its last line."""
    return f"{description.marker(incident_id)}/{mail_id}"


def files_text(links: Sequence[tuple[str, str, str]], own_marker: str) -> str:
    """The uploaded files (name, url, SHA-256) as a note, for when the description has no place for them."""
    why = "The files of the mail. The description was edited, so they are here."
    return f"{why}\n\n{description.files(links)}\n\n`{own_marker}`"


def later_files_text(
    links: Sequence[tuple[str, str, str]], withheld: Sequence[str], accepted_at: datetime, own_marker: str
) -> str:
    """The uploaded files (name, url, SHA-256) of a mail that came later than the report.

    `withheld`: the names of those that were not uploaded, because whoever has them could act with a token of ours.
    """
    parts = [f"The files of the mail of {accepted_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC."]
    if links:
        parts.append(description.files(links))
    if withheld:
        names = ", ".join(inline(name) for name in withheld)
        parts.append(f"Not uploaded, because they hold an address or a link of panicmail's: {names}.")
    return "\n\n".join([*parts, f"`{own_marker}`"])
