"""What a daemon says when it could not write, and calendars for it."""

from __future__ import annotations

#: What a daemon says when the disk or the lock does not let it write.
NOT_WRITTEN = (
    "store.write_failed", "mail.not_accepted", "smtp.failed", "worker.failed", "dispatch.failed", "escalation.failed"
)  # fmt: skip


def calendar(person: str) -> str:
    """Somebody on call for these years."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//tests//EN"]
    lines += ["BEGIN:VEVENT", "UID:1", "DTSTAMP:20260101T000000Z"]
    lines += ["DTSTART:20250101T000000Z", "DTEND:20400101T000000Z", f"SUMMARY:{person}", "END:VEVENT", "END:VCALENDAR"]
    return "\r\n".join([*lines, ""])
