"""panicmail: a panic mailbox that owes its reporter a human."""

__version__ = "0.1.0"
