"""A checker in the manner of Jepsen: the real daemon under load and faults, and invariants over what was seen.

    make faults ARGS="--seconds 600 --seed 7 --database postgres --nodes 2"

    client      reporters, and the queue of a mail server in front of panicmail: every mail again until its 250
    people      those who are paged: they read their pages and answer some of them, by mail
    nemesis     kills, stops, locks, cuts and refuses, by a seed, and mends everything at the end
    history     who did or saw what, when: a line of JSON each
    record      the history with what was there at the end: rows, issues, mails
    invariants  what must hold over a record; pure, so that a history made by hand can break each of them

A seed fixes what is done, not how it interleaves: the same seed asks the same questions again, of a machine that is
never twice the same. What a run found is in its record, and `--judge FOLDER` judges that again.
"""
