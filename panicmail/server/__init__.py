"""The two listeners: SMTP and HTTP."""
