"""Delivery: carries out the rows of the outbox.

Each lane (pages, phones, other mail, GitLab) has threads of its own, so a GitLab that hangs holds up no page. A row is
claimed with a lease and its attempt counted before anything is sent; what came of it is written only for that
attempt. An attempt without an answer comes back; a repeat is harmless, because everything sent carries a name that
stays the same: a page its Message-ID, an issue and a note their marker.

What cannot succeed is never deleted: a refused page makes its person unreachable, a refused issue is tried again
slowly, a refused file is parked; each is told to the operators.
"""

from panicmail.delivery.email_worker import EmailWorker
from panicmail.delivery.gitlab_worker import GitLabWorker
from panicmail.delivery.outbox_worker import OutboxWorker
from panicmail.delivery.push_worker import PushWorker

__all__ = ["EmailWorker", "GitLabWorker", "OutboxWorker", "PushWorker"]
