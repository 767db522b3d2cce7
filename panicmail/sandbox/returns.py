"""Mail that comes back: a report of failed delivery (RFC 3464), and an absence (RFC 3834). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from email import policy
from email.message import Message
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, make_msgid, parseaddr
from typing import NamedTuple

from panicmail.sandbox.quick_actions import Received, Rule

DAEMON = "MAILER-DAEMON@sandbox.invalid"
_POLICY = policy.SMTP


class Return(NamedTuple):
    """A mail to be posted."""

    recipient: str
    raw: bytes


def returns(mail: Received, rule: Rule, now: datetime) -> list[Return]:
    """What the rule sends back for a mail: nothing to the null sender, one absence for each recipient it is about."""
    meant = [one for one in mail.recipients if rule.meets(one)] or list(mail.recipients)
    if rule.action == "bounce":
        return [Return(mail.mail_from, _bounce(mail, meant, rule.code, now))] if mail.mail_from else []
    to = (
        mail.mail_from if rule.target == "Return-Path" else parseaddr(mail.header("Reply-To") or mail.header("From"))[1]
    )
    return [Return(to, _absence(mail, who, to, now)) for who in meant] if to else []


def _bounce(mail: Received, failed: Sequence[str], code: int, now: datetime) -> bytes:
    """A code of 4xx makes it a delay: no failure yet."""
    action = "delayed" if code // 100 == 4 else "failed"
    report = MIMEMultipart("report", report_type="delivery-status", policy=_POLICY)
    _head(report, f"Mail Delivery System <{DAEMON}>", mail.mail_from, f"Delivery status: {action}", now)
    report["Auto-Submitted"] = "auto-replied"
    report.attach(MIMEText(f"Your message could not be delivered ({action}) to:\n\n" + "\n".join(failed) + "\n"))
    report.attach(_status(failed, action, code))
    report.attach(_original(mail))
    return _octets(report)


def _status(failed: Sequence[str], action: str, code: int) -> MIMEBase:
    about = Message()
    about["Reporting-MTA"] = "dns; sandbox.invalid"
    parts: list[Message | str] = [about]
    for who in failed:
        part = Message()
        part["Final-Recipient"] = f"rfc822; {who}"
        part["Action"] = action
        part["Status"] = f"{code // 100}.1.1"
        part["Diagnostic-Code"] = f"smtp; {code} {code // 100}.1.1 the sandbox was told to bounce"
        parts.append(part)
    status = MIMEBase("message", "delivery-status")
    status.set_payload(parts)
    return status


def _original(mail: Received) -> MIMEBase:
    """The head of the mail this is about."""
    head = mail.raw.partition(b"\r\n\r\n")[0].decode("ascii", "replace").replace("\r\n", "\n")
    original = MIMEBase("text", "rfc822-headers")
    original.set_payload(head.encode("ascii", "replace").decode() + "\n")
    return original


def _absence(mail: Received, who: str, to: str, now: datetime) -> bytes:
    answer = MIMEText("I am out of the office until Monday.\n", policy=_POLICY)
    _head(answer, who, to, f"Automatic reply: {mail.subject}", now)
    answer["Auto-Submitted"] = "auto-replied"
    if message_id := mail.header("Message-ID"):
        answer["In-Reply-To"] = answer["References"] = message_id
    return _octets(answer)


def _head(message: Message, sender: str, to: str, subject: str, now: datetime) -> None:
    message["From"], message["To"] = sender, to
    message["Subject"] = " ".join(subject.split())
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain="sandbox.invalid")


def _octets(message: Message) -> bytes:
    return message.as_bytes(policy=_POLICY)
