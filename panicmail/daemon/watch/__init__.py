"""A second pair of eyes: asks one question beside the daemon, and pages by a way of its own.

    Is there an open incident past its SLA without a confirmed page to a manager?

The policy's last line is code that runs; this is for when it does not. `panicmail watch` is a process of its own, with
PostgreSQL on another host. It reads the database and never writes to it, so that nothing it does can be what broke.

    unreached      somebody waits and no manager was reached: `[watch] push` and a mail to the managers on call
    blind          for two minutes the question could not be asked: the same ways, and a mail to the operators
    sees again     by push alone, after a blind page

A page is confirmed when the relay or provider accepted it and nothing since says that it did not arrive. Each is sent
again every `[escalation] repeat` while it holds, and soon when no way took it; incidents that are due within half a
minute share a page, so a flood is not a flood of pages. What was paged is remembered in this process: one that is
started anew pages anew.

A question that hangs counts as one that could not be asked. Each is asked over a connection of its own: one that was
kept would go on reading a SQLite file that was deleted.
"""

from panicmail.daemon.watch.monitor import WatchMonitor
from panicmail.daemon.watch.query import UnansweredPanic, question
from panicmail.daemon.watch.send import BLIND_AFTER, AlarmRepeat, AlarmSeen

__all__ = ["BLIND_AFTER", "AlarmRepeat", "AlarmSeen", "UnansweredPanic", "WatchMonitor", "question"]
