"""Emergency: calling people while the database is away, from what is in memory.

Nothing escalates without the database, so whoever can act is called at once, and told so:

* for a mail in the spool: everybody on call in the first and in the last step, once;
* for an incident that was open when the database was last asked: the people of each step whose time comes meanwhile,
  once each, told that its state is unknown;
* when not even the spool takes a mail: the operators and everybody on call, once an hour;
* for a file of the spool that is not what was written: the same people, once.

The database is away when calls to it fail or get no answer, not when there is much to do.

A short absence needs none of it: the spool is emptied by the next tick. What could not be handed to the relay is tried
again until it is, or the database is back. What is in the spool and was not called for survives a restart; the rest of
this is memory, and a restart without the database forgets it. `panicmail watch` is there for that.

Nobody is called for an answer to a page, a bounce of one, or a mail that goes round between panicmails: it is no panic.
"""

from panicmail.delivery.fallback.fallback_pager import FallbackPager, FallbackWatcher

__all__ = ["FallbackPager", "FallbackWatcher"]
