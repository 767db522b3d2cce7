"""A mail that ends the daemon, every time, in each stage of its way: it is paged, and so are its neighbours."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from panicmail import crashpoints
from panicmail.incident import ids
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.rows import AcceptedMail
from panicmail.store.unit_of_work import Store
from tests.examples import IS_LONG
from tests.faults.fatal import FATAL, STAGES
from tests.office import PANIC, mail
from tests.program import World, world

#: Two deaths make a mail suspect, and a third may be by the last look at it.
LIVES = 6


def accepted(town: World, *subjects: str) -> list[str]:
    """Mails that got their 250 before the daemon went; their REFs."""
    database = Database(f"sqlite:///{town.database}")
    migrate.upgrade(database)
    refs = []
    with closing(Store(database)) as store:
        for subject in subjects:
            raw = mail(f"This is what {subject} says.", subject=subject)
            mail_id = ids.new_mail_id()
            store.write(
                "mails.accept",
                lambda tx, mail_id=mail_id, raw=raw: tx.mails.add(  # type: ignore[misc]
                    AcceptedMail(id=mail_id, accepted_at=tx.now, mail_from="rita@example.com", recipients=(PANIC,),
                         peer="127.0.0.1", helo="client", tls="", size=len(raw)), raw
                ),
            )  # fmt: skip
            refs.append(ids.ref(mail_id))
    database.close()
    return refs


def live_until_all_is_understood(town: World) -> int:
    """Start again after each death; how often it died."""
    for life in range(LIVES):
        program = town.spawn()
        town.until(
            lambda program=program: not program.is_running or not waiting(town),  # type: ignore[misc]
            60,
            "neither dead nor done",
        )
        if program.is_running:
            return life
        assert program.ended() == crashpoints.KILLED, program.tail()
    raise AssertionError(f"it died {LIVES} times{town.program.tail()}")


def waiting(town: World) -> int:
    ((count,),) = town.rows("SELECT count(*) FROM mails WHERE state = 'accepted'")
    return int(count)


@pytest.mark.parametrize("stage", STAGES if IS_LONG else ["deciding"])
def test_a_mail_that_ends_the_daemon_is_paged_and_so_are_its_neighbours(tmp_path: Path, stage: str) -> None:
    subjects = ["Ransom note", FATAL, "Lost laptop", "Odd login"]
    with world(tmp_path, expects=["intake.again"]) as town:
        town.module = "tests.faults.fatal"
        town.environ |= {"FATAL_AT": stage, "PYTHONPATH": str(Path(__file__).parents[2])}
        town.environ["PATH"] = os.environ["PATH"]
        refs = dict(zip(subjects, accepted(town, *subjects), strict=True))
        deaths = live_until_all_is_understood(town)
        assert deaths == (3 if stage == "octets" else 2)
        for subject, ref in refs.items():
            page = town.page("ana", ref)
            if subject != FATAL:
                assert f"This is what {subject} says." in page.text, "an innocent one is read in full"
        fatal = town.page("ana", refs[FATAL])
        assert "could not be read" in fatal.text
        assert (FATAL in fatal.subject) == (stage != "octets"), "what can be shown of it is shown"
        tries = dict(town.rows("SELECT id, attempts FROM mails"))
        assert sorted(tries.values())[-1] == deaths + 1
        assert sum(count > 2 for count in tries.values()) == 1, "no innocent one was suspected"
        town.until(lambda: len(town.issues(refs[FATAL])) == 1, 15, "no issue of the fatal one")
        after = town.panic("afterwards")
        town.page("ana", after)
