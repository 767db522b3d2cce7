"""What the wire hands to the rest of panicmail, and what it asks of it."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable

from panicmail.intake.accept import ReceivedMail

#: Makes a mail durable and answers its REF, or raises; until it resolves the client waits for its 250. It is called on
#: the event loop's thread and must return at once; the work belongs elsewhere.
Accept = Callable[[ReceivedMail], concurrent.futures.Future[str]]

#: Is this recipient ours? Asked on the event loop's thread with the lower-cased address, so it must not wait.
Known = Callable[[str], bool]
