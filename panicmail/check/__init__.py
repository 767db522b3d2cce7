"""`panicmail check`: what the configuration comes to, row by row, and the mend for whatever is not as it should be.

    offline       the configuration and the files it names; nobody is asked
    online        every real thing tried, all at once; nothing is sent or created
    paging        a test page to one person by every way to them, which waits for the reply
    hearing       the daemon's part of it: what came back on a test page
    daily         the same looked at again while panicmail runs; the operators are told what stops working

    rows          what a row is
    asking        many questions at once, none waiting for another
    ways          the ways to a person, as proofs know them

One file for each thing that is tried: database, gitlab, relay, people, roster, clocks, certificates, listener, web,
outside.

Verdicts: *failed*, panicmail could not do its work like this; *warning*, it works, but somebody should look; *ok*.
Whatever is not ok says how to mend it. Every question has a time limit, and one that hangs costs its own row.
"""

from panicmail.check.offline_checks import Host
from panicmail.check.result import CheckVerdict, Group, Row

__all__ = ["CheckVerdict", "Group", "Host", "Row"]
