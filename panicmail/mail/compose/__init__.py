"""Meaning to bytes: every mail panicmail writes, each ready for the relay. What they say is in mails.md."""

from panicmail.mail.compose.check_page import proven, test_page
from panicmail.mail.compose.digest_page import digest_page
from panicmail.mail.compose.message import ComposedMail
from panicmail.mail.compose.notices import tell
from panicmail.mail.compose.operator_alerts import listing, operators
from panicmail.mail.compose.page import page
from panicmail.mail.compose.reporter_notices import news, receipt

__all__ = [
    "ComposedMail",
    "digest_page",
    "listing",
    "news",
    "operators",
    "page",
    "proven",
    "receipt",
    "tell",
    "test_page",
]
