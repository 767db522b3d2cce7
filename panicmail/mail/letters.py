"""Meaning to bytes: every mail panicmail writes, each ready for the relay. What they say is in mails.md."""

from panicmail.mail.compose import Letter
from panicmail.mail.listing import listing
from panicmail.mail.operators import operators
from panicmail.mail.pages import page
from panicmail.mail.reporter import news, receipt
from panicmail.mail.telling import tell
from panicmail.mail.trials import proven, test_page

__all__ = ["Letter", "listing", "news", "operators", "page", "proven", "receipt", "tell", "test_page"]
