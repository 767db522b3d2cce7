"""The SMTP listener: wire limits, the table of replies, and the promise a 250 is."""
