"""Bounces of pages, as mail servers write them."""

from __future__ import annotations


def bounce(action: str) -> bytes:
    return (
        "From: MAILER-DAEMON@mx.example.com\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nsorry\r\n--b\r\n"
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n"
        "Final-Recipient: rfc822; ana@example.com\r\n"
        f"Action: {action}\r\nStatus: {'5.1.1' if action == 'failed' else '4.4.1'}\r\n\r\n--b--\r\n"
    ).encode()
